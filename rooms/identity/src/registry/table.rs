//! Compact rows: names in one arena, indexes of row numbers.
//!
//! A `HashMap<DeviceId, Device>` spends some 300 bytes a device on headers, pointers and a second
//! copy of each name; these tables spend about 40 beside the names themselves.

use model::{CertificateId, Digest, Timestamp};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

/// Small numbers for values of which there are few.
pub(super) struct Interner<T> {
    numbers: HashMap<T, u32>,
    values: Vec<T>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            values: Vec::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    pub(super) fn number(&self, value: &T) -> Option<u32> {
        self.numbers.get(value).copied()
    }

    pub(super) fn value(&self, number: u32) -> Option<&T> {
        self.values.get(index(number))
    }

    /// `None` when all numbers are used.
    pub(super) fn intern(&mut self, value: &T) -> Option<u32> {
        if let Some(number) = self.number(value) {
            return Some(number);
        }
        let number = u32::try_from(self.values.len()).ok()?;
        self.values.push(value.clone());
        self.numbers.insert(value.clone(), number);
        Some(number)
    }
}

/// Row numbers found by a hash of what the row says: open addressing, linear probing, no removal.
#[derive(Default)]
struct Index {
    /// Row number plus one; zero is an empty slot. The length is a power of two.
    slots: Vec<u32>,
    used: usize,
}

impl Index {
    fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = spread(hash) & mask;
        loop {
            let row = self.slots.get(at)?.checked_sub(1)?;
            if is_it(row) {
                return Some(row);
            }
            at = (at + 1) & mask;
        }
    }

    /// The row must not be in yet. `hash_of` gives the hash of a row already in.
    fn insert(&mut self, hash: u64, row: u32, hash_of: impl Fn(u32) -> u64) -> Option<()> {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            let larger = vec![0; (self.slots.len() * 2).max(16)];
            for slot in std::mem::replace(&mut self.slots, larger) {
                if let Some(row) = slot.checked_sub(1) {
                    self.place(hash_of(row), slot)?;
                }
            }
        }
        self.place(hash, row.checked_add(1)?)?;
        self.used += 1;
        Some(())
    }

    fn place(&mut self, hash: u64, slot: u32) -> Option<()> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = spread(hash) & mask;
        loop {
            let place = self.slots.get_mut(at)?;
            if *place == 0 {
                *place = slot;
                return Some(());
            }
            at = (at + 1) & mask;
        }
    }
}

fn spread(hash: u64) -> usize {
    usize::try_from(hash & 0xffff_ffff).unwrap_or_default()
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[derive(Clone, Copy)]
struct DeviceRow {
    name_start: u32,
    serial_start: u32,
    manufacturer: u32,
    product: u32,
    groups: u32,
    name_length: u8,
    serial_length: u8,
    enrolled: bool,
}

pub(super) struct DeviceView<'a> {
    pub name: &'a str,
    pub serial: &'a str,
    pub manufacturer: u32,
    pub product: u32,
    pub groups: u32,
    pub enrolled: bool,
}

/// Devices by name and by (manufacturer, serial number). Rows are never removed.
#[derive(Default)]
pub(super) struct Devices {
    arena: String,
    rows: Vec<DeviceRow>,
    names: Index,
    serials: Index,
    enrolled: usize,
    // Seeded afresh, so that nobody can choose names that collide. No answer depends on it.
    hasher: RandomState,
}

impl Devices {
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn enrolled_count(&self) -> usize {
        self.enrolled
    }

    pub(super) fn by_name(&self, name: &str) -> Option<u32> {
        self.names.find(self.hasher.hash_one(name), |row| {
            self.name(row) == Some(name)
        })
    }

    pub(super) fn by_serial(&self, manufacturer: u32, serial: &str) -> Option<u32> {
        let hash = self.hasher.hash_one((manufacturer, serial));
        self.serials.find(hash, |row| {
            self.view(row)
                .is_some_and(|view| view.manufacturer == manufacturer && view.serial == serial)
        })
    }

