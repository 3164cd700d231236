//! A sound set of policies, edited at random: every edit that opens a way between two devices is found
//! and said truly, and none that does not is called one.

use super::{NO_PATH, Set, has_path, source};
use crate::differential::{
    Condition, GROUPS, PRODUCTS, Question, Rule, TEMPLATES, World, accepted, condition, rule, world,
};
use access::{Fleet, Outcome, prove};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;

/// What is done to a fleet. Turns are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edit {
    /// A policy more.
    Added,
    /// One in the place of another.
    Replaced,
    /// A policy that holds for whoever it excluded by kind: devices, services, or both.
    PrincipalWidened,
    /// Half of its condition gone.
    ConditionHalved,
    /// Another way to meet its condition.
    AlternativeAdded,
    /// What excepted somebody from it is gone, or it is gone where it forbids.
    RestraintDropped,
    /// A channel that now goes the other way.
    DirectionTurned,
}

const EDITS: [Edit; 7] = [
    Edit::Added,
    Edit::Replaced,
    Edit::PrincipalWidened,
    Edit::ConditionHalved,
    Edit::AlternativeAdded,
    Edit::RestraintDropped,
    Edit::DirectionTurned,
];

/// A thousand harmless ones in a soak.
#[test]
fn an_edit_that_opens_a_path_is_caught_and_no_other() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let edits = std::env::var("FLEETWARD_SOAK_EDITS").map_or(100, |count| count.parse().unwrap());
    let mut counts: BTreeMap<Edit, [usize; 2]> = BTreeMap::new();
    let mut harmless = 0;
    while harmless < edits {
        let before = world().new_tree(&mut runner).unwrap().current();
        let sound = accepted(&before, sound());
        assert!(!has_path(
            &before,
            &sound,
            &Set::Devices,
            &Set::Devices,
            &[]
        ));
        for turn in 0..3 * EDITS.len() {
            let edit = EDITS[turn % EDITS.len()];
            let (mut world, mut rules) = (before.clone(), sound.clone());
            let touched = apply(edit, &mut world, &mut rules, &mut runner);
            let mut files = world.files(&rules);
            files.push(source("invariants.toml", NO_PATH));
            let Ok(fleet) = Fleet::read(&files) else {
                // It is refused before anything is proven.
                continue;
            };
            let opens = has_path(&world, &rules, &Set::Devices, &Set::Devices, &[]);
            let case = match prove(&fleet).remove(0).outcome {
                Outcome::Holds => None,
                Outcome::Broken(case) => Some(case),
                Outcome::Undecided(why) => panic!("{why}"),
            };
            assert_eq!(case.is_some(), opens, "{edit:?}: {rules:?} in {world:?}");
            counts.entry(edit).or_default()[usize::from(opens)] += 1;
            match case {
                None => harmless += 1,
                Some(case) => {
                    let named = check_case(&world, &rules, &case);
                    let by_edit = touched.is_none_or(|touched| named.contains(&touched));
                    assert!(by_edit, "{case}: not by {touched:?} of {rules:?}");
                }
            }
        }
    }
    println!("edits that opened no path, and those that did and were caught: {counts:?}");
    let opened = counts.values().filter(|[_, opened]| *opened > 0).count();
    assert!(opened >= 5, "{counts:?}");
}

fn devices(is_permit: bool, when: Condition) -> Rule {
    Rule {
        is_permit,
        devices: Some(true),
        when,
        unless: None,
    }
}

fn and(left: Condition, right: Condition) -> Condition {
    Condition::And(Box::new(left), Box::new(right))
}

fn not(inner: Condition) -> Condition {
    Condition::Not(Box::new(inner))
}

/// A device sends what it owns and hears what is sent to it; services do all; a group may send to
/// everybody, which devices of it may not; all devices hear what nobody owns.
fn sound() -> Vec<Rule> {
    vec![
        devices(
            true,
            and(
                and(Condition::Publishes, Condition::Owns),
                Condition::FromDevice,
            ),
        ),
        devices(
            true,
            and(
                and(not(Condition::Publishes), Condition::Owns),
                not(Condition::FromDevice),
            ),
        ),
        Rule {
            is_permit: true,
            devices: Some(false),
            when: Condition::True,
            unless: None,
        },
        Rule {
            is_permit: true,
            devices: None,
            when: and(Condition::Publishes, Condition::InGroup(0)),
            unless: None,
        },
        devices(false, and(Condition::Publishes, Condition::OwnsNot)),
        devices(
            true,
            and(not(Condition::Publishes), Condition::InChannels(vec![2, 4])),
        ),
    ]
}

