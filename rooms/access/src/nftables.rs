//! Rules at a site → nftables of its gateway, as text for `nft -f`.
//!
//! One table, replaced as a whole. A device is found by its address in a verdict map, so what a
//! packet costs does not grow with the fleet; devices of one product with the same grants share
//! their chains. Everything is judged where packets arrive (prerouting), groups and the gateway's
//! own addresses included. The kernel reassembles fragments before: connection tracking does it.

mod text;

use crate::behaviour::DestinationId;
use crate::class::Facts;
use crate::fleet::Direction;
use crate::grants::Grants;
use crate::network::{Family, Host, ICMPV6, Network, Remote, Rule, Site, protocol};
use core::net::IpAddr;
use model::{Assurance, Containment, Principal, ProductId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// More elements in one transaction do not fit the socket of a gateway with usual limits.
const BATCH_ELEMENTS_MAX: usize = 4000;
const LINE_ELEMENTS_MAX: usize = 250;
/// Addresses that a name may have at once.
const NAME_SET_SIZE: u32 = 4096;
/// An address that nobody resolves again is forgotten.
const NAME_TIMEOUT: &str = "1h";

/// What is loaded at a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Each is one transaction, applied in this order. More than one only where a whole does not fit.
    pub batches: Vec<String>,
    /// What the ruleset does not do, for whoever relies on it.
    pub notes: Vec<String>,
}

/// Writes the table `inet fleetward` for a site.
///
/// # Errors
/// Two devices with one address: it would say nothing about who sends.
pub fn nftables(grants: &Grants, site: &Site) -> Result<Ruleset, String> {
    let mut writing = Writing::new(grants, site);
    for host in &site.hosts {
        writing.add_host(host)?;
    }
    Ok(writing.finish())
}

/// One transaction that cuts a device off at the gateway or gives it back, and the commands that
/// end what it has open, as comments. Cutting off bites without these.
#[must_use]
pub fn containment(host: &Host, degree: Option<Containment>) -> String {
    let mut out = String::new();
    for address in &host.addresses {
        let family = text::digit(*address);
        for (set, holds) in [
            ("isolated", degree == Some(Containment::Isolated)),
            ("quarantined", degree == Some(Containment::Quarantined)),
        ] {
            // Deleting what is not there would refuse the whole.
            let _ = writeln!(
                out,
                "add element inet fleetward {set}{family} {{ {address} }}"
            );
            if !holds {
                let _ = writeln!(
                    out,
                    "delete element inet fleetward {set}{family} {{ {address} }}"
                );
            }
        }
    }
    for address in &host.addresses {
        let _ = writeln!(
            out,
            "# then: conntrack -D -s {address}; conntrack -D -d {address}"
        );
    }
    out
}

impl Grants {
    /// The rules that hold for a host.
    #[must_use]
    pub fn network_rules(&self, host: &Host) -> Vec<Rule> {
        self.rules_of(&facts(host))
    }

    /// The rules that hold for a device, in the order in which they decide: those of its product and
    /// those of other destinations, as far as its policies permit to connect with them.
    #[must_use]
    pub fn rules_of(&self, facts: &Facts) -> Vec<Rule> {
        let permitted = self.destinations(facts);
        let product = facts.product.as_ref();
        let mut rules = product
            .map(|product| self.fleet().rules(product))
            .unwrap_or_default();
        let own: BTreeSet<DestinationId> =
            rules.iter().map(|rule| rule.destination.clone()).collect();
        rules.retain(|rule| !rule.accepts || permitted.contains_key(&rule.destination));
        for other in permitted.keys().filter(|id| !own.contains(*id)) {
            rules.extend(self.fleet().rules_to(other));
        }
        rules
    }
}

/// All that policies see of a host. Containment is the gateway's own question.
#[must_use]
pub(crate) fn facts(host: &Host) -> Facts {
    Facts {
        principal: Principal::Device(host.device.clone()),
        product: Some(host.product.clone()),
        groups: host.groups.clone(),
        attributes: std::sync::Arc::default(),
        containment: None,
        assurance: Assurance::default(),
    }
}

