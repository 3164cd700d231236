//! What an agent of AWS IoT Device Defender reports of its device, and what it is answered.
//!
//! JSON or CBOR of at most [`REPORT_BYTES_MAX`] bytes, with long names or short ones, each by itself.
//! What we have no signal for (custom metrics, totals) is not looked at. Lists are samples of what
//! there is, so of a longer one the first [`LIST_MAX`] different entries are taken. As with a
//! report of our own agent, the session is proven and its contents are only reported.

use crate::{Feature, Observation};
use cbor::{Item, Malformed, Reader};
use core::net::{IpAddr, Ipv6Addr};
use model::{Attribution, DeviceId, Protocol, Source, Subject, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub const REPORT_BYTES_MAX: usize = 128 * 1024;
/// Of each list: all of them together are within what one device may have judged in a second.
pub const LIST_MAX: usize = 128;

/// The last part but one of a topic says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    Json,
    Cbor,
}

/// A report as far as it is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefenderReport {
    pub report_id: u64,
    listening: BTreeSet<(u16, Transport)>,
    peers: BTreeSet<(IpAddr, u16)>,
    /// Since the report before.
    sent: Option<Sent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Transport {
    Tcp,
    Udp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    bytes: u64,
    packets: u64,
}

/// Why a report is refused. The device's maker must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefenderRefusal {
    #[error("the report has no header with a report_id")]
    MissingHeader { report_id: Option<u64> },
    #[error("{what}")]
    InvalidPayload {
        report_id: Option<u64>,
        what: String,
    },
    #[error("a report with this report_id was accepted before; give each report a greater one")]
    Duplicate { report_id: u64 },
    #[error("reports may come every {} s and not sooner", seconds_min.as_secs())]
    Throttled {
        report_id: u64,
        seconds_min: Duration,
    },
}

impl DefenderRefusal {
    /// As agents know it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::MissingHeader { .. } => "MissingHeader",
            // To AWS, too, a report_id that was there before is an invalid payload.
            Self::InvalidPayload { .. } | Self::Duplicate { .. } => "InvalidPayload",
            Self::Throttled { .. } => "Throttled",
        }
    }

    const fn report_id(&self) -> Option<u64> {
        match self {
            Self::MissingHeader { report_id } | Self::InvalidPayload { report_id, .. } => {
                *report_id
            }
            Self::Duplicate { report_id } | Self::Throttled { report_id, .. } => Some(*report_id),
        }
    }
}

/// Which reports have come, for the refusal of those that come twice or too often. A restart
/// forgets it.
#[derive(Debug, Default)]
pub struct DefenderReports {
    devices: BTreeMap<DeviceId, Mark>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Those accepted last, the newest first.
    accepted: [Option<u64>; IDS_KEPT],
    accepted_at: Option<Timestamp>,
    /// Of whatever could be read and was no repetition: what a report counts, it counts from there.
    came_at: Timestamp,
}

const IDS_KEPT: usize = 4;
/// Above this those are forgotten that have not reported for a day.
const DEVICES_MAX: usize = 1_000_000;
const DAY: Duration = Duration::from_secs(86_400);

impl DefenderReports {
    /// Whether this report counts, and how long after the one before it came.
    ///
    /// # Errors
    /// It is one that was accepted before, or it comes too soon.
    pub fn admit(
        &mut self,
        device: &DeviceId,
        report: &DefenderReport,
        seconds_min: Duration,
        at: Timestamp,
    ) -> Result<Option<Duration>, DefenderRefusal> {
        let report_id = report.report_id;
        let before = self.devices.get(device).copied();
        if before.is_some_and(|mark| mark.accepted.contains(&Some(report_id))) {
            return Err(DefenderRefusal::Duplicate { report_id });
        }
        let mut mark = before.unwrap_or(Mark {
            accepted: [None; IDS_KEPT],
            accepted_at: None,
            came_at: at,
        });
        mark.came_at = at;
        let is_soon = (mark.accepted_at).is_some_and(|last| at < last.plus(seconds_min));
        if !is_soon {
            mark.accepted.rotate_right(1);
            if let Some(newest) = mark.accepted.first_mut() {
                *newest = Some(report_id);
            }
            mark.accepted_at = Some(at);
        }
        self.keep(device, mark);
        if is_soon {
            return Err(DefenderRefusal::Throttled {
                report_id,
                seconds_min,
            });
        }
        Ok(before.map(|mark| at.since(mark.came_at)))
    }

    fn keep(&mut self, device: &DeviceId, mark: Mark) {
        if self.devices.len() >= DEVICES_MAX && !self.devices.contains_key(device) {
            let at = mark.came_at;
            self.devices
                .retain(|_, other| at.since(other.came_at) < DAY);
            if self.devices.len() >= DEVICES_MAX {
                return;
            }
        }
        self.devices.insert(device.clone(), mark);
    }
}

