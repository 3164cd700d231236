//! Sign-outs that the provider has told of lately. A sign-in that was begun before one was heard of may
//! be the very one that it ends, and has no session yet that could be closed.

use super::AtProvider;
use identity::person::sign_out::SignedOut;
use model::{Digest, Timestamp};
use std::collections::VecDeque;
use std::time::Duration;

/// Longer than a sign-in takes from its beginning to its session.
const KEPT_FOR: Duration = Duration::from_secs(600);
const WORDS_MAX: usize = 16_384;

/// The provider's word that somebody signed out there.
pub struct Over {
    pub word: SignedOut,
    /// Of whom, if it says so: the digest of issuer and subject.
    pub subject: Option<Digest>,
}

impl Over {
    /// Whether this session at the provider is over by it.
    pub(super) fn ends(&self, at_provider: &AtProvider) -> bool {
        let is_theirs = self.subject.as_ref() == Some(&at_provider.subject);
        self.word.ends(is_theirs, at_provider.session.as_deref())
    }
}

#[derive(Default)]
pub(super) struct Heard {
    /// With when each was heard, the oldest first.
    words: VecDeque<(Timestamp, Over)>,
    /// Up to here words may have been forgotten.
    forgotten: Timestamp,
}

impl Heard {
    pub fn keep(&mut self, over: Over, now: Timestamp) {
        self.words.push_back((now, over));
        while let Some((at, _)) = self.words.front()
            && (self.words.len() > WORDS_MAX || at.plus(KEPT_FOR) <= now)
        {
            self.forgotten = self.forgotten.max(*at);
            self.words.pop_front();
        }
    }

    /// Whether what was begun then may be over already. In doubt it is: begun again, it is not.
    pub fn ends(&mut self, at_provider: &AtProvider, now: Timestamp) -> bool {
        // A clock that was put back must not keep people out until it has caught up.
        self.forgotten = self.forgotten.min(now);
        let begun_at = at_provider.begun_at;
        let since = |at: Timestamp| begun_at <= at;
        since(self.forgotten)
            || (self.words.iter()).any(|(at, over)| since(*at) && over.ends(at_provider))
    }
}
