//! A claim token: a secret for one serial number, printed on a card or flashed on the line, that a
//! device shows once instead of a certificate.

use crate::certificate::sha256;
use crate::refusal::Refusal;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use core::net::IpAddr;
use model::{CertificateId, Digest, ManufacturerId, SerialNumber, Timestamp};
use std::collections::HashMap;
use std::hash::Hash;

/// Random bytes of one token. Nobody guesses 160 bits, so a plain hash keeps it.
pub const TOKEN_RANDOM_BYTES: usize = 20;
/// The most tokens in one batch.
pub const BATCH_MAX: usize = 100_000;
/// Attempts of one source, and vain ones at one serial number, in a minute.
const ATTEMPTS_A_MINUTE: u32 = 10;
/// Sources and serial numbers of one minute that are told apart; more are refused.
const TOLD_APART_MAX: usize = 8192;

/// A token as it is kept: never the token itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptToken {
    pub manufacturer: ManufacturerId,
    pub serial: SerialNumber,
    pub hash: Digest,
    pub expires_at: Timestamp,
    pub used: Option<Used>,
}

/// What a token was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// SHA-256 of the SubjectPublicKeyInfo that was certified.
    pub key: Digest,
    pub certificate: CertificateId,
}

/// The ticket of somebody who showed a token that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub(crate) manufacturer: ManufacturerId,
    pub(crate) serial: SerialNumber,
    hash: Digest,
    used: Option<Used>,
}

impl Claimed {
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.hash
    }

    #[must_use]
    pub fn manufacturer(&self) -> &ManufacturerId {
        &self.manufacturer
    }

    #[must_use]
    pub fn serial(&self) -> &SerialNumber {
        &self.serial
    }

    /// The certificate that was issued for it already, if this is the same request once more: an
    /// answer that was lost is given again to the key that it was for, and to no other.
    ///
    /// # Errors
    /// [`Refusal::TokenUsed`]: another key used it.
    pub fn answered_before(&self, key: Digest) -> Result<Option<CertificateId>, Refusal> {
        match self.used {
            None => Ok(None),
            Some(used) if used.key == key => Ok(Some(used.certificate)),
            Some(_) => Err(Refusal::TokenUsed),
        }
    }
}

/// The token of random bytes: 32 letters and digits in groups of four, which people can read out
/// (Crockford's base 32, without I, L, O and U).
#[must_use]
pub fn token(random: [u8; TOKEN_RANDOM_BYTES]) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut text = String::with_capacity(39);
    for (number, five) in random.chunks(5).flat_map(fives).enumerate() {
        if number > 0 && number.is_multiple_of(4) {
            text.push('-');
        }
        let letter = ALPHABET.get(usize::from(five)).copied().unwrap_or(b'0');
        text.push(char::from(letter));
    }
    text
}

/// Five bytes as eight numbers of five bits.
fn fives(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let bits = bytes
        .iter()
        .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    (0..8)
        .rev()
        .map(move |place| u8::try_from(bits >> (place * 5) & 31).unwrap_or(0))
}

/// What is kept of a token. Dashes and case do not matter.
#[must_use]
pub fn hash(token: &str) -> Digest {
    let letters: String = (token.chars().filter(|c| *c != '-'))
        .map(|c| c.to_ascii_uppercase())
        .collect();
    sha256(letters.as_bytes())
}

/// Does a token hold for a serial number? `kept` are all tokens of that serial number, of which
/// several manufacturers may have one.
///
/// # Errors
/// [`Refusal::TokenUnknown`] if none is as given, [`Refusal::TokenExpired`] only to who knows it.
pub fn verify(kept: Vec<KeptToken>, given: &str, now: Timestamp) -> Result<Claimed, Refusal> {
    let given = hash(given);
    let mut found = None;
    // All are compared, each in constant time: how long it takes says nothing of a hash.
    for token in kept {
        if verify_slices_are_equal(&token.hash.0, &given.0).is_ok() {
            found = Some(token);
        }
    }
    let token = found.ok_or(Refusal::TokenUnknown)?;
    // An answer that was lost may be asked for after the end.
    if token.used.is_none() && token.expires_at <= now {
        return Err(Refusal::TokenExpired {
            expires_at: token.expires_at,
        });
    }
    Ok(Claimed {
        manufacturer: token.manufacturer,
        serial: token.serial,
        hash: token.hash,
        used: token.used,
    })
}

/// How often tokens were tried in this minute, by source, and in vain by serial number. Bounded:
/// a source that cannot be told apart any more is refused until the minute is over.
#[derive(Debug, Default)]
pub struct Attempts {
    minute: u64,
    by_source: HashMap<IpAddr, u32>,
    in_vain: HashMap<SerialNumber, u32>,
}

impl Attempts {
    /// Counts one more attempt of a source, before anything is looked up for it.
    ///
    /// # Errors
    /// [`Refusal::TokenThrottled`].
    pub fn begin(&mut self, source: IpAddr, now: Timestamp) -> Result<(), Refusal> {
        self.at(now);
        if one_more(&mut self.by_source, source) {
            Ok(())
        } else {
            Err(Refusal::TokenThrottled)
        }
    }

