//! Entity Attestation Tokens (RFC 9711): a CWT (RFC 8392) in COSE_Sign1 (RFC 9052), signed with ES256
//! by the key of the device's certificate, over a nonce of ours.
//!
//! What is read of a token is what can be held against a reference value; other claims are passed
//! over. A token is evidence only once its signature and its nonce hold: before that nothing of it is
//! looked at but where its parts begin.

use crate::Actor;
use crate::csr::KeyKind;
use crate::registry::AttestationStatus;
use crate::tpm::AttestationResult;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use cbor::{self, Item, Malformed, Reader};
use std::collections::BTreeMap;

/// The largest token looked at.
pub const TOKEN_BYTES_MAX: usize = 8192;
/// Parts of a device that a token may tell of.
pub const SUBMODULES_MAX: usize = 8;
/// Claims of one map.
const CLAIMS_MAX: u64 = 64;
/// Bytes of a name, a version or an identifier.
const VALUE_BYTES_MAX: usize = 128;
const NONCES_MAX: u64 = 4;

const COSE_SIGN1: u64 = 18;
const CWT: u64 = 61;
/// -7, as CBOR counts negative numbers.
const ES256: u64 = 6;
const SIGNATURE_BYTES: usize = 64;

/// Labels of claims (IANA, CBOR Web Token Claims).
mod label {
    pub(super) const NONCE: u64 = 10;
    pub(super) const UEID: u64 = 256;
    pub(super) const OEMID: u64 = 258;
    pub(super) const HWMODEL: u64 = 259;
    pub(super) const OEMBOOT: u64 = 262;
    pub(super) const DBGSTAT: u64 = 263;
    pub(super) const SUBMODS: u64 = 266;
    pub(super) const SWNAME: u64 = 270;
    pub(super) const SWVERSION: u64 = 271;
}

/// How far debugging is shut (RFC 9711 section 4.2.9), from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DebugStatus {
    Enabled,
    Disabled,
    DisabledSinceBoot,
    DisabledPermanently,
    DisabledFullyAndPermanently,
}

impl DebugStatus {
    pub const ALL: [Self; 5] = [
        Self::Enabled,
        Self::Disabled,
        Self::DisabledSinceBoot,
        Self::DisabledPermanently,
        Self::DisabledFullyAndPermanently,
    ];

    /// The standard's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::DisabledSinceBoot => "disabled-since-boot",
            Self::DisabledPermanently => "disabled-permanently",
            Self::DisabledFullyAndPermanently => "disabled-fully-and-permanently",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// What a device says of itself, or of a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// Bytes.
    pub ueid: Option<Vec<u8>>,
    /// Bytes; the number of an enterprise as its four bytes, the first first.
    pub oemid: Option<Vec<u8>>,
    pub hwmodel: Option<Vec<u8>>,
    pub swname: Option<String>,
    pub swversion: Option<String>,
    /// It started what its manufacturer authorised.
    pub oemboot: Option<bool>,
    pub dbgstat: Option<DebugStatus>,
    /// By name; they have no parts of their own.
    pub submods: BTreeMap<String, Claims>,
}

/// What the claims of a device are that is as it should be. What is left out is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReferenceClaims {
    pub oemid: Option<Vec<u8>>,
    pub hwmodel: Option<Vec<u8>>,
    pub swname: Option<String>,
    pub swversion: Option<String>,
    pub oemboot: Option<bool>,
    /// At least this.
    pub dbgstat_min: Option<DebugStatus>,
    /// Parts that must be there, with the version of their software.
    pub submods: BTreeMap<String, String>,
}

/// A reference value, with the version of firmware that it is of, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenReference<'a> {
    pub firmware: &'a str,
    pub claims: &'a ReferenceClaims,
}

/// The ticket of a token that this key signed over this nonce. What is in it may be good or bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    claims: Claims,
}

