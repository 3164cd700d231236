//! Deviations of one thing become one alert; the same on many peers becomes one event.

use crate::{AlertSettings, Deviation};
use model::{Attribution, DeviationKind, ProductId, Severity, Source, Subject, Timestamp};
use std::fmt;

/// The number of an alert, from 1, never used twice. Prints `ALERT-7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertId(pub u64);

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ALERT-{}", self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertState {
    /// Somebody should look, or a playbook does.
    Open,
    /// The same spreads over peers; waits whether it becomes an event of the fleet.
    Held,
    /// Part of an event of the fleet, which stands for it.
    Folded,
    /// No news for long, or closed by a person.
    Closed,
}

impl AlertState {
    pub const ALL: [Self; 4] = [Self::Open, Self::Held, Self::Folded, Self::Closed];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Held => "held",
            Self::Folded => "folded",
            Self::Closed => "closed",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// All deviations of one kind and entity of one subject; or, as an event of the fleet, of many.
///
/// What stands here is the strongest evidence so far: proven before claimed, from outside before
/// the device's own word, then the graver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub id: AlertId,
    /// In an event of the fleet: the subject that made it one.
    pub subject: Subject,
    pub group: Option<ProductId>,
    pub group_size: u64,
    pub kind: DeviationKind,
    pub entity: String,
    pub severity: Severity,
    pub state: AlertState,
    /// Deviations so far.
    pub count: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub since: Timestamp,
    pub expected: String,
    pub seen: String,
    pub source: Source,
    pub attribution: Attribution,
    pub observed_by: String,
    pub accepted_baseline: bool,
    /// One for each way in which it was seen, at most 16.
    pub evidence: Vec<Evidence>,
    /// An event of the fleet: the same on `subjects` of a group. A person decides on it.
    pub fleet_event: bool,
    pub subjects: u64,
}

/// One way in which a deviation was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub at: Timestamp,
    pub expected: String,
    pub seen: String,
    pub source: Source,
    pub attribution: Attribution,
    pub observed_by: String,
    pub severity: Severity,
    pub accepted_baseline: bool,
}

/// What is new. The alert is read by [`Alerts::alert`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlertChange {
    /// A new alert, or one that was held back or closed and is open now.
    Raised(AlertId),
    /// It is graver or better attested than before.
    Grew(AlertId),
    /// The same on many of a group: `event` stands for all of `folded` from now on.
    FleetEvent {
        event: AlertId,
        folded: Vec<AlertId>,
    },
    Closed(AlertId),
}

/// All alerts there are.
#[derive(Debug)]
pub struct Alerts {
    settings: AlertSettings,
}

impl Alerts {
    #[must_use]
    pub fn new(settings: AlertSettings) -> Self {
        Self { settings }
    }

    /// Alerts of an earlier run, as they were kept.
    pub fn restore(&mut self, _alerts: impl IntoIterator<Item = Alert>) {
        let _ = &self.settings;
    }

    /// Takes one deviation; appends what is new by it (nothing, if it only counts).
    pub fn raise(&mut self, _deviation: &Deviation, _out: &mut Vec<AlertChange>) {}

    /// Lets go what was held back, closes what is quiet. Call at [`Self::next_deadline`] or later.
    pub fn wake(&mut self, _now: Timestamp, _out: &mut Vec<AlertChange>) {}

    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    #[must_use]
    pub fn alert(&self, _id: AlertId) -> Option<&Alert> {
        None
    }

    /// By number.
    pub fn iter(&self) -> impl Iterator<Item = &Alert> {
        std::iter::empty()
    }

    /// A person has dealt with it. False if there is none or it is closed.
    pub fn close(&mut self, _id: AlertId) -> bool {
        false
    }

    /// A device is gone: its alerts go with it.
    pub fn forget(&mut self, _subject: &Subject) {}
}
