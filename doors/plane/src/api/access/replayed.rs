//! What of the recorded traffic a plan would refuse, as the API says it.

use crate::fleet::planning::Replayed as Found;
use access::{Passes, ReplayLine};
use serde::Serialize;
use utoipa::ToSchema;

/// Counts of thirty days at most. No message, topic or device's name is recorded, so devices are
/// estimates (right within a tenth), and what a new contract would refuse is not among it.
#[derive(Serialize, ToSchema)]
pub struct Replayed {
    /// Days since the first that is recorded, today included; 0: nothing is.
    days: u32,
    /// Taken of devices and services.
    sent: TrafficOutcome,
    /// Delivered to devices and services.
    heard: TrafficOutcome,
    /// Messages of kinds beyond the 10,000 that a day tells apart.
    untold: u64,
    /// What of both would not pass, most messages first; 100 at most.
    lines: Vec<TrafficLine>,
    /// Lines beyond those.
    left_out: u64,
}

#[derive(Serialize, ToSchema)]
pub struct TrafficOutcome {
    messages: u64,
    refused: u64,
    /// Some of these would be refused; how many, counts cannot tell.
    undecided: u64,
    /// About how many devices those that would be refused are of.
    devices: u64,
}

#[derive(Serialize, ToSchema)]
pub struct TrafficLine {
    /// Who: `product camera, group beta` or `service ingest`.
    kind: String,
    /// The channel's topics, as they were when it was recorded.
    topics: String,
    /// `publish` or `receive`.
    action: &'static str,
    /// Topics of their own; otherwise those of others.
    own: bool,
    messages: u64,
    /// About how many; 0 for a service.
    devices: u64,
    /// Devices that are of this kind now, the first few.
    examples: Vec<String>,
    /// `unlisted-topic`, `no-permit`, `forbidden` or `unknown-class`; `topics-change` and
    /// `some-too-large` are undecided.
    reason: &'static str,
    /// What forbids it.
    policy: Option<String>,
}

impl From<Found> for Replayed {
    fn from(found: Found) -> Self {
        let Found {
            days,
            replay,
            examples,
        } = found;
        let lines = (replay.lines.iter().zip(examples))
            .map(|(line, examples)| TrafficLine::new(line, examples))
            .collect();
        Self {
            days,
            sent: replay.sent.into(),
            heard: replay.heard.into(),
            untold: replay.untold,
            lines,
            left_out: replay.left_out as u64,
        }
    }
}

impl From<access::ReplayOutcome> for TrafficOutcome {
    fn from(outcome: access::ReplayOutcome) -> Self {
        Self {
            messages: outcome.messages,
            refused: outcome.refused,
            undecided: outcome.undecided,
            devices: outcome.devices.estimate(),
        }
    }
}

impl TrafficLine {
    fn new(line: &ReplayLine, examples: Vec<String>) -> Self {
        let (reason, policy) = match &line.why {
            Passes::Yes => ("permitted", None),
            Passes::No { reason, policy } => (reason.name(), policy.as_ref()),
            Passes::TopicsChange => ("topics-change", None),
            Passes::SomeTooLarge => ("some-too-large", None),
        };
        Self {
            kind: line.kind.to_string(),
            topics: line.topics.clone(),
            action: if line.received { "receive" } else { "publish" },
            own: line.own,
            messages: line.messages,
            devices: line.devices,
            examples,
            reason,
            policy: policy.map(ToString::to_string),
        }
    }
}
