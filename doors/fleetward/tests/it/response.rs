//! Cutting off and giving back, on live sessions and over crashes; and the story to its end: what
//! the network saw of a device becomes an incident, a playbook cuts it off, the log proves it.

use crate::fixture::fleet;
use crate::log;
use crate::plane::{Home, PATIENCE, Plane, Settings, wait_until};
use mqtt::Qos;
use serde_json::{Value, json};
use sim::credential::{Key, Presented};
use sim::device::{Manner, Shown};
use sim::tls::{Client, Endpoint, Options};
use sim::{Credential, Device, Refusal};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// The fleet of these tests, with what sensors are expected to do, an observer in the network, and
/// a playbook that cuts off as eagerly as any may.
pub fn watched_fleet() -> Vec<(&'static str, String)> {
    let mut files = fleet();
    files.retain(|(path, _)| !path.starts_with("products/") && !path.starts_with("services/"));
    files.push((
        "products/p.toml",
        "[sensor]\ndescription = \"measures\"\n[sensor.behaviour]\ndestinations = [\"cloud\"]\n\
         listens = [\"tcp/554\"]\n"
            .into(),
    ));
    files.push((
        "destinations/d.toml",
        "[cloud]\naddress = \"192.0.2.10\"\nports = [443]\nprotocol = \"tcp\"\n".into(),
    ));
    files.push((
        "services/s.toml",
        "[ingest]\ndescription = \"takes\"\n[commander]\ndescription = \"tells\"\n\
         [network-observer]\ndescription = \"watches\"\nobserves_network = true\n"
            .into(),
    ));
    let kinds: Vec<String> = model::DeviationKind::ALL
        .iter()
        .map(|kind| format!("\"{kind}\""))
        .collect();
    files.push((
        "playbooks/eager.toml",
        format!(
            "[eager]\nmode = \"enforce\"\nkinds = [{}]\nkinds_min = 1\noutside_min = 1\n\
             severity_min = \"low\"\ncontain_max = 100\nsteps = [{{ action = \"quarantine\" }}]\n",
            kinds.join(", ")
        ),
    ));
    files
}

pub fn topic(device: &Device) -> String {
    format!("v1/sensor/{}/telemetry/x", device.id())
}

pub fn report_topic(device: &Device) -> String {
    format!("$fleetward/devices/{}/report", device.id())
}

fn report(sequence: u64, port: u16) -> Vec<u8> {
    json!({
        "format": 1, "boot": "b-1", "sequence": sequence, "at": 1_795_330_039_123_u64,
        "interval_ms": 1000,
        "listening": [{ "protocol": "tcp", "port": port, "address": "0.0.0.0" }],
        "destinations": [{ "protocol": "tcp", "address": "203.0.113.66", "port": 4444,
            "bytes_out": 18_000 }],
    })
    .to_string()
    .into_bytes()
}

/// A device that enrolled and has a live session.
pub fn live(home: &Home, plane: &Plane, name: &str) -> Device {
    let mut device = home.device(name);
    plane.expect([&device]);
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    device.connect(&plane.doors(), &Manner::default()).unwrap();
    device
}

impl Plane {
    fn contain(&self, device: &Device, containment: &str) -> Value {
        let body = json!({
            "device": device.id().as_str(), "containment": containment, "reason": "a test says so",
        });
        let answer = self.post("/api/v1/response/containments", &body);
        answer.expect(201).json()
    }

    fn restore(&self, device: &Device, dry_run: bool) -> Value {
        let path = format!(
            "/api/v1/response/containments/{}?dry_run={dry_run}",
            device.id()
        );
        let answer = self.send("DELETE", &path, &json!({ "reason": "looked at" }));
        answer.expect(200).json()
    }

