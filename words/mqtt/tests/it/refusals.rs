//! Hostile and sloppy packets, each by name, and the rule that stops it. The neighbour that
//! differs in the one thing and is allowed stands beside it.

use crate::generate::{Random, frame, mutate};
use crate::oracle::rule_name;
use mqtt::{
    ConnectVersionError, PACKET_BYTES_MAX, Packet, Reason, Version, connect_version, decode,
    decode_from_server, frame_length,
};

const V3: Version = Version::V311;
const V5: Version = Version::V5;

/// First byte and body, with the length put between them.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128);
    let mut frame = vec![first, body.len() as u8];
    frame.extend_from_slice(body);
    frame
}

fn connect(version: Version, flags: u8, after_keep_alive: &[u8]) -> Vec<u8> {
    let level = if version == V3 { 4 } else { 5 };
    let mut body = b"\0\x04MQTT".to_vec();
    body.extend_from_slice(&[level, flags, 0, 60]);
    body.extend_from_slice(after_keep_alive);
    packet(0x10, &body)
}

#[track_caller]
fn refused(version: Version, frame: &[u8], rule: &str, reason: Reason) {
    let refusal = decode(version, frame).expect_err("must be refused");
    assert_eq!((rule_name(&refusal), refusal.reason), (rule, reason));
}

#[track_caller]
fn malformed(version: Version, frame: &[u8], rule: &str) {
    refused(version, frame, rule, Reason::MALFORMED_PACKET);
}

#[track_caller]
fn protocol_error(version: Version, frame: &[u8], rule: &str) {
    refused(version, frame, rule, Reason::PROTOCOL_ERROR);
}

#[track_caller]
fn taken(version: Version, frame: &[u8]) {
    decode(version, frame).expect("must be taken");
}

