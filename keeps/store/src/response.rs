//! Rows of the room `response`: who is cut off, what is worked on, step by step, and what must
//! still leave the house.

use crate::error::ReadError;
use crate::reader::{at, count, index};
use crate::row::{incident_id, name, named, optional_at, optional_name, optional_named};
use crate::store::Store;
use model::{
    Attribution, Containment, DeviceId, GroupContainmentId, IncidentId, Severity, Source, Subject,
    Timestamp,
};
use rusqlite::{Row, params};

/// A device that is cut off. Free is no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contained {
    pub device: DeviceId,
    pub containment: Containment,
    pub since: Timestamp,
    /// What it was cut off for, if an incident was.
    pub incident: Option<IncidentId>,
    /// The person or playbook that decided; at most 256 bytes.
    pub by: String,
    /// The act that cut it off together with others, and that gives it back with them.
    pub group: Option<GroupContainmentId>,
}

/// One act that cut many devices off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupContainment {
    pub id: GroupContainmentId,
    /// Who was meant, `group/east`; at most 256 bytes.
    pub target: String,
    pub containment: Containment,
    /// At most 2 KiB.
    pub reason: String,
    /// At most 256 bytes.
    pub by: String,
    pub at: Timestamp,
    /// How many it cut off that were free before.
    pub devices: u64,
    /// When it was undone, and by whom.
    pub restored: Option<(Timestamp, String)>,
}

/// How far an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IncidentState {
    Open,
    Contained,
    Closed,
}

impl IncidentState {
    pub const ALL: [Self; 3] = [Self::Open, Self::Contained, Self::Closed];

    /// `open`, `contained` or `closed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Contained => "contained",
            Self::Closed => "closed",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// What is worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    pub id: IncidentId,
    /// Whom it is about; `None` where many peers show the same.
    pub subject: Option<Subject>,
    /// At most 512 bytes.
    pub title: String,
    pub state: IncidentState,
    pub severity: Severity,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    /// What the room keeps of it besides, in its own form; at most 256 KiB.
    pub body: Vec<u8>,
}

/// One line of an incident's timeline. Lines are added, never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub at: Timestamp,
    /// Who did or said it; at most 256 bytes.
    pub actor: String,
    /// At most 2 KiB, as the two below.
    pub what: String,
    pub expected: Option<String>,
    pub seen: Option<String>,
    pub source: Option<Source>,
    pub attribution: Option<Attribution>,
    /// At most 256 bytes.
    pub observed_by: Option<String>,
    /// Leaf index of the log entry that proves it.
    pub entry: Option<u64>,
}

/// A step as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRow {
    /// Place in the timeline of its incident, from 1.
    pub number: u64,
    pub step: Step,
}

/// A message that must leave the house and has not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// 1 to 128 bytes; the receiver knows a repetition by it.
    pub id: String,
    /// By which way, `webhook` for one; at most 64 bytes.
    pub channel: String,
    /// At most 256 KiB.
    pub body: Vec<u8>,
    pub created_at: Timestamp,
    pub attempts: u32,
    /// Not to be tried before.
    pub next_at: Timestamp,
    /// What the last attempt said; at most 1 KiB, without secrets.
    pub last_error: Option<String>,
}

