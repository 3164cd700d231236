//! The QoS 1 and 2 messages of one session, from "accepted" to "acknowledged", in order.
//!
//! A message's sequence number gives its packet identifier, so an acknowledgement finds its message
//! without a table, and a message that is sent again, even after a restart, has the identifier that
//! the client may have seen. The window is counted from the oldest unacknowledged message.
//!
//! A message of QoS 2 that the client has received (PUBREC) is *released*: its content is gone, and
//! what goes out again is its PUBREL.

use model::Timestamp;
use mqtt::{ForwardProperties, Qos};
use std::collections::VecDeque;
use std::time::Duration;

/// Packet identifiers are 1 to 65,535, so at most this many messages are in flight.
const IDENTIFIERS: u64 = 65_535;
/// An empty queue keeps at most this much memory.
const IDLE_BYTES: usize = 64 * 1024;
/// How often a full queue is looked through for what has expired.
const SWEEP: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Queue {
    /// Messages back to back; those before the first entry are dead.
    bytes: Vec<u8>,
    /// Bytes ever removed from the front of `bytes`: offsets in entries never change.
    removed: u64,
    entries: VecDeque<Entry>,
    /// Sequence number of the first entry.
    first: u64,
    /// Index of the first entry that is not on the wire.
    next: usize,
    /// Messages not acknowledged, and their bytes.
    live: usize,
    live_bytes: usize,
    /// When it was last looked for what has expired.
    swept_at: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: u64,
    topic_bytes: u32,
    forward_bytes: u32,
    payload_bytes: u32,
    expires_at: Option<Timestamp>,
    /// The shared subscription that it came by.
    share: Option<u32>,
    qos: Qos,
    retain: bool,
    /// It may have been sent before.
    dup: bool,
    released: bool,
    acknowledged: bool,
}

impl Entry {
    const fn len(&self) -> usize {
        self.topic_bytes as usize + self.forward_bytes as usize + self.payload_bytes as usize
    }
}

/// A message on its way out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outbound<'m> {
    pub topic: &'m str,
    pub forward: ForwardProperties<'m>,
    pub payload: &'m [u8],
    pub expires_at: Option<Timestamp>,
    pub qos: Qos,
    /// As its publisher says it; for a receiver: as it is told.
    pub retain: bool,
    /// The shared subscription by which its receiver gets it.
    pub share: Option<u32>,
}

impl Outbound<'_> {
    pub(crate) fn len(&self) -> usize {
        self.topic.len() + self.forward.encoded_length() + self.payload.len()
    }
}

/// What to send now.
#[derive(Debug)]
pub(crate) struct Due<'q> {
    pub sequence: u64,
    pub packet_id: u16,
    pub dup: bool,
    /// `None`: the client has it, and waits for PUBREL.
    pub message: Option<Outbound<'q>>,
}

impl Queue {
    pub(crate) const fn starting_at(first: u64) -> Self {
        Self {
            bytes: Vec::new(),
            removed: 0,
            entries: VecDeque::new(),
            first,
            next: 0,
            live: 0,
            live_bytes: 0,
            swept_at: Timestamp::from_millis(0),
        }
    }

    /// Messages not acknowledged.
    pub(crate) const fn len(&self) -> usize {
        self.live
    }

    /// Whether it takes no more of this size. Places between those that wait are few.
    pub(crate) fn is_full(&self, messages_max: usize, bytes_max: usize, bytes: usize) -> bool {
        self.live >= messages_max
            || self.entries.len() >= messages_max.saturating_mul(2)
            || self.live_bytes.saturating_add(bytes) > bytes_max
    }

