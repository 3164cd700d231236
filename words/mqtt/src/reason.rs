//! Reason codes of MQTT 5, table 2-6. MQTT 3.1.1 is spoken by mapping these at the encoder.

use std::fmt;

/// Why a request ended as it did; 0x80 and above are failures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reason(pub u8);

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        impl Reason {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// The standard's name in small letters with dashes: for logs and metric labels.
            /// 0x00 is `success` in whatever packet it stands.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($code => $text,)*
                    _ => "unknown-reason",
                }
            }
        }
    };
}

reasons! {
    /// Also "Normal disconnection" and "Granted QoS 0".
    SUCCESS = 0x00, "success";
    GRANTED_QOS_1 = 0x01, "granted-qos-1";
    GRANTED_QOS_2 = 0x02, "granted-qos-2";
    DISCONNECT_WITH_WILL = 0x04, "disconnect-with-will-message";
    NO_MATCHING_SUBSCRIBERS = 0x10, "no-matching-subscribers";
    NO_SUBSCRIPTION_EXISTED = 0x11, "no-subscription-existed";
    CONTINUE_AUTHENTICATION = 0x18, "continue-authentication";
    REAUTHENTICATE = 0x19, "re-authenticate";
    UNSPECIFIED_ERROR = 0x80, "unspecified-error";
    MALFORMED_PACKET = 0x81, "malformed-packet";
    PROTOCOL_ERROR = 0x82, "protocol-error";
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83, "implementation-specific-error";
    UNSUPPORTED_PROTOCOL_VERSION = 0x84, "unsupported-protocol-version";
    CLIENT_IDENTIFIER_NOT_VALID = 0x85, "client-identifier-not-valid";
    BAD_USER_NAME_OR_PASSWORD = 0x86, "bad-user-name-or-password";
    NOT_AUTHORIZED = 0x87, "not-authorized";
    SERVER_UNAVAILABLE = 0x88, "server-unavailable";
    SERVER_BUSY = 0x89, "server-busy";
    BANNED = 0x8a, "banned";
    SERVER_SHUTTING_DOWN = 0x8b, "server-shutting-down";
    BAD_AUTHENTICATION_METHOD = 0x8c, "bad-authentication-method";
    KEEP_ALIVE_TIMEOUT = 0x8d, "keep-alive-timeout";
    SESSION_TAKEN_OVER = 0x8e, "session-taken-over";
    TOPIC_FILTER_INVALID = 0x8f, "topic-filter-invalid";
    TOPIC_NAME_INVALID = 0x90, "topic-name-invalid";
    PACKET_IDENTIFIER_IN_USE = 0x91, "packet-identifier-in-use";
    PACKET_IDENTIFIER_NOT_FOUND = 0x92, "packet-identifier-not-found";
    RECEIVE_MAXIMUM_EXCEEDED = 0x93, "receive-maximum-exceeded";
    TOPIC_ALIAS_INVALID = 0x94, "topic-alias-invalid";
    PACKET_TOO_LARGE = 0x95, "packet-too-large";
    MESSAGE_RATE_TOO_HIGH = 0x96, "message-rate-too-high";
    QUOTA_EXCEEDED = 0x97, "quota-exceeded";
    ADMINISTRATIVE_ACTION = 0x98, "administrative-action";
    PAYLOAD_FORMAT_INVALID = 0x99, "payload-format-invalid";
    RETAIN_NOT_SUPPORTED = 0x9a, "retain-not-supported";
    QOS_NOT_SUPPORTED = 0x9b, "qos-not-supported";
    USE_ANOTHER_SERVER = 0x9c, "use-another-server";
    SERVER_MOVED = 0x9d, "server-moved";
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9e, "shared-subscriptions-not-supported";
    CONNECTION_RATE_EXCEEDED = 0x9f, "connection-rate-exceeded";
    MAXIMUM_CONNECT_TIME = 0xa0, "maximum-connect-time";
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xa1, "subscription-identifiers-not-supported";
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xa2, "wildcard-subscriptions-not-supported";
}

impl Reason {
    #[must_use]
    pub const fn is_failure(self) -> bool {
        self.0 >= 0x80
    }

    /// The CONNACK return code of MQTT 3.1.1 (3.2.2.3) that says the same. `None`: 3.1.1 has no
    /// word for it and wants the connection closed without a CONNACK.
    #[must_use]
    pub(crate) const fn connect_return_code(self) -> Option<u8> {
        match self {
            Self::SUCCESS => Some(0),
            Self::UNSUPPORTED_PROTOCOL_VERSION => Some(1),
            Self::CLIENT_IDENTIFIER_NOT_VALID => Some(2),
            Self::SERVER_UNAVAILABLE
            | Self::SERVER_BUSY
            | Self::SERVER_SHUTTING_DOWN
            | Self::QUOTA_EXCEEDED
            | Self::USE_ANOTHER_SERVER
            | Self::SERVER_MOVED
            | Self::CONNECTION_RATE_EXCEEDED => Some(3),
            Self::BAD_USER_NAME_OR_PASSWORD => Some(4),
            Self::NOT_AUTHORIZED | Self::BANNED | Self::BAD_AUTHENTICATION_METHOD => Some(5),
            _ => None,
        }
    }

    /// The inverse for a client that hears 3.1.1.
    pub(crate) const fn from_connect_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::SUCCESS),
            1 => Some(Self::UNSUPPORTED_PROTOCOL_VERSION),
            2 => Some(Self::CLIENT_IDENTIFIER_NOT_VALID),
            3 => Some(Self::SERVER_UNAVAILABLE),
            4 => Some(Self::BAD_USER_NAME_OR_PASSWORD),
            5 => Some(Self::NOT_AUTHORIZED),
            _ => None,
        }
    }
}

/// `not-authorized (0x87)`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02x})", self.name(), self.0)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
