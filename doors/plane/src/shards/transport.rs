//! One TLS connection over one non-blocking socket, by rustls' unbuffered interface.
//!
//! The only file that knows that interface. An idle connection holds no buffer: ciphertext of an
//! incomplete record and unsent ciphertext are kept only while they exist.

mod buffered;

use crate::listen::proxied::ProxyRefusal;
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, HandshakeKind, ServerConfig, ServerConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Ciphertext that a peer may leave incomplete: a TLS 1.2 record is at most 16 KiB + 2,053 bytes
/// (RFC 5246 section 6.2.3), and handshake messages are kept until they are whole.
const HELD_BYTES_MAX: usize = 64 * 1024;

pub struct Transport {
    socket: TcpStream,
    tls: Tls,
    /// Ciphertext of an incomplete record or handshake message.
    held: Vec<u8>,
    /// Ciphertext that the socket did not take yet.
    unsent: Vec<u8>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are of the large kind, and a box more would cost each of them"
)]
enum Tls {
    Ours(UnbufferedServerConnection),
    /// Begun by a door that speaks HTTP.
    Begun(Box<ServerConnection>),
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Bytes were taken (perhaps no whole record yet).
    Progress,
    /// Nothing was there after all.
    Nothing,
    /// The peer has closed its side; what it sent before was delivered.
    End,
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub enum Failure {
    Socket(io::Error),
    Tls(rustls::Error),
    /// More ciphertext than a record may have.
    Overlong,
    /// Before TLS began: what a balancer in front should have said, or somebody should not.
    Proxy(ProxyRefusal),
    /// As many claims are under way as this door serves at once.
    Crowded,
}

impl Transport {
    pub fn new(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let tls = UnbufferedServerConnection::new(config)?;
        Ok(Self {
            socket,
            tls: Tls::Ours(tls),
            held: Vec::new(),
            unsent: Vec::new(),
        })
    }

