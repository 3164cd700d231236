//! Key files: sealed, private, durable.

use crate::SignerError;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustix::fs::OFlags;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// First bytes of a sealed file; the digit is the format's version.
const MAGIC: &[u8] = b"fleetward-sealed-key-1\n";
/// A sealed P-256 key is some 200 bytes long.
const FILE_BYTES_MAX: u64 = 4096;
const SEAL_KEY_BYTES: usize = 32;
/// Ends the name of a file that is being written.
const DRAFT: &str = ".new";

/// The key under which all others are sealed: 32 bytes in a file of mode 0600, to be kept and
/// backed up apart from the key folder. Wiped when dropped.
#[derive(Clone)]
pub struct SealKey(Zeroizing<[u8; SEAL_KEY_BYTES]>);

impl SealKey {
    /// Makes a new seal key in a new file of mode 0600, durable when this returns.
    ///
    /// # Errors
    /// [`SignerError::Exists`] rather than overwriting; I/O.
    pub fn create(path: &Path) -> Result<Self, SignerError> {
        let mut key = Zeroizing::new([0; SEAL_KEY_BYTES]);
        aws_lc_rs::rand::fill(key.as_mut()).map_err(|_| SignerError::Crypto {
            doing: "making the seal key",
        })?;
        write_new(path, key.as_ref())?;
        sync_folder(parent(path))?;
        Ok(Self(key))
    }

    /// # Errors
    /// [`SignerError`]: missing, not ours, open to others, a symbolic link, of another length; or
    /// in a folder in which others could replace it.
    pub fn read(path: &Path) -> Result<Self, SignerError> {
        let folder = parent(path);
        let metadata = std::fs::metadata(folder).map_err(|source| io(folder, source))?;
        let is_sticky = metadata.mode() & 0o1000 != 0;
        if metadata.mode() & 0o022 != 0 && !is_sticky {
            return Err(SignerError::OpenToOthers {
                path: folder.to_owned(),
                mode: metadata.mode() & 0o777,
                want: "755 or less",
            });
        }
        let bytes = read_private(path)?;
        let key: [u8; SEAL_KEY_BYTES] =
            bytes
                .as_slice()
                .try_into()
                .map_err(|_| SignerError::Unusable {
                    path: path.to_owned(),
                    what: "is not a seal key (32 bytes)",
                })?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// Seals a secret that is kept elsewhere than in a key folder. The name is sealed with it: one
    /// secret cannot be put in another's place, nor in a key's.
    ///
    /// # Errors
    /// [`SignerError::Crypto`].
    pub fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, SignerError> {
        sealed(self, &elsewhere(name), secret)
    }

    /// # Errors
    /// [`SignerError::Unsealable`]: changed, of another name, or sealed under another key.
    pub fn unseal(&self, name: &str, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, SignerError> {
        unsealed(self, &elsewhere(name), bytes, Path::new(name))
    }

    fn cipher(&self) -> Result<RandomizedNonceKey, SignerError> {
        RandomizedNonceKey::new(&AES_256_GCM, self.0.as_ref()).map_err(|_| SignerError::Crypto {
            doing: "reading the seal key",
        })
    }
}

/// All keys at once, by writing a folder beside `dir` and renaming it: a crash leaves all or none,
/// so that a missing key is always a loss and never a first start.
pub(crate) fn create_folder(
    dir: &Path,
    seal: &SealKey,
    keys: &[(&str, Zeroizing<Vec<u8>>)],
) -> Result<(), SignerError> {
    let occupied = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(source) => return Err(io(dir, source)),
    };
    if occupied {
        return Err(SignerError::Exists {
            path: dir.to_owned(),
        });
    }
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let draft = dir.with_file_name(name);
    match std::fs::remove_dir_all(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(&draft, error)),
        // Left by a crash in an earlier first start; its keys have signed nothing.
        _ => {}
    }
    DirBuilder::new()
        .mode(0o700)
        .create(&draft)
        .map_err(|source| io(&draft, source))?;
    for (name, key) in keys {
        write_new(&draft.join(name), &sealed(seal, name, key)?)?;
    }
    sync_folder(&draft)?;
    std::fs::rename(&draft, dir).map_err(|source| io(dir, source))?;
    sync_folder(parent(dir))
}

/// A folder of sealed keys that nobody else can look into.
pub(crate) struct Folder<'a> {
    dir: &'a Path,
    seal: &'a SealKey,
}

