//! Existing fleets come along, with the programs that such fleets are made of: an old PKI of
//! openssl's, mosquitto as their old broker, mosquitto's and paho's clients, unmodified.

use crate::plane::{Home, Plane, Settings, wait_until};
use crate::tools::{curl, have, openssl, openssl_well, run, write_root};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// An old authority in the scratch folder: `old-ca.pem`, and leaves by [`leaf`].
fn old_authority(home: &Home) {
    key(home, "old-ca");
    let request = [
        "req",
        "-x509",
        "-new",
        "-key",
        "old-ca.key",
        "-subj",
        "/O=Old Works/CN=Old Root",
        "-days",
        "3650",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-out",
        "old-ca.pem",
    ];
    openssl_well(home, &request, b"");
}

fn key(home: &Home, name: &str) {
    let out = format!("{name}.key");
    let make = [
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        &out,
    ];
    openssl_well(home, &make, b"");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(home.path(&out), std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// `<name>.pem` and `<name>.key`, signed by the old authority; `more` to `openssl x509`.
fn leaf(home: &Home, name: &str, subject: &str, extensions: &str, days: &str) -> String {
    if !home.path(&format!("{name}.key")).exists() {
        key(home, name);
    }
    let key = format!("{name}.key");
    let request = openssl_well(home, &["req", "-new", "-key", &key, "-subj", subject], b"");
    home.write("extensions", extensions.as_bytes());
    let sign = [
        "x509",
        "-req",
        "-CA",
        "old-ca.pem",
        "-CAkey",
        "old-ca.key",
        "-days",
        days,
        "-extfile",
        "extensions",
    ];
    let pem = openssl_well(home, &sign, &request);
    home.write(&format!("{name}.pem"), &pem);
    String::from_utf8(pem).unwrap()
}

const CLIENT: &str = "extendedKeyUsage=clientAuth\nkeyUsage=digitalSignature\n";
const SERVER: &str = "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost\n";

/// The command line at the plane of this home; what it printed, as JSON.
#[track_caller]
fn fleetward(home: &Home, arguments: &[&str]) -> Result<Value, String> {
    let data = home.data_dir();
    let mut all = vec!["--output", "json"];
    all.extend(arguments);
    all.extend(["--data", data.to_str().unwrap()]);
    let ran = run(home, env!("CARGO_BIN_EXE_fleetward"), &all, b"");
    if ran.good {
        Ok(serde_json::from_slice(&ran.out).unwrap_or_default())
    } else {
        Err(ran.err)
    }
}

fn count(said: &Value, kind: &str) -> u64 {
    let findings = said["findings"].as_array().unwrap();
    let found = findings.iter().find(|one| one["found"] == kind);
    found.map_or(0, |one| one["count"].as_u64().unwrap())
}

const ADD: [&str; 9] = [
    "identity",
    "import",
    "add",
    "--name",
    "legacy",
    "--until",
    "2037-06-30",
    "--naming",
    "cn",
];

/// How mosquitto's publisher ended that is pinned to the old root.
fn publish(home: &Home, port: u16, name: &str, client_id: &str, topic: &str) -> Result<(), String> {
    let (port, cert, key) = (
        port.to_string(),
        format!("{name}.pem"),
        format!("{name}.key"),
    );
    let arguments = [
        "-h",
        "localhost",
        "-p",
        &port,
        "--cafile",
        "old-ca.pem",
        "--cert",
        &cert,
        "--key",
        &key,
        "-i",
        client_id,
        "-q",
        "1",
        "-t",
        topic,
        "-m",
        "x",
    ];
    let ran = run(home, "mosquitto_pub", &arguments, b"");
    if ran.good { Ok(()) } else { Err(ran.err) }
}

/// A home whose MQTT door shows `localhost` the certificate of the old root, at this port.
fn configure(home: &Home, port: u16) {
    let certificates = format!(
        "[[listen.certificates]]\nchain_file = {:?}\nkey_file = {:?}\nnames = [\"localhost\"]\n\
         doors = [\"mqtt\"]\n",
        home.path("old-server.pem"),
        home.path("old-server.key"),
    );
    home.configure(&Settings {
        gateway: certificates,
        ..Settings::default()
    });
    let text = std::fs::read_to_string(home.path("plane.toml")).unwrap();
    let mqtt = format!("mqtt = \"127.0.0.1:{port}\"");
    home.write(
        "plane.toml",
        text.replace("mqtt = \"127.0.0.1:0\"", &mqtt).as_bytes(),
    );
}

fn scene() -> (Home, Plane) {
    let home = Home::new(&Settings::default());
    old_authority(&home);
    leaf(&home, "old-server", "/CN=localhost", SERVER, "30");
    configure(&home, 0);
    let plane = home.start_prepared();
    write_root(&home, &plane);
    (home, plane)
}

#[test]
fn an_import_is_rehearsed_taken_and_retired() {
    if !have(&["openssl", "curl"]) || !have_mosquitto() {
        return;
    }
    let (home, plane) = scene();
    let mut leaves = String::new();
    for name in ["old-1", "old-2"] {
        leaves += &leaf(&home, name, &format!("/CN={name}"), CLIENT, "30");
    }
    leaves += &leaf(&home, "server-only", "/CN=old-3", SERVER, "30");
    leaves += &leaf(&home, "nameless", "/O=nobody", CLIENT, "30");
    leaves += &leaf(&home, "twin", "/CN=old-1", CLIENT, "30");
    let weak = ["genrsa", "-out", "weak.key", "1024"];
    openssl_well(&home, &weak, b"");
    leaves += &leaf(&home, "weak", "/CN=old-4", CLIENT, "30");
    key(&home, "stranger");
    let asks = ["req", "-new", "-key", "stranger.key", "-subj", "/CN=old-5"];
    let request = openssl_well(&home, &asks, b"");
    home.write("extensions", CLIENT.as_bytes());
    let sign = [
        "x509",
        "-req",
        "-signkey",
        "stranger.key",
        "-days",
        "30",
        "-extfile",
        "extensions",
    ];
    leaves += &String::from_utf8(openssl_well(&home, &sign, &request)).unwrap();
    home.write("leaves.pem", leaves.as_bytes());
    home.write(
        "devices.csv",
        b"serial,product,device,client_id\nold-1,sensor,,urn:dev:1\nold-2,sensor,,\n\
          old-3,sensor,,\nold-4,sensor,,\nold-5,sensor,,\nold-6,rocket,,\n",
    );
    let topic = "v1/sensor/old-1/telemetry/x";
    let before = publish(&home, plane.mqtt.port(), "old-1", "old-1", topic);
    assert!(before.is_err(), "{before:?}");

    let files = [
        "--ca",
        "old-ca.pem",
        "--list",
        "devices.csv",
        "--leaves",
        "leaves.pem",
    ];
    let add = [&ADD[..], &files].concat();
    let acts = plane.acts();
    let said = fleetward(&home, &[&add[..], &["--dry-run"]].concat()).unwrap();
    assert_eq!(plane.acts(), acts, "a rehearsal wrote");
    for (kind, expected) in [
        ("chains", 2),
        ("not-a-client", 1),
        ("unnamed", 1),
        ("duplicate-name", 1),
        ("weak-key", 1),
        ("no-chain", 1),
        ("unseen", 1),
        ("new", 3),
        ("product-undeclared", 1),
    ] {
        assert_eq!(count(&said, kind), expected, "{kind} in {said:#}");
    }
    let taken = fleetward(&home, &add).unwrap();
    assert_eq!(taken["devices"], said["devices"]);
    assert_eq!(
        taken["findings"], said["findings"],
        "the rehearsal said otherwise"
    );

    // The client as it always was: its root, its certificate, its own client identifier.
    let mqtt = plane.mqtt.port();
    publish(&home, mqtt, "old-1", "urn:dev:1", topic).unwrap();
    publish(&home, mqtt, "old-1", "old-1", topic).unwrap();
    assert!(publish(&home, mqtt, "old-1", "old-2", topic).is_err());
    publish(&home, mqtt, "old-2", "old-2", "v1/sensor/old-2/telemetry/x").unwrap();
    for unlisted in ["server-only", "nameless", "weak"] {
        assert!(
            publish(&home, mqtt, unlisted, "old-3", topic).is_err(),
            "{unlisted}"
        );
    }

    // It moves, and can still go back.
    let enrolled = enroll(&home, &plane, "old-1", "new-1");
    assert!(enrolled.contains("BEGIN CERTIFICATE"), "{enrolled}");
    let entries = plane.entries();
    let entry = entries
        .iter()
        .rfind(|one| one["action"] == "identity.device-enrolled");
    assert_eq!(entry.unwrap()["details"]["by"], "imported-certificate");
    publish(&home, mqtt, "old-1", "old-1", topic).unwrap();
    let fleets = fleetward(&home, &["identity", "import", "list"]).unwrap();
    assert_eq!(
        (fleets[0]["devices"].clone(), fleets[0]["moved"].clone()),
        (3.into(), 1.into())
    );

    // Restarted, it still knows.
    plane.stop_well();
    let plane = home.start();
    let mqtt = plane.mqtt.port();
    publish(&home, mqtt, "old-1", "urn:dev:1", topic).unwrap();

    let retire = ["identity", "import", "retire", "--name", "legacy", "--yes"];
    let refused = fleetward(&home, &retire).unwrap_err();
    assert!(refused.contains("2 of 3 devices"), "{refused}");
    fleetward(&home, &[&retire[..], &["--leave-behind"]].concat()).unwrap();
    assert!(publish(&home, mqtt, "old-1", "old-1", topic).is_err());
    let gone = curl(
        &home,
        &plane,
        "/.well-known/est/simpleenroll",
        &["--cert", "old-1.pem", "--key", "old-1.key", "-X", "POST"],
    );
    assert_eq!(gone.status, 0, "{}", gone.head);
}

/// Enrolls by EST with an old certificate; writes `<new>.key` and `<new>.pem`.
fn enroll(home: &Home, plane: &Plane, old: &str, new: &str) -> String {
    key(home, new);
    let new_key = format!("{new}.key");
    let request = [
        "req", "-new", "-key", &new_key, "-subj", "/CN=any", "-outform", "DER",
    ];
    let der = openssl_well(home, &request, b"");
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    home.write("request", body.as_bytes());
    let (cert, key) = (format!("{old}.pem"), format!("{old}.key"));
    let answer = curl(
        home,
        plane,
        "/.well-known/est/simpleenroll",
        &[
            "--cert",
            &cert,
            "--key",
            &key,
            "-H",
            "Content-Type: application/pkcs10",
            "-H",
            "Accept: application/pem-certificate-chain",
            "--data-binary",
            "@request",
        ],
    )
    .expect(200);
    home.write(&format!("{new}.pem"), &answer.body);
    String::from_utf8(answer.body).unwrap()
}

#[test]
fn a_shared_certificate_lets_in_who_is_on_its_list_until_it_has_its_own() {
    if !have(&["openssl", "curl"]) || !have_mosquitto() {
        return;
    }
    let (home, plane) = scene();
    leaf(&home, "everybody", "/CN=everybody", CLIENT, "30");
    let text = openssl_well(
        &home,
        &[
            "x509",
            "-in",
            "everybody.pem",
            "-noout",
            "-fingerprint",
            "-sha256",
        ],
        b"",
    );
    let text = String::from_utf8(text).unwrap();
    let fingerprint = text.trim().rsplit_once('=').unwrap().1;
    let list =
        format!("serial,product,fingerprint\ns-1,sensor,{fingerprint}\ns-2,sensor,{fingerprint}\n");
    home.write("devices.csv", list.as_bytes());
    let add = [&ADD[..], &["--list", "devices.csv"]].concat();
    let refused = fleetward(&home, &add).unwrap_err();
    assert!(refused.contains("shared-not-accepted"), "{refused}");
    let said = fleetward(&home, &[&add[..], &["--shared"]].concat()).unwrap();
    assert_eq!(count(&said, "sharing"), 2, "{said:#}");

    let mqtt = plane.mqtt.port();
    let topic = |name: &str| format!("v1/sensor/{name}/telemetry/x");
    publish(&home, mqtt, "everybody", "s-1", &topic("s-1")).unwrap();
    publish(&home, mqtt, "everybody", "s-2", &topic("s-2")).unwrap();
    let mark = plane.lines.mark();
    assert!(publish(&home, mqtt, "everybody", "s-3", &topic("s-3")).is_err());
    plane.lines.wait_for(mark, "shared-client-unlisted");

    // It enrolls by a token, since the certificate names nobody; then it alone speaks for itself.
    home.write("serials.csv", b"serial\ns-1\n");
    let token = [
        "identity",
        "token",
        "create",
        "--manufacturer",
        "legacy",
        "--list",
        "serials.csv",
        "--out",
        "tokens.csv",
    ];
    fleetward(&home, &token).unwrap();
    let mode = std::fs::metadata(home.path("tokens.csv"))
        .unwrap()
        .permissions();
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(mode.mode() & 0o777, 0o600);
    let answer = by_token(&home, &plane, "s-1", &token_of(&home), "s-1");
    answer.expect(200);
    let mark = plane.lines.mark();
    assert!(publish(&home, mqtt, "everybody", "s-1", &topic("s-1")).is_err());
    plane.lines.wait_for(mark, "shared-certificate-replaced");
    publish(&home, mqtt, "everybody", "s-2", &topic("s-2")).unwrap();
}

/// The token in the first line of `tokens.csv`.
fn token_of(home: &Home) -> String {
    let text = std::fs::read_to_string(home.path("tokens.csv")).unwrap();
    let line = text.lines().nth(1).unwrap();
    line.rsplit_once(',').unwrap().1.to_owned()
}

/// EST by HTTP Basic for the key `name`, which is made if it is not there.
fn by_token(
    home: &Home,
    plane: &Plane,
    serial: &str,
    token: &str,
    name: &str,
) -> crate::tools::Curled {
    if !home.path(&format!("{name}.key")).exists() {
        key(home, name);
    }
    let key = format!("{name}.key");
    let request = [
        "req", "-new", "-key", &key, "-subj", "/CN=any", "-outform", "DER",
    ];
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(openssl_well(home, &request, b""));
    home.write("request", body.as_bytes());
    home.write(
        "token.curl",
        format!("user = \"{serial}:{token}\"\n").as_bytes(),
    );
    curl(
        home,
        plane,
        "/.well-known/est/simpleenroll",
        &[
            "--config",
            "token.curl",
            "-H",
            "Content-Type: application/pkcs10",
            "-H",
            "Accept: application/pem-certificate-chain",
            "--data-binary",
            "@request",
        ],
    )
}

#[test]
fn a_claim_token_is_one_use_of_one_serial_number() {
    if !have(&["openssl", "curl"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    write_root(&home, &plane);
    plane
        .expect_csv("serial,product,device\nSN1,sensor,t1\nSN2,sensor,t2\n")
        .expect(201);
    home.write("batch.csv", b"product,serial\nsensor,SN1\nsensor,SN2\n");
    let create = [
        "identity",
        "token",
        "create",
        "--manufacturer",
        "acme",
        "--list",
        "batch.csv",
        "--out",
        "tokens.csv",
    ];
    fleetward(&home, &create).unwrap();
    let token = token_of(&home);

    // Nothing shown: the answer says what may be.
    home.write("request", b"x");
    let nothing = curl(
        &home,
        &plane,
        "/.well-known/est/simpleenroll",
        &[
            "-H",
            "Content-Type: application/pkcs10",
            "--data-binary",
            "@request",
        ],
    )
    .expect(401);
    assert!(
        nothing
            .head
            .to_lowercase()
            .contains("www-authenticate: basic"),
        "{}",
        nothing.head
    );
    for (serial, token) in [("SN2", &*token), ("SN9", &*token), ("SN1", "0000-0000")] {
        let wrong = by_token(&home, &plane, serial, token, "k1").expect(401);
        assert!(wrong.refusal().contains("claim-token-unknown"), "{serial}");
    }
    let first = by_token(&home, &plane, "SN1", &token, "k1").expect(200);
    // The answer was lost: the same key gets the same, whether the plane fell in between or not.
    plane.kill();
    let plane = home.start();
    let again = by_token(&home, &plane, "SN1", &token, "k1").expect(200);
    assert_eq!(first.body, again.body);
    let thief = by_token(&home, &plane, "SN1", &token, "k2").expect(403);
    assert!(thief.refusal().contains("claim-token-used"));
    let known = plane.get("/api/v1/identity/devices/t1").expect(200).json();
    assert_eq!(known["certificates"].as_array().unwrap().len(), 1);
    let entries = plane.entries();
    let entry = entries
        .iter()
        .rfind(|one| one["action"] == "identity.device-enrolled");
    assert_eq!(entry.unwrap()["details"]["by"], "claim-token");
    // No token in the log, nor in the data.
    assert!(
        !entries
            .iter()
            .any(|entry| entry.to_string().contains(&token))
    );
    let withdraw = [
        "identity",
        "token",
        "withdraw",
        "--manufacturer",
        "acme",
        "--all",
    ];
    fleetward(&home, &withdraw).unwrap();
    let counts = fleetward(&home, &["identity", "token", "list"]).unwrap();
    assert_eq!(
        (counts[0]["unused"].clone(), counts[0]["used"].clone()),
        (0.into(), 1.into())
    );
    // Guessing is slowed.
    let throttled = (0..12).any(|_| by_token(&home, &plane, "SN2", "0000", "k1").status == 429);
    assert!(throttled);
}

fn have_mosquitto() -> bool {
    let there = std::path::Path::new("/usr/sbin/mosquitto").exists()
        && Command::new("mosquitto_pub").arg("--help").output().is_ok();
    if !there {
        println!("skipped: mosquitto and its clients are not installed");
    }
    there
}

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
        if sum(1 for key in waiting if key[0] == client._client_id) < 5:
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
        .wait_for(0, "server certificates were read again");
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
