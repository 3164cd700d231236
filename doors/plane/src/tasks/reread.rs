//! Reads the lists of bad keys again when their files have changed.

use crate::certify::bad_keys;
use crate::plane::Plane;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const EVERY: Duration = Duration::from_secs(30);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    let mut known = bad_keys::stamp(&plane.config.identity);
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stopping.changed() => return,
        }
        let stamp = bad_keys::stamp(&plane.config.identity);
        if stamp == known {
            continue;
        }
        known = stamp;
        match bad_keys::read_again(&plane).await {
            Ok(count) => {
                tracing::info!("the lists of bad keys were read again: {count} keys");
                *plane.bad_keys_trouble.lock() = None;
            }
            Err(trouble) => {
                tracing::error!("the lists of bad keys stay as they were ({trouble})");
                *plane.bad_keys_trouble.lock() = Some(trouble.to_string());
            }
        }
    }
}
