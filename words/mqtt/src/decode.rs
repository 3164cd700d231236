//! From bytes to packets. Borrows everything, allocates nothing, refuses what the standards do.

use crate::Reason;
use crate::filter::{check_filter, check_filter_or_share};
use crate::layout::{belongs, kind, reasons};
use crate::packet::{
    Ack, Auth, Connack, Connect, Disconnect, Packet, Publish, Qos, Suback, Subscribe,
    SubscribeEntry, Unsubscribe, Version, Will,
};
use crate::properties::{Collected, ForwardProperties};
use crate::reader::{Length, Reader};
use crate::rule::{self, Malformed};
use crate::topic::check_topic;

/// Length in bytes of the first packet of `buffer`, header included; `None`: it is not whole yet.
///
/// `packet_bytes_max` counts the whole packet and is held against the *announced* length, so a
/// giant is refused on its first five bytes; nonsense in the first byte (another protocol, a
/// reserved type or flag) is refused on that byte.
///
/// # Errors
/// [`Reason::PACKET_TOO_LARGE`], or [`Reason::MALFORMED_PACKET`] for a broken fixed header.
pub fn frame_length(buffer: &[u8], packet_bytes_max: usize) -> Result<Option<usize>, Malformed> {
    let Some((first_byte, after)) = buffer.split_first() else {
        return Ok(None);
    };
    check_first_byte(*first_byte)?;
    let Some(remaining) = Length::read(after)? else {
        return Ok(None);
    };
    // At most 5 + 2^28: no overflow where usize has 32 bits.
    let total = 1 + remaining.bytes + remaining.value as usize;
    if total > packet_bytes_max {
        return Err(rule::PACKET_TOO_LARGE);
    }
    Ok((buffer.len() >= total).then_some(total))
}

/// Why a first packet names no version that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectVersionError {
    /// Close without an answer.
    #[error("{0}")]
    Malformed(Malformed),
    /// MQTT, but of another level: 3 is MQTT 3.1, 0x83 and 0x84 are bridges. The device needs a
    /// client that speaks 3.1.1 or 5.
    #[error("MQTT protocol level {0} is not spoken here; use 4 (MQTT 3.1.1) or 5")]
    UnsupportedLevel(u8),
}

impl ConnectVersionError {
    /// The version in which to say [`Reason::UNSUPPORTED_PROTOCOL_VERSION`] before closing
    /// (MQTT 3.1.2.2); `None`: say nothing.
    #[must_use]
    pub const fn answer_in(&self) -> Option<Version> {
        match self {
            Self::Malformed(_) => None,
            Self::UnsupportedLevel(level) if *level & 0x7f < 5 => Some(Version::V311),
            Self::UnsupportedLevel(_) => Some(Version::V5),
        }
    }
}

/// The version named by a client's first packet, one whole frame.
///
/// # Errors
/// Tells a level that we do not speak from a packet that is no CONNECT at all.
pub fn connect_version(frame: &[u8]) -> Result<Version, ConnectVersionError> {
    let (first_byte, _, mut body) = split_frame(frame).map_err(ConnectVersionError::Malformed)?;
    if first_byte >> 4 != kind::CONNECT {
        return Err(ConnectVersionError::Malformed(rule::CONNECT_FIRST));
    }
    let (name, level) =
        protocol_name_and_level(&mut body).map_err(ConnectVersionError::Malformed)?;
    match (name, level) {
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQTT", 5) => Ok(Version::V5),
        (b"MQTT", _) | (b"MQIsdp", 3 | 0x83) => Err(ConnectVersionError::UnsupportedLevel(level)),
        _ => Err(ConnectVersionError::Malformed(rule::PROTOCOL_NAME)),
    }
}

/// One whole frame as a server hears it from a client.
///
/// # Errors
/// The rule that it breaks. CONNACK, SUBACK, UNSUBACK, PINGRESP and reasons that only a server
/// gives are refused.
pub fn decode(version: Version, frame: &[u8]) -> Result<Packet<'_>, Malformed> {
    decode_by(Sender::Client, version, frame)
}

