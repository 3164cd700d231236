//! People, services and addresses at the interfaces.

use super::{Judgement, Sight};
use crate::Feature;
use crate::Settings;
use crate::device::SaidList;
use crate::places::{household, known_key};
use crate::statistics::{Tally, tail};
use crate::text::{duration, shown};
use core::net::IpAddr;
use model::{DeviationKind, Severity, Subject};
use std::time::Duration;

const TEN_MINUTES: u32 = 600;
/// Samples of a service's fan-out before its own habit judges it, and the least that counts.
const FAN_OUT_SAMPLES_MIN: u32 = 20;
const FAN_OUT_MIN: f32 = 20.0;
const FAN_OUT_RATIO: f32 = 4.0;
/// Places that are remembered of one; the oldest makes room.
const PLACES_MAX: usize = 8;

/// What is remembered of somebody who is no device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Visitor {
    pub said: SaidList,
    refused: Tally,
    denied: Tally,
    handshakes: Tally,
    /// From where a person's session or a token was used.
    places: Vec<IpAddr>,
    /// The most devices a minute that a service sent to; rises at once, falls slowly.
    fan_out_high: f32,
    fan_out_samples: u32,
}

/// Judges what is not about a device.
pub fn visitor(
    settings: &Settings,
    visitor: &mut Visitor,
    subject: &Subject,
    sight: &Sight<'_>,
    feature: &Feature,
) -> Option<Judgement> {
    match feature {
        Feature::SignIn { accepted } => refused(settings, visitor, sight, *accepted, "sign-ins"),
        // Meant, and loud all the same: each time, to everybody who is told.
        Feature::GlassBroken => Some(Judgement {
            kind: DeviationKind::ApiAbuse,
            entity: "break-glass".to_owned(),
            expected: "nobody needs all roles".to_owned(),
            seen: "all roles for an hour, by two people's word".to_owned(),
            since: sight.now,
            severity: Severity::High,
            accepted: true,
        }),
        Feature::Token { accepted } => refused(settings, visitor, sight, *accepted, "tokens"),
        Feature::UsedFrom { address } => used_from(visitor, sight, *address),
        Feature::Denied {
            action,
            target,
            reason,
        } => denied(settings, visitor, subject, sight, (action, target, reason)),
        Feature::CommandFanOut { devices, interval } => {
            fan_out(visitor, sight, *devices, *interval)
        }
        Feature::HandshakeFailed { reason, door } => {
            handshake(settings, visitor, subject, sight, reason, door)
        }
        Feature::KnownKey { flaw, door } => Some(known_key(sight, flaw, door)),
        Feature::ProtocolTooOld { offered, door } => Some(Judgement {
            kind: DeviationKind::ProtocolDowngrade,
            entity: format!("offers {}", shown(offered, 32)),
            expected: format!("offers what the door {} takes", shown(door, 32)),
            seen: format!("offers of {} and nothing newer", shown(offered, 32)),
            since: sight.now,
            severity: Severity::Low,
            accepted: true,
        }),
        _ => None,
    }
}

fn refused(
    settings: &Settings,
    visitor: &mut Visitor,
    sight: &Sight<'_>,
    accepted: bool,
    what: &str,
) -> Option<Judgement> {
    let guessed = tail(visitor.refused.count(), 0.5, 0.5) <= settings.tail_p_max.sqrt();
    if accepted {
        // Whoever failed often and then got in may have guessed.
        let failures = visitor.refused.count();
        let recent = sight.now.since(visitor.refused.since()) < Duration::from_secs(3_600);
        return (guessed && recent).then(|| Judgement {
            kind: DeviationKind::ApiAbuse,
            entity: format!("{what}: accepted after refusals"),
            expected: "few refusals before the right one".to_owned(),
            seen: format!("accepted after {failures} refusals"),
            since: visitor.refused.since(),
            severity: Severity::High,
            accepted: true,
        });
    }
    let count = visitor.refused.add(1, sight.now, TEN_MINUTES);
    (tail(count, 0.5, 0.5) <= settings.tail_p_max.sqrt()).then(|| Judgement {
        kind: DeviationKind::ApiAbuse,
        entity: format!("{what}: refused"),
        expected: "a slip now and then".to_owned(),
        seen: format!(
            "{count} {what} refused within {}",
            duration(
                sight
                    .now
                    .since(visitor.refused.since())
                    .max(Duration::from_secs(1))
            )
        ),
        since: visitor.refused.since(),
        severity: Severity::Medium,
        accepted: true,
    })
}

