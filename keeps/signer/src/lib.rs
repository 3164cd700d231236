//! Signer: the private keys of this plane, and what each may sign.
//!
//! **Question:** is this what that key is for?
//! **In:** bytes to be signed and the purpose they are said to serve. **Out:** a signature, or a
//! refusal that names the rule.
//! **Refuses to know:** who asks and why, the network, any database. It parses what it signs by
//! itself: a caller that was taken over cannot have a CA signed as a device, nor a second history
//! of the log.
//!
//! Keys are born here at the first start and rest sealed (AES-256-GCM). One key per purpose where
//! purposes differ in power: [`KeyName`]. Certificates and CRLs are signed with ECDSA P-256 and
//! SHA-256 (DER, RFC 3279), checkpoints with Ed25519 (64 bytes, C2SP signed-note).

mod checkpoint;
mod files;
mod rules;

pub use checkpoint::HighMark;
pub use files::SealKey;
pub use rules::Rules;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// The keys, one file each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyName {
    /// The root of the CA tree: signs itself and issuing CAs.
    Root,
    /// The issuing CA: signs leaf certificates and its CRL.
    Issuing,
    /// The transparency log: signs checkpoints.
    Log,
    /// The TLS server's own.
    Server,
}

impl KeyName {
    pub const ALL: [Self; 4] = [Self::Root, Self::Issuing, Self::Log, Self::Server];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
            Self::Log => "log",
            Self::Server => "server",
        }
    }
}

/// What a signature is for. Each has rules of its own ([`Rules`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    RootCertificate,
    IssuingCertificate,
    ServerCertificate,
    /// An LDevID.
    DeviceCertificate,
    ServiceCertificate,
    Crl,
    Checkpoint,
}

impl Purpose {
    pub const ALL: [Self; 7] = [
        Self::RootCertificate,
        Self::IssuingCertificate,
        Self::ServerCertificate,
        Self::DeviceCertificate,
        Self::ServiceCertificate,
        Self::Crl,
        Self::Checkpoint,
    ];

