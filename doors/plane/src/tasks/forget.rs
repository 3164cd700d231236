//! Forgets certificates of ours that ended, once a day: a fleet that renews each month would fill
//! disk and memory with them. A CA that retired ends when the last of its certificates has.

use crate::certify::authorities;
use crate::clock;
use crate::plane::Plane;
use crate::trouble::Trouble;
use identity::crl::KEPT_AFTER_END;
use model::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use store::{CHANGE_ROWS_MAX, Change, Direction, Write};
use tokio::sync::watch;
use tokio::time::Instant;

/// The first time, so that a plane which is restarted each night forgets too.
const FIRST_AFTER: Duration = Duration::from_secs(3600);
const EVERY: Duration = Duration::from_secs(86_400);
/// A clock that was set by more than this meanwhile is not believed until the next time.
const CLOCK_SET: Duration = Duration::from_secs(300);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    let mut wait = FIRST_AFTER;
    loop {
        let (steady, wall) = (Instant::now(), clock::now());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stopping.changed() => return,
        }
        wait = EVERY;
        let now = clock::now();
        if now.since(wall) > steady.elapsed() + CLOCK_SET {
            tracing::warn!(
                "no ended certificate is forgotten: the clock was set forward; tried again in a day"
            );
            continue;
        }
        match authorities::end_retired(&plane, now).await {
            Ok(0) => {}
            Ok(count) => tracing::info!("{count} retired CA(s) ended"),
            Err(trouble) => tracing::warn!("no retired CA is ended ({trouble}); tried again"),
        }
        match forget(&plane, now).await {
            Ok(0) => {}
            Ok(count) => tracing::info!("{count} ended certificate(s) forgotten"),
            Err(trouble) => {
                tracing::warn!("ended certificates are not forgotten ({trouble}); tried again");
            }
        }
    }
}

/// Forgets what ended so long ago that no CRL lists it any more; returns how many. Nobody gets in
/// by it: a certificate on no record is refused, whatever its time.
///
/// # Errors
/// The store's; memory then knows all of them still.
pub(crate) async fn forget(plane: &Plane, now: Timestamp) -> Result<usize, Trouble> {
    forget_enrollments(plane, now).await?;
    // One that may still be renewed by must not be forgotten, nor that it was revoked.
    let grace = *plane.trust().grace.get();
    let ended_before = now.minus(KEPT_AFTER_END.max(grace));
    let count = plane.trust().registry().ended_count(ended_before);
    // The record first: what it still held would be back after a restart.
    for _ in 0..count.div_ceil(CHANGE_ROWS_MAX) {
        let write = Write::ForgetCertificates { ended_before };
        let change = Change::new(Direction::Neutral).write(write);
        plane.commit(change).await?;
    }
    if count > 0 {
        plane.trust().registry_mut().forget_ended(ended_before);
    }
    Ok(count)
}

/// Enrollments that nobody decided, or that were decided and not fetched, and answers that nobody
/// asks for again.
async fn forget_enrollments(plane: &Plane, now: Timestamp) -> Result<(), Trouble> {
    let write = Write::ForgetEnrollments {
        expired_before: now,
    };
    plane
        .commit(Change::new(Direction::Neutral).write(write))
        .await?;
    plane.pending.lock().forget_expired(now);
    Ok(())
}
