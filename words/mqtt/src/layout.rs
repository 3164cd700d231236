//! The tables of the standards: packet types, and which properties and reasons belong to which
//! packet.

/// Packet types (MQTT 5: 2.1.2).
pub(crate) mod kind {
    pub(crate) const CONNECT: u8 = 1;
    pub(crate) const CONNACK: u8 = 2;
    pub(crate) const PUBLISH: u8 = 3;
    pub(crate) const PUBACK: u8 = 4;
    pub(crate) const PUBREC: u8 = 5;
    pub(crate) const PUBREL: u8 = 6;
    pub(crate) const PUBCOMP: u8 = 7;
    pub(crate) const SUBSCRIBE: u8 = 8;
    pub(crate) const SUBACK: u8 = 9;
    pub(crate) const UNSUBSCRIBE: u8 = 10;
    pub(crate) const UNSUBACK: u8 = 11;
    pub(crate) const PINGREQ: u8 = 12;
    pub(crate) const PINGRESP: u8 = 13;
    pub(crate) const DISCONNECT: u8 = 14;
    pub(crate) const AUTH: u8 = 15;
}

/// Which properties belong to which packet (MQTT 5: table 2-4).
pub(crate) mod belongs {
    use crate::properties::{Set, id};

    pub(crate) const CONNECT: Set = Set::of(&[
        id::SESSION_EXPIRY,
        id::AUTHENTICATION_METHOD,
        id::AUTHENTICATION_DATA,
        id::REQUEST_PROBLEM_INFORMATION,
        id::REQUEST_RESPONSE_INFORMATION,
        id::RECEIVE_MAXIMUM,
        id::TOPIC_ALIAS_MAXIMUM,
        id::USER_PROPERTY,
        id::MAXIMUM_PACKET_SIZE,
    ]);
    pub(crate) const WILL: Set = Set::of(&[
        id::PAYLOAD_FORMAT,
        id::MESSAGE_EXPIRY,
        id::CONTENT_TYPE,
        id::RESPONSE_TOPIC,
        id::CORRELATION_DATA,
        id::WILL_DELAY,
        id::USER_PROPERTY,
    ]);
    pub(crate) const CONNACK: Set = Set::of(&[
        id::SESSION_EXPIRY,
        id::ASSIGNED_CLIENT_ID,
        id::SERVER_KEEP_ALIVE,
        id::AUTHENTICATION_METHOD,
        id::AUTHENTICATION_DATA,
        id::RESPONSE_INFORMATION,
        id::SERVER_REFERENCE,
        id::REASON_STRING,
        id::RECEIVE_MAXIMUM,
        id::TOPIC_ALIAS_MAXIMUM,
        id::MAXIMUM_QOS,
        id::RETAIN_AVAILABLE,
        id::USER_PROPERTY,
        id::MAXIMUM_PACKET_SIZE,
        id::WILDCARD_AVAILABLE,
        id::SUBSCRIPTION_IDS_AVAILABLE,
        id::SHARED_AVAILABLE,
    ]);
    pub(crate) const PUBLISH: Set = Set::of(&[
        id::PAYLOAD_FORMAT,
        id::MESSAGE_EXPIRY,
        id::CONTENT_TYPE,
        id::RESPONSE_TOPIC,
        id::CORRELATION_DATA,
        id::TOPIC_ALIAS,
        id::USER_PROPERTY,
    ]);
    pub(crate) const PUBLISH_OF_SERVER: Set = Set::of(&[
        id::PAYLOAD_FORMAT,
        id::MESSAGE_EXPIRY,
        id::CONTENT_TYPE,
        id::RESPONSE_TOPIC,
        id::CORRELATION_DATA,
        id::SUBSCRIPTION_IDENTIFIER,
        id::TOPIC_ALIAS,
        id::USER_PROPERTY,
    ]);
    pub(crate) const ACKNOWLEDGEMENT: Set = Set::of(&[id::REASON_STRING, id::USER_PROPERTY]);
    pub(crate) const SUBSCRIBE: Set = Set::of(&[id::SUBSCRIPTION_IDENTIFIER, id::USER_PROPERTY]);
    pub(crate) const UNSUBSCRIBE: Set = Set::of(&[id::USER_PROPERTY]);
    pub(crate) const DISCONNECT: Set = Set::of(&[
        id::SESSION_EXPIRY,
        id::SERVER_REFERENCE,
        id::REASON_STRING,
        id::USER_PROPERTY,
    ]);
    pub(crate) const AUTH: Set = Set::of(&[
        id::AUTHENTICATION_METHOD,
        id::AUTHENTICATION_DATA,
        id::REASON_STRING,
        id::USER_PROPERTY,
    ]);
}

pub(crate) mod reasons {
    use crate::Reason;

    /// Also those of PUBREC (MQTT 5: 3.4.2.1, 3.5.2.1).
    pub(crate) const PUBACK: &[Reason] = &[
        Reason::SUCCESS,
        Reason::NO_MATCHING_SUBSCRIBERS,
        Reason::UNSPECIFIED_ERROR,
        Reason::IMPLEMENTATION_SPECIFIC_ERROR,
        Reason::NOT_AUTHORIZED,
        Reason::TOPIC_NAME_INVALID,
        Reason::PACKET_IDENTIFIER_IN_USE,
        Reason::QUOTA_EXCEEDED,
        Reason::PAYLOAD_FORMAT_INVALID,
    ];

