//! What the standards ask of a server, case by case.

use crate::house::{Heard, House, asking, certificate, device, message, service, twice};
use gateway::{CloseReason, ConnectionId, Limits};
use model::Timestamp;
use mqtt::encode::PublishFields;
use mqtt::{Connect, ForwardProperties, Qos, Reason, Version, Will};
use std::time::Duration;

const BOTH: [Version; 2] = [Version::V311, Version::V5];

fn puback(id: u16) -> Heard {
    Heard::Puback {
        id,
        code: 0,
        text: None,
    }
}

#[test]
fn a_message_reaches_who_asked_for_it_and_is_acknowledged() {
    for version in BOTH {
        let mut house = House::new();
        let ingest = house.join(&service("ingest"), version);
        assert_eq!(house.subscribe(ingest, &["v1/+/up/#"]), [1]);
        let camera = house.join(&device("cam-1"), version);
        house.publish(camera, "v1/cam-1/up/t", b"21", Some(9));
        assert_eq!(house.heard(camera), [puback(9)]);
        let heard = house.heard(ingest);
        let Heard::Publish {
            topic,
            payload,
            qos,
            dup,
            id,
            ..
        } = &heard[0]
        else {
            panic!("{heard:?}")
        };
        assert_eq!(
            (topic.as_str(), payload.as_slice(), *qos, *dup, *id),
            (
                "v1/cam-1/up/t",
                &b"21"[..],
                Qos::AtLeastOnce,
                false,
                Some(1)
            )
        );
        house.publish(camera, "v1/cam-1/up/t", b"22", None);
        assert_eq!(house.payloads(ingest), [b"22"]);
    }
}

#[test]
fn the_first_packet_is_connect_and_comes_once() {
    for version in BOTH {
        let mut house = House::new();
        let early = house.open(&device("cam-1"));
        house.clients[early].version = version;
        house.publish(early, "v1/cam-1/up/t", b"x", None);
        assert_eq!(house.clients[early].closed, Some(CloseReason::Malformed));
        let twice = house.join(&device("cam-1"), version);
        house.say_connect(twice, &Connect::new(version, "cam-1"));
        assert_eq!(house.clients[twice].closed, Some(CloseReason::Malformed));
        let heard = house.heard(twice);
        match version {
            Version::V311 => assert_eq!(heard, []),
            Version::V5 => assert!(
                matches!(heard[..], [Heard::Disconnect { code: 0x82, .. }]),
                "{heard:?}"
            ),
        }
    }
}

#[test]
fn a_connection_without_connect_is_closed_in_time() {
    let mut house = House::new();
    let silent = house.open(&device("cam-1"));
    house.pass(Duration::from_millis(4999));
    assert_eq!(house.clients[silent].closed, None);
    house.pass(Duration::from_millis(1));
    assert_eq!(
        house.clients[silent].closed,
        Some(CloseReason::ConnectTimeout)
    );
}

