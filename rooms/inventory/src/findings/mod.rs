//! What a foreign list tells: a CSV of devices or certificates, or certificates in PEM alone, judged
//! row by row. Nothing of it is kept.
//!
//! Columns are known by many names (`device`, `name`, `thing` …; `certificate`, `pem` …); others are
//! left alone. Where a row holds a certificate, the certificate counts and not what the list says of
//! it. Passwords are looked at and never repeated.

mod certificate;
mod row;
mod tally;

pub use certificate::{Facts as CertificateFacts, Unreadable, read as read_certificate};

use crate::import::LineError;
use crate::table::Table;
use model::{Severity, Timestamp};
use row::Listed;
use std::collections::HashSet;
use std::time::Duration;
use tally::Tally;

/// A certificate that ends within this time is expiring.
pub const EXPIRING_WITHIN: Duration = Duration::from_secs(30 * 86_400);

/// What the judge must know besides the list.
#[derive(Debug, Clone, Default)]
pub struct Context {
    pub now: Timestamp,
    /// Names (DER) of the subjects of the CAs that are registered, ours among them.
    pub issuers: HashSet<Vec<u8>>,
    /// The same as text, for lists that hold names only: each in small letters.
    pub issuer_names: HashSet<String>,
}

impl Context {
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            ..Self::default()
        }
    }

    /// Adds a registered CA.
    ///
    /// # Errors
    /// It is not a certificate.
    pub fn add_issuer(&mut self, ca_der: &[u8]) -> Result<(), Unreadable> {
        let facts = certificate::read(ca_der)?;
        self.issuer_names
            .insert(facts.subject_text.to_ascii_lowercase());
        if let Some(name) = certificate::common_name(&facts.subject_text) {
            self.issuer_names.insert(name.to_ascii_lowercase());
        }
        self.issuers.insert(facts.subject);
        Ok(())
    }
}

/// What was found, and in how many rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    /// Rows (devices or certificates) that it holds for.
    pub count: u64,
    /// Up to five, each made harmless: `cam-7: RSA 1024`.
    pub examples: Vec<String>,
}

/// The judgement of a list; the worst first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judged {
    pub rows: u64,
    /// Rows with a certificate in them.
    pub certificates: u64,
    pub findings: Vec<Finding>,
    /// Lines that could not be read; the first hundred.
    pub refused: Vec<LineError>,
}

/// The closed list of what is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    SharedCertificate,
    SharedKey,
    DefaultCredentials,
    SharedCredentials,
    WeakKey,
    Expired,
    DuplicateSerial,
    DuplicateDevice,
    DuplicateCertificateSerial,
    WeakSignature,
    Expiring,
    UnknownIssuer,
    WithoutCertificate,
    UnreadableCertificate,
}

