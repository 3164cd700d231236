//! A new key, and the request (PKCS #10, RFC 2986) that asks for its certificate.

use anyhow::{Context, anyhow};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::ServiceId;
use std::str::FromStr;
use x509_cert::attr::Attributes;
use x509_cert::der::asn1::{BitString, ObjectIdentifier};
use x509_cert::der::{Decode, Encode};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, Version};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// A P-256 key pair that was just made.
pub struct NewKey {
    /// PKCS #8; for a file of mode 0600 and nothing else.
    pub key_pem: String,
    pub csr_pem: String,
}

/// Makes a key and proves its possession in a request in the service's name.
///
/// # Errors
/// The system gives no random bytes.
pub fn new_key(service: &ServiceId) -> anyhow::Result<NewKey> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
        .map_err(|_| anyhow!("no key could be made"))?;
    let public: PublicKeyX509Der<'_> = pair
        .public_key()
        .as_der()
        .map_err(|_| anyhow!("no key could be made"))?;
    let info = CertReqInfo {
        version: Version::V1,
        // A service's name holds no character that means anything in this notation.
        subject: Name::from_str(&format!("CN={service}"))?,
        public_key: SubjectPublicKeyInfoOwned::from_der(public.as_ref())?,
        attributes: Attributes::default(),
    };
    let signature = pair
        .sign(&SystemRandom::new(), &info.to_der()?)
        .map_err(|_| anyhow!("the new key does not sign"))?;
    let request = CertReq {
        info,
        algorithm: AlgorithmIdentifierOwned {
            oid: ECDSA_WITH_SHA256,
            parameters: None,
        },
        signature: BitString::from_bytes(signature.as_ref())?,
    };
    let key = pair
        .to_pkcs8v1()
        .ok()
        .context("the new key cannot be written")?;
    Ok(NewKey {
        key_pem: pem("PRIVATE KEY", key.as_ref()),
        csr_pem: pem("CERTIFICATE REQUEST", &request.to_der()?),
    })
}

/// The bytes of the one block of a text.
///
/// # Errors
/// It is no PEM, or of another label.
pub fn from_pem(text: &str, label: &str) -> anyhow::Result<Vec<u8>> {
    let (found, der) = x509_cert::der::pem::decode_vec(text.trim().as_bytes())
        .map_err(|_| anyhow!("there is no single PEM block in it"))?;
    if found != label {
        anyhow::bail!("it holds no {label}");
    }
    Ok(der)
}

/// PEM (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for (at, c) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out + &format!("\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_proves_possession_of_its_key() {
        let made = new_key(&ServiceId::new("ingest").unwrap()).unwrap();
        let body: String = made
            .csr_pem
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        let der = STANDARD.decode(body).unwrap();
        identity::CertificateRequest::parse(&der).unwrap();
        assert!(made.csr_pem.lines().all(|line| line.len() <= 64));
    }
}
