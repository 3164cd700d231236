//! Certificates got and renewed, and what is done when the one we have is refused: what
//! [`crate::life`] decides, done.

use super::{Agent, pause, say};
use crate::est::Est;
use crate::failure::Failure;
use crate::life::{By, Refused, Step};
use crate::random;
use std::time::{Duration, Instant};

impl Agent {
    /// Gets a certificate where there is none that is worth a connection.
    ///
    /// # Errors
    /// There is none, and none was given.
    pub(super) fn equip(&mut self) -> Result<(), Failure> {
        while let Step::Obtain(by) = self.next_step(false) {
            match self.obtain(by) {
                Ok(()) => {}
                Err(Failure::Stopped) => return Err(Failure::Stopped),
                Err(failure) if self.life.newest().is_none() => return Err(failure),
                // What we have is tried all the same.
                Err(failure) => self.trouble(&format!("not enrolled again: {failure}")),
            }
        }
        Ok(())
    }

    /// Gets the next certificate by the present one, then proves it by a real connection; the
    /// present one stays until that has happened.
    pub(super) fn renew(&mut self) -> Result<(), Failure> {
        match self.obtain(By::Present) {
            Ok(()) => {
                self.renewal_backoff.reset();
                self.next_roots = Instant::now();
                // The plane knows one session of a device: the old one ends before the new one
                // begins, in peace. What it had not acknowledged is sent again.
                if let Some(link) = self.link.take() {
                    link.close();
                }
                self.outbox.disconnect();
                self.try_connect()
            }
            Err(Failure::Stopped) => Err(Failure::Stopped),
            Err(failure) => {
                if failure.is_tls() {
                    self.tls_failures += 1;
                }
                let mut wait = pause(&mut self.renewal_backoff);
                if let Failure::Pending(seconds) = failure {
                    wait = wait.max(Duration::from_secs(seconds));
                }
                self.renewal_after = Instant::now() + wait;
                self.trouble(&format!("not renewed: {failure}"));
                Ok(())
            }
        }
    }

    /// Our certificate was refused.
    pub(super) fn reconsider_certificate(&mut self) {
        match self.life.refused(&self.folder) {
            Ok(Refused::Dropped) => {
                say("the new certificate was refused: back to the proven one");
                self.plan_renewal();
            }
            Ok(Refused::Counted(_)) => {}
            Err(error) => self.trouble(&format!("the keyring cannot be written ({error:#})")),
        }
    }

    pub(super) fn next_step(&self, is_connected: bool) -> Step {
        let told = self.clock.told();
        self.life.next(self.clock.now(), told, is_connected)
    }

    pub(super) fn plan_renewal(&mut self) {
        let random = random::bits();
        let latest = self.config.renew_seconds_max.map(|every| {
            let jitter = every.mul_f64(f64::from(random) / f64::from(u32::MAX) / 10.0);
            self.clock.now().plus(every - jitter)
        });
        self.life.plan_renewal(random, latest);
    }

    fn obtain(&mut self, by: By) -> Result<(), Failure> {
        say(match by {
            By::Idevid => "asking for a certificate by the factory identity",
            By::Present => "renewing the certificate",
            By::Ended => "asking for a certificate by the one that has ended",
        });
        let est = Est {
            door: &self.config.est,
            trust: &self.trust,
            waiting: &self.waiting,
        };
        let clock = &mut self.clock;
        self.life.obtain(
            &self.folder,
            &self.config.device,
            &self.idevid,
            by,
            |shown, request| est.enroll(shown, request, by, clock),
        )?;
        if let Some(newest) = self.life.newest() {
            self.clock.raise(newest.not_before);
        }
        self.plan_renewal();
        Ok(())
    }
}