impl<'a> Folder<'a> {
    pub(crate) fn open(dir: &'a Path, seal: &'a SealKey) -> Result<Self, SignerError> {
        let metadata = std::fs::symlink_metadata(dir).map_err(|source| io(dir, source))?;
        if !metadata.is_dir() {
            return Err(SignerError::Unusable {
                path: dir.to_owned(),
                what: "is not a folder",
            });
        }
        check_private(dir, &metadata, "700")?;
        Ok(Self { dir, seal })
    }

    /// The names of the files, in order. Half-written ones of a crash are removed: their keys have
    /// signed nothing.
    pub(crate) fn names(&self) -> Result<Vec<String>, SignerError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.dir).map_err(|source| io(self.dir, source))? {
            let entry = entry.map_err(|source| io(self.dir, source))?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            if name.ends_with(DRAFT) {
                std::fs::remove_file(entry.path()).map_err(|source| io(&entry.path(), source))?;
            } else {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Adds a key, durable when this returns.
    pub(crate) fn create(&self, name: &str, key: &[u8]) -> Result<(), SignerError> {
        let (path, draft) = (self.dir.join(name), self.dir.join(format!("{name}{DRAFT}")));
        if path.exists() {
            return Err(SignerError::Exists { path });
        }
        write_new(&draft, &sealed(self.seal, name, key)?)?;
        std::fs::rename(&draft, &path).map_err(|source| io(&path, source))?;
        sync_folder(self.dir)
    }

    /// Removes a key for good, durable when this returns.
    pub(crate) fn remove(&self, name: &str) -> Result<(), SignerError> {
        let path = self.dir.join(name);
        std::fs::remove_file(&path).map_err(|source| io(&path, source))?;
        sync_folder(self.dir)
    }

    pub(crate) fn read(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, SignerError> {
        let path = self.dir.join(name);
        let bytes = read_private(&path)?;
        unsealed(self.seal, name, &bytes, &path)
    }
}

fn unsealed(
    seal: &SealKey,
    name: &str,
    bytes: &[u8],
    path: &Path,
) -> Result<Zeroizing<Vec<u8>>, SignerError> {
    let unsealable = || SignerError::Unsealable {
        path: path.to_owned(),
    };
    let (nonce, sealed) = bytes
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_at_checked(NONCE_LEN))
        .ok_or_else(unsealable)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| unsealable())?;
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let length = seal
        .cipher()?
        .open_in_place(nonce, Aad::from(context(name)), &mut buffer)
        .map_err(|_| unsealable())?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}

fn sealed(seal: &SealKey, name: &str, key: &[u8]) -> Result<Vec<u8>, SignerError> {
    // Room for the tag at once: growing would leave a copy of the key behind.
    let mut buffer = Zeroizing::new(Vec::with_capacity(key.len() + AES_256_GCM.tag_len()));
    buffer.extend_from_slice(key);
    let nonce = seal
        .cipher()?
        .seal_in_place_append_tag(Aad::from(context(name)), &mut *buffer)
        .map_err(|_| SignerError::Crypto {
            doing: "sealing a key",
        })?;
    Ok([MAGIC, nonce.as_ref(), &buffer].concat())
}

/// No file of a key folder has such a name.
fn elsewhere(name: &str) -> String {
    format!("elsewhere/{name}")
}

/// Authenticated with the key: one key's file cannot be put in another's place.
fn context(name: &str) -> Vec<u8> {
    [MAGIC, name.as_bytes()].concat()
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), SignerError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => SignerError::Exists {
                path: path.to_owned(),
            },
            _ => io(path, source),
        })?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|source| io(path, source))
}

/// Checks what was opened, not what the path says a moment later.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, SignerError> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)
        .map_err(|source| io(path, source))?;
    let metadata = file.metadata().map_err(|source| io(path, source))?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(SignerError::Unusable {
            path: path.to_owned(),
            what: "is not a key file",
        });
    }
    check_private(path, &metadata, "600")?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(FILE_BYTES_MAX).unwrap_or_default(),
    ));
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|source| io(path, source))?;
    Ok(bytes)
}

fn check_private(path: &Path, metadata: &Metadata, want: &'static str) -> Result<(), SignerError> {
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(SignerError::ForeignOwner {
            path: path.to_owned(),
        });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(SignerError::OpenToOthers {
            path: path.to_owned(),
            mode: metadata.mode() & 0o777,
            want,
        });
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_folder(folder: &Path) -> Result<(), SignerError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| io(folder, source))
}

fn io(path: &Path, source: std::io::Error) -> SignerError {
    SignerError::Io {
        path: PathBuf::from(path),
        source,
    }
}
