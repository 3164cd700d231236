//! Where a claim certificate may be used from.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

/// Addresses that share their first bits: `192.0.2.0/24`, `2001:db8::/32`, or one address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    first: IpAddr,
    prefix_bits: u8,
}

/// Why a text is no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a range of addresses; operator: write 192.0.2.0/24 or 2001:db8::/32, with no bit set behind \
     the prefix"
)]
pub struct InvalidRange;

impl AddressRange {
    /// IPv4 in IPv6 (`::ffff:192.0.2.1`) is the IPv4 address that it is.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let mask = mask_4(self.prefix_bits);
                address.to_bits() & mask == first.to_bits()
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let mask = mask_6(self.prefix_bits);
                address.to_bits() & mask == first.to_bits()
            }
            _ => false,
        }
    }
}

fn mask_4(prefix_bits: u8) -> u32 {
    u32::MAX
        .checked_shl(u32::from(32u8.saturating_sub(prefix_bits)))
        .unwrap_or(0)
}

fn mask_6(prefix_bits: u8) -> u128 {
    u128::MAX
        .checked_shl(u32::from(128u8.saturating_sub(prefix_bits)))
        .unwrap_or(0)
}

impl FromStr for AddressRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| InvalidRange)?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| InvalidRange)?
            }
            Some(_) => return Err(InvalidRange),
            None => most,
        };
        let is_first = match first {
            IpAddr::V4(first) => {
                first == Ipv4Addr::from_bits(first.to_bits() & mask_4(prefix_bits))
            }
            IpAddr::V6(first) => {
                first == Ipv6Addr::from_bits(first.to_bits() & mask_6(prefix_bits))
                    && first.to_ipv4_mapped().is_none()
            }
        };
        if prefix_bits > most || !is_first {
            return Err(InvalidRange);
        }
        Ok(Self { first, prefix_bits })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_holds_its_own_and_no_neighbour() {
        for (text, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.128/25", "192.0.2.128", "192.0.2.127"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("10.0.0.0/8", "::ffff:10.9.9.9", "::ffff:11.0.0.0"),
        ] {
            assert!(range(text).holds(inside.parse().unwrap()), "{text}");
            assert!(!range(text).holds(outside.parse().unwrap()), "{text}");
        }
        assert!(range("0.0.0.0/0").holds("255.255.255.255".parse().unwrap()));
        assert!(!range("0.0.0.0/0").holds("2001:db8::1".parse().unwrap()));
        assert!(range("::/0").holds("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn a_range_is_written_as_it_was_read_and_a_sloppy_one_is_refused() {
        for text in ["192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0", "192.0.2.7/32"] {
            assert_eq!(range(text).to_string(), text);
        }
        for text in [
            "192.0.2.1/24",
            "192.0.2.0/33",
            "192.0.2.0/-1",
            "192.0.2.0/+8",
            "192.0.2.0/",
            "192.0.2/24",
            "::ffff:192.0.2.0/120",
            "",
            "/8",
            "everywhere",
        ] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
    }
}
