//! Cutting a device off, giving it back, and the plane's own word with it.

use crate::house::{Heard, House, address_of, device, grants_of, message, service};
use access::{Facts, Grants, certificate_topic, containment_topic, enroll_topic, report_topic};
use gateway::{CloseReason, Limits, Said, Signal};
use model::{Containment, DenyReason, DeviceId, Principal, Verdict};
use mqtt::{Connect, ForwardProperties, Qos, Version, Will};
use std::sync::Arc;
use std::time::Duration;

const NOTHING: Vec<Vec<u8>> = Vec::new();

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn contained(name: &str, containment: Containment) -> Facts {
    Facts {
        containment: Some(containment),
        ..device(name)
    }
}

fn contain(house: &mut House, facts: &Facts) -> u32 {
    let shards = u16::try_from(house.gateways.len()).unwrap();
    let home = gateway::home_shard(&facts.principal, shards);
    let facts = facts.clone();
    house.with_gateway(usize::from(home), |gateway, now, turn| {
        gateway.contain(facts, now, turn)
    })
}

fn quarantine(house: &mut House, name: &str) -> u32 {
    contain(house, &contained(name, Containment::Quarantined))
}

fn puback(house: &mut House, client: usize, topic: &str) -> (u8, String) {
    house.publish(client, topic, b"x", Some(9));
    match house.heard(client).as_slice() {
        [Heard::Puback { code, text, .. }] => (*code, text.clone().unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

fn was_denied_as_contained(house: &House) -> usize {
    let is_contained = |signal: &&Signal| {
        matches!(
            signal,
            Signal::PublishDenied {
                verdict: Verdict::Deny {
                    reason: DenyReason::Contained,
                    ..
                },
                ..
            } | Signal::SubscribeDenied {
                verdict: Verdict::Deny {
                    reason: DenyReason::Contained,
                    ..
                },
                ..
            }
        )
    };
    house.signals.iter().filter(is_contained).count()
}

/// A camera with a session, and services that hear and command it.
fn scene(shards: u16) -> (House, usize, usize, usize) {
    let mut house = House::with(Limits::default(), shards);
    let ingest = house.join(&service("ingest"), Version::V5);
    assert_eq!(
        house.subscribe(ingest, &["v1/+/up/#", "v1/+/alarm"]),
        [1, 1]
    );
    let control = house.join(&service("control"), Version::V5);
    let camera = house.join(&device("cam-1"), Version::V5);
    assert_eq!(house.subscribe(camera, &["v1/cam-1/down/+"]), [1]);
    (house, ingest, control, camera)
}

#[test]
fn a_quarantined_device_tries_every_way_out() {
    for shards in [1, 3] {
        let (mut house, ingest, control, camera) = scene(shards);
        assert_eq!(quarantine(&mut house, "cam-1"), 1);
        assert_eq!(house.clients[camera].closed, None, "the session stays");

        for topic in [
            "v1/cam-1/up/x",
            "v1/cam-1/alarm",
            "v1/cam-2/down/x",
            "nowhere",
            "$SYS/x",
        ] {
            let (code, text) = puback(&mut house, camera, topic);
            assert_eq!(code, 0x87, "{topic}");
            assert!(text.contains("contained"), "{topic}: {text}");
        }
        for filter in [
            "v1/cam-1/down/+",
            "v1/cam-1/down/x",
            "#",
            "$fleetward/#",
            "$SYS/#",
        ] {
            assert_eq!(house.subscribe(camera, &[filter]), [0x87], "{filter}");
        }
        for filter in [
            "$share/g/v1/cam-1/down/x",
            "$share/g/$fleetward/devices/cam-1/containment",
        ] {
            assert_eq!(house.subscribe(camera, &[filter]), [0x87], "{filter}");
        }
        // What it had subscribed to lies still.
        house.publish(control, "v1/cam-1/down/x", b"open", Some(1));
        assert_eq!(house.payloads(camera), NOTHING);
        assert_eq!(house.payloads(ingest), NOTHING);
        // Another session of the same identity is cut off as well, another name is refused.
        let facts = contained("cam-1", Containment::Quarantined);
        let second = house.connect(&facts, &Connect::new(Version::V5, "cam-1:intruder"));
        assert!(matches!(
            house.heard(second)[..],
            [Heard::Connack { code: 0, .. }]
        ));
        assert_eq!(puback(&mut house, second, "v1/cam-1/up/x").0, 0x87);
        assert_eq!(house.subscribe(second, &["v1/cam-1/down/+"]), [0x87]);
        let other = house.connect(&facts, &Connect::new(Version::V5, "cam-2"));
        assert!(matches!(
            house.heard(other)[..],
            [Heard::Connack { code: 0x85, .. }]
        ));
        assert_eq!(house.payloads(ingest), NOTHING);
        assert!(was_denied_as_contained(&house) >= 11);
        // Its neighbour notices nothing.
        let neighbour = house.join(&device("cam-2"), Version::V5);
        assert_eq!(puback(&mut house, neighbour, "v1/cam-2/up/x").0, 0);
        assert_eq!(house.payloads(ingest).len(), 1);
    }
}

#[test]
fn a_quarantined_device_speaks_with_the_plane() {
    let (mut house, _, _, camera) = scene(1);
    quarantine(&mut house, "cam-1");
    assert_eq!(puback(&mut house, camera, &report_topic(&id("cam-1"))).0, 0);
    assert_eq!(house.reports.len(), 1);
    let told = containment_topic(&id("cam-1"));
    assert_eq!(house.subscribe(camera, &[&told]), [1]);
    let count = house.with_gateway(0, |gateway, now, turn| {
        gateway.tell(&told, b"quarantined", now, turn)
    });
    assert_eq!(count, 1);
    assert_eq!(house.payloads(camera), [b"quarantined".to_vec()]);
    // An isolated one is told nothing.
    contain(&mut house, &contained("cam-1", Containment::Isolated));
    let count = house.with_gateway(0, |gateway, now, turn| {
        gateway.tell(&told, b"isolated", now, turn)
    });
    assert_eq!(count, 0);
}

#[test]
fn a_restored_device_works_again_without_connecting() {
    for shards in [1, 3] {
        let (mut house, ingest, control, camera) = scene(shards);
        quarantine(&mut house, "cam-1");
        house.publish(control, "v1/cam-1/down/x", b"missed", Some(1));
        assert_eq!(contain(&mut house, &device("cam-1")), 1);
        house.publish(control, "v1/cam-1/down/x", b"heard", Some(2));
        assert_eq!(house.payloads(camera), [b"heard".to_vec()]);
        assert_eq!(puback(&mut house, camera, "v1/cam-1/up/x").0, 0);
        assert_eq!(house.payloads(ingest).len(), 1);
    }
}

#[test]
fn what_waited_for_a_quarantined_device_does_not_reach_it() {
    let (mut house, _, control, camera) = scene(1);
    // It reads nothing, so messages pile up for it here.
    house.clients[camera].reads = false;
    let large = vec![b'x'; 16_000];
    for number in 0..100 {
        house.send(control, |out, version| {
            mqtt::encode::publish(
                out,
                version,
                &message("v1/cam-1/down/x", &large, Some(number + 1)),
            );
        });
    }
    quarantine(&mut house, "cam-1");
    house.clients[camera].reads = true;
    let before = house.clients[camera].socket.len();
    let heard = house.heard(camera);
    let published = |heard: &&Heard| matches!(heard, Heard::Publish { .. });
    let messages = heard.iter().filter(published).count();
    assert!(
        messages * large.len() <= before,
        "only what had left for the wire: {messages} of {before} bytes"
    );
    assert!(messages < 100);
    assert_eq!(house.clients[camera].closed, Some(CloseReason::Contained));
}

#[test]
fn a_will_of_a_contained_device_is_held_back() {
    let will = Will {
        topic: "v1/cam-1/alarm",
        payload: b"last words",
        qos: Qos::AtMostOnce,
        retain: false,
        delay_seconds: 0,
        forward: ForwardProperties::NONE,
    };
    let connect = Connect {
        will: Some(will),
        ..Connect::new(Version::V5, "cam-1")
    };
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/alarm"]);
    // Left before the quarantine.
    let camera = house.connect(&device("cam-1"), &connect);
    house.heard(camera);
    quarantine(&mut house, "cam-1");
    house.lose(camera);
    assert_eq!(house.payloads(ingest), NOTHING);
    // Left in it: it may connect, as it must reach the plane, and the will is not heard.
    let quarantined = contained("cam-1", Containment::Quarantined);
    let camera = house.connect(&quarantined, &connect);
    assert!(matches!(
        house.heard(camera)[..],
        [Heard::Connack { code: 0, .. }]
    ));
    house.lose(camera);
    assert_eq!(house.payloads(ingest), NOTHING);
    // Isolated: its sessions end, and no will tells.
    let camera = house.connect(&device("cam-1"), &connect);
    house.heard(camera);
    contain(&mut house, &contained("cam-1", Containment::Isolated));
    assert!(house.clients[camera].gone);
    assert_eq!(house.payloads(ingest), NOTHING);
    assert_eq!(house.gateways[0].counters().wills_suppressed, 3);
    // Restored before it was lost, it is a will like any other.
    let camera = house.connect(&quarantined, &connect);
    house.heard(camera);
    contain(&mut house, &device("cam-1"));
    house.lose(camera);
    assert_eq!(house.payloads(ingest), [b"last words".to_vec()]);
}

#[test]
fn an_isolated_device_loses_all_its_sessions_at_once() {
    let (mut house, ingest, _, camera) = scene(1);
    let second = house.connect(&device("cam-1"), &Connect::new(Version::V5, "cam-1:b"));
    house.heard(second);
    let waiting = house.open(&device("cam-1"));
    assert_eq!(
        contain(&mut house, &contained("cam-1", Containment::Isolated)),
        2
    );
    for client in [camera, second] {
        assert!(matches!(
            house.heard(client)[..],
            [Heard::Disconnect { code: 0x98, .. }]
        ));
    }
    for client in [camera, second, waiting] {
        assert_eq!(house.clients[client].closed, Some(CloseReason::Contained));
    }
    let left = house.gateways[0].sessions();
    let left = left.filter(|one| one.principal.name() == "cam-1").count();
    assert_eq!(left, 0);
    assert_eq!(house.payloads(ingest), NOTHING);
}

#[test]
fn containment_outlives_a_new_fleet_and_a_reconnect() {
    let (mut house, ingest, control, camera) = scene(1);
    quarantine(&mut house, "cam-1");
    for grants in [
        Arc::clone(&house.grants),
        grants_of(crate::house::POLICIES),
        Arc::new(Grants::none()),
    ] {
        house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
        assert_eq!(puback(&mut house, camera, "v1/cam-1/up/x").0, 0x87);
        assert_eq!(puback(&mut house, camera, &report_topic(&id("cam-1"))).0, 0);
    }
    let grants = Arc::clone(&house.grants);
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    house.lose(camera);
    let camera = house.join(&contained("cam-1", Containment::Quarantined), Version::V311);
    house.subscribe(ingest, &["v1/+/up/#"]);
    // MQTT 3.1.1 has no word for a refusal.
    house.publish(camera, "v1/cam-1/up/x", b"x", Some(3));
    house.publish(control, "v1/cam-1/down/x", b"x", Some(3));
    assert_eq!(house.subscribe(camera, &["v1/cam-1/down/+"]), [0x80]);
    assert_eq!(house.payloads(ingest), NOTHING);
    assert_eq!(house.payloads(camera), NOTHING);
}

#[test]
fn a_report_goes_to_the_plane_and_to_nobody_else() {
    let mut house = House::new();
    let topic = report_topic(&id("cam-1"));
    let ingest = house.join(&service("ingest"), Version::V5);
    let control = house.join(&service("control"), Version::V5);
    let camera = house.join(&device("cam-1"), Version::V5);
    let neighbour = house.join(&device("cam-2"), Version::V5);
    for listener in [ingest, camera, neighbour] {
        for filter in [
            topic.as_str(),
            "$fleetward/devices/+/report",
            "$fleetward/#",
        ] {
            assert_eq!(house.subscribe(listener, &[filter]), [0x87], "{filter}");
        }
    }
    // Nobody reports for another, and nobody but the plane tells.
    for liar in [neighbour, ingest, control] {
        for topic in [topic.clone(), containment_topic(&id("cam-1"))] {
            assert_eq!(puback(&mut house, liar, &topic).0, 0x87, "{topic}");
        }
    }
    assert_eq!(
        puback(&mut house, camera, &containment_topic(&id("cam-1"))).0,
        0x87
    );
    assert_eq!(
        house.subscribe(neighbour, &[&containment_topic(&id("cam-1"))]),
        [0x87]
    );
    assert!(house.reports.is_empty());
    house.publish(camera, &topic, b"{\"format\":1}", Some(1));
    house.publish(camera, &topic, b"{\"format\":1}", None);
    let told: Vec<_> = (house.reports.iter())
        .map(|report| (report.device.as_str(), report.payload.len()))
        .collect();
    assert_eq!(told, [("cam-1", 12), ("cam-1", 12)]);
    assert_eq!(house.payloads(ingest), NOTHING);
    // A request for a certificate goes the same way, and names the one by which it is asked.
    let request = enroll_topic(&id("cam-1"));
    for liar in [neighbour, ingest, control] {
        assert_eq!(puback(&mut house, liar, &request).0, 0x87);
        assert_eq!(
            house.subscribe(liar, &[&certificate_topic(&id("cam-1"))]),
            [0x87]
        );
    }
    house.publish(camera, &request, b"request", Some(2));
    let asked = house.reports.last().unwrap();
    assert!(matches!(asked.said, Said::Request { .. }), "{asked:?}");
    assert_eq!(
        (asked.device.as_str(), asked.payload.as_slice()),
        ("cam-1", &b"request"[..])
    );
    assert_eq!(house.reports.len(), 3);
    // Nor may a will be one.
    let will = Will {
        topic: &topic,
        payload: b"x",
        qos: Qos::AtMostOnce,
        retain: false,
        delay_seconds: 0,
        forward: ForwardProperties::NONE,
    };
    let connect = Connect {
        will: Some(will),
        ..Connect::new(Version::V5, "cam-1:b")
    };
    let refused = house.connect(&device("cam-1"), &connect);
    assert!(matches!(
        house.heard(refused)[..],
        [Heard::Connack { code: 0x87, .. }]
    ));
}

#[test]
fn a_flood_of_reports_and_a_giant_one_are_refused() {
    let mut house = House::with(
        Limits {
            reports_per_minute: 3,
            ..Limits::default()
        },
        1,
    );
    let topic = report_topic(&id("cam-1"));
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, &topic, &vec![0; 64 * 1024 + 1], Some(1));
    assert!(matches!(
        house.heard(camera)[..],
        [Heard::Puback { code: 0x97, .. }]
    ));
    let codes: Vec<u8> = (0..5)
        .map(|_| puback(&mut house, camera, &topic).0)
        .collect();
    assert_eq!(codes, [0, 0, 0, 0x97, 0x97]);
    // Another session of it has no rate of its own, nor does a new one.
    let second = house.connect(&device("cam-1"), &Connect::new(Version::V5, "cam-1:b"));
    house.heard(second);
    assert_eq!(puback(&mut house, second, &topic).0, 0x97);
    house.lose(camera);
    house.lose(second);
    let camera = house.join(&device("cam-1"), Version::V5);
    assert_eq!(puback(&mut house, camera, &topic).0, 0x97);
    house.pass(Duration::from_secs(20));
    assert_eq!(puback(&mut house, camera, &topic).0, 0);
    assert_eq!(house.reports.len(), 4);
}

#[test]
fn a_stolen_service_identity_cannot_reach_a_whole_fleet() {
    let policies = crate::house::POLICIES;
    let mut files = crate::house::files(policies);
    for file in &mut files {
        file.text = file
            .text
            .replace("[control]", "[control]\nfan_out_per_minute = 5");
    }
    let fleet = access::Fleet::read(&files).unwrap();
    let grants = Arc::new(Grants::compile(&fleet, [device("cam-1")]).unwrap());
    let mut house = House::new();
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    let control = house.join(&service("control"), Version::V5);
    let codes = |house: &mut House, client: usize| -> Vec<u8> {
        (0..8)
            .map(|number| puback(house, client, &format!("v1/cam-{number}/down/x")).0)
            .collect()
    };
    assert_eq!(
        codes(&mut house, control),
        [0, 0, 0, 0, 0, 0x97, 0x97, 0x97]
    );
    let denied = house.signals.iter().any(|signal| {
        matches!(
            signal,
            Signal::PublishDenied {
                verdict: Verdict::Deny {
                    reason: DenyReason::FanOutExceeded,
                    ..
                },
                ..
            }
        )
    });
    assert!(denied);
    // Those it speaks with it may go on speaking with; a new connection changes nothing.
    house.lose(control);
    let control = house.join(&service("control"), Version::V5);
    assert_eq!(
        codes(&mut house, control),
        [0, 0, 0, 0, 0, 0x97, 0x97, 0x97]
    );
    house.pass(Duration::from_secs(60));
    let control = house.join(&service("control"), Version::V5);
    assert_eq!(puback(&mut house, control, "v1/cam-7/down/x").0, 0);
}

#[test]
fn what_is_sent_and_heard_is_counted_by_channel_also_of_who_left_at_once() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/up/#"]);
    let camera = house.join(&device("cam-1"), Version::V5);
    house.subscribe(camera, &["v1/cam-1/down/+"]);
    let control = house.join(&service("control"), Version::V5);
    house.publish(camera, "v1/cam-1/up/x", b"12345", None);
    house.publish(camera, "v1/cam-1/up/y", b"67", Some(1));
    house.publish(camera, "v1/cam-1/state/y", b"6", Some(2));
    house.publish(camera, "v1/cam-2/up/x", b"refused", Some(3));
    house.publish(control, "v1/cam-1/down/x", b"123", None);
    house.lose(camera);
    let counted = |house: &mut House| {
        let mut all = Vec::new();
        house.with_gateway(0, |gateway, _, _| {
            gateway.take_traffic(|facts, channel, passed| {
                all.push((
                    facts.principal.name().to_owned(),
                    channel.id.to_string(),
                    passed.received,
                    passed.own,
                    (passed.messages, passed.bytes, passed.bytes_max),
                ));
            });
        });
        all.sort();
        all
    };
    let row = |who: &str, channel: &str, received, own, counts| {
        (who.to_owned(), channel.to_owned(), received, own, counts)
    };
    assert_eq!(
        counted(&mut house),
        [
            row("cam-1", "down", true, true, (1, 3, 3)),
            row("cam-1", "state", false, true, (1, 1, 1)),
            row("cam-1", "up", false, true, (2, 7, 5)),
            row("control", "down", false, false, (1, 3, 3)),
            row("ingest", "up", true, false, (2, 7, 5)),
        ]
    );
    assert!(counted(&mut house).is_empty());
}

#[test]
fn a_takeover_tells_both_addresses() {
    let mut house = House::new();
    let first = house.join(&device("cam-1"), Version::V5);
    let second = house.connect(&device("cam-1"), &Connect::new(Version::V5, "cam-1"));
    let told = house.signals.iter().find_map(|signal| match signal {
        Signal::TakenOver {
            address,
            previous_address,
            principal: Principal::Device(_),
            ..
        } => Some((*address, *previous_address)),
        _ => None,
    });
    assert_eq!(told, Some((address_of(second), address_of(first))));
}

/// What the caller holds encrypted for a device that does not read was sent before, and is not to reach
/// it after.
#[test]
fn what_is_encrypted_already_does_not_outlive_what_permitted_it() {
    let large = vec![b'x'; 16_000];
    let (mut house, _, control, camera) = scene(1);
    house.clients[camera].reads = false;
    house.publish(control, "v1/cam-1/down/x", &large, Some(1));
    let nothing_waits_here = |house: &mut House, client: usize| {
        let connection = gateway::ConnectionId(client as u32);
        house.gateways[0].output(connection).unwrap().is_empty()
    };
    assert!(nothing_waits_here(&mut house, camera));
    quarantine(&mut house, "cam-1");
    assert_eq!(house.clients[camera].closed, Some(CloseReason::Contained));

    let (mut house, ingest, _, camera) = scene(1);
    house.clients[ingest].reads = false;
    house.publish(camera, "v1/cam-1/up/x", &large, Some(1));
    assert!(nothing_waits_here(&mut house, ingest));
    let less = crate::house::POLICIES.replace(
        "Service::\"ingest\", action == Action::\"receive\", resource == Channel::\"up\"",
        "Service::\"idle\", action == Action::\"receive\", resource == Channel::\"up\"",
    );
    let grants = crate::house::grants_of(&less);
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    assert_eq!(house.clients[ingest].closed, Some(CloseReason::GrantLost));
    let withdraws = [
        CloseReason::Contained,
        CloseReason::GrantLost,
        CloseReason::Revoked,
    ];
    assert!(withdraws.iter().all(|reason| reason.withdraws()));
    assert!(!CloseReason::ByClient.withdraws() && !CloseReason::TakenOver.withdraws());
}
