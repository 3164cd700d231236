//! How often each caller may ask: a bucket for each of them and each kind of call.

use super::Problem;
use super::actions::Kind;
use super::problem::too_often;
use crate::shared::Locked;
use identity::issuance::Buckets;
use model::{Subject, Timestamp};
use std::time::Duration;

/// Calls of one kind in a second, of one person, token, service or device.
pub const CALLS_A_SECOND: u32 = 100;
/// What was not used for so long may be used at once.
const BURST_SECONDS: u32 = 3;

/// Who has a name of ours is counted by it, so that memory is bounded by their number; strangers are
/// bounded where they connect.
pub struct Rates {
    reads: Locked<Buckets<Subject>>,
    acts: Locked<Buckets<Subject>>,
    withdrawals: Locked<Buckets<Subject>>,
}

impl Default for Rates {
    fn default() -> Self {
        let buckets = || {
            let size = CALLS_A_SECOND.saturating_mul(BURST_SECONDS);
            Locked::new(Buckets::new(
                size,
                Duration::from_secs(BURST_SECONDS.into()),
            ))
        };
        Self {
            reads: buckets(),
            acts: buckets(),
            withdrawals: buckets(),
        }
    }
}

impl Rates {
    /// # Errors
    /// 429 with when to come again.
    pub fn take(&self, kind: Kind, whose: &Subject, now: Timestamp) -> Result<(), Problem> {
        let buckets = match kind {
            Kind::Reads => &self.reads,
            Kind::Acts => &self.acts,
            Kind::Withdraws => &self.withdrawals,
        };
        let taken = buckets.lock().take(whose, now);
        taken.map_err(|wait| {
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
            too_often(
                format!("{whose} may ask {CALLS_A_SECOND} times a second; ask less often"),
                seconds.saturating_add(1),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_a_flood_of_reads_does_not_hold_up_a_containment_nor_anybody_else() {
        let rates = Rates::default();
        let now = Timestamp::from_seconds(1_800_000_000);
        let one: Subject = "token/t-1".parse().unwrap();
        let taken = |kind, whose: &Subject, now| {
            let tried = (0..1000).filter(|_| rates.take(kind, whose, now).is_ok());
            u32::try_from(tried.count()).unwrap()
        };
        let burst = CALLS_A_SECOND * BURST_SECONDS;
        assert_eq!(taken(Kind::Reads, &one, now), burst);
        let later = now.plus(Duration::from_secs(1));
        assert_eq!(taken(Kind::Reads, &one, later), CALLS_A_SECOND);
        assert_eq!(taken(Kind::Withdraws, &one, later), burst);
        assert_eq!(taken(Kind::Acts, &one, later), burst);
        let other: Subject = "person/p-1".parse().unwrap();
        assert_eq!(taken(Kind::Reads, &other, later), burst);
    }
}
