//! What happened that somebody should know: one value, one log line, one who must act.

use crate::turn::CloseReason;
use core::net::IpAddr;
use model::{CertificateId, DenyReason, Principal, Verdict};
use std::fmt;

/// Who must act on a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    /// Whoever writes the firmware or the client program.
    Device,
    /// Whoever runs the fleet: policies, certificates, services.
    Operator,
    /// Whoever runs this server.
    Us,
    /// Nobody: it is told, not asked.
    Nobody,
}

/// One event of the gateway. All are *proven*: the principal's key was proven by the handshake.
/// Texts from clients are cut to 128 characters and print escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    SessionOpened {
        principal: Principal,
        client_id: String,
        certificate: CertificateId,
        address: IpAddr,
        version: mqtt::Version,
        persistent: bool,
        resumed: bool,
    },
    /// A connection ended, after CONNECT or before. `bytes_unsent` were not written.
    ConnectionClosed {
        principal: Principal,
        reason: CloseReason,
        /// False: it had not been let in by CONNECT.
        had_session: bool,
    },
    /// The peer went away without DISCONNECT.
    ConnectionLost {
        principal: Principal,
        had_session: bool,
    },
    ConnectRefused {
        principal: Principal,
        code: mqtt::Reason,
        why: &'static str,
    },
    /// A client identifier of somebody else: a misconfigured client, or a probe.
    ForeignClientId {
        principal: Principal,
        client_id: String,
    },
    TakenOver {
        principal: Principal,
        client_id: String,
        certificate: CertificateId,
        previous: CertificateId,
        address: IpAddr,
        previous_address: IpAddr,
    },
    PublishDenied {
        principal: Principal,
        topic: String,
        verdict: Verdict,
        will: bool,
    },
    /// Accepted, of a principal that somebody looks at ([`crate::Gateway::watch`]).
    Published {
        principal: Principal,
        topic: String,
        bytes: usize,
        qos: mqtt::Qos,
        retain: bool,
    },
    /// A payload that is not what its channel carries.
    ContractViolation {
        principal: Principal,
        topic: String,
        channel: String,
        /// The offending field as a JSON pointer; empty: the whole.
        field: String,
        /// The keyword of its schema that is not held, or `encoding`.
        rule: &'static str,
        /// What it must be.
        text: String,
        will: bool,
    },
    SubscribeDenied {
        principal: Principal,
        filter: String,
        verdict: Verdict,
    },
    /// A subscription that a new policy no longer covers was taken away.
    SubscriptionDropped {
        principal: Principal,
        filter: String,
        verdict: Verdict,
    },
    /// A response topic outside of what the requester may itself receive.
    ResponseTopicDenied { principal: Principal, topic: String },
    Malformed {
        principal: Principal,
        rule: &'static str,
    },
    /// A packet or request that this gateway does not take.
    NotSupported {
        principal: Principal,
        what: &'static str,
    },
    KeepAliveExpired {
        principal: Principal,
        keep_alive_seconds: u16,
    },
    ConsumerStalled {
        principal: Principal,
        bytes: usize,
        queued_messages: usize,
    },
    QueueFull {
        principal: Principal,
        client_id: String,
    },
    CertificateExpired {
        principal: Principal,
        certificate: CertificateId,
    },
    SessionLimit {
        principal: Principal,
        limit: &'static str,
    },
    /// A stored record could not be read and was left out.
    JournalDamaged { record: u64, rule: &'static str },
}

