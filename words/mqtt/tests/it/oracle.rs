//! One frame through our decoder and through mqtt-protocol-core, and the written list of where
//! the two may differ. The fuzz target `mqtt_packet` includes this file as it is.

use mqtt::{Malformed, Packet, Version};
use mqtt_protocol_core::mqtt::packet as theirs;
use mqtt_protocol_core::mqtt::packet::{Property, v3_1_1, v5_0};
use std::sync::Arc;

/// What the two said of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Both took it and read the same in it.
    BothAccept,
    BothRefuse,
    /// Ours refused what theirs took, by an entry of [`OURS_STRICTER`].
    OursStricter(&'static str, &'static str),
    /// Ours took what theirs refused, by an entry of [`THEIRS_WRONG`].
    TheirsWrong(&'static str, &'static str),
}

/// Where we refuse and they do not. Being stricter is never a danger, yet each case is written
/// down: an entry that nobody can explain is a bug.
pub struct Stricter {
    pub rule: &'static str,
    pub packets: &'static [&'static str],
    /// Why we are right.
    pub why: &'static str,
}

const WITH_PROPERTIES: &[&str] = &[
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "DISCONNECT",
    "AUTH",
];

pub const OURS_STRICTER: &[Stricter] = &[
    Stricter {
        rule: "AUTHENTICATION_METHOD_MISSING",
        packets: &["CONNECT", "CONNACK", "AUTH"],
        why: "authentication data without a method is a Protocol Error (3.1.2.11.10); an AUTH \
              without one means nothing (3.15.2.2.2)",
    },
    Stricter {
        rule: "CLIENT_IDENTIFIER_EMPTY",
        packets: &["CONNECT"],
        why: "MQTT-3.1.3-8: they leave it to the session",
    },
    Stricter {
        rule: "CONNACK_FLAGS",
        packets: &["CONNACK"],
        why: "MQTT-3.2.2-1 (reserved bits) and MQTT-3.2.2-6 (no session present on refusal)",
    },
    Stricter {
        rule: "CONNECT_RESERVED_FLAG",
        packets: &["CONNECT"],
        why: "MQTT-3.1.2-3: the server must validate that it is 0",
    },
    Stricter {
        rule: "DUP_AT_QOS_0",
        packets: &["PUBLISH"],
        why: "MQTT-3.3.1-2",
    },
    Stricter {
        rule: "FIELD_PAST_END",
        packets: &["PUBLISH"],
        why: "the property length of a PUBLISH may not be left out (MQTT 5: 3.3.2.3.1)",
    },
    Stricter {
        rule: "FILTER_EMPTY",
        packets: &["SUBSCRIBE", "UNSUBSCRIBE"],
        why: "MQTT-4.7.3-1",
    },
    Stricter {
        rule: "FILTER_MULTI_LEVEL",
        packets: &["SUBSCRIBE", "UNSUBSCRIBE"],
        why: "MQTT-4.7.1-1 (3.1.1: 4.7.1-2)",
    },
    Stricter {
        rule: "FILTER_SINGLE_LEVEL",
        packets: &["SUBSCRIBE", "UNSUBSCRIBE"],
        why: "MQTT-4.7.1-2 (3.1.1: 4.7.1-3)",
    },
    Stricter {
        rule: "LENGTH_NOT_MINIMAL",
        packets: WITH_PROPERTIES,
        why: "MQTT-1.5.5-1, also for the property length and for identifiers",
    },
    Stricter {
        rule: "NO_LOCAL_ON_SHARE",
        packets: &["SUBSCRIBE"],
        why: "MQTT-3.8.3-4",
    },
    Stricter {
        rule: "NULL_CHARACTER",
        packets: WITH_PROPERTIES,
        why: "MQTT-1.5.4-2 (3.1.1: 1.5.3-2)",
    },
    Stricter {
        rule: "PACKET_IDENTIFIER_ZERO",
        packets: &["PUBLISH", "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK"],
        why: "MQTT-2.2.1-3 (3.1.1: 2.3.1-1)",
    },
    Stricter {
        rule: "PAYLOAD_NOT_UTF_8",
        packets: &["CONNECT", "PUBLISH"],
        why: "3.3.2.3.2 lets a receiver check what a sender must not get wrong",
    },
    Stricter {
        rule: "PROPERTY_OF_OTHER_SIDE",
        packets: &["DISCONNECT"],
        why: "MQTT-3.14.2-2; they do not know who sent it",
    },
    Stricter {
        rule: "PROPERTY_TWICE",
        packets: &["SUBSCRIBE"],
        why: "a second subscription identifier is a Protocol Error (3.8.2.1.2)",
    },
    Stricter {
        rule: "REASON_CODE",
        packets: &["DISCONNECT", "AUTH"],
        why: "the tables of 3.14.2.1 and 3.15.2.1 say who may send which; they do not know who did",
    },
    Stricter {
        rule: "SUBSCRIPTION_IDENTIFIER_IN_PUBLISH",
        packets: &["PUBLISH"],
        why: "MQTT-3.3.4-6; they do not know who sent it",
    },
    Stricter {
        rule: "SUBSCRIPTION_OPTIONS",
        packets: &["SUBSCRIBE"],
        why: "MQTT 3.1.1: 3.8.3-4; they take the options of MQTT 5 there",
    },
    Stricter {
        rule: "TOPIC_EMPTY",
        packets: &["CONNECT", "PUBLISH"],
        why: "MQTT-4.7.3-1, also for will and response topics",
    },
    Stricter {
        rule: "TOPIC_WILDCARD",
        packets: &["CONNECT", "PUBLISH"],
        why: "MQTT-3.3.2-2, MQTT-3.3.2-14, MQTT-4.7.0-1 (3.1.1: 4.7.1-1)",
    },
    Stricter {
        rule: "TRAILING_BYTES",
        packets: &["PUBACK", "PUBREC", "PUBREL", "PUBCOMP"],
        why: "an acknowledgement of 3.1.1 has exactly two bytes (3.4.1 to 3.7.1)",
    },
    Stricter {
        rule: "WILL_FLAGS",
        packets: &["CONNECT"],
        why: "MQTT-3.1.2-11 to MQTT-3.1.2-15",
    },
];

