//! Every way to be refused, with a name for machines and a sentence for whoever must act.

use crate::registry::KeyHolder;
use crate::weak_key::KeyFlaw;
use model::{
    CertificateId, DeviceId, ManufacturerId, Principal, ProductId, Revocable, RevocationReason,
    SerialNumber, Timestamp,
};

/// Who can make the next attempt succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The device's firmware or its clock.
    Device,
    /// Whoever runs this plane: a list, a registered CA, a decision.
    Operator,
    /// Whoever made the device and its factory certificate.
    Manufacturer,
    /// Fleetward itself; a report is wanted.
    Us,
}

impl Actor {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Operator => "operator",
            Self::Manufacturer => "manufacturer",
            Self::Us => "fleetward",
        }
    }
}

/// Why a chain of certificates is not believed. Said before possession of the key is proven, so
/// nothing here may be taken as a fact about the named device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathRefusal {
    #[error(
        "no CA that this door trusts issued the certificate; operator: register the \
         manufacturer's CA, or give the device a certificate of ours"
    )]
    UnknownIssuer,
    #[error(
        "a factory identity opens enrollment and nothing else; device: enroll at the EST door \
         and connect with the certificate it hands out"
    )]
    FactoryIdentity,
    #[error(
        "the certificate chain ended at {not_after} and it is {now}; device: enroll again with \
         its factory identity"
    )]
    Expired {
        not_after: Timestamp,
        now: Timestamp,
    },
    #[error(
        "the certificate chain begins at {not_before} and it is {now}; operator: check the clock \
         of this machine, then the clock of whoever issued the certificate"
    )]
    NotYetValid {
        not_before: Timestamp,
        now: Timestamp,
    },
    #[error(
        "the certificate is not for authenticating a client (extended key usage, key usage or CA \
         flag); device: present its client certificate"
    )]
    WrongPurpose,
    #[error(
        "a signature in the certificate chain does not hold; device: present the certificate \
         exactly as it was issued"
    )]
    BadSignature,
    #[error(
        "the certificate chain uses an algorithm that is not permitted; manufacturer: use ECDSA \
         P-256 or P-384, Ed25519, or RSA of 2048 bits or more with SHA-256 or better"
    )]
    Algorithm,
    #[error(
        "a constraint in a CA certificate of the chain (path length, name constraint) forbids it; \
         manufacturer: issue within the constraints of that CA"
    )]
    Constraint,
    #[error("the certificate chain cannot be read ({what}); device: send valid DER X.509 v3")]
    Malformed { what: &'static str },
    #[error(
        "the certificate chain is too large ({what}); device: send its certificate and at most \
         4 intermediate ones, each of at most 8192 bytes"
    )]
    TooLarge { what: &'static str },
}

impl PathRefusal {
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownIssuer => "unknown-issuer",
            Self::FactoryIdentity => "idevid-at-gateway",
            Self::Expired { .. } => "certificate-expired",
            Self::NotYetValid { .. } => "certificate-not-yet-valid",
            Self::WrongPurpose => "certificate-wrong-purpose",
            Self::BadSignature => "certificate-bad-signature",
            Self::Algorithm => "certificate-algorithm",
            Self::Constraint => "certificate-constraint",
            Self::Malformed { .. } => "certificate-malformed",
            Self::TooLarge { .. } => "certificate-chain-too-large",
        }
    }

    #[must_use]
    pub const fn who_must_act(&self) -> Actor {
        match self {
            Self::UnknownIssuer | Self::NotYetValid { .. } => Actor::Operator,
            Self::FactoryIdentity
            | Self::Expired { .. }
            | Self::WrongPurpose
            | Self::BadSignature
            | Self::Malformed { .. }
            | Self::TooLarge { .. } => Actor::Device,
            Self::Algorithm | Self::Constraint => Actor::Manufacturer,
        }
    }
}

