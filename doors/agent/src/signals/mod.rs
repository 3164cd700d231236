//! What can be read of this device, how it was read, and what cannot be.

mod destinations;
mod dns;
mod firmware;
mod sockets;
mod traffic;

use crate::config::{Config, ListeningSource, TrafficSource};
use crate::nft::Table;
use detection::report::{self, FORMAT, LIST_MAX, Listening, Report, Transport};
use model::Timestamp;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

/// Everything that reads signals, with what it must remember between two reports.
pub struct Gauges {
    boot: String,
    sequence: u64,
    last: Instant,
    source_address: Option<IpAddr>,
    listening: ListeningSource,
    destinations: destinations::Gauge,
    traffic: Option<traffic::Meter>,
    firmware: firmware::Gauge,
    dns: Result<dns::Seen, String>,
    /// The stub's own port is no news.
    own_port: Option<u16>,
    upstream: Option<SocketAddr>,
}

impl Gauges {
    /// Begins to count. `table` is ours in nftables, if we may have one.
    pub fn start(config: &Config, table: bool) -> Self {
        let dns = match config.dns {
            None => Err("dns: no resolver of ours in the path".to_owned()),
            Some(dns) => dns::start(dns).map_err(|error| {
                format!(
                    "dns: our resolver cannot listen on {} ({})",
                    dns.listen,
                    error.kind()
                )
            }),
        };
        let mut gauges = Self {
            boot: crate::random::uuid(),
            sequence: 0,
            last: Instant::now(),
            source_address: config.source_address,
            listening: config.sources.listening,
            destinations: destinations::Gauge::new(
                config.sources.destinations,
                config.source_address,
                table,
            ),
            traffic: (config.sources.traffic == TrafficSource::Auto).then(traffic::Meter::default),
            firmware: firmware::Gauge::new(
                config.firmware_version.clone(),
                config.firmware_file.clone(),
            ),
            upstream: config.dns.map(|dns| dns.upstream),
            own_port: dns
                .is_ok()
                .then(|| config.dns.map(|dns| dns.listen.port()))
                .flatten(),
            dns,
        };
        if let Some(meter) = &mut gauges.traffic {
            // The first reading is what later ones are held against.
            let _ = meter.read(Path::new(PROC_NET_DEV));
        }
        gauges.firmware.read(&mut Vec::new());
        gauges
    }

    pub fn boot(&self) -> &str {
        &self.boot
    }

    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// True if the firmware file is still being hashed: call [`Self::step`].
    pub fn is_busy(&self) -> bool {
        self.firmware.is_busy()
    }

    pub fn step(&mut self) {
        self.firmware.step();
    }

    /// Reads everything: what happened since the last report. What goes to `plane`, our own
    /// doors, and to the resolver behind our stub is no news and left out.
    pub fn report(
        &mut self,
        at: Timestamp,
        tls_failures: u64,
        table: Option<&mut Table>,
        plane: &[SocketAddr],
    ) -> Report {
        let mut unseen = Vec::new();
        let mut seen_by = BTreeMap::new();
        let mut saw = |what: &str, how: &str| {
            seen_by.insert(what.to_owned(), how.to_owned());
        };
        let listening = match self.listening() {
            Ok((how, found)) => {
                saw("listening", how);
                unseen.push(
                    "listening: UDP in the range of short-lived ports, raw sockets, and ports that \
                     open and close between two reports"
                        .to_owned(),
                );
                found
            }
            Err(why) => {
                unseen.push(format!("listening: {why}"));
                Vec::new()
            }
        };
        let (mut destinations, how) =
            self.destinations
                .read(table, self.dns.as_ref().ok(), &mut unseen);
        destinations.retain(|one| {
            let remote = SocketAddr::new(one.address, one.port);
            let to_plane = one.protocol == Transport::Tcp && plane.contains(&remote);
            let to_resolver = one.protocol == Transport::Udp && self.upstream == Some(remote);
            !(to_plane || to_resolver)
        });
        destinations.truncate(LIST_MAX);
        if let Some(how) = how {
            saw("destinations", how);
        }
        let dns = match &self.dns {
            Ok(seen) => {
                saw("dns", "stub");
                unseen.push("dns: questions that go past our resolver, or to it by TCP".to_owned());
                let (queries, names) = seen.take();
                Some(report::Dns { queries, names })
            }
            Err(why) => {
                unseen.push(why.clone());
                None
            }
        };
        let traffic =
            self.traffic
                .as_mut()
                .and_then(|meter| match meter.read(Path::new(PROC_NET_DEV)) {
                    Ok(traffic) => {
                        saw("traffic", "proc");
                        Some(traffic)
                    }
                    Err(error) => {
                        unseen.push(format!(
                            "traffic: /proc/net/dev cannot be read ({})",
                            error.kind()
                        ));
                        None
                    }
                });
        if self.traffic.is_none() {
            unseen.push("traffic: turned off in the configuration".to_owned());
        }
        let firmware = self.firmware.read(&mut unseen);
        if firmware.is_some() {
            let how = if self.firmware.has_file() {
                "file"
            } else {
                "config"
            };
            saw("firmware", how);
        }
        self.sequence += 1;
        let now = Instant::now();
        let interval = now.duration_since(self.last).max(Duration::from_millis(1));
        self.last = now;
        Report {
            format: FORMAT,
            boot: self.boot.clone(),
            sequence: self.sequence,
            at: at.as_millis(),
            interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            firmware,
            listening,
            destinations,
            dns,
            traffic,
            tls_failures,
            seen_by,
            unseen,
        }
    }

