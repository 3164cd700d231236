//! The plane's own channels, which no fleet declares and no policy speaks of: what a device reports
//! to the plane and asks of it, and what the plane tells it about its containment, its next
//! certificate and the state that it should have.
//!
//! They are each device's, from the day it is known; a quarantined device has them and nothing
//! else. Nobody but the plane reads what is sent to it, and nobody but the plane tells.

use crate::template::is_name;
use model::DeviceId;

const DEVICES: &str = "$fleetward/devices/";
const REPORT: &str = "report";
const ENROLL: &str = "enroll";
const CONTAINMENT: &str = "containment";
const CERTIFICATE: &str = "certificate";
const DESIRED: &str = "desired";
const REPORTED: &str = "reported";

/// Of the payload of a report, and of what a device is told.
const PAYLOAD_BYTES_MAX: u32 = 64 * 1024;
/// Of the state that a device reports.
const REPORTED_BYTES_MAX: u32 = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    /// Device → plane.
    Report,
    /// Device → plane: a certificate request.
    Enroll,
    /// Plane → device.
    Containment,
    /// Plane → device: what became of the request.
    Certificate,
    /// Plane → device: the state that it should have.
    Desired,
    /// Device → plane: the state that it has.
    Reported,
}

impl Builtin {
    pub(crate) const ALL: [Self; 6] = [
        Self::Report,
        Self::Enroll,
        Self::Containment,
        Self::Certificate,
        Self::Desired,
        Self::Reported,
    ];

    /// Which way it flows.
    pub(crate) const fn is_to_plane(self) -> bool {
        matches!(self, Self::Report | Self::Enroll | Self::Reported)
    }

    pub(crate) fn of_channel(channel: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.channel() == channel)
    }

    /// A number that no channel of a fleet has: there are at most 1,000.
    pub(crate) const fn channel(self) -> u16 {
        match self {
            Self::Reported => u16::MAX - 6,
            Self::Desired => u16::MAX - 5,
            Self::Enroll => u16::MAX - 4,
            Self::Certificate => u16::MAX - 3,
            Self::Report => u16::MAX - 2,
            Self::Containment => u16::MAX - 1,
        }
    }

    /// Its name where channels are listed; the grammar keeps fleets from declaring it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Enroll => "$fleetward/enroll",
            Self::Certificate => "$fleetward/certificate",
            Self::Report => "$fleetward/report",
            Self::Containment => "$fleetward/containment",
            Self::Desired => "$fleetward/desired",
            Self::Reported => "$fleetward/reported",
        }
    }

    pub(crate) const fn payload_bytes_max(self) -> u32 {
        match self {
            Self::Reported => REPORTED_BYTES_MAX,
            _ => PAYLOAD_BYTES_MAX,
        }
    }

    /// Which one a topic is, and whose. Allocates nothing.
    pub(crate) fn of(topic: &str) -> Option<(Self, &str)> {
        let (device, which) = topic.strip_prefix(DEVICES)?.split_once('/')?;
        let which = match which {
            REPORT => Self::Report,
            ENROLL => Self::Enroll,
            CERTIFICATE => Self::Certificate,
            CONTAINMENT => Self::Containment,
            DESIRED => Self::Desired,
            REPORTED => Self::Reported,
            _ => return None,
        };
        is_name(device).then_some((which, device))
    }
}

/// Where `device` sends its reports to the plane.
#[must_use]
pub fn report_topic(device: &DeviceId) -> String {
    format!("{DEVICES}{device}/{REPORT}")
}

/// Where the plane tells `device` that it is contained or restored.
#[must_use]
pub fn containment_topic(device: &DeviceId) -> String {
    format!("{DEVICES}{device}/{CONTAINMENT}")
}

/// Where `device` asks the plane for its next certificate.
#[must_use]
pub fn enroll_topic(device: &DeviceId) -> String {
    format!("{DEVICES}{device}/{ENROLL}")
}

/// Where the plane answers `device` what it asked there.
#[must_use]
pub fn certificate_topic(device: &DeviceId) -> String {
    format!("{DEVICES}{device}/{CERTIFICATE}")
}

/// Where the plane tells `device` what state it should have.
#[must_use]
pub fn desired_topic(device: &DeviceId) -> String {
    format!("{DEVICES}{device}/{DESIRED}")
}

/// Where `device` says what state it has.
#[must_use]
pub fn reported_topic(device: &DeviceId) -> String {
    format!("{DEVICES}{device}/{REPORTED}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_the_plane_is_read_back_with_its_owner_and_nothing_else_is() {
        let device = DeviceId::new("cam-1").unwrap();
        let topics = [
            report_topic,
            enroll_topic,
            containment_topic,
            certificate_topic,
            desired_topic,
            reported_topic,
        ];
        for (topic, one) in topics.into_iter().zip(Builtin::ALL) {
            assert_eq!(Builtin::of(&topic(&device)), Some((one, "cam-1")));
            assert_eq!(Builtin::of_channel(one.channel()), Some(one));
        }
        assert_eq!(Builtin::of_channel(0), None);
        for topic in [
            "$fleetward/devices/cam-1",
            "$fleetward/devices/cam-1/",
            "$fleetward/devices/cam-1/report/",
            "$fleetward/devices//report",
            "$fleetward/devices/+/report",
            "$fleetward/devices/a/b/report",
            "$fleetward/services/cam-1/report",
            "fleetward/devices/cam-1/report",
            "$SYS/broker",
        ] {
            assert_eq!(Builtin::of(topic), None, "{topic}");
        }
    }
}
