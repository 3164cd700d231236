//! Deviations of one thing become one alert; the same on many peers becomes one event.

use crate::judge::sets::MANY_DESTINATIONS;
use crate::{AlertSettings, Deviation};
use model::{Attribution, DeviationKind, ProductId, Severity, Source, Subject, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The number of an alert, from 1, never used twice. Prints `ALERT-7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertId(pub u64);

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ALERT-{}", self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertState {
    /// Somebody should look, or a playbook does.
    Open,
    /// The same spreads over peers; waits whether it becomes an event of the fleet.
    Held,
    /// Part of an event of the fleet, which stands for it.
    Folded,
    /// No news for long, or closed by a person.
    Closed,
}

impl AlertState {
    pub const ALL: [Self; 4] = [Self::Open, Self::Held, Self::Folded, Self::Closed];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Held => "held",
            Self::Folded => "folded",
            Self::Closed => "closed",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// All deviations of one kind and entity of one subject; or, as an event of the fleet, of many.
///
/// What stands here is the strongest evidence so far: proven before claimed, from outside before
/// the device's own word; among equals the graver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub id: AlertId,
    /// In an event of the fleet: the subject that made it one.
    pub subject: Subject,
    pub group: Option<ProductId>,
    pub group_size: u64,
    pub kind: DeviationKind,
    pub entity: String,
    pub severity: Severity,
    pub state: AlertState,
    /// Deviations so far.
    pub count: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub since: Timestamp,
    pub expected: String,
    pub seen: String,
    pub source: Source,
    pub attribution: Attribution,
    pub observed_by: String,
    pub accepted_baseline: bool,
    /// One for each way in which it was seen, at most 16.
    pub evidence: Vec<Evidence>,
    /// An event of the fleet: the same on `subjects` of a group. A person decides on it.
    pub fleet_event: bool,
    pub subjects: u64,
}

/// One way in which a deviation was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub at: Timestamp,
    pub expected: String,
    pub seen: String,
    pub source: Source,
    pub attribution: Attribution,
    pub observed_by: String,
    pub severity: Severity,
    pub accepted_baseline: bool,
}

/// What is new. The alert is read by [`Alerts::alert`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlertChange {
    /// A new alert, or one that was held back or closed and is open now.
    Raised(AlertId),
    /// It is graver or better attested than before, or goes on: the latter every ten minutes.
    Grew(AlertId),
    /// The same on many of a group: `event` stands for all of `folded` from now on.
    FleetEvent {
        event: AlertId,
        folded: Vec<AlertId>,
    },
    Closed(AlertId),
}

/// All alerts there are.
#[derive(Debug)]
pub struct Alerts {
    settings: AlertSettings,
    last: u64,
    alerts: BTreeMap<AlertId, Alert>,
    /// Those that are not closed and no event of the fleet.
    standing: BTreeMap<Key, AlertId>,
    matters: BTreeMap<MatterKey, Matter>,
    due: BTreeSet<(Timestamp, Due)>,
}

type Key = (Subject, DeviationKind, String);

/// The same kind and entity in one group; those without a group are one for each sort of subject.
type MatterKey = (Result<ProductId, u8>, DeviationKind, String);

/// One thing that may be seen on many.
#[derive(Debug, Default)]
struct Matter {
    /// Who showed it and when last, while it is no event.
    members: BTreeMap<Subject, Timestamp>,
    gravest: Option<Severity>,
    event: Option<AlertId>,
    held: Vec<AlertId>,
    /// When what is held back is let go; past it, nothing more is held.
    settles_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Settled(MatterKey),
    Quiet(AlertId),
}

const EVIDENCE_MAX: usize = 16;
/// Told again this often while it goes on: whoever counts kinds within a time must see both.
const GOES_ON_SECONDS: u64 = 600;
/// Stands for what a subject shows beyond its share of alerts.
const OTHERS: &str = "and others";

impl Alerts {
    #[must_use]
    pub fn new(settings: AlertSettings) -> Self {
        Self {
            settings,
            last: 0,
            alerts: BTreeMap::new(),
            standing: BTreeMap::new(),
            matters: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Alerts of an earlier run, as they were kept. More than there is room for: the first ones
    /// are taken.
    pub fn restore(&mut self, alerts: impl IntoIterator<Item = Alert>) {
        for alert in alerts.into_iter().take(self.settings.alerts_max) {
            self.last = self.last.max(alert.id.0);
            if alert.state != AlertState::Closed {
                let matter = self.matters.entry(matter_key(&alert)).or_default();
                matter.gravest = matter.gravest.max(Some(alert.severity));
                if alert.fleet_event {
                    matter.event = Some(alert.id);
                } else {
                    matter
                        .members
                        .insert(alert.subject.clone(), alert.last_seen);
                    if alert.state == AlertState::Held {
                        matter.held.push(alert.id);
                        let at = alert.first_seen.plus(self.settings.settle);
                        matter.settles_at.get_or_insert(at);
                        self.due.insert((at, Due::Settled(matter_key(&alert))));
                    }
                    self.standing.insert(key(&alert), alert.id);
                }
                let quiet = alert.last_seen.plus(self.settings.quiet_after);
                self.due.insert((quiet, Due::Quiet(alert.id)));
            }
            self.alerts.insert(alert.id, alert);
        }
    }

    /// Takes one deviation; appends what is new by it (nothing, if it only counts).
    pub fn raise(&mut self, deviation: &Deviation, out: &mut Vec<AlertChange>) {
        let mut place = (
            deviation.subject.clone(),
            deviation.kind,
            deviation.entity.clone(),
        );
        if !self.standing.contains_key(&place)
            && self.of_subject(&deviation.subject).count() >= self.settings.alerts_per_subject_max
        {
            OTHERS.clone_into(&mut place.2);
        }
        match self.standing.get(&place).copied() {
            Some(id) => self.again(id, deviation, out),
            None => self.first(place, deviation, out),
        }
    }

    /// An alert that stands is confirmed.
    fn again(&mut self, id: AlertId, deviation: &Deviation, out: &mut Vec<AlertChange>) {
        let Some(alert) = self.alerts.get_mut(&id) else {
            return;
        };
        let grew = alert.confirm(deviation);
        let (state, key) = (alert.state, matter_key(alert));
        if state == AlertState::Open {
            if grew {
                out.push(AlertChange::Grew(id));
            }
            return;
        }
        if state == AlertState::Folded && self.event_of(&key, deviation.at).is_none() {
            return self.place(id, deviation, out);
        }
        let Some(matter) = self.matters.get_mut(&key) else {
            return;
        };
        let graver = matter.gravest < Some(deviation.severity);
        matter.gravest = matter.gravest.max(Some(deviation.severity));
        if let Some(last) = matter.members.get_mut(&deviation.subject) {
            *last = deviation.at;
        }
        if let Some(event) = matter.event.and_then(|id| self.alerts.get_mut(&id)) {
            event.count = event.count.saturating_add(1);
            event.last_seen = event.last_seen.max(deviation.at);
        }
        if graver {
            self.open(id, out);
            self.let_go(&deviation.subject, out);
        }
    }

    /// Something new of a subject: an alert of its own, or part of a matter of many.
    fn first(&mut self, place: Key, deviation: &Deviation, out: &mut Vec<AlertChange>) {
        self.make_room();
        let id = self.add(deviation, place.2.clone());
        self.standing.insert(place, id);
        self.place(id, deviation, out);
    }

    fn place(&mut self, id: AlertId, deviation: &Deviation, out: &mut Vec<AlertChange>) {
        let Some(key) = self.alerts.get(&id).map(matter_key) else {
            return;
        };
        match self.place_of(&key, deviation) {
            Place::OfEvent(event) => self.fold_into(event, id, out),
            Place::MakesEvent => self.make_event(&key, deviation, out),
            Place::OnItsOwn => {
                self.open(id, out);
                self.let_go(&deviation.subject, out);
            }
            Place::Waits => {
                if let Some(alert) = self.alerts.get_mut(&id) {
                    alert.state = AlertState::Held;
                }
                let at = deviation.at.plus(self.settings.settle);
                if let Some(matter) = self.matters.get_mut(&key) {
                    matter.held.push(id);
                    let at = *matter.settles_at.get_or_insert(at);
                    self.due.insert((at, Due::Settled(key)));
                }
            }
        }
    }

    /// The event that stands for a matter now. Where the entity says exactly what it is (a place,
    /// an image), the event stands until it is closed; a rate that many exceeded a day ago
    /// excuses nobody today.
    fn event_of(&self, key: &MatterKey, now: Timestamp) -> Option<AlertId> {
        let event = self.matters.get(key)?.event?;
        let began = self.alerts.get(&event)?.first_seen;
        let exact = matches!(
            key.1,
            DeviationKind::UnexpectedDestination
                | DeviationKind::NewListeningPort
                | DeviationKind::ProtocolDowngrade
                | DeviationKind::FirmwareDrift
                | DeviationKind::Silence
        );
        let exact = exact && key.2 != MANY_DESTINATIONS;
        (exact || now.since(began) <= self.settings.peers_within).then_some(event)
    }

    /// How a new alert relates to the same on others.
    fn place_of(&mut self, key: &MatterKey, deviation: &Deviation) -> Place {
        let within = self.settings.peers_within;
        let event = self.event_of(key, deviation.at);
        let matter = self.matters.entry(key.clone()).or_default();
        if event.is_none() && matter.event.is_some() {
            *matter = Matter::default();
        }
        matter
            .members
            .retain(|_, last| deviation.at.since(*last) <= within);
        if matter.members.is_empty() && matter.event.is_none() && matter.held.is_empty() {
            *matter = Matter::default();
        }
        let graver = matter
            .gravest
            .is_some_and(|gravest| deviation.severity > gravest);
        matter.gravest = matter.gravest.max(Some(deviation.severity));
        if let Some(event) = matter.event {
            return if graver {
                Place::OnItsOwn
            } else {
                Place::OfEvent(event)
            };
        }
        matter
            .members
            .insert(deviation.subject.clone(), deviation.at);
        let members = matter.members.len() as u64;
        let share = deviation
            .group_size
            .saturating_mul(self.settings.peers_permille);
        let settled = matter.settles_at.is_some_and(|at| deviation.at >= at);
        if members < self.settings.peers_for_event {
            Place::OnItsOwn
        } else if members >= share.div_ceil(1000) {
            Place::MakesEvent
        } else if graver || settled || self.shows_something_else(deviation) {
            Place::OnItsOwn
        } else {
            Place::Waits
        }
    }

    /// One kind that many share may be a release; a second kind is this device's own.
    fn shows_something_else(&self, deviation: &Deviation) -> bool {
        self.of_subject(&deviation.subject).any(|alert| {
            alert.kind != deviation.kind
                && alert.severity > Severity::Low
                && matches!(alert.state, AlertState::Open | AlertState::Held)
        })
    }

    fn fold_into(&mut self, event: AlertId, id: AlertId, out: &mut Vec<AlertChange>) {
        let Some(alert) = self.alerts.get_mut(&id) else {
            return;
        };
        alert.state = AlertState::Folded;
        let last_seen = alert.last_seen;
        if let Some(event) = self.alerts.get_mut(&event) {
            event.subjects = event.subjects.saturating_add(1);
            event.count = event.count.saturating_add(1);
            event.last_seen = event.last_seen.max(last_seen);
            // A line for each doubling, not for each device.
            if event.subjects.is_power_of_two() {
                out.push(AlertChange::Grew(event.id));
            }
        }
    }

    fn make_event(&mut self, key: &MatterKey, deviation: &Deviation, out: &mut Vec<AlertChange>) {
        let event = self.add(deviation, key.2.clone());
        let Some(matter) = self.matters.get_mut(key) else {
            return;
        };
        let members = std::mem::take(&mut matter.members);
        matter.held.clear();
        matter.settles_at = None;
        matter.event = Some(event);
        let folded: Vec<AlertId> = members
            .into_keys()
            .filter_map(|subject| self.standing.get(&(subject, key.1, key.2.clone())))
            .copied()
            .collect();
        let mut count = 0_u64;
        for id in &folded {
            if let Some(alert) = self.alerts.get_mut(id) {
                alert.state = AlertState::Folded;
                count = count.saturating_add(alert.count);
            }
        }
        if let Some(event) = self.alerts.get_mut(&event) {
            event.fleet_event = true;
            event.state = AlertState::Open;
            event.subjects = folded.len() as u64;
            event.count = count;
            event.evidence.clear();
            event.evidence.push(Evidence::of(deviation));
        }
        out.push(AlertChange::FleetEvent { event, folded });
    }

    fn open(&mut self, id: AlertId, out: &mut Vec<AlertChange>) {
        if let Some(alert) = self.alerts.get_mut(&id) {
            alert.state = AlertState::Open;
            out.push(AlertChange::Raised(id));
        }
    }

    /// What was held back of a subject that shows more than one thing.
    fn let_go(&mut self, subject: &Subject, out: &mut Vec<AlertChange>) {
        let kinds: BTreeSet<DeviationKind> = self
            .of_subject(subject)
            .filter(|alert| alert.severity > Severity::Low)
            .map(|alert| alert.kind)
            .collect();
        if kinds.len() < 2 {
            return;
        }
        let held: Vec<AlertId> = self
            .of_subject(subject)
            .filter(|alert| alert.state == AlertState::Held)
            .map(|alert| alert.id)
            .collect();
        for id in held {
            self.open(id, out);
        }
    }

    fn add(&mut self, deviation: &Deviation, entity: String) -> AlertId {
        self.last = self.last.saturating_add(1);
        let id = AlertId(self.last);
        self.alerts.insert(id, Alert::new(id, deviation, entity));
        let quiet = deviation.at.plus(self.settings.quiet_after);
        self.due.insert((quiet, Due::Quiet(id)));
        id
    }

    /// The closed go first, then the folded, then whatever is oldest: an alert that nobody looked
    /// at in fifty thousand is not the one that matters. A sixteenth at a time, so that a storm
    /// does not search for each.
    fn make_room(&mut self) {
        if self.alerts.len() < self.settings.alerts_max {
            return;
        }
        let mut order: Vec<(u8, AlertId)> = self
            .alerts
            .values()
            .map(|alert| match alert.state {
                AlertState::Closed => (0, alert.id),
                AlertState::Folded => (1, alert.id),
                _ if alert.fleet_event => (3, alert.id),
                _ => (2, alert.id),
            })
            .collect();
        order.sort_unstable();
        for (_, id) in order.iter().take(self.settings.alerts_max / 16 + 1) {
            self.close(*id);
            self.alerts.remove(id);
        }
    }

    /// Lets go what was held back, closes what is quiet. Call at [`Self::next_deadline`] or later.
    pub fn wake(&mut self, now: Timestamp, out: &mut Vec<AlertChange>) {
        while self.next_deadline().is_some_and(|due| due <= now) {
            match self.due.pop_first() {
                Some((_, Due::Settled(key))) => {
                    let held = self
                        .matters
                        .get_mut(&key)
                        .map(|matter| std::mem::take(&mut matter.held));
                    for id in held.into_iter().flatten() {
                        if self
                            .alerts
                            .get(&id)
                            .is_some_and(|a| a.state == AlertState::Held)
                        {
                            self.open(id, out);
                        }
                    }
                }
                Some((_, Due::Quiet(id))) => {
                    let Some(alert) = self.alerts.get(&id) else {
                        continue;
                    };
                    let quiet = alert.last_seen.plus(self.settings.quiet_after);
                    if quiet > now {
                        self.due.insert((quiet, Due::Quiet(id)));
                    } else if self.close(id) {
                        out.push(AlertChange::Closed(id));
                    }
                }
                None => return,
            }
        }
    }

    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    #[must_use]
    pub fn alert(&self, id: AlertId) -> Option<&Alert> {
        self.alerts.get(&id)
    }

    /// By number; the closed too, while there is room for them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Alert> {
        self.alerts.values()
    }

    /// Alerts of one subject that are not closed.
    pub fn of_subject(&self, subject: &Subject) -> impl Iterator<Item = &Alert> {
        let from = (
            subject.clone(),
            DeviationKind::UnexpectedDestination,
            String::new(),
        );
        self.standing
            .range(from..)
            .take_while(move |((of, _, _), _)| of == subject)
            .filter_map(|(_, id)| self.alerts.get(id))
    }

    /// A person has dealt with it; an event of the fleet takes its folded alerts along. The same
    /// again is a new alert. False if there is none or it is closed.
    pub fn close(&mut self, id: AlertId) -> bool {
        let Some(alert) = self.alerts.get_mut(&id) else {
            return false;
        };
        if alert.state == AlertState::Closed {
            return false;
        }
        alert.state = AlertState::Closed;
        let (matter, key, fleet_event) = (matter_key(alert), key(alert), alert.fleet_event);
        if !fleet_event {
            self.standing.remove(&key);
            return true;
        }
        self.matters.remove(&matter);
        for alert in self.alerts.values_mut() {
            if alert.state == AlertState::Folded && matter_key(alert) == matter {
                alert.state = AlertState::Closed;
                self.standing.remove(&self::key(alert));
            }
        }
        true
    }

    /// A device is gone: its alerts are closed.
    pub fn forget(&mut self, subject: &Subject) {
        let ids: Vec<AlertId> = self.of_subject(subject).map(|alert| alert.id).collect();
        for id in ids {
            self.close(id);
        }
    }
}

enum Place {
    OnItsOwn,
    /// The same spreads; it may become an event.
    Waits,
    MakesEvent,
    OfEvent(AlertId),
}

fn key(alert: &Alert) -> Key {
    (alert.subject.clone(), alert.kind, alert.entity.clone())
}

fn matter_key(alert: &Alert) -> MatterKey {
    let group = alert.group.clone().ok_or(match alert.subject {
        Subject::Device(_) => 0,
        Subject::Service(_) => 1,
        Subject::Person(_) => 2,
        Subject::Address(_) => 3,
        Subject::Token(_) => 4,
    });
    (group, alert.kind, alert.entity.clone())
}

/// Proven from outside before anything else, by an accepted expectation before a habit.
fn strength(source: Source, attribution: Attribution, accepted: bool) -> (bool, bool, Attribution) {
    let outside = source != Source::Device && attribution == Attribution::Proven;
    (outside, accepted, attribution)
}

impl Alert {
    fn new(id: AlertId, deviation: &Deviation, entity: String) -> Self {
        Self {
            id,
            subject: deviation.subject.clone(),
            group: deviation.group.clone(),
            group_size: deviation.group_size,
            kind: deviation.kind,
            entity,
            severity: deviation.severity,
            state: AlertState::Open,
            count: 1,
            first_seen: deviation.at,
            last_seen: deviation.at,
            since: deviation.since,
            expected: deviation.expected.clone(),
            seen: deviation.seen.clone(),
            source: deviation.source,
            attribution: deviation.attribution,
            observed_by: deviation.observed_by.clone(),
            accepted_baseline: deviation.accepted_baseline,
            evidence: vec![Evidence::of(deviation)],
            fleet_event: false,
            subjects: 1,
        }
    }

    /// Another deviation of the same; true if it is news (see [`AlertChange::Grew`]).
    fn confirm(&mut self, deviation: &Deviation) -> bool {
        self.count = self.count.saturating_add(1);
        let part = |at: Timestamp| at.as_seconds() / GOES_ON_SECONDS;
        let goes_on = part(deviation.at) > part(self.last_seen);
        self.last_seen = self.last_seen.max(deviation.at);
        self.since = self.since.min(deviation.since);
        let news = Evidence::of(deviation);
        let same = |old: &&mut Evidence| {
            (old.source, old.attribution, &old.observed_by)
                == (news.source, news.attribution, &news.observed_by)
        };
        if let Some(old) = self.evidence.iter_mut().find(same) {
            *old = news;
        } else if self.evidence.len() < EVIDENCE_MAX {
            self.evidence.push(news);
        }
        let is = |d: &Deviation| strength(d.source, d.attribution, d.accepted_baseline);
        let was = strength(self.source, self.attribution, self.accepted_baseline);
        let stronger = is(deviation) > was;
        // What anybody can claim must not make grave what is surely seen.
        let surely = |attribution| attribution == Attribution::Proven;
        let before = self.severity;
        self.severity = match (surely(self.attribution), surely(deviation.attribution)) {
            (false, true) => deviation.severity,
            (true, false) => before,
            _ => before.max(deviation.severity),
        };
        if is(deviation) < was {
            // No news, or an alert seen from outside would seem seen again by the device's word.
            return false;
        }
        let graver = deviation.severity > before;
        if stronger || deviation.severity >= before {
            self.expected.clone_from(&deviation.expected);
            self.seen.clone_from(&deviation.seen);
            self.source = deviation.source;
            self.attribution = deviation.attribution;
            self.observed_by.clone_from(&deviation.observed_by);
            self.accepted_baseline = deviation.accepted_baseline;
        }
        stronger || graver || goes_on
    }
}

impl Evidence {
    fn of(deviation: &Deviation) -> Self {
        Self {
            at: deviation.at,
            expected: deviation.expected.clone(),
            seen: deviation.seen.clone(),
            source: deviation.source,
            attribution: deviation.attribution,
            observed_by: deviation.observed_by.clone(),
            severity: deviation.severity,
            accepted_baseline: deviation.accepted_baseline,
        }
    }
}
