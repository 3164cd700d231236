//! What is known of devices and certificates, in memory: who was expected, what was issued, what
//! was revoked.
//!
//! Names stand in one arena and indexes hold row numbers only: see [`table`].

mod asking;
mod bars;
mod claims;
mod fact;
mod imported;
mod keys;
mod rotation;
mod table;
#[cfg(test)]
mod tests;
mod tpm;

pub use bars::Revocation;
pub use fact::{Fact, FactConflict};
pub use imported::{CLIENT_ID, ImportProgress, ImportTerms};
pub use keys::KeyHolder;
pub use rotation::Supersession;
pub use tpm::AttestationStatus;

use crate::claim_certificate::ClaimRefusal;
use crate::csr::CertificateRequest;
use crate::first_identity::claim_token::Claimed;
use crate::path::{Claim, Door, IdentityKind, Presented, check_time};
use crate::refusal::Refusal;
use bars::Bars;
use imported::Imports;
use model::{
    CertificateId, Containment, DeviceId, Digest, GroupId, ManufacturerId, Principal, ProductId,
    Revocable, SerialNumber, ServiceId, Timestamp,
};
use std::collections::{HashMap, HashSet};
use table::{Certificates, Devices, Interner, ShownKeys};

/// All that is known, changed by [`Fact`]s only: the same facts in the same order give the same
/// registry.
#[derive(Default)]
pub struct Registry {
    manufacturers: Interner<ManufacturerId>,
    products: Interner<ProductId>,
    group_sets: Interner<Box<[GroupId]>>,
    services: Interner<ServiceId>,
    devices: Devices,
    certificates: Certificates,
    bars: Bars,
    contained: HashMap<DeviceId, (Containment, Timestamp)>,
    /// Certificates that have a proven successor and are not revoked yet.
    superseded: HashMap<CertificateId, Supersession>,
    imports: Imports,
    chips: tpm::Chips,
    claims: claims::Claims,
    shown_keys: ShownKeys,
}

/// One device as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device<'a> {
    pub device: DeviceId,
    pub manufacturer: &'a ManufacturerId,
    pub serial: SerialNumber,
    pub product: &'a ProductId,
    pub groups: &'a [GroupId],
    /// It has been issued a certificate at least once.
    pub enrolled: bool,
    pub revoked: Option<Revocation>,
}

/// What a revocation would bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    pub devices: u64,
    /// Of ours, on record.
    pub certificates: u64,
}

/// The ticket of an authenticated peer: path, possession, name, lists and revocation have held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    principal: Principal,
    presented: Presented,
}

impl Authenticated {
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    #[must_use]
    pub fn certificate(&self) -> CertificateId {
        self.presented.certificate
    }

    /// SHA-256 of the SubjectPublicKeyInfo whose key it proved to hold.
    #[must_use]
    pub fn key(&self) -> Digest {
        self.presented.key
    }

    /// A session may not outlive this.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.presented.not_after
    }

    #[must_use]
    pub fn kind(&self) -> IdentityKind {
        self.presented.kind()
    }
}

/// Which EST operation is asked (RFC 7030 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    SimpleEnroll,
    SimpleReenroll,
}

/// That a certificate may be issued, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollmentDecision {
    pub device: DeviceId,
    pub manufacturer: ManufacturerId,
    pub serial: SerialNumber,
    pub product: ProductId,
    pub groups: Vec<GroupId>,
    pub kind: EnrollmentKind,
    pub by: FirstIdentity,
}

/// By what a device proved who it is when it asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FirstIdentity {
    Idevid,
    Imported,
    ClaimToken,
    ClaimCertificate,
    Tpm,
    /// The certificate of ours that is being renewed.
    Ldevid,
}

