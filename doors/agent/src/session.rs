//! An MQTT 5 session as a device holds it: bytes in, events and bytes out. It knows no socket and
//! reads no clock; the caller moves the bytes and says what time it is.

use crate::failure::Failure;
use mqtt::{Connect, ForwardProperties, Packet, Publish, Qos, Reason, Version, encode};
use std::time::{Duration, Instant};

/// The largest packet taken from the plane.
const PACKET_BYTES_MAX: u32 = 64 * 1024;
/// Unacknowledged messages at once, if the plane would take more.
const IN_FLIGHT_MAX: u16 = 32;
/// So long may a PINGRESP take.
const PING_PATIENCE: Duration = Duration::from_secs(10);
/// The only SUBSCRIBE of a session.
const SUBSCRIBE_ID: u16 = u16::MAX;

#[derive(Debug)]
pub struct Session {
    /// Received and not yet decoded.
    pub received: Vec<u8>,
    out: Vec<u8>,
    is_open: bool,
    keep_alive: Duration,
    in_flight_max: u16,
    packet_bytes_max: u32,
    last_sent: Instant,
    ping_until: Option<Instant>,
}

/// What the plane said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The session is open.
    Open,
    /// The one subscription: granted, or refused for this reason.
    Subscribed(Result<(), Reason>),
    /// A message; with a packet id, it waits to be acknowledged.
    Message {
        packet_id: Option<u16>,
        topic: String,
        payload: Vec<u8>,
    },
    Acknowledged {
        packet_id: u16,
        reason: Reason,
    },
}

impl Session {
    /// Begins with CONNECT: a clean start, as what matters is kept in the outbox.
    pub fn begin(client_id: &str, keep_alive_seconds: u16, now: Instant) -> Self {
        let mut out = Vec::new();
        let connect = Connect {
            keep_alive_seconds,
            receive_maximum: Some(IN_FLIGHT_MAX),
            packet_bytes_max: Some(PACKET_BYTES_MAX),
            ..Connect::new(Version::V5, client_id)
        };
        encode::connect(&mut out, &connect);
        Self {
            received: Vec::new(),
            out,
            is_open: false,
            keep_alive: Duration::from_secs(u64::from(keep_alive_seconds)),
            in_flight_max: IN_FLIGHT_MAX,
            packet_bytes_max: u32::MAX,
            last_sent: now,
            ping_until: None,
        }
    }

    pub fn is_open(&self) -> bool {
        self.is_open
    }

    pub fn in_flight_max(&self) -> usize {
        usize::from(self.in_flight_max)
    }

    /// Bytes to send, taken.
    pub fn take_output(&mut self, now: Instant) -> Vec<u8> {
        if !self.out.is_empty() {
            self.last_sent = now;
        }
        std::mem::take(&mut self.out)
    }

    pub fn subscribe(&mut self, filter: &str) {
        let filters = [(filter, Qos::AtLeastOnce)];
        encode::subscribe(&mut self.out, Version::V5, SUBSCRIBE_ID, &filters);
    }

    /// Publishes with QoS 1. False if the plane takes no packet as large as that.
    #[must_use]
    pub fn publish(&mut self, packet_id: u16, topic: &str, payload: &[u8]) -> bool {
        let publish = Publish {
            dup: false,
            qos: Qos::AtLeastOnce,
            retain: false,
            topic,
            packet_id: Some(packet_id),
            topic_alias: None,
            forward: ForwardProperties::NONE,
            payload,
        };
        let length = encode::publish_length(Version::V5, &publish);
        if u32::try_from(length).is_ok_and(|length| length <= self.packet_bytes_max) {
            encode::publish(&mut self.out, Version::V5, &publish);
            true
        } else {
            false
        }
    }

    /// Acknowledges a message, or says that what it asked for was not done.
    pub fn acknowledge(&mut self, packet_id: u16, is_done: bool) {
        let reason = if is_done {
            Reason::SUCCESS
        } else {
            Reason::IMPLEMENTATION_SPECIFIC_ERROR
        };
        encode::puback(&mut self.out, Version::V5, packet_id, reason, None);
    }

    pub fn disconnect(&mut self) {
        encode::disconnect_by_client(&mut self.out, Version::V5, Reason::SUCCESS);
    }

