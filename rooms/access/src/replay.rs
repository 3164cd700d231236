//! Recorded traffic under other grants: what of it would be refused, and what counts cannot tell.

use crate::class::Facts;
use crate::compile::{Action, Relation};
use crate::diagnostic::Diagnostic;
use crate::fleet::Channel;
use crate::grants::{Denied, Grants};
use crate::template::Template;
use crate::traffic::{DeviceCount, Kind, Stream, Tally, TrafficDay};
use model::{DenyReason, DeviceId, PolicyId, Principal, Verdict};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What was recorded, held against grants that are not in force yet.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// The first day of which anything is recorded; days since 1970.
    pub first_day: Option<u32>,
    pub sent: Outcome,
    pub heard: Outcome,
    /// What of both would not pass, most messages first.
    pub lines: Vec<ReplayLine>,
    /// Lines beyond those.
    pub left_out: usize,
    /// Messages of which nothing is known but that they were.
    pub untold: u64,
}

/// Of one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    pub messages: u64,
    pub refused: u64,
    /// Some of them would be refused, and how many cannot be told from counts.
    pub undecided: u64,
    /// Whose messages would be refused.
    pub devices: DeviceCount,
}

/// A kind of principal and a channel that would not pass.
#[derive(Debug, Clone)]
pub struct ReplayLine {
    pub kind: Kind,
    /// The template of its topics.
    pub topics: String,
    pub received: bool,
    pub own: bool,
    pub messages: u64,
    /// About how many; 0 for a service.
    pub devices: u64,
    pub why: Passes,
}

/// Whether what is recorded would pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passes {
    Yes,
    No {
        reason: DenyReason,
        policy: Option<PolicyId>,
    },
    /// Its channel's topics change: some may lie in another channel.
    TopicsChange,
    /// The largest was larger than the channel will take.
    SomeTooLarge,
}

const LINES_MAX: usize = 100;

/// Holds what was recorded against `next`. Rows may come in any order.
///
/// # Errors
/// As [`Grants::compile`]: a recorded kind of principal cannot be compiled.
pub fn replay(
    rows: impl IntoIterator<Item = TrafficDay>,
    next: &Grants,
) -> Result<Replay, Vec<Diagnostic>> {
    let mut replay = Replay::default();
    let mut streams: BTreeMap<Stream, Tally> = BTreeMap::new();
    for row in rows {
        let first = replay.first_day.map_or(row.day, |day| day.min(row.day));
        replay.first_day = Some(first);
        match row.stream {
            Some(stream) => streams.entry(stream).or_default().join(&row.tally),
            None => replay.untold = replay.untold.saturating_add(row.tally.messages),
        }
    }
    let channels: BTreeMap<String, &Channel> = (next.fleet().channels())
        .map(|channel| (channel.template.to_string(), channel))
        .collect();
    let mut grants = next.clone();
    for (stream, tally) in streams {
        let Some(facts) = stream.kind.facts() else {
            continue;
        };
        if let Some(extended) = grants.extended(&facts)? {
            grants = extended;
        }
        let why = passes(&grants, &channels, &facts, &stream, &tally);
        replay.add(stream, &tally, why);
    }
    (replay.lines).sort_by_key(|line| std::cmp::Reverse(line.messages));
    replay.left_out = replay.lines.len().saturating_sub(LINES_MAX);
    replay.lines.truncate(LINES_MAX);
    Ok(replay)
}

fn passes(
    grants: &Grants,
    channels: &BTreeMap<String, &Channel>,
    facts: &Facts,
    stream: &Stream,
    tally: &Tally,
) -> Passes {
    let refused = |reason| Passes::No {
        reason,
        policy: None,
    };
    let Some(class) = grants.class_of(facts) else {
        return refused(DenyReason::UnknownClass);
    };
    let Some(channel) = channels.get(&stream.topics) else {
        let then = Template::parse(&stream.topics).ok();
        let overlaps = |channel: &&Channel| {
            (then.as_ref()).is_some_and(|then| then.common_topic(&channel.template).is_some())
        };
        return if channels.values().any(overlaps) {
            Passes::TopicsChange
        } else {
            refused(DenyReason::UnlistedTopic)
        };
    };
    let relation = if stream.own {
        Relation::Own
    } else {
        Relation::Other
    };
    let action = if stream.received {
        Action::Receive
    } else {
        Action::Publish
    };
    let mut cells = grants.cells_of(class);
    let cell = (cells.find(|(one, _)| one.id == channel.id))
        .map(|(_, cells)| cells.of(relation, action))
        .unwrap_or_default();
    if !cell.is_permit() {
        return match grants.verdict(&Denied::by(cell)) {
            Verdict::Deny { reason, policy } => Passes::No { reason, policy },
            Verdict::Permit { .. } => Passes::Yes,
        };
    }
    if !stream.received && tally.bytes_max > channel.payload_bytes_max {
        return Passes::SomeTooLarge;
    }
    Passes::Yes
}

impl Replay {
    fn add(&mut self, stream: Stream, tally: &Tally, why: Passes) {
        let outcome = if stream.received {
            &mut self.heard
        } else {
            &mut self.sent
        };
        let to = |sum: &mut u64| *sum = sum.saturating_add(tally.messages);
        to(&mut outcome.messages);
        match &why {
            Passes::Yes => return,
            Passes::No { .. } => {
                to(&mut outcome.refused);
                outcome.devices.join(&tally.devices);
            }
            Passes::TopicsChange | Passes::SomeTooLarge => to(&mut outcome.undecided),
        }
        self.lines.push(ReplayLine {
            kind: stream.kind,
            topics: stream.topics,
            received: stream.received,
            own: stream.own,
            messages: tally.messages,
            devices: tally.devices.estimate(),
            why,
        });
    }
}

impl Kind {
    /// Somebody of this kind. The name is nobody's: no policy can see it.
    pub(crate) fn facts(&self) -> Option<Facts> {
        let principal = match &self.service {
            Some(service) => Principal::Service(service.clone()),
            None => Principal::Device(DeviceId::new("any").ok()?),
        };
        Some(Facts {
            principal,
            product: self.product.clone(),
            groups: self.groups.clone(),
            attributes: Arc::default(),
            containment: None,
            assurance: self.assurance,
        })
    }
}
