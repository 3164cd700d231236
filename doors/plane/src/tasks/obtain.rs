//! Asks an ACME CA for a certificate when there is none, and for the next one when it is due; after
//! a failure ever later, or at once when somebody has mended something and the CA does not mind.

use crate::clock;
use crate::plane::{Plane, random};
use crate::served::acme;
use model::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// However far off the next time is, the clock is looked at so often: it may be set.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    let served = plane.trust().served.get();
    let entry = served.entries().iter().find(|one| one.source.is_acme());
    let Some(mut due) = entry.and_then(|entry| entry.renews_at) else {
        return;
    };
    drop(served);
    let mut failures = 0;
    // Nobody may ask again before, whoever mended what.
    let mut not_before = Timestamp::from_seconds(0);
    loop {
        let wait = due.since(clock::now()).min(LOOK_EVERY);
        let nudged = tokio::select! {
            () = tokio::time::sleep(wait) => false,
            () = plane.obtaining.notified() => failures > 0,
            _ = stopping.changed() => return,
        };
        let now = clock::now();
        if now < not_before || (now < due && !nudged) {
            continue;
        }
        let obtained = tokio::select! {
            obtained = acme::obtain(&plane) => obtained,
            _ = stopping.changed() => return,
        };
        match obtained {
            Ok(next) => (due, failures) = (next, 0),
            Err(failed) => {
                failures += 1;
                let jitter = random().map_or(0, u32::from_be_bytes);
                due = acme::pause(failures, jitter, clock::now(), &failed);
                not_before = failed.not_before.unwrap_or(not_before);
                acme::tell(&plane, &failed, due).await;
            }
        }
    }
}
