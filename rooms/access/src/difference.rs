//! What another fleet would change: which things of it, and who gains and who loses which grant.

use crate::class::Facts;
use crate::compile::{Action, Cells, Relation};
use crate::fleet::{Channel, ChannelId, Fleet};
use crate::grants::Grants;
use model::{PolicyId, Principal};
use std::collections::{BTreeMap, BTreeSet};

/// From one fleet to another, over a population.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// By kind and name.
    pub things: Vec<Thing>,
    /// By channel.
    pub gains: Vec<Shift>,
    /// By channel.
    pub losses: Vec<Shift>,
    /// Who is in no class of the new fleet, and so denied everything, by reason.
    pub unclassified: Vec<Unclassified>,
}

/// Something that a fleet declares.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thing {
    /// `channel`, `policy`: the word for it.
    pub kind: &'static str,
    pub name: String,
    pub how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    Added,
    Changed,
    Removed,
}

/// A grant that some gain or lose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shift {
    pub channel: ChannelId,
    /// `publish` or `receive`.
    pub action: &'static str,
    /// Only topics of their own; otherwise those of all others.
    pub own: bool,
    /// What permits it afterwards, or did before.
    pub policy: Option<PolicyId>,
    pub principals: Principals,
}

/// How many, and the first few of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Principals {
    pub devices: u64,
    pub services: u64,
    /// At most [`EXAMPLES_MAX`].
    pub examples: Vec<Principal>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclassified {
    pub reason: String,
    pub principals: Principals,
}

pub const EXAMPLES_MAX: usize = 3;
/// Reasons name products and groups, so there are few; a broken list could hold many.
const REASONS_MAX: usize = 20;

impl Grants {
    /// What `next` would change for `population`. The services that either fleet declares are always
    /// in it. Reads each of the population once; everything else is done once per pair of classes.
    #[must_use]
    pub fn difference(&self, next: &Self, population: impl Iterator<Item = Facts>) -> Difference {
        let mut moves: BTreeMap<(Option<u32>, Option<u32>), Principals> = BTreeMap::new();
        let mut unclassified: BTreeMap<String, Principals> = BTreeMap::new();
        for facts in services(self, next).chain(population) {
            let (from, to) = (self.class_of(&facts), next.class_of(&facts));
            if let Some(reason) = next.unclassified(&facts)
                && from.is_some()
                && (unclassified.contains_key(&reason) || unclassified.len() < REASONS_MAX)
            {
                unclassified
                    .entry(reason)
                    .or_default()
                    .add(&facts.principal);
            }
            moves.entry((from, to)).or_default().add(&facts.principal);
        }
        let mut gains = BTreeMap::new();
        let mut losses = BTreeMap::new();
        for ((from, to), principals) in &moves {
            let mut shift = Shifting {
                principals,
                gains: &mut gains,
                losses: &mut losses,
            };
            shift.over((self, *from), (next, *to));
        }
        Difference {
            things: self.fleet().changed_things(next.fleet()),
            gains: shifts(gains),
            losses: shifts(losses),
            unclassified: (unclassified.into_iter())
                .map(|(reason, principals)| Unclassified { reason, principals })
                .collect(),
        }
    }
}

/// Those of both fleets, once.
fn services(before: &Grants, next: &Grants) -> impl Iterator<Item = Facts> {
    let ids: BTreeSet<_> = [before, next]
        .into_iter()
        .flat_map(|grants| grants.fleet().services().map(|one| one.id.clone()))
        .collect();
    ids.into_iter().map(|id| Facts {
        principal: Principal::Service(id),
        product: None,
        groups: Vec::new(),
        attributes: Default::default(),
        containment: None,
        assurance: model::Assurance::default(),
    })
}

type Key = (ChannelId, &'static str, bool, Option<PolicyId>);

/// The shifts of those who go from one class to another.
struct Shifting<'a> {
    principals: &'a Principals,
    gains: &'a mut BTreeMap<Key, Principals>,
    losses: &'a mut BTreeMap<Key, Principals>,
}

