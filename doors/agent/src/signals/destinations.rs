//! Where the device sends: by counters of our own in nftables, else by the kernel's connection
//! tracking, else by the sockets that are connected just now.

use super::dns::Seen;
use super::sockets::{self, Want};
use crate::config::DestinationSource;
use crate::nft::Table;
use detection::report::{Destination, LIST_MAX, Transport};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

const CONNTRACK: &str = "/proc/net/nf_conntrack";
/// Flows of one reading that are looked at.
const FLOWS_MAX: usize = 16_384;

pub struct Gauge {
    source: DestinationSource,
    source_address: Option<IpAddr>,
    has_table: bool,
    /// Bytes out at the last reading, by flow (or destination, where the counter is of that).
    last: HashMap<Key, u64>,
}

/// A destination, and where one is counted by connection, the local port.
type Key = (Transport2, SocketAddr, u16);
/// `false` for TCP, `true` for UDP.
type Transport2 = bool;

/// Bytes out as the kernel counts them, from the flow's beginning.
struct Flow {
    protocol: Transport,
    remote: SocketAddr,
    local_port: u16,
    bytes_out: Option<u64>,
}

impl Gauge {
    pub fn new(source: DestinationSource, source_address: Option<IpAddr>, has_table: bool) -> Self {
        Self {
            source,
            source_address,
            has_table,
            last: HashMap::new(),
        }
    }

    /// Destinations with what went there since the last reading, and how they were seen.
    pub fn read(
        &mut self,
        table: Option<&mut Table>,
        dns: Option<&Seen>,
        unseen: &mut Vec<String>,
    ) -> (Vec<Destination>, Option<&'static str>) {
        let (flows, how) = match self.flows(table) {
            Ok(read) => read,
            Err(why) => {
                unseen.push(format!("destinations: {why}"));
                return (Vec::new(), None);
            }
        };
        match how {
            "nft" => {}
            "conntrack" => unseen.push(
                "destinations: flows that begin and end between two reports, and what is not \
                 tracked"
                    .to_owned(),
            ),
            _ => unseen.push(
                "destinations: connections that open and close between two reports, UDP without \
                 a fixed peer, bytes of UDP"
                    .to_owned(),
            ),
        }
        let found = self.since_last(flows, how == "nft");
        let shown = found.len().min(LIST_MAX);
        if found.len() > shown {
            unseen.push(format!(
                "destinations: {} more than fit a report",
                found.len() - shown
            ));
        }
        let named = found.into_iter().take(LIST_MAX).map(|mut one| {
            one.host = dns.and_then(|seen| seen.host_of(one.address));
            one
        });
        (named.collect(), Some(how))
    }

    fn flows(&self, table: Option<&mut Table>) -> Result<(Vec<Flow>, &'static str), String> {
        use DestinationSource::{Auto, Conntrack, Nft, Off, SockDiag};
        let refused = |error: io::Error| format!("the kernel does not tell ({error})");
        if self.source == Off {
            return Err("turned off in the configuration".to_owned());
        }
        // Counters of a whole namespace say nothing of one address in it.
        if matches!(self.source, Auto | Nft) && self.source_address.is_none() {
            match table.map(Table::counted) {
                Some(Ok(counted)) => {
                    let flows = counted.into_iter().map(|one| Flow {
                        protocol: one.protocol,
                        remote: SocketAddr::new(one.address, one.port),
                        local_port: 0,
                        bytes_out: Some(one.bytes_out),
                    });
                    return Ok((flows.collect(), "nft"));
                }
                Some(Err(error)) if self.source == Nft => return Err(refused(error)),
                _ => {}
            }
        }
        if self.source == Nft {
            let why = if self.has_table {
                "nft counts the whole namespace, not source_address"
            } else {
                "nft is not permitted here"
            };
            return Err(why.to_owned());
        }
        if matches!(self.source, Auto | Conntrack) {
            match self.by_conntrack() {
                Ok(flows) => return Ok((flows, "conntrack")),
                Err(error) if self.source == Conntrack => return Err(refused(error)),
                Err(_) => {}
            }
        }
        let connected = match sockets::by_sock_diag(Want::Connected) {
            Ok(found) => Ok((found, "sock_diag")),
            Err(error) if self.source == SockDiag => Err(refused(error)),
            Err(_) => sockets::by_proc(Path::new(super::PROC_NET), Want::Connected)
                .map(|found| (found, "proc"))
                .map_err(refused),
        };
        let (found, how) = connected?;
        // A peer of a port that listens here came in: it was not sent to.
        let served: BTreeSet<u16> = sockets::by_sock_diag(Want::Listening)
            .or_else(|_| sockets::by_proc(Path::new(super::PROC_NET), Want::Listening))
            .unwrap_or_default()
            .into_iter()
            .filter(|one| one.protocol == Transport::Tcp)
            .map(|one| one.local.port())
            .collect();
        let flows = found
            .into_iter()
            .filter(|one| self.is_ours(one.local.ip(), one.remote.ip()))
            .filter(|one| one.protocol == Transport::Udp || !served.contains(&one.local.port()))
            .map(|one| Flow {
                protocol: one.protocol,
                remote: one.remote,
                local_port: one.local.port(),
                bytes_out: one.bytes_out,
            });
        Ok((flows.take(FLOWS_MAX).collect(), how))
    }

