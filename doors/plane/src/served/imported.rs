//! Chains of other CAs, from files.

use super::settings::ImportedCertificate;
use super::{Entry, Shown, Source};
use crate::secret::{read_private, read_roots};
use anyhow::{Context, bail};
use identity::{BadKeys, ServerChain, ServerChainRefusal, flaw_of_key};
use model::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// An RSA key of 4096 bits has some 3300.
const KEY_BYTES_MAX: u64 = 16 * 1024;
/// Behind the leaf, if the configuration does not say more.
const INTERMEDIATES: usize = 1;

/// Reads both files and checks that they can be shown.
///
/// # Errors
/// Names the file; who must act and how.
pub fn entry(
    settings: &ImportedCertificate,
    bad_keys: &BadKeys,
    now: Timestamp,
) -> anyhow::Result<Entry> {
    let chain = read_roots(&settings.chain_file).context("listen.certificates")?;
    let pem = read_private(&settings.key_file, KEY_BYTES_MAX).context("listen.certificates")?;
    let key = PrivateKeyDer::from_pem_slice(&pem).ok().with_context(|| {
        format!(
            "listen.certificates: {} holds no private key that can be read; operator: give PEM, \
             not encrypted",
            settings.key_file.display()
        )
    })?;
    let max = settings.intermediates_max.unwrap_or(INTERMEDIATES);
    let shown = shown(chain, key, max, &settings.names, now)
        .with_context(|| format!("listen.certificates: {}", settings.chain_file.display()))?;
    check_key(&shown, bad_keys)
        .with_context(|| format!("listen.certificates: {}", settings.key_file.display()))?;
    Ok(placed(settings, Some(Arc::new(shown)), None))
}

/// As [`entry`], when the plane starts. A chain that has ended is shown to nobody, and does not keep
/// the doors closed to everybody else: it may have ended while the machine stood still.
///
/// # Errors
/// As [`entry`], but for a chain that has ended.
pub fn entry_at_start(
    settings: &ImportedCertificate,
    bad_keys: &BadKeys,
    now: Timestamp,
) -> anyhow::Result<Entry> {
    entry(settings, bad_keys, now).or_else(|error| match error.downcast_ref() {
        Some(ServerChainRefusal::Expired { .. }) => {
            let trouble = format!("{error:#}");
            tracing::error!("{trouble}; it is not shown");
            Ok(placed(settings, None, Some(trouble)))
        }
        _ => Err(error),
    })
}

/// A key that came from elsewhere may be anybody's.
fn check_key(shown: &Shown, bad_keys: &BadKeys) -> anyhow::Result<()> {
    let public = shown
        .key
        .key
        .public_key()
        .context("its key has no public half")?;
    let flaw = flaw_of_key(&public).or_else(|| bad_keys.flaw(&public));
    match flaw {
        None => Ok(()),
        Some(flaw) => bail!(
            "refused server-key-known: its private half is no secret ({}); operator: make a new \
             key and have it certified",
            flaw.name()
        ),
    }
}

fn placed(
    settings: &ImportedCertificate,
    shown: Option<Arc<Shown>>,
    trouble: Option<String>,
) -> Entry {
    Entry {
        source: Source::Imported {
            chain_file: settings.chain_file.clone(),
        },
        doors: settings.doors(),
        is_default: settings.default,
        shown,
        renews_at: None,
        trouble,
    }
}

/// A chain with its key, for these of its names, or for all if none is named.
pub fn shown(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    intermediates_max: usize,
    names: &[String],
    now: Timestamp,
) -> anyhow::Result<Shown> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = (provider.key_provider)
        .load_private_key(key)
        .context("its key is of no kind that TLS takes; operator: use ECDSA, Ed25519 or RSA of 2048 bits or more")?;
    let public = key.public_key().context("its key has no public half")?;
    let refused = |refusal: ServerChainRefusal| {
        let code = refusal.code();
        anyhow::Error::new(refusal).context(format!("refused {code}"))
    };
    let read =
        ServerChain::read(&chain, public.as_ref(), intermediates_max, now).map_err(refused)?;
    Ok(Shown {
        names: read.names_for(names).map_err(refused)?,
        chain: read,
        key: Arc::new(CertifiedKey::new(chain, key)),
    })
}
