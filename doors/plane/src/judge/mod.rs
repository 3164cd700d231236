//! The three machines that judge, one behind the other: detector → alerts → responder.
//!
//! Plain calls on plain values: the world's part (time, rows, shards, letters) is in
//! [`crate::flow::judge`]. Changed by one judgement at a time, read by the API.

mod budget;
pub mod signals;
mod told;

use access::DefenderTopic;
use budget::Budget;
use detection::device_defender::{self, Form};
use detection::{
    Alert, AlertChange, AlertId, Alerts, DefenderRefusal, DefenderReport, DefenderReports,
    Detector, Deviation, Observation, Report,
};
use identity::Registry;
use model::{DeviceId, IncidentId, Principal, ProductId, Subject, Timestamp};
use response::{
    AlertSeen, Effect, Incident, Outcome, PersonAct, Responder, Token, UnknownIncident,
};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
pub use told::{alert_of, learned_keys};

/// How long the number of devices of a product is believed.
const SIZES_KEPT: Duration = Duration::from_secs(30);

pub struct Judgement {
    pub detector: Detector,
    pub alerts: Alerts,
    pub responder: Responder,
    budget: Budget,
    defender_reports: DefenderReports,
    /// The shortest time between two reports of a Device Defender agent.
    defender_seconds_min: Duration,
    sizes: Sizes,
    /// Alerts that changed since they were last kept.
    changed: BTreeSet<AlertId>,
    /// What was kept last.
    kept_until: Timestamp,
    // One buffer each, used again and again.
    deviations: Vec<Deviation>,
    changes: Vec<AlertChange>,
}

#[derive(Default)]
struct Sizes {
    of_product: HashMap<ProductId, u64>,
    fleet: u64,
    counted_at: Option<Timestamp>,
}

/// What came of a batch.
#[derive(Default)]
pub struct Judged {
    /// To be carried out, in this order.
    pub effects: Vec<Effect>,
    /// Alerts that are new or changed, for screens.
    pub alerts: Vec<AlertId>,
    /// What agents of Device Defender are answered.
    pub answers: Vec<Answer>,
}

/// A word to a device on one of the plane's own channels.
pub struct Answer {
    pub device: DeviceId,
    pub topic: String,
    pub payload: Vec<u8>,
}

