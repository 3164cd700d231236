//! Existing fleets come along: their CAs and leaves are believed until they have moved, then
//! retired. A rehearsal runs the same checks and writes nothing.

use super::lists::{expecting, learn_expected, parts};
use crate::clock;
use crate::entries::{self, Actor};
use crate::fleet::planning;
use crate::plane::{Plane, digest};
use crate::shared::off_thread;
use crate::trouble::Trouble;
use crate::withdrawing;
use identity::expected::ExpectedDevice;
use identity::{Anchors, Fact, ImportedFleet};
use model::{DeviceId, Digest, ManufacturerId, SerialNumber, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use store::{Receipt, Write};

/// CA certificates of one fleet.
const CAS_MAX: usize = 16;
/// Names kept of each kind of finding.
const EXAMPLES_MAX: usize = 10;

/// On which terms an existing fleet is believed.
pub struct ImportTerms {
    pub fleet: ManufacturerId,
    pub naming: String,
    pub until: Timestamp,
    pub accept_expired: bool,
    pub ca_pem: String,
}

/// What a list would do, by kind.
pub type Findings = BTreeMap<&'static str, identity::import::Finding>;

/// What a list of devices did, or in a rehearsal would do.
pub struct Imported {
    pub devices: usize,
    pub findings: Findings,
    /// `None`: a rehearsal.
    pub receipt: Option<Receipt>,
}

/// What retiring a fleet did.
pub struct Retired {
    pub left_behind: usize,
    pub sessions_closed: u32,
    pub receipt: Receipt,
}

/// Believes the certificates of an existing fleet, of those of its devices that are listed. In a
/// rehearsal nothing is written.
///
/// # Errors
/// A CA that is ours, another's or none; a rule that is none; terms that contradict earlier ones.
pub async fn import_fleet(
    plane: &Arc<Plane>,
    terms: ImportTerms,
    rehearsal: bool,
    actor: &Actor,
) -> Result<Option<Receipt>, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let naming: identity::Naming =
        (terms.naming.parse()).map_err(|error: identity::InvalidNaming| {
            Trouble::refused("naming-refused", error.to_string())
        })?;
    let at = clock::now();
    if terms.until <= at {
        let text = format!("the import would end at {}, which is over", terms.until);
        return Err(Trouble::refused("import-over", text));
    }
    let row = store::ImportedFleet {
        fleet: terms.fleet,
        naming: naming.to_string(),
        until: terms.until,
        accept_expired: terms.accept_expired,
        cas: crate::pem::decode_all(&terms.ca_pem, "CERTIFICATE", CAS_MAX)?,
        imported_at: at,
        retired_at: None,
    };
    let (mut fleets, mut manufacturers) = (plane.store.imported_fleets()?, Vec::new());
    plane
        .store
        .for_each_manufacturer(|row| manufacturers.push((row.id, row.ca)))?;
    if manufacturers.iter().any(|(maker, _)| *maker == row.fleet) {
        let text = format!(
            "{} is a manufacturer; give the import another name",
            row.fleet
        );
        return Err(Trouble::refused("name-taken", text));
    }
    match fleets.iter_mut().find(|known| known.fleet == row.fleet) {
        Some(known) => {
            if known.naming != row.naming || known.retired_at.is_some() {
                let text = format!(
                    "{} was imported with the rule {:?}{}; import under another name",
                    row.fleet,
                    known.naming,
                    known.retired_at.map_or("", |_| " and is retired")
                );
                return Err(Trouble::refused("import-differs", text));
            }
            let mut cas = std::mem::take(&mut known.cas);
            cas.extend(
                row.cas
                    .iter()
                    .filter(|ca| !cas.contains(ca))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
            *known = store::ImportedFleet { cas, ..row.clone() };
        }
        None => fleets.push(row.clone()),
    }
    let anchors = Anchors::new(plane.realm.clone(), &plane.tree().own_cas(), manufacturers)
        .and_then(|anchors| anchors.with_imported(anchors_of(&fleets).unwrap_or_default()))
        .map_err(|refusal| Trouble::refused("ca-refused", refusal.to_string()))?;
    if rehearsal {
        return Ok(None);
    }
    let change = store::Change::new(store::Direction::Grant)
        .write(Write::PutImportedFleet(row.clone()))
        .entry(plane.leaf(&entries::fleet_imported(at, actor, &row))?);
    let receipt = plane.commit(change).await?;
    for fact in facts_of(&row) {
        plane.learn(&fact)?;
    }
    plane.trust().anchors.replace(Arc::new(anchors));
    Ok(Some(receipt))
}

/// Takes the devices of an existing fleet. A long list is recorded in parts; taking it again
/// changes nothing. A list with anything that is refused is refused whole.
///
/// # Errors
/// The fleet is not imported or is retired; what a rehearsal would have told.
pub async fn import_devices(
    plane: &Arc<Plane>,
    fleet: &ManufacturerId,
    list: Vec<ExpectedDevice>,
    text: &str,
    how: How,
    actor: &Actor,
) -> Result<Imported, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let terms = plane.trust().registry().import_terms(fleet);
    match terms {
        None if how.rehearsal => {}
        Some(terms) if terms.retired.is_none() => {}
        _ => {
            let text =
                format!("{fleet} is no imported fleet, or is retired; import its terms first");
            return Err(Trouble::refused("import-unknown", text));
        }
    }
    let list = Arc::new(list);
    let (shared, findings) = {
        let (plane, fleet, list) = (Arc::clone(plane), fleet.clone(), Arc::clone(&list));
        off_thread(move || {
            let shared = shared_among(&plane, &list);
            let findings = judge(&plane, &fleet, &list, &shared, how);
            (shared, findings)
        })
        .await?
    };
    let mut imported = Imported {
        devices: list.len(),
        findings,
        receipt: None,
    };
    if how.rehearsal {
        return Ok(imported);
    }
    let refused: Vec<String> = (imported.findings.iter())
        .filter(|(kind, _)| REFUSING.contains(kind))
        .map(|(kind, finding)| {
            format!(
                "{kind}: {} ({})",
                finding.count,
                finding.examples.join(", ")
            )
        })
        .collect();
    if !refused.is_empty() {
        let text = format!("the list is not taken: {}", refused.join("; "));
        return Err(Trouble::refused("import-refused", text));
    }
    let list_digest = digest(text.as_bytes());
    for part in parts(&list) {
        let pins = part.iter().filter_map(|row| {
            let fingerprint = row.fingerprint?;
            Some(store::PinnedLeaf {
                fingerprint,
                device: row.device.clone(),
                shared: shared.contains(&fingerprint),
            })
        });
        let mut pins: Vec<_> = pins.collect();
        // In the order in which the database keeps them.
        pins.sort_by_key(|pin| pin.fingerprint);
        let act = entries::devices_imported(clock::now(), actor, fleet, part, list_digest);
        let change = expecting(fleet, part)
            .write(Write::PinLeaves(pins))
            .entry(plane.leaf(&act)?);
        imported.receipt = Some(plane.commit(change).await?);
        learn_expected(plane, fleet, part, &shared).await?;
    }
    Ok(imported)
}

