//! What lies outside a simulated network: a resolver that knows a few names, and a sink that
//! takes whatever is sent to it.
//!
//! Both answer everybody and keep count by source address; on a bridge whose ports own their
//! addresses that is proof, elsewhere a label.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Names kept of one asker between two looks.
const NAMES_MAX: usize = 16;
const ASKERS_MAX: usize = 4096;
/// Who was given which address, for naming what is seen later.
const GIVEN_MAX: usize = 16_384;
/// A name in DNS (RFC 1035 section 2.3.4), dots included.
const NAME_BYTES_MAX: usize = 255;
const CONNECTIONS_MAX: usize = 256;
const IDLE_MAX: Duration = Duration::from_secs(10);
const CALL_MAX: Duration = Duration::from_secs(2);

/// A resolver for a closed list of names (RFC 1035): it answers A queries, and NXDOMAIN for
/// everything else.
#[derive(Debug, Clone)]
pub struct Resolver {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
}

#[derive(Debug, Default)]
struct State {
    asked: BTreeMap<IpAddr, Asked>,
    given: BTreeMap<(IpAddr, IpAddr), String>,
}

/// What one address has asked since the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    pub queries: u64,
    /// At most 16 of the names.
    pub names: BTreeSet<String>,
}

impl Resolver {
    /// Answers on a thread of its own until the process ends.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn start(bind: SocketAddr, names: BTreeMap<String, Ipv4Addr>) -> io::Result<Self> {
        let socket = UdpSocket::bind(bind)?;
        let resolver = Self {
            state: Arc::default(),
            address: socket.local_addr()?,
        };
        let state = resolver.state.clone();
        std::thread::spawn(move || {
            let mut datagram = [0; 512];
            loop {
                // A refused answer shows as an error of the next receive; the next one may be fine.
                let Ok((length, from)) = socket.recv_from(&mut datagram) else {
                    continue;
                };
                let query = datagram.get(..length).unwrap_or_default();
                if let Some(answer) = lock(&state).answer(query, from.ip(), &names) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(resolver)
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was asked since the last call, by asker.
    #[must_use]
    pub fn take(&self) -> BTreeMap<IpAddr, Asked> {
        std::mem::take(&mut lock(&self.state).asked)
    }

    /// The name for which this asker was given this address.
    #[must_use]
    pub fn name_given(&self, asker: IpAddr, address: IpAddr) -> Option<String> {
        lock(&self.state).given.get(&(asker, address)).cloned()
    }
}

impl State {
    fn answer(
        &mut self,
        query: &[u8],
        from: IpAddr,
        names: &BTreeMap<String, Ipv4Addr>,
    ) -> Option<Vec<u8>> {
        let (name, question) = question(query)?;
        if self.asked.len() < ASKERS_MAX || self.asked.contains_key(&from) {
            let asked = self.asked.entry(from).or_default();
            asked.queries += 1;
            if asked.names.len() < NAMES_MAX {
                asked.names.insert(name.clone());
            }
        }
        let found = names.get(&name);
        let mut answer = query.get(..2)?.to_vec();
        // A response, recursion desired and available; NXDOMAIN (3) for what is not listed.
        answer.extend([0x81, if found.is_some() { 0x80 } else { 0x83 }]);
        answer.extend([0, 1, 0, u8::from(found.is_some()), 0, 0, 0, 0]);
        answer.extend(question);
        if let Some(address) = found {
            if self.given.len() < GIVEN_MAX {
                self.given.insert((from, IpAddr::V4(*address)), name);
            }
            // The name of the question, A, IN, 60 seconds, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address.octets());
        }
        Some(answer)
    }
}

/// The one question of a query: its name in lower case and its bytes.
fn question(query: &[u8]) -> Option<(String, &[u8])> {
    let is_query = query.get(2)? & 0x80 == 0;
    if !is_query || query.get(4..6)? != [0, 1] {
        return None;
    }
    let mut name = String::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // Pointers have no place in a question.
        if length > 63 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        for byte in query.get(at..at + length)? {
            let letter = byte.to_ascii_lowercase();
            name.push(if letter.is_ascii_graphic() {
                char::from(letter)
            } else {
                '?'
            });
        }
        at += length;
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
    }
    Some((name, query.get(12..at + 4)?))
}

/// An A query for `name`.
#[must_use]
pub fn query(id: u16, name: &str) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let label = label
            .as_bytes()
            .get(..label.len().min(63))
            .unwrap_or_default();
        out.push(u8::try_from(label.len()).unwrap_or_default());
        out.extend(label);
    }
    out.extend([0, 0, 1, 0, 1]);
    out
}

