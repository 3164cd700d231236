//! Carries revocations to a broker that a fleet still uses: its list first, then the sessions, one at
//! a time in their order. The broker reads the list in its own time, so what was ended may be back for
//! that moment.

use crate::broker::CHANNEL;
use crate::certify::status;
use crate::clock;
use crate::plane::Plane;
use crate::respond::notify::NotSent;
use crate::shared::off_thread;
use crate::trouble::Trouble;
use identity::crl::Shard;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const ATTEMPT_SECONDS_MAX: Duration = Duration::from_secs(30);
/// A list is made anew each hour; whoever holds an old one for a day believes nobody any more.
const EVERY: Duration = Duration::from_secs(60);
const AFTER_TROUBLE: Duration = Duration::from_secs(5);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    if plane.brokers.mosquitto.is_none() {
        return;
    }
    let mut put = Arc::new(Vec::new());
    loop {
        let pause = tokio::select! {
            pause = carry(&plane, &mut put) => pause,
            // Rows stay, and are carried after the next start.
            _ = stopping.changed() => return,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = plane.brokers.nudged() => {}
            _ = stopping.changed() => return,
        }
    }
}

/// All that waits; how long to rest then.
async fn carry(plane: &Arc<Plane>, put: &mut Arc<Vec<u8>>) -> Duration {
    if let Err(trouble) = put_list(plane, put).await {
        tracing::error!("a revocation list did not reach Mosquitto ({trouble}); tried again");
        return AFTER_TROUBLE;
    }
    loop {
        match tell_first(plane).await {
            Ok(None) => {}
            Ok(Some(pause)) => return pause.min(EVERY),
            Err(trouble) => {
                tracing::error!("the outbox cannot be read or written ({trouble}); tried again");
                return AFTER_TROUBLE;
            }
        }
    }
}

/// If it is another one than was put last.
async fn put_list(plane: &Arc<Plane>, put: &mut Arc<Vec<u8>>) -> Result<(), Trouble> {
    let takes = (plane.brokers.mosquitto.as_ref()).is_some_and(|one| one.takes_lists());
    if !takes {
        return Ok(());
    }
    let issuer = plane.tree().for_device(None)?.issuer.id();
    let Some(list) = status::list(plane, issuer, Shard::WHOLE).await? else {
        return Ok(());
    };
    if *list == **put {
        return Ok(());
    }
    let pem = crate::pem::encode("X509 CRL", &list);
    let telling = Arc::clone(plane);
    off_thread(move || match &telling.brokers.mosquitto {
        Some(mosquitto) => mosquitto.put_list(&pem),
        None => Ok(()),
    })
    .await?
    .map_err(|error| Trouble::fault(format_args!("{error:#}")))?;
    *put = list;
    Ok(())
}

/// Tells of the one whose turn it is; `None`: go on at once.
async fn tell_first(plane: &Arc<Plane>) -> Result<Option<Duration>, Trouble> {
    let reading = Arc::clone(plane);
    let (first, _) = off_thread(move || reading.store.outbox_of(CHANNEL)).await??;
    let Some(row) = first else {
        return Ok(Some(EVERY));
    };
    let now = clock::now();
    if now < row.next_at {
        return Ok(Some(row.next_at.since(now)));
    }
    let Some(mosquitto) = &plane.brokers.mosquitto else {
        return Ok(Some(EVERY));
    };
    let telling = mosquitto.tell(&row.body);
    let attempt = match tokio::time::timeout(ATTEMPT_SECONDS_MAX, telling).await {
        Ok(attempt) => attempt,
        Err(_) => Err(NotSent::for_now("no answer within 30 s")),
    };
    plane.attempted(&row, attempt).await?;
    Ok(None)
}
