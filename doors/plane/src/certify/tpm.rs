//! Chips: challenges that only one of them can answer, and the lists behind them.

use crate::clock;
use crate::entries::{self, Actor};
use crate::judge::signals::PerSecond;
use crate::listen::source_of;
use crate::plane::{Plane, digest, random};
use crate::shared::{Latest, Locked};
use crate::trouble::Trouble;
use crate::withdrawing;
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use identity::Fact;
use identity::tpm::{
    AttestationKey, EndorsementKey, EndorsementRoots, KeyName, OAEP_LABEL, SECRET_BYTES,
    SeedExchange, TpmRefusal, credential,
};
use model::{DeviceId, Digest, ManufacturerId, SerialNumber, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use store::{CHANGE_ROWS_MAX, Change, Direction, Receipt, Write};
use zeroize::Zeroizing;

/// How long a challenge can be answered. Chips are slow, and some make their keys meanwhile.
const CHALLENGE_LIFETIME: Duration = Duration::from_secs(120);
/// Challenges and answers of one source in a second.
const ATTEMPTS_A_SECOND: u32 = 4;
/// Answers that are remembered until their challenge ends, so that each is given once. Only a
/// listed chip can add to it.
const ANSWERED_MAX: usize = 16 * 1024;

/// What is asked of chips, and by whose word they are genuine.
pub struct Chips {
    challenges: Challenges,
    /// CAs of TPM vendors, by the manufacturer whose devices must lead to one of them.
    pub vendors: Latest<BTreeMap<ManufacturerId, EndorsementRoots>>,
    attempts: Locked<PerSecond<IpAddr>>,
}

impl Chips {
    /// # Errors
    /// The system gives no random bytes; a stored CA that is none.
    pub fn new(vendors: BTreeMap<ManufacturerId, EndorsementRoots>) -> Result<Self, Trouble> {
        Ok(Self {
            challenges: Challenges::new()?,
            vendors: Latest::new(vendors),
            attempts: Locked::new(PerSecond::new(ATTEMPTS_A_SECOND)),
        })
    }

    /// A nonce for a quote of the chip whose attestation key has this name.
    #[must_use]
    pub fn nonce(&self, device: &DeviceId, name: &KeyName, now: Timestamp) -> [u8; SECRET_BYTES] {
        let about = [
            b"quote".as_slice(),
            device.as_str().as_bytes(),
            name.as_bytes(),
        ];
        self.challenges.ask(&about, now)
    }

    /// The nonce that a quote names, if it is one of ours for this device and still good.
    ///
    /// # Errors
    /// It is not.
    pub fn nonce_of(
        &self,
        device: &DeviceId,
        name: &KeyName,
        answer: &[u8],
        now: Timestamp,
    ) -> Result<[u8; SECRET_BYTES], TpmRefusal> {
        let about = [
            b"quote".as_slice(),
            device.as_str().as_bytes(),
            name.as_bytes(),
        ];
        self.challenges.asked(&about, answer, now)
    }

    /// A nonce for a token of a device, by the certificate's key that must sign it.
    #[must_use]
    pub fn token_nonce(
        &self,
        device: &DeviceId,
        key: &Digest,
        now: Timestamp,
    ) -> [u8; SECRET_BYTES] {
        let about = [b"token".as_slice(), device.as_str().as_bytes(), &key.0];
        self.challenges.ask(&about, now)
    }

    /// The nonce that a token names, if it is one of ours for this device and key and still good.
    ///
    /// # Errors
    /// It is not.
    pub fn token_nonce_of(
        &self,
        device: &DeviceId,
        key: &Digest,
        answer: &[u8],
        now: Timestamp,
    ) -> Result<[u8; SECRET_BYTES], TpmRefusal> {
        let about = [b"token".as_slice(), device.as_str().as_bytes(), &key.0];
        self.challenges.asked(&about, answer, now)
    }

    /// # Errors
    /// This source has asked too often.
    pub fn attempt(&self, peer: SocketAddr) -> Result<(), Trouble> {
        if self
            .attempts
            .lock()
            .take(source_of(peer.ip()), clock::now())
        {
            return Ok(());
        }
        Err(Trouble::refused(
            "tpm-too-often",
            "too many attempts from this address; try again in some seconds",
        ))
    }
}

/// Challenges without a memory: what was asked is found again in the answer. A stranger who asks a
/// million times makes us keep nothing.
struct Challenges {
    /// Of this run: what was asked before a restart is asked again.
    key: hmac::Key,
    answered: Locked<HashMap<[u8; SECRET_BYTES], Timestamp>>,
}

impl Challenges {
    fn new() -> Result<Self, Trouble> {
        let key = Zeroizing::new(random::<32>()?);
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &*key),
            answered: Locked::default(),
        })
    }

    /// The time, then as much of a tag over time and question as there is room for: 192 bits.
    fn ask(&self, about: &[&[u8]], at: Timestamp) -> [u8; SECRET_BYTES] {
        let time = at.as_millis().to_be_bytes();
        let mut tag = hmac::Context::with_key(&self.key);
        tag.update(&time);
        for part in about {
            tag.update(&(part.len() as u64).to_be_bytes());
            tag.update(part);
        }
        let tag = tag.sign();
        let mut secret = [0; SECRET_BYTES];
        for (to, from) in secret.iter_mut().zip(time.iter().chain(tag.as_ref())) {
            *to = *from;
        }
        secret
    }

    /// What was asked at the time that the answer names, if that was not long ago.
    fn asked(
        &self,
        about: &[&[u8]],
        answer: &[u8],
        now: Timestamp,
    ) -> Result<[u8; SECRET_BYTES], TpmRefusal> {
        let time = (answer.first_chunk().copied()).ok_or(TpmRefusal::StaleChallenge)?;
        let at = Timestamp::from_millis(u64::from_be_bytes(time));
        if at > now || now.since(at) > CHALLENGE_LIFETIME {
            return Err(TpmRefusal::StaleChallenge);
        }
        let asked = self.ask(about, at);
        aws_lc_rs::constant_time::verify_slices_are_equal(&asked, answer)
            .map_err(|_| TpmRefusal::StaleChallenge)?;
        Ok(asked)
    }

    /// From here on nobody can give this answer again.
    fn take(&self, secret: [u8; SECRET_BYTES], now: Timestamp) -> Result<(), Trouble> {
        let mut answered = self.answered.lock();
        answered.retain(|_, ends_at| *ends_at >= now);
        if answered.len() >= ANSWERED_MAX {
            return Err(Trouble::refused(
                "tpm-too-often",
                "too many chips enroll at this time; try again in two minutes",
            ));
        }
        match answered.insert(secret, now.plus(CHALLENGE_LIFETIME)) {
            None => Ok(()),
            Some(_) => Err(identity::Refusal::from(TpmRefusal::StaleChallenge).into()),
        }
    }
}

