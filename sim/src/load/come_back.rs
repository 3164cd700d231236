//! A whole fleet comes back: its connections stand, the server goes away and begins anew, and every
//! device returns by itself, as the plane asks of devices: at random, and later when it is busy.

use super::Run;
use super::{Mark, SWEEP};
use crate::random::Random;
use crate::refusal::SetupError;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// How it went; seconds from the first connection that was lost.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Returned {
    pub half_seconds: f64,
    pub most_seconds: f64,
    pub all_seconds: f64,
    /// Connections that were tried.
    pub attempts: u64,
    /// Answered "busy".
    pub put_off: u64,
}

/// After a loss a device waits so long at most.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(1);
/// After an attempt that failed: what the plane says with "busy".
const NEXT_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
const PATIENCE: Duration = Duration::from_secs(300);

impl Run<'_> {
    /// All connections stand. At the first mark whoever watches ends the server and starts it again.
    pub(super) fn come_back(&mut self, observe: &mut dyn FnMut(Mark)) -> Result<(), SetupError> {
        let mut random = Random::new(self.settings.seed);
        let mut wait = |from: Duration, to: Duration| from + (to - from).mul_f64(random.unit());
        let all = self.tally.ready;
        for slot in &mut self.tally.slots {
            slot.is_doomed = true;
        }
        self.tally.endings.clear();
        self.tally.became_ready.clear();
        observe(Mark::MeasuringBegins);
        let begun = Instant::now();
        let mut lost = vec![false; self.tally.slots.len()];
        let mut lost_at = None;
        let mut back: Vec<Duration> = Vec::new();
        let mut due: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
        let (mut attempts, mut put_off) = (0, 0);
        while back.len() < all {
            if begun.elapsed() > PATIENCE {
                return Err(SetupError::Argument(format!(
                    "{} of {all} connections came back in {} seconds; {}",
                    back.len(),
                    PATIENCE.as_secs(),
                    self.tally.last_ending.as_deref().unwrap_or("none ended"),
                )));
            }
            let now = Instant::now();
            for (index, is_busy) in std::mem::take(&mut self.tally.endings) {
                lost_at.get_or_insert(now);
                put_off += u64::from(is_busy);
                let after = match lost.get_mut(index) {
                    Some(lost) if !*lost => {
                        *lost = true;
                        wait(Duration::ZERO, FIRST_WAIT_MAX)
                    }
                    _ => wait(NEXT_WAIT.0, NEXT_WAIT.1),
                };
                due.push(Reverse((now + after, index)));
            }
            for index in std::mem::take(&mut self.tally.became_ready) {
                if lost.get(index).copied().unwrap_or(false) {
                    back.push(now - lost_at.unwrap_or(now));
                }
            }
            while let Some(Reverse((at, index))) = due.peek().copied()
                && at <= now
            {
                due.pop();
                attempts += 1;
                self.open(index);
            }
            let next = due.peek().map(|Reverse((at, _))| *at);
            let until = now + SWEEP;
            self.turn(next.map_or(until, |at| at.min(until)))?;
        }
        observe(Mark::MeasuringEnds);
        self.lasted = begun.elapsed();
        let at = |share: usize| {
            let place = (back.len() * share).div_ceil(100).max(1) - 1;
            back.get(place).map_or(0.0, Duration::as_secs_f64)
        };
        self.returned = Some(Returned {
            half_seconds: at(50),
            most_seconds: at(99),
            all_seconds: at(100),
            attempts,
            put_off,
        });
        Ok(())
    }
}
