//! What a message costs in the machine alone: no allocation, and how many nanoseconds.

use crate::house::{POLICIES, certificate, device, grants_of, message, service};
use gateway::{Admitted, ConnectionId, Gateway, Limits, Turn};
use model::Timestamp;
use mqtt::{Connect, Packet, Qos, Reason, Version};
use std::time::{Duration, Instant};

const CONSUMER: ConnectionId = ConnectionId(0);

/// Devices that publish, one after the other, to one consumer that acknowledges.
struct Steady {
    gateway: Gateway,
    turn: Turn,
    now: Timestamp,
    /// One PUBLISH of each device.
    packets: Vec<Vec<u8>>,
    acks: Vec<u8>,
    journal_bytes: usize,
}

/// Its clock stands still, so no device is sent too much.
fn limits() -> Limits {
    Limits {
        packets_per_second: 1_000_000,
        ..Limits::default()
    }
}

impl Steady {
    fn sending(devices: u32, persistent: bool, topic: &str, payload: &[u8]) -> Self {
        let mut steady = Self {
            gateway: Gateway::new(limits(), 0, 1, grants_of(POLICIES)),
            turn: Turn::new(),
            now: Timestamp::from_seconds(1_700_000_000),
            packets: Vec::new(),
            acks: Vec::new(),
            journal_bytes: 0,
        };
        steady.open(CONSUMER, service("ingest"), persistent);
        let mut bytes = Vec::new();
        mqtt::encode::subscribe(
            &mut bytes,
            Version::V5,
            1,
            &[
                ("v1/+/up/#", Qos::AtLeastOnce),
                ("v1/+/described", Qos::AtLeastOnce),
                ("v1/+/described-cbor", Qos::AtLeastOnce),
            ],
        );
        steady.feed(CONSUMER, &bytes);
        for number in 1..=devices {
            steady.open(
                ConnectionId(number),
                device(&format!("cam-{number}")),
                false,
            );
            let topic = format!("v1/cam-{number}/{topic}");
            let mut bytes = Vec::new();
            mqtt::encode::publish(&mut bytes, Version::V5, &message(&topic, payload, Some(1)));
            steady.packets.push(bytes);
        }
        steady
    }

    fn open(&mut self, connection: ConnectionId, facts: access::Facts, persistent: bool) {
        let connect = Connect {
            session_expiry_seconds: persistent.then_some(600),
            ..Connect::new(Version::V5, facts.principal.name())
        };
        let mut bytes = Vec::new();
        mqtt::encode::connect(&mut bytes, &connect);
        let expires_at = self.now.plus(Duration::from_secs(1000));
        let admitted = Admitted {
            connection,
            facts: facts.clone(),
            client_ids: access::ClientIds::Own,
            address: [10, 0, 0, 1].into(),
            certificate: certificate(1),
            expires_at,
            shared: false,
        };
        self.gateway.open(admitted, self.now, &mut self.turn);
        self.feed(connection, &bytes);
    }

    fn feed(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let consumed = self
            .gateway
            .receive(connection, bytes, self.now, &mut self.turn);
        assert_eq!(consumed, bytes.len());
        self.gateway.output(connection).unwrap().clear();
        self.gateway
            .written(connection, 0, self.now, &mut self.turn);
        self.turn.clear();
    }

    /// One message of each device, eight a turn: about what one wake-up brings.
    fn round(&mut self) {
        let Self {
            gateway,
            turn,
            now,
            packets,
            acks,
            journal_bytes,
        } = self;
        for (batch, first) in packets.chunks(8).zip((1_u32..).step_by(8)) {
            for (bytes, id) in batch.iter().zip(first..) {
                gateway.receive(ConnectionId(id), bytes, *now, turn);
            }
            *journal_bytes += turn
                .journal
                .records()
                .map(|(_, record)| record.len())
                .sum::<usize>();
            acks.clear();
            let mut touched = std::mem::take(&mut turn.touched);
            for id in touched.drain(..) {
                let out = gateway.output(id).unwrap();
                if id == CONSUMER {
                    acknowledge_all(out, acks);
                }
                out.clear();
                gateway.written(id, 0, *now, turn);
            }
            turn.touched = touched;
            turn.clear();
            gateway.receive(CONSUMER, acks, *now, turn);
            turn.clear();
        }
    }
}

