//! A device as it is known, and the words for its state.

use core::net::IpAddr;
use model::{
    Containment, DeviceId, Digest, GroupId, IncidentId, ManufacturerId, ProductId, Protocol,
    RevocationReason, SerialNumber, Source, Timestamp,
};

/// What the records of `identity` say of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub device: DeviceId,
    pub product: ProductId,
    pub groups: Vec<GroupId>,
    pub manufacturer: ManufacturerId,
    pub serial: SerialNumber,
    pub enrolled: bool,
}

/// What a person or an import said of a device. It grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    pub product: Option<ProductId>,
    /// In order, each once.
    pub groups: Vec<GroupId>,
    pub manufacturer: Option<ManufacturerId>,
    pub serial: Option<SerialNumber>,
    /// Two capital letters, ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// The day on which support ends, at its first moment (UTC).
    pub support_until: Option<Timestamp>,
    pub retired: bool,
    pub note: Option<String>,
}

/// Where a device stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lifecycle {
    /// Listed, and never had a certificate.
    Expected,
    /// Has a certificate, and was never seen with it.
    Enrolled,
    Active,
    /// Not connected, and not seen for as long as the settings say.
    Silent,
    /// Taken out of use, as a person said.
    Retired,
    /// Its identity was withdrawn.
    Revoked,
}

impl Lifecycle {
    pub const ALL: [Self; 6] = [
        Self::Expected,
        Self::Enrolled,
        Self::Active,
        Self::Silent,
        Self::Retired,
        Self::Revoked,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Enrolled => "enrolled",
            Self::Active => "active",
            Self::Silent => "silent",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// How far a device is trusted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Posture {
    Trusted,
    /// It comes by a certificate that other devices have as well.
    Shared,
    Suspect,
    Contained,
    Revoked,
}

impl Posture {
    pub const ALL: [Self; 5] = [
        Self::Trusted,
        Self::Shared,
        Self::Suspect,
        Self::Contained,
        Self::Revoked,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Shared => "shared",
            Self::Suspect => "suspect",
            Self::Contained => "contained",
            Self::Revoked => "revoked",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Why a device is suspect. The plane says so on proven evidence only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// In words for a person, e.g. `unexpected-destination seen by the gateway`.
    pub cause: String,
    pub incident: Option<IncidentId>,
}

/// That and why a device is cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    pub containment: Containment,
    pub since: Timestamp,
    pub incident: Option<IncidentId>,
    /// The person or playbook that decided; empty where it is not known.
    pub by: String,
}

/// The firmware seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// At most 64 characters, made harmless.
    pub version: String,
    pub digest: Option<Digest>,
    pub source: Source,
    pub at: Timestamp,
}

/// Where a device spoke from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub address: IpAddr,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub source: Source,
}

/// Whom a device talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    /// At most 253 characters, made harmless.
    pub host: Option<String>,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub bytes_out: u64,
    /// The best of those who saw it: network, else gateway, else the device itself.
    pub source: Source,
}

/// A device as one sees it from outside this room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceView {
    pub device: DeviceId,
    pub product: Option<ProductId>,
    pub groups: Vec<GroupId>,
    pub manufacturer: Option<ManufacturerId>,
    pub serial: Option<SerialNumber>,
    pub lifecycle: Lifecycle,
    pub posture: Posture,
    /// Why the posture is what it is; empty for a trusted one.
    pub posture_cause: String,
    pub containment: Option<Containment>,
    pub incident: Option<IncidentId>,
    pub connected: bool,
    pub first_seen: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    pub firmware: Option<Firmware>,
    /// The one seen last comes first.
    pub addresses: Vec<Address>,
    pub country: Option<String>,
    pub support_until: Option<Timestamp>,
    pub note: Option<String>,
    /// What its agent says it cannot see.
    pub unseen: Vec<String>,
}

/// A device as it is held.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    pub(crate) known: Option<Box<Known>>,
    pub(crate) record: Option<Box<Record>>,
    pub(crate) revoked: Option<(Timestamp, RevocationReason)>,
    pub(crate) cut: Option<Box<Cut>>,
    pub(crate) suspicion: Option<Box<Suspicion>>,
    /// Its certificate is other devices' as well, until it has one of its own.
    pub(crate) shares: bool,
    pub(crate) sessions: u32,
    pub(crate) first_seen: Option<Timestamp>,
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) firmware: Option<Box<Firmware>>,
    pub(crate) unseen: Box<[String]>,
    pub(crate) addresses: Vec<Kept<Address>>,
    pub(crate) peers: Vec<Kept<Peer>>,
    /// The last moment of life that was given out to be kept.
    pub(crate) last_seen_kept: Option<Timestamp>,
    pub(crate) dirty: bool,
}

