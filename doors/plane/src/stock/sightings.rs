//! The plane's part of the inventory: what is told and seen goes into it, what of it must last goes
//! to `facts.db` and comes back at a start.

use crate::config::InventoryConfig;
use crate::judge::signals::Told;
use crate::plane::Plane;
use detection::{Feature, Observation};
use identity::{Fact, Registry};
use inventory::{
    Address, Change, Cut, Firmware, Inventory, Known, Peer, Record, Seen, Settings, Sighting,
    Suspicion,
};
use model::{Attribution, DeviceId, Principal, Protocol, Revocable, Source, Subject, Timestamp};
use response::{About, Incident};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use store::{CommitError, FactsWrite};

/// Rows in one batch; the rest waits for the next second.
const BATCH_ROWS: usize = 20_000;

impl Plane {
    /// Takes in what doors and the network saw: sessions, addresses, peers, firmware.
    pub fn sight(&self, told: &[Told]) {
        let mut sightings = Vec::new();
        for one in told {
            match one {
                Told::Connected {
                    principal: Principal::Device(device),
                    address,
                    at,
                } => {
                    let seen = Seen::Connected { address: *address };
                    sightings.push(by_gateway(device, *at, seen));
                }
                Told::Disconnected {
                    principal: Principal::Device(device),
                    at,
                    ..
                } => sightings.push(by_gateway(device, *at, Seen::Disconnected)),
                Told::Observation(observation) => sightings.extend(sighting_of(observation)),
                Told::Sessions { shard, devices } => {
                    self.take_in(&sightings);
                    sightings.clear();
                    self.recount(*shard, devices);
                }
                Told::Connected { .. }
                | Told::Disconnected { .. }
                | Told::Report { .. }
                | Told::DefenderReport { .. } => {}
            }
        }
        self.take_in(&sightings);
    }

    /// Takes in what a device said of itself. Its session was proven, so it is its own word; it
    /// never displaces what others saw.
    pub fn sight_said(
        &self,
        device: &DeviceId,
        unseen: Option<&[String]>,
        observations: &[Observation],
        at: Timestamp,
    ) {
        let mut sightings: Vec<Sighting> = observations.iter().filter_map(sighting_of).collect();
        sightings.extend(unseen.map(|lines| Sighting {
            device: device.clone(),
            at,
            source: Source::Device,
            attribution: Attribution::Proven,
            seen: Seen::Unseen(lines.to_vec()),
        }));
        self.take_in(&sightings);
    }

    /// Believes a shard's own count of sessions over what it told of their coming and going.
    fn recount(&self, shard: u16, devices: &[DeviceId]) {
        let mut sessions: BTreeMap<DeviceId, u32> = BTreeMap::new();
        for device in devices {
            let count = sessions.entry(device.clone()).or_default();
            *count = count.saturating_add(1);
        }
        let shards = self.shards().shard_count();
        let concerned = |device: &DeviceId| {
            gateway::home_shard(&Principal::Device(device.clone()), shards) == shard
        };
        let corrected = self.inventory.lock().recount(&sessions, concerned);
        if corrected > 0 {
            tracing::info!("{corrected} device(s) were taken for connected or not, wrongly");
        }
    }

    fn take_in(&self, sightings: &[Sighting]) {
        let mut inventory = self.inventory.lock();
        for sighting in sightings {
            // What is unknown or unproven is left out: the detector judges it.
            let _ = inventory.learn(sighting);
        }
    }

    /// Who is barred, and who no longer, as the registry has it now.
    fn note_bar(&self, what: &Revocable) {
        let devices: Vec<DeviceId> = match what {
            Revocable::Principal(Principal::Device(device)) => vec![device.clone()],
            Revocable::Product(product) => (self.trust().registry().devices())
                .filter(|device| device.product == product)
                .map(|device| device.device)
                .collect(),
            // No device is barred as such.
            Revocable::Principal(Principal::Service(_))
            | Revocable::Certificate(_)
            | Revocable::Issuer(_) => Vec::new(),
        };
        for device in devices {
            let principal = Principal::Device(device.clone());
            let stands = self.trust().registry().principal_revocation(&principal);
            let stands = stands.map(|why| (why.at, why.reason));
            self.inventory.lock().revoked(&device, stands);
        }
    }

