//! Packets as bytes. Every function appends one whole packet to `out`.
//!
//! Arguments are the caller's to have checked: topics with [`crate::is_topic`], filters with
//! [`crate::Filter`], packet identifiers not 0. What the wire cannot express (a string above
//! 65,535 bytes, a packet above [`crate::PACKET_BYTES_MAX`]) appends **nothing**, so a stream is
//! never spoiled; reason strings are cut instead. Nothing here looks at the receiver's Maximum
//! Packet Size: ask [`publish_length`] before a PUBLISH; other packets of a server are under
//! 1 KiB but for SUBACK and UNSUBACK (a byte for each filter asked for).

use crate::packet::{Connack, Connect, Publish, Qos, SubscribeEntry, Version};
use crate::properties::id;
use crate::reader::bytes_of;
use crate::{REMAINING_BYTES_MAX, Reason};

/// The name by which a server fills a CONNACK.
pub type ConnackFields<'a> = Connack<'a>;
/// The name by which a server or a client fills a PUBLISH.
pub type PublishFields<'a> = Publish<'a>;

/// Our own cap, in bytes, so that a reason never makes a packet large.
const REASON_STRING_BYTES_MAX: usize = 512;

/// CONNECT, from a client. Booleans at their default and absent properties are not written.
pub fn connect(out: &mut Vec<u8>, c: &Connect<'_>) {
    packet(out, 0x10, |w| {
        w.text("MQTT");
        w.byte(match c.version {
            Version::V311 => 4,
            Version::V5 => 5,
        });
        let will = c.will.as_ref().map_or(0, |will| {
            0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5
        });
        w.byte(
            u8::from(c.clean_start) << 1
                | will
                | u8::from(c.password.is_some()) << 6
                | u8::from(c.username.is_some()) << 7,
        );
        w.two_bytes(c.keep_alive_seconds);
        if c.version == Version::V5 {
            w.properties(|w| {
                w.optional(id::SESSION_EXPIRY, c.session_expiry_seconds);
                w.optional(id::RECEIVE_MAXIMUM, c.receive_maximum);
                w.optional(id::MAXIMUM_PACKET_SIZE, c.packet_bytes_max);
                w.optional(id::TOPIC_ALIAS_MAXIMUM, c.topic_alias_maximum);
                w.flag_unless(
                    id::REQUEST_RESPONSE_INFORMATION,
                    c.request_response_information,
                    false,
                );
                w.flag_unless(
                    id::REQUEST_PROBLEM_INFORMATION,
                    c.request_problem_information,
                    true,
                );
                w.optional(id::AUTHENTICATION_METHOD, c.authentication_method);
            });
        }
        w.text(c.client_id);
        if let Some(will) = &c.will {
            if c.version == Version::V5 {
                w.properties(|w| {
                    if will.delay_seconds != 0 {
                        w.optional(id::WILL_DELAY, Some(will.delay_seconds));
                    }
                    will.forward.append_to(w.out);
                });
            }
            w.text(will.topic);
            w.binary(will.payload);
        }
        if let Some(username) = c.username {
            w.text(username);
        }
        if let Some(password) = c.password {
            w.binary(password);
        }
    });
}

