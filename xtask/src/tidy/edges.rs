//! Which crate may import which: the floors, and the two crates narrower than their floor.

use super::Finding;
use super::tree::{Package, Tree};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Floor {
    Words,
    Rooms,
    Keeps,
    Doors,
    /// `sim`: a fleet that speaks to the doors from outside.
    Sim,
    /// `xtask`: builds and judges the rest, so it must build when they do not.
    Tools,
}

const RULE: &str = "room edges";
const REASON: &str = "words ← rooms ← keeps and doors: a room that imports another can no longer \
                      be read, tested or replaced alone";
const WORLD: [&str; 16] = [
    "tokio",
    "futures",
    "hyper",
    "hyper-util",
    "axum",
    "tower-http",
    "reqwest",
    "mio",
    "rustix",
    "libc",
    "rusqlite",
    "tracing",
    "log",
    "rand",
    "getrandom",
    "arc-swap",
];

pub fn guard(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &tree.packages {
        let Some(floor) = floor(&package.folder) else {
            findings.push(finding(
                package,
                package.name.clone(),
                "every crate stands on a floor".to_owned(),
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let edge = || format!("{} -> {dependency}", package.name);
            if let Some(target) = tree.packages.iter().find(|other| &other.name == dependency) {
                let for_tests = !package.product_dependencies.contains(dependency);
                if !(permitted(floor, package, target) || for_tests && testable(floor, target)) {
                    findings.push(finding(
                        package,
                        edge(),
                        "hand the answer in as an argument, or let plane compose the two"
                            .to_owned(),
                    ));
                }
            } else if matches!(floor, Floor::Words | Floor::Rooms)
                && package.product_dependencies.contains(dependency)
                && WORLD.contains(&dependency.as_str())
            {
                findings.push(finding(
                    package,
                    edge(),
                    "say what is needed as data (ask, effect, wake) and let a door do it"
                        .to_owned(),
                ));
            }
        }
    }
    findings
}

fn permitted(from: Floor, package: &Package, target: &Package) -> bool {
    let Some(to) = floor(&target.folder) else {
        return false;
    };
    match from {
        Floor::Words | Floor::Tools => false,
        Floor::Rooms => to == Floor::Words,
        // The store knows nouns and nothing that decides, formats or signs.
        Floor::Keeps if package.name == "store" => target.name == "model",
        Floor::Keeps => to == Floor::Words,
        Floor::Sim => matches!(to, Floor::Words | Floor::Rooms),
        Floor::Doors if package.name == "plane" => {
            matches!(to, Floor::Words | Floor::Rooms | Floor::Keeps)
        }
        Floor::Doors => to != Floor::Tools,
    }
}

/// A keep is tested with what rooms really hand to it; the product is not built from that edge.
fn testable(from: Floor, target: &Package) -> bool {
    from == Floor::Keeps && floor(&target.folder) == Some(Floor::Rooms)
}

fn floor(folder: &str) -> Option<Floor> {
    match folder.split('/').next()? {
        "words" => Some(Floor::Words),
        "rooms" => Some(Floor::Rooms),
        "keeps" => Some(Floor::Keeps),
        "doors" => Some(Floor::Doors),
        "sim" => Some(Floor::Sim),
        "xtask" => Some(Floor::Tools),
        _ => None,
    }
}

fn finding(package: &Package, what: String, fix: String) -> Finding {
    Finding {
        rule: RULE,
        path: format!("{}/Cargo.toml", package.folder),
        line: 0,
        what,
        reason: REASON,
        fix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(tree: &Tree) -> Vec<String> {
        guard(tree)
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    fn house() -> Tree {
        Tree::of(&[])
            .with_package("words/model", &["thiserror"])
            .with_package("words/mqtt", &[])
            .with_package("rooms/identity", &["model", "der"])
            .with_package("keeps/store", &["model", "rusqlite"])
            .with_package("keeps/signer", &["model"])
            .with_package("doors/plane", &["identity", "store", "tokio"])
            .with_package("doors/fleetward", &["plane", "sim"])
            .with_package("sim", &["mqtt", "identity"])
            .with_package("xtask", &["clap"])
    }

    #[test]
    fn the_house_as_drawn_stands() {
        assert_eq!(edges(&house()), Vec::<String>::new());
    }

    #[test]
    fn each_wrong_edge_is_refused() {
        for (folder, dependency) in [
            ("words/extra", "identity"),
            ("words/extra", "tokio"),
            ("rooms/extra", "identity"),
            ("rooms/extra", "store"),
            ("rooms/extra", "rusqlite"),
            ("rooms/extra", "rand"),
            ("keeps/extra", "identity"),
            ("keeps/extra", "store"),
            ("sim/extra", "store"),
            ("sim/extra", "plane"),
            ("xtask/extra", "model"),
        ] {
            let tree = house().with_package(folder, &[dependency]);
            assert_eq!(edges(&tree), [format!("extra -> {dependency}")]);
        }
    }

    #[test]
    fn the_store_knows_nouns_only_and_plane_no_client_of_its_own() {
        let store = Tree::of(&[])
            .with_package("words/mqtt", &[])
            .with_package("keeps/store", &["mqtt"]);
        assert_eq!(edges(&store), ["store -> mqtt"]);
        let plane = Tree::of(&[])
            .with_package("sim", &[])
            .with_package("doors/plane", &["sim"]);
        assert_eq!(edges(&plane), ["plane -> sim"]);
    }

    #[test]
    fn tests_of_a_keep_may_use_a_room_and_tests_of_a_room_none() {
        let for_tests = |folder: &str| {
            let mut tree = house().with_package(folder, &["identity"]);
            let last = tree.packages.last_mut().unwrap();
            last.product_dependencies.clear();
            edges(&tree)
        };
        assert_eq!(for_tests("keeps/extra"), Vec::<String>::new());
        assert_eq!(for_tests("rooms/extra"), ["extra -> identity"]);
    }

    #[test]
    fn a_crate_outside_the_floors_is_refused() {
        assert_eq!(edges(&Tree::of(&[]).with_package("misc", &[])), ["misc"]);
    }
}
