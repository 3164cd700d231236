//! Our session machine beside mqtt-protocol-core's, over seeded lives of one client; and by name what
//! that has found.

use crate::generate::Random;
use crate::house::{Heard, House, device, service};
use crate::side_by_side::{DIFFERENCES, Met, Tape, run};

const LIVES: u64 = 800;

#[test]
fn no_session_goes_differently_but_by_the_written_list() {
    let seeds = std::env::var("FLEETWARD_SOAK_SEEDS").ok();
    let more = seeds.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let mut all = Met::new();
    for seed in 0..LIVES + more * 100 {
        let mut random = Random::new(seed);
        let tape: Vec<u8> = (0..900).map(|_| random.byte()).collect();
        match run(&mut Tape(&tape)) {
            Ok(met) => {
                for (what, times) in met {
                    *all.entry(what).or_default() += times;
                }
            }
            Err(difference) => panic!("seed {seed}: {difference}"),
        }
    }
    println!("{all:?}");
    // An entry that never applies is a permission nobody needs.
    for (name, why) in DIFFERENCES {
        assert!(all.contains_key(name), "unused: {name}, {why}");
    }
    for what in ["sent", "sent again", "silence"] {
        assert!(all.get(what).is_some_and(|times| *times > 50), "{all:?}");
    }
}

/// (session expiry, what DISCONNECT says of it)
fn end_with(house: &mut House, expiry_seconds: u32, says: u8) -> Vec<Heard> {
    let connect = mqtt::Connect {
        clean_start: false,
        session_expiry_seconds: Some(expiry_seconds),
        ..mqtt::Connect::new(mqtt::Version::V5, "ingest")
    };
    let client = house.connect(&service("ingest"), &connect);
    house.heard(client);
    house.send_bytes(client, &[0xe0, 7, 0, 5, 0x11, 0, 0, 0, says]);
    house.heard(client)
}

#[test]
fn found_an_expiry_that_connect_took_away_does_not_come_back_at_disconnect() {
    let mut house = House::new();
    assert_eq!(end_with(&mut house, 3600, 100), []);
    // The same session, resumed with 0.
    let heard = end_with(&mut house, 0, 100);
    assert!(
        matches!(heard[..], [Heard::Disconnect { code: 0x82, .. }]),
        "{heard:?}"
    );
}

#[test]
fn found_a_second_connect_of_another_level_is_answered_in_words_of_disconnect() {
    let mut house = House::new();
    let client = house.join(&service("ingest"), mqtt::Version::V5);
    house.send_bytes(client, b"\x10\x12\0\x04MQTT\x07\x02\0\x3c\0\0\x05other");
    let heard = house.heard(client);
    assert!(
        matches!(heard[..], [Heard::Disconnect { code: 0x82, .. }]),
        "{heard:?}"
    );
}

#[test]
fn found_a_session_that_a_crash_ended_is_not_in_the_way_of_a_later_one() {
    let mut house = House::new();
    house.join_persistent(&service("ingest"));
    let connect = mqtt::Connect {
        clean_start: false,
        session_expiry_seconds: Some(0),
        ..mqtt::Connect::new(mqtt::Version::V5, "ingest")
    };
    house.connect(&service("ingest"), &connect);
    house.crash();
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.subscribe(ingest, &["v1/+/up/#"]);
    house.lose(ingest);
    let camera = house.join(&device("cam-1"), mqtt::Version::V5);
    house.publish(camera, "v1/cam-1/up/t", b"kept", Some(1));
    house.crash();
    let (_, heard) = house.join_persistent(&service("ingest"));
    assert!(
        matches!(&heard[..], [_, Heard::Publish { payload, .. }] if payload == b"kept"),
        "{heard:?}"
    );
}
