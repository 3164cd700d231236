//! QoS 2 in both directions: once and only once, whatever breaks off.

use crate::house::{Heard, House, asking, device, service, twice};
use gateway::{CloseReason, Limits};
use mqtt::encode::PublishFields;
use mqtt::{Connect, Qos, Reason, Version};

const TOPIC: &str = "v1/cam-1/up/t";
const BOTH: [Version; 2] = [Version::V311, Version::V5];

fn pubrec(id: u16) -> Heard {
    Heard::Pubrec { id, code: 0 }
}

fn pubcomp(id: u16) -> Heard {
    Heard::Pubcomp { id, code: 0 }
}

/// A service that reports: its session may last.
fn reporter() -> (House, usize) {
    let mut house = House::new();
    let policies = format!(
        "{}\n@id(\"control-reports\") permit (principal == Service::\"control\", action == Action::\"publish\", resource == Channel::\"up\");",
        crate::house::POLICIES
    );
    let grants = crate::house::grants_of(&policies);
    house.grants = grants.clone();
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    let (ingest, _) = house.join_persistent(&service("ingest"));
    let (code, _) = house.subscribe_with(ingest, 0, asking("v1/+/up/#", Qos::ExactlyOnce));
    assert_eq!(code, 2);
    (house, ingest)
}

#[test]
fn a_message_goes_through_four_steps_on_each_side() {
    for version in BOTH {
        let mut house = House::new();
        let ingest = house.join(&service("ingest"), version);
        let (code, _) = house.subscribe_with(ingest, 0, asking("v1/+/up/#", Qos::ExactlyOnce));
        assert_eq!(code, 2);
        let camera = house.join(&device("cam-1"), version);
        house.publish_as(camera, &twice(TOPIC, b"21", 9));
        assert_eq!(house.heard(camera), [pubrec(9)]);
        let heard = house.heard(ingest);
        assert!(
            matches!(
                heard[..],
                [Heard::Publish {
                    qos: Qos::ExactlyOnce,
                    dup: false,
                    id: Some(1),
                    ..
                }]
            ),
            "{heard:?}"
        );
        house.pubrel(camera, 9);
        assert_eq!(house.heard(camera), [pubcomp(9)]);
        house.pubrec(ingest, 1);
        assert_eq!(house.heard(ingest), [Heard::Pubrel { id: 1, code: 0 }]);
        house.pubcomp(ingest, 1);
        assert_eq!(house.heard(ingest), []);
        let session = house.gateways[0].sessions().next().unwrap();
        assert_eq!((session.queued_messages, session.queued_bytes), (0, 0));
    }
}

#[test]
fn what_is_sent_again_is_answered_again_and_handed_on_once() {
    for version in BOTH {
        let mut house = House::new();
        let ingest = house.join(&service("ingest"), version);
        house.subscribe(ingest, &["v1/+/up/#"]);
        let camera = house.join(&device("cam-1"), version);
        let again = PublishFields {
            dup: true,
            ..twice(TOPIC, b"x", 5)
        };
        house.publish_as(camera, &twice(TOPIC, b"x", 5));
        house.publish_as(camera, &again);
        house.publish_as(camera, &again);
        assert_eq!(house.heard(camera), [pubrec(5), pubrec(5), pubrec(5)]);
        assert_eq!(house.payloads(ingest), [b"x"]);
        house.pubrel(camera, 5);
        house.pubrel(camera, 5);
        let heard = house.heard(camera);
        let second = match version {
            Version::V311 => 0,
            Version::V5 => 0x92,
        };
        assert_eq!(
            heard,
            [
                pubcomp(5),
                Heard::Pubcomp {
                    id: 5,
                    code: second
                }
            ]
        );
        // The identifier is free again: another message.
        house.publish_as(camera, &twice(TOPIC, b"y", 5));
        assert_eq!(house.payloads(ingest), [b"y"]);
    }
}