#[test]
fn an_unknown_protocol_level_is_told_so() {
    let mut house = House::new();
    let old = house.open(&device("cam-1"));
    house.clients[old].version = Version::V311;
    house.send_bytes(old, b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x3c\0\x01a");
    assert!(matches!(
        house.heard(old)[..],
        [Heard::Connack { code: 0x84, .. }]
    ));
    assert_eq!(house.clients[old].closed, Some(CloseReason::Malformed));
}

#[test]
fn client_identifiers_are_own_assigned_or_refused() {
    let mut house = House::new();
    for id in ["cam-1", "cam-1:a"] {
        let client = house.connect(&device("cam-1"), &Connect::new(Version::V311, id));
        assert!(
            matches!(house.heard(client)[..], [Heard::Connack { code: 0, .. }]),
            "{id}"
        );
    }
    let client = house.connect(&device("cam-1"), &Connect::new(Version::V5, ""));
    let heard = house.heard(client);
    let Heard::Connack {
        code: 0,
        assigned: Some(assigned),
        ..
    } = &heard[0]
    else {
        panic!("{heard:?}")
    };
    assert!(assigned.starts_with("cam-1:"));
    let client = house.connect(&device("cam-1"), &Connect::new(Version::V311, ""));
    assert!(matches!(
        house.heard(client)[..],
        [Heard::Connack { code: 0, .. }]
    ));
    for (version, id) in [
        (Version::V311, "cam-2"),
        (Version::V5, "cam-10"),
        (Version::V5, "cam-1/x"),
    ] {
        let client = house.connect(&device("cam-1"), &Connect::new(version, id));
        assert!(
            matches!(house.heard(client)[..], [Heard::Connack { code: 0x85, .. }]),
            "{id:?}"
        );
        assert_eq!(house.clients[client].closed, Some(CloseReason::Refused));
    }
}

#[test]
fn user_name_and_password_are_ignored() {
    let mut house = House::new();
    let connect = Connect {
        username: Some("?SDK=Python"),
        password: Some(b"x"),
        ..Connect::new(Version::V311, "cam-1")
    };
    let client = house.connect(&device("cam-1"), &connect);
    assert!(matches!(
        house.heard(client)[..],
        [Heard::Connack { code: 0, .. }]
    ));
}

#[test]
fn a_device_gets_no_persistent_session() {
    let mut house = House::new();
    let connect = Connect {
        clean_start: false,
        session_expiry_seconds: Some(600),
        ..Connect::new(Version::V5, "cam-1")
    };
    for _ in 0..2 {
        let client = house.connect(&device("cam-1"), &connect);
        let heard = house.heard(client);
        assert!(
            matches!(
                heard[..],
                [Heard::Connack {
                    code: 0,
                    present: false,
                    expiry: Some(0),
                    ..
                }]
            ),
            "{heard:?}"
        );
        house.subscribe(client, &["v1/cam-1/down/+"]);
        house.lose(client);
    }
    let old = Connect {
        clean_start: false,
        ..Connect::new(Version::V311, "cam-1")
    };
    let client = house.connect(&device("cam-1"), &old);
    assert!(matches!(
        house.heard(client)[..],
        [Heard::Connack {
            code: 0,
            present: false,
            ..
        }]
    ));
    assert!(house.journal.is_empty());
}

#[test]
fn a_persistent_session_gets_what_it_missed_in_order_and_once_acknowledged_no_more() {
    let mut house = House::new();
    let (ingest, _) = house.join_persistent(&service("ingest"));
    assert_eq!(house.subscribe(ingest, &["v1/+/up/#"]), [1]);
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, "v1/cam-1/up/t", b"seen", Some(1));
    assert_eq!(house.payloads(ingest), [b"seen"]);
    house.lose(ingest);
    for (id, payload) in [(2, b"a"), (3, b"b")] {
        house.publish(camera, "v1/cam-1/up/t", payload, Some(id));
    }
    house.publish(camera, "v1/cam-1/up/t", b"qos 0 is not kept", None);
    let (ingest, heard) = house.join_persistent(&service("ingest"));
    let got: Vec<_> = heard
        .iter()
        .filter_map(|heard| match heard {
            Heard::Publish {
                payload, dup, id, ..
            } => Some((payload.as_slice(), *dup, id.unwrap())),
            _ => None,
        })
        .collect();
    assert!(matches!(heard[0], Heard::Connack { present: true, .. }));
    assert_eq!(
        got,
        [(&b"seen"[..], true, 1), (b"a", false, 2), (b"b", false, 3)]
    );
    for id in [1, 2, 3] {
        house.puback(ingest, id);
    }
    house.lose(ingest);
    let (_, heard) = house.join_persistent(&service("ingest"));
    assert_eq!(heard.len(), 1, "{heard:?}");
}

#[test]
fn a_clean_start_ends_the_old_session() {
    let mut house = House::new();
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.subscribe(ingest, &["v1/+/up/#"]);
    house.lose(ingest);
    let clean = house.join(&service("ingest"), Version::V5);
    house.lose(clean);
    let (_, heard) = house.join_persistent(&service("ingest"));
    assert!(
        matches!(heard[..], [Heard::Connack { present: false, .. }]),
        "{heard:?}"
    );
}

