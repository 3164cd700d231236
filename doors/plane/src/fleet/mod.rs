//! The fleet in force: what its files declare, as the rest of the plane asks for it.

pub mod planning;
pub mod recorded;

use crate::certify::tree::Tree;
use crate::trouble::Trouble;
use access::{ClientIds, Diagnostic, Enrollment, Facts, Fleet, How, SourceFile};
use identity::profile;
use model::{AuthorityId, Digest, GroupId, Principal, ProductId, ServiceId, Timestamp};
use response::Playbook;
use response::playbook::declared_twice;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

/// Between the proof of a new certificate and the end of the old, where no fleet says otherwise.
const ROTATION_OVERLAP: Duration = Duration::from_secs(86_400);

/// The fleet that was applied last; version 0 is none.
pub struct FleetInForce {
    pub version: u64,
    pub fleet: Option<Fleet>,
    pub playbooks: Vec<Playbook>,
}

impl FleetInForce {
    #[must_use]
    pub fn none() -> Self {
        Self {
            version: 0,
            fleet: None,
            playbooks: Vec::new(),
        }
    }

    /// Reads a whole fleet, its playbooks included.
    ///
    /// # Errors
    /// All that is wrong, by file and line; nothing of it is taken then.
    pub fn read(version: u64, files: &[SourceFile]) -> Result<Self, Trouble> {
        let mut wrong = Vec::new();
        let mut playbooks: Vec<Playbook> = Vec::new();
        let mut declared_in: BTreeMap<String, &str> = BTreeMap::new();
        for file in files {
            if !response::playbook::is_playbook_file(&file.path) {
                continue;
            }
            match response::playbook::read(&file.path, &file.text) {
                Ok(read) => {
                    for playbook in &read {
                        let name = playbook.name.clone();
                        if let Some(first) = declared_in.insert(name, &file.path) {
                            let (path, text) = (&file.path, &file.text);
                            let twice = declared_twice(path, text, &playbook.name, first);
                            wrong.push(diagnostic(twice));
                        }
                    }
                    playbooks.extend(read);
                }
                Err(errors) => wrong.extend(errors.into_iter().map(diagnostic)),
            }
        }
        let fleet = match Fleet::read(files) {
            Ok(fleet) if wrong.is_empty() => fleet,
            Ok(_) => return Err(Trouble::Fleet(wrong)),
            Err(others) => {
                wrong.extend(others);
                return Err(Trouble::Fleet(wrong));
            }
        };
        Ok(Self {
            version,
            fleet: Some(fleet),
            playbooks,
        })
    }

    #[must_use]
    pub fn digest(&self) -> Digest {
        self.fleet.as_ref().map_or(Digest([0; 32]), Fleet::digest)
    }

    /// The playbooks that `next` has differently, as `~ playbook contain (act)`.
    #[must_use]
    pub fn changed_playbooks(&self, next: &Self) -> Vec<String> {
        let list = |fleet: &Self| -> BTreeMap<String, Playbook> {
            (fleet.playbooks.iter())
                .map(|one| (format!("{} ({})", one.name, one.mode.name()), one.clone()))
                .collect()
        };
        let (old, new) = (list(self), list(next));
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        (names.into_iter())
            .filter_map(|name| {
                let how = match (old.get(name), new.get(name)) {
                    (None, Some(_)) => How::Added,
                    (Some(_), None) => How::Removed,
                    (old, new) if old != new => How::Changed,
                    _ => return None,
                };
                Some(format!("{} playbook {name}", planning::sign(how)))
            })
            .collect()
    }

    #[must_use]
    pub fn has_service(&self, id: &ServiceId) -> bool {
        self.fleet
            .as_ref()
            .is_some_and(|fleet| fleet.services().any(|known| known.id == *id))
    }

    #[must_use]
    pub fn has_group(&self, id: &GroupId) -> bool {
        (self.fleet.as_ref()).is_some_and(|fleet| fleet.group(id).is_some())
    }

    /// Whether the fleet lets a service report what it saw in the network.
    #[must_use]
    pub fn observes_network(&self, id: &ServiceId) -> bool {
        let service = self.fleet.as_ref().and_then(|fleet| fleet.service(id));
        service.is_some_and(|service| service.observes_network)
    }

