//! The keep from outside: what it signs, what it refuses, and how its files are kept.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that unwraps is a test that fails loudly"
)]

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use identity::profile::{self, Issuer, ProfileError, Terms, Unsigned};
use identity::{Realm, crl};
use model::{TenantId, Timestamp};
use signer::{HighMark, KeyName, Purpose, Rules, SealKey, Signer, SignerError};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_seconds(1_793_491_200);
const DAY: Duration = Duration::from_secs(86_400);
const ORIGIN: &str = "log.fleet.example/acme";
const ROOT_A: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
const ROOT_B: &str = "57DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn realm(trust_domain: &str) -> Realm {
    Realm::new(trust_domain, tenant()).unwrap()
}

fn rules() -> Rules {
    Rules {
        trust_domain: "fleet.example".to_owned(),
        tenant: tenant(),
        leaf_lifetime_max: 40 * DAY,
        log_origin: ORIGIN.to_owned(),
        checkpoint: None,
    }
}

fn checkpoint(size: u64, root: &str) -> String {
    format!("{ORIGIN}\n{size}\n{root}\n")
}

/// A plane's first start: keys, root, issuing CA.
struct Plane {
    dir: tempfile::TempDir,
    signer: Signer,
    root: Issuer,
    issuing: Issuer,
}

fn terms(key: &[u8], lifetime: Duration) -> Terms<'_> {
    Terms {
        public_key: key,
        serial_random: [7; 16],
        now: NOW,
        lifetime,
    }
}

impl Plane {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let seal = SealKey::create(&dir.path().join("seal.key")).unwrap();
        let keys = dir.path().join("keys");
        Signer::create(&keys, &seal).unwrap();
        let signer = Signer::open(&keys, &seal, rules()).unwrap();
        let make = |purpose, unsigned: Result<Unsigned, ProfileError>| {
            let unsigned = unsigned.unwrap();
            let signature = signer.sign(purpose, unsigned.to_be_signed()).unwrap();
            Issuer::from_certificate(&unsigned.assemble(&signature).unwrap()).unwrap()
        };
        let realm = realm("fleet.example");
        let root_terms = terms(signer.public_key(KeyName::Root), 7000 * DAY);
        let root = make(Purpose::RootCertificate, profile::root(&realm, &root_terms));
        let issuing_terms = terms(signer.public_key(KeyName::Issuing), 1800 * DAY);
        let issuing = make(
            Purpose::IssuingCertificate,
            profile::issuing(&realm, &root, &issuing_terms),
        );
        Self {
            dir,
            signer,
            root,
            issuing,
        }
    }

    fn seal(&self) -> SealKey {
        SealKey::read(&self.dir.path().join("seal.key")).unwrap()
    }

    fn keys(&self) -> std::path::PathBuf {
        self.dir.path().join("keys")
    }

    fn ldevid(&self, realm: &Realm, key: &[u8], lifetime: Duration) -> Vec<u8> {
        let device = "d1".parse().unwrap();
        profile::ldevid(realm, &device, None, &self.issuing, &terms(key, lifetime))
            .unwrap()
            .to_be_signed()
            .to_vec()
    }

    fn rule(&self, purpose: Purpose, bytes: &[u8]) -> &'static str {
        match self.signer.sign(purpose, bytes) {
            Err(SignerError::Refused { rule, .. }) => rule,
            other => panic!("{purpose:?}: {other:?}"),
        }
    }
}

/// A device's public key.
fn foreign_key() -> Vec<u8> {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    AsDer::<PublicKeyX509Der>::as_der(pair.public_key())
        .unwrap()
        .as_ref()
        .to_vec()
}

