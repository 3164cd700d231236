//! Acts on lists: manufacturers, expected devices.

use super::imports;
use crate::clock;
use crate::entries::{self, Actor};
use crate::fleet::planning;
use crate::flow;
use crate::plane::{Plane, digest};
use crate::trouble::Trouble;
use crate::withdrawing::Revoking;
use identity::expected::ExpectedDevice;
use identity::{Anchors, Fact, FactConflict};
use model::{Digest, ManufacturerId, Principal, Revocable, RevocationReason};
use std::collections::HashSet;
use std::sync::Arc;
use store::{CHANGE_ROWS_MAX, Change, Direction, Receipt, Write};

/// Registers a manufacturer's CA: its devices can prove a first identity from here on.
///
/// # Errors
/// The certificate is no CA, claims to be ours or another's, or the id has another CA already.
pub async fn add_manufacturer(
    plane: &Arc<Plane>,
    id: ManufacturerId,
    ca_pem: &str,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let ca = crate::pem::decode(ca_pem, &["CERTIFICATE"])?;
    let mut manufacturers = Vec::new();
    plane
        .store
        .for_each_manufacturer(|row| manufacturers.push((row.id, row.ca)))?;
    if !manufacturers.iter().any(|(known, _)| *known == id) {
        manufacturers.push((id.clone(), ca.clone()));
    }
    let imported = imports::anchors_of(&plane.store.imported_fleets()?)?;
    let anchors = Anchors::new(plane.realm.clone(), &plane.tree().own_cas(), manufacturers)
        .and_then(|anchors| anchors.with_imported(imported))
        .map_err(|refusal| Trouble::refused("ca-refused", refusal.to_string()))?;
    let at = clock::now();
    let change = Change::new(Direction::Grant)
        .write(Write::PutManufacturer(store::Manufacturer {
            id: id.clone(),
            ca: ca.clone(),
            added_at: at,
        }))
        .entry(plane.leaf(&entries::manufacturer_added(at, actor, &id, digest(&ca)))?);
    let receipt = plane.commit(change).await?;
    plane.trust().anchors.replace(Arc::new(anchors));
    Ok(receipt)
}

/// Takes a list of expected devices. A long one is recorded in parts; taking it again changes
/// nothing, so a list that broke off is simply sent again.
///
/// # Errors
/// A name or serial number that contradicts an earlier list.
pub async fn expect_devices(
    plane: &Arc<Plane>,
    manufacturer: &ManufacturerId,
    list: Vec<ExpectedDevice>,
    text: &str,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    if let Some(other) = list.iter().find(|row| {
        row.manufacturer
            .as_ref()
            .is_some_and(|named| named != manufacturer)
    }) {
        return Err(Trouble::refused(
            "list-of-another",
            format!(
                "{} is listed for another manufacturer; send each its own list",
                other.device
            ),
        ));
    }
    if list.iter().any(|row| row.fingerprint.is_some()) {
        return Err(Trouble::refused(
            "list-pins",
            "a manufacturer's devices are known by its CA; fingerprints belong to an import",
        ));
    }
    let in_force = plane.admission.fleet.get();
    let shared = planning::shared_topics(&plane.trust().registry(), &in_force, &list);
    if let Some((channel, one, other)) = shared.first() {
        let text = format!(
            "{one} and {other} would own the same topics of channel {channel}: give them different \
             attributes"
        );
        return Err(Trouble::refused("topics-shared", text));
    }
    let list_digest = digest(text.as_bytes());
    let mut receipt = None;
    for part in parts(&list) {
        let at = clock::now();
        let act = entries::devices_expected(at, actor, manufacturer, part.len(), list_digest);
        let change = expecting(manufacturer, part).entry(plane.leaf(&act)?);
        receipt = Some(plane.commit(change).await?);
        learn_expected(plane, manufacturer, part, &HashSet::new()).await?;
    }
    receipt.ok_or_else(|| Trouble::refused("list-empty", "the list holds no device"))
}

/// The devices of a list that are recorded in one change: as many as fit, with all that is said of
/// them. Few and large, since what is sorted otherwise than the list (fingerprints, names) touches
/// the same pages of the database again in each.
pub(super) fn parts(list: &[ExpectedDevice]) -> impl Iterator<Item = &[ExpectedDevice]> {
    // Itself, its fingerprint, and its attributes as one row and each; and the entry of all.
    let rows_of = |row: &ExpectedDevice| 3 + row.attributes.len();
    let mut rows = list.first().map_or(0, rows_of);
    list.chunk_by(move |_, next| {
        rows += rows_of(next);
        let fits = rows < CHANGE_ROWS_MAX;
        if !fits {
            rows = rows_of(next);
        }
        fits
    })
}

/// The rows of a part of a list.
pub(super) fn expecting(manufacturer: &ManufacturerId, part: &[ExpectedDevice]) -> Change {
    let rows = part.iter().map(|row| store::ExpectedDevice {
        manufacturer: manufacturer.clone(),
        serial: row.serial.clone(),
        product: row.product.clone(),
        device: row.device.clone(),
        groups: row.groups.clone(),
    });
    let described =
        (part.iter().filter(|row| !row.attributes.is_empty())).map(|row| store::Described {
            device: row.device.clone(),
            attributes: row.attributes.clone(),
        });
    Change::new(Direction::Grant)
        .write(Write::PutExpectedDevices(rows.collect()))
        .write(Write::DescribeDevices(described.collect()))
}

/// Takes a part of a list into memory, once it is on record.
pub(super) async fn learn_expected(
    plane: &Arc<Plane>,
    manufacturer: &ManufacturerId,
    part: &[ExpectedDevice],
    shared: &HashSet<Digest>,
) -> Result<(), Trouble> {
    let mut kinds = HashSet::new();
    for row in part {
        let principal = Principal::Device(row.device.clone());
        let before = plane.admission.facts_of(&principal);
        let is_shared = row.fingerprint.is_some_and(|pin| shared.contains(&pin));
        for fact in row.clone().into_facts(manufacturer, is_shared) {
            let taken = plane.trust().registry_mut().apply(&fact);
            match taken {
                Ok(()) => plane.note(&fact),
                // Its product was barred while the list was recorded. On record the device has left it.
                Err(FactConflict::ProductBarred { .. }) => {
                    let reason = RevocationReason::PrivilegeWithdrawn;
                    let bar = Revoking::one(Revocable::Principal(principal.clone()), reason);
                    flow::revoke(plane, &bar, &Actor::Plane).await?;
                }
                Err(conflict) => {
                    return Err(Trouble::refused("fact-conflict", conflict.to_string()));
                }
            }
        }
        let facts = plane.admission.facts_of(&principal);
        if kinds.insert((facts.product.clone(), facts.groups.clone())) {
            plane.cover(&facts).await?;
        }
        if before.product.is_some() && before != facts {
            plane.shards().reclassify(&facts);
        }
    }
    Ok(())
}

/// The facts that a device row stands for, to rebuild the registry.
#[must_use]
pub fn fact_of_expected(row: store::ExpectedDevice) -> Fact {
    Fact::DeviceExpected {
        manufacturer: row.manufacturer,
        serial: row.serial,
        device: row.device,
        product: row.product,
        groups: row.groups,
    }
}