/// One whole frame as a client hears it from a server.
///
/// # Errors
/// The rule that it breaks. CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, the DISCONNECT of 3.1.1 and
/// reasons that only a client gives are refused.
pub fn decode_from_server(version: Version, frame: &[u8]) -> Result<Packet<'_>, Malformed> {
    decode_by(Sender::Server, version, frame)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Client,
    Server,
}

fn decode_by(sender: Sender, version: Version, frame: &[u8]) -> Result<Packet<'_>, Malformed> {
    let (first_byte, remaining, body) = split_frame(frame)?;
    if version == Version::V5 && !remaining.is_minimal() {
        return Err(rule::LENGTH_NOT_MINIMAL);
    }
    let packet_type = first_byte >> 4;
    let other_way = match sender {
        Sender::Client => matches!(
            packet_type,
            kind::CONNACK | kind::SUBACK | kind::UNSUBACK | kind::PINGRESP
        ),
        Sender::Server => {
            matches!(
                packet_type,
                kind::CONNECT | kind::SUBSCRIBE | kind::UNSUBSCRIBE | kind::PINGREQ
            ) || (packet_type == kind::DISCONNECT && version == Version::V311)
        }
    };
    if other_way {
        return Err(rule::WRONG_SENDER);
    }
    match packet_type {
        kind::PUBLISH => publish(sender, version, first_byte, body).map(Packet::Publish),
        kind::PUBACK => ack(version, body, reasons::PUBACK).map(Packet::Puback),
        kind::PUBREC => ack(version, body, reasons::PUBACK).map(Packet::Pubrec),
        kind::PUBREL => ack(version, body, reasons::PUBREL).map(Packet::Pubrel),
        kind::PUBCOMP => ack(version, body, reasons::PUBREL).map(Packet::Pubcomp),
        kind::CONNECT => connect(version, body).map(Packet::Connect),
        kind::CONNACK => connack(version, body).map(Packet::Connack),
        kind::SUBSCRIBE => subscribe(version, body).map(Packet::Subscribe),
        kind::SUBACK => suback(version, body).map(Packet::Suback),
        kind::UNSUBSCRIBE => unsubscribe(version, body).map(Packet::Unsubscribe),
        kind::UNSUBACK => unsuback(version, body).map(Packet::Unsuback),
        kind::PINGREQ => body.finish().map(|()| Packet::Pingreq),
        kind::PINGRESP => body.finish().map(|()| Packet::Pingresp),
        kind::DISCONNECT => disconnect(sender, version, body).map(Packet::Disconnect),
        kind::AUTH if version == Version::V5 => auth(sender, body).map(Packet::Auth),
        _ => Err(rule::PACKET_TYPE),
    }
}

/// First byte, Remaining Length and body of a frame that must be exactly one packet.
fn split_frame(frame: &[u8]) -> Result<(u8, Length, Reader<'_>), Malformed> {
    let (first_byte, after) = frame.split_first().ok_or(rule::FRAME_LENGTH)?;
    check_first_byte(*first_byte)?;
    let remaining = Length::read(after)?.ok_or(rule::FRAME_LENGTH)?;
    let body = after.get(remaining.bytes..).unwrap_or_default();
    if body.len() != remaining.value as usize {
        return Err(rule::FRAME_LENGTH);
    }
    Ok((*first_byte, remaining, Reader::new(body)))
}

/// Type and flags, as far as they are the same in both versions.
fn check_first_byte(first_byte: u8) -> Result<(), Malformed> {
    let flags = first_byte & 0x0f;
    match first_byte >> 4 {
        0 => Err(rule::PACKET_TYPE),
        kind::PUBLISH if flags & 0b0110 == 0b0110 => Err(rule::PUBLISH_QOS),
        kind::PUBLISH if flags & 0b1110 == 0b1000 => Err(rule::DUP_AT_QOS_0),
        kind::PUBLISH => Ok(()),
        kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE if flags == 0b0010 => Ok(()),
        kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE => Err(rule::FIXED_HEADER_FLAGS),
        _ if flags == 0 => Ok(()),
        _ => Err(rule::FIXED_HEADER_FLAGS),
    }
}

