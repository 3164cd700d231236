//! A certificate authority as the simulation needs it: for manufacturers, and for brokers that
//! are not ours. It also makes what no honest authority would.

use crate::credential::{Key, signed};
use crate::der::{Reader, element, oid, sequence, tag};
use crate::refusal::SetupError;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use model::Timestamp;
use std::net::IpAddr;
use std::time::Duration;

/// What a certificate is for, and with it its extensions.
pub(crate) enum Purpose<'a> {
    /// An IDevID: digitalSignature and nothing about TLS (IEEE 802.1AR section 8.10).
    Idevid,
    TlsClient,
    TlsServer {
        names: &'a [&'a str],
        addresses: &'a [IpAddr],
    },
}

pub(crate) struct Authority {
    subject: Vec<u8>,
    key: Key,
    certificate: Vec<u8>,
}

impl Authority {
    /// A self-signed CA, valid from a day before `now` for 30 years, that may sign end-entity
    /// certificates only.
    pub(crate) fn new(common_name: &str, now: Timestamp) -> Result<Self, SetupError> {
        let subject = name(common_name, None);
        let key = Key::generate()?;
        let critical = element(tag::BOOLEAN, &[&[0xff]]);
        let extensions = [
            extension(
                oid::BASIC_CONSTRAINTS,
                true,
                &sequence(&[&critical, &element(tag::INTEGER, &[&[0]])]),
            ),
            // keyCertSign and cRLSign
            extension(oid::KEY_USAGE, true, &element(tag::BIT_STRING, &[&[1, 6]])),
            extension(
                oid::SUBJECT_KEY_IDENTIFIER,
                false,
                &element(tag::OCTET_STRING, &[&key_identifier(&key)]),
            ),
        ];
        let validity = Validity {
            not_before: now.minus(DAY),
            not_after: now.plus(DAY.saturating_mul(365 * 30)),
        };
        let certificate = certificate(&key, &subject, &subject, &key, validity, &extensions)?;
        Ok(Self {
            subject,
            key,
            certificate,
        })
    }

    /// DER.
    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Issues for the public half of `holder`; DER.
    pub(crate) fn issue(
        &self,
        subject: &[u8],
        holder: &Key,
        validity: Validity,
        purpose: &Purpose<'_>,
    ) -> Result<Vec<u8>, SetupError> {
        let mut extensions = vec![
            extension(oid::BASIC_CONSTRAINTS, true, &sequence(&[])),
            // digitalSignature
            extension(
                oid::KEY_USAGE,
                true,
                &element(tag::BIT_STRING, &[&[7, 0x80]]),
            ),
            extension(
                oid::SUBJECT_KEY_IDENTIFIER,
                false,
                &element(tag::OCTET_STRING, &[&key_identifier(holder)]),
            ),
            extension(
                oid::AUTHORITY_KEY_IDENTIFIER,
                false,
                &sequence(&[&element(tag::implicit(0), &[&key_identifier(&self.key)])]),
            ),
        ];
        match purpose {
            Purpose::Idevid => {}
            Purpose::TlsClient => extensions.push(extended_key_usage(oid::CLIENT_AUTH)),
            Purpose::TlsServer { names, addresses } => {
                extensions.push(extended_key_usage(oid::SERVER_AUTH));
                let mut general_names: Vec<Vec<u8>> = names
                    .iter()
                    .map(|dns| element(tag::implicit(2), &[dns.as_bytes()]))
                    .collect();
                general_names.extend(addresses.iter().map(|address| match address {
                    IpAddr::V4(v4) => element(tag::implicit(7), &[&v4.octets()]),
                    IpAddr::V6(v6) => element(tag::implicit(7), &[&v6.octets()]),
                }));
                extensions.push(extension(
                    oid::SUBJECT_ALT_NAME,
                    false,
                    &sequence(&[&general_names.concat()]),
                ));
            }
        }
        certificate(
            &self.key,
            &self.subject,
            subject,
            holder,
            validity,
            &extensions,
        )
    }
}

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Validity {
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl Validity {
    /// From an hour ago, so that two clocks may differ a little.
    pub(crate) fn of_days(days: u32, now: Timestamp) -> Self {
        Self {
            not_before: now.minus(Duration::from_secs(3600)),
            not_after: now.plus(DAY.saturating_mul(days)),
        }
    }

    /// To the last second that X.509 can write: "no end" (RFC 5280 section 4.1.2.5).
    pub(crate) fn endless(now: Timestamp) -> Self {
        Self {
            not_before: now.minus(DAY),
            not_after: Timestamp::from_seconds(253_402_300_799),
        }
    }
}

/// An encoded Name: `CN=<common_name>`, and `serialNumber=<serial_number>` after it.
pub(crate) fn name(common_name: &str, serial_number: Option<&str>) -> Vec<u8> {
    let attribute = |kind: &[u8], tag: u8, text: &str| {
        let pair = sequence(&[kind, &element(tag, &[text.as_bytes()])]);
        element(tag::SET, &[&pair])
    };
    let common_name = attribute(oid::COMMON_NAME, tag::UTF8_STRING, common_name);
    let serial_number = serial_number.map_or_else(Vec::new, |serial| {
        // X.520 asks for PrintableString, whose alphabet is smaller than what factories print.
        let printable = serial
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b));
        let tag = if printable {
            tag::PRINTABLE_STRING
        } else {
            tag::UTF8_STRING
        };
        attribute(oid::SERIAL_NUMBER, tag, serial)
    });
    sequence(&[&common_name, &serial_number])
}

