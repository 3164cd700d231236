//! A plane that does what it is told, and keeps what it did.

use model::{
    Attribution, Containment, DeviationKind, DeviceId, IncidentId, Severity, Source, Subject,
    Timestamp,
};
use response::{
    AlertSeen, Decision, Effect, Held, Incident, Outcome, PersonAct, Playbook, Remembered,
    Responder, Settings, Step, Token,
};
use std::collections::{BTreeMap, BTreeSet};

/// What was done to a device, when, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub token: Token,
    pub at: Timestamp,
    pub device: DeviceId,
    pub by: String,
    pub what: &'static str,
}

pub struct World {
    pub responder: Responder,
    pub now: Timestamp,
    pub settings: Settings,
    pub playbooks: Vec<Playbook>,
    /// As a store would keep them.
    pub stored: BTreeMap<IncidentId, Vec<u8>>,
    pub steps: BTreeMap<IncidentId, Vec<Step>>,
    pub taken: Vec<Taken>,
    pub held: Vec<(IncidentId, String, Held)>,
    pub notified: Vec<(Token, String, String, String)>,
    pub closed: Vec<IncidentId>,
    pub contained: BTreeMap<DeviceId, Containment>,
    pub revoked: BTreeSet<DeviceId>,
    /// Answers nothing, as if a crash came between.
    pub is_mute: bool,
    pub unanswered: Vec<Token>,
}

impl World {
    pub fn new(settings: Settings, playbooks: &str) -> Self {
        let playbooks = match response::playbook::read("playbooks/test.toml", playbooks) {
            Ok(playbooks) => playbooks,
            Err(wrong) => panic!("{wrong:?}"),
        };
        let mut responder = Responder::new(settings.clone());
        responder.playbooks(playbooks.clone());
        Self {
            responder,
            now: Timestamp::from_seconds(1_800_000_000),
            settings,
            playbooks,
            stored: BTreeMap::new(),
            steps: BTreeMap::new(),
            taken: Vec::new(),
            held: Vec::new(),
            notified: Vec::new(),
            closed: Vec::new(),
            contained: BTreeMap::new(),
            revoked: BTreeSet::new(),
            is_mute: false,
            unanswered: Vec::new(),
        }
    }

    pub fn with(playbooks: &str) -> Self {
        Self::new(Settings::default(), playbooks)
    }

    pub fn alert(&mut self, mut alert: AlertSeen) {
        alert.at = self.now;
        alert.revoked = (alert.subject.device()).is_some_and(|d| self.revoked.contains(d));
        let mut out = Vec::new();
        self.responder.alert(&alert, self.now, &mut out);
        self.carry_out(out);
    }

    pub fn person(&mut self, decision: Decision) {
        let act = PersonAct {
            actor: "admin/a1".into(),
            reason: "as I see it".into(),
            decision,
            outcome: None,
        };
        let mut out = Vec::new();
        let _ = self.responder.person(&act, self.now, &mut out);
        self.carry_out(out);
    }

