//! What a provider's token claims, once its signature has held (RFC 7515, RFC 7519).

use super::id_token::IdTokenRefusal;
use super::provider::Keys;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

pub const TOKEN_BYTES_MAX: usize = 32 * 1024;
/// How far the provider's clock and ours may be apart.
pub const SKEW: Duration = Duration::from_secs(60);

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

pub(super) struct Claims(Map<String, Value>);

impl Claims {
    /// Of a token that one of these keys signed. `kinds`: what its header may call it, if it says.
    pub(super) fn of(token: &str, keys: &Keys, kinds: &[&str]) -> Result<Self, IdTokenRefusal> {
        let malformed = IdTokenRefusal::Malformed("the token");
        if token.len() > TOKEN_BYTES_MAX {
            return Err(malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(malformed)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| malformed)?;
        if header.crit.is_some() {
            return Err(IdTokenRefusal::OtherKind);
        }
        let is_one_of = |typ: String| kinds.iter().any(|kind| typ.eq_ignore_ascii_case(kind));
        if !header.typ.is_none_or(is_one_of) {
            return Err(IdTokenRefusal::OtherKind);
        }
        let signature = decode(signature)?;
        keys.verify(
            &header.alg,
            header.kid.as_deref(),
            signed.as_bytes(),
            &signature,
        )?;
        // Not looked at before this line.
        let claims = serde_json::from_slice(&decode(claims)?).map_err(|_| malformed)?;
        Ok(Self(claims))
    }

    /// That it is this provider's, and for us: alone, or with others and us as the authorized party.
    pub(super) fn check_parties(&self, issuer: &str, client: &str) -> Result<(), IdTokenRefusal> {
        if self.text("iss") != Some(issuer) {
            return Err(IdTokenRefusal::OtherIssuer);
        }
        let (named, alone) = match self.0.get("aud") {
            Some(Value::String(one)) => (one == client, true),
            Some(Value::Array(all)) => {
                let named = all.iter().any(|one| one.as_str() == Some(client));
                (named, all.len() == 1)
            }
            _ => (false, true),
        };
        let authorized = match self.0.get("azp") {
            Some(party) => party.as_str() == Some(client),
            None => alone,
        };
        if !named || !authorized {
            return Err(IdTokenRefusal::OtherAudience);
        }
        Ok(())
    }

    /// That it was made within this time, and has not ended.
    pub(super) fn check_times(
        &self,
        now: Timestamp,
        age_max: Duration,
    ) -> Result<(), IdTokenRefusal> {
        let malformed = IdTokenRefusal::Malformed("the token");
        let early = now.minus(SKEW);
        let ends_at = self.time("exp").ok_or(malformed)?;
        let made_at = self.time("iat").ok_or(malformed)?;
        if ends_at <= early || made_at.plus(age_max) <= early {
            return Err(IdTokenRefusal::Expired);
        }
        let starts = [Some(made_at), self.time("nbf"), self.time("auth_time")];
        if (starts.into_iter().flatten()).any(|at| at > now.plus(SKEW)) {
            return Err(IdTokenRefusal::NotYet);
        }
        Ok(())
    }

    pub(super) fn get(&self, claim: &str) -> Option<&Value> {
        self.0.get(claim)
    }

    pub(super) fn text(&self, claim: &str) -> Option<&str> {
        self.0.get(claim)?.as_str()
    }

    /// Names somebody or something: not empty, and as long as a subject may be (OpenID Connect Core,
    /// section 2).
    pub(super) fn name(&self, claim: &str) -> Option<&str> {
        const NAME_BYTES_MAX: usize = 255;
        self.text(claim)
            .filter(|name| (1..=NAME_BYTES_MAX).contains(&name.len()))
    }

    /// RFC 7519 section 2, NumericDate: whole seconds are all that is looked at.
    pub(super) fn time(&self, claim: &str) -> Option<Timestamp> {
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
