//! Properties of MQTT 5 (2.2.2): one walk that checks and collects, and the part of them that
//! travels on with a message.

use crate::reader::Reader;
use crate::rule::{self, Malformed};
use crate::topic::check_topic;
use std::borrow::Cow;
use std::fmt;

/// Identifiers of table 2-4.
pub(crate) mod id {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1a;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1c;
    pub(crate) const REASON_STRING: u8 = 0x1f;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER_PROPERTY: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2a;
}

/// A set of property identifiers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set(u64);

impl Set {
    pub(crate) const fn of(ids: &[u8]) -> Self {
        let mut bits = 0;
        let mut rest = ids;
        while let [id, after @ ..] = rest {
            bits |= 1 << *id;
            rest = after;
        }
        Self(bits)
    }

    const fn has(self, id: u8) -> bool {
        id < 64 && self.0 & (1 << id) != 0
    }

    const fn with(self, id: u8) -> Self {
        Self(self.0 | (1 << id))
    }
}

/// A property's value by data type.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Byte(u8),
    TwoBytes(u16),
    FourBytes(u32),
    Varint(u32),
    Text(&'a str),
    Binary(&'a [u8]),
    Pair,
}

/// All that some packet can carry, as far as somebody here reads it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Collected<'a> {
    pub(crate) payload_is_utf_8: bool,
    pub(crate) subscription_id: Option<u32>,
    pub(crate) session_expiry_seconds: Option<u32>,
    pub(crate) assigned_client_id: Option<&'a str>,
    pub(crate) server_keep_alive_seconds: Option<u16>,
    pub(crate) authentication_method: Option<&'a str>,
    pub(crate) has_authentication_data: bool,
    pub(crate) request_problem_information: Option<u8>,
    pub(crate) request_response_information: Option<u8>,
    pub(crate) will_delay_seconds: Option<u32>,
    pub(crate) server_reference: Option<&'a str>,
    pub(crate) reason_string: Option<&'a str>,
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) topic_alias_maximum: Option<u16>,
    pub(crate) topic_alias: Option<u16>,
    pub(crate) maximum_qos: Option<u8>,
    pub(crate) retain_available: Option<u8>,
    pub(crate) packet_bytes_max: Option<u32>,
    pub(crate) wildcard_available: Option<u8>,
    pub(crate) subscription_ids_available: Option<u8>,
    pub(crate) shared_available: Option<u8>,
    /// Bytes before and after the one property that does not travel on.
    hole: Option<(usize, usize)>,
}

impl<'a> Collected<'a> {
    /// Checks a whole block and keeps what is read later.
    pub(crate) fn read(block: &'a [u8], allowed: Set) -> Result<Self, Malformed> {
        let mut found = Self::default();
        let mut seen = Set::of(&[]);
        let mut reader = Reader::new(block);
        while !reader.is_empty() {
            let start = block.len() - reader.rest().len();
            let (id, value) = read_one(&mut reader)?;
            if !allowed.has(id) {
                return Err(
                    if id == id::SUBSCRIPTION_IDENTIFIER && allowed.has(id::TOPIC_ALIAS) {
                        rule::SUBSCRIPTION_IDENTIFIER_IN_PUBLISH
                    } else {
                        rule::PROPERTY_NOT_ALLOWED
                    },
                );
            }
            // A message that matched several subscriptions names them all (MQTT 5: 3.3.2.3.8).
            let may_repeat = id == id::USER_PROPERTY
                || (id == id::SUBSCRIPTION_IDENTIFIER && allowed.has(id::TOPIC_ALIAS));
            if seen.has(id) && !may_repeat {
                return Err(rule::PROPERTY_TWICE);
            }
            seen = seen.with(id);
            check_value(id, value)?;
            found.keep(id, value);
            if matches!(id, id::TOPIC_ALIAS | id::WILL_DELAY) {
                found.hole = Some((start, reader.rest().len()));
            }
        }
        if found.has_authentication_data && found.authentication_method.is_none() {
            return Err(rule::AUTHENTICATION_METHOD_MISSING);
        }
        Ok(found)
    }

