//! TPM2_MakeCredential without a TPM (TPM 2.0 part 1, sections 24 and B.10.4 and C.6.4).

use super::public::{EndorsementKey, Key};
use super::wire::put_sized;
use super::{KeyName, TpmRefusal};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

/// What a challenge hides, in bytes: as much as SHA-256 allows.
pub const SECRET_BYTES: usize = 32;
/// The largest file that [`credential()`] writes: RSA-2048.
pub const CREDENTIAL_BYTES_MAX: usize = 512;
/// The label of RSAES-OAEP, with the zero that ends it.
pub const OAEP_LABEL: &[u8] = b"IDENTITY\0";

const SEED_BYTES: usize = 32;

/// How a seed comes to the endorsement key alone.
pub enum SeedExchange {
    /// The caller encrypts `seed` to `public_key` (SubjectPublicKeyInfo, DER) by RSAES-OAEP with
    /// SHA-256 and [`OAEP_LABEL`], as the padding takes its randomness where it is made.
    Oaep {
        public_key: Vec<u8>,
        seed: Zeroizing<[u8; SEED_BYTES]>,
    },
    /// Agreed by ECDH with a key that lives for this one exchange; `encrypted` goes to the TPM.
    Ecdh {
        encrypted: Vec<u8>,
        seed: Zeroizing<[u8; SEED_BYTES]>,
    },
}

impl SeedExchange {
    /// `random` is the seed for an RSA key, the ephemeral private key for an ECC one.
    ///
    /// # Errors
    /// [`TpmRefusal::EndorsementKind`]: the key is not a point of its curve, or `random` is no
    /// private key, which one in 2^32 is not.
    pub fn new(
        endorsement: &EndorsementKey,
        random: Zeroizing<[u8; SEED_BYTES]>,
    ) -> Result<Self, TpmRefusal> {
        let Key::P256 { x, .. } = &endorsement.public().key else {
            return Ok(Self::Oaep {
                public_key: endorsement.public().spki().to_vec(),
                seed: random,
            });
        };
        let kind = TpmRefusal::EndorsementKind;
        let own = PrivateKey::from_private_key(&ECDH_P256, &*random).map_err(|_| kind.clone())?;
        let own_public = own.compute_public_key().map_err(|_| kind.clone())?;
        let (own_x, own_y) = (own_public.as_ref().split_first())
            .and_then(|(_, point)| point.split_at_checked(32))
            .ok_or(kind.clone())?;
        let theirs = UnparsedPublicKey::new(&ECDH_P256, endorsement.public().spki());
        let seed = agree(&own, theirs, kind, |z| Ok(kdfe(z, own_x, x)))?;
        let mut encrypted = Vec::new();
        put_sized(&mut encrypted, own_x);
        put_sized(&mut encrypted, own_y);
        Ok(Self::Ecdh { encrypted, seed })
    }

    #[must_use]
    pub fn seed(&self) -> &Zeroizing<[u8; SEED_BYTES]> {
        match self {
            Self::Oaep { seed, .. } | Self::Ecdh { seed, .. } => seed,
        }
    }
}

/// The file that `tpm2_activatecredential -i` takes: only the TPM that opens `encrypted_seed` gives
/// `secret` back, and only if it holds the key of this name.
///
/// # Errors
/// The provider refuses, which it never does for keys of these sizes.
pub fn credential(
    seed: &Zeroizing<[u8; SEED_BYTES]>,
    encrypted_seed: &[u8],
    name: &KeyName,
    secret: &[u8; SECRET_BYTES],
) -> Result<Vec<u8>, TpmRefusal> {
    let mut identity = Vec::with_capacity(SECRET_BYTES + 2);
    put_sized(&mut identity, secret);
    let storage = kdfa(seed, b"STORAGE", name.as_bytes(), 128);
    encrypt(
        storage.as_ref().get(..16).unwrap_or_default(),
        &mut identity,
    )
    .ok_or(TpmRefusal::EndorsementKind)?;
    let integrity = kdfa(seed, b"INTEGRITY", b"", 256);
    let outer = tag(integrity.as_ref(), &[&identity, name.as_bytes()]);
    let mut object = Vec::new();
    put_sized(&mut object, outer.as_ref());
    object.extend(identity);

    let mut file = Vec::with_capacity(CREDENTIAL_BYTES_MAX);
    file.extend(0xbadc_c0de_u32.to_be_bytes());
    file.extend(1_u32.to_be_bytes());
    put_sized(&mut file, &object);
    put_sized(&mut file, encrypted_seed);
    Ok(file)
}

/// AES-128-CFB with a key that is used once, so the start is zero (part 1, section 24.4).
fn encrypt(key: &[u8], text: &mut [u8]) -> Option<()> {
    let key = UnboundCipherKey::new(&AES_128, key).ok()?;
    let start = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    let cipher = EncryptingKey::cfb128(key).ok()?;
    cipher.less_safe_encrypt(text, start).ok().map(drop)
}

/// KDFa (part 1, section 11.4.10.2) for up to one block of SHA-256: SP 800-108 in counter mode.
fn kdfa(key: &Zeroizing<[u8; SEED_BYTES]>, label: &[u8], context: &[u8], bits: u32) -> hmac::Tag {
    let (counter, bits) = (1_u32.to_be_bytes(), bits.to_be_bytes());
    tag(key.as_slice(), &[&counter, label, &[0], context, &bits])
}

/// HMAC-SHA-256 over the parts, one after the other.
fn tag(key: &[u8], parts: &[&[u8]]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &parts.concat())
}

/// KDFe (part 1, section 11.4.10.3) for one block of SHA-256: SP 800-56A's concatenation.
fn kdfe(z: &[u8], party_u: &[u8], party_v: &[u8]) -> Zeroizing<[u8; SEED_BYTES]> {
    let mut text = Zeroizing::new(Vec::with_capacity(4 + 9 + 3 * 32));
    text.extend(1_u32.to_be_bytes());
    text.extend(z);
    text.extend(OAEP_LABEL);
    text.extend(party_u);
    text.extend(party_v);
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    for (to, from) in seed.iter_mut().zip(digest(&SHA256, &text).as_ref()) {
        *to = *from;
    }
    seed
}
