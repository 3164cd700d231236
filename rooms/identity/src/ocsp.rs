//! OCSP: does this certificate still stand? (RFC 6960; the light profile of RFC 9919, which is one
//! certificate a request and answers signed in advance; nonces by RFC 9654.)
//!
//! For outsiders who verify our certificates: our own doors ask the registry. The order of calls:
//! [`Request::parse`], [`decide`], [`respond`] for the bytes to be signed, then
//! [`UnsignedResponse::assemble`]; or [`refuse`].

use crate::certificate::{self, sha1, sha256};
use crate::profile::{ProfileError, ecdsa_with_sha256, internal};
use crate::registry::{Registry, Revocation};
use const_oid::db::rfc5912::{ID_SHA_1, ID_SHA_256};
use const_oid::db::rfc6960::{ID_PKIX_OCSP_BASIC, ID_PKIX_OCSP_NONCE};
use der::asn1::{Any, BitString, GeneralizedTime, OctetStringRef, UintRef};
use der::{Decode, Encode, Reader, SliceReader, Tag, TagNumber};
use model::{CertificateId, Digest, Revocable, RevocationReason, Timestamp};
use spki::{AlgorithmIdentifierRef, ObjectIdentifier, SubjectPublicKeyInfoRef};
use std::time::Duration;

/// The largest request looked at, in bytes of DER.
pub const REQUEST_BYTES_MAX: usize = 2048;
/// Certificates asked after in one request.
pub const ASKED_MAX: usize = 8;
/// Bytes of a nonce (RFC 9654 section 2.1).
pub const NONCE_BYTES_MAX: usize = 128;

/// A request that could be read. It says nothing of who asks: signatures on requests are not
/// looked at, as what we answer is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// 1 to [`ASKED_MAX`].
    asked: Vec<Asked<'a>>,
    nonce: Option<&'a [u8]>,
}

/// One certificate asked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked<'a> {
    /// CertID in DER as it came: the answer repeats it byte for byte.
    certificate_id: &'a [u8],
    hash: Hash,
    issuer_name: &'a [u8],
    issuer_key: &'a [u8],
    serial: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha256,
}

/// Why there is no answer (RFC 6960 section 4.2.1). Said in clear, signed by nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoAnswer {
    #[error("the request is not OCSP as RFC 6960 has it")]
    Malformed,
    #[error("a fault of ours")]
    Internal,
    #[error("too many ask at once; ask again later")]
    TryLater,
    #[error("we do not answer for the CA of that certificate")]
    Unauthorized,
}

impl NoAnswer {
    const fn code(self) -> u8 {
        match self {
            Self::Malformed => 1,
            Self::Internal => 2,
            Self::TryLater => 3,
            Self::Unauthorized => 6,
        }
    }
}

/// A CA for whose certificates we answer, by the hashes that requests name it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    id: Digest,
    sha1: [[u8; 20]; 2],
    sha256: [[u8; 32]; 2],
}

/// What is known of one certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Good,
    Revoked(Revocation),
    /// No such certificate is on record: never issued by us, or ended long ago.
    Unknown,
}

/// What is to be answered, before anything is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whose certificates they are: its responder must sign.
    pub issuer: Digest,
    /// In the order of the request.
    pub statuses: Vec<Status>,
}

impl<'a> Request<'a> {
    /// # Errors
    /// [`NoAnswer::Malformed`]: not a request, larger than [`REQUEST_BYTES_MAX`], no or more than
    /// [`ASKED_MAX`] certificates, a hash other than SHA-1 and SHA-256, a nonce of no or more than
    /// [`NONCE_BYTES_MAX`] bytes, a critical extension.
    pub fn parse(der: &'a [u8]) -> Result<Self, NoAnswer> {
        if der.len() > REQUEST_BYTES_MAX {
            return Err(NoAnswer::Malformed);
        }
        let request = Self::read(der).map_err(|_| NoAnswer::Malformed)?;
        let nonce_fits =
            (request.nonce).is_none_or(|nonce| (1..=NONCE_BYTES_MAX).contains(&nonce.len()));
        if nonce_fits && (1..=ASKED_MAX).contains(&request.asked.len()) {
            Ok(request)
        } else {
            Err(NoAnswer::Malformed)
        }
    }

