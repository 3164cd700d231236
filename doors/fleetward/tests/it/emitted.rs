//! Whatever we emit, openssl reads: certificates of every kind, requests, lists, answers, messages.

use crate::authorities::run;
use crate::fixture::{fleet, request};
use crate::plane::{Home, Plane, Settings};
use crate::tools::{curl, have, openssl, openssl_well, write_credential, write_root};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sim::credential::{Key, pem};
use sim::device::Manner;

/// CAs of every kind, the next root with its links, and everybody certified by them.
const CEREMONIES: &str = "\
    umask 077\n\
    openssl rand -base64 32 > one.passphrase\n\
    openssl rand -base64 32 > two.passphrase\n\
    fleetward identity ca create cameras --for device\n\
    fleetward identity ca create doors --for server\n\
    fleetward identity ca create backend --for service+operator\n\
    fleetward identity ca request locks --for device --out locks.csr\n\
    fleetward identity certify ingest --new-key ingest.key --out ingest.pem\n\
    fleetward identity root export --bundle one.bundle --passphrase-file one.passphrase --yes\n\
    fleetward identity root create --trust-domain fleetward.internal --tenant acme \
      --bundle two.bundle --passphrase-file two.passphrase --out two.pem\n\
    fleetward identity root link --before one.bundle --before-passphrase-file one.passphrase \
      --bundle two.bundle --passphrase-file two.passphrase --out next-root.pem\n\
    fleetward identity root install next-root.pem\n\
    fleetward identity root crl request --out list.req\n\
    fleetward identity root crl sign --bundle one.bundle --passphrase-file one.passphrase \
      --request list.req --out list.pem --record ceremony.jsonl --yes\n\
    fleetward identity root crl install list.pem\n";

fn scene() -> (Home, Plane) {
    let home = Home::new(&Settings {
        gateway: "[identity]\nstatus_url = \"http://status.example\"\ncrl_shards = 4".into(),
        ..Settings::default()
    });
    let plane = home.start_prepared();
    write_root(&home, &plane);
    run(&home, CEREMONIES);
    let with_ca: Vec<_> = (fleet().into_iter())
        .map(|(path, text)| match path {
            "products/p.toml" => {
                let more = "ca = \"cameras\"\nserver_keygen = true\nldevid_key = \"p256\"\n";
                (path, format!("{text}{more}"))
            }
            _ => (path, text),
        })
        .collect();
    plane.apply(&with_ca);
    let mut device = home.device("cam");
    plane.expect([&device]);
    write_credential(&home, device.idevid(), "idevid");
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    write_credential(&home, device.ldevid().unwrap(), "cam");
    (home, plane)
}

/// Every structure is DER to its end.
#[track_caller]
fn parses(home: &Home, der: &[u8]) {
    let read = ["asn1parse", "-inform", "DER", "-in", "object"];
    home.write("object", der);
    let text = String::from_utf8(openssl_well(home, &read, b"")).unwrap();
    assert!(text.lines().count() > 3, "{text}");
}

#[track_caller]
fn said(home: &Home, arguments: &[&str], wanted: &str) {
    let ran = openssl(home, arguments, b"");
    let text = format!("{}{}", ran.text(), ran.err);
    assert!(ran.good && text.contains(wanted), "{arguments:?}: {text}");
}

/// A CA of `ca list` by one of its fields.
fn ca(plane: &Plane, kind: &str, field: &str, value: &str) -> Value {
    let listed = plane.get("/api/v1/identity/authorities").expect(200).json();
    let all = listed[kind].as_array().unwrap();
    let found = all.iter().find(|one| one[field] == value);
    found.unwrap_or_else(|| panic!("{kind} {value}")).clone()
}

/// Where its own revocation list is.
fn list_path(plane: &Plane, kind: &str, field: &str, value: &str) -> String {
    let issuer = ca(plane, kind, field, value)["issuer"].clone();
    format!("/status/crl/{}/1/0.crl", issuer.as_str().unwrap())
}

fn fetch(home: &Home, plane: &Plane, path: &str, more: &[&str]) -> Vec<u8> {
    curl(home, plane, path, more).expect(200).body
}

/// Each certificate of the chain by the list of whoever made it.
const JUDGED: [&str; 10] = [
    "verify",
    "-x509_strict",
    "-crl_check_all",
    "-CAfile",
    "root.pem",
    "-untrusted",
    "ca-cameras.pem",
    "-CRLfile",
    "lists.pem",
    "cam.pem",
];

