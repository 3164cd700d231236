//! What one device could do if it were hijacked: by topics, whom it would reach there, and by network.

use crate::behaviour::DestinationId;
use crate::class::Facts;
use crate::compile::{Action, Cell, Cells, Relation};
use crate::fleet::Channel;
use crate::grants::Grants;
use model::{DeviceId, PolicyId, Principal, ServiceId};
use std::collections::BTreeMap;

/// One step from a device. What those who hear it hand on is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlastRadius {
    pub channels: Vec<Touched>,
    pub destinations: BTreeMap<DestinationId, Option<PolicyId>>,
}

/// A channel in which it may send or hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    pub channel: String,
    /// In its own topics.
    pub publishes_own: Option<PolicyId>,
    /// In topics of others, or of nobody.
    pub publishes_others: Option<PolicyId>,
    pub receives_own: Option<PolicyId>,
    pub receives_others: Option<PolicyId>,
    /// Who would hear what it sends.
    pub services: BTreeMap<ServiceId, PolicyId>,
    pub devices: u64,
    /// The first few of these, and by which policy each hears it.
    pub examples: Vec<(DeviceId, PolicyId)>,
}

const EXAMPLES_MAX: usize = 5;

impl Grants {
    /// What `facts` could reach now, its containment included. `population` is everybody else, and
    /// may hold it too.
    #[must_use]
    pub fn blast_radius(
        &self,
        facts: &Facts,
        population: impl Iterator<Item = Facts>,
    ) -> BlastRadius {
        if facts.containment.is_some() {
            return BlastRadius::default();
        }
        let mut touched: Vec<(Touched, bool)> = (self.channels_with_cells(&self.subject(facts)))
            .filter_map(|(channel, cells)| self.touch(channel, cells))
            .map(|(channel, touched)| (touched, channel.template.has_owner()))
            .collect();
        let services = self.fleet().services().map(|service| Facts {
            principal: Principal::Service(service.id.clone()),
            product: None,
            groups: Vec::new(),
            attributes: std::sync::Arc::default(),
            containment: None,
            assurance: model::Assurance::default(),
        });
        // Whoever is of one class hears the same.
        let mut by_class: BTreeMap<Option<u32>, Vec<Option<PolicyId>>> = BTreeMap::new();
        for other in population.chain(services) {
            if other.principal == facts.principal || other.containment.is_some() {
                continue;
            }
            let heard = (by_class.entry(self.class_of(&other)))
                .or_insert_with(|| self.heard(&other, &touched));
            for ((touched, _), policy) in touched.iter_mut().zip(heard.iter()) {
                if let Some(policy) = policy {
                    touched.hear(&other.principal, policy.clone());
                }
            }
        }
        BlastRadius {
            channels: touched.into_iter().map(|(touched, _)| touched).collect(),
            destinations: self.destinations(facts),
        }
    }

    /// By which policy somebody hears each of these channels from the device, if one.
    fn heard(&self, other: &Facts, touched: &[(Touched, bool)]) -> Vec<Option<PolicyId>> {
        let subject = self.subject(other);
        let cells: BTreeMap<&str, Cells> = (self.channels_with_cells(&subject))
            .map(|(channel, cells)| (channel.id.as_str(), cells))
            .collect();
        let is_device = matches!(other.principal, Principal::Device(_));
        let heard = touched.iter().map(|(touched, has_owner)| {
            let cells = cells.get(touched.channel.as_str())?;
            let hears = |relation| self.permitting(cells.of(relation, Action::Receive));
            // In its own topics another hears it as one that does not own them; in a device's topics
            // that device does so as their owner.
            let by_own = (touched.publishes_own.as_ref()).and_then(|_| hears(Relation::Other));
            let by_others = (touched.publishes_others.as_ref()).and_then(|_| {
                let as_owner = (*has_owner && is_device)
                    .then(|| hears(Relation::Own))
                    .flatten();
                as_owner.or_else(|| hears(Relation::Other))
            });
            by_own.or(by_others)
        });
        heard.collect()
    }

    fn touch<'c>(&self, channel: &'c Channel, cells: Cells) -> Option<(&'c Channel, Touched)> {
        let own = |action| {
            let cell = cells.of(Relation::Own, action);
            channel
                .template
                .has_owner()
                .then(|| self.permitting(cell))
                .flatten()
        };
        let others = |action| self.permitting(cells.of(Relation::Other, action));
        let touched = Touched {
            channel: channel.id.to_string(),
            publishes_own: own(Action::Publish),
            publishes_others: others(Action::Publish),
            receives_own: own(Action::Receive),
            receives_others: others(Action::Receive),
            services: BTreeMap::new(),
            devices: 0,
            examples: Vec::new(),
        };
        let is_touched = touched.publishes_own.is_some()
            || touched.publishes_others.is_some()
            || touched.receives_own.is_some()
            || touched.receives_others.is_some();
        is_touched.then_some((channel, touched))
    }

    fn permitting(&self, cell: Cell) -> Option<PolicyId> {
        let policy = cell.policy().filter(|_| cell.is_permit());
        policy.and_then(|policy| self.policy_id(policy)).cloned()
    }
}

impl Touched {
    fn hear(&mut self, who: &Principal, policy: PolicyId) {
        match who {
            Principal::Service(service) => {
                self.services.insert(service.clone(), policy);
            }
            Principal::Device(device) => {
                self.devices += 1;
                if self.examples.len() < EXAMPLES_MAX {
                    self.examples.push((device.clone(), policy));
                }
            }
        }
    }
}
