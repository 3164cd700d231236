//! What a change does to the rows of `response` and `inventory`, and to certificates that ended.

use super::Writer;
use super::apply::{Outcome, conflict, millis, signed, within};
use crate::change::{CHANGE_ROWS_MAX, Direction, Write};
use crate::inventory::DeviceRecord;
use crate::response::{Contained, GroupContainment, Incident, Outgoing, Step};
use crate::row::join_groups;
use model::{Containment, DeviceId, IncidentId, Timestamp};
use rusqlite::{OptionalExtension, params};

const NAME_BYTES_MAX: usize = 256;
const TEXT_BYTES_MAX: usize = 2 << 10;
const BODY_BYTES_MAX: usize = 256 << 10;
const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// What no write may hold, found before it takes a place in the queue.
pub(super) fn check(write: &Write) -> Result<(), String> {
    let optional = |what: &str, text: Option<&String>, max: usize| {
        text.map_or(Ok(()), |text| within(what, text.len(), 0, max))
    };
    match write {
        Write::PutContainment(row) => within("an author", row.by.len(), 1, NAME_BYTES_MAX),
        Write::PutGroupContainment(row) => {
            within("who was meant", row.target.len(), 1, NAME_BYTES_MAX)?;
            within("a reason", row.reason.len(), 1, TEXT_BYTES_MAX)?;
            let restored_by = row.restored.as_ref().map(|(_, by)| by);
            optional("whoever restores", restored_by, NAME_BYTES_MAX)?;
            within("an author", row.by.len(), 1, NAME_BYTES_MAX)
        }
        Write::PutIncident(row) => {
            within("a title", row.title.len(), 1, 512)?;
            within("an incident's body", row.body.len(), 0, BODY_BYTES_MAX)
        }
        Write::AppendStep { step, .. } => {
            within("an actor", step.actor.len(), 1, NAME_BYTES_MAX)?;
            within("a step", step.what.len(), 1, TEXT_BYTES_MAX)?;
            optional("what was expected", step.expected.as_ref(), TEXT_BYTES_MAX)?;
            optional("what was seen", step.seen.as_ref(), TEXT_BYTES_MAX)?;
            optional("an observer", step.observed_by.as_ref(), NAME_BYTES_MAX)
        }
        Write::PutRecords(rows) => rows.iter().try_for_each(|row| {
            optional("a country", row.country.as_ref(), 2)?;
            optional("a note", row.note.as_ref(), 1 << 10)
        }),
        Write::PutOutbox(row) => {
            within("a message's id", row.id.len(), 1, 128)?;
            within("a way", row.channel.len(), 1, 64)?;
            within("a message", row.body.len(), 0, MESSAGE_BYTES_MAX)?;
            optional("an error", row.last_error.as_ref(), 1 << 10)
        }
        _ => Ok(()),
    }
}

impl Writer {
    pub(super) fn containment_of(&self, device: &DeviceId) -> Outcome<Option<Containment>> {
        let text: Option<String> = self
            .connection
            .prepare_cached(
                "SELECT containment FROM containment WHERE tenant = ?1 AND device = ?2",
            )?
            .query_row(params![self.tenant, device.as_str()], |row| row.get(0))
            .optional()?;
        // The column holds nothing else; if it did, the harder one is the safe reading.
        Ok(text.map(|text| Containment::from_name(&text).unwrap_or(Containment::Isolated)))
    }

    pub(super) fn put_containment(&self, row: &Contained, direction: Direction) -> Outcome<()> {
        match self.containment_of(&row.device)? {
            Some(stored) if stored == row.containment => return Ok(()),
            Some(stored) if stored > row.containment && direction != Direction::Grant => {
                return Err(conflict(format!(
                    "device {} is {}; {} gives back, so it must be asked for as a restore",
                    row.device,
                    stored.name(),
                    row.containment.name()
                )));
            }
            _ => {}
        }
        self.perform(
            "INSERT INTO containment
             (tenant, device, containment, since, incident, by_whom, group_containment)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET containment = excluded.containment,
             since = excluded.since, incident = excluded.incident, by_whom = excluded.by_whom,
             group_containment = excluded.group_containment",
            params![
                self.tenant,
                row.device.as_str(),
                row.containment.name(),
                millis(row.since),
                row.incident.map(|id| signed(id.0)),
                row.by,
                row.group.as_ref().map(|id| id.as_str())
            ],
        )
        .map(drop)
    }

