//! Connections before TLS: a balancer in front says for whom it comes; at a door for several protocols
//! the hello is read to see which one is offered, then they go on to MQTT in this shard or to the door
//! that speaks HTTP.

use super::handshake::ended;
use super::{Handshaking, Shard, Slot};
use crate::listen::proxied::{self, Header, ProxyRefusal, SIGNATURE};
use crate::listen::tls::MQTT_PROTOCOLS;
use crate::listen::{Arrived, source_of};
use crate::shards::Spoken;
use crate::shards::transport::{Failure, Transport};
use model::Timestamp;
use rustix::event::epoll;
use rustls::server::Acceptor;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use tokio::sync::mpsc::error::TrySendError;

/// Bytes of a hello, at most: with hybrid keys one has some 1,500.
const HELLO_BYTES_MAX: usize = 16 * 1024;

pub(super) struct Arriving {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    /// Its place among the doors.
    door: usize,
    stage: Stage,
}

enum Stage {
    /// A balancer says for whom it comes.
    Forwarded(Vec<u8>),
    Hello(Box<Hello>),
}

/// A hello that is not whole yet.
#[derive(Default)]
struct Hello {
    said: Vec<u8>,
    acceptor: Acceptor,
}

/// What somebody wants to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Mqtt,
    Http,
}

impl Arriving {
    pub(super) fn new(
        socket: TcpStream,
        peer: SocketAddr,
        door: usize,
        is_forwarded: bool,
    ) -> Self {
        let stage = if is_forwarded {
            Stage::Forwarded(Vec::new())
        } else {
            Stage::Hello(Box::default())
        };
        Self {
            socket,
            peer,
            door,
            stage,
        }
    }

    fn take_said(&mut self) -> Vec<u8> {
        match &mut self.stage {
            Stage::Forwarded(_) => Vec::new(),
            Stage::Hello(hello) => std::mem::take(&mut hello.said),
        }
    }
}

impl Hello {
    /// What it wants, once its hello is whole. What is no hello goes to MQTT's TLS, which says so.
    fn hear(&mut self, bytes: &[u8]) -> Option<Wanted> {
        self.said.extend_from_slice(bytes);
        let mut unread = bytes;
        while !unread.is_empty() {
            match self.acceptor.read_tls(&mut unread) {
                Ok(count) if count > 0 => {}
                _ => return Some(Wanted::Mqtt),
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let mut offered = hello.alpn().into_iter().flatten();
                    let is_mqtt = offered.any(|one| MQTT_PROTOCOLS.contains(&one));
                    return Some(if is_mqtt { Wanted::Mqtt } else { Wanted::Http });
                }
                Err(_) => return Some(Wanted::Mqtt),
            }
        }
        None
    }
}

impl Shard {
    pub(super) fn hear_arriving(&mut self, id: u32, now: Timestamp) {
        let Some(Slot::Arriving(arriving)) = self.slots.entry(id) else {
            return;
        };
        // Of a header not a byte more than is its own: what follows is TLS.
        let wanted = match &arriving.stage {
            Stage::Forwarded(header) => match proxied::read(header) {
                Ok(Header::Wants(more)) => more,
                _ => 0,
            },
            Stage::Hello(_) => self.scratch.len(),
        };
        let room = self.scratch.get_mut(..wanted).unwrap_or_default();
        let count = match (&arriving.socket).read(room) {
            Ok(0) => return self.refuse_handshake(id, Some(&ended())),
            Ok(count) => count,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(e) => return self.refuse_handshake(id, Some(&Failure::Socket(e))),
        };
        let came = self.scratch.get(..count).unwrap_or_default();
        match &mut arriving.stage {
            Stage::Forwarded(header) => {
                header.extend_from_slice(came);
                match proxied::read(header) {
                    Ok(Header::Wants(_)) => {}
                    Ok(Header::Whole(source)) => self.forwarded(id, source, now),
                    Err(refusal) => self.refuse_handshake(id, Some(&Failure::Proxy(refusal))),
                }
            }
            Stage::Hello(hello) => match hello.hear(came) {
                _ if hello.said.starts_with(&SIGNATURE) => {
                    let unexpected = Failure::Proxy(ProxyRefusal::Unexpected);
                    self.refuse_handshake(id, Some(&unexpected));
                }
                Some(Wanted::Mqtt) => self.begin_tls(id, now),
                Some(Wanted::Http) => self.hand_to_http(id),
                None if hello.said.len() > HELLO_BYTES_MAX => {
                    self.refuse_handshake(id, Some(&Failure::Overlong));
                }
                None => {}
            },
        }
    }