/// What a device without any certificate shows of its chip.
pub struct Chip {
    pub endorsement: EndorsementKey,
    pub attestation_key: AttestationKey,
    /// The endorsement key's certificate and the CAs above it, DER; may be empty.
    pub certificates: Vec<Vec<u8>>,
}

impl Chip {
    fn question(&self) -> (Digest, KeyName) {
        (
            self.endorsement.digest(),
            self.attestation_key.public().name(),
        )
    }
}

/// A challenge for a listed chip, in the file format of `tpm2_activatecredential -i`.
///
/// # Errors
/// The chip is not listed, its device is barred, its vendor is unknown.
pub fn challenge(plane: &Plane, chip: &Chip) -> Result<Vec<u8>, Trouble> {
    let now = clock::now();
    check(plane, chip, now)?;
    let (endorsement, name) = chip.question();
    let about = [endorsement.0.as_slice(), name.as_bytes()];
    let secret = Zeroizing::new(plane.chips.challenges.ask(&about, now));
    let exchange = SeedExchange::new(&chip.endorsement, Zeroizing::new(random()?))
        .map_err(identity::Refusal::from)?;
    let encrypted = match &exchange {
        SeedExchange::Ecdh { encrypted, .. } => encrypted.clone(),
        SeedExchange::Oaep { public_key, seed } => {
            let key = PublicEncryptingKey::from_der(public_key).map_err(Trouble::fault)?;
            let key = OaepPublicEncryptingKey::new(key).map_err(Trouble::fault)?;
            let mut out = vec![0; key.ciphertext_size()];
            key.encrypt(
                &OAEP_SHA256_MGF1SHA256,
                seed.as_slice(),
                &mut out,
                Some(OAEP_LABEL),
            )
            .map_err(Trouble::fault)?;
            out
        }
    };
    let made = credential(exchange.seed(), &encrypted, &name, &secret);
    Ok(made.map_err(identity::Refusal::from)?)
}

/// The secret that `answer` must be, if it is one of ours for this chip and still good.
///
/// # Errors
/// It is not.
pub fn answered(plane: &Plane, chip: &Chip, answer: &[u8]) -> Result<[u8; SECRET_BYTES], Trouble> {
    let now = clock::now();
    let (endorsement, name) = chip.question();
    let about = [endorsement.0.as_slice(), name.as_bytes()];
    let asked = plane.chips.challenges.asked(&about, answer, now);
    Ok(asked.map_err(identity::Refusal::from)?)
}

