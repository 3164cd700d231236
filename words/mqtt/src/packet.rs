//! The packets, borrowed from the frame they came in.

use crate::decode;
use crate::{ForwardProperties, Reason};
use std::fmt;

/// The protocol level of a connection, chosen by its CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1.1, level 4.
    V311,
    /// MQTT 5.0, level 5.
    V5,
}

/// Quality of service. The order is the standard's: more is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl Qos {
    /// `None` for 3, which the standards reserve, and above.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The SUBACK code that grants this.
    #[must_use]
    pub const fn granted(self) -> Reason {
        Reason(self as u8)
    }
}

/// One whole packet (MQTT 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Suback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// The standard's name, for logs and metric labels.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "CONNECT",
            Self::Connack(_) => "CONNACK",
            Self::Publish(_) => "PUBLISH",
            Self::Puback(_) => "PUBACK",
            Self::Pubrec(_) => "PUBREC",
            Self::Pubrel(_) => "PUBREL",
            Self::Pubcomp(_) => "PUBCOMP",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::Suback(_) => "SUBACK",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::Unsuback(_) => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect(_) => "DISCONNECT",
            Self::Auth(_) => "AUTH",
        }
    }
}

/// CONNECT (MQTT 3.1). `None` in a 5.0 property: the client did not send it. In 3.1.1 all
/// properties are absent, `clean_start` is Clean Session and the two requests have the
/// defaults of 5.0 (problem information yes, response information no).
///
/// User properties and authentication data are checked and dropped: nobody here uses them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    pub version: Version,
    /// May be empty: the server then assigns one (3.1.1: only with `clean_start`).
    pub client_id: &'a str,
    pub clean_start: bool,
    /// 0: the client asks for no limit.
    pub keep_alive_seconds: u16,
    pub will: Option<Will<'a>>,
    pub username: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    /// `u32::MAX`: never expires.
    pub session_expiry_seconds: Option<u32>,
    /// Not 0.
    pub receive_maximum: Option<u16>,
    /// Not 0. Whole packets, fixed header included.
    pub packet_bytes_max: Option<u32>,
    pub topic_alias_maximum: Option<u16>,
    pub request_problem_information: bool,
    pub request_response_information: bool,
    pub authentication_method: Option<&'a str>,
}

impl<'a> Connect<'a> {
    /// A clean start with a keep-alive of 60 s and all else at the standard's defaults.
    #[must_use]
    pub const fn new(version: Version, client_id: &'a str) -> Self {
        Self {
            version,
            client_id,
            clean_start: true,
            keep_alive_seconds: 60,
            will: None,
            username: None,
            password: None,
            session_expiry_seconds: None,
            receive_maximum: None,
            packet_bytes_max: None,
            topic_alias_maximum: None,
            request_problem_information: true,
            request_response_information: false,
            authentication_method: None,
        }
    }
}

/// Written by hand so that a password never reaches a log.
impl fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive_seconds", &self.keep_alive_seconds)
            .field("will", &self.will)
            .field("username", &self.username)
            .field("password_bytes", &self.password.map(<[u8]>::len))
            .field("session_expiry_seconds", &self.session_expiry_seconds)
            .field("receive_maximum", &self.receive_maximum)
            .field("packet_bytes_max", &self.packet_bytes_max)
            .field("topic_alias_maximum", &self.topic_alias_maximum)
            .field(
                "request_problem_information",
                &self.request_problem_information,
            )
            .field(
                "request_response_information",
                &self.request_response_information,
            )
            .field("authentication_method", &self.authentication_method)
            .finish()
    }
}

/// The message a server publishes when the client is lost (MQTT 3.1.2.5).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    pub qos: Qos,
    pub retain: bool,
    /// A valid topic name.
    pub topic: &'a str,
    pub payload: &'a [u8],
    /// 0 in 3.1.1 and when absent.
    pub delay_seconds: u32,
    pub forward: ForwardProperties<'a>,
}

impl fmt::Debug for Will<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Will")
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("delay_seconds", &self.delay_seconds)
            .field("forward", &self.forward)
            .finish()
    }
}

/// CONNACK (MQTT 3.2), as a client hears it and as [`crate::encode::connack`] writes it.
///
/// `Default` is a server that offers nothing beyond QoS 2: the four `.._available` are false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connack<'a> {
    pub session_present: bool,
    /// The 5.0 code; mapped to and from the 3.1.1 return code.
    pub reason: Reason,
    pub session_expiry_seconds: Option<u32>,
    pub receive_maximum: Option<u16>,
    /// The server does not take QoS 2. A peer that takes QoS 0 alone reads as this too; ours
    /// never does.
    pub maximum_qos_1: bool,
    pub retain_available: bool,
    pub packet_bytes_max: Option<u32>,
    pub assigned_client_id: Option<&'a str>,
    /// 0: the server takes no aliases.
    pub topic_alias_maximum: u16,
    pub reason_string: Option<&'a str>,
    pub wildcard_available: bool,
    pub subscription_ids_available: bool,
    pub shared_available: bool,
    pub server_keep_alive_seconds: Option<u16>,
}

