//! Incidents on record: their rows, the lines of their timelines, and the entries that prove them.

use crate::clock;
use crate::entries::{self, Act};
use crate::events::About;
use crate::judge::Judged;
use crate::plane::{Plane, digest};
use crate::trouble::Trouble;
use model::IncidentId;
use response::{Effect, Incident, IncidentState, Remembered, Step};
use serde_json::json;
use std::time::Duration;
use store::{Change, Direction, IdempotencyKey, ReadError, StepRow, Store, Write};

/// Rows and entries after which what was taken is put on record. A change of more than ten times
/// as many is refused for ever, and one line takes two at most.
const LINES_MAX: usize = 1000;
/// The key under which [`last_incident`] finds what the log told a restored database.
pub const LAST_TOLD: &str = "response.last-incident-told";

/// What the responder said and did, in order, to be put on record in one change.
#[derive(Default)]
pub struct Lines {
    writes: Vec<Write>,
    leaves: Vec<Vec<u8>>,
    told: Vec<(About, serde_json::Value)>,
}

impl Lines {
    /// Takes a line; gives back what is to be carried out instead.
    ///
    /// # Errors
    /// An entry that is larger than any may be.
    pub fn take(&mut self, plane: &Plane, effect: Effect) -> Result<Option<Effect>, Trouble> {
        if let Effect::Open(incident) | Effect::Changed(incident) | Effect::Close(incident) =
            &effect
        {
            plane.suspect(incident);
        }
        match effect {
            Effect::Open(incident) => {
                let act = entries::incident_opened(&incident);
                self.leaf(plane, &act)?;
                self.incident(&incident);
            }
            Effect::Changed(incident) => self.incident(&incident),
            Effect::Close(incident) => {
                let at = incident.closed_at.unwrap_or_else(clock::now);
                let act = entries::incident_closed(at, &incident);
                self.leaf(plane, &act)?;
                self.incident(&incident);
            }
            Effect::Step(incident, step) => self.step(plane, incident, step)?,
            Effect::Held {
                incident,
                playbook,
                why,
            } => {
                let (incident, why) = (incident.to_string(), why.to_string());
                let told = json!({ "id": incident, "held": playbook, "why": why });
                self.told.push((About::Incident, told));
            }
            act @ (Effect::Contain { .. }
            | Effect::Revoke { .. }
            | Effect::Restore { .. }
            | Effect::Notify { .. }) => return Ok(Some(act)),
        }
        Ok(None)
    }

    /// Enough for one change.
    #[must_use]
    pub fn are_many(&self) -> bool {
        self.writes.len() + self.leaves.len() >= LINES_MAX
    }

    /// Puts on record what was taken, and tells the screens. What the disk refuses is kept and
    /// tried again; nothing is granted until it is written.
    pub async fn record(&mut self, plane: &Plane) {
        let Self {
            writes,
            leaves,
            told,
        } = std::mem::take(self);
        if !writes.is_empty() {
            let mut change = Change::new(Direction::Neutral);
            change.idempotency_key = plane.once("timeline", &leaves).ok();
            change.writes = writes;
            change.entries = leaves;
            // Its trouble has been said, and what it stands for goes on.
            let _ = plane.commit_withdrawal(change).await;
        }
        for (about, data) in told {
            plane.events.tell(about, &data);
        }
    }

    fn leaf(&mut self, plane: &Plane, act: &Act) -> Result<usize, Trouble> {
        self.leaves.push(plane.leaf(act)?);
        Ok(self.leaves.len() - 1)
    }

    fn incident(&mut self, incident: &Incident) {
        self.writes.push(Write::PutIncident(row(incident)));
        let told = json!({
            "id": incident.id.to_string(),
            "title": incident.title(),
            "state": incident.state.name(),
            "severity": incident.severity.name(),
            "device": incident.about.device().map(ToString::to_string),
        });
        self.told.push((About::Incident, told));
    }

    fn step(&mut self, plane: &Plane, incident: IncidentId, step: Step) -> Result<(), Trouble> {
        let entry_of_change = match step.entry {
            // The act that it tells of has an entry of its own.
            Some(_) => None,
            None => Some(self.leaf(plane, &entries::step(incident, &step))?),
        };
        let told = json!({
            "id": incident.to_string(),
            "at": step.at.to_string(),
            "actor": step.actor,
            "what": step.what,
        });
        self.told.push((About::Step, told));
        self.writes.push(Write::AppendStep {
            incident,
            step: store::Step {
                at: step.at,
                actor: step.actor,
                what: step.what,
                expected: step.expected,
                seen: step.seen,
                source: step.source,
                attribution: step.attribution,
                observed_by: step.observed_by,
                entry: step.entry,
            },
            entry_of_change,
        });
        Ok(())
    }
}

