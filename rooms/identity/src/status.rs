//! Where outsiders ask whether a certificate still stands: the addresses of lists and of the OCSP
//! responder, as they are written into certificates.

use crate::crl::Shard;
use model::{CertificateId, Digest};

/// One base address, and among how many lists each CA's certificates are dealt out.
///
/// What was written into certificates must be answered for as long as they live: keep every pair
/// that was ever in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusPoint {
    base: String,
    crl_shards: u16,
}

/// Why there can be no such point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStatusPoint {
    #[error(
        "write http://host[:port][/path] or https://…, at most 200 characters of ASCII, without \
         user name, query, fragment or a slash at the end"
    )]
    Base,
    #[error("a CA's lists are 1, 2, 4 and so on up to 256")]
    Shards,
}

impl StatusPoint {
    /// # Errors
    /// [`InvalidStatusPoint`].
    pub fn new(base: &str, crl_shards: u16) -> Result<Self, InvalidStatusPoint> {
        let host = base
            .strip_prefix("http://")
            .or_else(|| base.strip_prefix("https://"))
            .ok_or(InvalidStatusPoint::Base)?;
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/[]".contains(&b);
        let is_valid = base.len() <= 200
            && !host.is_empty()
            && !host.starts_with(['/', ':'])
            && !host.ends_with('/')
            && host.bytes().all(is_plain);
        if !is_valid {
            return Err(InvalidStatusPoint::Base);
        }
        Shard::new(0, crl_shards).ok_or(InvalidStatusPoint::Shards)?;
        Ok(Self {
            base: base.to_owned(),
            crl_shards,
        })
    }

    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    #[must_use]
    pub fn crl_shards(&self) -> u16 {
        self.crl_shards
    }

    /// Where the list is that would show this certificate.
    #[must_use]
    pub fn crl_url_of(&self, certificate: &CertificateId) -> String {
        let shard = Shard::of(certificate, self.crl_shards);
        self.crl_url(certificate.issuer(), shard)
    }

    /// Where one list of a CA is.
    #[must_use]
    pub fn crl_url(&self, issuer: Digest, shard: Shard) -> String {
        format!("{}{}", self.base, crl_path(issuer, shard))
    }

    /// Where the responder is.
    #[must_use]
    pub fn ocsp_url(&self) -> String {
        format!("{}{OCSP_PATH}", self.base)
    }
}

/// Behind the base address: the responder of all CAs.
pub const OCSP_PATH: &str = "/status/ocsp";

/// Behind the base address: one list of a CA.
#[must_use]
pub fn crl_path(issuer: Digest, shard: Shard) -> String {
    format!(
        "/status/crl/{issuer}/{}/{}.crl",
        shard.count(),
        shard.index()
    )
}
