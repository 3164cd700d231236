//! Sockets of this network namespace: by the kernel's socket diagnostics, else by `/proc/net`.

use crate::netlink::{self, Netlink};
use detection::report::Transport;
use rustix::net::netlink::SOCK_DIAG;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Sockets of one kind that are looked at.
const SOCKETS_MAX: usize = 8192;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const ESTABLISHED: u8 = 1;
/// Unconnected UDP is "closed" in the kernel's words.
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    pub protocol: Transport,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Bytes that the other side has acknowledged, where the kernel says so.
    pub bytes_out: Option<u64>,
}

/// Which sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// TCP that listens, and UDP that is bound without a peer.
    Listening,
    /// TCP and UDP with a peer.
    Connected,
}

/// Asks the kernel's socket diagnostics.
///
/// # Errors
/// If it does not answer; both address families and protocols are asked or none counts.
pub fn by_sock_diag(want: Want) -> io::Result<Vec<Socket>> {
    const IPV4: u8 = 2;
    const IPV6: u8 = 10;
    let mut netlink = Netlink::open(SOCK_DIAG)?;
    let mut found = Vec::new();
    for (protocol, number) in [(Transport::Tcp, 6), (Transport::Udp, 17)] {
        for family in [IPV4, IPV6] {
            let request = request(family, number, state_of(want, protocol));
            netlink.dump(SOCK_DIAG_BY_FAMILY, &request, |payload| {
                if found.len() < SOCKETS_MAX
                    && let Some(socket) = answer(payload, protocol)
                {
                    found.push(socket);
                }
            })?;
        }
    }
    Ok(found)
}

const fn state_of(want: Want, protocol: Transport) -> u8 {
    match (want, protocol) {
        (Want::Connected, _) => ESTABLISHED,
        (Want::Listening, Transport::Tcp) => LISTEN,
        (Want::Listening, Transport::Udp) => CLOSE,
    }
}

/// `struct inet_diag_req_v2`, for all sockets in one state.
fn request(family: u8, protocol: u8, state: u8) -> Vec<u8> {
    const INET_DIAG_INFO_WANTED: u8 = 1 << 1;
    const SOCKET_ID_BYTES: usize = 48;
    let mut bytes = vec![family, protocol, INET_DIAG_INFO_WANTED, 0];
    bytes.extend_from_slice(&(1u32 << state).to_ne_bytes());
    bytes.resize(bytes.len() + SOCKET_ID_BYTES, 0);
    bytes
}

