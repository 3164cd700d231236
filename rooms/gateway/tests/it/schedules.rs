//! Random schedules against what must hold whatever happens.
//!
//! Devices publish QoS 1 to two persistent services; clients come and go, read or do not, shards
//! answer late, and now and then everything is lost but the journal. At the end all come back and
//! read: each service has every message that was acknowledged while it was subscribed, each
//! publisher's in order, and nothing that was refused.

use crate::house::{Heard, House, device, service};
use gateway::Limits;
use mqtt::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const DEVICES: usize = 4;
const SERVICES: [&str; 2] = ["ingest", "archive"];

#[derive(Default)]
struct Model {
    devices: Vec<Option<usize>>,
    services: Vec<Option<usize>>,
    next: u32,
    /// By device: identifier → message, as far as not acknowledged.
    unacknowledged: Vec<BTreeMap<u16, u32>>,
    acknowledged: BTreeSet<u32>,
    /// By service: what it got for the first time, in order: (device, message).
    got: Vec<Vec<(String, u32)>>,
    seen: Vec<BTreeSet<u32>>,
    /// By service: identifiers heard and not acknowledged.
    to_acknowledge: Vec<Vec<u16>>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

fn limits() -> Limits {
    Limits {
        outgoing_bytes_high: 6_000,
        outgoing_bytes_max: 60_000,
        queue_messages_max: 60,
        inflight_max: 7,
        session_expiry_seconds_max: 1_000_000,
        ..Limits::default()
    }
}

#[test]
fn nothing_acknowledged_is_lost_whatever_happens() {
    for seed in 0..60 {
        run(seed, 1 + u16::try_from(seed % 3).unwrap(), 400);
    }
}

/// Many seeds, for long runs.
#[test]
#[ignore = "minutes; run it before a release"]
fn nothing_acknowledged_is_lost_in_many_schedules() {
    for seed in 1000..6000 {
        run(seed, 1 + u16::try_from(seed % 3).unwrap(), 600);
    }
}

fn run(seed: u64, shards: u16, steps: usize) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
    let mut house = House::with(limits(), shards);
    let mut model = Model {
        devices: vec![None; DEVICES],
        services: vec![None; SERVICES.len()],
        unacknowledged: vec![BTreeMap::new(); DEVICES],
        got: vec![Vec::new(); SERVICES.len()],
        seen: vec![BTreeSet::new(); SERVICES.len()],
        to_acknowledge: vec![Vec::new(); SERVICES.len()],
        ..Model::default()
    };
    for index in 0..SERVICES.len() {
        come_back(&mut house, &mut model, index);
        assert_eq!(
            house.subscribe(model.services[index].unwrap(), &["v1/+/up/#"]),
            [1]
        );
    }
    house.transit_is_slow = true;
    for _ in 0..steps {
        step(&mut house, &mut model, &mut random);
        for gateway in &house.gateways {
            for session in gateway.sessions() {
                assert!(session.queued_messages <= 60, "seed {seed}: {session:?}");
            }
        }
    }
    finish(&mut house, &mut model);
    for (index, name) in SERVICES.iter().enumerate() {
        let lost: Vec<_> = model.acknowledged.difference(&model.seen[index]).collect();
        assert!(lost.is_empty(), "seed {seed}: {name} lost {lost:?}");
        for number in 0..DEVICES {
            let device = format!("cam-{number}");
            let order: Vec<u32> = model.got[index]
                .iter()
                .filter(|(from, _)| *from == device)
                .map(|(_, n)| *n)
                .collect();
            assert!(
                order.is_sorted(),
                "seed {seed}: {name} got {order:?} of {device}"
            );
        }
    }
    for client in &house.clients {
        assert!(
            client.gone || !client.paused,
            "seed {seed}: somebody waits for ever"
        );
    }
}

