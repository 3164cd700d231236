//! Which names the certificates of a CA may hold (RFC 5280 section 4.2.1.10).

use super::encode::{internal, server_name};
use super::{ProfileError, certificate};
use crate::names::Realm;
use crate::refusal::PathRefusal;
use core::net::IpAddr;
use der::asn1::{Ia5String, OctetString};
use model::CertificateUses;
use x509_cert::Certificate;
use x509_cert::ext::pkix::NameConstraints;
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;

/// The names that a CA's certificates may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameLimits {
    /// Any: a CA that serves every use.
    Unlimited,
    /// URIs of this trust domain: devices, services, people.
    TrustDomain(String),
    /// These DNS names with what is below them, and these addresses.
    Servers(Vec<String>),
}

impl NameLimits {
    /// Those of a CA for these uses. `server_names` is looked at for servers only.
    #[must_use]
    pub fn of(uses: CertificateUses, realm: &Realm, server_names: &[&str]) -> Self {
        if uses == CertificateUses::EVERY {
            Self::Unlimited
        } else if uses == CertificateUses::SERVER {
            Self::Servers(server_names.iter().map(|name| (*name).to_owned()).collect())
        } else {
            Self::TrustDomain(realm.trust_domain().to_owned())
        }
    }

    /// As a CA certificate states them.
    ///
    /// # Errors
    /// If they are of a form that we never give, and so cannot be held to.
    pub(crate) fn read(ca: &Certificate) -> Result<Self, PathRefusal> {
        match certificate::name_constraints(ca)? {
            None => Ok(Self::Unlimited),
            Some(limits) => Self::of_extension(limits),
        }
    }

    /// # Errors
    /// As [`Self::read`].
    pub(super) fn of_extension(limits: NameConstraints) -> Result<Self, PathRefusal> {
        let unknown = || certificate::malformed("name constraints of a form that is not ours");
        let permitted = limits.permitted_subtrees.unwrap_or_default();
        let is_whole = |subtree: &GeneralSubtree| subtree.minimum == 0 && subtree.maximum.is_none();
        if limits.excluded_subtrees.is_some()
            || permitted.is_empty()
            || !permitted.iter().all(is_whole)
        {
            return Err(unknown());
        }
        if let [
            GeneralSubtree {
                base: GeneralName::UniformResourceIdentifier(host),
                ..
            },
        ] = permitted.as_slice()
        {
            return Ok(Self::TrustDomain(host.as_str().to_owned()));
        }
        let names: Option<Vec<String>> = (permitted.iter())
            .map(|subtree| match &subtree.base {
                GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
                GeneralName::IpAddress(range) => address(range.as_bytes()),
                _ => None,
            })
            .collect();
        names.map(Self::Servers).ok_or_else(unknown)
    }

    /// The extension; `None` where there are no limits.
    pub(super) fn extension(&self) -> Result<Option<NameConstraints>, ProfileError> {
        let permitted = match self {
            Self::Unlimited => return Ok(None),
            Self::TrustDomain(host) => {
                let host = Ia5String::new(host).map_err(internal("trust domain"))?;
                vec![subtree(GeneralName::UniformResourceIdentifier(host))]
            }
            Self::Servers(names) => names
                .iter()
                .map(|name| {
                    let base = match server_name(name)? {
                        // A range of one address: it, and a mask of ones.
                        GeneralName::IpAddress(address) => {
                            let octets = address.as_bytes();
                            let range = [octets, &vec![0xff; octets.len()]].concat();
                            OctetString::new(range)
                                .map(GeneralName::IpAddress)
                                .map_err(internal("IP address"))?
                        }
                        name => name,
                    };
                    Ok(subtree(base))
                })
                .collect::<Result<_, ProfileError>>()?,
        };
        Ok(Some(NameConstraints {
            permitted_subtrees: Some(permitted),
            excluded_subtrees: None,
        }))
    }

    /// Whether a certificate below may hold this name.
    pub(super) fn permit(&self, name: &GeneralName) -> bool {
        match (self, name) {
            (Self::Unlimited, _) => true,
            (Self::TrustDomain(domain), GeneralName::UniformResourceIdentifier(uri)) => {
                let host = (uri.as_str().split_once("://"))
                    .and_then(|(_, rest)| rest.split_once('/'))
                    .map(|(host, _)| host);
                host == Some(domain.as_str())
            }
            (Self::Servers(names), GeneralName::DnsName(name)) => {
                let name = name.as_str();
                names.iter().any(|base| {
                    name.strip_suffix(base.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                })
            }
            (Self::Servers(names), GeneralName::IpAddress(octets)) => names.iter().any(|base| {
                matches!(server_name(base), Ok(GeneralName::IpAddress(known)) if known == *octets)
            }),
            _ => false,
        }
    }
}

fn subtree(base: GeneralName) -> GeneralSubtree {
    GeneralSubtree {
        base,
        minimum: 0,
        maximum: None,
    }
}

/// The address of a range of one.
fn address(range: &[u8]) -> Option<String> {
    let (octets, mask) = range.split_at_checked(range.len() / 2)?;
    if mask.iter().any(|byte| *byte != 0xff) {
        return None;
    }
    let address = match octets.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(octets).ok()?),
        _ => return None,
    };
    Some(address.to_string())
}
