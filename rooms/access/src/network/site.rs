//! One place where devices are: which addresses its names, roles and classes have.

use super::{Family, Flow, Network, Remote, protocol};
use crate::diagnostic::{line_and_column, printable};
use crate::fleet::Direction;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::Range;
use model::{Containment, DeviceId, GroupId, ProductId};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// What a site's gateway knows. Names hold as long as the snapshot is true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Site {
    /// Where devices are attached; on these, whoever is not listed is denied. None: only what is
    /// listed is judged.
    pub interfaces: Vec<String>,
    pub local_networks: Vec<Network>,
    /// The gateway's own addresses, asked for DHCP.
    pub gateway: Vec<IpAddr>,
    /// Asked for names.
    pub resolvers: Vec<IpAddr>,
    /// The plane's doors, as devices reach them.
    pub plane: Vec<SocketAddr>,
    pub local: BTreeMap<String, Vec<Network>>,
    pub controllers: BTreeMap<String, Vec<Network>>,
    pub my_controllers: BTreeMap<ProductId, Vec<Network>>,
    /// What names meant when they were asked.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Every device with its addresses, and what others may call it by.
    pub hosts: Vec<Host>,
}

/// A device at a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub device: DeviceId,
    pub product: ProductId,
    pub groups: Vec<GroupId>,
    pub containment: Option<Containment>,
    /// Of its interface: its addresses count only together with it.
    pub mac: Option<[u8; 6]>,
    pub addresses: Vec<IpAddr>,
    /// Of its product.
    pub mud_url: Option<String>,
}

/// What is wrong in a site's file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct SiteError {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    pub message: String,
}

pub(crate) const LIST_MAX: usize = 4096;
pub(crate) const NAME_ADDRESSES_MAX: usize = 256;
const INTERFACE_BYTES_MAX: usize = 15;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct SiteFile {
    interfaces: Vec<Spanned<String>>,
    local_networks: Vec<Spanned<String>>,
    gateway: Vec<IpAddr>,
    resolvers: Vec<IpAddr>,
    plane: Vec<SocketAddr>,
    local: BTreeMap<String, Vec<Spanned<String>>>,
    controllers: BTreeMap<String, Vec<Spanned<String>>>,
    my_controllers: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    names: BTreeMap<Spanned<String>, Vec<IpAddr>>,
}

