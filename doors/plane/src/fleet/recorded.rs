//! What was sent and heard in the last thirty days, in numbers: kept once a minute, and asked by plans
//! and by the map of segments.

use crate::clock;
use crate::plane::Plane;
use access::{DeviceCount, Kind, Stream, Tally, TrafficDay, TrafficLedger};
use model::{Assurance, Timestamp};
use store::{CommitError, FactsWrite, ReadError, TrafficRow};

/// How long it is kept.
pub const DAYS: u32 = 30;

/// Days since 1970.
#[must_use]
pub fn day_of(at: Timestamp) -> u32 {
    u32::try_from(at.as_seconds() / 86_400).unwrap_or(u32::MAX)
}

impl Plane {
    /// Writes what was counted since the last time, and forgets what is older than it is kept.
    ///
    /// # Errors
    /// The disk's; the counts wait for the next time.
    pub fn keep_traffic(&self) -> Result<(), CommitError> {
        let rows = self.traffic.lock().take();
        if rows.is_empty() {
            return Ok(());
        }
        let before_day = day_of(clock::now()).saturating_sub(DAYS);
        let mut batch = vec![FactsWrite::ForgetTraffic { before_day }];
        batch.extend(rows.iter().map(|row| FactsWrite::Traffic(row_of(row))));
        let kept = self.facts.write(&batch);
        if kept.is_err() {
            self.traffic.lock().take_again(&rows);
        }
        kept
    }

    /// What is recorded of the days that count. Blocks.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn recorded_traffic(&self) -> Result<Vec<TrafficDay>, ReadError> {
        if let Err(error) = self.keep_traffic() {
            tracing::warn!("what was counted in the last minute is not among it ({error})");
        }
        let mut rows = Vec::new();
        let first = day_of(clock::now()).saturating_sub(DAYS);
        self.facts
            .for_each_traffic(first, |row| rows.push(day_row(row)))?;
        Ok(rows)
    }
}

/// The counts of today, as the run before left them.
///
/// # Errors
/// The disk, or a row that is not valid.
pub fn ledger(facts: &store::Facts) -> Result<TrafficLedger, ReadError> {
    let mut ledger = TrafficLedger::default();
    facts.for_each_traffic(day_of(clock::now()), |row| ledger.restore(day_row(row)))?;
    Ok(ledger)
}

fn row_of(day: &TrafficDay) -> TrafficRow {
    let stream = day.stream.as_ref();
    let kind = stream.map(|stream| &stream.kind);
    TrafficRow {
        day: day.day,
        service: kind.and_then(|kind| kind.service.clone()),
        product: kind.and_then(|kind| kind.product.clone()),
        groups: kind.map(|kind| kind.groups.clone()).unwrap_or_default(),
        assurance: kind.map_or_else(Assurance::default, |kind| kind.assurance),
        topics: stream
            .map(|stream| stream.topics.clone())
            .unwrap_or_default(),
        received: stream.is_some_and(|stream| stream.received),
        own: stream.is_some_and(|stream| stream.own),
        messages: day.tally.messages,
        bytes: day.tally.bytes,
        bytes_max: day.tally.bytes_max,
        devices: day.tally.devices.as_bytes().to_vec(),
    }
}

fn day_row(row: TrafficRow) -> TrafficDay {
    TrafficDay {
        day: row.day,
        tally: Tally {
            messages: row.messages,
            bytes: row.bytes,
            bytes_max: row.bytes_max,
            devices: DeviceCount::from_bytes(&row.devices).unwrap_or_default(),
        },
        stream: (!row.topics.is_empty()).then_some(Stream {
            kind: Kind {
                service: row.service,
                product: row.product,
                groups: row.groups,
                assurance: row.assurance,
            },
            topics: row.topics,
            received: row.received,
            own: row.own,
        }),
    }
}
