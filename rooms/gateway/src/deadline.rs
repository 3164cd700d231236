//! What is due when: one heap for the shard, no timer per connection.
//!
//! An owner remembers the earliest moment it is in the heap for. Activity only changes what is
//! truly due; when its entry comes up, the owner looks again and, if it is not yet due, goes back
//! in. So a busy connection costs one heap operation per keep-alive interval, not one per packet.

use model::Timestamp;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Whose deadline, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Connection(u32),
    Session(u32),
    Principal(u32),
}

#[derive(Debug, Default)]
pub(crate) struct Deadlines(BinaryHeap<Reverse<(Timestamp, Owner)>>);

impl Deadlines {
    /// `scheduled` belongs to the owner: the moment of its one entry that counts.
    pub(crate) fn schedule(
        &mut self,
        owner: Owner,
        scheduled: &mut Option<Timestamp>,
        at: Timestamp,
    ) {
        if scheduled.is_none_or(|earlier| at < earlier) {
            *scheduled = Some(at);
            self.0.push(Reverse((at, owner)));
        }
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// The next entry that is due. It counts only if its owner still has it as `scheduled`.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, Owner)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}