/// Where they refuse and we do not: (packet, case, why they are wrong).
pub const THEIRS_WRONG: &[(&str, &str, &str)] = &[(
    "CONNECT",
    "password without user name",
    "MQTT 5 allows it on purpose (3.1.2.9); only 3.1.1 forbids it",
)];

/// Reads `frame` as the packet of a client or a server, whichever can have sent it; a packet that
/// both can send is read as both.
///
/// # Errors
/// A difference that is not in the lists, in words.
pub fn compare(version: Version, frame: &[u8]) -> Result<Vec<Outcome>, String> {
    let packet_type = frame.first().map_or(0, |byte| byte >> 4);
    let (client, server): (Decoder, Decoder) = (mqtt::decode, mqtt::decode_from_server);
    let decoders: &[Decoder] = match packet_type {
        1 | 8 | 10 | 12 => &[client],
        2 | 9 | 11 | 13 => &[server],
        14 if version == Version::V311 => &[client],
        _ => &[client, server],
    };
    let other = decode_theirs(version, frame);
    decoders
        .iter()
        .map(|decode| judge(version, packet_type, decode(version, frame), &other))
        .collect()
}

type Decoder = for<'a> fn(Version, &'a [u8]) -> Result<Packet<'a>, Malformed>;

fn judge(
    version: Version,
    packet_type: u8,
    ours: Result<Packet<'_>, Malformed>,
    theirs: &Result<Theirs, String>,
) -> Result<Outcome, String> {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => same_reading(&ours, theirs).map(|()| Outcome::BothAccept),
        (Err(_), Err(_)) => Ok(Outcome::BothRefuse),
        (Err(refusal), Ok(_)) => {
            let packet = NAMES[usize::from(packet_type)];
            let rule = rule_name(&refusal);
            OURS_STRICTER
                .iter()
                .find(|entry| entry.rule == rule && entry.packets.contains(&packet))
                .map(|_| Outcome::OursStricter(packet, rule))
                .ok_or_else(|| format!("{version:?} {packet}: ours alone refuses by {rule}"))
        }
        (Ok(ours), Err(refusal)) => {
            let case = case_of_theirs_wrong(&ours);
            THEIRS_WRONG
                .iter()
                .find(|entry| entry.0 == ours.name() && Some(entry.1) == case)
                .map(|entry| Outcome::TheirsWrong(entry.0, entry.1))
                .ok_or_else(|| {
                    format!("{version:?}: ours is looser, theirs says {refusal}: {ours:?}")
                })
        }
    }
}

