//! What the gateway knows of a principal while it has a connection, a session or a debt.

use crate::fan_out::FanOut;
use crate::limits::Limits;
use crate::metering::Meter;
use crate::traffic;
use access::{Facts, Subject};
use model::{Principal, Timestamp};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct PrincipalState {
    pub facts: Facts,
    pub subject: Subject,
    /// Sessions, live and waiting.
    pub sessions: Vec<u32>,
    /// Connections until the caller says that they are gone.
    pub connections: Vec<u32>,
    pub rates: Rates,
    pub meter: Meter,
    /// The newest of its entries in the gateway's traffic.
    pub traffic: u32,
    /// Of a service.
    pub fan_out: Option<FanOut>,
    /// When its next packet is due at the rate at which a device's are looked at, in microseconds.
    pub packets_arrival: u64,
    pub scheduled: Option<Timestamp>,
}

impl PrincipalState {
    pub(crate) fn is_device(&self) -> bool {
        matches!(self.facts.principal, Principal::Device(_))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.connections.is_empty()
    }

    /// When nothing is owed any more and nothing is left to hand out.
    pub(crate) fn settled_at(&self, now: Timestamp) -> Timestamp {
        let metered_at = if self.meter.is_empty() && self.traffic == traffic::NONE {
            now
        } else {
            now.plus(Duration::from_secs(1))
        };
        let fan_out = self.fan_out.as_ref().map(FanOut::settled_at);
        let rates = self.rates.settled_at();
        rates.max(metered_at).max(fan_out.unwrap_or(rates))
    }
}

/// The generic cell rate algorithm for each channel: per channel one number, the theoretical
/// arrival time. A principal may send a minute's worth at once and then at the declared rate.
///
/// They outlive the sessions, or a reconnect would be a way to send more.
#[derive(Debug, Default)]
pub(crate) struct Rates(Vec<(u16, u64)>);

const MINUTE_MICROS: u64 = 60_000_000;

/// The key of the rate at which a principal may ask for subscriptions. No channel has it, for a
/// fleet has at most 1,000 channels.
pub(crate) const SUBSCRIBES: u16 = u16::MAX;

impl Rates {
    /// Is one more allowed now? Takes it only if `take`.
    pub(crate) fn allows(
        &mut self,
        channel: u16,
        per_minute: u32,
        now: Timestamp,
        limits: &Limits,
        take: bool,
    ) -> bool {
        let now = now.as_millis().saturating_mul(1000);
        let Some(interval) = MINUTE_MICROS.checked_div(u64::from(per_minute)) else {
            return false;
        };
        let known = self.0.iter_mut().find(|(key, _)| *key == channel);
        let arrival = known.as_ref().map_or(now, |(_, arrival)| now.max(*arrival));
        let next = arrival.saturating_add(interval);
        if next > now.saturating_add(MINUTE_MICROS) {
            return false;
        }
        match known {
            Some((_, arrival)) if take => *arrival = next,
            Some(_) => {}
            None => {
                if self.0.len() >= limits.rates_per_principal_max {
                    self.0.retain(|(_, arrival)| *arrival > now);
                }
                if self.0.len() >= limits.rates_per_principal_max {
                    return false;
                }
                if take {
                    if self.0.is_empty() {
                        self.0.reserve_exact(1);
                    }
                    self.0.push((channel, next));
                }
            }
        }
        true
    }

    /// When nothing is owed any more.
    pub(crate) fn settled_at(&self) -> Timestamp {
        let last = self
            .0
            .iter()
            .map(|(_, arrival)| *arrival)
            .max()
            .unwrap_or(0);
        Timestamp::from_millis(last / 1000).plus(Duration::from_millis(1))
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_at_once_and_then_the_rate() {
        let limits = Limits::default();
        let mut rates = Rates::default();
        let start = Timestamp::from_seconds(1_000_000);
        let mut allowed_at = |at: Timestamp| {
            (0..1000)
                .take_while(|_| rates.allows(1, 60, at, &limits, true))
                .count()
        };
        assert_eq!(allowed_at(start), 60);
        assert_eq!(allowed_at(start.plus(Duration::from_secs(1))), 1);
        assert_eq!(allowed_at(start.plus(Duration::from_secs(11))), 10);
        assert_eq!(allowed_at(start.plus(Duration::from_secs(500))), 60);
    }

    #[test]
    fn a_rate_of_zero_allows_nothing_and_many_channels_are_bounded() {
        let limits = Limits {
            rates_per_principal_max: 2,
            ..Limits::default()
        };
        let mut rates = Rates::default();
        let now = Timestamp::from_seconds(1_000_000);
        assert!(!rates.allows(1, 0, now, &limits, true));
        assert!(rates.allows(1, 1, now, &limits, true));
        assert!(rates.allows(2, 1, now, &limits, true));
        assert!(!rates.allows(3, 1, now, &limits, true));
        assert!(rates.allows(3, 1, now.plus(Duration::from_secs(61)), &limits, true));
    }
}
