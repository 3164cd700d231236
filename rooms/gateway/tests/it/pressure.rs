//! Who waits for whom when somebody does not read.

use crate::house::{Heard, House, device, service};
use gateway::{CloseReason, Limits};
use mqtt::Version;
use std::time::Duration;

fn small() -> Limits {
    Limits {
        outgoing_bytes_high: 20_000,
        outgoing_bytes_max: 100_000,
        queue_messages_max: 200,
        ..Limits::default()
    }
}

/// What the gateway and the socket hold for a client.
fn held_for(house: &mut House, client: usize) -> usize {
    let shard = house.clients[client].shard;
    let waiting = house.gateways[shard]
        .output(gateway::ConnectionId(client as u32))
        .map_or(0, |out| out.len());
    waiting + house.clients[client].socket.len()
}

#[test]
fn slow_reader_does_not_grow_memory() {
    for id in [None, Some(1)] {
        let mut house = House::with(small(), 1);
        let ingest = house.join(&service("ingest"), Version::V5);
        house.subscribe(ingest, &["v1/+/up/#"]);
        let archive = house.join(&service("archive"), Version::V5);
        house.subscribe(archive, &["v1/cam-9/up/#"]);
        house.clients[ingest].reads = false;
        let cameras: Vec<usize> = (0..20)
            .map(|n| house.join(&device(&format!("cam-{n}")), Version::V5))
            .collect();
        let mut sent = 0;
        for round in 0..50_u8 {
            for (n, camera) in cameras.iter().enumerate() {
                house.publish(*camera, &format!("v1/cam-{n}/up/t"), &[round; 1000], id);
                sent += 1;
            }
        }
        let held = held_for(&mut house, ingest);
        assert!(held < 20_000 + 1_100, "{held}");
        assert!(cameras.iter().all(|camera| house.clients[*camera].paused));
        let acknowledged: usize = cameras
            .iter()
            .map(|camera| house.heard(*camera).len())
            .sum();
        assert!(
            acknowledged < 25,
            "an acknowledgement does not outrun delivery: {acknowledged}"
        );
        // It reads again: everything comes, in each publisher's order.
        house.clients[ingest].reads = true;
        let mut got = Vec::new();
        loop {
            let heard = house.heard(ingest);
            if heard.is_empty() {
                break;
            }
            for heard in heard {
                let Heard::Publish {
                    topic, payload, id, ..
                } = heard
                else {
                    continue;
                };
                got.push((topic, payload[0]));
                if let Some(id) = id {
                    house.puback(ingest, id);
                }
            }
        }
        assert_eq!(got.len(), sent);
        for n in 0..20 {
            let rounds: Vec<u8> = got
                .iter()
                .filter(|(topic, _)| *topic == format!("v1/cam-{n}/up/t"))
                .map(|(_, round)| *round)
                .collect();
            assert!(rounds.is_sorted());
        }
        assert!(cameras.iter().all(|camera| !house.clients[*camera].paused));
    }
}

#[test]
fn a_stalled_consumer_is_cut_and_its_publishers_go_on() {
    let mut house = House::with(small(), 1);
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.subscribe(ingest, &["v1/+/up/#"]);
    house.clients[ingest].reads = false;
    let camera = house.join(&device("cam-1"), Version::V5);
    for id in 1..=40 {
        house.publish(camera, "v1/cam-1/up/t", &[id as u8; 1000], Some(id));
    }
    assert!(house.clients[camera].paused);
    house.pass(Duration::from_secs(10));
    assert_eq!(house.clients[ingest].closed, Some(CloseReason::Stalled));
    assert!(!house.clients[camera].paused);
    assert_eq!(
        house.heard(camera).len(),
        40,
        "a persistent session keeps them"
    );
    let (ingest, mut heard) = house.join_persistent(&service("ingest"));
    heard.extend(house.heard(ingest));
    let got: Vec<u8> = heard
        .iter()
        .filter_map(|heard| match heard {
            Heard::Publish { payload, .. } => Some(payload[0]),
            _ => None,
        })
        .collect();
    assert_eq!(got, (1..=40).collect::<Vec<u8>>());
}

#[test]
fn a_paused_publisher_is_not_cut_for_its_silence() {
    let limits = Limits {
        stalled_consumer_timeout: Duration::from_secs(100),
        ..small()
    };
    let mut house = House::with(limits, 1);
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/up/#"]);
    house.clients[ingest].reads = false;
    let connect = mqtt::Connect {
        keep_alive_seconds: 10,
        ..mqtt::Connect::new(Version::V5, "cam-1")
    };
    let camera = house.connect(&device("cam-1"), &connect);
    for _ in 0..40 {
        house.publish(camera, "v1/cam-1/up/t", &[0; 1000], None);
    }
    assert!(house.clients[camera].paused);
    house.pass(Duration::from_secs(20));
    house.pass(Duration::from_secs(20));
    assert_eq!(house.clients[camera].closed, None);
    house.clients[ingest].reads = true;
    house.heard(ingest);
    assert!(!house.clients[camera].paused);
    house.pass(Duration::from_secs(16));
    assert_eq!(house.clients[camera].closed, Some(CloseReason::KeepAlive));
}

