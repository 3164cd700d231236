//! A device without an identity of its own asks for one by a claim certificate, over MQTT: first for
//! a certificate, which is on hold until it has shown, by the token that came with it, that it was
//! the one that got it.

use super::waiting::Waited;
use super::{enrolling, issuing, waiting};
use crate::clock;
use crate::entries::{self, Actor};
use crate::flow;
use crate::judge::signals::Told;
use crate::plane::{Plane, digest, random};
use crate::trouble::Trouble;
use crate::withdrawing::{self, Revoking};
use gateway::{ClaimAsk, ClaimCall};
use identity::claim_certificate::{
    self, AddressRange, ClaimRefusal, ClaimTerms, Claiming, EnrollmentCall, Form,
};
use identity::pending::{Asking, Shown};
use identity::{CertificateRequest, Fact, Presented, Refusal};
use model::{
    Attribution, ClaimCertificateId, DeviceId, ManufacturerId, Principal, ProductId, Revocable,
    RevocationReason, Subject, Timestamp,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Direction, Guard, RESERVATIONS_A_DEVICE, Receipt, Write};

/// How long a certificate waits for its owner, as AWS documents it.
const RESERVED_FOR: Duration = Duration::from_secs(3600);

/// A question, as a shard took it.
#[derive(Debug, Clone)]
pub struct Question {
    pub presented: Presented,
    pub address: IpAddr,
    pub asked: ClaimAsk,
    /// Whom to answer.
    pub to: Asker,
}

/// One connection of one shard.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    pub shard: u16,
    pub slot: u32,
    pub generation: u32,
}

/// What the asker is told when there is no room for its question.
#[must_use]
pub fn busy(asked: &ClaimAsk) -> Vec<u8> {
    let text = "too many ask at once; device: ask again in a minute";
    claim_certificate::rejected(form(asked), 503, "busy", text)
}

/// Does what is asked and tells the asker what became of it.
pub async fn answer(plane: Arc<Plane>, question: Question) {
    let answered = carry_out(&plane, &question).await;
    let (accepted, payload) = match answered {
        Ok(payload) => (true, payload),
        Err(trouble) => (false, refused(&plane, &question, trouble)),
    };
    plane.shards().answer_claim(question.to, accepted, payload);
}

fn form(asked: &ClaimAsk) -> Form {
    if asked.topic.cbor {
        Form::Cbor
    } else {
        Form::Json
    }
}

async fn carry_out(plane: &Arc<Plane>, question: &Question) -> Result<Vec<u8>, Trouble> {
    let form = form(&question.asked);
    let payload = &question.asked.payload;
    let claiming = claiming(plane, question)?;
    match question.asked.topic.call {
        ClaimCall::CertificateForRequest => {
            let der = claim_certificate::certificate_call(form, payload).map_err(Refusal::from)?;
            let reserved = reserve(
                plane,
                &claiming,
                question.address,
                &CertificateRequest::parse(&der)?,
            )
            .await?;
            let id = digest(&reserved.der).to_string();
            let pem = crate::pem::encode("CERTIFICATE", &reserved.der);
            let token = &reserved.ownership_token;
            Ok(claim_certificate::accepted_certificate(
                form, &id, &pem, token,
            ))
        }
        ClaimCall::CertificateAndKey => Err(Refusal::from(ClaimRefusal::KeyWanted).into()),
        ClaimCall::Enrollment => {
            let call = claim_certificate::enrollment_call(form, payload).map_err(Refusal::from)?;
            let device = enroll(plane, question, &claiming, &call).await?;
            Ok(claim_certificate::accepted_enrollment(
                form,
                device.as_str(),
            ))
        }
    }
}

fn claiming(plane: &Plane, question: &Question) -> Result<Claiming, Refusal> {
    let registry = plane.trust().registry();
    registry.claiming(&question.presented, question.address, clock::now())
}

/// What is said on `rejected`, and to whoever watches.
fn refused(plane: &Plane, question: &Question, trouble: Trouble) -> Vec<u8> {
    let problem = crate::api::Problem::from(trouble);
    let (code, detail) = (problem.body.code, problem.body.detail.as_str());
    tracing::warn!(
        target: "devices",
        "{} at {}: refused {code}: {detail} [{} must act]",
        question.presented,
        question.address,
        problem.body.who_must_act.unwrap_or("device")
    );
    plane
        .signals
        .tell(denied(question.address, "enroll", "", code));
    claim_certificate::rejected(form(&question.asked), problem.body.status, code, detail)
}