/// How a list is taken.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Certificates that several devices share are taken.
    pub shared: bool,
    /// Nothing is written.
    pub rehearsal: bool,
}

/// The fleet's certificates open no door any more: at once on every shard, then on record.
///
/// # Errors
/// It is not imported; devices would be left behind and that was not said to be meant; or only
/// that it could not be recorded.
pub async fn retire(
    plane: &Arc<Plane>,
    fleet: &ManufacturerId,
    leave_behind: bool,
    actor: &Actor,
) -> Result<Retired, Trouble> {
    let progress = {
        let registry = plane.trust().registry();
        if registry.import_terms(fleet).is_none() {
            let text = format!("{fleet} is no imported fleet");
            return Err(Trouble::refused("import-unknown", text));
        }
        registry.import_progress(fleet)
    };
    let left_behind = progress.devices - progress.moved;
    if left_behind > 0 && !leave_behind {
        let text = format!(
            "{left_behind} of {} devices have no certificate of ours yet and would be locked out; \
             move them first, or say that they are to be left behind",
            progress.devices
        );
        return Err(Trouble::refused("import-not-moved", text));
    }
    let at = clock::now();
    plane.learn(&Fact::FleetRetired {
        fleet: fleet.clone(),
        at,
    })?;
    let sessions_closed = plane.shards().withdraw_retired().await;
    let act = entries::fleet_retired(at, actor, fleet, left_behind, sessions_closed);
    let change = withdrawing::change(vec![plane.leaf(&act)?])?.write(Write::RetireImportedFleet {
        fleet: fleet.clone(),
        at,
    });
    let receipt = plane.commit_withdrawal(change).await?;
    Ok(Retired {
        left_behind,
        sessions_closed,
        receipt,
    })
}

/// The anchors of fleets as they are on record.
///
/// # Errors
/// A rule that this version does not know.
pub fn anchors_of(rows: &[store::ImportedFleet]) -> Result<Vec<ImportedFleet>, Trouble> {
    let anchor = |row: &store::ImportedFleet| {
        Ok(ImportedFleet {
            fleet: row.fleet.clone(),
            cas: row.cas.clone(),
            naming: row.naming.parse().map_err(Trouble::fault)?,
            expired_until: row.accept_expired.then_some(row.until),
        })
    };
    // A retired fleet is still told from a stranger, so that its devices hear why.
    rows.iter().map(anchor).collect()
}

