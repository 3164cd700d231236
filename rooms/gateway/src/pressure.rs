//! Backpressure: a service that lags stops the reading of its publishers; a device that lags loses.
//!
//! A publish is held *before* it is consumed, so a consumer's output never grows past its mark by
//! more than one message, and its publisher's acknowledgement waits with it. Three rules keep one
//! weak client from stopping others:
//! - A device that does not read never pauses anybody: QoS 0 to it is dropped, and it is cut.
//! - A service's own publishes wait for bytes, which drain by writing, never for a queue, which
//!   drains by reading acknowledgements: or two services could wait for each other.
//! - Who stays above the mark for `stalled_consumer_timeout` is cut, and its publishers go on.

use crate::deadline::Owner;
use crate::gateway::{ConnectionId, Gateway, WillFate};
use crate::receive::Step;
use crate::signal::Signal;
use crate::state::Waiter;
use crate::turn::{CloseReason, ToShard, Turn};
use model::Timestamp;
use mqtt::Reason;
use std::time::Duration;

/// How long a device that floods is not read.
const PACED: Duration = Duration::from_millis(100);

impl Gateway {
    /// Looks how far a session's consumer lags: marks it, cuts it, or lets its publishers go on.
    pub(crate) fn note_pressure(&mut self, index: u32, now: Timestamp, turn: &mut Turn) {
        let Self {
            sessions,
            slots,
            limits,
            deadlines,
            cuts,
            ..
        } = self;
        let Some(session) = sessions.get_mut(index) else {
            return;
        };
        let Some(id) = session.connection else {
            return;
        };
        let Some(slot) = slots.get_mut(id as usize) else {
            return;
        };
        let Some(connection) = slot.connection.as_mut() else {
            return;
        };
        let bytes = connection.outgoing_bytes();
        let (messages, queued) = (session.queue.len(), session.queue.live_bytes());
        let pressure = &mut session.pressure;
        pressure.bytes_high = if pressure.bytes_high {
            bytes >= limits.outgoing_bytes_high / 2
        } else {
            bytes > limits.outgoing_bytes_high
        };
        let above = |of: fn(usize) -> usize| {
            messages > of(limits.queue_messages_max) || queued > of(limits.queue_bytes_max)
        };
        pressure.queue_high = if pressure.queue_high {
            above(|max| max / 2)
        } else {
            above(|max| max / 4 * 3)
        };
        if bytes > limits.outgoing_bytes_max && !cuts.iter().any(|(other, _)| *other == id) {
            cuts.push((id, CloseReason::Stalled));
        }
        if pressure.bytes_high || pressure.queue_high {
            if pressure.since.is_none() {
                pressure.since = Some(now);
                let at = now.plus(limits.stalled_consumer_timeout);
                deadlines.schedule(Owner::Connection(id), &mut slot.scheduled, at);
            }
        } else if pressure.since.take().is_some() {
            let waiting = std::mem::take(&mut pressure.waiting);
            self.release(waiting, now, turn);
        }
    }

    /// `Some` if the publish must wait for one of `matches` or `remotes`.
    pub(crate) fn hold_if_receivers_lag(
        &mut self,
        id: u32,
        principal: u32,
        turn: &mut Turn,
    ) -> Option<Step> {
        let by_device = self
            .principals
            .get(principal)
            .is_some_and(|known| known.is_device());
        let lagging = (self.matches.iter().map(|found| found.session))
            .find(|index| self.must_wait_for(*index, by_device));
        if let Some(index) = lagging {
            let waiter = self.pause(id, turn)?;
            if let Some(session) = self.sessions.get_mut(index) {
                session.pressure.waiting.push(waiter);
            }
            return Some(Step::Held);
        }
        let congested = (self.remotes.iter().map(|remote| remote.shard)).find(|shard| {
            self.congestion
                .get(usize::from(*shard))
                .is_some_and(|of| of.is_congested)
        });
        if let Some(shard) = congested {
            let waiter = self.pause(id, turn)?;
            if let Some(congestion) = self.congestion.get_mut(usize::from(shard)) {
                congestion.waiting.push(waiter);
            }
            return Some(Step::Held);
        }
        None
    }

    pub(crate) fn must_wait_for(&self, index: u32, by_device: bool) -> bool {
        let Some(session) = self.sessions.get(index) else {
            return false;
        };
        let pressure = &session.pressure;
        if pressure.since.is_none() || session.connection.is_none() {
            return false;
        }
        let is_service =
            (self.principals.get(session.principal)).is_some_and(|known| !known.is_device());
        is_service && (pressure.bytes_high || (by_device && pressure.queue_high))
    }