    /// Whether the fleet lets a service say what a device should be.
    #[must_use]
    pub fn sets_desired_state(&self, id: &ServiceId) -> bool {
        let service = self.fleet.as_ref().and_then(|fleet| fleet.service(id));
        service.is_some_and(|service| service.sets_desired_state)
    }

    /// Whether the fleet lets a service say whose a device is.
    #[must_use]
    pub fn speaks_for_owners(&self, id: &ServiceId) -> bool {
        let service = self.fleet.as_ref().and_then(|fleet| fleet.service(id));
        service.is_some_and(|service| service.speaks_for_owners)
    }

    #[must_use]
    pub fn groups_of(&self, id: &ServiceId) -> Vec<GroupId> {
        self.fleet
            .as_ref()
            .and_then(|fleet| fleet.services().find(|known| known.id == *id))
            .map(|known| known.groups.clone())
            .unwrap_or_default()
    }

    /// Thirty days where the fleet does not say otherwise.
    #[must_use]
    pub fn ldevid_lifetime(&self, product: &ProductId) -> Duration {
        self.fleet
            .as_ref()
            .and_then(|fleet| fleet.product(product))
            .map_or(profile::LDEVID_LIFETIME_DEFAULT, |known| {
                known.ldevid_lifetime
            })
    }

    /// How long a certificate outlives the proof of its successor; `None`: until it ends by itself.
    /// A day where the fleet does not say otherwise.
    #[must_use]
    pub fn rotation_overlap(&self, product: &ProductId) -> Option<Duration> {
        self.fleet
            .as_ref()
            .and_then(|fleet| fleet.product(product))
            .map_or(Some(ROTATION_OVERLAP), |known| known.rotation_overlap)
    }

    /// How devices of a product may call themselves in MQTT; services, and devices of none, by their
    /// name.
    #[must_use]
    pub fn client_ids_of(&self, product: Option<&ProductId>) -> ClientIds {
        let known = product.and_then(|product| self.fleet.as_ref()?.product(product));
        known.map_or(ClientIds::Own, |known| known.client_ids)
    }

    /// The issuing CA that a product names.
    #[must_use]
    pub fn authority_of(&self, product: &ProductId) -> Option<&AuthorityId> {
        let fleet = self.fleet.as_ref()?;
        fleet.product(product)?.authority.as_ref()
    }

    /// # Errors
    /// A product names a CA that certifies no devices: they could not enroll.
    pub fn check_authorities(&self, tree: &Tree) -> Result<(), Trouble> {
        let products = self.fleet.iter().flat_map(Fleet::products);
        let wrong: Vec<Diagnostic> = products
            .filter_map(|product| {
                let refusal = tree.for_device(product.authority.as_ref()).err()?;
                Some(Diagnostic {
                    path: "products".to_owned(),
                    line: 1,
                    column: 1,
                    message: format!("product {}: {refusal}", product.id),
                    help: None,
                })
            })
            .collect();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(Trouble::Fleet(wrong))
        }
    }

    /// How devices of a product come by a certificate.
    #[must_use]
    pub fn enrollment(&self, product: &ProductId) -> Enrollment {
        let fleet = self.fleet.as_ref();
        let known = fleet.and_then(|fleet| fleet.product(product));
        known.map(|known| known.enrollment).unwrap_or_default()
    }

    #[must_use]
    pub fn has_product(&self, id: &ProductId) -> bool {
        let fleet = self.fleet.as_ref();
        fleet.is_some_and(|fleet| fleet.product(id).is_some())
    }

    /// What it declares that may hurt, though it can be applied.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let days = |time: Duration| time.as_secs() / 86_400;
        let products = self.fleet.iter().flat_map(Fleet::products);
        let locked_out = products.filter(|product| {
            product.enrollment.expected_off_time
                > product.ldevid_lifetime + product.enrollment.renewal_grace
        });
        let locked_out = locked_out.map(|product| {
            format!(
                "product {}: its devices may be off for {} days, but a certificate lives {} days \
                     and is renewed for {} more; beyond that a device needs its first identity \
                     again: raise ldevid_lifetime_days or renewal_grace_days",
                product.id,
                days(product.enrollment.expected_off_time),
                days(product.ldevid_lifetime),
                days(product.enrollment.renewal_grace),
            )
        });
        let products = self.fleet.iter().flat_map(Fleet::products);
        let unenforced = products.filter_map(|product| {
            let left_out = product.mud.as_ref()?.unenforced.len();
            (left_out > 0).then(|| {
                format!(
                    "product {}: {left_out} entries of its MUD file become no rule and stay denied; \
                     `fleetward access mud` says which and why",
                    product.id
                )
            })
        });
        locked_out.chain(unenforced).collect()
    }

    /// Channels whose payloads are held to no contract.
    #[must_use]
    pub fn without_contract(&self) -> Vec<String> {
        let channels = self.fleet.iter().flat_map(Fleet::channels);
        let bare = channels.filter(|channel| channel.contract.is_none());
        bare.map(|channel| channel.id.to_string()).collect()
    }

    /// The longest grace of any product.
    #[must_use]
    pub fn renewal_grace_max(&self) -> Duration {
        let products = self.fleet.iter().flat_map(Fleet::products);
        let graces = products.map(|product| product.enrollment.renewal_grace);
        graces.max().unwrap_or_default()
    }

    /// Its row, with the sources as JSON.
    ///
    /// # Errors
    /// Never for texts.
    pub fn row(
        &self,
        files: &[SourceFile],
        applied_at: Timestamp,
    ) -> Result<store::Fleet, Trouble> {
        let sources: BTreeMap<&str, &str> = files
            .iter()
            .map(|file| (file.path.as_str(), file.text.as_str()))
            .collect();
        Ok(store::Fleet {
            version: self.version,
            digest: self.digest(),
            files: serde_json::to_vec(&sources).map_err(Trouble::fault)?,
            applied_at,
        })
    }

    /// The fleet of a row.
    ///
    /// # Errors
    /// The row was written by something else, or by a version that took what this one refuses.
    pub fn from_row(row: &store::Fleet) -> Result<Self, Trouble> {
        Self::read(row.version, &sources(row)?)
    }
}

