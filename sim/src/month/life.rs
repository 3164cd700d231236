//! Benign life: what would be observed of devices that do nothing wrong.

use super::Plan;
use super::attack::Attack;
use super::calendar::{Calendar, HOUR};
use crate::random::Random;
use core::net::IpAddr;
use detection::{Declared, DeclaredDestination, DeclaredFirmware, Feature, Observation};
use model::{
    Attribution, DeviceId, Digest, ProductId, Protocol, ServiceId, Source, Subject, Timestamp,
};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Camera,
    Lock,
    Thermostat,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Camera, Self::Lock, Self::Thermostat];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Lock => "lock",
            Self::Thermostat => "thermostat",
        }
    }

    /// Where it sends most, port, and what it does at the busiest hour: DNS queries, bytes and
    /// messages a minute.
    const fn habits(self) -> (&'static str, u16, [f64; 3]) {
        match self {
            Self::Camera => ("video.example.net", 443, [6.0, 400_000.0, 4.0]),
            Self::Lock => ("keys.example.net", 443, [5.0, 8_000.0, 2.0]),
            Self::Thermostat => ("weather.example.org", 443, [5.0, 12_000.0, 3.0]),
        }
    }

    /// From 0.1 to 1, by the hour on the wall.
    fn busy(self, wall_hour: u64) -> f64 {
        let evening = (17..23).contains(&wall_hour);
        let day = (7..23).contains(&wall_hour);
        match self {
            Self::Camera if evening => 1.0,
            Self::Camera if day => 0.7,
            Self::Camera => 0.35,
            Self::Lock if matches!(wall_hour, 7..9 | 16..20) => 1.0,
            Self::Lock if day => 0.4,
            Self::Lock => 0.1,
            Self::Thermostat if matches!(wall_hour, 5..9) || evening => 1.0,
            Self::Thermostat => 0.4,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Device {
    pub id: DeviceId,
    pub kind: Kind,
    pub address: IpAddr,
    random: Random,
    /// How much it does beside others of its kind.
    factor: f64,
    provider: usize,
    boot: u64,
    sequence: u64,
    firmware: usize,
    /// Its place in rollouts, 0 to 1.
    place: f64,
    /// Asleep until then.
    awake_from: u64,
    was_away: bool,
}

/// Everybody who is observed.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub devices: Vec<Device>,
    calendar: Calendar,
    random: Random,
}

/// Versions with the digests of their images, oldest first; by rollout one, by mistake the last.
const FIRMWARE: [(&str, u8); 4] = [("3.0.4", 1), ("3.1.0", 2), ("3.2.0", 3), ("3.2.1", 4)];
const PROVIDERS: usize = 5;

impl Fleet {
    pub fn new(plan: &Plan, calendar: &Calendar) -> Self {
        let random = Random::new(plan.seed);
        let devices = (0..plan.devices)
            .filter_map(|index| Device::new(index, plan.devices, &random, calendar))
            .collect();
        Self {
            devices,
            calendar: calendar.clone(),
            random: random.part(u64::MAX),
        }
    }

    /// What `fleet/` says. Cameras are wholly declared but for their rates, locks with them; of
    /// thermostats only the firmware is, the rest is learned.
    pub fn declared(calendar: &Calendar, hour: u64) -> Vec<Declared> {
        Kind::ALL
            .into_iter()
            .filter_map(|kind| declared(kind, calendar, hour))
            .collect()
    }

    /// One hour of everybody, in order of time.
    pub fn hour(&mut self, hour: u64, emit: &mut dyn FnMut(Observation)) {
        self.attacked_hour(hour, &[], emit);
    }

    /// The same, with some devices under somebody else's hand.
    pub fn attacked_hour(
        &mut self,
        hour: u64,
        attacks: &[&Attack],
        emit: &mut dyn FnMut(Observation),
    ) {
        self.services(hour, emit);
        let count = self.devices.len().max(1) as u64;
        for (index, device) in self.devices.iter_mut().enumerate() {
            let seconds = hour * HOUR + index as u64 * HOUR / count;
            let mut view = View {
                at: self.calendar.at(seconds),
                emit: &mut *emit,
            };
            let attack = attacks.iter().find(|attack| attack.device == device.id);
            let on_line = device.hour(hour, &self.calendar, &mut view);
            if let Some(attack) = attack.filter(|_| on_line) {
                attack.hour_of(device, hour, &mut view);
            }
            if (index as u64).is_multiple_of((count / 12).max(1)) {
                strangers(&mut self.random, &mut view);
            }
        }
    }

    fn services(&mut self, hour: u64, emit: &mut dyn FnMut(Observation)) {
        let Ok(service) = ServiceId::new("settings") else {
            return;
        };
        let nightly = self.calendar.wall_hour(hour) == 3;
        let devices = if nightly { 200 } else { 5 } + self.random.below(20) as u64;
        emit(Observation {
            at: self.calendar.at(hour * HOUR),
            subject: Subject::Service(service),
            source: Source::Gateway,
            attribution: Attribution::Proven,
            feature: Feature::CommandFanOut {
                devices,
                interval: Duration::from_secs(60),
            },
        });
    }
}

/// Who knocks at any door of the internet.
fn strangers(random: &mut Random, view: &mut View<'_>) {
    let address = IpAddr::from([198, 18, random.below(256) as u8, random.below(256) as u8]);
    let feature = match random.below(3) {
        0 => Feature::ProtocolTooOld {
            offered: "TLSv1_2".to_owned(),
            door: "mqtt".to_owned(),
        },
        1 => refused("not-tls"),
        _ => refused("no-certificate"),
    };
    view.say_of(
        Subject::Address(address),
        (Source::Gateway, Attribution::Address),
        feature,
    );
}

pub fn refused(reason: &str) -> Feature {
    Feature::HandshakeFailed {
        reason: reason.to_owned(),
        door: "mqtt".to_owned(),
    }
}

/// A moment, and who listens.
pub struct View<'a> {
    pub at: Timestamp,
    emit: &'a mut dyn FnMut(Observation),
}

