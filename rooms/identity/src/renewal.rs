//! When a certificate should be renewed.

use model::Timestamp;
use std::time::Duration;

/// Two thirds of the certificate's life, moved by up to a tenth of that life's two thirds either
/// way, so that a fleet that enrolled on one day does not come back in one minute.
///
/// `random` is 32 uniform bits. A window that ends before it begins is due at once.
#[must_use]
pub fn renew_after(not_before: Timestamp, not_after: Timestamp, random: u32) -> Timestamp {
    let life_millis = not_after.as_millis().saturating_sub(not_before.as_millis());
    let two_thirds = life_millis / 3 * 2;
    let tenth = two_thirds / 10;
    let span = u128::from(tenth) * 2;
    let jitter = u64::try_from(span * u128::from(random) / u128::from(u32::MAX)).unwrap_or(tenth);
    not_before
        .plus(Duration::from_millis(two_thirds - tenth))
        .plus(Duration::from_millis(jitter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_SECONDS: u64 = 86_400;

    #[test]
    fn thirty_days_renew_between_eighteen_and_twenty_two() {
        let start = Timestamp::from_seconds(1_800_000_000);
        let end = start.plus(Duration::from_secs(30 * DAY_SECONDS));
        let day = |random| renew_after(start, end, random).since(start).as_secs() / DAY_SECONDS;
        assert_eq!((day(0), day(u32::MAX / 2), day(u32::MAX)), (18, 19, 22));
    }

    proptest! {
        #[test]
        fn renewal_is_due_inside_the_life(start in 0u64..1 << 45, life in 0u64..1 << 45, random: u32) {
            let start = Timestamp::from_millis(start);
            let end = start.plus(Duration::from_millis(life));
            let due = renew_after(start, end, random);
            prop_assert!(start <= due && due <= end);
        }
    }
}
