//! An MQTT session as a client holds it: blocking, one packet after the other, each wait with a
//! deadline.

use crate::refusal::Refusal;
use crate::tls::{Client, Transport};
use mqtt::{Connect, ForwardProperties, Packet, Publish, Qos, Reason, Version, encode};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The largest packet taken from a server. Far above what a fleet's message needs.
pub(crate) const PACKET_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A connected client. Dropping it closes the socket without DISCONNECT, as a lost device does.
#[derive(Debug)]
pub struct Session {
    transport: Transport,
    version: Version,
    patience: Duration,
    session_present: bool,
    /// Received and not yet decoded.
    received: Vec<u8>,
    inbox: VecDeque<Event>,
    last_packet_id: u16,
}

/// What the server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Delivery(Delivery),
    Puback {
        packet_id: u16,
        reason: Reason,
        text: Option<String>,
    },
    Suback {
        packet_id: u16,
        reasons: Vec<Reason>,
    },
    Unsuback {
        packet_id: u16,
    },
    Pingresp,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: Qos,
    pub dup: bool,
    pub retain: bool,
    /// To acknowledge, with QoS 1.
    packet_id: Option<u16>,
}

impl Session {
    /// Opens TLS, says CONNECT and waits for CONNACK. Every wait of the session ends after
    /// `patience`.
    ///
    /// # Errors
    /// Any [`Refusal`]; in TLS 1.3 this is where a refused certificate shows.
    pub fn open(
        client: &Client,
        connect: &Connect<'_>,
        patience: Duration,
    ) -> Result<Self, Refusal> {
        let deadline = Instant::now() + patience;
        let mut transport = client.connect(patience)?;
        let mut out = Vec::new();
        encode::connect(&mut out, connect);
        transport.write(&out, deadline)?;
        let mut session = Self {
            transport,
            version: connect.version,
            patience,
            session_present: false,
            received: Vec::new(),
            inbox: VecDeque::new(),
            last_packet_id: 0,
        };
        session.session_present = session.wait_connack(deadline)?;
        Ok(session)
    }

