//! Certificate requests (PKCS #10, RFC 2986): a public key and the proof that the asker holds it.
//!
//! What else a request says is read only to be compared. Decided, and tested:
//! attributes left out altogether are accepted (small stacks do so, as does OpenSSL); attributes
//! out of DER's order too, as the signature is held against the bytes that came; RSA-PSS,
//! compressed points, explicit curve parameters and anything after the request are refused.

use crate::certificate::sha256;
use crate::weak_key::{KeyFlaw, flaw_of_modulus, rsa_numbers};
use aws_lc_rs::signature as algorithm;
use aws_lc_rs::signature::{UnparsedPublicKey, VerificationAlgorithm};
use const_oid::db::{rfc4519, rfc5912, rfc8410};
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};
use model::{Digest, SerialNumber};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

/// The largest request looked at, in bytes of DER.
pub const REQUEST_BYTES_MAX: usize = 8192;

/// A request whose signature has held.
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    public_key: Vec<u8>,
    key_kind: KeyKind,
    subject: Name,
    names: Option<SubjectAltName>,
    asks_for_other_name: bool,
    asks_for_encrypted_key: bool,
    digest: Digest,
}

/// The keys we certify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    P256,
    P384,
    Ed25519,
    /// 2048 to 4096 bits, exponent 65537 or larger.
    Rsa {
        bits: u16,
    },
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rsa { bits } => write!(f, "RSA {bits}"),
            other => f.write_str(other.name()),
        }
    }
}

/// Why a request is refused. The device's firmware must act, whatever the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrRefusal {
    #[error("the request is larger than 8192 bytes; device: ask without needless attributes")]
    TooLarge,
    #[error("the request cannot be read ({what}); device: send one PKCS #10 request in DER")]
    Malformed { what: &'static str },
    #[error("the request's signature does not hold; device: sign it with the key it asks for")]
    BadSignature,
    #[error(
        "the request's signature algorithm is not permitted for its key; device: use ECDSA or \
         RSA PKCS#1 v1.5 with SHA-256 or SHA-384, or Ed25519"
    )]
    SignatureAlgorithm,
    #[error(
        "the key's algorithm or curve is not permitted; device: use P-256, P-384, Ed25519 or RSA \
         of 2048 to 4096 bits, with the curve by name"
    )]
    KeyAlgorithm,
    #[error("the RSA key has {bits} bits; device: use 2048 to 4096, or better P-256")]
    RsaSize { bits: usize },
    #[error("the RSA key's public exponent is below 65537 or even; device: use 65537")]
    RsaExponent,
    #[error(
        "the RSA key was made by a generator whose keys can be factored (ROCA, CVE-2017-15361); \
         device: make the key with other hardware or software, or better use P-256"
    )]
    Roca,
    #[error(
        "the two primes of the RSA key lie so close together that anybody can find them \
         (CVE-2022-26320); device: make the key with other software, or better use P-256"
    )]
    ClosePrimes,
    #[error("the key's point is not uncompressed; device: send it as 04, X, Y")]
    PointForm,
}

impl CsrRefusal {
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge => "request-too-large",
            Self::Malformed { .. } => "request-malformed",
            Self::BadSignature => "request-bad-signature",
            Self::SignatureAlgorithm => "request-signature-algorithm",
            Self::KeyAlgorithm => "request-key-algorithm",
            Self::RsaSize { .. } => "request-rsa-size",
            Self::RsaExponent => "request-rsa-exponent",
            Self::Roca => "request-rsa-roca",
            Self::ClosePrimes => "request-rsa-close-primes",
            Self::PointForm => "request-point-form",
        }
    }

    #[must_use]
    pub const fn who_must_act(&self) -> crate::Actor {
        crate::Actor::Device
    }
}

impl CertificateRequest {
    /// Reads a request and verifies its signature (proof of possession).
    ///
    /// # Errors
    /// [`CsrRefusal`]; the signature is verified last, after all that is cheaper.
    pub fn parse(der: &[u8]) -> Result<Self, CsrRefusal> {
        if der.len() > REQUEST_BYTES_MAX {
            return Err(CsrRefusal::TooLarge);
        }
        let outer = Outer::read(der).map_err(|_| malformed("not a signed request"))?;
        let info = Info::read(outer.info).map_err(|_| malformed("request info"))?;
        let key_kind = KeyKind::of(info.public_key)?;
        let asked = info.attributes()?;
        verify(key_kind, &outer, info.public_key)?;
        Ok(Self {
            public_key: info.public_key.to_vec(),
            key_kind,
            subject: info.subject,
            names: asked.names,
            asks_for_other_name: asked.other_name,
            asks_for_encrypted_key: asked.encrypted_key,
            digest: sha256(der),
        })
    }