/// Why a peer is not who it would be, or may not have what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    #[error(transparent)]
    Path(#[from] PathRefusal),
    #[error(transparent)]
    Tpm(#[from] crate::tpm::TpmRefusal),
    #[error(transparent)]
    Eat(#[from] crate::eat::EatRefusal),
    #[error(transparent)]
    Claim(#[from] crate::claim_certificate::ClaimRefusal),

    // Who is it?
    #[error(
        "the certificate names nobody of this tenant: it must hold exactly one name, a URI \
         spiffe://<trust domain>/<tenant>/device/<id> or /service/<id>; operator: find out who \
         signed it, as this plane does not"
    )]
    NamesNobody,
    #[error(
        "the factory certificate of {manufacturer} holds no single readable serialNumber in its \
         subject; manufacturer: issue IDevIDs as IEEE 802.1AR says"
    )]
    NoSerialNumber { manufacturer: ManufacturerId },
    #[error(
        "a certificate under the CA of {manufacturer} claims to be issued by a CA of ours; \
         operator: remove that manufacturer's CA and ask it why"
    )]
    ForgedIssuer { manufacturer: ManufacturerId },
    #[error(
        "a factory identity opens enrollment and nothing else; device: enroll at the EST door \
         and connect with the certificate it hands out"
    )]
    IdevidAtGateway,

    // May it be used?
    #[error("{}", revoked(what, *reason, *at))]
    Revoked {
        what: Revocable,
        reason: RevocationReason,
        at: Timestamp,
    },
    #[error(
        "device/{device} was isolated at {at} and is admitted at no door; operator: look into it, \
         then restore it"
    )]
    DeviceIsolated { device: DeviceId, at: Timestamp },
    #[error(
        "serial number {serial} of {manufacturer} is not on the list of expected devices; \
         operator: import it if it is yours"
    )]
    UnlistedSerial {
        manufacturer: ManufacturerId,
        serial: SerialNumber,
    },
    #[error(
        "certificate {certificate} carries our signature but is not in our records: an older copy \
         of the data was restored, or a CA key was used elsewhere; operator: find out which; \
         device: enroll again with its factory identity"
    )]
    UnrecordedCertificate { certificate: CertificateId },

    #[error(
        "the certificate of {fleet} holds no name by that import's rule, and is not pinned; \
         operator: correct the rule, or pin it by its fingerprint"
    )]
    ImportedUnnamed { fleet: ManufacturerId },
    #[error(
        "the device is not on the list of {fleet}; operator: add it to the import if it is yours"
    )]
    ImportedUnlisted { fleet: ManufacturerId },
    #[error(
        "certificates of {fleet} opened the MQTT door until {until}; device: enroll with it at the \
         EST door and connect with the certificate it hands out"
    )]
    ImportEnded {
        fleet: ManufacturerId,
        until: Timestamp,
    },
    #[error(
        "{fleet} was retired at {at}: its certificates open no door any more; operator: give the \
         device a claim token"
    )]
    ImportRetired {
        fleet: ManufacturerId,
        at: Timestamp,
    },
    #[error(
        "many devices share the certificate that was shown, so it opens the MQTT door alone; \
         operator: give each device a claim token to enroll with"
    )]
    SharedCertificate,
    #[error(
        "the client identifier is not on the list of the shared certificate; operator: add the \
         device to the import if it is yours"
    )]
    SharedUnlisted { client_id: String },
    #[error(
        "device/{device} has a certificate of its own, so the shared one speaks for it no longer; \
         device: connect with its own certificate; operator: if it does, somebody else holds the \
         shared key"
    )]
    SharedReplaced { device: DeviceId },

    // A claim token instead of a certificate.
    #[error(
        "no token for this serial number is as given; operator: make a new one and bring it to the \
         device"
    )]
    TokenUnknown,
    #[error("the claim token ended at {expires_at}; operator: make a new one")]
    TokenExpired { expires_at: Timestamp },
    #[error(
        "the claim token was used by another key; operator: if the device lost its key make a new \
         token, else find out who used it"
    )]
    TokenUsed,
    #[error("too many attempts with claim tokens; device: try again in a minute")]
    TokenThrottled,

    // May it have another?
    #[error(
        "simpleenroll takes a factory identity; device: renew with simplereenroll when it holds \
         a certificate of ours"
    )]
    NotAnIdevid,
    #[error(
        "simplereenroll takes the certificate to be renewed; device: enroll with simpleenroll \
         when it presents its factory identity"
    )]
    NotAnLdevid,
    #[error(
        "the key in the request is the key of {holder} already, and a key lives in one device \
         only; device: make a new key; operator: find out which of the two was copied"
    )]
    KeyOfAnother { holder: KeyHolder },
    #[error(
        "device/{holder} came with a factory key of its own that is this one's too, and a key lives \
         in one device only; manufacturer: make a key in each device; operator: give this one a \
         claim token and look at both"
    )]
    FactoryKeyOfAnother { holder: DeviceId },
    #[error(
        "the private half of the key is publicly known ({}); device: make a new key from good \
         randomness; operator: find out how it came by that one",
        flaw.name()
    )]
    KnownKey { flaw: KeyFlaw },
    #[error("a service does not enroll over EST; operator: issue its certificate with the CLI")]
    NotADevice,
    #[error(
        "the request's subject and subjectAltName must equal those of the certificate presented \
         (RFC 7030 section 4.2.2); device: ask for one URI, {uri}, and the unchanged subject"
    )]
    NameChanged { uri: String },
    #[error(
        "serial number {serial} of {manufacturer} was refused by a person on {at}; operator: \
         approve it with `fleetward identity pending approve` if that was a mistake"
    )]
    EnrollmentRefused {
        manufacturer: ManufacturerId,
        serial: SerialNumber,
        at: Timestamp,
    },
    #[error(
        "the path asks for a certificate of product {label}, but {device} is a {product}; device: \
         ask without a label or under its own product's"
    )]
    OtherProduct {
        device: DeviceId,
        product: ProductId,
        label: ProductId,
    },
    #[error(
        "keys are not made here for product {product}; device: make the key itself and use \
         simpleenroll; operator: or set server_keygen = true for that product"
    )]
    KeygenOff { product: ProductId },
    #[error(
        "a key cannot be sent encrypted here, as the request asks; device: make the key itself, \
         or leave out the identifier of a decryption key"
    )]
    KeygenEncrypted,
    #[error(
        "the request is for a key of the kind {found}, but its product takes {wanted} only; \
         device: ask csrattrs and make such a key"
    )]
    KeyUnwanted {
        wanted: &'static str,
        found: &'static str,
    },
}

