//! kill -9 in the midst of everything, again and again on the same folders: what was acknowledged
//! is there, what was revoked stays out, the log is whole.
//!
//! A seed decides the moments, by what has been acknowledged up to then and a little more, and how
//! the plane is set up. `FLEETWARD_SOAK_SEEDS=N` runs N more than the four that
//! are always run.

use crate::counting::assert_counted;
use crate::log::assert_sound;
use crate::plane::{Home, PATIENCE, Plane, RaiseOnDrop, Recorded, Settings};
use sim::device::{Doors, Manner, Shown};
use sim::fleet::{Consumer, FleetSpec};
use sim::random::Random;
use sim::{Device, Fleet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CRASHES: usize = 5;
const DEVICES: usize = 20;
/// Devices that come while the plane is busy, in each round.
const NEWCOMERS: usize = 40;

#[test]
fn crash_seed_0_power_1_shard() {
    run(0);
}

#[test]
fn crash_seed_1_process_1_shard() {
    run(1);
}

#[test]
fn crash_seed_2_power_2_shards() {
    run(2);
}

#[test]
fn crash_seed_3_process_2_shards() {
    run(3);
}

#[test]
fn crash_soak() {
    let seeds = std::env::var("FLEETWARD_SOAK_SEEDS").ok();
    let Some(seeds) = seeds.and_then(|n| n.parse::<u64>().ok()) else {
        println!("skipped: FLEETWARD_SOAK_SEEDS says how many seeds");
        return;
    };
    for seed in 4..4 + seeds {
        println!("seed {seed}");
        run(seed);
    }
}

/// What the plane has acknowledged beside messages. Only this may be asked of it after a crash.
#[derive(Default)]
struct Acknowledged {
    enrolled: Vec<Device>,
    revoked: Vec<Device>,
    recorded: Vec<Recorded>,
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let home = Home::new(&Settings {
        durability: if seed.is_multiple_of(2) {
            "power"
        } else {
            "process"
        },
        shards: if seed & 2 == 0 { 1 } else { 2 },
        ..Settings::default()
    });
    let spec = FleetSpec {
        devices: DEVICES,
        seed,
        prefix: "busy".to_owned(),
        product: "sensor".to_owned(),
        groups: Vec::new(),
        topic_template: "v1/sensor/{device}/telemetry/load".to_owned(),
        payload_bytes: 200,
        threads: 4,
    };
    let mut fleet = Fleet::new(&spec, &home.factory, sim::now()).unwrap();
    let manner = Manner::default();

    let mut plane = home.start_prepared();
    let vkey = plane.vkey();
    plane.expect_csv(&fleet.expected_csv(&spec)).expect(201);
    let consumer = Consumer::start(plane.ingest(), fleet.books()).unwrap();
    let enrolled = fleet.enroll_all(&plane.doors(), &manner);
    assert_eq!(enrolled.failed(), 0, "{enrolled:?}");
    let mut known = Acknowledged::default();

    for crash in 0..CRASHES {
        let doors = plane.doors();
        let connected = fleet.connect_all(&doors, &manner);
        assert_eq!(connected.failed(), 0, "{connected:?}");
        let newcomers: Vec<Device> = (0..NEWCOMERS)
            .map(|n| home.device(&format!("new-{crash}-{n}")))
            .collect();
        plane.expect(&newcomers);

        let (news, over) = (Mutex::new(Acknowledged::default()), AtomicBool::new(false));
        let books = fleet.books();
        let target = fleet.totals().acknowledged + 20 + random.below(800) as u64;
        let pause = Duration::from_micros(random.below(20_000) as u64);
        let part = random.part(crash as u64);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) && fleet.connected() > 0 {
                    let _ = fleet.publish_round(5);
                }
            });
            scope.spawn(|| come_and_go(&plane, &doors, newcomers, part, &news, &over));
            let _ending = RaiseOnDrop(&over);
            let totals = books.settle_when(PATIENCE, |totals| totals.acknowledged >= target);
            assert!(
                totals.acknowledged >= target,
                "the fleet does not publish: {totals:?}"
            );
            // Not a wait for anything: the seed moves the blow within what is going on.
            std::thread::sleep(pause);
            plane.kill_now();
        });
        let news = news.into_inner().unwrap();
        known.enrolled.extend(news.enrolled);
        known.revoked.extend(news.revoked);
        known.recorded.extend(news.recorded);

        plane.kill(); // Nothing of it is left from here on.
        // A device that waited for nothing just then believes itself connected still.
        for index in 0..fleet.len() {
            drop(fleet.device_mut(index).and_then(Device::take_session));
        }
        plane = home.start();
        let doors = plane.doors();
        consumer.moved_to(doors.mqtt.clone());
        plane.get("/readyz").expect(204);
        assert_counted(&plane);
        assert_recorded(&plane, &known);
        for device in known.revoked.iter().rev().take(5) {
            let back = device.try_return(&doors, &manner);
            assert!(
                back.reconnect_refused() && back.reenroll_refused(),
                "{back:#?}"
            );
        }
        for device in known.enrolled.iter().rev().take(5) {
            device.try_connect(&doors, &manner, Shown::Ldevid).unwrap();
        }
    }

    // Heard only by a consumer that came back after the last crash as well.
    let connected = fleet.connect_all(&plane.doors(), &manner);
    assert_eq!(connected.failed(), 0, "{connected:?}");
    let before = fleet.totals().acknowledged;
    let _ = fleet.publish_round(1);
    assert!(fleet.totals().acknowledged > before);
    let totals = consumer.settle(PATIENCE);
    assert_eq!(
        totals.lost,
        0,
        "{totals:?}: {:?}",
        fleet.books().missing(10)
    );
    assert_eq!(
        (totals.foreign, totals.order_violations),
        (0, 0),
        "{totals:?}"
    );
    let (_service, report) = consumer.stop();
    assert_eq!(report.sessions_forgotten, 0, "{report:?}");
    // A crash that comes before it is back costs it one; the last one it has outlived.
    assert!(report.reconnects >= 1, "{report:?}");
    assert_all(&plane, &known);
    let entries = plane.entries().len() as u64;
    plane.stop_well();
    assert_eq!(assert_sound(&home, &vkey), entries);
    println!(
        "seed {seed}: {totals:?}, {} enrolled, {} revoked",
        known.enrolled.len(),
        known.revoked.len()
    );
}