#[test]
fn a_publishers_identifier_is_remembered_over_reconnects_and_crashes() {
    let (mut house, ingest) = reporter();
    let (control, _) = house.join_persistent(&service("control"));
    house.publish_as(control, &twice("v1/x/up/t", b"once", 7));
    // The answer is lost with the connection.
    house.lose(control);
    let again = PublishFields {
        dup: true,
        ..twice("v1/x/up/t", b"once", 7)
    };
    let (control, _) = house.join_persistent(&service("control"));
    house.publish_as(control, &again);
    assert_eq!(house.heard(control), [pubrec(7)]);
    assert_eq!(house.payloads(ingest), [b"once"]);
    house.crash();
    let (control, _) = house.join_persistent(&service("control"));
    house.publish_as(control, &again);
    assert_eq!(house.heard(control), [pubrec(7)]);
    house.pubrel(control, 7);
    assert_eq!(house.heard(control), [pubcomp(7)]);
    house.crash();
    // Released: the same identifier is a new message now.
    let (control, _) = house.join_persistent(&service("control"));
    house.publish_as(control, &twice("v1/x/up/t", b"next", 7));
    let (_, heard) = house.join_persistent(&service("ingest"));
    let payloads: Vec<&[u8]> = (heard.iter())
        .filter_map(|one| match one {
            Heard::Publish { payload, .. } => Some(payload.as_slice()),
            _ => None,
        })
        .collect();
    assert_eq!(payloads, [b"once", b"next"]);
}

#[test]
fn a_receiver_that_has_it_gets_its_release_and_not_the_message_again() {
    for crashes in [false, true] {
        let (mut house, ingest) = reporter();
        let camera = house.join(&device("cam-1"), Version::V5);
        for (id, payload) in [(1, b"a"), (2, b"b"), (3, b"c")] {
            house.publish_as(camera, &twice(TOPIC, payload, id));
        }
        assert_eq!(house.heard(ingest).len(), 3);
        house.pubrec(ingest, 1);
        house.pubrec(ingest, 2);
        house.pubcomp(ingest, 1);
        if crashes {
            house.crash();
        } else {
            house.lose(ingest);
        }
        let (ingest, heard) = house.join_persistent(&service("ingest"));
        assert!(
            matches!(
                &heard[..],
                [
                    Heard::Connack { present: true, .. },
                    Heard::Pubrel { id: 2, code: 0 },
                    Heard::Publish {
                        id: Some(3),
                        dup: true,
                        qos: Qos::ExactlyOnce,
                        ..
                    }
                ]
            ),
            "{heard:?}"
        );
        // A PUBREC that crosses is answered, also for what nobody knows any more.
        house.pubrec(ingest, 2);
        house.pubrec(ingest, 900);
        assert_eq!(
            house.heard(ingest),
            [
                Heard::Pubrel { id: 2, code: 0 },
                Heard::Pubrel {
                    id: 900,
                    code: 0x92
                }
            ]
        );
        house.pubcomp(ingest, 2);
        house.pubrec(ingest, 3);
        house.pubcomp(ingest, 3);
        let mut snapshot = 0;
        house.gateways[0].snapshot(&mut |_, _| snapshot += 1);
        // Two sessions at most, a subscription: no message is left.
        assert_eq!(snapshot, 2);
    }
}

#[test]
fn a_snapshot_knows_what_was_released_and_what_was_taken() {
    let (mut house, ingest) = reporter();
    let (control, _) = house.join_persistent(&service("control"));
    for id in 1..=4 {
        house.publish_as(control, &twice("v1/x/up/t", &[id as u8], id));
    }
    house.pubrel(control, 2);
    house.heard(ingest);
    house.pubrec(ingest, 1);
    house.pubrec(ingest, 3);
    let snapshot = |house: &House| {
        let mut records = Vec::new();
        house.gateways[0].snapshot(&mut |_, record| records.push(record.to_vec()));
        // A crash is when their clients left, which is news.
        const WAITS: u8 = 15;
        records.retain(|record| record[1] != WAITS);
        records
    };
    let before = snapshot(&house);
    house.crash();
    assert_eq!(snapshot(&house), before, "the journal says the same");
    house.journal = before.clone();
    house.crash();
    assert_eq!(snapshot(&house), before, "so does its snapshot");
}

