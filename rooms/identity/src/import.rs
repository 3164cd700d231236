//! What an existing fleet brings: certificates are looked at one by one, and joined with the list
//! of its devices. The same for an import and for its rehearsal.

use crate::certificate;
use crate::csr::{CsrRefusal, KeyKind};
use crate::expected::ExpectedDevice;
use crate::first_identity::imported::Naming;
use crate::path::{AnchorRefusal, chain, read_anchor};
use crate::refusal::PathRefusal as Refused;
use crate::weak_key::BadKeys;
use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912;
use der::Encode;
use model::{DeviceId, Digest, ProductId, SerialNumber, Timestamp};
use rustls_pki_types::TrustAnchor;
use std::collections::{BTreeMap, HashMap, HashSet};
use x509_cert::{Certificate, Version};

/// Names kept of each kind of finding.
const EXAMPLES_MAX: usize = 10;

/// What was found of a certificate or a line of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Found {
    /// Issued by a CA of the fleet.
    Chains,
    /// Believed for its fingerprint.
    Pinned,
    /// A device of the list, none of whose certificates was looked at.
    Unseen,
    /// A device that shares its certificate with others.
    Sharing,
    /// It ended.
    Expired,
    /// Its issuer signed with SHA-1 or the like. Only a pin helps.
    WeakSignature,
    /// No X.509 version 3 certificate that can be read.
    Unreadable,
    /// No CA of the fleet issued it, and it is not to be pinned.
    NoChain,
    /// RSA below 2048 bits, or a kind of key that TLS does not take.
    WeakKey,
    /// RSA that can be factored (ROCA, close primes), or a key on a list of bad ones.
    KnownBadKey,
    /// Not for authenticating a client.
    NotAClient,
    /// The rule finds no name in it.
    Unnamed,
    /// Its name is not on the list.
    Unlisted,
    /// Another certificate has the same name.
    DuplicateName,
    /// Another certificate has the same key: it was copied.
    DuplicateKey,
    /// It stands in the file once more.
    Repeated,
}

impl Found {
    pub const ALL: [Self; 16] = [
        Self::Chains,
        Self::Pinned,
        Self::Unseen,
        Self::Sharing,
        Self::Expired,
        Self::WeakSignature,
        Self::Unreadable,
        Self::NoChain,
        Self::WeakKey,
        Self::KnownBadKey,
        Self::NotAClient,
        Self::Unnamed,
        Self::Unlisted,
        Self::DuplicateName,
        Self::DuplicateKey,
        Self::Repeated,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chains => "chains",
            Self::Pinned => "pinned",
            Self::Unseen => "unseen",
            Self::Sharing => "sharing",
            Self::Expired => "expired",
            Self::WeakSignature => "weak-signature",
            Self::Unreadable => "unreadable",
            Self::NoChain => "no-chain",
            Self::WeakKey => "weak-key",
            Self::KnownBadKey => "known-bad-key",
            Self::NotAClient => "not-a-client",
            Self::Unnamed => "unnamed",
            Self::Unlisted => "unlisted",
            Self::DuplicateName => "duplicate-name",
            Self::DuplicateKey => "duplicate-key",
            Self::Repeated => "repeated",
        }
    }

    /// What becomes of it.
    #[must_use]
    pub const fn is_taken(self) -> bool {
        matches!(
            self,
            Self::Chains | Self::Pinned | Self::Unseen | Self::Sharing
        )
    }
}

/// How the certificates of a fleet are taken.
#[derive(Debug, Clone)]
pub struct Terms {
    pub naming: Naming,
    /// Its CA certificates, DER.
    pub cas: Vec<Vec<u8>>,
    pub accept_expired: bool,
    /// Each leaf is believed for its fingerprint, also where a CA issued it. Without a CA it is
    /// always so.
    pub pin: bool,
    /// Of devices that stand on no list. `None`: what is not listed is left out.
    pub product: Option<ProductId>,
    pub bad_keys: BadKeys,
}

/// How often something was found, and the first of those it was found of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Finding {
    pub count: usize,
    pub examples: Vec<String>,
}

/// Findings by kind.
pub type Findings = BTreeMap<Found, Finding>;

