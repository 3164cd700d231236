//! Persistent sessions and retained messages out of the journal and into a snapshot.

use crate::deadline::Owner;
use crate::gateway::Gateway;
use crate::journal::{self, Key, Record};
use crate::queue::Outbound;
use crate::signal::{NOBODY, Signal};
use crate::state::{Session, Subscribed, Will};
use crate::turn::Turn;
use access::Facts;
use model::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// Stands for "its client is connected" while records are replayed.
const CONNECTED: Timestamp = Timestamp::from_millis(0);

/// What `recover` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    pub sessions: u64,
    pub messages: u64,
    /// Records that could not be read and were left out.
    pub damaged: u64,
    /// Records of partitions that live on another shard: not damaged, not ours.
    pub elsewhere: u64,
}

impl Gateway {
    /// Rebuilds persistent sessions from journal records: of all partitions or only ours, each
    /// partition's snapshot first, in order. Damaged records are left out, counted and signalled.
    ///
    /// Subscriptions are not held against grants here, deliveries are: [`Self::regrant`] does it as
    /// soon as the fleet's grants are known. Called once, before anything else. Exchange the turn's
    /// `to_shards` among all shards until none is left before the first [`Self::open`] of any: a
    /// publish must find every waiting session. The turn's journal is committed before that, too.
    /// Then say of each of [`Self::retained_publishers`]
    /// what is known ([`Self::know_publisher`]).
    pub fn recover<'r>(
        &mut self,
        records: impl IntoIterator<Item = &'r [u8]>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Recovered {
        let mut found = Recovered::default();
        let mut sessions: BTreeMap<Key, u32> = BTreeMap::new();
        for (place, record) in (0_u64..).zip(records) {
            let outcome = journal::read_key(record).and_then(|key| {
                if u16::from(key.partition) % self.shards != self.shard {
                    found.elsewhere += 1;
                    return Ok(());
                }
                if let Some(next) = self.next_numbers.get_mut(usize::from(key.partition)) {
                    *next = (*next).max(key.number.saturating_add(1));
                }
                let (key, record) = journal::read(record)?;
                self.replay(key, record, &mut sessions, now, turn)
            });
            if let Err(rule) = outcome {
                found.damaged += 1;
                turn.signal(NOBODY, self.limits.signals_per_turn_max, || {
                    Signal::JournalDamaged {
                        record: place,
                        rule,
                    }
                });
            }
        }
        // Replaying asked the journal for what it already has. That a session ended by the restart
        // itself is news to it: a later one of the same client must not be taken for a second.
        turn.journal.clear();
        for index in sessions.into_values() {
            self.recovered(index, &mut found, now, turn);
        }
        turn.to_shards.clear();
        self.orphans.clear();
        self.retained_due(now);
        self.announce_recovered(turn);
        found
    }

    /// Writes the fewest records that `recover` needs, each with its partition.
    pub fn snapshot(&self, sink: &mut dyn FnMut(u8, &[u8])) {
        let mut bytes = Vec::new();
        for (index, session) in self.sessions.iter() {
            let (Some(key), Some(known)) = (
                self.journal_key(index),
                self.principals.get(session.principal),
            ) else {
                continue;
            };
            let mut write = |record: &Record<'_>| {
                bytes.clear();
                record.write(key, &mut bytes);
                sink(key.partition, &bytes);
            };
            write(&Record::SessionOpened {
                facts: known.facts.clone(),
                client_id: &session.client_id,
                expiry_seconds: session.expiry_seconds,
                first_sequence: session.queue.first_sequence(),
            });
            for Subscribed { filter, options } in &session.subscriptions {
                write(&Record::Subscribed {
                    filter: filter.clone(),
                    options: *options,
                });
            }
            for (sequence, message) in session.queue.iter() {
                write(&match message {
                    Some(message) => Record::Queued { sequence, message },
                    None => Record::Released { sequence },
                });
            }
            for packet_id in &session.received {
                write(&Record::Received {
                    packet_id: *packet_id,
                });
            }
            if let Some((due_at, will)) = self.will_of(session) {
                write(&Record::Will {
                    due_at,
                    delay_seconds: will.delay_seconds,
                    certificate: will.certificate,
                    message: will.message(),
                });
            }
            if session.ends_at.is_some() {
                write(&Record::Waits {
                    ends_at: session.ends_at,
                });
            }
        }
        for message in self.retained_at_home() {
            if let Some(record) = crate::retained::record_of(message) {
                let key = crate::retained::retained_key(message.outbound().topic);
                bytes.clear();
                record.write(key, &mut bytes);
                sink(key.partition, &bytes);
            }
        }
    }

    fn replay(
        &mut self,
        key: Key,
        record: Record<'_>,
        sessions: &mut BTreeMap<Key, u32>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Result<(), &'static str> {
        const UNOPENED: &str = "the record's session was not opened";
        if let Record::SessionOpened {
            facts,
            client_id,
            expiry_seconds,
            first_sequence,
        } = record
        {
            if crate::home::partition(&facts.principal) != key.partition {
                return Err("the record lies in another principal's partition");
            }
            return self.replay_opened(
                key,
                facts,
                client_id,
                expiry_seconds,
                first_sequence,
                sessions,
                now,
                turn,
            );
        }
        match record {
            Record::Retained {
                publisher,
                kept_at,
                message,
            } => {
                if crate::retained::retained_key(message.topic) != key {
                    return Err("the record lies in another topic's partition");
                }
                self.replay_retained(publisher, kept_at, &message, turn);
                return Ok(());
            }
            Record::Forgotten { topic } => {
                self.replay_forgotten(topic);
                return Ok(());
            }
            _ => {}
        }
        let index = *sessions.get(&key).ok_or(UNOPENED)?;
        match record {
            Record::SessionOpened { .. } | Record::Retained { .. } | Record::Forgotten { .. } => {}
            Record::Subscribed { filter, options } => {
                let session = self.sessions.get(index).ok_or(UNOPENED)?;
                let earlier = session
                    .subscriptions
                    .iter()
                    .position(|other| other.filter == filter);
                if earlier.is_none() && session.subscriptions.len() >= self.limits.subscriptions_max
                {
                    return Err("the session has too many subscriptions");
                }
                self.link(index, Subscribed { filter, options }, earlier, turn);
            }
            Record::Unsubscribed { filter } => {
                self.unsubscribe(index, &filter, turn);
            }
            Record::Queued { sequence, message } => {
                let share = (message.share).and_then(|_| self.share_by_topic(index, message.topic));
                return self.replay_queued(index, sequence, &Outbound { share, ..message });
            }
            Record::Released { sequence } => {
                if let Some(session) = self.sessions.get_mut(index) {
                    if sequence < session.queue.next_sequence() {
                        session.queue.release_sequence(sequence);
                    } else if session.queue.skip_to(sequence) {
                        session.queue.push_released();
                    }
                }
            }
            Record::Received { packet_id } => {
                if let Some(session) = self.sessions.get_mut(index)
                    && let Err(place) = session.received.binary_search(&packet_id)
                {
                    session.received.insert(place, packet_id);
                }
            }
            Record::Completed { packet_id } => {
                self.forget_received(index, packet_id);
            }
            Record::Will {
                due_at,
                delay_seconds,
                certificate,
                message,
            } => {
                let will = Will::of_message(&message, delay_seconds, certificate);
                self.replay_will(index, Some((due_at.unwrap_or(CONNECTED), Box::new(will))));
            }
            Record::WillGone => self.replay_will(index, None),
            Record::Waits { ends_at } => {
                if let Some(session) = self.sessions.get_mut(index) {
                    session.ends_at = ends_at;
                }
            }
            Record::Acknowledged { sequence } => {
                if let Some(session) = self.sessions.get_mut(index) {
                    session.queue.acknowledge_sequence(sequence);
                }
            }
            Record::SessionEnded => {
                sessions.remove(&key);
                self.end_session(index, crate::gateway::WillFate::Discarded, turn);
            }
        }
        Ok(())
    }

    fn replay_will(&mut self, index: u32, will: Option<(Timestamp, Box<Will>)>) {
        if let Some(session) = self.sessions.get_mut(index) {
            session.will_recorded = will.is_some();
            session.delayed_will = will;
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of one record, taken apart once"
    )]
    fn replay_opened(
        &mut self,
        key: Key,
        facts: Facts,
        client_id: &str,
        expiry_seconds: u32,
        first_sequence: u64,
        sessions: &mut BTreeMap<Key, u32>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Result<(), &'static str> {
        let principal = self.know(facts, turn);
        if let Some(index) = sessions.get(&key) {
            // Said again: its expiry or its facts changed.
            if let Some(session) = self.sessions.get_mut(*index) {
                session.expiry_seconds = expiry_seconds;
            }
            return Ok(());
        }
        if self.session_of(principal, client_id).is_some() {
            return Err("two sessions have one client identifier");
        }
        if client_id.len() > self.limits.client_id_bytes_max {
            return Err("the client identifier is too long");
        }
        let session = self.sessions.insert(Session {
            expiry_seconds,
            ..Session::new(principal, client_id, Some(key.number), first_sequence, now)
        });
        if let Some(known) = self.principals.get_mut(principal) {
            known.sessions.push(session);
        }
        sessions.insert(key, session);
        Ok(())
    }

    fn replay_queued(
        &mut self,
        index: u32,
        sequence: u64,
        message: &Outbound<'_>,
    ) -> Result<(), &'static str> {
        let Some(session) = self.sessions.get_mut(index) else {
            return Err("the record's session was not opened");
        };
        if sequence < session.queue.next_sequence() {
            // A snapshot and the records after it may overlap.
            return Ok(());
        }
        if session.queue.len() >= self.limits.queue_messages_max
            || session.queue.live_bytes().saturating_add(message.len())
                > self.limits.queue_bytes_max
        {
            self.counters.dropped_queue_full += 1;
            return Err("the session's queue is full");
        }
        if !session.queue.skip_to(sequence) {
            return Err("the message's number is too far ahead");
        }
        session.queue.push(message);
        Ok(())
    }

    fn recovered(&mut self, index: u32, found: &mut Recovered, now: Timestamp, turn: &mut Turn) {
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        session.queue.suspect_all();
        if session.expiry_seconds == 0 {
            // It ended with a connection that the restart cut.
            let principal = session.principal;
            self.end_session(index, crate::gateway::WillFate::Discarded, turn);
            self.forget_if_idle(principal, now);
            return;
        }
        let expiry = session.expiry_seconds;
        // Whose client was away goes on to wait; whose client was here begins to.
        let latest = now.plus(Duration::from_secs(u64::from(expiry)));
        let waited_for = session.ends_at;
        let ends_at = waited_for.map_or(latest, |at| at.min(latest));
        session.ends_at = Some(ends_at);
        let mut at = ends_at;
        if let Some((due_at, will)) = &mut session.delayed_will {
            // Its client was here: the crash is the loss from which the delay counts.
            if *due_at == CONNECTED {
                let delay = will.delay_seconds.min(expiry);
                *due_at = now.plus(Duration::from_secs(u64::from(delay)));
            }
            at = at.min(*due_at);
        }
        self.deadlines
            .schedule(Owner::Session(index), &mut session.scheduled, at);
        found.sessions += 1;
        found.messages += session.queue.iter().count() as u64;
        if waited_for.is_none() {
            self.record_waits(index, turn);
        }
    }
}