    fn is_ours(&self, local: IpAddr, remote: IpAddr) -> bool {
        match self.source_address {
            Some(own) => local == own,
            None => !remote.is_loopback(),
        }
    }

    fn by_conntrack(&self) -> io::Result<Vec<Flow>> {
        let text = std::fs::read_to_string(CONNTRACK)?;
        let ours = own_addresses();
        let flows = text.lines().filter_map(|line| {
            let (source, flow) = tracked(line)?;
            let own = match self.source_address {
                Some(own) => source == own,
                None => ours.contains(&source) && !flow.remote.ip().is_loopback(),
            };
            own.then_some(flow)
        });
        Ok(flows.take(FLOWS_MAX).collect())
    }

    /// Sums by destination what is new. A counter that went back began again. What counts from
    /// the table's beginning and did not move was not used.
    fn since_last(&mut self, flows: Vec<Flow>, only_moved: bool) -> Vec<Destination> {
        let mut now = HashMap::with_capacity(flows.len());
        let mut sums: HashMap<(Transport2, SocketAddr), u64> = HashMap::new();
        for flow in flows {
            let udp = flow.protocol == Transport::Udp;
            let key = (udp, flow.remote, flow.local_port);
            let bytes = flow.bytes_out.unwrap_or(0);
            let moved = match self.last.get(&key) {
                Some(before) if *before <= bytes => bytes - before,
                _ => bytes,
            };
            now.insert(key, bytes);
            if moved > 0 || !only_moved {
                let sum = sums.entry((udp, flow.remote)).or_default();
                *sum = sum.saturating_add(moved);
            }
        }
        self.last = now;
        let mut found: Vec<Destination> = sums
            .into_iter()
            .map(|((udp, remote), bytes_out)| Destination {
                protocol: if udp { Transport::Udp } else { Transport::Tcp },
                address: remote.ip(),
                port: remote.port(),
                host: None,
                bytes_out,
            })
            .collect();
        found.sort_by_key(|one| (u64::MAX - one.bytes_out, one.address, one.port));
        found
    }
}

/// `ipv4 2 tcp 6 431999 ESTABLISHED src=.. dst=.. sport=.. dport=.. packets=.. bytes=.. src=..`:
/// the first half is what was sent by whoever began.
fn tracked(line: &str) -> Option<(IpAddr, Flow)> {
    let protocol = match line.split_ascii_whitespace().nth(2)? {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => return None,
    };
    let value = |key: &str| {
        line.split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let flow = Flow {
        protocol,
        remote: SocketAddr::new(value("dst")?.parse().ok()?, value("dport")?.parse().ok()?),
        local_port: value("sport")?.parse().ok()?,
        bytes_out: value("bytes").and_then(|bytes| bytes.parse().ok()),
    };
    Some((value("src")?.parse().ok()?, flow))
}

/// Addresses of this namespace, out of the routing table's local entries.
fn own_addresses() -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    let trie = std::fs::read_to_string("/proc/self/net/fib_trie").unwrap_or_default();
    let mut last: Option<IpAddr> = None;
    for line in trie.lines() {
        if let Some(address) = line.trim().strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.contains("/32 host LOCAL") {
            found.extend(last);
        }
    }
    let six = std::fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
    found.extend(six.lines().filter_map(|line| {
        let bits = u128::from_str_radix(line.split_ascii_whitespace().next()?, 16).ok()?;
        Some(IpAddr::V6(bits.into()))
    }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flow(port: u16, local_port: u16, bytes: u64) -> Flow {
        Flow {
            protocol: Transport::Tcp,
            remote: SocketAddr::from(([203, 0, 113, 5], port)),
            local_port,
            bytes_out: Some(bytes),
        }
    }

    #[test]
    fn connections_to_one_place_are_one_destination_with_what_is_new() {
        let mut gauge = Gauge::new(DestinationSource::SockDiag, None, false);
        let first = gauge.since_last(vec![flow(443, 1, 100), flow(443, 2, 50)], false);
        assert_eq!((first.len(), first[0].bytes_out), (1, 150));
        let second = gauge.since_last(vec![flow(443, 1, 160), flow(443, 3, 5)], false);
        assert_eq!(second[0].bytes_out, 65);
    }

    #[test]
    fn a_counter_that_did_not_move_is_not_reported_and_one_that_fell_began_again() {
        let mut gauge = Gauge::new(DestinationSource::Nft, None, true);
        gauge.since_last(vec![flow(443, 0, 100), flow(80, 0, 100)], true);
        let found = gauge.since_last(vec![flow(443, 0, 100), flow(80, 0, 40)], true);
        assert_eq!(
            (found.len(), found[0].port, found[0].bytes_out),
            (1, 80, 40)
        );
    }

    #[test]
    fn lines_of_connection_tracking() {
        let line = "ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.2 dst=203.0.113.5 \
                    sport=40000 dport=443 packets=10 bytes=900 src=203.0.113.5 dst=10.0.0.2 \
                    sport=443 dport=40000 packets=8 bytes=7000 [ASSURED] mark=0 use=1";
        let (source, flow) = tracked(line).unwrap();
        assert_eq!(source, IpAddr::from([10, 0, 0, 2]));
        assert_eq!(flow.remote, SocketAddr::from(([203, 0, 113, 5], 443)));
        assert_eq!((flow.local_port, flow.bytes_out), (40_000, Some(900)));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "(ipv4 2 tcp 6 )?[a-z0-9=. :]{0,80}") {
            tracked(&line);
        }
    }
}
