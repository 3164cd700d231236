//! Existing fleets: on which terms their certificates are believed, and whom a pinned one names.

use super::table::Pins;
use super::{FactConflict, Registry};
use crate::certificate::sha256;
use crate::path::{Claim, Door, Path, Presented};
use crate::refusal::{PathRefusal, Refusal};
use model::{
    AttributeId, AttributeValue, CertificateId, DeviceId, Digest, ManufacturerId, SerialNumber,
    Timestamp,
};
use std::collections::HashMap;

/// The attribute by which a device may keep the client identifier that it has always had.
pub const CLIENT_ID: &str = "client_id";

/// What of an imported fleet is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportTerms {
    /// Until then its certificates open the MQTT door.
    pub until: Timestamp,
    pub accept_expired: bool,
    pub retired: Option<Timestamp>,
}

/// How far a fleet has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportProgress {
    pub devices: usize,
    /// Those that have a certificate of ours.
    pub moved: usize,
    /// Leaves that are believed for their fingerprint, shared ones among them.
    pub pinned: usize,
    /// Devices that share a certificate and have none of their own yet.
    pub sharing: usize,
}

#[derive(Default)]
pub(super) struct Imports {
    terms: HashMap<ManufacturerId, ImportTerms>,
    pins: Pins,
    /// Devices behind a certificate that is theirs together, by the name they give themselves.
    shared: HashMap<Digest, HashMap<Box<str>, u32>>,
    attributes: HashMap<u32, Box<[(AttributeId, AttributeValue)]>>,
}

impl Registry {
    #[must_use]
    pub fn import_terms(&self, fleet: &ManufacturerId) -> Option<ImportTerms> {
        self.imports.terms.get(fleet).copied()
    }

    /// The path of a leaf that is pinned by its fingerprint, for a chain that no anchor vouches
    /// for. `None`: it is not pinned.
    #[must_use]
    pub fn pinned_path(
        &self,
        end_entity: &[u8],
        now: Timestamp,
    ) -> Option<Result<Path, PathRefusal>> {
        let fingerprint = sha256(end_entity);
        let device = self.device_at(self.pinned_row(&fingerprint)?)?;
        let terms = self.import_terms(device.manufacturer)?;
        let expired_until = terms.accept_expired.then_some(terms.until);
        Some(Path::pinned(
            device.manufacturer,
            end_entity,
            fingerprint,
            expired_until,
            now,
        ))
    }

    /// Whether many devices share the certificate that was shown, so that its holder must call
    /// itself something ([`Presented::calling_itself`]).
    #[must_use]
    pub fn shares(&self, presented: &Presented) -> bool {
        match &presented.claim {
            Claim::Imported { fingerprint, .. } => self.imports.shared.contains_key(fingerprint),
            _ => false,
        }
    }

    /// What an import said of a device besides its name.
    #[must_use]
    pub fn attributes(&self, id: &DeviceId) -> &[(AttributeId, AttributeValue)] {
        (self.devices.by_name(id.as_str()))
            .and_then(|row| self.imports.attributes.get(&row))
            .map_or(&[], |attributes| attributes)
    }

    /// All devices of which an import said more, in no order.
    pub fn described(&self) -> impl Iterator<Item = (DeviceId, &[(AttributeId, AttributeValue)])> {
        let described = self.imports.attributes.iter();
        described.filter_map(|(row, attributes)| {
            let device = DeviceId::new(self.devices.name(*row)?).ok()?;
            Some((device, attributes.as_ref()))
        })
    }

    /// Whom a fingerprint is pinned to, if to one.
    #[must_use]
    pub fn pinned_to(&self, fingerprint: &Digest) -> Option<DeviceId> {
        let row = self.imports.pins.find(fingerprint)?;
        DeviceId::new(self.devices.name(row)?).ok()
    }

    /// The fingerprints that are pinned to some devices, to each alone. Walks all pins.
    #[must_use]
    pub fn pinned_of(&self, is_one: impl Fn(&DeviceId) -> bool) -> Vec<Digest> {
        let pins = self.imports.pins.iter();
        pins.filter(|(_, row)| {
            let name = self.devices.name(*row);
            name.and_then(|name| DeviceId::new(name).ok())
                .is_some_and(|device| is_one(&device))
        })
        .map(|(fingerprint, _)| *fingerprint)
        .collect()
    }

