//! What devices are expected to do in the network: the destinations of `fleet/` and each product's
//! `behaviour`. Said for those who watch (`detection`) and show; nothing here permits a message.

use crate::declared::{Tables, declared_twice, in_range, parse};
use crate::diagnostic::{Diagnostic, Place, SourceFile, help_with, nearest};
use crate::network::{Network, Remote};
use crate::template::is_name;
use core::net::IpAddr;
use model::{Digest, Protocol};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use toml::Spanned;

/// A place outside of the plane that devices may be expected to talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    pub id: DestinationId,
    pub remote: Remote,
    /// `None`: any.
    pub ports: Option<Vec<u16>>,
    /// `None`: neither TCP nor UDP.
    pub protocol: Option<Protocol>,
}

/// A destination's name. The grammar is that of all names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationId(Arc<str>);

/// What the devices of a product are expected to do. What is left out is not declared; it is
/// learned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Behaviour {
    /// Each is declared in the fleet. An empty list is declared too: none is expected.
    pub destinations: Option<Vec<DestinationId>>,
    /// As `destinations`.
    pub listens: Option<Vec<(Protocol, u16)>>,
    /// Peers of the site that may open connections to what it listens on.
    pub serves: Vec<DestinationId>,
    pub dns_per_minute_max: Option<u32>,
    pub bytes_out_per_minute_max: Option<u64>,
    pub tls_version_min: Option<TlsVersion>,
    pub firmware: Vec<Firmware>,
}

impl Behaviour {
    /// With whom they are expected to speak, whoever opens: what of destinations is their own.
    pub(crate) fn places(&self) -> impl Iterator<Item = &DestinationId> {
        (self.destinations.iter().flatten()).chain(&self.serves)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

/// A version of firmware that devices are expected to run, and the SHA-256 of its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// 1 to 64 printable ASCII characters.
    pub version: String,
    pub sha256: Digest,
}

pub(crate) const PORTS_MAX: usize = 64;
pub(crate) const LIST_MAX: usize = 256;
pub(crate) const DNS_PER_MINUTE_MAX: u32 = 1_000_000;
const VERSION_CHARS_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DestinationTable {
    #[serde(rename = "description")]
    _description: Option<String>,
    host: Option<Spanned<String>>,
    address: Option<Spanned<String>>,
    local: Option<Spanned<String>>,
    ports: Spanned<Vec<u16>>,
    #[serde(default)]
    protocol: Transport,
}

/// How a file says it.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Transport {
    #[default]
    Tcp,
    Udp,
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
        }
    }
}

