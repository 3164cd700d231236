//! HTTPS to one CA: a connection a request, with caps on what it may answer and how long.

use crate::clock;
use crate::secret::trusted;
use crate::served::settings::AcmeSettings;
use crate::shared::Locked;
use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use model::Timestamp;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const ANSWER_BYTES_MAX: usize = 256 * 1024;
const ANSWER_SECONDS_MAX: Duration = Duration::from_secs(30);
/// A CA that wants to be left alone for longer is asked again all the same.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(7 * 86_400);

/// A client that remembers when it may ask again.
#[derive(Clone)]
pub struct Http {
    tls: TlsConnector,
    not_before: Arc<Locked<Option<Timestamp>>>,
}

impl Http {
    /// # Errors
    /// No root can be read.
    pub fn new(settings: &AcmeSettings) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = trusted("listen.acme.roots_file", &settings.roots_file)?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            not_before: Arc::default(),
        })
    }

    /// When the last refusal said to come back (Retry-After, RFC 9110 section 10.2.3).
    pub fn not_before(&self) -> Option<Timestamp> {
        *self.not_before.lock()
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let answer = tokio::time::timeout(ANSWER_SECONDS_MAX, exchange(&client.tls, request));
            let answer = match answer.await {
                Ok(answer) => answer.map_err(|error| Error::Other(error.into()))?,
                Err(_) => return Err(Error::Str("an answer within 30 seconds")),
            };
            if !answer.status().is_success() {
                *client.not_before.lock() = answer.headers().get(RETRY_AFTER).and_then(told);
            }
            Ok(BytesResponse::from(answer))
        })
    }
}

async fn exchange(
    tls: &TlsConnector,
    mut request: Request<BodyWrapper<Bytes>>,
) -> anyhow::Result<Response<Full<Bytes>>> {
    // An address that a CA hands out may lead anywhere, but only over HTTPS that our roots vouch for.
    let uri = request.uri().clone();
    let authority = uri.authority().context("an address without a host")?;
    if uri.scheme_str() != Some("https") || authority.as_str().contains('@') {
        bail!("an address that is not https://");
    }
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).context("an address without a host")?;
    let header = HeaderValue::from_str(authority.as_str())?;
    request.headers_mut().insert(HOST, header);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>()?;

    let port = authority.port_u16().unwrap_or(443);
    let stream = TcpStream::connect((host, port))
        .await
        .context("no connection")?;
    let stream = tls.connect(name, stream).await.context("no TLS")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("its answer: {error}"))?;
        Ok(Response::from_parts(parts, Full::new(body.to_bytes())))
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        answer = &mut answer => answer,
        // It closed behind its answer, or broke off, which the answer will tell.
        _ = &mut connection => answer.await,
    }
}

/// Seconds or a date.
fn told(value: &HeaderValue) -> Option<Timestamp> {
    let text = value.to_str().ok()?.trim();
    let now = clock::now();
    let at = match text.parse::<u64>() {
        Ok(seconds) => now.plus(Duration::from_secs(seconds).min(RETRY_AFTER_MAX)),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Timestamp::from_seconds(u64::try_from(date.as_second()).ok()?)
        }
    };
    Some(at.min(now.plus(RETRY_AFTER_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms_and_capped() {
        let read = |text: &str| told(&HeaderValue::from_str(text).unwrap());
        let now = clock::now();
        let hour = read("3600").unwrap().since(now);
        assert!(hour >= Duration::from_secs(3600) && hour < Duration::from_secs(3700));
        // A date that has passed asks for no pause.
        assert_eq!(
            read("Fri, 31 Dec 1999 23:59:59 GMT"),
            Some(Timestamp::from_seconds(946_684_799))
        );
        let far = read("Tue, 31 Dec 2999 23:59:59 GMT").unwrap();
        assert!(far <= clock::now().plus(RETRY_AFTER_MAX));
        assert!(read("99999999999").unwrap() <= clock::now().plus(RETRY_AFTER_MAX));
        assert_eq!(read("soon"), None);
    }
}
