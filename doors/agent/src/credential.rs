//! A private key with its certificate: made, asked for, read back.

use anyhow::{Context, anyhow, ensure};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use der::asn1::{Any, BitString, ObjectIdentifier, SetOfVec};
use der::{Decode, Encode};
use model::{DeviceId, Timestamp};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use std::str::FromStr;
use std::sync::Arc;
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, Version};
use zeroize::Zeroizing;

const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// What is shown at a door and signed with there.
#[derive(Clone)]
pub struct Credential {
    pub certified: Arc<CertifiedKey>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential(until {})", self.not_after.as_seconds())
    }
}

impl Credential {
    /// Reads PEM: all certificates of one text, the first private key of the other (they may be
    /// the same text).
    ///
    /// # Errors
    /// If there is none of either, they cannot be read, or they do not belong together.
    pub fn read(certificates: &[u8], key: &[u8]) -> anyhow::Result<Self> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|_| anyhow!("a certificate is not PEM"))?;
        let first = chain.first().context("there is no certificate")?;
        let (not_before, not_after) = validity(first)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| anyhow!("there is no private key in PEM"))?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|_| anyhow!("the private key is of no kind that TLS can use"))?;
        let certified = CertifiedKey::new(chain, signing);
        ensure!(
            !matches!(
                certified.keys_match(),
                Err(rustls::Error::InconsistentKeys(
                    rustls::InconsistentKeys::KeyMismatch
                ))
            ),
            "the private key is not the certificate's"
        );
        Ok(Self {
            certified: Arc::new(certified),
            not_before,
            not_after,
        })
    }

    /// The holder's certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        self.certified.cert.first().map_or(&[], |der| der.as_ref())
    }
}

/// A key made here, and a request for a certificate of it.
pub struct Asked {
    key_pkcs8: Zeroizing<Vec<u8>>,
    /// PKCS #10 in DER.
    pub request: Vec<u8>,
}

impl Asked {
    /// Makes a P-256 key and a request in the name of `device`.
    ///
    /// # Errors
    /// If the cryptographic library refuses.
    pub fn first(device: &DeviceId) -> anyhow::Result<Self> {
        // The grammar of a device's name holds nothing that could add a part (RFC 4514).
        Self::make(Name::from_str(&format!("CN={device}"))?, None)
    }

    /// Makes a P-256 key and a request that keeps the names of the present certificate
    /// (RFC 7030 section 4.2.2).
    ///
    /// # Errors
    /// If the present certificate cannot be read or the cryptographic library refuses.
    pub fn next(present: &Credential) -> anyhow::Result<Self> {
        let certificate = Certificate::from_der(present.certificate())
            .map_err(|_| anyhow!("the present certificate cannot be read"))?;
        let tbs = certificate.tbs_certificate();
        let names = tbs
            .extensions()
            .and_then(|all| all.iter().find(|one| one.extn_id == SUBJECT_ALT_NAME))
            .cloned();
        Self::make(tbs.subject().clone(), names)
    }

    /// Reads back what [`Self::pem`] wrote.
    ///
    /// # Errors
    /// If it is not that.
    pub fn read(pem: &[u8]) -> anyhow::Result<Self> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem)
            .map_err(|_| anyhow!("there is no private key"))?;
        let request = rustls_pki_types::CertificateSigningRequestDer::from_pem_slice(pem)
            .map_err(|_| anyhow!("there is no request"))?;
        let key_pkcs8 = Zeroizing::new(key.secret_pkcs8_der().to_vec());
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key_pkcs8)
            .map_err(|_| anyhow!("the private key is damaged"))?;
        CertReq::from_der(&request).map_err(|_| anyhow!("the request is damaged"))?;
        Ok(Self {
            key_pkcs8,
            request: request.to_vec(),
        })
    }

    /// Key and request as one file.
    pub fn pem(&self) -> Zeroizing<String> {
        let mut text = self.key_pem();
        push_pem(&mut text, "CERTIFICATE REQUEST", &self.request);
        text
    }

    /// Key and certificate as one file, if one of `issued` is for this key.
    ///
    /// # Errors
    /// If none is, or it cannot be read.
    pub fn answered(&self, issued: &[Vec<u8>]) -> anyhow::Result<(Credential, Zeroizing<String>)> {
        for der in issued {
            let mut text = self.key_pem();
            push_pem(&mut text, "CERTIFICATE", der);
            if let Ok(credential) = Credential::read(text.as_bytes(), text.as_bytes()) {
                return Ok((credential, text));
            }
        }
        Err(anyhow!(
            "the plane sent no certificate for the key we asked with"
        ))
    }

    fn make(subject: Name, names: Option<x509_cert::ext::Extension>) -> anyhow::Result<Self> {
        let refused = |_| anyhow!("the cryptographic library refuses");
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(refused)?;
        let key_pkcs8 = Zeroizing::new(pair.to_pkcs8v1().map_err(refused)?.as_ref().to_vec());
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(refused)?;
        let mut attributes = SetOfVec::new();
        if let Some(names) = names {
            let mut values = SetOfVec::new();
            values.insert(Any::encode_from(&vec![names])?)?;
            attributes.insert(Attribute {
                oid: EXTENSION_REQUEST,
                values,
            })?;
        }
        let info = CertReqInfo {
            version: Version::V1,
            subject,
            public_key: SubjectPublicKeyInfoOwned::from_der(public.as_ref())?,
            attributes,
        };
        let signature = pair
            .sign(&SystemRandom::new(), &info.to_der()?)
            .map_err(refused)?;
        let request = CertReq {
            info,
            algorithm: AlgorithmIdentifierOwned {
                oid: ECDSA_WITH_SHA256,
                parameters: None,
            },
            signature: BitString::from_bytes(signature.as_ref())?,
        };
        Ok(Self {
            key_pkcs8,
            request: request.to_der()?,
        })
    }

    fn key_pem(&self) -> Zeroizing<String> {
        // Enough that no unwiped copy is left behind by growth.
        let mut text = Zeroizing::new(String::with_capacity(8 * 1024));
        push_pem(&mut text, "PRIVATE KEY", &self.key_pkcs8);
        text
    }
}

/// From when to when a certificate is valid.
///
/// # Errors
/// If it cannot be read.
pub fn validity(der: &[u8]) -> anyhow::Result<(Timestamp, Timestamp)> {
    let certificate =
        Certificate::from_der(der).map_err(|_| anyhow!("the certificate cannot be read"))?;
    let validity = certificate.tbs_certificate().validity();
    let time =
        |time: &x509_cert::time::Time| Timestamp::from_seconds(time.to_unix_duration().as_secs());
    Ok((time(&validity.not_before), time(&validity.not_after)))
}

/// RFC 7468 text of one object, lines of 64.
fn push_pem(text: &mut String, label: &str, der: &[u8]) {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
}
