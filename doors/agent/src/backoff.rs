//! How long to wait before the next attempt: exponential, capped, with full jitter, so that a
//! fleet that lost its plane at one instant does not come back at one instant.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct Backoff {
    max: Duration,
    attempts: u32,
}

impl Backoff {
    pub const fn new(max: Duration) -> Self {
        Self { max, attempts: 0 }
    }

    /// The pause after one more failure: uniform between nothing and a bound that doubles from
    /// 1 s up to the cap. `random` is 32 uniform bits.
    pub fn pause(&mut self, random: u32) -> Duration {
        let bound = FIRST
            .saturating_mul(1u32.checked_shl(self.attempts).unwrap_or(u32::MAX))
            .min(self.max);
        self.attempts = self.attempts.saturating_add(1).min(31);
        bound.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// It went well: the next failure is a first one.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_doubles_to_the_cap_and_begins_again() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        let longest: Vec<u64> = (0..6).map(|_| backoff.pause(u32::MAX).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 10, 10]);
        backoff.reset();
        assert_eq!(backoff.pause(u32::MAX), FIRST);
        assert_eq!(backoff.pause(0), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn no_number_of_failures_exceeds_the_cap(failures in 0u32..200, random: u32, max in 1u64..90_000) {
            let max = Duration::from_secs(max);
            let mut backoff = Backoff::new(max);
            for _ in 0..failures {
                prop_assert!(backoff.pause(random) <= max);
            }
        }
    }
}
