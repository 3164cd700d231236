//! What wears a server out, by the name of the abuse: it stays bounded, and the neighbours are served.

use crate::house::{Heard, House, device, message, service};
use gateway::{CloseReason, Closed, ConnectionId, Limits};
use mqtt::encode::PublishFields;
use mqtt::{Connect, ForwardProperties, Qos, Version};
use std::time::Duration;

const NOTHING: Vec<Vec<u8>> = Vec::new();

/// A neighbour's message goes through, now.
fn is_served(house: &mut House, neighbour: usize, ingest: usize) {
    house.publish(neighbour, "v1/cam-9/up/x", b"well", Some(9));
    let heard = house.heard(neighbour);
    assert!(
        matches!(heard[..], [Heard::Puback { id: 9, code: 0, .. }]),
        "{heard:?}"
    );
    let taken = house.heard(ingest);
    let [Heard::Publish { payload, id, .. }] = &taken[..] else {
        panic!("{taken:?}");
    };
    assert_eq!(payload, b"well");
    let id = id.unwrap();
    house.puback(ingest, id);
}

fn neighbours(house: &mut House) -> (usize, usize) {
    let ingest = house.join(&service("ingest"), Version::V5);
    assert_eq!(house.subscribe(ingest, &["v1/+/up/#"]), [1]);
    (house.join(&device("cam-9"), Version::V5), ingest)
}

#[test]
fn deep_wildcards() {
    let mut house = House::new();
    let (neighbour, ingest) = neighbours(&mut house);
    let thief = house.join(&device("cam-1"), Version::V5);
    let deep = vec!["+"; 16].join("/");
    let deeper = vec!["+"; 17].join("/");
    let deepest = format!("v1/cam-1/down/{}#", "+/".repeat(120));
    for filter in ["#", "+/#", &deep, &deeper, &deepest, "v1/+/+/+/+/+/+/#"] {
        let codes = house.subscribe(thief, &[filter]);
        assert!(codes[0] >= 0x80, "{filter}: {codes:?}");
    }
    // What is granted at the end of a long way is found at once, and nothing else is.
    for depth in [1, 8, 13] {
        let topic = format!("v1/cam-9/up{}", "/x".repeat(depth));
        house.publish(neighbour, &topic, b"deep", Some(1));
        assert_eq!(house.payloads(ingest), [b"deep"], "{depth}");
        house.puback(ingest, u16::try_from(depth).unwrap());
    }
    assert_eq!(house.payloads(thief), NOTHING);
    let held: usize = house.gateways[0]
        .sessions()
        .map(|it| it.subscriptions)
        .sum();
    assert_eq!(held, 1);
}

#[test]
fn confused_responder() {
    let mut house = House::new();
    let victim = house.join(&device("cam-2"), Version::V5);
    house.subscribe(victim, &["v1/cam-2/down/+"]);
    let ingest = house.join(&service("ingest"), Version::V5);
    house.subscribe(ingest, &["v1/+/up/#"]);
    let thief = house.join(&device("cam-1"), Version::V5);
    // It may not write there itself, so it asks the service to: by each form of the topic.
    for topic in [
        "v1/cam-2/down/open",
        "v1/cam-1/up/x",
        "#",
        "$SYS/x",
        "v1/cam-1/down/open/../x",
    ] {
        let mut properties = vec![0x08];
        properties.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        properties.extend(topic.as_bytes());
        let asks = PublishFields {
            forward: ForwardProperties::from_validated(&properties),
            ..message("v1/cam-1/up/ask", b"do it", Some(1))
        };
        house.publish_as(thief, &asks);
        let heard = house.heard(thief);
        match heard[..] {
            [Heard::Puback { code, .. }] => assert_eq!(code, 0x87, "{topic}"),
            // A wildcard in it is no MQTT at all.
            [Heard::Disconnect { .. }] => break,
            ref other => panic!("{topic}: {other:?}"),
        }
    }
    assert_eq!(house.payloads(ingest), NOTHING);
    assert_eq!(house.payloads(victim), NOTHING);
    assert!(house.signalled("response-topic-denied") >= 2);
}

#[test]
fn half_open_sockets() {
    let mut house = House::new();
    let (neighbour, ingest) = neighbours(&mut house);
    // Peers that went away without a word: their sockets look alive for ever.
    let gone: Vec<usize> = (10..110)
        .map(|n| {
            let name = format!("cam-{n}");
            let connect = Connect {
                keep_alive_seconds: 20,
                ..Connect::new(Version::V5, &name)
            };
            house.connect(&device(&name), &connect)
        })
        .collect();
    for _ in 0..3 {
        house.pass(Duration::from_secs(9));
        is_served(&mut house, neighbour, ingest);
    }
    assert!(
        gone.iter()
            .all(|client| house.clients[*client].closed.is_none())
    );
    house.pass(Duration::from_secs(4));
    assert!(
        (gone.iter()).all(|client| house.clients[*client].closed == Some(CloseReason::KeepAlive))
    );
    // Those who spoke are still here, and nothing is left of the others.
    is_served(&mut house, neighbour, ingest);
    assert_eq!(house.gateways[0].sessions().count(), 2);
}