fn certificate(
    issuer_key: &Key,
    issuer: &[u8],
    subject: &[u8],
    holder: &Key,
    validity: Validity,
    extensions: &[Vec<u8>],
) -> Result<Vec<u8>, SetupError> {
    let version_3 = element(tag::explicit(0), &[&element(tag::INTEGER, &[&[2]])]);
    let body = sequence(&[
        &version_3,
        &element(tag::INTEGER, &[&serial()?]),
        &sequence(&[oid::ECDSA_WITH_SHA256]),
        issuer,
        &sequence(&[&time(validity.not_before), &time(validity.not_after)]),
        subject,
        &holder.public_key_info()?,
        &element(tag::explicit(3), &[&sequence(&[&extensions.concat()])]),
    ]);
    signed(issuer_key, &body)
}

fn extension(kind: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical {
        element(tag::BOOLEAN, &[&[0xff]])
    } else {
        Vec::new()
    };
    sequence(&[kind, &critical, &element(tag::OCTET_STRING, &[value])])
}

fn extended_key_usage(purpose: &[u8]) -> Vec<u8> {
    extension(oid::EXTENDED_KEY_USAGE, false, &sequence(&[purpose]))
}

/// RFC 7093 section 2, method 1.
fn key_identifier(key: &Key) -> Vec<u8> {
    let digest = digest(&SHA256, key.public_point());
    digest.as_ref().iter().copied().take(20).collect()
}

/// 16 random bytes; the first is 0x40 to 0x7f, so the INTEGER is positive and minimal.
fn serial() -> Result<[u8; 16], SetupError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| SetupError::Crypto("give random bytes"))?;
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    Ok(bytes)
}

/// UTCTime through 2049, GeneralizedTime from 2050 (RFC 5280 section 4.1.2.5).
fn time(at: Timestamp) -> Vec<u8> {
    const YEAR_2050_SECONDS: u64 = 2_524_608_000;
    // `2026-11-01T23:59:59.000Z` without its marks.
    let text = at.to_string();
    let digits: String = text
        .chars()
        .take(19)
        .filter(char::is_ascii_digit)
        .chain(['Z'])
        .collect();
    if at.as_seconds() < YEAR_2050_SECONDS {
        let two_digit_year = digits.get(2..).unwrap_or_default();
        element(tag::UTC_TIME, &[two_digit_year.as_bytes()])
    } else {
        element(tag::GENERALIZED_TIME, &[digits.as_bytes()])
    }
}

/// Subject and SubjectAltName (its extension value) of a certificate, as they are encoded in it.
/// `None` if it is not an X.509 certificate.
pub(crate) fn subject_of(certificate: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mut body = Reader::new(Reader::new(certificate).expect(tag::SEQUENCE)?.content);
    let mut fields = Reader::new(body.expect(tag::SEQUENCE)?.content);
    fields.optional(tag::explicit(0)); // version, absent in version 1
    fields.expect(tag::INTEGER)?;
    fields.expect(tag::SEQUENCE)?; // signature algorithm
    fields.expect(tag::SEQUENCE)?; // issuer
    fields.expect(tag::SEQUENCE)?; // validity
    let subject = fields.expect(tag::SEQUENCE)?.whole;
    fields.expect(tag::SEQUENCE)?; // public key
    let mut alternative_names = None;
    if let Some(extensions) = fields.optional(tag::explicit(3)) {
        let mut list = Reader::new(
            Reader::new(extensions.content)
                .expect(tag::SEQUENCE)?
                .content,
        );
        while !list.is_empty() {
            let mut extension = Reader::new(list.expect(tag::SEQUENCE)?.content);
            let kind = extension.next()?;
            extension.optional(tag::BOOLEAN);
            let value = extension.expect(tag::OCTET_STRING)?;
            if kind.whole == oid::SUBJECT_ALT_NAME {
                alternative_names = Some(value.content);
            }
        }
    }
    Some((subject, alternative_names))
}