/// From here on nobody can give this answer again.
///
/// # Errors
/// Somebody gave it before.
pub fn take_answer(plane: &Plane, secret: [u8; SECRET_BYTES]) -> Result<(), Trouble> {
    plane.chips.challenges.take(secret, clock::now())
}

/// The list first: for a chip that is not on it nothing is computed.
fn check(plane: &Plane, chip: &Chip, now: Timestamp) -> Result<(), Trouble> {
    let manufacturer = (plane.trust().registry()).manufacturer_of_chip(&chip.endorsement)?;
    let vendors = plane.chips.vendors.get();
    let Some(roots) = vendors.get(&manufacturer) else {
        return Ok(());
    };
    let (certificate, above) = (chip.certificates.split_first())
        .ok_or_else(|| identity::Refusal::from(TpmRefusal::NoEndorsementCertificate))?;
    let above: Vec<&[u8]> = above.iter().map(Vec::as_slice).collect();
    let verified = roots.verify(&chip.endorsement, certificate, &above, now);
    Ok(verified.map_err(identity::Refusal::from)?)
}

/// Registers the CA of a TPM vendor: from here on chips in this manufacturer's devices must show
/// a certificate that leads to one of its CAs.
///
/// # Errors
/// It is no CA certificate; the manufacturer is not registered.
pub async fn add_vendor(
    plane: &Arc<Plane>,
    manufacturer: ManufacturerId,
    ca_pem: &str,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let ca = crate::pem::decode(ca_pem, &["CERTIFICATE"])?;
    EndorsementRoots::new([ca.as_slice()]).map_err(|what| {
        Trouble::refused(
            "ca-refused",
            format!("the CA certificate cannot be used: {what}; operator: give the vendor's CA"),
        )
    })?;
    let at = clock::now();
    let act = entries::tpm_vendor_added(at, actor, &manufacturer, digest(&ca));
    let row = store::TpmVendor {
        manufacturer,
        ca,
        added_at: at,
    };
    let change = Change::new(Direction::Grant)
        .write(Write::PutTpmVendor(row))
        .entry(plane.leaf(&act)?);
    let receipt = plane.commit(change).await?;
    plane
        .chips
        .vendors
        .replace(Arc::new(vendors(&plane.store)?));
    Ok(receipt)
}

/// # Errors
/// The store, or a row that is no CA certificate.
pub fn vendors(
    store: &store::Store,
) -> Result<BTreeMap<ManufacturerId, EndorsementRoots>, Trouble> {
    let mut rows: BTreeMap<ManufacturerId, Vec<Vec<u8>>> = BTreeMap::new();
    store.for_each_tpm_vendor(|row| rows.entry(row.manufacturer).or_default().push(row.ca))?;
    rows.into_iter()
        .map(|(manufacturer, cas)| {
            EndorsementRoots::new(cas.iter().map(Vec::as_slice))
                .map(|roots| (manufacturer, roots))
                .map_err(Trouble::fault)
        })
        .collect()
}

/// Takes a list of endorsement keys, each bound to the serial number of an expected device.
/// Taking it again changes nothing.
///
/// # Errors
/// A serial number that is not expected, a chip that is listed for another device.
pub async fn list_endorsement_keys(
    plane: &Arc<Plane>,
    manufacturer: &ManufacturerId,
    list: Vec<(SerialNumber, Digest)>,
    list_digest: Digest,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.listing.begin().await;
    let mut receipt = None;
    for part in list.chunks(CHANGE_ROWS_MAX - 1) {
        let rows = part
            .iter()
            .map(|(serial, endorsement)| store::EndorsementKey {
                endorsement: *endorsement,
                manufacturer: manufacturer.clone(),
                serial: serial.clone(),
            })
            .collect();
        let at = clock::now();
        let act = entries::tpms_listed(at, actor, manufacturer, part.len(), list_digest);
        let change = Change::new(Direction::Grant)
            .write(Write::PutEndorsementKeys(rows))
            .entry(plane.leaf(&act)?);
        receipt = Some(plane.commit(change).await?);
        for (serial, endorsement) in part {
            plane.learn(&Fact::EndorsementListed {
                endorsement: *endorsement,
                manufacturer: manufacturer.clone(),
                serial: serial.clone(),
            })?;
        }
    }
    receipt.ok_or_else(|| Trouble::refused("list-empty", "the list holds no TPM"))
}

