//! What is to be delivered at least once: kept until the plane has acknowledged it, sent again on
//! a new connection, and bounded: a plane that is away for a week costs the oldest messages, not
//! the device's memory.

use mqtt::Reason;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Reports kept; older ones say little that newer ones do not.
const REPORTS_MAX: usize = 32;
/// After the plane said "too much", so long until the same message is tried again.
const QUOTA_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// To the plane's own channel: goes out in quarantine too.
    Report,
    /// To the fleet's channels: waits while the device is contained.
    Duty,
}

#[derive(Debug, Serialize, Deserialize)]
struct Message {
    class: Class,
    topic: String,
    payload: String,
    #[serde(skip)]
    in_flight: Option<u16>,
    #[serde(skip)]
    not_before: Option<Instant>,
    #[serde(skip)]
    was_refused: bool,
}

#[derive(Debug)]
pub struct Outbox {
    messages: VecDeque<Message>,
    messages_max: usize,
    last_packet_id: u16,
    counts: Counts,
}

#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Counts {
    pub acknowledged: u64,
    /// Of the acknowledged: those to the fleet's channels, not reports.
    #[serde(default)]
    pub duties_acknowledged: u64,
    /// Given up for want of room.
    pub dropped: u64,
    /// The plane would not have them.
    pub refused: u64,
}

/// What an acknowledgement meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Acknowledged {
    Done,
    /// Too much for now, or not permitted for the first time: it stays, and is tried again.
    Later,
    /// It will never be taken: it is gone. The topic it was for.
    Refused(String),
    /// Nothing waits for this packet id.
    Unknown,
}

impl Outbox {
    pub fn new(messages_max: usize) -> Self {
        Self {
            messages: VecDeque::new(),
            messages_max,
            last_packet_id: 0,
            counts: Counts::default(),
        }
    }

    /// Takes a message in; the oldest of its class goes if there is no room.
    pub fn push(&mut self, class: Class, topic: &str, payload: String) {
        let of_class = self
            .messages
            .iter()
            .filter(|one| one.class == class)
            .count();
        let over = class == Class::Report && of_class >= REPORTS_MAX
            || self.messages.len() >= self.messages_max;
        if over {
            let oldest = |one: &Message| one.class == class && one.in_flight.is_none();
            let oldest = self.messages.iter().position(oldest);
            let oldest =
                oldest.or_else(|| self.messages.iter().position(|m| m.in_flight.is_none()));
            if oldest.and_then(|at| self.messages.remove(at)).is_none() {
                // All are on the wire: it is the new one that has no room.
                self.counts.dropped += 1;
                return;
            }
            self.counts.dropped += 1;
        }
        self.messages.push_back(Message {
            class,
            topic: topic.to_owned(),
            payload,
            in_flight: None,
            not_before: None,
            was_refused: false,
        });
    }

    /// The next to send, in their order: its packet id, topic and payload. `in_flight_max` is
    /// what the plane takes at once.
    pub fn next(
        &mut self,
        now: Instant,
        in_flight_max: usize,
        duties_held: bool,
    ) -> Option<(u16, &str, &[u8])> {
        if self.in_flight() >= in_flight_max {
            return None;
        }
        let packet_id = self.free_packet_id();
        let message = self.messages.iter_mut().find(|one| {
            one.in_flight.is_none()
                && !(duties_held && one.class == Class::Duty)
                && one.not_before.is_none_or(|at| at <= now)
        })?;
        message.in_flight = Some(packet_id);
        Some((packet_id, &message.topic, message.payload.as_bytes()))
    }

    pub fn acknowledge(&mut self, packet_id: u16, reason: Reason, now: Instant) -> Acknowledged {
        let at = self
            .messages
            .iter()
            .position(|one| one.in_flight == Some(packet_id));
        let Some((at, message)) = at.and_then(|at| Some((at, self.messages.get_mut(at)?))) else {
            return Acknowledged::Unknown;
        };
        // The plane may have cut us off while it was on its way: what it says of that comes next.
        let may_be_contained = reason == Reason::NOT_AUTHORIZED
            && message.class == Class::Duty
            && !std::mem::replace(&mut message.was_refused, true);
        let too_much = reason == Reason::QUOTA_EXCEEDED || reason == Reason::MESSAGE_RATE_TOO_HIGH;
        if too_much || may_be_contained {
            message.in_flight = None;
            message.not_before = Some(now + QUOTA_PAUSE);
            return Acknowledged::Later;
        }
        let message = self.messages.remove(at);
        if reason.is_failure() {
            self.counts.refused += 1;
            return Acknowledged::Refused(message.map(|m| m.topic).unwrap_or_default());
        }
        self.counts.acknowledged += 1;
        let is_duty = message.is_some_and(|one| one.class == Class::Duty);
        self.counts.duties_acknowledged += u64::from(is_duty);
        Acknowledged::Done
    }

    /// The connection is gone: what was on the wire is to be sent again.
    pub fn disconnect(&mut self) {
        for message in &mut self.messages {
            message.in_flight = None;
        }
    }

