//! Proving a log without its plane: good ones, and each kind of altered one.

use crate::support::{Log, alter, python_verifier, run, text};
use std::fs;

fn verify(log: &Log, bundle: &str, more: &[&str]) -> crate::support::Ran {
    let file = log.beside("bundle.json");
    fs::write(&file, bundle).unwrap();
    let key = log.key();
    run(&[&["audit", "verify", text(&file), "--key", &key], more].concat())
}

#[test]
fn a_bundle_verifies_with_the_key_alone() {
    let log = Log::new(1, "a", 300);
    let ran = verify(&log, &log.bundle(250..260, None), &[]);
    assert!(ran.well().ends_with("\nOK\n"), "{ran:?}");
    assert!(
        ran.out
            .contains("They are all that it holds from 250 to 259.")
    );
    assert!(ran.out.contains("does not exclude a second history"));
    let json = verify(&log, &log.bundle(250..260, None), &["--output", "json"]).json();
    assert_eq!(json["verified"], true);
    assert_eq!(json["entries"][0]["object"], "device/cam-250");
    assert_eq!(json["complete_range"]["end"], 260);
}

#[test]
fn a_key_may_stand_in_a_file() {
    let log = Log::new(1, "a", 3);
    let bundle = log.beside("bundle.json");
    fs::write(&bundle, log.bundle(0..3, None)).unwrap();
    let key = log.beside("log.vkey");
    fs::write(&key, format!("\n{}\n", log.key())).unwrap();
    run(&["audit", "verify", text(&bundle), "--key", text(&key)]).well();
    fs::write(&key, "no key").unwrap();
    for wrong in [text(&key), "/no/such/file", "a+b+c"] {
        let ran = run(&["audit", "verify", text(&bundle), "--key", wrong]);
        assert!(ran.refused().starts_with("fleetward: "), "{ran:?}");
    }
}

#[test]
fn hostile_text_in_an_entry_does_not_reach_the_terminal() {
    let log = Log::new(1, "a", 3);
    let acts = |text: &str| {
        text.chars()
            .any(|c| c != '\n' && (c.is_control() || matches!(c, '\u{202a}'..='\u{202e}')))
    };
    for output in ["table", "json"] {
        let ran = verify(&log, &log.bundle(0..3, None), &["--output", output]);
        assert!(!acts(ran.well()), "{ran:?}");
        assert!(!acts(&ran.err), "{ran:?}");
    }
    let json = verify(&log, &log.bundle(0..3, None), &["--output", "json"]).json();
    let serial = json["entries"][0]["details"]["serial"].as_str().unwrap();
    assert!(
        serial.starts_with("\u{1b}]0;owned\u{7}"),
        "JSON keeps the value"
    );
}

#[test]
fn every_altered_bundle_is_refused_with_its_place() {
    let log = Log::new(1, "a", 300);
    let good = log.bundle(10..13, Some(200));
    let dropped = {
        let mut value: serde_json::Value = serde_json::from_str(&good).unwrap();
        value["entries"].as_array_mut().unwrap().remove(1);
        value.to_string()
    };
    let cases = [
        ("an entry", good.replace("cam-11", "cam-99"), "entry 11: "),
        (
            "an actor",
            good.replacen("operator/7f3a", "operator/0000", 1),
            "entry 10: ",
        ),
        (
            "the size",
            good.replacen("\\n300\\n", "\\n299\\n", 1),
            "signature of ",
        ),
        (
            "the origin",
            good.replace("audit.example.com/test", "audit.example.com/tesu"),
            "",
        ),
        ("a dropped entry", dropped, "entry 11: it is missing"),
        (
            "a cut file",
            good[..good.len() / 2].to_owned(),
            "file: it ends too early",
        ),
        ("a field", good.replace("\"range\"", "\"rank\""), "file: "),
        ("rubbish", "\u{1b}[2J".into(), "file: it is not JSON"),
    ];
    for (what, altered, place) in cases {
        assert_ne!(altered, good, "{what}");
        let ran = verify(&log, &altered, &[]);
        assert!(
            ran.refused().starts_with(&format!("FAILED at {place}")),
            "{what}: {ran:?}"
        );
        assert!(ran.out.is_empty(), "{what}: {ran:?}");
        let json = verify(&log, &altered, &["--output", "json"]);
        assert_eq!(
            (json.code, &json.json()["verified"]),
            (1, &false.into()),
            "{what}"
        );
        let file = log.beside("bundle.json");
        if let Some(python) = python_verifier(&["bundle", text(&file), "--key", &log.key()]) {
            assert_eq!(
                python.code, 1,
                "{what}: the plain verifier took it: {python:?}"
            );
        }
    }
    let stranger = Log::new(2, "a", 1).key();
    let file = log.beside("good.json");
    fs::write(&file, &good).unwrap();
    let ran = run(&["audit", "verify", text(&file), "--key", &stranger]);
    assert!(
        ran.refused().contains("not signed by the log's key"),
        "{ran:?}"
    );
}

