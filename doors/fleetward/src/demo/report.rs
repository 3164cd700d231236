//! The figures of a demo, and whether its promises held.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The kinds that the intruder's deeds must show, all of them where devices have networks of
/// their own.
pub const EXPECTED: [&str; 7] = [
    "unexpected-destination",
    "new-listening-port",
    "protocol-downgrade",
    "dns-spike",
    "certificate-failures",
    "firmware-drift",
    "outbound-volume",
];
/// Of those, seen by somebody other than the device.
const OUTSIDE_MIN: usize = 4;

#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// `namespaces`, or `processes` with the first step that failed.
    pub isolation: Isolation,
    /// The console's address; it is gone when the demo is.
    pub console: String,
    pub devices: usize,
    pub enrolled: usize,
    /// Numbered by the devices' agents, from what they had acknowledged.
    pub messages_sent: u64,
    /// Different messages that the service heard.
    pub messages_delivered: u64,
    /// Acknowledged and never heard.
    pub lost: u64,
    pub duplicates: u64,
    /// Kind of deviation → who saw it: device, gateway, network.
    pub deviations: BTreeMap<String, BTreeSet<String>>,
    pub start_to_incident_s: Option<f64>,
    /// What `start_to_incident_s` was held against.
    pub incident_within_s: u32,
    pub hijack_to_alert_ms: Option<u64>,
    pub alert_to_quarantine_ms: Option<u64>,
    /// From the quarantine's step to the intruder's last accepted publish; zero: it came before.
    pub quarantine_to_last_accepted_ms: Option<u64>,
    /// From the revocation's step, seen by the intruder. Zero: the last success came before it.
    pub revoke_to_last_accepted_ms: Option<u64>,
    pub revoke_to_closed_ms: Option<u64>,
    pub reconnect_refused: bool,
    pub reenroll_refused: bool,
    /// Every other way in that was tried: the people's door, a neighbour.
    pub elsewhere_refused: bool,
    /// The agent killed first, its old reports replayed: did an incident open all the same?
    pub incident_with_agent_dead: bool,
    /// Devices not attacked in the story; one less once the second one was.
    pub others: usize,
    pub others_after_second: usize,
    pub others_disconnected: u64,
    /// Cut off without being attacked.
    pub others_contained: u64,
    pub others_reconnected_after_kill: usize,
    pub sessions_forgotten: u64,
    pub audit_entries: usize,
    pub audit_verified: bool,
    pub audit_warnings: Vec<String>,
    pub durability: &'static str,
    pub seed: u64,
    /// What was staged so that a story of a month fits into a minute.
    pub staged: Vec<&'static str>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Isolation {
    pub kind: &'static str,
    pub why_not_more: Option<String>,
    /// What separates devices from each other and from the plane, and what does not.
    pub separated: Vec<&'static str>,
    pub not_separated: Vec<&'static str>,
}

