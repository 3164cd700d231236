//! Claim certificates: on which terms they are believed, and for whom one may be issued by them.

use super::{
    EnrollmentDecision, EnrollmentKind, FactConflict, FirstIdentity, Registry, Revocation, decision,
};
use crate::certificate::sha256;
use crate::claim_certificate::{ClaimRefusal, ClaimTerms, Claiming};
use crate::csr::CertificateRequest;
use crate::path::{Claim, Path, Presented, check_time};
use crate::refusal::{PathRefusal, Refusal};
use core::net::IpAddr;
use model::{
    CertificateId, ClaimCertificateId, Digest, Principal, Revocable, SerialNumber, Timestamp,
};
use std::collections::{HashMap, HashSet};

/// Few: one a batch.
#[derive(Default)]
pub(super) struct Claims {
    terms: HashMap<Digest, ClaimTerms>,
    /// Certificates on hold until their owner says that it is the owner. A hold of a person's is
    /// another thing.
    reserved: HashSet<CertificateId>,
}

impl Claims {
    pub(super) fn retire(&mut self, claim: &ClaimCertificateId, at: Timestamp) {
        let found = self.terms.values_mut().find(|terms| terms.claim == *claim);
        if let Some(terms) = found {
            terms.retired_at.get_or_insert(at);
        }
    }

    pub(super) fn reserve(&mut self, certificate: CertificateId) {
        self.reserved.insert(certificate);
    }

    /// It is good from here on, or will never be.
    pub(super) fn settle(&mut self, what: &Revocable) {
        if let Revocable::Certificate(certificate) = what {
            self.reserved.remove(certificate);
        }
    }
}

impl Registry {
    /// The path of a claim certificate, which no anchor is asked about. `None`: it is none.
    #[must_use]
    pub fn claim_path(
        &self,
        end_entity: &[u8],
        now: Timestamp,
    ) -> Option<Result<Path, PathRefusal>> {
        if self.claims.terms.is_empty() {
            return None;
        }
        let fingerprint = sha256(end_entity);
        self.claims
            .terms
            .contains_key(&fingerprint)
            .then(|| Path::of_claim(end_entity, fingerprint, now))
    }

    /// May the holder of a claim certificate ask by it, now and from there?
    ///
    /// # Errors
    /// [`Refusal`]: it is no claim certificate, out of its time, revoked, retired, or somewhere else.
    pub fn claiming(
        &self,
        presented: &Presented,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<Claiming, Refusal> {
        check_time(presented.not_before, presented.not_after, now)?;
        let Claim::Shared { fingerprint } = &presented.claim else {
            return Err(Refusal::NotAnIdevid);
        };
        let what = Revocable::Certificate(presented.certificate);
        if let Some(Revocation { reason, at }) = self.revocation(&what) {
            return Err(Refusal::Revoked { what, reason, at });
        }
        let terms = (self.claims.terms.get(fingerprint)).ok_or(PathRefusal::UnknownIssuer)?;
        terms.check(address, now)?;
        Ok(Claiming {
            terms: terms.clone(),
            certificate: presented.certificate,
        })
    }

    /// For whom a certificate may be made by a claim certificate: a device of its manufacturer and
    /// product that has none of its own yet. What a shared key proves never takes the place of what a
    /// device has proven itself.
    ///
    /// # Errors
    /// [`Refusal`]; [`Refusal::UnlistedSerial`] of one that may wait for a person.
    pub fn enroll_by_claim(
        &self,
        claiming: &Claiming,
        serial: &SerialNumber,
        request: &CertificateRequest,
        now: Timestamp,
    ) -> Result<EnrollmentDecision, Refusal> {
        let device = self.claimed_device(claiming, serial, now)?;
        self.check_key(
            &request.key_digest(),
            &Principal::Device(device.device.clone()),
        )?;
        Ok(device)
    }

    /// The same once the certificate is made, when it is to be good.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn claimed_device(
        &self,
        claiming: &Claiming,
        serial: &SerialNumber,
        now: Timestamp,
    ) -> Result<EnrollmentDecision, Refusal> {
        let terms = &claiming.terms;
        let device = (self.device_by_serial(&terms.manufacturer, serial)).ok_or_else(|| {
            Refusal::UnlistedSerial {
                manufacturer: terms.manufacturer.clone(),
                serial: serial.clone(),
            }
        })?;
        if *device.product != terms.product {
            return Err(ClaimRefusal::OtherProduct {
                claim: terms.claim.clone(),
                product: device.product.clone(),
                wanted: terms.product.clone(),
                device: device.device,
            }
            .into());
        }
        let principal = Principal::Device(device.device.clone());
        self.check_principal(&principal)?;
        // One that a person put on hold is one all the same: a shared key is no way around it.
        let is_its_own = |id: &CertificateId| match self.certificate_revocation(id) {
            None => true,
            Some(why) => why.reason.is_hold() && !self.claims.reserved.contains(id),
        };
        let has_one = (self.certificates_of(&principal).iter())
            .any(|(id, end)| *end >= now && is_its_own(id));
        if has_one || self.held_key(&device.device).is_some() {
            return Err(ClaimRefusal::HasCertificate {
                device: device.device,
            }
            .into());
        }
        Ok(decision(
            device,
            EnrollmentKind::First,
            FirstIdentity::ClaimCertificate,
        ))
    }

    /// Whether a certificate with this fingerprint is believed as a claim certificate.
    #[must_use]
    pub fn is_claim(&self, fingerprint: &Digest) -> bool {
        self.claims.terms.contains_key(fingerprint)
    }

    pub(super) fn add_claim(
        &mut self,
        fingerprint: Digest,
        terms: &ClaimTerms,
    ) -> Result<(), FactConflict> {
        let other = (self.claims.terms.iter())
            .any(|(known, known_terms)| *known != fingerprint && known_terms.claim == terms.claim);
        let is_else = self.pinned_to(&fingerprint).is_some() || self.is_shared(&fingerprint);
        if other || is_else {
            return Err(FactConflict::ClaimTaken { fingerprint });
        }
        let retired_at = (self.claims.terms.get(&fingerprint)).and_then(|known| known.retired_at);
        let mut terms = terms.clone();
        terms.retired_at = retired_at.or(terms.retired_at);
        self.claims.terms.insert(fingerprint, terms);
        Ok(())
    }
}
