//! What somebody would try who means harm, by its name.

use crate::house::{Heard, House, certificate, device, grants_of, message, service};
use gateway::{CloseReason, Gateway, Limits, Turn};
use model::Revocable;
use mqtt::encode::PublishFields;
use mqtt::{Connect, ForwardProperties, Qos, Version, Will};
use std::sync::Arc;
use std::time::Duration;

const NOTHING: Vec<Vec<u8>> = Vec::new();

#[test]
fn subscription_bomb() {
    let limits = Limits {
        subscribes_per_minute: 1000,
        ..Limits::default()
    };
    let mut house = House::with(limits, 1);
    let ingest = house.join(&service("ingest"), Version::V5);
    // One packet with very many filters: a few are looked at.
    let filters: Vec<String> = (0..2000).map(|n| format!("v1/cam-{n}/up/#")).collect();
    let names: Vec<&str> = filters.iter().map(String::as_str).collect();
    let codes = house.subscribe(ingest, &names);
    assert_eq!(codes.iter().filter(|code| **code == 1).count(), 8);
    assert!(codes[8..].iter().all(|code| *code == 0x97));
    // Very many packets: the session has its cap.
    for chunk in names.chunks(8).take(20) {
        house.subscribe(ingest, chunk);
    }
    let held: Vec<usize> = house.gateways[0]
        .sessions()
        .map(|session| session.subscriptions)
        .collect();
    assert_eq!(held, [50]);
}

#[test]
fn subscription_bomb_by_asking_without_end() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    let mut looked_at = 0;
    for _ in 0..100 {
        let codes = house.subscribe(camera, &["v1/+/down/+", "#", "+/+/+/+"]);
        looked_at += codes.iter().filter(|code| **code == 0x87).count();
    }
    assert_eq!(looked_at, 120);
}

