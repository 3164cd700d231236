//! A chain that a door shows: whole, in order, good now, and for these names?
//!
//! Who believes it is its clients' affair, so no anchor takes part: a chain of another CA, or a
//! certificate that signs itself, is shown as it was imported. What is refused is what no client
//! could use.

use crate::certificate;
use crate::path::{CERTIFICATE_BYTES_MAX, FOREIGN_ALGORITHMS, INTERMEDIATES_MAX};
use const_oid::db::rfc4519::CN;
use const_oid::db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP_SERVER_AUTH};
use core::net::IpAddr;
use der::asn1::{AnyRef, BitStringRef};
use der::{Decode, Encode, Reader, SliceReader};
use model::{Digest, Timestamp};
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_cert::Certificate;
use x509_cert::ext::pkix::name::GeneralName;

/// The most names read from one certificate.
const NAMES_MAX: usize = 100;

/// The ticket of a chain that can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerChain {
    names: Vec<String>,
    certificates: Vec<ChainCertificate>,
}

/// One certificate of a chain, as people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainCertificate {
    /// RFC 4514.
    pub subject: String,
    /// SHA-256 of its DER.
    pub sha256: Digest,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// Why a chain is not shown. Places count from 1, the leaf's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerChainRefusal {
    #[error("holds no certificate; operator: put the leaf first, then its issuer")]
    Empty,
    #[error(
        "certificate {place} is not an X.509 certificate of 8192 bytes or less; operator: export it again"
    )]
    Malformed { place: usize },
    #[error(
        "holds {found} certificates behind the leaf and {permitted} may be sent; operator: leave \
         the root out, which clients have, or raise intermediates_max"
    )]
    TooLong { found: usize, permitted: usize },
    #[error(
        "certificate {place} is not signed by the one behind it; operator: put the leaf first and \
         behind each its issuer"
    )]
    OutOfOrder { place: usize },
    #[error("the private key is not the leaf's; operator: name the key that was made for it")]
    KeyMismatch,
    #[error(
        "certificate {place} ended at {not_after}; operator: replace the file by its successor"
    )]
    Expired { place: usize, not_after: Timestamp },
    #[error(
        "certificate {place} begins at {not_before}; operator: wait, or check this machine's clock"
    )]
    NotYetValid { place: usize, not_before: Timestamp },
    #[error(
        "the leaf is not for servers (extended key usage); operator: ask its CA for serverAuth"
    )]
    NotAServer,
    #[error("the leaf names no server; operator: set names, or ask its CA for subjectAltName")]
    NamesNothing,
    #[error("the leaf is not for {name:?}; operator: leave the name out, or ask the CA for it")]
    NameNotHeld { name: String },
}

impl ServerChainRefusal {
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty => "server-chain-empty",
            Self::Malformed { .. } => "server-chain-malformed",
            Self::TooLong { .. } => "server-chain-too-long",
            Self::OutOfOrder { .. } => "server-chain-out-of-order",
            Self::KeyMismatch => "server-chain-key-mismatch",
            Self::Expired { .. } => "server-chain-expired",
            Self::NotYetValid { .. } => "server-chain-not-yet-valid",
            Self::NotAServer => "server-chain-not-a-server",
            Self::NamesNothing => "server-chain-names-nothing",
            Self::NameNotHeld { .. } => "server-chain-name-not-held",
        }
    }

    #[must_use]
    pub const fn who_must_act(&self) -> crate::Actor {
        crate::Actor::Operator
    }
}

impl ServerChain {
    /// `chain` in DER, the leaf first; `public_key` is the SubjectPublicKeyInfo of the private key
    /// that will sign handshakes.
    ///
    /// # Errors
    /// [`ServerChainRefusal`], the first that holds.
    pub fn read<D: AsRef<[u8]>>(
        chain: &[D],
        public_key: &[u8],
        intermediates_max: usize,
        now: Timestamp,
    ) -> Result<Self, ServerChainRefusal> {
        let permitted = intermediates_max.min(INTERMEDIATES_MAX);
        let found = chain
            .len()
            .checked_sub(1)
            .ok_or(ServerChainRefusal::Empty)?;
        if found > permitted {
            return Err(ServerChainRefusal::TooLong { found, permitted });
        }
        let mut certificates = Vec::with_capacity(chain.len());
        let mut leaf = None;
        for (place, der) in (1..).zip(chain) {
            let certificate = read(der.as_ref(), place)?;
            certificates.push(told(&certificate, der.as_ref(), place, now)?);
            leaf.get_or_insert(certificate);
        }
        for (place, pair) in (1..).zip(chain.windows(2)) {
            if let [signed, issuer] = pair
                && !is_signed_by(signed.as_ref(), issuer.as_ref())
            {
                return Err(ServerChainRefusal::OutOfOrder { place });
            }
        }
        let leaf = leaf.ok_or(ServerChainRefusal::Empty)?;
        let key = leaf.tbs_certificate().subject_public_key_info().to_der();
        if key.ok().as_deref() != Some(public_key) {
            return Err(ServerChainRefusal::KeyMismatch);
        }
        check_purpose(&leaf)?;
        Ok(Self {
            names: names_of(&leaf)?,
            certificates,
        })
    }

    /// What the leaf says it is for: DNS names, perhaps with a wildcard, and addresses.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The leaf first.
    #[must_use]
    pub fn certificates(&self) -> &[ChainCertificate] {
        &self.certificates
    }

