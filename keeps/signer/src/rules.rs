//! What each purpose may sign, read from the bytes themselves.
//!
//! The room that builds certificates has a lint of its own; this one is written apart from it on
//! purpose, so that one mistake does not pass both.

mod ocsp;

use crate::Purpose;
use crate::checkpoint::HighMark;
use crate::keys::{CertificateKey, OpenIssuing};
use der::{Decode, Encode};
use model::{CertificateUses, DeviceId, OperatorId, ServiceId, TenantId};
use std::sync::Arc;
use std::time::Duration;
use x509_cert::TbsCertificate;
use x509_cert::certificate::{Rfc5280, Version};
use x509_cert::crl::TbsCertList;
use x509_cert::der::flagset::FlagSet;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::dp::IssuingDistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
    NameConstraints, SubjectAltName,
};
use x509_cert::request::CertReqInfo;
use x509_cert::spki::{AlgorithmIdentifierOwned, ObjectIdentifier};

/// The largest certificate looked at, in bytes of DER.
const CERTIFICATE_BYTES_MAX: usize = 8192;
/// The largest CRL looked at: some 600,000 entries.
const CRL_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A CA stands below a root, and a link certificate may stand between (RFC 4210 section 4.4).
const ROOT_PATH_LENGTH: u8 = 2;
const LINK_PATH_LENGTH: u8 = 1;
const CA_LIFETIME_MAX: Duration = Duration::from_secs(31 * 366 * 86_400);

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const ECDSA_WITH_SHA256: ObjectIdentifier = oid("1.2.840.10045.4.3.2");
const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
const SUBJECT_ALT_NAME: ObjectIdentifier = oid("2.5.29.17");
const BASIC_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.19");
const CRL_NUMBER: ObjectIdentifier = oid("2.5.29.20");
const NAME_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.30");
const ISSUING_DISTRIBUTION_POINT: ObjectIdentifier = oid("2.5.29.28");
const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = oid("2.5.29.31");
const AUTHORITY_INFO_ACCESS: ObjectIdentifier = oid("1.3.6.1.5.5.7.1.1");
const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.35");
const EXTENDED_KEY_USAGE: ObjectIdentifier = oid("2.5.29.37");
const SERVER_AUTH: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.2");

/// What this plane's keys may vouch for, given when they are opened.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Of the URIs in certificates: `spiffe://<trust_domain>/<tenant>/…`.
    pub trust_domain: String,
    pub tenant: TenantId,
    /// The longest life of a leaf certificate, its back-dating included.
    pub leaf_lifetime_max: Duration,
    /// First line of every checkpoint.
    pub log_origin: String,
    /// The last checkpoint known to have been signed.
    pub checkpoint: Option<HighMark>,
}

/// The keys of this signer, as far as rules look at them.
pub(crate) struct Keys<'a> {
    pub root: Option<&'a CertificateKey>,
    pub issuing: &'a [Arc<OpenIssuing>],
    pub log: &'a [u8],
    pub server: &'a [u8],
    pub ocsp: &'a CertificateKey,
}

impl<'a> Keys<'a> {
    /// The issuing CA with this key identifier.
    fn issuing(&self, identifier: &[u8]) -> Result<&'a OpenIssuing, &'static str> {
        (self.issuing.iter())
            .find(|one| one.key.is_named(identifier))
            .map(Arc::as_ref)
            .ok_or(NOT_OURS)
    }

    fn root(&self) -> Result<&'a CertificateKey, &'static str> {
        self.root.ok_or("the root's key is not on this machine")
    }

    fn holds(&self, public: &[u8]) -> bool {
        self.root.is_some_and(|root| root.public == public)
            || self.issuing.iter().any(|one| one.key.public == public)
            || [self.log, self.server, &self.ocsp.public].contains(&public)
    }
}

const NOT_OURS: &str = "the authorityKeyIdentifier is that of the key that signs";

