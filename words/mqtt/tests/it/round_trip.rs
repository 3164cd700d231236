//! What is written is read back the same, by us and by the second implementation.

use crate::oracle::{Outcome, compare};
use mqtt::encode::{self, ConnackFields, PublishFields};
use mqtt::{
    Connect, ForwardProperties, Packet, Qos, Reason, Version, Will, decode, decode_from_server,
    frame_length,
};
use proptest::prelude::*;

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
}

fn qos() -> impl Strategy<Value = Qos> {
    prop_oneof![
        Just(Qos::AtMostOnce),
        Just(Qos::AtLeastOnce),
        Just(Qos::ExactlyOnce)
    ]
}

/// Encoded properties of a message, in some order, each at most once but for user properties.
fn forward() -> impl Strategy<Value = Vec<u8>> {
    let text = "[a-zä]{0,40}".prop_map(|t: String| string(t.as_bytes()));
    let one = prop_oneof![
        any::<u32>().prop_map(|v| [&[2][..], &v.to_be_bytes()].concat()),
        text.clone().prop_map(|t| [&[3][..], &t].concat()),
        "[a-z/$]{1,40}".prop_map(|t: String| [&[8][..], &string(t.as_bytes())].concat()),
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| [
            &[9][..],
            &string(&bytes)
        ]
        .concat()),
        (text.clone(), text).prop_map(|(k, v)| [&[0x26][..], &k, &v].concat()),
        Just(vec![1, 0]),
    ];
    proptest::collection::vec(one, 0..6).prop_map(|all| {
        let mut seen = Vec::new();
        let mut bytes = Vec::new();
        for property in all {
            let id = property[0];
            if id == 0x26 || !seen.contains(&id) {
                seen.push(id);
                bytes.extend_from_slice(&property);
            }
        }
        bytes
    })
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// Appends behind something that must stay as it is, and hands back the packet alone.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = b"before".to_vec();
    write(&mut out);
    assert_eq!(&out[..6], b"before");
    out.split_off(6)
}

/// Every packet that we write is whole and means something to the second implementation too.
fn check_frame(version: Version, frame: &[u8], unless: &str) {
    assert_eq!(frame_length(frame, frame.len()), Ok(Some(frame.len())));
    for outcome in compare(version, frame).unwrap() {
        let excepted = matches!(outcome, Outcome::TheirsWrong(_, case) if case == unless)
            || matches!(outcome, Outcome::OursStricter(_, rule) if rule == unless);
        assert!(outcome == Outcome::BothAccept || excepted, "{outcome:?}");
    }
}

