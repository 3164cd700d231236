//! The TOML half of `fleet/`: groups, destinations, products, services and channels.
//!
//! In each folder every top-level table declares one thing and its name is the thing's id; how
//! they are spread over files is free.

use crate::attestation::AttestationTable;
use crate::behaviour::{self, BehaviourTable, Destination, DestinationId};
use crate::contract::{self, Contract, Encoding, Schema};
use crate::diagnostic::{Diagnostic, Place, SourceFile, help_with, nearest};
use crate::fleet::{
    Channel, ChannelId, ClientIds, Direction, Enrollment, FAN_OUT_PER_MINUTE, Group, LdevidKey,
    Part, Product, Service, caps, part_of,
};
use crate::mud::{self, Mud};
use crate::template::Template;
use model::{AuthorityId, GroupId, ProductId, ServiceId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

pub(crate) const NAME: &str = "use 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or a digit";
pub(crate) const LDEVID_LIFETIME_DAYS: u32 = 30;
pub(crate) const LDEVID_LIFETIME_DAYS_MAX: u32 = 3650;
pub(crate) const ROTATION_OVERLAP_HOURS: u32 = 24;
pub(crate) const ROTATION_OVERLAP_HOURS_MAX: u32 = 8760;
/// Longer than that a device is out of sight, and a person should look at it.
pub(crate) const RENEWAL_GRACE_DAYS_MAX: u32 = 365;
pub(crate) const EXPECTED_OFF_DAYS_MAX: u32 = 3650;
pub(crate) const PAYLOAD_BYTES_MAX: u32 = 16 * 1024 * 1024;
pub(crate) const RATE_PER_MINUTE_MAX: u32 = 1_000_000;
/// The gateway remembers each of these devices for a minute, 16 bytes each.
pub(crate) const FAN_OUT_PER_MINUTE_MAX: u32 = 100_000;
pub(crate) const RETAINED_MAX: u32 = 1_000_000;
pub(crate) const RETAINED_DAYS: u32 = 30;
pub(crate) const RETAINED_DAYS_MAX: u32 = 3650;
pub(crate) const SHARES_MAX: usize = 16;

/// A product is the label in `/.well-known/est/<product>/<operation>` (RFC 7030 section 3.2.2), so
/// it is called neither as an operation nor as the label of those who return.
const LABELS_TAKEN: [&str; 7] = [
    "cacerts",
    "simpleenroll",
    "simplereenroll",
    "serverkeygen",
    "csrattrs",
    "fullcmc",
    "returning",
];

/// What the TOML files declare.
#[derive(Default)]
pub(crate) struct Declared {
    pub name: String,
    pub groups: BTreeMap<GroupId, Group>,
    pub products: BTreeMap<ProductId, Product>,
    pub services: BTreeMap<ServiceId, Service>,
    pub destinations: BTreeMap<DestinationId, Destination>,
    pub channels: BTreeMap<ChannelId, Channel>,
}

/// Reads all TOML files; what is wrong is added to `wrong`.
pub(crate) fn read(files: &[SourceFile], wrong: &mut Vec<Diagnostic>) -> Declared {
    let mut declared = Declared::default();
    // Groups first: the others name them.
    for file in files
        .iter()
        .filter(|file| part_of(&file.path) == Some(Part::Fleet))
    {
        declared.read_fleet(file, wrong);
    }
    if !wrong.is_empty() {
        // All the groups that others name would be called unknown.
        return declared;
    }
    // Destinations next: products name them.
    for file in files
        .iter()
        .filter(|file| part_of(&file.path) == Some(Part::Destinations))
    {
        behaviour::read_destinations(file, &mut declared.destinations, wrong);
    }
    if !wrong.is_empty() {
        return declared;
    }
    let schemas = read_schemas(files, wrong);
    if !wrong.is_empty() {
        return declared;
    }
    let mut places = BTreeMap::new();
    for file in files {
        match part_of(&file.path) {
            Some(Part::Products) => declared.read_products(file, files, wrong),
            Some(Part::Services) => declared.read_services(file, wrong),
            Some(Part::Channels) => declared.read_channels(file, &schemas, &mut places, wrong),
            _ => {}
        }
    }
    check_named(&declared, files, wrong);
    check_disjoint(&declared.channels, &places, wrong);
    check_responses(&declared.channels, &places, wrong);
    declared.check_counts(wrong);
    declared
}

/// The file of a product's manufacturer.
fn mud_of(
    product: &ProductId,
    path: &Spanned<String>,
    named_in: &SourceFile,
    files: &[SourceFile],
    wrong: &mut Vec<Diagnostic>,
) -> Option<Mud> {
    let is_json =
        |file: &&SourceFile| part_of(&file.path) == Some(Part::Mud) && file.path.ends_with(".json");
    let file = files
        .iter()
        .filter(is_json)
        .find(|file| file.path == *path.get_ref());
    let Some(file) = file else {
        wrong.push(Diagnostic::new(
            Place::in_file(named_in, path.span()),
            format!("{:?} is not there", path.get_ref()),
            String::from("write for example \"mud/camera.json\", and put the file there"),
        ));
        return None;
    };
    mud::read(file, product, wrong)
}

/// A file that no product names would be believed to be in force.
fn check_named(declared: &Declared, files: &[SourceFile], wrong: &mut Vec<Diagnostic>) {
    if !wrong.is_empty() {
        return;
    }
    for file in files
        .iter()
        .filter(|file| part_of(&file.path) == Some(Part::Mud))
    {
        let Some((stem, extension)) = file.path.rsplit_once('.') else {
            continue;
        };
        let json = format!("{stem}.json");
        let muds = declared
            .products
            .values()
            .filter_map(|product| product.mud.as_ref());
        if extension != "pem" && !muds.into_iter().any(|mud| mud.path == json) {
            wrong.push(Diagnostic::new(
                Place::start_of(file),
                "no product names it",
                format!("write mud = \"{json}\" in the product it is of"),
            ));
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetFile {
    name: Spanned<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(default)]
    groups: BTreeMap<Spanned<String>, GroupTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupTable {
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(default, rename = "in")]
    parents: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProductTable {
    #[serde(rename = "description")]
    _description: Option<String>,
    ldevid_lifetime_days: Option<Spanned<u32>>,
    rotation_overlap_hours: Option<Spanned<u32>>,
    #[serde(default = "yes")]
    revoke_superseded: bool,
    ca: Option<Spanned<String>>,
    #[serde(default)]
    enrollment: EnrollmentWord,
    #[serde(default)]
    client_ids: ClientIds,
    ldevid_key: Option<LdevidKey>,
    #[serde(default)]
    server_keygen: bool,
    renewal_grace_days: Option<Spanned<u32>>,
    expected_off_days: Option<Spanned<u32>>,
    mud: Option<Spanned<String>>,
    #[serde(default)]
    behaviour: BehaviourTable,
    attestation: Option<AttestationTable>,
}

/// Who lets a device of a product enroll.
#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum EnrollmentWord {
    /// The list of expected devices.
    #[default]
    List,
    /// A person, each time.
    Approval,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceTable {
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(default)]
    groups: Vec<Spanned<String>>,
    #[serde(default)]
    observes_network: bool,
    #[serde(default)]
    speaks_for_owners: bool,
    #[serde(default)]
    sets_desired_state: bool,
    fan_out_per_minute: Option<Spanned<u32>>,
    #[serde(default)]
    shares: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelTable {
    #[serde(rename = "description")]
    _description: Option<String>,
    topic: Spanned<String>,
    direction: Direction,
    payload_bytes_max: Spanned<u32>,
    rate_per_minute: Option<Spanned<u32>>,
    retained_max: Option<Spanned<u32>>,
    retained_days: Option<Spanned<u32>>,
    /// A file of `schemas/`.
    schema: Option<Spanned<String>>,
    encoding: Option<Spanned<EncodingWord>>,
    depth_max: Option<Spanned<u32>>,
    fan_out_per_minute: Option<Spanned<u32>>,
    response: Option<Spanned<String>>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum EncodingWord {
    Json,
    Cbor,
    #[serde(rename = "utf-8")]
    Utf8,
    /// Whatever fits.
    None,
}

/// The schemas of a fleet by path.
type Schemas<'f> = BTreeMap<&'f str, Arc<Schema>>;

/// What holds where nothing is said.
const fn yes() -> bool {
    true
}

pub(crate) type Tables<T> = BTreeMap<Spanned<String>, T>;

impl Declared {
    fn read_fleet(&mut self, file: &SourceFile, wrong: &mut Vec<Diagnostic>) {
        let Some(table) = parse::<FleetFile>(file, wrong) else {
            return;
        };
        if crate::template::is_name(table.name.get_ref()) {
            self.name.clone_from(table.name.get_ref());
        } else {
            wrong.push(Diagnostic::new(
                Place::in_file(file, table.name.span()),
                format!("{:?} is no name for a fleet", table.name.get_ref()),
                String::from(NAME),
            ));
        }
        let names: Vec<GroupId> = (table.groups.keys())
            .filter_map(|name| GroupId::new(name.get_ref()).ok())
            .collect();
        for (key, group) in &table.groups {
            let Some(id) = named(GroupId::new, key, file, wrong) else {
                continue;
            };
            let parents = known_groups(&group.parents, &names, file, wrong);
            self.groups.insert(id.clone(), Group { id, parents });
        }
        self.check_cycles(&table.groups, file, wrong);
    }

    /// A group that contained itself would make "in" mean nothing.
    fn check_cycles(
        &self,
        keys: &Tables<GroupTable>,
        file: &SourceFile,
        wrong: &mut Vec<Diagnostic>,
    ) {
        // Takes away, again and again, the groups whose parents are all taken away.
        let mut left: BTreeMap<&GroupId, &Group> = self.groups.iter().collect();
        loop {
            let free: Vec<&GroupId> = (left.values())
                .filter(|group| !group.parents.iter().any(|parent| left.contains_key(parent)))
                .map(|group| &group.id)
                .collect();
            if free.is_empty() {
                break;
            }
            for id in free {
                left.remove(id);
            }
        }
        if let Some((key, id)) = (keys.keys())
            .find_map(|key| Some((key, left.keys().find(|id| id.as_str() == key.get_ref())?)))
        {
            wrong.push(Diagnostic::new(
                Place::in_file(file, key.span()),
                format!("group {id} is in itself, by way of the groups it is in"),
                String::from("take one group out of an `in` list so that the groups form a tree"),
            ));
        }
    }

    fn read_products(
        &mut self,
        file: &SourceFile,
        files: &[SourceFile],
        wrong: &mut Vec<Diagnostic>,
    ) {
        for (key, table) in parse::<Tables<ProductTable>>(file, wrong).unwrap_or_default() {
            let Some(id) = named(ProductId::new, &key, file, wrong) else {
                continue;
            };
            if LABELS_TAKEN.contains(&id.as_str()) {
                wrong.push(Diagnostic::new(
                    Place::in_file(file, key.span()),
                    format!("no product can be called {id}: EST uses that word in its paths"),
                    String::from("choose another name"),
                ));
            }
            let days = match &table.ldevid_lifetime_days {
                Some(days) => in_range(days, LDEVID_LIFETIME_DAYS_MAX, file, wrong),
                None => LDEVID_LIFETIME_DAYS,
            };
            let hours = match &table.rotation_overlap_hours {
                Some(hours) => in_range(hours, ROTATION_OVERLAP_HOURS_MAX, file, wrong),
                None => ROTATION_OVERLAP_HOURS,
            };
            let overlap = Duration::from_secs(u64::from(hours) * 3600);
            let authority =
                (table.ca.as_ref()).and_then(|name| named(AuthorityId::new, name, file, wrong));
            let mut behaviour = table.behaviour.read(file, &self.destinations, wrong);
            let mud = (table.mud.as_ref()).and_then(|path| mud_of(&id, path, file, files, wrong));
            for destination in mud.iter().flat_map(|mud| mud::destinations(&mud.rules)) {
                let declared = behaviour.destinations.get_or_insert_default();
                declared.push(destination.id.clone());
                let taken = self
                    .destinations
                    .insert(destination.id.clone(), destination);
                if let (Some(taken), Some(path)) = (taken, &table.mud) {
                    wrong.push(Diagnostic::new(
                        Place::in_file(file, path.span()),
                        format!(
                            "destination {} is of this MUD file, and declared too",
                            taken.id
                        ),
                        String::from("call the declared one otherwise"),
                    ));
                }
            }
            let product = Product {
                id: id.clone(),
                mud,
                authority,
                ldevid_lifetime: Duration::from_secs(u64::from(days) * 86_400),
                rotation_overlap: table.revoke_superseded.then_some(overlap),
                client_ids: table.client_ids,
                enrollment: Enrollment {
                    needs_approval: table.enrollment == EnrollmentWord::Approval,
                    key: table.ldevid_key,
                    server_keygen: table.server_keygen,
                    renewal_grace: table.renewal_grace_days.map_or(Duration::ZERO, |days| {
                        let days = in_range(&days, RENEWAL_GRACE_DAYS_MAX, file, wrong);
                        Duration::from_secs(u64::from(days) * 86_400)
                    }),
                    expected_off_time: table.expected_off_days.map_or(Duration::ZERO, |days| {
                        let days = in_range(&days, EXPECTED_OFF_DAYS_MAX, file, wrong);
                        Duration::from_secs(u64::from(days) * 86_400)
                    }),
                },
                behaviour,
                attestation: table.attestation.map(|table| table.read(file, wrong)),
            };
            if self.products.insert(id, product).is_some() {
                wrong.push(declared_twice("product", &key, file));
            }
        }
    }

    fn read_services(&mut self, file: &SourceFile, wrong: &mut Vec<Diagnostic>) {
        let names: Vec<GroupId> = self.groups.keys().cloned().collect();
        for (key, table) in parse::<Tables<ServiceTable>>(file, wrong).unwrap_or_default() {
            let Some(id) = named(ServiceId::new, &key, file, wrong) else {
                continue;
            };
            let service = Service {
                id: id.clone(),
                groups: known_groups(&table.groups, &names, file, wrong),
                observes_network: table.observes_network,
                speaks_for_owners: table.speaks_for_owners,
                sets_desired_state: table.sets_desired_state,
                fan_out_per_minute: (table.fan_out_per_minute)
                    .map_or(FAN_OUT_PER_MINUTE, |devices| {
                        in_range(&devices, FAN_OUT_PER_MINUTE_MAX, file, wrong)
                    }),
                shares: share_names(&table.shares, file, wrong),
            };
            if self.services.insert(id, service).is_some() {
                wrong.push(declared_twice("service", &key, file));
            }
        }
    }

    fn read_channels<'a>(
        &mut self,
        file: &'a SourceFile,
        schemas: &Schemas<'_>,
        places: &mut BTreeMap<ChannelId, Place<'a>>,
        wrong: &mut Vec<Diagnostic>,
    ) {
        for (key, table) in parse::<Tables<ChannelTable>>(file, wrong).unwrap_or_default() {
            let Some(id) = channel_named(&key, file, wrong) else {
                continue;
            };
            let place = Place::in_file(file, table.topic.span());
            let template = match Template::parse(table.topic.get_ref()) {
                Ok(template) => template,
                Err(fault) => {
                    // The span begins at the quotation mark.
                    let place = Place {
                        offset: place.offset + 1 + fault.offset,
                        ..place
                    };
                    wrong.push(Diagnostic::new(place, fault.message, fault.help.to_owned()));
                    continue;
                }
            };
            let contract = table.contract(file, schemas, wrong);
            let channel = Channel {
                id: id.clone(),
                contract,
                template,
                direction: table.direction,
                payload_bytes_max: in_range(
                    &table.payload_bytes_max,
                    PAYLOAD_BYTES_MAX,
                    file,
                    wrong,
                ),
                rate_per_minute: (table.rate_per_minute)
                    .map(|rate| in_range(&rate, RATE_PER_MINUTE_MAX, file, wrong)),
                retained_max: (table.retained_max)
                    .map_or(0, |count| in_range(&count, RETAINED_MAX, file, wrong)),
                retained_days: (table.retained_days).map_or(RETAINED_DAYS, |days| {
                    in_range(&days, RETAINED_DAYS_MAX, file, wrong)
                }),
                fan_out_per_minute: (table.fan_out_per_minute.as_ref())
                    .map_or(FAN_OUT_PER_MINUTE, |devices| {
                        in_range(devices, FAN_OUT_PER_MINUTE_MAX, file, wrong)
                    }),
                response: (table.response.as_ref())
                    .and_then(|name| channel_named(name, file, wrong)),
            };
            let only_commands = [
                (
                    table.fan_out_per_minute.map(|it| it.span()),
                    "fan_out_per_minute",
                ),
                (table.response.map(|it| it.span()), "response"),
            ];
            for (span, key) in only_commands {
                if let (Some(span), Direction::FromDevice) = (span, channel.direction) {
                    wrong.push(Diagnostic::new(
                        Place::in_file(file, span),
                        format!(
                            "{key} says something of commands, and this channel is from-device"
                        ),
                        String::from(
                            "take it out, or declare it at the channel by which devices are told",
                        ),
                    ));
                }
            }
            places.insert(id.clone(), place);
            if self.channels.insert(id, channel).is_some() {
                wrong.push(declared_twice("channel", &key, file));
            }
        }
    }

    fn check_counts(&self, wrong: &mut Vec<Diagnostic>) {
        for (what, count, cap) in [
            ("groups", self.groups.len(), caps::GROUPS),
            ("products", self.products.len(), caps::PRODUCTS),
            ("services", self.services.len(), caps::SERVICES),
            ("channels", self.channels.len(), caps::CHANNELS),
            ("destinations", self.destinations.len(), caps::DESTINATIONS),
        ] {
            if count > cap {
                let place = Place {
                    path: "fleet.toml",
                    text: "",
                    offset: 0,
                };
                let message = format!("the fleet declares {count} {what}; at most {cap} are read");
                let help = String::from("a thing per device is not meant: use {device} and groups");
                wrong.push(Diagnostic::new(place, message, help));
            }
        }
    }
}

fn read_schemas<'f>(files: &'f [SourceFile], wrong: &mut Vec<Diagnostic>) -> Schemas<'f> {
    let mut automaton_bytes = caps::AUTOMATON_BYTES;
    (files.iter())
        .filter(|file| part_of(&file.path) == Some(Part::Schemas))
        .filter_map(|file| {
            let schema = Schema::read(file, &mut automaton_bytes, wrong)?;
            Some((file.path.as_str(), Arc::new(schema)))
        })
        .collect()
}

impl ChannelTable {
    /// What it says of payloads. A schema alone means JSON.
    fn contract(
        &self,
        file: &SourceFile,
        schemas: &Schemas<'_>,
        wrong: &mut Vec<Diagnostic>,
    ) -> Option<Contract> {
        let mut refuse = |span, message: String, help: &str| {
            let place = Place::in_file(file, span);
            wrong.push(Diagnostic::new(place, message, help.to_owned()));
        };
        let schema = self.schema.as_ref().and_then(|path| {
            let known = schemas.get_key_value(path.get_ref().as_str());
            if known.is_none() {
                refuse(
                    path.span(),
                    format!("{:?} is no file of this fleet", path.get_ref()),
                    "write a path such as schemas/telemetry.json, and add that file",
                );
            }
            known
        });
        let encoding = match self.encoding.as_ref().map(|word| (word, *word.get_ref())) {
            Some((_, EncodingWord::Json)) => Encoding::Json,
            Some((_, EncodingWord::Cbor)) => Encoding::Cbor,
            Some((word, EncodingWord::Utf8 | EncodingWord::None)) if self.schema.is_some() => {
                let help = "write encoding = \"json\" or \"cbor\", or take the schema out";
                refuse(
                    word.span(),
                    "a schema describes JSON or CBOR".to_owned(),
                    help,
                );
                return None;
            }
            Some((_, EncodingWord::Utf8)) => Encoding::Utf8,
            None if self.schema.is_some() => Encoding::Json,
            Some((_, EncodingWord::None)) | None => {
                if let Some(depth) = &self.depth_max {
                    let help = "write encoding = \"json\" or \"cbor\", or take depth_max out";
                    refuse(depth.span(), "nothing here has a depth".to_owned(), help);
                }
                return None;
            }
        };
        let depth = (self.depth_max.as_ref()).map_or(contract::DEPTH.into(), |depth| {
            in_range(depth, contract::DEPTH_MAX.into(), file, wrong)
        });
        Some(Contract {
            encoding,
            depth_max: u8::try_from(depth).unwrap_or(contract::DEPTH_MAX),
            schema_path: schema.map(|(path, _)| Arc::from(*path)),
            schema: schema.map(|(_, schema)| Arc::clone(schema)),
        })
    }
}

/// A topic belongs to one channel at most, so that its limits and its owner are never a matter
/// of which channel is looked at first.
fn check_disjoint(
    channels: &BTreeMap<ChannelId, Channel>,
    places: &BTreeMap<ChannelId, Place<'_>>,
    wrong: &mut Vec<Diagnostic>,
) {
    // The count is refused elsewhere; here it bounds the pairs.
    let channels: Vec<&Channel> = channels.values().take(caps::CHANNELS).collect();
    for (index, channel) in channels.iter().enumerate() {
        for earlier in channels.iter().take(index) {
            let Some(topic) = channel.template.common_topic(&earlier.template) else {
                continue;
            };
            if wrong.len() >= caps::DIAGNOSTICS {
                return;
            }
            if let Some(place) = places.get(&channel.id) {
                wrong.push(Diagnostic::new(
                    *place,
                    format!(
                        "channels {} and {} overlap: both admit the topic {topic}",
                        channel.id, earlier.id
                    ),
                    String::from("give them different literals at one level"),
                ));
            }
        }
    }
}

fn channel_named(
    key: &Spanned<String>,
    file: &SourceFile,
    wrong: &mut Vec<Diagnostic>,
) -> Option<ChannelId> {
    let id = ChannelId::new(key.get_ref());
    if id.is_none() {
        wrong.push(Diagnostic::new(
            Place::in_file(file, key.span()),
            format!("{:?} is no name for a channel", key.get_ref()),
            String::from(NAME),
        ));
    }
    id
}

/// What devices answer comes from them, each on topics of its own.
fn check_responses(
    channels: &BTreeMap<ChannelId, Channel>,
    places: &BTreeMap<ChannelId, Place<'_>>,
    wrong: &mut Vec<Diagnostic>,
) {
    for channel in channels.values() {
        let Some(response) = &channel.response else {
            continue;
        };
        let takes_answers = channels.get(response).is_some_and(|answers| {
            answers.direction == Direction::FromDevice && answers.template.has_owner()
        });
        if let (false, Some(place)) = (takes_answers, places.get(&channel.id)) {
            wrong.push(Diagnostic::new(
                *place,
                format!(
                    "channel {} awaits answers in {response}, which is no from-device channel with \
                     an owner",
                    channel.id
                ),
                String::from("name a channel in which devices publish what is their own"),
            ));
        }
    }
}

pub(crate) fn parse<T: DeserializeOwned>(
    file: &SourceFile,
    wrong: &mut Vec<Diagnostic>,
) -> Option<T> {
    match toml::from_str(&file.text) {
        Ok(value) => Some(value),
        Err(error) => {
            let place = Place::in_file(file, error.span().unwrap_or(0..0));
            let help = match error.message() {
                message if message.starts_with("missing field") => "add it to this table",
                message if message.starts_with("unknown field") => "correct the key or take it out",
                message if message.starts_with("unknown variant") => "write one of these",
                _ => "correct the TOML at this place",
            };
            let help = help_with(meant(error.message()), help);
            wrong.push(Diagnostic::new(place, error.message(), help));
            None
        }
    }
}

/// Of a message such as "unknown field `topci`, expected one of `topic`, `schema`".
fn meant(message: &str) -> Option<&str> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let word = quoted.next()?;
    nearest(word, quoted)
}

fn named<T>(
    new: impl Fn(&str) -> Result<T, model::InvalidName>,
    key: &Spanned<String>,
    file: &SourceFile,
    wrong: &mut Vec<Diagnostic>,
) -> Option<T> {
    match new(key.get_ref()) {
        Ok(id) => Some(id),
        Err(error) => {
            let place = Place::in_file(file, key.span());
            wrong.push(Diagnostic::new(
                place,
                error.to_string(),
                String::from("choose another name"),
            ));
            None
        }
    }
}

fn known_groups(
    groups: &[Spanned<String>],
    known: &[GroupId],
    file: &SourceFile,
    wrong: &mut Vec<Diagnostic>,
) -> Vec<GroupId> {
    let mut found = Vec::new();
    for group in groups {
        match known.iter().find(|known| known.as_str() == group.get_ref()) {
            Some(known) => found.push(known.clone()),
            None => wrong.push(Diagnostic::new(
                Place::in_file(file, group.span()),
                format!("group {:?} is not declared", group.get_ref()),
                help_with(
                    nearest(group.get_ref(), known.iter().map(GroupId::as_str)),
                    &format!("write [groups.{}] in fleet.toml", group.get_ref()),
                ),
            )),
        }
    }
    found
}

fn share_names(
    names: &[Spanned<String>],
    file: &SourceFile,
    wrong: &mut Vec<Diagnostic>,
) -> Vec<String> {
    if let Some(last) = names.get(SHARES_MAX) {
        wrong.push(Diagnostic::new(
            Place::in_file(file, last.span()),
            format!("a service joins at most {SHARES_MAX} shared subscriptions"),
            String::from("use one name for all instances that share their work"),
        ));
    }
    let mut found = Vec::new();
    for name in names {
        if crate::template::is_name(name.get_ref()) {
            found.push(name.get_ref().clone());
        } else {
            wrong.push(Diagnostic::new(
                Place::in_file(file, name.span()),
                format!("{:?} is no name for a shared subscription", name.get_ref()),
                String::from("use 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or a digit"),
            ));
        }
    }
    found
}

pub(crate) fn in_range(
    value: &Spanned<u32>,
    max: u32,
    file: &SourceFile,
    wrong: &mut Vec<Diagnostic>,
) -> u32 {
    if !(1..=max).contains(value.get_ref()) {
        wrong.push(Diagnostic::new(
            Place::in_file(file, value.span()),
            format!("{} is out of range", value.get_ref()),
            format!("use 1 to {max}"),
        ));
    }
    *value.get_ref()
}

pub(crate) fn declared_twice(kind: &str, key: &Spanned<String>, file: &SourceFile) -> Diagnostic {
    Diagnostic::new(
        Place::in_file(file, key.span()),
        format!("{kind} {} is declared in another file too", key.get_ref()),
        String::from("keep one of the two"),
    )
}