fn publish<'a>(
    sender: Sender,
    version: Version,
    first_byte: u8,
    mut body: Reader<'a>,
) -> Result<Publish<'a>, Malformed> {
    let qos = Qos::from_bits(first_byte >> 1 & 0b11).ok_or(rule::PUBLISH_QOS)?;
    let topic = body.text()?;
    let packet_id = match qos {
        Qos::AtMostOnce => None,
        Qos::AtLeastOnce | Qos::ExactlyOnce => Some(body.packet_id()?),
    };
    let mut topic_alias = None;
    let mut forward = ForwardProperties::NONE;
    let mut payload_is_utf_8 = false;
    if version == Version::V5 {
        let block = body.properties()?;
        if !block.is_empty() {
            let allowed = match sender {
                Sender::Client => belongs::PUBLISH,
                Sender::Server => belongs::PUBLISH_OF_SERVER,
            };
            let found = Collected::read(block, allowed)?;
            topic_alias = found.topic_alias;
            forward = found.forward(block);
            payload_is_utf_8 = found.payload_is_utf_8;
        }
    }
    if !(topic.is_empty() && topic_alias.is_some()) {
        check_topic(topic)?;
    }
    let payload = body.rest();
    if payload_is_utf_8 {
        check_utf_8_payload(payload)?;
    }
    Ok(Publish {
        dup: first_byte & 0b1000 != 0,
        qos,
        retain: first_byte & 1 != 0,
        topic,
        packet_id,
        topic_alias,
        forward,
        payload,
    })
}

/// A receiver may check this; we do, so that nobody behind us must.
fn check_utf_8_payload(payload: &[u8]) -> Result<(), Malformed> {
    match std::str::from_utf8(payload) {
        Ok(_) => Ok(()),
        Err(_) => Err(rule::PAYLOAD_NOT_UTF_8),
    }
}

fn ack<'a>(
    version: Version,
    mut body: Reader<'a>,
    reasons: &[Reason],
) -> Result<Ack<'a>, Malformed> {
    let packet_id = body.packet_id()?;
    let mut reason = Reason::SUCCESS;
    let mut reason_string = None;
    // The reason and then the properties may be left out (MQTT 5: 3.4.2.1, 3.4.2.2.1).
    if version == Version::V5 && !body.is_empty() {
        reason = one_of(body.byte()?, reasons)?;
        if !body.is_empty() {
            let block = body.properties()?;
            reason_string = Collected::read(block, belongs::ACKNOWLEDGEMENT)?.reason_string;
        }
    }
    body.finish()?;
    Ok(Ack {
        packet_id,
        reason,
        reason_string,
    })
}

fn one_of(code: u8, reasons: &[Reason]) -> Result<Reason, Malformed> {
    if reasons.contains(&Reason(code)) {
        Ok(Reason(code))
    } else {
        Err(rule::REASON_CODE)
    }
}

fn protocol_name_and_level<'a>(body: &mut Reader<'a>) -> Result<(&'a [u8], u8), Malformed> {
    Ok((body.binary()?, body.byte()?))
}

