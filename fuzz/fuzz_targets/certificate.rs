//! A certificate as a stranger may show it, and one as a CA's stolen key could sign it: never a
//! panic, never believed without a signature, and never another kind of name than its CA gives.
//!
//! The first byte says what the rest is: `s` contents that our issuing CA signs, `f` contents that
//! a factory's CA signs, anything else a certificate as it stands.

#![no_main]

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use identity::profile::{self, Issuer, Terms, Unsigned};
use identity::{Anchors, Door, IdentityKind, IssuingCa, OwnCas, Realm, Voucher};
use libfuzzer_sys::fuzz_target;
use model::{DeviceId, ManufacturerId, TenantId, Timestamp};
use std::sync::LazyLock;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// 2026-11-01T00:00:00Z, when the seeds are valid.
const NOW: Timestamp = Timestamp::from_seconds(1_793_491_200);

struct Key {
    pair: EcdsaKeyPair,
    spki: Vec<u8>,
}

impl Key {
    /// The private key that is this number: nobody's secret, and the same for each run, as the
    /// names of CAs hold their keys.
    fn of(number: u8) -> Self {
        const HEAD: [u8; 7] = [0x30, 0x31, 2, 1, 1, 4, 32];
        const P256: [u8; 12] = [0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
        let mut scalar = [0; 32];
        scalar[31] = number;
        let der = [&HEAD[..], &scalar, &P256].concat();
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &der).unwrap();
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let spki = spki.as_ref().to_vec();
        Self { pair, spki }
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), bytes).unwrap();
        signature.as_ref().to_vec()
    }

    fn terms(&self, lifetime: Duration) -> Terms<'_> {
        Terms {
            public_key: &self.spki,
            serial_random: [0xa5; 16],
            now: NOW,
            lifetime,
        }
    }

    fn finish(&self, unsigned: Unsigned) -> Vec<u8> {
        let signature = self.sign(unsigned.to_be_signed());
        unsigned.assemble(&signature).unwrap()
    }
}

struct World {
    issuing: Key,
    factory: Key,
    own: OwnCas,
    anchors: Anchors,
    /// Genuine.
    leaf: Vec<u8>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let (root, issuing, factory) = (Key::of(1), Key::of(2), Key::of(3));
    let root_der = root.finish(profile::root(&realm(), &root.terms(20 * 365 * DAY)).unwrap());
    let issuer = Issuer::from_certificate(&root_der).unwrap();
    let terms = issuing.terms(5 * 365 * DAY);
    let issuing_der = root.finish(profile::issuing(&realm(), &issuer, &terms).unwrap());
    let terms = factory.terms(Duration::ZERO);
    let factory_der = factory.finish(profile::manufacturer_ca(&maker(), &terms).unwrap());
    let own = OwnCas {
        roots: vec![root_der],
        issuing: vec![IssuingCa::of_every_use(issuing_der.clone())],
    };
    let anchors = Anchors::new(realm(), &own, vec![(maker(), factory_der)]).unwrap();
    let issuer = Issuer::from_certificate(&issuing_der).unwrap();
    let device = DeviceId::new("d1").unwrap();
    let terms = issuing.terms(30 * DAY);
    let unsigned = profile::ldevid(&realm(), &device, None, &issuer, &terms).unwrap();
    let leaf = issuing.finish(unsigned);
    World {
        issuing,
        factory,
        own,
        anchors,
        leaf,
    }
});

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((b's', contents)) => signed_by(&WORLD.issuing, contents),
        Some((b'f', contents)) => signed_by(&WORLD.factory, contents),
        Some((_, certificate)) => shown(certificate),
        None => {}
    }
});

fn realm() -> Realm {
    Realm::new("fleet.example", TenantId::new("acme").unwrap()).unwrap()
}

fn maker() -> ManufacturerId {
    ManufacturerId::new("maker").unwrap()
}

/// Seeds that these CAs have truly signed: the only ones that are believed as they stand.
const GENUINE: [&[u8]; 2] = [
    include_bytes!("../seeds/certificate/ldevid"),
    include_bytes!("../seeds/certificate/idevid"),
];

/// As it stands: read, believed by nobody else, and no hindrance to the genuine beside it.
fn shown(der: &[u8]) {
    let _ = identity::certificate_id(der);
    let _ = identity::validity(der);
    let anchors = &WORLD.anchors;
    if anchors.verify_path(Door::Devices, der, &[], NOW).is_ok() {
        assert!(GENUINE.iter().any(|seed| seed.get(1..) == Some(der)));
    }
    let path = anchors.verify_path(Door::Devices, &WORLD.leaf, &[der], NOW);
    if der.len() <= identity::CERTIFICATE_BYTES_MAX {
        let path = path.unwrap();
        assert!(anchors.presented(&path, der).is_err() || der == WORLD.leaf);
    }
    // As a manufacturer's CA, and as an issuer whose certificates are linted before they are signed.
    let _ = Anchors::new(realm(), &WORLD.own, vec![(maker(), der.to_vec())]);
    if let Ok(issuer) = Issuer::from_certificate(der) {
        let device = DeviceId::new("d1").unwrap();
        let _ = profile::ldevid(&realm(), &device, None, &issuer, &WORLD.issuing.terms(DAY));
    }
}

/// Behind the signature.
fn signed_by(ca: &Key, contents: &[u8]) {
    const ECDSA_WITH_SHA256: [u8; 12] = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let signature = ca.sign(contents);
    let bits = element(3, &[&[0], signature.as_slice()].concat());
    let der = element(0x30, &[contents, &ECDSA_WITH_SHA256, &bits].concat());
    let Ok(path) = WORLD.anchors.verify_path(Door::Devices, &der, &[], NOW) else {
        return;
    };
    let is_ours = *path.voucher() == Voucher::Ours;
    assert_eq!(is_ours, std::ptr::eq(ca, &WORLD.issuing));
    if let Ok(presented) = WORLD.anchors.presented(&path, &der) {
        assert_eq!(is_ours, presented.kind() == IdentityKind::Ldevid);
        assert_eq!(identity::certificate_id(&der), Ok(presented.certificate()));
        let _ = presented.to_string();
    }
}

/// One DER element of up to 65,535 bytes; what is larger is refused unread anyhow.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head: &[u8] = match content.len() {
        0..=0x7f => &[tag, length[1]],
        0x80..=0xff => &[tag, 0x81, length[1]],
        _ => &[tag, 0x82, length[0], length[1]],
    };
    [head, content].concat()
}
