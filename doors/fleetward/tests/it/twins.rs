//! Twins: what a device should be reaches it, now or when it comes; what it says is its own word.

use crate::plane::{Home, PATIENCE, Plane, Settings, wait_until};
use crate::tools::{curl, have, write_credential, write_root};
use mqtt::Qos;
use serde_json::{Value, json};
use sim::Device;
use sim::device::Manner;
use std::process::{Command, Stdio};
use std::time::Instant;

const DESIRED: &str = "$fleetward/devices/cam/desired";
const REPORTED: &str = "$fleetward/devices/cam/reported";
const TWIN: &str = "/api/v1/gateway/twins/cam";

fn scene() -> (Home, Plane, Device) {
    let home = Home::new(&Settings {
        shards: 2,
        ..Settings::default()
    });
    let plane = home.start_prepared();
    let mut device = home.device("cam");
    plane.expect([&device]);
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    (home, plane, device)
}

fn listen(plane: &Plane, device: &mut Device) {
    device.connect(&plane.doors(), &Manner::default()).unwrap();
    let session = device.session().unwrap();
    session.subscribe_one(DESIRED, Qos::AtLeastOnce).unwrap();
}

fn told(device: &mut Device) -> Value {
    let session = device.session().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let delivery = session.next_delivery(deadline).unwrap().expect("a word");
    session
        .acknowledge(std::slice::from_ref(&delivery))
        .unwrap();
    assert_eq!(delivery.topic, DESIRED);
    serde_json::from_slice(&delivery.payload).unwrap()
}

/// The command line sets it; a status and what it said.
fn set(home: &Home, patch: &str, more: &[&str]) -> (bool, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_fleetward"))
        .args([
            "--output", "json", "gateway", "twin", "set", "cam", "--patch", patch,
        ])
        .args(more)
        .arg("--data")
        .arg(home.data_dir())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = if out.status.success() {
        out.stdout
    } else {
        out.stderr
    };
    (out.status.success(), String::from_utf8(said).unwrap())
}

fn shown(plane: &Plane) -> Value {
    plane.get(TWIN).expect(200).json()
}

