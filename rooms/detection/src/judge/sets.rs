//! New members of a set: destinations, listening ports, firmware.

use super::{Judgement, Sight};
use crate::Settings;
use crate::baseline::Group;
use crate::device::{Device, short};
use crate::habit::{Habit, Standing, Vouch};
use crate::statistics::seconds;
use crate::text::{bytes, listed, shown};
use core::net::IpAddr;
use model::{DeviationKind, Digest, Protocol, Severity};

/// Where attackers log in, spread and take orders; a device of ours has no business there.
const REMOTE_CONTROL_PORTS: [u16; 13] = [
    22, 23, 445, 1080, 2222, 2323, 3389, 4444, 5555, 6667, 7547, 9001, 37_215,
];
/// What a home's router offers: DNS, DHCP, NTP, UPnP, mDNS.
const HOUSEHOLD_PORTS: [u16; 6] = [53, 67, 68, 123, 1900, 5353];
/// Ports below which only a privileged program may listen.
const PRIVILEGED_PORTS_END: u16 = 1024;
/// More new destinations than this in an hour are one matter: a scan.
const NEW_DESTINATIONS_MAX: u32 = 16;
/// What a scan is about.
pub const MANY_DESTINATIONS: &str = "many destinations";
const LARGE_BYTES: u64 = 1_000_000;

/// Where something was sent.
pub struct Contact<'a> {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    pub host: Option<&'a str>,
    pub bytes_out: u64,
}

impl Contact<'_> {
    /// Multicast, broadcast and loopback are no places.
    fn is_place(&self) -> bool {
        let broadcast = matches!(self.address, IpAddr::V4(v4) if v4.is_broadcast());
        !(self.address.is_multicast()
            || self.address.is_loopback()
            || self.address.is_unspecified()
            || broadcast)
    }

    fn host(&self) -> Option<String> {
        let host = self.host?.trim_end_matches('.');
        (!host.is_empty()).then(|| shown(&host.to_ascii_lowercase(), 128))
    }

    /// By name where there is one, else by the network: what a group learns and an alert is about.
    /// A provider's addresses are one place, or each device's next one would be a new matter.
    fn entity(&self) -> String {
        let place = self.host().unwrap_or_else(|| neighbourhood(self.address));
        format!("{place}:{}/{}", self.port, self.protocol)
    }

    /// `203.0.113.66:4444/tcp (evil.example), 18 kB out`
    fn seen(&self) -> String {
        let name = self
            .host()
            .map(|host| format!(" ({host})"))
            .unwrap_or_default();
        format!(
            "{}:{}/{}{name}, {} out",
            bracketed(self.address),
            self.port,
            self.protocol,
            bytes(self.bytes_out)
        )
    }

    fn severity(&self) -> Severity {
        let remote_control = REMOTE_CONTROL_PORTS.contains(&self.port);
        let neighbour = is_inside(self.address) && !HOUSEHOLD_PORTS.contains(&self.port);
        if remote_control || self.bytes_out >= LARGE_BYTES || neighbour {
            Severity::High
        } else {
            Severity::Medium
        }
    }
}

/// It talks to whom it never should.
pub fn destination(
    settings: &Settings,
    group: &mut Group,
    device: &mut Device,
    sight: &Sight<'_>,
    contact: &Contact<'_>,
) -> Option<Judgement> {
    if !contact.is_place() {
        return None;
    }
    if let Some(declared) = group
        .declared
        .as_ref()
        .and_then(|d| d.destinations.as_ref())
    {
        let host = contact.host();
        let is_declared = declared.iter().any(|d| {
            d.matches(
                host.as_deref(),
                contact.address,
                contact.port,
                contact.protocol,
            )
        });
        if is_declared {
            return None;
        }
        let expected = listed(declared.iter().map(|d| d.words()), "no destination at all");
        return Some(unexpected(device, sight, contact, expected, true));
    }

    let hour = seconds(sight.now) / 3600;
    if sight.is_proven_outside() && device.trial_hour != hour {
        device.trial_hour = hour;
        group.learned.destinations.try_hour();
    }
    let accepted = group.is_accepted();
    let judges = group.judges();
    let habit = &mut group.learned.destinations;
    let standing = seen_in(habit, "destination", &contact.entity(), device, sight);
    if standing.is_some_and(|standing| standing > Standing::Candidate)
        || !judges
        || (habit.is_blind() && !accepted)
    {
        return None;
    }
    let bits = habit.surprise_bits();
    if bits < settings.surprise_bits_min {
        return None;
    }
    let expected = format!(
        "{} (learned; something new in {} device-hours: {bits:.0} bits)",
        listed(
            habit.normal().map(ToOwned::to_owned),
            "no destination at all"
        ),
        habit.trials()
    );
    Some(unexpected(device, sight, contact, expected, accepted))
}

fn unexpected(
    device: &mut Device,
    sight: &Sight<'_>,
    contact: &Contact<'_>,
    expected: String,
    accepted: bool,
) -> Judgement {
    let kind = DeviationKind::UnexpectedDestination;
    let mut judgement = Judgement {
        kind,
        entity: contact.entity(),
        expected,
        seen: contact.seen(),
        since: sight.now,
        severity: contact.severity(),
        accepted,
    };
    if !device.has_said(kind, &judgement.entity) {
        let new = device.new_destinations.add(1, sight.now, 3600);
        if new > NEW_DESTINATIONS_MAX {
            MANY_DESTINATIONS.clone_into(&mut judgement.entity);
            judgement.seen = format!(
                "{new} new destinations within an hour, last {}",
                contact.seen()
            );
            judgement.since = device.new_destinations.since();
            judgement.severity = Severity::High;
        }
    }
    judgement
}

