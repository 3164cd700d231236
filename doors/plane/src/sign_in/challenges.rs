//! What a sign-in must answer, once and soon. Made by a key in memory, so that whoever asks for many
//! takes no room; what was answered is remembered until its time is over.

use crate::plane::{digest, random};
use crate::shared::Locked;
use crate::trouble::Trouble;
use aws_lc_rs::hmac;
use model::{Digest, Timestamp};
use std::collections::HashMap;
use std::time::Duration;

/// Enough to find a security key; no more.
pub const LIFETIME: Duration = Duration::from_secs(300);
const RANDOM_BYTES: usize = 24;
/// Only what proved somebody is remembered: strangers put nothing here.
const SPENT_MAX: usize = 65_536;

pub struct Challenges {
    key: hmac::Key,
    spent: Locked<HashMap<Digest, Timestamp>>,
}

impl Challenges {
    pub(super) fn new() -> Result<Self, Trouble> {
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()?),
            spent: Locked::default(),
        })
    }

    /// When it ends, random bytes, and a tag over both and what it is for.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn make(&self, purpose: &str, now: Timestamp) -> Result<Vec<u8>, Trouble> {
        let ends_at = now.plus(LIFETIME).as_millis().to_be_bytes();
        let stem = [&ends_at[..], &random::<RANDOM_BYTES>()?].concat();
        let tag = self.derive(purpose, &stem);
        Ok([stem, tag].concat())
    }

    /// When one of ours for this purpose was made, if its time is not over.
    #[must_use]
    pub fn made_at(&self, purpose: &str, challenge: &[u8], now: Timestamp) -> Option<Timestamp> {
        let (stem, tag) = challenge.split_at_checked(8 + RANDOM_BYTES)?;
        let (ends_at, _) = stem.split_first_chunk::<8>()?;
        let mut context = self.context(purpose);
        context.update(stem);
        let ours = context.sign();
        aws_lc_rs::constant_time::verify_slices_are_equal(ours.as_ref(), tag).ok()?;
        let ends_at = Timestamp::from_millis(u64::from_be_bytes(*ends_at));
        (ends_at > now).then(|| ends_at.minus(LIFETIME))
    }

    /// `false`: it was answered before.
    ///
    /// # Errors
    /// More people signed in within minutes than there is room for.
    pub fn spend(&self, challenge: &[u8], now: Timestamp) -> Result<bool, Trouble> {
        let mut spent = self.spent.lock();
        if spent.len() >= SPENT_MAX {
            spent.retain(|_, ends_at| *ends_at > now);
        }
        if spent.len() >= SPENT_MAX {
            return Err(Trouble::Later {
                code: "too-many-sign-ins",
                text: "too many people signed in within minutes; try again in a moment".into(),
                seconds: 60,
                too_often: false,
            });
        }
        let before = spent.insert(digest(challenge), now.plus(LIFETIME));
        Ok(before.is_none())
    }

    /// A secret that belongs to a challenge, and is told by it to nobody.
    #[must_use]
    pub fn derive(&self, purpose: &str, from: &[u8]) -> Vec<u8> {
        let mut context = self.context(purpose);
        context.update(from);
        context.sign().as_ref().to_vec()
    }

    /// The length first: no two purposes begin alike.
    fn context(&self, purpose: &str) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(purpose.len() as u64).to_be_bytes());
        context.update(purpose.as_bytes());
        context
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_good_once_for_its_purpose_and_for_minutes() {
        let challenges = Challenges::new().unwrap();
        let now = Timestamp::from_seconds(1000);
        let made = challenges.make("sign-in", now).unwrap();
        assert_eq!(challenges.made_at("sign-in", &made, now), Some(now));
        for purpose in ["register p-1", "sign-in ", ""] {
            assert_eq!(challenges.made_at(purpose, &made, now), None, "{purpose}");
        }
        assert_eq!(
            challenges.made_at("sign-in", &made, now.plus(LIFETIME)),
            None
        );
        for at in 0..made.len() {
            let mut bent = made.clone();
            bent[at] ^= 1;
            assert_eq!(challenges.made_at("sign-in", &bent, now), None, "{at}");
        }
        for short in [&[][..], &made[..32], &made[..63]] {
            assert_eq!(challenges.made_at("sign-in", short, now), None);
        }
        let others = Challenges::new().unwrap();
        assert_eq!(others.made_at("sign-in", &made, now), None);
        assert!(challenges.spend(&made, now).unwrap());
        assert!(!challenges.spend(&made, now).unwrap());
    }

    #[test]
    fn what_was_answered_is_forgotten_only_once_it_is_no_answer_any_more() {
        let challenges = Challenges::new().unwrap();
        let now = Timestamp::from_seconds(1000);
        for one in 0..SPENT_MAX {
            assert!(challenges.spend(&one.to_be_bytes(), now).unwrap());
        }
        assert!(challenges.spend(b"one too many", now).is_err());
        let later = now.plus(LIFETIME);
        assert!(challenges.spend(b"one too many", later).unwrap());
        assert!(!challenges.spend(b"one too many", later).unwrap());
    }
}
