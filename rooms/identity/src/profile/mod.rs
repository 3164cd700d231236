//! What stands in each certificate we make: one function per kind, and nothing from a request but
//! its public key.
//!
//! Each function returns [`Unsigned`]: the finished bytes, already read back and held against the
//! kind's rules by [`lint`]. All signatures are ECDSA P-256 with SHA-256.

mod authority;
mod encode;
mod limits;
mod lint;

pub use authority::{
    AuthorityRefusal, AuthorityRequest, UnsignedRequest, check_imported, check_issuing, check_link,
    check_root,
};
pub(crate) use encode::{ecdsa_with_sha256, internal, signed, time, uri};
pub use limits::NameLimits;

use crate::certificate;
use crate::names::Realm;
use crate::status::StatusPoint;
use const_oid::db::rfc4519;
use const_oid::db::rfc5280::{
    ID_AD_OCSP, ID_KP_CLIENT_AUTH, ID_KP_OCSP_SIGNING, ID_KP_SERVER_AUTH,
};
use const_oid::db::rfc6960::ID_PKIX_OCSP_NOCHECK;
use der::asn1::OctetString;
use der::{Encode, Sequence};
use encode::{ca_name, extension, key_identifier, name, read_key, serial, server_name};
use model::{
    AuthorityId, CertificateId, DeviceId, Digest, ManufacturerId, OperatorId, Principal,
    SerialNumber, ServiceId, Timestamp,
};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use std::time::Duration;
use x509_cert::certificate::Version;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AccessDescription, AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints,
    CrlDistributionPoints, ExtendedKeyUsage, KeyUsage, KeyUsages, NameConstraints, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber as CertificateSerial;
use x509_cert::time::Validity;

/// How long an LDevID lives unless its product says otherwise.
pub const LDEVID_LIFETIME_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
/// The longest life of a device's, a service's or a server's certificate.
pub const LEAF_LIFETIME_MAX: Duration = Duration::from_secs(398 * 86_400);
/// The longest life of a CA of ours.
pub const CA_LIFETIME_MAX: Duration = Duration::from_secs(30 * 366 * 86_400);
/// Certificates begin this much before they are made, for clocks that run late.
pub const BACKDATED: Duration = Duration::from_secs(600);

/// 9999-12-31T23:59:59Z: no end, as RFC 5280 section 4.1.2.5 and IEEE 802.1AR write it.
const NO_END: Timestamp = Timestamp::from_seconds(253_402_300_799);

/// What differs from one certificate to the next of its kind.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// SubjectPublicKeyInfo in DER.
    pub public_key: &'a [u8],
    /// 16 uniform bytes; the moment overwrites six, 80 bits stay (more than the 64 that CAs owe
    /// each other against chosen prefixes).
    pub serial_random: [u8; 16],
    pub now: Timestamp,
    /// From `now`; cut at the issuer's end.
    pub lifetime: Duration,
}