impl Signal {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SessionOpened { .. } => "session-opened",
            Self::ConnectionClosed { .. } => "connection-closed",
            Self::ConnectionLost { .. } => "connection-lost",
            Self::ConnectRefused { .. } => "connect-refused",
            Self::ForeignClientId { .. } => "foreign-client-id",
            Self::TakenOver { .. } => "taken-over",
            Self::PublishDenied { .. } => "publish-denied",
            Self::ContractViolation { .. } => "contract-violation",
            Self::Published { .. } => "published",
            Self::SubscribeDenied { .. } => "subscribe-denied",
            Self::SubscriptionDropped { .. } => "subscription-dropped",
            Self::ResponseTopicDenied { .. } => "response-topic-denied",
            Self::Malformed { .. } => "malformed",
            Self::NotSupported { .. } => "not-supported",
            Self::KeepAliveExpired { .. } => "keep-alive-expired",
            Self::ConsumerStalled { .. } => "consumer-stalled",
            Self::QueueFull { .. } => "queue-full",
            Self::CertificateExpired { .. } => "certificate-expired",
            Self::SessionLimit { .. } => "session-limit",
            Self::JournalDamaged { .. } => "journal-damaged",
        }
    }

    #[must_use]
    pub const fn actor(&self) -> Actor {
        match self {
            Self::SessionOpened { .. }
            | Self::ConnectionClosed { .. }
            | Self::ConnectionLost { .. }
            | Self::Published { .. } => Actor::Nobody,
            Self::ForeignClientId { .. }
            | Self::ConnectRefused { .. }
            | Self::ResponseTopicDenied { .. }
            | Self::ContractViolation { .. }
            | Self::Malformed { .. }
            | Self::NotSupported { .. }
            | Self::KeepAliveExpired { .. } => Actor::Device,
            Self::PublishDenied {
                verdict: Verdict::Deny { reason, .. },
                ..
            } if is_limit(*reason) => Actor::Device,
            Self::TakenOver { .. }
            | Self::PublishDenied { .. }
            | Self::SubscribeDenied { .. }
            | Self::SubscriptionDropped { .. }
            | Self::ConsumerStalled { .. }
            | Self::QueueFull { .. }
            | Self::CertificateExpired { .. }
            | Self::SessionLimit { .. } => Actor::Operator,
            Self::JournalDamaged { .. } => Actor::Us,
        }
    }

    /// Whom it is about.
    #[must_use]
    pub const fn principal(&self) -> Option<&Principal> {
        match self {
            Self::SessionOpened { principal, .. }
            | Self::ConnectionClosed { principal, .. }
            | Self::ConnectionLost { principal, .. }
            | Self::ConnectRefused { principal, .. }
            | Self::ForeignClientId { principal, .. }
            | Self::TakenOver { principal, .. }
            | Self::PublishDenied { principal, .. }
            | Self::ContractViolation { principal, .. }
            | Self::Published { principal, .. }
            | Self::SubscribeDenied { principal, .. }
            | Self::SubscriptionDropped { principal, .. }
            | Self::ResponseTopicDenied { principal, .. }
            | Self::Malformed { principal, .. }
            | Self::NotSupported { principal, .. }
            | Self::KeepAliveExpired { principal, .. }
            | Self::ConsumerStalled { principal, .. }
            | Self::QueueFull { principal, .. }
            | Self::CertificateExpired { principal, .. }
            | Self::SessionLimit { principal, .. } => Some(principal),
            Self::JournalDamaged { .. } => None,
        }
    }
}

