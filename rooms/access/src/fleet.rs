//! `fleet/` as text → a fleet in which every name that is used is declared.

use crate::attestation::Attestation;
use crate::behaviour::{Behaviour, Destination, DestinationId};
use crate::contract::Contract;
use crate::declared::{self, Declared};
use crate::diagnostic::{Diagnostic, Place, SourceFile};
use crate::invariant::{self, Invariant};
use crate::mud::Mud;
use crate::policy::{self, Policy};
use crate::template::{Slots, Template, is_name};
use model::{
    AttributeId, AttributeValue, AuthorityId, DeviceId, Digest, GroupId, PolicyId, ProductId,
    ServiceId,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is accepted at most, so that hostile or broken text costs bounded time and memory.
pub(crate) mod caps {
    pub const FILES: usize = 1000;
    pub const FILE_BYTES: usize = 256 * 1024;
    pub const ALL_BYTES: usize = 4 * 1024 * 1024;
    pub const GROUPS: usize = 2000;
    pub const PRODUCTS: usize = 1000;
    pub const SERVICES: usize = 1000;
    pub const CHANNELS: usize = 1000;
    pub const DESTINATIONS: usize = 1000;
    pub const POLICIES: usize = 1000;
    pub const INVARIANTS: usize = 100;
    /// What the automata of all schemas' patterns take in memory.
    pub const AUTOMATON_BYTES: usize = 32 * 1024 * 1024;
    pub const DIAGNOSTICS: usize = 100;
}

/// A fleet as code: parsed, checked as a whole, immutable. Cheap to clone.
#[derive(Clone)]
pub struct Fleet(Arc<Contents>);

struct Contents {
    digest: Digest,
    name: String,
    groups: BTreeMap<GroupId, Group>,
    products: BTreeMap<ProductId, Product>,
    services: BTreeMap<ServiceId, Service>,
    destinations: BTreeMap<DestinationId, Destination>,
    /// By id.
    channels: Vec<Channel>,
    /// By id.
    policies: Vec<Policy>,
    /// By id.
    invariants: Vec<Invariant>,
}

/// A set of devices and services that policies name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub id: GroupId,
    /// The groups that contain it. Never itself, directly or not.
    pub parents: Vec<GroupId>,
}

/// A kind of device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    pub id: ProductId,
    /// How long a certificate of its devices is valid (30 days if not declared).
    pub ldevid_lifetime: Duration,
    /// How long a superseded certificate still opens doors after its successor has opened one
    /// (24 hours if not declared); `None`: until it ends by itself.
    pub rotation_overlap: Option<Duration>,
    /// The issuing CA of its devices; the standard one if not declared.
    pub authority: Option<AuthorityId>,
    /// How its devices come by a certificate.
    pub enrollment: Enrollment,
    /// How they may call themselves in MQTT.
    pub client_ids: ClientIds,
    /// What its devices are expected to do in the network.
    pub behaviour: Behaviour,
    /// What their manufacturer's file says; its destinations are among those of `behaviour`.
    pub mud: Option<Mud>,
    /// What they must attest; `None`: nothing is known of how they should start.
    pub attestation: Option<Attestation>,
}

/// How a principal may call itself in MQTT. Sessions are each principal's own whatever it says, so
/// none takes another's; but what a client identifier says is read in logs and by other programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientIds {
    /// By its name, or its name and a colon with more behind it.
    #[default]
    Own,
    /// By anything that its name is part of.
    Containing,
    /// By anything.
    Free,
}

impl ClientIds {
    /// Whether somebody of this name may call itself so.
    #[must_use]
    pub fn permit(self, name: &str, client_id: &str) -> bool {
        match self {
            Self::Own => (client_id.strip_prefix(name))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(':')),
            Self::Containing => client_id.contains(name),
            Self::Free => !client_id.is_empty(),
        }
    }
}