    /// Ends what has expired and is not on the wire, as far as packet identifiers reach; once a second
    /// at most, as it looks at all of it. Returns the sequence numbers.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Vec<u64> {
        if now < self.swept_at.plus(SWEEP) {
            return Vec::new();
        }
        self.swept_at = now;
        let gaps = self.entries.len().saturating_sub(self.live);
        let room = usize::try_from(IDENTIFIERS)
            .unwrap_or(0)
            .saturating_sub(gaps + 1);
        let expired: Vec<u64> = (self.first..)
            .zip(&self.entries)
            .skip(self.next)
            .filter(|(_, entry)| !entry.acknowledged && !entry.released)
            .filter(|(_, entry)| entry.expires_at.is_some_and(|at| at <= now))
            .map(|(sequence, _)| sequence)
            .take(room)
            .collect();
        for sequence in &expired {
            self.acknowledge_sequence(*sequence);
        }
        expired
    }

    pub(crate) const fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    pub(crate) const fn first_sequence(&self) -> u64 {
        self.first
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.first.saturating_add(self.entries.len() as u64)
    }

    /// Is the next message to be pushed also the next to be sent, within a window of this size?
    pub(crate) fn may_send_at_once(&self, window: u16) -> bool {
        self.next == self.entries.len() && self.next < usize::from(window)
    }

    /// Keeps the message. Its sequence number is what `next_sequence` said.
    pub(crate) fn push(&mut self, message: &Outbound<'_>) {
        let size = message.len();
        self.compact_for(size);
        let offset = self.removed.saturating_add(self.bytes.len() as u64);
        self.bytes.extend_from_slice(message.topic.as_bytes());
        message.forward.append_to(&mut self.bytes);
        self.bytes.extend_from_slice(message.payload);
        self.live += 1;
        self.live_bytes += size;
        // Packets are at most 256 MiB (MQTT 2.1.4), so lengths fit.
        self.entries.push_back(Entry {
            offset,
            topic_bytes: u32::try_from(message.topic.len()).unwrap_or(0),
            forward_bytes: u32::try_from(message.forward.encoded_length()).unwrap_or(0),
            payload_bytes: u32::try_from(message.payload.len()).unwrap_or(0),
            expires_at: message.expires_at,
            share: message.share,
            qos: message.qos,
            retain: message.retain,
            dup: false,
            released: false,
            acknowledged: false,
        });
    }

    /// A message that was sent at once and need not be kept: only its identifier is in flight.
    /// Asked only where `may_send_at_once` holds. Returns the identifier.
    pub(crate) fn push_sent(&mut self, qos: Qos) -> u16 {
        let packet_id = packet_id(self.next_sequence());
        self.live += 1;
        self.entries.push_back(Entry {
            offset: self.removed.saturating_add(self.bytes.len() as u64),
            topic_bytes: 0,
            forward_bytes: 0,
            payload_bytes: 0,
            expires_at: None,
            share: None,
            qos,
            retain: false,
            dup: false,
            released: false,
            acknowledged: false,
        });
        self.next = self.entries.len();
        packet_id
    }

    /// As [`Self::push_sent`], of a message that the client had received before a restart.
    pub(crate) fn push_released(&mut self) {
        self.push_sent(Qos::ExactlyOnce);
        if let Some(entry) = self.entries.back_mut() {
            entry.released = true;
        }
    }

    /// The next message that the window lets out. It stays next until `mark_sent` or `skip`.
    pub(crate) fn due(&mut self, window: u16) -> Option<Due<'_>> {
        while self.next < usize::from(window)
            && self
                .entries
                .get(self.next)
                .is_some_and(|entry| entry.acknowledged)
        {
            self.next += 1;
        }
        if self.next >= usize::from(window) {
            return None;
        }
        let entry = *self.entries.get(self.next)?;
        let sequence = self.first.saturating_add(self.next as u64);
        Some(Due {
            sequence,
            packet_id: packet_id(sequence),
            dup: entry.dup,
            message: match entry.released {
                true => None,
                false => Some(self.message(&entry)?),
            },
        })
    }

    /// The message that `due` gave is on the wire.
    pub(crate) fn mark_sent(&mut self) {
        if let Some(entry) = self.entries.get_mut(self.next) {
            entry.dup = true;
            self.next += 1;
        }
    }

    /// The message that `due` gave will not be sent.
    pub(crate) fn skip(&mut self) {
        self.acknowledge_at(self.next);
    }

    /// PUBACK. Returns the sequence number, or `None` if no message of QoS 1 in flight has this
    /// identifier.
    pub(crate) fn acknowledge(&mut self, packet_id: u16) -> Option<u64> {
        self.end(packet_id, |entry| entry.qos == Qos::AtLeastOnce)
    }

    /// PUBREC with a failure: the client will never have it, and that is the end of it.
    pub(crate) fn reject(&mut self, packet_id: u16) -> Option<u64> {
        self.end(packet_id, |entry| {
            entry.qos == Qos::ExactlyOnce && !entry.released
        })
    }

    /// PUBCOMP.
    pub(crate) fn complete(&mut self, packet_id: u16) -> Option<u64> {
        self.end(packet_id, |entry| entry.released)
    }

    /// PUBREC: the client has it. `Some` for a message in flight with its number, and whether it is
    /// news.
    pub(crate) fn release(&mut self, packet_id: u16) -> Option<(u64, bool)> {
        let (index, sequence) = self.in_flight(packet_id)?;
        let entry = self.entries.get_mut(index)?;
        if entry.qos != Qos::ExactlyOnce {
            return None;
        }
        let is_news = !std::mem::replace(&mut entry.released, true);
        if is_news {
            let length = entry.len();
            self.live_bytes = self.live_bytes.saturating_sub(length);
        }
        Some((sequence, is_news))
    }

    /// As the journal says it; an unknown number changes nothing.
    pub(crate) fn release_sequence(&mut self, sequence: u64) {
        let entry = (sequence.checked_sub(self.first))
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| self.entries.get_mut(at));
        if let Some(entry) = entry
            && entry.qos == Qos::ExactlyOnce
            && !entry.acknowledged
            && !std::mem::replace(&mut entry.released, true)
        {
            self.live_bytes = self.live_bytes.saturating_sub(entry.len());
        }
    }

    fn end(&mut self, packet_id: u16, may: impl FnOnce(&Entry) -> bool) -> Option<u64> {
        let (index, sequence) = self.in_flight(packet_id)?;
        if !may(self.entries.get(index)?) {
            return None;
        }
        self.acknowledge_at(index);
        Some(sequence)
    }

    fn in_flight(&self, packet_id: u16) -> Option<(usize, u64)> {
        let at = (u64::from(packet_id).checked_sub(1)? + IDENTIFIERS - self.first % IDENTIFIERS)
            % IDENTIFIERS;
        let index = usize::try_from(at).ok()?;
        if index >= self.next || self.entries.get(index)?.acknowledged {
            return None;
        }
        Some((index, self.first.saturating_add(at)))
    }

    /// Whether a message waits here and was never on a wire.
    pub(crate) fn is_unsent(&self, sequence: u64) -> bool {
        let index = (sequence.checked_sub(self.first)).and_then(|at| usize::try_from(at).ok());
        index
            .filter(|index| *index >= self.next)
            .is_some_and(|index| {
                (self.entries.get(index)).is_some_and(|entry| !entry.dup && !entry.acknowledged)
            })
    }

    /// As the journal says it; an unknown number changes nothing.
    pub(crate) fn acknowledge_sequence(&mut self, sequence: u64) {
        if let Some(index) =
            (sequence.checked_sub(self.first)).and_then(|at| usize::try_from(at).ok())
        {
            self.acknowledge_at(index);
        }
    }

    /// The client is new on the wire: everything unacknowledged goes out again, in order.
    pub(crate) fn rewind(&mut self) {
        self.next = 0;
    }

    /// After a restart nobody knows what was sent: all may have been.
    pub(crate) fn suspect_all(&mut self) {
        self.next = 0;
        self.entries.iter_mut().for_each(|entry| entry.dup = true);
    }

    /// Makes `sequence` the next to be pushed, as if those between had been acknowledged. False if
    /// it lies behind or too far ahead.
    pub(crate) fn skip_to(&mut self, sequence: u64) -> bool {
        let Some(gap) = sequence.checked_sub(self.next_sequence()) else {
            return false;
        };
        if self.entries.is_empty() {
            self.first = sequence;
            return true;
        }
        if gap > IDENTIFIERS {
            return false;
        }
        for _ in 0..gap {
            self.push_sent(Qos::AtLeastOnce);
            if let Some(entry) = self.entries.back_mut() {
                entry.acknowledged = true;
                self.live = self.live.saturating_sub(1);
            }
        }
        true
    }

    /// Unacknowledged messages in order; `None`: released.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Option<Outbound<'_>>)> {
        (self.first..)
            .zip(&self.entries)
            .filter(|(_, entry)| !entry.acknowledged)
            .filter_map(|(sequence, entry)| match entry.released {
                true => Some((sequence, None)),
                false => Some((sequence, Some(self.message(entry)?))),
            })
    }

    /// What came by shared subscriptions and may go to another member when this one leaves: of QoS 2
    /// only what was never on its wire (MQTT 5: 4.8.2).
    pub(crate) fn shared(&self) -> impl Iterator<Item = Outbound<'_>> {
        (self.entries.iter())
            .filter(|entry| entry.share.is_some() && !entry.acknowledged && !entry.released)
            .filter(|entry| entry.qos == Qos::AtLeastOnce || !entry.dup)
            .filter_map(|entry| self.message(entry))
    }

    fn message(&self, entry: &Entry) -> Option<Outbound<'_>> {
        let start = usize::try_from(entry.offset.checked_sub(self.removed)?).ok()?;
        let bytes = self.bytes.get(start..start + entry.len())?;
        let (topic, rest) = bytes.split_at_checked(entry.topic_bytes as usize)?;
        let (forward, payload) = rest.split_at_checked(entry.forward_bytes as usize)?;
        Some(Outbound {
            topic: std::str::from_utf8(topic).ok()?,
            forward: ForwardProperties::from_validated(forward),
            payload,
            expires_at: entry.expires_at,
            qos: entry.qos,
            retain: entry.retain,
            share: entry.share,
        })
    }

    fn acknowledge_at(&mut self, index: usize) {
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        if !entry.acknowledged {
            entry.acknowledged = true;
            self.live = self.live.saturating_sub(1);
            if !entry.released {
                self.live_bytes = self.live_bytes.saturating_sub(entry.len());
            }
        }
        while self.entries.front().is_some_and(|entry| entry.acknowledged) {
            self.entries.pop_front();
            self.first = self.first.saturating_add(1);
            self.next = self.next.saturating_sub(1);
        }
        if self.entries.is_empty() {
            self.removed = self.removed.saturating_add(self.bytes.len() as u64);
            self.bytes.clear();
            if self.bytes.capacity() > 16 * IDLE_BYTES {
                self.bytes.shrink_to(IDLE_BYTES);
            }
        }
    }

    /// Moves the living to the front where that saves an allocation and costs less than it moves.
    fn compact_for(&mut self, size: usize) {
        if self.bytes.capacity() - self.bytes.len() >= size {
            return;
        }
        let dead = self.entries.front().map_or(self.bytes.len(), |entry| {
            usize::try_from(entry.offset.saturating_sub(self.removed)).unwrap_or(0)
        });
        if dead >= self.bytes.len() / 2 && dead > 0 {
            self.bytes.drain(..dead.min(self.bytes.len()));
            self.removed = self.removed.saturating_add(dead as u64);
        }
    }
}