fn write_lists(home: &Home) {
    let lists = ["whole.crl.pem", "root.crl.pem"]
        .map(|file| std::fs::read_to_string(home.path(file)).unwrap());
    home.write("lists.pem", lists.concat().as_bytes());
}

#[test]
fn openssl_reads_all_that_we_emit() {
    if !have(&["openssl", "curl", "sh"]) {
        return;
    }
    let (home, plane) = scene();
    certificates(&home, &plane);
    lists(&home, &plane);
    answers(&home, &plane);
    requests_and_keys(&home, &plane);
    a_revoked_ca(&home, &plane);
    plane.stop_well();
}

fn certificates(home: &Home, plane: &Plane) {
    // CAs: as PEM of the API, and as CMS of EST.
    for name in ["default", "cameras", "doors", "backend"] {
        let ca = ca(plane, "issuing", "name", name);
        home.write(
            &format!("ca-{name}.pem"),
            ca["certificate_pem"].as_str().unwrap().as_bytes(),
        );
    }
    let cms = fetch(home, plane, "/.well-known/est/cacerts", &[]);
    let text: Vec<u8> = cms
        .into_iter()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    let cms = STANDARD.decode(text).unwrap();
    parses(home, &cms);
    let shown = openssl_well(
        home,
        &["cms", "-cmsout", "-print", "-noout", "-inform", "DER"],
        &cms,
    );
    assert!(String::from_utf8_lossy(&shown).contains("signedData"));
    let all = openssl_well(home, &["pkcs7", "-inform", "DER", "-print_certs"], &cms);
    home.write("all.pem", &all);
    // It stops at a self-signed certificate, though a link would lead on.
    let links = "awk '/^subject=/{s=substr($0,9)} /^issuer=/{i=substr($0,8)} s!=i' all.pem";
    home.write("links.pem", run(home, links).as_bytes());
    // Four issuing CAs, two roots, two links.
    assert_eq!(
        String::from_utf8_lossy(&all).matches("BEGIN CERT").count(),
        8
    );

    // What our server shows, by s_client's word.
    let at = plane.devices.to_string();
    let shake = [
        "s_client",
        "-connect",
        &at,
        "-servername",
        "localhost",
        "-showcerts",
    ];
    let shown = openssl(home, &shake, b"").out;
    let server = openssl_well(home, &["x509"], &shown);
    home.write("server.pem", &server);

    // Every certificate by its purpose, strictly.
    let strict = |root: &str, purpose: &str, what: &str| {
        said(
            home,
            &[
                "verify",
                "-x509_strict",
                "-CAfile",
                root,
                "-untrusted",
                "links.pem",
                "-purpose",
                purpose,
                what,
            ],
            "OK",
        );
    };
    strict("root.pem", "any", "root.pem");
    strict("two.pem", "any", "two.pem");
    for name in ["default", "cameras", "doors", "backend"] {
        // By the new root over the link back, too.
        for root in ["root.pem", "two.pem"] {
            strict(root, "any", &format!("ca-{name}.pem"));
        }
    }
    strict("root.pem", "sslclient", "cam.pem");
    strict("two.pem", "sslclient", "cam.pem");
    strict("root.pem", "sslclient", "ingest.pem");
    strict("root.pem", "sslserver", "server.pem");
}

fn lists(home: &Home, plane: &Plane) {
    let of_cam = openssl_well(home, &["x509", "-in", "cam.pem", "-noout", "-text"], b"");
    let of_cam = String::from_utf8(of_cam).unwrap();
    let list_url = of_cam.lines().map(str::trim).find_map(|line| {
        line.strip_prefix("URI:http://status.example")
            .filter(|rest| rest.starts_with("/status/crl/"))
    });
    let named = list_url.expect("a distribution point").to_owned();

    // Lists: the one that the certificate names, the whole one, the root's.
    let root_list = list_path(plane, "roots", "state", "current");
    let whole = list_path(plane, "issuing", "name", "cameras");
    for (path, ca, name) in [
        (&named, "ca-cameras.pem", "shard"),
        (&whole, "ca-cameras.pem", "whole"),
        (&root_list, "root.pem", "root"),
    ] {
        let der = fetch(home, plane, path, &[]);
        parses(home, &der);
        let (file, out) = (format!("{name}.crl"), format!("{name}.crl.pem"));
        home.write(&file, &der);
        let read = [
            "crl", "-inform", "DER", "-in", &file, "-CAfile", ca, "-out", &out,
        ];
        said(home, &read, "verify OK");
    }
    write_lists(home);
    said(home, &JUDGED, "OK");
}