/// How devices of a product come by a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Enrollment {
    /// A person approves each enrollment by a factory identity, listed or not.
    pub needs_approval: bool,
    /// The one kind of key that is certified; `None`: any that is good enough.
    pub key: Option<LdevidKey>,
    /// The plane may make the key for a device that cannot (EST serverkeygen).
    pub server_keygen: bool,
    /// How long after its end a certificate still gets its device the next one, at a place of its
    /// own. Zero: not at all.
    pub renewal_grace: Duration,
    /// How long its devices may lie in a box or be switched off. Decides nothing: a plan warns where
    /// a device would need its first identity again afterwards.
    pub expected_off_time: Duration,
}

/// Kinds of keys that a product can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LdevidKey {
    #[serde(rename = "p256")]
    P256,
    #[serde(rename = "p384")]
    P384,
    Ed25519,
}

/// Distinct devices that a service may speak to in a minute if its fleet does not say otherwise.
pub const FAN_OUT_PER_MINUTE: u32 = 600;

/// A back-end program that may speak to devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub id: ServiceId,
    pub groups: Vec<GroupId>,
    /// It may tell the plane what it saw devices do in the network.
    pub observes_network: bool,
    /// It may say whose a device is.
    pub speaks_for_owners: bool,
    /// Distinct devices to which it may publish in a minute.
    pub fan_out_per_minute: u32,
    /// Names of shared subscriptions that it may join.
    pub shares: Vec<String>,
}

/// Topics of one purpose: who owns them, which way they flow, and what a message may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    pub id: ChannelId,
    pub template: Template,
    pub direction: Direction,
    /// Of one message's payload.
    pub payload_bytes_max: u32,
    /// Messages of one publisher in this channel; `None` is unlimited by the channel.
    pub rate_per_minute: Option<u32>,
    /// Topics of this channel that may have a retained message; 0: none is kept.
    pub retained_max: u32,
    /// How long a retained message is kept.
    pub retained_days: u32,
    /// What its payloads must be; `None`: anything of that size.
    pub contract: Option<Contract>,
    /// Distinct devices that one caller of the API may command here in a minute; more wait for a
    /// second person.
    pub fan_out_per_minute: u32,
    /// Of a to-device channel: where devices answer its commands.
    pub response: Option<ChannelId>,
}

/// A channel's name. The grammar is that of all names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(Arc<str>);

/// Which way the messages of a channel flow. A word for people and policies: what flows is what
/// policies permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    FromDevice,
    ToDevice,
}

impl Fleet {
    /// Reads a whole `fleet/`, in whatever order the files come.
    ///
    /// # Errors
    /// What is wrong, by file and line; at most 100, the first ones. Sizes and paths are looked at
    /// first, then fleet.toml, then the other TOML files, then the policies; each only if all
    /// before is right, since one wrong name would make many of the following wrong.
    pub fn read(files: &[SourceFile]) -> Result<Self, Vec<Diagnostic>> {
        let mut wrong = check_files(files);
        if !wrong.is_empty() {
            return Err(in_order(wrong));
        }
        let declared = declared::read(files, &mut wrong);
        if !wrong.is_empty() {
            // What could not be read would be called unknown in every policy that names it.
            return Err(in_order(wrong));
        }
        let policies = policy::read(files, &declared, &mut wrong);
        let invariants = invariant::read(files, &declared, &mut wrong);
        if !wrong.is_empty() {
            return Err(in_order(wrong));
        }
        let Declared {
            name,
            groups,
            products,
            services,
            destinations,
            channels,
        } = declared;
        Ok(Self(Arc::new(Contents {
            digest: digest(files),
            name,
            groups,
            products,
            services,
            destinations,
            channels: channels.into_values().collect(),
            policies,
            invariants,
        })))
    }

    /// A fleet that declares nothing.
    pub(crate) fn empty() -> Self {
        Self(Arc::new(Contents {
            digest: digest(&[]),
            name: String::new(),
            groups: BTreeMap::new(),
            products: BTreeMap::new(),
            services: BTreeMap::new(),
            destinations: BTreeMap::new(),
            channels: Vec::new(),
            policies: Vec::new(),
            invariants: Vec::new(),
        }))
    }