impl Refusal {
    /// The name of the refusal in logs, metrics and problem+json.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Path(refusal) => refusal.code(),
            Self::Tpm(refusal) => refusal.code(),
            Self::Eat(refusal) => refusal.code(),
            Self::Claim(refusal) => refusal.code(),
            Self::NamesNobody => "certificate-names-nobody",
            Self::NoSerialNumber { .. } => "idevid-without-serial-number",
            Self::ForgedIssuer { .. } => "idevid-forged-issuer",
            Self::IdevidAtGateway => "idevid-at-gateway",
            Self::Revoked { what, reason, .. } => revoked_code(what, *reason),
            Self::KeyOfAnother { .. } => "request-key-of-another",
            Self::FactoryKeyOfAnother { .. } => "idevid-key-of-another",
            Self::KnownKey { .. } => "request-key-known",
            Self::DeviceIsolated { .. } => "device-isolated",
            Self::UnlistedSerial { .. } => "serial-unlisted",
            Self::UnrecordedCertificate { .. } => "certificate-unrecorded",
            Self::ImportedUnnamed { .. } => "imported-unnamed",
            Self::ImportedUnlisted { .. } => "imported-unlisted",
            Self::ImportEnded { .. } => "import-ended",
            Self::ImportRetired { .. } => "import-retired",
            Self::SharedCertificate => "shared-certificate",
            Self::SharedUnlisted { .. } => "shared-client-unlisted",
            Self::SharedReplaced { .. } => "shared-certificate-replaced",
            Self::TokenUnknown => "claim-token-unknown",
            Self::TokenExpired { .. } => "claim-token-expired",
            Self::TokenUsed => "claim-token-used",
            Self::TokenThrottled => "claim-token-throttled",
            Self::NotAnIdevid => "enroll-needs-idevid",
            Self::NotAnLdevid => "reenroll-needs-ldevid",
            Self::NotADevice => "enroll-not-a-device",
            Self::NameChanged { .. } => "reenroll-name-changed",
            Self::EnrollmentRefused { .. } => "enrollment-refused",
            Self::KeyUnwanted { .. } => "request-key-unwanted",
            Self::OtherProduct { .. } => "label-of-another-product",
            Self::KeygenOff { .. } => "server-keygen-off",
            Self::KeygenEncrypted => "server-keygen-encrypted",
        }
    }

    #[must_use]
    pub const fn who_must_act(&self) -> Actor {
        match self {
            Self::Path(refusal) => refusal.who_must_act(),
            Self::Tpm(refusal) => refusal.who_must_act(),
            Self::Eat(refusal) => refusal.who_must_act(),
            Self::Claim(refusal) => refusal.who_must_act(),
            Self::NoSerialNumber { .. } | Self::FactoryKeyOfAnother { .. } => Actor::Manufacturer,
            Self::NamesNobody
            | Self::ForgedIssuer { .. }
            | Self::DeviceIsolated { .. }
            | Self::UnlistedSerial { .. }
            | Self::UnrecordedCertificate { .. }
            | Self::NotADevice
            | Self::EnrollmentRefused { .. }
            | Self::ImportedUnnamed { .. }
            | Self::ImportedUnlisted { .. }
            | Self::ImportRetired { .. }
            | Self::SharedCertificate
            | Self::SharedUnlisted { .. }
            | Self::TokenUnknown
            | Self::TokenExpired { .. }
            | Self::TokenUsed => Actor::Operator,
            Self::Revoked { what, reason, .. } => match what {
                Revocable::Certificate(_) | Revocable::Issuer(_) if !reason.is_hold() => {
                    Actor::Device
                }
                _ => Actor::Operator,
            },
            Self::IdevidAtGateway
            | Self::KeyOfAnother { .. }
            | Self::KnownKey { .. }
            | Self::ImportEnded { .. }
            | Self::SharedReplaced { .. }
            | Self::TokenThrottled
            | Self::NotAnIdevid
            | Self::NotAnLdevid
            | Self::NameChanged { .. }
            | Self::KeyUnwanted { .. }
            | Self::OtherProduct { .. }
            | Self::KeygenOff { .. }
            | Self::KeygenEncrypted => Actor::Device,
        }
    }
}

