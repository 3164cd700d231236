//! ID tokens (OpenID Connect Core 1.0): what a provider says of somebody who signed in there.
//!
//! A token is believed for its signature by a key of the provider's, for us, for this one sign-in.
//! Which algorithm a key is for is the key's word, never the token's (RFC 8725 section 3.1).

use crate::Actor;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

pub const TOKEN_BYTES_MAX: usize = 32 * 1024;
pub const KEYS_BYTES_MAX: usize = 128 * 1024;
const KEYS_MAX: usize = 64;
const GROUPS_MAX: usize = 1024;
const SUBJECT_BYTES_MAX: usize = 255;
/// How far the provider's clock and ours may be apart.
pub const SKEW: Duration = Duration::from_secs(60);
/// A token is fetched at once; one that lay about is not taken.
const AGE_MAX: Duration = Duration::from_secs(600);

/// The keys of a provider (RFC 7517) that an ID token may be signed with.
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

/// What was asked of the provider.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub issuer: &'a str,
    /// Who we are to it.
    pub client: &'a str,
    pub nonce: &'a str,
    pub now: Timestamp,
    /// Somebody was to prove anew who they are, at this time at the earliest.
    pub proven_since: Option<Timestamp>,
    /// Which claim lists somebody's groups.
    pub groups_claim: &'a str,
}

/// The ticket of somebody whom the provider knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    subject: String,
    name: String,
    groups: Vec<String>,
    proven_at: Option<Timestamp>,
}

impl Known {
    /// Names them at this provider, and nobody else ever.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What they are called, if it says so; anything may stand in it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// When they proved there who they are, if it says so.
    #[must_use]
    pub const fn proven_at(&self) -> Option<Timestamp> {
        self.proven_at
    }
}

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenRefusal {
    #[error(
        "{0} of the provider is malformed or too long; operator: ask whoever runs the provider"
    )]
    Malformed(&'static str),
    #[error(
        "the provider signs with an algorithm that is not taken; operator: set ES256 or RS256 for this \
         client at the provider"
    )]
    Algorithm,
    #[error(
        "the token is signed with a key that the provider does not name; operator: ask whoever runs it"
    )]
    UnknownKey,
    #[error("the signature of the provider's token does not hold")]
    BadSignature,
    #[error(
        "the token is of another provider than the configured one; operator: see access.provider.issuer"
    )]
    OtherIssuer,
    #[error(
        "the token is for another client than this plane; operator: see access.provider.client_id"
    )]
    OtherAudience,
    #[error("the token answers another sign-in than the one that was begun; begin again")]
    OtherNonce,
    #[error(
        "the token has ended, or lay about; operator: if it is new, compare the clocks of both machines"
    )]
    Expired,
    #[error("the token is from the future; operator: compare the clocks of both machines")]
    NotYet,
    #[error(
        "the provider did not ask anew who they are, or does not say when it did; operator: let it send \
         auth_time and obey max_age"
    )]
    NotFresh,
    #[error(
        "this is a token of another kind than an ID token; operator: ask whoever runs the provider"
    )]
    OtherKind,
}

impl IdTokenRefusal {
    /// Stays the same over versions.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed(_) => "id-token-malformed",
            Self::Algorithm => "id-token-algorithm",
            Self::UnknownKey => "id-token-unknown-key",
            Self::BadSignature => "id-token-bad-signature",
            Self::OtherIssuer => "id-token-other-issuer",
            Self::OtherAudience => "id-token-other-audience",
            Self::OtherNonce => "id-token-other-nonce",
            Self::Expired => "id-token-expired",
            Self::NotYet => "id-token-not-yet",
            Self::NotFresh => "id-token-not-fresh",
            Self::OtherKind => "id-token-other-kind",
        }
    }

    #[must_use]
    pub const fn who_must_act(self) -> Actor {
        Actor::Operator
    }
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
    /// Those of a key set that can have signed an ID token; others are passed over.
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

    /// The one that the token names; where it names none, the only one of its algorithm.
    fn find(&self, header: &Header) -> Result<&NamedKey, IdTokenRefusal> {
        let algorithm = match header.alg.as_str() {
            "ES256" => Algorithm::Es256,
            "RS256" => Algorithm::Rs256,
            _ => return Err(IdTokenRefusal::Algorithm),
        };
        let mut fitting = self.0.iter().filter(|key| match &header.kid {
            Some(name) => key.name.as_ref() == Some(name),
            None => key.algorithm == algorithm,
        });
        let (Some(key), None) = (fitting.next(), fitting.next()) else {
            return Err(IdTokenRefusal::UnknownKey);
        };
        // A key is for one algorithm, whatever a token says.
        if key.algorithm != algorithm {
            return Err(IdTokenRefusal::Algorithm);
        }
        Ok(key)
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

/// RFC 7515 section 4.1.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    /// What must be understood, and is not.
    #[serde(default)]
    crit: Option<Value>,
}

