//! Invariants: what is proven holds in every case that a few lines can count out, and what is
//! broken is said with its path.

mod destinations;
mod edits;
mod holes;

use crate::differential::{
    GROUPS, PRODUCTS, Question, Rule, SERVICES, TEMPLATES, World, accepted, rule, world,
};
use crate::{base_with, example_files, example_fleet, fleet, lines, source};
use access::{Fleet, Outcome, SourceFile, prove};
use proptest::prelude::*;
use proptest::test_runner::Config;

const NO_PATH: &str = "[no-path]\nfrom = [\"devices\"]\nto = [\"devices\"]\n";

/// The outcome of the one invariant of the example fleet, with `changed` policies.
fn example_with(invariants: &str, policies: &str) -> Outcome {
    let mut files = example_files();
    files.retain(|file| file.path != "invariants.toml");
    files.push(source("invariants.toml", invariants));
    files.push(source("policies/more.cedar", policies));
    outcome(&files)
}

fn outcome(files: &[SourceFile]) -> Outcome {
    let mut proofs = prove(&fleet(files));
    assert_eq!(proofs.len(), 1);
    proofs.pop().unwrap().outcome
}

fn broken(outcome: Outcome) -> String {
    match outcome {
        Outcome::Broken(case) => case,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_invariants_of_the_example_fleet_hold() {
    let proofs = prove(&example_fleet());
    assert!(!proofs.is_empty());
    for proof in proofs {
        assert_eq!(proof.outcome, Outcome::Holds, "{}", proof.invariant);
        assert_eq!(proof.refusal(), None);
    }
}

#[test]
fn a_fleet_without_invariants_has_nothing_to_prove() {
    let fleet = Fleet::read(&base_with(&[])).unwrap();
    assert!(prove(&fleet).is_empty());
}

/// The commonest mistake: the owner is not compared, so every device hears all of its kind.
#[test]
fn a_forgotten_owner_is_a_path() {
    let case = broken(example_with(
        NO_PATH,
        "@id(\"oops\") permit (principal is Device in Product::\"lock\", action == \
         Action::\"receive\", resource == Channel::\"lock-state\");",
    ));
    assert!(case.contains("device of product lock"), "{case}");
    assert!(case.contains("its own topics of lock-state"), "{case}");
    assert!(
        case.contains("policy device-sends-own (fleet/policies/devices.cedar:"),
        "{case}"
    );
    assert!(
        case.contains("policy oops (fleet/policies/more.cedar:1)"),
        "{case}"
    );
}

/// No device is in that group today: a device could be tomorrow.
#[test]
fn a_group_that_is_empty_today_is_a_path() {
    let case = broken(example_with(
        NO_PATH,
        "@id(\"oops\") permit (principal in Group::\"beta\", action == Action::\"publish\", \
         resource == Channel::\"notice\");",
    ));
    assert!(case.contains("in beta"), "{case}");
    assert!(case.contains("which nobody owns"), "{case}");
}

/// A forbid stands in the way of all but those that it excepts.
#[test]
fn an_unless_is_a_path() {
    let harmless = "@id(\"all\") permit (principal is Device, action == Action::\"publish\", \
                    resource == Channel::\"notice\");\n\
                    @id(\"but\") forbid (principal is Device, action == Action::\"publish\", \
                    resource == Channel::\"notice\")";
    let none = format!("{harmless};");
    assert_eq!(example_with(NO_PATH, &none), Outcome::Holds);
    let some = format!("{harmless} unless {{ principal.assurance == \"attested\" }};");
    let case = broken(example_with(NO_PATH, &some));
    assert!(case.contains("attested"), "{case}");
}

#[test]
fn what_is_meant_is_excepted_and_nothing_else() {
    let policies = "@id(\"hub\") permit (principal is Device in Product::\"thermostat\", action == \
                    Action::\"publish\", resource == Channel::\"lock-command\");";
    let except = |line: &str| format!("{NO_PATH}except = [{line}]\n");
    let meant = [
        "{ channels = [\"lock-command\"] }",
        "{ from = [\"product/thermostat\"] }",
        "{ from = [\"product/thermostat\"], to = [\"product/lock\"] }",
        "{ to = [\"product/lock\"] }",
    ];
    for line in meant {
        // The example's own forbid bars thermostats from a lock's channels; without it they get in.
        let mut files = example_files();
        for file in &mut files {
            file.text = file.text.replace("@id(\"lock-channels-are-for-locks\")\nforbid (principal is Device, action, resource)", "@id(\"lock-channels-are-for-locks\")\nforbid (principal is Device, action == Action::\"receive\", resource)");
        }
        files.retain(|file| file.path != "invariants.toml");
        files.push(source("policies/more.cedar", policies));
        let mut without = files.clone();
        without.push(source("invariants.toml", NO_PATH));
        let case = broken(outcome(&without));
        assert!(case.contains("policy hub"), "{case}");
        files.push(source("invariants.toml", except(line)));
        assert_eq!(outcome(&files), Outcome::Holds, "{line}");
        files.pop();
        let other = except("{ from = [\"product/camera\"] }, { channels = [\"notice\"] }");
        files.push(source("invariants.toml", &other));
        broken(outcome(&files));
    }
}

#[test]
fn who_else_may_command() {
    let only = "[commands]\nchannels = [\"lock-command\"]\npublish_only = [\"service/commander\"]\n\
                receive_only = [\"product/lock\"]\n";
    assert_eq!(example_with(only, ""), Outcome::Holds);
    // Whoever may put a device into the services' group would make it a commander.
    let case = broken(example_with(
        only,
        "@id(\"oops\") permit (principal in Group::\"back-end\", action == Action::\"publish\", \
         resource);",
    ));
    assert!(
        case.contains("a device of product lock, in back-end"),
        "{case}"
    );
    let case = broken(example_with(
        only,
        "@id(\"oops\") permit (principal == Service::\"ingest\", action, resource);",
    ));
    assert!(case.contains("service ingest"), "{case}");
}

#[test]
fn an_invariant_about_nothing_is_refused() {
    for (text, said) in [
        ("[x]\nfrom = [\"devices\"]\n", "this is no invariant"),
        ("[x]\nfrom = []\nto = [\"devices\"]\n", "an empty list"),
        (
            "[x]\nfrom = [\"product/no\"]\nto = [\"devices\"]\n",
            "is nobody",
        ),
        (
            "[x]\nfrom = [\"device\"]\nto = [\"devices\"]\n",
            "is nobody",
        ),
        (
            "[x]\nchannels = [\"no\"]\npublish_only = [\"devices\"]\n",
            "not declared",
        ),
        ("[x]\nchannels = [\"up\"]\n", "this is no invariant"),
        ("[x]\ndestinations = [\"hub\"]\n", "this is no invariant"),
        (
            "[x]\nlocal_only = []\nconnect_only = []\n",
            "this is no invariant",
        ),
        (
            "[x]\ndestinations = [\"no\"]\nconnect_only = []\n",
            "destination \"no\" is not declared",
        ),
        (
            "[x]\nfrom = [\"devices\"]\nto = [\"devices\"]\nexcept = [{}]\n",
            "names nothing",
        ),
        (
            "[x]\nfrom = [\"devices\"]\nto = [\"devices\"]\nunless = 1\n",
            "unknown field",
        ),
        (
            "[\"a b\"]\nfrom = [\"devices\"]\nto = [\"devices\"]\n",
            "no name",
        ),
    ] {
        let wrong = Fleet::read(&base_with(&[("invariants.toml", text)])).unwrap_err();
        let said_now = lines(&wrong);
        assert!(said_now.contains(said), "{text}: {said_now}");
        assert!(said_now.contains("fleet/invariants.toml:"), "{said_now}");
    }
}

/// More kinds of device than can be counted out one by one: 2^60 sets of groups.
#[test]
fn many_groups_are_no_trouble() {
    let mut fleet = String::from("name = \"x\"\n");
    let mut policies = String::new();
    for group in 0..60 {
        fleet.push_str(&format!("[groups.g{group}]\n"));
        policies.push_str(&format!(
            "@id(\"p{group}\") permit (principal is Device, action == Action::\"publish\", resource) \
             when {{ principal in Group::\"g{group}\" && resource.owner == principal }};\n\
             @id(\"f{group}\") forbid (principal is Device, action == Action::\"receive\", resource) \
             when {{ principal in Group::\"g{group}\" && !(resource.owner == principal) }};\n"
        ));
    }
    let mut files = vec![
        source("fleet.toml", &fleet),
        source("products/p.toml", "[camera]\n"),
        source(
            "channels/c.toml",
            "[up]\ntopic = \"up/{device}\"\ndirection = \"from-device\"\npayload_bytes_max = 1\n",
        ),
        source("policies/p.cedar", &policies),
        source("invariants.toml", NO_PATH),
    ];
    assert_eq!(outcome(&files), Outcome::Holds);
    files.push(source(
        "policies/q.cedar",
        "@id(\"all\") permit (principal is Device, action == Action::\"receive\", resource);",
    ));
    let case = broken(outcome(&files));
    // Only a device in none of them may still hear others.
    assert!(
        case.contains("any device receives that by policy all"),
        "{case}"
    );
}

/// A kind of device or a service: all that a policy can see.
struct Kind {
    product: Option<usize>,
    groups: Vec<usize>,
    service: Option<usize>,
    /// By channel: publishes its own, others'; receives its own, others'.
    may: Vec<[bool; 4]>,
}

/// Every kind there can be, with what an interpreter of a few lines permits it.
fn kinds(world: &World, rules: &[Rule]) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for product in 0..PRODUCTS.len() {
        for set in 0..1usize << GROUPS {
            let groups: Vec<usize> = (0..GROUPS).filter(|g| set & (1 << g) != 0).collect();
            let mut alone = world.clone();
            alone.products[0] = product;
            alone.device_groups[0].clone_from(&groups);
            kinds.push(Kind {
                product: Some(product),
                may: may(&alone, rules, Some(0), None),
                groups,
                service: None,
            });
        }
    }
    for service in 0..SERVICES.len() {
        kinds.push(Kind {
            product: None,
            groups: world.service_groups[service].clone(),
            service: Some(service),
            may: may(world, rules, None, Some(service)),
        });
    }
    kinds
}

fn may(
    world: &World,
    rules: &[Rule],
    device: Option<usize>,
    service: Option<usize>,
) -> Vec<[bool; 4]> {
    (0..TEMPLATES.len())
        .map(|channel| {
            let has_owner = TEMPLATES[channel].contains("{device}");
            [(true, true), (true, false), (false, true), (false, false)].map(|(publishes, own)| {
                let owner = match (own, has_owner) {
                    (true, true) if device.is_some() => Some("d0"),
                    (true, _) => return false,
                    (false, true) => Some("ghost"),
                    (false, false) => None,
                };
                let question = Question {
                    device,
                    service,
                    publishes,
                    channel,
                    owner,
                };
                world.allows(rules, &question)
            })
        })
        .collect()
}

#[derive(Debug, Clone)]
enum Set {
    Devices,
    Services,
    Product(usize),
    Group(usize),
    Service(usize),
}

impl Set {
    fn text(&self) -> String {
        match self {
            Self::Devices => "\"devices\"".into(),
            Self::Services => "\"services\"".into(),
            Self::Product(p) => format!("\"product/p{p}\""),
            Self::Group(g) => format!("\"group/g{g}\""),
            Self::Service(s) => format!("\"service/s{s}\""),
        }
    }

    fn has(&self, world: &World, kind: &Kind) -> bool {
        match self {
            Self::Devices => kind.service.is_none(),
            Self::Services => kind.service.is_some(),
            Self::Product(product) => kind.product == Some(*product),
            Self::Group(group) => kind
                .groups
                .iter()
                .any(|from| world.is_within(*from, *group)),
            Self::Service(service) => kind.service == Some(*service),
        }
    }
}

fn set() -> impl Strategy<Value = Set> {
    prop_oneof![
        4 => Just(Set::Devices),
        1 => Just(Set::Services),
        2 => (0..PRODUCTS.len()).prop_map(Set::Product),
        3 => (0..GROUPS).prop_map(Set::Group),
        1 => (0..SERVICES.len()).prop_map(Set::Service),
    ]
}

type Except = (Option<usize>, Option<Set>, Option<Set>);

fn except() -> impl Strategy<Value = Except> {
    (
        prop::option::of(0..TEMPLATES.len()),
        prop::option::of(set()),
        prop::option::of(set()),
    )
        .prop_filter("says something", |(channel, from, to)| {
            channel.is_some() || from.is_some() || to.is_some()
        })
}

/// Is there a message that somebody in `from` may send and somebody else in `to` may hear?
fn has_path(world: &World, rules: &[Rule], from: &Set, to: &Set, except: &[Except]) -> bool {
    let kinds = kinds(world, rules);
    kinds
        .iter()
        .filter(|kind| from.has(world, kind))
        .any(|sender| {
            kinds
                .iter()
                .filter(|kind| to.has(world, kind))
                .any(|receiver| {
                    (0..TEMPLATES.len()).any(|channel| {
                        let [own, others, ..] = sender.may[channel];
                        let [.., hears_own, hears_others] = receiver.may[channel];
                        let passes = (own && hears_others)
                            || (others && hears_own)
                            || (others && hears_others);
                        passes
                            && !except.iter().any(|(only, from, to)| {
                                only.is_none_or(|only| only == channel)
                                    && from.as_ref().is_none_or(|set| set.has(world, sender))
                                    && to.as_ref().is_none_or(|set| set.has(world, receiver))
                            })
                    })
                })
        })
}

fn proves(world: &World, rules: &[Rule], invariant: &str) -> Result<bool, TestCaseError> {
    let mut files = world.files(rules);
    files.push(source("invariants.toml", invariant));
    let fleet = Fleet::read(&files).map_err(|wrong| TestCaseError::fail(lines(&wrong)))?;
    match prove(&fleet).remove(0).outcome {
        Outcome::Holds => Ok(true),
        Outcome::Broken(_) => Ok(false),
        Outcome::Undecided(why) => Err(TestCaseError::fail(why)),
    }
}

proptest! {
    #![proptest_config(Config { cases: 40, ..Config::default() })]

    /// Counting out every kind of device, and the prover, agree.
    #[test]
    fn a_path_is_found_exactly_if_there_is_one(
        world in world(),
        rules in prop::collection::vec(rule(), 0..7),
        from in set(),
        to in set(),
        except in prop::collection::vec(except(), 0..3),
    ) {
        let rules = accepted(&world, rules);
        let exceptions: Vec<String> = except.iter().map(|(channel, from, to)| {
            let mut parts = Vec::new();
            parts.extend(channel.map(|c| format!("channels = [\"c{c}\"]")));
            parts.extend(from.as_ref().map(|set| format!("from = [{}]", set.text())));
            parts.extend(to.as_ref().map(|set| format!("to = [{}]", set.text())));
            format!("{{ {} }}", parts.join(", "))
        }).collect();
        let invariant = format!(
            "[x]\nfrom = [{}]\nto = [{}]\nexcept = [{}]\n",
            from.text(), to.text(), exceptions.join(", ")
        );
        let expected = !has_path(&world, &rules, &from, &to, &except);
        prop_assert_eq!(proves(&world, &rules, &invariant)?, expected, "{}", invariant);
    }
}
