//! Real and odd certificates of others, where the machine has them.

use crate::day;
use base64::Engine;
use inventory::findings::{Context, Kind, judge, read_certificate};
use std::path::{Path, PathBuf};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/x509");

fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    let Ok(items) = std::fs::read_dir(folder) else {
        return;
    };
    for item in items {
        let path = item.unwrap().path();
        if path.is_dir() {
            files(&path, all);
        } else {
            all.push(path);
        }
    }
}

fn all_files() -> Vec<PathBuf> {
    let mut all = Vec::new();
    files(Path::new(FOLDER), &mut all);
    all.sort();
    if all.is_empty() {
        println!("skipped: there are no certificates of others on this machine");
    }
    all
}

#[test]
fn odd_certificates_are_judged_or_called_unreadable_and_never_a_fault() {
    let (mut read, mut unreadable) = (0, 0);
    for path in all_files() {
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let context = Context::new(day(0));
        if text.contains("-----BEGIN CERTIFICATE-----") {
            // As they lie there, and in a cell.
            let _ = judge(&text, &context);
            let cell = text.replace('"', "\"\"");
            let judged = judge(&format!("device,certificate\ncam-1,\"{cell}\"\n"), &context);
            let Ok(judged) = judged else { continue };
            assert_eq!(judged.rows, 1, "{}", path.display());
            read += judged.certificates;
            unreadable += 1 - judged.certificates;
        } else {
            let _ = read_certificate(&bytes);
        }
    }
    println!("{read} certificates read, {unreadable} called unreadable");
    if read + unreadable > 0 {
        assert!(
            read > 20 && read > unreadable * 4,
            "{read} read, {unreadable} not"
        );
    }
}

#[test]
fn known_weaknesses_of_known_certificates_are_found() {
    for (file, kind) in [
        ("cryptography-vectors/v1_cert.pem", Kind::WeakKey),
        (
            "cryptography-vectors/custom/dsa_selfsigned_ca.pem",
            Kind::WeakKey,
        ),
        ("cryptography-vectors/cryptography.io.pem", Kind::Expired),
        (
            "cryptography-vectors/cryptography.io.pem",
            Kind::UnknownIssuer,
        ),
    ] {
        let path = Path::new(FOLDER).join(file);
        let Ok(text) = std::fs::read_to_string(&path) else {
            println!("skipped: {file} is not on this machine");
            continue;
        };
        let judged = judge(&text, &Context::new(day(0))).unwrap();
        let kinds: Vec<Kind> = judged.findings.iter().map(|one| one.kind).collect();
        assert!(kinds.contains(&kind), "{file}: {kinds:?}");
    }
}

#[test]
fn one_certificate_on_two_devices_is_shared_and_its_issuer_is_known_when_registered() {
    let path = Path::new(FOLDER).join("cryptography-vectors/cryptography.io.pem");
    let Ok(pem) = std::fs::read_to_string(&path) else {
        println!("skipped: {} is not on this machine", path.display());
        return;
    };
    let begin = pem.find("-----BEGIN CERTIFICATE-----").unwrap();
    let pem = &pem[begin..];
    let end = pem.find("-----END CERTIFICATE-----").unwrap() + 25;
    let pem = &pem[..end];
    let text = format!(
        "device,pem\na,\"{pem}\"\nb,\"{}\"\nb,\"{pem}\"\n",
        pem.replace('\n', "\\n")
    );
    let mut context = Context::new(day(0));
    let judged = judge(&text, &context).unwrap();
    let shared = judged
        .findings
        .iter()
        .find(|one| one.kind == Kind::SharedCertificate)
        .unwrap();
    assert_eq!(shared.count, 3);
    let ca = Path::new(FOLDER).join("cryptography-vectors/rapidssl_sha256_ca_g3.pem");
    let ca = std::fs::read_to_string(ca).unwrap();
    let body: String = ca
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap();
    context.add_issuer(&der).unwrap();
    let judged = judge(&text, &context).unwrap();
    assert!(
        judged
            .findings
            .iter()
            .all(|one| one.kind != Kind::UnknownIssuer),
        "{judged:?}"
    );
}