pub const NETWORK: (Source, Attribution) = (Source::Network, Attribution::Proven);
pub const GATEWAY: (Source, Attribution) = (Source::Gateway, Attribution::Proven);
pub const CLAIMED: (Source, Attribution) = (Source::Gateway, Attribution::Claimed);
pub const REPORT: (Source, Attribution) = (Source::Device, Attribution::Proven);

impl View<'_> {
    pub fn say(&mut self, device: &DeviceId, by: (Source, Attribution), feature: Feature) {
        self.say_of(Subject::Device(device.clone()), by, feature);
    }

    fn say_of(
        &mut self,
        subject: Subject,
        (source, attribution): (Source, Attribution),
        feature: Feature,
    ) {
        (self.emit)(Observation {
            at: self.at,
            subject,
            source,
            attribution,
            feature,
        });
    }
}

impl Device {
    fn new(index: usize, of: usize, fleet: &Random, calendar: &Calendar) -> Option<Self> {
        let mut random = fleet.part(index as u64);
        let kind = match index * 100 / of.max(1) {
            0..40 => Kind::Camera,
            40..75 => Kind::Lock,
            _ => Kind::Thermostat,
        };
        let sleeps = kind == Kind::Thermostat && random.chance(0.4);
        // They wake over three hours of that evening, each when its house grows cold.
        let awake_from = if sleeps {
            calendar.cold_evening + random.below(3) as u64
        } else {
            0
        };
        Some(Self {
            id: DeviceId::new(&format!("{}-{index:05}", kind.name())).ok()?,
            kind,
            address: [10, 77, (index / 250) as u8, (index % 250) as u8].into(),
            factor: (0.5 * random.normal()).exp(),
            provider: random.below(PROVIDERS),
            boot: 0,
            sequence: 0,
            firmware: usize::from(!random.chance(0.05)),
            place: random.unit(),
            awake_from,
            was_away: sleeps,
            random,
        })
    }

    /// What is observed of an hour of it; false if it is asleep or has no line.
    fn hour(&mut self, hour: u64, calendar: &Calendar, view: &mut View<'_>) -> bool {
        let outage = calendar.outage..calendar.outage + 2;
        if hour < self.awake_from || (outage.contains(&hour) && self.provider < 2) {
            if hour == calendar.outage {
                view.say(&self.id, GATEWAY, Feature::SessionEnded { lost: true });
            }
            self.was_away = true;
            return false;
        }
        let returned = std::mem::take(&mut self.was_away);
        if returned {
            self.return_from(hour == self.awake_from, view);
        } else if hour == 0 {
            self.tls(view);
        }
        self.accidents(view);
        self.update(hour, calendar, view);
        self.report(view);
        self.destinations(hour, calendar, view);
        self.rates(hour, calendar, returned, view);
        true
    }

    /// Back on the line: knocking until a door opens, and some with a certificate gone by.
    fn return_from(&mut self, slept: bool, view: &mut View<'_>) {
        let tries = self.random.below(6);
        for _ in 0..tries {
            view.say(&self.id, CLAIMED, refused("handshake-timeout"));
        }
        if slept {
            self.restart();
            if self.random.chance(0.3) {
                for _ in 0..3 + self.random.below(8) {
                    view.say(&self.id, CLAIMED, refused("certificate-expired"));
                }
            }
        }
        self.tls(view);
    }

