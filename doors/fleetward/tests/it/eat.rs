//! A device that attests by a token: pycose signs it as the page says, and what somebody would try.

use crate::fixture::fleet;
use crate::plane::{Home, Plane, Settings};
use crate::recipes::follow_with;
use crate::tools::{curl, have, python_with, write_credential, write_root};
use serde_json::{Value, json};
use sim::device::Manner;
use sim::{Credential, Device};

const PAGE: &str = include_str!("../../../../docs/identity/attestation.md");
const TOKENS: &str = "/api/v1/identity/attestations/token";

fn scene() -> (Home, Plane, Device) {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut device = home.device("d1");
    plane.expect([&device, &home.device("d2")]);
    let (_, tokens) = PAGE.split_once("\n## Tokens\n").unwrap();
    let values = tokens.split("```toml\n").nth(1).unwrap();
    let values = values.split("```").next().unwrap();
    let policy = "@id(\"attested-only\") forbid (principal is Device, action, resource)\n\
                  unless { principal.assurance == \"attested\" };\n";
    let fleet: Vec<(&str, String)> = fleet()
        .into_iter()
        .map(|(path, text)| match path {
            "products/p.toml" => (path, values.to_owned()),
            "policies/p.cedar" => (path, text + policy),
            _ => (path, text),
        })
        .collect();
    plane.apply(&fleet);
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    write_root(&home, &plane);
    write(&home, device.ldevid().unwrap());
    (home, plane, device)
}

/// As the page calls them.
fn write(home: &Home, credential: &Credential) {
    write_credential(home, credential, "c");
    std::fs::rename(home.path("c.key"), home.path("k.pem")).unwrap();
}

#[test]
fn a_token_by_the_page_attests_and_a_wrong_one_is_caught() {
    let Some(python) = python_with("pycose") else {
        return;
    };
    if !have(&["curl"]) {
        return;
    }
    let (home, plane, mut device) = scene();
    let shown = || plane.get("/api/v1/identity/devices/d1").expect(200).json();
    let is_permitted = || {
        let asked = json!({ "device": "d1", "publish": "v1/sensor/d1/telemetry/x" });
        let said = plane
            .post("/api/v1/access/explain", &asked)
            .expect(200)
            .json();
        said["permitted"].as_bool().unwrap()
    };
    let attest = |version: &str| {
        let here = |script: String| {
            script
                .replace("python3 attest.py", &format!("{python} attest.py"))
                .replace("\"$nonce\" 3.1.0", &format!("\"$nonce\" {version}"))
        };
        follow_with(&home, &plane, PAGE, &["Tokens"], here);
        let result = std::fs::read(home.path("result.json")).unwrap();
        serde_json::from_slice::<Value>(&result).unwrap()
    };
    assert_eq!(shown()["assurance"], "identified");
    assert!(!is_permitted());
    let result = attest("3.1.0");
    assert_eq!(result["status"], "affirming", "{result}");
    assert_eq!(result["assurance"], "attested");
    assert!(is_permitted());

    // Old software says so, and the device falls at once.
    let result = attest("3.0.9");
    assert_eq!(result["status"], "contraindicated", "{result}");
    assert!(!is_permitted());
    assert_eq!(attest("3.1.0")["assurance"], "attested");

    // A replayed token is still of this nonce; one of another device's key or certificate is not.
    let told = post(&home, &plane, "token.cwt");
    assert_eq!(told.0, 200, "within its two minutes it says the same");
    let mut other = home.device("d2");
    other.enroll(&plane.doors(), &Manner::default()).unwrap();
    write(&home, other.ldevid().unwrap());
    refused(&post(&home, &plane, "token.cwt"), "eat-nonce-stale");
    // Nor is it good for the key that comes next.
    device
        .reenroll(&plane.doors(), &Manner::default(), true)
        .unwrap();
    assert_eq!(shown()["assurance"], "identified");
    write(&home, device.ldevid().unwrap());
    refused(&post(&home, &plane, "token.cwt"), "eat-nonce-stale");
    assert_eq!(attest("3.1.0")["assurance"], "attested");

    // All of it is remembered over a restart.
    drop(plane);
    let plane = home.start();
    let device = plane.get("/api/v1/identity/devices/d1").expect(200).json();
    assert_eq!(device["assurance"], "attested", "{device}");
}

#[test]
fn what_is_no_token_is_no_evidence() {
    if !have(&["curl"]) {
        return;
    }
    let (home, plane, _device) = scene();
    let known = include_bytes!("../../../../rooms/identity/tests/eat/good.cwt");
    for (bytes, code) in [
        (known.to_vec(), "eat-nonce-stale"),
        (b"{}".to_vec(), "eat-malformed"),
        (vec![0x81; 8000], "eat-malformed"),
        (vec![0; 9000], "eat-too-large"),
    ] {
        home.write("bad.cwt", &bytes);
        refused(&post(&home, &plane, "bad.cwt"), code);
    }
    let arguments = ["--cert", "c.pem", "--key", "k.pem", "-d", "x"];
    assert_eq!(curl(&home, &plane, TOKENS, &arguments).status, 415);
    assert_eq!(curl(&home, &plane, TOKENS, &[]).status, 401);
    let shown = plane.get("/api/v1/identity/devices/d1").expect(200).json();
    assert_eq!(shown["assurance"], "identified");
    // Without reference values for tokens a product is asked for none.
    plane.apply(&fleet());
    let arguments = ["--cert", "c.pem", "--key", "k.pem"];
    let told = curl(&home, &plane, TOKENS, &arguments).expect(409);
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(told["code"], "attestation-undeclared");
}

fn post(home: &Home, plane: &Plane, file: &str) -> (u16, Value) {
    let body = format!("@{file}");
    let media_type = "Content-Type: application/eat+cwt";
    let arguments = [
        "--cert",
        "c.pem",
        "--key",
        "k.pem",
        "-H",
        media_type,
        "--data-binary",
        &body,
    ];
    let told = curl(home, plane, TOKENS, &arguments);
    (told.status, serde_json::from_slice(&told.body).unwrap())
}

#[track_caller]
fn refused((status, told): &(u16, Value), code: &str) {
    assert_eq!(
        (*status, told["code"].as_str()),
        (403, Some(code)),
        "{told}"
    );
}
