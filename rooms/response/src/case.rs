//! One incident being worked on within one call: what changes in it and what it will say.

use crate::effect::{AlertSeen, Effect, Held, Token};
use crate::incident::{About, Act, Asked, Evidence, Incident, IncidentState, Step};
use crate::text::printable;
use model::{Attribution, Containment, DeviationKind, IncidentId, Severity, Source, Timestamp};
use std::collections::BTreeSet;

/// Evidence told in one message.
const MESSAGE_EVIDENCE_MAX: usize = 16;

pub(crate) struct Case {
    pub incident: Incident,
    pub now: Timestamp,
    is_new: bool,
    /// Worth storing.
    changed: bool,
    closes: bool,
    steps: Vec<Step>,
    asks: Vec<Effect>,
}

impl Case {
    pub fn open(id: IncidentId, about: About, now: Timestamp) -> Self {
        let incident = Incident {
            id,
            about,
            state: IncidentState::Open,
            severity: Severity::Low,
            opened_at: now,
            changed_at: now,
            closed_at: None,
            containment: None,
            revoked: false,
            evidence: Vec::new(),
            evidence_unlisted: 0,
            evidence_steps: 0,
            acts: Vec::new(),
            acts_numbered: 0,
            runs: Vec::new(),
            group: None,
            group_size: 0,
            fleet_size: 0,
        };
        let mut case = Self::resume(incident, now);
        case.is_new = true;
        case
    }

    pub fn resume(incident: Incident, now: Timestamp) -> Self {
        Self {
            incident,
            now,
            is_new: false,
            changed: false,
            closes: false,
            steps: Vec::new(),
            asks: Vec::new(),
        }
    }

    pub fn is_new(&self) -> bool {
        self.is_new
    }

    pub fn touch(&mut self) {
        self.changed = true;
        self.incident.changed_at = self.incident.changed_at.max(self.now);
    }

    /// Hands out what the call changed: first what is to be stored, then what is to be done.
    pub fn finish(self, out: &mut Vec<Effect>) -> Incident {
        let Self {
            incident,
            is_new,
            changed,
            closes,
            steps,
            asks,
            ..
        } = self;
        if is_new {
            out.push(Effect::Open(Box::new(incident.clone())));
        } else if changed && !closes {
            out.push(Effect::Changed(Box::new(incident.clone())));
        }
        let id = incident.id;
        out.extend(steps.into_iter().map(|step| Effect::Step(id, step)));
        out.extend(asks);
        if closes {
            out.push(Effect::Close(Box::new(incident.clone())));
        }
        incident
    }

    pub fn say(&mut self, actor: &str, what: &str, entry: Option<u64>) {
        self.steps.push(Step {
            at: self.now,
            actor: printable(actor),
            what: printable(what),
            expected: None,
            seen: None,
            source: None,
            attribution: None,
            observed_by: None,
            entry,
        });
        self.touch();
    }

    pub fn hold(&mut self, playbook: &str, action: &str, why: Held) {
        self.say(
            &format!("playbook/{playbook}"),
            &format!("held: would {action}, but {why}"),
            None,
        );
        self.asks.push(Effect::Held {
            incident: self.incident.id,
            playbook: playbook.to_owned(),
            why,
        });
    }

    /// Records that something is asked for, says so, and asks.
    pub fn ask(&mut self, asked: Asked, by: &str, what: &str) -> Option<Token> {
        let number = self.incident.acts_numbered.checked_add(1)?;
        let token = self.incident.token(number);
        let effect = self.effect(token, &asked, by)?;
        self.note(number, asked, by);
        self.say(by, what, None);
        self.asks.push(effect);
        Some(token)
    }

    /// Records an act without asking for it.
    pub fn note(&mut self, number: u32, asked: Asked, by: &str) {
        self.incident.acts_numbered = number;
        let acts = &mut self.incident.acts;
        if acts.len() >= Incident::ACTS_MAX {
            let spare = (acts.iter())
                .position(|act| act.outcome.is_some() && !act.by.starts_with("playbook/"));
            if let Some(spare) = spare {
                acts.remove(spare);
            }
        }
        acts.push(Act {
            number,
            asked,
            by: printable(by),
            asked_at: self.now,
            outcome: None,
        });
        self.touch();
    }

    /// Asks again for an act whose outcome nobody knows.
    pub fn ask_again(&mut self, act: &Act) {
        let token = self.incident.token(act.number);
        if let Some(effect) = self.effect(token, &act.asked, &act.by) {
            self.say(
                &act.by,
                "asked again: how it ended is not known after a restart",
                None,
            );
            self.asks.push(effect);
        }
    }

