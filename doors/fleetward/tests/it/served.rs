//! What the doors show: our own certificate, chains of another CA beside it, and how they are
//! replaced while the plane runs. The clients are not ours.

use crate::plane::{Home, Plane, Settings};
use crate::tools::{have, openssl, openssl_well, run, write_credential, write_root};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sim::device::Manner;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

/// Another CA: a root, an issuing CA below it, and what they sign; all by openssl.
pub fn other_ca(home: &Home) {
    let root = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
                -subj /CN=Other-Root -keyout other-root.key -out other-root.pem";
    spoken(home, root);
    key(home, "other-ca", "ec");
    home.write("ca.ext", b"basicConstraints=critical,CA:TRUE,pathlen:0\n");
    sign(
        home,
        "other-ca",
        "/CN=Other-Issuing",
        "ca.ext",
        "other-root",
    );
}

/// `<name>.key` and `<name>.chain`: a leaf for these names and its issuer.
pub fn leaf(home: &Home, name: &str, kind: &str, names: &str) {
    key(home, name, kind);
    let extensions = format!("subjectAltName={names}\nextendedKeyUsage=serverAuth\n");
    home.write("leaf.ext", extensions.as_bytes());
    sign(home, name, "/CN=leaf", "leaf.ext", "other-ca");
    chain(home, name, &[name, "other-ca"]);
}

fn key(home: &Home, name: &str, kind: &str) {
    let how = match kind {
        "rsa" => "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
        _ => "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
    };
    spoken(home, &format!("{how} -out {name}.key"));
    mode(home, &format!("{name}.key"), 0o600);
}

fn sign(home: &Home, name: &str, subject: &str, extensions: &str, issuer: &str) {
    sign_for(home, name, subject, extensions, issuer, 10);
}

fn sign_for(home: &Home, name: &str, subject: &str, extensions: &str, issuer: &str, days: i32) {
    spoken(
        home,
        &format!("req -new -key {name}.key -subj {subject} -out {name}.csr"),
    );
    spoken(
        home,
        &format!(
            "x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -days {days} \
             -extfile {extensions} -out {name}.pem"
        ),
    );
}

/// `<name>.chain` of these certificates, in this order.
fn chain(home: &Home, name: &str, of: &[&str]) {
    let read = |one: &&str| std::fs::read(home.path(&format!("{one}.pem"))).unwrap();
    let pem: Vec<u8> = of.iter().flat_map(read).collect();
    home.write(&format!("{name}.chain"), &pem);
}

