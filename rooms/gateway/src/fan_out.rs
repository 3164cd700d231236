//! To how many different devices a service sends in a minute: a stolen service identity must not
//! reach a whole fleet before somebody looks.

use model::Timestamp;
use std::time::Duration;

/// How long a device counts. Windows follow each other, so two bursts may meet at a border.
const WINDOW: Duration = Duration::from_secs(60);

/// The devices of one minute, as hashes in a table of fixed size: its memory is given by the limit.
#[derive(Debug, Clone)]
pub struct FanOut {
    limit: u32,
    begun_at: Timestamp,
    devices: u32,
    /// Of `devices`, how many [`FanOut::news`] has told.
    told: u32,
    /// Open addressing; 0 is free. Empty until the first message to a device.
    hashes: Box<[u64]>,
}

impl FanOut {
    /// So many devices in a minute.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            begun_at: Timestamp::from_millis(0),
            devices: 0,
            told: 0,
            hashes: Box::default(),
        }
    }

    /// A limit that was changed counts from the next message; what was counted stays.
    pub fn set_limit(&mut self, limit: u32) {
        if self.limit != limit {
            *self = Self::new(limit);
        }
    }

    /// May all of these be reached now? Counts them only if all may, and only if `take`.
    pub fn admit_all<'d>(
        &mut self,
        devices: impl IntoIterator<Item = &'d str>,
        now: Timestamp,
        take: bool,
    ) -> bool {
        let before = self.clone();
        let all = (devices.into_iter()).all(|device| self.admits(device, now, true));
        if !(all && take) {
            *self = before;
        }
        all
    }

    /// May a message go to `device` now? Counts it only if `take`. Allocates at the first message
    /// after the limit was set, and never again.
    pub(crate) fn admits(&mut self, device: &str, now: Timestamp, take: bool) -> bool {
        if now >= self.begun_at.plus(WINDOW) {
            self.begun_at = now;
            self.devices = 0;
            self.told = 0;
            self.hashes.fill(0);
        }
        if self.hashes.is_empty() {
            // Half full at most, so that a search ends soon.
            let places = (self.limit.max(1) as usize).saturating_mul(2);
            self.hashes = vec![0; places.next_power_of_two()].into_boxed_slice();
        }
        let hash = hash(device);
        let mask = self.hashes.len() - 1;
        let mut at = usize::try_from(hash & mask as u64).unwrap_or(0);
        loop {
            match self.hashes.get_mut(at) {
                Some(known) if *known == hash => return true,
                Some(free) if *free == 0 => {
                    if self.devices >= self.limit {
                        return false;
                    }
                    if take {
                        *free = hash;
                        self.devices += 1;
                    }
                    return true;
                }
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// The devices of this window so far and its length so far, if there are more than were told.
    pub(crate) fn news(&mut self, now: Timestamp) -> Option<(u64, Duration)> {
        if self.devices == self.told {
            return None;
        }
        self.told = self.devices;
        Some((u64::from(self.devices), now.since(self.begun_at)))
    }

    /// When nothing of it counts any more.
    #[must_use]
    pub fn settled_at(&self) -> Timestamp {
        match self.devices {
            0 => Timestamp::from_millis(0),
            _ => self.begun_at.plus(WINDOW),
        }
    }
}

/// FNV-1a, 64 bits, never 0. Names are given by the operator: nobody outside can make them collide.
fn hash(device: &str) -> u64 {
    device
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_devices_a_minute_and_those_again_and_again() {
        let mut fan_out = FanOut::new(3);
        let start = Timestamp::from_seconds(1_000_000);
        let mut may = |device: &str, at| fan_out.admits(device, at, true);
        for device in ["a", "b", "c", "a", "b", "c"] {
            assert!(may(device, start), "{device}");
        }
        assert!(!may("d", start));
        assert!(may("a", start.plus(Duration::from_secs(59))));
        assert!(!may("d", start.plus(Duration::from_secs(59))));
        assert!(may("d", start.plus(Duration::from_secs(60))));
    }

    #[test]
    fn what_is_only_asked_is_not_counted_and_news_are_told_once() {
        let mut fan_out = FanOut::new(1);
        let now = Timestamp::from_seconds(1_000_000);
        assert!(fan_out.admits("a", now, false));
        assert_eq!(fan_out.news(now), None);
        assert!(fan_out.admits("b", now, true));
        assert!(!fan_out.admits("a", now, true));
        let later = now.plus(Duration::from_secs(1));
        assert_eq!(fan_out.news(later), Some((1, Duration::from_secs(1))));
        assert_eq!(fan_out.news(later), None);
    }

    #[test]
    fn all_of_a_command_are_counted_or_none() {
        let mut fan_out = FanOut::new(3);
        let now = Timestamp::from_seconds(1_000_000);
        assert!(!fan_out.admit_all(["a", "b", "c", "d"], now, true));
        assert!(fan_out.admit_all(["a", "b", "c"], now, false));
        assert!(fan_out.admit_all(["d", "e"], now, true));
        assert!(!fan_out.admit_all(["d", "f", "g"], now, true));
        assert!(fan_out.admit_all(["d", "e", "f"], now, true));
    }

    #[test]
    fn the_table_never_grows_whatever_is_sent() {
        let mut fan_out = FanOut::new(100);
        let now = Timestamp::from_seconds(1_000_000);
        let admitted = (0..10_000).filter(|number| {
            let device = format!("cam-{number}");
            fan_out.admits(&device, now, true)
        });
        assert_eq!(admitted.count(), 100);
        assert_eq!(fan_out.hashes.len(), 256);
    }
}