#[test]
fn subscription_bomb_by_unsubscribing() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    house.subscribe(camera, &["v1/cam-1/down/+"]);
    let many: Vec<&str> = std::iter::repeat_n("a", 80_000).collect();
    for (count, is_taken) in [(200, true), (201, false), (80_000, false)] {
        let camera = house.join(&device("cam-1"), Version::V5);
        house.send(camera, |out, version| {
            mqtt::encode::unsubscribe(out, version, 5, &many[..count]);
        });
        let heard = house.heard(camera);
        match &heard[..] {
            [Heard::Unsuback { codes, .. }] => assert!(is_taken && codes.len() == count),
            [Heard::Disconnect { code: 0x97, .. }] => assert!(!is_taken),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn giant_topic() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    assert_eq!(house.subscribe(ingest, &["v1/+/up/#"]), [1]);
    let camera = house.join(&device("cam-1"), Version::V5);
    let long = format!("v1/cam-1/up/{}", "x".repeat(60_000));
    let deep = format!("v1/cam-1/up{}", "/x".repeat(100));
    for topic in [&long, &deep] {
        house.publish(camera, topic, b"x", Some(1));
        assert!(matches!(
            house.heard(camera)[..],
            [Heard::Puback { code: 0x87, .. }]
        ));
        assert_eq!(house.subscribe(camera, &[topic]), [0x8f]);
    }
    assert_eq!(house.payloads(ingest), NOTHING);
    let cut = house
        .signals
        .iter()
        .map(|signal| signal.to_string().len())
        .max();
    assert!(cut < Some(1000), "a signal stays small: {cut:?}");
}

#[test]
fn giant_packet_before_and_after_connect() {
    let mut house = House::new();
    let stranger = house.open(&device("cam-1"));
    // Only announced: nothing of it needs to come.
    house.send_bytes(stranger, &[0x10, 0xff, 0xff, 0x03]);
    assert_eq!(
        house.clients[stranger].closed,
        Some(CloseReason::PacketTooLarge)
    );
    let camera = house.join(&device("cam-1"), Version::V5);
    house.send_bytes(camera, &[0x30, 0xff, 0xff, 0xff, 0x7f]);
    assert!(matches!(
        house.heard(camera)[..],
        [Heard::Disconnect { code: 0x95, .. }]
    ));
}

#[test]
fn takeover_by_another_identity() {
    let mut house = House::new();
    let victim = house.join(&device("cam-1"), Version::V5);
    // A service may even share the device's name: it is another principal with its own sessions.
    for thief in [device("cam-2"), device("cam-10"), service("ingest")] {
        let client = house.connect(&thief, &Connect::new(Version::V5, "cam-1"));
        assert!(matches!(
            house.heard(client)[..],
            [Heard::Connack { code: 0x85, .. }]
        ));
    }
    let namesake = house.connect(&service("cam-1"), &Connect::new(Version::V5, "cam-1"));
    assert!(matches!(
        house.heard(namesake)[..],
        [Heard::Connack {
            code: 0,
            present: false,
            ..
        }]
    ));
    assert_eq!(house.clients[victim].closed, None);
    assert_eq!(house.signalled("foreign-client-id"), 3);
    assert_eq!(house.signalled("taken-over"), 0);
}

#[test]
fn takeover_by_a_copied_key_is_seen() {
    let mut house = House::new();
    house.join(&device("cam-1"), Version::V5);
    let until = house.now.plus(Duration::from_secs(1000));
    let copy = house.open_with(&device("cam-1"), certificate(2), until);
    house.say_connect(copy, &Connect::new(Version::V5, "cam-1"));
    let lines: Vec<String> = house.signals.iter().map(ToString::to_string).collect();
    assert!(
        lines
            .iter()
            .any(|line| line.contains("its key may be in two places")),
        "{lines:#?}"
    );
}

#[test]
fn foreign_client_id() {
    let mut house = House::new();
    let client = house.connect(
        &device("cam-1"),
        &Connect::new(Version::V311, "cam-2:\u{1b}[2J"),
    );
    assert!(matches!(
        house.heard(client)[..],
        [Heard::Connack { code: 0x85, .. }]
    ));
    let line = house
        .signals
        .iter()
        .find(|signal| signal.name() == "foreign-client-id")
        .unwrap()
        .to_string();
    assert!(!line.contains('\u{1b}'), "{line}");
}

/// A product's rule says how its devices may call themselves; whatever it is, nobody comes by the
/// session of another.
#[test]
fn a_certificate_with_a_client_id_that_its_product_does_not_have() {
    use access::ClientIds::{Containing, Free, Own};
    let taken = [
        (
            Own,
            ["cam-2:a", "urn:cam-2", "cam-20", "cam-1", ""],
            [true, false, false, false, true],
        ),
        (
            Containing,
            ["cam-2:a", "urn:cam-2", "cam-20", "cam-1", ""],
            [true, true, true, false, true],
        ),
        (
            Free,
            ["cam-2:a", "urn:cam-2", "cam-20", "cam-1", ""],
            [true, true, true, true, true],
        ),
    ];
    for (rule, client_ids, expected) in taken {
        let mut house = House::new();
        let victim = house.join(&device("cam-1"), Version::V311);
        house.client_ids = rule;
        for (client_id, is_taken) in client_ids.into_iter().zip(expected) {
            let connect = Connect::new(Version::V311, client_id);
            let client = house.connect(&device("cam-2"), &connect);
            let heard = house.heard(client);
            let code = if is_taken { 0 } else { 0x85 };
            assert!(
                matches!(heard[..], [Heard::Connack { code: said, .. }] if said == code),
                "{rule:?} {client_id}: {heard:?}"
            );
        }
        assert_eq!(house.clients[victim].closed, None);
        let refused = expected.iter().filter(|taken| !**taken).count();
        assert_eq!(house.signalled("foreign-client-id"), refused);
        assert_eq!(house.signalled("taken-over"), 0);
    }
}

#[test]
fn stolen_will() {
    let mut house = House::new();
    let other = house.join(&device("cam-2"), Version::V5);
    house.subscribe(other, &["v1/cam-2/down/+"]);
    let will = |topic| Will {
        qos: Qos::AtMostOnce,
        retain: false,
        topic,
        payload: b"open",
        delay_seconds: 0,
        forward: ForwardProperties::NONE,
    };
    for (version, code) in [(Version::V311, 0x87), (Version::V5, 0x87)] {
        let connect = Connect {
            will: Some(will("v1/cam-2/down/open")),
            ..Connect::new(version, "cam-1")
        };
        let thief = house.connect(&device("cam-1"), &connect);
        let heard = house.heard(thief);
        assert!(
            matches!(heard[..], [Heard::Connack { code: found, .. }] if found == code),
            "{heard:?}"
        );
        house.lose(thief);
    }
    assert_eq!(house.payloads(other), NOTHING);
    // One that was permitted, and is not any more when it fires.
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/alarm"]);
    let connect = Connect {
        will: Some(will("v1/cam-1/alarm")),
        ..Connect::new(Version::V5, "cam-1")
    };
    let camera = house.connect(&device("cam-1"), &connect);
    let less = crate::house::POLICIES.replace(
        "@id(\"devices-alarm\")\npermit",
        "@id(\"devices-alarm\")\nforbid",
    );
    let grants = grants_of(&less);
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    house.lose(camera);
    assert_eq!(house.payloads(ingest), NOTHING);
    assert_eq!(house.gateways[0].counters().wills_suppressed, 1);
}

#[test]
fn publish_after_revoke_is_not_delivered() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/up/#"]);
    let will = Will {
        qos: Qos::AtMostOnce,
        retain: false,
        topic: "v1/cam-1/up/gone",
        payload: b"will",
        delay_seconds: 0,
        forward: ForwardProperties::NONE,
    };
    let connect = Connect {
        will: Some(will),
        ..Connect::new(Version::V5, "cam-1")
    };
    let camera = house.connect(&device("cam-1"), &connect);
    let bystander = house.join(&device("cam-2"), Version::V5);
    house.heard(camera);
    // Half a packet before, its rest after.
    let mut bytes = Vec::new();
    mqtt::encode::publish(
        &mut bytes,
        Version::V5,
        &message("v1/cam-1/up/t", b"late", None),
    );
    house.send_bytes(camera, &bytes[..10]);
    let withdrawal = [Revocable::Principal(device("cam-1").principal)];
    let closed = house.with_gateway(0, |gateway, now, turn| {
        let closed = gateway.revoke(&withdrawal, now, turn);
        // The caller may still have bytes of it in its hands.
        assert_eq!(
            gateway.receive(
                gateway::ConnectionId(camera as u32),
                &bytes[10..],
                now,
                turn
            ),
            bytes.len() - 10
        );
        closed
    });
    assert_eq!(closed, 1);
    assert!(matches!(
        house.heard(camera)[..],
        [Heard::Disconnect { code: 0x98, .. }]
    ));
    assert_eq!(house.clients[camera].closed, Some(CloseReason::Revoked));
    assert_eq!(house.payloads(ingest), NOTHING);
    assert_eq!(house.clients[bystander].closed, None);
}

