//! Passkeys (W3C Web Authentication, level 3): a key in somebody's phone, computer or security key,
//! for one origin, that signs what we asked once its holder was verified.
//!
//! An attestation is not asked for: which maker a passkey is of decides nothing here. Its user is
//! verified each time, so that a passkey is two factors by itself.

mod key;

use crate::Actor;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cbor::{Item, Malformed, Reader};
use key::Key;
use serde::Deserialize;

/// What a passkey signs with, as COSE numbers it (IANA, COSE Algorithms), the best first.
pub const ALGORITHMS: [i64; 3] = [-7, -8, -257];
/// Web Authentication, section 4, "Credential ID".
pub const CREDENTIAL_BYTES_MAX: usize = 1023;
pub const KEY_BYTES_MAX: usize = 1024;
const CLIENT_DATA_BYTES_MAX: usize = 4096;
const ATTESTATION_BYTES_MAX: usize = 8192;
const AUTHENTICATOR_DATA_BYTES_MAX: usize = 4096;
const SIGNATURE_BYTES_MAX: usize = 1024;

/// What was asked of a browser.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Whom the passkey is for: the name of the console's host.
    pub relying_party: &'a str,
    /// Where the console is: scheme, host and port, as browsers write them.
    pub origin: &'a str,
    pub challenge: &'a [u8],
}

/// What a browser hands over of a new passkey (`AuthenticatorAttestationResponse`).
#[derive(Debug, Clone, Copy)]
pub struct Made<'a> {
    pub client_data: &'a [u8],
    pub attestation: &'a [u8],
}

/// What it hands over of one that was used (`AuthenticatorAssertionResponse`).
#[derive(Debug, Clone, Copy)]
pub struct Used<'a> {
    pub client_data: &'a [u8],
    pub authenticator_data: &'a [u8],
    pub signature: &'a [u8],
}

/// A passkey as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passkey {
    /// By which its authenticator knows it; at most [`CREDENTIAL_BYTES_MAX`] bytes.
    pub credential: Vec<u8>,
    /// `COSE_Key` (RFC 9052 section 7), as the authenticator wrote it; at most [`KEY_BYTES_MAX`] bytes.
    pub key: Vec<u8>,
    /// How often it signed, if its authenticator counts.
    pub count: u32,
    /// Its key may be on several devices of its holder.
    pub synced: bool,
}

/// The ticket of a passkey that signed what was asked now, by its verified holder.
#[derive(Debug, PartialEq, Eq)]
pub struct Proof {
    count: u32,
}

impl Proof {
    /// To be kept: the next one is higher.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }
}

/// Why a passkey proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasskeyRefusal {
    #[error("{0} of the passkey is malformed or too long; try another browser or another passkey")]
    Malformed(&'static str),
    #[error("this answers another question than the one that was asked; begin again")]
    OtherCeremony,
    #[error("the challenge is not the one that was given; begin again")]
    OtherChallenge,
    #[error(
        "the page is at another address than the console's; open the console there, or operator: set \
         access.console_url to the address that people use"
    )]
    OtherOrigin,
    #[error(
        "the passkey is for another site; operator: set access.console_url to the name for which \
         passkeys were made"
    )]
    OtherRelyingParty,
    #[error("the passkey did not verify its holder; use one with a PIN, a fingerprint or a face")]
    NotVerified,
    #[error("the passkey signs with ES256, EdDSA or RS256, or is not taken")]
    Algorithm,
    #[error("an attestation was not asked for, or does not hold; use another passkey")]
    Attestation,
    #[error("the signature does not hold; use another passkey")]
    BadSignature,
    #[error(
        "the passkey counts its signatures and is behind: there may be a copy of it; remove it and \
         make another"
    )]
    Copied,
    #[error("the passkey says of itself something else than when it was made; make another")]
    Changed,
}

impl PasskeyRefusal {
    /// Stays the same over versions.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed(_) => "passkey-malformed",
            Self::OtherCeremony => "passkey-other-ceremony",
            Self::OtherChallenge => "passkey-other-challenge",
            Self::OtherOrigin => "passkey-other-origin",
            Self::OtherRelyingParty => "passkey-other-site",
            Self::NotVerified => "passkey-not-verified",
            Self::Algorithm => "passkey-algorithm",
            Self::Attestation => "passkey-attestation",
            Self::BadSignature => "passkey-bad-signature",
            Self::Copied => "passkey-copied",
            Self::Changed => "passkey-changed",
        }
    }

    #[must_use]
    pub const fn who_must_act(self) -> Actor {
        Actor::Operator
    }
}

