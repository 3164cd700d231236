//! The judgement: each row alone, then what only all of them together tell.

use super::certificate::{Facts, SignatureHash};
use super::row::Listed;
use super::{Context, EXPIRING_WITHIN, Finding, Judged, Kind};
use crate::import::LineError;
use crate::text::visible;
use aws_lc_rs::digest::{SHA256, digest};
use std::collections::HashMap;

const EXAMPLES_MAX: usize = 5;
const REFUSED_MAX: usize = 100;

/// Passwords that come with devices and head every list of guesses. Compared in small letters.
const DEFAULT_PASSWORDS: &[&str] = &[
    "0000",
    "00000000",
    "1111",
    "111111",
    "1234",
    "12345",
    "123456",
    "1234567",
    "12345678",
    "123456789",
    "1234567890",
    "4321",
    "54321",
    "654321",
    "666666",
    "888888",
    "abc123",
    "admin",
    "admin1",
    "admin123",
    "admin1234",
    "administrator",
    "anko",
    "camera",
    "changeme",
    "changeit",
    "default",
    "dreambox",
    "fucker",
    "guest",
    "hi3518",
    "ikwb",
    "juantech",
    "jvbzd",
    "klv123",
    "klv1234",
    "letmein",
    "master",
    "meinsm",
    "none",
    "oelinux123",
    "operator",
    "p@ssw0rd",
    "pass",
    "passw0rd",
    "password",
    "password1",
    "qwerty",
    "realtek",
    "root",
    "secret",
    "service",
    "smcadmin",
    "supervisor",
    "support",
    "system",
    "tech",
    "test",
    "toor",
    "ubnt",
    "user",
    "vizxv",
    "xc3511",
    "xmhdipc",
    "zlxx",
    "zte521",
];

pub(super) struct Tally<'c> {
    context: &'c Context,
    judged: Judged,
    found: HashMap<Kind, Finding>,
    devices: Same,
    serials: Same,
    certificates: Same,
    keys: Same,
    certificate_serials: Same,
    passwords: Same,
    /// Rows without a certificate, in a list that has them.
    without: Vec<String>,
    without_count: u64,
}

/// Who shares a value. Values stand as digests: a list may hold a password in each row.
#[derive(Default)]
struct Same(HashMap<[u8; 32], Sharers>);

struct Sharers {
    first: String,
    count: u64,
    /// What makes two rows differ that share the value: they are one row told twice otherwise.
    distinct: [u8; 32],
    differ: bool,
}

impl<'c> Tally<'c> {
    pub(super) fn new(context: &'c Context) -> Self {
        Self {
            context,
            judged: Judged::default(),
            found: HashMap::new(),
            devices: Same::default(),
            serials: Same::default(),
            certificates: Same::default(),
            keys: Same::default(),
            certificate_serials: Same::default(),
            passwords: Same::default(),
            without: Vec::new(),
            without_count: 0,
        }
    }

    pub(super) fn refuse(&mut self, error: LineError) {
        self.judged.rows = self.judged.rows.saturating_add(1);
        if self.judged.refused.len() < REFUSED_MAX {
            self.judged.refused.push(error);
        }
    }

    pub(super) fn add(&mut self, row: &Listed<'_>) {
        self.judged.rows = self.judged.rows.saturating_add(1);
        if let Some(device) = row.device {
            self.same(Kind::DuplicateDevice, device.as_bytes(), &[], row);
        }
        if let Some(serial) = row.serial {
            // One device with several certificates is told in several rows.
            let of = row.device.unwrap_or(&row.name);
            self.same(Kind::DuplicateSerial, serial.as_bytes(), of.as_bytes(), row);
        }
        self.credentials(row);
        match &row.certificate {
            Some(Ok(facts)) => {
                self.judged.certificates = self.judged.certificates.saturating_add(1);
                self.certificate(row, facts);
            }
            Some(Err(why)) => {
                self.found(Kind::UnreadableCertificate, format!("{}: {why}", row.name));
            }
            None => self.listed(row),
        }
    }

