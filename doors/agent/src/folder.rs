//! The state folder: small files, each replaced as a whole or not at all.
//!
//! A power cut leaves a file as it was before or as it was meant to be. What it can leave besides
//! is a temporary name, which is swept away at the next opening.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// No file of ours is larger.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
const TEMPORARY: &str = ".new";

/// An opened state folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held as long as the agent runs: two agents with one state would fight over one identity.
    lock: Option<File>,
    /// Steps still allowed before the power goes, in tests.
    #[cfg(test)]
    pub(crate) power: std::cell::Cell<Option<u32>>,
    /// The step at which it went.
    #[cfg(test)]
    pub(crate) cut: std::cell::RefCell<Option<String>>,
}

impl Drop for Folder {
    /// Said to the kernel, not left to the closing of the file: a program that is being started just
    /// now holds a copy of every open file until it runs.
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            // Nothing is left to do if it fails: the kernel lets go when the process ends.
            let _ = flock(lock, FlockOperation::Unlock);
        }
    }
}

impl Folder {
    /// Opens the folder for one agent, made with mode 0700 if it is missing.
    ///
    /// # Errors
    /// If it cannot be made or opened, others may write to it, or another agent holds it.
    pub fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let mode = fs::metadata(path)?.permissions().mode();
        if mode & 0o022 != 0 {
            return Err(io::Error::other(format!(
                "others may write to {}: run chmod 700 on it",
                path.display()
            )));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            io::Error::other(format!(
                "another fleetward-agent works in {}: stop it, or give this one its own state_dir",
                path.display()
            ))
        })?;
        let folder = Self::reading(path, Some(lock));
        for name in folder.names()? {
            if name.ends_with(TEMPORARY) {
                fs::remove_file(folder.path.join(name))?;
            }
        }
        Ok(folder)
    }

    /// Opens the folder to look at it, whoever works in it.
    pub fn look(path: &Path) -> Self {
        Self::reading(path, None)
    }

    fn reading(path: &Path, lock: Option<File>) -> Self {
        Self {
            path: path.to_owned(),
            lock,
            #[cfg(test)]
            power: std::cell::Cell::new(None),
            #[cfg(test)]
            cut: std::cell::RefCell::default(),
        }
    }

    /// Replaces a file, durably: what it says when this returns survives a power cut.
    ///
    /// # Errors
    /// If it cannot be written; the old content then stands.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(name, bytes, true)
    }

    /// Replaces a file, whole or not at all, but perhaps forgotten by a power cut.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn note(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(name, bytes, false)
    }

    fn replace(&self, name: &str, bytes: &[u8], durably: bool) -> io::Result<()> {
        let temporary = self.path.join(format!("{name}{TEMPORARY}"));
        self.step("write", name)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        if durably {
            file.sync_all()?;
        }
        self.step("rename", name)?;
        fs::rename(&temporary, self.path.join(name))?;
        if durably { self.sync() } else { Ok(()) }
    }

    /// Removes a file, durably; one that is not there is as good.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.step("remove", name)?;
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.sync(),
        }
    }

    /// A file's content; `None` if it is not there.
    ///
    /// # Errors
    /// If it cannot be read or is too large to be ours.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other(format!("{name} is larger than 8 MiB")));
        }
        Ok(Some(bytes))
    }

    /// Names of the files, in order.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = fs::read_dir(&self.path)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Each change of the disk begins here.
    #[cfg(test)]
    fn step(&self, verb: &str, name: &str) -> io::Result<()> {
        match self.power.get() {
            Some(0) => {
                let step = || format!("{verb} {}", name.replace(|c: char| c.is_ascii_digit(), ""));
                self.cut.borrow_mut().get_or_insert_with(step);
                Err(io::Error::other("the power is cut"))
            }
            Some(left) => {
                self.power.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "tests cut the power here"
    )]
    fn step(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_leaves_the_old_file_or_the_new_one() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state");
        let old = b"old".as_slice();
        for writes in 0..3 {
            let folder = Folder::open(&path).unwrap();
            folder.write("a", old).unwrap();
            folder.power.set(Some(writes));
            let done = folder.write("a", b"new").is_ok();
            drop(folder);
            let folder = Folder::open(&path).unwrap();
            let content = folder.read("a").unwrap().unwrap();
            assert_eq!(content == b"new", done, "after {writes} writes");
            assert!(content == b"new" || content == old);
            assert_eq!(folder.names().unwrap(), ["a", "lock"]);
        }
    }

    #[test]
    fn a_second_agent_is_told_who_must_act() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state");
        let first = Folder::open(&path).unwrap();
        let error = Folder::open(&path).unwrap_err().to_string();
        assert!(error.contains("its own state_dir"), "{error}");
        drop(first);
        assert!(Folder::open(&path).is_ok());
    }

    #[test]
    fn keys_are_the_owners_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state");
        let folder = Folder::open(&path).unwrap();
        folder.write("key", b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("key")), 0o600);
        drop(folder);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Folder::open(&path).is_err());
    }
}
