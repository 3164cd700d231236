//! Cases of C2SP x509-limbo against our path verifier.
//!
//! Most cases are about servers: their certificates say serverAuth, which no door of ours takes. So
//! only the client cases say anything here. Wrong accepts must be none.

use crate::support::*;
use identity::{Anchors, Door, OwnCas};
use model::Timestamp;
use std::path::PathBuf;
use std::process::Command;

fn cases() -> Option<serde_json::Value> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/x509/limbo-subset.json.zst");
    let output = Command::new("zstd").arg("-dc").arg(&file).output().ok()?;
    output
        .status
        .success()
        .then(|| serde_json::from_slice(&output.stdout).ok())
        .flatten()
}

fn der(pem: &str) -> Vec<u8> {
    use base64::Engine;
    let text: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

fn ders(list: &serde_json::Value) -> Vec<Vec<u8>> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|pem| der(pem.as_str().unwrap()))
        .collect()
}

#[test]
fn limbo_client_cases_are_judged_as_they_should_be() {
    let Some(all) = cases() else {
        println!("skipped: no limbo cases beside this workspace, or no zstd");
        return;
    };
    let world = World::new();
    let own = OwnCas {
        roots: vec![world.root.der.clone()],
        issuing: vec![identity::IssuingCa::of_every_use(world.issuing.der.clone())],
    };
    let (mut right, mut wrong_accepts, mut wrong_refusals) = (0, Vec::new(), Vec::new());
    for case in all["testcases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        if case["validation_kind"] != "CLIENT" || !case["crls"].as_array().unwrap().is_empty() {
            continue;
        }
        let anchors: Vec<_> = ders(&case["trusted_certs"])
            .into_iter()
            .map(|der| (manufacturer("limbo"), der))
            .collect();
        let now = Timestamp::from_seconds(1_704_067_200);
        let leaf = der(case["peer_certificate"].as_str().unwrap());
        let intermediates = ders(&case["untrusted_intermediates"]);
        let intermediates: Vec<&[u8]> = intermediates.iter().map(Vec::as_slice).collect();
        let accepted = Anchors::new(realm(), &own, anchors)
            .ok()
            .is_some_and(|anchors| {
                anchors
                    .verify_path(Door::Devices, &leaf, &intermediates, now)
                    .is_ok()
            });
        match (accepted, case["expected_result"] == "SUCCESS") {
            (true, false) => wrong_accepts.push(id),
            (false, true) => wrong_refusals.push(id),
            _ => right += 1,
        }
    }
    println!("limbo: {right} right, wrongly refused: {wrong_refusals:?}");
    assert!(
        wrong_accepts.is_empty(),
        "wrongly accepted: {wrong_accepts:?}"
    );
}