fn connect<'a>(version: Version, mut body: Reader<'a>) -> Result<Connect<'a>, Malformed> {
    let (name, level) = protocol_name_and_level(&mut body)?;
    if name != b"MQTT" {
        return Err(rule::PROTOCOL_NAME);
    }
    let expected = match version {
        Version::V311 => 4,
        Version::V5 => 5,
    };
    if level != expected {
        return Err(rule::PROTOCOL_LEVEL);
    }
    let flags = ConnectFlags::read(version, body.byte()?)?;
    let keep_alive_seconds = body.two_bytes()?;
    let found = match version {
        Version::V311 => Collected::default(),
        Version::V5 => Collected::read(body.properties()?, belongs::CONNECT)?,
    };
    let client_id = body.text()?;
    if version == Version::V311 && client_id.is_empty() && !flags.clean_start {
        return Err(rule::CLIENT_IDENTIFIER_EMPTY);
    }
    let will = match flags.will {
        Some((qos, retain)) => Some(will(version, qos, retain, &mut body)?),
        None => None,
    };
    let username = match flags.username {
        true => Some(body.text()?),
        false => None,
    };
    let password = match flags.password {
        true => Some(body.binary()?),
        false => None,
    };
    body.finish()?;
    Ok(Connect {
        version,
        client_id,
        clean_start: flags.clean_start,
        keep_alive_seconds,
        will,
        username,
        password,
        session_expiry_seconds: found.session_expiry_seconds,
        receive_maximum: found.receive_maximum,
        packet_bytes_max: found.packet_bytes_max,
        topic_alias_maximum: found.topic_alias_maximum,
        request_problem_information: found.request_problem_information != Some(0),
        request_response_information: found.request_response_information == Some(1),
        authentication_method: found.authentication_method,
    })
}

struct ConnectFlags {
    clean_start: bool,
    will: Option<(Qos, bool)>,
    username: bool,
    password: bool,
}

impl ConnectFlags {
    fn read(version: Version, bits: u8) -> Result<Self, Malformed> {
        if bits & 0x01 != 0 {
            return Err(rule::CONNECT_RESERVED_FLAG);
        }
        let (will_qos, will_retain) = (bits >> 3 & 0b11, bits & 0x20 != 0);
        let will = match bits & 0x04 != 0 {
            true => Some((
                Qos::from_bits(will_qos).ok_or(rule::WILL_FLAGS)?,
                will_retain,
            )),
            false if will_qos != 0 || will_retain => return Err(rule::WILL_FLAGS),
            false => None,
        };
        let (username, password) = (bits & 0x80 != 0, bits & 0x40 != 0);
        if version == Version::V311 && password && !username {
            return Err(rule::PASSWORD_WITHOUT_USER_NAME);
        }
        Ok(Self {
            clean_start: bits & 0x02 != 0,
            will,
            username,
            password,
        })
    }
}

fn will<'a>(
    version: Version,
    qos: Qos,
    retain: bool,
    body: &mut Reader<'a>,
) -> Result<Will<'a>, Malformed> {
    let block = match version {
        Version::V311 => &[],
        Version::V5 => body.properties()?,
    };
    let found = Collected::read(block, belongs::WILL)?;
    let topic = body.text()?;
    check_topic(topic)?;
    let payload = body.binary()?;
    if found.payload_is_utf_8 {
        check_utf_8_payload(payload)?;
    }
    Ok(Will {
        qos,
        retain,
        topic,
        payload,
        delay_seconds: found.will_delay_seconds.unwrap_or(0),
        forward: found.forward(block),
    })
}

fn connack<'a>(version: Version, mut body: Reader<'a>) -> Result<Connack<'a>, Malformed> {
    let flags = body.byte()?;
    let code = body.byte()?;
    let (reason, found) = match version {
        Version::V311 => (
            Reason::from_connect_return_code(code).ok_or(rule::REASON_CODE)?,
            Collected::default(),
        ),
        Version::V5 => (
            one_of(code, reasons::CONNACK)?,
            Collected::read(body.properties()?, belongs::CONNACK)?,
        ),
    };
    body.finish()?;
    if flags > 1 || (flags == 1 && reason.is_failure()) {
        return Err(rule::CONNACK_FLAGS);
    }
    Ok(Connack {
        session_present: flags == 1,
        reason,
        session_expiry_seconds: found.session_expiry_seconds,
        receive_maximum: found.receive_maximum,
        maximum_qos_1: found.maximum_qos.is_some(),
        retain_available: found.retain_available != Some(0),
        packet_bytes_max: found.packet_bytes_max,
        assigned_client_id: found.assigned_client_id,
        topic_alias_maximum: found.topic_alias_maximum.unwrap_or(0),
        reason_string: found.reason_string,
        wildcard_available: found.wildcard_available != Some(0),
        subscription_ids_available: found.subscription_ids_available != Some(0),
        shared_available: found.shared_available != Some(0),
        server_keep_alive_seconds: found.server_keep_alive_seconds,
    })
}