impl Rules {
    /// The key that signs these bytes for this purpose.
    pub(crate) fn check<'a>(
        &self,
        purpose: Purpose,
        keys: &Keys<'a>,
        to_be_signed: &[u8],
    ) -> Result<&'a CertificateKey, &'static str> {
        match purpose {
            Purpose::RootCertificate => check_root(to_be_signed, keys.root()?),
            Purpose::IssuingCertificate => self.check_issuing(to_be_signed, keys),
            Purpose::AuthorityRequest => self.check_request(to_be_signed, keys),
            Purpose::ServerCertificate
            | Purpose::DeviceCertificate
            | Purpose::ServiceCertificate
            | Purpose::OperatorCertificate => self.check_leaf(purpose, keys, to_be_signed),
            Purpose::Crl => check_crl(to_be_signed, keys),
            Purpose::OcspCertificate => ocsp::check_responder(to_be_signed, keys),
            Purpose::OcspResponse => ocsp::check_response(to_be_signed, keys.ocsp),
            Purpose::LinkCertificate => Err("roots are linked in a ceremony only"),
            // Has its own path, as it needs the high mark.
            Purpose::Checkpoint => Err("a checkpoint is not a certificate"),
        }
    }

    fn check_leaf<'a>(
        &self,
        purpose: Purpose,
        keys: &Keys<'a>,
        to_be_signed: &[u8],
    ) -> Result<&'a CertificateKey, &'static str> {
        let tbs = read_certificate(to_be_signed)?;
        let signing = keys.issuing(&authority_of(tbs.extensions())?)?;
        hold(
            (purpose.certificate_use()).is_some_and(|one| signing.about.uses.contains(one)),
            "a CA signs the uses it was made for and no other",
        )?;
        hold(
            tbs.subject() != tbs.issuer(),
            "a leaf is not its own issuer",
        )?;
        hold(
            life(&tbs)? <= self.leaf_lifetime_max,
            "a leaf lives no longer than configured",
        )?;
        let constraints: BasicConstraints = extension(&tbs)?;
        hold(
            !constraints.ca && constraints.path_len_constraint.is_none(),
            "a leaf is no CA",
        )?;
        let KeyUsage(usage) = extension(&tbs)?;
        hold(
            usage == FlagSet::from(KeyUsages::DigitalSignature),
            "a leaf's key makes digital signatures and nothing else",
        )?;
        let ExtendedKeyUsage(purposes) = extension(&tbs)?;
        let SubjectAltName(names) = extension(&tbs)?;
        let key = key_of(&tbs)?;
        if purpose == Purpose::ServerCertificate {
            hold(
                purposes == [SERVER_AUTH],
                "a server's purpose is serverAuth",
            )?;
            hold(
                key == keys.server,
                "a server certificate is for our server key",
            )?;
            hold(
                !names.is_empty() && names.iter().all(is_address),
                "a server is named by DNS names and IP addresses",
            )?;
            hold(
                has_only(&tbs, &LEAF_EXTENSIONS),
                "a server certificate has no other extensions",
            )?;
            return Ok(&signing.key);
        }
        hold(
            purposes == [CLIENT_AUTH],
            "a client's purpose is clientAuth",
        )?;
        hold(!keys.holds(&key), "a client's key is none of ours")?;
        let [GeneralName::UniformResourceIdentifier(uri)] = names.as_slice() else {
            return Err("a client has one name, a URI");
        };
        let name = uri
            .as_str()
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.strip_prefix(self.trust_domain.as_str()))
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.strip_prefix(self.tenant.as_str()))
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or("a client's URI is in our trust domain and tenant")?;
        let is_name = match purpose {
            Purpose::DeviceCertificate => {
                (name.strip_prefix("device/")).is_some_and(|name| DeviceId::new(name).is_ok())
            }
            Purpose::ServiceCertificate => {
                (name.strip_prefix("service/")).is_some_and(|name| ServiceId::new(name).is_ok())
            }
            _ => (name.strip_prefix("operator/")).is_some_and(|name| OperatorId::new(name).is_ok()),
        };
        hold(is_name, "a client's URI names one principal of its kind")?;
        let is_listed =
            has_only(&tbs, &LEAF_EXTENSIONS) || has_only(&tbs, &LEAF_EXTENSIONS_WITH_STATUS);
        hold(is_listed, "a client certificate has no other extensions")?;
        Ok(&signing.key)
    }

    /// An issuing CA below the root that is here: for a key that is here too.
    fn check_issuing<'a>(
        &self,
        to_be_signed: &[u8],
        keys: &Keys<'a>,
    ) -> Result<&'a CertificateKey, &'static str> {
        let root = keys.root()?;
        let tbs = read_certificate(to_be_signed)?;
        hold(authority_of(tbs.extensions())? == root.identifier, NOT_OURS)?;
        let key = key_of(&tbs)?;
        let certified = (keys.issuing.iter())
            .find(|one| one.key.public == key)
            .ok_or("a CA certificate is for our own key")?;
        check_ca(&tbs, 0)?;
        self.check_limits(&tbs, certified.about.uses)?;
        Ok(root)
    }

    /// What a root may sign in a ceremony. Keys are not known there: a person has looked at whose
    /// they are.
    pub(crate) fn check_ceremony(
        &self,
        purpose: Purpose,
        root: &CertificateKey,
        to_be_signed: &[u8],
    ) -> Result<(), &'static str> {
        if purpose == Purpose::RootCertificate {
            return check_root(to_be_signed, root).map(drop);
        }
        if purpose == Purpose::Crl {
            return hold(issuer_of_crl(to_be_signed)? == root.identifier, NOT_OURS);
        }
        let tbs = read_certificate(to_be_signed)?;
        hold(authority_of(tbs.extensions())? == root.identifier, NOT_OURS)?;
        hold(
            key_of(&tbs)? != root.public,
            "a root certifies itself as a root only",
        )?;
        match purpose {
            Purpose::LinkCertificate => {
                check_ca(&tbs, LINK_PATH_LENGTH)?;
                hold(
                    has_only(&tbs, &CA_EXTENSIONS),
                    "a CA certificate has no other extensions",
                )
            }
            Purpose::IssuingCertificate => {
                check_ca(&tbs, 0)?;
                let client = CertificateUses::only(model::CertificateUse::Device);
                [CertificateUses::EVERY, client, CertificateUses::SERVER]
                    .into_iter()
                    .map(|uses| self.check_limits(&tbs, uses))
                    .find(Result::is_ok)
                    .unwrap_or(Err(
                        "an issuing CA is bound to names in one of the known forms",
                    ))
            }
            _ => Err("a root signs CA certificates and its list of revoked ones, and nothing else"),
        }
    }

    pub(crate) fn of_ceremony(trust_domain: &str, tenant: TenantId) -> Self {
        Self {
            trust_domain: trust_domain.to_owned(),
            tenant,
            leaf_lifetime_max: Duration::ZERO,
            log_origin: String::new(),
            checkpoint: None,
        }
    }

    /// A CA that serves every use is bound to nothing; one for clients to our trust domain, one
    /// for servers to listed names and addresses. Small stacks refuse the whole certificate over a
    /// critical extension they do not know, and they read server chains only: so a server CA's
    /// limits are not critical.
    fn check_limits(
        &self,
        tbs: &TbsCertificate,
        uses: CertificateUses,
    ) -> Result<(), &'static str> {
        if uses == CertificateUses::EVERY {
            return hold(
                has_only(tbs, &CA_EXTENSIONS),
                "a CA certificate has no other extensions",
            );
        }
        let is_server = uses == CertificateUses::SERVER;
        let extensions: Vec<_> = (CA_EXTENSIONS.into_iter())
            .chain([(NAME_CONSTRAINTS, !is_server)])
            .collect();
        hold(
            has_only(tbs, &extensions),
            "a CA of some uses has name constraints and no other extensions",
        )?;
        let limits: NameConstraints = extension(tbs)?;
        let permitted = limits.permitted_subtrees.unwrap_or_default();
        hold(
            limits.excluded_subtrees.is_none()
                && (permitted.iter())
                    .all(|subtree| subtree.minimum == 0 && subtree.maximum.is_none()),
            "name constraints permit whole subtrees and exclude none",
        )?;
        if is_server {
            return hold(
                !permitted.is_empty() && permitted.iter().all(|subtree| is_address(&subtree.base)),
                "a CA for servers is bound to DNS names and addresses",
            );
        }
        let bound = match permitted.as_slice() {
            [one] => match &one.base {
                GeneralName::UniformResourceIdentifier(host) => host.as_str() == self.trust_domain,
                _ => false,
            },
            _ => false,
        };
        hold(bound, "a CA for clients is bound to our trust domain")
    }

    /// A PKCS #10 request of one of our own issuing CAs, signed by the key it is for.
    fn check_request<'a>(
        &self,
        to_be_signed: &[u8],
        keys: &Keys<'a>,
    ) -> Result<&'a CertificateKey, &'static str> {
        hold(
            to_be_signed.len() <= CERTIFICATE_BYTES_MAX,
            "a request has 8 KiB at most",
        )?;
        let request = CertReqInfo::from_der(to_be_signed).map_err(|_| "a request is DER")?;
        let key = request
            .public_key
            .to_der()
            .map_err(|_| "a request has a readable key")?;
        (keys.issuing.iter())
            .find(|one| one.key.public == key)
            .map(|one| &one.key)
            .ok_or("a request is for a key of an issuing CA of ours")
    }
}

