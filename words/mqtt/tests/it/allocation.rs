//! The hot paths allocate nothing, and a decoder never allocates at all: memory that is paid
//! before a peer has proven who it is would be its to waste.

use crate::generate::{Random, frame};
use mqtt::encode::{self, PublishFields};
use mqtt::{
    Filter, FilterTrie, ForwardProperties, Packet, Qos, Reason, Version, decode,
    decode_from_server, frame_length,
};
use std::hint::black_box;

#[track_caller]
fn allocates_nothing<T>(run: impl FnOnce() -> T) {
    let counted = allocation_counter::measure(|| {
        black_box(run());
    });
    assert_eq!(counted.count_total, 0, "{} bytes", counted.bytes_total);
}

#[test]
fn the_counter_counts() {
    let counted = allocation_counter::measure(|| drop(black_box(vec![1u8])));
    assert_eq!(counted.count_total, 1);
}

#[test]
fn decoding_allocates_nothing_whatever_comes() {
    let mut random = Random::new(0x6865_6170);
    for version in [Version::V311, Version::V5] {
        for _ in 0..5_000 {
            let bytes = frame(&mut random, version);
            allocates_nothing(|| frame_length(&bytes, 1000));
            allocates_nothing(|| mqtt::connect_version(&bytes));
            allocates_nothing(|| decode_from_server(version, &bytes));
            allocates_nothing(|| match decode(version, &bytes) {
                Ok(Packet::Subscribe(s)) => s.entries().count(),
                Ok(Packet::Unsubscribe(u)) => u.filters().count(),
                Ok(Packet::Publish(p)) => {
                    p.forward.user_properties().count()
                        + usize::from(p.forward.response_topic().is_some())
                }
                _ => 0,
            });
        }
    }
}

#[test]
fn a_publish_is_written_into_room_that_is_there() {
    let properties = b"\x02\0\0\0\x05\x26\0\x01k\0\x01v";
    let message = PublishFields {
        dup: false,
        qos: Qos::AtLeastOnce,
        retain: false,
        topic: "t/dev-1/up",
        packet_id: Some(1),
        topic_alias: Some(3),
        forward: ForwardProperties::from_validated(properties).with_expiry_left(4),
        payload: &[b'x'; 128],
    };
    let length = encode::publish_length(Version::V5, &message);
    let mut out = Vec::with_capacity(length + 4);
    allocates_nothing(|| encode::publish(&mut out, Version::V5, &message));
    assert_eq!(out.len(), length);
    allocates_nothing(|| encode::puback(&mut out, Version::V5, 1, Reason::SUCCESS, None));
}

#[test]
fn matching_allocates_nothing() {
    let mut trie = FilterTrie::new();
    for device in 0..100 {
        for filter in [
            format!("t/{device}/#"),
            format!("t/{device}/up"),
            "t/+/up".into(),
        ] {
            trie.insert(&Filter::new(&filter).unwrap(), device);
        }
    }
    let filter = Filter::new("t/+/up").unwrap();
    let mut seen = 0;
    allocates_nothing(|| trie.for_each_match("t/42/up", |_| seen += 1));
    assert_eq!(seen, 102);
    allocates_nothing(|| filter.matches("t/42/up"));
}
