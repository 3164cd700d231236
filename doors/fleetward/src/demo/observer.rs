//! The observer: what the network knows of each device, told to the plane once a second.
//!
//! A process of its own with a service's certificate. On the bridge it reads counters keyed by
//! the port, which a device cannot forge; without a bridge it has a resolver that knows askers by
//! their address, which is a label and no proof, and says so in what it posts.

use super::stage::{Count, Network, Protocol, Seen};
use crate::client::{Ask, Client, Refused};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sim::outside::{self, Asked, Resolver};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often it looks.
const BEAT: Duration = Duration::from_secs(1);
/// Observations in one post.
const POSTED_MAX: usize = 500;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The plane's door for services.
    pub url: String,
    pub roots: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// True on the bridge.
    pub by_port: bool,
    /// The plane's own address: what goes there is not "outside".
    pub plane: IpAddr,
    pub devices: Vec<Watched>,
    pub resolver: SocketAddr,
    pub names: BTreeMap<String, Ipv4Addr>,
    /// Where the sink listens: everything that lies outside.
    pub sink: IpAddr,
    pub sink_ports: Vec<u16>,
    /// Where the outside calls back whoever called it.
    pub call_back: u16,
    /// Written when all of it stands.
    pub ready: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    pub device: String,
    pub port: String,
    pub address: IpAddr,
}

/// Observes until it is killed.
///
/// # Errors
/// A port cannot be bound, a file cannot be read. What fails later is said and tried again.
pub fn run(plan: &Path) -> anyhow::Result<()> {
    let text = std::fs::read(plan).with_context(|| plan.display().to_string())?;
    let plan: Plan = serde_json::from_slice(&text)?;
    let resolver = Resolver::start(plan.resolver, plan.names.clone())
        .with_context(|| format!("the resolver at {}", plan.resolver))?;
    outside::sink(plan.sink, &plan.sink_ports, plan.call_back).context("the sink")?;
    let client = Client::remote(&plan.url, &plan.roots, &plan.certificate, &plan.key)?;
    let mut observer = Observer {
        network: plan.by_port.then(Network::here),
        last: Seen::default(),
        resolver,
        client,
        plan,
    };
    std::fs::write(&observer.plan.ready, b"")?;
    let mut looked_at = Instant::now();
    loop {
        std::thread::sleep(BEAT.saturating_sub(looked_at.elapsed()));
        let interval = looked_at.elapsed();
        looked_at = Instant::now();
        if let Err(error) = observer.look(interval) {
            eprintln!("observer: {error:#}");
        }
    }
}

struct Observer {
    plan: Plan,
    network: Option<Network>,
    resolver: Resolver,
    client: Client,
    last: Seen,
}

impl Observer {
    fn look(&mut self, interval: Duration) -> anyhow::Result<()> {
        let asked = self.resolver.take();
        let seen = match &self.network {
            Some(network) => network.seen()?,
            None => Seen::default(),
        };
        let mut observations = Vec::new();
        for one in self.plan.devices.clone() {
            let address = &one.address;
            self.traffic(&one, &seen, interval, &mut observations);
            self.names(&one, &seen, asked.get(address), interval, &mut observations);
            self.ports(&one, &seen, &mut observations);
        }
        self.last = seen;
        for chunk in observations.chunks(POSTED_MAX) {
            let body = json!({ "observations": chunk });
            let posted = self
                .client
                .json(Ask::post("/api/v1/detection/observations").json(&body));
            if let Err(error) = posted {
                let refused = error.downcast_ref::<Refused>();
                let detail = refused.map(|refused| refused.errors.join("; "));
                eprintln!("observer: {error:#} {}", detail.unwrap_or_default());
            }
        }
        Ok(())
    }

    fn observation(&self, one: &Watched, feature: &str, fields: Value) -> Value {
        let bound_by = if self.plan.by_port { "port" } else { "address" };
        let mut whole = json!({ "device": one.device, "bound_by": bound_by, "feature": feature });
        if let (Some(whole), Value::Object(fields)) = (whole.as_object_mut(), fields) {
            whole.extend(fields);
        }
        whole
    }

    /// Where it sent, and how much in all.
    fn traffic(&self, one: &Watched, seen: &Seen, interval: Duration, out: &mut Vec<Value>) {
        let volume = |seen: &Seen| seen.volume.get(&one.port).copied().unwrap_or_default();
        let Count { packets, bytes } = grown(volume(seen), volume(&self.last));
        if packets > 0 {
            let fields = json!({
                "bytes": bytes, "packets": packets, "interval_ms": millis(interval)
            });
            out.push(self.observation(one, "bytes-out", fields));
        }
        for (key, count) in &seen.destinations {
            let (port, address, protocol, there) = key;
            if *port != one.port || IpAddr::V4(*address) == self.plan.plane {
                continue;
            }
            let before = self.last.destinations.get(key).copied().unwrap_or_default();
            let new = grown(*count, before);
            if new.packets > 0 {
                let host = self.resolver.name_given(one.address, (*address).into());
                let fields = json!({
                    "address": address, "port": there, "protocol": protocol.name(),
                    "host": host, "bytes_out": new.bytes
                });
                out.push(self.observation(one, "destination", fields));
            }
        }
    }

    /// The bridge counts queries to any resolver; ours knows the names.
    fn names(
        &self,
        one: &Watched,
        seen: &Seen,
        asked: Option<&Asked>,
        interval: Duration,
        out: &mut Vec<Value>,
    ) {
        let count = |seen: &Seen| seen.dns.get(&one.port).copied().unwrap_or_default();
        let on_bridge = count(seen).saturating_sub(count(&self.last));
        let asked = asked.cloned().unwrap_or_default();
        let queries = on_bridge.max(asked.queries);
        if queries > 0 {
            let fields = json!({
                "queries": queries, "names": asked.names, "interval_ms": millis(interval)
            });
            out.push(self.observation(one, "dns-queries", fields));
        }
    }

    /// A port that answers a call listens, whatever the device says.
    fn ports(&self, one: &Watched, seen: &Seen, out: &mut Vec<Value>) {
        let new = seen.listening.difference(&self.last.listening);
        for (_, own) in new.filter(|(port, _)| *port == one.port) {
            let fields = json!({ "port": own, "protocol": Protocol::Tcp.name() });
            out.push(self.observation(one, "listening-port", fields));
        }
    }
}

/// Counters of the table only grow, but an element may have timed out and begun again.
fn grown(now: Count, before: Count) -> Count {
    if now.packets < before.packets {
        return now;
    }
    Count {
        packets: now.packets - before.packets,
        bytes: now.bytes.saturating_sub(before.bytes),
    }
}

fn millis(interval: Duration) -> u64 {
    u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)
}