#[test]
fn a_session_ends_when_its_expiry_has_passed() {
    let mut house = House::new();
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.lose(ingest);
    house.pass(Duration::from_secs(3599));
    assert_eq!(house.gateways[0].sessions().count(), 1);
    house.pass(Duration::from_secs(1));
    assert_eq!(house.gateways[0].sessions().count(), 0);
    house.crash();
    assert_eq!(
        house.gateways[0].sessions().count(),
        0,
        "its end is in the journal"
    );
}

#[test]
fn a_refusal_is_no_larger_than_its_client_takes() {
    let mut house = House::new();
    let connect = Connect {
        packet_bytes_max: Some(20),
        ..Connect::new(Version::V5, "cam-2")
    };
    let client = house.connect(&device("cam-1"), &connect);
    let bytes = house.drain(client);
    assert!(bytes.len() <= 20, "{bytes:?}");
    assert_eq!(bytes.get(3), Some(&0x85));
}

#[test]
fn keep_alive_is_one_and_a_half_times_what_was_agreed() {
    for version in BOTH {
        let mut house = House::new();
        let connect = Connect {
            keep_alive_seconds: 10,
            ..Connect::new(version, "cam-1")
        };
        let client = house.connect(&device("cam-1"), &connect);
        for _ in 0..5 {
            house.pass(Duration::from_secs(14));
            house.send(client, |out, _| mqtt::encode::pingreq(out));
        }
        assert_eq!(house.clients[client].closed, None);
        house.heard(client);
        house.pass(Duration::from_secs(15));
        assert_eq!(house.clients[client].closed, Some(CloseReason::KeepAlive));
        if version == Version::V5 {
            assert!(matches!(
                house.heard(client)[..],
                [Heard::Disconnect { code: 0x8d, .. }]
            ));
        }
    }
}

#[test]
fn a_long_keep_alive_is_shortened_and_said() {
    let mut house = House::new();
    let connect = Connect {
        keep_alive_seconds: 0,
        ..Connect::new(Version::V5, "cam-1")
    };
    let client = house.connect(&device("cam-1"), &connect);
    assert!(matches!(
        house.heard(client)[..],
        [Heard::Connack {
            keep_alive: Some(1200),
            ..
        }]
    ));
    house.pass(Duration::from_secs(1800));
    assert_eq!(house.clients[client].closed, Some(CloseReason::KeepAlive));
}

#[test]
fn subscriptions_are_granted_each_by_its_code() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    let codes = house.subscribe(
        camera,
        &[
            "v1/cam-1/down/+",
            "v1/cam-2/down/+",
            "#",
            "$share/g/v1/cam-1/down/+",
        ],
    );
    assert_eq!(codes, [1, 0x87, 0x87, 0x87]);
    assert_eq!(house.signalled("subscribe-denied"), 3);
    let old = house.join(&device("cam-2"), Version::V311);
    assert_eq!(
        house.subscribe(old, &["v1/cam-1/down/+", "v1/cam-2/down/+"]),
        [0x80, 1]
    );
}

#[test]
fn after_unsubscribe_nothing_comes() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/up/#", "v1/+/alarm"]);
    house.send(ingest, |out, version| {
        mqtt::encode::unsubscribe(out, version, 4, &["v1/+/up/#", "v1/nothing"])
    });
    assert_eq!(
        house.heard(ingest),
        [Heard::Unsuback {
            id: 4,
            codes: vec![0, 0x11]
        }]
    );
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, "v1/cam-1/up/t", b"x", None);
    house.publish(camera, "v1/cam-1/alarm", b"y", None);
    assert_eq!(house.payloads(ingest), [b"y"]);
}

#[test]
fn overlapping_subscriptions_give_one_copy() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/up/#", "v1/cam-1/up/t", "v1/+/up/+"]);
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, "v1/cam-1/up/t", b"x", Some(1));
    assert_eq!(house.payloads(ingest).len(), 1);
}

