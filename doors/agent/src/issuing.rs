//! For tests: an authority that issues server certificates with any validity.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;

/// ecdsa-with-SHA256 (RFC 5758 section 3.2).
const SIGNED_WITH: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
/// id-ecPublicKey, secp256r1 (RFC 5480 section 2.1.1).
const KEY_KIND: &[u8] =
    b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";

pub struct Authority {
    name: &'static str,
    key: EcdsaKeyPair,
    pub certificate: CertificateDer<'static>,
}

impl Authority {
    pub fn root(name: &'static str) -> Self {
        let key = new_key();
        let validity = ("200101000000Z", "490101000000Z");
        let certificate = certificate(name, &key, name, &key, validity, None);
        Self {
            name,
            key,
            certificate,
        }
    }

    /// An authority below this one. Validity as UTCTime, here and below.
    pub fn below(&self, name: &'static str, validity: (&str, &str)) -> Self {
        let key = new_key();
        let certificate = certificate(self.name, &self.key, name, &key, validity, None);
        Self {
            name,
            key,
            certificate,
        }
    }

    /// A certificate of a server with this DNS name, and its key.
    pub fn server(&self, name: &str, validity: (&str, &str)) -> (CertificateDer<'static>, Key) {
        let key = new_key();
        let issued = certificate(self.name, &self.key, name, &key, validity, Some(name));
        (issued, Key(key))
    }

    pub fn store(&self) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        store.add(self.certificate.clone()).unwrap();
        Arc::new(store)
    }
}

pub struct Key(EcdsaKeyPair);

impl Key {
    /// As a server shows it. Whether the key is that of the certificate is not asked.
    pub fn shown(&self, chain: Vec<CertificateDer<'static>>) -> Arc<CertifiedKey> {
        let pkcs8 = self.0.to_pkcs8v1().unwrap();
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec()));
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap();
        Arc::new(CertifiedKey::new(chain, signing))
    }
}

fn new_key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()
}

/// X.509 version 3 (RFC 5280 section 4.1). Without a DNS name it is an authority's.
fn certificate(
    issuer: &str,
    issuer_key: &EcdsaKeyPair,
    subject: &str,
    key: &EcdsaKeyPair,
    (not_before, not_after): (&str, &str),
    dns_name: Option<&str>,
) -> CertificateDer<'static> {
    let extension = match dns_name {
        // subjectAltName
        Some(name) => {
            let names = element(0x30, &[&element(0x82, &[name.as_bytes()])]);
            element(0x30, &[b"\x06\x03\x55\x1d\x11", &element(4, &[&names])])
        }
        // basicConstraints, critical, an authority
        None => element(
            0x30,
            &[
                b"\x06\x03\x55\x1d\x13\x01\x01\xff",
                &element(4, &[b"\x30\x03\x01\x01\xff"]),
            ],
        ),
    };
    let public_key = element(3, &[b"\x00", key.public_key().as_ref()]);
    let body = element(
        0x30,
        &[
            b"\xa0\x03\x02\x01\x02\x02\x01\x07",
            SIGNED_WITH,
            &distinguished(issuer),
            &element(
                0x30,
                &[
                    &element(0x17, &[not_before.as_bytes()]),
                    &element(0x17, &[not_after.as_bytes()]),
                ],
            ),
            &distinguished(subject),
            &element(0x30, &[KEY_KIND, &public_key]),
            &element(0xa3, &[&element(0x30, &[&extension])]),
        ],
    );
    let signature = issuer_key.sign(&SystemRandom::new(), &body).unwrap();
    let signature = element(3, &[b"\x00", signature.as_ref()]);
    CertificateDer::from(element(0x30, &[&body, SIGNED_WITH, &signature]))
}

/// One common name.
fn distinguished(name: &str) -> Vec<u8> {
    let value = element(0x0c, &[name.as_bytes()]);
    let attribute = element(0x30, &[b"\x06\x03\x55\x04\x03", &value]);
    element(0x30, &[&element(0x31, &[&attribute])])
}

/// In DER a length is as short as it can be.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head: &[u8] = match content.len() {
        0..=0x7f => &[tag, low],
        0x80..=0xff => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, &content].concat()
}
