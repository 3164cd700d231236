//! MUD files → rules → a gateway's nftables: counted, and proven by packets.

mod agreement;
mod cedar;
mod corpus;
pub mod decisions;
mod packets;
mod probing;
mod signatures;

use crate::{base_with, compile, device, fleet, lines};
use access::{Fleet, Grants, Host, Mud, Network, Remote, Rule, Site, SourceFile};
use core::net::IpAddr;
use model::{DeviceId, ProductId};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub const LAMP: &str = include_str!("network/lamp.json");

/// Files of manufacturers, by name; none where they are not at hand.
pub fn collected() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/mud");
    let Ok(listing) = fs::read_dir(&folder) else {
        println!("skipped: there are no collected MUD files at ../shared/data/mud");
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = listing.map(|one| one.unwrap().path()).collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    paths.sort();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    (paths.iter())
        .map(|path| (name(path), fs::read_to_string(path).unwrap()))
        .collect()
}

/// A fleet whose product `camera` has this MUD file.
pub fn with_mud(text: &str) -> Vec<SourceFile> {
    base_with(&[
        (
            "products/p.toml",
            "[camera]\nmud = \"mud/camera.json\"\n[lock]\n",
        ),
        ("mud/camera.json", text),
    ])
}

pub fn read(text: &str) -> (Fleet, Mud) {
    let fleet = fleet(&with_mud(text));
    let mud = fleet
        .product(&product("camera"))
        .unwrap()
        .mud
        .clone()
        .unwrap();
    (fleet, mud)
}

pub fn refused(text: &str) -> String {
    lines(&Fleet::read(&with_mud(text)).unwrap_err())
}

pub fn product(name: &str) -> ProductId {
    ProductId::new(name).unwrap()
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn host(name: &str, product_name: &str, addresses: &[&str]) -> Host {
    Host {
        device: DeviceId::new(name).unwrap(),
        product: product(product_name),
        groups: Vec::new(),
        containment: None,
        mac: None,
        addresses: addresses.iter().map(|one| address(one)).collect(),
        mud_url: None,
    }
}

pub const DEVICE_4: &str = "192.168.10.20";
pub const DEVICE_6: &str = "2001:db8:10::20";

/// A site in which every name and class that `rules` speak of means something, always the same.
pub fn site_for(rules: &[Rule], url: &str) -> Site {
    let network = |text: &str| Network::parse(text).unwrap();
    let mut site = Site {
        interfaces: vec!["lan0".into()],
        local_networks: vec![network("192.168.10.0/24"), network("2001:db8:10::/64")],
        gateway: vec![address("192.168.10.1")],
        resolvers: vec![address("192.168.10.2")],
        plane: vec!["203.0.113.250:8883".parse().unwrap()],
        ..Site::default()
    };
    let mut names = BTreeMap::new();
    for (number, rule) in rules.iter().enumerate() {
        match &rule.remote {
            Remote::Host(name) => {
                let next = names.len() + 1;
                names.entry(name.clone()).or_insert_with(|| {
                    vec![
                        address(&format!("198.18.{}.{}", next / 250, next % 250 + 1)),
                        address(&format!("2001:db8:ffff::{next:x}")),
                    ]
                });
            }
            Remote::Controller(uri) => {
                // Within what a list of networks may narrow it to.
                let inside = rule
                    .remote_network
                    .map_or("2001:db8:1::53".to_owned(), |one| {
                        format!("{}53", one.address())
                    });
                let networks = (site.controllers)
                    .entry(uri.clone())
                    .or_insert_with(|| vec![network(&format!("172.20.{}.0/30", number % 250))]);
                networks.extend(Network::parse(&inside));
            }
            _ => {}
        }
    }
    site.names = names;
    site.my_controllers
        .insert(product("camera"), vec![network("172.21.0.0/29")]);
    let mut device = host("cam-1", "camera", &[DEVICE_4, DEVICE_6]);
    device.mud_url = Some(url.to_owned());
    let mut sibling = host("cam-2", "camera", &["192.168.10.21", "2001:db8:10::21"]);
    sibling.mud_url = Some(url.to_owned());
    site.hosts = vec![device, sibling];
    site
}

pub fn grants(text: &str) -> Grants {
    compile(&with_mud(text), &[device("cam-1", "camera", &[])])
}
