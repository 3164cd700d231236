//! Forwarding: mosquitto is the broker that a fleet still speaks with, behind this plane; what was
//! acknowledged reaches it whatever stops in between, and what it says reaches the devices.

use crate::existing_fleet::{CLIENT, SERVER, fleetward, have_mosquitto, leaf, old_authority};
use crate::fixture::fleet;
use crate::plane::{Home, PATIENCE, Plane, Settings, wait_until};
use crate::tools::{run, write_credential};
use mqtt::Qos;
use serde_json::Value;
use sim::Device;
use sim::device::Manner;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A program of the test's, ended with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn broker(home: &Home, port: u16) -> Running {
    std::fs::create_dir_all(home.path("broker")).unwrap();
    let folder = home.path("");
    let folder = folder.display().to_string();
    let folder = folder.trim_end_matches('/');
    let config = format!(
        "listener {port} 127.0.0.1\ncafile {folder}/old-ca.pem\ncertfile {folder}/old-server.pem\n\
         keyfile {folder}/old-server.key\nrequire_certificate true\nuse_identity_as_username true\n\
         persistence true\npersistence_location {folder}/broker/\nautosave_interval 1\n\
         autosave_on_changes true\nuser root\n"
    );
    let file = home.write("broker.conf", config.as_bytes());
    let child = Command::new("/usr/sbin/mosquitto")
        .arg("-c")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running(child);
    wait_until("mosquitto listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    running
}

/// What a client of the other broker is called with.
fn as_client(port: u16, more: &[&str]) -> Vec<String> {
    let port = port.to_string();
    let common = [
        "-h",
        "localhost",
        "-p",
        &port,
        "--cafile",
        "old-ca.pem",
        "--cert",
        "backend.pem",
        "--key",
        "backend.key",
        "-q",
        "1",
    ];
    common.iter().chain(more).map(ToString::to_string).collect()
}

/// Collects what the other broker hears, in a session that lasts.
fn collector(home: &Home, port: u16) -> Running {
    let out = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(home.path("heard.txt"))
        .unwrap();
    let more = ["-i", "collector", "-c", "-t", "site/#", "-F", "%t %p"];
    let child = Command::new("mosquitto_sub")
        .current_dir(home.path(""))
        .args(as_client(port, &more))
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Running(child)
}

fn heard(home: &Home, line: &str) -> bool {
    let text = std::fs::read_to_string(home.path("heard.txt")).unwrap_or_default();
    text.lines().any(|one| one == line)
}

fn standing(plane: &Plane) -> Value {
    plane.get("/api/v1/gateway/forward").expect(200).json()
}

fn connect(plane: &Plane, device: &mut Device) {
    device.connect(&plane.doors(), &Manner::default()).unwrap();
    let session = device.session().unwrap();
    session
        .subscribe_one("v1/sensor/cam/command/+", Qos::AtLeastOnce)
        .unwrap();
}

fn say(device: &mut Device, text: &str) {
    let topic = "v1/sensor/cam/telemetry/x";
    let session = device.session().unwrap();
    session.publish(topic, text.as_bytes()).unwrap();
}

/// The fleet of the tests, with the service that stands for the other broker.
fn bridged_fleet() -> Vec<(&'static str, String)> {
    let mut files = fleet();
    for (path, text) in &mut files {
        match *path {
            "services/s.toml" => text.push_str("[bridge]\n"),
            "policies/p.cedar" => text.push_str(
                "@id(\"bridge-up\")\n\
                 permit (principal == Service::\"bridge\", action == Action::\"receive\", resource)\n\
                 when { resource.direction == \"from-device\" };\n\
                 @id(\"bridge-down\")\n\
                 permit (principal == Service::\"bridge\", action == Action::\"publish\", resource)\n\
                 when { resource.direction == \"to-device\" };\n",
            ),
            _ => {}
        }
    }
    files
}

