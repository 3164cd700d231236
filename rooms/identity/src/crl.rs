//! Certificate revocation lists (RFC 5280 section 5): one full list per issuer, or several among
//! which its certificates are dealt out.
//!
//! The gateway never reads them, it asks the registry; they are for those who verify our
//! certificates elsewhere. Build one per revocation or per hour and cache it: 20,000 entries are
//! about 1 MB and 30 ms.

use crate::certificate;
use crate::profile::{Issuer, ProfileError, ecdsa_with_sha256, internal, signed, time, uri};
use const_oid::db::rfc5280::{
    ID_CE_AUTHORITY_KEY_IDENTIFIER, ID_CE_CRL_NUMBER, ID_CE_CRL_REASONS,
    ID_CE_ISSUING_DISTRIBUTION_POINT,
};
use der::asn1::Uint;
use der::{Decode, Encode};
use model::{CertificateId, Digest, RevocationReason, Timestamp};
use std::time::Duration;
use x509_cert::certificate::Version;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::pkix::crl::dp::IssuingDistributionPoint;
use x509_cert::ext::pkix::name::DistributionPointName;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, CrlReason};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;

/// An entry stays this long after its certificate ended: one more regular list must show it
/// (RFC 5280 section 3.3), so lists must come at least this often.
pub const KEPT_AFTER_END: Duration = Duration::from_secs(7 * 86_400);
/// The same for one that was replaced by the next of its device: as long as one list is good. So
/// each list that follows its end in regular course has shown it once, and a fleet that renews day
/// by day does not carry a week of its past.
pub const SUPERSEDED_KEPT_AFTER_END: Duration = Duration::from_secs(86_400);

pub(crate) const fn kept_after_end(reason: RevocationReason) -> Duration {
    match reason {
        RevocationReason::Superseded => SUPERSEDED_KEPT_AFTER_END,
        _ => KEPT_AFTER_END,
    }
}

/// One of a CA's lists. Which one shows a certificate is a hash of its serial number, so that it
/// can be written into the certificate before anybody knows of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    index: u16,
    count: u16,
}

impl Shard {
    /// The one list of a CA that has one.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// `None` unless there are 1, 2, 4 and so on up to 256 of them and this is one.
    #[must_use]
    pub fn new(index: u16, count: u16) -> Option<Self> {
        let is_one = count.is_power_of_two() && count <= 256 && index < count;
        is_one.then_some(Self { index, count })
    }

    /// The one of `count` that shows this certificate; the whole list if there is no such count.
    #[must_use]
    pub fn of(certificate: &CertificateId, count: u16) -> Self {
        // FNV-1a: every reader of a certificate could compute it, and nothing hangs on it but the
        // lengths of lists.
        let hash = certificate
            .serial()
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
            });
        let index = u16::try_from(hash % u32::from(count.max(1))).unwrap_or_default();
        Self::new(index, count).unwrap_or(Self::WHOLE)
    }

    #[must_use]
    pub fn holds(self, certificate: &CertificateId) -> bool {
        self.count == 1 || Self::of(certificate, self.count) == self
    }

    #[must_use]
    pub fn index(self) -> u16 {
        self.index
    }

    #[must_use]
    pub fn count(self) -> u16 {
        self.count
    }
}

/// One revoked certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub certificate: CertificateId,
    pub reason: RevocationReason,
    pub at: Timestamp,
}

/// A list that waits for its issuer's signature, ECDSA with SHA-256.
#[derive(Debug, Clone)]
pub struct UnsignedCrl {
    tbs: Vec<u8>,
}

impl UnsignedCrl {
    /// The bytes to be signed: TBSCertList in DER.
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        &self.tbs
    }

    /// The list in DER. `signature` is the DER of an ECDSA signature.
    ///
    /// # Errors
    /// [`ProfileError::Internal`] only.
    pub fn assemble(self, signature: &[u8]) -> Result<Vec<u8>, ProfileError> {
        signed(&self.tbs, signature)
    }
}

