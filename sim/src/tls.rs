//! The client's side of TLS: what it offers and presents, and how it learns that it is refused.

use crate::credential::Presented;
use crate::refusal::{Refusal, SetupError};
use rustls::client::{
    ClientConnection, ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption,
    Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore,
    SignatureScheme, version,
};
use rustls_pki_types::{CertificateDer, ServerName};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A server, and what proves that it is the one meant.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub address: SocketAddr,
    server_name: ServerName<'static>,
    roots: Arc<RootCertStore>,
}

impl Endpoint {
    /// `server_name` is what the server's certificate must bear, and the SNI (an IP address is
    /// not sent as SNI). `roots` are trust anchors in DER.
    ///
    /// # Errors
    /// If the name is not one, or a root is not a certificate.
    pub fn new(
        address: SocketAddr,
        server_name: &str,
        roots: &[Vec<u8>],
    ) -> Result<Self, SetupError> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(CertificateDer::from(root.clone()))?;
        }
        Ok(Self {
            address,
            server_name: parse_server_name(server_name)?,
            roots: Arc::new(store),
        })
    }

    /// The same server called by another name.
    ///
    /// # Errors
    /// If the name is not one.
    pub fn named(&self, server_name: &str) -> Result<Self, SetupError> {
        Ok(Self {
            server_name: parse_server_name(server_name)?,
            ..self.clone()
        })
    }

    /// `host:port` for HTTP.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.server_name.to_str(), self.address.port())
    }
}

/// Which versions of TLS the client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versions {
    #[default]
    Both,
    Only12,
    Only13,
}

/// Which key exchanges the client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Groups {
    /// All that the library has, the hybrid first.
    #[default]
    All,
    /// X25519MLKEM768 alone.
    Hybrid,
    /// X25519 alone.
    Classic,
}

/// What the client offers.
#[derive(Debug, Clone)]
pub struct Options {
    pub versions: Versions,
    pub groups: Groups,
    /// Empty: no ALPN extension.
    pub alpn: Vec<Vec<u8>>,
    /// Whether to name the server in the hello (SNI).
    pub send_server_name: bool,
    /// Whether to keep tickets, and to offer them at the next connection.
    pub resume: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            versions: Versions::Both,
            groups: Groups::All,
            alpn: Vec::new(),
            send_server_name: true,
            resume: false,
        }
    }
}

/// One identity at one server: connections made by the same `Client` (or its clones) share
/// session tickets.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    config: Arc<ClientConfig>,
    tickets: Option<Arc<Tickets>>,
}

