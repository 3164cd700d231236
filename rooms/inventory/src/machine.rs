//! The machine: what is known of every device, changed by what is said and seen.

use crate::change::Change;
use crate::device::{
    Address, Cut, DeviceView, Firmware, Held, Kept, Known, Peer, Record, Suspicion,
};
use crate::sighting::{Learned, Seen, Sighting};
use crate::text::visible;
use model::{
    Attribution, DeviceId, GroupId, ManufacturerId, ProductId, RevocationReason, Source, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Addresses held of a device; a further one takes the place of the one not seen for longest.
pub const ADDRESSES_MAX: usize = 16;
/// Peers held of a device. A further one takes the place of one that only the device itself
/// reported, else of the one not seen for longest: its own words never push out what others saw.
pub const PEERS_MAX: usize = 256;
/// What an agent cannot see: lines, and characters of each.
const UNSEEN_LINES_MAX: usize = 16;
const UNSEEN_CHARS_MAX: usize = 128;
const VERSION_CHARS_MAX: usize = 64;
const HOST_CHARS_MAX: usize = 253;
/// A later moment of what is stored already is stored again after this long, not at each sighting.
const LAST_SEEN_STEP: Duration = Duration::from_secs(60);

/// How long what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub addresses_kept: Duration,
    pub peers_kept: Duration,
    /// A device that is not connected and was not seen for this long is silent.
    pub silent_after: Duration,
}

impl Default for Settings {
    /// Addresses 30 days, peers 90 days, silent after 24 hours.
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            addresses_kept: DAY.saturating_mul(30),
            peers_kept: DAY.saturating_mul(90),
            silent_after: DAY,
        }
    }
}

/// Every device that is on record. Bounded: by the records in number, and each device by
/// [`ADDRESSES_MAX`] and [`PEERS_MAX`].
#[derive(Debug, Default)]
pub struct Inventory {
    pub(crate) settings: Settings,
    pub(crate) devices: BTreeMap<DeviceId, Held>,
    /// Devices with something to be kept.
    dirty: BTreeSet<DeviceId>,
    /// What was dropped since rows were last given out.
    dropped: Vec<Change>,
    /// Names that many devices share, each held once.
    products: BTreeSet<ProductId>,
    groups: BTreeSet<GroupId>,
    manufacturers: BTreeSet<ManufacturerId>,
}

impl Inventory {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// A device is on the record of identities, or what stands there changed.
    pub fn known(&mut self, mut known: Known) {
        known.product = shared(&mut self.products, known.product);
        known.manufacturer = shared(&mut self.manufacturers, known.manufacturer);
        for group in &mut known.groups {
            *group = shared(&mut self.groups, group.clone());
        }
        let held = self.devices.entry(known.device.clone()).or_default();
        let enrolled = known.enrolled || held.known.as_ref().is_some_and(|old| old.enrolled);
        held.known = Some(Box::new(Known { enrolled, ..known }));
    }

    /// What a person or an import said of a device; replaces what was said before.
    pub fn record(&mut self, device: &DeviceId, mut record: Record) {
        record.product = record.product.map(|id| shared(&mut self.products, id));
        record.manufacturer = record
            .manufacturer
            .map(|id| shared(&mut self.manufacturers, id));
        for group in &mut record.groups {
            *group = shared(&mut self.groups, group.clone());
        }
        self.devices.entry(device.clone()).or_default().record = Some(Box::new(record));
    }

    /// It comes by a certificate that other devices have as well. Over when it has its own.
    pub fn shares(&mut self, device: &DeviceId) {
        self.devices.entry(device.clone()).or_default().shares = true;
    }

    /// How its identity stands withdrawn; `None`: it was on hold and is released. It need not be
    /// known.
    pub fn revoked(&mut self, device: &DeviceId, stands: Option<(Timestamp, RevocationReason)>) {
        let held = self.devices.entry(device.clone()).or_default();
        held.revoked = stands;
        if stands.is_some() {
            held.sessions = 0;
        }
    }

    /// How far it is cut off; `None`: not at all. It need not be known.
    pub fn contained(&mut self, device: &DeviceId, cut: Option<Cut>) {
        self.devices.entry(device.clone()).or_default().cut = cut.map(Box::new);
    }

