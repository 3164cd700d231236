//! `/api/v1/access/sign-in`: how people prove who they are, and `sign-out`.

use super::caller::{COOKIE, cookie_named};
use super::guard::{Admitted, Allowed};
use super::read::{Body, Posted};
use super::{Caller, Problem, Shared};
use crate::shared::to_its_end;
use crate::sign_in::passkey::{self, Answer};
use crate::sign_in::provider::{self, sign_out as signing_out};
use crate::sign_in::{self, Asking, Refused, link};
use crate::trouble::Trouble;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a browser keeps while it is at the provider.
const BEGUN: &str = "__Host-fleetward-begun";
const BEGUN_SECONDS: u64 = sign_in::challenges::LIFETIME.as_secs();

#[derive(Serialize, ToSchema)]
pub struct WaysIn {
    /// The console has a name, so that passkeys can be.
    passkey: bool,
    /// What the provider of identities is called, if one is configured.
    provider: Option<String>,
}

/// How somebody can sign in here besides by a link.
#[utoipa::path(get, path = "/api/v1/access/sign-in", tag = "access", operation_id = "ways_in",
    responses((status = 200, body = WaysIn)))]
pub async fn ways(State(plane): State<Shared>) -> Json<WaysIn> {
    let provider = plane.provider.as_ref();
    Json(WaysIn {
        passkey: plane.console().relying_party().is_ok(),
        provider: provider.map(|provider| provider.name().to_owned()),
    })
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// From the link's fragment.
    token: String,
}

/// Spends a sign-in link; the answer carries the session's cookie.
#[utoipa::path(post, path = "/api/v1/access/sign-in", tag = "access", request_body = SignIn,
    responses((status = 204), (status = 409, body = super::problem::ProblemBody)))]
pub async fn sign_in(
    State(plane): State<Shared>,
    Extension(caller): Extension<Caller>,
    admitted: Admitted,
    Body(request): Body<SignIn>,
) -> Result<Response, Problem> {
    let asking = asking(&caller, admitted);
    let cookie = to_its_end(async move { link::sign_in(&plane, &request.token, &asking).await });
    Ok(signed_in(&cookie.await?))
}

#[derive(Serialize, ToSchema)]
pub struct PasskeyQuestion {
    /// To be signed; base64url, as all bytes here.
    challenge: String,
    expires_at: String,
    /// The `rpId`.
    relying_party: String,
    /// Passkeys of whoever is signed in; empty: any that the browser has.
    passkeys: Vec<String>,
}

/// What a passkey is to sign. Its holder is to be verified.
#[utoipa::path(post, path = "/api/v1/access/sign-in/challenges", tag = "access",
    operation_id = "ask_passkey",
    responses((status = 200, body = PasskeyQuestion), (status = 409, body = super::problem::ProblemBody)))]
