//! The connection of a claim certificate: a device without an identity of its own asks for one, in
//! the words of AWS IoT's fleet provisioning.
//!
//! It never enters the router: it has no session, no name and no grant, it may publish to the six
//! topics of that protocol and hear the answers to what it asked itself, and whatever else it tries
//! ends it. So whoever holds a key that lies in every device of a batch can neither speak for one of
//! them nor hear what is meant for another.

use mqtt::encode::{ConnackFields, PublishFields};
use mqtt::{Connect, ForwardProperties, Packet, Publish, Qos, Reason, Subscribe, Version};

/// A request for a certificate is a few kB.
const PACKET_BYTES_MAX: usize = 20 * 1024;
/// Questions of one connection. A device needs two, and two more if an answer was lost.
const ASKS_MAX: u32 = 16;
/// Packets of one connection besides.
const PACKETS_MAX: u32 = 256;

/// What may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClaimCall {
    /// A certificate for the key of a request: `$aws/certificates/create-from-csr/`.
    CertificateForRequest,
    /// A certificate with a key: `$aws/certificates/create/`.
    CertificateAndKey,
    /// To be the device that owns a certificate: `$aws/provisioning-templates/<name>/provision/`.
    Enrollment,
}

impl ClaimCall {
    const ALL: [Self; 3] = [
        Self::CertificateForRequest,
        Self::CertificateAndKey,
        Self::Enrollment,
    ];
}

/// A topic of the protocol, as it stands for one template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimTopic {
    pub call: ClaimCall,
    /// The payload is CBOR, else JSON.
    pub cbor: bool,
}

impl ClaimTopic {
    fn all() -> impl Iterator<Item = Self> {
        let both = |call| [false, true].map(|cbor| Self { call, cbor });
        ClaimCall::ALL.into_iter().flat_map(both)
    }

    fn question(self, template: &str) -> String {
        let form = if self.cbor { "cbor" } else { "json" };
        match self.call {
            ClaimCall::CertificateForRequest => format!("$aws/certificates/create-from-csr/{form}"),
            ClaimCall::CertificateAndKey => format!("$aws/certificates/create/{form}"),
            ClaimCall::Enrollment => {
                format!("$aws/provisioning-templates/{template}/provision/{form}")
            }
        }
    }

    fn answer(self, template: &str, accepted: bool) -> String {
        let end = if accepted { "accepted" } else { "rejected" };
        format!("{}/{end}", self.question(template))
    }
}

