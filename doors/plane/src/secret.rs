//! Files that settings name: secrets that nobody else may read, roots to trust.

use anyhow::{Context, bail};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

const SECRET_BYTES_MAX: u64 = 4096;
const ROOTS_BYTES_MAX: u64 = 1024 * 1024;

/// The first line of a file that only its owner may read.
pub fn read_secret(file: &Path, bytes_min: usize) -> anyhow::Result<Zeroizing<String>> {
    let bytes = read_private(file, SECRET_BYTES_MAX)?;
    let text =
        std::str::from_utf8(&bytes).with_context(|| format!("{} is no text", file.display()))?;
    let line = Zeroizing::new(text.lines().next().unwrap_or_default().trim().to_owned());
    if line.len() < bytes_min {
        bail!(
            "{} holds a secret of less than {bytes_min} characters; operator: make one with \
             `openssl rand -hex 32`",
            file.display()
        );
    }
    Ok(line)
}

/// The bytes of a file that only its owner may read, up to a size.
pub fn read_private(file: &Path, bytes_max: u64) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let opened =
        std::fs::File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    // What was opened is looked at, not what the path says a moment later.
    let metadata = opened.metadata()?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o077 != 0 {
        bail!(
            "{} holds a secret and others may read it; operator: chmod 600 it",
            file.display()
        );
    }
    // Room for all of it at once: growing would leave a copy behind.
    let room = metadata.len().min(bytes_max);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(room)?));
    opened
        .take(room)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(bytes)
}

/// The certificates in a PEM file.
pub fn read_roots(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let mut pem = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(ROOTS_BYTES_MAX).read_to_end(&mut pem))
        .with_context(|| format!("{} cannot be read", file.display()))?;
    let roots = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|roots| !roots.is_empty())
        .with_context(|| format!("{} holds no certificate in PEM", file.display()))?;
    Ok(roots)
}

/// Whom to trust: the roots of the file alone, or this system's where none is named. `key` is what
/// names the file in the configuration.
pub fn trusted(key: &str, file: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if file.as_os_str().is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            bail!(
                "this system has no root certificates; operator: install ca-certificates, or set \
                 {key}"
            );
        }
        return Ok(roots);
    }
    for root in read_roots(file)? {
        roots
            .add(root)
            .with_context(|| format!("{} holds no usable root", file.display()))?;
    }
    Ok(roots)
}