/// An import under way: certificates come one at a time, so that a file of 300,000 is never in
/// memory whole.
pub struct Import {
    naming: Naming,
    anchors: Vec<TrustAnchor<'static>>,
    accept_expired: bool,
    pin: bool,
    product: Option<ProductId>,
    bad_keys: BadKeys,
    now: Timestamp,
    rows: Vec<ExpectedDevice>,
    by_serial: HashMap<SerialNumber, usize>,
    by_fingerprint: HashMap<Digest, Vec<usize>>,
    seen: HashSet<Digest>,
    /// The first 8 bytes of each key's digest: 300,000 of them are some 5 MB.
    keys: HashSet<[u8; 8]>,
    /// Rows whose certificate was looked at and is fit.
    fit: HashSet<usize>,
    /// Rows whose certificate was looked at and is not.
    unfit: HashSet<usize>,
    findings: Findings,
}

impl Import {
    /// `list`: what is known of the devices already, perhaps nothing.
    ///
    /// # Errors
    /// A certificate among the CAs that is no CA's.
    pub fn new(
        terms: Terms,
        list: Vec<ExpectedDevice>,
        now: Timestamp,
    ) -> Result<Self, AnchorRefusal> {
        let anchors: Vec<TrustAnchor<'static>> = (terms.cas.iter())
            .map(|der| read_anchor(der, "imported"))
            .collect::<Result<_, _>>()?;
        let mut by_fingerprint: HashMap<Digest, Vec<usize>> = HashMap::new();
        for (row, device) in list.iter().enumerate() {
            if let Some(fingerprint) = device.fingerprint {
                by_fingerprint.entry(fingerprint).or_default().push(row);
            }
        }
        let by_serial = list.iter().enumerate();
        Ok(Self {
            by_serial: by_serial
                .map(|(row, device)| (device.serial.clone(), row))
                .collect(),
            by_fingerprint,
            naming: terms.naming,
            pin: terms.pin || anchors.is_empty(),
            anchors,
            accept_expired: terms.accept_expired,
            product: terms.product.filter(|_| list.is_empty()),
            bad_keys: terms.bad_keys,
            now,
            rows: list,
            seen: HashSet::new(),
            keys: HashSet::new(),
            fit: HashSet::new(),
            unfit: HashSet::new(),
            findings: Findings::new(),
        })
    }

    /// One certificate in DER.
    pub fn leaf(&mut self, der: &[u8]) {
        let fingerprint = certificate::sha256(der);
        if !self.seen.insert(fingerprint) {
            return self.found(Found::Repeated, &fingerprint.to_string());
        }
        let Ok(read) = certificate::read(der) else {
            return self.found(Found::Unreadable, &fingerprint.to_string());
        };
        let listed = self.by_fingerprint.get(&fingerprint).cloned();
        let name = self.naming.name(&read, fingerprint);
        let called = match (&listed, &name) {
            (Some(rows), _) => (rows.first().and_then(|row| self.rows.get(*row)))
                .map_or_else(String::new, |row| row.serial.to_string()),
            (None, Ok(serial)) => serial.to_string(),
            (None, Err(_)) => fingerprint.to_string(),
        };
        let mut flaws = self.flaws(der, &read);
        if let Ok(key) = certificate::key_digest(&read)
            && let Some(key) = key.0.first_chunk()
            && !self.keys.insert(*key)
        {
            flaws.push(Found::DuplicateKey);
        }
        for flaw in &flaws {
            self.found(*flaw, &called);
        }
        let forgiven = |flaw: &Found| match flaw {
            Found::Expired => self.accept_expired,
            Found::WeakSignature => self.pin,
            _ => false,
        };
        let is_fit = flaws.iter().all(forgiven);
        let chains = !self.pin;
        if let Some(rows) = listed {
            // The list says whose it is, so the rule is not asked.
            if is_fit {
                self.fit.extend(rows);
            } else {
                self.unfit.extend(rows);
            }
            return;
        }
        let Ok(serial) = name else {
            return self.found(Found::Unnamed, &called);
        };
        let Some(row) = self.row_of(serial) else {
            return self.found(Found::Unlisted, &called);
        };
        if self.fit.contains(&row) {
            return self.found(Found::DuplicateName, &called);
        }
        if !is_fit {
            self.unfit.insert(row);
            return;
        }
        self.fit.insert(row);
        if !chains && let Some(device) = self.rows.get_mut(row) {
            device.fingerprint = Some(fingerprint);
        }
    }