#[test]
fn slow_loris_in_connect() {
    let mut house = House::new();
    let (neighbour, ingest) = neighbours(&mut house);
    let mut bytes = Vec::new();
    mqtt::encode::connect(&mut bytes, &Connect::new(Version::V5, "cam-1"));
    let loris: Vec<usize> = (0..8).map(|_| house.open(&device("cam-1"))).collect();
    // A byte a second: no byte buys more time.
    for byte in bytes.iter().take(4) {
        for client in &loris {
            house.send_bytes(*client, &[*byte]);
        }
        house.pass(Duration::from_secs(1));
        is_served(&mut house, neighbour, ingest);
    }
    assert!(
        loris
            .iter()
            .all(|client| house.clients[*client].closed.is_none())
    );
    house.pass(Duration::from_secs(2));
    assert!(
        (loris.iter())
            .all(|client| house.clients[*client].closed == Some(CloseReason::ConnectTimeout))
    );
    // One that announces the largest packet holds no room for it.
    let giant = house.open(&device("cam-1"));
    house.send_bytes(giant, &[0x10, 0xff, 0xff, 0xff, 0x7f]);
    assert!(house.clients[giant].closed.is_some());
    is_served(&mut house, neighbour, ingest);
}

#[test]
fn contract_flood() {
    let limits = Limits {
        signals_per_turn_max: 4,
        ..Limits::default()
    };
    let mut house = House::with(limits, 1);
    let (neighbour, ingest) = neighbours(&mut house);
    let camera = house.join(&device("cam-1"), Version::V5);
    // The most costly nonsense that fits, in one burst: each is refused, few are told.
    let payload = format!("{{\"t\": [{}1]}}", "[[[],[]]],".repeat(90));
    let mut bytes = Vec::new();
    for id in 1..=100 {
        let fields = message("v1/cam-1/reading", payload.as_bytes(), Some(id));
        mqtt::encode::publish(&mut bytes, Version::V5, &fields);
    }
    house.send_bytes(camera, &bytes);
    let codes: Vec<u8> = (house.heard(camera).into_iter())
        .filter_map(|heard| match heard {
            Heard::Puback { code, .. } => Some(code),
            _ => None,
        })
        .collect();
    // As many as the channel's rate are looked at, the others not even that.
    assert_eq!(codes.iter().filter(|code| **code == 0x99).count(), 20);
    assert_eq!(codes.iter().filter(|code| **code == 0x97).count(), 80);
    assert!(house.signals.len() <= 16, "{}", house.signals.len());
    is_served(&mut house, neighbour, ingest);
}

/// A flood that hides what another does would be a service that one stolen device does to the next.
#[test]
fn a_flood_of_one_hides_nothing_of_others() {
    let mut house = House::new();
    let flooder = house.join(&device("cam-1"), Version::V5);
    let looked_at = house.join(&device("cam-2"), Version::V5);
    let other = house.join(&device("cam-3"), Version::V5);
    let comes = house.open(&device("cam-4"));
    let publishes = |topic: &str, count: usize| {
        let mut bytes = Vec::new();
        for _ in 0..count {
            mqtt::encode::publish(&mut bytes, Version::V5, &message(topic, b"x", None));
        }
        bytes
    };
    let mut connect = Vec::new();
    mqtt::encode::connect(&mut connect, &Connect::new(Version::V5, "cam-4"));
    house.signals.clear();
    // All in one turn, as a shard serves them.
    house.with_gateway(0, |gateway, now, turn| {
        assert!(gateway.watch(&device("cam-2").principal));
        let mut hear = |client: usize, bytes: &[u8]| {
            gateway.receive(ConnectionId(client as u32), bytes, now, turn);
        };
        hear(looked_at, &publishes("v1/cam-2/up/t", 1000));
        hear(flooder, &publishes("v1/cam-9/up/t", 10_000));
        hear(other, &publishes("v1/cam-9/up/t", 5));
        hear(comes, &connect);
        gateway.closed(ConnectionId(other as u32), Closed::ByPeer, now, turn);
    });
    house.clients[other].gone = true;
    let told = |name: &str, of: &str| {
        let is = |it: &&gateway::Signal| {
            it.name() == name && it.principal() == Some(&device(of).principal)
        };
        house.signals.iter().filter(is).count()
    };
    assert_eq!(told("publish-denied", "cam-1"), 64);
    assert_eq!(told("publish-denied", "cam-3"), 1);
    assert_eq!(told("connection-lost", "cam-3"), 1);
    assert_eq!(told("session-opened", "cam-4"), 1);
    assert_eq!(told("published", "cam-2"), 64);
    assert_eq!(house.signals.len(), 131, "and the rest is counted");
}