/// One line: what happened, who must act, how. No secrets, nothing that can act in a terminal.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SessionOpened {
                principal,
                client_id,
                certificate,
                address,
                version,
                persistent,
                resumed,
            } => write!(
                f,
                "{principal} opened session {client_id:?} from {address} ({version:?}, certificate {certificate}, persistent: {persistent}, resumed: {resumed})"
            ),
            Self::ConnectionClosed {
                principal, reason, ..
            } => {
                write!(f, "connection of {principal} closed: {}", reason.name())
            }
            Self::ConnectionLost { principal, .. } => {
                write!(f, "connection of {principal} lost without DISCONNECT")
            }
            Self::ConnectRefused {
                principal,
                code,
                why,
            } => write!(
                f,
                "CONNECT of {principal} refused with {:#04x}: {why}; the client must change its CONNECT",
                code.0
            ),
            Self::ForeignClientId {
                principal,
                client_id,
            } => write!(
                f,
                "{principal} asked for client identifier {client_id:?}; the client must use its own name, {:?}, or one that begins with {:?}",
                principal.name(),
                format!("{}:", principal.name())
            ),
            Self::TakenOver {
                principal,
                client_id,
                certificate,
                previous,
                address,
                previous_address,
            } if certificate == previous => write!(
                f,
                "{principal} took over its own session {client_id:?} from {address}, before from {previous_address}; if it happens again and again, two programs share this identity: the operator must find the second"
            ),
            Self::TakenOver {
                principal,
                client_id,
                certificate,
                previous,
                address,
                previous_address,
            } => write!(
                f,
                "{principal} took over its own session {client_id:?} with certificate {certificate} from {address}, before {previous} from {previous_address}; unless it was just renewed, its key may be in two places: the operator must check"
            ),
            Self::PublishDenied {
                principal,
                topic,
                verdict,
                will,
            } => write!(
                f,
                "{} of {principal} to {topic:?} denied: {}; {}",
                if *will { "will" } else { "publish" },
                Why(verdict),
                remedy(verdict)
            ),
            Self::Published {
                principal,
                topic,
                bytes,
                qos,
                retain,
            } => write!(
                f,
                "{principal} published {bytes} bytes to {topic:?} ({qos:?}, retain: {retain})"
            ),
            Self::ContractViolation {
                principal,
                topic,
                channel,
                field,
                text,
                will,
                ..
            } => write!(
                f,
                "{} of {principal} to {topic:?} refused: {} {text}; the client must send what channel {channel} carries, or the operator must correct its schema",
                if *will { "will" } else { "publish" },
                if field.is_empty() {
                    "the payload"
                } else {
                    field
                },
            ),
            Self::SubscribeDenied {
                principal,
                filter,
                verdict,
            } => write!(
                f,
                "subscription of {principal} to {filter:?} denied: {}; the operator must permit it, or the client must ask for less",
                Why(verdict)
            ),
            Self::SubscriptionDropped {
                principal,
                filter,
                verdict,
            } => write!(
                f,
                "subscription of {principal} to {filter:?} dropped by the new policies: {}; if that is not meant, the operator must permit it again",
                Why(verdict)
            ),
            Self::ResponseTopicDenied { principal, topic } => write!(
                f,
                "{principal} asked for answers on {topic:?}, which it may not receive itself; the client must name a topic of its own"
            ),
            Self::Malformed { principal, rule } => write!(
                f,
                "{principal} broke MQTT: {rule}; the client must be repaired"
            ),
            Self::NotSupported { principal, what } => write!(
                f,
                "{principal} asked for what is not available: {what}; the client must do without"
            ),
            Self::KeepAliveExpired {
                principal,
                keep_alive_seconds,
            } => write!(
                f,
                "{principal} was silent for 1.5 times its keep-alive of {keep_alive_seconds} s; the device or its network must be checked"
            ),
            Self::ConsumerStalled {
                principal,
                bytes,
                queued_messages,
            } => write!(
                f,
                "{principal} does not read: {bytes} bytes and {queued_messages} messages wait, connection cut; the operator must make it faster or subscribe it to less"
            ),
            Self::QueueFull {
                principal,
                client_id,
            } => write!(
                f,
                "queue of {principal}, session {client_id:?}, is full: a message was dropped; the operator must bring the service back or end its session"
            ),
            Self::CertificateExpired {
                principal,
                certificate,
            } => write!(
                f,
                "certificate {certificate} of {principal} expired, session ended; the device must reenroll"
            ),
            Self::SessionLimit { principal, limit } => write!(
                f,
                "{principal} has reached {limit}; the operator must check who uses this identity"
            ),
            Self::JournalDamaged { record, rule } => write!(
                f,
                "journal record {record} cannot be read: {rule}; left out; check the disk of this server"
            ),
        }
    }
}

/// The channel is granted, and takes less.
const fn is_limit(reason: DenyReason) -> bool {
    matches!(
        reason,
        DenyReason::PayloadTooLarge
            | DenyReason::PropertiesTooLarge
            | DenyReason::RateExceeded
            | DenyReason::FanOutExceeded
    )
}

/// Who must act on a refused message, and how.
const fn remedy(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Deny { reason, .. } if is_limit(*reason) => {
            "the client must send less, or the operator must raise the limit in the fleet"
        }
        Verdict::Deny {
            reason: DenyReason::NotRetained,
            ..
        } => {
            "the client must not ask to retain it, or the operator must let its channel keep (more of) \
             them: retained_max"
        }
        Verdict::Deny {
            reason: DenyReason::Contained,
            ..
        } => "it is cut off until an operator restores it",
        Verdict::Deny {
            reason: DenyReason::UnlistedTopic,
            ..
        } => {
            "the client must use a topic of the fleet, or the operator must declare a channel for it"
        }
        Verdict::Permit { .. } | Verdict::Deny { .. } => {
            "the operator must permit it in the fleet's policies, or the client must not send it"
        }
    }
}

struct Why<'a>(&'a Verdict);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Verdict::Permit { policy } => write!(f, "permitted by {policy}"),
            Verdict::Deny {
                reason,
                policy: Some(policy),
            } => write!(f, "{reason}, policy {policy}"),
            Verdict::Deny {
                reason,
                policy: None,
            } => write!(f, "{reason}"),
        }
    }
}

/// In the place of a principal's number where there is none.
pub(crate) const NOBODY: u32 = u32::MAX;

/// Text from a client, cut so that a signal stays small.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(128).collect()
}
