//! Any bytes as a packet: ours must not panic, must not differ from mqtt-protocol-core but by the
//! written list, and what it takes it must be able to write and take again.
//!
//! The first byte chooses the version, the rest is the frame.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mqtt::{Packet, Version, encode};

#[path = "../../words/mqtt/tests/it/oracle.rs"]
mod oracle;

fuzz_target!(|input: &[u8]| {
    let Some((choice, frame)) = input.split_first() else {
        return;
    };
    let version = if choice & 1 == 0 {
        Version::V311
    } else {
        Version::V5
    };
    let _ = mqtt::connect_version(frame);
    let _ = mqtt::frame_length(frame, 1 << 16);
    if let Err(difference) = oracle::compare(version, frame) {
        panic!("{difference}");
    }
    let Ok(packet) = mqtt::decode(version, frame) else {
        return;
    };
    assert_eq!(mqtt::frame_length(frame, frame.len()), Ok(Some(frame.len())));
    let mut again = Vec::new();
    match &packet {
        Packet::Publish(publish) => encode::publish(&mut again, version, publish),
        Packet::Connect(connect) => encode::connect(&mut again, connect),
        Packet::Puback(ack) => {
            encode::puback(&mut again, version, ack.packet_id, ack.reason, None);
            return;
        }
        _ => return,
    }
    assert_eq!(mqtt::decode(version, &again), Ok(packet), "written anew");
});
