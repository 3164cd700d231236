//! CSR attributes are what the RFCs say, read back by other code than made them.

use crate::support::*;
use const_oid::ObjectIdentifier;
use der::asn1::{Any, ContextSpecific, OctetString, SetOfVec};
use der::{Decode, Sequence, Tag, TagMode, TagNumber, Tagged};
use identity::csrattrs::{WantedKey, csrattrs};
use spki::AlgorithmIdentifierOwned;
use x509_cert::attr::Attribute;

/// SubjectPublicKeyInfoTemplate and ExtensionTemplate (RFC 9908 section 3.4).
#[derive(Sequence)]
struct KeyTemplate {
    algorithm: AlgorithmIdentifierOwned,
}

#[derive(Sequence)]
struct ExtensionTemplate {
    extn_id: ObjectIdentifier,
    extn_value: OctetString,
}

fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new(text).unwrap()
}

#[test]
fn both_forms_name_the_same_key() {
    for (key, algorithm, curve, signature) in [
        (
            WantedKey::P256,
            "1.2.840.10045.2.1",
            Some("1.2.840.10045.3.1.7"),
            "1.2.840.10045.4.3.2",
        ),
        (
            WantedKey::P384,
            "1.2.840.10045.2.1",
            Some("1.3.132.0.34"),
            "1.2.840.10045.4.3.3",
        ),
        (WantedKey::Ed25519, "1.3.101.112", None, "1.3.101.112"),
    ] {
        let curve = curve.map(oid);
        let items = Vec::<Any>::from_der(&csrattrs(key).unwrap()).unwrap();
        let [key_type, sign, template] = items.as_slice() else {
            panic!("{items:?}");
        };
        let key_type: Attribute = key_type.decode_as().unwrap();
        assert_eq!(key_type.oid, oid(algorithm));
        let of_key: Vec<ObjectIdentifier> = key_type
            .values
            .iter()
            .map(|value| value.decode_as().unwrap())
            .collect();
        assert_eq!(of_key, curve.into_iter().collect::<Vec<_>>());
        assert_eq!(
            sign.decode_as::<ObjectIdentifier>().unwrap(),
            oid(signature)
        );

        let template: Attribute = template.decode_as().unwrap();
        assert_eq!(template.oid, oid("1.2.840.113549.1.9.16.2.61"));
        assert_eq!(template.values.len(), 1);
        let parts = template.values.get(0).unwrap();
        assert_eq!(parts.tag(), Tag::Sequence);
        let mut reader = der::SliceReader::new(parts.value()).unwrap();
        assert_eq!(u8::decode(&mut reader).unwrap(), 0);
        // No subject: nothing is asked of it.
        let info = ContextSpecific::<KeyTemplate>::decode_implicit(&mut reader, TagNumber(0));
        let info = info.unwrap().unwrap();
        assert_eq!(info.tag_mode, TagMode::Implicit);
        assert_eq!(info.value.algorithm.oid, oid(algorithm));
        let parameters = info.value.algorithm.parameters;
        assert_eq!(parameters.map(|any| any.decode_as().unwrap()), curve);
        let attributes =
            ContextSpecific::<SetOfVec<Attribute>>::decode_implicit(&mut reader, TagNumber(1));
        let attributes = attributes.unwrap().unwrap().value;
        let attribute = attributes.get(0).unwrap();
        assert_eq!(
            (attributes.len(), attribute.oid),
            (1, oid("1.2.840.113549.1.9.16.2.62"))
        );
        let extensions: Vec<ExtensionTemplate> =
            attribute.values.get(0).unwrap().decode_as().unwrap();
        assert_eq!(extensions.len(), 1);
        assert_eq!(extensions[0].extn_id, oid("2.5.29.37"));
        let usage = Vec::<ObjectIdentifier>::from_der(extensions[0].extn_value.as_bytes());
        assert_eq!(usage.unwrap(), [oid("1.3.6.1.5.5.7.3.2")]);
        der::Reader::finish(reader).unwrap();
    }
}

#[test]
fn what_is_asked_for_is_held_against_the_request() {
    let request = plain_request(&Key::new());
    assert_eq!(WantedKey::P256.check(&request), Ok(()));
    for other in [WantedKey::P384, WantedKey::Ed25519] {
        assert_eq!(
            other.check(&request).unwrap_err().code(),
            "request-key-unwanted"
        );
    }
}
