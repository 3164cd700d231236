//! PROXY protocol, version 2 (HAProxy's specification): what a balancer in front of a door says of
//! whom it forwards. Believed from named addresses alone, and demanded of them.

use identity::claim_certificate::AddressRange;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Who forwards connections to our doors for devices.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Vec<AddressRange>);

impl Proxies {
    /// # Errors
    /// The entry that is no address or network.
    pub fn new(addresses: &[String]) -> Result<Self, String> {
        let read = |text: &String| text.parse().map_err(|_| text.clone());
        addresses
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether whoever comes from there must say for whom.
    #[must_use]
    pub fn hold(&self, peer: IpAddr) -> bool {
        self.0.iter().any(|range| range.holds(peer))
    }
}

/// The first bytes of every header; TLS never begins so.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const HEAD_BYTES: usize = 16;
/// Of a whole header. The addresses take 52 at most; the rest are extensions, which are skipped.
const BYTES_MAX: usize = 2048;

/// Why a connection is refused for its header, or for want of one. The operator must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyRefusal {
    #[error(
        "it comes from an address of listen.proxies and does not begin with a PROXY header of \
         version 2; operator: have it send one (send-proxy-v2), or take the address off the list"
    )]
    Missing,
    #[error(
        "it begins with a PROXY header, and its address is not in listen.proxies; operator: add it \
         there, if it is a balancer of yours"
    )]
    Unexpected,
    #[error("its PROXY header cannot be used: {0}; operator: check the balancer in front")]
    Malformed(&'static str),
}

impl ProxyRefusal {
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Missing => "proxy-header-missing",
            Self::Unexpected => "proxy-header-unexpected",
            Self::Malformed(_) => "proxy-header-malformed",
        }
    }
}

/// How far a header has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// So many bytes more belong to it, at least; not one behind it.
    Wants(usize),
    /// Who is forwarded; `None`: the balancer speaks for itself, to see whether we live.
    Whole(Option<SocketAddr>),
}

