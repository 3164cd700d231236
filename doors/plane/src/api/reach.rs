//! What somebody can reach, for people: while it is free, and now.

use crate::plane::Plane;
use access::Facts;
use model::{DeviceId, Principal};
use serde::Serialize;
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// What a device can reach through this plane, by the names in the fleet.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Reach {
    pub channels: Vec<String>,
    /// What its product is declared to talk to; the network enforces it.
    pub destinations: Vec<String>,
    /// Other devices whose channels it can use.
    pub devices_reachable: u64,
}

impl Reach {
    /// `reach`, by names.
    #[must_use]
    pub fn of(plane: &Plane, reach: access::Reach) -> Self {
        let others = reach.channels.iter().any(|channel| channel.others);
        let enrolled = plane.trust().registry().enrolled_count() as u64;
        Self {
            channels: (reach.channels.into_iter())
                .map(|channel| channel.channel)
                .collect(),
            destinations: (reach.destinations.iter())
                .map(|destination| destination.as_str().to_owned())
                .collect(),
            devices_reachable: if others {
                enrolled.saturating_sub(1)
            } else {
                0
            },
        }
    }

    /// What many reach together: of each kind among them, the same product and groups, by the first.
    #[must_use]
    pub fn of_kinds<'d>(
        plane: &Plane,
        devices: impl IntoIterator<Item = &'d DeviceId>,
        reach: impl Fn(&DeviceId) -> access::Reach,
    ) -> Self {
        const KINDS_MAX: usize = 256;
        let mut kinds = BTreeSet::new();
        let (mut channels, mut destinations) = (BTreeSet::new(), BTreeSet::new());
        let mut devices_reachable = 0;
        for device in devices {
            let facts = plane.facts_of_device(device);
            if !kinds.insert((facts.product, facts.groups)) {
                continue;
            }
            let one = Self::of(plane, reach(device));
            channels.extend(one.channels);
            destinations.extend(one.destinations);
            devices_reachable = one.devices_reachable.max(devices_reachable);
            if kinds.len() >= KINDS_MAX {
                break;
            }
        }
        Self {
            channels: channels.into_iter().collect(),
            destinations: destinations.into_iter().collect(),
            devices_reachable,
        }
    }
}

impl Plane {
    /// What it can reach when it is not cut off.
    #[must_use]
    pub fn reach_when_free(&self, device: &DeviceId) -> access::Reach {
        let mut facts = self.facts_of_device(device);
        facts.containment = None;
        self.grants().reach(&facts)
    }

    /// What it can reach now: nothing, if its identity is gone.
    #[must_use]
    pub fn reach_now(&self, device: &DeviceId) -> access::Reach {
        let facts = self.facts_of_device(device);
        let is_revoked = self
            .trust()
            .registry()
            .principal_revocation(&facts.principal)
            .is_some();
        if is_revoked {
            return access::Reach::default();
        }
        self.grants().reach(&facts)
    }

    /// All that policy may see of a device, and whether it is cut off.
    #[must_use]
    pub fn facts_of_device(&self, device: &DeviceId) -> Facts {
        self.admission.facts_of(&Principal::Device(device.clone()))
    }
}
