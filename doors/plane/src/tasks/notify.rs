//! Sends what waits in the outbox, one message at a time in their order, for each way by itself.

use crate::clock;
use crate::plane::Plane;
use crate::respond::notify::{NotSent, Way};
use crate::shared::off_thread;
use std::sync::Arc;
use std::time::Duration;
use store::Outgoing;
use tokio::sync::watch;

/// One attempt, from the name of the receiver to its answer.
const ATTEMPT_SECONDS_MAX: Duration = Duration::from_secs(30);
/// Looks again without being told, should the clock jump or the disk have refused a read.
const EVERY: Duration = Duration::from_secs(60);
const AFTER_TROUBLE: Duration = Duration::from_secs(5);

pub async fn run(plane: Arc<Plane>, way: Way, mut stopping: watch::Receiver<bool>) {
    if !plane.notifier.has(way) {
        return;
    }
    loop {
        let pause = tokio::select! {
            pause = send_first(&plane, way) => pause,
            // The row stays, and is sent after the next start under the same id.
            _ = stopping.changed() => return,
        };
        let Some(pause) = pause else {
            continue;
        };
        tokio::select! {
            () = tokio::time::sleep(pause.min(EVERY)) => {}
            () = plane.notifier.queued(way) => {}
            _ = stopping.changed() => return,
        }
    }
}

/// Sends the message whose turn it is; how long to wait then, or `None` to go on at once.
async fn send_first(plane: &Arc<Plane>, way: Way) -> Option<Duration> {
    let reading = Arc::clone(plane);
    let row: Outgoing = match off_thread(move || reading.store.outbox_of(way.name())).await {
        Ok(Ok((Some(row), _))) => row,
        Ok(Ok((None, _))) => return Some(EVERY),
        Ok(Err(error)) => return Some(say(&error)),
        Err(fault) => return Some(say(&fault)),
    };
    let now = clock::now();
    if now < row.next_at {
        return Some(row.next_at.since(now));
    }
    let sending = plane.notifier.send(way, &row);
    let attempt = match tokio::time::timeout(ATTEMPT_SECONDS_MAX, sending).await {
        Ok(attempt) => attempt,
        Err(_) => Err(NotSent {
            why: format!("no answer within {} s", ATTEMPT_SECONDS_MAX.as_secs()),
            is_final: false,
        }),
    };
    plane.attempted(&row, attempt).await.err().map(|e| say(&e))
}

fn say(error: &dyn std::fmt::Display) -> Duration {
    tracing::error!("the outbox cannot be read or written ({error}); tried again");
    AFTER_TROUBLE
}