impl Shifting<'_> {
    fn over(&mut self, before: (&Grants, Option<u32>), next: (&Grants, Option<u32>)) {
        let old: BTreeMap<_, _> = channels(before).collect();
        let new: BTreeMap<_, _> = channels(next).collect();
        let ids: BTreeSet<&ChannelId> = old.keys().chain(new.keys()).copied().collect();
        for id in ids {
            let (was, is) = (old.get(id), new.get(id));
            // Other topics under the same name: what was granted is lost, whatever is gained.
            let same_topics = match (was, is) {
                (Some((was, _)), Some((is, _))) => was.template == is.template,
                _ => false,
            };
            for (relation, action) in [
                (Relation::Own, Action::Publish),
                (Relation::Own, Action::Receive),
                (Relation::Other, Action::Publish),
                (Relation::Other, Action::Receive),
            ] {
                let cell = |side: Option<&(&Channel, Cells)>| {
                    side.map(|(_, cells)| cells.of(relation, action))
                        .filter(|cell| cell.is_permit())
                };
                let (was, is) = (cell(was), cell(is));
                if was.is_some() && is.is_some() && same_topics {
                    continue;
                }
                let own = relation == Relation::Own;
                let key = |grants: &Grants, policy: Option<u16>| {
                    let policy = policy.and_then(|index| grants.policy_id(index)).cloned();
                    ((*id).clone(), action.name(), own, policy)
                };
                if let Some(cell) = was {
                    let key = key(before.0, cell.policy());
                    self.losses.entry(key).or_default().join(self.principals);
                }
                if let Some(cell) = is {
                    let key = key(next.0, cell.policy());
                    self.gains.entry(key).or_default().join(self.principals);
                }
            }
        }
    }
}

fn channels(
    (grants, class): (&Grants, Option<u32>),
) -> impl Iterator<Item = (&ChannelId, (&Channel, Cells))> {
    (class.into_iter())
        .flat_map(|class| grants.cells_of(class))
        .map(|(channel, cells)| (&channel.id, (channel, cells)))
}

fn shifts(all: BTreeMap<Key, Principals>) -> Vec<Shift> {
    (all.into_iter())
        .map(|((channel, action, own, policy), principals)| Shift {
            channel,
            action,
            own,
            policy,
            principals,
        })
        .collect()
}

impl Principals {
    fn add(&mut self, principal: &Principal) {
        match principal {
            Principal::Device(_) => self.devices += 1,
            Principal::Service(_) => self.services += 1,
        }
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(principal.clone());
        }
    }

    fn join(&mut self, others: &Self) {
        self.devices += others.devices;
        self.services += others.services;
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        (self.examples).extend(others.examples.iter().take(room).cloned());
    }
}

impl Fleet {
    /// What `next` declares differently, by kind and name. A policy counts as changed if it means
    /// something else: comments do not.
    #[must_use]
    pub fn changed_things(&self, next: &Self) -> Vec<Thing> {
        let mut things = Vec::new();
        let mut compared = |kind, changes: Vec<(String, How)>| {
            things.extend((changes.into_iter()).map(|(name, how)| Thing { kind, name, how }));
        };
        compared(
            "channel",
            changes(self, next, |fleet| {
                fleet.channels().map(|one| (one.id.to_string(), one))
            }),
        );
        compared(
            "destination",
            changes(self, next, |fleet| {
                fleet.destinations().map(|one| (one.id.to_string(), one))
            }),
        );
        compared(
            "group",
            changes(self, next, |fleet| {
                fleet.groups().map(|one| (one.id.to_string(), one))
            }),
        );
        compared(
            "invariant",
            changes(self, next, |fleet| {
                fleet
                    .invariant_list()
                    .iter()
                    .map(|one| (one.id.clone(), &one.rule))
            }),
        );
        compared(
            "policy",
            changes(self, next, |fleet| {
                let policies = fleet.policy_list().iter();
                policies.map(|one| (one.id.to_string(), one.set.to_string()))
            }),
        );
        compared(
            "product",
            changes(self, next, |fleet| {
                fleet.products().map(|one| (one.id.to_string(), one))
            }),
        );
        compared(
            "service",
            changes(self, next, |fleet| {
                fleet.services().map(|one| (one.id.to_string(), one))
            }),
        );
        things
    }
}

/// By name.
fn changes<'f, T: PartialEq, I: Iterator<Item = (String, T)>>(
    before: &'f Fleet,
    next: &'f Fleet,
    list: impl Fn(&'f Fleet) -> I,
) -> Vec<(String, How)> {
    let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (list(before).collect(), list(next).collect());
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    (names.into_iter())
        .filter_map(|name| {
            let how = match (old.get(name), new.get(name)) {
                (None, Some(_)) => How::Added,
                (Some(_), None) => How::Removed,
                (old, new) if old != new => How::Changed,
                _ => return None,
            };
            Some((name.clone(), how))
        })
        .collect()
}
