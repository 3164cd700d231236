//! Comparing two servers on a machine that is never quiet: pairs, alternated, and what their
//! ratios say.

use anyhow::ensure;

/// Fewer pairs give no 95 % interval worth printing.
pub const PAIRS_MIN: usize = 7;

/// What `pairs` alternated runs showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Medians of the single runs, for the reader; the verdict is in the ratio.
    pub ours: f64,
    pub peer: f64,
    pub ratio: Interval,
    /// Ours less the peer's.
    pub difference: Interval,
    pub pairs: usize,
}

/// A median with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

/// Runs the two in the order A B B A A B B A …, so that a drift of the machine (heat, a
/// neighbour) falls on both alike, and judges the ratios within each pair: one for each of the
/// measures that a run gives.
///
/// # Errors
/// If there are fewer than [`PAIRS_MIN`] pairs, a run fails, or a measure is not positive.
pub fn paired<const MEASURES: usize>(
    pairs: usize,
    mut ours: impl FnMut() -> anyhow::Result<[f64; MEASURES]>,
    mut peer: impl FnMut() -> anyhow::Result<[f64; MEASURES]>,
) -> anyhow::Result<[Comparison; MEASURES]> {
    ensure!(
        pairs >= PAIRS_MIN,
        "{pairs} pairs give no 95 % interval; ask for {PAIRS_MIN} or more"
    );
    let (mut of_ours, mut of_peer) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        if pair % 2 == 0 {
            of_ours.push(ours()?);
            of_peer.push(peer()?);
        } else {
            of_peer.push(peer()?);
            of_ours.push(ours()?);
        }
    }
    ensure!(
        of_ours
            .iter()
            .chain(&of_peer)
            .flatten()
            .all(|x| x.is_finite() && *x > 0.0),
        "a run measured nothing: ours {of_ours:?}, peer {of_peer:?}"
    );
    let one = |measure: usize| {
        let of = |runs: &[[f64; MEASURES]]| -> Vec<f64> {
            runs.iter()
                .filter_map(|run| run.get(measure))
                .copied()
                .collect()
        };
        let (ours, peer) = (of(&of_ours), of(&of_peer));
        let pairs_of = |with: fn(f64, f64) -> f64| -> Vec<f64> {
            ours.iter().zip(&peer).map(|(a, b)| with(*a, *b)).collect()
        };
        Some(Comparison {
            ours: median(&ours),
            peer: median(&peer),
            ratio: median_interval(&pairs_of(|a, b| a / b))?,
            difference: median_interval(&pairs_of(|a, b| a - b))?,
            pairs,
        })
    };
    let found: Option<Vec<Comparison>> = (0..MEASURES).map(one).collect();
    found
        .and_then(|found| found.try_into().ok())
        .ok_or_else(|| anyhow::anyhow!("{pairs} pairs give no interval"))
}

/// The median and its exact distribution-free 95 % interval from order statistics.
///
/// The number of values below the true median is binomial(n, ½), so the k-th smallest and the
/// k-th largest enclose it with probability 1 − 2·P(binomial < k). The largest k that keeps this
/// at 95 % or more is taken: for n = 7 the smallest and the largest value (98.4 %). `None` below
/// six values, where no interval reaches 95 %.
pub fn median_interval(values: &[f64]) -> Option<Interval> {
    let sorted = sorted(values);
    let n = sorted.len();
    let (mut outside, mut exactly, mut rank) = (0.0, 0.5_f64.powi(i32::try_from(n).ok()?), 0);
    // `exactly` is P(binomial = rank), `outside` P(binomial < rank).
    while outside + exactly <= 0.025 && rank < n {
        outside += exactly;
        rank += 1;
        exactly *= (n - rank + 1) as f64 / rank as f64;
    }
    Some(Interval {
        low: *sorted.get(rank.checked_sub(1)?)?,
        median: median(&sorted),
        high: *sorted.get(n - rank)?,
    })
}

pub fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
    }
}

/// The smallest value that at least `share` of all values do not exceed (nearest rank).
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let sorted = sorted(values);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.clamp(1, sorted.len().max(1)) - 1)
        .copied()
        .unwrap_or(f64::NAN)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn interval(n: usize) -> Option<(f64, f64, f64)> {
        let values: Vec<f64> = (1..=n).rev().map(|x| x as f64).collect();
        median_interval(&values).map(|i| (i.low, i.median, i.high))
    }

    #[test]
    fn the_interval_is_the_one_in_the_tables() {
        // Ranks of the 95 % interval of a median, as printed in tables of the sign test.
        for (n, low, high) in [
            (6, 1.0, 6.0),
            (7, 1.0, 7.0),
            (8, 1.0, 8.0),
            (9, 2.0, 8.0),
            (10, 2.0, 9.0),
            (12, 3.0, 10.0),
            (15, 4.0, 12.0),
            (20, 6.0, 15.0),
            (25, 8.0, 18.0),
            (30, 10.0, 21.0),
        ] {
            let found = interval(n).unwrap();
            assert_eq!((found.0, found.2), (low, high), "n = {n}");
        }
        assert_eq!(interval(7).unwrap().1, 4.0);
        assert_eq!(interval(8).unwrap().1, 4.5);
    }

    #[test]
    fn too_few_values_have_no_interval() {
        for n in 0..6 {
            assert_eq!(interval(n), None, "n = {n}");
        }
    }

    #[test]
    fn the_interval_covers_the_median_at_least_95_times_in_100() {
        // All 2^n ways in which n values can fall below or above the true median.
        for n in 6..=14_u32 {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            let found = median_interval(&values).unwrap();
            let rank = found.low as u32;
            let covered = (0..1_u32 << n)
                .filter(|sides| (rank..=n - rank).contains(&sides.count_ones()))
                .count();
            assert!(covered as f64 / f64::from(1 << n) >= 0.95, "n = {n}");
        }
    }

    #[test]
    fn the_order_is_abba_and_a_drift_cancels() {
        let order = RefCell::new(String::new());
        let clock = RefCell::new(100.0);
        let run = |name: char, cost: f64| {
            order.borrow_mut().push(name);
            *clock.borrow_mut() *= 1.01;
            Ok([cost * *clock.borrow(), 7.0])
        };
        let [found, other] = paired(8, || run('A', 0.5), || run('B', 1.0)).unwrap();
        assert_eq!(order.into_inner(), "ABBAABBAABBAABBA");
        assert!((found.ratio.median - 0.5).abs() < 0.001, "{found:?}");
        assert!(found.ratio.low < 0.5 && found.ratio.high > 0.5);
        assert_eq!(found.pairs, 8);
        assert_eq!((other.ours, other.ratio.high), (7.0, 1.0));
    }

    #[test]
    fn too_few_pairs_and_empty_runs_are_refused() {
        assert!(paired(6, || Ok([1.0]), || Ok([1.0])).is_err());
        assert!(paired(7, || Ok([1.0, 0.0]), || Ok([1.0, 1.0])).is_err());
        assert!(paired(7, || Ok([f64::NAN]), || Ok([1.0])).is_err());
        assert!(paired(7, || anyhow::bail!("no server"), || Ok([1.0])).is_err());
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), 50.0);
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(quantile(&[3.0], 0.99), 3.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
