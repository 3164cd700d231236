//! EMQX 5 by its documented calls: its own list keeps a client out, and its session is ended.
//!
//! Tried against a stub made from the documentation, not against the service.

use super::settings::BrokersConfig;
use crate::outward::{Answer, Outward};
use crate::respond::notify::NotSent;
use crate::secret::read_secret;
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// A name and a secret with a colon between them.
const KEY_CHARACTERS_MIN: usize = 16;

pub struct Emqx {
    outward: Outward,
    authorization: HeaderValue,
}

impl Emqx {
    /// `None` where none is configured.
    pub fn new(config: &BrokersConfig) -> anyhow::Result<Option<Self>> {
        if config.emqx_url.is_empty() {
            return Ok(None);
        }
        let (url, roots) = (&config.emqx_url, &config.emqx_roots_file);
        let outward =
            Outward::new(url, "brokers.emqx_roots_file", roots).context("brokers.emqx_url")?;
        let key = read_secret(&config.emqx_key_file, KEY_CHARACTERS_MIN)
            .context("brokers.emqx_key_file")?;
        key.split_once(':')
            .context("brokers.emqx_key_file: write <API key>:<secret key> in one line")?;
        let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(key.as_bytes())));
        let mut authorization = HeaderValue::from_str(&basic)?;
        authorization.set_sensitive(true);
        Ok(Some(Self {
            outward,
            authorization,
        }))
    }

    /// Takes a client in no more and ends its session.
    pub async fn keep_out(&self, client_id: &str) -> Result<(), NotSent> {
        let kept_out = json!({
            "as": "clientid",
            "who": client_id,
            "by": "fleetward",
            "reason": "revoked",
            "until": "infinity",
        });
        let mut answer = self.ask(Method::POST, "banned", Some(&kept_out)).await?;
        if is_known_already(&answer) {
            // Perhaps for an hour only: ours is for good.
            self.let_in(client_id).await?;
            answer = self.ask(Method::POST, "banned", Some(&kept_out)).await?;
        }
        if !answer.status.is_success() {
            return Err(refused(&answer));
        }
        self.end_session(client_id).await
    }

    /// Ends its session alone.
    pub async fn end_session(&self, client_id: &str) -> Result<(), NotSent> {
        let path = format!("clients/{}", escaped(client_id));
        self.delete(&path).await
    }

    /// It was on hold and is released.
    pub async fn let_in(&self, client_id: &str) -> Result<(), NotSent> {
        let path = format!("banned/clientid/{}", escaped(client_id));
        self.delete(&path).await
    }

    async fn delete(&self, path: &str) -> Result<(), NotSent> {
        let answer = self.ask(Method::DELETE, path, None).await?;
        // 404: it is not there, which is what was wanted.
        if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(refused(&answer))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, NotSent> {
        let base = self.outward.path().trim_end_matches('/');
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{base}/api/v5/{path}"))
            .header(HOST, self.outward.authority())
            .header(AUTHORIZATION, self.authorization.clone());
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = request.body(body).map_err(NotSent::for_now)?;
        self.outward
            .exchange(request)
            .await
            .map_err(NotSent::for_now)
    }
}

fn is_known_already(answer: &Answer) -> bool {
    let code = serde_json::from_slice::<Value>(&answer.body).ok();
    answer.status == StatusCode::BAD_REQUEST
        && code.is_some_and(|body| body.get("code") == Some(&json!("ALREADY_EXISTS")))
}

/// What it complains of in the request stays wrong; all else may pass.
fn refused(answer: &Answer) -> NotSent {
    match answer.status {
        StatusCode::BAD_REQUEST => NotSent::for_ever(answer.status),
        status => NotSent::for_now(format_args!(
            "{status}; operator: see that the API key is valid and may manage clients"
        )),
    }
}

/// As a path segment. Names of ours need nothing of it; a client identifier of another's might.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
