//! The keep from outside: what it signs, what it refuses, and how its files are kept.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that unwraps is a test that fails loudly"
)]

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use identity::profile::{self, Issuer, NameLimits, ProfileError, Terms, Unsigned};
use identity::{Realm, crl};
use model::{TenantId, Timestamp};
use signer::{HighMark, Purpose, RootBundle, Rules, SealKey, Signer, SignerError};
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

/// The key of the CA that a first start makes.
fn first(signer: &Signer) -> Vec<u8> {
    let [key] = signer.issuing_keys().try_into().unwrap();
    key.public
}

impl Plane {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let seal = SealKey::create(&dir.path().join("seal.key")).unwrap();
        let keys = dir.path().join("keys");
        Signer::create(&keys, &seal, None).unwrap();
        let signer = Signer::open(&keys, &seal, None, rules()).unwrap();
        let make = |purpose, unsigned: Result<Unsigned, ProfileError>| {
            let unsigned = unsigned.unwrap();
            let signature = signer.sign(purpose, unsigned.to_be_signed()).unwrap();
            Issuer::from_certificate(&unsigned.assemble(&signature).unwrap()).unwrap()
        };
        let realm = realm("fleet.example");
        let root_key = signer.root_public_key().unwrap();
        let root_terms = terms(&root_key, 7000 * DAY);
        let root = make(Purpose::RootCertificate, profile::root(&realm, &root_terms));
        let key = first(&signer);
        let issuing_terms = terms(&key, 1800 * DAY);
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
    let server_terms = terms(plane.signer.server_public_key(), 30 * DAY);
    let root_key = plane.signer.root_public_key().unwrap();
    let root_terms = terms(&root_key, DAY);
    let issuing_key = first(&plane.signer);
    let issuing_terms = terms(&issuing_key, DAY);
    let tbs = |unsigned: Result<Unsigned, ProfileError>| unsigned.unwrap().to_be_signed().to_vec();
    let point = identity::StatusPoint::new("http://status.example", 4).unwrap();
    let url = Some(&point);
    let (device, service) = ("d1".parse().unwrap(), "s1".parse().unwrap());
    let operator = "ann".parse().unwrap();
    let next = NOW.plus(DAY);
    let list = crl::crl(&plane.issuing, 1, &[], &[], NOW, next).unwrap();
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
        (
            Purpose::OperatorCertificate,
            tbs(profile::operator(
                &realm,
                &operator,
                None,
                &plane.issuing,
                &leaf_terms,
            )),
        ),
        (Purpose::Crl, list.to_be_signed().to_vec()),
        (Purpose::Checkpoint, checkpoint(3, ROOT_A).into_bytes()),
    ];
    let before = total(&plane.signer);
    for (purpose, bytes) in &made {
        let signature = plane.signer.sign(*purpose, bytes).unwrap();
        if *purpose == Purpose::Checkpoint {
            UnparsedPublicKey::new(&ED25519, plane.signer.log_public_key())
                .verify(bytes, &signature)
                .unwrap();
        } else {
            let key = match purpose {
                Purpose::RootCertificate | Purpose::IssuingCertificate => &root_key,
                _ => &issuing_key,
            };
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
                .verify(bytes, &signature)
                .unwrap();
        }
        for other in Purpose::ALL {
            if other != *purpose {
                plane.rule(other, bytes);
            }
        }
    }
    // Refusals do not count.
    assert_eq!(total(&plane.signer), before + made.len() as u64);
}

