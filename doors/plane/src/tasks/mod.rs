//! What runs without being asked: each an idempotent function, woken by a timer or a nudge.

mod beat;
pub(crate) mod carry;
mod certify;
mod command;
pub(crate) mod forget;
mod judge;
mod lapse;
mod notify;
mod obtain;
mod record;
mod recount;
mod remember;
mod renew;
mod reread;
mod retire;
pub mod sequence;

use crate::broker::Broker;
use crate::plane::Plane;
use crate::respond::notify::Way;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Starts all tasks; they end when the plane stops.
pub fn start(plane: &Arc<Plane>, stopping: &watch::Receiver<bool>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(sequence::run(Arc::clone(plane), stopping.clone()));
    tasks.spawn(record::run(Arc::clone(plane), stopping.clone()));
    tasks.spawn(remember::run(Arc::clone(plane), stopping.clone()));
    tasks.spawn(forget::run(Arc::clone(plane), stopping.clone()));
    tasks.spawn(lapse::run(Arc::clone(plane), stopping.clone()));
    tasks.spawn(recount::run(Arc::clone(plane), stopping.clone()));
    tasks.spawn(renew::run(Arc::clone(plane), stopping.clone()));
    tasks.spawn(reread::run(Arc::clone(plane), stopping.clone()));
    tasks.spawn(retire::run(Arc::clone(plane), stopping.clone()));
    tasks.spawn(obtain::run(Arc::clone(plane), stopping.clone()));
    tasks.spawn(command::run(Arc::clone(plane), stopping.clone()));
    if let Some(inbox) = plane.inbox.lock().take() {
        tasks.spawn(judge::run(Arc::clone(plane), inbox, stopping.clone()));
    }
    if let Some(asking) = plane.asking.lock().take() {
        tasks.spawn(certify::run(Arc::clone(plane), asking, stopping.clone()));
    }
    for broker in Broker::ALL {
        tasks.spawn(carry::run(Arc::clone(plane), broker, stopping.clone()));
    }
    tasks.spawn(beat::run(Arc::clone(plane), stopping.clone()));
    for way in Way::ALL {
        tasks.spawn(notify::run(Arc::clone(plane), way, stopping.clone()));
    }
    tasks
}
