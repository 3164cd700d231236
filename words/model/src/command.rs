//! What somebody tells devices to do, and how far it came with each.

use crate::Timestamp;
use std::fmt;

/// Names a command. A greater one was made later; none is made twice, also after a restored backup.
/// Prints `CMD-019abf2c3d4e5f60`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(u64);

const PREFIX: &str = "CMD-";

impl CommandId {
    /// Of its time, and 16 random bits for those of one millisecond.
    #[must_use]
    pub const fn made(at: Timestamp, random: u16) -> Self {
        // Below 2^63 until the year 6429, so that it fits wherever whole numbers do.
        Self((at.as_millis() << 16 | random as u64) & (u64::MAX >> 1))
    }

    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Reads what [`fmt::Display`] prints; `None` for anything else.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let id = Self(u64::from_str_radix(text.strip_prefix(PREFIX)?, 16).ok()?);
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:016x}", self.0)
    }
}

/// How far a command came with one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delivery {
    Waiting(DeliveryWait),
    /// Handed to the device's session. One that subscribed with QoS 0 acknowledges nothing, so this
    /// is then the last that is known.
    Sent,
    /// Acknowledged by the device (PUBACK).
    Delivered,
    /// The device answered it.
    Answered,
    /// It did not come in time.
    Expired,
    Refused(DeliveryRefusal),
    /// Taken back before it was sent.
    Cancelled,
}

/// Why a command was not sent yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryWait {
    /// A second person has not approved it yet.
    Approval,
    /// The device is not connected.
    Away,
    /// It is connected and has not subscribed to the topic.
    NotSubscribed,
    /// Its connection takes no more, or no packet as large.
    NotTaken,
}

/// Why a command will not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryRefusal {
    /// The device is cut off.
    Contained,
    /// The device was revoked or is on hold.
    Revoked,
    /// The device may not receive the channel.
    NoGrant,
    /// The device lacks an attribute that stands in the channel's topics.
    NoTopic,
    /// The channel takes no payload as large any more.
    TooLarge,
    /// So many commands wait for the device already.
    TooMany,
    /// It was connected when the time was over, and had not subscribed.
    NotSubscribed,
    /// The device acknowledged it with a failure.
    ByDevice,
}

impl Delivery {
    /// It may still be sent.
    #[must_use]
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Waiting(_))
    }

    /// `waiting`, `sent` and so on.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting(_) => "waiting",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Answered => "answered",
            Self::Expired => "expired",
            Self::Refused(_) => "refused",
            Self::Cancelled => "cancelled",
        }
    }

    /// What it waits for, or why it was refused.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Waiting(wait) => Some(wait.name()),
            Self::Refused(refusal) => Some(refusal.name()),
            _ => None,
        }
    }

    #[must_use]
    pub fn from_names(name: &str, reason: Option<&str>) -> Option<Self> {
        let plain = [
            Self::Sent,
            Self::Delivered,
            Self::Answered,
            Self::Expired,
            Self::Cancelled,
        ];
        let waiting = DeliveryWait::ALL.map(Self::Waiting);
        let refused = DeliveryRefusal::ALL.map(Self::Refused);
        (plain.into_iter().chain(waiting).chain(refused))
            .find(|one| one.name() == name && one.reason() == reason)
    }
}

impl DeliveryWait {
    pub const ALL: [Self; 4] = [
        Self::Approval,
        Self::Away,
        Self::NotSubscribed,
        Self::NotTaken,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::Away => "away",
            Self::NotSubscribed => "not-subscribed",
            Self::NotTaken => "not-taken",
        }
    }
}

impl DeliveryRefusal {
    pub const ALL: [Self; 8] = [
        Self::Contained,
        Self::Revoked,
        Self::NoGrant,
        Self::NoTopic,
        Self::TooLarge,
        Self::TooMany,
        Self::NotSubscribed,
        Self::ByDevice,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contained => "contained",
            Self::Revoked => "revoked",
            Self::NoGrant => "no-grant",
            Self::NoTopic => "no-topic",
            Self::TooLarge => "too-large",
            Self::TooMany => "too-many",
            Self::NotSubscribed => "not-subscribed",
            Self::ByDevice => "by-device",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_one_spelling_and_later_ones_are_greater() {
        let at = Timestamp::from_millis(1_764_400_000_123);
        let id = CommandId::made(at, 0xffff);
        assert_eq!(CommandId::from_text(&id.to_string()), Some(id));
        assert!(CommandId::made(Timestamp::from_millis(1_764_400_000_124), 0) > id);
        assert!(
            i64::try_from(CommandId::made(Timestamp::from_millis(u64::MAX), 1).number()).is_ok()
        );
        for text in [
            "",
            "CMD-",
            "CMD-7",
            "cmd-0000000000000007",
            "CMD-+000000000000007",
        ] {
            assert_eq!(CommandId::from_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_delivery_reads_back_and_nothing_half_valid_does() {
        let waiting = DeliveryWait::ALL.map(Delivery::Waiting);
        let refused = DeliveryRefusal::ALL.map(Delivery::Refused);
        for one in waiting.into_iter().chain(refused).chain([Delivery::Sent]) {
            assert_eq!(Delivery::from_names(one.name(), one.reason()), Some(one));
        }
        assert_eq!(Delivery::from_names("waiting", None), None);
        assert_eq!(Delivery::from_names("sent", Some("away")), None);
    }
}
