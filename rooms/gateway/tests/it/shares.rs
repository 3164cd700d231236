//! Shared subscriptions: each message to one member, and to none that may not have it.

use crate::house::{Heard, House, asking, device, message, service, twice};
use access::Facts;
use gateway::Limits;
use mqtt::encode::PublishFields;
use mqtt::{Connect, ForwardProperties, Qos, Version};
use std::collections::BTreeMap;
use std::time::Duration;

const SHARED: &str = "$share/workers/v1/+/up/#";

fn member(house: &mut House, facts: &Facts, id: &str, qos: Qos) -> usize {
    let client = house.connect(facts, &Connect::new(Version::V5, id));
    house.heard(client);
    let (code, _) = house.subscribe_with(client, 0, asking(SHARED, qos));
    assert_eq!(code, qos as u8);
    client
}

/// A member that has left for so long, with what it also listens to; how it comes back.
fn away(
    house: &mut House,
    name: &str,
    id: &'static str,
    expiry_seconds: u32,
    also: &[&str],
) -> Connect<'static> {
    let connect = Connect {
        clean_start: false,
        session_expiry_seconds: Some(expiry_seconds),
        ..Connect::new(Version::V5, id)
    };
    let client = house.connect(&service(name), &connect);
    house.heard(client);
    house.subscribe_with(client, 0, asking(SHARED, Qos::AtLeastOnce));
    if !also.is_empty() {
        house.subscribe(client, also);
    }
    house.lose(client);
    connect
}

fn publish(house: &mut House, camera: usize, from: u16, to: u16) {
    for id in from..to {
        house.publish(camera, "v1/cam-1/up/t", &id.to_be_bytes(), Some(id));
    }
}

/// Which messages each got for the first time, acknowledging them.
fn take(house: &mut House, clients: &[usize]) -> Vec<Vec<u16>> {
    let one = |house: &mut House, client: usize| {
        let mut got = Vec::new();
        for heard in house.heard(client) {
            if let Heard::Publish { payload, id, .. } = heard {
                got.push(u16::from_be_bytes(payload.try_into().unwrap()));
                if let Some(id) = id {
                    house.puback(client, id);
                }
            }
        }
        got
    };
    clients.iter().map(|client| one(house, *client)).collect()
}

#[test]
fn each_message_goes_to_one_member_and_to_each_its_part() {
    let mut house = House::new();
    let ingest = service("ingest");
    let members: Vec<usize> = (["ingest:a", "ingest:b", "ingest:c"].iter())
        .map(|id| member(&mut house, &ingest, id, Qos::AtLeastOnce))
        .collect();
    // An ordinary subscriber beside them gets all, and a member that is both gets its own besides.
    let archive = house.join(&service("archive"), Version::V5);
    house.subscribe(archive, &["v1/+/up/#"]);
    let camera = house.join(&device("cam-1"), Version::V5);
    publish(&mut house, camera, 1, 31);
    let got = take(&mut house, &members);
    assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 10]);
    let mut all: Vec<u16> = got.concat();
    all.sort();
    assert_eq!(all, (1..31).collect::<Vec<_>>());
    assert_eq!(take(&mut house, &[archive])[0].len(), 30);
}

#[test]
fn stolen_share_name() {
    let mut house = House::new();
    let worker = member(&mut house, &service("ingest"), "ingest:a", Qos::AtLeastOnce);
    // A name that it was not given; a name it was given with a filter it may not have; a device.
    let ingest = house.connect(&service("ingest"), &Connect::new(Version::V5, "ingest:b"));
    house.heard(ingest);
    let codes = house.subscribe(
        ingest,
        &[
            "$share/others/v1/+/up/#",
            "$share/workers/v1/+/down/+",
            "$share/workers/#",
        ],
    );
    assert_eq!(codes, [0x87, 0x87, 0x87]);
    let control = house.join(&service("control"), Version::V5);
    assert_eq!(house.subscribe(control, &[SHARED]), [0x87]);
    let camera = house.join(&device("cam-1"), Version::V5);
    let down = "$share/workers/v1/cam-1/down/+";
    assert_eq!(house.subscribe(camera, &[down]), [0x87]);
    assert!(
        house
            .signals
            .iter()
            .any(|signal| signal.to_string().contains("share-not-granted"))
    );
    let old = house.connect(
        &service("ingest"),
        &Connect::new(Version::V311, "ingest:old"),
    );
    house.heard(old);
    assert_eq!(
        house.subscribe(old, &["$share//f", "$share/workers/", "$share"]),
        [0x80; 3]
    );
    publish(&mut house, camera, 1, 11);
    assert_eq!(take(&mut house, &[worker])[0].len(), 10);
}

