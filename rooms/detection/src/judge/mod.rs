//! One judge for each way to behave otherwise.

pub mod failures;
pub mod interfaces;
pub mod protocol;
pub mod rates;
pub mod reports;
pub mod sets;

use crate::text::shown;
use crate::{Feature, Observation};
use model::{Attribution, DeviationKind, Severity, Source, Timestamp};

/// From where something was seen.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    pub now: Timestamp,
    pub source: Source,
    pub attribution: Attribution,
    /// The door, where there is one.
    door: Option<&'a str>,
}

impl<'a> Sight<'a> {
    pub fn of(observation: &'a Observation, now: Timestamp) -> Self {
        let door = match &observation.feature {
            Feature::TlsSession { door, .. }
            | Feature::HandshakeFailed { door, .. }
            | Feature::ProtocolTooOld { door, .. } => Some(door.as_str()),
            _ => None,
        };
        Self {
            now,
            source: observation.source,
            attribution: observation.attribution,
            door,
        }
    }

    /// What we notice ourselves: that something did not come. Absence proves nothing.
    pub const fn of_our_own(now: Timestamp) -> Self {
        Self {
            now,
            source: Source::Gateway,
            attribution: Attribution::Claimed,
            door: None,
        }
    }

    /// Only what is seen from outside the device, and proven, may teach what is normal.
    pub fn is_proven_outside(&self) -> bool {
        self.source != Source::Device && self.attribution == Attribution::Proven
    }

    /// `gateway (mqtt)`, `network (bridge port)`, `device report`.
    pub fn observed_by(&self) -> String {
        match (self.source, self.attribution, self.door) {
            (Source::Device, ..) => "device report".to_owned(),
            (Source::Gateway, _, Some(door)) => format!("gateway ({})", shown(door, 32)),
            (Source::Gateway, _, None) => "gateway".to_owned(),
            (Source::Network, Attribution::Proven, _) => "network (bridge port)".to_owned(),
            (Source::Network, ..) => "network (by address)".to_owned(),
        }
    }
}

/// What a judge found.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    pub kind: DeviationKind,
    pub entity: String,
    pub expected: String,
    pub seen: String,
    pub since: Timestamp,
    pub severity: Severity,
    /// The fleet declares it or a person accepted it.
    pub accepted: bool,
}