    /// Devices behind a certificate that is many devices' and that have none of their own yet.
    pub fn sharing(&self) -> impl Iterator<Item = DeviceId> {
        let all = self.imports.shared.values().flat_map(HashMap::values);
        all.filter_map(|row| {
            let view = self.devices.view(*row).filter(|view| !view.enrolled)?;
            DeviceId::new(view.name).ok()
        })
    }

    /// Whether a fingerprint was pinned as many devices' certificate.
    #[must_use]
    pub fn is_shared(&self, fingerprint: &Digest) -> bool {
        self.imports.shared.contains_key(fingerprint)
    }

    /// Whether any certificate is believed as many devices'.
    #[must_use]
    pub fn has_shared_certificates(&self) -> bool {
        !self.imports.shared.is_empty()
    }

    /// Whether a device's fleet was retired and this certificate is none of ours, so that a session
    /// that stands on it may not go on.
    #[must_use]
    pub fn is_retired(&self, id: &DeviceId, certificate: &CertificateId) -> bool {
        self.certificates.find(certificate).is_none()
            && (self.device(id))
                .and_then(|device| self.import_terms(device.manufacturer))
                .is_some_and(|terms| terms.retired.is_some())
    }

    /// Counts. Walks all devices: for a page, not for a packet.
    #[must_use]
    pub fn import_progress(&self, fleet: &ManufacturerId) -> ImportProgress {
        let mut progress = ImportProgress::default();
        let Some(number) = self.manufacturers.number(fleet) else {
            return progress;
        };
        let is_theirs = |row: u32| {
            self.devices
                .view(row)
                .filter(|view| view.manufacturer == number)
        };
        for view in (0..self.devices.len()).filter_map(is_theirs) {
            progress.devices += 1;
            progress.moved += usize::from(view.enrolled);
        }
        let pins = self.imports.pins.iter();
        progress.pinned = pins.filter(|(_, row)| is_theirs(*row).is_some()).count();
        for devices in self.imports.shared.values() {
            let theirs: Vec<_> = devices.values().filter_map(|row| is_theirs(*row)).collect();
            progress.pinned += usize::from(!theirs.is_empty());
            progress.sharing += theirs.iter().filter(|view| !view.enrolled).count();
        }
        progress
    }

