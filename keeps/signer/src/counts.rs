//! How many signatures each key has made for each purpose, kept over crashes.
//!
//! A number is taken before a signature is made. It is written at once, which survives the end of
//! this process, and not waited for; what is waited for, once in [`RESERVED`] signatures, is the
//! bound that they stay below. After a power cut the count is therefore known between two numbers,
//! after anything less exactly (`docs/decisions/0015-signatures-are-counted-before-they-are-made.md`).

use crate::{Purpose, SignerError};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(crate) const FILE: &str = "counts";

const MAGIC: &[u8; 24] = b"fleetward-counts-1\n\0\0\0\0\0";
const HEADER_BYTES: u64 = 64;
const SLOT_BYTES: usize = 64;
/// Keys and purposes of one plane are some dozens.
const SLOTS_MAX: usize = 4096;
/// Signatures between two waits for the disk.
const RESERVED: u64 = 256;
pub(crate) const IDENTIFIER_BYTES: usize = 20;

/// What is known of one key's signatures for one purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// RFC 7093 section 2, method 1: what certificates give as its subjectKeyIdentifier.
    pub key: Vec<u8>,
    pub purpose: Purpose,
    pub signed: u64,
    /// More than `signed` only after a power cut: nothing is known of what lies between.
    pub signed_max: u64,
}

#[derive(Debug)]
struct Slot {
    count: Count,
    /// On disk for sure.
    reserved: u64,
}

pub(crate) struct Counts {
    path: PathBuf,
    file: File,
    slots: Vec<Slot>,
    /// There was none: the folder is of a version that did not count.
    pub(crate) is_new: bool,
    /// A power cut came, and nobody has said yet what the log knows: the file still tells of it.
    in_doubt: bool,
}