    /// Whether proven evidence speaks against it; `None` clears it, which a person decides.
    pub fn suspected(&mut self, device: &DeviceId, suspicion: Option<Suspicion>) {
        if let Some(held) = self.devices.get_mut(device) {
            held.suspicion = suspicion.map(Box::new);
        }
    }

    /// Takes in what was seen.
    pub fn learn(&mut self, sighting: &Sighting) -> Learned {
        if sighting.attribution != Attribution::Proven {
            return Learned::NotProven;
        }
        let Some(held) = self.devices.get_mut(&sighting.device) else {
            return Learned::Unknown;
        };
        let (at, source) = (sighting.at, sighting.source);
        match &sighting.seen {
            Seen::Connected { address } => {
                held.sessions = held.sessions.saturating_add(1);
                held.address(&sighting.device, *address, at, source, &mut self.dropped);
            }
            Seen::Disconnected => held.sessions = held.sessions.saturating_sub(1),
            Seen::Alive => {}
            Seen::Address(address) => {
                held.address(&sighting.device, *address, at, source, &mut self.dropped);
            }
            Seen::Peer {
                address,
                port,
                protocol,
                host,
                bytes_out,
            } => {
                let peer = Peer {
                    address: *address,
                    port: *port,
                    protocol: *protocol,
                    host: host.as_ref().map(|host| visible(host, HOST_CHARS_MAX)),
                    first_seen: at,
                    last_seen: at,
                    bytes_out: *bytes_out,
                    source,
                };
                held.peer(&sighting.device, peer, &mut self.dropped);
            }
            Seen::Firmware { version, digest } => {
                held.firmware(Firmware {
                    version: visible(version, VERSION_CHARS_MAX),
                    digest: *digest,
                    source,
                    at,
                });
            }
            Seen::Unseen(lines) => {
                let lines: Box<[String]> = lines
                    .iter()
                    .take(UNSEEN_LINES_MAX)
                    .map(|line| visible(line, UNSEEN_CHARS_MAX))
                    .collect();
                held.dirty |= held.unseen != lines;
                held.unseen = lines;
            }
        }
        held.alive(at);
        if held.dirty {
            self.dirty.insert(sighting.device.clone());
        }
        Learned::Taken
    }

    /// No session stands: for a start, or where sessions are told anew.
    pub fn disconnect_all(&mut self) {
        for held in self.devices.values_mut() {
            held.sessions = 0;
        }
    }

    /// The sessions that stand, for the devices that `concerned` names: makes good what was not
    /// told. Returns of how many devices something else was believed.
    pub fn recount(
        &mut self,
        sessions: &BTreeMap<DeviceId, u32>,
        concerned: impl Fn(&DeviceId) -> bool,
    ) -> usize {
        let mut corrected = 0;
        for (device, held) in &mut self.devices {
            let standing = sessions.get(device).copied().unwrap_or_default();
            if held.sessions != standing && concerned(device) {
                held.sessions = standing;
                corrected += 1;
            }
        }
        corrected
    }

    #[must_use]
    pub fn device(&self, device: &DeviceId, now: Timestamp) -> Option<DeviceView> {
        let held = self.devices.get(device)?;
        Some(held.view(device, now, self.settings.silent_after))
    }

    /// Whom it talked to, the last first.
    #[must_use]
    pub fn peers(&self, device: &DeviceId) -> Vec<Peer> {
        let Some(held) = self.devices.get(device) else {
            return Vec::new();
        };
        let mut peers: Vec<Peer> = held.peers.iter().map(|one| one.row.clone()).collect();
        peers.sort_by_key(|one| (std::cmp::Reverse(one.last_seen), one.address, one.port));
        peers
    }

    /// Drops addresses and peers that were not seen for as long as the settings keep them.
    pub fn forget_old(&mut self, now: Timestamp) {
        let addresses = now.minus(self.settings.addresses_kept);
        let peers = now.minus(self.settings.peers_kept);
        for held in self.devices.values_mut() {
            held.addresses.retain(|one| one.row.last_seen >= addresses);
            held.peers.retain(|one| one.row.last_seen >= peers);
        }
        self.dropped.push(Change::ForgetBefore { addresses, peers });
    }

