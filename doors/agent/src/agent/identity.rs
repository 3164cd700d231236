//! Certificates got and renewed, and what is done when the one we have is refused.

use super::{Agent, pause, say};
use crate::est::Est;
use crate::failure::Failure;
use crate::random;
use model::Timestamp;
use std::time::{Duration, Instant};

/// So many refusals in a row, and the factory identity is tried again.
const REFUSALS_BEFORE_IDEVID: u32 = 3;

impl Agent {
    /// Asks the plane what time it is: without an answer our own clock must do.
    pub(super) fn ask_time(&mut self) {
        let est = Est {
            door: &self.config.est,
            trust: &self.trust,
            waiting: &self.waiting,
        };
        match est.ask_time(&mut self.clock) {
            Ok(()) => {
                if let Some(off) = self.clock.error_seconds().filter(|off| off.abs() > 60) {
                    say(&format!("our clock is off by {off} s; the plane's is used"));
                }
            }
            Err(failure) if failure.is_tls() => self.tls_failures += 1,
            Err(_) => {}
        }
    }

    /// The first certificate, or one more when the last is refused: by the factory identity.
    pub(super) fn enroll_by_idevid(&mut self) -> Result<(), Failure> {
        say("asking for a certificate by the factory identity");
        self.obtain(false)
    }

    /// Gets the next certificate by the present one, then proves it by a real connection; the
    /// present one stays until that has happened.
    pub(super) fn renew(&mut self) -> Result<(), Failure> {
        say("renewing the certificate");
        match self.obtain(true) {
            Ok(()) => {
                self.renewal_backoff.reset();
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

    /// Our certificate was refused. A new one that never opened a session is dropped for the one
    /// that did; one that has ended, or is refused again and again, is replaced by the factory
    /// identity's word. A device that was revoked is refused there too.
    pub(super) fn reconsider_certificate(&mut self) -> Result<(), Failure> {
        if self.keyring.is_unproven() {
            say("the new certificate was refused: back to the proven one");
            if let Err(error) = self.keyring.drop_unproven(&self.folder) {
                self.trouble(&format!("the keyring cannot be written ({error:#})"));
            }
            self.plan_renewal();
            return Ok(());
        }
        self.refusals = self.refusals.saturating_add(1);
        let ended = self
            .keyring
            .newest()
            .is_some_and(|newest| newest.not_after <= self.clock.now());
        if self.keyring.newest().is_some() && (ended || self.refusals >= REFUSALS_BEFORE_IDEVID) {
            match self.enroll_by_idevid() {
                Ok(()) => self.refusals = 0,
                Err(Failure::Stopped) => return Err(Failure::Stopped),
                Err(failure) => self.trouble(&format!("not enrolled again: {failure}")),
            }
        }
        Ok(())
    }

    /// Two thirds of the certificate's life, give or take a tenth of that, so that a fleet that
    /// was enrolled in one hour is not renewed in one.
    pub(super) fn plan_renewal(&mut self) {
        if let Some(newest) = self.keyring.newest() {
            let random = random::bits();
            self.renew_at = renew_at(newest.not_before, newest.not_after, random);
            if let Some(every) = self.config.renew_seconds_max {
                let jitter = every.mul_f64(f64::from(random) / f64::from(u32::MAX) / 10.0);
                self.renew_at = self.renew_at.min(self.clock.now().plus(every - jitter));
            }
        }
    }

    /// Asks for a certificate and takes it in. What was asked is kept until it is answered.
    fn obtain(&mut self, again: bool) -> Result<(), Failure> {
        let shown = match self.keyring.present().filter(|_| again) {
            Some(present) => present.certified.clone(),
            None => self.idevid.certified.clone(),
        };
        let asked = self
            .keyring
            .ask(&self.folder, &self.config.device, again)
            .map_err(Failure::Local)?;
        let est = Est {
            door: &self.config.est,
            trust: &self.trust,
            waiting: &self.waiting,
        };
        match est.enroll(&shown, &asked.request, again, &mut self.clock) {
            Ok(issued) => {
                self.keyring
                    .take(&self.folder, &asked, &issued)
                    .map_err(Failure::Local)?;
                if let Some(newest) = self.keyring.newest() {
                    self.clock.raise(newest.not_before);
                }
                self.plan_renewal();
                Ok(())
            }
            Err(failure) => {
                if let Failure::Http(400..=428 | 430..500, _) = failure {
                    // The request itself may be the reason: the next one is made anew. Not for
                    // asking too often (429), which another request would only do again.
                    self.keyring
                        .forget_asked(&self.folder)
                        .map_err(Failure::Local)?;
                }
                Err(failure)
            }
        }
    }
}

fn renew_at(not_before: Timestamp, not_after: Timestamp, random: u32) -> Timestamp {
    let two_thirds = not_after.since(not_before) / 3 * 2;
    let earliest = two_thirds / 10 * 9;
    let span = two_thirds / 5;
    not_before
        .plus(earliest)
        .plus(span.mul_f64(f64::from(random) / f64::from(u32::MAX)))
}
