//! More than declared, or more than the group usually does: queries, bytes, messages.

use super::{Judgement, Sight};
use crate::Settings;
use crate::baseline::Group;
use crate::device::Device;
use crate::statistics::{Excess, Gate, May, Profile, Rate, Sample};
use crate::text::{bytes, duration, number, shown};
use model::{DeviationKind, Severity, Source};
use std::time::Duration;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    DnsQueries,
    BytesOut,
    Messages,
}

impl Counted {
    const fn kind(self) -> DeviationKind {
        match self {
            Self::DnsQueries => DeviationKind::DnsSpike,
            Self::BytesOut | Self::Messages => DeviationKind::OutboundVolume,
        }
    }

    const fn entity(self) -> &'static str {
        match self {
            Self::DnsQueries => "dns queries",
            Self::BytesOut => "bytes out",
            Self::Messages => "messages",
        }
    }

    /// So much more than usual a minute before a learned rate is worth a word: below it, three
    /// times nothing is still nothing.
    const fn more_min(self) -> f32 {
        match self {
            Self::DnsQueries => 20.0,
            Self::BytesOut => 250_000.0,
            Self::Messages => 60.0,
        }
    }

    fn amount(self, value: u64) -> String {
        match self {
            Self::DnsQueries => format!("{value} queries"),
            Self::BytesOut => format!("{} out", bytes(value)),
            Self::Messages => format!("{value} messages"),
        }
    }

    fn a_minute(self, value: f32) -> String {
        match self {
            Self::DnsQueries => format!("{} queries a minute", number(value)),
            Self::BytesOut => format!("{}B a minute", number(value)),
            Self::Messages => format!("{} messages a minute", number(value)),
        }
    }
}

/// Declared maxima are of a minute.
const MINUTE_MS: u64 = 60_000;

/// Too much of something in an interval that ends now.
pub fn rate(
    settings: &Settings,
    group: &mut Group,
    device: &mut Device,
    sight: &Sight<'_>,
    counted: Counted,
    (count, interval): (u64, Duration),
) -> Option<Judgement> {
    let may = May {
        follow: sight.is_proven_outside(),
        learn: sight.is_proven_outside() && device.in_good_standing(sight.now),
        judge: group.judges() && sight.source != Source::Device,
    };
    let declared_max = group.declared.as_ref().and_then(|declared| match counted {
        Counted::DnsQueries => declared.dns_per_minute_max,
        Counted::BytesOut => declared.bytes_out_per_minute_max,
        Counted::Messages => None,
    });
    let accepted = group.is_accepted();
    let (profile, rate) = places(group, device, sight.source, counted);
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let window_ms = match declared_max {
        Some(_) => MINUTE_MS,
        None => millis(settings.rate_window),
    };
    let sample = rate.add(count, millis(interval), sight.now, window_ms);
    if let Some(max) = declared_max {
        return over_declared(&sample, max, counted, sight);
    }
    // What a device says of itself is held against what was learned from outside, and teaches
    // nothing; without a network observer there is nothing to hold it against.
    if sight.source == Source::Device {
        return None;
    }
    let gate = Gate {
        k: settings.cusum_k,
        h: settings.cusum_h,
        ratio_min: settings.rate_ratio_min,
        more_min: counted.more_min(),
    };
    let Excess {
        expected_per_minute,
        since,
    } = rate.judge(&sample, profile, &gate, sight.now, may)?;
    let wild = sample.per_minute >= 20.0 * expected_per_minute.max(1.0);
    Some(Judgement {
        kind: counted.kind(),
        entity: counted.entity().to_owned(),
        expected: format!(
            "about {} at this hour (learned from {} samples)",
            counted.a_minute(expected_per_minute),
            profile.samples()
        ),
        seen: seen(&sample, counted, sight),
        since,
        severity: if wild {
            Severity::High
        } else {
            Severity::Medium
        },
        accepted,
    })
}

fn places<'a>(
    group: &'a mut Group,
    device: &'a mut Device,
    source: Source,
    counted: Counted,
) -> (&'a mut Profile, &'a mut Rate) {
    let (learned, rates) = (&mut group.learned, &mut device.rates);
    let reported = source == Source::Device;
    match counted {
        Counted::DnsQueries if reported => (&mut learned.dns, &mut rates.dns_device),
        Counted::DnsQueries => (&mut learned.dns, &mut rates.dns_network),
        Counted::BytesOut if reported => (&mut learned.bytes, &mut rates.bytes_device),
        Counted::BytesOut => (&mut learned.bytes, &mut rates.bytes_network),
        Counted::Messages => (&mut learned.messages, &mut rates.messages),
    }
}

fn over_declared(
    sample: &Sample,
    max: u64,
    counted: Counted,
    sight: &Sight<'_>,
) -> Option<Judgement> {
    let over = sample.per_minute / max.max(1) as f32;
    // A rate of exactly the maximum is permitted; so is the rounding of a short window.
    if sample.per_minute <= max as f32 * 1.001 {
        return None;
    }
    Some(Judgement {
        kind: counted.kind(),
        entity: counted.entity().to_owned(),
        expected: format!("at most {} (declared)", counted.a_minute(max as f32)),
        seen: seen(sample, counted, sight),
        since: sample.began,
        severity: if over >= 10.0 {
            Severity::High
        } else {
            Severity::Medium
        },
        accepted: true,
    })
}

fn seen(sample: &Sample, counted: Counted, sight: &Sight<'_>) -> String {
    format!(
        "{} in {}",
        counted.amount(sample.sum),
        duration(sight.now.since(sample.began))
    )
}

/// Names of a sample that hang under one parent and carry long first labels: data in questions.
const TUNNEL_NAMES_MIN: usize = 5;
const TUNNEL_LABEL_MIN: usize = 24;

/// Names that carry data, whatever their number.
pub fn tunnel(sight: &Sight<'_>, names: &[String]) -> Option<Judgement> {
    let long: Vec<(&str, &str)> = names
        .iter()
        .take(16)
        .filter_map(|name| name.split_once('.'))
        .filter(|(label, parent)| label.len() >= TUNNEL_LABEL_MIN && parent.contains('.'))
        .collect();
    let (_, parent) = long.first()?;
    let under: Vec<&str> = long
        .iter()
        .filter(|(_, other)| other.eq_ignore_ascii_case(parent))
        .map(|(label, _)| *label)
        .collect();
    let mut different = under.clone();
    different.sort_unstable();
    different.dedup();
    if different.len() < TUNNEL_NAMES_MIN {
        return None;
    }
    let parent = shown(&parent.to_ascii_lowercase(), 128);
    Some(Judgement {
        kind: DeviationKind::DnsSpike,
        entity: format!("names under {parent}"),
        expected: "names that say a place, not data".to_owned(),
        seen: format!(
            "{} different long names under {parent}, such as {}",
            different.len(),
            shown(under.first().unwrap_or(&""), 40)
        ),
        since: sight.now,
        severity: Severity::High,
        accepted: true,
    })
}
