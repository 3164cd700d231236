//! Evidence: what a device is asked, and what its answer is held against.
//!
//! It comes in two forms: a TPM's quote, by the key that the chip was shown to hold, and a token
//! (RFC 9711), by the key of the device's certificate.

use crate::plane::Plane;
use crate::trouble::Trouble;
use identity::eat::{DebugStatus, EatRefusal, ReferenceClaims, Token, TokenReference};
use identity::tpm::{
    AttestationKey, AttestationResult, Quote, ReferenceValue, Statement, TpmRefusal,
};
use identity::{AttestationStatus, Authenticated, Refusal};
use model::{Assurance, DeviceId, Digest, Principal, Timestamp};
use store::Receipt;

/// A device whose chip is known, and what its product's devices must attest.
pub struct Asked {
    device: DeviceId,
    attestation_key: AttestationKey,
    policy: access::Attestation,
}

/// What a device shows of what it started.
pub enum Evidence {
    /// TPMS_ATTEST and TPMT_SIGNATURE.
    Quote {
        statement: Vec<u8>,
        signature: Vec<u8>,
    },
    /// COSE_Sign1.
    Token(Vec<u8>),
}

/// What becomes of evidence, before it is on record and in force.
///
/// # Errors
/// It is no evidence of this device over a nonce of ours; the fleet declares no reference values.
pub fn appraise(
    plane: &Plane,
    who: &Authenticated,
    evidence: &Evidence,
    now: Timestamp,
) -> Result<store::AttestationResult, Trouble> {
    match evidence {
        Evidence::Quote {
            statement,
            signature,
        } => {
            let asked = asked(plane, who)?;
            let quote = asked.quote(plane, statement, signature, now)?;
            let result = quote.appraise(&asked.references()).map_err(Refusal::from)?;
            Ok(row(&asked.device, &asked.policy, result, None, now))
        }
        Evidence::Token(token) => {
            let asked = token_asked(plane, who)?;
            let result = asked.appraise(plane, token, now)?;
            let by_key = Some(who.key());
            Ok(row(&asked.device, &asked.policy, result, by_key, now))
        }
    }
}

fn row(
    device: &DeviceId,
    policy: &access::Attestation,
    result: AttestationResult,
    by_key: Option<Digest>,
    now: Timestamp,
) -> store::AttestationResult {
    store::AttestationResult {
        device: device.clone(),
        status: match result.status {
            AttestationStatus::Affirming => store::AttestationStatus::Affirming,
            AttestationStatus::Contraindicated => store::AttestationStatus::Contraindicated,
        },
        why: result.why,
        appraised_at: now,
        ends_at: now.plus(policy.result_lifetime),
        by_key,
    }
}

/// What became of evidence, on record and in force.
pub struct Appraised {
    pub row: store::AttestationResult,
    pub assurance: Assurance,
    pub receipt: Receipt,
}

/// Whom a certificate names that was proven just now, with the key that its chip holds.
///
/// # Errors
/// It is no device, its key lies in no chip that we know of, or the fleet declares no reference
/// values for its product.
pub fn asked(plane: &Plane, who: &Authenticated) -> Result<Asked, Trouble> {
    let Principal::Device(device) = who.principal() else {
        return Err(Refusal::NotADevice.into());
    };
    let held = plane.store.held_key(device)?;
    let held = (held.filter(|held| held.key == who.key()))
        .ok_or_else(|| Refusal::from(TpmRefusal::NoHeldKey))?;
    Ok(Asked {
        device: device.clone(),
        attestation_key: AttestationKey::read(&held.attestation_key).map_err(Refusal::from)?,
        policy: policy_of(plane, device, |policy| !policy.reference_values.is_empty())?,
    })
}

fn policy_of(
    plane: &Plane,
    device: &DeviceId,
    is_asked: impl Fn(&access::Attestation) -> bool,
) -> Result<access::Attestation, Trouble> {
    let product = (plane.trust().registry().device(device)).map(|known| known.product.clone());
    let fleet = plane.admission.fleet.get();
    product
        .zip(fleet.fleet.as_ref())
        .and_then(|(product, fleet)| fleet.product(&product)?.attestation.clone())
        .filter(is_asked)
        .ok_or_else(|| {
            Trouble::refused(
                "attestation-undeclared",
                "the fleet declares no reference values of this kind for this product; operator: \
                 write attestation.reference_values for TPMs, or token_reference_values for tokens, \
                 in products/ and apply",
            )
        })
}