#[test]
fn a_refused_publish_says_why_in_mqtt_5_and_is_dropped_in_3_1_1() {
    let mut house = House::new();
    let old = house.join(&device("cam-2"), Version::V311);
    house.publish(old, "v1/cam-1/up/t", b"x", Some(3));
    assert_eq!(house.heard(old), [puback(3)]);
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, "v1/cam-2/up/t", b"x", Some(3));
    house.publish(camera, "v1/cam-1/up/t", &[b'x'; 16_385], Some(4));
    house.publish(camera, "elsewhere", b"x", Some(5));
    let heard = house.heard(camera);
    let said: Vec<_> = heard
        .iter()
        .map(|heard| match heard {
            Heard::Puback { id, code, text } => (*id, *code, text.clone().unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((said[0].0, said[0].1), (3, 0x87));
    assert!(said[0].2.contains("no-permit"), "{said:?}");
    assert_eq!((said[1].1, said[2].1), (0x97, 0x87));
    assert!(
        said[1].2.contains("payload-too-large") && said[2].2.contains("unlisted-topic"),
        "{said:?}"
    );
    assert_eq!(house.signalled("publish-denied"), 4);
    assert_eq!(house.gateways[0].counters().publishes_denied, 4);
}

#[test]
fn who_wants_no_reasons_gets_none() {
    let mut house = House::new();
    let connect = Connect {
        request_problem_information: false,
        ..Connect::new(Version::V5, "cam-1")
    };
    let camera = house.connect(&device("cam-1"), &connect);
    house.heard(camera);
    house.publish(camera, "v1/cam-2/up/t", b"x", Some(3));
    assert_eq!(
        house.heard(camera),
        [Heard::Puback {
            id: 3,
            code: 0x87,
            text: None
        }]
    );
}

#[test]
fn a_channels_rate_holds_across_reconnects() {
    let mut house = House::new();
    let mut refused = 0;
    for _ in 0..3 {
        let camera = house.join(&device("cam-1"), Version::V5);
        for id in 1..=4 {
            house.publish(camera, "v1/cam-1/alarm", b"x", Some(id));
        }
        refused += house
            .heard(camera)
            .iter()
            .filter(|heard| matches!(heard, Heard::Puback { code: 0x97, .. }))
            .count();
        house.lose(camera);
    }
    assert_eq!(refused, 6, "six a minute are allowed");
    house.pass(Duration::from_secs(120));
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, "v1/cam-1/alarm", b"x", Some(1));
    assert_eq!(house.heard(camera), [puback(1)]);
}

#[test]
fn a_will_fires_when_the_client_is_lost_and_not_after_goodbye() {
    let will = Will {
        qos: Qos::AtLeastOnce,
        retain: false,
        topic: "v1/cam-1/up/gone",
        payload: b"gone",
        delay_seconds: 0,
        forward: ForwardProperties::NONE,
    };
    for version in BOTH {
        let mut house = House::new();
        let ingest = house.join(&service("ingest"), version);
        house.subscribe(ingest, &["v1/+/up/#"]);
        let connect = Connect {
            will: Some(will),
            ..Connect::new(version, "cam-1")
        };
        let camera = house.connect(&device("cam-1"), &connect);
        house.send(camera, |out, version| {
            mqtt::encode::disconnect_by_client(out, version, Reason::SUCCESS)
        });
        assert_eq!(house.clients[camera].closed, Some(CloseReason::ByClient));
        assert_eq!(house.payloads(ingest), Vec::<Vec<u8>>::new());
        let camera = house.connect(&device("cam-1"), &connect);
        house.lose(camera);
        assert_eq!(house.payloads(ingest), [b"gone"]);
        let camera = house.connect(&device("cam-1"), &connect);
        house.send_bytes(camera, &[0xff, 0xff]);
        house.send_bytes(camera, &[0xff, 0xff, 0xff, 0xff]);
        assert_eq!(house.payloads(ingest), [b"gone"]);
    }
}

#[test]
fn a_will_waits_for_its_delay_unless_the_client_returns() {
    let policies = format!(
        "{}\n@id(\"control-reports\") permit (principal == Service::\"control\", action == Action::\"publish\", resource == Channel::\"up\");",
        crate::house::POLICIES
    );
    let mut house = House::new();
    let grants = crate::house::grants_of(&policies);
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/up/#"]);
    let will = Will {
        qos: Qos::AtMostOnce,
        retain: false,
        topic: "v1/x/up/gone",
        payload: b"gone",
        delay_seconds: 30,
        forward: ForwardProperties::NONE,
    };
    let connect = Connect {
        will: Some(will),
        clean_start: false,
        session_expiry_seconds: Some(600),
        ..Connect::new(Version::V5, "control")
    };
    let control = house.connect(&service("control"), &connect);
    house.lose(control);
    house.pass(Duration::from_secs(29));
    let control = house.connect(&service("control"), &connect);
    house.pass(Duration::from_secs(29));
    assert_eq!(house.payloads(ingest), Vec::<Vec<u8>>::new());
    house.lose(control);
    house.pass(Duration::from_secs(30));
    assert_eq!(house.payloads(ingest), [b"gone"]);
}

#[test]
fn the_same_client_takes_over_its_session() {
    let mut house = House::new();
    let first = house.join(&device("cam-1"), Version::V5);
    let second = house.join(&device("cam-1"), Version::V5);
    assert!(matches!(
        house.heard(first)[..],
        [Heard::Disconnect { code: 0x8e, .. }]
    ));
    assert_eq!(house.clients[first].closed, Some(CloseReason::TakenOver));
    assert_eq!(house.clients[second].closed, None);
    assert_eq!(house.signalled("taken-over"), 1);
}

#[test]
fn a_clients_maximum_packet_size_is_respected() {
    let mut house = House::new();
    let connect = Connect {
        packet_bytes_max: Some(100),
        ..Connect::new(Version::V5, "ingest")
    };
    let ingest = house.connect(&service("ingest"), &connect);
    house.subscribe(ingest, &["v1/+/up/#"]);
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, "v1/cam-1/up/t", &[b'x'; 200], Some(1));
    house.publish(camera, "v1/cam-1/up/t", b"small", Some(2));
    assert_eq!(house.payloads(ingest), [b"small"]);
    assert_eq!(house.gateways[0].counters().dropped_too_large_for_client, 1);
}

