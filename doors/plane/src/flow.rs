//! The story, as one readable run of calls.
//!
//! connects → authenticated → admitted → message (`gateway` asks `access` for each) → withdrawn →
//! proven. Each step hands on a ticket that only the room which did the check can make.
//!
//! Two directions, never mixed up: what **grants** is durable before it has any effect; what
//! **withdraws** bites first, on every shard, and is acknowledged when its entry is durable.

use crate::broker::Telling;
use crate::certify::attesting::{self, Appraised, Evidence};
use crate::certify::enrolling::{self, Approval, Asked, Earlier, Enrolled, Way};
use crate::certify::issuing::{self, Issued};
use crate::certify::rotation::{self, Proofs};
use crate::certify::tpm;
use crate::certify::waiting::Waited;
use crate::clock;
use crate::entries::{self, Actor};
use crate::fleet::FleetInForce;
use crate::fleet::planning::{self, ApplyReceipt, Candidate};
use crate::judge::Judged;
use crate::judge::signals::Told;
use crate::listen::tls::Trust;
use crate::plane::{Plane, digest};
use crate::respond::acting;
use crate::respond::timeline::{self, Lines};
use crate::shared::Latest;
use crate::trouble::Trouble;
use crate::withdrawing::{
    self, Containing, ContainmentReceipt, Releasing, RestoreReceipt, Restoring, RevocationReceipt,
    Revoking,
};
use access::{Facts, SourceFile};
use gateway::{Admitted, ConnectionId};
use identity::claim_token::Claimed;
use identity::pending::{Shown, enrollment_id};
use identity::tpm::HardwareKey;
use identity::{
    Authenticated, CertificateRequest, Door, EnrollmentDecision, Fact, Operation, Presented,
    Refusal,
};
use model::{
    Assurance, CertificateId, DeviceId, Digest, Principal, ProductId, Revocable, RevocationReason,
    ServiceId, Timestamp,
};
use response::PersonAct;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use store::{CHANGE_ROWS_MAX, Change, CommitError, Direction, Guard, Receipt, Write};

/// What the MQTT door needs to let somebody in; shared by all shards.
pub struct Admission {
    pub trust: Arc<Trust>,
    pub fleet: Latest<FleetInForce>,
    /// Newer certificates that were seen at a door.
    pub proofs: Proofs,
}

impl Admission {
    /// A proven connection becomes a session of somebody whom the registry knows, now.
    ///
    /// # Errors
    /// The refusal, which says who must act.
    pub fn connect(
        &self,
        presented: &Presented,
        connection: ConnectionId,
        address: IpAddr,
    ) -> Result<Admitted, Refusal> {
        let who = self.trust.authenticate(Door::Gateway, presented)?;
        self.proven(&who);
        let facts = self.facts_of(who.principal());
        Ok(Admitted {
            connection,
            address,
            client_ids: self.fleet.get().client_ids_of(facts.product.as_ref()),
            facts,
            certificate: who.certificate(),
            expires_at: who.not_after(),
            shared: self.trust.registry().shares(presented),
        })
    }

    /// A certificate has opened a door: what it supersedes may go, once that is on record.
    pub fn proven(&self, who: &Authenticated) {
        let (certificate, now) = (who.certificate(), clock::now());
        let supersedes = self.trust.registry().supersedes(&certificate, now);
        if !supersedes.is_empty() {
            self.proofs.tell(certificate, now);
        }
    }

    /// All that policy may see of somebody, and whether it is contained.
    pub fn facts_of(&self, principal: &Principal) -> Facts {
        let mut facts = Facts {
            principal: principal.clone(),
            product: None,
            groups: Vec::new(),
            attributes: Arc::default(),
            containment: None,
            assurance: Assurance::default(),
        };
        match principal {
            Principal::Device(device) => {
                let registry = self.trust.registry();
                facts.containment = registry.containment(device);
                facts.assurance = registry.assurance(device, clock::now());
                if let Some(known) = registry.device(device) {
                    facts.product = Some(known.product.clone());
                    facts.groups = known.groups.to_vec();
                    facts.attributes = registry.attributes(device).into();
                }
            }
            Principal::Service(service) => facts.groups = self.fleet.get().groups_of(service),
        }
        facts
    }
}

