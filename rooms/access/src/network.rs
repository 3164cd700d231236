//! What a device may say and hear in the network: rules, and the decision about one flow.
//!
//! A flow is judged by its first packet; answers belong to it (connection tracking does the same
//! at a gateway). What a rule calls a host, a role or a class of peers is an address only at a
//! [`Site`]: the same rules give other decisions where other names hold.

mod declared;
mod site;

use site::before_the_default_route;
pub(crate) use site::{DHCP_SERVERS_V4, ICMPV6, LIST_MAX, NAME_ADDRESSES_MAX, authority};
pub use site::{Host, Site, SiteError};

use crate::behaviour::DestinationId;
use crate::fleet::Direction;
use core::fmt;
use core::net::IpAddr;
use model::Containment;

/// As IP numbers them.
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
}

/// One line of what is let through or not. The first that matches decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What policies call it.
    pub destination: DestinationId,
    /// What its file calls it.
    pub name: String,
    pub direction: Direction,
    pub remote: Remote,
    /// Within `remote`: both must hold.
    pub remote_network: Option<Network>,
    pub device_network: Option<Network>,
    pub family: Option<Family>,
    /// `None`: any.
    pub protocol: Option<u8>,
    pub remote_ports: Ports,
    pub device_ports: Ports,
    /// Type, and code if it matters.
    pub icmp: Option<(u8, Option<u8>)>,
    /// Which side may open a TCP connection; `None`: whichever sends in `direction`.
    pub opened_by: Option<Direction>,
    pub accepts: bool,
}

/// Whom a device speaks with, before any address is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remote {
    Anyone,
    /// A DNS name in lower case.
    Host(String),
    Network(Network),
    /// A peer of the site by its role: a phone, a hub, a Matter controller.
    Local(String),
    /// Whatever lies before the site's default route.
    LocalNetworks,
    /// A class that the site maps to addresses, by its URI.
    Controller(String),
    /// The controller of this product at this site.
    MyController,
    /// Devices whose MUD URL has this authority.
    Manufacturer(String),
    SameManufacturer,
    /// Devices with this MUD URL.
    Model(String),
}

/// An address and how many of its first bits count; the others are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ports {
    Any,
    /// Both ends included.
    Range(u16, u16),
    Not(u16),
}

/// The first packet between a device and somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Which way it goes.
    pub direction: Direction,
    pub device: IpAddr,
    pub remote: IpAddr,
    pub protocol: u8,
    /// 0 without ports.
    pub device_port: u16,
    pub remote_port: u16,
    /// Type and code of ICMP and `ICMPv6`.
    pub icmp: (u8, u8),
}

/// Why a flow passes or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passage {
    /// By this rule.
    Permitted(Permission),
    Denied(Denial),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    Rule(String),
    /// What an address and a name need at all: neighbours, DHCP, the site's resolver.
    Infrastructure,
    /// To a door of the plane.
    Plane,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    Contained,
    Rule(String),
    /// The other side may open this connection, not this one.
    OpenedByOther(String),
    /// No rule speaks of it.
    Unlisted,
}

impl Passage {
    #[must_use]
    pub const fn is_permitted(&self) -> bool {
        matches!(self, Self::Permitted(_))
    }
}

/// Decides about the first packet of a flow.
///
/// `rules` are those of the device's product that its policies leave in force.
#[must_use]
pub fn decide(rules: &[Rule], site: &Site, host: &Host, flow: &Flow) -> Passage {
    match host.containment {
        Some(Containment::Isolated) => return Passage::Denied(Denial::Contained),
        // Whoever is not isolated may speak with the plane: no policy gives that, none takes it.
        _ if site.is_plane(flow) => return Passage::Permitted(Permission::Plane),
        Some(Containment::Quarantined) => return Passage::Denied(Denial::Contained),
        None => {}
    }
    if site.is_infrastructure(flow) {
        return Passage::Permitted(Permission::Infrastructure);
    }
    // Whoever may answer only does not open: RFC 8520 section 3.8 (direction-initiated).
    if let Some(rule) = (rules.iter()).find(|rule| rule.is_answered_by(site, host, flow)) {
        return Passage::Denied(Denial::OpenedByOther(rule.name.clone()));
    }
    match (rules.iter()).find(|rule| rule.matches(site, host, flow)) {
        Some(rule) if rule.accepts => Passage::Permitted(Permission::Rule(rule.name.clone())),
        Some(rule) => Passage::Denied(Denial::Rule(rule.name.clone())),
        None => Passage::Denied(Denial::Unlisted),
    }
}

impl Rule {
    /// Whether it lets nobody open anything: it speaks of answers only.
    #[must_use]
    pub fn is_for_answers(&self) -> bool {
        self.opened_by
            .is_some_and(|opener| opener != self.direction)
    }

