//! From a permitted message to its receivers: who wants it and may have it, their outputs and their
//! queues. In the steady state nothing here allocates.

use crate::alias::Outgoing;
use crate::gateway::{Gateway, begin_output, connection_of};
use crate::journal::{Options, Record};
use crate::queue::Outbound;
use crate::signal::{Signal, cut};
use crate::state::Connection;
use crate::turn::{CloseReason, Turn};
use model::{Delivery, DeliveryRefusal, DeliveryWait, Timestamp};
use mqtt::encode::PublishFields;
use mqtt::{ForwardProperties, Qos, Reason};
use std::time::Duration;

/// Who wants messages of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Interested {
    Session {
        session: u32,
        options: Options,
    },
    Shard {
        shard: u16,
        persistent: bool,
    },
    /// One of those who share a subscription.
    Share {
        share: u32,
    },
}

impl Interested {
    pub(crate) const fn session(session: u32, options: Options) -> Self {
        Self::Session { session, options }
    }
}

/// A subscription here whose session gets the message. A session may be there several times, its
/// own subscriptions side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Match {
    pub session: u32,
    /// A shared subscription is a delivery of its own.
    pub share: Option<u32>,
    pub options: Options,
}

/// A shard that gets the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Remote {
    pub shard: u16,
    pub persistent: bool,
    /// For its own subscriptions, not only for a member of a shared one.
    pub direct: bool,
}

impl Gateway {
    /// Fills `matches` and `remotes`: each shard once, sessions that may receive only, and one
    /// member of each shared subscription.
    pub(crate) fn find_receivers(
        &mut self,
        message: &access::Publish<'_>,
        qos: Qos,
        publisher: Option<u32>,
    ) {
        self.find_subscribers(message, publisher);
        let mut shares = std::mem::take(&mut self.share_matches);
        for share in shares.drain(..) {
            self.choose_member(share, message, qos);
        }
        self.share_matches = shares;
        if self.matches.len() > 1 {
            self.matches
                .sort_unstable_by_key(|found| (found.session, found.share));
        }
        if self.remotes.len() > 1 {
            let order = |found: &Remote| (found.shard, !found.direct, !found.persistent);
            self.remotes.sort_unstable_by_key(order);
            self.remotes.dedup_by(|other, kept| {
                kept.persistent |= other.shard == kept.shard && other.persistent;
                other.shard == kept.shard
            });
        }
    }

    /// As [`Self::find_receivers`] for the shard's own subscriptions alone, in no order.
    pub(crate) fn find_subscribers(
        &mut self,
        message: &access::Publish<'_>,
        publisher: Option<u32>,
    ) {
        let Self {
            subscriptions,
            matches,
            remotes,
            remote_shares,
            share_matches,
            sessions,
            principals,
            grants,
            counters,
            ..
        } = self;
        matches.clear();
        remotes.clear();
        remote_shares.clear();
        share_matches.clear();
        subscriptions.for_each_match(message.topic, |interested| match *interested {
            Interested::Session { session, options } => {
                if options.no_local && publisher == Some(session) {
                    return;
                }
                let subject = (sessions.get(session))
                    .and_then(|found| principals.get(found.principal))
                    .map(|known| &known.subject);
                if subject.is_some_and(|subject| grants.receive(subject, message)) {
                    matches.push(Match {
                        session,
                        share: None,
                        options,
                    });
                } else {
                    counters.deliveries_withheld += 1;
                }
            }
            Interested::Shard { shard, persistent } => remotes.push(Remote {
                shard,
                persistent,
                direct: true,
            }),
            Interested::Share { share } => share_matches.push(share),
        });
    }

    /// Sessions among `matches`, which are in order.
    pub(crate) fn matched_sessions(&self) -> usize {
        let one = |left: &Match, right: &Match| left.session == right.session;
        self.matches.chunk_by(one).count()
    }

