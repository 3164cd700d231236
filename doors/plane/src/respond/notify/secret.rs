//! Files that a receiver's settings name: secrets that nobody else may read, roots to trust.

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

/// The text of a file that only its owner may read.
pub fn read_secret_file(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut opened =
        std::fs::File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let metadata = opened.metadata()?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o077 != 0 {
        bail!(
            "{} holds a secret and others may read it; operator: chmod 600 it",
            file.display()
        );
    }
    let mut text = Zeroizing::new(String::new());
    (&mut opened)
        .take(SECRET_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("{} is no text", file.display()))?;
    Ok(text)
}

/// Its first line.
pub fn read_secret(file: &Path, bytes_min: usize) -> anyhow::Result<Zeroizing<String>> {
    let text = read_secret_file(file)?;
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

/// Whom to trust: the roots of the file alone, or this system's where none is named.
pub fn trusted(file: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if file.as_os_str().is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            bail!(
                "this system has no root certificates; operator: install ca-certificates, or set \
                 response.roots_file"
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
