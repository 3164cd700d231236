//! A manufacturer's usage description (MUD, RFC 8520) → rules, and what of it no rule can hold.
//!
//! A node that is not known is refused where it would say something about the whole file, and
//! costs its entry where it narrows one: an entry that were read without it would let through more
//! than was meant. So every entry becomes a rule or one of [`Unenforced`].

mod entry;
mod json;
mod out;
mod signature;

pub use out::write_mud;
pub use signature::{SignatureRefusal, check_mud_signatures, verify_signature};

use crate::behaviour::{Destination, DestinationId};
use crate::diagnostic::{Diagnostic, Place, SourceFile};
use crate::fleet::Direction;
use crate::network::{Remote, Rule, authority, protocol};
use json::{Json, Key, bare};
use model::{ProductId, Protocol};
use std::collections::{BTreeMap, BTreeSet};

/// RFC 8520 names no size; files that are seen have 5 to 95 kB.
const FILE_BYTES_MAX: usize = 128 * 1024;
const ENTRIES_MAX: usize = 1000;
const URL_BYTES_MAX: usize = 253;
const NAME_CHARACTERS_MAX: usize = 64;

/// What a file says of a product's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mud {
    /// Where it stands in `fleet/`.
    pub path: String,
    pub url: String,
    /// In the order in which they decide.
    pub rules: Vec<Rule>,
    pub unenforced: Vec<Unenforced>,
}

/// An entry that no rule of ours holds: what it permits stays denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unenforced {
    pub entry: String,
    pub line: u32,
    pub why: String,
}

const NODES: [&str; 15] = [
    "mud-version",
    "mud-url",
    "mud-signature",
    "last-update",
    "cache-validity",
    "is-supported",
    "systeminfo",
    "mfg-name",
    "model-name",
    "firmware-rev",
    "software-rev",
    "documentation",
    "extensions",
    "from-device-policy",
    "to-device-policy",
];

/// Reads the file of a product; what is wrong with it as a whole is added to `wrong`.
pub(crate) fn read(
    file: &SourceFile,
    product: &ProductId,
    wrong: &mut Vec<Diagnostic>,
) -> Option<Mud> {
    let text = Text { file };
    text.read(product)
        .map_err(|refusal| wrong.push(refusal))
        .ok()
}

/// The destinations that its rules name, with what of them can be said as ports.
pub(crate) fn destinations(rules: &[Rule]) -> Vec<Destination> {
    let mut found: BTreeMap<&DestinationId, Destination> = BTreeMap::new();
    for rule in rules {
        let destination = found
            .entry(&rule.destination)
            .or_insert_with(|| Destination {
                id: rule.destination.clone(),
                remote: rule.remote.clone(),
                ports: Some(Vec::new()),
                protocol: transport(rule.protocol),
            });
        if rule.direction != Direction::FromDevice {
            continue;
        }
        match (rule.remote_ports, &mut destination.ports) {
            (crate::network::Ports::Range(from, to), Some(ports)) if from == to => {
                if !ports.contains(&from) {
                    ports.push(from);
                }
            }
            _ => destination.ports = None,
        }
    }
    found.into_values().collect()
}

fn transport(number: Option<u8>) -> Option<Protocol> {
    match number {
        Some(protocol::TCP) => Some(Protocol::Tcp),
        Some(protocol::UDP) => Some(Protocol::Udp),
        _ => None,
    }
}

struct Text<'a> {
    file: &'a SourceFile,
}

/// The lists of entries by their names.
type Lists<'j> = BTreeMap<&'j str, &'j Json>;

