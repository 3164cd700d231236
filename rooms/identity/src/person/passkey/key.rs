//! A passkey's key as `COSE_Key` (RFC 9052 section 7, RFC 9053 section 7, RFC 8230 section 4).

use super::{Item, KEY_BYTES_MAX, Malformed, PasskeyRefusal, Reader};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};

/// Labels of a key's parameters.
const KEY_TYPE: i64 = 1;
const ALGORITHM: i64 = 3;
/// A curve, or the modulus of RSA.
const FIRST: i64 = -1;
/// A point's first coordinate, or the exponent of RSA.
const SECOND: i64 = -2;
const THIRD: i64 = -3;

const ES256: i64 = -7;
const EDDSA: i64 = -8;
const RS256: i64 = -257;

/// 2048 to 4096 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;
const EXPONENT_BYTES_MAX: usize = 4;

/// A key that is one: on its curve, or of a size.
pub(super) struct Key {
    algorithm: i64,
    key: ParsedPublicKey,
}

impl Key {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, PasskeyRefusal> {
        let malformed = PasskeyRefusal::Malformed("the key");
        if bytes.len() > KEY_BYTES_MAX {
            return Err(malformed);
        }
        let read = Parameters::read(bytes).map_err(|_| malformed)?;
        let algorithm = read.algorithm.ok_or(malformed)?;
        let key = match (algorithm, read.key_type, read.curve) {
            (ES256, Some(2), Some(1)) => {
                let (Some(x), Some(y)) = (coordinate(read.second), coordinate(read.third)) else {
                    return Err(malformed);
                };
                let point = [&[4_u8][..], x, y].concat();
                ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
            }
            (EDDSA, Some(1), Some(6)) if read.third.is_none() => {
                let x = coordinate(read.second).ok_or(malformed)?;
                ParsedPublicKey::new(&ED25519, x)
            }
            (RS256, Some(3), None) if read.third.is_none() => {
                let n = read.modulus.unwrap_or_default();
                let e = read.second.unwrap_or_default();
                let whole = |bytes: &[u8]| bytes.first().is_some_and(|first| *first != 0);
                if !MODULUS_BYTES.contains(&n.len())
                    || e.len() > EXPONENT_BYTES_MAX
                    || !whole(n)
                    || !whole(e)
                {
                    return Err(malformed);
                }
                RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            }
            (ES256 | EDDSA | RS256, ..) => return Err(malformed),
            _ => return Err(PasskeyRefusal::Algorithm),
        };
        let key = key.map_err(|_| malformed)?;
        Ok(Self { algorithm, key })
    }

    pub(super) const fn algorithm(&self) -> i64 {
        self.algorithm
    }

    pub(super) fn verify(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(signed, signature).is_ok()
    }
}

/// As they stand there.
#[derive(Default)]
struct Parameters<'a> {
    key_type: Option<i64>,
    algorithm: Option<i64>,
    curve: Option<i64>,
    modulus: Option<&'a [u8]>,
    second: Option<&'a [u8]>,
    third: Option<&'a [u8]>,
}

impl<'a> Parameters<'a> {
    /// Only those that a key needs, each once (Web Authentication, section 6.5.1).
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let pairs = reader.map()?;
        if pairs > 5 {
            return Err(Malformed);
        }
        let mut all = Self::default();
        for _ in 0..pairs {
            let label = integer(reader.item()?)?;
            let before = match (label, reader.item()?) {
                (KEY_TYPE, item) => all.key_type.replace(integer(item)?).is_some(),
                (ALGORITHM, item) => all.algorithm.replace(integer(item)?).is_some(),
                (FIRST, Item::Bytes(bytes)) => all.modulus.replace(bytes).is_some(),
                (FIRST, item) => all.curve.replace(integer(item)?).is_some(),
                (SECOND, Item::Bytes(bytes)) => all.second.replace(bytes).is_some(),
                (THIRD, Item::Bytes(bytes)) => all.third.replace(bytes).is_some(),
                _ => return Err(Malformed),
            };
            if before {
                return Err(Malformed);
            }
        }
        reader.finish()?;
        Ok(all)
    }
}

pub(super) fn integer(item: Item<'_>) -> Result<i64, Malformed> {
    match item {
        Item::Unsigned(value) => i64::try_from(value).map_err(|_| Malformed),
        Item::Negative(value) => i64::try_from(value)
            .map(|value| -1 - value)
            .map_err(|_| Malformed),
        _ => Err(Malformed),
    }
}

fn coordinate(bytes: Option<&[u8]>) -> Option<&[u8]> {
    bytes.filter(|bytes| bytes.len() == 32)
}