/// A device that proved its factory identity, or its present certificate, gets an LDevID; or it
/// waits for a person, if it is on no list or its product wants that.
///
/// # Errors
/// A refusal of the device, or trouble of ours.
pub async fn enroll(plane: &Arc<Plane>, asked: &Asked<'_>) -> Result<Enrolled, Trouble> {
    let now = clock::now();
    let mut decided = enrolling::decide(plane, asked, now);
    if let Err(Refusal::UnlistedSerial { .. }) = &decided
        && asked.way == Way::Est(Operation::SimpleEnroll)
    {
        if let Some(waits) =
            enrolling::ask_a_person(plane, asked, asked.label.as_ref(), now).await?
        {
            return Ok(waits);
        }
        // A person put it on the list a moment ago.
        decided = enrolling::decide(plane, asked, now);
    }
    let decision = decided?;
    let (label, generated) = (asked.label.as_ref(), asked.generated.is_some());
    enrolling::check_product(plane, label, asked.request, generated, &decision)?;
    let earlier = Earlier::look_up(plane, asked, &decision, now)?;
    if let Some(answer) = earlier.answer {
        return Ok(Enrolled::Issued(answer));
    }
    plane.granting_allowed()?;
    let is_approved = match enrolling::approval(plane, asked, &decision, now).await? {
        Approval::Waits(waits) => return Ok(waits),
        Approval::Given => true,
        Approval::NotNeeded => false,
    };

    let key = asked.generated.unwrap_or(asked.request.public_key());
    let made = issuing::ldevid(plane, &decision, key, now)?;
    let principal = Principal::Device(decision.device.clone());
    let by = asked.presented.certificate();
    let key_made_here = asked.generated.is_some();
    let act = entries::enrolled(now, &decision, Some(by), made.certificate, key_made_here);
    // That neither the device nor the CA was revoked meanwhile its rows see to by themselves.
    let mut change = Change::new(Direction::Grant)
        .guard(Guard::CertificateNotRevoked(by))
        .write(issuing::device_row(&decision, now))
        .write(made.row(&principal))
        .entry(plane.leaf(&act)?);
    change = give_up_evidence(plane, &decision.device, key, change).await?;
    if decision.by != identity::FirstIdentity::Ldevid {
        change = change.write(shown_key(&decision, asked.presented));
    }
    change = earlier.remember(change, asked, &made, now);
    let waited = Waited::of(plane, &decision.manufacturer, &decision.serial).await;
    match &waited {
        Some(waited) => {
            let shown = Shown::Certificate(by);
            let approved = is_approved.then(|| enrollment_id(shown, asked.request));
            change = waited.settled_by(change, approved);
        }
        None if is_approved => return Err(enrolling::under_way()),
        None => {}
    }
    let receipt = match plane.commit(change).await {
        Err(Trouble::Commit(CommitError::Guard(Guard::EnrollmentAnswerIs { .. }))) => {
            // The same request came twice at once, and the other was first.
            let first = Earlier::look_up(plane, asked, &decision, now)?.answer;
            return first.map(Enrolled::Issued).ok_or_else(enrolling::under_way);
        }
        recorded => recorded?,
    };
    plane.learn(&made.fact(principal.clone()))?;
    plane.shares_no_more(&principal).await;
    if decision.by != identity::FirstIdentity::Ldevid {
        plane.learn(&Fact::KeyShown {
            device: decision.device.clone(),
            key: asked.presented.key(),
        })?;
    }
    if let Some(waited) = waited {
        waited.forget();
    }
    // A revocation bites in memory before it is on record, so the guards may not have seen one
    // that came meanwhile: what a revoked certificate vouched for must not outlive it.
    if let Err(refusal) = enrolling::decide(plane, asked, clock::now()) {
        return Err(withdraw_heir(plane, made.certificate, refusal).await);
    }
    let facts = plane
        .admission
        .facts_of(&Principal::Device(decision.device));
    plane.cover(&facts).await?;
    Ok(Enrolled::Issued(made.recorded(receipt).der))
}

