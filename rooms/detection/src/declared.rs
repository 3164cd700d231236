//! What the fleet declares of a product's behaviour: the seed of its baseline.

use crate::Protocol;
use core::net::IpAddr;
use model::{Digest, ProductId};

/// `None` everywhere: nothing is declared, the group's habit is learned. A list that is declared
/// is the whole truth; an empty one says "none".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    pub product: ProductId,
    pub destinations: Option<Vec<DeclaredDestination>>,
    pub listens: Option<Vec<(Protocol, u16)>>,
    pub dns_per_minute_max: Option<u64>,
    pub bytes_out_per_minute_max: Option<u64>,
    /// `1.2` or `1.3`.
    pub tls_version_min: Option<String>,
    pub firmware: Option<Vec<DeclaredFirmware>>,
}

impl Declared {
    /// A product of which nothing is declared.
    #[must_use]
    pub const fn nothing(product: ProductId) -> Self {
        Self {
            product,
            destinations: None,
            listens: None,
            dns_per_minute_max: None,
            bytes_out_per_minute_max: None,
            tls_version_min: None,
            firmware: None,
        }
    }
}

/// Where a product may go. Matches if the port and protocol match and the name or the network
/// does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredDestination {
    /// Its name in the fleet, for people.
    pub name: String,
    pub host: Option<String>,
    /// Address and prefix length; longer than the address means the whole address.
    pub network: Option<(IpAddr, u8)>,
    /// Empty: any.
    pub ports: Vec<u16>,
    pub protocol: Protocol,
}

/// What may run. Without a digest any image of that version is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredFirmware {
    pub version: String,
    pub digest: Option<Digest>,
}