#[test]
fn crash_what_was_acknowledged_reaches_the_other_broker_and_its_words_reach_devices() {
    if !have_mosquitto() {
        return;
    }
    let home = Home::new(&Settings::default());
    old_authority(&home);
    leaf(&home, "old-server", "/CN=localhost", SERVER, "30");
    leaf(&home, "backend", "/CN=backend", CLIENT, "30");
    leaf(&home, "up", "/CN=up", CLIENT, "30");
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let at = |name: &str| format!("{:?}", home.path(name));
    home.configure(&Settings {
        shards: 2,
        more: format!(
            "[forward]\nupstream = \"localhost:{port}\"\nroots_file = {}\ncertificate_file = {}\n\
             key_file = {}\nprefix = \"site/\"\nservice = \"bridge\"\n\
             service_certificate_file = {}\nservice_key_file = {}\n\
             up = [\"v1/sensor/+/telemetry/#\"]\ndown = [\"v1/sensor/+/command/+\"]\n",
            at("old-ca.pem"),
            at("up.pem"),
            at("up.key"),
            at("bridge.pem"),
            at("bridge.key"),
        ),
        ..Settings::default()
    });
    let plane = home.start_prepared();
    plane.apply(&bridged_fleet());
    write_credential(&home, &plane.certify("bridge"), "bridge");
    let mosquitto = broker(&home, port);
    let hearing = collector(&home, port);
    wait_until("both ends stand", || {
        standing(&plane)["state"] == "forwarding"
    });

    let mut device = home.device("cam");
    plane.expect([&device]);
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    connect(&plane, &mut device);
    // Its subscription stands once the first one has gone through.
    wait_until("the first is heard", || {
        say(&mut device, "one");
        heard(&home, "site/v1/sensor/cam/telemetry/x one")
    });

    // The other broker is gone, then we are: what was acknowledged meanwhile is not lost.
    drop(mosquitto);
    wait_until("it is seen", || standing(&plane)["state"] != "forwarding");
    say(&mut device, "two");
    plane.kill();
    let plane = home.start();
    connect(&plane, &mut device);
    say(&mut device, "three");
    assert_ne!(standing(&plane)["state"], "forwarding");
    drop(hearing);
    let _mosquitto = broker(&home, port);
    let _hearing = collector(&home, port);
    for text in ["two", "three"] {
        let line = format!("site/v1/sensor/cam/telemetry/x {text}");
        wait_until("it is heard", || heard(&home, &line));
    }
    wait_until("all is acknowledged", || {
        let standing = standing(&plane);
        standing["up"] == standing["up_acknowledged"]
    });

    // Down: to the device, nothing that its channel does not take, and nothing is stopped by what our
    // door does not take at all.
    let topic = "site/v1/sensor/cam/command/do";
    home.write("large", &vec![b'x'; 140_000]);
    home.write("huge", &vec![b'x'; 300_000]);
    for what in [&["-f", "huge"][..], &["-f", "large"], &["-m", "restart"]] {
        let arguments = as_client(port, &[&["-t", topic], what].concat());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ran = run(&home, "mosquitto_pub", &arguments, b"");
        assert!(ran.good, "{}", ran.err);
    }
    let session = device.session().unwrap();
    let came = session
        .next_delivery(Instant::now() + PATIENCE)
        .unwrap()
        .unwrap();
    assert_eq!(
        (came.topic.as_str(), came.payload.as_slice()),
        ("v1/sensor/cam/command/do", &b"restart"[..])
    );
    wait_until("all are counted", || {
        let standing = standing(&plane);
        (&standing["down"], &standing["down_refused"]) == (&1.into(), &2.into())
    });
    assert_eq!(plane.metric("fleetward_gateway_forward_down_total"), 1);
    let said = fleetward(&home, &["gateway", "forward"]).unwrap();
    assert_eq!(said["state"], "forwarding");
    // A service that may not receive what is to go up stops nobody else, and says so.
    plane.apply(&fleet());
    wait_until("it says why", || {
        let trouble = standing(&plane)["trouble"].clone();
        trouble
            .as_str()
            .is_some_and(|text| text.contains("forward.up"))
    });
    say(&mut device, "four");
    plane.apply(&bridged_fleet());
    wait_until("it goes on", || standing(&plane)["state"] == "forwarding");
}