    /// `(device, containment)` of all that are cut off.
    fn contained(&self) -> Vec<(String, String)> {
        let all = self.get("/api/v1/response/containments").expect(200).json();
        let text = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
        all["containments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (text(one, "device"), text(one, "containment")))
            .collect()
    }

    fn actions(&self, object: &str) -> Vec<String> {
        self.entries()
            .iter()
            .filter(|entry| entry["object"] == object)
            .map(|entry| entry["action"].as_str().unwrap().to_owned())
            .collect()
    }
}

// ---- cutting off and giving back ----

#[test]
fn a_quarantine_bites_on_a_live_session_before_it_is_acknowledged_and_restoring_gives_back() {
    let home = Home::new(&Settings {
        shards: 2,
        ..Settings::default()
    });
    let plane = home.start_prepared();
    let mut device = live(&home, &plane, "cam-1");
    let mut other = live(&home, &plane, "cam-2");
    let (telemetry, report_to) = (topic(&device), report_topic(&device));
    let session = device.session().unwrap();
    let told = "$fleetward/devices/cam-1/containment";
    session.subscribe_one(told, Qos::AtLeastOnce).unwrap();
    session.publish(&telemetry, b"before").unwrap();

    let looked = json!({
        "device": "cam-1", "containment": "quarantined", "reason": "only asking",
    });
    let dry = plane.post("/api/v1/response/containments?dry_run=true", &looked);
    let dry = dry.expect(200).json();
    assert_eq!(dry["takes_away"]["channels"][1], "telemetry", "{dry}");
    session.publish(&telemetry, b"still free").unwrap();
    assert_eq!(plane.contained(), []);

    let done = plane.contain(&device, "quarantined");
    assert_eq!(done["sessions_touched"], 1, "{done}");
    // From here on: the receipt is in hand.
    let session = device.session().unwrap();
    let refused = session.publish(&telemetry, b"after").unwrap_err();
    assert!(refused.is_spoken() && !refused.ends_session(), "{refused}");
    let refused = session.subscribe_one("v1/sensor/cam-1/command/+", Qos::AtMostOnce);
    assert!(refused.is_err());
    // It is told, on the one channel that it may hear, and may report.
    let delivery = session.next_delivery(Instant::now() + PATIENCE).unwrap();
    let delivery = delivery.expect("it is told");
    assert_eq!(delivery.topic, told);
    let said: Value = serde_json::from_slice(&delivery.payload).unwrap();
    assert_eq!(said["containment"], "quarantined");
    session.acknowledge(&[delivery]).unwrap();
    session.publish(&report_to, &report(1, 554)).unwrap();
    // Nobody else feels it.
    let of_other = topic(&other);
    other.session().unwrap().publish(&of_other, b"x").unwrap();

    // The same again changes nothing and records nothing.
    let again = plane.contain(&device, "quarantined");
    assert_eq!(again["entry"], Value::Null, "{again}");
    // It may renew, and stays what it is.
    device
        .reenroll(&plane.doors(), &Manner::default(), true)
        .unwrap();
    device.connect(&plane.doors(), &Manner::default()).unwrap();
    let refused = device.session().unwrap().publish(&telemetry, b"renewed");
    assert!(refused.unwrap_err().is_spoken());

    let dry = plane.restore(&device, true);
    assert_eq!(dry["gives_back"]["channels"][1], "telemetry", "{dry}");
    assert_eq!(plane.contained().len(), 1);
    let restored = plane.restore(&device, false);
    device
        .session()
        .unwrap()
        .publish(&telemetry, b"free")
        .unwrap();
    assert_eq!(plane.contained(), []);
    let entries = plane.entries();
    let entry = &entries[restored["entry"].as_u64().unwrap() as usize];
    assert_eq!(entry["action"], "response.device-restored");
    assert_eq!(
        plane.actions("device/cam-1"),
        [
            "identity.device-enrolled",
            "response.device-contained",
            "identity.device-enrolled",
            "response.device-restored"
        ]
    );
    let path = "/api/v1/response/containments/cam-1";
    plane.send("DELETE", path, &json!({})).expect(409);
    // Both stand in the timeline of one incident.
    let all = plane.get("/api/v1/response/incidents").expect(200).json();
    assert_eq!(all["incidents"].as_array().unwrap().len(), 1, "{all}");
    assert_eq!(all["incidents"][0]["state"], "open", "{all}");
    plane.stop_well();
}

#[test]
fn an_isolated_device_finds_no_door_and_a_quarantine_does_not_soften_it() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let device = live(&home, &plane, "cam-1");
    plane.contain(&device, "isolated");
    assert_eq!(plane.connected(), [""; 0]);
    let back = device.try_return(&plane.doors(), &Manner::default());
    assert!(
        back.reconnect_refused() && back.reenroll_refused(),
        "{back:#?}"
    );
    let softer = plane.contain(&device, "quarantined");
    assert_eq!(softer["containment"], "isolated", "{softer}");
    assert_eq!(softer["entry"], Value::Null, "{softer}");
    let back = device.try_return(&plane.doors(), &Manner::default());
    assert!(
        back.reconnect_refused() && back.reenroll_refused(),
        "{back:#?}"
    );
    plane.restore(&device, false);
    device
        .try_connect(&plane.doors(), &Manner::default(), Shown::Ldevid)
        .unwrap();
}

