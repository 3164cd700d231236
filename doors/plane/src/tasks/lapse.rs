//! An attestation result counts for as long as its product says; then the device falls back, on
//! its live session too.

use crate::clock;
use crate::plane::Plane;
use model::DeviceId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const EVERY: Duration = Duration::from_secs(5);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    let mut since = clock::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stopping.changed() => return,
        }
        let now = clock::now();
        let lapsed: Vec<DeviceId> = {
            let registry = plane.trust().registry();
            registry.lapsed(since, now).cloned().collect()
        };
        for device in lapsed {
            plane.reclassified(&plane.facts_of_device(&device)).await;
        }
        since = now;
    }
}
