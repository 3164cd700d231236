//! What is due when: one heap for the shard, no timer per connection.
//!
//! An owner remembers the earliest moment it is in the heap for. Activity only changes what is
//! truly due; when its entry comes up, the owner looks again and, if it is not yet due, goes back
//! in. So a busy connection costs one heap operation per keep-alive interval, not one per packet.

use crate::gateway::{Gateway, WillFate, connection_of};
use crate::signal::Signal;
use crate::state::Phase;
use crate::turn::{CloseReason, Turn};
use model::Timestamp;
use mqtt::Reason;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Whose deadline, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Connection(u32),
    Session(u32),
    Principal(u32),
    Retained,
    Commands,
}

#[derive(Debug, Default)]
pub(crate) struct Deadlines(BinaryHeap<Reverse<(Timestamp, Owner)>>);

impl Deadlines {
    /// `scheduled` belongs to the owner: the moment of its one entry that counts.
    pub(crate) fn schedule(
        &mut self,
        owner: Owner,
        scheduled: &mut Option<Timestamp>,
        at: Timestamp,
    ) {
        if scheduled.is_none_or(|earlier| at < earlier) {
            *scheduled = Some(at);
            self.0.push(Reverse((at, owner)));
        }
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// The next entry that is due. It counts only if its owner still has it as `scheduled`.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, Owner)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}

impl Gateway {
    /// Acts on what is due.
    pub fn tick(&mut self, now: Timestamp, turn: &mut Turn) {
        while let Some((at, owner)) = self.deadlines.pop_due(now) {
            match owner {
                Owner::Connection(id) => {
                    let slot = self.slots.get_mut(id as usize);
                    if slot.is_some_and(|slot| slot.scheduled.take_if(|was| *was == at).is_some()) {
                        self.connection_due(id, now, turn);
                    }
                }
                Owner::Session(index) => {
                    let session = self.sessions.get_mut(index);
                    if session
                        .is_some_and(|found| found.scheduled.take_if(|was| *was == at).is_some())
                    {
                        self.session_due(index, now, turn);
                    }
                }
                Owner::Retained => {
                    if (self.retained.scheduled.take_if(|was| *was == at)).is_some() {
                        self.retained_due(now);
                    }
                }
                Owner::Commands => {
                    if (self.commands.scheduled.take_if(|was| *was == at)).is_some() {
                        self.commands_due(now, turn);
                    }
                }
                Owner::Principal(index) => {
                    let known = self.principals.get_mut(index);
                    if known
                        .is_some_and(|known| known.scheduled.take_if(|was| *was == at).is_some())
                    {
                        self.forget_if_idle(index, now);
                    }
                }
            }
        }
        self.settle(now, turn);
    }

    /// When `tick` is due next; it may find nothing to do then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.next()
    }

    fn connection_due(&mut self, id: u32, now: Timestamp, turn: &mut Turn) {
        self.end_pacing(id, now, turn);
        let Some(connection) = self.connection(id) else {
            return;
        };
        let principal = connection.principal;
        let (certificate, expires_at) = (connection.certificate, connection.expires_at);
        if connection.phase != Phase::Closing && expires_at <= now {
            self.signal_once(turn, principal, |principal| Signal::CertificateExpired {
                principal,
                certificate,
            });
            let why = Some((Reason::NOT_AUTHORIZED, "the certificate expired; reenroll"));
            self.shut(
                id,
                CloseReason::CertificateExpired,
                why,
                WillFate::Fires,
                now,
                turn,
            );
            return;
        }
        let next = match connection.phase {
            Phase::Closing => return,
            Phase::Connecting => {
                let until = connection.opened_at.plus(self.limits.connect_timeout);
                if until <= now {
                    self.shut(
                        id,
                        CloseReason::ConnectTimeout,
                        None,
                        WillFate::Discarded,
                        now,
                        turn,
                    );
                    return;
                }
                until
            }
            Phase::Open { session } => {
                let keep_alive =
                    Duration::from_secs(u64::from(connection.keep_alive_seconds)) * 3 / 2;
                // Whom we do not read cannot show that it lives.
                let silent_since = if connection.holds > 0 {
                    now
                } else {
                    connection.last_packet_at
                };
                let until = silent_since.plus(keep_alive);
                if until <= now {
                    let keep_alive_seconds = connection.keep_alive_seconds;
                    self.counters.keep_alive_expired += 1;
                    self.signal_once(turn, principal, |principal| Signal::KeepAliveExpired {
                        principal,
                        keep_alive_seconds,
                    });
                    let why = Some((
                        Reason::KEEP_ALIVE_TIMEOUT,
                        "silent for 1.5 times the keep-alive",
                    ));
                    self.shut(id, CloseReason::KeepAlive, why, WillFate::Fires, now, turn);
                    return;
                }
                let stalled = (self.sessions.get(session))
                    .and_then(|session| session.pressure.since)
                    .map(|since| since.plus(self.limits.stalled_consumer_timeout));
                if stalled.is_some_and(|at| at <= now) {
                    self.cut(id, CloseReason::Stalled, now, turn);
                    return;
                }
                let paced = connection_of(&mut self.slots, id).and_then(|found| found.paced_until);
                (stalled.into_iter().chain(paced)).fold(until, Timestamp::min)
            }
        };
        if let Some(slot) = self.slots.get_mut(id as usize) {
            let at = next.min(expires_at);
            self.deadlines
                .schedule(Owner::Connection(id), &mut slot.scheduled, at);
        }
    }

    fn session_due(&mut self, index: u32, now: Timestamp, turn: &mut Turn) {
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        if session.connection.is_some() {
            return;
        }
        if let Some((_, will)) = session.delayed_will.take_if(|(at, _)| *at <= now) {
            self.decide_will(index, will, WillFate::Fires);
            self.record_will(index, turn);
        }
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        if session.ends_at.is_some_and(|at| at <= now) {
            let principal = session.principal;
            self.counters.sessions_expired += 1;
            self.end_session(index, WillFate::Fires, turn);
            self.settle(now, turn);
            self.forget_if_idle(principal, now);
            return;
        }
        let will_at = session.delayed_will.as_ref().map(|(at, _)| *at);
        if let Some(at) = will_at.into_iter().chain(session.ends_at).min() {
            self.deadlines
                .schedule(Owner::Session(index), &mut session.scheduled, at);
        }
    }
}
