//! `/api/v1/identity/roots`: the root moves offline, and another takes its place.

use super::caller::Administrator;
use super::identity::Recorded;
use super::read::Body;
use super::{Problem, Shared};
use crate::certify::roots;
use crate::entries::Actor;
use crate::shared::to_its_end;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NextRoot {
    /// The new root, its link by the one that serves, and that one's by it: three PEM blocks, as
    /// `fleetward identity root link` writes them.
    certificates_pem: String,
}

/// Makes the next root known to devices. It serves nobody yet.
#[utoipa::path(post, path = "/api/v1/identity/roots", tag = "identity", request_body = NextRoot,
    responses((status = 201, body = Recorded), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn announce_root(
    State(plane): State<Shared>,
    Administrator(actor): Administrator,
    Body(next): Body<NextRoot>,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    let certificates = crate::pem::decode_all(&next.certificates_pem, "CERTIFICATE", 3)?;
    let receipt =
        to_its_end(async move { roots::announce(&plane, certificates, &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(receipt.into())))
}

/// The next root takes the place of the one that serves, and this plane's certificate moves below
/// it.
#[utoipa::path(post, path = "/api/v1/identity/roots/rollover", tag = "identity",
    responses((status = 201, body = Recorded), (status = 401, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn roll_root_over(
    State(plane): State<Shared>,
    Administrator(actor): Administrator,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    let receipt = to_its_end(async move { roots::roll_over(&plane, &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(receipt.into())))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RootExport {
    /// Under which the bundle is sealed, 12 characters at least.
    passphrase: String,
}

#[derive(Serialize, ToSchema)]
pub struct RootExported {
    /// To be written to a file and kept offline.
    bundle: String,
    recorded: Recorded,
}

/// The root's key as a bundle. To a user of the plane's own machine only.
#[utoipa::path(post, path = "/api/v1/identity/roots/export", tag = "identity",
    request_body = RootExport,
    responses((status = 201, body = RootExported), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn export_root(
    State(plane): State<Shared>,
    Administrator(actor): Administrator,
    Body(export): Body<RootExport>,
) -> Result<(StatusCode, Json<RootExported>), Problem> {
    let passphrase = Zeroizing::new(export.passphrase);
    here(&actor)?;
    let (bundle, receipt) =
        to_its_end(async move { roots::export(&plane, passphrase, &actor).await }).await?;
    let answer = RootExported {
        bundle,
        recorded: receipt.into(),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Removes the root's key from this machine, for good. To a user of this machine only.
#[utoipa::path(delete, path = "/api/v1/identity/roots/key", tag = "identity",
    responses((status = 200, body = Recorded), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn destroy_root_key(
    State(plane): State<Shared>,
    Administrator(actor): Administrator,
) -> Result<Json<Recorded>, Problem> {
    here(&actor)?;
    let receipt = to_its_end(async move { roots::destroy(&plane, &actor).await }).await?;
    Ok(Json(receipt.into()))
}

/// A root's key never crosses a network, and a stolen session cannot ask for it.
fn here(actor: &Actor) -> Result<(), Problem> {
    if matches!(actor, Actor::Local { .. }) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "not-here",
        "the root's key is moved from the command line on the plane's own machine",
    ))
}
