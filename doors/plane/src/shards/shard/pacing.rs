//! When the thread looks. A wake of it costs more than a message does, and a fleet's messages come
//! one by one: while events crowd, turns begin a little apart. A letter waits for nothing.

use super::{Shard, has_work};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::time::{Duration, Instant};

/// While events crowd, turns begin this far apart.
const TURNS_APART: Duration = Duration::from_micros(250);
/// Events in that time from which on they crowd: with fewer, resting costs what it saves.
const CROWD: usize = 4;

impl Shard {
    /// Lets events gather, but no letter wait.
    pub(super) fn rest(&mut self) {
        if has_work(&self.turn) || self.leaving.is_under_way() {
            return;
        }
        let own = self.mailboxes.get(usize::from(self.index));
        let (Some(rest), Some(own)) = (self.pace.rest(), own) else {
            return;
        };
        let mut wake = [PollFd::new(own.wake(), PollFlags::IN)];
        let rest = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(rest.subsec_nanos()),
        };
        // Cut short or not: what is there is looked at next.
        let _ = poll(&mut wake, Some(&rest));
    }
}

/// How close events come.
pub(super) struct Pace {
    turn_began: Instant,
    /// Events since then are counted, until [`TURNS_APART`] have passed.
    since: Instant,
    events: usize,
    crowded: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            turn_began: now,
            since: now,
            events: 0,
            crowded: false,
        }
    }

    /// A turn begins with so many events.
    pub(super) fn begin(&mut self, now: Instant, events: usize) {
        self.turn_began = now;
        self.events += events;
        let passed = now.saturating_duration_since(self.since);
        if passed < TURNS_APART {
            return;
        }
        let spans = passed.as_micros().div_ceil(TURNS_APART.as_micros());
        self.crowded = self.events as u128 >= spans * CROWD as u128;
        self.since = now;
        self.events = 0;
    }

    /// What is left until the next turn should begin.
    fn rest(&self) -> Option<Duration> {
        if !self.crowded {
            return None;
        }
        let rest = TURNS_APART.checked_sub(self.turn_began.elapsed())?;
        (!rest.is_zero()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_held_apart_only_while_events_crowd() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut at = start;
        let mut turns = |pace: &mut Pace, events: usize, apart: u64| {
            for _ in 0..20 {
                at += Duration::from_micros(apart);
                pace.begin(at, events);
            }
            pace.crowded
        };
        assert!(!turns(&mut pace, 1, 200), "5,000 a second");
        assert!(turns(&mut pace, 1, 33), "30,000 a second");
        assert!(
            turns(&mut pace, 8, 270),
            "the same, when turns are held apart"
        );
        assert!(!turns(&mut pace, 1, 270), "it has become quiet");
        assert!(!turns(&mut pace, 5, 100_000), "a burst now and then");
    }
}