const fn revoked_code(what: &Revocable, reason: RevocationReason) -> &'static str {
    let codes = match what {
        Revocable::Certificate(_) => ["certificate-revoked", "certificate-on-hold"],
        Revocable::Principal(Principal::Device(_)) => ["device-revoked", "device-on-hold"],
        Revocable::Principal(Principal::Service(_)) => ["service-revoked", "service-on-hold"],
        Revocable::Product(_) => ["product-revoked", "product-on-hold"],
        Revocable::Issuer(_) => ["issuer-revoked", "issuer-on-hold"],
    };
    let [for_good, on_hold] = codes;
    if reason.is_hold() { on_hold } else { for_good }
}

fn revoked(what: &Revocable, reason: RevocationReason, at: Timestamp) -> String {
    if reason.is_hold() {
        return format!(
            "{what} was put on hold at {at} and opens no door; operator: look into it, then \
             release or revoke it"
        );
    }
    let then = match what {
        Revocable::Certificate(_) => {
            "device: enroll again with its factory identity, unless the device is revoked too"
        }
        Revocable::Issuer(_) => {
            "device: enroll again with its factory identity; operator: if it is a factory's CA, \
             its devices need a first identity of another"
        }
        Revocable::Principal(_) | Revocable::Product(_) => {
            "operator: decide what happens to it, this cannot be undone under the same name"
        }
    };
    format!("{what} was revoked at {at} ({}); {then}", reason.name())
}
