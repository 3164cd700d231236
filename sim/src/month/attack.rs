//! Attackers: one kind of deviation each, and some that show several.

use super::life::{CLAIMED, Device, Fleet, GATEWAY, NETWORK, REPORT, View};
use super::life::{bytes_out, queries, refused};
use super::{ATTACK_HOURS, Plan};
use crate::random::Random;
use detection::Feature;
use model::{DeviationKind, DeviceId, Protocol};

/// The seven kinds, and denied attempts.
pub const KINDS: [DeviationKind; 8] = [
    DeviationKind::UnexpectedDestination,
    DeviationKind::NewListeningPort,
    DeviationKind::ProtocolDowngrade,
    DeviationKind::DnsSpike,
    DeviationKind::CertificateFailures,
    DeviationKind::FirmwareDrift,
    DeviationKind::OutboundVolume,
    DeviationKind::DeniedAttempts,
];

pub const PLANTED_DEVICES: usize = 40;

/// One device under somebody else's hand.
#[derive(Debug, Clone)]
pub struct Attack {
    pub device: DeviceId,
    /// One, or several for a hijacker who does not hide.
    pub kinds: Vec<DeviationKind>,
    /// Begins in this hour after the benign part.
    pub hour: u64,
    /// How many times the usual, where that is a number.
    factor: f64,
    number: usize,
}

/// So many of each kind, and as many that show three kinds, each on a device of its own.
pub fn plan(plan: &Plan, fleet: &Fleet, hours: u64) -> Vec<Attack> {
    let mut random = Random::new(plan.seed).part(u64::MAX - 1);
    let mut places: Vec<usize> = (0..fleet.devices.len()).collect();
    random.shuffle(&mut places);
    let several = vec![
        DeviationKind::UnexpectedDestination,
        DeviationKind::DnsSpike,
        DeviationKind::DeniedAttempts,
    ];
    let kinds = KINDS.into_iter().map(|kind| vec![kind]).chain([several]);
    kinds
        .flat_map(|kinds| vec![kinds; plan.attacks_per_kind])
        .zip(places)
        .enumerate()
        .filter_map(|(number, (kinds, place))| {
            Some(Attack {
                device: fleet.devices.get(place)?.id.clone(),
                kinds,
                hour: random.below(usize::try_from(hours).unwrap_or(1)) as u64,
                factor: 10.0 + 50.0 * random.unit(),
                number,
            })
        })
        .collect()
}

/// Devices that did nothing wrong and look odd, each in its own way, in the same hour.
pub fn odd(fleet: &Fleet, count: usize) -> Vec<Attack> {
    let one = |(number, device): (usize, &Device)| Attack {
        device: device.id.clone(),
        kinds: vec![DeviationKind::UnexpectedDestination],
        hour: 0,
        factor: 1.0,
        number: 1000 + number,
    };
    fleet
        .devices
        .iter()
        .enumerate()
        .take(count)
        .map(one)
        .collect()
}

impl Attack {
    /// The last hour in which it goes on, after the benign part.
    pub const fn ends(&self) -> u64 {
        self.hour + ATTACK_HOURS
    }

    /// What is observed of it in an hour, beside the device's ordinary life.
    pub fn hour_of(&self, device: &Device, hour: u64, view: &mut View<'_>) {
        for kind in &self.kinds {
            self.show(*kind, device, hour, view);
        }
    }

    fn show(&self, kind: DeviationKind, device: &Device, hour: u64, view: &mut View<'_>) {
        let [dns, bytes, _] = device.usual_hour();
        let id = &device.id;
        match kind {
            DeviationKind::UnexpectedDestination => {
                let [high, low] = u16::try_from(self.number).unwrap_or(u16::MAX).to_be_bytes();
                let destination = Feature::Destination {
                    address: [185, low, high, 66].into(),
                    port: if self.number.is_multiple_of(2) {
                        443
                    } else {
                        4444
                    },
                    protocol: Protocol::Tcp,
                    host: None,
                    bytes_out: 3_000,
                };
                view.say(id, NETWORK, destination);
            }
            DeviationKind::NewListeningPort => {
                let port = if self.number.is_multiple_of(2) {
                    23
                } else {
                    31_337
                };
                let protocol = Protocol::Tcp;
                view.say(id, REPORT, Feature::ListeningPort { port, protocol });
            }
            DeviationKind::ProtocolDowngrade => {
                let session = Feature::TlsSession {
                    version: "TLSv1_2".to_owned(),
                    group: Some("secp256r1".to_owned()),
                    door: "mqtt".to_owned(),
                };
                view.say(id, GATEWAY, session);
            }
            DeviationKind::DnsSpike => {
                // A flood is a flood from the smallest device too: over every declared maximum.
                view.say(id, NETWORK, queries((dns * self.factor).max(15_000.0)));
            }
            DeviationKind::OutboundVolume => {
                let flood = (bytes * self.factor).max(60e6);
                view.say(id, NETWORK, bytes_out(flood));
            }
            DeviationKind::CertificateFailures => {
                let by = if self.number.is_multiple_of(2) {
                    NETWORK
                } else {
                    CLAIMED
                };
                for _ in 0..3 {
                    view.say(id, by, refused("unknown-issuer"));
                }
            }
            DeviationKind::FirmwareDrift => {
                let image = u8::try_from(100 + self.number % 100).unwrap_or(100);
                view.say(id, REPORT, device.firmware_report(Some(image)));
            }
            DeviationKind::DeniedAttempts => {
                for _ in 0..2 + hour % 2 {
                    device.denied("no-permit", view);
                }
            }
            _ => {}
        }
    }
}
