//! For tests: our own CAs, by the plane's profiles.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use identity::profile::{Issuer, Terms, Unsigned};
use model::Timestamp;
use std::time::Duration;

/// A key and its certificate, and the right to issue more.
pub struct Certifier {
    key: EcdsaKeyPair,
    pub der: Vec<u8>,
}

impl Certifier {
    /// Signed by itself.
    pub fn new(
        make: impl FnOnce(&Terms<'_>) -> Unsigned,
        now: Timestamp,
        lifetime: Duration,
    ) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let unsigned = make(&terms(&public(&key), now, lifetime));
        let mut own = Self {
            key,
            der: Vec::new(),
        };
        own.der = own.sign(unsigned);
        own
    }

    pub fn below(
        &self,
        make: impl FnOnce(&Issuer, &Terms<'_>) -> Unsigned,
        now: Timestamp,
        lifetime: Duration,
    ) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let der = self.sign(make(&self.issuer(), &terms(&public(&key), now, lifetime)));
        Self { key, der }
    }

    pub fn issuer(&self) -> Issuer {
        Issuer::from_certificate(&self.der).unwrap()
    }

    pub fn sign(&self, unsigned: Unsigned) -> Vec<u8> {
        let signature = self
            .key
            .sign(&SystemRandom::new(), unsigned.to_be_signed())
            .unwrap();
        unsigned.assemble(signature.as_ref()).unwrap()
    }

    pub fn key_pkcs8(&self) -> Vec<u8> {
        self.key.to_pkcs8v1().unwrap().as_ref().to_vec()
    }
}

pub fn public(key: &EcdsaKeyPair) -> Vec<u8> {
    let der: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    der.as_ref().to_vec()
}

pub fn terms(public_key: &[u8], now: Timestamp, lifetime: Duration) -> Terms<'_> {
    Terms {
        public_key,
        serial_random: random_bytes(),
        now,
        lifetime,
    }
}

pub fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).unwrap();
    bytes
}

pub fn pem(key: &[u8], certificate: &[u8]) -> String {
    [("PRIVATE KEY", key), ("CERTIFICATE", certificate)]
        .map(|(label, der)| {
            format!(
                "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
                STANDARD.encode(der)
            )
        })
        .concat()
}