proptest! {
    #[test]
    fn publish(
        version in version(), qos in qos(), dup: bool, retain: bool,
        topic in "[a-z/ä$]{1,200}", id in 1u16.., alias in proptest::option::of(1u16..),
        properties in forward(), payload in proptest::collection::vec(any::<u8>(), 0..20_000),
    ) {
        let v5 = version == Version::V5;
        let message = PublishFields {
            dup: dup && qos != Qos::AtMostOnce,
            qos,
            retain,
            topic: &topic,
            packet_id: (qos != Qos::AtMostOnce).then_some(id),
            topic_alias: alias.filter(|_| v5),
            forward: if v5 { ForwardProperties::from_validated(&properties) } else { ForwardProperties::NONE },
            payload: &payload,
        };
        let frame = written(|out| encode::publish(out, version, &message));
        prop_assert_eq!(frame.len(), encode::publish_length(version, &message));
        prop_assert_eq!(decode(version, &frame), Ok(Packet::Publish(message)));
        prop_assert_eq!(decode_from_server(version, &frame), Ok(Packet::Publish(message)));
        check_frame(version, &frame, "");
    }

    #[test]
    fn properties_travel_as_they_came_around_an_alias(
        before in forward(), after in "[a-z]{0,9}", alias in 1u16.., left: u32,
    ) {
        let user = [&[0x26][..], &string(b"k"), &string(after.as_bytes())].concat();
        let block = [&before[..], &[0x23], &alias.to_be_bytes(), &user].concat();
        let body = [&[0, 1, b'a'][..], &varint(block.len()), &block, b"payload"].concat();
        let frame = [&[0x30][..], &varint(body.len()), &body].concat();
        let Ok(Packet::Publish(publish)) = decode(Version::V5, &frame) else {
            return Err(TestCaseError::fail("refused"));
        };
        let travelling = [&before[..], &user].concat();
        prop_assert_eq!(&*publish.forward.as_bytes(), &travelling[..]);
        prop_assert_eq!(publish.forward.encoded_length(), travelling.len());
        prop_assert_eq!(publish.forward.user_properties().last(), Some(("k", after.as_str())));

        // Waiting shortens the expiry where there is one, and changes nothing else.
        let stored = publish.forward.as_bytes().into_owned();
        let mut expected = ForwardProperties::from_validated(&stored).with_expiry_left(left);
        let had_one = publish.forward.message_expiry_seconds().is_some();
        prop_assert_eq!(expected.message_expiry_seconds(), had_one.then_some(left));
        prop_assert_eq!(expected.encoded_length(), travelling.len());
        let rewritten = expected.as_bytes().into_owned();
        expected = ForwardProperties::from_validated(&rewritten);
        prop_assert_eq!(expected.message_expiry_seconds(), had_one.then_some(left));
        prop_assert_eq!(expected.content_type(), publish.forward.content_type());
        prop_assert_eq!(expected.response_topic(), publish.forward.response_topic());
        prop_assert_eq!(expected.correlation_data(), publish.forward.correlation_data());
    }

    #[test]
    fn connect(
        version in version(), client_id in "[a-z0-9-]{1,64}", clean_start: bool, keep_alive: u16,
        credentials in (proptest::option::of("[a-z]{0,9}"), proptest::option::of(any::<[u8; 5]>())),
        will in proptest::option::of((qos(), any::<bool>(), "[a-z/]{1,20}", any::<[u8; 4]>(), any::<u32>(), forward())),
        numbers in (proptest::option::of(any::<u32>()), proptest::option::of(1u16..), proptest::option::of(1u32..), proptest::option::of(any::<u16>())),
        problem: bool, response: bool, method in proptest::option::of("[a-z]{0,9}"),
    ) {
        let v5 = version == Version::V5;
        let (username, password) = &credentials;
        let wanted = Connect {
            clean_start,
            keep_alive_seconds: keep_alive,
            will: will.as_ref().map(|(qos, retain, topic, payload, delay, properties)| Will {
                qos: *qos,
                retain: *retain,
                topic,
                payload,
                delay_seconds: if v5 { *delay } else { 0 },
                forward: if v5 { ForwardProperties::from_validated(properties) } else { ForwardProperties::NONE },
            }),
            username: username.as_deref(),
            password: password.as_ref().map(|p| &p[..]).filter(|_| v5 || username.is_some()),
            session_expiry_seconds: numbers.0.filter(|_| v5),
            receive_maximum: numbers.1.filter(|_| v5),
            packet_bytes_max: numbers.2.filter(|_| v5),
            topic_alias_maximum: numbers.3.filter(|_| v5),
            request_problem_information: problem || !v5,
            request_response_information: response && v5,
            authentication_method: method.as_deref().filter(|_| v5),
            ..Connect::new(version, &client_id)
        };
        let frame = written(|out| encode::connect(out, &wanted));
        prop_assert_eq!(mqtt::connect_version(&frame), Ok(version));
        prop_assert_eq!(decode(version, &frame), Ok(Packet::Connect(wanted)));
        check_frame(version, &frame, "password without user name");
    }

    #[test]
    fn connack(
        present: bool, flags: [bool; 5], alias: u16,
        numbers in (proptest::option::of(any::<u32>()), proptest::option::of(1u16..), proptest::option::of(1u32..), proptest::option::of(any::<u16>())),
        assigned in proptest::option::of("[a-z]{1,30}"), text in proptest::option::of("[a-zä]{0,80}"),
    ) {
        let wanted = ConnackFields {
            session_present: present,
            reason: Reason::SUCCESS,
            session_expiry_seconds: numbers.0,
            receive_maximum: numbers.1,
            maximum_qos_1: flags[0],
            retain_available: flags[1],
            packet_bytes_max: numbers.2,
            assigned_client_id: assigned.as_deref(),
            topic_alias_maximum: alias,
            reason_string: text.as_deref(),
            wildcard_available: flags[2],
            subscription_ids_available: flags[3],
            shared_available: flags[4],
            server_keep_alive_seconds: numbers.3,
        };
        let frame = written(|out| encode::connack(out, Version::V5, &wanted));
        prop_assert_eq!(decode_from_server(Version::V5, &frame), Ok(Packet::Connack(wanted)));
        check_frame(Version::V5, &frame, "");

        let frame = written(|out| encode::connack(out, Version::V311, &wanted));
        prop_assert_eq!(frame, vec![0x20, 2, u8::from(present), 0]);
    }

    #[test]
    fn acknowledgements(version in version(), id in 1u16.., text in proptest::option::of("[a-zä]{0,200}"), which in 0usize..4, ok: bool) {
        let reason = match (ok, which) {
            (true, _) => Reason::SUCCESS,
            (false, 0 | 1) => Reason::NOT_AUTHORIZED,
            (false, _) => Reason::PACKET_IDENTIFIER_NOT_FOUND,
        };
        let write = [encode::puback, encode::pubrec, encode::pubrel, encode::pubcomp][which];
        let frame = written(|out| write(out, version, id, reason, text.as_deref()));
        let ack = match decode(version, &frame) {
            Ok(Packet::Puback(a)) if which == 0 => a,
            Ok(Packet::Pubrec(a)) if which == 1 => a,
            Ok(Packet::Pubrel(a)) if which == 2 => a,
            Ok(Packet::Pubcomp(a)) if which == 3 => a,
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert_eq!(ack.packet_id, id);
        if version == Version::V5 {
            prop_assert_eq!(ack.reason, reason);
            prop_assert_eq!(ack.reason_string, text.as_deref());
        } else {
            prop_assert_eq!(ack.reason, Reason::SUCCESS);
            prop_assert_eq!(frame.len(), 4);
        }
        check_frame(version, &frame, "");
    }

    #[test]
    fn subscriptions(version in version(), id in 1u16.., entries in proptest::collection::vec(("([a-z$]{1,9}/){0,3}[+#]", qos()), 1..9)) {
        let entries: Vec<(&str, Qos)> = entries.iter().map(|(f, q)| (f.as_str(), *q)).collect();
        let frame = written(|out| encode::subscribe(out, version, id, &entries));
        let Ok(Packet::Subscribe(read)) = decode(version, &frame) else {
            return Err(TestCaseError::fail("refused"));
        };
        prop_assert_eq!(read.packet_id, id);
        prop_assert!(read.entries().map(|e| (e.filter, e.qos)).eq(entries.iter().copied()));
        check_frame(version, &frame, "");

        let filters: Vec<&str> = entries.iter().map(|(filter, _)| *filter).collect();
        let frame = written(|out| encode::unsubscribe(out, version, id, &filters));
        let Ok(Packet::Unsubscribe(read)) = decode(version, &frame) else {
            return Err(TestCaseError::fail("refused"));
        };
        prop_assert_eq!(read.packet_id, id);
        prop_assert!(read.filters().eq(filters.iter().copied()));
        check_frame(version, &frame, "");

        let reasons: Vec<Reason> = entries.iter().map(|(_, qos)| qos.granted()).chain([Reason::NOT_AUTHORIZED]).collect();
        let frame = written(|out| encode::suback(out, version, id, &reasons, Some("why")));
        let Ok(Packet::Suback(read)) = decode_from_server(version, &frame) else {
            return Err(TestCaseError::fail("refused"));
        };
        prop_assert_eq!(read.reasons().len(), reasons.len());
        let last = if version == Version::V5 { Reason::NOT_AUTHORIZED } else { Reason::UNSPECIFIED_ERROR };
        prop_assert_eq!(read.reasons().last(), Some(last));
        prop_assert_eq!(read.reason_string, (version == Version::V5).then_some("why"));
        check_frame(version, &frame, "");

        let frame = written(|out| encode::unsuback(out, version, id, &[Reason::NO_SUBSCRIPTION_EXISTED]));
        let Ok(Packet::Unsuback(read)) = decode_from_server(version, &frame) else {
            return Err(TestCaseError::fail("refused"));
        };
        prop_assert_eq!(read.reasons().len(), usize::from(version == Version::V5));
        check_frame(version, &frame, "");
    }
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 127) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 128);
    }
}