    fn effect(&self, token: Token, asked: &Asked, by: &str) -> Option<Effect> {
        let incident = self.incident.id;
        let by = by.to_owned();
        if let Asked::Notify { to, why } = asked {
            let (subject, text) = message(&self.incident, why);
            return Some(Effect::Notify {
                token,
                incident,
                to: to.clone(),
                subject,
                text,
            });
        }
        let device = self.incident.about.device()?.clone();
        Some(match asked {
            Asked::Contain(containment) => Effect::Contain {
                token,
                device,
                containment: *containment,
                incident,
                by,
            },
            Asked::Revoke => Effect::Revoke {
                token,
                device,
                incident,
                by,
            },
            Asked::Restore => Effect::Restore {
                token,
                device,
                incident,
                by,
            },
            Asked::Notify { .. } => return None,
        })
    }

    pub fn close(&mut self) {
        self.incident.state = IncidentState::Closed;
        self.incident.closed_at = Some(self.now);
        self.closes = true;
        self.touch();
    }

    /// True if it was news, so that playbooks should look: a new kind or entity, or a surer view.
    pub fn learn(&mut self, alert: &AlertSeen) -> bool {
        let incident = &mut self.incident;
        incident.group.clone_from(&alert.device_group);
        incident.group_size = alert.group_size;
        incident.fleet_size = alert.fleet_size;
        let seen = evidence_of(alert, self.now);
        let news = match find(&mut incident.evidence, &seen) {
            Some(known) => known.add(seen),
            None => self.list(seen),
        };
        let incident = &mut self.incident;
        let severity = incident.evidence.iter().map(|one| one.severity).max();
        incident.severity = severity.unwrap_or(incident.severity).max(incident.severity);
        if !news {
            // Counts alone are stored with the next thing that happens.
            return false;
        }
        self.touch();
        if self.incident.evidence_steps < Incident::EVIDENCE_STEPS_MAX {
            self.incident.evidence_steps += 1;
            let last = self.incident.evidence_steps == Incident::EVIDENCE_STEPS_MAX;
            self.steps.push(evidence_step(alert, self.now, last));
        }
        true
    }

    /// A place for evidence of a kind and entity that has none; a full kind gives up its weakest.
    fn list(&mut self, seen: Evidence) -> bool {
        let evidence = &mut self.incident.evidence;
        let of_kind = evidence.iter().filter(|one| one.kind == seen.kind).count();
        if of_kind >= Incident::EVIDENCE_PER_KIND_MAX {
            self.incident.evidence_unlisted = self.incident.evidence_unlisted.saturating_add(1);
            let weakest = (evidence.iter().enumerate())
                .filter(|(_, one)| one.kind == seen.kind)
                .min_by_key(|(_, one)| (one.sureness(), one.at))
                .map(|(index, one)| (index, one.sureness()));
            match weakest {
                Some((index, sureness)) if sureness <= seen.sureness() => {
                    evidence.remove(index);
                }
                _ => return false,
            }
        }
        evidence.push(seen);
        true
    }

    /// Kinds that a playbook may count: surely seen since `after`, and of these those seen by
    /// somebody other than the device.
    pub fn sure_kinds(
        &self,
        of: &[DeviationKind],
        severity_min: Severity,
        after: Timestamp,
    ) -> (BTreeSet<DeviationKind>, BTreeSet<DeviationKind>) {
        let counted = |at: fn(&Evidence) -> Option<Timestamp>| {
            (self.incident.evidence.iter())
                .filter(|one| of.contains(&one.kind) && one.severity >= severity_min)
                .filter(|one| at(one).is_some_and(|at| at >= after))
                .map(|one| one.kind)
                .collect()
        };
        (counted(|one| one.sure_at), counted(|one| one.outside_at))
    }

    /// Things in this call that await a person, other than what a playbook only observes.
    pub fn awaits_person(&self) -> usize {
        (self.asks.iter())
            .filter(|ask| matches!(ask, Effect::Held { why, .. } if *why != Held::Observes))
            .count()
    }

    /// What is in force, or asked for and not known to have failed.
    pub fn containment_meant(&self) -> Option<Containment> {
        let asked = (self.incident.acts.iter())
            .filter(|act| act.outcome.is_none())
            .filter_map(|act| match act.asked {
                Asked::Contain(containment) => Some(containment),
                _ => None,
            });
        asked.chain(self.incident.containment).max()
    }

