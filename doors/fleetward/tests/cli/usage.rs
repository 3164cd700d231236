//! What needs no plane and no log: help, usage, configuration.

use crate::support::{command, finished, run, text};
use std::fs;

/// The verbs that a help text lists.
fn verbs(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|verb| !verb.is_empty() && *verb != "help")
        .map(str::to_owned)
        .collect()
}

fn leaves(path: &[String], found: &mut Vec<Vec<String>>) {
    let mut arguments = path.to_vec();
    arguments.push("--help".into());
    let help = run(&arguments).well().to_owned();
    let below = verbs(&help);
    if below.is_empty() {
        assert!(help.contains("Examples:\n  "), "{path:?} has no example");
        assert!(help.contains("--output <OUTPUT>"), "{path:?}");
        found.push(path.to_vec());
    }
    for verb in below {
        leaves(&[path, &[verb]].concat(), found);
    }
}

#[test]
fn every_verb_has_help_with_an_example_and_stands_in_the_docs() {
    let mut found = Vec::new();
    leaves(&[], &mut found);
    assert!(found.len() >= 24, "{found:?}");
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let docs = fs::read_to_string(docs).unwrap();
    for verb in found {
        let verb = format!("fleetward {}", verb.join(" "));
        assert!(
            docs.contains(&format!("$ {verb}")),
            "{verb} has no example in docs/cli.md"
        );
    }
}

#[test]
fn what_is_not_understood_is_status_2() {
    for arguments in [
        &["--colour"][..],
        &["paint"],
        &["serve", "extra"],
        &["access", "explain", "--device", "a"],
        &[
            "access",
            "explain",
            "--device",
            "a",
            "--service",
            "b",
            "--publish",
            "t",
        ],
        &[
            "access",
            "explain",
            "--device",
            "a",
            "--publish",
            "t",
            "--receive",
            "t",
        ],
        &["identity", "list", "--limit", "0"],
        &["identity", "list", "--limit", "1001"],
        &["identity", "show", "../etc"],
        &["identity", "list", "--after", "a&limit=9"],
        &["identity", "expect", "--manufacturer", "a/b", "list.csv"],
        &["identity", "revoke", "--device", "a", "--reason", "because"],
        &["identity", "revoke", "--reason", "superseded"],
        &["identity", "certify", "a", "--out", "x"],
        &[
            "identity",
            "certify",
            "a",
            "--out",
            "x",
            "--csr",
            "c",
            "--new-key",
            "k",
        ],
        &["audit", "verify", "bundle.json"],
        &["audit", "watch", "--key", "k", "--state", "s"],
        &[
            "audit",
            "watch",
            "--key",
            "k",
            "--state",
            "s",
            "--url",
            "https://a:8444",
        ],
        &[
            "audit",
            "watch",
            "--key",
            "k",
            "--state",
            "s",
            "--data",
            "a",
            "--log-dir",
            "b",
        ],
        &[
            "audit",
            "watch",
            "--key",
            "k",
            "--state",
            "s",
            "--data",
            "a",
            "--interval",
            "0",
        ],
        &["status", "--output", "xml"],
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
        assert!(
            ran.out.is_empty(),
            "{arguments:?} printed on standard output"
        );
        assert!(ran.err.starts_with("error: "), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn where_no_plane_runs_the_line_says_how_to_start_one() {
    let scratch = tempfile::tempdir().unwrap();
    let data = text(scratch.path());
    for verb in [
        &["status"][..],
        &["access", "fleet"],
        &["identity", "manufacturer", "list"],
        &[
            "identity",
            "revoke",
            "--device",
            "a",
            "--reason",
            "superseded",
        ],
        &["gateway", "sessions"],
        &["audit", "key"],
    ] {
        let ran = run(&[verb, &["--data", data]].concat());
        let line = ran.refused();
        assert!(
            line.contains(&format!("fleetward serve --data {data}")),
            "{line}"
        );
    }
}

#[test]
fn a_socket_that_a_dead_plane_left_is_no_plane() {
    let scratch = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(scratch.path().join("fleetward.sock")).unwrap());
    let ran = run(&["status", "--data", text(scratch.path())]);
    assert!(ran.refused().contains("no plane is running"));
}

#[test]
fn the_configuration_in_force_is_shown_with_its_variables() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("plane.toml");
    fs::write(&file, "tenant = \"acme\"\ndata_dir = \"/from-file\"\n").unwrap();
    let arguments = [
        "config",
        "explain",
        "--config",
        text(&file),
        "--output",
        "json",
    ];
    let from_file = run(&arguments).json();
    assert_eq!(from_file["tenant"]["value"], "acme");
    assert_eq!(from_file["data_dir"]["value"], "/from-file");
    assert_eq!(
        from_file["gateway.shards"]["variable"],
        "FLEETWARD_GATEWAY_SHARDS"
    );

    let set = |command: &mut std::process::Command| {
        finished(command.env("FLEETWARD_DATA_DIR", "/from-environment")).json()
    };
    let from_environment = set(&mut command(&arguments));
    assert_eq!(from_environment["data_dir"]["value"], "/from-environment");
    let from_argument = set(command(&arguments).args(["--data", "/from-argument"]));
    assert_eq!(from_argument["data_dir"]["value"], "/from-argument");
    assert_eq!(from_argument["log_dir"]["value"], "/from-argument-log");
    let table = run(&["config", "explain", "--data", "77"]);
    assert!(
        table
            .well()
            .lines()
            .any(|line| line.ends_with("# or FLEETWARD_LISTEN_MQTT"))
    );
}

#[test]
fn the_schema_is_printed_as_the_room_has_it() {
    assert_eq!(
        run(&["access", "schema"]).well().trim_end(),
        access::schema().trim_end()
    );
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let mut child = command(&["access", "schema"]);
    let mut child = child.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
