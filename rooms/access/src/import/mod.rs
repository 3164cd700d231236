//! Policies of other brokers → a fleet. What is written decides as they do; what cannot be said so is
//! refused with its place, and what is left out on purpose only ever takes away.
//!
//! Each system's file is read into [`Party`]s with [`Rule`]s about sets of topics. From these come the
//! channels, which are disjoint, and for each party and channel one decision, by that system's own
//! order of allowing and denying. Permits are all that is written: a fleet denies the rest by itself.

mod aws;
mod mosquitto;
mod write;

pub use aws::import_aws;
pub use mosquitto::import_mosquitto;

use crate::class::Facts;
use crate::diagnostic::{SourceFile, printable};
use crate::fleet::{Fleet, Product};
use crate::grants::Grants;
use model::{Assurance, DeviceId, Principal};
use mqtt::Filter;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What the files of a fleet shall say that the other system's do not.
#[derive(Debug, Clone)]
pub struct ImportNames {
    /// Of the fleet.
    pub fleet: String,
    /// Of the devices' product, where their file has no name for them.
    pub product: String,
}

/// A fleet out of another system's files.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Read and found right.
    pub files: Vec<SourceFile>,
    /// What is not carried over. It was permitted there and is denied here.
    pub left_out: Vec<ImportRemark>,
    /// The devices that the files name, by product: lists of expected devices hold them.
    pub devices: BTreeMap<String, Vec<String>>,
}

/// What cannot be carried over, where it stands and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImportRemark {
    /// As `acl:12` or `cam.json, statement 2`.
    pub place: String,
    pub text: String,
    pub help: String,
}

impl ImportRemark {
    fn new(place: &str, text: impl AsRef<str>, help: impl AsRef<str>) -> Self {
        Self {
            place: printable(place),
            text: printable(text.as_ref()),
            help: printable(help.as_ref()),
        }
    }
}

impl fmt::Display for ImportRemark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (help: {})", self.place, self.text, self.help)
    }
}

const REMARKS_MAX: usize = 100;
/// Of one file.
const BYTES_MAX: usize = 4 * 1024 * 1024;
const RULES_MAX: usize = 20_000;
/// The device's name as a level of a filter: no device can be called so.
const OWN: &str = "{device}";

/// One level of a set of topics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Literal(String),
    /// The name of whoever asks.
    Own,
    Any,
    /// The levels that remain, none or more.
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Publish,
    Receive,
    /// Of systems that ask for it besides receiving.
    Subscribe,
}

/// What is said about a set of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allow: bool,
    verbs: Vec<Verb>,
    topics: Vec<Step>,
    place: String,
}

/// Somebody to whom rules apply.
#[derive(Debug, Clone)]
struct Party {
    name: String,
    is_device: bool,
    /// The first in which a rule matches decides; in each, denying comes first.
    tiers: Vec<Vec<Rule>>,
    /// Whether it must be allowed to subscribe too.
    subscribes: bool,
    /// `client_ids` of its product.
    client_ids: &'static str,
}

/// A set of topics that is a channel.
#[derive(Debug, Clone)]
struct Found {
    topics: Vec<Step>,
    place: String,
}

/// Whose topics of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    Others,
}

/// The fleet of these parties.
fn import(
    parties: &[Party],
    names: &ImportNames,
    payload_bytes_max: u32,
    mut left_out: Vec<ImportRemark>,
    devices: BTreeMap<String, Vec<String>>,
) -> Result<Imported, Vec<ImportRemark>> {
    let mut refused = Vec::new();
    let channels = channels(parties, &mut refused, &mut left_out);
    for party in parties {
        for rule in party.tiers.iter().flatten() {
            check_exact(party, rule, &channels, &mut refused);
        }
    }
    if !refused.is_empty() {
        return Err(in_order(refused));
    }
    let files = write::files(parties, &channels, names, payload_bytes_max);
    let compiled = Fleet::read(&files).and_then(|fleet| {
        // Of each product one device: what no filter can say is found by compiling.
        let population: Vec<Facts> = fleet.products().filter_map(a_device).collect();
        Grants::compile(&fleet, population)
    });
    match compiled {
        Ok(_) => Ok(Imported {
            files,
            left_out: in_order(left_out),
            devices,
        }),
        Err(wrong) => Err(in_order(
            wrong
                .iter()
                .map(|one| ImportRemark {
                    place: one.path.clone(),
                    text: one.message.clone(),
                    help: one.help.clone().unwrap_or_default(),
                })
                .collect(),
        )),
    }
}

