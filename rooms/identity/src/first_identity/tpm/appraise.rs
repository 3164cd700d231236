//! Evidence against reference values (RFC 9334 section 8): what did the device start?

use super::{AttestationKey, Attested, Statement, TpmRefusal};
use crate::certificate::sha256;
use crate::registry::AttestationStatus;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use model::Digest;
use std::collections::BTreeMap;

/// What the registers hold after a start as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReferenceValue<'a> {
    /// The version of firmware that it is of, for people.
    pub firmware: &'a str,
    /// By number, of the SHA-256 bank.
    pub registers: &'a BTreeMap<u8, Digest>,
}

/// What became of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationResult {
    pub status: AttestationStatus,
    /// In our words: which version it is, or what disagrees.
    pub why: String,
}

/// The ticket of a quote that this chip signed over this nonce. What is in it may be good or bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    registers: Vec<u8>,
    digest: Digest,
}

impl Quote {
    /// # Errors
    /// [`TpmRefusal`]: no quote, another nonce, a bad signature. That is no evidence, good or bad.
    pub fn read(
        attestation_key: &AttestationKey,
        nonce: &[u8],
        statement: &[u8],
        signature: &[u8],
    ) -> Result<Self, TpmRefusal> {
        let said = Statement::read(statement)?;
        if verify_slices_are_equal(said.extra(), nonce).is_err() {
            return Err(TpmRefusal::StaleChallenge);
        }
        let Attested::Quoted { pcrs, digest } = said.attested() else {
            return Err(TpmRefusal::NotAQuote);
        };
        attestation_key.verify(statement, signature)?;
        Ok(Self {
            registers: pcrs.clone(),
            digest: *digest,
        })
    }

    /// A quote agrees with a reference value if it is of the same registers and they digest to the
    /// same (TPM 2.0 part 3, section 18.4: the values one after the other, in rising order).
    ///
    /// # Errors
    /// [`TpmRefusal::OtherRegisters`]: no reference value is of these registers, so it tells
    /// nothing: a device cannot choose what it is asked.
    pub fn appraise(
        &self,
        references: &[ReferenceValue<'_>],
    ) -> Result<AttestationResult, TpmRefusal> {
        let of_these: Vec<&ReferenceValue<'_>> = references
            .iter()
            .filter(|reference| reference.registers.keys().eq(&self.registers))
            .collect();
        if of_these.is_empty() || self.registers.is_empty() {
            return Err(TpmRefusal::OtherRegisters);
        }
        let agrees = |reference: &&&ReferenceValue<'_>| {
            let values: Vec<u8> = (reference.registers.values())
                .flat_map(|value| value.0)
                .collect();
            sha256(&values) == self.digest
        };
        Ok(match of_these.iter().find(agrees) {
            Some(reference) => AttestationResult {
                status: AttestationStatus::Affirming,
                why: format!("its registers are those of firmware {}", reference.firmware),
            },
            None => AttestationResult {
                status: AttestationStatus::Contraindicated,
                why: format!(
                    "its registers {} digest to {}, which is no reference value of its product",
                    self.registers
                        .iter()
                        .map(u8::to_string)
                        .collect::<Vec<_>>()
                        .join(","),
                    self.digest
                ),
            },
        })
    }
}
