//! What can become true of devices and certificates.

use model::{
    CertificateId, Containment, DeviceId, Digest, GroupId, ManufacturerId, Principal, ProductId,
    Revocable, RevocationReason, SerialNumber, Timestamp,
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
    /// A certificate of ours was issued to a device or a service.
    CertificateIssued {
        principal: Principal,
        certificate: CertificateId,
        /// SHA-256 of its SubjectPublicKeyInfo.
        key: Digest,
        not_after: Timestamp,
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
    #[error("certificate {certificate} is already recorded as {owner}'s; report this to us")]
    CertificateTaken {
        certificate: CertificateId,
        owner: Principal,
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
