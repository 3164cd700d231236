//! A connection of mqtt-protocol-core in the server's place: what it answers to a client, and
//! whether it would have let a server say what ours says. The fuzz target `mqtt_session` includes
//! this file as it is.

use mqtt::{Packet, Version};
use mqtt_protocol_core::mqtt as theirs;
use std::sync::Arc;
use theirs::common::{Cursor, HashSet};
use theirs::connection::{ConnectionOptions, Event, TimerKind};
use theirs::packet::{GenericPacketTrait, Packet as TheirPacket, Property, v3_1_1, v5_0};
use theirs::result_code::{PubackReasonCode, PubrecReasonCode};

/// An answer to a client, without its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// PUBACK, PUBREC, PUBREL, PUBCOMP; the code is 0 in 3.1.1.
    Ack(&'static str, u16, u8),
    /// SUBACK, UNSUBACK; 3.1.1 has no codes in UNSUBACK.
    Codes(&'static str, u16, usize),
    Pingresp,
    Disconnect(u8),
    /// The connection ends, whoever ends it.
    End,
}

/// A message that was handed to the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub topic: String,
    pub retain: bool,
    pub qos: u8,
    pub packet_id: Option<u16>,
    pub wants_response: bool,
}

/// What came of one packet.
#[derive(Debug, Default)]
pub struct Outcome {
    pub said: Vec<Said>,
    pub taken: Vec<Taken>,
    /// Messages that it sends, which is after a CONNACK those that it sends again.
    pub sent: Vec<Vec<u8>>,
}

pub struct SecondMachine {
    version: Version,
    connection: theirs::Connection<theirs::role::Server>,
    /// After so long without a packet it would end the connection.
    pub silence_millis: Option<u64>,
}

impl SecondMachine {
    pub fn new(version: Version, packet_bytes_max: u32, receive_maximum: u16) -> Self {
        let options = ConnectionOptions::new()
            .maximum_packet_size_recv(packet_bytes_max)
            .receive_maximum(receive_maximum);
        let of = match version {
            Version::V311 => theirs::Version::V3_1_1,
            Version::V5 => theirs::Version::V5_0,
        };
        let mut connection = theirs::Connection::with_options(of, options);
        connection.set_auto_pub_response(true);
        connection.set_auto_ping_response(true);
        Self {
            version,
            connection,
            silence_millis: None,
        }
    }

    /// One whole packet of the client.
    pub fn receive(&mut self, frame: &[u8]) -> Outcome {
        let events = self.connection.recv(&mut Cursor::new(frame));
        self.outcome(events)
    }

    /// The client was silent for as long as it may.
    pub fn be_silent(&mut self) -> Outcome {
        let events = self.connection.notify_timer_fired(TimerKind::PingreqRecv);
        self.outcome(events)
    }

    /// Says a CONNACK or PUBLISH of ours in its place.
    ///
    /// # Errors
    /// If it would not have let a server say that.
    pub fn say(&mut self, frame: &[u8]) -> Result<Outcome, String> {
        let (first, body) = split(frame)?;
        let packet: TheirPacket = match (self.version, first >> 4) {
            (Version::V311, 2) => parsed(v3_1_1::Connack::parse(body))?.into(),
            (Version::V5, 2) => parsed(v5_0::Connack::parse(body))?.into(),
            (Version::V311, 3) => {
                let packet = parsed(v3_1_1::GenericPublish::<u16>::parse(
                    first & 15,
                    Arc::from(body),
                ))?;
                self.take_identifier(packet.packet_id())?;
                packet.into()
            }
            (Version::V5, 3) => {
                let packet = parsed(v5_0::GenericPublish::<u16>::parse(
                    first & 15,
                    Arc::from(body),
                ))?;
                self.take_identifier(packet.packet_id())?;
                packet.into()
            }
            _ => return Err(format!("a server does not say {frame:02x?} by itself")),
        };
        let events = self.connection.send(packet);
        if let Some(error) = events.iter().find_map(|event| match event {
            Event::NotifyError(error) => Some(error),
            _ => None,
        }) {
            return Err(format!("a server may not say this: {error:?}"));
        }
        let mut outcome = self.outcome(events);
        // The first is what was said.
        outcome.sent.remove(0);
        Ok(outcome)
    }

    fn take_identifier(&mut self, packet_id: Option<u16>) -> Result<(), String> {
        match packet_id {
            None => Ok(()),
            Some(id) => (self.connection.register_packet_id(id))
                .map_err(|_| format!("packet identifier {id} is in use")),
        }
    }

    /// An alias that a message bore which it sends again without one.
    pub fn learn_alias(&mut self, topic: &str, alias: u16) {
        let packet = v5_0::Publish::builder()
            .topic_name(topic)
            .unwrap()
            .props(vec![Property::TopicAlias(
                theirs::packet::TopicAlias::new(alias).unwrap(),
            )])
            .build()
            .unwrap();
        self.connection.send(packet.into());
    }