/// Reads a new passkey (Web Authentication, section 7.1).
///
/// # Errors
/// [`PasskeyRefusal`]: it is not taken.
pub fn register(asked: &Asked<'_>, made: &Made<'_>) -> Result<Passkey, PasskeyRefusal> {
    check_client_data(asked, made.client_data, "webauthn.create")?;
    if made.attestation.len() > ATTESTATION_BYTES_MAX {
        return Err(PasskeyRefusal::Malformed("the attestation"));
    }
    let attested = Attested::read(made.attestation)
        .map_err(|_| PasskeyRefusal::Malformed("the attestation"))?;
    let read = AuthenticatorPart::read(attested.authenticator_data)?;
    read.check(asked)?;
    let (credential, key_bytes) = read
        .credential
        .ok_or(PasskeyRefusal::Malformed("the authenticator's part"))?;
    let key = Key::read(key_bytes)?;
    let signed = signed_bytes(attested.authenticator_data, made.client_data);
    match attested.statement {
        Statement::Absent => {}
        // Of the passkey itself (section 8.2): some authenticators give one unasked.
        Statement::OfItself {
            algorithm,
            signature,
        } if algorithm == key.algorithm() && key.verify(&signed, signature) => {}
        Statement::OfItself { .. } | Statement::Other => return Err(PasskeyRefusal::Attestation),
    }
    Ok(Passkey {
        credential: credential.to_vec(),
        key: key_bytes.to_vec(),
        count: read.count,
        synced: read.is(BACKUP_ELIGIBLE),
    })
}

/// Whether a known passkey signed what was asked (section 7.2).
///
/// # Errors
/// [`PasskeyRefusal`]: it proves nothing.
pub fn prove(asked: &Asked<'_>, known: &Passkey, used: &Used<'_>) -> Result<Proof, PasskeyRefusal> {
    check_client_data(asked, used.client_data, "webauthn.get")?;
    if used.signature.len() > SIGNATURE_BYTES_MAX {
        return Err(PasskeyRefusal::Malformed("the signature"));
    }
    let read = AuthenticatorPart::read(used.authenticator_data)?;
    read.check(asked)?;
    let signed = signed_bytes(used.authenticator_data, used.client_data);
    if !Key::read(&known.key)?.verify(&signed, used.signature) {
        return Err(PasskeyRefusal::BadSignature);
    }
    // From here on it is its own word.
    if read.is(BACKUP_ELIGIBLE) != known.synced {
        return Err(PasskeyRefusal::Changed);
    }
    let counts = read.count != 0 || known.count != 0;
    if counts && read.count <= known.count {
        return Err(PasskeyRefusal::Copied);
    }
    Ok(Proof { count: read.count })
}

/// Section 5.8.1; what else is in it is passed over.
#[derive(Deserialize)]
struct Collected {
    #[serde(rename = "type")]
    ceremony: String,
    challenge: String,
    origin: String,
    /// In a frame of another origin.
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
    #[serde(default, rename = "topOrigin")]
    top_origin: Option<serde_json::Value>,
}

fn check_client_data(
    asked: &Asked<'_>,
    bytes: &[u8],
    ceremony: &str,
) -> Result<(), PasskeyRefusal> {
    let malformed = PasskeyRefusal::Malformed("the browser's part");
    if bytes.len() > CLIENT_DATA_BYTES_MAX {
        return Err(malformed);
    }
    let read: Collected = serde_json::from_slice(bytes).map_err(|_| malformed)?;
    if read.ceremony != ceremony {
        return Err(PasskeyRefusal::OtherCeremony);
    }
    let challenge = URL_SAFE_NO_PAD
        .decode(read.challenge)
        .map_err(|_| PasskeyRefusal::OtherChallenge)?;
    if asked.challenge.is_empty() || verify_slices_are_equal(&challenge, asked.challenge).is_err() {
        return Err(PasskeyRefusal::OtherChallenge);
    }
    if read.origin != asked.origin || read.cross_origin || read.top_origin.is_some() {
        return Err(PasskeyRefusal::OtherOrigin);
    }
    Ok(())
}

/// Section 6.1, table "Authenticator data".
struct AuthenticatorPart<'a> {
    relying_party_hash: &'a [u8],
    flags: u8,
    count: u32,
    /// Of a new passkey: its name and its key.
    credential: Option<(&'a [u8], &'a [u8])>,
}

