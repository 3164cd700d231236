//! What goes where between two MQTT sessions, and when each side is told that it may forget a message.
//! Bytes in, bytes out: no socket and no time.

use anyhow::bail;
use mqtt::{ForwardProperties, Packet, Publish, Qos, Reason, Version, encode};
use std::collections::HashMap;

/// Messages from the other broker that our door has not acknowledged. Above it that broker is not
/// read, which its own window then feels.
const DOWN_IN_FLIGHT_MAX: usize = 256;
/// Our door sends no more than it announces, 512.
const UP_IN_FLIGHT_MAX: usize = 4096;

/// Messages since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handed to the other broker.
    pub up: u64,
    /// Of these, with QoS 1, what it acknowledged.
    pub up_acknowledged: u64,
    /// Taken by our door.
    pub down: u64,
    /// Refused by our door: no grant, a limit; or larger than it takes at all. They are not asked for
    /// again.
    pub down_refused: u64,
}

impl Counts {
    pub fn add(&mut self, more: &Self) {
        self.up += more.up;
        self.up_acknowledged += more.up_acknowledged;
        self.down += more.down;
        self.down_refused += more.down_refused;
    }
}

/// What each side is to be sent.
#[derive(Debug, Default)]
pub struct Outputs {
    pub local: Vec<u8>,
    pub upstream: Vec<u8>,
}

/// Our door speaks MQTT 5, the other broker 3.1.1. What a message says of itself in properties stays
/// behind.
pub struct Bridge {
    prefix: String,
    /// The largest packet that our door takes. A larger one would end the session each time that it
    /// came again.
    down_bytes_max: usize,
    up: Identifiers,
    down: Identifiers,
    pub counts: Counts,
}

/// The packet identifier on the far side, and what it stands for on the near one.
#[derive(Default)]
struct Identifiers {
    last: u16,
    waiting: HashMap<u16, u16>,
}

impl Identifiers {
    fn take(&mut self, stands_for: u16) -> u16 {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if !self.waiting.contains_key(&self.last) {
                self.waiting.insert(self.last, stands_for);
                return self.last;
            }
        }
    }
}

impl Bridge {
    #[must_use]
    pub fn new(prefix: &str, down_bytes_max: usize) -> Self {
        Self {
            prefix: prefix.to_owned(),
            down_bytes_max,
            up: Identifiers::default(),
            down: Identifiers::default(),
            counts: Counts::default(),
        }
    }

    /// Whether more of the other broker may be read.
    #[must_use]
    pub fn takes_from_upstream(&self) -> bool {
        self.down.waiting.len() < DOWN_IN_FLIGHT_MAX
    }

    /// A packet of our door.
    ///
    /// # Errors
    /// The session cannot go on.
    pub fn hear_local(&mut self, packet: &Packet<'_>, out: &mut Outputs) -> anyhow::Result<()> {
        match packet {
            Packet::Publish(publish) => {
                if self.up.waiting.len() >= UP_IN_FLIGHT_MAX {
                    bail!("our door sends more at once than it may");
                }
                let topic = format!("{}{}", self.prefix, publish.topic);
                let packet_id = publish.packet_id.map(|id| self.up.take(id));
                let on = onward(publish, &topic, packet_id);
                encode::publish(&mut out.upstream, Version::V311, &on);
                self.counts.up += 1;
            }
            Packet::Puback(ack) => {
                if let Some(id) = self.down.waiting.remove(&ack.packet_id) {
                    if ack.reason.is_failure() {
                        self.counts.down_refused += 1;
                    } else {
                        self.counts.down += 1;
                    }
                    puback(&mut out.upstream, Version::V311, id);
                }
            }
            Packet::Suback(suback) if suback.reasons().any(Reason::is_failure) => {
                let why = suback.reason_string.unwrap_or("no reason was given");
                bail!(
                    "our door refuses a filter of forward.up ({why}); operator: let the fleet permit \
                     the service to receive it"
                );
            }
            Packet::Disconnect(disconnect) => {
                let why = disconnect.reason_string.unwrap_or("no reason was given");
                bail!("our door ended the session ({why})");
            }
            _ => {}
        }
        Ok(())
    }