    /// From here on whoever is behind the balancer is the peer: for caps, signals and log lines.
    fn forwarded(&mut self, id: u32, source: Option<SocketAddr>, now: Timestamp) {
        let Some(Slot::Arriving(arriving)) = self.slots.entry(id) else {
            return;
        };
        let (door, before) = (arriving.door, arriving.peer);
        let peer = source.unwrap_or(before);
        arriving.peer = peer;
        arriving.stage = Stage::Hello(Box::default());
        self.forget_source(before.ip());
        let count = (self.handshakes_by_source)
            .entry(source_of(peer.ip()))
            .or_default();
        *count += 1;
        let others = *count - 1;
        if source.is_some() && self.is_crowded(others) {
            if self.lines.take() {
                tracing::warn!(
                    target: "gateway",
                    "{peer}: refused handshakes-in-flight: {others} handshakes from this address are \
                     not done yet; device: back off and try again [device must act]"
                );
            }
            return self.remove(id);
        }
        if !self.is_by_alpn(door) {
            self.begin_tls(id, now);
        }
    }

    /// TLS takes over, with what was said so far.
    fn begin_tls(&mut self, id: u32, now: Timestamp) {
        let Some(Slot::Arriving(arriving)) = self.slots.entry(id) else {
            return;
        };
        let (mut said, door) = (arriving.take_said(), arriving.door);
        let Some((config, sight)) = self.offer(door) else {
            return self.remove(id);
        };
        self.slots.change(id, |slot| {
            let Slot::Arriving(arriving) = slot else {
                return Some(slot);
            };
            let transport = Transport::new(arriving.socket, config).ok()?;
            Some(Slot::Handshaking(Handshaking {
                transport,
                peer: arriving.peer,
                sight,
                early: Vec::new(),
                unnamed: None,
            }))
        });
        let Some(Slot::Handshaking(handshaking)) = self.slots.entry(id) else {
            return;
        };
        let Handshaking {
            transport, early, ..
        } = handshaking;
        if said.is_empty() {
            // Nothing of TLS has been read yet; the poll says when there is.
            return;
        }
        let arrival = transport.begin(&mut said, &mut |payload| early.extend_from_slice(payload));
        self.go_on_shaking(id, arrival, now);
    }

    fn hand_to_http(&mut self, id: u32) {
        let Some(Slot::Arriving(mut arriving)) = self.slots.remove(id) else {
            return;
        };
        let said = arriving.take_said();
        let peer = arriving.peer;
        self.forget_handshake(peer.ip());
        self.accept_again();
        let door = self.doors.get(arriving.door);
        let Some(Spoken::ByAlpn(http)) = door.map(|door| &door.spoken) else {
            return;
        };
        if epoll::delete(&self.entrance, &arriving.socket).is_err() {
            return;
        }
        let arrived = Arrived {
            socket: arriving.socket,
            peer,
            said,
        };
        if let Err(TrySendError::Full(_)) = http.try_send(arrived)
            && self.lines.take()
        {
            tracing::warn!(
                target: "listen",
                "devices {peer}: refused connections-in-flight: many come at this moment; device: \
                 back off and try again [device must act]"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::sync::Arc;

    fn hello(alpn: &[&str]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|one| one.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("plane.example").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_hello_says_what_is_wanted_also_in_single_bytes() {
        for (alpn, wanted) in [
            (&["mqtt"][..], Wanted::Mqtt),
            (&["x-amzn-mqtt-ca"], Wanted::Mqtt),
            (&["h2", "mqtt"], Wanted::Mqtt),
            (&["h2", "http/1.1"], Wanted::Http),
            (&["MQTT"], Wanted::Http),
            (&[], Wanted::Http),
        ] {
            let hello = hello(alpn);
            assert_eq!(Hello::default().hear(&hello), Some(wanted), "{alpn:?}");
            let mut slow = Hello::default();
            let (last, first) = hello.split_last().unwrap();
            for byte in first {
                assert_eq!(slow.hear(&[*byte]), None);
            }
            assert_eq!(slow.hear(&[*last]), Some(wanted), "{alpn:?}");
            assert_eq!(slow.said, hello, "TLS must get all of it");
        }
        for no_hello in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16; 300], &[0; 300]] {
            assert_eq!(Hello::default().hear(no_hello), Some(Wanted::Mqtt));
        }
    }
}
