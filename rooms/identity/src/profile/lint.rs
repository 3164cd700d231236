//! The last look at a certificate before it may be signed: the finished bytes are read back by
//! x509-cert's own reader and held against a table that shares nothing with the code that wrote
//! them.

use super::{CA_LIFETIME_MAX, Issuer, Kind, LEAF_LIFETIME_MAX, NO_END, ProfileError};
use crate::certificate::{sha256, timestamp};
use const_oid::db::{rfc5280, rfc5912, rfc6960};
use der::{Decode, Encode};
use model::Digest;
use spki::ObjectIdentifier;
use x509_cert::TbsCertificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
    NameConstraints, SubjectAltName, SubjectKeyIdentifier,
};

/// # Errors
/// [`ProfileError::Lint`] with the rule that is broken.
pub(super) fn lint(kind: Kind, tbs_der: &[u8], issuer: &Issuer) -> Result<(), ProfileError> {
    check(kind, tbs_der, issuer).map_err(|rule| ProfileError::Lint { rule })
}

fn check(kind: Kind, tbs_der: &[u8], issuer: &Issuer) -> Result<(), &'static str> {
    let tbs = TbsCertificate::from_der(tbs_der).map_err(|_| "readable DER")?;
    let again = tbs.to_der().map_err(|_| "readable DER")?;
    hold(again == tbs_der, "one encoding only")?;
    hold(
        tbs.version() == x509_cert::certificate::Version::V3,
        "version 3",
    )?;
    let serial = tbs.serial_number().as_bytes();
    hold(
        serial.len() == 16
            && serial
                .first()
                .is_some_and(|first| (0x40..0x80).contains(first)),
        "serial number of 16 bytes, positive",
    )?;
    hold(
        tbs.signature().oid == rfc5912::ECDSA_WITH_SHA_256 && tbs.signature().parameters.is_none(),
        "ecdsa-with-SHA256 without parameters",
    )?;
    hold(*tbs.issuer() == issuer.name, "issuer's name")?;
    let is_self_signed = matches!(kind, Kind::Root | Kind::ManufacturerCa);
    hold(
        (tbs.subject() == tbs.issuer()) == is_self_signed,
        "subject differs from issuer but in a root",
    )?;
    hold(!tbs.subject().is_empty(), "a subject")?;
    hold(
        tbs.issuer_unique_id().is_none() && tbs.subject_unique_id().is_none(),
        "no unique identifiers",
    )?;
    check_validity(kind, &tbs, issuer)?;
    check_extensions(kind, &tbs, issuer)?;
    check_keys(&tbs, issuer)
}

fn check_validity(kind: Kind, tbs: &TbsCertificate, issuer: &Issuer) -> Result<(), &'static str> {
    let not_before = timestamp(&tbs.validity().not_before);
    let not_after = timestamp(&tbs.validity().not_after);
    hold(not_before < not_after, "begins before it ends")?;
    let life = not_after.since(not_before);
    match kind {
        Kind::Idevid | Kind::ManufacturerCa => hold(not_after == NO_END, "no end"),
        Kind::Root
        | Kind::Link
        | Kind::Issuing
        | Kind::IssuingToClients
        | Kind::IssuingToServers => hold(life <= CA_LIFETIME_MAX, "a CA's longest life"),
        Kind::Server | Kind::Ldevid | Kind::Service | Kind::Operator | Kind::OcspResponder => {
            hold(life <= LEAF_LIFETIME_MAX, "a leaf's longest life")
        }
    }?;
    hold(
        not_after <= issuer.not_after,
        "ends no later than its issuer",
    )?;
    hold(
        // Certificates count whole seconds; a root made just now is its own issuer.
        not_before.as_seconds() >= issuer.not_before.as_seconds(),
        "begins no earlier than its issuer",
    )
}

