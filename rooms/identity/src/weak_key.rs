//! Keys that are nobody's secret: what a public key alone shows, and lists of keys whose private
//! half is known.

mod natural;

use crate::certificate::{sha1, sha256};
use crate::path::Presented;
use const_oid::db::rfc5912::RSA_ENCRYPTION;
use der::asn1::UintRef;
use der::{Decode, Reader, SliceReader};
use model::Digest;
use natural::Natural;
use spki::SubjectPublicKeyInfoRef;

/// Why a key is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyFlaw {
    /// Of a generator whose keys can be factored (CVE-2017-15361).
    Roca,
    /// Its primes lie so close together that Fermat's method finds them (CVE-2022-26320).
    ClosePrimes,
    /// One of the 32,768 that Debian's OpenSSL could make from 2006 to 2008 (CVE-2008-0166).
    Debian,
    /// Its private half has been published.
    Published,
}

impl KeyFlaw {
    /// For logs and screens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Roca => "roca",
            Self::ClosePrimes => "close-primes",
            Self::Debian => "debian",
            Self::Published => "published",
        }
    }
}

/// Bytes of a SHA-256 that are kept: with 15 of them two keys in 2^60 are one.
const PUBLISHED_BYTES: usize = 15;
/// The last bytes of a SHA-1, as Debian's lists have them.
const DEBIAN_BYTES: usize = 10;

/// Keys whose private half is known. Immutable, 15 or 10 bytes a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BadKeys {
    /// Sorted.
    published: Vec<[u8; PUBLISHED_BYTES]>,
    /// Sorted.
    debian: Vec<[u8; DEBIAN_BYTES]>,
}

/// A line of a list that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {rule}; operator: correct the list")]
pub struct InvalidList {
    pub line: usize,
    pub rule: &'static str,
}

