//! When the thread looks. A wake of it costs more than a message does, and a fleet's messages come
//! one by one: what comes close together is served together, as long as nobody waits for it.
//!
//! Two ways. The acknowledgements of a client that does nothing else are let gather for a
//! millisecond, and longer while nothing else happens: nothing waits for them while its window is half
//! free. And while events crowd, turns
//! begin a little apart. A letter waits for neither.

use super::{Live, Shard, Slot, has_work};
use crate::shards::transport::Arrival;
use gateway::ConnectionId;
use model::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::time::{Duration, Instant};

/// How long acknowledgements gather, at least.
const GATHER: Duration = Duration::from_millis(1);
/// When the thread wakes for them alone, if it did not for something else.
const GATHER_MAX: Duration = Duration::from_millis(4);
/// Connections whose acknowledgements gather, at most: all of them are read at once.
const GATHERING_MAX: usize = 64;
/// So many reads in quick succession, of acknowledgements alone, and they gather.
const QUICK_READS: u8 = 8;

/// While events crowd, turns begin this far apart.
const TURNS_APART: Duration = Duration::from_micros(250);
/// Events in that time from which on they crowd: with fewer, resting costs what it saves.
const CROWD: usize = 4;

/// Connections whose acknowledgements gather.
#[derive(Default)]
pub(super) struct Gathering {
    ids: Vec<u32>,
    /// They have gathered for long enough, and are read when the thread is awake anyway.
    due: Timestamp,
    /// They are read.
    due_at_last: Timestamp,
}

impl Gathering {
    fn begin(&mut self, now: Timestamp) {
        self.due = now.plus(GATHER);
        self.due_at_last = now.plus(GATHER_MAX);
    }

    /// When they are read, whatever else happens.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        (!self.ids.is_empty()).then_some(self.due_at_last)
    }
}

impl Shard {
    /// After an event's read: whether what follows may gather.
    pub(super) fn let_gather(&mut self, id: u32, now: Timestamp) {
        let only_answers = self.gateway.only_answers(ConnectionId(id));
        let Some(Slot::Live(live)) = self.slots.entry(id) else {
            return;
        };
        let is_quick = now.since(live.read_at) <= GATHER;
        live.read_at = now;
        if !only_answers || !is_quick {
            live.quick_reads = 0;
            return;
        }
        live.quick_reads = live.quick_reads.saturating_add(1);
        if live.quick_reads < QUICK_READS || self.gathering.ids.len() >= GATHERING_MAX {
            return;
        }
        live.gathers = true;
        if self.gathering.ids.is_empty() {
            self.gathering.begin(now);
        }
        self.gathering.ids.push(id);
        self.poll_for_what_matters(id);
    }

    /// Reads what has gathered; where that is nothing, or something else than acknowledgements, the
    /// connection is read by its events again.
    pub(super) fn read_gathered(&mut self, now: Timestamp) {
        if self.gathering.ids.is_empty() || now < self.gathering.due {
            return;
        }
        self.gathering.begin(now);
        let mut place = 0;
        while let Some(id) = self.gathering.ids.get(place).copied() {
            if self.still_gathers(id, now) {
                place += 1;
                continue;
            }
            self.gathering.ids.swap_remove(place);
            if let Some(Slot::Live(live)) = self.slots.entry(id) {
                live.gathers = false;
                live.quick_reads = 0;
                self.poll_for_what_matters(id);
            }
        }
    }

    fn still_gathers(&mut self, id: u32, now: Timestamp) -> bool {
        match self.slots.entry(id) {
            Some(Slot::Live(Live {
                gathers: true,
                paused: false,
                ending: false,
                ..
            })) => {}
            _ => return false,
        }
        self.read(id, now) == Some(Arrival::Progress) && self.gateway.only_answers(ConnectionId(id))
    }

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
        let rest = TURNS_APART.checked_sub(self.turn_began.elapsed())?;
        (self.crowded && !rest.is_zero()).then_some(rest)
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