/// A CA certificate as its certificates' and lists' issuer.
#[derive(Debug, Clone)]
pub struct Issuer {
    name: Name,
    id: Digest,
    key_identifier: Vec<u8>,
    /// RFC 7093 section 2, method 1, whatever its certificate says.
    signing_key: Vec<u8>,
    limits: NameLimits,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A certificate that waits for its issuer's signature, ECDSA with SHA-256.
#[derive(Debug, Clone)]
pub struct Unsigned {
    tbs: Vec<u8>,
    certificate: CertificateId,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why a certificate is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("the issuing CA ended at {not_after}; operator: make the next issuing CA")]
    IssuerEnded { not_after: Timestamp },
    #[error("the issuer is not a CA certificate that can be read; operator: check the CA files")]
    NotAnIssuer,
    #[error("the public key is not one we certify: {0}")]
    Key(#[from] crate::csr::CsrRefusal),
    #[error("{name:?} is not a DNS name or IP address; operator: correct the server's names")]
    ServerName { name: String },
    #[error(
        "the finished certificate breaks its profile ({rule}) and was not signed; report this to us"
    )]
    Lint { rule: &'static str },
    #[error("the certificate could not be encoded ({what}); report this to us")]
    Internal { what: &'static str },
}

impl Issuer {
    /// # Errors
    /// [`ProfileError::NotAnIssuer`] if it is not a CA certificate with a subjectKeyIdentifier.
    pub fn from_certificate(der: &[u8]) -> Result<Self, ProfileError> {
        let not_one = |_| ProfileError::NotAnIssuer;
        let certificate = certificate::read(der).map_err(not_one)?;
        let is_ca = certificate::basic_constraints(&certificate)
            .map_err(not_one)?
            .is_some_and(|constraints| constraints.ca);
        let key_identifier = certificate::subject_key_identifier(&certificate)
            .map_err(not_one)?
            .filter(|_| is_ca)
            .ok_or(ProfileError::NotAnIssuer)?;
        let tbs = certificate.tbs_certificate();
        let (not_before, not_after) = certificate::window(tbs.validity());
        Ok(Self {
            id: certificate::name_digest(tbs.subject()).map_err(not_one)?,
            name: tbs.subject().clone(),
            key_identifier: key_identifier.0.as_bytes().to_vec(),
            signing_key: self::key_identifier(tbs.subject_public_key_info()),
            limits: NameLimits::read(&certificate).map_err(not_one)?,
            not_before,
            not_after,
        })
    }

    /// Whether it is the CA of this key, a SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn has_key(&self, public_key: &[u8]) -> bool {
        read_key(public_key).is_ok_and(|key| key_identifier(&key) == self.signing_key)
    }

    /// Whether its certificates may hold these DNS names and addresses.
    #[must_use]
    pub fn permits_servers(&self, names: &[&str]) -> bool {
        (names.iter()).all(|name| server_name(name).is_ok_and(|name| self.limits.permit(&name)))
    }

    /// The names that its certificates may hold.
    #[must_use]
    pub fn limits(&self) -> &NameLimits {
        &self.limits
    }

    /// SHA-256 of the Name in DER: the issuer in every [`CertificateId`] of its certificates.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.id
    }

    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Its key as the signer names it: 20 bytes by RFC 7093. A CA that was made elsewhere may say
    /// another identifier of it in its certificate.
    #[must_use]
    pub fn signing_key(&self) -> &[u8] {
        &self.signing_key
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// Of its key: what its certificates give as their authorityKeyIdentifier.
    #[must_use]
    pub fn subject_key_identifier(&self) -> &[u8] {
        &self.key_identifier
    }

    pub(crate) fn key_identifier(&self) -> Result<OctetString, ProfileError> {
        OctetString::new(self.key_identifier.as_slice()).map_err(internal("key identifier"))
    }
}

impl Unsigned {
    /// The bytes to be signed: TBSCertificate in DER.
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        &self.tbs
    }

    #[must_use]
    pub fn certificate(&self) -> CertificateId {
        self.certificate
    }

    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The certificate in DER. `signature` is the DER of an ECDSA signature (RFC 3279
    /// section 2.2.3).
    ///
    /// # Errors
    /// [`ProfileError::Internal`] only.
    pub fn assemble(self, signature: &[u8]) -> Result<Vec<u8>, ProfileError> {
        signed(&self.tbs, signature)
    }
}

/// The root of our tree, signed by its own key: at most one CA below it, and while it takes another
/// root's place a link certificate between.
///
/// # Errors
/// [`ProfileError`], as all functions here.
pub fn root(realm: &Realm, terms: &Terms<'_>) -> Result<Unsigned, ProfileError> {
    let own_organisation = realm.tenant().as_str();
    self_signed(
        own_organisation,
        "Root CA",
        Some(2),
        terms,
        Kind::Root,
        false,
    )
}

