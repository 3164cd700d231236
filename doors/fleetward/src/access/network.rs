//! `fleetward access mud · nftables`: what devices may reach in the network, without a plane.

use super::local_fleet;
use crate::files::{self, shown};
use crate::show::{self, Column, Output};
use access::{Facts, Grants, Host, Remote, Rule, Site};
use anyhow::{Context, bail};
use clap::Args;
use inventory::table::Table;
use model::{Assurance, Containment, DeviceId, GroupId, Principal, ProductId, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const SITE_BYTES_MAX: usize = 1024 * 1024;
const DEVICES_BYTES_MAX: usize = 32 * 1024 * 1024;

#[derive(Debug, Args)]
pub struct Mud {
    /// The folder that declares the fleet.
    #[arg(value_name = "FLEET_DIR", default_value = "fleet")]
    fleet: PathBuf,
    /// This product alone.
    #[arg(long)]
    product: Option<String>,
    /// Print a MUD file for the product instead: what it declares and serves, to stand at this URL.
    #[arg(long, value_name = "URL", requires = "product")]
    write: Option<String>,
}

#[derive(Debug, Args)]
pub struct Nftables {
    /// The folder that declares the fleet.
    #[arg(value_name = "FLEET_DIR", default_value = "fleet")]
    fleet: PathBuf,
    /// The site as TOML: its networks, resolvers, roles, and what names mean there.
    #[arg(long, value_name = "FILE")]
    site: PathBuf,
    /// The devices with their addresses as CSV or JSON: device, product, groups, mac, ipv4, ipv6,
    /// containment. Several in one cell are parted by `;`. Other columns are passed over.
    #[arg(long, value_name = "FILE")]
    devices: PathBuf,
    /// Write only what cuts one device off, or gives it back: DEVICE=quarantined, =isolated or =free.
    #[arg(long, value_name = "DEVICE=DEGREE")]
    contain: Option<String>,
    /// Where one transaction does not hold everything: the folder to write them to, numbered.
    #[arg(long, value_name = "DIR")]
    batches: Option<PathBuf>,
}

const RULES: [Column; 8] = [
    ("product", "/product"),
    ("entry", "/entry"),
    ("way", "/direction"),
    ("with", "/remote"),
    ("protocol", "/protocol"),
    ("remote port", "/remote_port"),
    ("device port", "/device_port"),
    ("opened by", "/opened_by"),
];

impl Mud {
    /// # Errors
    /// What is wrong in the fleet.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        let fleet = local_fleet(&self.fleet)?;
        let wanted = |id: &ProductId| self.product.as_ref().is_none_or(|name| id.as_str() == name);
        if let Some(name) = &self.product
            && !fleet.products().any(|product| product.id.as_str() == name)
        {
            bail!("this fleet declares no product {}", show::escaped(name));
        }
        if let (Some(url), Some(name)) = (&self.write, &self.product) {
            let rules = fleet.rules(&ProductId::new(name)?);
            let now = Timestamp::from_seconds(
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default()
                    .as_secs(),
            );
            let text = access::write_mud(&rules, name, url, now).map_err(anyhow::Error::msg)?;
            return show::line(text.trim_end());
        }
        let mut rules = Vec::new();
        let mut unenforced = Vec::new();
        for product in fleet.products().filter(|product| wanted(&product.id)) {
            for rule in fleet.rules(&product.id) {
                rules.push(rule_value(&product.id, &rule));
            }
            if let Some(mud) = &product.mud {
                unenforced.extend(mud.unenforced.iter().map(|one| {
                    json!({
                        "product": product.id.as_str(),
                        "entry": one.entry,
                        "file": mud.path,
                        "line": one.line,
                        "why": one.why,
                    })
                }));
            }
        }
        if output == Output::Json {
            return show::value(&json!({ "rules": rules, "unenforced": unenforced }));
        }
        if rules.is_empty() && unenforced.is_empty() {
            return show::line(
                "No product names a MUD file or a destination. Write mud = \"mud/NAME.json\" in a \
                 product; docs/access.md shows how.",
            );
        }
        show::rows(output, &Value::Array(rules), &RULES)?;
        for one in &unenforced {
            let text = |at| one.pointer(at).and_then(Value::as_str).unwrap_or_default();
            let line = one
                .pointer("/line")
                .and_then(Value::as_u64)
                .unwrap_or_default();
            show::line(&show::escaped(&format!(
                "no rule: {}:{line}: {} of {}: {}",
                self.fleet.join(text("/file")).display(),
                text("/entry"),
                text("/product"),
                text("/why")
            )))?;
        }
        Ok(())
    }
}