/// The key by whose word a device came in is its alone.
fn shown_key(decision: &EnrollmentDecision, presented: &Presented) -> Write {
    Write::PutShownKey {
        device: decision.device.clone(),
        key: presented.key(),
    }
}

/// EST with a claim token instead of a certificate: used up with the first certificate it brings.
/// Asked again with the same key it brings the same one, since the answer may have been lost. DER.
///
/// # Errors
/// A refusal of the device, or trouble of ours.
pub async fn enroll_by_token(
    plane: &Arc<Plane>,
    claimed: &Claimed,
    label: Option<ProductId>,
    request: &CertificateRequest,
) -> Result<Vec<u8>, Trouble> {
    let now = clock::now();
    let decision = plane.trust().registry().enroll_claimed(claimed, request)?;
    enrolling::check_key(plane, request)?;
    // Who made the token approved of the device: nobody is asked once more.
    enrolling::check_product(plane, label.as_ref(), request, false, &decision)?;
    if let Some(certificate) = claimed.answered_before(request.key_digest())? {
        return issuing::issued_before(plane, certificate);
    }
    plane.granting_allowed()?;
    let made = issuing::ldevid(plane, &decision, request.public_key(), now)?;
    let principal = Principal::Device(decision.device.clone());
    let act = entries::enrolled(now, &decision, None, made.certificate, false);
    let mut change = Change::new(Direction::Grant)
        .write(Write::UseClaimToken {
            manufacturer: decision.manufacturer.clone(),
            serial: decision.serial.clone(),
            hash: claimed.hash(),
            used: store::ClaimTokenUse {
                at: now,
                key: request.key_digest(),
                certificate: made.certificate,
            },
        })
        .write(issuing::device_row(&decision, now))
        .write(made.row(&principal))
        .entry(plane.leaf(&act)?);
    change = give_up_evidence(plane, &decision.device, request.public_key(), change).await?;
    let receipt = plane.commit(change).await?;
    plane.learn(&made.fact(principal.clone()))?;
    plane.shares_no_more(&principal).await;
    let still = plane.trust().registry().enroll_claimed(claimed, request);
    if let Err(refusal) = still {
        return Err(withdraw_heir(plane, made.certificate, refusal).await);
    }
    plane.cover(&plane.admission.facts_of(&principal)).await?;
    Ok(made.recorded(receipt).der)
}

/// Nobody knows where a new key lies, nor what it would sign: what the one before has shown counts no
/// more, at once, as with all that withdraws.
async fn give_up_evidence(
    plane: &Plane,
    device: &DeviceId,
    public_key: &[u8],
    change: Change,
) -> Result<Change, Trouble> {
    let key = digest(public_key);
    if !plane.trust().registry().gives_up_evidence(device, &key) {
        return Ok(change);
    }
    let device = device.clone();
    let fact = Fact::KeyHeld {
        device: device.clone(),
        key: None,
    };
    plane.lower(&device, &fact).await?;
    Ok(change.write(Write::DropHeldKey { device }))
}

/// What was issued on the word of an identity that was withdrawn meanwhile is withdrawn with it.
async fn withdraw_heir(plane: &Arc<Plane>, heir: CertificateId, refusal: Refusal) -> Trouble {
    if let Refusal::Revoked { reason, .. } = &refusal {
        let heir = Revoking::heir(heir, *reason);
        if let Err(trouble) = revoke(plane, &heir, &Actor::Plane).await {
            return trouble;
        }
    }
    refusal.into()
}

