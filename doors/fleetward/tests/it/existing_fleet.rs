//! Existing fleets come along: an old PKI of openssl's, mosquitto's clients as they are.

use crate::plane::{Home, PATIENCE, Plane, Settings};
use crate::tools::{curl, have, openssl_well, run, write_root};
use serde_json::Value;
use sim::Session;
use sim::credential::{Presented, read_certificates};
use sim::tls::{Client, Endpoint, Options};
use std::process::Command;
use std::time::Instant;

/// An old authority in the scratch folder: `old-ca.pem`, and leaves by [`leaf`].
pub fn old_authority(home: &Home) {
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
pub fn leaf(home: &Home, name: &str, subject: &str, extensions: &str, days: &str) -> String {
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

pub const CLIENT: &str = "extendedKeyUsage=clientAuth\nkeyUsage=digitalSignature\n";
pub const SERVER: &str = "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost\n";

/// The command line at the plane of this home; what it printed, as JSON.
#[track_caller]
pub fn fleetward(home: &Home, arguments: &[&str]) -> Result<Value, String> {
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

pub fn count(said: &Value, kind: &str) -> u64 {
    let findings = said["findings"].as_array().unwrap();
    let found = findings.iter().find(|one| one["found"] == kind);
    found.map_or(0, |one| one["count"].as_u64().unwrap())
}

pub const ADD: [&str; 9] = [
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
pub fn publish(
    home: &Home,
    port: u16,
    name: &str,
    client_id: &str,
    topic: &str,
) -> Result<(), String> {
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
pub fn configure(home: &Home, port: u16) {
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
pub fn enroll(home: &Home, plane: &Plane, old: &str, new: &str) -> String {
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
    let session = |name: &str| {
        let (certificate, key) = (home.path("everybody.pem"), home.path("everybody.key"));
        let presented = Presented::read(&certificate, &key).unwrap();
        // Here the door shows the old server's certificate.
        let roots = read_certificates(&home.path("old-ca.pem")).unwrap();
        let door = Endpoint::new(plane.mqtt, "localhost", &roots).unwrap();
        let client = Client::new(&door, Some(&presented), &Options::default());
        let connect = mqtt::Connect::new(mqtt::Version::V5, name);
        Session::open(&client.unwrap(), &connect, PATIENCE)
    };
    let (mut own, mut neighbour) = (session("s-1").unwrap(), session("s-2").unwrap());
    let answer = by_token(&home, &plane, "s-1", &token_of(&home), "s-1");
    answer.expect(200);
    // What stood on the shared certificate ends with its permission.
    let ended = own.next(Instant::now() + PATIENCE).unwrap_err();
    assert_eq!(ended.kind(), "disconnect:0x87", "{ended}");
    neighbour.ping().unwrap();
    let mark = plane.lines.mark();
    assert!(publish(&home, mqtt, "everybody", "s-1", &topic("s-1")).is_err());
    plane.lines.wait_for(mark, "shared-certificate-replaced");
    // The refusal is an answer to its CONNECT, which the device can read.
    let refused = session("s-1").unwrap_err();
    assert_eq!(refused.kind(), "connack:0x87", "{refused}");
    assert!(
        refused.to_string().contains("certificate of its own"),
        "{refused}"
    );
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

pub fn have_mosquitto() -> bool {
    let there = std::path::Path::new("/usr/sbin/mosquitto").exists()
        && Command::new("mosquitto_pub").arg("--help").output().is_ok();
    if !there {
        println!("skipped: mosquitto and its clients are not installed");
    }
    there
}
