//! The plane's roots: asked for at a start, at each renewal and twice a day, taken in by
//! [`crate::roots`]'s rule, and told back, so that the plane knows who would still know it.

use super::{Agent, random, say};
use crate::est::Est;
use crate::failure::Failure;
use crate::tls::Trust;
use std::time::{Duration, Instant};

/// With up to a tenth less, so that a fleet does not ask in one hour.
const EVERY: Duration = Duration::from_secs(12 * 3600);
const AGAIN_AFTER: Duration = Duration::from_secs(3600);

impl Agent {
    /// Asks the plane what time it is and which roots it has. Without an answer our own clock, and
    /// what we believe already, must do.
    pub(super) fn ask_plane(&mut self) {
        match self.ask_roots() {
            Ok(()) => {
                if let Some(off) = self.clock.error_seconds().filter(|off| off.abs() > 60) {
                    say(&format!("our clock is off by {off} s; the plane's is used"));
                }
            }
            Err(failure) if failure.is_tls() => self.tls_failures += 1,
            Err(_) => {}
        }
    }

    /// While a session is open: whatever it takes, the session stays.
    pub(super) fn see_to_roots(&mut self) -> Result<(), Failure> {
        let done = self.ask_roots().and_then(|()| self.tell_roots());
        let wait = match &done {
            Ok(()) => EVERY,
            Err(_) => AGAIN_AFTER,
        };
        let share = f64::from(random::bits()) / f64::from(u32::MAX) / 10.0;
        self.next_roots = Instant::now() + wait - wait.mul_f64(share);
        match done {
            Err(Failure::Stopped) => Err(Failure::Stopped),
            Err(failure) => {
                if failure.is_tls() {
                    self.tls_failures += 1;
                }
                self.trouble(&format!("the plane's roots were not seen to: {failure}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn ask_roots(&mut self) -> Result<(), Failure> {
        let (door, waiting) = (&self.config.est, &self.waiting);
        let before = &self.trust;
        let seen = self
            .roots
            .see(&self.folder, &mut self.clock, |roots, clock| {
                let trust = &Trust {
                    roots,
                    ..before.clone()
                };
                let est = Est {
                    door,
                    trust,
                    waiting,
                };
                est.cacerts(clock)
            });
        // Also when it broke off: what was learned is believed.
        self.trust.roots = self.roots.store();
        let seen = seen?;
        for (count, what) in [
            (seen.learned, "new root(s) of the plane are believed"),
            (seen.forgotten, "root(s) are believed no more"),
        ] {
            if count > 0 {
                say(&format!("{count} {what}"));
            }
        }
        Ok(())
    }

    fn tell_roots(&mut self) -> Result<(), Failure> {
        let Some(credential) = self.life.newest() else {
            return Ok(());
        };
        let est = Est {
            door: &self.config.est,
            trust: &self.trust,
            waiting: &self.waiting,
        };
        let roots = self.roots.digests();
        est.tell_roots(&credential.certified, &roots, &mut self.clock)
    }
}
