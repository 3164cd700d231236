//! Payload contracts at the door: refused before anybody hears it, with the field, and counted.

use crate::house::{Heard, House, device, grants_of, message, retained, service, twice};
use gateway::Signal;
use mqtt::encode::PublishFields;
use mqtt::{Connect, ForwardProperties, Qos, Version, Will};
use std::time::Duration;

const NOTHING: Vec<Vec<u8>> = Vec::new();
const GOOD: &[u8] = br#"{"t": 21.5, "unit": "C"}"#;
const HOT: &[u8] = br#"{"t": 9000}"#;

#[test]
fn a_violation_is_refused_with_the_field_and_reaches_nobody() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    assert_eq!(house.subscribe(ingest, &["v1/+/reading"]), [1]);
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, "v1/cam-1/reading", HOT, Some(7));
    let [
        Heard::Puback {
            id: 7,
            code: 0x99,
            text: Some(text),
        },
    ] = &house.heard(camera)[..]
    else {
        panic!("no PUBACK with payload format invalid");
    };
    assert_eq!(text, "contract-violation: /t must be at most 60");
    house.publish_as(camera, &twice("v1/cam-1/reading", b"{}", 8));
    let heard = house.heard(camera);
    assert!(
        matches!(heard[..], [Heard::Pubrec { id: 8, code: 0x99 }]),
        "{heard:?}"
    );
    house.publish(camera, "v1/cam-1/reading", b"", None);
    assert_eq!(house.payloads(ingest), NOTHING);
    house.publish(camera, "v1/cam-1/reading", GOOD, Some(9));
    let heard = house.heard(camera);
    assert!(
        matches!(heard[..], [Heard::Puback { id: 9, code: 0, .. }]),
        "{heard:?}"
    );
    assert_eq!(house.payloads(ingest), [GOOD]);
    let gateway = &house.gateways[0];
    assert_eq!(gateway.counters().contract_violations, 3);
    let counted: Vec<(&str, u64)> = (gateway.contract_violations())
        .map(|(channel, count)| (channel.as_str(), count))
        .collect();
    assert_eq!(counted, [("reading", 3)]);
    let told: Vec<(&str, &str)> = (house.signals.iter())
        .filter_map(|signal| match signal {
            Signal::ContractViolation { field, rule, .. } => Some((field.as_str(), *rule)),
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        [("/t", "maximum"), ("/t", "required"), ("", "encoding")]
    );
}

#[test]
fn in_3_1_1_a_violation_is_acknowledged_and_dropped() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V311);
    assert_eq!(house.subscribe(ingest, &["v1/+/reading"]), [1]);
    let camera = house.join(&device("cam-1"), Version::V311);
    house.publish(camera, "v1/cam-1/reading", HOT, Some(7));
    let heard = house.heard(camera);
    assert!(
        matches!(
            heard[..],
            [Heard::Puback {
                id: 7,
                code: 0,
                text: None
            }]
        ),
        "{heard:?}"
    );
    assert_eq!(house.payloads(ingest), NOTHING);
    assert_eq!(house.signalled("contract-violation"), 1);
}