#[test]
fn a_clients_receive_maximum_is_respected() {
    let mut house = House::new();
    let connect = Connect {
        receive_maximum: Some(2),
        ..Connect::new(Version::V5, "ingest")
    };
    let ingest = house.connect(&service("ingest"), &connect);
    house.subscribe(ingest, &["v1/+/up/#"]);
    let camera = house.join(&device("cam-1"), Version::V5);
    for id in 1..=5 {
        house.publish(camera, "v1/cam-1/up/t", &[id as u8], Some(id));
    }
    assert_eq!(house.payloads(ingest), [[1], [2]]);
    house.puback(ingest, 1);
    assert_eq!(house.payloads(ingest), [[3]]);
    house.puback(ingest, 3);
    assert_eq!(
        house.payloads(ingest),
        Vec::<Vec<u8>>::new(),
        "the window begins at the oldest"
    );
    house.puback(ingest, 2);
    assert_eq!(house.payloads(ingest), [[4], [5]]);
}

#[test]
fn only_acknowledgements_that_nobody_waits_for_may_gather() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    let say = |house: &mut House, id: u16| {
        house.publish(camera, "v1/cam-1/up/t", b"x", Some(id));
    };
    let may_gather = |house: &mut House, client: usize| {
        let connection = ConnectionId(u32::try_from(client).unwrap());
        house.with_gateway(0, |gateway, _, _| gateway.only_answers(connection))
    };
    for (window, may) in [(1, false), (2, true)] {
        let connect = Connect {
            receive_maximum: Some(window),
            ..Connect::new(Version::V5, "ingest")
        };
        let ingest = house.connect(&service("ingest"), &connect);
        house.subscribe(ingest, &["v1/+/up/#"]);
        say(&mut house, 1);
        assert!(!may_gather(&mut house, ingest), "it subscribed");
        house.puback(ingest, 1);
        assert_eq!(may_gather(&mut house, ingest), may, "window of {window}");
        say(&mut house, 2);
        say(&mut house, 3);
        assert!(
            !may_gather(&mut house, ingest),
            "more wait than half a window"
        );
        house.lose(ingest);
    }
    let exactly_once = house.join(&service("ingest"), Version::V5);
    house.subscribe_with(exactly_once, 0, asking("v1/+/up/#", Qos::ExactlyOnce));
    house.publish_as(camera, &twice("v1/cam-1/up/t", b"x", 4));
    house.pubrel(camera, 4);
    house.pubrec(exactly_once, 1);
    assert!(!may_gather(&mut house, exactly_once), "it waits for PUBREL");
}

