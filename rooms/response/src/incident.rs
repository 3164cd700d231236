//! An incident: about whom, what was seen, what was done, and what playbooks still mean to do.

use crate::effect::{Outcome, Token};
use crate::format;
use crate::playbook::Mode;
use model::{
    Attribution, Containment, DeviationKind, DeviceId, IncidentId, ProductId, Severity, Source,
    Subject, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Whom or what an incident is about. At most one incident about the same is open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    Subject(#[serde(with = "format::text")] Subject),
    /// Many devices at once: a release, an outage, or an attack on all. Nobody is cut off for it.
    Group {
        #[serde(with = "format::text_option")]
        product: Option<ProductId>,
        #[serde(with = "format::name")]
        kind: DeviationKind,
        entity: String,
    },
    /// More is seen from there than may open incidents of its own in an hour: a person decides.
    TooMany {
        #[serde(with = "format::name")]
        source: Source,
    },
}

impl About {
    #[must_use]
    pub const fn device(&self) -> Option<&DeviceId> {
        match self {
            Self::Subject(subject) => subject.device(),
            Self::Group { .. } | Self::TooMany { .. } => None,
        }
    }
}

/// `device/cam-1`, or `camera devices`.
impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(subject) => subject.fmt(f),
            Self::Group { product, .. } => match product {
                Some(product) => write!(f, "{product} devices"),
                None => f.write_str("many devices"),
            },
            Self::TooMany { source } => {
                write!(f, "too many incidents in an hour by {}", source.name())
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IncidentState {
    Open,
    /// Open, and its device is quarantined, isolated or revoked.
    Contained,
    Closed,
}

impl IncidentState {
    pub const ALL: [Self; 3] = [Self::Open, Self::Contained, Self::Closed];

    /// The name in the API and the CLI.
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

/// What is worked on. Its timeline is not in it: steps are appended beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    #[serde(with = "format::incident_id")]
    pub id: IncidentId,
    pub about: About,
    #[serde(with = "format::name")]
    pub state: IncidentState,
    /// The greatest of its evidence.
    #[serde(with = "format::name")]
    pub severity: Severity,
    #[serde(with = "format::millis")]
    pub opened_at: Timestamp,
    #[serde(with = "format::millis")]
    pub changed_at: Timestamp,
    #[serde(with = "format::millis_option")]
    pub closed_at: Option<Timestamp>,
    #[serde(with = "format::name_option")]
    pub containment: Option<Containment>,
    pub revoked: bool,
    /// One for each kind and entity, at most [`Incident::EVIDENCE_PER_KIND_MAX`] of a kind.
    pub evidence: Vec<Evidence>,
    /// Alerts that found no place among them, or lost it to a surer one.
    pub evidence_unlisted: u64,
    /// Steps of evidence in the timeline; beyond [`Incident::EVIDENCE_STEPS_MAX`] none is added.
    pub evidence_steps: u32,
    /// What was asked of the world, oldest first. Those of playbooks all stay, as none is asked
    /// for twice; finished ones of people are dropped beyond [`Incident::ACTS_MAX`].
    pub acts: Vec<Act>,
    pub acts_numbered: u32,
    pub runs: Vec<Run>,
    #[serde(with = "format::text_option")]
    pub group: Option<ProductId>,
    pub group_size: u64,
    pub fleet_size: u64,
}

impl Incident {
    pub const EVIDENCE_PER_KIND_MAX: usize = 6;
    pub const EVIDENCE_STEPS_MAX: u32 = 256;
    pub const ACTS_MAX: usize = 128;

    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != IncidentState::Closed
    }

    /// Distinct kinds of its evidence, in the order of [`DeviationKind`].
    #[must_use]
    pub fn kinds(&self) -> BTreeSet<DeviationKind> {
        self.evidence.iter().map(|one| one.kind).collect()
    }

    /// One line: `cam-1: unexpected-destination, new-listening-port and 2 more`.
    #[must_use]
    pub fn title(&self) -> String {
        let about = match &self.about {
            About::Subject(Subject::Device(device)) => device.to_string(),
            other => other.to_string(),
        };
        let kinds: Vec<&str> = self.kinds().into_iter().map(DeviationKind::name).collect();
        match kinds.as_slice() {
            [] => format!("{about}: decided by a person"),
            [first, second, rest @ ..] if rest.len() > 1 => {
                format!("{about}: {first}, {second} and {} more", rest.len())
            }
            few => format!("{about}: {}", few.join(", ")),
        }
    }

    #[must_use]
    pub fn act(&self, number: u32) -> Option<&Act> {
        self.acts.iter().find(|act| act.number == number)
    }

    #[must_use]
    pub const fn token(&self, number: u32) -> Token {
        Token {
            incident: self.id,
            number,
        }
    }
}

/// The alerts of one kind and entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    #[serde(with = "format::name")]
    pub kind: DeviationKind,
    pub entity: String,
    pub expected: String,
    pub seen: String,
    #[serde(with = "format::millis")]
    pub since: Timestamp,
    /// Last seen.
    #[serde(with = "format::millis")]
    pub at: Timestamp,
    pub count: u64,
    /// Of the surest alert: proven before claimed, outside before the device itself.
    #[serde(with = "format::name")]
    pub source: Source,
    #[serde(with = "format::name")]
    pub attribution: Attribution,
    #[serde(with = "format::name")]
    pub severity: Severity,
    pub observed_by: String,
    /// When it was last seen so surely that a playbook may count it.
    #[serde(with = "format::millis_option")]
    pub sure_at: Option<Timestamp>,
    /// When it was last seen so by somebody other than the device.
    #[serde(with = "format::millis_option")]
    pub outside_at: Option<Timestamp>,
}

/// What was asked of the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    pub number: u32,
    pub asked: Asked,
    /// `playbook/<name>` or a person.
    pub by: String,
    #[serde(with = "format::millis")]
    pub asked_at: Timestamp,
    /// `None` while it is under way, or if a crash came between.
    pub outcome: Option<Outcome>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    Contain(#[serde(with = "format::name")] Containment),
    Revoke,
    Restore,
    Notify {
        to: String,
        /// Why now: `opened`, `a person decides`, `playbook contain-hijacked`.
        why: String,
    },
}

impl Asked {
    /// Takes something away from the device, so that the caps count it.
    #[must_use]
    pub const fn withdraws(&self) -> bool {
        matches!(self, Self::Contain(_) | Self::Revoke)
    }
}

/// A playbook at work in one incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub playbook: String,
    #[serde(with = "format::name")]
    pub mode: Mode,
    /// When its conditions were met: its steps' seconds count from here.
    #[serde(with = "format::millis")]
    pub started_at: Timestamp,
    /// When it last looked whether a step is due.
    #[serde(with = "format::millis")]
    pub checked_at: Timestamp,
    /// One for each step of the playbook, in its order.
    pub steps: Vec<RunStep>,
    /// The playbook was changed or a person decided: it does nothing more.
    pub ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStep {
    /// For its time or for more evidence.
    Waiting,
    /// Asked for, by the act of this number.
    Asked(u32),
    /// Nothing to do: it is so already.
    Spared,
    /// A person decides.
    Held,
}

/// A line of the timeline. All text is printable and short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub at: Timestamp,
    /// `detection`, `playbook/<name>`, or a person as in the log.
    pub actor: String,
    pub what: String,
    pub expected: Option<String>,
    pub seen: Option<String>,
    /// Of evidence: who saw it.
    pub source: Option<Source>,
    pub attribution: Option<Attribution>,
    pub observed_by: Option<String>,
    /// Leaf index in the log, where there is an entry.
    pub entry: Option<u64>,
}
