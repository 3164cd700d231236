//! The inventory behind its doors: lists in and out, search, a device's page, and texts that act
//! nowhere.

use crate::plane::{Home, Plane, Settings, wait_until};
use crate::response::{Observer, live, watched_fleet};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const LIST: &str = "device,product,country,support_until,note\n\
                    sensor-1,,DE,2031-12-31,north gate\n\
                    ghost-1,sensor,FR,2029-06-30,\"=HYPERLINK(\"\"http://evil\"\")\u{1b}[2J\u{202e}\"\n\
                    ../etc,sensor,FR,,\n";

fn post_csv(plane: &Plane, path: &str, text: &str) -> crate::http::Answer {
    let body = Some(("text/csv", text.as_bytes()));
    plane.try_ask("POST", path, body).unwrap()
}

fn import(plane: &Plane, dry_run: bool) -> Value {
    let path = format!("/api/v1/inventory/imports?dry_run={dry_run}");
    post_csv(plane, &path, LIST).expect(200).json()
}

fn names(plane: &Plane, query: &str) -> (Vec<String>, u64, Value) {
    let path = format!("/api/v1/inventory/devices?{query}");
    let page = plane.get(&path).expect(200).json();
    let devices = page["devices"].as_array().unwrap();
    let names = devices
        .iter()
        .map(|one| one["device"].as_str().unwrap().to_owned())
        .collect();
    (names, page["total"].as_u64().unwrap(), page["next"].clone())
}

