//! What this device may send to whom, as the plane says it, and the addresses that names have for us.

use crate::nft::Passage;
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

const RULES_MAX: usize = 1000;
const NETWORKS_MAX: usize = 64;
/// Names asked for in one round: each can hold us up.
const NAMES_MAX: usize = 64;
const NAME_ADDRESSES_MAX: usize = 32;
/// An address that the resolver does not name again is forgotten.
const ADDRESS_KEPT: Duration = Duration::from_secs(3600);

/// What the plane said, and what its names meant here.
pub struct Rules {
    rules: Vec<Rule>,
    known: HashMap<String, HashMap<IpAddr, Instant>>,
}

/// `/api/v1/access/own-rules`. What is added to it later is for later versions.
#[derive(Deserialize)]
struct Answer {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
struct Rule {
    accepts: bool,
    host: Option<String>,
    networks: Vec<String>,
    widened: bool,
    ip_version: Option<u8>,
    protocol: Option<u8>,
    ports: Option<(u16, u16)>,
    ports_not: Option<u16>,
    icmp: Option<(u8, Option<u8>)>,
}

impl Rules {
    /// `None`: what the plane said cannot be read, and half of it must not be enforced.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let answer: Answer = serde_json::from_slice(bytes).ok()?;
        let is_right = |rule: &Rule| {
            rule.networks.len() <= NETWORKS_MAX
                && rule.networks.iter().all(|text| network(text).is_some())
                && rule.ports.is_none_or(|(from, to)| from <= to)
                && (rule.ports.is_none() && rule.ports_not.is_none()
                    || matches!(rule.protocol, Some(6 | 17)))
                && (rule.icmp.is_none() || matches!(rule.protocol, Some(1 | 58)))
        };
        let is_right = answer.rules.len() <= RULES_MAX && answer.rules.iter().all(is_right);
        is_right.then(|| Self {
            rules: answer.rules,
            known: HashMap::new(),
        })
    }

    /// What names meant before, where they are still asked for.
    pub fn remember(&mut self, before: Self) {
        self.known = before.known;
    }

    /// Asks the system's resolver what names mean, which can take as long as that takes.
    pub fn resolve(&mut self, now: Instant) {
        let hosts: BTreeSet<&String> = self
            .rules
            .iter()
            .filter_map(|rule| rule.host.as_ref())
            .collect();
        for host in hosts.into_iter().take(NAMES_MAX) {
            let found = (host.as_str(), 0).to_socket_addrs();
            self.known.entry(host.clone()).or_default().extend(
                (found.into_iter().flatten().take(NAME_ADDRESSES_MAX))
                    .map(|address| (address.ip(), now)),
            );
        }
        for addresses in self.known.values_mut() {
            addresses.retain(|_, at| now.duration_since(*at) < ADDRESS_KEPT);
        }
    }

    #[cfg(test)]
    pub fn know(&mut self, host: &str, addresses: &[IpAddr]) {
        let now = Instant::now();
        let known = self.known.entry(host.to_owned()).or_default();
        known.extend(addresses.iter().map(|address| (*address, now)));
    }

    /// One for each network of each rule, in their order.
    pub fn passages(&self) -> Vec<Passage> {
        let mut passages = Vec::new();
        for rule in &self.rules {
            let mut networks: Vec<(IpAddr, u8)> = rule
                .networks
                .iter()
                .filter_map(|text| network(text))
                .collect();
            if let Some(host) = &rule.host {
                let known = self.known.get(host).into_iter().flatten();
                let addresses = known.map(|(address, _)| (*address, whole(*address)));
                // A list beside a name narrows it.
                let narrowed: Vec<(IpAddr, u8)> = addresses
                    .filter(|(address, _)| {
                        networks.is_empty() || networks.iter().any(|one| holds(*one, *address))
                    })
                    .collect();
                networks = narrowed;
            }
            networks.sort();
            let version = |address: &IpAddr| if address.is_ipv4() { 4 } else { 6 };
            networks
                .retain(|(address, _)| rule.ip_version.is_none_or(|only| only == version(address)));
            passages.extend(networks.into_iter().map(|(network, prefix)| Passage {
                accepts: rule.accepts,
                network,
                prefix,
                protocol: rule.protocol,
                ports: rule.ports,
                ports_not: rule.ports_not,
                icmp: rule.icmp,
            }));
        }
        passages
    }

    /// How many are held wider than they are meant, since only the site knows whom they mean.
    pub fn widened(&self) -> usize {
        self.rules.iter().filter(|rule| rule.widened).count()
    }
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address.parse().ok()?, prefix.parse().ok()?),
        None => {
            let address: IpAddr = text.parse().ok()?;
            (address, whole(address))
        }
    };
    (prefix <= whole(address)).then_some((address, prefix))
}

fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn holds((network, prefix): (IpAddr, u8), address: IpAddr) -> bool {
    let left = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    };
    network.is_ipv4() == address.is_ipv4()
        && (left(network) ^ left(address))
            .checked_shr(128 - u32::from(prefix))
            .is_none_or(|differs| differs == 0)
}

/// The resolvers that this system asks.
pub fn resolvers() -> Vec<IpAddr> {
    const RESOLVERS_MAX: usize = 8;
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    (text.lines())
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok())
        .take(RESOLVERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests;
