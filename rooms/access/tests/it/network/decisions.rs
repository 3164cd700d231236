//! Random fleets with destinations and policies about them, and random flows: what the same decisions
//! are asked of everywhere. Tests of other crates include this file too.

use access::{Direction, Flow, Host, Network, Site, SourceFile};
use core::net::IpAddr;
use model::{DeviceId, GroupId, ProductId};
use std::fmt::Write as _;

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    pub fn one_of<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        &list[self.below(list.len())]
    }
}

pub const PRODUCTS: [&str; 3] = ["camera", "lock", "hub"];
pub const GROUPS: [&str; 3] = ["indoor", "beta", "suspended"];
const HOSTS: [&str; 4] = ["a.example", "b.example", "c.example", "d.example"];
const PORTS: [u16; 4] = [80, 443, 5683, 8883];

/// A destination as the test itself knows it: what a second implementation decides by.
pub struct Place {
    pub id: String,
    pub networks: Vec<Network>,
    pub ports: Vec<u16>,
    pub protocol: u8,
    /// Products that declare it.
    pub declared_by: Vec<&'static str>,
}

pub struct Scene {
    pub files: Vec<SourceFile>,
    pub policies: String,
    pub site: Site,
    pub places: Vec<Place>,
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A fleet with so many destinations, a site with a snapshot of names, and devices in it.
pub fn scene(random: &mut Random, destinations_count: usize) -> Scene {
    let mut site = Site::default();
    for (number, name) in HOSTS.iter().enumerate() {
        // Two names may share an address, as they do at a large host of many.
        let number = if random.below(4) == 0 { 0 } else { number };
        site.names.insert(
            (*name).to_owned(),
            vec![
                address(&format!("198.18.0.{}", number + 1)),
                address(&format!("2001:db8:ffff::{:x}", number + 1)),
            ],
        );
    }
    let network = |text: &str| Network::parse(text).unwrap();
    let hub = vec![network("192.168.20.5"), network("fd00:20::5")];
    site.local.insert("bridge".into(), hub.clone());
    let mut destinations = String::new();
    let mut places = Vec::new();
    for number in 0..destinations_count {
        let id = format!("d{number}");
        let (line, networks) = match random.below(4) {
            0 => (
                "address = \"198.18.0.0/30\"".to_owned(),
                vec![network("198.18.0.0/30")],
            ),
            1 => ("local = \"bridge\"".to_owned(), hub.clone()),
            _ => {
                let name = *random.one_of(&HOSTS);
                let networks = site.names[name]
                    .iter()
                    .copied()
                    .map(Network::of_one)
                    .collect();
                (format!("host = \"{name}\""), networks)
            }
        };
        let mut ports = vec![*random.one_of(&PORTS), *random.one_of(&PORTS)];
        ports.dedup();
        let udp = random.below(2) == 0;
        let word = if udp { "udp" } else { "tcp" };
        writeln!(
            destinations,
            "[{id}]\n{line}\nports = {ports:?}\nprotocol = \"{word}\""
        )
        .unwrap();
        places.push(Place {
            id,
            networks,
            ports,
            protocol: if udp { 17 } else { 6 },
            declared_by: Vec::new(),
        });
    }
    let mut products = String::new();
    for product in PRODUCTS {
        let mut declared: Vec<String> = Vec::new();
        for place in &mut places {
            if random.below(2) == 0 {
                place.declared_by.push(product);
                declared.push(format!("{:?}", place.id));
            }
        }
        writeln!(
            products,
            "[{product}.behaviour]\ndestinations = [{}]",
            declared.join(", ")
        )
        .unwrap();
    }
    let policies = policies(random, destinations_count);
    let groups: String = GROUPS
        .iter()
        .map(|group| format!("[groups.{group}]\n"))
        .collect();
    let files = [
        ("fleet.toml", format!("name = \"random\"\n{groups}")),
        ("products/p.toml", products),
        ("destinations/d.toml", destinations),
        ("policies/p.cedar", policies.clone()),
    ]
    .map(|(path, text)| SourceFile {
        path: path.into(),
        text,
    });
    site.hosts = (0..8)
        .map(|number| {
            let mut groups: Vec<&&str> = GROUPS.iter().collect();
            groups.retain(|_| random.below(3) == 0);
            Host {
                device: DeviceId::new(&format!("dev-{number}")).unwrap(),
                product: ProductId::new(PRODUCTS[random.below(PRODUCTS.len())]).unwrap(),
                groups: groups
                    .iter()
                    .map(|group| GroupId::new(group).unwrap())
                    .collect(),
                containment: match random.below(10) {
                    0 => Some(model::Containment::Quarantined),
                    1 => Some(model::Containment::Isolated),
                    _ => None,
                },
                mac: None,
                addresses: vec![
                    address(&format!("192.168.10.{}", number + 20)),
                    address(&format!("2001:db8:10::{:x}", number + 0x20)),
                ],
                mud_url: None,
            }
        })
        .collect();
    site.plane = vec!["203.0.113.250:8883".parse().unwrap()];
    Scene {
        files: files.into(),
        policies,
        site,
        places,
    }
}

fn policies(random: &mut Random, destinations_count: usize) -> String {
    let mut text = String::new();
    for number in 0..5 {
        let effect = if random.below(4) == 0 {
            "forbid"
        } else {
            "permit"
        };
        let principal = match random.below(3) {
            0 => "principal is Device".to_owned(),
            1 => format!("principal in Group::\"{}\"", random.one_of(&GROUPS)),
            _ => format!(
                "principal is Device in Product::\"{}\"",
                random.one_of(&PRODUCTS)
            ),
        };
        let resource = match random.below(3) {
            0 => format!(
                "resource == Destination::\"d{}\"",
                random.below(destinations_count)
            ),
            _ => "resource".to_owned(),
        };
        let condition = match random.below(4) {
            0 => String::new(),
            1 => " when { resource.owner != principal }".to_owned(),
            2 => format!(
                " when {{ resource.owner == principal && !(principal in Group::\"{}\") }}",
                random.one_of(&GROUPS)
            ),
            _ => " when { resource.owner == principal }".to_owned(),
        };
        writeln!(
            text,
            "@id(\"p{number}\") {effect} ({principal}, action == Action::\"connect\", {resource}){condition};"
        )
        .unwrap();
    }
    text
}

/// A flow from one of the site's devices, by its place in the list: to a destination, or past it.
pub fn flow(random: &mut Random, scene: &Scene) -> (usize, Flow) {
    let number = random.below(scene.site.hosts.len());
    let place = random.one_of(&scene.places);
    let network = *random.one_of(&place.networks);
    let mut remote = network.address();
    let mut protocol = place.protocol;
    let mut remote_port = *random.one_of(&place.ports);
    match random.below(8) {
        0 => remote_port = *random.one_of(&PORTS),
        1 => remote_port = remote_port.wrapping_add(1),
        2 => protocol = if protocol == 6 { 17 } else { 6 },
        3 => {
            remote = match remote {
                IpAddr::V4(_) => address(&format!("198.18.0.{}", random.below(8))),
                IpAddr::V6(_) => address(&format!("2001:db8:ffff::{:x}", random.below(8))),
            };
        }
        4 => {
            remote = address("203.0.113.250");
            remote_port = 8883;
            protocol = 6;
        }
        _ => {}
    }
    let device = scene.site.hosts[number].addresses[usize::from(remote.is_ipv6())];
    let flow = Flow {
        direction: Direction::FromDevice,
        device,
        remote,
        protocol,
        device_port: 40_000 + u16::try_from(random.below(20_000)).unwrap(),
        remote_port,
        icmp: (0, 0),
    };
    (number, flow)
}
