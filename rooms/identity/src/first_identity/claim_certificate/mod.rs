//! A claim certificate: one that a whole batch of devices shares, good for one thing. Its holder
//! asks for a certificate of its own and then shows that it was the one that got it.
//!
//! The protocol is AWS IoT's fleet provisioning over MQTT, so that firmware which speaks it goes on
//! unchanged. A shared key proves little, so what it opens is bounded on every side: to one
//! manufacturer's devices of one product, each once, so many of them, from these addresses, until
//! then.

mod addresses;
mod messages;

pub use addresses::{AddressRange, InvalidRange};
pub use messages::{EnrollmentCall, Form, accepted_certificate, accepted_enrollment, rejected};
pub use messages::{certificate_call, enrollment_call};

use crate::Actor;
use crate::certificate::sha256;
use core::net::IpAddr;
use model::{
    CertificateId, ClaimCertificateId, DeviceId, Digest, ManufacturerId, ProductId, Timestamp,
};

/// Random bytes of an ownership token.
pub const TOKEN_RANDOM_BYTES: usize = 32;
/// Devices that one claim certificate may be for.
pub const DEVICES_MAX: u32 = 100_000;
/// Address ranges of one claim certificate.
pub const RANGES_MAX: usize = 32;

/// On which terms a claim certificate is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimTerms {
    pub claim: ClaimCertificateId,
    /// Whose serial numbers its devices have.
    pub manufacturer: ManufacturerId,
    pub product: ProductId,
    /// The name that firmware asks under.
    pub template: String,
    /// Where its holders may be.
    pub addresses: Vec<AddressRange>,
    pub expires_at: Timestamp,
    pub retired_at: Option<Timestamp>,
}

/// The ticket of somebody who holds a claim certificate's key and may ask by it, now and from where
/// it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claiming {
    pub(crate) terms: ClaimTerms,
    pub(crate) certificate: CertificateId,
}

impl Claiming {
    #[must_use]
    pub fn terms(&self) -> &ClaimTerms {
        &self.terms
    }

    /// The claim certificate itself.
    #[must_use]
    pub fn certificate(&self) -> CertificateId {
        self.certificate
    }
}

impl ClaimTerms {
    /// Do they hold now, for somebody who is there?
    ///
    /// # Errors
    /// [`ClaimRefusal`].
    pub fn check(&self, address: IpAddr, now: Timestamp) -> Result<(), ClaimRefusal> {
        let claim = self.claim.clone();
        if let Some(at) = self.retired_at {
            return Err(ClaimRefusal::Retired { claim, at });
        }
        if now > self.expires_at {
            let at = self.expires_at;
            return Err(ClaimRefusal::Ended { claim, at });
        }
        if !(self.addresses.iter()).any(|range| range.holds(address)) {
            return Err(ClaimRefusal::Elsewhere { claim });
        }
        Ok(())
    }
}

/// The ownership token of random bytes: what AWS calls `certificateOwnershipToken`.
#[must_use]
pub fn ownership_token(random: [u8; TOKEN_RANDOM_BYTES]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random)
}

/// What is kept of an ownership token. Nobody guesses 256 bits, so a plain hash keeps it, and finding
/// it by its hash tells nobody anything.
#[must_use]
pub fn token_hash(token: &str) -> Digest {
    sha256(token.as_bytes())
}

/// Why a claim certificate does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimRefusal {
    #[error(
        "a claim certificate opens nothing but asking for a certificate over MQTT; device: connect \
         with the certificate it got"
    )]
    NothingElse,
    #[error(
        "a CA that is believed here issued the certificate, so it may name a device, or is refused \
         by that CA's rules; operator: make a claim certificate that is signed by itself"
    )]
    NamesADevice,
    #[error(
        "claim certificate {claim} was retired at {at}; operator: add another one, or give the \
         device a claim token"
    )]
    Retired {
        claim: ClaimCertificateId,
        at: Timestamp,
    },
    #[error(
        "claim certificate {claim} ended at {at}; operator: add another one, or give the device a \
         claim token"
    )]
    Ended {
        claim: ClaimCertificateId,
        at: Timestamp,
    },
    #[error(
        "claim certificate {claim} was shown from an address outside of its ranges; operator: if \
         devices are set up there, add a claim certificate for that place; else somebody has its key"
    )]
    Elsewhere { claim: ClaimCertificateId },
    #[error(
        "claim certificate {claim} has been used for as many devices as it is for; operator: if \
         there are more, add another one; else find out who used it"
    )]
    UsedUp { claim: ClaimCertificateId },
    #[error(
        "the request's subject holds no single serialNumber, nor a common name that is one; device: \
         put its serial number there, as its certificate will name it"
    )]
    NoSerialNumber,
    #[error(
        "device/{device} is a {product}, and claim certificate {claim} is for {wanted}; operator: \
         correct the list, or find out why it carries this claim certificate"
    )]
    OtherProduct {
        claim: ClaimCertificateId,
        device: DeviceId,
        product: ProductId,
        wanted: ProductId,
    },
    #[error(
        "device/{device} has a certificate of its own, which a claim certificate never replaces; \
         device: use that one; operator: if it lost it, revoke that certificate or give the device a \
         claim token, and if it did not, somebody else holds the claim certificate's key"
    )]
    HasCertificate { device: DeviceId },
    #[error(
        "the certificate ownership token is none that was given for this serial number by this \
         claim certificate, or it ended; device: ask for a certificate again"
    )]
    TokenUnknown,
    #[error("the payload cannot be read ({what}); device: send what the topic is for")]
    Payload { what: &'static str },
    #[error(
        "keys are not made here; device: make the key itself and ask on \
         $aws/certificates/create-from-csr"
    )]
    KeyWanted,
}

impl ClaimRefusal {
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NothingElse => "claim-certificate-alone",
            Self::NamesADevice => "claim-certificate-names-device",
            Self::Retired { .. } => "claim-certificate-retired",
            Self::Ended { .. } => "claim-certificate-ended",
            Self::Elsewhere { .. } => "claim-certificate-elsewhere",
            Self::UsedUp { .. } => "claim-certificate-used-up",
            Self::NoSerialNumber => "claim-without-serial-number",
            Self::OtherProduct { .. } => "claim-of-another-product",
            Self::HasCertificate { .. } => "claim-device-has-certificate",
            Self::TokenUnknown => "ownership-token-unknown",
            Self::Payload { .. } => "claim-payload-malformed",
            Self::KeyWanted => "claim-key-wanted",
        }
    }

    #[must_use]
    pub const fn who_must_act(&self) -> Actor {
        match self {
            Self::NamesADevice
            | Self::Retired { .. }
            | Self::Ended { .. }
            | Self::Elsewhere { .. }
            | Self::UsedUp { .. }
            | Self::OtherProduct { .. }
            | Self::HasCertificate { .. } => Actor::Operator,
            Self::NothingElse
            | Self::NoSerialNumber
            | Self::TokenUnknown
            | Self::Payload { .. }
            | Self::KeyWanted => Actor::Device,
        }
    }
}