#[test]
fn a_member_that_leaves_leaves_its_messages_to_the_others() {
    let mut house = House::new();
    let ingest = service("ingest");
    let stays = member(&mut house, &ingest, "ingest:a", Qos::AtLeastOnce);
    let leaves = member(&mut house, &ingest, "ingest:b", Qos::AtLeastOnce);
    let camera = house.join(&device("cam-1"), Version::V5);
    publish(&mut house, camera, 1, 21);
    // It read them and acknowledged none.
    assert_eq!(house.payloads(leaves).len(), 10);
    assert_eq!(take(&mut house, &[stays])[0].len(), 10);
    house.lose(leaves);
    let more = take(&mut house, &[stays]);
    assert_eq!(more[0].len(), 10, "in order: {more:?}");
    assert!(more[0].is_sorted());
}

#[test]
fn a_qos_2_message_under_way_is_its_members_for_good() {
    let mut house = House::new();
    let ingest = service("ingest");
    let connect = Connect {
        receive_maximum: Some(1),
        ..Connect::new(Version::V5, "ingest:b")
    };
    let leaves = house.connect(&ingest, &connect);
    house.heard(leaves);
    house.subscribe_with(leaves, 0, asking(SHARED, Qos::ExactlyOnce));
    let camera = house.join(&device("cam-1"), Version::V5);
    for id in 1..=3 {
        house.publish_as(camera, &twice("v1/cam-1/up/t", &[id as u8], id));
    }
    assert_eq!(house.payloads(leaves), [[1]]);
    let stays = member(&mut house, &ingest, "ingest:a", Qos::ExactlyOnce);
    house.lose(leaves);
    assert_eq!(house.payloads(stays), [[2], [3]], "the first was under way");
}

#[test]
fn while_all_are_away_messages_wait_for_one_of_them() {
    for shards in [1, 3] {
        let mut house = House::with(Limits::default(), shards);
        let names = ["ingest", "archive"];
        for name in names {
            let (client, _) = house.join_persistent(&service(name));
            let (code, _) = house.subscribe_with(client, 0, asking(SHARED, Qos::AtLeastOnce));
            assert_eq!(code, 1);
            house.lose(client);
        }
        let camera = house.join(&device("cam-1"), Version::V5);
        publish(&mut house, camera, 1, 11);
        assert_eq!(house.heard(camera).len(), 10);
        house.crash();
        let mut got = Vec::new();
        for name in names {
            let (client, heard) = house.join_persistent(&service(name));
            for heard in heard {
                if let Heard::Publish { payload, id, .. } = heard {
                    got.push(u16::from_be_bytes(payload.try_into().unwrap()));
                    house.puback(client, id.unwrap());
                }
            }
        }
        got.sort();
        assert_eq!(got, (1..11).collect::<Vec<_>>(), "{shards} shards");
    }
}

#[test]
fn an_absent_member_with_a_full_queue_is_passed_over() {
    let limits = Limits {
        queue_messages_max: 4,
        ..Limits::default()
    };
    let mut house = House::with(limits, 1);
    let ingest = service("ingest");
    let full = away(&mut house, "ingest", "ingest:a", 3600, &["v1/+/state/+"]);
    let other = away(&mut house, "ingest", "ingest:b", 3600, &[]);
    let camera = house.join(&device("cam-1"), Version::V5);
    for id in 1..=4 {
        house.publish(camera, "v1/cam-1/state/s", b"s", Some(id));
    }
    publish(&mut house, camera, 5, 9);
    let back = house.connect(&ingest, &other);
    assert_eq!(take(&mut house, &[back]), [[5, 6, 7, 8]]);
    house.lose(back);
    let back = house.connect(&ingest, &full);
    assert_eq!(house.payloads(back), [b"s"; 4]);
}

