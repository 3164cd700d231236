//! Acknowledgements that are left to gather: a read costs more than what it brings, and nobody waits for
//! an acknowledgement while its client's window is half free.
//!
//! Two ways, by how fast they come. Where one follows the other within a millisecond the connection is
//! out of the poll, and read with the others of its kind. Where some come each second the kernel speaks
//! of the socket when two are there, or at once where what came is longer than one: the answer to the
//! first then leaves with the next message, where reading it alone costs a packet that says nothing else.

use super::{Live, Shard, Slot};
use crate::shards::kernel;
use crate::shards::transport::Arrival;
use gateway::ConnectionId;
use model::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// So many reads of acknowledgements alone, each soon after the one before, and they gather.
const IN_SUCCESSION: u8 = 8;

/// How far apart acknowledgements may come that are in quick succession.
const QUICK: Duration = Duration::from_millis(1);
/// How long those gather, at least.
const GATHER: Duration = Duration::from_millis(2);
/// When the thread wakes for them alone, if it did not for something else.
const GATHER_MAX: Duration = Duration::from_millis(4);
/// Connections that are out of the poll, at most: all of them are read at once.
const TOGETHER_MAX: usize = 64;

/// How far apart acknowledgements may come that are read by twos.
const STEADY: Duration = Duration::from_millis(64);
/// How long one may lie before it is looked for: its second has not come in time.
const LONE: Duration = Duration::from_millis(128);
/// Looks are taken so many milliseconds apart, for all that are due.
const LOOKS_APART_MILLIS: u64 = 16;
/// Those of which nothing came and that are read in one turn, at most.
const LOOKED_AT_MAX: usize = 256;
/// Two acknowledgements are longer, one is not: a record of TLS around one has 25 to 33 bytes
/// (RFC 8446 section 5.2, RFC 5246 section 6.2.3.3), in a frame of WebSocket 6 more.
const TWO_BYTES: i32 = 48;
/// What a socket has that nobody told otherwise.
const ANY_BYTES: i32 = 1;

/// How a connection's acknowledgements gather.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Gathers {
    /// It is read by its events.
    #[default]
    Not,
    /// It is read by its events, which come for two.
    ByTwos,
    /// It is not read by its events, but with others.
    Together,
}

/// What a connection's latest reads were.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Habit {
    pub(super) gathers: Gathers,
    read_at: Timestamp,
    /// Reads of acknowledgements alone, one steadily after the other; and those of them in quick
    /// succession.
    steady_reads: u8,
    quick_reads: u8,
    /// It is among those that are looked at, once.
    is_listed: bool,
}

impl Habit {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            read_at: now,
            ..Self::default()
        }
    }

    /// After an event's read: how what follows may gather.
    fn read(&mut self, only_answers: bool, now: Timestamp) -> Gathers {
        let pause = now.since(self.read_at);
        self.read_at = now;
        let steady = match self.gathers {
            Gathers::ByTwos => LONE,
            _ => STEADY,
        };
        if !only_answers || pause > steady {
            (self.steady_reads, self.quick_reads) = (0, 0);
            return Gathers::Not;
        }
        self.steady_reads = self.steady_reads.saturating_add(1);
        self.quick_reads = match pause <= QUICK {
            true => self.quick_reads.saturating_add(1),
            false => 0,
        };
        if self.quick_reads >= IN_SUCCESSION {
            Gathers::Together
        } else if self.steady_reads >= IN_SUCCESSION {
            Gathers::ByTwos
        } else {
            Gathers::Not
        }
    }
}

/// Connections whose acknowledgements gather.
#[derive(Default)]
pub(super) struct Gathering {
    together: Vec<u32>,
    /// They have gathered for long enough, and are read when the thread is awake anyway.
    due: Timestamp,
    /// They are read.
    due_at_last: Timestamp,
    /// Number and generation of those that are read by twos, or were lately, and when they are looked at,
    /// the first first.
    by_twos: VecDeque<(Timestamp, u32, u32)>,
}

impl Gathering {
    fn begin(&mut self, now: Timestamp) {
        self.due = now.plus(GATHER);
        self.due_at_last = now.plus(GATHER_MAX);
    }

    fn look_later(&mut self, id: u32, generation: u32, now: Timestamp) {
        let due = now.plus(LONE).as_millis() / LOOKS_APART_MILLIS + 1;
        let due = Timestamp::from_millis(due * LOOKS_APART_MILLIS);
        self.by_twos.push_back((due, id, generation));
    }

    /// When they are read or looked at, whatever else happens.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let together = (!self.together.is_empty()).then_some(self.due_at_last);
        let by_twos = self.by_twos.front().map(|first| first.0);
        together.into_iter().chain(by_twos).min()
    }
}

impl Shard {
    /// After an event's read: whether what follows may gather.
    pub(super) fn let_gather(&mut self, id: u32, now: Timestamp) {
        let only_answers = self.gateway.only_answers(ConnectionId(id));
        let Some(Slot::Live(live)) = self.slots.entry(id) else {
            return;
        };
        let wanted = match live.habit.read(only_answers, now) {
            Gathers::Together if self.gathering.together.len() >= TOGETHER_MAX => Gathers::ByTwos,
            wanted => wanted,
        };
        self.gather(id, wanted, now);
    }

