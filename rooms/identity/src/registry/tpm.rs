//! Chips: which one is in which device, what they hold, and how far a device is shown to be what
//! it says.

use super::{EnrollmentDecision, EnrollmentKind, FactConflict, FirstIdentity, Registry, decision};
use crate::refusal::Refusal;
use crate::tpm::{EndorsementKey, HardwareKey, TpmRefusal};
use model::{Assurance, DeviceId, Digest, ManufacturerId, Principal, SerialNumber, Timestamp};
use std::collections::{BTreeMap, HashMap};

/// What became of a device's evidence (RFC 9334 section 8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttestationStatus {
    /// It agrees with a reference value.
    Affirming,
    /// It contradicts all of them.
    Contraindicated,
}

/// Only devices with a chip stand here.
#[derive(Default)]
pub(super) struct Chips {
    /// Row numbers of devices.
    listed: HashMap<Digest, u32>,
    /// The key held, and the latest result. Ordered, so that what lapses does so in one order.
    shown: BTreeMap<DeviceId, Shown>,
}

#[derive(Default)]
struct Shown {
    key: Option<Digest>,
    result: Option<(AttestationStatus, Timestamp)>,
    /// The key that signed the token which the result is of.
    token_key: Option<Digest>,
}

impl Chips {
    pub(super) fn unlist(&mut self, endorsement: &Digest) {
        self.listed.remove(endorsement);
    }

    /// A result that affirmed was of the key before; one that did not outlives it.
    pub(super) fn hold(&mut self, device: &DeviceId, key: Option<Digest>) {
        let shown = self.shown.entry(device.clone()).or_default();
        shown.key = key;
        if matches!(shown.result, Some((AttestationStatus::Affirming, _))) {
            shown.result = None;
            shown.token_key = None;
        }
    }

    pub(super) fn appraised(
        &mut self,
        device: &DeviceId,
        status: AttestationStatus,
        ends_at: Timestamp,
        token_key: Option<Digest>,
    ) {
        let shown = self.shown.entry(device.clone()).or_default();
        shown.result = Some((status, ends_at));
        shown.token_key = token_key;
    }
}

impl Registry {
    /// Who made the device that the chip is in: asked before anything is computed for a chip.
    ///
    /// # Errors
    /// [`TpmRefusal::UnlistedEndorsement`], and the device's bars.
    pub fn manufacturer_of_chip(
        &self,
        endorsement: &EndorsementKey,
    ) -> Result<ManufacturerId, Refusal> {
        self.listed_in(endorsement.digest())
            .map(|device| device.manufacturer.clone())
    }

    /// The endorsement keys that are listed for a device, in rising order. Walks the list.
    #[must_use]
    pub fn endorsement_keys_of(&self, device: &DeviceId) -> Vec<Digest> {
        let Some(row) = self.devices.by_name(device.as_str()) else {
            return Vec::new();
        };
        let listed = self.chips.listed.iter();
        let mut keys: Vec<Digest> = listed
            .filter(|(_, owner)| **owner == row)
            .map(|(key, _)| *key)
            .collect();
        keys.sort_unstable();
        keys
    }

    /// May the device in which this chip is have a certificate for the key that it holds?
    ///
    /// # Errors
    /// [`Refusal`]: the chip is on no list (any more), its device is barred, or another one has a
    /// certificate for the key.
    pub fn enroll_by_tpm(&self, held: &HardwareKey) -> Result<EnrollmentDecision, Refusal> {
        let device = self.listed_in(held.endorsement())?;
        self.check_key(&held.key(), &Principal::Device(device.device.clone()))?;
        Ok(decision(device, EnrollmentKind::First, FirstIdentity::Tpm))
    }

    /// The key that a device's chip was shown to hold.
    #[must_use]
    pub fn held_key(&self, device: &DeviceId) -> Option<Digest> {
        self.chips.shown.get(device)?.key
    }

    /// Whether a certificate of a device for this key gives up what it has shown by another one.
    #[must_use]
    pub fn gives_up_evidence(&self, device: &DeviceId, key: &Digest) -> bool {
        (self.chips.shown.get(device)).is_some_and(|shown| {
            let affirmed = matches!(shown.result, Some((AttestationStatus::Affirming, _)));
            let other = |known: &Digest| known != key;
            shown.key.as_ref().is_some_and(other)
                || (affirmed && shown.token_key.as_ref().is_some_and(other))
        })
    }

    /// How far a device is shown to be what it says, now.
    #[must_use]
    pub fn assurance(&self, device: &DeviceId, now: Timestamp) -> Assurance {
        let Some(shown) = self.chips.shown.get(device) else {
            return Assurance::Identified;
        };
        let of_token = shown.token_key.is_some();
        match (shown.result, shown.key) {
            (Some((AttestationStatus::Contraindicated, _)), _) => Assurance::Contraindicated,
            (Some((AttestationStatus::Affirming, end)), key)
                if now < end && (key.is_some() || of_token) =>
            {
                Assurance::Attested
            }
            (_, None) => Assurance::Identified,
            (_, Some(_)) => Assurance::HardwareHeld,
        }
    }

    /// Devices whose affirming result ended in the time after `since` and until `now`.
    pub fn lapsed(&self, since: Timestamp, now: Timestamp) -> impl Iterator<Item = &DeviceId> {
        let shown = self.chips.shown.iter();
        shown.filter_map(move |(device, shown)| match shown.result {
            Some((AttestationStatus::Affirming, end)) if end > since && end <= now => Some(device),
            _ => None,
        })
    }

    fn listed_in(&self, endorsement: Digest) -> Result<super::Device<'_>, Refusal> {
        let row = self.chips.listed.get(&endorsement);
        let device = row
            .and_then(|row| self.device_at(*row))
            .ok_or(TpmRefusal::UnlistedEndorsement { endorsement })?;
        let principal = Principal::Device(device.device.clone());
        self.check_principal(&principal)?;
        Ok(device)
    }

    pub(super) fn list_endorsement(
        &mut self,
        endorsement: Digest,
        manufacturer: &ManufacturerId,
        serial: &SerialNumber,
    ) -> Result<(), FactConflict> {
        let row = self
            .manufacturers
            .number(manufacturer)
            .and_then(|number| self.devices.by_serial(number, serial.as_str()))
            .ok_or_else(|| FactConflict::UnknownSerial {
                manufacturer: manufacturer.clone(),
                serial: serial.clone(),
            })?;
        match self.chips.listed.get(&endorsement) {
            Some(taken) if *taken != row => match self.device_at(*taken) {
                Some(other) => Err(FactConflict::EndorsementTaken {
                    endorsement,
                    device: other.device,
                }),
                None => Err(FactConflict::Full),
            },
            Some(_) => Ok(()),
            None => {
                self.chips.listed.insert(endorsement, row);
                Ok(())
            }
        }
    }
}