/// What devices have in common: the same product and the same destinations permitted.
type Profile = (ProductId, BTreeSet<DestinationId>);

struct Writing<'a> {
    grants: &'a Grants,
    site: &'a Site,
    profiles: BTreeMap<Profile, usize>,
    /// By the number of their profile.
    chains: String,
    sets: Sets,
    owners: BTreeMap<IpAddr, &'a Host>,
    notes: BTreeSet<String>,
    silent: BTreeSet<ProductId>,
}

/// Sets of addresses and what is in them.
#[derive(Default)]
struct Sets {
    /// What declares each: name, type, flags.
    declared: Vec<(String, String)>,
    elements: BTreeMap<String, BTreeSet<String>>,
    of_names: BTreeMap<String, usize>,
    of_networks: BTreeMap<Vec<Network>, usize>,
}

impl<'a> Writing<'a> {
    fn new(grants: &'a Grants, site: &'a Site) -> Self {
        Self {
            grants,
            site,
            profiles: BTreeMap::new(),
            chains: String::new(),
            sets: Sets::default(),
            owners: BTreeMap::new(),
            notes: BTreeSet::new(),
            silent: BTreeSet::new(),
        }
    }

    fn add_host(&mut self, host: &'a Host) -> Result<(), String> {
        let number = self.profile(host);
        for address in &host.addresses {
            if let Some(other) = self.owners.insert(*address, host) {
                return Err(format!(
                    "{address} is listed for {} and for {}: correct the list of addresses",
                    other.device, host.device
                ));
            }
            let family = text::digit(*address);
            for way in ["from", "to"] {
                let element = format!("{address} : jump p{number}_{way}");
                self.sets.add(&format!("{way}{family}"), element);
            }
            match host.containment {
                Some(Containment::Isolated) => {
                    self.sets
                        .add(&format!("isolated{family}"), address.to_string());
                }
                Some(Containment::Quarantined) => {
                    self.sets
                        .add(&format!("quarantined{family}"), address.to_string());
                }
                None => {}
            }
            if let Some(mac) = host.mac {
                let mac = text::mac(mac);
                self.sets
                    .add(&format!("with_mac{family}"), address.to_string());
                self.sets
                    .add(&format!("bound{family}"), format!("{mac} . {address}"));
            }
        }
        if host.addresses.is_empty() {
            self.notes.insert(format!(
                "{} has no address: nothing is enforced for it",
                host.device
            ));
        }
        Ok(())
    }

    fn profile(&mut self, host: &'a Host) -> usize {
        let rules = self.grants.network_rules(host);
        let permitted = rules.iter().map(|rule| rule.destination.clone()).collect();
        let profile = (host.product.clone(), permitted);
        if let Some(number) = self.profiles.get(&profile) {
            return *number;
        }
        let number = self.profiles.len();
        self.profiles.insert(profile, number);
        if rules.is_empty() && self.silent.insert(host.product.clone()) {
            self.notes.insert(format!(
                "product {}: no destination is declared and permitted, so its devices reach nobody",
                host.product
            ));
        }
        let mut from = String::new();
        let mut to = String::new();
        for rule in rules.iter().filter(|rule| rule.bars_opening_by_other()) {
            let lines = self.lines(rule, host, opposite(rule.direction), "counter drop");
            match rule.direction {
                Direction::FromDevice => to.push_str(&lines),
                Direction::ToDevice => from.push_str(&lines),
            }
        }
        for rule in rules.iter().filter(|rule| !rule.is_for_answers()) {
            let verdict = match (rule.accepts, rule.direction) {
                (false, _) => "counter drop",
                (true, Direction::FromDevice) => "counter goto judged",
                (true, Direction::ToDevice) => "counter accept",
            };
            let lines = self.lines(rule, host, rule.direction, verdict);
            match rule.direction {
                Direction::FromDevice => from.push_str(&lines),
                Direction::ToDevice => to.push_str(&lines),
            }
        }
        for (way, lines) in [("from", from), ("to", to)] {
            let _ = write!(
                self.chains,
                "\t# product {}\n\tchain p{number}_{way} {{\n{lines}\t\tcounter drop\n\t}}\n",
                host.product
            );
        }
        number
    }

