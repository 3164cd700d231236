//! kill -9 while sessions hold much: a backlog that is half sent, retained messages, wills, and a
//! grant that was withdrawn a moment before. A seed decides the moments and how the plane is set up;
//! `FLEETWARD_SOAK_SEEDS=N` runs N more.

use crate::plane::{Home, PATIENCE, Settings, wait_until};
use mqtt::{Connect, ForwardProperties, Publish, Qos, Version, Will, encode};
use sim::credential::Presented;
use sim::device::{Doors, Manner};
use sim::random::Random;
use sim::session::{Delivery, Event, Session};
use sim::tls::{Client, Options};
use sim::{Device, Refusal};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const DEVICES: usize = 4;
const CRASHES: usize = 2;
/// Messages that the server may have in flight to who reads a backlog.
const IN_FLIGHT: u16 = 7;

#[test]
fn crash_sessions_seed_0_power_1_shard() {
    run(0);
}

#[test]
fn crash_sessions_seed_1_process_1_shard() {
    run(1);
}

#[test]
fn crash_sessions_seed_2_power_2_shards() {
    run(2);
}

#[test]
fn crash_sessions_soak() {
    let seeds = std::env::var("FLEETWARD_SOAK_SEEDS").ok();
    let Some(seeds) = seeds.and_then(|n| n.parse::<u64>().ok()) else {
        println!("skipped: FLEETWARD_SOAK_SEEDS says how many seeds");
        return;
    };
    for seed in 3..3 + seeds {
        println!("seed {seed}");
        run(seed);
    }
}

/// What the devices know: of each its acknowledged messages, and the retained number that was
/// acknowledged last and sent last.
#[derive(Default)]
struct Books {
    acknowledged: Vec<BTreeSet<u32>>,
    retained: Vec<(u32, u32)>,
}

/// What the reader of the backlog has got: of each device its numbers, as they came first.
#[derive(Default)]
struct Got(BTreeMap<String, Vec<u32>>);

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let home = Home::new(&Settings {
        durability: ["power", "process"][usize::from(seed % 2 == 1)],
        shards: if seed & 2 == 0 { 1 } else { 2 },
        ..Settings::default()
    });
    let mut plane = home.start_prepared();
    plane.apply(&fleet(true));
    let mut devices: Vec<Device> = (0..DEVICES)
        .map(|number| home.device(&format!("d{number}")))
        .collect();
    let (mut with_will, mut lost) = (home.device("with-will"), home.device("lost"));
    plane.expect(devices.iter().chain([&with_will, &lost]));
    let (doors, manner) = (plane.doors(), Manner::default());
    for device in devices.iter_mut().chain([&mut with_will, &mut lost]) {
        device.enroll(&doors, &manner).unwrap();
    }
    let services: BTreeMap<&str, Presented> = ["archive", "herald", "outsider", "viewer"]
        .map(|name| (name, plane.certify(name).presented()))
        .into();
    for (name, filter) in [("archive", TELEMETRY), ("outsider", TELEMETRY)] {
        let mut session = lasting(&doors, name, &services[name]).unwrap();
        session.subscribe_one(filter, Qos::AtLeastOnce).unwrap();
        session.disconnect();
    }

    let mut books = Books {
        acknowledged: vec![BTreeSet::new(); DEVICES],
        retained: vec![(0, 0); DEVICES],
    };
    let (mut got, mut next) = (Got::default(), vec![0_u32; DEVICES]);
    for crash in 0..CRASHES {
        let doors = plane.doors();
        // One will fires before the crash, and is a message like others; one would fire by it.
        drop(connect_with_will(&doors, &lost, "left").unwrap());
        let standing = connect_with_will(&doors, &with_will, "by the crash").unwrap();
        // That of a session which lasts outlives the crash, and the crash is its loss.
        let herald = open(&doors, "herald", services["herald"].clone(), |it| Connect {
            clean_start: false,
            session_expiry_seconds: Some(3600),
            will: Some(will("v1/sensor/herald/telemetry/will", "lost")),
            ..it
        });
        let herald = herald.unwrap();
        let target = 40 + random.below(400) as u64;
        let read_before = random.below(30);
        let is_withdrawn = crash + 1 == CRASHES;
        let told = Mutex::new(std::mem::take(&mut books));
        let acknowledged = AtomicU64::new(0);
        let mut reader = None;
        std::thread::scope(|scope| {
            for (number, (device, next)) in devices.iter().zip(&mut next).enumerate() {
                let session = open(&doors, device.id().as_str(), device_shows(device), |it| it);
                let (told, acknowledged) = (&told, &acknowledged);
                scope.spawn(move || {
                    speak(session.unwrap(), device, number, next, told, acknowledged);
                });
            }
            let reached = |count| {
                wait_until("the devices have published", || {
                    acknowledged.load(Ordering::Relaxed) >= count
                });
            };
            reached(target / 2);
            wait_until("the plane has noticed who is lost", || {
                !plane.connected().contains(&"device/lost".to_owned())
            });
            if is_withdrawn {
                plane.apply(&fleet(false));
            }
            // A backlog that is half sent, and half of that acknowledged.
            let mut session = lasting(&doors, "archive", &services["archive"]).unwrap();
            let mut heard = Vec::new();
            for _ in 0..read_before {
                let delivery = session.next_delivery(Instant::now() + PATIENCE).unwrap();
                heard.push(got.hear(delivery.expect("more is in the backlog")));
                if heard.len() > usize::from(IN_FLIGHT) / 2 {
                    session.acknowledge(&heard).unwrap();
                    heard.clear();
                }
            }
            reader = Some(session);
            reached(target);
            plane.kill_now();
        });
        books = told.into_inner().unwrap();
        plane.kill();
        drop((reader, standing, herald));

        plane = home.start();
        let doors = plane.doors();
        plane.get("/readyz").expect(204);
        if is_withdrawn {
            assert_hears_nothing(&doors, &services["outsider"]);
        }
        assert_retained(&doors, &services["viewer"], &books);
        read_all(&doors, &services["archive"], &mut got, &books);
    }
    assert!(
        !got.0.contains_key("with-will"),
        "a crash of the plane fired a will"
    );
    assert!(got.0.contains_key("lost"), "a will that had fired is gone");
    plane.stop_well();
    let messages: usize = books.acknowledged.iter().map(BTreeSet::len).sum();
    println!("seed {seed}: {messages} acknowledged over {CRASHES} crashes");
}