impl Default for Connack<'_> {
    fn default() -> Self {
        Self {
            session_present: false,
            reason: Reason::SUCCESS,
            session_expiry_seconds: None,
            receive_maximum: None,
            maximum_qos_1: false,
            retain_available: false,
            packet_bytes_max: None,
            assigned_client_id: None,
            topic_alias_maximum: 0,
            reason_string: None,
            wildcard_available: false,
            subscription_ids_available: false,
            shared_available: false,
            server_keep_alive_seconds: None,
        }
    }
}

/// PUBLISH (MQTT 3.3), as it was heard and as [`crate::encode::publish`] writes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Never set with QoS 0.
    pub dup: bool,
    pub qos: Qos,
    pub retain: bool,
    /// A valid topic name; empty only with `topic_alias`.
    pub topic: &'a str,
    /// Present, and not 0, exactly for QoS 1 and 2.
    pub packet_id: Option<u16>,
    /// Not 0. Whether it is within the announced maximum is the session's to know.
    pub topic_alias: Option<u16>,
    pub forward: ForwardProperties<'a>,
    /// UTF-8 where the message says so.
    pub payload: &'a [u8],
}

impl fmt::Debug for Publish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("dup", &self.dup)
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("topic", &self.topic)
            .field("packet_id", &self.packet_id)
            .field("topic_alias", &self.topic_alias)
            .field("forward", &self.forward)
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (MQTT 3.4 to 3.7). In 3.1.1 the reason is always success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Not 0.
    pub packet_id: u16,
    pub reason: Reason,
    pub reason_string: Option<&'a str>,
}

/// SUBSCRIBE (MQTT 3.8): at least one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Not 0.
    pub packet_id: u16,
    /// Not 0.
    pub subscription_id: Option<u32>,
    /// Entries that [`decode`] has checked.
    pub(crate) entries: &'a [u8],
}

impl<'a> Subscribe<'a> {
    pub fn entries(&self) -> impl Iterator<Item = SubscribeEntry<'a>> + use<'a> {
        decode::subscribe_entries(self.entries)
    }
}

/// One filter of a SUBSCRIBE and its options (MQTT 3.8.3). In 3.1.1 only `qos` is asked for;
/// the rest has the values that act as 3.1.1 does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeEntry<'a> {
    /// Syntactically valid, but perhaps deeper than [`crate::Filter::new`] takes. May be a shared
    /// subscription: see [`SubscribeEntry::share`].
    pub filter: &'a str,
    pub qos: Qos,
    pub no_local: bool,
    pub retain_as_published: bool,
    /// 0: send retained messages, 1: only for a new subscription, 2: do not.
    pub retain_handling: u8,
}

impl<'a> SubscribeEntry<'a> {
    /// Share name and inner filter of `$share/{name}/{filter}` (MQTT 5: 4.8.2); `None` for an
    /// ordinary filter. 3.1.1 does not know shares, yet clients try them there too: ask this for
    /// both versions and refuse what is not offered.
    #[must_use]
    pub fn share(&self) -> Option<(&'a str, &'a str)> {
        self.filter.strip_prefix("$share/")?.split_once('/')
    }

    /// True for anything below `$share`, well formed or not.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.filter == "$share" || self.filter.starts_with("$share/")
    }
}

/// UNSUBSCRIBE (MQTT 3.10): at least one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Not 0.
    pub packet_id: u16,
    /// Filters that [`decode`] has checked.
    pub(crate) filters: &'a [u8],
}

impl<'a> Unsubscribe<'a> {
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        decode::unsubscribe_filters(self.filters)
    }
}

/// SUBACK or UNSUBACK (MQTT 3.9, 3.11): one reason per filter, in order. The UNSUBACK of 3.1.1
/// carries none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suback<'a> {
    /// Not 0.
    pub packet_id: u16,
    pub reason_string: Option<&'a str>,
    pub(crate) codes: &'a [u8],
}

impl<'a> Suback<'a> {
    pub fn reasons(&self) -> impl ExactSizeIterator<Item = Reason> + use<'a> {
        self.codes.iter().copied().map(Reason)
    }
}

/// DISCONNECT (MQTT 3.14). In 3.1.1 it is the client's normal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect<'a> {
    pub reason: Reason,
    /// From a client only.
    pub session_expiry_seconds: Option<u32>,
    pub reason_string: Option<&'a str>,
    /// From a server only.
    pub server_reference: Option<&'a str>,
}

/// AUTH (MQTT 5: 3.15). Authentication data is checked and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    pub reason: Reason,
    pub authentication_method: &'a str,
    pub reason_string: Option<&'a str>,
}