impl BadKeys {
    /// Both lists, one key a line; what follows a blank, empty lines and lines that begin with `#`
    /// say nothing.
    ///
    /// `published`: the SHA-256 of a SubjectPublicKeyInfo in hex, or its first 30 digits or more.
    /// `debian`: the last 20 hex digits of the SHA-1 of `Modulus=<hex in capitals>` and a line feed
    /// (package openssl-blacklist), or all 40.
    ///
    /// # Errors
    /// The first line that is none of these: a list that is half read would say that a key is good.
    pub fn read(published: &str, debian: &str) -> Result<Self, InvalidList> {
        let mut keys = Self {
            published: lines(published, |text| {
                let start = text.get(..2 * PUBLISHED_BYTES)?;
                // All of it must be hex, kept or not.
                (text.len() <= 64 && is_hex(text)).then(|| bytes(start))?
            })
            .map_err(|line| InvalidList {
                line,
                rule: "write the SHA-256 of a SubjectPublicKeyInfo, 30 to 64 hex digits",
            })?,
            debian: lines(debian, |text| {
                let end = text.get(text.len().checked_sub(2 * DEBIAN_BYTES)?..)?;
                let is_whole = text.len() == 20 || text.len() == 40;
                (is_whole && is_hex(text)).then(|| bytes(end))?
            })
            .map_err(|line| InvalidList {
                line,
                rule: "write the last 20 hex digits of a SHA-1, or all 40",
            })?,
        };
        keys.published.sort_unstable();
        keys.published.dedup();
        keys.debian.sort_unstable();
        keys.debian.dedup();
        Ok(keys)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.published.len() + self.debian.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What lists say of a key (SubjectPublicKeyInfo in DER).
    #[must_use]
    pub fn flaw(&self, public_key: &[u8]) -> Option<KeyFlaw> {
        if self.is_empty() {
            return None;
        }
        let debian = self.debian.is_empty();
        let mark = (!debian).then(|| modulus_mark(public_key)).flatten();
        self.flaw_of_marks(&sha256(public_key), mark.as_ref())
    }

    /// What is known of the key that somebody showed and proved to hold, so that the proof says
    /// nothing.
    #[must_use]
    pub fn flaw_of(&self, presented: &Presented) -> Option<KeyFlaw> {
        if self.is_empty() {
            return None;
        }
        self.flaw_of_marks(&presented.key, presented.modulus.as_ref())
    }

    fn flaw_of_marks(&self, key: &Digest, modulus: Option<&ModulusMark>) -> Option<KeyFlaw> {
        let start = key.0.first_chunk()?;
        if self.published.binary_search(start).is_ok() {
            return Some(KeyFlaw::Published);
        }
        let known = modulus.is_some_and(|mark| self.debian.binary_search(&mark.0).is_ok());
        known.then_some(KeyFlaw::Debian)
    }
}

/// What a key (SubjectPublicKeyInfo in DER) shows by itself, without any list.
#[must_use]
pub fn flaw_of_key(public_key: &[u8]) -> Option<KeyFlaw> {
    let spki = SubjectPublicKeyInfoRef::from_der(public_key).ok()?;
    if spki.algorithm.oid != RSA_ENCRYPTION {
        return None;
    }
    let (modulus, _) = rsa_numbers(spki.subject_public_key.as_bytes()?).ok()?;
    flaw_of_modulus(modulus)
}

/// What Debian's lists know an RSA key by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ModulusMark([u8; DEBIAN_BYTES]);

/// `None`: it is no RSA key that can be read.
pub(crate) fn modulus_mark(public_key: &[u8]) -> Option<ModulusMark> {
    let spki = SubjectPublicKeyInfoRef::from_der(public_key).ok()?;
    if spki.algorithm.oid != RSA_ENCRYPTION {
        return None;
    }
    let (modulus, _) = rsa_numbers(spki.subject_public_key.as_bytes()?).ok()?;
    let hex: String = modulus.iter().map(|byte| format!("{byte:02X}")).collect();
    // OpenSSL writes no leading zero.
    let text = format!("Modulus={}\n", hex.trim_start_matches('0'));
    let hash = sha1(text.as_bytes());
    hash.last_chunk().copied().map(ModulusMark)
}

/// Modulus and exponent of an RSAPublicKey (RFC 8017 appendix A.1.1), without leading zeros.
pub(crate) fn rsa_numbers(key: &[u8]) -> der::Result<(&[u8], &[u8])> {
    let mut reader = SliceReader::new(key)?;
    let numbers = reader.sequence(|reader| {
        let modulus = UintRef::decode(reader)?;
        let exponent = UintRef::decode(reader)?;
        Ok::<_, der::Error>((modulus.as_bytes(), exponent.as_bytes()))
    })?;
    reader.finish()?;
    Ok(numbers)
}

/// What a modulus alone shows.
pub(crate) fn flaw_of_modulus(modulus: &[u8]) -> Option<KeyFlaw> {
    if is_roca(modulus) {
        return Some(KeyFlaw::Roca);
    }
    has_close_primes(modulus).then_some(KeyFlaw::ClosePrimes)
}

/// Whether a modulus bears the mark of the Infineon RSALib (Nemec and others, "The Return of
/// Coppersmith's Attack", 2017): modulo each small prime it is a power of 65537. Of other moduli
/// one in some hundred million does.
fn is_roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
        97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|prime| {
        let residue =
            (modulus.iter()).fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        // Fermat: the powers come round within so many steps.
        (0..*prime).any(|_| {
            let found = power == residue;
            power = power * (65_537 % prime) % prime;
            found
        })
    })
}

/// Steps of Fermat's method. Primes drawn at random are never so close; those that a generator
/// takes one behind the other are found in the first.
const FERMAT_STEPS: usize = 100;

/// Whether n = a² − b² for an a just above √n, which tells its factors a − b and a + b.
fn has_close_primes(modulus: &[u8]) -> bool {
    let (root, rest) = Natural::root(modulus);
    if rest.is_zero() {
        return true;
    }
    // a = root + 1 and b² = a² − n = 2·root + 1 − rest, which is never negative.
    let mut step = root;
    step.double_and_add_one();
    let mut square = step.clone();
    square.subtract(&rest);
    (0..FERMAT_STEPS).any(|_| {
        let found = square.is_square();
        // (a + 1)² − a² = 2a + 1.
        step.add_small(2);
        square.add(&step);
        found
    })
}

/// The first fault is its line's number.
fn lines<const N: usize>(
    text: &str,
    read: impl Fn(&str) -> Option<[u8; N]>,
) -> Result<Vec<[u8; N]>, usize> {
    let mut all = Vec::new();
    for (number, line) in (1_usize..).zip(text.lines()) {
        let word = line.split_whitespace().next().unwrap_or_default();
        if word.is_empty() || word.starts_with('#') {
            continue;
        }
        all.push(read(word).ok_or(number)?);
    }
    Ok(all)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    for (to, pair) in out.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *to = digits(pair)?;
    }
    Some(out)
}

#[cfg(test)]
mod tests;
