//! Packets through a gateway's nftables, held against our decision and against a second reading of
//! the file that knows none of our rules.

use super::probing::{SCRIPTS, may_have_a_gateway, passed, probe, python};
use super::*;
use access::{Direction, Family, Flow, Ports, decide, nftables, protocol};
use serde_json::{Value, json};
use std::process::Command;

fn device_at(family: Family) -> IpAddr {
    address(if family == Family::V4 {
        DEVICE_4
    } else {
        DEVICE_6
    })
}

/// An address beside a network, on the side where one is.
fn beside(network: Network) -> IpAddr {
    match network.address() {
        IpAddr::V4(v4) => {
            let size = 1u64 << (32 - network.prefix());
            let after = u64::from(u32::from(v4)) + size;
            let after = u32::try_from(after).unwrap_or(u32::from(v4).wrapping_sub(1));
            IpAddr::V4(after.into())
        }
        IpAddr::V6(v6) => {
            let size = 1u128
                .checked_shl(128 - u32::from(network.prefix()))
                .unwrap_or(0);
            IpAddr::V6(u128::from(v6).wrapping_add(size).into())
        }
    }
}

fn ports_in_and_beside(ports: Ports) -> Vec<u16> {
    let mut found = match ports {
        Ports::Any => vec![40_000],
        Ports::Range(from, to) => {
            vec![from, to, from.wrapping_sub(1), to.wrapping_add(1)]
        }
        Ports::Not(not) => vec![not.wrapping_add(1), not],
    };
    found.dedup();
    found
}

/// What a rule permits, and what lies next to it in every dimension.
fn flows_around(rule: &Rule, site: &Site) -> Vec<Flow> {
    let host = &site.hosts[0];
    let mut flows = Vec::new();
    for family in Family::ALL {
        let networks: Vec<Network> = match (site.addresses(&rule.remote, host), rule.remote_network)
        {
            (None, None) => {
                let anyone = if family == Family::V4 {
                    "203.0.113.9"
                } else {
                    "2001:db8:9::9"
                };
                vec![Network::parse(anyone).unwrap()]
            }
            (None, Some(network)) => vec![network],
            (Some(networks), network) => networks.into_iter().chain(network).collect(),
        };
        let networks = networks
            .into_iter()
            .filter(|network| network.family() == family);
        let device = device_at(family);
        for network in networks {
            // Groups of no scope are dropped before anybody is asked (RFC 4291 section 2.7).
            let inside = match network.address() {
                IpAddr::V6(v6) if v6.is_multicast() && v6.segments()[0] < 0xff02 => {
                    address("ff05::77")
                }
                other => other,
            };
            let mut base = Flow {
                direction: rule.direction,
                device,
                remote: inside,
                protocol: rule.protocol.unwrap_or(protocol::UDP),
                device_port: 0,
                remote_port: 0,
                icmp: rule
                    .icmp
                    .map_or((8, 0), |(kind, code)| (kind, code.unwrap_or(0))),
            };
            for remote_port in ports_in_and_beside(rule.remote_ports) {
                for device_port in ports_in_and_beside(rule.device_ports) {
                    flows.push(Flow {
                        remote_port,
                        device_port,
                        ..base
                    });
                }
            }
            base.remote_port = ports_in_and_beside(rule.remote_ports)[0];
            base.device_port = ports_in_and_beside(rule.device_ports)[0];
            let other_way = match rule.direction {
                Direction::FromDevice => Direction::ToDevice,
                Direction::ToDevice => Direction::FromDevice,
            };
            for protocol in [6, 17, 1, 58, 47] {
                flows.push(Flow { protocol, ..base });
            }
            flows.extend([
                Flow {
                    direction: other_way,
                    ..base
                },
                Flow {
                    remote: beside(network),
                    ..base
                },
                Flow {
                    icmp: (base.icmp.0.wrapping_add(1), base.icmp.1),
                    ..base
                },
                Flow {
                    icmp: (base.icmp.0, base.icmp.1.wrapping_add(1)),
                    ..base
                },
                Flow {
                    remote_port: base.device_port,
                    device_port: base.remote_port,
                    ..base
                },
                Flow {
                    remote_port: base.device_port,
                    device_port: base.remote_port,
                    direction: other_way,
                    ..base
                },
            ]);
        }
    }
    flows.retain(|flow| {
        let is_v6 = matches!(flow.remote, IpAddr::V6(_));
        // Packets that no host takes: to or from a group as its source, or ICMP of the other version.
        let is_from_group = flow.direction == Direction::ToDevice
            && (flow.remote.is_multicast() || flow.remote == address("255.255.255.255"));
        let is_own = site.hosts[0].addresses.contains(&flow.remote);
        !is_from_group && !is_own && flow.protocol != if is_v6 { 1 } else { 58 }
    });
    flows
}

