//! What a shard tells the judge: its gateway's signals, its sessions' TLS, its metering.

use crate::judge::signals::{PerSecond, Signals, Told};
use crate::listen::refused::Failed;
use crate::listen::source_of;
use detection::Feature;
use gateway::{CloseReason, Metered, Signal};
use model::{Attribution, Principal, Timestamp, Verdict};
use std::net::IpAddr;

/// The name of this door in what is told.
pub const DOOR: &str = "mqtt";
/// Of one source address, refused handshakes told a second.
const FAILURES_A_SECOND: u32 = 8;
/// Of one principal, refusals told a second; the rest is in its metering.
const DENIALS_A_SECOND: u32 = 8;

pub struct Telling {
    signals: Signals,
    failures: PerSecond<IpAddr>,
    denials: PerSecond<Principal>,
    metered_second: u64,
}

impl Telling {
    pub fn new(signals: Signals) -> Self {
        Self {
            signals,
            failures: PerSecond::new(FAILURES_A_SECOND),
            denials: PerSecond::new(DENIALS_A_SECOND),
            metered_second: 0,
        }
    }

    pub fn tell(&self, told: Told) {
        self.signals.tell(told);
    }

    /// A handshake that was refused, before or after possession was proven.
    pub fn failed(&mut self, failed: &Failed, peer: IpAddr, at: Timestamp) {
        if self.failures.take(source_of(peer), at) {
            self.signals.tell(failed.told(DOOR, peer, at));
        }
    }

    /// Somebody was admitted whose key others can have as well: a claim is all that it is.
    pub fn known_key(&self, principal: Principal, flaw: &str, at: Timestamp) {
        let known = Feature::KnownKey {
            flaw: flaw.to_owned(),
            door: DOOR.to_owned(),
        };
        let told = Told::seen(principal, Attribution::Claimed, known, at);
        self.signals.tell(told);
    }

    /// Whether a second has passed since the last metering.
    pub fn is_metering_due(&mut self, now: Timestamp) -> bool {
        let is_due = self.metered_second != now.as_seconds();
        self.metered_second = now.as_seconds();
        is_due
    }

    pub fn metered(&self, principal: &Principal, metered: Metered, at: Timestamp) {
        let proven = |feature| Told::seen(principal.clone(), Attribution::Proven, feature, at);
        self.signals.tell(proven(Feature::Messages {
            count: metered.messages,
            bytes: metered.bytes,
            denied: metered.denied,
            interval: metered.interval,
        }));
        if let Some((devices, interval)) = metered.devices {
            self.signals
                .tell(proven(Feature::CommandFanOut { devices, interval }));
        }
    }

    /// What of a signal is worth judging. All of them are of proven principals.
    pub fn signal(&mut self, signal: &Signal, at: Timestamp) {
        let Some(principal) = signal.principal() else {
            return;
        };
        let proven = |feature| Told::seen(principal.clone(), Attribution::Proven, feature, at);
        match signal {
            Signal::SessionOpened {
                certificate,
                address,
                ..
            } => {
                self.signals.tell(Told::Connected {
                    principal: principal.clone(),
                    address: *address,
                    at,
                });
                self.signals.tell(proven(Feature::SessionOpened {
                    address: *address,
                    certificate: *certificate,
                }));
            }
            Signal::ConnectionClosed {
                reason,
                had_session: true,
                ..
            } => self.ended(principal, *reason == CloseReason::KeepAlive, at),
            Signal::ConnectionLost {
                had_session: true, ..
            } => self.ended(principal, true, at),
            Signal::TakenOver {
                certificate,
                previous,
                address,
                previous_address,
                ..
            } => self.signals.tell(proven(Feature::TakenOver {
                same_certificate: certificate == previous,
                from: *address,
                previous_from: Some(*previous_address),
            })),
            _ => {
                if let Some((action, target, reason)) = denial(signal)
                    && self.denials.take(principal.clone(), at)
                {
                    self.signals.tell(proven(Feature::Denied {
                        action: action.to_owned(),
                        target: target.to_owned(),
                        reason: reason.to_owned(),
                    }));
                }
            }
        }
    }

    fn ended(&self, principal: &Principal, lost: bool, at: Timestamp) {
        self.signals.tell(Told::Disconnected {
            principal: principal.clone(),
            lost,
            at,
        });
        self.signals.tell(Told::seen(
            principal.clone(),
            Attribution::Proven,
            Feature::SessionEnded { lost },
            at,
        ));
    }
}

/// Action, target and reason of what somebody tried and may not.
fn denial(signal: &Signal) -> Option<(&'static str, &str, &'static str)> {
    Some(match signal {
        Signal::PublishDenied { topic, verdict, .. } => ("publish", topic, reason(verdict)),
        Signal::ContractViolation { topic, .. } => ("publish", topic, "contract-violation"),
        Signal::SubscribeDenied {
            filter, verdict, ..
        } => ("subscribe", filter, reason(verdict)),
        Signal::ResponseTopicDenied { topic, .. } => ("publish", topic, "foreign-response-topic"),
        Signal::ForeignClientId { client_id, .. } => ("connect", client_id, "foreign-client-id"),
        Signal::SessionLimit { .. } => ("connect", "", "session-limit"),
        Signal::Malformed { .. } => ("connect", "", "malformed"),
        _ => return None,
    })
}

fn reason(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Permit { .. } => "permitted",
        Verdict::Deny { reason, .. } => reason.name(),
    }
}
