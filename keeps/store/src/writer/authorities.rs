//! Certificate authorities and the count of what they put on record.

use super::Writer;
use super::apply::{Outcome, conflict, millis, signed};
use crate::authority::{Authority, AuthorityRole};
use model::{DeviceId, Digest, Timestamp};
use rusqlite::params;

impl Writer {
    pub(super) fn put_authority(&self, row: &Authority, entry: Option<i64>) -> Outcome<()> {
        let (name, uses) = match &row.role {
            AuthorityRole::Root => (None, None),
            AuthorityRole::Issuing { name, uses } => (Some(name.as_str()), Some(uses.to_string())),
        };
        let put = self.perform(
            "INSERT INTO certificate_authority
             (tenant, subject, name, uses, state, certificate, created_at, entry)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (tenant, subject) DO UPDATE SET state = excluded.state
             WHERE certificate = excluded.certificate",
            params![
                self.tenant,
                row.subject.0,
                name,
                uses,
                row.state.name(),
                row.certificate,
                millis(row.created_at),
                entry
            ],
        )?;
        if put == 0 {
            return Err(conflict(
                "a CA of this name and key has another certificate already; make a new key"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    pub(super) fn put_learned_roots(
        &self,
        device: &DeviceId,
        roots: &[Digest],
        at: Timestamp,
    ) -> Outcome<()> {
        self.perform(
            "DELETE FROM learned_root WHERE tenant = ?1 AND device = ?2",
            params![self.tenant, device.as_str()],
        )?;
        for root in roots {
            self.perform(
                "INSERT INTO learned_root (tenant, device, root, told_at)
                 VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                params![self.tenant, device.as_str(), root.0, millis(at)],
            )?;
        }
        Ok(())
    }

    pub(super) fn count_issuance(&self, issuer: Digest, kind: &str) -> Outcome<()> {
        self.add_issuance(issuer, kind, 1, 0)
    }

    pub(super) fn note_unrecorded(&self, issuer: Digest, kind: &str, count: u64) -> Outcome<()> {
        self.add_issuance(issuer, kind, 0, count)
    }

    fn add_issuance(
        &self,
        issuer: Digest,
        kind: &str,
        recorded: u64,
        unrecorded: u64,
    ) -> Outcome<()> {
        self.perform(
            "INSERT INTO issuance (tenant, issuer, kind, recorded, unrecorded)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (tenant, issuer, kind) DO UPDATE SET
             recorded = recorded + excluded.recorded,
             unrecorded = unrecorded + excluded.unrecorded",
            params![
                self.tenant,
                issuer.0,
                kind,
                signed(recorded),
                signed(unrecorded)
            ],
        )
        .map(drop)
    }
}
