//! What the device runs: its version, and the SHA-256 of its file, read a piece at a time.

use aws_lc_rs::digest::{Context, SHA256};
use detection::report::Firmware;
use rustix::fs::OFlags;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// Hashed in one step: small enough that the session does not wait for it.
const STEP_BYTES: usize = 1024 * 1024;
/// The file is hashed again after so many reports, though it looks the same: its times can be
/// set back by whoever changes it.
const REPORTS_MAX: u32 = 30;

pub struct Gauge {
    version: Option<String>,
    file: Option<PathBuf>,
    /// Of the file as it was last hashed whole.
    known: Option<(Looks, String)>,
    reports: u32,
    hashing: Option<Hashing>,
    trouble: Option<String>,
}

/// What shows a change without reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Looks {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

struct Hashing {
    file: File,
    looks: Looks,
    context: Context,
}

impl Gauge {
    pub fn new(version: Option<String>, file: Option<PathBuf>) -> Self {
        Self {
            version,
            file,
            known: None,
            reports: 0,
            hashing: None,
            trouble: None,
        }
    }

    /// What is known now, and what is not. Begins to hash again if the file looks otherwise.
    pub fn read(&mut self, unseen: &mut Vec<String>) -> Option<Firmware> {
        self.look();
        self.reports = self.reports.saturating_add(1);
        if let Some(trouble) = &self.trouble {
            unseen.push(format!("firmware: {trouble}"));
        } else if self.file.is_none() {
            unseen.push("firmware: no firmware_file is configured".to_owned());
        } else if self.known.is_none() {
            unseen.push("firmware: its file is still being hashed".to_owned());
        }
        let version = self.version.clone()?;
        Some(Firmware {
            version,
            sha256: self.known.as_ref().map(|(_, digest)| digest.clone()),
        })
    }

    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// True if there is more to hash.
    pub fn is_busy(&self) -> bool {
        self.hashing.is_some()
    }

    /// Hashes the next piece.
    pub fn step(&mut self) {
        let Some(hashing) = &mut self.hashing else {
            return;
        };
        let mut piece = vec![0; STEP_BYTES];
        match hashing.file.read(&mut piece) {
            Ok(0) => {
                let Some(done) = self.hashing.take() else {
                    return;
                };
                let still = done.file.metadata().map(|now| looks(&now)).ok();
                if still == Some(done.looks) {
                    let digest = done.context.finish();
                    let hex = digest
                        .as_ref()
                        .iter()
                        .map(|byte| format!("{byte:02x}"))
                        .collect();
                    self.known = Some((done.looks, hex));
                    self.reports = 0;
                }
                // Else it changed while it was read: the next report begins anew.
            }
            Ok(length) => hashing
                .context
                .update(piece.get(..length).unwrap_or_default()),
            Err(error) => {
                self.hashing = None;
                self.trouble = Some(format!("its file cannot be read ({})", error.kind()));
            }
        }
    }

    fn look(&mut self) {
        let Some(path) = &self.file else { return };
        // Not blocking: whoever swaps the file for a pipe must not stop the agent.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let opened = File::options().read(true).custom_flags(flags).open(path);
        let opened = opened.and_then(|file| {
            let metadata = file.metadata()?;
            Ok((file, metadata))
        });
        match opened {
            Ok((_, metadata)) if !metadata.is_file() => {
                self.trouble = Some("firmware_file is not a file".to_owned());
                self.known = None;
            }
            Ok((file, metadata)) => {
                self.trouble = None;
                let looks = looks(&metadata);
                let same = self
                    .known
                    .as_ref()
                    .is_some_and(|(known, _)| *known == looks);
                let under_way = self.hashing.as_ref().is_some_and(|h| h.looks == looks);
                if !under_way && (!same || self.reports >= REPORTS_MAX) {
                    self.hashing = Some(Hashing {
                        file,
                        looks,
                        context: Context::new(&SHA256),
                    });
                }
                if !same {
                    // The old digest is no longer true of the file.
                    self.known = None;
                }
            }
            Err(error) => {
                self.trouble = Some(format!("its file cannot be opened ({})", error.kind()));
                self.known = None;
            }
        }
    }
}

fn looks(metadata: &Metadata) -> Looks {
    Looks {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(gauge: &mut Gauge) -> Option<String> {
        gauge.read(&mut Vec::new());
        while gauge.is_busy() {
            gauge.step();
        }
        gauge.read(&mut Vec::new())?.sha256
    }

    #[test]
    fn a_swapped_file_is_seen_though_its_time_is_set_back() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("firmware");
        std::fs::write(&path, b"abc").unwrap();
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        let mut gauge = Gauge::new(Some("1.0".to_owned()), Some(path.clone()));
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(whole(&mut gauge).as_deref(), Some(abc));
        std::fs::write(&path, b"abd").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(time).unwrap();
        let swapped = whole(&mut gauge).unwrap();
        assert_ne!(swapped, abc);
    }

    #[test]
    fn it_is_hashed_again_though_it_looks_the_same() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("firmware");
        std::fs::write(&path, vec![7; STEP_BYTES + 1]).unwrap();
        let mut gauge = Gauge::new(Some("1.0".to_owned()), Some(path));
        let digest = whole(&mut gauge).unwrap();
        let again = (0..=REPORTS_MAX).any(|_| {
            gauge.read(&mut Vec::new());
            gauge.is_busy()
        });
        assert!(again);
        // Until that is done, the last digest stands.
        assert_eq!(gauge.read(&mut Vec::new()).unwrap().sha256, Some(digest));
    }

    #[test]
    fn what_is_missing_is_said() {
        for (file, said) in [
            (None, "no firmware_file"),
            (Some("/nonexistent/firmware".into()), "cannot be opened"),
            (Some("/proc".into()), "not a file"),
        ] {
            let mut unseen = Vec::new();
            Gauge::new(Some("1".to_owned()), file).read(&mut unseen);
            assert!(unseen[0].contains(said), "{unseen:?}");
        }
    }
}
