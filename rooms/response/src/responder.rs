//! The machine: alerts, decisions of people, outcomes and time in; effects out.

use crate::cap::{HOUR, Taken, default_max};
use crate::case::Case;
use crate::conduct::{self, Conduct};
use crate::effect::{AlertSeen, Decision, Effect, Held, Outcome, PersonAct, Remembered, Token};
use crate::format::UnreadableIncident;
use crate::incident::{About, Asked, Incident, IncidentState};
use crate::pending::Pending;
use crate::playbook::{PLAYBOOKS_MAX, Playbook};
use model::{Attribution, Containment, DeviceId, IncidentId, Severity, Source, Subject, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Closed incidents are kept in memory this long, and longer while their device is cut off.
const CLOSED_KEPT: Duration = Duration::from_secs(86_400);
const CLOSED_KEPT_MAX: usize = 1024;

/// Incidents an hour that proven alerts of one source may open at least.
const PROVEN_OPENED_MAX: u64 = 20;

/// What an operator may set; `Settings::default()` is what a fleet begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Devices an hour that all playbooks together may cut off; `None`: 10, or 0.1 % of the fleet
    /// where that is more. Not in `fleet/`, so that a planted playbook cannot raise it.
    pub contain_max: Option<u64>,
    /// Proven alerts at least so bad open an incident; milder ones wait for a second kind.
    pub open_severity_min: Severity,
    /// Incidents an hour that alerts may open which are not proven: anybody can cause those.
    pub unproven_opened_max: usize,
    /// Incidents an hour that proven alerts of one source may open; `None`: 20, or 0.1 % of the
    /// fleet where that is more. An observer that lies can prove something of each device; the
    /// sources are counted apart, so that it crowds out nobody else.
    pub proven_opened_max: Option<u64>,
    /// After a person restored a device, no playbook cuts it off for this long.
    pub rest: Duration,
    /// Who is told of each incident that opens at least this bad, and of what awaits a person.
    pub tell: Option<(String, Severity)>,
    /// Such tellings an hour.
    pub told_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            contain_max: None,
            open_severity_min: Severity::Medium,
            unproven_opened_max: 5,
            proven_opened_max: None,
            rest: HOUR,
            tell: None,
            told_max: 60,
        }
    }
}

/// What becomes of an alert about whom no incident is open.
enum Opening {
    Now,
    /// With a second kind, perhaps.
    Later,
    TooMany,
}

/// How a playbook is doing: for the API and the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaybookUse<'a> {
    pub playbook: &'a Playbook,
    /// Distinct devices that it cut off, or asked to, in the last hour.
    pub used_last_hour: usize,
    pub last_run: Option<Timestamp>,
}

/// There is no such incident, or it is closed and no longer worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not open; ask for the list of incidents")]
pub struct UnknownIncident(pub IncidentId);

/// Incidents at work. The same calls in the same order give the same effects.
#[derive(Debug)]
pub struct Responder {
    settings: Settings,
    playbooks: Vec<Playbook>,
    incidents: BTreeMap<IncidentId, Incident>,
    open: BTreeMap<About, IncidentId>,
    /// Who is cut off, and the incident in which that happened.
    contained: BTreeMap<DeviceId, (Containment, Option<IncidentId>)>,
    rests: BTreeMap<DeviceId, Timestamp>,
    taken: Taken,
    pending: Pending,
    unproven_opened: VecDeque<Timestamp>,
    proven_opened: BTreeMap<Source, VecDeque<Timestamp>>,
    told: VecDeque<Timestamp>,
    last_runs: BTreeMap<String, Timestamp>,
    last_incident: u64,
}