/// A verb of the command line, asked of this plane.
pub fn verb(home: &Home, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_fleetward"))
        .args(arguments)
        .arg("--data")
        .arg(home.data_dir())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn page(plane: &Plane, device: &str) -> Value {
    let path = format!("/api/v1/inventory/devices/{device}");
    plane.get(&path).expect(200).json()
}

fn acts(text: &str) -> bool {
    text.chars()
        .any(|c| (c.is_control() && c != '\n' && c != '\r') || c == '\u{202e}')
}

#[test]
fn a_list_goes_in_is_found_survives_a_kill_and_comes_out_harmless() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let (sensor, other) = (home.device("sensor-1"), home.device("sensor-2"));
    plane.expect([&sensor, &other]);

    let before = plane.entries().len();
    let would = import(&plane, true);
    assert_eq!(
        (would["added"].as_u64(), would["changed"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(would["refused"][0]["line"], 4);
    assert_eq!(plane.entries().len(), before, "a dry run changes nothing");
    let done = import(&plane, false);
    let entry = done["entry"].as_u64().unwrap();
    let entries = plane.entries();
    let told = entries[usize::try_from(entry).unwrap()].to_string();
    assert!(told.contains("inventory.records-imported"), "{told}");
    assert!(
        !told.contains("ghost-1") && !told.contains("HYPERLINK"),
        "{told}"
    );
    assert_eq!(
        import(&plane, false)["unchanged"],
        2,
        "taken again, it changes nothing"
    );
    plane.kill();

    let plane = home.start();
    let (all, total, next) = names(&plane, "limit=2");
    assert_eq!(
        (all.as_slice(), total),
        (["ghost-1", "sensor-1"].map(String::from).as_slice(), 3)
    );
    let (rest, _, end) = names(&plane, &format!("limit=2&after={}", next.as_str().unwrap()));
    assert_eq!((rest, end), (vec!["sensor-2".to_owned()], Value::Null));
    assert_eq!(names(&plane, "search=sn-SENSOR-2").0, ["sensor-2"]);
    assert_eq!(names(&plane, "lifecycle=expected").1, 3);
    plane
        .get("/api/v1/inventory/devices?lifecycle=asleep")
        .expect(400);
    plane
        .get("/api/v1/inventory/devices?colour=red")
        .expect(400);

    let page = plane
        .get("/api/v1/inventory/devices/sensor-1")
        .expect(200)
        .json();
    assert_eq!(page["support_until"], "2031-12-31");
    assert_eq!(page["posture"], "trusted");
    let reach = page["reach"]["before"].as_array().unwrap();
    assert!(reach.iter().any(|one| one["kind"] == "channel"), "{page}");
    plane.revoke(sensor.id());
    let page = plane
        .get("/api/v1/inventory/devices/sensor-1")
        .expect(200)
        .json();
    assert_eq!(
        (&page["lifecycle"], &page["posture"]),
        (&"revoked".into(), &"revoked".into())
    );
    assert!(
        page["posture_cause"]
            .as_str()
            .unwrap()
            .contains("key-compromise")
    );
    assert_eq!(page["reach"]["now"], Value::Array(vec![]));
    plane.get("/api/v1/inventory/devices/nobody").expect(404);

    // Nothing that the list held acts in a spreadsheet, on a terminal or in the log.
    let export = plane.get("/api/v1/inventory/export").expect(200).text();
    assert!(export.contains("'=HYPERLINK") && !acts(&export), "{export}");
    let out = home.path("out.csv");
    for arguments in [
        &["inventory", "list"][..],
        &["inventory", "list", "--search", "\u{1b}[2J"],
        &["inventory", "show", "ghost-1"],
        &["inventory", "show", "ghost-1", "--output", "json"],
        &["inventory", "export", "--out", out.to_str().unwrap()],
    ] {
        let (well, text) = verb(&home, arguments);
        assert!(well && !acts(&text), "{arguments:?}: {text:?}");
    }
    assert_eq!(std::fs::read_to_string(&out).unwrap().len(), export.len());
    plane.stop_well();
}

#[test]
fn a_foreign_list_is_judged_and_nothing_of_it_stays() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let (well, text) = verb(&home, &["inventory", "list"]);
    assert!(well && text.contains("No device is known yet"), "{text}");

    let factory = home.factory.certificate_pem();
    let list = format!(
        "name;certificate;password;issuer\n\
         cam-1;\"{factory}\";admin;\n\
         cam-2;\"{factory}\";hunter2-of-nobody;\n\
         \"\u{1b}]0;owned\u{7}\";;;CN=Evil CA\u{202e}\n"
    );
    let judged = post_csv(&plane, "/api/v1/inventory/findings", &list)
        .expect(200)
        .json();
    let kinds: Vec<&str> = judged["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert!(kinds.contains(&"shared-certificate"), "{judged}");
    assert!(kinds.contains(&"default-credentials"), "{judged}");
    assert!(kinds.contains(&"unknown-issuer"), "{judged}");
    assert!(!judged.to_string().contains("hunter2"));
    // Its factory is registered: only the third row's issuer is unknown.
    let unknown = judged["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["kind"] == "unknown-issuer")
        .unwrap();
    assert_eq!(unknown["count"], 1, "{unknown}");

    let file = home.write("foreign.csv", list.as_bytes());
    let (well, text) = verb(&home, &["inventory", "findings", file.to_str().unwrap()]);
    assert!(
        well && text.contains("shared-certificate") && !acts(&text),
        "{text}"
    );
    assert_eq!(
        names(&plane, "limit=10").1,
        0,
        "nothing of it is known afterwards"
    );
    let data = home.data_dir();
    plane.stop_well();
    for file in ["control.db", "facts.db"] {
        let bytes = std::fs::read(Path::new(&data).join(file)).unwrap();
        let held = bytes.windows(7).any(|part| part == b"hunter2");
        assert!(!held, "{file} holds a password of the list");
    }
}

#[test]
fn a_list_that_cannot_be_read_is_refused_with_its_line() {
    let home = Home::new(&Settings::default());
    let plane = home.start();
    let path = "/api/v1/inventory/imports";
    let refused = post_csv(&plane, path, "device,note\ncam-1,\"open\n")
        .expect(400)
        .json();
    assert_eq!(refused["code"], "list-refused");
    assert!(
        refused["errors"][0]
            .as_str()
            .unwrap()
            .starts_with("line 2: ")
    );
    let file = home.write("bad.csv", b"colour\nred\n");
    let (well, text) = verb(&home, &["inventory", "import", file.to_str().unwrap()]);
    assert!(!well && text.contains("no column \"colour\""), "{text}");
    plane.stop_well();
}

#[test]
fn what_a_session_shows_goes_to_the_disk_and_stands_after_a_restart() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut device = live(&home, &plane, "cam-1");
    let report = json!({
        "format": 1, "boot": "b-1", "sequence": 1, "at": 1_795_330_039_123_u64,
        "interval_ms": 1000,
        "firmware": { "version": "3.1.0", "sha256": "07".repeat(32) },
        "unseen": ["dns: no resolver of ours in the path"],
    });
    let topic = "$fleetward/devices/cam-1/report";
    let session = device.session().unwrap();
    session
        .publish(topic, report.to_string().as_bytes())
        .unwrap();
    wait_until("its report is read", || {
        page(&plane, "cam-1")["firmware"] != Value::Null
    });
    let seen = page(&plane, "cam-1");
    assert_eq!(seen["connected"], true, "{seen}");
    assert_eq!(seen["addresses"][0]["address"], "127.0.0.1", "{seen}");
    assert_eq!(seen["addresses"][0]["source"], "gateway", "{seen}");
    assert_eq!(seen["firmware"]["version"], "3.1.0", "{seen}");
    assert_eq!(seen["firmware"]["source"], "device", "{seen}");
    device.take_session().unwrap().disconnect();
    wait_until("it has left", || {
        page(&plane, "cam-1")["connected"] == false
    });
    let before = page(&plane, "cam-1");
    plane.stop_well();

    // What is on the disk is read at each start, and not lost by a kill that comes after it.
    home.start().kill();
    let plane = home.start();
    let after = page(&plane, "cam-1");
    for field in [
        "first_seen",
        "addresses",
        "firmware",
        "unseen",
        "lifecycle",
        "connected",
    ] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let moment = |page: &Value, field: &str| page[field].as_str().unwrap().to_owned();
    // A later moment of the same is written once a minute.
    assert!(moment(&after, "last_seen") >= moment(&after, "first_seen"));
    assert!(moment(&after, "last_seen") <= moment(&before, "last_seen"));
    plane.stop_well();
}

#[test]
fn what_is_proven_makes_a_device_suspect_until_a_person_closes_it_and_hearsay_does_not() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut fleet = watched_fleet();
    for (_, text) in &mut fleet {
        *text = text.replace("mode = \"enforce\"", "mode = \"observe\"");
    }
    plane.apply(&fleet);
    let observer = Observer::of(&plane, "network-observer");
    let _both = ["victim", "hijacked"].map(|name| live(&home, &plane, name));
    assert_eq!(observer.saw_foreign_host("victim", "address"), 202);
    assert_eq!(observer.saw_foreign_host("hijacked", "port"), 202);
    wait_until("what was proven is judged", || {
        page(&plane, "hijacked")["posture"] == "suspect"
    });
    let hijacked = page(&plane, "hijacked");
    let cause = hijacked["posture_cause"].as_str().unwrap();
    assert!(
        cause.contains("unexpected-destination (network)"),
        "{hijacked}"
    );
    assert_eq!(hijacked["containment"], Value::Null, "it only observes");
    let incident = hijacked["incident"].as_str().unwrap();
    let alert = &hijacked["alerts"][0];
    assert_eq!(alert["kind"], "unexpected-destination", "{hijacked}");
    assert_eq!(alert["incident"], incident, "{hijacked}");
    // Told of before, so judged before. What is open about it is shown, and blames nobody.
    let victim = page(&plane, "victim");
    assert_eq!(victim["posture"], "trusted", "{victim}");
    let alerts = victim["alerts"].as_array().unwrap();
    let hearsay = |alert: &Value| alert["attribution"] == "address";
    assert!(alerts.iter().all(hearsay), "{victim}");

    plane.stop_well();
    let plane = home.start();
    wait_until("its incident is taken up again", || {
        page(&plane, "hijacked")["posture"] == "suspect"
    });
    assert_eq!(names(&plane, "posture=suspect").0, ["hijacked"]);
    let path = format!("/api/v1/response/incidents/{incident}/close");
    let closed = plane.post(&path, &json!({ "reason": "a technician was there" }));
    closed.expect(204);
    let cleared = page(&plane, "hijacked");
    assert_eq!(cleared["posture"], "trusted", "{cleared}");
    assert_eq!(cleared["incident"], Value::Null, "{cleared}");
    plane.stop_well();
}
