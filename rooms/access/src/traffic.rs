//! What was sent and heard, in numbers: per kind of principal, channel and day. No topic, no payload,
//! no device's name and no time of day is kept; the number of devices is an estimate.

use crate::class::Facts;
use crate::fleet::Channel;
use model::{Assurance, GroupId, Principal, ProductId, ServiceId};
use std::collections::BTreeMap;
use std::fmt;

/// Kinds × channels that one day tells apart, some 500 bytes each. What comes beyond is one number.
const ROWS_MAX: usize = 10_000;

/// All that any policy could see of somebody: a service, or devices of one product, groups and
/// assurance. The policies of tomorrow can tell no two of a kind apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    pub service: Option<ServiceId>,
    pub product: Option<ProductId>,
    /// Sorted, each once.
    pub groups: Vec<GroupId>,
    pub assurance: Assurance,
}

/// What is counted apart from the rest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    pub kind: Kind,
    /// The template of the channel as it was then: the channel's name says nothing of its topics.
    pub topics: String,
    /// Heard; otherwise sent.
    pub received: bool,
    /// In topics of the device's own.
    pub own: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub messages: u64,
    /// Of payloads.
    pub bytes: u64,
    /// The largest payload.
    pub bytes_max: u32,
    pub devices: DeviceCount,
}

/// About how many different devices: 128 numbers of a HyperLogLog, right within a tenth. None of them
/// can be told from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeviceCount([u8; DeviceCount::BYTES]);

/// What one principal sent or heard in one channel since it was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    pub received: bool,
    pub own: bool,
    pub messages: u64,
    pub bytes: u64,
    pub bytes_max: u32,
}

/// The counts of the day that is under way, in constant memory.
#[derive(Debug, Default)]
pub struct TrafficLedger {
    /// Days since 1970.
    day: u32,
    rows: BTreeMap<Stream, Row>,
    /// Messages of kinds and channels beyond what is told apart.
    untold: Row,
    /// Of the day before, not taken yet.
    finished: Vec<TrafficDay>,
}

#[derive(Debug, Default)]
struct Row {
    tally: Tally,
    changed: bool,
}

/// A row of a day; without a stream, what was not told apart on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficDay {
    pub day: u32,
    pub stream: Option<Stream>,
    pub tally: Tally,
}

impl Kind {
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        match &facts.principal {
            Principal::Service(id) => Self {
                service: Some(id.clone()),
                product: None,
                groups: Vec::new(),
                assurance: Assurance::default(),
            },
            Principal::Device(_) => {
                let mut groups = facts.groups.clone();
                groups.sort();
                groups.dedup();
                Self {
                    service: None,
                    product: facts.product.clone(),
                    groups,
                    assurance: facts.assurance,
                }
            }
        }
    }
}

/// `product camera, groups beta, eu`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.service, &self.product) {
            (Some(service), _) => return write!(f, "service {service}"),
            (None, Some(product)) => write!(f, "product {product}")?,
            (None, None) => f.write_str("no product")?,
        }
        for (index, group) in self.groups.iter().enumerate() {
            f.write_str(match index {
                0 if self.groups.len() == 1 => ", group ",
                0 => ", groups ",
                _ => ", ",
            })?;
            write!(f, "{group}")?;
        }
        match self.assurance {
            Assurance::Identified => Ok(()),
            other => write!(f, ", {}", other.name()),
        }
    }
}

impl Tally {
    pub(crate) fn join(&mut self, other: &Self) {
        self.messages = self.messages.saturating_add(other.messages);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.bytes_max = self.bytes_max.max(other.bytes_max);
        self.devices.join(&other.devices);
    }

    fn add(&mut self, facts: &Facts, passed: &Passed) {
        self.messages = self.messages.saturating_add(passed.messages);
        self.bytes = self.bytes.saturating_add(passed.bytes);
        self.bytes_max = self.bytes_max.max(passed.bytes_max);
        if let Principal::Device(device) = &facts.principal {
            self.devices.add(device.as_str());
        }
    }
}

impl TrafficLedger {
    /// Adds what a principal sent or heard. A day that is over does not begin again.
    pub fn count(&mut self, day: u32, facts: &Facts, channel: &Channel, passed: &Passed) {
        if self.day < day {
            *self = Self {
                day,
                finished: self.take(),
                ..Self::default()
            };
        }
        let stream = Stream {
            kind: Kind::of(facts),
            topics: channel.template.to_string(),
            received: passed.received,
            own: passed.own,
        };
        let row = if self.rows.len() < ROWS_MAX || self.rows.contains_key(&stream) {
            self.rows.entry(stream).or_default()
        } else {
            &mut self.untold
        };
        row.tally.add(facts, passed);
        row.changed = true;
    }