#[test]
fn lengths_at_every_edge_of_the_variable_byte_integer() {
    for version in [Version::V311, Version::V5] {
        for payload_bytes in [
            0, 120, 121, 122, 123, 124, 125, 16_370, 16_380, 16_384, 2_097_140, 2_097_160,
        ] {
            let payload = vec![b'x'; payload_bytes];
            let message = PublishFields {
                dup: false,
                qos: Qos::AtLeastOnce,
                retain: false,
                topic: "t",
                packet_id: Some(1),
                topic_alias: None,
                forward: ForwardProperties::NONE,
                payload: &payload,
            };
            let frame = written(|out| encode::publish(out, version, &message));
            assert_eq!(frame.len(), encode::publish_length(version, &message));
            assert_eq!(decode(version, &frame), Ok(Packet::Publish(message)));
        }
    }
    // A SUBACK whose length takes two and three bytes: the length is written after the body.
    for filters in [120, 130, 16_380, 16_390] {
        let reasons = vec![Reason::SUCCESS; filters];
        let frame = written(|out| encode::suback(out, Version::V5, 7, &reasons, None));
        check_frame(Version::V5, &frame, "");
    }
}

#[test]
fn what_the_wire_cannot_say_is_not_said() {
    let long = "x".repeat(65_536);
    let message = PublishFields {
        dup: false,
        qos: Qos::AtMostOnce,
        retain: false,
        topic: &long,
        packet_id: None,
        topic_alias: None,
        forward: ForwardProperties::NONE,
        payload: b"",
    };
    assert!(written(|out| encode::publish(out, Version::V5, &message)).is_empty());
    let filters = [(long.as_str(), Qos::AtMostOnce)];
    assert!(written(|out| encode::subscribe(out, Version::V5, 1, &filters)).is_empty());
    let connect = Connect::new(Version::V5, &long);
    assert!(written(|out| encode::connect(out, &connect)).is_empty());
    // A reason string is cut at a character, not refused.
    let text = "ä".repeat(10_000);
    let frame =
        written(|out| encode::puback(out, Version::V5, 1, Reason::NOT_AUTHORIZED, Some(&text)));
    assert!(frame.len() < 600);
    check_frame(Version::V5, &frame, "");
}