#[test]
fn a_refused_message_ends_the_exchange() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish_as(camera, &twice("v1/cam-2/up/t", b"x", 4));
    assert_eq!(house.heard(camera), [Heard::Pubrec { id: 4, code: 0x87 }]);
    house.pubrel(camera, 4);
    assert_eq!(
        house.heard(camera),
        [Heard::Pubcomp { id: 4, code: 0x92 }],
        "nothing was taken"
    );
    // A receiver's refusal ends it too.
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe_with(ingest, 0, asking("v1/+/up/#", Qos::ExactlyOnce));
    house.publish_as(camera, &twice(TOPIC, b"x", 5));
    house.heard(ingest);
    house.send(ingest, |out, version| {
        mqtt::encode::pubrec(out, version, 1, Reason::QUOTA_EXCEEDED, None);
    });
    assert_eq!(house.heard(ingest), []);
    let queued: usize = (house.gateways[0].sessions())
        .map(|session| session.queued_messages)
        .sum();
    assert_eq!(queued, 0);
}

#[test]
fn qos2_exhaustion() {
    // Messages that are never released: the session keeps as many identifiers as were announced.
    for version in BOTH {
        let limits = Limits {
            inflight_max: 20,
            ..Limits::default()
        };
        let mut house = House::with(limits, 1);
        let neighbour = house.join(&device("cam-2"), Version::V5);
        let camera = house.join(&device("cam-1"), version);
        for id in 1..=20 {
            house.publish_as(camera, &twice(TOPIC, b"x", id));
        }
        assert_eq!(house.clients[camera].closed, None);
        // Sent again they take no more room, and released ones make some.
        house.publish_as(camera, &twice(TOPIC, b"x", 20));
        house.pubrel(camera, 20);
        house.publish_as(camera, &twice(TOPIC, b"x", 21));
        assert_eq!(house.clients[camera].closed, None);
        house.publish_as(camera, &twice(TOPIC, b"x", 22));
        assert_eq!(
            house.clients[camera].closed,
            Some(CloseReason::NotSupported)
        );
        let heard = house.heard(camera);
        if version == Version::V5 {
            assert!(
                matches!(heard.last(), Some(Heard::Disconnect { code: 0x93, .. })),
                "{heard:?}"
            );
        }
        house.publish_as(neighbour, &twice("v1/cam-2/up/t", b"x", 1));
        assert_eq!(house.heard(neighbour), [pubrec(1)]);
    }
}

#[test]
fn qos2_exhaustion_by_a_receiver_that_never_completes() {
    let mut house = House::new();
    let connect = Connect {
        receive_maximum: Some(3),
        ..Connect::new(Version::V5, "ingest")
    };
    let ingest = house.connect(&service("ingest"), &connect);
    house.heard(ingest);
    house.subscribe_with(ingest, 0, asking("v1/+/up/#", Qos::ExactlyOnce));
    let camera = house.join(&device("cam-1"), Version::V5);
    for id in 1..=6 {
        house.publish_as(camera, &twice(TOPIC, &[id as u8], id));
    }
    assert_eq!(house.payloads(ingest), [[1], [2], [3]]);
    // PUBREC frees the content and not the place: the exchange is under way until PUBCOMP.
    for id in 1..=3 {
        house.pubrec(ingest, id);
    }
    let heard = house.heard(ingest);
    assert!(heard.iter().all(|one| matches!(one, Heard::Pubrel { .. })));
    house.pubcomp(ingest, 1);
    assert_eq!(house.payloads(ingest), [[4]]);
}

#[test]
fn a_qos_2_message_to_another_shard_waits_for_its_journal() {
    let mut house = House::with(Limits::default(), 3);
    let ingest = service("ingest");
    let home = gateway::home_shard(&ingest.principal, 3);
    let camera = (0..100)
        .map(|n| device(&format!("cam-{n}")))
        .find(|facts| gateway::home_shard(&facts.principal, 3) != home)
        .unwrap();
    let (client, _) = house.join_persistent(&ingest);
    house.subscribe_with(client, 0, asking("v1/+/up/#", Qos::ExactlyOnce));
    let publisher = house.join(&camera, Version::V5);
    house.transit_is_slow = true;
    let topic = format!("v1/{}/up/t", camera.principal.name());
    house.publish_as(publisher, &twice(&topic, b"a", 1));
    // Impatient: the answer is under way.
    house.publish_as(publisher, &twice(&topic, b"a", 1));
    assert_eq!(house.heard(publisher), []);
    house.carry_all();
    assert_eq!(house.heard(publisher), [pubrec(1)]);
    assert_eq!(house.payloads(client), [b"a"]);
}