/// CONNACK. A reason for which 3.1.1 has no return code appends nothing there: such a connection
/// is closed in silence (MQTT 3.1.1: 3.2.2.3).
pub fn connack(out: &mut Vec<u8>, version: Version, c: &ConnackFields<'_>) {
    let code = match version {
        Version::V5 => c.reason.0,
        Version::V311 => match c.reason.connect_return_code() {
            Some(code) => code,
            None => return,
        },
    };
    packet(out, 0x20, |w| {
        w.byte(u8::from(c.session_present && !c.reason.is_failure()));
        w.byte(code);
        if version == Version::V311 {
            return;
        }
        w.properties(|w| {
            // A client reads an absent availability as yes; a refusal announces nothing.
            if !c.reason.is_failure() {
                w.optional(id::SESSION_EXPIRY, c.session_expiry_seconds);
                w.optional(id::RECEIVE_MAXIMUM, c.receive_maximum);
                if c.maximum_qos_1 {
                    w.byte(id::MAXIMUM_QOS);
                    w.byte(1);
                }
                w.flag_unless(id::RETAIN_AVAILABLE, c.retain_available, true);
                w.optional(id::MAXIMUM_PACKET_SIZE, c.packet_bytes_max);
                w.optional(id::ASSIGNED_CLIENT_ID, c.assigned_client_id);
                if c.topic_alias_maximum != 0 {
                    w.optional(id::TOPIC_ALIAS_MAXIMUM, Some(c.topic_alias_maximum));
                }
                w.flag_unless(id::WILDCARD_AVAILABLE, c.wildcard_available, true);
                w.flag_unless(
                    id::SUBSCRIPTION_IDS_AVAILABLE,
                    c.subscription_ids_available,
                    true,
                );
                w.flag_unless(id::SHARED_AVAILABLE, c.shared_available, true);
                w.optional(id::SERVER_KEEP_ALIVE, c.server_keep_alive_seconds);
            }
            w.reason_string(c.reason_string);
        });
    });
}

/// PUBLISH in either direction. In 3.1.1 the alias and the properties are left out.
pub fn publish(out: &mut Vec<u8>, version: Version, p: &PublishFields<'_>) {
    let parts = PublishParts::of(version, p);
    if p.topic.len() > usize::from(u16::MAX) || parts.remaining > REMAINING_BYTES_MAX {
        return;
    }
    out.reserve(parts.total());
    let dup = p.dup && p.qos != Qos::AtMostOnce;
    out.push(0x30 | u8::from(dup) << 3 | (p.qos as u8) << 1 | u8::from(p.retain));
    push_varint(out, parts.remaining);
    let mut w = Writer::new(out);
    w.text(p.topic);
    if p.qos != Qos::AtMostOnce {
        w.two_bytes(p.packet_id.unwrap_or(0));
    }
    if version == Version::V5 {
        push_varint(w.out, parts.properties);
        w.optional(id::TOPIC_ALIAS, p.topic_alias);
        p.forward.append_to(w.out);
    }
    out.extend_from_slice(p.payload);
}

/// Length in bytes of the whole packet that [`publish`] would append.
#[must_use]
pub fn publish_length(version: Version, p: &PublishFields<'_>) -> usize {
    PublishParts::of(version, p).total()
}

struct PublishParts {
    properties: usize,
    remaining: usize,
}

impl PublishParts {
    fn of(version: Version, p: &Publish<'_>) -> Self {
        let identifier = if p.qos == Qos::AtMostOnce { 0 } else { 2 };
        let mut remaining = 2 + p.topic.len() + identifier + p.payload.len();
        let mut properties = 0;
        if version == Version::V5 {
            properties = p.forward.encoded_length() + p.topic_alias.map_or(0, |_| 3);
            remaining += varint_length(properties) + properties;
        }
        Self {
            properties,
            remaining,
        }
    }

    fn total(&self) -> usize {
        1 + varint_length(self.remaining) + self.remaining
    }
}

pub fn puback(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    reason: Reason,
    reason_string: Option<&str>,
) {
    acknowledge(out, 0x40, version, packet_id, reason, reason_string);
}

pub fn pubrec(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    reason: Reason,
    reason_string: Option<&str>,
) {
    acknowledge(out, 0x50, version, packet_id, reason, reason_string);
}

pub fn pubrel(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    reason: Reason,
    reason_string: Option<&str>,
) {
    acknowledge(out, 0x62, version, packet_id, reason, reason_string);
}

pub fn pubcomp(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    reason: Reason,
    reason_string: Option<&str>,
) {
    acknowledge(out, 0x70, version, packet_id, reason, reason_string);
}

/// 3.1.1 has no reasons: there an acknowledgement says only that the packet came.
fn acknowledge(
    out: &mut Vec<u8>,
    first_byte: u8,
    version: Version,
    packet_id: u16,
    reason: Reason,
    reason_string: Option<&str>,
) {
    let [high, low] = packet_id.to_be_bytes();
    match (version, reason, reason_string) {
        (Version::V311, _, _) | (Version::V5, Reason::SUCCESS, None) => {
            out.extend_from_slice(&[first_byte, 2, high, low]);
        }
        (Version::V5, _, None) => {
            out.extend_from_slice(&[first_byte, 3, high, low, reason.0]);
        }
        (Version::V5, _, Some(_)) => packet(out, first_byte, |w| {
            w.two_bytes(packet_id);
            w.byte(reason.0);
            w.properties(|w| w.reason_string(reason_string));
        }),
    }
}