    /// SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    #[must_use]
    pub fn key_kind(&self) -> KeyKind {
        self.key_kind
    }

    /// Does it want a key that the server makes to come encrypted (RFC 7030 section 4.4.1)?
    #[must_use]
    pub fn asks_for_encrypted_key(&self) -> bool {
        self.asks_for_encrypted_key
    }

    /// SHA-256 of the request as it came: the same request asked twice (RFC 7030 section 4.2.3).
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// SHA-256 of the key asked for, as SubjectPublicKeyInfo.
    #[must_use]
    pub fn key_digest(&self) -> Digest {
        sha256(&self.public_key)
    }

    /// The serial number of which its subject speaks: the one serialNumber in it, or else its one
    /// common name. Worth no more than the request's signature: whoever made it may have written
    /// another device's.
    #[must_use]
    pub fn claimed_serial(&self) -> Option<SerialNumber> {
        let named = |field| {
            let mut found = self.subject.iter().filter(move |one| one.oid == field);
            (found.next(), found.next())
        };
        let attribute = match (named(rfc4519::SERIAL_NUMBER), named(rfc4519::CN)) {
            ((Some(one), None), _) | ((None, None), (Some(one), None)) => one,
            _ => return None,
        };
        let text = match attribute.value.tag() {
            Tag::PrintableString | Tag::Utf8String => attribute.value.value(),
            _ => return None,
        };
        SerialNumber::new(std::str::from_utf8(text).ok()?).ok()
    }

    /// Does it ask for exactly this subject and this one URI (RFC 7030 section 4.2.2)?
    pub(crate) fn keeps_name(&self, subject_der: &[u8], uri: &str) -> bool {
        let same_subject =
            Name::from_der(subject_der).is_ok_and(|subject| same_name(&subject, &self.subject));
        let same_names = match self.names.as_ref().map(|names| names.0.as_slice()) {
            Some([GeneralName::UniformResourceIdentifier(asked)]) => asked.as_str() == uri,
            _ => false,
        };
        same_subject && same_names && !self.asks_for_other_name
    }
}

impl KeyKind {
    /// For logs and screens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::Ed25519 => "Ed25519",
            Self::Rsa { .. } => "RSA",
        }
    }

    /// # Errors
    /// If it is not a SubjectPublicKeyInfo in DER of a permitted key.
    pub fn of(spki_der: &[u8]) -> Result<Self, CsrRefusal> {
        let spki =
            SubjectPublicKeyInfoRef::from_der(spki_der).map_err(|_| malformed("public key"))?;
        let bits = spki
            .subject_public_key
            .as_bytes()
            .ok_or_else(|| malformed("public key"))?;
        match spki.algorithm.oid {
            rfc5912::ID_EC_PUBLIC_KEY => {
                // A curve by parameters instead of by name has no OID here.
                let curve = spki
                    .algorithm
                    .parameters_oid()
                    .map_err(|_| CsrRefusal::KeyAlgorithm)?;
                let (kind, coordinate_bytes) = match curve {
                    rfc5912::SECP_256_R_1 => (Self::P256, 32),
                    rfc5912::SECP_384_R_1 => (Self::P384, 48),
                    _ => return Err(CsrRefusal::KeyAlgorithm),
                };
                if bits.first() != Some(&4) || bits.len() != 1 + 2 * coordinate_bytes {
                    return Err(CsrRefusal::PointForm);
                }
                Ok(kind)
            }
            rfc8410::ID_ED_25519 if spki.algorithm.parameters.is_none() && bits.len() == 32 => {
                Ok(Self::Ed25519)
            }
            rfc5912::RSA_ENCRYPTION if has_null_parameters(&spki.algorithm) => rsa(bits),
            _ => Err(CsrRefusal::KeyAlgorithm),
        }
    }
}

