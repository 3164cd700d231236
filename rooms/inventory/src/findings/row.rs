//! One row of a foreign list, by the many names that its columns go by.

use super::certificate;
use crate::date;
use crate::table::Row;
use crate::text::{visible, without_mark};
use model::Timestamp;
use std::borrow::Cow;

const DEVICE: &[&str] = &[
    "device",
    "device_id",
    "deviceid",
    "device_name",
    "name",
    "id",
    "thing",
    "thing_name",
    "hostname",
    "host",
];
const SERIAL: &[&str] = &[
    "serial",
    "serial_number",
    "serialnumber",
    "sn",
    "device_serial",
];
const CERTIFICATE: &[&str] = &[
    "certificate",
    "certificate_pem",
    "certificatepem",
    "cert",
    "cert_pem",
    "pem",
    "client_certificate",
    "x509",
];
const FINGERPRINT: &[&str] = &[
    "fingerprint",
    "fingerprint_sha256",
    "sha256",
    "sha256_fingerprint",
    "thumbprint",
    "certificate_fingerprint",
    "certificate_id",
    "fingerprint_sha1",
];
const ISSUER: &[&str] = &["issuer", "issuer_dn", "issuer_cn", "ca", "issued_by"];
const CERTIFICATE_SERIAL: &[&str] = &[
    "certificate_serial",
    "cert_serial",
    "certificate_serial_number",
];
const NOT_AFTER: &[&str] = &[
    "not_after",
    "notafter",
    "expires",
    "expires_at",
    "expiry",
    "expiry_date",
    "expiration",
    "valid_to",
    "valid_until",
    "validto",
];
const KEY_TYPE: &[&str] = &[
    "key_type",
    "key_algorithm",
    "public_key_algorithm",
    "key",
    "curve",
];
const KEY_BITS: &[&str] = &["key_bits", "key_size", "key_length", "bits"];
const SIGNATURE: &[&str] = &["signature_algorithm", "sig_alg", "signature"];
const PASSWORD: &[&str] = &[
    "password",
    "passwd",
    "pass",
    "default_password",
    "pin",
    "psk",
    "secret",
    "credential",
    "credentials",
    "admin_password",
];
const USER: &[&str] = &["user", "username", "user_name", "login", "default_user"];

pub(super) fn is_known_column(name: &str) -> bool {
    is_certificate_column(name)
        || [
            DEVICE, SERIAL, ISSUER, NOT_AFTER, KEY_TYPE, KEY_BITS, SIGNATURE, PASSWORD,
        ]
        .iter()
        .any(|names| names.contains(&name))
}

pub(super) fn is_certificate_column(name: &str) -> bool {
    CERTIFICATE.contains(&name) || FINGERPRINT.contains(&name)
}

/// What one row says.
pub(super) struct Listed<'a> {
    /// What to call the row in an example, made harmless.
    pub(super) name: String,
    pub(super) device: Option<&'a str>,
    pub(super) serial: Option<&'a str>,
    pub(super) certificate: Option<Result<certificate::Facts, certificate::Unreadable>>,
    /// As the list says, where it holds no certificate: hex digits in small letters.
    pub(super) fingerprint: Option<String>,
    pub(super) issuer: Option<&'a str>,
    pub(super) certificate_serial: Option<&'a str>,
    pub(super) not_after: Option<Timestamp>,
    pub(super) key: Option<(Cow<'a, str>, Option<u32>)>,
    pub(super) signature: Option<&'a str>,
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    /// The list has a column for certificates or fingerprints.
    pub(super) certificate_expected: bool,
}

impl<'a> Listed<'a> {
    pub(super) fn of_certificate(name: String, pem: &str) -> Self {
        Self {
            name,
            device: None,
            serial: None,
            certificate: Some(certificate::read_text(pem)),
            fingerprint: None,
            issuer: None,
            certificate_serial: None,
            not_after: None,
            key: None,
            signature: None,
            user: None,
            password: None,
            certificate_expected: false,
        }
    }

    pub(super) fn of_row(row: &'a Row<'_, '_>, certificate_expected: bool) -> Self {
        let cell = |names: &[&str]| row.one_of(names).map(without_mark);
        let (device, serial) = (cell(DEVICE), cell(SERIAL));
        let name = match device.or(serial) {
            Some(name) => visible(name, 64),
            None => format!("line {}", row.line),
        };
        let bits = cell(KEY_BITS).and_then(|text| text.parse().ok());
        let key = match (cell(KEY_TYPE), bits) {
            (Some(text), bits) => Some((Cow::Borrowed(text), bits)),
            // RSA is what a list with a size alone means.
            (None, Some(bits)) => Some((Cow::Borrowed("RSA"), Some(bits))),
            (None, None) => None,
        };
        Self {
            name,
            device,
            serial,
            certificate: cell(CERTIFICATE).map(certificate::read_text),
            fingerprint: cell(FINGERPRINT)
                .map(hex_digits)
                .filter(|hex| hex.len() >= 32),
            issuer: cell(ISSUER),
            certificate_serial: cell(CERTIFICATE_SERIAL),
            not_after: cell(NOT_AFTER).and_then(date::moment),
            key,
            signature: cell(SIGNATURE),
            user: cell(USER),
            password: cell(PASSWORD),
            certificate_expected,
        }
    }
}

/// `AB:CD` and `SHA256 Fingerprint=ab cd` as `abcd`.
fn hex_digits(text: &str) -> String {
    let text = text.rsplit('=').next().unwrap_or(text);
    text.chars()
        .filter(char::is_ascii_hexdigit)
        .map(|c| c.to_ascii_lowercase())
        .take(128)
        .collect()
}