impl Responder {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            playbooks: Vec::new(),
            incidents: BTreeMap::new(),
            open: BTreeMap::new(),
            contained: BTreeMap::new(),
            rests: BTreeMap::new(),
            taken: Taken::default(),
            pending: Pending::default(),
            unproven_opened: VecDeque::new(),
            proven_opened: BTreeMap::new(),
            told: VecDeque::new(),
            last_runs: BTreeMap::new(),
            last_incident: 0,
        }
    }

    /// From now on these, the first of each name, at most [`PLAYBOOKS_MAX`]. What a changed or
    /// removed playbook still meant to do is dropped; it may begin anew, and does nothing twice.
    pub fn playbooks(&mut self, playbooks: Vec<Playbook>) {
        let mut names = BTreeSet::new();
        let playbooks: Vec<Playbook> = playbooks
            .into_iter()
            .filter(|playbook| names.insert(playbook.name.clone()))
            .take(PLAYBOOKS_MAX)
            .collect();
        let same = |name: &str| {
            let find = |list: &[Playbook]| list.iter().find(|one| one.name == name).cloned();
            find(&self.playbooks) == find(&playbooks)
        };
        // After a restart there is nothing to compare with: runs go on if their steps still fit.
        if !self.playbooks.is_empty() {
            for incident in self.incidents.values_mut() {
                for run in &mut incident.runs {
                    run.ended |= !same(&run.playbook);
                }
            }
        }
        self.playbooks = playbooks;
    }

    /// Takes up where the last program stopped. Acts whose outcome is not known are asked for
    /// again, under the same token. Call [`Responder::playbooks`] before.
    ///
    /// # Errors
    /// A stored incident cannot be read; nothing was taken up.
    pub fn restore_state(
        &mut self,
        remembered: &Remembered,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) -> Result<(), UnreadableIncident> {
        let incidents = (remembered.incidents.iter())
            .map(|bytes| Incident::from_bytes(bytes))
            .collect::<Result<Vec<_>, _>>()?;
        self.last_incident = self.last_incident.max(remembered.last_incident);
        for (device, containment) in &remembered.containments {
            self.contained.insert(device.clone(), (*containment, None));
        }
        for incident in incidents {
            self.take_up(incident, now, out);
        }
        self.taken.forget_old(now);
        self.forget_closed(now);
        Ok(())
    }

    fn take_up(&mut self, incident: Incident, now: Timestamp, out: &mut Vec<Effect>) {
        let id = incident.id;
        self.last_incident = self.last_incident.max(id.0);
        for run in incident.runs.iter().filter(|run| !run.steps.is_empty()) {
            let last = self.last_runs.entry(run.playbook.clone()).or_default();
            *last = run.started_at.max(*last);
        }
        // Opened by an alert, as far as its evidence still tells.
        if let Some(first) = (incident.evidence.first())
            .filter(|one| one.attribution == Attribution::Proven && one.since <= incident.opened_at)
            && !matches!(incident.about, About::TooMany { .. })
        {
            let opened = self.proven_opened.entry(first.source).or_default();
            opened.push_back(incident.opened_at);
        }
        if let Some(device) = incident.about.device() {
            for act in &incident.acts {
                if let (true, Some(name)) =
                    (act.asked.withdraws(), act.by.strip_prefix("playbook/"))
                {
                    self.taken.add(act.asked_at, name, device);
                }
                if let (Asked::Restore, Some(Outcome::Done { .. })) = (&act.asked, &act.outcome) {
                    let until = act.asked_at.plus(self.settings.rest);
                    let rest = self.rests.entry(device.clone()).or_insert(until);
                    *rest = until.max(*rest);
                }
            }
            if let Some((_, place)) = self.contained.get_mut(device) {
                *place = (*place).max(Some(id));
            }
        }
        let unknown: Vec<_> = (incident.acts.iter())
            .filter(|act| act.outcome.is_none())
            .cloned()
            .collect();
        if incident.is_open() {
            self.open.insert(incident.about.clone(), id);
        }
        let mut case = Case::resume(incident, now);
        for act in &unknown {
            case.ask_again(act);
        }
        self.put(case, out);
    }

    /// An alert came, or came again.
    pub fn alert(&mut self, alert: &AlertSeen, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(about) = about(alert) else {
            // An address alone is nobody: it stays an alert.
            return;
        };
        let mut case = match self.open.get(&about).copied() {
            Some(id) => match self.resume(id, now) {
                Some(case) => case,
                None => return,
            },
            None if alert.revoked => return,
            None => match self.opens(alert, &about, now) {
                Opening::Now => self.begin(about.clone(), now),
                Opening::Later => {
                    self.pending.add(about, alert, now);
                    return;
                }
                Opening::TooMany => {
                    self.pending.add(about, alert, now);
                    self.hand_over(alert, now, out);
                    return;
                }
            },
        };
        if case.is_new() {
            for earlier in self.pending.take(&about, now) {
                case.learn(&earlier);
            }
        }
        case.learn(alert);
        if !alert.revoked {
            self.judge(&mut case);
        }
        if case.is_new() {
            self.tell(&mut case, "opened");
        }
        self.put(case, out);
    }

    /// Somebody decided, or did so already.
    ///
    /// # Errors
    /// The incident to close is not open.
    pub fn person(
        &mut self,
        act: &PersonAct,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) -> Result<IncidentId, UnknownIncident> {
        let (device, asked) = match &act.decision {
            Decision::Close { incident } => return self.close(*incident, act, now, out),
            Decision::Contain {
                device,
                containment,
            } => (device, Asked::Contain(*containment)),
            Decision::Revoke { device } => (device, Asked::Revoke),
            Decision::Restore { device } => (device, Asked::Restore),
        };
        let mut case = self.case_of(device, &asked, now);
        let id = case.incident.id;
        let what = format!("{}: {}", verb(&asked), act.reason);
        match &act.outcome {
            None => {
                case.ask(asked, &act.actor, &what);
            }
            Some(outcome) => {
                if let Some(number) = case.incident.acts_numbered.checked_add(1) {
                    case.note(number, asked, &act.actor);
                    self.conclude(&mut case, number, outcome, &what);
                }
            }
        }
        self.put(case, out);
        Ok(id)
    }

    /// Many devices were cut off, or given back, in one act of a person: no incident of each tells of
    /// it. Those given back are left alone by playbooks for a while.
    pub fn decided_of_many(
        &mut self,
        devices: &[DeviceId],
        containment: Option<Containment>,
        now: Timestamp,
    ) {
        for device in devices {
            match containment {
                Some(containment) => {
                    let stands = self.contained.entry(device.clone());
                    let (stands, _) = stands.or_insert((containment, None));
                    *stands = containment.max(*stands);
                }
                None => {
                    self.contained.remove(device);
                    let until = now.plus(self.settings.rest);
                    self.rests.insert(device.clone(), until);
                }
            }
        }
    }

    /// An act ended. A token that is unknown, or was answered before, changes nothing.
    pub fn done(&mut self, token: Token, outcome: &Outcome, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(mut case) = self.resume(token.incident, now) else {
            return;
        };
        let under_way = (case.incident.act(token.number)).filter(|act| act.outcome.is_none());
        if let Some(what) = under_way.map(|act| past(&act.asked)) {
            self.conclude(&mut case, token.number, outcome, &what);
        }
        self.put(case, out);
    }

    /// Takes the steps whose time has come.
    pub fn wake(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let due: Vec<IncidentId> = (self.open.values())
            .filter(|id| {
                let incident = self.incidents.get(id);
                let due = incident.and_then(|one| conduct::next_due(one, &self.playbooks));
                due.is_some_and(|due| due <= now)
            })
            .copied()
            .collect();
        for id in due {
            if let Some(mut case) = self.resume(id, now) {
                self.judge(&mut case);
                self.put(case, out);
            }
        }
        self.rests.retain(|_, until| now < *until);
        self.taken.forget_old(now);
        self.forget_closed(now);
    }

    /// When [`Responder::wake`] should be called next, if at all.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        (self.open.values())
            .filter_map(|id| self.incidents.get(id))
            .filter_map(|incident| conduct::next_due(incident, &self.playbooks))
            .min()
    }

    /// Open ones, and closed ones of the last day.
    #[must_use]
    pub fn incident(&self, id: IncidentId) -> Option<&Incident> {
        self.incidents.get(&id)
    }

    /// As [`Responder::incident`], the oldest first.
    pub fn incidents(&self) -> impl DoubleEndedIterator<Item = &Incident> {
        self.incidents.values()
    }

    /// The open incident about this device.
    #[must_use]
    pub fn open_incident_of(&self, device: &DeviceId) -> Option<&Incident> {
        let about = About::Subject(Subject::Device(device.clone()));
        (self.open.get(&about)).and_then(|id| self.incidents.get(id))
    }

    pub fn playbook_uses(&self, now: Timestamp) -> impl Iterator<Item = PlaybookUse<'_>> {
        self.playbooks.iter().map(move |playbook| PlaybookUse {
            playbook,
            used_last_hour: self.taken.devices_since(&playbook.name, now.minus(HOUR)),
            last_run: self.last_runs.get(&playbook.name).copied(),
        })
    }

    fn opens(&mut self, alert: &AlertSeen, about: &About, now: Timestamp) -> Opening {
        if alert.attribution == Attribution::Proven {
            let is_worth = alert.severity >= self.settings.open_severity_min
                || self.pending.has_other_kind(about, alert.kind, now);
            if !is_worth {
                return Opening::Later;
            }
            let max = self.proven_opened_max(alert);
            let opened = self.proven_opened.entry(alert.source).or_default();
            return if within_hour(opened, max, now) {
                Opening::Now
            } else {
                Opening::TooMany
            };
        }
        let max = self.settings.unproven_opened_max;
        let grave = alert.severity >= Severity::High;
        if grave && within_hour(&mut self.unproven_opened, max, now) {
            Opening::Now
        } else {
            Opening::Later
        }
    }

    fn proven_opened_max(&self, alert: &AlertSeen) -> usize {
        let max = (self.settings.proven_opened_max)
            .unwrap_or_else(|| default_max(PROVEN_OPENED_MAX, alert.fleet_size));
        usize::try_from(max).unwrap_or(usize::MAX)
    }

    /// Puts what may open no incident of its own into the one that says so.
    fn hand_over(&mut self, alert: &AlertSeen, now: Timestamp, out: &mut Vec<Effect>) {
        let about = About::TooMany {
            source: alert.source,
        };
        let mut case = match self.open.get(&about).copied() {
            Some(id) => match self.resume(id, now) {
                Some(case) => case,
                None => return,
            },
            None => self.begin(about, now),
        };
        if case.is_new() {
            case.incident.severity = Severity::High;
            let what = format!(
                "{} incidents were opened within an hour on what {} says; the rest stay alerts: \
                 a person decides whether to believe it",
                self.proven_opened_max(alert),
                alert.source.name()
            );
            case.say("plane", &what, None);
        }
        let seen = format!("{}: {}", alert.subject, alert.seen);
        case.learn(&AlertSeen {
            seen,
            ..alert.clone()
        });
        if case.is_new() {
            self.tell(&mut case, "a person decides");
        }
        self.put(case, out);
    }

    fn begin(&mut self, about: About, now: Timestamp) -> Case {
        self.last_incident = self.last_incident.saturating_add(1);
        let id = IncidentId(self.last_incident);
        self.open.insert(about.clone(), id);
        let mut case = Case::open(id, about, now);
        if let Some((containment, place)) =
            (case.incident.about.device()).and_then(|device| self.contained.get_mut(device))
        {
            *place = Some(id);
            case.incident.containment = Some(*containment);
            case.incident.state = IncidentState::Contained;
        }
        case
    }

    fn resume(&mut self, id: IncidentId, now: Timestamp) -> Option<Case> {
        (self.incidents.remove(&id)).map(|incident| Case::resume(incident, now))
    }

    fn put(&mut self, case: Case, out: &mut Vec<Effect>) {
        let incident = case.finish(out);
        if !incident.is_open() && self.open.get(&incident.about) == Some(&incident.id) {
            self.open.remove(&incident.about);
        }
        self.incidents.insert(incident.id, incident);
    }

    fn judge(&mut self, case: &mut Case) {
        let held_before = case.awaits_person();
        Conduct {
            settings: &self.settings,
            playbooks: &self.playbooks,
            taken: &mut self.taken,
            rests: &self.rests,
            last_runs: &mut self.last_runs,
        }
        .judge(case);
        if !case.is_new() && case.awaits_person() > held_before {
            self.tell(case, "a person decides");
        }
    }

    /// The incident in which an act on a device belongs: the open one; to restore, also the one in
    /// which it was cut off; else a new one.
    fn case_of(&mut self, device: &DeviceId, asked: &Asked, now: Timestamp) -> Case {
        let about = About::Subject(Subject::Device(device.clone()));
        let open = self.open.get(&about).copied();
        let cut_off = (self.contained.get(device)).and_then(|(_, place)| *place);
        let place = open.or(cut_off.filter(|_| *asked == Asked::Restore));
        match place.and_then(|id| self.resume(id, now)) {
            Some(case) => case,
            None => self.begin(about, now),
        }
    }

    fn close(
        &mut self,
        id: IncidentId,
        act: &PersonAct,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) -> Result<IncidentId, UnknownIncident> {
        if !self.incidents.get(&id).is_some_and(Incident::is_open) {
            return Err(UnknownIncident(id));
        }
        let mut case = self.resume(id, now).ok_or(UnknownIncident(id))?;
        let stays = match (case.incident.revoked, case.incident.containment) {
            (true, _) => "; the device stays revoked",
            (_, Some(Containment::Quarantined)) => "; the device stays quarantined",
            (_, Some(Containment::Isolated)) => "; the device stays isolated",
            (false, None) => "",
        };
        let what = format!("closed: {}{stays}", crate::text::printable(&act.reason));
        case.say(&act.actor, &what, None);
        case.close();
        self.put(case, out);
        self.forget_closed(now);
        Ok(id)
    }

    fn conclude(&mut self, case: &mut Case, number: u32, outcome: &Outcome, what: &str) {
        let incident = &mut case.incident;
        let Some(act) = incident.acts.iter_mut().find(|act| act.number == number) else {
            return;
        };
        act.outcome = Some(outcome.clone());
        let (by, asked) = (act.by.clone(), act.asked.clone());
        case.touch();
        match outcome {
            Outcome::Done { entry, note } => {
                let note = if note.is_empty() {
                    String::new()
                } else {
                    format!(" ({note})")
                };
                case.say(&by, &format!("{what}{note}"), *entry);
                self.take_effect(case, &asked);
            }
            Outcome::Failed { why } => {
                let verb = verb(&asked);
                match by.strip_prefix("playbook/").filter(|_| asked.withdraws()) {
                    Some(playbook) => {
                        let why = crate::text::printable(why);
                        case.hold(playbook, verb, Held::Failed { why });
                        self.tell(case, "a person decides");
                    }
                    None => case.say(&by, &format!("{verb} failed: {why}"), None),
                }
            }
        }
    }

    /// What it means for the incident, and for later ones, that an act is done.
    fn take_effect(&mut self, case: &mut Case, asked: &Asked) {
        let Some(device) = case.incident.about.device().cloned() else {
            return;
        };
        let incident = &mut case.incident;
        match asked {
            Asked::Contain(containment) => {
                // Whoever was cut off harder before stays so.
                let before = self.contained.get(&device).map(|(stands, _)| *stands);
                let stands = before.max(Some(*containment)).unwrap_or(*containment);
                incident.containment = Some(stands);
                let place = Some(incident.id);
                self.contained.insert(device, (stands, place));
            }
            Asked::Revoke => incident.revoked = true,
            Asked::Restore => {
                incident.containment = None;
                self.contained.remove(&device);
                self.rests.insert(device, case.now.plus(self.settings.rest));
                // A person has judged this: it is history, and counts for no playbook again.
                for one in &mut incident.evidence {
                    one.sure_at = None;
                    one.outside_at = None;
                }
                for run in &mut incident.runs {
                    run.ended = true;
                }
            }
            Asked::Notify { .. } => {}
        }
        if incident.is_open() {
            let cut_off = incident.revoked || incident.containment.is_some();
            incident.state = if cut_off {
                IncidentState::Contained
            } else {
                IncidentState::Open
            };
        }
    }

    /// Tells who is to be told of incidents, if anybody.
    fn tell(&mut self, case: &mut Case, why: &str) {
        let Some((to, severity_min)) = self.settings.tell.clone() else {
            return;
        };
        if case.incident.severity < severity_min {
            return;
        }
        if !within_hour(&mut self.told, self.settings.told_max, case.now) {
            case.say("plane", "nobody is told: too many this hour", None);
            return;
        }
        let why = why.to_owned();
        let what = format!("notifies {to}");
        case.ask(Asked::Notify { to, why }, "plane", &what);
    }

    fn forget_closed(&mut self, now: Timestamp) {
        let needed: BTreeSet<IncidentId> = (self.contained.values())
            .filter_map(|(_, place)| *place)
            .collect();
        self.incidents.retain(|id, incident| {
            incident.is_open()
                || needed.contains(id)
                || now.since(incident.changed_at) < CLOSED_KEPT
        });
        let closed: Vec<IncidentId> = (self.incidents.values())
            .filter(|incident| !incident.is_open() && !needed.contains(&incident.id))
            .map(|incident| incident.id)
            .collect();
        let excess = closed.len().saturating_sub(CLOSED_KEPT_MAX);
        for id in closed.iter().take(excess) {
            self.incidents.remove(id);
        }
    }
}

