//! Wills beyond the plain one: retained, QoS 2, delayed, and what somebody would try with them.

use crate::house::{Heard, House, asking, certificate, device, service};
use gateway::CloseReason;
use model::Revocable;
use mqtt::{Connect, ForwardProperties, Qos, Reason, SubscribeEntry, Version, Will};
use std::time::Duration;

const NOTHING: Vec<Vec<u8>> = Vec::new();

fn will(topic: &str) -> Will<'_> {
    Will {
        qos: Qos::AtLeastOnce,
        retain: false,
        topic,
        payload: b"gone",
        delay_seconds: 0,
        forward: ForwardProperties::NONE,
    }
}

#[test]
fn a_will_of_qos_2_is_retained_with_its_properties() {
    for version in [Version::V311, Version::V5] {
        let mut house = House::new();
        let ingest = house.join(&service("ingest"), version);
        house.subscribe_with(ingest, 0, asking("v1/+/state/+", Qos::ExactlyOnce));
        let connect = Connect {
            will: Some(Will {
                qos: Qos::ExactlyOnce,
                retain: true,
                forward: ForwardProperties::from_validated(b"\x02\0\0\0\x64"),
                ..will("v1/cam-1/state/alive")
            }),
            ..Connect::new(version, "cam-1")
        };
        let camera = house.connect(&device("cam-1"), &connect);
        house.heard(camera);
        house.lose(camera);
        let heard = house.heard(ingest);
        assert!(
            matches!(
                heard[..],
                [Heard::Publish {
                    qos: Qos::ExactlyOnce,
                    retain: false,
                    ..
                }]
            ),
            "{heard:?}"
        );
        house.pass(Duration::from_secs(30));
        let archive = house.join(&service("archive"), version);
        let (_, heard) = house.subscribe_with(archive, 0, asking("v1/+/state/+", Qos::AtLeastOnce));
        let Heard::Publish {
            retain: true,
            expiry,
            ..
        } = heard[0]
        else {
            panic!("{heard:?}")
        };
        assert_eq!(expiry, (version == Version::V5).then_some(70));
    }
}

#[test]
fn a_will_that_would_be_retained_where_nothing_is_is_refused_at_connect() {
    for (version, code) in [(Version::V311, 0x87), (Version::V5, 0x87)] {
        let mut house = House::new();
        let connect = Connect {
            will: Some(Will {
                retain: true,
                ..will("v1/cam-1/up/gone")
            }),
            ..Connect::new(version, "cam-1")
        };
        let camera = house.connect(&device("cam-1"), &connect);
        let heard = house.heard(camera);
        assert!(
            matches!(heard[..], [Heard::Connack { code: found, .. }] if found == code),
            "{heard:?}"
        );
    }
}

#[test]
fn disconnect_with_will_fires_it_and_a_goodbye_does_not() {
    for (reason, fires) in [
        (Reason::SUCCESS, false),
        (Reason::DISCONNECT_WITH_WILL, true),
    ] {
        let mut house = House::new();
        let ingest = house.join(&service("ingest"), Version::V5);
        house.subscribe(ingest, &["v1/+/up/#"]);
        let connect = Connect {
            will: Some(will("v1/cam-1/up/gone")),
            ..Connect::new(Version::V5, "cam-1")
        };
        let camera = house.connect(&device("cam-1"), &connect);
        house.send(camera, |out, version| {
            mqtt::encode::disconnect_by_client(out, version, reason)
        });
        assert_eq!(house.clients[camera].closed, Some(CloseReason::ByClient));
        assert_eq!(house.payloads(ingest).len(), usize::from(fires));
    }
}