    /// Whether it binds the other direction: what answers it must not open.
    #[must_use]
    pub fn bars_opening_by_other(&self) -> bool {
        self.accepts && self.opened_by == Some(self.direction)
    }

    fn matches(&self, site: &Site, host: &Host, flow: &Flow) -> bool {
        self.direction == flow.direction && !self.is_for_answers() && self.fits(site, host, flow)
    }

    /// A packet the other way, between the same ends.
    fn is_answered_by(&self, site: &Site, host: &Host, flow: &Flow) -> bool {
        self.bars_opening_by_other()
            && self.direction != flow.direction
            && flow.protocol == protocol::TCP
            && self.fits(site, host, flow)
    }

    fn fits(&self, site: &Site, host: &Host, flow: &Flow) -> bool {
        let family = Family::of(flow.remote);
        self.family.is_none_or(|only| only == family)
            && self.protocol.is_none_or(|only| only == flow.protocol)
            && self.remote_ports.contain(flow.remote_port)
            && self.device_ports.contain(flow.device_port)
            && self.icmp.is_none_or(|(kind, code)| {
                kind == flow.icmp.0 && code.is_none_or(|code| code == flow.icmp.1)
            })
            && (self.device_network).is_none_or(|network| network.contains(flow.device))
            && (self.remote_network).is_none_or(|network| network.contains(flow.remote))
            && site.is_at(&self.remote, host, flow.remote)
    }
}

impl Network {
    /// `None` if bits behind the prefix are set, or there are not so many.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let (value, bits) = bits_of(address);
        let behind = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        (prefix <= bits && value & behind == 0).then_some(Self { address, prefix })
    }

    #[must_use]
    pub fn of_one(address: IpAddr) -> Self {
        let (_, prefix) = bits_of(address);
        Self { address, prefix }
    }

    /// `192.0.2.0/24`, or one address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('/') {
            Some((address, prefix)) => Self::new(address.parse().ok()?, prefix.parse().ok()?),
            None => Some(Self::of_one(text.parse().ok()?)),
        }
    }

    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    #[must_use]
    pub fn family(self) -> Family {
        Family::of(self.address)
    }

    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let ((ours, _), (theirs, _)) = (bits_of(self.address), bits_of(address));
        self.family() == Family::of(address)
            && (ours ^ theirs)
                .checked_shr(128 - u32::from(self.prefix))
                .is_none_or(|differs| differs == 0)
    }

    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

/// Left-aligned, and how many there are.
fn bits_of(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, bits) = bits_of(self.address);
        if self.prefix == bits {
            return write!(f, "{}", self.address);
        }
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl Ports {
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self::Range(port, port)
    }

    #[must_use]
    pub const fn contain(self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Range(from, to) => from <= port && port <= to,
            Self::Not(not) => not != port,
        }
    }
}

/// RFC 1918, RFC 4193.
const PRIVATE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

impl Remote {
    /// Whether it can be a peer in the site itself, another device among them, by what it is. A name
    /// may mean anything: it is none.
    #[must_use]
    pub fn may_be_local(&self) -> bool {
        let local: Vec<Network> = (PRIVATE.into_iter().filter_map(Network::parse))
            .chain(before_the_default_route())
            .collect();
        let is_local = |network: &Network| local.iter().any(|one| one.overlaps(*network));
        self.networks().iter().any(is_local)
    }

    /// Where it is as far as that can be said without a site: what is at home may be at any private
    /// address. Empty: only its name says.
    #[must_use]
    pub fn networks(&self) -> Vec<Network> {
        match self {
            Self::Host(_) => Vec::new(),
            Self::Network(network) => vec![*network],
            Self::Anyone => (["0.0.0.0/0", "::/0"].into_iter())
                .filter_map(Network::parse)
                .collect(),
            _ => (PRIVATE.into_iter().filter_map(Network::parse))
                .chain(before_the_default_route())
                .collect(),
        }
    }
}

/// As a person reads it.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Host(host) => f.write_str(host),
            Self::Network(network) => write!(f, "{network}"),
            Self::Local(role) => write!(f, "local {role}"),
            Self::LocalNetworks => f.write_str("local networks"),
            Self::Controller(uri) => write!(f, "controller {uri}"),
            Self::MyController => f.write_str("its controller"),
            Self::Manufacturer(authority) => write!(f, "devices of {authority}"),
            Self::SameManufacturer => f.write_str("devices of the same manufacturer"),
            Self::Model(url) => write!(f, "devices of model {url}"),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Range(from, to) if from == to => write!(f, "{from}"),
            Self::Range(from, to) => write!(f, "{from}-{to}"),
            Self::Not(port) => write!(f, "not {port}"),
        }
    }
}
