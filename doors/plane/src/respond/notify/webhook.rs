//! A webhook: one POST of JSON, signed, to one address that the operator wrote down.
//!
//! Only over HTTPS, or to this machine. Redirects are not followed, proxies not asked, and what
//! the receiver answers is read no further than its status.

use super::NotSent;
use crate::config::ResponseConfig;
use crate::secret::{read_secret, trusted};
use anyhow::{Context, bail};
use aws_lc_rs::hmac;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use model::Timestamp;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// 16 bytes in hex: less can be guessed.
const SECRET_CHARACTERS_MIN: usize = 32;

pub struct Webhook {
    host: String,
    port: u16,
    path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    key: hmac::Key,
}

/// What is wrong with an address, without repeating it: a path may be a secret.
const RULE: &str = "write https://host/path, or http://127.0.0.1:port/path for a receiver on this \
                    machine; no user name or password, which would be seen in lists and logs";

impl Webhook {
    pub fn new(settings: &ResponseConfig) -> anyhow::Result<Self> {
        let uri = parse(&settings.webhook_url)?;
        let host = bare_host(&uri).to_owned();
        let secure = uri.scheme_str() == Some("https");
        let tls = if secure {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(trusted("response.roots_file", &settings.roots_file)?)
                .with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            let name = ServerName::try_from(host.clone()).context(RULE)?;
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        let secret = read_secret(&settings.webhook_secret_file, SECRET_CHARACTERS_MIN)
            .context("response.webhook_secret_file")?;
        Ok(Self {
            host,
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            tls,
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
            .uri(&self.path)
            .header(HOST, self.authority())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("fleetward/", env!("CARGO_PKG_VERSION")))
            .header("Idempotency-Key", &message.id)
            .header("Fleetward-Signature", signature(&self.key, &body, now))
            .body(body)
            .map_err(NotSent::for_now)?;
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|e| NotSent::for_now(format_args!("{}: {e}", self.host)))?;
        let status = match &self.tls {
            None => {
                let here = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
                if !here {
                    return Err(NotSent::for_now("plain HTTP goes to this machine only"));
                }
                exchange(stream, request).await?
            }
            Some((tls, name)) => {
                let stream = tls
                    .connect(name.clone(), stream)
                    .await
                    .map_err(|e| NotSent::for_now(format_args!("{}: {e}", self.host)))?;
                exchange(stream, request).await?
            }
        };
        judge(status)
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Refuses at the start what could never be sent.
pub fn check_url(url: &str) -> Result<(), String> {
    parse(url).map(drop).map_err(|e| e.to_string())
}

fn parse(url: &str) -> anyhow::Result<Uri> {
    let uri: Uri = url.parse().ok().context(RULE)?;
    let named = uri
        .authority()
        .is_some_and(|authority| !authority.as_str().contains('@'));
    let local = bare_host(&uri) == "localhost"
        || (bare_host(&uri).parse()).is_ok_and(|address: IpAddr| address.is_loopback());
    match uri.scheme_str() {
        Some("https") if named => Ok(uri),
        Some("http") if named && local => Ok(uri),
        _ => bail!(RULE),
    }
}

fn bare_host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

/// `t=<seconds since 1970>,v1=<hex>`: HMAC-SHA-256 over `<t>.<body>`, so that an old message
/// cannot be sent again as a new one.
fn signature(key: &hmac::Key, body: &str, now: Timestamp) -> String {
    let at = now.as_seconds();
    let tag = hmac::sign(key, format!("{at}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("t={at},v1={hex}")
}

/// The status alone: the body is never read, so it cannot be too long.
async fn exchange<S>(stream: S, request: Request<String>) -> Result<StatusCode, NotSent>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(16 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(NotSent::for_now)?;
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    tokio::select! {
        answer = &mut answer => answer.map(|answer| answer.status()).map_err(NotSent::for_now),
        // A receiver that closes behind its answer is heard all the same.
        ended = &mut connection => match (ended, answer.await) {
            (_, Ok(answer)) => Ok(answer.status()),
            (Err(e), Err(_)) | (Ok(()), Err(e)) => Err(NotSent::for_now(e)),
        },
    }
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
    fn only_https_or_this_machine_and_never_a_password() {
        for url in [
            "https://hooks.example.com/a?b=c",
            "http://127.0.0.1:9/x",
            "http://[::1]:9/x",
            "http://localhost:9/",
        ] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        for url in [
            "",
            "hooks.example.com",
            "/path",
            "ftp://example.com/",
            "http://example.com/",
            "http://169.254.169.254/latest/meta-data",
            "http://127.0.0.1.example.com/",
            "https://user:secret@example.com/",
            "http://secret@127.0.0.1/",
            "https://example.com@127.0.0.1/",
        ] {
            let refused = check_url(url).unwrap_err();
            assert!(!refused.contains("secret@"), "{refused}");
        }
    }

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