    /// A certificate that stands there itself.
    fn certificate(&mut self, row: &Listed<'_>, facts: &Facts) {
        let device = row.device.or(row.serial).unwrap_or(&row.name).to_owned();
        self.same(
            Kind::SharedCertificate,
            &facts.fingerprint.0,
            device.as_bytes(),
            row,
        );
        self.same(Kind::SharedKey, &facts.key.0, &facts.fingerprint.0, row);
        let mut number = facts.issuer.clone();
        number.extend_from_slice(&facts.serial);
        self.same(
            Kind::DuplicateCertificateSerial,
            &number,
            &facts.fingerprint.0,
            row,
        );
        self.key(row, &facts.key_type, facts.key_bits);
        match facts.signature {
            SignatureHash::Md => {
                self.found(Kind::WeakSignature, format!("{}: MD5 or MD2", row.name))
            }
            SignatureHash::Sha1 => self.found(Kind::WeakSignature, format!("{}: SHA-1", row.name)),
            SignatureHash::Fine => {}
        }
        self.end(row, facts.not_after);
        if !self.context.issuers.contains(&facts.issuer) {
            self.found(
                Kind::UnknownIssuer,
                format!("{}: {}", row.name, facts.issuer_text),
            );
        }
    }

    /// What the list says of a certificate that it does not hold.
    fn listed(&mut self, row: &Listed<'_>) {
        if let Some(fingerprint) = &row.fingerprint {
            self.judged.certificates = self.judged.certificates.saturating_add(1);
            let device = row.device.or(row.serial).unwrap_or(&row.name).to_owned();
            self.same(
                Kind::SharedCertificate,
                fingerprint.as_bytes(),
                device.as_bytes(),
                row,
            );
        } else if row.certificate_expected {
            self.without_count = self.without_count.saturating_add(1);
            if self.without.len() < EXAMPLES_MAX {
                self.without.push(row.name.clone());
            }
        }
        if let (Some(issuer), Some(serial)) = (row.issuer, row.certificate_serial) {
            let number = format!("{}\n{}", issuer.to_ascii_lowercase(), serial);
            let distinct = row.fingerprint.clone().unwrap_or_else(|| row.name.clone());
            self.same(
                Kind::DuplicateCertificateSerial,
                number.as_bytes(),
                distinct.as_bytes(),
                row,
            );
        }
        if let Some((key_type, bits)) = &row.key {
            self.key(row, key_type, *bits);
        }
        if let Some(signature) = row.signature {
            let plain = signature.to_ascii_lowercase().replace(['-', '_'], "");
            if plain.contains("sha1") || plain.contains("md5") || plain.contains("md2") {
                let shown = visible(signature, 48);
                self.found(Kind::WeakSignature, format!("{}: {shown}", row.name));
            }
        }
        if let Some(not_after) = row.not_after {
            self.end(row, not_after);
        }
        if let Some(issuer) = row.issuer {
            let name = issuer.to_ascii_lowercase();
            let common = super::certificate::common_name(issuer).map(str::to_ascii_lowercase);
            let known = self.context.issuer_names.contains(&name)
                || common.is_some_and(|name| self.context.issuer_names.contains(&name));
            if !known {
                let shown = visible(issuer, 128);
                self.found(Kind::UnknownIssuer, format!("{}: {shown}", row.name));
            }
        }
    }

    fn key(&mut self, row: &Listed<'_>, key_type: &str, bits: Option<u32>) {
        let plain = key_type.to_ascii_lowercase().replace(['-', '_', ' '], "");
        // `RSA-1024`, `rsa:1024`, `secp192r1`, `P-192`: the number in the name, where no column has it.
        let in_name = || {
            let digits: String = plain
                .chars()
                .skip_while(|c| !c.is_ascii_digit())
                .take_while(char::is_ascii_digit)
                .collect();
            digits.parse().ok()
        };
        let rsa = plain.starts_with("rsa");
        let dsa = plain.starts_with("dsa");
        let curve = ["ec", "p", "sec", "prime", "nist"]
            .iter()
            .any(|start| plain.starts_with(start));
        let bits = bits.or_else(|| (rsa || curve).then(in_name).flatten());
        let weak = dsa
            || (rsa && bits.is_some_and(|bits| bits < 2048))
            || (curve && bits.is_some_and(|bits| bits < 224));
        if weak {
            let shown = visible(key_type, 32);
            let bits = bits.map_or_else(String::new, |bits| format!(" ({bits} bits)"));
            self.found(Kind::WeakKey, format!("{}: {shown}{bits}", row.name));
        }
    }

