//! Between the shards of one process: who wants what, messages, and who waits for whom.
//!
//! Every shard holds a replica of the others' interest, so a message crosses only where somebody
//! wants it. A SUBACK waits until all others have confirmed the interest: a publish acknowledged
//! after it cannot miss the subscriber. A PUBACK waits for each shard with a persistent session that
//! matches: its journal must hold the message first.

use crate::contain::{FromDevice, Said};
use crate::deliver::Interested;
use crate::gateway::ConnectionId;
use crate::gateway::Gateway;
use crate::queue::Outbound;
use crate::shares::share_of;
use crate::state::{Pending, PendingSuback, Waiter};
use crate::turn::{Message, ToShard, Token, Turn};
use model::Timestamp;
use mqtt::{Filter, Qos, Reason};
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
                if share_of(filter.as_str()).is_some() {
                    self.share_elsewhere(from, &filter, persistent, wanted);
                } else if wanted {
                    self.subscriptions.insert(&filter, value);
                } else {
                    self.subscriptions.remove(&filter, &value);
                }
                if let Some(token) = token {
                    turn.to_shards.push((from, ToShard::InterestDone { token }));
                }
            }
            ToShard::InterestDone { token } => self.on_interest_done(token, now, turn),
            ToShard::Publish { .. } => self.on_remote_publish(message, now, turn),
            ToShard::Members {
                from,
                filter,
                connected,
            } => self.members_elsewhere(from, &filter, connected),
            ToShard::Retained { message } => {
                let grants = Arc::clone(&self.grants);
                let place = grants.resolve(message.outbound().topic);
                self.keep(&message, place.as_ref(), turn);
            }
            ToShard::Forget { what } => self.forget_retained_of(&what, turn),
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

    /// Says what nobody waits for: the sessions of a journal, and what it retains.
    pub(crate) fn announce_recovered(&mut self, turn: &mut Turn) {
        for message in self.retained_at_home() {
            for shard in (0..self.shards).filter(|shard| *shard != self.shard) {
                let message = Arc::clone(message);
                turn.to_shards.push((shard, ToShard::Retained { message }));
            }
        }
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
        now: Timestamp,
        turn: &mut Turn,
    ) {
        if waiting.asked.is_empty() {
            self.send_suback(id, &waiting, now, turn);
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

    fn on_interest_done(&mut self, token: Token, now: Timestamp, turn: &mut Turn) {
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
        self.send_suback(id, &suback, now, turn);
    }

    fn send_suback(&mut self, id: u32, suback: &PendingSuback, now: Timestamp, turn: &mut Turn) {
        let wants_reasons = self
            .connection(id)
            .is_some_and(|connection| connection.wants_reasons);
        let text = suback.reason_string.as_deref().filter(|_| wants_reasons);
        self.send(id, turn, |out, version| {
            mqtt::encode::suback(out, version, suback.packet_id, &suback.reasons, text);
        });
        let session = (self.connection(id)).and_then(|connection| connection.session());
        if let Some(index) = session
            && let Some(session) = self.sessions.get_mut(index)
        {
            session.backlog.extend_from_slice(&suback.backlog);
            self.send_backlog(index, now, turn);
            self.send_commands(index, now, turn);
            if let (true, Some(device)) = (suback.wants_state, self.device_of(index)) {
                turn.reports.push(FromDevice {
                    device,
                    said: Said::WantsState,
                    payload: Vec::new(),
                    at: now,
                });
            }
        }
    }

    // ---- messages ----

    /// Hands a message to each of `remotes`, as `kept` if it is retained. Returns how many will say
    /// `Done`.
    pub(crate) fn hand_to_shards(
        &mut self,
        id: u32,
        message: &Outbound<'_>,
        kept: Option<Arc<Message>>,
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
        let waits = connection.is_some() && message.qos != Qos::AtMostOnce;
        let shared = kept.unwrap_or_else(|| Arc::new(Message::of(message)));
        let mut outstanding = 0;
        for remote in &self.remotes {
            let done = waits && remote.persistent;
            outstanding += u16::from(done);
            let shares = (self.remote_shares.iter())
                .filter(|(shard, _)| *shard == remote.shard)
                .filter_map(|(_, share)| Some(self.shares.get(share)?.asked().clone()))
                .collect();
            self.counters.to_other_shards += 1;
            turn.to_shards.push((
                remote.shard,
                ToShard::Publish {
                    from: self.shard,
                    publisher,
                    by_device,
                    done,
                    direct: remote.direct,
                    shares,
                    message: Arc::clone(&shared),
                },
            ));
        }
        outstanding
    }

    fn on_remote_publish(&mut self, publish: ToShard, now: Timestamp, turn: &mut Turn) {
        let ToShard::Publish {
            from,
            publisher,
            by_device,
            done,
            direct,
            shares,
            message,
        } = publish
        else {
            return;
        };
        self.counters.from_other_shards += 1;
        let mut refused = false;
        let grants = Arc::clone(&self.grants);
        let outbound = message.outbound();
        // Its publisher's shard permitted it; where it has no place any more, nobody gets it.
        if let Some(place) = grants.resolve(outbound.topic) {
            self.keep(&message, Some(&place), turn);
            self.find_receivers_for(direct, &shares, &place, outbound.qos);
            self.count_heard(&place, outbound.payload.len());
            refused = !self.deliver_to_matches(&outbound, now, turn);
            if !self.remotes.is_empty() {
                // The members that were chosen here have left meanwhile: others are elsewhere.
                self.hand_to_shards(u32::MAX, &outbound, None, turn);
            }
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

    /// The receivers here of a message of another shard.
    fn find_receivers_for(
        &mut self,
        direct: bool,
        shares: &[Filter],
        place: &access::Publish<'_>,
        qos: Qos,
    ) {
        self.find_subscribers(place, None);
        // The publisher's shard has seen to the other shards and has chosen for the shares.
        self.remotes.clear();
        self.share_matches.clear();
        if !direct {
            self.matches.clear();
        }
        for share in shares {
            self.choose_from_elsewhere(share, place, qos);
        }
        self.matches
            .sort_unstable_by_key(|found| (found.session, found.share));
    }

    // ---- acknowledgements ----

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
            pending.pubacks -= usize::from(!ack.is_pubrec);
            let text = ack.reason_string.as_deref();
            self.send_ack(id, ack.packet_id, ack.is_pubrec, ack.reason, text, turn);
        }
        let inflight_max = usize::from(self.limits.inflight_max.max(1));
        if let Some(pending) = self.pending(&token)
            && pending.held
            && pending.pubacks < inflight_max
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
