//! Enrollments that wait for a person: of a genuine device that is on no list, or of a product
//! whose enrollments a person approves (RFC 7030 section 4.2.3: 202, and the same request again).
//!
//! Whoever holds a factory CA's key can make any number of genuine identities, so everything here
//! is bounded: one enrollment a device, so many a manufacturer and in all, each for so long. None
//! gives way before it has had an hour to be looked at, and none to another manufacturer's.

use crate::csr::CertificateRequest;
use core::net::IpAddr;
use model::{CertificateId, Digest, ManufacturerId, ProductId, SerialNumber, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// Enrollments that wait, in all and of one manufacturer.
pub const WAITING_MAX: usize = 10_000;
pub const WAITING_OF_MANUFACTURER_MAX: usize = 1_000;
/// How long one is kept, undecided or decided.
pub const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// How long one is kept whatever comes after it.
const UNTOUCHED: Duration = Duration::from_secs(3600);
/// A device may replace its request this often.
const REPLACED_EVERY: Duration = Duration::from_secs(60);
/// How soon a device is told to ask again, at first and at last.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(60);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// By what a device shows who it is when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shown {
    /// Of its factory, or the one that its batch shares.
    Certificate(CertificateId),
    /// Its chip, by the endorsement key (SHA-256 of the SubjectPublicKeyInfo).
    Chip(Digest),
}

/// Names an enrollment: this very request, shown with this certificate or by this chip. The same
/// again is the same enrollment; a new key is another one.
#[must_use]
pub fn enrollment_id(shown: Shown, request: &CertificateRequest) -> Digest {
    let mut bytes = b"fleetward enrollment".to_vec();
    bytes.extend_from_slice(&request.digest().0);
    match shown {
        Shown::Certificate(certificate) => {
            bytes.extend_from_slice(&certificate.issuer().0);
            bytes.extend_from_slice(certificate.serial());
        }
        // A serial number has a byte at least, so the two are never one.
        Shown::Chip(endorsement) => bytes.extend_from_slice(&endorsement.0),
    }
    crate::certificate::sha256(&bytes)
}

/// An enrollment that a person decides, or has decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEnrollment {
    /// [`enrollment_id`].
    pub id: Digest,
    pub manufacturer: ManufacturerId,
    pub serial: SerialNumber,
    pub shown: Shown,
    /// As the list says, or else as the device asked by its label.
    pub product: Option<ProductId>,
    /// For people.
    pub key_kind: String,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub key: Digest,
    /// The address that it asked from: for people, it proves nothing.
    pub asked_from: Option<IpAddr>,
    pub asked_at: Timestamp,
    pub expires_at: Timestamp,
    pub state: PendingState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PendingState {
    Waiting,
    /// This request may have its certificate.
    Approved,
    /// This device may not, whatever request it sends.
    Refused {
        at: Timestamp,
    },
}

impl PendingState {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Refused { .. } => "refused",
        }
    }
}

/// A device that asks, with the proof of what it shows behind it.
#[derive(Debug, Clone)]
pub struct Asking<'a> {
    pub manufacturer: &'a ManufacturerId,
    pub serial: &'a SerialNumber,
    pub shown: Shown,
    pub product: Option<&'a ProductId>,
    pub from: Option<IpAddr>,
    pub request: &'a CertificateRequest,
}

/// What is to be said to a device that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingAnswer {
    /// A person said yes to this very request.
    Approved,
    /// Nobody decided yet.
    Waits { id: Digest, retry_after: Duration },
    /// It is to be put on record ([`Pending::put`]); then it waits. `evicted` gives way to it.
    New {
        enrollment: Box<PendingEnrollment>,
        evicted: Option<(ManufacturerId, SerialNumber)>,
    },
    /// A person said no to this device.
    Refused { at: Timestamp },
    /// It asked with another request a moment ago.
    TooOften { retry_after: Duration },
    /// Too many wait, and all of them since a moment ago.
    Full { retry_after: Duration },
}

/// All enrollments that wait or were decided. Rebuilt from what is on record.
#[derive(Debug, Default)]
pub struct Pending {
    enrollments: BTreeMap<(ManufacturerId, SerialNumber), PendingEnrollment>,
}

