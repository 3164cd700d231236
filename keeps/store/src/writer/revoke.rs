//! Revocations and holds: one state for each thing, in the table of its kind.

use super::Writer;
use super::apply::{Outcome, conflict, millis};
use crate::identity::ExpectedDevice;
use model::{CertificateId, Principal, Revocable, RevocationReason, Timestamp};
use rusqlite::params;

impl Writer {
    /// The first one stays, but for a hold: a revocation takes its place and keeps its time.
    pub(super) fn revoke(
        &self,
        what: &Revocable,
        at: Timestamp,
        reason: RevocationReason,
    ) -> Outcome<()> {
        const AFTER_HOLD: &str = "ON CONFLICT DO UPDATE SET reason = excluded.reason
             WHERE reason = 6";
        if let Revocable::Certificate(id) = what
            && !reason.is_hold()
        {
            self.perform(
                "DELETE FROM superseded_certificate
                 WHERE tenant = ?1 AND issuer = ?2 AND serial = ?3",
                params![self.tenant, id.issuer().0, id.serial()],
            )?;
        }
        let (at, reason) = (millis(at), reason.code());
        match what {
            Revocable::Principal(principal) => self.perform(
                &format!(
                    "INSERT INTO principal_revocation (tenant, principal, revoked_at, reason)
                     VALUES (?1, ?2, ?3, ?4) {AFTER_HOLD}"
                ),
                params![self.tenant, principal.to_string(), at, reason],
            ),
            Revocable::Certificate(id) => self.perform(
                &format!(
                    "INSERT INTO certificate_revocation
                     (tenant, issuer, serial, revoked_at, reason) VALUES (?1, ?2, ?3, ?4, ?5)
                     {AFTER_HOLD}"
                ),
                params![self.tenant, id.issuer().0, id.serial(), at, reason],
            ),
            scope @ (Revocable::Product(_) | Revocable::Issuer(_)) => self.perform(
                &format!(
                    "INSERT INTO scope_revocation (tenant, scope, revoked_at, reason)
                     VALUES (?1, ?2, ?3, ?4) {AFTER_HOLD}"
                ),
                params![self.tenant, scope.to_string(), at, reason],
            ),
        }
        .map(drop)
    }

    pub(super) fn release(&self, what: &Revocable) -> Outcome<()> {
        let hold = RevocationReason::CertificateHold.code();
        let released = match what {
            Revocable::Principal(principal) => self.perform(
                "DELETE FROM principal_revocation
                 WHERE tenant = ?1 AND principal = ?2 AND reason = ?3",
                params![self.tenant, principal.to_string(), hold],
            ),
            Revocable::Certificate(id) => self.perform(
                "DELETE FROM certificate_revocation
                 WHERE tenant = ?1 AND issuer = ?2 AND serial = ?3 AND reason = ?4",
                params![self.tenant, id.issuer().0, id.serial(), hold],
            ),
            scope @ (Revocable::Product(_) | Revocable::Issuer(_)) => self.perform(
                "DELETE FROM scope_revocation WHERE tenant = ?1 AND scope = ?2 AND reason = ?3",
                params![self.tenant, scope.to_string(), hold],
            ),
        }?;
        if released == 1 {
            return Ok(());
        }
        Err(conflict(format!(
            "{what} is not on hold; what is revoked for good is never released"
        )))
    }

    /// Itself, or as a device its product.
    pub(super) fn is_revoked(&self, principal: &Principal) -> Outcome<bool> {
        let own = self.exists(
            "SELECT 1 FROM principal_revocation WHERE tenant = ?1 AND principal = ?2",
            params![self.tenant, principal.to_string()],
        )?;
        let Principal::Device(device) = principal else {
            return Ok(own);
        };
        Ok(own
            || self.exists(
                "SELECT 1 FROM expected_device e JOIN scope_revocation s
                 ON s.tenant = e.tenant AND s.scope = 'product/' || e.product
                 WHERE e.tenant = ?1 AND e.device = ?2",
                params![self.tenant, device.as_str()],
            )?)
    }

    /// Itself, or its issuer.
    pub(super) fn is_certificate_revoked(&self, id: &CertificateId) -> Outcome<bool> {
        let own = self.exists(
            "SELECT 1 FROM certificate_revocation
             WHERE tenant = ?1 AND issuer = ?2 AND serial = ?3",
            params![self.tenant, id.issuer().0, id.serial()],
        )?;
        let issuer = Revocable::Issuer(id.issuer()).to_string();
        Ok(own
            || self.exists(
                "SELECT 1 FROM scope_revocation WHERE tenant = ?1 AND scope = ?2",
                params![self.tenant, issuer],
            )?)
    }

    /// Or a list of expected devices could take a revocation back.
    pub(super) fn refuse_to_leave_a_barred_product(&self, row: &ExpectedDevice) -> Outcome<()> {
        let leaves = self.exists(
            "SELECT 1 FROM scope_revocation s JOIN expected_device e
             ON e.tenant = s.tenant AND s.scope = 'product/' || e.product
             WHERE s.tenant = ?1 AND e.manufacturer = ?2 AND e.serial = ?3 AND e.product <> ?4",
            params![
                self.tenant,
                row.manufacturer.as_str(),
                row.serial.as_str(),
                row.product.as_str()
            ],
        )?;
        if leaves {
            return Err(conflict(format!(
                "the product of device {} is revoked or on hold, so it cannot become one of \
                 another; release the hold first, or leave it there",
                row.device
            )));
        }
        Ok(())
    }
}