/// Room for one more within the last hour; if so, it is taken.
fn within_hour(times: &mut VecDeque<Timestamp>, max: usize, now: Timestamp) -> bool {
    while times.front().is_some_and(|at| now.since(*at) >= HOUR) {
        times.pop_front();
    }
    let room = times.len() < max;
    if room {
        times.push_back(now);
    }
    room
}

fn about(alert: &AlertSeen) -> Option<About> {
    if alert.fleet_event {
        return Some(About::Group {
            product: alert.device_group.clone(),
            kind: alert.kind,
            entity: crate::text::printable(&alert.entity),
        });
    }
    match &alert.subject {
        Subject::Address(_) => None,
        known => Some(About::Subject(known.clone())),
    }
}

/// What is asked for, in the infinitive.
fn verb(asked: &Asked) -> &'static str {
    match asked {
        Asked::Contain(Containment::Quarantined) => "quarantine",
        Asked::Contain(Containment::Isolated) => "isolate",
        Asked::Revoke => "revoke",
        Asked::Restore => "restore",
        Asked::Notify { .. } => "notify",
    }
}

fn past(asked: &Asked) -> String {
    match asked {
        Asked::Contain(containment) => containment.name().to_owned(),
        Asked::Revoke => "revoked".to_owned(),
        Asked::Restore => "restored".to_owned(),
        Asked::Notify { to, .. } => format!("queued for {to}"),
    }
}