#[test]
fn output_of_the_revoked_is_dropped_and_its_session_gone_for_good() {
    let mut house = House::new();
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.subscribe(ingest, &["v1/+/up/#"]);
    house.clients[ingest].reads = false;
    let camera = house.join(&device("cam-1"), Version::V5);
    for id in 1..=20 {
        house.publish(camera, "v1/cam-1/up/t", &[b'x'; 1000], Some(id));
    }
    house.drain(ingest);
    let withdrawal = [Revocable::Principal(service("ingest").principal)];
    house.with_gateway(0, |gateway, now, turn| {
        gateway.revoke(&withdrawal, now, turn)
    });
    assert_eq!(
        house.gateways[0]
            .sessions()
            .filter(|session| session.persistent)
            .count(),
        0
    );
    house.publish(camera, "v1/cam-1/up/t", b"after", Some(30));
    house.crash();
    assert_eq!(
        house.gateways[0].sessions().count(),
        0,
        "a restart brings nothing back"
    );
}

#[test]
fn a_session_on_a_shared_certificate_ends_when_its_device_has_its_own() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/up/#"]);
    let shared = house.open_shared(&device("cam-1"));
    house.say_connect(shared, &Connect::new(Version::V5, "cam-1"));
    let neighbour = house.open_shared(&device("cam-2"));
    house.say_connect(neighbour, &Connect::new(Version::V5, "cam-2"));
    let own = house.open(&device("cam-1"));
    house.say_connect(own, &Connect::new(Version::V5, "cam-1:b"));
    for client in [shared, neighbour, own] {
        house.heard(client);
    }
    let principal = device("cam-1").principal;
    let ended = house.with_gateway(0, |gateway, now, turn| {
        gateway.end_shared(&principal, now, turn)
    });
    assert_eq!(ended, 1);
    assert!(matches!(
        house.heard(shared)[..],
        [Heard::Disconnect { code: 0x87, .. }]
    ));
    let closed = house.clients[shared].closed;
    assert_eq!(closed, Some(CloseReason::SharedReplaced));
    for stays in [neighbour, own] {
        assert_eq!(house.clients[stays].closed, None);
    }
    house.publish(own, "v1/cam-1/up/t", b"mine", None);
    assert_eq!(house.payloads(ingest), [b"mine".to_vec()]);
}

#[test]
fn a_revoked_certificate_closes_its_sessions_and_no_other() {
    let mut house = House::new();
    let until = house.now.plus(Duration::from_secs(1000));
    let mut clients = Vec::new();
    for (name, number) in [("cam-1", 1), ("cam-1:b", 2), ("cam-2", 3)] {
        let facts = device(&name[..5]);
        let client = house.open_with(&facts, certificate(number), until);
        house.say_connect(client, &Connect::new(Version::V5, name));
        clients.push(client);
    }
    let withdrawal = [Revocable::Certificate(certificate(2))];
    assert_eq!(
        house.with_gateway(0, |gateway, now, turn| gateway.revoke(
            &withdrawal,
            now,
            turn
        )),
        1
    );
    let closed: Vec<_> = clients
        .iter()
        .map(|client| house.clients[*client].closed)
        .collect();
    assert_eq!(closed, [None, Some(CloseReason::Revoked), None]);
}

