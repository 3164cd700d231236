//! What a provider says of itself: its addresses and its keys, read when they are needed and kept for
//! an hour (OpenID Connect Discovery 1.0).

use super::unreachable;
use crate::config::ProviderConfig;
use crate::outward::{Answer, Outward, check_url, trusting};
use crate::shared::{Locked, OneAtATime};
use crate::trouble::Trouble;
use anyhow::Context;
use identity::person::provider::{KEYS_BYTES_MAX, Keys, METADATA_BYTES_MAX, Metadata};
use model::Timestamp;
use rustls::ClientConfig;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

const KEPT: Duration = Duration::from_secs(3600);
/// Where it cannot be read again, what is known serves a day.
const KEPT_WITHOUT: Duration = Duration::from_secs(86_400);
/// Tokens with made-up names of keys do not make us ask more often than so many times a minute.
const READS_A_MINUTE: usize = 6;
const TOLD_EACH: Duration = Duration::from_secs(10);

/// A provider, as it was read.
pub(super) struct Document {
    /// Where browsers are sent.
    pub authorization: String,
    pub token: Outward,
    /// Where browsers are sent to sign out there, if they can.
    pub end_session: Option<String>,
    pub keys: Keys,
    /// It says in each answer who it is (RFC 9207).
    pub names_itself: bool,
    pub read_at: Timestamp,
}

pub(super) struct Directory {
    issuer: String,
    tls: Option<Arc<ClientConfig>>,
    known: Locked<Option<Arc<Document>>>,
    reading: OneAtATime,
    reads: Locked<VecDeque<Timestamp>>,
    told_at: Locked<Option<Timestamp>>,
}

impl Directory {
    pub(super) fn new(settings: &ProviderConfig) -> anyhow::Result<Self> {
        let roots = &settings.roots_file;
        let secure = settings.issuer.starts_with("https://") || !roots.as_os_str().is_empty();
        let tls = secure.then(|| trusting("access.provider.roots_file", roots));
        Ok(Self {
            issuer: settings.issuer.clone(),
            tls: tls.transpose().context("access.provider.roots_file")?,
            known: Locked::default(),
            reading: OneAtATime::default(),
            reads: Locked::default(),
            told_at: Locked::default(),
        })
    }

    /// As it is known, or read now; `newer_than`: read after that.
    ///
    /// # Errors
    /// It does not answer, or not as a provider does.
    pub(super) async fn document(
        &self,
        now: Timestamp,
        newer_than: Option<Timestamp>,
    ) -> Result<Arc<Document>, Trouble> {
        let serves = |known: &Arc<Document>, kept: Duration| {
            known.read_at.plus(kept) > now && newer_than.is_none_or(|than| known.read_at > than)
        };
        let known = |kept| {
            self.known
                .lock()
                .clone()
                .filter(|known| serves(known, kept))
        };
        if let Some(known) = known(KEPT) {
            return Ok(known);
        }
        let _one_at_a_time = self.reading.begin().await;
        // Whoever waited here may find it read.
        if let Some(known) = known(KEPT) {
            return Ok(known);
        }
        if self.may_read(now) {
            match self.read(now).await {
                Ok(read) => {
                    let read = Arc::new(read);
                    *self.known.lock() = Some(Arc::clone(&read));
                    return Ok(read);
                }
                Err(why) => self.tell(now, &why),
            }
        }
        known(KEPT_WITHOUT).ok_or_else(unreachable)
    }

    /// As it was read last, if that serves still: for what waits for nobody.
    pub(super) fn known(&self, now: Timestamp) -> Option<Arc<Document>> {
        let known = self.known.lock().clone();
        known.filter(|known| known.read_at.plus(KEPT_WITHOUT) > now)
    }

    /// In the plane's own log, now and then: strangers can make it happen as often as they like.
    pub(super) fn tell(&self, now: Timestamp, why: &str) {
        let mut told_at = self.told_at.lock();
        if told_at.is_none_or(|at| at.plus(TOLD_EACH) <= now) {
            *told_at = Some(now);
            tracing::warn!("the provider of identities does not answer as it should: {why}");
        }
    }

    fn may_read(&self, now: Timestamp) -> bool {
        let mut reads = self.reads.lock();
        reads.retain(|at| at.plus(Duration::from_secs(60)) > now);
        let may = reads.len() < READS_A_MINUTE;
        if may {
            reads.push_back(now);
        }
        may
    }

    async fn read(&self, now: Timestamp) -> Result<Document, String> {
        let outward = |url: &str| {
            let by = Outward::by(url, self.tls.as_ref());
            by.map_err(|_| "an address of the provider is neither https:// nor here".to_owned())
        };
        let issuer = self.issuer.strip_suffix('/').unwrap_or(&self.issuer);
        let own = outward(&format!("{issuer}/.well-known/openid-configuration"))?;
        let own = body(own.get(METADATA_BYTES_MAX).await?)?;
        let read = Metadata::read(&own, &self.issuer).map_err(|why| why.to_string())?;
        check_url(&read.authorization_endpoint)?;
        let token = outward(&read.token_endpoint)?;
        let keys = outward(&read.jwks_uri)?.get(KEYS_BYTES_MAX).await?;
        let keys = Keys::read(&body(keys)?).map_err(|why| why.to_string())?;
        Ok(Document {
            authorization: read.authorization_endpoint,
            token,
            // People are to come in also where this one is wrong.
            end_session: (read.end_session_endpoint).filter(|url| check_url(url).is_ok()),
            keys,
            names_itself: read.names_itself,
            read_at: now,
        })
    }
}

fn body(answer: Answer) -> Result<Vec<u8>, String> {
    if !answer.status.is_success() {
        return Err(format!("it answered {}", answer.status));
    }
    if answer.body.is_empty() {
        return Err("its answer is empty or too long".to_owned());
    }
    Ok(answer.body)
}
