//! CA keys in a PKCS #11 token: SoftHSM, a real one but for the metal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that unwraps is a test that fails loudly"
)]

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};
use identity::Realm;
use identity::profile::{self, Issuer, Terms};
use model::{TenantId, Timestamp};
use signer::{Purpose, Rules, SealKey, Signer, SignerError, TokenPlace};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const DAY: Duration = Duration::from_secs(86_400);
/// Set for the child that has the token's folder in its environment.
const IN_CHILD: &str = "FLEETWARD_TEST_TOKEN";

fn rules() -> Rules {
    Rules {
        trust_domain: "fleet.example".to_owned(),
        tenant: TenantId::new("acme").unwrap(),
        leaf_lifetime_max: 40 * DAY,
        log_origin: "log.fleet.example/acme".to_owned(),
        checkpoint: None,
    }
}

/// SoftHSM reads where its tokens are from the environment when its library is loaded, which is
/// this process's: so the test runs itself once more with that set.
#[test]
fn ca_keys_are_born_in_a_token_and_sign_there() {
    if !Path::new(MODULE).exists() || Command::new("softhsm2-util").arg("-v").output().is_err() {
        println!("skipped: softhsm2 is not here");
        return;
    }
    if std::env::var_os(IN_CHILD).is_some() {
        return in_child();
    }
    let scratch = tempfile::tempdir().unwrap();
    let tokens = scratch.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let conf = scratch.path().join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&conf, text).unwrap();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "fleetward"])
        .args(["--so-pin", "87654321", "--pin", "12345678"])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let again = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "ca_keys_are_born_in_a_token_and_sign_there",
            "--nocapture",
        ])
        .env("SOFTHSM2_CONF", &conf)
        .env(IN_CHILD, scratch.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&again.stdout);
    assert!(
        again.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&again.stderr)
    );
    assert!(told.contains("1 passed"), "{told}");
}

fn in_child() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = std::path::PathBuf::from(std::env::var_os(IN_CHILD).unwrap());
    let pin_file = scratch.join("pin");
    std::fs::write(&pin_file, "12345678\n").unwrap();
    std::fs::set_permissions(&pin_file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let place = TokenPlace {
        module: MODULE.into(),
        label: "fleetward".into(),
        pin_file: pin_file.clone(),
    };
    let seal = SealKey::create(&scratch.join("seal.key")).unwrap();
    let keys = scratch.join("keys");
    let create = || Signer::create(&keys, &seal, Some(&place));
    assert!(matches!(create(), Err(SignerError::OpenToOthers { .. })));
    std::fs::set_permissions(&pin_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    create().unwrap();
    assert!(!keys.join("root").exists() && !keys.join("issuing").exists());

    let signer = Signer::open(&keys, &seal, Some(&place), rules()).unwrap();
    let realm = Realm::new("fleet.example", TenantId::new("acme").unwrap()).unwrap();
    let now = Timestamp::from_seconds(1_793_491_200);
    fn terms(public_key: &[u8], now: Timestamp, days: u32) -> Terms<'_> {
        Terms {
            public_key,
            serial_random: [7; 16],
            now,
            lifetime: DAY * days,
        }
    }
    let sign = |signer: &Signer, purpose, unsigned: profile::Unsigned| {
        let signature = signer.sign(purpose, unsigned.to_be_signed()).unwrap();
        unsigned.assemble(&signature).unwrap()
    };
    let root_key = signer.root_public_key().unwrap();
    let root = profile::root(&realm, &terms(&root_key, now, 7000)).unwrap();
    let root = sign(&signer, Purpose::RootCertificate, root);
    let issuer = Issuer::from_certificate(&root).unwrap();
    // One is made at run time, in the token too.
    let cameras = "cameras".parse().unwrap();
    let key = signer
        .create_issuing(&cameras, "device".parse().unwrap())
        .unwrap();
    let limits = profile::NameLimits::TrustDomain("fleet.example".into());
    let term = terms(&key.public, now, 3000);
    let issuing = profile::issuing_of(&realm, &cameras, &limits, &issuer, &term).unwrap();
    let issuing = sign(&signer, Purpose::IssuingCertificate, issuing);

    // A restart finds both, and a signature of the token is one that others verify.
    let known = signer.issuing_keys();
    drop(signer);
    let signer = Signer::open(&keys, &seal, Some(&place), rules()).unwrap();
    assert_eq!(signer.issuing_keys(), known);
    assert_eq!(signer.root_public_key().as_ref(), Some(&root_key));
    let device = "d1".parse().unwrap();
    let issuer = Issuer::from_certificate(&issuing).unwrap();
    let term = terms(&root_key, now, 1);
    let own = profile::ldevid(&realm, &device, None, &issuer, &term).unwrap();
    let refused = signer.sign(Purpose::DeviceCertificate, own.to_be_signed());
    assert!(matches!(refused, Err(SignerError::Refused { .. })));
    for _ in 0..20 {
        // Leading zeros of r and s come in one of some hundred signatures: DER drops them.
        let list = identity::crl::crl(&issuer, 1, &[], &[], now, now.plus(DAY)).unwrap();
        let signature = signer.sign(Purpose::Crl, list.to_be_signed()).unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.public)
            .verify(list.to_be_signed(), &signature)
            .unwrap();
    }

    // A CA's key that was made elsewhere goes in, signs there, and is there after a restart.
    let elsewhere = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let private = elsewhere.to_pkcs8v1().unwrap();
    let legacy = "legacy".parse().unwrap();
    let import = |signer: &Signer, uses: &str| {
        signer.import_issuing(&legacy, uses.parse().unwrap(), private.as_ref())
    };
    let taken = import(&signer, "device").unwrap();
    assert_eq!(import(&signer, "device").unwrap(), taken);
    assert!(matches!(
        import(&signer, "service"),
        Err(SignerError::ForeignKeyUsed)
    ));
    drop(signer);
    let signer = Signer::open(&keys, &seal, Some(&place), rules()).unwrap();
    assert!(signer.issuing_keys().contains(&taken));
    let on_disk = std::fs::read_dir(&keys).unwrap();
    let is_ca = |name: String| name.starts_with("issuing");
    assert!(
        !on_disk
            .into_iter()
            .any(|file| is_ca(file.unwrap().file_name().into_string().unwrap()))
    );
    let term = terms(&taken.public, now, 3000);
    let parent = Issuer::from_certificate(&root).unwrap();
    let issuing = profile::issuing_of(&realm, &legacy, &limits, &parent, &term).unwrap();
    let issuing = sign(&signer, Purpose::IssuingCertificate, issuing);
    let list = Issuer::from_certificate(&issuing).unwrap();
    let list = identity::crl::crl(&list, 1, &[], &[], now, now.plus(DAY)).unwrap();
    let signature = signer.sign(Purpose::Crl, list.to_be_signed()).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &taken.public)
        .verify(list.to_be_signed(), &signature)
        .unwrap();

    // What the token holds does not leave it, and another plane does not take it over.
    let bundle = signer.export_root(&root, b"a passphrase of several words");
    assert!(matches!(bundle, Err(SignerError::RootInToken)));
    let other = Signer::create(&scratch.join("other"), &seal, Some(&place));
    assert!(matches!(other, Err(SignerError::TokenUsed)));
    let wrong = TokenPlace {
        label: "elsewhere".into(),
        ..place
    };
    let missing = Signer::open(&keys, &seal, Some(&wrong), rules()).err();
    assert!(matches!(missing, Some(SignerError::Token { .. })));
}