/// A list in DER out of its TBSCertList, which a ceremony has signed.
///
/// # Errors
/// [`ProfileError::Internal`] only.
pub fn assemble(to_be_signed: &[u8], signature: &[u8]) -> Result<Vec<u8>, ProfileError> {
    signed(to_be_signed, signature)
}

/// What a list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// SHA-256 of the issuer's Name.
    pub issuer: Digest,
    pub number: u64,
    pub this_update: Timestamp,
    pub next_update: Timestamp,
    pub entries: Vec<Entry>,
}

/// Why a list is not taken. The operator must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CrlRefusal {
    #[error("it is no revocation list of ours ({what}); operator: give the file that was written")]
    NotAList { what: &'static str },
    #[error("its signature is not by that CA; operator: use the right bundle")]
    ForeignIssuer,
}

impl Contents {
    /// Of a list that waits for its signature: TBSCertList in DER.
    ///
    /// # Errors
    /// [`CrlRefusal::NotAList`].
    pub fn read(tbs: &[u8]) -> Result<Self, CrlRefusal> {
        let list = TbsCertList::from_der(tbs).map_err(|_| not_a_list("not in DER"))?;
        Self::of(&list)
    }

    /// Of a list that this CA signed; both in DER.
    ///
    /// # Errors
    /// [`CrlRefusal`].
    pub fn verified(der: &[u8], issuer: &[u8]) -> Result<Self, CrlRefusal> {
        let issuer = certificate::read(issuer).map_err(|_| CrlRefusal::ForeignIssuer)?;
        let list: CertificateList =
            CertificateList::from_der(der).map_err(|_| not_a_list("not in DER"))?;
        let is_by_name = list.tbs_cert_list.issuer == *issuer.tbs_certificate().subject();
        if !is_by_name || !certificate::is_signed_by(der, &issuer) {
            return Err(CrlRefusal::ForeignIssuer);
        }
        Self::of(&list.tbs_cert_list)
    }

    fn of(list: &TbsCertList) -> Result<Self, CrlRefusal> {
        let issuer = certificate::name_digest(&list.issuer).map_err(|_| not_a_list("issuer"))?;
        let mut number = None;
        for extension in list.crl_extensions.iter().flatten() {
            match extension.extn_id {
                ID_CE_CRL_NUMBER => {
                    let CrlNumber(found) = CrlNumber::from_der(extension.extn_value.as_bytes())
                        .map_err(|_| not_a_list("its number"))?;
                    let bytes = found.as_bytes();
                    number = (bytes.len() <= 8).then(|| {
                        bytes
                            .iter()
                            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
                    });
                }
                ID_CE_AUTHORITY_KEY_IDENTIFIER => {}
                // What limits a list makes it say less than it seems to.
                _ => return Err(not_a_list("it is not a whole list")),
            }
        }
        let next = list
            .next_update
            .ok_or_else(|| not_a_list("it has no end"))?;
        let entries = (list.revoked_certificates.iter().flatten())
            .map(|one| entry_of(issuer, one))
            .collect::<Option<_>>()
            .ok_or_else(|| not_a_list("an entry"))?;
        Ok(Self {
            issuer,
            number: number.ok_or_else(|| not_a_list("it has no number"))?,
            this_update: certificate::timestamp(&list.this_update),
            next_update: certificate::timestamp(&next),
            entries,
        })
    }
}

fn not_a_list(what: &'static str) -> CrlRefusal {
    CrlRefusal::NotAList { what }
}

fn entry_of(issuer: Digest, revoked: &RevokedCert) -> Option<Entry> {
    let mut reason = RevocationReason::Unspecified;
    for extension in revoked.crl_entry_extensions.iter().flatten() {
        if extension.extn_id != ID_CE_CRL_REASONS {
            return None;
        }
        let found = CrlReason::from_der(extension.extn_value.as_bytes()).ok()?;
        reason = RevocationReason::from_code(found as u8)?;
    }
    Some(Entry {
        certificate: CertificateId::new(issuer, revoked.serial_number.as_bytes())?,
        reason,
        at: certificate::timestamp(&revoked.revocation_date),
    })
}

