//! What each principal sends and hears, by channel: one list for the whole shard, which is emptied each
//! time it is handed out. In the steady state nothing here allocates.

use crate::gateway::Gateway;
use access::{Channel, Facts, Passed};

/// A principal and a channel, since it was handed out last; 32 bytes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    principal: u32,
    /// The next entry of the same principal.
    next: u32,
    channel: u16,
    received: bool,
    own: bool,
    bytes_max: u32,
    messages: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Traffic {
    entries: Vec<Entry>,
}

/// No entry.
pub(crate) const NONE: u32 = u32::MAX;
/// What comes beyond is not counted until the list is handed out: 10 MiB.
const ENTRIES_MAX: usize = 256 * 1024;

impl Traffic {
    /// `first` is the principal's newest entry. The one that is found comes first in its list: who
    /// hears hundreds of channels hears a few of them most of the time.
    fn count(&mut self, first: &mut u32, one: Entry) {
        let (mut before, mut at) = (NONE, *first);
        while let Some(entry) = self.entry(at) {
            if (entry.channel, entry.received, entry.own) == (one.channel, one.received, one.own) {
                entry.messages += one.messages;
                entry.bytes += one.bytes;
                entry.bytes_max = entry.bytes_max.max(one.bytes_max);
                let next = entry.next;
                if before != NONE {
                    entry.next = *first;
                    *first = at;
                    if let Some(before) = self.entry(before) {
                        before.next = next;
                    }
                }
                return;
            }
            (before, at) = (at, entry.next);
        }
        if self.entries.len() < ENTRIES_MAX {
            let index = u32::try_from(self.entries.len()).unwrap_or(NONE);
            self.entries.push(Entry {
                next: *first,
                ..one
            });
            *first = index;
        }
    }

    fn entry(&mut self, at: u32) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(at).ok()?)
    }
}

impl Gateway {
    /// A message that was taken of a principal.
    pub(crate) fn count_sent(&mut self, principal: u32, place: &access::Publish<'_>, bytes: usize) {
        let Some(known) = self.principals.get_mut(principal) else {
            return;
        };
        let own = self.grants.is_own(&known.subject, place);
        let one = entry(principal, place, false, own, bytes);
        self.traffic.count(&mut known.traffic, one);
    }

    /// A message that goes to those who were found, once to each.
    pub(crate) fn count_heard(&mut self, place: &access::Publish<'_>, bytes: usize) {
        let Self {
            matches,
            sessions,
            principals,
            grants,
            traffic,
            ..
        } = self;
        let each = matches
            .chunk_by(|left, right| (left.session, left.share) == (right.session, right.share));
        for found in each.filter_map(<[_]>::first) {
            let Some(session) = sessions.get(found.session) else {
                continue;
            };
            let index = session.principal;
            if let Some(known) = principals.get_mut(index) {
                let own = grants.is_own(&known.subject, place);
                traffic.count(&mut known.traffic, entry(index, place, true, own, bytes));
            }
        }
    }

    /// Hands out what each principal sent and heard in each channel since this was asked last. Asked
    /// before other grants come, as channels are numbered by those.
    pub fn take_traffic(&mut self, mut each: impl FnMut(&Facts, &Channel, Passed)) {
        let mut entries = std::mem::take(&mut self.traffic.entries);
        for entry in entries.drain(..) {
            let Some(known) = self.principals.get_mut(entry.principal) else {
                continue;
            };
            known.traffic = NONE;
            if let Some(channel) = self.grants.channel_numbered(entry.channel) {
                let passed = Passed {
                    received: entry.received,
                    own: entry.own,
                    messages: entry.messages,
                    bytes: entry.bytes,
                    bytes_max: entry.bytes_max,
                };
                each(&known.facts, channel, passed);
            }
        }
        self.traffic.entries = entries;
    }

    /// Forgets it: the numbers of channels mean others now.
    pub(crate) fn drop_traffic(&mut self) {
        for entry in std::mem::take(&mut self.traffic.entries) {
            if let Some(known) = self.principals.get_mut(entry.principal) {
                known.traffic = NONE;
            }
        }
    }
}

fn entry(
    principal: u32,
    place: &access::Publish<'_>,
    received: bool,
    own: bool,
    bytes: usize,
) -> Entry {
    Entry {
        principal,
        next: NONE,
        channel: place.channel_index(),
        received,
        own,
        bytes_max: u32::try_from(bytes).unwrap_or(u32::MAX),
        messages: 1,
        bytes: bytes as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_one_entry_and_the_last_one_used_comes_first() {
        let (mut traffic, mut first) = (Traffic::default(), NONE);
        for round in 0..1000_u16 {
            let one = Entry {
                principal: 1,
                next: NONE,
                channel: round * 7 % 11,
                received: round % 2 == 0,
                own: true,
                bytes_max: u32::from(round),
                messages: 1,
                bytes: 2,
            };
            traffic.count(&mut first, one);
            let newest = traffic.entry(first).copied().unwrap();
            assert_eq!(
                (newest.channel, newest.received),
                (one.channel, one.received)
            );
        }
        assert_eq!(traffic.entries.len(), 22);
        let sum: u64 = traffic.entries.iter().map(|entry| entry.messages).sum();
        assert_eq!(sum, 1000);
        let (mut at, mut seen) = (first, 0);
        while let Some(entry) = traffic.entry(at) {
            at = entry.next;
            seen += 1;
        }
        assert_eq!(seen, 22);
    }
}