    /// Undoes the acceptance of a message that policy refused: it knows no policy.
    pub fn refuse(&mut self, message: &Taken) {
        let Some(id) = message.packet_id else {
            return;
        };
        match (self.version, message.qos) {
            (Version::V5, 1) => {
                let packet = v5_0::GenericPuback::<u16>::builder()
                    .packet_id(id)
                    .reason_code(PubackReasonCode::NotAuthorized)
                    .build()
                    .unwrap();
                self.connection.send(packet.into());
            }
            (Version::V5, _) => {
                let packet = v5_0::GenericPubrec::<u16>::builder()
                    .packet_id(id)
                    .reason_code(PubrecReasonCode::NotAuthorized)
                    .build()
                    .unwrap();
                self.connection.send(packet.into());
            }
            // 3.1.1 has no word for it; the exchange is over all the same.
            (Version::V311, 2) => {
                let packet = v3_1_1::GenericPubcomp::<u16>::builder()
                    .packet_id(id)
                    .build()
                    .unwrap();
                self.connection.send(packet.into());
                let mut held = self.held();
                held.remove(&id);
                self.hold(held);
            }
            (Version::V311, _) => {}
        }
    }

    /// Identifiers of QoS 2 messages that were taken and not released.
    pub fn held(&self) -> HashSet<u16> {
        self.connection.get_qos2_publish_handled()
    }

    pub fn hold(&mut self, identifiers: HashSet<u16>) {
        self.connection.restore_qos2_publish_handled(identifiers);
    }

    /// How many messages it would send again.
    pub fn stored(&self) -> usize {
        self.connection.get_stored_packets().len()
    }

    /// The transport is gone.
    pub fn lose(&mut self) {
        self.connection.notify_closed();
        self.silence_millis = None;
    }

    fn outcome(&mut self, events: Vec<Event>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut ends = false;
        for event in events {
            match event {
                Event::RequestSendPacket { packet, .. } => {
                    let frame = packet.to_continuous_buffer();
                    match said(self.version, &frame) {
                        Some(answer) => outcome.said.push(answer),
                        None => outcome.sent.push(frame),
                    }
                }
                Event::NotifyPacketReceived(packet) => {
                    ends |= self.note(&packet, &mut outcome);
                }
                Event::NotifyError(_) | Event::RequestClose => ends = true,
                Event::RequestTimerReset {
                    kind: TimerKind::PingreqRecv,
                    duration_ms,
                } => self.silence_millis = Some(duration_ms),
                Event::RequestTimerCancel(TimerKind::PingreqRecv) => self.silence_millis = None,
                _ => {}
            }
        }
        if ends {
            outcome.said.push(Said::End);
        }
        outcome
    }

    /// What its application would do with a packet; true if that ends the connection.
    fn note(&self, packet: &TheirPacket, outcome: &mut Outcome) -> bool {
        match packet {
            TheirPacket::V3_1_1Publish(p) => outcome.taken.push(Taken {
                topic: p.topic_name().to_owned(),
                retain: p.retain(),
                qos: p.qos() as u8,
                packet_id: p.packet_id(),
                wants_response: false,
            }),
            TheirPacket::V5_0Publish(p) => outcome.taken.push(Taken {
                topic: p.topic_name().to_owned(),
                retain: p.retain(),
                qos: p.qos() as u8,
                packet_id: p.packet_id(),
                wants_response: (p.props().iter())
                    .any(|property| matches!(property, Property::ResponseTopic(_))),
            }),
            TheirPacket::V3_1_1Subscribe(p) => {
                let codes = Said::Codes("SUBACK", p.packet_id(), p.entries().len());
                outcome.said.push(codes);
            }
            TheirPacket::V5_0Subscribe(p) => {
                let codes = Said::Codes("SUBACK", p.packet_id(), p.entries().len());
                outcome.said.push(codes);
            }
            TheirPacket::V3_1_1Unsubscribe(p) => {
                outcome.said.push(Said::Codes("UNSUBACK", p.packet_id(), 0));
            }
            TheirPacket::V5_0Unsubscribe(p) => {
                let codes = Said::Codes("UNSUBACK", p.packet_id(), p.entries().len());
                outcome.said.push(codes);
            }
            TheirPacket::V3_1_1Disconnect(_) | TheirPacket::V5_0Disconnect(_) => return true,
            _ => {}
        }
        false
    }
}

/// An answer of a server; `None` for CONNACK and PUBLISH.
pub fn said(version: Version, frame: &[u8]) -> Option<Said> {
    let packet = mqtt::decode_from_server(version, frame)
        .unwrap_or_else(|wrong| panic!("a server said {frame:02x?}: {wrong:?}"));
    let ack = |ack: &mqtt::Ack<'_>| Said::Ack(packet.name(), ack.packet_id, ack.reason.0);
    match &packet {
        Packet::Puback(a) | Packet::Pubrec(a) | Packet::Pubrel(a) | Packet::Pubcomp(a) => {
            Some(ack(a))
        }
        Packet::Suback(s) | Packet::Unsuback(s) => {
            Some(Said::Codes(packet.name(), s.packet_id, s.reasons().count()))
        }
        Packet::Pingresp => Some(Said::Pingresp),
        Packet::Disconnect(d) => Some(Said::Disconnect(d.reason.0)),
        _ => None,
    }
}

/// The first byte of a frame and what follows its length.
fn split(frame: &[u8]) -> Result<(u8, &[u8]), String> {
    let (first, rest) = frame.split_first().ok_or("an empty frame")?;
    let length_bytes = rest.iter().take_while(|byte| **byte & 128 != 0).count() + 1;
    let body = rest.get(length_bytes..).ok_or("half a frame")?;
    Ok((*first, body))
}

fn parsed<T, E: std::fmt::Debug>(result: Result<(T, usize), E>) -> Result<T, String> {
    match result {
        Ok((packet, _)) => Ok(packet),
        Err(error) => Err(format!("it cannot read what we say: {error:?}")),
    }
}