fn packet_id(sequence: u64) -> u16 {
    // The remainder is below 65,535.
    u16::try_from(sequence % IDENTIFIERS)
        .unwrap_or(0)
        .saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Outbound<'_> {
        Outbound {
            topic: "t",
            forward: ForwardProperties::NONE,
            payload: text.as_bytes(),
            expires_at: None,
            qos: Qos::AtLeastOnce,
            retain: false,
            share: None,
        }
    }

    fn twice(text: &str) -> Outbound<'_> {
        Outbound {
            qos: Qos::ExactlyOnce,
            ..message(text)
        }
    }

    fn send_all(queue: &mut Queue, window: u16) -> Vec<(u16, bool, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some(due) = queue.due(window) {
            let payload = due.message.map_or(b"PUBREL".as_slice(), |it| it.payload);
            sent.push((due.packet_id, due.dup, payload.to_vec()));
            queue.mark_sent();
        }
        sent
    }

    #[test]
    fn identifiers_wrap_and_never_are_zero() {
        let mut queue = Queue::starting_at(65_533);
        for round in 0..6_u32 {
            queue.push(&message(&round.to_string()));
        }
        let sent = send_all(&mut queue, 100);
        let ids: Vec<u16> = sent.iter().map(|(id, ..)| *id).collect();
        assert_eq!(ids, [65_534, 65_535, 1, 2, 3, 4]);
        for id in ids {
            assert!(queue.acknowledge(id).is_some());
            assert!(queue.acknowledge(id).is_none(), "{id} twice");
        }
        assert_eq!((queue.len(), queue.live_bytes()), (0, 0));
    }

    #[test]
    fn an_unsent_message_cannot_be_acknowledged() {
        let mut queue = Queue::starting_at(0);
        queue.push(&message("a"));
        queue.push(&message("b"));
        assert_eq!(send_all(&mut queue, 1).len(), 1);
        assert!(queue.acknowledge(2).is_none());
        assert!(queue.acknowledge(1).is_some());
        assert_eq!(send_all(&mut queue, 1), [(2, false, b"b".to_vec())]);
    }

    #[test]
    fn what_was_acknowledged_out_of_order_is_not_sent_again() {
        let mut queue = Queue::starting_at(0);
        for text in ["a", "b", "c"] {
            queue.push(&message(text));
        }
        send_all(&mut queue, 10);
        queue.acknowledge(2);
        queue.rewind();
        let again = send_all(&mut queue, 10);
        assert_eq!(again, [(1, true, b"a".to_vec()), (3, true, b"c".to_vec())]);
    }

    #[test]
    fn qos_2_goes_through_its_four_steps_and_no_other_way() {
        let mut queue = Queue::starting_at(0);
        queue.push(&twice("a"));
        queue.push(&message("b"));
        send_all(&mut queue, 10);
        // PUBACK and PUBCOMP do not end what PUBREC did not begin.
        assert_eq!(queue.acknowledge(1), None);
        assert_eq!(queue.complete(1), None);
        assert_eq!(queue.release(2), None, "it is of QoS 1");
        assert_eq!(queue.release(1), Some((0, true)));
        assert_eq!(queue.release(1), Some((0, false)));
        assert_eq!(queue.reject(1), None, "it was received");
        assert_eq!(queue.live_bytes(), 2);
        queue.rewind();
        assert_eq!(
            send_all(&mut queue, 10),
            [(1, true, b"PUBREL".to_vec()), (2, true, b"b".to_vec())]
        );
        assert_eq!(queue.complete(1), Some(0));
        assert_eq!(queue.complete(1), None);
        queue.push(&twice("c"));
        send_all(&mut queue, 10);
        assert_eq!(queue.reject(3), Some(2));
        assert_eq!(queue.acknowledge(2), Some(1));
        assert_eq!((queue.len(), queue.live_bytes()), (0, 0));
    }

    #[test]
    fn what_may_go_to_another_member_was_not_received_and_of_qos_2_not_even_sent() {
        let mut queue = Queue::starting_at(0);
        let shared = |text, qos| Outbound {
            qos,
            share: Some(7),
            ..message(text)
        };
        queue.push(&shared("sent once", Qos::AtLeastOnce));
        queue.push(&shared("sent twice", Qos::ExactlyOnce));
        queue.push(&message("own"));
        send_all(&mut queue, 10);
        queue.push(&shared("waits", Qos::ExactlyOnce));
        let payloads: Vec<_> = queue.shared().map(|it| it.payload.to_vec()).collect();
        assert_eq!(payloads, [b"sent once".to_vec(), b"waits".to_vec()]);
    }

    #[test]
    fn what_has_expired_ends_but_for_what_is_on_the_wire() {
        let mut queue = Queue::starting_at(0);
        let at = Timestamp::from_seconds;
        for (text, seconds) in [("a", 10), ("b", 10), ("c", 99), ("d", 10)] {
            queue.push(&Outbound {
                expires_at: Some(at(seconds)),
                ..message(text)
            });
        }
        assert_eq!(send_all(&mut queue, 1).len(), 1);
        assert_eq!(queue.expire(at(9)), Vec::<u64>::new());
        assert_eq!(queue.expire(at(10)), [1, 3]);
        assert_eq!((queue.len(), queue.live_bytes()), (2, 4));
        assert!(queue.is_full(2, 100, 1) && !queue.is_full(3, 100, 1));
        assert!(queue.is_full(9, 4, 1), "by its bytes");
        // The window goes on over what is gone, and its identifiers are nobody else's.
        assert!(queue.acknowledge(1).is_some());
        assert_eq!(send_all(&mut queue, 10), [(3, false, b"c".to_vec())]);
    }

    #[test]
    fn a_steady_flow_does_not_grow_the_buffer() {
        let mut queue = Queue::starting_at(0);
        let payload = "x".repeat(1000);
        for sequence in 0..20_000_u64 {
            queue.push(&message(&payload));
            send_all(&mut queue, 16);
            if sequence >= 10 {
                queue.acknowledge(packet_id(sequence - 10)).unwrap();
            }
        }
        assert!(
            queue.bytes.capacity() < 128 * 1024,
            "{}",
            queue.bytes.capacity()
        );
    }
}