/// A device without any certificate whose chip was shown to hold the key gets an LDevID for it.
///
/// # Errors
/// A refusal of the device, or trouble of ours.
pub async fn enroll_by_tpm(
    plane: &Arc<Plane>,
    held: &HardwareKey,
    request: &CertificateRequest,
) -> Result<Issued, Trouble> {
    let now = clock::now();
    let decision = enrolling::decide_by_tpm(plane, held, request)?;
    plane.granting_allowed()?;
    let approved = enrolling::approval_by_tpm(plane, held, request, &decision, now).await?;

    let made = issuing::ldevid(plane, &decision, request.public_key(), now)?;
    let device = decision.device.clone();
    let principal = Principal::Device(device.clone());
    let mut change = Change::new(Direction::Grant)
        .write(issuing::device_row(&decision, now))
        .write(made.row(&principal))
        .write(Write::PutHeldKey(store::HeldKey {
            device: device.clone(),
            key: held.key(),
            endorsement: held.endorsement(),
            attestation_key: held.attestation_key().to_vec(),
            held_since: now,
        }))
        .entry(plane.leaf(&entries::enrolled_by_tpm(
            now,
            &principal,
            held.endorsement(),
            made.certificate,
            decision.kind.name(),
        ))?);
    // What the device can do from here on it can do by the key in its chip alone. It needs no
    // certificate to enroll so again, so a lost answer locks nobody out.
    let reason = RevocationReason::Superseded;
    let earlier = plane.certificates_in_force(&principal, now);
    let earlier = Revoking {
        what: earlier.into_iter().map(Revocable::Certificate).collect(),
        ..Revoking::nothing(reason)
    };
    for what in &earlier.what {
        change = change
            .write(Write::Revoke {
                what: what.clone(),
                at: now,
                reason,
            })
            .entry(plane.leaf(&entries::superseded(now, what))?);
    }
    let waited = Waited::of(plane, &decision.manufacturer, &decision.serial).await;
    match &waited {
        Some(waited) => change = waited.settled_by(change, approved),
        None if approved.is_some() => return Err(enrolling::under_way()),
        None => {}
    }
    let receipt = plane.commit(change).await?;
    if let Some(waited) = waited {
        waited.forget();
    }
    plane.withdraw(&earlier.facts(now), earlier.what).await?;
    plane.learn(&made.fact(principal.clone()))?;
    plane.shares_no_more(&principal).await;
    let barred = plane.trust().registry().enroll_by_tpm(held).err();
    if let Some(refusal) = barred {
        if let Refusal::Revoked { reason, .. } = &refusal {
            revoke(
                plane,
                &Revoking::heir(made.certificate, *reason),
                &Actor::Plane,
            )
            .await?;
        }
        return Err(refusal.into());
    }
    plane.learn(&Fact::KeyHeld {
        device,
        key: Some(held.key()),
    })?;
    let facts = plane.admission.facts_of(&principal);
    plane.cover(&facts).await?;
    Ok(made.recorded(receipt))
}

/// A device's evidence is appraised, and what it may do follows at once. What lowers its assurance
/// bites first and is then recorded; what raises it the other way round.
///
/// # Errors
/// A refusal of the device, or trouble of ours.
pub async fn attest(
    plane: &Arc<Plane>,
    presented: &Presented,
    evidence: &Evidence,
) -> Result<Appraised, Trouble> {
    let now = clock::now();
    let who: Authenticated = plane.trust().authenticate(Door::Devices, presented)?;
    let row = attesting::appraise(plane, &who, evidence, now)?;
    let device = row.device.clone();
    let fact = tpm::fact_of_result(row.clone());
    let leaf = plane.leaf(&entries::appraised(now, &device, &row))?;
    let receipt = match row.status {
        store::AttestationStatus::Contraindicated => {
            plane.lower(&device, &fact).await?;
            let change =
                withdrawing::change(vec![leaf])?.write(Write::PutAttestationResult(row.clone()));
            plane.commit_withdrawal(change).await?
        }
        store::AttestationStatus::Affirming => {
            let change = Change::new(Direction::Grant)
                .guard(Guard::DeviceNotRevoked(device.clone()))
                .write(Write::PutAttestationResult(row.clone()))
                .entry(leaf);
            let receipt = plane.commit(change).await?;
            plane.learn(&fact)?;
            let facts = plane.facts_of_device(&device);
            plane.cover(&facts).await?;
            plane.reclassified(&facts).await;
            receipt
        }
    };
    let assurance = plane.trust().registry().assurance(&device, now);
    Ok(Appraised {
        row,
        assurance,
        receipt,
    })
}

