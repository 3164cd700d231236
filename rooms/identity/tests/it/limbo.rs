//! Cases of C2SP x509-limbo against our path verifier. Wrong accepts must be none.
//!
//! Most cases are about servers. No door of ours takes a server's certificate, so those say little
//! here, and the agent, which does judge a server's, is asked about them in its own tests.

use crate::support::*;
use crate::vectors;
use identity::{Anchors, Door, IssuingCa, OwnCas};

/// Where a case names no time.
const CASE_TIME: &str = "2024-01-01T00:00:00+00:00";

/// Valid, and refused for another reason than that it is a server's.
const REFUSED: &[(&str, &str)] = &[
    (
        "cve::cve-2024-0567",
        "its chain is longer than 4 intermediate certificates",
    ),
    (
        "rfc5280::nc::nc-permits-email-literal-asterisk-exact-match",
        "name constraints on mail addresses are not read: what they bind is refused",
    ),
    (
        "rfc5280::nc::nc-permits-email-literal-mid-asterisk",
        "name constraints on mail addresses are not read: what they bind is refused",
    ),
];

#[test]
fn limbo_cases_are_judged_as_they_should_be() {
    let Some(all) = vectors::json("x509/limbo-subset.json.zst") else {
        return;
    };
    let world = World::new();
    let own = OwnCas {
        roots: vec![world.root.der.clone()],
        issuing: vec![IssuingCa::of_every_use(world.issuing.der.clone())],
    };
    let (mut right, mut other_purpose) = (0, 0);
    let (mut wrong_accepts, mut refused) = (Vec::new(), Vec::new());
    for case in all["testcases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap().to_owned();
        let anchors: Vec<_> = vectors::ders(&case["trusted_certs"])
            .into_iter()
            .map(|der| (manufacturer("limbo"), der))
            .collect();
        let leaf = vectors::der(case["peer_certificate"].as_str().unwrap());
        let intermediates = vectors::ders(&case["untrusted_intermediates"]);
        let intermediates: Vec<&[u8]> = intermediates.iter().map(Vec::as_slice).collect();
        let now = case["validation_time"].as_str().unwrap_or(CASE_TIME);
        let now = vectors::time(now);
        let outcome = Anchors::new(realm(), &own, anchors)
            .map_err(|refusal| refusal.to_string())
            .and_then(|anchors| {
                anchors
                    .verify_path(Door::Devices, &leaf, &intermediates, now)
                    .map_err(|refusal| refusal.code().to_owned())
            });
        match (outcome, case["expected_result"] == "SUCCESS") {
            (Ok(_), false) => wrong_accepts.push(id),
            (Err(code), true) if code == "certificate-wrong-purpose" => {
                assert_eq!(case["validation_kind"], "SERVER", "{id}");
                other_purpose += 1;
            }
            (Err(_), true) => refused.push(id),
            _ => right += 1,
        }
    }
    println!("limbo: {right} right, {other_purpose} valid for a server's purpose only");
    assert!(wrong_accepts.is_empty(), "{wrong_accepts:?}");
    vectors::are_listed("valid and refused", &refused, REFUSED);
}
