//! A stub resolver: whoever asks a name in this device asks here, so the questions can be counted.
//! It forwards UDP to one upstream and changes nothing; TCP is not offered.

use crate::config::Dns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Questions that wait for upstream at once; the oldest gives way.
const WAITING_MAX: usize = 128;
const PATIENCE: Duration = Duration::from_secs(5);
/// Different names kept of one interval.
const NAMES_MAX: usize = 32;
/// Addresses whose names are remembered.
const HOSTS_MAX: usize = 512;
const MESSAGE_BYTES_MAX: usize = 4096;

/// What the stub saw; shared with its thread.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    queries: u64,
    names: Vec<String>,
    hosts: VecDeque<(IpAddr, String)>,
}

impl Seen {
    /// Questions and names since the last call.
    pub fn take(&self) -> (u64, Vec<String>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (
            std::mem::take(&mut counts.queries),
            std::mem::take(&mut counts.names),
        )
    }

    /// The name by which an address was last found.
    pub fn host_of(&self, address: IpAddr) -> Option<String> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hosts = counts.hosts.iter().rev();
        hosts
            .find(|(found, _)| *found == address)
            .map(|(_, name)| name.clone())
    }

    fn asked(&self, name: Option<String>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.queries += 1;
        if let Some(name) = name
            && counts.names.len() < NAMES_MAX
            && !counts.names.contains(&name)
        {
            counts.names.push(name);
        }
    }

    fn answered(&self, found: Vec<(IpAddr, String)>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in found {
            counts.hosts.retain(|(address, _)| *address != one.0);
            if counts.hosts.len() == HOSTS_MAX {
                counts.hosts.pop_front();
            }
            counts.hosts.push_back(one);
        }
    }
}

/// Opens the stub and lets it run beside the agent, for as long as the process lives.
///
/// # Errors
/// If its address cannot be opened.
pub fn start(dns: Dns) -> io::Result<Seen> {
    let listening = UdpSocket::bind(dns.listen)?;
    listening.set_nonblocking(true)?;
    let seen = Seen::default();
    let told = seen.clone();
    std::thread::Builder::new()
        .name("dns".to_owned())
        .spawn(move || forward(&listening, dns.upstream, &told))?;
    Ok(seen)
}

struct Waiting {
    client: SocketAddr,
    upstream: UdpSocket,
    /// Identifier and question, as asked: an answer to another question is nobody's.
    asked: Vec<u8>,
    until: Instant,
}

fn forward(listening: &UdpSocket, upstream: SocketAddr, seen: &Seen) {
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    loop {
        let now = Instant::now();
        waiting.retain(|one| one.until > now);
        let mut fds = vec![PollFd::new(listening, PollFlags::IN)];
        fds.extend(
            waiting
                .iter()
                .map(|one| PollFd::from_borrowed_fd(one.upstream.as_fd(), PollFlags::IN)),
        );
        let second = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        // Interrupted or not, the sockets are read without blocking.
        let _ = poll(&mut fds, Some(&second));
        drop(fds);
        waiting.retain(|one| !relay(one, listening, seen, &mut buffer));
        while let Ok((length, client)) = listening.recv_from(&mut buffer) {
            let message = buffer.get(..length).unwrap_or_default();
            let Some(asked) = asked(message) else {
                continue;
            };
            seen.asked(name_at(message, HEADER).map(|(name, _)| name));
            if let Ok(socket) = ask(upstream, message) {
                if waiting.len() == WAITING_MAX {
                    waiting.pop_front();
                }
                waiting.push_back(Waiting {
                    client,
                    upstream: socket,
                    asked,
                    until: Instant::now() + PATIENCE,
                });
            }
        }
    }
}