fn denied(
    settings: &Settings,
    visitor: &mut Visitor,
    subject: &Subject,
    sight: &Sight<'_>,
    (action, target, reason): (&str, &str, &str),
) -> Option<Judgement> {
    let count = visitor.denied.add(1, sight.now, 3_600);
    let too_many_devices = reason == "fan-out-exceeded";
    // Services are programmed: a few denials are a mistake, not an attack. Whoever shows a
    // certificate of ours is known; from an address alone anybody knocks. A person tries what is
    // another role's now and then.
    let mean = match subject {
        Subject::Address(_) => 20.0,
        Subject::Person(_) => 0.5,
        _ => 0.2,
    };
    let p = tail(count, 0.2, mean);
    if p > settings.tail_p_max && !too_many_devices {
        return None;
    }
    let (action, reason) = (shown(action, 16), shown(reason, 32));
    Some(Judgement {
        kind: if too_many_devices {
            DeviationKind::ApiAbuse
        } else {
            DeviationKind::DeniedAttempts
        },
        entity: format!("{action}: {reason}"),
        expected: format!("{action} within its grants"),
        seen: format!("{count} denied within an hour, last {}", shown(target, 128)),
        since: visitor.denied.since(),
        severity: match (subject, too_many_devices) {
            (Subject::Address(_), _) => Severity::Low,
            (_, true) => Severity::High,
            _ => Severity::Medium,
        },
        accepted: true,
    })
}

fn handshake(
    settings: &Settings,
    visitor: &mut Visitor,
    subject: &Subject,
    sight: &Sight<'_>,
    reason: &str,
    door: &str,
) -> Option<Judgement> {
    let count = visitor.handshakes.add(1, sight.now, 3_600);
    let mean = if matches!(subject, Subject::Address(_)) {
        2.0
    } else {
        0.5
    };
    (tail(count, 0.5, mean) <= settings.tail_p_max).then(|| Judgement {
        kind: DeviationKind::CertificateFailures,
        entity: shown(reason, 48),
        expected: "a handshake that stands, or one that is given up".to_owned(),
        seen: format!(
            "{count} refused within an hour, last at {}: {}",
            shown(door, 32),
            shown(reason, 48)
        ),
        since: visitor.handshakes.since(),
        severity: Severity::Low,
        accepted: true,
    })
}

/// A secret that was stolen is used from elsewhere. So is one whose owner travels: a person looks.
fn used_from(visitor: &mut Visitor, sight: &Sight<'_>, address: IpAddr) -> Option<Judgement> {
    let place = household(address);
    if visitor.places.contains(&place) {
        return None;
    }
    let is_first = visitor.places.is_empty();
    if visitor.places.len() >= PLACES_MAX {
        visitor.places.remove(0);
    }
    visitor.places.push(place);
    (!is_first).then(|| Judgement {
        kind: DeviationKind::ApiAbuse,
        entity: format!("used from {place}"),
        expected: "from where it was used before".to_owned(),
        seen: format!("used from {place} for the first time"),
        since: sight.now,
        severity: Severity::Low,
        accepted: false,
    })
}

fn fan_out(
    visitor: &mut Visitor,
    sight: &Sight<'_>,
    devices: u64,
    interval: Duration,
) -> Option<Judgement> {
    let minutes = (interval.as_secs_f32() / 60.0).max(1.0 / 60.0);
    let now = devices as f32 / minutes.max(1.0);
    let usual = visitor.fan_out_high;
    let judges = visitor.fan_out_samples >= FAN_OUT_SAMPLES_MIN;
    visitor.fan_out_samples = visitor.fan_out_samples.saturating_add(1);
    if judges && now >= FAN_OUT_MIN && now > FAN_OUT_RATIO * usual {
        // Learned a little at a time: who means it must ask for it in the fleet.
        visitor.fan_out_high = usual * 1.05 + 0.1;
        return Some(Judgement {
            kind: DeviationKind::ApiAbuse,
            entity: "fan-out".to_owned(),
            expected: format!("commands to at most {usual:.0} devices a minute, as before"),
            seen: format!("commands to {now:.0} devices a minute"),
            since: sight.now.minus(interval),
            severity: Severity::High,
            accepted: false,
        });
    }
    visitor.fan_out_high = (usual * 0.999).max(now);
    None
}
