//! The plane's own channels, which no fleet declares and no policy speaks of: what a device reports
//! to the plane and asks of it, and what the plane tells it about its containment and its next
//! certificate.
//!
//! They are each device's, from the day it is known; a quarantined device has them and nothing
//! else. Nobody but the plane reads what is sent to it, and nobody but the plane tells.
//!
//! The topics of AWS IoT Device Defender are among them where the plane is told to take such reports,
//! and unlisted elsewhere. A quarantined device keeps them for the reason that it keeps its report:
//! they reach nobody but the plane, and what it does while it is cut off is what is looked for.

use crate::template::{is_name, is_value};
use model::DeviceId;

const DEVICES: &str = "$fleetward/devices/";
const REPORT: &str = "report";
const ENROLL: &str = "enroll";
const CONTAINMENT: &str = "containment";
const CERTIFICATE: &str = "certificate";

const THINGS: &str = "$aws/things/";
const METRICS: &str = "defender/metrics/";
const ACCEPTED: &str = "/accepted";
const REJECTED: &str = "/rejected";

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
    /// Device → plane, in JSON or CBOR.
    DefenderReport { cbor: bool },
    /// Plane → device: what became of that report.
    DefenderAnswer { cbor: bool, accepted: bool },
}

impl Builtin {
    pub(crate) const ALL: [Self; 10] = [
        Self::Report,
        Self::Enroll,
        Self::Containment,
        Self::Certificate,
        Self::DefenderReport { cbor: false },
        Self::DefenderReport { cbor: true },
        Self::DefenderAnswer {
            cbor: false,
            accepted: true,
        },
        Self::DefenderAnswer {
            cbor: false,
            accepted: false,
        },
        Self::DefenderAnswer {
            cbor: true,
            accepted: true,
        },
        Self::DefenderAnswer {
            cbor: true,
            accepted: false,
        },
    ];

    /// Which way it flows.
    pub(crate) const fn is_to_plane(self) -> bool {
        matches!(
            self,
            Self::Report | Self::Enroll | Self::DefenderReport { .. }
        )
    }

    /// Only where the plane takes reports of Device Defender.
    pub(crate) const fn is_of_defender(self) -> bool {
        matches!(
            self,
            Self::DefenderReport { .. } | Self::DefenderAnswer { .. }
        )
    }

    pub(crate) fn of_channel(channel: u16) -> Option<Self> {
        // Asked for every message.
        if channel < u16::MAX - 64 {
            return None;
        }
        Self::ALL.into_iter().find(|one| one.channel() == channel)
    }

    /// Of the payload of a report, and of what a device is told.
    pub(crate) const fn payload_bytes_max(self) -> u32 {
        match self {
            // As at AWS.
            Self::DefenderReport { .. } => 128 * 1024,
            _ => 64 * 1024,
        }
    }

    /// A number that no channel of a fleet has: there are at most 1,000.
    pub(crate) const fn channel(self) -> u16 {
        match self {
            Self::Enroll => u16::MAX - 4,
            Self::Certificate => u16::MAX - 3,
            Self::Report => u16::MAX - 2,
            Self::Containment => u16::MAX - 1,
            Self::DefenderReport { cbor } => u16::MAX - 20 - cbor as u16,
            Self::DefenderAnswer { cbor, accepted } => {
                u16::MAX - 22 - cbor as u16 - 2 * accepted as u16
            }
        }
    }

