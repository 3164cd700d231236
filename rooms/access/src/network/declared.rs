//! The rules of a product: its manufacturer's, and those of the destinations that `fleet/` declares.

use super::{Ports, Rule, protocol};
use crate::behaviour::{Destination, DestinationId};
use crate::fleet::{Direction, Fleet};
use model::{ProductId, Protocol};
use std::collections::BTreeSet;

impl Fleet {
    /// What devices of a product may say and hear in the network, before any policy is asked. What no
    /// rule accepts is denied.
    #[must_use]
    pub fn rules(&self, product: &ProductId) -> Vec<Rule> {
        let Some(product) = self.product(product) else {
            return Vec::new();
        };
        let mud = product.mud.as_ref();
        let mut rules = mud.map(|mud| mud.rules.clone()).unwrap_or_default();
        let of_mud: BTreeSet<DestinationId> =
            rules.iter().map(|rule| rule.destination.clone()).collect();
        let behaviour = &product.behaviour;
        let declared = behaviour.destinations.iter().flatten();
        for destination in declared.filter(|id| !of_mud.contains(*id)) {
            rules.extend(self.rules_to(destination));
        }
        for peer in (behaviour.serves.iter()).filter_map(|id| self.destination(id)) {
            let listens = behaviour.listens.iter().flatten();
            rules.extend(listens.map(|(transport, port)| Rule {
                device_ports: Ports::one(*port),
                ..rule(peer, Direction::ToDevice, Some(*transport))
            }));
        }
        rules
    }

    /// What a device may say to a destination that policies permit it, declared for it or not.
    #[must_use]
    pub fn rules_to(&self, id: &DestinationId) -> Vec<Rule> {
        let muds = self.products().filter_map(|product| product.mud.as_ref());
        let of_mud = (muds.flat_map(|mud| &mud.rules)).filter(|rule| rule.destination == *id);
        let of_mud: Vec<Rule> = of_mud.cloned().collect();
        let Some(destination) = self.destination(id).filter(|_| of_mud.is_empty()) else {
            return of_mud;
        };
        let ports: Vec<Ports> = match &destination.ports {
            Some(ports) => ports.iter().copied().map(Ports::one).collect(),
            None => vec![Ports::Any],
        };
        let rules = ports.into_iter().map(|ports| Rule {
            remote_ports: ports,
            ..rule(destination, Direction::FromDevice, destination.protocol)
        });
        rules.collect()
    }
}

fn rule(destination: &Destination, direction: Direction, transport: Option<Protocol>) -> Rule {
    Rule {
        destination: destination.id.clone(),
        name: destination.id.to_string(),
        direction,
        remote: destination.remote.clone(),
        remote_network: None,
        device_network: None,
        family: None,
        protocol: transport.map(|transport| match transport {
            Protocol::Tcp => protocol::TCP,
            Protocol::Udp => protocol::UDP,
        }),
        remote_ports: Ports::Any,
        device_ports: Ports::Any,
        icmp: None,
        opened_by: (transport == Some(Protocol::Tcp)).then_some(direction),
        accepts: true,
    }
}
