//! Bytes in: whole packets, one after the other, each to its step.

use crate::gateway::{ConnectionId, Gateway, WillFate};
use crate::signal::Signal;
use crate::state::Phase;
use crate::turn::{CloseReason, Turn};
use model::Timestamp;
use mqtt::{Malformed, Packet, Reason, Version};

const SECOND_CONNECT: Malformed = Malformed {
    reason: Reason::PROTOCOL_ERROR,
    rule: "CONNECT comes once (MQTT 3.1.0-2)",
};

fn is_connect(frame: &[u8]) -> bool {
    frame.first().is_some_and(|byte| byte >> 4 == 1)
}

/// What became of the packet at the front.
pub(crate) enum Step {
    Consumed(usize),
    Incomplete,
    /// The connection is paused: the packet stays with the caller.
    Held,
    Closing,
}

impl Gateway {
    /// Feeds decrypted bytes and says how many were consumed: whole packets only. The caller keeps
    /// the rest and feeds it again, with what came after, when more has come or, if this connection
    /// was paused, when it is resumed. A closing connection consumes everything.
    pub fn receive(
        &mut self,
        connection: ConnectionId,
        bytes: &[u8],
        now: Timestamp,
        turn: &mut Turn,
    ) -> usize {
        let id = connection.0;
        let mut consumed = 0;
        while let Some(rest) = bytes.get(consumed..) {
            match self.packet(id, rest, now, turn) {
                Step::Consumed(length) => {
                    consumed += length;
                    if let Some(connection) = self.connection_mut(id) {
                        // Only a whole packet shows that the client is alive (MQTT 3.1.2.10).
                        connection.last_packet_at = now;
                    }
                }
                Step::Incomplete | Step::Held => break,
                Step::Closing => {
                    consumed = bytes.len();
                    break;
                }
            }
        }
        self.settle(now, turn);
        consumed
    }

    fn packet(&mut self, id: u32, bytes: &[u8], now: Timestamp, turn: &mut Turn) -> Step {
        let Some(connection) = self.connection(id) else {
            return Step::Closing;
        };
        let (phase, version) = (connection.phase, connection.version);
        let cap = match phase {
            Phase::Closing => return Step::Closing,
            Phase::Connecting => self.limits.connect_packet_bytes_max,
            Phase::Open { .. } => self.limits.packet_bytes_max,
        };
        if connection.holds > 0 || self.must_first_write(id, turn) {
            return Step::Held;
        }
        let frame = match mqtt::frame_length(bytes, cap) {
            Ok(None) => return Step::Incomplete,
            Ok(Some(length)) => bytes.get(..length).unwrap_or_default(),
            Err(malformed) => return self.malformed(id, &malformed, now, turn),
        };
        match phase {
            Phase::Connecting => self.first_packet(id, frame, now, turn),
            Phase::Closing => return Step::Closing,
            // However it is made: what is wrong inside it has codes of CONNACK.
            Phase::Open { .. } if is_connect(frame) => {
                return self.malformed(id, &SECOND_CONNECT, now, turn);
            }
            Phase::Open { .. } if self.floods(id, now, turn) => return Step::Held,
            Phase::Open { session } => match mqtt::decode(version, frame) {
                Ok(packet) => match self.open_packet(id, session, &packet, now, turn) {
                    Step::Consumed(_) => {}
                    other => return other,
                },
                Err(malformed) => return self.malformed(id, &malformed, now, turn),
            },
        }
        Step::Consumed(frame.len())
    }

