//! A decision about what somebody may do. A refusal is a verdict, not an error.

use crate::PolicyId;
use std::fmt;

/// Permit or deny, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// `policy` is one that permitted (the first by id if several did).
    Permit { policy: PolicyId },
    /// `policy` is the `forbid` that decided, if one did.
    Deny {
        reason: DenyReason,
        policy: Option<PolicyId>,
    },
}

impl Verdict {
    #[must_use]
    pub fn is_permit(&self) -> bool {
        matches!(self, Self::Permit { .. })
    }
}

/// Why something was denied. The name is what operators, metrics and reason strings say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DenyReason {
    /// The topic lies in no channel of the fleet.
    UnlistedTopic,
    /// A channel, but no policy permits this principal.
    NoPermit,
    /// A policy forbids it.
    Forbidden,
    /// The principal's product or groups are not those of any grant class.
    UnknownClass,
    /// Some topics of the filter lie outside what the principal may receive.
    FilterTooWide,
    /// The payload is larger than the channel's `payload_bytes_max`.
    PayloadTooLarge,
    /// The properties of the message (user properties, correlation data and the like) are larger than
    /// goes with the channel's `payload_bytes_max`.
    PropertiesTooLarge,
    /// The principal sends faster than the channel's `rate_per_minute`.
    RateExceeded,
    /// The device is contained: it may speak with the plane at most.
    Contained,
    /// The service has spoken to as many devices in this minute as its `fan_out_per_minute`.
    FanOutExceeded,
    /// The channel does not retain messages, or retains as many as its `retained_max` already.
    NotRetained,
    /// The payload is not what the channel's contract says.
    ContractViolation,
    /// The service's `shares` do not name this shared subscription.
    ShareNotGranted,
}

impl DenyReason {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnlistedTopic => "unlisted-topic",
            Self::NoPermit => "no-permit",
            Self::Forbidden => "forbidden",
            Self::UnknownClass => "unknown-class",
            Self::FilterTooWide => "filter-too-wide",
            Self::PayloadTooLarge => "payload-too-large",
            Self::PropertiesTooLarge => "properties-too-large",
            Self::RateExceeded => "rate-exceeded",
            Self::Contained => "contained",
            Self::FanOutExceeded => "fan-out-exceeded",
            Self::NotRetained => "not-retained",
            Self::ContractViolation => "contract-violation",
            Self::ShareNotGranted => "share-not-granted",
        }
    }
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