/// `[camera.behaviour]`
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BehaviourTable {
    destinations: Option<Vec<Spanned<String>>>,
    listens: Option<Vec<Spanned<String>>>,
    serves: Vec<Spanned<String>>,
    dns_per_minute_max: Option<Spanned<u32>>,
    bytes_out_per_minute_max: Option<u64>,
    tls_version_min: Option<TlsVersion>,
    firmware: Vec<FirmwareTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FirmwareTable {
    version: Spanned<String>,
    sha256: Spanned<String>,
}

/// Reads one file of `destinations/` into `known`.
pub(crate) fn read_destinations(
    file: &SourceFile,
    known: &mut BTreeMap<DestinationId, Destination>,
    wrong: &mut Vec<Diagnostic>,
) {
    for (key, table) in parse::<Tables<DestinationTable>>(file, wrong).unwrap_or_default() {
        let mut refuse = |span, message: String, help: &str| {
            let place = Place::in_file(file, span);
            wrong.push(Diagnostic::new(place, message, help.to_owned()));
        };
        if !is_name(key.get_ref()) {
            let message = format!("{:?} is no name for a destination", key.get_ref());
            let help = "use 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or a digit";
            refuse(key.span(), message, help);
            continue;
        }
        let ports = table.ports.get_ref();
        if ports.is_empty() || ports.len() > PORTS_MAX || ports.contains(&0) {
            let message = "ports are 1 to 65535, one of them at least and 64 at most".to_owned();
            refuse(table.ports.span(), message, "write for example [443]");
        }
        let remote = match (&table.host, &table.address, &table.local) {
            (Some(host), None, None) if is_host(host.get_ref()) => {
                Remote::Host(host.get_ref().clone())
            }
            (Some(host), None, None) => {
                let message = format!("{:?} is no DNS name in lower case", host.get_ref());
                let help = "write a name such as video.example.net, or address = \"192.0.2.0/24\"";
                refuse(host.span(), message, help);
                continue;
            }
            (None, Some(address), None) => match network_of(address.get_ref()) {
                Ok(network) => Remote::Network(network),
                Err(message) => {
                    refuse(address.span(), message, "write for example 192.0.2.0/24");
                    continue;
                }
            },
            (None, None, Some(role)) if is_name(role.get_ref()) => {
                Remote::Local(role.get_ref().clone())
            }
            (None, None, Some(role)) => {
                let message = format!("{:?} is no name of a role", role.get_ref());
                let help = "write what it is at every site, such as \"hub\" or \"phone\"";
                refuse(role.span(), message, help);
                continue;
            }
            _ => {
                let message = format!("destination {} is in two places or none", key.get_ref());
                refuse(key.span(), message, "give it one of host, address, local");
                continue;
            }
        };
        let id = DestinationId(key.get_ref().as_str().into());
        let destination = Destination {
            id: id.clone(),
            remote,
            ports: Some(ports.clone()),
            protocol: Some(table.protocol.into()),
        };
        if known.insert(id, destination).is_some() {
            wrong.push(declared_twice("destination", &key, file));
        }
    }
}

impl BehaviourTable {
    /// What it says, as far as it is right.
    pub(crate) fn read(
        self,
        file: &SourceFile,
        known: &BTreeMap<DestinationId, Destination>,
        wrong: &mut Vec<Diagnostic>,
    ) -> Behaviour {
        let mut behaviour = Behaviour {
            bytes_out_per_minute_max: self.bytes_out_per_minute_max,
            tls_version_min: self.tls_version_min,
            dns_per_minute_max: (self.dns_per_minute_max)
                .map(|queries| in_range(&queries, DNS_PER_MINUTE_MAX, file, wrong)),
            destinations: self.destinations.as_ref().map(|_| Vec::new()),
            listens: self.listens.as_ref().map(|_| Vec::new()),
            serves: Vec::new(),
            firmware: Vec::new(),
        };
        let mut refuse = |span, message: String, help: String| {
            wrong.push(Diagnostic::new(Place::in_file(file, span), message, help));
        };
        for name in self.destinations.iter().flatten().take(LIST_MAX) {
            match known.keys().find(|id| id.as_str() == name.get_ref()) {
                Some(id) => behaviour
                    .destinations
                    .get_or_insert_default()
                    .push(id.clone()),
                None => refuse(
                    name.span(),
                    format!("destination {:?} is not declared", name.get_ref()),
                    help_with(
                        nearest(name.get_ref(), known.keys().map(DestinationId::as_str)),
                        &format!("write [{}] in a file of destinations/", name.get_ref()),
                    ),
                ),
            }
        }
        for name in self.serves.iter().take(LIST_MAX) {
            let found = known.values().find(|one| one.id.as_str() == name.get_ref());
            match found.filter(|one| matches!(one.remote, Remote::Local(_))) {
                Some(one) => behaviour.serves.push(one.id.clone()),
                None => refuse(
                    name.span(),
                    format!("{:?} is no destination in the site itself", name.get_ref()),
                    format!(
                        "write [{}] with local = \"..\" in a file of destinations/",
                        name.get_ref()
                    ),
                ),
            }
        }
        for port in self.listens.iter().flatten().take(LIST_MAX) {
            match listening(port.get_ref()) {
                Some(listens) => behaviour.listens.get_or_insert_default().push(listens),
                None => refuse(
                    port.span(),
                    format!("{:?} is no port to listen on", port.get_ref()),
                    "write a protocol and a port, such as tcp/554".to_owned(),
                ),
            }
        }
        for firmware in self.firmware.iter().take(LIST_MAX) {
            let version = firmware.version.get_ref();
            let is_printable = version.bytes().all(|byte| (0x21..0x7f).contains(&byte));
            if version.is_empty() || version.len() > VERSION_CHARS_MAX || !is_printable {
                refuse(
                    firmware.version.span(),
                    format!("{version:?} is no version"),
                    "use 1 to 64 printable ASCII characters, no space".to_owned(),
                );
            }
            match digest(firmware.sha256.get_ref()) {
                Some(sha256) => behaviour.firmware.push(Firmware {
                    version: version.clone(),
                    sha256,
                }),
                None => refuse(
                    firmware.sha256.span(),
                    "this is no SHA-256".to_owned(),
                    "write the 64 hexadecimal digits that sha256sum prints for the image"
                        .to_owned(),
                ),
            }
        }
        for (what, count) in [
            (
                "destinations",
                self.destinations.as_ref().map_or(0, Vec::len),
            ),
            ("listens", self.listens.as_ref().map_or(0, Vec::len)),
            ("serves", self.serves.len()),
            ("firmware", self.firmware.len()),
        ] {
            if count > LIST_MAX {
                refuse(
                    0..0,
                    format!("{what} has {count} entries; at most {LIST_MAX} are read"),
                    "a product that does so much cannot be watched: split it".to_owned(),
                );
            }
        }
        behaviour
    }
}

fn listening(text: &str) -> Option<(Protocol, u16)> {
    let (protocol, port) = text.split_once('/')?;
    let protocol = Protocol::from_name(protocol)?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    (format!("{}/{port}", protocol.name()) == text).then_some((protocol, port))
}

/// An address, or a network as address and prefix length.
fn network_of(text: &str) -> Result<Network, String> {
    let wrong = || format!("{text:?} is no address and no network");
    if let Some(network) = Network::parse(text) {
        return Ok(network);
    }
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    if prefix > Network::of_one(address).prefix() {
        return Err(wrong());
    }
    Err(format!(
        "{text:?} has bits behind its prefix of {prefix}: which network is meant?"
    ))
}

pub(crate) fn is_host(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && (label.bytes())
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
        && text.parse::<IpAddr>().is_err()
}

pub(crate) fn digest(text: &str) -> Option<Digest> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(Digest(bytes))
}

