//! A device whose first identity is a TPM: swtpm with tpm2-tools follows the page of the chapter.

use crate::fixture::fleet;
use crate::plane::{Home, Plane, Settings};
use crate::recipes::{chip, follow, follow_with};
use crate::tools::{curl, have, run, write_root};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sim::device::Manner;

const PAGE: &str = include_str!("../../../../docs/identity/tpm.md");
const ATTESTATION: &str = include_str!("../../../../docs/identity/attestation.md");

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../../rooms/identity/tests/tpm/", $name)).as_slice()
    };
}

/// Ends the chip of the page.
struct Chip<'h>(&'h Home);

impl Drop for Chip<'_> {
    fn drop(&mut self) {
        let end = "swtpm_ioctl --unix tpm/sock.ctrl -s; kill $(cat tpm/abrmd.pid tpm/bus.pid)";
        run(self.0, "sh", &["-c", end], b"");
    }
}

const PROGRAMS: [&str; 6] = [
    "curl",
    "openssl",
    "swtpm",
    "tpm2_createek",
    "dbus-daemon",
    "/usr/sbin/tpm2-abrmd",
];

/// Whether OpenSSL can use keys that lie in a TPM.
fn has_provider() -> bool {
    let said = std::process::Command::new("openssl")
        .args(["version", "-m"])
        .output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    let folder = said.split('"').nth(1).unwrap_or_default();
    let found = std::path::Path::new(folder).join("tpm2.so").exists();
    if !found {
        println!("skipped: openssl has no provider tpm2 (tpm2-openssl)");
    }
    found
}

fn scene() -> (Home, Plane) {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    plane.expect([&home.device("d1")]);
    write_root(&home, &plane);
    (home, plane)
}

const FIRST: [&str; 5] = [
    "A TPM to try it with",
    "List the chip",
    "Make the keys",
    "Ask for a challenge and open it",
    "Answer it",
];

/// All of the page that has commands.
pub const SECTIONS: [&str; 6] = [
    FIRST[0],
    FIRST[1],
    FIRST[2],
    FIRST[3],
    FIRST[4],
    "Use the certificate",
];

#[test]
fn a_device_enrolls_by_its_tpm_as_the_page_says() {
    if !have(&PROGRAMS) || !has_provider() {
        return;
    }
    let (home, plane) = scene();
    let _chip = Chip(&home);
    follow(&home, &plane, PAGE, &SECTIONS);
    let recorded = plane.get("/api/v1/identity/devices/d1").expect(200).json();
    let certificates = recorded["certificates"].as_array().unwrap();
    assert_eq!(certificates.len(), 2, "{recorded}");
    assert!(certificates.iter().all(|one| one["revoked"].is_null()));
    assert_eq!(recorded["assurance"], "hardware-held", "{recorded}");

    // The same answer once more is nobody's.
    let again = [
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        "@answer.json",
    ];
    let path = "/api/v1/identity/tpm/enrollments";
    let refused = curl(&home, &plane, path, &again).expect(403);
    let said = String::from_utf8(refused.body).unwrap();
    assert!(said.contains("tpm-challenge-stale"), "{said}");
    assert!(said.contains("\"who_must_act\":\"device\""), "{said}");
}

#[test]
fn an_enrollment_by_tpm_supersedes_what_the_device_had() {
    if !have(&PROGRAMS) || !has_provider() {
        return;
    }
    let (home, plane) = scene();
    let _chip = Chip(&home);
    let mut device = home.device("d1");
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    follow(&home, &plane, PAGE, &FIRST);
    let recorded = plane.get("/api/v1/identity/devices/d1").expect(200).json();
    let certificates = recorded["certificates"].as_array().unwrap().clone();
    assert_eq!(certificates.len(), 2, "{recorded}");
    let superseded = |one: &&serde_json::Value| one["revoked"]["reason"] == "superseded";
    assert_eq!(
        certificates.iter().filter(superseded).count(),
        1,
        "{recorded}"
    );
}

