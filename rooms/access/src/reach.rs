//! All that one principal can reach, for a person: before and after it is contained.

use crate::behaviour::DestinationId;
use crate::builtin::Builtin;
use crate::class::Facts;
use crate::compile::{Action, Relation};
use crate::grants::Grants;
use model::{Containment, PolicyId, Principal};
use std::collections::{BTreeMap, BTreeSet};

/// Channels and destinations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// In the order of their names, the plane's own at the end.
    pub channels: Vec<Reached>,
    /// With which it may speak besides the plane. A gateway and its agent enforce it.
    pub destinations: Vec<DestinationId>,
}

/// One channel, as far as it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The channel's id; those that begin with `$fleetward/` or `$aws/` are the plane's own.
    pub channel: String,
    pub publishes: bool,
    pub receives: bool,
    /// Also topics of other devices: by it, one can reach many.
    pub others: bool,
}

impl Grants {
    /// What `facts` can reach now, its containment included.
    #[must_use]
    pub fn reach(&self, facts: &Facts) -> Reach {
        let mut reach = Reach::default();
        let is_device = matches!(facts.principal, Principal::Device(_));
        if facts.containment.is_none() {
            reach.channels = self.reached_channels(facts);
            reach.destinations = self.destinations(facts).into_keys().collect();
        }
        if is_device && facts.containment != Some(Containment::Isolated) {
            for builtin in Builtin::ALL.into_iter().filter(|one| self.has(*one)) {
                let publishes = builtin.is_to_plane();
                reach.channels.push(Reached {
                    channel: builtin.name().to_owned(),
                    publishes,
                    receives: !publishes,
                    others: false,
                });
            }
        }
        reach
    }

    /// The destinations with which a device may speak while it is not contained, and the policy that
    /// permits each.
    #[must_use]
    pub fn destinations(&self, facts: &Facts) -> BTreeMap<DestinationId, Option<PolicyId>> {
        let product = facts
            .product
            .as_ref()
            .and_then(|product| self.fleet().product(product));
        let own: BTreeSet<&DestinationId> = (product.into_iter())
            .flat_map(|product| product.behaviour.places())
            .collect();
        let subject = self.subject(facts);
        let permitted =
            self.destinations_with_connects(&subject)
                .filter_map(|(destination, connects)| {
                    let is_own = own.contains(&destination.id);
                    let cell = connects.of(if is_own {
                        Relation::Own
                    } else {
                        Relation::Other
                    });
                    let policy = cell
                        .policy()
                        .and_then(|policy| self.policy_id(policy))
                        .cloned();
                    cell.is_permit().then(|| (destination.id.clone(), policy))
                });
        permitted.collect()
    }

    fn reached_channels(&self, facts: &Facts) -> Vec<Reached> {
        let subject = self.subject(facts);
        let is_device = matches!(facts.principal, Principal::Device(_));
        self.channels_with_cells(&subject)
            .filter_map(|(channel, cells)| {
                let may = |relation, action| cells.of(relation, action).is_permit();
                let own = is_device && channel.template.has_owner();
                let open =
                    |action| may(Relation::Other, action) || (own && may(Relation::Own, action));
                let reached = Reached {
                    channel: channel.id.to_string(),
                    publishes: open(Action::Publish),
                    receives: open(Action::Receive),
                    others: channel.template.has_owner()
                        && (may(Relation::Other, Action::Publish)
                            || may(Relation::Other, Action::Receive)),
                };
                (reached.publishes || reached.receives).then_some(reached)
            })
            .collect()
    }
}
