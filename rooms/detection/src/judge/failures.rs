//! Too many failures to be an accident: handshakes, denials, sessions that push each other out.

use super::{Judgement, Sight};
use crate::Settings;
use crate::baseline::Group;
use crate::device::{Device, short};
use crate::statistics::{Tally, tail};
use crate::text::{duration, shown};
use core::net::IpAddr;
use model::{Attribution, DeviationKind, Severity};
use std::time::Duration;

const HOUR: u32 = 3_600;
const TAKEOVER_WINDOW: u32 = 600;
/// A single failure of the unusual sort is worth a look.
const LOOK_P_MAX: f64 = 1e-4;

/// Reasons that life brings: a device asleep past its certificate, a wrong clock, a bad line.
const USUAL_REFUSALS: [&str; 7] = [
    "certificate-expired",
    "certificate-not-yet-valid",
    "handshake-timeout",
    "handshake-left",
    "not-tls",
    "peer-alert",
    "handshake-failed",
];
/// Denials of the right thing at the wrong pace, and those that containment itself brings.
const USUAL_DENIALS: [&str; 2] = ["rate-exceeded", "payload-too-large"];
const OUR_OWN_DOING: [&str; 8] = [
    "contained",
    "device-isolated",
    "device-revoked",
    "device-on-hold",
    "product-revoked",
    "product-on-hold",
    "issuer-revoked",
    "issuer-on-hold",
];

/// What is usual, per hour and device: the gamma prior.
#[derive(Debug, Clone, Copy)]
struct Prior {
    shape: f64,
    mean: f64,
}

/// Some of it now and then, differing from device to device.
const USUAL: Prior = Prior {
    shape: 0.5,
    mean: 0.5,
};
/// Once in two years, or by a mistake in a release that many then show.
const UNUSUAL: Prior = Prior {
    shape: 0.05,
    mean: 5e-5,
};

impl Prior {
    fn p(self, count: u32) -> f64 {
        tail(count, self.shape, self.mean)
    }
}

/// Handshakes in a device's name are refused.
pub fn handshake(
    settings: &Settings,
    group: &mut Group,
    device: &mut Device,
    sight: &Sight<'_>,
    reason: &str,
    door: &str,
) -> Option<Judgement> {
    if OUR_OWN_DOING.contains(&reason) {
        return None;
    }
    let usual = USUAL_REFUSALS.contains(&reason);
    let failures = &mut device.failures;
    let proven = sight.attribution == Attribution::Proven;
    let (tally, prior) = if usual {
        // When many of the group fail at the same time, failing is usual just now.
        let devices = group.devices.max(1) as f32;
        let share = group.learned.refused.value(sight.now) / devices;
        let counted = failures.handshakes_usual.add(1, sight.now, HOUR);
        if counted <= 3 {
            group.learned.refused.add(1.0, sight.now);
        }
        let mean = USUAL.mean.max(f64::from(share));
        (failures.handshakes_usual, Prior { mean, ..USUAL })
    } else if proven {
        failures.handshakes_unusual.add(1, sight.now, HOUR);
        (failures.handshakes_unusual, UNUSUAL)
    } else {
        failures.handshakes_claimed.add(1, sight.now, HOUR);
        (failures.handshakes_claimed, UNUSUAL)
    };
    let p = prior.p(tally.count());
    if p > LOOK_P_MAX || usual && p > settings.tail_p_max {
        return None;
    }
    let severity = match tally.count() {
        _ if usual || p > settings.tail_p_max => Severity::Low,
        10.. if proven => Severity::High,
        _ => Severity::Medium,
    };
    let reason = shown(reason, 48);
    Some(Judgement {
        kind: DeviationKind::CertificateFailures,
        expected: format!("no handshake in its name refused as {reason}"),
        seen: format!(
            "{} refused within {} at {}: {reason}",
            tally.count(),
            duration(sight.now.since(tally.since()).max(Duration::from_secs(1))),
            shown(door, 32),
        ),
        entity: reason,
        since: tally.since(),
        severity,
        accepted: true,
    })
}

/// The device itself could not verify others: somebody stands between, or its roots are old.
pub fn reported_handshakes(
    settings: &Settings,
    device: &mut Device,
    sight: &Sight<'_>,
    count: u64,
) -> Option<Judgement> {
    let tally = &mut device.failures.reported;
    let counted = tally.add(count, sight.now, HOUR);
    (USUAL.p(counted) <= settings.tail_p_max).then(|| Judgement {
        kind: DeviationKind::CertificateFailures,
        entity: "its own connections".to_owned(),
        expected: "handshakes with others that succeed".to_owned(),
        seen: format!("{counted} failed within an hour, by its own count"),
        since: tally.since(),
        severity: Severity::Low,
        accepted: true,
    })
}