fn rule_value(product: &ProductId, rule: &Rule) -> Value {
    let within = rule
        .remote_network
        .map(|network| format!(" in {network}"))
        .unwrap_or_default();
    let remote = match (&rule.remote, rule.remote_network) {
        (Remote::Anyone, Some(network)) => network.to_string(),
        (remote, _) => format!("{remote}{within}"),
    };
    let protocol = match rule.protocol {
        None => "any".to_owned(),
        Some(access::protocol::TCP) => "tcp".to_owned(),
        Some(access::protocol::UDP) => "udp".to_owned(),
        Some(access::protocol::ICMP) => "icmp".to_owned(),
        Some(access::protocol::ICMPV6) => "icmpv6".to_owned(),
        Some(number) => number.to_string(),
    };
    json!({
        "product": product.as_str(),
        "entry": rule.name,
        "destination": rule.destination.as_str(),
        "direction": rule.direction.name(),
        "remote": remote,
        "protocol": protocol,
        "remote_port": rule.remote_ports.to_string(),
        "device_port": rule.device_ports.to_string(),
        "opened_by": rule.opened_by.map(access::Direction::name),
        "accepts": rule.accepts,
    })
}

impl Nftables {
    /// # Errors
    /// What is wrong in the fleet, the site or the list of devices.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        let fleet = local_fleet(&self.fleet)?;
        let mut site = Site::read(&files::read_text(&self.site, SITE_BYTES_MAX)?)
            .map_err(|wrong| anyhow::anyhow!("{}:{wrong}", shown(&self.site)))?;
        site.hosts = hosts(&self.devices)?;
        for host in &mut site.hosts {
            let mud = fleet
                .product(&host.product)
                .and_then(|product| product.mud.as_ref());
            host.mud_url = mud.map(|mud| mud.url.clone());
        }
        if let Some(asked) = &self.contain {
            return contain(asked, &site);
        }
        let grants = Grants::compile(&fleet, site.hosts.iter().map(facts)).map_err(|wrong| {
            let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("this fleet cannot be compiled\n{}", lines.join("\n"))
        })?;
        let ruleset = access::nftables(&grants, &site).map_err(anyhow::Error::msg)?;
        if output == Output::Json {
            return show::value(&json!({ "batches": ruleset.batches, "notes": ruleset.notes }));
        }
        for note in &ruleset.notes {
            eprintln!("note: {}", show::escaped(note));
        }
        match (&self.batches, ruleset.batches.as_slice()) {
            (None, [whole]) => show::line(whole.trim_end()),
            (None, many) => bail!(
                "{} transactions are needed, since one would not fit: name a folder with --batches, \
                 and apply what is in it in the order of the names",
                many.len()
            ),
            (Some(folder), many) => {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("{} cannot be made", shown(folder)))?;
                for (number, batch) in many.iter().enumerate() {
                    let path = folder.join(format!("{number:04}.nft"));
                    files::replace(&path, batch.as_bytes(), 0o644)?;
                }
                show::line(&format!("{} files are in {}", many.len(), shown(folder)))
            }
        }
    }
}

fn contain(asked: &str, site: &Site) -> anyhow::Result<()> {
    let (device, degree) = asked.split_once('=').unwrap_or((asked, ""));
    let degree = match degree {
        "quarantined" => Some(Containment::Quarantined),
        "isolated" => Some(Containment::Isolated),
        "free" => None,
        _ => bail!("write DEVICE=quarantined, DEVICE=isolated or DEVICE=free"),
    };
    let host = site
        .hosts
        .iter()
        .find(|host| host.device.as_str() == device);
    let Some(host) = host else {
        bail!("{} is not in the list of devices", show::escaped(device));
    };
    show::line(access::containment(host, degree).trim_end())
}

