//! The published log: the files that auditors fetch, laid out by C2SP tlog-tiles.
//!
//! A tile is written once and never changed. The checkpoint is replaced, always as a whole.

use crate::folder::{self, FILE_MODE};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The largest file: an entry bundle of 256 entries of 65,535 bytes with their lengths.
const FILE_BYTES_MAX: u64 = 256 * (65_535 + 2);
/// The deepest path: `tile/63/` and an index of 64 bits in groups of three digits, and `.p/255`.
const PATH_PARTS_MAX: usize = 12;
/// The one file that is replaced.
const CHECKPOINT: &str = "checkpoint";

/// The folder of a published log. One writer (the sequencer), any number of readers, which only
/// ever meet whole files.
#[derive(Debug, Clone)]
pub struct Published {
    dir: PathBuf,
}

/// Why a file of the published log was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A request's path, or a defect of ours.
    #[error(
        "{path:?} is not a path of the published log: use parts of A-Z a-z 0-9 . _ - that do not begin with a dot"
    )]
    Path { path: String },
    /// Tampering, a second sequencer, or a restored tree. The operator compares the log with what
    /// auditors hold.
    #[error(
        "{path} is published with other bytes already: nothing was overwritten; stop granting and compare it with the auditors' copy"
    )]
    Differs { path: PathBuf },
    #[error("{path} has more than {FILE_BYTES_MAX} bytes, which no file of the log has")]
    TooLarge { path: PathBuf },
    #[error(
        "{path} has mode {mode:04o}, so others on this machine may change the log: run chmod 700 '{path}'"
    )]
    Mode { path: PathBuf, mode: u32 },
    #[error("cannot publish or read {path} ({source}): check the disk and its mount")]
    Io { path: PathBuf, source: io::Error },
}

impl Published {
    /// Opens the folder; makes it (mode 0700) if it is not there.
    ///
    /// # Errors
    /// A wider mode; the disk.
    pub fn open(dir: &Path) -> Result<Self, PublishError> {
        folder::make_private(dir).map_err(|error| match error {
            crate::OpenError::Mode { path, mode, .. } => PublishError::Mode { path, mode },
            other => PublishError::Io {
                path: dir.to_owned(),
                source: io::Error::other(other.to_string()),
            },
        })?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Publishes a tile or an entry bundle, as [`Published::write_all`] does.
    ///
    /// # Errors
    /// [`PublishError::Differs`] names a file that has other bytes; nothing is overwritten.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<(), PublishError> {
        self.write_all([(path, bytes)])
    }

    /// Publishes tiles and entry bundles, in order. Durable, names and folders too, when this
    /// returns; until then any of them may be there or not. A file that is there already with the
    /// same bytes is fine.
    ///
    /// # Errors
    /// [`PublishError::Differs`] names a file that has other bytes; nothing is overwritten. What
    /// came before it is there.
    pub fn write_all<'f>(
        &self,
        files: impl IntoIterator<Item = (&'f str, &'f [u8])>,
    ) -> Result<(), PublishError> {
        // All of them up to ours each time: whoever created a folder may have died before its name
        // was durable. Each once, however many files are in it.
        let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
        for (path, bytes) in files {
            let target = self.put(path, bytes)?;
            let above = target.ancestors().skip(1);
            let ours = above.take_while(|folder| folder.starts_with(&self.dir));
            folders.extend(ours.map(Path::to_owned));
        }
        // A folder sorts before what is in it: the names below are durable first.
        for folder in folders.into_iter().rev() {
            let synced = folder::sync_folder(&folder);
            synced.map_err(|source| PublishError::Io {
                path: folder,
                source,
            })?;
        }
        Ok(())
    }

    /// Writes one file. Its bytes are durable when this returns, its name is not.
    fn put(&self, path: &str, bytes: &[u8]) -> Result<PathBuf, PublishError> {
        let target = self.resolve(path)?;
        if path == CHECKPOINT {
            // It would be compared with the last one instead of replacing it.
            return Err(PublishError::Path { path: path.into() });
        }
        if length(bytes) > FILE_BYTES_MAX {
            return Err(PublishError::TooLarge { path: target });
        }
        let io = |source| PublishError::Io {
            path: target.clone(),
            source,
        };
        match self.read(path)? {
            Some(found) if found == bytes => {
                // Whoever wrote it may have died before it was durable.
                File::open(&target).and_then(|f| f.sync_all()).map_err(io)?;
            }
            Some(_) => return Err(PublishError::Differs { path: target }),
            None => replace(&target, bytes).map_err(io)?,
        }
        Ok(target)
    }

    /// Replaces the checkpoint. Durable when this returns; readers see the old one or the new one.
    ///
    /// # Errors
    /// The disk.
    pub fn write_checkpoint(&self, note: &[u8]) -> Result<(), PublishError> {
        let target = self.dir.join(CHECKPOINT);
        if length(note) > FILE_BYTES_MAX {
            return Err(PublishError::TooLarge { path: target });
        }
        replace(&target, note)
            .and_then(|()| folder::sync_folder(&self.dir))
            .map_err(|source| PublishError::Io {
                path: target.clone(),
                source,
            })
    }

    /// A file as published; `None` if there is none.
    ///
    /// # Errors
    /// A path that no file of the log has (so a request's path may be given as it is); a file that
    /// is larger than any file of the log; the disk.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, PublishError> {
        let target = self.resolve(path)?;
        let io = |source| PublishError::Io {
            path: target.clone(),
            source,
        };
        let file = match File::open(&target) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        // A folder opens too: `tile/0/x000` has no bytes of its own.
        if !file.metadata().map_err(io)?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(io)?;
        if length(&bytes) > FILE_BYTES_MAX {
            return Err(PublishError::TooLarge { path: target });
        }
        Ok(Some(bytes))
    }

    /// The checkpoint as published; `None` before the first.
    ///
    /// # Errors
    /// The disk.
    pub fn checkpoint(&self) -> Result<Option<Vec<u8>>, PublishError> {
        self.read(CHECKPOINT)
    }

    /// A path below the folder, and never elsewhere: each part is checked, none can be `..`, empty,
    /// or one of our temporary files.
    fn resolve(&self, path: &str) -> Result<PathBuf, PublishError> {
        let is_part = |part: &str| {
            (1..=64).contains(&part.len())
                && !part.starts_with('.')
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if path.split('/').count() > PATH_PARTS_MAX || !path.split('/').all(is_part) {
            return Err(PublishError::Path {
                path: path.chars().take(128).collect(),
            });
        }
        Ok(self.dir.join(path))
    }
}

/// Writes beside the target, then renames over it: a reader, or a power cut, meets a whole file.
fn replace(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(dir), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    folder::create_folders(dir)?;
    // Begins with a dot, so no path of the log can name it; left by a crash, it is overwritten.
    let temporary = dir.join(format!(".{}.tmp", name.to_string_lossy()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, target));
    if written.is_err() {
        // On a full disk even the remainder is worth freeing; the first error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
