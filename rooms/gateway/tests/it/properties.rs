//! What MQTT 5 adds to a connection and to a message.

use crate::house::{Heard, House, asking, device, message, service};
use gateway::{CloseReason, Limits};
use mqtt::encode::PublishFields;
use mqtt::{Connect, ForwardProperties, Qos, Version};
use std::time::Duration;

const TOPIC: &str = "v1/cam-1/up/t";

fn aliased<'m>(topic: &'m str, alias: u16, payload: &'m [u8]) -> PublishFields<'m> {
    PublishFields {
        topic,
        topic_alias: Some(alias),
        ..message("", payload, None)
    }
}

#[test]
fn a_clients_alias_stands_for_its_topic_until_the_connection_ends() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/up/#"]);
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish_as(camera, &aliased(TOPIC, 3, b"a"));
    house.publish_as(camera, &aliased("", 3, b"b"));
    house.publish_as(camera, &aliased("v1/cam-1/up/u", 3, b"c"));
    house.publish_as(camera, &aliased("", 3, b"d"));
    let topics: Vec<(String, Vec<u8>)> = (house.heard(ingest).into_iter())
        .map(|heard| match heard {
            Heard::Publish { topic, payload, .. } => (topic, payload),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        (TOPIC, b"a"),
        (TOPIC, b"b"),
        ("v1/cam-1/up/u", b"c"),
        ("v1/cam-1/up/u", b"d"),
    ];
    assert_eq!(
        topics,
        expected.map(|(topic, payload)| (topic.to_owned(), payload.to_vec()))
    );
    house.lose(camera);
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish_as(camera, &aliased("", 3, b"e"));
    let heard = house.heard(camera);
    assert!(
        matches!(heard[..], [Heard::Disconnect { code: 0x94, .. }]),
        "{heard:?}"
    );
}

#[test]
fn alias_abuse() {
    // A topic by its alias is held against the grants as any other.
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish_as(
        camera,
        &PublishFields {
            qos: Qos::AtLeastOnce,
            packet_id: Some(1),
            ..aliased("v1/cam-2/up/t", 1, b"x")
        },
    );
    house.publish_as(
        camera,
        &PublishFields {
            qos: Qos::AtLeastOnce,
            packet_id: Some(2),
            ..aliased("", 1, b"x")
        },
    );
    let heard = house.heard(camera);
    assert!(
        matches!(
            heard[..],
            [
                Heard::Puback { code: 0x87, .. },
                Heard::Puback { code: 0x87, .. }
            ]
        ),
        "{heard:?}"
    );
    // No alias above what was announced, whatever it would cost to remember.
    for alias in [17, 65_535] {
        let camera = house.join(&device("cam-1"), Version::V5);
        house.publish_as(camera, &aliased(TOPIC, alias, b"x"));
        assert_eq!(
            house.clients[camera].closed,
            Some(CloseReason::NotSupported)
        );
        let heard = house.heard(camera);
        assert!(
            matches!(heard[..], [Heard::Disconnect { code: 0x94, .. }]),
            "{heard:?}"
        );
    }
}

#[test]
fn our_aliases_go_to_who_takes_them_and_no_further() {
    let mut house = House::new();
    let connect = Connect {
        topic_alias_maximum: Some(1),
        ..Connect::new(Version::V5, "ingest")
    };
    let ingest = house.connect(&service("ingest"), &connect);
    house.heard(ingest);
    house.subscribe(ingest, &["v1/+/up/#"]);
    let camera = house.join(&device("cam-1"), Version::V5);
    for (topic, id) in [
        (TOPIC, None),
        (TOPIC, Some(1)),
        ("v1/cam-1/up/u", None),
        (TOPIC, None),
    ] {
        house.publish(camera, topic, b"x", id);
    }
    let said: Vec<(String, Option<u16>)> = (house.heard(ingest).into_iter())
        .map(|heard| match heard {
            Heard::Publish { topic, alias, .. } => (topic, alias),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        said,
        [
            (TOPIC.to_owned(), Some(1)),
            (String::new(), Some(1)),
            ("v1/cam-1/up/u".to_owned(), None),
            (String::new(), Some(1)),
        ]
    );
}

#[test]
fn a_message_names_all_subscriptions_that_it_matched_also_after_a_crash() {
    let mut house = House::new();
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.subscribe_with(ingest, 2, asking("v1/+/up/#", Qos::AtMostOnce));
    house.subscribe_with(ingest, 456_789, asking(TOPIC, Qos::AtLeastOnce));
    house.subscribe_with(ingest, 0, asking("v1/cam-1/up/+", Qos::AtLeastOnce));
    house.lose(ingest);
    let camera = house.join(&device("cam-1"), Version::V5);
    let properties = b"\x26\0\x01a\0\x01b\x03\0\x04text";
    house.publish_as(
        camera,
        &PublishFields {
            forward: ForwardProperties::from_validated(properties),
            ..message(TOPIC, b"x", Some(1))
        },
    );
    house.crash();
    let (ingest, heard) = house.join_persistent(&service("ingest"));
    let Heard::Publish { named, qos, .. } = &heard[1] else {
        panic!("{heard:?}")
    };
    assert_eq!(
        (named.as_slice(), *qos),
        (&[2, 456_789][..], Qos::AtLeastOnce)
    );
    house.puback(ingest, 1);
    // Asked again with another identifier, or without one.
    house.subscribe_with(ingest, 7, asking("v1/+/up/#", Qos::AtMostOnce));
    house.subscribe_with(ingest, 0, asking(TOPIC, Qos::AtLeastOnce));
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, TOPIC, b"y", None);
    let heard = house.heard(ingest);
    assert!(
        matches!(&heard[..], [Heard::Publish { named, .. }] if *named == [7]),
        "{heard:?}"
    );
}