/// Publishes until the plane is gone: telemetry, and each third time a retained number.
fn speak(
    mut session: Session,
    device: &Device,
    number: usize,
    next: &mut u32,
    told: &Mutex<Books>,
    acknowledged: &AtomicU64,
) {
    loop {
        *next += 1;
        let text = next.to_string();
        let topic = format!("v1/sensor/{}/telemetry/n", device.id());
        if session.publish(&topic, text.as_bytes()).is_err() {
            return;
        }
        told.lock().unwrap().acknowledged[number].insert(*next);
        acknowledged.fetch_add(1, Ordering::Relaxed);
        if next.is_multiple_of(3) {
            told.lock().unwrap().retained[number].1 = *next;
            let topic = format!("v1/sensor/{}/state/n", device.id());
            if retain(&mut session, &topic, text.as_bytes()).is_err() {
                return;
            }
            told.lock().unwrap().retained[number].0 = *next;
        }
    }
}

fn retain(session: &mut Session, topic: &str, payload: &[u8]) -> Result<(), Refusal> {
    const PACKET_ID: u16 = 65_535;
    let mut out = Vec::new();
    let publish = Publish {
        dup: false,
        qos: Qos::AtLeastOnce,
        retain: true,
        topic,
        packet_id: Some(PACKET_ID),
        topic_alias: None,
        forward: ForwardProperties::NONE,
        payload,
    };
    encode::publish(&mut out, Version::V5, &publish);
    session.write(&out)?;
    session.wait_puback(PACKET_ID)
}

/// Whose grant was withdrawn before the crash, after the plane had acknowledged that: nothing of
/// what waits for it goes out, though its session is there.
fn assert_hears_nothing(doors: &Doors, presented: &Presented) {
    let mut session = lasting(doors, "outsider", presented).unwrap();
    assert!(session.session_present());
    // What waits goes out right behind CONNACK, so before this answer.
    session.ping().unwrap();
    let refused = session.subscribe_one(TELEMETRY, Qos::AtLeastOnce);
    assert!(
        matches!(refused, Err(Refusal::Suback { .. })),
        "{refused:?}"
    );
    while let Some(event) = session.next(Instant::now()).unwrap() {
        assert!(!matches!(event, Event::Delivery(_)), "{event:?}");
    }
    session.disconnect();
}

/// What was acknowledged last is there, or what was sent after it.
fn assert_retained(doors: &Doors, presented: &Presented, books: &Books) {
    let mut session = open(doors, "viewer", presented.clone(), |it| it).unwrap();
    session
        .subscribe_one("v1/sensor/+/state/n", Qos::AtLeastOnce)
        .unwrap();
    let mut left: BTreeMap<String, (u32, u32)> = (books.retained.iter().enumerate())
        .filter(|(_, (acknowledged, _))| *acknowledged > 0)
        .map(|(number, range)| (format!("d{number}"), *range))
        .collect();
    while !left.is_empty() {
        let delivery = session.next_delivery(Instant::now() + PATIENCE).unwrap();
        let delivery = delivery.unwrap_or_else(|| panic!("no retained message of {left:?}"));
        assert!(delivery.retain, "{delivery:?}");
        let (device, number) = read(&delivery);
        let number: u32 = number.parse().unwrap();
        if let Some((least, most)) = left.remove(&device) {
            assert!(
                (least..=most).contains(&number),
                "{device}: {number} is not between {least} and {most}"
            );
        }
    }
    session.disconnect();
}

