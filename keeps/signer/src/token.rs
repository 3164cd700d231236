//! Keys in a token that speaks PKCS #11: born there, never seen here.

use crate::keys::{self, CertificateKey};
use crate::{SignerError, files};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use der::asn1::UintRef;
use der::{Decode, Encode, Sequence};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// Where the keys of the CAs are, if not in sealed files. The log's and the TLS server's stay in
/// files: the one needs Ed25519, the other leaves the signer anyway.
#[derive(Debug, Clone)]
pub struct TokenPlace {
    /// The maker's library.
    pub module: PathBuf,
    /// The token's label.
    pub label: String,
    /// A file of mode 0600 with the user's PIN.
    pub pin_file: PathBuf,
}

/// A token with its user logged in. One session, used by one signature at a time.
pub(crate) struct Token {
    session: Mutex<Session>,
}

/// A private key in a token.
pub(crate) struct TokenKey {
    token: Arc<Token>,
    handle: ObjectHandle,
}

/// SubjectPublicKeyInfo of an uncompressed P-256 point, up to the point.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The curve's name in DER: prime256v1.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const POINT_BYTES: usize = 65;

impl Token {
    pub(crate) fn open(place: &TokenPlace) -> Result<Arc<Self>, SignerError> {
        let module = Pkcs11::new(&place.module).map_err(failed("loading its library"))?;
        match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // By an earlier signer of this process.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(failed("starting its library")(error)),
        }
        let slots = module
            .get_slots_with_initialized_token()
            .map_err(failed("listing its tokens"))?;
        let mut found = None;
        for slot in slots {
            let about = module
                .get_token_info(slot)
                .map_err(failed("reading a token's label"))?;
            if about.label() == place.label && found.replace(slot).is_some() {
                return Err(SignerError::Token {
                    doing: "choosing the token",
                    detail: format!("two tokens are labelled {:?}", place.label),
                });
            }
        }
        let slot = found.ok_or_else(|| SignerError::Token {
            doing: "choosing the token",
            detail: format!("no token is labelled {:?}", place.label),
        })?;
        let session = module
            .open_rw_session(slot)
            .map_err(failed("opening a session"))?;
        let pin = files::read_private(&place.pin_file)?;
        let pin = std::str::from_utf8(&pin)
            .map_err(|_| SignerError::Unusable {
                path: place.pin_file.clone(),
                what: "holds no PIN in text",
            })?
            .trim_end_matches(['\r', '\n']);
        match session.login(UserType::User, Some(&AuthPin::new(pin.into()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => return Err(failed("logging in with the PIN")(error)),
        }
        Ok(Arc::new(Self {
            session: Mutex::new(session),
        }))
    }

    /// The labels of the private keys.
    pub(crate) fn names(&self) -> Result<Vec<String>, SignerError> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = session
            .find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)])
            .map_err(failed("listing its keys"))?;
        let mut names = Vec::with_capacity(keys.len());
        for key in keys {
            let attributes = session
                .get_attributes(key, &[AttributeType::Label])
                .map_err(failed("reading a key's label"))?;
            if let Some(Attribute::Label(label)) = attributes.first() {
                names.extend(String::from_utf8(label.clone()));
            }
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn read(self: &Arc<Self>, name: &str) -> Result<CertificateKey, SignerError> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |class| -> Result<ObjectHandle, SignerError> {
            let wanted = [
                Attribute::Class(class),
                Attribute::KeyType(KeyType::EC),
                Attribute::Label(name.as_bytes().to_vec()),
            ];
            let found = session
                .find_objects(&wanted)
                .map_err(failed("finding a key"))?;
            match found.as_slice() {
                [one] => Ok(*one),
                others => Err(SignerError::Token {
                    doing: "finding a key",
                    detail: format!("{} keys are labelled {name:?}", others.len()),
                }),
            }
        };
        let (private, public) = (
            one(ObjectClass::PRIVATE_KEY)?,
            one(ObjectClass::PUBLIC_KEY)?,
        );
        let point = session
            .get_attributes(public, &[AttributeType::EcPoint])
            .map_err(failed("reading a public key"))?;
        let no_point = || SignerError::Token {
            doing: "reading a public key",
            detail: format!("{name:?} is not a key on the curve P-256"),
        };
        let Some(Attribute::EcPoint(point)) = point.into_iter().next() else {
            return Err(no_point());
        };
        // An OCTET STRING around the point, which some tokens leave away.
        let bare = <&der::asn1::OctetStringRef>::from_der(&point)
            .map_or(point.as_slice(), |octets| octets.as_bytes());
        if bare.len() != POINT_BYTES || bare.first() != Some(&4) {
            return Err(no_point());
        }
        let handle = TokenKey {
            token: Arc::clone(self),
            handle: private,
        };
        Ok(CertificateKey::in_token(
            handle,
            [&P256_PREFIX, bare].concat(),
            bare,
        ))
    }

    /// A new P-256 key that can neither be read out nor changed.
    pub(crate) fn create(
        self: &Arc<Self>,
        name: impl FnOnce(&CertificateKey) -> String,
    ) -> Result<(String, CertificateKey), SignerError> {
        // Its final name holds its identifier, which is known only once it is there.
        const DRAFT: &str = "fleetward-new";
        self.forget_drafts(DRAFT)?;
        self.generate(DRAFT)?;
        let key = self.read(DRAFT)?;
        let name = name(&key);
        self.rename(DRAFT, &name)?;
        Ok((name.clone(), self.read(&name)?))
    }

    /// A key that was made elsewhere, unreadable from here on.
    pub(crate) fn import(
        self: &Arc<Self>,
        name: &str,
        pair: &EcdsaKeyPair,
    ) -> Result<CertificateKey, SignerError> {
        const DRAFT: &str = "fleetward-import";
        self.forget_drafts(DRAFT)?;
        let failed_to_read = |_| SignerError::ForeignKey;
        let private: EcPrivateKeyBin<'_> =
            pair.private_key().as_be_bytes().map_err(failed_to_read)?;
        let private = Zeroizing::new(private.as_ref().to_vec());
        let point = der::asn1::OctetStringRef::new(pair.public_key().as_ref())
            .and_then(|octets| octets.to_der())
            .map_err(|_| SignerError::ForeignKey)?;
        let label = Attribute::Label(DRAFT.as_bytes().to_vec());
        let common = [
            Attribute::KeyType(KeyType::EC),
            Attribute::Token(true),
            Attribute::EcParams(P256.to_vec()),
            label,
        ];
        let public = [
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcPoint(point),
        ];
        let secret = [
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Value(private.to_vec()),
        ];
        {
            let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
            for own in [&public[..], &secret[..]] {
                session
                    .create_object(&[&common[..], own].concat())
                    .map_err(failed("taking in a key"))?;
            }
        }
        self.rename(DRAFT, name)?;
        self.read(name)
    }

    fn generate(&self, label: &str) -> Result<(), SignerError> {
        let label = Attribute::Label(label.as_bytes().to_vec());
        let public = [
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(P256.to_vec()),
            label.clone(),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            label,
        ];
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session
            .generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
            .map(drop)
            .map_err(failed("making a key"))
    }

    fn labelled(&self, session: &Session, label: &str) -> Result<Vec<ObjectHandle>, SignerError> {
        session
            .find_objects(&[Attribute::Label(label.as_bytes().to_vec())])
            .map_err(failed("finding a key"))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), SignerError> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let label = [Attribute::Label(to.as_bytes().to_vec())];
        for object in self.labelled(&session, from)? {
            session
                .update_attributes(object, &label)
                .map_err(failed("naming a key"))?;
        }
        Ok(())
    }

    /// Left by a crash; they have signed nothing.
    fn forget_drafts(&self, draft: &str) -> Result<(), SignerError> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        for object in self.labelled(&session, draft)? {
            session
                .destroy_object(object)
                .map_err(failed("removing a half-made key"))?;
        }
        Ok(())
    }
}