    /// Ports that others can reach, and how they were seen.
    fn listening(&self) -> Result<(&'static str, Vec<Listening>), String> {
        let by_proc = || sockets::by_proc(Path::new(PROC_NET), sockets::Want::Listening);
        let by_sock_diag = || sockets::by_sock_diag(sockets::Want::Listening);
        let refused = |error: std::io::Error| format!("the kernel does not tell ({error})");
        let (how, found) = match self.listening {
            ListeningSource::Off => return Err("turned off in the configuration".to_owned()),
            ListeningSource::Proc => ("proc", by_proc().map_err(refused)?),
            ListeningSource::SockDiag => ("sock_diag", by_sock_diag().map_err(refused)?),
            ListeningSource::Auto => match by_sock_diag() {
                Ok(found) => ("sock_diag", found),
                Err(_) => ("proc", by_proc().map_err(refused)?),
            },
        };
        let short_lived = short_lived_ports();
        let mut found: Vec<Listening> = found
            .into_iter()
            .filter(|one| match self.source_address {
                Some(own) => one.local.ip() == own,
                // Nobody outside reaches the loopback.
                None => !one.local.ip().is_loopback(),
            })
            .filter(|one| {
                one.local.port() != 0
                    && !(one.protocol == Transport::Udp
                        && (short_lived.contains(&one.local.port())
                            || Some(one.local.port()) == self.own_port))
            })
            .map(|one| Listening {
                protocol: one.protocol,
                port: one.local.port(),
                address: one.local.ip(),
            })
            .collect();
        found.sort_by_key(|one| (one.port, one.protocol == Transport::Udp, one.address));
        found.dedup();
        found.truncate(LIST_MAX);
        Ok((how, found))
    }
}

const PROC_NET: &str = "/proc/self/net";
const PROC_NET_DEV: &str = "/proc/self/net/dev";

/// The ports that the kernel gives to clients, among which a bound UDP socket is no sign.
fn short_lived_ports() -> std::ops::RangeInclusive<u16> {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| {
            let mut words = text.split_ascii_whitespace();
            Some(words.next()?.parse().ok()?..=words.next()?.parse().ok()?)
        })
        .unwrap_or(32_768..=60_999)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::net::TcpListener;

    fn gauges(extra: &str) -> Gauges {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("agent.toml");
        let text = format!(
            "{extra}\ndevice = 'cam-1'\nproduct = 'camera'\nstate_dir = 's'\nroots_file = 'r'\n\
             idevid_certificate_file = 'c'\nidevid_key_file = 'k'\n\
             plane = {{ est = 'localhost:1', mqtt = 'localhost:2' }}\n"
        );
        std::fs::write(&path, text).unwrap();
        Gauges::start(&Config::read(&path).unwrap(), false)
    }

    #[test]
    fn the_plane_reads_what_we_report_and_each_part_says_how_it_was_seen() {
        let mut gauges = gauges("firmware_version = '3.1.0'");
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let report = gauges.report(Timestamp::from_seconds(1), 2, None, &[]);
        let read = Report::read(&report.write().unwrap()).unwrap();
        assert_eq!(read, report);
        assert!(
            read.listening.iter().any(|one| one.port == port),
            "{read:?}"
        );
        assert_eq!(
            read.seen_by.get("traffic").map(String::as_str),
            Some("proc")
        );
        assert_eq!((read.sequence, read.tls_failures), (1, 2));
        assert!(
            read.unseen
                .iter()
                .any(|one| one.starts_with("dns: no resolver"))
        );
        drop(listener);
        let next = gauges.report(Timestamp::from_seconds(2), 0, None, &[]);
        assert_eq!((next.boot == report.boot, next.sequence), (true, 2));
    }

    #[test]
    fn what_is_turned_off_is_said_to_be_unseen() {
        let mut gauges =
            gauges("sources = { listening = 'off', destinations = 'off', traffic = 'off' }");
        let report = gauges.report(Timestamp::from_seconds(1), 0, None, &[]);
        assert!(report.seen_by.is_empty() && report.traffic.is_none());
        for part in ["listening", "destinations", "traffic", "dns", "firmware"] {
            let said = |text: &String| text.starts_with(part);
            assert!(
                report.unseen.iter().any(said),
                "{part}: {:?}",
                report.unseen
            );
        }
    }
}
