//! Observations in, deviations out.

use crate::baseline::Group;
use crate::device::{Device, Saying};
use crate::judge::rates::Counted;
use crate::judge::sets::Contact;
use crate::judge::{Judgement, Sight, failures, interfaces, protocol, rates, reports, sets};
use crate::pack::{Pack, digest};
use crate::parts::Parts;
use crate::places::{Places, known_key};
use crate::visitors::Visitors;
use crate::{Baseline, Declared, Deviation, Feature, Observation, Settings};
use model::{DeviceId, ProductId, Subject, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// The machine that judges. The same observations in the same order give the same deviations.
#[derive(Debug)]
pub struct Detector {
    settings: Settings,
    now: Timestamp,
    groups: BTreeMap<ProductId, Group>,
    devices: Parts<Known>,
    /// When silence of a device would be worth a word; looked at again then.
    due: BTreeSet<(Timestamp, DeviceId)>,
    visitors: Visitors,
}

#[derive(Debug)]
struct Known {
    product: ProductId,
    state: Box<Device>,
    places: Places,
    due: Option<Timestamp>,
}

/// Why a snapshot was not taken back. The detector is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error(
        "the snapshot is of format {0}; this version reads {FORMAT}: start without it, what was \
         learned is learned again"
    )]
    Format(u64),
    #[error("the snapshot is damaged ({0}): start without it, what was learned is learned again")]
    Damaged(&'static str),
    #[error("the snapshot has {0} bytes, more than any we write")]
    TooLarge(usize),
}

const FORMAT: u64 = 1;
const MARK: &[u8] = b"fleetward detection\n";
/// A 256th of ten million devices.
const SNAPSHOT_BYTES_MAX: usize = 1 << 26;

