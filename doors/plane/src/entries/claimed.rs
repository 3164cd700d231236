//! What the log says of claim certificates, and of chips that are no longer listed.

use super::{Act, Actor};
use crate::plane::digest;
use model::{ClaimCertificateId, DeviceId, Digest, Timestamp};

pub(super) const RETIRED: &str = "identity.claim-certificate-retired";

pub(super) const TPM_UNLISTED: &str = "identity.tpm-unlisted";

#[must_use]
pub fn tpm_unlisted(at: Timestamp, actor: &Actor, endorsement: Digest, device: &DeviceId) -> Act {
    let object = format_args!("endorsement-key/{endorsement}");
    Act::new(at, actor, TPM_UNLISTED, object).with("device", device)
}

#[must_use]
pub fn claim_certificate_added(at: Timestamp, actor: &Actor, row: &store::ClaimCertificate) -> Act {
    let object = format_args!("claim-certificate/{}", row.claim);
    Act::new(at, actor, "identity.claim-certificate-added", object)
        .with("certificate_sha256", digest(&row.certificate))
        .with("manufacturer", &row.manufacturer)
        .with("product", &row.product)
        .with("devices_max", row.devices_max)
        .with("addresses", &row.addresses)
        .with("expires_at", row.expires_at)
}

#[must_use]
pub fn claim_certificate_retired(
    at: Timestamp,
    actor: &Actor,
    claim: &ClaimCertificateId,
    sessions_closed: u32,
) -> Act {
    let object = format_args!("claim-certificate/{claim}");
    Act::new(at, actor, RETIRED, object).with("sessions_closed", sessions_closed)
}

/// A certificate was made by a claim certificate, and is on hold until its owner has said so.
#[must_use]
pub fn certificate_reserved(at: Timestamp, row: &store::Reservation) -> Act {
    let actor = format_args!("claim-certificate/{}", row.claim);
    let object = format_args!("device/{}", row.device);
    Act::new(at, actor, "identity.certificate-reserved", object)
        .with("certificate", row.certificate)
        .with("expires_at", row.expires_at)
}
