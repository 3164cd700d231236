//! What a change does to the rows of twins.

use super::Writer;
use super::apply::{Outcome, conflict, millis, signed, within};
use crate::twin::TwinWrite;
use rusqlite::params;

const DOCUMENT_BYTES_MAX: usize = 16 << 10;

/// What no write may hold, found before it takes a place in the queue.
pub(super) fn check(write: &TwinWrite) -> Result<(), String> {
    match write {
        TwinWrite::Desire { document, by, .. } => {
            within("an author", by.len(), 1, 256)?;
            within("a document", document.len(), 2, DOCUMENT_BYTES_MAX)
        }
        TwinWrite::Report(rows) => (rows.iter()).try_for_each(|(_, document, _)| {
            within("a document", document.len(), 2, DOCUMENT_BYTES_MAX)
        }),
    }
}

impl Writer {
    pub(super) fn write_twin(&self, write: &TwinWrite) -> Outcome<()> {
        match write {
            TwinWrite::Desire {
                device,
                document,
                version,
                by,
                at,
            } => {
                let set = self.perform(
                    "INSERT INTO twin (tenant, device, desired, version, desired_at, desired_by)
                     SELECT ?1, ?2, ?3, 1, ?4, ?5 WHERE ?6 = 0 OR EXISTS
                     (SELECT 1 FROM twin WHERE tenant = ?1 AND device = ?2)
                     ON CONFLICT DO UPDATE SET desired = excluded.desired, version = version + 1,
                     desired_at = excluded.desired_at, desired_by = excluded.desired_by
                     WHERE version = ?6",
                    params![
                        self.tenant,
                        device.as_str(),
                        document,
                        millis(*at),
                        by,
                        signed(*version)
                    ],
                )?;
                if set == 0 {
                    return Err(conflict(format!(
                        "the desired state of {device} is not at version {version} any more"
                    )));
                }
                Ok(())
            }
            TwinWrite::Report(rows) => rows.iter().try_for_each(|(device, document, at)| {
                self.perform(
                    "INSERT INTO twin (tenant, device, desired, version, reported, reported_at)
                     VALUES (?1, ?2, x'', 0, ?3, ?4)
                     ON CONFLICT DO UPDATE SET reported = excluded.reported,
                     reported_at = excluded.reported_at",
                    params![self.tenant, device.as_str(), document, millis(*at)],
                )
                .map(drop)
            }),
        }
    }
}
