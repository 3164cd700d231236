//! What holds the routes, the actions and the interface together.

use super::*;

/// `FLEETWARD_BLESS=1 cargo test -p plane` writes it anew.
#[test]
fn the_checked_in_interface_is_the_one_served() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let now = openapi_json().unwrap();
    if std::env::var_os("FLEETWARD_BLESS").is_some() {
        std::fs::write(file, &now).unwrap();
    }
    let checked_in = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        checked_in == now,
        "openapi.json is old; run FLEETWARD_BLESS=1 cargo test -p plane"
    );
}

/// What is routed and not in the interface: others' formats, told in the documentation.
const BESIDE: [&str; 5] = [
    "/openapi.json",
    "/status/crl/{issuer}/{count}/{file}",
    "/status/ocsp",
    "/status/ocsp/{*request}",
    "/log/{*path}",
];

#[test]
fn every_endpoint_has_exactly_one_action_and_every_action_an_endpoint() {
    let interface = serde_json::to_value(Interface::openapi()).unwrap();
    let mut there = std::collections::BTreeSet::new();
    for (path, operations) in interface["paths"].as_object().unwrap() {
        let path = if path == "/log/{path}" {
            BESIDE[4]
        } else {
            path
        };
        for method in operations.as_object().unwrap().keys() {
            there.insert((method.to_uppercase(), path.to_owned()));
        }
    }
    let mut listed = std::collections::BTreeSet::new();
    for (method, path, _) in actions::ENDPOINTS {
        assert!(
            listed.insert((method.to_string(), path.to_string())),
            "{path} twice"
        );
    }
    let without: Vec<_> = there.difference(&listed).collect();
    assert!(without.is_empty(), "no action in actions.rs: {without:?}");
    let beside = listed.difference(&there);
    let gone: Vec<_> = beside
        .filter(|(_, path)| !BESIDE.contains(&path.as_str()))
        .collect();
    assert!(
        gone.is_empty(),
        "listed in actions.rs and nowhere routed: {gone:?}"
    );
    for action in ::access::Action::ALL {
        // Asked within an act, not at its door.
        use ::access::Action::{ContainMany, RevokeMany};
        let within = matches!(action, RevokeMany | ContainMany);
        let used = actions::ENDPOINTS.iter().any(|(_, _, its)| its == action);
        assert!(used || within, "{action:?} is no endpoint's");
    }
}

#[test]
fn every_route_is_in_the_registry() {
    let sources = [include_str!("mod.rs"), include_str!("tpm.rs")];
    let lines: String = sources.concat().split_whitespace().collect();
    for route in lines.split(".route(\"").skip(1) {
        let path = route.split('"').next().unwrap();
        let listed = actions::ENDPOINTS.iter().any(|(_, its, _)| *its == path);
        assert!(listed || !path.starts_with('/'), "{path} has no action");
    }
}

#[test]
fn no_two_operations_share_a_name() {
    let interface = serde_json::to_value(Interface::openapi()).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for operations in interface["paths"].as_object().unwrap().values() {
        for operation in operations.as_object().unwrap().values() {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            assert!(names.insert(name.clone()), "{name}");
        }
    }
}

/// In the interface one would stand for both.
#[test]
fn no_two_schemas_share_a_name() {
    let mut folders = vec![std::path::PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/api"
    ))];
    let mut names = std::collections::BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for behind in text.split(concat!("ToSchema", ")]")).skip(1) {
                let words = behind.split_whitespace();
                let mut name = words.skip_while(|word| !["struct", "enum"].contains(word));
                let name = name.nth(1).unwrap().trim_end_matches('{').to_owned();
                assert!(names.insert(name.clone()), "{name} in {}", path.display());
            }
        }
    }
}

#[test]
fn every_route_of_the_api_is_in_the_interface() {
    let source = include_str!("mod.rs");
    let interface = openapi_json().unwrap();
    for line in source
        .lines()
        .filter(|line| line.trim_start().starts_with(".route(\"/api/"))
    {
        let path = line.split('"').nth(1).unwrap();
        assert!(
            interface.contains(&format!("\"{path}\"")),
            "{path} is not in openapi.json"
        );
    }
}