    /// SHA-256 over the paths and texts of its files, whatever order they came in.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.0.groups.values()
    }

    pub fn products(&self) -> impl Iterator<Item = &Product> {
        self.0.products.values()
    }

    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.0.services.values()
    }

    /// By id.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.0.channels.iter()
    }

    /// By id.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        self.0.destinations.values()
    }

    #[must_use]
    pub fn destination(&self, id: &DestinationId) -> Option<&Destination> {
        self.0.destinations.get(id)
    }

    /// The ids of its policies, sorted.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyId> {
        self.0.policies.iter().map(|policy| &policy.id)
    }

    #[must_use]
    pub fn product(&self, id: &ProductId) -> Option<&Product> {
        self.0.products.get(id)
    }

    #[must_use]
    pub fn group(&self, id: &GroupId) -> Option<&Group> {
        self.0.groups.get(id)
    }

    #[must_use]
    pub fn channel(&self, id: &ChannelId) -> Option<&Channel> {
        let at = self.0.channels.binary_search_by(|one| one.id.cmp(id));
        self.0.channels.get(at.ok()?)
    }

    #[must_use]
    pub fn service(&self, id: &ServiceId) -> Option<&Service> {
        self.0.services.get(id)
    }

    /// Whether a channel names attributes in its topic.
    #[must_use]
    pub fn has_attribute_slots(&self) -> bool {
        self.0
            .channels
            .iter()
            .any(|one| one.template.has_attributes())
    }

    /// Devices that would own the same topics of a channel, as (channel, one, another): their
    /// attributes are equal where the channel's template tells owners apart by nothing else. The
    /// first ten.
    #[must_use]
    pub fn shared_topics<'d>(
        &self,
        devices: impl Iterator<Item = (&'d DeviceId, &'d [(AttributeId, AttributeValue)])> + Clone,
    ) -> Vec<(ChannelId, DeviceId, DeviceId)> {
        const TOLD_MAX: usize = 10;
        let mut shared = Vec::new();
        let templates = self
            .0
            .channels
            .iter()
            .filter(|one| one.template.has_attributes());
        for channel in templates {
            let mut owners: HashMap<Vec<&str>, &DeviceId> = HashMap::new();
            for (device, attributes) in devices.clone() {
                let slots = Slots {
                    device: device.as_str(),
                    attributes,
                };
                let Some(key) = channel.template.shared_slots(slots) else {
                    continue;
                };
                let owner = *owners.entry(key).or_insert(device);
                if owner != device && shared.len() < TOLD_MAX {
                    shared.push((channel.id.clone(), owner.clone(), device.clone()));
                }
            }
        }
        shared
    }

    /// With a policy that reading would have refused.
    #[cfg(test)]
    pub(crate) fn with_policy(self, policy: Policy) -> Self {
        let mut contents = Arc::into_inner(self.0).unwrap();
        contents.policies.push(policy);
        Self(Arc::new(contents))
    }

    pub(crate) fn channel_list(&self) -> &[Channel] {
        &self.0.channels
    }

    pub(crate) fn policy_list(&self) -> &[Policy] {
        &self.0.policies
    }

    pub(crate) fn invariant_list(&self) -> &[Invariant] {
        &self.0.invariants
    }

    /// `groups` and all that contain them.
    pub(crate) fn ancestors<'a>(
        &'a self,
        groups: impl IntoIterator<Item = &'a GroupId>,
    ) -> BTreeSet<&'a GroupId> {
        let mut found = BTreeSet::new();
        let mut next: Vec<&GroupId> = groups.into_iter().collect();
        while let Some(group) = next.pop() {
            if found.insert(group)
                && let Some(group) = self.0.groups.get(group)
            {
                next.extend(&group.parents);
            }
        }
        found
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fleet({} {})", self.0.name, self.0.digest)
    }
}

impl ChannelId {
    /// `None` if the text is no name.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        is_name(text).then(|| Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel({})", self.0)
    }
}

impl Direction {
    pub const ALL: [Self; 2] = [Self::FromDevice, Self::ToDevice];

    /// The word in `fleet/` and in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromDevice => "from-device",
            Self::ToDevice => "to-device",
        }
    }
}

/// Which part of `fleet/` a file is, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Fleet,
    Products,
    Services,
    Channels,
    Destinations,
    /// What payloads must be, for channels to name.
    Schemas,
    Policies,
    /// What must hold, whatever policies say.
    Invariants,
    /// What to do when something is wrong: not read here, but part of what is applied.
    Playbooks,
    /// A manufacturer's usage description, its signature, or whom such signatures are believed of.
    Mud,
}

