//! CA certificates that are made elsewhere: what a plane asks a root for in a ceremony, and what it
//! checks before it believes the answer.

use super::encode::{internal, read_key, signed};
use super::{Issuer, Kind, NameLimits, ProfileError, issuing_name, lint};
use crate::certificate;
use crate::csr::{CertificateRequest, CsrRefusal};
use crate::names::Realm;
use const_oid::db::{rfc4519, rfc5280, rfc5912};
use der::asn1::{Any, SetOfVec};
use der::{Decode, Encode, Tag, Tagged};
use model::{AuthorityId, CertificateUse, CertificateUses, Timestamp};
use x509_cert::TbsCertificate;
use x509_cert::attr::Attribute;
use x509_cert::ext::Extension;
use x509_cert::ext::ToExtension;
use x509_cert::ext::pkix::NameConstraints;
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, Version};

/// A request that waits for the signature of the key it is for.
#[derive(Debug, Clone)]
pub struct UnsignedRequest {
    info: Vec<u8>,
}

/// What an issuing CA asks for, its possession of the key proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityRequest {
    pub authority: AuthorityId,
    pub tenant: String,
    pub limits: NameLimits,
    /// SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
}

/// Why a CA's request or certificate is not taken. The operator must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityRefusal {
    #[error(transparent)]
    Request(#[from] CsrRefusal),
    #[error(
        "the request names no CA of ours ({what}); operator: use what `identity ca request` wrote"
    )]
    NotARequest { what: &'static str },
    #[error("it is not a certificate in DER; operator: give the file that the ceremony wrote")]
    NotACertificate,
    #[error(
        "its signature is not by the root that should have made it; operator: use the right bundle"
    )]
    ForeignRoot,
    #[error("it is for another key; operator: install the answer to the last request of this CA")]
    OtherKey,
    #[error(
        "it is bound to other names than this CA was made for; operator: sign the request as it is"
    )]
    OtherLimits,
    #[error("it ended at {not_after}; operator: make a new one")]
    Ended { not_after: Timestamp },
    #[error("it cannot certify here: {what}; operator: import the CA without its key")]
    Unfit { what: &'static str },
    #[error("it breaks the profile of such a CA ({rule}); operator: make it with `identity root`")]
    Profile { rule: &'static str },
}

impl UnsignedRequest {
    /// The bytes to be signed: CertificationRequestInfo in DER.
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        &self.info
    }

    /// The request in DER (PKCS #10).
    ///
    /// # Errors
    /// [`ProfileError::Internal`] only.
    pub fn assemble(self, signature: &[u8]) -> Result<Vec<u8>, ProfileError> {
        signed(&self.info, signature)
    }
}

impl AuthorityRequest {
    /// The request of an issuing CA for a certificate with these limits.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn build(
        realm: &Realm,
        authority: &AuthorityId,
        limits: &NameLimits,
        public_key: &[u8],
    ) -> Result<UnsignedRequest, ProfileError> {
        let key = read_key(public_key)?;
        let subject = issuing_name(realm, authority, &key)?;
        let mut attributes = SetOfVec::new();
        if let Some(limits) = limits.extension()? {
            let extension: Extension = limits
                .to_extension(&subject, &[])
                .map_err(internal("extension"))?;
            let value = Any::encode_from(&vec![extension]).map_err(internal("extension"))?;
            let attribute = Attribute {
                oid: rfc5912::ID_EXTENSION_REQ,
                values: SetOfVec::try_from(vec![value]).map_err(internal("attribute"))?,
            };
            attributes
                .insert(attribute)
                .map_err(internal("attribute"))?;
        }
        let info = CertReqInfo {
            version: Version::V1,
            subject,
            public_key: key,
            attributes,
        };
        Ok(UnsignedRequest {
            info: info.to_der().map_err(internal("request"))?,
        })
    }

    /// Reads a request and verifies its signature.
    ///
    /// # Errors
    /// [`AuthorityRefusal`].
    pub fn read(der: &[u8]) -> Result<Self, AuthorityRefusal> {
        let proven = CertificateRequest::parse(der)?;
        let not_one = |what| AuthorityRefusal::NotARequest { what };
        let request = CertReq::from_der(der).map_err(|_| not_one("it is not in DER"))?;
        let subject = &request.info.subject;
        let tenant = text_of(subject, rfc4519::ORGANIZATION_NAME)
            .ok_or_else(|| not_one("it has no organisation"))?;
        let authority = match text_of(subject, rfc4519::ORGANIZATIONAL_UNIT_NAME) {
            Some(unit) => AuthorityId::new(&unit)
                .map_err(|_| not_one("its organisational unit is no name of a CA"))?,
            None => AuthorityId::standard(),
        };
        let mut limits = NameLimits::Unlimited;
        for attribute in request.info.attributes.iter() {
            let [value] = attribute.values.as_slice() else {
                return Err(not_one("an attribute without one value"));
            };
            let asked: Vec<Extension> = (attribute.oid == rfc5912::ID_EXTENSION_REQ)
                .then(|| value.decode_as().ok())
                .flatten()
                .ok_or_else(|| not_one("it asks for what is no extension"))?;
            let [one] = asked.as_slice() else {
                return Err(not_one("it asks for more than name constraints"));
            };
            limits = NameConstraints::from_der(one.extn_value.as_bytes())
                .ok()
                .and_then(|found| NameLimits::of_extension(found).ok())
                .ok_or_else(|| not_one("its name constraints are not in a form of ours"))?;
        }
        Ok(Self {
            authority,
            tenant,
            limits,
            public_key: proven.public_key().to_vec(),
        })
    }
}

