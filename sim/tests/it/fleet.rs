use crate::broker::Broker;
use model::{DeviceId, SerialNumber, ServiceId};
use mqtt::{Qos, Version};
use sim::credential::Presented;
use sim::device::{Doors, Manner, Shown, TicketOutcome};
use sim::fleet::{Consumer, FleetSpec};
use sim::tls::{Options, Versions};
use sim::{Device, Factory, Flaw, Fleet, Refusal, Service};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

fn manner() -> Manner {
    Manner {
        patience: PATIENCE,
        ..Manner::default()
    }
}

fn spec(devices: usize) -> FleetSpec {
    FleetSpec {
        devices,
        seed: 42,
        prefix: "cam".to_owned(),
        product: "camera".to_owned(),
        groups: vec!["indoor".to_owned(), "beta".to_owned()],
        topic_template: "t/{device}/up".to_owned(),
        payload_bytes: 128,
        threads: 3,
    }
}

/// A fleet whose factory identities Mosquitto takes for operational ones.
fn adopted(broker: &Broker, factory: &Factory, devices: usize) -> (Fleet, Doors) {
    let mut fleet = Fleet::new(&spec(devices), factory, sim::now()).unwrap();
    for index in 0..devices {
        let device = fleet.device_mut(index).unwrap();
        let credential = device.idevid().clone();
        device.adopt(credential);
    }
    let doors = Doors {
        est: broker.endpoint(),
        mqtt: broker.endpoint(),
    };
    (fleet, doors)
}

fn service(broker: &Broker, manner: Manner) -> Service {
    let (certificate, key) = &broker.paths.consumer;
    Service::new(
        ServiceId::new("consumer").unwrap(),
        broker.endpoint(),
        Presented::read(certificate, key).unwrap(),
        vec![("t/+/up".to_owned(), Qos::AtLeastOnce)],
        manner,
    )
}

#[test]
fn a_fleet_publishes_and_the_books_balance() {
    let factory = Factory::new("Acme", sim::now()).unwrap();
    let Some(mut broker) = Broker::start(0, &[factory.certificate().to_vec()]) else {
        return;
    };
    let (mut fleet, doors) = adopted(&broker, &factory, 10);
    let consumer = Consumer::start(service(&broker, manner()), fleet.books()).unwrap();
    let connected = fleet.connect_all(&doors, &manner());
    assert_eq!(connected.succeeded, 10, "{connected:?}");
    let published = fleet.publish_round(7);
    assert_eq!((published.succeeded, published.failed()), (70, 0));
    let totals = consumer.settle(PATIENCE);
    assert_eq!((totals.sent, totals.acknowledged), (70, 70));
    assert_eq!((totals.delivered, totals.lost, totals.foreign), (70, 0, 0));
    assert_eq!(fleet.ping_all().succeeded, 10);

    let picked = fleet.pick(1).unwrap();
    let observer = fleet.observe(picked, Duration::from_millis(1)).unwrap();
    assert!(observer.wait_accepted(5, PATIENCE));
    let before = std::time::Instant::now();
    broker.kill();
    let observation = observer.finish(PATIENCE);
    assert!(observation.accepted >= 5);
    assert!(observation.to_closed(before).is_some(), "{observation:?}");
    assert!(matches!(
        observation.ended_by,
        Some(Refusal::Closed | Refusal::Cut)
    ));

    // The end of the others shows on their next step.
    let pinged = fleet.ping_all();
    assert_eq!((pinged.succeeded, pinged.failed()), (0, 9), "{pinged:?}");
    assert_eq!(fleet.connected(), 0);
    let refused = fleet.connect_all(&doors, &manner());
    assert_eq!(refused.failures["unreachable:ConnectionRefused"], 10);

    // A restarted Mosquitto has forgotten the consumer's session, and the consumer says so.
    broker.restart();
    assert_eq!(fleet.connect_all(&doors, &manner()).succeeded, 10);
    while consumer_reconnects(&broker, &mut fleet, &consumer) {}
    let (_, report) = consumer.stop();
    assert!(
        report.reconnects >= 1 && report.sessions_forgotten >= 1,
        "{report:?}"
    );
}