/// Reads until all that was acknowledged has come.
fn read_all(doors: &Doors, presented: &Presented, got: &mut Got, books: &Books) {
    let mut session = lasting(doors, "archive", presented).unwrap();
    assert!(session.session_present(), "its session is forgotten");
    while !got.has_all(books) {
        let delivery = session.next_delivery(Instant::now() + PATIENCE).unwrap();
        let Some(delivery) = delivery else {
            panic!("{:?} are missing", got.missing(books));
        };
        let delivery = got.hear(delivery);
        session.acknowledge(&[delivery]).unwrap();
    }
    session.disconnect();
}

impl Got {
    fn hear(&mut self, delivery: Delivery) -> Delivery {
        let (device, text) = read(&delivery);
        let known = self.0.entry(device).or_default();
        // A will has no number.
        let number: u32 = text.parse().unwrap_or(0);
        if !known.contains(&number) {
            assert!(
                known.last().is_none_or(|last| *last < number),
                "{number} comes for the first time after {known:?}"
            );
            known.push(number);
        }
        delivery
    }

    fn missing(&self, books: &Books) -> Vec<(usize, u32)> {
        let acknowledged = books.acknowledged.iter().enumerate();
        let all = acknowledged.flat_map(|(number, numbers)| {
            let known: BTreeSet<u32> = (self.0.get(&format!("d{number}")).into_iter())
                .flatten()
                .copied()
                .collect();
            numbers
                .iter()
                .filter(move |one| !known.contains(one))
                .map(move |one| (number, *one))
        });
        all.collect()
    }

    fn has_all(&self, books: &Books) -> bool {
        self.0.contains_key("herald") && self.missing(books).is_empty()
    }
}

/// Device and text.
fn read(delivery: &Delivery) -> (String, String) {
    let device = delivery.topic.split('/').nth(2).unwrap().to_owned();
    let text = String::from_utf8(delivery.payload.clone()).unwrap();
    (device, text)
}

fn connect_with_will(doors: &Doors, device: &Device, text: &str) -> Result<Session, Refusal> {
    let topic = format!("v1/sensor/{}/telemetry/will", device.id());
    open(doors, device.id().as_str(), device_shows(device), |it| {
        Connect {
            will: Some(will(&topic, text)),
            ..it
        }
    })
}

fn will<'c>(topic: &'c str, text: &'c str) -> Will<'c> {
    Will {
        qos: Qos::AtLeastOnce,
        retain: false,
        topic,
        payload: text.as_bytes(),
        delay_seconds: 0,
        forward: ForwardProperties::NONE,
    }
}

fn device_shows(device: &Device) -> Presented {
    device.ldevid().unwrap().presented()
}

/// A session of a service that lasts.
fn lasting(doors: &Doors, name: &str, presented: &Presented) -> Result<Session, Refusal> {
    open(doors, name, presented.clone(), |it| Connect {
        clean_start: false,
        session_expiry_seconds: Some(3600),
        receive_maximum: Some(IN_FLIGHT),
        ..it
    })
}

fn open<'c>(
    doors: &Doors,
    name: &'c str,
    presented: Presented,
    more: impl FnOnce(Connect<'c>) -> Connect<'c>,
) -> Result<Session, Refusal> {
    let client = Client::new(&doors.mqtt, Some(&presented), &Options::default())?;
    let connect = more(Connect::new(Version::V5, name));
    Session::open(&client, &connect, PATIENCE)
}

const TELEMETRY: &str = "v1/sensor/+/telemetry/#";

/// With or without the outsider's grant.
fn fleet(outsider: bool) -> Vec<(&'static str, String)> {
    let channels = "\
        [telemetry]\ntopic = \"v1/sensor/{device}/telemetry/{rest...}\"\n\
        direction = \"from-device\"\npayload_bytes_max = 4096\nrate_per_minute = 1000000\n\
        [state]\ntopic = \"v1/sensor/{device}/state/{any}\"\ndirection = \"from-device\"\n\
        payload_bytes_max = 4096\nrate_per_minute = 1000000\nretained_max = 1000\n";
    let mut policies = "\
        @id(\"device-sends-own\")\n\
        permit (principal is Device, action == Action::\"publish\", resource)\n\
        when { resource.owner == principal };\n\
        @id(\"archive-receives\")\n\
        permit (principal == Service::\"archive\", action == Action::\"receive\", resource);\n\
        @id(\"viewer-receives\")\n\
        permit (principal == Service::\"viewer\", action == Action::\"receive\", resource);\n\
        @id(\"herald-speaks\")\n\
        permit (principal == Service::\"herald\", action == Action::\"publish\", resource);\n"
        .to_owned();
    if outsider {
        policies.push_str(
            "@id(\"outsider-receives\")\n\
             permit (principal == Service::\"outsider\", action == Action::\"receive\", resource);\n",
        );
    }
    vec![
        ("fleet.toml", "name = \"test\"\n".to_owned()),
        (
            "products/p.toml",
            "[sensor]\ndescription = \"measures\"\n".to_owned(),
        ),
        (
            "services/s.toml",
            "[archive]\n[herald]\n[outsider]\n[viewer]\n".to_owned(),
        ),
        ("channels/c.toml", channels.to_owned()),
        ("policies/p.cedar", policies),
    ]
}
