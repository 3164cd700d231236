//! What was seen of a device.

use core::net::IpAddr;
use model::{Attribution, DeviceId, Digest, Protocol, Source, Timestamp};

/// One observation, as far as it tells what is out there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub device: DeviceId,
    pub at: Timestamp,
    pub source: Source,
    /// Anything but proven is not learned.
    pub attribution: Attribution,
    pub seen: Seen,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A session of it was opened from here.
    Connected { address: IpAddr },
    /// A session of it ended.
    Disconnected,
    /// It gave a sign of life.
    Alive,
    /// It spoke from here, outside a session.
    Address(IpAddr),
    /// It talked to somebody.
    Peer {
        address: IpAddr,
        port: u16,
        protocol: Protocol,
        host: Option<String>,
        /// Since the last sighting of this peer.
        bytes_out: u64,
    },
    Firmware {
        version: String,
        digest: Option<Digest>,
    },
    /// What its agent says it cannot see.
    Unseen(Vec<String>),
}

/// What became of a sighting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    Taken,
    /// Nothing of that name is on record.
    Unknown,
    /// It was not proven to be that device.
    NotProven,
}