    /// A packet of an open session. `Consumed` here carries no length.
    fn open_packet(
        &mut self,
        id: u32,
        session: u32,
        packet: &Packet<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Step {
        if let Some(connection) = self.connection_mut(id) {
            connection.answered = matches!(packet, Packet::Puback(_));
        }
        match packet {
            Packet::Publish(publish) => return self.on_publish(id, session, publish, now, turn),
            Packet::Puback(ack) => self.on_puback(session, ack, now, turn),
            Packet::Subscribe(subscribe) => self.on_subscribe(id, session, subscribe, now, turn),
            Packet::Unsubscribe(unsubscribe) => {
                return self.on_unsubscribe(id, session, unsubscribe, now, turn);
            }
            Packet::Pingreq => self.send(id, turn, |out, _| mqtt::encode::pingresp(out)),
            Packet::Disconnect(disconnect) => {
                return self.on_disconnect(id, session, disconnect, now, turn);
            }
            Packet::Pubrec(ack) => self.on_pubrec(id, session, ack, now, turn),
            Packet::Pubrel(ack) => self.on_pubrel(id, session, ack.packet_id, turn),
            Packet::Pubcomp(ack) => self.on_pubcomp(session, ack.packet_id, now, turn),
            Packet::Connect(_) => return self.malformed(id, &SECOND_CONNECT, now, turn),
            Packet::Auth(_) => {
                return self.malformed(
                    id,
                    &Malformed {
                        reason: Reason::PROTOCOL_ERROR,
                        rule: "AUTH needs an authentication method in CONNECT (MQTT 5: 4.12)",
                    },
                    now,
                    turn,
                );
            }
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                return self.malformed(
                    id,
                    &Malformed {
                        reason: Reason::PROTOCOL_ERROR,
                        rule: "only a server sends this packet (MQTT 2.1.2)",
                    },
                    now,
                    turn,
                );
            }
        }
        Step::Consumed(0)
    }

    fn on_disconnect(
        &mut self,
        id: u32,
        session: u32,
        disconnect: &mqtt::Disconnect<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Step {
        let connection = self.connection(id);
        let version = connection.map(|connection| connection.version);
        let asked_to_last = connection.is_some_and(|connection| connection.asked_to_last);
        if let Some(seconds) = disconnect.session_expiry_seconds
            && let Some(found) = self.sessions.get_mut(session)
        {
            if !asked_to_last && seconds > 0 {
                // What this CONNECT said counts, not one before it (MQTT 5: 3.14.2.2.2). A device that
                // asked may say it again: it is given none by either.
                return self.malformed(id, &Malformed { reason: Reason::PROTOCOL_ERROR, rule: "a session opened without expiry does not get one at DISCONNECT (MQTT 5: 3.14.2.2.2)" }, now, turn);
            }
            let seconds = seconds.min(self.limits.session_expiry_seconds_max);
            if found.number.is_some() && found.expiry_seconds != seconds {
                found.expiry_seconds = seconds;
                self.record_opened(session, turn);
            }
        }
        let is_goodbye = version == Some(Version::V311) || disconnect.reason == Reason::SUCCESS;
        let fate = if is_goodbye {
            WillFate::Discarded
        } else {
            WillFate::Fires
        };
        self.shut(id, CloseReason::ByClient, None, fate, now, turn);
        Step::Closing
    }

    /// Closes for a breach of MQTT.
    pub(crate) fn malformed(
        &mut self,
        id: u32,
        malformed: &Malformed,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Step {
        self.counters.malformed += 1;
        if let Some(principal) = self.connection(id).map(|connection| connection.principal) {
            let rule = malformed.rule;
            self.signal(turn, principal, |principal| Signal::Malformed {
                principal,
                rule,
            });
        }
        let reason = if malformed.reason == Reason::PACKET_TOO_LARGE {
            CloseReason::PacketTooLarge
        } else {
            CloseReason::Malformed
        };
        let why = Some((malformed.reason, malformed.rule));
        self.shut(id, reason, why, WillFate::Fires, now, turn);
        Step::Closing
    }

    /// Closes for what this gateway said it does not take.
    pub(crate) fn refuse_packet(
        &mut self,
        id: u32,
        code: Reason,
        what: &'static str,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Step {
        if let Some(principal) = self.connection(id).map(|connection| connection.principal) {
            self.signal(turn, principal, |principal| Signal::NotSupported {
                principal,
                what,
            });
        }
        let why = Some((code, what));
        self.shut(
            id,
            CloseReason::NotSupported,
            why,
            WillFate::Fires,
            now,
            turn,
        );
        Step::Closing
    }
}