impl Pending {
    /// What to say to a device, now. Changes nothing: what it says is new must be durable first.
    #[must_use]
    pub fn ask(&self, asking: &Asking<'_>, now: Timestamp) -> PendingAnswer {
        let id = enrollment_id(asking.shown, asking.request);
        let place = (asking.manufacturer.clone(), asking.serial.clone());
        let known = (self.enrollments.get(&place)).filter(|known| known.expires_at > now);
        match known {
            Some(known)
                if known.id == id || matches!(known.state, PendingState::Refused { .. }) =>
            {
                return match known.state {
                    PendingState::Refused { at } => PendingAnswer::Refused { at },
                    PendingState::Approved => PendingAnswer::Approved,
                    PendingState::Waiting => PendingAnswer::Waits {
                        id,
                        retry_after: retry_after(known.asked_at, now),
                    },
                };
            }
            // Another request of this device: the later one counts, as its key is the one it has.
            Some(known) if now.since(known.asked_at) < REPLACED_EVERY => {
                return PendingAnswer::TooOften {
                    retry_after: REPLACED_EVERY,
                };
            }
            _ => {}
        }
        let mut evicted = None;
        if known.is_none() && self.is_full_for(asking.manufacturer, now) {
            match self.oldest_of(asking.manufacturer, now) {
                Some(oldest) => evicted = Some(oldest),
                None => {
                    return PendingAnswer::Full {
                        retry_after: RETRY_AFTER_MAX,
                    };
                }
            }
        }
        PendingAnswer::New {
            enrollment: Box::new(PendingEnrollment {
                id,
                manufacturer: asking.manufacturer.clone(),
                serial: asking.serial.clone(),
                shown: asking.shown,
                product: asking.product.cloned(),
                key_kind: asking.request.key_kind().to_string(),
                key: asking.request.key_digest(),
                asked_from: asking.from,
                asked_at: now,
                expires_at: now.plus(KEPT),
                state: PendingState::Waiting,
            }),
            evicted,
        }
    }

    /// Takes in what is on record, in place of what the device asked before.
    pub fn put(&mut self, enrollment: PendingEnrollment) {
        let place = (enrollment.manufacturer.clone(), enrollment.serial.clone());
        self.enrollments.insert(place, enrollment);
    }

    /// Forgets what is on record no more.
    pub fn remove(&mut self, manufacturer: &ManufacturerId, serial: &SerialNumber) {
        self.enrollments
            .remove(&(manufacturer.clone(), serial.clone()));
    }

    /// Whether anything of this device is on record.
    #[must_use]
    pub fn has(&self, manufacturer: &ManufacturerId, serial: &SerialNumber) -> bool {
        let place = (manufacturer.clone(), serial.clone());
        self.enrollments.contains_key(&place)
    }

    /// By what the device showed who it is of which something is on record, unless that has expired.
    #[must_use]
    pub fn shown_by(
        &self,
        manufacturer: &ManufacturerId,
        serial: &SerialNumber,
        now: Timestamp,
    ) -> Option<Shown> {
        let place = (manufacturer.clone(), serial.clone());
        (self.enrollments.get(&place))
            .filter(|one| one.expires_at > now)
            .map(|one| one.shown)
    }

    /// The enrollment of this id, unless it has expired.
    #[must_use]
    pub fn find(&self, id: &Digest, now: Timestamp) -> Option<&PendingEnrollment> {
        self.enrollments
            .values()
            .find(|one| one.id == *id && one.expires_at > now)
    }

    /// All that have not expired, the oldest first.
    #[must_use]
    pub fn list(&self, now: Timestamp) -> Vec<&PendingEnrollment> {
        let live = self.enrollments.values().filter(|one| one.expires_at > now);
        let mut all: Vec<_> = live.collect();
        all.sort_by_key(|one| (one.asked_at, one.id));
        all
    }

    /// How many nobody has decided yet.
    #[must_use]
    pub fn waiting_count(&self, now: Timestamp) -> usize {
        self.waiting(now).count()
    }

    /// Forgets what expired; true if there was any.
    pub fn forget_expired(&mut self, now: Timestamp) -> bool {
        let before = self.enrollments.len();
        self.enrollments.retain(|_, one| one.expires_at > now);
        self.enrollments.len() < before
    }

    fn waiting(&self, now: Timestamp) -> impl Iterator<Item = &PendingEnrollment> {
        let waits = move |one: &&PendingEnrollment| {
            one.state == PendingState::Waiting && one.expires_at > now
        };
        self.enrollments.values().filter(waits)
    }

    fn is_full_for(&self, manufacturer: &ManufacturerId, now: Timestamp) -> bool {
        let (mut all, mut own) = (0, 0);
        for one in self.waiting(now) {
            all += 1;
            own += usize::from(one.manufacturer == *manufacturer);
        }
        all >= WAITING_MAX || own >= WAITING_OF_MANUFACTURER_MAX
    }

    /// The one that has waited longest, if it has waited long enough to give way.
    fn oldest_of(
        &self,
        manufacturer: &ManufacturerId,
        now: Timestamp,
    ) -> Option<(ManufacturerId, SerialNumber)> {
        let own = (self.waiting(now)).filter(|one| one.manufacturer == *manufacturer);
        let oldest = own.min_by_key(|one| (one.asked_at, one.id))?;
        (now.since(oldest.asked_at) >= UNTOUCHED)
            .then(|| (oldest.manufacturer.clone(), oldest.serial.clone()))
    }
}

/// Soon while a person may be sitting at the device, seldom once nobody is.
fn retry_after(asked_at: Timestamp, now: Timestamp) -> Duration {
    (now.since(asked_at) / 4).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
}

impl PendingAnswer {
    /// What the first answer to a new enrollment says.
    pub const FIRST_RETRY_AFTER: Duration = RETRY_AFTER_MIN;
}