impl Counts {
    pub(crate) fn open(dir: &Path) -> Result<Self, SignerError> {
        let path = dir.join(FILE);
        let is_new = !path.exists();
        let io = |source| SignerError::Io {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        let mut bytes = Vec::new();
        (&file)
            .take(HEADER_BYTES + (SLOTS_MAX * SLOT_BYTES) as u64)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        let unusable = || SignerError::Unusable {
            path: path.clone(),
            what: "is not a count of signatures",
        };
        let mut same_boot = true;
        let mut slots = Vec::new();
        if let Some((header, rest)) = bytes.split_at_checked(64) {
            same_boot = header.get(24..60) == Some(boot().as_slice());
            if !header.starts_with(MAGIC) {
                return Err(unusable());
            }
            // A slot that was cut off was never waited for.
            for slot in rest.chunks_exact(SLOT_BYTES) {
                slots.push(Slot::read(slot, same_boot).ok_or_else(unusable)?);
            }
        }
        let counts = Self {
            path: path.clone(),
            file,
            in_doubt: !same_boot,
            slots,
            is_new,
        };
        if same_boot {
            counts.write_all()?;
        }
        Ok(counts)
    }

    /// The next number of a key and purpose, which survives this process.
    pub(crate) fn take(&mut self, key: &[u8], purpose: Purpose) -> Result<(), SignerError> {
        let place = match self.place(key, purpose) {
            Some(place) => place,
            None if self.slots.len() < SLOTS_MAX => {
                self.slots.push(Slot {
                    count: Count {
                        key: key.to_vec(),
                        purpose,
                        signed: 0,
                        signed_max: 0,
                    },
                    reserved: 0,
                });
                self.slots.len().saturating_sub(1)
            }
            None => return Err(SignerError::Crypto { doing: "counting" }),
        };
        let Some(slot) = self.slots.get_mut(place) else {
            return Err(SignerError::Crypto { doing: "counting" });
        };
        let next = slot.count.signed.saturating_add(1);
        let reserves = next > slot.reserved;
        let reserved = if reserves {
            next.saturating_add(RESERVED - 1)
        } else {
            slot.reserved
        };
        let bytes = Slot::bytes(key, purpose, next, reserved);
        self.write(offset(place), &bytes)?;
        if reserves {
            self.sync()?;
        }
        if let Some(slot) = self.slots.get_mut(place) {
            slot.count.signed = next;
            slot.count.signed_max = slot.count.signed_max.max(next);
            slot.reserved = reserved;
        }
        Ok(())
    }

    pub(crate) fn all(&self) -> Vec<Count> {
        self.slots.iter().map(|slot| slot.count.clone()).collect()
    }

    /// Takes what the log knows as what was signed: what differed has been told there.
    pub(crate) fn settle(
        &mut self,
        key: &[u8],
        purpose: Purpose,
        signed: u64,
    ) -> Result<(), SignerError> {
        if self.place(key, purpose).is_none() {
            if signed == 0 {
                return Ok(());
            }
            self.take(key, purpose)?;
        }
        let Some(place) = self.place(key, purpose) else {
            return Ok(());
        };
        if let Some(slot) = self.slots.get_mut(place) {
            slot.count.signed = signed;
            slot.count.signed_max = signed;
            slot.reserved = signed;
        }
        self.write(offset(place), &Slot::bytes(key, purpose, signed, signed))?;
        self.sync()
    }

    /// What is in doubt after a power cut has been told in the log: from here on this run counts.
    pub(crate) fn settle_all(&mut self) -> Result<(), SignerError> {
        for slot in &mut self.slots {
            slot.count.signed = slot.count.signed_max;
        }
        self.write_all()?;
        self.in_doubt = false;
        Ok(())
    }

    /// On disk as it stands, with nothing reserved: a later power cut leaves nothing in doubt.
    fn write_all(&self) -> Result<(), SignerError> {
        self.write(0, &[MAGIC.as_slice(), &boot(), &[0; 4]].concat())?;
        for (place, slot) in self.slots.iter().enumerate() {
            let Count {
                key,
                purpose,
                signed,
                ..
            } = &slot.count;
            self.write(offset(place), &Slot::bytes(key, *purpose, *signed, *signed))?;
        }
        self.sync()
    }

    fn place(&self, key: &[u8], purpose: Purpose) -> Option<usize> {
        (self.slots.iter()).position(|slot| slot.count.purpose == purpose && slot.count.key == key)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), SignerError> {
        self.file
            .write_all_at(bytes, at)
            .map_err(|source| self.io(source))
    }

    fn sync(&self) -> Result<(), SignerError> {
        self.file.sync_data().map_err(|source| self.io(source))
    }

    fn io(&self, source: std::io::Error) -> SignerError {
        SignerError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for Counts {
    /// An orderly stop leaves nothing reserved. If it fails, the next start knows less.
    fn drop(&mut self) {
        if !self.in_doubt {
            let _ = self.write_all();
        }
    }
}

impl Slot {
    fn bytes(key: &[u8], purpose: Purpose, signed: u64, reserved: u64) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        let parts = (key.iter().copied().take(IDENTIFIER_BYTES))
            .chain([purpose.code()])
            .chain([0; 11])
            .chain(signed.to_be_bytes())
            .chain(reserved.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(parts) {
            *to = from;
        }
        bytes
    }

    fn read(bytes: &[u8], same_boot: bool) -> Option<Self> {
        let number = |from: usize| -> Option<u64> {
            let bytes = bytes.get(from..from.checked_add(8)?)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        let (signed, reserved) = (number(32)?, number(40)?);
        Some(Self {
            count: Count {
                key: bytes.get(..IDENTIFIER_BYTES)?.to_vec(),
                purpose: Purpose::from_code(*bytes.get(IDENTIFIER_BYTES)?)?,
                signed,
                signed_max: if same_boot {
                    signed
                } else {
                    reserved.max(signed)
                },
            },
            reserved,
        })
    }
}

fn offset(place: usize) -> u64 {
    HEADER_BYTES.saturating_add(place.saturating_mul(SLOT_BYTES) as u64)
}

/// Names this run of the machine; another one means that what was not waited for may be lost.
fn boot() -> [u8; 36] {
    let mut boot = [b'?'; 36];
    let text = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    for (to, from) in boot.iter_mut().zip(text) {
        *to = from;
    }
    boot
}
