//! A payload contract from the file to the client that breaks it.

use crate::fixture;
use crate::plane::{Home, Settings, wait_until};
use crate::tools::{have, mosquitto, write_credential, write_root};
use serde_json::{Value, json};
use sim::device::Manner;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

const SCHEMA: &str = r#"{
  "type": "object",
  "required": ["celsius"],
  "additionalProperties": false,
  "properties": { "celsius": { "type": "number", "minimum": -40, "maximum": 60 } }
}"#;

#[test]
fn mosquitto_hears_which_field_breaks_the_contract() {
    if !have(&["mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut fleet = fixture::fleet();
    for (path, text) in &mut fleet {
        if *path == "channels/c.toml" {
            *text = text.replacen(
                "rate_per_minute",
                "schema = \"schemas/celsius.json\"\nrate_per_minute",
                1,
            );
        }
    }
    fleet.push(("schemas/celsius.json", SCHEMA.to_owned()));
    // A schema that is wrong is refused with its place, and nothing of the fleet is applied.
    let files = |schema: &str| {
        let files = fleet.iter().map(|(path, text)| match *path {
            "schemas/celsius.json" => json!({ "path": path, "text": schema }),
            _ => json!({ "path": path, "text": text }),
        });
        json!({ "files": files.collect::<Vec<_>>() })
    };
    let wrong = SCHEMA.replace("\"minimum\"", "\"minimun\"");
    let refused = plane.post("/api/v1/access/plan", &files(&wrong));
    let text = refused.expect(422).text();
    assert!(text.contains("fleet/schemas/celsius.json:5:50"), "{text}");
    let planned = plane
        .post("/api/v1/access/plan", &files(SCHEMA))
        .expect(200)
        .json();
    assert_eq!(planned["without_contract"], json!(["command"]));
    plane.apply(&fleet);

    let mut device = home.device("cam");
    plane.expect([&device]);
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    write_credential(&home, device.ldevid().unwrap(), "cam");
    write_root(&home, &plane);
    let say = |version: &str, payload: &str| {
        let topic = "v1/sensor/cam/telemetry/t";
        let more = [
            "-V", version, "-i", "cam", "-q", "1", "-d", "-t", topic, "-m", payload,
        ];
        let ran = mosquitto(&home, &plane, "mosquitto_pub", "cam", &more);
        ran.text() + &ran.err
    };
    let said = say("mqttv5", r#"{"celsius": 21.5}"#);
    assert!(said.contains("RC:0"), "{said}");
    let mark = plane.lines.mark();
    let said = say("mqttv5", r#"{"celsius": 2150}"#);
    assert!(said.contains("RC:153"), "{said}");
    let line = plane.lines.wait_for(mark, "/celsius must be at most 60");
    assert!(line.contains("channel telemetry"), "{line}");
    // Each of these two readers could read in two ways.
    say("mqttv311", r#"{"celsius": 1, "celsius": 2}"#);
    assert_eq!(
        plane.metric("fleetward_gateway_contract_violations_total"),
        2
    );
    assert_eq!(
        plane.metric("fleetward_gateway_channel_violations_total"),
        2
    );

    // Why it was denied, what it may say, and how well its connections hold.
    let refusals = plane
        .get("/api/v1/gateway/refusals?device=cam")
        .expect(200)
        .json();
    let [one] = &refusals.as_array().unwrap()[..] else {
        panic!("{refusals}");
    };
    assert_eq!(
        (&one["reason"], &one["decided_by"], &one["count"]),
        (&json!("contract-violation"), &json!("telemetry"), &json!(2))
    );
    assert!(
        plane
            .get("/api/v1/gateway/refusals?device=other")
            .expect(200)
            .json()
            == json!([])
    );
    let links = plane.get("/api/v1/gateway/connectivity").expect(200).json();
    assert_eq!(
        (&links[0]["principal"], &links[0]["connects"]),
        (&json!("device/cam"), &json!(3))
    );
    assert_eq!(links[0]["lost"], 0);
    let speech = plane
        .get("/api/v1/gateway/speech?device=cam")
        .expect(200)
        .json();
    let said = speech
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["channel"] == "telemetry");
    assert_eq!(said.unwrap()["schema"], "schemas/celsius.json");

    // Followed live, by the command line: what it says, and what it is refused.
    let mut tail = Command::new(env!("CARGO_BIN_EXE_fleetward"))
        .args([
            "gateway", "tail", "--device", "cam", "--count", "8", "--output", "json", "--data",
        ])
        .arg(home.data_dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = tail.stdout.take().unwrap();
    wait_until("the tail has shown enough", || {
        say("mqttv5", r#"{"celsius": 1}"#);
        say("mqttv5", r#"{"celsius": "secret"}"#);
        tail.try_wait().unwrap().is_some()
    });
    let rows: Vec<Value> = (BufReader::new(out).lines())
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert_eq!(rows.len(), 8);
    let has = |kind: &str, reason: Value| {
        rows.iter()
            .any(|row| row["kind"] == kind && row["reason"] == reason)
    };
    assert!(
        has("session-opened", Value::Null) && has("published", Value::Null),
        "{rows:?}"
    );
    assert!(
        has("contract-violation", json!("contract-violation")),
        "{rows:?}"
    );
    assert!(
        !rows.iter().any(|row| row.to_string().contains("secret")),
        "{rows:?}"
    );
    plane.stop_well();
}