impl Text<'_> {
    fn read(&self, product: &ProductId) -> Result<Mud, Diagnostic> {
        if self.file.text.len() > FILE_BYTES_MAX {
            return Err(self.refuse(0, format!("a MUD file has at most {FILE_BYTES_MAX} bytes")));
        }
        let whole = json::read(&self.file.text).map_err(|error| {
            let lines = self.file.text.split_inclusive('\n');
            let before: usize = lines
                .take(error.line().saturating_sub(1))
                .map(str::len)
                .sum();
            self.refuse(
                before + error.column().saturating_sub(1),
                format!("this is no JSON: {error}"),
            )
        })?;
        let mut others = whole.members().into_iter().flatten().map(|(key, _)| key);
        let known = |key: &&Key| {
            let name: &str = key;
            matches!(
                name,
                "ietf-mud:mud"
                    | "ietf-access-control-list:acls"
                    // As drafts before RFC 8519 had it, and as files in use still have it.
                    | "ietf-access-control-list:access-lists"
            )
        };
        if let Some(other) = others.find(|key| !known(key)) {
            return Err(self.unknown(other));
        }
        let mud = (whole.member("mud"))
            .ok_or_else(|| self.refuse(whole.at, "there is no ietf-mud:mud in it".to_owned()))?;
        let url = self.head(mud)?;
        let lists = self.lists(&whole)?;
        let mut reading = Reading {
            text: self,
            product,
            names: BTreeMap::new(),
            mud: Mud {
                path: self.file.path.clone(),
                url,
                rules: Vec::new(),
                unenforced: Vec::new(),
            },
            count: 0,
        };
        let mut used = BTreeSet::new();
        for (policy, direction) in [
            ("from-device-policy", Direction::FromDevice),
            ("to-device-policy", Direction::ToDevice),
        ] {
            for named in self.named(mud, policy)? {
                let name = named.text().unwrap_or_default();
                let list = lists.get(name).ok_or_else(|| {
                    let message = format!("{policy} names {name:?}, and no list is called so");
                    self.refuse(named.at, message)
                })?;
                used.insert(name);
                reading.read_list(list, direction)?;
            }
        }
        for (name, list) in lists.iter().filter(|(name, _)| !used.contains(*name)) {
            reading.leave_out(list, &format!("no policy names its list {name:?}"))?;
        }
        Ok(reading.mud)
    }

    /// Everything but the lists; its URL.
    fn head(&self, mud: &Json) -> Result<String, Diagnostic> {
        let mut members = mud.members().into_iter().flatten().map(|(key, _)| key);
        if let Some(other) = members.find(|key| !NODES.contains(&bare(key))) {
            return Err(self.unknown(other));
        }
        let version = mud.member("mud-version");
        if version.and_then(|version| version.number(255)) != Some(1) {
            let at = version.unwrap_or(mud).at;
            return Err(self.refuse(at, "only mud-version 1 is known".to_owned()));
        }
        let extensions = mud.member("extensions");
        if let Some(list) = extensions.filter(|list| list.list() != Some(&[])) {
            let message = "it uses extensions, and none is known here".to_owned();
            return Err(self.refuse(list.at, message));
        }
        let url = mud
            .member("mud-url")
            .and_then(Json::text)
            .unwrap_or_default();
        let is_plain =
            url.len() <= URL_BYTES_MAX && url.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain || authority(url).is_none() {
            let message = format!("mud-url is an https URL of at most {URL_BYTES_MAX} characters");
            let at = mud.member("mud-url").unwrap_or(mud).at;
            return Err(self.refuse(at, message));
        }
        Ok(url.to_owned())
    }

    fn lists<'j>(&self, whole: &'j Json) -> Result<Lists<'j>, Diagnostic> {
        let container = whole
            .member("acls")
            .or_else(|| whole.member("access-lists"));
        let lists = container.and_then(|container| self.only(container, "acl"));
        let lists = lists.and_then(Json::list).ok_or_else(|| {
            let message = "there are no ietf-access-control-list:acls in it".to_owned();
            self.refuse(container.unwrap_or(whole).at, message)
        })?;
        let mut found = Lists::new();
        for list in lists {
            let name = list.member("name").and_then(Json::text).unwrap_or_default();
            if name.is_empty() || found.insert(name, list).is_some() {
                let message = "each list has a name of its own".to_owned();
                return Err(self.refuse(place_of(list), message));
            }
        }
        Ok(found)
    }

    /// The names of the lists of a policy, which are texts.
    fn named<'j>(&self, mud: &'j Json, policy: &str) -> Result<Vec<&'j Json>, Diagnostic> {
        let Some(container) = mud.member(policy) else {
            return Ok(Vec::new());
        };
        let lists = (self.only(container, "access-lists"))
            .and_then(|lists| self.only(lists, "access-list"))
            .and_then(Json::list);
        let name = |list: &'j Json| self.only(list, "name").filter(|name| name.text().is_some());
        let names = lists.and_then(|lists| lists.iter().map(name).collect());
        names.ok_or_else(|| {
            let message = format!("{policy} is no list of access lists by their names");
            self.refuse(container.at, message)
        })
    }

    /// The one member that an object has.
    fn only<'j>(&self, object: &'j Json, name: &str) -> Option<&'j Json> {
        object
            .member(name)
            .filter(|_| object.members().is_some_and(|all| all.len() == 1))
    }

    fn unknown(&self, node: &Key) -> Diagnostic {
        let name: &str = node;
        let message = format!("the node {name:?} is not known: what it means cannot be enforced");
        self.refuse(node.at, message)
    }

    fn refuse(&self, offset: usize, message: String) -> Diagnostic {
        let place = Place::in_file(self.file, offset..offset);
        let help = "a manufacturer's file is not corrected here: ask for another, or declare \
                    destinations instead of mud";
        Diagnostic::new(place, message, String::from(help))
    }
}

