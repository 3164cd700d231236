//! Who only acknowledges is read seldom; and is heard all the same when it says something else.

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
