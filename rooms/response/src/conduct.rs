//! Playbooks at work: when one begins, which of its steps is due, and what stops it.

use crate::cap::{Taken, contain_max_of_all, default_max};
use crate::case::Case;
use crate::effect::Held;
use crate::incident::{Asked, Incident, Run, RunStep};
use crate::playbook::{Action, Mode, Playbook, PlaybookStep};
use crate::responder::Settings;
use model::{DeviceId, Timestamp};
use std::collections::BTreeMap;

/// Devices an hour that one playbook may cut off at least.
const CONTAIN_MAX: u64 = 5;

/// What a playbook's acts depend on beyond its incident.
pub(crate) struct Conduct<'a> {
    pub settings: &'a Settings,
    pub playbooks: &'a [Playbook],
    pub taken: &'a mut Taken,
    /// Until when a person's restoring of a device is respected.
    pub rests: &'a BTreeMap<DeviceId, Timestamp>,
    pub last_runs: &'a mut BTreeMap<String, Timestamp>,
}

impl Conduct<'_> {
    /// Begins the playbooks whose conditions are met now and takes the steps that are due.
    pub fn judge(&mut self, case: &mut Case) {
        let Some(device) = case.incident.about.device().cloned() else {
            return;
        };
        if !case.incident.is_open() || case.incident.revoked {
            return;
        }
        for playbook in self.playbooks {
            if active_run(&case.incident, playbook).is_none() {
                self.begin(case, playbook);
            }
            self.advance(case, playbook, &device);
        }
    }

    fn begin(&mut self, case: &mut Case, playbook: &Playbook) {
        let after = case.now.minus(playbook.within);
        let (sure, outside) = case.sure_kinds(&playbook.kinds, playbook.severity_min, after);
        if count(sure.len()) < playbook.kinds_min || count(outside.len()) < outside_min(playbook) {
            self.say_what_is_unproven(case, playbook);
            return;
        }
        let kinds: Vec<&str> = sure.into_iter().map(|kind| kind.name()).collect();
        case.say(
            &format!("playbook/{}", playbook.name),
            &format!(
                "began ({}): {}; seen from outside the device: {}",
                playbook.mode.name(),
                kinds.join(", "),
                outside.len()
            ),
            None,
        );
        let run = Run {
            playbook: playbook.name.clone(),
            mode: playbook.mode,
            started_at: case.now,
            checked_at: case.now,
            steps: vec![RunStep::Waiting; playbook.steps.len()],
            ended: false,
        };
        case.incident
            .runs
            .retain(|other| other.playbook != playbook.name);
        case.incident.runs.push(run);
        self.last_runs.insert(playbook.name.clone(), case.now);
    }

    /// Says once that it would have begun, were it all proven: a person should look.
    fn say_what_is_unproven(&self, case: &mut Case, playbook: &Playbook) {
        let claimed = (case.incident.evidence.iter())
            .filter(|one| playbook.kinds.contains(&one.kind))
            .filter(|one| one.severity >= playbook.severity_min)
            .map(|one| one.kind)
            .collect::<std::collections::BTreeSet<_>>();
        let said = (case.incident.runs.iter()).any(|run| run.playbook == playbook.name);
        if said || count(claimed.len()) < playbook.kinds_min {
            return;
        }
        // An ended run without steps stands for "said"; real evidence replaces it.
        case.incident.runs.push(Run {
            playbook: playbook.name.clone(),
            mode: playbook.mode,
            started_at: case.now,
            checked_at: case.now,
            steps: Vec::new(),
            ended: true,
        });
        case.hold(&playbook.name, "begin", Held::NotProven);
    }

    fn advance(&mut self, case: &mut Case, playbook: &Playbook, device: &DeviceId) {
        let Some(run) = active_run(&case.incident, playbook) else {
            return;
        };
        let started_at = run.started_at;
        let now = case.now;
        let waiting: Vec<usize> = (run.steps.iter().enumerate())
            .filter(|(_, step)| **step == RunStep::Waiting)
            .map(|(index, _)| index)
            .collect();
        if let Some(run) = run_of(&mut case.incident, playbook) {
            run.checked_at = now;
        }
        for index in waiting {
            let Some(step) = playbook.steps.get(index) else {
                continue;
            };
            if !is_due(case, playbook, step, started_at) {
                continue;
            }
            let next = self.take_step(case, playbook, step, device);
            let run = run_of(&mut case.incident, playbook);
            if let Some(slot) = run.and_then(|run| run.steps.get_mut(index)) {
                *slot = next;
                case.touch();
            }
        }
    }

    fn take_step(
        &mut self,
        case: &mut Case,
        playbook: &Playbook,
        step: &PlaybookStep,
        device: &DeviceId,
    ) -> RunStep {
        let action = &step.action;
        let hold = |case: &mut Case, why| {
            case.hold(&playbook.name, &action.to_string(), why);
            RunStep::Held
        };
        if playbook.mode == Mode::Observe {
            return hold(case, Held::Observes);
        }
        let by = format!("playbook/{}", playbook.name);
        let asked = match action {
            Action::Notify { to } => {
                let to = to.clone();
                let what = format!("notifies {to}");
                let why = format!("playbook {}", playbook.name);
                let asked = Asked::Notify { to, why };
                return (case.ask(asked, &by, &what))
                    .map_or(RunStep::Held, |token| RunStep::Asked(token.number));
            }
            Action::Revoke => Asked::Revoke,
            Action::Quarantine | Action::Isolate => {
                let Some(containment) = action.containment() else {
                    return RunStep::Held;
                };
                if case.containment_meant() >= Some(containment) {
                    let what = format!("spared: {} already", containment.name());
                    case.say(&by, &what, None);
                    return RunStep::Spared;
                }
                Asked::Contain(containment)
            }
        };
        if case.revocation_meant() {
            case.say(&by, "spared: revoked already", None);
            return RunStep::Spared;
        }
        let acted = (case.incident.acts.iter()).any(|act| act.by == by && act.asked == asked);
        if acted {
            return hold(case, Held::ActedAlready);
        }
        if (self.rests.get(device)).is_some_and(|until| case.now < *until) {
            return hold(case, Held::PersonDecided);
        }
        if let Some(why) = self.full(case, playbook, device) {
            return hold(case, why);
        }
        let what = format!("asks to {action}");
        match case.ask(asked, &by, &what) {
            Some(token) => {
                self.taken.add(case.now, &playbook.name, device);
                RunStep::Asked(token.number)
            }
            None => RunStep::Held,
        }
    }

    /// The cap that one more device would break.
    fn full(&mut self, case: &Case, playbook: &Playbook, device: &DeviceId) -> Option<Held> {
        self.taken.forget_old(case.now);
        let devices_max = contain_max(playbook, case.incident.group_size);
        if self
            .taken
            .is_full(Some(&playbook.name), device, devices_max)
        {
            return Some(Held::Cap { devices_max });
        }
        let devices_max = contain_max_of_all(self.settings.contain_max, case.incident.fleet_size);
        (self.taken.is_full(None, device, devices_max)).then_some(Held::CapOfAll { devices_max })
    }
}

