//! The rules of a product: its manufacturer's, and those of the destinations that `fleet/` declares.

use super::{Ports, Rule, protocol};
use crate::behaviour::Destination;
use crate::fleet::{Direction, Fleet};
use model::{ProductId, Protocol};

impl Fleet {
    /// What devices of a product may say and hear in the network, before any policy is asked. What no
    /// rule accepts is denied.
    #[must_use]
    pub fn rules(&self, product: &ProductId) -> Vec<Rule> {
        let Some(product) = self.product(product) else {
            return Vec::new();
        };
        let mut rules = product
            .mud
            .as_ref()
            .map(|mud| mud.rules.clone())
            .unwrap_or_default();
        let of_mud = rules.len();
        let behaviour = &product.behaviour;
        let declared = behaviour.destinations.iter().flatten();
        for destination in declared.filter_map(|id| self.destination(id)) {
            // What comes of a MUD file has its rules from there.
            if rules
                .iter()
                .take(of_mud)
                .any(|rule| rule.destination == destination.id)
            {
                continue;
            }
            let ports: Vec<Ports> = match &destination.ports {
                Some(ports) => ports.iter().copied().map(Ports::one).collect(),
                None => vec![Ports::Any],
            };
            rules.extend(ports.into_iter().map(|ports| Rule {
                remote_ports: ports,
                ..rule(destination, Direction::FromDevice, destination.protocol)
            }));
        }
        for peer in behaviour
            .serves
            .iter()
            .filter_map(|id| self.destination(id))
        {
            let listens = behaviour.listens.iter().flatten();
            rules.extend(listens.map(|(transport, port)| Rule {
                device_ports: Ports::one(*port),
                ..rule(peer, Direction::ToDevice, Some(*transport))
            }));
        }
        rules
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