/// What memory learns of a fleet on record.
#[must_use]
pub fn facts_of(row: &store::ImportedFleet) -> Vec<Fact> {
    let mut facts = vec![Fact::FleetImported {
        fleet: row.fleet.clone(),
        until: row.until,
        accept_expired: row.accept_expired,
    }];
    facts.extend(row.retired_at.map(|at| Fact::FleetRetired {
        fleet: row.fleet.clone(),
        at,
    }));
    facts
}

/// Fingerprints that several devices have, in the list or since an earlier one.
fn shared_among(plane: &Plane, list: &[ExpectedDevice]) -> HashSet<Digest> {
    let mut first: HashMap<Digest, &DeviceId> = HashMap::new();
    let mut shared = HashSet::new();
    for part in list.chunks(ROWS_AT_ONCE) {
        let registry = plane.trust().registry();
        for row in part {
            let Some(fingerprint) = row.fingerprint else {
                continue;
            };
            let is_second = *first.entry(fingerprint).or_insert(&row.device) != &row.device;
            if is_second || registry.is_shared(&fingerprint) {
                shared.insert(fingerprint);
            }
        }
    }
    shared
}

const NAME_TAKEN: &str = "name-taken";
const SERIAL_RENAMED: &str = "serial-renamed";
const OF_ANOTHER: &str = "of-another-manufacturer";
const FINGERPRINT_TAKEN: &str = "fingerprint-taken";
const NOT_SHARED: &str = "shared-not-accepted";
const CLIENT_ID_TWICE: &str = "client-id-twice";
const TOPICS_SHARED: &str = "topics-shared";
/// What a list is refused for.
const REFUSING: [&str; 7] = [
    NAME_TAKEN,
    SERIAL_RENAMED,
    OF_ANOTHER,
    FINGERPRINT_TAKEN,
    NOT_SHARED,
    CLIENT_ID_TWICE,
    TOPICS_SHARED,
];

/// Looked up in one go: who waits to change the registry, and all doors behind them, wait no longer.
const ROWS_AT_ONCE: usize = 1000;

/// Every line of a list, held against what is known.
fn judge(
    plane: &Plane,
    fleet: &ManufacturerId,
    list: &[ExpectedDevice],
    shared: &HashSet<Digest>,
    how: How,
) -> Findings {
    let mut findings = Findings::new();
    let mut found = |kind, whose: &DeviceId| {
        let finding = findings.entry(kind).or_default();
        finding.count += 1;
        if finding.examples.len() < EXAMPLES_MAX {
            finding.examples.push(whose.to_string());
        }
    };
    let in_force = plane.admission.fleet.get();
    let mut sharing: HashSet<(Digest, &str)> = HashSet::new();
    let mut registry = plane.trust().registry();
    for (number, row) in list.iter().enumerate() {
        if number % ROWS_AT_ONCE == 0 {
            drop(registry);
            registry = plane.trust().registry();
        }
        let device = &row.device;
        if row
            .manufacturer
            .as_ref()
            .is_some_and(|named| named != fleet)
        {
            found(OF_ANOTHER, device);
        }
        let same = |known_maker: &ManufacturerId, serial: &SerialNumber| {
            known_maker == fleet && *serial == row.serial
        };
        match registry.device(device) {
            Some(known) if !same(known.manufacturer, &known.serial) => found(NAME_TAKEN, device),
            Some(known) if known.product != &row.product || known.groups != row.groups => {
                found("changed", device);
            }
            Some(_) => found("known", device),
            None if registry.device_by_serial(fleet, &row.serial).is_some() => {
                found(SERIAL_RENAMED, device);
            }
            None => found("new", device),
        }
        if !in_force.has_product(&row.product) {
            found("product-undeclared", device);
        }
        if row.groups.iter().any(|group| !in_force.has_group(group)) {
            found("group-undeclared", device);
        }
        let Some(fingerprint) = row.fingerprint else {
            continue;
        };
        if shared.contains(&fingerprint) {
            let client_id = (row.attributes.iter())
                .find(|(name, _)| name.as_str() == identity::CLIENT_ID)
                .map_or(device.as_str(), |(_, value)| value.as_str());
            if !sharing.insert((fingerprint, client_id)) {
                found(CLIENT_ID_TWICE, device);
            }
            found(if how.shared { "sharing" } else { NOT_SHARED }, device);
        } else {
            found("pinned", device);
        }
        if registry
            .pinned_to(&fingerprint)
            .is_some_and(|owner| owner != *device)
        {
            found(FINGERPRINT_TAKEN, device);
        }
    }
    for (_, _, device) in planning::shared_topics(&registry, &in_force, list) {
        found(TOPICS_SHARED, &device);
    }
    findings
}
