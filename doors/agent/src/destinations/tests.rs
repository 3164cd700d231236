use super::*;
use crate::nft::Table;
use access::{Direction, Flow, Grants, Ports, Remote, Rule as Granted, decide};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

#[path = "../../../../rooms/access/tests/it/network/decisions.rs"]
mod decisions;
#[path = "../../../../rooms/access/tests/it/network/sending.rs"]
mod sending;

#[test]
fn half_of_what_cannot_be_read_is_not_enforced() {
    let rule = json!({ "accepts": true, "host": null, "networks": ["192.0.2.0/24"], "widened": false,
        "ip_version": null, "protocol": 6, "ports": [443, 443], "ports_not": null, "icmp": null });
    let read = |rule: &Value| Rules::read(json!({ "rules": [rule] }).to_string().as_bytes());
    assert_eq!(read(&rule).unwrap().passages().len(), 1);
    for (key, value) in [
        ("networks", json!(["192.0.2.0/33"])),
        ("networks", json!(["nowhere"])),
        ("ports", json!([2, 1])),
        ("protocol", json!(1)),
        ("icmp", json!([8, null])),
    ] {
        let mut wrong = rule.clone();
        wrong[key] = value;
        assert!(read(&wrong).is_none(), "{key}");
    }
    assert!(Rules::read(b"{}").is_none());
}

/// As the plane answers, from its rules.
fn answer(rules: &[Granted], scene: &decisions::Scene) -> Rules {
    let own = rules
        .iter()
        .filter(|rule| rule.direction == Direction::FromDevice);
    let list: Vec<Value> = own
        .map(|rule| {
            let Ports::Range(from, to) = rule.remote_ports else {
                panic!("{rule:?}")
            };
            let networks: Vec<String> = match &rule.remote {
                // This site's, which a plane would widen.
                Remote::Local(role) => scene.site.local[role]
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                remote => remote.networks().iter().map(ToString::to_string).collect(),
            };
            let host = match &rule.remote {
                Remote::Host(host) => Some(host),
                _ => None,
            };
            json!({ "accepts": rule.accepts, "host": host, "networks": networks, "widened": false,
                "ip_version": null, "protocol": rule.protocol, "ports": [from, to],
                "ports_not": null, "icmp": null })
        })
        .collect();
    let mut read = Rules::read(json!({ "rules": list }).to_string().as_bytes()).unwrap();
    for (name, addresses) in &scene.site.names {
        read.know(name, addresses);
    }
    read
}

fn ip(arguments: &str) -> bool {
    let mut ip = Command::new("ip");
    ip.args(arguments.split(' ')).stderr(Stdio::null());
    ip.status().is_ok_and(|status| status.success())
}

#[test]
fn ten_thousand_decisions_of_the_device_are_those_of_its_policies() {
    std::thread::spawn(|| {
        let made = unshare(CloneFlags::CLONE_NEWNET).is_ok()
            && ip("link set lo up")
            && ip("link add v0 type veth peer name v1")
            && ip("addr add 10.9.0.1/24 dev v0")
            && ip("-6 addr add 2001:db8:9::1/64 dev v0 nodad")
            && ip("link set v1 up")
            && ip("link set v0 up")
            && ip("route add default dev v0")
            && ip("-6 route add default dev v0");
        let table = made.then(Table::make);
        let (Some(Ok(mut table)), true) =
            (table, Command::new("python3").arg("-V").output().is_ok())
        else {
            println!("skipped: no network namespace with nftables, or no python3, can be had here");
            return;
        };
        let mut random = decisions::Random::new(20260101);
        let (mut compared, mut permitted, mut passed_over) = (0, 0, 0);
        let (mut fenced, mut stands) = (false, false);
        for _ in 0..20 {
            let scene = decisions::scene(&mut random, 6);
            let flows: Vec<(usize, Flow)> = (0..500)
                .map(|_| decisions::flow(&mut random, &scene))
                .collect();
            let fleet = access::Fleet::read(&scene.files).unwrap();
            let population = scene.site.hosts.iter().map(|host| access::Facts {
                principal: model::Principal::Device(host.device.clone()),
                product: Some(host.product.clone()),
                groups: host.groups.clone(),
                attributes: Default::default(),
                containment: None,
                assurance: model::Assurance::default(),
            });
            let grants = Grants::compile(&fleet, population).unwrap();
            for (number, host) in scene.site.hosts.iter().enumerate() {
                let rules = grants.network_rules(host);
                let own = answer(&rules, &scene);
                // Where nobody is cut off, a device may always speak with the plane's doors.
                table
                    .grant(&scene.site.plane, &[], &own.passages(), stands)
                    .unwrap();
                stands = true;
                assert!(table.granted().unwrap() >= own.passages().len());
                match (host.containment, fenced) {
                    (Some(_), _) => {
                        table.fence(&scene.site.plane, &[], fenced).unwrap();
                        fenced = true;
                    }
                    (None, true) => {
                        table.lift().unwrap();
                        fenced = false;
                    }
                    (None, false) => {}
                }
                let flows: Vec<Flow> = flows
                    .iter()
                    .filter(|(of, _)| *of == number)
                    .map(|(_, flow)| *flow)
                    .collect();
                let sent = sending::let_out(Command::new("env"), &flows);
                for (flow, sent) in flows.iter().zip(sent) {
                    let is_plane = flow.protocol == 6
                        && flow.remote == scene.site.plane[0].ip()
                        && flow.remote_port == 8883;
                    if is_plane && host.containment == Some(model::Containment::Isolated) {
                        // By which it hears that it is restored. A gateway keeps it shut.
                        assert!(sent);
                        passed_over += 1;
                        continue;
                    }
                    let ours = decide(&rules, &scene.site, host, flow).is_permitted();
                    assert_eq!(ours, sent, "{flow:?} of {host:?}\n{}", scene.policies);
                    compared += 1;
                    permitted += usize::from(sent);
                }
            }
        }
        println!(
            "{compared} decisions, {permitted} permitted; {passed_over} to the plane passed over"
        );
        assert!(compared + passed_over == 10_000 && permitted > 1000);
        // Nobody else takes it away: the table is our socket's.
        let before = table.granted().unwrap();
        let flush = Command::new("nft").args(["flush", "ruleset"]).output();
        assert!(flush.is_ok_and(|output| output.status.success()));
        assert_eq!(table.granted().unwrap(), before);
        assert!(before > 14);
    })
    .join()
    .unwrap();
}
