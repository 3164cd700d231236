//! A root that is kept offline: one file with its key under a passphrase, and what it may sign.
//!
//! All but the key can be read without the passphrase, and cannot be changed without it being
//! noticed. The key is sealed with AES-256-GCM under what Argon2id makes of the passphrase (RFC
//! 9106, its second recommended option with more passes).

use crate::keys::{self, CertificateKey};
use crate::{Purpose, Rules, SignerError};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use model::TenantId;
use std::fmt::Write;
use zeroize::Zeroizing;

const MAGIC: &str = "fleetward root bundle 1";
/// 64 MiB: what RFC 9106 section 4 recommends where memory is short.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 4;
const SALT_BYTES: usize = 16;
/// A bundle is some 3 KB long.
pub const BUNDLE_BYTES_MAX: usize = 64 * 1024;
/// Shorter ones are guessed.
pub const PASSPHRASE_BYTES_MIN: usize = 12;

/// What stands in a bundle for everybody to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootBundle {
    /// Of the URIs that its tree certifies.
    pub trust_domain: String,
    pub tenant: TenantId,
    /// The root's own, DER.
    pub certificate: Vec<u8>,
    salt: [u8; SALT_BYTES],
    sealed: Vec<u8>,
}

/// A root whose key is open, for one ceremony.
pub struct OpenRoot {
    key: CertificateKey,
    pkcs8: Zeroizing<Vec<u8>>,
    rules: Rules,
}

impl OpenRoot {
    /// A new root's key.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate(trust_domain: &str, tenant: TenantId) -> Result<Self, SignerError> {
        Self::of(keys::generate_p256()?, trust_domain, tenant)
    }

    pub(crate) fn of(
        pkcs8: Zeroizing<Vec<u8>>,
        trust_domain: &str,
        tenant: TenantId,
    ) -> Result<Self, SignerError> {
        let key = CertificateKey::read(&pkcs8).ok_or(SignerError::Crypto {
            doing: "reading the root's key",
        })?;
        Ok(Self {
            key,
            pkcs8,
            rules: Rules::of_ceremony(trust_domain, tenant),
        })
    }

    /// SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.key.public
    }

    /// Signs its own certificate, that of an issuing CA, a link to another root, or its list of
    /// revoked issuing CAs; nothing else.
    ///
    /// # Errors
    /// [`SignerError::Refused`] with the rule that is broken.
    pub fn sign(&self, purpose: Purpose, to_be_signed: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.rules
            .check_ceremony(purpose, &self.key, to_be_signed)
            .map_err(|rule| SignerError::Refused { purpose, rule })?;
        self.key.sign(to_be_signed)
    }

    /// The bundle that holds it.
    ///
    /// # Errors
    /// The passphrase is too short.
    pub fn seal(&self, certificate: &[u8], passphrase: &[u8]) -> Result<RootBundle, SignerError> {
        if passphrase.len() < PASSPHRASE_BYTES_MIN {
            return Err(SignerError::Passphrase {
                what: "is shorter than 12 characters; take several words",
            });
        }
        let mut bundle = RootBundle {
            trust_domain: self.rules.trust_domain.clone(),
            tenant: self.rules.tenant.clone(),
            certificate: certificate.to_vec(),
            salt: [0; SALT_BYTES],
            sealed: Vec::new(),
        };
        aws_lc_rs::rand::fill(&mut bundle.salt).map_err(|_| CRYPTO)?;
        let mut sealed =
            Zeroizing::new(Vec::with_capacity(self.pkcs8.len() + AES_256_GCM.tag_len()));
        sealed.extend_from_slice(&self.pkcs8);
        let nonce = bundle
            .cipher(passphrase)?
            .seal_in_place_append_tag(Aad::from(bundle.head()), &mut *sealed)
            .map_err(|_| CRYPTO)?;
        bundle.sealed = [nonce.as_ref().as_slice(), &sealed].concat();
        Ok(bundle)
    }
}

const CRYPTO: SignerError = SignerError::Crypto {
    doing: "sealing a root",
};

impl RootBundle {
    /// # Errors
    /// It is no bundle of this version.
    pub fn read(text: &str) -> Result<Self, SignerError> {
        read(text).ok_or(SignerError::NoBundle)
    }

    /// As it stands in its file.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}key: {}\n", self.head(), hex(&self.sealed))
    }

    /// # Errors
    /// The passphrase is another, or the bundle was changed.
    pub fn open(&self, passphrase: &[u8]) -> Result<OpenRoot, SignerError> {
        let wrong = || SignerError::Passphrase {
            what: "does not open the bundle, or the bundle was changed",
        };
        let (nonce, sealed) = self.sealed.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let length = self
            .cipher(passphrase)?
            .open_in_place(nonce, Aad::from(self.head()), &mut buffer)
            .map_err(|_| wrong())?
            .len();
        buffer.truncate(length);
        OpenRoot::of(buffer, &self.trust_domain, self.tenant.clone())
    }

    /// All that stands before the key, and is authenticated with it.
    fn head(&self) -> String {
        format!(
            "{MAGIC}\ntrust-domain: {}\ntenant: {}\ncertificate: {}\n\
             argon2id: memory_kib={MEMORY_KIB} passes={PASSES} lanes=1 salt={}\n",
            self.trust_domain,
            self.tenant,
            hex(&self.certificate),
            hex(&self.salt),
        )
    }

    fn cipher(&self, passphrase: &[u8]) -> Result<RandomizedNonceKey, SignerError> {
        let params = Params::new(MEMORY_KIB, PASSES, 1, Some(32)).map_err(|_| CRYPTO)?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, &self.salt, key.as_mut())
            .map_err(|_| CRYPTO)?;
        RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| CRYPTO)
    }
}

fn read(text: &str) -> Option<RootBundle> {
    if text.len() > BUNDLE_BYTES_MAX {
        return None;
    }
    let mut lines = text.strip_prefix(MAGIC)?.strip_prefix('\n')?.split('\n');
    let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(": ");
    let trust_domain = field("trust-domain")?.to_owned();
    let tenant = field("tenant")?.parse().ok()?;
    let certificate = from_hex(field("certificate")?)?;
    let cost = format!("memory_kib={MEMORY_KIB} passes={PASSES} lanes=1 salt=");
    let salt = from_hex(field("argon2id")?.strip_prefix(&cost)?)?;
    let sealed = from_hex(field("key")?)?;
    let bundle = RootBundle {
        trust_domain,
        tenant,
        certificate,
        salt: salt.try_into().ok()?,
        sealed,
    };
    // One spelling: what is shown is what was sealed.
    Some(bundle).filter(|bundle| bundle.to_text() == text)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (text.as_bytes().chunks(2))
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