    /// Whoever sends one wants an answer that was made for them.
    #[must_use]
    pub fn nonce(&self) -> Option<&'a [u8]> {
        self.nonce
    }

    /// Names the answer: two requests of the same name, without nonces, may have the same answer.
    #[must_use]
    pub fn name(&self) -> Digest {
        let ids: Vec<&[u8]> = self.asked.iter().map(|one| one.certificate_id).collect();
        sha256(&ids.concat())
    }

    fn read(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let request = reader.sequence(|reader| {
            let request = reader.sequence(Self::read_tbs)?;
            if !reader.is_finished() {
                // A signature of whoever asks; it gains and loses them nothing.
                tagged(reader, 0)?;
            }
            Ok::<_, der::Error>(request)
        })?;
        reader.finish()?;
        Ok(request)
    }

    fn read_tbs(reader: &mut SliceReader<'a>) -> der::Result<Self> {
        if let Some(version) = optional(reader, 0)?
            && version != [2, 1, 0]
        {
            return Err(der::ErrorKind::Failed.into());
        }
        // The name of whoever asks.
        optional(reader, 1)?;
        let mut asked = Vec::new();
        reader.sequence(|reader| {
            while !reader.is_finished() && asked.len() <= ASKED_MAX {
                asked.push(reader.sequence(Asked::read)?);
            }
            Ok::<_, der::Error>(())
        })?;
        let nonce = match optional(reader, 2)? {
            Some(extensions) => nonce_of(extensions)?,
            None => None,
        };
        Ok(Self { asked, nonce })
    }
}

impl<'a> Asked<'a> {
    fn read(reader: &mut SliceReader<'a>) -> der::Result<Self> {
        let certificate_id = reader.tlv_bytes()?;
        if let Some(extensions) = optional(reader, 0)? {
            no_critical(extensions)?;
        }
        let mut inner = SliceReader::new(certificate_id)?;
        let asked = inner.sequence(|reader| {
            let algorithm = AlgorithmIdentifierRef::decode(reader)?;
            let hash = match algorithm.oid {
                ID_SHA_1 => Hash::Sha1,
                ID_SHA_256 => Hash::Sha256,
                _ => return Err(der::ErrorKind::Failed.into()),
            };
            let is_plain = algorithm.parameters.is_none_or(|any| any.is_null());
            if !is_plain {
                return Err(der::ErrorKind::Failed.into());
            }
            let issuer_name = <&OctetStringRef>::decode(reader)?.as_bytes();
            let issuer_key = <&OctetStringRef>::decode(reader)?.as_bytes();
            // A negative serial number is nobody's.
            let serial = UintRef::decode(reader)?.as_bytes();
            Ok::<_, der::Error>(Self {
                certificate_id,
                hash,
                issuer_name,
                issuer_key,
                serial,
            })
        })?;
        inner.finish()?;
        Ok(asked)
    }
}

impl Authority {
    /// # Errors
    /// [`ProfileError::NotAnIssuer`] if it is not a certificate.
    pub fn from_certificate(der: &[u8]) -> Result<Self, ProfileError> {
        let not_one = |_| ProfileError::NotAnIssuer;
        let certificate = certificate::read(der).map_err(not_one)?;
        let tbs = certificate.tbs_certificate();
        let name = certificate::name_der(tbs.subject()).map_err(not_one)?;
        let key = tbs.subject_public_key_info().subject_public_key.raw_bytes();
        Ok(Self {
            id: sha256(&name),
            sha1: [sha1(&name), sha1(key)],
            sha256: [sha256(&name).0, sha256(key).0],
        })
    }

    fn is_named_by(&self, asked: &Asked<'_>) -> bool {
        match asked.hash {
            Hash::Sha1 => [asked.issuer_name, asked.issuer_key] == self.sha1,
            Hash::Sha256 => [asked.issuer_name, asked.issuer_key] == self.sha256,
        }
    }
}

