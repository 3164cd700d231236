//! What a change does to enrollments that wait and to answers that may be asked for again.

use super::Writer;
use super::apply::{Outcome, millis, within};
use crate::change::{CHANGE_ROWS_MAX, Write};
use crate::enrollment::{EnrollmentAnswer, PendingEnrollment};
use model::{CertificateId, Digest, ManufacturerId, SerialNumber, Timestamp};
use rusqlite::{OptionalExtension, params};

/// What no write may hold, found before it takes a place in the queue.
pub(super) fn check(write: &Write) -> Result<(), String> {
    let Write::PutPendingEnrollment(row) = write else {
        return Ok(());
    };
    within("a kind of key", row.key_kind.len(), 1, 32)?;
    let by = row.decision.as_ref().map_or("-", |decision| &decision.by);
    within("an author", by.len(), 1, 256)
}

impl Writer {
    pub(super) fn put_pending(&self, row: &PendingEnrollment) -> Outcome<()> {
        let decision = row.decision.as_ref();
        self.insert(
            "INSERT INTO pending_enrollment (tenant, id, manufacturer, serial, issuer, certificate,
             product, key_kind, key, asked_at, expires_at, approved, decided_at, by_whom,
             endorsement, asked_from)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
             ON CONFLICT (tenant, manufacturer, serial) DO UPDATE SET id = excluded.id,
             issuer = excluded.issuer, certificate = excluded.certificate,
             endorsement = excluded.endorsement,
             product = excluded.product, key_kind = excluded.key_kind, key = excluded.key,
             asked_at = excluded.asked_at, expires_at = excluded.expires_at,
             approved = excluded.approved, decided_at = excluded.decided_at,
             by_whom = excluded.by_whom, asked_from = excluded.asked_from",
            params![
                self.tenant,
                row.id.0,
                row.manufacturer.as_str(),
                row.serial.as_str(),
                row.certificate.map(|certificate| certificate.issuer().0),
                row.certificate.as_ref().map(CertificateId::serial),
                row.product.as_ref().map(|product| product.as_str()),
                row.key_kind,
                row.key.0,
                millis(row.asked_at),
                millis(row.expires_at),
                decision.map(|decision| decision.approved),
                decision.map(|decision| millis(decision.at)),
                decision.map(|decision| &decision.by),
                row.endorsement.map(|endorsement| endorsement.0),
                row.asked_from.map(|address| address.to_string()),
            ],
            || format!("manufacturer {} is not registered", row.manufacturer),
        )
    }

    pub(super) fn drop_pending(
        &self,
        manufacturer: &ManufacturerId,
        serial: &SerialNumber,
    ) -> Outcome<()> {
        self.perform(
            "DELETE FROM pending_enrollment
             WHERE tenant = ?1 AND manufacturer = ?2 AND serial = ?3",
            params![self.tenant, manufacturer.as_str(), serial.as_str()],
        )
        .map(drop)
    }

    /// The enrollment of a device that waits, and what was decided of it.
    pub(super) fn pending_is(
        &self,
        manufacturer: &ManufacturerId,
        serial: &SerialNumber,
        id: &Digest,
        approved: Option<bool>,
    ) -> Outcome<bool> {
        self.exists(
            "SELECT 1 FROM pending_enrollment WHERE tenant = ?1 AND manufacturer = ?2
             AND serial = ?3 AND id = ?4 AND approved IS ?5",
            params![
                self.tenant,
                manufacturer.as_str(),
                serial.as_str(),
                id.0,
                approved
            ],
        )
    }

    pub(super) fn put_answer(&self, row: &EnrollmentAnswer) -> Outcome<()> {
        self.perform(
            "INSERT INTO enrollment_answer (tenant, enrollment, issuer, certificate, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (tenant, enrollment) DO UPDATE SET issuer = excluded.issuer,
             certificate = excluded.certificate, expires_at = excluded.expires_at",
            params![
                self.tenant,
                row.enrollment.0,
                row.certificate.issuer().0,
                row.certificate.serial(),
                millis(row.expires_at)
            ],
        )
        .map(drop)
    }

    pub(super) fn answer_is(
        &self,
        enrollment: &Digest,
        expected: Option<&CertificateId>,
    ) -> Outcome<bool> {
        let stored: Option<(Vec<u8>, Vec<u8>)> = self
            .connection
            .prepare_cached(
                "SELECT issuer, certificate FROM enrollment_answer
                 WHERE tenant = ?1 AND enrollment = ?2",
            )?
            .query_row(params![self.tenant, enrollment.0], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(match (stored, expected) {
            (None, None) => true,
            (Some((issuer, serial)), Some(id)) => issuer == id.issuer().0 && serial == id.serial(),
            _ => false,
        })
    }

    pub(super) fn forget_enrollments(&self, expired_before: Timestamp) -> Outcome<()> {
        for table in ["pending_enrollment", "enrollment_answer"] {
            let key = match table {
                "pending_enrollment" => "manufacturer, serial",
                _ => "enrollment",
            };
            self.perform(
                &format!(
                    "DELETE FROM {table} WHERE (tenant, {key}) IN (SELECT tenant, {key}
                     FROM {table} WHERE tenant = ?1 AND expires_at < ?2 LIMIT ?3)"
                ),
                params![
                    self.tenant,
                    millis(expired_before),
                    i64::try_from(CHANGE_ROWS_MAX).unwrap_or(i64::MAX)
                ],
            )?;
        }
        Ok(())
    }
}