    /// Counts an attempt that was in vain, and says how it is to be refused. Only what is wrong is
    /// slowed: the right token is taken however often others guess, or whoever knows a serial
    /// number could keep its device out.
    #[must_use]
    pub fn in_vain(&mut self, serial: &SerialNumber, refusal: Refusal, now: Timestamp) -> Refusal {
        self.at(now);
        if one_more(&mut self.in_vain, serial.clone()) {
            refusal
        } else {
            Refusal::TokenThrottled
        }
    }

    fn at(&mut self, now: Timestamp) {
        let minute = now.as_seconds() / 60;
        if self.minute != minute {
            *self = Self {
                minute,
                ..Self::default()
            };
        }
    }
}

fn one_more<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: K) -> bool {
    if counts.len() >= TOLD_APART_MAX && !counts.contains_key(&key) {
        return false;
    }
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
    *count <= ATTEMPTS_A_MINUTE
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn kept(manufacturer: &str, token: &str) -> KeptToken {
        KeptToken {
            manufacturer: manufacturer.parse().unwrap(),
            serial: "SN1".parse().unwrap(),
            hash: hash(token),
            expires_at: NOW.plus(std::time::Duration::from_secs(60)),
            used: None,
        }
    }

    #[test]
    fn a_token_is_all_of_its_random_bytes() {
        assert_eq!(token([0; 20]), "0000-0000-0000-0000-0000-0000-0000-0000");
        assert_eq!(token([0xff; 20]), "ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ");
        let mut all = std::collections::HashSet::new();
        for bit in 0..160 {
            let mut random = [0; 20];
            random[bit / 8] |= 1 << (bit % 8);
            assert!(all.insert(token(random)), "bit {bit}");
        }
    }

    #[test]
    fn a_token_holds_however_it_is_typed_and_no_other_does() {
        let good = token([7; 20]);
        let typed = good.to_lowercase().replace('-', "");
        let both = || vec![kept("a", &token([9; 20])), kept("b", &good)];
        let claimed = verify(both(), &typed, NOW).unwrap();
        assert_eq!(claimed.manufacturer().as_str(), "b");
        for wrong in ["", "-", &good[1..], &token([8; 20]), &format!("{good}0")] {
            assert_eq!(
                verify(both(), wrong, NOW),
                Err(Refusal::TokenUnknown),
                "{wrong:?}"
            );
        }
        assert_eq!(verify(Vec::new(), &good, NOW), Err(Refusal::TokenUnknown));
    }

    #[test]
    fn an_ended_token_opens_nothing_and_says_so_only_to_who_knows_it() {
        let good = token([7; 20]);
        let later = NOW.plus(std::time::Duration::from_secs(60));
        let refused = verify(vec![kept("a", &good)], &good, later);
        assert!(matches!(refused, Err(Refusal::TokenExpired { .. })));
        let refused = verify(vec![kept("a", &good)], "guess", later);
        assert_eq!(refused, Err(Refusal::TokenUnknown));
    }

    #[test]
    fn a_used_token_answers_the_same_key_alone() {
        let good = token([7; 20]);
        let (key, other) = (Digest([1; 32]), Digest([2; 32]));
        let certificate = CertificateId::new(Digest([3; 32]), &[5]).unwrap();
        let mut used = kept("a", &good);
        used.used = Some(Used { key, certificate });
        // After its end too: the answer may have been lost on the way.
        let later = NOW.plus(std::time::Duration::from_secs(3600));
        let claimed = verify(vec![used], &good, later).unwrap();
        assert_eq!(claimed.answered_before(key), Ok(Some(certificate)));
        assert_eq!(claimed.answered_before(other), Err(Refusal::TokenUsed));
    }

    #[test]
    fn guessing_is_slowed_by_source_and_by_serial_number() {
        let serial: SerialNumber = "SN1".parse().unwrap();
        let source = |last: u8| IpAddr::from([192, 0, 2, last]);
        let mut attempts = Attempts::default();
        let good = (0..40).filter(|_| attempts.begin(source(1), NOW).is_ok());
        assert_eq!(good.count(), 10);
        assert!(attempts.begin(source(2), NOW).is_ok());
        let told = (0..40).filter(|_| {
            attempts.in_vain(&serial, Refusal::TokenUnknown, NOW) == Refusal::TokenUnknown
        });
        assert_eq!(told.count(), 10);
        let later = NOW.plus(std::time::Duration::from_secs(60));
        assert!(attempts.begin(source(1), later).is_ok());
        let many = (0..1u32 << 16)
            .filter(|n| attempts.begin(IpAddr::from(n.to_be_bytes()), later).is_ok());
        assert_eq!(many.count(), TOLD_APART_MAX - 1);
        assert!(attempts.by_source.len() <= TOLD_APART_MAX);
    }
}
