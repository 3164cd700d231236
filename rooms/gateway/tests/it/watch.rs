//! What an operator sees of sessions.

use crate::house::{House, device, service};
use gateway::Signal;
use model::Principal;
use mqtt::{Connect, Version};
use std::time::Duration;

#[test]
fn pages_of_sessions_show_each_once_in_order() {
    let mut house = House::new();
    for name in ["cam-3", "cam-1", "cam-2"] {
        for id in ["", ":b", ":a"] {
            let client_id = format!("{name}{id}");
            house.connect(&device(name), &Connect::new(Version::V5, &client_id));
        }
    }
    house.join(&service("ingest"), Version::V5);
    for size in 1..=11 {
        let mut shown: Vec<(Principal, String)> = Vec::new();
        loop {
            let page = house.gateways[0].sessions_after(shown.last(), size);
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= size);
            let page = page
                .iter()
                .map(|it| (it.principal.clone(), it.client_id.to_owned()));
            shown.extend(page.collect::<Vec<_>>());
        }
        assert_eq!(shown.len(), 10, "pages of {size}");
        assert!(shown.is_sorted(), "{shown:?}");
    }
}

#[test]
fn rates_of_both_directions_are_those_of_the_last_seconds() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/up/#"]);
    let camera = house.join(&device("cam-1"), Version::V5);
    for number in 0..100 {
        // QoS 0 and 1 alike.
        let id = (number % 2 == 0).then_some(number + 1);
        house.publish(camera, "v1/cam-1/up/x", &[0; 50], id);
        house.heard(ingest);
        if let Some(id) = id {
            house.puback(ingest, id);
        }
        house.now = house.now.plus(Duration::from_millis(100));
    }
    let rates = |house: &House| {
        let sessions = house.gateways[0].sessions_after(None, 10);
        let [camera, ingest] = &sessions[..] else {
            panic!("{sessions:?}");
        };
        (camera.incoming(house.now), ingest.outgoing(house.now))
    };
    let (sent, heard) = rates(&house);
    for rate in [sent, heard] {
        assert!((8.0..=12.0).contains(&rate.messages), "{rate:?}");
        assert!((400.0..=600.0).contains(&rate.bytes), "{rate:?}");
    }
    house.now = house.now.plus(Duration::from_secs(11));
    assert_eq!(rates(&house).0.messages, 0.0);
}

#[test]
fn only_who_is_looked_at_is_told_message_by_message() {
    let mut house = House::new();
    let cameras = ["cam-1", "cam-2"].map(|name| house.join(&device(name), Version::V5));
    let publish = |house: &mut House| {
        house.publish(cameras[0], "v1/cam-1/up/x", b"secret", Some(1));
        house.publish(cameras[1], "v1/cam-2/up/x", b"secret", Some(1));
    };
    publish(&mut house);
    assert_eq!(house.signalled("published"), 0);
    let looked_at = device("cam-1").principal;
    assert!(house.with_gateway(0, |gateway, _, _| gateway.watch(&looked_at)));
    publish(&mut house);
    let told: Vec<&Signal> = (house.signals.iter())
        .filter(|signal| signal.name() == "published")
        .collect();
    let [
        Signal::Published {
            principal,
            topic,
            bytes: 6,
            ..
        },
    ] = told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!((principal, topic.as_str()), (&looked_at, "v1/cam-1/up/x"));
    house.with_gateway(0, |gateway, _, _| gateway.unwatch(&looked_at));
    publish(&mut house);
    assert_eq!(house.signalled("published"), 1);
    // There is a limit to looking.
    let many = (0..20).map(|n| device(&format!("cam-{n}")).principal);
    let taken = many.filter(|one| house.with_gateway(0, |gateway, _, _| gateway.watch(one)));
    assert_eq!(taken.count(), 16);
}