fn is_address(name: &GeneralName) -> bool {
    matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_))
}

/// Each with whether it is critical.
const CA_EXTENSIONS: [(ObjectIdentifier, bool); 4] = [
    (BASIC_CONSTRAINTS, true),
    (KEY_USAGE, true),
    (SUBJECT_KEY_IDENTIFIER, false),
    (AUTHORITY_KEY_IDENTIFIER, false),
];
const LEAF_EXTENSIONS: [(ObjectIdentifier, bool); 6] = [
    (BASIC_CONSTRAINTS, true),
    (KEY_USAGE, true),
    (EXTENDED_KEY_USAGE, false),
    (SUBJECT_ALT_NAME, false),
    (SUBJECT_KEY_IDENTIFIER, false),
    (AUTHORITY_KEY_IDENTIFIER, false),
];
const LEAF_EXTENSIONS_WITH_STATUS: [(ObjectIdentifier, bool); 8] = [
    (BASIC_CONSTRAINTS, true),
    (KEY_USAGE, true),
    (EXTENDED_KEY_USAGE, false),
    (SUBJECT_ALT_NAME, false),
    (SUBJECT_KEY_IDENTIFIER, false),
    (AUTHORITY_KEY_IDENTIFIER, false),
    (AUTHORITY_INFO_ACCESS, false),
    (CRL_DISTRIBUTION_POINTS, false),
];

