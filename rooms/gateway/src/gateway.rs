//! The machine of one shard.

use crate::command::Commands;
use crate::deadline::{Deadlines, Owner};
use crate::deliver::{Interested, Match, Remote};
use crate::fan_out::FanOut;
use crate::journal::{Key, Record};
use crate::limits::Limits;
use crate::metering::{Meter, Metering};
use crate::principal::{PrincipalState, Rates};
use crate::retained::Store;
use crate::shards::{Congestion, Interest};
use crate::shares::{Orphan, Share};
use crate::signal::Signal;
use crate::slab::{Slab, place_of};
use crate::state::{Connection, Phase, Session, WillDue};
use crate::summary::Counters;
use crate::traffic::{self, Traffic};
use crate::turn::{CloseReason, Closed, Turn};
use access::{ChannelId, ClientIds, Facts, Grants, PayloadScratch};
use core::net::IpAddr;
use model::{CertificateId, Principal, Timestamp};
use mqtt::{Filter, FilterTrie, Reason, Version};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A connection of this shard: small and dense (the caller's slab index), given to [`Gateway::open`]
/// and not given again before [`Gateway::closed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// Who is behind a connection. Made only where a completed authentication is at hand.
#[derive(Debug, Clone)]
pub struct Admitted {
    pub connection: ConnectionId,
    pub facts: Facts,
    /// How it may call itself, besides what its attributes say.
    pub client_ids: ClientIds,
    /// Where it comes from, for signals; decides nothing.
    pub address: IpAddr,
    pub certificate: CertificateId,
    /// End of the certificate: the session ends with it.
    pub expires_at: Timestamp,
    /// Others hold the certificate's key too, so it speaks for this principal only until that has
    /// one of its own ([`Gateway::end_shared`]).
    pub shared: bool,
}

/// The machine: see the crate's first lines, and [`Turn`] for how its wishes are executed.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) limits: Limits,
    pub(crate) shard: u16,
    pub(crate) shards: u16,
    pub(crate) grants: Arc<Grants>,
    pub(crate) counters: Counters,
    /// By connection number.
    pub(crate) slots: Vec<Slot>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) principals: Slab<PrincipalState>,
    pub(crate) by_principal: BTreeMap<Principal, u32>,
    /// Who wants which messages: sessions here, other shards.
    pub(crate) subscriptions: FilterTrie<Interested>,
    /// What this shard's sessions want, as the other shards were told.
    pub(crate) interest: BTreeMap<Filter, Interest>,
    pub(crate) interest_asked: u64,
    pub(crate) retained: Store,
    pub(crate) commands: Commands,
    /// Shared subscriptions by number, and the numbers by what is asked for.
    pub(crate) shares: BTreeMap<u32, Share>,
    pub(crate) share_ids: BTreeMap<Filter, u32>,
    pub(crate) next_share: u32,
    pub(crate) congestion: Vec<Congestion>,
    pub(crate) deadlines: Deadlines,
    /// By partition: the number of the next session in the journal.
    pub(crate) next_numbers: Vec<u32>,
    pub(crate) next_generation: u32,
    pub(crate) assigned_client_ids: u64,
    /// When the next CONNECT is due at the rate that is let in, in microseconds.
    pub(crate) connects_arrival: u64,
    /// Output buffers of connections that have nothing to say.
    pub(crate) spare: Vec<Vec<u8>>,
    /// Scratch of one publish.
    pub(crate) matches: Vec<Match>,
    pub(crate) remotes: Vec<Remote>,
    /// (shard, share): who of another shard gets it as a member.
    pub(crate) remote_shares: Vec<(u16, u32)>,
    pub(crate) share_matches: Vec<u32>,
    pub(crate) identifiers: Vec<u8>,
    pub(crate) alias_topic: String,
    pub(crate) watched: Vec<Principal>,
    pub(crate) payload_scratch: PayloadScratch,
    /// By channel of the fleet, of those that had any.
    pub(crate) violations: BTreeMap<ChannelId, u64>,
    /// Found in the midst of a delivery, done at the end of the call.
    pub(crate) cuts: Vec<(u32, CloseReason)>,
    pub(crate) wills: Vec<WillDue>,
    pub(crate) orphans: VecDeque<Orphan>,
    pub(crate) metering: Metering,
    pub(crate) traffic: Traffic,
}

#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub scheduled: Option<Timestamp>,
    pub connection: Option<Connection>,
}

/// What becomes of a will when its connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WillFate {
    Fires,
    Discarded,
    Suppressed,
}

