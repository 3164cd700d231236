//! Secrets that were shown and are none of ours, counted by where they come from.
//!
//! Whoever guesses is told to wait. Nobody is locked out: a right secret opens from anywhere at any
//! time, also from where others guess, so that guessing in somebody's name keeps nobody away. The
//! secrets have 256 random bits, so that what is bounded here is noise and work, not luck.

use crate::listen::source_of;
use crate::shared::Locked;
use crate::trouble::Trouble;
use identity::issuance::Buckets;
use model::Timestamp;
use std::net::IpAddr;
use std::time::Duration;

/// Wrong ones of one source within a minute: slips of the hand, of all behind one address.
const A_MINUTE: u32 = 10;
/// Sources that are told apart. Whoever comes beyond them is told to wait at their first wrong one.
const SOURCES_MAX: usize = 16_384;

/// How often those who may guess again are looked for, when there is no room.
const SWEPT_EACH: Duration = Duration::from_secs(1);

pub struct Guesses(Locked<Counted>);

struct Counted {
    sources: Buckets<IpAddr>,
    swept_at: Timestamp,
}

impl Default for Guesses {
    fn default() -> Self {
        Self(Locked::new(Counted {
            sources: Buckets::new(A_MINUTE, Duration::from_secs(60)),
            swept_at: Timestamp::from_seconds(0),
        }))
    }
}

impl Guesses {
    /// Counts a wrong one: whether there were too many, and when to come again.
    pub fn wrong(&self, from: IpAddr, now: Timestamp) -> Option<Trouble> {
        let mut counted = self.0.lock();
        if counted.sources.held() >= SOURCES_MAX && now.since(counted.swept_at) >= SWEPT_EACH {
            counted.sources.sweep(now);
            counted.swept_at = now;
        }
        let wait = if counted.sources.held() < SOURCES_MAX {
            counted.sources.take(&source_of(from), now).err()?
        } else {
            Duration::from_secs(60)
        };
        Some(Trouble::Later {
            code: "too-many-guesses",
            text: "too many wrong secrets came from this address; wait, then show the right one"
                .to_owned(),
            seconds: u32::try_from(wait.as_secs())
                .unwrap_or(60)
                .saturating_add(1),
            too_often: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_guesses_waits_and_others_do_not_and_memory_is_bounded() {
        let guesses = Guesses::default();
        let now = Timestamp::from_seconds(1_800_000_000);
        let from = |last: u32| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + last));
        let wrong = |last, now| guesses.wrong(from(last), now).is_some();
        assert!((0..A_MINUTE).all(|_| !wrong(1, now)));
        assert!(wrong(1, now));
        assert!(!wrong(2, now));
        let later = now.plus(Duration::from_secs(60));
        assert!(!wrong(1, later));
        for last in 0..2 * 16_384 {
            wrong(last, later);
            assert!(guesses.0.lock().sources.held() <= SOURCES_MAX);
        }
        assert!(wrong(200_000, later));
        // The flood is over: those who slip are told apart again.
        assert!(!wrong(200_000, later.plus(Duration::from_secs(120))));
    }
}