/// It tries what it may not.
pub fn denied(
    settings: &Settings,
    device: &mut Device,
    sight: &Sight<'_>,
    (action, target, reason): (&str, &str, &str),
) -> Option<Judgement> {
    if OUR_OWN_DOING.contains(&reason) {
        return None;
    }
    let failures = &mut device.failures;
    let usual = USUAL_DENIALS.contains(&reason);
    let (tally, prior) = if usual {
        (&mut failures.denied_usual, Prior { mean: 5.0, ..USUAL })
    } else {
        (&mut failures.denied_unusual, UNUSUAL)
    };
    let fresh = tally.count() == 0;
    let count = tally.add(1, sight.now, HOUR);
    let tally = *tally;
    if fresh || count == 1 {
        failures.denied_targets = [0; 4];
    }
    let mark = short(&[target.as_bytes()]);
    let known = failures.denied_targets.contains(&mark);
    if let Some(place) = failures
        .denied_targets
        .iter_mut()
        .find(|place| **place == 0)
        && !known
    {
        *place = mark;
    }
    let targets = failures
        .denied_targets
        .iter()
        .filter(|mark| **mark != 0)
        .count();
    let p = prior.p(count);
    if p > LOOK_P_MAX || usual && p > settings.tail_p_max {
        return None;
    }
    let severity = match count {
        _ if usual || p > settings.tail_p_max => Severity::Low,
        20.. => Severity::High,
        _ if targets >= 3 => Severity::High,
        _ => Severity::Medium,
    };
    let (action, reason) = (shown(action, 16), shown(reason, 32));
    Some(Judgement {
        kind: DeviationKind::DeniedAttempts,
        entity: format!("{action}: {reason}"),
        expected: format!("{action} within its grants"),
        seen: format!(
            "{count} denied ({reason}) within {}, last {}",
            duration(sight.now.since(tally.since()).max(Duration::from_secs(1))),
            shown(target, 128)
        ),
        since: tally.since(),
        severity,
        accepted: true,
    })
}

/// Two programs use one identity: each takes the session from the other.
pub fn takeover(
    device: &mut Device,
    sight: &Sight<'_>,
    same_certificate: bool,
    from: IpAddr,
    previous: Option<IpAddr>,
) -> Option<Judgement> {
    let tally = &mut device.failures.takeovers;
    let count = tally.add(1, sight.now, TAKEOVER_WINDOW);
    let elsewhere = previous.is_some_and(|previous| previous != from);
    // A line that breaks and changes between two networks does so a few times; two programs never
    // stop.
    let severity = match (count, elsewhere) {
        (0..=2, _) | (3..=4, false) => return None,
        (3..=5, true) | (5..=9, false) => Severity::Medium,
        _ => Severity::High,
    };
    let with = if same_certificate {
        "the same"
    } else {
        "another"
    };
    let before = previous
        .map(|address| format!(" and {address}"))
        .unwrap_or_default();
    Some(Judgement {
        kind: DeviationKind::SharedIdentity,
        entity: "sessions".to_owned(),
        expected: "one session at a time, which ends before the next begins".to_owned(),
        seen: format!(
            "{count} sessions pushed out within {}, last from {from}{before} with {with} certificate",
            duration(sight.now.since(tally.since()).max(Duration::from_secs(1))),
        ),
        since: tally.since(),
        severity,
        accepted: true,
    })
}

/// Old protocols offered in a device's name.
pub fn old_protocol(
    device: &mut Device,
    sight: &Sight<'_>,
    offered: &str,
    door: &str,
) -> Judgement {
    let tally: &mut Tally = &mut device.failures.old_protocol;
    let count = tally.add(1, sight.now, HOUR);
    let proven = sight.attribution == Attribution::Proven;
    let (offered, door) = (shown(offered, 32), shown(door, 32));
    Judgement {
        kind: DeviationKind::ProtocolDowngrade,
        entity: format!("offers {offered}"),
        expected: format!("offers what the door {door} takes"),
        seen: format!("{count} offers of {offered} and nothing newer"),
        since: tally.since(),
        severity: if proven && count >= 3 {
            Severity::High
        } else {
            Severity::Medium
        },
        accepted: true,
    }
}
