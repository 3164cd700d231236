//! How little a message can cost: one loop of epoll over plain TCP that hands each message to the one
//! consumer and acknowledges it. It reads and writes as often as a broker must, and does nothing that
//! makes one: no TLS, no grants, no sessions, no memory of what it handed on. What a broker costs is
//! held against it.
//!
//! It understands as much of MQTT 5 as it takes to be loaded by [`crate::load`]: CONNECT and SUBSCRIBE
//! get a fixed answer, whoever subscribes last is the consumer, and a PUBLISH of QoS 1 goes on byte for
//! byte. Only at addresses of this machine.

use crate::refusal::SetupError;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

const LISTENER: u64 = u64::MAX;
const EVENTS_MAX: usize = 1024;
const SCRATCH_BYTES: usize = 64 * 1024;
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// A consumer that leaves more than this unread is not fed any more.
const BACKLOG_BYTES_MAX: usize = 256 << 20;

/// Forwards until it is ended.
///
/// # Errors
/// The address is not of this machine or taken, or the system gives no epoll; or the consumer does not
/// read.
pub fn serve(address: SocketAddr) -> Result<(), SetupError> {
    Forwarder::listen(address)?.run()
}

struct Forwarder {
    epoll: OwnedFd,
    listener: TcpListener,
    slots: Vec<Option<Connection>>,
    /// Whoever subscribed last.
    consumer: Option<usize>,
    /// Slots with something to write.
    touched: Vec<usize>,
}

struct Connection {
    tcp: TcpStream,
    /// The beginning of a packet whose rest has not come.
    partial: Vec<u8>,
    outgoing: Vec<u8>,
    is_touched: bool,
    /// Whether epoll tells when the socket is writable.
    watches_writable: bool,
}

impl Forwarder {
    fn listen(address: SocketAddr) -> Result<Self, SetupError> {
        if !address.ip().is_loopback() {
            let text = format!("{address} is not of this machine: it forwards for anybody");
            return Err(SetupError::Argument(text));
        }
        let failed = |source| SetupError::System {
            what: "listen",
            source,
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(system("give an epoll"))?;
        let data = EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, EventFlags::IN).map_err(system("watch a listener"))?;
        Ok(Self {
            epoll,
            listener,
            slots: Vec::new(),
            consumer: None,
            touched: Vec::new(),
        })
    }

    fn run(&mut self) -> Result<(), SetupError> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS_MAX);
        let mut scratch = vec![0; SCRATCH_BYTES];
        loop {
            events.clear();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, buffer, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(system("wait for sockets")(error)),
            }
            for event in &events {
                let data = event.data;
                match data.u64() {
                    LISTENER => self.accept(),
                    slot => self.read(usize::try_from(slot).unwrap_or(usize::MAX), &mut scratch),
                }
            }
            self.write()?;
        }
    }

    fn accept(&mut self) {
        while let Ok((tcp, _)) = self.listener.accept() {
            let slot = (self.slots.iter().position(Option::is_none)).unwrap_or(self.slots.len());
            let data = EventData::new_u64(slot as u64);
            let is_watched = tcp.set_nonblocking(true).is_ok()
                && tcp.set_nodelay(true).is_ok()
                && epoll::add(&self.epoll, &tcp, data, EventFlags::IN).is_ok();
            if !is_watched {
                continue;
            }
            let connection = Some(Connection {
                tcp,
                partial: Vec::new(),
                outgoing: Vec::new(),
                is_touched: false,
                watches_writable: false,
            });
            match self.slots.get_mut(slot) {
                Some(free) => *free = connection,
                None => self.slots.push(connection),
            }
        }
    }

    /// One read; each whole packet in it is answered or handed on.
    fn read(&mut self, slot: usize, scratch: &mut [u8]) {
        let Some(mut connection) = self.slots.get_mut(slot).and_then(Option::take) else {
            return;
        };
        let is_open = match connection.tcp.read(scratch) {
            Ok(0) => false,
            Ok(length) => {
                let fresh = scratch.get(..length).unwrap_or_default();
                let mut partial = std::mem::take(&mut connection.partial);
                let is_open = if partial.is_empty() {
                    let rest = self.packets(slot, fresh, &mut connection);
                    rest.map(|rest| partial.extend_from_slice(rest)).is_some()
                } else {
                    partial.extend_from_slice(fresh);
                    let rest = self.packets(slot, &partial, &mut connection);
                    let rest = rest.map(<[u8]>::len);
                    partial.drain(..partial.len() - rest.unwrap_or(0));
                    rest.is_some()
                };
                connection.partial = partial;
                is_open
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        if is_open {
            // Also one whose socket has become writable.
            self.touch(slot, &mut connection);
        } else if self.consumer == Some(slot) {
            self.consumer = None;
        }
        if let Some(place) = self.slots.get_mut(slot) {
            *place = is_open.then_some(connection);
        }
    }

    fn touch(&mut self, slot: usize, connection: &mut Connection) {
        if !connection.outgoing.is_empty() && !connection.is_touched {
            connection.is_touched = true;
            self.touched.push(slot);
        }
    }

    /// What is left of the bytes; `None`: it said goodbye, or nothing that can be understood.
    fn packets<'b>(
        &mut self,
        slot: usize,
        mut bytes: &'b [u8],
        connection: &mut Connection,
    ) -> Option<&'b [u8]> {
        loop {
            let Some(length) = mqtt::frame_length(bytes, FRAME_BYTES_MAX).ok()? else {
                return Some(bytes);
            };
            let (frame, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            let answer = &mut connection.outgoing;
            match frame.first()? {
                // CONNECT: CONNACK without properties.
                0x10 => answer.extend([0x20, 3, 0, 0, 0]),
                // SUBSCRIBE: granted.
                0x82 => {
                    let [high, low] = identifier(frame, 0)?;
                    answer.extend([0x90, 4, high, low, 0, 1]);
                    self.consumer = Some(slot);
                }
                // PUBLISH, QoS 1.
                0x32 => {
                    let [high, low] = topic_bytes(frame)?;
                    let topic = usize::from(u16::from_be_bytes([high, low]));
                    let [high, low] = identifier(frame, topic.checked_add(2)?)?;
                    answer.extend([0x40, 2, high, low]);
                    self.hand_on(frame);
                }
                // PUBACK of the consumer.
                0x40 => {}
                // PINGREQ.
                0xc0 => answer.extend([0xd0, 0]),
                _ => return None,
            }
        }
    }

    fn hand_on(&mut self, frame: &[u8]) {
        let Some(slot) = self.consumer else { return };
        if let Some(Some(consumer)) = self.slots.get_mut(slot) {
            consumer.outgoing.extend_from_slice(frame);
            if !consumer.is_touched {
                consumer.is_touched = true;
                self.touched.push(slot);
            }
        }
    }

    /// Each touched connection once.
    fn write(&mut self) -> Result<(), SetupError> {
        for slot in self.touched.drain(..) {
            let Some(Some(connection)) = self.slots.get_mut(slot) else {
                continue;
            };
            connection.is_touched = false;
            match connection.tcp.write(&connection.outgoing) {
                Ok(count) => drop(connection.outgoing.drain(..count)),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                // The next read finds it closed.
                Err(_) => connection.outgoing.clear(),
            }
            if connection.outgoing.len() > BACKLOG_BYTES_MAX {
                let text = "the consumer does not read what is handed on".to_owned();
                return Err(SetupError::Argument(text));
            }
            let is_full = !connection.outgoing.is_empty();
            if is_full != connection.watches_writable {
                connection.watches_writable = is_full;
                let flags = match is_full {
                    true => EventFlags::IN | EventFlags::OUT,
                    false => EventFlags::IN,
                };
                let data = EventData::new_u64(slot as u64);
                epoll::modify(&self.epoll, &connection.tcp, data, flags)
                    .map_err(system("watch a socket"))?;
            }
        }
        Ok(())
    }
}

