//! The map of segments: who is treated alike, what they may do, and what of it they did.

use crate::behaviour::DestinationId;
use crate::class::Facts;
use crate::compile::{Action, Cells, Relation};
use crate::fleet::{Channel, ChannelId};
use crate::grants::Grants;
use crate::traffic::{DeviceCount, Kind, TrafficDay};
use model::{PolicyId, Principal};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everybody, by what they may reach.
#[derive(Debug, Clone, Default)]
pub struct SegmentMap {
    /// Devices first, those of most devices before others, then services.
    pub segments: Vec<Segment>,
    /// Segments beyond those.
    pub left_out: usize,
}

/// All who may do the same in every channel and with every destination.
#[derive(Debug, Clone)]
pub struct Segment {
    pub is_service: bool,
    /// Devices or services.
    pub members: u64,
    /// In order; the first of them.
    pub kinds: Vec<Kind>,
    pub kinds_left_out: usize,
    /// Channels in which something is granted, in their order.
    pub channels: Vec<Reaching>,
    /// In their order.
    pub destinations: Vec<DestinationId>,
}

/// What a segment may do in a channel.
#[derive(Debug, Clone)]
pub struct Reaching {
    pub channel: ChannelId,
    pub publish: Option<Right>,
    pub receive: Option<Right>,
}

#[derive(Debug, Clone)]
pub struct Right {
    /// What permits the widest of it.
    pub policy: Option<PolicyId>,
    /// Topics that are not its own: one of the segment reaches many.
    pub others: bool,
    /// What of it was recorded.
    pub messages: u64,
    pub devices: DeviceCount,
}

const SEGMENTS_MAX: usize = 1000;
const KINDS_MAX: usize = 50;

/// Per channel of the fleet four bits, and the destinations.
type Row = (Vec<u8>, Vec<DestinationId>);

const CASES: [(Relation, Action); 4] = [
    (Relation::Own, Action::Publish),
    (Relation::Own, Action::Receive),
    (Relation::Other, Action::Publish),
    (Relation::Other, Action::Receive),
];

impl Grants {
    /// The map of `population` and of the services that the fleet declares, with what was recorded.
    /// Containment is left out: it is a matter of one device and of a day.
    #[must_use]
    pub fn segments(
        &self,
        population: impl Iterator<Item = Facts>,
        recorded: &[TrafficDay],
    ) -> SegmentMap {
        let services = self.fleet().services().map(|service| Facts {
            principal: Principal::Service(service.id.clone()),
            product: None,
            groups: Vec::new(),
            attributes: Arc::default(),
            containment: None,
            assurance: model::Assurance::default(),
        });
        let mut members: BTreeMap<Kind, u64> = BTreeMap::new();
        for facts in population.chain(services) {
            *members.entry(Kind::of(&facts)).or_default() += 1;
        }
        let mut alike: BTreeMap<(bool, Row), Vec<(Kind, u64)>> = BTreeMap::new();
        for (kind, count) in members {
            let Some(facts) = kind.facts() else { continue };
            let row = self.row(&facts);
            let key = (kind.service.is_some(), row);
            alike.entry(key).or_default().push((kind, count));
        }
        let used = self.used(recorded);
        let mut segments: Vec<Segment> = (alike.into_iter())
            .map(|((is_service, (_, destinations)), kinds)| {
                self.segment(is_service, destinations, kinds, &used)
            })
            .collect();
        segments.sort_by_key(|one| (one.is_service, std::cmp::Reverse(one.members)));
        let left_out = segments.len().saturating_sub(SEGMENTS_MAX);
        segments.truncate(SEGMENTS_MAX);
        SegmentMap { segments, left_out }
    }