#[test]
fn what_is_cut_off_stays_so_over_kill_9() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let (mut held, gone) = (live(&home, &plane, "held"), live(&home, &plane, "gone"));
    plane.contain(&held, "quarantined");
    plane.contain(&gone, "isolated");
    plane.kill();
    let plane = home.start();
    let pair = |device: &str, how: &str| (device.to_owned(), how.to_owned());
    let expected = [pair("gone", "isolated"), pair("held", "quarantined")];
    assert_eq!(plane.contained(), expected);
    held.connect(&plane.doors(), &Manner::default()).unwrap();
    let telemetry = topic(&held);
    let refused = held.session().unwrap().publish(&telemetry, b"again");
    assert!(refused.unwrap_err().is_spoken());
    let back = gone.try_return(&plane.doors(), &Manner::default());
    assert!(
        back.reconnect_refused() && back.reenroll_refused(),
        "{back:#?}"
    );
    // Its incident is taken up, and closed by a person it stays cut off.
    let incidents = plane.get("/api/v1/response/incidents?state=contained");
    let incidents = incidents.expect(200).json();
    let id = incidents["incidents"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/response/incidents/{id}/close");
    plane.post(&path, &json!({ "reason": "known" })).expect(204);
    plane.post(&path, &json!({ "reason": "known" })).expect(409);
    assert_eq!(plane.contained(), expected);
}

/// The copy knows nothing of one containment, and still has another that was undone since: both
/// devices are cut off, since in doubt nothing is given back.
#[test]
fn a_restored_backup_gives_nothing_back_that_was_cut_off() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let (later, undone) = (live(&home, &plane, "later"), live(&home, &plane, "undone"));
    plane.contain(&undone, "isolated");
    plane.stop_well();
    log::copy(&home.data_dir(), &home.path("copy"));
    let plane = home.start();
    plane.contain(&later, "isolated");
    plane.restore(&undone, false);
    plane.stop_well();
    std::fs::remove_dir_all(home.data_dir()).unwrap();
    log::copy(&home.path("copy"), &home.data_dir());

    home.start().kill();
    let plane = home.start();
    assert_eq!(plane.contained().len(), 2, "{:?}", plane.contained());
    for device in [&later, &undone] {
        let back = device.try_return(&plane.doors(), &Manner::default());
        assert!(
            back.reconnect_refused() && back.reenroll_refused(),
            "{back:#?}"
        );
    }
    let path = "/api/v1/response/containments/undone";
    plane.send("DELETE", path, &json!({})).expect(503);
    let said = json!({ "reason": "restored the copy" });
    plane
        .send("DELETE", "/api/v1/audit/seal", &said)
        .expect(200);
    plane.restore(&undone, false);
    undone
        .try_connect(&plane.doors(), &Manner::default(), Shown::Ldevid)
        .unwrap();
    assert_eq!(plane.contained().len(), 1);
}

// ---- the story to its end ----

/// An observer in the network, by its certificate at the door for services.
pub struct Observer(Client);

impl Observer {
    pub fn of(plane: &Plane, service: &str) -> Self {
        let endpoint = Endpoint::new(plane.devices, "localhost", &[plane.root()]).unwrap();
        let shown = plane.certify(service).presented();
        Self(Client::new(&endpoint, Some(&shown), &Options::default()).unwrap())
    }