fn row(incident: &Incident) -> store::Incident {
    store::Incident {
        id: incident.id,
        subject: match &incident.about {
            response::About::Subject(subject) => Some(subject.clone()),
            response::About::Group { .. } | response::About::TooMany { .. } => None,
        },
        title: cut(incident.title(), 512),
        state: match incident.state {
            IncidentState::Open => store::IncidentState::Open,
            IncidentState::Contained => store::IncidentState::Contained,
            IncidentState::Closed => store::IncidentState::Closed,
        },
        severity: incident.severity,
        opened_at: incident.opened_at,
        closed_at: incident.closed_at,
        body: incident.to_bytes(),
    }
}

/// The incidents of earlier runs that are still worked on, taken up by the responder; what it asks
/// for again.
///
/// # Errors
/// The disk, or a row of another version.
pub fn remembered(plane: &Plane) -> Result<Judged, Trouble> {
    const CLOSED_KEPT: Duration = Duration::from_secs(86_400);
    let now = clock::now();
    let mut remembered = Remembered {
        last_incident: last_incident(&plane.store)?,
        ..Remembered::default()
    };
    let read = plane.store.for_each_incident(|row| {
        let is_old = row
            .closed_at
            .is_some_and(|closed| now.since(closed) >= CLOSED_KEPT);
        if is_old {
            return;
        }
        match Incident::from_bytes(&row.body) {
            Ok(_) => remembered.incidents.push(row.body),
            // One that is damaged must not take the others, and their numbers, along.
            Err(error) => tracing::error!("{} is not taken up: {error}", row.id),
        }
    });
    if let Err(error) = read {
        // Those before it are taken up, and no number is given again.
        tracing::error!("not all incidents are taken up: {error}");
    }
    {
        let containments = plane.containments.lock();
        let contained = containments.iter();
        remembered.containments = contained
            .map(|(device, standing)| (device.clone(), standing.containment))
            .collect();
    }
    let mut judged = Judged::default();
    let mut judgement = plane.judgement.lock();
    (judgement.responder)
        .restore_state(&remembered, now, &mut judged.effects)
        .map_err(Trouble::fault)?;
    for incident in judgement.responder.incidents() {
        plane.suspect(incident);
    }
    Ok(judged)
}

/// The greatest number that was ever given to an incident: those on record, and those that a
/// restored database was told of by the log.
///
/// # Errors
/// The disk.
pub fn last_incident(store: &Store) -> Result<u64, ReadError> {
    let told = store.meta(LAST_TOLD)?.unwrap_or_default();
    let told = String::from_utf8(told)
        .ok()
        .and_then(|text| text.parse().ok());
    Ok(store.last_incident()?.max(told.unwrap_or(0)))
}

/// The first `max` lines of a timeline; the store gives at most 1,000 at a time.
///
/// # Errors
/// The disk, or a row that is not valid.
pub fn steps(store: &Store, id: IncidentId, max: usize) -> Result<Vec<StepRow>, ReadError> {
    let mut steps: Vec<StepRow> = Vec::new();
    while steps.len() < max {
        let after = steps.last().map_or(0, |last| last.number);
        let page = store.steps(id, after, max - steps.len())?;
        if page.is_empty() {
            break;
        }
        steps.extend(page);
    }
    Ok(steps)
}

/// At most so many bytes, whole characters.
#[must_use]
pub fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

impl Plane {
    /// A key under which a change is made once, however often it is tried.
    fn once(&self, what: &str, leaves: &[Vec<u8>]) -> Result<IdempotencyKey, Trouble> {
        let name = model::Digest(crate::plane::random()?);
        Ok(IdempotencyKey {
            key: format!("{what}/{name}"),
            request: digest(&leaves.concat()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_cut_text_is_whole_characters() {
        assert_eq!(cut("häuser".into(), 2), "h");
        assert_eq!(cut("häuser".into(), 3), "hä");
        assert_eq!(cut("kurz".into(), 512), "kurz");
    }
}
