//! How long a message takes in the machine alone. Prints, asserts nothing:
//! `cargo test -p gateway --release -- --ignored --nocapture nanoseconds`.

use crate::house::{POLICIES, certificate, device, grants_of, message, service};
use gateway::{Admitted, ConnectionId, Gateway, Limits, Turn};
use model::Timestamp;
use mqtt::{Connect, Qos, Version};
use std::time::{Duration, Instant};

#[test]
#[ignore = "prints figures"]
fn nanoseconds_per_message() {
    for (title, persistent) in [("live consumer", false), ("persistent consumer", true)] {
        const DEVICES: u32 = 1000;
        const ROUNDS: u16 = 300;
        let mut gateway = Gateway::new(Limits::default(), 0, 1, grants_of(POLICIES));
        let mut turn = Turn::new();
        let now = Timestamp::from_seconds(1_700_000_000);
        let open = |gateway: &mut Gateway, turn: &mut Turn, id: u32, facts: access::Facts| {
            let connection = ConnectionId(id);
            let name = facts.principal.name().to_owned();
            let expires_at = now.plus(Duration::from_secs(1000));
            gateway.open(
                Admitted {
                    connection,
                    facts,
                    certificate: certificate(1),
                    expires_at,
                },
                now,
                turn,
            );
            let mut bytes = Vec::new();
            let expiry = persistent.then_some(600);
            mqtt::encode::connect(
                &mut bytes,
                &Connect {
                    session_expiry_seconds: expiry,
                    ..Connect::new(Version::V5, &name)
                },
            );
            if id == 0 {
                mqtt::encode::subscribe(
                    &mut bytes,
                    Version::V5,
                    1,
                    &[("v1/+/up/#", Qos::AtLeastOnce)],
                );
            }
            assert_eq!(gateway.receive(connection, &bytes, now, turn), bytes.len());
            gateway.output(connection).unwrap().clear();
            gateway.written(connection, 0, now, turn);
            turn.clear();
        };
        open(&mut gateway, &mut turn, 0, service("ingest"));
        let mut packets = Vec::new();
        for number in 1..=DEVICES {
            open(
                &mut gateway,
                &mut turn,
                number,
                device(&format!("cam-{number}")),
            );
            let mut bytes = Vec::new();
            let topic = format!("v1/cam-{number}/up/temperature");
            mqtt::encode::publish(
                &mut bytes,
                Version::V5,
                &message(&topic, &[7; 128], Some(1)),
            );
            packets.push(bytes);
        }
        let consumer = ConnectionId(0);
        let (mut acks, mut journal_bytes) = (Vec::new(), 0);
        let started = Instant::now();
        for _ in 0..ROUNDS {
            // Eight messages a turn, about what one wake-up brings.
            for (batch, number) in packets.chunks(8).zip((1_u32..).step_by(8)) {
                for (bytes, id) in batch.iter().zip(number..) {
                    gateway.receive(ConnectionId(id), bytes, now, &mut turn);
                }
                journal_bytes += turn
                    .journal
                    .records()
                    .map(|(_, record)| record.len())
                    .sum::<usize>();
                acks.clear();
                let touched = std::mem::take(&mut turn.touched);
                for id in &touched {
                    let out = gateway.output(*id).unwrap();
                    if *id == consumer {
                        let mut rest = out.as_slice();
                        while let Ok(Some(length)) = mqtt::frame_length(rest, usize::MAX) {
                            if let Ok(mqtt::Packet::Publish(publish)) =
                                mqtt::decode_from_server(Version::V5, &rest[..length])
                            {
                                mqtt::encode::puback(
                                    &mut acks,
                                    Version::V5,
                                    publish.packet_id.unwrap(),
                                    mqtt::Reason::SUCCESS,
                                    None,
                                );
                            }
                            rest = &rest[length..];
                        }
                    }
                    out.clear();
                    gateway.written(*id, 0, now, &mut turn);
                }
                turn.clear();
                gateway.receive(consumer, &acks, now, &mut turn);
                turn.clear();
            }
        }
        let messages = u64::from(DEVICES) * u64::from(ROUNDS);
        let each = started.elapsed().as_nanos() / u128::from(messages);
        assert_eq!(gateway.counters().deliveries, messages);
        println!(
            "{title}: {each} ns a message (publish, match, deliver, both acknowledgements, the test's own client), {} journal bytes a message",
            journal_bytes as u64 / messages
        );
    }
}