impl TokenKey {
    /// ECDSA with SHA-256, in DER (RFC 3279 section 2.2.3).
    pub(crate) fn sign(&self, to_be_signed: &[u8]) -> Result<Vec<u8>, SignerError> {
        let hash = digest(&SHA256, to_be_signed);
        let session = (self.token.session.lock()).unwrap_or_else(PoisonError::into_inner);
        // The token hashes nothing: not every one offers ECDSA with a hash.
        let plain = session
            .sign(&Mechanism::Ecdsa, self.handle, hash.as_ref())
            .map_err(failed("signing"))?;
        in_der(&plain).ok_or(SignerError::Token {
            doing: "signing",
            detail: "its answer is not a signature of P-256".to_owned(),
        })
    }
}

#[derive(Sequence)]
struct Signature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// A token gives r and s side by side, 32 bytes each.
fn in_der(plain: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = plain.split_at_checked(32).filter(|(_, s)| s.len() == 32)?;
    let signature = Signature {
        r: UintRef::new(r).ok()?,
        s: UintRef::new(s).ok()?,
    };
    signature.to_der().ok()
}

fn failed(doing: &'static str) -> impl Fn(Error) -> SignerError {
    move |error| SignerError::Token {
        doing,
        detail: error.to_string(),
    }
}

/// The name of a CA's key, and the key, where the token holds it.
pub(crate) fn is_ca_name(name: &str) -> bool {
    name == keys::ROOT || keys::read_issuing_name(name).is_some()
}
