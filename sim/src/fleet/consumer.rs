//! The service that receives what the fleet publishes, and books it.

use super::Books;
use crate::refusal::Refusal;
use crate::service::Service;
use crate::session::Event;
use crate::tls::Endpoint;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A service on a thread of its own. It acknowledges what it has booked, and comes back by
/// itself when its connection ends.
pub struct Consumer {
    shared: Arc<Shared>,
    thread: JoinHandle<(Service, ConsumerReport)>,
    books: Arc<Books>,
}

/// How it went for the consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerReport {
    /// Connections after the first.
    pub reconnects: u64,
    /// Reconnects at which the server no longer had the session: messages may be lost by that.
    pub sessions_forgotten: u64,
    /// Ended connections and failed attempts, by [`Refusal::kind`].
    pub failures: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Where to reconnect to, if the plane has moved.
    moved: Mutex<Option<Endpoint>>,
}

/// How often the thread looks whether it shall stop.
const SLICE: Duration = Duration::from_millis(50);
/// Between attempts to reconnect.
const PAUSE: Duration = Duration::from_millis(20);
/// Deliveries acknowledged in one write.
const BATCH: usize = 64;

impl Consumer {
    /// Connects and subscribes, then goes on in the background.
    ///
    /// # Errors
    /// If the first connection or a subscription is refused.
    pub fn start(mut service: Service, books: Arc<Books>) -> Result<Self, Refusal> {
        service.connect()?;
        let shared = Arc::<Shared>::default();
        let thread = std::thread::spawn({
            let (shared, books) = (shared.clone(), books.clone());
            move || {
                let report = run(&mut service, &books, &shared);
                (service, report)
            }
        });
        Ok(Self {
            shared,
            thread,
            books,
        })
    }

    /// Tells where the plane is now, for the next reconnect.
    pub fn moved_to(&self, endpoint: Endpoint) {
        *self
            .shared
            .moved
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(endpoint);
    }

    /// Waits until all that was acknowledged is delivered, or `patience` is over.
    #[must_use]
    pub fn settle(&self, patience: Duration) -> super::Totals {
        self.books.settle(patience)
    }

    /// Ends the thread by DISCONNECT; the server keeps the session. Gives the service back.
    #[must_use]
    pub fn stop(self) -> (Service, ConsumerReport) {
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn run(service: &mut Service, books: &Books, shared: &Shared) -> ConsumerReport {
    let mut report = ConsumerReport::default();
    let mut last_ping = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let outcome = if service.session().is_some() {
            receive(service, books, &mut last_ping)
        } else {
            reconnect(service, shared, &mut report)
        };
        if let Err(refusal) = outcome {
            *report.failures.entry(refusal.kind()).or_default() += 1;
            service.drop_connection();
            std::thread::sleep(PAUSE);
        }
    }
    service.disconnect();
    report
}

fn reconnect(
    service: &mut Service,
    shared: &Shared,
    report: &mut ConsumerReport,
) -> Result<(), Refusal> {
    let moved = shared
        .moved
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(endpoint) = moved {
        service.set_endpoint(endpoint);
    }
    let kept = service.connect()?;
    report.reconnects += 1;
    report.sessions_forgotten += u64::from(!kept);
    Ok(())
}

/// Takes what has come within a slice, books it, then acknowledges it.
fn receive(service: &mut Service, books: &Books, last_ping: &mut Instant) -> Result<(), Refusal> {
    let keep_alive = service.keep_alive();
    let Some(session) = service.session() else {
        return Ok(());
    };
    if last_ping.elapsed() > keep_alive / 2 {
        session.send_ping()?;
        *last_ping = Instant::now();
    }
    let mut deadline = Instant::now() + SLICE;
    let mut batch = Vec::new();
    while let Some(event) = session.next(deadline)? {
        if let Event::Delivery(delivery) = event {
            books.deliver(&delivery.topic, &delivery.payload);
            batch.push(delivery);
        }
        if batch.len() == BATCH {
            break;
        }
        // What has already come is taken along; nothing more is waited for.
        deadline = Instant::now();
    }
    session.acknowledge(&batch)
}