#[test]
fn every_profile_of_the_room_is_signed_under_its_own_purpose_only() {
    let plane = Plane::new();
    let realm = realm("fleet.example");
    let key = foreign_key();
    let leaf_terms = terms(&key, 30 * DAY);
    let server_terms = terms(plane.signer.public_key(KeyName::Server), 30 * DAY);
    let root_terms = terms(plane.signer.public_key(KeyName::Root), DAY);
    let issuing_terms = terms(plane.signer.public_key(KeyName::Issuing), DAY);
    let tbs = |unsigned: Result<Unsigned, ProfileError>| unsigned.unwrap().to_be_signed().to_vec();
    let url = Some("http://crl.example/a.crl");
    let (device, service) = ("d1".parse().unwrap(), "s1".parse().unwrap());
    let next = NOW.plus(DAY);
    let list = crl::crl(&plane.issuing, 1, &[], NOW, next).unwrap();
    let made = [
        (
            Purpose::RootCertificate,
            tbs(profile::root(&realm, &root_terms)),
        ),
        (
            Purpose::IssuingCertificate,
            tbs(profile::issuing(&realm, &plane.root, &issuing_terms)),
        ),
        (
            Purpose::ServerCertificate,
            tbs(profile::server(
                &realm,
                &["localhost", "::1"],
                &plane.issuing,
                &server_terms,
            )),
        ),
        (
            Purpose::DeviceCertificate,
            tbs(profile::ldevid(
                &realm,
                &device,
                url,
                &plane.issuing,
                &leaf_terms,
            )),
        ),
        (
            Purpose::ServiceCertificate,
            tbs(profile::service(
                &realm,
                &service,
                None,
                &plane.issuing,
                &leaf_terms,
            )),
        ),
        (Purpose::Crl, list.to_be_signed().to_vec()),
        (Purpose::Checkpoint, checkpoint(3, ROOT_A).into_bytes()),
    ];
    let before = plane.signer.counts();
    for (purpose, bytes) in &made {
        let signature = plane.signer.sign(*purpose, bytes).unwrap();
        let (algorithm, name): (&dyn aws_lc_rs::signature::VerificationAlgorithm, _) = match purpose
        {
            Purpose::Checkpoint => (&ED25519, KeyName::Log),
            Purpose::RootCertificate | Purpose::IssuingCertificate => {
                (&ECDSA_P256_SHA256_ASN1, KeyName::Root)
            }
            _ => (&ECDSA_P256_SHA256_ASN1, KeyName::Issuing),
        };
        UnparsedPublicKey::new(algorithm, plane.signer.public_key(name))
            .verify(bytes, &signature)
            .unwrap();
        for other in Purpose::ALL {
            if other != *purpose {
                plane.rule(other, bytes);
            }
        }
    }
    for ((purpose, was), (_, is)) in before.iter().zip(plane.signer.counts()) {
        assert_eq!(is, was + 1, "{purpose:?}: refusals do not count");
    }
    let signature = plane
        .signer
        .sign(Purpose::Checkpoint, checkpoint(3, ROOT_A).as_bytes())
        .unwrap();
    UnparsedPublicKey::new(&ED25519, plane.signer.log_public_key())
        .verify(checkpoint(3, ROOT_A).as_bytes(), &signature)
        .unwrap();
}

#[test]
fn a_ca_is_not_signed_as_a_device() {
    let plane = Plane::new();
    let key = foreign_key();
    let realm = realm("fleet.example");
    // A CA certificate below our issuing CA, for the attacker's key.
    let ca = profile::issuing(&realm, &plane.issuing, &terms(&key, DAY)).unwrap();
    assert_eq!(
        plane.rule(Purpose::DeviceCertificate, ca.to_be_signed()),
        "a leaf is no CA"
    );
    // Or below the root, or as a root of its own.
    let ca = profile::issuing(&realm, &plane.root, &terms(&key, DAY)).unwrap();
    assert_eq!(
        plane.rule(Purpose::IssuingCertificate, ca.to_be_signed()),
        "a CA certificate is for our own key"
    );
    let root = profile::root(&realm, &terms(&key, DAY)).unwrap();
    plane.rule(Purpose::RootCertificate, root.to_be_signed());
}

