//! The inventory from outside: what is learned, what is not, and what lists tell.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the makers of a test may fail as loudly as the test itself"
)]

mod findings;
mod foreign;
mod lists;
mod machine;
mod memory;

use inventory::{Inventory, Known, Seen, Settings, Sighting};
use model::{
    Attribution, DeviceId, GroupId, ManufacturerId, ProductId, SerialNumber, Source, Timestamp,
};

pub fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

/// A moment on a day from some day on.
pub fn day(number: u64) -> Timestamp {
    Timestamp::from_seconds(1_790_000_000 + number * 86_400)
}

pub fn known(name: &str, enrolled: bool) -> Known {
    Known {
        device: device(name),
        product: ProductId::new("camera").unwrap(),
        groups: vec![GroupId::new("north").unwrap()],
        manufacturer: ManufacturerId::new("acme").unwrap(),
        serial: SerialNumber::new(&format!("SN {name}")).unwrap(),
        enrolled,
    }
}

/// An inventory that knows these devices, enrolled.
pub fn inventory(names: &[&str]) -> Inventory {
    let mut inventory = Inventory::new(Settings::default());
    for name in names {
        inventory.known(known(name, true));
    }
    inventory
}

pub fn sighting(name: &str, at: Timestamp, seen: Seen) -> Sighting {
    Sighting {
        device: device(name),
        at,
        source: Source::Gateway,
        attribution: Attribution::Proven,
        seen,
    }
}
