//! What a request should hold, said before it is made: CSR attributes (RFC 7030 section 4.5.2,
//! RFC 8951 section 3.5), in the old form and in that of RFC 9908 section 3.4, which newer clients
//! prefer. Both say the same.

use crate::csr::{CertificateRequest, KeyKind};
use crate::est::{context, sequence};
use crate::refusal::Refusal;
use const_oid::db::{rfc5280, rfc5912, rfc8410};
use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{Encode, Tag};

/// Of the answer.
pub const MEDIA_TYPE: &str = "application/csrattrs";

/// id-aa-certificationRequestInfoTemplate and id-aa-extensionReqTemplate (RFC 9908).
const REQUEST_TEMPLATE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.61");
const EXTENSIONS_TEMPLATE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.62");

/// The key that a product's devices must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WantedKey {
    P256,
    P384,
    Ed25519,
}

impl WantedKey {
    /// # Errors
    /// [`Refusal::KeyUnwanted`].
    pub fn check(self, request: &CertificateRequest) -> Result<(), Refusal> {
        let wanted = match self {
            Self::P256 => KeyKind::P256,
            Self::P384 => KeyKind::P384,
            Self::Ed25519 => KeyKind::Ed25519,
        };
        if request.key_kind() == wanted {
            Ok(())
        } else {
            Err(Refusal::KeyUnwanted {
                wanted: wanted.name(),
                found: request.key_kind().name(),
            })
        }
    }

    /// The key's algorithm, its curve if it has a choice of them, and the signature's algorithm.
    const fn algorithms(self) -> (ObjectIdentifier, Option<ObjectIdentifier>, ObjectIdentifier) {
        match self {
            Self::P256 => (
                rfc5912::ID_EC_PUBLIC_KEY,
                Some(rfc5912::SECP_256_R_1),
                rfc5912::ECDSA_WITH_SHA_256,
            ),
            Self::P384 => (
                rfc5912::ID_EC_PUBLIC_KEY,
                Some(rfc5912::SECP_384_R_1),
                rfc5912::ECDSA_WITH_SHA_384,
            ),
            Self::Ed25519 => (rfc8410::ID_ED_25519, None, rfc8410::ID_ED_25519),
        }
    }
}

/// CsrAttrs in DER: the key's type, how to sign, and the same as a template, which also names the
/// one extension whose value is settled: the certificate is a TLS client's.
///
/// # Errors
/// None in practice: all of it is constants.
pub fn csrattrs(key: WantedKey) -> der::Result<Vec<u8>> {
    let (key, curve, signature) = key.algorithms();
    let curve = curve.map(|curve| curve.to_der()).transpose()?;
    let parameters = curve.unwrap_or_default();
    let key_type = attribute(key, parameters.clone())?;
    let algorithm = sequence(&[key.to_der()?, parameters])?;

    let client = sequence(&[rfc5280::ID_KP_CLIENT_AUTH.to_der()?])?;
    let extension = sequence(&[
        rfc5280::ID_CE_EXT_KEY_USAGE.to_der()?,
        OctetString::new(client)?.to_der()?,
    ])?;
    let extensions = attribute(EXTENSIONS_TEMPLATE, sequence(&[extension])?)?;
    // The module of RFC 9908 has implicit tags.
    let template = sequence(&[
        0u8.to_der()?,
        context(0, algorithm)?,
        context(1, extensions)?,
    ])?;
    sequence(&[
        key_type,
        signature.to_der()?,
        attribute(REQUEST_TEMPLATE, template)?,
    ])
}

/// An Attribute of one value, or of none.
fn attribute(of: ObjectIdentifier, value: Vec<u8>) -> der::Result<Vec<u8>> {
    sequence(&[of.to_der()?, Any::new(Tag::Set, value)?.to_der()?])
}
