//! What is proven of destinations, counted out by compiling each kind of device there can be.

use super::{outcome, source};
use crate::network::decisions::{self, GROUPS, PRODUCTS, Random};
use access::{Fleet, Grants, Outcome};

/// Random fleets: a device outside of the list may connect exactly if the proof fails.
#[test]
fn a_connection_is_found_exactly_if_there_is_one() {
    let mut random = Random::new(26);
    let (mut held, mut broken) = (0, 0);
    for _ in 0..20 {
        let scene = decisions::scene(&mut random, 4);
        let fleet = Fleet::read(&scene.files).unwrap();
        let kinds: Vec<(&str, Vec<&str>)> = PRODUCTS
            .into_iter()
            .flat_map(|product| {
                (0..1usize << GROUPS.len()).map(move |set| {
                    let within = |group: &usize| set & (1 << group) != 0;
                    let groups = (0..GROUPS.len()).filter(within).map(|group| GROUPS[group]);
                    (product, groups.collect())
                })
            })
            .collect();
        let everybody = kinds
            .iter()
            .map(|(product, groups)| crate::device("d", product, groups));
        let grants = Grants::compile(&fleet, everybody).unwrap();
        for place in &scene.places {
            let only = match random.below(4) {
                0 => None,
                1 => Some(format!("group/{}", random.one_of(&GROUPS))),
                _ => Some(format!("product/{}", random.one_of(&PRODUCTS))),
            };
            let is_inside = |product: &str, groups: &[&str]| match only.as_deref() {
                None => false,
                Some(party) => match party.split_once('/').unwrap() {
                    ("product", name) => name == product,
                    (_, name) => groups.contains(&name),
                },
            };
            let connects = kinds.iter().any(|(product, groups)| {
                let destinations = grants.destinations(&crate::device("d", product, groups));
                let is_reached = destinations.keys().any(|id| id.as_str() == place.id);
                is_reached && !is_inside(product, groups)
            });
            let list: Vec<String> = only.iter().map(|party| format!("{party:?}")).collect();
            let mut files = scene.files.clone();
            files.push(source(
                "invariants.toml",
                format!(
                    "[x]\ndestinations = [{:?}]\nconnect_only = [{}]\n",
                    place.id,
                    list.join(", ")
                ),
            ));
            match outcome(&files) {
                Outcome::Holds => {
                    assert!(!connects, "{only:?} {}\n{}", place.id, scene.policies);
                    held += 1;
                }
                Outcome::Broken(case) => {
                    assert!(connects, "{case}\n{}", scene.policies);
                    assert!(
                        case.contains(&format!("may connect with {} (", place.id)),
                        "{case}"
                    );
                    broken += 1;
                }
                Outcome::Undecided(why) => panic!("{why}"),
            }
        }
    }
    println!("{held} held and {broken} were broken");
    assert!(held > 10 && broken > 10, "{held} {broken}");
}
