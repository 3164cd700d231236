//! How much one subject may have judged in a second: whoever floods leaves room for all others.

use detection::Observation;
use model::{Attribution, Source, Subject};
use std::collections::HashMap;

/// Of one subject, by one kind of witness, in a second. A report of a device has 517 at most.
const A_SECOND: u32 = 600;
/// Subjects of a second; addresses, which anybody can have many of, have as many of their own.
const SUBJECTS_MAX: usize = 65_536;

/// Witnesses have a budget each: what a device says of itself, or what somebody claims in its
/// name, never crowds out what was seen of it.
type Key = (Subject, Source, Attribution);

#[derive(Default)]
pub struct Budget {
    second: u64,
    known: HashMap<Key, u32>,
    addresses: HashMap<Key, u32>,
    left_out: u64,
}

impl Budget {
    /// Whether this one is still within what its subject may have.
    pub fn takes(&mut self, seen: &Observation) -> bool {
        let second = seen.at.as_millis() / 1000;
        if second != self.second {
            self.second = second;
            self.known.clear();
            self.addresses.clear();
        }
        let is_address = matches!(seen.subject, Subject::Address(_));
        let counts = if is_address {
            &mut self.addresses
        } else {
            &mut self.known
        };
        let key = (seen.subject.clone(), seen.source, seen.attribution);
        let is_full = counts.len() >= SUBJECTS_MAX && !counts.contains_key(&key);
        let within = !is_full && {
            let count = counts.entry(key).or_default();
            *count += 1;
            *count <= A_SECOND
        };
        if !within {
            self.left_out = self.left_out.saturating_add(1);
        }
        within
    }

    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use detection::Feature;
    use model::Timestamp;

    fn seen(subject: &str, source: Source, at: u64) -> Observation {
        Observation {
            at: Timestamp::from_millis(at),
            subject: subject.parse().unwrap(),
            source,
            attribution: Attribution::Proven,
            feature: Feature::SessionEnded { lost: true },
        }
    }

    #[test]
    fn a_flood_about_one_leaves_room_for_others_and_for_other_witnesses() {
        let mut budget = Budget::default();
        let mut taken = 0;
        for _ in 0..10_000 {
            taken += u32::from(budget.takes(&seen("device/loud", Source::Device, 5_000)));
        }
        assert_eq!(taken, A_SECOND);
        assert_eq!(budget.left_out(), u64::from(10_000 - A_SECOND));
        assert!(budget.takes(&seen("device/quiet", Source::Device, 5_000)));
        assert!(budget.takes(&seen("device/loud", Source::Gateway, 5_000)));
        assert!(budget.takes(&seen("device/loud", Source::Device, 6_000)));
    }

    #[test]
    fn strangers_from_many_addresses_do_not_use_up_what_is_for_devices() {
        let mut budget = Budget::default();
        for n in 0..=u32::try_from(SUBJECTS_MAX).unwrap() {
            let address = std::net::Ipv4Addr::from(n);
            let taken = budget.takes(&seen(&format!("address/{address}"), Source::Gateway, 1_000));
            assert_eq!(taken, usize::try_from(n).unwrap() < SUBJECTS_MAX);
        }
        assert!(budget.takes(&seen("device/quiet", Source::Gateway, 1_000)));
    }
}
