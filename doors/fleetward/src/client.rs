//! Speaking HTTP/1.1 to a plane: over its local socket, or over mutual TLS from another machine.
//!
//! A blocking face for a command line; answers are capped in size and in time.

use crate::files;
use anyhow::{Context, anyhow, bail};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Deserialize;
use serde_json::Value;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

/// A JSON answer: a thousand entries of the largest kind fit.
pub const JSON_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The plane gives up after 60 seconds; it is left to say so.
const ANSWER_SECONDS_MAX: Duration = Duration::from_secs(75);
/// Of a list, after 600.
const LIST_SECONDS_MAX: Duration = Duration::from_secs(615);
const CONNECT_SECONDS_MAX: Duration = Duration::from_secs(15);
const PEM_BYTES_MAX: usize = 256 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;
const EVENT_BYTES_MAX: usize = 64 * 1024;

/// A plane that is spoken to. The connection is made at the first request and kept.
pub struct Client {
    runtime: Runtime,
    target: Target,
    connection: Option<SendRequest<Upload>>,
}

enum Target {
    Local {
        socket: PathBuf,
    },
    Remote {
        authority: String,
        name: ServerName<'static>,
        tls: TlsConnector,
    },
}

/// What is asked.
pub struct Ask<'a> {
    method: Method,
    path: &'a str,
    media_type: &'static str,
    body: Vec<u8>,
    progress: ProgressBar,
    patience: Duration,
    version: Option<u64>,
}

impl<'a> Ask<'a> {
    #[must_use]
    pub fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            media_type: "",
            body: Vec::new(),
            progress: ProgressBar::hidden(),
            patience: ANSWER_SECONDS_MAX,
            version: None,
        }
    }

    #[must_use]
    pub fn post(path: &'a str) -> Self {
        Self {
            method: Method::POST,
            ..Self::get(path)
        }
    }

    #[must_use]
    pub fn put(path: &'a str) -> Self {
        Self {
            method: Method::PUT,
            ..Self::get(path)
        }
    }

    #[must_use]
    pub fn delete(path: &'a str) -> Self {
        Self {
            method: Method::DELETE,
            ..Self::get(path)
        }
    }

    /// Only if nobody changed it since this version was looked at.
    #[must_use]
    pub fn if_version(self, version: u64) -> Self {
        Self {
            version: Some(version),
            ..self
        }
    }

    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.text("application/json", body.to_string())
    }

    #[must_use]
    pub fn text(self, media_type: &'static str, body: String) -> Self {
        Self {
            media_type,
            body: body.into_bytes(),
            ..self
        }
    }

    /// A list, which may take its time: shows how much of it has been sent.
    #[must_use]
    pub fn shown_by(self, progress: ProgressBar) -> Self {
        Self {
            progress,
            patience: LIST_SECONDS_MAX,
            ..self
        }
    }
}

/// The plane's no, as it said it (RFC 9457).
#[derive(Debug, Deserialize)]
pub struct Refused {
    #[serde(default)]
    pub status: u16,
    pub code: String,
    pub detail: String,
    #[serde(default)]
    pub who_must_act: Option<String>,
    /// Where in a list or a fleet it is wrong, a line each.
    #[serde(default)]
    pub errors: Vec<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.detail, self.code)?;
        match &self.who_must_act {
            Some(who) => write!(f, "; {who} must act)"),
            None => f.write_str(")"),
        }
    }
}

impl std::error::Error for Refused {}

impl Client {
    /// The plane of this machine, by the socket in its data folder.
    ///
    /// # Errors
    /// The system refuses a runtime.
    pub fn local(socket: &Path) -> anyhow::Result<Self> {
        Self::new(Target::Local {
            socket: socket.to_owned(),
        })
    }

