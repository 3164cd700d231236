//! What another fleet would change is exactly what its decisions say.

use crate::differential::{PRODUCTS, SERVICES, TEMPLATES, accepted, rule, world};
use crate::{base_with, compile, device, lines, service};
use access::{Difference, Facts, Fleet, Grants, How, Shift};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn between(before: &[(&str, &str)], after: &[(&str, &str)], population: &[Facts]) -> Difference {
    let (old, new) = (
        compile(&base_with(before), population),
        compile(&base_with(after), population),
    );
    old.difference(&new, population.iter().cloned())
}

fn shift(shift: &Shift) -> String {
    let own = if shift.own { "own" } else { "others" };
    let examples: Vec<String> = (shift.principals.examples.iter())
        .map(ToString::to_string)
        .collect();
    format!(
        "{} {} {own} {}+{} {}",
        shift.action,
        shift.channel,
        shift.principals.devices,
        shift.principals.services,
        examples.join(",")
    )
}

#[test]
fn nothing_changes_nothing() {
    let population = [device("a", "camera", &[])];
    assert_eq!(between(&[], &[], &population), Difference::default());
}

#[test]
fn a_widened_policy_says_who_gains_by_number_and_example() {
    let population: Vec<Facts> = (0..5)
        .map(|n| device(&format!("c{n}"), "camera", &[]))
        .chain([device("l", "lock", &[])])
        .collect();
    let more = [(
        "policies/more.cedar",
        "@id(\"more\") permit (principal is Device in Product::\"camera\", action == \
         Action::\"publish\", resource == Channel::\"notice\");",
    )];
    let wider = between(&[], &more, &population);
    let gains: Vec<String> = wider.gains.iter().map(shift).collect();
    assert_eq!(
        gains,
        ["publish notice others 5+0 device/c0,device/c1,device/c2"]
    );
    assert_eq!(wider.gains[0].policy.as_ref().unwrap().as_str(), "more");
    assert!(wider.losses.is_empty());
    let things: Vec<_> = (wider.things.iter())
        .map(|thing| (thing.kind, thing.name.as_str(), thing.how))
        .collect();
    assert_eq!(things, [("policy", "more", How::Added)]);

    let narrower = between(&more, &[], &population);
    assert_eq!(narrower.losses.iter().map(shift).collect::<Vec<_>>(), gains);
    assert!(narrower.gains.is_empty());
    assert_eq!(narrower.things[0].how, How::Removed);
}

/// The name stays and what it means is another: whoever looks only at names sees nothing.
#[test]
fn a_channel_that_moves_is_lost_and_gained() {
    let text = crate::base_with(&[])
        .into_iter()
        .find(|file| file.path.starts_with("channels/"))
        .unwrap();
    let moved = text
        .text
        .replace("v1/{device}/command", "v2/{device}/command");
    assert_ne!(moved, text.text);
    let population = [device("a", "camera", &[])];
    let change = between(&[], &[(&text.path, &moved)], &population);
    assert_eq!(change.things.len(), 1);
    assert_eq!(change.things[0].how, How::Changed);
    let gains: Vec<String> = change.gains.iter().map(shift).collect();
    let losses: Vec<String> = change.losses.iter().map(shift).collect();
    assert_eq!(gains, losses);
    assert!(
        gains.iter().all(|line| line.contains(" command ")),
        "{gains:?}"
    );
    assert!(!gains.is_empty());
}

#[test]
fn a_comment_changes_no_thing() {
    let policy = |comment: &str| {
        format!(
            "{comment}\n@id(\"x\") permit (principal is Device, action, resource == Channel::\"notice\");"
        )
    };
    let (one, other) = (policy("// a"), policy("// b\n\n"));
    let change = between(
        &[("policies/x.cedar", &one)],
        &[("policies/x.cedar", &other)],
        &[device("a", "camera", &[])],
    );
    assert_eq!(change, Difference::default());
}

#[test]
fn a_product_that_goes_leaves_its_devices_in_no_class() {
    let population = [device("a", "lock", &[]), device("b", "camera", &[])];
    let old = compile(&base_with(&[]), &population);
    let files = base_with(&[]);
    let product = files
        .iter()
        .find(|file| file.path.starts_with("products/"))
        .unwrap();
    let without = product.text.replace("[lock]", "");
    let fleet = Fleet::read(&base_with(&[(&product.path, &without)]))
        .unwrap_or_else(|wrong| panic!("{}", lines(&wrong)));
    let new = Grants::compile(&fleet, population.iter().cloned()).unwrap();
    let change = old.difference(&new, population.into_iter());
    assert_eq!(change.unclassified.len(), 1);
    assert_eq!(change.unclassified[0].principals.devices, 1);
    assert!(change.unclassified[0].reason.contains("product lock"));
    assert!(change.losses.iter().all(|one| one.principals.devices == 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    /// Counted one principal at a time.
    #[test]
    fn gains_and_losses_are_those_of_each_principal(
        world in world(),
        before in prop::collection::vec(rule(), 0..5),
        after in prop::collection::vec(rule(), 0..5),
    ) {
        let population: Vec<Facts> = world.products.iter().zip(&world.device_groups).enumerate()
            .map(|(d, (product, groups))| {
                let groups: Vec<String> = groups.iter().map(|g| format!("g{g}")).collect();
                let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
                device(&format!("dev{d}"), PRODUCTS[*product], &groups)
            })
            .collect();
        let grants = |rules| {
            let fleet = Fleet::read(&world.files(&accepted(&world, rules))).unwrap();
            Grants::compile(&fleet, population.iter().cloned())
        };
        let (Ok(old), Ok(new)) = (grants(before), grants(after)) else {
            return Ok(()); // what no filter can say
        };
        let change = old.difference(&new, population.iter().cloned());
        // (channel, action, own) -> how many
        let mut gained: BTreeMap<(String, &str, bool), u64> = BTreeMap::new();
        let mut lost = gained.clone();
        let services = SERVICES.iter().map(|name| service(name));
        for facts in population.iter().cloned().chain(services) {
            let name = facts.principal.name().to_owned();
            for (channel, template) in TEMPLATES.iter().enumerate() {
                let topic = |owner: &str| {
                    template.replace("{device}", owner).replace("{any}", "x").replace("{rest...}", "y")
                };
                let is_device = matches!(facts.principal, model::Principal::Device(_));
                let has_owner = template.contains("{device}");
                let mut topics = vec![(false, topic("ghost"))];
                if is_device && has_owner {
                    topics.push((true, topic(&name)));
                }
                for (own, topic) in topics {
                    for action in ["publish", "receive"] {
                        let may = |grants: &Grants| {
                            let subject = grants.subject(&facts);
                            if action == "publish" {
                                grants.publish(&subject, &topic).is_ok()
                            } else {
                                grants.receive(&subject, &grants.resolve(&topic).unwrap())
                            }
                        };
                        let key = (format!("c{channel}"), action, own);
                        match (may(&old), may(&new)) {
                            (false, true) => *gained.entry(key).or_default() += 1,
                            (true, false) => *lost.entry(key).or_default() += 1,
                            _ => {}
                        }
                    }
                }
            }
        }
        let counted = |shifts: &[Shift]| {
            let mut counted: BTreeMap<(String, &str, bool), u64> = BTreeMap::new();
            for one in shifts {
                let key = (one.channel.to_string(), one.action, one.own);
                *counted.entry(key).or_default() += one.principals.devices + one.principals.services;
            }
            counted
        };
        prop_assert_eq!(counted(&change.gains), gained);
        prop_assert_eq!(counted(&change.losses), lost);
    }
}