    pub(super) fn name(&self, row: u32) -> Option<&str> {
        self.view(row).map(|view| view.name)
    }

    pub(super) fn view(&self, row: u32) -> Option<DeviceView<'_>> {
        let row = self.rows.get(index(row))?;
        let text = |start: u32, length: u8| {
            let start = index(start);
            self.arena.get(start..start + usize::from(length))
        };
        Some(DeviceView {
            name: text(row.name_start, row.name_length)?,
            serial: text(row.serial_start, row.serial_length)?,
            manufacturer: row.manufacturer,
            product: row.product,
            groups: row.groups,
            enrolled: row.enrolled,
        })
    }

    /// Neither name nor serial number may be in yet. `None` when full.
    pub(super) fn add(
        &mut self,
        name: &str,
        manufacturer: u32,
        serial: &str,
        product: u32,
        groups: u32,
    ) -> Option<()> {
        let row = u32::try_from(self.rows.len())
            .ok()
            .filter(|row| *row < u32::MAX)?;
        let name_start = u32::try_from(self.arena.len()).ok()?;
        // A device mostly bears its serial number as its name: one copy serves both.
        let shared = name == serial;
        let serial_start = if shared {
            name_start
        } else {
            name_start.checked_add(u32::try_from(name.len()).ok()?)?
        };
        let new = DeviceRow {
            name_start,
            serial_start,
            manufacturer,
            product,
            groups,
            name_length: u8::try_from(name.len()).ok()?,
            serial_length: u8::try_from(serial.len()).ok()?,
            enrolled: false,
        };
        self.arena.push_str(name);
        if !shared {
            self.arena.push_str(serial);
        }
        self.rows.push(new);

        let mut names = std::mem::take(&mut self.names);
        let mut serials = std::mem::take(&mut self.serials);
        let placed =
            names
                .insert(self.hasher.hash_one(name), row, |row| {
                    self.hasher.hash_one(self.name(row).unwrap_or_default())
                })
                .and(
                    serials.insert(self.hasher.hash_one((manufacturer, serial)), row, |row| {
                        match self.view(row) {
                            Some(view) => self.hasher.hash_one((view.manufacturer, view.serial)),
                            None => 0,
                        }
                    }),
                );
        self.names = names;
        self.serials = serials;
        placed
    }

    pub(super) fn reassign(&mut self, row: u32, product: u32, groups: u32) {
        if let Some(row) = self.rows.get_mut(index(row)) {
            row.product = product;
            row.groups = groups;
        }
    }

    pub(super) fn set_enrolled(&mut self, row: u32) {
        if let Some(row) = self.rows.get_mut(index(row)) {
            self.enrolled += usize::from(!row.enrolled);
            row.enrolled = true;
        }
    }
}

/// Fingerprints of leaves and the devices they name, in the order in which they were pinned: about
/// 50 bytes each.
#[derive(Default)]
pub(super) struct Pins {
    rows: Vec<(Digest, u32)>,
    fingerprints: Index,
    hasher: RandomState,
}

impl Pins {
    pub(super) fn find(&self, fingerprint: &Digest) -> Option<u32> {
        let row = (self.fingerprints).find(self.hasher.hash_one(fingerprint.0), |row| {
            (self.rows.get(index(row))).is_some_and(|(pinned, _)| pinned == fingerprint)
        })?;
        self.rows.get(index(row)).map(|(_, device)| *device)
    }

    /// It must not be in yet. `None` when full.
    pub(super) fn add(&mut self, fingerprint: Digest, device: u32) -> Option<()> {
        let row = u32::try_from(self.rows.len())
            .ok()
            .filter(|row| *row < u32::MAX)?;
        self.rows.push((fingerprint, device));
        let (rows, hasher) = (&self.rows, &self.hasher);
        self.fingerprints
            .insert(hasher.hash_one(fingerprint.0), row, |row| {
                rows.get(index(row))
                    .map_or(0, |(pinned, _)| hasher.hash_one(pinned.0))
            })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Digest, u32)> {
        self.rows.iter().map(|(pinned, device)| (pinned, *device))
    }
}

