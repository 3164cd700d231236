//! The plane's own channels, which no fleet declares and no policy speaks of: what a device reports
//! to the plane, and what the plane tells it about its containment.
//!
//! They are each device's, from the day it is known; a quarantined device has them and nothing
//! else. Nobody but the plane reads a report, and nobody but the plane tells.

use crate::template::is_name;
use model::DeviceId;

const DEVICES: &str = "$fleetward/devices/";
const REPORT: &str = "report";
const CONTAINMENT: &str = "containment";

/// Of the payload of a report, and of what a device is told.
pub(crate) const PAYLOAD_BYTES_MAX: u32 = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    /// Device → plane.
    Report,
    /// Plane → device.
    Containment,
}

impl Builtin {
    /// A number that no channel of a fleet has: there are at most 1,000.
    pub(crate) const fn channel(self) -> u16 {
        match self {
            Self::Report => u16::MAX - 2,
            Self::Containment => u16::MAX - 1,
        }
    }

    /// Its name where channels are listed; the grammar keeps fleets from declaring it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Report => "$fleetward/report",
            Self::Containment => "$fleetward/containment",
        }
    }

    /// Which one a topic is, and whose. Allocates nothing.
    pub(crate) fn of(topic: &str) -> Option<(Self, &str)> {
        let (device, which) = topic.strip_prefix(DEVICES)?.split_once('/')?;
        let which = match which {
            REPORT => Self::Report,
            CONTAINMENT => Self::Containment,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_the_plane_is_read_back_with_its_owner_and_nothing_else_is() {
        let device = DeviceId::new("cam-1").unwrap();
        assert_eq!(
            Builtin::of(&report_topic(&device)),
            Some((Builtin::Report, "cam-1"))
        );
        assert_eq!(
            Builtin::of(&containment_topic(&device)),
            Some((Builtin::Containment, "cam-1"))
        );
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
