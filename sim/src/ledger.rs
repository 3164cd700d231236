//! The books: for each device and each of its messages, was it sent, acknowledged, delivered?
//!
//! Exact and small: two bits a message. `lost` is what was acknowledged and not delivered.

use std::io::Write;

/// What one message carries, so that its delivery can be booked. As JSON at the head of the
/// payload: `{"device":17,"sequence":42,"sent":123456789,"pad":"..."}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Index of the device in its fleet.
    pub device: u32,
    /// Counted from 0 for each device.
    pub sequence: u32,
    /// Nanoseconds on the sender's clock.
    pub sent_nanos: u64,
}

impl Stamp {
    /// The longest stamp without padding, in bytes: the least payload that always holds one.
    pub const BYTES_MAX: usize = 80;

    /// Appends the payload, padded to `bytes` if the stamp is shorter.
    pub fn write(&self, out: &mut Vec<u8>, bytes: usize) {
        let start = out.len();
        // Writing to a Vec does not fail.
        let _ = write!(
            out,
            r#"{{"device":{},"sequence":{},"sent":{},"pad":""#,
            self.device, self.sequence, self.sent_nanos
        );
        let end = start.saturating_add(bytes).saturating_sub(2);
        if out.len() < end {
            out.resize(end, b'x');
        }
        out.extend_from_slice(b"\"}");
    }

    /// `None` if the payload is not one of ours.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (device, rest) = number(payload.strip_prefix(br#"{"device":"#)?)?;
        let (sequence, rest) = number(rest.strip_prefix(br#","sequence":"#)?)?;
        let (sent_nanos, rest) = number(rest.strip_prefix(br#","sent":"#)?)?;
        rest.strip_prefix(br#","pad":""#)?;
        Some(Self {
            device: u32::try_from(device).ok()?,
            sequence: u32::try_from(sequence).ok()?,
            sent_nanos,
        })
    }
}

/// Reads decimal digits, at least one.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = bytes.split_at_checked(digits)?;
    if number.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for digit in number {
        value = value
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
    }
    Some((value, rest))
}

/// The books of a whole fleet.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    devices: Vec<Page>,
    totals: Totals,
}

/// Sums over the fleet, in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Totals {
    /// Handed to a socket.
    pub sent: u64,
    /// Acknowledged with success.
    pub acknowledged: u64,
    /// Delivered, each counted once.
    pub delivered: u64,
    /// Acknowledged and not (yet) delivered.
    pub lost: u64,
    /// Delivered again. QoS 1 permits it.
    pub duplicates: u64,
    /// Delivered for the first time after a later one of the same device.
    pub order_violations: u64,
    /// Deliveries that nobody sent: a foreign payload, an unknown device, a sequence not yet
    /// reached, a topic that is not the sender's.
    pub foreign: u64,
}

#[derive(Debug, Clone, Default)]
struct Page {
    sent: u32,
    /// One past the highest delivered sequence.
    delivered_end: u32,
    acknowledged: Bits,
    delivered: Bits,
}

/// What a delivery was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    First,
    Duplicate,
    Foreign,
}

impl Ledger {
    #[must_use]
    pub fn new(devices: usize) -> Self {
        Self {
            devices: vec![Page::default(); devices],
            totals: Totals::default(),
        }
    }

    /// Books a message as sent and gives its sequence. `None` for an unknown device, or after
    /// 2³² messages.
    pub fn send(&mut self, device: u32) -> Option<u32> {
        let page = page(&mut self.devices, device)?;
        let sequence = page.sent;
        page.sent = page.sent.checked_add(1)?;
        self.totals.sent += 1;
        Some(sequence)
    }

    /// Books an acknowledgement with success. Twice is once.
    pub fn acknowledge(&mut self, device: u32, sequence: u32) {
        let Some(page) = page(&mut self.devices, device) else {
            return;
        };
        if sequence < page.sent && page.acknowledged.set(sequence) {
            self.totals.acknowledged += 1;
            if !page.delivered.has(sequence) {
                self.totals.lost += 1;
            }
        }
    }

