//! One entry of an access list (RFC 8519) as RFC 8520 extends it.

use super::json::{Json, bare};
use crate::behaviour::{DestinationId, is_host};
use crate::fleet::Direction;
use crate::network::{Family, Network, Ports, Remote, Rule, protocol};

/// A rule without its name.
pub(super) struct Entry {
    pub remote: Remote,
    pub protocol: Option<u8>,
    remote_network: Option<Network>,
    device_network: Option<Network>,
    family: Option<Family>,
    remote_ports: Ports,
    device_ports: Ports,
    icmp: Option<(u8, Option<u8>)>,
    opened_by: Option<Direction>,
    accepts: bool,
}

impl Entry {
    pub(super) fn into_rule(
        self,
        destination: DestinationId,
        name: String,
        direction: Direction,
    ) -> Rule {
        Rule {
            destination,
            name,
            direction,
            remote: self.remote,
            remote_network: self.remote_network,
            device_network: self.device_network,
            family: self.family,
            protocol: self.protocol,
            remote_ports: self.remote_ports,
            device_ports: self.device_ports,
            icmp: self.icmp,
            opened_by: self.opened_by,
            accepts: self.accepts,
        }
    }
}

type Read<T> = Result<T, String>;

/// Whether it denies: left out, it would open what comes after it.
pub(super) fn refuses(entry: &Json) -> bool {
    let forwarding = entry
        .member("actions")
        .and_then(|actions| actions.member("forwarding"));
    forwarding.and_then(Json::text).map(bare) != Some("accept")
}

pub(super) fn read(entry: &Json, kind: &str, direction: Direction) -> Read<Entry> {
    for (key, _) in entry.members().ok_or("it is no object")? {
        if !matches!(bare(key), "name" | "matches" | "actions" | "statistics") {
            return Err(unknown(key));
        }
    }
    let mut read = Entry {
        remote: Remote::Anyone,
        protocol: None,
        remote_network: None,
        device_network: None,
        family: family(kind)?,
        remote_ports: Ports::Any,
        device_ports: Ports::Any,
        icmp: None,
        opened_by: None,
        accepts: accepts(entry)?,
    };
    let matches = entry
        .member("matches")
        .ok_or("it matches nothing by a condition")?;
    let mut link = None;
    for (key, value) in matches.members().ok_or("matches is no object")? {
        match bare(key) {
            "mud" => read.class(value)?,
            "ipv4" => read.header(value, Family::V4, direction)?,
            "ipv6" => read.header(value, Family::V6, direction)?,
            "tcp" => read.transport(value, protocol::TCP, direction)?,
            "udp" => read.transport(value, protocol::UDP, direction)?,
            "icmp" => read.icmp(value)?,
            "eth" => link = Some(value),
            _ => return Err(unknown(key)),
        }
    }
    if let Some(link) = link {
        read.link(link)?;
    }
    if kind == "ethernet-acl-type" && read.family.is_none() {
        return Err("it speaks of frames that are no IP: a gateway does not pass these on".into());
    }
    read.check(direction)?;
    Ok(read)
}

/// What the list's type says.
fn family(kind: &str) -> Read<Option<Family>> {
    Ok(match kind {
        "ipv4-acl-type" | "mixed-eth-ipv4-acl-type" => Some(Family::V4),
        "ipv6-acl-type" | "mixed-eth-ipv6-acl-type" => Some(Family::V6),
        "" | "eth-acl-type" | "ethernet-acl-type" | "mixed-eth-ipv4-ipv6-acl-type" => None,
        _ => return Err(format!("lists of type {kind:?} are not known")),
    })
}

fn accepts(entry: &Json) -> Read<bool> {
    let actions = entry
        .member("actions")
        .and_then(Json::members)
        .ok_or("it has no actions")?;
    let mut accepts = None;
    for (key, value) in actions {
        match (bare(key), value.text().map(bare)) {
            ("forwarding", Some("accept")) => accepts = Some(true),
            ("forwarding", Some("drop" | "reject")) => accepts = Some(false),
            ("logging", _) => {}
            _ => return Err(unknown(key)),
        }
    }
    accepts.ok_or_else(|| "it neither accepts nor drops".to_owned())
}