    /// Its name where channels are listed; the grammar keeps fleets from declaring it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Enroll => "$fleetward/enroll",
            Self::Certificate => "$fleetward/certificate",
            Self::Report => "$fleetward/report",
            Self::Containment => "$fleetward/containment",
            Self::DefenderReport { cbor: false } => "$aws/defender/json",
            Self::DefenderReport { cbor: true } => "$aws/defender/cbor",
            Self::DefenderAnswer {
                cbor: false,
                accepted: true,
            } => "$aws/defender/json/accepted",
            Self::DefenderAnswer {
                cbor: false,
                accepted: false,
            } => "$aws/defender/json/rejected",
            Self::DefenderAnswer {
                cbor: true,
                accepted: true,
            } => "$aws/defender/cbor/accepted",
            Self::DefenderAnswer {
                cbor: true,
                accepted: false,
            } => "$aws/defender/cbor/rejected",
        }
    }

    /// Which one a topic is, and whose. Allocates nothing.
    pub(crate) fn of(topic: &str) -> Option<(Self, &str)> {
        if let Some(rest) = topic.strip_prefix(THINGS) {
            return Self::of_thing(rest);
        }
        let (device, which) = topic.strip_prefix(DEVICES)?.split_once('/')?;
        let which = match which {
            REPORT => Self::Report,
            ENROLL => Self::Enroll,
            CERTIFICATE => Self::Certificate,
            CONTAINMENT => Self::Containment,
            _ => return None,
        };
        is_name(device).then_some((which, device))
    }

    /// `<thing>/defender/metrics/json` and so on. A thing is called as its device is, or as its
    /// list says that it has always been called.
    fn of_thing(rest: &str) -> Option<(Self, &str)> {
        let (thing, rest) = rest.split_once('/')?;
        let rest = rest.strip_prefix(METRICS)?;
        let (form, answered) = match (rest.strip_suffix(ACCEPTED), rest.strip_suffix(REJECTED)) {
            (Some(form), _) => (form, Some(true)),
            (_, Some(form)) => (form, Some(false)),
            (None, None) => (rest, None),
        };
        let cbor = match form {
            "json" => false,
            "cbor" => true,
            _ => return None,
        };
        let which = match answered {
            None => Self::DefenderReport { cbor },
            Some(accepted) => Self::DefenderAnswer { cbor, accepted },
        };
        is_value(thing).then_some((which, thing))
    }
}

/// Where an agent of Device Defender sends its reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefenderTopic<'t> {
    topic: &'t str,
    pub thing: &'t str,
    /// The payload is CBOR, else JSON.
    pub cbor: bool,
}

impl<'t> DefenderTopic<'t> {
    /// `None` for any other topic.
    #[must_use]
    pub fn of(topic: &'t str) -> Option<Self> {
        match Builtin::of(topic)? {
            (Builtin::DefenderReport { cbor }, thing) => Some(Self { topic, thing, cbor }),
            _ => None,
        }
    }

    /// Where the plane answers.
    #[must_use]
    pub fn answer(&self, accepted: bool) -> String {
        let end = if accepted { ACCEPTED } else { REJECTED };
        format!("{}{end}", self.topic)
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
        ];
        for (topic, one) in topics.into_iter().zip(Builtin::ALL) {
            assert!(!one.is_of_defender());
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
            "$aws/things/cam-1/defender/metrics",
            "$aws/things/cam-1/defender/metrics/xml",
            "$aws/things/cam-1/defender/metrics/json/",
            "$aws/things/cam-1/defender/metrics/json/accepted/rejected",
            "$aws/things/+/defender/metrics/json",
            "$aws/things//defender/metrics/json",
            "$aws/things/cam-1/shadow/update",
        ] {
            assert_eq!(Builtin::of(topic), None, "{topic}");
        }
    }

    #[test]
    fn a_topic_of_device_defender_is_read_back_with_its_thing_and_its_answers() {
        let mut channels: Vec<u16> = Builtin::ALL.map(Builtin::channel).into();
        for (form, cbor) in [("json", false), ("cbor", true)] {
            let topic = format!("$aws/things/old:name_1/defender/metrics/{form}");
            let read = DefenderTopic::of(&topic).unwrap();
            assert_eq!((read.thing, read.cbor), ("old:name_1", cbor));
            for accepted in [true, false] {
                let answer = read.answer(accepted);
                let which = Builtin::DefenderAnswer { cbor, accepted };
                assert_eq!(Builtin::of(&answer), Some((which, "old:name_1")));
                assert_eq!(DefenderTopic::of(&answer), None);
            }
        }
        for one in Builtin::ALL {
            assert_eq!(Builtin::of_channel(one.channel()), Some(one));
        }
        channels.sort_unstable();
        channels.dedup();
        assert_eq!(channels.len(), Builtin::ALL.len());
    }
}
