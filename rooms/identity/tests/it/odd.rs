//! Certificates and requests of pyca/cryptography's collection that are odd, broken or at an edge:
//! read without harm, believed by nobody, and the requests judged as listed.

use crate::support::*;
use crate::vectors;
use identity::{Anchors, CertificateRequest, Door, IssuingCa, OwnCas};
use std::path::{Path, PathBuf};

/// What the requests are refused for; `ok` if they are not.
const REQUESTS: &[(&str, &str)] = &[
    ("bad-version.pem", "request-malformed"),
    ("challenge-invalid.der", "request-bad-signature"),
    ("challenge-unstructured.pem", "ok"),
    ("challenge.pem", "ok"),
    ("dsa_sha1.pem", "request-key-algorithm"),
    ("ec_sha256.der", "ok"),
    ("ec_sha256.pem", "ok"),
    ("freeipa-bad-critical.pem", "ok"),
    ("invalid_signature.pem", "request-rsa-size"),
    ("rsa_sha256.pem", "ok"),
    ("two_basic_constraints.pem", "request-signature-algorithm"),
    ("unsupported_extension.pem", "request-signature-algorithm"),
];

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path
            .extension()
            .is_some_and(|end| end == "pem" || end == "der")
        {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn der_of(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    match std::str::from_utf8(&bytes) {
        Ok(pem) => vectors::der(pem),
        Err(_) => bytes,
    }
}

#[test]
fn odd_certificates_are_read_without_harm_and_believed_by_nobody() {
    let Some(folder) = vectors::folder() else {
        return;
    };
    let world = World::new();
    let own = OwnCas {
        roots: vec![world.root.der.clone()],
        issuing: vec![IssuingCa::of_every_use(world.issuing.der.clone())],
    };
    let leaf = world.issuing.ldevid("d1", &Key::new(), NOW, DAY);
    let all = files(&folder.join("x509/cryptography-vectors"));
    let mut anchors_taken = 0;
    for path in &all {
        let der = der_of(path);
        let _ = identity::validity(&der);
        let _ = identity::profile::Issuer::from_certificate(&der);
        assert!(
            world
                .anchors
                .verify_path(Door::Devices, &der, &[], NOW)
                .is_err(),
            "{}",
            path.display()
        );
        // Beside a good one it changes nothing.
        let path_with_it = world
            .anchors
            .verify_path(Door::Devices, &leaf, &[&der], NOW);
        assert!(path_with_it.is_ok(), "{}", path.display());
        // As a manufacturer's CA it is taken or refused, and then vouches for nobody of ours.
        if let Ok(anchors) = Anchors::new(realm(), &own, vec![(manufacturer("odd"), der.clone())]) {
            anchors_taken += 1;
            let stranger = world.factory.idevid("maker", "SN1", &Key::new());
            assert!(
                anchors
                    .verify_path(Door::Devices, &stranger, &[&der], NOW)
                    .is_err()
            );
        }
    }
    println!(
        "{} files, {anchors_taken} of them could be a manufacturer's CA",
        all.len()
    );
    assert!(all.len() > 50);
}

#[test]
fn odd_requests_are_judged_as_listed() {
    let Some(folder) = vectors::folder() else {
        return;
    };
    let judged: Vec<(String, &str)> = files(&folder.join("x509/cryptography-vectors/requests"))
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let outcome = CertificateRequest::parse(&der_of(path));
            (
                name,
                outcome.map_or_else(|refusal| refusal.code(), |_| "ok"),
            )
        })
        .collect();
    let listed: Vec<(String, &str)> = REQUESTS
        .iter()
        .map(|(name, outcome)| ((*name).to_owned(), *outcome))
        .collect();
    assert_eq!(judged, listed);
}
