//! `/api/v1/access/passkeys`: one's own passkeys.

use super::guard::{Admitted, Allowed};
use super::identity::Recorded;
use super::read::{Body, Named};
use super::sign_in::bytes;
use super::{Problem, Shared};
use crate::people::passkeys::{self, Made};
use crate::shared::to_its_end;
use crate::sign_in::Session;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::person::passkey::ALGORITHMS;
use model::{PasskeyId, PersonId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct Passkey {
    /// Names it in the log.
    passkey: String,
    /// What its person calls it.
    note: String,
    /// It may be on several devices of its person.
    synced: bool,
    made_at: String,
    used_at: Option<String>,
}

impl From<store::Passkey> for Passkey {
    fn from(row: store::Passkey) -> Self {
        Self {
            passkey: row.id.to_string(),
            note: row.note,
            synced: row.synced,
            made_at: row.made_at.to_string(),
            used_at: row.used_at.map(|at| at.to_string()),
        }
    }
}

/// One's own, the oldest first.
#[utoipa::path(get, path = "/api/v1/access/passkeys", tag = "access", operation_id = "passkeys",
    responses((status = 200, body = [Passkey]), (status = 401, body = super::problem::ProblemBody)))]
pub async fn list(State(plane): State<Shared>, admitted: Admitted) -> Json<Vec<Passkey>> {
    let session = admitted.who.session;
    let own = session.map(|session| plane.roster.passkeys_of(&session.person));
    let own = own.unwrap_or_default().into_iter();
    Json(own.map(Into::into).collect())
}

#[derive(Serialize, ToSchema)]
pub struct PasskeyOffer {
    /// base64url, as all bytes here.
    challenge: String,
    expires_at: String,
    /// The `rp.id`.
    relying_party: String,
    /// The `user.id`.
    user: String,
    /// What the authenticator shows.
    name: String,
    /// `pubKeyCredParams`, the best first.
    algorithms: Vec<i64>,
    /// `excludeCredentials`.
    known: Vec<String>,
}

/// What a browser needs to make a passkey.
#[utoipa::path(post, path = "/api/v1/access/passkeys/challenges", tag = "access",
    operation_id = "offer_passkey",
    responses((status = 200, body = PasskeyOffer), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn offer(
    State(plane): State<Shared>,
    admitted: Admitted,
) -> Result<Json<PasskeyOffer>, Problem> {
    let begun = passkeys::begin(&plane, &own_session(&admitted)?)?;
    let encode = |bytes: &Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
    Ok(Json(PasskeyOffer {
        challenge: encode(&begun.challenge),
        expires_at: begun.ends_at.to_string(),
        relying_party: begun.relying_party,
        user: encode(&begun.user),
        name: begun.name,
        algorithms: ALGORITHMS.to_vec(),
        known: begun.known.iter().map(encode).collect(),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPasskey {
    challenge: String,
    /// `clientDataJSON`.
    client_data: String,
    /// `attestationObject`, of the format `none`.
    attestation: String,
    /// What its person calls it; 128 bytes at most.
    note: String,
}

#[derive(Serialize, ToSchema)]
pub struct PasskeyAdded {
    passkey: Passkey,
    recorded: Recorded,
}

/// Adds a passkey of one's own. From then on dangerous acts ask for one.
#[utoipa::path(post, path = "/api/v1/access/passkeys", tag = "access", request_body = NewPasskey,
    operation_id = "add_passkey",
    responses((status = 201, body = PasskeyAdded), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 403, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn add(
    State(plane): State<Shared>,
    admitted: Admitted,
    Allowed(actor): Allowed,
    Body(new): Body<NewPasskey>,
) -> Result<(StatusCode, Json<PasskeyAdded>), Problem> {
    let session = own_session(&admitted)?;
    let made = Made {
        challenge: bytes(&new.challenge)?,
        client_data: bytes(&new.client_data)?,
        attestation: bytes(&new.attestation)?,
        note: new.note,
    };
    let (row, receipt) =
        to_its_end(async move { passkeys::add(&plane, &session, made, &actor).await }).await?;
    let added = PasskeyAdded {
        passkey: row.into(),
        recorded: receipt.into(),
    };
    Ok((StatusCode::CREATED, Json(added)))
}

/// Takes a passkey of one's own away; it signs nobody in from here on.
#[utoipa::path(delete, path = "/api/v1/access/passkeys/{passkey}", tag = "access",
    params(("passkey" = String, Path, description = "`k-…`")), operation_id = "remove_passkey",
    responses((status = 200, body = Recorded), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 404, body = super::problem::ProblemBody)))]
pub async fn remove(
    State(plane): State<Shared>,
    admitted: Admitted,
    Allowed(actor): Allowed,
    Named(passkey): Named<String>,
) -> Result<Json<Recorded>, Problem> {
    let person = own_session(&admitted)?.person;
    let id = passkey_id(&passkey)?;
    let receipt =
        to_its_end(async move { passkeys::remove(&plane, &person, &id, &actor).await }).await?;
    Ok(Json(receipt.into()))
}

/// Takes a passkey of somebody away, who lost it: their sessions end too.
#[utoipa::path(delete, path = "/api/v1/access/people/{person}/passkeys/{passkey}", tag = "access",
    params(("person" = String, Path, description = "`p-…`"),
        ("passkey" = String, Path, description = "`k-…`")), operation_id = "remove_passkey_of",
    responses((status = 200, body = Recorded), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 404, body = super::problem::ProblemBody)))]
pub async fn remove_of(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named((person, passkey)): Named<(String, String)>,
) -> Result<Json<Recorded>, Problem> {
    let person = PersonId::new(&person).map_err(|error| refused(error.to_string()))?;
    let id = passkey_id(&passkey)?;
    let receipt =
        to_its_end(async move { passkeys::remove(&plane, &person, &id, &actor).await }).await?;
    Ok(Json(receipt.into()))
}

/// Only a person has passkeys, and the policies let nobody else come here.
fn own_session(admitted: &Admitted) -> Result<Session, Problem> {
    admitted.who.session.clone().ok_or_else(|| {
        let text = "only somebody who signed in has passkeys";
        Problem::new(StatusCode::FORBIDDEN, "not-a-person", text)
    })
}

fn passkey_id(text: &str) -> Result<PasskeyId, Problem> {
    PasskeyId::new(text).map_err(|error| refused(error.to_string()))
}

fn refused(text: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "request-refused", text)
}
