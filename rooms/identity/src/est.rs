//! The bodies of Enrollment over Secure Transport (RFC 7030, as RFC 8951 corrected it).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use der::asn1::Any;
use der::{Decode, Encode, Tag, TagNumber, Tagged};
use std::borrow::Cow;

/// The largest body looked at, in bytes of base64 with its line ends.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// Of answers that carry certificates.
pub const CERTIFICATES_MEDIA_TYPE: &str = "application/pkcs7-mime; smime-type=certs-only";
/// Of requests.
pub const REQUEST_MEDIA_TYPE: &str = "application/pkcs10";
/// Of answers to devices that cannot read CMS and ask for this by `Accept`.
pub const PEM_MEDIA_TYPE: &str = "application/pem-certificate-chain";

/// Why a body is refused. The device's firmware must act, whatever the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyRefusal {
    #[error("the media type is {found:?}; device: send application/pkcs10")]
    MediaType { found: String },
    #[error("the body is larger than 16 KiB; device: send one certificate request")]
    TooLarge,
    #[error("the body is empty; device: send one certificate request in base64")]
    Empty,
    #[error(
        "the body is not base64 (RFC 4648 section 4) without armour; device: send the request's \
         DER in base64, lines and all else left out"
    )]
    NotBase64,
}

impl BodyRefusal {
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::MediaType { .. } => "body-media-type",
            Self::TooLarge => "body-too-large",
            Self::Empty => "body-empty",
            Self::NotBase64 => "body-not-base64",
        }
    }

    #[must_use]
    pub const fn who_must_act(&self) -> crate::Actor {
        crate::Actor::Device
    }

    /// 415, 413 or 400.
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::MediaType { .. } => 415,
            Self::TooLarge => 413,
            Self::Empty | Self::NotBase64 => 400,
        }
    }
}

/// The DER in the body of simpleenroll and simplereenroll.
///
/// `content_type` is the header's value, if there is one: without it the body is read all the
/// same. Content-Transfer-Encoding means nothing (RFC 8951 section 3.1) and is not asked for.
/// Line ends (CRLF or LF, anywhere) are skipped; any other stranger is refused. Raw DER is refused.
///
/// # Errors
/// [`BodyRefusal`].
pub fn decode_body(content_type: Option<&str>, body: &[u8]) -> Result<Vec<u8>, BodyRefusal> {
    if let Some(header) = content_type {
        let media_type = header.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case(REQUEST_MEDIA_TYPE) {
            return Err(BodyRefusal::MediaType {
                found: header.chars().take(64).collect(),
            });
        }
    }
    if body.len() > BODY_BYTES_MAX {
        return Err(BodyRefusal::TooLarge);
    }
    let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let text: Cow<'_, [u8]> = if body.iter().any(is_line_end) {
        body.iter()
            .copied()
            .filter(|byte| !is_line_end(byte))
            .collect()
    } else {
        body.into()
    };
    if text.is_empty() {
        return Err(BodyRefusal::Empty);
    }
    STANDARD.decode(&text).map_err(|_| BodyRefusal::NotBase64)
}

/// Base64 in one line: what `openssl base64 -d -A` reads. Send it with
/// `Content-Transfer-Encoding: base64`, which older clients look for.
#[must_use]
pub fn encode_body(der: &[u8]) -> String {
    STANDARD.encode(der)
}

/// Certificates in DER as PEM, in the order given.
#[must_use]
pub fn pem(certificates_der: &[&[u8]]) -> String {
    let mut out = String::new();
    for der in certificates_der {
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(der);
        let mut rest = text.as_str();
        while let Some((line, tail)) = rest.split_at_checked(64) {
            out.push_str(line);
            out.push('\n');
            rest = tail;
        }
        if !rest.is_empty() {
            out.push_str(rest);
            out.push('\n');
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out
}

/// Certificates could not be wrapped: one of them is not DER.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a certificate could not be wrapped in CMS; report this to us")]
pub struct NotCertificates;

/// Certificates in DER as a degenerate CMS SignedData (RFC 5652 section 5.1, RFC 7030
/// section 4.1.3), in the order given: small clients take the first one, so an enrollment's answer
/// is the new certificate alone, and cacerts begins with the root.
///
/// # Errors
/// If one is not a DER SEQUENCE.
pub fn certs_only(certificates_der: &[&[u8]]) -> Result<Vec<u8>, NotCertificates> {
    let wrap = || -> der::Result<Vec<u8>> {
        let mut certificates = Vec::new();
        for der in certificates_der {
            Any::from_der(der)?.tag().assert_eq(Tag::Sequence)?;
            certificates.extend_from_slice(der);
        }
        // Not a SET OF: DER would sort it, and the first would no longer be the first.
        let certificates = explicit_0(certificates)?;
        let empty_set = Any::new(Tag::Set, [])?.to_der()?;
        let content_info = sequence(&[ID_DATA.to_der()?])?;
        let signed_data = sequence(&[
            1u8.to_der()?,
            empty_set.clone(),
            content_info,
            certificates,
            empty_set,
        ])?;
        sequence(&[ID_SIGNED_DATA.to_der()?, explicit_0(signed_data)?])
    };
    wrap().map_err(|_| NotCertificates)
}

const ID_DATA: der::asn1::ObjectIdentifier =
    der::asn1::ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ID_SIGNED_DATA: der::asn1::ObjectIdentifier =
    der::asn1::ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

fn sequence(parts: &[Vec<u8>]) -> der::Result<Vec<u8>> {
    Any::new(Tag::Sequence, parts.concat())?.to_der()
}

fn explicit_0(content: Vec<u8>) -> der::Result<Vec<u8>> {
    let tag = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(0),
    };
    Any::new(tag, content)?.to_der()
}