const SPARE_BUFFERS: usize = 256;
const SPARE_BUFFER_BYTES: usize = 64 * 1024;

impl Gateway {
    /// `shards` is 1 to 256 and `shard` below it.
    #[must_use]
    pub fn new(limits: Limits, shard: u16, shards: u16, grants: Arc<Grants>) -> Self {
        Self {
            limits,
            shard,
            shards: shards.max(1),
            grants,
            counters: Counters::default(),
            slots: Vec::new(),
            sessions: Slab::new(),
            principals: Slab::new(),
            by_principal: BTreeMap::new(),
            subscriptions: FilterTrie::new(),
            interest: BTreeMap::new(),
            interest_asked: 0,
            retained: Store::default(),
            commands: Commands::default(),
            shares: BTreeMap::new(),
            share_ids: BTreeMap::new(),
            next_share: 0,
            congestion: (0..shards).map(|_| Congestion::default()).collect(),
            deadlines: Deadlines::default(),
            next_numbers: vec![1; usize::from(crate::home::PARTITIONS)],
            next_generation: 1,
            assigned_client_ids: 0,
            connects_arrival: 0,
            spare: Vec::new(),
            matches: Vec::new(),
            remotes: Vec::new(),
            remote_shares: Vec::new(),
            share_matches: Vec::new(),
            identifiers: Vec::new(),
            alias_topic: String::new(),
            watched: Vec::new(),
            payload_scratch: PayloadScratch::default(),
            violations: BTreeMap::new(),
            cuts: Vec::new(),
            wills: Vec::new(),
            orphans: VecDeque::new(),
            metering: Metering::default(),
            traffic: Traffic::default(),
        }
    }

    /// A connection whose handshake is done; its CONNECT is awaited.
    pub fn open(&mut self, admitted: Admitted, now: Timestamp, turn: &mut Turn) {
        let Admitted {
            connection: ConnectionId(id),
            facts,
            client_ids,
            address,
            certificate,
            expires_at,
            shared,
        } = admitted;
        if self.connection(id).is_some() {
            // The caller gave a number twice; the older use cannot be told from the newer any more.
            self.closed(ConnectionId(id), Closed::ByPeer, now, turn);
        }
        let principal = self.know(facts, turn);
        let connecting = self.principals.get(principal).map_or(0, |known| {
            let phase = |id: &&u32| self.connection(**id).map(|connection| connection.phase);
            known
                .connections
                .iter()
                .filter(|id| phase(id) == Some(Phase::Connecting))
                .count()
        });
        let index = id as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        let connect_by = now.plus(self.limits.connect_timeout).min(expires_at);
        let generation = self.next_generation;
        self.next_generation = self.next_generation.wrapping_add(1);
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        slot.connection = Some(Connection {
            phase: Phase::Connecting,
            generation,
            principal,
            client_ids,
            certificate,
            shared,
            address,
            expires_at,
            version: Version::V311,
            out: Vec::new(),
            unsent: 0,
            listed: false,
            opened_at: now,
            last_packet_at: now,
            answered: false,
            keep_alive_seconds: 0,
            packet_bytes_max: usize::MAX,
            receive_maximum: 0,
            aliases: None,
            wants_reasons: false,
            asked_to_last: false,
            holds: 0,
            paced_until: None,
            will: None,
            pending: None,
        });
        self.deadlines
            .schedule(Owner::Connection(id), &mut slot.scheduled, connect_by);
        self.counters.connections_opened += 1;
        if let Some(known) = self.principals.get_mut(principal) {
            known.connections.push(id);
        }
        if connecting >= self.limits.sessions_per_principal_max {
            self.signal(turn, principal, |principal| Signal::SessionLimit {
                principal,
                limit: "the number of connections without a CONNECT",
            });
            self.shut(
                id,
                CloseReason::TooManySessions,
                None,
                WillFate::Discarded,
                now,
                turn,
            );
        }
        self.settle(now, turn);
    }

    /// Plaintext that waits; the caller drains what it encrypted, from the front. What is left here
    /// may be dropped (revocation, a consumer that is cut), so drain whole packets or all of it.
    pub fn output(&mut self, connection: ConnectionId) -> Option<&mut Vec<u8>> {
        let connection = self.connection_mut(connection.0)?;
        connection.listed = false;
        Some(&mut connection.out)
    }

