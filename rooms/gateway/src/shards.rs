//! Between the shards of one process: who wants what, messages, and who waits for whom.
//!
//! Every shard holds a replica of the others' interest, so a message crosses only where somebody
//! wants it. A SUBACK waits until all others have confirmed the interest: a publish acknowledged
//! after it cannot miss the subscriber. A PUBACK waits for each shard with a persistent session that
//! matches: its journal must hold the message first.

use crate::gateway::ConnectionId;
use crate::gateway::Gateway;
use crate::publish::Interested;
use crate::queue::Outbound;
use crate::state::{Pending, PendingAck, PendingSuback, Waiter};
use crate::turn::{Message, ToShard, Token, Turn};
use model::Timestamp;
use mqtt::{Filter, ForwardProperties, Publish, Qos, Reason};
use std::sync::Arc;

/// What the sessions here want of one filter, [live only, persistent].
#[derive(Debug, Default)]
pub(crate) struct Interest {
    sessions: [u32; 2],
    /// When it was last asked of the others; 0: never.
    asked: [u64; 2],
    confirmed: [bool; 2],
}

/// The way to another shard.
#[derive(Debug, Default)]
pub(crate) struct Congestion {
    pub is_congested: bool,
    pub waiting: Vec<Waiter>,
}

impl Gateway {
    /// A message of another shard's turn. Never refused.
    pub fn from_shard(&mut self, message: ToShard, now: Timestamp, turn: &mut Turn) {
        match message {
            ToShard::Interest {
                from,
                filter,
                persistent,
                wanted,
                token,
            } => {
                let value = Interested::Shard {
                    shard: from,
                    persistent,
                };
                if wanted {
                    self.subscriptions.insert(&filter, value);
                } else {
                    self.subscriptions.remove(&filter, &value);
                }
                if let Some(token) = token {
                    turn.to_shards.push((from, ToShard::InterestDone { token }));
                }
            }
            ToShard::InterestDone { token } => self.on_interest_done(token, turn),
            ToShard::Publish {
                from,
                publisher,
                by_device,
                done,
                message,
            } => {
                self.on_remote_publish(from, publisher, by_device, done, &message, now, turn);
            }
            ToShard::Done { token, refused } => self.on_done(token, refused, now, turn),
            ToShard::Hold { publisher } => {
                let id = publisher.connection.0;
                let is_open = (self.connection(id)).is_some_and(|connection| {
                    connection.generation == publisher.generation && connection.session().is_some()
                });
                if is_open {
                    self.pause(id, turn);
                }
            }
            ToShard::Release { publisher } => {
                self.release_one(publisher.connection.0, publisher.generation, now, turn);
            }
        }
        self.settle(now, turn);
    }

    /// The queue to `shard` is full (or no longer): publishers to it are paused (resumed).
    pub fn shard_congested(
        &mut self,
        shard: u16,
        congested: bool,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let Some(congestion) = self.congestion.get_mut(usize::from(shard)) else {
            return;
        };
        congestion.is_congested = congested;
        if !congested {
            let waiting = std::mem::take(&mut congestion.waiting);
            self.release(waiting, now, turn);
        }
    }

    // ---- interest ----

    pub(crate) fn count_interest(&mut self, filter: &Filter, persistent: bool) {
        if self.shards > 1 {
            let interest = self.interest.entry(filter.clone()).or_default();
            let [live, durable] = &mut interest.sessions;
            *(if persistent { durable } else { live }) += 1;
        }
    }