/// What a device asks; to be answered by [`ClaimSession::answer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimAsk {
    pub topic: ClaimTopic,
    pub payload: Vec<u8>,
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimEnd {
    /// The device left.
    Left,
    /// It does not speak MQTT as this door does.
    Protocol(&'static str),
    /// It asked for what a claim certificate is not for; the topic, cut to 128 characters.
    Denied { action: &'static str, topic: String },
    /// It asked too often.
    TooMuch,
}

/// One connection; it lives as long as its socket.
pub struct ClaimSession {
    template: String,
    version: Version,
    connected: bool,
    /// Topics of answers that it wants to hear.
    heard: Vec<(String, Qos)>,
    /// What it asked and was not answered yet: one at a time.
    asked: Option<ClaimTopic>,
    asks: u32,
    packets: u32,
    packet_id: u16,
}

impl ClaimSession {
    #[must_use]
    pub fn new(template: String) -> Self {
        Self {
            template,
            version: Version::V311,
            connected: false,
            heard: Vec::new(),
            asked: None,
            asks: 0,
            packets: 0,
            packet_id: 0,
        }
    }

    /// Reads whole packets from the front of `bytes` until one asks something, appends to `out` what
    /// is to be sent, and says how many bytes were read. While an answer is due nothing is read.
    ///
    /// # Errors
    /// [`ClaimEnd`]: send `out` and close.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Option<ClaimAsk>), ClaimEnd> {
        let mut consumed = 0;
        while self.asked.is_none() {
            let rest = bytes.get(consumed..).unwrap_or_default();
            let length = mqtt::frame_length(rest, PACKET_BYTES_MAX)
                .map_err(|malformed| ClaimEnd::Protocol(malformed.rule))?;
            let Some(frame) = length.and_then(|length| rest.get(..length)) else {
                break;
            };
            consumed += frame.len();
            self.packets += 1;
            if self.packets > PACKETS_MAX {
                return Err(ClaimEnd::TooMuch);
            }
            if let Some(ask) = self.packet(frame, out)? {
                self.asked = Some(ask.topic);
                return Ok((consumed, Some(ask)));
            }
        }
        Ok((consumed, None))
    }

    /// Appends the answer to what was asked, if the device wants to hear it.
    pub fn answer(&mut self, accepted: bool, payload: &[u8], out: &mut Vec<u8>) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        let topic = asked.answer(&self.template, accepted);
        let Some((_, qos)) = self.heard.iter().find(|(heard, _)| *heard == topic) else {
            return;
        };
        let qos = (*qos).min(Qos::AtLeastOnce);
        self.packet_id = self.packet_id % u16::MAX + 1;
        let fields = PublishFields {
            dup: false,
            qos,
            retain: false,
            topic: &topic,
            packet_id: (qos == Qos::AtLeastOnce).then_some(self.packet_id),
            topic_alias: None,
            forward: ForwardProperties::NONE,
            payload,
        };
        mqtt::encode::publish(out, self.version, &fields);
    }

    fn packet(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<Option<ClaimAsk>, ClaimEnd> {
        if !self.connected {
            return self.first_packet(frame, out).map(|()| None);
        }
        let packet = mqtt::decode(self.version, frame)
            .map_err(|malformed| self.ends(out, malformed.reason, malformed.rule))?;
        match packet {
            Packet::Publish(publish) => return self.publish(&publish, out).map(Some),
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe, out)?,
            Packet::Unsubscribe(unsubscribe) => {
                let reasons: Vec<Reason> = (unsubscribe.filters())
                    .map(|filter| {
                        let before = self.heard.len();
                        self.heard.retain(|(topic, _)| topic != filter);
                        if self.heard.len() < before {
                            Reason::SUCCESS
                        } else {
                            Reason::NO_SUBSCRIPTION_EXISTED
                        }
                    })
                    .collect();
                mqtt::encode::unsuback(out, self.version, unsubscribe.packet_id, &reasons);
            }
            // Nothing is sent twice, so nothing waits for it.
            Packet::Puback(_) => {}
            Packet::Pingreq => mqtt::encode::pingresp(out),
            Packet::Disconnect(_) => return Err(ClaimEnd::Left),
            _ => {
                let rule = "a packet that a claim certificate has no use for";
                return Err(self.ends(out, Reason::PROTOCOL_ERROR, rule));
            }
        }
        Ok(None)
    }

    fn first_packet(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), ClaimEnd> {
        self.version = mqtt::connect_version(frame)
            .map_err(|_| ClaimEnd::Protocol("the first packet is CONNECT of MQTT 3.1.1 or 5"))?;
        let connect = match mqtt::decode(self.version, frame) {
            Ok(Packet::Connect(connect)) => connect,
            Ok(_) => return Err(ClaimEnd::Protocol("the first packet is CONNECT")),
            Err(malformed) => return Err(ClaimEnd::Protocol(malformed.rule)),
        };
        let refused = |reason, out: &mut Vec<u8>| {
            let fields = ConnackFields {
                reason,
                ..ConnackFields::default()
            };
            mqtt::encode::connack(out, self.version, &fields);
        };
        if connect.authentication_method.is_some() {
            refused(Reason::BAD_AUTHENTICATION_METHOD, out);
            return Err(ClaimEnd::Protocol("the TLS certificate authenticates"));
        }
        if let Some(will) = &connect.will {
            refused(Reason::NOT_AUTHORIZED, out);
            return Err(denied("will", will.topic));
        }
        self.accept(&connect, out);
        Ok(())
    }

    /// Whatever it calls itself: the name is nobody's, and no session hangs on it.
    fn accept(&mut self, connect: &Connect<'_>, out: &mut Vec<u8>) {
        self.connected = true;
        let wants_session = connect
            .session_expiry_seconds
            .is_some_and(|asked| asked > 0);
        let assigned = connect.client_id.is_empty() && self.version == Version::V5;
        let fields = ConnackFields {
            session_expiry_seconds: wants_session.then_some(0),
            maximum_qos_1: true,
            packet_bytes_max: u32::try_from(PACKET_BYTES_MAX).ok(),
            assigned_client_id: assigned.then_some("claim"),
            ..ConnackFields::default()
        };
        mqtt::encode::connack(out, self.version, &fields);
    }

    fn subscribe(&mut self, subscribe: &Subscribe<'_>, out: &mut Vec<u8>) -> Result<(), ClaimEnd> {
        let mut reasons = Vec::new();
        let mut refused = None;
        for entry in subscribe.entries() {
            let answers = ClaimTopic::all()
                .flat_map(|topic| [true, false].map(|end| topic.answer(&self.template, end)));
            if !answers.into_iter().any(|topic| topic == entry.filter) {
                reasons.push(Reason::NOT_AUTHORIZED);
                refused.get_or_insert_with(|| denied("subscribe", entry.filter));
                continue;
            }
            self.heard.retain(|(topic, _)| topic != entry.filter);
            self.heard.push((entry.filter.to_owned(), entry.qos));
            reasons.push(entry.qos.min(Qos::AtLeastOnce).granted());
        }
        let text = refused.is_some().then_some(ONLY);
        mqtt::encode::suback(out, self.version, subscribe.packet_id, &reasons, text);
        refused.map_or(Ok(()), Err)
    }

    fn publish(&mut self, publish: &Publish<'_>, out: &mut Vec<u8>) -> Result<ClaimAsk, ClaimEnd> {
        let asked = ClaimTopic::all()
            .find(|topic| topic.question(&self.template) == publish.topic)
            .filter(|_| publish.topic_alias.is_none() && !publish.retain);
        let Some(topic) = asked else {
            self.ends(out, Reason::NOT_AUTHORIZED, ONLY);
            return Err(denied("publish", publish.topic));
        };
        if publish.qos == Qos::ExactlyOnce {
            let rule = "QoS 2 is not available";
            return Err(self.ends(out, Reason::QOS_NOT_SUPPORTED, rule));
        }
        self.asks += 1;
        if self.asks > ASKS_MAX {
            self.ends(
                out,
                Reason::QUOTA_EXCEEDED,
                "too many questions; connect again",
            );
            return Err(ClaimEnd::TooMuch);
        }
        if let Some(packet_id) = publish.packet_id {
            // It came; what becomes of it is told by the answer.
            mqtt::encode::puback(out, self.version, packet_id, Reason::SUCCESS, None);
        }
        Ok(ClaimAsk {
            topic,
            payload: publish.payload.to_vec(),
        })
    }

    fn ends(&self, out: &mut Vec<u8>, reason: Reason, rule: &'static str) -> ClaimEnd {
        mqtt::encode::disconnect(out, self.version, reason, Some(rule));
        ClaimEnd::Protocol(rule)
    }
}

const ONLY: &str = "a claim certificate is for asking for a certificate, and for nothing else";

fn denied(action: &'static str, topic: &str) -> ClaimEnd {
    ClaimEnd::Denied {
        action,
        topic: crate::signal::cut(topic),
    }
}