    /// Where the state of a connection lies, as address and bytes, for who can have it fetched before its
    /// next packet touches it: of a large fleet it lies in no cache. Itself touches nothing of it.
    pub fn place_of(&self, connection: ConnectionId) -> (*const u8, usize) {
        place_of(self.slots.get(connection.0 as usize))
    }

    /// The same of what stands behind a connection; it looks into the connection for that.
    pub fn places_behind(&self, connection: ConnectionId) -> [(*const u8, usize); 2] {
        let Some(found) = self.connection(connection.0) else {
            return [(std::ptr::null(), 0); 2];
        };
        // Who has no session yet has no such number either.
        let session = found.session().unwrap_or(u32::MAX);
        [
            self.sessions.place(session),
            self.principals.place(found.principal),
        ]
    }

    /// Whether this client acknowledges messages of QoS 1 and nobody waits for it: more than half of
    /// its window is free. What it sends next may then be left to gather for a moment.
    #[must_use]
    pub fn only_answers(&self, connection: ConnectionId) -> bool {
        let Some(found) = self.connection(connection.0) else {
            return false;
        };
        let session = found.session().and_then(|index| self.sessions.get(index));
        found.answered
            && session
                .is_some_and(|session| session.queue.len() < usize::from(found.receive_maximum) / 2)
    }

    /// After a write: the bytes that left `output` and are not yet in the kernel.
    pub fn written(
        &mut self,
        connection: ConnectionId,
        unsent_bytes: usize,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let id = connection.0;
        let Some(slot) = self.slots.get_mut(id as usize) else {
            return;
        };
        let Some(connection) = slot.connection.as_mut() else {
            return;
        };
        connection.unsent = unsent_bytes;
        if connection.out.is_empty() && connection.out.capacity() > 0 {
            let buffer = std::mem::take(&mut connection.out);
            if self.spare.len() < SPARE_BUFFERS && buffer.capacity() <= SPARE_BUFFER_BYTES {
                self.spare.push(buffer);
            }
        }
        if let Some(session) = connection.session() {
            self.pump(session, None, now, turn);
            self.note_pressure(session, now, turn);
        }
        self.settle(now, turn);
    }

    /// The socket is gone; the id is free after this. A will fires unless the client said goodbye
    /// or the caller ends.
    pub fn closed(
        &mut self,
        connection: ConnectionId,
        closed: Closed,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let id = connection.0;
        let Some(found) = self.connection(id) else {
            return;
        };
        let (phase, principal) = (found.phase, found.principal);
        if phase != Phase::Closing {
            if closed != Closed::Shutdown {
                let had_session = phase != Phase::Connecting;
                self.signal_once(turn, principal, |principal| Signal::ConnectionLost {
                    principal,
                    had_session,
                });
            }
            let fate = match closed {
                Closed::Shutdown => WillFate::Discarded,
                Closed::AsAsked | Closed::ByPeer => WillFate::Fires,
            };
            self.detach(id, fate, now, turn);
        }
        if let Some(slot) = self.slots.get_mut(id as usize) {
            slot.connection = None;
        }
        self.counters.connections_closed += 1;
        if let Some(known) = self.principals.get_mut(principal) {
            known.connections.retain(|other| *other != id);
        }
        self.settle(now, turn);
        self.forget_if_idle(principal, now);
    }
}

// Shared by the steps of the story, which are in the other files.
impl Gateway {
    pub(crate) fn connection(&self, id: u32) -> Option<&Connection> {
        self.slots.get(id as usize)?.connection.as_ref()
    }

    pub(crate) fn connection_mut(&mut self, id: u32) -> Option<&mut Connection> {
        connection_of(&mut self.slots, id)
    }

    /// Appends to a connection's output; nothing if it is gone.
    pub(crate) fn send(
        &mut self,
        id: u32,
        turn: &mut Turn,
        write: impl FnOnce(&mut Vec<u8>, Version),
    ) {
        if let Some(connection) = connection_of(&mut self.slots, id) {
            let version = connection.version;
            write(begin_output(connection, id, &mut self.spare, turn), version);
        }
    }

    pub(crate) fn signal(
        &self,
        turn: &mut Turn,
        principal: u32,
        signal: impl FnOnce(Principal) -> Signal,
    ) {
        if let Some(known) = self.principals.get(principal) {
            turn.signal(principal, self.limits.signals_per_turn_max, || {
                signal(known.facts.principal.clone())
            });
        }
    }