#[test]
fn a_stored_members_messages_go_to_the_others_when_its_session_ends_also_after_a_crash() {
    let mut house = House::new();
    away(&mut house, "archive", "archive", 50, &[]);
    let camera = house.join(&device("cam-1"), Version::V5);
    publish(&mut house, camera, 1, 6);
    house.crash();
    let ingest = member(&mut house, &service("ingest"), "ingest", Qos::AtLeastOnce);
    assert_eq!(house.payloads(ingest).len(), 0);
    house.pass(Duration::from_secs(51));
    assert_eq!(take(&mut house, &[ingest])[0], [1, 2, 3, 4, 5]);
}

#[test]
fn a_member_that_lost_the_grant_gets_none() {
    let mut house = House::new();
    let ingest = member(&mut house, &service("ingest"), "ingest", Qos::AtLeastOnce);
    let archive = member(&mut house, &service("archive"), "archive", Qos::AtLeastOnce);
    let less = crate::house::POLICIES.replace(
        "Service::\"archive\", action == Action::\"receive\", resource == Channel::\"up\"",
        "Service::\"idle\", action == Action::\"receive\", resource == Channel::\"up\"",
    );
    let grants = crate::house::grants_of(&less);
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    assert_eq!(house.signalled("subscription-dropped"), 1);
    let camera = house.join(&device("cam-1"), Version::V5);
    publish(&mut house, camera, 1, 11);
    let got = take(&mut house, &[ingest, archive]);
    assert_eq!((got[0].len(), got[1].len()), (10, 0));
    // Revoked: what it had goes to who is left.
    let archive = service("archive");
    let grants = crate::house::grants_of(crate::house::POLICIES);
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    let client = member(&mut house, &archive, "archive", Qos::AtLeastOnce);
    publish(&mut house, camera, 11, 21);
    assert_eq!(house.payloads(client).len(), 5);
    let what = [model::Revocable::Principal(archive.principal)];
    house.with_gateway(0, |gateway, now, turn| gateway.revoke(&what, now, turn));
    assert_eq!(take(&mut house, &[ingest])[0].len(), 10);
}

#[test]
fn members_of_many_shards_share_evenly_and_lose_nothing_when_they_come_and_go() {
    for seed in 0..40_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        let mut below = move |end: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % end
        };
        let mut house = House::with(Limits::default(), 3);
        let ids = ["ingest:1", "ingest:2", "ingest:3", "archive:1"];
        let facts = |id: &str| service(id.split(':').next().unwrap());
        // One that is always there, so that there is a member at every moment.
        let anchor = member(
            &mut house,
            &service("archive"),
            "archive:0",
            Qos::AtLeastOnce,
        );
        let mut members: BTreeMap<&str, usize> = BTreeMap::new();
        let camera = house.join(&device("cam-1"), Version::V5);
        let mut got: BTreeMap<u16, u32> = BTreeMap::new();
        let mut sent = 0_u16;
        house.transit_is_slow = true;
        for _ in 0..120 {
            match below(10) {
                0..5 => {
                    sent += 1;
                    house.publish(camera, "v1/cam-1/up/t", &sent.to_be_bytes(), Some(sent));
                }
                5 => {
                    let id = ids[below(ids.len())];
                    if let Some(client) = members.remove(id) {
                        house.lose(client);
                    } else {
                        let client = house.connect(&facts(id), &Connect::new(Version::V5, id));
                        house.send(client, |out, version| {
                            mqtt::encode::subscribe(out, version, 1, &[(SHARED, Qos::AtLeastOnce)]);
                        });
                        members.insert(id, client);
                    }
                }
                6 => {
                    let clients: Vec<usize> = members.values().copied().chain([anchor]).collect();
                    for message in take(&mut house, &clients).concat() {
                        *got.entry(message).or_default() += 1;
                    }
                }
                _ => {
                    let ways: Vec<_> = house.transit.keys().copied().collect();
                    for way in ways {
                        if below(2) == 0 {
                            house.carry(way);
                        }
                    }
                }
            }
        }
        house.transit_is_slow = false;
        house.carry_all();
        let clients: Vec<usize> = members.values().copied().chain([anchor]).collect();
        for _ in 0..3 {
            for message in take(&mut house, &clients).concat() {
                *got.entry(message).or_default() += 1;
            }
            house.carry_all();
        }
        let lost: Vec<u16> = (1..=sent).filter(|n| !got.contains_key(n)).collect();
        assert!(lost.is_empty(), "seed {seed}: lost {lost:?}");
        // Now that it is calm, each member has its part.
        let per = 12;
        let count = clients.len() as u16;
        publish(&mut house, camera, 1, per * count + 1);
        let parts: Vec<usize> = take(&mut house, &clients).iter().map(Vec::len).collect();
        assert_eq!(
            parts.iter().sum::<usize>(),
            usize::from(per * count),
            "seed {seed}"
        );
        assert!(
            parts.iter().all(|part| (8..=16).contains(part)),
            "seed {seed}: {parts:?}"
        );
    }
}