/// Takes TCP connections at these ports of an address and throws away what comes, on threads of
/// its own until the process ends. Whoever connects is called back at `call_back`, from the
/// address that was called: as a controller does with a device it has been let into.
///
/// # Errors
/// A port cannot be bound.
pub fn sink(address: IpAddr, ports: &[u16], call_back: u16) -> io::Result<()> {
    for port in ports {
        let listener = TcpListener::bind((address, *port))?;
        std::thread::spawn(move || swallow_connections(&listener, call_back));
    }
    Ok(())
}

/// One datagram.
///
/// # Errors
/// It could not be sent.
pub fn knock(at: SocketAddr) -> io::Result<()> {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?
        .send_to(b"knock", at)
        .map(drop)
}

/// A UDP port of loopback that nobody holds at this moment.
///
/// # Errors
/// There is none.
pub fn free_udp_port() -> io::Result<u16> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(socket.local_addr()?.port())
}

fn swallow_connections(listener: &TcpListener, call_back: u16) {
    let open = Arc::new(());
    for connection in listener.incoming().flatten() {
        if Arc::strong_count(&open) > CONNECTIONS_MAX {
            continue;
        }
        let one = open.clone();
        std::thread::spawn(move || {
            if let (Ok(called), Ok(caller)) = (connection.local_addr(), connection.peer_addr()) {
                // Nobody may listen there.
                let _ = call(called.ip(), SocketAddr::new(caller.ip(), call_back));
            }
            swallow(connection);
            drop(one);
        });
    }
}

/// Connects from one address to another, and hangs up.
fn call(from: IpAddr, to: SocketAddr) -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let family = match from {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = SocketType::STREAM;
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Send,
        Some(CALL_MAX),
    )?;
    rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
    Ok(rustix::net::connect(&socket, &to)?)
}

fn swallow(mut connection: TcpStream) {
    let mut chunk = [0; 64 * 1024];
    let _ = connection.set_read_timeout(Some(IDLE_MAX));
    while connection.read(&mut chunk).is_ok_and(|length| length > 0) {}
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ASKER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 11));

    #[test]
    fn known_names_are_answered_and_others_are_not() {
        let address = Ipv4Addr::new(203, 0, 113, 10);
        let names = [("time.example.net".to_owned(), address)].into();
        let mut state = State::default();
        let answer = state
            .answer(&query(7, "Time.example.NET"), ASKER, &names)
            .unwrap();
        assert_eq!(answer[..4], [0, 7, 0x81, 0x80]);
        assert_eq!(answer[answer.len() - 4..], address.octets());
        let answer = state.answer(&query(8, "x.example"), ASKER, &names).unwrap();
        assert_eq!(answer[3] & 0x0f, 3, "NXDOMAIN");
        let asked = &state.asked[&ASKER];
        assert_eq!(asked.queries, 2);
        assert!(asked.names.contains("time.example.net"));
        assert_eq!(
            state.given[&(ASKER, IpAddr::V4(address))],
            "time.example.net"
        );
    }

    #[test]
    fn a_resolver_answers_over_the_wire() {
        let names = [("a.example".to_owned(), Ipv4Addr::LOCALHOST)].into();
        let resolver = Resolver::start(SocketAddr::from(([127, 0, 0, 1], 0)), names).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .send_to(&query(1, "a.example"), resolver.address())
            .unwrap();
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(answer[length - 4..length], [127, 0, 0, 1]);
        assert_eq!(resolver.take()[&IpAddr::V4(Ipv4Addr::LOCALHOST)].queries, 1);
        assert!(resolver.take().is_empty());
    }

    proptest! {
        #[test]
        fn hostile_queries_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let mut state = State::default();
            let _ = state.answer(&bytes, ASKER, &BTreeMap::new());
        }
    }
}
