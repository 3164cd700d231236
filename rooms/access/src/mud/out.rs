//! Rules → a MUD file (RFC 8520), for whoever enforces at a place that is not ours.

use crate::fleet::Direction;
use crate::network::{Family, Network, Ports, Remote, Rule, protocol};
use model::Timestamp;
use serde_json::{Map, Value, json};

/// The class by which a role of `local` destinations is asked for at a site.
const LOCAL: &str = "urn:fleetward:local:";

/// Writes what a product's devices may say and hear as their manufacturer's file. `url` is where it will
/// stand.
///
/// # Errors
/// The URL is not https.
pub fn write_mud(
    rules: &[Rule],
    product: &str,
    url: &str,
    now: Timestamp,
) -> Result<String, String> {
    if super::authority(url).is_none() || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "{url:?} is no https URL: devices name their file by one"
        ));
    }
    let mut lists = Vec::new();
    let mut policies = Map::new();
    for direction in [Direction::FromDevice, Direction::ToDevice] {
        let mut names = Vec::new();
        for family in Family::ALL {
            let version = if family == Family::V4 { "ipv4" } else { "ipv6" };
            let list: Vec<Value> = (rules.iter())
                .filter(|rule| rule.direction == direction)
                .filter(|rule| rule.family.is_none_or(|only| only == family))
                .filter_map(|rule| Some((matches(rule, family)?, rule)))
                .enumerate()
                .map(|(number, (matches, rule))| {
                    let forwarding = if rule.accepts { "accept" } else { "drop" };
                    json!({
                        "name": format!("{}-{number}", rule.name),
                        "matches": matches,
                        "actions": { "forwarding": forwarding },
                    })
                })
                .collect();
            if list.is_empty() {
                continue;
            }
            let name = format!("{version}-{}", direction.name());
            names.push(json!({ "name": name }));
            lists.push(json!({
                "name": name,
                "type": format!("{version}-acl-type"),
                "aces": { "ace": list },
            }));
        }
        if !names.is_empty() {
            let policy = format!("{}-policy", direction.name());
            policies.insert(policy, json!({ "access-lists": { "access-list": names } }));
        }
    }
    let mut mud = json!({
        "mud-version": 1,
        "mud-url": url,
        "last-update": now.to_string(),
        "cache-validity": 48,
        "is-supported": true,
        "systeminfo": product,
    });
    if let Some(mud) = mud.as_object_mut() {
        mud.extend(policies);
    }
    let whole = json!({
        "ietf-mud:mud": mud,
        "ietf-access-control-list:acls": { "acl": lists },
    });
    Ok(format!("{whole:#}\n"))
}

/// What a packet of this version must be; `None`: none can be what the rule means.
fn matches(rule: &Rule, family: Family) -> Option<Value> {
    let (theirs, ours) = match rule.direction {
        Direction::FromDevice => ("destination", "source"),
        Direction::ToDevice => ("source", "destination"),
    };
    let version = if family == Family::V4 { "ipv4" } else { "ipv6" };
    let is_of = |network: Network| network.family() == family;
    let mut header = Map::new();
    let number = match (rule.protocol, family) {
        (Some(protocol::ICMP), Family::V6) | (Some(protocol::ICMPV6), Family::V4) => return None,
        (number, _) => number,
    };
    header.extend(number.map(|number| ("protocol".to_owned(), json!(number))));
    for (side, network) in [(theirs, rule.remote_network), (ours, rule.device_network)] {
        let Some(network) = network else { continue };
        if !is_of(network) {
            return None;
        }
        header.insert(
            format!("{side}-{version}-network"),
            json!(with_prefix(network)),
        );
    }
    let mut class = None;
    match &rule.remote {
        Remote::Anyone => {}
        Remote::Host(host) => {
            let side = if theirs == "source" { "src" } else { "dst" };
            header.insert(format!("ietf-acldns:{side}-dnsname"), json!(host));
        }
        Remote::Network(network) if is_of(*network) => {
            header.insert(
                format!("{theirs}-{version}-network"),
                json!(with_prefix(*network)),
            );
        }
        Remote::Network(_) => return None,
        Remote::Local(role) => class = Some(json!({ "controller": format!("{LOCAL}{role}") })),
        Remote::LocalNetworks => class = Some(json!({ "local-networks": [null] })),
        Remote::Controller(uri) => class = Some(json!({ "controller": uri })),
        Remote::MyController => class = Some(json!({ "my-controller": [null] })),
        Remote::Manufacturer(authority) => class = Some(json!({ "manufacturer": authority })),
        Remote::SameManufacturer => class = Some(json!({ "same-manufacturer": [null] })),
        Remote::Model(url) => class = Some(json!({ "model": url })),
    }
    let mut matches = Map::new();
    matches.insert(version.to_owned(), Value::Object(header));
    matches.extend(class.map(|class| ("ietf-mud:mud".to_owned(), class)));
    if let Some((kind, code)) = rule.icmp {
        let icmp = match code {
            Some(code) => json!({ "type": kind, "code": code }),
            None => json!({ "type": kind }),
        };
        matches.insert("icmp".to_owned(), icmp);
    }
    let transport = match rule.protocol {
        Some(protocol::TCP) => "tcp",
        Some(protocol::UDP) => "udp",
        _ => return Some(Value::Object(matches)),
    };
    let mut ports = Map::new();
    for (side, of) in [(theirs, rule.remote_ports), (ours, rule.device_ports)] {
        ports.extend(port(of).map(|port| (format!("{side}-port"), port)));
    }
    if let Some(opener) = rule.opened_by {
        ports.insert(
            "ietf-mud:direction-initiated".to_owned(),
            json!(opener.name()),
        );
    }
    if !ports.is_empty() {
        matches.insert(transport.to_owned(), Value::Object(ports));
    }
    Some(Value::Object(matches))
}

fn port(ports: Ports) -> Option<Value> {
    match ports {
        Ports::Any => None,
        Ports::Range(from, to) if from == to => Some(json!({ "operator": "eq", "port": from })),
        Ports::Range(from, to) => Some(json!({ "lower-port": from, "upper-port": to })),
        Ports::Not(port) => Some(json!({ "operator": "neq", "port": port })),
    }
}

/// Always with its prefix, as ietf-inet-types has it.
fn with_prefix(network: Network) -> String {
    format!("{}/{}", network.address(), network.prefix())
}