impl Judgement {
    #[must_use]
    pub fn new(
        detector: Detector,
        alerts: Alerts,
        responder: Responder,
        defender_seconds_min: Duration,
    ) -> Self {
        Self {
            detector,
            alerts,
            responder,
            budget: Budget::default(),
            defender_reports: DefenderReports::default(),
            defender_seconds_min,
            sizes: Sizes::default(),
            changed: BTreeSet::new(),
            kept_until: Timestamp::default(),
            deviations: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Judges one observation. What its subject has said too much of in this second is counted and
    /// left out.
    pub fn observe(&mut self, seen: &Observation, registry: &Registry, out: &mut Judged) {
        if !self.budget.takes(seen) {
            return;
        }
        if let Subject::Device(device) = &seen.subject {
            self.introduce(device, registry);
        }
        self.detector.observe(seen, &mut self.deviations);
        self.raise(seen.at, registry, out);
    }

    /// Judges a device's report of itself, which is read here and nowhere else.
    ///
    /// # Errors
    /// It is no report; whoever made the device must act.
    pub fn report(
        &mut self,
        device: &DeviceId,
        payload: &[u8],
        at: Timestamp,
        registry: &Registry,
        out: &mut Judged,
    ) -> Result<(Report, Vec<Observation>), detection::ReportError> {
        let report = Report::read(payload)?;
        let observations = report.observations(device, at);
        for seen in &observations {
            self.observe(seen, registry, out);
        }
        Ok((report, observations))
    }

    /// Judges what an agent of Device Defender reported of its device, and answers it.
    ///
    /// # Errors
    /// It is refused; the agent is told.
    pub fn defender_report(
        &mut self,
        device: &DeviceId,
        topic: DefenderTopic<'_>,
        payload: &[u8],
        at: Timestamp,
        registry: &Registry,
        out: &mut Judged,
    ) -> Result<Vec<Observation>, DefenderRefusal> {
        let form = if topic.cbor { Form::Cbor } else { Form::Json };
        let read = DefenderReport::read(form, payload).and_then(|report| {
            let min = self.defender_seconds_min;
            let since_last = self.defender_reports.admit(device, &report, min, at)?;
            Ok((report, since_last))
        });
        let (answer, judged) = match read {
            Ok((report, since_last)) => {
                let observations = report.observations(device, since_last, at);
                for seen in &observations {
                    self.observe(seen, registry, out);
                }
                let answer = device_defender::accepted(form, topic.thing, report.report_id, at);
                (answer, Ok(observations))
            }
            Err(refusal) => {
                let answer = device_defender::rejected(form, topic.thing, &refusal, at);
                (answer, Err(refusal))
            }
        };
        out.answers.push(Answer {
            device: device.clone(),
            topic: topic.answer(judged.is_ok()),
            payload: answer,
        });
        judged
    }

    /// What time alone brings.
    pub fn wake(&mut self, now: Timestamp, registry: &Registry, out: &mut Judged) {
        self.detector.wake(now, &mut self.deviations);
        self.raise(now, registry, out);
        self.alerts.wake(now, &mut self.changes);
        self.respond(now, registry, out);
        self.responder.wake(now, &mut out.effects);
    }

    /// When [`Judgement::wake`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        [
            self.detector.next_deadline(),
            self.alerts.next_deadline(),
            self.responder.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// A person decided.
    ///
    /// # Errors
    /// The incident to be closed is not open.
    pub fn person(
        &mut self,
        act: &PersonAct,
        now: Timestamp,
        out: &mut Judged,
    ) -> Result<IncidentId, UnknownIncident> {
        self.responder.person(act, now, &mut out.effects)
    }

    /// An effect has been carried out, or could not be.
    pub fn done(&mut self, token: Token, outcome: Outcome, now: Timestamp, out: &mut Judged) {
        self.responder.done(token, &outcome, now, &mut out.effects);
    }

    /// Observations left out because their subject had said too much.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.budget.left_out()
    }

    /// The incident that is worked on about this subject.
    #[must_use]
    pub fn open_incident(&self, subject: &Subject) -> Option<IncidentId> {
        let about = |one: &&Incident| {
            one.is_open() && one.about == response::About::Subject(subject.clone())
        };
        self.responder.incidents().find(about).map(|one| one.id)
    }

    /// Alerts that must be kept again, and from here on are.
    pub fn take_changed(&mut self) -> Vec<Alert> {
        let until = self.kept_until;
        let mut newest = until;
        let changed = std::mem::take(&mut self.changed);
        let alerts = self.alerts.iter().filter(|alert| {
            newest = newest.max(alert.last_seen);
            // What only counts up is no change, but is worth keeping.
            alert.last_seen > until || changed.contains(&alert.id)
        });
        let alerts = alerts.cloned().collect();
        self.kept_until = newest;
        alerts
    }

    /// The detector learns of a device that is on record.
    pub fn introduce(&mut self, device: &DeviceId, registry: &Registry) {
        // Each time: the list may have moved it to another product, with another baseline.
        if let Some(known) = registry.device(device) {
            self.detector.enroll(device, known.product);
        }
    }

    fn raise(&mut self, now: Timestamp, registry: &Registry, out: &mut Judged) {
        for deviation in self.deviations.drain(..) {
            self.alerts.raise(&deviation, &mut self.changes);
        }
        self.respond(now, registry, out);
    }

    fn respond(&mut self, now: Timestamp, registry: &Registry, out: &mut Judged) {
        if self.changes.is_empty() {
            return;
        }
        self.sizes.count(now, registry);
        for change in std::mem::take(&mut self.changes) {
            let (raised, others) = match change {
                AlertChange::Raised(id) | AlertChange::Grew(id) => (Some(id), Vec::new()),
                AlertChange::FleetEvent { event, folded } => (Some(event), folded),
                AlertChange::Closed(id) => (None, vec![id]),
            };
            self.changed.extend(raised.iter().chain(&others));
            out.alerts.extend(raised.iter().chain(&others));
            let alert = raised.and_then(|id| self.alerts.alert(id));
            if let Some(alert) = alert {
                let seen = self.sizes.alert_seen(alert, now, registry);
                self.responder.alert(&seen, now, &mut out.effects);
            }
        }
    }
}

impl Sizes {
    fn count(&mut self, now: Timestamp, registry: &Registry) {
        let is_fresh = self
            .counted_at
            .is_some_and(|at| now.since(at) < SIZES_KEPT && at <= now);
        if is_fresh {
            return;
        }
        self.of_product.clear();
        self.fleet = 0;
        for device in registry.devices().filter(|device| device.enrolled) {
            self.fleet += 1;
            match self.of_product.get_mut(device.product) {
                Some(count) => *count += 1,
                None => {
                    self.of_product.insert(device.product.clone(), 1);
                }
            }
        }
        self.counted_at = Some(now);
    }

    fn alert_seen(&self, alert: &Alert, now: Timestamp, registry: &Registry) -> AlertSeen {
        let device = alert.subject.device();
        let principal = device.map(|device| Principal::Device(device.clone()));
        AlertSeen {
            subject: alert.subject.clone(),
            group_size: (alert.group.as_ref())
                .and_then(|group| self.of_product.get(group).copied())
                .unwrap_or(alert.group_size),
            device_group: alert.group.clone(),
            fleet_size: self.fleet,
            kind: alert.kind,
            entity: alert.entity.clone(),
            expected: alert.expected.clone(),
            seen: alert.seen.clone(),
            since: alert.since,
            at: now,
            source: alert.source,
            attribution: alert.attribution,
            severity: alert.severity,
            observed_by: alert.observed_by.clone(),
            fleet_event: alert.fleet_event,
            accepted_baseline: alert.accepted_baseline,
            revoked: principal
                .is_some_and(|principal| registry.principal_revocation(&principal).is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use detection::{AlertSettings, Settings};
    use identity::Fact;

    #[test]
    fn a_device_that_moved_is_judged_by_its_new_products_baseline() {
        let mut judgement = Judgement::new(
            Detector::new(Settings::default()),
            Alerts::new(AlertSettings::default()),
            Responder::new(response::Settings::default()),
            Duration::ZERO,
        );
        let device: DeviceId = "cam-1".parse().unwrap();
        let mut registry = Registry::new();
        for product in ["camera", "doorbell"] {
            let expected = Fact::DeviceExpected {
                manufacturer: "acme".parse().unwrap(),
                serial: "1".parse().unwrap(),
                device: device.clone(),
                product: product.parse().unwrap(),
                groups: Vec::new(),
            };
            registry.apply(&expected).unwrap();
            judgement.introduce(&device, &registry);
        }
        let devices: Vec<(String, u64)> = (judgement.detector.baselines().iter())
            .filter(|one| one.devices > 0)
            .map(|one| (one.product.to_string(), one.devices))
            .collect();
        assert_eq!(devices, [("doorbell".to_owned(), 1)]);
    }
}