/// A channel says how large a payload is; what a message says of itself beside it is bounded too.
#[test]
fn giant_properties() {
    let mut house = House::new();
    let (neighbour, ingest) = neighbours(&mut house);
    house.subscribe(ingest, &["v1/+/alarm"]);
    let camera = house.join(&device("cam-1"), Version::V5);
    let property = |bytes: usize| {
        let mut property = vec![0x26, 0, 1, b'k'];
        let value = u16::try_from(bytes - 6).unwrap();
        property.extend(value.to_be_bytes());
        property.resize(bytes, b'v');
        property
    };
    for (topic, bytes, code) in [
        ("v1/cam-1/alarm", 1024, 0),
        ("v1/cam-1/alarm", 1025, 0x97),
        ("v1/cam-1/up/t", 8192, 0),
        ("v1/cam-1/up/t", 8193, 0x97),
        ("v1/cam-1/up/t", 60_000, 0x97),
    ] {
        let property = property(bytes);
        let fields = PublishFields {
            forward: ForwardProperties::from_validated(&property),
            ..message(topic, b"x", Some(1))
        };
        house.publish_as(camera, &fields);
        let heard = house.heard(camera);
        let [
            Heard::Puback {
                code: found, text, ..
            },
        ] = &heard[..]
        else {
            panic!("{heard:?}");
        };
        assert_eq!(*found, code, "{bytes}");
        let said = text.as_deref().unwrap_or_default();
        assert_eq!(said.contains("properties-too-large"), code > 0, "{said}");
    }
    assert_eq!(house.payloads(ingest).len(), 2);
    for id in [1, 2] {
        house.puback(ingest, id);
    }
    // A will is no way around it.
    let property = property(2000);
    let connect = Connect {
        will: Some(mqtt::Will {
            qos: Qos::AtLeastOnce,
            retain: false,
            topic: "v1/cam-2/alarm",
            payload: b"x",
            delay_seconds: 0,
            forward: ForwardProperties::from_validated(&property),
        }),
        ..Connect::new(Version::V5, "cam-2")
    };
    let thief = house.connect(&device("cam-2"), &connect);
    let heard = house.heard(thief);
    assert!(
        matches!(heard[..], [Heard::Connack { code: 0x87, .. }]),
        "{heard:?}"
    );
    house.publish(neighbour, "v1/cam-9/up/x", b"well", Some(9));
    assert_eq!(house.payloads(ingest), [b"well"]);
}

/// The smallest packets there are, as many as a line carries: a second's worth of them at once, and then
/// at that pace, by however many connections.
#[test]
fn packet_flood() {
    let mut house = House::new();
    let (neighbour, ingest) = neighbours(&mut house);
    let flooders: Vec<usize> = (["cam-1", "cam-1:b"].iter())
        .map(|id| house.connect(&device("cam-1"), &Connect::new(Version::V5, id)))
        .collect();
    let answered = |house: &mut House| -> usize {
        (flooders.iter())
            .map(|client| {
                let heard = house.heard(*client);
                heard.iter().filter(|it| **it == Heard::Pingresp).count()
            })
            .sum()
    };
    for flooder in &flooders {
        house.send_bytes(*flooder, &[0xc0, 0].repeat(6000));
    }
    assert_eq!(answered(&mut house), 4000);
    is_served(&mut house, neighbour, ingest);
    let mut slowly = 0;
    for _ in 0..10 {
        house.pass(Duration::from_millis(100));
        slowly += answered(&mut house);
    }
    assert!((3900..=4100).contains(&slowly), "{slowly}");
    assert!(house.signalled("session-limit") > 0);
    // Nothing of it is lost, and whoever stops is read as before.
    for _ in 0..20 {
        house.pass(Duration::from_millis(100));
        slowly += answered(&mut house);
    }
    assert_eq!(4000 + slowly, 12_000);
    house.pass(Duration::from_secs(2));
    house.send_bytes(flooders[0], &[0xc0, 0]);
    assert_eq!(answered(&mut house), 1);
    // A service may send as fast as it can.
    house.send_bytes(ingest, &[0xc0, 0].repeat(20_000));
    let heard = house.heard(ingest);
    assert_eq!(
        heard.iter().filter(|it| **it == Heard::Pingresp).count(),
        20_000
    );
}
