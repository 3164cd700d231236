//! A manufacturer's signature on its file: CMS, detached (RFC 8520 section 13, RFC 5652).
//!
//! The signature stands beside the file as `mud/<name>.p7s`; whom to believe stands as roots in
//! `mud/*.pem`. A fleet with such roots takes no file without a signature. Looked at when a fleet is
//! planned, never when it is loaded again: a certificate ends, and what was applied stays applied.

use crate::diagnostic::{Diagnostic, Place, SourceFile};
use crate::fleet::{Fleet, Part, part_of};
use aws_lc_rs::digest;
use der::asn1::ObjectIdentifier;
use der::{Decode, Encode, Reader, SliceReader, Tag, TagNumber};
use model::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, aws_lc_rs as algorithm};

const BYTES_MAX: usize = 64 * 1024;
const CERTIFICATES_MAX: usize = 8;
const SIGNERS_MAX: usize = 4;

/// Why a signature says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefusal {
    #[error("there is no signature beside it, and this fleet believes signed files only")]
    Missing,
    #[error("the signature is no detached CMS signature")]
    Malformed,
    #[error("it was changed after it was signed")]
    OtherContent,
    #[error("its signature was not made with the certificate that it names")]
    BadSignature,
    #[error("its signer is not vouched for by a root in mud/*.pem, or not at this time")]
    UnknownSigner,
    #[error("there is a signature beside it, and no root in mud/*.pem to hold it against")]
    NoRoots,
}

/// Whether all the MUD files of a fleet are signed by whom it believes, if it believes anybody.
#[must_use]
pub fn check_mud_signatures(
    fleet: &Fleet,
    files: &[SourceFile],
    now: Timestamp,
) -> Vec<Diagnostic> {
    let part = |extension: &str| {
        let files = files
            .iter()
            .filter(|file| part_of(&file.path) == Some(Part::Mud));
        let extension = format!(".{extension}");
        files.filter(move |file| file.path.ends_with(&extension))
    };
    let mut roots = Vec::new();
    let mut wrong = Vec::new();
    for file in part("pem") {
        let found: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(file.text.as_bytes()).collect();
        match found {
            Ok(found) if !found.is_empty() => roots.extend(found),
            _ => wrong.push(Diagnostic::new(
                Place::start_of(file),
                "there is no certificate in it",
                String::from("put the manufacturer's root here as PEM"),
            )),
        }
    }
    for mud in fleet.products().filter_map(|product| product.mud.as_ref()) {
        let Some(file) = files.iter().find(|file| file.path == mud.path) else {
            continue;
        };
        let beside = format!("{}p7s", mud.path.trim_end_matches("json"));
        let signature = files.iter().find(|file| file.path == beside);
        let outcome = match (signature, roots.is_empty()) {
            (None, true) => continue,
            (Some(_), true) => Err(SignatureRefusal::NoRoots),
            (None, false) => Err(SignatureRefusal::Missing),
            (Some(signature), false) => from_pem(&signature.text)
                .ok_or(SignatureRefusal::Malformed)
                .and_then(|der| verify_signature(file.text.as_bytes(), &der, &roots, now)),
        };
        if let Err(refusal) = outcome {
            let place = match (refusal, signature) {
                (SignatureRefusal::Malformed, Some(signature)) => signature,
                _ => file,
            };
            let help = "ask the manufacturer; `openssl cms -verify -inform PEM -in mud/X.p7s \
                        -content mud/X.json -binary -CAfile mud/ROOT.pem` judges it too";
            wrong.push(Diagnostic::new(
                Place::start_of(place),
                refusal.to_string(),
                String::from(help),
            ));
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

/// `-----BEGIN CMS-----` or `PKCS7`, as tools write it.
fn from_pem(text: &str) -> Option<Vec<u8>> {
    let (label, der) = der::pem::decode_vec(text.as_bytes()).ok()?;
    matches!(label, "CMS" | "PKCS7").then_some(der)
}

/// Whether `signature` (DER) is a detached signature on exactly `content`, by a signer that one of
/// `roots` vouches for at `now`.
///
/// # Errors
/// Why it is not.
pub fn verify_signature(
    content: &[u8],
    signature: &[u8],
    roots: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<(), SignatureRefusal> {
    if signature.len() > BYTES_MAX {
        return Err(SignatureRefusal::Malformed);
    }
    let signed = Signed::read(signature).map_err(|_| SignatureRefusal::Malformed)?;
    let anchors: Vec<TrustAnchor<'_>> = roots
        .iter()
        .filter_map(|root| anchor_from_trusted_cert(root).ok())
        .collect();
    let mut refusal = SignatureRefusal::Malformed;
    for signer in &signed.signers {
        match signer.verify(content, &signed.certificates, &anchors, now) {
            Ok(()) => return Ok(()),
            Err(why) => refusal = why,
        }
    }
    Err(refusal)
}

/// SignedData, as far as it is looked at.
struct Signed<'a> {
    certificates: Vec<&'a [u8]>,
    signers: Vec<Signer<'a>>,
}

struct Signer<'a> {
    issuer_and_serial: Option<&'a [u8]>,
    key_id: Option<&'a [u8]>,
    digest: ObjectIdentifier,
    /// With the tag of a SET, which is what is signed.
    attributes: Option<Vec<u8>>,
    message_digest: Option<&'a [u8]>,
    content_type: Option<ObjectIdentifier>,
    algorithm: ObjectIdentifier,
    signature: &'a [u8],
}

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
/// id-kp-emailProtection, the purpose that signers of CMS have where they name one.
const EMAIL_PROTECTION: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 4];

/// A tag, the content, and all of it.
type Tlv<'a> = (Tag, &'a [u8], &'a [u8]);

fn parts(mut content: &[u8]) -> der::Result<Vec<Tlv<'_>>> {
    let mut found = Vec::new();
    while !content.is_empty() {
        let mut reader = SliceReader::new(content)?;
        let header = der::Header::peek(&reader)?;
        let whole = reader.tlv_bytes()?;
        let length = usize::try_from(header.length())?;
        let value = whole
            .get(whole.len().saturating_sub(length)..)
            .unwrap_or_default();
        found.push((header.tag(), value, whole));
        content = content.get(whole.len()..).unwrap_or_default();
    }
    Ok(found)
}