#[test]
fn a_giant_is_refused_on_its_announced_length() {
    let announced = [0x30, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(
        frame_length(&announced, 1 << 20).unwrap_err().reason,
        Reason::PACKET_TOO_LARGE
    );
    assert_eq!(frame_length(&announced, PACKET_BYTES_MAX), Ok(None));
    // The cap counts the header too.
    assert_eq!(frame_length(&[0x30, 3, 0, 1, b'a'], 5), Ok(Some(5)));
    assert!(frame_length(&[0x30, 3], 4).is_err());
}

#[test]
fn a_fifth_length_byte_is_refused_and_four_are_waited_for() {
    assert_eq!(frame_length(&[], 100), Ok(None));
    assert_eq!(frame_length(&[0x30], 100), Ok(None));
    assert_eq!(frame_length(&[0x30, 0x80, 0x80, 0x80], 100), Ok(None));
    let refusal = frame_length(&[0x30, 0x80, 0x80, 0x80, 0x80], 100).unwrap_err();
    assert_eq!(rule_name(&refusal), "REMAINING_LENGTH_BYTES");
}

#[test]
fn another_protocol_is_refused_on_its_first_byte() {
    // HTTP, SSH, and types or flags that do not exist.
    for first in [
        b'G', b'S', 0x00, 0x0f, 0x11, 0x36, 0x38, 0x60, 0x80, 0x83, 0xa0, 0xc1, 0xff,
    ] {
        assert!(frame_length(&[first], 100).is_err(), "{first:#x}");
    }
}

#[test]
fn only_the_first_packet_is_measured() {
    let two = [0xc0, 0, 0xc0, 0];
    assert_eq!(frame_length(&two, 100), Ok(Some(2)));
    malformed(V5, &two, "FRAME_LENGTH");
    malformed(V5, &[0xc0], "FRAME_LENGTH");
    malformed(V5, &[], "FRAME_LENGTH");
}

#[test]
fn a_length_that_is_not_minimal_breaks_mqtt_5_alone() {
    let frame = [0xc0, 0x80, 0];
    malformed(V5, &frame, "LENGTH_NOT_MINIMAL");
    taken(V3, &frame);
    let in_properties = packet(0x30, b"\0\x01a\x80\x00");
    malformed(V5, &in_properties, "LENGTH_NOT_MINIMAL");
}

#[test]
fn a_null_character_hides_nothing() {
    malformed(V3, &packet(0x30, b"\0\x03a\0b"), "NULL_CHARACTER");
    malformed(V3, &connect(V3, 2, b"\0\x03a\0b"), "NULL_CHARACTER");
    malformed(V3, &packet(0x82, b"\0\x01\0\x02a\0\0"), "NULL_CHARACTER");
    malformed(
        V5,
        &packet(0x30, b"\0\x01a\x07\x26\0\x01\0\0\x01x"),
        "NULL_CHARACTER",
    );
}

#[test]
fn ill_formed_utf_8_is_refused_and_a_byte_order_mark_is_kept() {
    for bad in [
        &b"\xff"[..],
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
    ] {
        let mut body = vec![0, bad.len() as u8];
        body.extend_from_slice(bad);
        malformed(V3, &packet(0x30, &body), "UTF_8");
    }
    let frame = packet(0x30, b"\0\x04\xef\xbb\xbfa");
    let Ok(Packet::Publish(publish)) = decode(V3, &frame) else {
        panic!("refused")
    };
    assert_eq!(publish.topic, "\u{feff}a");
}

#[test]
fn a_wildcard_cannot_be_published_to() {
    for topic in [&b"\0\x01#"[..], b"\0\x01+", b"\0\x03a/+", b"\0\x02a#"] {
        protocol_error(V3, &packet(0x30, topic), "TOPIC_WILDCARD");
    }
    let mut will = b"\0\x01c".to_vec();
    will.extend_from_slice(b"\0\x03a/#\0\x00");
    protocol_error(V3, &connect(V3, 0x06, &will), "TOPIC_WILDCARD");
    let response_topic = packet(0x30, b"\0\x01a\x04\x08\0\x01#");
    protocol_error(V5, &response_topic, "TOPIC_WILDCARD");
}

#[test]
fn an_empty_topic_needs_an_alias() {
    protocol_error(V3, &packet(0x30, b"\0\0x"), "TOPIC_EMPTY");
    protocol_error(V5, &packet(0x30, b"\0\0\0x"), "TOPIC_EMPTY");
    taken(V5, &packet(0x30, b"\0\0\x03\x23\0\x01x"));
    let zero = packet(0x30, b"\0\x01a\x03\x23\0\0");
    refused(V5, &zero, "TOPIC_ALIAS_ZERO", Reason::TOPIC_ALIAS_INVALID);
}

#[test]
fn malformed_filters_never_reach_the_gateway() {
    for (filter, rule) in [
        ("", "FILTER_EMPTY"),
        ("a#", "FILTER_MULTI_LEVEL"),
        ("a/#/b", "FILTER_MULTI_LEVEL"),
        ("##", "FILTER_MULTI_LEVEL"),
        ("#/", "FILTER_MULTI_LEVEL"),
        ("a+", "FILTER_SINGLE_LEVEL"),
        ("++/a", "FILTER_SINGLE_LEVEL"),
    ] {
        let mut body = vec![0, 1, 0, filter.len() as u8];
        body.extend_from_slice(filter.as_bytes());
        protocol_error(V3, &packet(0xa2, &body), rule);
        body.push(0);
        protocol_error(V3, &packet(0x82, &body), rule);
    }
}

#[test]
fn a_share_has_a_name_and_a_filter_and_hears_its_own() {
    for filter in [
        "$share//f",
        "$share/g",
        "$share/+/f",
        "$share/g#/f",
        "$share/",
    ] {
        let mut body = vec![0, 1, 0, 0, filter.len() as u8];
        body.extend_from_slice(filter.as_bytes());
        body.push(0);
        protocol_error(V5, &packet(0x82, &body), "SHARE_NAME");
    }
    protocol_error(
        V5,
        &packet(0x82, b"\0\x01\0\0\x09$share/g/\0"),
        "FILTER_EMPTY",
    );
    protocol_error(
        V5,
        &packet(0x82, b"\0\x01\0\0\x0a$share/g/a\x04"),
        "NO_LOCAL_ON_SHARE",
    );
    let frame = packet(0x82, b"\0\x01\0\0\x0c$share/g/a/#\x01");
    let Ok(Packet::Subscribe(subscribe)) = decode(V5, &frame) else {
        panic!("refused")
    };
    let entry = subscribe.entries().next().unwrap();
    assert_eq!(entry.share(), Some(("g", "a/#")));
    assert!(entry.is_shared());
}

#[test]
fn reserved_bits_are_not_a_covert_channel() {
    malformed(
        V3,
        &packet(0x82, b"\0\x01\0\x01a\xfc"),
        "SUBSCRIPTION_OPTIONS",
    );
    malformed(
        V3,
        &packet(0x82, b"\0\x01\0\x01a\x04"),
        "SUBSCRIPTION_OPTIONS",
    );
    malformed(
        V3,
        &packet(0x82, b"\0\x01\0\x01a\x03"),
        "SUBSCRIPTION_OPTIONS",
    );
    malformed(
        V5,
        &packet(0x82, b"\0\x01\0\0\x01a\x40"),
        "SUBSCRIPTION_OPTIONS",
    );
    protocol_error(V5, &packet(0x82, b"\0\x01\0\0\x01a\x30"), "RETAIN_HANDLING");
    taken(V5, &packet(0x82, b"\0\x01\0\0\x01a\x2e"));
    malformed(V3, &connect(V3, 0x03, b"\0\x01c"), "CONNECT_RESERVED_FLAG");
    malformed(V3, &packet(0x80, b"\0\x01\0\x01a\0"), "FIXED_HEADER_FLAGS");
    malformed(V3, &packet(0x60, b"\0\x01"), "FIXED_HEADER_FLAGS");
    malformed(V3, &packet(0xc1, b""), "FIXED_HEADER_FLAGS");
}

#[test]
fn nothing_rides_behind_the_last_field() {
    malformed(V3, &connect(V3, 2, b"\0\x01cX"), "TRAILING_BYTES");
    malformed(V3, &packet(0xc0, b"x"), "TRAILING_BYTES");
    malformed(V3, &packet(0xe0, b"\0"), "TRAILING_BYTES");
    malformed(V3, &packet(0x40, b"\0\x01\0"), "TRAILING_BYTES");
    malformed(V5, &packet(0x40, b"\0\x01\0\0x"), "TRAILING_BYTES");
    malformed(V5, &packet(0xe0, b"\0\0x"), "TRAILING_BYTES");
}

#[test]
fn a_will_that_is_not_there_has_no_flags() {
    for flags in [0x0a, 0x12, 0x22] {
        malformed(V3, &connect(V3, flags, b"\0\x01c"), "WILL_FLAGS");
    }
    malformed(V3, &connect(V3, 0x1e, b"\0\x01c\0\x01w\0\0"), "WILL_FLAGS");
    taken(V3, &connect(V3, 0x36, b"\0\x01c\0\x01w\0\0"));
}

#[test]
fn a_password_without_user_name_is_for_mqtt_5() {
    malformed(
        V3,
        &connect(V3, 0x42, b"\0\x01c\0\x01p"),
        "PASSWORD_WITHOUT_USER_NAME",
    );
    taken(V5, &connect(V5, 0x42, b"\0\0\x01c\0\x01p"));
}

#[test]
fn an_empty_client_identifier_needs_a_clean_session_in_3_1_1() {
    let frame = connect(V3, 0, b"\0\0");
    let reason = Reason::CLIENT_IDENTIFIER_NOT_VALID;
    refused(V3, &frame, "CLIENT_IDENTIFIER_EMPTY", reason);
    taken(V3, &connect(V3, 2, b"\0\0"));
    taken(V5, &connect(V5, 0, b"\0\0\0"));
}

#[test]
fn a_version_cannot_be_smuggled_in_after_it_was_chosen() {
    let reason = Reason::UNSUPPORTED_PROTOCOL_VERSION;
    refused(V3, &connect(V5, 2, b"\0\0\0"), "PROTOCOL_LEVEL", reason);
    refused(V5, &connect(V3, 2, b"\0\0"), "PROTOCOL_LEVEL", reason);
    malformed(V3, &packet(0xf0, b""), "PACKET_TYPE");
}

#[test]
fn a_foreign_level_is_told_from_nonsense() {
    assert_eq!(connect_version(&connect(V3, 2, b"\0\0")), Ok(V3));
    assert_eq!(connect_version(&connect(V5, 2, b"\0\0\0")), Ok(V5));
    for (body, level, answer) in [
        (&b"\0\x06MQIsdp\x03\x02\0\0\0\0"[..], 3, V3),
        (b"\0\x04MQTT\x03\x02\0\0\0\0", 3, V3),
        (b"\0\x04MQTT\x84\x02\0\0\0\0", 0x84, V3),
        (b"\0\x04MQTT\x06\x02\0\0\0\0", 6, V5),
    ] {
        let refusal = connect_version(&packet(0x10, body)).unwrap_err();
        assert_eq!(refusal, ConnectVersionError::UnsupportedLevel(level));
        assert_eq!(refusal.answer_in(), Some(answer));
    }
    for frame in [
        packet(0x10, b"\0\x04HTTP\x04\x02\0\0\0\0"),
        packet(0x10, b"\0\x04MQ"),
        packet(0xc0, b""),
        packet(0x30, b"\0\x01a"),
        vec![],
    ] {
        let refusal = connect_version(&frame).unwrap_err();
        assert_eq!(refusal.answer_in(), None, "{frame:02x?}");
    }
}

#[test]
fn properties_are_known_allowed_single_and_in_range() {
    let publish = |properties: &[u8]| {
        let mut body = vec![0, 1, b'a', properties.len() as u8];
        body.extend_from_slice(properties);
        packet(0x30, &body)
    };
    // Session expiry does not belong to PUBLISH; 0x7f exists nowhere; 0x80 0x01 is 128.
    malformed(V5, &publish(b"\x11\0\0\0\x01"), "PROPERTY_NOT_ALLOWED");
    malformed(V5, &publish(b"\x7f\0"), "PROPERTY_NOT_ALLOWED");
    malformed(V5, &publish(b"\x80\x01\0"), "PROPERTY_NOT_ALLOWED");
    malformed(V5, &publish(b"\x81\x80\x00\0"), "LENGTH_NOT_MINIMAL");
    malformed(
        V5,
        &publish(b"\x80\x80\x80\x80\x01"),
        "REMAINING_LENGTH_BYTES",
    );
    protocol_error(V5, &publish(b"\x01\0\x01\0"), "PROPERTY_TWICE");
    protocol_error(
        V5,
        &publish(b"\x02\0\0\0\x01\x02\0\0\0\x01"),
        "PROPERTY_TWICE",
    );
    protocol_error(V5, &publish(b"\x01\x02"), "PROPERTY_VALUE");
    taken(V5, &publish(b"\x26\0\x01k\0\x01v\x26\0\x01k\0\x01v"));
    malformed(V5, &publish(b"\x02\0\0"), "FIELD_PAST_END");
    // The length of the properties may not reach past the packet.
    malformed(V5, &packet(0x30, b"\0\x01a\x7f\x01\0"), "FIELD_PAST_END");
    for (properties, rule) in [
        (&b"\x03\x21\0\0"[..], "PROPERTY_VALUE"),
        (b"\x05\x27\0\0\0\0", "PROPERTY_VALUE"),
        (b"\x02\x17\x02", "PROPERTY_VALUE"),
        (b"\x02\x19\x02", "PROPERTY_VALUE"),
        (b"\x04\x16\0\x01x", "AUTHENTICATION_METHOD_MISSING"),
    ] {
        let mut body = properties.to_vec();
        body.extend_from_slice(b"\0\0");
        protocol_error(V5, &connect(V5, 2, &body), rule);
    }
}

#[test]
fn a_client_names_a_subscription_identifier_in_subscribe_only() {
    let frame = packet(0x30, b"\0\x01a\x02\x0b\x01");
    protocol_error(V5, &frame, "SUBSCRIPTION_IDENTIFIER_IN_PUBLISH");
    let zero = packet(0x82, b"\0\x01\x02\x0b\0\0\x01a\0");
    protocol_error(V5, &zero, "SUBSCRIPTION_IDENTIFIER_ZERO");
    taken(V5, &packet(0x82, b"\0\x01\x02\x0b\x01\0\x01a\0"));
}

#[test]
fn a_payload_that_claims_utf_8_is_utf_8() {
    let frame = packet(0x30, b"\0\x01a\x02\x01\x01\xff");
    refused(
        V5,
        &frame,
        "PAYLOAD_NOT_UTF_8",
        Reason::PAYLOAD_FORMAT_INVALID,
    );
    taken(V5, &packet(0x30, b"\0\x01a\x02\x01\x00\xff"));
    let will = connect(V5, 0x06, b"\0\0\x01c\x02\x01\x01\0\x01w\0\x01\xff");
    refused(
        V5,
        &will,
        "PAYLOAD_NOT_UTF_8",
        Reason::PAYLOAD_FORMAT_INVALID,
    );
}

#[test]
fn a_packet_identifier_is_not_zero() {
    for frame in [
        packet(0x32, b"\0\x01a\0\0"),
        packet(0x40, b"\0\0"),
        packet(0x82, b"\0\0\0\x01a\0"),
        packet(0xa2, b"\0\0\0\x01a"),
    ] {
        protocol_error(V3, &frame, "PACKET_IDENTIFIER_ZERO");
    }
}

#[test]
fn quality_of_service_3_and_a_repeated_qos_0_do_not_exist() {
    malformed(V3, &packet(0x36, b"\0\x01a\0\x01"), "PUBLISH_QOS");
    malformed(V3, &packet(0x38, b"\0\x01a"), "DUP_AT_QOS_0");
}

#[test]
fn a_subscription_asks_for_something() {
    protocol_error(V3, &packet(0x82, b"\0\x01"), "NO_TOPIC_FILTER");
    protocol_error(V5, &packet(0xa2, b"\0\x01\0"), "NO_TOPIC_FILTER");
    malformed(V3, &packet(0x82, b"\0\x01\0\x01a"), "FIELD_PAST_END");
}

#[test]
fn a_client_cannot_speak_as_a_server() {
    for frame in [
        packet(0x20, b"\0\0"),
        packet(0x90, b"\0\x01\0"),
        packet(0xb0, b"\0\x01"),
        packet(0xd0, b""),
    ] {
        protocol_error(V3, &frame, "WRONG_SENDER");
        assert!(decode_from_server(V3, &frame).is_ok());
    }
    // Session taken over, and a server reference.
    protocol_error(V5, &packet(0xe0, b"\x8e"), "REASON_CODE");
    let reference = packet(0xe0, b"\x00\x04\x1c\0\x01s");
    protocol_error(V5, &reference, "PROPERTY_OF_OTHER_SIDE");
    taken(V5, &packet(0xe0, b"\x04"));
    taken(V5, &packet(0xe0, b"\x00\x05\x11\0\0\0\x01"));
}

#[test]
fn a_server_cannot_speak_as_a_client() {
    for frame in [
        connect(V3, 2, b"\0\0"),
        packet(0x82, b"\0\x01\0\x01a\0"),
        packet(0xa2, b"\0\x01\0\x01a"),
        packet(0xc0, b""),
        packet(0xe0, b""),
    ] {
        let refusal = decode_from_server(V3, &frame).unwrap_err();
        assert_eq!(rule_name(&refusal), "WRONG_SENDER", "{frame:02x?}");
    }
    assert!(decode_from_server(V5, &packet(0xe0, b"\x98")).is_ok());
    assert!(decode_from_server(V5, &packet(0xe0, b"\x04")).is_err());
}

#[test]
fn authentication_without_a_method_is_refused() {
    protocol_error(V5, &packet(0xf0, b""), "AUTHENTICATION_METHOD_MISSING");
    protocol_error(
        V5,
        &packet(0xf0, b"\x18\0"),
        "AUTHENTICATION_METHOD_MISSING",
    );
    // Success is the server's to say.
    protocol_error(V5, &packet(0xf0, b"\0\x04\x15\0\x01m"), "REASON_CODE");
    taken(V5, &packet(0xf0, b"\x18\x04\x15\0\x01m"));
}

#[test]
fn reason_codes_are_those_of_the_packet() {
    protocol_error(V5, &packet(0x40, b"\0\x01\x92"), "REASON_CODE");
    protocol_error(V5, &packet(0x62, b"\0\x01\x87"), "REASON_CODE");
    taken(V5, &packet(0x40, b"\0\x01\x87"));
    taken(V5, &packet(0x62, b"\0\x01\x92"));
    assert!(decode_from_server(V3, &packet(0x20, b"\0\x06")).is_err());
    assert!(decode_from_server(V3, &packet(0x90, b"\0\x01\x87")).is_err());
    assert!(decode_from_server(V5, &packet(0x90, b"\0\x01\0\x87")).is_ok());
    assert!(decode_from_server(V3, &packet(0x20, b"\x01\x05")).is_err());
}

#[test]
fn a_password_is_not_printed() {
    let frame = connect(V5, 0xc2, b"\0\0\x01c\0\x04user\0\x06hunter");
    let printed = format!("{:?}", decode(V5, &frame).unwrap());
    assert!(
        !printed.contains("hunter") && !printed.contains("104, 117"),
        "{printed}"
    );
}

/// What a decoder must never do, over a million strange frames: panic, read past the frame, or
/// lend something that is not what it says.
#[test]
fn mutated_packets_neither_panic_nor_lend_half_valid_values() {
    let mut random = Random::new(0x666c_6565);
    for round in 0..200_000 {
        let version = if round % 2 == 0 { V3 } else { V5 };
        let mut bytes = frame(&mut random, version);
        for _ in 0..3 {
            mutate(&mut random, &mut bytes);
            let _ = connect_version(&bytes);
            let _ = frame_length(&bytes, 64);
            if let Ok(packet) = decode_from_server(version, &bytes) {
                check(&packet);
            }
            if let Ok(packet) = decode(version, &bytes) {
                check(&packet);
                assert_eq!(frame_length(&bytes, 4096), Ok(Some(bytes.len())));
            }
        }
    }
}

fn check(packet: &Packet<'_>) {
    match packet {
        Packet::Publish(p) => {
            assert!(mqtt::is_topic(p.topic) || (p.topic.is_empty() && p.topic_alias.is_some()));
            assert_eq!(p.packet_id.is_some(), p.qos != mqtt::Qos::AtMostOnce);
            assert!(!p.dup || p.packet_id.is_some());
            assert_ne!(p.packet_id, Some(0));
            assert_ne!(p.topic_alias, Some(0));
            assert!(p.forward.response_topic().is_none_or(mqtt::is_topic));
            assert!(!p.forward.payload_is_utf_8() || str::from_utf8(p.payload).is_ok());
        }
        Packet::Connect(c) => {
            assert!(c.will.is_none_or(|will| mqtt::is_topic(will.topic)));
            assert!(c.receive_maximum != Some(0) && c.packet_bytes_max != Some(0));
        }
        Packet::Subscribe(s) => {
            assert!(s.entries().count() > 0);
            assert!(s.entries().all(|e| mqtt::Filter::new(e.filter).is_ok()));
        }
        Packet::Unsubscribe(u) => {
            assert!(u.filters().count() > 0);
            assert!(u.filters().all(|f| mqtt::Filter::new(f).is_ok()));
        }
        _ => {}
    }
    // Nothing that is printed may panic either.
    let _ = format!("{packet:?}");
}