#[test]
fn a_device_is_told_when_it_comes_and_when_it_changes_and_says_what_it_is() {
    let (home, plane, mut device) = scene();
    assert_eq!(shown(&plane)["version"], 0);
    let (_, said) = set(
        &home,
        r#"{"led":{"on":true,"hue":3},"rate":5}"#,
        &["--dry-run"],
    );
    assert!(said.contains("\"version\": 1"), "{said}");
    assert_eq!(shown(&plane)["version"], 0, "a dry run writes nothing");
    let (good, said) = set(
        &home,
        r#"{"led":{"on":true,"hue":3},"rate":5}"#,
        &["--if-version", "0"],
    );
    assert!(good, "{said}");
    // Set while it was away, it is told when it comes; after a kill too.
    plane.kill();
    let plane = home.start();
    listen(&plane, &mut device);
    let first = told(&mut device);
    assert_eq!(first["version"], 1);
    assert_eq!(
        first["desired"],
        json!({"led": {"on": true, "hue": 3}, "rate": 5})
    );
    assert_eq!(first["delta"], first["desired"]);

    let own = br#"{"led":{"on":true,"hue":1},"own":"x"}"#;
    device.session().unwrap().publish(REPORTED, own).unwrap();
    wait_until("it is kept", || shown(&plane)["reported"]["own"] == "x");
    assert_eq!(
        shown(&plane)["delta"],
        json!({"led": {"hue": 3}, "rate": 5})
    );
    let (good, _) = set(
        &home,
        r#"{"led":{"hue":null},"rate":6}"#,
        &["--if-version", "1"],
    );
    assert!(good);
    let second = told(&mut device);
    assert_eq!(second["version"], 2);
    assert_eq!(second["desired"], json!({"led": {"on": true}, "rate": 6}));
    assert_eq!(second["delta"], json!({"rate": 6}));
    let (good, said) = set(&home, r#"{"rate":7}"#, &["--if-version", "1"]);
    assert!(!good && said.contains("version-moved"), "{said}");

    let entries = plane.entries();
    let acts: Vec<&Value> = (entries.iter())
        .filter(|entry| entry["action"] == "gateway.desired-state-set")
        .collect();
    assert_eq!(acts.len(), 2);
    assert_eq!(acts[1]["details"]["version"], "2");
    assert!(
        !acts[1].to_string().contains("rate"),
        "its digest is in the log alone"
    );
}

#[test]
fn a_lying_device_fills_nothing_and_changes_nothing_that_is_desired() {
    let (home, plane, mut device) = scene();
    assert!(set(&home, r#"{"rate":5}"#, &[]).0);
    listen(&plane, &mut device);
    told(&mut device);
    let deep = "{\"a\":".repeat(9) + "1" + &"}".repeat(9);
    let mark = plane.lines.mark();
    for (payload, code) in [
        ("[]".to_owned(), "document-not-an-object"),
        (deep, "document-too-deep"),
        ("{\"a\":".to_owned(), "document-not-json"),
    ] {
        device
            .session()
            .unwrap()
            .publish(REPORTED, payload.as_bytes())
            .unwrap();
        plane.lines.wait_for(mark, code);
    }
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(9000));
    let session = device.session().unwrap();
    assert!(
        session.publish(REPORTED, large.as_bytes()).is_err(),
        "its channel takes 8 KiB"
    );
    // Nor may it say what it should be, or what another is.
    for topic in [DESIRED, "$fleetward/devices/other/reported"] {
        assert!(
            device.session().unwrap().publish(topic, b"{}").is_err(),
            "{topic}"
        );
    }
    let twin = shown(&plane);
    assert_eq!(
        (&twin["version"], &twin["reported"]),
        (&json!(1), &Value::Null)
    );
    // It may say so twelve times a minute, and three were used.
    let mut taken = 0;
    for _ in 0..20 {
        let session = device.session().unwrap();
        taken += u32::from(session.publish(REPORTED, b"{\"b\":1}").is_ok());
    }
    assert!((9..=12).contains(&taken), "{taken}");
}

#[test]
fn a_quarantined_device_can_be_mended_and_an_isolated_one_hears_nothing() {
    let (home, plane, mut device) = scene();
    listen(&plane, &mut device);
    let cut = |how: &str| {
        let cut = json!({ "device": "cam", "containment": how, "reason": "test" });
        plane
            .post("/api/v1/response/containments", &cut)
            .expect(201);
    };
    cut("quarantined");
    assert!(set(&home, r#"{"telnet":false}"#, &[]).0);
    assert_eq!(told(&mut device)["desired"], json!({"telnet": false}));
    cut("isolated");
    let (good, said) = set(&home, r#"{"telnet":true}"#, &[]);
    assert!(good && said.contains("\"sessions_told\": 0"), "{said}");
}

#[test]
fn a_service_sets_states_if_the_fleet_says_so_and_not_of_a_whole_fleet_at_once() {
    if !have(&["curl"]) {
        return;
    }
    let (home, plane, _device) = scene();
    let mut files = crate::fixture::fleet();
    for (path, text) in &mut files {
        if *path == "services/s.toml" {
            *text =
                "[ingest]\n[commander]\nsets_desired_state = true\nfan_out_per_minute = 1\n".into();
        }
    }
    plane.apply(&files);
    plane.expect([&home.device("cam-2")]);
    write_root(&home, &plane);
    for service in ["ingest", "commander"] {
        write_credential(&home, &plane.certify(service), service);
    }
    let patch = |service: &str, path: &str, version: &str| {
        let (cert, key) = (format!("{service}.pem"), format!("{service}.key"));
        let media = "Content-Type: application/merge-patch+json";
        let arguments = [
            "-X",
            "PATCH",
            "--cert",
            &cert,
            "--key",
            &key,
            "-H",
            media,
            "-H",
            version,
            "--data-binary",
            "{\"a\":1}",
        ];
        curl(&home, &plane, path, &arguments).status
    };
    assert_eq!(patch("ingest", TWIN, "If-Match: *"), 403);
    assert_eq!(patch("commander", TWIN, "X: y"), 428);
    assert_eq!(patch("commander", TWIN, "If-Match: 3"), 400);
    assert_eq!(patch("commander", TWIN, "If-Match: \"3\""), 412);
    assert_eq!(patch("commander", TWIN, "If-Match: \"0\""), 200);
    let other = "/api/v1/gateway/twins/cam-2";
    assert_eq!(patch("commander", other, "If-Match: *"), 429);
    assert_eq!(patch("commander", TWIN, "If-Match: *"), 200);
    assert_eq!(
        patch("commander", "/api/v1/gateway/twins/who", "If-Match: *"),
        404
    );
}