/// What the holder of a claim certificate was denied. It is nobody, so the address stands for it.
pub fn denied(address: IpAddr, action: &str, target: &str, reason: &str) -> Told {
    Told::denied(
        Subject::Address(address.to_canonical()),
        Attribution::Address,
        (action, target),
        reason,
        clock::now(),
    )
}

/// A certificate that is on record and on hold.
struct Reserved {
    der: Vec<u8>,
    ownership_token: String,
}

async fn reserve(
    plane: &Arc<Plane>,
    claiming: &Claiming,
    from: IpAddr,
    request: &CertificateRequest,
) -> Result<Reserved, Trouble> {
    let now = clock::now();
    let terms = claiming.terms();
    let serial =
        (request.claimed_serial()).ok_or_else(|| Refusal::from(ClaimRefusal::NoSerialNumber))?;
    check_count(plane, terms)?;
    enrolling::check_key(plane, request)?;
    let decide = || {
        let registry = plane.trust().registry();
        registry.enroll_by_claim(claiming, &serial, request, now)
    };
    let needs_approval =
        |product: &ProductId| (plane.admission.fleet.get().enrollment(product)).needs_approval;
    let asking = Asking {
        manufacturer: &terms.manufacturer,
        serial: &serial,
        shown: Shown::Certificate(claiming.certificate()),
        product: Some(&terms.product),
        from: Some(from),
        request,
    };
    let decided = match decide() {
        Err(Refusal::UnlistedSerial { .. }) if needs_approval(&terms.product) => {
            approved(plane, &asking, now).await?;
            decide()
        }
        Ok(decision) if needs_approval(&decision.product) => {
            approved(plane, &asking, now).await?;
            Ok(decision)
        }
        decided => decided,
    };
    let decision = decided?;
    enrolling::check_product(plane, None, request, false, &decision)?;
    plane.granting_allowed()?;

    let made = issuing::ldevid(plane, &decision, request.public_key(), now)?;
    let ownership_token = claim_certificate::ownership_token(random()?);
    let principal = Principal::Device(decision.device.clone());
    let what = Revocable::Certificate(made.certificate);
    let hold = RevocationReason::CertificateHold;
    let row = store::Reservation {
        token: claim_certificate::token_hash(&ownership_token),
        claim: terms.claim.clone(),
        device: decision.device.clone(),
        certificate: made.certificate,
        expires_at: now.plus(RESERVED_FOR),
        used_at: None,
    };
    let act = entries::certificate_reserved(now, &row);
    let change = Change::new(Direction::Grant)
        .guard(Guard::DeviceNotRevoked(decision.device.clone()))
        .guard(Guard::CertificateNotRevoked(claiming.certificate()))
        .guard(Guard::CertificateUnknown(made.certificate))
        .write(issuing::device_row(&decision, now))
        .write(made.row(&principal))
        .write(Write::Revoke {
            what: what.clone(),
            at: now,
            reason: hold,
        })
        .write(Write::PutReservation(row))
        .entry(plane.leaf(&act)?);
    let receipt = plane.commit(change).await?;
    // The hold first: the certificate is never good in between.
    plane.learn(&Fact::Revoked {
        what,
        reason: hold,
        at: now,
    })?;
    plane.learn(&Fact::CertificateReserved {
        certificate: made.certificate,
    })?;
    plane.learn(&made.fact(principal))?;
    plane.status.changed();
    Ok(Reserved {
        der: made.recorded(receipt).der,
        ownership_token,
    })
}

/// That a person said yes to this very request, or why to wait.
async fn approved(plane: &Plane, asking: &Asking<'_>, now: Timestamp) -> Result<(), Trouble> {
    let other = (plane.pending.lock())
        .shown_by(asking.manufacturer, asking.serial, now)
        .filter(|shown| *shown != asking.shown);
    if other.is_some() {
        // A shared key never takes the place of what a device has shown itself.
        return Err(Trouble::refused(
            "pending-by-another",
            "this serial number waits for a person already, by a certificate or chip of its own; \
             operator: decide that one with `fleetward identity pending`",
        ));
    }
    match waiting::ask(plane, asking, now).await? {
        None => Ok(()),
        Some(waits) => Err(waits.to_be_asked_again()),
    }
}

/// The counts are held when it is recorded; this says it in better words.
fn check_count(plane: &Plane, terms: &ClaimTerms) -> Result<(), Trouble> {
    let rows = plane.store.claim_certificates()?;
    let row = rows.iter().find(|row| row.claim == terms.claim);
    let is_used_up = row.is_none_or(|row| {
        row.used >= row.devices_max
            || row.made >= row.devices_max.saturating_mul(RESERVATIONS_A_DEVICE)
    });
    if is_used_up {
        let claim = terms.claim.clone();
        return Err(Refusal::from(ClaimRefusal::UsedUp { claim }).into());
    }
    Ok(())
}

