//! Retained messages: the last word on a topic, for whoever may hear it and comes later.

use crate::house::{Heard, House, asking, device, message, retained, service};
use access::Facts;
use gateway::Limits;
use model::{Containment, Revocable};
use mqtt::encode::PublishFields;
use mqtt::{Connect, ForwardProperties, Qos, SubscribeEntry, Version};
use std::time::Duration;

const ALL: &str = "v1/+/state/+";

fn words(heard: &[Heard]) -> Vec<(String, bool)> {
    let word = |heard: &Heard| match heard {
        Heard::Publish {
            payload, retain, ..
        } => Some((String::from_utf8(payload.clone()).unwrap(), *retain)),
        _ => None,
    };
    heard.iter().filter_map(word).collect()
}

fn word(text: &str) -> (String, bool) {
    (text.to_owned(), true)
}

fn subscribe(house: &mut House, client: usize, handling: u8) -> Vec<(String, bool)> {
    let entry = SubscribeEntry {
        retain_handling: handling,
        ..asking(ALL, Qos::ExactlyOnce)
    };
    let (code, heard) = house.subscribe_with(client, 0, entry);
    assert_eq!(code, 2);
    words(&heard)
}

fn of(name: &str, word: &str) -> String {
    format!("v1/{name}/state/{word}")
}

#[test]
fn the_last_word_is_kept_until_it_is_taken_back() {
    for version in [Version::V311, Version::V5] {
        let mut house = House::new();
        let camera = house.join(&device("cam-1"), version);
        let (door, light) = (of("cam-1", "door"), of("cam-1", "light"));
        house.publish_as(camera, &retained(&door, b"open", 1));
        house.publish_as(camera, &retained(&door, b"shut", 2));
        house.publish_as(camera, &retained(&light, b"on", 3));
        house.publish(camera, &light, b"flash", Some(4));
        let ingest = house.join(&service("ingest"), version);
        assert_eq!(
            subscribe(&mut house, ingest, 0),
            [word("shut"), word("on")],
            "in the order of topics"
        );
        // To a subscription that stands it is a message like others.
        house.publish_as(camera, &retained(&door, b"open", 5));
        let heard = house.heard(ingest);
        assert_eq!(words(&heard), [("open".to_owned(), false)]);
        // An empty one takes it back.
        house.publish_as(camera, &retained(&door, b"", 6));
        house.heard(ingest);
        let archive = house.join(&service("archive"), version);
        assert_eq!(subscribe(&mut house, archive, 0), [word("on")]);
        assert_eq!(house.gateways[0].retained_count(), 1);
    }
}

#[test]
fn a_subscriber_says_whether_it_wants_them() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish_as(camera, &retained(&of("cam-1", "door"), b"open", 1));
    let ingest = house.join(&service("ingest"), Version::V5);
    assert_eq!(subscribe(&mut house, ingest, 2), []);
    assert_eq!(subscribe(&mut house, ingest, 1), [], "it is not new");
    assert_eq!(subscribe(&mut house, ingest, 0), [word("open")]);
    let archive = house.join(&service("archive"), Version::V5);
    assert_eq!(subscribe(&mut house, archive, 1), [word("open")]);
    let as_published = SubscribeEntry {
        retain_as_published: true,
        retain_handling: 2,
        ..asking(ALL, Qos::AtMostOnce)
    };
    house.subscribe_with(archive, 0, as_published);
    house.publish_as(camera, &retained(&of("cam-1", "door"), b"shut", 2));
    house.publish(camera, &of("cam-1", "door"), b"creaks", Some(3));
    let heard = house.heard(archive);
    assert_eq!(words(&heard), [word("shut"), ("creaks".to_owned(), false)]);
    // Not to a share: who would be its first member?
    house.heard(ingest);
    let (code, heard) = house.subscribe_with(
        ingest,
        0,
        asking("$share/workers/v1/+/state/+", Qos::AtLeastOnce),
    );
    assert_eq!((code, words(&heard).len()), (1, 0));
}

