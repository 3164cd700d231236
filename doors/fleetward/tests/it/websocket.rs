//! MQTT over WebSocket at the port for several protocols: paho's client, and what somebody would try.

use crate::plane::{Home, Plane, Settings, wait_until};
use crate::tools::{curl_at, have, run, write_credential, write_root};
use serde_json::json;
use sim::device::Manner;
use sim::tls::{Client, Endpoint, Options, Transport};
use sim::{Credential, Device};
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const PYTHON: &str = "/usr/bin/python3";
const ASK: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Protocol: mqtt\r\n\r\n";

fn scene(alpn: &str) -> (Home, Plane) {
    let home = Home::new(&Settings {
        more: format!("[listen.alpn]\naddress = \"127.0.0.1:0\"\n{alpn}"),
        shards: 2,
        ..Settings::default()
    });
    let plane = home.start_prepared();
    write_root(&home, &plane);
    (home, plane)
}

fn device(home: &Home, plane: &Plane, name: &str) -> Device {
    let mut device = home.device(name);
    plane.expect([&device]);
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    write_credential(home, device.ldevid().unwrap(), name);
    device
}

/// A client that writes its frames itself.
struct Framed {
    transport: Transport,
    received: Vec<u8>,
}

impl Framed {
    /// Asks for the upgrade; what HTTP says to it.
    fn ask(plane: &Plane, shown: Option<&Credential>, request: &str) -> (Self, String) {
        let endpoint = Endpoint::new(plane.alpn.unwrap(), "localhost", &[plane.root()]).unwrap();
        let presented = shown.map(Credential::presented);
        let client = Client::new(&endpoint, presented.as_ref(), &Options::default()).unwrap();
        let mut transport = client.connect(PATIENCE).unwrap();
        let deadline = Instant::now() + PATIENCE;
        transport.write(request.as_bytes(), deadline).unwrap();
        let mut received = Vec::new();
        let end = loop {
            let end = received.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            transport.read(&mut received, deadline).unwrap();
        };
        let head: Vec<u8> = received.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        (
            Self {
                transport,
                received,
            },
            head,
        )
    }

    fn open(plane: &Plane, shown: &Credential) -> Self {
        let (framed, head) = Self::ask(plane, Some(shown), ASK);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let head = head.to_lowercase();
        assert!(head.contains("sec-websocket-protocol: mqtt"), "{head}");
        assert!(
            head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{head}"
        );
        framed
    }

    fn write(&mut self, bytes: &[u8]) {
        self.transport
            .write(bytes, Instant::now() + PATIENCE)
            .unwrap();
    }

    fn send(&mut self, first: u8, payload: &[u8]) {
        let mut out = vec![
            first,
            0x80 | u8::try_from(payload.len()).unwrap(),
            1,
            2,
            3,
            4,
        ];
        out.extend(
            payload
                .iter()
                .zip([1, 2, 3, 4].iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        self.write(&out);
    }

    /// The next frame of ours, which is short here: its first byte and its payload. `None`: it ended.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let [first, length, rest @ ..] = &self.received[..]
                && rest.len() >= usize::from(*length)
            {
                let frame = (*first, rest[..usize::from(*length)].to_vec());
                self.received.drain(..2 + frame.1.len());
                return Some(frame);
            }
            if self.transport.read(&mut self.received, deadline).is_err() {
                return None;
            }
        }
    }

    fn connect(&mut self, name: &str) {
        let mut connect = b"\x10\x00\x00\x04MQTT\x04\x02\x00\x3c\x00".to_vec();
        connect.push(u8::try_from(name.len()).unwrap());
        connect.extend(name.as_bytes());
        connect[1] = u8::try_from(connect.len() - 2).unwrap();
        self.send(0x82, &connect);
        assert_eq!(self.next(), Some((0x82, b"\x20\x02\x00\x00".to_vec())));
    }
}

const PAHO: &str = r#"
import sys, threading
import paho.mqtt.client as mqtt
port, name = int(sys.argv[1]), "cam"
heard, connected, stands = threading.Event(), threading.Event(), threading.Event()
client = mqtt.Client(client_id=name, transport="websockets", protocol=mqtt.MQTTv5)
client.tls_set("root.pem", name + ".pem", name + ".key")
client.ws_set_options(path="/mqtt")
client.on_connect = lambda c, u, f, code, p=None: (print("connected", int(code.value), flush=True), connected.set())
client.on_subscribe = lambda c, u, mid, codes, p=None: (print("granted", codes[0].value, flush=True), stands.set())
def on_message(c, u, message):
    print("heard", message.topic, len(message.payload), flush=True)
    heard.set()
client.on_message = on_message
client.connect("localhost", port, keepalive=5)
client.loop_start()
assert connected.wait(20)
client.subscribe("v1/sensor/cam/command/+", 1)
assert stands.wait(20)
said = client.publish("v1/sensor/cam/telemetry/t", b"x" * 100000, qos=1)
said.wait_for_publish(20)
print("acknowledged", said.is_published(), flush=True)
assert heard.wait(30)
client.disconnect()
client.loop_stop()
"#;

