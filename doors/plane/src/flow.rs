//! The story, as one readable run of calls.
//!
//! connects → authenticated → admitted → message (`gateway` asks `access` for each) → withdrawn →
//! proven. Each step hands on a ticket that only the room which did the check can make.
//!
//! Two directions, never mixed up: what **grants** is durable before it has any effect; what
//! **withdraws** bites first, on every shard, and is acknowledged when its entry is durable.

use crate::clock;
use crate::entries::{self, Actor};
use crate::listen::tls::Trust;
use crate::plane::{FleetInForce, Plane, Trouble, digest, random};
use crate::shared::Latest;
use access::{Facts, Fleet, Grants, SourceFile};
use gateway::{Admitted, ConnectionId, Withdrawal};
use identity::{
    Authenticated, CertificateRequest, Door, Fact, Operation, Presented, Refusal, est, profile,
};
use model::{CertificateId, DeviceId, Digest, Principal, RevocationReason, ServiceId, Timestamp};
use signer::Purpose;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Change, Direction, Guard, Holder, IdempotencyKey, Receipt, Write};

/// What the MQTT door needs to let somebody in; shared by all shards.
pub struct Admission {
    pub trust: Arc<Trust>,
    pub fleet: Latest<FleetInForce>,
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
        Ok(Admitted {
            connection,
            address,
            facts: self.facts_of(who.principal()),
            certificate: who.certificate(),
            expires_at: who.not_after(),
        })
    }

    /// All that policy may see of somebody, and whether it is contained.
    pub fn facts_of(&self, principal: &Principal) -> Facts {
        let (product, groups, containment) = match principal {
            Principal::Device(device) => {
                let registry = self.trust.registry();
                let containment = registry.containment(device);
                match registry.device(device) {
                    Some(known) => (
                        Some(known.product.clone()),
                        known.groups.to_vec(),
                        containment,
                    ),
                    None => (None, Vec::new(), containment),
                }
            }
            Principal::Service(service) => (None, self.fleet.get().groups_of(service), None),
        };
        Facts {
            principal: principal.clone(),
            product,
            groups,
            containment,
        }
    }
}

/// A certificate that was issued and is on record.
pub struct Issued {
    pub der: Vec<u8>,
    pub certificate: CertificateId,
    pub not_after: Timestamp,
    pub receipt: Receipt,
}