#[test]
fn a_revoked_product_and_a_revoked_ca_close_all_of_theirs_and_no_other() {
    let by_issuer = Revocable::Issuer(certificate(1).issuer());
    let product = Revocable::Product("camera".parse().unwrap());
    let list = |names: &[&str]| -> Vec<Revocable> {
        let all = names.iter();
        all.map(|name| Revocable::Principal(device(name).principal))
            .collect()
    };
    let cases = [
        (vec![product], [true, true, false]),
        (vec![by_issuer], [true, true, true]),
        (list(&["cam-2", "cam-9", "cam-2"]), [false, true, false]),
        (
            vec![
                Revocable::Principal(device("cam-1").principal),
                Revocable::Certificate(certificate(1)),
                Revocable::Certificate(certificate(3)),
            ],
            [true, false, true],
        ),
    ];
    for (what, gone) in cases {
        let mut house = House::new();
        let until = house.now.plus(Duration::from_secs(1000));
        let mut clients = Vec::new();
        for (number, facts) in [
            (1, device("cam-1")),
            (2, device("cam-2")),
            (3, service("ingest")),
        ] {
            let name = facts.principal.name().to_owned();
            let client = house.open_with(&facts, certificate(number), until);
            house.say_connect(client, &Connect::new(Version::V5, &name));
            clients.push(client);
        }
        let expected = gone.iter().filter(|is_gone| **is_gone).count() as u32;
        let found = house.with_gateway(0, |gateway, now, turn| {
            let before = gateway.sessions_of(&what);
            (
                before,
                gateway.revoke(&what, now, turn),
                gateway.sessions_of(&what),
            )
        });
        assert_eq!(found, (expected, expected, 0), "{what:?}");
        let closed = clients.iter().map(|client| house.clients[*client].closed);
        let wanted = gone.map(|is_gone| is_gone.then_some(CloseReason::Revoked));
        assert_eq!(closed.collect::<Vec<_>>(), wanted, "{what:?}");
    }
}

#[test]
fn keepalive_dodger() {
    let mut house = House::new();
    let connect = Connect {
        keep_alive_seconds: 10,
        ..Connect::new(Version::V5, "cam-1")
    };
    let dodger = house.connect(&device("cam-1"), &connect);
    // A byte now and then is no packet: it shows nothing.
    let mut bytes = Vec::new();
    mqtt::encode::publish(
        &mut bytes,
        Version::V5,
        &message("v1/cam-1/up/t", b"slow", None),
    );
    for byte in bytes.iter().take(14) {
        house.send_bytes(dodger, &[*byte]);
        house.pass(Duration::from_secs(1));
        assert_eq!(house.clients[dodger].closed, None);
    }
    house.pass(Duration::from_secs(1));
    assert_eq!(house.clients[dodger].closed, Some(CloseReason::KeepAlive));
}

#[test]
fn connections_that_never_say_connect_are_few_per_principal() {
    let mut house = House::new();
    let clients: Vec<usize> = (0..20).map(|_| house.open(&device("cam-1"))).collect();
    let open = clients
        .iter()
        .filter(|client| house.clients[**client].closed.is_none())
        .count();
    assert_eq!(open, 8);
    let other = house.join(&device("cam-2"), Version::V5);
    assert_eq!(house.clients[other].closed, None);
}

#[test]
fn sessions_per_principal_are_few_and_stored_ones_count() {
    let mut house = House::new();
    for number in 0..10 {
        let id = format!("ingest:{number}");
        let connect = Connect {
            clean_start: false,
            session_expiry_seconds: Some(60),
            ..Connect::new(Version::V5, &id)
        };
        let client = house.connect(&service("ingest"), &connect);
        let code = if number < 8 { 0 } else { 0x97 };
        let heard = house.heard(client);
        assert!(
            matches!(heard[..], [Heard::Connack { code: found, .. }] if found == code),
            "{heard:?}"
        );
        house.lose(client);
    }
    assert_eq!(house.gateways[0].sessions().count(), 8);
}