impl Report {
    /// # Errors
    /// None for these types.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// Promises that did not hold, in words; empty if all did.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut promise = |held: bool, what: String| {
            if !held {
                broken.push(what);
            }
        };
        promise(
            self.enrolled == self.devices,
            format!("{} of {} devices enrolled", self.enrolled, self.devices),
        );
        promise(
            self.messages_delivered > 0 && self.lost == 0 && self.sessions_forgotten == 0,
            format!("{} acknowledged messages were lost", self.lost),
        );
        let missing: Vec<&str> = EXPECTED
            .into_iter()
            .filter(|kind| !self.deviations.contains_key(*kind))
            .collect();
        let isolated = self.isolation.kind == "namespaces";
        promise(
            !isolated || missing.is_empty(),
            format!("not seen: {}", missing.join(", ")),
        );
        promise(
            !isolated || self.seen_from_outside() >= OUTSIDE_MIN,
            format!("only {} kinds seen from outside", self.seen_from_outside()),
        );
        promise(
            self.start_to_incident_s
                .is_some_and(|s| s <= f64::from(self.incident_within_s)),
            format!("no incident within {} s", self.incident_within_s),
        );
        promise(
            self.alert_to_quarantine_ms.is_some(),
            "the hijacked device was not quarantined".into(),
        );
        promise(
            self.revoke_to_closed_ms.is_some(),
            "the intruder's session was not closed".into(),
        );
        promise(
            self.reconnect_refused && self.reenroll_refused && self.elsewhere_refused,
            "the intruder found a way back".into(),
        );
        promise(
            self.incident_with_agent_dead,
            "no incident with the agent dead and its reports replayed".into(),
        );
        promise(
            self.others_disconnected == 0 && self.others_contained == 0,
            format!(
                "{} others disconnected, {} contained",
                self.others_disconnected, self.others_contained
            ),
        );
        promise(
            self.others_reconnected_after_kill == self.others_after_second,
            format!(
                "{} of {} others came back after the plane was killed",
                self.others_reconnected_after_kill, self.others_after_second
            ),
        );
        promise(self.audit_verified, "the log did not verify".into());
        broken
    }

    /// Of the expected kinds, those that somebody other than the device saw.
    #[must_use]
    pub fn seen_from_outside(&self) -> usize {
        EXPECTED
            .iter()
            .filter_map(|kind| self.deviations.get(*kind))
            .filter(|sources| sources.iter().any(|source| source != "device"))
            .count()
    }

    /// The same for a person.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        let ms = |value: Option<u64>| value.map_or("never".to_owned(), |ms| format!("{ms} ms"));
        let mut lines = vec![
            format!(
                "seen: {} of 7 kinds of deviation, {} of them from outside the device",
                EXPECTED
                    .iter()
                    .filter(|kind| self.deviations.contains_key(**kind))
                    .count(),
                self.seen_from_outside()
            ),
            format!(
                "first deed to alert {}, alert to quarantine {}; {} of {} others disconnected",
                ms(self.hijack_to_alert_ms),
                ms(self.alert_to_quarantine_ms),
                self.others_disconnected,
                self.others
            ),
            format!(
                "{} messages acknowledged, {} heard, {} lost (durability {})",
                self.messages_sent, self.messages_delivered, self.lost, self.durability
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
        ];
        let broken = self.broken();
        if broken.is_empty() {
            lines.push("every promise held".into());
        } else {
            lines.extend(
                broken
                    .iter()
                    .map(|what| format!("A PROMISE WAS BROKEN: {what}")),
            );
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Report {
        let by = |source: &str| BTreeSet::from([source.to_owned()]);
        Report {
            isolation: Isolation {
                kind: "namespaces",
                ..Isolation::default()
            },
            devices: 12,
            enrolled: 12,
            messages_sent: 100,
            messages_delivered: 100,
            deviations: EXPECTED
                .into_iter()
                .map(|kind| {
                    let source = if kind == "firmware-drift" {
                        "device"
                    } else {
                        "network"
                    };
                    (kind.to_owned(), by(source))
                })
                .collect(),
            start_to_incident_s: Some(20.0),
            incident_within_s: 45,
            hijack_to_alert_ms: Some(900),
            alert_to_quarantine_ms: Some(10),
            revoke_to_closed_ms: Some(2),
            reconnect_refused: true,
            reenroll_refused: true,
            elsewhere_refused: true,
            incident_with_agent_dead: true,
            others: 11,
            others_after_second: 10,
            others_reconnected_after_kill: 10,
            audit_verified: true,
            ..Report::default()
        }
    }

    #[test]
    fn each_promise_can_be_broken() {
        assert_eq!(kept().broken(), Vec::<String>::new());
        let breaks: [fn(&mut Report); 15] = [
            |r| r.enrolled = 11,
            |r| r.lost = 1,
            |r| r.sessions_forgotten = 1,
            |r| drop(r.deviations.remove("dns-spike")),
            |r| {
                r.deviations
                    .values_mut()
                    .for_each(|by| *by = ["device".to_owned()].into())
            },
            |r| r.start_to_incident_s = Some(45.1),
            |r| r.alert_to_quarantine_ms = None,
            |r| r.revoke_to_closed_ms = None,
            |r| r.reconnect_refused = false,
            |r| r.reenroll_refused = false,
            |r| r.elsewhere_refused = false,
            |r| r.incident_with_agent_dead = false,
            |r| r.others_contained = 1,
            |r| r.others_reconnected_after_kill = 9,
            |r| r.audit_verified = false,
        ];
        for (index, change) in breaks.into_iter().enumerate() {
            let mut report = kept();
            change(&mut report);
            assert_eq!(report.broken().len(), 1, "change {index}");
        }
    }

    #[test]
    fn without_namespaces_only_what_can_be_seen_is_promised() {
        let mut report = kept();
        report.isolation.kind = "processes";
        report.deviations.remove("outbound-volume");
        assert!(report.broken().is_empty());
    }
}