fn subscribe<'a>(version: Version, mut body: Reader<'a>) -> Result<Subscribe<'a>, Malformed> {
    let packet_id = body.packet_id()?;
    let mut subscription_id = None;
    if version == Version::V5 {
        let block = body.properties()?;
        subscription_id = Collected::read(block, belongs::SUBSCRIBE)?.subscription_id;
    }
    let entries = body.rest();
    if entries.is_empty() {
        return Err(rule::NO_TOPIC_FILTER);
    }
    while !body.is_empty() {
        let filter = body.text()?;
        check_requested_filter(version, filter)?;
        check_subscription_options(version, filter, body.byte()?)?;
    }
    Ok(Subscribe {
        packet_id,
        subscription_id,
        entries,
    })
}

fn check_requested_filter(version: Version, filter: &str) -> Result<(), Malformed> {
    match version {
        Version::V311 => check_filter(filter),
        Version::V5 => check_filter_or_share(filter),
    }
}

fn check_subscription_options(
    version: Version,
    filter: &str,
    options: u8,
) -> Result<(), Malformed> {
    let reserved = match version {
        Version::V311 => 0b1111_1100,
        Version::V5 => 0b1100_0000,
    };
    if options & reserved != 0 || Qos::from_bits(options & 0b11).is_none() {
        return Err(rule::SUBSCRIPTION_OPTIONS);
    }
    if options >> 4 == 0b11 {
        return Err(rule::RETAIN_HANDLING);
    }
    if options & NO_LOCAL != 0 && filter.starts_with("$share/") {
        return Err(rule::NO_LOCAL_ON_SHARE);
    }
    Ok(())
}

const NO_LOCAL: u8 = 0b0000_0100;
const RETAIN_AS_PUBLISHED: u8 = 0b0000_1000;

/// The entries of a SUBSCRIBE that [`subscribe`] has passed; stops at what it would refuse.
pub(crate) fn subscribe_entries(entries: &[u8]) -> impl Iterator<Item = SubscribeEntry<'_>> {
    let mut reader = Reader::new(entries);
    std::iter::from_fn(move || {
        let filter = reader.text().ok()?;
        let options = reader.byte().ok()?;
        Some(SubscribeEntry {
            filter,
            qos: Qos::from_bits(options & 0b11)?,
            no_local: options & NO_LOCAL != 0,
            retain_as_published: options & RETAIN_AS_PUBLISHED != 0,
            retain_handling: options >> 4 & 0b11,
        })
    })
}

fn unsubscribe<'a>(version: Version, mut body: Reader<'a>) -> Result<Unsubscribe<'a>, Malformed> {
    let packet_id = body.packet_id()?;
    if version == Version::V5 {
        Collected::read(body.properties()?, belongs::UNSUBSCRIBE)?;
    }
    let filters = body.rest();
    if filters.is_empty() {
        return Err(rule::NO_TOPIC_FILTER);
    }
    while !body.is_empty() {
        check_requested_filter(version, body.text()?)?;
    }
    Ok(Unsubscribe { packet_id, filters })
}

/// The filters of an UNSUBSCRIBE that [`unsubscribe`] has passed.
pub(crate) fn unsubscribe_filters(filters: &[u8]) -> impl Iterator<Item = &str> {
    let mut reader = Reader::new(filters);
    std::iter::from_fn(move || reader.text().ok())
}

