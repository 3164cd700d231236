//! Evidence: what a device is asked, and what its answer is held against.

use crate::plane::Plane;
use crate::trouble::Trouble;
use identity::tpm::{
    AttestationKey, AttestationResult, Quote, ReferenceValue, Statement, TpmRefusal,
};
use identity::{AttestationStatus, Authenticated, Refusal};
use model::{Assurance, DeviceId, Principal, Timestamp};
use store::Receipt;

/// A device whose chip is known, and what its product's devices must attest.
pub struct Asked {
    pub device: DeviceId,
    attestation_key: AttestationKey,
    policy: access::Attestation,
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
    let product = (plane.trust().registry().device(device)).map(|known| known.product.clone());
    let fleet = plane.admission.fleet.get();
    let policy = product
        .zip(fleet.fleet.as_ref())
        .and_then(|(product, fleet)| fleet.product(&product)?.attestation.clone())
        .ok_or_else(|| {
            Trouble::refused(
                "attestation-undeclared",
                "the fleet declares no reference values for this product; operator: write \
                 attestation.reference_values for it in products/ and apply",
            )
        })?;
    Ok(Asked {
        device: device.clone(),
        attestation_key: AttestationKey::read(&held.attestation_key).map_err(Refusal::from)?,
        policy,
    })
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

    /// # Errors
    /// It is no quote of this chip over a nonce of ours.
    pub fn quote(
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

    #[must_use]
    pub fn references(&self) -> Vec<ReferenceValue<'_>> {
        (self.policy.reference_values.iter())
            .map(|reference| ReferenceValue {
                firmware: &reference.firmware,
                registers: &reference.registers,
            })
            .collect()
    }

    #[must_use]
    pub fn row(&self, result: &AttestationResult, now: Timestamp) -> store::AttestationResult {
        store::AttestationResult {
            device: self.device.clone(),
            status: match result.status {
                AttestationStatus::Affirming => store::AttestationStatus::Affirming,
                AttestationStatus::Contraindicated => store::AttestationStatus::Contraindicated,
            },
            why: result.why.clone(),
            appraised_at: now,
            ends_at: now.plus(self.policy.result_lifetime),
        }
    }
}
