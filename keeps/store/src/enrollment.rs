//! Rows of the room `identity` that stand between a request and its certificate: what waits for a
//! person, and what was answered a moment ago.

use crate::error::ReadError;
use crate::identity::certificate_id;
use crate::reader::{at, digest};
use crate::row::{name, named, optional_at, optional_name};
use crate::store::Store;
use model::{CertificateId, Digest, ManufacturerId, ProductId, SerialNumber, Timestamp};
use rusqlite::types::ValueRef;
use rusqlite::{Row, params};
use std::net::IpAddr;

/// An enrollment that a person decides, or has decided. A device has one at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEnrollment {
    /// Names the request together with the certificate that was shown.
    pub id: Digest,
    pub manufacturer: ManufacturerId,
    pub serial: SerialNumber,
    /// The certificate that was shown.
    pub certificate: Option<CertificateId>,
    /// Or the chip.
    pub endorsement: Option<Digest>,
    pub product: Option<ProductId>,
    /// The public key asked for: its kind, and SHA-256 of its SubjectPublicKeyInfo. The kind is the
    /// room's word, up to 32 bytes.
    pub key_kind: String,
    pub key: Digest,
    /// The address that it asked from.
    pub asked_from: Option<IpAddr>,
    pub asked_at: Timestamp,
    pub expires_at: Timestamp,
    pub decision: Option<Decision>,
}

/// What a person decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub approved: bool,
    pub at: Timestamp,
    /// The actor, as the log names it.
    pub by: String,
}

/// The certificate that a request got: asked again soon, it gets the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollmentAnswer {
    /// As [`PendingEnrollment::id`].
    pub enrollment: Digest,
    pub certificate: CertificateId,
    pub expires_at: Timestamp,
}

impl Store {
    /// All that is there, expired or not, in the order of the key.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_pending_enrollment(
        &self,
        mut each: impl FnMut(PendingEnrollment),
    ) -> Result<u64, ReadError> {
        self.readers().for_each(
            "SELECT id, manufacturer, serial, issuer, certificate, product, key_kind, key,
             asked_at, expires_at, approved, decided_at, by_whom, endorsement, asked_from
             FROM pending_enrollment
             WHERE tenant = ?1 ORDER BY manufacturer, serial",
            params![self.tenant_text()],
            |row| pending(row).map(&mut each),
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn enrollment_answer(
        &self,
        enrollment: &Digest,
    ) -> Result<Option<EnrollmentAnswer>, ReadError> {
        self.readers().one(
            "SELECT issuer, certificate, expires_at FROM enrollment_answer
             WHERE tenant = ?1 AND enrollment = ?2",
            params![self.tenant_text(), enrollment.0],
            |row| {
                Ok(EnrollmentAnswer {
                    enrollment: *enrollment,
                    certificate: certificate_id(row, 0, "enrollment_answer")?,
                    expires_at: at(row.get(2)?),
                })
            },
        )
    }
}

fn pending(row: &Row<'_>) -> Result<PendingEnrollment, ReadError> {
    const TABLE: &str = "pending_enrollment";
    let approved: Option<bool> = row.get(10)?;
    let decision = match (approved, optional_at(row, 11)?) {
        (Some(approved), Some(at)) => Some(Decision {
            approved,
            at,
            by: row.get(12)?,
        }),
        (None, None) => None,
        _ => return Err(ReadError::row(TABLE, "half a decision")),
    };
    Ok(PendingEnrollment {
        id: digest(row, 0, TABLE)?,
        manufacturer: name(row, 1, TABLE)?,
        serial: name(row, 2, TABLE)?,
        certificate: match row.get_ref(3)? {
            ValueRef::Null => None,
            _ => Some(certificate_id(row, 3, TABLE)?),
        },
        endorsement: match row.get_ref(13)? {
            ValueRef::Null => None,
            _ => Some(digest(row, 13, TABLE)?),
        },
        product: optional_name(row, 5, TABLE)?,
        key_kind: named(row, 6, TABLE, |text| Some(text.to_owned()))?,
        key: digest(row, 7, TABLE)?,
        asked_from: optional_name(row, 14, TABLE)?,
        asked_at: at(row.get(8)?),
        expires_at: at(row.get(9)?),
        decision,
    })
}