#[test]
fn a_device_that_does_not_read_stops_nobody() {
    let mut house = House::with(small(), 1);
    let control = house.join(&service("control"), Version::V5);
    let deaf = house.join(&device("cam-1"), Version::V5);
    let good = house.join(&device("cam-2"), Version::V5);
    house.subscribe(deaf, &["v1/cam-1/down/+"]);
    house.subscribe(good, &["v1/cam-2/down/+"]);
    house.clients[deaf].reads = false;
    let mut got = 0;
    for id in 1..=200 {
        house.publish(control, "v1/cam-1/down/x", &[0; 1000], Some(id));
        house.publish(control, "v1/cam-2/down/x", &[0; 1000], Some(1000 + id));
        house.publish(control, "v1/cam-1/down/x", &[0; 1000], None);
        for heard in house.heard(good) {
            if let Heard::Publish { id: Some(id), .. } = heard {
                got += 1;
                house.puback(good, id);
            }
        }
        assert!(!house.clients[control].paused);
        if house.clients[deaf].closed.is_none() {
            assert!(held_for(&mut house, deaf) < 100_000 + 1_100);
        }
    }
    assert_eq!(got, 200);
    assert!(
        house.clients[deaf].closed.is_some(),
        "{:?}",
        house.gateways[0].counters()
    );
}

#[test]
fn a_client_that_sends_and_never_reads_is_not_read() {
    let limits = Limits {
        packets_per_second: 100_000,
        ..small()
    };
    let mut house = House::with(limits, 1);
    let camera = house.join(&device("cam-1"), Version::V5);
    house.clients[camera].reads = false;
    for id in 1..=60_000 {
        house.publish(camera, "v1/cam-1/up/t", b"", Some(id));
    }
    assert!(house.clients[camera].paused);
    assert!(held_for(&mut house, camera) < 21_000);
    house.pass(Duration::from_secs(10));
    assert_eq!(house.clients[camera].closed, Some(CloseReason::Stalled));
}

#[test]
fn a_full_queue_of_an_absent_service_says_quota_exceeded() {
    let mut house = House::with(small(), 1);
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.subscribe(ingest, &["v1/+/up/#"]);
    house.lose(ingest);
    let camera = house.join(&device("cam-1"), Version::V5);
    for id in 1..=210 {
        house.publish(camera, "v1/cam-1/up/t", &[0; 10], Some(id));
    }
    let refused = house
        .heard(camera)
        .iter()
        .filter(|heard| matches!(heard, Heard::Puback { code: 0x97, .. }))
        .count();
    assert_eq!(refused, 10);
    assert_eq!(house.gateways[0].counters().dropped_queue_full, 10);
    assert!(
        !house.clients[camera].paused,
        "an absent service pauses nobody"
    );
}

#[test]
fn two_services_that_wait_for_acknowledgements_do_not_wait_for_each_other() {
    let policies = format!(
        "{}\n@id(\"services-report\") permit (principal is Service, action == Action::\"publish\", resource == Channel::\"up\");",
        crate::house::POLICIES
    );
    let limits = Limits {
        inflight_max: 4,
        queue_messages_max: 40,
        ..small()
    };
    let mut house = House::with(limits, 1);
    let grants = crate::house::grants_of(&policies);
    house.with_gateway(0, |gateway, now, turn| gateway.regrant(grants, now, turn));
    let pair: Vec<usize> = ["ingest", "archive"]
        .map(|name| house.join_persistent(&service(name)).0)
        .to_vec();
    for client in &pair {
        house.subscribe(*client, &["v1/x/up/#"]);
    }
    for id in 1..=30 {
        for client in &pair {
            house.publish(*client, "v1/x/up/t", b"x", Some(id));
        }
    }
    assert!(pair.iter().all(|client| !house.clients[*client].paused));
    let mut acknowledged = 0;
    for _ in 0..100 {
        for client in &pair {
            for heard in house.heard(*client) {
                if let Heard::Publish { id: Some(id), .. } = heard {
                    acknowledged += 1;
                    house.puback(*client, id);
                }
            }
        }
    }
    assert!(acknowledged >= 80, "{acknowledged}");
}
