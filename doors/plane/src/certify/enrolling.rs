//! Between a request and its certificate: what a device asks for, whether its product allows it, and
//! what it is told when it asks the same again.

use crate::certify::issuing::Made;
use crate::certify::waiting;
use crate::plane::Plane;
use crate::trouble::Trouble;
use access::LdevidKey;
use identity::csrattrs::WantedKey;
use identity::pending::{Asking, Shown, enrollment_id};
use identity::tpm::HardwareKey;
use identity::{
    CertificateRequest, Door, EnrollmentDecision, FirstIdentity, Operation, Presented, Refusal,
};
use model::{CertificateId, Digest, Principal, ProductId, Timestamp};
use std::net::IpAddr;
use std::time::Duration;
use store::{Change, EnrollmentAnswer, Guard, Write};

/// How long the same request gets the same certificate, for whoever lost the answer.
const ANSWER_KEPT: Duration = Duration::from_secs(86_400);

/// What a device asks for.
pub struct Asked<'a> {
    pub presented: &'a Presented,
    pub way: Way,
    pub request: &'a CertificateRequest,
    /// The address that it asks from, if it came over the network by itself.
    pub from: Option<IpAddr>,
    /// The product that it asks as, by the label.
    pub label: Option<ProductId>,
    /// A key that was made here is certified in place of the request's (SubjectPublicKeyInfo).
    pub generated: Option<&'a [u8]>,
}

/// Where it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Est(Operation),
    /// The one place for a certificate that has ended.
    Returning,
}

/// What a device gets.
pub enum Enrolled {
    /// Its certificate, DER; on record.
    Issued(Vec<u8>),
    /// A person must decide first.
    Waits {
        id: Digest,
        retry_after: Duration,
        /// It has not been told so before.
        is_new: bool,
    },
}

/// Whether this device may have a certificate, now. Asked again once it is on record.
///
/// # Errors
/// The refusal; [`Refusal::UnlistedSerial`] of a device that may wait.
pub fn decide(
    plane: &Plane,
    asked: &Asked<'_>,
    now: Timestamp,
) -> Result<EnrollmentDecision, Refusal> {
    let authenticated = plane.trust().authenticate(Door::Devices, asked.presented);
    if let Ok(who) = &authenticated {
        plane.admission.proven(who);
    }
    check_key(plane, asked.request)?;
    let registry = plane.trust().registry();
    let operation = match (asked.way, &authenticated) {
        (Way::Est(operation), _) => operation,
        (Way::Returning, Err(Refusal::Path(identity::PathRefusal::Expired { .. }))) => {
            let grace = *plane.trust().grace.get();
            let (presented, request) = (asked.presented, asked.request);
            let decision = registry.enroll_returning(presented, request, now, grace)?;
            // That was the longest of all; its own product's decides.
            let fleet = plane.admission.fleet.get();
            let grace = fleet.enrollment(&decision.product).renewal_grace;
            registry.returning(presented, now, grace)?;
            return Ok(decision);
        }
        // One that is not over yet, by a device whose clock says otherwise.
        (Way::Returning, _) => Operation::SimpleReenroll,
    };
    registry.enroll(operation, &authenticated?, asked.request, now)
}

impl Enrolled {
    /// For whoever is told of waiting as of a trouble.
    #[must_use]
    pub fn to_be_asked_again(&self) -> Trouble {
        let (id, seconds) = match self {
            Self::Waits {
                id, retry_after, ..
            } => (id.to_string(), retry_after.as_secs()),
            Self::Issued(_) => (String::new(), 1),
        };
        Trouble::Later {
            code: "enrollment-waits",
            text: format!(
                "a person must approve it as enrollment {id}; device: ask again with the same \
                 request in {seconds} s; operator: `fleetward identity pending list`"
            ),
            seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
            too_often: false,
        }
    }
}

/// Is the private half of the key a secret, as far as lists tell?
///
/// # Errors
/// It is not.
pub fn check_key(plane: &Plane, request: &CertificateRequest) -> Result<(), Refusal> {
    let bad_keys = plane.trust().bad_keys.get();
    match bad_keys.flaw(request.public_key()) {
        Some(flaw) => Err(Refusal::KnownKey { flaw }),
        None => Ok(()),
    }
}

/// Does the product of the device allow what is asked?
///
/// # Errors
/// The refusal.
pub fn check_product(
    plane: &Plane,
    label: Option<&ProductId>,
    request: &CertificateRequest,
    generated: bool,
    decision: &EnrollmentDecision,
) -> Result<(), Refusal> {
    let product = &decision.product;
    if let Some(label) = label.filter(|label| *label != product) {
        return Err(Refusal::OtherProduct {
            device: decision.device.clone(),
            product: product.clone(),
            label: label.clone(),
        });
    }
    let enrollment = plane.admission.fleet.get().enrollment(product);
    if generated {
        if !enrollment.server_keygen {
            return Err(Refusal::KeygenOff {
                product: product.clone(),
            });
        }
        return Ok(());
    }
    match enrollment.key {
        Some(key) => wanted(key).check(request),
        None => Ok(()),
    }
}

/// The same for a chip that was shown to hold the key of the request.
///
/// # Errors
/// The refusal.
pub fn decide_by_tpm(
    plane: &Plane,
    held: &HardwareKey,
    request: &CertificateRequest,
) -> Result<EnrollmentDecision, Trouble> {
    let decision = plane.trust().registry().enroll_by_tpm(held)?;
    check_key(plane, request)?;
    let enrollment = plane.admission.fleet.get().enrollment(&decision.product);
    if let Some(key) = enrollment.key {
        wanted(key).check(request)?;
    }
    Ok(decision)
}