    /// Tells one observation; the status of the answer.
    pub fn tell(&self, observation: &Value) -> u16 {
        let body = json!({ "observations": [observation] }).to_string();
        let head = format!(
            "POST /api/v1/detection/observations HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let deadline = Instant::now() + PATIENCE;
        let mut transport = self.0.connect(PATIENCE).unwrap();
        transport.write(head.as_bytes(), deadline).unwrap();
        transport.write(body.as_bytes(), deadline).unwrap();
        let mut received = Vec::new();
        while !received.windows(2).any(|pair| pair == b"\r\n") {
            transport.read(&mut received, deadline).unwrap();
        }
        let text = String::from_utf8_lossy(&received).into_owned();
        text.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn saw_foreign_host(&self, device: &str, bound_by: &str) -> u16 {
        self.tell(&json!({
            "device": device, "bound_by": bound_by, "feature": "destination",
            "address": "203.0.113.66", "port": 4444, "protocol": "tcp", "bytes_out": 18_000,
        }))
    }
}

/// Lines of an open event stream.
fn events(home: &Home) -> impl Iterator<Item = String> + use<> {
    let mut stream = UnixStream::connect(home.data_dir().join("fleetward.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: fleetward\r\n\r\n")
        .unwrap();
    BufReader::new(stream).lines().map(Result::unwrap)
}

#[test]
fn what_the_network_proves_becomes_an_incident_is_cut_off_and_is_in_the_log() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    plane.apply(&watched_fleet());
    let observer = Observer::of(&plane, "network-observer");
    let mut hijacked = live(&home, &plane, "cam-1");
    let mut other = live(&home, &plane, "cam-2");
    // What the doors say is judged in batches, so the overview may be a moment behind.
    let overview = || plane.get("/api/v1/overview").expect(200).json();
    wait_until("both are seen", || overview()["devices"]["connected"] == 2);
    let calm = overview();
    assert_eq!(calm["level"], "calm", "{calm}");
    let mut stream = events(&home);
    stream.find(|line| line.contains(": here")).unwrap();

    assert_eq!(observer.saw_foreign_host("cam-1", "port"), 202);
    stream.find(|line| line == "event: alert").unwrap();
    stream.find(|line| line == "event: incident").unwrap();
    stream.find(|line| line == "event: device").unwrap();
    // Told of on the stream: in force since before.
    let telemetry = topic(&hijacked);
    let refused = hijacked.session().unwrap().publish(&telemetry, b"x");
    assert!(refused.unwrap_err().is_spoken());
    let of_other = topic(&other);
    other.session().unwrap().publish(&of_other, b"x").unwrap();

    let mut told = Value::Null;
    wait_until("the timeline tells of it", || {
        told = plane
            .get("/api/v1/response/incidents/INC-1")
            .expect(200)
            .json();
        told["state"] == "contained"
    });
    assert_eq!(told["device"], "cam-1", "{told}");
    assert_eq!(told["kinds"][0], "unexpected-destination", "{told}");
    assert!(told["before"]["channels"].to_string().contains("telemetry"));
    assert!(!told["after"]["channels"].to_string().contains("telemetry"));
    let steps = told["steps"].as_array().unwrap();
    let seen = steps
        .iter()
        .find(|step| step["source"] == "network")
        .unwrap();
    assert_eq!(seen["attribution"], "proven", "{seen}");
    assert!(
        seen["seen"].as_str().unwrap().contains("203.0.113.66"),
        "{seen}"
    );
    let acted = steps.iter().find(|step| step["actor"] == "playbook/eager");
    assert!(acted.is_some(), "{told}");
    // Every line is proven, or will be with the next checkpoint.
    plane.wait_published();
    let told = plane
        .get("/api/v1/response/incidents/INC-1")
        .expect(200)
        .json();
    for step in told["steps"].as_array().unwrap() {
        assert!(
            step["proof"]["tree_size"].as_u64() > step["entry"].as_u64(),
            "{step}"
        );
    }
    let entries = plane.entries();
    let contained = entries
        .iter()
        .find(|entry| entry["action"] == "response.device-contained")
        .unwrap();
    assert_eq!(contained["actor"], "playbook/eager");
    assert_eq!(contained["details"]["incident"], "INC-1");
    // Addresses of whom it spoke to are not in the log in clear.
    assert!(!json!(entries).to_string().contains("203.0.113.66"));

    let overview = plane.get("/api/v1/overview").expect(200).json();
    assert_eq!(overview["incidents_open"], 1, "{overview}");
    assert_eq!(overview["devices"]["contained"], 1, "{overview}");
    let alerts = plane.get("/api/v1/detection/alerts?open=true").expect(200);
    assert_eq!(alerts.json()["alerts"][0]["incident"], "INC-1");

    // A restart forgets none of it, and the playbook does not act twice.
    plane.restore(&hijacked, false);
    plane.stop_well();
    let plane = home.start();
    let told = plane
        .get("/api/v1/response/incidents/INC-1")
        .expect(200)
        .json();
    assert_eq!(told["state"], "open", "{told}");
    let alerts = plane.get("/api/v1/detection/alerts").expect(200).json();
    assert_eq!(alerts["alerts"].as_array().unwrap().len(), 1, "{alerts}");
    assert_eq!(plane.contained(), []);
}

#[test]
fn a_report_is_still_a_replay_after_a_restart() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    plane.apply(&watched_fleet());
    let mut device = live(&home, &plane, "cam-1");
    let to = report_topic(&device);
    let kinds = |plane: &Plane| -> Vec<String> {
        let alerts = plane.get("/api/v1/detection/alerts").expect(200).json();
        let alerts = alerts["alerts"].as_array().unwrap().iter();
        let kind = |alert: &Value| alert["kind"].as_str().unwrap().to_owned();
        alerts.map(kind).collect()
    };
    let replayed = || "replayed-report".to_owned();
    let session = device.session().unwrap();
    session.publish(&to, &report(1, 554)).unwrap();
    wait_until("its destination is judged", || kinds(&plane).len() == 1);
    session.publish(&to, &report(100, 4445)).unwrap();
    wait_until("its port is judged", || kinds(&plane).len() == 2);
    plane.stop_well();
    let plane = home.start();
    assert!(!kinds(&plane).contains(&replayed()));
    device.connect(&plane.doors(), &Manner::default()).unwrap();
    let session = device.session().unwrap();
    session.publish(&to, &report(1, 554)).unwrap();
    wait_until("the replay is known", || {
        kinds(&plane).contains(&replayed())
    });
    plane.stop_well();
}

#[test]
fn only_a_service_that_the_fleet_names_may_say_what_the_network_saw() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    plane.apply(&watched_fleet());
    let device = live(&home, &plane, "cam-1");
    let observation = json!({
        "device": "cam-1", "bound_by": "port", "feature": "listening-port", "port": 23,
        "protocol": "tcp",
    });
    assert_eq!(Observer::of(&plane, "ingest").tell(&observation), 403);
    let endpoint = Endpoint::new(plane.devices, "localhost", &[plane.root()]).unwrap();
    let shown = device.ldevid().unwrap().presented();
    let as_device = Observer(Client::new(&endpoint, Some(&shown), &Options::default()).unwrap());
    assert_eq!(as_device.tell(&observation), 403);
    let nobody = Observer(Client::new(&endpoint, None, &Options::default()).unwrap());
    assert_eq!(nobody.tell(&observation), 401);
    let observer = Observer::of(&plane, "network-observer");
    let mut wrong = observation.clone();
    wrong["queries"] = json!(7);
    assert_eq!(observer.tell(&wrong), 400);
    assert_eq!(observer.tell(&observation), 202);
    wait_until("the proven one is cut off", || {
        !plane.contained().is_empty()
    });
}

