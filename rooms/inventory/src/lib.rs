//! The inventory: every device with what it is, where it is, whom it talks to and what it runs.
//!
//! **Question:** what is out there?
//! **Standards:** RFC 4180 (CSV), RFC 5280 (certificates in a list), ISO 3166-1 (countries).
//! **In:** what the records say ([`Known`], [`Record`]), what was seen ([`Sighting`]), what was
//! decided (contained, revoked, suspected), lists as text.
//! **Out:** devices by name or by search ([`Inventory::search`]), rows to be kept ([`Change`]), an
//! export, and what a foreign list tells ([`findings`]).
//! **Refuses to know:** where it is stored, who asks, whether a deviation is one, any clock.
//!
//! Only what is proven is learned: whoever merely claims a device's name, or shares its address,
//! writes nothing here. Texts from outside are made harmless when they come in and again when they
//! leave ([`text`]).

mod change;
mod date;
mod device;
mod export;
pub mod findings;
mod import;
mod machine;
mod query;
mod sighting;
pub mod table;
pub mod text;

pub use change::Change;
pub use device::{
    Address, Cut, DeviceView, Firmware, Known, Lifecycle, Peer, Posture, Record, Suspicion,
};
pub use export::{export, export_header};
pub use import::{Import, LineError, List};
pub use machine::{ADDRESSES_MAX, Inventory, PEERS_MAX, Settings};
pub use query::{Page, Query, Summary};
pub use sighting::{Learned, Seen, Sighting};