pub async fn ask_passkey(
    State(plane): State<Shared>,
    Extension(caller): Extension<Caller>,
    admitted: Admitted,
) -> Result<Json<PasskeyQuestion>, Problem> {
    let begun = passkey::begin(&plane, &asking(&caller, admitted))?;
    let encode = |bytes: &Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
    Ok(Json(PasskeyQuestion {
        challenge: encode(&begun.challenge),
        expires_at: begun.ends_at.to_string(),
        relying_party: begun.relying_party,
        passkeys: begun.credentials.iter().map(encode).collect(),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasskeyAnswer {
    challenge: String,
    /// The `rawId`.
    credential: String,
    /// `clientDataJSON`.
    client_data: String,
    authenticator_data: String,
    signature: String,
    /// `userHandle`, if there is one.
    #[serde(default)]
    user: Option<String>,
}

/// Signs in with a passkey. Whoever is signed in already proves anew who they are: dangerous acts ask
/// for it.
#[utoipa::path(post, path = "/api/v1/access/sign-in/passkey", tag = "access",
    request_body = PasskeyAnswer, operation_id = "sign_in_by_passkey",
    responses((status = 204), (status = 400, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn by_passkey(
    State(plane): State<Shared>,
    Extension(caller): Extension<Caller>,
    admitted: Admitted,
    Body(answer): Body<PasskeyAnswer>,
) -> Result<Response, Problem> {
    let asking = asking(&caller, admitted);
    let answer = Answer {
        challenge: bytes(&answer.challenge)?,
        credential: bytes(&answer.credential)?,
        client_data: bytes(&answer.client_data)?,
        authenticator_data: bytes(&answer.authenticator_data)?,
        signature: bytes(&answer.signature)?,
        user: answer.user.as_deref().map(bytes).transpose()?,
    };
    let cookie =
        to_its_end(async move { passkey::sign_in(&plane, &answer, &asking).await }).await?;
    Ok(signed_in(&cookie))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderWanted {
    /// Whoever is signed in at the provider proves anew who they are.
    #[serde(default)]
    again: bool,
}

#[derive(Serialize, ToSchema)]
pub struct ProviderBegun {
    /// Where the browser goes.
    location: String,
}

/// Begins to sign in by the provider. The browser comes back to `/` with `code` and `state`, and with
/// the cookie that this answer sets.
#[utoipa::path(post, path = "/api/v1/access/sign-in/provider", tag = "access",
    request_body = ProviderWanted, operation_id = "begin_by_provider",
    responses((status = 200, body = ProviderBegun), (status = 404, body = super::problem::ProblemBody)))]
pub async fn begin_by_provider(
    State(plane): State<Shared>,
    _: Admitted,
    Body(wanted): Body<ProviderWanted>,
) -> Result<Response, Problem> {
    let begun = provider::begin(&plane, wanted.again).await?;
    let mut response = Json(ProviderBegun {
        location: begun.location,
    })
    .into_response();
    set_cookie(&mut response, BEGUN, &begun.cookie, Some(BEGUN_SECONDS));
    Ok(response)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderAnswer {
    code: String,
    state: String,
    /// If the address has it.
    #[serde(default)]
    iss: Option<String>,
}

/// Signs in whom the provider names.
#[utoipa::path(post, path = "/api/v1/access/sign-in/provider/code", tag = "access",
    request_body = ProviderAnswer, operation_id = "sign_in_by_provider",
    responses((status = 204), (status = 404, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn by_provider(
    State(plane): State<Shared>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    admitted: Admitted,
    Body(answer): Body<ProviderAnswer>,
) -> Result<Response, Problem> {
    let asking = asking(&caller, admitted);
    let answer = provider::Answer {
        cookie: cookie_named(&headers, BEGUN).unwrap_or_default().to_owned(),
        code: answer.code,
        state: answer.state,
        issuer: answer.iss,
    };
    let cookie = provider::sign_in(&plane, &answer, asking).await?;
    let mut response = signed_in(&cookie);
    set_cookie(&mut response, BEGUN, "", Some(0));
    Ok(response)
}

/// As the standard names it; what else is in the form is passed over (Back-Channel Logout 1.0, section
/// 2.5).
#[derive(Deserialize, ToSchema)]
pub struct ProviderSignOut {
    logout_token: String,
}

/// The provider tells that somebody signed out there (OpenID Connect Back-Channel Logout 1.0). What
/// they have open here by it is over.
#[utoipa::path(post, path = "/api/v1/access/sign-in/provider/sign-out", tag = "access",
    request_body(content = ProviderSignOut, content_type = "application/x-www-form-urlencoded"),
    operation_id = "sign_out_by_provider",
    responses((status = 200), (status = 400, body = super::problem::ProblemBody),
        (status = 404, body = super::problem::ProblemBody)))]
pub async fn out_by_provider(
    State(plane): State<Shared>,
    _: Admitted,
    Posted(form): Posted<ProviderSignOut>,
) -> Result<StatusCode, Problem> {
    let told = to_its_end(async move { signing_out::told(&plane, &form.logout_token).await });
    match told.await {
        Ok(()) => Ok(StatusCode::OK),
        // Section 2.8: all that is wrong with its word is one status.
        Err(refused @ Trouble::Refused { .. }) => {
            let mut problem = Problem::from(refused);
            problem.set_status(StatusCode::BAD_REQUEST);
            Err(problem)
        }
        Err(trouble) => Err(trouble.into()),
    }
}

#[derive(Serialize, ToSchema)]
pub struct SignInRefused {
    at: String,
    /// `link`, `passkey` or `provider`.
    way: &'static str,
    code: &'static str,
    /// What they were told.
    detail: String,
    from: Option<String>,
}

impl From<Refused> for SignInRefused {
    fn from(refused: Refused) -> Self {
        Self {
            at: refused.at.to_string(),
            way: refused.way.name(),
            code: refused.code,
            detail: refused.text,
            from: refused.from.map(|from| from.to_canonical().to_string()),
        }
    }
}

/// Who was not let in of late and why, the newest first: for whoever can help them. Gone after a
/// restart.
#[utoipa::path(get, path = "/api/v1/access/sign-in/refusals", tag = "access",
    operation_id = "sign_in_refusals",
    responses((status = 200, body = [SignInRefused]), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody)))]
pub async fn refusals(State(plane): State<Shared>, _: Allowed) -> Json<Vec<SignInRefused>> {
    let refusals = plane.sign_ins.refusals().into_iter();
    Json(refusals.map(Into::into).collect())
}

#[derive(Serialize, ToSchema)]
pub struct SignedOut {
    /// Where whoever came by the provider signs out there too; before, they are signed in again by a
    /// click.
    provider_location: Option<String>,
}

/// Ends the session that asks, on every screen that it has open. Who asks by anything else has none.
#[utoipa::path(post, path = "/api/v1/access/sign-out", tag = "access",
    responses((status = 200, body = SignedOut), (status = 401, body = super::problem::ProblemBody)))]
pub async fn sign_out(
    State(plane): State<Shared>,
    admitted: Admitted,
) -> Result<Response, Problem> {
    let mut provider_location = None;
    if let (Some(session), Some(actor)) = (&admitted.who.session, &admitted.who.actor) {
        provider_location = signing_out::location(&plane, session);
        sign_in::sign_out(&plane, actor, &session.name).await?;
    }
    let mut response = Json(SignedOut { provider_location }).into_response();
    set_cookie(&mut response, COOKIE, "", Some(0));
    Ok(response)
}

fn asking(caller: &Caller, admitted: Admitted) -> Asking {
    let from = match caller {
        Caller::Local { .. } => None,
        Caller::Peer { peer, .. } | Caller::Asking { peer, .. } | Caller::Stranger { peer } => {
            Some(peer.ip())
        }
    };
    Asking {
        from,
        before: admitted.who.session,
    }
}

fn signed_in(cookie: &str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, COOKIE, cookie, None);
    response
}

fn set_cookie(response: &mut Response, name: &str, value: &str, seconds: Option<u64>) {
    let ends = seconds.map_or_else(String::new, |seconds| format!("; Max-Age={seconds}"));
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict{ends}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// base64url without padding, as browsers' own `toJSON` writes it.
pub(super) fn bytes(text: &str) -> Result<Vec<u8>, Problem> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| {
        let text = "bytes are written in base64url without padding";
        Problem::new(StatusCode::BAD_REQUEST, "request-refused", text)
    })
}