    fn end(&mut self, row: &Listed<'_>, not_after: model::Timestamp) {
        let now = self.context.now;
        let day: String = not_after.to_string().chars().take(10).collect();
        if not_after < now {
            self.found(Kind::Expired, format!("{}: ended {day}", row.name));
        } else if not_after <= now.plus(EXPIRING_WITHIN) {
            self.found(Kind::Expiring, format!("{}: ends {day}", row.name));
        }
    }

    /// Examples name the device alone.
    fn credentials(&mut self, row: &Listed<'_>) {
        let Some(password) = row.password else {
            return;
        };
        let plain = password.to_ascii_lowercase();
        let same_as_user = row
            .user
            .is_some_and(|user| user.eq_ignore_ascii_case(password));
        if same_as_user || DEFAULT_PASSWORDS.contains(&plain.as_str()) {
            self.found(Kind::DefaultCredentials, row.name.clone());
        } else {
            let device = row.device.or(row.serial).unwrap_or(&row.name).to_owned();
            self.same(
                Kind::SharedCredentials,
                password.as_bytes(),
                device.as_bytes(),
                row,
            );
        }
    }

    /// Finds out whether another row has this value too, and differs from this one. The first one
    /// is counted when the second comes.
    fn same(&mut self, kind: Kind, value: &[u8], distinct: &[u8], row: &Listed<'_>) {
        let group = match kind {
            Kind::DuplicateDevice => &mut self.devices,
            Kind::DuplicateSerial => &mut self.serials,
            Kind::SharedCertificate => &mut self.certificates,
            Kind::SharedKey => &mut self.keys,
            Kind::DuplicateCertificateSerial => &mut self.certificate_serials,
            _ => &mut self.passwords,
        };
        let distinct = short(distinct);
        let name = match kind {
            // A list of certificates names a device once for each of its certificates.
            Kind::DuplicateDevice if row.certificate.is_some() || row.fingerprint.is_some() => {
                return;
            }
            _ => row.name.clone(),
        };
        let always = kind == Kind::DuplicateDevice;
        let mut told = Vec::new();
        match group.0.entry(short(value)) {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(Sharers {
                    first: name,
                    count: 1,
                    distinct,
                    differ: false,
                });
            }
            std::collections::hash_map::Entry::Occupied(mut place) => {
                let sharers = place.get_mut();
                if !always && !sharers.differ && sharers.distinct == distinct {
                    return;
                }
                if !sharers.differ {
                    sharers.differ = true;
                    told.push(std::mem::take(&mut sharers.first));
                }
                sharers.count = sharers.count.saturating_add(1);
                told.push(name);
            }
        }
        for name in told {
            self.found(kind, name);
        }
    }

    fn found(&mut self, kind: Kind, example: String) {
        let finding = self.found.entry(kind).or_insert_with(|| Finding {
            kind,
            count: 0,
            examples: Vec::new(),
        });
        finding.count = finding.count.saturating_add(1);
        if finding.examples.len() < EXAMPLES_MAX {
            finding.examples.push(example);
        }
    }

    pub(super) fn finish(mut self) -> Judged {
        if self.judged.certificates > 0 && self.without_count > 0 {
            self.judged.findings.push(Finding {
                kind: Kind::WithoutCertificate,
                count: self.without_count,
                examples: std::mem::take(&mut self.without),
            });
        }
        self.judged.findings.extend(self.found.into_values());
        self.judged
            .findings
            .sort_by_key(|finding| (std::cmp::Reverse(finding.kind.severity()), finding.kind));
        self.judged
    }
}

fn short(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    out
}
