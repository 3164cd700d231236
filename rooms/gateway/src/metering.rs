//! What each principal sends, counted in constant memory and handed out while it sends.

use crate::gateway::Gateway;
use model::{Principal, Timestamp};
use std::time::Duration;

/// Since it was handed out last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meter {
    pub messages: u64,
    pub bytes: u64,
    pub denied: u64,
    /// It is in the list of those to hand out.
    listed: bool,
}

impl Meter {
    pub(crate) fn is_empty(&self) -> bool {
        !self.listed
    }
}

/// What one principal sent in an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metered {
    /// Taken, reports to the plane included.
    pub messages: u64,
    /// Of their payloads.
    pub bytes: u64,
    /// Publishes and subscriptions that were refused.
    pub denied: u64,
    pub interval: Duration,
    /// A service that sent to more devices: how many in how long, at most the minute that counts.
    pub devices: Option<(u64, Duration)>,
}

impl Gateway {
    pub(crate) fn meter(&mut self, principal: u32, count: impl FnOnce(&mut Meter)) {
        if let Some(known) = self.principals.get_mut(principal) {
            count(&mut known.meter);
            if !known.meter.listed {
                known.meter.listed = true;
                self.metered.push(principal);
            }
        }
    }

    /// Hands out what each principal sent since this was asked last, of those that sent anything.
    /// Meant to be asked once a second.
    pub fn take_metered(&mut self, now: Timestamp, mut each: impl FnMut(&Principal, Metered)) {
        // The first time nobody knows since when.
        let interval = match self.metered_at.replace(now) {
            Some(before) => now.since(before),
            None => Duration::from_secs(1),
        };
        let mut listed = std::mem::take(&mut self.metered);
        for index in listed.drain(..) {
            let Some(known) = self.principals.get_mut(index) else {
                continue;
            };
            let Meter {
                messages,
                bytes,
                denied,
                listed: true,
            } = std::mem::take(&mut known.meter)
            else {
                continue;
            };
            let devices = known.fan_out.as_mut().and_then(|known| known.news(now));
            let metered = Metered {
                messages,
                bytes,
                denied,
                interval,
                devices,
            };
            each(&known.facts.principal, metered);
            self.forget_if_idle(index, now);
        }
        self.metered = listed;
    }
}
