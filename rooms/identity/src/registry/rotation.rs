//! The old certificate's way out: superseded once a newer one of the same device has opened a door,
//! revoked when the overlap that its product allows is over, never before.
//!
//! That a newer one was *issued* says nothing: its answer may be lost in a power cut, and then the
//! old one is all that the device has. So nothing here begins before the newer one was seen.

use super::{Registry, table};
use model::{CertificateId, ProductId, Revocable, Timestamp};
use std::time::Duration;

/// Earlier certificates of a device that are looked at. Who renews each hour has more of them on
/// record, and those further back were looked at when the later ones were proven.
const WALK_MAX: usize = 64;

/// By which certificate another one was superseded, and when that one first opened a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supersession {
    pub by: CertificateId,
    pub at: Timestamp,
}

impl Registry {
    /// The certificates that are superseded by this one, now that it has opened a door: those of the
    /// same device that were issued before it, are still good, and are not superseded already.
    ///
    /// Asked at each connection, so it costs nothing where there is nothing to do: a device with one
    /// certificate has no earlier one, and the walk ends at the first that is superseded already or
    /// after [`WALK_MAX`].
    #[must_use]
    pub fn supersedes(&self, certificate: &CertificateId, now: Timestamp) -> Vec<CertificateId> {
        let Some(record) = self.certificates.find(certificate) else {
            return Vec::new();
        };
        // Two programs may be one service and hold a certificate each.
        if !matches!(record.owner, table::Owner::Device(_)) {
            return Vec::new();
        }
        self.certificates
            .before(record)
            .take(WALK_MAX)
            .take_while(|(id, _)| !self.superseded.contains_key(id))
            .filter(|(id, record)| {
                record.not_after() >= now && self.bars.of(&Revocable::Certificate(*id)).is_none()
            })
            .map(|(id, _)| id)
            .collect()
    }

    /// What superseded it, if it is on its way out and not revoked yet.
    #[must_use]
    pub fn superseded_by(&self, certificate: &CertificateId) -> Option<Supersession> {
        self.superseded.get(certificate).copied()
    }

    /// Superseded certificates whose overlap is over, the longest superseded first. `overlap` is what
    /// a product allows; `None`: its superseded certificates are left to end by themselves.
    #[must_use]
    pub fn retired(
        &self,
        now: Timestamp,
        overlap: impl Fn(&ProductId) -> Option<Duration>,
    ) -> Vec<CertificateId> {
        let mut due: Vec<(Timestamp, CertificateId)> = self
            .superseded
            .iter()
            .filter_map(|(id, supersession)| {
                let table::Owner::Device(row) = self.certificates.find(id)?.owner else {
                    return None;
                };
                let allowed = self
                    .products
                    .value(self.devices.view(row)?.product)
                    .and_then(&overlap)?;
                (supersession.at.plus(allowed) <= now).then_some((supersession.at, *id))
            })
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }

    pub(super) fn supersede(&mut self, certificate: CertificateId, supersession: Supersession) {
        // One that is on no record is refused at each door anyway.
        if self.certificates.find(&certificate).is_some()
            && self.bars.of(&Revocable::Certificate(certificate)).is_none()
        {
            // The first proof counts: the overlap never begins anew.
            self.superseded.entry(certificate).or_insert(supersession);
        }
    }
}