impl Client {
    /// `presented`: the certificate to show if asked for one; it is shown whatever issuers the
    /// server names, and whether or not the key fits.
    ///
    /// # Errors
    /// If the TLS library refuses the settings.
    pub fn new(
        endpoint: &Endpoint,
        presented: Option<&Presented>,
        options: &Options,
    ) -> Result<Self, SetupError> {
        let versions: &[&rustls::SupportedProtocolVersion] = match options.versions {
            Versions::Both => &[&version::TLS13, &version::TLS12],
            Versions::Only12 => &[&version::TLS12],
            Versions::Only13 => &[&version::TLS13],
        };
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        match options.groups {
            Groups::All => {}
            Groups::Hybrid => provider.kx_groups = vec![kx_group::X25519MLKEM768],
            Groups::Classic => provider.kx_groups = vec![kx_group::X25519],
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)?
            .with_root_certificates(endpoint.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols.clone_from(&options.alpn);
        config.enable_sni = options.send_server_name;
        config.resumption = Resumption::disabled();
        let mut client = Self {
            endpoint: endpoint.clone(),
            config: Arc::new(config),
            tickets: options.resume.then(Arc::default),
        };
        client.present(presented);
        Ok(client)
    }

    /// The same offer by somebody else, with tickets of its own. Cheap.
    #[must_use]
    pub fn presenting(&self, presented: &Presented) -> Self {
        let mut client = Self {
            tickets: self.tickets.as_ref().map(|_| Arc::default()),
            ..self.clone()
        };
        client.present(Some(presented));
        client
    }

    fn present(&mut self, presented: Option<&Presented>) {
        let config = Arc::make_mut(&mut self.config);
        if let Some(Presented(certified)) = presented {
            config.client_auth_cert_resolver = Arc::new(Always(certified.clone()));
        }
        if let Some(tickets) = &self.tickets {
            config.resumption = Resumption::store(tickets.clone());
        }
    }

    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Tickets (or TLS 1.2 sessions) the server has given us so far.
    #[must_use]
    pub fn tickets_received(&self) -> u32 {
        self.tickets
            .as_ref()
            .map_or(0, |tickets| tickets.received.load(Ordering::Relaxed))
    }

    /// Tickets (or TLS 1.2 sessions) we have offered so far.
    #[must_use]
    pub fn tickets_offered(&self) -> u32 {
        self.tickets
            .as_ref()
            .map_or(0, |tickets| tickets.offered.load(Ordering::Relaxed))
    }

    /// A connection's TLS state; the caller moves the bytes.
    pub(crate) fn start(&self) -> Result<ClientConnection, SetupError> {
        Ok(ClientConnection::new(
            self.config.clone(),
            self.endpoint.server_name.clone(),
        )?)
    }

    /// Connects, and completes the handshake as far as the client can tell: in TLS 1.3 a refused
    /// certificate shows on the first read only.
    ///
    /// # Errors
    /// Any [`Refusal`] of TCP or TLS.
    pub fn connect(&self, patience: Duration) -> Result<Transport, Refusal> {
        let deadline = Instant::now() + patience;
        let tcp = TcpStream::connect_timeout(&self.endpoint.address, patience)
            .map_err(|error| Refusal::Unreachable(error.kind()))?;
        tcp.set_nodelay(true)
            .map_err(|error| Refusal::Unreachable(error.kind()))?;
        let mut transport = Transport {
            tcp,
            tls: self.start()?,
        };
        while transport.tls.is_handshaking() {
            transport.flush(deadline)?;
            if transport.tls.is_handshaking() {
                transport.read_records(deadline)?;
            }
        }
        transport.flush(deadline)?;
        Ok(transport)
    }
}

/// An encrypted connection with deadlines.
#[derive(Debug)]
pub struct Transport {
    tcp: TcpStream,
    tls: ClientConnection,
}

impl Transport {
    /// # Errors
    /// [`Refusal::Timeout`] if the server does not take the bytes; what the server said before
    /// it went away, if it did; [`Refusal::Cut`] otherwise.
    pub fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), Refusal> {
        while !bytes.is_empty() {
            let taken = self.tls.writer().write(bytes).map_err(|_| Refusal::Cut)?;
            bytes = bytes.get(taken..).unwrap_or_default();
            self.flush(deadline)?;
        }
        Ok(())
    }

    /// Appends what comes next to `out`, at least one byte and at most 16 KiB.
    ///
    /// # Errors
    /// [`Refusal::Alert`], [`Refusal::Closed`], [`Refusal::Cut`], [`Refusal::Timeout`].
    pub fn read(&mut self, out: &mut Vec<u8>, deadline: Instant) -> Result<(), Refusal> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.tls.reader().read(&mut chunk) {
                Ok(0) => return Err(Refusal::Closed),
                Ok(length) => {
                    out.extend_from_slice(chunk.get(..length).unwrap_or_default());
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.read_records(deadline)?;
                }
                Err(_) => return Err(Refusal::Cut),
            }
        }
    }

    /// True if the server took a ticket of ours, so that it did not ask for our certificate.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    #[must_use]
    pub fn is_tls13(&self) -> bool {
        self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// The ALPN protocol that the server chose.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// Says goodbye in TLS and closes, as well as it goes.
    pub fn close(mut self) {
        self.tls.send_close_notify();
        let _ = self.flush(Instant::now() + Duration::from_millis(100));
        let _ = self.tcp.shutdown(Shutdown::Both);
    }

    fn flush(&mut self, deadline: Instant) -> Result<(), Refusal> {
        while self.tls.wants_write() {
            let left = time_left(deadline)?;
            let written = self
                .tcp
                .set_write_timeout(Some(left))
                .and_then(|()| self.tls.write_tls(&mut self.tcp));
            match written {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Err(Refusal::Timeout),
                // The reason may already lie in the receive buffer.
                Err(_) => {
                    return Err(loop {
                        if let Err(refusal) = self.read_records(deadline) {
                            break refusal;
                        }
                    });
                }
            }
        }
        Ok(())
    }

    fn read_records(&mut self, deadline: Instant) -> Result<(), Refusal> {
        let left = time_left(deadline)?;
        let read = self
            .tcp
            .set_read_timeout(Some(left))
            .and_then(|()| self.tls.read_tls(&mut self.tcp));
        match read {
            Ok(0) => return Err(Refusal::Cut),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) if is_timeout(&error) => return Err(Refusal::Timeout),
            Err(_) => return Err(Refusal::Cut),
        }
        if let Err(error) = self.tls.process_new_packets() {
            // Best effort: our own alert, if we are the one who refuses.
            let _ = self.tls.write_tls(&mut self.tcp);
            return Err(refusal_of(&error));
        }
        Ok(())
    }
}