impl FirstIdentity {
    /// The word in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idevid => "idevid",
            Self::Imported => "imported-certificate",
            Self::ClaimToken => "claim-token",
            Self::ClaimCertificate => "claim-certificate",
            Self::Tpm => "tpm",
            Self::Ldevid => "ldevid",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnrollmentKind {
    /// Its first certificate, by its factory identity.
    First,
    /// By its factory identity once more: its certificate ended or its storage was wiped.
    Again,
    /// By its own certificate, same key.
    Renewal,
    /// By its own certificate, new key.
    Rekey,
    /// By its own certificate, which ended a short while ago.
    Returning,
}

impl EnrollmentKind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Again => "again",
            Self::Renewal => "renewal",
            Self::Rekey => "rekey",
            Self::Returning => "returning",
        }
    }
}

impl Registry {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// May the holder of this certificate come in here, now?
    ///
    /// # Errors
    /// [`Refusal`]: expired, factory identity at the gateway, certificate or principal revoked,
    /// device isolated, serial number not listed, certificate not in our records. A quarantined
    /// device is admitted: what it may do inside is its grants' affair.
    pub fn authenticate(
        &self,
        door: Door,
        mut presented: Presented,
        now: Timestamp,
    ) -> Result<Authenticated, Refusal> {
        check_time(presented.not_before, presented.not_after, now)?;
        self.check_import(door, &mut presented, now)?;
        if door == Door::Gateway && presented.kind() == IdentityKind::Idevid {
            return Err(Refusal::IdevidAtGateway);
        }
        let principal = self.principal_behind(&presented)?;
        self.check_bars(&principal, presented.certificate)?;
        if presented.kind() == IdentityKind::Ldevid
            && self.owner(&presented.certificate).as_ref() != Some(&principal)
        {
            return Err(Refusal::UnrecordedCertificate {
                certificate: presented.certificate,
            });
        }
        Ok(Authenticated {
            principal,
            presented,
        })
    }

    /// May this device have a certificate? Names and extensions of the request are never taken
    /// over: the decision and the profile say what will stand in it.
    ///
    /// Bars are asked again, as time has passed since the handshake.
    ///
    /// # Errors
    /// [`Refusal`]: wrong identity for the operation, barred, another name asked for, a key that
    /// somebody else holds.
    pub fn enroll(
        &self,
        operation: Operation,
        who: &Authenticated,
        request: &CertificateRequest,
        now: Timestamp,
    ) -> Result<EnrollmentDecision, Refusal> {
        let presented = &who.presented;
        check_time(presented.not_before, presented.not_after, now)?;
        let Principal::Device(id) = &who.principal else {
            return Err(Refusal::NotADevice);
        };
        self.check_bars(&who.principal, presented.certificate)?;
        let (kind, by) = match (operation, &presented.claim) {
            (Operation::SimpleEnroll, Claim::Ldevid { .. }) => return Err(Refusal::NotAnIdevid),
            (_, Claim::Shared { .. }) => return Err(ClaimRefusal::NothingElse.into()),
            (Operation::SimpleReenroll, Claim::Idevid { .. } | Claim::Imported { .. }) => {
                return Err(Refusal::NotAnLdevid);
            }
            (Operation::SimpleEnroll, Claim::Idevid { .. }) => {
                (EnrollmentKind::First, FirstIdentity::Idevid)
            }
            (Operation::SimpleEnroll, Claim::Imported { .. }) => {
                (EnrollmentKind::First, FirstIdentity::Imported)
            }
            (Operation::SimpleReenroll, Claim::Ldevid { uri, .. }) => {
                if !request.keeps_name(&presented.subject, uri) {
                    return Err(Refusal::NameChanged { uri: uri.clone() });
                }
                let kind = if request.key_digest() == presented.key {
                    EnrollmentKind::Renewal
                } else {
                    EnrollmentKind::Rekey
                };
                (kind, FirstIdentity::Ldevid)
            }
        };
        self.check_key(&request.key_digest(), &who.principal)?;
        if by != FirstIdentity::Ldevid
            && let Some(holder) = self.shown_by_another(&presented.key, id)
        {
            return Err(Refusal::FactoryKeyOfAnother { holder });
        }
        let device = self.device(id).ok_or(Refusal::UnrecordedCertificate {
            certificate: presented.certificate,
        })?;
        Ok(decision(device, kind, by))
    }