    /// The label in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RootCertificate => "root-certificate",
            Self::IssuingCertificate => "issuing-certificate",
            Self::ServerCertificate => "server-certificate",
            Self::DeviceCertificate => "device-certificate",
            Self::ServiceCertificate => "service-certificate",
            Self::Crl => "crl",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// The keys of one plane, open.
pub struct Signer {
    root: CertificateKey,
    issuing: CertificateKey,
    log: Ed25519KeyPair,
    log_public: Vec<u8>,
    server: Zeroizing<Vec<u8>>,
    server_public: Vec<u8>,
    rules: Rules,
    high_mark: Mutex<Option<HighMark>>,
    counts: [AtomicU64; Purpose::ALL.len()],
}

/// An ECDSA key with what certificates say of it.
struct CertificateKey {
    pair: EcdsaKeyPair,
    /// SubjectPublicKeyInfo in DER.
    public: Vec<u8>,
    /// RFC 7093 section 2, method 1.
    identifier: Vec<u8>,
}

/// Why there is no signature, or no signer.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    #[error("not signed as {}: {rule}; report this to us, or find out who asked", purpose.name())]
    Refused {
        purpose: Purpose,
        rule: &'static str,
    },
    #[error(
        "{} is open to others (mode {mode:03o}, want {want}); operator: chmod {want} it, and \
         replace the keys if others may have read them", path.display()
    )]
    OpenToOthers {
        path: PathBuf,
        mode: u32,
        want: &'static str,
    },
    #[error("{} belongs to another user; operator: give it to the user that runs fleetward", path.display())]
    ForeignOwner { path: PathBuf },
    #[error("{} {what}; operator: restore it from the backup it belongs to", path.display())]
    Unusable { path: PathBuf, what: &'static str },
    #[error(
        "{} cannot be unsealed: it was changed, or sealed under another seal key; operator: \
         restore the key folder and the seal key of the same backup", path.display()
    )]
    Unsealable { path: PathBuf },
    #[error("{} already exists and is never overwritten", path.display())]
    Exists { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the cryptographic library failed while {doing}; report this to us")]
    Crypto { doing: &'static str },
}

impl Signer {
    /// Makes all keys in a new folder `dir` (mode 0700), sealed, durable when this returns: all
    /// or, after a crash, none.
    ///
    /// # Errors
    /// [`SignerError::Exists`] if `dir` exists and is not empty; I/O.
    pub fn create(dir: &Path, seal: &SealKey) -> Result<(), SignerError> {
        let mut keys = Vec::with_capacity(KeyName::ALL.len());
        for name in KeyName::ALL {
            keys.push((name.name(), generate(name)?));
        }
        files::create_folder(dir, seal, &keys)
    }

    /// Opens the keys that [`Signer::create`] made. `rules.checkpoint` must be the last
    /// checkpoint known to have been signed, so that a restart cannot sign an earlier one.
    ///
    /// # Errors
    /// [`SignerError`]: the folder or a file open to others, missing, or sealed otherwise.
    pub fn open(dir: &Path, seal: &SealKey, rules: Rules) -> Result<Self, SignerError> {
        let keys = files::Folder::open(dir, seal)?;
        let unusable = |name: KeyName| SignerError::Unusable {
            path: dir.join(name.name()),
            what: "holds no usable key",
        };
        let certificate_key = |name: KeyName| -> Result<CertificateKey, SignerError> {
            let pkcs8 = keys.read(name.name())?;
            CertificateKey::read(&pkcs8).ok_or_else(|| unusable(name))
        };
        let log = Ed25519KeyPair::from_pkcs8(&keys.read(KeyName::Log.name())?)
            .map_err(|_| unusable(KeyName::Log))?;
        let server = keys.read(KeyName::Server.name())?;
        let server_public = CertificateKey::read(&server)
            .ok_or_else(|| unusable(KeyName::Server))?
            .public;
        Ok(Self {
            root: certificate_key(KeyName::Root)?,
            issuing: certificate_key(KeyName::Issuing)?,
            log_public: public_der(log.public_key()).ok_or_else(|| unusable(KeyName::Log))?,
            log,
            server,
            server_public,
            high_mark: Mutex::new(rules.checkpoint.clone()),
            rules,
            counts: Default::default(),
        })
    }

    /// SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn public_key(&self, name: KeyName) -> &[u8] {
        match name {
            KeyName::Root => &self.root.public,
            KeyName::Issuing => &self.issuing.public,
            KeyName::Log => &self.log_public,
            KeyName::Server => &self.server_public,
        }
    }

    /// The log's Ed25519 key as 32 bytes: what a verifier key (vkey) of a signed note holds.
    #[must_use]
    pub fn log_public_key(&self) -> [u8; 32] {
        let mut raw = [0; 32];
        for (to, from) in raw.iter_mut().zip(self.log.public_key().as_ref()) {
            *to = *from;
        }
        raw
    }

    /// Signs, if the bytes are what `purpose` allows: a TBSCertificate or TBSCertList in DER, or
    /// a checkpoint's text up to and with its last newline.
    ///
    /// # Errors
    /// [`SignerError::Refused`] with the rule that is broken; nothing was signed then.
    pub fn sign(&self, purpose: Purpose, to_be_signed: &[u8]) -> Result<Vec<u8>, SignerError> {
        let refused = |rule| SignerError::Refused { purpose, rule };
        let signature = match purpose {
            Purpose::Checkpoint => {
                let mark =
                    checkpoint::read(to_be_signed, &self.rules.log_origin).map_err(refused)?;
                // Held while signing: of two callers with the same size, the second sees the first.
                let mut highest = self
                    .high_mark
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                checkpoint::check_advance(highest.as_ref(), &mark).map_err(refused)?;
                let signature = self.log.sign(to_be_signed).as_ref().to_vec();
                *highest = Some(mark);
                signature
            }
            Purpose::RootCertificate | Purpose::IssuingCertificate => {
                self.check(purpose, to_be_signed).map_err(refused)?;
                self.root.sign(to_be_signed)?
            }
            Purpose::ServerCertificate
            | Purpose::DeviceCertificate
            | Purpose::ServiceCertificate
            | Purpose::Crl => {
                self.check(purpose, to_be_signed).map_err(refused)?;
                self.issuing.sign(to_be_signed)?
            }
        };
        if let Some(count) = self.count_of(purpose) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(signature)
    }

    /// The TLS server's private key, PKCS#8 in DER, wiped when dropped.
    ///
    /// The one key that leaves: rustls signs a handshake's transcript at each connection, which is
    /// a digest with nothing in it that a rule could judge, so a detour through [`Signer::sign`]
    /// would cost time on the busiest path and protect nothing. What the key can do is bounded
    /// otherwise: it is certified for TLS servers only, never as a CA, and replaced with its
    /// short-lived certificate.
    #[must_use]
    pub fn tls_key(&self) -> Zeroizing<Vec<u8>> {
        self.server.clone()
    }

    /// Signatures made since the start, per purpose.
    #[must_use]
    pub fn counts(&self) -> [(Purpose, u64); Purpose::ALL.len()] {
        Purpose::ALL.map(|purpose| {
            let count = self.count_of(purpose);
            (
                purpose,
                count.map_or(0, |count| count.load(Ordering::Relaxed)),
            )
        })
    }

    fn check(&self, purpose: Purpose, to_be_signed: &[u8]) -> Result<(), &'static str> {
        let keys = rules::Keys {
            root: &self.root.public,
            root_identifier: &self.root.identifier,
            issuing: &self.issuing.public,
            issuing_identifier: &self.issuing.identifier,
            log: &self.log_public,
            server: &self.server_public,
        };
        self.rules.check(purpose, &keys, to_be_signed)
    }

    fn count_of(&self, purpose: Purpose) -> Option<&AtomicU64> {
        let place = Purpose::ALL.iter().position(|one| *one == purpose)?;
        self.counts.get(place)
    }
}

impl CertificateKey {
    fn read(pkcs8: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).ok()?;
        let public = public_der(pair.public_key())?;
        let bits = pair.public_key().as_ref();
        let identifier = digest(&SHA256, bits)
            .as_ref()
            .iter()
            .take(20)
            .copied()
            .collect();
        Some(Self {
            pair,
            public,
            identifier,
        })
    }

    fn sign(&self, to_be_signed: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.pair
            .sign(&SystemRandom::new(), to_be_signed)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| SignerError::Crypto { doing: "signing" })
    }
}

fn public_der(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Option<Vec<u8>> {
    key.as_der().ok().map(|der| der.as_ref().to_vec())
}

/// A fresh key as PKCS#8.
fn generate(name: KeyName) -> Result<Zeroizing<Vec<u8>>, SignerError> {
    let failed = |_| SignerError::Crypto {
        doing: "making a key",
    };
    let pkcs8 = match name {
        KeyName::Log => Ed25519KeyPair::generate()
            .and_then(|pair| pair.to_pkcs8v1())
            .map_err(failed)?,
        KeyName::Root | KeyName::Issuing | KeyName::Server => {
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
                .and_then(|pair| pair.to_pkcs8v1())
                .map_err(failed)?
        }
    };
    // The document wipes itself when dropped.
    Ok(Zeroizing::new(pkcs8.as_ref().to_vec()))
}