#[test]
fn a_refusal_in_3_1_1_has_its_return_code_or_silence() {
    for (reason, bytes) in [
        (Reason::UNSUPPORTED_PROTOCOL_VERSION, &[0x20, 2, 0, 1][..]),
        (Reason::CLIENT_IDENTIFIER_NOT_VALID, &[0x20, 2, 0, 2]),
        (Reason::SERVER_BUSY, &[0x20, 2, 0, 3]),
        (Reason::BAD_USER_NAME_OR_PASSWORD, &[0x20, 2, 0, 4]),
        (Reason::NOT_AUTHORIZED, &[0x20, 2, 0, 5]),
        (Reason::MALFORMED_PACKET, &[]),
        (Reason::PROTOCOL_ERROR, &[]),
    ] {
        // A session is never present after a refusal, whatever the caller says.
        let fields = ConnackFields {
            reason,
            session_present: true,
            ..ConnackFields::default()
        };
        assert_eq!(
            written(|out| encode::connack(out, Version::V311, &fields)),
            bytes
        );
        let frame = written(|out| encode::connack(out, Version::V5, &fields));
        assert_eq!(frame, [0x20, 3, 0, reason.0, 0]);
        check_frame(Version::V5, &frame, "");
    }
}

#[test]
fn goodbyes() {
    use encode::{disconnect, disconnect_by_client};
    assert!(written(|out| disconnect(out, Version::V311, Reason::NOT_AUTHORIZED, None)).is_empty());
    let frame = written(|out| disconnect_by_client(out, Version::V311, Reason::SUCCESS));
    assert_eq!(frame, [0xe0, 0]);
    let frame = written(|out| disconnect_by_client(out, Version::V5, Reason::DISCONNECT_WITH_WILL));
    assert_eq!(frame, [0xe0, 1, 4]);
    let frame = written(|out| {
        disconnect(
            out,
            Version::V5,
            Reason::ADMINISTRATIVE_ACTION,
            Some("revoked"),
        )
    });
    let Ok(Packet::Disconnect(read)) = decode_from_server(Version::V5, &frame) else {
        panic!("refused")
    };
    assert_eq!(read.reason, Reason::ADMINISTRATIVE_ACTION);
    assert_eq!(read.reason_string, Some("revoked"));
    check_frame(Version::V5, &frame, "");
    for (write, first) in [
        (encode::pingreq as fn(&mut Vec<u8>), 0xc0),
        (encode::pingresp, 0xd0),
    ] {
        assert_eq!(written(write), [first, 0]);
    }
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let named: Vec<&str> = (0..=255)
        .map(|code| Reason(code).name())
        .filter(|name| *name != "unknown-reason")
        .collect();
    assert_eq!(named.len(), 43, "table 2-6");
    let mut distinct = named.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), named.len());
}

