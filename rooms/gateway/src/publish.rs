//! A message's way through: grant → limits → who wants it and may have it → their outputs and
//! queues → acknowledgement. In the steady state nothing here allocates.

use crate::contain::{FromDevice, Said};
use crate::gateway::{Gateway, begin_output, connection_of};
use crate::journal::{Options, Record};
use crate::limits::Limits;
use crate::queue::Outbound;
use crate::receive::Step;
use crate::signal::{Signal, cut};
use crate::state::WillDue;
use crate::subscribe::deny_text;
use crate::turn::{CloseReason, Turn};
use access::Denied;
use model::{DenyReason, Principal, Timestamp};
use mqtt::encode::PublishFields;
use mqtt::{ForwardProperties, Publish, Qos, Reason, Version};
use std::time::Duration;

/// Who wants messages of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Interested {
    Session { session: u32, options: Options },
    Shard { shard: u16, persistent: bool },
}

impl Interested {
    pub(crate) const fn session(session: u32, options: Options) -> Self {
        Self::Session { session, options }
    }
}

/// A session here that gets the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Match {
    pub session: u32,
    pub at_least_once: bool,
}

/// A shard that gets the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Remote {
    pub shard: u16,
    pub persistent: bool,
}

impl Gateway {
    pub(crate) fn on_publish(
        &mut self,
        id: u32,
        session: u32,
        packet: &Publish<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Step {
        let Some(connection) = self.connection(id) else {
            return Step::Closing;
        };
        let (principal, version) = (connection.principal, connection.version);
        if packet.topic_alias.is_some() {
            return self.refuse_packet(
                id,
                Reason::TOPIC_ALIAS_INVALID,
                "a topic alias, of which none was offered",
                now,
                turn,
            );
        }
        if packet.qos == Qos::ExactlyOnce {
            return self.refuse_packet(
                id,
                Reason::QOS_NOT_SUPPORTED,
                "QoS 2; at most 1 is available",
                now,
                turn,
            );
        }
        let waiting = connection
            .pending
            .as_ref()
            .map_or(0, |pending| pending.acks.len());
        if packet.qos == Qos::AtLeastOnce && waiting >= usize::from(self.limits.inflight_max.max(1))
        {
            if version == Version::V5 {
                return self.refuse_packet(
                    id,
                    Reason::RECEIVE_MAXIMUM_EXCEEDED,
                    "more unacknowledged messages than the announced Receive Maximum",
                    now,
                    turn,
                );
            }
            self.hold_for_acks(id, turn);
            return Step::Held;
        }
        if packet.retain {
            if version == Version::V5 {
                return self.refuse_packet(
                    id,
                    Reason::RETAIN_NOT_SUPPORTED,
                    "a retained message",
                    now,
                    turn,
                );
            }
            self.counters.dropped_retain += 1;
            self.signal(turn, principal, |principal| Signal::RetainRefused {
                principal,
                topic: cut(packet.topic),
            });
            self.acknowledge(id, packet, Reason::SUCCESS, None, turn);
            return Step::Consumed(0);
        }
        let permitted = match self.permit(principal, packet, now) {
            Ok(permitted) => permitted,
            Err(denied) => {
                self.refuse_publish(id, principal, packet, &denied, turn);
                return Step::Consumed(0);
            }
        };
        if permitted.is_report() || permitted.is_request() {
            self.take_word(id, principal, &permitted, packet, now, turn);
            self.acknowledge(id, packet, Reason::SUCCESS, None, turn);
            return Step::Consumed(0);
        }
        if let Some(topic) = self.foreign_response_topic(principal, &packet.forward) {
            self.counters.publishes_denied += 1;
            self.meter(principal, |meter| meter.denied += 1);
            self.signal(turn, principal, |principal| Signal::ResponseTopicDenied {
                principal,
                topic: cut(topic),
            });
            let text = "the response topic is not one that this client may receive";
            self.acknowledge(id, packet, Reason::NOT_AUTHORIZED, Some(text), turn);
            return Step::Consumed(0);
        }
        self.find_receivers(&permitted, Some(session));
        if let Some(step) = self.hold_if_receivers_lag(id, principal, turn) {
            return step;
        }
        self.take_rate(principal, &permitted, now);
        self.count_publish(principal, packet);
        let message = Outbound {
            topic: packet.topic,
            forward: packet.forward,
            payload: packet.payload,
            expires_at: expires_at(&packet.forward, now),
        };
        let at_least_once = packet.qos == Qos::AtLeastOnce;
        let all_took_it = self.deliver_to_matches(&message, at_least_once, now, turn);
        let outstanding = if self.remotes.is_empty() {
            0
        } else {
            self.hand_to_shards(id, &message, at_least_once, turn)
        };
        if at_least_once {
            let reason = if all_took_it {
                Reason::SUCCESS
            } else {
                Reason::QUOTA_EXCEEDED
            };
            self.acknowledge_after(id, packet, reason, None, outstanding, turn);
        }
        Step::Consumed(0)
    }

    /// Grant, then size, then rate (looked at here, taken when the message goes out).
    fn permit<'t>(
        &mut self,
        principal: u32,
        packet: &Publish<'t>,
        now: Timestamp,
    ) -> Result<access::Permitted<access::Publish<'t>>, Denied> {
        if self.is_topic_too_long(packet.topic) {
            return Err(Denied::new(DenyReason::UnlistedTopic));
        }
        let known =
            (self.principals.get_mut(principal)).ok_or(Denied::new(DenyReason::UnknownClass))?;
        let permitted = self.grants.publish(&known.subject, packet.topic)?;
        if packet.payload.len() > permitted.payload_bytes_max as usize {
            return Err(Denied::new(DenyReason::PayloadTooLarge));
        }
        if let Some(rate) = rate_of(&permitted, &self.limits)
            && !known
                .rates
                .allows(permitted.channel_index(), rate, now, &self.limits, false)
        {
            return Err(Denied::new(DenyReason::RateExceeded));
        }
        if let (Some(fan_out), Some(device)) = (&mut known.fan_out, permitted.owner)
            && !fan_out.admits(device, now, false)
        {
            return Err(Denied::new(DenyReason::FanOutExceeded));
        }
        Ok(permitted)
    }

    fn take_rate(&mut self, principal: u32, permitted: &access::Publish<'_>, now: Timestamp) {
        let Some(known) = self.principals.get_mut(principal) else {
            return;
        };
        if let Some(rate) = rate_of(permitted, &self.limits) {
            known
                .rates
                .allows(permitted.channel_index(), rate, now, &self.limits, true);
        }
        if let (Some(fan_out), Some(device)) = (&mut known.fan_out, permitted.owner) {
            fan_out.admits(device, now, true);
        }
    }

    /// A device's word to the plane goes to nobody else.
    fn take_word(
        &mut self,
        id: u32,
        principal: u32,
        permitted: &access::Publish<'_>,
        packet: &Publish<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        self.take_rate(principal, permitted, now);
        self.count_publish(principal, packet);
        let said = if permitted.is_report() {
            self.counters.reports += 1;
            Said::Report
        } else {
            let Some(connection) = self.connection_mut(id) else {
                return;
            };
            Said::Request {
                certificate: connection.certificate,
            }
        };
        let known = self.principals.get(principal);
        if let Some(Principal::Device(device)) = known.map(|known| &known.facts.principal) {
            turn.reports.push(FromDevice {
                device: device.clone(),
                said,
                payload: packet.payload.to_vec(),
                at: now,
            });
        }
    }

    fn count_publish(&mut self, principal: u32, packet: &Publish<'_>) {
        let bytes = packet.payload.len() as u64;
        self.counters.publishes_received += 1;
        self.counters.payload_bytes_received += bytes;
        self.meter(principal, |meter| {
            meter.messages += 1;
            meter.bytes += bytes;
        });
    }

    /// A response topic that its requester may not receive itself: else a service that answers
    /// there would be made to write where the requester cannot.
    pub(crate) fn foreign_response_topic<'m>(
        &self,
        principal: u32,
        forward: &ForwardProperties<'m>,
    ) -> Option<&'m str> {
        if forward.is_empty() {
            return None;
        }
        let topic = forward.response_topic()?;
        let own = self.principals.get(principal).is_some_and(|known| {
            (self.grants.resolve(topic))
                .is_some_and(|place| self.grants.receive(&known.subject.uncontained(), &place))
        });
        (!own).then_some(topic)
    }

    fn refuse_publish(
        &mut self,
        id: u32,
        principal: u32,
        packet: &Publish<'_>,
        denied: &Denied,
        turn: &mut Turn,
    ) {
        let code = match denied.reason {
            // A PUBACK knows no "packet too large" (MQTT 5: 3.4.2.1): a limit of ours is a quota.
            DenyReason::RateExceeded | DenyReason::PayloadTooLarge | DenyReason::FanOutExceeded => {
                Reason::QUOTA_EXCEEDED
            }
            _ => Reason::NOT_AUTHORIZED,
        };
        self.deny_publish(principal, packet.topic, denied, false, turn);
        let wants_reason = (self.connection(id)).is_some_and(|connection| {
            connection.version == Version::V5 && connection.wants_reasons
        });
        let text = (wants_reason && packet.qos != Qos::AtMostOnce)
            .then(|| deny_text(&self.grants.verdict(denied)));
        self.acknowledge(id, packet, code, text.as_deref(), turn);
    }

    /// Counts and signals.
    pub(crate) fn deny_publish(
        &mut self,
        principal: u32,
        topic: &str,
        denied: &Denied,
        will: bool,
        turn: &mut Turn,
    ) {
        self.counters.publishes_denied += 1;
        self.meter(principal, |meter| meter.denied += 1);
        match denied.reason {
            DenyReason::RateExceeded => self.counters.rate_exceeded += 1,
            DenyReason::PayloadTooLarge => self.counters.payload_too_large += 1,
            _ => {}
        }
        self.signal(turn, principal, |principal| Signal::PublishDenied {
            principal,
            topic: cut(topic),
            verdict: self.grants.verdict(denied),
            will,
        });
    }

    /// Fills `matches` and `remotes`: each session and shard once, sessions that may receive only.
    pub(crate) fn find_receivers(&mut self, message: &access::Publish<'_>, publisher: Option<u32>) {
        let Self {
            subscriptions,
            matches,
            remotes,
            sessions,
            principals,
            grants,
            counters,
            ..
        } = self;
        matches.clear();
        remotes.clear();
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
                        at_least_once: options.at_least_once,
                    });
                } else {
                    counters.deliveries_withheld += 1;
                }
            }
            Interested::Shard { shard, persistent } => remotes.push(Remote { shard, persistent }),
        });
        if matches.len() > 1 {
            // One copy with the greatest QoS where subscriptions overlap (MQTT 3.3.5).
            matches.sort_unstable_by_key(|found| (found.session, !found.at_least_once));
            matches.dedup_by_key(|found| found.session);
        }
        if remotes.len() > 1 {
            remotes.sort_unstable_by_key(|found| (found.shard, !found.persistent));
            remotes.dedup_by_key(|found| found.shard);
        }
    }

    /// False if a persistent session could not take what it must not lose.
    pub(crate) fn deliver_to_matches(
        &mut self,
        message: &Outbound<'_>,
        at_least_once: bool,
        now: Timestamp,
        turn: &mut Turn,
    ) -> bool {
        let matches = std::mem::take(&mut self.matches);
        let mut all_took_it = true;
        for found in &matches {
            if at_least_once && found.at_least_once {
                all_took_it &= self.deliver_at_least_once(found.session, message, now, turn);
            } else {
                self.deliver_at_most_once(found.session, message, turn);
            }
            self.note_pressure(found.session, now, turn);
        }
        self.matches = matches;
        all_took_it
    }

    fn deliver_at_most_once(&mut self, session: u32, message: &Outbound<'_>, turn: &mut Turn) {
        let Self {
            sessions,
            principals,
            slots,
            spare,
            counters,
            limits,
            ..
        } = self;
        let Some(session) = sessions.get(session) else {
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
        let fields = fields(message, Qos::AtMostOnce, None, false);
        let version = connection.version;
        if mqtt::encode::publish_length(version, &fields) > connection.packet_bytes_max {
            counters.dropped_too_large_for_client += 1;
            return;
        }
        mqtt::encode::publish(begin_output(connection, id, spare, turn), version, &fields);
        counters.deliveries += 1;
    }

    fn deliver_at_least_once(
        &mut self,
        index: u32,
        message: &Outbound<'_>,
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
            ..
        } = self;
        let Some(session) = sessions.get_mut(index) else {
            return true;
        };
        let connection = session.connection.and_then(|id| connection_of(slots, id));
        let known = principals.get(session.principal);
        let is_device = known.is_none_or(|known| known.is_device());
        // What a device does not take is not worth more memory than what is on its wire.
        let bytes_max = if is_device {
            limits.outgoing_bytes_high
        } else {
            limits.queue_bytes_max
        };
        if session.queue.len() >= limits.queue_messages_max
            || session.queue.live_bytes().saturating_add(message.len()) > bytes_max
        {
            counters.dropped_queue_full += 1;
            if let Some(known) = known {
                let principal = &known.facts.principal;
                turn.signal(limits.signals_per_turn_max, || Signal::QueueFull {
                    principal: principal.clone(),
                    client_id: cut(&session.client_id),
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
        let version = connection.version;
        let fits = |packet_id| {
            let fields = fields(message, Qos::AtLeastOnce, Some(packet_id), false);
            mqtt::encode::publish_length(version, &fields) <= connection.packet_bytes_max
        };
        if !fits(1) {
            counters.dropped_too_large_for_client += 1;
            return true;
        }
        if session.queue.may_send_at_once(connection.receive_maximum)
            && connection.outgoing_bytes() <= limits.outgoing_bytes_high
        {
            let packet_id = session.queue.push_sent();
            let fields = fields(message, Qos::AtLeastOnce, Some(packet_id), false);
            mqtt::encode::publish(begin_output(connection, id, spare, turn), version, &fields);
            counters.deliveries += 1;
        } else {
            session.queue.push(message);
        }
        true
    }

    /// Sends what waits, as far as the client's window and its reading allow. All but `fresh`,
    /// whose receiver was just asked about, are held against the grants of now.
    pub(crate) fn pump(&mut self, index: u32, fresh: Option<u64>, now: Timestamp, turn: &mut Turn) {
        loop {
            let Self {
                sessions,
                principals,
                slots,
                spare,
                counters,
                limits,
                grants,
                ..
            } = self;
            let Some(session) = sessions.get_mut(index) else {
                return;
            };
            let Some(id) = session.connection else {
                return;
            };
            let Some(connection) = connection_of(slots, id) else {
                return;
            };
            if connection.outgoing_bytes() > limits.outgoing_bytes_high {
                return;
            }
            let Some(due) = session.queue.due(connection.receive_maximum) else {
                return;
            };
            let sequence = due.sequence;
            let subject = principals
                .get(session.principal)
                .map(|known| &known.subject);
            let may_receive = fresh == Some(sequence)
                || subject.is_some_and(|subject| {
                    (grants.resolve(due.message.topic))
                        .is_some_and(|place| grants.receive(subject, &place))
                });
            let mut message = due.message;
            let mut is_expired = false;
            if let Some(at) = message.expires_at
                && fresh != Some(sequence)
            {
                is_expired = at <= now;
                let left = at.since(now).as_millis().div_ceil(1000);
                message.forward = message
                    .forward
                    .with_expiry_left(u32::try_from(left).unwrap_or(u32::MAX));
            }
            let version = connection.version;
            let fields = fields(&message, Qos::AtLeastOnce, Some(due.packet_id), due.dup);
            let dropped = if !may_receive {
                &mut counters.deliveries_withheld
            } else if is_expired {
                &mut counters.dropped_expired
            } else if mqtt::encode::publish_length(version, &fields) > connection.packet_bytes_max {
                &mut counters.dropped_too_large_for_client
            } else {
                mqtt::encode::publish(begin_output(connection, id, spare, turn), version, &fields);
                counters.deliveries += u64::from(!due.dup);
                counters.redeliveries += u64::from(due.dup);
                session.queue.mark_sent();
                continue;
            };
            *dropped += 1;
            session.queue.skip();
            self.record(index, &Record::Acknowledged { sequence }, turn);
        }
    }

    /// A will is held against the grants of now: they may have changed since CONNECT.
    pub(crate) fn fire_will(&mut self, due: &WillDue, now: Timestamp, turn: &mut Turn) {
        let will = &due.will;
        let subject = self.grants.subject(&due.facts);
        let permitted = match self.grants.publish(&subject, &will.topic) {
            Ok(permitted) if will.payload.len() <= permitted.payload_bytes_max as usize => {
                permitted
            }
            refused => {
                let denied = refused
                    .err()
                    .unwrap_or(Denied::new(DenyReason::PayloadTooLarge));
                self.counters.wills_suppressed += 1;
                turn.signal(self.limits.signals_per_turn_max, || Signal::PublishDenied {
                    principal: due.facts.principal.clone(),
                    topic: cut(&will.topic),
                    verdict: self.grants.verdict(&denied),
                    will: true,
                });
                return;
            }
        };
        if let Some(rate) = permitted.rate_per_minute
            && let Some(index) = self.by_principal.get(&due.facts.principal)
            && let Some(known) = self.principals.get_mut(*index)
            && !known
                .rates
                .allows(permitted.channel_index(), rate, now, &self.limits, true)
        {
            // Else connecting and breaking off would be a way to send more.
            self.counters.wills_suppressed += 1;
            self.counters.rate_exceeded += 1;
            return;
        }
        self.counters.wills_fired += 1;
        self.find_receivers(&permitted, None);
        let message = Outbound {
            topic: &will.topic,
            forward: will.forward(),
            payload: &will.payload,
            expires_at: expires_at(&will.forward(), now),
        };
        let at_least_once = will.qos != Qos::AtMostOnce;
        self.deliver_to_matches(&message, at_least_once, now, turn);
        if !self.remotes.is_empty() {
            // Nobody waits for its acknowledgement.
            self.hand_to_shards(u32::MAX, &message, at_least_once, turn);
        }
    }
}

fn fields<'m>(
    message: &Outbound<'m>,
    qos: Qos,
    packet_id: Option<u16>,
    dup: bool,
) -> PublishFields<'m> {
    PublishFields {
        dup,
        qos,
        // Nothing is retained here, so nothing is sent as retained.
        retain: false,
        topic: message.topic,
        packet_id,
        topic_alias: None,
        forward: message.forward,
        payload: message.payload,
    }
}

/// How often a publisher may send there: words to the plane have limits of this gateway's.
fn rate_of(message: &access::Publish<'_>, limits: &Limits) -> Option<u32> {
    if message.is_report() {
        Some(limits.reports_per_minute)
    } else if message.is_request() {
        Some(limits.requests_per_minute)
    } else {
        message.rate_per_minute
    }
}

fn expires_at(forward: &ForwardProperties<'_>, now: Timestamp) -> Option<Timestamp> {
    if forward.is_empty() {
        return None;
    }
    let seconds = forward.message_expiry_seconds()?;
    Some(now.plus(Duration::from_secs(u64::from(seconds))))
}