#[test]
fn will_abuse() {
    // Connecting and breaking off is no way to send more than the channel's rate: six a minute.
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/alarm"]);
    let connect = Connect {
        will: Some(will("v1/cam-1/alarm")),
        ..Connect::new(Version::V5, "cam-1")
    };
    for _ in 0..20 {
        let camera = house.connect(&device("cam-1"), &connect);
        house.lose(camera);
    }
    assert_eq!(house.payloads(ingest).len(), 6);
    assert_eq!(house.gateways[0].counters().wills_suppressed, 14);
    // Nor to keep more than the channel keeps, nor to outlive the grant.
    let state = house.join(&service("archive"), Version::V5);
    let all = SubscribeEntry {
        retain_as_published: true,
        ..asking("v1/+/state/+", Qos::AtLeastOnce)
    };
    house.subscribe_with(state, 0, all);
    let topics: Vec<String> = (0..45).map(|n| format!("v1/cam-2/state/{n}")).collect();
    for topic in &topics {
        let connect = Connect {
            will: Some(Will {
                retain: true,
                ..will(topic)
            }),
            ..Connect::new(Version::V5, "cam-2")
        };
        let camera = house.connect(&device("cam-2"), &connect);
        house.lose(camera);
    }
    assert_eq!(house.payloads(state).len(), 40);
    assert_eq!(house.gateways[0].retained_count(), 40);
    let connect = Connect {
        will: Some(will("v1/cam-3/up/gone")),
        ..Connect::new(Version::V5, "cam-3")
    };
    let camera = house.connect(&device("cam-3"), &connect);
    house.subscribe(ingest, &["v1/+/up/#"]);
    let less = crate::house::POLICIES.replace(
        "permit (principal is Device, action == Action::\"publish\", resource == Channel::\"up\")",
        "forbid (principal is Device, action == Action::\"publish\", resource == Channel::\"up\")",
    );
    let grants = crate::house::grants_of(&less);
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    house.lose(camera);
    assert_eq!(house.payloads(ingest), NOTHING);
}

/// A service whose session lasts, with a will.
fn join_with_will(house: &mut House, delay_seconds: u32, will: Option<Will<'_>>) -> usize {
    let connect = Connect {
        clean_start: false,
        session_expiry_seconds: Some(600),
        will: will.map(|will| Will {
            delay_seconds,
            ..will
        }),
        ..Connect::new(Version::V5, "control")
    };
    let client = house.connect(&service("control"), &connect);
    house.heard(client);
    client
}

fn listening(house: &mut House) -> usize {
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/up/#"]);
    ingest
}

fn speaking_house() -> House {
    let mut house = House::new();
    let policies = format!(
        "{}\n@id(\"control-speaks\") permit (principal == Service::\"control\", action == Action::\"publish\", resource == Channel::\"up\");",
        crate::house::POLICIES
    );
    house.grants = crate::house::grants_of(&policies);
    let grants = house.grants.clone();
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    house
}

#[test]
fn a_will_of_a_session_that_lasts_outlives_a_crash() {
    // (delay, client lost before the crash, seconds until it fires after it)
    for (delay, is_lost, snapshot) in [
        (0, false, false),
        (0, false, true),
        (30, false, false),
        (30, false, true),
        (30, true, false),
        (30, true, true),
    ] {
        let mut house = speaking_house();
        let control = join_with_will(&mut house, delay, Some(will("v1/cam-1/up/gone")));
        if is_lost {
            house.lose(control);
            house.pass(Duration::from_secs(20));
        }
        if snapshot {
            let mut records = Vec::new();
            house.gateways[0].snapshot(&mut |_, record| records.push(record.to_vec()));
            house.journal = records;
        }
        house.crash();
        let ingest = listening(&mut house);
        if delay > 0 {
            let left = if is_lost { 10 } else { 30 };
            house.pass(Duration::from_secs(left - 1));
            assert_eq!(
                house.payloads(ingest),
                NOTHING,
                "{delay} {is_lost}: too soon"
            );
        }
        house.pass(Duration::from_secs(1));
        assert_eq!(house.payloads(ingest), [b"gone"], "{delay} {is_lost}");
        // Once, whatever comes.
        house.crash();
        let ingest = listening(&mut house);
        house.pass(Duration::from_secs(700));
        assert_eq!(house.payloads(ingest), NOTHING, "{delay} {is_lost}: again");
    }
}

#[test]
fn a_crash_fires_no_will_that_was_taken_back_and_none_of_a_device() {
    let mut house = speaking_house();
    let control = join_with_will(&mut house, 0, Some(will("v1/cam-1/up/gone")));
    house.send(control, |out, version| {
        mqtt::encode::disconnect_by_client(out, version, Reason::SUCCESS);
    });
    let with_none = join_with_will(&mut house, 0, Some(will("v1/cam-1/up/gone")));
    house.lose(with_none);
    // Its client came back without one before the next crash.
    join_with_will(&mut house, 0, None);
    let connect = Connect {
        will: Some(will("v1/cam-1/up/gone")),
        ..Connect::new(Version::V5, "cam-1")
    };
    house.connect(&device("cam-1"), &connect);
    house.crash();
    let ingest = listening(&mut house);
    house.pass(Duration::from_secs(700));
    assert_eq!(house.payloads(ingest), NOTHING);
}

