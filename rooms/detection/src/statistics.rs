//! The statistics, each of which can be explained in a sentence.

use crate::pack::pack;
use model::Timestamp;

/// P(X ≥ `count`) of a negative binomial: a Poisson count whose rate is itself uncertain (a gamma
/// with this `shape` and `mean`). How surprising so many failures are where `mean` is usual.
pub fn tail(count: u32, shape: f64, mean: f64) -> f64 {
    if count == 0 {
        return 1.0;
    }
    let share = mean / (shape + mean);
    let mut term = (1.0 - share).powf(shape);
    let mut below = 0.0;
    for i in 0..count.min(TERMS_MAX) {
        below += term;
        term *= (shape + f64::from(i)) / f64::from(i + 1) * share;
    }
    // Summing the tail itself keeps small values exact; 1 - below would lose them.
    let mut above = 0.0;
    for i in count..count.saturating_add(TERMS_MAX) {
        above += term;
        if term < above * 1e-9 {
            break;
        }
        term *= (shape + f64::from(i)) / f64::from(i.saturating_add(1)) * share;
    }
    above.min((1.0 - below).max(above)).clamp(0.0, 1.0)
}

const TERMS_MAX: u32 = 4096;

/// A count in a window that begins with its first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Seconds since 1970.
    since: u32,
    count: u32,
}

pack!(Tally { since, count });

impl Tally {
    /// Counts `more` at `now`; the count of the window so far.
    pub fn add(&mut self, more: u64, now: Timestamp, window_seconds: u32) -> u32 {
        let at = seconds(now);
        if self.count == 0 || at.saturating_sub(self.since) > window_seconds {
            *self = Self {
                since: at,
                count: 0,
            };
        }
        self.count = self
            .count
            .saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        self.count
    }

    pub const fn count(&self) -> u32 {
        self.count
    }

    pub fn since(&self) -> Timestamp {
        Timestamp::from_seconds(u64::from(self.since))
    }
}

/// Seconds since 1970 in four bytes: good until 2106.
pub fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.as_seconds()).unwrap_or(u32::MAX)
}

/// A count that halves in about forty minutes: what a group does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Fading {
    value: f32,
    at: u32,
}

pack!(Fading { value, at });

impl Fading {
    const SECONDS: f32 = 3600.0;

    pub fn add(&mut self, more: f32, now: Timestamp) {
        self.value = self.value(now) + more;
        self.at = seconds(now);
    }

    pub fn value(&self, now: Timestamp) -> f32 {
        let age = seconds(now).saturating_sub(self.at);
        self.value * (-(age as f32) / Self::SECONDS).exp()
    }
}

const HOURS: usize = 168;
/// Residuals are taken no further than this many standard deviations: one wild sample can
/// neither fill a CUSUM nor drag a mean.
const Z_MAX: f32 = 4.0;
/// In units of ln(1 + rate): nothing is steadier than a quarter.
const DEVIATION_MIN: f32 = 0.25;
/// How far (in ln) a device may lie above or below its group and still be called usual: 8 times.
const OFFSET_MAX: f32 = 2.08;
const SLOW: f32 = 0.02;
/// Samples of its own before a device is judged against a learned rate.
const OWN_SAMPLES_MIN: u16 = 12;

/// What a group's rate usually is, by hour of the week (UTC), in ln(1 + rate per minute).
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    hours: Vec<f32>,
    counts: Vec<u32>,
    mean: f32,
    variance: f32,
    /// How far the whole group lies beside its habit just now: a running median, so a minority
    /// cannot move it far. A cold evening moves all.
    shift: f32,
    samples: u32,
}

pack!(Profile {
    hours,
    counts,
    mean,
    variance,
    shift,
    samples
});

impl Default for Profile {
    fn default() -> Self {
        Self {
            hours: vec![0.0; HOURS],
            counts: vec![0; HOURS],
            mean: 0.0,
            variance: 1.0,
            shift: 0.0,
            samples: 0,
        }
    }
}

impl Profile {
    pub const fn samples(&self) -> u32 {
        self.samples
    }