/// A row of [`Devices`], a number of a service, or a door of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Device(u32),
    Service(u32),
    Server,
}

#[derive(Clone, Copy)]
pub(super) struct CertificateRow {
    serial: [u8; 20],
    issuer: u32,
    pub owner: Owner,
    /// Of the same owner, the one issued before this: row number plus one, or zero.
    previous: u32,
    // Split: a u64 would pad each row by four bytes.
    not_after_seconds: [u32; 2],
    /// The first 8 bytes of the key's digest. To find a key with the digest of another's costs
    /// 2^64 keys, and gains a refusal of one's own.
    key: [u8; 8],
}

impl CertificateRow {
    pub(super) fn not_after(&self) -> Timestamp {
        let [high, low] = self.not_after_seconds;
        Timestamp::from_seconds(u64::from(high) << 32 | u64::from(low))
    }
}

/// Keys that first identities showed, by the first 8 bytes of their digest: some 30 bytes each.
#[derive(Default)]
pub(super) struct ShownKeys(HashMap<[u8; 8], u32>);

impl ShownKeys {
    pub(super) fn find(&self, key: &Digest) -> Option<u32> {
        self.0.get(&short(key)).copied()
    }

    /// The first device that showed a key keeps it.
    pub(super) fn add(&mut self, key: &Digest, device: u32) {
        self.0.entry(short(key)).or_insert(device);
    }
}

/// Certificates of ours, in the order in which they were issued.
#[derive(Default)]
pub(super) struct Certificates {
    issuers: Interner<Digest>,
    rows: Vec<CertificateRow>,
    ids: Index,
    /// By owner the row issued last, plus one; zero: none.
    newest_of_devices: Vec<u32>,
    newest_of_services: Vec<u32>,
    /// One row for each key and owner, so that a device that renews with its key adds none.
    keys: Index,
    hasher: RandomState,
}

impl Certificates {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn find(&self, id: &CertificateId) -> Option<&CertificateRow> {
        let issuer = self.issuers.number(&id.issuer())?;
        let serial = padded(id.serial());
        let row = self.ids.find(self.hash(issuer, &serial), |row| {
            self.rows
                .get(index(row))
                .is_some_and(|row| row.issuer == issuer && row.serial == serial)
        })?;
        self.rows.get(index(row))
    }

    /// Of one owner, the latest issued first.
    pub(super) fn of(
        &self,
        owner: Owner,
    ) -> impl Iterator<Item = (CertificateId, &CertificateRow)> {
        let newest = match owner {
            Owner::Device(row) => self.newest_of_devices.get(index(row)),
            Owner::Service(number) => self.newest_of_services.get(index(number)),
            // Nobody asks for those of our doors one behind the other.
            Owner::Server => None,
        };
        self.chain(newest.copied().unwrap_or_default())
    }

