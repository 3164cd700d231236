//! What somebody can reach, for people: while it is free, and now.

use crate::plane::Plane;
use access::Facts;
use model::{DeviceId, Principal};
use serde::Serialize;
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
