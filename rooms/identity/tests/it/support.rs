//! A CA tree, factories and devices, all signed here: the room itself holds no private key.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use identity::profile::{self, Issuer, Terms, Unsigned};
use identity::{
    Anchors, Authenticated, CertificateRequest, Door, Fact, OwnCas, Presented, Realm, Refusal,
    Registry, certificate_id, public_key_digest,
};
use model::{DeviceId, ManufacturerId, Principal, SerialNumber, TenantId, Timestamp};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

pub const DAY: Duration = Duration::from_secs(86_400);
/// 2026-11-01T00:00:00Z
pub const NOW: Timestamp = Timestamp::from_seconds(1_793_491_200);

pub fn realm() -> Realm {
    Realm::new("fleet.example", TenantId::new("acme").unwrap()).unwrap()
}

pub fn device_id(text: &str) -> DeviceId {
    DeviceId::new(text).unwrap()
}

pub fn device(text: &str) -> Principal {
    Principal::Device(device_id(text))
}

pub fn manufacturer(text: &str) -> ManufacturerId {
    ManufacturerId::new(text).unwrap()
}

pub fn serial(text: &str) -> SerialNumber {
    SerialNumber::new(text).unwrap()
}

pub struct Key {
    pub pair: EcdsaKeyPair,
    pub spki: Vec<u8>,
}

impl Key {
    pub fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki = AsDer::<PublicKeyX509Der>::as_der(pair.public_key())
            .unwrap()
            .as_ref()
            .to_vec();
        Self { pair, spki }
    }

    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair
            .sign(&SystemRandom::new(), bytes)
            .unwrap()
            .as_ref()
            .to_vec()
    }

    pub fn terms(&self, now: Timestamp, lifetime: Duration) -> Terms<'_> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let mut serial_random = [0xa5; 16];
        serial_random[15] = NEXT.fetch_add(1, Ordering::Relaxed);
        serial_random[..8].copy_from_slice(&self.spki[self.spki.len() - 8..]);
        Terms {
            public_key: &self.spki,
            serial_random,
            now,
            lifetime,
        }
    }
}

pub struct Ca {
    pub key: Key,
    pub der: Vec<u8>,
}

impl Ca {
    pub fn issuer(&self) -> Issuer {
        Issuer::from_certificate(&self.der).unwrap()
    }

    pub fn finish(&self, unsigned: Unsigned) -> Vec<u8> {
        let signature = self.key.sign(unsigned.to_be_signed());
        unsigned.assemble(&signature).unwrap()
    }

    pub fn factory(name: &str) -> Self {
        let key = Key::new();
        let unsigned =
            profile::manufacturer_ca(&manufacturer(name), &key.terms(NOW, Duration::ZERO)).unwrap();
        let signature = key.sign(unsigned.to_be_signed());
        Self {
            der: unsigned.assemble(&signature).unwrap(),
            key,
        }
    }

    pub fn idevid(&self, name: &str, number: &str, key: &Key) -> Vec<u8> {
        let terms = key.terms(NOW, Duration::ZERO);
        let unsigned =
            profile::idevid(&manufacturer(name), &serial(number), &self.issuer(), &terms).unwrap();
        self.finish(unsigned)
    }

    pub fn ldevid(&self, name: &str, key: &Key, now: Timestamp, lifetime: Duration) -> Vec<u8> {
        let terms = key.terms(now, lifetime);
        let id = device_id(name);
        self.finish(profile::ldevid(&realm(), &id, None, &self.issuer(), &terms).unwrap())
    }
}

/// Our root and issuing CA, one factory, and a registry that expects `SN1` as `d1`.
pub struct World {
    pub root: Ca,
    pub issuing: Ca,
    pub factory: Ca,
    pub anchors: Anchors,
    pub registry: Registry,
}

pub fn expected(manufacturer_name: &str, number: &str, name: &str) -> Fact {
    Fact::DeviceExpected {
        manufacturer: manufacturer(manufacturer_name),
        serial: serial(number),
        device: device_id(name),
        product: "camera".parse().unwrap(),
        groups: vec!["east".parse().unwrap()],
    }
}

impl World {
    pub fn new() -> Self {
        let root_key = Key::new();
        let unsigned = profile::root(&realm(), &root_key.terms(NOW, 20 * 365 * DAY)).unwrap();
        let signature = root_key.sign(unsigned.to_be_signed());
        let root = Ca {
            der: unsigned.assemble(&signature).unwrap(),
            key: root_key,
        };
        let key = Key::new();
        let terms = key.terms(NOW, 5 * 365 * DAY);
        let unsigned = profile::issuing(&realm(), &root.issuer(), &terms).unwrap();
        let issuing = Ca {
            der: root.finish(unsigned),
            key,
        };
        let factory = Ca::factory("maker");
        let anchors = Anchors::new(
            realm(),
            &OwnCas {
                roots: vec![root.der.clone()],
                issuing: vec![identity::IssuingCa::of_every_use(issuing.der.clone())],
            },
            vec![(manufacturer("maker"), factory.der.clone())],
        )
        .unwrap();
        let mut registry = Registry::new();
        registry.apply(&expected("maker", "SN1", "d1")).unwrap();
        Self {
            root,
            issuing,
            factory,
            anchors,
            registry,
        }
    }

