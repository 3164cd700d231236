//! One device that publishes without pause, to see from outside when it was cut off.

use super::Books;
use crate::refusal::Refusal;
use crate::session::{Event, Session};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Watches one device on a thread of its own.
pub struct Observer {
    shared: Arc<Shared>,
    thread: JoinHandle<Observation>,
}

/// What was seen of one device.
#[derive(Debug, Clone)]
pub struct Observation {
    /// Publishes that were acknowledged with success.
    pub accepted: u64,
    /// Publishes that were acknowledged with a reason of failure.
    pub refused: u64,
    /// When the last success arrived.
    pub last_accepted_at: Option<Instant>,
    /// When the socket was seen closed. `None`: it was still open when the watch ended.
    pub closed_at: Option<Instant>,
    /// What the server said last: DISCONNECT with its reason before the close, if it said one.
    pub ended_by: Option<Refusal>,
}

impl Observation {
    /// From `revoked_at` (just before the call that revokes) to the last accepted publish; zero
    /// if that was before.
    #[must_use]
    pub fn to_last_accepted(&self, revoked_at: Instant) -> Option<Duration> {
        Some(self.last_accepted_at?.saturating_duration_since(revoked_at))
    }

    /// From `revoked_at` to the close.
    #[must_use]
    pub fn to_closed(&self, revoked_at: Instant) -> Option<Duration> {
        Some(self.closed_at?.saturating_duration_since(revoked_at))
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    accepted: AtomicU64,
}

impl Observer {
    pub(super) fn start(
        session: Session,
        books: Arc<Books>,
        index: usize,
        payload_bytes: usize,
        interval: Duration,
    ) -> Self {
        let shared = Arc::<Shared>::default();
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || watch(session, &books, index, payload_bytes, interval, &shared)
        });
        Self { shared, thread }
    }

    /// Waits until so many publishes were accepted. False if the device was cut off before, or
    /// `patience` is over.
    #[must_use]
    pub fn wait_accepted(&self, accepted: u64, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.shared.accepted.load(Ordering::Relaxed) < accepted {
            if self.thread.is_finished() || Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Waits for the close, at most for `patience`, then ends the watch.
    #[must_use]
    pub fn finish(self, patience: Duration) -> Observation {
        let deadline = Instant::now() + patience;
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(observation) => observation,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// The longest the thread waits without looking whether it shall stop.
const SLICE: Duration = Duration::from_millis(50);

fn watch(
    mut session: Session,
    books: &Books,
    index: usize,
    payload_bytes: usize,
    interval: Duration,
    shared: &Shared,
) -> Observation {
    let mut seen = Observation {
        accepted: 0,
        refused: 0,
        last_accepted_at: None,
        closed_at: None,
        ended_by: None,
    };
    let mut in_flight: Option<(u16, u32)> = None;
    let mut next_at = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let outcome = if in_flight.is_none() && seen.ended_by.is_none() && Instant::now() >= next_at
        {
            next_at = Instant::now() + interval;
            books
                .send(&mut session, index, payload_bytes)
                .map(|sent| in_flight = Some(sent))
        } else {
            // Waiting for the next turn is listening, so that the end is seen when it comes.
            let slice = Instant::now() + SLICE;
            let until = if in_flight.is_none() && seen.ended_by.is_none() {
                slice.min(next_at)
            } else {
                slice
            };
            session.next(until).map(|event| {
                let Some(Event::Puback {
                    packet_id, reason, ..
                }) = event
                else {
                    return;
                };
                if let Some((_, sequence)) = in_flight.take_if(|(id, _)| *id == packet_id) {
                    if reason.is_failure() {
                        seen.refused += 1;
                    } else {
                        books.acknowledge(index, sequence);
                        seen.accepted += 1;
                        seen.last_accepted_at = Some(Instant::now());
                        shared.accepted.store(seen.accepted, Ordering::Relaxed);
                    }
                }
            })
        };
        match outcome {
            Ok(()) => {}
            // The server's last word; the socket is still open.
            Err(refusal @ Refusal::Disconnected { .. }) => seen.ended_by = Some(refusal),
            // A write that the server does not take is not the end.
            Err(Refusal::Timeout) => {}
            Err(refusal) => {
                seen.closed_at = Some(Instant::now());
                seen.ended_by.get_or_insert(refusal);
                break;
            }
        }
    }
    seen
}