#[test]
fn a_fleet_with_a_broken_playbook_is_refused_whole() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut files = watched_fleet();
    files.push((
        "playbooks/bad.toml",
        "[bad]\nkinds = [\"silence\"]\nsteps = []\n".into(),
    ));
    let files: Vec<Value> = files
        .iter()
        .map(|(path, text)| json!({ "path": path, "text": text }))
        .collect();
    let fleet = json!({ "files": files });
    let version =
        |plane: &Plane| plane.get("/api/v1/access/fleet").expect(200).json()["version"].clone();
    let before = version(&plane);
    for (method, path) in [
        ("POST", "/api/v1/access/plan"),
        ("PUT", "/api/v1/access/fleet"),
    ] {
        let refused = plane.send(method, path, &fleet).expect(422).json();
        let errors = refused["errors"].to_string();
        assert!(errors.contains("fleet/playbooks/bad.toml:3"), "{errors}");
    }
    assert_eq!(version(&plane), before);
}

// ---- nobody can make us contain a victim ----

/// Everything told before is judged once this returns: the judge takes all in order, and a guilty
/// device that is told of last is cut off.
fn assert_only_the_guilty_is_cut_off(home: &Home, plane: &Plane, observer: &Observer) {
    let guilty = live(home, plane, "guilty");
    assert_eq!(observer.saw_foreign_host("guilty", "port"), 202);
    wait_until("the guilty one is cut off", || {
        !plane.contained().is_empty()
    });
    let pair = (guilty.id().to_string(), "quarantined".to_owned());
    assert_eq!(plane.contained(), [pair]);
}

