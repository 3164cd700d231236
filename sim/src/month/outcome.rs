//! What a month came to, and which promises it kept.

use super::attack::{Attack, KINDS};
use super::calendar::{Calendar, HOUR};
use super::pipeline::{Opened, Pipeline, Tally};
use super::{ATTACK_DAYS, Plan};
use model::DeviationKind;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Incidents a day that a whole fleet may cost its people.
const INCIDENTS_A_DAY_MAX: usize = 5;

#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub devices: usize,
    pub days: u64,
    pub seed: u64,
    pub observations: u64,
    pub deviations: u64,
    pub alerts: usize,
    pub fleet_events: u64,
    /// Of the benign part, by day; days without are left out.
    pub incidents_by_day: BTreeMap<u64, Vec<String>>,
    pub incidents: usize,
    pub incidents_a_day_max: usize,
    /// Incidents for 1,000 devices and day.
    pub false_alert_rate: f64,
    pub benign_contained: usize,
    /// In the days with attacks: incidents about devices that nobody attacked.
    pub incidents_beside_attacks: usize,
    pub attacks: Vec<Found>,
    pub planted: Vec<Planted>,
    pub promises: Vec<Promise>,
}

/// Attacks of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    pub kind: String,
    pub attacks: usize,
    pub found: usize,
    /// From the attack's first hour to its alert, in minutes: the middle one and the slowest.
    pub minutes_median: u64,
    pub minutes_max: u64,
    pub contained: usize,
}

/// What a planted playbook achieved in an hour.
#[derive(Debug, Clone, Serialize)]
pub struct Planted {
    pub asks_for_an_hour: u64,
    pub devices_odd: usize,
    pub contained: usize,
    pub held: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct Promise {
    pub promise: String,
    pub kept: bool,
}

const HIJACK: &str = "three kinds at once";

pub fn found(
    attacks: &[Attack],
    pipeline: &Pipeline,
    calendar: &Calendar,
    days: u64,
) -> Vec<Found> {
    let names = KINDS.iter().map(|kind| kind.name()).chain([HIJACK]);
    names
        .map(|name| {
            let of_kind: Vec<&Attack> = attacks.iter().filter(|a| name_of(a) == name).collect();
            let mut minutes: Vec<u64> = of_kind
                .iter()
                .filter_map(|attack| minutes_to_alert(attack, pipeline, calendar, days))
                .collect();
            minutes.sort_unstable();
            let contained = |attack: &&&Attack| {
                pipeline
                    .contained()
                    .iter()
                    .any(|(_, device)| *device == attack.device)
            };
            Found {
                kind: name.to_owned(),
                attacks: of_kind.len(),
                found: minutes.len(),
                minutes_median: minutes.get(minutes.len() / 2).copied().unwrap_or(0),
                minutes_max: minutes.last().copied().unwrap_or(0),
                contained: of_kind.iter().filter(contained).count(),
            }
        })
        .collect()
}

fn name_of(attack: &Attack) -> &str {
    match attack.kinds.as_slice() {
        [one] => one.name(),
        _ => HIJACK,
    }
}

/// Until all its kinds have an alert of their own; `None` if one has none while the attack lasts.
fn minutes_to_alert(
    attack: &Attack,
    pipeline: &Pipeline,
    calendar: &Calendar,
    days: u64,
) -> Option<u64> {
    let begins = calendar.at((days * 24 + attack.hour) * HOUR);
    let ends = calendar.at((days * 24 + attack.ends()) * HOUR);
    let first = |kind: &DeviationKind| {
        let raised = pipeline.raised(&attack.device, *kind);
        raised
            .iter()
            .find(|at| (begins..=ends).contains(*at))
            .copied()
    };
    let all = attack.kinds.iter().map(first).collect::<Option<Vec<_>>>()?;
    let last = all.into_iter().max()?;
    Some(last.since(begins).as_secs() / 60)
}

impl Outcome {
    pub(super) fn new(
        plan: &Plan,
        benign: Tally,
        pipeline: &Pipeline,
        attacks: Vec<Found>,
        planted: Vec<Planted>,
        attacked: &[Attack],
    ) -> Self {
        let mut incidents_by_day: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let first = Calendar::new(plan.days).at(0);
        for opened in &benign.incidents {
            let day = opened.at.since(first).as_secs() / (24 * HOUR) + 1;
            incidents_by_day
                .entry(day)
                .or_default()
                .push(opened.title.clone());
        }
        let attacked: BTreeSet<_> = attacked.iter().map(|attack| &attack.device).collect();
        let beside =
            |opened: &&Opened| opened.device.as_ref().is_none_or(|d| !attacked.contains(d));
        let all = pipeline.tally();
        let later = all.incidents.iter().skip(benign.incidents.len());
        let device_days = plan.devices as f64 * plan.days as f64 / 1000.0;
        let mut outcome = Self {
            devices: plan.devices,
            days: plan.days,
            seed: plan.seed,
            observations: all.observations,
            deviations: benign.deviations,
            alerts: benign.alerts,
            fleet_events: benign.fleet_events,
            incidents: benign.incidents.len(),
            incidents_a_day_max: incidents_by_day.values().map(Vec::len).max().unwrap_or(0),
            incidents_by_day,
            false_alert_rate: benign.incidents.len() as f64 / device_days,
            benign_contained: pipeline
                .contained()
                .iter()
                .filter(|(_, device)| !attacked.contains(device))
                .count(),
            incidents_beside_attacks: later.filter(beside).count(),
            attacks,
            planted,
            promises: Vec::new(),
        };
        outcome.promises = outcome.judge();
        outcome
    }