    /// The devices that may be taken, and what was found.
    #[must_use]
    pub fn finish(mut self) -> (Vec<ExpectedDevice>, Findings) {
        let mut taken = Vec::with_capacity(self.rows.len());
        for (row, device) in std::mem::take(&mut self.rows).into_iter().enumerate() {
            let is_fit = self.fit.contains(&row);
            if self.unfit.contains(&row) && !is_fit {
                continue;
            }
            let shared = (device.fingerprint.as_ref())
                .and_then(|pin| self.by_fingerprint.get(pin))
                .is_some_and(|rows| rows.len() > 1);
            let found = match (shared, is_fit, device.fingerprint) {
                (true, ..) => Found::Sharing,
                (false, true, None) => Found::Chains,
                (false, _, Some(_)) => Found::Pinned,
                (false, false, None) => Found::Unseen,
            };
            self.found(found, device.serial.as_str());
            taken.push(device);
        }
        (taken, self.findings)
    }

    fn row_of(&mut self, serial: SerialNumber) -> Option<usize> {
        if let Some(row) = self.by_serial.get(&serial) {
            return Some(*row);
        }
        let device = ExpectedDevice {
            manufacturer: None,
            product: self.product.clone()?,
            device: DeviceId::new(serial.as_str()).ok()?,
            serial: serial.clone(),
            groups: Vec::new(),
            fingerprint: None,
            attributes: Vec::new(),
        };
        self.rows.push(device);
        self.by_serial.insert(serial, self.rows.len() - 1);
        Some(self.rows.len() - 1)
    }

    fn found(&mut self, what: Found, whose: &str) {
        let finding = self.findings.entry(what).or_default();
        finding.count += 1;
        if finding.examples.len() < EXAMPLES_MAX {
            finding.examples.push(whose.to_owned());
        }
    }

    /// All that is wrong with a certificate by itself.
    fn flaws(&self, der: &[u8], read: &Certificate) -> Vec<Found> {
        let tbs = read.tbs_certificate();
        let mut flaws = Vec::new();
        if tbs.version() != Version::V3 {
            // TLS as it is spoken here takes no other.
            flaws.push(Found::Unreadable);
        }
        let (_, ended) = certificate::window(tbs.validity());
        let has_ended = self.now.as_seconds() > ended.as_seconds();
        if has_ended {
            flaws.push(Found::Expired);
        }
        let public_key = tbs.subject_public_key_info().to_der().unwrap_or_default();
        match KeyKind::of(&public_key) {
            Err(CsrRefusal::Roca | CsrRefusal::ClosePrimes) => flaws.push(Found::KnownBadKey),
            Err(_) => flaws.push(Found::WeakKey),
            Ok(_) if self.bad_keys.flaw(&public_key).is_some() => flaws.push(Found::KnownBadKey),
            Ok(_) => {}
        }
        if is_weak(read.signature_algorithm().oid) {
            flaws.push(Found::WeakSignature);
        }
        let may_sign = certificate::key_usage(read)
            .is_ok_and(|usage| usage.is_none_or(|usage| usage.digital_signature()));
        if !may_sign {
            flaws.push(Found::NotAClient);
        }
        if !self.pin {
            let at = if has_ended { ended } else { self.now };
            match chain(&self.anchors, der, at) {
                Ok(()) => {}
                Err(Refused::WrongPurpose) if flaws.contains(&Found::NotAClient) => {}
                Err(Refused::WrongPurpose) => flaws.push(Found::NotAClient),
                // Said above already.
                Err(Refused::Algorithm) if flaws.contains(&Found::WeakSignature) => {}
                Err(Refused::Malformed { .. }) if flaws.contains(&Found::Unreadable) => {}
                Err(_) => flaws.push(Found::NoChain),
            }
        }
        flaws
    }
}

/// SHA-1, MD5 and older as the hash of an issuer's signature.
fn is_weak(algorithm: ObjectIdentifier) -> bool {
    [
        rfc5912::MD_2_WITH_RSA_ENCRYPTION,
        rfc5912::MD_5_WITH_RSA_ENCRYPTION,
        rfc5912::SHA_1_WITH_RSA_ENCRYPTION,
        ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"),
    ]
    .contains(&algorithm)
}