    pub(crate) fn discount_interest(&mut self, filter: &Filter, persistent: bool, turn: &mut Turn) {
        let Some(interest) = self.interest.get_mut(filter) else {
            return;
        };
        let [live, durable] = &mut interest.sessions;
        let count = if persistent { durable } else { live };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return;
        }
        let [asked_live, asked_durable] = &mut interest.asked;
        *(if persistent {
            asked_durable
        } else {
            asked_live
        }) = 0;
        let [confirmed_live, confirmed_durable] = &mut interest.confirmed;
        *(if persistent {
            confirmed_durable
        } else {
            confirmed_live
        }) = false;
        if interest.sessions == [0, 0] {
            self.interest.remove(filter);
        }
        self.tell_interest(filter, persistent, false, None, turn);
    }

    /// Notes that the SUBACK must wait for the others to hear of this filter, if they did not yet.
    pub(crate) fn ask_others(
        &mut self,
        session: u32,
        filter: &Filter,
        waiting: &mut PendingSuback,
    ) {
        let persistent = self
            .sessions
            .get(session)
            .is_some_and(|found| found.is_persistent());
        let Some(interest) = self.interest.get_mut(filter) else {
            return;
        };
        let [live, durable] = interest.confirmed;
        if if persistent { durable } else { live } {
            return;
        }
        self.interest_asked += 1;
        let [asked_live, asked_durable] = &mut interest.asked;
        *(if persistent {
            asked_durable
        } else {
            asked_live
        }) = self.interest_asked;
        waiting
            .asked
            .push((filter.clone(), persistent, self.interest_asked));
    }

    /// Says what nobody waits for: the sessions of a journal.
    pub(crate) fn announce_interest(&mut self, turn: &mut Turn) {
        let known: Vec<(Filter, [u32; 2])> = self
            .interest
            .iter()
            .map(|(filter, of)| (filter.clone(), of.sessions))
            .collect();
        for (filter, [live, durable]) in known {
            for (persistent, count) in [(false, live), (true, durable)] {
                if count > 0 {
                    self.tell_interest(&filter, persistent, true, None, turn);
                }
            }
        }
    }

    fn tell_interest(
        &mut self,
        filter: &Filter,
        persistent: bool,
        wanted: bool,
        token: Option<Token>,
        turn: &mut Turn,
    ) {
        for shard in (0..self.shards).filter(|shard| *shard != self.shard) {
            let filter = filter.clone();
            let from = self.shard;
            turn.to_shards.push((
                shard,
                ToShard::Interest {
                    from,
                    filter,
                    persistent,
                    wanted,
                    token,
                },
            ));
        }
    }

    pub(crate) fn answer_subscribe(
        &mut self,
        id: u32,
        mut waiting: PendingSuback,
        turn: &mut Turn,
    ) {
        if waiting.asked.is_empty() {
            self.send_suback(id, &waiting, turn);
            return;
        }
        let others = usize::from(self.shards.saturating_sub(1));
        let asked = waiting.asked.clone();
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let pending = connection.pending.get_or_insert_default();
        let number = pending.next_suback;
        pending.next_suback += 1;
        waiting.number = number;
        waiting.outstanding = others.saturating_mul(asked.len());
        let token = Token {
            connection: ConnectionId(id),
            generation: connection.generation,
            sequence: number,
        };
        pending.subacks.push(waiting);
        for (filter, persistent, _) in asked {
            self.tell_interest(&filter, persistent, true, Some(token), turn);
        }
    }

    fn on_interest_done(&mut self, token: Token, turn: &mut Turn) {
        let id = token.connection.0;
        let Some(pending) = self.pending(&token) else {
            return;
        };
        let Some(at) = pending
            .subacks
            .iter()
            .position(|other| other.number == token.sequence)
        else {
            return;
        };
        let Some(suback) = pending.subacks.get_mut(at) else {
            return;
        };
        suback.outstanding = suback.outstanding.saturating_sub(1);
        if suback.outstanding > 0 {
            return;
        }
        let suback = pending.subacks.remove(at);
        for (filter, persistent, asked) in &suback.asked {
            let Some(interest) = self.interest.get_mut(filter) else {
                continue;
            };
            let ([asked_live, asked_durable], [live, durable]) =
                (interest.asked, &mut interest.confirmed);
            // Not if it was taken back and asked again since.
            if *persistent && asked_durable == *asked {
                *durable = true;
            } else if !persistent && asked_live == *asked {
                *live = true;
            }
        }
        self.send_suback(id, &suback, turn);
    }

    fn send_suback(&mut self, id: u32, suback: &PendingSuback, turn: &mut Turn) {
        let wants_reasons = self
            .connection(id)
            .is_some_and(|connection| connection.wants_reasons);
        let text = suback.reason_string.as_deref().filter(|_| wants_reasons);
        self.send(id, turn, |out, version| {
            mqtt::encode::suback(out, version, suback.packet_id, &suback.reasons, text);
        });
    }

    // ---- messages ----

    /// Hands a message to each of `remotes`. Returns how many will say `Done`.
    pub(crate) fn hand_to_shards(
        &mut self,
        id: u32,
        message: &Outbound<'_>,
        at_least_once: bool,
        turn: &mut Turn,
    ) -> u16 {
        let connection = self.connection(id);
        let publisher = Token {
            connection: ConnectionId(id),
            generation: connection.map_or(0, |connection| connection.generation),
            sequence: connection.map_or(0, |connection| {
                let pending = connection.pending.as_ref();
                pending.map_or(0, |pending| pending.first_ack + pending.acks.len() as u64)
            }),
        };
        let by_device = connection
            .and_then(|connection| self.principals.get(connection.principal))
            .is_some_and(|known| known.is_device());
        let waits = connection.is_some() && at_least_once;
        let shared = Arc::new(Message::of(message, at_least_once));
        let mut outstanding = 0;
        for remote in &self.remotes {
            let done = waits && remote.persistent;
            outstanding += u16::from(done);
            let message = Arc::clone(&shared);
            let from = self.shard;
            self.counters.to_other_shards += 1;
            turn.to_shards.push((
                remote.shard,
                ToShard::Publish {
                    from,
                    publisher,
                    by_device,
                    done,
                    message,
                },
            ));
        }
        outstanding
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one message, taken apart once"
    )]
    fn on_remote_publish(
        &mut self,
        from: u16,
        publisher: Token,
        by_device: bool,
        done: bool,
        message: &Message,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        self.counters.from_other_shards += 1;
        let mut refused = false;
        let grants = Arc::clone(&self.grants);
        let outbound = message.outbound();
        // Its publisher's shard permitted it; where it has no place any more, nobody gets it.
        if let Some(place) = grants.resolve(outbound.topic) {
            self.find_receivers(&place, None);
            self.remotes.clear();
            refused = !self.deliver_to_matches(&outbound, message.at_least_once, now, turn);
            let lagging = (self.matches.iter().map(|found| found.session))
                .find(|index| self.must_wait_for(*index, by_device));
            if let Some(session) = lagging.and_then(|index| self.sessions.get_mut(index)) {
                let waiter = Waiter::Shard {
                    shard: from,
                    publisher,
                };
                session.pressure.waiting.push(waiter);
                turn.to_shards.push((from, ToShard::Hold { publisher }));
            }
        }
        if done {
            turn.to_shards.push((
                from,
                ToShard::Done {
                    token: publisher,
                    refused,
                },
            ));
        }
    }

    // ---- acknowledgements ----

    pub(crate) fn acknowledge(
        &mut self,
        id: u32,
        packet: &Publish<'_>,
        reason: Reason,
        reason_string: Option<&str>,
        turn: &mut Turn,
    ) {
        self.acknowledge_after(id, packet, reason, reason_string, 0, turn);
    }

    /// PUBACK when `outstanding` shards have said `Done` and all earlier ones are out.
    pub(crate) fn acknowledge_after(
        &mut self,
        id: u32,
        packet: &Publish<'_>,
        reason: Reason,
        reason_string: Option<&str>,
        outstanding: u16,
        turn: &mut Turn,
    ) {
        let (Qos::AtLeastOnce, Some(packet_id)) = (packet.qos, packet.packet_id) else {
            return;
        };
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let text = reason_string.filter(|_| connection.wants_reasons);
        let others_wait = connection
            .pending
            .as_ref()
            .is_some_and(|pending| !pending.acks.is_empty());
        if outstanding == 0 && !others_wait {
            self.send(id, turn, |out, version| {
                mqtt::encode::puback(out, version, packet_id, reason, text);
            });
            return;
        }
        connection
            .pending
            .get_or_insert_default()
            .acks
            .push_back(PendingAck {
                packet_id,
                reason,
                reason_string: text.map(Into::into),
                outstanding,
            });
    }

    fn on_done(&mut self, token: Token, refused: bool, now: Timestamp, turn: &mut Turn) {
        let id = token.connection.0;
        let Some(pending) = self.pending(&token) else {
            return;
        };
        let Some(ack) = (token.sequence.checked_sub(pending.first_ack))
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| pending.acks.get_mut(at))
        else {
            return;
        };
        ack.outstanding = ack.outstanding.saturating_sub(1);
        if refused {
            ack.reason = Reason::QUOTA_EXCEEDED;
        }
        while let Some(pending) = self.pending(&token)
            && let Some(ack) = pending.acks.pop_front_if(|ack| ack.outstanding == 0)
        {
            pending.first_ack += 1;
            self.send(id, turn, |out, version| {
                let text = ack.reason_string.as_deref();
                mqtt::encode::puback(out, version, ack.packet_id, ack.reason, text);
            });
        }
        let inflight_max = usize::from(self.limits.inflight_max.max(1));
        if let Some(pending) = self.pending(&token)
            && pending.held
            && pending.acks.len() < inflight_max
        {
            pending.held = false;
            self.release_one(id, token.generation, now, turn);
        }
        if let Some(session) = self
            .connection(id)
            .and_then(|connection| connection.session())
        {
            self.note_pressure(session, now, turn);
        }
    }

    /// 3.1.1 has no Receive Maximum to announce: its client is not read until shards have answered.
    pub(crate) fn hold_for_acks(&mut self, id: u32, turn: &mut Turn) {
        if let Some(pending) = self
            .connection_mut(id)
            .and_then(|found| found.pending.as_mut())
        {
            pending.held = true;
            self.pause(id, turn);
        }
    }

    fn pending(&mut self, token: &Token) -> Option<&mut Pending> {
        let connection = self.connection_mut(token.connection.0)?;
        if connection.generation != token.generation {
            return None;
        }
        connection.pending.as_deref_mut()
    }
}

impl Message {
    fn of(message: &Outbound<'_>, at_least_once: bool) -> Self {
        let mut bytes = Vec::with_capacity(message.len());
        bytes.extend_from_slice(message.topic.as_bytes());
        message.forward.append_to(&mut bytes);
        bytes.extend_from_slice(message.payload);
        Self {
            bytes: bytes.into_boxed_slice(),
            topic_bytes: message.topic.len(),
            forward_bytes: message.forward.encoded_length(),
            expires_at: message.expires_at,
            at_least_once,
        }
    }

    fn outbound(&self) -> Outbound<'_> {
        let (topic, rest) = self
            .bytes
            .split_at_checked(self.topic_bytes)
            .unwrap_or_default();
        let (forward, payload) = rest
            .split_at_checked(self.forward_bytes)
            .unwrap_or_default();
        Outbound {
            topic: std::str::from_utf8(topic).unwrap_or_default(),
            forward: ForwardProperties::from_validated(forward),
            payload,
            expires_at: self.expires_at,
        }
    }
}
