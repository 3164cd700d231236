//! Any bytes as a packet: ours must not panic, must not differ from mqtt-protocol-core but by the
//! written list, and what it takes it must be able to write and take again.
//!
//! The first byte chooses the version, and whether the rest is a frame or the seed of a likely
//! one (so that no corpus is needed to get past CONNECT).

#![no_main]

use libfuzzer_sys::fuzz_target;
use mqtt::{Packet, Version, encode};

#[allow(dead_code, reason = "its tests use more of it")]
#[path = "../../words/mqtt/tests/it/generate.rs"]
mod generate;
#[allow(dead_code, reason = "the why of each entry is for readers")]
#[path = "../../words/mqtt/tests/it/oracle.rs"]
mod oracle;

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let version = if choice & 1 == 0 {
        Version::V311
    } else {
        Version::V5
    };
    match rest.first_chunk() {
        Some(seed) if choice & 2 != 0 => {
            let mut random = generate::Random::new(u64::from_le_bytes(*seed));
            let mut frame = generate::frame(&mut random, version);
            for _ in 0..choice >> 2 & 3 {
                generate::mutate(&mut random, &mut frame);
            }
            check(version, &frame);
        }
        _ => check(version, rest),
    }
});

fn check(version: Version, frame: &[u8]) {
    let _ = mqtt::connect_version(frame);
    let _ = mqtt::frame_length(frame, 1 << 16);
    if let Err(difference) = oracle::compare(version, frame) {
        panic!("{difference}: {frame:02x?}");
    }
    let Ok(packet) = mqtt::decode(version, frame) else {
        return;
    };
    assert_eq!(
        mqtt::frame_length(frame, frame.len()),
        Ok(Some(frame.len()))
    );
    let mut again = Vec::new();
    match &packet {
        Packet::Publish(publish) => encode::publish(&mut again, version, publish),
        Packet::Connect(connect) => encode::connect(&mut again, connect),
        _ => return,
    }
    assert_eq!(mqtt::decode(version, &again), Ok(packet), "written anew");
}
