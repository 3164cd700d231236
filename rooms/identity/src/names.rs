//! The one authoritative name in a certificate of ours: a URI in the form of SPIFFE's.

use model::{Principal, TenantId};

/// Whose names these are: `spiffe://<trust domain>/<tenant>/device/<id>` or `…/service/<id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm {
    trust_domain: Box<str>,
    tenant: TenantId,
}

/// Why a text is not a trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the trust domain is not valid: use 1 to 253 of a-z 0-9 . - as in a host name, \
     and begin and end with a letter or a digit"
)]
pub struct InvalidTrustDomain;

impl Realm {
    /// `trust_domain` as in SPIFFE-ID section 2.1, narrowed to the characters of a host name.
    ///
    /// # Errors
    /// If it is not one. Upper case is refused, not folded: names compare byte by byte.
    pub fn new(trust_domain: &str, tenant: TenantId) -> Result<Self, InvalidTrustDomain> {
        let is_edge =
            |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = trust_domain.as_bytes();
        let is_valid = bytes.len() <= 253
            && is_edge(bytes.first())
            && is_edge(bytes.last())
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'));
        if is_valid {
            Ok(Self {
                trust_domain: trust_domain.into(),
                tenant,
            })
        } else {
            Err(InvalidTrustDomain)
        }
    }

    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The URI that stands in the certificate of `principal`.
    #[must_use]
    pub fn uri_of(&self, principal: &Principal) -> String {
        format!("spiffe://{}/{}/{principal}", self.trust_domain, self.tenant)
    }

    /// Whom a URI names, if it is one of ours: same trust domain, same tenant, nothing after the
    /// name. There is one spelling only: no percent-encoding, port, query or fragment.
    #[must_use]
    pub fn principal_of(&self, uri: &str) -> Option<Principal> {
        uri.strip_prefix("spiffe://")?
            .strip_prefix(self.trust_domain())?
            .strip_prefix('/')?
            .strip_prefix(self.tenant.as_str())?
            .strip_prefix('/')?
            .parse()
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn realm() -> Realm {
        Realm::new("fleet.example", TenantId::new("acme").unwrap()).unwrap()
    }

    #[test]
    fn a_name_of_another_realm_names_nobody() {
        let ours = "spiffe://fleet.example/acme/device/d1";
        assert_eq!(realm().principal_of(ours).unwrap().to_string(), "device/d1");
        for uri in [
            "spiffe://fleet.example.evil/acme/device/d1",
            "spiffe://evil/acme/device/d1",
            "spiffe://fleet.example/other/device/d1",
            "spiffe://fleet.example/acme2/device/d1",
            "spiffe://fleet.example/acme/device/d1/",
            "spiffe://fleet.example/acme/device/d1?x",
            "spiffe://fleet.example/acme/device/d%31",
            "spiffe://fleet.example/acme/person/d1",
            "spiffe://FLEET.example/acme/device/d1",
            "SPIFFE://fleet.example/acme/device/d1",
            "spiffe://fleet.example:443/acme/device/d1",
            "urn:fleet.example/acme/device/d1",
            "",
        ] {
            assert_eq!(realm().principal_of(uri), None, "{uri} was read as a name");
        }
    }

    #[test]
    fn trust_domains_that_could_be_read_twice_are_refused() {
        let tenant = TenantId::new("acme").unwrap();
        for text in ["", "Fleet", "a/b", "a:1", ".a", "a.", "a b", "a_b", "ä"] {
            assert!(Realm::new(text, tenant.clone()).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_principal_is_read_back(id in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}") {
            let principal: Principal = format!("device/{id}").parse().unwrap();
            prop_assert_eq!(realm().principal_of(&realm().uri_of(&principal)), Some(principal));
        }
    }
}
