//! OpenSSL reads what we make.

use crate::support::*;
use identity::{StatusPoint, crl, est, profile};
use model::{Revocable, RevocationReason, Timestamp};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

pub fn is_here() -> bool {
    let here = Command::new("openssl").arg("version").output().is_ok();
    if !here {
        println!("skipped: no openssl on this machine");
    }
    here
}

pub fn run(dir: &Path, arguments: &str) -> Output {
    Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .output()
        .unwrap()
}

/// Standard output, if it succeeded.
pub fn read(dir: &Path, arguments: &str) -> String {
    let output = run(dir, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn put(dir: &Path, name: &str, der: &[&[u8]]) {
    std::fs::write(dir.join(name), est::pem(der)).unwrap();
}

/// At a time within the life of everything made at `NOW`.
pub fn at() -> String {
    format!(
        "-attime {}",
        NOW.plus(Duration::from_secs(3600)).as_seconds()
    )
}

#[test]
fn openssl_verifies_every_profile() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let world = World::new();
    let key = Key::new();
    let issuer = world.issuing.issuer();
    let terms = key.terms(NOW, 30 * DAY);
    put(dir, "root.pem", &[&world.root.der]);
    put(dir, "issuing.pem", &[&world.issuing.der]);
    put(dir, "factory.pem", &[&world.factory.der]);
    let point = StatusPoint::new("http://status.example", 1).unwrap();
    let url = Some(&point);
    let made = [
        (
            "ldevid",
            "sslclient",
            profile::ldevid(&realm(), &device_id("d1"), url, &issuer, &terms),
        ),
        (
            "service",
            "sslclient",
            profile::service(&realm(), &"billing".parse().unwrap(), None, &issuer, &terms),
        ),
        (
            "server",
            "sslserver",
            profile::server(
                &realm(),
                &["localhost", "127.0.0.1", "::1"],
                &issuer,
                &terms,
            ),
        ),
    ];
    for (name, purpose, unsigned) in made {
        put(dir, "leaf.pem", &[&world.issuing.finish(unsigned.unwrap())]);
        let arguments = format!(
            "verify -x509_strict -purpose {purpose} {} -CAfile root.pem -untrusted issuing.pem \
             leaf.pem",
            at()
        );
        assert!(read(dir, &arguments).contains("OK"), "{name}");
        let text = read(dir, "x509 -in leaf.pem -noout -text");
        assert!(
            text.contains("CA:FALSE") && text.contains("Digital Signature"),
            "{text}"
        );
        assert!(text.contains("Not Before: Oct 31 23:50:00 2026"), "{text}");
        assert!(text.contains("Not After : Dec  1 00:00:00 2026"), "{text}");
    }
    put(
        dir,
        "idevid.pem",
        &[&world.factory.idevid("maker", "SN 00/1#2", &key)],
    );
    let arguments = "verify -x509_strict -attime 3800000000 -CAfile factory.pem idevid.pem";
    assert!(read(dir, arguments).contains("OK"));
    let text = read(dir, "x509 -in idevid.pem -noout -text");
    assert!(
        text.contains("Not After : Dec 31 23:59:59 9999 GMT"),
        "{text}"
    );
    assert!(text.contains("serialNumber = SN 00/1#2"), "{text}");
    let wrong = run(
        dir,
        &format!(
            "verify -x509_strict -purpose sslserver {} -CAfile root.pem -untrusted issuing.pem \
             ldevid.pem",
            at()
        ),
    );
    assert!(!wrong.status.success());
}

#[test]
fn openssl_reads_our_cms_with_the_leaf_first() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut world = World::new();
    let leaf = world.issue("d1", &Key::new());
    // Larger than the root: DER's order of a SET would put it last.
    let order = [leaf.as_slice(), &world.root.der, &world.issuing.der];
    std::fs::write(dir.join("c.p7"), est::certs_only(&order).unwrap()).unwrap();
    let text = read(dir, "pkcs7 -inform DER -in c.p7 -print_certs -noout");
    let subjects: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("subject"))
        .collect();
    assert_eq!(subjects.len(), 3, "{text}");
    assert!(
        subjects[0].contains("CN = d1") && subjects[1].contains("Root CA"),
        "{text}"
    );
    let cms = read(dir, "cms -cmsout -inform DER -in c.p7 -print -noout");
    assert!(cms.contains("signedData"), "{cms}");

    let body = est::encode_body(&est::certs_only(&[&leaf]).unwrap());
    std::fs::write(dir.join("body"), &body).unwrap();
    let text = read(dir, "base64 -d -A -in body -out body.p7");
    assert!(text.is_empty());
    let text = read(dir, "pkcs7 -inform DER -in body.p7 -print_certs -noout");
    assert!(text.contains("CN = d1"));
}

