//! Observations to deviations to alerts to incidents, as the plane composes the rooms.

use super::calendar::{Calendar, HOUR};
use super::life::Fleet;
use detection::{
    Alert, AlertChange, AlertSettings, AlertState, Alerts, Detector, Deviation, Observation,
};
use model::{DeviationKind, DeviceId, IncidentId, ProductId, Subject, Timestamp};
use response::{AlertSeen, Decision, Effect, Outcome, PersonAct, Playbook, Responder};
use std::collections::{BTreeMap, BTreeSet};

pub struct Pipeline {
    detector: Detector,
    alerts: Alerts,
    responder: Responder,
    devices: Vec<(DeviceId, ProductId)>,
    settings: detection::Settings,
    declared_at: u64,
    calendar: Calendar,
    observations: u64,
    deviations: u64,
    fleet_events: u64,
    raised: BTreeMap<(Subject, DeviationKind), Vec<Timestamp>>,
    incidents: Vec<Opened>,
    open: BTreeMap<IncidentId, Timestamp>,
    contained: Vec<(Timestamp, DeviceId)>,
    held: usize,
    // Kept to be used again: a new list for each of fifty million observations would show.
    said: Vec<Deviation>,
    changes: Vec<AlertChange>,
    effects: Vec<Effect>,
}

/// An incident that opened.
#[derive(Debug, Clone)]
pub struct Opened {
    pub at: Timestamp,
    pub device: Option<DeviceId>,
    pub title: String,
}

/// What happened so far.
#[derive(Debug, Clone)]
pub struct Tally {
    pub observations: u64,
    pub deviations: u64,
    pub alerts: usize,
    pub fleet_events: u64,
    pub incidents: Vec<Opened>,
}

impl Pipeline {
    pub fn new(calendar: &Calendar, fleet: &Fleet, playbook: &str) -> anyhow::Result<Self> {
        let settings = detection::Settings {
            learn_for: std::time::Duration::from_secs(calendar.learn_seconds()),
            ..detection::Settings::default()
        };
        let mut devices = Vec::with_capacity(fleet.devices.len());
        for device in &fleet.devices {
            devices.push((device.id.clone(), ProductId::new(device.kind.name())?));
        }
        let mut pipeline = Self {
            detector: Detector::new(settings.clone()),
            alerts: Alerts::new(AlertSettings::default()),
            responder: Responder::new(response::Settings::default()),
            devices,
            settings,
            declared_at: 0,
            calendar: calendar.clone(),
            observations: 0,
            deviations: 0,
            fleet_events: 0,
            raised: BTreeMap::new(),
            incidents: Vec::new(),
            open: BTreeMap::new(),
            contained: Vec::new(),
            held: 0,
            said: Vec::new(),
            changes: Vec::new(),
            effects: Vec::new(),
        };
        pipeline.responder.playbooks(read(playbook)?);
        pipeline.begin();
        Ok(pipeline)
    }

    fn begin(&mut self) {
        self.detector
            .declare(&Fleet::declared(&self.calendar, self.declared_at));
        for (device, product) in &self.devices {
            self.detector.enroll(device, product);
        }
    }

    /// The same state, as after a restart, under another playbook.
    pub fn with_playbook(&self, text: &str) -> anyhow::Result<Self> {
        let mut other = Self {
            detector: Detector::new(self.settings.clone()),
            alerts: Alerts::new(AlertSettings::default()),
            responder: Responder::new(response::Settings::default()),
            devices: self.devices.clone(),
            settings: self.settings.clone(),
            calendar: self.calendar.clone(),
            raised: BTreeMap::new(),
            incidents: Vec::new(),
            open: BTreeMap::new(),
            contained: Vec::new(),
            held: 0,
            said: Vec::new(),
            changes: Vec::new(),
            effects: Vec::new(),
            ..*self
        };
        other.responder.playbooks(read(text)?);
        other.begin();
        other
            .detector
            .restore(&self.detector.snapshot_of_groups())?;
        for part in 0..=u8::MAX {
            let kept = self.detector.snapshot_of_devices(part);
            other.detector.restore(&kept)?;
        }
        other.alerts.restore(self.alerts.iter().cloned());
        Ok(other)
    }

    /// What people do: declare what changed, accept what was learned, close what a day old is.
    pub fn on_the_hour(&mut self, hour: u64, calendar: &Calendar) {
        let changes = [calendar.cdn_declared, calendar.forgotten_rollout + 24];
        if changes.contains(&hour) {
            self.declared_at = hour;
            self.detector.declare(&Fleet::declared(calendar, hour));
        }
        // Once a week somebody reads what was learned.
        let now = calendar.at(hour * HOUR);
        let learned = hour.checked_sub(calendar.learned + 24);
        if learned.is_some_and(|hours| hours.is_multiple_of(168)) {
            for baseline in self.detector.baselines() {
                self.detector.accept(&baseline.product, now);
            }
        }
        let old: Vec<IncidentId> = (self.open.iter())
            .filter(|(_, at)| now.since(**at).as_secs() >= 24 * HOUR)
            .map(|(id, _)| *id)
            .collect();
        for incident in old {
            self.open.remove(&incident);
            let act = PersonAct {
                actor: "admin/sim".to_owned(),
                reason: "looked at".to_owned(),
                decision: Decision::Close { incident },
                outcome: None,
            };
            if self.responder.person(&act, now, &mut self.effects).is_ok() {
                self.carry_out(now);
            }
        }
    }

