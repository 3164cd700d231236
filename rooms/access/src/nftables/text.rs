//! How nftables writes conditions.

use super::protocol_name;
use crate::fleet::Direction;
use crate::network::{Family, Ports, Rule};
use core::net::IpAddr;

pub(super) fn digit(address: IpAddr) -> char {
    family_digit(Family::of(address))
}

pub(super) const fn family_digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

pub(super) const fn header(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

pub(super) const fn address_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    }
}

pub(super) fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// Nothing in it ends a comment or a line.
pub(super) fn comment(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "._-:/ ".contains(c) {
            c
        } else {
            '?'
        }
    };
    name.chars().take(100).map(plain).collect()
}

/// What a packet of this version that goes `way` must be, besides its addresses.
pub(super) fn packet(rule: &Rule, family: Family, way: Direction) -> String {
    let (source, destination) = match way {
        Direction::FromDevice => (rule.device_ports, rule.remote_ports),
        Direction::ToDevice => (rule.remote_ports, rule.device_ports),
    };
    let Some(number) = rule.protocol else {
        return String::new();
    };
    let conditions = match protocol_name(number) {
        Some(name) => ports(name, "sport", source) + &ports(name, "dport", destination),
        None => icmp(rule, family).unwrap_or_default(),
    };
    if conditions.is_empty() {
        return format!("meta l4proto {number} ");
    }
    conditions
}

fn icmp(rule: &Rule, family: Family) -> Option<String> {
    let (kind, code) = rule.icmp?;
    let name = if family == Family::V4 {
        "icmp"
    } else {
        "icmpv6"
    };
    let code = code
        .map(|code| format!("{name} code {code} "))
        .unwrap_or_default();
    Some(format!("{name} type {kind} {code}"))
}

fn ports(protocol: &str, side: &str, ports: Ports) -> String {
    match ports {
        Ports::Any => String::new(),
        Ports::Range(from, to) if from == to => format!("{protocol} {side} {from} "),
        Ports::Range(from, to) => format!("{protocol} {side} {from}-{to} "),
        Ports::Not(port) => format!("{protocol} {side} != {port} "),
    }
}