    /// May whoever showed a claim token have a certificate? The token says which serial number.
    ///
    /// # Errors
    /// [`Refusal`]: not on the list (any more), barred, or a key that somebody else holds.
    pub fn enroll_claimed(
        &self,
        claimed: &Claimed,
        request: &CertificateRequest,
    ) -> Result<EnrollmentDecision, Refusal> {
        let device =
            (self.device_by_serial(&claimed.manufacturer, &claimed.serial)).ok_or_else(|| {
                Refusal::UnlistedSerial {
                    manufacturer: claimed.manufacturer.clone(),
                    serial: claimed.serial.clone(),
                }
            })?;
        let principal = Principal::Device(device.device.clone());
        self.check_principal(&principal)?;
        self.check_key(&request.key_digest(), &principal)?;
        Ok(decision(
            device,
            EnrollmentKind::First,
            FirstIdentity::ClaimToken,
        ))
    }

    /// Takes in a fact that is durable (or, for a revocation, that must bite before it is).
    /// Applying a fact again changes nothing.
    ///
    /// # Errors
    /// [`FactConflict`] if the fact contradicts an earlier one; nothing has changed then.
    /// Revocations, releases, containments and retirements never fail.
    pub fn apply(&mut self, fact: &Fact) -> Result<(), FactConflict> {
        match fact {
            Fact::DeviceExpected {
                manufacturer,
                serial,
                device,
                product,
                groups,
            } => self.expect(manufacturer, serial, device, product, groups),
            Fact::DeviceDescribed { device, attributes } => self.describe(device, attributes),
            Fact::FleetImported {
                fleet,
                until,
                accept_expired,
            } => self.import_fleet(fleet, *until, *accept_expired),
            Fact::FleetRetired { fleet, at } => {
                self.retire_fleet(fleet, *at);
                Ok(())
            }
            Fact::LeafPinned {
                fingerprint,
                device,
                shared,
            } => self.pin(*fingerprint, device, *shared),
            Fact::ClaimCertificateAdded { fingerprint, terms } => {
                self.add_claim(*fingerprint, terms)
            }
            Fact::ClaimCertificateRetired { claim, at } => {
                self.claims.retire(claim, *at);
                Ok(())
            }
            Fact::CertificateReserved { certificate } => {
                self.claims.reserve(*certificate);
                Ok(())
            }
            Fact::EndorsementListed {
                endorsement,
                manufacturer,
                serial,
            } => self.list_endorsement(*endorsement, manufacturer, serial),
            Fact::EndorsementUnlisted { endorsement } => {
                self.chips.unlist(endorsement);
                Ok(())
            }
            Fact::KeyHeld { device, key } => {
                self.chips.hold(device, *key);
                Ok(())
            }
            Fact::Appraised {
                device,
                status,
                ends_at,
                by_key,
            } => {
                self.chips.appraised(device, *status, *ends_at, *by_key);
                Ok(())
            }
            Fact::CertificateIssued {
                principal,
                certificate,
                key,
                not_after,
            } => {
                let holder = KeyHolder::Principal(principal.clone());
                self.record(&holder, certificate, key, *not_after)
            }
            Fact::ServerCertified {
                certificate,
                key,
                not_after,
            } => self.record(&KeyHolder::Server, certificate, key, *not_after),
            Fact::KeyShown { device, key } => {
                let row = (self.devices.by_name(device.as_str())).ok_or_else(|| {
                    FactConflict::UnknownDevice {
                        device: device.clone(),
                    }
                })?;
                self.shown_keys.add(key, row);
                Ok(())
            }
            Fact::Revoked { what, reason, at } => {
                if let Revocable::Certificate(certificate) = what
                    && !reason.is_hold()
                {
                    self.superseded.remove(certificate);
                    self.claims.settle(what);
                }
                let (reason, at) = (*reason, *at);
                self.bars.put(what, Revocation { reason, at });
                Ok(())
            }
            Fact::CertificateSuperseded {
                certificate,
                by,
                at,
            } => {
                self.supersede(*certificate, Supersession { by: *by, at: *at });
                Ok(())
            }
            Fact::Released { what } => {
                self.bars.release(what);
                self.claims.settle(what);
                Ok(())
            }
            Fact::DeviceContained {
                device,
                containment,
                at,
            } => {
                self.contained.insert(device.clone(), (*containment, *at));
                Ok(())
            }
            Fact::DeviceRestored { device } => {
                self.contained.remove(device);
                Ok(())
            }
        }
    }

