//! How fast certificates may follow one another: for one device or service there is an end to it,
//! for all of a CA there is a word.

use crate::config::IdentityConfig;
use crate::shared::Locked;
use crate::trouble::Trouble;
use identity::issuance::Buckets;
use model::{Digest, Principal, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// Certificates of a CA in a minute, in those of one principal in an hour.
const OF_AUTHORITY: u32 = 10;
/// A burst of a CA is told of for so long.
const TOLD_FOR: Duration = Duration::from_secs(86_400);

pub struct Pace {
    of_principals: Locked<Buckets<Principal>>,
    of_authorities: Locked<Buckets<Digest>>,
    /// When a CA made more than usual, last.
    bursts: Locked<BTreeMap<Digest, Timestamp>>,
    authority_a_minute: u32,
}

impl Pace {
    #[must_use]
    pub fn new(config: &IdentityConfig) -> Self {
        let each = config.certificates_per_hour;
        let authority_a_minute = each.saturating_mul(OF_AUTHORITY);
        Self {
            of_principals: Locked::new(Buckets::new(each, HOUR)),
            of_authorities: Locked::new(Buckets::new(authority_a_minute, MINUTE)),
            bursts: Locked::default(),
            authority_a_minute,
        }
    }

    /// Before a certificate is made.
    ///
    /// # Errors
    /// This one has had too many; when to come again.
    pub fn take(&self, whose: &Principal, ca: Digest, now: Timestamp) -> Result<(), Trouble> {
        let taken = self.of_principals.lock().take(whose, now);
        if let Err(wait) = taken {
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
            return Err(Trouble::Later {
                code: "issuance-burst",
                text: format!(
                    "{whose} had too many certificates within an hour; device: keep the one it \
                     has; operator: find out who asks, and whether its key was copied"
                ),
                seconds: seconds.saturating_add(1),
                too_often: true,
            });
        }
        // A fleet that enrolls looks like a thief of a service's rights: a person can tell, we
        // cannot.
        if self.of_authorities.lock().take(&ca, now).is_err() {
            let before = self.bursts.lock().insert(ca, now);
            if before.is_none_or(|before| now.since(before) > HOUR) {
                tracing::warn!(
                    "more than {} certificates within a minute by the CA {ca}",
                    self.authority_a_minute
                );
            }
        }
        Ok(())
    }

    /// What a person should look at of this CA.
    #[must_use]
    pub fn finding(&self, name: &str, ca: &Digest, now: Timestamp) -> Option<String> {
        let at = *self.bursts.lock().get(ca)?;
        (now.since(at) <= TOLD_FOR).then(|| {
            format!(
                "the issuing CA {name} made more than {} certificates within a minute, last at {at}: \
                 find out who asked, unless a fleet enrolls",
                self.authority_a_minute
            )
        })
    }
}
