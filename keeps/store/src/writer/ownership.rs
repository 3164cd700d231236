//! What a change does to the rows of ownership.

use super::Writer;
use super::apply::{Outcome, conflict, millis};
use crate::ownership::{Owned, OwnershipCode, OwnershipStep};
use model::{DeviceId, Digest, OwnerId, Timestamp};
use rusqlite::params;

impl Writer {
    pub(super) fn put_ownership_code(&self, row: &OwnershipCode) -> Outcome<()> {
        self.perform(
            "INSERT OR REPLACE INTO ownership_code (tenant, device, hash, expires_at)
             VALUES (?1, ?2, ?3, ?4)",
            params![
                self.tenant,
                row.device.as_str(),
                row.hash.0,
                millis(row.expires_at)
            ],
        )
        .map(drop)
    }

    pub(super) fn use_ownership_code(
        &self,
        device: &DeviceId,
        hash: &Digest,
        at: Timestamp,
    ) -> Outcome<()> {
        let used = self.perform(
            "DELETE FROM ownership_code
             WHERE tenant = ?1 AND device = ?2 AND hash = ?3 AND expires_at >= ?4",
            params![self.tenant, device.as_str(), hash.0, millis(at)],
        )?;
        if used == 0 {
            return Err(conflict(
                "the code was used, replaced or ended meanwhile".to_owned(),
            ));
        }
        Ok(())
    }

    pub(super) fn put_ownership(&self, step: &OwnershipStep) -> Outcome<()> {
        let device = step.device.as_str();
        if let Some(Owned {
            owner, offered_to, ..
        }) = &step.before
        {
            let stays = step.after.as_ref().filter(|after| after.owner == *owner);
            let changed = match stays {
                Some(after) => self.perform(
                    "UPDATE ownership SET offered_to = ?5 WHERE tenant = ?1 AND device = ?2
                     AND until IS NULL AND owner = ?3 AND offered_to IS ?4",
                    params![
                        self.tenant,
                        device,
                        owner.as_str(),
                        text(offered_to.as_ref()),
                        text(after.offered_to.as_ref())
                    ],
                )?,
                None => self.perform(
                    "UPDATE ownership SET until = ?5 WHERE tenant = ?1 AND device = ?2
                     AND until IS NULL AND owner = ?3 AND offered_to IS ?4",
                    params![
                        self.tenant,
                        device,
                        owner.as_str(),
                        text(offered_to.as_ref()),
                        millis(step.at)
                    ],
                )?,
            };
            if changed == 0 {
                return Err(moved(&step.device));
            }
            if stays.is_some() {
                return Ok(());
            }
        }
        let Some(after) = &step.after else {
            return Ok(());
        };
        self.insert(
            "INSERT INTO ownership (tenant, device, number, owner, salt, offered_to, since)
             SELECT ?1, ?2, coalesce(max(number), 0) + 1, ?3, ?4, ?5, ?6
             FROM ownership WHERE tenant = ?1 AND device = ?2",
            params![
                self.tenant,
                device,
                after.owner.as_str(),
                after.salt,
                text(after.offered_to.as_ref()),
                millis(step.at)
            ],
            || format!("device {device} got another owner meanwhile"),
        )
    }
}

fn text(owner: Option<&OwnerId>) -> Option<&str> {
    owner.map(OwnerId::as_str)
}

fn moved(device: &DeviceId) -> super::Failure<crate::change::CommitError> {
    conflict(format!(
        "the ownership of device {device} changed meanwhile; look again"
    ))
}