    /// Gives out rows that changed, about `limit` of them at most; call again for the rest. What is
    /// given out counts as kept: [`Inventory::keep_again`] where it could not be.
    pub fn take_changes(&mut self, limit: usize) -> Vec<Change> {
        let mut changes = std::mem::take(&mut self.dropped);
        while changes.len() < limit {
            let Some(device) = self.dirty.pop_first() else {
                break;
            };
            if let Some(held) = self.devices.get_mut(&device) {
                held.take_changes(&device, &mut changes);
            }
        }
        changes
    }

    /// These rows could not be kept: they are given out once more.
    pub fn keep_again(&mut self, changes: Vec<Change>) {
        for change in changes {
            let device = match &change {
                Change::Device { device, .. }
                | Change::Address(device, _)
                | Change::Peer(device, _) => device.clone(),
                _ => {
                    self.dropped.push(change);
                    continue;
                }
            };
            if let Some(held) = self.devices.get_mut(&device) {
                held.mark(&change);
                self.dirty.insert(device);
            }
        }
    }

    /// A row that was kept before a restart. A device that is on no record any more is left out.
    pub fn restore(&mut self, change: Change) {
        match change {
            Change::Device {
                device,
                first_seen,
                last_seen,
                firmware,
                unseen,
            } => {
                if let Some(held) = self.devices.get_mut(&device) {
                    held.first_seen = Some(first_seen);
                    held.last_seen = Some(last_seen);
                    held.last_seen_kept = Some(last_seen);
                    held.firmware = firmware.map(Box::new);
                    held.unseen = unseen.into_boxed_slice();
                }
            }
            Change::Address(device, row) => {
                if let Some(held) = self.devices.get_mut(&device)
                    && held.addresses.len() < ADDRESSES_MAX
                {
                    held.addresses.push(Kept::stored(row.last_seen, row));
                }
            }
            Change::Peer(device, row) => {
                if let Some(held) = self.devices.get_mut(&device)
                    && held.peers.len() < PEERS_MAX
                {
                    held.peers.push(Kept::stored(row.last_seen, row));
                }
            }
            Change::ForgetAddress(..) | Change::ForgetPeer { .. } | Change::ForgetBefore { .. } => {
            }
        }
    }
}

impl<T> Kept<T> {
    fn stored(last_seen: Timestamp, row: T) -> Self {
        Self {
            row,
            dirty: false,
            last_seen_kept: last_seen,
        }
    }

    fn new(row: T) -> Self {
        Self {
            row,
            dirty: true,
            last_seen_kept: Timestamp::default(),
        }
    }
}

impl Held {
    fn alive(&mut self, at: Timestamp) {
        self.first_seen.get_or_insert(at);
        self.last_seen = self.last_seen.max(Some(at));
        let stale = self
            .last_seen_kept
            .is_none_or(|kept| at.since(kept) >= LAST_SEEN_STEP);
        self.dirty |= stale;
    }

    fn address(
        &mut self,
        device: &DeviceId,
        address: core::net::IpAddr,
        at: Timestamp,
        source: Source,
        dropped: &mut Vec<Change>,
    ) {
        if let Some(kept) = self
            .addresses
            .iter_mut()
            .find(|kept| kept.row.address == address)
        {
            kept.row.last_seen = kept.row.last_seen.max(at);
            kept.row.source = kept.row.source.max(source);
            kept.dirty |= at.since(kept.last_seen_kept) >= LAST_SEEN_STEP;
            self.dirty |= kept.dirty;
            return;
        }
        if self.addresses.len() >= ADDRESSES_MAX
            && let Some(place) = place_of_least(&self.addresses, |row| row.last_seen)
        {
            let gone = self.addresses.swap_remove(place);
            dropped.push(Change::ForgetAddress(device.clone(), gone.row.address));
        }
        self.addresses.push(Kept::new(Address {
            address,
            first_seen: at,
            last_seen: at,
            source,
        }));
        self.dirty = true;
    }

