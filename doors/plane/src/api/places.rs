//! From where sessions and tokens are used: the judge is told of each place once in a run.

use crate::clock;
use crate::judge::signals::{Signals, Told};
use crate::listen::source_of;
use crate::shared::Locked;
use detection::Feature;
use model::{Attribution, Subject};
use std::collections::HashSet;
use std::net::IpAddr;

/// Told places; beyond them all are told again.
const TOLD_MAX: usize = 8192;

#[derive(Default)]
pub struct Places(Locked<HashSet<(Subject, IpAddr)>>);

impl Places {
    pub fn note(&self, signals: &Signals, subject: &Subject, from: IpAddr) {
        if !self.is_new(subject, from) {
            return;
        }
        signals.tell(Told::seen(
            subject.clone(),
            Attribution::Proven,
            Feature::UsedFrom { address: from },
            clock::now(),
        ));
    }

    fn is_new(&self, subject: &Subject, from: IpAddr) -> bool {
        let mut told = self.0.lock();
        let place = (subject.clone(), source_of(from));
        if told.contains(&place) {
            return false;
        }
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        told.insert(place)
    }
}