/// `struct inet_diag_msg` and its attributes.
fn answer(payload: &[u8], protocol: Transport) -> Option<Socket> {
    const MESSAGE_BYTES: usize = 72;
    const INET_DIAG_INFO: u16 = 2;
    /// `tcpi_bytes_acked` in `struct tcp_info`, since Linux 4.1.
    const BYTES_ACKED_AT: usize = 120;
    let family = *payload.first()?;
    let address = |at: usize| -> Option<IpAddr> {
        let bytes = payload.get(at..at + 16)?;
        match family {
            2 => Some(IpAddr::V4(Ipv4Addr::from(
                <[u8; 4]>::try_from(bytes.get(..4)?).ok()?,
            ))),
            10 => Some(plain(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))),
            _ => None,
        }
    };
    let port = |at: usize| {
        Some(u16::from_be_bytes(
            payload.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    let bytes_out = payload
        .get(MESSAGE_BYTES..)
        .and_then(|rest| netlink::find(rest, INET_DIAG_INFO))
        .filter(|_| protocol == Transport::Tcp)
        .and_then(|info| netlink::u64_at(info, BYTES_ACKED_AT));
    Some(Socket {
        protocol,
        local: SocketAddr::new(address(8)?, port(4)?),
        remote: SocketAddr::new(address(24)?, port(6)?),
        bytes_out,
    })
}

/// Reads `/proc/net/{tcp,tcp6,udp,udp6}` below `folder`.
///
/// # Errors
/// If one cannot be read; a system without IPv6 has no `tcp6`, which is no error.
pub fn by_proc(folder: &Path, want: Want) -> io::Result<Vec<Socket>> {
    let mut found = Vec::new();
    for (name, protocol) in [
        ("tcp", Transport::Tcp),
        ("tcp6", Transport::Tcp),
        ("udp", Transport::Udp),
        ("udp6", Transport::Udp),
    ] {
        let text = match std::fs::read_to_string(folder.join(name)) {
            Err(error) if name.ends_with('6') && error.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            read => read?,
        };
        let state = state_of(want, protocol);
        let sockets = text
            .lines()
            .skip(1)
            .filter_map(|line| line_of(line, protocol, state));
        found.extend(sockets.take(SOCKETS_MAX));
    }
    Ok(found)
}

/// `  0: 0100007F:0277 00000000:0000 0A …`
fn line_of(line: &str, protocol: Transport, state: u8) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (hex_address(words.next()?)?, hex_address(words.next()?)?);
    (u8::from_str_radix(words.next()?, 16).ok()? == state).then_some(Socket {
        protocol,
        local,
        remote,
        bytes_out: None,
    })
}

/// Words of four bytes as this machine writes numbers, then the port.
fn hex_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for word in address.as_bytes().chunks(8) {
        let word = std::str::from_utf8(word)
            .ok()
            .filter(|word| word.len() == 8)?;
        bytes.extend_from_slice(&u32::from_str_radix(word, 16).ok()?.to_ne_bytes());
    }
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => plain(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)),
    };
    Some(SocketAddr::new(address, port))
}

/// An IPv4 address in IPv6's clothes is one of IPv4.
fn plain(address: Ipv6Addr) -> IpAddr {
    address
        .to_ipv4_mapped()
        .map_or(IpAddr::V6(address), IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    /// Both ways must see what this test really opens.
    fn look(want: Want) -> Vec<(&'static str, Vec<Socket>)> {
        let mut looks = vec![("proc", by_proc(Path::new("/proc/self/net"), want).unwrap())];
        match by_sock_diag(want) {
            Ok(found) => looks.push(("sock_diag", found)),
            Err(error) => println!("skipped: no socket diagnostics here ({error})"),
        }
        looks
    }

    #[test]
    fn a_port_that_opens_is_seen_by_each_way() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0")
            .or_else(|_| UdpSocket::bind("127.0.0.1:0"))
            .unwrap();
        for (way, found) in look(Want::Listening) {
            for (protocol, local) in [
                (Transport::Tcp, tcp.local_addr().unwrap()),
                (Transport::Udp, udp.local_addr().unwrap()),
            ] {
                assert!(
                    found
                        .iter()
                        .any(|s| s.protocol == protocol && s.local == local),
                    "{way} {local}"
                );
            }
        }
    }

    #[test]
    fn a_connection_is_seen_by_each_way() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        for (way, found) in look(Want::Connected) {
            assert!(
                found.iter().any(|s| s.local == client.local_addr().unwrap()
                    && s.remote == server.local_addr().unwrap()),
                "{way}"
            );
        }
    }

    #[test]
    fn lines_of_proc() {
        let line =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1";
        if cfg!(target_endian = "little") {
            let socket = line_of(line, Transport::Tcp, LISTEN).unwrap();
            assert_eq!(socket.local, "127.0.0.1:8080".parse().unwrap());
            let six = hex_address("0000000000000000FFFF00000100000A:0035").unwrap();
            assert_eq!(six, "10.0.0.1:53".parse().unwrap());
        }
        assert_eq!(line_of(line, Transport::Tcp, ESTABLISHED), None);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "\\PC{0,80}", raw in "[0-9A-Fa-f: ]{0,90}") {
            line_of(&line, Transport::Tcp, LISTEN);
            line_of(&raw, Transport::Udp, CLOSE);
        }

        #[test]
        fn no_answer_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            answer(&bytes, Transport::Tcp);
        }
    }
}