#[test]
fn attack_the_victims_certificate_without_its_key() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    plane.apply(&watched_fleet());
    let observer = Observer::of(&plane, "network-observer");
    let mut victim = live(&home, &plane, "victim");
    let certificate = victim.ldevid().unwrap().chain().to_vec();
    let stolen: Presented = Credential::new(certificate, Key::generate().unwrap())
        .unwrap()
        .presented();
    for address in [plane.mqtt, plane.devices] {
        let endpoint = Endpoint::new(address, "localhost", &[plane.root()]).unwrap();
        let thief = Client::new(&endpoint, Some(&stolen), &Options::default()).unwrap();
        for _ in 0..50 {
            let refused: Result<(), Refusal> = thief.connect(PATIENCE).and_then(|mut transport| {
                transport.read(&mut Vec::new(), Instant::now() + PATIENCE)
            });
            assert!(refused.is_err());
        }
    }
    assert_only_the_guilty_is_cut_off(&home, &plane, &observer);
    let telemetry = topic(&victim);
    victim
        .session()
        .unwrap()
        .publish(&telemetry, b"here")
        .unwrap();
}

#[test]
fn attack_sharing_the_victims_address() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    plane.apply(&watched_fleet());
    let observer = Observer::of(&plane, "network-observer");
    let mut victim = live(&home, &plane, "victim");
    // Behind one address with it, somebody does all that is forbidden.
    for port in [23, 2323, 4444, 5555, 7547] {
        assert_eq!(observer.saw_foreign_host("victim", "address"), 202);
        let listens = json!({
            "device": "victim", "bound_by": "address", "feature": "listening-port",
            "port": port, "protocol": "tcp",
        });
        assert_eq!(observer.tell(&listens), 202);
    }
    assert_only_the_guilty_is_cut_off(&home, &plane, &observer);
    let telemetry = topic(&victim);
    victim
        .session()
        .unwrap()
        .publish(&telemetry, b"here")
        .unwrap();
}

#[test]
fn attack_replaying_the_victims_reports() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    plane.apply(&watched_fleet());
    let observer = Observer::of(&plane, "network-observer");
    let mut victim = live(&home, &plane, "victim");
    let (telemetry, to) = (topic(&victim), report_topic(&victim));
    let session = victim.session().unwrap();
    for sequence in [1, 2, 3, 1, 2, 3, 2] {
        // A report beyond what is taken in a minute is refused, which is as good.
        let _ = session.publish(
            &to,
            &report(sequence, 554 + u16::try_from(sequence).unwrap()),
        );
    }
    session.publish(&telemetry, b"all reports are in").unwrap();
    assert_only_the_guilty_is_cut_off(&home, &plane, &observer);
    // They were read, and raised what they may raise: alerts.
    let alerts = plane
        .get("/api/v1/detection/alerts?device=victim")
        .expect(200)
        .json();
    let alerts = alerts["alerts"].as_array().unwrap();
    assert!(!alerts.is_empty());
    assert!(
        alerts.iter().all(|alert| alert["source"] == "device"),
        "{alerts:#?}"
    );
    victim
        .session()
        .unwrap()
        .publish(&telemetry, b"here")
        .unwrap();
}