/// The certificate becomes its device's. Asked again with the same token and serial number it says
/// the same and grants nothing more.
async fn enroll(
    plane: &Arc<Plane>,
    question: &Question,
    claiming: &Claiming,
    call: &EnrollmentCall,
) -> Result<DeviceId, Trouble> {
    let unknown = || Refusal::from(ClaimRefusal::TokenUnknown);
    // Two certificates of one device must not both find that it has none.
    let _one_at_a_time = plane.claiming.begin().await;
    let now = clock::now();
    let terms = claiming.terms();
    let token = claim_certificate::token_hash(&call.ownership_token);
    let row = (plane.store.reservation(&token)?)
        .filter(|row| row.claim == terms.claim && now <= row.expires_at)
        .ok_or_else(unknown)?;
    let what = Revocable::Certificate(row.certificate);
    let (named, stands) = {
        let registry = plane.trust().registry();
        let named = registry.device_by_serial(&terms.manufacturer, &call.serial);
        let stands = registry.certificate_revocation(&row.certificate);
        (
            named.map(|device| device.device),
            stands.map(|why| why.reason),
        )
    };
    if named.as_ref() != Some(&row.device) {
        return Err(unknown().into());
    }
    match (row.used_at, stands) {
        (Some(_), None) => return Ok(row.device),
        (None, Some(RevocationReason::CertificateHold)) => {}
        _ => return Err(unknown().into()),
    }
    let decision = (plane.trust().registry()).claimed_device(claiming, &call.serial, now)?;
    check_count(plane, terms)?;
    plane.granting_allowed()?;
    let by = claiming.certificate();
    let act = entries::enrolled(now, &decision, Some(by), row.certificate, false);
    let waited = Waited::of(plane, &decision.manufacturer, &decision.serial).await;
    let mut change = Change::new(Direction::Grant)
        .guard(Guard::DeviceNotRevoked(decision.device.clone()))
        .guard(Guard::CertificateNotRevoked(by))
        .write(Write::UseReservation { token, at: now })
        .write(Write::Release { what: what.clone() })
        .entry(plane.leaf(&act)?);
    if let Some(waited) = &waited {
        change = waited.settled_by(change, None);
    }
    plane.commit(change).await?;
    plane.learn(&Fact::Released { what })?;
    if let Some(waited) = waited {
        waited.forget();
    }
    plane.status.changed();
    plane.brokers.nudge();
    // It may have been withdrawn in memory and not be on record yet.
    let still = self::claiming(plane, question);
    if let Err(refusal) = still {
        let heir = Revoking::heir(row.certificate, RevocationReason::Superseded);
        flow::revoke(plane, &heir, &Actor::Plane).await?;
        return Err(refusal.into());
    }
    let facts = plane.facts_of_device(&decision.device);
    plane.cover(&facts).await?;
    Ok(decision.device)
}

/// Takes back what nobody owned in time; returns how many there were.
///
/// # Errors
/// The store's.
pub async fn lapse(plane: &Arc<Plane>, now: Timestamp) -> Result<usize, Trouble> {
    let mut count = 0;
    loop {
        let lapsed = plane.store.lapsed_reservations(now)?;
        if lapsed.is_empty() {
            return Ok(count);
        }
        for row in &lapsed {
            let what = Revocable::Certificate(row.certificate);
            let is_held = (plane.trust().registry().revocation(&what))
                .is_some_and(|why| why.reason.is_hold());
            // A person may have released it, which counts.
            if is_held {
                let revoking = Revoking::one(what, RevocationReason::CessationOfOperation);
                flow::revoke(plane, &revoking, &Actor::Plane).await?;
                count += 1;
            }
        }
        let ended_before = (lapsed.last()).map_or(now, |row| row.expires_at);
        let write = Write::ForgetReservations {
            ended_before: ended_before.plus(Duration::from_millis(1)),
        };
        let change = Change::new(Direction::Neutral).write(write);
        plane.commit(change).await?;
    }
}

/// A claim certificate as an operator adds it.
pub struct NewClaim {
    pub claim: ClaimCertificateId,
    pub certificate_pem: String,
    pub manufacturer: ManufacturerId,
    pub product: ProductId,
    /// The product's name if firmware asks under none other.
    pub template: Option<String>,
    pub addresses: Vec<AddressRange>,
    pub devices_max: u32,
    pub lifetime: Duration,
}

