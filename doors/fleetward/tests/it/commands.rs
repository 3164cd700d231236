//! Commands: asked at the doors, carried to devices that listen, kept for those that do not, and never
//! lost to a kill -9.

use crate::fixture::fleet;
use crate::http::Answer;
use crate::plane::{Home, PATIENCE, Plane, Settings, wait_until};
use crate::tools::{curl, have, mosquitto, write_credential, write_root};
use mqtt::Qos;
use serde_json::{Value, json};
use sim::device::Manner;
use sim::session::Delivery;
use sim::{Device, Session};
use std::process::{Command, Stdio};
use std::time::Instant;

const COMMANDS: &str = "/api/v1/gateway/commands";

/// The fleet of the tests, with answers, and two devices a minute without a second person.
fn commanded_fleet() -> Vec<(&'static str, String)> {
    let mut files = fleet();
    for (path, text) in &mut files {
        if *path == "channels/c.toml" {
            text.push_str(
                "fan_out_per_minute = 2\nresponse = \"answer\"\n\
                 [answer]\ntopic = \"v1/sensor/{device}/answer/{any}\"\n\
                 direction = \"from-device\"\npayload_bytes_max = 1024\n",
            );
        }
        if *path == "fleet.toml" {
            text.push_str("[groups.east]\n[groups.site]\nin = [\"east\"]\n");
        }
    }
    files
}

fn scene(settings: &Settings, names: &[&str]) -> (Home, Plane, Vec<Device>) {
    let home = Home::new(settings);
    let plane = home.start_prepared();
    plane.apply(&commanded_fleet());
    let mut devices: Vec<Device> = names.iter().map(|name| home.device(name)).collect();
    let mut csv = "serial,product,device,groups\n".to_owned();
    for device in &devices {
        csv.push_str(&format!(
            "{},sensor,{},site\n",
            device.serial(),
            device.id()
        ));
    }
    plane.expect_csv(&csv).expect(201);
    for device in &mut devices {
        device.enroll(&plane.doors(), &Manner::default()).unwrap();
    }
    (home, plane, devices)
}

fn asked(devices: &[&str], payload: &str) -> Value {
    json!({
        "channel": "command",
        "levels": ["do"],
        "devices": devices,
        "payload": payload,
    })
}

fn listen(plane: &Plane, device: &mut Device) {
    device.connect(&plane.doors(), &Manner::default()).unwrap();
    let filter = format!("v1/sensor/{}/command/do", device.id());
    let session = device.session().unwrap();
    session.subscribe_one(&filter, Qos::AtLeastOnce).unwrap();
}

fn next(device: &mut Device) -> Delivery {
    let session: &mut Session = device.session().unwrap();
    let deadline = Instant::now() + PATIENCE;
    session.next_delivery(deadline).unwrap().expect("a command")
}

fn acknowledge(device: &mut Device, delivery: Delivery) {
    device.session().unwrap().acknowledge(&[delivery]).unwrap();
}

fn counts(plane: &Plane, id: &str) -> Value {
    let found = plane.get(&format!("{COMMANDS}/{id}")).expect(200).json();
    found["command"]["devices"].clone()
}

#[track_caller]
fn wait_count(plane: &Plane, id: &str, state: &str, count: u64) {
    wait_until(&format!("{count} {state}"), || {
        counts(plane, id)[state] == count
    });
}

fn id_of(answer: &Value) -> String {
    answer["id"].as_str().unwrap().to_owned()
}

/// Asks at the door for services.
fn ask_as(home: &Home, plane: &Plane, service: &str, path: &str, body: &Value) -> Answer {
    let (cert, key) = (format!("{service}.pem"), format!("{service}.key"));
    let body = body.to_string();
    let arguments = [
        "--cert",
        &cert,
        "--key",
        &key,
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        &body,
    ];
    let curled = curl(home, plane, path, &arguments);
    Answer {
        status: curled.status,
        body: curled.body,
    }
}

/// How a held command is approved, and what is shown of it.
fn waiting(plane: &Plane, command: &Value) -> (String, Value) {
    let path = format!(
        "/api/v1/access/proposals/{}",
        command["proposal"].as_str().unwrap()
    );
    let act = plane.get(&path).expect(200).json();
    assert_eq!(act["class"], "command-many");
    assert!(act["body"].as_str().unwrap().contains(&id_of(command)));
    let shown = json!({ "act_sha256": act["act_sha256"] });
    (format!("{path}/approve"), shown)
}