/// Reads what has come of a header. Whoever reads no more than it wants leaves what follows where it
/// is, for TLS.
///
/// # Errors
/// It is none, or none that is believed.
pub fn read(bytes: &[u8]) -> Result<Header, ProxyRefusal> {
    if !bytes.iter().zip(SIGNATURE).all(|(byte, of)| *byte == of) {
        return Err(ProxyRefusal::Missing);
    }
    let Some([.., command, family, high, low]) = bytes.first_chunk::<HEAD_BYTES>() else {
        return Ok(Header::Wants(HEAD_BYTES - bytes.len()));
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let malformed = |what| Err(ProxyRefusal::Malformed(what));
    if command >> 4 != 2 {
        return malformed("it is not of version 2");
    }
    if HEAD_BYTES + length > BYTES_MAX {
        return malformed("it is longer than 2048 bytes");
    }
    let is_local = match command & 0x0f {
        0 => true,
        1 => false,
        _ => return malformed("it holds an unknown command"),
    };
    let Some(rest) = bytes.get(HEAD_BYTES..HEAD_BYTES + length) else {
        return Ok(Header::Wants(HEAD_BYTES + length - bytes.len()));
    };
    if is_local {
        return Ok(Header::Whole(None));
    }
    let source = match (*family, rest) {
        // TCP over IPv4: two addresses, two ports.
        (0x11, [a, b, c, d, _, _, _, _, high, low, _, _, ..]) => {
            let address = IpAddr::V4(Ipv4Addr::new(*a, *b, *c, *d));
            SocketAddr::new(address, u16::from_be_bytes([*high, *low]))
        }
        // TCP over IPv6.
        (0x21, rest) => {
            let (Some(address), Some(ports)) = (rest.first_chunk::<16>(), rest.get(32..36)) else {
                return malformed("its addresses are cut off");
            };
            let port = ports
                .iter()
                .take(2)
                .fold(0, |port, byte| port << 8 | u16::from(*byte));
            SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*address)).to_canonical(), port)
        }
        (0x11, _) => return malformed("its addresses are cut off"),
        _ => return malformed("it speaks of something else than TCP over IP"),
    };
    Ok(Header::Whole(Some(source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    const FOUR: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0xc0, 0x01, 0x01, 0xbb];

    #[test]
    fn a_header_is_read_however_it_comes_and_not_a_byte_behind_it() {
        let six: Vec<u8> = [
            [0x20, 1, 0xd, 0xb8].as_slice(),
            &[0; 11],
            &[9],
            &[0; 16],
            &[1, 2, 3, 4],
        ]
        .concat();
        let mapped: Vec<u8> = [
            [0; 10].as_slice(),
            &[0xff, 0xff, 192, 0, 2, 7],
            &[0; 16],
            &[1, 2, 3, 4],
        ]
        .concat();
        let extended = [&FOUR[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        for (bytes, source) in [
            (header(0x21, 0x11, &FOUR), Some("192.0.2.7:49153")),
            (header(0x21, 0x11, &extended), Some("192.0.2.7:49153")),
            (header(0x21, 0x21, &six), Some("[2001:db8::9]:258")),
            (header(0x21, 0x21, &mapped), Some("192.0.2.7:258")),
            (header(0x20, 0, &[]), None),
            (header(0x20, 0x11, &FOUR), None),
        ] {
            let whole = Header::Whole(source.map(|text| text.parse().unwrap()));
            assert_eq!(read(&bytes), Ok(whole));
            // Byte by byte, and each time no more than is wanted.
            let mut come = 0;
            while come < bytes.len() {
                let Ok(Header::Wants(more)) = read(&bytes[..come]) else {
                    panic!("{come} of {bytes:02x?}");
                };
                assert!(more > 0 && come + more <= bytes.len());
                come += 1;
            }
        }
    }

    #[test]
    fn what_is_no_header_of_version_2_is_refused_at_its_first_wrong_byte() {
        for bytes in [
            &b"PROXY TCP4 192.0.2.7"[..],
            b"\x16\x03\x01",
            b"\r\n\r\nGET",
        ] {
            assert_eq!(read(bytes), Err(ProxyRefusal::Missing));
        }
        for bytes in [
            header(0x11, 0x11, &FOUR),
            header(0x22, 0x11, &FOUR),
            header(0x21, 0x12, &FOUR),
            header(0x21, 0x31, &[0; 216]),
            header(0x21, 0x00, &[]),
            header(0x21, 0x11, &FOUR[..11]),
            header(0x21, 0x21, &[0; 35]),
            header(0x21, 0x11, &[0; 2033]),
        ] {
            assert!(
                matches!(read(&bytes), Err(ProxyRefusal::Malformed(_))),
                "{bytes:02x?}"
            );
        }
        // Of a header that is too long nothing more is read.
        assert!(read(&[&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat()).is_err());
    }

    #[test]
    fn only_named_addresses_are_believed() {
        let named = ["192.0.2.0/24".to_owned(), "2001:db8::7".to_owned()];
        let proxies = Proxies::new(&named).unwrap();
        for (peer, holds) in [
            ("192.0.2.200", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.3.1", false),
            ("2001:db8::7", true),
            ("2001:db8::8", false),
        ] {
            assert_eq!(proxies.hold(peer.parse().unwrap()), holds, "{peer}");
        }
        assert!(!Proxies::default().hold("192.0.2.1".parse().unwrap()));
        assert!(Proxies::new(&["everywhere".to_owned()]).is_err());
    }

    /// Seeded nonsense: never a panic, never more wanted than a header may have.
    #[test]
    fn nonsense_behind_the_signature_is_bounded() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..200_000 {
            let mut bytes = SIGNATURE.to_vec();
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.extend(seed.to_be_bytes().iter().take((seed % 9) as usize));
            if let Ok(Header::Wants(more)) = read(&bytes) {
                assert!(more > 0 && bytes.len() + more <= BYTES_MAX);
            }
        }
    }
}