/// Publishes once and says whether the consumer has not come back yet.
fn consumer_reconnects(_: &Broker, fleet: &mut Fleet, consumer: &Consumer) -> bool {
    let before = fleet.totals().delivered;
    assert_eq!(fleet.publish_round(1).succeeded, 10);
    let _ = consumer.settle(Duration::from_millis(200));
    fleet.totals().delivered == before
}

#[test]
fn a_persistent_service_gets_what_was_published_while_it_was_away() {
    let factory = Factory::new("Acme", sim::now()).unwrap();
    let Some(broker) = Broker::start(0, &[factory.certificate().to_vec()]) else {
        return;
    };
    for version in [Version::V5, Version::V311] {
        let manner = Manner {
            version,
            ..manner()
        };
        let (mut fleet, doors) = adopted(&broker, &factory, 2);
        assert_eq!(fleet.connect_all(&doors, &manner).succeeded, 2);
        let mut away = service(&broker, manner);
        away.forget().unwrap();
        assert!(!away.connect().unwrap());
        away.drop_connection();
        fleet.publish_round(20);
        assert_eq!(fleet.totals().lost, 40);
        let consumer = Consumer::start(away, fleet.books()).unwrap();
        assert_eq!(consumer.settle(PATIENCE).lost, 0);
        let (mut back, report) = consumer.stop();
        assert_eq!(report.reconnects, 0, "{report:?}");
        assert!(back.connect().unwrap(), "the session was not kept");
    }
}

#[test]
fn bad_factory_identities_are_refused_by_alert_in_both_versions_of_tls() {
    let factory = Factory::new("Acme", sim::now()).unwrap();
    let Some(broker) = Broker::start(0, &[factory.certificate().to_vec()]) else {
        return;
    };
    let doors = Doors {
        est: broker.endpoint(),
        mqtt: broker.endpoint(),
    };
    let serial = SerialNumber::new("SN-1").unwrap();
    for versions in [Versions::Only12, Versions::Only13] {
        let manner = Manner {
            tls: Options {
                versions,
                ..Options::default()
            },
            ..manner()
        };
        let attempt = |flaw, shown| {
            let idevid = factory.idevid(&serial, flaw, sim::now()).unwrap();
            let id = DeviceId::new("cam-1").unwrap();
            Device::new(id, serial.clone(), idevid).try_connect(&doors, &manner, shown)
        };
        assert_eq!(attempt(Flaw::None, Shown::Idevid), Ok(()));
        for flaw in Flaw::BAD {
            let refusal = attempt(flaw, Shown::Idevid).unwrap_err();
            let expected: &[&str] = match flaw {
                Flaw::Stranger => &["alert:unknown_ca", "alert:decrypt_error"],
                Flaw::Expired => &["alert:certificate_expired"],
                // OpenSSL has no alert of its own for it.
                Flaw::NotYetValid => &["alert:bad_certificate"],
                Flaw::WrongKey => &["alert:decrypt_error"],
                Flaw::None => &[],
            };
            let kind = refusal.kind();
            assert!(
                expected.contains(&kind.as_str()),
                "{flaw:?} {versions:?}: {kind}"
            );
            assert!(refusal.is_spoken());
        }
        let nothing = attempt(Flaw::None, Shown::Nothing).unwrap_err();
        let expected = if versions == Versions::Only13 {
            "alert:certificate_required"
        } else {
            "alert:handshake_failure"
        };
        assert_eq!(nothing.kind(), expected);
        // No LDevID: nobody was asked, so it is no evidence that a bar holds.
        let ours = attempt(Flaw::None, Shown::Ldevid).unwrap_err();
        assert!(!ours.is_by_server(), "{ours}");
    }
}

