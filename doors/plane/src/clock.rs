//! The one place that reads the clock; rooms are told the time.

use model::Timestamp;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time of day, for certificates and entries. Before 1970 reads as 1970.
#[must_use]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// What the time of day was or will be at a moment, exactly: since 1970.
#[must_use]
pub fn since_1970(at: Instant) -> Duration {
    let (time_of_day, now) = (SystemTime::now(), Instant::now());
    let since_epoch = time_of_day.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since_epoch + at.saturating_duration_since(now))
        .saturating_sub(now.saturating_duration_since(at))
}

/// A clock for sessions: begins at the time of day and never jumps, so that a corrected clock
/// neither ends nor prolongs a keep-alive.
#[derive(Debug, Clone, Copy)]
pub struct SteadyClock {
    origin: Timestamp,
    started: Instant,
}

impl SteadyClock {
    #[must_use]
    pub fn start() -> Self {
        Self {
            origin: now(),
            started: Instant::now(),
        }
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// What it said or will say at a moment since it started.
    #[must_use]
    pub fn at(&self, moment: Instant) -> Timestamp {
        self.origin
            .plus(moment.saturating_duration_since(self.started))
    }
}