fn malformed() -> der::Error {
    der::ErrorKind::Failed.into()
}

const fn context(number: u32, constructed: bool) -> Tag {
    Tag::ContextSpecific {
        constructed,
        number: TagNumber(number),
    }
}

fn oid(part: Option<&Tlv<'_>>) -> der::Result<ObjectIdentifier> {
    let (_, _, whole) = part.ok_or_else(malformed)?;
    ObjectIdentifier::from_der(whole)
}

/// The first of an AlgorithmIdentifier.
fn algorithm_of(part: Option<&Tlv<'_>>) -> der::Result<ObjectIdentifier> {
    let (_, value, _) = part.ok_or_else(malformed)?;
    oid(parts(value)?.first())
}

impl<'a> Signed<'a> {
    fn read(bytes: &'a [u8]) -> der::Result<Self> {
        let whole = parts(bytes)?;
        let [(Tag::Sequence, info, _)] = whole.as_slice() else {
            return Err(malformed());
        };
        let info = parts(info)?;
        let explicit = info.get(1).filter(|(tag, ..)| *tag == context(0, true));
        let (_, explicit, _) = explicit.ok_or_else(malformed)?;
        let inner = parts(explicit)?;
        let (_, content, _) = inner.first().ok_or_else(malformed)?;
        let content = parts(content)?;
        let encapsulated = content
            .get(2)
            .map(|(_, value, _)| parts(value))
            .transpose()?
            .unwrap_or_default();
        // Detached: a content inside would be another than the file.
        if oid(info.first())? != SIGNED_DATA
            || oid(encapsulated.first())? != DATA
            || encapsulated.len() != 1
        {
            return Err(malformed());
        }
        let certificates = content.iter().find(|(tag, ..)| *tag == context(0, true));
        let certificates = certificates
            .map(|(_, value, _)| parts(value))
            .transpose()?
            .unwrap_or_default();
        let (_, signers, _) = content
            .last()
            .filter(|(tag, ..)| *tag == Tag::Set)
            .ok_or_else(malformed)?;
        let signers = parts(signers)?;
        if certificates.len() > CERTIFICATES_MAX || signers.len() > SIGNERS_MAX {
            return Err(malformed());
        }
        Ok(Self {
            certificates: certificates.iter().map(|(_, _, whole)| *whole).collect(),
            signers: signers
                .iter()
                .map(|(_, value, _)| Signer::read(value))
                .collect::<der::Result<_>>()?,
        })
    }
}

