//! Lists of keys whose private half is known, from files that others keep up to date.

use crate::clock;
use crate::config::IdentityConfig;
use crate::entries;
use crate::plane::Plane;
use crate::shared::off_thread;
use crate::trouble::Trouble;
use anyhow::{Context, bail};
use identity::BadKeys;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use store::{Change, Direction};

/// Four million keys.
const LIST_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// By what a change of the files is noticed.
pub type Stamp = [Option<(SystemTime, u64)>; 2];

/// Both lists, of which either may be absent from the configuration.
///
/// # Errors
/// A file that is named and cannot be read, or a line of it: names both.
pub fn read(config: &IdentityConfig) -> anyhow::Result<BadKeys> {
    let published = text("identity.known_bad_keys_file", &config.known_bad_keys_file)?;
    let debian = text(
        "identity.debian_weak_keys_file",
        &config.debian_weak_keys_file,
    )?;
    BadKeys::read(&published, &debian)
        .context("identity.known_bad_keys_file or identity.debian_weak_keys_file")
}

/// What the files look like from outside.
#[must_use]
pub fn stamp(config: &IdentityConfig) -> Stamp {
    let of = |file: &Path| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [
        of(&config.known_bad_keys_file),
        of(&config.debian_weak_keys_file),
    ]
}

/// Reads both again: from here on nothing is certified for what is on them. Lists that cannot be read
/// leave the ones before in force.
///
/// # Errors
/// The files, or the store.
pub async fn read_again(plane: &Arc<Plane>) -> Result<usize, Trouble> {
    let reading = Arc::clone(plane);
    let keys = off_thread(move || read(&reading.config.identity))
        .await?
        .map_err(|error| Trouble::refused("bad-keys-unreadable", format!("{error:#}")))?;
    let count = keys.len();
    // Withdraws at most: in force first.
    plane.trust().bad_keys.replace(Arc::new(keys));
    let act = entries::bad_keys_read(clock::now(), count);
    let change = Change::new(Direction::Neutral).entry(plane.leaf(&act)?);
    plane.commit(change).await?;
    Ok(count)
}

fn text(key: &str, file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file.as_os_str().is_empty() {
        return Ok(text);
    }
    let read = std::fs::File::open(file)
        .and_then(|opened| opened.take(LIST_BYTES_MAX + 1).read_to_string(&mut text));
    read.with_context(|| format!("{key}: {} cannot be read", file.display()))?;
    if text.len() as u64 > LIST_BYTES_MAX {
        bail!(
            "{key}: {} is larger than 256 MiB; operator: leave out what is no key of your fleet's \
             kind",
            file.display()
        );
    }
    Ok(text)
}
