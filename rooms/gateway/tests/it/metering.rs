//! What is told of what each principal sends, and when.

use crate::house::{House, device, service};
use gateway::Metered;
use model::Principal;
use mqtt::Version;
use std::collections::BTreeMap;
use std::time::Duration;

/// What one look of the caller brings, a second after the one before.
fn metered(house: &mut House) -> Vec<(Principal, Metered)> {
    let mut all = Vec::new();
    house.with_gateway(0, |gateway, now, _| {
        gateway.take_metered(now, |principal, one| all.push((principal.clone(), one)));
    });
    all
}

fn a_second_later(house: &mut House) -> Vec<(Principal, Metered)> {
    house.now = house.now.plus(Duration::from_secs(1));
    metered(house)
}

#[test]
fn what_is_sent_is_metered_also_of_who_left_at_once() {
    let mut house = House::new();
    assert!(metered(&mut house).is_empty());
    let control = house.join(&service("control"), Version::V5);
    let camera = house.join(&device("cam-1"), Version::V5);
    house.now = house.now.plus(Duration::from_secs(1));
    house.publish(camera, "v1/cam-1/up/x", b"12345", None);
    house.publish(camera, "v1/cam-1/up/x", b"67", Some(1));
    house.publish(camera, "v1/cam-2/up/x", b"no", Some(2));
    house.subscribe(camera, &["#"]);
    house.publish(control, "v1/cam-1/down/x", b"1", None);
    house.publish(control, "v1/cam-2/down/x", b"1", None);
    house.lose(camera);
    let all = metered(&mut house);
    assert_eq!(all.len(), 2);
    let of = |name: &str| {
        let found = all.iter().find(|(principal, _)| principal.name() == name);
        found.unwrap().1
    };
    let camera = of("cam-1");
    assert_eq!((camera.messages, camera.bytes, camera.denied), (2, 7, 2));
    assert_eq!(camera.interval, Duration::from_secs(1));
    assert_eq!(camera.devices, None);
    let control = of("control");
    assert_eq!((control.messages, control.bytes, control.denied), (2, 2, 0));
    assert_eq!(control.devices.map(|(count, _)| count), Some(2));
    assert!(metered(&mut house).is_empty());
}

#[test]
fn who_sends_little_is_told_of_once_a_minute_and_nothing_is_lost() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    metered(&mut house);
    let (mut told, mut messages, mut time) = (0, 0, Duration::ZERO);
    for _ in 0..600 {
        house.publish(camera, "v1/cam-1/up/x", b"1", None);
        for (_, one) in a_second_later(&mut house) {
            told += 1;
            messages += one.messages;
            time += one.interval;
        }
    }
    assert!((10..=20).contains(&told), "{told}");
    // What was told of last is less than a minute old, and no second is counted twice.
    assert!(messages > 540, "{messages}");
    assert_eq!(time.as_secs(), messages);
    house.lose(camera);
    let rest: u64 = a_second_later(&mut house)
        .iter()
        .map(|(_, one)| one.messages)
        .sum();
    assert_eq!(messages + rest, 600);
}

#[test]
fn a_flood_is_told_of_within_a_second() {
    let mut house = House::new();
    let camera = house.join(&device("cam-1"), Version::V5);
    metered(&mut house);
    house.publish(camera, "v1/cam-1/up/x", b"1", None);
    assert!(a_second_later(&mut house).is_empty());
    for flood in [60, 500] {
        for _ in 0..flood {
            // Refused ones count.
            house.publish(camera, "v1/cam-2/up/x", b"no", None);
        }
        let told = a_second_later(&mut house);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].1.denied, flood);
    }
}

#[test]
fn devices_that_speak_together_are_told_of_apart() {
    let mut house = House::new();
    let devices: Vec<usize> = (0..90)
        .map(|number| house.join(&device(&format!("cam-{number}")), Version::V5))
        .collect();
    metered(&mut house);
    for (number, camera) in devices.into_iter().enumerate() {
        let topic = format!("v1/cam-{number}/up/x");
        house.publish(camera, &topic, b"1", None);
    }
    let mut seconds = BTreeMap::new();
    for second in 1..=60 {
        let told = a_second_later(&mut house).len();
        if told > 0 {
            seconds.insert(second, told);
        }
    }
    assert_eq!(seconds.values().sum::<usize>(), 90);
    assert!(seconds.values().all(|told| *told <= 4), "{seconds:?}");
}
