//! What is remembered of one device: about a kilobyte at most.

use crate::pack::{digest, pack};
use crate::statistics::{Rate, Tally, seconds};
use model::{Attribution, DeviationKind, Severity, Source, Timestamp};
use std::time::Duration;

/// Things for which a device has been counted in its group's habits.
const CONTRIBUTIONS_MAX: usize = 32;
/// Deviations remembered as said.
const SAID_MAX: usize = 24;
/// After a deviation a device teaches its group nothing for this long.
const SUSPECT_SECONDS: u32 = 86_400;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Device {
    pub rates: Rates,
    pub failures: Failures,
    pub tls: Tls,
    pub firmware: Firmware,
    pub reports: Reports,
    /// Unexpected destinations in the last hour that were new ones.
    pub new_destinations: Tally,
    /// The last hour in which it counted as a trial of its group's destinations.
    pub trial_hour: u32,
    suspect_until: u32,
    contributions: Vec<u32>,
    said: Vec<Said>,
}

pack!(Device {
    rates,
    failures,
    tls,
    firmware,
    reports,
    new_destinations,
    trial_hour,
    suspect_until,
    contributions,
    said
});

/// By who saw it: what differs in origin is not added up.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rates {
    pub dns_network: Rate,
    pub dns_device: Rate,
    pub bytes_network: Rate,
    pub bytes_device: Rate,
    pub messages: Rate,
}

pack!(Rates {
    dns_network,
    dns_device,
    bytes_network,
    bytes_device,
    messages
});

/// Counts of what went wrong, in windows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Failures {
    /// Handshakes refused for reasons that life brings (expired), and for others.
    pub handshakes_usual: Tally,
    pub handshakes_unusual: Tally,
    /// The latter by claim only: kept apart, so that a stranger cannot fill the proven count.
    pub handshakes_claimed: Tally,
    pub denied_usual: Tally,
    pub denied_unusual: Tally,
    pub reported: Tally,
    pub old_protocol: Tally,
    pub takeovers: Tally,
    /// Digests of the last different targets that were denied.
    pub denied_targets: [u32; 4],
}

pack!(Failures {
    handshakes_usual,
    handshakes_unusual,
    handshakes_claimed,
    denied_usual,
    denied_unusual,
    reported,
    old_protocol,
    takeovers,
    denied_targets
});

/// The best it ever spoke, lately.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tls {
    pub version: u8,
    pub version_at: u32,
    pub hybrid: bool,
    pub hybrid_at: u32,
}

pack!(Tls {
    version,
    version_at,
    hybrid,
    hybrid_at
});

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Firmware {
    /// Digests of the version's name and of the image's digest; 0 for none yet.
    pub version: u32,
    pub image: u32,
    pub changed_at: u32,
}

pack!(Firmware {
    version,
    image,
    changed_at
});

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reports {
    /// Digest of the present boot; 0 before the first report.
    pub boot: u64,
    pub sequence: u64,
    pub present_boot: u32,
    pub earlier_boots: [u32; 4],
    pub repeats: Tally,
    pub last_at: u32,
    pub interval_seconds: u32,
    pub longest_gap_seconds: u32,
    pub silence_said: bool,
}

pack!(Reports {
    boot,
    present_boot,
    sequence,
    earlier_boots,
    repeats,
    last_at,
    interval_seconds,
    longest_gap_seconds,
    silence_said
});

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Said {
    key: u32,
    at: u32,
    rank: u8,
}

pack!(Said { key, at, rank });

impl Device {
    /// True if this is the first time that the device is counted for `key`. The last quarter of
    /// the places is for what is seen from outside: reports alone cannot use them up.
    pub fn contributes(&mut self, set: &str, key: &str, outside: bool) -> bool {
        let mark = short(&[set.as_bytes(), key.as_bytes(), &[u8::from(outside)]]);
        let places = if outside {
            CONTRIBUTIONS_MAX
        } else {
            CONTRIBUTIONS_MAX / 4 * 3
        };
        if self.contributions.contains(&mark) || self.contributions.len() >= places {
            return false;
        }
        self.contributions.push(mark);
        true
    }

    pub fn in_good_standing(&self, now: Timestamp) -> bool {
        seconds(now) >= self.suspect_until
    }

    /// Should this be said, or was it lately, no less grave and no worse attested?
    pub fn says(&mut self, what: &Saying<'_>, now: Timestamp, repeat_after: Duration) -> bool {
        // Only what is new makes it suspect: a provider's new address, which all go on using, must
        // not end all learning.
        let known = self.has_said(what.kind, what.entity);
        if !known && what.severity >= Severity::Medium && what.proven_outside() {
            self.suspect_until = seconds(now).saturating_add(SUSPECT_SECONDS);
        }
        says(&mut self.said, what, now, repeat_after)
    }

    /// Has anything been said of this, by anybody?
    pub fn has_said(&self, kind: DeviationKind, entity: &str) -> bool {
        Source::ALL.into_iter().any(|source| {
            let key = key(kind, entity, source);
            self.said.iter().any(|said| said.key == key)
        })
    }
}

/// What is about to be said of somebody.
#[derive(Debug, Clone, Copy)]
pub struct Saying<'a> {
    pub kind: DeviationKind,
    pub entity: &'a str,
    pub source: Source,
    pub attribution: Attribution,
    pub severity: Severity,
}

impl Saying<'_> {
    fn proven_outside(&self) -> bool {
        self.attribution == Attribution::Proven && self.source != Source::Device
    }
}

/// What was said of somebody who is no device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SaidList(Vec<Said>);

impl SaidList {
    pub fn says(&mut self, what: &Saying<'_>, now: Timestamp, repeat_after: Duration) -> bool {
        says(&mut self.0, what, now, repeat_after)
    }
}

fn says(list: &mut Vec<Said>, what: &Saying<'_>, now: Timestamp, repeat_after: Duration) -> bool {
    let key = key(what.kind, what.entity, what.source);
    let rank = what.severity as u8 * 4 + what.attribution as u8;
    let at = seconds(now);
    if let Some(said) = list.iter_mut().find(|said| said.key == key) {
        let lately = u64::from(at.saturating_sub(said.at)) < repeat_after.as_secs();
        if lately && rank <= said.rank {
            return false;
        }
        *said = Said { key, at, rank };
        return true;
    }
    if list.len() >= SAID_MAX {
        let oldest = list.iter().enumerate().min_by_key(|(_, said)| said.at);
        if let Some(place) = oldest.map(|(place, _)| place) {
            list.swap_remove(place);
        }
    }
    list.push(Said { key, at, rank });
    true
}

fn key(kind: DeviationKind, entity: &str, source: Source) -> u32 {
    short(&[
        kind.name().as_bytes(),
        entity.as_bytes(),
        source.name().as_bytes(),
    ])
}

/// A mark of 32 bits. Two things that share one cost a repetition or a count, no more.
pub fn short(parts: &[&[u8]]) -> u32 {
    let whole = digest(&parts.join(&0));
    // Never 0, which says "none".
    ((whole ^ (whole >> 32)) as u32).max(1)
}
