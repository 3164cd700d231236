//! Netlink, as far as the agent asks the kernel: messages of attributes, dumps, acknowledged
//! batches. Answers are read with every length doubted.

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recvfrom, sendto,
    socket_with,
};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub const REQUEST: u16 = 0x1;
pub const ACK: u16 = 0x4;
pub const DUMP: u16 = 0x300;
pub const CREATE: u16 = 0x400;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;
const NESTED: u16 = 0x8000;
/// The kernel builds a part of a dump in no more than 32 KiB.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Parts of one dump that are taken.
const PARTS_MAX: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// # Errors
    /// If the system has no such protocol, or refuses it.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(protocol),
        )?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Asks for a list; `each` is given the payload of every entry.
    ///
    /// # Errors
    /// What the kernel answers, or a timeout.
    pub fn dump(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut out = Vec::new();
        message(&mut out, kind, REQUEST | DUMP, self.sequence, payload);
        self.send(&out)?;
        let mut buffer = vec![0; RECEIVE_BYTES];
        for _ in 0..PARTS_MAX {
            let part = self.receive(&mut buffer)?;
            for one in messages(part).filter(|one| one.sequence == self.sequence) {
                match one.kind {
                    DONE => return Ok(()),
                    ERROR => return error_of(one.payload),
                    _ => each(one.payload),
                }
            }
        }
        Err(io::Error::other("a list without an end"))
    }

    /// Sends messages of one batch and waits until the kernel has acknowledged `acknowledged` of
    /// them, or refused one.
    ///
    /// # Errors
    /// What the kernel answers, or a timeout.
    pub fn batch(&mut self, out: &[u8], acknowledged: usize) -> io::Result<()> {
        self.send(out)?;
        let mut buffer = vec![0; RECEIVE_BYTES];
        let mut seen = 0;
        while seen < acknowledged {
            let part = self.receive(&mut buffer)?;
            for one in messages(part).filter(|one| one.kind == ERROR) {
                error_of(one.payload)?;
                seen += 1;
            }
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        let sent = sendto(&self.socket, bytes, SendFlags::empty(), &kernel)?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// One datagram of the kernel's; those of others are passed over.
    fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        loop {
            let (_, length, from) = recvfrom(&self.socket, &mut *buffer, RecvFlags::empty())?;
            let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
            if from.is_some_and(|from| from.pid() == 0) {
                if length > buffer.len() {
                    return Err(io::Error::other("an answer larger than 64 KiB"));
                }
                return Ok(buffer.get(..length).unwrap_or_default());
            }
        }
    }
}

/// Appends one message.
pub fn message(out: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, payload: &[u8]) {
    let length = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&0u32.to_ne_bytes());
    out.extend_from_slice(payload);
    pad(out);
}

/// Appends one attribute.
pub fn attribute(out: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let length = u16::try_from(4 + payload.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(payload);
    pad(out);
}

/// Appends an attribute that holds attributes.
pub fn nested(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inside = Vec::new();
    fill(&mut inside);
    attribute(out, kind | NESTED, &inside);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    payload: &'a [u8],
}

fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(rest, 0)?).ok()?;
        let whole = rest.get(..length)?;
        let one = Message {
            kind: u16_at(whole, 4)?,
            sequence: u32_at(whole, 8)?,
            payload: whole.get(HEADER..)?,
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(one)
    })
}

/// The attributes of a payload: kind without flags, and content.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & 0x3fff;
        let content = rest.get(..length)?.get(4..)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

/// The content of the first attribute of that kind.
pub fn find(payload: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(payload)
        .find(|(found, _)| *found == kind)
        .map(|(_, content)| content)
}

/// A number as this machine writes it.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

/// A number as this machine writes it.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

/// The content of an error message: a negative errno, 0 for an acknowledgement.
fn error_of(payload: &[u8]) -> io::Result<()> {
    let code = u32_at(payload, 0).map_or(-1, u32::cast_signed);
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut payload = Vec::new();
        attribute(&mut payload, 1, b"abc");
        nested(&mut payload, 2, |inside| attribute(inside, 7, &[9]));
        let mut out = Vec::new();
        message(&mut out, 20, REQUEST, 5, &payload);
        message(&mut out, 21, REQUEST, 6, b"x");
        let read: Vec<_> = messages(&out).map(|one| (one.kind, one.sequence)).collect();
        assert_eq!(read, [(20, 5), (21, 6)]);
        let first = messages(&out).next().unwrap();
        assert_eq!(find(first.payload, 1), Some(b"abc".as_slice()));
        assert_eq!(
            find(find(first.payload, 2).unwrap(), 7),
            Some([9].as_slice())
        );
    }

    #[test]
    fn a_length_of_nothing_does_not_go_round_for_ever() {
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
        let mut short = 3u16.to_ne_bytes().to_vec();
        short.extend_from_slice(&[0; 62]);
        assert_eq!(attributes(&short).count(), 0);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for one in messages(&bytes) {
                prop_assert!(one.payload.len() <= bytes.len());
            }
            for (_, content) in attributes(&bytes) {
                prop_assert!(content.len() <= bytes.len());
            }
        }
    }
}