#[test]
fn paho_speaks_mqtt_over_websocket_with_its_certificate() {
    let probe = [
        "-c",
        "import paho.mqtt.client as it; assert hasattr(it.Client, 'ws_set_options')",
    ];
    if !Command::new(PYTHON)
        .args(probe)
        .output()
        .is_ok_and(|ran| ran.status.success())
    {
        println!("skipped: {PYTHON} has no paho-mqtt");
        return;
    }
    let (home, plane) = scene("websocket = true");
    device(&home, &plane, "cam");
    home.write("speak.py", PAHO.as_bytes());
    let port = plane.alpn.unwrap().port().to_string();
    let ran = std::thread::scope(|scope| {
        let client = scope.spawn(|| run(&home, PYTHON, &["speak.py", &port], b""));
        wait_until("the subscription stands", || {
            let sessions = plane.get("/api/v1/gateway/sessions").expect(200).json();
            let sessions = sessions.as_array().unwrap();
            sessions.iter().any(|session| session["subscriptions"] == 1) || client.is_finished()
        });
        let commander = plane.certify("commander");
        let client_of = Client::new(
            &plane.doors().mqtt,
            Some(&commander.presented()),
            &Options::default(),
        );
        let connect = mqtt::Connect::new(mqtt::Version::V5, "commander");
        let mut session = sim::Session::open(&client_of.unwrap(), &connect, PATIENCE).unwrap();
        // More than one frame length, and more than one record.
        session
            .publish("v1/sensor/cam/command/x", &[7; 70_000])
            .unwrap();
        client.join().unwrap()
    });
    let said = ran.text();
    assert!(ran.good, "{said}\n{}", ran.err);
    for line in [
        "connected 0",
        "granted 1",
        "acknowledged True",
        "heard v1/sensor/cam/command/x 70000",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn packets_span_frames_and_frames_come_in_single_bytes() {
    let (home, plane) = scene("websocket = true");
    let camera = device(&home, &plane, "cam");
    let mut framed = Framed::open(&plane, camera.ldevid().unwrap());
    framed.connect("cam");
    // One PUBLISH of QoS 1 in three fragments with a ping between, then two packets in one frame.
    let publish = b"\x32\x1e\x00\x19v1/sensor/cam/telemetry/t\x00\x01x";
    framed.send(0x02, &publish[..1]);
    framed.send(0x89, b"still there?");
    assert_eq!(framed.next(), Some((0x8a, b"still there?".to_vec())));
    framed.send(0x00, &publish[1..20]);
    framed.send(0x80, &publish[20..]);
    assert_eq!(framed.next(), Some((0x82, b"\x40\x02\x00\x01".to_vec())));
    framed.send(0x82, b"\xc0\x00\xc0\x00");
    assert_eq!(framed.next(), Some((0x82, b"\xd0\x00\xd0\x00".to_vec())));
    for byte in [0x82, 0x82, 0, 0, 0, 0, 0xc0, 0] {
        framed.write(&[byte]);
    }
    assert_eq!(framed.next(), Some((0x82, b"\xd0\x00".to_vec())));
    framed.send(0x88, b"\x03\xe8");
    assert_eq!(framed.next(), Some((0x88, b"\x03\xe8".to_vec())));
    assert_eq!(framed.next(), None);
    wait_until("the session has ended", || plane.connected().is_empty());
}

#[test]
fn a_frame_that_breaks_the_standard_ends_the_connection_with_its_code() {
    let (home, plane) = scene("websocket = true");
    let camera = device(&home, &plane, "cam");
    let mark = plane.lines.mark();
    for (bytes, code) in [
        (&b"\x82\x02\xc0\x00"[..], 1002u16),
        (b"\x81\x80\x00\x00\x00\x00", 1003),
        (b"\xc2\x80\x00\x00\x00\x00", 1002),
    ] {
        let mut framed = Framed::open(&plane, camera.ldevid().unwrap());
        framed.connect("cam");
        framed.write(bytes);
        assert_eq!(framed.next(), Some((0x88, code.to_be_bytes().to_vec())));
        assert_eq!(framed.next(), None);
        plane.lines.wait_for(mark, "breaks WebSocket");
    }
}

#[test]
fn revocation_and_containment_reach_a_websocket_as_any_session() {
    let (home, plane) = scene("websocket = true");
    let (camera, other) = (device(&home, &plane, "cam"), device(&home, &plane, "box"));
    let mut framed = Framed::open(&plane, camera.ldevid().unwrap());
    framed.connect("cam");
    plane.revoke(camera.id());
    // In 3.1.1 nothing is said of it but that it ends.
    assert_eq!(framed.next(), Some((0x88, 1000u16.to_be_bytes().to_vec())));
    assert_eq!(framed.next(), None);
    let mut isolated = Framed::open(&plane, other.ldevid().unwrap());
    isolated.connect("box");
    let body = json!({ "device": "box", "containment": "isolated", "reason": "test" });
    plane
        .post("/api/v1/response/containments", &body)
        .expect(201);
    assert!(isolated.next().is_none_or(|(first, _)| first == 0x88));
}

#[test]
fn who_has_no_certificate_of_ours_or_asks_otherwise_gets_no_websocket() {
    if !have(&["curl"]) {
        return;
    }
    let (home, plane) = scene("websocket = true");
    let newcomer = home.device("cam");
    plane.expect([&newcomer]);
    let camera = device(&home, &plane, "box");
    for (shown, request, status) in [
        (None, ASK.to_owned(), "401"),
        // A factory identity opens EST and nothing else.
        (Some(newcomer.idevid()), ASK.to_owned(), "403"),
        (camera.ldevid(), ASK.replace("mqtt\r\n", "chat\r\n"), "426"),
        (
            camera.ldevid(),
            ASK.replace("\r\n\r\n", "\r\nOrigin: https://evil.example\r\n\r\n"),
            "403",
        ),
    ] {
        let (_, head) = Framed::ask(&plane, shown, &request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    assert!(plane.connected().is_empty());
    // And where the configuration does not say it there is no such place.
    let (home, plane) = scene("");
    curl_at(&home, plane.alpn.unwrap(), "/mqtt", &[]).expect(404);
}