    /// Rate per minute that is usual over the week.
    pub fn usual(&self) -> f32 {
        self.mean.exp_m1().max(0.0)
    }

    fn cell(&self, hour: usize) -> f32 {
        match (self.hours.get(hour), self.counts.get(hour)) {
            (Some(mean), Some(count)) if *count >= 5 => *mean,
            _ => self.mean,
        }
    }

    /// The highest of the hour and its neighbours: a habit kept in local time moves by an hour
    /// twice a year.
    fn expected(&self, now: Timestamp) -> f32 {
        let hour = hour_of_week(now);
        [HOURS - 1, 0, 1]
            .into_iter()
            .map(|step| self.cell((hour + step) % HOURS))
            .fold(f32::MIN, f32::max)
    }

    fn learn(&mut self, x: f32, residual: f32, now: Timestamp) {
        self.samples = self.samples.saturating_add(1);
        let pace = (1.0 / self.samples as f32).max(0.001);
        let hour = hour_of_week(now);
        let deviation = self.variance.sqrt().max(DEVIATION_MIN);
        if let (Some(mean), Some(count)) = (self.hours.get_mut(hour), self.counts.get_mut(hour)) {
            *count = count.saturating_add(1);
            let step = x - *mean;
            let limit = if *count <= 5 {
                f32::MAX
            } else {
                2.5 * deviation
            };
            *mean += step.clamp(-limit, limit) * (1.0 / *count as f32).max(0.002);
        }
        let limit = if self.samples <= 20 {
            f32::MAX
        } else {
            2.5 * deviation
        };
        self.mean += (x - self.mean).clamp(-limit, limit) * pace;
        let clipped = residual.clamp(-3.0 * deviation, 3.0 * deviation);
        self.variance += (clipped * clipped - self.variance) * pace.max(0.001);
    }

    /// Follows what the whole group does at the moment, whoever the sample is from: a step of
    /// fixed size towards each makes it a running median.
    fn follow(&mut self, residual: f32) {
        let deviation = self.variance.sqrt().max(DEVIATION_MIN);
        self.shift += 0.02 * deviation * ((residual - self.shift) / deviation).clamp(-1.0, 1.0);
    }
}

fn hour_of_week(now: Timestamp) -> usize {
    usize::try_from(now.as_seconds() / 3600 % 168).unwrap_or(0)
}

/// A rate of one device: samples, and a one-sided CUSUM of how far they lie above expectation.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    /// Of the open sample: when it began (milliseconds since 1970, 0 for none) and the count so
    /// far.
    started: u64,
    sum: u64,
    offset: f32,
    variance: f32,
    cusum: f32,
    /// When the CUSUM left zero, seconds since 1970.
    since: u32,
    samples: u16,
}

pack!(Rate {
    started,
    sum,
    offset,
    variance,
    cusum,
    since,
    samples
});

/// A sample: so many in so long. Not closed: the window is still open, and the rate is the least
/// it can be when it closes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub sum: u64,
    pub per_minute: f32,
    pub began: Timestamp,
    pub closed: bool,
}

/// A rate that is no accident.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Excess {
    pub expected_per_minute: f32,
    pub since: Timestamp,
}

/// When a learned rate counts as exceeded.
#[derive(Debug, Clone, Copy)]
pub struct Gate {
    pub k: f32,
    pub h: f32,
    pub ratio_min: f32,
    /// And this much more than expected, per minute.
    pub more_min: f32,
}

impl Rate {
    /// Adds what came in an interval that ended at `now`.
    pub fn add(&mut self, count: u64, interval_ms: u64, now: Timestamp, window_ms: u64) -> Sample {
        let now_ms = now.as_millis();
        let began = now_ms.saturating_sub(interval_ms);
        let stale =
            now_ms.saturating_sub(self.started) > window_ms.saturating_mul(2).max(interval_ms);
        if self.started == 0 || stale || self.started > now_ms {
            self.started = began.max(1);
            self.sum = 0;
        }
        self.sum = self.sum.saturating_add(count);
        let covered = now_ms.saturating_sub(self.started).max(interval_ms);
        let closed = covered >= window_ms;
        let sample = Sample {
            sum: self.sum,
            per_minute: self.sum as f32 * 60_000.0 / covered.max(window_ms).max(1) as f32,
            began: Timestamp::from_millis(self.started),
            closed,
        };
        if closed {
            self.started = 0;
        }
        sample
    }