    /// False if a persistent session could not take what it must not lose.
    pub(crate) fn deliver_to_matches(
        &mut self,
        message: &Outbound<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> bool {
        let matches = std::mem::take(&mut self.matches);
        let one = |left: &Match, right: &Match| {
            (left.session, left.share) == (right.session, right.share)
        };
        let mut all_took_it = true;
        // One copy with the greatest QoS where subscriptions overlap (MQTT 3.3.5), naming them all.
        for found in matches.chunk_by(one) {
            let Some(first) = found.first() else { continue };
            all_took_it &= self.deliver(first.session, first.share, found, message, now, turn);
            self.note_pressure(first.session, now, turn);
        }
        self.matches = matches;
        all_took_it
    }

    /// One copy to a session, by the subscriptions `found` of it.
    pub(crate) fn deliver(
        &mut self,
        session: u32,
        share: Option<u32>,
        found: &[Match],
        message: &Outbound<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> bool {
        let mut identifiers = std::mem::take(&mut self.identifiers);
        identifiers.clear();
        let mut qos = Qos::AtMostOnce;
        let mut as_published = false;
        for Match { options, .. } in found {
            qos = qos.max(options.qos);
            as_published |= options.retain_as_published;
            if let Some(identifier) = options.subscription_id {
                mqtt::encode::subscription_identifier(&mut identifiers, identifier);
            }
        }
        let copy = Outbound {
            forward: message.forward.with_subscription_ids(&identifiers),
            qos: qos.min(message.qos),
            retain: message.retain && as_published,
            share,
            ..*message
        };
        let took_it = self.deliver_copy(session, &copy, now, turn);
        self.identifiers = identifiers;
        took_it
    }

    /// A message as its receiver is to have it.
    pub(crate) fn deliver_copy(
        &mut self,
        session: u32,
        copy: &Outbound<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> bool {
        if copy.qos == Qos::AtMostOnce {
            self.deliver_at_most_once(session, copy, now, turn);
            return true;
        }
        self.deliver_acknowledged(session, copy, now, turn)
    }

    fn deliver_at_most_once(
        &mut self,
        session: u32,
        message: &Outbound<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let Self {
            sessions,
            principals,
            slots,
            spare,
            counters,
            limits,
            ..
        } = self;
        let Some(session) = sessions.get_mut(session) else {
            return;
        };
        // QoS 0 is not kept for the absent.
        let Some(id) = session.connection else {
            return;
        };
        let Some(connection) = connection_of(slots, id) else {
            return;
        };
        let is_device = principals
            .get(session.principal)
            .is_none_or(|known| known.is_device());
        let allowed = if is_device {
            limits.outgoing_bytes_high
        } else {
            limits.outgoing_bytes_max
        };
        if connection.outgoing_bytes() > allowed {
            counters.dropped_slow_consumer += 1;
            return;
        }
        if write_publish(connection, id, &fields(message, None, false), spare, turn) {
            counters.deliveries += 1;
            session.outgoing.count(message.payload.len(), now);
        } else {
            counters.dropped_too_large_for_client += 1;
        }
    }

    /// Whether a session takes no more for later. What has expired in it makes room first.
    fn is_full(&mut self, index: u32, bytes: usize, now: Timestamp, turn: &mut Turn) -> bool {
        if self.has_room(index, bytes) {
            return false;
        }
        let waits = (self.sessions.get_mut(index)).filter(|session| session.is_persistent());
        let expired = waits.map(|session| session.queue.expire(now));
        for sequence in expired.unwrap_or_default() {
            self.counters.dropped_expired += 1;
            self.record(index, &Record::Acknowledged { sequence }, turn);
        }
        !self.has_room(index, bytes)
    }

    /// Whether a session's queue takes a message of this size, as it is now.
    pub(crate) fn has_room(&self, index: u32, bytes: usize) -> bool {
        let Some(session) = self.sessions.get(index) else {
            return true;
        };
        let known = self.principals.get(session.principal);
        // What a device does not take is not worth more memory than what is on its wire.
        let bytes_max = if known.is_none_or(|known| known.is_device()) {
            self.limits.outgoing_bytes_high
        } else {
            self.limits.queue_bytes_max
        };
        !(session.queue).is_full(self.limits.queue_messages_max, bytes_max, bytes)
    }

    /// QoS 1 and 2.
    fn deliver_acknowledged(
        &mut self,
        index: u32,
        message: &Outbound<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> bool {
        let is_full = self.is_full(index, message.len(), now, turn);
        let Self {
            sessions,
            principals,
            slots,
            spare,
            counters,
            limits,
            ..
        } = self;
        let Some(session) = sessions.get_mut(index) else {
            return true;
        };
        let connection = session.connection.and_then(|id| connection_of(slots, id));
        let known = principals.get(session.principal);
        if is_full {
            counters.dropped_queue_full += 1;
            if let Some(known) = known {
                turn.signal(session.principal, limits.signals_per_turn_max, || {
                    Signal::QueueFull {
                        principal: known.facts.principal.clone(),
                        client_id: cut(&session.client_id),
                    }
                });
            }
            if !session.is_persistent()
                && let Some(id) = session.connection
            {
                // A gap in what it gets would be silent: better it knows and asks again.
                self.cuts.push((id, CloseReason::QueueFull));
                return true;
            }
            return false;
        }
        if session.is_persistent() {
            let sequence = session.queue.next_sequence();
            session.queue.push(message);
            self.record(
                index,
                &Record::Queued {
                    sequence,
                    message: *message,
                },
                turn,
            );
            self.pump(index, Some(sequence), now, turn);
            return true;
        }
        let (Some(connection), Some(id)) = (connection, session.connection) else {
            return true;
        };
        let is_next = session.queue.may_send_at_once(connection.receive_maximum);
        if !is_next || connection.outgoing_bytes() > limits.outgoing_bytes_high {
            if is_too_large(connection, &fields(message, Some(1), false)) {
                counters.dropped_too_large_for_client += 1;
                return true;
            }
            session.queue.push(message);
        } else if message.share.is_some() {
            // Kept, as another member gets it should this one leave.
            let sequence = session.queue.next_sequence();
            session.queue.push(message);
            self.pump(index, Some(sequence), now, turn);
        } else if is_too_large(connection, &fields(message, Some(1), false)) {
            counters.dropped_too_large_for_client += 1;
        } else {
            let packet_id = session.queue.push_sent(message.qos);
            let fields = fields(message, Some(packet_id), false);
            write_publish(connection, id, &fields, spare, turn);
            counters.deliveries += 1;
            session.outgoing.count(message.payload.len(), now);
        }
        true
    }

    /// Sends what waits, as far as the client's window and its reading allow. All but `fresh`,
    /// whose receiver was just asked about, are held against the grants of now.
    pub(crate) fn pump(&mut self, index: u32, fresh: Option<u64>, now: Timestamp, turn: &mut Turn) {
        while self.pump_one(index, fresh, now, turn) {}
        self.send_backlog(index, now, turn);
    }

    /// True if there may be more.
    fn pump_one(
        &mut self,
        index: u32,
        fresh: Option<u64>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> bool {
        let Self {
            sessions,
            principals,
            slots,
            spare,
            counters,
            limits,
            grants,
            orphans,
            ..
        } = self;
        let Some(session) = sessions.get_mut(index) else {
            return false;
        };
        let Some((id, connection)) =
            (session.connection).and_then(|id| Some((id, connection_of(slots, id)?)))
        else {
            return false;
        };
        if connection.outgoing_bytes() > limits.outgoing_bytes_high {
            return false;
        }
        let Some(due) = session.queue.due(connection.receive_maximum) else {
            return false;
        };
        let (sequence, packet_id, dup) = (due.sequence, due.packet_id, due.dup);
        let Some(mut message) = due.message else {
            let version = connection.version;
            let out = begin_output(connection, id, spare, turn);
            mqtt::encode::pubrel(out, version, packet_id, Reason::SUCCESS, None);
            session.queue.mark_sent();
            return true;
        };
        let subject = principals
            .get(session.principal)
            .map(|known| &known.subject);
        let may_receive = fresh == Some(sequence)
            || subject.is_some_and(|subject| {
                (grants.resolve(message.topic)).is_some_and(|place| grants.receive(subject, &place))
            });
        let mut is_expired = false;
        if let Some(at) = message.expires_at
            && fresh != Some(sequence)
        {
            is_expired = at <= now;
            message.forward = message.forward.with_expiry_left(seconds_until(at, now));
        }
        let (dropped, why) = if !may_receive {
            if message.share.is_some() && (message.qos == Qos::AtLeastOnce || !dup) {
                orphans.push_back(crate::turn::Message::of(&message));
            }
            let no_grant = Delivery::Refused(DeliveryRefusal::NoGrant);
            (&mut counters.deliveries_withheld, no_grant)
        } else if is_expired {
            (&mut counters.dropped_expired, Delivery::Expired)
        } else if !write_publish(
            connection,
            id,
            &fields(&message, Some(packet_id), dup),
            spare,
            turn,
        ) {
            let not_taken = Delivery::Waiting(DeliveryWait::NotTaken);
            (&mut counters.dropped_too_large_for_client, not_taken)
        } else {
            counters.deliveries += u64::from(!dup);
            counters.redeliveries += u64::from(dup);
            let bytes = message.payload.len();
            session.outgoing.count(bytes, now);
            session.queue.mark_sent();
            return true;
        };
        *dropped += 1;
        session.queue.skip();
        self.command_ended(index, sequence, why, turn);
        self.record(index, &Record::Acknowledged { sequence }, turn);
        true
    }
}

/// Appends a PUBLISH, by an alias if the client takes one. False, and nothing was appended, if the
/// client takes no packet of that size.
fn write_publish(
    connection: &mut Connection,
    id: u32,
    fields: &PublishFields<'_>,
    spare: &mut Vec<Vec<u8>>,
    turn: &mut Turn,
) -> bool {
    let alias = match &connection.aliases {
        Some(aliases) => aliases.outgoing(fields.topic),
        None => Outgoing::Plain,
    };
    let fields = match alias {
        Outgoing::Plain => *fields,
        Outgoing::Known(alias) => PublishFields {
            topic: "",
            topic_alias: Some(alias),
            ..*fields
        },
        Outgoing::New(alias) => PublishFields {
            topic_alias: Some(alias),
            ..*fields
        },
    };
    if is_too_large(connection, &fields) {
        return false;
    }
    let version = connection.version;
    mqtt::encode::publish(begin_output(connection, id, spare, turn), version, &fields);
    if let (Outgoing::New(_), Some(aliases)) = (alias, &mut connection.aliases) {
        aliases.sent(fields.topic);
    }
    true
}

fn is_too_large(connection: &Connection, fields: &PublishFields<'_>) -> bool {
    mqtt::encode::publish_length(connection.version, fields) > connection.packet_bytes_max
}

fn fields<'m>(message: &Outbound<'m>, packet_id: Option<u16>, dup: bool) -> PublishFields<'m> {
    PublishFields {
        dup,
        qos: match packet_id {
            None => Qos::AtMostOnce,
            Some(_) => message.qos,
        },
        retain: message.retain,
        topic: message.topic,
        packet_id,
        topic_alias: None,
        forward: message.forward,
        payload: message.payload,
    }
}

/// When a message is worth nothing any more.
pub(crate) fn expires_at(forward: &ForwardProperties<'_>, now: Timestamp) -> Option<Timestamp> {
    if forward.is_empty() {
        return None;
    }
    let seconds = forward.message_expiry_seconds()?;
    Some(now.plus(Duration::from_secs(u64::from(seconds))))
}

pub(crate) fn seconds_until(at: Timestamp, now: Timestamp) -> u32 {
    u32::try_from(at.since(now).as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}
