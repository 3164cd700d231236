//! TLS 1.3 towards the plane: our certificate shown, its certificate held against the roots we
//! came with, and a wrong clock of ours no reason to stay outside.

use crate::clock::Clock;
use crate::config::Address;
use crate::failure::Failure;
use crate::waiting::Waiting;
use model::Timestamp;
use rustix::event::PollFlags;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What we are asked to hold at once, at most, of one read.
const READ_BYTES: usize = 16 * 1024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// An encrypted connection to the plane; never blocks but in [`Transport::open`].
pub struct Transport {
    tcp: TcpStream,
    tls: ClientConnection,
    peer: SocketAddr,
}

/// What is the same for every connection.
#[derive(Debug, Clone)]
pub struct Trust {
    pub roots: Arc<RootCertStore>,
    pub source_address: Option<IpAddr>,
    /// Where the plane was reached, while nobody can be asked for its name; empty: its name is asked
    /// for.
    pub reached: Vec<IpAddr>,
}

impl Transport {
    /// Connects and completes the handshake as far as a client can tell: in TLS 1.3 a refused
    /// certificate shows on the first read only.
    ///
    /// # Errors
    /// [`Failure`]; [`Failure::Stopped`] as soon as we are asked to end.
    pub fn open(
        to: &Address,
        shown: Option<&Arc<CertifiedKey>>,
        alpn: &[u8],
        trust: &Trust,
        clock: &mut Clock,
        waiting: &Waiting,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let config = config(shown, alpn, trust, clock)?;
        let name = ServerName::try_from(to.server_name.clone())
            .map_err(|_| Failure::Protocol("a server name that is none"))?;
        let (tcp, peer) = connect(to, trust, waiting, deadline)?;
        let tls = ClientConnection::new(config, name).map_err(|e| Failure::Tls(e.to_string()))?;
        let mut transport = Self { tcp, tls, peer };
        while transport.tls.is_handshaking() || transport.tls.wants_write() {
            transport.step()?;
            if transport.tls.is_handshaking() || transport.tls.wants_write() {
                waiting.for_one(transport.tcp.as_fd(), transport.interest(), deadline)?;
            }
        }
        if let Some((not_before, _)) = transport.plane_validity() {
            // It is signed by our root: the plane has seen this time.
            clock.raise(not_before);
        }
        Ok(transport)
    }

    /// Reads what has come, into `out`, and writes what is due. Never blocks.
    ///
    /// # Errors
    /// [`Failure`]; what came before the end is in `out` all the same.
    pub fn turn(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let moved = self.step();
        let mut chunk = [0; READ_BYTES];
        loop {
            match self.tls.reader().read(&mut chunk) {
                Ok(0) => {
                    moved?;
                    return Err(cut());
                }
                Ok(length) => out.extend_from_slice(chunk.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return moved,
                Err(error) => {
                    moved?;
                    return Err(error.into());
                }
            }
        }
    }

    /// Hands bytes over to be encrypted; [`Self::turn`] sends them.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.tls.writer().write_all(bytes)?)
    }

    /// What to wait for.
    pub fn interest(&self) -> PollFlags {
        if self.tls.wants_write() {
            PollFlags::IN | PollFlags::OUT
        } else {
            PollFlags::IN
        }
    }

    /// The plane's address in this connection.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// From when to when the plane's certificate is valid.
    pub fn plane_validity(&self) -> Option<(Timestamp, Timestamp)> {
        let certificate = self.tls.peer_certificates()?.first()?;
        crate::credential::validity(certificate).ok()
    }

    /// Says goodbye in TLS, as well as it goes at once.
    pub fn close(mut self) {
        self.tls.send_close_notify();
        let _ = self.step();
    }