/// The texts of a row, by path, byte for byte as they were applied.
///
/// # Errors
/// The row was written by something else.
pub fn sources(row: &store::Fleet) -> Result<Vec<SourceFile>, Trouble> {
    let sources: BTreeMap<String, String> =
        serde_json::from_slice(&row.files).map_err(Trouble::fault)?;
    Ok(sources
        .into_iter()
        .map(|(path, text)| SourceFile { path, text })
        .collect())
}

/// One of each kind that is known: the same product and groups are the same to policy.
pub fn population(registry: &identity::Registry, fleet: &FleetInForce) -> Vec<Facts> {
    let mut kinds: HashSet<(ProductId, Vec<GroupId>)> = HashSet::new();
    let mut population = Vec::new();
    for device in registry.devices() {
        if kinds.insert((device.product.clone(), device.groups.to_vec())) {
            population.push(Facts {
                principal: Principal::Device(device.device.clone()),
                product: Some(device.product.clone()),
                groups: device.groups.to_vec(),
                attributes: Default::default(),
                containment: None,
                assurance: model::Assurance::default(),
            });
        }
    }
    let services = fleet.fleet.iter().flat_map(Fleet::services);
    population.extend(services.map(|service| Facts {
        principal: Principal::Service(service.id.clone()),
        product: None,
        groups: service.groups.clone(),
        attributes: Default::default(),
        containment: None,
        assurance: model::Assurance::default(),
    }));
    population
}

fn diagnostic(error: response::PlaybookError) -> Diagnostic {
    Diagnostic {
        path: error.path,
        line: error.line,
        column: error.column,
        message: error.message,
        help: error.help,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playbook_that_two_files_declare_is_said_with_both_and_its_place() {
        let playbook = "kinds = [\"silence\"]\nsteps = [{ action = \"notify\", to = \"ops\" }]\n";
        let source = |path: &str, text: String| SourceFile {
            path: path.to_owned(),
            text,
        };
        let files = [
            source("fleet.toml", "name = \"x\"\n".to_owned()),
            source("playbooks/a.toml", format!("[still]\n{playbook}")),
            source("playbooks/b.toml", format!("# again\n[still]\n{playbook}")),
        ];
        let Err(Trouble::Fleet(wrong)) = FleetInForce::read(1, &files) else {
            panic!("it was taken")
        };
        let said: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "fleet/playbooks/b.toml:2:2: playbook still is declared in playbooks/a.toml too (help: \
              give each its own name)"
            ]
        );
    }
}
