//! Signatures of manufacturers, made and judged by OpenSSL too.

use super::*;
use crate::source;
use access::{SignatureRefusal, check_mud_signatures};
use model::Timestamp;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

fn openssl(folder: &Path, arguments: &str) -> bool {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output();
    output.is_ok_and(|output| output.status.success())
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(u64::try_from(now.as_millis()).unwrap())
}

/// A root, and one that it vouches for, with keys of `kind`.
fn authority(folder: &Path, name: &str, kind: &str) {
    let run = |arguments: &str| assert!(openssl(folder, arguments), "openssl {arguments}");
    run(&format!(
        "req -x509 -newkey {kind} -nodes -keyout {name}-root.key -out {name}-root.pem -days 2 -subj /CN={name}-root -addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign"
    ));
    run(&format!(
        "req -newkey {kind} -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
    ));
    fs::write(
        folder.join("leaf.cnf"),
        "basicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nextendedKeyUsage=emailProtection\n",
    )
    .unwrap();
    run(&format!(
        "x509 -req -in {name}.csr -CA {name}-root.pem -CAkey {name}-root.key -CAcreateserial -days 1 -extfile leaf.cnf -out {name}.pem"
    ));
}

#[test]
fn a_signature_is_judged_as_openssl_judges_it() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: there is no openssl");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    fs::write(folder.join("x.json"), LAMP).unwrap();
    fs::write(folder.join("other.json"), LAMP.replace("8883", "9999")).unwrap();
    let kinds = [
        ("rsa", "rsa:2048"),
        ("p256", "ec -pkeyopt ec_paramgen_curve:P-256"),
        ("p384", "ec -pkeyopt ec_paramgen_curve:P-384"),
    ];
    for (name, kind) in kinds {
        authority(folder, name, kind);
    }
    let mut cases = 0;
    for (name, _) in kinds {
        for options in ["", " -keyid", " -noattr", " -md sha384"] {
            let sign = format!(
                "cms -sign -signer {name}.pem -inkey {name}.key -in x.json -binary -outform PEM -out x.p7s{options}"
            );
            assert!(openssl(folder, &sign), "{sign}");
            for root in ["rsa", "p256"] {
                for content in ["x.json", "other.json"] {
                    let verify = format!(
                        "cms -verify -in x.p7s -inform PEM -content {content} -binary -CAfile {root}-root.pem -out out"
                    );
                    let theirs = openssl(folder, &verify);
                    let ours = judged(folder, content, &format!("{root}-root.pem"), Some("x.p7s"));
                    assert_eq!(
                        ours.is_empty(),
                        theirs,
                        "{name}{options} {root} {content}: {ours}"
                    );
                    assert_eq!(theirs, name == root && content == "x.json");
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} signatures were judged alike");
    // Not detached: what is inside could be another file.
    assert!(openssl(
        folder,
        "cms -sign -nodetach -signer rsa.pem -inkey rsa.key -in x.json -binary -outform PEM -out in.p7s"
    ));
    assert!(
        judged(folder, "x.json", "rsa-root.pem", Some("in.p7s"))
            .contains(&SignatureRefusal::Malformed.to_string())
    );
    // A fleet that believes somebody takes nothing unsigned, and no signature of nobody.
    assert!(judged(folder, "x.json", "rsa-root.pem", None).contains("signed files only"));
    fs::write(folder.join("none.pem"), "").unwrap();
    assert!(judged(folder, "x.json", "none.pem", Some("x.p7s")).contains("no certificate in it"));
}

/// What is said about a fleet with this file, this root and this signature.
fn judged(folder: &Path, content: &str, root: &str, signature: Option<&str>) -> String {
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let mut files = with_mud(&text(content));
    files.push(source("mud/root.pem", text(root)));
    if let Some(signature) = signature {
        files.push(source("mud/camera.p7s", text(signature)));
    }
    lines(&check_mud_signatures(&fleet(&files), &files, now()))
}

#[test]
fn no_mutation_of_a_signature_makes_it_panic_or_hold() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: there is no openssl");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    authority(folder, "p256", "ec -pkeyopt ec_paramgen_curve:P-256");
    fs::write(folder.join("x.json"), LAMP).unwrap();
    assert!(openssl(
        folder,
        "cms -sign -signer p256.pem -inkey p256.key -in x.json -binary -outform DER -out x.der"
    ));
    let signature = fs::read(folder.join("x.der")).unwrap();
    let pem = fs::read_to_string(folder.join("p256-root.pem")).unwrap();
    use rustls_pki_types::pem::PemObject;
    let root = rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let verify = |bytes: &[u8]| {
        access::verify_signature(LAMP.as_bytes(), bytes, std::slice::from_ref(&root), now())
    };
    assert_eq!(verify(&signature), Ok(()));
    for at in 0..signature.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = signature.clone();
            bytes[at] ^= change;
            // Where nothing is signed (versions, names of algorithms twice said), it may still hold;
            // the content never becomes another.
            let _ = verify(&bytes);
            assert!(
                access::verify_signature(b"{}", &bytes, std::slice::from_ref(&root), now())
                    .is_err()
            );
        }
        assert!(verify(&signature[..at]).is_err(), "cut at {at}");
    }
}