fn total(signer: &Signer) -> u64 {
    let counts = signer.counts().unwrap_or_default();
    counts.iter().map(|count| count.signed).sum()
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

/// An issuing CA of some uses: key, certificate by the root, and what the room makes of it.
fn scoped(plane: &Plane, name: &str, uses: &str) -> Issuer {
    let (authority, uses) = (name.parse().unwrap(), uses.parse().unwrap());
    let key = plane.signer.create_issuing(&authority, uses).unwrap();
    let limits = NameLimits::of(uses, &realm("fleet.example"), &["localhost", "10.0.0.1"]);
    let unsigned = profile::issuing_of(
        &realm("fleet.example"),
        &authority,
        &limits,
        &plane.root,
        &terms(&key.public, 1800 * DAY),
    )
    .unwrap();
    let signature = plane
        .signer
        .sign(Purpose::IssuingCertificate, unsigned.to_be_signed())
        .unwrap();
    Issuer::from_certificate(&unsigned.assemble(&signature).unwrap()).unwrap()
}

#[test]
fn a_ca_signs_nothing_but_the_uses_it_was_made_for() {
    let plane = Plane::new();
    let realm = realm("fleet.example");
    let key = foreign_key();
    let term = terms(&key, DAY);
    let own = terms(plane.signer.server_public_key(), DAY);
    let (device, service) = ("d1".parse().unwrap(), "s1".parse().unwrap());
    let cameras = scoped(&plane, "cameras", "device");
    let doors = scoped(&plane, "doors", "server");
    let tbs = |unsigned: Result<Unsigned, ProfileError>| unsigned.unwrap().to_be_signed().to_vec();

    let good = tbs(profile::ldevid(&realm, &device, None, &cameras, &term));
    assert!(plane.signer.sign(Purpose::DeviceCertificate, &good).is_ok());
    let good = tbs(profile::server(
        &realm,
        &["localhost", "10.0.0.1"],
        &doors,
        &own,
    ));
    assert!(plane.signer.sign(Purpose::ServerCertificate, &good).is_ok());
    let list = crl::crl(&cameras, 1, &[], &[], NOW, NOW.plus(DAY)).unwrap();
    assert!(plane.signer.sign(Purpose::Crl, list.to_be_signed()).is_ok());

    // A device's CA names no service, whatever the room says.
    let wrong = tbs(profile::service(&realm, &service, None, &cameras, &term));
    assert_eq!(
        plane.rule(Purpose::ServiceCertificate, &wrong),
        "a CA signs the uses it was made for and no other"
    );
    // The room does not even build what the CA's name constraints forbid.
    for outside in [
        profile::server(&realm, &["localhost"], &cameras, &own),
        profile::server(&realm, &["evil.example"], &doors, &own),
        profile::server(&realm, &["10.0.0.2"], &doors, &own),
        profile::ldevid(&realm, &device, None, &doors, &term),
    ] {
        assert!(
            matches!(outside, Err(ProfileError::Lint { .. })),
            "{outside:?}"
        );
    }
    // Nor is a CA of some uses signed without its limits, or with those of another trust domain.
    let unlimited = "cameras-2".parse().unwrap();
    let key = plane
        .signer
        .create_issuing(&unlimited, "device".parse().unwrap())
        .unwrap();
    for limits in [
        NameLimits::Unlimited,
        NameLimits::TrustDomain("evil.example".into()),
        NameLimits::Servers(vec!["localhost".into()]),
    ] {
        let made = profile::issuing_of(
            &realm,
            &unlimited,
            &limits,
            &plane.root,
            &terms(&key.public, DAY),
        );
        plane.rule(Purpose::IssuingCertificate, &tbs(made));
    }
}

#[test]
fn a_key_s_uses_are_sealed_with_it() {
    let plane = Plane::new();
    scoped(&plane, "cameras", "device");
    let again = Signer::open(&plane.keys(), &plane.seal(), None, rules()).unwrap();
    assert_eq!(again.issuing_keys(), plane.signer.issuing_keys());
    let names = std::fs::read_dir(plane.keys()).unwrap();
    let name = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.starts_with("issuing.device."))
        .unwrap();
    let other = name.replace("issuing.device.", "issuing.every.");
    std::fs::rename(plane.keys().join(&name), plane.keys().join(other)).unwrap();
    let refused = Signer::open(&plane.keys(), &plane.seal(), None, rules()).err();
    assert!(matches!(refused, Some(SignerError::Unsealable { .. })));
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
    let issuing = first(&plane.signer);
    for own in [
        &plane.signer.root_public_key().unwrap(),
        &issuing,
        plane.signer.server_public_key(),
    ] {
        let tbs = plane.ldevid(&realm, own, DAY);
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
    let again = Signer::open(&plane.keys(), &plane.seal(), None, seeded).unwrap();
    assert!(sign(&again, 7, ROOT_A).is_err());
    assert!(sign(&again, 8, ROOT_A).is_err());
    assert!(sign(&again, 8, ROOT_B).is_ok());
}

#[test]
fn keys_survive_a_restart_and_are_never_overwritten() {
    let plane = Plane::new();
    let again = Signer::open(&plane.keys(), &plane.seal(), None, rules()).unwrap();
    assert_eq!(again.root_public_key(), plane.signer.root_public_key());
    assert_eq!(again.issuing_keys(), plane.signer.issuing_keys());
    assert_eq!(again.log_public_key(), plane.signer.log_public_key());
    assert_eq!(again.server_public_key(), plane.signer.server_public_key());
    assert_eq!(*again.tls_key(), *plane.signer.tls_key());
    let exists = Signer::create(&plane.keys(), &plane.seal(), None);
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
    Signer::create(&keys, &seal, None).unwrap();
    assert!(Signer::open(&keys, &seal, None, rules()).is_ok());
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
    let open = |seal: &SealKey| Signer::open(&keys, seal, None, rules()).err();

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
    let open = |seal: &SealKey| Signer::open(&keys, seal, None, rules()).err().unwrap();
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
    std::fs::write(keys.join("root"), &root).unwrap();
    std::fs::rename(keys.join("log"), keys.join("kept")).unwrap();
    assert!(matches!(open(&plane.seal()), SignerError::Io { .. }));
    std::fs::rename(keys.join("kept"), keys.join("log")).unwrap();
    std::fs::remove_file(keys.join("root")).unwrap();
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

/// What a power cut leaves: the count's file of another boot.
fn as_if_after_a_power_cut(keys: &Path) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(keys.join("counts"))
        .unwrap();
    file.write_all_at(b"another-boot", 24).unwrap();
}

fn devices_signed(signer: &Signer) -> (u64, u64) {
    let counts = signer.counts().unwrap_or_default();
    let mut found = counts
        .iter()
        .filter(|count| count.purpose == Purpose::DeviceCertificate);
    let first = found.next().unwrap();
    assert!(found.next().is_none());
    (first.signed, first.signed_max)
}

#[test]
fn counts_are_exact_after_a_crash_and_bounded_after_a_power_cut() {
    let plane = Plane::new();
    let tbs = plane.ldevid(&realm("fleet.example"), &foreign_key(), DAY);
    let sign = |signer: &Signer, times: u64| {
        for _ in 0..times {
            signer.sign(Purpose::DeviceCertificate, &tbs).unwrap();
        }
    };
    let open = || Signer::open(&plane.keys(), &plane.seal(), None, rules()).unwrap();
    let signer = open();
    sign(&signer, 300);
    // A process that is killed runs no destructor.
    std::mem::forget(signer);
    let signer = open();
    assert_eq!(devices_signed(&signer), (300, 300));
    sign(&signer, 5);
    std::mem::forget(signer);
    as_if_after_a_power_cut(&plane.keys());
    let signer = open();
    let (signed, signed_max) = devices_signed(&signer);
    assert_eq!(signed, 305);
    assert!((306..=305 + 256).contains(&signed_max), "{signed_max}");
    // As long as nobody has said what the log knows, it stays in doubt.
    drop(signer);
    assert_eq!(devices_signed(&open()), (signed, signed_max));
    let signer = open();
    let known: Vec<_> = signer
        .counts()
        .unwrap()
        .into_iter()
        .map(|count| signer::Count {
            signed: if count.purpose == Purpose::DeviceCertificate {
                305
            } else {
                count.signed
            },
            ..count
        })
        .collect();
    signer.settle(&known).unwrap();
    assert_eq!(devices_signed(&signer), (305, 305));
    sign(&signer, 1);
    drop(signer);
    as_if_after_a_power_cut(&plane.keys());
    assert_eq!(
        devices_signed(&open()),
        (306, 306),
        "an orderly stop leaves no doubt"
    );
}

#[test]
fn a_root_in_a_bundle_opens_with_its_passphrase_alone_and_signs_cas_alone() {
    let plane = Plane::new();
    let passphrase = b"correct horse battery staple";
    let short = plane.signer.export_root(b"certificate", b"too short");
    assert!(matches!(short, Err(SignerError::Passphrase { .. })));
    let bundle = plane
        .signer
        .export_root(b"certificate", passphrase)
        .unwrap();
    let text = bundle.to_text();
    let read = RootBundle::read(&text).unwrap();
    assert_eq!(read, bundle);
    let wrong = read.open(b"incorrect horse battery");
    assert!(matches!(wrong.err(), Some(SignerError::Passphrase { .. })));
    // Whoever changes what can be read is found out.
    let changed = RootBundle::read(&text.replace("fleet.example", "evil.example")).unwrap();
    assert!(matches!(
        changed.open(passphrase).err(),
        Some(SignerError::Passphrase { .. })
    ));
    for bad in [
        "",
        "fleetward root bundle 1\n",
        &text[1..],
        &format!("{text}\n"),
    ] {
        assert!(matches!(RootBundle::read(bad), Err(SignerError::NoBundle)));
    }

    let open = read.open(passphrase).unwrap();
    assert_eq!(open.public_key(), plane.signer.root_public_key().unwrap());
    let (realm, key) = (realm("fleet.example"), foreign_key());
    let good = profile::issuing(&realm, &plane.root, &terms(&key, 900 * DAY)).unwrap();
    open.sign(Purpose::IssuingCertificate, good.to_be_signed())
        .unwrap();
    let device = plane.ldevid(&realm, &key, DAY);
    for purpose in Purpose::ALL {
        if purpose != Purpose::IssuingCertificate {
            assert!(
                open.sign(purpose, good.to_be_signed()).is_err(),
                "{purpose:?}"
            );
        }
        assert!(open.sign(purpose, &device).is_err(), "{purpose:?}");
    }

    // Once it is moved, nothing on this machine makes a CA.
    plane.signer.destroy_root().unwrap();
    assert_eq!(plane.signer.root_public_key(), None);
    plane.rule(Purpose::IssuingCertificate, good.to_be_signed());
    assert!(matches!(
        plane.signer.destroy_root(),
        Err(SignerError::NoRoot)
    ));
    let again = Signer::open(&plane.keys(), &plane.seal(), None, rules()).unwrap();
    assert_eq!(again.root_public_key(), None);
}

/// Whoever may write the database but does not hold the seal key puts one secret in another's place.
#[test]
fn a_secret_kept_elsewhere_is_unsealed_under_its_own_name_and_key_alone() {
    let (plane, other) = (Plane::new(), Plane::new());
    let (seal, secret) = (plane.seal(), b"a secret of some length");
    let sealed = seal.seal("acme-account", secret).unwrap();
    assert_eq!(*seal.unseal("acme-account", &sealed).unwrap(), secret);
    assert!(!sealed.windows(8).any(|part| part == &secret[..8]));
    assert_ne!(sealed, seal.seal("acme-account", secret).unwrap());
    let mut refused = vec![
        seal.unseal("acme-certificate", &sealed),
        other.seal().unseal("acme-account", &sealed),
        seal.unseal("acme-account", &sealed[..20]),
        seal.unseal("acme-account", b""),
        // The file of a key is no secret from elsewhere.
        seal.unseal("log", &std::fs::read(plane.keys().join("log")).unwrap()),
    ];
    for place in [0, 30, sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[place] ^= 1;
        refused.push(seal.unseal("acme-account", &changed));
    }
    for one in refused {
        assert!(matches!(one, Err(SignerError::Unsealable { .. })));
    }
}

#[test]
fn a_root_in_a_ceremony_signs_its_own_list_and_no_other() {
    let root = signer::OpenRoot::generate("fleet.example", tenant()).unwrap();
    let issuer_of = |root: &signer::OpenRoot| {
        let unsigned = profile::root(
            &realm("fleet.example"),
            &terms(root.public_key(), 300 * DAY),
        )
        .unwrap();
        let signature = (root.sign(Purpose::RootCertificate, unsigned.to_be_signed())).unwrap();
        Issuer::from_certificate(&unsigned.assemble(&signature).unwrap()).unwrap()
    };
    let other = signer::OpenRoot::generate("fleet.example", tenant()).unwrap();
    let list = |issuer: &Issuer| crl::crl(issuer, 1, &[], &[], NOW, NOW.plus(DAY)).unwrap();
    let own = list(&issuer_of(&root));
    let signature = root.sign(Purpose::Crl, own.to_be_signed()).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, root.public_key())
        .verify(own.to_be_signed(), &signature)
        .unwrap();
    let foreign = list(&issuer_of(&other));
    for (purpose, bytes) in [
        (Purpose::Crl, foreign.to_be_signed()),
        (Purpose::IssuingCertificate, own.to_be_signed()),
        (Purpose::LinkCertificate, own.to_be_signed()),
    ] {
        let refused = root.sign(purpose, bytes);
        assert!(
            matches!(refused, Err(SignerError::Refused { .. })),
            "{purpose:?}"
        );
    }
}