#[test]
fn an_unsubscribed_member_gets_no_more() {
    let mut house = House::new();
    let stays = member(&mut house, &service("ingest"), "ingest", Qos::AtLeastOnce);
    let goes = member(&mut house, &service("archive"), "archive", Qos::AtLeastOnce);
    house.send(goes, |out, version| {
        mqtt::encode::unsubscribe(out, version, 4, &[SHARED]);
    });
    let heard = house.heard(goes);
    assert!(
        matches!(&heard[..], [Heard::Unsuback { codes, .. }] if *codes == [0]),
        "{heard:?}"
    );
    let camera = house.join(&device("cam-1"), Version::V5);
    publish(&mut house, camera, 1, 5);
    assert_eq!(take(&mut house, &[stays, goes]), [vec![1, 2, 3, 4], vec![]]);
}

#[test]
fn what_waited_with_a_member_that_left_says_how_much_of_its_expiry_is_left() {
    let mut house = House::new();
    away(&mut house, "archive", "archive", 50, &[]);
    let camera = house.join(&device("cam-1"), Version::V5);
    for (seconds, id) in [(10_u32, 1), (100, 2)] {
        let mut properties = vec![0x02];
        properties.extend(seconds.to_be_bytes());
        let fields = PublishFields {
            forward: ForwardProperties::from_validated(&properties),
            ..message("v1/cam-1/up/t", b"x", Some(id))
        };
        house.publish_as(camera, &fields);
    }
    let ingest = member(&mut house, &service("ingest"), "ingest", Qos::AtLeastOnce);
    house.pass(Duration::from_secs(51));
    let heard = house.heard(ingest);
    assert!(
        matches!(
            heard[..],
            [Heard::Publish {
                expiry: Some(49),
                ..
            }]
        ),
        "{heard:?}"
    );
    assert_eq!(house.gateways[0].counters().dropped_expired, 1);
}

/// The fleet took its share away and the machine died before its journal knew.
#[test]
fn stolen_share_name_by_a_session_that_is_resumed() {
    let mut house = House::new();
    let (archive, _) = house.join_persistent(&service("archive"));
    house.subscribe_with(archive, 0, asking(SHARED, Qos::AtLeastOnce));
    let mut files = crate::house::files(crate::house::POLICIES);
    for file in &mut files {
        file.text = (file.text).replace("[archive]\nshares = [\"workers\"]", "[archive]");
    }
    house.grants = crate::house::grants_of_files(&files);
    house.crash();
    let (archive, _) = house.join_persistent(&service("archive"));
    assert_eq!(house.signalled("subscription-dropped"), 1);
    let ingest = member(&mut house, &service("ingest"), "ingest", Qos::AtLeastOnce);
    let camera = house.join(&device("cam-1"), Version::V5);
    publish(&mut house, camera, 1, 11);
    let got = take(&mut house, &[ingest, archive]);
    assert_eq!((got[0].len(), got[1].len()), (10, 0));
}
