//! A fleet moves: mosquitto is its old broker, paho's and mosquitto's clients are unmodified, pinned
//! to a foreign root, and never stop publishing.

use crate::existing_fleet::{
    ADD, CLIENT, SERVER, configure, count, enroll, fleetward, have_mosquitto, leaf, old_authority,
    publish,
};
use crate::plane::{Home, Plane, Settings, wait_until};
use crate::tools::{have, openssl, openssl_well, write_root};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// A program of the test's, ended with it.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The broker that the fleet has, on its port.
fn old_broker(home: &Home, port: u16) -> Running {
    std::fs::create_dir_all(home.path("old-broker")).unwrap();
    let config = format!(
        "listener {port} 127.0.0.1\ncafile {0}/old-ca.pem\ncertfile {0}/old-server.pem\n\
         keyfile {0}/old-server.key\nrequire_certificate true\nuse_identity_as_username true\n\
         persistence true\npersistence_location {0}/old-broker/\nmax_queued_messages 0\nuser root\n",
        home.path("").display()
    );
    let config = config.replace("//", "/");
    let file = home.write("old.conf", config.as_bytes());
    let mut command = Command::new("/usr/sbin/mosquitto");
    command
        .arg("-c")
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let broker = Running::start(&mut command);
    wait_until("the old broker listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    broker
}

/// mosquitto's subscriber with a session that lasts; what it hears goes to a file.
fn collector(
    home: &Home,
    host: &str,
    port: u16,
    root: &str,
    name: &str,
    id: &str,
    to: &str,
) -> Running {
    let out = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(home.path(to))
        .unwrap();
    let mut command = Command::new("mosquitto_sub");
    command
        .current_dir(home.path(""))
        .args(["-h", host, "-p", &port.to_string(), "--cafile", root])
        .args([
            "--cert",
            &format!("{name}.pem"),
            "--key",
            &format!("{name}.key"),
        ])
        .args([
            "-i",
            id,
            "-c",
            "-q",
            "1",
            "-t",
            "v1/sensor/+/telemetry/#",
            "-F",
            "%t %p",
        ])
        .stdout(out)
        .stderr(Stdio::null());
    Running::start(&mut command)
}

/// Clients that publish without a pause, note what was acknowledged, and come back by themselves.
const CLIENTS: &str = r#"
import os, sys, time
import paho.mqtt.client as mqtt
port, count = int(sys.argv[1]), int(sys.argv[2])
acked = open("acked.txt", "a", buffering=1)
waiting, clients = {}, []
def published(client, _, mid):
    line = waiting.pop((client._client_id, mid), None)
    if line:
        acked.write(line + "\n")
for n in range(count):
    name = "dev-%d" % n
    client = mqtt.Client(client_id=name, clean_session=False)
    client.tls_set("old-ca.pem", name + ".pem", name + ".key")
    client.reconnect_delay_set(1, 1)
    client.max_inflight_messages_set(5)
    client.on_publish = published
    client.connect_async("localhost", port)
    client.loop_start()
    clients.append((name, client))
number = 0
while not os.path.exists("stop"):
    for name, client in clients:
        if sum(1 for key in list(waiting) if key[0] == client._client_id) < 5:
            topic, text = "v1/sensor/%s/telemetry/n" % name, str(number)
            with client._out_message_mutex:
                sent = client.publish(topic, text, qos=1)
                waiting[(client._client_id, sent.mid)] = topic + " " + text
    number += 1
    time.sleep(0.05)
deadline = time.time() + 30
while waiting and time.time() < deadline:
    time.sleep(0.05)
for _, client in clients:
    client.loop_stop()
"#;

fn lines(home: &Home, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(home.path(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until every client has had an acknowledgement since.
fn wait_for_all(home: &Home, count: usize, what: &str) {
    let from = lines(home, "acked.txt").len();
    wait_until(what, || {
        let since = lines(home, "acked.txt").split_off(from);
        let topics: BTreeSet<&str> = since
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        topics.len() == count
    });
}

/// A fleet of unmodified clients, pinned to a foreign root, goes from its old broker to the plane
/// and back, while it publishes. 24 clients, or as many as `FLEETWARD_SOAK_CLIENTS` says.
#[test]
fn a_migration_is_rehearsed_moved_rotated_and_rolled_back_without_touching_a_client() {
    const PYTHON: &str = "/usr/bin/python3";
    let paho = Command::new(PYTHON)
        .args(["-c", "import paho.mqtt.client"])
        .output();
    if !have(&["openssl", "curl"]) || !have_mosquitto() {
        return;
    }
    if !paho.is_ok_and(|ran| ran.status.success()) {
        println!("skipped: {PYTHON} has no paho-mqtt");
        return;
    }
    let count: usize = std::env::var("FLEETWARD_SOAK_CLIENTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(24);
    let home = Home::new(&Settings::default());
    old_authority(&home);
    leaf(&home, "old-server", "/CN=localhost", SERVER, "30");
    leaf(&home, "collector", "/CN=collector", CLIENT, "30");
    let (mut leaves, mut list) = (String::new(), "serial,product\n".to_owned());
    for n in 0..count {
        leaves += &leaf(
            &home,
            &format!("dev-{n}"),
            &format!("/CN=dev-{n}"),
            CLIENT,
            "30",
        );
        list += &format!("dev-{n},sensor\n");
    }
    // One that the plan must name: it is not for clients.
    leaves += &leaf(&home, "broken", "/CN=broken", SERVER, "30");
    list += "broken,sensor\n";
    home.write("leaves.pem", leaves.as_bytes());
    home.write("devices.csv", list.as_bytes());
    // A port of the fleet's, which its clients know.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();

    // As it was.
    let broker = old_broker(&home, port);
    let old = |to| {
        collector(
            &home,
            "localhost",
            port,
            "old-ca.pem",
            "collector",
            "collector",
            to,
        )
    };
    let hearing = old("heard-old.txt");
    home.write("clients.py", CLIENTS.as_bytes());
    let mut command = Command::new(PYTHON);
    command
        .current_dir(home.path(""))
        .args(["clients.py", &port.to_string(), &count.to_string()]);
    let clients = Running::start(&mut command);
    wait_for_all(&home, count, "the fleet speaks to its broker");

    // Rehearsed and imported beside it.
    configure(&home, 0);
    let plane = home.start_prepared();
    write_root(&home, &plane);
    let credential = plane.certify("ingest");
    crate::tools::write_credential(&home, &credential, "ingest");
    let files = [
        "--ca",
        "old-ca.pem",
        "--list",
        "devices.csv",
        "--leaves",
        "leaves.pem",
    ];
    let add = [&ADD[..], &files].concat();
    let said = fleetward(&home, &[&add[..], &["--dry-run"]].concat()).unwrap();
    assert_eq!(count_of(&said, "chains"), count, "{said:#}");
    assert_eq!(count_of(&said, "not-a-client"), 1, "{said:#}");
    fleetward(&home, &add).unwrap();
    plane.stop_well();

    // Moved over: the port is the plane's now.
    hearing.stop();
    broker.stop();
    configure(&home, port);
    let plane = home.start();
    let ours = |plane: &Plane| {
        let port = plane.mqtt.port();
        collector(
            &home,
            "127.0.0.1",
            port,
            "root.pem",
            "ingest",
            "ingest",
            "heard-new.txt",
        )
    };
    let hearing = ours(&plane);
    wait_for_all(&home, count, "the fleet speaks to the plane");
    assert!(
        publish(
            &home,
            port,
            "broken",
            "broken",
            "v1/sensor/broken/telemetry/x"
        )
        .is_err(),
        "the rehearsal said that it is refused"
    );

    // Rotated: the server's certificate while they speak, and a device of ours beside its old one.
    let before = shown(&home, port);
    leaf(&home, "old-server", "/CN=localhost", SERVER, "60");
    kill_process(
        Pid::from_raw(plane.pid().cast_signed()).unwrap(),
        Signal::HUP,
    )
    .unwrap();
    plane
        .lines
        .wait_for(0, "SIGHUP: certificates were read again");
    assert_ne!(shown(&home, port), before);
    enroll(&home, &plane, "dev-0", "new-0");
    let fleets = fleetward(&home, &["identity", "import", "list"]).unwrap();
    assert_eq!(fleets[0]["moved"], 1);
    wait_for_all(&home, count, "the fleet goes on after the rotation");

    // Rolled back.
    plane.stop_well();
    hearing.stop();
    let broker = old_broker(&home, port);
    let hearing = old("heard-old.txt");
    wait_for_all(&home, count, "the fleet speaks to its broker again");
    home.write("stop", b"");
    let mut clients = clients;
    assert!(clients.0.wait().unwrap().success());

    // What the plane had acknowledged and not handed on yet is still there.
    configure(&home, 0);
    let plane = home.start();
    let hearing_ours = ours(&plane);
    let acked = lines(&home, "acked.txt");
    let mut lost = Vec::new();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while std::time::Instant::now() < deadline {
        let heard: BTreeSet<String> =
            [lines(&home, "heard-old.txt"), lines(&home, "heard-new.txt")]
                .concat()
                .into_iter()
                .collect();
        lost = acked.iter().filter(|line| !heard.contains(*line)).collect();
        if lost.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(
        lost.is_empty(),
        "{} of {} lost: {lost:?}",
        lost.len(),
        acked.len()
    );
    println!(
        "{count} clients, {} messages acknowledged, none lost",
        acked.len()
    );
    drop((hearing, hearing_ours, broker));
}

fn count_of(said: &Value, kind: &str) -> usize {
    usize::try_from(count(said, kind)).unwrap()
}

/// The serial number of the certificate that `localhost` is shown.
fn shown(home: &Home, port: u16) -> String {
    let to = format!("localhost:{port}");
    let ran = openssl(
        home,
        &[
            "s_client",
            "-connect",
            &to,
            "-servername",
            "localhost",
            "-showcerts",
        ],
        b"",
    );
    let pem = openssl_well(home, &["x509", "-noout", "-serial"], &ran.out);
    String::from_utf8(pem).unwrap()
}
