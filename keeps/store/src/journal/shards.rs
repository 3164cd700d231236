//! The journals of all shards, and how partitions move when the number of shards changes.
//!
//! ```text
//! <dir>/lock
//! <dir>/<generation>-of-<shards>/<shard>/<sequence>.seg
//! ```
//! A move writes a whole new generation under a temporary name, makes it durable, and renames it:
//! the highest generation with a final name is the one in force, and older ones are history.

use super::{Durability, Journal, JournalError, JournalOptions, Record, Recovery};
use crate::folder::{self, Lock};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) fn open(
    dir: &Path,
    shards: u16,
    options: JournalOptions,
    replay: &mut dyn FnMut(Record<'_>),
) -> Result<Vec<(Journal, Recovery)>, JournalError> {
    let failed = |error: io::Error| JournalError::Open(format!("{}: {error}", dir.display()));
    let shards = shards.clamp(1, 256);
    folder::make_private(dir)?;
    let lock = Arc::new(Lock::take(&dir.join("lock"))?);
    let mut generations = list_generations(dir).map_err(failed)?;
    let newest = generations
        .last_key_value()
        .map(|(generation, found)| (*generation, found.shards));
    let current = match newest {
        Some((_, found)) if found == shards => generations.pop_last().map(|(_, found)| found.path),
        other => {
            let next = other.map_or(1, |(generation, _)| generation.saturating_add(1));
            let old = generations.last_key_value().map(|(_, found)| found);
            Some(move_partitions(dir, next, shards, old, options, &lock)?)
        }
    };
    let current = current.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let journals = (0..shards)
        .map(|shard| {
            Journal::open_locked(
                &current.join(shard.to_string()),
                options,
                Arc::clone(&lock),
                replay,
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    for old in generations.into_values() {
        std::fs::remove_dir_all(old.path).map_err(failed)?;
    }
    Ok(journals)
}

struct Generation {
    shards: u16,
    path: PathBuf,
}

/// Makes a generation of `shards` journals out of the records of `old`, and names it.
fn move_partitions(
    dir: &Path,
    generation: u64,
    shards: u16,
    old: Option<&Generation>,
    options: JournalOptions,
    lock: &Arc<Lock>,
) -> Result<PathBuf, JournalError> {
    let failed = |error: io::Error| JournalError::Open(format!("{}: {error}", dir.display()));
    let name = format!("{generation:020}-of-{shards}");
    let temporary = dir.join(format!("{name}.tmp"));
    folder::make_private(&temporary)?;
    // Each commit need not wait for the disk: nothing of it counts before the rename below.
    let writing = JournalOptions {
        durability: Durability::Process,
        ..options
    };
    let mut targets = (0..shards)
        .map(|shard| {
            let folder = temporary.join(shard.to_string());
            Journal::open_locked(&folder, writing, Arc::clone(lock), &mut |_| {})
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut failure = None;
    for shard in 0..old.map_or(0, |old| old.shards) {
        let Some(old) = old else { break };
        let folder = old.path.join(shard.to_string());
        Journal::open_locked(&folder, options, Arc::clone(lock), &mut |record| {
            let target = usize::from(u16::from(record.partition).checked_rem(shards).unwrap_or(0));
            if let Some((journal, _)) = targets.get_mut(target)
                && let Err(error) = journal.append(record.partition, record.payload)
            {
                failure.get_or_insert(error);
            }
        })?;
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    for (journal, _) in &mut targets {
        journal.commit()?;
        journal.file.sync_all().map_err(failed)?;
    }
    folder::sync_folder(&temporary).map_err(failed)?;
    let path = dir.join(name);
    std::fs::rename(&temporary, &path).map_err(failed)?;
    folder::sync_folder(dir).map_err(failed)?;
    Ok(path)
}

/// Finished generations. Removes unfinished ones on the way.
fn list_generations(dir: &Path) -> io::Result<BTreeMap<u64, Generation>> {
    let mut generations = BTreeMap::new();
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        if name.ends_with(".tmp") {
            std::fs::remove_dir_all(&path)?;
        } else if let Some((generation, shards)) = name.split_once("-of-")
            && let (Ok(generation), Ok(shards)) = (generation.parse(), shards.parse())
        {
            generations.insert(generation, Generation { shards, path });
        }
    }
    Ok(generations)
}