impl Entry {
    /// The container `ietf-mud:mud`.
    fn class(&mut self, value: &Json) -> Read<()> {
        let [(key, value)] = value.members().unwrap_or_default() else {
            return Err("it names more than one class of peers, or none".into());
        };
        let text = || {
            value
                .text()
                .map(str::to_owned)
                .ok_or(format!("{key} is no text"))
        };
        let empty = |remote| {
            if value.is_empty_leaf() {
                Ok(remote)
            } else {
                Err(format!("{key} is not [null]"))
            }
        };
        self.be(match bare(key) {
            "local-networks" => empty(Remote::LocalNetworks)?,
            "same-manufacturer" => empty(Remote::SameManufacturer)?,
            "my-controller" => empty(Remote::MyController)?,
            "controller" => Remote::Controller(text()?),
            "manufacturer" => Remote::Manufacturer(text()?.to_ascii_lowercase()),
            "model" => Remote::Model(text()?),
            _ => return Err(unknown(key)),
        })
    }

    fn be(&mut self, remote: Remote) -> Read<()> {
        if self.remote != Remote::Anyone {
            return Err("it names its peer twice, by class and by name".into());
        }
        self.remote = remote;
        Ok(())
    }

    fn header(&mut self, value: &Json, family: Family, direction: Direction) -> Read<()> {
        if self.family.is_some_and(|known| known != family) {
            return Err("it speaks of the other IP version than its list".into());
        }
        self.family = Some(family);
        let (theirs, ours) = match direction {
            Direction::FromDevice => ("destination", "source"),
            Direction::ToDevice => ("source", "destination"),
        };
        let version = if family == Family::V4 { "ipv4" } else { "ipv6" };
        for (key, value) in value.members().ok_or("a header is an object")? {
            let key = bare(key);
            let network = || {
                let network = value.text().and_then(Network::parse);
                network
                    .filter(|network| network.family() == family)
                    .ok_or(format!("{key} is no network"))
            };
            if key == "protocol" {
                let number = value.number(255).ok_or("protocol is no number up to 255")?;
                self.be_protocol(u8::try_from(number).unwrap_or(u8::MAX))?;
            } else if key == format!("{theirs}-{version}-network") {
                self.remote_network = Some(network()?);
            } else if key == format!("{ours}-{version}-network") {
                self.device_network = Some(network()?);
            } else if key == short(theirs, "dnsname") {
                let host = value.text().unwrap_or_default().to_ascii_lowercase();
                if !is_host(&host) {
                    return Err(format!("{host:?} is no DNS name"));
                }
                self.be(Remote::Host(host))?;
            } else if key == short(ours, "dnsname") {
                return Err("it names the device itself by DNS".into());
            } else {
                return Err(unknown(key));
            }
        }
        Ok(())
    }

    fn be_protocol(&mut self, number: u8) -> Read<()> {
        if self.protocol.is_some_and(|known| known != number) {
            return Err("it names two protocols".into());
        }
        self.protocol = Some(number);
        Ok(())
    }

    fn transport(&mut self, value: &Json, number: u8, direction: Direction) -> Read<()> {
        self.be_protocol(number)?;
        for (key, value) in value.members().ok_or("a transport is an object")? {
            let is_theirs = match bare(key) {
                "destination-port" => direction == Direction::FromDevice,
                "source-port" => direction == Direction::ToDevice,
                "direction-initiated" if number == protocol::TCP => {
                    self.opened_by = Some(match value.text() {
                        Some("from-device") => Direction::FromDevice,
                        Some("to-device") => Direction::ToDevice,
                        _ => return Err("direction-initiated is from-device or to-device".into()),
                    });
                    continue;
                }
                _ => return Err(unknown(key)),
            };
            *(if is_theirs {
                &mut self.remote_ports
            } else {
                &mut self.device_ports
            }) = ports(value)?;
        }
        Ok(())
    }

    fn icmp(&mut self, value: &Json) -> Read<()> {
        let (mut kind, mut code) = (None, None);
        for (key, value) in value.members().ok_or("icmp is an object")? {
            let number = value
                .number(255)
                .and_then(|number| u8::try_from(number).ok());
            let number = number.ok_or("types and codes are numbers up to 255")?;
            match bare(key) {
                "type" => kind = Some(number),
                "code" => code = Some(number),
                _ => return Err(unknown(key)),
            }
        }
        self.icmp = Some((kind.ok_or("it names no type of ICMP")?, code));
        Ok(())
    }

