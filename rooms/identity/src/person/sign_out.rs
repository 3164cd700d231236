//! Sign-outs that a provider tells of (OpenID Connect Back-Channel Logout 1.0): whoever signed out
//! there is to be out here.

use super::id_token::IdTokenRefusal;
use super::provider::Keys;
use super::signed::Claims;
use model::Timestamp;
use std::time::Duration;

/// What kind of event it is (section 2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// It is sent at once: what lay about longer is not taken, so that it need not be remembered longer
/// to be heard once.
const AGE_MAX: Duration = Duration::from_secs(120);

/// To whom it must be said, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub issuer: &'a str,
    /// Who we are to it.
    pub client: &'a str,
    pub now: Timestamp,
}

/// The ticket of a sign-out that the provider told of.
#[derive(Debug, PartialEq, Eq)]
pub struct SignedOut {
    id: String,
    subject: Option<String>,
    session: Option<String>,
}

impl SignedOut {
    /// Tells this word of the provider's from its others.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether a session that the provider opened for this subject, and calls so, is over. Without a
    /// session all of the subject's are; one that it never gave a name is, where the subject fits.
    #[must_use]
    pub fn ends(&self, of_subject: bool, session: Option<&str>) -> bool {
        let by_subject = self.subject.is_some();
        let fits_session = match (self.session.as_deref(), session) {
            (Some(over), Some(session)) => over == session,
            (None, _) | (_, None) => by_subject,
        };
        fits_session && (!by_subject || of_subject)
    }

    /// At the provider; `None`: whoever has the session.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }
}

/// Who signed out, if the provider says so, to us, just now (section 2.6).
///
/// # Errors
/// [`IdTokenRefusal`]. [`IdTokenRefusal::UnknownKey`] may mean that the keys are old: ask with new
/// ones.
pub fn verify(token: &str, keys: &Keys, asked: &Asked<'_>) -> Result<SignedOut, IdTokenRefusal> {
    let claims = Claims::of(token, keys, &["logout+jwt", "JWT"])?;
    claims.check_parties(asked.issuer, asked.client)?;
    let event = claims.get("events").and_then(|events| events.get(EVENT));
    // An ID token has a nonce and no events: neither is taken for the other.
    if !event.is_some_and(serde_json::Value::is_object) || claims.get("nonce").is_some() {
        return Err(IdTokenRefusal::OtherKind);
    }
    claims.check_times(asked.now, AGE_MAX)?;
    let malformed = IdTokenRefusal::Malformed("the token");
    let named = |claim: &str| match claims.get(claim) {
        None => Ok(None),
        Some(_) => claims
            .name(claim)
            .map(str::to_owned)
            .map(Some)
            .ok_or(malformed),
    };
    let (subject, session) = (named("sub")?, named("sid")?);
    if subject.is_none() && session.is_none() {
        return Err(malformed);
    }
    Ok(SignedOut {
        id: named("jti")?.ok_or(malformed)?,
        subject,
        session,
    })
}
