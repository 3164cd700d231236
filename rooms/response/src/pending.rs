//! Alerts that open no incident by themselves: kept for an hour, should a second kind come.

use crate::cap::HOUR;
use crate::effect::AlertSeen;
use crate::incident::About;
use model::{Attribution, DeviationKind, Timestamp};
use std::collections::BTreeMap;

/// Subjects in one generation; there are two.
const SUBJECTS_MAX: usize = 10_000;
const ALERTS_PER_SUBJECT_MAX: usize = 8;

/// Two generations, so that forgetting costs nothing: the older is dropped when the younger is an
/// hour old or full.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    since: Timestamp,
    young: BTreeMap<About, Vec<AlertSeen>>,
    old: BTreeMap<About, Vec<AlertSeen>>,
}

impl Pending {
    pub fn add(&mut self, about: About, alert: &AlertSeen, now: Timestamp) {
        if now.since(self.since) >= HOUR || self.young.len() >= SUBJECTS_MAX {
            self.old = std::mem::take(&mut self.young);
            self.since = now;
        }
        let alerts = self.young.entry(about).or_default();
        alerts.retain(|one| one.kind != alert.kind || one.attribution > alert.attribution);
        if alerts.len() < ALERTS_PER_SUBJECT_MAX {
            alerts.push(alert.clone());
        }
    }

    /// Is there a proven alert of another kind, of the last hour?
    pub fn has_other_kind(&self, about: &About, kind: DeviationKind, now: Timestamp) -> bool {
        self.of(about).any(|one| {
            one.kind != kind && one.attribution == Attribution::Proven && now.since(one.at) < HOUR
        })
    }

    /// Hands out what is kept about it, of the last hour.
    pub fn take(&mut self, about: &About, now: Timestamp) -> Vec<AlertSeen> {
        let old = self.old.remove(about).unwrap_or_default();
        let young = self.young.remove(about).unwrap_or_default();
        (old.into_iter().chain(young))
            .filter(|one| now.since(one.at) < HOUR)
            .collect()
    }

    fn of(&self, about: &About) -> impl Iterator<Item = &AlertSeen> {
        let generations = [&self.old, &self.young];
        (generations.into_iter()).flat_map(|map| map.get(about).into_iter().flatten())
    }
}
