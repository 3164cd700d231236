//! One port for all that devices speak: MQTT and HTTP told apart by ALPN, and AWS's own clients there.

use crate::fixture::fleet;
use crate::plane::{Home, Plane, Settings, wait_until};
use crate::tools::{curl_at, have, openssl, python_with, run, write_credential, write_root};
use mqtt::{Connect, Qos, Version};
use serde_json::{Value, json};
use sim::device::{Doors, Manner};
use sim::tls::{Client, Endpoint, Options};
use sim::{Credential, Device, Session};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const DEFENDER: &str = "device_defender = true\ndevice_defender_seconds_min = 0";

/// A plane with the door, and what is there of devices.
struct Scene {
    home: Home,
    plane: Plane,
}

impl Scene {
    fn new(address: &str, gateway: &str, alpn: &str) -> Self {
        let home = Home::new(&Settings {
            gateway: gateway.to_owned(),
            more: format!("[listen.alpn]\naddress = {address:?}\n{alpn}"),
            shards: 2,
            ..Settings::default()
        });
        let plane = home.start_prepared();
        write_root(&home, &plane);
        Self { home, plane }
    }

    fn door(&self) -> SocketAddr {
        self.plane.alpn.unwrap()
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.door(), "localhost", &[self.plane.root()]).unwrap()
    }

    /// One that is enrolled, with its files.
    fn device(&self, name: &str) -> Device {
        let mut device = self.home.device(name);
        self.plane.expect([&device]);
        device
            .enroll(&self.plane.doors(), &Manner::default())
            .unwrap();
        write_credential(&self.home, device.ldevid().unwrap(), name);
        device
    }

    fn session(&self, shown: &Credential, name: &str, alpn: &str) -> Result<Session, sim::Refusal> {
        let options = Options {
            alpn: vec![alpn.as_bytes().to_vec()],
            ..Options::default()
        };
        let client = Client::new(&self.endpoint(), Some(&shown.presented()), &options).unwrap();
        Session::open(&client, &Connect::new(Version::V5, name), PATIENCE)
    }
}

#[test]
fn mqtt_and_http_come_in_by_one_port_and_each_gets_its_own_rules() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let scene = Scene::new("127.0.0.1:0", "", "");
    // A device's whole life by that port: enrolled by its factory identity, which opens nothing else.
    let mut device = scene.home.device("cam");
    scene.plane.expect([&device]);
    let doors = Doors {
        est: scene.endpoint(),
        mqtt: scene.endpoint(),
    };
    device.enroll(&doors, &Manner::default()).unwrap();
    let factory = scene.session(device.idevid(), "cam", "mqtt").unwrap_err();
    assert!(factory.is_by_server(), "{factory}");
    for alpn in ["mqtt", "x-amzn-mqtt-ca"] {
        let mut session = scene
            .session(device.ldevid().unwrap(), "cam", alpn)
            .unwrap();
        assert_eq!(session.transport().alpn(), Some(alpn.as_bytes()));
        session.publish("v1/sensor/cam/telemetry/t", b"21").unwrap();
        assert!(
            session
                .subscribe_one("v1/sensor/other/command/x", Qos::AtLeastOnce)
                .is_err()
        );
        session.disconnect();
    }
    device.reenroll(&doors, &Manner::default(), true).unwrap();
    // HTTP, asked for in each way; and no page for people.
    for version in ["--http1.1", "--http2-prior-knowledge", "--no-alpn"] {
        let path = "/.well-known/est/cacerts";
        let got = curl_at(&scene.home, scene.door(), path, &[version]).expect(200);
        assert!(got.head.contains("application/pkcs7-mime"), "{}", got.head);
    }
    curl_at(&scene.home, scene.door(), "/api/v1/gateway/sessions", &[]).expect(401);
    // A protocol that nobody speaks here, and what is no TLS.
    let mark = scene.plane.lines.mark();
    let target = format!("localhost:{}", scene.door().port());
    let arguments = [
        "s_client", "-connect", &target, "-CAfile", "root.pem", "-alpn", "ftp",
    ];
    let foreign = openssl(&scene.home, &arguments, b"");
    assert!(!foreign.good, "{}", foreign.text());
    scene.plane.lines.wait_for(mark, "refused tls-alpn");
    let mut plain = std::net::TcpStream::connect(scene.door()).unwrap();
    std::io::Write::write_all(&mut plain, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    scene.plane.lines.wait_for(mark, "refused not-tls");
}