impl Store {
    /// Every device that is cut off, in the order of their names.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_containment(&self, mut each: impl FnMut(Contained)) -> Result<u64, ReadError> {
        self.readers().for_each(
            "SELECT device, containment, since, incident, by_whom, group_containment FROM containment
             WHERE tenant = ?1 ORDER BY device",
            params![self.tenant_text()],
            |row| contained(row).map(&mut each),
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn containment(&self, device: &DeviceId) -> Result<Option<Contained>, ReadError> {
        self.readers().one(
            "SELECT device, containment, since, incident, by_whom, group_containment FROM containment
             WHERE tenant = ?1 AND device = ?2",
            params![self.tenant_text(), device.as_str()],
            contained,
        )
    }

    /// Acts that cut many off, the latest first; `standing`: only those that were not undone.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn group_containments(
        &self,
        standing: bool,
        limit: usize,
    ) -> Result<Vec<GroupContainment>, ReadError> {
        self.readers().page(
            "SELECT id, target, containment, reason, by_whom, at, devices, restored_at, restored_by
             FROM group_containment WHERE tenant = ?1 AND (restored_at IS NULL OR NOT ?3)
             ORDER BY at DESC, id LIMIT ?2",
            params![self.tenant_text(), count(limit), standing],
            group_containment,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn group_containment(
        &self,
        id: &GroupContainmentId,
    ) -> Result<Option<GroupContainment>, ReadError> {
        self.readers().one(
            "SELECT id, target, containment, reason, by_whom, at, devices, restored_at, restored_by
             FROM group_containment WHERE tenant = ?1 AND id = ?2",
            params![self.tenant_text(), id.as_str()],
            group_containment,
        )
    }

    /// Every incident, the oldest first.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_incident(&self, mut each: impl FnMut(Incident)) -> Result<u64, ReadError> {
        self.readers().for_each(
            &format!("{INCIDENTS} WHERE tenant = ?1 ORDER BY incident"),
            params![self.tenant_text()],
            |row| incident(row).map(&mut each),
        )
    }

    /// The greatest number that an incident has, 0 if there is none. Reads nothing else of any row,
    /// so that a damaged one cannot hide it.
    ///
    /// # Errors
    /// The disk.
    pub fn last_incident(&self) -> Result<u64, ReadError> {
        let last = self.readers().one(
            "SELECT max(incident) FROM incident WHERE tenant = ?1",
            params![self.tenant_text()],
            |row| Ok(row.get::<_, Option<i64>>(0)?),
        )?;
        Ok(last.flatten().map_or(0, index))
    }

    /// The newest first; `after` is the last one of the page before.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn incidents(
        &self,
        after: Option<IncidentId>,
        limit: usize,
    ) -> Result<Vec<Incident>, ReadError> {
        let below = after.map_or(i64::MAX, |id| i64::try_from(id.0).unwrap_or(i64::MAX));
        self.readers().page(
            &format!(
                "{INCIDENTS} WHERE tenant = ?1 AND incident < ?2 ORDER BY incident DESC LIMIT ?3"
            ),
            params![self.tenant_text(), below, count(limit)],
            incident,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn incident(&self, id: IncidentId) -> Result<Option<Incident>, ReadError> {
        self.readers().one(
            &format!("{INCIDENTS} WHERE tenant = ?1 AND incident = ?2"),
            params![self.tenant_text(), i64::try_from(id.0).unwrap_or(i64::MAX)],
            incident,
        )
    }

    /// The timeline of an incident, from the first step on; `after` is the number of the last one
    /// of the page before, 0 at the start.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn steps(
        &self,
        incident: IncidentId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StepRow>, ReadError> {
        self.readers().page(
            "SELECT number, at, actor, what, expected, seen, source, attribution, observed_by, entry
             FROM incident_step WHERE tenant = ?1 AND incident = ?2 AND number > ?3
             ORDER BY number LIMIT ?4",
            params![
                self.tenant_text(),
                i64::try_from(incident.0).unwrap_or(i64::MAX),
                i64::try_from(after).unwrap_or(i64::MAX),
                count(limit)
            ],
            step,
        )
    }

    /// What has not left yet, in the order of its next attempt.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn outbox(&self, limit: usize) -> Result<Vec<Outgoing>, ReadError> {
        self.readers().page(
            "SELECT id, channel, body, created_at, attempts, next_at, last_error FROM outbox
             WHERE tenant = ?1 ORDER BY next_at, id LIMIT ?2",
            params![self.tenant_text(), count(limit)],
            outgoing,
        )
    }

    /// The message that waits longest to leave by this way, and how many wait.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn outbox_of(&self, channel: &str) -> Result<(Option<Outgoing>, u64), ReadError> {
        let first = self.readers().one(
            "SELECT id, channel, body, created_at, attempts, next_at, last_error FROM outbox
             WHERE tenant = ?1 AND channel = ?2 ORDER BY created_at, id LIMIT 1",
            params![self.tenant_text(), channel],
            outgoing,
        )?;
        let waiting = self.readers().one(
            "SELECT count(*) FROM outbox WHERE tenant = ?1 AND channel = ?2",
            params![self.tenant_text(), channel],
            |row| Ok(row.get::<_, i64>(0)?),
        )?;
        Ok((first, u64::try_from(waiting.unwrap_or(0)).unwrap_or(0)))
    }
}

const INCIDENTS: &str =
    "SELECT incident, subject, title, state, severity, opened_at, closed_at, body FROM incident";

fn contained(row: &Row<'_>) -> Result<Contained, ReadError> {
    const TABLE: &str = "containment";
    Ok(Contained {
        device: name(row, 0, TABLE)?,
        containment: named(row, 1, TABLE, Containment::from_name)?,
        since: at(row.get(2)?),
        incident: incident_id(row, 3)?,
        by: row.get(4)?,
        group: optional_name(row, 5, TABLE)?,
    })
}

fn group_containment(row: &Row<'_>) -> Result<GroupContainment, ReadError> {
    const TABLE: &str = "group_containment";
    let restored_by: Option<String> = row.get(8)?;
    Ok(GroupContainment {
        id: name(row, 0, TABLE)?,
        target: row.get(1)?,
        containment: named(row, 2, TABLE, Containment::from_name)?,
        reason: row.get(3)?,
        by: row.get(4)?,
        at: at(row.get(5)?),
        devices: index(row.get(6)?),
        restored: optional_at(row, 7)?.zip(restored_by),
    })
}

fn incident(row: &Row<'_>) -> Result<Incident, ReadError> {
    const TABLE: &str = "incident";
    let subject: Option<String> = row.get(1)?;
    Ok(Incident {
        id: IncidentId(index(row.get(0)?)),
        subject: subject
            .map(|text| text.parse::<Subject>())
            .transpose()
            .map_err(|e| ReadError::row(TABLE, e))?,
        title: row.get(2)?,
        state: named(row, 3, TABLE, IncidentState::from_name)?,
        severity: named(row, 4, TABLE, Severity::from_name)?,
        opened_at: at(row.get(5)?),
        closed_at: optional_at(row, 6)?,
        body: row.get(7)?,
    })
}

fn step(row: &Row<'_>) -> Result<StepRow, ReadError> {
    const TABLE: &str = "incident_step";
    Ok(StepRow {
        number: index(row.get(0)?),
        step: Step {
            at: at(row.get(1)?),
            actor: row.get(2)?,
            what: row.get(3)?,
            expected: row.get(4)?,
            seen: row.get(5)?,
            source: optional_named(row, 6, TABLE, Source::from_name)?,
            attribution: optional_named(row, 7, TABLE, Attribution::from_name)?,
            observed_by: row.get(8)?,
            entry: row.get::<_, Option<i64>>(9)?.map(index),
        },
    })
}

fn outgoing(row: &Row<'_>) -> Result<Outgoing, ReadError> {
    Ok(Outgoing {
        id: row.get(0)?,
        channel: row.get(1)?,
        body: row.get(2)?,
        created_at: at(row.get(3)?),
        attempts: row.get(4)?,
        next_at: at(row.get(5)?),
        last_error: row.get(6)?,
    })
}