impl Destination {
    /// The name by which a device asks for it.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match &self.remote {
            Remote::Host(host) => Some(host),
            _ => None,
        }
    }

    /// Where it is as far as that can be said without a site: see [`Remote::networks`].
    #[must_use]
    pub fn networks(&self) -> Vec<Network> {
        self.remote.networks()
    }
}

impl DestinationId {
    /// The name of what a product's MUD file speaks of.
    pub(crate) fn of_mud(product: &str, number: usize) -> Self {
        Self(format!("{product}.mud-{number}").into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "destination({})", self.0)
    }
}

impl TlsVersion {
    /// The word in `fleet/`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_no_bits_behind_its_prefix() {
        for (text, prefix) in [
            ("203.0.113.0/24", 24),
            ("203.0.113.7", 32),
            ("0.0.0.0/0", 0),
            ("2001:db8::/32", 32),
            ("2001:db8::1", 128),
        ] {
            let network = network_of(text).unwrap();
            assert_eq!(
                (network.to_string().as_str(), network.prefix()),
                (text, prefix)
            );
        }
        for text in [
            "203.0.113.7/24",
            "2001:db8::1/64",
            "1.2.3.4/33",
            "::/129",
            "1.2.3/8",
            "",
            "/8",
            "1.2.3.4/",
            "1.2.3.4/-1",
        ] {
            assert!(network_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_is_a_name_in_lower_case_and_no_address() {
        for text in ["a", "video.example.net", "xn--bcher-kva.example"] {
            assert!(is_host(text), "{text}");
        }
        for text in [
            "",
            ".",
            "a..b",
            "Video.example",
            "-a",
            "a b",
            "10.0.0.1",
            "a/b",
            "*.x",
            "ä",
        ] {
            assert!(!is_host(text), "{text}");
        }
    }

    #[test]
    fn a_port_to_listen_on_has_one_spelling() {
        assert_eq!(listening("tcp/554"), Some((Protocol::Tcp, 554)));
        assert_eq!(listening("udp/53"), Some((Protocol::Udp, 53)));
        for text in [
            "",
            "554",
            "tcp/0",
            "tcp/65536",
            "tcp/+5",
            "TCP/5",
            "tcp/05",
            "sctp/5",
        ] {
            assert_eq!(listening(text), None, "{text}");
        }
    }
}