/// The number of the policy that now permits more, if it is one.
fn apply(
    edit: Edit,
    world: &mut World,
    rules: &mut Vec<Rule>,
    runner: &mut TestRunner,
) -> Option<usize> {
    let below = |end: usize, runner: &mut TestRunner| (0..end).new_tree(runner).unwrap().current();
    let place = below(rules.len(), runner);
    match edit {
        Edit::Added => {
            rules.push(rule().new_tree(runner).unwrap().current());
            Some(rules.len() - 1)
        }
        Edit::Replaced => {
            rules[place] = rule().new_tree(runner).unwrap().current();
            // What it replaced may have been a forbid.
            None
        }
        Edit::PrincipalWidened => {
            rules[place].devices = None;
            rules[place].is_permit.then_some(place)
        }
        Edit::ConditionHalved => {
            if let Condition::And(left, right) = rules[place].when.clone() {
                rules[place].when = if below(2, runner) == 0 { *left } else { *right };
            }
            rules[place].is_permit.then_some(place)
        }
        Edit::AlternativeAdded => {
            let other = condition().new_tree(runner).unwrap().current();
            let when = rules[place].when.clone();
            rules[place].when = Condition::Or(Box::new(when), Box::new(other));
            rules[place].is_permit.then_some(place)
        }
        Edit::RestraintDropped => {
            let except = condition().new_tree(runner).unwrap().current();
            for rule in rules.iter_mut().filter(|rule| !rule.is_permit) {
                rule.unless = Some(except.clone());
            }
            None
        }
        Edit::DirectionTurned => {
            let channel = below(TEMPLATES.len(), runner);
            world.from_device[channel] = !world.from_device[channel];
            None
        }
    }
}

/// Whoever reads the case can go that way: both ends may do what it says, by the policies it names,
/// whose numbers are returned.
fn check_case(world: &World, rules: &[Rule], case: &str) -> [usize; 2] {
    let parsed = || {
        let (from, to) = case.split_once(", and ")?;
        let (sender, rest) = from.split_once(" may publish to ")?;
        let (place, sends) = rest.split_once(" by policy ")?;
        let (receiver, hears) = to.split_once(" receives that by policy ")?;
        Some((sender, place, sends, receiver, hears))
    };
    let (sender, place, sends, receiver, hears) = parsed().unwrap_or_else(|| panic!("{case}"));
    // Whose topics, seen from either end.
    let (channel, owns, is_owned) = if let Some(channel) = place.strip_prefix("its own topics of ")
    {
        (channel, [true, false], true)
    } else if let Some(channel) = place.strip_prefix("the other's topics of ") {
        (channel, [false, true], true)
    } else if let Some(channel) = place.strip_prefix("any device's topics of ") {
        (channel, [false, false], true)
    } else {
        let channel = place
            .strip_suffix(", which nobody owns")
            .unwrap_or_else(|| panic!("{case}"));
        (channel, [false, false], false)
    };
    let channel: usize = channel[1..].parse().unwrap();
    assert_eq!(TEMPLATES[channel].contains("{device}"), is_owned, "{case}");
    let ends = [
        (sender, sends, true, owns[0]),
        (receiver, hears, false, owns[1]),
    ];
    ends.map(|(who, by, publishes, owns)| {
        let number = policy(by);
        for (world, device) in whoever_is(world, who) {
            let question = Question {
                device,
                service: None,
                publishes,
                channel,
                owner: match (is_owned, owns) {
                    (false, _) => None,
                    (true, true) => Some("d0"),
                    (true, false) => Some("ghost"),
                },
            };
            assert!(
                world.allows(rules, &question),
                "{case}: {who} may not, in {world:?}"
            );
            let rule = &rules[number];
            assert!(
                rule.is_permit && rule.applies(&world, &question),
                "{case}: {rule:?}"
            );
        }
        number
    })
}

/// Its number, out of `r3 (fleet/policies/p.cedar:7)`.
fn policy(said: &str) -> usize {
    let (id, place) = said.split_once(" (fleet/policies/p.cedar:").unwrap();
    let number: usize = id[1..].parse().unwrap();
    assert_eq!(place, format!("{})", 2 * number + 1));
    number
}

/// Every device that the words fit, each as the first of a world.
fn whoever_is(world: &World, who: &str) -> Vec<(World, Option<usize>)> {
    let (mut products, mut groups): (Vec<usize>, Vec<usize>) =
        ((0..PRODUCTS.len()).collect(), Vec::new());
    let product_of = |name: &str| PRODUCTS.iter().position(|one| *one == name).unwrap();
    if who != "any device" {
        let mut are_others = false;
        for part in who.strip_prefix("a device ").unwrap().split(", ") {
            if let Some(names) = part.strip_prefix("in ") {
                groups = names
                    .split(" and ")
                    .map(|name| name[1..].parse().unwrap())
                    .collect();
            } else if let Some(name) = part.strip_prefix("of a product other than ") {
                are_others = true;
                products.retain(|product| *product != product_of(name));
            } else if let Some(name) = part.strip_prefix("of product ") {
                products = vec![product_of(name)];
            } else {
                assert!(are_others, "{who}");
                products.retain(|product| *product != product_of(part));
            }
        }
    }
    assert!(
        !products.is_empty() && groups.iter().all(|group| *group < GROUPS),
        "{who}"
    );
    let one = |product: usize| {
        let mut alone = world.clone();
        alone.products[0] = product;
        alone.device_groups[0].clone_from(&groups);
        (alone, Some(0))
    };
    products.into_iter().map(one).collect()
}