impl Token {
    /// `spki`: of the certificate whose key must have signed it.
    ///
    /// # Errors
    /// [`EatRefusal`]: no token of this key over this nonce. That is no evidence, good or bad.
    pub fn read(spki: &[u8], nonce: &[u8], token: &[u8]) -> Result<Self, EatRefusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(EatRefusal::TooLarge);
        }
        let signed =
            Signed::read(token).map_err(|_| EatRefusal::Malformed { what: "COSE_Sign1" })?;
        if !signed.is_es256().unwrap_or(false) || KeyKind::of(spki) != Ok(KeyKind::P256) {
            return Err(EatRefusal::Algorithm);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, spki)
            .verify(&signed.to_be_verified(), signed.signature)
            .map_err(|_| EatRefusal::BadSignature)?;
        let mut reader = Reader::new(signed.payload);
        let (claims, nonces) = claims(&mut reader, true)
            .and_then(|read| reader.finish().map(|()| read))
            .map_err(|_| EatRefusal::Malformed { what: "the claims" })?;
        let is_fresh = (nonces.iter()).any(|one| verify_slices_are_equal(one, nonce).is_ok());
        if !is_fresh {
            return Err(EatRefusal::StaleNonce);
        }
        Ok(Self { claims })
    }

    /// The nonces that a token names, before anything of it is believed: to find which was asked.
    ///
    /// # Errors
    /// [`EatRefusal`].
    pub fn nonces(token: &[u8]) -> Result<Vec<Vec<u8>>, EatRefusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(EatRefusal::TooLarge);
        }
        let read = || -> Result<Vec<Vec<u8>>, Malformed> {
            let signed = Signed::read(token)?;
            let (_, nonces) = claims(&mut Reader::new(signed.payload), true)?;
            Ok(nonces.into_iter().map(<[u8]>::to_vec).collect())
        };
        read().map_err(|_| EatRefusal::Malformed {
            what: "COSE_Sign1 or its claims",
        })
    }

    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// A token agrees with a reference value if it says all that is asked there.
    #[must_use]
    pub fn appraise(&self, references: &[TokenReference<'_>]) -> AttestationResult {
        let mut nearest: Option<(&str, Vec<&'static str>)> = None;
        for reference in references {
            let differs = differing(&self.claims, reference.claims);
            if differs.is_empty() {
                return AttestationResult {
                    status: AttestationStatus::Affirming,
                    why: format!("its token tells of firmware {}", reference.firmware),
                };
            }
            if (nearest.as_ref()).is_none_or(|(_, before)| differs.len() < before.len()) {
                nearest = Some((reference.firmware, differs));
            }
        }
        // In our words alone: the device's own text is not repeated.
        let why = match nearest {
            Some((firmware, differs)) => format!(
                "its token agrees with no reference value of its product; nearest to firmware \
                 {firmware}, from which differ: {}",
                differs.join(", ")
            ),
            None => "its product has no reference value".to_owned(),
        };
        AttestationResult {
            status: AttestationStatus::Contraindicated,
            why,
        }
    }
}

fn differing(claims: &Claims, wanted: &ReferenceClaims) -> Vec<&'static str> {
    fn agrees<T: PartialEq>(wanted: Option<&T>, said: Option<&T>) -> bool {
        wanted.is_none_or(|wanted| said == Some(wanted))
    }
    let dbgstat = wanted
        .dbgstat_min
        .is_none_or(|least| claims.dbgstat.is_some_and(|said| said >= least));
    let submods = wanted.submods.iter().all(|(name, version)| {
        (claims.submods.get(name)).is_some_and(|part| part.swversion.as_ref() == Some(version))
    });
    [
        (
            "oemid",
            agrees(wanted.oemid.as_ref(), claims.oemid.as_ref()),
        ),
        (
            "hwmodel",
            agrees(wanted.hwmodel.as_ref(), claims.hwmodel.as_ref()),
        ),
        (
            "swname",
            agrees(wanted.swname.as_ref(), claims.swname.as_ref()),
        ),
        (
            "swversion",
            agrees(wanted.swversion.as_ref(), claims.swversion.as_ref()),
        ),
        (
            "oemboot",
            agrees(wanted.oemboot.as_ref(), claims.oemboot.as_ref()),
        ),
        ("dbgstat", dbgstat),
        ("submods", submods),
    ]
    .into_iter()
    .filter(|(_, agrees)| !agrees)
    .map(|(name, _)| name)
    .collect()
}