    /// The part of `block`, which this was read from, that travels with the message.
    pub(crate) fn forward(&self, block: &'a [u8]) -> ForwardProperties<'a> {
        let (head, tail) = match self.hole {
            None => (block, &[][..]),
            Some((before, after)) => (
                block.get(..before).unwrap_or_default(),
                block.get(block.len() - after..).unwrap_or_default(),
            ),
        };
        ForwardProperties {
            parts: [head, tail, &[]],
            expiry: None,
        }
    }

    fn keep(&mut self, id: u8, value: Value<'a>) {
        match (id, value) {
            (id::PAYLOAD_FORMAT, Value::Byte(v)) => self.payload_is_utf_8 = v == 1,
            (id::SUBSCRIPTION_IDENTIFIER, Value::Varint(v)) => self.subscription_id = Some(v),
            (id::SESSION_EXPIRY, Value::FourBytes(v)) => self.session_expiry_seconds = Some(v),
            (id::ASSIGNED_CLIENT_ID, Value::Text(v)) => self.assigned_client_id = Some(v),
            (id::SERVER_KEEP_ALIVE, Value::TwoBytes(v)) => self.server_keep_alive_seconds = Some(v),
            (id::AUTHENTICATION_METHOD, Value::Text(v)) => self.authentication_method = Some(v),
            (id::AUTHENTICATION_DATA, _) => self.has_authentication_data = true,
            (id::REQUEST_PROBLEM_INFORMATION, Value::Byte(v)) => {
                self.request_problem_information = Some(v);
            }
            (id::REQUEST_RESPONSE_INFORMATION, Value::Byte(v)) => {
                self.request_response_information = Some(v);
            }
            (id::WILL_DELAY, Value::FourBytes(v)) => self.will_delay_seconds = Some(v),
            (id::SERVER_REFERENCE, Value::Text(v)) => self.server_reference = Some(v),
            (id::REASON_STRING, Value::Text(v)) => self.reason_string = Some(v),
            (id::RECEIVE_MAXIMUM, Value::TwoBytes(v)) => self.receive_maximum = Some(v),
            (id::TOPIC_ALIAS_MAXIMUM, Value::TwoBytes(v)) => self.topic_alias_maximum = Some(v),
            (id::TOPIC_ALIAS, Value::TwoBytes(v)) => self.topic_alias = Some(v),
            (id::MAXIMUM_QOS, Value::Byte(v)) => self.maximum_qos = Some(v),
            (id::RETAIN_AVAILABLE, Value::Byte(v)) => self.retain_available = Some(v),
            (id::MAXIMUM_PACKET_SIZE, Value::FourBytes(v)) => self.packet_bytes_max = Some(v),
            (id::WILDCARD_AVAILABLE, Value::Byte(v)) => self.wildcard_available = Some(v),
            (id::SUBSCRIPTION_IDS_AVAILABLE, Value::Byte(v)) => {
                self.subscription_ids_available = Some(v);
            }
            (id::SHARED_AVAILABLE, Value::Byte(v)) => self.shared_available = Some(v),
            // Read from the block when somebody asks, or by nobody.
            _ => {}
        }
    }
}

/// The next property. Its identifier is a variable byte integer whose known values take one byte.
fn read_one<'a>(reader: &mut Reader<'a>) -> Result<(u8, Value<'a>), Malformed> {
    let id = u8::try_from(reader.varint()?).map_err(|_| rule::PROPERTY_NOT_ALLOWED)?;
    let value = match id {
        id::PAYLOAD_FORMAT
        | id::REQUEST_PROBLEM_INFORMATION
        | id::REQUEST_RESPONSE_INFORMATION
        | id::MAXIMUM_QOS
        | id::RETAIN_AVAILABLE
        | id::WILDCARD_AVAILABLE
        | id::SUBSCRIPTION_IDS_AVAILABLE
        | id::SHARED_AVAILABLE => Value::Byte(reader.byte()?),
        id::SERVER_KEEP_ALIVE | id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM | id::TOPIC_ALIAS => {
            Value::TwoBytes(reader.two_bytes()?)
        }
        id::MESSAGE_EXPIRY | id::SESSION_EXPIRY | id::WILL_DELAY | id::MAXIMUM_PACKET_SIZE => {
            Value::FourBytes(reader.four_bytes()?)
        }
        id::SUBSCRIPTION_IDENTIFIER => Value::Varint(reader.varint()?),
        id::CONTENT_TYPE
        | id::RESPONSE_TOPIC
        | id::ASSIGNED_CLIENT_ID
        | id::AUTHENTICATION_METHOD
        | id::RESPONSE_INFORMATION
        | id::SERVER_REFERENCE
        | id::REASON_STRING => Value::Text(reader.text()?),
        id::CORRELATION_DATA | id::AUTHENTICATION_DATA => Value::Binary(reader.binary()?),
        id::USER_PROPERTY => {
            reader.text()?;
            reader.text()?;
            Value::Pair
        }
        _ => return Err(rule::PROPERTY_NOT_ALLOWED),
    };
    Ok((id, value))
}