    pub fn take(&mut self, observation: Observation) {
        self.observations += 1;
        self.detector.observe(&observation, &mut self.said);
        if !self.said.is_empty() {
            self.pass_on(observation.at);
        }
    }

    pub fn wake(&mut self, now: Timestamp) {
        self.detector.wake(now, &mut self.said);
        self.pass_on(now);
        self.alerts.wake(now, &mut self.changes);
        self.act_on(now);
        if self.responder.next_deadline().is_some_and(|due| due <= now) {
            self.responder.wake(now, &mut self.effects);
            self.carry_out(now);
        }
    }

    fn pass_on(&mut self, now: Timestamp) {
        for deviation in self.said.drain(..) {
            self.deviations += 1;
            self.alerts.raise(&deviation, &mut self.changes);
        }
        self.act_on(now);
    }

    fn act_on(&mut self, now: Timestamp) {
        for change in std::mem::take(&mut self.changes) {
            let id = match change {
                AlertChange::Raised(id) | AlertChange::Grew(id) => id,
                AlertChange::FleetEvent { event, .. } => {
                    self.fleet_events += 1;
                    event
                }
                AlertChange::Closed(_) => continue,
            };
            let Some(alert) = self.alerts.alert(id) else {
                continue;
            };
            if !alert.fleet_event {
                let key = (alert.subject.clone(), alert.kind);
                self.raised.entry(key).or_default().push(now);
            }
            let seen = seen(alert, self.devices.len() as u64);
            self.responder.alert(&seen, now, &mut self.effects);
            self.carry_out(now);
        }
    }

    fn carry_out(&mut self, now: Timestamp) {
        let mut tokens = Vec::new();
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Open(incident) => {
                    self.open.insert(incident.id, now);
                    let kinds: BTreeSet<&str> =
                        incident.evidence.iter().map(|e| e.kind.name()).collect();
                    let kinds: Vec<&str> = kinds.into_iter().collect();
                    self.incidents.push(Opened {
                        at: now,
                        device: incident.about.device().cloned(),
                        title: format!("{}: {}", incident.about, kinds.join(", ")),
                    });
                }
                Effect::Contain { token, device, .. } | Effect::Revoke { token, device, .. } => {
                    self.contained.push((now, device));
                    tokens.push(token);
                }
                Effect::Notify { token, .. } | Effect::Restore { token, .. } => tokens.push(token),
                Effect::Held { .. } => self.held += 1,
                Effect::Close(_) | Effect::Changed(_) | Effect::Step(..) => {}
            }
        }
        for token in tokens {
            let outcome = Outcome::Done {
                entry: None,
                note: String::new(),
            };
            self.responder.done(token, &outcome, now, &mut self.effects);
            self.carry_out(now);
        }
    }

    pub fn tally(&self) -> Tally {
        Tally {
            observations: self.observations,
            deviations: self.deviations,
            alerts: self
                .alerts
                .iter()
                .filter(|a| a.state != AlertState::Folded)
                .count(),
            fleet_events: self.fleet_events,
            incidents: self.incidents.clone(),
        }
    }

    pub fn contained(&self) -> &[(Timestamp, DeviceId)] {
        &self.contained
    }

    pub const fn held(&self) -> usize {
        self.held
    }

    /// When alerts of this kind about this device were raised on their own.
    pub fn raised(&self, device: &DeviceId, kind: DeviationKind) -> &[Timestamp] {
        self.raised
            .get(&(Subject::Device(device.clone()), kind))
            .map_or(&[], Vec::as_slice)
    }
}

fn read(text: &str) -> anyhow::Result<Vec<Playbook>> {
    response::playbook::read("playbooks/month.toml", text)
        .map_err(|errors| anyhow::anyhow!("the playbook does not read: {errors:?}"))
}

fn seen(alert: &Alert, fleet_size: u64) -> AlertSeen {
    AlertSeen {
        subject: alert.subject.clone(),
        device_group: alert.group.clone(),
        group_size: alert.group_size,
        fleet_size,
        kind: alert.kind,
        entity: alert.entity.clone(),
        expected: alert.expected.clone(),
        seen: alert.seen.clone(),
        since: alert.since,
        at: alert.last_seen,
        source: alert.source,
        attribution: alert.attribution,
        severity: alert.severity,
        observed_by: alert.observed_by.clone(),
        fleet_event: alert.fleet_event,
        accepted_baseline: alert.accepted_baseline,
        revoked: false,
    }
}