fn a_device(product: &Product) -> Option<Facts> {
    Some(Facts {
        principal: Principal::Device(DeviceId::new("any").ok()?),
        product: Some(product.id.clone()),
        groups: Vec::new(),
        attributes: Arc::default(),
        containment: None,
        assurance: Assurance::default(),
    })
}

fn in_order(mut remarks: Vec<ImportRemark>) -> Vec<ImportRemark> {
    remarks.sort();
    remarks.dedup();
    remarks.truncate(REMARKS_MAX);
    remarks
}

/// The channels: sets that somebody may publish to, and those that somebody may receive where nobody is
/// known to publish. Narrow ones first, so that what lies over one of them is seen.
fn channels(
    parties: &[Party],
    refused: &mut Vec<ImportRemark>,
    left_out: &mut Vec<ImportRemark>,
) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for verb in [Verb::Publish, Verb::Receive] {
        let rules = parties
            .iter()
            .flat_map(|party| party.tiers.iter().flatten());
        let mut rules: Vec<&Rule> = rules
            .filter(|rule| rule.allow && rule.verbs.contains(&verb))
            .collect();
        rules.sort_by_key(|rule| breadth(&rule.topics));
        for rule in rules {
            let Some(filter) = filter_of(&rule.topics, None) else {
                continue;
            };
            let touched: Vec<Filter> = (found.iter())
                .filter_map(|one| filter_of(&one.topics, None))
                .filter(|one| one.intersects(&filter))
                .collect();
            if touched.is_empty() {
                match begins_well(&rule.topics) {
                    Ok(()) => found.push(Found {
                        topics: rule.topics.clone(),
                        place: rule.place.clone(),
                    }),
                    Err(why) if verb == Verb::Publish => refused.push(ImportRemark::new(
                        &rule.place,
                        format!("{} {why}", shown(&rule.topics)),
                        "name the topics that are really sent to",
                    )),
                    Err(_) => left_out.push(ImportRemark::new(
                        &rule.place,
                        format!("nobody may publish to {}", shown(&rule.topics)),
                        "nothing is lost; import what publishes there together with this",
                    )),
                }
            } else if verb == Verb::Publish && !mqtt::covered_by_union(&filter, &touched) {
                let other = (found.iter()).find(|one| {
                    filter_of(&one.topics, None).is_some_and(|one| one.intersects(&filter))
                });
                let other = other.map_or_else(String::new, |one| {
                    format!("{} ({})", shown(&one.topics), one.place)
                });
                refused.push(ImportRemark::new(
                    &rule.place,
                    format!(
                        "{} holds {other} and more, and channels are disjoint: \"all but these\" \
                         cannot be said",
                        shown(&rule.topics)
                    ),
                    "name the other topics that are really sent to, one rule each",
                ));
            }
        }
    }
    name_owners(parties, &mut found);
    found
}

/// Where one rule says "any level" and another "my name", that level is the device's name.
fn name_owners(parties: &[Party], found: &mut [Found]) {
    let devices = parties.iter().filter(|party| party.is_device);
    for rule in devices.flat_map(|party| party.tiers.iter().flatten()) {
        let Some(at) = rule.topics.iter().position(|step| *step == Step::Own) else {
            continue;
        };
        let Some(filter) = filter_of(&rule.topics, None) else {
            continue;
        };
        for channel in found.iter_mut() {
            let is_meant = !channel.topics.contains(&Step::Own)
                && filter_of(&channel.topics, None).is_some_and(|one| filter.covers(&one));
            if let (true, Some(step)) = (is_meant, channel.topics.get_mut(at))
                && *step == Step::Any
            {
                *step = Step::Own;
            }
        }
    }
}

/// Narrow before broad; of equals those first that name the device.
fn breadth(topics: &[Step]) -> (usize, usize, bool) {
    let is = |step: &Step| topics.iter().filter(|one| *one == step).count();
    let free = is(&Step::Any) + is(&Step::Own);
    (is(&Step::Rest), free, !topics.contains(&Step::Own))
}