/// Must a person approve of the chip and the request, and did one? The enrollment that was approved.
///
/// # Errors
/// It waits, or a person said no; trouble of ours.
pub async fn approval_by_tpm(
    plane: &Plane,
    held: &HardwareKey,
    request: &CertificateRequest,
    decision: &EnrollmentDecision,
    now: Timestamp,
) -> Result<Option<Digest>, Trouble> {
    let enrollment = plane.admission.fleet.get().enrollment(&decision.product);
    if !enrollment.needs_approval {
        return Ok(None);
    }
    let shown = Shown::Chip(held.endorsement());
    let asking = Asking {
        manufacturer: &decision.manufacturer,
        serial: &decision.serial,
        shown,
        product: Some(&decision.product),
        from: None,
        request,
    };
    match waiting::ask(plane, &asking, now).await? {
        None => Ok(Some(enrollment_id(shown, request))),
        Some(waits) => Err(waits.to_be_asked_again()),
    }
}

/// The room's word for a product's key.
#[must_use]
pub fn wanted(key: LdevidKey) -> WantedKey {
    match key {
        LdevidKey::P256 => WantedKey::P256,
        LdevidKey::P384 => WantedKey::P384,
        LdevidKey::Ed25519 => WantedKey::Ed25519,
    }
}

/// A device with a factory identity asks for what a person must approve: [`waiting::ask`].
///
/// # Errors
/// Its.
pub async fn ask_a_person(
    plane: &Plane,
    asked: &Asked<'_>,
    product: Option<&ProductId>,
    now: Timestamp,
) -> Result<Option<Enrolled>, Trouble> {
    let (manufacturer, serial) = {
        let registry = plane.trust().registry();
        let (manufacturer, serial) = registry.genuine(asked.presented, now)?;
        (manufacturer.clone(), serial.clone())
    };
    let asking = Asking {
        manufacturer: &manufacturer,
        serial: &serial,
        shown: Shown::Certificate(asked.presented.certificate()),
        product,
        from: asked.from,
        request: asked.request,
    };
    waiting::ask(plane, &asking, now).await
}

/// Must a person approve this enrollment, and if so, did one?
///
/// # Errors
/// A person said no; trouble of ours.
pub async fn approval(
    plane: &Plane,
    asked: &Asked<'_>,
    decision: &EnrollmentDecision,
    now: Timestamp,
) -> Result<Approval, Trouble> {
    // What an operator imported was approved by that.
    let by_factory = decision.by == FirstIdentity::Idevid;
    let enrollment = plane.admission.fleet.get().enrollment(&decision.product);
    if !by_factory || !enrollment.needs_approval {
        return Ok(Approval::NotNeeded);
    }
    match ask_a_person(plane, asked, Some(&decision.product), now).await? {
        None => Ok(Approval::Given),
        Some(waits) => Ok(Approval::Waits(waits)),
    }
}

/// Whether a person must approve, and did.
pub enum Approval {
    NotNeeded,
    Given,
    Waits(Enrolled),
}

/// Somebody else's turn is between this one's look and its act.
#[must_use]
pub fn under_way() -> Trouble {
    Trouble::Later {
        code: "enrollment-under-way",
        text: "the same enrollment is under way; device: ask again".to_owned(),
        seconds: 1,
        too_often: false,
    }
}

/// What this very request was answered a while ago.
pub struct Earlier {
    id: Digest,
    /// As it stands on record, good or not any more.
    recorded: Option<CertificateId>,
    /// The certificate, if it is to be given again.
    pub answer: Option<Vec<u8>>,
}

impl Earlier {
    /// Looks it up. A certificate that was revoked or has ended is not given again.
    ///
    /// # Errors
    /// The store's.
    pub fn look_up(
        plane: &Plane,
        asked: &Asked<'_>,
        decision: &EnrollmentDecision,
        now: Timestamp,
    ) -> Result<Self, Trouble> {
        let shown = Shown::Certificate(asked.presented.certificate());
        let id = enrollment_id(shown, asked.request);
        let mut earlier = Self {
            id,
            recorded: None,
            answer: None,
        };
        let Some(row) = plane.store.enrollment_answer(&id)? else {
            return Ok(earlier);
        };
        earlier.recorded = Some(row.certificate);
        let principal = Principal::Device(decision.device.clone());
        let is_good = {
            let registry = plane.trust().registry();
            row.expires_at > now
                && registry.owner(&row.certificate).as_ref() == Some(&principal)
                && registry.certificate_revocation(&row.certificate).is_none()
        };
        if is_good && asked.generated.is_none() {
            let found = plane.store.certificate(&row.certificate)?;
            earlier.answer = found.map(|found| found.certificate.der);
        }
        Ok(earlier)
    }

    /// Puts the new answer in the place of what was seen there. The same request, sent twice at
    /// once, makes one certificate. A key that was made here is never remembered.
    pub fn remember(
        &self,
        change: Change,
        asked: &Asked<'_>,
        made: &Made,
        now: Timestamp,
    ) -> Change {
        if asked.generated.is_some() {
            return change;
        }
        // Never so long that it would be given when it is time for the next one.
        let life = made.not_after().since(now);
        change
            .guard(Guard::EnrollmentAnswerIs {
                enrollment: self.id,
                certificate: self.recorded,
            })
            .write(Write::PutEnrollmentAnswer(EnrollmentAnswer {
                enrollment: self.id,
                certificate: made.certificate,
                expires_at: now.plus(ANSWER_KEPT.min(life / 3)),
            }))
    }
}