#[test]
fn they_survive_a_crash_and_a_snapshot_with_what_was_taken_back_gone() {
    for shards in [1, 3] {
        let mut house = House::with(Limits::default(), shards);
        for number in 0..12 {
            let name = format!("cam-{number}");
            let camera = house.join(&device(&name), Version::V5);
            house.publish_as(camera, &retained(&of(&name, "a"), b"stays", 1));
            house.publish_as(camera, &retained(&of(&name, "b"), b"goes", 2));
            house.publish_as(camera, &retained(&of(&name, "b"), b"", 3));
            let heard = house.heard(camera);
            assert_eq!(heard.len(), 3, "all are acknowledged: {heard:?}");
        }
        for _ in 0..2 {
            house.crash();
            for gateway in &house.gateways {
                assert_eq!(gateway.retained_count(), 12, "each shard has all");
            }
            let ingest = house.join(&service("ingest"), Version::V5);
            assert_eq!(subscribe(&mut house, ingest, 0).len(), 12);
            let mut records = Vec::new();
            for gateway in &house.gateways {
                gateway.snapshot(&mut |_, record| records.push(record.to_vec()));
            }
            assert_eq!(records.len(), 12);
            house.journal = records;
        }
    }
}

#[test]
fn a_channel_and_the_tenant_keep_so_many_and_no_more() {
    let limits = Limits {
        retained_bytes_max: 3000,
        ..Limits::default()
    };
    let mut house = House::with(limits, 1);
    let camera = house.join(&device("cam-1"), Version::V5);
    let mut codes = Vec::new();
    for number in 0..42 {
        house.publish_as(
            camera,
            &retained(&of("cam-1", &number.to_string()), b"x", 1),
        );
        codes.extend(house.heard(camera).into_iter().map(|heard| match heard {
            Heard::Puback { code, .. } => code,
            other => panic!("{other:?}"),
        }));
    }
    assert!(codes[..40].iter().all(|code| *code == 0), "{codes:?}");
    assert_eq!(codes[40..], [0x97, 0x97]);
    assert_eq!(house.gateways[0].counters().dropped_retain, 2);
    // What is there may change, if it does not grow too far, and make room.
    house.publish_as(camera, &retained(&of("cam-1", "0"), b"y", 1));
    house.publish_as(camera, &retained(&of("cam-1", "1"), &[b'x'; 990], 2));
    house.publish_as(camera, &retained(&of("cam-1", "2"), &[b'x'; 990], 3));
    house.publish_as(camera, &retained(&of("cam-1", "3"), &[b'x'; 990], 4));
    house.publish_as(camera, &retained(&of("cam-1", "4"), b"", 5));
    house.publish_as(camera, &retained(&of("cam-1", "new"), b"x", 6));
    let codes: Vec<u8> = (house.heard(camera).iter())
        .map(|heard| match heard {
            Heard::Puback { code, .. } => *code,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(codes, [0, 0, 0, 0x97, 0, 0]);
    // A channel that says nothing of it keeps nothing.
    house.publish_as(camera, &retained("v1/cam-1/up/t", b"x", 7));
    let heard = house.heard(camera);
    assert!(
        matches!(&heard[..], [Heard::Puback { code: 0x97, text: Some(text), .. }] if text.contains("not-retained")),
        "{heard:?}"
    );
}

#[test]
fn they_age_and_expire() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    let minute = [0x02, 0, 0, 0, 60];
    house.publish_as(
        camera,
        &PublishFields {
            forward: ForwardProperties::from_validated(&minute),
            ..retained(&of("cam-1", "a"), b"a minute", 1)
        },
    );
    house.publish_as(camera, &retained(&of("cam-1", "b"), b"two days", 2));
    house.pass(Duration::from_secs(20));
    let ingest = house.join(&service("ingest"), Version::V5);
    let (_, heard) = house.subscribe_with(ingest, 0, asking(ALL, Qos::AtMostOnce));
    let left: Vec<Option<u32>> = (heard.iter())
        .map(|heard| match heard {
            Heard::Publish { expiry, .. } => *expiry,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(left, [Some(40), None]);
    house.pass(Duration::from_secs(41));
    assert_eq!(subscribe(&mut house, ingest, 0), [word("two days")]);
    house.pass(Duration::from_secs(120));
    assert_eq!(house.gateways[0].retained_count(), 1, "it is swept out");
    house.pass(Duration::from_secs(2 * 86_400));
    assert_eq!(house.gateways[0].retained_count(), 0);
    house.crash();
    assert_eq!(house.gateways[0].retained_count(), 0);
}

#[test]
fn a_contained_publishers_word_is_withheld_and_a_revoked_ones_is_gone() {
    for shards in [1, 3] {
        let mut house = House::with(Limits::default(), shards);
        for name in ["cam-1", "cam-2"] {
            let camera = house.join(&device(name), Version::V5);
            house.publish_as(camera, &retained(&of(name, "door"), name.as_bytes(), 1));
        }
        let contained = Facts {
            containment: Some(Containment::Quarantined),
            ..device("cam-1")
        };
        let ingest = house.join(&service("ingest"), Version::V5);
        let know = |house: &mut House, facts: &Facts| {
            for gateway in &mut house.gateways {
                gateway.know_publisher(facts);
            }
        };
        know(&mut house, &contained);
        assert_eq!(subscribe(&mut house, ingest, 0), [word("cam-2")]);
        know(&mut house, &device("cam-1"));
        assert_eq!(
            subscribe(&mut house, ingest, 0),
            [word("cam-1"), word("cam-2")]
        );
        let what = [Revocable::Principal(device("cam-1").principal)];
        for shard in 0..house.gateways.len() {
            house.with_gateway(shard, |gateway, now, turn| gateway.revoke(&what, now, turn));
        }
        assert_eq!(subscribe(&mut house, ingest, 0), [word("cam-2")]);
        house.crash();
        let ingest = house.join(&service("ingest"), Version::V5);
        assert_eq!(subscribe(&mut house, ingest, 0), [word("cam-2")]);
    }
}

#[test]
fn retained_then_forbidden() {
    // Policies change between publish and subscribe: of either side.
    for lost in ["devices-state", "services-see-state"] {
        let mut house = House::new();
        let camera = house.join(&device("cam-1"), Version::V5);
        house.publish_as(camera, &retained(&of("cam-1", "door"), b"open", 1));
        let ingest = house.join(&service("ingest"), Version::V5);
        assert_eq!(subscribe(&mut house, ingest, 0), [word("open")]);
        let start = crate::house::POLICIES
            .find(&format!("@id(\"{lost}\")"))
            .unwrap();
        let less = format!(
            "{}@id(\"{lost}\") forbid{}",
            &crate::house::POLICIES[..start],
            crate::house::POLICIES[start..]
                .split_once("permit")
                .unwrap()
                .1
        );
        let grants = crate::house::grants_of(&less);
        house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
        let (code, heard) = house.subscribe_with(ingest, 0, asking(ALL, Qos::AtMostOnce));
        assert_eq!(words(&heard), [], "{lost} {code}");
    }
}

#[test]
fn a_slow_subscriber_gets_all_of_them_and_grows_nothing() {
    // By its reading, and by its window of four.
    for (qos, high, total) in [
        (Qos::AtMostOnce, 5_000, 42),
        (Qos::AtLeastOnce, 100_000, 41),
    ] {
        let limits = Limits {
            outgoing_bytes_high: high,
            retained_bytes_max: 1_000_000,
            ..Limits::default()
        };
        let mut house = House::with(limits, 1);
        let camera = house.join(&device("cam-1"), Version::V5);
        for number in 10..50 {
            let topic = of("cam-1", &number.to_string());
            house.publish_as(camera, &retained(&topic, &[b'x'; 900], 1));
        }
        let connect = Connect {
            receive_maximum: Some(4),
            ..Connect::new(Version::V5, "ingest")
        };
        let ingest = house.connect(&service("ingest"), &connect);
        house.heard(ingest);
        house.clients[ingest].reads = false;
        house.send(ingest, |out, version| {
            mqtt::encode::subscribe(out, version, 1, &[(ALL, qos)]);
        });
        // Who does not read holds its publishers. Where only the window is full, one of those still to
        // come is replaced: it comes live, and not twice.
        house.publish(camera, "v1/cam-1/state/49", b"live", None);
        house.publish_as(camera, &retained("v1/cam-1/state/48", b"newer", 2));
        let mut got = Vec::new();
        for _ in 0..200 {
            let waiting = house.gateways[0]
                .output(gateway::ConnectionId(ingest as u32))
                .unwrap()
                .len();
            assert!(waiting < 20_000, "{waiting}");
            for heard in house.heard(ingest) {
                if let Heard::Publish {
                    topic, payload, id, ..
                } = heard
                {
                    got.push((topic, payload));
                    if let Some(id) = id {
                        house.puback(ingest, id);
                    }
                }
            }
        }
        got.sort();
        assert_eq!(got.len(), total);
        got.dedup_by(|left, right| left.0 == right.0);
        assert_eq!(got.len(), 40);
    }
}

#[test]
fn a_subscription_misses_no_retained_message_whatever_crosses() {
    // Publishers on three shards, a subscriber on one, letters late and in any order.
    for seed in 0..300_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        let mut below = move |end: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % end
        };
        let mut house = House::with(Limits::default(), 3);
        let names: Vec<String> = (0..6).map(|n| format!("cam-{n}")).collect();
        let cameras: Vec<usize> = (names.iter())
            .map(|name| house.join(&device(name), Version::V5))
            .collect();
        let ingest = house.join(&service("ingest"), Version::V5);
        house.transit_is_slow = true;
        let mut last = vec![String::new(); names.len()];
        let subscribe_at = below(40);
        for step in 0..40 {
            if step == subscribe_at {
                house.send(ingest, |out, version| {
                    mqtt::encode::subscribe(out, version, 1, &[(ALL, Qos::AtMostOnce)]);
                });
            }
            let at = below(names.len());
            last[at] = if below(4) == 0 {
                String::new()
            } else {
                format!("{at}-{step}")
            };
            house.publish_as(
                cameras[at],
                &retained(&of(&names[at], "s"), last[at].as_bytes(), 1),
            );
            let ways: Vec<_> = house.transit.keys().copied().collect();
            for way in ways {
                if below(3) == 0 {
                    house.carry(way);
                }
            }
        }
        house.carry_all();
        let mut seen = vec![String::new(); names.len()];
        for heard in house.heard(ingest) {
            if let Heard::Publish { topic, payload, .. } = heard {
                let at = names
                    .iter()
                    .position(|name| topic == of(name, "s"))
                    .unwrap();
                seen[at] = String::from_utf8(payload).unwrap();
            }
        }
        assert_eq!(seen, last, "seed {seed}: what it knows is what is so");
        let kept = last.iter().filter(|word| !word.is_empty()).count();
        for gateway in &house.gateways {
            assert_eq!(
                gateway.retained_count(),
                kept,
                "seed {seed}: all shards agree"
            );
        }
    }
}

#[test]
fn two_publishers_of_one_topic_leave_the_same_word_in_every_shard() {
    let policies = format!(
        "{}\n@id(\"services-too\") permit (principal is Service, action == Action::\"publish\", resource == Channel::\"state\");",
        crate::house::POLICIES
    );
    let grants = crate::house::grants_of(&policies);
    for order in 0..2 {
        let mut house = House::with(Limits::default(), 4);
        house.grants = grants.clone();
        for shard in 0..4 {
            let grants = grants.clone();
            house.with_gateway(shard, |gateway, now, turn| {
                gateway.regrant(grants, now, turn)
            });
        }
        let writers: Vec<usize> = (["control", "idle", "archive"].iter())
            .map(|name| house.join(&service(name), Version::V5))
            .collect();
        let homes: std::collections::BTreeSet<usize> = writers
            .iter()
            .map(|client| house.clients[*client].shard)
            .collect();
        assert!(homes.len() > 1, "they live apart");
        house.transit_is_slow = true;
        for (number, writer) in writers.iter().enumerate() {
            let payload = [b'0' + number as u8];
            house.publish_as(*writer, &retained(&of("x", "s"), &payload, 1));
        }
        let mut ways: Vec<_> = house.transit.keys().copied().collect();
        if order == 1 {
            ways.reverse();
        }
        for way in ways {
            house.carry(way);
        }
        house.carry_all();
        house.transit_is_slow = false;
        let mut heard = Vec::new();
        for name in ["ingest", "archive", "control", "idle"] {
            let reader = house.connect(
                &service(name),
                &Connect::new(Version::V5, &format!("{name}:reader")),
            );
            house.heard(reader);
            heard.extend(subscribe(&mut house, reader, 0));
        }
        assert_eq!(heard.len(), 4, "{heard:?}");
        heard.dedup();
        assert_eq!(heard.len(), 1, "{heard:?}");
        house.crash();
        let reader = house.join(&service("ingest"), Version::V5);
        assert_eq!(subscribe(&mut house, reader, 0), heard, "and after a crash");
    }
}

#[test]
fn a_plain_message_leaves_what_is_retained() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    house.publish_as(camera, &retained(&of("cam-1", "door"), b"open", 1));
    house.publish_as(camera, &message(&of("cam-1", "door"), b"", Some(2)));
    assert_eq!(house.gateways[0].retained_count(), 1);
}