/// COSE_Sign1 (RFC 9052 section 4.2), its parts as they came.
struct Signed<'a> {
    protected: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn read(token: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(token);
        let mut item = reader.item()?;
        if item == Item::Tag(CWT) {
            item = reader.item()?;
            if item != Item::Tag(COSE_SIGN1) {
                return Err(Malformed);
            }
        }
        if item == Item::Tag(COSE_SIGN1) {
            item = reader.item()?;
        }
        if item != Item::Array(4) {
            return Err(Malformed);
        }
        let protected = reader.bytes()?;
        // Nothing is asked of what nobody signed.
        let mut unprotected = reader;
        if unprotected.map()? > CLAIMS_MAX {
            return Err(Malformed);
        }
        reader.skip()?;
        let payload = reader.bytes()?;
        let signature = reader.bytes()?;
        reader.finish()?;
        if signature.len() != SIGNATURE_BYTES {
            return Err(Malformed);
        }
        Ok(Self {
            protected,
            payload,
            signature,
        })
    }

    /// ES256 among the protected headers, and nothing that must be understood besides.
    fn is_es256(&self) -> Result<bool, Malformed> {
        const ALGORITHM: Item<'_> = Item::Unsigned(1);
        const CRITICAL: Item<'_> = Item::Unsigned(2);
        let mut reader = Reader::new(self.protected);
        let count = reader.map()?;
        let mut algorithms = 0;
        for _ in 0..count.min(CLAIMS_MAX) {
            match reader.item()? {
                ALGORITHM => {
                    algorithms += 1;
                    if reader.item()? != Item::Negative(ES256) {
                        return Ok(false);
                    }
                }
                CRITICAL => return Ok(false),
                Item::Unsigned(_) | Item::Negative(_) | Item::Text(_) => reader.skip()?,
                _ => return Err(Malformed),
            }
        }
        reader.finish()?;
        Ok(algorithms == 1)
    }

    /// Sig_structure (RFC 9052 section 4.4).
    fn to_be_verified(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.protected.len() + self.payload.len() + 32);
        cbor::head(&mut out, 4, 4);
        cbor::text(&mut out, "Signature1");
        cbor::bytes(&mut out, self.protected);
        cbor::bytes(&mut out, b"");
        cbor::bytes(&mut out, self.payload);
        out
    }
}

/// One map of claims, and the nonces in it.
fn claims<'a>(
    reader: &mut Reader<'a>,
    may_have_submods: bool,
) -> Result<(Claims, Vec<&'a [u8]>), Malformed> {
    let count = reader.map()?;
    if count > CLAIMS_MAX {
        return Err(Malformed);
    }
    let (mut claims, mut nonces, mut seen) = (Claims::default(), Vec::new(), Vec::new());
    for _ in 0..count {
        let name = match reader.item()? {
            Item::Unsigned(name) => name,
            Item::Negative(_) | Item::Text(_) => {
                reader.skip()?;
                continue;
            }
            _ => return Err(Malformed),
        };
        // Of a claim that stands twice two readers see two values.
        if seen.contains(&name) {
            return Err(Malformed);
        }
        seen.push(name);
        match name {
            label::NONCE => nonces = nonces_of(reader)?,
            label::UEID => claims.ueid = Some(bytes_of(reader)?),
            label::OEMID => claims.oemid = Some(oemid_of(reader)?),
            label::HWMODEL => claims.hwmodel = Some(bytes_of(reader)?),
            label::SWNAME => claims.swname = Some(text_of(reader)?),
            label::SWVERSION => claims.swversion = Some(version_of(reader)?),
            label::OEMBOOT => match reader.item()? {
                Item::Bool(said) => claims.oemboot = Some(said),
                _ => return Err(Malformed),
            },
            label::DBGSTAT => match reader.item()? {
                Item::Unsigned(said) => {
                    let place = usize::try_from(said).map_err(|_| Malformed)?;
                    claims.dbgstat = Some(*DebugStatus::ALL.get(place).ok_or(Malformed)?);
                }
                _ => return Err(Malformed),
            },
            label::SUBMODS if may_have_submods => claims.submods = submods_of(reader)?,
            _ => reader.skip()?,
        }
    }
    Ok((claims, nonces))
}