/// A service of the fleet gets a certificate for the key in its request.
///
/// # Errors
/// The service is not in the fleet, is revoked, or trouble of ours.
pub async fn issue_to_service(
    plane: &Arc<Plane>,
    service: &ServiceId,
    request: &CertificateRequest,
    actor: &Actor,
) -> Result<Issued, Trouble> {
    let now = clock::now();
    plane.granting_allowed()?;
    if !plane.admission.fleet.get().has_service(service) {
        return Err(Trouble::refused(
            "service-unlisted",
            format!("service {service} is not in the fleet; add services/{service}.toml and apply"),
        ));
    }
    let principal = Principal::Service(service.clone());
    enrolling::check_key(plane, request)?;
    (plane.trust().registry()).check_key(&request.key_digest(), &principal)?;
    let made = issuing::service(plane, service, request, now)?;
    // The row is refused by itself if the service or the CA was revoked meanwhile.
    let change = Change::new(Direction::Grant)
        .write(made.row(&principal))
        .entry(plane.leaf(&entries::issued_to_service(
            now,
            actor,
            &principal,
            made.certificate,
        ))?);
    let receipt = plane.commit(change).await?;
    plane.learn(&made.fact(principal))?;
    Ok(made.recorded(receipt))
}

/// Bites first, is acknowledged when it is recorded. If it cannot be recorded it stays in force,
/// granting stops, and recording is tried again until it succeeds.
///
/// # Errors
/// Only that it could not be recorded; the withdrawal itself has been carried out.
pub async fn revoke(
    plane: &Arc<Plane>,
    revoking: &Revoking,
    actor: &Actor,
) -> Result<RevocationReceipt, Trouble> {
    let at = clock::now();
    let facts = revoking.facts(at);
    let withdrawn = plane.withdraw(&facts, revoking.what.clone()).await?;
    let (sessions_closed, in_force_at) = (withdrawn.sessions, withdrawn.in_force_at);
    let unknown = (revoking.what.iter())
        .filter(|what| !plane.knows(what))
        .count() as u64;
    let recorded = withdrawing::record(plane, revoking, at, sessions_closed, actor).await;
    let recorded_at = Instant::now();
    // It is in force, recorded or not.
    for fact in &facts {
        plane.note(fact);
    }
    let (receipt, entry) = recorded?;
    let closed_at = withdrawn.all_closed().await;
    Ok(RevocationReceipt {
        unknown,
        sessions_closed,
        in_force_after: in_force_at - revoking.asked_at,
        in_force_at_unix: clock::since_1970(in_force_at),
        closed_after: closed_at - revoking.asked_at,
        recorded_after: recorded_at - revoking.asked_at,
        receipt,
        entry,
    })
}

/// What doors saw of newer certificates goes on record: the overlap of those before them begins.
///
/// # Errors
/// The store's; what was seen then waits for the next time.
pub async fn supersede(plane: &Plane) -> Result<(), Trouble> {
    let mut seen = plane.admission.proofs.take();
    while let Some((by, at)) = seen.pop_first() {
        let superseded = plane.trust().registry().supersedes(&by, at);
        let rows: Vec<store::Superseded> = superseded
            .into_iter()
            .map(|certificate| store::Superseded {
                certificate,
                by,
                at,
            })
            .collect();
        let facts: Vec<Fact> = rows.iter().map(rotation::fact_of).collect();
        let change = Change::new(Direction::Neutral).write(Write::PutSuperseded(rows));
        if let Err(trouble) = plane.commit(change).await {
            seen.insert(by, at);
            plane.admission.proofs.put_back(seen);
            return Err(trouble);
        }
        for fact in &facts {
            plane.learn(fact)?;
        }
    }
    Ok(())
}

/// Revokes what was superseded longer ago than its product allows; returns how many. Its device
/// holds a newer certificate that has opened a door, so nobody is left without one.
///
/// # Errors
/// Only that one could not be recorded; it is in force all the same.
pub async fn retire(plane: &Arc<Plane>, now: Timestamp) -> Result<usize, Trouble> {
    let fleet = plane.admission.fleet.get();
    let retired = plane
        .trust()
        .registry()
        .retired(now, |product| fleet.rotation_overlap(product));
    for certificate in &retired {
        let what = Revocable::Certificate(*certificate);
        let revoking = Revoking::one(what, RevocationReason::Superseded);
        revoke(plane, &revoking, &Actor::Plane).await?;
    }
    Ok(retired.len())
}