/// What is known of each certificate asked after. A CA that is revoked takes all it issued with it.
///
/// # Errors
/// [`NoAnswer::Unauthorized`] if one is of a CA that is not among `authorities`, or they are of
/// two: no one responder could sign the answer.
pub fn decide(
    registry: &Registry,
    authorities: &[Authority],
    request: &Request<'_>,
) -> Result<Decision, NoAnswer> {
    let mut issuer = None;
    let mut statuses = Vec::with_capacity(request.asked.len());
    for asked in &request.asked {
        let authority = (authorities.iter())
            .find(|authority| authority.is_named_by(asked))
            .ok_or(NoAnswer::Unauthorized)?;
        if *issuer.get_or_insert(authority.id) != authority.id {
            return Err(NoAnswer::Unauthorized);
        }
        statuses.push(status_of(registry, authority.id, asked.serial));
    }
    let issuer = issuer.ok_or(NoAnswer::Malformed)?;
    Ok(Decision { issuer, statuses })
}

fn status_of(registry: &Registry, issuer: Digest, serial: &[u8]) -> Status {
    let Some(certificate) = CertificateId::new(issuer, serial) else {
        return Status::Unknown;
    };
    if !registry.is_issued(&certificate) {
        return Status::Unknown;
    }
    let own = registry.certificate_revocation(&certificate);
    let of_issuer = || registry.revocation(&Revocable::Issuer(issuer));
    own.or_else(of_issuer).map_or(Status::Good, Status::Revoked)
}

/// An answer that waits for its responder's signature, ECDSA with SHA-256.
#[derive(Debug, Clone)]
pub struct UnsignedResponse {
    tbs: Vec<u8>,
}

impl UnsignedResponse {
    /// The bytes to be signed: ResponseData in DER.
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        &self.tbs
    }

    /// The whole answer in DER. `signature` is the DER of an ECDSA signature by the key that
    /// `responder` certifies.
    ///
    /// # Errors
    /// [`ProfileError::Internal`] only.
    pub fn assemble(self, signature: &[u8], responder: &[u8]) -> Result<Vec<u8>, ProfileError> {
        let encode = || -> der::Result<Vec<u8>> {
            let basic = sequence(&[
                self.tbs.as_slice(),
                &ecdsa_with_sha256().to_der()?,
                &BitString::from_bytes(signature)?.to_der()?,
                &explicit(0, &sequence(&[responder])?)?,
            ])?;
            let bytes = sequence(&[
                &ID_PKIX_OCSP_BASIC.to_der()?,
                &element(Tag::OctetString, &basic)?,
            ])?;
            sequence(&[&element(Tag::Enumerated, &[0])?, &explicit(0, &bytes)?])
        };
        encode().map_err(internal("OCSP response"))
    }
}

/// Makes the answer. `responder_key` is the responder's SubjectPublicKeyInfo in DER; the answer is
/// true from `now` on and may be kept for `good_for`.
///
/// # Errors
/// [`ProfileError::Internal`]: the statuses are not the request's, or a time cannot be written.
pub fn respond(
    request: &Request<'_>,
    statuses: &[Status],
    responder_key: &[u8],
    now: Timestamp,
    good_for: Duration,
) -> Result<UnsignedResponse, ProfileError> {
    if statuses.len() != request.asked.len() {
        return Err(ProfileError::Internal {
            what: "OCSP statuses",
        });
    }
    let encode = || -> der::Result<Vec<u8>> {
        let key = SubjectPublicKeyInfoRef::from_der(responder_key)?;
        let key_hash = sha1(key.subject_public_key.raw_bytes());
        let (this_update, next_update) = (generalized(now)?, generalized(now.plus(good_for))?);
        let mut single = Vec::with_capacity(statuses.len());
        for (asked, status) in request.asked.iter().zip(statuses) {
            single.push(sequence(&[
                asked.certificate_id,
                &written(*status)?,
                &this_update,
                &explicit(0, &next_update)?,
            ])?);
        }
        let single: Vec<&[u8]> = single.iter().map(Vec::as_slice).collect();
        let extensions = match request.nonce {
            Some(nonce) => explicit(1, &sequence(&[&nonce_extension(nonce)?])?)?,
            None => Vec::new(),
        };
        sequence(&[
            &explicit(2, &element(Tag::OctetString, &key_hash)?)?,
            &this_update,
            &sequence(&single)?,
            &extensions,
        ])
    };
    encode()
        .map(|tbs| UnsignedResponse { tbs })
        .map_err(internal("OCSP response"))
}

