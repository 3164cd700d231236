//! Rows of the room `identity`: TPMs that are expected, the keys they hold, what they attested.

use crate::error::ReadError;
use crate::reader::{at, count, digest};
use crate::row::{name, named};
use crate::store::Store;
use model::{DeviceId, Digest, ManufacturerId, SerialNumber, Timestamp};
use rusqlite::types::ValueRef;
use rusqlite::{Row, params};

/// A TPM's endorsement key, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsementKey {
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub endorsement: Digest,
    pub manufacturer: ManufacturerId,
    pub serial: SerialNumber,
}

/// A CA of a TPM vendor: chips in this manufacturer's devices must lead to one of its CAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmVendor {
    pub manufacturer: ManufacturerId,
    /// DER.
    pub ca: Vec<u8>,
    pub added_at: Timestamp,
}

/// The key that a device's chip was shown to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldKey {
    pub device: DeviceId,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key: Digest,
    pub endorsement: Digest,
    /// TPM2B_PUBLIC of the key that signs what the chip says.
    pub attestation_key: Vec<u8>,
    pub held_since: Timestamp,
}

/// What became of a device's latest evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationResult {
    pub device: DeviceId,
    pub status: AttestationStatus,
    /// In our words.
    pub why: String,
    pub appraised_at: Timestamp,
    /// An affirming one counts until then; the other one until a better comes.
    pub ends_at: Timestamp,
    /// The certificate's key that signed a token; `None`: a chip's quote.
    pub by_key: Option<Digest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttestationStatus {
    Affirming,
    Contraindicated,
}

impl AttestationStatus {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Affirming => "affirming",
            Self::Contraindicated => "contraindicated",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Affirming, Self::Contraindicated]
            .into_iter()
            .find(|one| one.name() == name)
    }
}

const HELD_KEYS: &str =
    "SELECT device, key, endorsement, attestation_key, held_since FROM held_key";
const RESULTS: &str =
    "SELECT device, status, why, appraised_at, ends_at, by_key FROM attestation_result";

impl Store {
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_endorsement_key(
        &self,
        mut each: impl FnMut(EndorsementKey),
    ) -> Result<u64, ReadError> {
        const TABLE: &str = "endorsement_key";
        self.readers().for_each(
            "SELECT endorsement, manufacturer, serial FROM endorsement_key WHERE tenant = ?1
             ORDER BY endorsement",
            params![self.tenant_text()],
            |row| {
                each(EndorsementKey {
                    endorsement: digest(row, 0, TABLE)?,
                    manufacturer: name(row, 1, TABLE)?,
                    serial: name(row, 2, TABLE)?,
                });
                Ok(())
            },
        )
    }

    /// A page of TPMs that are expected, by the digest of their key, after one.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn endorsement_keys(
        &self,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<EndorsementKey>, ReadError> {
        const TABLE: &str = "endorsement_key";
        self.readers().page(
            "SELECT endorsement, manufacturer, serial FROM endorsement_key
             WHERE tenant = ?1 AND endorsement > ?2 ORDER BY endorsement LIMIT ?3",
            params![
                self.tenant_text(),
                after.map_or(&[][..], |digest| &digest.0),
                count(limit)
            ],
            |row| {
                Ok(EndorsementKey {
                    endorsement: digest(row, 0, TABLE)?,
                    manufacturer: name(row, 1, TABLE)?,
                    serial: name(row, 2, TABLE)?,
                })
            },
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_tpm_vendor(&self, mut each: impl FnMut(TpmVendor)) -> Result<u64, ReadError> {
        self.readers().for_each(
            "SELECT manufacturer, ca, added_at FROM tpm_vendor WHERE tenant = ?1
             ORDER BY manufacturer, added_at, ca",
            params![self.tenant_text()],
            |row| {
                each(TpmVendor {
                    manufacturer: name(row, 0, "tpm_vendor")?,
                    ca: row.get(1)?,
                    added_at: at(row.get(2)?),
                });
                Ok(())
            },
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_held_key(&self, mut each: impl FnMut(HeldKey)) -> Result<u64, ReadError> {
        self.readers().for_each(
            &format!("{HELD_KEYS} WHERE tenant = ?1 ORDER BY device"),
            params![self.tenant_text()],
            |row| held_key(row).map(&mut each),
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn held_key(&self, device: &DeviceId) -> Result<Option<HeldKey>, ReadError> {
        self.readers().one(
            &format!("{HELD_KEYS} WHERE tenant = ?1 AND device = ?2"),
            params![self.tenant_text(), device.as_str()],
            held_key,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_attestation_result(
        &self,
        mut each: impl FnMut(AttestationResult),
    ) -> Result<u64, ReadError> {
        self.readers().for_each(
            &format!("{RESULTS} WHERE tenant = ?1 ORDER BY device"),
            params![self.tenant_text()],
            |row| result(row).map(&mut each),
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn attestation_result(
        &self,
        device: &DeviceId,
    ) -> Result<Option<AttestationResult>, ReadError> {
        self.readers().one(
            &format!("{RESULTS} WHERE tenant = ?1 AND device = ?2"),
            params![self.tenant_text(), device.as_str()],
            result,
        )
    }
}

fn held_key(row: &Row<'_>) -> Result<HeldKey, ReadError> {
    const TABLE: &str = "held_key";
    Ok(HeldKey {
        device: name(row, 0, TABLE)?,
        key: digest(row, 1, TABLE)?,
        endorsement: digest(row, 2, TABLE)?,
        attestation_key: row.get(3)?,
        held_since: at(row.get(4)?),
    })
}

fn result(row: &Row<'_>) -> Result<AttestationResult, ReadError> {
    const TABLE: &str = "attestation_result";
    Ok(AttestationResult {
        device: name(row, 0, TABLE)?,
        status: named(row, 1, TABLE, AttestationStatus::from_name)?,
        why: row.get(2)?,
        appraised_at: at(row.get(3)?),
        ends_at: at(row.get(4)?),
        by_key: match row.get_ref(5)? {
            ValueRef::Null => None,
            _ => Some(digest(row, 5, TABLE)?),
        },
    })
}
