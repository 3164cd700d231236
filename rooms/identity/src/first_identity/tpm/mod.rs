//! TPM 2.0: a chip proves that it is the one on the list, and that it alone holds the device's key.
//!
//! What is proven, in the order of the calls:
//!
//! 1. [`EndorsementKey`]: the key that says which chip this is. Its digest is on a list, and where
//!    the vendor's CA is registered its certificate leads there ([`EndorsementRoots`]).
//! 2. [`credential()`]: a secret wrapped so that only that chip gives it back, and only if the
//!    [`AttestationKey`] lies in it (TPM 2.0 part 1, section 24: credential protection).
//! 3. [`prove()`]: the attestation key says, over that secret, that the chip made and holds the key
//!    of the request ([`HardwareKey`]).
//! 4. [`Quote`]: later, and over mutual TLS by that key, the chip says what the device started, and
//!    that is appraised against reference values.
//!
//! Structures are those of TPM 2.0 Library part 2, big-endian, sizes checked before anything is
//! taken. Random bytes are arguments. What needs the provider's own randomness (RSAES-OAEP pads
//! with it) is asked for: [`SeedExchange::Oaep`].

mod appraise;
mod attest;
mod credential;
mod endorsement;
mod list;
mod public;
mod wire;

pub use appraise::{AttestationResult, Quote, ReferenceValue};
pub use attest::{Attested, Signature, Statement};
pub use credential::{CREDENTIAL_BYTES_MAX, OAEP_LABEL, SECRET_BYTES, SeedExchange, credential};
pub use endorsement::EndorsementRoots;
pub use list::parse_list;
pub use public::{AttestationKey, EndorsementKey, KeyName, Public, STRUCTURE_BYTES_MAX};

use crate::csr::CertificateRequest;
use crate::refusal::Actor;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use model::Digest;

/// The ticket that a chip holds the key of a request, and alone holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardwareKey {
    endorsement: Digest,
    attestation_key: Vec<u8>,
    key: Digest,
}

impl HardwareKey {
    /// Which chip, by its endorsement key.
    #[must_use]
    pub fn endorsement(&self) -> Digest {
        self.endorsement
    }