/// The chips of a device are on the list no longer: they enroll nobody, and what they were shown to
/// hold counts no more. The device's certificate stays; how many chips there were.
///
/// # Errors
/// No chip is listed for that device; it could not be recorded.
pub async fn unlist(
    plane: &Arc<Plane>,
    manufacturer: &ManufacturerId,
    serial: &SerialNumber,
    actor: &Actor,
) -> Result<(usize, Receipt), Trouble> {
    let _one_at_a_time = plane.listing.begin().await;
    let found = {
        let registry = plane.trust().registry();
        let device = registry.device_by_serial(manufacturer, serial);
        device.map(|known| (registry.endorsement_keys_of(&known.device), known.device))
    };
    let (keys, device) =
        (found.filter(|(keys, _)| !keys.is_empty())).ok_or_else(|| Trouble::Unknown {
            code: "tpm-unlisted",
            text: format!("no TPM is listed for serial number {serial} of {manufacturer}"),
        })?;
    for endorsement in &keys {
        plane.learn(&Fact::EndorsementUnlisted {
            endorsement: *endorsement,
        })?;
    }
    let held = plane.store.held_key(&device)?;
    let drops_held = held.is_some_and(|held| keys.contains(&held.endorsement));
    if drops_held {
        let fact = Fact::KeyHeld {
            device: device.clone(),
            key: None,
        };
        plane.lower(&device, &fact).await?;
    }
    let at = clock::now();
    let leaves = (keys.iter())
        .map(|key| plane.leaf(&entries::tpm_unlisted(at, actor, *key, &device)))
        .collect::<Result<Vec<_>, _>>()?;
    let count = keys.len();
    let mut change = withdrawing::change(leaves)?.write(Write::DropEndorsementKeys(keys));
    if drops_held {
        change = change.write(Write::DropHeldKey { device });
    }
    let receipt = plane.commit_withdrawal(change).await?;
    Ok((count, receipt))
}

/// What memory learns of a result that is stored.
#[must_use]
pub fn fact_of_result(row: store::AttestationResult) -> Fact {
    Fact::Appraised {
        device: row.device,
        status: match row.status {
            store::AttestationStatus::Affirming => identity::AttestationStatus::Affirming,
            store::AttestationStatus::Contraindicated => {
                identity::AttestationStatus::Contraindicated
            }
        },
        ends_at: row.ends_at,
        by_key: row.by_key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    #[test]
    fn a_challenge_is_answered_once_in_time_and_for_what_it_asked() {
        let challenges = Challenges::new().unwrap();
        let about: [&[u8]; 2] = [b"chip", b"key"];
        let secret = challenges.ask(&about, NOW);
        let late = NOW.plus(CHALLENGE_LIFETIME);
        assert_eq!(challenges.asked(&about, &secret, late), Ok(secret));
        let stale = Err(TpmRefusal::StaleChallenge);
        let after = late.plus(Duration::from_millis(1));
        assert_eq!(challenges.asked(&about, &secret, after), stale);
        // A clock that was set back does not lengthen its life.
        let before = NOW.minus(Duration::from_millis(1));
        assert_eq!(challenges.asked(&about, &secret, before), stale);
        for other in [[b"chip".as_slice(), b"kex"], [b"chipk", b"ey"]] {
            assert_eq!(challenges.asked(&other, &secret, NOW), stale);
        }
        for byte in 0..SECRET_BYTES {
            let mut forged = secret;
            forged[byte] ^= 1;
            assert_eq!(challenges.asked(&about, &forged, late), stale, "{byte}");
        }
        assert_eq!(challenges.asked(&about, &secret[..31], NOW), stale);
        assert_eq!(challenges.asked(&about, &[], NOW), stale);
        // Another run's.
        let other = Challenges::new().unwrap();
        assert_eq!(other.asked(&about, &secret, NOW), stale);

        assert!(challenges.take(secret, NOW).is_ok());
        assert!(challenges.take(secret, NOW).is_err());
    }

    #[test]
    fn answers_are_forgotten_when_their_challenge_ended() {
        let challenges = Challenges::new().unwrap();
        for number in 0..ANSWERED_MAX {
            let secret = challenges.ask(&[&number.to_be_bytes()], NOW);
            challenges.take(secret, NOW).unwrap();
        }
        let one_more = challenges.ask(&[b"one more"], NOW);
        assert!(challenges.take(one_more, NOW).is_err());
        let later = NOW.plus(CHALLENGE_LIFETIME + Duration::from_secs(1));
        assert!(challenges.take(one_more, later).is_ok());
        assert_eq!(challenges.answered.lock().len(), 1);
    }
}