/// Lifts a hold: durable first, then in force. What is revoked for good is never given back.
///
/// # Errors
/// It is not on hold, or was revoked meanwhile; trouble of ours.
pub async fn release(
    plane: &Arc<Plane>,
    releasing: &Releasing,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    plane.granting_allowed()?;
    let what = releasing.what.clone();
    let stands = plane.trust().registry().revocation(&what);
    match stands {
        Some(why) if why.reason.is_hold() => {}
        Some(why) => {
            let why = why.reason.name();
            let text = format!("{what} was revoked for good ({why}); it is never released");
            return Err(Trouble::refused("revoked-for-good", text));
        }
        None => {
            let text = format!("{what} is not on hold");
            return Err(Trouble::refused("not-on-hold", text));
        }
    }
    let at = clock::now();
    let mut change = Change::new(Direction::Grant)
        .write(Write::Release { what: what.clone() })
        .entry(plane.leaf(&entries::released(at, actor, releasing))?);
    let mut told = plane.carried(std::slice::from_ref(&what), Telling::In, at);
    let rest = told.split_off(told.len().min(CHANGE_ROWS_MAX - 2));
    change.writes.append(&mut told);
    let receipt = plane.commit(change).await?;
    plane.queue(rest).await;
    plane.learn(&Fact::Released { what })?;
    plane.status.changed();
    plane.brokers.nudge();
    Ok(receipt)
}

/// Cuts a device off: bites on every shard and at every door first, is acknowledged when it is
/// recorded. What is cut off harder already stays so.
///
/// # Errors
/// Only that it could not be recorded; it is in force all the same.
pub async fn contain(
    plane: &Arc<Plane>,
    what: &Containing,
    actor: &Actor,
) -> Result<ContainmentReceipt, Trouble> {
    let started = Instant::now();
    let asked = what.standing(clock::now(), actor);
    let (is_news, sessions_touched) = plane.cut_off(&what.device, &asked).await?;
    let in_force_after = started.elapsed();
    let containment = plane.containment(&what.device).unwrap_or(asked.containment);
    let mut done = ContainmentReceipt {
        containment,
        sessions_touched,
        in_force_after,
        recorded_after: in_force_after,
        receipt: None,
    };
    if is_news {
        // Before the record, which may not come: the device's own fence is part of it.
        plane.tell_containment(&what.device).await;
        let leaf = plane.leaf(&entries::contained(actor, what, &asked, sessions_touched))?;
        let change = withdrawing::change(vec![leaf])?.write(asked.row(&what.device));
        done.receipt = Some(plane.commit_withdrawal(change).await?);
        done.recorded_after = started.elapsed();
    }
    Ok(done)
}

/// Gives a device back what it was cut off from: durable first, then in force.
///
/// # Errors
/// It is not cut off, was revoked or cut off harder meanwhile; trouble of ours.
pub async fn restore(
    plane: &Arc<Plane>,
    what: &Restoring,
    actor: &Actor,
) -> Result<RestoreReceipt, Trouble> {
    plane.granting_allowed()?;
    let (standing, change_seen) = plane.contained(&what.device)?;
    let change = Change::new(Direction::Grant)
        .guard(Guard::DeviceNotRevoked(what.device.clone()))
        .guard(Guard::ContainmentIs {
            device: what.device.clone(),
            containment: Some(standing.containment),
        })
        .write(Write::DropContainment {
            device: what.device.clone(),
        })
        .entry(plane.leaf(&entries::restored(clock::now(), actor, what, &standing))?);
    let receipt = plane.commit(change).await?;
    plane.give_back(&what.device, change_seen).await?;
    plane.tell_containment(&what.device).await;
    Ok(RestoreReceipt { receipt })
}

