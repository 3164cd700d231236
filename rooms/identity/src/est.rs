//! The bodies of Enrollment over Secure Transport (RFC 7030, as RFC 8951 corrected it).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use der::asn1::Any;
use der::{Decode, Encode, Tag, TagNumber, Tagged};
use std::borrow::Cow;

/// The largest body looked at, in bytes as they came.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// Of answers that carry certificates.
pub const CERTIFICATES_MEDIA_TYPE: &str = "application/pkcs7-mime; smime-type=certs-only";
/// Of requests.
pub const REQUEST_MEDIA_TYPE: &str = "application/pkcs10";
/// Of answers to devices that cannot read CMS and ask for this by `Accept`: the one registered
/// media type for certificates in PEM (RFC 8555 section 9.1).
pub const PEM_MEDIA_TYPE: &str = "application/pem-certificate-chain";
/// Of requests in PEM. No type is registered for these; this is the one that is in use.
pub const PEM_REQUEST_MEDIA_TYPE: &str = "application/x-pem-file";

/// Why a body is refused. The device's firmware must act, whatever the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyRefusal {
    #[error(
        "the media type is {found:?}; device: send application/pkcs10, or application/x-pem-file \
         for PEM"
    )]
    MediaType { found: String },
    #[error("the body is larger than 16 KiB; device: send one certificate request")]
    TooLarge,
    #[error("the body is empty; device: send one certificate request in base64")]
    Empty,
    #[error(
        "the body is not base64 (RFC 4648 section 4) without armour; device: send the request's \
         DER in base64, lines and all else left out, or PEM as application/x-pem-file"
    )]
    NotBase64,
    #[error(
        "the body is not one PEM block of a request (RFC 7468 section 7); device: send \
         -----BEGIN CERTIFICATE REQUEST-----, base64 in lines, -----END CERTIFICATE REQUEST-----"
    )]
    NotPem,
}

impl BodyRefusal {
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::MediaType { .. } => "body-media-type",
            Self::TooLarge => "body-too-large",
            Self::Empty => "body-empty",
            Self::NotBase64 => "body-not-base64",
            Self::NotPem => "body-not-pem",
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
            Self::Empty | Self::NotBase64 | Self::NotPem => 400,
        }
    }
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestBody {
    pub der: Vec<u8>,
    pub form: BodyForm,
}

/// How a request was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm {
    /// As RFC 8951 has it.
    Base64,
    Pem,
    /// Bare DER: no standard's form, forgiven and worth a log line.
    Der,
}

/// The DER in the body of simpleenroll and simplereenroll.
///
/// `content_type` is the header's value, if there is one: without it the body is read as
/// `application/pkcs10`. Content-Transfer-Encoding means nothing (RFC 8951 section 3.1) and is not
/// asked for. Line ends (CRLF or LF, anywhere) are skipped; any other stranger is refused. A body
/// that begins as DER does is no base64, which never begins so for a request, and is taken as it is.
///
/// # Errors
/// [`BodyRefusal`].
pub fn decode_body(content_type: Option<&str>, body: &[u8]) -> Result<RequestBody, BodyRefusal> {
    let media_type = |wanted: &str| {
        content_type.is_some_and(|header| {
            let found = header.split(';').next().unwrap_or_default().trim();
            found.eq_ignore_ascii_case(wanted)
        })
    };
    let is_pem = media_type(PEM_REQUEST_MEDIA_TYPE);
    if let Some(header) = content_type
        && !is_pem
        && !media_type(REQUEST_MEDIA_TYPE)
    {
        return Err(BodyRefusal::MediaType {
            found: header.chars().take(64).collect(),
        });
    }
    if body.len() > BODY_BYTES_MAX {
        return Err(BodyRefusal::TooLarge);
    }
    let (der, form) = if is_pem {
        (request_in_pem(body)?, BodyForm::Pem)
    } else if body.first() == Some(&DER_SEQUENCE) {
        (body.to_vec(), BodyForm::Der)
    } else {
        (request_in_base64(body)?, BodyForm::Base64)
    };
    Ok(RequestBody { der, form })
}

/// What every request in DER begins with. As text it is the digit 0, with which the base64 of DER
/// never begins.
const DER_SEQUENCE: u8 = 0x30;

