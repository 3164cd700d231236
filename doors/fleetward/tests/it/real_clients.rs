//! Programs that are not ours and know nothing of us: curl, openssl, mosquitto.

use crate::plane::{Home, Plane, Settings, wait_until};
use crate::tools::{
    Curled, curl, have, mosquitto, openssl, openssl_well, write_credential, write_root,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sim::device::Manner;
use std::process::{Child, Command, Stdio};

const EST: &str = "/.well-known/est";
const BOTH: [&str; 2] = ["1.2", "1.3"];

/// A plane, `idev` (the factory identity of `cam`) and `root.pem` in the scratch folder.
fn scene(settings: &Settings) -> (Home, Plane) {
    let home = Home::new(settings);
    let plane = home.start_prepared();
    let device = home.device("cam");
    plane.expect([&device]);
    write_credential(&home, device.idevid(), "idev");
    write_root(&home, &plane);
    (home, plane)
}

/// Makes `<name>.key` if it is not there, and a request for it in DER.
fn request(home: &Home, name: &str, subject: &str, more: &[&str]) -> Vec<u8> {
    let key = format!("{name}.key");
    if !home.path(&key).exists() {
        let make = [
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            &key,
        ];
        openssl_well(home, &make, b"");
    }
    let arguments = [
        "req", "-new", "-key", &key, "-subj", subject, "-outform", "DER",
    ];
    openssl_well(home, &[&arguments[..], more].concat(), b"")
}

/// POST of a request, base64 as given, showing `shown` in this version of TLS.
fn post(home: &Home, plane: &Plane, operation: &str, shown: &str, tls: &str, body: &str) -> Curled {
    home.write("request", body.as_bytes());
    let (cert, key) = (format!("{shown}.pem"), format!("{shown}.key"));
    let version = format!("--tlsv{tls}");
    let arguments = [
        &version,
        "--tls-max",
        tls,
        "--cert",
        &cert,
        "--key",
        &key,
        "-H",
        "Content-Type: application/pkcs10",
        "--data-binary",
        "@request",
    ];
    curl(home, plane, &format!("{EST}/{operation}"), &arguments)
}

/// The certificates of an answer, as openssl reads them; PEM.
fn certificates(home: &Home, answer: &Curled) -> String {
    assert!(
        answer.head.contains("application/pkcs7-mime"),
        "{}",
        answer.head
    );
    let text: Vec<u8> = answer
        .body
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    let cms = STANDARD.decode(text).unwrap();
    let pem = openssl_well(home, &["pkcs7", "-inform", "DER", "-print_certs"], &cms);
    String::from_utf8(pem).unwrap()
}

/// Writes `chain.pem`: what EST hands out of our CAs.
fn write_chain(home: &Home, plane: &Plane) {
    let answer = curl(home, plane, &format!("{EST}/cacerts"), &[]).expect(200);
    home.write("chain.pem", certificates(home, &answer).as_bytes());
}

#[test]
fn est_by_curl_and_openssl_in_both_versions_of_tls() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let (home, plane) = scene(&Settings::default());
    let body = STANDARD.encode(request(&home, "cam", "/CN=whatever it asks for", &[]));
    for tls in BOTH {
        let version = [&*format!("--tlsv{tls}"), "--tls-max", tls].map(str::to_owned);
        let version: Vec<&str> = version.iter().map(String::as_str).collect();
        // The CAs are for everybody, and hold the root that the local socket names.
        let answer = curl(&home, &plane, &format!("{EST}/cacerts"), &version).expect(200);
        let pem = certificates(&home, &answer);
        assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 2, "{pem}");
        home.write("chain.pem", pem.as_bytes());
        let answer = curl(&home, &plane, &format!("{EST}/csrattrs"), &version);
        answer.expect(204);

        let answer = post(&home, &plane, "simpleenroll", "idev", tls, &body).expect(200);
        let pem = certificates(&home, &answer);
        assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 1, "{pem}");
        home.write("cam.pem", pem.as_bytes());
        let verify = [
            "verify",
            "-CAfile",
            "root.pem",
            "-untrusted",
            "chain.pem",
            "-x509_strict",
            "-purpose",
            "sslclient",
            "cam.pem",
        ];
        openssl_well(&home, &verify, b"");
        // Not what it asked for, but who it is.
        let show = ["x509", "-in", "cam.pem", "-noout", "-text"];
        let text = String::from_utf8(openssl_well(&home, &show, b"")).unwrap();
        assert!(
            text.contains("URI:spiffe://fleetward.internal/acme/device/cam"),
            "{text}"
        );
        assert!(!text.contains("whatever it asks for"), "{text}");
        assert!(text.contains("TLS Web Client Authentication"), "{text}");
        let server = [
            "verify",
            "-CAfile",
            "root.pem",
            "-untrusted",
            "chain.pem",
            "-purpose",
            "sslserver",
            "cam.pem",
        ];
        assert!(!openssl(&home, &server, b"").good);

        // It renews itself, with the same key and with another; names as they are.
        let renew = renewal(&home, "cam", &[]);
        let answer = post(&home, &plane, "simplereenroll", "cam", tls, &renew).expect(200);
        home.write("cam.pem", certificates(&home, &answer).as_bytes());
        openssl_well(&home, &verify, b"");
        let rekey = renewal(&home, "cam-next", &[]);
        let answer = post(&home, &plane, "simplereenroll", "cam", tls, &rekey).expect(200);
        home.write("cam-next.pem", certificates(&home, &answer).as_bytes());
        let answer = curl(
            &home,
            &plane,
            &format!("{EST}/csrattrs"),
            &[
                &version[..],
                &["--cert", "cam-next.pem", "--key", "cam-next.key"],
            ]
            .concat(),
        );
        answer.expect(204);
    }
    let recorded = plane.get("/api/v1/identity/devices/cam").expect(200).json();
    // The first request was the same in both versions, and got one certificate.
    assert_eq!(recorded["certificates"].as_array().unwrap().len(), 5);
}

