//! Attack: texts that a device chooses itself act on whoever reads them: on a terminal, in a log, in
//! a spreadsheet.

use crate::inventory::verb;
use crate::plane::{Home, Settings, wait_until};
use crate::response::{Observer, live, report_topic, watched_fleet};
use serde_json::{Value, json};

/// Clears a terminal, turns the direction of text, is markup, is a formula, ends a line.
const HOSTILE: &str =
    "\u{1b}[2J\u{9b}2J\u{202e}\u{2066}\u{200f}<script>x</script>=cmd()\r\nERROR forged";

/// What acts when it is shown. Our own texts end their lines, and nothing else.
fn acts(text: &str) -> Option<char> {
    text.chars().find(|c| {
        (c.is_control() && *c != '\n')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

#[track_caller]
fn assert_inert(what: &str, text: &str) {
    assert_eq!(acts(text), None, "{what}: {text:?}");
    let forged = text.lines().any(|line| line.starts_with("ERROR forged"));
    assert!(!forged, "{what} has a line of the device's: {text:?}");
}

fn report() -> Vec<u8> {
    let host = format!("{HOSTILE}.example");
    json!({
        "format": 1, "boot": HOSTILE, "sequence": 1, "at": 1_795_330_039_123_u64,
        "interval_ms": 1000,
        "firmware": { "version": format!("=cmd()|{HOSTILE}"), "sha256": "ab".repeat(32) },
        "listening": [{ "protocol": "tcp", "port": 4445, "address": "0.0.0.0" }],
        "destinations": [{ "protocol": "tcp", "address": "203.0.113.66", "port": 4444,
            "host": host, "bytes_out": 18_000 }],
        "dns": { "queries": 9_000, "names": [host, "=cmd()", "@SUM(A1)"] },
        "unseen": [HOSTILE],
    })
    .to_string()
    .into_bytes()
}

#[test]
fn attack_texts_that_a_device_chooses_act_nowhere() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    plane.apply(&watched_fleet());
    let observer = Observer::of(&plane, "network-observer");
    let mut device = live(&home, &plane, "cam-1");
    let to = report_topic(&device);
    device.session().unwrap().publish(&to, &report()).unwrap();
    for topic in [
        "v1/\u{202e}<script>/x",
        "=cmd()",
        "v1/sensor/\u{2066}@SUM(A1)/telemetry/x",
    ] {
        // Refused, by a word or by the end of the session.
        let session = device.session().unwrap();
        if session
            .publish(topic, b"x")
            .is_err_and(|refused| refused.ends_session())
        {
            let manner = sim::device::Manner::default();
            device.connect(&plane.doors(), &manner).unwrap();
        }
    }
    let by_observer = json!({
        "device": "cam-1", "bound_by": "port", "feature": "destination", "address": "203.0.113.67",
        "host": format!("{HOSTILE}.example"), "port": 4444, "protocol": "tcp", "bytes_out": 18_000,
    });
    let taken = observer.tell(&by_observer);
    assert!([202, 400].contains(&taken), "{taken}");
    assert_eq!(observer.saw_foreign_host("cam-1", "port"), 202);
    wait_until("all of it is judged", || {
        let alerts = plane.get("/api/v1/detection/alerts").expect(200).json();
        let of = |source: &str| {
            let all = alerts["alerts"].as_array().unwrap();
            all.iter().any(|alert| alert["source"] == source)
        };
        of("device") && of("network")
    });
    let path = "/api/v1/response/incidents/INC-1";
    wait_until("there is an incident", || {
        plane.try_ask("GET", path, None).unwrap().status == 200
    });
    let page = plane
        .get("/api/v1/inventory/devices/cam-1")
        .expect(200)
        .json();
    assert_ne!(page["firmware"], Value::Null, "the report was read: {page}");

    let export = home.path("export.csv");
    for arguments in [
        &["inventory", "list"][..],
        &["inventory", "show", "cam-1"],
        &["inventory", "show", "cam-1", "--output", "json"],
        &["inventory", "export", "--out", export.to_str().unwrap()],
        &["detection", "alerts"],
        &["detection", "alerts", "--output", "json"],
        &["response", "incidents"],
        &["response", "show", "INC-1"],
        &["audit", "entries"],
    ] {
        let (well, text) = verb(&home, arguments);
        assert!(well, "{arguments:?}: {text}");
        assert_inert(&arguments.join(" "), &text);
    }
    let csv = std::fs::read_to_string(&export).unwrap();
    assert_inert("the export", &csv.replace("\r\n", "\n"));
    assert!(csv.contains("cam-1"), "{csv}");
    for cell in csv.lines().flat_map(|line| line.split(',')) {
        let cell = cell.trim_start_matches('"');
        assert!(
            !cell.starts_with(['=', '+', '-', '@', '\t', '\r']),
            "{cell:?} in {csv}"
        );
    }
    for line in plane.stop_well() {
        assert_inert("the log", &line);
    }
}
