//! Rows of the ways in: existing fleets, attributes of devices, claim tokens.

use crate::error::ReadError;
use crate::reader::{at, count, digest};
use crate::row::{name, optional_at};
use crate::store::Store;
use model::{
    AttributeId, AttributeValue, CertificateId, DeviceId, Digest, ManufacturerId, SerialNumber,
    Timestamp,
};
use rusqlite::{Row, params};

/// An existing fleet whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedFleet {
    pub fleet: ManufacturerId,
    /// The rule that names its devices, as text.
    pub naming: String,
    pub until: Timestamp,
    pub accept_expired: bool,
    /// CA certificates, DER.
    pub cas: Vec<Vec<u8>>,
    pub imported_at: Timestamp,
    pub retired_at: Option<Timestamp>,
}

/// A leaf that is believed for its fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedLeaf {
    pub fingerprint: Digest,
    pub device: DeviceId,
    /// It may be other devices' as well.
    pub shared: bool,
}

/// What an import says of a device besides its name: all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub device: DeviceId,
    pub attributes: Vec<(AttributeId, AttributeValue)>,
}

/// A token for one serial number, known by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimToken {
    pub manufacturer: ManufacturerId,
    pub serial: SerialNumber,
    pub hash: Digest,
    pub made_at: Timestamp,
    pub expires_at: Timestamp,
    pub used: Option<ClaimTokenUse>,
}

/// What a claim token was used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimTokenUse {
    pub at: Timestamp,
    /// SHA-256 of the public key that was certified.
    pub key: Digest,
    pub certificate: CertificateId,
}

impl Store {
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn imported_fleets(&self) -> Result<Vec<ImportedFleet>, ReadError> {
        let mut fleets = self.readers().page(
            "SELECT fleet, naming, until, accept_expired, imported_at, retired_at
             FROM imported_fleet WHERE tenant = ?1 ORDER BY fleet",
            params![self.tenant_text()],
            imported_fleet,
        )?;
        for fleet in &mut fleets {
            fleet.cas = self.readers().page(
                "SELECT ca FROM imported_ca WHERE tenant = ?1 AND fleet = ?2 ORDER BY ca",
                params![self.tenant_text(), fleet.fleet.as_str()],
                |row| Ok(row.get(0)?),
            )?;
        }
        Ok(fleets)
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_pinned_leaf(&self, mut each: impl FnMut(PinnedLeaf)) -> Result<u64, ReadError> {
        self.readers().for_each(
            "SELECT fingerprint, device, shared FROM pinned_leaf WHERE tenant = ?1
             ORDER BY fingerprint, device",
            params![self.tenant_text()],
            |row| {
                each(PinnedLeaf {
                    fingerprint: digest(row, 0, "pinned_leaf")?,
                    device: name(row, 1, "pinned_leaf")?,
                    shared: row.get(2)?,
                });
                Ok(())
            },
        )
    }

    /// Keys by which devices came to their first certificate of ours.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_shown_key(
        &self,
        mut each: impl FnMut(DeviceId, Digest),
    ) -> Result<u64, ReadError> {
        self.readers().for_each(
            "SELECT device, key FROM shown_key WHERE tenant = ?1 ORDER BY key",
            params![self.tenant_text()],
            |row| {
                each(name(row, 0, "shown_key")?, digest(row, 1, "shown_key")?);
                Ok(())
            },
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_described(&self, mut each: impl FnMut(Described)) -> Result<u64, ReadError> {
        const TABLE: &str = "device_attribute";
        let mut last: Option<Described> = None;
        let rows = self.readers().for_each(
            "SELECT device, attribute, value FROM device_attribute WHERE tenant = ?1
             ORDER BY device, attribute",
            params![self.tenant_text()],
            |row| {
                let device: DeviceId = name(row, 0, TABLE)?;
                let attribute = (name(row, 1, TABLE)?, name(row, 2, TABLE)?);
                match &mut last {
                    Some(described) if described.device == device => {
                        described.attributes.push(attribute);
                    }
                    _ => {
                        let next = Described {
                            device,
                            attributes: vec![attribute],
                        };
                        if let Some(whole) = last.replace(next) {
                            each(whole);
                        }
                    }
                }
                Ok(())
            },
        )?;
        if let Some(whole) = last {
            each(whole);
        }
        Ok(rows)
    }

    /// All tokens of a serial number; several manufacturers may have one.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn claim_tokens_of(&self, serial: &SerialNumber) -> Result<Vec<ClaimToken>, ReadError> {
        self.readers().page(
            &format!(
                "{CLAIM_TOKENS} WHERE tenant = ?1 AND serial = ?2 ORDER BY manufacturer LIMIT 16"
            ),
            params![self.tenant_text(), serial.as_str()],
            claim_token,
        )
    }

    /// A page of a manufacturer's tokens by serial number, after one.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn claim_tokens(
        &self,
        manufacturer: &ManufacturerId,
        after: Option<&SerialNumber>,
        limit: usize,
    ) -> Result<Vec<ClaimToken>, ReadError> {
        self.readers().page(
            &format!(
                "{CLAIM_TOKENS} WHERE tenant = ?1 AND manufacturer = ?2 AND serial > ?3
                 ORDER BY serial LIMIT ?4"
            ),
            params![
                self.tenant_text(),
                manufacturer.as_str(),
                after.map_or("", SerialNumber::as_str),
                count(limit)
            ],
            claim_token,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_claim_token(&self, mut each: impl FnMut(ClaimToken)) -> Result<u64, ReadError> {
        self.readers().for_each(
            &format!("{CLAIM_TOKENS} WHERE tenant = ?1 ORDER BY serial, manufacturer"),
            params![self.tenant_text()],
            |row| claim_token(row).map(&mut each),
        )
    }
}

const CLAIM_TOKENS: &str = "SELECT manufacturer, serial, hash, made_at, expires_at, used_at, \
     used_key, used_issuer, used_serial FROM claim_token";

fn imported_fleet(row: &Row<'_>) -> Result<ImportedFleet, ReadError> {
    Ok(ImportedFleet {
        fleet: name(row, 0, "imported_fleet")?,
        naming: row.get(1)?,
        until: at(row.get(2)?),
        accept_expired: row.get(3)?,
        cas: Vec::new(),
        imported_at: at(row.get(4)?),
        retired_at: optional_at(row, 5)?,
    })
}

fn claim_token(row: &Row<'_>) -> Result<ClaimToken, ReadError> {
    const TABLE: &str = "claim_token";
    let used = match optional_at(row, 5)? {
        None => None,
        Some(used_at) => {
            let serial: Vec<u8> = row.get(8)?;
            Some(ClaimTokenUse {
                at: used_at,
                key: digest(row, 6, TABLE)?,
                certificate: CertificateId::new(digest(row, 7, TABLE)?, &serial)
                    .ok_or_else(|| ReadError::row(TABLE, "no valid serial number"))?,
            })
        }
    };
    Ok(ClaimToken {
        manufacturer: name(row, 0, TABLE)?,
        serial: name(row, 1, TABLE)?,
        hash: digest(row, 2, TABLE)?,
        made_at: at(row.get(3)?),
        expires_at: at(row.get(4)?),
        used,
    })
}
