//! The pieces that certificates and CRLs are made of, in DER.

use super::ProfileError;
use crate::certificate;
use crate::csr::KeyKind;
use const_oid::db::{rfc4519, rfc5912};
use core::net::IpAddr;
use der::asn1::{Any, BitString, Ia5String, OctetString, PrintableString, Utf8StringRef};
use der::{DateTime, Decode, Encode, Tag};
use model::{Digest, Timestamp};
use spki::{AlgorithmIdentifierOwned, ObjectIdentifier, SubjectPublicKeyInfoOwned};
use std::time::Duration;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::time::Time;

pub(super) fn extension<T: ToExtension<Error = der::Error>>(
    subject: &Name,
    value: T,
) -> Result<Extension, ProfileError> {
    value
        .to_extension(subject, &[])
        .map_err(internal("extension"))
}

/// The moment in 46 bits of milliseconds, then what nobody can guess. First byte 0x40 to 0x7f:
/// positive, never zero, always 16 bytes.
///
/// In the order of their making, certificates lie side by side wherever they are kept by their serial
/// number; at random places each of them costs a page of its own.
pub(super) fn serial(now: Timestamp, random: [u8; 16]) -> [u8; 16] {
    const MILLIS: u64 = (1 << 46) - 1;
    let moment = (1 << 46) | now.as_millis() & MILLIS;
    let mut serial = random;
    for (to, from) in serial.iter_mut().zip(moment.to_be_bytes().iter().skip(2)) {
        *to = *from;
    }
    serial
}

/// A name of its own per key, so that a new CA never shares an issuer name, and with it the
/// names of its certificates, with an earlier one.
pub(super) fn ca_name(
    organisation: &str,
    unit: Option<&str>,
    role: &str,
    key: &SubjectPublicKeyInfoOwned,
) -> Result<Name, ProfileError> {
    use std::fmt::Write;
    let mut common_name = format!("{role} ");
    for byte in key_identifier(key).iter().take(4) {
        write!(common_name, "{byte:02x}").map_err(internal("CA name"))?;
    }
    let mut attributes = vec![(rfc4519::ORGANIZATION_NAME, organisation)];
    attributes.extend(unit.map(|unit| (rfc4519::ORGANIZATIONAL_UNIT_NAME, unit)));
    attributes.push((rfc4519::COMMON_NAME, &common_name));
    name(&attributes)
}

/// RDNs from typed values, never by parsing RFC 4514 text, in which a value could add RDNs.
pub(super) fn name(attributes: &[(ObjectIdentifier, &str)]) -> Result<Name, ProfileError> {
    let mut sequence = RdnSequence::default();
    for (oid, text) in attributes {
        // X.520 has serialNumber as PrintableString; all else is UTF8String, as OpenSSL writes it.
        let value = match PrintableString::new(text) {
            Ok(printable) if *oid == rfc4519::SERIAL_NUMBER => Any::encode_from(&printable),
            _ => Utf8StringRef::new(text).and_then(|text| Any::encode_from(&text)),
        };
        let attribute = AttributeTypeAndValue {
            oid: *oid,
            value: value.map_err(internal("name"))?,
        };
        let rdn = RelativeDistinguishedName::try_from(vec![attribute]).map_err(internal("name"))?;
        sequence.push(rdn);
    }
    Name::from_der(&sequence.to_der().map_err(internal("name"))?).map_err(internal("name"))
}

pub(crate) fn uri(text: &str) -> Result<GeneralName, ProfileError> {
    Ia5String::new(text)
        .map(GeneralName::UniformResourceIdentifier)
        .map_err(internal("URI"))
}

pub(super) fn server_name(text: &str) -> Result<GeneralName, ProfileError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let octets = match address {
            IpAddr::V4(address) => OctetString::new(address.octets()),
            IpAddr::V6(address) => OctetString::new(address.octets()),
        };
        return octets
            .map(GeneralName::IpAddress)
            .map_err(internal("IP address"));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if text.len() > 253 || !text.split('.').all(is_label) {
        return Err(ProfileError::ServerName {
            name: text.chars().take(64).collect(),
        });
    }
    Ia5String::new(text)
        .map(GeneralName::DnsName)
        .map_err(internal("DNS name"))
}

pub(super) fn read_key(spki: &[u8]) -> Result<SubjectPublicKeyInfoOwned, ProfileError> {
    KeyKind::of(spki)?;
    SubjectPublicKeyInfoOwned::from_der(spki).map_err(internal("public key"))
}

/// RFC 7093 section 2, method 1: the first 160 bits of SHA-256 over the key's bits.
pub(super) fn key_identifier(key: &SubjectPublicKeyInfoOwned) -> Vec<u8> {
    let Digest(digest) = certificate::sha256(key.subject_public_key.raw_bytes());
    digest.iter().take(20).copied().collect()
}

/// RFC 5758 section 3.2: parameters are absent.
pub(crate) fn ecdsa_with_sha256() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid: rfc5912::ECDSA_WITH_SHA_256,
        parameters: None,
    }
}

/// UTCTime to 2049, GeneralizedTime from 2050 (RFC 5280 section 4.1.2.5).
pub(crate) fn time(moment: Timestamp) -> Result<Time, ProfileError> {
    DateTime::from_unix_duration(Duration::from_secs(moment.as_seconds()))
        .map(Time::from)
        .map_err(internal("time"))
}

/// `SEQUENCE { tbs, algorithm, BIT STRING signature }`: certificates and CRLs alike.
pub(crate) fn signed(tbs: &[u8], signature: &[u8]) -> Result<Vec<u8>, ProfileError> {
    let mut body = tbs.to_vec();
    let encode = || -> der::Result<Vec<u8>> {
        body.extend(ecdsa_with_sha256().to_der()?);
        body.extend(BitString::from_bytes(signature)?.to_der()?);
        Any::new(Tag::Sequence, body)?.to_der()
    };
    encode().map_err(internal("signature"))
}

pub(crate) fn internal<E>(what: &'static str) -> impl Fn(E) -> ProfileError {
    move |_| ProfileError::Internal { what }
}
