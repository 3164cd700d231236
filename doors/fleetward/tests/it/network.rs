//! What a device may reach, could reach and does reach, behind the doors.

use crate::inventory::verb;
use crate::plane::{Home, PATIENCE, Plane, Settings, wait_until};
use crate::response::{Observer, live, watched_fleet};
use serde_json::{Value, json};
use sim::device::Device;
use sim::tls::{Client, Endpoint, Options};
use std::time::Instant;

const CONNECT: &str = "@id(\"reaches-declared\")\n\
    permit (principal is Device, action == Action::\"connect\", resource)\n\
    when { resource.owner == principal };\n";

/// What the plane answers a device at its door.
fn own_rules(plane: &Plane, device: &Device) -> (u16, Value) {
    let endpoint = Endpoint::new(plane.devices, "localhost", &[plane.root()]).unwrap();
    let shown = device.ldevid().unwrap().presented();
    let client = Client::new(&endpoint, Some(&shown), &Options::default()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut transport = client.connect(PATIENCE).unwrap();
    let head =
        "GET /api/v1/access/own-rules HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    transport.write(head.as_bytes(), deadline).unwrap();
    let mut received = Vec::new();
    loop {
        if let Some(answer) = crate::http::read(&received)
            && !answer.text().is_empty()
        {
            return (answer.status, answer.json());
        }
        transport.read(&mut received, deadline).unwrap();
    }
}

#[test]
fn a_blast_radius_is_told_before_and_after_and_what_is_seen_may_be_declared() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut files = watched_fleet();
    files.retain(|(path, _)| !path.starts_with("playbooks/"));
    files.push(("policies/connect.cedar", CONNECT.into()));
    plane.apply(&files);
    let devices = [live(&home, &plane, "cam-1"), live(&home, &plane, "cam-2")];

    let radius = plane
        .get("/api/v1/access/blast-radius/cam-1")
        .expect(200)
        .json();
    let free = &radius["free"];
    assert_eq!(radius["now"], *free);
    let telemetry = (free["channels"].as_array().unwrap().iter())
        .find(|one| one["channel"] == "telemetry")
        .unwrap();
    assert_eq!(telemetry["publishes_own"], "device-sends-own");
    assert_eq!(telemetry["publishes_others"], Value::Null);
    assert_eq!(
        telemetry["services"],
        json!([{ "name": "ingest", "policy": "ingest-receives-all" }])
    );
    assert_eq!(telemetry["devices"], 0, "no device hears another");
    assert_eq!(
        free["destinations"],
        json!([{ "destination": "cloud", "place": "192.0.2.10", "ports": [443], "protocol": "tcp",
            "policy": "reaches-declared" }])
    );
    plane.get("/api/v1/access/blast-radius/nobody").expect(404);

    // The device asks for its own, by its certificate.
    let (status, own) = own_rules(&plane, &devices[0]);
    assert_eq!(status, 200, "{own}");
    assert_eq!(own["rules"][0]["networks"], json!(["192.0.2.10"]));
    assert_eq!(own["rules"][0]["ports"], json!([443, 443]));

    // Two devices go where nobody declared it, as an observer saw; a name makes it a proposal.
    let observer = Observer::of(&plane, "network-observer");
    for device in ["cam-1", "cam-2"] {
        let seen = json!({
            "device": device, "bound_by": "port", "feature": "destination", "host": "api.example.net",
            "address": "203.0.113.66", "port": 4444, "protocol": "tcp", "bytes_out": 18_000,
        });
        assert_eq!(observer.tell(&seen), 202);
    }
    let observed = || {
        plane
            .get("/api/v1/access/observed?product=sensor")
            .expect(200)
            .json()
    };
    let place = || {
        let observed = observed();
        let places = observed["places"].as_array().unwrap().clone();
        places.into_iter().find(|one| one["port"] == 4444)
    };
    wait_until("both were seen", || {
        place().is_some_and(|place| place["devices"] == 2)
    });
    let place = place().unwrap();
    assert_eq!(
        (&place["declared"], &place["proposed"]),
        (&json!(false), &json!(true))
    );
    let proposed = ["access", "observed", "--product", "sensor", "--propose"];
    let (well, text) = verb(&home, &proposed);
    assert!(
        well && text.contains("host = \"api.example.net\"\nports = [4444]"),
        "{text}"
    );
    let (well, text) = verb(&home, &["access", "blast-radius", "--device", "cam-1"]);
    assert!(
        well && text.contains("ingest (ingest-receives-all)") && text.contains("Not covered"),
        "{text}"
    );

    // Cut off, nothing is left of it.
    let body =
        json!({ "device": "cam-1", "containment": "quarantined", "reason": "a test says so" });
    plane
        .post("/api/v1/response/containments", &body)
        .expect(201);
    let radius = plane
        .get("/api/v1/access/blast-radius/cam-1")
        .expect(200)
        .json();
    assert_eq!(radius["containment"], "quarantined");
    assert_eq!(radius["now"], json!({ "channels": [], "destinations": [] }));
    assert_eq!(radius["free"], *free);
}

#[test]
fn a_mud_file_that_nobody_signed_is_not_applied_where_somebody_is_believed() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut files = watched_fleet();
    files.retain(|(path, _)| !path.starts_with("products/"));
    files.push((
        "products/p.toml",
        "[sensor]\nmud = \"mud/lamp.json\"\n".into(),
    ));
    let lamp = include_str!("../../../../rooms/access/tests/it/network/lamp.json");
    files.push(("mud/lamp.json", lamp.into()));
    plane.apply(&files);
    let root = sim::credential::pem("CERTIFICATE", &plane.root());
    files.push(("mud/root.pem", root));
    let files: Vec<Value> = files
        .iter()
        .map(|(path, text)| json!({ "path": path, "text": text }))
        .collect();
    let answer = plane
        .send("PUT", "/api/v1/access/fleet", &json!({ "files": files }))
        .expect(422);
    assert!(
        answer.text().contains("believes signed files only"),
        "{}",
        answer.text()
    );
}
