//! When messages are due.

use super::{Arrivals, Settings};
use crate::random::Random;
use std::time::Duration;

/// What the stream of chance for the devices' clocks is told apart by.
const CLOCKS: u64 = 1;
/// What the timers of many operating systems for small devices count in.
const TICK: Duration = Duration::from_millis(1);

pub(super) struct Schedule {
    distance: Duration,
    /// Nothing is due between two of its ticks.
    tick: Option<Duration>,
    /// By clocks of their own: when in their common period each of the devices sends, in order.
    moments: Vec<Duration>,
}

impl Schedule {
    /// `senders` take turns.
    pub(super) fn new(settings: &Settings, senders: usize) -> Self {
        let distance = Duration::from_secs_f64(1.0 / settings.rate);
        let senders = match settings.arrivals {
            Arrivals::Even | Arrivals::Ticks => 0,
            Arrivals::Own => u32::try_from(senders).unwrap_or(u32::MAX),
        };
        let mut chance = Random::new(settings.seed).part(CLOCKS);
        let mut moments: Vec<Duration> = (0..senders)
            .map(|_| (distance * senders).mul_f64(chance.unit()))
            .collect();
        moments.sort_unstable();
        let tick = (settings.arrivals == Arrivals::Ticks).then_some(TICK);
        Self {
            distance,
            tick,
            moments,
        }
    }

    /// After the first could have been due.
    pub(super) fn due(&self, number: u32) -> Duration {
        let senders = u32::try_from(self.moments.len()).unwrap_or(u32::MAX);
        let (Some(period), Some(turn)) = (number.checked_div(senders), number.checked_rem(senders))
        else {
            return self.at_a_tick(self.distance * number);
        };
        let moment = self.moments.get(turn as usize).copied();
        self.distance * (period * senders) + moment.unwrap_or_default()
    }

    fn at_a_tick(&self, due: Duration) -> Duration {
        let into_it = self
            .tick
            .and_then(|tick| due.as_nanos().checked_rem(tick.as_nanos()));
        let into_it = into_it.and_then(|nanos| u64::try_from(nanos).ok());
        due.saturating_sub(Duration::from_nanos(into_it.unwrap_or_default()))
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
            tick: None,
            moments: moments.clone(),
        };
        let due: Vec<u128> = (0..5).map(|n| own.due(n).as_millis()).collect();
        assert_eq!(due, [1, 9, 11, 19, 21]);
        moments.clear();
        let even = Schedule {
            distance,
            tick: None,
            moments,
        };
        let due: Vec<u128> = (0..4).map(|n| even.due(n).as_millis()).collect();
        assert_eq!(due, [0, 5, 10, 15]);
    }

    #[test]
    fn by_ticks_those_that_fall_between_two_come_at_once() {
        let ticking = Schedule {
            distance: Duration::from_micros(400),
            tick: Some(TICK),
            moments: Vec::new(),
        };
        let due: Vec<u128> = (0..7).map(|n| ticking.due(n).as_micros()).collect();
        assert_eq!(due, [0, 0, 0, 1000, 1000, 2000, 2000]);
    }
}