    pub fn revocation_meant(&self) -> bool {
        self.incident.revoked
            || (self.incident.acts.iter())
                .any(|act| act.outcome.is_none() && act.asked == Asked::Revoke)
    }
}

impl Evidence {
    /// 3: proven from outside; 2: proven, told by the device; 1: proven against a baseline that
    /// nobody accepted; 0: not proven.
    fn sureness(&self) -> u8 {
        match (self.outside_at, self.sure_at, self.attribution) {
            (Some(_), ..) => 3,
            (None, Some(_), _) => 2,
            (None, None, Attribution::Proven) => 1,
            (None, None, _) => 0,
        }
    }

    /// Merges a later sight of the same; true if that made it surer or worse.
    fn add(&mut self, seen: Self) -> bool {
        let (before, severity_before) = (self.sureness(), self.severity);
        self.count = self.count.saturating_add(seen.count);
        self.at = self.at.max(seen.at);
        self.since = self.since.min(seen.since);
        let sureness = seen.sureness();
        if sureness > before {
            // How bad it is, too, is told by who is surest: a claim must not make a trifle grave.
            self.severity = seen.severity;
        } else if sureness == before {
            self.severity = self.severity.max(seen.severity);
        }
        if sureness >= before {
            self.expected = seen.expected;
            self.seen = seen.seen;
            self.source = seen.source;
            self.attribution = seen.attribution;
            self.observed_by = seen.observed_by;
        }
        self.sure_at = self.sure_at.max(seen.sure_at);
        self.outside_at = self.outside_at.max(seen.outside_at);
        self.sureness() > before || self.severity > severity_before
    }
}

fn find<'a>(evidence: &'a mut [Evidence], seen: &Evidence) -> Option<&'a mut Evidence> {
    (evidence.iter_mut()).find(|one| one.kind == seen.kind && one.entity == seen.entity)
}

/// Nothing was seen later than now: a time ahead would count for longer than it may.
fn evidence_of(alert: &AlertSeen, now: Timestamp) -> Evidence {
    let at = alert.at.min(now);
    Evidence {
        kind: alert.kind,
        entity: printable(&alert.entity),
        expected: printable(&alert.expected),
        seen: printable(&alert.seen),
        since: alert.since,
        at,
        count: 1,
        source: alert.source,
        attribution: alert.attribution,
        severity: alert.severity,
        observed_by: printable(&alert.observed_by),
        sure_at: alert.is_sure().then_some(at),
        outside_at: alert.is_outside().then_some(at),
    }
}

/// What leaves the house about an incident: one line, and a text.
fn message(incident: &Incident, why: &str) -> (String, String) {
    let id = incident.id;
    let title = incident.title();
    let severity = incident.severity.name();
    let subject = printable(&format!("[{severity}] {id} {title} ({why})"));
    let mut text = format!("{id}: {title}\nstate: {}", incident.state.name());
    if incident.revoked {
        text.push_str(", revoked");
    } else if let Some(containment) = incident.containment {
        text.push_str(&format!(", {}", containment.name()));
    }
    text.push_str(&format!("\nopened: {}\n", incident.opened_at));
    for one in incident.evidence.iter().take(MESSAGE_EVIDENCE_MAX) {
        text.push_str(&format!(
            "\n{} ({}, {}, seen by {})\n  expected: {}\n  seen: {}\n  since: {}\n",
            one.kind,
            one.severity.name(),
            one.attribution.name(),
            one.observed_by,
            one.expected,
            one.seen,
            one.since
        ));
    }
    (subject, text)
}

fn evidence_step(alert: &AlertSeen, now: Timestamp, last: bool) -> Step {
    let mut what = match (alert.attribution, alert.source) {
        (Attribution::Proven, Source::Device) => format!("{}, as the device says", alert.kind),
        (Attribution::Proven, _) => alert.kind.to_string(),
        (unsure, _) => format!("{}, by {} only", alert.kind, unsure.name()),
    };
    if last {
        what.push_str("; more evidence is counted and not listed");
    }
    Step {
        at: now,
        actor: "detection".to_owned(),
        what,
        expected: Some(printable(&alert.expected)),
        seen: Some(printable(&alert.seen)),
        source: Some(alert.source),
        attribution: Some(alert.attribution),
        observed_by: Some(printable(&alert.observed_by)),
        entry: None,
    }
}
