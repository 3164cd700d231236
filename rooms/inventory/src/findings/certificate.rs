//! Certificates of others, read for what a list is judged by. They are not verified: who made them
//! is not ours to say, and what is wrong with them is what we look for.

use crate::text::visible;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use der::asn1::{ObjectIdentifier, UintRef};
use der::{Decode, Encode, Reader, SliceReader};
use model::{Digest, Timestamp};
use x509_cert::certificate::{CertificateInner, Raw};

/// Largest certificate that is read, in bytes of DER.
const DER_BYTES_MAX: usize = 32 << 10;

/// Not a certificate, and why, in words that hold nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub &'static str);

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// SHA-256 of its DER.
    pub fingerprint: Digest,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key: Digest,
    /// The issuer's name, DER.
    pub issuer: Vec<u8>,
    /// The issuer's name (RFC 4514), made harmless.
    pub issuer_text: String,
    /// The subject's name, DER.
    pub subject: Vec<u8>,
    pub subject_text: String,
    pub serial: Vec<u8>,
    pub not_after: Timestamp,
    /// `RSA`, `EC`, `Ed25519`, `DSA` or the algorithm's number.
    pub key_type: String,
    /// Of the modulus or the curve, where it is known.
    pub key_bits: Option<u32>,
    pub signature: SignatureHash,
}

/// How good the hash of the signature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureHash {
    Md,
    Sha1,
    /// SHA-2, SHA-3, or one that is built in (Ed25519).
    Fine,
}

/// Certificates in a text of PEM blocks, each as its text. Keys and other blocks are left out.
pub(super) fn pem_blocks(text: &str) -> impl Iterator<Item = &str> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    text.match_indices(BEGIN).map(|(begin, _)| {
        let rest = text.get(begin..).unwrap_or("");
        let end = rest
            .get(BEGIN.len()..)
            .and_then(|rest| rest.find("-----BEGIN "))
            .map_or(rest.len(), |end| end.saturating_add(BEGIN.len()));
        rest.get(..end).unwrap_or(rest)
    })
}

/// Reads a cell: PEM (line ends may have become spaces or `\n` in letters), or base64 of DER.
pub(super) fn read_text(text: &str) -> Result<Facts, Unreadable> {
    const NOT_PEM: Unreadable = Unreadable("neither PEM nor base64");
    let body = match text.split_once("-----BEGIN CERTIFICATE-----") {
        Some((_, rest)) => rest
            .split_once("-----END")
            .map(|(body, _)| body)
            .ok_or(Unreadable("PEM without an end; the cell was cut"))?,
        None if text.contains("-----BEGIN") => {
            return Err(Unreadable("PEM of something else than a certificate"));
        }
        None => text,
    };
    let mut plain = String::with_capacity(body.len());
    let mut rest = body.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\\' && matches!(rest.peek(), Some('n' | 'r')) {
            rest.next();
        } else if !c.is_whitespace() {
            plain.push(c);
        }
    }
    if plain.len() > DER_BYTES_MAX.saturating_mul(2) {
        return Err(Unreadable("too long for a certificate"));
    }
    read(&STANDARD.decode(plain).map_err(|_| NOT_PEM)?)
}

/// Reads a certificate, DER.
///
/// # Errors
/// It is none, or too long.
pub fn read(der: &[u8]) -> Result<Facts, Unreadable> {
    if der.len() > DER_BYTES_MAX {
        return Err(Unreadable("too long for a certificate"));
    }
    let broken = |_| Unreadable("not a certificate in DER");
    let certificate = CertificateInner::<Raw>::from_der(der).map_err(broken)?;
    let tbs = certificate.tbs_certificate();
    let spki = tbs.subject_public_key_info();
    let parameter = spki
        .algorithm
        .parameters
        .as_ref()
        .and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    let (key_type, key_bits) = key(
        &spki.algorithm.oid.to_string(),
        parameter.map(|oid| oid.to_string()).as_deref(),
        spki.subject_public_key.raw_bytes(),
    );
    let millis = tbs.validity().not_after.to_unix_duration().as_millis();
    Ok(Facts {
        fingerprint: sha256(der),
        key: sha256(&spki.to_der().map_err(broken)?),
        issuer: tbs.issuer().to_der().map_err(broken)?,
        issuer_text: visible(&tbs.issuer().to_string(), 256),
        subject: tbs.subject().to_der().map_err(broken)?,
        subject_text: visible(&tbs.subject().to_string(), 256),
        serial: tbs.serial_number().as_bytes().to_vec(),
        not_after: Timestamp::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)),
        key_type,
        key_bits,
        signature: signature(&certificate.signature_algorithm().oid.to_string()),
    })
}

/// The common name in a name as text (RFC 4514).
pub(super) fn common_name(name: &str) -> Option<&str> {
    name.split(',')
        .find_map(|part| part.trim().strip_prefix("CN="))
}

fn key(algorithm: &str, curve: Option<&str>, bits: &[u8]) -> (String, Option<u32>) {
    match algorithm {
        "1.2.840.113549.1.1.1" | "1.2.840.113549.1.1.10" => ("RSA".to_owned(), modulus_bits(bits)),
        "1.2.840.10045.2.1" => ("EC".to_owned(), curve.and_then(curve_bits)),
        "1.3.101.112" => ("Ed25519".to_owned(), Some(256)),
        "1.3.101.113" => ("Ed448".to_owned(), Some(456)),
        "1.2.840.10040.4.1" => ("DSA".to_owned(), None),
        other => (other.to_owned(), None),
    }
}

fn modulus_bits(key: &[u8]) -> Option<u32> {
    let mut reader = SliceReader::new(key).ok()?;
    let modulus = reader
        .sequence(|inner| -> der::Result<Vec<u8>> {
            let modulus = UintRef::decode(inner)?.as_bytes().to_vec();
            let _exponent = UintRef::decode(inner)?;
            Ok(modulus)
        })
        .ok()?;
    let first = modulus.first()?;
    let whole = u32::try_from(modulus.len()).ok()?.checked_mul(8)?;
    whole.checked_sub(first.leading_zeros())
}

fn curve_bits(oid: &str) -> Option<u32> {
    Some(match oid {
        "1.2.840.10045.3.1.1" => 192,
        "1.3.132.0.33" => 224,
        "1.2.840.10045.3.1.7" | "1.3.132.0.10" | "1.3.36.3.3.2.8.1.1.7" => 256,
        "1.3.132.0.34" | "1.3.36.3.3.2.8.1.1.11" => 384,
        "1.3.36.3.3.2.8.1.1.13" => 512,
        "1.3.132.0.35" => 521,
        "1.3.132.0.8" | "1.3.132.0.9" => 160,
        "1.3.132.0.6" | "1.3.132.0.7" => 112,
        _ => return None,
    })
}

fn signature(oid: &str) -> SignatureHash {
    match oid {
        "1.2.840.113549.1.1.2" | "1.2.840.113549.1.1.3" | "1.2.840.113549.1.1.4" => {
            SignatureHash::Md
        }
        "1.2.840.113549.1.1.5"
        | "1.3.14.3.2.29"
        | "1.3.14.3.2.27"
        | "1.2.840.10040.4.3"
        | "1.2.840.10045.4.1" => SignatureHash::Sha1,
        _ => SignatureHash::Fine,
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    Digest(out)
}