#[test]
fn no_local_and_retain_as_published_are_each_subscriptions_own() {
    let mut house = House::new();
    let policies = format!(
        "{}\n@id(\"all\") permit (principal == Service::\"control\", action, resource == Channel::\"up\");",
        crate::house::POLICIES
    );
    let grants = crate::house::grants_of(&policies);
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    let control = house.join(&service("control"), Version::V5);
    let own = mqtt::SubscribeEntry {
        no_local: true,
        ..asking(TOPIC, Qos::AtLeastOnce)
    };
    house.subscribe_with(control, 0, own);
    house.publish(control, TOPIC, b"own", Some(1));
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, TOPIC, b"another's", Some(1));
    assert_eq!(house.payloads(control), [b"another's"]);
}

#[test]
fn what_was_announced_is_what_is_taken() {
    let limits = Limits {
        inflight_max: 5,
        keep_alive_seconds_max: 60,
        packet_bytes_max: 2000,
        ..Limits::default()
    };
    let mut house = House::with(limits, 1);
    let client = house.open(&device("cam-1"));
    let connect = Connect {
        keep_alive_seconds: 120,
        ..Connect::new(Version::V5, "")
    };
    house.say_connect(client, &connect);
    let bytes = house.drain(client);
    let mqtt::Packet::Connack(connack) = mqtt::decode_from_server(Version::V5, &bytes).unwrap()
    else {
        panic!("{bytes:?}")
    };
    assert_eq!(connack.receive_maximum, Some(5));
    assert_eq!(connack.server_keep_alive_seconds, Some(60));
    assert_eq!(connack.packet_bytes_max, Some(2000));
    assert_eq!(connack.topic_alias_maximum, 16);
    assert!(connack.assigned_client_id.unwrap().starts_with("cam-1:"));
    assert!(!connack.maximum_qos_1 && connack.retain_available);
    assert!(connack.shared_available && connack.subscription_ids_available);
    assert!(connack.wildcard_available);
    // One byte too many.
    house.publish(client, TOPIC, &[0; 2000], None);
    let heard = house.heard(client);
    assert!(
        matches!(heard[..], [Heard::Disconnect { code: 0x95, .. }]),
        "{heard:?}"
    );
}

#[test]
fn connect_storm() {
    let limits = Limits {
        connects_per_second: 10,
        ..Limits::default()
    };
    let mut house = House::with(limits, 1);
    let mut let_in = 0;
    for number in 0..50 {
        let facts = device(&format!("cam-{number}"));
        let client = house.connect(&facts, &Connect::new(Version::V5, facts.principal.name()));
        match house.heard(client)[..] {
            [Heard::Connack { code: 0, .. }] => let_in += 1,
            [Heard::Connack { code: 0x89, .. }] => {
                assert_eq!(house.clients[client].closed, Some(CloseReason::Refused));
            }
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!(let_in, 10);
    assert_eq!(house.gateways[0].counters().connects_put_off, 40);
    house.pass(Duration::from_secs(1));
    let old = house.connect(&device("cam-90"), &Connect::new(Version::V311, "cam-90"));
    assert!(matches!(
        house.heard(old)[..],
        [Heard::Connack { code: 0, .. }]
    ));
}

#[test]
fn giant_topics_by_their_alias() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    let giant = format!("v1/cam-1/up/{}", "x".repeat(60_000));
    let memory = |house: &House| format!("{:?}", house.gateways[0]).len();
    let before = memory(&house);
    for alias in 1..=16 {
        house.publish_as(camera, &aliased(&giant, alias, b"x"));
    }
    // But for the one that is looked at.
    let kept = memory(&house).saturating_sub(before + giant.len());
    assert!(kept < 20_000, "sixteen of them are not remembered: {kept}");
    // By its alias it is refused as by its name, and the connection stays.
    let fields = PublishFields {
        qos: Qos::AtLeastOnce,
        packet_id: Some(1),
        ..aliased("", 7, b"x")
    };
    house.publish_as(camera, &fields);
    let heard = house.heard(camera);
    assert!(
        matches!(heard[..], [Heard::Puback { code: 0x87, .. }]),
        "{heard:?}"
    );
}