    /// A rule for each IP version that it can match, as seen by a packet that goes `way`.
    fn lines(&mut self, rule: &Rule, host: &Host, way: Direction, verdict: &str) -> String {
        let mut lines = String::new();
        let families = Family::ALL.into_iter();
        for family in families.filter(|family| rule.family.is_none_or(|only| only == *family)) {
            let Some(remote) = self.remote(rule, host, family, way) else {
                continue;
            };
            let packet = text::packet(rule, family, way);
            let comment = text::comment(&rule.name);
            let _ = writeln!(lines, "\t\t{remote}{packet}{verdict} comment \"{comment}\"");
        }
        lines
    }

    /// The condition on addresses; `None`: no address of this version is meant.
    fn remote(
        &mut self,
        rule: &Rule,
        host: &Host,
        family: Family,
        way: Direction,
    ) -> Option<String> {
        let header = text::header(family);
        let (theirs, ours) = match way {
            Direction::FromDevice => ("daddr", "saddr"),
            Direction::ToDevice => ("saddr", "daddr"),
        };
        let mut condition = String::new();
        for (side, network) in [(ours, rule.device_network), (theirs, rule.remote_network)] {
            match network {
                Some(network) if network.family() != family => return None,
                Some(network) => {
                    let _ = write!(condition, "{header} {side} {network} ");
                }
                None => {}
            }
        }
        if let Remote::Host(name) = &rule.remote {
            let set = self.sets.of_name(name, self.site, family);
            let _ = write!(condition, "{header} {theirs} @{set} ");
            return Some(condition);
        }
        let Some(mut networks) = self.site.addresses(&rule.remote, host) else {
            if condition.is_empty() {
                let _ = write!(
                    condition,
                    "meta nfproto ip{} ",
                    if family == Family::V4 { "v4" } else { "v6" }
                );
            }
            return Some(condition);
        };
        if networks.is_empty() {
            self.notes.insert(format!(
                "{}: {} has no address at this site, so {} is denied",
                host.product, rule.remote, rule.name
            ));
        }
        networks.retain(|network| network.family() == family);
        if networks.is_empty() {
            return None;
        }
        let set = self.sets.of_networks(networks, family);
        let _ = write!(condition, "{header} {theirs} @{set} ");
        Some(condition)
    }

    fn finish(mut self) -> Ruleset {
        self.add_site();
        let mut table = String::from(
            "table inet fleetward\ndelete table inet fleetward\ntable inet fleetward {\n",
        );
        for family in ["4", "6"] {
            let address = if family == "4" {
                "ipv4_addr"
            } else {
                "ipv6_addr"
            };
            for set in [
                "isolated",
                "quarantined",
                "with_mac",
                "resolvers",
                "gateways",
                "peers",
            ] {
                let _ = writeln!(table, "\tset {set}{family} {{ type {address}; }}");
            }
            let _ = writeln!(
                table,
                "\tset plane{family} {{ type {address} . inet_service; }}"
            );
            let _ = writeln!(
                table,
                "\tset bound{family} {{ type ether_addr . {address}; }}"
            );
            for way in ["from", "to"] {
                let _ = writeln!(table, "\tmap {way}{family} {{ type {address} : verdict; }}");
            }
        }
        // A set that names peers by networks needs intervals; these are declared as they are used.
        for (name, declaration) in &self.sets.declared {
            let _ = writeln!(table, "\tset {name} {{ {declaration} }}");
        }
        table.push_str(&self.base_chains());
        table.push_str(&self.chains);
        table.push_str("}\n");
        self.notes.insert(
            "devices on one link reach each other past a gateway: give each a link of its own, or \
             isolate the ports of its switch"
                .to_owned(),
        );
        let batches = self.sets.batches(table);
        if batches.len() > 1 {
            self.notes.insert(format!(
                "{} transactions, since one holds {BATCH_ELEMENTS_MAX} elements: until the last is in, \
                 devices that wait for theirs are {}",
                batches.len(),
                if self.site.interfaces.is_empty() { "not yet judged" } else { "denied" }
            ));
        }
        Ruleset {
            batches,
            notes: self.notes.into_iter().collect(),
        }
    }

