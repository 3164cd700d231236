//! What goes into the machine and what comes out.

use crate::incident::{Incident, Step};
use model::{
    Attribution, Containment, DeviationKind, DeviceId, IncidentId, ProductId, Severity, Source,
    Subject, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An alert, with all that a decision about it may depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertSeen {
    pub subject: Subject,
    /// The product whose baseline was compared with; `None` if the subject has none.
    pub device_group: Option<ProductId>,
    /// Devices in that group.
    pub group_size: u64,
    /// Devices in the whole fleet.
    pub fleet_size: u64,
    pub kind: DeviationKind,
    /// What distinguishes this alert from others of its kind: an address and port, a topic.
    pub entity: String,
    pub expected: String,
    pub seen: String,
    pub since: Timestamp,
    pub at: Timestamp,
    pub source: Source,
    pub attribution: Attribution,
    pub severity: Severity,
    /// Who saw it, in words: `gateway`, `network (bridge port)`, `device report`.
    pub observed_by: String,
    /// Many peers show the same: one incident about the group, and nobody is cut off for it.
    pub fleet_event: bool,
    /// It was compared with what `fleet/` declares or a person accepted.
    pub accepted_baseline: bool,
    /// The device is revoked: the alert is history and triggers nothing.
    pub revoked: bool,
}

impl AlertSeen {
    /// May an automatic act rest on it: proven, not told by the device itself, and against a
    /// baseline that a person answers for.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        self.is_sure() && self.source != Source::Device
    }

    /// May it be counted towards an act that has outside evidence too.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.attribution == Attribution::Proven && self.accepted_baseline
    }
}

/// Names one act that the machine asked for; the same after a restart. Prints `INC-7.3`, which is
/// also the idempotency id of what leaves the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    pub incident: IncidentId,
    /// From 1, never used twice in an incident.
    pub number: u32,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incident, self.number)
    }
}

/// How an act ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done {
        /// Leaf index of its entry in the log, where it has one.
        entry: Option<u64>,
        /// What it did, in words: `2 sessions closed`. May be empty.
        note: String,
    },
    Failed {
        why: String,
    },
}

/// What somebody who may do so decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonAct {
    /// As in the log: `admin/a1B2`, `local/uid-1000`.
    pub actor: String,
    pub reason: String,
    pub decision: Decision,
    /// `Some` if it has been carried out already: it is only told then, and no effect asks for it.
    pub outcome: Option<Outcome>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Contain {
        device: DeviceId,
        containment: Containment,
    },
    Revoke {
        device: DeviceId,
    },
    /// Also tells the playbooks to keep off: what this person has seen does not count again, and
    /// for [`crate::Settings::rest`] no playbook cuts this device off.
    Restore {
        device: DeviceId,
    },
    /// The device stays cut off until it is restored.
    Close {
        incident: IncidentId,
    },
}

/// What the plane carries out, in this order. An incident is stored before the acts it asks for,
/// so that a crash forgets none; if the store refuses, what withdraws is carried out all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A new incident: store it, say it in the log.
    Open(Box<Incident>),
    /// The incident as it is now: store it over the last.
    Changed(Box<Incident>),
    /// A line of the timeline: append it.
    Step(IncidentId, Step),
    /// Cut off, then call [`crate::Responder::done`] with the token. Asking twice does no harm.
    Contain {
        token: Token,
        device: DeviceId,
        containment: Containment,
        incident: IncidentId,
        by: String,
    },
    /// As for containing.
    Revoke {
        token: Token,
        device: DeviceId,
        incident: IncidentId,
        by: String,
    },
    /// A person gives back what was taken; durable first, as it grants. As for containing.
    Restore {
        token: Token,
        device: DeviceId,
        incident: IncidentId,
        by: String,
    },
    /// Tell somebody outside; `done` when it is durably queued, not when it arrived.
    Notify {
        token: Token,
        incident: IncidentId,
        /// The name of a receiver, from the playbook or the settings.
        to: String,
        /// One line, printable.
        subject: String,
        /// Lines, printable.
        text: String,
    },
    /// A playbook would have acted and did not: a person decides. Its step says so too.
    Held {
        incident: IncidentId,
        playbook: String,
        why: Held,
    },
    /// Store it, say it in the log.
    Close(Box<Incident>),
}

/// Why a playbook did not act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// It is in mode `observe`.
    Observes,
    /// Not proven, or seen by nobody but the device, or no baseline is accepted.
    NotProven,
    /// Its own cap: devices an hour.
    Cap { devices_max: u64 },
    /// The cap over all playbooks: devices an hour.
    CapOfAll { devices_max: u64 },
    /// A person restored this device.
    PersonDecided,
    /// It did this once in this incident already.
    ActedAlready,
    /// The act was tried and failed.
    Failed { why: String },
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Observes => f.write_str("it only observes"),
            Self::NotProven => f.write_str(
                "not proven from outside the device against an accepted baseline; a person decides",
            ),
            Self::Cap { devices_max } => write!(
                f,
                "its cap of {devices_max} devices an hour is reached; a person decides"
            ),
            Self::CapOfAll { devices_max } => write!(
                f,
                "the cap of all playbooks, {devices_max} devices an hour, is reached; a person \
                 decides"
            ),
            Self::PersonDecided => f.write_str("a person restored this device; a person decides"),
            Self::ActedAlready => {
                f.write_str("it did so once in this incident already; a person decides")
            }
            Self::Failed { why } => write!(f, "it failed ({why}); a person decides"),
        }
    }
}

/// What a plane knows when it starts again.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    /// [`Incident::to_bytes`] of each that is open, and of each that changed within a day.
    pub incidents: Vec<Vec<u8>>,
    /// Who is cut off now.
    pub containments: Vec<(DeviceId, Containment)>,
    /// The greatest number that an incident ever had; 0 for none.
    pub last_incident: u64,
}