/// What a file's judge must be told of a site.
fn told(site: &Site) -> Value {
    let texts = |networks: &[Network]| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
    let device = &site.hosts[0];
    let siblings = site.addresses(&Remote::SameManufacturer, device).unwrap();
    json!({
        "local_networks": texts(&site.addresses(&Remote::LocalNetworks, device).unwrap()),
        "controllers": (site.controllers.iter()).map(|(uri, list)| (uri.clone(), texts(list))).collect::<BTreeMap<_, _>>(),
        "my_controller": texts(&site.my_controllers[&product("camera")]),
        "classes": { "same-manufacturer": { "[None]": texts(&siblings) } },
        "names": site.names,
    })
}

#[test]
fn packets_get_the_decision_of_the_file_both_ways_and_in_both_versions() {
    if !may_have_a_gateway() {
        return;
    }
    let mut files = collected();
    files.push(("lamp".into(), LAMP.into()));
    let mut scenarios = Vec::new();
    for (name, text) in &files {
        let (_, mud) = read(text);
        let site = site_for(&mud.rules, &mud.url);
        let grants = grants(text);
        let mut flows: Vec<Flow> = mud
            .rules
            .iter()
            .flat_map(|rule| flows_around(rule, &site))
            .collect();
        flows.sort_by_key(|flow| format!("{flow:?}"));
        flows.dedup();
        let ruleset = nftables(&grants, &site).unwrap();
        scenarios.push((name, text, mud, site, grants, flows, ruleset));
    }
    let asked: Vec<(Vec<String>, &[Flow])> = (scenarios.iter())
        .map(|(.., flows, ruleset)| (ruleset.batches.clone(), flows.as_slice()))
        .collect();
    let answers = passed(&asked);
    let (mut permitted, mut denied) = (0, 0);
    for ((name, text, mud, site, grants, flows, _), through) in scenarios.iter().zip(answers) {
        let rules = grants.network_rules(&site.hosts[0]);
        let left_out: Vec<&str> = mud
            .unenforced
            .iter()
            .map(|one| one.entry.as_str())
            .collect();
        // A packet between two devices needs both: the other end judges it as one that comes.
        let other_end = |flow: &Flow| {
            let host = site
                .hosts
                .iter()
                .find(|host| host.addresses.contains(&flow.remote))?;
            let comes = Flow {
                direction: Direction::ToDevice,
                device: flow.remote,
                remote: flow.device,
                device_port: flow.remote_port,
                remote_port: flow.device_port,
                ..*flow
            };
            (flow.direction == Direction::FromDevice).then_some((host, comes))
        };
        let ends: Vec<Flow> = flows
            .iter()
            .map(|flow| other_end(flow).map_or(*flow, |(_, comes)| comes))
            .collect();
        let question = json!({
            "file": serde_json::from_str::<Value>(text).unwrap(),
            "site": told(site),
            "left_out": left_out,
            "probes": flows.iter().chain(&ends).map(probe).collect::<Vec<_>>(),
        });
        let mut judge = Command::new("python3");
        judge.args(["-I", &format!("{SCRIPTS}/judge.py")]);
        let judged = python(&mut judge, &question).unwrap_or_else(|why| panic!("{why}"));
        let judged: Vec<bool> = serde_json::from_value(judged).unwrap();
        let (here, there) = judged.split_at(flows.len());
        for (((flow, through), here), there) in flows.iter().zip(through).zip(here).zip(there) {
            let ours = decide(&rules, site, &site.hosts[0], flow);
            let theirs = other_end(flow).is_none_or(|(other, comes)| {
                decide(&grants.network_rules(other), site, other, &comes).is_permitted()
            });
            let both = ours.is_permitted() && theirs;
            assert_eq!(
                both, through,
                "{name}: {flow:?}: nftables, and we: {ours:?}"
            );
            // What every device needs, and the plane, are no matter of a file.
            let is_ours = matches!(
                ours,
                access::Passage::Permitted(
                    access::Permission::Infrastructure | access::Permission::Plane
                )
            );
            if !is_ours {
                assert_eq!(
                    through,
                    *here && *there,
                    "{name}: {flow:?}: the file, and we: {ours:?}"
                );
            }
            if through { permitted += 1 } else { denied += 1 }
        }
    }
    println!(
        "{} files: {permitted} packets passed, {denied} did not",
        files.len()
    );
    assert!(permitted > 20 && denied > 100);
}

