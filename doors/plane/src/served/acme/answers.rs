//! What a CA that looks at our doors is shown (RFC 8737, RFC 8555 section 8.3), while an order is
//! under way and not a moment longer.

use crate::served::DoorName;
use anyhow::Context;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The protocol by which a CA says that it looks (RFC 8737 section 6.2). Nothing is spoken in it.
pub const ALPN: &[u8] = b"acme-tls/1";

const DIGEST_BYTES: usize = 32;

/// The answers of one order. Immutable.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    door: Option<DoorName>,
    certificates: BTreeMap<String, Arc<CertifiedKey>>,
    texts: BTreeMap<String, String>,
}

impl Answers {
    /// Whether a CA may come to this door.
    #[must_use]
    pub fn awaits_at(&self, door: DoorName) -> bool {
        self.door == Some(door)
    }

    /// For whoever speaks [`ALPN`] alone.
    #[must_use]
    pub fn certificate(&self, door: DoorName, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = name?.to_ascii_lowercase();
        let known = self.certificates.get(&name)?;
        self.awaits_at(door).then(|| Arc::clone(known))
    }

    /// The text of a token.
    #[must_use]
    pub fn text(&self, token: &str) -> Option<&str> {
        self.texts.get(token).map(String::as_str)
    }

    /// Signed by itself, with a key that is for nothing else: it proves what it holds.
    pub(super) fn certify(
        &mut self,
        door: DoorName,
        name: &str,
        digest: &[u8],
    ) -> anyhow::Result<()> {
        anyhow::ensure!(
            digest.len() == DIGEST_BYTES,
            "the digest has another length"
        );
        let key = KeyPair::generate().context("a key could not be made")?;
        let mut certificate = CertificateParams::new(vec![name.to_owned()])?;
        certificate.distinguished_name = DistinguishedName::new();
        let mut proof = CustomExtension::new_acme_identifier(digest);
        proof.set_criticality(true);
        certificate.custom_extensions = vec![proof];
        let signed = certificate.self_signed(&key)?;
        let chain = vec![CertificateDer::from(signed.der().to_vec())];
        let pkcs8 = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(pkcs8)?;
        let shown = Arc::new(CertifiedKey::new(chain, key));
        self.certificates.insert(name.to_ascii_lowercase(), shown);
        self.door = Some(door);
        Ok(())
    }

    pub(super) fn tell(&mut self, token: &str, text: &str) {
        self.texts.insert(token.to_owned(), text.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_for_its_door_and_name_alone() {
        let mut answers = Answers::default();
        assert!(!DoorName::ALL.iter().any(|door| answers.awaits_at(*door)));
        answers
            .certify(DoorName::People, "Plane.example.com", &[7; 32])
            .unwrap();
        let shown = |door, name| answers.certificate(door, name).is_some();
        assert!(shown(DoorName::People, Some("plane.Example.com")));
        assert!(!shown(DoorName::Devices, Some("plane.example.com")));
        assert!(!shown(DoorName::People, Some("other.example.com")));
        assert!(!shown(DoorName::People, None));
        assert!(answers.awaits_at(DoorName::People) && !answers.awaits_at(DoorName::Mqtt));
        assert!(
            answers
                .clone()
                .certify(DoorName::People, "a.example", &[7; 31])
                .is_err()
        );
    }

    /// RFC 8737 section 3: a critical acmeIdentifier that holds the digest, and the one name.
    #[test]
    fn a_certificate_that_answers_holds_the_digest_and_nothing_else() {
        let mut answers = Answers::default();
        answers
            .certify(DoorName::People, "a.example", &[7; 32])
            .unwrap();
        let shown = answers
            .certificate(DoorName::People, Some("a.example"))
            .unwrap();
        let der = shown.cert.first().unwrap();
        // OID 1.3.6.1.5.5.7.1.31, TRUE, OCTET STRING of an OCTET STRING of 32 bytes.
        let head = [
            6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff, 4, 34, 4, 32, 7, 7,
        ];
        assert!(der.windows(head.len()).any(|part| part == head));
        assert_eq!(shown.cert.len(), 1);
    }
}