/// `number` must grow with every list of the issuer (section 5.2.3). `urls` are all the addresses
/// at which certificates look for this list, if it is one of several: an issuing distribution point
/// then says that it is not the whole (section 5.2.5).
///
/// # Errors
/// If an entry is not of this issuer, or the list would end before it begins.
pub fn crl(
    issuer: &Issuer,
    number: u64,
    urls: &[String],
    entries: &[Entry],
    this_update: Timestamp,
    next_update: Timestamp,
) -> Result<UnsignedCrl, ProfileError> {
    if next_update <= this_update {
        return Err(ProfileError::Internal {
            what: "a CRL that ends before it begins",
        });
    }
    let mut revoked = Vec::with_capacity(entries.len());
    for entry in entries {
        if entry.certificate.issuer() != issuer.id() {
            return Err(ProfileError::Internal {
                what: "a CRL entry of another issuer",
            });
        }
        revoked.push(revoked_certificate(entry)?);
    }
    let authority = AuthorityKeyIdentifier {
        key_identifier: Some(issuer.key_identifier()?),
        ..AuthorityKeyIdentifier::default()
    };
    let number = CrlNumber(Uint::try_from(number).map_err(internal("CRL number"))?);
    let mut extensions = vec![extension(&authority)?, extension(&number)?];
    if !urls.is_empty() {
        extensions.push(distribution_point(urls)?);
    }
    let list = TbsCertList {
        version: Version::V2,
        signature: ecdsa_with_sha256(),
        issuer: issuer.name().clone(),
        this_update: time(this_update)?,
        next_update: Some(time(next_update)?),
        // An empty list must be absent (section 5.1.2.6).
        revoked_certificates: Some(revoked).filter(|revoked| !revoked.is_empty()),
        crl_extensions: Some(extensions),
    };
    Ok(UnsignedCrl {
        tbs: list.to_der().map_err(internal("CRL"))?,
    })
}

fn distribution_point(urls: &[String]) -> Result<Extension, ProfileError> {
    let names = urls.iter().map(|url| uri(url)).collect::<Result<_, _>>()?;
    let point = IssuingDistributionPoint {
        distribution_point: Some(DistributionPointName::FullName(names)),
        only_contains_user_certs: false,
        only_contains_ca_certs: false,
        only_some_reasons: None,
        indirect_crl: false,
        only_contains_attribute_certs: false,
    };
    // x509-cert 0.3.0 has another OID for the type.
    (ID_CE_ISSUING_DISTRIBUTION_POINT, &point)
        .to_extension(&Name::default(), &[])
        .map_err(internal("issuing distribution point"))
}

fn revoked_certificate(entry: &Entry) -> Result<RevokedCert, ProfileError> {
    let reason = match entry.reason {
        // Section 5.3.1: absent rather than "unspecified".
        RevocationReason::Unspecified => None,
        RevocationReason::KeyCompromise => Some(CrlReason::KeyCompromise),
        RevocationReason::CaCompromise => Some(CrlReason::CaCompromise),
        RevocationReason::AffiliationChanged => Some(CrlReason::AffiliationChanged),
        RevocationReason::Superseded => Some(CrlReason::Superseded),
        RevocationReason::CessationOfOperation => Some(CrlReason::CessationOfOperation),
        RevocationReason::CertificateHold => Some(CrlReason::CertificateHold),
        RevocationReason::PrivilegeWithdrawn => Some(CrlReason::PrivilegeWithdrawn),
    };
    Ok(RevokedCert {
        serial_number: SerialNumber::new(entry.certificate.serial())
            .map_err(internal("serial number"))?,
        revocation_date: time(entry.at)?,
        crl_entry_extensions: reason
            .map(|reason| extension(&reason).map(|one| vec![one]))
            .transpose()?,
    })
}

fn extension<T>(value: &T) -> Result<Extension, ProfileError>
where
    for<'a> &'a T: ToExtension<Error = der::Error>,
{
    value
        .to_extension(&Name::default(), &[])
        .map_err(internal("CRL extension"))
}
