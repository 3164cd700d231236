//! Sessions that last: their time, their end, and what waits in them.

use crate::house::{Heard, House, device, message, service};
use gateway::{CloseReason, Limits};
use mqtt::encode::PublishFields;
use mqtt::{Connect, ForwardProperties, Qos, Version, Will};
use std::time::Duration;

#[test]
fn a_restart_gives_a_waiting_session_no_more_time() {
    for (was_here, snapshot) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut house = House::new();
        let (ingest, _) = house.join_persistent(&service("ingest"));
        if !was_here {
            house.lose(ingest);
            house.pass(Duration::from_secs(1000));
        }
        if snapshot {
            let mut records = Vec::new();
            house.gateways[0].snapshot(&mut |_, record| records.push(record.to_vec()));
            house.journal = records;
        }
        // Where its client was here the crash is when it left.
        let left = if was_here { 3600 } else { 2600 };
        house.crash();
        house.pass(Duration::from_secs(1600));
        house.crash();
        house.pass(Duration::from_secs(left - 1601));
        assert_eq!(house.gateways[0].sessions().count(), 1, "{was_here}");
        house.pass(Duration::from_secs(1));
        assert_eq!(house.gateways[0].sessions().count(), 0, "{was_here}");
    }
    // Who comes back begins anew.
    let mut house = House::new();
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.lose(ingest);
    house.pass(Duration::from_secs(3000));
    house.join_persistent(&service("ingest"));
    house.crash();
    house.pass(Duration::from_secs(3599));
    assert_eq!(house.gateways[0].sessions().count(), 1);
}

/// It asked for a session that lasts and was given none; saying the same at the end is no breach.
#[test]
fn a_device_that_asked_for_a_session_says_goodbye_as_it_asked() {
    let mut house = House::new();
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/up/#"]);
    let connect = Connect {
        session_expiry_seconds: Some(600),
        will: Some(Will {
            qos: Qos::AtLeastOnce,
            retain: false,
            topic: "v1/cam-1/up/gone",
            payload: b"gone",
            delay_seconds: 0,
            forward: ForwardProperties::NONE,
        }),
        ..Connect::new(Version::V5, "cam-1")
    };
    let camera = house.connect(&device("cam-1"), &connect);
    house.heard(camera);
    house.send_bytes(camera, &[0xe0, 7, 0, 5, 0x11, 0, 0, 2, 0x58]);
    assert_eq!(house.clients[camera].closed, Some(CloseReason::ByClient));
    assert_eq!(house.payloads(ingest), Vec::<Vec<u8>>::new());
    assert_eq!(house.gateways[0].sessions().count(), 1);
}

#[test]
fn what_has_expired_makes_room_in_a_full_queue() {
    let limits = Limits {
        queue_messages_max: 10,
        ..Limits::default()
    };
    let mut house = House::with(limits, 1);
    let (ingest, _) = house.join_persistent(&service("ingest"));
    house.subscribe(ingest, &["v1/+/up/#"]);
    house.lose(ingest);
    let camera = house.join(&device("cam-1"), Version::V5);
    let properties = [0x02, 0, 0, 0, 10];
    for id in 1..=11_u8 {
        let payload = [id];
        let fields = PublishFields {
            forward: match id {
                1 => ForwardProperties::NONE,
                _ => ForwardProperties::from_validated(&properties),
            },
            ..message("v1/cam-1/up/t", &payload, Some(id.into()))
        };
        house.publish_as(camera, &fields);
    }
    let heard = house.heard(camera);
    assert!(
        matches!(heard.last(), Some(Heard::Puback { code: 0x97, .. })),
        "{heard:?}"
    );
    house.pass(Duration::from_secs(11));
    house.publish(camera, "v1/cam-1/up/t", &[12], Some(12));
    assert_eq!(
        house.heard(camera),
        [Heard::Puback {
            id: 12,
            code: 0,
            text: None,
        }]
    );
    assert_eq!(house.gateways[0].counters().dropped_expired, 9);
    house.crash();
    let (_, heard) = house.join_persistent(&service("ingest"));
    let payloads: Vec<_> = (heard.into_iter())
        .filter_map(|heard| match heard {
            Heard::Publish { payload, .. } => Some(payload),
            _ => None,
        })
        .collect();
    assert_eq!(payloads, [[1], [12]]);
}