    /// Its attestation key, as a TPM2B_PUBLIC: what later statements are held against.
    #[must_use]
    pub fn attestation_key(&self) -> &[u8] {
        &self.attestation_key
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the key that it holds.
    #[must_use]
    pub fn key(&self) -> Digest {
        self.key
    }
}

/// Does the chip of `endorsement` hold the key that `request` asks a certificate for?
///
/// `statement` and `signature` are what TPM2_Certify or TPM2_CertifyCreation gave with `secret` as
/// qualifying data: whoever has the secret has activated the credential, and whoever signs over it
/// with the attestation key is that chip, now.
///
/// # Errors
/// [`TpmRefusal`]: not this secret, another key, a key that can leave the chip, a bad signature.
pub fn prove(
    endorsement: &EndorsementKey,
    attestation_key: &AttestationKey,
    secret: &[u8; SECRET_BYTES],
    statement: &[u8],
    signature: &[u8],
    key: &Public,
    request: &CertificateRequest,
) -> Result<HardwareKey, TpmRefusal> {
    let said = Statement::read(statement)?;
    if verify_slices_are_equal(said.extra(), secret).is_err() {
        return Err(TpmRefusal::StaleChallenge);
    }
    let (Attested::Certified { name } | Attested::Created { name }) = said.attested() else {
        return Err(TpmRefusal::NotACertification);
    };
    if *name != key.name() || key.key_digest() != request.key_digest() {
        return Err(TpmRefusal::OtherKey);
    }
    key.check_held()?;
    attestation_key.verify(statement, signature)?;
    Ok(HardwareKey {
        endorsement: endorsement.digest(),
        attestation_key: attestation_key.public().to_tpm2b(),
        key: key.key_digest(),
    })
}

/// Why a chip is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TpmRefusal {
    #[error("a TPM structure cannot be read ({what}); device: send it as the TPM gave it")]
    Malformed { what: &'static str },
    #[error(
        "the endorsement key is not of a kind that is taken; device: use the RSA-2048 or the ECC \
         P-256 key of the TCG's EK profile (tpm2_createek -G rsa, or -G ecc)"
    )]
    EndorsementKind,
    #[error(
        "the attestation key is not a restricted signing key that was made in the TPM and cannot \
         leave it; device: make one with tpm2_createak"
    )]
    AttestationKind,
    #[error(
        "endorsement key {endorsement} is on no list of TPMs; operator: list it with the serial \
         number of its device if it is yours"
    )]
    UnlistedEndorsement { endorsement: Digest },
    #[error(
        "TPMs of this manufacturer must show the certificate of their endorsement key; device: \
         send it (tpm2_getekcertificate) with the CAs above it"
    )]
    NoEndorsementCertificate,
    #[error(
        "the endorsement key's certificate is not believed ({what}); operator: register the CA \
         of the TPM's vendor if the chip is genuine"
    )]
    EndorsementCertificate { what: &'static str },
    #[error(
        "the statement answers no challenge of ours, or one that ended; device: ask for a new \
         challenge and answer it within two minutes"
    )]
    StaleChallenge,
    #[error(
        "the statement certifies no key; device: send what TPM2_CertifyCreation or TPM2_Certify \
         gave"
    )]
    NotACertification,
    #[error("the statement is no quote; device: send what TPM2_Quote gave")]
    NotAQuote,
    #[error(
        "the quote is of other registers than the product's reference values; device: quote those \
         that the challenge names"
    )]
    OtherRegisters,
    #[error(
        "no chip was shown to hold the key of this certificate; device: enroll by the TPM first, \
         and attest with that certificate"
    )]
    NoHeldKey,
    #[error(
        "the statement is about another key than the request's; device: certify the key that \
         signed the request"
    )]
    OtherKey,
    #[error(
        "the key can leave the TPM or was not made in it; device: make one with fixedtpm, \
         fixedparent, sensitivedataorigin and sign"
    )]
    KeyCanLeave,
    #[error(
        "the attestation key's signature does not hold; device: sign with RSASSA or ECDSA and \
         SHA-256, with the key that the challenge was for"
    )]
    BadSignature,
}

impl TpmRefusal {
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "tpm-malformed",
            Self::EndorsementKind => "tpm-endorsement-key-kind",
            Self::AttestationKind => "tpm-attestation-key-kind",
            Self::UnlistedEndorsement { .. } => "tpm-unlisted",
            Self::NoEndorsementCertificate => "tpm-certificate-missing",
            Self::EndorsementCertificate { .. } => "tpm-certificate-refused",
            Self::StaleChallenge => "tpm-challenge-stale",
            Self::NotACertification => "tpm-not-a-certification",
            Self::NotAQuote => "tpm-not-a-quote",
            Self::OtherRegisters => "tpm-other-registers",
            Self::NoHeldKey => "tpm-no-held-key",
            Self::OtherKey => "tpm-other-key",
            Self::KeyCanLeave => "tpm-key-can-leave",
            Self::BadSignature => "tpm-bad-signature",
        }
    }

    #[must_use]
    pub const fn who_must_act(&self) -> Actor {
        match self {
            Self::UnlistedEndorsement { .. } | Self::EndorsementCertificate { .. } => {
                Actor::Operator
            }
            Self::Malformed { .. }
            | Self::EndorsementKind
            | Self::AttestationKind
            | Self::NoEndorsementCertificate
            | Self::StaleChallenge
            | Self::NotACertification
            | Self::NotAQuote
            | Self::OtherRegisters
            | Self::NoHeldKey
            | Self::OtherKey
            | Self::KeyCanLeave
            | Self::BadSignature => Actor::Device,
        }
    }
}

const fn malformed(what: &'static str) -> TpmRefusal {
    TpmRefusal::Malformed { what }
}