/// A request with the names of `cam.pem`, for the key `name`; base64.
fn renewal(home: &Home, name: &str, more: &[&str]) -> String {
    let subject = openssl_well(
        home,
        &[
            "x509", "-in", "cam.pem", "-noout", "-subject", "-nameopt", "compat",
        ],
        b"",
    );
    let subject = String::from_utf8(subject).unwrap();
    let subject = subject
        .trim()
        .strip_prefix("subject=")
        .unwrap()
        .trim()
        .to_owned();
    let san = "subjectAltName=URI:spiffe://fleetward.internal/acme/device/cam";
    let more = if more.is_empty() {
        &["-addext", san][..]
    } else {
        more
    };
    STANDARD.encode(request(home, name, &subject, more))
}

#[test]
fn est_says_what_is_wrong_with_a_request() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let (home, plane) = scene(&Settings::default());
    let der = request(&home, "cam", "/CN=cam", &[]);
    let body = STANDARD.encode(&der);
    let enroll = |body: &str| post(&home, &plane, "simpleenroll", "idev", "1.3", body);

    // Wrapped in lines, and twice the same: both are served, with one certificate.
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|l| std::str::from_utf8(l).unwrap())
        .collect();
    let wrapped = lines.join("\r\n") + "\r\n";
    let first = certificates(&home, &enroll(&wrapped).expect(200));
    let second = certificates(&home, &enroll(&body).expect(200));
    assert_eq!(first, second);
    home.write("cam.pem", first.as_bytes());
    let arguments = ["--cert", "cam.pem", "--key", "cam.key"];
    curl(&home, &plane, &format!("{EST}/csrattrs"), &arguments).expect(204);

    let mut flipped = der.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let said = enroll(&STANDARD.encode(&flipped)).expect(400).refusal();
    assert!(said.contains("signature"), "{said}");
    for bad in ["", "%%%", "AAAA", &body[..body.len() / 2]] {
        enroll(bad).expect(400).refusal();
    }

    // In HTTP/2 an answer that does not wait for the body resets the stream, which some versions
    // of curl take for a failure; small clients speak HTTP/1.1 anyhow.
    let shown = [
        "--cert",
        "idev.pem",
        "--key",
        "idev.key",
        "--http1.1",
        "--data-binary",
        "@request",
    ];
    home.write("request", body.as_bytes());
    let path = format!("{EST}/simpleenroll");
    let typed = |media_type: &str| {
        let header = format!("Content-Type: {media_type}");
        curl(
            &home,
            &plane,
            &path,
            &[&shown[..], &["-H", &header]].concat(),
        )
    };
    typed("text/plain").expect(415).refusal();
    typed("application/pkcs10; charset=utf-8").expect(200);

    // Nobody without a certificate, in either version.
    for tls in BOTH {
        let version = format!("--tlsv{tls}");
        let bare = [
            "--http1.1",
            "-H",
            "Content-Type: application/pkcs10",
            "--data-binary",
            "@request",
            &version,
            "--tls-max",
            tls,
        ];
        curl(&home, &plane, &path, &bare).expect(401);
    }
    // A label is a product, and there is no other.
    curl(&home, &plane, &format!("{EST}/other/cacerts"), &[]).expect(404);
    curl(&home, &plane, &format!("{EST}/other/simpleenroll"), &shown).expect(404);
    curl(&home, &plane, &format!("{EST}/nothing"), &[]).expect(404);
    curl(&home, &plane, &format!("{EST}/sensor/cacerts"), &[]).expect(200);
    curl(&home, &plane, &format!("{EST}/sensor/nothing"), &[]).expect(404);
    curl(
        &home,
        &plane,
        &format!("{EST}/returning/simpleenroll"),
        &shown,
    )
    .expect(404);
    curl(&home, &plane, &format!("{EST}/fullcmc"), &shown).expect(501);
    let off = post(&home, &plane, "serverkeygen", "idev", "1.3", &body).expect(403);
    assert!(off.refusal().contains("server-keygen-off"));
    curl(&home, &plane, &path, &shown[..4]).expect(405);

    // A renewal may not change who it is.
    for san in [
        "subjectAltName=URI:spiffe://fleetward.internal/acme/device/other",
        "subjectAltName=URI:spiffe://fleetward.internal/acme/device/cam,DNS:localhost",
    ] {
        let changed = renewal(&home, "cam", &["-addext", san]);
        let refused = post(&home, &plane, "simplereenroll", "cam", "1.3", &changed).expect(403);
        assert!(refused.refusal().contains("reenroll-name-changed"), "{san}");
    }
    // Each identity at its own operation.
    post(&home, &plane, "simplereenroll", "idev", "1.3", &body).expect(403);
    post(&home, &plane, "simpleenroll", "cam", "1.3", &body).expect(403);
}