/// Whether a certificate is what this root makes of the request of `authority`.
///
/// # Errors
/// [`AuthorityRefusal`].
pub fn check_issuing(
    realm: &Realm,
    certificate_der: &[u8],
    root_der: &[u8],
    authority: &AuthorityId,
    limits: &NameLimits,
    public_key: &[u8],
    now: Timestamp,
) -> Result<(), AuthorityRefusal> {
    let kind = match limits {
        NameLimits::Unlimited => Kind::Issuing,
        NameLimits::TrustDomain(_) => Kind::IssuingToClients,
        NameLimits::Servers(_) => Kind::IssuingToServers,
    };
    let (tbs, key) = check(kind, certificate_der, root_der, now)?;
    if key != public_key {
        return Err(AuthorityRefusal::OtherKey);
    }
    let spki = read_key(public_key).map_err(|_| AuthorityRefusal::OtherKey)?;
    let named = issuing_name(realm, authority, &spki).map_err(|_| AuthorityRefusal::OtherKey)?;
    if *tbs.subject() != named {
        return Err(AuthorityRefusal::Profile {
            rule: "named after its CA and key",
        });
    }
    let issuer =
        Issuer::from_certificate(certificate_der).map_err(|_| AuthorityRefusal::OtherLimits)?;
    if issuer.limits() == limits {
        Ok(())
    } else {
        Err(AuthorityRefusal::OtherLimits)
    }
}

/// Whether a CA that was made elsewhere can certify for these uses with this key. Who certified it is
/// not looked at: that its key is here is the trust.
///
/// # Errors
/// [`AuthorityRefusal`].
pub fn check_imported(
    realm: &Realm,
    certificate_der: &[u8],
    public_key: &[u8],
    uses: CertificateUses,
    now: Timestamp,
) -> Result<(), AuthorityRefusal> {
    let unfit = |what| AuthorityRefusal::Unfit { what };
    let certificate =
        certificate::read(certificate_der).map_err(|_| AuthorityRefusal::NotACertificate)?;
    let tbs = certificate.tbs_certificate();
    let key =
        (tbs.subject_public_key_info().to_der()).map_err(|_| AuthorityRefusal::NotACertificate)?;
    if key != public_key {
        return Err(AuthorityRefusal::OtherKey);
    }
    let issuer = Issuer::from_certificate(certificate_der).map_err(|_| {
        unfit(
            "it is no CA's with a subjectKeyIdentifier, or its name constraints are not read here",
        )
    })?;
    let spki = read_key(public_key).map_err(|_| unfit("its key is not read here"))?;
    let said = issuer.subject_key_identifier();
    let bits = spki.subject_public_key.raw_bytes();
    let by_sha1 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, bits);
    if said != issuer.signing_key() && said != by_sha1.as_ref() {
        return Err(unfit("its subjectKeyIdentifier is no digest of its key"));
    }
    let usage = certificate::key_usage(&certificate)
        .ok()
        .flatten()
        .ok_or_else(|| unfit("it has no keyUsage"))?;
    if !usage.key_cert_sign() || !usage.crl_sign() {
        return Err(unfit(
            "its keyUsage does not allow certificates and revocation lists",
        ));
    }
    let purposes = certificate::extended_key_usage(&certificate)
        .map_err(|_| unfit("its extendedKeyUsage cannot be read"))?;
    if purposes.is_some_and(|purposes| !purposes.0.contains(&rfc5280::ID_KP_CLIENT_AUTH)) {
        return Err(unfit("its extendedKeyUsage leaves clients out"));
    }
    let is_client = |one| uses.contains(one);
    if is_client(CertificateUse::Server)
        || is_client(CertificateUse::Operator)
        || uses == CertificateUses::EVERY
    {
        return Err(unfit("it may certify devices and services only"));
    }
    let name = format!(
        "spiffe://{}/{}/device/any",
        realm.trust_domain(),
        realm.tenant()
    );
    let name = super::uri(&name).map_err(|_| unfit("our trust domain is no URI's"))?;
    if !issuer.limits.permit(&name) {
        return Err(unfit("its name constraints leave our names out"));
    }
    if issuer.not_after() <= now {
        return Err(AuthorityRefusal::Ended {
            not_after: issuer.not_after(),
        });
    }
    Ok(())
}