fn request_in_base64(body: &[u8]) -> Result<Vec<u8>, BodyRefusal> {
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

/// The one block of a text in PEM. OpenSSL before 1.0 wrote NEW CERTIFICATE REQUEST.
///
/// # Errors
/// [`BodyRefusal`].
pub fn request_in_pem(text: &[u8]) -> Result<Vec<u8>, BodyRefusal> {
    if text.len() > BODY_BYTES_MAX {
        return Err(BodyRefusal::TooLarge);
    }
    let text = std::str::from_utf8(text)
        .map_err(|_| BodyRefusal::NotPem)?
        // C programs are wont to send the end of their string too.
        .trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0');
    if text.is_empty() {
        return Err(BodyRefusal::Empty);
    }
    let block = |label: &str| {
        text.strip_prefix(&format!("-----BEGIN {label}-----"))?
            .strip_suffix(&format!("-----END {label}-----"))
    };
    let block = block("CERTIFICATE REQUEST").or_else(|| block("NEW CERTIFICATE REQUEST"));
    let base64: Vec<u8> = block
        .ok_or(BodyRefusal::NotPem)?
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    if base64.is_empty() {
        return Err(BodyRefusal::Empty);
    }
    STANDARD.decode(&base64).map_err(|_| BodyRefusal::NotPem)
}

/// The operations of EST (RFC 7030 section 3.2.2), which no label may be called after.
pub const OPERATIONS: [&str; 6] = [
    "cacerts",
    "simpleenroll",
    "simplereenroll",
    "serverkeygen",
    "csrattrs",
    "fullcmc",
];

/// Does a device ask for PEM? It must name [`PEM_MEDIA_TYPE`] and prefer it to CMS: a wildcard, or
/// both alike, is answered as RFC 7030 has it.
#[must_use]
pub fn wants_pem(accept: Option<&str>) -> bool {
    let weight = |wanted: &str| {
        let ranges = accept.unwrap_or_default().split(',');
        let named = ranges.filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            if !parts.next()?.eq_ignore_ascii_case(wanted) {
                return None;
            }
            // RFC 9110 section 12.4.2; what cannot be read is not wanted.
            let quality = parts.find_map(|part| {
                let (name, value) = part.split_once('=')?;
                name.trim().eq_ignore_ascii_case("q").then_some(value)
            });
            Some(quality.map_or(1.0, |text| text.trim().parse::<f32>().unwrap_or(0.0)))
        });
        named.fold(0.0, f32::max)
    };
    weight(PEM_MEDIA_TYPE) > weight("application/pkcs7-mime")
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

/// The answer to serverkeygen (RFC 7030 section 4.4.2): the key in PKCS #8, then its certificate.
/// Wipe it once it is sent.
///
/// # Errors
/// [`NotCertificates`].
pub fn generated_key(pkcs8: &[u8], certificate_der: &[u8]) -> Result<String, NotCertificates> {
    let certificates = encode_body(&certs_only(&[certificate_der])?);
    // Its final size, so that growing leaves no copy of the key behind.
    let mut body = String::with_capacity(512 + 2 * pkcs8.len() + certificates.len());
    let part = |body: &mut String, media_type: &str| {
        for text in ["--", KEY_BOUNDARY, "\r\nContent-Type: ", media_type, "\r\n"] {
            body.push_str(text);
        }
        body.push_str("Content-Transfer-Encoding: base64\r\n\r\n");
    };
    part(&mut body, "application/pkcs8");
    STANDARD.encode_string(pkcs8, &mut body);
    body.push_str("\r\n");
    part(&mut body, CERTIFICATES_MEDIA_TYPE);
    body.push_str(&certificates);
    for text in ["\r\n--", KEY_BOUNDARY, "--\r\n"] {
        body.push_str(text);
    }
    Ok(body)
}

/// Of [`generated_key`]'s answer.
pub const KEY_MEDIA_TYPE: &str = "multipart/mixed; boundary=fleetward-est";
/// Base64 has no hyphen, so no part can hold it.
const KEY_BOUNDARY: &str = "fleetward-est";

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
        let certificates = context(0, certificates)?;
        let empty_set = Any::new(Tag::Set, [])?.to_der()?;
        let content_info = sequence(&[ID_DATA.to_der()?])?;
        let signed_data = sequence(&[
            1u8.to_der()?,
            empty_set.clone(),
            content_info,
            certificates,
            empty_set,
        ])?;
        sequence(&[ID_SIGNED_DATA.to_der()?, context(0, signed_data)?])
    };
    wrap().map_err(|_| NotCertificates)
}

const ID_DATA: der::asn1::ObjectIdentifier =
    der::asn1::ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ID_SIGNED_DATA: der::asn1::ObjectIdentifier =
    der::asn1::ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

pub(crate) fn sequence(parts: &[Vec<u8>]) -> der::Result<Vec<u8>> {
    Any::new(Tag::Sequence, parts.concat())?.to_der()
}

/// Under a context-specific tag: explicitly `content`, or implicitly what `content` is inside of.
pub(crate) fn context(number: u32, content: Vec<u8>) -> der::Result<Vec<u8>> {
    let tag = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    };
    Any::new(tag, content)?.to_der()
}