#[test]
fn openssl_reads_the_revocation_list_and_refuses_what_is_on_it() {
    if !have(&["curl", "openssl"]) {
        return;
    }
    let (home, plane) = scene(&Settings::default());
    let body = STANDARD.encode(request(&home, "cam", "/CN=cam", &[]));
    let answer = post(&home, &plane, "simpleenroll", "idev", "1.3", &body).expect(200);
    home.write("cam.pem", certificates(&home, &answer).as_bytes());
    write_chain(&home, &plane);

    let list = || {
        // At the door itself, by a client that has nothing yet.
        let answer = curl(&home, &plane, "/api/v1/identity/crl", &[]).expect(200);
        home.write("crl.der", &answer.body);
        let read = [
            "crl",
            "-inform",
            "DER",
            "-in",
            "crl.der",
            "-out",
            "crl.pem",
            "-text",
            "-CAfile",
            "chain.pem",
        ];
        let ran = openssl(&home, &read, b"");
        assert!(ran.good && ran.err.contains("verify OK"), "{}", ran.err);
        std::fs::read_to_string(home.path("crl.pem")).unwrap()
    };
    let verify = [
        "verify",
        "-CAfile",
        "root.pem",
        "-untrusted",
        "chain.pem",
        "-crl_check",
        "-CRLfile",
        "crl.pem",
        "-x509_strict",
        "cam.pem",
    ];
    assert!(list().contains("No Revoked Certificates"));
    openssl_well(&home, &verify, b"");
    plane.revoke(&"cam".parse().unwrap());
    let text = list();
    let show = ["x509", "-in", "cam.pem", "-noout", "-serial"];
    let serial = String::from_utf8(openssl_well(&home, &show, b"")).unwrap();
    let serial = serial.trim().strip_prefix("serial=").unwrap().to_owned();
    assert!(
        text.contains(&serial) && text.contains("Key Compromise"),
        "{text}"
    );
    let ran = openssl(&home, &verify, b"");
    assert!(
        !ran.good && ran.err.contains("certificate revoked"),
        "{}",
        ran.err
    );
}

