//! How many devices playbooks may cut off in an hour.

use model::{DeviceId, Timestamp};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// What playbooks took away, oldest first; only as long as it counts. Bounded by the caps.
#[derive(Debug, Default)]
pub(crate) struct Taken(VecDeque<One>);

#[derive(Debug)]
struct One {
    at: Timestamp,
    playbook: String,
    device: DeviceId,
}

impl Taken {
    pub fn add(&mut self, at: Timestamp, playbook: &str, device: &DeviceId) {
        let one = One {
            at,
            playbook: playbook.to_owned(),
            device: device.clone(),
        };
        // Oldest first also after a restart, when acts come incident by incident.
        let place = self.0.partition_point(|earlier| earlier.at <= at);
        self.0.insert(place, one);
    }

    /// A clock that went back makes nothing younger: what lies ahead of `now` counts still.
    pub fn forget_old(&mut self, now: Timestamp) {
        while self.0.front().is_some_and(|one| now.since(one.at) >= HOUR) {
            self.0.pop_front();
        }
    }

    /// Distinct devices within the last hour, of one playbook or of all.
    pub fn devices(&self, playbook: Option<&str>) -> BTreeSet<&DeviceId> {
        self.0
            .iter()
            .filter(|one| playbook.is_none_or(|name| one.playbook == name))
            .map(|one| &one.device)
            .collect()
    }

    pub fn devices_since(&self, playbook: &str, after: Timestamp) -> usize {
        (self.0.iter())
            .filter(|one| one.playbook == playbook && one.at > after)
            .map(|one| &one.device)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Would one more of `device` go beyond? A device that is counted already costs nothing.
    pub fn is_full(&self, playbook: Option<&str>, device: &DeviceId, devices_max: u64) -> bool {
        let devices = self.devices(playbook);
        !devices.contains(device) && u64::try_from(devices.len()).unwrap_or(u64::MAX) >= devices_max
    }
}

/// Devices an hour that all playbooks together may cut off in a fleet of this size: an operator's
/// word, or 10, or 0.1 % of the fleet where that is more.
#[must_use]
pub fn contain_max_of_all(set: Option<u64>, fleet_size: u64) -> u64 {
    const CONTAIN_MAX_ALL: u64 = 10;
    set.unwrap_or_else(|| default_max(CONTAIN_MAX_ALL, fleet_size))
}

/// `low`, or 0.1 % of so many devices where that is more.
pub(crate) fn default_max(low: u64, devices: u64) -> u64 {
    low.max(devices / 1000)
}
