//! The life of the device's certificate as decisions: what to do next about it, and what an outcome
//! means. No socket and no clock is in here, and all that must outlive a power cut is in the
//! [`Keyring`], so the whole life is lived through in tests with the power cut at each step.
//!
//! ```text
//! key made → asked → answered, kept → proven by a session → the old one retires
//!     └── the same bytes are asked again ──┘   └── refused: dropped for the proven one
//! ```
//!
//! A certificate of ours is never given up on our own clock's word. One that has ended by the plane's
//! is replaced by the factory identity's word; where that is not believed any more, by its own, as
//! long as its product's grace lasts; and where neither works it is tried all the same.

use crate::credential::Credential;
use crate::failure::Failure;
use crate::folder::Folder;
use crate::keyring::Keyring;
use model::{DeviceId, Timestamp};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// So many refusals in a row, and the factory identity is tried again.
const REFUSALS_BEFORE_IDEVID: u32 = 3;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask for a certificate.
    Obtain(By),
    /// Open a session with the newest one.
    Connect,
    /// Nothing before this time.
    Rest(Timestamp),
}

/// The word on which a certificate is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The factory identity's: the first one, or one more when ours opens nothing.
    Idevid,
    /// The proven certificate's own: the next one.
    Present,
    /// The newest certificate's own, though it has ended: within its product's grace.
    Ended,
}

/// What a refusal of the newest certificate led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It had never opened a session: it is gone, and the proven one is back.
    Dropped,
    /// It was refused so many times in a row.
    Counted(u32),
}

#[derive(Debug)]
pub struct Life {
    keyring: Keyring,
    /// Of the newest certificate, in a row.
    refusals: u32,
    /// Tried since the last refusal, in vain.
    idevid_failed: bool,
    ended_failed: bool,
    renew_at: Timestamp,
}

impl Life {
    /// # Errors
    /// If the state folder cannot be read.
    pub fn open(folder: &Folder) -> anyhow::Result<Self> {
        Ok(Self {
            keyring: Keyring::open(folder)?,
            refusals: 0,
            idevid_failed: false,
            ended_failed: false,
            renew_at: Timestamp::from_seconds(0),
        })
    }

    /// The one to connect with.
    pub fn newest(&self) -> Option<&Credential> {
        self.keyring.newest()
    }

    pub fn renew_at(&self) -> Timestamp {
        self.renew_at
    }

    /// `now` is the best that is known of the time, `told` what the plane said of it, if it did.
    pub fn next(&self, now: Timestamp, told: Option<Timestamp>, is_connected: bool) -> Step {
        let Some(newest) = self.keyring.newest() else {
            return Step::Obtain(By::Idevid);
        };
        if is_connected {
            return if now >= self.renew_at {
                Step::Obtain(By::Present)
            } else {
                Step::Rest(self.renew_at)
            };
        }
        let has_ended = told.is_some_and(|told| newest.not_after < told);
        if (has_ended || self.refusals >= REFUSALS_BEFORE_IDEVID) && !self.idevid_failed {
            return Step::Obtain(By::Idevid);
        }
        if has_ended && !self.ended_failed {
            return Step::Obtain(By::Ended);
        }
        Step::Connect
    }

    /// Asks for a certificate and takes it in. `exchange` shows a certificate, sends a request, and
    /// returns the certificates that came back.
    ///
    /// # Errors
    /// The exchange's, or that the answer fits no key of ours or cannot be kept.
    pub fn obtain(
        &mut self,
        folder: &Folder,
        device: &DeviceId,
        idevid: &Credential,
        by: By,
        exchange: impl FnOnce(&Arc<CertifiedKey>, &[u8]) -> Result<Vec<Vec<u8>>, Failure>,
    ) -> Result<(), Failure> {
        let shown = match by {
            By::Idevid => None,
            By::Present => self.keyring.present(),
            By::Ended => self.keyring.newest(),
        };
        let shown = Arc::clone(&shown.unwrap_or(idevid).certified);
        let obtained = self
            .keyring
            .ask(folder, device, by != By::Idevid)
            .map_err(Failure::Local)
            .and_then(|asked| match exchange(&shown, &asked.request) {
                Ok(issued) => self
                    .keyring
                    .take(folder, &asked, &issued)
                    .map_err(Failure::Local),
                Err(failure) => {
                    if let Failure::Http(400..=428 | 430..500, _) = failure {
                        // The request itself may be the reason: the next one is made anew. Not for
                        // asking too often (429), which another request would only do again.
                        self.keyring.forget_asked(folder).map_err(Failure::Local)?;
                    }
                    Err(failure)
                }
            });
        match &obtained {
            Ok(()) => self.begin_anew(),
            Err(_) => {
                self.idevid_failed |= by == By::Idevid;
                self.ended_failed |= by == By::Ended;
            }
        }
        obtained
    }

    /// Two thirds of the newest certificate's life, give or take a tenth of that, so that a fleet
    /// that was enrolled in one hour is not renewed in one; `latest` is later than the
    /// configuration allows. `random` is 32 uniform bits.
    pub fn plan_renewal(&mut self, random: u32, latest: Option<Timestamp>) {
        if let Some(newest) = self.keyring.newest() {
            let planned = renew_at(newest.not_before, newest.not_after, random);
            self.renew_at = latest.map_or(planned, |latest| planned.min(latest));
        }
    }

    /// The newest has opened a session: it is proven, and the older ones retire. True if they did.
    ///
    /// # Errors
    /// If it cannot be written. It is proven all the same; the next start proves it again.
    pub fn opened(&mut self, folder: &Folder) -> anyhow::Result<bool> {
        self.begin_anew();
        self.keyring.prove(folder)
    }

    /// The newest was refused at a door. One that never opened a session is dropped for the one
    /// that did; one that is refused again and again is replaced by the factory identity's word.
    /// A device that was revoked is refused there too.
    ///
    /// # Errors
    /// If the keyring cannot be written.
    pub fn refused(&mut self, folder: &Folder) -> anyhow::Result<Refused> {
        (self.idevid_failed, self.ended_failed) = (false, false);
        if self.keyring.is_unproven() {
            self.keyring.drop_unproven(folder)?;
            return Ok(Refused::Dropped);
        }
        self.refusals = self.refusals.saturating_add(1);
        Ok(Refused::Counted(self.refusals))
    }

    /// Something went well.
    fn begin_anew(&mut self) {
        self.refusals = 0;
        (self.idevid_failed, self.ended_failed) = (false, false);
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

#[cfg(test)]
mod crash;
#[cfg(test)]
mod tests;
