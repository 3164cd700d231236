//! How many devices each asker may command by a channel in a minute, before a second person has to
//! look: neither a stolen service nor a slip of the hand reaches a whole fleet at once.

use crate::entries::Actor;
use access::{Channel, Fleet};
use gateway::FanOut;
use model::{DeviceId, Timestamp};
use std::collections::BTreeMap;

/// Askers and channels that are counted at once; a window is a minute, so they are few.
const WINDOWS_MAX: usize = 1000;

/// What the fleet says: of the channel, and of a service also its own.
pub(super) fn limit_of(fleet: &Fleet, channel: &Channel, actor: &Actor) -> u32 {
    let own = match actor {
        Actor::Service(service) => fleet.service(service).map(|one| one.fan_out_per_minute),
        _ => None,
    };
    own.map_or(channel.fan_out_per_minute, |own| {
        own.min(channel.fan_out_per_minute)
    })
}

/// By asker and channel. In memory: a restart forgets at most a minute.
#[derive(Default)]
pub struct Budgets(BTreeMap<(String, String), FanOut>);

impl Budgets {
    /// May `by` reach all of these now? Counts them if so, and if `take`.
    pub fn admit<'d>(
        &mut self,
        by: &str,
        channel: &str,
        limit: u32,
        devices: impl Iterator<Item = &'d DeviceId>,
        now: Timestamp,
        take: bool,
    ) -> bool {
        let key = (by.to_owned(), channel.to_owned());
        if self.0.len() >= WINDOWS_MAX && !self.0.contains_key(&key) {
            self.0.retain(|_, window| window.settled_at() > now);
            if self.0.len() >= WINDOWS_MAX {
                return false;
            }
        }
        let window = self.0.entry(key).or_insert_with(|| FanOut::new(limit));
        window.set_limit(limit);
        window.admit_all(devices.map(DeviceId::as_str), now, take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_thief_cannot_reach_more_by_asking_in_small_steps() {
        let mut budgets = Budgets::default();
        let devices: Vec<DeviceId> = (0..10)
            .map(|number| format!("cam-{number}").parse().unwrap())
            .collect();
        let start = Timestamp::from_seconds(1_000_000);
        let mut reached = 0;
        for one in devices.chunks(1) {
            let is_in = budgets.admit("service/x", "command", 4, one.iter(), start, true);
            reached += usize::from(is_in);
        }
        assert_eq!(reached, 4);
        // Another asker and another channel have their own; a minute later it may go on.
        assert!(budgets.admit("service/y", "command", 4, devices[..4].iter(), start, true));
        assert!(budgets.admit("service/x", "other", 4, devices[..4].iter(), start, true));
        let later = start.plus(Duration::from_secs(60));
        assert!(budgets.admit(
            "service/x",
            "command",
            4,
            devices[4..8].iter(),
            later,
            false
        ));
        assert!(!budgets.admit("service/x", "command", 4, devices[4..].iter(), later, true));
    }
}
