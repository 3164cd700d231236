//! A set of things that the devices of a group do: destinations, ports, firmware.

use crate::pack::pack;
use model::Timestamp;
use std::collections::BTreeMap;

/// Things kept for a group. New ones beyond it are judged as new and not learned.
const ENTRIES_MAX: usize = 512;

/// Learned things by what they are called, with how many devices do them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Habit {
    entries: BTreeMap<String, Entry>,
    /// Device-hours in which something new could have come.
    trials: u64,
    /// Things that came as new after learning.
    novel: u32,
    judging: bool,
}

pack!(Habit {
    entries,
    trials,
    novel,
    judging
});

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entry {
    /// On how many devices it was seen from outside; how many only said so themselves.
    pub devices: u32,
    pub reported: u32,
    pub standing: Standing,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
}

pack!(Entry {
    devices,
    reported,
    standing,
    first_seen,
    last_seen
});

/// How normal a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Standing {
    /// Seen; not normal.
    #[default]
    Candidate,
    /// Normal by the group's habit; nothing may be contained on it.
    Proposed,
    /// Normal because a person said so.
    Accepted,
}

impl crate::pack::Pack for Standing {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Candidate => 0,
            Self::Proposed => 1,
            Self::Accepted => 2,
        });
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        match u8::take(input)? {
            0 => Some(Self::Candidate),
            1 => Some(Self::Proposed),
            2 => Some(Self::Accepted),
            _ => None,
        }
    }
}

/// What one sighting adds to an entry.
#[derive(Debug, Clone, Copy)]
pub struct Vouch {
    /// This device has not been counted for it yet, and may be.
    pub counts: bool,
    /// Seen from outside, proven, a device in good standing.
    pub outside: bool,
}

impl Habit {
    /// Notes a sighting; how normal the thing was before it, `None` if it was unknown.
    pub fn see(&mut self, key: &str, vouch: Vouch, now: Timestamp) -> Option<Standing> {
        if let Some(entry) = self.entries.get_mut(key) {
            if vouch.counts && vouch.outside {
                entry.devices = entry.devices.saturating_add(1);
            } else if vouch.counts {
                entry.reported = entry.reported.saturating_add(1);
            }
            entry.last_seen = now;
            return Some(entry.standing);
        }
        if vouch.counts && self.entries.len() < ENTRIES_MAX {
            self.novel = self.novel.saturating_add(u32::from(self.judging));
            self.entries.insert(
                key.to_owned(),
                Entry {
                    devices: u32::from(vouch.outside),
                    reported: u32::from(!vouch.outside),
                    standing: Standing::Candidate,
                    first_seen: now,
                    last_seen: now,
                },
            );
        }
        None
    }

    pub fn try_hour(&mut self) {
        self.trials = self.trials.saturating_add(1);
    }

    /// Bits of surprise that a device does something new in an hour (Good-Turing: the share of
    /// what was new so far).
    pub fn surprise_bits(&self) -> f32 {
        let share = (self.novel as f32 + 0.5) / (self.trials as f32 + 1.0);
        -share.min(1.0).log2()
    }

    pub const fn trials(&self) -> u64 {
        self.trials
    }

    /// The end of learning: what enough devices do, seen from outside, is normal.
    pub fn propose(&mut self, devices_min: u32) {
        self.judging = true;
        for entry in self.entries.values_mut() {
            if entry.devices >= devices_min && entry.standing == Standing::Candidate {
                entry.standing = Standing::Proposed;
            }
        }
    }

    /// A person takes what is proposed, and what enough devices do or say. How many are new.
    pub fn accept(&mut self, devices_min: u32) -> usize {
        let mut accepted = 0;
        for entry in self.entries.values_mut() {
            let enough = entry.devices.max(entry.reported) >= devices_min;
            if entry.standing != Standing::Accepted
                && (enough || entry.standing == Standing::Proposed)
            {
                entry.standing = Standing::Accepted;
                accepted += 1;
            }
        }
        accepted
    }

    /// True if nothing was ever seen from outside: then there is nothing to judge by.
    pub fn is_blind(&self) -> bool {
        self.entries
            .values()
            .all(|entry| entry.devices == 0 && entry.standing == Standing::Candidate)
    }

    pub fn normal(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.standing > Standing::Candidate)
            .map(|(key, _)| key.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries
            .iter()
            .map(|(key, entry)| (key.as_str(), entry))
    }
}