/// A mosquitto client in the background, killed when dropped.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn mosquitto_speaks_within_its_grants_and_not_beyond() {
    if !have(&["mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    let (home, plane) = scene(&Settings {
        gateway: "tls_1_2 = true".into(),
        ..Settings::default()
    });
    let mut device = home.device("cam");
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    write_credential(&home, device.ldevid().unwrap(), "cam");
    write_credential(&home, &plane.certify("ingest"), "ingest");
    write_credential(&home, &plane.certify("commander"), "commander");

    for (version, tls) in [("mqttv5", "tlsv1.3"), ("mqttv311", "tlsv1.2")] {
        let client = |program: &str, name: &str, more: &[&str]| {
            let common = [
                "-V",
                version,
                "--tls-version",
                tls,
                "-i",
                name,
                "-q",
                "1",
                "-d",
            ];
            mosquitto(&home, &plane, program, name, &[&common[..], more].concat())
        };
        let subscribe = |name: &str, filter: &str, file: &str| {
            let out = std::fs::File::create(home.path(file)).unwrap();
            let port = plane.mqtt.port().to_string();
            let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
            let child = Command::new("mosquitto_sub")
                .args(["-h", "localhost", "-p", &port, "--cafile", "root.pem"])
                .args(["--cert", &cert, "--key", &key, "-i", name, "-V", version])
                .args(["--tls-version", tls, "-q", "1", "-t", filter, "-v"])
                .current_dir(home.path(""))
                .stdout(out)
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            Background(child)
        };
        let subscribed = |principal: &str| {
            wait_until("the subscription stands", || {
                let sessions = plane.get("/api/v1/gateway/sessions").expect(200).json();
                sessions.as_array().unwrap().iter().any(|session| {
                    session["principal"] == principal
                        && session["connected"] == true
                        && session["subscriptions"] == 1
                })
            });
        };
        let told = |file: &str, text: &str| {
            wait_until("the message has come", || {
                std::fs::read_to_string(home.path(file))
                    .unwrap()
                    .contains(text)
            });
        };

        // Upwards: the service hears the device, and only what the device may send.
        let ingest = subscribe("ingest", "v1/sensor/+/telemetry/#", "up");
        subscribed("service/ingest");
        let own = client(
            "mosquitto_pub",
            "cam",
            &["-t", "v1/sensor/cam/telemetry/t", "-m", "own"],
        );
        assert!(own.good, "{}", own.err);
        told("up", "v1/sensor/cam/telemetry/t own");
        let mark = plane.lines.mark();
        let foreign = ["-t", "v1/sensor/other/telemetry/t", "-m", "foreign"];
        let foreign = client("mosquitto_pub", "cam", &foreign);
        let denied = plane.lines.wait_for(mark, "publish of device/cam to");
        assert!(denied.contains("denied: no-permit"), "{denied}");
        if version == "mqttv5" {
            assert!(
                foreign.text().contains("Not authorized") || foreign.err.contains("ot authorized"),
                "{foreign:?}"
            );
        }
        let own = client(
            "mosquitto_pub",
            "cam",
            &["-t", "v1/sensor/cam/telemetry/t", "-m", "last"],
        );
        assert!(own.good);
        told("up", "last");
        let up = std::fs::read_to_string(home.path("up")).unwrap();
        assert!(!up.contains("foreign"), "{up}");
        drop(ingest);

        // Downwards: the device hears its own commands, and cannot ask for another's.
        let hearing = subscribe("cam", "v1/sensor/cam/command/+", "down");
        subscribed("device/cam");
        let command = ["-t", "v1/sensor/cam/command/turn", "-m", "left"];
        assert!(client("mosquitto_pub", "commander", &command).good);
        told("down", "v1/sensor/cam/command/turn left");
        drop(hearing);
        for filter in ["v1/sensor/+/command/+", "v1/sensor/other/command/+", "#"] {
            let mark = plane.lines.mark();
            let ran = client("mosquitto_sub", "cam", &["-t", filter, "-W", "5"]);
            let text = ran.text() + &ran.err;
            assert!(
                text.contains("All subscription requests were denied"),
                "{text}"
            );
            let denied = plane.lines.wait_for(mark, "subscription of device/cam to");
            assert!(denied.contains("denied"), "{denied}");
        }
    }
}

#[test]
fn mosquitto_finds_what_came_while_it_was_away_even_over_a_restart() {
    if !have(&["mosquitto_pub", "mosquitto_sub"]) {
        return;
    }
    for version in ["mqttv5", "mqttv311"] {
        let (home, plane) = scene(&Settings::default());
        let mut device = home.device("cam");
        device.enroll(&plane.doors(), &Manner::default()).unwrap();
        write_credential(&home, device.ldevid().unwrap(), "cam");
        write_credential(&home, &plane.certify("ingest"), "ingest");
        let common = ["-V", version, "-i", "ingest", "-q", "1", "-c"];
        let filter = ["-t", "v1/sensor/+/telemetry/#"];
        let expiry = if version == "mqttv5" {
            &["-x", "3600"][..]
        } else {
            &[]
        };
        let listen = |plane: &Plane, more: &[&str]| {
            let arguments = [&common[..], &filter, expiry, more].concat();
            mosquitto(&home, plane, "mosquitto_sub", "ingest", &arguments)
        };
        // Subscribed and gone.
        listen(&plane, &["-E"]);
        for text in ["one", "two"] {
            let arguments = [
                "-V",
                version,
                "-i",
                "cam",
                "-q",
                "1",
                "-m",
                text,
                "-t",
                "v1/sensor/cam/telemetry/t",
            ];
            assert!(mosquitto(&home, &plane, "mosquitto_pub", "cam", &arguments).good);
        }
        plane.kill();
        let plane = home.start();
        let heard = listen(&plane, &["-C", "2", "-W", "30"]);
        assert!(heard.good, "{heard:?}");
        assert_eq!(heard.text(), "one\ntwo\n", "{heard:?}");
    }
}