/// Devices an hour that this playbook may cut off in a group of this size.
pub(crate) fn contain_max(playbook: &Playbook, group_size: u64) -> u64 {
    (playbook.contain_max).unwrap_or_else(|| default_max(CONTAIN_MAX, group_size))
}

/// When the next step is due by time alone.
pub(crate) fn next_due(incident: &Incident, playbooks: &[Playbook]) -> Option<Timestamp> {
    if !incident.is_open() || incident.revoked {
        return None;
    }
    let due = playbooks.iter().filter_map(|playbook| {
        let run = active_run(incident, playbook)?;
        let waiting = (run.steps.iter().zip(&playbook.steps))
            .filter(|(state, _)| **state == RunStep::Waiting)
            .map(|(_, step)| run.started_at.plus(step.after));
        // What waits for evidence only is looked at when evidence comes.
        waiting.filter(|due| *due > run.checked_at).min()
    });
    due.min()
}

fn active_run<'a>(incident: &'a Incident, playbook: &Playbook) -> Option<&'a Run> {
    (incident.runs.iter()).find(|run| {
        run.playbook == playbook.name
            && !run.ended
            && run.mode == playbook.mode
            && run.steps.len() == playbook.steps.len()
    })
}

fn run_of<'a>(incident: &'a mut Incident, playbook: &Playbook) -> Option<&'a mut Run> {
    (incident.runs.iter_mut()).find(|run| run.playbook == playbook.name)
}

fn is_due(case: &Case, playbook: &Playbook, step: &PlaybookStep, started_at: Timestamp) -> bool {
    if case.now < started_at.plus(step.after) {
        return false;
    }
    let Some(kinds_min) = step.kinds_min else {
        return true;
    };
    let after = started_at.minus(playbook.within);
    let (sure, _) = case.sure_kinds(&playbook.kinds, playbook.severity_min, after);
    count(sure.len()) >= kinds_min
}

/// A playbook that takes something away needs outside evidence, whatever it says.
fn outside_min(playbook: &Playbook) -> u32 {
    let withdraws = playbook.steps.iter().any(|step| step.action.withdraws());
    playbook.outside_min.max(u32::from(withdraws))
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