#[test]
fn openssl_obeys_our_crl() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut world = World::new();
    let (gone, kept) = (
        world.issue("d1", &Key::new()),
        world.issue("d1", &Key::new()),
    );
    let issuer = world.issuing.issuer();
    put(dir, "root.pem", &[&world.root.der]);
    put(dir, "issuing.pem", &[&world.issuing.der]);
    put(dir, "gone.pem", &[&gone]);
    put(dir, "kept.pem", &[&kept]);
    let publish = |world: &World, number: u64| {
        let entries = world
            .registry
            .crl_entries(issuer.id(), crl::Shard::WHOLE, NOW);
        let next = NOW.plus(DAY);
        let unsigned = crl::crl(&issuer, number, &[], &entries, NOW, next).unwrap();
        let signature = world.issuing.key.sign(unsigned.to_be_signed());
        std::fs::write(dir.join("list.crl"), unsigned.assemble(&signature).unwrap()).unwrap();
        read(dir, "crl -inform DER -in list.crl -out list.pem");
        let checked = read(dir, "crl -in list.pem -noout -CAfile issuing.pem -text");
        assert!(checked.contains("Version 2 (0x1)"), "{checked}");
        checked
    };
    let verify = |name: &str| {
        let arguments = format!(
            "verify -x509_strict -crl_check {} -CAfile root.pem -untrusted issuing.pem -CRLfile \
             list.pem {name}",
            at()
        );
        run(dir, &arguments)
    };
    assert!(publish(&world, 1).contains("No Revoked Certificates"));
    assert!(verify("gone.pem").status.success());
    world
        .registry
        .apply(&identity::Fact::Revoked {
            what: Revocable::Certificate(identity::certificate_id(&gone).unwrap()),
            reason: RevocationReason::KeyCompromise,
            at: NOW,
        })
        .unwrap();
    let text = publish(&world, 2);
    assert!(
        text.contains("Key Compromise") && text.contains("X509v3 CRL Number"),
        "{text}"
    );
    let refused = verify("gone.pem");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("certificate revoked"),
        "{said}"
    );
    assert!(verify("kept.pem").status.success());
    world
        .registry
        .apply(&identity::Fact::Revoked {
            what: Revocable::Principal(device("d1")),
            reason: RevocationReason::Unspecified,
            at: NOW,
        })
        .unwrap();
    publish(&world, 3);
    assert!(!verify("kept.pem").status.success());
}

#[test]
fn no_certificate_outlives_its_issuer_or_its_cap() {
    let world = World::new();
    let key = Key::new();
    let issuer = world.issuing.issuer();
    let make = |now: Timestamp, lifetime| {
        let terms = key.terms(now, lifetime);
        profile::ldevid(&realm(), &device_id("d1"), None, &issuer, &terms)
    };
    // Between two whole seconds too.
    let odd = NOW.plus(Duration::from_millis(999));
    assert!(profile::root(&realm(), &key.terms(odd, DAY)).is_ok());
    assert!(make(odd, DAY).is_ok());
    let late = NOW.plus(5 * 365 * DAY).minus(DAY);
    assert_eq!(
        make(late, 30 * DAY).unwrap().not_after(),
        issuer.not_after()
    );
    let long = make(NOW, 4000 * DAY).unwrap();
    assert_eq!(
        long.not_after().since(long.not_before()),
        profile::LEAF_LIFETIME_MAX
    );
    let ended = make(late.plus(2 * DAY), DAY).unwrap_err();
    assert!(matches!(ended, profile::ProfileError::IssuerEnded { .. }));
    let empty = make(NOW, Duration::ZERO);
    assert!(empty.is_ok(), "a zero lifetime is the back-dating alone");
    assert!(profile::server(&realm(), &[], &issuer, &key.terms(NOW, DAY)).is_err());
    assert!(profile::server(&realm(), &["a b"], &issuer, &key.terms(NOW, DAY)).is_err());
    assert!(profile::server(&realm(), &["*.example"], &issuer, &key.terms(NOW, DAY)).is_err());
}
