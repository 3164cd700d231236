//! Observations in, deviations out.

use crate::{Baseline, Declared, Deviation, Observation, Settings};
use model::{DeviceId, ProductId, Timestamp};

/// The machine that judges. The same observations in the same order give the same deviations.
#[derive(Debug)]
pub struct Detector {
    settings: Settings,
}

/// Why a snapshot was not taken back. The detector is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error(
        "the snapshot is of format {0}; this version reads 1: start without it, what was learned is learned again"
    )]
    Format(u64),
    #[error("the snapshot is damaged ({0}): start without it, what was learned is learned again")]
    Damaged(&'static str),
    #[error("the snapshot has {0} bytes, more than any we write")]
    TooLarge(usize),
}

impl Detector {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Replaces what is declared; a product that is no longer named has nothing declared.
    pub fn declare(&mut self, _declared: &[Declared]) {}

    /// A device of a product exists. Again with another product: it moves, and starts afresh.
    pub fn enroll(&mut self, _device: &DeviceId, _product: &ProductId) {}

    /// The device is gone (retired, revoked): nothing of it is kept.
    pub fn forget(&mut self, _device: &DeviceId) {}

    /// Judges one observation; appends what differs.
    pub fn observe(&mut self, _observation: &Observation, _out: &mut Vec<Deviation>) {
        let _ = &self.settings;
    }

    /// What time alone makes a deviation: silence. Call at [`Self::next_deadline`] or later.
    pub fn wake(&mut self, _now: Timestamp, _out: &mut Vec<Deviation>) {}

    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    /// By product id.
    #[must_use]
    pub fn baselines(&self) -> Vec<Baseline> {
        Vec::new()
    }

    /// A person takes what was proposed as normal. How many entries became normal by it; `None`
    /// if the product has no baseline.
    pub fn accept(&mut self, _product: &ProductId, _at: Timestamp) -> Option<usize> {
        None
    }

    /// What was learned, without what is declared or set.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }

    /// # Errors
    /// Refuses what is damaged or of another format; nothing is changed then.
    pub fn restore(&mut self, _bytes: &[u8]) -> Result<(), SnapshotError> {
        Ok(())
    }
}