    fn add_site(&mut self) {
        let site = self.site;
        for address in &site.resolvers {
            self.sets.add(
                &format!("resolvers{}", text::digit(*address)),
                address.to_string(),
            );
        }
        for address in &site.gateway {
            self.sets.add(
                &format!("gateways{}", text::digit(*address)),
                address.to_string(),
            );
            self.sets.add(
                &format!("peers{}", text::digit(*address)),
                address.to_string(),
            );
        }
        for door in &site.plane {
            let element = format!("{} . {}", door.ip(), door.port());
            self.sets
                .add(&format!("plane{}", text::digit(door.ip())), element);
        }
        for network in site.local.values().flatten() {
            // Whoever is a peer on the devices' own link is no unlisted device.
            if network.prefix() == Network::of_one(network.address()).prefix() {
                let family = text::digit(network.address());
                self.sets
                    .add(&format!("peers{family}"), network.address().to_string());
            }
        }
    }

    fn base_chains(&self) -> String {
        let icmpv6: Vec<String> = ICMPV6.iter().map(ToString::to_string).collect();
        let unlisted = if self.site.interfaces.is_empty() {
            String::new()
        } else {
            let names: Vec<String> = self
                .site
                .interfaces
                .iter()
                .map(|name| format!("\"{name}\""))
                .collect();
            let names = names.join(", ");
            format!(
                "\t\tiifname {{ {names} }} ip saddr @peers4 goto judged\n\
                 \t\tiifname {{ {names} }} ip6 saddr @peers6 goto judged\n\
                 \t\tiifname {{ {names} }} counter drop comment \"unlisted device\"\n"
            )
        };
        format!(
            "\tchain prerouting {{\n\
             \t\ttype filter hook prerouting priority -90; policy accept;\n\
             \t\tip saddr @with_mac4 ether saddr . ip saddr != @bound4 counter drop comment \"another interface\"\n\
             \t\tip6 saddr @with_mac6 ether saddr . ip6 saddr != @bound6 counter drop comment \"another interface\"\n\
             \t\tjump contained\n\
             \t\tct state established,related accept\n\
             \t\ticmpv6 type {{ {} }} accept\n\
             \t\tudp sport 68 udp dport 67 ip daddr 255.255.255.255 accept\n\
             \t\tudp sport 68 udp dport 67 ip daddr @gateways4 accept\n\
             \t\tudp sport 546 udp dport 547 ip6 daddr ff02::1:2 accept\n\
             \t\tudp sport 546 udp dport 547 ip6 daddr @gateways6 accept\n\
             \t\tmeta l4proto {{ tcp, udp }} th dport 53 ip daddr @resolvers4 accept\n\
             \t\tmeta l4proto {{ tcp, udp }} th dport 53 ip6 daddr @resolvers6 accept\n\
             \t\tip daddr . tcp dport @plane4 accept\n\
             \t\tip6 daddr . tcp dport @plane6 accept\n\
             \t\tip saddr vmap @from4\n\
             \t\tip6 saddr vmap @from6\n\
             {unlisted}\
             \t\tgoto judged\n\
             \t}}\n\
             \tchain output {{\n\
             \t\ttype filter hook output priority -90; policy accept;\n\
             \t\tjump contained\n\
             \t\tct state established,related accept\n\
             \t\ticmpv6 type {{ {} }} accept\n\
             \t\tudp sport 67 udp dport 68 accept\n\
             \t\tudp sport 547 udp dport 546 accept\n\
             \t\tgoto judged\n\
             \t}}\n\
             \tchain judged {{\n\
             \t\tip daddr vmap @to4\n\
             \t\tip6 daddr vmap @to6\n\
             \t\taccept\n\
             \t}}\n\
             \tchain contained {{\n\
             \t\tip saddr @isolated4 counter drop\n\
             \t\tip daddr @isolated4 counter drop\n\
             \t\tip6 saddr @isolated6 counter drop\n\
             \t\tip6 daddr @isolated6 counter drop\n\
             \t\tip saddr @quarantined4 goto to_plane\n\
             \t\tip6 saddr @quarantined6 goto to_plane\n\
             \t\tip daddr @quarantined4 goto from_plane\n\
             \t\tip6 daddr @quarantined6 goto from_plane\n\
             \t}}\n\
             \tchain to_plane {{\n\
             \t\tip daddr . tcp dport @plane4 accept\n\
             \t\tip6 daddr . tcp dport @plane6 accept\n\
             \t\tcounter drop\n\
             \t}}\n\
             \tchain from_plane {{\n\
             \t\tct state established ip saddr . tcp sport @plane4 accept\n\
             \t\tct state established ip6 saddr . tcp sport @plane6 accept\n\
             \t\tcounter drop\n\
             \t}}\n",
            icmpv6.join(", "),
            icmpv6.join(", "),
        )
    }
}

