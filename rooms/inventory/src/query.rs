//! Search, filters and pages.

use crate::device::{DeviceView, Held, Lifecycle, Posture};
use crate::machine::Inventory;
use model::{Containment, DeviceId, GroupId, ProductId, Timestamp};
use std::ops::Bound;

/// Longest page.
const PAGE_MAX: usize = 1000;

/// Which devices. All that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Stands anywhere in the name, serial number, product, group, country, firmware version or an
    /// address; capitals do not matter.
    pub search: Option<String>,
    pub product: Option<ProductId>,
    pub group: Option<GroupId>,
    pub lifecycle: Option<Lifecycle>,
    pub posture: Option<Posture>,
    pub containment: Option<Containment>,
    pub connected: Option<bool>,
    /// 1 to 1000.
    pub limit: usize,
    /// Begin after this one.
    pub after: Option<DeviceId>,
}

/// Devices in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub devices: Vec<DeviceView>,
    /// How many hold in all, on this page or not.
    pub total: u64,
    /// Ask again after this one; `None`: that was all.
    pub next: Option<DeviceId>,
}

/// The fleet in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    pub total: u64,
    pub connected: u64,
    pub suspect: u64,
    /// Not cut off, not revoked and not retired, and without a certificate of their own.
    pub sharing: u64,
    pub contained: u64,
    pub revoked: u64,
    pub silent: u64,
    pub expected: u64,
    pub retired: u64,
}

impl Inventory {
    /// One walk over all devices: for a page, not for a packet.
    #[must_use]
    pub fn search(&self, query: &Query, now: Timestamp) -> Page {
        let search = query
            .search
            .as_ref()
            .map(|text| text.trim().to_ascii_lowercase())
            .filter(|text| !text.is_empty());
        let limit = query.limit.clamp(1, PAGE_MAX);
        let mut page = Page {
            devices: Vec::new(),
            total: 0,
            next: None,
        };
        for (device, held) in &self.devices {
            if !self.holds(query, search.as_deref(), device, held, now) {
                continue;
            }
            page.total = page.total.saturating_add(1);
            if query.after.as_ref().is_some_and(|after| device <= after) {
                continue;
            }
            if page.devices.len() < limit {
                page.devices
                    .push(held.view(device, now, self.settings.silent_after));
            } else if page.next.is_none() {
                page.next = page.devices.last().map(|last| last.device.clone());
            }
        }
        page
    }

    /// Up to `limit` devices after this one, in the order of their names.
    #[must_use]
    pub fn devices_after(
        &self,
        after: Option<&DeviceId>,
        limit: usize,
        now: Timestamp,
    ) -> Vec<DeviceView> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.devices
            .range::<DeviceId, _>((from, Bound::Unbounded))
            .take(limit)
            .map(|(device, held)| held.view(device, now, self.settings.silent_after))
            .collect()
    }

    #[must_use]
    pub fn summary(&self, now: Timestamp) -> Summary {
        let mut summary = Summary::default();
        let add = |number: &mut u64, holds: bool| {
            *number = number.saturating_add(u64::from(holds));
        };
        for held in self.devices.values() {
            let lifecycle = held.lifecycle(now, self.settings.silent_after);
            add(&mut summary.total, true);
            add(&mut summary.connected, held.sessions > 0);
            let revoked = held.revoked.is_some();
            add(&mut summary.revoked, revoked);
            add(&mut summary.contained, !revoked && held.cut.is_some());
            let free = !revoked && held.cut.is_none();
            add(&mut summary.suspect, free && held.suspicion.is_some());
            let is_here = free && lifecycle != Lifecycle::Retired;
            add(&mut summary.sharing, is_here && held.is_sharing());
            add(&mut summary.silent, lifecycle == Lifecycle::Silent);
            add(&mut summary.expected, lifecycle == Lifecycle::Expected);
            add(&mut summary.retired, lifecycle == Lifecycle::Retired);
        }
        summary
    }

    fn holds(
        &self,
        query: &Query,
        search: Option<&str>,
        device: &DeviceId,
        held: &Held,
        now: Timestamp,
    ) -> bool {
        let silent_after = self.settings.silent_after;
        query
            .product
            .as_ref()
            .is_none_or(|id| held.product() == Some(id))
            && query
                .group
                .as_ref()
                .is_none_or(|id| held.groups().contains(id))
            && query.connected.is_none_or(|one| one == (held.sessions > 0))
            && query
                .containment
                .is_none_or(|one| held.cut.as_ref().map(|cut| cut.containment) == Some(one))
            && query
                .lifecycle
                .is_none_or(|one| held.lifecycle(now, silent_after) == one)
            && query.posture.is_none_or(|one| held.posture().0 == one)
            && search.is_none_or(|text| matches(text, device, held))
    }
}

fn matches(search: &str, device: &DeviceId, held: &Held) -> bool {
    let record = held.record.as_deref();
    contains(device.as_str(), search)
        || held
            .serial()
            .is_some_and(|one| contains(one.as_str(), search))
        || held
            .product()
            .is_some_and(|one| contains(one.as_str(), search))
        || held
            .groups()
            .iter()
            .any(|one| contains(one.as_str(), search))
        || record
            .and_then(|record| record.country.as_deref())
            .is_some_and(|one| contains(one, search))
        || held
            .firmware
            .as_ref()
            .is_some_and(|one| contains(&one.version, search))
        || (search.contains(['.', ':'])
            && held
                .addresses
                .iter()
                .any(|one| one.row.address.to_string().contains(search)))
}

/// `needle` is in small letters. Without an allocation: this runs over every device.
fn contains(text: &str, needle: &str) -> bool {
    text.len() >= needle.len()
        && text
            .as_bytes()
            .windows(needle.len())
            .any(|part| part.eq_ignore_ascii_case(needle.as_bytes()))
}