/// Signals → baseline → deviation → alert → incident → playbook → containment → audit entry, for
/// what doors, the network and devices told since the last time.
pub async fn judge(plane: &Arc<Plane>, told: &[Told]) {
    let _one_at_a_time = plane.judging.begin().await;
    let mut judged = plane.judge(told, clock::now());
    let answers = std::mem::take(&mut judged.answers);
    carry_out(plane, judged).await;
    for answer in answers {
        let shards = plane.shards();
        shards
            .tell_device(&answer.device, &answer.topic, answer.payload)
            .await;
    }
    for one in told {
        if let Told::Report { device, .. } = one {
            plane.remind_of_containment(device).await;
        }
    }
}

/// Takes up the incidents of the run before: acts whose end is not known are asked for again.
pub async fn take_up(plane: &Arc<Plane>) {
    let _one_at_a_time = plane.judging.begin().await;
    match timeline::remembered(plane) {
        Ok(judged) => carry_out(plane, judged).await,
        Err(trouble) => tracing::error!("incidents are not taken up: {trouble}"),
    }
}

/// A person's decision, told to the incident that it belongs to.
///
/// # Errors
/// The incident is not open.
pub async fn decided(plane: &Arc<Plane>, act: &PersonAct) -> Result<(), Trouble> {
    let _one_at_a_time = plane.judging.begin().await;
    let mut judged = Judged::default();
    let told = (plane.judgement.lock()).person(act, clock::now(), &mut judged);
    carry_out(plane, judged).await;
    told.map(drop)
        .map_err(|unknown| Trouble::refused("incident-not-open", unknown.to_string()))
}

/// Does what was decided, in order: what happened is on record before what it asks for is done,
/// and how that ended is told to whoever asked.
pub async fn carry_out(plane: &Arc<Plane>, mut judged: Judged) {
    plane.tell_alerts(&judged.alerts);
    let mut lines = Lines::default();
    while !judged.effects.is_empty() {
        for effect in std::mem::take(&mut judged.effects) {
            let act = match lines.take(plane, effect) {
                Ok(Some(act)) => act,
                Ok(None) if lines.are_many() => {
                    lines.record(plane).await;
                    continue;
                }
                Ok(None) => continue,
                Err(trouble) => {
                    tracing::error!("a line of a timeline is not on record ({trouble})");
                    continue;
                }
            };
            lines.record(plane).await;
            if let Some((token, outcome)) = acting::act(plane, act).await {
                let mut judgement = plane.judgement.lock();
                judgement.done(token, outcome, clock::now(), &mut judged);
            }
        }
    }
    lines.record(plane).await;
}

/// A new fleet is compiled whole, recorded, and in force on every shard when this returns.
///
/// # Errors
/// Diagnostics with file and line; a fleet that changed meanwhile, or devices that did so that the
/// plan that was shown is not this one; trouble of ours.
pub async fn apply(
    plane: &Arc<Plane>,
    files: Vec<SourceFile>,
    shown: Option<Digest>,
    actor: &Actor,
) -> Result<ApplyReceipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.applying.begin().await;
    let candidate = planning::compile_candidate(plane, &files).await?;
    if let Some(shown) = shown
        && planning::plan(plane, &candidate).await?.digest != shown
    {
        return Err(Trouble::refused(
            "plan-moved",
            "nothing was applied: the fleet in force or its devices changed since this plan was \
             shown; look at the new plan",
        ));
    }
    let Candidate {
        before,
        next,
        grants,
    } = candidate;
    let at = clock::now();
    let change = Change::new(Direction::Grant)
        .guard(Guard::FleetVersion(before.version))
        .write(Write::PutFleet(next.row(&files, at)?))
        .entry(plane.leaf(&entries::applied(at, actor, next.version, next.digest()))?);
    let receipt = plane.commit(change).await?;
    let grant_classes = grants.class_count();
    plane.put_in_force(Arc::clone(&next), grants).await;
    // Kinds of devices that came while it was compiled.
    for facts in plane.population(&next) {
        plane.cover(&facts).await?;
    }
    Ok(ApplyReceipt {
        version: next.version,
        grant_classes,
        receipt,
    })
}