    /// A packet of the other broker.
    ///
    /// # Errors
    /// The session cannot go on.
    pub fn hear_upstream(&mut self, packet: &Packet<'_>, out: &mut Outputs) -> anyhow::Result<()> {
        match packet {
            Packet::Publish(publish) => match publish.topic.strip_prefix(&self.prefix) {
                Some(topic) if mqtt::is_topic(topic) && self.fits(publish, topic) => {
                    let packet_id = publish.packet_id.map(|id| self.down.take(id));
                    // What is retained there is retained here only by those whose word it is.
                    let on = Publish {
                        retain: false,
                        ..onward(publish, topic, packet_id)
                    };
                    encode::publish(&mut out.local, Version::V5, &on);
                    self.counts.down += u64::from(packet_id.is_none());
                }
                _ => {
                    if let Some(id) = publish.packet_id {
                        puback(&mut out.upstream, Version::V311, id);
                    }
                    self.counts.down_refused += 1;
                }
            },
            Packet::Puback(ack) => {
                if let Some(id) = self.up.waiting.remove(&ack.packet_id) {
                    self.counts.up_acknowledged += 1;
                    puback(&mut out.local, Version::V5, id);
                }
            }
            Packet::Suback(suback) if suback.reasons().any(Reason::is_failure) => {
                bail!("the other broker refuses a filter of forward.down");
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether our door takes it at all.
    fn fits(&self, publish: &Publish<'_>, topic: &str) -> bool {
        let on = onward(publish, topic, publish.packet_id);
        encode::publish_length(Version::V5, &on) <= self.down_bytes_max
    }
}

fn onward<'m>(message: &Publish<'m>, topic: &'m str, packet_id: Option<u16>) -> Publish<'m> {
    Publish {
        dup: false,
        qos: match packet_id {
            Some(_) => Qos::AtLeastOnce,
            None => Qos::AtMostOnce,
        },
        retain: message.retain,
        topic,
        packet_id,
        topic_alias: None,
        forward: ForwardProperties::NONE,
        payload: message.payload,
    }
}

fn puback(out: &mut Vec<u8>, version: Version, id: u16) {
    encode::puback(out, version, id, Reason::SUCCESS, None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt::Ack;

    fn message(topic: &'static str) -> Publish<'static> {
        Publish {
            dup: false,
            qos: Qos::AtMostOnce,
            retain: true,
            topic,
            packet_id: None,
            topic_alias: None,
            forward: ForwardProperties::NONE,
            payload: b"x",
        }
    }

    fn publish(topic: &'static str, packet_id: Option<u16>) -> Packet<'static> {
        Packet::Publish(onward(&message(topic), topic, packet_id))
    }

    fn ack(packet_id: u16, reason: Reason) -> Packet<'static> {
        Packet::Puback(Ack {
            packet_id,
            reason,
            reason_string: None,
        })
    }

    /// (topic, identifier) of the one PUBLISH in it.
    fn heard(version: Version, bytes: &[u8]) -> (String, Option<u16>) {
        match mqtt::decode(version, bytes).unwrap() {
            Packet::Publish(publish) => (publish.topic.to_owned(), publish.packet_id),
            other => panic!("{other:?}"),
        }
    }

    fn acknowledged(version: Version, bytes: &[u8]) -> u16 {
        match mqtt::decode(version, bytes).unwrap() {
            Packet::Puback(ack) => ack.packet_id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_acknowledged_before_the_other_side_has_it() {
        let mut bridge = Bridge::new("site/", 1024);
        let mut out = Outputs::default();
        bridge
            .hear_local(&publish("v1/a/up", Some(77)), &mut out)
            .unwrap();
        assert!(out.local.is_empty(), "the other broker has not answered");
        let (topic, id) = heard(Version::V311, &out.upstream);
        assert_eq!(topic, "site/v1/a/up");
        let mut out = Outputs::default();
        // An identifier that was never given says nothing.
        bridge
            .hear_upstream(&ack(999, Reason::SUCCESS), &mut out)
            .unwrap();
        assert!(out.local.is_empty());
        bridge
            .hear_upstream(&ack(id.unwrap(), Reason::SUCCESS), &mut out)
            .unwrap();
        assert_eq!(acknowledged(Version::V5, &out.local), 77);

        let mut out = Outputs::default();
        bridge
            .hear_upstream(&publish("site/v1/a/down", Some(5)), &mut out)
            .unwrap();
        assert!(out.upstream.is_empty());
        let (topic, id) = heard(Version::V5, &out.local);
        assert_eq!(topic, "v1/a/down");
        let mut out = Outputs::default();
        let refused = ack(id.unwrap(), Reason::NOT_AUTHORIZED);
        bridge.hear_local(&refused, &mut out).unwrap();
        assert_eq!(acknowledged(Version::V311, &out.upstream), 5);
        let counts = Counts {
            up: 1,
            up_acknowledged: 1,
            down: 0,
            down_refused: 1,
        };
        assert_eq!(bridge.counts, counts);
    }

    #[test]
    fn a_topic_outside_the_prefix_goes_nowhere_and_is_not_sent_again() {
        let mut bridge = Bridge::new("site/", 1024);
        for topic in ["other/v1/a/down", "site", "site/"] {
            let mut out = Outputs::default();
            bridge
                .hear_upstream(&publish(topic, Some(5)), &mut out)
                .unwrap();
            assert!(out.local.is_empty(), "{topic}");
            assert_eq!(acknowledged(Version::V311, &out.upstream), 5);
        }
        assert_eq!(bridge.counts.down_refused, 3);
    }

    #[test]
    fn a_message_larger_than_our_door_takes_does_not_stop_those_behind_it() {
        let mut bridge = Bridge::new("", 1024);
        let large = Publish {
            qos: Qos::AtLeastOnce,
            packet_id: Some(5),
            payload: &[b'x'; 1024],
            ..message("a")
        };
        let mut out = Outputs::default();
        bridge
            .hear_upstream(&Packet::Publish(large), &mut out)
            .unwrap();
        assert!(out.local.is_empty());
        assert_eq!(acknowledged(Version::V311, &out.upstream), 5);
        assert_eq!(bridge.counts.down_refused, 1);
        bridge
            .hear_upstream(&publish("a", Some(6)), &mut out)
            .unwrap();
        assert_eq!(heard(Version::V5, &out.local).0, "a");
    }

    #[test]
    fn a_flood_from_the_other_broker_waits_there() {
        let mut bridge = Bridge::new("", 1024);
        let mut out = Outputs::default();
        for id in 1..=u16::try_from(DOWN_IN_FLIGHT_MAX).unwrap() {
            assert!(bridge.takes_from_upstream());
            bridge
                .hear_upstream(&publish("a", Some(id)), &mut out)
                .unwrap();
        }
        assert!(!bridge.takes_from_upstream());
        bridge
            .hear_local(&ack(1, Reason::SUCCESS), &mut out)
            .unwrap();
        assert!(bridge.takes_from_upstream());
    }
}