struct Reading<'a> {
    text: &'a Text<'a>,
    product: &'a ProductId,
    names: BTreeMap<(Remote, Option<Protocol>), DestinationId>,
    mud: Mud,
    count: usize,
}

impl Reading<'_> {
    fn read_list(&mut self, list: &Json, direction: Direction) -> Result<(), Diagnostic> {
        let kind = list.member("type").and_then(Json::text).unwrap_or_default();
        for entry in self.entries(list)? {
            self.count += 1;
            if self.count > ENTRIES_MAX {
                let message = format!("a MUD file has at most {ENTRIES_MAX} entries");
                return Err(self.text.refuse(entry.at, message));
            }
            match entry::read(entry, bare(kind), direction) {
                Ok(read) => {
                    let destination = self.destination(&read.remote, read.protocol);
                    let rule = read.into_rule(destination, name_of(entry), direction);
                    self.mud.rules.push(rule);
                }
                // What follows a refusal that cannot be made might pass where it must not.
                Err(why) if entry::refuses(entry) => {
                    let message = format!(
                        "{}: {why}, and it refuses what later entries permit",
                        name_of(entry)
                    );
                    return Err(self.text.refuse(place_of(entry), message));
                }
                Err(why) => self.unenforced(entry, why),
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, list: &Json, why: &str) -> Result<(), Diagnostic> {
        for entry in self.entries(list)? {
            self.unenforced(entry, why.to_owned());
        }
        Ok(())
    }

    fn entries<'j>(&self, list: &'j Json) -> Result<&'j [Json], Diagnostic> {
        let members = list.members().unwrap_or_default();
        if let Some((other, _)) = members
            .iter()
            .find(|(key, _)| !matches!(bare(key), "name" | "type" | "aces"))
        {
            return Err(self.text.unknown(other));
        }
        let container = list.member("aces");
        let entries = container.and_then(|container| self.text.only(container, "ace"));
        let entries = entries.and_then(Json::list);
        entries.ok_or_else(|| {
            let name = list.member("name").and_then(Json::text).unwrap_or_default();
            let message = format!("the list {name:?} has no entries");
            self.text.refuse(place_of(list), message)
        })
    }

    fn unenforced(&mut self, entry: &Json, why: String) {
        let name = name_of(entry);
        let place = self.text.refuse(place_of(entry), String::new());
        self.mud.unenforced.push(Unenforced {
            entry: name,
            line: place.line,
            why: crate::diagnostic::printable(&why),
        });
    }

    /// One name for what is reached by one protocol: `camera.mud-3`.
    fn destination(&mut self, remote: &Remote, number: Option<u8>) -> DestinationId {
        let next = self.names.len() + 1;
        let product: String = self.product.as_str().chars().take(48).collect();
        (self.names.entry((remote.clone(), transport(number))))
            .or_insert_with(|| DestinationId::of_mud(&product, next))
            .clone()
    }
}

/// Where the name of a list or an entry is, or else it itself.
fn place_of(named: &Json) -> usize {
    named.member("name").unwrap_or(named).at
}

fn name_of(entry: &Json) -> String {
    let name = entry
        .member("name")
        .and_then(Json::text)
        .unwrap_or("unnamed");
    crate::diagnostic::printable(name)
        .chars()
        .take(NAME_CHARACTERS_MAX)
        .collect()
}
