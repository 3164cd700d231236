//! A service that hears what real devices publish: JSON with a sequence number `n`. It books
//! which numbers came, so that a missing one shows.

use crate::refusal::Refusal;
use crate::service::Service;
use crate::session::Event;
use crate::tls::Endpoint;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SLICE: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(20);
const TOPICS_MAX: usize = 4096;
/// Numbers kept of one topic.
const NUMBERS_MAX: usize = 1_000_000;

/// What came in one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Different sequence numbers.
    pub numbers: BTreeSet<u64>,
    pub messages: u64,
    /// Came a second time; MQTT allows that after a reconnect.
    pub duplicates: u64,
    /// Came after a later one, for the first time.
    pub out_of_order: u64,
    /// Without a number.
    pub unnumbered: u64,
}

impl Heard {
    /// Numbers that never came, of those from 1 (or the first that came) to `last`.
    #[must_use]
    pub fn missing(&self, last: u64) -> u64 {
        let first = self.numbers.first().copied().unwrap_or(1).min(1);
        let wanted = (last + 1).saturating_sub(first);
        let came = self.numbers.range(first..=last.max(first)).count();
        wanted.saturating_sub(u64::try_from(came).unwrap_or(u64::MAX))
    }

    fn hear(&mut self, payload: &[u8]) {
        self.messages += 1;
        let number = serde_json::from_slice::<serde_json::Value>(payload)
            .ok()
            .and_then(|value| value.get("n")?.as_u64());
        let Some(number) = number else {
            self.unnumbered += 1;
            return;
        };
        let last = self.numbers.last().copied();
        if self.numbers.len() < NUMBERS_MAX && self.numbers.insert(number) {
            self.out_of_order += u64::from(last.is_some_and(|last| number < last));
        } else {
            self.duplicates += 1;
        }
    }
}

/// A service on a thread of its own, which comes back by itself when its connection ends.
#[derive(Debug)]
pub struct Hearing {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    heard: BTreeMap<String, Heard>,
    moved: Option<Endpoint>,
    sessions_forgotten: u64,
}

impl Hearing {
    /// Connects and subscribes, then goes on in the background.
    ///
    /// # Errors
    /// If the first connection or a subscription is refused.
    pub fn start(mut service: Service) -> Result<Self, Refusal> {
        service.connect()?;
        let shared = Arc::<Shared>::default();
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || listen(&mut service, &shared)
        });
        Ok(Self { shared, thread })
    }

    /// Where the plane is now, for the next reconnect.
    pub fn moved_to(&self, endpoint: Endpoint) {
        lock(&self.shared).moved = Some(endpoint);
    }

    /// What came so far, by topic.
    #[must_use]
    pub fn heard(&self) -> BTreeMap<String, Heard> {
        lock(&self.shared).heard.clone()
    }

    /// Reconnects at which the server no longer had the session: messages may be lost by that.
    #[must_use]
    pub fn sessions_forgotten(&self) -> u64 {
        lock(&self.shared).sessions_forgotten
    }

    /// Ends the thread by DISCONNECT.
    pub fn stop(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

fn listen(service: &mut Service, shared: &Shared) {
    let mut last_ping = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let outcome = if service.session().is_some() {
            receive(service, shared, &mut last_ping)
        } else {
            reconnect(service, shared)
        };
        if outcome.is_err() {
            service.drop_connection();
            std::thread::sleep(PAUSE);
        }
    }
    service.disconnect();
}

fn reconnect(service: &mut Service, shared: &Shared) -> Result<(), Refusal> {
    if let Some(endpoint) = lock(shared).moved.take() {
        service.set_endpoint(endpoint);
    }
    let kept = service.connect()?;
    lock(shared).sessions_forgotten += u64::from(!kept);
    Ok(())
}

fn receive(service: &mut Service, shared: &Shared, last_ping: &mut Instant) -> Result<(), Refusal> {
    let keep_alive = service.keep_alive();
    let Some(session) = service.session() else {
        return Ok(());
    };
    if last_ping.elapsed() > keep_alive / 2 {
        session.send_ping()?;
        *last_ping = Instant::now();
    }
    if let Some(Event::Delivery(delivery)) = session.next(Instant::now() + SLICE)? {
        {
            let mut state = lock(shared);
            let known = state.heard.contains_key(&delivery.topic);
            if known || state.heard.len() < TOPICS_MAX {
                let heard = state.heard.entry(delivery.topic.clone()).or_default();
                heard.hear(&delivery.payload);
            }
        }
        // Booked first: what is acknowledged never comes again.
        session.acknowledge(&[delivery])?;
    }
    Ok(())
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_number_shows_and_a_second_copy_does_not_count() {
        let mut heard = Heard::default();
        for n in [1, 2, 4, 4, 6, 5] {
            heard.hear(format!("{{\"n\":{n}}}").as_bytes());
        }
        heard.hear(b"not json");
        assert_eq!(heard.missing(6), 1, "3 never came");
        assert_eq!(heard.missing(8), 3, "nor did 7 and 8");
        assert_eq!((heard.duplicates, heard.unnumbered), (1, 1));
        assert_eq!(heard.out_of_order, 1);
        assert_eq!(Heard::default().missing(2), 2);
        assert_eq!(Heard::default().missing(0), 0);
    }
}