#[test]
fn exactly_once_whatever_breaks_off() {
    // One service sends, one receives; both come and go, read late, and now and then all but the
    // journal is lost (on one shard: what is between two shards in a crash is another promise).
    for seed in 0..120_u64 {
        let shards = 1 + u16::try_from(seed % 3).unwrap();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        let mut below = move |end: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % end
        };
        let limits = Limits {
            inflight_max: 5,
            ..Limits::default()
        };
        let mut house = House::with(limits, shards);
        let policies = format!(
            "{}\n@id(\"control-reports\") permit (principal == Service::\"control\", action == Action::\"publish\", resource == Channel::\"up\");",
            crate::house::POLICIES
        );
        let grants = crate::house::grants_of(&policies);
        house.grants = grants.clone();
        for shard in 0..usize::from(shards) {
            let grants = grants.clone();
            house.with_gateway(shard, |gateway, now, turn| {
                gateway.regrant(grants, now, turn)
            });
        }
        let (mut hears, _) = house.join_persistent(&service("ingest"));
        house.subscribe_with(hears, 0, asking("v1/+/up/#", Qos::ExactlyOnce));
        let (mut says, _) = house.join_persistent(&service("control"));
        // What a client library keeps: the sender by identifier, false until PUBREC came; the
        // receiver the identifiers it has, until PUBREL.
        let mut sending: Vec<(u16, u16, bool)> = Vec::new();
        let mut holds: Vec<u16> = Vec::new();
        let (mut next, mut got) = (0_u16, Vec::new());
        house.transit_is_slow = true;
        for step in 0..300 {
            let is_over = step >= 240;
            match if is_over { 3 + step % 3 } else { below(8) } {
                0 | 1 if sending.len() < 5 && says != usize::MAX => {
                    next += 1;
                    let id = next % 300 + 1;
                    sending.push((id, next, false));
                    let payload = next.to_be_bytes();
                    house.publish_as(says, &twice("v1/x/up/t", &payload, id));
                }
                2 => match below(8) {
                    0 if shards == 1 => {
                        house.crash();
                        (hears, says) = (usize::MAX, usize::MAX);
                    }
                    1 => {
                        let mut records = Vec::new();
                        for gateway in &house.gateways {
                            gateway.snapshot(&mut |_, record| records.push(record.to_vec()));
                        }
                        house.journal = records;
                    }
                    2..5 if hears != usize::MAX => {
                        house.lose(hears);
                        hears = usize::MAX;
                    }
                    _ if says != usize::MAX => {
                        house.lose(says);
                        says = usize::MAX;
                    }
                    _ => {}
                },
                3 => house.carry_all(),
                4 => {
                    let heard = if says == usize::MAX {
                        let (client, heard) = house.join_persistent(&service("control"));
                        says = client;
                        // What is not complete is sent again.
                        for (id, number, is_received) in sending.clone() {
                            if is_received {
                                house.pubrel(says, id);
                            } else {
                                let payload = number.to_be_bytes();
                                let fields = PublishFields {
                                    dup: true,
                                    ..twice("v1/x/up/t", &payload, id)
                                };
                                house.publish_as(says, &fields);
                            }
                        }
                        heard
                    } else {
                        house.heard(says)
                    };
                    for one in heard {
                        match one {
                            Heard::Pubrec { id, .. } => {
                                let it = sending.iter_mut().find(|(other, ..)| *other == id);
                                if let Some(it) = it {
                                    it.2 = true;
                                    house.pubrel(says, id);
                                }
                            }
                            Heard::Pubcomp { id, .. } => sending.retain(|(other, ..)| *other != id),
                            _ => {}
                        }
                    }
                }
                _ => {
                    let heard = if hears == usize::MAX {
                        let (client, heard) = house.join_persistent(&service("ingest"));
                        hears = client;
                        heard
                    } else {
                        house.heard(hears)
                    };
                    for one in heard {
                        match one {
                            Heard::Publish { payload, id, .. } => {
                                let id = id.unwrap();
                                if !holds.contains(&id) {
                                    holds.push(id);
                                    got.push(u16::from_be_bytes(payload.try_into().unwrap()));
                                }
                                house.pubrec(hears, id);
                            }
                            Heard::Pubrel { id, .. } => {
                                holds.retain(|other| *other != id);
                                house.pubcomp(hears, id);
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
        assert!(sending.is_empty(), "seed {seed}: {sending:?}");
        assert_eq!(got, (1..=next).collect::<Vec<_>>(), "seed {seed}");
    }
}