fn check_root<'a>(
    to_be_signed: &[u8],
    root: &'a CertificateKey,
) -> Result<&'a CertificateKey, &'static str> {
    let tbs = read_certificate(to_be_signed)?;
    hold(authority_of(tbs.extensions())? == root.identifier, NOT_OURS)?;
    hold(
        key_of(&tbs)? == root.public,
        "a CA certificate is for our own key",
    )?;
    check_ca(&tbs, ROOT_PATH_LENGTH)?;
    hold(
        has_only(&tbs, &CA_EXTENSIONS),
        "a CA certificate has no other extensions",
    )?;
    Ok(root)
}

fn check_ca(tbs: &TbsCertificate, path_length: u8) -> Result<(), &'static str> {
    hold(
        (tbs.subject() == tbs.issuer()) == (path_length == ROOT_PATH_LENGTH),
        "a root, and only a root, is its own issuer",
    )?;
    hold(life(tbs)? <= CA_LIFETIME_MAX, "a CA lives 31 years at most")?;
    let constraints: BasicConstraints = extension(tbs)?;
    hold(
        constraints.ca && constraints.path_len_constraint == Some(path_length),
        "a CA's path length is 2 for a root, 1 for a link to one and 0 for an issuing CA",
    )?;
    let KeyUsage(usage) = extension(tbs)?;
    hold(
        usage == KeyUsages::KeyCertSign | KeyUsages::CRLSign,
        "a CA's key signs certificates and CRLs and nothing else",
    )
}

/// An issuing CA's list, or the root's of its issuing CAs.
fn check_crl<'a>(to_be_signed: &[u8], keys: &Keys<'a>) -> Result<&'a CertificateKey, &'static str> {
    let authority = issuer_of_crl(to_be_signed)?;
    match keys.root {
        Some(root) if root.identifier == authority => Ok(root),
        _ => Ok(&keys.issuing(&authority)?.key),
    }
}

/// The identifier of the key that is to sign a list.
fn issuer_of_crl(to_be_signed: &[u8]) -> Result<Vec<u8>, &'static str> {
    hold(
        to_be_signed.len() <= CRL_BYTES_MAX,
        "a CRL has 32 MiB at most",
    )?;
    let list = TbsCertList::<Rfc5280>::from_der(to_be_signed).map_err(|_| "a CRL is DER")?;
    hold(list.version == Version::V2, "a CRL is version 2")?;
    check_algorithm(&list.signature)?;
    let this_update = list.this_update.to_unix_duration();
    hold(
        list.next_update
            .is_some_and(|next| next.to_unix_duration() > this_update),
        "a CRL says when the next one comes",
    )?;
    hold(
        list.revoked_certificates
            .as_ref()
            .is_none_or(|revoked| !revoked.is_empty()),
        "a CRL without entries has no list",
    )?;
    let extensions = list.crl_extensions.unwrap_or_default();
    let (authority, number) = match extensions.as_slice() {
        [authority, number] => (authority, number),
        [authority, number, point] => {
            check_point(point)?;
            (authority, number)
        }
        _ => return Err("a CRL has an authorityKeyIdentifier and a cRLNumber"),
    };
    hold(
        number.extn_id == CRL_NUMBER && !number.critical && !authority.critical,
        "a CRL has an authorityKeyIdentifier and a cRLNumber",
    )?;
    authority_of(Some(&extensions))
}