    /// The next thing that the plane said, out of what was received; `None`: more is needed.
    ///
    /// # Errors
    /// [`Failure`] if it ended the session, refused it or broke the protocol.
    pub fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            let cap = PACKET_BYTES_MAX as usize;
            let length = mqtt::frame_length(&self.received, cap)
                .map_err(|malformed| protocol(&malformed))?;
            let Some(length) = length else {
                return Ok(None);
            };
            let frame: Vec<u8> = self.received.drain(..length).collect();
            let packet = mqtt::decode_from_server(Version::V5, &frame)
                .map_err(|malformed| protocol(&malformed))?;
            if let Some(event) = self.hear(&packet)? {
                return Ok(Some(event));
            }
        }
    }

    /// Says PINGREQ when it is time to.
    ///
    /// # Errors
    /// [`Failure::Timeout`] if the last PINGREQ was not answered.
    pub fn wake(&mut self, now: Instant) -> Result<(), Failure> {
        if self.ping_until.is_some_and(|until| until <= now) {
            return Err(Failure::Timeout);
        }
        if self.is_open && self.ping_until.is_none() && now >= self.ping_at() {
            encode::pingreq(&mut self.out);
            self.ping_until = Some(now + PING_PATIENCE);
        }
        Ok(())
    }

    pub fn next_deadline(&self) -> Instant {
        self.ping_until.unwrap_or_else(|| self.ping_at())
    }

    /// Well before the plane would think us lost.
    fn ping_at(&self) -> Instant {
        self.last_sent + self.keep_alive / 4 * 3
    }

    fn hear(&mut self, packet: &Packet<'_>) -> Result<Option<Event>, Failure> {
        match packet {
            Packet::Connack(connack) if !self.is_open => {
                if connack.reason.is_failure() {
                    let text = connack.reason_string.map(str::to_owned);
                    return Err(Failure::Connack(connack.reason, text));
                }
                self.is_open = true;
                self.in_flight_max = connack
                    .receive_maximum
                    .unwrap_or(u16::MAX)
                    .min(IN_FLIGHT_MAX);
                self.packet_bytes_max = connack.packet_bytes_max.unwrap_or(u32::MAX);
                if let Some(seconds) = connack.server_keep_alive_seconds {
                    self.keep_alive = Duration::from_secs(u64::from(seconds.max(1)));
                }
                Ok(Some(Event::Open))
            }
            _ if !self.is_open => Err(Failure::Protocol("MQTT: something before CONNACK")),
            Packet::Publish(publish) => Ok(Some(Event::Message {
                packet_id: publish.packet_id,
                topic: publish.topic.to_owned(),
                payload: publish.payload.to_vec(),
            })),
            Packet::Puback(ack) => Ok(Some(Event::Acknowledged {
                packet_id: ack.packet_id,
                reason: ack.reason,
            })),
            Packet::Suback(suback) if suback.packet_id == SUBSCRIBE_ID => {
                let reason = suback.reasons().next().unwrap_or(Reason::UNSPECIFIED_ERROR);
                let granted = if reason.is_failure() {
                    Err(reason)
                } else {
                    Ok(())
                };
                Ok(Some(Event::Subscribed(granted)))
            }
            Packet::Pingresp => {
                self.ping_until = None;
                Ok(None)
            }
            Packet::Disconnect(disconnect) => Err(Failure::Disconnected(
                disconnect.reason,
                disconnect.reason_string.map(str::to_owned),
            )),
            _ => Err(Failure::Protocol("MQTT: a packet that was not asked for")),
        }
    }
}

fn protocol(_: &mqtt::Malformed) -> Failure {
    Failure::Protocol("MQTT: a malformed packet")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt::Connack;
    use proptest::prelude::*;

    fn open(now: Instant) -> Session {
        let mut session = Session::begin("cam-1", 60, now);
        let connack = Connack {
            receive_maximum: Some(2),
            ..Connack::default()
        };
        encode::connack(&mut session.received, Version::V5, &connack);
        assert_eq!(session.next_event().unwrap(), Some(Event::Open));
        session.take_output(now);
        session
    }

    #[test]
    fn nothing_comes_before_connack() {
        let mut session = Session::begin("cam-1", 60, Instant::now());
        encode::pingresp(&mut session.received);
        assert!(matches!(session.next_event(), Err(Failure::Protocol(_))));
    }

    #[test]
    fn a_silent_plane_is_given_up_after_a_ping() {
        let now = Instant::now();
        let mut session = open(now);
        session.wake(now).unwrap();
        assert!(session.take_output(now).is_empty());
        let due = session.next_deadline();
        session.wake(due).unwrap();
        assert_eq!(session.take_output(due), [0xc0, 0]);
        assert!(matches!(
            session.wake(session.next_deadline()),
            Err(Failure::Timeout)
        ));
    }

    #[test]
    fn an_answered_ping_keeps_it_open() {
        let now = Instant::now();
        let mut session = open(now);
        let due = session.next_deadline();
        session.wake(due).unwrap();
        session.take_output(due);
        encode::pingresp(&mut session.received);
        assert_eq!(session.next_event().unwrap(), None);
        assert!(session.next_deadline() > due + PING_PATIENCE);
    }

    #[test]
    fn a_message_is_acknowledged_when_it_is_said_to_be_done_and_not_before() {
        let now = Instant::now();
        let mut session = open(now);
        let publish = Publish {
            dup: false,
            qos: Qos::AtLeastOnce,
            retain: false,
            topic: "t",
            packet_id: Some(7),
            topic_alias: None,
            forward: ForwardProperties::NONE,
            payload: b"p",
        };
        encode::publish(&mut session.received, Version::V5, &publish);
        let event = session.next_event().unwrap();
        assert!(matches!(
            event,
            Some(Event::Message {
                packet_id: Some(7),
                ..
            })
        ));
        assert!(session.take_output(now).is_empty());
        for (is_done, reason) in [
            (true, Reason::SUCCESS),
            (false, Reason::IMPLEMENTATION_SPECIFIC_ERROR),
        ] {
            session.acknowledge(7, is_done);
            let said = session.take_output(now);
            let packet = mqtt::decode(Version::V5, &said).unwrap();
            assert!(
                matches!(&packet, Packet::Puback(ack) if (ack.packet_id, ack.reason) == (7, reason)),
                "{packet:?}"
            );
        }
    }

    #[test]
    fn a_packet_too_large_for_us_ends_the_session_before_it_is_kept() {
        let mut session = open(Instant::now());
        session
            .received
            .extend_from_slice(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
        assert!(matches!(session.next_event(), Err(Failure::Protocol(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut session = open(Instant::now());
            session.received = bytes;
            while let Ok(Some(_)) = session.next_event() {}
        }
    }
}