/// Whether a certificate is a root by its own word.
///
/// # Errors
/// [`AuthorityRefusal`].
pub fn check_root(certificate_der: &[u8], now: Timestamp) -> Result<(), AuthorityRefusal> {
    check(Kind::Root, certificate_der, certificate_der, now).map(drop)
}

/// Whether `link_der` is the root `of_der` as the root `by_der` certifies it: whoever believes the
/// one may then believe the other.
///
/// # Errors
/// [`AuthorityRefusal`].
pub fn check_link(
    link_der: &[u8],
    of_der: &[u8],
    by_der: &[u8],
    now: Timestamp,
) -> Result<(), AuthorityRefusal> {
    let (tbs, key) = check(Kind::Link, link_der, by_der, now)?;
    let of = certificate::read(of_der).map_err(|_| AuthorityRefusal::NotACertificate)?;
    let of = of.tbs_certificate();
    let same_key = (of.subject_public_key_info().to_der()).is_ok_and(|of_key| of_key == key);
    if same_key && of.subject() == tbs.subject() {
        Ok(())
    } else {
        Err(AuthorityRefusal::OtherKey)
    }
}

/// The signature of `issuer_der`, the profile, the time; what was signed and its key.
fn check(
    kind: Kind,
    certificate_der: &[u8],
    issuer_der: &[u8],
    now: Timestamp,
) -> Result<(TbsCertificate, Vec<u8>), AuthorityRefusal> {
    let read = |der| certificate::read(der).map_err(|_| AuthorityRefusal::NotACertificate);
    let (certificate, issuer) = (read(certificate_der)?, read(issuer_der)?);
    if !certificate::is_signed_by(certificate_der, &issuer) {
        return Err(AuthorityRefusal::ForeignRoot);
    }
    let tbs = certificate.tbs_certificate().clone();
    let der = tbs
        .to_der()
        .map_err(|_| AuthorityRefusal::NotACertificate)?;
    let issuer =
        Issuer::from_certificate(issuer_der).map_err(|_| AuthorityRefusal::NotACertificate)?;
    match lint::lint(kind, &der, &issuer) {
        Ok(()) => {}
        Err(ProfileError::Lint { rule }) => return Err(AuthorityRefusal::Profile { rule }),
        Err(_) => return Err(AuthorityRefusal::NotACertificate),
    }
    let (_, not_after) = certificate::window(tbs.validity());
    if not_after < now {
        return Err(AuthorityRefusal::Ended { not_after });
    }
    let key =
        (tbs.subject_public_key_info().to_der()).map_err(|_| AuthorityRefusal::NotACertificate)?;
    Ok((tbs, key))
}

/// The one text of this type in a name.
fn text_of(name: &Name, oid: const_oid::ObjectIdentifier) -> Option<String> {
    let mut found = (name.iter_rdn().flat_map(|rdn| rdn.iter())).filter(|one| one.oid == oid);
    let (one, None) = (found.next()?, found.next()) else {
        return None;
    };
    let is_text = matches!(one.value.tag(), Tag::PrintableString | Tag::Utf8String);
    let text = std::str::from_utf8(one.value.value()).ok()?;
    is_text.then(|| text.to_owned())
}
