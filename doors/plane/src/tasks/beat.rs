//! Lets open streams write something, so that a screen knows that it is still connected, and so
//! that one which reads no more is found.

use crate::plane::Plane;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const EVERY: Duration = Duration::from_secs(15);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => plane.events.beat(),
            _ = stopping.changed() => return,
        }
    }
}
