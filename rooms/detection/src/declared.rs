//! What the fleet declares of a product's behaviour: the seed of its baseline.

use crate::shown;
use core::net::IpAddr;
use model::{Digest, ProductId, Protocol};

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

impl DeclaredDestination {
    pub(crate) fn matches(
        &self,
        host: Option<&str>,
        address: IpAddr,
        port: u16,
        protocol: Protocol,
    ) -> bool {
        let by_name = || {
            matches!((&self.host, host), (Some(ours), Some(theirs))
                if ours.trim_end_matches('.').eq_ignore_ascii_case(theirs.trim_end_matches('.')))
        };
        let by_network =
            || matches!(self.network, Some((network, length)) if lies_in(address, network, length));
        self.protocol == protocol
            && (self.ports.is_empty() || self.ports.contains(&port))
            && (by_name() || by_network())
    }

    /// As a person reads it: `video.example.net:443/tcp`.
    pub(crate) fn words(&self) -> String {
        let place = match (&self.host, self.network) {
            (Some(host), _) => shown(host, 128),
            (None, Some((network, length))) => format!("{network}/{length}"),
            (None, None) => shown(&self.name, 64),
        };
        match self.ports.as_slice() {
            [] => format!("{place}/{}", self.protocol),
            [port] => format!("{place}:{port}/{}", self.protocol),
            [port, ..] => format!("{place}:{port}../{}", self.protocol),
        }
    }
}

/// Is `address` one of the network's? An IPv4 address written as IPv6 is its IPv4 self.
fn lies_in(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let shift = |bits: u32| bits.saturating_sub(u32::from(length));
    match (address.to_canonical(), network.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (a.to_bits() ^ n.to_bits())
            .checked_shr(shift(32))
            .is_none_or(|differs| differs == 0),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits() ^ n.to_bits())
            .checked_shr(shift(128))
            .is_none_or(|differs| differs == 0),
        _ => false,
    }
}

impl DeclaredFirmware {
    pub(crate) fn words(&self) -> String {
        match &self.digest {
            Some(digest) => format!("{} ({:.12})", shown(&self.version, 64), digest.to_string()),
            None => shown(&self.version, 64),
        }
    }
}

/// What may run. Without a digest any image of that version is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredFirmware {
    pub version: String,
    pub digest: Option<Digest>,
}