/// Which extensions, which of them critical, and nothing else.
fn check_extensions(kind: Kind, tbs: &TbsCertificate, issuer: &Issuer) -> Result<(), &'static str> {
    let is_limited = matches!(kind, Kind::IssuingToClients | Kind::IssuingToServers);
    let is_ca = is_limited
        || matches!(
            kind,
            Kind::Root | Kind::Link | Kind::Issuing | Kind::ManufacturerCa
        );
    let is_client = matches!(kind, Kind::Ldevid | Kind::Service | Kind::Operator);
    let has_name = is_client || kind == Kind::Server;
    let has_purpose = has_name || kind == Kind::OcspResponder;
    let extensions = tbs.extensions().ok_or("extensions")?;
    let mut seen: Vec<ObjectIdentifier> = Vec::new();
    for extension in extensions {
        let oid = extension.extn_id;
        hold(!seen.contains(&oid), "no extension twice")?;
        seen.push(oid);
        let critical = match oid {
            rfc5280::ID_CE_BASIC_CONSTRAINTS | rfc5280::ID_CE_KEY_USAGE => true,
            rfc5280::ID_CE_SUBJECT_KEY_IDENTIFIER | rfc5280::ID_CE_AUTHORITY_KEY_IDENTIFIER => {
                false
            }
            rfc5280::ID_CE_EXT_KEY_USAGE if has_purpose => false,
            rfc5280::ID_CE_SUBJECT_ALT_NAME if has_name => false,
            rfc6960::ID_PKIX_OCSP_NOCHECK if kind == Kind::OcspResponder => false,
            rfc5280::ID_CE_CRL_DISTRIBUTION_POINTS | rfc5280::ID_PE_AUTHORITY_INFO_ACCESS
                if is_client =>
            {
                false
            }
            rfc5280::ID_CE_NAME_CONSTRAINTS if is_limited => kind == Kind::IssuingToClients,
            _ => return Err("no unlisted extension"),
        };
        hold(extension.critical == critical, "criticality of extensions")?;
    }

    let constraints: BasicConstraints = extension(tbs)?;
    let path_length = match kind {
        Kind::Root => Some(2),
        Kind::Link => Some(1),
        Kind::Issuing | Kind::IssuingToClients | Kind::IssuingToServers | Kind::ManufacturerCa => {
            Some(0)
        }
        Kind::Server
        | Kind::Ldevid
        | Kind::Service
        | Kind::Operator
        | Kind::Idevid
        | Kind::OcspResponder => None,
    };
    hold(
        constraints.ca == is_ca && constraints.path_len_constraint == path_length,
        "basicConstraints",
    )?;
    let KeyUsage(usage) = extension(tbs)?;
    let wanted = if is_ca {
        KeyUsages::KeyCertSign | KeyUsages::CRLSign
    } else {
        KeyUsages::DigitalSignature.into()
    };
    hold(usage == wanted, "keyUsage")?;
    hold(
        tbs.get_extension::<NameConstraints>()
            .is_ok_and(|found| found.is_some() == is_limited),
        "nameConstraints",
    )?;
    if has_purpose {
        check_purpose(kind, tbs, issuer)?;
    }
    Ok(())
}

fn check_purpose(kind: Kind, tbs: &TbsCertificate, issuer: &Issuer) -> Result<(), &'static str> {
    let ExtendedKeyUsage(purposes) = extension(tbs)?;
    let wanted = match kind {
        Kind::Server => rfc5280::ID_KP_SERVER_AUTH,
        Kind::OcspResponder => rfc5280::ID_KP_OCSP_SIGNING,
        _ => rfc5280::ID_KP_CLIENT_AUTH,
    };
    hold(purposes == [wanted], "extendedKeyUsage")?;
    if kind == Kind::OcspResponder {
        let unchecked = (tbs.extensions().into_iter().flatten())
            .any(|one| one.extn_id == rfc6960::ID_PKIX_OCSP_NOCHECK);
        return hold(unchecked, "ocsp-nocheck");
    }
    let SubjectAltName(names) = extension(tbs)?;
    hold(
        names.iter().all(|name| issuer.limits.permit(name)),
        "names within the issuer's name constraints",
    )?;
    match (kind, names.as_slice()) {
        (Kind::Server, [_, ..]) => hold(
            names
                .iter()
                .all(|name| matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_))),
            "a server's names",
        ),
        (Kind::Ldevid, [GeneralName::UniformResourceIdentifier(uri)]) => {
            hold(uri.as_str().contains("/device/"), "a device's URI")
        }
        (Kind::Service, [GeneralName::UniformResourceIdentifier(uri)]) => {
            hold(uri.as_str().contains("/service/"), "a service's URI")
        }
        (Kind::Operator, [GeneralName::UniformResourceIdentifier(uri)]) => {
            hold(uri.as_str().contains("/operator/"), "an operator's URI")
        }
        _ => Err("exactly one URI"),
    }
}

fn check_keys(tbs: &TbsCertificate, issuer: &Issuer) -> Result<(), &'static str> {
    let Digest(digest) = sha256(tbs.subject_public_key_info().subject_public_key.raw_bytes());
    let SubjectKeyIdentifier(own) = extension(tbs)?;
    hold(
        digest.get(..20) == Some(own.as_bytes()),
        "subjectKeyIdentifier by RFC 7093",
    )?;
    let authority: AuthorityKeyIdentifier = extension(tbs)?;
    hold(
        authority.key_identifier.as_ref().map(|id| id.as_bytes())
            == Some(issuer.key_identifier.as_slice())
            && authority.authority_cert_issuer.is_none()
            && authority.authority_cert_serial_number.is_none(),
        "authorityKeyIdentifier of the issuer",
    )
}

fn extension<'a, T: Decode<'a> + const_oid::AssociatedOid>(
    tbs: &'a TbsCertificate,
) -> Result<T, &'static str> {
    match tbs.get_extension::<T>() {
        Ok(Some((_, value))) => Ok(value),
        _ => Err("every extension of its kind, readable"),
    }
}

fn hold(is_so: bool, rule: &'static str) -> Result<(), &'static str> {
    if is_so { Ok(()) } else { Err(rule) }
}