#[test]
fn a_message_says_how_much_of_its_expiry_is_left_and_then_is_gone() {
    let mut house = House::new();
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.subscribe(ingest, &["v1/+/up/#"]);
    house.lose(ingest);
    let camera = house.join(&device("cam-1"), Version::V5);
    for (seconds, id) in [(10_u32, 1), (100, 2)] {
        let mut properties = vec![0x02];
        properties.extend(seconds.to_be_bytes());
        let fields = PublishFields {
            forward: ForwardProperties::from_validated(&properties),
            ..message("v1/cam-1/up/t", b"x", Some(id))
        };
        house.send(camera, |out, version| {
            mqtt::encode::publish(out, version, &fields)
        });
    }
    house.pass(Duration::from_secs(40));
    let (_, heard) = house.join_persistent(&service("ingest"));
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(
        matches!(
            heard[1],
            Heard::Publish {
                expiry: Some(60),
                id: Some(2),
                ..
            }
        ),
        "{heard:?}"
    );
    assert_eq!(house.gateways[0].counters().dropped_expired, 1);
}

#[test]
fn a_session_ends_with_its_certificate() {
    let mut house = House::new();
    let until = house.now.plus(Duration::from_secs(60));
    let camera = house.open_with(&device("cam-1"), certificate(1), until);
    house.say_connect(camera, &Connect::new(Version::V5, "cam-1"));
    house.heard(camera);
    house.pass(Duration::from_secs(59));
    assert_eq!(house.clients[camera].closed, None);
    house.pass(Duration::from_secs(1));
    assert!(matches!(
        house.heard(camera)[..],
        [Heard::Disconnect {
            code: 0x87,
            text: Some(_)
        }]
    ));
    assert_eq!(
        house.clients[camera].closed,
        Some(CloseReason::CertificateExpired)
    );
}

#[test]
fn packets_may_come_in_pieces_and_together() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/up/#"]);
    let camera = house.join(&device("cam-1"), Version::V5);
    let mut bytes = Vec::new();
    for id in 1..=20 {
        mqtt::encode::publish(
            &mut bytes,
            Version::V5,
            &message("v1/cam-1/up/t", &[id as u8; 300], Some(id)),
        );
    }
    for piece in bytes.chunks(7) {
        house.send_bytes(camera, piece);
    }
    assert_eq!(house.payloads(ingest).len(), 20);
    assert_eq!(
        house.heard(camera),
        (1..=20).map(puback).collect::<Vec<_>>()
    );
}

#[test]
fn new_policies_take_subscriptions_and_deliveries_away() {
    let mut house = House::new();
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.subscribe(ingest, &["v1/+/up/#", "v1/+/alarm"]);
    let camera = house.join(&device("cam-1"), Version::V5);
    house.lose(ingest);
    house.publish(camera, "v1/cam-1/up/t", b"before", Some(1));
    let less = crate::house::POLICIES.replace(
        "Service::\"ingest\", action == Action::\"receive\", resource == Channel::\"up\"",
        "Service::\"idle\", action == Action::\"receive\", resource == Channel::\"up\"",
    );
    let grants = crate::house::grants_of(&less);
    house.grants = grants.clone();
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    assert_eq!(house.signalled("subscription-dropped"), 1);
    let (ingest, heard) = house.join_persistent(&service("ingest"));
    assert_eq!(
        heard.len(),
        1,
        "what was queued before is withheld: {heard:?}"
    );
    house.publish(camera, "v1/cam-1/up/t", b"after", Some(2));
    house.publish(camera, "v1/cam-1/alarm", b"fire", Some(3));
    assert_eq!(house.payloads(ingest), [b"fire"]);
}

