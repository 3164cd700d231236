//! Cutting a device off and giving it back, and the plane's own word with a device.

use crate::gateway::{Gateway, WillFate};
use crate::queue::Outbound;
use crate::turn::{CloseReason, Turn};
use access::Facts;
use model::{CertificateId, Containment, DeliveryRefusal, DeviceId, Timestamp};
use mqtt::{ForwardProperties, Qos, Reason};

/// What a device said to the plane; it goes to no subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromDevice {
    pub device: DeviceId,
    pub said: Said,
    /// At most 64 KiB, of Device Defender 128; untrusted.
    pub payload: Vec<u8>,
    pub at: Timestamp,
}

/// What kind of word it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Report,
    /// The state that it has.
    State,
    /// It subscribed to the state that it should have, and is to be told it. No payload.
    WantsState,
    /// Of an agent of Device Defender, on this topic ([`access::DefenderTopic`]).
    DefenderReport {
        topic: String,
    },
    /// A certificate request, on a connection with this certificate.
    Request {
        certificate: CertificateId,
    },
}

impl Gateway {
    /// Cuts a principal off as its facts say, or gives it back. When this returns nothing more is
    /// accepted or delivered that its containment forbids.
    ///
    /// A quarantined device keeps its sessions, and its subscriptions lie still: messages that come
    /// meanwhile pass it by, and once it is restored new ones reach it again. What it had not been
    /// sent yet is dropped with its connection. An isolated one loses its sessions, and wills of
    /// both are held back. Returns the sessions touched.
    pub fn contain(&mut self, facts: Facts, now: Timestamp, turn: &mut Turn) -> u32 {
        if facts.containment.is_some() {
            self.refuse_commands(&facts.principal, DeliveryRefusal::Contained, turn);
        }
        let Some(index) = self.by_principal.get(&facts.principal).copied() else {
            return 0;
        };
        let containment = facts.containment;
        let is_changed = (self.principals.get(index))
            .is_some_and(|known| known.facts.containment != containment);
        self.know(facts, turn);
        let connections = (self.principals.get(index))
            .map(|known| known.connections.clone())
            .unwrap_or_default();
        let mut touched = 0;
        for id in connections {
            let Some(connection) = self.connection_mut(id) else {
                continue;
            };
            let is_open = connection.session().is_some();
            touched += u32::from(is_open);
            let why = match containment {
                None => continue,
                Some(Containment::Isolated) => "this device is isolated",
                // What waits, here or encrypted already, may be what it must not have any more.
                Some(Containment::Quarantined) if is_changed && connection.outgoing_bytes() > 0 => {
                    "this device is quarantined"
                }
                Some(Containment::Quarantined) => continue,
            };
            connection.out.clear();
            let why = Some((Reason::ADMINISTRATIVE_ACTION, why));
            self.shut(
                id,
                CloseReason::Contained,
                why,
                WillFate::Suppressed,
                now,
                turn,
            );
        }
        if containment == Some(Containment::Isolated) {
            let sessions = (self.principals.get(index))
                .map(|known| known.sessions.clone())
                .unwrap_or_default();
            for session in sessions {
                self.end_session(session, WillFate::Suppressed, turn);
            }
        }
        self.settle(now, turn);
        self.forget_if_idle(index, now);
        touched
    }

    /// Delivers a word of the plane on one of its own channels, QoS 1, to the sessions that
    /// subscribed to it. Returns to how many; 0 for any other topic, which is not the plane's.
    pub fn tell(&mut self, topic: &str, payload: &[u8], now: Timestamp, turn: &mut Turn) -> u32 {
        let grants = std::sync::Arc::clone(&self.grants);
        let Some(place) = grants.resolve(topic).filter(access::Publish::is_of_plane) else {
            return 0;
        };
        if payload.len() > place.payload_bytes_max as usize {
            return 0;
        }
        self.find_receivers(&place, Qos::AtLeastOnce, None);
        // Its subscribers are the device's own sessions, all of them here.
        self.remotes.clear();
        let message = Outbound {
            topic,
            forward: ForwardProperties::NONE,
            payload,
            expires_at: None,
            qos: Qos::AtLeastOnce,
            retain: false,
            share: None,
        };
        let told = u32::try_from(self.matched_sessions()).unwrap_or(u32::MAX);
        self.deliver_to_matches(&message, now, turn);
        self.settle(now, turn);
        told
    }
}
