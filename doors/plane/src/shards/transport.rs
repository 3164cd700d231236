//! One TLS connection over one non-blocking socket. An idle one holds no buffer: ciphertext of an
//! incomplete record and unsent ciphertext are kept only while they exist.

mod buffered;
mod machine;
mod records;
#[cfg(test)]
mod side_by_side;

use crate::listen::proxied::ProxyRefusal;
use crate::shards::kernel;
use machine::Outgoing;
use records::{Opened, Records};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::{
    CommonState, HandshakeKind, NamedGroup, ProtocolVersion, ServerConfig, ServerConnection,
};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Ciphertext that a peer may leave incomplete: a TLS 1.2 record is at most 16 KiB + 2,053 bytes
/// (RFC 5246 section 6.2.3), and handshake messages are kept until they are whole.
const HELD_BYTES_MAX: usize = 64 * 1024;
/// What rustls counts to a fragment besides its content.
const HEADER_BYTES: usize = 5;

pub struct Transport {
    socket: TcpStream,
    tls: Tls,
    /// Of a record that we send, at most.
    content_bytes_max: u16,
    /// Ciphertext of an incomplete record or handshake message.
    held: Vec<u8>,
    /// Ciphertext that the socket did not take yet.
    unsent: Vec<u8>,
}

enum Tls {
    /// TLS 1.3 after its handshake.
    Records(Records),
    /// Handshakes, and TLS 1.2. Boxed: it is large, and most leave it soon.
    Machine(Box<UnbufferedServerConnection>),
    /// Begun by a door that speaks HTTP.
    Begun(Box<ServerConnection>),
    /// It broke while it changed from one to the other.
    Broken,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Bytes were taken (perhaps no whole record yet), and no more are there.
    Progress,
    /// More may be there.
    Full,
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
        let fragment_bytes_max = config.max_fragment_size.unwrap_or(usize::MAX);
        let content_bytes_max = fragment_bytes_max.saturating_sub(HEADER_BYTES);
        let tls = UnbufferedServerConnection::new(config)?;
        Ok(Self {
            socket,
            tls: Tls::Machine(Box::new(tls)),
            content_bytes_max: u16::try_from(content_bytes_max).unwrap_or(u16::MAX),
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
            content_bytes_max: records::CONTENT_BYTES_MAX,
            held: Vec::new(),
            unsent,
        }
    }

    /// The handshake is over and all that it showed was looked at: of TLS 1.3 only the records are kept.
    ///
    /// # Errors
    /// rustls', by which the connection is over.
    pub fn settle(&mut self) -> Result<(), rustls::Error> {
        match std::mem::replace(&mut self.tls, Tls::Broken) {
            Tls::Machine(tls) if tls.protocol_version() == Some(ProtocolVersion::TLSv1_3) => {
                self.tls = Tls::Records(Records::after(*tls, self.content_bytes_max)?);
            }
            other => self.tls = other,
        }
        Ok(())
    }

    /// What rustls knows of it; after the handshake of TLS 1.3 nothing any more.
    fn state(&self) -> Option<&CommonState> {
        match &self.tls {
            Tls::Machine(tls) => Some(tls),
            Tls::Begun(tls) => Some(tls),
            Tls::Records(_) | Tls::Broken => None,
        }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub fn is_handshaking(&self) -> bool {
        self.state().is_some_and(CommonState::is_handshaking)
    }

    /// What was negotiated: `TLSv1_3 X25519MLKEM768`, for signals.
    pub fn negotiated(&self) -> (Option<ProtocolVersion>, Option<NamedGroup>) {
        if let Tls::Records(records) = &self.tls {
            return (Some(ProtocolVersion::TLSv1_3), records.group());
        }
        let Some(state) = self.state() else {
            return (None, None);
        };
        let group = state.negotiated_key_exchange_group();
        (state.protocol_version(), group.map(|group| group.name()))
    }

    /// The peer's chain, as it was shown now or when the ticket was given by which it comes. Before
    /// [`Transport::settle`].
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        let chain = self.state().and_then(CommonState::peer_certificates);
        chain.unwrap_or_default()
    }

    /// Whether the whole handshake was done; a resumed one has skipped the verifier. Before
    /// [`Transport::settle`].
    pub fn was_full_handshake(&self) -> bool {
        matches!(
            self.state().and_then(CommonState::handshake_kind),
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
        )
    }

    /// Has the keys of what is read and written next fetched: they are used as soon as a record has come.
    pub fn prefetch_keys(&self) {
        if let Tls::Records(records) = &self.tls {
            for key in records.keys() {
                kernel::prefetch_behind(key, records::KEY_BYTES);
            }
        }
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
        let count = match recv(&self.socket, room, RecvFlags::empty()) {
            Ok((0, _)) => return Ok(Arrival::End),
            Ok((count, _)) => count,
            Err(Errno::AGAIN) => return Ok(Arrival::Nothing),
            Err(Errno::INTR) => return Ok(Arrival::Full),
            Err(e) => return Err(Failure::Socket(e.into())),
        };
        let is_full = held_bytes + count == scratch.len();
        let incoming = scratch.get_mut(..held_bytes + count).unwrap_or_default();
        Ok(match self.take(incoming, plaintext)? {
            Arrival::Progress if is_full => Arrival::Full,
            arrival => arrival,
        })
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
        let unsent = &mut self.unsent;
        let opened = match &mut self.tls {
            Tls::Records(records) => records.open(incoming, plaintext, unsent),
            Tls::Machine(tls) => machine::read(tls, incoming, plaintext, unsent),
            Tls::Begun(_) | Tls::Broken => Err(rustls::Error::DecryptError),
        };
        let Opened {
            consumed,
            has_ended,
        } = opened.map_err(Failure::Tls)?;
        let rest = incoming.get(consumed..).unwrap_or_default();
        if rest.is_empty() {
            self.held = Vec::new();
        } else {
            self.held.clear();
            self.held.extend_from_slice(rest);
        }
        Ok(if has_ended {
            Arrival::End
        } else {
            Arrival::Progress
        })
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
        let unsent = &mut self.unsent;
        let sealed = match &mut self.tls {
            Tls::Records(records) => records.seal(plaintext, unsent),
            Tls::Machine(tls) => {
                let outgoing = Outgoing::Plaintext(plaintext);
                machine::write(tls, &mut self.held, outgoing, unsent)
            }
            Tls::Begun(tls) => {
                let encrypted = buffered::encrypt(tls, plaintext, unsent);
                return encrypted.map_err(Failure::Socket);
            }
            Tls::Broken => Err(rustls::Error::EncryptError),
        };
        sealed.map_err(Failure::Tls)
    }

    /// Queues close_notify, so that the peer knows that nothing was cut off.
    pub fn goodbye(&mut self) {
        let unsent = &mut self.unsent;
        // If it cannot be said the socket is closed without it; nothing else is lost.
        let _ = match &mut self.tls {
            Tls::Records(records) => records.goodbye(unsent),
            Tls::Machine(tls) => machine::write(tls, &mut self.held, Outgoing::Goodbye, unsent),
            Tls::Begun(tls) => {
                tls.send_close_notify();
                buffered::flush(tls, unsent);
                Ok(())
            }
            Tls::Broken => Ok(()),
        };
    }

    /// Gives the socket what is unsent, once. True if all is out; the buffer then becomes `spare`,
    /// so that an idle connection holds none.
    pub fn flush(&mut self, spare: &mut Vec<u8>) -> Result<bool, Failure> {
        if self.unsent.is_empty() {
            return Ok(true);
        }
        match send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
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
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(e) => Err(Failure::Socket(e.into())),
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