impl DefenderReport {
    /// # Errors
    /// It is no report, or not one that counts.
    pub fn read(form: Form, payload: &[u8]) -> Result<Self, DefenderRefusal> {
        let invalid = |what: String| DefenderRefusal::InvalidPayload {
            report_id: None,
            what,
        };
        if payload.len() > REPORT_BYTES_MAX {
            let bytes = payload.len();
            let what = format!("the report has {bytes} bytes; the limit is {REPORT_BYTES_MAX}");
            return Err(invalid(what));
        }
        let not_ours = |error: serde_json::Error| {
            let said = crate::shown(&error.to_string(), 160);
            invalid(format!("the report is not of the documented form: {said}"))
        };
        let said: Said = match form {
            // Its own limit of 128 levels bounds the stack.
            Form::Json => serde_json::from_slice(payload).map_err(not_ours)?,
            Form::Cbor => {
                let value = value_of(payload).map_err(|Malformed| {
                    invalid("the report is not CBOR of definite lengths".into())
                })?;
                Said::deserialize(value).map_err(not_ours)?
            }
        };
        let header = said
            .header
            .ok_or(DefenderRefusal::MissingHeader { report_id: None })?;
        let report_id =
            (header.report_id).ok_or(DefenderRefusal::MissingHeader { report_id: None })?;
        let missing = || DefenderRefusal::InvalidPayload {
            report_id: Some(report_id),
            what: "the report has no metrics".to_owned(),
        };
        let metrics = said.metrics.ok_or_else(missing)?;
        let peers = metrics
            .peers()
            .map_err(|what| DefenderRefusal::InvalidPayload {
                report_id: Some(report_id),
                what,
            })?;
        Ok(Self {
            report_id,
            listening: metrics.listening(),
            peers,
            sent: metrics.network_stats.and_then(|counts| {
                let packets = counts.packets_out.unwrap_or(0);
                counts.bytes_out.map(|bytes| Sent { bytes, packets })
            }),
        })
    }

    /// What it says, as observations of source `Device`. `interval` is how long after the one before
    /// it came: what is counted since then means nothing without.
    #[must_use]
    pub fn observations(
        &self,
        device: &DeviceId,
        interval: Option<Duration>,
        received_at: Timestamp,
    ) -> Vec<Observation> {
        let ports = self
            .listening
            .iter()
            .map(|(port, transport)| Feature::ListeningPort {
                port: *port,
                protocol: match transport {
                    Transport::Tcp => Protocol::Tcp,
                    Transport::Udp => Protocol::Udp,
                },
            });
        let peers = self
            .peers
            .iter()
            .map(|(address, port)| Feature::Destination {
                address: *address,
                port: *port,
                protocol: Protocol::Tcp,
                host: None,
                bytes_out: 0,
            });
        let interval = interval.filter(|interval| !interval.is_zero());
        let sent = self
            .sent
            .zip(interval)
            .map(|(sent, interval)| Feature::BytesOut {
                bytes: sent.bytes,
                packets: sent.packets,
                interval,
            });
        (ports.chain(peers).chain(sent))
            .map(|feature| Observation {
                at: received_at,
                subject: Subject::Device(device.clone()),
                source: Source::Device,
                attribution: Attribution::Proven,
                feature,
            })
            .collect()
    }
}

/// The answer to a report that was accepted.
#[must_use]
pub fn accepted(form: Form, thing: &str, report_id: u64, at: Timestamp) -> Vec<u8> {
    written(
        form,
        &json!({
            "thingName": thing,
            "reportId": report_id,
            "timestamp": at.as_millis(),
            "status": "ACCEPTED",
        }),
    )
}

/// The answer to one that was not. `reportId` is 0 where none could be read.
#[must_use]
pub fn rejected(form: Form, thing: &str, refusal: &DefenderRefusal, at: Timestamp) -> Vec<u8> {
    written(
        form,
        &json!({
            "thingName": thing,
            "reportId": refusal.report_id().unwrap_or(0),
            "timestamp": at.as_millis(),
            "status": "REJECTED",
            "statusDetails": {
                "ErrorCode": refusal.code(),
                "ErrorMessage": refusal.to_string(),
            },
        }),
    )
}

// ---- as it is written ----

#[derive(Deserialize)]
struct Said {
    #[serde(alias = "hed")]
    header: Option<Header>,
    #[serde(alias = "met")]
    metrics: Option<Metrics>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(alias = "rid")]
    report_id: Option<u64>,
}

#[derive(Deserialize)]
struct Metrics {
    #[serde(alias = "tc")]
    tcp_connections: Option<Connections>,
    #[serde(alias = "tp")]
    listening_tcp_ports: Option<Ports>,
    #[serde(alias = "up")]
    listening_udp_ports: Option<Ports>,
    #[serde(alias = "ns")]
    network_stats: Option<Counts>,
}

#[derive(Deserialize)]
struct Connections {
    #[serde(alias = "ec")]
    established_connections: Option<Established>,
}

#[derive(Deserialize)]
struct Established {
    #[serde(default, alias = "cs")]
    connections: Vec<Connection>,
}

#[derive(Deserialize)]
struct Connection {
    #[serde(alias = "rad")]
    remote_addr: String,
    #[serde(alias = "lp")]
    local_port: Option<u16>,
}

