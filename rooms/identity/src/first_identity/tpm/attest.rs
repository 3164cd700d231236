//! What a TPM says of itself and signs (TPM 2.0 part 2, sections 10.12 and 11.3).

use super::public::{ECDSA, KeyName, NAME_BYTES, RSASSA, SHA256, coordinate};
use super::wire::Reader;
use super::{STRUCTURE_BYTES_MAX, TpmRefusal, malformed};
use model::Digest;

/// TPM_GENERATED_VALUE: a restricted key signs it only if the TPM itself wrote what follows.
const MAGIC: u32 = 0xff54_4347;
const CERTIFY: u16 = 0x8017;
const QUOTE: u16 = 0x8018;
const CREATION: u16 = 0x801a;

/// The largest signature: RSA-4096.
const SIGNATURE_BYTES_MAX: usize = 512;
/// Platform configuration registers of a PC client.
pub(crate) const PCRS: usize = 24;

/// A TPMS_ATTEST. Whether it is signed is asked of the attestation key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    extra: Vec<u8>,
    resets: u32,
    restarts: u32,
    firmware: u64,
    attested: Attested,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attested {
    /// TPM2_Certify: a key of this name is loaded.
    Certified { name: KeyName },
    /// TPM2_CertifyCreation: a key of this name was made in this TPM.
    Created { name: KeyName },
    /// TPM2_Quote: the chosen registers of the SHA-256 bank, digested together.
    Quoted { pcrs: Vec<u8>, digest: Digest },
}

impl Statement {
    /// # Errors
    /// [`TpmRefusal::Malformed`]: not a statement of one of these kinds, or bytes after it.
    pub fn read(bytes: &[u8]) -> Result<Self, TpmRefusal> {
        const WHAT: &str = "statement";
        if bytes.len() > STRUCTURE_BYTES_MAX {
            return Err(malformed(WHAT));
        }
        let mut reader = Reader::new(bytes, WHAT);
        if reader.u32()? != MAGIC {
            return Err(malformed("statement: not made by a TPM"));
        }
        let kind = reader.u16()?;
        let _signer = reader.sized(68)?;
        let extra = reader.sized(64)?.to_vec();
        let _clock = reader.u64()?;
        let resets = reader.u32()?;
        let restarts = reader.u32()?;
        let _safe = reader.u8()?;
        let firmware = reader.u64()?;
        let attested = match kind {
            CERTIFY => {
                let name = name(&mut reader)?;
                let _qualified_name = reader.sized(68)?;
                Attested::Certified { name }
            }
            CREATION => {
                let name = name(&mut reader)?;
                let _creation_hash = reader.sized(64)?;
                Attested::Created { name }
            }
            QUOTE => Attested::Quoted {
                pcrs: selection(&mut reader)?,
                digest: Digest(
                    (reader.sized(64)?.try_into())
                        .map_err(|_| malformed("statement: its digest is not SHA-256"))?,
                ),
            },
            _ => return Err(malformed("statement: of a kind that is not taken")),
        };
        reader.finish()?;
        Ok(Self {
            extra,
            resets,
            restarts,
            firmware,
            attested,
        })
    }

    /// The qualifying data: what whoever asked wants to find again.
    #[must_use]
    pub fn extra(&self) -> &[u8] {
        &self.extra
    }

    #[must_use]
    pub fn attested(&self) -> &Attested {
        &self.attested
    }

    /// Version of the TPM's own firmware, in its vendor's form.
    #[must_use]
    pub fn firmware(&self) -> u64 {
        self.firmware
    }

    /// How often the machine was reset, and restarted since then.
    #[must_use]
    pub fn boots(&self) -> (u32, u32) {
        (self.resets, self.restarts)
    }
}

fn name(reader: &mut Reader<'_>) -> Result<KeyName, TpmRefusal> {
    let bytes: [u8; NAME_BYTES] = (reader.sized(68)?.try_into())
        .map_err(|_| malformed("statement: a name that is not by SHA-256"))?;
    if bytes.starts_with(&SHA256.to_be_bytes()) {
        Ok(KeyName(bytes))
    } else {
        Err(malformed("statement: a name that is not by SHA-256"))
    }
}

/// TPML_PCR_SELECTION: one choice of the SHA-256 bank, in rising order. A second bank would be
/// digested with it, and nothing is known of that one.
fn selection(reader: &mut Reader<'_>) -> Result<Vec<u8>, TpmRefusal> {
    let one_bank = malformed("statement: a quote is of the SHA-256 bank alone");
    if reader.u32()? != 1 || reader.u16()? != SHA256 {
        return Err(one_bank);
    }
    let length = usize::from(reader.u8()?);
    if length > PCRS / 8 {
        return Err(reader.fault());
    }
    let bits = reader.take(length)?;
    let mut pcrs = Vec::new();
    for (first, byte) in (0u8..).step_by(8).zip(bits) {
        pcrs.extend(
            (0..8)
                .filter(|bit| byte >> bit & 1 == 1)
                .map(|bit| first + bit),
        );
    }
    Ok(pcrs)
}

/// A TPMT_SIGNATURE by SHA-256, as verification takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    Rsassa(Vec<u8>),
    /// r and s, each of 32 bytes.
    Ecdsa(Vec<u8>),
}

impl Signature {
    /// # Errors
    /// [`TpmRefusal::Malformed`]: another algorithm, or bytes after it.
    pub fn read(bytes: &[u8]) -> Result<Self, TpmRefusal> {
        const WHAT: &str = "signature";
        if bytes.len() > STRUCTURE_BYTES_MAX {
            return Err(malformed(WHAT));
        }
        let mut reader = Reader::new(bytes, WHAT);
        let algorithm = reader.u16()?;
        if reader.u16()? != SHA256 {
            return Err(malformed("signature: not by SHA-256"));
        }
        let signature = match algorithm {
            RSASSA => Self::Rsassa(reader.sized(SIGNATURE_BYTES_MAX)?.to_vec()),
            ECDSA => {
                let mut both = coordinate(&mut reader)?.to_vec();
                both.extend(coordinate(&mut reader)?);
                Self::Ecdsa(both)
            }
            _ => return Err(malformed("signature: neither RSASSA nor ECDSA")),
        };
        reader.finish()?;
        Ok(signature)
    }
}
