//! Signer: the private keys of this plane, and what each may sign.
//!
//! **Question:** is this what that key is for?
//! **In:** bytes to be signed and the purpose they are said to serve. **Out:** a signature, or a
//! refusal that names the rule.
//! **Refuses to know:** who asks and why, the network, any database. It parses what it signs by
//! itself: a caller that was taken over cannot have a CA signed as a device, nor a second history
//! of the log.
//!
//! Keys are born here and rest sealed (AES-256-GCM). Purposes that differ in power have keys of
//! their own: the root, each issuing CA, the log, the TLS server. Certificates and CRLs are signed with ECDSA P-256 and
//! SHA-256 (DER, RFC 3279), checkpoints with Ed25519 (64 bytes, C2SP signed-note).

mod ceremony;
mod checkpoint;
mod counts;
mod files;
mod keys;
mod rules;
mod token;

pub use ceremony::{BUNDLE_BYTES_MAX, OpenRoot, PASSPHRASE_BYTES_MIN, RootBundle};
pub use checkpoint::HighMark;
pub use counts::Count;
pub use files::SealKey;
pub use keys::{IssuingKey, KeyPlace};
pub use rules::Rules;
pub use token::TokenPlace;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use counts::Counts;
use keys::{CertificateKey, OpenIssuing};
use model::{AuthorityId, CertificateUse, CertificateUses};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// What a signature is for. Each has rules of its own ([`Rules`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    RootCertificate,
    IssuingCertificate,
    /// One root by another, while one takes the other's place (RFC 4210 section 4.4).
    LinkCertificate,
    /// The request of an issuing CA to a root that is elsewhere, signed by the CA's own key.
    AuthorityRequest,
    ServerCertificate,
    /// An LDevID.
    DeviceCertificate,
    ServiceCertificate,
    OperatorCertificate,
    Crl,
    /// Of this plane's OCSP responder, by the CA that it answers for.
    OcspCertificate,
    OcspResponse,
    Checkpoint,
}

impl Purpose {
    pub const ALL: [Self; 12] = [
        Self::RootCertificate,
        Self::IssuingCertificate,
        Self::LinkCertificate,
        Self::AuthorityRequest,
        Self::ServerCertificate,
        Self::DeviceCertificate,
        Self::ServiceCertificate,
        Self::OperatorCertificate,
        Self::Crl,
        Self::OcspCertificate,
        Self::OcspResponse,
        Self::Checkpoint,
    ];

    /// The label in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RootCertificate => "root-certificate",
            Self::IssuingCertificate => "issuing-certificate",
            Self::LinkCertificate => "link-certificate",
            Self::AuthorityRequest => "authority-request",
            Self::ServerCertificate => "server-certificate",
            Self::DeviceCertificate => "device-certificate",
            Self::ServiceCertificate => "service-certificate",
            Self::OperatorCertificate => "operator-certificate",
            Self::Crl => "crl",
            Self::OcspCertificate => "ocsp-certificate",
            Self::OcspResponse => "ocsp-response",
            Self::Checkpoint => "checkpoint",
        }
    }

    /// At rest. A number is never given again.
    const fn code(self) -> u8 {
        match self {
            Self::RootCertificate => 1,
            Self::IssuingCertificate => 2,
            Self::LinkCertificate => 3,
            Self::AuthorityRequest => 4,
            Self::ServerCertificate => 5,
            Self::DeviceCertificate => 6,
            Self::ServiceCertificate => 7,
            Self::OperatorCertificate => 8,
            Self::Crl => 9,
            Self::Checkpoint => 10,
            Self::OcspCertificate => 11,
            Self::OcspResponse => 12,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }

    /// What it signs gives somebody rights: not signed if it cannot be counted. Lists,
    /// answers and checkpoints are signed all the same, as what they withdraw and prove is in force
    /// already.
    const fn grants(self) -> bool {
        !matches!(
            self,
            Self::Crl | Self::OcspCertificate | Self::OcspResponse | Self::Checkpoint
        )
    }

    /// The use of the end-entity certificates of this purpose.
    #[must_use]
    pub const fn certificate_use(self) -> Option<CertificateUse> {
        match self {
            Self::ServerCertificate => Some(CertificateUse::Server),
            Self::DeviceCertificate => Some(CertificateUse::Device),
            Self::ServiceCertificate => Some(CertificateUse::Service),
            Self::OperatorCertificate => Some(CertificateUse::Operator),
            Self::RootCertificate
            | Self::IssuingCertificate
            | Self::LinkCertificate
            | Self::AuthorityRequest
            | Self::Crl
            | Self::OcspCertificate
            | Self::OcspResponse
            | Self::Checkpoint => None,
        }
    }
}

