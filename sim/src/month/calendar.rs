//! When what happens. A shorter month has the same events, closer together.

use model::Timestamp;

pub const HOUR: u64 = 3_600;

/// Hours since the month began, but for `start`.
#[derive(Debug, Clone)]
pub struct Calendar {
    start: u64,
    pub learned: u64,
    pub rollout: u64,
    pub forgotten_rollout: u64,
    pub outage: u64,
    pub cdn_change: u64,
    pub cdn_declared: u64,
    /// Another provider's, of whom nothing is declared.
    pub network_change: u64,
    pub clocks_change: u64,
    pub cold_evening: u64,
}

/// Monday, 5 October 2026, midnight UTC; in a month of thirty days daylight-saving time ends on
/// the right Sunday, the 25th.
const START: u64 = 1_791_158_400;

impl Calendar {
    pub fn new(days: u64) -> Self {
        let day = |of_thirty: u64| of_thirty * days / 30 * 24;
        Self {
            start: START,
            learned: day(7),
            rollout: day(5),
            forgotten_rollout: day(10) + 9,
            outage: day(12) + 14,
            cdn_change: day(16) + 8,
            cdn_declared: day(18) + 10,
            network_change: day(22) + 11,
            clocks_change: day(20) + 1,
            cold_evening: day(24) + 15,
        }
    }

    /// `seconds` after the month began.
    pub fn at(&self, seconds: u64) -> Timestamp {
        Timestamp::from_seconds(self.start + seconds)
    }

    /// The hour on the wall of a house in central Europe.
    pub const fn wall_hour(&self, hour: u64) -> u64 {
        let ahead = if hour >= self.clocks_change { 1 } else { 2 };
        (hour + ahead) % 24
    }

    pub fn learn_seconds(&self) -> u64 {
        self.learned * HOUR
    }
}
