//! What can become true of devices and certificates.

use super::KeyHolder;
use super::tpm::AttestationStatus;
use crate::claim_certificate::ClaimTerms;
use model::{
    AttributeId, AttributeValue, CertificateId, ClaimCertificateId, Containment, DeviceId, Digest,
    GroupId, ManufacturerId, Principal, ProductId, Revocable, RevocationReason, SerialNumber,
    Timestamp,
};

/// One thing that became true. The same facts are stored and replayed, in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A serial number is on the list. Said again for the same device and serial number it moves
    /// the device to another product or other groups.
    DeviceExpected {
        manufacturer: ManufacturerId,
        serial: SerialNumber,
        device: DeviceId,
        product: ProductId,
        groups: Vec<GroupId>,
    },
    /// What else an import says of a device. All of it: what was said before is forgotten.
    DeviceDescribed {
        device: DeviceId,
        attributes: Vec<(AttributeId, AttributeValue)>,
    },
    /// The certificates of an existing fleet are believed. Said again it moves the end.
    FleetImported {
        fleet: ManufacturerId,
        /// Until then they open the MQTT door.
        until: Timestamp,
        /// Leaves that ended are taken as well.
        accept_expired: bool,
    },
    /// They open no door any more.
    FleetRetired {
        fleet: ManufacturerId,
        at: Timestamp,
    },
    /// A leaf of an imported fleet is believed for its fingerprint, SHA-256 of the whole
    /// certificate. `shared`: it may be another device's as well, and was imported as such.
    LeafPinned {
        fingerprint: Digest,
        device: DeviceId,
        shared: bool,
    },
    /// A claim certificate is believed, on these terms; SHA-256 of the whole certificate. Said again
    /// it moves them; what was retired stays so.
    ClaimCertificateAdded {
        fingerprint: Digest,
        terms: Box<ClaimTerms>,
    },
    /// It opens nothing any more.
    ClaimCertificateRetired {
        claim: ClaimCertificateId,
        at: Timestamp,
    },
    /// A certificate was made by a claim certificate and is on hold until its owner has shown the
    /// ownership token: it is not its device's yet. A release or a revocation ends that.
    CertificateReserved { certificate: CertificateId },
    /// A TPM is on the list: its endorsement key (SHA-256 of the SubjectPublicKeyInfo) is in the
    /// device of this serial number, which must be expected.
    EndorsementListed {
        endorsement: Digest,
        manufacturer: ManufacturerId,
        serial: SerialNumber,
    },
    /// It is on the list no longer.
    EndorsementUnlisted { endorsement: Digest },
    /// A chip was shown to hold the key of a device's certificates; `None`: not any more.
    KeyHeld {
        device: DeviceId,
        key: Option<Digest>,
    },
    /// A device's evidence was appraised. One that affirms counts until `ends_at`, the other one
    /// until a better comes.
    Appraised {
        device: DeviceId,
        status: AttestationStatus,
        ends_at: Timestamp,
        /// The certificate's key that signed a token (SHA-256 of its SubjectPublicKeyInfo); `None`:
        /// a chip's quote.
        by_key: Option<Digest>,
    },
    /// A certificate of ours was issued to a device or a service.
    CertificateIssued {
        principal: Principal,
        certificate: CertificateId,
        /// SHA-256 of its SubjectPublicKeyInfo.
        key: Digest,
        not_after: Timestamp,
    },
    /// A certificate of ours for our own doors.
    ServerCertified {
        certificate: CertificateId,
        key: Digest,
        not_after: Timestamp,
    },
    /// A device got its first certificate of ours by the word of another one, whose key
    /// (SubjectPublicKeyInfo, SHA-256) is this.
    KeyShown { device: DeviceId, key: Digest },
    /// A newer certificate of the same device opened a door at this time: this one is on its way
    /// out. It still opens doors until it is revoked.
    CertificateSuperseded {
        certificate: CertificateId,
        by: CertificateId,
        at: Timestamp,
    },
    /// It opens no door any more. May be said of what is not (yet) known, and bars it when it
    /// comes. The first one stands, but for a hold, which a revocation follows.
    Revoked {
        what: Revocable,
        reason: RevocationReason,
        at: Timestamp,
    },
    /// A hold was lifted. Takes back no revocation.
    Released { what: Revocable },
    /// A device is cut off, or cut off otherwise than before: the last word counts. May be said of
    /// one not (yet) known, and holds when it comes.
    DeviceContained {
        device: DeviceId,
        containment: Containment,
        at: Timestamp,
    },
    /// A device is cut off no longer. Takes back no revocation.
    DeviceRestored { device: DeviceId },
}

/// A fact that contradicts an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactConflict {
    #[error(
        "device {device} is already expected as serial number {serial} of {manufacturer}; \
         operator: give the new one another name"
    )]
    NameTaken {
        device: DeviceId,
        manufacturer: ManufacturerId,
        serial: SerialNumber,
    },
    #[error(
        "serial number {serial} of {manufacturer} is already expected under another device name; \
         operator: keep that name, a serial number never changes it"
    )]
    SerialTaken {
        manufacturer: ManufacturerId,
        serial: SerialNumber,
    },
    #[error(
        "the certificate with SHA-256 {fingerprint} is pinned to {owner} already; operator: if \
         devices share it, import it as shared"
    )]
    FingerprintTaken {
        fingerprint: Digest,
        owner: DeviceId,
    },
    #[error(
        "the certificate with SHA-256 {fingerprint} is believed as something else already; \
         operator: make another one as the claim certificate"
    )]
    ClaimTaken { fingerprint: Digest },
    #[error("{fleet} is no imported fleet; operator: import its terms first")]
    NotImported { fleet: ManufacturerId },
    #[error(
        "endorsement key {endorsement} is already listed for {device}; operator: correct the list"
    )]
    EndorsementTaken {
        endorsement: Digest,
        device: DeviceId,
    },
    #[error(
        "serial number {serial} of {manufacturer} is not expected; operator: list the device first"
    )]
    UnknownSerial {
        manufacturer: ManufacturerId,
        serial: SerialNumber,
    },
    #[error("certificate {certificate} is already recorded as {owner}'s; report this to us")]
    CertificateTaken {
        certificate: CertificateId,
        owner: KeyHolder,
    },
    #[error(
        "product {product} is revoked or on hold, so its device {device} cannot become one of \
         another; operator: release the hold first, or leave it there"
    )]
    ProductBarred {
        device: DeviceId,
        product: ProductId,
    },
    #[error("a certificate was issued to {device}, which nobody expected; report this to us")]
    UnknownDevice { device: DeviceId },
    #[error(
        "the registry is full (4 GiB of names, 4 billion records, 65,535 manufacturers or \
         products); operator: run a second plane"
    )]
    Full,
}
