//! Two and more shards with slow ways between them.

use crate::house::{Heard, House, device, service};
use gateway::{Limits, ToShard};
use mqtt::Version;

/// Three shards: a device and a service that live on different ones.
fn apart() -> (House, access::Facts, access::Facts) {
    let house = House::with(Limits::default(), 3);
    let ingest = service("ingest");
    let home = gateway::home_shard(&ingest.principal, 3);
    let camera = (0..100)
        .map(|n| device(&format!("cam-{n}")))
        .find(|facts| gateway::home_shard(&facts.principal, 3) != home)
        .unwrap();
    (house, camera, ingest)
}

fn topic(camera: &access::Facts) -> String {
    format!("v1/{}/up/t", camera.principal.name())
}

#[test]
fn suback_waits_for_all_shards() {
    let (mut house, _, ingest) = apart();
    let client = house.join(&ingest, Version::V5);
    house.transit_is_slow = true;
    assert!(house.subscribe(client, &["v1/+/up/#"]).is_empty());
    house.carry_all();
    assert!(matches!(house.heard(client)[..], [Heard::Suback { .. }]));
    // Another with the same filter need not wait: all know.
    let second = house.connect(&ingest, &mqtt::Connect::new(Version::V5, "ingest:b"));
    house.heard(second);
    assert_eq!(house.subscribe(second, &["v1/+/up/#"]), [1]);
}

#[test]
fn puback_waits_for_the_journal_of_the_other_shard() {
    let (mut house, camera, ingest) = apart();
    let (client, _) = house.join_persistent(&ingest);
    house.subscribe(client, &["v1/+/up/#"]);
    let publisher = house.join(&camera, Version::V5);
    house.transit_is_slow = true;
    let before = house.journal.len();
    house.publish(publisher, &topic(&camera), b"a", Some(1));
    // A refusal behind it keeps its place.
    house.publish(publisher, "elsewhere", b"b", Some(2));
    assert_eq!(house.heard(publisher), []);
    house.carry_all();
    let heard = house.heard(publisher);
    assert!(
        matches!(
            heard[..],
            [
                Heard::Puback { id: 1, code: 0, .. },
                Heard::Puback {
                    id: 2,
                    code: 0x87,
                    ..
                }
            ]
        ),
        "{heard:?}"
    );
    assert_eq!(house.journal.len(), before + 1);
    assert_eq!(house.payloads(client), [b"a"]);
}

#[test]
fn live_receivers_elsewhere_delay_no_acknowledgement() {
    let (mut house, camera, ingest) = apart();
    let client = house.join(&ingest, Version::V5);
    house.subscribe(client, &["v1/+/up/#"]);
    let publisher = house.join(&camera, Version::V5);
    house.transit_is_slow = true;
    house.publish(publisher, &topic(&camera), b"a", Some(1));
    assert!(matches!(
        house.heard(publisher)[..],
        [Heard::Puback { id: 1, code: 0, .. }]
    ));
    house.carry_all();
    assert_eq!(house.payloads(client), [b"a"]);
}

#[test]
fn a_done_for_an_earlier_connection_acknowledges_nothing() {
    let (mut house, camera, ingest) = apart();
    let (client, _) = house.join_persistent(&ingest);
    house.subscribe(client, &["v1/+/up/#"]);
    let publisher = house.join(&camera, Version::V5);
    house.transit_is_slow = true;
    house.publish(publisher, &topic(&camera), b"a", Some(1));
    house.lose(publisher);
    house.carry_all();
    let again = house.join(&camera, Version::V5);
    house.carry_all();
    assert_eq!(house.heard(again), []);
    assert_eq!(house.payloads(client), [b"a"]);
}

#[test]
fn interest_ends_with_the_last_subscriber() {
    let (mut house, camera, ingest) = apart();
    let client = house.join(&ingest, Version::V5);
    house.subscribe(client, &["v1/+/up/#"]);
    let publisher = house.join(&camera, Version::V5);
    house.lose(client);
    house.transit_is_slow = true;
    house.publish(publisher, &topic(&camera), b"a", Some(1));
    assert!(
        house.transit.values().all(|queue| queue.is_empty()),
        "nobody wants it"
    );
}

#[test]
fn a_congested_way_pauses_publishers_until_it_is_free() {
    let (mut house, camera, ingest) = apart();
    let client = house.join(&ingest, Version::V5);
    house.subscribe(client, &["v1/+/up/#"]);
    let publisher = house.join(&camera, Version::V5);
    let (here, there) = (
        house.clients[publisher].shard,
        house.clients[client].shard as u16,
    );
    house.with_gateway(here, |gateway, now, turn| {
        gateway.shard_congested(there, true, now, turn)
    });
    house.publish(publisher, &topic(&camera), b"a", Some(1));
    assert!(house.clients[publisher].paused);
    assert_eq!(house.heard(publisher), []);
    house.with_gateway(here, |gateway, now, turn| {
        gateway.shard_congested(there, false, now, turn)
    });
    assert!(!house.clients[publisher].paused);
    assert_eq!(house.payloads(client), [b"a"]);
}

#[test]
fn a_consumer_elsewhere_that_does_not_read_holds_its_publishers() {
    let (mut house, camera, ingest) = apart();
    let client = house.join(&ingest, Version::V5);
    house.subscribe(client, &["v1/+/up/#"]);
    house.clients[client].reads = false;
    let publisher = house.join(&camera, Version::V5);
    for id in 1..=500 {
        house.publish(publisher, &topic(&camera), &[0; 10_000], Some(id));
    }
    assert!(house.clients[publisher].paused);
    let shard = house.clients[client].shard;
    let waiting = house.gateways[shard]
        .output(gateway::ConnectionId(client as u32))
        .unwrap()
        .len();
    assert!(
        waiting < house.limits.outgoing_bytes_high + 30_000,
        "{waiting}"
    );
    house.clients[client].reads = true;
    let mut got = 0;
    loop {
        let heard = house.heard(client);
        if heard.is_empty() {
            break;
        }
        for heard in heard {
            if let Heard::Publish { id: Some(id), .. } = heard {
                got += 1;
                house.puback(client, id);
            }
        }
    }
    assert_eq!(got, 500);
    assert!(!house.clients[publisher].paused);
}

#[test]
fn after_a_restart_waiting_sessions_are_known_everywhere_before_the_first_publish() {
    let (mut house, camera, ingest) = apart();
    let (client, _) = house.join_persistent(&ingest);
    house.subscribe(client, &["v1/+/up/#"]);
    house.crash();
    let publisher = house.join(&camera, Version::V5);
    house.publish(publisher, &topic(&camera), b"a", Some(1));
    assert!(matches!(
        house.heard(publisher)[..],
        [Heard::Puback { id: 1, code: 0, .. }]
    ));
    let (_, heard) = house.join_persistent(&ingest);
    assert!(
        matches!(
            heard[..],
            [Heard::Connack { present: true, .. }, Heard::Publish { .. }]
        ),
        "{heard:?}"
    );
}

#[test]
fn a_message_between_shards_can_be_sent_to_another_thread() {
    const fn is_send<T: Send + 'static>() {}
    is_send::<ToShard>();
    is_send::<gateway::Gateway>();
}