/// The CA of every use, bound to no names: it issues to devices and services, and to this plane's
/// server.
///
/// # Errors
/// [`ProfileError`].
pub fn issuing(
    realm: &Realm,
    issuer: &Issuer,
    terms: &Terms<'_>,
) -> Result<Unsigned, ProfileError> {
    let every = AuthorityId::standard();
    issuing_of(realm, &every, &NameLimits::Unlimited, issuer, terms)
}

/// An issuing CA of its own for a product or purpose, bound to the names in `limits`.
///
/// # Errors
/// [`ProfileError`].
pub fn issuing_of(
    realm: &Realm,
    authority: &AuthorityId,
    limits: &NameLimits,
    issuer: &Issuer,
    terms: &Terms<'_>,
) -> Result<Unsigned, ProfileError> {
    let key = read_key(terms.public_key)?;
    let subject = issuing_name(realm, authority, &key)?;
    let contents = Contents {
        kind: match limits {
            NameLimits::Unlimited => Kind::Issuing,
            NameLimits::TrustDomain(_) => Kind::IssuingToClients,
            NameLimits::Servers(_) => Kind::IssuingToServers,
        },
        subject,
        path_length: Some(0),
        limits: limits.extension()?,
        names: Vec::new(),
        status: None,
    };
    finish(
        contents,
        issuer,
        key,
        terms,
        capped(terms, issuer, CA_LIFETIME_MAX)?,
    )
}

/// The first CA goes without its name, as it did before there were others.
fn issuing_name(
    realm: &Realm,
    authority: &AuthorityId,
    key: &SubjectPublicKeyInfoOwned,
) -> Result<Name, ProfileError> {
    let unit = Some(authority.as_str()).filter(|_| *authority != AuthorityId::standard());
    ca_name(realm.tenant().as_str(), unit, "Issuing CA", key)
}

/// This plane's own TLS server, under its DNS names and IP addresses.
///
/// # Errors
/// [`ProfileError`]; [`ProfileError::ServerName`] for a name that is neither.
pub fn server(
    realm: &Realm,
    names: &[&str],
    issuer: &Issuer,
    terms: &Terms<'_>,
) -> Result<Unsigned, ProfileError> {
    let names: Vec<GeneralName> = names
        .iter()
        .map(|name| server_name(name))
        .collect::<Result<_, _>>()?;
    leaf(Kind::Server, realm, "server", names, None, issuer, terms)
}

/// A device's operational certificate (IEEE 802.1AR LDevID).
///
/// Subject `O=<tenant>, CN=<device>`; one name, the URI of [`Realm::uri_of`]. `status`, if given,
/// is where outsiders find its list and the OCSP responder.
///
/// # Errors
/// [`ProfileError`].
pub fn ldevid(
    realm: &Realm,
    device: &DeviceId,
    status: Option<&StatusPoint>,
    issuer: &Issuer,
    terms: &Terms<'_>,
) -> Result<Unsigned, ProfileError> {
    let uri = uri(&realm.uri_of(&Principal::Device(device.clone())))?;
    let name = device.as_str();
    leaf(Kind::Ldevid, realm, name, vec![uri], status, issuer, terms)
}

/// The certificate of a back-end program, like an LDevID but for its URI.
///
/// # Errors
/// [`ProfileError`].
pub fn service(
    realm: &Realm,
    service: &ServiceId,
    status: Option<&StatusPoint>,
    issuer: &Issuer,
    terms: &Terms<'_>,
) -> Result<Unsigned, ProfileError> {
    let uri = uri(&realm.uri_of(&Principal::Service(service.clone())))?;
    let name = service.as_str();
    leaf(Kind::Service, realm, name, vec![uri], status, issuer, terms)
}