/// EST: a device that proved its factory identity (or its present certificate) gets an LDevID.
///
/// # Errors
/// A refusal of the device, or trouble of ours.
pub async fn enroll(
    plane: &Arc<Plane>,
    presented: &Presented,
    operation: Operation,
    request: &CertificateRequest,
) -> Result<Issued, Trouble> {
    let now = clock::now();
    let who: Authenticated = plane.trust().authenticate(Door::Devices, presented)?;
    let decision = plane
        .trust()
        .registry()
        .enroll(operation, &who, request, now)?;
    plane.granting_allowed()?;

    let lifetime = plane
        .admission
        .fleet
        .get()
        .ldevid_lifetime(&decision.product);
    let terms = profile::Terms {
        public_key: request.public_key(),
        serial_random: random()?,
        now,
        lifetime,
    };
    let unsigned = profile::ldevid(
        plane.realm(),
        &decision.device,
        None,
        plane.issuer(),
        &terms,
    )?;
    let certificate = unsigned.certificate();
    let (not_before, not_after) = (unsigned.not_before(), unsigned.not_after());
    let signature = plane.sign(Purpose::DeviceCertificate, unsigned.to_be_signed())?;
    let der = unsigned.assemble(&signature)?;

    let principal = Principal::Device(decision.device.clone());
    let change = Change::new(Direction::Grant)
        .guard(Guard::DeviceNotRevoked(decision.device.clone()))
        .guard(Guard::CertificateNotRevoked(who.certificate()))
        .guard(Guard::CertificateUnknown(certificate))
        .write(Write::PutDevice(store::Device {
            id: decision.device.clone(),
            product: decision.product.clone(),
            groups: decision.groups.clone(),
            manufacturer: decision.manufacturer.clone(),
            serial: decision.serial.clone(),
            enrolled_at: now,
        }))
        .write(Write::PutCertificate(store::Certificate {
            id: certificate,
            holder: Holder::Device(decision.device.clone()),
            not_before,
            not_after,
            der: der.clone(),
        }))
        .entry(plane.leaf(&entries::enrolled(
            now,
            &principal,
            who.certificate(),
            certificate,
            decision.kind.name(),
        ))?);
    let receipt = plane.commit(change).await?;

    plane.learn(&Fact::CertificateIssued {
        principal,
        certificate,
        not_after,
    })?;
    // A revocation bites in memory before it is on record, so the guards may not have seen one
    // that came meanwhile: what a revoked certificate vouched for must not outlive it.
    if let Err(refusal) = plane.trust().authenticate(Door::Devices, presented) {
        if let Refusal::CertificateRevoked { reason, .. }
        | Refusal::PrincipalRevoked { reason, .. } = &refusal
        {
            let heir = Revoking::Certificate(certificate);
            revoke(plane, &heir, *reason, &Actor::Plane).await?;
        }
        return Err(refusal.into());
    }
    let facts = plane
        .admission
        .facts_of(&Principal::Device(decision.device));
    plane.cover(&facts).await?;
    Ok(Issued {
        der,
        certificate,
        not_after,
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
    let terms = profile::Terms {
        public_key: request.public_key(),
        serial_random: random()?,
        now,
        lifetime: plane.config.service_lifetime(),
    };
    let unsigned = profile::service(plane.realm(), service, None, plane.issuer(), &terms)?;
    let certificate = unsigned.certificate();
    let (not_before, not_after) = (unsigned.not_before(), unsigned.not_after());
    let signature = plane.sign(Purpose::ServiceCertificate, unsigned.to_be_signed())?;
    let der = unsigned.assemble(&signature)?;
    let principal = Principal::Service(service.clone());
    let change = Change::new(Direction::Grant)
        .guard(Guard::ServiceNotRevoked(service.clone()))
        .guard(Guard::CertificateUnknown(certificate))
        .write(Write::PutCertificate(store::Certificate {
            id: certificate,
            holder: Holder::Service(service.clone()),
            not_before,
            not_after,
            der: der.clone(),
        }))
        .entry(plane.leaf(&entries::issued_to_service(
            now,
            actor,
            &principal,
            certificate,
        ))?);
    let receipt = plane.commit(change).await?;
    plane.learn(&Fact::CertificateIssued {
        principal,
        certificate,
        not_after,
    })?;
    Ok(Issued {
        der,
        certificate,
        not_after,
        receipt,
    })
}

/// What is to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoking {
    Device(DeviceId),
    Service(ServiceId),
    Certificate(CertificateId),
}

impl Revoking {
    /// Whose identity it is, or the one certificate that is meant.
    fn principal(&self) -> Result<Principal, CertificateId> {
        match self {
            Self::Device(device) => Ok(Principal::Device(device.clone())),
            Self::Service(service) => Ok(Principal::Service(service.clone())),
            Self::Certificate(certificate) => Err(*certificate),
        }
    }
}

/// The row of a revocation.
#[must_use]
pub fn withdrawal_write(what: &Revoking, at: Timestamp, reason: RevocationReason) -> Write {
    match what.clone() {
        Revoking::Device(device) => Write::RevokeDevice { device, at, reason },
        Revoking::Service(service) => Write::RevokeService {
            service,
            at,
            reason,
        },
        Revoking::Certificate(certificate) => Write::RevokeCertificate {
            certificate,
            at,
            reason,
        },
    }
}

/// What a revocation did, and how fast.
pub struct RevocationReceipt {
    /// False: nobody of that name, or no such certificate, was on record. It is barred in advance.
    pub known: bool,
    pub sessions_closed: u32,
    /// From the request to the moment after which nothing of it is accepted at any door.
    pub in_force_after: Duration,
    /// From the request to its entry being durable.
    pub recorded_after: Duration,
    pub receipt: Receipt,
}

/// Bites first, is acknowledged when it is recorded. If it cannot be recorded it stays in force,
/// granting stops, and recording is tried again until it succeeds.
///
/// # Errors
/// Only that it could not be recorded; the withdrawal itself has been carried out.
pub async fn revoke(
    plane: &Arc<Plane>,
    what: &Revoking,
    reason: RevocationReason,
    actor: &Actor,
) -> Result<RevocationReceipt, Trouble> {
    let started = Instant::now();
    let at = clock::now();
    let known = plane.knows(what);
    let (withdrawal, fact) = match what.principal() {
        Ok(principal) => (
            Withdrawal::Principal(principal.clone()),
            Fact::PrincipalRevoked {
                principal,
                reason,
                at,
            },
        ),
        Err(certificate) => (
            Withdrawal::Certificate(certificate),
            Fact::CertificateRevoked {
                certificate,
                reason,
                at,
            },
        ),
    };
    plane.learn(&fact)?;
    let sessions_closed = plane.withdraw(&withdrawal).await;
    let in_force_after = started.elapsed();
    // Tried again after a disk's error that was none, it must not be told twice.
    let leaf = plane.leaf(&entries::revoked(at, actor, what, reason, sessions_closed))?;
    let key = IdempotencyKey {
        key: format!("withdrawal/{}", Digest(random()?)),
        request: digest(&leaf),
    };
    let change = Change::new(Direction::Withdraw)
        .write(withdrawal_write(what, at, reason))
        .entry(leaf)
        .idempotent(key);
    let receipt = plane.commit_withdrawal(change).await?;
    Ok(RevocationReceipt {
        known,
        sessions_closed,
        in_force_after,
        recorded_after: started.elapsed(),
        receipt,
    })
}

/// What applying a fleet did.
pub struct ApplyReceipt {
    pub version: u64,
    pub grant_classes: usize,
    pub receipt: Receipt,
}

/// A new fleet is compiled whole, recorded, and in force on every shard when this returns.
///
/// # Errors
/// Diagnostics with file and line; a fleet that changed meanwhile; trouble of ours.
pub async fn apply(
    plane: &Arc<Plane>,
    files: Vec<SourceFile>,
    actor: &Actor,
) -> Result<ApplyReceipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.applying.begin().await;
    let fleet = Fleet::read(&files).map_err(Trouble::Fleet)?;
    let before = plane.admission.fleet.get();
    let next = Arc::new(FleetInForce::new(before.version + 1, fleet));
    let grants = plane.compile(&next).await?;
    let at = clock::now();
    let change = Change::new(Direction::Grant)
        .guard(Guard::FleetVersion(before.version))
        .write(Write::PutFleet(next.row(&files, at)?))
        .entry(plane.leaf(&entries::applied(at, actor, next.version, next.digest()))?);
    let receipt = plane.commit(change).await?;
    let grant_classes = grants.class_count();
    plane
        .put_in_force(Arc::clone(&next), Arc::new(grants))
        .await;
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

/// What applying a fleet would do.
pub struct Plan {
    pub version: u64,
    pub unchanged: bool,
    pub grant_classes: usize,
    pub changes: Vec<String>,
}

/// Compiles a fleet and compares its names with those in force; changes nothing.
///
/// # Errors
/// Diagnostics with file and line.
pub async fn plan(plane: &Arc<Plane>, files: &[SourceFile]) -> Result<Plan, Trouble> {
    let fleet = Fleet::read(files).map_err(Trouble::Fleet)?;
    let before = plane.admission.fleet.get();
    let next = Arc::new(FleetInForce::new(before.version + 1, fleet));
    let grants = plane.compile(&next).await?;
    let (old, new) = (before.names(), next.names());
    let mut changes: Vec<String> = old
        .difference(&new)
        .map(|name| format!("- {name}"))
        .collect();
    changes.extend(new.difference(&old).map(|name| format!("+ {name}")));
    Ok(Plan {
        version: next.version,
        unchanged: before.digest() == next.digest(),
        grant_classes: grants.class_count(),
        changes,
    })
}

/// Reads an EST body: the request, with possession of its key proven.
///
/// # Errors
/// What is wrong with it, for the client.
pub fn read_request(
    content_type: Option<&str>,
    body: &[u8],
) -> Result<CertificateRequest, Trouble> {
    let der = est::decode_body(content_type, body)?;
    Ok(CertificateRequest::parse(&der)?)
}

/// Grants for a population, compiled off the async threads: Cedar may take its time.
pub fn compile(fleet: &FleetInForce, population: Vec<Facts>) -> Result<Grants, Trouble> {
    match &fleet.fleet {
        Some(fleet) => Grants::compile(fleet, population).map_err(Trouble::Fleet),
        None => Ok(Grants::none()),
    }
}
