//! Every rule whose breach refuses a packet, with the reason code to close with.
//!
//! Malformed Packet (0x81) is for bytes that cannot be read as the standard lays them out,
//! Protocol Error (0x82) for a readable value that the standard does not allow (MQTT 5: 1.2, 4.13).
//! Codes that the standard names for one case are used for that case. Reasons 0x8f and 0x90 are
//! not among them: they speak of names that are well formed but not accepted.

use crate::Reason;

/// A packet that breaks the standard. The peer's MQTT library must act, nobody else can.
///
/// Close the connection: on MQTT 5 with `reason` (in a CONNACK if the packet was CONNECT, else in
/// a DISCONNECT); on 3.1.1 [`crate::encode`] writes the CONNACK where 3.1.1 has a code for it and
/// nothing otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {rule}")]
pub struct Malformed {
    pub reason: Reason,
    /// The rule with its section; holds nothing from the packet.
    pub rule: &'static str,
}

macro_rules! rules {
    ($($name:ident = $reason:ident, $rule:literal;)*) => {
        $(pub(crate) const $name: Malformed = Malformed {
            reason: Reason::$reason,
            rule: $rule,
        };)*

        /// All refusals by name: what the documentation lists and tests refer to.
        pub const RULES: &[(&str, Malformed)] = &[$((stringify!($name), $name),)*];
    };
}