    /// Time passes; what is due on the way happens when it is due.
    pub fn pass(&mut self, seconds: u64) {
        let end = self.now.plus(std::time::Duration::from_secs(seconds));
        let mut turns = 0;
        while let Some(due) = self.responder.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.wake();
            turns += 1;
            assert!(turns < 1000, "it asks to be woken without end");
        }
        self.now = end;
        self.wake();
    }

    fn wake(&mut self) {
        let mut out = Vec::new();
        self.responder.wake(self.now, &mut out);
        self.carry_out(out);
    }

    /// The program ends and starts again from what was stored.
    pub fn restart(&mut self) {
        self.responder = Responder::new(self.settings.clone());
        self.responder.playbooks(self.playbooks.clone());
        let remembered = Remembered {
            incidents: self.stored.values().cloned().collect(),
            containments: self.contained.clone().into_iter().collect(),
            last_incident: self.stored.keys().last().map_or(0, |id| id.0),
        };
        let mut out = Vec::new();
        self.responder
            .restore_state(&remembered, self.now, &mut out)
            .unwrap();
        self.carry_out(out);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut known_step: BTreeMap<IncidentId, usize> = BTreeMap::new();
        let mut done = Vec::new();
        for effect in effects {
            match effect {
                Effect::Open(incident) | Effect::Changed(incident) | Effect::Close(incident) => {
                    self.store(&incident);
                }
                Effect::Step(id, step) => {
                    *known_step.entry(id).or_default() += 1;
                    self.steps.entry(id).or_default().push(step);
                }
                Effect::Held {
                    incident,
                    playbook,
                    why,
                } => {
                    assert!(known_step.contains_key(&incident), "held without a step");
                    self.held.push((incident, playbook, why));
                }
                Effect::Contain {
                    token,
                    device,
                    containment,
                    incident,
                    by,
                } => {
                    assert!(
                        known_step.contains_key(&incident),
                        "contained without a step"
                    );
                    self.was_stored(token);
                    let held = self.contained.entry(device.clone()).or_insert(containment);
                    *held = containment.max(*held);
                    self.take(token, device, by, "contain");
                    done.push(token);
                }
                Effect::Revoke {
                    token,
                    device,
                    incident,
                    by,
                } => {
                    assert!(known_step.contains_key(&incident), "revoked without a step");
                    self.was_stored(token);
                    self.revoked.insert(device.clone());
                    self.take(token, device, by, "revoke");
                    done.push(token);
                }
                Effect::Restore { token, device, .. } => {
                    self.was_stored(token);
                    self.contained.remove(&device);
                    done.push(token);
                }
                Effect::Notify {
                    token,
                    incident,
                    to,
                    subject,
                    text,
                } => {
                    assert!(known_step.contains_key(&incident), "told without a step");
                    self.was_stored(token);
                    self.notified.push((token, to, subject, text));
                    done.push(token);
                }
            }
        }
        for token in done {
            if self.is_mute {
                self.unanswered.push(token);
            } else {
                self.done(token, done_well());
            }
        }
    }

    pub fn done(&mut self, token: Token, outcome: Outcome) {
        let mut out = Vec::new();
        self.responder.done(token, &outcome, self.now, &mut out);
        self.carry_out(out);
    }

    fn take(&mut self, token: Token, device: DeviceId, by: String, what: &'static str) {
        self.taken.push(Taken {
            token,
            at: self.now,
            device,
            by,
            what,
        });
    }

    fn store(&mut self, incident: &Incident) {
        let bytes = incident.to_bytes();
        // Reading a large one is slow where nothing is optimised; small ones are many.
        if bytes.len() < 16 * 1024 {
            assert_eq!(Incident::from_bytes(&bytes).as_ref(), Ok(incident));
        }
        if !incident.is_open() && !self.closed.contains(&incident.id) {
            self.closed.push(incident.id);
        }
        self.stored.insert(incident.id, bytes);
        let same = |one: &&Incident| one.is_open() && one.about == incident.about;
        let open = self.responder.incidents().filter(same).count();
        assert!(open <= 1, "two are open: {:?}", incident.about);
    }

    /// A crash right after an act must not forget that it was asked for.
    fn was_stored(&self, token: Token) {
        let stored = Incident::from_bytes(&self.stored[&token.incident]).unwrap();
        assert!(
            stored.act(token.number).is_some(),
            "{token} was asked before it was stored"
        );
    }

    pub fn by_playbooks(&self) -> Vec<&Taken> {
        (self.taken.iter())
            .filter(|one| one.by.starts_with("playbook/"))
            .collect()
    }

    pub fn open_incident(&self, device: &str) -> Option<&Incident> {
        self.responder.open_incident_of(&id(device))
    }

    pub fn told(&self, id: IncidentId) -> Vec<&str> {
        self.steps[&id]
            .iter()
            .map(|step| step.what.as_str())
            .collect()
    }
}

pub fn done_well() -> Outcome {
    Outcome::Done {
        entry: Some(7),
        note: String::new(),
    }
}

pub fn id(device: &str) -> DeviceId {
    device.parse().unwrap()
}

/// Proven, from outside, against an accepted baseline, high.
pub fn outside(device: &str, kind: DeviationKind) -> AlertSeen {
    AlertSeen {
        subject: Subject::Device(id(device)),
        device_group: Some("camera".parse().unwrap()),
        group_size: 100,
        fleet_size: 300,
        kind,
        entity: "203.0.113.66:4444/tcp".into(),
        expected: "video.example:443".into(),
        seen: "203.0.113.66:4444/tcp, 18 kB out".into(),
        since: Timestamp::from_seconds(1_800_000_000),
        at: Timestamp::from_seconds(1_800_000_000),
        source: Source::Network,
        attribution: Attribution::Proven,
        severity: Severity::High,
        observed_by: "network (bridge port)".into(),
        fleet_event: false,
        accepted_baseline: true,
        revoked: false,
    }
}

/// As the device itself reports it.
pub fn reported(device: &str, kind: DeviationKind) -> AlertSeen {
    AlertSeen {
        source: Source::Device,
        observed_by: "device report".into(),
        ..outside(device, kind)
    }
}

/// By whoever gave its name, or had its address.
pub fn unproven(device: &str, kind: DeviationKind, attribution: Attribution) -> AlertSeen {
    AlertSeen {
        attribution,
        source: Source::Gateway,
        observed_by: "gateway".into(),
        ..outside(device, kind)
    }
}

pub const CONTAIN: &str = r#"
[contain-hijacked]
mode = "enforce"
kinds = ["unexpected-destination", "new-listening-port", "dns-spike", "outbound-volume", "denied-attempts"]
kinds_min = 2
outside_min = 1
steps = [
  { action = "quarantine" },
  { action = "notify", to = "security" },
  { action = "revoke", after_seconds = 5, when_kinds_min = 4 },
]
"#;