    /// Takes in a fact that the registry took.
    pub(crate) fn note(&self, fact: &Fact) {
        match fact {
            Fact::Revoked { what, .. } | Fact::Released { what } => return self.note_bar(what),
            _ => {}
        }
        let known = match fact {
            Fact::DeviceExpected { device, .. }
            | Fact::CertificateIssued {
                principal: Principal::Device(device),
                ..
            } => self.trust().registry().device(device).map(known_of),
            _ => None,
        };
        let mut inventory = self.inventory.lock();
        if let Some(known) = known {
            inventory.known(known);
        }
        match fact {
            Fact::DeviceContained {
                device,
                containment,
                at,
            } => {
                let cut = Cut {
                    containment: *containment,
                    since: *at,
                    incident: None,
                    by: String::new(),
                };
                inventory.contained(device, Some(cut));
            }
            Fact::DeviceRestored { device } => inventory.contained(device, None),
            Fact::LeafPinned {
                device,
                shared: true,
                ..
            } => inventory.shares(device),
            _ => {}
        }
    }

    /// A device is suspect while an incident about it is open on evidence that is proven and not its
    /// own word: nobody loses a device's good name by claiming to be it.
    pub(crate) fn suspect(&self, incident: &Incident) {
        let About::Subject(Subject::Device(device)) = &incident.about else {
            return;
        };
        let sure: Vec<String> = incident
            .evidence
            .iter()
            .filter(|one| one.attribution == Attribution::Proven && one.source != Source::Device)
            .map(|one| format!("{} ({})", one.kind, one.source.name()))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let suspicion = (incident.is_open() && !sure.is_empty()).then(|| Suspicion {
            cause: sure.join(", "),
            incident: Some(incident.id),
        });
        let mut inventory = self.inventory.lock();
        let of_another = inventory
            .device(device, incident.changed_at)
            .and_then(|view| view.incident)
            .is_some_and(|id| id > incident.id);
        // What an older incident says when it closes is not the last word on a newer one.
        if suspicion.is_some() || !of_another {
            inventory.suspected(device, suspicion);
        }
    }

    /// Writes what changed to `facts.db`; true if something is left for the next time. Blocks.
    ///
    /// # Errors
    /// The disk; then the rows are tried again.
    pub fn keep_sightings(&self) -> Result<bool, CommitError> {
        let changes = self.inventory.lock().take_changes(BATCH_ROWS);
        if changes.is_empty() {
            return Ok(false);
        }
        let batch: Vec<FactsWrite> = changes.iter().map(row_of).collect();
        match self.facts.write(&batch) {
            Ok(()) => Ok(changes.len() >= BATCH_ROWS),
            Err(error) => {
                self.inventory.lock().keep_again(changes);
                Err(error)
            }
        }
    }
}

/// The inventory as rows tell it: identities, records, containments, then what was seen.
///
/// # Errors
/// The disk, or a row that is not valid.
pub fn remember(
    config: &InventoryConfig,
    registry: &Registry,
    store: &store::Store,
    facts: &store::Facts,
) -> Result<Inventory, store::ReadError> {
    let mut inventory = Inventory::new(settings(config));
    for device in registry.devices() {
        if let Some(revocation) = device.revoked {
            let stands = Some((revocation.at, revocation.reason));
            inventory.revoked(&device.device, stands);
        }
        inventory.known(known_of(device));
    }
    for device in registry.sharing() {
        inventory.shares(&device);
    }
    store.for_each_device_record(|row| {
        let (device, record) = record_of(row);
        inventory.record(&device, record);
    })?;
    store
        .for_each_containment(|row| inventory.contained(&row.device.clone(), Some(cut_of(row))))?;
    facts.for_each_device(|row| {
        inventory.restore(Change::Device {
            device: row.device,
            first_seen: row.first_seen,
            last_seen: row.last_seen,
            firmware: row.firmware.map(|one| Firmware {
                version: one.version,
                digest: one.digest,
                source: one.source,
                at: one.at,
            }),
            unseen: row.unseen,
        });
    })?;
    facts.for_each_address(|device, row| {
        inventory.restore(Change::Address(
            device,
            Address {
                address: row.address,
                first_seen: row.first_seen,
                last_seen: row.last_seen,
                source: row.source,
            },
        ));
    })?;
    facts.for_each_peer(|device, row| inventory.restore(Change::Peer(device, peer_of(row))))?;
    Ok(inventory)
}

/// How the record of a device stands in its row.
#[must_use]
pub fn row_of_record(device: DeviceId, record: Record, at: Timestamp) -> store::DeviceRecord {
    store::DeviceRecord {
        device,
        product: record.product,
        groups: record.groups,
        manufacturer: record.manufacturer,
        serial: record.serial,
        country: record.country,
        support_until: record.support_until,
        retired: record.retired,
        note: record.note,
        changed_at: at,
    }
}

