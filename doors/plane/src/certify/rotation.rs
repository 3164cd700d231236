//! Newer certificates that have opened a door, on their way from the doors to the task which retires
//! what they supersede.

use crate::shared::Locked;
use identity::Fact;
use model::{CertificateId, Timestamp};
use std::collections::BTreeMap;
use tokio::sync::Notify;

/// What doors saw and nobody took yet. A certificate stands here once however often its device
/// connects, so this holds no more than there are devices; what is lost in a crash is seen again
/// when the device comes back, as every session ended with it.
#[derive(Default)]
pub struct Proofs {
    seen: Locked<BTreeMap<CertificateId, Timestamp>>,
    nudge: Notify,
}

impl Proofs {
    /// Never waits: a shard says it.
    pub fn tell(&self, certificate: CertificateId, at: Timestamp) {
        let is_news = self.seen.lock().insert(certificate, at).is_none();
        if is_news {
            self.nudge.notify_one();
        }
    }

    /// Returns when something was told since it was last taken.
    pub async fn wait(&self) {
        self.nudge.notified().await;
    }

    #[must_use]
    pub fn take(&self) -> BTreeMap<CertificateId, Timestamp> {
        std::mem::take(&mut *self.seen.lock())
    }

    /// What could not go on record waits for the next round, and calls for none by itself.
    pub fn put_back(&self, mut left: BTreeMap<CertificateId, Timestamp>) {
        self.seen.lock().append(&mut left);
    }
}

/// What memory learns of a row.
pub fn fact_of(row: &store::Superseded) -> Fact {
    Fact::CertificateSuperseded {
        certificate: row.certificate,
        by: row.by,
        at: row.at,
    }
}