fn check_value(id: u8, value: Value<'_>) -> Result<(), Malformed> {
    match (id, value) {
        (id::SUBSCRIPTION_IDENTIFIER, Value::Varint(0)) => Err(rule::SUBSCRIPTION_IDENTIFIER_ZERO),
        (id::TOPIC_ALIAS, Value::TwoBytes(0)) => Err(rule::TOPIC_ALIAS_ZERO),
        (id::RESPONSE_TOPIC, Value::Text(topic)) => check_topic(topic),
        // Every property of one byte is a yes or a no.
        (_, Value::Byte(2..))
        | (id::RECEIVE_MAXIMUM, Value::TwoBytes(0))
        | (id::MAXIMUM_PACKET_SIZE, Value::FourBytes(0)) => Err(rule::PROPERTY_VALUE),
        _ => Ok(()),
    }
}

/// The properties that travel with a message from publisher to receivers (MQTT 5: 3.3.2.3):
/// payload format, message expiry, content type, response topic, correlation data and user
/// properties, encoded and in the order in which they came.
///
/// They are two slices of the frame because one property that does not travel (topic alias, will
/// delay) may stand between them. The third is the receiver's: the identifiers of its subscriptions.
#[derive(Clone, Copy, Default)]
pub struct ForwardProperties<'a> {
    parts: [&'a [u8]; 3],
    expiry: Option<u32>,
}