    /// Also those of PUBCOMP (MQTT 5: 3.6.2.1, 3.7.2.1).
    pub(crate) const PUBREL: &[Reason] = &[Reason::SUCCESS, Reason::PACKET_IDENTIFIER_NOT_FOUND];

    /// MQTT 5: 3.2.2.2.
    pub(crate) const CONNACK: &[Reason] = &[
        Reason::SUCCESS,
        Reason::UNSPECIFIED_ERROR,
        Reason::MALFORMED_PACKET,
        Reason::PROTOCOL_ERROR,
        Reason::IMPLEMENTATION_SPECIFIC_ERROR,
        Reason::UNSUPPORTED_PROTOCOL_VERSION,
        Reason::CLIENT_IDENTIFIER_NOT_VALID,
        Reason::BAD_USER_NAME_OR_PASSWORD,
        Reason::NOT_AUTHORIZED,
        Reason::SERVER_UNAVAILABLE,
        Reason::SERVER_BUSY,
        Reason::BANNED,
        Reason::BAD_AUTHENTICATION_METHOD,
        Reason::TOPIC_NAME_INVALID,
        Reason::PACKET_TOO_LARGE,
        Reason::QUOTA_EXCEEDED,
        Reason::PAYLOAD_FORMAT_INVALID,
        Reason::RETAIN_NOT_SUPPORTED,
        Reason::QOS_NOT_SUPPORTED,
        Reason::USE_ANOTHER_SERVER,
        Reason::SERVER_MOVED,
        Reason::CONNECTION_RATE_EXCEEDED,
    ];

    /// MQTT 3.1.1: 3.9.3.
    pub(crate) const SUBACK_OF_3_1_1: &[Reason] = &[
        Reason::SUCCESS,
        Reason::GRANTED_QOS_1,
        Reason::GRANTED_QOS_2,
        Reason::UNSPECIFIED_ERROR,
    ];

    /// MQTT 5: 3.9.3.
    pub(crate) const SUBACK: &[Reason] = &[
        Reason::SUCCESS,
        Reason::GRANTED_QOS_1,
        Reason::GRANTED_QOS_2,
        Reason::UNSPECIFIED_ERROR,
        Reason::IMPLEMENTATION_SPECIFIC_ERROR,
        Reason::NOT_AUTHORIZED,
        Reason::TOPIC_FILTER_INVALID,
        Reason::PACKET_IDENTIFIER_IN_USE,
        Reason::QUOTA_EXCEEDED,
        Reason::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
        Reason::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
        Reason::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
    ];

    /// MQTT 5: 3.11.3.
    pub(crate) const UNSUBACK: &[Reason] = &[
        Reason::SUCCESS,
        Reason::NO_SUBSCRIPTION_EXISTED,
        Reason::UNSPECIFIED_ERROR,
        Reason::IMPLEMENTATION_SPECIFIC_ERROR,
        Reason::NOT_AUTHORIZED,
        Reason::TOPIC_FILTER_INVALID,
        Reason::PACKET_IDENTIFIER_IN_USE,
    ];

    /// Those that either side gives (MQTT 5: 3.14.2.1).
    pub(crate) const DISCONNECT: &[Reason] = &[
        Reason::SUCCESS,
        Reason::UNSPECIFIED_ERROR,
        Reason::MALFORMED_PACKET,
        Reason::PROTOCOL_ERROR,
        Reason::IMPLEMENTATION_SPECIFIC_ERROR,
        Reason::TOPIC_NAME_INVALID,
        Reason::RECEIVE_MAXIMUM_EXCEEDED,
        Reason::TOPIC_ALIAS_INVALID,
        Reason::PACKET_TOO_LARGE,
        Reason::MESSAGE_RATE_TOO_HIGH,
        Reason::QUOTA_EXCEEDED,
        Reason::ADMINISTRATIVE_ACTION,
        Reason::PAYLOAD_FORMAT_INVALID,
    ];

    pub(crate) const DISCONNECT_OF_CLIENT: &[Reason] = &[Reason::DISCONNECT_WITH_WILL];

    pub(crate) const DISCONNECT_OF_SERVER: &[Reason] = &[
        Reason::NOT_AUTHORIZED,
        Reason::SERVER_BUSY,
        Reason::SERVER_SHUTTING_DOWN,
        Reason::KEEP_ALIVE_TIMEOUT,
        Reason::SESSION_TAKEN_OVER,
        Reason::TOPIC_FILTER_INVALID,
        Reason::RETAIN_NOT_SUPPORTED,
        Reason::QOS_NOT_SUPPORTED,
        Reason::USE_ANOTHER_SERVER,
        Reason::SERVER_MOVED,
        Reason::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
        Reason::CONNECTION_RATE_EXCEEDED,
        Reason::MAXIMUM_CONNECT_TIME,
        Reason::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
        Reason::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
    ];
}