/// A socket for each question: the kernel chooses a port that nobody can guess.
fn ask(upstream: SocketAddr, message: &[u8]) -> io::Result<UdpSocket> {
    let any: IpAddr = if upstream.is_ipv4() {
        IpAddr::from([0; 4])
    } else {
        IpAddr::from([0; 16])
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(upstream)?;
    socket.send(message)?;
    Ok(socket)
}

/// True if the question is done with.
fn relay(one: &Waiting, listening: &UdpSocket, seen: &Seen, buffer: &mut [u8]) -> bool {
    loop {
        match one.upstream.recv(buffer) {
            Ok(length) => {
                let message = buffer.get(..length).unwrap_or_default();
                if asked(message).is_some_and(|answered| same(&answered, &one.asked)) {
                    seen.answered(addresses(message));
                    let _ = listening.send_to(message, one.client);
                    return true;
                }
            }
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

const HEADER: usize = 12;

/// Identifier and question of a message with exactly one question.
fn asked(message: &[u8]) -> Option<Vec<u8>> {
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let (_, after) = name_at(message, HEADER)?;
    let question = message.get(HEADER..after.checked_add(4)?)?;
    Some([message.get(..2)?, question].concat())
}

/// Letters may come back in another case.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.get(..2) == b.get(..2) && a.eq_ignore_ascii_case(b)
}

/// A name at an offset and where it ends; small letters, and whatever is no letter, digit, dash,
/// underscore or star is a question mark: it goes into reports.
fn name_at(message: &[u8], at: usize) -> Option<(String, usize)> {
    const LABELS_MAX: usize = 128;
    let (mut name, mut at, mut end) = (String::new(), at, None);
    for _ in 0..LABELS_MAX {
        let length = *message.get(at)?;
        match length {
            0 => {
                let after = end.unwrap_or(at + 1);
                return (name.len() <= 255).then_some((name, after));
            }
            1..=63 => {
                let label = message.get(at + 1..at + 1 + usize::from(length))?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().map(|byte| match byte {
                    b'A'..=b'Z' => char::from(byte.to_ascii_lowercase()),
                    b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'*' => char::from(*byte),
                    _ => '?',
                }));
                at += 1 + usize::from(length);
            }
            0xc0.. => {
                // A pointer; it may only point back, so that names end.
                let to = usize::from(length & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                if to >= at {
                    return None;
                }
                end.get_or_insert(at + 2);
                at = to;
            }
            _ => return None,
        }
    }
    None
}

/// Addresses of an answer, with the name that was asked.
fn addresses(message: &[u8]) -> Vec<(IpAddr, String)> {
    const ANSWERS_MAX: usize = 32;
    let mut found = Vec::new();
    let Some((name, after)) = name_at(message, HEADER) else {
        return found;
    };
    let mut at = after + 4;
    let two = |at: usize| {
        Some(u16::from_be_bytes(
            message.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    for _ in 0..usize::from(two(6).unwrap_or(0)).min(ANSWERS_MAX) {
        let Some((_, after)) = name_at(message, at) else {
            break;
        };
        let (Some(kind), Some(length)) = (two(after), two(after + 8)) else {
            break;
        };
        let start = after + 10;
        let Some(content) = message.get(start..start + usize::from(length)) else {
            break;
        };
        if kind == 1
            && let Ok(four) = <[u8; 4]>::try_from(content)
        {
            found.push((IpAddr::from(four), name.clone()));
        } else if kind == 28
            && let Ok(sixteen) = <[u8; 16]>::try_from(content)
        {
            found.push((IpAddr::from(sixteen), name.clone()));
        }
        at = start + content.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(id: u16, name: &str) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend_from_slice(label.as_bytes());
        }
        message.extend_from_slice(&[0, 0, 1, 0, 1]);
        message
    }

    fn answer(question: &[u8], address: [u8; 4]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2] |= 0x80;
        message[7] = 1;
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        message.extend_from_slice(&address);
        message
    }

    #[test]
    fn a_question_is_forwarded_counted_and_its_answer_remembered() {
        let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
        let free = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let dns = Dns {
            upstream: upstream.local_addr().unwrap(),
            listen: free,
        };
        let seen = start(dns).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        client.send_to(&question(7, "Video.Example"), free).unwrap();
        let mut buffer = [0; 512];
        let (length, stub) = upstream.recv_from(&mut buffer).unwrap();
        // An answer to another question is passed over.
        let other = answer(&question(7, "evil.example"), [6, 6, 6, 6]);
        upstream.send_to(&other, stub).unwrap();
        let right = answer(&buffer[..length], [203, 0, 113, 5]);
        upstream.send_to(&right, stub).unwrap();
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], right);
        assert_eq!(seen.take(), (1, vec!["video.example".to_owned()]));
        assert_eq!(seen.take(), (0, vec![]));
        let host = seen.host_of([203, 0, 113, 5].into());
        assert_eq!(host.as_deref(), Some("video.example"));
        assert_eq!(seen.host_of([6, 6, 6, 6].into()), None);
    }

    #[test]
    fn hostile_names_are_harmless_and_end() {
        let (name, _) = name_at(&question(1, "a\u{1b}[2J.b"), HEADER).unwrap();
        assert_eq!(name, "a??2j.b");
        let mut loops = question(1, "a");
        loops[HEADER] = 0xc0;
        loops[HEADER + 1] = 12;
        assert_eq!(name_at(&loops, HEADER), None);
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            asked(&bytes);
            addresses(&bytes);
        }
    }
}