impl Detector {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: Timestamp::default(),
            groups: BTreeMap::new(),
            devices: Parts::new(),
            due: BTreeSet::new(),
            visitors: Visitors::default(),
        }
    }

    /// Replaces what is declared; a product that is no longer named has nothing declared.
    pub fn declare(&mut self, declared: &[Declared]) {
        for group in self.groups.values_mut() {
            group.declared = None;
        }
        for one in declared {
            let group = self.groups.entry(one.product.clone()).or_default();
            group.declared = Some(one.clone());
        }
        self.groups
            .retain(|_, group| group.devices > 0 || group.declared.is_some());
    }

    /// A device of a product exists. Again with another product: it moves, and starts afresh.
    pub fn enroll(&mut self, device: &DeviceId, product: &ProductId) {
        if self
            .devices
            .get(device)
            .is_some_and(|known| known.product == *product)
        {
            return;
        }
        self.forget(device);
        self.groups.entry(product.clone()).or_default().devices += 1;
        self.devices.insert(
            device.clone(),
            Known {
                product: product.clone(),
                state: Box::default(),
                places: Places::default(),
                due: None,
            },
        );
    }

    /// The device is gone (retired, revoked): nothing of it is kept but what its group learned.
    pub fn forget(&mut self, device: &DeviceId) {
        let Some(known) = self.devices.remove(device) else {
            return;
        };
        if let Some(due) = known.due {
            self.due.remove(&(due, device.clone()));
        }
        if let Some(group) = self.groups.get_mut(&known.product) {
            group.devices = group.devices.saturating_sub(1);
        }
    }

    /// Judges one observation; appends what differs. One of a device that was not enrolled is
    /// not judged: names cost a stranger nothing.
    pub fn observe(&mut self, observation: &Observation, out: &mut Vec<Deviation>) {
        self.now = self.now.max(observation.at);
        let sight = Sight::of(observation, self.now);
        match &observation.subject {
            Subject::Device(id) => self.observe_device(id, &sight, &observation.feature, out),
            subject => {
                let visitor = self.visitors.visit(subject, self.now);
                let judgement = interfaces::visitor(
                    &self.settings,
                    visitor,
                    subject,
                    &sight,
                    &observation.feature,
                );
                let Some(judgement) = judgement else { return };
                let saying = saying(&judgement, &sight);
                if visitor
                    .said
                    .says(&saying, self.now, self.settings.repeat_after)
                {
                    out.push(deviation(subject.clone(), judgement, &sight, None));
                }
            }
        }
    }

    fn observe_device(
        &mut self,
        id: &DeviceId,
        sight: &Sight<'_>,
        feature: &Feature,
        out: &mut Vec<Deviation>,
    ) {
        let Some(known) = self.devices.get_mut(id) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&known.product) else {
            return;
        };
        group.advance(self.now, &self.settings);
        let judgements = judge(&self.settings, group, &mut known.state, sight, feature);
        let placed = placed(&mut known.places, sight, feature);
        for judgement in judgements.into_iter().flatten().chain(placed) {
            let saying = saying(&judgement, sight);
            if known
                .state
                .says(&saying, self.now, self.settings.repeat_after)
            {
                let of = Some((&known.product, group.devices));
                out.push(deviation(Subject::Device(id.clone()), judgement, sight, of));
            }
        }
        if known.due.is_none() && matches!(feature, Feature::Report { .. }) {
            known.due = reports::silent_at(&self.settings, &known.state);
            self.due.extend(known.due.map(|due| (due, id.clone())));
        }
    }

    /// What time alone makes a deviation: silence. Call at [`Self::next_deadline`] or later.
    pub fn wake(&mut self, now: Timestamp, out: &mut Vec<Deviation>) {
        self.now = self.now.max(now);
        while self.next_deadline().is_some_and(|due| due <= self.now) {
            let Some((_, id)) = self.due.pop_first() else {
                return;
            };
            let Some(known) = self.devices.get_mut(&id) else {
                continue;
            };
            if let Some(judgement) = reports::silence(&self.settings, &mut known.state, self.now) {
                let size = self
                    .groups
                    .get(&known.product)
                    .map_or(0, |group| group.devices);
                let of = Some((&known.product, size));
                let sight = Sight::of_our_own(self.now);
                out.push(deviation(
                    Subject::Device(id.clone()),
                    judgement,
                    &sight,
                    of,
                ));
            }
            // It reported since, and may fall silent later; or it is silent, until it reports.
            known.due = reports::silent_at(&self.settings, &known.state);
            self.due.extend(known.due.map(|due| (due, id)));
        }
    }

    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// By product id.
    #[must_use]
    pub fn baselines(&self) -> Vec<Baseline> {
        self.groups
            .iter()
            .map(|(product, group)| group.baseline(product))
            .collect()
    }

    /// A person takes what was proposed as normal. How many entries became normal by it; `None`
    /// if the product has no baseline.
    pub fn accept(&mut self, product: &ProductId, at: Timestamp) -> Option<usize> {
        let group = self.groups.get_mut(product)?;
        Some(group.accept(at, &self.settings))
    }

    /// What was learned of all groups, without what is declared or set.
    #[must_use]
    pub fn snapshot_of_groups(&self) -> Vec<u8> {
        self.snapshot(&self.groups, core::iter::empty())
    }

    /// What was learned of one of the 256 parts that devices are divided into. Nothing is kept of
    /// people, services and addresses: what is remembered of these is of the last hour.
    ///
    /// Each part may be of another moment: a device whose part is older than its group's learning is
    /// counted there once more when it does the same again.
    #[must_use]
    pub fn snapshot_of_devices(&self, part: u8) -> Vec<u8> {
        self.snapshot(&BTreeMap::new(), self.devices.part(part))
    }

    fn snapshot<'d>(
        &self,
        groups: &BTreeMap<ProductId, Group>,
        devices: impl ExactSizeIterator<Item = (&'d DeviceId, &'d Known)>,
    ) -> Vec<u8> {
        let mut out = MARK.to_vec();
        FORMAT.put(&mut out);
        self.now.put(&mut out);
        count(groups.len()).put(&mut out);
        for (product, group) in groups {
            product.put(&mut out);
            group.learned.put(&mut out);
        }
        count(devices.len()).put(&mut out);
        for (id, known) in devices {
            id.put(&mut out);
            known.product.put(&mut out);
            known.state.put(&mut out);
        }
        digest(&out).put(&mut out);
        out
    }

    /// Takes one snapshot back, as far as it is of devices that are enrolled now; of others, and of
    /// devices that have moved to another product since, nothing.
    ///
    /// # Errors
    /// Refuses what is damaged or of another format; nothing is changed then.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        use SnapshotError::{Damaged, Format, TooLarge};
        if bytes.len() > SNAPSHOT_BYTES_MAX {
            return Err(TooLarge(bytes.len()));
        }
        let mut input = bytes.strip_prefix(MARK).ok_or(Damaged("no mark"))?;
        let format = u64::take(&mut input).ok_or(Damaged("no format"))?;
        if format != FORMAT {
            return Err(Format(format));
        }
        let (body, sum) = bytes
            .split_last_chunk::<8>()
            .ok_or(Damaged("no checksum"))?;
        if u64::from_le_bytes(*sum) != digest(body) {
            return Err(Damaged("checksum"));
        }
        let end = input.len().checked_sub(8).ok_or(Damaged("too short"))?;
        input = input.split_at_checked(end).ok_or(Damaged("too short"))?.0;
        let taken = Taken::take(&mut input).ok_or(Damaged("contents"))?;
        if !input.is_empty() {
            return Err(Damaged("more than it should hold"));
        }
        self.adopt(taken);
        Ok(())
    }

    fn adopt(&mut self, taken: Taken) {
        self.now = self.now.max(taken.now);
        for (product, learned) in taken.groups {
            if let Some(group) = self.groups.get_mut(&product) {
                group.learned = learned;
            }
        }
        for (id, product, state) in taken.devices {
            let Some(known) = self.devices.get_mut(&id) else {
                continue;
            };
            if known.product != product {
                continue;
            }
            if let Some(due) = known.due.take() {
                self.due.remove(&(due, id.clone()));
            }
            *known.state = state;
            known.due = reports::silent_at(&self.settings, &known.state);
            self.due.extend(known.due.map(|due| (due, id)));
        }
    }
}

struct Taken {
    now: Timestamp,
    groups: Vec<(ProductId, crate::baseline::Learned)>,
    devices: Vec<(DeviceId, ProductId, Device)>,
}