    /// What a frame's header says that the packet's does not is not seen behind a gateway.
    fn link(&mut self, value: &Json) -> Read<()> {
        for (key, value) in value.members().ok_or("eth is an object")? {
            let text = value.text().unwrap_or_default().to_ascii_lowercase();
            match (bare(key), text.as_str()) {
                ("ethertype", "0x0800" | "ipv4") => self.be_family(Family::V4)?,
                ("ethertype", "0x86dd" | "ipv6") => self.be_family(Family::V6)?,
                ("ethertype", _) => {
                    return Err(format!(
                        "ethertype {text} is no IP: such frames stay on their link"
                    ));
                }
                ("destination-mac-address", mac) if self.is_group() && is_group_mac(mac) => {}
                ("destination-mac-address", _) => {
                    return Err(
                        "it tells packets apart by a link-layer address, which a router \
                                does not keep"
                            .into(),
                    );
                }
                _ => return Err(unknown(key)),
            }
        }
        Ok(())
    }

    fn be_family(&mut self, family: Family) -> Read<()> {
        if self.family.is_some_and(|known| known != family) {
            return Err("its ethertype is of the other IP version".into());
        }
        self.family = Some(family);
        Ok(())
    }

    /// Whether its peer is a group or everybody, so that a frame for many says nothing new.
    fn is_group(&self) -> bool {
        let address = self.remote_network.map(Network::address);
        address.is_some_and(|address| {
            address.is_multicast() || address == crate::network::DHCP_SERVERS_V4
        })
    }

    fn check(&mut self, direction: Direction) -> Read<()> {
        let ends = [self.remote_network, self.device_network];
        if let (Some(family), Some(network)) = (self.family, ends.into_iter().flatten().next())
            && network.family() != family
        {
            return Err("its networks are of the other IP version".into());
        }
        if self.icmp.is_some() {
            let number = match self.family {
                Some(Family::V4) => protocol::ICMP,
                Some(Family::V6) => protocol::ICMPV6,
                None => return Err("it names a type of ICMP and no IP version".into()),
            };
            self.be_protocol(number)?;
        }
        if self.family == Some(Family::V6) && matches!(self.protocol, Some(0 | 43 | 44 | 60)) {
            return Err(
                "its protocol is an extension header of IPv6: it stands before what is carried; \
                 multicast listener reports, which use one, are let through anyway"
                    .into(),
            );
        }
        let group = self.device_network.map(Network::address);
        if direction == Direction::ToDevice && group.is_some_and(|address| address.is_multicast()) {
            return Err(
                "it comes to a group, not to the device's address: a router does not pass it \
                        on to one device"
                    .into(),
            );
        }
        Ok(())
    }
}

fn short(side: &str, what: &str) -> String {
    let side = if side == "source" { "src" } else { "dst" };
    format!("{side}-{what}")
}

/// With its lowest bit of the first byte set.
fn is_group_mac(mac: &str) -> bool {
    let first = mac.split([':', '-']).next().unwrap_or_default();
    u8::from_str_radix(first, 16).is_ok_and(|byte| byte & 1 == 1)
}

fn ports(value: &Json) -> Read<Ports> {
    let number = |name: &str| {
        let port = value.member(name).map(|port| port.number(65535));
        port.map(|port| {
            port.and_then(|port| u16::try_from(port).ok())
                .ok_or("a port is a number up to 65535")
        })
        .transpose()
    };
    let members = value.members().ok_or("ports are an object")?;
    if let Some((key, _)) = (members.iter())
        .find(|(key, _)| !matches!(bare(key), "operator" | "port" | "lower-port" | "upper-port"))
    {
        return Err(unknown(key));
    }
    let operator = value
        .member("operator")
        .map(|operator| operator.text().unwrap_or_default());
    match (
        operator,
        number("port")?,
        number("lower-port")?,
        number("upper-port")?,
    ) {
        (None | Some("eq"), Some(port), None, None) => Ok(Ports::one(port)),
        (Some("neq"), Some(port), None, None) => Ok(Ports::Not(port)),
        (Some("lte"), Some(port), None, None) => Ok(Ports::Range(0, port)),
        (Some("gte"), Some(port), None, None) => Ok(Ports::Range(port, u16::MAX)),
        // `range` as drafts before RFC 8519 had it.
        (None | Some("range"), None, Some(from), to) if to.is_none_or(|to| from <= to) => {
            Ok(Ports::Range(from, to.unwrap_or(from)))
        }
        _ => Err("its ports cannot be read".into()),
    }
}

fn unknown(key: &str) -> String {
    format!(
        "it matches {:?}, which is not known or not enforced here",
        bare(key)
    )
}