    /// How far a device is cut off, known or not; `None`: it is free.
    #[must_use]
    pub fn containment(&self, id: &DeviceId) -> Option<Containment> {
        self.contained.get(id).map(|(containment, _)| *containment)
    }

    /// All devices that are cut off, with when that was said, in no order.
    pub fn contained(&self) -> impl Iterator<Item = (&DeviceId, Containment, Timestamp)> {
        self.contained
            .iter()
            .map(|(device, (containment, at))| (device, *containment, *at))
    }

    /// Whom a certificate that was believed names, barred or not. Says nothing of who holds its
    /// key: for telling of a refusal, never for admitting.
    #[must_use]
    pub fn named_by(&self, presented: &Presented) -> Option<Principal> {
        self.principal_behind(presented).ok()
    }

    #[must_use]
    pub fn device(&self, id: &DeviceId) -> Option<Device<'_>> {
        self.device_at(self.devices.by_name(id.as_str())?)
    }

    #[must_use]
    pub fn device_by_serial(
        &self,
        manufacturer: &ManufacturerId,
        serial: &SerialNumber,
    ) -> Option<Device<'_>> {
        let manufacturer = self.manufacturers.number(manufacturer)?;
        self.device_at(self.devices.by_serial(manufacturer, serial.as_str())?)
    }

    /// In the order in which they were expected.
    pub fn devices(&self) -> impl Iterator<Item = Device<'_>> {
        (0..self.devices.len()).filter_map(|row| self.device_at(row))
    }

    /// Devices expected, enrolled or not.
    #[must_use]
    pub fn device_count(&self) -> usize {
        usize::try_from(self.devices.len()).unwrap_or(usize::MAX)
    }

    #[must_use]
    pub fn enrolled_count(&self) -> usize {
        self.devices.enrolled_count()
    }

    /// Certificates of ours in the records, ended ones included until they are forgotten.
    #[must_use]
    pub fn certificate_count(&self) -> usize {
        self.certificates.len()
    }

    /// Whether it is one of ours in the records, a device's, a service's or a door's.
    #[must_use]
    pub fn is_issued(&self, certificate: &CertificateId) -> bool {
        self.certificates.find(certificate).is_some()
    }

    /// Whose certificate it is, if it is a device's or service's of ours in the records.
    #[must_use]
    pub fn owner(&self, certificate: &CertificateId) -> Option<Principal> {
        self.principal_at(self.certificates.find(certificate)?.owner)
    }

    /// Certificates of ours of a principal with their ends, the latest issued first.
    #[must_use]
    pub fn certificates_of(&self, principal: &Principal) -> Vec<(CertificateId, Timestamp)> {
        let Some(owner) = self.owner_key(principal) else {
            return Vec::new();
        };
        self.certificates
            .of(owner)
            .map(|(id, record)| (id, record.not_after()))
            .collect()
    }

    /// Its own revocation or hold. What bars it from above is not asked.
    #[must_use]
    pub fn revocation(&self, what: &Revocable) -> Option<Revocation> {
        self.bars.of(what)
    }

    /// All that is revoked or on hold, in no order.
    pub fn revocations(&self) -> impl Iterator<Item = (Revocable, Revocation)> {
        self.bars.iter()
    }

    /// Its own revocation, or its product's.
    #[must_use]
    pub fn principal_revocation(&self, principal: &Principal) -> Option<Revocation> {
        if self.bars.is_empty() {
            return None;
        }
        let own = self.bars.of_principal(principal);
        own.or_else(|| self.bars.of_product(self.product_of(principal)?))
    }

    /// What is told to others of a certificate: its own revocation, its owner's or its owner's
    /// product's; a hold only if there is nothing worse. That its issuer is revoked is told by
    /// the issuer's own certificate.
    #[must_use]
    pub fn certificate_revocation(&self, certificate: &CertificateId) -> Option<Revocation> {
        if self.bars.is_empty() {
            return None;
        }
        let owner = self.owner(certificate);
        let product = owner.as_ref().and_then(|owner| self.product_of(owner));
        self.bars
            .of_certificate(certificate, owner.as_ref(), product)
    }

    /// How many devices and certificates of ours would be barred: what a revocation would hit.
    /// Walks all records.
    #[must_use]
    pub fn reach(&self, what: &HashSet<Revocable>) -> Reach {
        let names = |principal: &Principal| {
            what.contains(&Revocable::Principal(principal.clone()))
                || self
                    .product_of(principal)
                    .is_some_and(|product| what.contains(&Revocable::Product(product.clone())))
        };
        let mut reach = Reach::default();
        for device in self.devices() {
            reach.devices += u64::from(names(&Principal::Device(device.device)));
        }
        for (certificate, _) in self.certificates.iter() {
            let is_meant = what.contains(&Revocable::Issuer(certificate.issuer()))
                || what.contains(&Revocable::Certificate(certificate))
                || self.owner(&certificate).is_some_and(|owner| names(&owner));
            reach.certificates += u64::from(is_meant);
        }
        reach
    }

    /// Whether this is on record: a device, a service or product with a device or a certificate, a
    /// CA that issued something.
    #[must_use]
    pub fn knows(&self, what: &Revocable) -> bool {
        match what {
            Revocable::Certificate(certificate) => self.is_issued(certificate),
            Revocable::Principal(Principal::Device(id)) => self.device(id).is_some(),
            Revocable::Principal(Principal::Service(id)) => self.services.number(id).is_some(),
            Revocable::Product(product) => self.products.number(product).is_some(),
            Revocable::Issuer(issuer) => self.certificates.knows_issuer(issuer),
        }
    }

    /// What a CRL of `issuer` (SHA-256 of its Name in DER) must list at `now`: all of this shard that
    /// is revoked and ended less than [`crate::crl::KEPT_AFTER_END`] ago, or
    /// [`crate::crl::SUPERSEDED_KEPT_AFTER_END`] if it was merely replaced. Ordered by serial number.
    #[must_use]
    pub fn crl_entries(
        &self,
        issuer: Digest,
        shard: crate::crl::Shard,
        now: Timestamp,
    ) -> Vec<crate::crl::Entry> {
        let mut entries: Vec<crate::crl::Entry> = Vec::new();
        if self.bars.is_empty() {
            return entries;
        }
        for (certificate, record) in self.certificates.iter() {
            if certificate.issuer() != issuer
                || !shard.holds(&certificate)
                || record.not_after().plus(crate::crl::KEPT_AFTER_END) < now
            {
                continue;
            }
            if let Some(Revocation { reason, at }) = self.certificate_revocation(&certificate)
                && record.not_after().plus(crate::crl::kept_after_end(reason)) >= now
            {
                entries.push(crate::crl::Entry {
                    certificate,
                    reason,
                    at,
                });
            }
        }
        entries.sort_by_key(|entry| entry.certificate);
        entries
    }

    /// How many [`Registry::forget_ended`] would drop.
    #[must_use]
    pub fn ended_count(&self, before: Timestamp) -> usize {
        let all = self.certificates.iter();
        all.filter(|(_, record)| record.not_after() < before)
            .count()
    }

    /// Drops records of certificates that ended before `before`, with their revocations. They are
    /// refused for their age anyway; leave [`crate::crl::KEPT_AFTER_END`] for CRLs. Costs a walk
    /// over all records.
    pub fn forget_ended(&mut self, before: Timestamp) {
        let (bars, superseded) = (&mut self.bars, &mut self.superseded);
        self.certificates.retain(|id, record| {
            let keep = record.not_after() >= before;
            if !keep {
                bars.forget_certificate(id);
                superseded.remove(id);
            }
            keep
        });
    }

    fn principal_behind(&self, presented: &Presented) -> Result<Principal, Refusal> {
        match &presented.claim {
            Claim::Ldevid { principal, .. } => Ok(principal.clone()),
            Claim::Idevid {
                manufacturer,
                serial,
            } => self
                .device_by_serial(manufacturer, serial)
                .map(|device| Principal::Device(device.device))
                .ok_or_else(|| Refusal::UnlistedSerial {
                    manufacturer: manufacturer.clone(),
                    serial: serial.clone(),
                }),
            Claim::Imported {
                fleet,
                serial,
                fingerprint,
                client_id,
            } => self
                .imported_device(fleet, serial.as_ref(), fingerprint, client_id.as_deref())
                .map(Principal::Device),
            Claim::Shared { .. } => Err(ClaimRefusal::NothingElse.into()),
        }
    }

    fn check_bars(&self, principal: &Principal, certificate: CertificateId) -> Result<(), Refusal> {
        self.check_access(principal, Some(certificate))
    }

    /// Of somebody who has no certificate yet.
    fn check_principal(&self, principal: &Principal) -> Result<(), Refusal> {
        self.check_access(principal, None)
    }

    fn check_access(
        &self,
        principal: &Principal,
        certificate: Option<CertificateId>,
    ) -> Result<(), Refusal> {
        if let Some((what, Revocation { reason, at })) = self.bar_of(principal, certificate) {
            return Err(Refusal::Revoked { what, reason, at });
        }
        if let Principal::Device(device) = principal
            && let Some((Containment::Isolated, at)) = self.contained.get(device)
        {
            return Err(Refusal::DeviceIsolated {
                device: device.clone(),
                at: *at,
            });
        }
        Ok(())
    }

    /// What keeps a certificate in this hand out, the widest first; a hold only if there is nothing
    /// worse.
    fn bar_of(
        &self,
        principal: &Principal,
        certificate: Option<CertificateId>,
    ) -> Option<(Revocable, Revocation)> {
        if self.bars.is_empty() {
            return None;
        }
        let product = self.product_of(principal);
        let all = [
            certificate.and_then(|certificate| {
                let issuer = certificate.issuer();
                let why = self.bars.of_issuer(&issuer)?;
                Some((Revocable::Issuer(issuer), why))
            }),
            product.and_then(|id| {
                let why = self.bars.of_product(id)?;
                Some((Revocable::Product(id.clone()), why))
            }),
            (self.bars.of_principal(principal))
                .map(|why| (Revocable::Principal(principal.clone()), why)),
            certificate.and_then(|certificate| {
                let what = Revocable::Certificate(certificate);
                let why = self.bars.of(&what)?;
                Some((what, why))
            }),
        ];
        let found = || all.iter().flatten();
        let worst = found().find(|(_, why)| !why.reason.is_hold());
        worst.or_else(|| found().next()).cloned()
    }

    fn product_of(&self, principal: &Principal) -> Option<&ProductId> {
        let Principal::Device(id) = principal else {
            return None;
        };
        let row = self.devices.by_name(id.as_str())?;
        self.products.value(self.devices.view(row)?.product)
    }

    fn principal_at(&self, owner: table::Owner) -> Option<Principal> {
        match owner {
            table::Owner::Device(row) => self
                .devices
                .name(row)
                .and_then(|name| DeviceId::new(name).ok())
                .map(Principal::Device),
            table::Owner::Service(number) => {
                self.services.value(number).cloned().map(Principal::Service)
            }
            table::Owner::Server => None,
        }
    }

    fn expect(
        &mut self,
        manufacturer: &ManufacturerId,
        serial: &SerialNumber,
        device: &DeviceId,
        product: &ProductId,
        groups: &[GroupId],
    ) -> Result<(), FactConflict> {
        let by_serial = self
            .manufacturers
            .number(manufacturer)
            .and_then(|number| self.devices.by_serial(number, serial.as_str()));
        let by_name = self.devices.by_name(device.as_str());
        if by_serial != by_name {
            return Err(match by_name.and_then(|row| self.device_at(row)) {
                Some(taken) => FactConflict::NameTaken {
                    device: device.clone(),
                    manufacturer: taken.manufacturer.clone(),
                    serial: taken.serial,
                },
                None => FactConflict::SerialTaken {
                    manufacturer: manufacturer.clone(),
                    serial: serial.clone(),
                },
            });
        }
        // Or a list of expected devices could take a revocation back.
        if let Some(known) = by_name.and_then(|row| self.device_at(row))
            && known.product != product
            && self.bars.of_product(known.product).is_some()
        {
            return Err(FactConflict::ProductBarred {
                device: device.clone(),
                product: known.product.clone(),
            });
        }
        let mut groups = groups.to_vec();
        groups.sort_unstable();
        groups.dedup();
        let (Some(manufacturer), Some(product), Some(groups)) = (
            self.manufacturers.intern(manufacturer),
            self.products.intern(product),
            self.group_sets.intern(&groups.into_boxed_slice()),
        ) else {
            return Err(FactConflict::Full);
        };
        match by_name {
            Some(row) => self.devices.reassign(row, product, groups),
            None => self
                .devices
                .add(
                    device.as_str(),
                    manufacturer,
                    serial.as_str(),
                    product,
                    groups,
                )
                .ok_or(FactConflict::Full)?,
        }
        Ok(())
    }

    fn record(
        &mut self,
        holder: &KeyHolder,
        certificate: &CertificateId,
        key: &Digest,
        not_after: Timestamp,
    ) -> Result<(), FactConflict> {
        if self.is_issued(certificate) {
            let owner = self.owner(certificate);
            let owner = owner.map_or(KeyHolder::Server, KeyHolder::Principal);
            return if owner == *holder {
                Ok(())
            } else {
                Err(FactConflict::CertificateTaken {
                    certificate: *certificate,
                    owner,
                })
            };
        }
        let owner = match holder {
            KeyHolder::Server => table::Owner::Server,
            KeyHolder::Principal(Principal::Device(id)) => {
                let row = self
                    .devices
                    .by_name(id.as_str())
                    .ok_or_else(|| FactConflict::UnknownDevice { device: id.clone() })?;
                self.devices.set_enrolled(row);
                table::Owner::Device(row)
            }
            KeyHolder::Principal(Principal::Service(id)) => {
                table::Owner::Service(self.services.intern(id).ok_or(FactConflict::Full)?)
            }
        };
        self.certificates
            .add(certificate, owner, key, not_after)
            .ok_or(FactConflict::Full)
    }

    fn owner_key(&self, principal: &Principal) -> Option<table::Owner> {
        match principal {
            Principal::Device(id) => self.devices.by_name(id.as_str()).map(table::Owner::Device),
            Principal::Service(id) => self.services.number(id).map(table::Owner::Service),
        }
    }

    fn device_at(&self, row: u32) -> Option<Device<'_>> {
        let view = self.devices.view(row)?;
        let device = DeviceId::new(view.name).ok()?;
        Some(Device {
            revoked: if self.bars.is_empty() {
                None
            } else {
                self.principal_revocation(&Principal::Device(device.clone()))
            },
            device,
            manufacturer: self.manufacturers.value(view.manufacturer)?,
            serial: SerialNumber::new(view.serial).ok()?,
            product: self.products.value(view.product)?,
            groups: self.group_sets.value(view.groups)?,
            enrolled: view.enrolled,
        })
    }
}

fn decision(device: Device<'_>, kind: EnrollmentKind, by: FirstIdentity) -> EnrollmentDecision {
    EnrollmentDecision {
        kind: match kind {
            EnrollmentKind::First if device.enrolled => EnrollmentKind::Again,
            kind => kind,
        },
        by,
        manufacturer: device.manufacturer.clone(),
        product: device.product.clone(),
        groups: device.groups.to_vec(),
        serial: device.serial,
        device: device.device,
    }
}