impl Kind {
    pub const ALL: [Self; 14] = [
        Self::SharedCertificate,
        Self::SharedKey,
        Self::DefaultCredentials,
        Self::SharedCredentials,
        Self::WeakKey,
        Self::Expired,
        Self::DuplicateSerial,
        Self::DuplicateDevice,
        Self::DuplicateCertificateSerial,
        Self::WeakSignature,
        Self::Expiring,
        Self::UnknownIssuer,
        Self::WithoutCertificate,
        Self::UnreadableCertificate,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SharedCertificate => "shared-certificate",
            Self::SharedKey => "shared-key",
            Self::DefaultCredentials => "default-credentials",
            Self::SharedCredentials => "shared-credentials",
            Self::WeakKey => "weak-key",
            Self::Expired => "expired",
            Self::DuplicateSerial => "duplicate-serial",
            Self::DuplicateDevice => "duplicate-device",
            Self::DuplicateCertificateSerial => "duplicate-certificate-serial",
            Self::WeakSignature => "weak-signature",
            Self::Expiring => "expiring",
            Self::UnknownIssuer => "unknown-issuer",
            Self::WithoutCertificate => "without-certificate",
            Self::UnreadableCertificate => "unreadable-certificate",
        }
    }

    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::SharedCertificate | Self::SharedKey | Self::DefaultCredentials => {
                Severity::Critical
            }
            Self::SharedCredentials
            | Self::WeakKey
            | Self::Expired
            | Self::DuplicateCertificateSerial => Severity::High,
            Self::DuplicateSerial
            | Self::DuplicateDevice
            | Self::WeakSignature
            | Self::Expiring
            | Self::UnknownIssuer
            | Self::WithoutCertificate => Severity::Medium,
            Self::UnreadableCertificate => Severity::Low,
        }
    }

    /// What it means, in a sentence.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::SharedCertificate => {
                "Several devices hold the same certificate, so the same private key: whoever opens \
                 one device is all of them, and none can be revoked alone."
            }
            Self::SharedKey => {
                "Different certificates hold the same public key: whoever opens one device is all \
                 of them."
            }
            Self::DefaultCredentials => {
                "A password that everybody tries first. Universal default passwords are forbidden \
                 (ETSI EN 303 645, 5.1)."
            }
            Self::SharedCredentials => {
                "Several devices share one password: it is known as soon as one of them is opened."
            }
            Self::WeakKey => {
                "RSA below 2048 bits, elliptic curves below 224 bits and DSA can be broken with \
                 today's means or soon (NIST SP 800-131A)."
            }
            Self::Expired => "The certificate has ended: whoever checks it refuses the device.",
            Self::DuplicateSerial => "The same serial number stands at several devices.",
            Self::DuplicateDevice => "The same device name stands there several times.",
            Self::DuplicateCertificateSerial => {
                "One issuer gave the same serial number to different certificates (against RFC \
                 5280, 4.1.2.2): revoking one would revoke the others."
            }
            Self::WeakSignature => {
                "Signed with SHA-1, MD5 or MD2, for which collisions can be made."
            }
            Self::Expiring => "The certificate ends within 30 days.",
            Self::UnknownIssuer => {
                "The issuer is not the name of a CA that is registered here. Names are compared, \
                 not signatures."
            }
            Self::WithoutCertificate => {
                "Other devices of the list have a certificate and these have none."
            }
            Self::UnreadableCertificate => "What stands there cannot be read as a certificate.",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn next(self) -> &'static str {
        match self {
            Self::SharedCertificate | Self::SharedKey => {
                "Enroll each device with a key of its own, then revoke the shared certificate."
            }
            Self::DefaultCredentials | Self::SharedCredentials => {
                "Give each device its own credential, better a certificate by enrolment, and close \
                 the password door."
            }
            Self::WeakKey => "Enroll with ECDSA P-256; revoke the weak certificate afterwards.",
            Self::Expired | Self::Expiring => {
                "Enroll by the factory identity, or renew while the certificate still holds."
            }
            Self::DuplicateSerial | Self::DuplicateDevice => {
                "Correct the list: ask the factory which unit is which before importing it."
            }
            Self::DuplicateCertificateSerial => {
                "Tell the issuer; replace these certificates before you rely on revocation."
            }
            Self::WeakSignature => "Have them issued again with SHA-256 or better.",
            Self::UnknownIssuer => {
                "Register the manufacturer's CA if it is yours (`fleetward identity manufacturers \
                 add`); find out whose it is if it is not."
            }
            Self::WithoutCertificate => "Enroll them, or say that they are retired.",
            Self::UnreadableCertificate => {
                "Export them again, in PEM or as base64 of DER, one a row."
            }
        }
    }
}

/// Judges a list: CSV with a header, or PEM certificates alone.
///
/// # Errors
/// It cannot be read: empty, no column that is known, a quote that never ends.
pub fn judge(text: &str, context: &Context) -> Result<Judged, LineError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut tally = Tally::new(context);
    if text.trim_start().starts_with("-----BEGIN ") {
        for (number, block) in certificate::pem_blocks(text).enumerate() {
            let name = format!("certificate {}", number.saturating_add(1));
            tally.add(&Listed::of_certificate(name, block));
        }
        return Ok(tally.finish());
    }
    let mut table = Table::read(text)?;
    if !table.columns().any(row::is_known_column) {
        return Err(LineError {
            line: 1,
            text: "no column is known; name one device, serial, certificate, fingerprint or issuer"
                .to_owned(),
        });
    }
    let has_certificates = table.columns().any(row::is_certificate_column);
    loop {
        match table.next_row()? {
            None => return Ok(tally.finish()),
            Some(Ok(row)) => tally.add(&Listed::of_row(&row, has_certificates)),
            Some(Err(error)) => tally.refuse(error.into()),
        }
    }
}