/// The answer that there is none.
#[must_use]
pub fn refuse(why: NoAnswer) -> Vec<u8> {
    // SEQUENCE { ENUMERATED }
    vec![0x30, 3, 0x0a, 1, why.code()]
}

/// CertStatus (RFC 6960 section 4.2.1).
fn written(status: Status) -> der::Result<Vec<u8>> {
    match status {
        Status::Good => element(context(0, false), &[]),
        Status::Unknown => element(context(2, false), &[]),
        Status::Revoked(Revocation { reason, at }) => {
            let mut inside = generalized(at)?;
            // RFC 5280 section 5.3.1: absent rather than "unspecified".
            if reason != RevocationReason::Unspecified {
                inside.extend(explicit(0, &element(Tag::Enumerated, &[reason.code()])?)?);
            }
            element(context(1, true), &inside)
        }
    }
}

fn nonce_extension(nonce: &[u8]) -> der::Result<Vec<u8>> {
    let value = element(Tag::OctetString, nonce)?;
    sequence(&[
        &ID_PKIX_OCSP_NONCE.to_der()?,
        &element(Tag::OctetString, &value)?,
    ])
}

/// The nonce among the extensions of a request.
fn nonce_of(extensions: &[u8]) -> der::Result<Option<&[u8]>> {
    let mut nonce = None;
    each_extension(extensions, |oid, _, value| {
        if oid != ID_PKIX_OCSP_NONCE {
            return Ok(());
        }
        let bytes = <&OctetStringRef>::from_der(value)?.as_bytes();
        // Twice could be read two ways.
        match nonce.replace(bytes) {
            None => Ok(()),
            Some(_) => Err(der::ErrorKind::Failed.into()),
        }
    })?;
    Ok(nonce)
}

fn no_critical(extensions: &[u8]) -> der::Result<()> {
    each_extension(extensions, |_, _, _| Ok(()))
}

/// Refuses a critical one that is not known here.
fn each_extension<'a>(
    extensions: &'a [u8],
    mut each: impl FnMut(ObjectIdentifier, bool, &'a [u8]) -> der::Result<()>,
) -> der::Result<()> {
    let mut reader = SliceReader::new(extensions)?;
    reader.sequence(|reader| {
        while !reader.is_finished() {
            let (oid, critical, value) = reader.sequence(|reader| {
                let oid = ObjectIdentifier::decode(reader)?;
                let critical = match Tag::peek(reader)? {
                    Tag::Boolean => bool::decode(reader)?,
                    _ => false,
                };
                let value = <&OctetStringRef>::decode(reader)?.as_bytes();
                Ok::<_, der::Error>((oid, critical, value))
            })?;
            if critical && oid != ID_PKIX_OCSP_NONCE {
                return Err(der::ErrorKind::Failed.into());
            }
            each(oid, critical, value)?;
        }
        Ok::<_, der::Error>(())
    })?;
    reader.finish()
}

/// The content of `[number] EXPLICIT`, if that comes next.
fn optional<'a>(reader: &mut SliceReader<'a>, number: u8) -> der::Result<Option<&'a [u8]>> {
    if reader.is_finished() || Tag::peek(reader)? != context(number, true) {
        return Ok(None);
    }
    tagged(reader, number).map(Some)
}

fn tagged<'a>(reader: &mut SliceReader<'a>, number: u8) -> der::Result<&'a [u8]> {
    let any = der::asn1::AnyRef::decode(reader)?;
    der::Tagged::tag(&any).assert_eq(context(number, true))?;
    Ok(any.value())
}

const fn context(number: u8, constructed: bool) -> Tag {
    Tag::ContextSpecific {
        constructed,
        number: TagNumber(number as u32),
    }
}

fn element(tag: Tag, content: &[u8]) -> der::Result<Vec<u8>> {
    Any::new(tag, content)?.to_der()
}

fn explicit(number: u8, content: &[u8]) -> der::Result<Vec<u8>> {
    element(context(number, true), content)
}

fn sequence(parts: &[&[u8]]) -> der::Result<Vec<u8>> {
    element(Tag::Sequence, &parts.concat())
}

fn generalized(moment: Timestamp) -> der::Result<Vec<u8>> {
    GeneralizedTime::from_unix_duration(Duration::from_secs(moment.as_seconds()))?.to_der()
}