/// Parts whose claims stand in the token itself; a token within a token is passed over.
fn submods_of(reader: &mut Reader<'_>) -> Result<BTreeMap<String, Claims>, Malformed> {
    let count = reader.map()?;
    if count > SUBMODULES_MAX as u64 {
        return Err(Malformed);
    }
    let mut submods = BTreeMap::new();
    for _ in 0..count {
        let name = text_of(reader)?;
        let mut ahead = *reader;
        let part = match ahead.item()? {
            Item::Map(_) => claims(reader, false)?.0,
            _ => {
                reader.skip()?;
                continue;
            }
        };
        if submods.insert(name, part).is_some() {
            return Err(Malformed);
        }
    }
    Ok(submods)
}

fn nonces_of<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a [u8]>, Malformed> {
    let nonce = |bytes: &'a [u8]| {
        (8..=64)
            .contains(&bytes.len())
            .then_some(bytes)
            .ok_or(Malformed)
    };
    match reader.item()? {
        Item::Bytes(bytes) => Ok(vec![nonce(bytes)?]),
        Item::Array(count) if count <= NONCES_MAX => {
            (0..count).map(|_| nonce(reader.bytes()?)).collect()
        }
        _ => Err(Malformed),
    }
}

fn bytes_of(reader: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    match reader.bytes()? {
        bytes if bytes.len() <= VALUE_BYTES_MAX => Ok(bytes.to_vec()),
        _ => Err(Malformed),
    }
}

fn text_of(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    match reader.text()? {
        text if text.len() <= VALUE_BYTES_MAX => Ok(text.to_owned()),
        _ => Err(Malformed),
    }
}

/// Bytes, or the number of an enterprise.
fn oemid_of(reader: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    match reader.item()? {
        Item::Bytes(bytes) if bytes.len() <= VALUE_BYTES_MAX => Ok(bytes.to_vec()),
        Item::Unsigned(number) => {
            let number = u32::try_from(number).map_err(|_| Malformed)?;
            Ok(number.to_be_bytes().to_vec())
        }
        _ => Err(Malformed),
    }
}

/// `[version, scheme]`; the scheme is not looked at.
fn version_of(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    match reader.item()? {
        Item::Array(count @ 1..=2) => {
            let version = text_of(reader)?;
            if count == 2 {
                reader.skip()?;
            }
            Ok(version)
        }
        _ => Err(Malformed),
    }
}

/// Why a token is no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EatRefusal {
    #[error("the token is larger than 8192 bytes; device: send fewer claims")]
    TooLarge,
    #[error(
        "the token cannot be read ({what}); device: send one COSE_Sign1 in CBOR with definite \
         lengths, whose payload is a map of claims"
    )]
    Malformed { what: &'static str },
    #[error(
        "the token is not signed with ES256, or the certificate's key is not P-256; device: sign \
         with ES256 by the key of its certificate, and name the algorithm in the protected header"
    )]
    Algorithm,
    #[error(
        "the token is not signed by the key of the certificate that was shown; device: sign with \
         that key"
    )]
    BadSignature,
    #[error(
        "the token holds no nonce of ours, or one that ended; device: ask for a new one and put it \
         into the claim eat_nonce"
    )]
    StaleNonce,
}

impl EatRefusal {
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge => "eat-too-large",
            Self::Malformed { .. } => "eat-malformed",
            Self::Algorithm => "eat-algorithm",
            Self::BadSignature => "eat-bad-signature",
            Self::StaleNonce => "eat-nonce-stale",
        }
    }

    #[must_use]
    pub const fn who_must_act(&self) -> Actor {
        Actor::Device
    }
}
