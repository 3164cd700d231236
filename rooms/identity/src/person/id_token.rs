//! ID tokens (OpenID Connect Core 1.0): what a provider says of somebody who signed in there.
//!
//! A token is believed for its signature by a key of the provider's, for us, for this one sign-in.
//! Which algorithm a key is for is the key's word, never the token's (RFC 8725 section 3.1).

use super::provider::Keys;
use super::signed::Claims;
pub use super::signed::{SKEW, TOKEN_BYTES_MAX};
use crate::Actor;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use model::Timestamp;
use serde_json::Value;
use std::time::Duration;

const GROUPS_MAX: usize = 1024;
/// A token is fetched at once; one that lay about is not taken.
const AGE_MAX: Duration = Duration::from_secs(600);

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
    session: Option<String>,
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

    /// What the provider calls the session there, if it does (Front-Channel Logout 1.0, section 3):
    /// a sign-out names it.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
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

/// Whom a token tells of, if it is the provider's, for us, and answers what was asked (OpenID
/// Connect Core, section 3.1.3.7).
///
/// # Errors
/// [`IdTokenRefusal`]. [`IdTokenRefusal::UnknownKey`] may mean that the keys are old: ask with new
/// ones.
pub fn verify(token: &str, keys: &Keys, asked: &Asked<'_>) -> Result<Known, IdTokenRefusal> {
    let claims = Claims::of(token, keys, &["JWT"])?;
    claims.check_parties(asked.issuer, asked.client)?;
    let nonce = claims.text("nonce").unwrap_or_default();
    if asked.nonce.is_empty()
        || verify_slices_are_equal(nonce.as_bytes(), asked.nonce.as_bytes()).is_err()
    {
        return Err(IdTokenRefusal::OtherNonce);
    }
    claims.check_times(asked.now, AGE_MAX)?;
    let proven_at = claims.time("auth_time");
    if let Some(since) = asked.proven_since
        && proven_at.is_none_or(|at| at.plus(SKEW) < since)
    {
        return Err(IdTokenRefusal::NotFresh);
    }
    let subject = (claims.name("sub")).ok_or(IdTokenRefusal::Malformed("the token"))?;
    let called = ["name", "preferred_username", "email"];
    let name = called.iter().find_map(|claim| claims.text(claim));
    Ok(Known {
        subject: subject.to_owned(),
        name: name.unwrap_or_default().to_owned(),
        groups: groups(claims.get(asked.groups_claim)),
        proven_at,
        session: claims.name("sid").map(str::to_owned),
    })
}

/// One that is none gives nobody anything.
fn groups(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => (all.iter())
            .take(GROUPS_MAX)
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}
