//! A certificate from an ACME CA (RFC 8555): the account, what is kept between runs, and how a new
//! one comes into force.
//!
//! An order is never taken up again: what a stop interrupts is begun anew. The certificate in force
//! is shown until another is there, whatever happens to the order for it.

mod answers;
mod order;
mod requests;

pub use answers::{ALPN, Answers};

use super::imported::shown;
use super::settings::AcmeSettings;
use super::{Entry, Served, Shown, Source, put_in_force};
use crate::clock;
use crate::config::Config;
use crate::entries::Actor;
use crate::plane::{Plane, random};
use crate::secret::read_secret;
use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};
use model::Timestamp;
use requests::Http;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use signer::SealKey;
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Direction, Store, Write};
use zeroize::Zeroizing;

/// Rows of the database; the names are sealed into what they hold.
const ACCOUNT: &str = "identity.acme-account";
const CERTIFICATE: &str = "identity.acme-certificate";

/// Behind the leaf, if the configuration does not say more.
const INTERMEDIATES: usize = 1;
const CHAIN_BYTES_MAX: usize = 64 * 1024;
/// Characters of what a CA says that are passed on.
const SAID_CHARACTERS_MAX: usize = 600;
const RENEWED_AFTER_MIN: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3600);

/// Why there is no new certificate.
pub struct Failed {
    pub line: String,
    /// The CA asked not to be asked before.
    pub not_before: Option<Timestamp>,
}

/// The account as it is sealed.
#[derive(Serialize, Deserialize)]
struct KeptAccount {
    directory: String,
    credentials: AccountCredentials,
}

/// The certificate as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    directory: String,
    names: Vec<String>,
    chain_pem: String,
    /// Base64 of what [`SealKey::seal`] made of the PKCS #8.
    sealed_key: String,
}

/// What the last run got, if it is still good and for the same names.
///
/// # Errors
/// The database, or it holds what the seal key does not open.
pub fn entry(
    config: &Config,
    store: &Store,
    seal: &SealKey,
    now: Timestamp,
) -> anyhow::Result<Entry> {
    let settings = &config.listen.acme;
    let kept: Option<Kept> = match store.meta(CERTIFICATE)? {
        Some(json) => Some(serde_json::from_slice(&json)?),
        None => None,
    };
    let same = |kept: &Kept| kept.directory == settings.directory && kept.names == settings.names;
    let (shown, trouble) = match kept.filter(same) {
        Some(kept) => {
            let sealed = STANDARD.decode(&kept.sealed_key)?;
            let key = seal.unseal(CERTIFICATE, &sealed)?;
            match read(settings, &kept.chain_pem, &key, now) {
                Ok(shown) => (Some(Arc::new(shown)), None),
                Err(error) => (None, Some(format!("{error:#}"))),
            }
        }
        None => (None, None),
    };
    let due = match &shown {
        Some(shown) => renewal(shown)?,
        None => now,
    };
    Ok(placed(settings, shown, trouble, due))
}

/// Asks for a certificate, and shows it from now on if it comes; when to ask again.
///
/// # Errors
/// What to tell, and how long the CA wants to be left alone.
pub async fn obtain(plane: &Plane) -> Result<Timestamp, Failed> {
    let settings = &plane.config.listen.acme;
    let fail = |error: anyhow::Error, not_before| Failed {
        line: format!("{}: {}", settings.directory, plain(&format!("{error:#}"))),
        not_before,
    };
    let http = Http::new(settings).map_err(|error| fail(error, None))?;
    let done = ask(plane, settings, &http).await;
    // Whichever way it ended, nothing is left to be answered.
    plane.trust().answers.replace(Arc::default());
    done.map_err(|error| fail(error, http.not_before()))
}

/// Keeps beside the entry why nothing new came, and when it is tried again.
pub async fn tell(plane: &Plane, failed: &Failed, again_at: Timestamp) {
    tracing::error!("no certificate from {}; again at {again_at}", failed.line);
    let _one_at_a_time = plane.serving.begin().await;
    let mut next = Served::clone(&plane.trust().served.get());
    if let Some(entry) = next.entries.iter_mut().find(|one| one.source.is_acme()) {
        entry.trouble = Some(failed.line.clone());
        entry.renews_at = Some(again_at);
    }
    plane.trust().served.replace(Arc::new(next));
}

/// When to try again after so many failures: a minute, then twice as long each time up to six
/// hours, moved by up to a tenth either way; never before the CA said.
#[must_use]
pub fn pause(failures: u32, jitter: u32, now: Timestamp, failed: &Failed) -> Timestamp {
    let doubled = PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let pause = doubled.min(PAUSE_MAX);
    let moved = pause * 9 / 10 + pause.mul_f64(f64::from(jitter) / f64::from(u32::MAX) / 5.0);
    let again = now.plus(moved);
    failed.not_before.map_or(again, |told| told.max(again))
}

