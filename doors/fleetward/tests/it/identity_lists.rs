//! What the pages about identity read: each thing once, in pages, and to administrators alone.

use crate::existing_fleet::fleetward;
use crate::http::Answer;
use crate::plane::{Home, Plane, Settings};
use crate::tools::{curl, have, write_credential, write_root};
use serde_json::{Value, json};
use sim::Device;
use sim::device::Manner;
use std::collections::BTreeSet;

const LISTS: [&str; 7] = [
    "/api/v1/identity/authorities",
    "/api/v1/identity/certificates",
    "/api/v1/identity/certificates/summary",
    "/api/v1/identity/claim-tokens/acme",
    "/api/v1/identity/pending",
    "/api/v1/identity/revocations",
    "/api/v1/identity/tpm/endorsement-keys",
];

/// Five sensors that have enrolled.
fn scene() -> (Home, Plane, Vec<Device>) {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut devices: Vec<Device> = (1..=5).map(|n| home.device(&format!("cam-{n}"))).collect();
    plane.expect(&devices);
    for device in &mut devices {
        device.enroll(&plane.doors(), &Manner::default()).unwrap();
    }
    (home, plane, devices)
}

/// All rows of a list, by pages of two.
fn all(plane: &Plane, path: &str, rows: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let page = plane.get(&format!("{path}{after}")).expect(200).json();
        let some = page[rows].as_array().unwrap();
        assert!(some.len() <= 2);
        found.extend(some.iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return found,
        }
    }
}