/// Devices enroll one after the other; some are revoked soon after. Ends with the plane.
fn come_and_go(
    plane: &Plane,
    doors: &Doors,
    newcomers: Vec<Device>,
    mut random: Random,
    news: &Mutex<Acknowledged>,
    over: &AtomicBool,
) {
    let manner = Manner::default();
    for mut device in newcomers {
        if over.load(Ordering::Relaxed) || device.enroll(doors, &manner).is_err() {
            return;
        }
        if random.below(3) > 0 {
            news.lock().unwrap().enrolled.push(device);
            continue;
        }
        // Unacknowledged it may be in force or not: such a device is asked nothing.
        let Some(recorded) = plane.try_revoke(device.id()) else {
            return;
        };
        let mut news = news.lock().unwrap();
        news.revoked.push(device);
        news.recorded.push(recorded);
    }
}

/// Every acknowledged entry stands at its index, every acknowledged enrollment is told once.
fn assert_recorded(plane: &Plane, known: &Acknowledged) {
    let entries = plane.entries();
    for recorded in &known.recorded {
        let entry = &entries[usize::try_from(recorded.entry).unwrap()];
        assert_eq!(entry["action"], recorded.action, "{entry}");
        assert_eq!(entry["object"], recorded.object.as_str(), "{entry}");
    }
    for device in &known.enrolled {
        let object = format!("device/{}", device.id());
        let told = entries
            .iter()
            .filter(|e| e["action"] == "identity.device-enrolled" && e["object"] == *object);
        assert_eq!(told.count(), 1, "{object}");
    }
}

/// At the end everybody is asked, not only the last ones.
fn assert_all(plane: &Plane, known: &Acknowledged) {
    let (doors, manner) = (plane.doors(), Manner::default());
    for device in &known.enrolled {
        device.try_connect(&doors, &manner, Shown::Ldevid).unwrap();
    }
    for device in &known.revoked {
        let back = device.try_return(&doors, &manner);
        assert!(
            back.reconnect_refused() && back.reenroll_refused(),
            "{back:#?}"
        );
        let told = plane
            .get(&format!("/api/v1/identity/devices/{}", device.id()))
            .expect(200);
        assert_eq!(told.json()["revoked"]["reason"], "key-compromise");
    }
}
