//! HTTP that goes out: to an address that the operator wrote down, or that whoever stands there names.
//!
//! Only over HTTPS, or to this machine. Redirects are not followed, proxies not asked, and an answer
//! is read up to a cap.

use crate::secret::trusted;
use anyhow::{Context, bail};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Bytes of an answer that are read; the rest is nobody's business.
const ANSWER_BYTES_MAX: usize = 4096;
/// How long an answer may take, where the caller does not say.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who is spoken to.
pub struct Outward {
    host: String,
    port: u16,
    path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    /// Empty if it was longer than what is read.
    pub body: Vec<u8>,
}

/// What is wrong with an address, without repeating it: a path may be a secret.
const RULE: &str = "write https://host/path, or http://127.0.0.1:port/path for a receiver on this \
                    machine; no user name or password, which would be seen in lists and logs";

impl Outward {
    /// `roots_key` is what names `roots_file` in the configuration; empty: this system's roots.
    ///
    /// # Errors
    /// The address or the roots cannot be used.
    pub fn new(url: &str, roots_key: &str, roots_file: &Path) -> anyhow::Result<Self> {
        let secure = parse(url)?.scheme_str() == Some("https");
        let tls = secure
            .then(|| trusting(roots_key, roots_file))
            .transpose()?;
        Self::by(url, tls.as_ref())
    }

    /// Over this TLS, which only an `https://` address needs.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn by(url: &str, tls: Option<&Arc<ClientConfig>>) -> anyhow::Result<Self> {
        let uri = parse(url)?;
        let host = bare_host(&uri).to_owned();
        let secure = uri.scheme_str() == Some("https");
        let tls = if secure {
            let tls = tls.context(RULE)?;
            let name = ServerName::try_from(host.clone()).context(RULE)?;
            Some((TlsConnector::from(Arc::clone(tls)), name))
        } else {
            None
        };
        Ok(Self {
            host,
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            tls,
        })
    }

    /// Of the address as it was written, `/` at least.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// For the Host header: without a port where it is the usual one.
    #[must_use]
    pub fn authority(&self) -> String {
        let usual = if self.tls.is_some() { 443 } else { 80 };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == usual {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// Asks for what is at the address, in bounded time and up to a size.
    ///
    /// # Errors
    /// As [`Outward::exchange`].
    pub async fn get(&self, bytes_max: usize) -> Result<Answer, String> {
        self.within(Request::new(String::new()), bytes_max).await
    }

    /// Sends a form there, likewise. `authorization` is a header's value.
    ///
    /// # Errors
    /// As [`Outward::exchange`].
    pub async fn post_form(
        &self,
        form: String,
        authorization: Option<&str>,
        bytes_max: usize,
    ) -> Result<Answer, String> {
        let mut request = Request::new(form);
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        let media_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, media_type);
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, value(authorization)?);
        }
        self.within(request, bytes_max).await
    }

    async fn within(
        &self,
        mut request: Request<String>,
        bytes_max: usize,
    ) -> Result<Answer, String> {
        const OURS: &str = concat!("fleetward/", env!("CARGO_PKG_VERSION"));
        *request.uri_mut() = self.path.parse().map_err(|_| RULE.to_owned())?;
        let headers = request.headers_mut();
        headers.insert(HOST, value(&self.authority())?);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(OURS));
        tokio::time::timeout(PATIENCE, self.ask(request, bytes_max))
            .await
            .unwrap_or_else(|_| Err(format!("{}: no answer in time", self.host)))
    }

    /// One request and its answer. The caller bounds the time.
    ///
    /// # Errors
    /// Nobody answers, or not as HTTP: the text holds no secret.
    pub async fn exchange(&self, request: Request<String>) -> Result<Answer, String> {
        self.ask(request, ANSWER_BYTES_MAX).await
    }

    async fn ask(&self, request: Request<String>, bytes_max: usize) -> Result<Answer, String> {
        let told = |e: &dyn std::fmt::Display| format!("{}: {e}", self.host);
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|e| told(&e))?;
        match &self.tls {
            None => {
                let here = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
                if !here {
                    return Err("plain HTTP goes to this machine only".to_owned());
                }
                exchange(stream, request, bytes_max).await
            }
            Some((tls, name)) => {
                let stream = tls
                    .connect(name.clone(), stream)
                    .await
                    .map_err(|e| told(&e))?;
                exchange(stream, request, bytes_max).await
            }
        }
        .map_err(|e| told(&e))
    }
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| "what is no header".to_owned())
}

/// TLS to whom these roots vouch for. `roots_key` names `roots_file` in the configuration; empty: this
/// system's.
///
/// # Errors
/// The roots cannot be used.
pub fn trusting(roots_key: &str, roots_file: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted(roots_key, roots_file)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
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

async fn exchange<S>(
    stream: S,
    request: Request<String>,
    bytes_max: usize,
) -> Result<Answer, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(16 * 1024)
        .handshake(TokioIo::new(stream))
        .await?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let (status, body) = (answer.status(), answer.into_body());
        let body = Limited::new(body, bytes_max).collect().await;
        let body = body.map_or_else(|_| Vec::new(), |body| body.to_bytes().to_vec());
        Ok(Answer { status, body })
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        answer = &mut answer => answer,
        // A receiver that closes behind its answer is heard all the same.
        _ = &mut connection => answer.await,
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
}