#[test]
fn a_revoked_device_and_one_that_is_contained_find_this_port_closed_too() {
    let scene = Scene::new("127.0.0.1:0", "", "");
    let device = scene.device("cam");
    let isolated = scene.device("box");
    let mut open = scene
        .session(device.ldevid().unwrap(), "cam", "mqtt")
        .unwrap();
    scene.plane.revoke(device.id());
    let ended = open.next(Instant::now() + PATIENCE).unwrap_err();
    assert!(ended.is_by_server(), "{ended}");
    let body = json!({ "device": "box", "containment": "isolated", "reason": "test" });
    scene
        .plane
        .post("/api/v1/response/containments", &body)
        .expect(201);
    for one in [&device, &isolated] {
        let name = one.id().as_str();
        for alpn in ["mqtt", "x-amzn-mqtt-ca"] {
            let refused = scene
                .session(one.ldevid().unwrap(), name, alpn)
                .unwrap_err();
            assert!(refused.is_by_server(), "{refused}");
        }
        let doors = Doors {
            est: scene.endpoint(),
            mqtt: scene.endpoint(),
        };
        let back = one.try_return(&doors, &Manner::default());
        assert!(
            back.reconnect_refused() && back.reenroll_refused(),
            "{back:?}"
        );
    }
}

/// Reports of one device, and what it is answered.
struct Reporting {
    session: Session,
    topic: String,
}

impl Reporting {
    fn new(scene: &Scene, shown: &Credential, name: &str, form: &str) -> Self {
        let mut session = scene.session(shown, name, "x-amzn-mqtt-ca").unwrap();
        let topic = format!("$aws/things/{name}/defender/metrics/{form}");
        for end in ["accepted", "rejected"] {
            let filter = format!("{topic}/{end}");
            session.subscribe_one(&filter, Qos::AtLeastOnce).unwrap();
        }
        Self { session, topic }
    }

    /// The last part of the topic of the answer, and the answer.
    fn say(&mut self, payload: &[u8]) -> (String, Vec<u8>) {
        self.session.publish(&self.topic, payload).unwrap();
        let answer = self.session.next_delivery(Instant::now() + PATIENCE);
        let answer = answer.unwrap().expect("no answer");
        let end = answer
            .topic
            .strip_prefix(&format!("{}/", self.topic))
            .unwrap();
        (end.to_owned(), answer.payload)
    }

    fn say_json(&mut self, report: &Value) -> (String, Value) {
        let (end, answer) = self.say(report.to_string().as_bytes());
        (end, serde_json::from_slice(&answer).unwrap())
    }
}

fn report(id: u64, peer: &str) -> Value {
    json!({
        "header": { "report_id": id, "version": "1.0" },
        "metrics": {
            "listening_tcp_ports": { "ports": [{ "port": 2024, "interface": "0.0.0.0" }], "total": 1 },
            "tcp_connections": { "established_connections": { "connections": [
                { "remote_addr": peer, "local_interface": "eth0", "local_port": 39230 },
            ], "total": 1 } },
            "network_stats": { "bytes_in": 1, "bytes_out": 2, "packets_in": 3, "packets_out": 4 },
        },
    })
}

fn peers(plane: &Plane, device: &str) -> String {
    let path = format!("/api/v1/inventory/devices/{device}");
    plane.get(&path).expect(200).json()["peers"].to_string()
}