    fn peer(&mut self, device: &DeviceId, peer: Peer, dropped: &mut Vec<Change>) {
        let key = |row: &Peer| (row.address, row.port, row.protocol);
        if let Some(kept) = self
            .peers
            .iter_mut()
            .find(|kept| key(&kept.row) == key(&peer))
        {
            let row = &mut kept.row;
            // A device does not get to rename what others saw.
            if peer.host.is_some() && peer.source >= row.source && peer.host != row.host {
                row.host = peer.host;
                kept.dirty = true;
            }
            kept.dirty |= peer.source > row.source;
            row.source = row.source.max(peer.source);
            row.last_seen = row.last_seen.max(peer.last_seen);
            row.bytes_out = row.bytes_out.saturating_add(peer.bytes_out);
            kept.dirty |= peer.last_seen.since(kept.last_seen_kept) >= LAST_SEEN_STEP;
            self.dirty |= kept.dirty;
            return;
        }
        if self.peers.len() >= PEERS_MAX {
            let least = |row: &Peer| (row.source != Source::Device, row.last_seen);
            let Some(place) = place_of_least(&self.peers, least) else {
                return;
            };
            let all_from_outside = self
                .peers
                .get(place)
                .is_some_and(|kept| kept.row.source != Source::Device);
            if peer.source == Source::Device && all_from_outside {
                return;
            }
            let gone = self.peers.swap_remove(place).row;
            dropped.push(Change::ForgetPeer {
                device: device.clone(),
                address: gone.address,
                port: gone.port,
                protocol: gone.protocol,
            });
        }
        self.peers.push(Kept::new(peer));
        self.dirty = true;
    }

    /// What was seen from outside stands until it is seen otherwise from outside.
    fn firmware(&mut self, seen: Firmware) {
        match self.firmware.as_deref_mut() {
            Some(held) if held.source > seen.source => {}
            Some(held)
                if (&held.version, held.digest, held.source)
                    == (&seen.version, seen.digest, seen.source) =>
            {
                held.at = seen.at;
            }
            _ => {
                self.firmware = Some(Box::new(seen));
                self.dirty = true;
            }
        }
    }

    fn take_changes(&mut self, device: &DeviceId, changes: &mut Vec<Change>) {
        self.dirty = false;
        self.last_seen_kept = self.last_seen;
        if let (Some(first_seen), Some(last_seen)) = (self.first_seen, self.last_seen) {
            changes.push(Change::Device {
                device: device.clone(),
                first_seen,
                last_seen,
                firmware: self.firmware.as_deref().cloned(),
                unseen: self.unseen.to_vec(),
            });
        }
        for kept in self.addresses.iter_mut().filter(|kept| kept.dirty) {
            (kept.dirty, kept.last_seen_kept) = (false, kept.row.last_seen);
            changes.push(Change::Address(device.clone(), kept.row.clone()));
        }
        for kept in self.peers.iter_mut().filter(|kept| kept.dirty) {
            (kept.dirty, kept.last_seen_kept) = (false, kept.row.last_seen);
            changes.push(Change::Peer(device.clone(), kept.row.clone()));
        }
    }

    fn mark(&mut self, change: &Change) {
        self.dirty = true;
        match change {
            Change::Address(_, row) => self
                .addresses
                .iter_mut()
                .filter(|kept| kept.row.address == row.address)
                .for_each(|kept| kept.dirty = true),
            Change::Peer(_, row) => self
                .peers
                .iter_mut()
                .filter(|kept| kept.row.address == row.address && kept.row.port == row.port)
                .for_each(|kept| kept.dirty = true),
            _ => {}
        }
    }
}

fn place_of_least<T, K: Ord>(rows: &[Kept<T>], key: impl Fn(&T) -> K) -> Option<usize> {
    rows.iter()
        .enumerate()
        .min_by_key(|(_, kept)| key(&kept.row))
        .map(|(place, _)| place)
}

fn shared<T: Ord + Clone>(all: &mut BTreeSet<T>, one: T) -> T {
    if let Some(held) = all.get(&one) {
        return held.clone();
    }
    all.insert(one.clone());
    one
}