    /// Those of the same owner that were issued before this one, the latest first.
    pub(super) fn before(
        &self,
        row: &CertificateRow,
    ) -> impl Iterator<Item = (CertificateId, &CertificateRow)> {
        self.chain(row.previous)
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = (CertificateId, &CertificateRow)> {
        let at = |link: u32| self.rows.get(index(link.checked_sub(1)?));
        std::iter::successors(at(first), move |row| at(row.previous))
            .filter_map(|row| Some((self.id(row)?, row)))
    }

    /// It must not be in yet. `None` when full.
    pub(super) fn add(
        &mut self,
        id: &CertificateId,
        owner: Owner,
        key: &Digest,
        not_after: Timestamp,
    ) -> Option<()> {
        let issuer = self.issuers.intern(&id.issuer())?;
        let seconds = not_after.as_seconds();
        self.push(CertificateRow {
            serial: padded(id.serial()),
            issuer,
            owner,
            previous: 0,
            not_after_seconds: [
                u32::try_from(seconds >> 32).ok()?,
                u32::try_from(seconds & 0xffff_ffff).ok()?,
            ],
            key: short(key),
        })
    }

    pub(super) fn knows_issuer(&self, issuer: &Digest) -> bool {
        self.issuers.number(issuer).is_some()
    }

    /// Somebody else who holds this key.
    pub(super) fn other_owner_of(&self, key: &Digest, own: Option<Owner>) -> Option<Owner> {
        let key = short(key);
        let row = self.keys.find(self.hasher.hash_one(key), |row| {
            self.rows
                .get(index(row))
                .is_some_and(|row| row.key == key && Some(row.owner) != own)
        })?;
        self.rows.get(index(row)).map(|row| row.owner)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (CertificateId, &CertificateRow)> {
        self.rows
            .iter()
            .filter_map(|row| Some((self.id(row)?, row)))
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&CertificateId, &CertificateRow) -> bool) {
        let kept: Vec<CertificateRow> = self
            .iter()
            .filter(|(id, row)| keep(id, row))
            .map(|(_, row)| *row)
            .collect();
        self.rows = Vec::with_capacity(kept.len());
        self.ids = Index::default();
        self.newest_of_devices.fill(0);
        self.newest_of_services.fill(0);
        self.keys = Index::default();
        for row in kept {
            // No more rows than before: it cannot be full.
            let _placed = self.push(row);
        }
    }

    fn push(&mut self, mut new: CertificateRow) -> Option<()> {
        let row = u32::try_from(self.rows.len())
            .ok()
            .filter(|row| *row < u32::MAX)?;
        let hash = self.hash(new.issuer, &new.serial);
        let newest = match new.owner {
            Owner::Device(row) => Some((&mut self.newest_of_devices, index(row))),
            Owner::Service(number) => Some((&mut self.newest_of_services, index(number))),
            Owner::Server => None,
        };
        if let Some((newest, number)) = newest {
            if newest.len() <= number {
                newest.resize(number + 1, 0);
            }
            new.previous = std::mem::replace(newest.get_mut(number)?, row + 1);
        }
        self.rows.push(new);
        let mut ids = std::mem::take(&mut self.ids);
        let placed = ids.insert(hash, row, |row| match self.rows.get(index(row)) {
            Some(row) => self.hash(row.issuer, &row.serial),
            None => 0,
        });
        self.ids = ids;
        placed?;
        let hash = self.hasher.hash_one(new.key);
        let is_same = |row: &CertificateRow| row.key == new.key && row.owner == new.owner;
        let known = self
            .keys
            .find(hash, |row| self.rows.get(index(row)).is_some_and(is_same));
        if known.is_some() {
            return Some(());
        }
        let mut keys = std::mem::take(&mut self.keys);
        let placed = keys.insert(hash, row, |row| match self.rows.get(index(row)) {
            Some(row) => self.hasher.hash_one(row.key),
            None => 0,
        });
        self.keys = keys;
        placed
    }

    fn id(&self, row: &CertificateRow) -> Option<CertificateId> {
        CertificateId::new(*self.issuers.value(row.issuer)?, &row.serial)
    }

    fn hash(&self, issuer: u32, serial: &[u8; 20]) -> u64 {
        self.hasher.hash_one((issuer, serial))
    }
}

fn padded(serial: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    for (to, from) in out.iter_mut().rev().zip(serial.iter().rev()) {
        *to = *from;
    }
    out
}

fn short(digest: &Digest) -> [u8; 8] {
    let mut out = [0; 8];
    for (to, from) in out.iter_mut().zip(&digest.0) {
        *to = *from;
    }
    out
}
