//! Rows of claim certificates, and of certificates that wait for their owner.

use crate::error::ReadError;
use crate::reader::{at, digest};
use crate::row::{name, optional_at};
use crate::store::Store;
use model::{
    CertificateId, ClaimCertificateId, DeviceId, Digest, ManufacturerId, ProductId, Timestamp,
};
use rusqlite::{Row, params};

/// A certificate that a batch of devices shares to ask for their first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimCertificate {
    pub claim: ClaimCertificateId,
    /// DER.
    pub certificate: Vec<u8>,
    pub manufacturer: ManufacturerId,
    pub product: ProductId,
    pub template: String,
    /// Ranges, as text with spaces in between.
    pub addresses: String,
    pub devices_max: u32,
    /// Certificates that were made by it, owned or not; written by the store alone.
    pub made: u32,
    /// Devices that have one by it; written by the store alone.
    pub used: u32,
    pub added_at: Timestamp,
    pub expires_at: Timestamp,
    pub retired_at: Option<Timestamp>,
}

/// A certificate that is on hold until its owner shows the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The hash of the token.
    pub token: Digest,
    pub claim: ClaimCertificateId,
    pub device: DeviceId,
    pub certificate: CertificateId,
    pub expires_at: Timestamp,
    pub used_at: Option<Timestamp>,
}

const RESERVATIONS: &str =
    "SELECT token, claim, device, issuer, certificate, expires_at, used_at FROM reservation";

impl Store {
    /// In the order of their names.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn claim_certificates(&self) -> Result<Vec<ClaimCertificate>, ReadError> {
        self.readers().page(
            "SELECT claim, certificate, manufacturer, product, template, addresses, devices_max,
             made, used, added_at, expires_at, retired_at
             FROM claim_certificate WHERE tenant = ?1 ORDER BY claim",
            params![self.tenant_text()],
            claim_certificate,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn reservation(&self, token: &Digest) -> Result<Option<Reservation>, ReadError> {
        self.readers().one(
            &format!("{RESERVATIONS} WHERE tenant = ?1 AND token = ?2"),
            params![self.tenant_text(), token.0],
            reservation,
        )
    }

    /// Those that nobody owned in time, up to 1,000.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn lapsed_reservations(&self, now: Timestamp) -> Result<Vec<Reservation>, ReadError> {
        self.readers().page(
            &format!(
                "{RESERVATIONS} WHERE tenant = ?1 AND expires_at < ?2 AND used_at IS NULL
                 ORDER BY expires_at LIMIT 1000"
            ),
            params![
                self.tenant_text(),
                i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
            ],
            reservation,
        )
    }

    /// Those that nobody owns yet.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_reservation(
        &self,
        mut each: impl FnMut(Reservation),
    ) -> Result<u64, ReadError> {
        self.readers().for_each(
            &format!("{RESERVATIONS} WHERE tenant = ?1 AND used_at IS NULL ORDER BY token"),
            params![self.tenant_text()],
            |row| reservation(row).map(&mut each),
        )
    }
}

fn claim_certificate(row: &Row<'_>) -> Result<ClaimCertificate, ReadError> {
    const TABLE: &str = "claim_certificate";
    Ok(ClaimCertificate {
        claim: name(row, 0, TABLE)?,
        certificate: row.get(1)?,
        manufacturer: name(row, 2, TABLE)?,
        product: name(row, 3, TABLE)?,
        template: row.get(4)?,
        addresses: row.get(5)?,
        devices_max: row.get(6)?,
        made: row.get(7)?,
        used: row.get(8)?,
        added_at: at(row.get(9)?),
        expires_at: at(row.get(10)?),
        retired_at: optional_at(row, 11)?,
    })
}

fn reservation(row: &Row<'_>) -> Result<Reservation, ReadError> {
    const TABLE: &str = "reservation";
    let serial: Vec<u8> = row.get(4)?;
    Ok(Reservation {
        token: digest(row, 0, TABLE)?,
        claim: name(row, 1, TABLE)?,
        device: name(row, 2, TABLE)?,
        certificate: CertificateId::new(digest(row, 3, TABLE)?, &serial)
            .ok_or_else(|| ReadError::row(TABLE, "no valid serial number"))?,
        expires_at: at(row.get(5)?),
        used_at: optional_at(row, 6)?,
    })
}