#[test]
fn a_foreign_trust_domain_or_tenant_is_not_signed() {
    let plane = Plane::new();
    let key = foreign_key();
    let rule = "a client's URI is in our trust domain and tenant";
    let tbs = plane.ldevid(&realm("evil.example"), &key, DAY);
    assert_eq!(plane.rule(Purpose::DeviceCertificate, &tbs), rule);
    let other = Realm::new("fleet.example", "other".parse().unwrap()).unwrap();
    let tbs = plane.ldevid(&other, &key, DAY);
    assert_eq!(plane.rule(Purpose::DeviceCertificate, &tbs), rule);
    // A device is not signed as a service, nor for longer than configured, nor for our own keys.
    let realm = realm("fleet.example");
    plane.rule(
        Purpose::ServiceCertificate,
        &plane.ldevid(&realm, &key, DAY),
    );
    assert_eq!(
        plane.rule(
            Purpose::DeviceCertificate,
            &plane.ldevid(&realm, &key, 41 * DAY)
        ),
        "a leaf lives no longer than configured"
    );
    for name in [KeyName::Root, KeyName::Issuing, KeyName::Server] {
        let tbs = plane.ldevid(&realm, plane.signer.public_key(name), DAY);
        let rule = plane.rule(Purpose::DeviceCertificate, &tbs);
        assert_eq!(rule, "a client's key is none of ours");
    }
    let server = profile::server(&realm, &["localhost"], &plane.issuing, &terms(&key, DAY));
    assert_eq!(
        plane.rule(Purpose::ServerCertificate, server.unwrap().to_be_signed()),
        "a server certificate is for our server key"
    );
}

#[test]
fn a_mutated_certificate_is_not_signed_beyond_its_profile() {
    let plane = Plane::new();
    let good = plane.ldevid(&realm("fleet.example"), &foreign_key(), DAY);
    assert!(plane.signer.sign(Purpose::DeviceCertificate, &good).is_ok());
    for at in 0..good.len() {
        for value in [0x00, 0x01, 0x30, 0x7f, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= value;
            if plane
                .signer
                .sign(Purpose::DeviceCertificate, &bytes)
                .is_ok()
            {
                // What passed still names a device of ours, for a client, for a bounded time.
                let contains = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
                assert!(
                    contains(b"spiffe://fleet.example/acme/device/"),
                    "byte {at}"
                );
                assert!(contains(&[0x2b, 6, 1, 5, 5, 7, 3, 2]), "byte {at}");
            }
            for purpose in Purpose::ALL {
                if purpose != Purpose::DeviceCertificate {
                    plane.rule(purpose, &bytes);
                }
            }
        }
    }
    let trailing = [good.as_slice(), &[0]].concat();
    plane.rule(Purpose::DeviceCertificate, &trailing);
}

#[test]
fn a_lower_checkpoint_is_not_signed_even_after_a_restart() {
    let plane = Plane::new();
    let sign = |signer: &Signer, size, root| {
        signer.sign(Purpose::Checkpoint, checkpoint(size, root).as_bytes())
    };
    assert!(sign(&plane.signer, 7, ROOT_A).is_ok());
    assert!(sign(&plane.signer, 7, ROOT_A).is_ok());
    assert!(sign(&plane.signer, 7, ROOT_B).is_err());
    assert!(sign(&plane.signer, 6, ROOT_A).is_err());
    let foreign = checkpoint(9, ROOT_A).replace(ORIGIN, "log.other");
    plane.rule(Purpose::Checkpoint, foreign.as_bytes());
    assert!(sign(&plane.signer, 8, ROOT_B).is_ok());

    let seeded = Rules {
        checkpoint: Some(HighMark::read(&checkpoint(8, ROOT_B), ORIGIN).unwrap()),
        ..rules()
    };
    let again = Signer::open(&plane.keys(), &plane.seal(), seeded).unwrap();
    assert!(sign(&again, 7, ROOT_A).is_err());
    assert!(sign(&again, 8, ROOT_A).is_err());
    assert!(sign(&again, 8, ROOT_B).is_ok());
}

#[test]
fn keys_survive_a_restart_and_are_never_overwritten() {
    let plane = Plane::new();
    let again = Signer::open(&plane.keys(), &plane.seal(), rules()).unwrap();
    for name in KeyName::ALL {
        assert_eq!(again.public_key(name), plane.signer.public_key(name));
    }
    assert_eq!(*again.tls_key(), *plane.signer.tls_key());
    let exists = Signer::create(&plane.keys(), &plane.seal());
    assert!(matches!(exists, Err(SignerError::Exists { .. })));
    let exists = SealKey::create(&plane.dir.path().join("seal.key"));
    assert!(matches!(exists, Err(SignerError::Exists { .. })));
}