/// What a template must begin with, and the one device that it can name.
fn begins_well(topics: &[Step]) -> Result<(), &'static str> {
    if topics.iter().filter(|step| **step == Step::Own).count() > 1 {
        return Err("names the device at two levels, and a channel does at one");
    }
    match topics.first() {
        Some(Step::Own) => Ok(()),
        Some(Step::Literal(text)) if !text.starts_with('$') => Ok(()),
        Some(Step::Literal(_)) => Err("belongs to the broker, as it begins with $"),
        _ => Err("begins with a wildcard, and a channel begins with a name"),
    }
}

/// A rule decides about a channel as a whole, or has nothing to do with it.
fn check_exact(party: &Party, rule: &Rule, channels: &[Found], refused: &mut Vec<ImportRemark>) {
    for channel in channels {
        for whose in [Whose::Own, Whose::Others] {
            if let Fit::Partly = fit(party, rule, channel, whose) {
                let what = format!(
                    "{} is a part of the channel {} ({}) and no channel of its own",
                    shown(&rule.topics),
                    shown(&channel.topics),
                    channel.place
                );
                let help = "make both about the same topics: a group or a service is given a \
                            channel, never one device's part of it";
                refused.push(ImportRemark::new(&rule.place, what, help));
                return;
            }
        }
    }
}

/// How a rule stands to one's own or others' topics of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Covers,
    Apart,
    Partly,
}

fn fit(party: &Party, rule: &Rule, channel: &Found, whose: Whose) -> Fit {
    let has_owner = channel.topics.contains(&Step::Own);
    if whose == Whose::Own && !(party.is_device && has_owner) {
        return Fit::Apart;
    }
    let names_itself = rule.topics.contains(&Step::Own);
    let own = (whose == Whose::Own).then_some(OWN);
    let (Some(topics), Some(ruled)) = (
        filter_of(&channel.topics, own),
        filter_of(&rule.topics, Some(OWN)),
    ) else {
        return Fit::Apart;
    };
    if whose == Whose::Others && names_itself {
        // Of others' topics it says nothing, if the channel knows whose they are.
        let at = rule.topics.iter().position(|step| *step == Step::Own);
        let knows = at.is_some_and(|at| channel.topics.get(at) == Some(&Step::Own));
        return match filter_of(&rule.topics, None) {
            Some(any) if !knows && party.is_device && any.intersects(&topics) => Fit::Partly,
            _ => Fit::Apart,
        };
    }
    if ruled.covers(&topics) {
        Fit::Covers
    } else if ruled.intersects(&topics) {
        Fit::Partly
    } else {
        Fit::Apart
    }
}

/// What a party may do in a channel.
fn decides(party: &Party, channel: &Found, verb: Verb, whose: Whose) -> bool {
    for tier in &party.tiers {
        let says = |allow| {
            (tier.iter())
                .filter(|rule| rule.allow == allow && rule.verbs.contains(&verb))
                .any(|rule| fit(party, rule, channel, whose) == Fit::Covers)
        };
        if says(false) {
            return false;
        }
        if says(true) {
            return true;
        }
    }
    false
}

fn may(party: &Party, channel: &Found, verb: Verb, whose: Whose) -> bool {
    let subscribes = verb != Verb::Receive
        || !party.subscribes
        || decides(party, channel, Verb::Subscribe, whose);
    subscribes && decides(party, channel, verb, whose)
}

/// As a filter: with a name for whoever asks, or with everybody's.
fn filter_of(topics: &[Step], own: Option<&str>) -> Option<Filter> {
    let levels: Vec<&str> = (topics.iter())
        .map(|step| match step {
            Step::Literal(text) => text.as_str(),
            Step::Own => own.unwrap_or("+"),
            Step::Any => "+",
            Step::Rest => "#",
        })
        .collect();
    Filter::new(&levels.join("/")).ok()
}

/// As a template, for messages too.
fn shown(topics: &[Step]) -> String {
    let levels: Vec<&str> = (topics.iter())
        .map(|step| match step {
            Step::Literal(text) => text.as_str(),
            Step::Own => OWN,
            Step::Any => "{any}",
            Step::Rest => "{rest...}",
        })
        .collect();
    levels.join("/")
}
