//! An MQTT client of our own, as far as a broker's control topic needs one: mutual TLS, one
//! subscription, one message, its answer.

use anyhow::{Context, bail};
use mqtt::{Connect, ForwardProperties, Packet, Publish, Qos, Version, encode};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PACKET_BYTES_MAX: usize = 64 * 1024;
/// Plain enough for every broker.
const VERSION: Version = Version::V311;

pub struct Link {
    stream: TlsStream<TcpStream>,
    received: Vec<u8>,
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
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("{}:{}", address.0, address.1))?;
        let stream = tls.connect(name.clone(), stream).await?;
        let mut link = Self {
            stream,
            received: Vec::new(),
        };
        let mut out = Vec::new();
        encode::connect(&mut out, &Connect::new(VERSION, client_id));
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
                let packet = mqtt::decode_from_server(VERSION, frame)
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
