//! Has sessions counted anew when something could not be told: a device whose leaving was lost in a
//! flood would be shown as connected for good.

use crate::plane::Plane;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const EVERY: Duration = Duration::from_secs(60);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    let mut made_good = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stopping.changed() => return,
        }
        // Read before it is asked: if the answer does not fit either, it is asked again.
        let dropped = plane.signals.dropped();
        if dropped != made_good {
            made_good = dropped;
            plane.shards().recount();
        }
    }
}
