//! Reading with caps, writing whole or not at all.

use anyhow::{Context, bail};
use rustix::fs::OFlags;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file that the user named, or a pipe.
///
/// # Errors
/// It cannot be read, or has more than `bytes_max`.
pub fn read(path: &Path, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", shown(path)))?;
    capped(file, path, bytes_max)
}

/// As [`read`], for text.
///
/// # Errors
/// As there, or it is not UTF-8.
pub fn read_text(path: &Path, bytes_max: usize) -> anyhow::Result<String> {
    text(path, read(path, bytes_max)?)
}

/// What a file holds, as text.
///
/// # Errors
/// It is not UTF-8; the line is named.
pub fn text(path: &Path, bytes: Vec<u8>) -> anyhow::Result<String> {
    String::from_utf8(bytes).map_err(|wrong| {
        let good = wrong
            .as_bytes()
            .iter()
            .take(wrong.utf8_error().valid_up_to());
        let line = good.filter(|byte| **byte == b'\n').count() + 1;
        anyhow::anyhow!("{}:{line}: this is not UTF-8 text", shown(path))
    })
}

/// A private key: refused if others on this machine may read it.
///
/// # Errors
/// As [`read`], or its mode.
pub fn read_secret(path: &Path, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", shown(path)))?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = shown(path);
        bail!("{path} has mode {mode:04o}, so others may read this key; run chmod 600 {path}");
    }
    capped(file, path, bytes_max)
}

/// A file of a folder that somebody else filled: no link is followed, no pipe or device opened
/// for reading. `None` if there is none.
///
/// # Errors
/// It is no regular file, is too large, or the disk fails.
pub fn read_regular(path: &Path, bytes_max: usize) -> anyhow::Result<Option<Vec<u8>>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("{} cannot be read", shown(path))),
    };
    if !file.metadata()?.is_file() {
        bail!("{} is not a regular file", shown(path));
    }
    capped(file, path, bytes_max).map(Some)
}

/// Puts a file in place of whatever stands there: durable and whole, or unchanged.
///
/// # Errors
/// The disk; nothing was changed then.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let name = path
        .file_name()
        .with_context(|| format!("{} names no file", shown(path)))?;
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let written = create(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // What cannot be written may also not be removable; the error of the write is the news.
        let _ = fs::remove_file(&temporary);
        return Err(error).with_context(|| format!("{} cannot be written", shown(path)));
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    File::open(&folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("{} cannot be made durable", shown(path)))
}

/// Makes a file that only its owner reads, where none stands.
///
/// # Errors
/// Something stands there already, or the disk.
pub fn create_secret(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    create(path, bytes, 0o600).with_context(|| format!("{} cannot be made", shown(path)))
}

/// A path for a message.
#[must_use]
pub fn shown(path: &Path) -> String {
    crate::show::escaped(&path.display().to_string())
}

fn create(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn capped(file: File, path: &Path, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{} cannot be read", shown(path)))?;
    if bytes.len() > bytes_max {
        bail!("{} has more than {bytes_max} bytes", shown(path));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_keeps_no_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"two");
        assert!(read(&path, 2).is_err());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_in_a_foreign_folder_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, "x").unwrap();
        std::os::unix::fs::symlink(&secret, folder.path().join("tile")).unwrap();
        assert!(read_regular(&folder.path().join("tile"), 10).is_err());
        assert!(read_regular(folder.path(), 10).is_err());
        assert_eq!(read_regular(&folder.path().join("none"), 10).unwrap(), None);
        assert_eq!(read_regular(&secret, 10).unwrap().unwrap(), b"x");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_secret(&path, b"k").unwrap();
        assert_eq!(read_secret(&path, 10).unwrap(), b"k");
        assert!(create_secret(&path, b"k").is_err(), "a key was overwritten");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(
            read_secret(&path, 10)
                .unwrap_err()
                .to_string()
                .contains("chmod 600")
        );
    }
}