/// The cases of [`THEIRS_WRONG`], recognised by what the packet holds.
fn case_of_theirs_wrong(packet: &Packet<'_>) -> Option<&'static str> {
    match packet {
        Packet::Connect(c)
            if c.version == Version::V5 && c.password.is_some() && c.username.is_none() =>
        {
            Some("password without user name")
        }
        _ => None,
    }
}

const NAMES: [&str; 16] = [
    "0",
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "AUTH",
];

pub fn rule_name(refusal: &Malformed) -> &'static str {
    mqtt::RULES
        .iter()
        .find(|(_, rule)| rule == refusal)
        .map_or("not in RULES", |(name, _)| name)
}

enum Theirs {
    Connect3(v3_1_1::Connect),
    Connect5(v5_0::Connect),
    Connack3(v3_1_1::Connack),
    Connack5(v5_0::Connack),
    Publish3(v3_1_1::GenericPublish<u16>),
    Publish5(v5_0::GenericPublish<u16>),
    Subscribe3(v3_1_1::GenericSubscribe<u16>),
    Subscribe5(v5_0::GenericSubscribe<u16>),
    /// Identifier, and the codes or filters in order.
    Suback(u16, Vec<u8>),
    Unsubscribe(u16, Vec<String>),
    /// Identifier and reason.
    Ack(u16, u8),
    Disconnect(u8),
    Auth(u8),
    Ping,
}

/// Their parsers take a body; the fixed header is read here, apart from our own code.
fn decode_theirs(version: Version, frame: &[u8]) -> Result<Theirs, String> {
    let (first, body) = split_header(version, frame)?;
    let (packet_type, flags) = (first >> 4, first & 15);
    let expected_flags = match packet_type {
        3 => flags,
        6 | 8 | 10 => 2,
        _ => 0,
    };
    if flags != expected_flags {
        return Err("flags".into());
    }
    let (packet, used) = parse(version, packet_type, flags, body)?;
    if used == body.len() {
        Ok(packet)
    } else {
        Err("trailing bytes".into())
    }
}

fn split_header(version: Version, frame: &[u8]) -> Result<(u8, &[u8]), String> {
    let (first, mut rest) = frame.split_first().ok_or("no byte")?;
    let (mut length, mut bytes) = (0usize, 0);
    loop {
        let (byte, after) = rest.split_first().ok_or("no length")?;
        rest = after;
        length += usize::from(byte & 127) << (7 * bytes);
        bytes += 1;
        if byte & 128 == 0 {
            // MQTT 5 alone demands the shortest form.
            if version == Version::V5 && *byte == 0 && bytes > 1 {
                return Err("length not minimal".into());
            }
            break;
        }
        if bytes == 4 {
            return Err("five bytes of length".into());
        }
    }
    if rest.len() == length {
        Ok((*first, rest))
    } else {
        Err("not one frame".into())
    }
}

