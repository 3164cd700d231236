//! Acknowledgements in both directions, and the two handshakes of QoS 2.
//!
//! A client's QoS 2 message is handed on when its PUBLISH comes; its identifier is remembered until
//! PUBREL, so that a PUBLISH sent again is answered and not handed on again (MQTT 4.3.3, method B).
//! A persistent session remembers it in the journal, in the same turn as what the message caused.

use crate::gateway::Gateway;
use crate::journal::Record;
use crate::receive::Step;
use crate::state::PendingAck;
use crate::turn::Turn;
use model::{Delivery, DeliveryRefusal, Timestamp};
use mqtt::{Ack, Publish, Qos, Reason, Version};

// What the client publishes.
impl Gateway {
    /// `Some` if the client sends a QoS 2 message again that was taken before.
    pub(crate) fn is_repeated(
        &mut self,
        id: u32,
        session: u32,
        packet: &Publish<'_>,
        turn: &mut Turn,
    ) -> Option<Step> {
        let packet_id = packet
            .packet_id
            .filter(|_| packet.qos == Qos::ExactlyOnce)?;
        let received = &self.sessions.get(session)?.received;
        received.binary_search(&packet_id).ok()?;
        let pending = self.connection(id)?.pending.as_ref();
        let is_coming = pending.is_some_and(|pending| {
            let mut acks = pending.acks.iter();
            acks.any(|ack| ack.is_pubrec && ack.packet_id == packet_id)
        });
        if !is_coming {
            self.acknowledge(id, packet, Reason::SUCCESS, None, turn);
        }
        Some(Step::Consumed(0))
    }

