//! One non-blocking MQTT connection of the load generator.

use crate::refusal::Refusal;
use crate::session::PACKET_BYTES_MAX;
use crate::tls::{Client, refusal_of};
use mqtt::{Connect, Packet, Version, encode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
use rustls::{ClientConnection, HandshakeKind};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Instant;

/// What rustls takes from a socket at a time, at least.
const READ_BYTES: usize = 4096;
/// Reads of one connection in one turn: enough that a consumer of a thousand devices' messages is
/// not the slowest of all in a turn that serves them all.
const READS_MAX: usize = 64;

/// A connection from its first SYN on. Everything it does is bounded: what is read by one call
/// per readiness, what is written by the owner's holding back while [`Wire::is_blocked`].
pub(super) struct Wire {
    tcp: TcpStream,
    /// `None`: in the clear, to a forwarder of ours that has no TLS.
    tls: Option<ClientConnection>,
    version: Version,
    state: State,
    /// When bytes last left, for the keep-alive.
    pub(super) wrote_at: Instant,
    /// Packets not yet encrypted.
    plain: Vec<u8>,
    /// The beginning of a packet whose rest has not come.
    partial: Vec<u8>,
    /// Whether the socket took all it was given.
    blocked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Open,
}

impl Wire {
    /// Begins to connect, from the address `source` if there is one; CONNECT goes out as soon as TLS
    /// allows, or at once where there is to be none.
    pub(super) fn open(
        client: &Client,
        in_clear: bool,
        source: Option<Ipv4Addr>,
        packet: &Connect<'_>,
    ) -> Result<Self, Refusal> {
        let address = client.endpoint().address;
        let unreachable = |error: Errno| Refusal::Unreachable(io::Error::from(error).kind());
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(unreachable)?;
        sockopt::set_tcp_nodelay(&socket, true).map_err(unreachable)?;
        if let Some(source) = source {
            bind(&socket, &SocketAddrV4::new(source, 0)).map_err(unreachable)?;
        }
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(unreachable(error)),
        }
        let mut tls = None;
        if !in_clear {
            let mut starting = client.start()?;
            starting.set_buffer_limit(None);
            tls = Some(starting);
        }
        let mut plain = Vec::new();
        encode::connect(&mut plain, packet);
        Ok(Self {
            tcp: TcpStream::from(socket),
            tls,
            version: packet.version,
            state: State::Connecting,
            wrote_at: Instant::now(),
            plain,
            partial: Vec::new(),
            blocked: true,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.tcp
    }

    /// Our own, by which the connection is found in a capture.
    pub(super) fn port(&self) -> Option<u16> {
        self.tcp.local_addr().ok().map(|address| address.port())
    }

    /// Whether the server took a ticket of ours.
    pub(super) fn is_resumed(&self) -> bool {
        let kind = self.tls.as_ref().and_then(|tls| tls.handshake_kind());
        kind == Some(HandshakeKind::Resumed)
    }

    /// True while the socket does not take more: wait for it to become writable.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Where packets to be sent are appended; [`Self::flush`] sends them.
    pub(super) fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.plain
    }

    /// The socket is writable: the connection stands, or has failed.
    pub(super) fn writable(&mut self) -> Result<(), Refusal> {
        if self.state == State::Connecting {
            let outcome = sockopt::socket_error(&self.tcp).and_then(|outcome| outcome);
            outcome.map_err(|error| Refusal::Unreachable(io::Error::from(error).kind()))?;
            self.state = State::Open;
        }
        self.flush()
    }

    /// The socket is readable: takes what is there, within a bound, and hands every whole packet to
    /// `on_packet`, with the buffer into which answers may be written. `scratch` is shared by all
    /// connections.
    pub(super) fn readable(
        &mut self,
        scratch: &mut [u8],
        mut on_packet: impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for _ in 0..READS_MAX {
            let Some(tls) = &mut self.tls else {
                return self.readable_in_clear(scratch, &mut on_packet);
            };
            match tls.read_tls(&mut self.tcp) {
                Ok(0) => {
                    self.packets(scratch, &mut on_packet)?;
                    return Err(Refusal::Cut);
                }
                Ok(count) => {
                    self.packets(scratch, &mut on_packet)?;
                    if count < READ_BYTES {
                        return Ok(());
                    }
                }
                Err(error) if is_transient(&error) => return Ok(()),
                Err(_) => return Err(Refusal::Cut),
            }
        }
        Ok(())
    }

    fn readable_in_clear(
        &mut self,
        scratch: &mut [u8],
        on_packet: &mut impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for _ in 0..READS_MAX {
            match self.tcp.read(scratch) {
                Ok(0) => return Err(Refusal::Cut),
                Ok(length) => {
                    self.take(scratch.get(..length).unwrap_or_default(), on_packet)?;
                    if length < scratch.len() {
                        return Ok(());
                    }
                }
                Err(error) if is_transient(&error) => return Ok(()),
                Err(_) => return Err(Refusal::Cut),
            }
        }
        Ok(())
    }

    /// Decrypts what was read and hands on the packets in it.
    fn packets(
        &mut self,
        scratch: &mut [u8],
        on_packet: &mut impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut has_closed = false;
        if let Some(tls) = &mut self.tls {
            let io_state = tls
                .process_new_packets()
                .map_err(|error| refusal_of(&error))?;
            has_closed = io_state.peer_has_closed();
        }
        while let Some(tls) = &mut self.tls {
            let length = match tls.reader().read(scratch) {
                Ok(0) | Err(_) => break,
                Ok(length) => length,
            };
            self.take(scratch.get(..length).unwrap_or_default(), on_packet)?;
        }
        if has_closed {
            Err(Refusal::Closed)
        } else {
            Ok(())
        }
    }

    /// Hands on the packets in bytes that came.
    fn take(
        &mut self,
        fresh: &[u8],
        on_packet: &mut impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if self.partial.is_empty() {
            let used = packets(self.version, fresh, &mut self.plain, on_packet)?;
            self.partial
                .extend_from_slice(fresh.get(used..).unwrap_or_default());
        } else {
            self.partial.extend_from_slice(fresh);
            let used = packets(self.version, &self.partial, &mut self.plain, on_packet)?;
            self.partial.drain(..used);
        }
        Ok(())
    }

    /// Encrypts what is outgoing and writes as much as the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), Refusal> {
        if self.state == State::Connecting {
            return Ok(());
        }
        let Some(tls) = &mut self.tls else {
            return self.flush_in_clear();
        };
        if !self.plain.is_empty() && !tls.is_handshaking() {
            tls.writer()
                .write_all(&self.plain)
                .map_err(|_| Refusal::Cut)?;
            self.plain.clear();
            self.wrote_at = Instant::now();
        }
        while tls.wants_write() {
            match tls.write_tls(&mut self.tcp) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The reason may lie in the receive buffer: the next read tells.
                Err(_) => break,
            }
        }
        self.blocked = false;
        Ok(())
    }

    fn flush_in_clear(&mut self) -> Result<(), Refusal> {
        while !self.plain.is_empty() {
            match self.tcp.write(&self.plain) {
                Ok(count) => {
                    self.plain.drain(..count);
                    self.wrote_at = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Refusal::Cut),
            }
        }
        self.blocked = false;
        Ok(())
    }

    /// Says DISCONNECT and goodbye, as far as the socket takes it at once.
    pub(super) fn close(mut self) {
        encode::disconnect_by_client(&mut self.plain, self.version, mqtt::Reason::SUCCESS);
        if let Some(tls) = &mut self.tls {
            if tls.is_handshaking() || tls.writer().write_all(&self.plain).is_err() {
                return;
            }
            self.plain.clear();
            tls.send_close_notify();
        }
        let _ = self.flush();
    }
}

/// Hands on whole packets; gives the bytes they took.
fn packets(
    version: Version,
    bytes: &[u8],
    answers: &mut Vec<u8>,
    on_packet: &mut impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<(), Refusal>,
) -> Result<usize, Refusal> {
    let broken = |malformed: mqtt::Malformed| Refusal::Protocol(malformed.to_string());
    let mut used = 0;
    loop {
        let rest = bytes.get(used..).unwrap_or_default();
        let Some(length) = mqtt::frame_length(rest, PACKET_BYTES_MAX).map_err(broken)? else {
            return Ok(used);
        };
        let frame = rest.get(..length).unwrap_or_default();
        on_packet(
            mqtt::decode_from_server(version, frame).map_err(broken)?,
            answers,
        )?;
        used += length;
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