#[test]
fn a_chip_waits_for_a_person_and_is_taken_off_the_list() {
    if !have(&PROGRAMS) || !has_provider() {
        return;
    }
    let (home, plane) = scene();
    let _chip = Chip(&home);
    let mut files = fleet();
    for (path, text) in &mut files {
        if *path == "products/p.toml" {
            text.push_str("enrollment = \"approval\"\n");
        }
    }
    plane.apply(&files);
    // The last step is refused, and what comes back says so.
    let may_fail = |script: String| script.replace("set -e\n", "") + "\ntrue\n";
    follow_with(&home, &plane, PAGE, &FIRST, may_fail);
    let told = std::fs::read_to_string(home.path("d1.pem")).unwrap();
    assert!(told.contains("enrollment-waits"), "{told}");
    let pending = plane.get("/api/v1/identity/pending").expect(200).json();
    let waiting = &pending[0];
    assert_eq!(waiting["serial"], "SN-d1", "{pending}");
    assert!(waiting["certificate"].is_null(), "{pending}");
    assert_eq!(
        waiting["endorsement_key_sha256"].as_str().unwrap().len(),
        64
    );
    let id = waiting["id"].as_str().unwrap();
    plane
        .post(
            &format!("/api/v1/identity/pending/{id}/approve"),
            &json!({}),
        )
        .expect(200);
    let again = ["Ask for a challenge and open it", "Answer it"];
    let try_again = |plane: &Plane, headings: &[&str], file: &str| {
        // Faster than one address may.
        loop {
            follow_with(&home, plane, PAGE, headings, may_fail);
            let [credential, told] = ["credential", file].map(|file| {
                let told = std::fs::read(home.path(file)).unwrap();
                String::from_utf8_lossy(&told).into_owned()
            });
            if !credential.contains("tpm-too-often") && !told.contains("tpm-too-often") {
                return told;
            }
        }
    };
    let told = try_again(&plane, &again, "d1.pem");
    assert!(told.contains("BEGIN CERTIFICATE"), "{told}");
    let shown = |plane: &Plane| plane.get("/api/v1/identity/devices/d1").expect(200).json();
    assert_eq!(shown(&plane)["assurance"], "hardware-held");
    // It was for that once.
    let told = try_again(&plane, &again, "d1.pem");
    assert!(told.contains("enrollment-waits"), "{told}");

    let path = "/api/v1/identity/tpm/endorsement-keys?manufacturer=acme&serial=SN-d1";
    let unlisted = plane.try_ask("DELETE", path, None).unwrap().expect(200);
    assert_eq!(unlisted.json()["endorsement_keys"], 1);
    plane.try_ask("DELETE", path, None).unwrap().expect(404);
    assert_eq!(shown(&plane)["assurance"], "identified");
    drop(plane);
    let plane = home.start();
    assert_eq!(shown(&plane)["assurance"], "identified");
    let told = try_again(&plane, &again[..1], "credential");
    assert!(told.contains("tpm-unlisted"), "{told}");
}

/// What strangers can ask before anything is proven, with the keys of a chip that is not here.
#[test]
fn a_stranger_s_chip_gets_no_challenge_and_costs_nothing() {
    if !have(&["curl"]) {
        return;
    }
    let (home, plane) = scene();
    let certificates = [
        STANDARD.encode(fixture!("ek-rsa-certificate.der")),
        STANDARD.encode(fixture!("vendor-issuing.der")),
    ];
    let ask = |endorsement: &[u8], certificates: &[String]| {
        let body = json!({
            "endorsement_key": STANDARD.encode(endorsement),
            "attestation_key": STANDARD.encode(fixture!("ak-rsa.pub")),
            "endorsement_certificates": certificates,
        });
        home.write("ask.json", body.to_string().as_bytes());
        let arguments = [
            "-H",
            "Content-Type: application/json",
            "--data-binary",
            "@ask.json",
        ];
        // Faster than one address may.
        loop {
            let answer = curl(&home, &plane, "/api/v1/identity/tpm/challenges", &arguments);
            if answer.status != 429 {
                return (answer.status, answer.body);
            }
        }
    };
    let refused = |(status, body): (u16, Vec<u8>), code: &str| {
        let said = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(status, 403, "{said}");
        assert!(said.contains(code), "{said}");
    };
    let endorsement = fixture!("ek-rsa.pub");
    refused(ask(endorsement, &[]), "tpm-unlisted");
    refused(ask(fixture!("ak-rsa.pub"), &[]), "tpm-endorsement-key-kind");

    // Listed: by the digest of the key, as the page makes it.
    let public = identity::tpm::EndorsementKey::read(endorsement).unwrap();
    let csv = format!("serial,endorsement_key_sha256\nSN-d1,{}\n", public.digest());
    let path = "/api/v1/identity/tpm/endorsement-keys?manufacturer=acme";
    let list = |csv: &str| plane.try_ask("POST", path, Some(("text/csv", csv.as_bytes())));
    list(&csv).unwrap().expect(201);
    list(&csv).unwrap().expect(201);
    list(&csv.replace("SN-d1", "SN-unheard-of"))
        .unwrap()
        .expect(409);
    let (status, challenge) = ask(endorsement, &[]);
    assert_eq!(status, 200);
    assert!(
        challenge.starts_with(&[0xba, 0xdc, 0xc0, 0xde]),
        "{challenge:?}"
    );

    // With a vendor registered the list alone is not enough.
    let root = sim::credential::pem("CERTIFICATE", fixture!("vendor-root.der"));
    let vendor = json!({ "manufacturer": "acme", "ca_pem": root });
    plane
        .post("/api/v1/identity/tpm/vendors", &vendor)
        .expect(201);
    refused(ask(endorsement, &[]), "tpm-certificate-missing");
    refused(
        ask(endorsement, &certificates[..1]),
        "tpm-certificate-refused",
    );
    assert_eq!(ask(endorsement, &certificates).0, 200);

    // Nor is a genuine chip in a device that is barred.
    let revoke = json!({ "device": "d1", "reason": "key-compromise" });
    plane
        .post("/api/v1/identity/revocations", &revoke)
        .expect(201);
    refused(ask(endorsement, &certificates), "device-revoked");
}