/// The three parts of a request, as slices of what came.
struct Outer<'a> {
    info: &'a [u8],
    algorithm: AlgorithmIdentifierRef<'a>,
    signature: &'a [u8],
}

impl<'a> Outer<'a> {
    fn read(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let outer = reader.sequence(|reader| {
            let info = reader.tlv_bytes()?;
            let algorithm = AlgorithmIdentifierRef::decode(reader)?;
            let signature = BitStringRef::decode(reader)?;
            Ok::<_, der::Error>(Self {
                info,
                algorithm,
                signature: signature.as_bytes().ok_or(der::ErrorKind::Failed)?,
            })
        })?;
        reader.finish()?;
        Ok(outer)
    }
}

/// CertificationRequestInfo (RFC 2986 section 4.1).
struct Info<'a> {
    subject: Name,
    public_key: &'a [u8],
    attributes: Option<&'a [u8]>,
}

impl<'a> Info<'a> {
    fn read(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let info = reader.sequence(|reader| {
            if u8::decode(reader)? != 0 {
                return Err(der::ErrorKind::Failed.into());
            }
            let subject = Name::decode(reader)?;
            let public_key = reader.tlv_bytes()?;
            let attributes = if reader.is_finished() {
                None
            } else {
                let any = AnyRef::decode(reader)?;
                let wanted = Tag::ContextSpecific {
                    constructed: true,
                    number: TagNumber(0),
                };
                any.tag().assert_eq(wanted)?;
                Some(any.value())
            };
            Ok::<_, der::Error>(Self {
                subject,
                public_key,
                attributes,
            })
        })?;
        reader.finish()?;
        Ok(info)
    }

    /// What the attributes ask for, as far as it matters here; others ask in vain.
    fn attributes(&self) -> Result<Asked, CsrRefusal> {
        let read = || -> der::Result<Asked> {
            let (mut asked, mut seen) = (Asked::default(), false);
            let mut reader = SliceReader::new(self.attributes.unwrap_or_default())?;
            while !reader.is_finished() {
                let (oid, values) = reader.sequence(|reader| {
                    let oid = ObjectIdentifier::decode(reader)?;
                    let values = AnyRef::decode(reader)?;
                    values.tag().assert_eq(Tag::Set)?;
                    Ok::<_, der::Error>((oid, values.value()))
                })?;
                asked.other_name |= oid == CHANGE_SUBJECT_NAME;
                asked.encrypted_key |= ENCRYPT_KEY.contains(&oid);
                if oid == rfc5912::ID_EXTENSION_REQ {
                    // Twice could be read two ways.
                    if std::mem::replace(&mut seen, true) {
                        return Err(der::ErrorKind::Failed.into());
                    }
                    asked.names = requested_names(values)?;
                }
            }
            Ok(asked)
        };
        read().map_err(|_| malformed("attributes"))
    }
}

#[derive(Default)]
struct Asked {
    /// The subjectAltName.
    names: Option<SubjectAltName>,
    /// Another name by id-cmc-changeSubjectName (RFC 6402 section 2.8).
    other_name: bool,
    encrypted_key: bool,
}

/// id-aa-decryptKeyID and id-aa-asymmDecryptKeyID (RFC 4108, RFC 7030 section 4.4.1).
const ENCRYPT_KEY: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.37"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.54"),
];

/// id-cmc-changeSubjectName.
const CHANGE_SUBJECT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.7.36");

/// `values` is the content of a SET that must hold one Extensions.
fn requested_names(values: &[u8]) -> der::Result<Option<SubjectAltName>> {
    let mut names = None;
    for extension in Vec::<Extension>::from_der(values)? {
        if extension.extn_id == const_oid::db::rfc5280::ID_CE_SUBJECT_ALT_NAME
            && names
                .replace(SubjectAltName::from_der(extension.extn_value.as_bytes())?)
                .is_some()
        {
            return Err(der::ErrorKind::Failed.into());
        }
    }
    Ok(names)
}

/// RDN for RDN the same types and texts; whether a text came as PrintableString or UTF8String is
/// the encoder's habit and no change of name (RFC 5280 section 7.1).
fn same_name(one: &Name, other: &Name) -> bool {
    let shape = |name: &Name| -> Vec<Vec<(ObjectIdentifier, bool, Vec<u8>)>> {
        name.iter_rdn()
            .map(|rdn| {
                rdn.iter()
                    .map(|attribute| {
                        let is_text = matches!(
                            attribute.value.tag(),
                            Tag::PrintableString | Tag::Utf8String | Tag::Ia5String
                        );
                        (attribute.oid, is_text, attribute.value.value().to_vec())
                    })
                    .collect()
            })
            .collect()
    };
    shape(one) == shape(other)
}