    /// Goes on with a connection whose handshake is done; what it has decrypted already is handed to
    /// `plaintext`.
    pub fn go_on(
        socket: TcpStream,
        mut tls: ServerConnection,
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> Self {
        let mut unsent = Vec::new();
        buffered::drain(&mut tls, &mut [0; 4096], plaintext);
        buffered::flush(&mut tls, &mut unsent);
        Self {
            socket,
            tls: Tls::Begun(Box::new(tls)),
            held: Vec::new(),
            unsent,
        }
    }

    fn state(&self) -> &CommonState {
        match &self.tls {
            Tls::Ours(tls) => tls,
            Tls::Begun(tls) => tls,
        }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub fn is_handshaking(&self) -> bool {
        self.state().is_handshaking()
    }

    /// What was negotiated: `TLSv1_3 X25519MLKEM768`, for signals.
    pub fn negotiated(&self) -> (Option<rustls::ProtocolVersion>, Option<rustls::NamedGroup>) {
        (
            self.state().protocol_version(),
            self.state()
                .negotiated_key_exchange_group()
                .map(|group| group.name()),
        )
    }

    /// The peer's chain, as it was shown now or when the ticket was given by which it comes.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        self.state().peer_certificates().unwrap_or_default()
    }

    /// Whether the whole handshake was done; a resumed one has skipped the verifier.
    pub fn was_full_handshake(&self) -> bool {
        matches!(
            self.state().handshake_kind(),
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
        )
    }

    pub fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// Reads once into `scratch` and hands each decrypted record to `plaintext`.
    ///
    /// Alerts and handshake answers are left in the unsent bytes: call [`Transport::flush`].
    pub fn read(
        &mut self,
        scratch: &mut [u8],
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<Arrival, Failure> {
        if let Tls::Begun(tls) = &mut self.tls {
            return buffered::read(tls, &self.socket, scratch, plaintext, &mut self.unsent);
        }
        let held_bytes = self.held.len();
        let (Some(front), true) = (scratch.get_mut(..held_bytes), held_bytes < HELD_BYTES_MAX)
        else {
            return Err(Failure::Overlong);
        };
        front.copy_from_slice(&self.held);
        let room = scratch.get_mut(held_bytes..).unwrap_or_default();
        let count = match (&self.socket).read(room) {
            Ok(0) => return Ok(Arrival::End),
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Arrival::Nothing),
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(Arrival::Nothing),
            Err(e) => return Err(Failure::Socket(e)),
        };
        let incoming = scratch.get_mut(..held_bytes + count).unwrap_or_default();
        self.take(incoming, plaintext)
    }

    /// As [`Transport::read`], with what was read of the socket before TLS took over.
    pub fn begin(
        &mut self,
        said: &mut [u8],
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<Arrival, Failure> {
        self.take(said, plaintext)
    }

    /// `incoming` begins with what was held.
    fn take(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<Arrival, Failure> {
        let (consumed, ended) = self.process(incoming, plaintext)?;
        let rest = incoming.get(consumed..).unwrap_or_default();
        self.held.clear();
        if rest.is_empty() {
            self.held.shrink_to(0);
        } else {
            self.held.extend_from_slice(rest);
        }
        Ok(if ended {
            Arrival::End
        } else {
            Arrival::Progress
        })
    }

    /// Runs the TLS machine over `incoming`; returns the bytes used up and whether the peer said
    /// goodbye. After an error the alert it asks for is among the unsent bytes.
    fn process(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut dyn FnMut(&[u8]),
    ) -> Result<(usize, bool), Failure> {
        let Tls::Ours(tls) = &mut self.tls else {
            return Ok((incoming.len(), false));
        };
        let mut consumed = 0;
        let mut failed: Option<rustls::Error> = None;
        loop {
            // After an error only what is ready to be sent is fetched, the alert above all. Shown
            // the same bytes once more than that, rustls would read them again and fail again, and
            // its check against a second alert would end this thread.
            if let Some(error) = failed.take_if(|_| !tls.wants_write()) {
                return Err(Failure::Tls(error));
            }
            let window = incoming.get_mut(consumed..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = tls.process_tls_records(window);
            let mut used = discard;
            let mut done = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                used += record.discard;
                                if failed.is_none() {
                                    plaintext(record.payload);
                                }
                            }
                            Err(e) => {
                                failed.get_or_insert(e);
                                break;
                            }
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, &mut self.unsent),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => done = Some(true),
                // Early data is never offered (max_early_data_size is 0): treat it as the end.
                Ok(ConnectionState::ReadEarlyData(_)) => done = Some(true),
                Ok(_) => done = Some(false),
                Err(e) => {
                    // Not again after an error, by the rule above; should it be, it is the end.
                    done = failed.is_some().then_some(true);
                    failed.get_or_insert(e);
                }
            }
            consumed += used;
            if let Some(ended) = done {
                return match failed {
                    Some(e) => Err(Failure::Tls(e)),
                    None => Ok((consumed, ended)),
                };
            }
        }
    }

    /// Encrypts `plaintext` whole behind what is still unsent. Many messages make few records.
    ///
    /// `spare` is the shard's own buffer, lent while this connection has bytes on their way.
    pub fn encrypt(&mut self, plaintext: &[u8], spare: &mut Vec<u8>) -> Result<(), Failure> {
        if plaintext.is_empty() {
            return Ok(());
        }
        if self.unsent.capacity() == 0 {
            std::mem::swap(&mut self.unsent, spare);
        }
        if let Tls::Begun(tls) = &mut self.tls {
            let encrypted = buffered::encrypt(tls, plaintext, &mut self.unsent);
            return encrypted.map_err(Failure::Socket);
        }
        self.put(Outgoing::Plaintext(plaintext))
    }

    /// Queues close_notify, so that the peer knows that nothing was cut off.
    pub fn goodbye(&mut self) {
        if let Tls::Begun(tls) = &mut self.tls {
            tls.send_close_notify();
            return buffered::flush(tls, &mut self.unsent);
        }
        // If it cannot be said the socket is closed without it; nothing else is lost.
        let _ = self.put(Outgoing::Goodbye);
    }

    fn put(&mut self, outgoing: Outgoing<'_>) -> Result<(), Failure> {
        let Tls::Ours(tls) = &mut self.tls else {
            return Ok(());
        };
        let mut held = std::mem::take(&mut self.held);
        let result = loop {
            let UnbufferedStatus { discard, state } = tls.process_tls_records(&mut held);
            let outcome = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    Some(write_traffic(&mut traffic, outgoing, &mut self.unsent))
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, &mut self.unsent);
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(_) => Some(Err(Failure::Tls(rustls::Error::HandshakeNotComplete))),
                Err(e) => Some(Err(Failure::Tls(e))),
            };
            held.drain(..discard.min(held.len()));
            if let Some(outcome) = outcome {
                break outcome;
            }
        };
        self.held = held;
        result
    }

