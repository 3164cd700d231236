//! The data folder: nobody else's eyes, one process at a time, and names that survive a power cut.

use crate::error::OpenError;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

pub(crate) const FOLDER_MODE: u32 = 0o700;
pub(crate) const FILE_MODE: u32 = 0o600;

/// An exclusive `flock`. The kernel lets go of it when the process ends, however it ends.
pub(crate) struct Lock(File);

impl Drop for Lock {
    /// Said to the kernel, not left to the closing of the file: a program that is being started just
    /// now holds a copy of every open file until it runs.
    fn drop(&mut self) {
        // Nothing is left to do if it fails: the kernel lets go when the process ends.
        let _ = self.0.unlock();
    }
}

impl Lock {
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)
            .map_err(|error| OpenError::io(path, &error))?;
        check_private_file(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
                path: path.parent().unwrap_or(path).to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(OpenError::io(path, &error)),
        }
    }
}

/// Makes a folder that only we may enter, its parents too, or checks that it is one.
pub(crate) fn make_private(dir: &Path) -> Result<(), OpenError> {
    match std::fs::metadata(dir) {
        Ok(found) if !found.is_dir() => Err(OpenError::Kind {
            path: dir.to_owned(),
            wanted: "folder",
        }),
        Ok(found) => check_mode(dir, found.permissions().mode(), FOLDER_MODE),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_folders(dir).map_err(|error| OpenError::io(dir, &error))
        }
        Err(error) => Err(OpenError::io(dir, &error)),
    }
}

/// Makes an empty file that only we may read, or checks that it is one.
pub(crate) fn make_private_file(path: &Path) -> Result<(), OpenError> {
    match create_private_file(path) {
        Ok(file) => {
            file.sync_all()
                .and_then(|()| sync_folder_of(path))
                .map_err(|error| OpenError::io(path, &error))?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(OpenError::io(path, &error)),
    }
    check_private_file(path)
}

/// Refuses a file that others may read or write. One that is not there is fine.
pub(crate) fn check_private_file(path: &Path) -> Result<(), OpenError> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(OpenError::Kind {
            path: path.to_owned(),
            wanted: "file",
        }),
        Ok(found) => check_mode(path, found.permissions().mode(), FILE_MODE),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(OpenError::io(path, &error)),
    }
}

/// Creates a file that must not be there yet.
pub(crate) fn create_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
}

/// Creates a folder and the missing ones above it, and makes their names durable.
pub(crate) fn create_folders(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        create_folders(parent)?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_folder_of(dir)
}

/// Makes durable which names a folder holds.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the name `path` itself durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

fn check_mode(path: &Path, mode: u32, wanted: u32) -> Result<(), OpenError> {
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(OpenError::Mode {
        path: path.to_owned(),
        mode: mode & 0o7777,
        wanted,
    })
}
