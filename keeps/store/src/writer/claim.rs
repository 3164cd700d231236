//! What a change does to the rows of claim certificates.

use super::Writer;
use super::apply::{Outcome, conflict, millis};
use crate::change::RESERVATIONS_A_DEVICE;
use crate::claim::{ClaimCertificate, Reservation};
use model::{ClaimCertificateId, Digest, Timestamp};
use rusqlite::params;

impl Writer {
    pub(super) fn put_claim_certificate(&self, row: &ClaimCertificate) -> Outcome<()> {
        let put = self.execute_cached(
            "INSERT INTO claim_certificate (tenant, claim, certificate, manufacturer, product,
             template, addresses, devices_max, made, used, added_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, ?9, ?10)
             ON CONFLICT DO NOTHING",
            params![
                self.tenant,
                row.claim.as_str(),
                row.certificate,
                row.manufacturer.as_str(),
                row.product.as_str(),
                row.template,
                row.addresses,
                row.devices_max,
                millis(row.added_at),
                millis(row.expires_at)
            ],
        );
        if matches!(put, Ok(0)) {
            return Err(conflict(format!(
                "a claim certificate {} or this very certificate was added before; make another \
                 one and give it another name",
                row.claim
            )));
        }
        self.refusing(put, |_| {
            format!("manufacturer {} is not registered", row.manufacturer)
        })
    }

    pub(super) fn retire_claim_certificate(
        &self,
        claim: &ClaimCertificateId,
        at: Timestamp,
    ) -> Outcome<()> {
        self.perform(
            "UPDATE claim_certificate SET retired_at = coalesce(retired_at, ?3)
             WHERE tenant = ?1 AND claim = ?2",
            params![self.tenant, claim.as_str(), millis(at)],
        )
        .map(drop)
    }

    pub(super) fn put_reservation(&self, row: &Reservation) -> Outcome<()> {
        let counted = self.perform(
            "UPDATE claim_certificate SET made = made + 1
             WHERE tenant = ?1 AND claim = ?2 AND retired_at IS NULL AND used < devices_max
             AND made < devices_max * ?3",
            params![self.tenant, row.claim.as_str(), RESERVATIONS_A_DEVICE],
        )?;
        if counted == 0 {
            return Err(used_up(&row.claim));
        }
        self.perform(
            "INSERT INTO reservation
             (tenant, token, claim, device, issuer, certificate, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                self.tenant,
                row.token.0,
                row.claim.as_str(),
                row.device.as_str(),
                row.certificate.issuer().0,
                row.certificate.serial(),
                millis(row.expires_at)
            ],
        )
        .map(drop)
    }

    pub(super) fn use_reservation(&self, token: &Digest, at: Timestamp) -> Outcome<()> {
        let used = self.perform(
            "UPDATE reservation SET used_at = ?3
             WHERE tenant = ?1 AND token = ?2 AND used_at IS NULL AND expires_at >= ?3",
            params![self.tenant, token.0, millis(at)],
        )?;
        if used == 0 {
            return Err(conflict(
                "the ownership token is unknown, was used or ended meanwhile".to_owned(),
            ));
        }
        let counted = self.perform(
            "UPDATE claim_certificate SET used = used + 1
             WHERE tenant = ?1 AND retired_at IS NULL AND used < devices_max AND claim =
             (SELECT claim FROM reservation WHERE tenant = ?1 AND token = ?2)",
            params![self.tenant, token.0],
        )?;
        if counted == 0 {
            return Err(conflict(
                "its claim certificate is retired, or used for as many devices as it is for"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    pub(super) fn forget_reservations(&self, ended_before: Timestamp) -> Outcome<()> {
        self.perform(
            "DELETE FROM reservation WHERE tenant = ?1 AND token IN
             (SELECT token FROM reservation WHERE tenant = ?1 AND expires_at < ?2
              ORDER BY expires_at LIMIT 10000)",
            params![self.tenant, millis(ended_before)],
        )
        .map(drop)
    }
}

fn used_up(claim: &ClaimCertificateId) -> super::Failure<crate::change::CommitError> {
    conflict(format!(
        "claim certificate {claim} is retired, or has been used as often as it may be"
    ))
}
