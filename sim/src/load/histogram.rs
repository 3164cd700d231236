//! Latencies in a fixed 16 KiB, each kept to within 1/32 of its value.

use std::time::Duration;

/// 32 steps for every power of two of nanoseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_nanos: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; STEPS * 60],
            total: 0,
            max_nanos: 0,
        }
    }
}

const STEP_BITS: u32 = 5;
const STEPS: usize = 1 << STEP_BITS;

impl Histogram {
    pub fn record(&mut self, value: Duration) {
        let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(nanos)) {
            *count += 1;
        }
        self.total += 1;
        self.max_nanos = self.max_nanos.max(nanos);
    }

    /// Takes in the values of another one.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max_nanos = self.max_nanos.max(other.max_nanos);
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Microseconds below which the share `of` (0 to 1) of the values lies. `None` without values.
    #[must_use]
    pub fn quantile_micros(&self, of: f64) -> Option<f64> {
        if self.total == 0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank among far less than 2^52 values"
        )]
        let rank = ((self.total as f64 * of.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut below = 0;
        for (index, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                return Some(micros(upper_nanos(index).min(self.max_nanos)));
            }
        }
        Some(micros(self.max_nanos))
    }

    #[must_use]
    pub fn max_micros(&self) -> Option<f64> {
        (self.total > 0).then(|| micros(self.max_nanos))
    }
}

fn bucket(nanos: u64) -> usize {
    let power = 63 - (nanos | 1).leading_zeros();
    if power < STEP_BITS {
        return usize::try_from(nanos).unwrap_or(0);
    }
    let shift = power - STEP_BITS;
    let step = usize::try_from(nanos >> shift).unwrap_or(0) & (STEPS - 1);
    ((shift + 1) as usize) * STEPS + step
}

/// The largest value of a bucket.
fn upper_nanos(bucket: usize) -> u64 {
    let (shift, step) = (bucket / STEPS, (bucket % STEPS) as u64);
    match shift.checked_sub(1) {
        None => step,
        Some(shift) => {
            let end = u128::from(step + STEPS as u64 + 1) << shift;
            u64::try_from(end - 1).unwrap_or(u64::MAX)
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a latency, not a count of years"
)]
fn micros(nanos: u64) -> f64 {
    (nanos as f64 / 100.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_holds_its_values_to_within_a_thirty_second(nanos in 0u64..u64::MAX / 2) {
            let upper = upper_nanos(bucket(nanos));
            prop_assert!(upper >= nanos);
            prop_assert!(upper - nanos <= nanos / 32);
            prop_assert!(bucket(nanos) < Histogram::default().counts.len());
        }

        #[test]
        fn quantiles_agree_with_sorting(mut values in prop::collection::vec(1_000u64..10_000_000_000, 1..300), percent in 0u32..=100) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.record(Duration::from_nanos(*value));
            }
            values.sort_unstable();
            let of = f64::from(percent) / 100.0;
            let rank = ((values.len() as f64 * of).ceil() as usize).max(1);
            let exact = values[rank - 1] as f64 / 1000.0;
            let found = histogram.quantile_micros(of).unwrap();
            prop_assert!(found >= exact - 0.1 && found <= exact * (1.0 + 1.0 / 32.0) + 0.1, "{found} for {exact}");
        }
    }
}