/// Believes a claim certificate, within its bounds; until when.
///
/// # Errors
/// It cannot be one, or the bounds make no sense.
pub async fn add(
    plane: &Arc<Plane>,
    new: NewClaim,
    actor: &Actor,
) -> Result<(Timestamp, Receipt), Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let certificate = crate::pem::decode(&new.certificate_pem, &["CERTIFICATE"])?;
    let now = clock::now();
    let anchors = plane.trust().anchors.get();
    let not_after = anchors.check_claim(&certificate, &new.manufacturer, now)?;
    if (plane.trust().registry())
        .import_terms(&new.manufacturer)
        .is_some()
    {
        let text = "its devices have certificates of an imported fleet, which count for more than a \
                    key that a batch shares; they enroll by those";
        return Err(Trouble::refused("claim-of-imported-fleet", text));
    }
    let template = new.template.unwrap_or_else(|| new.product.to_string());
    // As AWS names templates; it stands in a topic.
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if template.is_empty() || template.len() > 64 || !template.bytes().all(is_name) {
        let text = "a template's name is 1 to 64 of A-Z a-z 0-9 . _ -";
        return Err(Trouble::refused("template-refused", text));
    }
    let knows_product = (plane.admission.fleet.get().fleet.as_ref())
        .is_some_and(|fleet| fleet.product(&new.product).is_some());
    if !knows_product {
        let text = format!("product {} is not in the fleet in force", new.product);
        return Err(Trouble::refused("product-unknown", text));
    }
    let expires_at = now.plus(new.lifetime).min(not_after);
    let addresses: Vec<String> = new.addresses.iter().map(ToString::to_string).collect();
    let row = store::ClaimCertificate {
        claim: new.claim,
        certificate,
        manufacturer: new.manufacturer,
        product: new.product,
        template,
        addresses: addresses.join(" "),
        devices_max: new.devices_max,
        made: 0,
        used: 0,
        added_at: now,
        expires_at,
        retired_at: None,
    };
    let fact = fact_of(&row).map_err(Trouble::fault)?;
    {
        let registry = plane.trust().registry();
        let fingerprint = digest(&row.certificate);
        if registry.pinned_to(&fingerprint).is_some() || registry.is_shared(&fingerprint) {
            let text = "an imported fleet's device has this very certificate; make another one";
            return Err(Trouble::refused("certificate-taken", text));
        }
    }
    let act = entries::claim_certificate_added(now, actor, &row);
    let change = Change::new(Direction::Grant)
        .write(Write::PutClaimCertificate(row))
        .entry(plane.leaf(&act)?);
    let receipt = plane.commit(change).await?;
    plane.learn(&fact)?;
    Ok((expires_at, receipt))
}

/// It opens nothing any more, and whoever came in by it goes; how many did.
///
/// # Errors
/// There is none of that name; it could not be recorded.
pub async fn retire(
    plane: &Arc<Plane>,
    claim: &ClaimCertificateId,
    actor: &Actor,
) -> Result<(u32, Receipt), Trouble> {
    let rows = plane.store.claim_certificates()?;
    if !rows.iter().any(|row| row.claim == *claim) {
        return Err(Trouble::Unknown {
            code: "claim-certificate-unknown",
            text: format!("there is no claim certificate {claim}"),
        });
    }
    let at = clock::now();
    let claim = claim.clone();
    plane.learn(&Fact::ClaimCertificateRetired {
        claim: claim.clone(),
        at,
    })?;
    let sessions_closed = plane.shards().withdraw_claims().await;
    let act = entries::claim_certificate_retired(at, actor, &claim, sessions_closed);
    let change = withdrawing::change(vec![plane.leaf(&act)?])?
        .write(Write::RetireClaimCertificate { claim, at });
    let receipt = plane.commit_withdrawal(change).await?;
    Ok((sessions_closed, receipt))
}

/// What memory learns of a claim certificate.
///
/// # Errors
/// Its ranges are none: another version wrote them.
pub fn fact_of(row: &store::ClaimCertificate) -> Result<Fact, claim_certificate::InvalidRange> {
    let addresses = (row.addresses.split_whitespace())
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(Fact::ClaimCertificateAdded {
        fingerprint: digest(&row.certificate),
        terms: Box::new(ClaimTerms {
            claim: row.claim.clone(),
            manufacturer: row.manufacturer.clone(),
            product: row.product.clone(),
            template: row.template.clone(),
            addresses,
            expires_at: row.expires_at,
            retired_at: row.retired_at,
        }),
    })
}