    /// A plane's door for devices and services: `https://host:8444`. Trusts the root in `ca`
    /// alone, and shows the service's certificate.
    ///
    /// # Errors
    /// The address, the files, or a key that others may read.
    pub fn remote(url: &str, ca: &Path, certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().ok().with_context(|| wrong_url(url))?;
        let authority = uri.authority().with_context(|| wrong_url(url))?;
        let bare = uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/");
        if !bare || uri.query().is_some() || authority.as_str().contains('@') {
            bail!(wrong_url(url));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .ok()
            .with_context(|| wrong_url(url))?;
        let port = authority.port_u16().unwrap_or(443);

        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots
                .add(root)
                .with_context(|| format!("{} is refused", files::shown(ca)))?;
        }
        let pem = files::read_secret(key, PEM_BYTES_MAX)?;
        let private = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| anyhow!("{} holds no private key in PEM", files::shown(key)))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(certificate)?, private)
            .with_context(|| {
                let (certificate, key) = (files::shown(certificate), files::shown(key));
                format!("{certificate} and {key} do not belong together")
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Self::new(Target::Remote {
            authority,
            name,
            tls,
        })
    }

    fn new(target: Target) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            target,
            connection: None,
        })
    }

    /// Asks, and reads the answer as JSON; an empty one is `null`.
    ///
    /// # Errors
    /// [`Refused`] if the plane says no; else what stands between us and it.
    pub fn json(&mut self, ask: Ask<'_>) -> anyhow::Result<Value> {
        let body = self.bytes(ask, JSON_BYTES_MAX)?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).context("the plane's answer is not JSON; update this program")
    }

    /// Asks, and reads at most `bytes_max` bytes.
    ///
    /// # Errors
    /// As [`Client::json`].
    pub fn bytes(&mut self, ask: Ask<'_>, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
        let (path, patience) = (ask.path, ask.patience);
        let (sender, status, body) = self.send(ask)?;
        let body = (self.runtime)
            .block_on(async { tokio::time::timeout(patience, collected(body, bytes_max)).await })
            .context("the plane did not answer in time")?
            .context("the plane ended the connection")?;
        self.connection = Some(sender);
        if status.is_success() {
            return Ok(body);
        }
        Err(refused(path, status, &body))
    }

    /// Asks for server-sent events, and hands over the data of each until the plane ends them.
    ///
    /// # Errors
    /// As [`Client::json`]; what `each` says.
    pub fn events(
        &mut self,
        ask: Ask<'_>,
        mut each: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let path = ask.path;
        let (_sender, status, mut body) = self.send(ask)?;
        if !status.is_success() {
            let body = self.runtime.block_on(collected(body, PEM_BYTES_MAX))?;
            return Err(refused(path, status, &body));
        }
        self.runtime.block_on(async {
            let mut waiting = Vec::new();
            while let Some(frame) = poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
                let Ok(chunk) = frame?.into_data() else {
                    continue;
                };
                waiting.extend_from_slice(&chunk);
                while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = waiting.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line);
                    if let Some(data) = line.trim_end().strip_prefix("data: ") {
                        each(data)?;
                    }
                }
                if waiting.len() > EVENT_BYTES_MAX {
                    bail!("an event has more than {EVENT_BYTES_MAX} bytes");
                }
            }
            Ok(())
        })
    }

    /// Asks, and waits for the head of the answer.
    fn send(
        &mut self,
        ask: Ask<'_>,
    ) -> anyhow::Result<(SendRequest<Upload>, StatusCode, Incoming)> {
        let Self {
            runtime,
            target,
            connection,
        } = self;
        let host = match target {
            Target::Local { .. } => "localhost",
            Target::Remote { authority, .. } => authority,
        };
        let mut request = Request::builder()
            .method(ask.method)
            .uri(ask.path)
            .header(header::HOST, host)
            .header(
                header::USER_AGENT,
                concat!("fleetward/", env!("CARGO_PKG_VERSION")),
            );
        if !ask.media_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, ask.media_type);
        }
        if let Some(version) = ask.version {
            request = request.header(header::IF_MATCH, format!("\"{version}\""));
        }
        let patience = ask.patience;
        let body = Upload {
            bytes: ask.body.into(),
            progress: ask.progress,
        };
        let request = request.body(body)?;

        let mut sender = match connection.take() {
            Some(open) if !open.is_closed() => open,
            _ => {
                let connecting = connect(target);
                let within = runtime.block_on(async {
                    tokio::time::timeout(CONNECT_SECONDS_MAX, connecting).await
                });
                let (sender, driven) = within.context("the plane did not answer in time")??;
                runtime.spawn(driven);
                sender
            }
        };
        let exchange = async {
            sender.ready().await?;
            anyhow::Ok(sender.send_request(request).await?.into_parts())
        };
        let (head, body) = runtime
            .block_on(async { tokio::time::timeout(patience, exchange).await })
            .context("the plane did not answer in time")?
            .context("the plane ended the connection")?;
        Ok((sender, head.status, body))
    }
}

fn refused(path: &str, status: StatusCode, body: &[u8]) -> anyhow::Error {
    match serde_json::from_slice::<Refused>(body) {
        Ok(refused) => anyhow::Error::new(refused),
        Err(_) => anyhow!("the plane answered {status} to {path} without saying why"),
    }
}

type Driven = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn connect(target: &Target) -> anyhow::Result<(SendRequest<Upload>, Driven)> {
    match target {
        Target::Local { socket } => {
            let stream = UnixStream::connect(socket)
                .await
                .map_err(|e| not_there(socket, &e))?;
            shake_hands(stream).await
        }
        Target::Remote {
            authority,
            name,
            tls,
        } => {
            let unreachable = || format!("{authority} cannot be reached");
            let stream = TcpStream::connect(authority)
                .await
                .with_context(unreachable)?;
            stream.set_nodelay(true)?;
            let stream = tls
                .connect(name.clone(), stream)
                .await
                .with_context(|| format!("{authority} and this program do not trust each other"))?;
            shake_hands(stream).await
        }
    }
}

async fn shake_hands<S>(stream: S) -> anyhow::Result<(SendRequest<Upload>, Driven)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors reach us through the request that they end.
    Ok((sender, Box::pin(async { drop(connection.await) })))
}

async fn collected(mut body: Incoming, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
        let Ok(chunk) = frame?.into_data() else {
            continue;
        };
        if bytes.len() + chunk.len() > bytes_max {
            bail!("the answer has more than {bytes_max} bytes");
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A request's body that says how far it is.
struct Upload {
    bytes: Bytes,
    progress: ProgressBar,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        let chunk = self.bytes.len().min(CHUNK_BYTES);
        let chunk = self.bytes.split_to(chunk);
        self.progress.inc(chunk.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

fn not_there(socket: &Path, error: &std::io::Error) -> anyhow::Error {
    let data = files::shown(socket.parent().unwrap_or(socket));
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow!(
            "no plane is running in {data}; start it with `fleetward serve --data {data}`, or \
             name its folder with --data"
        ),
        ErrorKind::PermissionDenied => anyhow!(
            "the plane in {data} answers only root and the user it runs as; run this command as \
             one of them"
        ),
        _ => anyhow!("{} cannot be opened: {error}", files::shown(socket)),
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = files::read(path, PEM_BYTES_MAX)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => bail!("{} holds no certificate in PEM", files::shown(path)),
    }
}

fn wrong_url(url: &str) -> String {
    let url = crate::show::escaped(url);
    format!("{url} is no address of a plane; write https://host:8444 and nothing behind it")
}
