//! A webhook: one POST of JSON, signed, to one address that the operator wrote down.

use super::NotSent;
use crate::config::ResponseConfig;
use crate::outward::Outward;
use crate::secret::read_secret;
use anyhow::Context;
use aws_lc_rs::hmac;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use model::Timestamp;

/// 16 bytes in hex: less can be guessed.
const SECRET_CHARACTERS_MIN: usize = 32;

pub struct Webhook {
    outward: Outward,
    key: hmac::Key,
}

impl Webhook {
    pub fn new(settings: &ResponseConfig) -> anyhow::Result<Self> {
        let (url, roots) = (&settings.webhook_url, &settings.roots_file);
        let outward = Outward::new(url, "response.roots_file", roots)?;
        let secret = read_secret(&settings.webhook_secret_file, SECRET_CHARACTERS_MIN)
            .context("response.webhook_secret_file")?;
        Ok(Self {
            outward,
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
        })
    }

    pub async fn send(&self, body: &[u8], now: Timestamp) -> Result<(), NotSent> {
        let body = String::from_utf8_lossy(body).into_owned();
        let message: super::Message = serde_json::from_str(&body).map_err(|e| NotSent {
            why: format!("the queued message cannot be read: {e}"),
            is_final: true,
        })?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.outward.path())
            .header(HOST, self.outward.authority())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("fleetward/", env!("CARGO_PKG_VERSION")))
            .header("Idempotency-Key", &message.id)
            .header("Fleetward-Signature", signature(&self.key, &body, now))
            .body(body)
            .map_err(NotSent::for_now)?;
        let answer = self.outward.exchange(request).await;
        judge(answer.map_err(NotSent::for_now)?.status)
    }
}

/// `t=<seconds since 1970>,v1=<hex>`: HMAC-SHA-256 over `<t>.<body>`, so that an old message
/// cannot be sent again as a new one.
fn signature(key: &hmac::Key, body: &str, now: Timestamp) -> String {
    let at = now.as_seconds();
    let tag = hmac::sign(key, format!("{at}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("t={at},v1={hex}")
}

/// What can pass (a busy receiver, a wrong secret, a moved address) is tried again; what is wrong
/// with this one message is not.
fn judge(status: StatusCode) -> Result<(), NotSent> {
    match status.as_u16() {
        200..=299 => Ok(()),
        300..=399 => Err(NotSent::for_now(format_args!(
            "{status}: redirects are not followed; write the final address into webhook_url"
        ))),
        400 | 405..=407 | 409..=424 | 426..=428 | 431 => Err(NotSent {
            why: status.to_string(),
            is_final: true,
        }),
        _ => Err(NotSent::for_now(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_the_time_and_the_body() {
        // python3: hmac.new(b"k" * 32, b"1700000000.{}", "sha256").hexdigest()
        let key = hmac::Key::new(hmac::HMAC_SHA256, "k".repeat(32).as_bytes());
        let at = Timestamp::from_seconds(1_700_000_000);
        assert_eq!(
            signature(&key, "{}", at),
            "t=1700000000,v1=0b3b35525c10b3757ffa78df69037021fc3168d8390a51a4fcb4a8d56a25b557"
        );
    }

    #[test]
    fn only_what_can_never_be_taken_is_given_up() {
        for (status, is_final) in [
            (400, true),
            (413, true),
            (422, true),
            (301, false),
            (401, false),
            (404, false),
            (408, false),
            (425, false),
            (429, false),
            (500, false),
            (503, false),
        ] {
            let refused = judge(StatusCode::from_u16(status).unwrap()).unwrap_err();
            assert_eq!(refused.is_final, is_final, "{status}");
        }
        assert!(judge(StatusCode::ACCEPTED).is_ok());
    }
}