/// The keys of one plane, open.
pub struct Signer {
    dir: PathBuf,
    seal: SealKey,
    token: Option<Arc<token::Token>>,
    /// `None` where the root is kept elsewhere.
    root: Mutex<Option<Arc<CertificateKey>>>,
    /// Grows when a CA is made; a key that is here stays as it is.
    issuing: Mutex<Vec<Arc<OpenIssuing>>>,
    log: Ed25519KeyPair,
    log_public: Vec<u8>,
    log_identifier: Vec<u8>,
    server: Zeroizing<Vec<u8>>,
    server_public: Vec<u8>,
    ocsp: CertificateKey,
    rules: Rules,
    high_mark: Mutex<Option<HighMark>>,
    counts: Mutex<Counts>,
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
    #[error(
        "the token failed while {doing} ({detail}); operator: check that it is there, its PIN and \
         its label"
    )]
    Token { doing: &'static str, detail: String },
    #[error("the token holds CA keys of another plane; operator: initialise a token for this one")]
    TokenUsed,
    #[error("the root's key is in a token and cannot leave it; operator: keep that token offline")]
    RootInToken,
    #[error("the root's key is not on this machine")]
    NoRoot,
    #[error(
        "the private key is not ECDSA on P-256 in PKCS #8 or SEC 1, which is all that signs here; \
         operator: import the CA without its key, and let a CA of ours certify"
    )]
    ForeignKey,
    #[error("the private key is here already, for something else")]
    ForeignKeyUsed,
    #[error("this is no root bundle of this version; operator: name the file that was written")]
    NoBundle,
    #[error("the passphrase {what}")]
    Passphrase { what: &'static str },
    #[error("the cryptographic library failed while {doing}; report this to us")]
    Crypto { doing: &'static str },
}

impl Signer {
    /// Makes the first keys in a new folder `dir` (mode 0700), sealed, durable when this returns:
    /// all or, after a crash, none. Those of the CAs in a token, if there is one.
    ///
    /// # Errors
    /// [`SignerError::Exists`] if `dir` exists and is not empty; I/O; the token.
    pub fn create(
        dir: &Path,
        seal: &SealKey,
        token: Option<&TokenPlace>,
    ) -> Result<(), SignerError> {
        let mut keys = vec![
            (keys::LOG, keys::generate_ed25519()?),
            (keys::SERVER, keys::generate_p256()?),
            (keys::OCSP, keys::generate_p256()?),
        ];
        if let Some(place) = token {
            let token = token::Token::open(place)?;
            if token.names()?.iter().any(|name| token::is_ca_name(name)) {
                return Err(SignerError::TokenUsed);
            }
            for name in [keys::ROOT, keys::FIRST_ISSUING] {
                token.create(|_| name.to_owned())?;
            }
        } else {
            keys.push((keys::ROOT, keys::generate_p256()?));
            keys.push((keys::FIRST_ISSUING, keys::generate_p256()?));
        }
        files::create_folder(dir, seal, &keys)
    }

    /// Opens the keys that [`Signer::create`] and [`Signer::create_issuing`] made.
    /// `rules.checkpoint` must be the last checkpoint known to have been signed, so that a restart
    /// cannot sign an earlier one.
    ///
    /// # Errors
    /// [`SignerError`]: the folder or a file open to others, missing, or sealed otherwise.
    pub fn open(
        dir: &Path,
        seal: &SealKey,
        token: Option<&TokenPlace>,
        rules: Rules,
    ) -> Result<Self, SignerError> {
        let folder = files::Folder::open(dir, seal)?;
        let token = token.map(token::Token::open).transpose()?;
        let unusable = |name: &str| SignerError::Unusable {
            path: dir.join(name),
            what: "holds no usable key",
        };
        if !folder.names()?.iter().any(|name| name == keys::OCSP) {
            // A folder of before there was a responder.
            folder.create(keys::OCSP, &keys::generate_p256()?)?;
        }
        let mut found: Vec<(String, CertificateKey)> = Vec::new();
        for name in folder.names()? {
            if token::is_ca_name(&name) {
                let key = CertificateKey::read(&folder.read(&name)?);
                found.push((name.clone(), key.ok_or_else(|| unusable(&name))?));
            }
        }
        if let Some(token) = &token {
            for name in token.names()? {
                if token::is_ca_name(&name) {
                    let key = token.read(&name)?;
                    found.push((name, key));
                }
            }
        }
        let (mut root, mut issuing) = (None, Vec::new());
        for (name, key) in found {
            match keys::read_issuing_name(&name) {
                Some((authority, uses)) => {
                    issuing.push(Arc::new(OpenIssuing::new(authority, uses, key)));
                }
                None => root = Some(Arc::new(key)),
            }
        }
        let log = Ed25519KeyPair::from_pkcs8(&folder.read(keys::LOG)?)
            .map_err(|_| unusable(keys::LOG))?;
        let server = folder.read(keys::SERVER)?;
        let server_public = CertificateKey::read(&server)
            .ok_or_else(|| unusable(keys::SERVER))?
            .public;
        Ok(Self {
            counts: Mutex::new(Counts::open(dir)?),
            dir: dir.to_owned(),
            seal: seal.clone(),
            token,
            root: Mutex::new(root),
            issuing: Mutex::new(issuing),
            log_public: keys::public_der(log.public_key()).ok_or_else(|| unusable(keys::LOG))?,
            log_identifier: keys::identifier(log.public_key().as_ref()),
            log,
            server,
            server_public,
            ocsp: CertificateKey::read(&folder.read(keys::OCSP)?)
                .ok_or_else(|| unusable(keys::OCSP))?,
            high_mark: Mutex::new(rules.checkpoint.clone()),
            rules,
        })
    }

    /// Makes the key of an issuing CA, durable when this returns. It may sign what `uses` says and
    /// its own request and lists, and nothing else, as long as it lives.
    ///
    /// # Errors
    /// I/O.
    pub fn create_issuing(
        &self,
        authority: &AuthorityId,
        uses: CertificateUses,
    ) -> Result<IssuingKey, SignerError> {
        let key = if let Some(token) = &self.token {
            token
                .create(|key| keys::issuing_name(authority, uses, key))?
                .1
        } else {
            let pkcs8 = keys::generate_p256()?;
            let key = CertificateKey::read(&pkcs8).ok_or(SignerError::Crypto {
                doing: "making a key",
            })?;
            let name = keys::issuing_name(authority, uses, &key);
            files::Folder::open(&self.dir, &self.seal)?.create(&name, &pkcs8)?;
            key
        };
        let made = Arc::new(OpenIssuing::new(authority.clone(), uses, key));
        self.issuing().push(Arc::clone(&made));
        Ok(made.about.clone())
    }

    /// The public half (SubjectPublicKeyInfo in DER) of a CA's key that was made elsewhere: PKCS #8 or
    /// SEC 1 in DER. Takes nothing in.
    ///
    /// # Errors
    /// [`SignerError::ForeignKey`].
    pub fn foreign_public_key(private_key: &[u8]) -> Result<Vec<u8>, SignerError> {
        let (pair, _) = keys::foreign_p256(private_key).ok_or(SignerError::ForeignKey)?;
        keys::public_der(pair.public_key()).ok_or(SignerError::ForeignKey)
    }

    /// Takes in the key of an issuing CA that was made elsewhere, durable when this returns; the same
    /// again changes nothing. From here on it is as one that was born here, and in a token it can be
    /// read out no more; what became of its other copies nobody here knows.
    ///
    /// # Errors
    /// It is no key that signs here, or one that is here for something else; I/O.
    pub fn import_issuing(
        &self,
        authority: &AuthorityId,
        uses: CertificateUses,
        private_key: &[u8],
    ) -> Result<IssuingKey, SignerError> {
        let (pair, pkcs8) = keys::foreign_p256(private_key).ok_or(SignerError::ForeignKey)?;
        let key = CertificateKey::read(&pkcs8).ok_or(SignerError::ForeignKey)?;
        let mut issuing = self.issuing();
        let same = (issuing.iter()).find(|one| one.about.public == key.public);
        if let Some(known) = same {
            let is_same = known.about.authority == *authority && known.about.uses == uses;
            return (is_same.then(|| known.about.clone())).ok_or(SignerError::ForeignKeyUsed);
        }
        let others = [&self.server_public, &self.ocsp.public, &self.log_public];
        let is_root = self.root().is_some_and(|root| root.public == key.public);
        if is_root || others.contains(&&key.public) {
            return Err(SignerError::ForeignKeyUsed);
        }
        let name = keys::issuing_name(authority, uses, &key);
        let key = match &self.token {
            Some(token) => token.import(&name, &pair)?,
            None => {
                files::Folder::open(&self.dir, &self.seal)?.create(&name, &pkcs8)?;
                key
            }
        };
        let made = Arc::new(OpenIssuing::new(authority.clone(), uses, key));
        issuing.push(Arc::clone(&made));
        Ok(made.about.clone())
    }

    /// Every issuing CA's key that is here.
    #[must_use]
    pub fn issuing_keys(&self) -> Vec<IssuingKey> {
        (self.issuing().iter())
            .map(|one| one.about.clone())
            .collect()
    }

    /// Where the key of a CA of ours is, by the subjectKeyIdentifier of its certificate; `None`:
    /// not on this machine.
    #[must_use]
    pub fn place_of(&self, identifier: &[u8]) -> Option<KeyPlace> {
        if let Some(root) = self.root().filter(|root| root.identifier == identifier) {
            return Some(root.place());
        }
        (self.issuing().iter())
            .find(|one| one.key.identifier == identifier)
            .map(|one| one.key.place())
    }

    fn issuing(&self) -> MutexGuard<'_, Vec<Arc<OpenIssuing>>> {
        self.issuing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// SubjectPublicKeyInfo in DER; `None` if the root is kept elsewhere.
    #[must_use]
    pub fn root_public_key(&self) -> Option<Vec<u8>> {
        self.root().map(|root| root.public.clone())
    }

    fn root(&self) -> Option<Arc<CertificateKey>> {
        let root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        root.clone()
    }

    /// The root as a bundle that can be kept offline. It stays here until
    /// [`Signer::destroy_root`].
    ///
    /// # Errors
    /// It is not here, or in a token; the passphrase is too short.
    pub fn export_root(
        &self,
        certificate: &[u8],
        passphrase: &[u8],
    ) -> Result<RootBundle, SignerError> {
        self.root().ok_or(SignerError::NoRoot)?;
        let folder = files::Folder::open(&self.dir, &self.seal)?;
        if !folder.names()?.iter().any(|name| name == keys::ROOT) {
            return Err(SignerError::RootInToken);
        }
        let pkcs8 = folder.read(keys::ROOT)?;
        OpenRoot::of(pkcs8, &self.rules.trust_domain, self.rules.tenant.clone())?
            .seal(certificate, passphrase)
    }

    /// Forgets the root's key and removes its file: from here on this machine makes no CA.
    ///
    /// # Errors
    /// It is not here, or in a token; I/O.
    pub fn destroy_root(&self) -> Result<(), SignerError> {
        let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        if root.is_none() {
            return Err(SignerError::NoRoot);
        }
        let folder = files::Folder::open(&self.dir, &self.seal)?;
        if !folder.names()?.iter().any(|name| name == keys::ROOT) {
            return Err(SignerError::RootInToken);
        }
        folder.remove(keys::ROOT)?;
        *root = None;
        Ok(())
    }

    /// SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn server_public_key(&self) -> &[u8] {
        &self.server_public
    }

    /// SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn ocsp_public_key(&self) -> &[u8] {
        &self.ocsp.public
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

    /// Signs, if the bytes are what `purpose` allows: a TBSCertificate, TBSCertList, ResponseData or
    /// CertificationRequestInfo in DER, or a checkpoint's text up to and with its last newline.
    /// Which CA's key signs stands in the bytes, as their authorityKeyIdentifier.
    ///
    /// # Errors
    /// [`SignerError::Refused`] with the rule that is broken; nothing was signed then.
    pub fn sign(&self, purpose: Purpose, to_be_signed: &[u8]) -> Result<Vec<u8>, SignerError> {
        let refused = |rule| SignerError::Refused { purpose, rule };
        if purpose == Purpose::Checkpoint {
            let signature = self.sign_checkpoint(to_be_signed).map_err(refused)?;
            self.count(&self.log_identifier, purpose)?;
            return Ok(signature);
        }
        let (root, issuing) = (self.root(), self.issuing().clone());
        let keys = rules::Keys {
            root: root.as_deref(),
            issuing: &issuing,
            log: &self.log_public,
            server: &self.server_public,
            ocsp: &self.ocsp,
        };
        let key = self
            .rules
            .check(purpose, &keys, to_be_signed)
            .map_err(refused)?;
        self.count(&key.identifier, purpose)?;
        key.sign(to_be_signed)
    }

    /// Takes a number before it is used: there may be a number without a signature, never a
    /// signature without a number.
    fn count(&self, key: &[u8], purpose: Purpose) -> Result<(), SignerError> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.take(key, purpose) {
            Err(error) if purpose.grants() => Err(error),
            _ => Ok(()),
        }
    }

    fn sign_checkpoint(&self, text: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mark = checkpoint::read(text, &self.rules.log_origin)?;
        // Held while signing: of two callers with the same size, the second sees the first.
        let mut highest = self
            .high_mark
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        checkpoint::check_advance(highest.as_ref(), &mark)?;
        let signature = self.log.sign(text).as_ref().to_vec();
        *highest = Some(mark);
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

    /// Signatures ever made, per key and purpose. `None` where nothing was counted before: the
    /// keys are new, or of a version that did not count.
    #[must_use]
    pub fn counts(&self) -> Option<Vec<Count>> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        (!counts.is_new || !counts.all().is_empty()).then(|| counts.all())
    }

    /// Takes what the log knows of a key's signatures as what was made: called at a start, once
    /// what differed stands in the log. An empty list settles all as they are.
    ///
    /// # Errors
    /// I/O.
    pub fn settle(&self, known: &[Count]) -> Result<(), SignerError> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for count in known {
            counts.settle(&count.key, count.purpose, count.signed)?;
        }
        counts.settle_all()
    }
}