    fn tls(&self, view: &mut View<'_>) {
        view.say(
            &self.id,
            GATEWAY,
            Feature::TlsSession {
                version: "TLSv1_3".to_owned(),
                group: Some("X25519MLKEM768".to_owned()),
                door: "mqtt".to_owned(),
            },
        );
    }

    fn restart(&mut self) {
        self.boot += 1;
        self.sequence = 0;
    }

    /// What happens to somebody in every fleet, every day.
    fn accidents(&mut self, view: &mut View<'_>) {
        // A power cut in the house; a line that breaks and comes back at another address.
        if self.random.chance(0.02 / 24.0) {
            self.restart();
            self.tls(view);
        }
        if self.random.chance(0.05 / 24.0) {
            for _ in 0..=usize::from(self.random.chance(0.05)) {
                let from = IpAddr::from([100, 64, self.random.below(256) as u8, 1]);
                view.say(
                    &self.id,
                    GATEWAY,
                    Feature::TakenOver {
                        same_certificate: true,
                        from,
                        previous_from: Some(self.address),
                    },
                );
                // What was not acknowledged is sent again.
                self.sequence = self.sequence.saturating_sub(1);
            }
        }
        // Too fast after a break; a release's corner that asks for what it may not.
        if self.random.chance(0.01 / 24.0) {
            for _ in 0..1 + self.random.below(20) {
                self.denied("rate-exceeded", view);
            }
        }
        if self.random.chance(2e-5 / 24.0) {
            for _ in 0..=usize::from(self.random.chance(0.2)) {
                self.denied("no-permit", view);
            }
        }
        // A hotel's portal, a proxy with its own roots, a clock at 1970.
        if self.random.chance(1e-4 / 24.0) {
            for _ in 0..1 + self.random.below(3) {
                view.say(&self.id, CLAIMED, refused("certificate-malformed"));
            }
        }
        if self.random.chance(5e-4 / 24.0) {
            for _ in 0..1 + self.random.below(6) {
                view.say(&self.id, CLAIMED, refused("certificate-not-yet-valid"));
            }
        }
    }

    pub fn denied(&self, reason: &str, view: &mut View<'_>) {
        view.say(
            &self.id,
            GATEWAY,
            Feature::Denied {
                action: "publish".to_owned(),
                target: format!("v1/{}/{}/debug", self.kind.name(), self.id),
                reason: reason.to_owned(),
            },
        );
    }

    fn update(&mut self, hour: u64, calendar: &Calendar, view: &mut View<'_>) {
        let since = |start: u64| hour.checked_sub(start).map(|hours| hours as f64);
        let rolled = since(calendar.rollout).map(|hours| (hours / 72.0).powi(2));
        let forgotten = since(calendar.forgotten_rollout).map(|hours| (hours / 24.0).min(0.2));
        let wanted = match self.kind {
            Kind::Camera if rolled.is_some_and(|share| self.place < share) => 2,
            Kind::Lock if forgotten.is_some_and(|share| self.place < share) => 3,
            _ => self.firmware,
        };
        if wanted > self.firmware {
            self.firmware = wanted;
            self.restart();
            self.tls(view);
        }
    }

    fn report(&mut self, view: &mut View<'_>) {
        self.sequence += 1;
        view.say(
            &self.id,
            REPORT,
            Feature::Report {
                boot: format!("{}-{}", self.id, self.boot),
                sequence: self.sequence,
                interval: Duration::from_secs(HOUR),
            },
        );
        view.say(&self.id, REPORT, self.firmware_report(None));
        if self.kind == Kind::Camera {
            view.say(
                &self.id,
                REPORT,
                Feature::ListeningPort {
                    port: 554,
                    protocol: Protocol::Tcp,
                },
            );
        }
    }

    /// What it says it runs; another image under the same name if `image` says so.
    pub fn firmware_report(&self, image: Option<u8>) -> Feature {
        let (version, own) = FIRMWARE.get(self.firmware).copied().unwrap_or(("0", 0));
        Feature::Firmware {
            version: version.to_owned(),
            digest: Some(Digest([image.unwrap_or(own); 32])),
        }
    }

    fn destinations(&mut self, hour: u64, calendar: &Calendar, view: &mut View<'_>) {
        let (host, port, _) = self.kind.habits();
        let change = match self.kind {
            Kind::Camera => calendar.cdn_change,
            Kind::Lock => u64::MAX,
            Kind::Thermostat => calendar.network_change,
        };
        // Over six hours, as names expire.
        let moved = (hour.checked_sub(change)).is_some_and(|hours| self.place * 6.0 < hours as f64);
        let (host, network) = match (self.kind, moved) {
            (Kind::Thermostat, true) => (None, [203, 0, 200]),
            (Kind::Thermostat, false) => (None, [203, 0, 100]),
            (_, true) => (Some("video.cdn2.example".to_owned()), [198, 51, 7]),
            (_, false) => (Some(host.to_owned()), [198, 51, 1]),
        };
        let [a, b, c] = network;
        view.say(
            &self.id,
            NETWORK,
            Feature::Destination {
                address: [a, b, c, 1 + self.random.below(250) as u8].into(),
                port,
                protocol: Protocol::Tcp,
                host,
                bytes_out: 40_000,
            },
        );
        view.say(
            &self.id,
            NETWORK,
            Feature::Destination {
                address: [192, 0, 2, self.random.below(4) as u8].into(),
                port: 123,
                protocol: Protocol::Udp,
                host: Some("time.example.net".to_owned()),
                bytes_out: 48,
            },
        );
    }