fn code(answer: Answer) -> String {
    answer.expect(400).json()["code"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn certificates_are_listed_once_each_with_the_entry_of_their_issue() {
    let (_home, plane, _) = scene();
    let found = all(
        &plane,
        "/api/v1/identity/certificates?limit=2",
        "certificates",
    );
    let ids: BTreeSet<&str> = (found.iter())
        .map(|one| one["certificate"].as_str().unwrap())
        .collect();
    assert_eq!(
        (ids.len(), found.len()),
        (6, 6),
        "five devices and this plane: {found:?}"
    );
    let ends: Vec<&str> = found
        .iter()
        .map(|one| one["not_after"].as_str().unwrap())
        .collect();
    assert!(ends.is_sorted(), "{ends:?}");
    for one in &found {
        assert_eq!(
            (&one["state"], &one["key_kind"]),
            (&json!("current"), &json!("P-256"))
        );
        let entry = one["entry"].as_u64().unwrap();
        let path = format!("/api/v1/audit/entries?from={entry}&limit=1");
        let told = plane.get(&path).expect(200).json()[0].to_string();
        assert!(
            told.contains(one["certificate"].as_str().unwrap()),
            "{told} of {one}"
        );
    }
    let sensors = "/api/v1/identity/certificates?limit=2&product=sensor";
    assert_eq!(all(&plane, sensors, "certificates").len(), 5);
    let one = "/api/v1/identity/certificates?limit=2&holder=device/cam-3";
    assert_eq!(all(&plane, one, "certificates")[0]["device"], "cam-3");
    let week = "/api/v1/identity/certificates?limit=2&within_days=7";
    assert_eq!(all(&plane, week, "certificates"), [] as [Value; 0]);
}

#[test]
fn a_page_says_how_each_certificate_stands_and_the_summary_counts_the_same() {
    let (_home, plane, devices) = scene();
    plane.revoke(devices[0].id());
    let hold = json!({ "device": "cam-2", "reason": "certificate-hold" });
    plane
        .post("/api/v1/identity/revocations", &hold)
        .expect(201);
    let summary = plane
        .get("/api/v1/identity/certificates/summary")
        .expect(200)
        .json();
    for (state, count) in [("current", 4), ("revoked", 1), ("on-hold", 1), ("ended", 0)] {
        assert_eq!(summary["states"][state], count, "{summary}");
        let path = format!("/api/v1/identity/certificates?limit=2&state={state}");
        assert_eq!(all(&plane, &path, "certificates").len(), count, "{state}");
    }
    let weeks = summary["weeks"].as_array().unwrap();
    let living: u64 = weeks.iter().map(|one| one.as_u64().unwrap()).sum();
    assert_eq!(
        living + summary["later"].as_u64().unwrap(),
        5,
        "all but the revoked one"
    );
    let barred = "/api/v1/identity/certificates?limit=2&state=revoked";
    assert_eq!(
        all(&plane, barred, "certificates")[0]["barred"]["by"],
        "device/cam-1"
    );

    let withdrawn = all(
        &plane,
        "/api/v1/identity/revocations?limit=2",
        "revocations",
    );
    let names: Vec<&str> = withdrawn
        .iter()
        .map(|one| one["what"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["device/cam-1", "device/cam-2"]);
    let held = all(
        &plane,
        "/api/v1/identity/revocations?limit=2&on_hold=true",
        "revocations",
    );
    assert_eq!(held.len(), 1);

    let tree = plane.get("/api/v1/identity/authorities").expect(200).json();
    let (root, ca) = (&tree["roots"][0], &tree["issuing"][0]);
    assert_eq!(
        (&root["key_place"], &ca["key_place"]),
        (&json!("sealed-file"), &json!("sealed-file"))
    );
    assert_eq!(
        (&ca["root"], &ca["products"]),
        (&root["issuer"], &json!(["sensor"]))
    );
    let crl = plane.get(ca["crl"].as_str().unwrap()).expect(200);
    assert_eq!(crl.body.first(), Some(&0x30));
}

#[test]
fn what_does_not_fit_is_refused_and_never_guessed() {
    let (_home, plane, _) = scene();
    for query in [
        "state=fine",
        "issuer=abc",
        "within_days=0",
        "within_days=99999999999",
        "after=1",
        "after=x.y:z",
        "holder=tenant/acme",
        "product=a%20b",
        "limit=-1",
        "colour=red",
    ] {
        let said = code(plane.get(&format!("/api/v1/identity/certificates?{query}")));
        assert!(
            ["request-refused", "query-refused"].contains(&said.as_str()),
            "{query}: {said}"
        );
    }
    code(plane.get("/api/v1/identity/tpm/endorsement-keys?after=ab"));
    code(plane.get("/api/v1/identity/claim-tokens/acme?limit=many"));
}

#[test]
fn nobody_but_an_administrator_reads_who_has_which_certificate() {
    let (home, plane, devices) = scene();
    let curls = have(&["curl"]);
    write_credential(&home, devices[0].ldevid().unwrap(), "device");
    write_root(&home, &plane);
    for path in LISTS {
        plane.get(path).expect(200);
        if curls {
            let shown = ["--cert", "device.pem", "--key", "device.key"];
            let status = curl(&home, &plane, path, &shown).status;
            assert!([401, 403].contains(&status), "{path}: {status}");
        }
    }
}

#[test]
fn a_claim_token_is_listed_without_its_secret() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    plane.expect(&[home.device("cam-1"), home.device("cam-2")]);
    let new = json!({ "manufacturer": "acme", "serials": ["SN-cam-1", "SN-cam-2"], "days": 3 });
    let made = plane
        .post("/api/v1/identity/claim-tokens", &new)
        .expect(201)
        .json();
    let listed = plane.get("/api/v1/identity/claim-tokens/acme").expect(200);
    let secret = made["tokens"][0]["token"].as_str().unwrap();
    assert!(!listed.text().contains(secret));
    let rows = listed.json();
    assert_eq!(
        (&rows[0]["serial"], &rows[0]["state"]),
        (&json!("SN-cam-1"), &json!("unused"))
    );
    let next = plane
        .get("/api/v1/identity/claim-tokens/acme?after=SN-cam-1")
        .expect(200)
        .json();
    assert_eq!(next.as_array().unwrap().len(), 1);
    let others = plane
        .get("/api/v1/identity/claim-tokens/nobody")
        .expect(200)
        .json();
    assert_eq!(others, json!([]));
}

#[test]
fn the_command_line_shows_the_same_lists() {
    let (home, plane, devices) = scene();
    plane.revoke(devices[0].id());
    let said = |verb: &[&str]| fleetward(&home, verb).unwrap();
    let revoked = said(&["identity", "certificates", "--state", "revoked"]);
    assert_eq!(revoked["certificates"][0]["device"], "cam-1", "{revoked}");
    let first = said(&[
        "identity",
        "certificates",
        "--product",
        "sensor",
        "--limit",
        "2",
    ]);
    let next = first["next"].as_str().unwrap();
    let rest = said(&[
        "identity",
        "certificates",
        "--product",
        "sensor",
        "--after",
        next,
    ]);
    assert_eq!(rest["certificates"].as_array().unwrap().len(), 3);
    let withdrawn = said(&["identity", "revocations"]);
    assert_eq!(withdrawn["revocations"][0]["what"], "device/cam-1");
    let held = said(&["identity", "revocations", "--on-hold"]);
    assert_eq!(held["total"], 0);
    assert_eq!(said(&["identity", "tpm", "list"]), json!([]));
    let tokens = said(&["identity", "token", "list", "--manufacturer", "acme"]);
    assert_eq!(tokens, json!([]));
    // It becomes part of a path, so it is nothing else.
    let elsewhere = ["identity", "certificates", "--holder", "device/a&limit=1"];
    assert!(fleetward(&home, &elsewhere).is_err());
}