/// A device that attests by tokens.
pub struct TokenAsked {
    device: DeviceId,
    key: Digest,
    /// SubjectPublicKeyInfo of the certificate that was shown.
    public_key: Vec<u8>,
    policy: access::Attestation,
}

/// Whom a certificate names that was proven just now: by its key the token must be signed.
///
/// # Errors
/// It is no device with a certificate of ours, or the fleet declares no reference values for tokens
/// of its product.
pub fn token_asked(plane: &Plane, who: &Authenticated) -> Result<TokenAsked, Trouble> {
    let Principal::Device(device) = who.principal() else {
        return Err(Refusal::NotADevice.into());
    };
    let certificate = who.certificate();
    let row = (plane.store.certificate(&certificate)?)
        .ok_or(Refusal::UnrecordedCertificate { certificate })?;
    let public_key = identity::public_key(&row.certificate.der).map_err(Refusal::from)?;
    Ok(TokenAsked {
        device: device.clone(),
        key: who.key(),
        public_key,
        policy: policy_of(plane, device, |policy| {
            !policy.token_reference_values.is_empty()
        })?,
    })
}

impl TokenAsked {
    /// What the token must hold as `eat_nonce`.
    #[must_use]
    pub fn nonce(&self, plane: &Plane, now: Timestamp) -> Vec<u8> {
        plane
            .chips
            .token_nonce(&self.device, &self.key, now)
            .to_vec()
    }

    fn appraise(
        &self,
        plane: &Plane,
        token: &[u8],
        now: Timestamp,
    ) -> Result<AttestationResult, Trouble> {
        let nonces = Token::nonces(token).map_err(Refusal::from)?;
        let asked = |nonce: &Vec<u8>| {
            (plane.chips)
                .token_nonce_of(&self.device, &self.key, nonce, now)
                .ok()
        };
        let nonce =
            (nonces.iter().find_map(asked)).ok_or_else(|| Refusal::from(EatRefusal::StaleNonce))?;
        let token = Token::read(&self.public_key, &nonce, token).map_err(Refusal::from)?;
        let references: Vec<(&str, ReferenceClaims)> = (self.policy.token_reference_values.iter())
            .map(|reference| (reference.firmware.as_str(), claims_of(reference)))
            .collect();
        let references: Vec<TokenReference<'_>> = (references.iter())
            .map(|(firmware, claims)| TokenReference { firmware, claims })
            .collect();
        Ok(token.appraise(&references))
    }
}

fn claims_of(reference: &access::TokenReferenceValue) -> ReferenceClaims {
    ReferenceClaims {
        oemid: reference.oemid.clone(),
        hwmodel: reference.hwmodel.clone(),
        swname: reference.swname.clone(),
        swversion: reference.swversion.clone(),
        oemboot: reference.oemboot,
        // The fleet was read with these names; what is none asks for the most.
        dbgstat_min: (reference.dbgstat_min.as_deref()).map(|name| {
            DebugStatus::from_name(name).unwrap_or(DebugStatus::DisabledFullyAndPermanently)
        }),
        submods: reference.submods.clone(),
    }
}

impl Asked {
    /// What the quote must be over.
    #[must_use]
    pub fn nonce(&self, plane: &Plane, now: Timestamp) -> Vec<u8> {
        let name = self.attestation_key.public().name();
        plane.chips.nonce(&self.device, &name, now).to_vec()
    }

    /// The registers that it is asked for: of the first reference value, as it is the newest.
    #[must_use]
    pub fn registers(&self) -> Vec<u8> {
        (self.policy.reference_values.first())
            .map(|first| first.registers.keys().copied().collect())
            .unwrap_or_default()
    }

    fn quote(
        &self,
        plane: &Plane,
        statement: &[u8],
        signature: &[u8],
        now: Timestamp,
    ) -> Result<Quote, Trouble> {
        let name = self.attestation_key.public().name();
        let said = Statement::read(statement).map_err(Refusal::from)?;
        let nonce = (plane.chips)
            .nonce_of(&self.device, &name, said.extra(), now)
            .map_err(Refusal::from)?;
        let quote = Quote::read(&self.attestation_key, &nonce, statement, signature);
        Ok(quote.map_err(Refusal::from)?)
    }

    fn references(&self) -> Vec<ReferenceValue<'_>> {
        (self.policy.reference_values.iter())
            .map(|reference| ReferenceValue {
                firmware: &reference.firmware,
                registers: &reference.registers,
            })
            .collect()
    }
}