    /// Judges a sample against the group's habit, and learns from it if it may.
    pub fn judge(
        &mut self,
        sample: &Sample,
        profile: &mut Profile,
        gate: &Gate,
        now: Timestamp,
        may: May,
    ) -> Option<Excess> {
        let x = (1.0 + sample.per_minute).ln();
        if self.samples == 0 {
            self.variance = profile.variance;
        }
        let deviation = self.variance.sqrt().max(DEVIATION_MIN);
        let expected = profile.expected(now) + self.offset + profile.shift.max(0.0);
        let above = x - expected;
        let expected_per_minute = expected.exp_m1().max(0.0);
        let enough = sample.per_minute >= gate.ratio_min * expected_per_minute
            && sample.per_minute - expected_per_minute >= gate.more_min;
        let judges = may.judge && self.samples >= OWN_SAMPLES_MIN;
        let leap = judges && enough && above > (8.0 * deviation).max(SPIKE);
        if !sample.closed {
            return leap.then_some(Excess {
                expected_per_minute,
                since: sample.began,
            });
        }
        if self.cusum <= 0.0 {
            self.since = seconds(sample.began);
        }
        let z = (above / deviation).clamp(-Z_MAX, Z_MAX);
        self.cusum = (self.cusum + z - gate.k).clamp(0.0, 2.0 * gate.h);
        let excess = leap || judges && enough && self.cusum > gate.h;
        // A device learns its own habit even where the group does not learn from it, but never
        // from what was just called a deviation.
        let residual = x - profile.cell(hour_of_week(now)) - self.offset;
        if may.follow {
            profile.follow(residual);
        }
        if !excess && may.learn {
            self.samples = self.samples.saturating_add(1);
            let pace = (1.0 / f32::from(self.samples)).max(SLOW);
            let limit = if self.samples <= OWN_SAMPLES_MIN {
                3.0
            } else {
                1.0
            } * deviation;
            self.offset =
                (self.offset + residual.clamp(-limit, limit) * pace).clamp(-OFFSET_MAX, OFFSET_MAX);
            let clipped = residual.clamp(-3.0 * deviation, 3.0 * deviation);
            self.variance += (clipped * clipped - self.variance) * SLOW;
            profile.learn(x, residual, now);
        }
        excess.then_some(Excess {
            expected_per_minute,
            since: Timestamp::from_seconds(u64::from(self.since)),
        })
    }
}

/// ln of 32: what a single sample must exceed expectation by. Life has bursts of ten times.
const SPIKE: f32 = 3.47;

/// What may be done with a sample.
#[derive(Debug, Clone, Copy)]
pub struct May {
    /// It comes from outside and is proven.
    pub follow: bool,
    /// And from a device in good standing.
    pub learn: bool,
    /// The group has learned long enough.
    pub judge: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_tail_agrees_with_the_geometric_distribution() {
        // Shape 1 is geometric: P(X >= k) = (m / (1 + m))^k.
        for k in [1_u32, 2, 5, 20, 60] {
            let exact = 0.5_f64.powi(i32::try_from(k).unwrap());
            assert!((tail(k, 1.0, 1.0) / exact - 1.0).abs() < 1e-6, "{k}");
        }
    }

    proptest! {
        #[test]
        fn the_tail_is_a_probability_and_falls(count in 1u32..500, shape in 0.01f64..5.0, mean in 1e-5f64..50.0) {
            let p = tail(count, shape, mean);
            prop_assert!((0.0..=1.0).contains(&p));
            prop_assert!(tail(count + 1, shape, mean) <= p * 1.000_001);
        }
    }
}
