//! Acts on the inventory: lists in and out, and what a device page needs besides.

pub mod sightings;

use crate::api::Reached;
use crate::clock;
use crate::entries::{self, Actor};
use crate::plane::{Plane, digest};
use crate::stock::sightings::row_of_record;
use crate::trouble::Trouble;
use access::Destination;
use inventory::findings::Context;
use inventory::{Import, List, Peer};
use model::{DeviceId, ProductId};
use std::sync::Arc;
use store::{CHANGE_ROWS_MAX, Change, Direction, Write};

/// Devices written to an export while the inventory is held.
const EXPORT_STEP: usize = 1000;

/// What a list changed, or would.
pub struct ImportDone {
    pub import: Import,
    /// Leaf index of the last entry.
    pub entry: Option<u64>,
}

/// What a list would change.
///
/// # Errors
/// A fault of ours.
pub async fn would_import(plane: &Arc<Plane>, list: List) -> Result<ImportDone, Trouble> {
    let asking = Arc::clone(plane);
    let import = crate::shared::off_thread(move || asking.inventory.lock().import(&list)).await?;
    Ok(ImportDone {
        import,
        entry: None,
    })
}

/// Takes a list: recorded, a long one in parts, then in memory. Taking it again changes nothing, so
/// a list that broke off is simply sent again.
///
/// # Errors
/// The store's.
pub async fn import(
    plane: &Arc<Plane>,
    list: List,
    text: &str,
    actor: &Actor,
) -> Result<ImportDone, Trouble> {
    let _one_at_a_time = plane.listing.begin().await;
    let mut done = would_import(plane, list).await?;
    let list_digest = digest(text.as_bytes());
    let records = std::mem::take(&mut done.import.records);
    for part in records.chunks(CHANGE_ROWS_MAX - 1) {
        let at = clock::now();
        let rows = part
            .iter()
            .map(|(device, record)| row_of_record(device.clone(), record.clone(), at))
            .collect();
        let change = Change::new(Direction::Neutral)
            .write(Write::PutRecords(rows))
            .entry(plane.leaf(&entries::records_imported(
                at,
                actor,
                part.len(),
                list_digest,
            ))?);
        let receipt = plane.commit(change).await?;
        done.entry = Some(receipt.first_leaf_index);
        let mut inventory = plane.inventory.lock();
        for (device, record) in part {
            inventory.record(device, record.clone());
        }
    }
    Ok(done)
}

/// Every device as CSV. The inventory is held for a thousand of them at a time.
#[must_use]
pub fn export(plane: &Plane) -> String {
    let now = clock::now();
    let mut text = inventory::export_header();
    let mut after: Option<DeviceId> = None;
    loop {
        let devices = plane
            .inventory
            .lock()
            .devices_after(after.as_ref(), EXPORT_STEP, now);
        let Some(last) = devices.last() else {
            return text;
        };
        after = Some(last.device.clone());
        inventory::export(&mut text, &devices);
    }
}

/// What a foreign list is judged by: the CAs that are registered, and ours.
///
/// # Errors
/// The disk.
pub fn issuers(plane: &Plane) -> Result<Context, Trouble> {
    let mut context = Context::new(clock::now());
    let mut add = |der: &[u8]| {
        // Whatever was registered was read as a certificate before.
        let _ = context.add_issuer(der);
    };
    plane.tree().published().for_each(&mut add);
    plane.store.for_each_manufacturer(|row| add(&row.ca))?;
    Ok(context)
}

/// What the fleet says that devices of a product talk to, and this plane's own doors.
pub struct Expectation {
    destinations: Vec<Destination>,
    own_ports: [u16; 3],
    own_names: Vec<String>,
}

impl Expectation {
    /// `None` if the fleet declares nothing for the product.
    #[must_use]
    pub fn of(plane: &Plane, product: Option<&ProductId>) -> Option<Self> {
        let in_force = plane.admission.fleet.get();
        let fleet = in_force.fleet.as_ref()?;
        let declared = fleet.product(product?)?.behaviour.destinations.as_ref()?;
        let listen = &plane.config.listen;
        Some(Self {
            destinations: declared
                .iter()
                .filter_map(|id| fleet.destination(id).cloned())
                .collect(),
            own_ports: [
                listen.people.port(),
                listen.devices.port(),
                listen.mqtt.port(),
            ],
            own_names: plane.config.server_names.clone(),
        })
    }

    #[must_use]
    pub fn holds(&self, peer: &Peer) -> bool {
        let is_own_name =
            |name: &String| peer.host.as_ref() == Some(name) || peer.address.to_string() == *name;
        (self.own_ports.contains(&peer.port) && self.own_names.iter().any(is_own_name))
            || self.destinations.iter().any(|one| is_at(one, peer))
    }
}

fn is_at(destination: &Destination, peer: &Peer) -> bool {
    let by_name = destination.host().is_some() && destination.host() == peer.host.as_deref();
    let address = peer.address.to_canonical();
    let by_network = (destination.networks().iter()).any(|network| network.contains(address));
    destination.protocol == Some(peer.protocol)
        && (destination.ports.as_ref()).is_none_or(|ports| ports.contains(&peer.port))
        && (by_name || by_network)
}

/// A reach, one line each.
#[must_use]
pub fn reached(reach: access::Reach) -> Vec<Reached> {
    let channels = reach.channels.into_iter().map(|one| Reached {
        kind: "channel",
        name: one.channel,
        direction: match (one.publishes, one.receives) {
            (true, true) => Some("both"),
            (true, false) => Some("send"),
            (false, true) => Some("receive"),
            (false, false) => None,
        },
    });
    let destinations = reach.destinations.into_iter().map(|id| Reached {
        kind: "destination",
        name: id.as_str().to_owned(),
        direction: None,
    });
    channels.chain(destinations).collect()
}
