//! Whose a device is, and what somebody would try who wants another's.

use crate::fixture::fleet;
use crate::plane::{Home, Plane, Settings};
use crate::recipes::follow;
use crate::tools::{curl, have, write_credential, write_root};
use serde_json::{Value, json};
use sim::device::Manner;
use std::sync::Barrier;

const OWNERSHIP: &str = "/api/v1/identity/ownership";

/// A plane that expects d1 and d2.
fn scene() -> (Home, Plane) {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    plane.expect([&home.device("d1"), &home.device("d2")]);
    (home, plane)
}

fn codes(plane: &Plane, devices: &[&str]) -> Vec<String> {
    let body = json!({ "devices": devices, "days": 1 });
    let made = plane.post("/api/v1/identity/ownership-codes", &body);
    let made = made.expect(201).json();
    let codes = made["codes"].as_array().unwrap().iter();
    codes
        .map(|one| one["code"].as_str().unwrap().to_owned())
        .collect()
}

fn act(plane: &Plane, device: &str, verb: &str, body: &Value) -> Result<Value, String> {
    let told = plane.post(&format!("{OWNERSHIP}/{device}/{verb}"), body);
    if told.status == 200 {
        return Ok(told.json());
    }
    Err(told.json()["code"].as_str().unwrap().to_owned())
}

fn claim(plane: &Plane, device: &str, owner: &str, code: &str) -> Result<Value, String> {
    act(
        plane,
        device,
        "claim",
        &json!({ "owner": owner, "code": code }),
    )
}

fn owner_of(plane: &Plane, device: &str) -> Value {
    let shown = plane
        .get(&format!("{OWNERSHIP}/{device}"))
        .expect(200)
        .json();
    shown["owner"].clone()
}

#[test]
fn the_recipe_claims_hands_on_and_releases() {
    if !have(&["curl"]) {
        return;
    }
    let (home, plane) = scene();
    let mut device = home.device("d1");
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    let ldevid = device.ldevid().unwrap();
    write_credential(&home, ldevid, "c");
    std::fs::rename(home.path("c.key"), home.path("k.pem")).unwrap();
    write_root(&home, &plane);
    let page = include_str!("../../../../docs/identity/ownership.md");
    follow(&home, &plane, page, &["Codes"]);
    // Each is an entry in the log: no flood of them.
    let own = ["--cert", "c.pem", "--key", "k.pem", "-X", "POST"];
    let told = curl(&home, &plane, "/api/v1/identity/ownership-codes/own", &own);
    assert_eq!(told.status, 429);
    follow(&home, &plane, page, &["Claim", "Hand it on"]);
    let shown = plane.get(&format!("{OWNERSHIP}/d1")).expect(200).json();
    assert_eq!(shown["owner"], Value::Null);
    let history = shown["history"].as_array().unwrap();
    let owners: Vec<&str> = history
        .iter()
        .map(|one| one["owner"].as_str().unwrap())
        .collect();
    assert_eq!(owners, ["customer-4712", "customer-4711"]);
    // The log names no owner, and whoever is told name and salt finds the commitment.
    let entries = plane.entries();
    let text = Value::from(entries.clone()).to_string();
    assert!(!text.contains("customer-"), "{text}");
    let salt = history[1]["salt"].as_str().unwrap();
    let salt: [u8; 16] =
        std::array::from_fn(|at| u8::from_str_radix(&salt[2 * at..2 * at + 2], 16).unwrap());
    let commitment = identity::ownership::commitment(&salt, &"customer-4711".parse().unwrap());
    assert!(text.contains(&commitment.to_string()), "{text}");
    let what = entries
        .iter()
        .filter(|one| one["action"] == "identity.ownership-settled");
    let what: Vec<&str> = what
        .map(|one| one["details"]["what"].as_str().unwrap())
        .collect();
    assert_eq!(what, ["claimed", "offered", "accepted", "released"]);
}

#[test]
fn a_double_claim_is_refused_and_a_used_code_claims_nothing() {
    let (_home, plane) = scene();
    let [code, second] = &[codes(&plane, &["d1"]), codes(&plane, &["d1"])].concat()[..] else {
        panic!();
    };
    // The new one took the place of the first.
    let told = claim(&plane, "d1", "ann", code);
    assert_eq!(told, Err("ownership-code-unknown".to_owned()));
    claim(&plane, "d1", "ann", second).unwrap();
    let fresh = codes(&plane, &["d1"]).remove(0);
    let told = claim(&plane, "d1", "mallory", &fresh);
    assert_eq!(told, Err("ownership-taken".to_owned()));
    assert_eq!(owner_of(&plane, "d1"), "ann");
    act(&plane, "d1", "release", &json!({ "owner": "ann" })).unwrap();
    let told = claim(&plane, "d1", "mallory", second);
    assert_eq!(told, Err("ownership-code-unknown".to_owned()), "replayed");
    claim(&plane, "d1", "bob", &fresh).unwrap();
}

