//! Where one identity is used: by one program that moves, or by two.
//!
//! Kept for as long as this run lasts and not in a snapshot: what speaks for a copy happens again.

use crate::judge::{Judgement, Sight};
use crate::statistics::Tally;
use crate::text::{duration, shown};
use core::net::IpAddr;
use model::{DeviationKind, Severity, Timestamp};
use std::time::Duration;

const DAY: u32 = 86_400;
/// Who was pushed out and is back within this time did not go away: a device that moved knows it.
const BACK_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Places {
    /// Sessions that stand, and where the last of them came from.
    sessions: u32,
    session_from: Option<IpAddr>,
    last: Option<Takeover>,
    /// A session was pushed out, and its program came back at once and pushed out the other.
    bounces: Tally,
    /// Sessions that another certificate pushed out: a renewal does so once.
    other_certificates: Tally,
    /// At the door for programs from elsewhere while a session stood.
    elsewhere: Tally,
}

#[derive(Debug, Clone, Copy)]
struct Takeover {
    at: Timestamp,
    from: IpAddr,
    previous: IpAddr,
}

impl Places {
    pub fn opened(&mut self, address: IpAddr) {
        self.sessions = self.sessions.saturating_add(1);
        self.session_from = Some(household(address));
    }

    pub fn ended(&mut self) {
        self.sessions = self.sessions.saturating_sub(1);
    }

    /// What the ten minutes of [`crate::judge::failures::takeover`] are too short for: two programs
    /// that seldom meet, and two behind one address, told apart by their certificates.
    pub fn taken_over(
        &mut self,
        sight: &Sight<'_>,
        same_certificate: bool,
        from: IpAddr,
        previous: Option<IpAddr>,
    ) -> Option<Judgement> {
        let (mut bounces, mut others) = (0, 0);
        if !same_certificate {
            others = self.other_certificates.add(1, sight.now, DAY);
        }
        if let Some(previous) = previous {
            let (from, previous) = (household(from), household(previous));
            let is_back = from != previous
                && self.last.is_some_and(|last| {
                    (last.from, last.previous) == (previous, from)
                        && sight.now.since(last.at) <= BACK_WITHIN
                });
            if is_back {
                bounces = self.bounces.add(1, sight.now, DAY);
            }
            self.last = Some(Takeover {
                at: sight.now,
                from,
                previous,
            });
        }
        let (count, since, how) = match (bounces, others) {
            (3.., _) => (bounces, self.bounces.since(), "came back at once"),
            (_, 4..) => (
                others,
                self.other_certificates.since(),
                "by another certificate",
            ),
            _ => return None,
        };
        Some(Judgement {
            kind: DeviationKind::SharedIdentity,
            entity: "sessions over a day".to_owned(),
            expected: "whoever moved does not come back to push the next one out".to_owned(),
            seen: format!(
                "within {} {count} times pushed out {how}, last from {from}",
                duration(sight.now.since(since).max(Duration::from_secs(1))),
            ),
            since,
            severity: if count >= 8 {
                Severity::High
            } else {
                Severity::Medium
            },
            accepted: true,
        })
    }

    /// Its certificate is at another door while it has a session from elsewhere. One program with
    /// two lines does that as well, and so does an address that its provider changes at will:
    /// a person looks, no playbook acts.
    pub fn at_door(&mut self, sight: &Sight<'_>, door: &str, address: IpAddr) -> Option<Judgement> {
        let session = self.session_from.filter(|_| self.sessions > 0)?;
        if household(address) == session {
            return None;
        }
        let count = self.elsewhere.add(1, sight.now, DAY);
        let since = self.elsewhere.since();
        (count >= 3).then(|| Judgement {
            kind: DeviationKind::SharedIdentity,
            entity: "two doors at once".to_owned(),
            expected: format!("at all doors from where its session is, {session}"),
            seen: format!(
                "{count} times within {} at the door {} from {address} while its session stood",
                duration(sight.now.since(since).max(Duration::from_secs(1))),
                shown(door, 32),
            ),
            since,
            severity: Severity::Medium,
            accepted: false,
        })
    }
}

/// A key that others know is an identity that they share. Whoever proves to hold it proves nothing,
/// so the door says `claimed`.
pub fn known_key(sight: &Sight<'_>, flaw: &str, door: &str) -> Judgement {
    let flaw = shown(flaw, 32);
    Judgement {
        kind: DeviationKind::SharedIdentity,
        entity: format!("known key: {flaw}"),
        expected: "a key that nobody else can have".to_owned(),
        seen: format!(
            "its certificate's key is publicly known ({flaw}), at the door {}",
            shown(door, 32)
        ),
        since: sight.now,
        severity: Severity::Medium,
        accepted: true,
    }
}

/// Whoever has one IPv6 address has 2⁶⁴ of them.
pub fn household(address: IpAddr) -> IpAddr {
    use core::net::Ipv6Addr;
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}
