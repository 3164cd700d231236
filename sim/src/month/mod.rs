//! A month in the life of a fleet, in minutes: does the detector find attacks, and does it leave
//! everybody else alone?
//!
//! Unlike the rest of this crate it does not speak through the doors. It gives observations
//! straight to `detection` and its alerts to `response`, as the plane does, because no door takes
//! fifty million observations in a coffee break. What is simulated is what is observed; what is
//! judged is the product's own code with the product's own settings, save that learning takes
//! `learn_days` of the month.
//!
//! Three parts, one after the other, all from one seed: a benign month with what life brings
//! (rollouts, one that was forgotten in the fleet's files, a provider's outage, a change of CDN,
//! the end of daylight-saving time, the first cold evening); then days with attacks of each kind;
//! then playbooks that were planted to hurt.

mod attack;
mod calendar;
mod life;
mod outcome;
mod pipeline;

pub use outcome::{Found, Outcome, Planted, Promise};

use attack::{Attack, PLANTED_DEVICES};
use calendar::{Calendar, HOUR};
use life::Fleet;
use pipeline::Pipeline;
use std::collections::BTreeMap;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub devices: usize,
    /// Of the benign part.
    pub days: u64,
    pub seed: u64,
    pub attacks_per_kind: usize,
}

/// Days in which the attacks begin, after the benign part.
const ATTACK_DAYS: u64 = 3;
/// How long an attacker goes on, in hours.
const ATTACK_HOURS: u64 = 12;

/// A playbook as the documentation proposes it, enforcing.
const PLAYBOOK: &str = r#"
[contain-hijacked]
description = "Cut off a device that shows two kinds of deviation, one of them seen from outside"
mode = "enforce"
kinds = ["unexpected-destination", "new-listening-port", "protocol-downgrade", "dns-spike",
         "certificate-failures", "firmware-drift", "outbound-volume", "denied-attempts"]
kinds_min = 2
outside_min = 1
severity_min = "medium"
steps = [ {action = "quarantine"} ]
"#;

/// Lives through a plan. `tell` hears of each day that is over.
///
/// # Errors
/// A playbook of ours does not read; nothing else can fail.
pub fn live(plan: &Plan, tell: &mut dyn FnMut(u64)) -> anyhow::Result<Outcome> {
    let calendar = Calendar::new(plan.days);
    let mut fleet = Fleet::new(plan, &calendar);
    let mut pipeline = Pipeline::new(&calendar, &fleet, PLAYBOOK)?;
    for hour in 0..plan.days * 24 {
        pipeline.on_the_hour(hour, &calendar);
        fleet.hour(hour, &mut |observation| pipeline.take(observation));
        pipeline.wake(calendar.at((hour + 1) * HOUR));
        if hour % 24 == 23 {
            tell(hour / 24 + 1);
        }
    }
    let benign = pipeline.tally();

    let attacks = attack::plan(plan, &fleet, ATTACK_DAYS * 24 - ATTACK_HOURS);
    let mut starts: BTreeMap<u64, Vec<&Attack>> = BTreeMap::new();
    for attack in &attacks {
        for hour in attack.hour..attack.hour + ATTACK_HOURS {
            starts
                .entry(plan.days * 24 + hour)
                .or_default()
                .push(attack);
        }
    }
    for hour in plan.days * 24..(plan.days + ATTACK_DAYS) * 24 {
        let attacked = starts.get(&hour).map(Vec::as_slice).unwrap_or_default();
        fleet.attacked_hour(hour, attacked, &mut |observation| {
            pipeline.take(observation)
        });
        pipeline.wake(calendar.at((hour + 1) * HOUR));
        if hour % 24 == 23 {
            tell(hour / 24 + 1);
        }
    }
    let found = outcome::found(&attacks, &pipeline, &calendar, plan.days);

    let last = (plan.days + ATTACK_DAYS) * 24;
    let mut planted = Vec::new();
    for contain_max in [5, 10_000] {
        planted.push(plant(
            contain_max,
            &mut fleet.clone(),
            &pipeline,
            last,
            &calendar,
        )?);
    }
    Ok(Outcome::new(
        plan, benign, &pipeline, found, planted, &attacks,
    ))
}

/// A playbook that contains on anything, on the worst hour it could hope for: forty devices, each
/// with something odd that no other shows.
fn plant(
    contain_max: u64,
    fleet: &mut Fleet,
    lived: &Pipeline,
    hour: u64,
    calendar: &Calendar,
) -> anyhow::Result<Planted> {
    let text = format!(
        "[planted]\nmode = \"enforce\"\nkinds = [\"unexpected-destination\", \"dns-spike\"]\n\
         kinds_min = 1\noutside_min = 1\nseverity_min = \"low\"\ncontain_max = {contain_max}\n\
         steps = [ {{action = \"isolate\"}} ]\n"
    );
    let mut pipeline = lived.with_playbook(&text)?;
    let odd = attack::odd(fleet, PLANTED_DEVICES);
    let odd: Vec<&Attack> = odd.iter().collect();
    fleet.attacked_hour(hour, &odd, &mut |observation| pipeline.take(observation));
    pipeline.wake(calendar.at((hour + 1) * HOUR));
    Ok(Planted {
        asks_for_an_hour: contain_max,
        devices_odd: PLANTED_DEVICES,
        contained: pipeline.contained().len(),
        held: pipeline.held(),
    })
}
