//! What the load generator knows of each connection, and its books.

use super::histogram::Histogram;
use crate::ledger::{Delivered, Ledger, Stamp};
use crate::refusal::Refusal;
use mqtt::{Packet, Qos, Reason, Version, encode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// The state of all slots: devices first, the consumer (or fan-out's publisher) last.
pub(super) struct Tally {
    version: Version,
    started: Instant,
    pub(super) slots: Vec<Slot>,
    /// In publish mode a page per sender; in fan-out one per receiver.
    pub(super) ledger: Ledger,
    fan_out: bool,
    /// Only what was scheduled in it is measured.
    pub(super) window: Option<(Duration, Duration)>,
    pub(super) delivery_latency: Histogram,
    pub(super) acknowledgement_latency: Histogram,
    pub(super) connect_latency: Histogram,
    pub(super) opening: usize,
    pub(super) ready: usize,
    /// Slots that became ready since the caller last looked.
    pub(super) became_ready: Vec<usize>,
    pub(super) in_flight: u64,
    /// PUBLISH packets written.
    pub(super) published: u64,
    pub(super) refused: u64,
    /// Refused as they had to be, or might be.
    pub(super) withheld: u64,
    /// (page, sequence) of what was sent though it was forbidden.
    forbidden: BTreeSet<(u32, u32)>,
    /// Deliveries that arrived within the window.
    pub(super) window_delivered: u64,
    /// Doomed slots that ended since the caller last looked; true: the server said that it is busy.
    pub(super) endings: Vec<(usize, bool)>,
    pub(super) last_ending: Option<String>,
    /// Sessions that ended after they had been ready.
    pub(super) disconnected: u64,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) example: Option<String>,
}

pub(super) struct Slot {
    pub(super) name: String,
    /// Subscribed to as soon as connected.
    pub(super) filter: Option<(String, Qos)>,
    pub(super) phase: Phase,
    opened_at: Instant,
    in_flight: VecDeque<InFlight>,
    /// What the server permits to be in flight.
    receive_maximum: u16,
    pub(super) keep_alive: Duration,
    last_packet_id: u16,
    /// Its end is asked for, so it is no failure.
    pub(super) is_doomed: bool,
    standing: Standing,
    sent: u64,
    /// The last acknowledgement, and the end of the connection, on the run's clock.
    pub(super) acknowledged_at: Option<Duration>,
    pub(super) ended_at: Option<Duration>,
    /// Of its connection, the last if there were several.
    pub(super) port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    Opening,
    Ready,
}

/// What must become of a message that is sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It must be accepted.
    Permitted,
    /// An act is under way: either.
    Changing,
    /// It must be refused, and nobody may have it.
    Forbidden,
}

struct InFlight {
    packet_id: u16,
    standing: Standing,
    sequence: u32,
    scheduled: Duration,
}

impl Slot {
    pub(super) fn new(name: String, filter: Option<(String, Qos)>) -> Self {
        Self {
            name,
            filter,
            phase: Phase::Closed,
            opened_at: Instant::now(),
            in_flight: VecDeque::new(),
            receive_maximum: u16::MAX,
            keep_alive: Duration::MAX,
            last_packet_id: 0,
            is_doomed: false,
            standing: Standing::Permitted,
            sent: 0,
            acknowledged_at: None,
            ended_at: None,
            port: None,
        }
    }

    /// Whether one more may be in flight, with at most `window` of our own accord.
    pub(super) fn has_room(&self, window: usize) -> bool {
        self.in_flight.len() < window.min(usize::from(self.receive_maximum))
    }
}

impl Tally {
    pub(super) fn new(version: Version, slots: Vec<Slot>, pages: usize, fan_out: bool) -> Self {
        Self {
            version,
            started: Instant::now(),
            slots,
            ledger: Ledger::new(pages),
            fan_out,
            window: None,
            delivery_latency: Histogram::default(),
            acknowledgement_latency: Histogram::default(),
            connect_latency: Histogram::default(),
            opening: 0,
            ready: 0,
            became_ready: Vec::new(),
            in_flight: 0,
            published: 0,
            refused: 0,
            withheld: 0,
            forbidden: BTreeSet::new(),
            endings: Vec::new(),
            last_ending: None,
            window_delivered: 0,
            disconnected: 0,
            failures: BTreeMap::new(),
            example: None,
        }
    }