    /// Books a delivery.
    pub fn deliver(&mut self, device: u32, sequence: u32) -> Delivered {
        let Some(page) = page(&mut self.devices, device).filter(|page| sequence < page.sent) else {
            return self.deliver_foreign();
        };
        if !page.delivered.set(sequence) {
            self.totals.duplicates += 1;
            return Delivered::Duplicate;
        }
        self.totals.delivered += 1;
        if page.acknowledged.has(sequence) {
            self.totals.lost = self.totals.lost.saturating_sub(1);
        }
        if sequence < page.delivered_end {
            self.totals.order_violations += 1;
        } else {
            page.delivered_end = sequence.saturating_add(1);
        }
        Delivered::First
    }

    /// Books a delivery that is nobody's.
    pub fn deliver_foreign(&mut self) -> Delivered {
        self.totals.foreign += 1;
        Delivered::Foreign
    }

    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The first `limit` messages that are acknowledged and not delivered, as (device, sequence).
    #[must_use]
    pub fn missing(&self, limit: usize) -> Vec<(u32, u32)> {
        (0u32..)
            .zip(&self.devices)
            .flat_map(|(device, page)| {
                (0..page.sent)
                    .filter(|sequence| {
                        page.acknowledged.has(*sequence) && !page.delivered.has(*sequence)
                    })
                    .map(move |sequence| (device, sequence))
            })
            .take(limit)
            .collect()
    }
}

fn page(devices: &mut [Page], device: u32) -> Option<&mut Page> {
    devices.get_mut(usize::try_from(device).ok()?)
}

/// A set of small numbers. Grows to the highest one set, which callers bound by what was sent.
#[derive(Debug, Clone, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// True if it was not set before.
    fn set(&mut self, index: u32) -> bool {
        let (word, bit) = Self::place(index);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let Some(word) = self.0.get_mut(word) else {
            return false;
        };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn has(&self, index: u32) -> bool {
        let (word, bit) = Self::place(index);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    fn place(index: u32) -> (usize, u64) {
        ((index / 64) as usize, 1 << (index % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_stamp_reads_back_at_any_payload_size(device: u32, sequence: u32, sent_nanos: u64, bytes in 0usize..400) {
            let stamp = Stamp { device, sequence, sent_nanos };
            let mut payload = Vec::new();
            stamp.write(&mut payload, bytes);
            prop_assert_eq!(Stamp::read(&payload), Some(stamp));
            prop_assert!(payload.len() == bytes || bytes < Stamp::BYTES_MAX);
            prop_assert!(payload.len() <= bytes.max(Stamp::BYTES_MAX));
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&payload).is_ok());
        }

        #[test]
        fn the_books_agree_with_plain_sets(
            sent in 1u32..40,
            events in prop::collection::vec((any::<bool>(), 0u32..50), 0..200),
        ) {
            let mut ledger = Ledger::new(1);
            for expected in 0..sent {
                prop_assert_eq!(ledger.send(0), Some(expected));
            }
            let (mut acknowledged, mut delivered) = (BTreeSet::new(), Vec::<u32>::new());
            let (mut duplicates, mut order_violations, mut foreign) = (0, 0, 0);
            for (is_delivery, sequence) in events {
                if !is_delivery {
                    ledger.acknowledge(0, sequence);
                    if sequence < sent { acknowledged.insert(sequence); }
                } else {
                    ledger.deliver(0, sequence);
                    if sequence >= sent { foreign += 1; }
                    else if delivered.contains(&sequence) { duplicates += 1; }
                    else {
                        if delivered.iter().any(|earlier| *earlier > sequence) { order_violations += 1; }
                        delivered.push(sequence);
                    }
                }
            }
            let missing: Vec<_> = acknowledged.iter().filter(|s| !delivered.contains(s)).map(|s| (0, *s)).collect();
            prop_assert_eq!(ledger.totals(), Totals {
                sent: u64::from(sent),
                acknowledged: acknowledged.len() as u64,
                delivered: delivered.len() as u64,
                lost: missing.len() as u64,
                duplicates, order_violations, foreign,
            });
            prop_assert_eq!(ledger.missing(usize::MAX), missing);
        }
    }
}
