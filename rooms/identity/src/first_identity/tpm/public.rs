//! Public areas (TPM 2.0 part 2, section 12.2): what a key is, and what it may do.

use super::attest::Signature;
use super::wire::{Reader, put_sized};
use super::{TpmRefusal, malformed};
use crate::certificate::sha256;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use const_oid::db::rfc5912;
use der::asn1::{AnyRef, BitStringRef, UintRef};
use der::{Encode, Sequence};
use model::Digest;
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

/// The largest structure looked at: an RSA-4096 key needs 600 bytes.
pub const STRUCTURE_BYTES_MAX: usize = 1024;

pub(super) const SHA256: u16 = 0x000b;
pub(super) const RSASSA: u16 = 0x0014;
pub(super) const ECDSA: u16 = 0x0018;
const RSA: u16 = 0x0001;
const AES: u16 = 0x0006;
const NULL: u16 = 0x0010;
const RSAPSS: u16 = 0x0016;
const OAEP: u16 = 0x0017;
const RSAES: u16 = 0x0015;
const ECDH: u16 = 0x0019;
const ECC: u16 = 0x0023;
const CFB: u16 = 0x0043;
const P256: u16 = 0x0003;

// TPMA_OBJECT (part 2, section 8.3).
const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;
/// Made in this TPM, and never to leave it.
const HELD: u32 = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN;

/// SHA-256 names a key in 34 bytes: the algorithm, then the digest of its public area.
pub(super) const NAME_BYTES: usize = 34;

/// A key by what it is: two keys that differ in one attribute have two names (part 1, section 16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyName(pub(super) [u8; NAME_BYTES]);

impl KeyName {
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A public area that was read whole: RSA of 2048 to 4096 bits, or ECC P-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public {
    /// TPMT_PUBLIC as it came.
    area: Vec<u8>,
    attributes: u32,
    protects_with_aes_128: bool,
    scheme: u16,
    pub(super) key: Key,
    spki: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Rsa { bits: u16 },
    P256 { x: [u8; 32], y: [u8; 32] },
}

impl Public {
    /// Reads a TPM2B_PUBLIC, as the tools of tpm2-tools write it (`-f tss`).
    ///
    /// # Errors
    /// [`TpmRefusal::Malformed`] for what cannot be read, and for algorithms that are not taken.
    pub fn read(tpm2b: &[u8]) -> Result<Self, TpmRefusal> {
        const WHAT: &str = "public area";
        if tpm2b.len() > STRUCTURE_BYTES_MAX {
            return Err(malformed(WHAT));
        }
        let mut outer = Reader::new(tpm2b, WHAT);
        let area = outer.sized(STRUCTURE_BYTES_MAX)?;
        outer.finish()?;

        let mut reader = Reader::new(area, WHAT);
        let kind = reader.u16()?;
        if reader.u16()? != SHA256 {
            return Err(malformed("public area: its name is not by SHA-256"));
        }
        let attributes = reader.u32()?;
        let _policy = reader.sized(64)?;
        let protects_with_aes_128 = symmetric(&mut reader)?;
        let scheme = reader.u16()?;
        match scheme {
            NULL | RSAES => {}
            RSASSA | RSAPSS | OAEP | ECDSA | ECDH => {
                if reader.u16()? != SHA256 {
                    return Err(malformed("public area: its scheme is not by SHA-256"));
                }
            }
            _ => return Err(malformed("public area: a scheme that is not taken")),
        }
        let (key, spki) = match kind {
            RSA => rsa(&mut reader)?,
            ECC => p256(&mut reader)?,
            _ => return Err(malformed("public area: neither RSA nor ECC")),
        };
        reader.finish()?;
        Ok(Self {
            area: area.to_vec(),
            attributes,
            protects_with_aes_128,
            scheme,
            key,
            spki,
        })
    }

    /// As it was read.
    #[must_use]
    pub fn to_tpm2b(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.area.len() + 2);
        put_sized(&mut out, &self.area);
        out
    }

    #[must_use]
    pub fn name(&self) -> KeyName {
        let mut name = [0; NAME_BYTES];
        let bytes = SHA256.to_be_bytes().into_iter().chain(sha256(&self.area).0);
        for (to, from) in name.iter_mut().zip(bytes) {
            *to = from;
        }
        KeyName(name)
    }

    /// SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn key_digest(&self) -> Digest {
        sha256(&self.spki)
    }

    /// Is it a signing key that was made in its TPM and cannot leave it?
    pub(super) fn check_held(&self) -> Result<(), TpmRefusal> {
        if self.has(HELD | SIGN) {
            Ok(())
        } else {
            Err(TpmRefusal::KeyCanLeave)
        }
    }

    fn has(&self, attributes: u32) -> bool {
        self.attributes & attributes == attributes
    }
}

/// The key that says which chip this is: a storage key of the TCG's EK credential profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsementKey(Public);

impl EndorsementKey {
    /// # Errors
    /// It cannot be read, or is no storage key of RSA-2048 or P-256 with AES-128.
    pub fn read(tpm2b: &[u8]) -> Result<Self, TpmRefusal> {
        let public = Public::read(tpm2b)?;
        let is_taken = public.has(HELD | RESTRICTED | DECRYPT)
            && !public.has(SIGN)
            && public.protects_with_aes_128
            && public.scheme == NULL
            && matches!(public.key, Key::Rsa { bits: 2048 } | Key::P256 { .. });
        if is_taken {
            Ok(Self(public))
        } else {
            Err(TpmRefusal::EndorsementKind)
        }
    }