#[test]
fn a_report_is_answered_and_becomes_what_the_device_says_of_itself() {
    let scene = Scene::new("127.0.0.1:0", DEFENDER, "");
    let device = scene.device("cam");
    let mut reporting = Reporting::new(&scene, device.ldevid().unwrap(), "cam", "json");
    let (end, answer) = reporting.say_json(&report(7, "2001:db8::7:8883"));
    assert_eq!(
        (end.as_str(), &answer["status"]),
        ("accepted", &json!("ACCEPTED")),
        "{answer}"
    );
    assert_eq!(
        (&answer["thingName"], &answer["reportId"]),
        (&json!("cam"), &json!(7))
    );
    wait_until("the peer is known", || {
        peers(&scene.plane, "cam").contains("2001:db8::7")
    });
    for (said, code) in [
        (report(7, "2001:db8::7:8883"), "InvalidPayload"),
        (json!({ "metrics": {} }), "MissingHeader"),
        (json!([1]), "InvalidPayload"),
        (report(8, "nowhere"), "InvalidPayload"),
    ] {
        let (end, answer) = reporting.say_json(&said);
        assert_eq!(
            (end.as_str(), &answer["status"]),
            ("rejected", &json!("REJECTED")),
            "{answer}"
        );
        assert_eq!(answer["statusDetails"]["ErrorCode"], code, "{answer}");
    }
    // It is nobody's but its own.
    let session = &mut reporting.session;
    for topic in [
        "$aws/things/box/defender/metrics/json",
        "$aws/things/cam/shadow/update",
    ] {
        assert!(session.publish(topic, b"{}").is_err(), "{topic}");
    }
    for filter in [
        "$aws/things/box/defender/metrics/json/accepted",
        "$aws/things/+/defender/metrics/json/accepted",
        "$aws/things/cam/#",
        "$aws/things/cam/defender/metrics/json",
    ] {
        assert!(
            session.subscribe_one(filter, Qos::AtLeastOnce).is_err(),
            "{filter}"
        );
    }
}

#[test]
fn a_quarantined_device_goes_on_reporting_and_an_isolated_one_does_not() {
    let scene = Scene::new("127.0.0.1:0", DEFENDER, "");
    let device = scene.device("cam");
    let mut reporting = Reporting::new(&scene, device.ldevid().unwrap(), "cam", "json");
    let contain = |how: &str| {
        let body = json!({ "device": "cam", "containment": how, "reason": "test" });
        scene
            .plane
            .post("/api/v1/response/containments", &body)
            .expect(201);
    };
    contain("quarantined");
    assert!(
        reporting
            .session
            .publish("v1/sensor/cam/telemetry/t", b"21")
            .is_err()
    );
    let (end, _) = reporting.say_json(&report(1, "203.0.113.66:4444"));
    assert_eq!(end, "accepted");
    wait_until("the peer is known", || {
        peers(&scene.plane, "cam").contains("203.0.113.66")
    });
    // What it says of itself gives nothing back.
    assert!(
        reporting
            .session
            .publish("v1/sensor/cam/telemetry/t", b"21")
            .is_err()
    );
    contain("isolated");
    assert!(reporting.session.publish(&reporting.topic, b"{}").is_err());
}

#[test]
fn nobody_may_report_so_where_the_configuration_does_not_say_it() {
    let scene = Scene::new("127.0.0.1:0", "", "");
    let device = scene.device("cam");
    let mut session = scene
        .session(device.ldevid().unwrap(), "cam", "mqtt")
        .unwrap();
    let topic = "$aws/things/cam/defender/metrics/json";
    let refused = session.publish(topic, b"{}").unwrap_err();
    assert!(refused.to_string().contains("unlisted-topic"), "{refused}");
    let accepted = format!("{topic}/accepted");
    assert!(session.subscribe_one(&accepted, Qos::AtLeastOnce).is_err());
}

#[test]
fn a_thing_with_an_old_name_reports_under_it() {
    let scene = Scene::new("127.0.0.1:0", DEFENDER, "");
    let mut device = scene.home.device("cam");
    let csv = format!(
        "serial,product,device,client_id\n{},sensor,cam,Old:Thing_7\n",
        device.serial()
    );
    scene.plane.expect_csv(&csv).expect(201);
    device
        .enroll(&scene.plane.doors(), &Manner::default())
        .unwrap();
    let mut reporting = Reporting::new(&scene, device.ldevid().unwrap(), "Old:Thing_7", "json");
    let (end, answer) = reporting.say_json(&report(1, "203.0.113.66:4444"));
    assert_eq!(
        (end.as_str(), &answer["thingName"]),
        ("accepted", &json!("Old:Thing_7"))
    );
    wait_until("the peer is known", || {
        peers(&scene.plane, "cam").contains("203.0.113.66")
    });
}

/// A program of AWS's in the background, with what it says in a file.
struct Agent {
    child: Child,
    file: std::path::PathBuf,
}

impl Agent {
    fn start(scene: &Scene, python: &str, name: &str, form: &str) -> Self {
        let file = scene.home.path(&format!("{name}.{form}.out"));
        let said = std::fs::File::create(&file).unwrap();
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        let child = Command::new(python)
            .args([
                "-u",
                "-m",
                "AWSIoTDeviceDefenderAgentSDK.agent",
                "-e",
                "localhost",
            ])
            .args([
                "-r", "root.pem", "-c", &cert, "-k", &key, "-id", name, "-f", form,
            ])
            .args(["-i", "1", "-cm"])
            .current_dir(scene.home.path(""))
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        Self { child, file }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.file).unwrap()).into_owned()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Its port cannot be chosen.
const AGENTS_PORT: &str = "127.0.0.1:443";