/// Whom a token tells of, if it is the provider's, for us, and answers what was asked (OpenID
/// Connect Core, section 3.1.3.7).
///
/// # Errors
/// [`IdTokenRefusal`]. [`IdTokenRefusal::UnknownKey`] may mean that the keys are old: ask with new
/// ones.
pub fn verify(token: &str, keys: &Keys, asked: &Asked<'_>) -> Result<Known, IdTokenRefusal> {
    let malformed = IdTokenRefusal::Malformed("the token");
    if token.len() > TOKEN_BYTES_MAX {
        return Err(malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(malformed)?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| malformed)?;
    let key = keys.find(&header)?;
    if header.crit.is_some() {
        return Err(IdTokenRefusal::OtherKind);
    }
    if header
        .typ
        .is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT"))
    {
        return Err(IdTokenRefusal::OtherKind);
    }
    key.key
        .verify_sig(signed.as_bytes(), &decode(signature)?)
        .map_err(|_| IdTokenRefusal::BadSignature)?;
    // Not looked at before this line.
    let claims: Map<String, Value> =
        serde_json::from_slice(&decode(claims)?).map_err(|_| malformed)?;
    Claims(claims).check(asked)
}

struct Claims(Map<String, Value>);

impl Claims {
    fn check(&self, asked: &Asked<'_>) -> Result<Known, IdTokenRefusal> {
        if self.text("iss") != Some(asked.issuer) {
            return Err(IdTokenRefusal::OtherIssuer);
        }
        if !self.is_for(asked.client) {
            return Err(IdTokenRefusal::OtherAudience);
        }
        let nonce = self.text("nonce").unwrap_or_default();
        if asked.nonce.is_empty()
            || verify_slices_are_equal(nonce.as_bytes(), asked.nonce.as_bytes()).is_err()
        {
            return Err(IdTokenRefusal::OtherNonce);
        }
        let malformed = IdTokenRefusal::Malformed("the token");
        let (late, early) = (asked.now.plus(SKEW), asked.now.minus(SKEW));
        let ends_at = self.time("exp").ok_or(malformed)?;
        let made_at = self.time("iat").ok_or(malformed)?;
        if ends_at <= early || made_at.plus(AGE_MAX) <= early {
            return Err(IdTokenRefusal::Expired);
        }
        let proven_at = self.time("auth_time");
        let starts = [Some(made_at), self.time("nbf"), proven_at];
        if starts.into_iter().flatten().any(|at| at > late) {
            return Err(IdTokenRefusal::NotYet);
        }
        if let Some(since) = asked.proven_since
            && proven_at.is_none_or(|at| at.plus(SKEW) < since)
        {
            return Err(IdTokenRefusal::NotFresh);
        }
        let subject = self.text("sub").unwrap_or_default();
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX {
            return Err(malformed);
        }
        let called = ["name", "preferred_username", "email"];
        let name = called.iter().find_map(|claim| self.text(claim));
        Ok(Known {
            subject: subject.to_owned(),
            name: name.unwrap_or_default().to_owned(),
            groups: self.groups(asked.groups_claim),
            proven_at,
        })
    }

    /// Alone, or with others and us as the authorized party.
    fn is_for(&self, client: &str) -> bool {
        let (named, alone) = match self.0.get("aud") {
            Some(Value::String(one)) => (one == client, true),
            Some(Value::Array(all)) => {
                let named = all.iter().any(|one| one.as_str() == Some(client));
                (named, all.len() == 1)
            }
            _ => (false, true),
        };
        named
            && match self.0.get("azp") {
                Some(party) => party.as_str() == Some(client),
                None => alone,
            }
    }

    /// One that is none gives nobody anything.
    fn groups(&self, claim: &str) -> Vec<String> {
        match self.0.get(claim) {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(all)) => (all.iter())
                .take(GROUPS_MAX)
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            _ => Vec::new(),
        }
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.0.get(claim)?.as_str()
    }

    /// RFC 7519 section 2, NumericDate: whole seconds are all that is looked at.
    fn time(&self, claim: &str) -> Option<Timestamp> {
        let value = self.0.get(claim)?;
        let seconds = match value.as_u64() {
            Some(seconds) => seconds,
            None => {
                let seconds = value
                    .as_f64()
                    .filter(|seconds| (0.0..1e11).contains(seconds))?;
                seconds as u64
            }
        };
        Some(Timestamp::from_seconds(seconds))
    }
}