/// Whoever answers for `issuer` at the OCSP responder (RFC 6960 section 4.2.2.2): a key that can
/// say whether a certificate stands, and can make none. Keep it short-lived.
///
/// # Errors
/// [`ProfileError`].
pub fn ocsp_responder(
    realm: &Realm,
    issuer: &Issuer,
    terms: &Terms<'_>,
) -> Result<Unsigned, ProfileError> {
    let (kind, name) = (Kind::OcspResponder, "OCSP responder");
    leaf(kind, realm, name, Vec::new(), None, issuer, terms)
}

/// A person's client certificate, like a service's but for its URI. Its life is short and its key
/// the person's own.
///
/// # Errors
/// [`ProfileError`].
pub fn operator(
    realm: &Realm,
    operator: &OperatorId,
    status: Option<&StatusPoint>,
    issuer: &Issuer,
    terms: &Terms<'_>,
) -> Result<Unsigned, ProfileError> {
    let uri = uri(&format!(
        "spiffe://{}/{}/operator/{operator}",
        realm.trust_domain(),
        realm.tenant()
    ))?;
    let name = operator.as_str();
    leaf(
        Kind::Operator,
        realm,
        name,
        vec![uri],
        status,
        issuer,
        terms,
    )
}

/// A root as another root certifies it, so that whoever believes the one believes the other (RFC
/// 4210 section 4.4). `terms.public_key` is not looked at.
///
/// # Errors
/// [`ProfileError`]; [`ProfileError::NotAnIssuer`] if `root` is not a root.
pub fn link(root: &[u8], issuer: &Issuer, terms: &Terms<'_>) -> Result<Unsigned, ProfileError> {
    let linked = Issuer::from_certificate(root)?;
    let certificate = certificate::read(root).map_err(|_| ProfileError::NotAnIssuer)?;
    let tbs = certificate.tbs_certificate();
    if tbs.subject() != tbs.issuer() || linked.id == issuer.id {
        return Err(ProfileError::NotAnIssuer);
    }
    let key = tbs.subject_public_key_info().clone();
    let contents = Contents {
        kind: Kind::Link,
        subject: linked.name,
        path_length: Some(1),
        limits: None,
        names: Vec::new(),
        status: None,
    };
    let window = (
        linked.not_before.max(issuer.not_before),
        linked.not_after.min(issuer.not_after),
    );
    finish(contents, issuer, key, terms, window)
}

/// A factory's CA, signed by its own key, without end. For a manufacturer's line and for
/// simulated ones; never a CA of this plane.
///
/// # Errors
/// [`ProfileError`]. `terms.lifetime` is not looked at.
pub fn manufacturer_ca(
    manufacturer: &ManufacturerId,
    terms: &Terms<'_>,
) -> Result<Unsigned, ProfileError> {
    self_signed(
        manufacturer.as_str(),
        "Factory CA",
        Some(0),
        terms,
        Kind::ManufacturerCa,
        true,
    )
}

/// A factory identity (IEEE 802.1AR IDevID): subject serialNumber, digitalSignature, no extended
/// key usage, no end.
///
/// # Errors
/// [`ProfileError`]. `terms.lifetime` is not looked at.
pub fn idevid(
    manufacturer: &ManufacturerId,
    serial: &SerialNumber,
    issuer: &Issuer,
    terms: &Terms<'_>,
) -> Result<Unsigned, ProfileError> {
    let key = read_key(terms.public_key)?;
    let subject = name(&[
        (rfc4519::ORGANIZATION_NAME, manufacturer.as_str()),
        (rfc4519::SERIAL_NUMBER, serial.as_str()),
    ])?;
    let contents = Contents {
        kind: Kind::Idevid,
        subject,
        path_length: None,
        limits: None,
        names: Vec::new(),
        status: None,
    };
    let not_before = terms.now.minus(BACKDATED).max(issuer.not_before);
    finish(contents, issuer, key, terms, (not_before, NO_END))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Root,
    Link,
    /// Of every use.
    Issuing,
    IssuingToClients,
    IssuingToServers,
    Server,
    Ldevid,
    Service,
    Operator,
    ManufacturerCa,
    Idevid,
    OcspResponder,
}

