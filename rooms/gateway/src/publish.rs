//! A message's way through: grant → limits → its receivers ([`crate::deliver`]) → acknowledgement.
//! In the steady state nothing here allocates.

use crate::contain::{FromDevice, Said};
use crate::contract::is_removal;
use crate::deliver::expires_at;
use crate::gateway::Gateway;
use crate::limits::Limits;
use crate::principal::PrincipalState;
use crate::queue::Outbound;
use crate::receive::Step;
use crate::signal::{Signal, cut};
use crate::subscribe::deny_text;
use crate::turn::Turn;
use access::{Denied, Violation};
use model::{DenyReason, Principal, Timestamp};
use mqtt::{ForwardProperties, Publish, Qos, Reason, Version};

impl Gateway {
    pub(crate) fn on_publish(
        &mut self,
        id: u32,
        session: u32,
        packet: &Publish<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Step {
        let Some(alias) = packet.topic_alias else {
            return self.publish_to(id, session, packet, now, turn);
        };
        let (alias_max, bytes_max) = (self.limits.topic_alias_max, self.limits.topic_bytes_max);
        let mut topic = std::mem::take(&mut self.alias_topic);
        topic.clear();
        if let Some(connection) = self.connection_mut(id) {
            let aliases = connection.aliases.get_or_insert_default();
            if packet.topic.is_empty() {
                topic.push_str(aliases.topic(alias).unwrap_or_default());
            } else if aliases.hear(alias, packet.topic, alias_max, bytes_max) {
                topic.push_str(packet.topic);
            }
        }
        let step = if topic.is_empty() {
            let what = "a topic alias that is above the announced maximum, or was given no topic";
            self.refuse_packet(id, Reason::TOPIC_ALIAS_INVALID, what, now, turn)
        } else {
            let packet = Publish {
                topic: &topic,
                ..*packet
            };
            self.publish_to(id, session, &packet, now, turn)
        };
        self.alias_topic = topic;
        step
    }

    fn publish_to(
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
        let principal = connection.principal;
        if packet.qos != Qos::AtMostOnce {
            if let Some(step) = self.is_repeated(id, session, packet, turn) {
                return step;
            }
            if let Some(step) = self.exceeds_receive_maximum(id, session, packet, now, turn) {
                return step;
            }
        }
        let permitted = match self.permit(principal, packet, now) {
            Ok(permitted) => permitted,
            Err(denied) => {
                self.refuse_publish(id, principal, packet, &denied, turn);
                return Step::Consumed(0);
            }
        };
        if permitted.is_to_plane() {
            self.note_received(session, packet);
            self.note_flow(principal, session, packet, now, turn);
            self.take_word(id, principal, &permitted, packet, now, turn);
            self.acknowledge(id, packet, Reason::SUCCESS, None, turn);
            return Step::Consumed(0);
        }
        if !is_removal(packet.payload, packet.retain)
            && let Err(violation) = self.hold_to_contract(&permitted, packet.payload)
        {
            // It took time: whoever sends nonsense has no more of it than who sends sense.
            self.take_rate(principal, &permitted, now);
            self.refuse_payload(id, principal, &permitted, packet, &violation, turn);
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
        self.find_receivers(&permitted, packet.qos, Some(session));
        if packet.retain {
            self.add_shards_for_retained(packet.topic);
        }
        if let Some(step) = self.hold_if_receivers_lag(id, principal, turn) {
            return step;
        }
        self.take_rate(principal, &permitted, now);
        self.count_publish(principal, packet);
        self.count_sent(principal, &permitted, packet.payload.len());
        self.count_heard(&permitted, packet.payload.len());
        self.note_flow(principal, session, packet, now, turn);
        self.note_received(session, packet);
        self.note_answer(session, packet, turn);
        let message = Outbound {
            topic: packet.topic,
            forward: packet.forward,
            payload: packet.payload,
            expires_at: expires_at(&packet.forward, now),
            qos: packet.qos,
            retain: packet.retain,
            share: None,
        };
        let kept = if packet.retain {
            self.retain(principal, &permitted, &message, now, turn)
        } else {
            None
        };
        let all_took_it = self.deliver_to_matches(&message, now, turn);
        let outstanding = if self.remotes.is_empty() {
            0
        } else {
            self.hand_to_shards(id, &message, kept, turn)
        };
        if packet.qos != Qos::AtMostOnce {
            let reason = if all_took_it {
                Reason::SUCCESS
            } else {
                Reason::QUOTA_EXCEEDED
            };
            self.acknowledge_after(id, packet, reason, None, outstanding, turn);
        }
        Step::Consumed(0)
    }

    /// Grant, then size, then room among what is retained, then rate (looked at here, taken when the message goes out).
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
        check_size(&permitted, packet.payload.len(), &packet.forward)?;
        if packet.retain {
            let bytes = packet.payload.len() + packet.forward.encoded_length();
            (self.retained).has_room(
                &known.facts.principal,
                &permitted,
                packet.payload.is_empty(),
                bytes,
                &self.limits,
            )?;
        }
        check_pace(known, &permitted, &self.limits, now)?;
        Ok(permitted)
    }

    /// Whether a principal may send one more message there now. Takes nothing.
    pub(crate) fn check_pace(
        &mut self,
        principal: u32,
        permitted: &access::Publish<'_>,
        now: Timestamp,
    ) -> Result<(), Denied> {
        match self.principals.get_mut(principal) {
            Some(known) => check_pace(known, permitted, &self.limits, now),
            None => Err(Denied::new(DenyReason::UnknownClass)),
        }
    }

    pub(crate) fn take_rate(
        &mut self,
        principal: u32,
        permitted: &access::Publish<'_>,
        now: Timestamp,
    ) {
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
        } else if permitted.is_reported_state() {
            Said::State
        } else if permitted.is_defender_report() {
            self.counters.reports += 1;
            Said::DefenderReport {
                topic: packet.topic.to_owned(),
            }
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

    fn note_flow(
        &mut self,
        principal: u32,
        session: u32,
        packet: &Publish<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        if let Some(session) = self.sessions.get_mut(session) {
            session.incoming.count(packet.payload.len(), now);
        }
        self.tell_watched(principal, packet, turn);
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

    fn refuse_payload(
        &mut self,
        id: u32,
        principal: u32,
        place: &access::Publish<'_>,
        packet: &Publish<'_>,
        violation: &Violation,
        turn: &mut Turn,
    ) {
        let known = self.principals.get(principal);
        if let Some(principal) = known.map(|known| known.facts.principal.clone()) {
            self.note_violation(&principal, place, violation, false, turn);
        }
        let text = (self.wants_reason(id, packet)).then(|| {
            let name = DenyReason::ContractViolation.name();
            format!("{name}: {violation}")
        });
        let code = Reason::PAYLOAD_FORMAT_INVALID;
        self.acknowledge(id, packet, code, text.as_deref(), turn);
    }

    fn wants_reason(&self, id: u32, packet: &Publish<'_>) -> bool {
        let wants = (self.connection(id)).is_some_and(|connection| {
            connection.version == Version::V5 && connection.wants_reasons
        });
        wants && packet.qos != Qos::AtMostOnce
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
            DenyReason::RateExceeded
            | DenyReason::PayloadTooLarge
            | DenyReason::PropertiesTooLarge
            | DenyReason::FanOutExceeded
            | DenyReason::NotRetained => Reason::QUOTA_EXCEEDED,
            _ => Reason::NOT_AUTHORIZED,
        };
        self.deny_publish(principal, packet.topic, denied, false, turn);
        let text = (self.wants_reason(id, packet)).then(|| deny_text(&self.grants.verdict(denied)));
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
            DenyReason::PayloadTooLarge | DenyReason::PropertiesTooLarge => {
                self.counters.payload_too_large += 1;
            }
            DenyReason::NotRetained => self.counters.dropped_retain += 1,
            _ => {}
        }
        self.signal(turn, principal, |principal| Signal::PublishDenied {
            principal,
            topic: cut(topic),
            verdict: self.grants.verdict(denied),
            will,
        });
    }
}

/// The payload by its channel; and what a message says of itself (user properties and the like), which
/// no channel speaks of: as much as a payload there may have, 1 KiB at least and 8 KiB at most.
pub(crate) fn check_size(
    place: &access::Publish<'_>,
    payload_bytes: usize,
    forward: &ForwardProperties<'_>,
) -> Result<(), Denied> {
    let payload_bytes_max = place.payload_bytes_max as usize;
    if payload_bytes > payload_bytes_max {
        return Err(Denied::new(DenyReason::PayloadTooLarge));
    }
    let properties_bytes_max =
        payload_bytes_max.clamp(PROPERTIES_BYTES_LEAST, PROPERTIES_BYTES_MOST);
    if forward.encoded_length() > properties_bytes_max {
        return Err(Denied::new(DenyReason::PropertiesTooLarge));
    }
    Ok(())
}

const PROPERTIES_BYTES_LEAST: usize = 1024;
const PROPERTIES_BYTES_MOST: usize = 8 * 1024;

/// Rate and fan-out, looked at and not taken.
fn check_pace(
    known: &mut PrincipalState,
    permitted: &access::Publish<'_>,
    limits: &Limits,
    now: Timestamp,
) -> Result<(), Denied> {
    let channel = permitted.channel_index();
    if let Some(rate) = rate_of(permitted, limits)
        && !known.rates.allows(channel, rate, now, limits, false)
    {
        return Err(Denied::new(DenyReason::RateExceeded));
    }
    if let (Some(fan_out), Some(device)) = (&mut known.fan_out, permitted.owner)
        && !fan_out.admits(device, now, false)
    {
        return Err(Denied::new(DenyReason::FanOutExceeded));
    }
    Ok(())
}

/// How often a publisher may send there: words to the plane have limits of this gateway's.
fn rate_of(message: &access::Publish<'_>, limits: &Limits) -> Option<u32> {
    if message.is_report() || message.is_defender_report() {
        Some(limits.reports_per_minute)
    } else if message.is_reported_state() {
        Some(limits.states_per_minute)
    } else if message.is_request() {
        Some(limits.requests_per_minute)
    } else {
        message.rate_per_minute
    }
}