fn answers(home: &Home, plane: &Plane) {
    // OCSP, with the responder's own certificate in it.
    let url = format!("https://localhost:{}/status/ocsp", plane.devices.port());
    said(
        home,
        &[
            "ocsp",
            "-issuer",
            "ca-cameras.pem",
            "-cert",
            "cam.pem",
            "-url",
            &url,
            "-CAfile",
            "root.pem",
            "-verify_other",
            "ca-cameras.pem",
            "-respout",
            "answer.der",
        ],
        "cam.pem: good",
    );
    parses(home, &std::fs::read(home.path("answer.der")).unwrap());
}

fn requests_and_keys(home: &Home, plane: &Plane) {
    said(
        home,
        &["req", "-in", "locks.csr", "-noout", "-verify"],
        "OK",
    );
    // What a product's requests must hold; a key that the plane makes.
    let wanted = fetch(home, plane, "/.well-known/est/sensor/csrattrs", &[]);
    parses(
        home,
        &STANDARD
            .decode(String::from_utf8(wanted).unwrap().trim())
            .unwrap(),
    );
    let key = Key::generate().unwrap();
    let csr = request(&key);
    home.write("csr.pem", pem("CERTIFICATE REQUEST", &csr).as_bytes());
    said(home, &["req", "-in", "csr.pem", "-noout", "-verify"], "OK");
    home.write("csr.b64", STANDARD.encode(&csr).as_bytes());
    let made = fetch(
        home,
        plane,
        "/.well-known/est/serverkeygen",
        &[
            "--cert",
            "idevid.pem",
            "--key",
            "idevid.key",
            "-H",
            "Content-Type: application/pkcs10",
            "--data-binary",
            "@csr.b64",
        ],
    );
    let body = String::from_utf8(made).unwrap();
    let part = |kind: &str| -> Vec<u8> {
        let (_, rest) = body.split_once(kind).unwrap();
        let (_, rest) = rest.split_once("\r\n\r\n").unwrap();
        let (text, _) = rest.split_once("\r\n--").unwrap();
        let text: String = text.split_whitespace().collect();
        STANDARD.decode(text).unwrap()
    };
    let pkcs8 = part("application/pkcs8");
    parses(home, &pkcs8);
    let of_key = openssl_well(home, &["pkey", "-inform", "DER", "-pubout"], &pkcs8);
    let issued = part("application/pkcs7-mime");
    parses(home, &issued);
    let issued = openssl_well(home, &["pkcs7", "-inform", "DER", "-print_certs"], &issued);
    let of_certificate = openssl_well(home, &["x509", "-noout", "-pubkey"], &issued);
    assert_eq!(of_key, of_certificate);
}

fn a_revoked_ca(home: &Home, plane: &Plane) {
    // A revoked CA: its root's list says so once the ceremony was held, and the whole chain falls.
    let digest = ca(plane, "issuing", "name", "cameras")["issuer"].clone();
    let digest = digest.as_str().unwrap();
    run(
        home,
        &format!("fleetward identity revoke --ca {digest} --reason ca-compromise --yes"),
    );
    let told = run(home, "fleetward identity ca list");
    assert!(told.contains("root crl request"), "{told}");
    // A list that was signed before does not pass for it.
    let stale = plane.send(
        "PUT",
        "/api/v1/identity/roots/crl",
        &serde_json::json!({ "crl_pem": std::fs::read_to_string(home.path("list.pem")).unwrap() }),
    );
    assert!(stale.expect(409).text().contains("root-list-refused"));
    let ceremony = "\
        fleetward identity root crl request --out list.req\n\
        fleetward identity root crl sign --bundle one.bundle --passphrase-file one.passphrase \
          --request list.req --out list.pem --record ceremony.jsonl --yes\n\
        fleetward identity root crl install list.pem\n";
    run(home, ceremony);
    let told = run(home, "fleetward identity ca list");
    assert!(!told.contains("root crl request"), "{told}");
    let path = list_path(plane, "roots", "state", "current");
    home.write("root.crl", &fetch(home, plane, &path, &[]));
    let read = [
        "crl", "-inform", "DER", "-in", "root.crl", "-CAfile", "root.pem", "-text", "-noout",
    ];
    said(home, &read, "CA Compromise");
    openssl_well(
        home,
        &[
            "crl",
            "-inform",
            "DER",
            "-in",
            "root.crl",
            "-out",
            "root.crl.pem",
        ],
        b"",
    );
    write_lists(home);
    let ran = openssl(home, &JUDGED, b"");
    assert!(
        !ran.good && ran.err.contains("certificate revoked"),
        "{}",
        ran.err
    );
}
