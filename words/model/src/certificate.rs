//! Naming a certificate.

use crate::InvalidName;
use std::fmt;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        from_hex(text)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// In one piece: digests stand in every entry and answer, and the formatter's machinery costs as much
/// a byte as this does for all.
fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'?');
    for bytes in bytes.chunks(32) {
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        let text = text.get(..bytes.len() * 2).unwrap_or_default();
        f.write_str(std::str::from_utf8(text).map_err(|_| fmt::Error)?)?;
    }
    Ok(())
}

/// A certificate by issuer and serial number (RFC 5280 section 4.1.2.2).
///
/// Never by the digest of its encoding: an ECDSA signature has a second valid form, so whoever
/// holds a certificate can make one with another digest that verifies just as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateId {
    /// SHA-256 over the DER of the issuer's Name.
    issuer: Digest,
    serial: [u8; 20],
}

impl CertificateId {
    /// `serial` is the content of the INTEGER, big endian. Leading zero bytes do not count.
    /// `None` if more than 20 bytes are left (RFC 5280 section 4.1.2.2) or none is.
    #[must_use]
    pub fn new(issuer: Digest, serial: &[u8]) -> Option<Self> {
        let leading_zeros = serial.iter().take_while(|byte| **byte == 0).count();
        let significant = serial.get(leading_zeros..)?;
        if significant.is_empty() {
            return None;
        }
        let mut padded = [0; 20];
        padded
            .get_mut(20usize.checked_sub(significant.len())?..)?
            .copy_from_slice(significant);
        Some(Self {
            issuer,
            serial: padded,
        })
    }

    #[must_use]
    pub fn issuer(&self) -> Digest {
        self.issuer
    }

    /// Big endian, without leading zeros; the form of a DER INTEGER but for its sign byte.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        let leading_zeros = self.serial.iter().take_while(|byte| **byte == 0).count();
        self.serial.get(leading_zeros..).unwrap_or_default()
    }
}

/// `<issuer digest>:<serial>`, both in hex.
impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.issuer.0)?;
        f.write_str(":")?;
        write_hex(f, self.serial())
    }
}

impl std::str::FromStr for CertificateId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let read = || {
            let (issuer, serial) = text.split_once(':')?;
            Self::new(Digest::from_hex(issuer)?, &from_hex(serial)?)
        };
        read().ok_or_else(|| {
            let rule = "write <issuer digest>:<serial>, both in hex";
            InvalidName::new("certificate", text, rule)
        })
    }
}

/// Pairs of hexadecimal digits, 32 at most.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() > 64 || !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16)
                .ok()
                .filter(|_| !pair.starts_with('+'))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_the_same_with_and_without_its_sign_byte() {
        let issuer = Digest([7; 32]);
        assert_eq!(
            CertificateId::new(issuer, &[0, 0x80, 1]),
            CertificateId::new(issuer, &[0x80, 1])
        );
        assert_eq!(
            CertificateId::new(issuer, &[0, 0x80, 1]).unwrap().serial(),
            [0x80, 1]
        );
    }

    #[test]
    fn zero_and_overlong_serials_name_nothing() {
        let issuer = Digest([7; 32]);
        assert_eq!(CertificateId::new(issuer, &[]), None);
        assert_eq!(CertificateId::new(issuer, &[0, 0]), None);
        assert_eq!(CertificateId::new(issuer, &[1; 21]), None);
        assert!(CertificateId::new(issuer, &[1; 20]).is_some());
    }

    #[test]
    fn what_is_no_certificate_id_is_not_read_as_one() {
        let id = CertificateId::new(Digest([0xab; 32]), &[1, 0xff]).unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [
            "",
            ":",
            "ab:01",
            &format!("{}:", "ab".repeat(32)),
            &format!("{}:+1", "ab".repeat(32)),
        ] {
            assert!(text.parse::<CertificateId>().is_err(), "{text:?}");
        }
    }
}
