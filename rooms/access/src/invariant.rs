//! `fleet/invariants.toml`: what must hold of every policy that is ever applied.

use crate::behaviour::DestinationId;
use crate::declared::{self, Declared, Tables};
use crate::diagnostic::{Diagnostic, Place, SourceFile, help_with, nearest};
use crate::fleet::{ChannelId, Part, caps, part_of};
use crate::policy::Origin;
use crate::prove::Party;
use crate::template::is_name;
use model::{GroupId, ProductId, ServiceId};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use toml::Spanned;

/// Something that must hold, whatever policies say.
#[derive(Debug, Clone)]
pub(crate) struct Invariant {
    pub id: String,
    pub rule: Rule,
    pub origin: Origin,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rule {
    /// No message goes from one of these to one of those.
    NoPath {
        from: Vec<Party>,
        to: Vec<Party>,
        except: Vec<Exception>,
    },
    /// In these channels nobody else publishes or receives.
    Only {
        channels: Vec<ChannelId>,
        publish: Option<Vec<Party>>,
        receive: Option<Vec<Party>>,
    },
    /// Nobody else connects with these; an empty list means nobody at all.
    Connect {
        destinations: Destinations,
        only: Vec<Party>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Destinations {
    These(Vec<DestinationId>),
    /// Whatever can be a peer in the site itself.
    Local,
}

/// A path that is meant. What it does not name may be any.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exception {
    pub channels: Option<Vec<ChannelId>>,
    pub from: Option<Vec<Party>>,
    pub to: Option<Vec<Party>>,
}

impl Invariant {
    /// All that it names.
    pub(crate) fn parties(&self) -> BTreeSet<Party> {
        let lists: Vec<&Vec<Party>> = match &self.rule {
            Rule::NoPath { from, to, except } => {
                let excepted = except.iter().flat_map(|one| [&one.from, &one.to]);
                [from, to].into_iter().chain(excepted.flatten()).collect()
            }
            Rule::Only {
                publish, receive, ..
            } => [publish, receive].into_iter().flatten().collect(),
            Rule::Connect { only, .. } => vec![only],
        };
        lists.into_iter().flatten().cloned().collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InvariantTable {
    #[serde(rename = "description")]
    _description: Option<String>,
    from: Option<Vec<Spanned<String>>>,
    to: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    except: Vec<ExceptionTable>,
    channels: Option<Vec<Spanned<String>>>,
    publish_only: Option<Vec<Spanned<String>>>,
    receive_only: Option<Vec<Spanned<String>>>,
    destinations: Option<Vec<Spanned<String>>>,
    connect_only: Option<Vec<Spanned<String>>>,
    local_only: Option<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExceptionTable {
    channels: Option<Vec<Spanned<String>>>,
    from: Option<Vec<Spanned<String>>>,
    to: Option<Vec<Spanned<String>>>,
}

const SHAPE: &str = "write from = [..] and to = [..]; or channels = [..] with publish_only = [..] or \
                     receive_only = [..]; or destinations = [..] with connect_only = [..]; or \
                     local_only = [..]";
pub(crate) const EXCEPTIONS_MAX: usize = 32;

/// Reads the file if there is one; what is wrong is added to `wrong`. By id.
pub(crate) fn read(
    files: &[SourceFile],
    declared: &Declared,
    wrong: &mut Vec<Diagnostic>,
) -> Vec<Invariant> {
    let mut invariants = BTreeMap::new();
    for file in files
        .iter()
        .filter(|file| part_of(&file.path) == Some(Part::Invariants))
    {
        let reader = Reader { file, declared };
        let tables = declared::parse::<Tables<InvariantTable>>(file, wrong).unwrap_or_default();
        if tables.len() > caps::INVARIANTS {
            let message = format!("a fleet has at most {} invariants", caps::INVARIANTS);
            let help = String::from("say them of groups and products rather than one by one");
            wrong.push(Diagnostic::new(Place::start_of(file), message, help));
            continue;
        }
        for (key, table) in tables {
            if let Some(invariant) = reader.invariant(&key, table, wrong) {
                invariants.insert(invariant.id.clone(), invariant);
            }
        }
    }
    invariants.into_values().collect()
}

struct Reader<'a> {
    file: &'a SourceFile,
    declared: &'a Declared,
}

impl Reader<'_> {
    fn invariant(
        &self,
        key: &Spanned<String>,
        table: InvariantTable,
        wrong: &mut Vec<Diagnostic>,
    ) -> Option<Invariant> {
        let wrong_before = wrong.len();
        if !is_name(key.get_ref()) {
            self.refuse(
                key,
                "this is no name for an invariant",
                declared::NAME,
                wrong,
            );
        }
        if table.except.len() > EXCEPTIONS_MAX {
            let message = format!("an invariant has at most {EXCEPTIONS_MAX} exceptions");
            let help = "put what is excepted into one group and name that";
            self.refuse(key, &message, help, wrong);
            return None;
        }
        let rule = match table {
            InvariantTable {
                from: Some(from),
                to: Some(to),
                except,
                channels: None,
                publish_only: None,
                receive_only: None,
                destinations: None,
                connect_only: None,
                local_only: None,
                ..
            } => Rule::NoPath {
                from: self.parties(key, &from, wrong),
                to: self.parties(key, &to, wrong),
                except: (except.iter())
                    .map(|exception| self.exception(key, exception, wrong))
                    .collect(),
            },
            InvariantTable {
                from: None,
                to: None,
                except,
                channels: Some(channels),
                publish_only,
                receive_only,
                destinations: None,
                connect_only: None,
                local_only: None,
                ..
            } if except.is_empty() && (publish_only.is_some() || receive_only.is_some()) => {
                Rule::Only {
                    channels: self.channels(key, &channels, wrong),
                    publish: publish_only.map(|list| self.parties(key, &list, wrong)),
                    receive: receive_only.map(|list| self.parties(key, &list, wrong)),
                }
            }
            InvariantTable {
                from: None,
                to: None,
                except,
                channels: None,
                publish_only: None,
                receive_only: None,
                destinations,
                connect_only,
                local_only,
                ..
            } if except.is_empty() => match (destinations, connect_only, local_only) {
                (Some(destinations), Some(only), None) => Rule::Connect {
                    destinations: Destinations::These(self.destinations(key, &destinations, wrong)),
                    only: self.known(&only, wrong),
                },
                (None, None, Some(only)) => Rule::Connect {
                    destinations: Destinations::Local,
                    only: self.known(&only, wrong),
                },
                _ => {
                    self.refuse(key, "this is no invariant", SHAPE, wrong);
                    return None;
                }
            },
            _ => {
                self.refuse(key, "this is no invariant", SHAPE, wrong);
                return None;
            }
        };
        let start = Diagnostic::new(Place::in_file(self.file, key.span()), "", None);
        (wrong.len() == wrong_before).then(|| Invariant {
            id: key.get_ref().clone(),
            rule,
            origin: Origin {
                path: start.path,
                line: start.line,
                column: start.column,
            },
        })
    }

    fn exception(
        &self,
        key: &Spanned<String>,
        table: &ExceptionTable,
        wrong: &mut Vec<Diagnostic>,
    ) -> Exception {
        if table.channels.is_none() && table.from.is_none() && table.to.is_none() {
            let help = "write channels, from or to; without any the invariant would say nothing";
            self.refuse(key, "an exception names nothing", help, wrong);
        }
        let list = |list: &Option<Vec<Spanned<String>>>, wrong: &mut Vec<Diagnostic>| {
            (list.as_ref()).map(|list| self.parties(key, list, wrong))
        };
        Exception {
            channels: (table.channels.as_ref()).map(|list| self.channels(key, list, wrong)),
            from: list(&table.from, wrong),
            to: list(&table.to, wrong),
        }
    }

    fn channels(
        &self,
        key: &Spanned<String>,
        list: &[Spanned<String>],
        wrong: &mut Vec<Diagnostic>,
    ) -> Vec<ChannelId> {
        if list.is_empty() {
            self.refuse(key, "an empty list of channels", "name one at least", wrong);
        }
        let mut channels = Vec::new();
        for name in list {
            let known = ChannelId::new(name.get_ref())
                .filter(|channel| self.declared.channels.contains_key(channel));
            match known {
                Some(channel) => channels.push(channel),
                None => {
                    let message = format!("channel {:?} is not declared", name.get_ref());
                    let known = self.declared.channels.keys().map(ChannelId::as_str);
                    let help = help_with(
                        nearest(name.get_ref(), known),
                        "correct the name: an invariant about nothing would always hold",
                    );
                    self.refuse(name, &message, &help, wrong);
                }
            }
        }
        channels
    }

    fn destinations(
        &self,
        key: &Spanned<String>,
        list: &[Spanned<String>],
        wrong: &mut Vec<Diagnostic>,
    ) -> Vec<DestinationId> {
        if list.is_empty() {
            self.refuse(
                key,
                "an empty list of destinations",
                "name one at least",
                wrong,
            );
        }
        let mut destinations = Vec::new();
        for name in list {
            let mut known = self.declared.destinations.keys();
            match known.find(|known| known.as_str() == name.get_ref()) {
                Some(known) => destinations.push(known.clone()),
                None => {
                    let message = format!("destination {:?} is not declared", name.get_ref());
                    let known = self.declared.destinations.keys().map(DestinationId::as_str);
                    let help = help_with(
                        nearest(name.get_ref(), known),
                        "correct the name: an invariant about nothing would always hold",
                    );
                    self.refuse(name, &message, &help, wrong);
                }
            }
        }
        destinations
    }

    fn parties(
        &self,
        key: &Spanned<String>,
        list: &[Spanned<String>],
        wrong: &mut Vec<Diagnostic>,
    ) -> Vec<Party> {
        if list.is_empty() {
            let help = "name at least one of \"devices\", \"services\", \"product/..\", \
                        \"group/..\" and \"service/..\"";
            self.refuse(key, "an empty list says nothing", help, wrong);
        }
        self.known(list, wrong)
    }

    fn known(&self, list: &[Spanned<String>], wrong: &mut Vec<Diagnostic>) -> Vec<Party> {
        let mut parties = Vec::new();
        for name in list {
            match self.party(name.get_ref()) {
                Some(party) => parties.push(party),
                None => {
                    let message = format!("{:?} is nobody in this fleet", name.get_ref());
                    let help = "write \"devices\", \"services\", \"product/..\", \"group/..\" or \
                                \"service/..\" with a declared name";
                    self.refuse(name, &message, help, wrong);
                }
            }
        }
        parties
    }

    fn party(&self, text: &str) -> Option<Party> {
        match text.split_once('/') {
            None if text == "devices" => Some(Party::Devices),
            None if text == "services" => Some(Party::Services),
            Some(("product", id)) => ProductId::new(id)
                .ok()
                .filter(|id| self.declared.products.contains_key(id))
                .map(Party::Product),
            Some(("group", id)) => GroupId::new(id)
                .ok()
                .filter(|id| self.declared.groups.contains_key(id))
                .map(Party::Group),
            Some(("service", id)) => ServiceId::new(id)
                .ok()
                .filter(|id| self.declared.services.contains_key(id))
                .map(Party::Service),
            _ => None,
        }
    }

    fn refuse(&self, at: &Spanned<String>, message: &str, help: &str, wrong: &mut Vec<Diagnostic>) {
        let place = Place::in_file(self.file, at.span());
        wrong.push(Diagnostic::new(place, message, help.to_owned()));
    }
}