fn has_null_parameters(algorithm: &AlgorithmIdentifierRef<'_>) -> bool {
    algorithm.parameters.is_some_and(|any| any.is_null())
}

fn rsa(bits: &[u8]) -> Result<KeyKind, CsrRefusal> {
    let (modulus, exponent) = rsa_numbers(bits).map_err(|_| malformed("RSA key"))?;
    let modulus_bits = bit_length(modulus);
    let size = u16::try_from(modulus_bits)
        .ok()
        .filter(|bits| (2048..=4096).contains(bits))
        .ok_or(CsrRefusal::RsaSize { bits: modulus_bits })?;
    let is_odd = exponent.last().is_some_and(|byte| byte & 1 == 1);
    // 65537 is 17 bits long, and the smallest odd number of that length but one.
    if !is_odd || bit_length(exponent) < 17 {
        return Err(CsrRefusal::RsaExponent);
    }
    match flaw_of_modulus(modulus) {
        None => Ok(KeyKind::Rsa { bits: size }),
        Some(KeyFlaw::Roca) => Err(CsrRefusal::Roca),
        Some(_) => Err(CsrRefusal::ClosePrimes),
    }
}

fn bit_length(big_endian: &[u8]) -> usize {
    let significant = big_endian.iter().skip_while(|byte| **byte == 0);
    let length = significant.clone().count() * 8;
    let unused = significant
        .clone()
        .next()
        .map_or(0, |byte| byte.leading_zeros());
    length.saturating_sub(usize::try_from(unused).unwrap_or_default())
}

fn verify(kind: KeyKind, outer: &Outer<'_>, spki_der: &[u8]) -> Result<(), CsrRefusal> {
    let parameters_fit = match kind {
        KeyKind::Rsa { .. } => has_null_parameters(&outer.algorithm),
        // mbedTLS 2 and OpenSSL's provider for TPMs write NULL where RFC 5758 section 3.2 wants
        // nothing. It is outside of what is signed, and no certificate is made of it.
        KeyKind::P256 | KeyKind::P384 => {
            outer.algorithm.parameters.is_none() || has_null_parameters(&outer.algorithm)
        }
        KeyKind::Ed25519 => outer.algorithm.parameters.is_none(),
    };
    let algorithm: &'static dyn VerificationAlgorithm = match (kind, outer.algorithm.oid) {
        _ if !parameters_fit => return Err(CsrRefusal::SignatureAlgorithm),
        (KeyKind::P256, rfc5912::ECDSA_WITH_SHA_256) => &algorithm::ECDSA_P256_SHA256_ASN1,
        (KeyKind::P256, rfc5912::ECDSA_WITH_SHA_384) => &algorithm::ECDSA_P256_SHA384_ASN1,
        (KeyKind::P384, rfc5912::ECDSA_WITH_SHA_256) => &algorithm::ECDSA_P384_SHA256_ASN1,
        (KeyKind::P384, rfc5912::ECDSA_WITH_SHA_384) => &algorithm::ECDSA_P384_SHA384_ASN1,
        (KeyKind::Ed25519, rfc8410::ID_ED_25519) => &algorithm::ED25519,
        (KeyKind::Rsa { .. }, rfc5912::SHA_256_WITH_RSA_ENCRYPTION) => {
            &algorithm::RSA_PKCS1_2048_8192_SHA256
        }
        (KeyKind::Rsa { .. }, rfc5912::SHA_384_WITH_RSA_ENCRYPTION) => {
            &algorithm::RSA_PKCS1_2048_8192_SHA384
        }
        _ => return Err(CsrRefusal::SignatureAlgorithm),
    };
    UnparsedPublicKey::new(algorithm, spki_der)
        .verify(outer.info, outer.signature)
        .map_err(|_| CsrRefusal::BadSignature)
}

fn malformed(what: &'static str) -> CsrRefusal {
    CsrRefusal::Malformed { what }
}

#[cfg(test)]
mod tests;