pub(crate) fn part_of(path: &str) -> Option<Part> {
    if path == "fleet.toml" {
        return Some(Part::Fleet);
    }
    if path == "invariants.toml" {
        return Some(Part::Invariants);
    }
    let (folder, file) = path.split_once('/')?;
    let (stem, extension) = file.rsplit_once('.')?;
    if !is_name(stem) {
        return None;
    }
    match (folder, extension) {
        ("products", "toml") => Some(Part::Products),
        ("services", "toml") => Some(Part::Services),
        ("channels", "toml") => Some(Part::Channels),
        ("destinations", "toml") => Some(Part::Destinations),
        ("playbooks", "toml") => Some(Part::Playbooks),
        ("schemas", "json") => Some(Part::Schemas),
        ("policies", "cedar") => Some(Part::Policies),
        ("mud", "json" | "p7s" | "pem") => Some(Part::Mud),
        _ => None,
    }
}

/// Sizes and paths, before any text is looked at.
fn check_files(files: &[SourceFile]) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    let all_bytes: usize = files.iter().map(|file| file.text.len()).sum();
    let whole = Place {
        path: "fleet.toml",
        text: "",
        offset: 0,
    };
    if files.len() > caps::FILES || all_bytes > caps::ALL_BYTES {
        let message = format!(
            "fleet/ has {} files and {all_bytes} bytes; at most {} files and {} bytes are read",
            files.len(),
            caps::FILES,
            caps::ALL_BYTES
        );
        let help = String::from("is this the right folder?");
        return vec![Diagnostic::new(whole, message, help)];
    }
    let mut paths = BTreeSet::new();
    for file in files {
        let place = Place::start_of(file);
        if part_of(&file.path).is_none() {
            wrong.push(Diagnostic::new(
                place,
                "this file is no part of a fleet",
                String::from(
                    "fleet/ holds fleet.toml, invariants.toml, products/*.toml, services/*.toml, channels/*.toml, \
                     destinations/*.toml, schemas/*.json, playbooks/*.toml, policies/*.cedar and \
                     mud/*.json, *.p7s, *.pem, and nothing else; \
                     keep notes as comments in these",
                ),
            ));
        }
        if file.text.len() > caps::FILE_BYTES {
            wrong.push(Diagnostic::new(
                place,
                format!("a file has at most {} bytes", caps::FILE_BYTES),
                String::from("split it; in a folder the names of files are free"),
            ));
        }
        if !paths.insert(&file.path) {
            wrong.push(Diagnostic::new(
                place,
                "the same path was given twice",
                String::from("leave one of the two out"),
            ));
        }
    }
    if !paths.iter().any(|path| *path == "fleet.toml") {
        wrong.push(Diagnostic::new(
            whole,
            "fleet/ has no fleet.toml",
            String::from("write one with at least: name = \"my-fleet\""),
        ));
    }
    wrong
}

fn digest(files: &[SourceFile]) -> Digest {
    let mut sorted: Vec<&SourceFile> = files.iter().collect();
    sorted.sort_by(|left, right| left.path.cmp(&right.path));
    let mut hash = Sha256::new("fleetward fleet");
    for file in sorted {
        hash.update(&file.path);
        hash.update(&file.text);
    }
    hash.finish()
}

/// SHA-256 over texts, each with its length before it, so that no two lists look alike.
pub(crate) struct Sha256(aws_lc_rs::digest::Context);

impl Sha256 {
    pub(crate) fn new(purpose: &str) -> Self {
        let mut hash = Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256));
        hash.update(purpose);
        hash
    }

    pub(crate) fn update(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
    }

    pub(crate) fn finish(self) -> Digest {
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(self.0.finish().as_ref()) {
            *to = *from;
        }
        Digest(digest)
    }
}

/// Sorted by place, without repetition, cut to the cap.
fn in_order(mut wrong: Vec<Diagnostic>) -> Vec<Diagnostic> {
    wrong.sort();
    wrong.dedup();
    wrong.truncate(caps::DIAGNOSTICS);
    wrong
}