    /// Of what happens once to a connection, and is told whatever else is.
    pub(crate) fn signal_once(
        &self,
        turn: &mut Turn,
        principal: u32,
        signal: impl FnOnce(Principal) -> Signal,
    ) {
        if let Some(known) = self.principals.get(principal) {
            turn.signals.push(signal(known.facts.principal.clone()));
        }
    }

    pub(crate) fn record(&mut self, session: u32, record: &Record<'_>, turn: &mut Turn) {
        if let Some(key) = self.journal_key(session) {
            turn.journal
                .append(key.partition, |out| record.write(key, out));
            self.counters.journal_records += 1;
        }
    }

    pub(crate) fn journal_key(&self, session: u32) -> Option<Key> {
        let session = self.sessions.get(session)?;
        let principal = &self.principals.get(session.principal)?.facts.principal;
        Some(Key {
            partition: crate::home::partition(principal),
            number: session.number?,
        })
    }

    /// Closes a connection from our side. `why` is said to MQTT 5 clients with an open session.
    pub(crate) fn shut(
        &mut self,
        id: u32,
        reason: CloseReason,
        why: Option<(Reason, &str)>,
        fate: WillFate,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        let principal = connection.principal;
        let had_session = connection.phase != Phase::Connecting;
        match connection.phase {
            Phase::Closing => return,
            Phase::Connecting => {}
            Phase::Open { .. } => {
                if let Some((code, text)) = why {
                    // A DISCONNECT may carry a reason string whatever the client asked (MQTT 5:
                    // 3.1.2.11.7), but no packet may be larger than it takes.
                    let text = (connection.packet_bytes_max >= 1024).then_some(text);
                    self.send(id, turn, |out, version| {
                        mqtt::encode::disconnect(out, version, code, text);
                    });
                }
            }
        }
        turn.close.push((ConnectionId(id), reason));
        self.signal_once(turn, principal, |principal| Signal::ConnectionClosed {
            principal,
            reason,
            had_session,
        });
        self.detach(id, fate, now, turn);
    }

    /// Takes the connection from its session; the connection is then closing.
    fn detach(&mut self, id: u32, fate: WillFate, now: Timestamp, turn: &mut Turn) {
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let session = connection.session();
        let will = connection.will.take();
        connection.phase = Phase::Closing;
        connection.pending = None;
        connection.holds = 0;
        let Some(index) = session else {
            return;
        };
        let waiting = (self.sessions.get_mut(index))
            .map(|session| std::mem::take(&mut session.pressure).waiting)
            .unwrap_or_default();
        self.release(waiting, now, turn);
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        session.connection = None;
        session.queue.rewind();
        let stays = session.is_persistent() && session.expiry_seconds > 0;
        let expiry = session.expiry_seconds;
        self.tell_shares_of(index, turn);
        if let Some(will) = will {
            let delay = will.delay_seconds.min(expiry);
            match fate {
                WillFate::Fires if stays && delay > 0 => {
                    let at = now.plus(Duration::from_secs(u64::from(delay)));
                    if let Some(session) = self.sessions.get_mut(index) {
                        session.delayed_will = Some((at, will));
                        self.deadlines
                            .schedule(Owner::Session(index), &mut session.scheduled, at);
                    }
                }
                _ => self.decide_will(index, will, fate),
            }
            self.record_will(index, turn);
        }
        if !stays {
            self.end_session(index, fate, turn);
            return;
        }
        let at = now.plus(Duration::from_secs(u64::from(expiry)));
        if let Some(session) = self.sessions.get_mut(index) {
            session.ends_at = Some(at);
            self.deadlines
                .schedule(Owner::Session(index), &mut session.scheduled, at);
        }
        self.record_waits(index, turn);
    }

    /// Says to the journal since when a session that lasts waits for its client, or that it came: a
    /// restart gives it no more time.
    pub(crate) fn record_waits(&mut self, index: u32, turn: &mut Turn) {
        let ends_at = (self.sessions.get(index)).and_then(|session| session.ends_at);
        self.record(index, &Record::Waits { ends_at }, turn);
    }

    /// The session and its stored messages are gone; its connection, if any, is the caller's.
    pub(crate) fn end_session(&mut self, index: u32, fate: WillFate, turn: &mut Turn) {
        self.record(index, &Record::SessionEnded, turn);
        self.orphan_shared(index);
        self.commands_of_ended_session(index, turn);
        let delayed = self
            .sessions
            .get_mut(index)
            .and_then(|session| session.delayed_will.take());
        if let Some((_, will)) = delayed {
            self.decide_will(index, will, fate);
        }
        while let Some(subscribed) = self
            .sessions
            .get_mut(index)
            .and_then(|session| session.subscriptions.pop())
        {
            self.unlink(index, &subscribed, turn);
        }
        if let Some(session) = self.sessions.remove(index)
            && let Some(known) = self.principals.get_mut(session.principal)
        {
            known.sessions.retain(|other| *other != index);
        }
    }