/// Mosquitto resumes. If the attempt did not come in here, its failing elsewhere would prove
/// nothing.
#[test]
fn a_ticket_opens_a_server_that_resumes() {
    let factory = Factory::new("Acme", sim::now()).unwrap();
    let Some(broker) = Broker::start(0, &[factory.certificate().to_vec()]) else {
        return;
    };
    for versions in [Versions::Only12, Versions::Only13] {
        let manner = Manner {
            tls: Options {
                versions,
                ..Options::default()
            },
            ..manner()
        };
        let (mut fleet, doors) = adopted(&broker, &factory, 1);
        let device = fleet.device_mut(0).unwrap();
        assert_eq!(device.try_ticket(&manner), TicketOutcome::NeverGiven);
        device.connect(&doors, &manner).unwrap();
        assert_eq!(
            device.session().unwrap().transport().is_tls13(),
            versions == Versions::Only13
        );
        drop(device.take_session());
        let outcome = device.try_ticket(&manner);
        assert_eq!(outcome, TicketOutcome::Resumed, "{versions:?}");
        assert!(!outcome.is_refused());
    }
}

#[test]
fn a_refused_publish_leaves_the_session_open() {
    let factory = Factory::new("Acme", sim::now()).unwrap();
    let Some(broker) = Broker::start(0, &[factory.certificate().to_vec()]) else {
        return;
    };
    let (mut fleet, doors) = adopted(&broker, &factory, 1);
    let device = fleet.device_mut(0).unwrap();
    device.connect(&doors, &manner()).unwrap();
    let session = device.session().unwrap();
    let refusal = session.publish("t/another/up", b"x").unwrap_err();
    assert_eq!(refusal.kind(), "puback:0x87");
    assert!(!refusal.ends_session());
    session.publish("t/cam-0000/up", b"x").unwrap();
    // Broken bytes do end it, with a reason in MQTT 5.
    session.write(&[0xf0, 0x00]).unwrap();
    let end = session.ping().unwrap_err();
    assert!(end.ends_session() && end.is_by_server(), "{end}");
}

#[test]
fn a_wrong_name_or_a_foreign_root_is_refused_by_the_client() {
    let factory = Factory::new("Acme", sim::now()).unwrap();
    let Some(broker) = Broker::start(0, &[factory.certificate().to_vec()]) else {
        return;
    };
    let (fleet, _) = adopted(&broker, &factory, 1);
    let foreign = sim::tls::Endpoint::new(
        broker.address,
        "localhost",
        &[factory.certificate().to_vec()],
    )
    .unwrap();
    for endpoint in [broker.endpoint().named("other.example").unwrap(), foreign] {
        let doors = Doors {
            est: endpoint.clone(),
            mqtt: endpoint,
        };
        let refusal = fleet
            .device(0)
            .unwrap()
            .try_connect(&doors, &manner(), Shown::Ldevid)
            .unwrap_err();
        assert!(matches!(refusal, Refusal::Untrusted(_)), "{refusal}");
        assert!(!refusal.is_by_server());
    }
}

#[test]
fn the_same_seed_makes_the_same_fleet() {
    let factory = Factory::new("Acme", sim::now()).unwrap();
    let make = |seed| {
        let spec = FleetSpec { seed, ..spec(5) };
        let fleet = Fleet::new(&spec, &factory, sim::now()).unwrap();
        let picks: Vec<_> = (0..20).map(|purpose| fleet.pick(purpose)).collect();
        (fleet.expected_csv(&spec), picks)
    };
    assert_eq!(make(1), make(1));
    assert_ne!(make(1), make(2));
    let (csv, picks) = make(1);
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines[0], "serial,product,device,groups");
    assert!(lines[1].ends_with(",camera,cam-0000,indoor;beta"), "{csv}");
    assert!(picks.iter().all(|pick| pick.is_some_and(|index| index < 5)));
    let empty = Fleet::new(&spec(0), &factory, sim::now()).unwrap();
    assert_eq!(empty.pick(0), None);
}