fn facts(host: &Host) -> Facts {
    Facts {
        principal: Principal::Device(host.device.clone()),
        product: Some(host.product.clone()),
        groups: host.groups.clone(),
        attributes: std::sync::Arc::default(),
        containment: None,
        assurance: Assurance::default(),
    }
}

/// A list of devices; JSON if it begins like it.
fn hosts(path: &Path) -> anyhow::Result<Vec<Host>> {
    let text = files::read_text(path, DEVICES_BYTES_MAX)?;
    let mut hosts = Vec::new();
    let mut names = BTreeSet::new();
    let mut add = |place: String, cell: &dyn Fn(&str) -> Option<String>| -> anyhow::Result<()> {
        let host = host(cell).with_context(|| format!("{}, {place}", shown(path)))?;
        if !names.insert(host.device.clone()) {
            bail!("{}, {place}: {} is listed twice", shown(path), host.device);
        }
        hosts.push(host);
        Ok(())
    };
    if text.trim_start().starts_with('[') {
        let list: Vec<Value> = serde_json::from_str(&text)
            .with_context(|| format!("{} is no list of objects as JSON", shown(path)))?;
        for (number, item) in list.iter().enumerate() {
            let cell = |name: &str| match item.get(name)? {
                Value::String(text) => Some(text.clone()),
                Value::Array(items) => {
                    let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                    Some(items.join(";"))
                }
                _ => None,
            };
            add(format!("item {}", number + 1), &cell)?;
        }
        return Ok(hosts);
    }
    let mut table = Table::read(&text).with_context(|| format!("{} is no CSV", shown(path)))?;
    let mut line = 1;
    while let Some(row) = table
        .next_row()
        .with_context(|| format!("{} is no CSV", shown(path)))?
    {
        line += 1;
        let row = row.with_context(|| format!("{}, row {line}", shown(path)))?;
        add(format!("row {line}"), &|name| {
            row.cell(name).map(str::to_owned)
        })?;
    }
    Ok(hosts)
}

fn host(cell: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Host> {
    let filled = |name: &str| {
        cell(name)
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    };
    let several = |name: &str| {
        let text = filled(name).unwrap_or_default();
        let items = text
            .split(';')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        items.map(str::to_owned).collect::<Vec<_>>()
    };
    let product = filled("product").context("it has no product")?;
    let mut addresses = Vec::new();
    for column in ["ipv4", "ipv6"] {
        for text in several(column) {
            let address: core::net::IpAddr = text
                .parse()
                .ok()
                .filter(|address: &core::net::IpAddr| address.is_ipv4() == (column == "ipv4"))
                .with_context(|| format!("{} is no address for {column}", show::escaped(&text)))?;
            addresses.push(address);
        }
    }
    let containment = match filled("containment").as_deref() {
        None | Some("free") => None,
        Some("quarantined") => Some(Containment::Quarantined),
        Some("isolated") => Some(Containment::Isolated),
        Some(other) => bail!("{} is no degree of containment", show::escaped(other)),
    };
    Ok(Host {
        device: DeviceId::new(&filled("device").context("it has no device")?)?,
        product: ProductId::new(&product)?,
        groups: several("groups")
            .iter()
            .map(|group| GroupId::new(group))
            .collect::<Result<_, _>>()?,
        containment,
        mac: filled("mac").map(|text| mac(&text)).transpose()?,
        addresses,
        mud_url: None,
    })
}

fn mac(text: &str) -> anyhow::Result<[u8; 6]> {
    let wrong = || {
        format!(
            "{} is no MAC address; write 02:00:5e:10:00:01",
            show::escaped(text)
        )
    };
    let bytes: Vec<u8> = text
        .split([':', '-'])
        .map(|part| {
            u8::from_str_radix(part, 16)
                .ok()
                .filter(|_| part.len() == 2)
        })
        .collect::<Option<_>>()
        .with_context(wrong)?;
    bytes.try_into().ok().with_context(wrong)
}
