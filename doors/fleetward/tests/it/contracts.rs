//! A payload contract from the file to the client that breaks it.

use crate::fixture;
use crate::plane::{Home, Settings};
use crate::tools::{have, mosquitto, write_credential, write_root};
use serde_json::json;
use sim::device::Manner;

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
    assert!(text.contains("fleet/schemas/celsius.json:5:53"), "{text}");
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
    plane.stop_well();
}
