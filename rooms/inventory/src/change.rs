//! What must be kept of an observation, row by row; the same rows bring it back.

use crate::device::{Address, Firmware, Peer};
use core::net::IpAddr;
use model::{DeviceId, Protocol, Timestamp};

/// One row that changed. [`crate::Inventory::take_changes`] gives them out,
/// [`crate::Inventory::restore`] takes them back at a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Device {
        device: DeviceId,
        first_seen: Timestamp,
        last_seen: Timestamp,
        firmware: Option<Firmware>,
        unseen: Vec<String>,
    },
    Address(DeviceId, Address),
    Peer(DeviceId, Peer),
    ForgetAddress(DeviceId, IpAddr),
    ForgetPeer {
        device: DeviceId,
        address: IpAddr,
        port: u16,
        protocol: Protocol,
    },
    /// All that was last seen before these moments.
    ForgetBefore {
        addresses: Timestamp,
        peers: Timestamp,
    },
}