/// It listens where it did not.
pub fn listening_port(
    group: &mut Group,
    device: &mut Device,
    sight: &Sight<'_>,
    protocol: Protocol,
    port: u16,
) -> Option<Judgement> {
    let entity = format!("{protocol}/{port}");
    let accepted;
    let expected;
    if let Some(declared) = group.declared.as_ref().and_then(|d| d.listens.as_ref()) {
        if declared.contains(&(protocol, port)) {
            return None;
        }
        accepted = true;
        let ports = declared
            .iter()
            .map(|(protocol, port)| format!("{protocol}/{port}"));
        expected = format!("listens on {}", listed(ports, "nothing"));
    } else {
        accepted = group.is_accepted();
        let judges = group.judges();
        let habit = &mut group.learned.ports;
        let standing = seen_in(habit, "port", &entity, device, sight);
        if standing.is_some_and(|standing| standing > Standing::Candidate)
            || !judges
            || (habit.is_blind() && !accepted)
        {
            return None;
        }
        let ports = listed(habit.normal().map(ToOwned::to_owned), "nothing");
        expected = format!("listens on {ports} (learned)");
    }
    let grave = REMOTE_CONTROL_PORTS.contains(&port) || port < PRIVILEGED_PORTS_END;
    Some(Judgement {
        kind: DeviationKind::NewListeningPort,
        seen: format!("listens on {entity}"),
        entity,
        expected,
        since: sight.now,
        severity: if grave {
            Severity::High
        } else {
            Severity::Medium
        },
        accepted,
    })
}

/// It runs what nobody released, or other than it should. No statistics: one report is enough.
pub fn firmware(
    group: &mut Group,
    device: &mut Device,
    sight: &Sight<'_>,
    version: &str,
    digest: Option<&Digest>,
) -> Option<Judgement> {
    let version = shown(version, 64);
    let image = digest.map_or_else(
        || "no digest".to_owned(),
        |d| format!("{:.12}", d.to_string()),
    );
    let before = device.firmware.clone();
    note_firmware(device, sight, &version, digest);
    let judgement = |expected, severity, accepted| {
        Some(Judgement {
            kind: DeviationKind::FirmwareDrift,
            entity: format!("{version} ({image})"),
            expected,
            seen: format!("runs {version} ({image})"),
            since: sight.now,
            severity,
            accepted,
        })
    };
    if let Some(declared) = group.declared.as_ref().and_then(|d| d.firmware.as_ref()) {
        let of_version = || declared.iter().filter(|f| f.version == version);
        let matches =
            |wanted: &Option<Digest>| wanted.as_ref().is_none_or(|wanted| Some(wanted) == digest);
        if of_version().any(|f| matches(&f.digest)) {
            return None;
        }
        let expected = format!(
            "runs {}",
            listed(declared.iter().map(|f| f.words()), "nothing")
        );
        let same_name = digest.is_some() && of_version().next().is_some();
        let severity = if same_name {
            Severity::High
        } else {
            Severity::Medium
        };
        return judgement(expected, severity, true);
    }

    let accepted = group.is_accepted();
    let now_is = &device.firmware;
    if before.image != 0 && before.version == now_is.version && before.image != now_is.image {
        let expected = format!("the image it ran before under the name {version}");
        return judgement(expected, Severity::High, accepted);
    }
    let habit = &mut group.learned.firmware;
    let key = format!("{version} ({image})");
    let standing = seen_in(habit, "firmware", &key, device, sight);
    // Nobody sees firmware from outside yet, so only a person can make a version normal.
    if !accepted || standing == Some(Standing::Accepted) {
        return None;
    }
    let known = listed(habit.normal().map(ToOwned::to_owned), "nothing");
    judgement(format!("runs {known} (accepted)"), Severity::Medium, true)
}

fn note_firmware(device: &mut Device, sight: &Sight<'_>, version: &str, digest: Option<&Digest>) {
    let firmware = &mut device.firmware;
    let version = short(&[version.as_bytes()]);
    let image = digest.map_or(0, |digest| short(&[&digest.0]));
    if (firmware.version, firmware.image) != (version, image) {
        firmware.changed_at = seconds(sight.now);
        firmware.version = version;
        firmware.image = image;
    }
}

fn seen_in(
    habit: &mut Habit,
    set: &str,
    key: &str,
    device: &mut Device,
    sight: &Sight<'_>,
) -> Option<Standing> {
    let outside = sight.is_proven_outside();
    let trusted = !outside || device.in_good_standing(sight.now);
    let vouch = Vouch {
        counts: trusted && device.contributes(set, key, outside),
        outside,
    };
    habit.see(key, vouch, sight.now)
}

fn bracketed(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// `/24` or `/48`: an operator's addresses move within those.
fn neighbourhood(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            format!("[{a:x}:{b:x}:{c:x}::/48]")
        }
    }
}

/// In the same house: another device, not the internet.
fn is_inside(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