#[derive(Deserialize)]
struct Ports {
    #[serde(default, alias = "pts")]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
struct Port {
    #[serde(alias = "pt")]
    port: u16,
    /// An address, or what the system calls it.
    #[serde(alias = "if")]
    interface: Option<String>,
}

#[derive(Deserialize)]
struct Counts {
    #[serde(alias = "bo")]
    bytes_out: Option<u64>,
    #[serde(alias = "po")]
    packets_out: Option<u64>,
}

impl Metrics {
    fn listening(&self) -> BTreeSet<(u16, Transport)> {
        let of = |ports: &Option<Ports>, transport| {
            let all = ports.iter().flat_map(|list| &list.ports);
            let open = all.filter(|one| !one.is_inside()).map(|one| one.port);
            first_different(open.map(|port| (port, transport)))
        };
        let mut all = of(&self.listening_tcp_ports, Transport::Tcp);
        all.extend(of(&self.listening_udp_ports, Transport::Udp));
        all
    }

    /// Whom the device spoke to. Who came in at a port where it listens was no choice of its own.
    fn peers(&self) -> Result<BTreeSet<(IpAddr, u16)>, String> {
        let listening = self.listening_tcp_ports.iter().flat_map(|list| &list.ports);
        let listening: BTreeSet<u16> = listening.map(|one| one.port).collect();
        let connections = (self.tcp_connections.iter())
            .filter_map(|all| all.established_connections.as_ref())
            .flat_map(|all| &all.connections);
        let mut peers = Vec::new();
        for one in connections {
            let peer = peer(&one.remote_addr).ok_or_else(|| {
                let said = crate::shown(&one.remote_addr, 64);
                format!("remote_addr \"{said}\" is no address and port")
            })?;
            let came_in = one.local_port.is_some_and(|port| listening.contains(&port));
            if !came_in && !peer.0.is_loopback() {
                peers.push(peer);
            }
        }
        Ok(first_different(peers.into_iter()))
    }
}

impl Port {
    /// Nobody outside the device can reach it.
    fn is_inside(&self) -> bool {
        (self.interface.as_deref()).is_some_and(|interface| {
            interface == "lo" || address(interface).is_some_and(|it| it.is_loopback())
        })
    }
}

fn first_different<T: Ord>(all: impl Iterator<Item = T>) -> BTreeSet<T> {
    let mut kept = BTreeSet::new();
    for one in all {
        if kept.len() >= LIST_MAX {
            break;
        }
        kept.insert(one);
    }
    kept
}

/// `192.0.2.1:443`, and an IPv6 address with or without brackets: the port is behind the last colon.
fn peer(text: &str) -> Option<(IpAddr, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    Some((address(host)?, port.parse().ok()?))
}

/// Without the zone that a link-local address has on its own machine.
fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = match text.split_once('%') {
        Some((address, _)) => IpAddr::V6(address.parse::<Ipv6Addr>().ok()?),
        None => text.parse().ok()?,
    };
    Some(address.to_canonical())
}

/// Containers within containers; a report has five.
const DEPTH_MAX: usize = 8;

/// CBOR as the same JSON would be. A value that has no meaning here is null.
fn value_of(payload: &[u8]) -> Result<Value, Malformed> {
    let mut reader = Reader::new(payload);
    let value = read_value(&mut reader, DEPTH_MAX)?;
    reader.finish().map(|()| value)
}

// What is made is bounded by the payload: each item takes a byte at least.
fn read_value(reader: &mut Reader<'_>, depth: usize) -> Result<Value, Malformed> {
    let below = depth.checked_sub(1).ok_or(Malformed)?;
    Ok(match reader.item()? {
        Item::Unsigned(number) => number.into(),
        Item::Text(text) => text.into(),
        Item::Bool(bool) => bool.into(),
        Item::Negative(_) | Item::Bytes(_) | Item::Null | Item::Other => Value::Null,
        Item::Tag(_) => read_value(reader, below)?,
        Item::Array(count) => {
            let mut items = Vec::new();
            for _ in 0..count {
                items.push(read_value(reader, below)?);
            }
            Value::Array(items)
        }
        Item::Map(count) => {
            let mut fields = Map::new();
            for _ in 0..count {
                let name = reader.text()?.to_owned();
                let value = read_value(reader, below)?;
                if fields.insert(name, value).is_some() {
                    // RFC 8949 section 5.6: two readers would read two reports.
                    return Err(Malformed);
                }
            }
            Value::Object(fields)
        }
    })
}

fn written(form: Form, value: &Value) -> Vec<u8> {
    match form {
        Form::Json => value.to_string().into_bytes(),
        Form::Cbor => {
            let mut out = Vec::new();
            write_value(&mut out, value);
            out
        }
    }
}

/// Of what our answers hold: maps, texts and whole numbers.
fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Object(fields) => {
            cbor::head(out, 5, fields.len() as u64);
            for (name, value) in fields {
                cbor::text(out, name);
                write_value(out, value);
            }
        }
        Value::String(text) => cbor::text(out, text),
        other => cbor::head(out, 0, other.as_u64().unwrap_or(0)),
    }
}
