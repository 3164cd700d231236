//! What a change does to the rows of TPMs.

use super::Writer;
use super::apply::{Outcome, conflict, millis};
use crate::tpm::{AttestationResult, AttestationStatus, EndorsementKey, HeldKey, TpmVendor};
use model::{DeviceId, Digest};
use rusqlite::params;

impl Writer {
    pub(super) fn put_endorsement_key(&self, row: &EndorsementKey) -> Outcome<()> {
        let put = self.execute_cached(
            "INSERT INTO endorsement_key (tenant, endorsement, manufacturer, serial)
             VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET serial = excluded.serial
             WHERE manufacturer = excluded.manufacturer AND serial = excluded.serial",
            params![
                self.tenant,
                row.endorsement.0,
                row.manufacturer.as_str(),
                row.serial.as_str()
            ],
        );
        if matches!(put, Ok(0)) {
            return Err(conflict(format!(
                "endorsement key {} is listed for another serial already",
                row.endorsement
            )));
        }
        self.refusing(put, |_| {
            format!(
                "serial {:?} of manufacturer {} is not expected",
                row.serial.as_str(),
                row.manufacturer
            )
        })
    }

    pub(super) fn drop_endorsement_key(&self, endorsement: &Digest) -> Outcome<()> {
        self.perform(
            "DELETE FROM endorsement_key WHERE tenant = ?1 AND endorsement = ?2",
            params![self.tenant, endorsement.0],
        )
        .map(drop)
    }

    pub(super) fn put_tpm_vendor(&self, row: &TpmVendor) -> Outcome<()> {
        let registered = self.exists(
            "SELECT 1 FROM manufacturer WHERE tenant = ?1 AND manufacturer = ?2",
            params![self.tenant, row.manufacturer.as_str()],
        )?;
        if !registered {
            return Err(conflict(format!(
                "manufacturer {} is not registered",
                row.manufacturer
            )));
        }
        self.perform(
            "INSERT INTO tpm_vendor (tenant, manufacturer, ca, added_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
            params![
                self.tenant,
                row.manufacturer.as_str(),
                row.ca,
                millis(row.added_at)
            ],
        )
        .map(drop)
    }

    pub(super) fn put_held_key(&self, row: &HeldKey) -> Outcome<()> {
        let known = self.exists(
            "SELECT 1 FROM device WHERE tenant = ?1 AND device = ?2",
            params![self.tenant, row.device.as_str()],
        )?;
        if !known {
            return Err(conflict(format!("no device {} has enrolled", row.device)));
        }
        self.drop_held_key(&row.device)?;
        self.perform(
            "INSERT INTO held_key (tenant, device, key, endorsement, attestation_key, held_since)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                self.tenant,
                row.device.as_str(),
                row.key.0,
                row.endorsement.0,
                row.attestation_key,
                millis(row.held_since)
            ],
        )
        .map(drop)
    }

    pub(super) fn drop_held_key(&self, device: &DeviceId) -> Outcome<()> {
        for sql in [
            "DELETE FROM held_key WHERE tenant = ?1 AND device = ?2",
            "DELETE FROM attestation_result
             WHERE tenant = ?1 AND device = ?2 AND status = 'affirming'",
        ] {
            self.perform(sql, params![self.tenant, device.as_str()])?;
        }
        Ok(())
    }

    pub(super) fn put_attestation_result(&self, row: &AttestationResult) -> Outcome<()> {
        let held = self.exists(
            "SELECT 1 FROM held_key WHERE tenant = ?1 AND device = ?2",
            params![self.tenant, row.device.as_str()],
        )?;
        if !held && row.by_key.is_none() && row.status == AttestationStatus::Affirming {
            return Err(conflict(format!(
                "no key of device {} is held by a chip any more",
                row.device
            )));
        }
        self.perform(
            "INSERT INTO attestation_result
             (tenant, device, status, why, appraised_at, ends_at, by_key)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET status = excluded.status, why = excluded.why,
             appraised_at = excluded.appraised_at, ends_at = excluded.ends_at,
             by_key = excluded.by_key",
            params![
                self.tenant,
                row.device.as_str(),
                row.status.name(),
                row.why,
                millis(row.appraised_at),
                millis(row.ends_at),
                row.by_key.map(|key| key.0)
            ],
        )
        .map(drop)
    }
}