#[test]
fn aws_device_defender_agent_and_sdk_come_in_unchanged() {
    let Some(python) = python_with("AWSIoTDeviceDefenderAgentSDK") else {
        return;
    };
    match TcpListener::bind(AGENTS_PORT) {
        Ok(_) => {}
        Err(error) => {
            println!("skipped: {AGENTS_PORT} is not to be had ({error})");
            return;
        }
    }
    let scene = Scene::new(AGENTS_PORT, DEFENDER, "tls_1_2 = true");
    scene.device("cam");
    scene.device("box");
    // No sensor listens anywhere, and on this machine somebody does.
    let silent = |(path, text): (&'static str, String)| match path {
        "products/p.toml" => (path, text + "[sensor.behaviour]\nlistens = []\n"),
        _ => (path, text),
    };
    let fleet: Vec<(&str, String)> = fleet().into_iter().map(silent).collect();
    scene.plane.apply(&fleet);
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let agents = [
        Agent::start(&scene, &python, "cam", "json"),
        Agent::start(&scene, &python, "box", "cbor"),
    ];
    for (agent, (name, form)) in agents.iter().zip([("cam", "json"), ("box", "cbor")]) {
        let topic = format!("from topic '$aws/things/{name}/defender/metrics/{form}/accepted'");
        wait_until("the report is accepted", || {
            let said = agent.text();
            assert!(!said.contains("/rejected'"), "{said}");
            said.contains(&topic)
        });
    }
    wait_until("the open port is seen", || {
        let alerts = scene
            .plane
            .get("/api/v1/detection/alerts")
            .expect(200)
            .text();
        alerts.contains(&format!("tcp/{port}"))
    });
    drop(agents);
    speak_plainly(&scene, &python);
}

/// AWS's plain client, 3.1.1 and 5. It offers a protocol where the port is the agent's.
const AWS_PLAIN: &str = r#"
import threading
from awscrt import mqtt, mqtt5
from awsiot import mqtt_connection_builder, mqtt5_client_builder
files = dict(endpoint="localhost", port=443, cert_filepath="cam.pem", pri_key_filepath="cam.key",
    ca_filepath="root.pem", client_id="cam")
heard, came = [], threading.Event()
def on_message(topic, payload, **_):
    heard.append((topic, payload))
    came.set()
connection = mqtt_connection_builder.mtls_from_path(clean_session=False, keep_alive_secs=30, **files)
connection.connect().result(20)
subscribed, _ = connection.subscribe("v1/sensor/cam/command/+", mqtt.QoS.AT_LEAST_ONCE, on_message)
print("granted", int(subscribed.result(20)["qos"]))
published, _ = connection.publish("v1/sensor/cam/telemetry/t", "21", mqtt.QoS.AT_LEAST_ONCE)
published.result(20)
connection.disconnect().result(20)
ready = threading.Event()
client = mqtt5_client_builder.mtls_from_path(
    on_lifecycle_connection_success=lambda _: ready.set(), **files)
client.start()
assert ready.wait(20)
puback = client.publish(mqtt5.PublishPacket(topic="v1/sensor/cam/telemetry/t", payload=b"22",
    qos=mqtt5.QoS.AT_LEAST_ONCE)).result(20)
print("acknowledged", puback.puback.reason_code)
refused = client.publish(mqtt5.PublishPacket(topic="v1/sensor/box/telemetry/t", payload=b"22",
    qos=mqtt5.QoS.AT_LEAST_ONCE)).result(20)
print("refused", refused.puback.reason_code)
client.stop()
"#;

fn speak_plainly(scene: &Scene, python: &str) {
    scene.home.write("plain.py", AWS_PLAIN.as_bytes());
    let ran = run(&scene.home, python, &["plain.py"], b"");
    assert!(ran.good, "{}\n{}", ran.text(), ran.err);
    let said = ran.text();
    assert!(
        said.contains("granted 1") && said.contains("acknowledged 0"),
        "{said}"
    );
    assert!(said.contains("refused 135"), "{said}");
}