impl<'a> Signer<'a> {
    fn read(value: &'a [u8]) -> der::Result<Self> {
        let all = parts(value)?;
        let mut rest = all.iter().skip(1);
        let (tag, id, _) = *rest.next().ok_or_else(malformed)?;
        let digest = algorithm_of(rest.next())?;
        let mut next = rest.next();
        let mut attributes = None;
        let (mut message_digest, mut content_type) = (None, None);
        if let Some((tag, value, whole)) = next
            && *tag == context(0, true)
        {
            for (_, attribute, _) in parts(value)? {
                let attribute = parts(attribute)?;
                let values = attribute
                    .get(1)
                    .map(|(_, value, _)| parts(value))
                    .transpose()?;
                let values = values.unwrap_or_default();
                // One value each, and each attribute once: RFC 5652 section 11.
                let once = |known: bool| {
                    if known || values.len() != 1 {
                        Err(malformed())
                    } else {
                        Ok(())
                    }
                };
                match oid(attribute.first())? {
                    MESSAGE_DIGEST => {
                        once(message_digest.is_some())?;
                        message_digest = values.first().map(|(_, value, _)| *value);
                    }
                    CONTENT_TYPE => {
                        once(content_type.is_some())?;
                        content_type = Some(oid(values.first())?);
                    }
                    _ => {}
                }
            }
            let mut signed = whole.to_vec();
            if let Some(tag) = signed.first_mut() {
                *tag = 0x31;
            }
            attributes = Some(signed);
            next = rest.next();
        }
        let algorithm = algorithm_of(next)?;
        let (_, signature, _) = rest.next().ok_or_else(malformed)?;
        Ok(Self {
            issuer_and_serial: (tag == Tag::Sequence).then_some(id),
            key_id: (tag == context(0, false)).then_some(id),
            digest,
            attributes,
            message_digest,
            content_type,
            algorithm,
            signature,
        })
    }

    fn verify(
        &self,
        content: &[u8],
        certificates: &[&[u8]],
        anchors: &[TrustAnchor<'_>],
        now: Timestamp,
    ) -> Result<(), SignatureRefusal> {
        let (hash, algorithms) = self.algorithms().ok_or(SignatureRefusal::Malformed)?;
        let signed = match &self.attributes {
            Some(attributes) => {
                if self.content_type != Some(DATA) {
                    return Err(SignatureRefusal::Malformed);
                }
                if Some(digest::digest(hash, content).as_ref()) != self.message_digest {
                    return Err(SignatureRefusal::OtherContent);
                }
                attributes.as_slice()
            }
            None => content,
        };
        let mut certificate = (certificates.iter()).filter(|der| self.is_by(der).unwrap_or(false));
        let der = certificate.next().ok_or(SignatureRefusal::UnknownSigner)?;
        let der = CertificateDer::from(*der);
        let signer = EndEntityCert::try_from(&der).map_err(|_| SignatureRefusal::Malformed)?;
        if !(algorithms.iter()).any(|one| {
            signer
                .verify_signature(*one, signed, self.signature)
                .is_ok()
        }) {
            return Err(SignatureRefusal::BadSignature);
        }
        let others: Vec<CertificateDer<'_>> = certificates
            .iter()
            .map(|der| CertificateDer::from(*der))
            .collect();
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now.as_millis()));
        let usage = KeyUsage::required_if_present(EMAIL_PROTECTION);
        (signer.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            anchors,
            &others,
            now,
            usage,
            None,
            None,
        ))
        .map(|_| ())
        .map_err(|_| SignatureRefusal::UnknownSigner)
    }

    /// The digest of the content, and the signature's algorithms that it may be, by curve.
    fn algorithms(
        &self,
    ) -> Option<(
        &'static digest::Algorithm,
        Vec<&'static dyn SignatureVerificationAlgorithm>,
    )> {
        let hash = match self.digest {
            SHA256 => &digest::SHA256,
            SHA384 => &digest::SHA384,
            SHA512 => &digest::SHA512,
            _ => return None,
        };
        let algorithms: Vec<&'static dyn SignatureVerificationAlgorithm> =
            match (self.algorithm, self.digest) {
                (RSA_SHA256, _) | (RSA, SHA256) => vec![algorithm::RSA_PKCS1_2048_8192_SHA256],
                (RSA_SHA384, _) | (RSA, SHA384) => vec![algorithm::RSA_PKCS1_2048_8192_SHA384],
                (RSA_SHA512, _) | (RSA, SHA512) => vec![algorithm::RSA_PKCS1_2048_8192_SHA512],
                (ECDSA_SHA256, _) => {
                    vec![algorithm::ECDSA_P256_SHA256, algorithm::ECDSA_P384_SHA256]
                }
                (ECDSA_SHA384, _) => {
                    vec![algorithm::ECDSA_P256_SHA384, algorithm::ECDSA_P384_SHA384]
                }
                _ => return None,
            };
        Some((hash, algorithms))
    }

    /// Whether a certificate is the one that the signer names.
    fn is_by(&self, certificate: &[u8]) -> der::Result<bool> {
        let read = x509_cert::Certificate::from_der(certificate)?;
        let read = read.tbs_certificate();
        if let Some(named) = self.issuer_and_serial {
            let ours = [read.issuer().to_der()?, read.serial_number().to_der()?].concat();
            return Ok(ours == named);
        }
        let key_id: Option<(bool, x509_cert::ext::pkix::SubjectKeyIdentifier)> =
            read.get_extension().map_err(|_| malformed())?;
        Ok(self.key_id.is_some() && key_id.as_ref().map(|(_, id)| id.0.as_bytes()) == self.key_id)
    }
}