fn step(house: &mut House, model: &mut Model, random: &mut Random) {
    let number = random.below(DEVICES);
    let index = random.below(SERVICES.len());
    match random.below(100) {
        0..45 => publish(house, model, number, random),
        45..55 => listen_device(house, model, number),
        55..75 => listen_service(house, model, index, random),
        75..85 => {
            let ways: Vec<_> = house.transit.keys().copied().collect();
            for way in ways {
                if random.below(2) == 0 {
                    house.carry(way);
                }
            }
        }
        85..88 => {
            if let Some(client) = model.devices[number].take() {
                listen_device_client(house, model, number, client);
                house.lose(client);
                model.unacknowledged[number].clear();
            }
        }
        88..92 => {
            if let Some(client) = model.services[index].take() {
                house.lose(client);
            }
        }
        92..96 => come_back(house, model, index),
        96..98 => house.pass(Duration::from_secs(1 + random.below(4) as u64)),
        98 => {
            for number in 0..DEVICES {
                if let Some(client) = model.devices[number].take() {
                    // What was on the wire before the crash was promised.
                    listen_device_client(house, model, number, client);
                }
                model.unacknowledged[number].clear();
            }
            model.services.fill(None);
            house.crash();
        }
        _ => {
            let mut records = Vec::new();
            for gateway in &house.gateways {
                gateway.snapshot(&mut |_, record| records.push(record.to_vec()));
            }
            house.journal = records;
        }
    }
}

fn publish(house: &mut House, model: &mut Model, number: usize, random: &mut Random) {
    let facts = device(&format!("cam-{number}"));
    if let Some(client) = model.devices[number]
        && house.clients[client].gone
    {
        model.devices[number] = None;
        model.unacknowledged[number].clear();
    }
    let client = *model.devices[number].get_or_insert_with(|| house.join(&facts, Version::V5));
    // As many as the gateway's Receive Maximum allows.
    if model.unacknowledged[number].len() >= 7 {
        return;
    }
    model.next += 1;
    let id = u16::try_from(model.next % 60_000).unwrap() + 1;
    let mut payload = model.next.to_be_bytes().to_vec();
    payload.resize(4 + random.below(800), 0);
    if random.below(10) == 0 {
        // Refused, so it must not arrive: not even at those who may receive from its owner.
        house.publish(
            client,
            &format!("v1/cam-{}/up/t", (number + 1) % DEVICES),
            b"stolen",
            None,
        );
    }
    model.unacknowledged[number].insert(id, model.next);
    house.publish(client, &format!("v1/cam-{number}/up/t"), &payload, Some(id));
}

fn listen_device(house: &mut House, model: &mut Model, number: usize) {
    if let Some(client) = model.devices[number] {
        listen_device_client(house, model, number, client);
    }
}

fn listen_device_client(house: &mut House, model: &mut Model, number: usize, client: usize) {
    for heard in house.heard(client) {
        if let Heard::Puback { id, code, .. } = heard
            && let Some(message) = model.unacknowledged[number].remove(&id)
            && code == 0
        {
            model.acknowledged.insert(message);
        }
    }
}

fn come_back(house: &mut House, model: &mut Model, index: usize) {
    if let Some(client) = model.services[index]
        && !house.clients[client].gone
    {
        return;
    }
    let (client, heard) = house.join_persistent(&service(SERVICES[index]));
    house.clients[client].reads = false;
    model.services[index] = Some(client);
    model.to_acknowledge[index].clear();
    hear(model, index, heard);
}

fn listen_service(house: &mut House, model: &mut Model, index: usize, random: &mut Random) {
    let Some(client) = model.services[index] else {
        return;
    };
    let heard = house.heard(client);
    hear(model, index, heard);
    while !model.to_acknowledge[index].is_empty()
        && random.below(4) != 0
        && !house.clients[client].gone
    {
        // Mostly in order, as clients do.
        let at = if random.below(5) == 0 {
            random.below(model.to_acknowledge[index].len())
        } else {
            0
        };
        let id = model.to_acknowledge[index].remove(at);
        house.puback(client, id);
    }
}

fn hear(model: &mut Model, index: usize, heard: Vec<Heard>) {
    for heard in heard {
        let Heard::Publish {
            topic, payload, id, ..
        } = heard
        else {
            continue;
        };
        assert_ne!(payload, b"stolen");
        let message = u32::from_be_bytes(payload[..4].try_into().unwrap());
        if model.seen[index].insert(message) {
            let from = topic.split('/').nth(1).unwrap().to_owned();
            model.got[index].push((from, message));
        }
        model.to_acknowledge[index].extend(id);
    }
}

fn finish(house: &mut House, model: &mut Model) {
    house.transit_is_slow = false;
    for _ in 0..200 {
        house.carry_all();
        for index in 0..SERVICES.len() {
            come_back(house, model, index);
            let client = model.services[index].unwrap();
            house.clients[client].reads = true;
            let heard = house.heard(client);
            hear(model, index, heard);
            for id in std::mem::take(&mut model.to_acknowledge[index]) {
                house.puback(client, id);
            }
        }
        for number in 0..DEVICES {
            listen_device(house, model, number);
        }
    }
}