#[test]
fn a_claim_of_a_device_that_is_not_yours_is_refused() {
    let (_home, plane) = scene();
    let [first, second] = &codes(&plane, &["d1", "d2"])[..] else {
        panic!();
    };
    for code in [second.as_str(), "", "0000-0000"] {
        let told = claim(&plane, "d1", "mallory", code);
        assert_eq!(told, Err("ownership-code-unknown".to_owned()));
    }
    claim(&plane, "d1", "ann", first).unwrap();
    for (verb, body) in [
        ("offer", json!({ "owner": "mallory", "to": "mallory2" })),
        ("offer", json!({ "owner": "mallory" })),
        ("release", json!({ "owner": "mallory" })),
    ] {
        let told = act(&plane, "d1", verb, &body);
        assert_eq!(told, Err("ownership-not-the-owner".to_owned()), "{verb}");
    }
    act(
        &plane,
        "d1",
        "offer",
        &json!({ "owner": "ann", "to": "bob" }),
    )
    .unwrap();
    let told = act(&plane, "d1", "accept", &json!({ "owner": "mallory" }));
    assert_eq!(told, Err("ownership-not-offered".to_owned()));
    act(&plane, "d1", "offer", &json!({ "owner": "ann" })).unwrap();
    let told = act(&plane, "d1", "accept", &json!({ "owner": "bob" }));
    assert_eq!(told, Err("ownership-not-offered".to_owned()), "taken back");
    assert_eq!(owner_of(&plane, "d1"), "ann");
    // A revoked device changes no hands, and its history stays.
    plane.revoke(&"d1".parse().unwrap());
    act(
        &plane,
        "d1",
        "offer",
        &json!({ "owner": "ann", "to": "bob" }),
    )
    .unwrap_err();
    assert_eq!(owner_of(&plane, "d1"), "ann");
    act(&plane, "d1", "release", &json!({})).unwrap();
    assert_eq!(owner_of(&plane, "d1"), Value::Null);
}

#[test]
fn of_two_who_claim_at_once_one_gets_it() {
    let (_home, plane) = scene();
    let code = codes(&plane, &["d1"]).remove(0);
    let start = Barrier::new(8);
    let won: Vec<bool> = std::thread::scope(|scope| {
        let claims: Vec<_> = (0..8)
            .map(|number| {
                let (plane, code, start) = (&plane, &code, &start);
                scope.spawn(move || {
                    start.wait();
                    claim(plane, "d1", &format!("owner-{number}"), code).is_ok()
                })
            })
            .collect();
        claims.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    let winner = won.iter().position(|won| *won).unwrap();
    assert_eq!(owner_of(&plane, "d1"), format!("owner-{winner}"));
}

#[test]
fn a_service_speaks_for_owners_if_the_fleet_says_so_and_a_device_never() {
    if !have(&["curl"]) {
        return;
    }
    let (home, plane) = scene();
    write_root(&home, &plane);
    write_credential(&home, &plane.certify("ingest"), "ingest");
    let mut device = home.device("d1");
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    write_credential(&home, device.ldevid().unwrap(), "d1");
    let code = codes(&plane, &["d1"]).remove(0);
    let body = json!({ "owner": "ann", "code": code }).to_string();
    let claim_as = |name: &str| {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        let arguments = [
            "--cert",
            &certificate,
            "--key",
            &key,
            "-H",
            "Content-Type: application/json",
            "-d",
            &body,
        ];
        curl(&home, &plane, &format!("{OWNERSHIP}/d1/claim"), &arguments)
    };
    for name in ["ingest", "d1"] {
        let told = claim_as(name).expect(403);
        let told: Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!(told["code"], "not-for-owners", "{name}");
    }
    let mut files = fleet();
    for (path, text) in &mut files {
        if *path == "services/s.toml" {
            *text = text.replace("[ingest]\n", "[ingest]\nspeaks_for_owners = true\n");
        }
    }
    plane.apply(&files);
    claim_as("ingest").expect(200);
    claim_as("d1").expect(403);
    // It says for whom, always.
    let arguments = [
        "--cert",
        "ingest.pem",
        "--key",
        "ingest.key",
        "-H",
        "Content-Type: application/json",
        "-d",
        "{}",
    ];
    curl(
        &home,
        &plane,
        &format!("{OWNERSHIP}/d1/release"),
        &arguments,
    )
    .expect(400);
    assert_eq!(owner_of(&plane, "d1"), "ann");
}
