//! What each principal sends, counted in constant memory and handed out: of services, of who sends much
//! and of whom nothing is left here within a second, of anybody else about once a minute. To say it of each device each
//! second would cost a large fleet a good part of what its messages do.

use crate::gateway::Gateway;
use model::{Principal, Timestamp};
use std::time::Duration;

/// Messages, refused ones too, from which on they are handed out within a second: a flood is judged while
/// it lasts, and so many share what that costs.
const MANY: u64 = 60;
/// Fewer are handed out after half of it at the earliest, and before its end.
const MINUTE_SECONDS: u64 = 60;

/// Since it was handed out last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meter {
    pub messages: u64,
    pub bytes: u64,
    pub denied: u64,
    since: Option<Timestamp>,
    /// It has a second at which it is handed out.
    is_scheduled: bool,
    /// It is handed out the next time in any case.
    is_soon: bool,
}

impl Meter {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0 && self.denied == 0
    }
}

/// Which principals are handed out when.
#[derive(Debug)]
pub(crate) struct Metering {
    /// When it was handed out last.
    at: Option<Timestamp>,
    soon: Vec<u32>,
    /// By the second.
    minute: Vec<Vec<u32>>,
}

impl Default for Metering {
    fn default() -> Self {
        Self {
            at: None,
            soon: Vec::new(),
            minute: (0..MINUTE_SECONDS).map(|_| Vec::new()).collect(),
        }
    }
}

impl Metering {
    /// By its number: of devices that speak together not all are handed out together.
    fn schedule(&mut self, principal: u32) {
        let half = MINUTE_SECONDS / 2;
        let wait = half + u64::from(principal) % half;
        let at = self.at.map_or(0, Timestamp::as_seconds);
        if let Some(due) = self.due_at(at + wait) {
            due.push(principal);
        }
    }

    fn due_at(&mut self, second: u64) -> Option<&mut Vec<u32>> {
        let place = usize::try_from(second % MINUTE_SECONDS).ok()?;
        self.minute.get_mut(place)
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
        let Some(known) = self.principals.get_mut(principal) else {
            return;
        };
        let meter = &mut known.meter;
        count(meter);
        if !meter.is_scheduled {
            meter.is_scheduled = true;
            meter.since = self.metering.at;
            self.metering.schedule(principal);
        }
        let is_many = meter.messages + meter.denied >= MANY;
        if is_many || known.fan_out.is_some() || known.is_idle() {
            self.meter_soon(principal);
        }
    }

    /// What it sent is handed out the next time, if it sent anything.
    pub(crate) fn meter_soon(&mut self, principal: u32) {
        if let Some(known) = self.principals.get_mut(principal)
            && !known.meter.is_soon
            && !known.meter.is_empty()
        {
            known.meter.is_soon = true;
            self.metering.soon.push(principal);
        }
    }

    /// Hands out what principals sent, each since it was handed out last. Meant to be asked once a
    /// second: each time it tells of services, of who has sent much and of whom nothing is left here, and of
    /// any other within a minute of its first message.
    pub fn take_metered(&mut self, now: Timestamp, mut each: impl FnMut(&Principal, Metered)) {
        let second = now.as_seconds();
        let minute_ago = second.saturating_sub(MINUTE_SECONDS - 1);
        // The first time it is all: nobody knows since when.
        let before = self.metering.at.replace(now);
        let first = before.map_or(0, |before| before.as_seconds() + 1);
        for second in first.max(minute_ago)..=second {
            let due = self.metering.due_at(second).map(std::mem::take);
            for principal in due.unwrap_or_default() {
                if let Some(known) = self.principals.get_mut(principal) {
                    known.meter.is_scheduled = false;
                }
                self.hand_out(principal, now, &mut each);
            }
        }
        let mut soon = std::mem::take(&mut self.metering.soon);
        for principal in soon.drain(..) {
            self.hand_out(principal, now, &mut each);
        }
        self.metering.soon = soon;
    }

    fn hand_out(
        &mut self,
        principal: u32,
        now: Timestamp,
        each: &mut impl FnMut(&Principal, Metered),
    ) {
        let Some(known) = self.principals.get_mut(principal) else {
            return;
        };
        if known.meter.is_empty() {
            return;
        }
        let Meter {
            messages,
            bytes,
            denied,
            since,
            is_scheduled,
            ..
        } = known.meter;
        known.meter = Meter {
            since: Some(now),
            is_scheduled,
            ..Meter::default()
        };
        let devices = known.fan_out.as_mut().and_then(|known| known.news(now));
        let metered = Metered {
            messages,
            bytes,
            denied,
            interval: since.map_or(Duration::from_secs(1), |since| now.since(since)),
            devices,
        };
        each(&known.facts.principal, metered);
        self.forget_if_idle(principal, now);
    }
}
