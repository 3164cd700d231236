//! What is remembered of those who are no devices, for as long as there is room.

use crate::judge::interfaces::Visitor;
use crate::places::household;
use model::{Subject, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Each kind of subject has its own room, so that strangers can push out strangers only.
const VISITORS_MAX: usize = 4096;

#[derive(Debug, Default)]
pub struct Visitors {
    services: Table,
    persons: Table,
    addresses: Table,
}

#[derive(Debug, Default)]
struct Table {
    visitors: BTreeMap<Subject, (Timestamp, Visitor)>,
    by_age: BTreeSet<(Timestamp, Subject)>,
}

impl Visitors {
    /// What is remembered of `subject`; whoever was not seen for longest makes room.
    pub fn visit(&mut self, subject: &Subject, now: Timestamp) -> &mut Visitor {
        let (table, key) = match subject {
            Subject::Service(_) => (&mut self.services, subject.clone()),
            Subject::Address(address) => {
                (&mut self.addresses, Subject::Address(household(*address)))
            }
            _ => (&mut self.persons, subject.clone()),
        };
        table.visit(key, now)
    }
}

impl Table {
    fn visit(&mut self, subject: Subject, now: Timestamp) -> &mut Visitor {
        if let Some((last, _)) = self.visitors.get(&subject) {
            self.by_age.remove(&(*last, subject.clone()));
        } else if self.visitors.len() >= VISITORS_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.visitors.remove(&oldest);
        }
        self.by_age.insert((now, subject.clone()));
        let (last, visitor) = self.visitors.entry(subject).or_default();
        *last = now;
        visitor
    }
}
