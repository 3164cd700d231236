//! An MQTT client of our own, as far as a broker's control topic and forwarding need one: mutual TLS,
//! packets out and in. And a look from outside at whom a broker still believes.

use crate::certify::issuing::generate_key;
use crate::secret::{read_private, read_roots};
use anyhow::{Context, bail};
use mqtt::{Connect, ForwardProperties, Packet, Publish, Qos, Version, encode};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, Error, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PACKET_BYTES_MAX: usize = 64 * 1024;
/// As our own door takes at most, by its configuration.
const FORWARDED_BYTES_MAX: usize = 16 * 1024 * 1024;
const KEY_BYTES_MAX: u64 = 16 * 1024;
/// Plain enough for every broker.
const VERSION: Version = Version::V311;

pub struct Link {
    stream: TlsStream<TcpStream>,
    version: Version,
    received: Vec<u8>,
}

/// A client that shows a certificate.
///
/// # Errors
/// A file that cannot be used.
pub fn mutual(
    roots: RootCertStore,
    certificate_file: &Path,
    key_file: &Path,
) -> anyhow::Result<TlsConnector> {
    let shown = |file: &Path| file.display().to_string();
    let chain = read_roots(certificate_file).with_context(|| shown(certificate_file))?;
    let key = read_private(key_file, KEY_BYTES_MAX).with_context(|| shown(key_file))?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .ok()
        .with_context(|| format!("{} holds no private key in PEM", key_file.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok(TlsConnector::from(Arc::new(client)))
}

impl Link {
    /// # Errors
    /// The broker is not there, is not who it should be, or does not take us in.
    pub async fn open(
        address: (&str, u16),
        tls: &TlsConnector,
        name: &ServerName<'static>,
        client_id: &str,
    ) -> anyhow::Result<Self> {
        let connect = Connect::new(VERSION, client_id);
        Self::open_as(address, tls, name, &connect).await
    }

    /// As [`Self::open`], saying more. What came behind the CONNACK waits to be taken.
    ///
    /// # Errors
    /// As there.
    pub async fn open_as(
        address: (&str, u16),
        tls: &TlsConnector,
        name: &ServerName<'static>,
        connect: &Connect<'_>,
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("{}:{}", address.0, address.1))?;
        let stream = tls.connect(name.clone(), stream).await?;
        let mut link = Self {
            stream,
            version: connect.version,
            received: Vec::new(),
        };
        let mut out = Vec::new();
        encode::connect(&mut out, connect);
        link.stream.write_all(&out).await?;
        link.until(|packet| match packet {
            Packet::Connack(connack) if connack.reason.is_failure() => {
                bail!("it refuses our session ({:?})", connack.reason)
            }
            Packet::Connack(_) => Ok(Some(())),
            _ => Ok(None),
        })
        .await?;
        Ok(link)
    }

    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// # Errors
    /// The session ended.
    pub async fn send(&mut self, packets: &[u8]) -> anyhow::Result<()> {
        if !packets.is_empty() {
            self.stream.write_all(packets).await?;
            self.stream.flush().await?;
        }
        Ok(())
    }

    /// Returns when more has come. Nothing is lost if it is given up in between.
    ///
    /// # Errors
    /// The session ended.
    pub async fn receive(&mut self) -> anyhow::Result<()> {
        if self.stream.read_buf(&mut self.received).await? == 0 {
            bail!("it ended the session");
        }
        Ok(())
    }

    /// Hands out what has come, packet by packet, until `look` has enough.
    ///
    /// # Errors
    /// What is no packet of a server, or what `look` says.
    pub fn take(
        &mut self,
        mut look: impl FnMut(&Packet<'_>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        while let Some(length) = mqtt::frame_length(&self.received, FORWARDED_BYTES_MAX)
            .map_err(|error| anyhow::anyhow!("{error}"))?
        {
            let frame = self.received.get(..length).unwrap_or_default();
            let packet = mqtt::decode_from_server(self.version, frame)
                .map_err(|error| anyhow::anyhow!("{error}"))?;
            let goes_on = look(&packet)?;
            self.received.drain(..length);
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Sends a message and returns the next one on `answers`.
    ///
    /// # Errors
    /// The session ended.
    pub async fn ask(
        &mut self,
        topic: &str,
        payload: &[u8],
        answers: &str,
    ) -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::new();
        encode::subscribe(&mut out, VERSION, 1, &[(answers, Qos::AtMostOnce)]);
        self.stream.write_all(&out).await?;
        self.until(|packet| match packet {
            Packet::Suback(_) => Ok(Some(())),
            _ => Ok(None),
        })
        .await?;
        let mut out = Vec::new();
        let publish = Publish {
            dup: false,
            qos: Qos::AtLeastOnce,
            retain: false,
            topic,
            packet_id: Some(2),
            topic_alias: None,
            forward: ForwardProperties::NONE,
            payload,
        };
        encode::publish(&mut out, VERSION, &publish);
        self.stream.write_all(&out).await?;
        self.until(|packet| match packet {
            Packet::Publish(publish) if publish.topic == answers => {
                Ok(Some(publish.payload.to_vec()))
            }
            _ => Ok(None),
        })
        .await
    }

    /// Reads packets until one is what is waited for.
    async fn until<T>(
        &mut self,
        mut look: impl FnMut(Packet<'_>) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        loop {
            while let Some(length) = mqtt::frame_length(&self.received, PACKET_BYTES_MAX)
                .map_err(|error| anyhow::anyhow!("{error}"))?
            {
                let frame = self.received.get(..length).unwrap_or_default();
                let packet = mqtt::decode_from_server(self.version, frame)
                    .map_err(|error| anyhow::anyhow!("{error}"))?;
                let found = look(packet)?;
                self.received.drain(..length);
                if let Some(found) = found {
                    return Ok(found);
                }
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                bail!("it ended the session");
            }
        }
    }
}

/// Whether a broker's listener takes a certificate, without its key: whoever verifies a peer looks at
/// its certificate first (lists, CAs, time) and then at the signature by its key, and says by its
/// alert at which of the two it stopped.
pub struct Look {
    host: String,
    port: u16,
    name: ServerName<'static>,
    roots: Arc<RootCertStore>,
}

impl Look {
    pub fn new(host: String, port: u16, roots: RootCertStore) -> anyhow::Result<Self> {
        Ok(Self {
            name: ServerName::try_from(host.clone())?,
            host,
            port,
            roots: Arc::new(roots),
        })
    }

    /// # Errors
    /// Nobody is there, or it says nothing of certificates.
    pub async fn is_refused(&self, certificate: Vec<u8>) -> anyhow::Result<bool> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // A key that is nobody's: what is signed with it never holds.
        let key = generate_key().map_err(|trouble| anyhow::anyhow!("{trouble}"))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8.to_vec()));
        let key = provider.key_provider.load_private_key(key)?;
        let shown = CertifiedKey::new(vec![CertificateDer::from(certificate)], key);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_cert_resolver(Arc::new(Shown(Arc::new(shown))));
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .with_context(|| format!("{}:{}", self.host, self.port))?;
        let tls = TlsConnector::from(Arc::new(config));
        let ended = match tls.connect(self.name.clone(), stream).await {
            // In TLS 1.3 it is told with the first bytes that are read.
            Ok(mut stream) => stream.read(&mut [0; 16]).await.err(),
            Err(error) => Some(error),
        };
        let told = ended.as_ref().and_then(|error| error.get_ref());
        match told.and_then(|error| error.downcast_ref()) {
            Some(Error::AlertReceived(alert)) => Ok(REFUSING.contains(alert)),
            _ => match ended {
                Some(error) => Err(error).context("the listener does not say what it thinks"),
                None => bail!("the listener asks for no certificate"),
            },
        }
    }
}

/// What is said of a certificate, and not of the signature by its key.
const REFUSING: [AlertDescription; 6] = [
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::UnknownCA,
];

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
