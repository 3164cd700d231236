//! Publishes the log: committed leaves → tiles on disk → signed checkpoint, stored by
//! compare-and-set → checkpoint on disk. The one sequencer.

use crate::clock;
use crate::events::About;
use crate::plane::Plane;
use crate::shared::off_thread;
use crate::trouble::Trouble;
use audit::Sequencer;
use signer::Purpose;
use std::sync::Arc;
use std::time::Duration;
use store::CheckpointError;
use tokio::sync::watch;

/// A receipt is recorded at once and proven within a second. Commits that come closer together
/// than this share a checkpoint.
const PAUSE: Duration = Duration::from_millis(250);
const EVERY: Duration = Duration::from_secs(1);
/// In one batch.
const LEAVES_MAX: usize = 4096;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SequenceError(String);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    loop {
        let stop = tokio::select! {
            () = plane.committed.notified() => false,
            () = tokio::time::sleep(EVERY) => false,
            _ = stopping.changed() => true,
        };
        let sequencing = Arc::clone(&plane);
        let trouble = match off_thread(move || publish_all(&sequencing)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(fault) => Some(fault.to_string()),
        };
        tell(&plane, trouble);
        if stop {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Says a trouble once, and once that it is over.
fn tell(plane: &Plane, trouble: Option<String>) {
    let mut told = plane.sequencer_trouble.lock();
    if *told != trouble {
        match &trouble {
            Some(what) => tracing::error!("the log cannot be published ({what})"),
            None => tracing::info!("the log is published again"),
        }
        *told = trouble;
    }
}

/// Publishes all that is committed by now. Whoever calls it: one batch is made at a time.
///
/// # Errors
/// The disk, or a second sequencer; the task tries again within a second.
pub fn publish_all(plane: &Plane) -> Result<(), SequenceError> {
    let mut sequencer = plane.sequencer.lock();
    if plane.sequencer_trouble.lock().is_some() {
        // The last checkpoint may have been stored and not shown, and no entry may come for long.
        let stored = plane.store.last_checkpoint();
        if let Some(checkpoint) = stored.map_err(|e| SequenceError(e.to_string()))? {
            plane
                .published
                .write_checkpoint(&checkpoint.note)
                .map_err(|e| SequenceError(e.to_string()))?;
        }
    }
    while sequence_once(plane, &mut sequencer)? == Left::More {}
    Ok(())
}

/// The sequencer as the stored checkpoint and the published tiles tell it.
fn begin_again(plane: &Plane) -> Result<Sequencer, SequenceError> {
    let failed = |error: &dyn std::fmt::Display| SequenceError(error.to_string());
    let stored = plane
        .store
        .last_checkpoint()
        .map_err(|e| failed(&e))?
        .ok_or_else(|| failed(&"the stored checkpoint is gone"))?;
    let note = String::from_utf8(stored.note).map_err(|e| failed(&e))?;
    let keys = std::slice::from_ref(&plane.log_key);
    let last = audit::Checkpoint::open(&note, keys).map_err(|e| failed(&e))?;
    let mut load = |path: &str| plane.published.read(path).ok().flatten();
    let sequencer = Sequencer::restore(last.checkpoint, &mut load).map_err(|e| failed(&e))?;
    plane
        .published
        .write_checkpoint(note.as_bytes())
        .map_err(|e| failed(&e))?;
    Ok(sequencer)
}

/// Whether leaves may be left that were committed before a batch was begun. What comes while it is
/// made waits for the next one: a busy plane would else sign and sync a checkpoint for every few.
#[derive(PartialEq, Eq)]
enum Left {
    Nothing,
    More,
}

/// Publishes one batch of what is committed.
///
/// # Errors
/// The disk, or a second sequencer. What was committed stays committed; the next call goes on.
fn sequence_once(plane: &Plane, sequencer: &mut Sequencer) -> Result<Left, SequenceError> {
    let failed = |error: &dyn std::fmt::Display| SequenceError(error.to_string());
    let size = sequencer.published().size;
    let leaves = plane
        .store
        .leaves(size, LEAVES_MAX)
        .map_err(|e| failed(&e))?;
    if leaves.is_empty() {
        return Ok(Left::Nothing);
    }
    let integration = sequencer.integrate(&leaves).map_err(|e| failed(&e))?;
    let tiles = integration.writes().iter();
    plane
        .published
        .write_all(tiles.map(|tile| (tile.path.as_str(), tile.bytes.as_slice())))
        .map_err(|e| failed(&e))?;
    let signature = plane
        .sign(
            Purpose::Checkpoint,
            integration.checkpoint_text().as_bytes(),
        )
        .map_err(|e: Trouble| failed(&e))?;
    let signed = integration
        .signed(&plane.log_key, &signature)
        .map_err(|e| failed(&e))?;
    let stored = plane.store.put_checkpoint(
        signed.previous_size(),
        signed.checkpoint().size,
        signed.note().as_bytes().to_vec(),
    );
    if let Err(CheckpointError::Moved { .. }) = stored {
        // The disk said no and had taken it all the same: go on from what is stored.
        *sequencer = begin_again(plane)?;
        return Ok(Left::More);
    }
    stored.map_err(|e| failed(&e))?;
    let size = signed.checkpoint().size;
    let checkpoint = sequencer.publish(signed).map_err(|e| failed(&e))?;
    plane
        .published
        .write_checkpoint(&checkpoint.bytes)
        .map_err(|e| failed(&e))?;
    *plane.checkpoint_at.lock() = Some(clock::now());
    let told = serde_json::json!({ "id": size.saturating_sub(1), "size": size });
    plane.events.tell(About::Entry, &told);
    Ok(if leaves.len() < LEAVES_MAX {
        Left::Nothing
    } else {
        Left::More
    })
}