#[test]
fn cbor_is_held_to_the_same_schema() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    assert_eq!(house.subscribe(ingest, &["v1/+/small"]), [1]);
    let camera = house.join(&device("cam-1"), Version::V5);
    let warm = [0xa1, 0x61, b't', 0x18, 0x3c];
    house.publish(camera, "v1/cam-1/small", &warm, Some(1));
    // 61 is above 60; a key twice; JSON where CBOR is said.
    house.publish(
        camera,
        "v1/cam-1/small",
        &[0xa1, 0x61, b't', 0x18, 0x3d],
        Some(2),
    );
    house.publish(
        camera,
        "v1/cam-1/small",
        &[0xa2, 0x61, b't', 1, 0x61, b't', 2],
        Some(3),
    );
    house.publish(camera, "v1/cam-1/small", GOOD, Some(4));
    let codes: Vec<u8> = (house.heard(camera).into_iter())
        .map(|heard| match heard {
            Heard::Puback { code, .. } => code,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(codes, [0, 0x99, 0x99, 0x99]);
    assert_eq!(house.payloads(ingest), [warm]);
}

#[test]
fn nonsense_takes_from_the_rate_as_sense_does() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    let mut codes = [0; 2];
    for _ in 0..40 {
        house.publish(camera, "v1/cam-1/reading", HOT, Some(1));
        match house.heard(camera)[..] {
            [Heard::Puback { code: 0x99, .. }] => codes[0] += 1,
            [Heard::Puback { code: 0x97, .. }] => codes[1] += 1,
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!(codes, [20, 20]);
}

#[test]
fn a_retained_message_keeps_the_contract_and_may_be_taken_away() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish_as(camera, &retained("v1/cam-1/reading", HOT, 1));
    assert_eq!(house.gateways[0].retained_count(), 0);
    house.publish_as(camera, &retained("v1/cam-1/reading", GOOD, 2));
    assert_eq!(house.gateways[0].retained_count(), 1);
    house.heard(camera);
    house.publish_as(camera, &retained("v1/cam-1/reading", b"", 3));
    assert_eq!(house.gateways[0].retained_count(), 0);
    let heard = house.heard(camera);
    assert!(
        matches!(heard[..], [Heard::Puback { id: 3, code: 0, .. }]),
        "{heard:?}"
    );
}

#[test]
fn a_topic_alias_is_no_way_around_a_contract() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/reading"]);
    let camera = house.join(&device("cam-1"), Version::V5);
    let aliased = |topic, payload| PublishFields {
        topic_alias: Some(1),
        ..message(topic, payload, Some(1))
    };
    house.publish_as(camera, &aliased("v1/cam-1/reading", GOOD));
    house.publish_as(camera, &aliased("", HOT));
    let heard = house.heard(camera);
    assert!(
        matches!(
            heard[..],
            [
                Heard::Puback { code: 0, .. },
                Heard::Puback { code: 0x99, .. }
            ]
        ),
        "{heard:?}"
    );
    assert_eq!(house.payloads(ingest), [GOOD]);
}

#[test]
fn will_abuse_by_its_payload() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/reading"]);
    let connect = |payload| Connect {
        will: Some(Will {
            qos: Qos::AtLeastOnce,
            retain: false,
            topic: "v1/cam-1/reading",
            payload,
            delay_seconds: 0,
            forward: ForwardProperties::NONE,
        }),
        ..Connect::new(Version::V5, "cam-1")
    };
    let thief = house.connect(&device("cam-1"), &connect(HOT));
    let heard = house.heard(thief);
    assert!(
        matches!(heard[..], [Heard::Connack { code: 0x99, .. }]),
        "{heard:?}"
    );
    house.lose(thief);
    // One that kept the contract when it was promised, and does not when it fires.
    let camera = house.connect(&device("cam-1"), &connect(GOOD));
    let heard = house.heard(camera);
    assert!(
        matches!(heard[..], [Heard::Connack { code: 0, .. }]),
        "{heard:?}"
    );
    let files = crate::house::files(crate::house::POLICIES)
        .into_iter()
        .map(|mut file| {
            file.text = file.text.replace("\"maximum\": 60", "\"maximum\": 20");
            file
        });
    let grants = crate::house::grants_of_files(&files.collect::<Vec<_>>());
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    house.lose(camera);
    assert_eq!(house.payloads(ingest), NOTHING);
    assert_eq!(house.gateways[0].counters().wills_suppressed, 1);
    assert_eq!(house.signalled("contract-violation"), 2);
}

#[test]
fn a_new_schema_holds_from_the_moment_it_is_applied() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish(camera, "v1/cam-1/reading", HOT, Some(1));
    let files = crate::house::files(crate::house::POLICIES)
        .into_iter()
        .map(|mut file| {
            file.text = file.text.replace("\"maximum\": 60", "\"maximum\": 10000");
            file
        });
    let grants = crate::house::grants_of_files(&files.collect::<Vec<_>>());
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    house.publish(camera, "v1/cam-1/reading", HOT, Some(2));
    house.pass(Duration::from_secs(1));
    let heard = house.heard(camera);
    assert!(
        matches!(
            heard[..],
            [
                Heard::Puback { code: 0x99, .. },
                Heard::Puback { code: 0, .. }
            ]
        ),
        "{heard:?}"
    );
    // What a channel counted is forgotten with the channel.
    assert_eq!(house.gateways[0].contract_violations().count(), 1);
    let grants = grants_of("");
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    assert_eq!(house.gateways[0].contract_violations().count(), 1);
    house.with_gateway(0, |gateway, now, turn| {
        gateway.regrant(access::Grants::none().into(), now, turn);
    });
    assert_eq!(house.gateways[0].contract_violations().count(), 0);
}