    /// As the plane does it: path, then whom it names.
    pub fn present(&self, door: Door, leaf: &[u8], now: Timestamp) -> Result<Presented, Refusal> {
        let path = self.anchors.verify_path(door, leaf, &[], now)?;
        self.anchors.presented(&path, leaf)
    }

    /// Path, name, registry.
    pub fn enter(&self, door: Door, leaf: &[u8], now: Timestamp) -> Result<Authenticated, Refusal> {
        self.registry
            .authenticate(door, self.present(door, leaf, now)?, now)
    }

    /// Issues to a device and records it.
    pub fn issue(&mut self, name: &str, key: &Key) -> Vec<u8> {
        let der = self.issuing.ldevid(name, key, NOW, 30 * DAY);
        self.record(name, &der);
        der
    }

    pub fn record(&mut self, name: &str, der: &[u8]) {
        self.registry
            .apply(&Fact::CertificateIssued {
                principal: device(name),
                certificate: certificate_id(der).unwrap(),
                key: public_key_digest(der).unwrap(),
                not_after: NOW.plus(30 * DAY),
            })
            .unwrap();
    }
}

/// One DER element.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..128 => out.push(length as u8),
        128..256 => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// `SEQUENCE { body, ecdsa-with-SHA256, BIT STRING }`.
pub fn signed(body: &[u8], signature: &[u8]) -> Vec<u8> {
    let algorithm = [
        0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
    ];
    let bits = tlv(0x03, &[&[0], signature].concat());
    tlv(0x30, &[body, &algorithm, &bits].concat())
}

/// A request by hand: `attributes` is what follows the key, tag included.
pub fn request_der(key: &Key, subject: &[u8], attributes: &[u8]) -> Vec<u8> {
    let info = tlv(
        0x30,
        &[&[2, 1, 0], subject, key.spki.as_slice(), attributes].concat(),
    );
    signed(&info, &key.sign(&info))
}

/// `O=acme, CN=<name>`, as a Name.
pub fn subject(name: &str) -> Vec<u8> {
    let rdn = |last: u8, text: &str| {
        let value = [tlv(0x06, &[0x55, 0x04, last]), tlv(0x0c, text.as_bytes())].concat();
        tlv(0x31, &tlv(0x30, &value))
    };
    tlv(0x30, &[rdn(10, "acme"), rdn(3, name)].concat())
}

/// attributes [0] with one extensionRequest of one subjectAltName; `names` is GeneralNames' content.
pub fn asking_for_names(names: &[u8]) -> Vec<u8> {
    let san = [tlv(0x06, &[0x55, 0x1d, 0x11]), tlv(0x04, &tlv(0x30, names))].concat();
    let extensions = tlv(0x30, &tlv(0x30, &san));
    let oid = tlv(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14]);
    let attribute = tlv(0x30, &[oid, tlv(0x31, &extensions)].concat());
    tlv(0xa0, &attribute)
}

pub fn uri_name(uri: &str) -> Vec<u8> {
    tlv(0x86, uri.as_bytes())
}

/// A request for the unchanged name of a device.
pub fn renewal_request(key: &Key, name: &str) -> CertificateRequest {
    let uri = realm().uri_of(&device(name));
    let attributes = asking_for_names(&uri_name(&uri));
    CertificateRequest::parse(&request_der(key, &subject(name), &attributes)).unwrap()
}

pub fn plain_request(key: &Key) -> CertificateRequest {
    CertificateRequest::parse(&request_der(key, &subject("whatever"), &[0xa0, 0])).unwrap()
}

/// Modulus and exponent of an RSA key in the form of RFC 8017, appendix A.1.1.
pub fn rsa_parts(public: &[u8]) -> (Vec<u8>, Vec<u8>) {
    use der::{Decode, Reader, SliceReader, asn1::UintRef};
    let mut reader = SliceReader::new(public).unwrap();
    let parts = reader.sequence(|inner| {
        let modulus = UintRef::decode(inner)?.as_bytes().to_vec();
        let exponent = UintRef::decode(inner)?.as_bytes().to_vec();
        Ok::<_, der::Error>((modulus, exponent))
    });
    parts.unwrap()
}