/// A row with what is known of its stored copy.
#[derive(Debug, Clone)]
pub(crate) struct Kept<T> {
    pub(crate) row: T,
    pub(crate) dirty: bool,
    /// When the stored copy was last seen.
    pub(crate) last_seen_kept: Timestamp,
}

impl Held {
    pub(crate) fn product(&self) -> Option<&ProductId> {
        let known = self.known.as_ref().map(|known| &known.product);
        known.or_else(|| self.record.as_ref()?.product.as_ref())
    }

    pub(crate) fn groups(&self) -> &[GroupId] {
        match (&self.known, &self.record) {
            (Some(known), _) => &known.groups,
            (None, Some(record)) => &record.groups,
            (None, None) => &[],
        }
    }

    pub(crate) fn serial(&self) -> Option<&SerialNumber> {
        let known = self.known.as_ref().map(|known| &known.serial);
        known.or_else(|| self.record.as_ref()?.serial.as_ref())
    }

    pub(crate) fn manufacturer(&self) -> Option<&ManufacturerId> {
        let known = self.known.as_ref().map(|known| &known.manufacturer);
        known.or_else(|| self.record.as_ref()?.manufacturer.as_ref())
    }

    pub(crate) fn lifecycle(&self, now: Timestamp, silent_after: std::time::Duration) -> Lifecycle {
        let retired = self.record.as_ref().is_some_and(|record| record.retired);
        let enrolled = self.known.as_ref().is_some_and(|known| known.enrolled);
        match self.last_seen {
            _ if self.revoked.is_some() => Lifecycle::Revoked,
            _ if retired => Lifecycle::Retired,
            _ if !enrolled => Lifecycle::Expected,
            _ if self.sessions > 0 => Lifecycle::Active,
            None => Lifecycle::Enrolled,
            Some(last) if now.since(last) > silent_after => Lifecycle::Silent,
            Some(_) => Lifecycle::Active,
        }
    }

    pub(crate) fn is_sharing(&self) -> bool {
        self.shares && !self.known.as_ref().is_some_and(|known| known.enrolled)
    }

    pub(crate) fn posture(&self) -> (Posture, String) {
        if let Some((at, reason)) = self.revoked {
            return (
                Posture::Revoked,
                format!("revoked at {at}: {}", reason.name()),
            );
        }
        if let Some(cut) = &self.cut {
            let incident = cut
                .incident
                .map_or_else(String::new, |id| format!(", {id}"));
            let by = match cut.by.as_str() {
                "" => String::new(),
                by => format!(" by {by}"),
            };
            let how = cut.containment.name();
            return (
                Posture::Contained,
                format!("{how} since {}{by}{incident}", cut.since),
            );
        }
        match &self.suspicion {
            Some(suspicion) => (Posture::Suspect, suspicion.cause.clone()),
            None if self.is_sharing() => (
                Posture::Shared,
                "its certificate is other devices' as well: give it a claim token".to_owned(),
            ),
            None => (Posture::Trusted, String::new()),
        }
    }

    pub(crate) fn view(
        &self,
        device: &DeviceId,
        now: Timestamp,
        silent_after: std::time::Duration,
    ) -> DeviceView {
        let (posture, posture_cause) = self.posture();
        let record = self.record.as_deref();
        let mut addresses: Vec<Address> =
            self.addresses.iter().map(|one| one.row.clone()).collect();
        addresses.sort_by_key(|one| (std::cmp::Reverse(one.last_seen), one.address));
        DeviceView {
            device: device.clone(),
            product: self.product().cloned(),
            groups: self.groups().to_vec(),
            manufacturer: self.manufacturer().cloned(),
            serial: self.serial().cloned(),
            lifecycle: self.lifecycle(now, silent_after),
            posture,
            posture_cause,
            containment: self.cut.as_ref().map(|cut| cut.containment),
            incident: self
                .cut
                .as_ref()
                .and_then(|cut| cut.incident)
                .or_else(|| self.suspicion.as_ref()?.incident),
            connected: self.sessions > 0,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            firmware: self.firmware.as_deref().cloned(),
            addresses,
            country: record.and_then(|record| record.country.clone()),
            support_until: record.and_then(|record| record.support_until),
            note: record.and_then(|record| record.note.clone()),
            unseen: self.unseen.to_vec(),
        }
    }
}