/// How a failure of TLS looks from the client's side.
pub(crate) fn refusal_of(error: &rustls::Error) -> Refusal {
    match error {
        rustls::Error::AlertReceived(alert) => Refusal::Alert(alert_name(*alert)),
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::PeerIncompatible(_)
        | rustls::Error::NoCertificatesPresented
        | rustls::Error::UnsupportedNameType => Refusal::Untrusted(error.to_string()),
        _ => Refusal::Protocol(error.to_string()),
    }
}

/// The name in the standards (RFC 8446 section 6, RFC 5246 section 7.2).
fn alert_name(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CloseNotify => "close_notify",
        AlertDescription::UnexpectedMessage => "unexpected_message",
        AlertDescription::BadRecordMac => "bad_record_mac",
        AlertDescription::RecordOverflow => "record_overflow",
        AlertDescription::HandshakeFailure => "handshake_failure",
        AlertDescription::BadCertificate => "bad_certificate",
        AlertDescription::UnsupportedCertificate => "unsupported_certificate",
        AlertDescription::CertificateRevoked => "certificate_revoked",
        AlertDescription::CertificateExpired => "certificate_expired",
        AlertDescription::CertificateUnknown => "certificate_unknown",
        AlertDescription::IllegalParameter => "illegal_parameter",
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::AccessDenied => "access_denied",
        AlertDescription::DecodeError => "decode_error",
        AlertDescription::DecryptError => "decrypt_error",
        AlertDescription::ProtocolVersion => "protocol_version",
        AlertDescription::InsufficientSecurity => "insufficient_security",
        AlertDescription::InternalError => "internal_error",
        AlertDescription::InappropriateFallback => "inappropriate_fallback",
        AlertDescription::UserCanceled => "user_canceled",
        AlertDescription::NoRenegotiation => "no_renegotiation",
        AlertDescription::MissingExtension => "missing_extension",
        AlertDescription::UnsupportedExtension => "unsupported_extension",
        AlertDescription::UnrecognisedName => "unrecognized_name",
        AlertDescription::CertificateRequired => "certificate_required",
        AlertDescription::NoApplicationProtocol => "no_application_protocol",
        _ => "other",
    }
}

fn parse_server_name(text: &str) -> Result<ServerName<'static>, SetupError> {
    ServerName::try_from(text.to_owned()).map_err(|_| SetupError::ServerName(text.to_owned()))
}

fn time_left(deadline: Instant) -> Result<Duration, Refusal> {
    let left = deadline.saturating_duration_since(Instant::now());
    // A zero timeout would mean none at all.
    if left.is_zero() {
        Err(Refusal::Timeout)
    } else {
        Ok(left)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Shows one certificate whatever the server asks for. rustls' own way refuses a certificate
/// whose key is another, which is one of the attacks.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Session tickets, counted.
#[derive(Debug)]
struct Tickets {
    cache: ClientSessionMemoryCache,
    received: AtomicU32,
    offered: AtomicU32,
}

impl Default for Tickets {
    fn default() -> Self {
        Self {
            cache: ClientSessionMemoryCache::new(8),
            received: AtomicU32::new(0),
            offered: AtomicU32::new(0),
        }
    }
}

impl Tickets {
    fn count_offer<T>(&self, found: Option<T>) -> Option<T> {
        if found.is_some() {
            self.offered.fetch_add(1, Ordering::Relaxed);
        }
        found
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.cache.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.cache.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.cache.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.count_offer(self.cache.tls12_session(server_name))
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.cache.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(
        &self,
        server_name: ServerName<'static>,
        value: Tls13ClientSessionValue,
    ) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.cache.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(
        &self,
        server_name: &ServerName<'static>,
    ) -> Option<Tls13ClientSessionValue> {
        self.count_offer(self.cache.take_tls13_ticket(server_name))
    }
}