/// SUBSCRIBE, from a client. On MQTT 5 with the options at their defaults, as in 3.1.1.
pub fn subscribe(out: &mut Vec<u8>, version: Version, packet_id: u16, entries: &[(&str, Qos)]) {
    let entries = entries.iter().map(|(filter, qos)| SubscribeEntry {
        filter,
        qos: *qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    });
    subscribe_with(out, version, packet_id, None, entries);
}

/// SUBSCRIBE with options and identifier, from a client. 3.1.1 knows the QoS alone.
pub fn subscribe_with<'a>(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    subscription_id: Option<u32>,
    entries: impl IntoIterator<Item = SubscribeEntry<'a>>,
) {
    packet(out, 0x82, |w| {
        w.two_bytes(packet_id);
        if version == Version::V5 {
            w.properties(|w| {
                if let Some(identifier) = subscription_id {
                    subscription_identifier(w.out, identifier);
                }
            });
        }
        for entry in entries {
            let options = match version {
                Version::V311 => 0,
                Version::V5 => {
                    u8::from(entry.no_local) << 2
                        | u8::from(entry.retain_as_published) << 3
                        | (entry.retain_handling & 0b11) << 4
                }
            };
            w.text(entry.filter);
            w.byte(entry.qos as u8 | options);
        }
    });
}

/// The property that names a subscription, for [`crate::ForwardProperties::with_subscription_ids`].
pub fn subscription_identifier(out: &mut Vec<u8>, identifier: u32) {
    out.push(id::SUBSCRIPTION_IDENTIFIER);
    push_varint(out, identifier as usize);
}

/// Properties of a request, for [`crate::ForwardProperties::from_validated`]: how long it is worth
/// something, and where and by what its answer is known (MQTT 5: 4.10). The topic is a valid topic
/// name, and each text and value at most 65,535 bytes; what is longer is left out.
pub fn request_properties(out: &mut Vec<u8>, expiry_seconds: u32, response: Option<(&str, &[u8])>) {
    out.push(id::MESSAGE_EXPIRY);
    out.extend_from_slice(&expiry_seconds.to_be_bytes());
    let Some((topic, correlation)) = response else {
        return;
    };
    for (id, bytes) in [
        (id::RESPONSE_TOPIC, topic.as_bytes()),
        (id::CORRELATION_DATA, correlation),
    ] {
        if let Ok(length) = u16::try_from(bytes.len()) {
            out.push(id);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

/// UNSUBSCRIBE, from a client.
pub fn unsubscribe(out: &mut Vec<u8>, version: Version, packet_id: u16, filters: &[&str]) {
    packet(out, 0xa2, |w| {
        w.two_bytes(packet_id);
        if version == Version::V5 {
            w.byte(0);
        }
        for filter in filters {
            w.text(filter);
        }
    });
}

/// SUBACK: one reason per filter of the SUBSCRIBE. In 3.1.1 every failure is 0x80.
pub fn suback(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    reasons: &[Reason],
    reason_string: Option<&str>,
) {
    packet(out, 0x90, |w| {
        w.two_bytes(packet_id);
        if version == Version::V5 {
            w.properties(|w| w.reason_string(reason_string));
        }
        for reason in reasons {
            w.byte(match version {
                Version::V311 if reason.is_failure() => Reason::UNSPECIFIED_ERROR.0,
                _ => reason.0,
            });
        }
    });
}

/// UNSUBACK: one reason per filter of the UNSUBSCRIBE, none in 3.1.1.
pub fn unsuback(out: &mut Vec<u8>, version: Version, packet_id: u16, reasons: &[Reason]) {
    packet(out, 0xb0, |w| {
        w.two_bytes(packet_id);
        if version == Version::V5 {
            w.byte(0);
            for reason in reasons {
                w.byte(reason.0);
            }
        }
    });
}

pub fn pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xc0, 0]);
}