#[test]
fn nothing_of_a_key_is_in_its_file() {
    let plane = Plane::new();
    let key = plane.signer.tls_key();
    let file = std::fs::read(plane.keys().join("server")).unwrap();
    // Any 8 bytes of the PKCS#8 form would do to tell.
    assert!(
        key.windows(8)
            .all(|part| !file.windows(8).any(|other| other == part))
    );
}

#[test]
fn a_first_start_that_was_cut_off_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    let seal = SealKey::create(&dir.path().join("seal.key")).unwrap();
    let keys = dir.path().join("keys");
    std::fs::create_dir(dir.path().join("keys.new")).unwrap();
    std::fs::write(dir.path().join("keys.new/root"), "half").unwrap();
    Signer::create(&keys, &seal).unwrap();
    assert!(Signer::open(&keys, &seal, rules()).is_ok());
    assert!(!dir.path().join("keys.new").exists());
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn files_open_to_others_are_refused() {
    let plane = Plane::new();
    let seal_path = plane.dir.path().join("seal.key");
    let keys = plane.keys();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&seal_path), mode(&keys), mode(&keys.join("root"))),
        (0o600, 0o700, 0o600)
    );
    let open = |seal: &SealKey| Signer::open(&keys, seal, rules()).err();

    for (path, bad, good) in [
        (keys.clone(), 0o750, 0o700),
        (keys.clone(), 0o701, 0o700),
        (keys.join("root"), 0o640, 0o600),
        (keys.join("log"), 0o604, 0o600),
    ] {
        chmod(&path, bad);
        let error = open(&plane.seal()).unwrap();
        assert!(
            matches!(&error, SignerError::OpenToOthers { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("chmod"), "{error}");
        chmod(&path, good);
    }
    for bad in [0o640, 0o604] {
        chmod(&seal_path, bad);
        let error = SealKey::read(&seal_path).err();
        assert!(matches!(error, Some(SignerError::OpenToOthers { .. })));
        chmod(&seal_path, 0o600);
    }
    chmod(plane.dir.path(), 0o777);
    let error = SealKey::read(&seal_path).err();
    assert!(matches!(error, Some(SignerError::OpenToOthers { .. })));
    chmod(plane.dir.path(), 0o700);
    assert!(open(&plane.seal()).is_none());
}

#[test]
fn changed_swapped_missing_and_foreign_files_are_refused() {
    let plane = Plane::new();
    let keys = plane.keys();
    let open = |seal: &SealKey| Signer::open(&keys, seal, rules()).err().unwrap();
    let other = SealKey::create(&plane.dir.path().join("other.key")).unwrap();
    assert!(matches!(open(&other), SignerError::Unsealable { .. }));

    let root = std::fs::read(keys.join("root")).unwrap();
    let issuing = std::fs::read(keys.join("issuing")).unwrap();
    for at in [0, root.len() / 2, root.len() - 1] {
        let mut changed = root.clone();
        changed[at] ^= 1;
        std::fs::write(keys.join("root"), changed).unwrap();
        assert!(matches!(
            open(&plane.seal()),
            SignerError::Unsealable { .. }
        ));
    }
    for bad in [Vec::new(), root[..20].to_vec(), issuing] {
        std::fs::write(keys.join("root"), bad).unwrap();
        assert!(matches!(
            open(&plane.seal()),
            SignerError::Unsealable { .. }
        ));
    }
    std::fs::write(keys.join("root"), vec![0; 5000]).unwrap();
    assert!(matches!(open(&plane.seal()), SignerError::Unusable { .. }));
    std::fs::remove_file(keys.join("root")).unwrap();
    assert!(matches!(open(&plane.seal()), SignerError::Io { .. }));
    std::os::unix::fs::symlink(keys.join("issuing"), keys.join("root")).unwrap();
    assert!(matches!(open(&plane.seal()), SignerError::Io { .. }));
    let short = plane.dir.path().join("short.key");
    std::fs::write(&short, [1; 31]).unwrap();
    chmod(&short, 0o600);
    assert!(matches!(
        SealKey::read(&short).err(),
        Some(SignerError::Unusable { .. })
    ));
}