impl<'a> ForwardProperties<'a> {
    /// None at all: every message of 3.1.1.
    pub const NONE: ForwardProperties<'static> = ForwardProperties {
        parts: [&[], &[], &[]],
        expiry: None,
    };

    /// From bytes that [`Self::append_to`] or [`Self::as_bytes`] gave, out of a journal for
    /// instance. Other bytes make no sense and no panic, but would be sent as they are.
    #[must_use]
    pub const fn from_validated(bytes: &'a [u8]) -> Self {
        Self {
            parts: [bytes, &[], &[]],
            expiry: None,
        }
    }

    /// Encoded, without the length in front. Borrowed unless a topic alias or a will delay stood
    /// in their midst, or the expiry was replaced: to copy them anyway use [`Self::append_to`].
    #[must_use]
    pub fn as_bytes(&self) -> Cow<'a, [u8]> {
        match (self.parts, self.expiry) {
            ([whole, [], []] | [[], whole, []] | [[], [], whole], None) => Cow::Borrowed(whole),
            _ => {
                let mut bytes = Vec::with_capacity(self.encoded_length());
                self.append_to(&mut bytes);
                Cow::Owned(bytes)
            }
        }
    }

    /// Appends the same bytes to `out`.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        for part in self.parts {
            let start = out.len();
            out.extend_from_slice(part);
            let Some(seconds) = self.expiry else { continue };
            if let Some(at) = expiry_offset(part)
                && let Some(field) = out.get_mut(start + at..start + at + 4)
            {
                field.copy_from_slice(&seconds.to_be_bytes());
            }
        }
    }

    /// How many bytes [`Self::append_to`] appends.
    #[must_use]
    pub const fn encoded_length(&self) -> usize {
        let [head, tail, identifiers] = self.parts;
        head.len() + tail.len() + identifiers.len()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.encoded_length() == 0
    }

    /// As these, but with this much of the message expiry interval left (MQTT 5: 3.3.2.3.3 wants
    /// the time a message waited taken off). No effect where the publisher set none.
    #[must_use]
    pub const fn with_expiry_left(mut self, seconds: u32) -> Self {
        self.expiry = Some(seconds);
        self
    }

    /// As these, for a receiver whose subscriptions have `identifiers`: what
    /// [`crate::encode::subscription_identifier`] wrote.
    #[must_use]
    pub const fn with_subscription_ids(mut self, identifiers: &'a [u8]) -> Self {
        let [head, tail, _] = self.parts;
        self.parts = [head, tail, identifiers];
        self
    }

    /// The identifiers of the receiver's subscriptions that the message matched.
    pub fn subscription_ids(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.parts.into_iter().flat_map(|part| {
            let mut reader = Reader::new(part);
            std::iter::from_fn(move || {
                while !reader.is_empty() {
                    let (_, value) = read_one(&mut reader).ok()?;
                    if let Value::Varint(identifier) = value {
                        return Some(identifier);
                    }
                }
                None
            })
        })
    }

    #[must_use]
    pub fn message_expiry_seconds(&self) -> Option<u32> {
        self.find(|id, value| match (id, value) {
            (id::MESSAGE_EXPIRY, Value::FourBytes(seconds)) => Some(self.expiry.unwrap_or(seconds)),
            _ => None,
        })
    }

    /// The publisher declares the payload to be UTF-8, and it is.
    #[must_use]
    pub fn payload_is_utf_8(&self) -> bool {
        self.find(|id, value| match (id, value) {
            (id::PAYLOAD_FORMAT, Value::Byte(flag)) => Some(flag == 1),
            _ => None,
        })
        .unwrap_or(false)
    }

    /// A valid topic name. Whether the requester may hear it is a grant's to say.
    #[must_use]
    pub fn response_topic(&self) -> Option<&'a str> {
        self.find(|id, value| match (id, value) {
            (id::RESPONSE_TOPIC, Value::Text(text)) => Some(text),
            _ => None,
        })
    }

    #[must_use]
    pub fn content_type(&self) -> Option<&'a str> {
        self.find(|id, value| match (id, value) {
            (id::CONTENT_TYPE, Value::Text(text)) => Some(text),
            _ => None,
        })
    }

    #[must_use]
    pub fn correlation_data(&self) -> Option<&'a [u8]> {
        self.find(|id, value| match (id, value) {
            (id::CORRELATION_DATA, Value::Binary(bytes)) => Some(bytes),
            _ => None,
        })
    }

    /// Name and value of each, in order; names may repeat.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.parts.into_iter().flat_map(|part| {
            let mut reader = Reader::new(part);
            std::iter::from_fn(move || {
                while !reader.is_empty() {
                    let mut pair = reader;
                    let (id, _) = read_one(&mut reader).ok()?;
                    if id == id::USER_PROPERTY {
                        pair.byte().ok()?;
                        return Some((pair.text().ok()?, pair.text().ok()?));
                    }
                }
                None
            })
        })
    }

    fn find<T>(&self, mut wanted: impl FnMut(u8, Value<'a>) -> Option<T>) -> Option<T> {
        for part in self.parts {
            let mut reader = Reader::new(part);
            while !reader.is_empty() {
                let (id, value) = read_one(&mut reader).ok()?;
                if let Some(found) = wanted(id, value) {
                    return Some(found);
                }
            }
        }
        None
    }
}

/// Where in a run of properties the four bytes of the message expiry interval begin.
fn expiry_offset(part: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(part);
    while !reader.is_empty() {
        let (id, _) = read_one(&mut reader).ok()?;
        if id == id::MESSAGE_EXPIRY {
            return part.len().checked_sub(reader.rest().len() + 4);
        }
    }
    None
}

/// Equal if they encode to the same bytes.
impl PartialEq for ForwardProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for ForwardProperties<'_> {}

/// Names what is there; leaves out correlation data and user properties, which may be personal.
impl fmt::Debug for ForwardProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardProperties")
            .field("encoded_length", &self.encoded_length())
            .field("message_expiry_seconds", &self.message_expiry_seconds())
            .field("response_topic", &self.response_topic())
            .field("content_type", &self.content_type())
            .finish_non_exhaustive()
    }
}