const USER_PRESENT: u8 = 1;
const USER_VERIFIED: u8 = 1 << 2;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const ATTESTED: u8 = 1 << 6;
const EXTENSIONS: u8 = 1 << 7;
const AAGUID_BYTES: usize = 16;

impl<'a> AuthenticatorPart<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, PasskeyRefusal> {
        let malformed = PasskeyRefusal::Malformed("the authenticator's part");
        if bytes.len() > AUTHENTICATOR_DATA_BYTES_MAX {
            return Err(malformed);
        }
        Self::parse(bytes).ok_or(malformed)
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (relying_party_hash, rest) = bytes.split_at_checked(32)?;
        let (flags, rest) = rest.split_first()?;
        let (count, mut rest) = rest.split_first_chunk::<4>()?;
        let mut credential = None;
        if flags & ATTESTED != 0 {
            let (_, after) = rest.split_at_checked(AAGUID_BYTES)?;
            let (length, after) = after.split_first_chunk::<2>()?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (name, after) = after.split_at_checked(length)?;
            if name.is_empty() || name.len() > CREDENTIAL_BYTES_MAX {
                return None;
            }
            let mut reader = Reader::new(after);
            reader.skip().ok()?;
            let key = after.get(..after.len() - reader.rest().len())?;
            credential = Some((name, key));
            rest = reader.rest();
        }
        if flags & EXTENSIONS != 0 {
            let mut reader = Reader::new(rest);
            Reader::new(rest).map().ok()?;
            reader.skip().ok()?;
            rest = reader.rest();
        }
        rest.is_empty().then_some(Self {
            relying_party_hash,
            flags: *flags,
            count: u32::from_be_bytes(*count),
            credential,
        })
    }

    fn check(&self, asked: &Asked<'_>) -> Result<(), PasskeyRefusal> {
        let expected = digest(&SHA256, asked.relying_party.as_bytes());
        if self.relying_party_hash != expected.as_ref() {
            return Err(PasskeyRefusal::OtherRelyingParty);
        }
        if !self.is(USER_PRESENT) || !self.is(USER_VERIFIED) {
            return Err(PasskeyRefusal::NotVerified);
        }
        if self.is(BACKED_UP) && !self.is(BACKUP_ELIGIBLE) {
            return Err(PasskeyRefusal::Changed);
        }
        Ok(())
    }

    const fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Section 6.5.4.
struct Attested<'a> {
    authenticator_data: &'a [u8],
    statement: Statement<'a>,
}

enum Statement<'a> {
    Absent,
    OfItself { algorithm: i64, signature: &'a [u8] },
    Other,
}

impl<'a> Attested<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.map()? != 3 {
            return Err(Malformed);
        }
        let (mut format, mut statement, mut authenticator_data) = (None, None, None);
        for _ in 0..3 {
            match reader.text()? {
                "fmt" if format.is_none() => format = Some(reader.text()?),
                "attStmt" if statement.is_none() => {
                    statement = Some(reader);
                    reader.skip()?;
                }
                "authData" if authenticator_data.is_none() => {
                    authenticator_data = Some(reader.bytes()?);
                }
                _ => return Err(Malformed),
            }
        }
        reader.finish()?;
        Ok(Self {
            authenticator_data: authenticator_data.ok_or(Malformed)?,
            statement: Statement::read(format.ok_or(Malformed)?, statement.ok_or(Malformed)?)?,
        })
    }
}

impl<'a> Statement<'a> {
    fn read(format: &str, mut reader: Reader<'a>) -> Result<Self, Malformed> {
        let pairs = reader.map()?;
        match (format, pairs) {
            ("none", 0) => Ok(Self::Absent),
            ("packed", 2) => {
                let (mut algorithm, mut signature) = (None, None);
                for _ in 0..2 {
                    match reader.text()? {
                        "alg" => algorithm = Some(key::integer(reader.item()?)?),
                        "sig" => signature = Some(reader.bytes()?),
                        _ => return Ok(Self::Other),
                    }
                }
                Ok(Self::OfItself {
                    algorithm: algorithm.ok_or(Malformed)?,
                    signature: signature.ok_or(Malformed)?,
                })
            }
            _ => Ok(Self::Other),
        }
    }
}

/// What a passkey signs, and an attestation as well.
fn signed_bytes(authenticator_data: &[u8], client_data: &[u8]) -> Vec<u8> {
    [authenticator_data, digest(&SHA256, client_data).as_ref()].concat()
}