#[test]
fn a_command_reaches_who_listens_waits_for_who_does_not_and_stands_in_the_log() {
    let settings = Settings {
        shards: 2,
        ..Settings::default()
    };
    let (_home, plane, mut devices) = scene(&settings, &["here", "away"]);
    listen(&plane, &mut devices[0]);
    let path = format!("{COMMANDS}?dry_run=true");
    let group = json!({ "channel": "command", "levels": ["do"], "group": "east", "payload": "on" });
    let preview = plane.post(&path, &group).expect(200).json();
    assert_eq!(
        (&preview["reached"], &preview["refused"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(preview["devices"][1]["topic"], "v1/sensor/here/command/do");
    assert_eq!(
        plane.get(COMMANDS).expect(200).json()["commands"],
        json!([])
    );

    let answer = plane.post(COMMANDS, &group).expect(201).json();
    let id = id_of(&answer);
    assert_eq!(answer["state"], "open");
    let delivery = next(&mut devices[0]);
    assert_eq!(delivery.topic, "v1/sensor/here/command/do");
    assert_eq!(delivery.payload, b"on");
    wait_count(&plane, &id, "sent", 1);
    acknowledge(&mut devices[0], delivery);
    wait_count(&plane, &id, "delivered", 1);
    assert_eq!(counts(&plane, &id)["waiting"], 1);
    listen(&plane, &mut devices[1]);
    let delivery = next(&mut devices[1]);
    acknowledge(&mut devices[1], delivery);
    wait_count(&plane, &id, "delivered", 2);

    let entry = usize::try_from(answer["entry"].as_u64().unwrap()).unwrap();
    let entry = plane.entries()[entry].clone();
    assert_eq!(entry["action"], "gateway.command-asked");
    assert_eq!(entry["object"], format!("command/{id}"));
    assert_eq!(entry["details"]["target"], "group/east");
    assert!(
        !entry.to_string().contains("\"on\""),
        "the payload is not in the log"
    );
}

#[test]
fn a_service_commands_what_it_may_publish_to_and_nothing_else() {
    if !have(&["curl"]) {
        return;
    }
    let (home, plane, mut devices) = scene(&Settings::default(), &["a", "b", "c"]);
    write_root(&home, &plane);
    for service in ["ingest", "commander"] {
        write_credential(&home, &plane.certify(service), service);
    }
    let refused = ask_as(&home, &plane, "ingest", COMMANDS, &asked(&["a"], "x")).expect(403);
    assert_eq!(refused.json()["code"], "command-not-permitted");
    let wrong =
        json!({ "channel": "telemetry", "levels": ["x"], "devices": ["a"], "payload": "x" });
    let refused = ask_as(&home, &plane, "commander", COMMANDS, &wrong).expect(409);
    assert_eq!(refused.json()["code"], "channel-refused");
    for levels in [
        json!([]),
        json!(["a", "b"]),
        json!(["a/b"]),
        json!(["+"]),
        json!([""]),
    ] {
        let wrong =
            json!({ "channel": "command", "levels": levels, "devices": ["a"], "payload": "" });
        let refused = ask_as(&home, &plane, "commander", COMMANDS, &wrong).expect(409);
        assert_eq!(refused.json()["code"], "channel-refused", "{levels}");
    }

    // The same key is the same command, and is nobody else's.
    let mut body = asked(&["a"], "x");
    body["idempotency_key"] = json!("once");
    let first = ask_as(&home, &plane, "commander", COMMANDS, &body)
        .expect(201)
        .json();
    let again = ask_as(&home, &plane, "commander", COMMANDS, &body)
        .expect(200)
        .json();
    assert_eq!(first["id"], again["id"]);
    body["payload"] = json!("y");
    let reused = ask_as(&home, &plane, "commander", COMMANDS, &body)
        .expect(409)
        .json();
    assert_eq!(reused["code"], "key-reused");
    listen(&plane, &mut devices[0]);
    assert_eq!(next(&mut devices[0]).payload, b"x");

    // Three devices are more than two a minute, also one by one: a second person must look.
    for name in ["b", "c"] {
        let answer = ask_as(&home, &plane, "commander", COMMANDS, &asked(&[name], "x"));
        let state = answer.expect(201).json()["state"].clone();
        assert_eq!(state, if name == "b" { "open" } else { "held" });
    }
    let held = plane.get(COMMANDS).expect(200).json()["commands"][0].clone();
    let id = id_of(&held);
    listen(&plane, &mut devices[2]);
    let (approve, shown) = waiting(&plane, &held);
    // The thief cannot approve for itself.
    let refused = ask_as(&home, &plane, "commander", &approve, &shown).expect(403);
    assert_eq!(refused.json()["code"], "not-permitted");
    assert_eq!(counts(&plane, &id)["waiting"], 1);
    let done = plane.post(&approve, &shown).expect(200).json();
    assert_eq!(done["answer"]["state"], "open");
    assert_eq!(next(&mut devices[2]).payload, b"x");
    let again = plane.post(&approve, &shown).expect(409).json();
    assert_eq!(again["code"], "decided-already");

    // What a service asked for that is revoked meanwhile does not go out.
    let answer = ask_as(
        &home,
        &plane,
        "commander",
        COMMANDS,
        &asked(&["a", "c"], "z"),
    );
    let held = answer.expect(201).json();
    let revoked = json!({ "service": "commander", "reason": "key-compromise" });
    plane
        .post("/api/v1/identity/revocations", &revoked)
        .expect(201);
    let (approve, shown) = waiting(&plane, &held);
    plane.post(&approve, &shown).expect(409);
    assert_eq!(counts(&plane, &id_of(&held))["waiting"], 2);
}

#[test]
fn a_held_command_is_held_against_what_is_granted_when_it_is_let_go() {
    if !have(&["curl"]) {
        return;
    }
    let (home, plane, _devices) = scene(&Settings::default(), &["a", "b", "c"]);
    write_root(&home, &plane);
    write_credential(&home, &plane.certify("commander"), "commander");
    let body = asked(&["a", "b", "c"], "x");
    let held = (ask_as(&home, &plane, "commander", COMMANDS, &body).expect(201)).json();
    assert_eq!(held["state"], "held");
    let id = id_of(&held);
    let mut less = commanded_fleet();
    for (_, text) in &mut less {
        *text = text.replace(
            "Service::\"commander\", action == Action::\"publish\"",
            "Service::\"ingest\", action == Action::\"publish\"",
        );
    }
    plane.apply(&less);
    let (approve, shown) = waiting(&plane, &held);
    let refused = plane.post(&approve, &shown).expect(403).json();
    assert_eq!(refused["code"], "command-not-permitted");
    assert_eq!(counts(&plane, &id)["waiting"], 3);
    // Whoever approves it once it is granted again lets it go to those who can still come.
    plane.apply(&commanded_fleet());
    plane.revoke(&"b".parse().unwrap());
    plane.post(&approve, &shown).expect(200);
    wait_count(&plane, &id, "refused", 1);
    assert_eq!(counts(&plane, &id)["waiting"], 2);
}

#[test]
fn nobody_approves_what_they_asked_for_and_a_cancelled_command_is_never_sent() {
    let (_home, plane, mut devices) = scene(&Settings::default(), &["a", "b", "c"]);
    let answer = plane
        .post(COMMANDS, &asked(&["a", "b", "c"], "x"))
        .expect(201)
        .json();
    assert_eq!(answer["state"], "held");
    let id = id_of(&answer);
    let (approve, shown) = waiting(&plane, &answer);
    let refused = plane.post(&approve, &shown).expect(409).json();
    assert_eq!(refused["code"], "own-act");
    listen(&plane, &mut devices[0]);

    let waits = id_of(&plane.post(COMMANDS, &asked(&["b"], "y")).expect(201).json());
    for id in [&id, &waits] {
        let path = format!("{COMMANDS}/{id}/cancel");
        plane.post(&path, &json!({ "reason": "wrong" })).expect(200);
        let again = plane
            .post(&path, &json!({ "reason": "wrong" }))
            .expect(409)
            .json();
        assert_eq!(again["code"], "command-over");
    }
    assert_eq!(counts(&plane, &id)["cancelled"], 3);
    // It waits for nobody any more.
    let refused = plane.post(&approve, &shown).expect(409).json();
    assert_eq!(refused["code"], "decided-already");
    let another = plane
        .post(COMMANDS, &asked(&["a", "b", "c"], "x"))
        .expect(201)
        .json();
    let (approve, _) = waiting(&plane, &another);
    let refuse = approve.replace("/approve", "/refuse");
    plane.post(&refuse, &json!({})).expect(204);
    assert_eq!(counts(&plane, &id_of(&another))["cancelled"], 3);
    wait_count(&plane, &waits, "cancelled", 1);
    listen(&plane, &mut devices[1]);
    // What is asked for later comes; what was cancelled does not come before it.
    for (place, name) in [(0, "a"), (1, "b")] {
        plane.post(COMMANDS, &asked(&[name], "later")).expect(201);
        assert_eq!(next(&mut devices[place]).payload, b"later");
    }
}

#[test]
fn a_device_that_was_cut_off_is_refused_and_an_unknown_one_named() {
    let (_home, plane, _devices) = scene(&Settings::default(), &["a", "b"]);
    let cut = json!({ "device": "a", "containment": "quarantined", "reason": "test" });
    plane
        .post("/api/v1/response/containments", &cut)
        .expect(201);
    plane.revoke(&"b".parse().unwrap());
    let id = id_of(
        &plane
            .post(COMMANDS, &asked(&["a", "b"], "x"))
            .expect(201)
            .json(),
    );
    let found = plane.get(&format!("{COMMANDS}/{id}")).expect(200).json();
    let reasons = [
        &found["devices"][0]["reason"],
        &found["devices"][1]["reason"],
    ];
    assert_eq!(reasons, ["contained", "revoked"]);
    let unknown = plane
        .post(COMMANDS, &asked(&["a", "who"], "x"))
        .expect(404)
        .json();
    assert_eq!(unknown["code"], "device-unknown");
    assert!(unknown["detail"].as_str().unwrap().contains("who"));
}

#[test]
fn crash_commands_outlive_a_kill_and_what_was_acknowledged_is_not_sent_again() {
    for shards in [1, 2] {
        let settings = Settings {
            shards,
            ..Settings::default()
        };
        let (home, mut plane, mut devices) = scene(&settings, &["a", "b"]);
        listen(&plane, &mut devices[0]);
        let first = id_of(
            &plane
                .post(COMMANDS, &asked(&["a", "b"], "first"))
                .expect(201)
                .json(),
        );
        // Sent, and killed before it was acknowledged.
        assert_eq!(next(&mut devices[0]).payload, b"first");
        plane.kill();
        plane = home.start();
        for device in &mut devices {
            listen(&plane, device);
            let delivery = next(device);
            assert_eq!(delivery.payload, b"first");
            acknowledge(device, delivery);
        }
        wait_count(&plane, &first, "delivered", 2);
        plane.kill();
        plane = home.start();
        for (device, name) in devices.iter_mut().zip(["a", "b"]) {
            listen(&plane, device);
            plane.post(COMMANDS, &asked(&[name], "second")).expect(201);
            assert_eq!(next(device).payload, b"second", "nothing comes before it");
        }
    }
}

#[test]
fn mosquitto_hears_a_command_and_answers_it() {
    if !have(&["mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    let (home, plane, devices) = scene(&Settings::default(), &["cam"]);
    write_root(&home, &plane);
    write_credential(&home, devices[0].ldevid().unwrap(), "cam");
    let id = id_of(
        &plane
            .post(COMMANDS, &asked(&["cam"], "restart"))
            .expect(201)
            .json(),
    );
    // What it subscribes to gets what waited for it.
    let topic = "v1/sensor/cam/command/do";
    let format = "%p|%R|%D|%E";
    let heard = mosquitto(
        &home,
        &plane,
        "mosquitto_sub",
        "cam",
        &[
            "-V", "mqttv5", "-i", "cam", "-q", "1", "-t", topic, "-C", "1", "-W", "30", "-F",
            format,
        ],
    );
    let line = heard.text().trim().to_owned();
    let parts: Vec<&str> = line.split('|').collect();
    assert_eq!(
        parts[..3],
        ["restart", "v1/sensor/cam/answer/do", &id],
        "{line} {}",
        heard.err
    );
    wait_count(&plane, &id, "delivered", 1);
    let answer = [
        "-V", "mqttv5", "-i", "cam", "-q", "1", "-t", parts[1], "-m", "done",
    ];
    let correlated = ["-D", "publish", "correlation-data", parts[2]];
    let said = mosquitto(
        &home,
        &plane,
        "mosquitto_pub",
        "cam",
        &[&answer[..], &correlated].concat(),
    );
    assert!(said.good, "{}", said.err);
    wait_count(&plane, &id, "answered", 1);
}

#[test]
fn the_command_line_tells_a_device_and_waits_for_it() {
    let (home, plane, mut devices) = scene(&Settings::default(), &["cam"]);
    listen(&plane, &mut devices[0]);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetward"));
        command
            .args(["--output", "json", "gateway", "command"])
            .args(arguments);
        command.arg("--data").arg(home.data_dir());
        command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let send = [
        "send",
        "--channel",
        "command",
        "--level",
        "do",
        "--payload",
        "on",
        "--device",
        "cam",
    ];
    let child = run(&[&send[..], &["--wait"]].concat());
    let delivery = next(&mut devices[0]);
    acknowledge(&mut devices[0], delivery);
    let out = child.wait_with_output().unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let done: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(done["devices"]["delivered"], 1);
    // One that nobody takes fails, once its time is over.
    devices[0].take_session();
    let late = [&send[..], &["--wait", "--expires-in", "1"]].concat();
    let out = run(&late).wait_with_output().unwrap();
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("1 of 1 device(s) did not acknowledge"));
    let out = run(&["list"]).wait_with_output().unwrap();
    let listed: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(listed["commands"].as_array().unwrap().len(), 2);
}