    /// When the last of its certificates begins.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        let all = self.certificates.iter().map(|one| one.not_before);
        all.max().unwrap_or(Timestamp::from_seconds(0))
    }

    /// When the first of its certificates ends.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        let all = self.certificates.iter().map(|one| one.not_after);
        all.min().unwrap_or(Timestamp::from_seconds(0))
    }

    /// SHA-256 of the leaf.
    #[must_use]
    pub fn leaf(&self) -> Digest {
        let leaf = self.certificates.first();
        leaf.map_or(Digest([0; 32]), |leaf| leaf.sha256)
    }

    /// The names to be shown for: those asked for, which it must hold, else all of its own.
    ///
    /// # Errors
    /// [`ServerChainRefusal::NameNotHeld`], or none is asked for and it holds none.
    pub fn names_for(&self, asked: &[String]) -> Result<Vec<String>, ServerChainRefusal> {
        if asked.is_empty() && self.names.is_empty() {
            return Err(ServerChainRefusal::NamesNothing);
        }
        if asked.is_empty() {
            return Ok(self.names.clone());
        }
        let held = |name: &str| {
            let same = |own: &String| own.eq_ignore_ascii_case(name) || covers(own, name);
            self.names.iter().any(same)
        };
        match asked.iter().find(|name| !held(name)) {
            Some(name) => Err(ServerChainRefusal::NameNotHeld { name: name.clone() }),
            None => Ok(asked.iter().map(|name| name.to_ascii_lowercase()).collect()),
        }
    }
}

/// Whether a name of a certificate is this one: a wildcard stands for the whole leftmost label
/// (RFC 9525 section 6.3).
#[must_use]
pub fn covers(own: &str, name: &str) -> bool {
    match own.strip_prefix("*.") {
        Some(rest) => name
            .split_once('.')
            .is_some_and(|(label, parent)| !label.is_empty() && parent.eq_ignore_ascii_case(rest)),
        None => own.eq_ignore_ascii_case(name),
    }
}

fn read(der: &[u8], place: usize) -> Result<Certificate, ServerChainRefusal> {
    let malformed = ServerChainRefusal::Malformed { place };
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(malformed);
    }
    certificate::read(der).map_err(|_| malformed)
}

fn told(
    certificate: &Certificate,
    der: &[u8],
    place: usize,
    now: Timestamp,
) -> Result<ChainCertificate, ServerChainRefusal> {
    let tbs = certificate.tbs_certificate();
    let (not_before, not_after) = certificate::window(tbs.validity());
    if now.as_seconds() > not_after.as_seconds() {
        return Err(ServerChainRefusal::Expired { place, not_after });
    }
    if now.as_seconds() < not_before.as_seconds() {
        return Err(ServerChainRefusal::NotYetValid { place, not_before });
    }
    Ok(ChainCertificate {
        subject: tbs.subject().to_string(),
        sha256: certificate::sha256(der),
        not_before,
        not_after,
    })
}

/// RFC 5280 has a missing purpose mean any.
fn check_purpose(leaf: &Certificate) -> Result<(), ServerChainRefusal> {
    let malformed = |_| ServerChainRefusal::Malformed { place: 1 };
    let purposes = certificate::extended_key_usage(leaf).map_err(malformed)?;
    let is_for_servers = purposes.is_none_or(|purposes| {
        let wanted = [ID_KP_SERVER_AUTH, ANY_EXTENDED_KEY_USAGE];
        purposes.0.iter().any(|one| wanted.contains(one))
    });
    if is_for_servers {
        Ok(())
    } else {
        Err(ServerChainRefusal::NotAServer)
    }
}

/// The common name counts only where there is no subjectAltName: old fleets have such servers.
fn names_of(leaf: &Certificate) -> Result<Vec<String>, ServerChainRefusal> {
    let malformed = |_| ServerChainRefusal::Malformed { place: 1 };
    let Some(names) = certificate::subject_alt_name(leaf).map_err(malformed)? else {
        let common = leaf
            .tbs_certificate()
            .subject()
            .iter()
            .find(|one| one.oid == CN);
        let text = common.and_then(|one| std::str::from_utf8(one.value.value()).ok());
        return Ok(text.map(str::to_ascii_lowercase).into_iter().collect());
    };
    let told = names.0.iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        GeneralName::IpAddress(bytes) => address(bytes.as_bytes()),
        _ => None,
    });
    Ok(told.take(NAMES_MAX).collect())
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok().map(|address| address.to_string())
}

/// By name, then by signature.
fn is_signed_by(signed: &[u8], issuer: &[u8]) -> bool {
    let named = || {
        let (signed, issuer) = (
            certificate::read(signed).ok()?,
            certificate::read(issuer).ok()?,
        );
        Some(signed.tbs_certificate().issuer() == issuer.tbs_certificate().subject())
    };
    let held = || {
        let signed = Signed::read(signed).ok()?;
        let issuer = CertificateDer::from(issuer);
        let issuer = EndEntityCert::try_from(&issuer).ok()?;
        let verifies = FOREIGN_ALGORITHMS
            .iter()
            .filter(|one| one.signature_alg_id().as_ref() == signed.algorithm)
            .any(|one| {
                issuer
                    .verify_signature(*one, signed.to_be_signed, signed.signature)
                    .is_ok()
            });
        Some(verifies)
    };
    named() == Some(true) && held() == Some(true)
}

/// The three parts of a certificate, as slices of what was read.
struct Signed<'a> {
    to_be_signed: &'a [u8],
    /// The content of AlgorithmIdentifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn read(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let parts = reader.sequence(|reader| {
            let to_be_signed = reader.tlv_bytes()?;
            let algorithm = AnyRef::decode(reader)?;
            let signature = BitStringRef::decode(reader)?;
            Ok::<_, der::Error>(Self {
                to_be_signed,
                algorithm: algorithm.value(),
                signature: signature.as_bytes().ok_or(der::ErrorKind::Failed)?,
            })
        })?;
        reader.finish()?;
        Ok(parts)
    }
}
