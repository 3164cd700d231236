//! Reading a certificate somebody else wrote.

use crate::refusal::PathRefusal;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use const_oid::db::rfc5912::ECDSA_WITH_SHA_256;
use der::asn1::BitStringRef;
use der::{Decode, Encode, Reader, SliceReader};
use model::{CertificateId, Digest, Timestamp};
use spki::AlgorithmIdentifierOwned;
use x509_cert::Certificate;
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::time::{Time, Validity};

/// Issuer and serial number of a certificate in DER: how it is named everywhere.
///
/// # Errors
/// [`PathRefusal::Malformed`] if it cannot be read or its serial number is zero or longer than
/// 20 bytes (RFC 5280 section 4.1.2.2).
pub fn certificate_id(certificate_der: &[u8]) -> Result<CertificateId, PathRefusal> {
    id_of(&read(certificate_der)?)
}

/// When a certificate in DER begins and ends, both inclusive.
///
/// # Errors
/// [`PathRefusal::Malformed`] if it cannot be read.
pub fn validity(certificate_der: &[u8]) -> Result<(Timestamp, Timestamp), PathRefusal> {
    Ok(window(read(certificate_der)?.tbs_certificate().validity()))
}

/// SHA-256 of the SubjectPublicKeyInfo of a certificate in DER.
///
/// # Errors
/// [`PathRefusal::Malformed`] if it cannot be read.
pub fn public_key_digest(certificate_der: &[u8]) -> Result<Digest, PathRefusal> {
    key_digest(&read(certificate_der)?)
}

/// SubjectPublicKeyInfo in DER of a certificate in DER.
///
/// # Errors
/// [`PathRefusal::Malformed`] if it cannot be read.
pub fn public_key(certificate_der: &[u8]) -> Result<Vec<u8>, PathRefusal> {
    public_key_of(&read(certificate_der)?)
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    Digest(out)
}

/// OCSP names CAs by it, and lists name keys; nothing rests on its strength.
pub(crate) fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    for (to, from) in out.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    out
}

pub(crate) fn malformed(what: &'static str) -> PathRefusal {
    PathRefusal::Malformed { what }
}

pub(crate) fn read(certificate_der: &[u8]) -> Result<Certificate, PathRefusal> {
    Certificate::from_der(certificate_der).map_err(|_| malformed("not a certificate in DER"))
}

pub(crate) fn id_of(certificate: &Certificate) -> Result<CertificateId, PathRefusal> {
    let tbs = certificate.tbs_certificate();
    let issuer = name_digest(tbs.issuer())?;
    CertificateId::new(issuer, tbs.serial_number().as_bytes())
        .ok_or_else(|| malformed("serial number is zero or longer than 20 bytes"))
}

pub(crate) fn name_der(name: &Name) -> Result<Vec<u8>, PathRefusal> {
    name.to_der().map_err(|_| malformed("name"))
}

pub(crate) fn name_digest(name: &Name) -> Result<Digest, PathRefusal> {
    Ok(sha256(&name_der(name)?))
}

pub(crate) fn key_digest(certificate: &Certificate) -> Result<Digest, PathRefusal> {
    public_key_of(certificate).map(|der| sha256(&der))
}

/// SubjectPublicKeyInfo in DER.
pub(crate) fn public_key_of(certificate: &Certificate) -> Result<Vec<u8>, PathRefusal> {
    certificate
        .tbs_certificate()
        .subject_public_key_info()
        .to_der()
        .map_err(|_| malformed("public key"))
}

/// Whether the holder of `issuer`'s key signed a certificate, as our CAs sign: ECDSA P-256 with
/// SHA-256. The bytes that came are looked at, not what was read of them.
pub(crate) fn is_signed_by(certificate_der: &[u8], issuer: &Certificate) -> bool {
    let read = || -> der::Result<(&[u8], AlgorithmIdentifierOwned, &[u8])> {
        let mut reader = SliceReader::new(certificate_der)?;
        let parts = reader.sequence(|reader| {
            let tbs = reader.tlv_bytes()?;
            let algorithm = AlgorithmIdentifierOwned::decode(reader)?;
            let signature = BitStringRef::decode(reader)?;
            let signature = signature.as_bytes().ok_or(der::ErrorKind::Failed)?;
            Ok::<_, der::Error>((tbs, algorithm, signature))
        })?;
        reader.finish()?;
        Ok(parts)
    };
    let Ok((tbs, algorithm, signature)) = read() else {
        return false;
    };
    let Ok(key) = issuer.tbs_certificate().subject_public_key_info().to_der() else {
        return false;
    };
    algorithm.oid == ECDSA_WITH_SHA_256
        && algorithm.parameters.is_none()
        && UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
            .verify(tbs, signature)
            .is_ok()
}

pub(crate) fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_seconds(time.to_unix_duration().as_secs())
}

/// From when until when, both inclusive (RFC 5280 section 4.1.2.5).
pub(crate) fn window(validity: &Validity) -> (Timestamp, Timestamp) {
    (
        timestamp(&validity.not_before),
        timestamp(&validity.not_after),
    )
}

macro_rules! extension {
    ($name:ident, $type:ty, $what:literal) => {
        /// The extension, `None` if absent; doubled ones are refused.
        pub(crate) fn $name(certificate: &Certificate) -> Result<Option<$type>, PathRefusal> {
            certificate
                .tbs_certificate()
                .get_extension::<$type>()
                .map(|found| found.map(|(_, value)| value))
                .map_err(|_| malformed($what))
        }
    };
}

extension!(subject_alt_name, SubjectAltName, "subjectAltName");
extension!(key_usage, KeyUsage, "keyUsage");
extension!(extended_key_usage, ExtendedKeyUsage, "extendedKeyUsage");
extension!(
    basic_constraints,
    x509_cert::ext::pkix::BasicConstraints,
    "basicConstraints"
);
extension!(
    name_constraints,
    x509_cert::ext::pkix::NameConstraints,
    "nameConstraints"
);
extension!(
    subject_key_identifier,
    x509_cert::ext::pkix::SubjectKeyIdentifier,
    "subjectKeyIdentifier"
);