async fn ask(plane: &Plane, settings: &AcmeSettings, http: &Http) -> anyhow::Result<Timestamp> {
    plane.granting_allowed()?;
    if let Some(reason) = plane.store.sealed() {
        bail!("not asked while the plane is sealed ({reason})");
    }
    let account = account(plane, settings, http, true).await?;
    let got = match order::place(plane, settings, &account).await {
        // A CA that was set up anew does not know us any more.
        Err(error) if is_unknown_account(&error) => {
            let account = self::account(plane, settings, http, false).await?;
            order::place(plane, settings, &account).await?
        }
        other => other?,
    };
    if got.chain_pem.len() > CHAIN_BYTES_MAX {
        bail!("it sent a chain of more than {CHAIN_BYTES_MAX} bytes");
    }
    let now = clock::now();
    let shown = read(settings, &got.chain_pem, &got.key, now)?;
    // A certificate that ends at once would have the CA asked without a pause.
    let due = renewal(&shown)?.max(now.plus(RENEWED_AFTER_MIN));
    let sealed = plane.seal.seal(CERTIFICATE, &got.key)?;
    let kept = Kept {
        directory: settings.directory.clone(),
        names: settings.names.clone(),
        chain_pem: got.chain_pem,
        sealed_key: STANDARD.encode(sealed),
    };
    let keep = Write::PutMeta {
        key: CERTIFICATE.into(),
        value: serde_json::to_vec(&kept)?,
    };
    let _one_at_a_time = plane.serving.begin().await;
    let before = plane.trust().served.get();
    let mut next = Served::clone(&before);
    let entry = placed(settings, Some(Arc::new(shown)), None, due);
    let place = next.entries.iter().position(|one| one.source.is_acme());
    let place = place.context("there is no place for it")?;
    next.try_put(place, entry).map_err(anyhow::Error::msg)?;
    put_in_force(plane, &before, next, vec![keep], &Actor::Plane).await?;
    tracing::info!("{} certified {:?}", settings.directory, settings.names);
    Ok(due)
}

/// The account of the last run, or a new one, which is kept before it is used.
async fn account(
    plane: &Plane,
    settings: &AcmeSettings,
    http: &Http,
    kept: bool,
) -> anyhow::Result<Account> {
    let builder = Account::builder_with_http(Box::new(http.clone()));
    if kept && let Some(sealed) = plane.store.meta(ACCOUNT)? {
        let json = plane.seal.unseal(ACCOUNT, &sealed)?;
        let known: KeptAccount = serde_json::from_slice(&json)?;
        if known.directory == settings.directory {
            return Ok(builder.from_credentials(known.credentials).await?);
        }
    }
    let contact: Vec<String> = (settings.contact.iter())
        .map(|mail| format!("mailto:{mail}"))
        .collect();
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: settings.terms_agreed,
        only_return_existing: false,
    };
    let binding = binding(settings)?;
    let directory = settings.directory.clone();
    let (account, credentials) = builder.create(&new, directory, binding.as_ref()).await?;
    let known = KeptAccount {
        directory: settings.directory.clone(),
        credentials,
    };
    let json = Zeroizing::new(serde_json::to_vec(&known)?);
    let change = Change::new(Direction::Neutral).write(Write::PutMeta {
        key: ACCOUNT.into(),
        value: plane.seal.seal(ACCOUNT, &json)?,
    });
    plane.commit(change).await?;
    Ok(account)
}

/// External account binding (RFC 8555 section 7.3.4).
fn binding(settings: &AcmeSettings) -> anyhow::Result<Option<ExternalAccountKey>> {
    if settings.eab_key_id.is_empty() {
        return Ok(None);
    }
    let text = read_secret(&settings.eab_key_file, 16).context("listen.acme.eab_key_file")?;
    let key = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
    let key = Zeroizing::new(
        key.ok()
            .context("listen.acme.eab_key_file: write base64url")?,
    );
    Ok(Some(ExternalAccountKey::new(
        settings.eab_key_id.clone(),
        &key,
    )))
}

fn is_unknown_account(error: &anyhow::Error) -> bool {
    let Some(Error::Api(problem)) = error.downcast_ref::<Error>() else {
        return false;
    };
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.ends_with(":accountDoesNotExist")
}

fn read(
    settings: &AcmeSettings,
    chain_pem: &str,
    pkcs8: &[u8],
    now: Timestamp,
) -> anyhow::Result<Shown> {
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .context("what it sent is no chain in PEM")?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8)).clone_key();
    let max = settings.intermediates_max.unwrap_or(INTERMEDIATES);
    shown(chain, key, max, &settings.names, now)
}

/// At two thirds of the life, moved at random by up to a tenth of that.
fn renewal(shown: &Shown) -> anyhow::Result<Timestamp> {
    let (from, until) = (shown.chain.not_before(), shown.chain.not_after());
    let random = u32::from_be_bytes(random()?);
    Ok(identity::renew_after(from, until, random))
}

fn placed(
    settings: &AcmeSettings,
    shown: Option<Arc<Shown>>,
    trouble: Option<String>,
    due: Timestamp,
) -> Entry {
    Entry {
        source: Source::Acme {
            directory: settings.directory.clone(),
            names: settings.names.clone(),
        },
        doors: settings.doors(),
        is_default: settings.default,
        shown,
        renews_at: Some(due),
        trouble,
    }
}

/// What a CA says comes from outside.
fn plain(said: &str) -> String {
    let shown = said.chars().take(SAID_CHARACTERS_MAX);
    shown
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_tried_again_ever_later_and_never_before_the_ca_said() {
        let now = Timestamp::from_seconds(1_000_000);
        let failed = |not_before| Failed {
            line: String::new(),
            not_before,
        };
        let after = |failures, jitter| pause(failures, jitter, now, &failed(None)).since(now);
        assert_eq!(after(1, 0), Duration::from_secs(54));
        assert_eq!(after(1, u32::MAX), Duration::from_secs(66));
        assert_eq!(after(3, 0), Duration::from_secs(216));
        assert_eq!(after(40, u32::MAX), Duration::from_secs(6 * 3600 * 11 / 10));
        let told = now.plus(Duration::from_secs(86_400));
        assert_eq!(pause(1, 0, now, &failed(Some(told))), told);
        assert!(pause(9, 0, now, &failed(Some(now))) > now);
    }

    #[test]
    fn what_a_ca_says_cannot_act_in_a_terminal() {
        assert_eq!(plain("no\u{1b}[2J\n\"x\""), "no [2J \"x\"");
        assert!(plain(&"x".repeat(100_000)).len() <= SAID_CHARACTERS_MAX);
    }
}
