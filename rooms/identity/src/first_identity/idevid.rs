//! The factory certificate of IEEE 802.1AR: a manufacturer's CA vouches for a serial number.

use crate::certificate;
use crate::refusal::{PathRefusal, Refusal};
use const_oid::db::rfc4519;
use model::{Digest, ManufacturerId, SerialNumber};
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;

/// The serial number that `manufacturer` vouches for.
///
/// Only the subject's serialNumber counts (IEEE 802.1AR section 8.6). A subjectAltName, even one
/// in the form of our own URIs, is the manufacturer's talk and is not read.
///
/// # Errors
/// If the certificate is not fit to authenticate, names none or several serial numbers, or claims
/// an issuer of ours: certificates are known by issuer and serial number, so such a one could
/// have a certificate of ours revoked in its stead.
pub(crate) fn serial_number(
    certificate: &Certificate,
    manufacturer: &ManufacturerId,
    own_issuers: &[Digest],
) -> Result<SerialNumber, Refusal> {
    let tbs = certificate.tbs_certificate();
    if own_issuers.contains(&certificate::name_digest(tbs.issuer())?) {
        return Err(Refusal::ForgedIssuer {
            manufacturer: manufacturer.clone(),
        });
    }
    let may_sign =
        certificate::key_usage(certificate)?.is_none_or(|usage| usage.digital_signature());
    if !may_sign {
        return Err(PathRefusal::WrongPurpose.into());
    }
    let mut serials = tbs
        .subject()
        .iter()
        .filter(|attribute| attribute.oid == rfc4519::SERIAL_NUMBER);
    let (Some(attribute), None) = (serials.next(), serials.next()) else {
        return Err(no_serial(manufacturer));
    };
    text(attribute)
        .and_then(|text| SerialNumber::new(text).ok())
        .ok_or_else(|| no_serial(manufacturer))
}

/// PrintableString by X.520; UTF8String is what some factories write.
fn text(attribute: &AttributeTypeAndValue) -> Option<&str> {
    use der::Tagged;
    match attribute.value.tag() {
        der::Tag::PrintableString | der::Tag::Utf8String => {
            std::str::from_utf8(attribute.value.value()).ok()
        }
        _ => None,
    }
}

fn no_serial(manufacturer: &ManufacturerId) -> Refusal {
    Refusal::NoSerialNumber {
        manufacturer: manufacturer.clone(),
    }
}
