//! Server certificates that were not issued here: what clients of an existing fleet, pinned to a
//! root of their own, are shown at our doors.

use crate::config::{CertificateConfig, DoorName};
use anyhow::{Context, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Certificates of one chain.
const CHAIN_MAX: usize = 8;

/// A certificate with the names and doors that it is shown for.
#[derive(Debug)]
pub struct Shown {
    pub names: Vec<String>,
    pub doors: Vec<DoorName>,
    /// Also for clients that ask for no name.
    pub nameless: bool,
    pub key: Arc<CertifiedKey>,
}

impl Shown {
    /// Whether it is what a client at this door gets that asked for `name`.
    #[must_use]
    pub fn is_for(&self, door: DoorName, name: Option<&str>) -> bool {
        self.doors.contains(&door)
            && match name {
                Some(name) => self.names.iter().any(|own| own.eq_ignore_ascii_case(name)),
                None => self.nameless,
            }
    }
}

/// Reads all of them, in the order of the configuration.
///
/// # Errors
/// A file that cannot be read, a key that others may read, a key of another certificate.
pub fn read(configured: &[CertificateConfig]) -> anyhow::Result<Vec<Shown>> {
    configured.iter().map(read_one).collect()
}

fn read_one(config: &CertificateConfig) -> anyhow::Result<Shown> {
    let chain_file = &config.chain_file;
    let pem = capped(chain_file)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| (1..=CHAIN_MAX).contains(&chain.len()))
        .with_context(|| {
            format!(
                "{} holds no chain of 1 to {CHAIN_MAX} certificates in PEM",
                chain_file.display()
            )
        })?;
    let key_file = &config.key_file;
    let mode = std::fs::metadata(key_file)
        .with_context(|| format!("{} cannot be read", key_file.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        bail!(
            "{} holds a private key and others may read it; operator: chmod 600 it",
            key_file.display()
        );
    }
    let pem = capped(key_file)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .ok()
        .with_context(|| format!("{} holds no private key in PEM", key_file.display()))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(chain, key, &provider).with_context(|| {
        format!(
            "{} and {} do not fit together",
            chain_file.display(),
            key_file.display()
        )
    })?;
    Ok(Shown {
        names: config.names.clone(),
        doors: config.doors.clone(),
        nameless: config.nameless,
        key: Arc::new(certified),
    })
}

fn capped(file: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    std::fs::File::open(file)
        .and_then(|opened| opened.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(bytes)
}
