//! The one judge: takes what doors, the network and devices told, in order, and carries out what
//! comes of it. Beside that it keeps alerts and baselines.

use crate::clock;
use crate::flow;
use crate::judge::signals::Inbox;
use crate::plane::Plane;
use crate::trouble::Trouble;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Told at once to the machines, which are locked for so long.
const BATCH: usize = 256;
/// After a batch that was not full, more is let come: what is told first is judged at once, and what
/// follows wakes nobody for each word. A wake costs a shard more than the word itself.
const PAUSE: Duration = Duration::from_millis(10);
/// Alerts are kept this often.
const KEPT_EVERY: Duration = Duration::from_secs(1);
/// Of the 256 parts of the devices what was learned of so many is kept each time, so that each is kept
/// about once a minute: it is large, and learned again if it is lost.
const PARTS_AT_ONCE: u8 = 4;

pub async fn run(plane: Arc<Plane>, mut inbox: Inbox, mut stopping: watch::Receiver<bool>) {
    flow::take_up(&plane).await;
    let mut told = Vec::with_capacity(BATCH);
    let (mut kept, mut next_part) = (Instant::now(), 0_u8);
    loop {
        let due = plane.judgement.lock().next_deadline();
        let wait = due.map_or(KEPT_EVERY, |due| due.since(clock::now()));
        let stop = tokio::select! {
            _ = inbox.recv_many(&mut told, BATCH) => false,
            () = tokio::time::sleep(wait.min(KEPT_EVERY)) => false,
            _ = stopping.changed() => true,
        };
        flow::judge(&plane, &told).await;
        let pauses = !stop && !told.is_empty() && told.len() < BATCH;
        told.clear();
        if stop || kept.elapsed() >= KEPT_EVERY {
            kept = Instant::now();
            plane.keep_alerts().await;
            let rounds = if stop { u8::MAX / PARTS_AT_ONCE + 1 } else { 1 };
            for _ in 0..rounds {
                if let Err(trouble) = keep_learned(&plane, next_part).await {
                    tracing::warn!("what was learned is not kept ({trouble}); it is tried again");
                }
                next_part = next_part.wrapping_add(PARTS_AT_ONCE);
            }
        }
        if stop {
            return;
        }
        if pauses {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Groups at the first part: what is on disk of a device is then rarely older than of its group.
async fn keep_learned(plane: &Arc<Plane>, first: u8) -> Result<(), Trouble> {
    if first == 0 {
        plane.keep_baselines().await?;
    }
    plane
        .keep_learned(first..=first + (PARTS_AT_ONCE - 1))
        .await
}