/// What stands about containment, unlisted devices and another's address, each by a packet.
#[test]
fn a_gateway_denies_what_no_rule_speaks_of() {
    if !may_have_a_gateway() {
        return;
    }
    let (_, mud) = read(LAMP);
    let mut site = site_for(&mud.rules, &mud.url);
    let grants = grants(LAMP);
    let cloud = site.names["api.lamps.example"][0];
    let flow = |device: &str, remote: IpAddr, protocol, port| Flow {
        direction: Direction::FromDevice,
        device: address(device),
        remote,
        protocol,
        device_port: 40_000,
        remote_port: port,
        icmp: (8, 0),
    };
    let plane = address("203.0.113.250");
    let flows = [
        flow(DEVICE_4, cloud, 6, 8883),
        flow(DEVICE_4, plane, 6, 8883),
        flow(DEVICE_4, plane, 6, 22),
        // Nobody whom the list knows.
        flow("192.168.10.99", cloud, 6, 8883),
        // The site's resolver, and another one.
        flow(DEVICE_4, address("192.168.10.2"), 17, 53),
        flow(DEVICE_4, address("198.51.100.200"), 17, 53),
        // Another device on the other side of the gateway.
        flow(DEVICE_4, address("192.168.10.21"), 6, 80),
        Flow {
            icmp: (135, 0),
            ..flow(DEVICE_6, address("2001:db8:10::1"), 58, 0)
        },
        Flow {
            icmp: (128, 0),
            ..flow(DEVICE_6, address("2001:db8:9::1"), 58, 0)
        },
    ];
    let free = nftables(&grants, &site).unwrap().batches;
    let mut contained = |degree| {
        site.hosts[0].containment = Some(degree);
        nftables(&grants, &site).unwrap().batches
    };
    let quarantined = contained(model::Containment::Quarantined);
    let isolated = contained(model::Containment::Isolated);
    // The same by elements in a set, and back.
    let one_element = |degree| {
        let mut batches = free.clone();
        batches.push(access::containment(&site.hosts[0], degree));
        batches
    };
    let by_element = one_element(Some(model::Containment::Quarantined));
    let mut restored = by_element.clone();
    restored.push(access::containment(&site.hosts[0], None));
    // Another's address, from an interface that is not its.
    let mut bound = site.clone();
    bound.hosts[0].containment = None;
    bound.hosts[0].mac = Some([2, 0, 0, 0, 0, 9]);
    let bound = nftables(&grants, &bound).unwrap().batches;
    let asked: Vec<(Vec<String>, &[Flow])> = [
        free.clone(),
        quarantined,
        isolated,
        by_element,
        restored,
        bound,
    ]
    .into_iter()
    .map(|batches| (batches, flows.as_slice()))
    .collect();
    let answers = passed(&asked);
    let as_free = [true, true, false, false, true, false, false, true, false];
    let in_quarantine = [false, true, false, false, false, false, false, false, false];
    assert_eq!(answers[0], as_free, "free");
    assert_eq!(answers[1], in_quarantine, "quarantined");
    assert_eq!(answers[2], [false; 9], "isolated");
    assert_eq!(answers[3], in_quarantine, "quarantined by an element");
    assert_eq!(answers[4], as_free, "restored by an element");
    assert_eq!(answers[5], [false; 9], "another interface");
}