/// Two bytes of a packet, behind its fixed header and so many more.
fn identifier(frame: &[u8], behind: usize) -> Option<[u8; 2]> {
    let header = 1
        + frame
            .get(1..)?
            .iter()
            .take(4)
            .position(|byte| byte & 0x80 == 0)?
        + 1;
    let at = header.checked_add(behind)?;
    frame.get(at..)?.first_chunk().copied()
}

/// The length of a PUBLISH's topic.
fn topic_bytes(frame: &[u8]) -> Option<[u8; 2]> {
    identifier(frame, 0)
}

fn system(what: &'static str) -> impl Fn(Errno) -> SetupError {
    move |error| SetupError::System {
        what,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt::encode::{self, PublishFields};
    use mqtt::{Connect, ForwardProperties, Qos, Version};

    fn speak(to: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    fn heard(stream: &mut TcpStream, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_message_goes_on_byte_for_byte_and_is_acknowledged() {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        let mut forwarder = Forwarder::listen(address).unwrap();
        // It ends with the test's process.
        std::thread::spawn(move || forwarder.run());
        let mut hello = Vec::new();
        encode::connect(&mut hello, &Connect::new(Version::V5, "x"));
        let mut subscribing = hello.clone();
        encode::subscribe(
            &mut subscribing,
            Version::V5,
            7,
            &[("t/+/up", Qos::AtLeastOnce)],
        );
        let mut consumer = speak(address, &subscribing);
        heard(&mut consumer, &[0x20, 3, 0, 0, 0, 0x90, 4, 0, 7, 0, 1]);
        let mut device = speak(address, &hello);
        heard(&mut device, &[0x20, 3, 0, 0, 0]);
        for payload in [&[7; 10][..], &[7; 300]] {
            let mut message = Vec::new();
            encode::publish(
                &mut message,
                Version::V5,
                &PublishFields {
                    dup: false,
                    qos: Qos::AtLeastOnce,
                    retain: false,
                    topic: "t/x/up",
                    packet_id: Some(9),
                    topic_alias: None,
                    forward: ForwardProperties::NONE,
                    payload,
                },
            );
            // In two parts: what has come of it waits for the rest.
            let (head, rest) = message.split_at(5);
            device.write_all(head).unwrap();
            device.write_all(rest).unwrap();
            heard(&mut device, &[0x40, 2, 0, 9]);
            heard(&mut consumer, &message);
        }
        device.write_all(&[0xc0, 0]).unwrap();
        heard(&mut device, &[0xd0, 0]);
        assert!(Forwarder::listen("192.0.2.1:1".parse().unwrap()).is_err());
    }
}