fn acknowledge_all(mut bytes: &[u8], acks: &mut Vec<u8>) {
    while let Ok(Some(length)) = mqtt::frame_length(bytes, usize::MAX) {
        let (frame, rest) = bytes.split_at(length);
        bytes = rest;
        if let Ok(Packet::Publish(publish)) = mqtt::decode_from_server(Version::V5, frame) {
            let id = publish.packet_id.unwrap();
            mqtt::encode::puback(acks, Version::V5, id, Reason::SUCCESS, None);
        }
    }
}

/// As a device sends it, 128 bytes.
const TELEMETRY: &[u8] = br#"{"at":1795330039,"serial":"SN0012","readings":[{"name":"temperature","value":21.5},{"name":"humidity","value":48}],"battery":87}"#;

/// The same in CBOR.
const TELEMETRY_CBOR: &[u8] = b"\xa4\x62at\x1a\x6b\x02\x6d\x37\x66serial\x66SN0012\x68readings\x82\
    \xa2\x64name\x6btemperature\x65value\xf9\x4d\x60\xa2\x64name\x68humidity\x65value\x18\x30\x67battery\x18\x57";

#[test]
fn a_message_allocates_nothing_in_the_steady_state() {
    for (persistent, topic, payload) in [
        (false, "up/temperature", &[7; 128][..]),
        (true, "up/temperature", &[7; 128]),
        (false, "described", TELEMETRY),
        (false, "described-cbor", TELEMETRY_CBOR),
    ] {
        let mut steady = Steady::sending(64, persistent, topic, payload);
        for _ in 0..200 {
            steady.round();
        }
        let counted = allocation_counter::measure(|| {
            for _ in 0..20 {
                steady.round();
            }
        });
        assert_eq!(steady.gateway.counters().deliveries, 220 * 64);
        assert_eq!(
            counted.count_total, 0,
            "{topic}, persistent: {persistent}, {} bytes",
            counted.bytes_total
        );
    }
}

/// What `cargo xtask bench gateway --only machine` reads: a line of JSON for each figure. Publish,
/// match, deliver, both acknowledgements, and the test's own client.
#[test]
#[ignore = "prints figures, asserts nothing about time"]
fn figures_of_the_machine() {
    let nothing = &[7; 128][..];
    // What the harness of tests has written ends here.
    println!();
    let mut plain = 0.0;
    for (title, persistent, topic, payload) in [
        ("a message, live consumer", false, "up/temperature", nothing),
        ("a message, stored session", true, "up/temperature", nothing),
        (
            "a message, JSON without a schema",
            false,
            "up/temperature",
            TELEMETRY,
        ),
        (
            "a message, JSON with a schema",
            false,
            "described",
            TELEMETRY,
        ),
        (
            "a message, CBOR with a schema",
            false,
            "described-cbor",
            TELEMETRY_CBOR,
        ),
    ] {
        let mut steady = Steady::sending(1000, persistent, topic, payload);
        // The least of several: what others on this machine did meanwhile is no part of it.
        let mut least = f64::MAX;
        for _ in 0..10 {
            let before = steady.gateway.counters().deliveries;
            let started = Instant::now();
            for _ in 0..30 {
                steady.round();
            }
            let micros = started.elapsed().as_secs_f64() * 1e6;
            let messages = steady.gateway.counters().deliveries - before;
            least = least.min(micros / messages as f64);
        }
        figure(title, least, "µs");
        if title == "a message, JSON without a schema" {
            plain = least;
        }
        if title == "a message, JSON with a schema" {
            figure("what a schema adds to a message", least - plain, "µs");
        }
        let counted = allocation_counter::measure(|| steady.round());
        if title == "a message, JSON with a schema" {
            figure(
                "allocations of 1,000 messages",
                counted.count_total as f64,
                "",
            );
        }
    }
}

fn figure(figure: &str, value: f64, unit: &str) {
    println!(
        "{}",
        serde_json::json!({ "figure": figure, "value": value, "unit": unit })
    );
}