impl Sets {
    fn add(&mut self, set: &str, element: String) {
        self.elements
            .entry(set.to_owned())
            .or_default()
            .insert(element);
    }

    /// Whoever resolves for the site adds to it what the name means.
    fn of_name(&mut self, name: &str, site: &Site, family: Family) -> String {
        let number = self.of_names.get(name).copied();
        let number = number.unwrap_or_else(|| {
            let number = self.of_names.len();
            self.of_names.insert(name.to_owned(), number);
            for family in Family::ALL {
                let declaration = format!(
                    "type {}; flags timeout; timeout {NAME_TIMEOUT}; size {NAME_SET_SIZE}; comment \"{name:.120}\";",
                    text::address_type(family)
                );
                self.declared.push((name_set(number, family), declaration));
            }
            for address in site.names.get(name).into_iter().flatten() {
                self.add(&name_set(number, Family::of(*address)), address.to_string());
            }
            number
        });
        name_set(number, family)
    }

    fn of_networks(&mut self, networks: Vec<Network>, family: Family) -> String {
        let next = self.of_networks.len();
        let number = *self.of_networks.entry(networks.clone()).or_insert(next);
        let set = format!("r{number}_{}", text::family_digit(family));
        if number == next {
            let declaration = format!(
                "type {}; flags interval; auto-merge;",
                text::address_type(family)
            );
            self.declared.push((set.clone(), declaration));
            for network in networks {
                self.add(&set, network.to_string());
            }
        }
        set
    }

    /// The table with its elements behind it, cut where one transaction would grow too large. Those
    /// that cut off come first, then those by which a device is known.
    fn batches(self, table: String) -> Vec<String> {
        let rank = |set: &str| match set.trim_end_matches(['4', '6']) {
            "isolated" | "quarantined" => 0,
            "with_mac" | "bound" | "plane" => 1,
            "from" | "to" => 2,
            _ => 3,
        };
        let mut sets: Vec<(String, Vec<String>)> = (self.elements.into_iter())
            .map(|(set, elements)| (set, elements.into_iter().collect()))
            .collect();
        sets.sort_by_key(|(set, _)| rank(set));
        let mut batches = vec![table];
        let mut room = BATCH_ELEMENTS_MAX;
        for (set, elements) in sets {
            for line in elements.chunks(LINE_ELEMENTS_MAX) {
                if line.len() > room {
                    batches.push(String::new());
                    room = BATCH_ELEMENTS_MAX;
                }
                room -= line.len();
                if let Some(batch) = batches.last_mut() {
                    let _ = writeln!(
                        batch,
                        "add element inet fleetward {set} {{ {} }}",
                        line.join(", ")
                    );
                }
            }
        }
        batches
    }
}

fn name_set(number: usize, family: Family) -> String {
    format!("n{number}_{}", text::family_digit(family))
}

const fn opposite(way: Direction) -> Direction {
    match way {
        Direction::FromDevice => Direction::ToDevice,
        Direction::ToDevice => Direction::FromDevice,
    }
}

/// Of the protocols with ports.
const fn protocol_name(number: u8) -> Option<&'static str> {
    match number {
        protocol::TCP => Some("tcp"),
        protocol::UDP => Some("udp"),
        _ => None,
    }
}