    fn step(&mut self) -> Result<(), Failure> {
        loop {
            match self.tls.read_tls(&mut self.tcp) {
                Ok(0) => {
                    self.tls.process_new_packets().map_err(|e| failure_of(&e))?;
                    return Err(cut());
                }
                Ok(_) => {
                    if let Err(error) = self.tls.process_new_packets() {
                        // Our own alert, if it is we who refuse.
                        let _ = self.tls.write_tls(&mut self.tcp);
                        return Err(failure_of(&error));
                    }
                    // One read's worth at a time: the caller drains before more comes.
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.tcp) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

fn cut() -> Failure {
    Failure::Unreachable(io::ErrorKind::ConnectionReset.into())
}

/// Tries the addresses of a name in turn.
fn connect(
    to: &Address,
    trust: &Trust,
    waiting: &Waiting,
    deadline: Instant,
) -> Result<(TcpStream, SocketAddr), Failure> {
    let unresolved = || Failure::Unresolved(to.host.clone());
    let addresses: Vec<SocketAddr> = if trust.reached.is_empty() {
        (to.host.as_str(), to.port)
            .to_socket_addrs()
            .map_err(|_| unresolved())?
            .collect()
    } else {
        let at = |address: &IpAddr| SocketAddr::new(*address, to.port);
        trust.reached.iter().map(at).collect()
    };
    let mut last = unresolved();
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        match connect_one(address, trust.source_address, waiting, deadline) {
            Ok(tcp) => return Ok((tcp, address)),
            Err(Failure::Stopped) => return Err(Failure::Stopped),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

fn connect_one(
    address: SocketAddr,
    from: Option<IpAddr>,
    waiting: &Waiting,
    deadline: Instant,
) -> Result<TcpStream, Failure> {
    use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket =
        net::socket_with(family, SocketType::STREAM, flags, None).map_err(io::Error::from)?;
    if let Some(from) = from.filter(|from| from.is_ipv4() == address.is_ipv4()) {
        net::bind(&socket, &SocketAddr::new(from, 0)).map_err(io::Error::from)?;
    }
    match net::connect(&socket, &address) {
        Ok(()) => {}
        Err(rustix::io::Errno::INPROGRESS) => {
            waiting.for_one(socket.as_fd(), PollFlags::OUT, deadline)?;
            net::sockopt::socket_error(&socket)
                .map_err(io::Error::from)?
                .map_err(io::Error::from)?;
        }
        Err(error) => return Err(io::Error::from(error).into()),
    }
    let tcp = TcpStream::from(socket);
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

fn config(
    shown: Option<&Arc<CertifiedKey>>,
    alpn: &[u8],
    trust: &Trust,
    clock: &Clock,
) -> Result<Arc<ClientConfig>, Failure> {
    let tls = |error: Error| Failure::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(trust.roots.clone(), provider.clone())
        .build()
        .map_err(|error| Failure::Tls(error.to_string()))?;
    let verifier = PlaneVerifier {
        inner,
        now: clock.now(),
        floor: clock.floor(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match shown {
        Some(shown) => builder.with_client_cert_resolver(Arc::new(Shown(shown.clone()))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    // Each connection is proven anew, as the plane asks for it.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Holds the plane's certificate against our roots and its name. Its time is judged leniently:
/// where our clock alone calls it not yet valid or expired, it is taken at its own time, as
/// long as that does not lie before what the plane has proven to us. Without this, a device
/// whose clock stands in 1970 would be locked out for good.
#[derive(Debug)]
struct PlaneVerifier {
    inner: Arc<WebPkiServerVerifier>,
    now: Timestamp,
    floor: Timestamp,
}

impl ServerCertVerifier for PlaneVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        /// One for each certificate of a path that is long.
        const TRIES: usize = 6;
        let floor = self.floor.as_seconds();
        let mut at = self.now.as_seconds().max(floor);
        let mut outcome = Err(Error::InvalidCertificate(CertificateError::Expired));
        for _ in 0..TRIES {
            let time = UnixTime::since_unix_epoch(Duration::from_secs(at));
            outcome = self
                .inner
                .verify_server_cert(end_entity, intermediates, name, ocsp, time);
            at = match &outcome {
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before,
                    ..
                })) if not_before.as_secs() > at => not_before.as_secs(),
                Err(Error::InvalidCertificate(CertificateError::ExpiredContext {
                    not_after,
                    ..
                })) if (floor..at).contains(&not_after.as_secs()) => not_after.as_secs(),
                _ => break,
            };
        }
        outcome
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        CryptoProvider::get_default().map_or_else(
            || self.inner.supported_verify_schemes(),
            |provider| {
                provider
                    .signature_verification_algorithms
                    .supported_schemes()
            },
        )
    }
}

fn failure_of(error: &Error) -> Failure {
    match error {
        Error::AlertReceived(alert) => match certificate_alert(*alert) {
            Some(name) => Failure::Alert(name),
            None => Failure::Tls(error.to_string()),
        },
        _ => Failure::Tls(error.to_string()),
    }
}

/// The alerts by which a certificate is refused (RFC 8446 section 6.2).
const fn certificate_alert(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::BadCertificate => "bad_certificate",
        AlertDescription::UnsupportedCertificate => "unsupported_certificate",
        AlertDescription::CertificateRevoked => "certificate_revoked",
        AlertDescription::CertificateExpired => "certificate_expired",
        AlertDescription::CertificateUnknown => "certificate_unknown",
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::AccessDenied => "access_denied",
        AlertDescription::DecryptError => "decrypt_error",
        AlertDescription::CertificateRequired => "certificate_required",
        _ => return None,
    })
}

#[cfg(test)]
mod limbo_tests;
#[cfg(test)]
mod tests;