rules! {
    // Framing
    PACKET_TYPE = MALFORMED_PACKET, "packet type 0 is reserved, and 15 is AUTH of MQTT 5 only (MQTT 5: 2.1.2, 3.1.1: 2.2.1)";
    FIXED_HEADER_FLAGS = MALFORMED_PACKET, "the reserved flags of the fixed header have one allowed value (MQTT 5: 2.1.3, 3.1.1: 2.2.2)";
    REMAINING_LENGTH_BYTES = MALFORMED_PACKET, "a length has at most four bytes (MQTT 5: 1.5.5, 3.1.1: 2.2.3)";
    LENGTH_NOT_MINIMAL = MALFORMED_PACKET, "a variable byte integer uses as few bytes as it can (MQTT 5: 1.5.5)";
    PACKET_TOO_LARGE = PACKET_TOO_LARGE, "the packet is larger than the receiver takes (MQTT 5: 3.1.2.11.4, 3.2.2.3.6)";
    FRAME_LENGTH = MALFORMED_PACKET, "a packet is as long as its header says (MQTT 5: 2.1.4, 3.1.1: 2.2.3)";
    FIELD_PAST_END = MALFORMED_PACKET, "a field runs past the end of its packet (MQTT 5: 1.5, 3.1.1: 1.5)";
    TRAILING_BYTES = MALFORMED_PACKET, "bytes follow the last field of the packet (MQTT 5: 2.1.4, 3.1.1: 2.2.3)";
    UTF_8 = MALFORMED_PACKET, "a string is well-formed UTF-8 without surrogates (MQTT 5: 1.5.4, 3.1.1: 1.5.3)";
    NULL_CHARACTER = MALFORMED_PACKET, "a string does not hold U+0000 (MQTT 5: 1.5.4, 3.1.1: 1.5.3)";
    PACKET_IDENTIFIER_ZERO = PROTOCOL_ERROR, "a packet identifier is not 0 (MQTT 5: 2.2.1, 3.1.1: 2.3.1)";
    WRONG_SENDER = PROTOCOL_ERROR, "this packet travels in the other direction only (MQTT 5: 2.1.2, 3.1.1: 2.2.1)";
    REASON_CODE = PROTOCOL_ERROR, "the reason code is not one of this packet, or not one of its sender (MQTT 5: 2.4, 3.1.1: 3.2.2.3, 3.9.3)";

    // Topics and filters
    TOPIC_EMPTY = PROTOCOL_ERROR, "a topic name has at least one character, or a topic alias in MQTT 5 (MQTT 3.3.2.1, 4.7.3)";
    TOPIC_WILDCARD = PROTOCOL_ERROR, "a topic name holds no wildcard (MQTT 3.3.2.1, 4.7.1)";
    FILTER_EMPTY = PROTOCOL_ERROR, "a topic filter has at least one character (MQTT 4.7.3)";
    FILTER_MULTI_LEVEL = PROTOCOL_ERROR, "# is a whole level and the last one (MQTT 4.7.1.2)";
    FILTER_SINGLE_LEVEL = PROTOCOL_ERROR, "+ is a whole level (MQTT 4.7.1.3)";
    SHARE_NAME = PROTOCOL_ERROR, "a shared subscription is $share/{name}/{filter}, its name not empty and without + and # (MQTT 5: 4.8.2)";

    // Properties
    PROPERTY_NOT_ALLOWED = MALFORMED_PACKET, "the property is unknown or does not belong to this packet (MQTT 5: 2.2.2.2)";
    PROPERTY_TWICE = PROTOCOL_ERROR, "only user properties may occur more than once (MQTT 5: 2.2.2.2)";
    PROPERTY_VALUE = PROTOCOL_ERROR, "the property has a value that the standard excludes (MQTT 5: 3.1.2.11, 3.2.2.3, 3.3.2.3.2)";
    TOPIC_ALIAS_ZERO = TOPIC_ALIAS_INVALID, "a topic alias is not 0 (MQTT 5: 3.3.2.3.4)";
    SUBSCRIPTION_IDENTIFIER_ZERO = PROTOCOL_ERROR, "a subscription identifier is not 0 (MQTT 5: 3.8.2.1.2)";
    SUBSCRIPTION_IDENTIFIER_IN_PUBLISH = PROTOCOL_ERROR, "a client sends no subscription identifier in PUBLISH (MQTT 5: 3.3.4)";
    AUTHENTICATION_METHOD_MISSING = PROTOCOL_ERROR, "authentication data and AUTH need an authentication method (MQTT 5: 3.1.2.11.10, 3.15.2.2.2)";
    PROPERTY_OF_OTHER_SIDE = PROTOCOL_ERROR, "DISCONNECT has its session expiry interval from a client and its server reference from a server (MQTT 5: 3.14.2.2)";
    PAYLOAD_NOT_UTF_8 = PAYLOAD_FORMAT_INVALID, "a payload that is declared UTF-8 is UTF-8 (MQTT 5: 3.3.2.3.2, 3.1.3.2.3)";

    // CONNECT and CONNACK
    CONNECT_FIRST = PROTOCOL_ERROR, "the first packet of a client is CONNECT (MQTT 3.1)";
    PROTOCOL_NAME = UNSUPPORTED_PROTOCOL_VERSION, "the protocol name is MQTT (MQTT 3.1.2.1)";
    PROTOCOL_LEVEL = UNSUPPORTED_PROTOCOL_VERSION, "the protocol level is 4 (MQTT 3.1.1) or 5 (MQTT 5) (MQTT 3.1.2.2)";
    CONNECT_RESERVED_FLAG = MALFORMED_PACKET, "the reserved flag of CONNECT is 0 (MQTT 3.1.2.3)";
    WILL_FLAGS = MALFORMED_PACKET, "will QoS is at most 2, and will QoS and will retain are 0 without a will (MQTT 3.1.2.6, 3.1.2.7)";
    PASSWORD_WITHOUT_USER_NAME = MALFORMED_PACKET, "a password needs a user name (MQTT 3.1.1: 3.1.2.9)";
    CLIENT_IDENTIFIER_EMPTY = CLIENT_IDENTIFIER_NOT_VALID, "an empty client identifier needs a clean session (MQTT 3.1.1: 3.1.3.1)";
    CONNACK_FLAGS = MALFORMED_PACKET, "bits 7 to 1 of the CONNACK flags are 0, and no session is present after a refusal (MQTT 3.2.2)";

    // PUBLISH, SUBSCRIBE, UNSUBSCRIBE
    PUBLISH_QOS = MALFORMED_PACKET, "QoS is at most 2 (MQTT 3.3.1.2)";
    DUP_AT_QOS_0 = MALFORMED_PACKET, "DUP is 0 for QoS 0 (MQTT 3.3.1.1)";
    NO_TOPIC_FILTER = PROTOCOL_ERROR, "the payload holds at least one topic filter, or a code for one (MQTT 3.8.3, 3.9.3, 3.10.3)";
    SUBSCRIPTION_OPTIONS = MALFORMED_PACKET, "the reserved bits of the subscription options are 0 and QoS is at most 2 (MQTT 5: 3.8.3.1, 3.1.1: 3.8.3)";
    RETAIN_HANDLING = PROTOCOL_ERROR, "retain handling is at most 2 (MQTT 5: 3.8.3.1)";
    NO_LOCAL_ON_SHARE = PROTOCOL_ERROR, "a shared subscription does not set no-local (MQTT 5: 3.8.3.1)";
}
