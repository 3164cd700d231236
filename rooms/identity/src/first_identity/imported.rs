//! A certificate that another authority gave a device before it came to us. It names the device by
//! a rule that the import states, since no two fleets put the name into the same field.

use crate::certificate;
use crate::refusal::{PathRefusal, Refusal};
use const_oid::ObjectIdentifier;
use const_oid::db::rfc4519;
use model::{Digest, ManufacturerId, SerialNumber};
use std::fmt;
use std::str::FromStr;
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::pkix::name::GeneralName;

/// The longest rule, in bytes.
pub const NAMING_BYTES_MAX: usize = 256;

/// Which field of a certificate names its device, and what around the name is to be left out:
/// `cn`, `serial-number`, `san-dns:*.devices.example`, `san-uri:urn:dev:*`, `fingerprint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    field: Field,
    prefix: String,
    suffix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    CommonName,
    SerialNumber,
    SanDns,
    SanUri,
    SanEmail,
    /// SHA-256 of the certificate, 64 hex digits: for fleets whose certificates name nobody.
    Fingerprint,
}

const FIELDS: [(&str, Field); 6] = [
    ("cn", Field::CommonName),
    ("serial-number", Field::SerialNumber),
    ("san-dns", Field::SanDns),
    ("san-uri", Field::SanUri),
    ("san-email", Field::SanEmail),
    ("fingerprint", Field::Fingerprint),
];

/// Why a text is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what}; operator: write cn, serial-number, san-dns, san-uri, san-email or fingerprint, and \
     behind a colon what stands around the name, with one * for the name: san-dns:*.example.com"
)]
pub struct InvalidNaming {
    what: &'static str,
}

/// Why a certificate has no name by the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NamingFault {
    #[error("the field is absent or does not fit the rule")]
    Absent,
    #[error("the field stands more than once and fits the rule each time")]
    Several,
    #[error("the name is empty, longer than 64 characters or not printable ASCII")]
    NotAName,
}

impl Naming {
    /// The name by which the list knows the device.
    ///
    /// # Errors
    /// None or several fields fit, or what they say is no name.
    pub fn name(
        &self,
        certificate: &Certificate,
        fingerprint: Digest,
    ) -> Result<SerialNumber, NamingFault> {
        let fields = match self.field {
            Field::CommonName => subject_texts(certificate, rfc4519::CN),
            Field::SerialNumber => subject_texts(certificate, rfc4519::SERIAL_NUMBER),
            Field::Fingerprint => vec![fingerprint.to_string()],
            Field::SanDns | Field::SanUri | Field::SanEmail => self.alternative_names(certificate),
        };
        let mut fitting = fields.iter().filter_map(|text| {
            text.strip_prefix(self.prefix.as_str())?
                .strip_suffix(self.suffix.as_str())
        });
        let name = match (fitting.next(), fitting.next()) {
            (None, _) => return Err(NamingFault::Absent),
            (Some(_), Some(_)) => return Err(NamingFault::Several),
            (Some(name), None) => name,
        };
        SerialNumber::new(name).map_err(|_| NamingFault::NotAName)
    }

    fn alternative_names(&self, certificate: &Certificate) -> Vec<String> {
        let Ok(Some(names)) = certificate::subject_alt_name(certificate) else {
            return Vec::new();
        };
        let text = |name: &GeneralName| match (self.field, name) {
            (Field::SanDns, GeneralName::DnsName(text))
            | (Field::SanEmail, GeneralName::Rfc822Name(text)) => Some(text.as_str().to_owned()),
            (Field::SanUri, GeneralName::UniformResourceIdentifier(text)) => {
                Some(text.as_str().to_owned())
            }
            _ => None,
        };
        names.0.iter().filter_map(text).collect()
    }
}

impl FromStr for Naming {
    type Err = InvalidNaming;

    fn from_str(text: &str) -> Result<Self, InvalidNaming> {
        let invalid = |what| InvalidNaming { what };
        if text.len() > NAMING_BYTES_MAX {
            return Err(invalid("the rule is longer than 256 bytes"));
        }
        let (field, pattern) = text.split_once(':').unwrap_or((text, "*"));
        let field = (FIELDS.iter().find(|(name, _)| *name == field))
            .map(|(_, field)| *field)
            .ok_or_else(|| invalid("the rule begins with no field that is known"))?;
        let (prefix, suffix) = pattern
            .split_once('*')
            .filter(|(_, suffix)| !suffix.contains('*'))
            .ok_or_else(|| invalid("behind the colon stands not exactly one *"))?;
        let plain = |text: &str| text.bytes().all(|b| (0x20..0x7f).contains(&b));
        if !plain(prefix) || !plain(suffix) {
            return Err(invalid(
                "the rule holds a character that is not printable ASCII",
            ));
        }
        Ok(Self {
            field,
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
        })
    }
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            (FIELDS.iter().find(|(_, field)| *field == self.field)).map_or("", |(name, _)| name);
        f.write_str(name)?;
        if self.prefix.is_empty() && self.suffix.is_empty() {
            return Ok(());
        }
        write!(f, ":{}*{}", self.prefix, self.suffix)
    }
}

/// Checks that a certificate may speak for a device at all.
///
/// # Errors
/// It claims an issuer of ours (certificates are known by issuer and serial number, so such a one
/// could have a certificate of ours revoked in its stead), or is not fit to authenticate.
pub(crate) fn check(
    certificate: &Certificate,
    fleet: &ManufacturerId,
    own_issuers: &[Digest],
) -> Result<(), Refusal> {
    if own_issuers.contains(&certificate::name_digest(
        certificate.tbs_certificate().issuer(),
    )?) {
        return Err(Refusal::ForgedIssuer {
            manufacturer: fleet.clone(),
        });
    }
    let may_sign =
        certificate::key_usage(certificate)?.is_none_or(|usage| usage.digital_signature());
    if may_sign {
        Ok(())
    } else {
        Err(PathRefusal::WrongPurpose.into())
    }
}

fn subject_texts(certificate: &Certificate, field: ObjectIdentifier) -> Vec<String> {
    let subject = certificate.tbs_certificate().subject();
    let values = subject.iter().filter(|attribute| attribute.oid == field);
    values.filter_map(text).map(str::to_owned).collect()
}

/// The types that authorities have written texts in; only ASCII is taken for a name later.
fn text(attribute: &AttributeTypeAndValue) -> Option<&str> {
    use der::{Tag, Tagged};
    match attribute.value.tag() {
        Tag::PrintableString | Tag::Utf8String | Tag::Ia5String | Tag::TeletexString => {
            std::str::from_utf8(attribute.value.value()).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_written_as_it_was_read() {
        for text in [
            "cn",
            "cn:dev-*",
            "serial-number",
            "san-dns:*.devices.example",
            "san-uri:urn:dev:*:v1",
            "san-email:*@things.example",
            "fingerprint",
        ] {
            assert_eq!(text.parse::<Naming>().unwrap().to_string(), text);
        }
        assert_eq!("cn:*".parse::<Naming>().unwrap().to_string(), "cn");
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in [
            "", "CN", "dn", "cn:", "cn:dev", "cn:**", "cn:*a*", "cn:é*", "cn *",
        ] {
            assert!(text.parse::<Naming>().is_err(), "{text:?}");
        }
        assert!(
            format!("cn:{}*", "x".repeat(260))
                .parse::<Naming>()
                .is_err()
        );
    }
}
