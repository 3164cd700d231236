//! When a connection is read. Who only acknowledges is read seldom, and is heard all the same when it says
//! something else; what is told once is read to its end.

use crate::plane::{Home, PATIENCE, Plane, Settings, wait_until};
use mqtt::Qos;
use sim::Service;
use sim::device::{Device, Manner};
use std::time::{Duration, Instant};

/// As often as acknowledgements of this pace must come, and more, to be read by twos.
const MESSAGES: usize = 12;
const APART: Duration = Duration::from_millis(10);

/// One message after the other, each acknowledged by the service; the pace is the load.
fn feed(device: &mut Device, service: &mut Service) {
    let topic = format!("v1/sensor/{}/telemetry/x", device.id());
    for _ in 0..MESSAGES {
        std::thread::sleep(APART);
        device.session().unwrap().publish(&topic, b"12345").unwrap();
        let session = service.session().unwrap();
        let delivery = session.next_delivery(Instant::now() + PATIENCE).unwrap();
        session
            .acknowledge(&[delivery.expect("a message")])
            .unwrap();
    }
}

fn queued(plane: &Plane) -> u64 {
    let sessions = plane.get("/api/v1/gateway/sessions").expect(200).json();
    let mut sessions = sessions.as_array().unwrap().iter();
    let ingest = sessions.find(|session| session["principal"] == "service/ingest");
    ingest.expect("a session of ingest")["queued_messages"]
        .as_u64()
        .unwrap()
}

#[test]
fn who_only_acknowledged_is_heard_when_it_says_something_else() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut device = home.device("cam-1");
    plane.expect(std::slice::from_ref(&device));
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    device.connect(&plane.doors(), &Manner::default()).unwrap();
    let mut ingest = plane.ingest();
    ingest.connect().unwrap();

    feed(&mut device, &mut ingest);
    wait_until("the last acknowledgement, alone", || queued(&plane) == 0);
    feed(&mut device, &mut ingest);
    ingest.session().unwrap().ping().unwrap();
    feed(&mut device, &mut ingest);
    let filter = "v1/sensor/a-device-that-is-none-of-those-here/telemetry/#";
    let session = ingest.session().unwrap();
    session.subscribe_one(filter, Qos::AtLeastOnce).unwrap();
    feed(&mut device, &mut ingest);
    ingest.disconnect();
    wait_until("its end", || plane.connected() == ["device/cam-1"]);
}

/// Its last words and its end are one event, and no second one follows.
#[test]
fn who_speaks_and_leaves_at_once_is_heard_and_seen_to_leave() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut device = home.device("cam-1");
    plane.expect(std::slice::from_ref(&device));
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    let mut ingest = plane.ingest();
    ingest.connect().unwrap();

    for _ in 0..3 {
        device.connect(&plane.doors(), &Manner::default()).unwrap();
        let mut session = device.take_session().unwrap();
        // It has read all that it was sent: else its end would be a reset.
        session.ping().unwrap();
        plane.pause();
        for _ in 0..MESSAGES {
            // Not to be answered, which would find the end too.
            session
                .publish_unacknowledged("v1/sensor/cam-1/telemetry/x", b"12345")
                .unwrap();
        }
        drop(session);
        plane.resume();
        let heard = ingest.session().unwrap();
        for _ in 0..MESSAGES {
            let delivery = heard.next_delivery(Instant::now() + PATIENCE).unwrap();
            delivery.expect("a message");
        }
        wait_until("its end", || plane.connected() == ["service/ingest"]);
    }
}

/// Far more than one read takes, and than a socket holds.
#[test]
fn who_speaks_at_length_is_heard_to_the_end() {
    const LONG_BYTES: usize = 60_000;
    const LONG: usize = 40;
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut device = home.device("cam-1");
    plane.expect(std::slice::from_ref(&device));
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    device.connect(&plane.doors(), &Manner::default()).unwrap();
    let session = device.session().unwrap();
    let (topic, long) = ("v1/sensor/cam-1/telemetry/x", vec![b'1'; LONG_BYTES]);
    for _ in 0..3 {
        for _ in 0..LONG {
            session.publish_unacknowledged(topic, &long).unwrap();
        }
        // Behind all of that.
        session.publish(topic, b"12345").unwrap();
    }
}