impl Taken {
    fn take(input: &mut &[u8]) -> Option<Self> {
        let now = Timestamp::take(input)?;
        let mut groups = Vec::new();
        for _ in 0..u32::take(input)? {
            groups.push((Pack::take(input)?, Pack::take(input)?));
        }
        let mut devices = Vec::new();
        for _ in 0..u32::take(input)? {
            devices.push((Pack::take(input)?, Pack::take(input)?, Pack::take(input)?));
        }
        Some(Self {
            now,
            groups,
            devices,
        })
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// At most two: a rate and what its names carry.
fn judge(
    settings: &Settings,
    group: &mut Group,
    device: &mut Device,
    sight: &Sight<'_>,
    feature: &Feature,
) -> [Option<Judgement>; 2] {
    let one = match feature {
        Feature::Destination {
            address,
            port,
            protocol,
            host,
            bytes_out,
        } => {
            let contact = Contact {
                address: *address,
                port: *port,
                protocol: *protocol,
                host: host.as_deref(),
                bytes_out: *bytes_out,
            };
            sets::destination(settings, group, device, sight, &contact)
        }
        Feature::ListeningPort { port, protocol } => {
            sets::listening_port(group, device, sight, *protocol, *port)
        }
        Feature::DnsQueries {
            queries,
            names,
            interval,
        } => {
            let amount = (*queries, *interval);
            let rate = rates::rate(settings, group, device, sight, Counted::DnsQueries, amount);
            return [rate, rates::tunnel(sight, names)];
        }
        Feature::BytesOut {
            bytes, interval, ..
        } => {
            let amount = (*bytes, *interval);
            rates::rate(settings, group, device, sight, Counted::BytesOut, amount)
        }
        Feature::Messages {
            count, interval, ..
        } => {
            let amount = (*count, *interval);
            rates::rate(settings, group, device, sight, Counted::Messages, amount)
        }
        Feature::TlsSession {
            version,
            group: exchange,
            ..
        } => protocol::session(group, device, sight, version, exchange.as_deref()),
        Feature::HandshakeFailed { reason, door } => {
            failures::handshake(settings, group, device, sight, reason, door)
        }
        Feature::ProtocolTooOld { offered, door } => {
            Some(failures::old_protocol(device, sight, offered, door))
        }
        Feature::Denied {
            action,
            target,
            reason,
        } => failures::denied(settings, device, sight, (action, target, reason)),
        Feature::TakenOver {
            same_certificate,
            from,
            previous_from,
        } => failures::takeover(device, sight, *same_certificate, *from, *previous_from),
        Feature::Firmware { version, digest } => {
            sets::firmware(group, device, sight, version, digest.as_ref())
        }
        Feature::Report {
            boot,
            sequence,
            interval,
        } => reports::report(device, sight, boot, *sequence, *interval),
        Feature::TlsFailures { count, .. } => {
            failures::reported_handshakes(settings, device, sight, *count)
        }
        // A device has no sessions of people and commands nobody; where its identity is used is
        // judged by itself.
        Feature::DoorOpened { .. }
        | Feature::KnownKey { .. }
        | Feature::SessionOpened { .. }
        | Feature::SessionEnded { .. }
        | Feature::CommandFanOut { .. }
        | Feature::GlassBroken
        | Feature::SignIn { .. }
        | Feature::Token { .. }
        | Feature::UsedFrom { .. } => None,
    };
    [one, None]
}

/// One program that moves, or two?
fn placed(places: &mut Places, sight: &Sight<'_>, feature: &Feature) -> Option<Judgement> {
    match feature {
        Feature::SessionOpened { address, .. } => {
            places.opened(*address);
            None
        }
        Feature::SessionEnded { .. } => {
            places.ended();
            None
        }
        Feature::TakenOver {
            same_certificate,
            from,
            previous_from,
        } => places.taken_over(sight, *same_certificate, *from, *previous_from),
        Feature::DoorOpened { door, address } => places.at_door(sight, door, *address),
        Feature::KnownKey { flaw, door } => Some(known_key(sight, flaw, door)),
        _ => None,
    }
}

fn saying<'a>(judgement: &'a Judgement, sight: &Sight<'_>) -> Saying<'a> {
    Saying {
        kind: judgement.kind,
        entity: &judgement.entity,
        source: sight.source,
        attribution: sight.attribution,
        severity: judgement.severity,
    }
}

fn deviation(
    subject: Subject,
    judgement: Judgement,
    sight: &Sight<'_>,
    of: Option<(&ProductId, u64)>,
) -> Deviation {
    Deviation {
        subject,
        kind: judgement.kind,
        entity: judgement.entity,
        expected: judgement.expected,
        seen: judgement.seen,
        since: judgement.since,
        at: sight.now,
        source: sight.source,
        attribution: sight.attribution,
        severity: judgement.severity,
        observed_by: sight.observed_by(),
        accepted_baseline: judgement.accepted,
        group: of.map(|(product, _)| product.clone()),
        group_size: of.map_or(0, |(_, size)| size),
    }
}