fn suback<'a>(version: Version, body: Reader<'a>) -> Result<Suback<'a>, Malformed> {
    let reasons = match version {
        Version::V311 => reasons::SUBACK_OF_3_1_1,
        Version::V5 => reasons::SUBACK,
    };
    codes_per_filter(version, body, reasons)
}

fn unsuback<'a>(version: Version, mut body: Reader<'a>) -> Result<Suback<'a>, Malformed> {
    if version == Version::V5 {
        return codes_per_filter(version, body, reasons::UNSUBACK);
    }
    let packet_id = body.packet_id()?;
    body.finish()?;
    Ok(Suback {
        packet_id,
        reason_string: None,
        codes: &[],
    })
}

fn codes_per_filter<'a>(
    version: Version,
    mut body: Reader<'a>,
    reasons: &[Reason],
) -> Result<Suback<'a>, Malformed> {
    let packet_id = body.packet_id()?;
    let mut reason_string = None;
    if version == Version::V5 {
        let block = body.properties()?;
        reason_string = Collected::read(block, belongs::ACKNOWLEDGEMENT)?.reason_string;
    }
    let codes = body.rest();
    if codes.is_empty() {
        return Err(rule::NO_TOPIC_FILTER);
    }
    for code in codes {
        one_of(*code, reasons)?;
    }
    Ok(Suback {
        packet_id,
        reason_string,
        codes,
    })
}

fn disconnect<'a>(
    sender: Sender,
    version: Version,
    mut body: Reader<'a>,
) -> Result<Disconnect<'a>, Malformed> {
    let mut reason = Reason::SUCCESS;
    let mut found = Collected::default();
    // The reason and then the properties may be left out (MQTT 5: 3.14.2.1, 3.14.2.2.1).
    if version == Version::V5 && !body.is_empty() {
        let code = body.byte()?;
        let of_sender = match sender {
            Sender::Client => reasons::DISCONNECT_OF_CLIENT,
            Sender::Server => reasons::DISCONNECT_OF_SERVER,
        };
        reason = one_of(code, reasons::DISCONNECT).or_else(|_| one_of(code, of_sender))?;
        if !body.is_empty() {
            found = Collected::read(body.properties()?, belongs::DISCONNECT)?;
        }
    }
    body.finish()?;
    let of_other_side = match sender {
        Sender::Client => found.server_reference.is_some(),
        Sender::Server => found.session_expiry_seconds.is_some(),
    };
    if of_other_side {
        return Err(rule::PROPERTY_OF_OTHER_SIDE);
    }
    Ok(Disconnect {
        reason,
        session_expiry_seconds: found.session_expiry_seconds,
        reason_string: found.reason_string,
        server_reference: found.server_reference,
    })
}

/// The standard lets reason and properties be left out and also demands a method among them
/// (MQTT 5: 3.15.2.1, 3.15.2.2.2); without a method an AUTH can mean nothing, so it is refused.
fn auth<'a>(sender: Sender, mut body: Reader<'a>) -> Result<Auth<'a>, Malformed> {
    if body.is_empty() {
        return Err(rule::AUTHENTICATION_METHOD_MISSING);
    }
    let reasons = match sender {
        Sender::Client => [Reason::CONTINUE_AUTHENTICATION, Reason::REAUTHENTICATE],
        Sender::Server => [Reason::CONTINUE_AUTHENTICATION, Reason::SUCCESS],
    };
    let reason = one_of(body.byte()?, &reasons)?;
    if body.is_empty() {
        return Err(rule::AUTHENTICATION_METHOD_MISSING);
    }
    let found = Collected::read(body.properties()?, belongs::AUTH)?;
    body.finish()?;
    Ok(Auth {
        reason,
        authentication_method: found
            .authentication_method
            .ok_or(rule::AUTHENTICATION_METHOD_MISSING)?,
        reason_string: found.reason_string,
    })
}
