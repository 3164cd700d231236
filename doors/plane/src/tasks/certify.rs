//! Answers certificate requests that came over MQTT, a few at a time.

use crate::certify::over_mqtt::{self, Asking};
use crate::plane::Plane;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// As many at once as a commit likes to take together.
const AT_ONCE: usize = 8;

pub async fn run(plane: Arc<Plane>, mut asking: Asking, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let request = tokio::select! {
            request = asking.recv() => request,
            _ = stopping.changed() => return,
        };
        let (Some(request), Ok(place)) = (request, Arc::clone(&places).acquire_owned().await)
        else {
            return;
        };
        let plane = Arc::clone(&plane);
        tokio::spawn(async move {
            over_mqtt::answer(plane, request).await;
            drop(place);
        });
    }
}