#[test]
fn a_device_attests_as_the_page_says_and_is_caught_when_it_starts_something_else() {
    if !have(&PROGRAMS) || !has_provider() {
        return;
    }
    let (home, plane) = scene();
    let _chip = Chip(&home);
    let (_, reference_values) = ATTESTATION.split_once("```toml\n").unwrap();
    let reference_values = reference_values.split("```").next().unwrap();
    let policy = "@id(\"attested-only\") forbid (principal is Device, action, resource)\n\
                  unless { principal.assurance == \"attested\" };\n";
    let fleet: Vec<(&str, String)> = fleet()
        .into_iter()
        .map(|(path, text)| match path {
            "products/p.toml" => (path, reference_values.to_owned()),
            "policies/p.cedar" => (path, text + policy),
            _ => (path, text),
        })
        .collect();
    plane.apply(&fleet);
    let is_permitted = || {
        let asked = json!({ "device": "d1", "publish": "v1/sensor/d1/telemetry/x" });
        let said = plane
            .post("/api/v1/access/explain", &asked)
            .expect(200)
            .json();
        said["permitted"]
            .as_bool()
            .unwrap_or_else(|| panic!("{said}"))
    };
    let measure = |command: &str| {
        let [bus, tools, openssl] = chip(&home);
        let arguments = [&*bus, &tools, &openssl, "sh", "-ec", command];
        assert!(run(&home, "env", &arguments, b"").good, "{command}");
    };
    let shown = || plane.get("/api/v1/identity/devices/d1").expect(200).json();

    follow(&home, &plane, PAGE, &FIRST);
    assert_eq!(shown()["assurance"], "hardware-held");
    assert!(!is_permitted());
    follow(&home, &plane, ATTESTATION, &["Attest"]);
    let device = shown();
    assert_eq!(device["assurance"], "attested", "{device}");
    assert_eq!(device["attestation"]["status"], "affirming", "{device}");
    assert!(is_permitted());

    // Something else is measured: the next quote says so, and nothing can unsay it but a good one.
    let extend = format!("tpm2_pcrextend 16:sha256={}", "5a".repeat(32));
    measure(&extend);
    follow(&home, &plane, ATTESTATION, &["Attest"]);
    let device = shown();
    assert_eq!(device["assurance"], "contraindicated", "{device}");
    assert!(!is_permitted());

    // A new enrollment does not shake it off; the right registers do.
    let renew = ["Ask for a challenge and open it", "Answer it"];
    follow(&home, &plane, PAGE, &renew);
    assert_eq!(shown()["assurance"], "contraindicated");
    measure("tpm2_pcrreset 16");
    follow(&home, &plane, ATTESTATION, &["Attest"]);
    assert_eq!(shown()["assurance"], "attested");

    // All of it is remembered over a restart.
    drop(plane);
    let plane = home.start();
    let device = plane.get("/api/v1/identity/devices/d1").expect(200).json();
    assert_eq!(device["assurance"], "attested", "{device}");
}
