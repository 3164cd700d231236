//! What a change does to the rows of existing fleets, attributes and claim tokens.

use super::Writer;
use super::apply::{Outcome, conflict, millis};
use crate::first_identity::{ClaimToken, ClaimTokenUse, Described, ImportedFleet, PinnedLeaf};
use model::{DeviceId, Digest, ManufacturerId, SerialNumber, Timestamp};
use rusqlite::params;

impl Writer {
    pub(super) fn put_imported_fleet(&self, row: &ImportedFleet) -> Outcome<()> {
        let maker = self.exists(
            "SELECT 1 FROM manufacturer WHERE tenant = ?1 AND manufacturer = ?2
             AND length(ca) > 0",
            params![self.tenant, row.fleet.as_str()],
        )?;
        if maker {
            return Err(conflict(format!(
                "{} is a manufacturer; give the imported fleet another name",
                row.fleet
            )));
        }
        self.perform(
            "INSERT INTO manufacturer (tenant, manufacturer, ca, added_at)
             VALUES (?1, ?2, x'', ?3) ON CONFLICT DO NOTHING",
            params![self.tenant, row.fleet.as_str(), millis(row.imported_at)],
        )?;
        // The rule names devices that are on record: it never changes. Nor is retiring taken back.
        let put = self.perform(
            "INSERT INTO imported_fleet
             (tenant, fleet, naming, until, accept_expired, imported_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET until = excluded.until,
             accept_expired = excluded.accept_expired
             WHERE naming = excluded.naming AND retired_at IS NULL",
            params![
                self.tenant,
                row.fleet.as_str(),
                row.naming,
                millis(row.until),
                row.accept_expired,
                millis(row.imported_at)
            ],
        )?;
        if put == 0 {
            return Err(conflict(format!(
                "{} was imported by another rule, or is retired; import under another name",
                row.fleet
            )));
        }
        for ca in &row.cas {
            self.perform(
                "INSERT INTO imported_ca (tenant, fleet, ca) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO NOTHING",
                params![self.tenant, row.fleet.as_str(), ca],
            )?;
        }
        Ok(())
    }

    pub(super) fn retire_imported_fleet(
        &self,
        fleet: &ManufacturerId,
        at: Timestamp,
    ) -> Outcome<()> {
        self.perform(
            "UPDATE imported_fleet SET retired_at = coalesce(retired_at, ?3)
             WHERE tenant = ?1 AND fleet = ?2",
            params![self.tenant, fleet.as_str(), millis(at)],
        )
        .map(drop)
    }

    pub(super) fn put_shown_key(&self, device: &DeviceId, key: &Digest) -> Outcome<()> {
        self.perform(
            "INSERT INTO shown_key (tenant, key, device) VALUES (?1, ?2, ?3)
             ON CONFLICT DO NOTHING",
            params![self.tenant, key.0, device.as_str()],
        )
        .map(drop)
    }

    pub(super) fn pin_leaf(&self, row: &PinnedLeaf) -> Outcome<()> {
        let taken = self.exists(
            "SELECT 1 FROM pinned_leaf WHERE tenant = ?1 AND fingerprint = ?2 AND device <> ?3
             AND NOT (shared AND ?4)",
            params![
                self.tenant,
                row.fingerprint.0,
                row.device.as_str(),
                row.shared
            ],
        )?;
        if taken {
            return Err(conflict(format!(
                "certificate {} is pinned to another device; if they share it, import it as shared",
                row.fingerprint
            )));
        }
        self.perform(
            "INSERT INTO pinned_leaf (tenant, fingerprint, device, shared)
             VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            params![
                self.tenant,
                row.fingerprint.0,
                row.device.as_str(),
                row.shared
            ],
        )
        .map(drop)
    }

    pub(super) fn describe(&self, row: &Described) -> Outcome<()> {
        self.perform(
            "DELETE FROM device_attribute WHERE tenant = ?1 AND device = ?2",
            params![self.tenant, row.device.as_str()],
        )?;
        for (attribute, value) in &row.attributes {
            self.perform(
                "INSERT INTO device_attribute (tenant, device, attribute, value)
                 VALUES (?1, ?2, ?3, ?4)",
                params![
                    self.tenant,
                    row.device.as_str(),
                    attribute.as_str(),
                    value.as_str()
                ],
            )?;
        }
        Ok(())
    }

    pub(super) fn put_claim_token(&self, row: &ClaimToken) -> Outcome<()> {
        let put = self.execute_cached(
            "INSERT OR REPLACE INTO claim_token
             (tenant, serial, manufacturer, hash, made_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                self.tenant,
                row.serial.as_str(),
                row.manufacturer.as_str(),
                row.hash.0,
                millis(row.made_at),
                millis(row.expires_at)
            ],
        );
        self.refusing(put, |_| {
            format!(
                "serial {:?} of {} is on no list; expect the device first",
                row.serial.as_str(),
                row.manufacturer
            )
        })
    }

    pub(super) fn use_claim_token(
        &self,
        manufacturer: &ManufacturerId,
        serial: &SerialNumber,
        hash: &Digest,
        used: &ClaimTokenUse,
    ) -> Outcome<()> {
        let changed = self.perform(
            "UPDATE claim_token SET used_at = ?5, used_key = ?6, used_issuer = ?7,
             used_serial = ?8
             WHERE tenant = ?1 AND serial = ?2 AND manufacturer = ?3 AND hash = ?4
             AND used_at IS NULL AND expires_at > ?5",
            params![
                self.tenant,
                serial.as_str(),
                manufacturer.as_str(),
                hash.0,
                millis(used.at),
                used.key.0,
                used.certificate.issuer().0,
                used.certificate.serial()
            ],
        )?;
        if changed == 1 {
            return Ok(());
        }
        Err(conflict(
            "the claim token was used, withdrawn or ended meanwhile".to_owned(),
        ))
    }

    pub(super) fn drop_claim_tokens(
        &self,
        manufacturer: &ManufacturerId,
        serial: Option<&SerialNumber>,
    ) -> Outcome<()> {
        self.perform(
            "DELETE FROM claim_token WHERE tenant = ?1 AND manufacturer = ?2
             AND (?3 IS NULL OR serial = ?3) AND used_at IS NULL",
            params![
                self.tenant,
                manufacturer.as_str(),
                serial.map(SerialNumber::as_str)
            ],
        )
        .map(drop)
    }
}