    /// Whether the server had kept this client's session (CONNACK).
    #[must_use]
    pub fn session_present(&self) -> bool {
        self.session_present
    }

    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    ///
    /// # Errors
    /// [`Refusal::Puback`] leaves the session open; any other ends it.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), Refusal> {
        let packet_id = self.send(topic, payload)?;
        self.wait_puback(packet_id)
    }

    /// Publishes with QoS 0: no answer comes.
    ///
    /// # Errors
    /// If the bytes cannot be handed over.
    pub fn publish_unacknowledged(&mut self, topic: &str, payload: &[u8]) -> Result<(), Refusal> {
        self.send_publish(topic, payload, None)
    }

    /// Publishes with QoS 1 without waiting. Gives the packet id for [`Self::wait_puback`].
    ///
    /// # Errors
    /// If the bytes cannot be handed over.
    pub fn send(&mut self, topic: &str, payload: &[u8]) -> Result<u16, Refusal> {
        let packet_id = self.take_packet_id();
        self.send_publish(topic, payload, Some(packet_id))?;
        Ok(packet_id)
    }

    /// Waits for the acknowledgement of `packet_id`; other packets go to the inbox.
    ///
    /// # Errors
    /// [`Refusal::Puback`] leaves the session open; any other ends it.
    pub fn wait_puback(&mut self, packet_id: u16) -> Result<(), Refusal> {
        let event = self.wait_for(
            |event| matches!(event, Event::Puback { packet_id: id, .. } if *id == packet_id),
        )?;
        match event {
            Event::Puback { reason, text, .. } if reason.is_failure() => {
                Err(Refusal::Puback { reason, text })
            }
            _ => Ok(()),
        }
    }

    /// Subscribes and waits for the answer: one outcome per filter.
    ///
    /// # Errors
    /// If the session ended.
    pub fn subscribe(
        &mut self,
        filters: &[(&str, Qos)],
    ) -> Result<Vec<Result<Qos, Refusal>>, Refusal> {
        let packet_id = self.take_packet_id();
        let mut out = Vec::new();
        encode::subscribe(&mut out, self.version, packet_id, filters);
        self.write(&out)?;
        let event = self.wait_for(
            |event| matches!(event, Event::Suback { packet_id: id, .. } if *id == packet_id),
        )?;
        let Event::Suback { reasons, .. } = event else {
            return Ok(Vec::new());
        };
        if reasons.len() != filters.len() {
            return Err(Refusal::Protocol(format!(
                "SUBACK with {} reasons for {} filters",
                reasons.len(),
                filters.len()
            )));
        }
        Ok(reasons
            .into_iter()
            .map(|reason| Qos::from_bits(reason.0).ok_or(Refusal::Suback { reason }))
            .collect())
    }

    /// Subscribes to one filter.
    ///
    /// # Errors
    /// [`Refusal::Suback`] leaves the session open; any other ends it.
    pub fn subscribe_one(&mut self, filter: &str, qos: Qos) -> Result<Qos, Refusal> {
        self.subscribe(&[(filter, qos)])?
            .pop()
            .unwrap_or_else(|| Err(Refusal::Protocol("an empty SUBACK".to_owned())))
    }

    /// The next packet, from the inbox first. `None` if `deadline` passes without one.
    ///
    /// # Errors
    /// If the session ended.
    pub fn next(&mut self, deadline: Instant) -> Result<Option<Event>, Refusal> {
        if let Some(event) = self.inbox.pop_front() {
            return Ok(Some(event));
        }
        match self.receive(deadline) {
            Ok(event) => Ok(Some(event)),
            Err(Refusal::Timeout) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// The next message, whatever else comes before it. `None` if `deadline` passes first.
    ///
    /// # Errors
    /// If the session ended.
    pub fn next_delivery(&mut self, deadline: Instant) -> Result<Option<Delivery>, Refusal> {
        loop {
            match self.next(deadline)? {
                None => return Ok(None),
                Some(Event::Delivery(delivery)) => return Ok(Some(delivery)),
                Some(_) => {}
            }
        }
    }

    /// Acknowledges messages of QoS 1, in one write.
    ///
    /// # Errors
    /// If the session ended.
    pub fn acknowledge(&mut self, deliveries: &[Delivery]) -> Result<(), Refusal> {
        let mut out = Vec::new();
        for packet_id in deliveries.iter().filter_map(|d| d.packet_id) {
            encode::puback(&mut out, self.version, packet_id, Reason::SUCCESS, None);
        }
        self.write(&out)
    }

    /// Says PINGREQ and waits for PINGRESP: is the session alive?
    ///
    /// # Errors
    /// If it is not.
    pub fn ping(&mut self) -> Result<(), Refusal> {
        self.send_ping()?;
        self.wait_for(|event| matches!(event, Event::Pingresp))?;
        Ok(())
    }

    /// Says PINGREQ; the answer comes as [`Event::Pingresp`].
    ///
    /// # Errors
    /// If the session ended.
    pub fn send_ping(&mut self) -> Result<(), Refusal> {
        let mut out = Vec::new();
        encode::pingreq(&mut out);
        self.write(&out)
    }

    /// Says DISCONNECT and closes.
    pub fn disconnect(mut self) {
        let mut out = Vec::new();
        encode::disconnect_by_client(&mut out, self.version, Reason::SUCCESS);
        let _ = self.write(&out);
        self.transport.close();
    }

    /// Sends any bytes: for hostile ones.
    ///
    /// # Errors
    /// If the session ended.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match self.transport.write(bytes, Instant::now() + self.patience) {
            // What the server said last explains the end better than the broken write.
            Err(Refusal::Closed | Refusal::Cut) => Err(self.last_words()),
            outcome => outcome,
        }
    }

    fn send_publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        packet_id: Option<u16>,
    ) -> Result<(), Refusal> {
        let mut out = Vec::new();
        let publish = Publish {
            dup: false,
            qos: packet_id.map_or(Qos::AtMostOnce, |_| Qos::AtLeastOnce),
            retain: false,
            topic,
            packet_id,
            topic_alias: None,
            forward: ForwardProperties::NONE,
            payload,
        };
        encode::publish(&mut out, self.version, &publish);
        self.write(&out)
    }

    /// 1 to 65,535, then from the beginning. At most a few hundred are ever in flight.
    fn take_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }

    fn wait_connack(&mut self, deadline: Instant) -> Result<bool, Refusal> {
        let length = loop {
            match self.whole_frame()? {
                Some(length) => break length,
                None => self.transport.read(&mut self.received, deadline)?,
            }
        };
        let frame = self.received.get(..length).unwrap_or_default();
        let session_present = match mqtt::decode_from_server(self.version, frame) {
            Ok(Packet::Connack(connack)) if !connack.reason.is_failure() => connack.session_present,
            Ok(Packet::Connack(connack)) => {
                return Err(Refusal::Connack {
                    reason: connack.reason,
                    text: connack.reason_string.map(str::to_owned),
                });
            }
            Ok(other) => {
                return Err(Refusal::Protocol(format!(
                    "{} before CONNACK",
                    other.name()
                )));
            }
            Err(malformed) => return Err(Refusal::Protocol(malformed.to_string())),
        };
        self.received.drain(..length);
        Ok(session_present)
    }

    /// Waits for one event and leaves the others, in order, to [`Self::next`].
    fn wait_for(&mut self, wanted: impl Fn(&Event) -> bool) -> Result<Event, Refusal> {
        if let Some(index) = self.inbox.iter().position(&wanted)
            && let Some(event) = self.inbox.remove(index)
        {
            return Ok(event);
        }
        let deadline = Instant::now() + self.patience;
        loop {
            let event = self.receive(deadline)?;
            if wanted(&event) {
                return Ok(event);
            }
            self.inbox.push_back(event);
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Event, Refusal> {
        loop {
            if let Some(length) = self.whole_frame()? {
                let frame = self.received.get(..length).unwrap_or_default();
                let event = mqtt::decode_from_server(self.version, frame)
                    .map_err(|malformed| Refusal::Protocol(malformed.to_string()))
                    .and_then(event_of);
                self.received.drain(..length);
                return event;
            }
            self.transport.read(&mut self.received, deadline)?;
        }
    }

    fn whole_frame(&self) -> Result<Option<usize>, Refusal> {
        mqtt::frame_length(&self.received, PACKET_BYTES_MAX)
            .map_err(|malformed| Refusal::Protocol(malformed.to_string()))
    }

    /// Reads on after a failed write until the session's end is explained.
    fn last_words(&mut self) -> Refusal {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.receive(deadline) {
                Ok(event) => self.inbox.push_back(event),
                Err(refusal) => return refusal,
            }
        }
    }
}

fn event_of(packet: Packet<'_>) -> Result<Event, Refusal> {
    match packet {
        Packet::Publish(publish) => Ok(Event::Delivery(Delivery {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            dup: publish.dup,
            retain: publish.retain,
            packet_id: publish.packet_id,
        })),
        Packet::Puback(ack) => Ok(Event::Puback {
            packet_id: ack.packet_id,
            reason: ack.reason,
            text: ack.reason_string.map(str::to_owned),
        }),
        Packet::Suback(suback) => Ok(Event::Suback {
            packet_id: suback.packet_id,
            reasons: suback.reasons().collect(),
        }),
        Packet::Unsuback(unsuback) => Ok(Event::Unsuback {
            packet_id: unsuback.packet_id,
        }),
        Packet::Pingresp => Ok(Event::Pingresp),
        Packet::Disconnect(disconnect) => Err(Refusal::Disconnected {
            reason: disconnect.reason,
            text: disconnect.reason_string.map(str::to_owned),
        }),
        other => Err(Refusal::Protocol(format!("unexpected {}", other.name()))),
    }
}