fn mode(home: &Home, name: &str, mode: u32) {
    std::fs::set_permissions(home.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

pub fn spoken(home: &Home, arguments: &str) {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    openssl_well(home, &arguments, b"");
}

/// One `[[listen.certificates]]` for each name, with more lines.
fn import(home: &Home, certificates: &[(&str, &str)]) {
    let one = |(name, more): &(&str, &str)| {
        format!(
            "[[listen.certificates]]\nchain_file = {:?}\nkey_file = {:?}\n{more}\n",
            home.path(&format!("{name}.chain")),
            home.path(&format!("{name}.key")),
        )
    };
    home.configure(&Settings {
        listen: "people_tls_1_2 = true".to_owned(),
        gateway: "tls_1_2 = true\n".to_owned() + &certificates.iter().map(one).collect::<String>(),
        ..Settings::default()
    });
}

/// What openssl says when it connects, asking for `name` and trusting one root.
pub fn shown(home: &Home, door: SocketAddr, name: Option<&str>, root: &str, more: &str) -> Seen {
    let door = door.to_string();
    let mut arguments = vec!["s_client", "-connect", &door, "-CAfile", root];
    match name {
        Some(name) => arguments.extend(["-servername", name, "-verify_hostname", name]),
        None => arguments.push("-noservername"),
    }
    arguments.push("-verify_return_error");
    arguments.extend(more.split_whitespace());
    // What it was told to send, if it came that far, ends the connection.
    let ran = openssl(home, &arguments, b"Q\n");
    let text = ran.text() + &ran.err;
    Seen {
        // It says so too where it was shown none at all.
        verified: text.contains("Verify return code: 0 (ok)")
            && !text.contains("no peer certificate available"),
        leaf: text
            .lines()
            .find_map(|line| line.trim().strip_prefix("0 s:").map(str::to_owned))
            .unwrap_or_default(),
        text,
    }
}

pub struct Seen {
    verified: bool,
    /// Its subject.
    leaf: String,
    pub text: String,
}

impl Seen {
    #[track_caller]
    pub fn verified(self) -> Self {
        assert!(self.verified, "{}", self.text);
        self
    }

    #[track_caller]
    pub fn refused(self) {
        assert!(!self.verified, "{}", self.text);
    }
}

fn sha256_of(home: &Home, name: &str) -> String {
    let der = openssl_well(
        home,
        &["x509", "-in", &format!("{name}.pem"), "-outform", "DER"],
        b"",
    );
    let digest = openssl_well(home, &["dgst", "-sha256", "-r"], &der);
    String::from_utf8_lossy(&digest[..64]).into_owned()
}

/// The leaves that the plane says it shows, by source.
pub fn leaves(plane: &Plane, source: &str) -> Vec<Value> {
    let all = plane.get("/api/v1/identity/served").expect(200).json();
    let all = all.as_array().unwrap().iter();
    all.filter(|one| one["source"] == source).cloned().collect()
}

pub fn entries(plane: &Plane, action: &str) -> Vec<Value> {
    let mut all = plane.entries();
    all.retain(|entry| entry["action"] == action);
    all
}

pub const SHOWN: &str = "identity.server-certificate-shown";
const NO_LONGER: &str = "identity.server-certificate-no-longer-shown";

#[test]
fn another_cas_chain_is_shown_by_name_beside_our_own_at_every_door() {
    if !have(&["openssl", "mosquitto_pub"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    other_ca(&home);
    leaf(
        &home,
        "broker",
        "ec",
        "DNS:broker.other.example,DNS:*.wild.example",
    );
    leaf(&home, "bare", "ec", "IP:127.0.0.1,DNS:bare.other.example");
    import(
        &home,
        &[
            ("broker", ""),
            ("bare", "doors = [\"mqtt\"]\ndefault = true"),
        ],
    );
    let plane = home.start_prepared();
    write_root(&home, &plane);
    for door in [plane.people, plane.devices, plane.mqtt] {
        let ask = |name: &str, root: &str| shown(&home, door, Some(name), root, "");
        ask("broker.other.example", "other-root.pem").verified();
        ask("Broker.Other.Example", "other-root.pem").verified();
        ask("a.wild.example", "other-root.pem").verified();
        ask("a.b.wild.example", "other-root.pem").refused();
        ask("localhost", "root.pem").verified();
        // Neither CA's clients take the other's certificate.
        ask("broker.other.example", "root.pem").refused();
        ask("localhost", "other-root.pem").refused();
        let nobody = ask("nobody.example", "other-root.pem");
        assert!(nobody.text.contains("alert"), "{}", nobody.text);
        nobody.refused();
    }
    // Two certificates of the chain and no more.
    let seen = shown(
        &home,
        plane.mqtt,
        Some("broker.other.example"),
        "other-root.pem",
        "-showcerts",
    );
    assert_eq!(
        seen.text.matches("BEGIN CERTIFICATE").count(),
        2,
        "{}",
        seen.text
    );
    // Its name is known at its own door only; without a name it is shown there and nowhere else.
    let bare = Some("bare.other.example");
    shown(&home, plane.mqtt, bare, "other-root.pem", "").verified();
    shown(&home, plane.people, bare, "other-root.pem", "").refused();
    shown(&home, plane.mqtt, None, "other-root.pem", "").verified();
    shown(&home, plane.people, None, "root.pem", "").verified();
    shown(&home, plane.devices, None, "root.pem", "").verified();

    // An MQTT client of theirs that pins their root, at our door with our certificate.
    let mut device = home.device("cam");
    plane.expect([&device]);
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    write_credential(&home, device.ldevid().unwrap(), "cam");
    let port = plane.mqtt.port().to_string();
    let publish = |host: &str, root: &str| {
        let topic = "v1/sensor/cam/telemetry/t";
        let arguments = [
            "-h", host, "-p", &port, "--cafile", root, "--cert", "cam.pem", "--key", "cam.key",
            "-i", "cam", "-q", "1", "-t", topic, "-m", "x",
        ];
        run(&home, "mosquitto_pub", &arguments, b"")
    };
    for (host, root, good) in [
        ("127.0.0.1", "other-root.pem", true),
        ("localhost", "root.pem", true),
        ("localhost", "other-root.pem", false),
    ] {
        let ran = publish(host, root);
        assert_eq!(ran.good, good, "{host} {root}: {}", ran.err);
    }
    let told = entries(&plane, SHOWN);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        told[0]["details"]["names"],
        "broker.other.example *.wild.example"
    );
    assert_eq!(told[1]["details"]["leaf_sha256"], sha256_of(&home, "bare"));
    plane.stop_well();
    // The same at the next start: nothing new to tell.
    let plane = home.start();
    assert_eq!(entries(&plane, SHOWN).len(), 2);
}

#[test]
fn of_two_chains_for_one_name_each_client_sees_what_it_can_verify() {
    if !have(&["openssl"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    other_ca(&home);
    for (name, kind) in [("old", "rsa"), ("new", "ec")] {
        leaf(&home, name, kind, "DNS:both.other.example");
    }
    import(&home, &[("old", ""), ("new", "")]);
    let plane = home.start();
    let key = |door: SocketAddr, more: &str| {
        let name = Some("both.other.example");
        let seen = shown(&home, door, name, "other-root.pem", more).verified();
        if seen.text.contains("rsaEncryption") {
            "rsa"
        } else {
            "ec"
        }
    };
    for door in [plane.people, plane.mqtt] {
        assert_eq!(key(door, ""), "ec");
        assert_eq!(
            key(door, "-sigalgs rsa_pss_rsae_sha256:ecdsa_secp384r1_sha384"),
            "rsa"
        );
        assert_eq!(key(door, "-sigalgs ecdsa_secp256r1_sha256"), "ec");
        // In TLS 1.2 the cipher suite says it too.
        assert_eq!(key(door, "-tls1_2"), "ec");
        assert_eq!(
            key(door, "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256"),
            "rsa"
        );
    }
}

#[test]
fn a_chain_that_cannot_be_shown_is_refused_before_any_door_opens() {
    if !have(&["openssl"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    other_ca(&home);
    leaf(&home, "a", "ec", "DNS:a.other.example");
    leaf(&home, "b", "ec", "DNS:a.other.example");
    let refuse = |certificates: &[(&str, &str)], said: &[&str]| {
        import(&home, certificates);
        let Err((status, lines)) = home.try_start() else {
            panic!("the plane started with {certificates:?}");
        };
        assert_eq!(status.code(), Some(1), "{lines:?}");
        assert_eq!(lines.len(), 1, "{lines:#?}");
        for text in said {
            assert!(lines[0].contains(text), "{text:?} is not in {:?}", lines[0]);
        }
    };
    mode(&home, "a.key", 0o640);
    refuse(&[("a", "")], &["a.key", "others may read it", "chmod 600"]);
    mode(&home, "a.key", 0o600);
    let key_of_a = std::fs::read(home.path("a.key")).unwrap();
    std::fs::copy(home.path("b.key"), home.path("a.key")).unwrap();
    refuse(&[("a", "")], &["a.chain", "private key is not the leaf's"]);
    home.write(
        "a.key",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    refuse(&[("a", "")], &["a.key", "not encrypted"]);
    home.write("a.key", &key_of_a);
    chain(&home, "a", &["other-ca", "a"]);
    refuse(
        &[("a", "")],
        &[
            "a.chain",
            "certificate 1 is not signed by the one behind it",
        ],
    );
    chain(&home, "a", &["a", "other-ca", "other-root"]);
    refuse(
        &[("a", "")],
        &[
            "a.chain",
            "2 certificates behind the leaf and 1 may be sent",
            "root out",
        ],
    );
    home.write("a.chain", b"");
    refuse(&[("a", "")], &["a.chain", "no certificate in PEM"]);
    chain(&home, "a", &["a", "other-ca"]);
    refuse(
        &[("a", "names = [\"c.other.example\"]")],
        &["a.chain", "not for \"c.other.example\""],
    );
    refuse(
        &[("a", ""), ("b", "")],
        &["a.chain and", "b.chain are both shown for a.other.example"],
    );
    refuse(&[("a", "doors = [\"cellar\"]")], &["cellar"]);
    refuse(
        &[("a", "intermediates_max = 9")],
        &["intermediates_max is not in 0 to 3"],
    );
    refuse(&[("missing", "")], &["missing.chain cannot be read"]);
    assert!(!home.data_dir().join("fleetward.sock").exists());
    // One more is sent when that is asked for, and two may share a name at different doors.
    chain(&home, "a", &["a", "other-ca", "other-root"]);
    import(
        &home,
        &[
            ("a", "intermediates_max = 2\ndoors = [\"people\"]"),
            ("b", "doors = [\"mqtt\"]"),
        ],
    );
    home.start().stop_well();
}

/// It may have ended while the machine stood still: the doors open to everybody else.
#[test]
fn a_chain_that_has_ended_is_shown_to_nobody_and_keeps_no_door_closed() {
    if !have(&["openssl"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    other_ca(&home);
    leaf(&home, "a", "ec", "DNS:a.other.example");
    sign_for(&home, "a", "/CN=leaf", "leaf.ext", "other-ca", -1);
    chain(&home, "a", &["a", "other-ca"]);
    import(&home, &[("a", "")]);
    let plane = home.start();
    write_root(&home, &plane);
    let list = plane.get("/api/v1/identity/served").expect(200).json();
    let trouble = list[0]["trouble"].as_str().unwrap();
    assert!(trouble.contains("server-chain-expired"), "{trouble}");
    assert_eq!(list[0]["chain"].as_array().map(Vec::len), Some(0));
    shown(
        &home,
        plane.people,
        Some("a.other.example"),
        "other-root.pem",
        "",
    )
    .refused();
    shown(&home, plane.people, Some("localhost"), "root.pem", "").verified();
    // Its successor needs no restart.
    sign(&home, "a", "/CN=leaf", "leaf.ext", "other-ca");
    chain(&home, "a", &["a", "other-ca"]);
    plane
        .try_ask("POST", "/api/v1/identity/served/reload", None)
        .unwrap()
        .expect(200);
    shown(
        &home,
        plane.people,
        Some("a.other.example"),
        "other-root.pem",
        "",
    )
    .verified();
    plane.stop_well();
}

#[test]
fn files_are_read_again_live_and_a_bad_one_leaves_the_present_in_force() {
    if !have(&["openssl"]) {
        return;
    }
    let home = Home::new(&Settings::default());
    other_ca(&home);
    leaf(&home, "a", "ec", "DNS:a.other.example");
    leaf(&home, "b", "ec", "DNS:b.other.example");
    import(&home, &[("a", ""), ("b", "")]);
    let plane = home.start();
    let (first_a, first_b) = (sha256_of(&home, "a"), sha256_of(&home, "b"));
    let leaf_of = |place: usize| leaves(&plane, "imported")[place]["chain"][0]["sha256"].clone();
    assert_eq!(
        (leaf_of(0), leaf_of(1)),
        (first_a.clone().into(), first_b.clone().into())
    );
    let reload = || {
        plane
            .try_ask("POST", "/api/v1/identity/served/reload", None)
            .unwrap()
    };
    // Nothing has changed: nothing to record.
    assert_eq!(reload().expect(200).json()["recorded"], Value::Null);
    assert_eq!(entries(&plane, SHOWN).len(), 2);

    // One good, one bad: the good one is shown, the other stays, and the answer says so.
    leaf(&home, "a", "ec", "DNS:a.other.example");
    let kept = std::fs::read(home.path("b.chain")).unwrap();
    home.write("b.chain", &kept[..kept.len() / 3]);
    let refused = reload().expect(409).json();
    assert_eq!(refused["code"], "served-not-replaced");
    assert!(
        refused["errors"][0].as_str().unwrap().contains("b.chain"),
        "{refused}"
    );
    let second_a = sha256_of(&home, "a");
    assert_ne!(first_a, second_a);
    assert_eq!(
        (leaf_of(0), leaf_of(1)),
        (second_a.clone().into(), first_b.clone().into())
    );
    let trouble = leaves(&plane, "imported")[1]["trouble"].clone();
    assert!(trouble.as_str().unwrap().contains("b.chain"), "{trouble}");
    shown(
        &home,
        plane.people,
        Some("b.other.example"),
        "other-root.pem",
        "",
    )
    .verified();
    let gone = entries(&plane, NO_LONGER);
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0]["details"]["leaf_sha256"], first_a);
    assert_eq!(
        gone[0]["actor"].as_str().unwrap().split('/').next(),
        Some("local")
    );

    // SIGHUP does the same, and the trouble is over.
    leaf(&home, "b", "ec", "DNS:b.other.example");
    let mark = plane.lines.mark();
    let pid = Pid::from_raw(i32::try_from(plane.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    plane
        .lines
        .wait_for(mark, "SIGHUP: certificates were read again");
    assert_eq!(leaf_of(1), sha256_of(&home, "b"));
    assert_eq!(leaves(&plane, "imported")[1]["trouble"], Value::Null);
    let seen = shown(
        &home,
        plane.mqtt,
        Some("b.other.example"),
        "other-root.pem",
        "",
    );
    assert!(seen.verified().leaf.contains("leaf"));

    // One that would take a name from another stays out.
    leaf(&home, "b", "ec", "DNS:a.other.example");
    let refused = reload().expect(409).json();
    let said = refused["errors"][0].as_str().unwrap();
    assert!(said.contains("both shown for a.other.example"), "{said}");
    shown(
        &home,
        plane.people,
        Some("b.other.example"),
        "other-root.pem",
        "",
    )
    .verified();
}
