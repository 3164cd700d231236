//! What a product's devices usually do.

use crate::habit::{Habit, Standing};
use crate::pack::pack;
use crate::statistics::{Fading, Profile};
use crate::text::{number, shown};
use crate::{Declared, Settings};
use model::{ProductId, Timestamp};

/// How far a baseline has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BaselineState {
    /// All that can be is declared by the fleet; nothing is learned.
    Seeded,
    /// Being watched; what is learned does not judge yet.
    Learning,
    /// Learned and judging; waits for a person before anything may be contained on it.
    Proposed,
    /// A person accepted it.
    Accepted,
}

impl BaselineState {
    pub const ALL: [Self; 4] = [Self::Seeded, Self::Learning, Self::Proposed, Self::Accepted];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seeded => "seeded",
            Self::Learning => "learning",
            Self::Proposed => "proposed",
            Self::Accepted => "accepted",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// A product's baseline, as a person reads it before accepting.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    pub product: ProductId,
    pub state: BaselineState,
    /// Devices that the group has now.
    pub devices: u64,
    pub entries: Vec<BaselineEntry>,
    pub learning_since: Option<Timestamp>,
    pub proposed_at: Option<Timestamp>,
    pub accepted_at: Option<Timestamp>,
}

/// One thing that is normal, or that would be if the baseline were accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct BaselineEntry {
    /// `destination`, `listening-port`, `firmware`, `dns-per-minute`, `bytes-out-per-minute`,
    /// `messages-per-minute`, `tls-version`.
    pub feature: &'static str,
    pub value: String,
    /// On how many devices it was seen from outside.
    pub devices: u64,
    /// How many devices only said so themselves.
    pub reported: u64,
    pub declared: bool,
    /// Is it normal now?
    pub accepted: bool,
    pub first_seen: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
}

/// What is known of the devices of one product.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Group {
    pub declared: Option<Declared>,
    pub devices: u64,
    pub learned: Learned,
}

/// The part of it that was learned.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Learned {
    pub since: Option<Timestamp>,
    pub proposed_at: Option<Timestamp>,
    pub accepted_at: Option<Timestamp>,
    pub destinations: Habit,
    pub ports: Habit,
    pub firmware: Habit,
    pub dns: Profile,
    pub bytes: Profile,
    pub messages: Profile,
    /// Handshakes of the group that were refused lately for reasons that life brings.
    pub refused: Fading,
}

pack!(Learned {
    since,
    proposed_at,
    accepted_at,
    destinations,
    ports,
    firmware,
    dns,
    bytes,
    messages,
    refused
});

impl Group {
    /// Learning ends by itself; what was learned is proposed.
    pub fn advance(&mut self, now: Timestamp, settings: &Settings) {
        let since = *self.learned.since.get_or_insert(now);
        if self.learned.proposed_at.is_none() && now.since(since) >= settings.learn_for {
            let enough = self.enough(settings);
            self.learned.proposed_at = Some(now);
            for habit in self.learned.habits() {
                habit.propose(enough);
            }
        }
    }

    /// A person takes what was learned so far; how many things became normal.
    pub fn accept(&mut self, now: Timestamp, settings: &Settings) -> usize {
        let enough = self.enough(settings);
        self.learned.proposed_at.get_or_insert(now);
        self.learned.accepted_at = Some(now);
        let habits = self.learned.habits();
        habits.into_iter().map(|habit| habit.accept(enough)).sum()
    }

    /// Of a group of two, both are enough.
    fn enough(&self, settings: &Settings) -> u32 {
        let devices = u32::try_from(self.devices).unwrap_or(u32::MAX).max(1);
        settings.peers_to_learn.min(devices)
    }

    pub const fn judges(&self) -> bool {
        self.learned.proposed_at.is_some()
    }

    pub const fn is_accepted(&self) -> bool {
        self.learned.accepted_at.is_some()
    }

    fn state(&self) -> BaselineState {
        let seeded = self.declared.as_ref().is_some_and(|declared| {
            declared.destinations.is_some()
                && declared.listens.is_some()
                && declared.firmware.is_some()
        });
        if self.learned.accepted_at.is_some() {
            BaselineState::Accepted
        } else if seeded {
            BaselineState::Seeded
        } else if self.learned.proposed_at.is_some() {
            BaselineState::Proposed
        } else {
            BaselineState::Learning
        }
    }

    pub fn baseline(&self, product: &ProductId) -> Baseline {
        let learned = &self.learned;
        let mut entries = self
            .declared
            .as_ref()
            .map(declared_entries)
            .unwrap_or_default();
        entries.extend(habit_entries("destination", &learned.destinations));
        entries.extend(habit_entries("listening-port", &learned.ports));
        entries.extend(habit_entries("firmware", &learned.firmware));
        let rates = [
            ("dns-per-minute", &learned.dns),
            ("bytes-out-per-minute", &learned.bytes),
            ("messages-per-minute", &learned.messages),
        ];
        entries.extend(
            rates
                .into_iter()
                .filter(|(_, profile)| profile.samples() > 0)
                .map(|(feature, profile)| BaselineEntry {
                    value: format!("about {}", number(profile.usual())),
                    devices: self.devices,
                    accepted: self.is_accepted(),
                    first_seen: learned.since,
                    ..entry(feature)
                }),
        );
        Baseline {
            product: product.clone(),
            state: self.state(),
            devices: self.devices,
            entries,
            learning_since: learned.since,
            proposed_at: learned.proposed_at,
            accepted_at: learned.accepted_at,
        }
    }
}

impl Learned {
    fn habits(&mut self) -> [&mut Habit; 3] {
        [&mut self.destinations, &mut self.ports, &mut self.firmware]
    }
}

const fn entry(feature: &'static str) -> BaselineEntry {
    BaselineEntry {
        feature,
        value: String::new(),
        devices: 0,
        reported: 0,
        declared: false,
        accepted: false,
        first_seen: None,
        last_seen: None,
    }
}

fn habit_entries(feature: &'static str, habit: &Habit) -> impl Iterator<Item = BaselineEntry> {
    habit.iter().map(move |(value, known)| BaselineEntry {
        value: value.to_owned(),
        devices: u64::from(known.devices),
        reported: u64::from(known.reported),
        accepted: known.standing > Standing::Candidate,
        first_seen: Some(known.first_seen),
        last_seen: Some(known.last_seen),
        ..entry(feature)
    })
}

fn declared_entries(declared: &Declared) -> Vec<BaselineEntry> {
    let destinations = declared
        .destinations
        .iter()
        .flatten()
        .map(|d| ("destination", d.words()));
    let ports = declared
        .listens
        .iter()
        .flatten()
        .map(|(protocol, port)| ("listening-port", format!("{protocol}/{port}")));
    let firmware = declared
        .firmware
        .iter()
        .flatten()
        .map(|f| ("firmware", f.words()));
    let rates = [
        ("dns-per-minute", declared.dns_per_minute_max),
        ("bytes-out-per-minute", declared.bytes_out_per_minute_max),
    ];
    let rates = rates
        .into_iter()
        .filter_map(|(feature, max)| max.map(|max| (feature, format!("at most {max}"))));
    let tls = declared
        .tls_version_min
        .iter()
        .map(|version| ("tls-version", format!("at least {}", shown(version, 16))));
    destinations
        .chain(ports)
        .chain(firmware)
        .chain(rates)
        .chain(tls)
        .map(|(feature, value)| BaselineEntry {
            value,
            declared: true,
            accepted: true,
            ..entry(feature)
        })
        .collect()
}