    /// The rows that changed since the last time, whole.
    pub fn take(&mut self) -> Vec<TrafficDay> {
        let day = self.day;
        let mut taken = std::mem::take(&mut self.finished);
        let told = (self.rows.iter_mut()).map(|(stream, row)| (Some(stream), row));
        let all = told.chain(std::iter::once((None, &mut self.untold)));
        taken.extend(all.filter(|(_, row)| row.changed).map(|(stream, row)| {
            row.changed = false;
            TrafficDay {
                day,
                stream: stream.cloned(),
                tally: row.tally,
            }
        }));
        taken
    }

    /// What was taken could not be kept: it is to be taken again. Of days before the last one no more
    /// than a day's is waited with.
    pub fn take_again(&mut self, rows: &[TrafficDay]) {
        for row in rows {
            if row.day != self.day {
                if self.finished.len() < ROWS_MAX {
                    self.finished.push(row.clone());
                }
                continue;
            }
            let known = match &row.stream {
                Some(stream) => self.rows.get_mut(stream),
                None => Some(&mut self.untold),
            };
            if let Some(known) = known {
                known.changed = true;
            }
        }
    }

    /// Goes on with a row of the day that a run before this one kept.
    pub fn restore(&mut self, row: TrafficDay) {
        if row.day < self.day {
            return;
        }
        if row.day > self.day {
            *self = Self {
                day: row.day,
                ..Self::default()
            };
        }
        match row.stream {
            Some(stream) => self.rows.entry(stream).or_default().tally.join(&row.tally),
            None => self.untold.tally.join(&row.tally),
        }
    }
}

impl DeviceCount {
    const BITS: u32 = 7;
    pub const BYTES: usize = 1 << Self::BITS;

    /// `None`: the bytes are of something else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn add(&mut self, name: &str) {
        let hash = mixed(name);
        let place = usize::try_from(hash % Self::BYTES as u64).unwrap_or(0);
        let rest = hash >> Self::BITS;
        let rank = u8::try_from(rest.trailing_zeros().min(57 - 1) + 1).unwrap_or(u8::MAX);
        if let Some(register) = self.0.get_mut(place) {
            *register = rank.max(*register);
        }
    }

    pub(crate) fn join(&mut self, other: &Self) {
        for (one, other) in self.0.iter_mut().zip(&other.0) {
            *one = (*one).max(*other);
        }
    }

    /// Flajolet and others, HyperLogLog (2007), with linear counting where few were seen.
    #[must_use]
    pub fn estimate(&self) -> u64 {
        let registers = Self::BYTES as f64;
        let empty = self.0.iter().filter(|register| **register == 0).count();
        let sum: f64 = (self.0.iter())
            .map(|register| f64::from(*register).exp2().recip())
            .sum();
        let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let estimate = if raw <= 2.5 * registers && empty > 0 {
            registers * (registers / empty as f64).ln()
        } else {
            raw
        };
        estimate.round() as u64
    }
}

impl Default for DeviceCount {
    fn default() -> Self {
        Self([0; Self::BYTES])
    }
}

impl fmt::Debug for DeviceCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceCount(about {})", self.estimate())
    }
}

/// FNV-1a and a finalizer: the same in every release, as its outcome is kept on disk. Names come from
/// lists of ours, so nobody gains by choosing them.
fn mixed(text: &str) -> u64 {
    let hash = (text.bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_counted_within_a_tenth_or_two_and_never_named() {
        for count in [0_u64, 1, 2, 5, 20, 100, 1_000, 50_000, 1_000_000] {
            let mut devices = DeviceCount::default();
            for number in 0..count {
                devices.add(&format!("dev-{number}"));
                if number % 3 == 0 {
                    devices.add(&format!("dev-{number}"));
                }
            }
            let told = devices.estimate();
            let off = told.abs_diff(count);
            assert!(off * 5 <= count, "{told} for {count}");
        }
    }

    #[test]
    fn joined_counts_count_each_device_once() {
        let (mut left, mut right, mut both) = Default::default();
        for number in 0..10_000 {
            let name = format!("dev-{number}");
            let side: &mut DeviceCount = if number < 6_000 {
                &mut left
            } else {
                &mut right
            };
            side.add(&name);
            if number < 9_000 {
                left.add(&name);
            }
            DeviceCount::add(&mut both, &name);
        }
        left.join(&right);
        assert_eq!(left, both);
    }
}