    /// `Some` if the client has more under way than it was told it may.
    pub(crate) fn exceeds_receive_maximum(
        &mut self,
        id: u32,
        session: u32,
        packet: &Publish<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Option<Step> {
        let received = self.sessions.get(session)?.received.len();
        let connection = self.connection(id)?;
        let version = connection.version;
        let pending = connection.pending.as_ref();
        let waiting = received + pending.map_or(0, |pending| pending.pubacks);
        if waiting < usize::from(self.limits.inflight_max.max(1)) {
            return None;
        }
        // 3.1.1 knows no Receive Maximum. What waits for PUBACK is ours to end, so its client is
        // not read meanwhile; what waits for PUBREL is not, and would come behind what is not read.
        if version == Version::V311 && packet.qos == Qos::AtLeastOnce && received < waiting {
            self.hold_for_acks(id, turn);
            return Some(Step::Held);
        }
        let what = "more unacknowledged messages than the announced Receive Maximum";
        Some(self.refuse_packet(id, Reason::RECEIVE_MAXIMUM_EXCEEDED, what, now, turn))
    }

    /// A QoS 2 message was taken.
    pub(crate) fn note_received(&mut self, session: u32, packet: &Publish<'_>) {
        if let (Qos::ExactlyOnce, Some(packet_id)) = (packet.qos, packet.packet_id)
            && let Some(found) = self.sessions.get_mut(session)
            && let Err(place) = found.received.binary_search(&packet_id)
        {
            found.received.insert(place, packet_id);
        }
    }

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

    /// PUBACK or PUBREC when `outstanding` shards have said `Done` and all earlier ones are out.
    pub(crate) fn acknowledge_after(
        &mut self,
        id: u32,
        packet: &Publish<'_>,
        reason: Reason,
        reason_string: Option<&str>,
        outstanding: u16,
        turn: &mut Turn,
    ) {
        let Some(packet_id) = packet.packet_id else {
            return;
        };
        let Some(connection) = self.connection_mut(id) else {
            return;
        };
        let is_pubrec = packet.qos == Qos::ExactlyOnce;
        let text = reason_string.filter(|_| connection.wants_reasons);
        let others_wait = connection
            .pending
            .as_ref()
            .is_some_and(|pending| !pending.acks.is_empty());
        if outstanding == 0 && !others_wait {
            self.send_ack(id, packet_id, is_pubrec, reason, text, turn);
            return;
        }
        let pending = connection.pending.get_or_insert_default();
        pending.pubacks += usize::from(!is_pubrec);
        pending.acks.push_back(PendingAck {
            packet_id,
            is_pubrec,
            reason,
            reason_string: text.map(Into::into),
            outstanding,
        });
    }

    pub(crate) fn send_ack(
        &mut self,
        id: u32,
        packet_id: u16,
        is_pubrec: bool,
        reason: Reason,
        text: Option<&str>,
        turn: &mut Turn,
    ) {
        if !is_pubrec {
            self.send(id, turn, |out, version| {
                mqtt::encode::puback(out, version, packet_id, reason, text);
            });
            return;
        }
        let session = (self.connection(id)).and_then(|connection| connection.session());
        if let Some(index) = session {
            if reason.is_failure() {
                // The exchange ends here; in 3.1.1, which is told nothing, its PUBREL finds nothing.
                self.forget_received(index, packet_id);
            } else {
                self.record(index, &Record::Received { packet_id }, turn);
            }
        }
        self.send(id, turn, |out, version| {
            mqtt::encode::pubrec(out, version, packet_id, reason, text);
        });
    }

    pub(crate) fn on_pubrel(&mut self, id: u32, session: u32, packet_id: u16, turn: &mut Turn) {
        let reason = if self.forget_received(session, packet_id) {
            self.record(session, &Record::Completed { packet_id }, turn);
            Reason::SUCCESS
        } else {
            Reason::PACKET_IDENTIFIER_NOT_FOUND
        };
        self.send(id, turn, |out, version| {
            mqtt::encode::pubcomp(out, version, packet_id, reason, None);
        });
    }

    pub(crate) fn forget_received(&mut self, session: u32, packet_id: u16) -> bool {
        let Some(found) = self.sessions.get_mut(session) else {
            return false;
        };
        match found.received.binary_search(&packet_id) {
            Ok(place) => {
                found.received.remove(place);
                true
            }
            Err(_) => false,
        }
    }
}

// What the client receives.
impl Gateway {
    pub(crate) fn on_puback(
        &mut self,
        session: u32,
        ack: &Ack<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        // An identifier that is not in flight says nothing: it may be an old session's.
        let ended = (self.sessions.get_mut(session))
            .and_then(|session| session.queue.acknowledge(ack.packet_id));
        if let Some(sequence) = ended {
            let delivery = match ack.reason.is_failure() {
                true => Delivery::Refused(DeliveryRefusal::ByDevice),
                false => Delivery::Delivered,
            };
            self.command_ended(session, sequence, delivery, turn);
        }
        self.ended(session, ended, now, turn);
    }

    pub(crate) fn on_pubrec(
        &mut self,
        id: u32,
        session: u32,
        ack: &Ack<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let Some(found) = self.sessions.get_mut(session) else {
            return;
        };
        if ack.reason.is_failure() {
            let ended = found.queue.reject(ack.packet_id);
            self.ended(session, ended, now, turn);
            return;
        }
        let reason = match found.queue.release(ack.packet_id) {
            Some((sequence, is_news)) => {
                if is_news {
                    self.record(session, &Record::Released { sequence }, turn);
                }
                Reason::SUCCESS
            }
            None => Reason::PACKET_IDENTIFIER_NOT_FOUND,
        };
        let packet_id = ack.packet_id;
        self.send(id, turn, |out, version| {
            mqtt::encode::pubrel(out, version, packet_id, reason, None);
        });
    }

    pub(crate) fn on_pubcomp(
        &mut self,
        session: u32,
        packet_id: u16,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        let ended =
            (self.sessions.get_mut(session)).and_then(|session| session.queue.complete(packet_id));
        self.ended(session, ended, now, turn);
    }

    /// A message is done with: the next may go.
    fn ended(&mut self, session: u32, ended: Option<u64>, now: Timestamp, turn: &mut Turn) {
        if let Some(sequence) = ended {
            self.record(session, &Record::Acknowledged { sequence }, turn);
            self.pump(session, None, now, turn);
            self.note_pressure(session, now, turn);
        }
    }
}