#[test]
fn a_flood_of_refusals_makes_few_signals() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    let mut bytes = Vec::new();
    for _ in 0..10_000 {
        mqtt::encode::publish(
            &mut bytes,
            Version::V5,
            &message("v1/cam-2/up/t", b"x", None),
        );
    }
    house.signals.clear();
    house.send_bytes(camera, &bytes);
    assert_eq!(house.signals.len(), 64);
    // The rest is not read yet.
    assert_eq!(house.gateways[0].counters().publishes_denied, 4_000);
}

#[test]
fn a_memory_of_principals_does_not_grow_with_those_who_left() {
    let mut house = House::new();
    for number in 0..200 {
        let camera = house.join(&device(&format!("cam-{number}")), Version::V5);
        house.publish(camera, &format!("v1/cam-{number}/alarm"), b"x", None);
        house.lose(camera);
    }
    house.pass(Duration::from_secs(120));
    let text = format!("{:?}", house.gateways[0]);
    assert!(
        !text.contains("cam-150"),
        "a principal that left and owes nothing is forgotten"
    );
}

#[test]
fn a_message_to_nobodys_channel_reaches_no_wildcard() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    assert_eq!(
        house.subscribe(ingest, &["#", "v1/#", "+/+/up/#", "v1/+/up/#"]),
        [0x87, 0x87, 0x87, 1]
    );
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, "v1/cam-1/secret", b"x", None);
    house.publish(camera, "$SYS/x", b"x", None);
    assert_eq!(house.payloads(ingest), NOTHING);
}

#[test]
fn a_device_of_an_unknown_class_may_do_nothing() {
    let mut house = House::new();
    let mut facts = device("cam-1");
    facts.product = None;
    let camera = house.connect(&facts, &Connect::new(Version::V5, "cam-1"));
    house.heard(camera);
    house.publish(camera, "v1/cam-1/up/t", b"x", Some(1));
    assert!(matches!(
        house.heard(camera)[..],
        [Heard::Puback { code: 0x87, .. }]
    ));
    assert_eq!(house.subscribe(camera, &["v1/cam-1/down/+"]), [0x87]);
}

#[test]
fn a_rotten_journal_neither_stops_nor_fools_us() {
    let mut house = House::new();
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.subscribe(ingest, &["v1/+/up/#"]);
    house.lose(ingest);
    let camera = house.join(&device("cam-1"), Version::V5);
    for id in 1..=20 {
        house.publish(camera, "v1/cam-1/up/t", &[id as u8; 50], Some(id));
    }
    let mut state = 1_u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for _ in 0..2000 {
        let mut records = house.journal.clone();
        for _ in 0..=random() % 4 {
            let at = random() % records.len();
            match random() % 4 {
                0 => {
                    records.remove(at);
                }
                1 => {
                    let to = random() % records.len();
                    records.swap(at, to);
                }
                2 => {
                    let length = records[at].len();
                    records[at].truncate(random() % length.max(1));
                }
                _ => {
                    let place = random() % records[at].len().max(1);
                    if let Some(byte) = records[at].get_mut(place) {
                        *byte = random() as u8;
                    }
                }
            }
        }
        let mut gateway = Gateway::new(house.limits.clone(), 0, 1, Arc::clone(&house.grants));
        let mut turn = Turn::new();
        let found = gateway.recover(records.iter().map(Vec::as_slice), house.now, &mut turn);
        assert!(found.sessions <= 5 && found.messages <= 20, "{found:?}");
    }
}

#[test]
fn random_bytes_close_and_never_panic() {
    let mut house = House::new();
    let mut state = 7_u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    let mut valid = Vec::new();
    mqtt::encode::publish(
        &mut valid,
        Version::V5,
        &PublishFields {
            qos: Qos::AtLeastOnce,
            packet_id: Some(1),
            ..message("v1/cam-1/up/t", b"payload", None)
        },
    );
    mqtt::encode::subscribe(
        &mut valid,
        Version::V5,
        2,
        &[("v1/cam-1/down/+", Qos::AtLeastOnce)],
    );
    mqtt::encode::unsubscribe(&mut valid, Version::V5, 3, &["v1/cam-1/down/+"]);
    mqtt::encode::puback(&mut valid, Version::V5, 9, mqtt::Reason::SUCCESS, None);
    mqtt::encode::pingreq(&mut valid);
    for _ in 0..3000 {
        let client = house.connect(&device("cam-1"), &Connect::new(Version::V5, "cam-1"));
        let mut bytes = valid.clone();
        for _ in 0..=random() % 3 {
            let at = random() as usize % bytes.len();
            bytes[at] = random() as u8;
        }
        house.send_bytes(client, &bytes);
        house.heard(client);
        house.lose(client);
        house.signals.clear();
    }
}