    /// Time since the run began: the clock of stamps.
    pub(super) fn clock(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The slot begins to connect from this port.
    pub(super) fn opened(&mut self, index: usize, port: Option<u16>) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.port = port;
            slot.phase = Phase::Opening;
            slot.opened_at = Instant::now();
            slot.in_flight.clear();
            slot.receive_maximum = u16::MAX;
            self.opening += 1;
        }
    }

    /// Closed by us in good order.
    pub(super) fn closed(&mut self, index: usize) {
        self.leave(index);
    }

    /// Ended by the other side, or broken.
    pub(super) fn ended(&mut self, index: usize, refusal: &Refusal) {
        let now = self.clock();
        if let Some(slot) = self.slots.get_mut(index)
            && slot.is_doomed
        {
            slot.ended_at = Some(now);
            self.leave(index);
            let is_busy = matches!(refusal, Refusal::Connack { reason, .. } if *reason == Reason::SERVER_BUSY);
            self.endings.push((index, is_busy));
            self.last_ending = Some(refusal.to_string());
            return;
        }
        if self.leave(index) == Some(Phase::Ready) {
            self.disconnected += 1;
        }
        self.fail(index, refusal);
    }

    pub(super) fn fail(&mut self, index: usize, refusal: &Refusal) {
        *self.failures.entry(refusal.kind()).or_default() += 1;
        let name = self.slots.get(index).map_or("?", |slot| slot.name.as_str());
        self.example
            .get_or_insert_with(|| format!("{name}: {refusal}"));
    }

    /// What is sent by this slot from now on stands so; while it changes also what is under way.
    pub(super) fn stands(&mut self, index: usize, standing: Standing) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.standing = standing;
            if standing == Standing::Changing {
                for sent in &mut slot.in_flight {
                    sent.standing = standing;
                    // What was forbidden and is read after the act that permits it may be delivered.
                    if let Ok(page) = u32::try_from(index) {
                        self.forbidden.remove(&(page, sent.sequence));
                    }
                }
            }
        }
    }

    /// Messages that these slots have sent.
    pub(super) fn sent_by(&self, slots: &[usize]) -> u64 {
        let slots = slots.iter().filter_map(|index| self.slots.get(*index));
        slots.map(|slot| slot.sent).sum()
    }

    /// Slots that have been opening since before `since`.
    pub(super) fn stuck(&self, since: Instant) -> Vec<usize> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.phase == Phase::Opening && slot.opened_at < since)
            .map(|(index, _)| index)
            .collect()
    }

    /// Books a message of `sender` for `receivers` (itself, in publish mode) and writes its
    /// PUBLISH to `out`.
    pub(super) fn publish(
        &mut self,
        sender: usize,
        pages: &[u32],
        topic: &str,
        payload: &mut Vec<u8>,
        message: &Message,
        out: &mut Vec<u8>,
    ) {
        let mut sequence = None;
        for page in pages {
            sequence = self.ledger.send(*page).or(sequence);
        }
        let (Some(sequence), Some(first), Some(slot)) =
            (sequence, pages.first(), self.slots.get_mut(sender))
        else {
            return;
        };
        let packet_id = (message.qos != Qos::AtMostOnce).then(|| {
            slot.last_packet_id = slot.last_packet_id.checked_add(1).unwrap_or(1);
            slot.last_packet_id
        });
        payload.clear();
        Stamp {
            device: *first,
            sequence,
            sent_nanos: nanos(message.scheduled),
        }
        .write(payload, message.payload_bytes);
        let publish = mqtt::Publish {
            dup: false,
            qos: message.qos,
            retain: false,
            topic,
            packet_id,
            topic_alias: None,
            forward: mqtt::ForwardProperties::NONE,
            payload,
        };
        encode::publish(out, self.version, &publish);
        self.published += 1;
        slot.sent += 1;
        if slot.standing == Standing::Forbidden {
            let pages = pages.iter().map(|page| (*page, sequence));
            self.forbidden.extend(pages);
        }
        match packet_id {
            Some(packet_id) => {
                slot.in_flight.push_back(InFlight {
                    packet_id,
                    standing: slot.standing,
                    sequence,
                    scheduled: message.scheduled,
                });
                self.in_flight += 1;
            }
            // With QoS 0 handing over is all there is to acknowledge.
            None => pages
                .iter()
                .for_each(|page| self.ledger.acknowledge(*page, sequence)),
        }
    }

    /// Takes a packet that came in slot `index`; answers go to `answers`.
    pub(super) fn packet(
        &mut self,
        index: usize,
        packet: &Packet<'_>,
        answers: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        match packet {
            Packet::Publish(publish) => {
                if let Some(packet_id) = publish.packet_id {
                    encode::puback(answers, self.version, packet_id, Reason::SUCCESS, None);
                }
                self.delivery(index, publish.payload);
                Ok(())
            }
            Packet::Puback(ack) => {
                self.acknowledgement(index, ack.packet_id, ack.reason);
                Ok(())
            }
            Packet::Connack(connack) if connack.reason.is_failure() => Err(Refusal::Connack {
                reason: connack.reason,
                text: connack.reason_string.map(str::to_owned),
            }),
            Packet::Connack(connack) => {
                let Some(slot) = self.slots.get_mut(index) else {
                    return Ok(());
                };
                slot.receive_maximum = connack.receive_maximum.unwrap_or(u16::MAX);
                if let Some(seconds) = connack.server_keep_alive_seconds {
                    slot.keep_alive = Duration::from_secs(seconds.max(1).into());
                }
                match &slot.filter {
                    Some((filter, qos)) => {
                        encode::subscribe(answers, self.version, 1, &[(filter, *qos)]);
                    }
                    None => self.becomes_ready(index),
                }
                Ok(())
            }
            Packet::Suback(suback) => match suback.reasons().find(|reason| reason.is_failure()) {
                Some(reason) => Err(Refusal::Suback { reason }),
                None => {
                    self.becomes_ready(index);
                    Ok(())
                }
            },
            Packet::Disconnect(disconnect) => Err(Refusal::Disconnected {
                reason: disconnect.reason,
                text: disconnect.reason_string.map(str::to_owned),
            }),
            Packet::Pingresp => Ok(()),
            other => Err(Refusal::Protocol(format!("unexpected {}", other.name()))),
        }
    }

    fn delivery(&mut self, index: usize, payload: &[u8]) {
        let now = self.clock();
        if self.is_in_window(now) {
            self.window_delivered += 1;
        }
        let Some(stamp) = Stamp::read(payload) else {
            self.ledger.deliver_foreign();
            return;
        };
        let page = if self.fan_out {
            u32::try_from(index).unwrap_or(u32::MAX)
        } else {
            stamp.device
        };
        if self.forbidden.contains(&(page, stamp.sequence)) {
            let what = "a message that was sent after it was forbidden was delivered";
            self.fail(index, &Refusal::Protocol(what.to_owned()));
        }
        let scheduled = Duration::from_nanos(stamp.sent_nanos);
        if self.ledger.deliver(page, stamp.sequence) == Delivered::First
            && self.is_in_window(scheduled)
        {
            self.delivery_latency.record(now.saturating_sub(scheduled));
        }
    }

    fn acknowledgement(&mut self, index: usize, packet_id: u16, reason: Reason) {
        let now = self.clock();
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        // Servers acknowledge in order, so it is nearly always the first.
        let Some(position) = slot
            .in_flight
            .iter()
            .position(|sent| sent.packet_id == packet_id)
        else {
            return;
        };
        let Some(sent) = slot.in_flight.remove(position) else {
            return;
        };
        self.in_flight = self.in_flight.saturating_sub(1);
        if sent.standing != Standing::Permitted && reason == Reason::NOT_AUTHORIZED {
            self.withheld += 1;
            return;
        }
        if reason.is_failure() {
            self.refused += 1;
            self.fail(index, &Refusal::Puback { reason, text: None });
            return;
        }
        slot.acknowledged_at = Some(now);
        if sent.standing == Standing::Forbidden {
            let what = "a message that was sent after it was forbidden was accepted";
            self.fail(index, &Refusal::Protocol(what.to_owned()));
        }
        if self.fan_out {
            for page in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
                self.ledger.acknowledge(page, sent.sequence);
            }
        } else if let Ok(page) = u32::try_from(index) {
            self.ledger.acknowledge(page, sent.sequence);
        }
        if self.is_in_window(sent.scheduled) {
            self.acknowledgement_latency
                .record(now.saturating_sub(sent.scheduled));
        }
    }

    fn becomes_ready(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if slot.phase == Phase::Opening {
            slot.phase = Phase::Ready;
            self.connect_latency.record(slot.opened_at.elapsed());
            self.opening = self.opening.saturating_sub(1);
            self.ready += 1;
            self.became_ready.push(index);
        }
    }

    /// Gives the phase that the slot was in.
    fn leave(&mut self, index: usize) -> Option<Phase> {
        let slot = self.slots.get_mut(index)?;
        let phase = std::mem::replace(&mut slot.phase, Phase::Closed);
        self.in_flight = self
            .in_flight
            .saturating_sub(slot.in_flight.drain(..).count() as u64);
        match phase {
            Phase::Opening => self.opening = self.opening.saturating_sub(1),
            Phase::Ready => self.ready = self.ready.saturating_sub(1),
            Phase::Closed => {}
        }
        Some(phase)
    }

    fn is_in_window(&self, at: Duration) -> bool {
        self.window
            .is_some_and(|(begin, end)| begin <= at && at < end)
    }
}

/// One message to publish.
pub(super) struct Message {
    pub(super) qos: Qos,
    pub(super) payload_bytes: usize,
    /// When it was due on the run's clock: latency counts from here, so that a generator that
    /// lags does not flatter the server.
    pub(super) scheduled: Duration,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