fn parse(
    version: Version,
    packet_type: u8,
    flags: u8,
    body: &[u8],
) -> Result<(Theirs, usize), String> {
    let text = |error| format!("{error:?}");
    macro_rules! via {
        ($parsed:expr, $wrap:expr) => {
            $parsed.map(|(p, used)| ($wrap(p), used)).map_err(text)
        };
    }
    let shared: Arc<[u8]> = body.into();
    match (version, packet_type) {
        (Version::V311, 1) => via!(v3_1_1::Connect::parse(body), Theirs::Connect3),
        (Version::V5, 1) => via!(v5_0::Connect::parse(body), Theirs::Connect5),
        (Version::V311, 2) => via!(v3_1_1::Connack::parse(body), Theirs::Connack3),
        (Version::V5, 2) => via!(v5_0::Connack::parse(body), Theirs::Connack5),
        (Version::V311, 3) => via!(
            v3_1_1::GenericPublish::<u16>::parse(flags, shared),
            Theirs::Publish3
        ),
        (Version::V5, 3) => via!(
            v5_0::GenericPublish::<u16>::parse(flags, shared),
            Theirs::Publish5
        ),
        (Version::V311, 4) => {
            via!(
                v3_1_1::GenericPuback::<u16>::parse(body),
                |p: v3_1_1::GenericPuback<u16>| { Theirs::Ack(p.packet_id(), 0) }
            )
        }
        (Version::V5, 4) => {
            via!(
                v5_0::GenericPuback::<u16>::parse(body),
                |p: v5_0::GenericPuback<u16>| {
                    Theirs::Ack(p.packet_id(), p.reason_code().map_or(0, |r| r as u8))
                }
            )
        }
        (Version::V311, 5) => {
            via!(
                v3_1_1::GenericPubrec::<u16>::parse(body),
                |p: v3_1_1::GenericPubrec<u16>| { Theirs::Ack(p.packet_id(), 0) }
            )
        }
        (Version::V5, 5) => {
            via!(
                v5_0::GenericPubrec::<u16>::parse(body),
                |p: v5_0::GenericPubrec<u16>| {
                    Theirs::Ack(p.packet_id(), p.reason_code().map_or(0, |r| r as u8))
                }
            )
        }
        (Version::V311, 6) => {
            via!(
                v3_1_1::GenericPubrel::<u16>::parse(body),
                |p: v3_1_1::GenericPubrel<u16>| { Theirs::Ack(p.packet_id(), 0) }
            )
        }
        (Version::V5, 6) => {
            via!(
                v5_0::GenericPubrel::<u16>::parse(body),
                |p: v5_0::GenericPubrel<u16>| {
                    Theirs::Ack(p.packet_id(), p.reason_code().map_or(0, |r| r as u8))
                }
            )
        }
        (Version::V311, 7) => {
            via!(
                v3_1_1::GenericPubcomp::<u16>::parse(body),
                |p: v3_1_1::GenericPubcomp<u16>| { Theirs::Ack(p.packet_id(), 0) }
            )
        }
        (Version::V5, 7) => {
            via!(
                v5_0::GenericPubcomp::<u16>::parse(body),
                |p: v5_0::GenericPubcomp<u16>| {
                    Theirs::Ack(p.packet_id(), p.reason_code().map_or(0, |r| r as u8))
                }
            )
        }
        (Version::V311, 8) => via!(
            v3_1_1::GenericSubscribe::<u16>::parse(body),
            Theirs::Subscribe3
        ),
        (Version::V5, 8) => via!(
            v5_0::GenericSubscribe::<u16>::parse(body),
            Theirs::Subscribe5
        ),
        (Version::V311, 9) => {
            via!(
                v3_1_1::GenericSuback::<u16>::parse(body),
                |p: v3_1_1::GenericSuback<u16>| {
                    let codes = p.return_codes().iter().map(|r| *r as u8).collect();
                    Theirs::Suback(p.packet_id(), codes)
                }
            )
        }
        (Version::V5, 9) => {
            via!(
                v5_0::GenericSuback::<u16>::parse(body),
                |p: v5_0::GenericSuback<u16>| {
                    let codes = p.reason_codes().iter().map(|r| *r as u8).collect();
                    Theirs::Suback(p.packet_id(), codes)
                }
            )
        }
        (Version::V311, 10) => via!(
            v3_1_1::GenericUnsubscribe::<u16>::parse(body),
            |p: v3_1_1::GenericUnsubscribe<u16>| {
                let filters = p.entries().iter().map(|f| f.as_str().to_owned());
                Theirs::Unsubscribe(p.packet_id(), filters.collect())
            }
        ),
        (Version::V5, 10) => via!(
            v5_0::GenericUnsubscribe::<u16>::parse(body),
            |p: v5_0::GenericUnsubscribe<u16>| {
                let filters = p.entries().iter().map(|f| f.as_str().to_owned());
                Theirs::Unsubscribe(p.packet_id(), filters.collect())
            }
        ),
        (Version::V311, 11) => via!(
            v3_1_1::GenericUnsuback::<u16>::parse(body),
            |p: v3_1_1::GenericUnsuback<u16>| Theirs::Suback(p.packet_id(), Vec::new())
        ),
        (Version::V5, 11) => via!(
            v5_0::GenericUnsuback::<u16>::parse(body),
            |p: v5_0::GenericUnsuback<u16>| {
                let codes = p.reason_codes().iter().map(|r| *r as u8).collect();
                Theirs::Suback(p.packet_id(), codes)
            }
        ),
        (_, 12 | 13) => Ok((Theirs::Ping, 0)),
        (Version::V311, 14) => Ok((Theirs::Disconnect(0), 0)),
        (Version::V5, 14) => via!(v5_0::Disconnect::parse(body), |p: v5_0::Disconnect| {
            Theirs::Disconnect(p.reason_code().map_or(0, |r| r as u8))
        }),
        (Version::V5, 15) => via!(v5_0::Auth::parse(body), |p: v5_0::Auth| {
            Theirs::Auth(p.reason_code().map_or(0, |r| r as u8))
        }),
        _ => Err("packet type".into()),
    }
}