impl Site {
    /// Reads a site's TOML; it has no hosts yet.
    ///
    /// # Errors
    /// What is wrong, for whoever wrote it.
    pub fn read(text: &str) -> Result<Self, SiteError> {
        let refuse = |span: Range<usize>, message: String| {
            let (line, column) = line_and_column(text, span.start);
            let message = printable(&message);
            SiteError {
                line,
                column,
                message,
            }
        };
        let networks = |texts: &[Spanned<String>]| -> Result<Vec<Network>, SiteError> {
            if let Some(one_too_many) = texts.get(LIST_MAX) {
                let message = format!("a list has at most {LIST_MAX} networks");
                return Err(refuse(one_too_many.span(), message));
            }
            let network = |text: &Spanned<String>| {
                Network::parse(text.get_ref()).ok_or_else(|| {
                    let message = format!(
                        "{:?} is no address and no network; write for example 192.0.2.0/24, with \
                         nothing behind the prefix",
                        text.get_ref()
                    );
                    refuse(text.span(), message)
                })
            };
            texts.iter().map(network).collect()
        };
        let file: SiteFile = toml::from_str(text).map_err(|error| {
            refuse(error.span().unwrap_or_default(), error.message().to_owned())
        })?;
        let is_interface = |name: &Spanned<String>| {
            let name = name.get_ref();
            (1..=INTERFACE_BYTES_MAX).contains(&name.len())
                && (name.bytes()).all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if let Some(name) = file.interfaces.iter().find(|name| !is_interface(name)) {
            let message = format!("{:?} is no name of an interface", name.get_ref());
            return Err(refuse(name.span(), message));
        }
        let mut my_controllers = BTreeMap::new();
        for (product, texts) in &file.my_controllers {
            let id = ProductId::new(product.get_ref())
                .map_err(|error| refuse(product.span(), error.to_string()))?;
            my_controllers.insert(id, networks(texts)?);
        }
        let mut names = BTreeMap::new();
        for (name, addresses) in file.names {
            if addresses.len() > NAME_ADDRESSES_MAX {
                let message = format!(
                    "{:?} has more than {NAME_ADDRESSES_MAX} addresses",
                    name.get_ref()
                );
                return Err(refuse(name.span(), message));
            }
            names.insert(name.get_ref().to_ascii_lowercase(), addresses);
        }
        let by_name = |table: &BTreeMap<String, Vec<Spanned<String>>>| {
            (table.iter())
                .map(|(name, texts)| Ok((name.clone(), networks(texts)?)))
                .collect::<Result<BTreeMap<_, _>, SiteError>>()
        };
        Ok(Self {
            interfaces: (file.interfaces.into_iter())
                .map(Spanned::into_inner)
                .collect(),
            local_networks: networks(&file.local_networks)?,
            gateway: file.gateway,
            resolvers: file.resolvers,
            plane: file.plane,
            local: by_name(&file.local)?,
            controllers: by_name(&file.controllers)?,
            my_controllers,
            names,
            hosts: Vec::new(),
        })
    }

    /// The addresses that `remote` stands for, as `host` sees it. `None`: all there are.
    #[must_use]
    pub fn addresses(&self, remote: &Remote, host: &Host) -> Option<Vec<Network>> {
        let listed = |found: Option<&Vec<Network>>| found.cloned().unwrap_or_default();
        let of_hosts = |belongs: &dyn Fn(&Host) -> bool| {
            (self.hosts.iter())
                .filter(|other| belongs(other))
                .flat_map(|other| other.addresses.iter().copied().map(Network::of_one))
                .collect()
        };
        Some(match remote {
            Remote::Anyone => return None,
            Remote::Host(name) => (self.names.get(name).into_iter().flatten())
                .copied()
                .map(Network::of_one)
                .collect(),
            Remote::Network(network) => vec![*network],
            Remote::Local(role) => listed(self.local.get(role)),
            Remote::LocalNetworks => (self.local_networks.iter().copied())
                .chain(before_the_default_route())
                .collect(),
            Remote::Controller(uri) => listed(self.controllers.get(uri)),
            Remote::MyController => listed(self.my_controllers.get(&host.product)),
            Remote::Manufacturer(authority) => of_hosts(&|other: &Host| {
                other
                    .manufacturer()
                    .is_some_and(|theirs| theirs == authority)
            }),
            Remote::SameManufacturer => of_hosts(&|other: &Host| {
                host.manufacturer().is_some() && other.manufacturer() == host.manufacturer()
            }),
            Remote::Model(url) => of_hosts(&|other: &Host| other.mud_url.as_ref() == Some(url)),
        })
    }

    pub(super) fn is_at(&self, remote: &Remote, host: &Host, address: IpAddr) -> bool {
        self.addresses(remote, host)
            .is_none_or(|networks| networks.iter().any(|network| network.contains(address)))
    }

    /// Between a device and a door of the plane, whoever began.
    pub(super) fn is_plane(&self, flow: &Flow) -> bool {
        flow.protocol == protocol::TCP
            && flow.direction == Direction::FromDevice
            && (self.plane).contains(&SocketAddr::new(flow.remote, flow.remote_port))
    }

    /// What no device can do without: its neighbours and their routers, how large a packet may be,
    /// an address (DHCP), a name (the site's resolvers).
    pub(super) fn is_infrastructure(&self, flow: &Flow) -> bool {
        if flow.protocol == protocol::ICMPV6 && Family::of(flow.remote) == Family::V6 {
            return ICMPV6.contains(&flow.icmp.0);
        }
        if flow.direction != Direction::FromDevice {
            return false;
        }
        let asks = |device_port: Option<u16>, port: u16| {
            flow.protocol == protocol::UDP
                && flow.remote_port == port
                && device_port.is_none_or(|port| port == flow.device_port)
        };
        let resolves = self.resolvers.contains(&flow.remote)
            && flow.remote_port == 53
            && matches!(flow.protocol, protocol::UDP | protocol::TCP);
        let is_dhcp = (asks(Some(68), 67)
            && (flow.remote == DHCP_SERVERS_V4 || self.gateway.contains(&flow.remote)))
            || (asks(Some(546), 547)
                && (flow.remote == DHCP_SERVERS_V6 || self.gateway.contains(&flow.remote)));
        resolves || is_dhcp
    }
}

/// Errors and path MTU (1 to 4), multicast listeners (130 to 132, 143), routers and neighbours (133
/// to 136): RFC 4890.
pub(crate) const ICMPV6: [u8; 12] = [1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 143];
pub(crate) const DHCP_SERVERS_V4: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);
pub(crate) const DHCP_SERVERS_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2));

/// What never crosses a default route, whatever the site's prefixes are: link-local addresses,
/// groups and broadcasts.
pub(crate) fn before_the_default_route() -> impl Iterator<Item = Network> {
    let v4 = |a, b, c, d, prefix| Network::new(Ipv4Addr::new(a, b, c, d).into(), prefix);
    let v6 = |first, prefix| Network::new(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0).into(), prefix);
    [
        v4(169, 254, 0, 0, 16),
        v4(224, 0, 0, 0, 4),
        v4(255, 255, 255, 255, 32),
        v6(0xfe80, 10),
        v6(0xff00, 8),
    ]
    .into_iter()
    .flatten()
}

impl Host {
    /// The authority of its MUD URL.
    #[must_use]
    pub fn manufacturer(&self) -> Option<&str> {
        self.mud_url.as_deref().and_then(authority)
    }
}

/// `acme.example` of `https://acme.example/lamp.json`.
pub(crate) fn authority(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://")?;
    rest.split('/')
        .next()
        .filter(|authority| !authority.is_empty())
}