pub fn pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xd0, 0]);
}

/// DISCONNECT from a server. Appends nothing in 3.1.1, where only a client sends one.
pub fn disconnect(
    out: &mut Vec<u8>,
    version: Version,
    reason: Reason,
    reason_string: Option<&str>,
) {
    if version == Version::V5 {
        packet(out, 0xe0, |w| {
            if reason == Reason::SUCCESS && reason_string.is_none() {
                return;
            }
            w.byte(reason.0);
            if reason_string.is_some() {
                w.properties(|w| w.reason_string(reason_string));
            }
        });
    }
}

/// DISCONNECT from a client. In 3.1.1 it has no reason and always means the normal one.
pub fn disconnect_by_client(out: &mut Vec<u8>, version: Version, reason: Reason) {
    match version {
        Version::V311 => out.extend_from_slice(&[0xe0, 0]),
        Version::V5 => disconnect(out, version, reason, None),
    }
}

/// Appends the header, what `body` writes, and then puts the length between the two.
fn packet(out: &mut Vec<u8>, first_byte: u8, body: impl FnOnce(&mut Writer<'_>)) {
    let start = out.len();
    out.push(first_byte);
    let mut writer = Writer::new(out);
    writer.with_length_in_front(body);
    if writer.inexpressible {
        out.truncate(start);
    }
}

/// Appends the standard's data types.
struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// Something did not fit the wire's length fields; the packet is taken back.
    inexpressible: bool,
}

impl<'o> Writer<'o> {
    const fn new(out: &'o mut Vec<u8>) -> Self {
        Self {
            out,
            inexpressible: false,
        }
    }

    fn with_length_in_front(&mut self, body: impl FnOnce(&mut Self)) {
        let start = self.out.len();
        body(self);
        let length = self.out.len() - start;
        if length > REMAINING_BYTES_MAX {
            self.inexpressible = true;
        }
        push_varint(self.out, length);
        if let Some(tail) = self.out.get_mut(start..) {
            tail.rotate_left(length);
        }
    }

    fn properties(&mut self, body: impl FnOnce(&mut Self)) {
        self.with_length_in_front(body);
    }

    fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    fn two_bytes(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn binary(&mut self, bytes: &[u8]) {
        match u16::try_from(bytes.len()) {
            Ok(length) => {
                self.two_bytes(length);
                self.out.extend_from_slice(bytes);
            }
            Err(_) => self.inexpressible = true,
        }
    }

    fn text(&mut self, text: &str) {
        self.binary(text.as_bytes());
    }

    fn optional(&mut self, id: u8, value: Option<impl Property>) {
        if let Some(value) = value {
            self.byte(id);
            value.write(self);
        }
    }

    fn flag_unless(&mut self, id: u8, value: bool, default: bool) {
        if value != default {
            self.byte(id);
            self.byte(u8::from(value));
        }
    }

    fn reason_string(&mut self, text: Option<&str>) {
        self.optional(
            id::REASON_STRING,
            text.map(|text| {
                let end = text.floor_char_boundary(REASON_STRING_BYTES_MAX);
                text.get(..end).unwrap_or_default()
            }),
        );
    }
}

trait Property {
    fn write(self, w: &mut Writer<'_>);
}

impl Property for u16 {
    fn write(self, w: &mut Writer<'_>) {
        w.two_bytes(self);
    }
}

impl Property for u32 {
    fn write(self, w: &mut Writer<'_>) {
        w.out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Property for &str {
    fn write(self, w: &mut Writer<'_>) {
        w.text(self);
    }
}

fn varint_length(value: usize) -> usize {
    bytes_of(u32::try_from(value).unwrap_or(u32::MAX))
}

/// `value` is at most [`REMAINING_BYTES_MAX`], or the packet is taken back.
fn push_varint(out: &mut Vec<u8>, value: usize) {
    let mut rest = value;
    loop {
        let byte = u8::try_from(rest & 0x7f).unwrap_or(0);
        rest >>= 7;
        if rest == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}
