//! What can be withdrawn, why, and what becomes of two reasons for one thing.

use crate::{CertificateId, Digest, Principal, ProductId};
use std::fmt;

/// Why something was revoked (RFC 5280 section 5.3.1). `removeFromCRL` belongs to delta CRLs alone
/// and `aACompromise` to attribute certificates: neither is a reason of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RevocationReason {
    Unspecified,
    KeyCompromise,
    CaCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    /// Barred like all others, and the only one that can be released.
    CertificateHold,
    PrivilegeWithdrawn,
}

impl RevocationReason {
    pub const ALL: [Self; 8] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
        Self::PrivilegeWithdrawn,
    ];

    /// The CRLReason code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::CaCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::CertificateHold => 6,
            Self::PrivilegeWithdrawn => 9,
        }
    }

    /// The reason with this CRLReason code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The name in the API, the CLI and the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::CaCompromise => "ca-compromise",
            Self::AffiliationChanged => "affiliation-changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::CertificateHold => "certificate-hold",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// A hold can be released; whatever else stands for good.
    #[must_use]
    pub const fn is_hold(self) -> bool {
        matches!(self, Self::CertificateHold)
    }
}

/// What a revocation names. It need not be known: it is barred when it comes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revocable {
    /// This certificate, ours or a factory's.
    Certificate(CertificateId),
    /// A device, its factory identity included, or a service.
    Principal(Principal),
    /// Every device of a product, present and to come.
    Product(ProductId),
    /// Everything that a CA issued, by the SHA-256 of its name in DER.
    Issuer(Digest),
}

/// `certificate/<issuer>:<serial>`, `device/<id>`, `service/<id>`, `product/<id>`, `ca/<issuer>`.
impl fmt::Display for Revocable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(id) => write!(f, "certificate/{id}"),
            Self::Principal(principal) => write!(f, "{principal}"),
            Self::Product(id) => write!(f, "product/{id}"),
            Self::Issuer(digest) => write!(f, "ca/{digest}"),
        }
    }
}

/// Why a text names nothing that can be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write device/<name>, service/<name>, product/<name>, certificate/<issuer digest>:<serial> \
     or ca/<issuer digest>, digests and serials in hex"
)]
pub struct InvalidRevocable;

impl std::str::FromStr for Revocable {
    type Err = InvalidRevocable;

    fn from_str(text: &str) -> Result<Self, InvalidRevocable> {
        let (kind, name) = text.split_once('/').ok_or(InvalidRevocable)?;
        let read = match kind {
            "certificate" => name.parse().ok().map(Self::Certificate),
            "device" | "service" => text.parse().ok().map(Self::Principal),
            "product" => name.parse().ok().map(Self::Product),
            "ca" => Digest::from_hex(name).map(Self::Issuer),
            _ => None,
        };
        read.ok_or(InvalidRevocable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_revoked_reads_back_as_written() {
        let digest = "ab".repeat(32);
        for text in [
            "device/cam-1".to_owned(),
            "service/ingest".to_owned(),
            "product/camera".to_owned(),
            format!("ca/{digest}"),
            format!("certificate/{digest}:01ff"),
        ] {
            let read: Revocable = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        for text in [
            "",
            "cam-1",
            "device/",
            "device/a b",
            "person/a",
            "ca/ab",
            &format!("ca/{}", "g".repeat(64)),
            &format!("certificate/{digest}"),
            &format!("certificate/{digest}:"),
            &format!("certificate/{digest}:+1"),
        ] {
            assert_eq!(text.parse::<Revocable>(), Err(InvalidRevocable), "{text:?}");
        }
    }

    #[test]
    fn reasons_read_back_by_name_and_by_code() {
        for reason in RevocationReason::ALL {
            assert_eq!(RevocationReason::from_name(reason.name()), Some(reason));
            assert_eq!(RevocationReason::from_code(reason.code()), Some(reason));
        }
        // removeFromCRL and aACompromise, and 7, which is not used.
        for code in [7, 8, 10] {
            assert_eq!(RevocationReason::from_code(code), None);
        }
    }
}
