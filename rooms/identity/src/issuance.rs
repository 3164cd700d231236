//! How many certificates somebody may have in a time: a bucket that fills by itself.

use model::Timestamp;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Buckets that are looked through for full ones, which need not be remembered, at the earliest
/// when there are so many.
const SWEPT_AT: usize = 4096;

/// A bucket for each of a kind: as many at once as in an hour, then one after the other. Whoever
/// has taken nothing for an hour costs no memory.
#[derive(Debug, Clone)]
pub struct Buckets<K> {
    /// `None`: there is no end to it.
    one_every: Option<Duration>,
    size: u32,
    /// When the bucket will be full again.
    full_at: HashMap<K, Timestamp>,
    sweep_at: usize,
}

impl<K: Eq + Hash + Clone> Buckets<K> {
    /// `size` in each `interval`; 0: no end to it.
    #[must_use]
    pub fn new(size: u32, interval: Duration) -> Self {
        Self {
            one_every: interval.checked_div(size),
            size,
            full_at: HashMap::new(),
            sweep_at: SWEPT_AT,
        }
    }

    /// Takes one out.
    ///
    /// # Errors
    /// The bucket is empty; after so long there will be one.
    pub fn take(&mut self, whose: &K, now: Timestamp) -> Result<(), Duration> {
        let Some(one_every) = self.one_every else {
            return Ok(());
        };
        let whole = one_every.saturating_mul(self.size);
        // A clock that was set back by a year must not empty a bucket for a year.
        let full_at = self.full_at.get(whose).copied().unwrap_or(now);
        let full_at = full_at.max(now).min(now.plus(whole));
        let then = full_at.plus(one_every);
        if then > now.plus(whole) {
            return Err(then.since(now.plus(whole)));
        }
        if self.full_at.len() >= self.sweep_at {
            self.sweep(now);
        }
        self.full_at.insert(whose.clone(), then);
        Ok(())
    }

    /// Forgets those whose bucket is full.
    pub fn sweep(&mut self, now: Timestamp) {
        self.full_at.retain(|_, full_at| *full_at > now);
        self.sweep_at = self.full_at.len().saturating_mul(2).max(SWEPT_AT);
    }

    /// Buckets that are remembered: a bound of memory that keys alone do not give.
    #[must_use]
    pub fn held(&self) -> usize {
        self.full_at.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_bucket_is_full_at_first_and_fills_evenly() {
        let mut buckets = Buckets::new(4, HOUR);
        assert!((0..4).all(|_| buckets.take(&"a", NOW).is_ok()));
        let wait = buckets.take(&"a", NOW).unwrap_err();
        assert_eq!(wait, HOUR / 4);
        let moment = Duration::from_millis(1);
        assert!(buckets.take(&"a", NOW.plus(wait - moment)).is_err());
        assert!(buckets.take(&"a", NOW.plus(wait)).is_ok());
        assert!(buckets.take(&"a", NOW.plus(wait)).is_err());
        // Nobody uses up what is another's.
        assert!(buckets.take(&"b", NOW).is_ok());
        // A day without any fills it, and no further.
        let later = NOW.plus(24 * HOUR);
        assert_eq!(
            (0..9).filter(|_| buckets.take(&"a", later).is_ok()).count(),
            4
        );
        // A clock that was set back.
        assert_eq!(buckets.take(&"a", NOW).unwrap_err(), HOUR / 4);
        let mut unlimited = Buckets::new(0, HOUR);
        assert!((0..1000).all(|_| unlimited.take(&"a", NOW).is_ok()));
    }

    #[test]
    fn those_who_took_nothing_lately_are_forgotten() {
        let mut buckets = Buckets::new(2, HOUR);
        for n in 0..100_000_u64 {
            let now = NOW.plus(Duration::from_secs(n));
            assert!(buckets.take(&n, now).is_ok());
            assert!(buckets.full_at.len() <= SWEPT_AT);
        }
    }

    proptest! {
        #[test]
        fn no_hour_has_more_than_twice_the_size(steps in prop::collection::vec(0_u64..900_000, 1..200)) {
            let mut buckets = Buckets::new(5, HOUR);
            let (mut now, mut taken) = (NOW, Vec::new());
            for step in steps {
                now = now.plus(Duration::from_millis(step));
                match buckets.take(&(), now) {
                    Ok(()) => taken.push(now),
                    Err(wait) => prop_assert!(wait > Duration::ZERO && wait <= HOUR / 5),
                }
            }
            for at in &taken {
                let within = taken.iter().filter(|one| **one >= *at && one.since(*at) < HOUR);
                prop_assert!(within.count() <= 10);
            }
        }
    }
}