/// What a kind of certificate says beyond [`Terms`].
struct Contents<'a> {
    kind: Kind,
    subject: Name,
    /// `Some` makes it a CA.
    path_length: Option<u8>,
    limits: Option<NameConstraints>,
    names: Vec<GeneralName>,
    status: Option<&'a StatusPoint>,
}

/// TBSCertificate, version 3 (RFC 5280 section 4.1). Our own, as x509-cert's can only be made by
/// a builder that wants a signer.
#[derive(Sequence)]
struct TbsCertificate {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: Version,
    serial_number: CertificateSerial,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

fn self_signed(
    organisation: &str,
    role: &str,
    path_length: Option<u8>,
    terms: &Terms<'_>,
    kind: Kind,
    endless: bool,
) -> Result<Unsigned, ProfileError> {
    let key = read_key(terms.public_key)?;
    let subject = ca_name(organisation, None, role, &key)?;
    let issuer = Issuer {
        id: certificate::name_digest(&subject)
            .map_err(|_| ProfileError::Internal { what: "CA name" })?,
        name: subject.clone(),
        key_identifier: key_identifier(&key),
        signing_key: key_identifier(&key),
        limits: NameLimits::Unlimited,
        not_before: terms.now.minus(BACKDATED),
        not_after: NO_END,
    };
    let window = if endless {
        (issuer.not_before, NO_END)
    } else {
        capped(terms, &issuer, CA_LIFETIME_MAX)?
    };
    let contents = Contents {
        kind,
        subject,
        path_length,
        limits: None,
        names: Vec::new(),
        status: None,
    };
    finish(contents, &issuer, key, terms, window)
}

fn leaf(
    kind: Kind,
    realm: &Realm,
    common_name: &str,
    names: Vec<GeneralName>,
    status: Option<&StatusPoint>,
    issuer: &Issuer,
    terms: &Terms<'_>,
) -> Result<Unsigned, ProfileError> {
    let key = read_key(terms.public_key)?;
    let subject = name(&[
        (rfc4519::ORGANIZATION_NAME, realm.tenant().as_str()),
        (rfc4519::COMMON_NAME, common_name),
    ])?;
    let contents = Contents {
        kind,
        subject,
        path_length: None,
        limits: None,
        names,
        status,
    };
    finish(
        contents,
        issuer,
        key,
        terms,
        capped(terms, issuer, LEAF_LIFETIME_MAX)?,
    )
}

/// From when until when: begins a little early, ends no later than its issuer.
fn capped(
    terms: &Terms<'_>,
    issuer: &Issuer,
    lifetime_max: Duration,
) -> Result<(Timestamp, Timestamp), ProfileError> {
    if issuer.not_after <= terms.now {
        return Err(ProfileError::IssuerEnded {
            not_after: issuer.not_after,
        });
    }
    let not_before = terms.now.minus(BACKDATED).max(issuer.not_before);
    let not_after = terms
        .now
        .plus(terms.lifetime)
        .min(not_before.plus(lifetime_max))
        .min(issuer.not_after);
    Ok((not_before, not_after))
}

fn finish(
    contents: Contents<'_>,
    issuer: &Issuer,
    key: SubjectPublicKeyInfoOwned,
    terms: &Terms<'_>,
    (not_before, not_after): (Timestamp, Timestamp),
) -> Result<Unsigned, ProfileError> {
    let serial = serial(terms.now, terms.serial_random);
    let kind = contents.kind;
    let certificate = CertificateId::new(issuer.id, &serial).ok_or(ProfileError::Internal {
        what: "serial number",
    })?;
    let extensions = extensions(&contents, issuer, &key, &certificate)?;
    let tbs = TbsCertificate {
        version: Version::V3,
        serial_number: CertificateSerial::new(&serial).map_err(internal("serial number"))?,
        signature: ecdsa_with_sha256(),
        issuer: issuer.name.clone(),
        validity: Validity::new(time(not_before)?, time(not_after)?),
        subject: contents.subject,
        subject_public_key_info: key,
        extensions,
    };
    let tbs = tbs.to_der().map_err(internal("certificate"))?;
    lint::lint(kind, &tbs, issuer)?;
    Ok(Unsigned {
        tbs,
        certificate,
        not_before: Timestamp::from_seconds(not_before.as_seconds()),
        not_after: Timestamp::from_seconds(not_after.as_seconds()),
    })
}

fn extensions(
    contents: &Contents<'_>,
    issuer: &Issuer,
    key: &SubjectPublicKeyInfoOwned,
    certificate: &CertificateId,
) -> Result<Vec<Extension>, ProfileError> {
    let subject = &contents.subject;
    let is_ca = contents.path_length.is_some();
    let constraints = BasicConstraints {
        ca: is_ca,
        path_len_constraint: contents.path_length,
    };
    let usage = KeyUsage(if is_ca {
        KeyUsages::KeyCertSign | KeyUsages::CRLSign
    } else {
        KeyUsages::DigitalSignature.into()
    });
    let authority = AuthorityKeyIdentifier {
        key_identifier: Some(issuer.key_identifier()?),
        ..AuthorityKeyIdentifier::default()
    };
    let subject_key = SubjectKeyIdentifier(
        OctetString::new(key_identifier(key)).map_err(internal("key identifier"))?,
    );
    let mut list = vec![
        extension(subject, (true, &constraints))?,
        extension(subject, &usage)?,
    ];
    if let Some(limits) = &contents.limits {
        // Small stacks refuse a whole certificate over a critical extension that they do not know,
        // and the only chains they read are servers'.
        let critical = contents.kind != Kind::IssuingToServers;
        list.push(extension(subject, (critical, limits))?);
    }
    let purpose = match contents.kind {
        Kind::Server => Some(ID_KP_SERVER_AUTH),
        Kind::Ldevid | Kind::Service | Kind::Operator => Some(ID_KP_CLIENT_AUTH),
        Kind::OcspResponder => Some(ID_KP_OCSP_SIGNING),
        Kind::Root
        | Kind::Link
        | Kind::Issuing
        | Kind::IssuingToClients
        | Kind::IssuingToServers
        | Kind::ManufacturerCa
        | Kind::Idevid => None,
    };
    if let Some(purpose) = purpose {
        list.push(extension(
            subject,
            (false, &ExtendedKeyUsage(vec![purpose])),
        )?);
    }
    if !contents.names.is_empty() {
        list.push(extension(
            subject,
            (false, &SubjectAltName(contents.names.clone())),
        )?);
    }
    list.push(extension(subject, (false, &subject_key))?);
    list.push(extension(subject, (false, &authority))?);
    if contents.kind == Kind::OcspResponder {
        // RFC 6960 section 4.2.2.2.1: whoever asks us need not ask whether we may answer.
        let null = OctetString::new([5, 0]).map_err(internal("ocsp-nocheck"))?;
        list.push(Extension {
            extn_id: ID_PKIX_OCSP_NOCHECK,
            critical: false,
            extn_value: null,
        });
    }
    if let Some(status) = contents.status {
        let responder = AccessDescription {
            access_method: ID_AD_OCSP,
            access_location: uri(&status.ocsp_url())?,
        };
        list.push(extension(
            subject,
            (false, &AuthorityInfoAccessSyntax(vec![responder])),
        )?);
        let url = status.crl_url_of(certificate);
        let point = DistributionPoint {
            distribution_point: Some(DistributionPointName::FullName(vec![uri(&url)?])),
            reasons: None,
            crl_issuer: None,
        };
        list.push(extension(
            subject,
            (false, &CrlDistributionPoints(vec![point])),
        )?);
    }
    Ok(list)
}
