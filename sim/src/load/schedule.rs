//! When messages are due.

use super::{Arrivals, Settings};
use crate::random::Random;
use std::time::Duration;

/// What the stream of chance for the devices' clocks is told apart by.
const CLOCKS: u64 = 1;

pub(super) struct Schedule {
    distance: Duration,
    /// By clocks of their own: when in their common period each of the devices sends, in order.
    moments: Vec<Duration>,
}

impl Schedule {
    /// `senders` take turns.
    pub(super) fn new(settings: &Settings, senders: usize) -> Self {
        let distance = Duration::from_secs_f64(1.0 / settings.rate);
        let senders = match settings.arrivals {
            Arrivals::Even => 0,
            Arrivals::Own => u32::try_from(senders).unwrap_or(u32::MAX),
        };
        let mut chance = Random::new(settings.seed).part(CLOCKS);
        let mut moments: Vec<Duration> = (0..senders)
            .map(|_| (distance * senders).mul_f64(chance.unit()))
            .collect();
        moments.sort_unstable();
        Self { distance, moments }
    }

    /// After the first could have been due.
    pub(super) fn due(&self, number: u32) -> Duration {
        let senders = u32::try_from(self.moments.len()).unwrap_or(u32::MAX);
        let (Some(period), Some(turn)) = (number.checked_div(senders), number.checked_rem(senders))
        else {
            return self.distance * number;
        };
        let moment = self.moments.get(turn as usize).copied();
        self.distance * (period * senders) + moment.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_clocks_of_their_own_each_device_keeps_its_period() {
        let mut moments = vec![Duration::from_millis(1), Duration::from_millis(9)];
        let distance = Duration::from_millis(5);
        let own = Schedule {
            distance,
            moments: moments.clone(),
        };
        let due: Vec<u128> = (0..5).map(|n| own.due(n).as_millis()).collect();
        assert_eq!(due, [1, 9, 11, 19, 21]);
        moments.clear();
        let even = Schedule { distance, moments };
        let due: Vec<u128> = (0..4).map(|n| even.due(n).as_millis()).collect();
        assert_eq!(due, [0, 5, 10, 15]);
    }
}