    /// When a message that had to wait may be tried again.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.messages.iter().filter(|one| one.in_flight.is_none());
        waiting.filter_map(|one| one.not_before).min()
    }

    pub fn in_flight(&self) -> usize {
        self.messages
            .iter()
            .filter(|one| one.in_flight.is_some())
            .count()
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What a clean end leaves to the next start.
    pub fn save(&self) -> Vec<u8> {
        serde_json::to_vec(&self.messages).unwrap_or_default()
    }

    /// Takes in what an earlier run left; what cannot be read is left out.
    pub fn restore(&mut self, saved: &[u8]) {
        let saved: VecDeque<Message> = serde_json::from_slice(saved).unwrap_or_default();
        for message in saved.into_iter().filter(|one| mqtt::is_topic(&one.topic)) {
            self.push(message.class, &message.topic, message.payload);
        }
    }

    fn free_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
            let id = Some(self.last_packet_id);
            if !self.messages.iter().any(|one| one.in_flight == id) {
                return self.last_packet_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload(sent: Option<(u16, &str, &[u8])>) -> (u16, String) {
        let (id, _, payload) = sent.unwrap();
        (id, String::from_utf8(payload.to_vec()).unwrap())
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_in_order() {
        let now = Instant::now();
        let mut outbox = Outbox::new(10);
        for n in 0..3 {
            outbox.push(Class::Duty, "t", n.to_string());
        }
        let (first, _) = payload(outbox.next(now, 8, false));
        let (_, second) = payload(outbox.next(now, 8, false));
        assert_eq!(second, "1");
        assert_eq!(
            outbox.acknowledge(first, Reason::SUCCESS, now),
            Acknowledged::Done
        );
        outbox.disconnect();
        assert_eq!(payload(outbox.next(now, 8, false)).1, "1");
        assert_eq!(payload(outbox.next(now, 8, false)).1, "2");
        assert!(outbox.next(now, 8, false).is_none());
    }

    #[test]
    fn a_full_outbox_gives_up_the_oldest_and_counts_it() {
        let mut outbox = Outbox::new(2);
        for n in 0..5 {
            outbox.push(Class::Duty, "t", n.to_string());
        }
        assert_eq!((outbox.len(), outbox.counts().dropped), (2, 3));
        assert_eq!(payload(outbox.next(Instant::now(), 8, false)).1, "3");
    }

    #[test]
    fn too_much_is_tried_later_and_never_is_never() {
        let now = Instant::now();
        let mut outbox = Outbox::new(10);
        outbox.push(Class::Duty, "t", "a".to_owned());
        let (id, _) = payload(outbox.next(now, 8, false));
        let later = outbox.acknowledge(id, Reason::QUOTA_EXCEEDED, now);
        assert_eq!(later, Acknowledged::Later);
        assert!(outbox.next(now, 8, false).is_none());
        assert_eq!(outbox.next_deadline(), Some(now + QUOTA_PAUSE));
        let (id, _) = payload(outbox.next(now + QUOTA_PAUSE, 8, false));
        // Once may be because the device was contained meanwhile.
        let later = outbox.acknowledge(id, Reason::NOT_AUTHORIZED, now);
        assert_eq!(later, Acknowledged::Later);
        let (id, _) = payload(outbox.next(now + QUOTA_PAUSE, 8, false));
        let refused = outbox.acknowledge(id, Reason::NOT_AUTHORIZED, now);
        assert_eq!(refused, Acknowledged::Refused("t".to_owned()));
        assert!(outbox.is_empty());
        assert_eq!(
            outbox.acknowledge(id, Reason::SUCCESS, now),
            Acknowledged::Unknown
        );
    }

    #[test]
    fn in_quarantine_reports_go_out_and_duties_wait() {
        let now = Instant::now();
        let mut outbox = Outbox::new(10);
        outbox.push(Class::Duty, "t", "duty".to_owned());
        outbox.push(Class::Report, "r", "report".to_owned());
        assert_eq!(payload(outbox.next(now, 8, true)).1, "report");
        assert!(outbox.next(now, 8, true).is_none());
        assert_eq!(payload(outbox.next(now, 8, false)).1, "duty");
    }

    #[test]
    fn a_clean_end_hands_over_to_the_next_start() {
        let mut outbox = Outbox::new(10);
        outbox.push(Class::Duty, "t", "a".to_owned());
        outbox.next(Instant::now(), 8, false);
        let saved = outbox.save();
        let mut next = Outbox::new(10);
        next.restore(&saved);
        assert_eq!(payload(next.next(Instant::now(), 8, false)).1, "a");
        next.restore(b"damaged");
        assert_eq!(next.len(), 1);
    }

    proptest! {
        #[test]
        fn a_packet_id_names_one_message_and_the_cap_holds(
            acts in prop::collection::vec((0u8..4, any::<u16>()), 0..300)
        ) {
            let now = Instant::now();
            let mut outbox = Outbox::new(20);
            let mut sent = std::collections::BTreeSet::new();
            for (act, number) in acts {
                match act {
                    0 => outbox.push(Class::Duty, "t", String::new()),
                    1 => if let Some((id, ..)) = outbox.next(now, 8, false) {
                        prop_assert!(id != 0 && sent.insert(id));
                    },
                    2 => {
                        let id = sent.iter().nth(usize::from(number) % 8).copied();
                        if let Some(id) = id {
                            sent.remove(&id);
                            let done = outbox.acknowledge(id, Reason::SUCCESS, now);
                            prop_assert_eq!(done, Acknowledged::Done);
                        }
                    }
                    _ => { outbox.disconnect(); sent.clear(); }
                }
                prop_assert!(outbox.len() <= 20 && outbox.in_flight() == sent.len());
            }
        }
    }
}