#[test]
fn a_bundle_is_held_against_the_checkpoint_that_was_kept() {
    let mut log = Log::new(1, "a", 200);
    let seen = log.beside("seen");
    fs::write(&seen, log.note()).unwrap();
    log.grow(100);
    let grown = ["--seen", text(&seen)];
    verify(&log, &log.bundle(0..300, Some(200)), &grown).well();
    let ran = verify(&log, &log.bundle(0..300, None), &grown);
    assert!(
        ran.refused().contains("ask for one made since 200"),
        "{ran:?}"
    );
    let forked = Log::new(1, "b", 300);
    let ran = verify(&forked, &forked.bundle(0..3, Some(200)), &grown);
    assert!(ran.refused().contains("REWRITTEN"), "{ran:?}");
    fs::write(&seen, "not a checkpoint").unwrap();
    let ran = verify(&log, &log.bundle(0..3, None), &grown);
    assert!(ran.refused().starts_with("fleetward: "), "{ran:?}");
}

fn check(log: &Log, more: &[&str]) -> crate::support::Ran {
    let (dir, key) = (log.dir(), log.key());
    run(&[&["audit", "check", text(&dir), "--key", &key], more].concat())
}

#[test]
fn a_whole_log_is_checked_entry_by_entry() {
    let mut log = Log::new(1, "a", 200);
    let seen = log.beside("seen");
    fs::write(&seen, log.note()).unwrap();
    log.grow(400);
    let ran = check(&log, &["--seen", text(&seen)]);
    assert!(ran.well().starts_with("All 600 entries of "), "{ran:?}");
    assert!(ran.out.ends_with("\nOK\n"));
    let forked = Log::new(1, "b", 600);
    let ran = check(&forked, &["--seen", text(&seen)]);
    assert!(ran.refused().contains("REWRITTEN"), "{ran:?}");
    let ran = run(&[
        "audit",
        "check",
        text(&log.beside("none")),
        "--key",
        &log.key(),
    ]);
    assert!(ran.refused().contains("is no folder"), "{ran:?}");
}

#[test]
fn damage_in_a_log_is_found_and_named() {
    let path = |name: &str| name.to_owned();
    for (what, damage, place) in [
        ("an entry", path("tile/entries/001"), "entry "),
        ("a tile", path("tile/0/000"), "tile/0/000 "),
        ("the checkpoint", path("checkpoint"), ""),
    ] {
        let log = Log::new(1, "a", 600);
        alter(&log.dir().join(&damage), 100);
        let ran = check(&log, &[]);
        assert!(
            ran.refused().starts_with(&format!("FAILED at {place}")),
            "{what}: {ran:?}"
        );
        let dir = log.dir();
        if let Some(python) = python_verifier(&["log", text(&dir), "--key", &log.key()]) {
            assert_eq!(python.code, 1, "{what}: {python:?}");
        }
    }
    let log = Log::new(1, "a", 600);
    fs::remove_file(log.dir().join("tile/entries/001")).unwrap();
    let ran = check(&log, &[]);
    assert!(
        ran.refused().starts_with("FAILED at tile/entries/001: "),
        "{ran:?}"
    );
}