    /// Devices of a fleet that have no certificate of ours yet, in the order of the list.
    pub fn not_moved<'a>(&'a self, fleet: &ManufacturerId) -> impl Iterator<Item = DeviceId> + 'a {
        let number = self.manufacturers.number(fleet);
        (0..self.devices.len()).filter_map(move |row| {
            let view = self.devices.view(row)?;
            let waits = Some(view.manufacturer) == number && !view.enrolled;
            waits.then(|| DeviceId::new(view.name).ok()).flatten()
        })
    }

    /// The terms of a fleet, asked at each use of one of its certificates.
    pub(super) fn check_import(
        &self,
        door: Door,
        presented: &mut Presented,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Claim::Imported { fleet, .. } = &presented.claim else {
            return Ok(());
        };
        let terms = (self.import_terms(fleet)).ok_or(Refusal::Path(PathRefusal::UnknownIssuer))?;
        if let Some(at) = terms.retired {
            return Err(Refusal::ImportRetired {
                fleet: fleet.clone(),
                at,
            });
        }
        if door == Door::Gateway {
            if now > terms.until {
                return Err(Refusal::ImportEnded {
                    fleet: fleet.clone(),
                    until: terms.until,
                });
            }
            // A session ends with what let it in.
            presented.not_after = presented.not_after.min(terms.until);
        }
        Ok(())
    }

    /// The device behind a certificate of an imported fleet: the pinned one, the one of those that
    /// share it, or the one that the fleet's rule names.
    pub(super) fn imported_device(
        &self,
        fleet: &ManufacturerId,
        serial: Option<&SerialNumber>,
        fingerprint: &Digest,
        client_id: Option<&str>,
    ) -> Result<DeviceId, Refusal> {
        if let Some(sharing) = self.imports.shared.get(fingerprint) {
            let client_id = client_id.ok_or(Refusal::SharedCertificate)?;
            let unlisted = || Refusal::SharedUnlisted {
                client_id: client_id.chars().take(128).collect(),
            };
            let row = sharing.get(client_id).ok_or_else(unlisted)?;
            let device = self.device_at(*row).ok_or_else(unlisted)?;
            // Its own certificate tells it apart from all who hold the shared key.
            if device.enrolled {
                return Err(Refusal::SharedReplaced {
                    device: device.device,
                });
            }
            return Ok(device.device);
        }
        let pinned = (self.imports.pins.find(fingerprint)).and_then(|row| self.device_at(row));
        let device = match (pinned, serial) {
            (Some(device), _) => device,
            (None, None) => {
                return Err(Refusal::ImportedUnnamed {
                    fleet: fleet.clone(),
                });
            }
            (None, Some(serial)) => {
                (self.device_by_serial(fleet, serial)).ok_or_else(|| unlisted(fleet))?
            }
        };
        // What one fleet pinned another one's CA does not vouch for.
        if device.manufacturer == fleet {
            Ok(device.device)
        } else {
            Err(unlisted(fleet))
        }
    }

    pub(super) fn import_fleet(
        &mut self,
        fleet: &ManufacturerId,
        until: Timestamp,
        accept_expired: bool,
    ) -> Result<(), FactConflict> {
        let retired = self.import_terms(fleet).and_then(|terms| terms.retired);
        self.manufacturers.intern(fleet).ok_or(FactConflict::Full)?;
        let terms = ImportTerms {
            until,
            accept_expired,
            retired,
        };
        self.imports.terms.insert(fleet.clone(), terms);
        Ok(())
    }

    pub(super) fn retire_fleet(&mut self, fleet: &ManufacturerId, at: Timestamp) {
        let terms = (self.imports.terms.entry(fleet.clone())).or_insert(ImportTerms {
            until: at,
            accept_expired: false,
            retired: None,
        });
        terms.retired.get_or_insert(at);
    }

    pub(super) fn pin(
        &mut self,
        fingerprint: Digest,
        device: &DeviceId,
        shared: bool,
    ) -> Result<(), FactConflict> {
        let row =
            (self.devices.by_name(device.as_str())).ok_or_else(|| FactConflict::UnknownDevice {
                device: device.clone(),
            })?;
        let known = self.device_at(row).ok_or(FactConflict::Full)?;
        if self.import_terms(known.manufacturer).is_none() {
            return Err(FactConflict::NotImported {
                fleet: known.manufacturer.clone(),
            });
        }
        let taken = |owner: Option<DeviceId>| FactConflict::FingerprintTaken {
            fingerprint,
            owner: owner.unwrap_or_else(|| device.clone()),
        };
        let pinned = self.imports.pins.find(&fingerprint);
        if shared {
            if pinned.is_some() {
                return Err(taken(self.pinned_to(&fingerprint)));
            }
            let name: Box<str> = (self.attributes(device).iter())
                .find(|(name, _)| name.as_str() == CLIENT_ID)
                .map_or(device.as_str(), |(_, value)| value.as_str())
                .into();
            let sharing = self.imports.shared.entry(fingerprint).or_default();
            match sharing.get(&name) {
                // Two devices would be one to us; the first stays.
                Some(other) if *other != row => {
                    let owner = self.devices.name(*other);
                    return Err(taken(owner.and_then(|name| DeviceId::new(name).ok())));
                }
                _ => drop(sharing.insert(name, row)),
            }
            return Ok(());
        }
        if self.imports.shared.contains_key(&fingerprint) {
            return Err(taken(None));
        }
        match pinned {
            Some(owner) if owner == row => Ok(()),
            Some(_) => Err(taken(self.pinned_to(&fingerprint))),
            None => (self.imports.pins.add(fingerprint, row)).ok_or(FactConflict::Full),
        }
    }

    pub(super) fn describe(
        &mut self,
        device: &DeviceId,
        attributes: &[(AttributeId, AttributeValue)],
    ) -> Result<(), FactConflict> {
        let row =
            (self.devices.by_name(device.as_str())).ok_or_else(|| FactConflict::UnknownDevice {
                device: device.clone(),
            })?;
        if attributes.is_empty() {
            self.imports.attributes.remove(&row);
        } else {
            self.imports.attributes.insert(row, attributes.into());
        }
        Ok(())
    }

    fn pinned_row(&self, fingerprint: &Digest) -> Option<u32> {
        let sharing = self.imports.shared.get(fingerprint);
        (self.imports.pins.find(fingerprint))
            .or_else(|| sharing.and_then(|devices| devices.values().next().copied()))
    }
}

fn unlisted(fleet: &ManufacturerId) -> Refusal {
    Refusal::ImportedUnlisted {
        fleet: fleet.clone(),
    }
}