#[test]
fn after_unsubscribe_no_retained_message_follows() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    for number in 10..30 {
        let topic = of("cam-1", &number.to_string());
        house.publish_as(camera, &retained(&topic, b"x", 1));
    }
    let connect = Connect {
        receive_maximum: Some(4),
        ..Connect::new(Version::V5, "ingest")
    };
    let ingest = house.connect(&service("ingest"), &connect);
    house.heard(ingest);
    let (_, heard) = house.subscribe_with(ingest, 0, asking(ALL, Qos::AtLeastOnce));
    assert_eq!(words(&heard).len(), 4, "as many as its window");
    house.send(ingest, |out, version| {
        mqtt::encode::unsubscribe(out, version, 9, &[ALL]);
    });
    assert!(matches!(
        house.heard(ingest)[..],
        [Heard::Unsuback { id: 9, .. }]
    ));
    for id in 1..=4 {
        house.puback(ingest, id);
    }
    assert_eq!(words(&house.heard(ingest)), [], "MQTT 3.10.4-2");
}

/// One device that keeps all it can leaves room for the others.
#[test]
fn retained_flood() {
    let limits = Limits {
        retained_of_device_max: 10,
        retained_bytes_of_device_max: 2000,
        ..Limits::default()
    };
    let mut house = House::with(limits, 1);
    let kept = |house: &mut House, client: usize, topic: &str, payload: &[u8]| {
        house.publish_as(client, &retained(topic, payload, 1));
        matches!(house.heard(client)[..], [Heard::Puback { code: 0, .. }])
    };
    let flooder = house.join(&device("cam-1"), Version::V5);
    for number in 0..20 {
        let topic = of("cam-1", &number.to_string());
        assert_eq!(kept(&mut house, flooder, &topic, b"x"), number < 10);
    }
    // What it has it may change and take away, and then keep another.
    assert!(kept(&mut house, flooder, &of("cam-1", "3"), b"y"));
    assert!(kept(&mut house, flooder, &of("cam-1", "3"), b""));
    assert!(kept(&mut house, flooder, &of("cam-1", "30"), b"z"));
    let heavy = house.join(&device("cam-2"), Version::V5);
    for number in 0..4 {
        let topic = of("cam-2", &number.to_string());
        assert_eq!(kept(&mut house, heavy, &topic, &[b'x'; 900]), number < 2);
    }
    let neighbour = house.join(&device("cam-3"), Version::V5);
    assert!(kept(&mut house, neighbour, &of("cam-3", "door"), b"shut"));
    assert_eq!(house.gateways[0].retained_count(), 13);
}

/// A device that keeps a message at each moment has one on its way when it is revoked: it comes to a
/// shard that was told already.
#[test]
fn attack_a_retained_message_on_its_way_outlives_its_revocation() {
    let mut house = House::with(Limits::default(), 2);
    let names: Vec<String> = (1..20).map(|number| format!("cam-{number}")).collect();
    for name in &names {
        let camera = house.join(&device(name), Version::V5);
        house.transit_is_slow = true;
        house.publish_as(camera, &retained(&of(name, "door"), b"open", 1));
        let what = [Revocable::Principal(device(name).principal)];
        for shard in [1, 0] {
            house.with_gateway(shard, |gateway, now, turn| gateway.revoke(&what, now, turn));
        }
        house.transit_is_slow = false;
        house.carry_all();
    }
    for gateway in &house.gateways {
        assert_eq!(gateway.retained_count(), 0);
    }
    house.crash();
    assert_eq!(house.gateways[0].retained_count(), 0, "nor in a journal");
}