    fn judge(&self) -> Vec<Promise> {
        let beside_max = INCIDENTS_A_DAY_MAX * usize::try_from(ATTACK_DAYS).unwrap_or(1);
        let all_found = |found: &Found| found.found == found.attacks;
        let hijacked = self.attacks.iter().filter(|found| found.kind == HIJACK);
        // What all playbooks together may do in an hour: 10, or a thousandth of the fleet.
        let cap = |asked: u64| asked.min(10.max(self.devices as u64 / 1000));
        [
            (
                format!("at most {INCIDENTS_A_DAY_MAX} incidents on any benign day"),
                self.incidents_a_day_max <= INCIDENTS_A_DAY_MAX,
            ),
            (
                "no device that nobody attacked is contained".to_owned(),
                self.benign_contained == 0,
            ),
            (
                "days with attacks cost no more incidents about others".to_owned(),
                self.incidents_beside_attacks <= beside_max,
            ),
            (
                "every attack is found while it lasts".to_owned(),
                self.attacks.iter().all(all_found),
            ),
            (
                "every device that shows three kinds is contained".to_owned(),
                hijacked
                    .into_iter()
                    .all(|found| found.contained == found.attacks),
            ),
            (
                "a planted playbook contains, and stops at its cap".to_owned(),
                self.planted.iter().all(|planted| {
                    planted.contained as u64 == cap(planted.asks_for_an_hour) && planted.held > 0
                }),
            ),
        ]
        .map(|(promise, kept)| Promise { promise, kept })
        .into()
    }

    /// Were all promises kept?
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.promises.iter().all(|promise| promise.kept)
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "{} devices, {} days, seed {}: {} observations, {} deviations, {} alerts, {} events of \
             the fleet",
            self.devices,
            self.days,
            self.seed,
            self.observations,
            self.deviations,
            self.alerts,
            self.fleet_events
        )?;
        writeln!(
            out,
            "incidents: {}, at most {} a day, {:.3} for 1,000 devices and day; contained: {}\n",
            self.incidents, self.incidents_a_day_max, self.false_alert_rate, self.benign_contained
        )?;
        for (day, titles) in &self.incidents_by_day {
            writeln!(out, "  day {day:>2}  {}", titles.join("; "))?;
        }
        writeln!(
            out,
            "\n  {:<24} {:>7} {:>6} {:>8} {:>8} {:>10}",
            "attack", "attacks", "found", "minutes", "slowest", "contained"
        )?;
        for found in &self.attacks {
            writeln!(
                out,
                "  {:<24} {:>7} {:>6} {:>8} {:>8} {:>10}",
                found.kind,
                found.attacks,
                found.found,
                found.minutes_median,
                found.minutes_max,
                found.contained
            )?;
        }
        writeln!(
            out,
            "\n  incidents about others in those days: {}",
            self.incidents_beside_attacks
        )?;
        for planted in &self.planted {
            writeln!(
                out,
                "  planted playbook, {} an hour asked for: {} of {} odd devices contained, {} left \
                 to a person",
                planted.asks_for_an_hour, planted.contained, planted.devices_odd, planted.held
            )?;
        }
        writeln!(out)?;
        for promise in &self.promises {
            let kept = if promise.kept { "kept  " } else { "BROKEN" };
            writeln!(out, "  {kept}  {}", promise.promise)?;
        }
        Ok(())
    }
}
