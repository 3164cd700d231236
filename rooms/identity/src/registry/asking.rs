//! Devices that may ask for a certificate and do nothing else: genuine ones on no list, and ours
//! whose certificate ended a short while ago.

use super::{EnrollmentDecision, EnrollmentKind, FirstIdentity, Registry, Revocation, decision};
use crate::claim_certificate::ClaimRefusal;
use crate::csr::CertificateRequest;
use crate::path::{Claim, Presented, check_time};
use crate::refusal::{PathRefusal, Refusal};
use model::{ManufacturerId, Principal, Revocable, SerialNumber, Timestamp};
use std::time::Duration;

impl Registry {
    /// By whose word, and as which serial number, a device is genuine that is on no list.
    ///
    /// # Errors
    /// [`Refusal`]: no factory identity, out of its time, revoked. One that is listed meanwhile is
    /// named all the same: what it may do is [`Registry::enroll`]'s affair.
    pub fn genuine<'p>(
        &self,
        presented: &'p Presented,
        now: Timestamp,
    ) -> Result<(&'p ManufacturerId, &'p SerialNumber), Refusal> {
        check_time(presented.not_before, presented.not_after, now)?;
        for what in [
            Revocable::Issuer(presented.certificate.issuer()),
            Revocable::Certificate(presented.certificate),
        ] {
            if let Some(Revocation { reason, at }) = self.revocation(&what) {
                return Err(Refusal::Revoked { what, reason, at });
            }
        }
        match &presented.claim {
            Claim::Idevid {
                manufacturer,
                serial,
            } => Ok((manufacturer, serial)),
            Claim::Ldevid { .. } => Err(Refusal::NotAnIdevid),
            Claim::Shared { .. } => Err(ClaimRefusal::NothingElse.into()),
            // What an existing fleet has is on its list, or is not its.
            Claim::Imported { fleet, .. } => Err(Refusal::ImportedUnlisted {
                fleet: fleet.clone(),
            }),
        }
    }

    /// May a device whose certificate of ours ended have another by it, `grace` after the end at
    /// the latest? It is asked for at a place of its own and opens no other door.
    ///
    /// # Errors
    /// [`Refusal`]: as [`Registry::enroll`], and [`PathRefusal::Expired`] once the grace is over.
    pub fn enroll_returning(
        &self,
        presented: &Presented,
        request: &CertificateRequest,
        now: Timestamp,
        grace: Duration,
    ) -> Result<EnrollmentDecision, Refusal> {
        self.returning(presented, now, grace)?;
        let Claim::Ldevid {
            principal: Principal::Device(id),
            uri,
        } = &presented.claim
        else {
            return Err(Refusal::NotAnLdevid);
        };
        if !request.keeps_name(&presented.subject, uri) {
            return Err(Refusal::NameChanged { uri: uri.clone() });
        }
        self.check_key(&request.key_digest(), &Principal::Device(id.clone()))?;
        let device = self.device(id).ok_or(Refusal::UnrecordedCertificate {
            certificate: presented.certificate,
        })?;
        Ok(decision(
            device,
            EnrollmentKind::Returning,
            FirstIdentity::Ldevid,
        ))
    }

    /// Is this a device of ours, barred by nothing, whose certificate ended no longer ago than
    /// `grace`?
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn returning(
        &self,
        presented: &Presented,
        now: Timestamp,
        grace: Duration,
    ) -> Result<(), Refusal> {
        let ended = PathRefusal::Expired {
            not_after: presented.not_after,
            now,
        };
        let Claim::Ldevid {
            principal: principal @ Principal::Device(_),
            ..
        } = &presented.claim
        else {
            return Err(ended.into());
        };
        // Never a certificate that begins later; and the end moves by the grace, no further.
        if check_time(presented.not_before, presented.not_after.plus(grace), now).is_err() {
            return Err(ended.into());
        }
        self.check_bars(principal, presented.certificate)?;
        if self.owner(&presented.certificate).as_ref() != Some(principal) {
            return Err(Refusal::UnrecordedCertificate {
                certificate: presented.certificate,
            });
        }
        Ok(())
    }
}