#[test]
fn a_client_that_returns_in_time_takes_its_will_back_also_over_a_crash() {
    let mut house = speaking_house();
    join_with_will(&mut house, 30, Some(will("v1/cam-1/up/gone")));
    house.crash();
    house.pass(Duration::from_secs(20));
    join_with_will(&mut house, 0, None);
    let ingest = listening(&mut house);
    house.pass(Duration::from_secs(60));
    assert_eq!(house.payloads(ingest), NOTHING);
    house.crash();
    let ingest = listening(&mut house);
    house.pass(Duration::from_secs(60));
    assert_eq!(house.payloads(ingest), NOTHING);
}

#[test]
fn attack_a_stolen_service_reaches_a_fleet_by_its_wills() {
    let mut files = crate::house::files(crate::house::POLICIES);
    for file in &mut files {
        file.text = (file.text).replace("[control]", "[control]\nfan_out_per_minute = 5");
    }
    let grants = crate::house::grants_of_files(&files);
    let mut house = House::new();
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    house.signals.clear();
    for number in 0..8 {
        let topic = format!("v1/cam-{number}/down/open");
        let connect = Connect {
            will: Some(will(&topic)),
            ..Connect::new(Version::V5, "control")
        };
        let thief = house.connect(&service("control"), &connect);
        house.heard(thief);
        house.lose(thief);
    }
    let counters = house.gateways[0].counters();
    assert_eq!((counters.wills_fired, counters.wills_suppressed), (5, 3));
    assert_eq!(house.signalled("publish-denied"), 3);
    // And it is seen, as what it publishes is.
    let mut metered = None;
    house.with_gateway(0, |gateway, now, _| {
        gateway.take_metered(now, |_, of| metered = Some(of));
    });
    let metered = metered.unwrap();
    assert_eq!((metered.messages, metered.denied), (5, 3));
    assert_eq!(metered.devices.map(|(devices, _)| devices), Some(5));
}

/// Whoever stole a key promised a will by it and left: the key is revoked before the will is due.
#[test]
fn attack_a_will_outlives_the_certificate_that_promised_it() {
    let (own, other) = (certificate(1), certificate(2));
    for (what, is_heard) in [
        (Revocable::Certificate(own), false),
        (Revocable::Issuer(own.issuer()), false),
        (Revocable::Certificate(other), true),
    ] {
        for (crashes_before, crashes_after) in [(false, false), (true, false), (false, true)] {
            let mut house = speaking_house();
            let control = join_with_will(&mut house, 30, Some(will("v1/cam-1/up/gone")));
            house.lose(control);
            if crashes_before {
                house.crash();
            }
            let revoked = [what.clone()];
            house.with_gateway(0, |gateway, now, turn| gateway.revoke(&revoked, now, turn));
            // The session itself stays: its owner may have another certificate.
            assert_eq!(house.gateways[0].sessions().count(), 1);
            if crashes_after {
                house.crash();
            }
            let ingest = listening(&mut house);
            house.pass(Duration::from_secs(60));
            let heard = house.payloads(ingest);
            assert_eq!(heard.len(), usize::from(is_heard), "{what:?}");
        }
    }
}

#[test]
fn confused_responder_by_a_will_whose_grant_was_taken() {
    let mut house = House::new();
    let answers = "v1/cam-1/down/answer";
    let mut properties = vec![0x08, 0, u8::try_from(answers.len()).unwrap()];
    properties.extend(answers.as_bytes());
    let connect = Connect {
        will: Some(Will {
            forward: ForwardProperties::from_validated(&properties),
            ..will("v1/cam-1/up/gone")
        }),
        ..Connect::new(Version::V5, "cam-1")
    };
    let camera = house.connect(&device("cam-1"), &connect);
    house.heard(camera);
    let ingest = listening(&mut house);
    let less = crate::house::POLICIES.replace(
        "permit (principal is Device, action == Action::\"receive\"",
        "forbid (principal is Device, action == Action::\"receive\"",
    );
    let grants = crate::house::grants_of(&less);
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    house.lose(camera);
    assert_eq!(house.payloads(ingest), NOTHING);
    assert_eq!(house.signalled("response-topic-denied"), 1);
    assert_eq!(house.gateways[0].counters().wills_suppressed, 1);
}