    /// What lists name it by: SHA-256 of its SubjectPublicKeyInfo, the same in its certificate.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.key_digest()
    }

    pub(super) fn public(&self) -> &Public {
        &self.0
    }
}

/// A key that signs only what its TPM itself says (`restricted`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationKey(Public);

impl AttestationKey {
    /// # Errors
    /// It cannot be read, or is no restricted signing key that is held by its TPM.
    pub fn read(tpm2b: &[u8]) -> Result<Self, TpmRefusal> {
        let public = Public::read(tpm2b)?;
        let scheme_fits = match public.key {
            Key::Rsa { .. } => public.scheme == RSASSA,
            Key::P256 { .. } => public.scheme == ECDSA,
        };
        if public.has(HELD | RESTRICTED | SIGN) && !public.has(DECRYPT) && scheme_fits {
            Ok(Self(public))
        } else {
            Err(TpmRefusal::AttestationKind)
        }
    }

    #[must_use]
    pub fn public(&self) -> &Public {
        &self.0
    }

    /// # Errors
    /// The signature (TPMT_SIGNATURE) cannot be read or does not hold.
    pub fn verify(&self, statement: &[u8], signature: &[u8]) -> Result<(), TpmRefusal> {
        let (algorithm, signature): (&'static dyn VerificationAlgorithm, _) =
            match (&self.0.key, Signature::read(signature)?) {
                (Key::Rsa { .. }, Signature::Rsassa(bytes)) => (&RSA_PKCS1_2048_8192_SHA256, bytes),
                (Key::P256 { .. }, Signature::Ecdsa(bytes)) => (&ECDSA_P256_SHA256_FIXED, bytes),
                _ => return Err(TpmRefusal::BadSignature),
            };
        UnparsedPublicKey::new(algorithm, &self.0.spki)
            .verify(statement, &signature)
            .map_err(|_| TpmRefusal::BadSignature)
    }
}

/// TPMT_SYM_DEF_OBJECT; whether it is AES-128-CFB.
fn symmetric(reader: &mut Reader<'_>) -> Result<bool, TpmRefusal> {
    match reader.u16()? {
        NULL => Ok(false),
        AES => Ok((reader.u16()?, reader.u16()?) == (128, CFB)),
        _ => Err(malformed("public area: a cipher that is not taken")),
    }
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

fn rsa(reader: &mut Reader<'_>) -> Result<(Key, Vec<u8>), TpmRefusal> {
    let bits = reader.u16()?;
    // Zero stands for the usual one (part 2, section 12.2.3.5).
    let exponent = match reader.u32()? {
        0 => 65_537,
        other => other,
    };
    let modulus = reader.sized(512)?;
    let is_whole = modulus.len() == usize::from(bits / 8)
        && modulus.first().is_some_and(|byte| byte & 0x80 != 0)
        && modulus.last().is_some_and(|byte| byte & 1 != 0);
    if !matches!(bits, 2048 | 3072 | 4096) || !is_whole || exponent != 65_537 {
        return Err(malformed(
            "public area: not an RSA key of 2048, 3072 or 4096 bits with exponent 65537",
        ));
    }
    let exponent = exponent.to_be_bytes();
    let spki = || -> der::Result<Vec<u8>> {
        let key = RsaPublicKey {
            modulus: UintRef::new(modulus)?,
            exponent: UintRef::new(&exponent)?,
        }
        .to_der()?;
        let algorithm = AlgorithmIdentifierRef {
            oid: rfc5912::RSA_ENCRYPTION,
            parameters: Some(AnyRef::NULL),
        };
        spki_der(algorithm, &key)
    };
    let spki = spki().map_err(|_| malformed("public area: RSA key"))?;
    Ok((Key::Rsa { bits }, spki))
}

fn p256(reader: &mut Reader<'_>) -> Result<(Key, Vec<u8>), TpmRefusal> {
    if reader.u16()? != P256 {
        return Err(malformed("public area: not the curve P-256"));
    }
    if reader.u16()? != NULL {
        // A key derivation, which no profile uses.
        return Err(malformed("public area: a key derivation scheme"));
    }
    let x = coordinate(reader)?;
    let y = coordinate(reader)?;
    let mut point = vec![4];
    point.extend(x);
    point.extend(y);
    let algorithm = AlgorithmIdentifierRef {
        oid: rfc5912::ID_EC_PUBLIC_KEY,
        parameters: Some((&rfc5912::SECP_256_R_1).into()),
    };
    let spki = spki_der(algorithm, &point).map_err(|_| malformed("public area: ECC key"))?;
    Ok((Key::P256 { x, y }, spki))
}

/// Older chips leave leading zeros out.
pub(super) fn coordinate(reader: &mut Reader<'_>) -> Result<[u8; 32], TpmRefusal> {
    let bytes = reader.sized(32)?;
    let mut padded = [0; 32];
    for (to, from) in padded.iter_mut().rev().zip(bytes.iter().rev()) {
        *to = *from;
    }
    Ok(padded)
}

fn spki_der(algorithm: AlgorithmIdentifierRef<'_>, key: &[u8]) -> der::Result<Vec<u8>> {
    SubjectPublicKeyInfoRef {
        algorithm,
        subject_public_key: BitStringRef::from_bytes(key)?,
    }
    .to_der()
}