#[test]
fn a_response_topic_must_be_the_requesters_own() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    for (topic, code) in [("v1/cam-2/down/x", 0x87), ("v1/cam-1/down/x", 0)] {
        let mut properties = vec![0x08, 0, topic.len() as u8];
        properties.extend(topic.as_bytes());
        let fields = PublishFields {
            forward: ForwardProperties::from_validated(&properties),
            ..message("v1/cam-1/up/t", b"x", Some(1))
        };
        house.send(camera, |out, version| {
            mqtt::encode::publish(out, version, &fields)
        });
        let heard = house.heard(camera);
        assert!(
            matches!(heard[..], [Heard::Puback { code: found, .. }] if found == code),
            "{topic}: {heard:?}"
        );
    }
}

#[test]
fn a_snapshot_says_what_the_journal_says() {
    let mut house = House::new();
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.subscribe(ingest, &["v1/+/up/#", "v1/+/alarm"]);
    house.subscribe(ingest, &["v1/cam-1/up/t"]);
    let camera = house.join(&device("cam-1"), Version::V5);
    for id in 1..=9 {
        house.publish(camera, "v1/cam-1/up/t", &[id as u8], Some(id));
    }
    for id in [1, 2, 4] {
        house.puback(ingest, id);
    }
    let mut snapshot = Vec::new();
    house.gateways[0].snapshot(&mut |_, record| snapshot.push(record.to_vec()));
    assert!(snapshot.len() < house.journal.len());
    let replay = |records: Vec<Vec<u8>>| {
        let mut house = House::new();
        house.journal = records;
        house.crash();
        let mut again = Vec::new();
        house.gateways[0].snapshot(&mut |_, record| again.push(record.to_vec()));
        (again, house.join_persistent(&service("ingest")).1)
    };
    let (from_journal, heard) = replay(house.journal.clone());
    assert_eq!(replay(snapshot.clone()), (from_journal, heard.clone()));
    let sent: Vec<_> = heard
        .iter()
        .filter_map(|heard| match heard {
            Heard::Publish {
                payload, id, dup, ..
            } => Some((payload[0], id.unwrap(), *dup)),
            _ => None,
        })
        .collect();
    assert_eq!(sent, [3, 5, 6, 7, 8, 9].map(|n| (n, u16::from(n), true)));
}

#[test]
fn deadlines_are_never_in_the_past_after_a_tick() {
    let mut house = House::with(Limits::default(), 1);
    for number in 0..50 {
        house.join(&device(&format!("cam-{number}")), Version::V5);
        house.pass(Duration::from_secs(3));
        let next = house.gateways[0].next_deadline();
        assert!(next.is_none_or(|at| at > house.now), "{next:?}");
    }
    house.pass(Duration::from_secs(10_000));
    assert_eq!(house.gateways[0].sessions().count(), 0);
    assert_eq!(house.gateways[0].next_deadline(), None::<Timestamp>);
}

#[test]
fn a_subscription_out_of_the_journal_gives_nothing_that_policies_no_longer_do() {
    let mut house = House::new();
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.subscribe(ingest, &["v1/+/up/#"]);
    // The policies changed, and the machine died before it could drop the subscription.
    house.grants = crate::house::grants_of(&crate::house::POLICIES.replace(
        "Service::\"ingest\", action == Action::\"receive\", resource == Channel::\"up\"",
        "Service::\"idle\", action == Action::\"receive\", resource == Channel::\"up\"",
    ));
    house.crash();
    let (ingest, _) = house.join_persistent(&service("ingest"));
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, "v1/cam-1/up/t", b"x", Some(1));
    assert_eq!(house.heard(camera), [puback(1)]);
    assert_eq!(house.payloads(ingest), Vec::<Vec<u8>>::new());
    // Who resumes a session is held against what is granted now; who does not come gets nothing either.
    assert_eq!(house.gateways[0].counters().subscriptions_dropped, 1);
    house.crash();
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, "v1/cam-1/up/t", b"x", Some(1));
    let (_, heard) = house.join_persistent(&service("ingest"));
    assert_eq!(heard.len(), 1, "{heard:?}");
}