/// A list that is one of several says so, critically, and of which addresses; it leaves out neither
/// reasons nor kinds of certificates.
fn check_point(extension: &Extension) -> Result<(), &'static str> {
    let rule = "a CRL's third extension is a critical issuing distribution point";
    hold(
        extension.extn_id == ISSUING_DISTRIBUTION_POINT && extension.critical,
        rule,
    )?;
    let point =
        IssuingDistributionPoint::from_der(extension.extn_value.as_bytes()).map_err(|_| rule)?;
    let is_whole = !point.only_contains_user_certs
        && !point.only_contains_ca_certs
        && !point.indirect_crl
        && !point.only_contains_attribute_certs
        && point.only_some_reasons.is_none();
    let has_addresses = match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => {
            let is_uri = |name| matches!(name, &GeneralName::UniformResourceIdentifier(_));
            !names.is_empty() && names.iter().all(is_uri)
        }
        _ => false,
    };
    hold(
        is_whole && has_addresses,
        "a distribution point names addresses and leaves nothing out",
    )
}

/// What holds for every certificate.
fn read_certificate(to_be_signed: &[u8]) -> Result<TbsCertificate, &'static str> {
    hold(
        to_be_signed.len() <= CERTIFICATE_BYTES_MAX,
        "a certificate has 8 KiB at most",
    )?;
    let tbs = TbsCertificate::from_der(to_be_signed).map_err(|_| "a certificate is DER")?;
    hold(tbs.version() == Version::V3, "a certificate is version 3")?;
    check_algorithm(tbs.signature())?;
    let serial = tbs.serial_number().as_bytes();
    hold(
        (8..=20).contains(&serial.len()),
        "a serial number has 8 to 20 bytes",
    )?;
    hold(
        tbs.issuer_unique_id().is_none() && tbs.subject_unique_id().is_none(),
        "a certificate has no unique identifiers",
    )?;
    hold(
        !tbs.subject().is_empty() && !tbs.issuer().is_empty(),
        "a certificate has a subject and an issuer",
    )?;
    Ok(tbs)
}

fn check_algorithm(algorithm: &AlgorithmIdentifierOwned) -> Result<(), &'static str> {
    hold(
        algorithm.oid == ECDSA_WITH_SHA256 && algorithm.parameters.is_none(),
        "the signature algorithm is ecdsa-with-SHA256",
    )
}

/// The identifier of the key that is to sign. The issuer is known by its key: a wrong issuer *name*
/// only makes a certificate that nobody believes.
fn authority_of(extensions: Option<&Vec<Extension>>) -> Result<Vec<u8>, &'static str> {
    let mut found =
        (extensions.into_iter().flatten()).filter(|one| one.extn_id == AUTHORITY_KEY_IDENTIFIER);
    let (Some(extension), None) = (found.next(), found.next()) else {
        return Err("one authorityKeyIdentifier names the key that signs");
    };
    let authority =
        AuthorityKeyIdentifier::from_der(extension.extn_value.as_bytes()).map_err(|_| NOT_OURS)?;
    hold(
        authority.authority_cert_issuer.is_none()
            && authority.authority_cert_serial_number.is_none(),
        NOT_OURS,
    )?;
    let identifier = authority.key_identifier.ok_or(NOT_OURS)?;
    Ok(identifier.as_bytes().to_vec())
}

/// In any order; each exactly once.
fn has_only(tbs: &TbsCertificate, wanted: &[(ObjectIdentifier, bool)]) -> bool {
    let found = tbs.extensions().map(Vec::as_slice).unwrap_or_default();
    found.len() == wanted.len()
        && wanted.iter().all(|(oid, critical)| {
            found
                .iter()
                .any(|one| one.extn_id == *oid && one.critical == *critical)
        })
}

fn extension<'a, T: Decode<'a> + x509_cert::der::oid::AssociatedOid>(
    tbs: &'a TbsCertificate,
) -> Result<T, &'static str> {
    match tbs.get_extension::<T>() {
        Ok(Some((_, value))) => Ok(value),
        _ => Err("a certificate has each extension of its kind once, readable"),
    }
}

fn key_of(tbs: &TbsCertificate) -> Result<Vec<u8>, &'static str> {
    tbs.subject_public_key_info()
        .to_der()
        .map_err(|_| "a certificate has a readable key")
}

fn life(tbs: &TbsCertificate) -> Result<Duration, &'static str> {
    let validity = tbs.validity();
    validity
        .not_after
        .to_unix_duration()
        .checked_sub(validity.not_before.to_unix_duration())
        .filter(|life| !life.is_zero())
        .ok_or("a certificate ends after it begins")
}

fn hold(is_so: bool, rule: &'static str) -> Result<(), &'static str> {
    if is_so { Ok(()) } else { Err(rule) }
}