    fn rates(&mut self, hour: u64, calendar: &Calendar, returned: bool, view: &mut View<'_>) {
        let [dns, bytes, messages] = self.hourly(hour, calendar, returned);
        view.say(&self.id, NETWORK, queries(dns));
        view.say(&self.id, NETWORK, bytes_out(bytes));
        view.say(
            &self.id,
            GATEWAY,
            Feature::Messages {
                count: messages as u64,
                bytes: messages as u64 * 200,
                denied: 0,
                interval: Duration::from_secs(HOUR),
            },
        );
    }

    /// DNS queries, bytes and messages of an hour.
    fn hourly(&mut self, hour: u64, calendar: &Calendar, returned: bool) -> [f64; 3] {
        let (_, _, mut each) = self.kind.habits();
        let busy = self.kind.busy(calendar.wall_hour(hour)) * self.factor * 60.0;
        let cold = self.kind == Kind::Thermostat && hour >= calendar.cold_evening;
        let heating = if cold { [2.0, 3.0, 4.0] } else { [1.0; 3] };
        // What waited is sent, names are asked again.
        let back = if returned { [4.0, 2.0, 3.0] } else { [1.0; 3] };
        for ((value, heating), back) in each.iter_mut().zip(heating).zip(back) {
            // Noise with a long tail: now and then an hour of four to twelve times the usual.
            let burst = if self.random.chance(5e-4) {
                4.0 + 8.0 * self.random.unit()
            } else {
                1.0
            };
            let noise = (0.35 * self.random.normal()).exp();
            *value *= busy * noise * burst * heating * back;
        }
        each
    }

    /// What it would do in an hour like any other.
    pub fn usual_hour(&self) -> [f64; 3] {
        let (_, _, each) = self.kind.habits();
        each.map(|value| value * self.factor * 60.0)
    }
}

pub fn queries(an_hour: f64) -> Feature {
    Feature::DnsQueries {
        queries: an_hour as u64,
        names: Vec::new(),
        interval: Duration::from_secs(HOUR),
    }
}

pub fn bytes_out(an_hour: f64) -> Feature {
    Feature::BytesOut {
        bytes: an_hour as u64,
        packets: (an_hour / 800.0) as u64,
        interval: Duration::from_secs(HOUR),
    }
}

fn declared(kind: Kind, calendar: &Calendar, hour: u64) -> Option<Declared> {
    let product = ProductId::new(kind.name()).ok()?;
    let place = |name: &str, host: &str, port, protocol| DeclaredDestination {
        name: name.to_owned(),
        host: Some(host.to_owned()),
        network: None,
        ports: vec![port],
        protocol,
    };
    // The hotfix that was forgotten is declared a day late.
    let versions = if kind == Kind::Lock && hour >= calendar.forgotten_rollout + 24 {
        4
    } else {
        3
    };
    let firmware = FIRMWARE
        .iter()
        .take(versions)
        .map(|(version, image)| DeclaredFirmware {
            version: (*version).to_owned(),
            digest: Some(Digest([*image; 32])),
        })
        .collect();
    let (host, port, each) = kind.habits();
    let mut destinations = vec![
        place("cloud", host, port, Protocol::Tcp),
        place("time", "time.example.net", 123, Protocol::Udp),
    ];
    if hour >= calendar.cdn_declared {
        destinations.push(place("cdn", "video.cdn2.example", 443, Protocol::Tcp));
    }
    let is_thermostat = kind == Kind::Thermostat;
    let max = |value: f64| (kind == Kind::Lock).then_some((value * 40.0) as u64);
    let [dns, bytes, _] = each;
    Some(Declared {
        destinations: (!is_thermostat).then_some(destinations),
        listens: Some(match kind {
            Kind::Camera => vec![(Protocol::Tcp, 554)],
            _ => Vec::new(),
        }),
        dns_per_minute_max: max(dns),
        bytes_out_per_minute_max: max(bytes),
        tls_version_min: (!is_thermostat).then(|| "1.3".to_owned()),
        firmware: Some(firmware),
        ..Declared::nothing(product)
    })
}