#[test]
fn a_log_folder_cannot_make_us_read_other_files() {
    let log = Log::new(1, "a", 3);
    let file = log.dir().join("tile/entries/000.p/3");
    let elsewhere = log.beside("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    assert_eq!(check(&log, &[]).code, 1);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(check(&log, &[]).code, 1);
}

/// Before a merge, without a plane: what must never be is looked for in every device there could be.
#[test]
fn a_path_between_devices_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/fleet");
    run(&["access", "prove", text(&example)]).well();

    let fleet = folder.path().join("fleet");
    assert!(
        std::process::Command::new("cp")
            .arg("-r")
            .args([&example, &fleet])
            .status()
            .unwrap()
            .success()
    );
    fs::write(
        fleet.join("policies/more.cedar"),
        "@id(\"oops\") permit (principal is Device, action == Action::\"receive\", resource == \
         Channel::\"lock-state\");",
    )
    .unwrap();
    let ran = run(&["access", "prove", text(&fleet)]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("BROKEN"), "{ran:?}");
    assert!(
        ran.out
            .contains("policy oops (fleet/policies/more.cedar:1)"),
        "{ran:?}"
    );
    let json = run(&["access", "prove", text(&fleet), "--output", "json"]);
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(value["broken"], 1);
    assert_eq!(value["invariants"][0]["outcome"], "broken");
    assert_eq!(value["invariants"][1]["outcome"], "holds");

    fs::remove_file(fleet.join("invariants.toml")).unwrap();
    let ran = run(&["access", "prove", text(&fleet)]);
    assert!(ran.well().contains("declares no invariants"), "{ran:?}");
}

#[test]
fn the_policies_of_another_broker_become_a_fleet_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let acl = folder.path().join("acl");
    fs::write(
        &acl,
        "user ingest\ntopic read devices/+/up\npattern write devices/%u/up\n",
    )
    .unwrap();
    let out = folder.path().join("fleet");
    let dry = run(&["access", "import-mosquitto", text(&acl), "--dry-run"]);
    assert!(
        dry.well().contains("topic = \"devices/{device}/up\""),
        "{dry:?}"
    );
    assert!(!out.exists());
    let ran = run(&[
        "access",
        "import-mosquitto",
        text(&acl),
        "--out",
        text(&out),
    ]);
    assert!(ran.well().contains("channels/imported.toml"), "{ran:?}");
    // It is a fleet that can be proven as it stands.
    run(&["access", "prove", text(&out)]).well();
    let again = run(&[
        "access",
        "import-mosquitto",
        text(&acl),
        "--out",
        text(&out),
    ]);
    assert!(
        again.refused().contains("is there and not empty"),
        "{again:?}"
    );

    fs::write(&acl, "user a\ntopic write #\n").unwrap();
    let out = folder.path().join("none");
    let ran = run(&[
        "access",
        "import-mosquitto",
        text(&acl),
        "--out",
        text(&out),
    ]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("refused: acl:2: "), "{ran:?}");
    assert!(!out.exists());

    let policy = folder.path().join("camera.json");
    fs::write(
        &policy,
        r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["iot:Publish"],
            "Resource": ["arn:aws:iot:eu-west-1:1:topic/v1/${iot:Connection.Thing.ThingName}/up"]}]}"#,
    )
    .unwrap();
    let json = [
        "access",
        "import-aws",
        text(&policy),
        "--dry-run",
        "--output",
        "json",
    ];
    let value: serde_json::Value = serde_json::from_str(run(&json).well()).unwrap();
    let files = value["files"].as_array().unwrap();
    let products = files
        .iter()
        .find(|file| file["path"] == "products/imported.toml");
    assert_eq!(products.unwrap()["text"], "[\"camera\"]\n");
}

#[test]
fn schemas_for_editors_are_written_where_no_fleet_sees_them() {
    let folder = tempfile::tempdir().unwrap();
    let fleet = folder.path().join("fleet");
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/fleet");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([&example, &fleet])
        .status();
    assert!(copied.unwrap().success());
    let ran = run(&["access", "schema", "--into", text(&fleet)]);
    assert!(
        ran.well().contains("#:schema ../.schemas/channels.json"),
        "{ran:?}"
    );
    for name in [
        "fleet",
        "invariants",
        "products",
        "services",
        "channels",
        "destinations",
        "playbooks",
        "site",
    ] {
        let file = fleet.join(".schemas").join(format!("{name}.json"));
        let schema: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
    }
    // The folder is still the same fleet.
    run(&["access", "prove", text(&fleet)]).well();
    assert!(run(&["access", "schema"]).well().contains("entity Device"));
}
