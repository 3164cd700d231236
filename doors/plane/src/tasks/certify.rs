//! Answers certificate requests that came over MQTT, a few at a time.

use crate::certify::over_mqtt::{self, Asking};
use crate::plane::Plane;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// As many at once as a commit likes to take together.
const AT_ONCE: usize = 8;

pub async fn run(plane: Arc<Plane>, mut asking: Asking, mut stopping: watch::Receiver<bool>) {
    let mut answering = JoinSet::new();
    loop {
        let request = tokio::select! {
            request = asking.recv() => request,
            _ = stopping.changed() => break,
        };
        let Some(request) = request else {
            break;
        };
        if answering.len() >= AT_ONCE {
            answering.join_next().await;
        }
        answering.spawn(over_mqtt::answer(Arc::clone(&plane), request));
    }
    // What was begun is on record or not, never half done.
    while answering.join_next().await.is_some() {}
}
