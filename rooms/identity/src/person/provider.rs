//! A provider by what it says of itself: where it is asked (OpenID Connect Discovery 1.0), and with
//! which keys it signs (RFC 7517).

use super::id_token::IdTokenRefusal;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

pub const METADATA_BYTES_MAX: usize = 64 * 1024;
pub const KEYS_BYTES_MAX: usize = 128 * 1024;
const KEYS_MAX: usize = 64;

/// Section 3 of Discovery; what else is in it is passed over. Whether its addresses may be spoken to
/// is asked by whoever does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    issuer: String,
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    pub jwks_uri: String,
    /// It says in each answer who it is (RFC 9207).
    #[serde(default, rename = "authorization_response_iss_parameter_supported")]
    pub names_itself: bool,
    /// Where people sign out, if they can (RP-Initiated Logout 1.0, section 2.1).
    #[serde(default)]
    pub end_session_endpoint: Option<String>,
}

/// Why what a provider says of itself is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetadataRefusal {
    #[error("its openid-configuration is none, or too long")]
    Malformed,
    #[error("it calls itself otherwise than access.provider.issuer does")]
    OtherIssuer,
}

impl Metadata {
    /// Of the provider that is configured as `issuer` (Discovery, section 4.3).
    ///
    /// # Errors
    /// [`MetadataRefusal`].
    pub fn read(json: &[u8], issuer: &str) -> Result<Self, MetadataRefusal> {
        if json.len() > METADATA_BYTES_MAX {
            return Err(MetadataRefusal::Malformed);
        }
        let read: Self = serde_json::from_slice(json).map_err(|_| MetadataRefusal::Malformed)?;
        if read.issuer != issuer {
            return Err(MetadataRefusal::OtherIssuer);
        }
        Ok(read)
    }
}

/// The keys that a provider's tokens may be signed with.
#[derive(Default)]
pub struct Keys(Vec<NamedKey>);

struct NamedKey {
    name: Option<String>,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Es256,
    Rs256,
}

/// RFC 7517 section 4, RFC 7518 section 6; what else is in it is passed over.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    used_for: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
}

impl Keys {
    /// Those of a key set that can have signed a token; others are passed over.
    ///
    /// # Errors
    /// It is no key set.
    pub fn read(json: &[u8]) -> Result<Self, IdTokenRefusal> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let malformed = IdTokenRefusal::Malformed("the key set");
        if json.len() > KEYS_BYTES_MAX {
            return Err(malformed);
        }
        let set: Set = serde_json::from_slice(json).map_err(|_| malformed)?;
        if set.keys.len() > KEYS_MAX {
            return Err(malformed);
        }
        let keys = set.keys.into_iter().filter_map(|key| {
            let jwk: Jwk = serde_json::from_value(key).ok()?;
            jwk.into_key()
        });
        Ok(Self(keys.collect()))
    }

    /// By the one that the token names; where it names none, by the only one of its algorithm.
    pub(super) fn verify(
        &self,
        algorithm: &str,
        name: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), IdTokenRefusal> {
        let algorithm = match algorithm {
            "ES256" => Algorithm::Es256,
            "RS256" => Algorithm::Rs256,
            _ => return Err(IdTokenRefusal::Algorithm),
        };
        let mut fitting = self.0.iter().filter(|key| match name {
            Some(name) => key.name.as_deref() == Some(name),
            None => key.algorithm == algorithm,
        });
        let (Some(key), None) = (fitting.next(), fitting.next()) else {
            return Err(IdTokenRefusal::UnknownKey);
        };
        // A key is for one algorithm, whatever a token says.
        if key.algorithm != algorithm {
            return Err(IdTokenRefusal::Algorithm);
        }
        (key.key.verify_sig(signed, signature)).map_err(|_| IdTokenRefusal::BadSignature)
    }
}

impl Jwk {
    fn into_key(self) -> Option<NamedKey> {
        if self.used_for.is_some_and(|used_for| used_for != "sig") {
            return None;
        }
        let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let (algorithm, name, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(self.x)?, bytes(self.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                let point = [&[4][..], &x, &y].concat();
                let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                (Algorithm::Es256, "ES256", key)
            }
            ("RSA", _) => {
                let (n, e) = (bytes(self.n)?, bytes(self.e)?);
                let components = RsaPublicKeyComponents { n, e };
                let key = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
                (Algorithm::Rs256, "RS256", key)
            }
            _ => return None,
        };
        if self.alg.is_some_and(|alg| alg != name) {
            return None;
        }
        Some(NamedKey {
            name: self.kid,
            algorithm,
            key: key.ok()?,
        })
    }
}
