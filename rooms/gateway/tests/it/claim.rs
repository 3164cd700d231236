//! What the holder of a claim certificate may do, and the attacks on it.

use gateway::{ClaimAsk, ClaimCall, ClaimEnd, ClaimSession, ClaimTopic};
use mqtt::encode::PublishFields;
use mqtt::{Connect, ForwardProperties, Packet, Qos, Version};

const QUESTION: &str = "$aws/certificates/create-from-csr/json";
const ENROLL: &str = "$aws/provisioning-templates/line-1/provision/cbor";

struct Device {
    session: ClaimSession,
    version: Version,
    out: Vec<u8>,
}

impl Device {
    fn new(version: Version) -> Self {
        Self {
            session: ClaimSession::new("line-1".to_owned()),
            version,
            out: Vec::new(),
        }
    }

    fn connected(version: Version) -> Self {
        let mut device = Self::new(version);
        let mut frame = Vec::new();
        mqtt::encode::connect(&mut frame, &Connect::new(version, "whatever"));
        assert_eq!(device.send(&frame), Ok(None));
        device.heard(|packet| assert!(matches!(packet, Packet::Connack(ack) if ack.reason.0 == 0)));
        device
    }

    fn send(&mut self, frame: &[u8]) -> Result<Option<ClaimAsk>, ClaimEnd> {
        let (consumed, ask) = self.session.receive(frame, &mut self.out)?;
        assert_eq!(consumed, frame.len());
        Ok(ask)
    }

    fn subscribe(&mut self, filter: &str) -> Result<Option<ClaimAsk>, ClaimEnd> {
        let mut frame = Vec::new();
        let entries = [(filter, Qos::AtLeastOnce)];
        mqtt::encode::subscribe(&mut frame, self.version, 7, &entries);
        self.send(&frame)
    }

    fn publish(&mut self, topic: &str) -> Result<Option<ClaimAsk>, ClaimEnd> {
        let frame = published(self.version, topic);
        self.send(&frame)
    }

    /// The one packet that was sent to it.
    fn heard<T>(&mut self, read: impl FnOnce(Packet<'_>) -> T) -> T {
        let out = std::mem::take(&mut self.out);
        read(mqtt::decode_from_server(self.version, &out).unwrap())
    }
}

fn published(version: Version, topic: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    let fields = PublishFields {
        dup: false,
        qos: Qos::AtLeastOnce,
        retain: false,
        topic,
        packet_id: Some(9),
        topic_alias: None,
        forward: ForwardProperties::NONE,
        payload: b"{}",
    };
    mqtt::encode::publish(&mut frame, version, &fields);
    frame
}

#[test]
fn what_it_asks_is_answered_where_it_listens() {
    for version in [Version::V311, Version::V5] {
        let mut device = Device::connected(version);
        for end in ["accepted", "rejected"] {
            assert_eq!(device.subscribe(&format!("{QUESTION}/{end}")), Ok(None));
            device.heard(|packet| match packet {
                Packet::Suback(ack) => assert!(ack.reasons().all(|reason| !reason.is_failure())),
                other => panic!("{other:?}"),
            });
        }
        let asked = device.publish(QUESTION).unwrap().unwrap();
        let call = ClaimCall::CertificateForRequest;
        assert_eq!(asked.topic, ClaimTopic { call, cbor: false });
        device.heard(|packet| assert!(matches!(packet, Packet::Puback(_))));
        // Until the answer nothing more is read.
        let more = published(version, QUESTION);
        assert_eq!(
            device.session.receive(&more, &mut device.out),
            Ok((0, None))
        );
        device.session.answer(true, b"yes", &mut device.out);
        device.heard(|packet| match packet {
            Packet::Publish(publish) => {
                assert_eq!(publish.topic, format!("{QUESTION}/accepted"));
                assert_eq!(publish.payload, b"yes");
            }
            other => panic!("{other:?}"),
        });
        // It has not asked to hear of this one, and an answer is given once.
        device.publish(ENROLL).unwrap().unwrap();
        device.heard(|packet| assert!(matches!(packet, Packet::Puback(_))));
        device.session.answer(true, b"yes", &mut device.out);
        device.session.answer(true, b"yes", &mut device.out);
        assert!(device.out.is_empty());
    }
}

#[test]
fn a_claim_certificate_used_to_publish_telemetry_or_to_listen_ends_the_connection() {
    for version in [Version::V311, Version::V5] {
        for topic in [
            "v1/sensor/d1/telemetry/temperature",
            "$fleetward/devices/d1/enroll",
            "$aws/provisioning-templates/line-2/provision/json",
            "$aws/certificates/create-from-csr/json/accepted",
            "$aws/things/d1/shadow/update",
        ] {
            let told = Device::connected(version).publish(topic);
            let (action, topic) = ("publish", topic.to_owned());
            assert_eq!(told, Err(ClaimEnd::Denied { action, topic }));
        }
        for filter in [
            "#",
            "$aws/#",
            "$aws/certificates/create-from-csr/json/+",
            "$aws/certificates/create-from-csr/json",
            "$aws/provisioning-templates/line-2/provision/json/accepted",
            "$share/g/$aws/certificates/create-from-csr/json/accepted",
            "$fleetward/devices/d1/certificate",
        ] {
            let mut device = Device::connected(version);
            let told = device.subscribe(filter);
            let (action, topic) = ("subscribe", filter.to_owned());
            assert_eq!(told, Err(ClaimEnd::Denied { action, topic }));
            device.heard(|packet| match packet {
                Packet::Suback(ack) => assert!(ack.reasons().all(|reason| reason.is_failure())),
                other => panic!("{other:?}"),
            });
        }
    }
}

#[test]
fn a_will_and_a_flood_are_refused() {
    for version in [Version::V311, Version::V5] {
        let mut device = Device::new(version);
        let mut connect = Connect::new(version, "x");
        connect.will = Some(mqtt::Will {
            qos: Qos::AtMostOnce,
            retain: false,
            topic: "v1/sensor/d1/telemetry/x",
            payload: b"lies",
            delay_seconds: 0,
            forward: ForwardProperties::NONE,
        });
        let mut frame = Vec::new();
        mqtt::encode::connect(&mut frame, &connect);
        let told = device.send(&frame);
        assert!(
            matches!(told, Err(ClaimEnd::Denied { action: "will", .. })),
            "{told:?}"
        );

        let mut device = Device::connected(version);
        for _ in 0..16 {
            device.publish(QUESTION).unwrap().unwrap();
            device.session.answer(false, b"no", &mut device.out);
        }
        assert_eq!(device.publish(QUESTION), Err(ClaimEnd::TooMuch));
        let mut device = Device::connected(version);
        let mut ping = Vec::new();
        mqtt::encode::pingreq(&mut ping);
        let ended = (0..300).find_map(|_| device.send(&ping).err());
        assert_eq!(ended, Some(ClaimEnd::TooMuch));
    }
}

#[test]
fn what_is_no_packet_ends_it_and_a_part_of_one_waits() {
    let frame = published(Version::V311, QUESTION);
    let mut device = Device::connected(Version::V311);
    let part = &frame[..frame.len() - 1];
    assert_eq!(device.session.receive(part, &mut device.out), Ok((0, None)));
    assert!(device.send(&frame).unwrap().is_some());
    for bytes in [&[0x30, 0xff, 0xff, 0xff, 0x7f][..], &[0xf0, 0], &frame] {
        let told = Device::new(Version::V311).send(bytes);
        assert!(matches!(told, Err(ClaimEnd::Protocol(_))), "{told:?}");
    }
}
