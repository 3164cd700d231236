//! The keys that sign certificates, and how each is named at rest.

use crate::SignerError;
use crate::token::TokenKey;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use model::{AuthorityId, CertificateUses};
use std::fmt::Write;
use zeroize::Zeroizing;

pub(crate) const ROOT: &str = "root";
pub(crate) const LOG: &str = "log";
pub(crate) const SERVER: &str = "server";
/// The OCSP responder's, for every CA: it says whether certificates stand and makes none.
pub(crate) const OCSP: &str = "ocsp";
/// The first issuing CA's, which serves every use.
pub(crate) const FIRST_ISSUING: &str = "issuing";

/// The key of an issuing CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuingKey {
    /// Whose key: after a rollover a CA has two.
    pub authority: AuthorityId,
    /// What it may sign, for its whole life.
    pub uses: CertificateUses,
    /// SubjectPublicKeyInfo in DER.
    pub public: Vec<u8>,
}

/// Where a private key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyPlace {
    /// In this folder, sealed.
    SealedFile,
    /// In a PKCS #11 token, which it cannot leave.
    Token,
}

impl KeyPlace {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SealedFile => "sealed-file",
            Self::Token => "pkcs11-token",
        }
    }
}

/// An issuing CA's key, open.
pub(crate) struct OpenIssuing {
    pub(crate) about: IssuingKey,
    pub(crate) key: CertificateKey,
}

/// An ECDSA key with what certificates say of it.
pub(crate) struct CertificateKey {
    private: Private,
    /// SubjectPublicKeyInfo in DER.
    pub(crate) public: Vec<u8>,
    /// RFC 7093 section 2, method 1.
    pub(crate) identifier: Vec<u8>,
    /// RFC 5280 section 4.2.1.2, method 1: how CAs that were made elsewhere name their key.
    old_identifier: Vec<u8>,
}

/// Where a private key is.
enum Private {
    Here(Box<EcdsaKeyPair>),
    InToken(TokenKey),
}

impl CertificateKey {
    pub(crate) fn read(pkcs8: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).ok()?;
        let public = public_der(pair.public_key())?;
        Some(Self {
            identifier: identifier(pair.public_key().as_ref()),
            old_identifier: old_identifier(pair.public_key().as_ref()),
            private: Private::Here(Box::new(pair)),
            public,
        })
    }

    /// Whether a certificate means this key by this identifier.
    pub(crate) fn is_named(&self, identifier: &[u8]) -> bool {
        self.identifier == identifier || self.old_identifier == identifier
    }

    /// `bits` is the key's point.
    pub(crate) fn in_token(private: TokenKey, public: Vec<u8>, bits: &[u8]) -> Self {
        Self {
            private: Private::InToken(private),
            public,
            identifier: identifier(bits),
            old_identifier: old_identifier(bits),
        }
    }

    pub(crate) fn place(&self) -> KeyPlace {
        match self.private {
            Private::Here(_) => KeyPlace::SealedFile,
            Private::InToken(_) => KeyPlace::Token,
        }
    }

    pub(crate) fn sign(&self, to_be_signed: &[u8]) -> Result<Vec<u8>, SignerError> {
        match &self.private {
            Private::Here(pair) => pair
                .sign(&SystemRandom::new(), to_be_signed)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SignerError::Crypto { doing: "signing" }),
            Private::InToken(key) => key.sign(to_be_signed),
        }
    }
}

impl OpenIssuing {
    pub(crate) fn new(authority: AuthorityId, uses: CertificateUses, key: CertificateKey) -> Self {
        let public = key.public.clone();
        Self {
            about: IssuingKey {
                authority,
                uses,
                public,
            },
            key,
        }
    }
}

/// `issuing.<uses>.<CA>.<first bytes of the key's identifier>`. The name is authenticated with the
/// key it names, so nobody gives a key other uses by renaming its file.
pub(crate) fn issuing_name(
    authority: &AuthorityId,
    uses: CertificateUses,
    key: &CertificateKey,
) -> String {
    let mut name = format!("{FIRST_ISSUING}.{uses}.{authority}.");
    for byte in key.identifier.iter().take(4) {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// Whose key a name is and what it may sign, if it names an issuing CA's.
pub(crate) fn read_issuing_name(name: &str) -> Option<(AuthorityId, CertificateUses)> {
    if name == FIRST_ISSUING {
        return Some((AuthorityId::standard(), CertificateUses::EVERY));
    }
    let rest = name.strip_prefix(FIRST_ISSUING)?.strip_prefix('.')?;
    let (uses, rest) = rest.split_once('.')?;
    let (authority, _) = rest.rsplit_once('.')?;
    Some((authority.parse().ok()?, uses.parse().ok()?))
}

/// RFC 7093 section 2, method 1, of the bits of a key.
pub(crate) fn identifier(bits: &[u8]) -> Vec<u8> {
    let all = digest(&SHA256, bits);
    all.as_ref().iter().take(20).copied().collect()
}

fn old_identifier(bits: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bits).as_ref().to_vec()
}

/// A private key that was made elsewhere, in PKCS #8 or SEC 1 (RFC 5915) DER, as PKCS #8. `None`: it
/// is no ECDSA key on P-256.
pub(crate) fn foreign_p256(der: &[u8]) -> Option<(EcdsaKeyPair, Zeroizing<Vec<u8>>)> {
    let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der).ok()?;
    let pkcs8 = pair.to_pkcs8v1().ok()?;
    let pkcs8 = Zeroizing::new(pkcs8.as_ref().to_vec());
    Some((pair, pkcs8))
}

pub(crate) fn public_der(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Option<Vec<u8>> {
    key.as_der().ok().map(|der| der.as_ref().to_vec())
}

/// A fresh ECDSA P-256 key as PKCS#8.
pub(crate) fn generate_p256() -> Result<Zeroizing<Vec<u8>>, SignerError> {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
        .and_then(|pair| pair.to_pkcs8v1())
        // The document wipes itself when dropped.
        .map(|document| Zeroizing::new(document.as_ref().to_vec()))
        .map_err(|_| MAKING)
}

/// A fresh Ed25519 key as PKCS#8.
pub(crate) fn generate_ed25519() -> Result<Zeroizing<Vec<u8>>, SignerError> {
    Ed25519KeyPair::generate()
        .and_then(|pair| pair.to_pkcs8v1())
        .map(|document| Zeroizing::new(document.as_ref().to_vec()))
        .map_err(|_| MAKING)
}

const MAKING: SignerError = SignerError::Crypto {
    doing: "making a key",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_s_name_says_whose_and_for_what() {
        let key = CertificateKey::read(&generate_p256().unwrap()).unwrap();
        let authority: AuthorityId = "cameras.v2".parse().unwrap();
        let uses: CertificateUses = "device+service".parse().unwrap();
        let name = issuing_name(&authority, uses, &key);
        assert_eq!(read_issuing_name(&name), Some((authority, uses)));
        for other in [
            "root",
            "issuing.",
            "issuing.device",
            "issuing.ca.x.00",
            "issuingx",
        ] {
            assert_eq!(read_issuing_name(other), None, "{other}");
        }
    }
}