    fn row(&self, facts: &Facts) -> Row {
        let class = self.class_of(facts);
        let cells = class.into_iter().flat_map(|class| self.cells_of(class));
        let bits = |(channel, cells): (&Channel, Cells)| {
            let cases = (0u8..).zip(CASES);
            let held = cases
                .filter(|(_, (relation, action))| may(facts, channel, &cells, *relation, *action));
            held.fold(0, |bits, (bit, _)| bits | 1 << bit)
        };
        (
            cells.map(bits).collect(),
            self.destinations(facts).into_keys().collect(),
        )
    }

    /// By kind, channel and way: how much, of how many.
    fn used(&self, recorded: &[TrafficDay]) -> BTreeMap<(Kind, ChannelId, bool), Right> {
        let channels: BTreeMap<String, &ChannelId> = (self.fleet().channels())
            .map(|channel| (channel.template.to_string(), &channel.id))
            .collect();
        let mut used: BTreeMap<_, Right> = BTreeMap::new();
        for day in recorded {
            let Some(stream) = &day.stream else { continue };
            let Some(channel) = channels.get(&stream.topics) else {
                continue;
            };
            let key = (stream.kind.clone(), (*channel).clone(), stream.received);
            let sum = used
                .entry(key)
                .or_insert_with(|| Right::unused(None, false));
            sum.messages = sum.messages.saturating_add(day.tally.messages);
            sum.devices.join(&day.tally.devices);
        }
        used
    }

    fn segment(
        &self,
        is_service: bool,
        destinations: Vec<DestinationId>,
        kinds: Vec<(Kind, u64)>,
        used: &BTreeMap<(Kind, ChannelId, bool), Right>,
    ) -> Segment {
        let facts = kinds.first().and_then(|(kind, _)| kind.facts());
        let class = facts.as_ref().and_then(|facts| self.class_of(facts));
        let cells = class.into_iter().flat_map(|class| self.cells_of(class));
        let channels = cells.filter_map(|(channel, cells)| {
            let right = |action, received| {
                let facts = facts.as_ref()?;
                let mut right = self.right(facts, channel, &cells, action)?;
                for (kind, _) in &kinds {
                    if let Some(sum) = used.get(&(kind.clone(), channel.id.clone(), received)) {
                        right.messages = right.messages.saturating_add(sum.messages);
                        right.devices.join(&sum.devices);
                    }
                }
                Some(right)
            };
            let (publish, receive) = (right(Action::Publish, false), right(Action::Receive, true));
            (publish.is_some() || receive.is_some()).then(|| Reaching {
                channel: channel.id.clone(),
                publish,
                receive,
            })
        });
        Segment {
            is_service,
            channels: channels.collect(),
            destinations,
            members: kinds.iter().map(|(_, count)| count).sum(),
            kinds_left_out: kinds.len().saturating_sub(KINDS_MAX),
            kinds: kinds
                .into_iter()
                .take(KINDS_MAX)
                .map(|(kind, _)| kind)
                .collect(),
        }
    }

    fn right(
        &self,
        facts: &Facts,
        channel: &Channel,
        cells: &Cells,
        action: Action,
    ) -> Option<Right> {
        let wide = [Relation::Other, Relation::Own];
        let relation =
            (wide.into_iter()).find(|relation| may(facts, channel, cells, *relation, action))?;
        let policy = cells.of(relation, action).policy();
        let policy = policy.and_then(|policy| self.policy_id(policy)).cloned();
        let others = relation == Relation::Other;
        Some(Right::unused(
            policy,
            others && channel.template.has_owner(),
        ))
    }
}

/// Whether a permit is one that can be used: nobody owns anything where there is no owner, and a
/// service nowhere.
fn may(
    facts: &Facts,
    channel: &Channel,
    cells: &Cells,
    relation: Relation,
    action: Action,
) -> bool {
    let owns = matches!(facts.principal, Principal::Device(_)) && channel.template.has_owner();
    (relation == Relation::Other || owns) && cells.of(relation, action).is_permit()
}

impl Right {
    fn unused(policy: Option<PolicyId>, others: bool) -> Self {
        Self {
            policy,
            others,
            messages: 0,
            devices: DeviceCount::default(),
        }
    }
}