#[test]
fn a_subscription_is_asked_for_with_all_its_options_and_named_in_what_it_brings() {
    let entry = mqtt::SubscribeEntry {
        filter: "a/+",
        qos: Qos::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: 2,
    };
    let mut out = Vec::new();
    mqtt::encode::subscribe_with(&mut out, Version::V5, 9, Some(456_789), [entry]);
    let Packet::Subscribe(subscribe) = mqtt::decode(Version::V5, &out).unwrap() else {
        panic!("{out:?}")
    };
    assert_eq!(subscribe.subscription_id, Some(456_789));
    assert_eq!(subscribe.entries().collect::<Vec<_>>(), [entry]);

    let mut identifiers = Vec::new();
    for identifier in [2, 456_789] {
        mqtt::encode::subscription_identifier(&mut identifiers, identifier);
    }
    // User property "a" = "b" of the publisher, then what the server adds.
    let forward = ForwardProperties::from_validated(b"\x26\0\x01a\0\x01b");
    let publish = mqtt::Publish {
        dup: false,
        qos: Qos::AtMostOnce,
        retain: false,
        topic: "a/b",
        packet_id: None,
        topic_alias: Some(1),
        forward: forward.with_subscription_ids(&identifiers),
        payload: b"x",
    };
    let mut out = Vec::new();
    mqtt::encode::publish(&mut out, Version::V5, &publish);
    assert_eq!(
        out.len(),
        mqtt::encode::publish_length(Version::V5, &publish)
    );
    let Packet::Publish(heard) = mqtt::decode_from_server(Version::V5, &out).unwrap() else {
        panic!("{out:?}")
    };
    let named: Vec<u32> = heard.forward.subscription_ids().collect();
    assert_eq!(named, [2, 456_789]);
    assert_eq!(
        heard.forward.user_properties().collect::<Vec<_>>(),
        [("a", "b")]
    );
    assert!(
        mqtt::decode(Version::V5, &out).is_err(),
        "a client never says that"
    );
}