    pub(super) fn put_group_containment(&self, row: &GroupContainment) -> Outcome<()> {
        let restored_at = row.restored.as_ref().map(|(at, _)| millis(*at));
        let restored_by = row.restored.as_ref().map(|(_, by)| by);
        self.perform(
            "INSERT OR REPLACE INTO group_containment (tenant, id, target, containment, reason,
             by_whom, at, devices, restored_at, restored_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                self.tenant,
                row.id.as_str(),
                row.target,
                row.containment.name(),
                row.reason,
                row.by,
                millis(row.at),
                signed(row.devices),
                restored_at,
                restored_by
            ],
        )
        .map(drop)
    }

    pub(super) fn drop_containment(&self, device: &DeviceId) -> Outcome<()> {
        self.perform(
            "DELETE FROM containment WHERE tenant = ?1 AND device = ?2",
            params![self.tenant, device.as_str()],
        )
        .map(drop)
    }

    pub(super) fn put_incident(&self, row: &Incident) -> Outcome<()> {
        self.perform(
            "INSERT INTO incident
             (tenant, incident, subject, title, state, severity, opened_at, closed_at, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT DO UPDATE SET subject = excluded.subject, title = excluded.title,
             state = excluded.state, severity = excluded.severity,
             opened_at = excluded.opened_at, closed_at = excluded.closed_at,
             body = excluded.body",
            params![
                self.tenant,
                signed(row.id.0),
                row.subject.as_ref().map(ToString::to_string),
                row.title,
                row.state.name(),
                row.severity.name(),
                millis(row.opened_at),
                row.closed_at.map(millis),
                row.body
            ],
        )
        .map(drop)
    }

    /// Entries are appended after the writes, so the next leaf index is the first entry's.
    pub(super) fn append_step(
        &self,
        incident: IncidentId,
        step: &Step,
        entry_of_change: Option<usize>,
    ) -> Outcome<()> {
        let entry = match entry_of_change {
            Some(place) => Some(
                self.head
                    .leaf_count
                    .saturating_add(i64::try_from(place).unwrap_or(i64::MAX)),
            ),
            None => step.entry.map(signed),
        };
        self.insert(
            "INSERT INTO incident_step (tenant, incident, number, at, actor, what, expected, seen,
             source, attribution, observed_by, entry)
             SELECT ?1, ?2, coalesce(max(number), 0) + 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11
             FROM incident_step WHERE tenant = ?1 AND incident = ?2",
            params![
                self.tenant,
                signed(incident.0),
                millis(step.at),
                step.actor,
                step.what,
                step.expected,
                step.seen,
                step.source.map(model::Source::name),
                step.attribution.map(model::Attribution::name),
                step.observed_by,
                entry
            ],
            || format!("there is no incident {incident}"),
        )
    }

    pub(super) fn put_record(&self, row: &DeviceRecord) -> Outcome<()> {
        self.perform(
            "INSERT OR REPLACE INTO device_record (tenant, device, product, groups, manufacturer,
             serial, country, support_until, retired, note, changed_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                self.tenant,
                row.device.as_str(),
                row.product.as_ref().map(|id| id.as_str()),
                join_groups(&row.groups),
                row.manufacturer.as_ref().map(|id| id.as_str()),
                row.serial.as_ref().map(|id| id.as_str()),
                row.country,
                row.support_until.map(millis),
                row.retired,
                row.note,
                millis(row.changed_at)
            ],
        )
        .map(drop)
    }

    pub(super) fn put_outbox(&self, row: &Outgoing) -> Outcome<()> {
        self.perform(
            "INSERT OR REPLACE INTO outbox
             (tenant, id, channel, body, created_at, attempts, next_at, last_error)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                self.tenant,
                row.id,
                row.channel,
                row.body,
                millis(row.created_at),
                row.attempts,
                millis(row.next_at),
                row.last_error
            ],
        )
        .map(drop)
    }

    pub(super) fn drop_outbox(&self, id: &str) -> Outcome<()> {
        self.perform(
            "DELETE FROM outbox WHERE tenant = ?1 AND id = ?2",
            params![self.tenant, id],
        )
        .map(drop)
    }

    pub(super) fn forget_certificates(&self, ended_before: Timestamp) -> Outcome<()> {
        self.perform(
            "DELETE FROM certificate WHERE (tenant, issuer, serial) IN
             (SELECT tenant, issuer, serial FROM certificate
              WHERE tenant = ?1 AND not_after < ?2 ORDER BY not_after LIMIT ?3)",
            params![
                self.tenant,
                millis(ended_before),
                i64::try_from(CHANGE_ROWS_MAX).unwrap_or(i64::MAX)
            ],
        )?;
        // Few rows: those that no revocation ends.
        self.perform(
            "DELETE FROM superseded_certificate AS s WHERE tenant = ?1 AND NOT EXISTS
             (SELECT 1 FROM certificate c
              WHERE c.tenant = s.tenant AND c.issuer = s.issuer AND c.serial = s.serial)",
            params![self.tenant],
        )
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_without_words_is_refused() {
        let step = Step {
            at: Timestamp::from_millis(1),
            actor: String::new(),
            what: "quarantined".to_owned(),
            expected: None,
            seen: None,
            source: None,
            attribution: None,
            observed_by: None,
            entry: None,
        };
        let write = Write::AppendStep {
            incident: IncidentId(1),
            step,
            entry_of_change: None,
        };
        assert!(check(&write).is_err());
    }
}
