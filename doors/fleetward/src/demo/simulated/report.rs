//! The figures of a demo, and whether its promises held.

use serde::Serialize;
use std::time::Duration;

#[derive(Debug, Serialize)]
pub struct Report {
    pub devices: usize,
    pub enrolled: usize,
    pub messages_sent: u64,
    pub messages_acknowledged: u64,
    pub messages_delivered: u64,
    /// Acknowledged and never delivered.
    pub lost: u64,
    pub duplicates: u64,
    pub order_violations: u64,
    /// From the server's receipt.
    pub revoke_in_force_micros: u64,
    /// Seen from outside, from just before the call. Zero: the last success came before it.
    pub revoke_to_last_accepted_ms: Option<f64>,
    pub revoke_to_closed_ms: Option<f64>,
    pub reconnect_refused: bool,
    pub reenroll_refused: bool,
    pub others_disconnected: u64,
    pub reconnected_after_kill: usize,
    pub consumer_sessions_forgotten: u64,
    pub audit_entries: usize,
    pub audit_verified: bool,
    pub audit_warnings: Vec<String>,
    pub durability: &'static str,
    pub seed: u64,
}

impl Report {
    /// # Errors
    /// None for these types.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    #[must_use]
    pub fn held(&self) -> bool {
        self.enrolled == self.devices
            && self.messages_acknowledged > 0
            && self.lost == 0
            && self.order_violations == 0
            && self.reconnect_refused
            && self.reenroll_refused
            && self.revoke_to_closed_ms.is_some()
            && self.others_disconnected == 0
            && self.reconnected_after_kill + 1 == self.devices
            && self.consumer_sessions_forgotten == 0
            && self.audit_verified
    }

    /// The same for a person.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        let ms = |value: Option<f64>| value.map_or("never".to_owned(), |ms| format!("{ms:.1} ms"));
        vec![
            format!(
                "{} messages sent, {} acknowledged, {} delivered, {} lost (durability {})",
                self.messages_sent,
                self.messages_acknowledged,
                self.messages_delivered,
                self.lost,
                self.durability
            ),
            format!(
                "revocation seen from outside: last accepted publish after {}, socket closed after \
                 {}; {} others disconnected",
                ms(self.revoke_to_last_accepted_ms),
                ms(self.revoke_to_closed_ms),
                self.others_disconnected
            ),
            format!(
                "the log: {} entries, {}",
                self.audit_entries,
                if self.audit_verified {
                    "verified offline"
                } else {
                    "NOT VERIFIED"
                }
            ),
            if self.held() {
                "every promise held"
            } else {
                "A PROMISE WAS BROKEN"
            }
            .to_owned(),
        ]
    }
}

pub fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}