    /// What was put off: wills that fire, consumers that must be cut, shared messages that lost their
    /// member. Each may cause more.
    pub(crate) fn settle(&mut self, now: Timestamp, turn: &mut Turn) {
        loop {
            if let Some((id, reason)) = self.cuts.pop() {
                self.cut(id, reason, now, turn);
            } else if let Some(due) = self.wills.pop() {
                self.fire_will(&due, now, turn);
            } else if let Some(orphan) = self.orphans.pop_front() {
                self.adopt(&orphan, now, turn);
            } else {
                return;
            }
        }
    }

    /// The state of a principal, made or brought up to date.
    pub(crate) fn know(&mut self, facts: Facts, turn: &mut Turn) -> u32 {
        if let Some(index) = self.by_principal.get(&facts.principal).copied() {
            if let Some(known) = self.principals.get_mut(index)
                && known.facts != facts
            {
                known.subject = self.grants.subject(&facts);
                known.facts = facts;
                let sessions = known.sessions.clone();
                for session in sessions {
                    self.record_opened(session, turn);
                }
            }
            // Grants may have got a class for it since.
            if let Some(known) = self.principals.get_mut(index) {
                known.subject = self.grants.subject(&known.facts);
            }
            return index;
        }
        let principal = facts.principal.clone();
        let fan_out = self.fan_out_of(&principal).map(FanOut::new);
        let index = self.principals.insert(PrincipalState {
            subject: self.grants.subject(&facts),
            facts,
            sessions: Vec::new(),
            connections: Vec::new(),
            rates: Rates::default(),
            meter: Meter::default(),
            traffic: traffic::NONE,
            fan_out,
            packets_arrival: 0,
            scheduled: None,
        });
        self.by_principal.insert(principal, index);
        index
    }

    /// To how many devices it may send in a minute, if that is limited: a service's is.
    pub(crate) fn fan_out_of(&self, principal: &Principal) -> Option<u32> {
        let Principal::Service(id) = principal else {
            return None;
        };
        let declared = self.grants.fleet().service(id);
        // Of one that is not declared nothing is permitted anyway.
        Some(declared.map_or(access::FAN_OUT_PER_MINUTE, |known| known.fan_out_per_minute))
    }

    /// Says a session to the journal, again if something of it changed.
    pub(crate) fn record_opened(&mut self, index: u32, turn: &mut Turn) {
        let Some(session) = self.sessions.get(index) else {
            return;
        };
        let Some(known) = self.principals.get(session.principal) else {
            return;
        };
        let record = Record::SessionOpened {
            facts: known.facts.clone(),
            client_id: &session.client_id,
            expiry_seconds: session.expiry_seconds,
            first_sequence: session.queue.first_sequence(),
        };
        if let Some(key) = self.journal_key(index) {
            turn.journal
                .append(key.partition, |out| record.write(key, out));
            self.counters.journal_records += 1;
        }
    }

    pub(crate) fn forget_if_idle(&mut self, index: u32, now: Timestamp) {
        let Some(known) = self.principals.get_mut(index) else {
            return;
        };
        if !known.is_idle() {
            return;
        }
        let settled_at = known.settled_at(now);
        if settled_at > now {
            self.deadlines
                .schedule(Owner::Principal(index), &mut known.scheduled, settled_at);
            self.meter_soon(index);
            return;
        }
        if let Some(known) = self.principals.remove(index) {
            self.by_principal.remove(&known.facts.principal);
        }
    }
}

pub(crate) fn connection_of(slots: &mut [Slot], id: u32) -> Option<&mut Connection> {
    slots.get_mut(id as usize)?.connection.as_mut()
}

/// The output to append to. The connection is listed in the turn until its output is asked for.
pub(crate) fn begin_output<'c>(
    connection: &'c mut Connection,
    id: u32,
    spare: &mut Vec<Vec<u8>>,
    turn: &mut Turn,
) -> &'c mut Vec<u8> {
    if connection.out.capacity() == 0 {
        connection.out = spare.pop().unwrap_or_default();
    }
    if !connection.listed {
        connection.listed = true;
        turn.touched.push(ConnectionId(id));
    }
    &mut connection.out
}