/// Do both read the same in a packet that both take?
fn same_reading(ours: &Packet<'_>, theirs: &Theirs) -> Result<(), String> {
    let same = match (ours, theirs) {
        (Packet::Connect(c), Theirs::Connect3(t)) => {
            c.client_id == t.client_id()
                && c.clean_start == t.clean_session()
                && c.keep_alive_seconds == t.keep_alive()
                && c.username == t.user_name()
                && c.password == t.password()
                && c.will.map(|w| (w.topic, w.payload)) == t.will_topic().zip(t.will_payload())
                && c.will.is_none_or(|w| {
                    (w.qos as u8, w.retain) == (t.will_qos() as u8, t.will_retain())
                })
        }
        (Packet::Connect(c), Theirs::Connect5(t)) => {
            c.client_id == t.client_id()
                && c.clean_start == t.clean_start()
                && c.keep_alive_seconds == t.keep_alive()
                && c.username == t.user_name()
                && c.password == t.password()
                && c.session_expiry_seconds
                    == value(t.props(), |p| match p {
                        Property::SessionExpiryInterval(p) => Some(p.val()),
                        _ => None,
                    })
                && c.receive_maximum
                    == value(t.props(), |p| match p {
                        Property::ReceiveMaximum(p) => Some(p.val()),
                        _ => None,
                    })
                && c.packet_bytes_max
                    == value(t.props(), |p| match p {
                        Property::MaximumPacketSize(p) => Some(p.val()),
                        _ => None,
                    })
                && c.topic_alias_maximum
                    == value(t.props(), |p| match p {
                        Property::TopicAliasMaximum(p) => Some(p.val()),
                        _ => None,
                    })
                && c.authentication_method.map(str::to_owned)
                    == value(t.props(), |p| match p {
                        Property::AuthenticationMethod(p) => Some(p.val().to_owned()),
                        _ => None,
                    })
                && c.will.map(|w| (w.topic, w.payload)) == t.will_topic().zip(t.will_payload())
                && c.will.is_none_or(|w| {
                    (w.qos as u8, w.retain) == (t.will_qos() as u8, t.will_retain())
                        && *w.forward.as_bytes() == travelling(t.will_props())
                        && w.delay_seconds
                            == value(t.will_props(), |p| match p {
                                Property::WillDelayInterval(p) => Some(p.val()),
                                _ => None,
                            })
                            .unwrap_or(0)
                })
        }
        (Packet::Connack(c), Theirs::Connack3(t)) => c.session_present == t.session_present(),
        (Packet::Connack(c), Theirs::Connack5(t)) => {
            c.session_present == t.session_present()
                && c.reason.0 == t.reason_code() as u8
                && c.server_keep_alive_seconds
                    == value(t.props(), |p| match p {
                        Property::ServerKeepAlive(p) => Some(p.val()),
                        _ => None,
                    })
        }
        (Packet::Publish(p), Theirs::Publish3(t)) => {
            (p.dup, p.qos as u8, p.retain) == (t.dup(), t.qos() as u8, t.retain())
                && p.topic == t.topic_name()
                && p.packet_id == t.packet_id()
                && p.payload == t.payload().as_slice()
        }
        (Packet::Publish(p), Theirs::Publish5(t)) => {
            (p.dup, p.qos as u8, p.retain) == (t.dup(), t.qos() as u8, t.retain())
                && p.topic == t.topic_name()
                && p.packet_id == t.packet_id()
                && p.payload == t.payload().as_slice()
                && *p.forward.as_bytes() == travelling(t.props())
                && p.topic_alias
                    == value(t.props(), |p| match p {
                        Property::TopicAlias(p) => Some(p.val()),
                        _ => None,
                    })
                && p.forward.message_expiry_seconds()
                    == value(t.props(), |p| match p {
                        Property::MessageExpiryInterval(p) => Some(p.val()),
                        _ => None,
                    })
                && p.forward.response_topic().map(str::to_owned)
                    == value(t.props(), |p| match p {
                        Property::ResponseTopic(p) => Some(p.val().to_owned()),
                        _ => None,
                    })
        }
        (
            Packet::Puback(a) | Packet::Pubrec(a) | Packet::Pubrel(a) | Packet::Pubcomp(a),
            Theirs::Ack(id, reason),
        ) => (a.packet_id, a.reason.0) == (*id, *reason),
        (Packet::Subscribe(s), Theirs::Subscribe3(t)) => {
            s.packet_id == t.packet_id() && same_entries(s, t.entries())
        }
        (Packet::Subscribe(s), Theirs::Subscribe5(t)) => {
            s.packet_id == t.packet_id() && same_entries(s, t.entries())
        }
        (Packet::Suback(s) | Packet::Unsuback(s), Theirs::Suback(id, codes)) => {
            s.packet_id == *id && s.reasons().map(|r| r.0).eq(codes.iter().copied())
        }
        (Packet::Unsubscribe(u), Theirs::Unsubscribe(id, filters)) => {
            u.packet_id == *id && u.filters().eq(filters.iter().map(String::as_str))
        }
        (Packet::Disconnect(d), Theirs::Disconnect(reason)) => d.reason.0 == *reason,
        (Packet::Auth(a), Theirs::Auth(reason)) => a.reason.0 == *reason,
        (Packet::Pingreq | Packet::Pingresp, Theirs::Ping) => true,
        _ => false,
    };
    if same {
        Ok(())
    } else {
        Err(format!("read differently: {ours:?}"))
    }
}

fn same_entries(ours: &mqtt::Subscribe<'_>, theirs: &[theirs::SubEntry]) -> bool {
    ours.entries().count() == theirs.len()
        && ours.entries().zip(theirs).all(|(ours, theirs)| {
            let options = theirs.sub_opts();
            ours.filter == theirs.topic_filter()
                && ours.qos as u8 == options.qos() as u8
                && ours.no_local == options.nl()
                && ours.retain_as_published == options.rap()
                && ours.retain_handling == options.rh() as u8
        })
}

fn value<T>(properties: &[Property], wanted: impl Fn(&Property) -> Option<T>) -> Option<T> {
    properties.iter().find_map(wanted)
}

/// The properties that go on with a message, encoded by them.
fn travelling(properties: &[Property]) -> Vec<u8> {
    properties
        .iter()
        .filter(|p| !matches!(p, Property::TopicAlias(_) | Property::WillDelayInterval(_)))
        .flat_map(Property::to_continuous_buffer)
        .collect()
}