    /// Gives the socket what is unsent, once. True if all is out; the buffer then becomes `spare`,
    /// so that an idle connection holds none.
    pub fn flush(&mut self, spare: &mut Vec<u8>) -> Result<bool, Failure> {
        if self.unsent.is_empty() {
            return Ok(true);
        }
        match (&self.socket).write(&self.unsent) {
            Ok(count) if count == self.unsent.len() => {
                self.unsent.clear();
                if spare.capacity() < self.unsent.capacity() {
                    std::mem::swap(&mut self.unsent, spare);
                }
                self.unsent = Vec::new();
                Ok(true)
            }
            Ok(count) => {
                self.unsent.drain(..count);
                Ok(false)
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(false)
            }
            Err(e) => Err(Failure::Socket(e)),
        }
    }

    /// Closes at once; what is unsent, here and in the kernel, is not sent any more.
    pub fn abort(self) {
        // If it is refused the kernel sends on what it has; the rest is dropped all the same.
        let _ = rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// Sends what the socket takes at once and says that nothing follows. The socket, if all of it
    /// was sent: whoever closes it while its peer still speaks takes back what was said last, since
    /// the kernel answers unread bytes with a reset.
    pub fn finish(mut self, spare: &mut Vec<u8>) -> Option<TcpStream> {
        let is_sent = self.flush(spare).ok()?;
        let is_said = is_sent && self.socket.shutdown(Shutdown::Write).is_ok();
        is_said.then_some(self.socket)
    }
}

#[derive(Clone, Copy)]
enum Outgoing<'a> {
    Plaintext(&'a [u8]),
    Goodbye,
}

/// Puts a handshake record or an alert behind what is unsent.
fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, unsent: &mut Vec<u8>) {
    append(unsent, 1024, |room| {
        data.encode(room).map_err(|e| match e {
            EncodeError::InsufficientSize(size) => Some(size),
            EncodeError::AlreadyEncoded => None,
        })
    });
}

fn write_traffic(
    traffic: &mut WriteTraffic<'_, ServerConnectionData>,
    outgoing: Outgoing<'_>,
    unsent: &mut Vec<u8>,
) -> Result<(), Failure> {
    let expected = match outgoing {
        // A record has 4 KiB or more of content, and adds 29 bytes at most: header, nonce and tag
        // (RFC 5246 section 6.2.3.3).
        Outgoing::Plaintext(plaintext) => plaintext.len() + (plaintext.len() / 4096 + 1) * 32,
        Outgoing::Goodbye => 64,
    };
    let written = append(unsent, expected, |room| {
        let written = match outgoing {
            Outgoing::Plaintext(plaintext) => traffic.encrypt(plaintext, room),
            Outgoing::Goodbye => traffic.queue_close_notify(room),
        };
        written.map_err(|e| match e {
            EncryptError::InsufficientSize(size) => Some(size),
            EncryptError::EncryptExhausted => None,
        })
    });
    if written > 0 {
        Ok(())
    } else {
        Err(Failure::Tls(rustls::Error::EncryptError))
    }
}

/// Lets `fill` write behind the present end of `buffer`, with as much room as it asks for; the
/// bytes it wrote.
fn append(
    buffer: &mut Vec<u8>,
    expected: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> usize {
    let start = buffer.len();
    let mut room = expected;
    let written = loop {
        buffer.resize(start + room, 0);
        match fill(buffer.get_mut(start..).unwrap_or_default()) {
            Ok(count) => break count,
            Err(Some(size)) if size.required_size > room => room = size.required_size,
            Err(_) => break 0,
        }
    };
    buffer.truncate(start + written);
    written
}