    fn gather(&mut self, id: u32, wanted: Gathers, now: Timestamp) {
        let generation = self.slots.generation(id);
        let (Some(Slot::Live(live)), Some(generation)) = (self.slots.entry(id), generation) else {
            return;
        };
        let was = std::mem::replace(&mut live.habit.gathers, wanted);
        if was == wanted {
            return;
        }
        let from_bytes = match wanted {
            Gathers::ByTwos => TWO_BYTES,
            Gathers::Not | Gathers::Together => ANY_BYTES,
        };
        if wanted == Gathers::ByTwos || was == Gathers::ByTwos {
            let told = kernel::tell_from(live.transport.socket(), from_bytes);
            if told.is_err() && wanted == Gathers::ByTwos {
                live.habit.gathers = Gathers::Not;
                return;
            }
        }
        match wanted {
            Gathers::Not => {}
            Gathers::ByTwos if live.habit.is_listed => {}
            Gathers::ByTwos => {
                live.habit.is_listed = true;
                self.gathering.look_later(id, generation, now);
            }
            Gathers::Together => {
                if self.gathering.together.is_empty() {
                    self.gathering.begin(now);
                }
                self.gathering.together.push(id);
            }
        }
        self.poll_for_what_matters(id);
    }

    /// Reads what has gathered; where that is nothing, or something else than acknowledgements, the
    /// connection is read by its events again.
    pub(super) fn read_gathered(&mut self, now: Timestamp) {
        self.read_those_alone(now);
        if self.gathering.together.is_empty() || now < self.gathering.due {
            return;
        }
        self.gathering.begin(now);
        let mut place = 0;
        while let Some(id) = self.gathering.together.get(place).copied() {
            if self.still_gathers(id, now) {
                place += 1;
                continue;
            }
            self.gathering.together.swap_remove(place);
            if let Some(Slot::Live(live)) = self.slots.entry(id)
                && live.habit.gathers == Gathers::Together
            {
                live.habit = Habit {
                    is_listed: live.habit.is_listed,
                    ..Habit::new(now)
                };
                self.poll_for_what_matters(id);
            }
        }
    }

    fn still_gathers(&mut self, id: u32, now: Timestamp) -> bool {
        match self.slots.entry(id) {
            Some(Slot::Live(live))
                if live.habit.gathers == Gathers::Together && live.may_be_read() => {}
            _ => return false,
        }
        self.read(id, now) == Some(Arrival::Progress) && self.gateway.only_answers(ConnectionId(id))
    }

    /// Where nothing came for a while one may lie alone, or something as short: it is read, and the
    /// connection is read by its events again.
    fn read_those_alone(&mut self, now: Timestamp) {
        for _ in 0..LOOKED_AT_MAX {
            let first = self.gathering.by_twos.front().copied();
            let Some((_, id, generation)) = first.filter(|(due, _, _)| *due <= now) else {
                return;
            };
            self.gathering.by_twos.pop_front();
            if self.slots.generation(id) != Some(generation) {
                continue;
            }
            let Some(Slot::Live(live)) = self.slots.entry(id) else {
                continue;
            };
            live.habit.is_listed = false;
            if live.habit.gathers != Gathers::ByTwos {
                continue;
            }
            if now.since(live.habit.read_at) < LONE {
                live.habit.is_listed = true;
                self.gathering.look_later(id, generation, now);
                continue;
            }
            let may_be_read = live.may_be_read();
            live.habit = Habit {
                gathers: Gathers::ByTwos,
                ..Habit::new(now)
            };
            self.gather(id, Gathers::Not, now);
            if may_be_read {
                self.read(id, now);
            }
        }
    }
}

impl Live {
    fn may_be_read(&self) -> bool {
        !self.paused && !self.ending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client's acknowledgements may do after `reads` of them, so many milliseconds apart.
    fn after(habit: &mut Habit, at: &mut Timestamp, reads: u8, apart_millis: u64) -> Gathers {
        for _ in 0..reads {
            *at = at.plus(Duration::from_millis(apart_millis));
            habit.gathers = habit.read(true, *at);
        }
        habit.gathers
    }

    #[test]
    fn how_acknowledgements_gather_is_by_how_fast_they_come() {
        let mut at = Timestamp::from_millis(1_000_000);
        let mut habit = Habit::new(at);
        let mut reads = |reads, apart| after(&mut habit, &mut at, reads, apart);
        assert_eq!(reads(7, 50), Gathers::Not, "not often enough yet");
        assert_eq!(reads(1, 50), Gathers::ByTwos);
        assert_eq!(
            reads(20, 100),
            Gathers::ByTwos,
            "as far apart as two of them"
        );
        assert_eq!(reads(1, 200), Gathers::Not, "they have become rare");
        assert_eq!(reads(20, 100), Gathers::Not, "and stay so");
        assert_eq!(reads(7, 1), Gathers::Not);
        assert_eq!(reads(1, 0), Gathers::Together);
        let mut fast = Habit::new(at);
        assert_eq!(after(&mut fast, &mut at, 8, 20), Gathers::ByTwos);
        assert_eq!(after(&mut fast, &mut at, 8, 1), Gathers::Together);
    }

    #[test]
    fn who_says_anything_else_is_heard_at_once() {
        let mut at = Timestamp::from_millis(1_000_000);
        for (apart, gathers) in [(30, Gathers::ByTwos), (1, Gathers::Together)] {
            let mut habit = Habit::new(at);
            assert_eq!(after(&mut habit, &mut at, 8, apart), gathers);
            assert_eq!(habit.read(false, at), Gathers::Not);
            habit.gathers = Gathers::Not;
            assert_eq!(after(&mut habit, &mut at, 7, apart), Gathers::Not);
            assert_eq!(after(&mut habit, &mut at, 1, apart), gathers);
        }
    }
}
