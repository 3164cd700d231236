//! Cases of C2SP x509-limbo about servers, against what judges the plane's certificate. They lie
//! beside this workspace; a checkout of the product alone has none.

use super::*;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Where a case names no time: 2024-01-01T00:00:00Z.
const CASE_TIME: &str = "2024-01-01T00:00:00+00:00";

/// Valid, and refused.
const REFUSED: &[(&str, &str)] = &[(
    "pathlen::validation-ignores-pathlen-in-leaf",
    "a path length in a certificate that is no CA's: a contradiction is not interpreted",
)];

const FORM: &str =
    "the form of a certificate under a root that was pinned, which changes nobody's name";
const COMMON_NAME: &str = "the common name is not looked at: names are subjectAltNames";
const RSA_SIZE: &str = "a rule of browsers; a signature of fewer than 2048 bits is refused in TLS";

/// Invalid for a browser or by the letter of RFC 5280, and accepted all the same. None has a wrong
/// issuer, signature, name, purpose or time.
const ACCEPTED: &[(&str, &str)] = &[
    ("rfc5280::aki::critical-aki", FORM),
    ("rfc5280::nc::permitted-dns-match-noncritical", FORM),
    (
        "rfc5280::nc::invalid-dnsname-leading-period",
        "a leading period is read as the names below, which binds no less",
    ),
    ("rfc5280::san::noncritical-with-empty-subject", FORM),
    ("rfc5280::serial::too-long", FORM),
    ("rfc5280::ski::root-missing-ski", FORM),
    (
        "rfc5280::validity::expired-root",
        "roots come with the firmware: their own end is not looked at",
    ),
    ("rfc5280::ca-empty-subject", FORM),
    ("webpki::aki::root-with-aki-authoritycertissuer", FORM),
    ("webpki::aki::root-with-aki-all-fields", FORM),
    ("webpki::aki::root-with-aki-ski-mismatch", FORM),
    ("webpki::cn::ipv4-leading-zeros-mismatch", COMMON_NAME),
    ("webpki::cn::ipv6-uppercase-mismatch", COMMON_NAME),
    ("webpki::cn::ipv6-non-rfc5952-mismatch", COMMON_NAME),
    ("webpki::cn::not-in-san", COMMON_NAME),
    ("webpki::cn::case-mismatch", COMMON_NAME),
    ("webpki::forbidden-weak-rsa-in-leaf", RSA_SIZE),
    ("webpki::forbidden-rsa-not-divisible-by-8-in-root", RSA_SIZE),
    (
        "webpki::forbidden-rsa-key-not-divisible-by-8-in-leaf",
        RSA_SIZE,
    ),
];

fn cases() -> Option<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/x509/limbo-subset.json.zst");
    if !file.exists() {
        println!("skipped: no limbo cases beside this workspace");
        return None;
    }
    let Ok(output) = Command::new("zstd").arg("-dc").arg(&file).output() else {
        println!("skipped: zstd is not installed");
        return None;
    };
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn der(pem: &Value) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_str().unwrap().as_bytes()).unwrap()
}

/// `2024-01-01T00:00:00+00:00`, by the reader of HTTP's dates.
fn time(text: &str) -> Timestamp {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = MONTHS[text[5..7].parse::<usize>().unwrap() - 1];
    let date = format!(
        "Sun, {} {month} {} {} GMT",
        &text[8..10],
        &text[..4],
        &text[11..19]
    );
    crate::clock::http_date(&date).unwrap()
}

/// Whether we would speak to this server, our clock being right and known to be.
fn accepts(case: &Value) -> bool {
    let now = time(case["validation_time"].as_str().unwrap_or(CASE_TIME));
    let mut roots = RootCertStore::empty();
    for root in case["trusted_certs"].as_array().unwrap() {
        if roots.add(der(root)).is_err() {
            return false;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = PlaneVerifier {
        inner: inner.build().unwrap(),
        now,
        floor: now,
    };
    let intermediates = case["untrusted_intermediates"].as_array().unwrap();
    let intermediates: Vec<_> = intermediates.iter().map(der).collect();
    let name = case["expected_peer_name"]["value"].as_str().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let leaf = der(&case["peer_certificate"]);
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.as_seconds()));
    verifier
        .verify_server_cert(&leaf, &intermediates, &name, &[], time)
        .is_ok()
}

#[test]
fn limbo_servers_are_judged_as_they_should_be() {
    let Some(all) = cases() else {
        return;
    };
    let (mut right, mut refused, mut accepted) = (0, Vec::new(), Vec::new());
    for case in all["testcases"].as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        // What a revocation list says, and how long a chain a caller may want, is not asked here.
        let features = case["features"].as_array().unwrap();
        let is_other = |feature: &Value| feature == "has-crl" || feature == "max-chain-depth";
        if case["validation_kind"] != "SERVER" || features.iter().any(is_other) {
            continue;
        }
        match (accepts(case), case["expected_result"] == "SUCCESS") {
            (true, false) => accepted.push(id),
            (false, true) => refused.push(id),
            _ => right += 1,
        }
    }
    println!("limbo: {right} servers judged right");
    let listed =
        |list: &[(&'static str, &str)]| -> Vec<&str> { list.iter().map(|(id, _)| *id).collect() };
    assert_eq!(accepted, listed(ACCEPTED), "invalid and accepted");
    assert_eq!(refused, listed(REFUSED), "valid and refused");
}