    /// A client that sends and does not read would grow its own output by our answers: it is read
    /// again when it has read.
    pub(crate) fn must_first_write(&mut self, id: u32, turn: &mut Turn) -> bool {
        let own = self
            .connection(id)
            .and_then(|connection| connection.session());
        let Some(index) = own else {
            return false;
        };
        if !self
            .sessions
            .get(index)
            .is_some_and(|session| session.pressure.bytes_high)
        {
            return false;
        }
        if let Some(waiter) = self.pause(id, turn)
            && let Some(session) = self.sessions.get_mut(index)
        {
            session.pressure.waiting.push(waiter);
        }
        true
    }

    /// Whether a device sends more packets than any has to: it is read more slowly then, so that a flood,
    /// of whatever packets, takes no more of the shard's time than its share.
    pub(crate) fn floods(&mut self, id: u32, now: Timestamp, turn: &mut Turn) -> bool {
        const SECOND_MICROS: u64 = 1_000_000;
        let Some(principal) = self.connection(id).map(|connection| connection.principal) else {
            return false;
        };
        let interval = SECOND_MICROS / u64::from(self.limits.packets_per_second.max(1));
        let Some(known) = (self.principals.get_mut(principal)).filter(|known| known.is_device())
        else {
            return false;
        };
        let now_micros = now.as_millis().saturating_mul(1000);
        let next = known
            .packets_arrival
            .max(now_micros)
            .saturating_add(interval);
        if next <= now_micros.saturating_add(SECOND_MICROS) {
            known.packets_arrival = next;
            return false;
        }
        self.signal(turn, principal, |principal| Signal::SessionLimit {
            principal,
            limit: "the number of packets a second",
        });
        if self.pause(id, turn).is_some()
            && let Some(slot) = self.slots.get_mut(id as usize)
            && let Some(connection) = slot.connection.as_mut()
        {
            let until = now.plus(PACED);
            connection.paced_until = Some(until);
            self.deadlines
                .schedule(Owner::Connection(id), &mut slot.scheduled, until);
        }
        true
    }

    /// The moment is over.
    pub(crate) fn end_pacing(&mut self, id: u32, now: Timestamp, turn: &mut Turn) {
        let ended = self.connection_mut(id).and_then(|connection| {
            let ended = connection.paced_until.take_if(|until| *until <= now);
            ended.map(|_| connection.generation)
        });
        if let Some(generation) = ended {
            self.release_one(id, generation, now, turn);
        }
    }

    /// One more reason not to read from a connection.
    pub(crate) fn pause(&mut self, id: u32, turn: &mut Turn) -> Option<Waiter> {
        let connection = self.connection_mut(id)?;
        connection.holds += 1;
        let generation = connection.generation;
        if connection.holds == 1 {
            // The caller pauses before it resumes, so what is to stay paused must not be resumed.
            turn.resume.retain(|other| other.0 != id);
            turn.pause.push(ConnectionId(id));
            self.counters.pauses += 1;
        }
        Some(Waiter::Here {
            connection: id,
            generation,
        })
    }

    /// One reason less for each.
    pub(crate) fn release(&mut self, waiting: Vec<Waiter>, now: Timestamp, turn: &mut Turn) {
        for waiter in waiting {
            match waiter {
                Waiter::Here {
                    connection: id,
                    generation,
                } => {
                    self.release_one(id, generation, now, turn);
                }
                Waiter::Shard { shard, publisher } => {
                    turn.to_shards.push((shard, ToShard::Release { publisher }));
                }
            }
        }
    }

    pub(crate) fn release_one(
        &mut self,
        id: u32,
        generation: u32,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        // A closing connection has no holds any more; another generation never had these.
        if connection.generation != generation || connection.holds == 0 {
            return;
        }
        connection.holds -= 1;
        if connection.holds == 0 {
            connection.last_packet_at = now;
            turn.pause.retain(|other| other.0 != id);
            turn.resume.push(ConnectionId(id));
        }
    }

    /// Cuts a consumer that does not read.
    pub(crate) fn cut(&mut self, id: u32, reason: CloseReason, now: Timestamp, turn: &mut Turn) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        let Some(index) = connection.session() else {
            return;
        };
        let (principal, bytes) = (connection.principal, connection.outgoing_bytes());
        let queued_messages = self
            .sessions
            .get(index)
            .map_or(0, |session| session.queue.len());
        self.counters.consumers_stalled += 1;
        self.signal_once(turn, principal, |principal| Signal::ConsumerStalled {
            principal,
            bytes,
            queued_messages,
        });
        if let Some(connection) = self.connection_mut(id) {
            // It would not read a goodbye either, and the memory is needed.
            connection.out = Vec::new();
        }
        let why = Some((Reason::QUOTA_EXCEEDED, "what it was sent was not read"));
        self.shut(id, reason, why, WillFate::Fires, now, turn);
    }
}