/// Why a device is cut off, as its row tells it.
#[must_use]
pub fn cut_of(row: store::Contained) -> Cut {
    Cut {
        containment: row.containment,
        since: row.since,
        incident: row.incident,
        by: row.by,
    }
}

fn settings(config: &InventoryConfig) -> Settings {
    let days = |days: u32| Duration::from_secs(u64::from(days) * 86_400);
    Settings {
        addresses_kept: days(config.addresses_days),
        peers_kept: days(config.peers_days),
        silent_after: Duration::from_secs(u64::from(config.silent_hours) * 3600),
    }
}

fn known_of(device: identity::Device<'_>) -> Known {
    Known {
        product: device.product.clone(),
        groups: device.groups.to_vec(),
        manufacturer: device.manufacturer.clone(),
        serial: device.serial,
        enrolled: device.enrolled,
        device: device.device,
    }
}

fn record_of(row: store::DeviceRecord) -> (DeviceId, Record) {
    let record = Record {
        product: row.product,
        groups: row.groups,
        manufacturer: row.manufacturer,
        serial: row.serial,
        country: row.country,
        support_until: row.support_until,
        retired: row.retired,
        note: row.note,
    };
    (row.device, record)
}

fn by_gateway(device: &DeviceId, at: Timestamp, seen: Seen) -> Sighting {
    Sighting {
        device: device.clone(),
        at,
        source: Source::Gateway,
        // A session is told only after its key was proven.
        attribution: Attribution::Proven,
        seen,
    }
}

fn sighting_of(observation: &Observation) -> Option<Sighting> {
    let Subject::Device(device) = &observation.subject else {
        return None;
    };
    let seen = match &observation.feature {
        Feature::Destination {
            address,
            port,
            protocol,
            host,
            bytes_out,
        } => Seen::Peer {
            address: *address,
            port: *port,
            protocol: *protocol,
            host: host.clone(),
            bytes_out: *bytes_out,
        },
        Feature::Firmware { version, digest } => Seen::Firmware {
            version: version.clone(),
            digest: *digest,
        },
        _ => Seen::Alive,
    };
    Some(Sighting {
        device: device.clone(),
        at: observation.at,
        source: observation.source,
        attribution: observation.attribution,
        seen,
    })
}

fn peer_of(row: store::PeerRow) -> Peer {
    Peer {
        address: row.key.address,
        port: row.key.port,
        protocol: Protocol::from_name(row.key.protocol).unwrap_or(Protocol::Tcp),
        host: row.host,
        first_seen: row.first_seen,
        last_seen: row.last_seen,
        bytes_out: row.bytes_out,
        source: row.source,
    }
}

fn row_of(change: &Change) -> FactsWrite {
    match change {
        Change::Device {
            device,
            first_seen,
            last_seen,
            firmware,
            unseen,
        } => FactsWrite::Device(store::DeviceFacts {
            device: device.clone(),
            first_seen: *first_seen,
            last_seen: *last_seen,
            firmware: firmware.as_ref().map(|one| store::FirmwareRow {
                version: one.version.clone(),
                digest: one.digest,
                source: one.source,
                at: one.at,
            }),
            unseen: unseen.clone(),
        }),
        Change::Address(device, one) => FactsWrite::Address(
            device.clone(),
            store::AddressRow {
                address: one.address,
                first_seen: one.first_seen,
                last_seen: one.last_seen,
                source: one.source,
            },
        ),
        Change::Peer(device, one) => FactsWrite::Peer(
            device.clone(),
            store::PeerRow {
                key: store::PeerKey {
                    address: one.address,
                    port: one.port,
                    protocol: one.protocol.name(),
                },
                host: one.host.clone(),
                first_seen: one.first_seen,
                last_seen: one.last_seen,
                bytes_out: one.bytes_out,
                source: one.source,
            },
        ),
        Change::ForgetAddress(device, address) => {
            FactsWrite::ForgetAddress(device.clone(), *address)
        }
        Change::ForgetPeer {
            device,
            address,
            port,
            protocol,
        } => FactsWrite::ForgetPeer(
            device.clone(),
            store::PeerKey {
                address: *address,
                port: *port,
                protocol: protocol.name(),
            },
        ),
        Change::ForgetBefore { addresses, peers } => FactsWrite::ForgetBefore {
            addresses: *addresses,
            peers: *peers,
        },
    }
}
