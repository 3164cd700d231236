//! `/api/v1/identity/roots`: the root moves offline, another takes its place, and devices say that
//! they know it.

use super::caller::Shown;
use super::guard::Allowed;
use super::identity::{Recorded, invalid};
use super::read::Body;
use super::{Problem, Shared};
use crate::certify::roots;
use crate::entries::Actor;
use crate::shared::to_its_end;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::Digest;
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
    Allowed(actor): Allowed,
    Body(next): Body<NextRoot>,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    let certificates = crate::pem::decode_all(&next.certificates_pem, "CERTIFICATE", 3)?;
    let receipt =
        to_its_end(async move { roots::announce(&plane, certificates, &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(receipt.into())))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RootStep {
    /// Only says what it would meet.
    #[serde(default)]
    dry_run: bool,
    /// Though devices have not said that they believe the root which serves then.
    #[serde(default)]
    even_if_unlearned: bool,
}

#[derive(Serialize, ToSchema)]
pub struct RootSpread {
    /// The root that all should believe: SHA-256 of its certificate.
    root_sha256: String,
    /// Devices that have enrolled and are not barred.
    devices: usize,
    /// Of them: those that have not said that they believe it.
    unlearned: usize,
    /// The first 20 of those.
    examples: Vec<String>,
    /// Expected, never enrolled: they know what the factory gave them.
    not_enrolled: usize,
}

/// The next root takes the place of the one that serves, and this plane's certificate moves below
/// it. Refused while devices have not learned it, unless that is said to be meant.
#[utoipa::path(post, path = "/api/v1/identity/roots/rollover", tag = "identity",
    request_body = RootStep,
    responses((status = 200, body = RootSpread, description = "dry_run: nothing was done"),
        (status = 201, body = Recorded), (status = 401, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn roll_root_over(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(asked): Body<RootStep>,
) -> Result<Response, Problem> {
    if asked.dry_run {
        return spread(&plane, roots::Step::RollOver).await;
    }
    let anyway = asked.even_if_unlearned;
    let receipt = to_its_end(async move { roots::roll_over(&plane, anyway, &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(Recorded::from(receipt))).into_response())
}

/// The root before the one that serves is believed no more: no link to it is shown, and devices
/// forget it. Refused while devices have not learned the one that serves.
#[utoipa::path(post, path = "/api/v1/identity/roots/retire", tag = "identity",
    request_body = RootStep,
    responses((status = 200, body = RootSpread, description = "dry_run: nothing was done"),
        (status = 201, body = Recorded), (status = 401, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn retire_root(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(asked): Body<RootStep>,
) -> Result<Response, Problem> {
    if asked.dry_run {
        return spread(&plane, roots::Step::Retire).await;
    }
    let anyway = asked.even_if_unlearned;
    let receipt = to_its_end(async move { roots::retire(&plane, anyway, &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(Recorded::from(receipt))).into_response())
}

async fn spread(plane: &Shared, step: roots::Step) -> Result<Response, Problem> {
    let spread = roots::spread(plane, step).await?;
    let examples = spread.examples.iter().map(ToString::to_string).collect();
    let body = RootSpread {
        root_sha256: spread.root.to_string(),
        devices: spread.devices,
        unlearned: spread.unlearned,
        examples,
        not_enrolled: spread.not_enrolled,
    };
    Ok(Json(body).into_response())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LearnedRoots {
    /// SHA-256 of each root certificate that the device believes, hex; 16 at most.
    sha256: Vec<String>,
}

/// A device says by which roots it knows this plane: all of them, each time. By its certificate of
/// ours, at the door for devices.
#[utoipa::path(put, path = "/api/v1/identity/roots/learned", tag = "identity",
    request_body = LearnedRoots,
    responses((status = 204), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody)))]
pub async fn learned_roots(
    State(plane): State<Shared>,
    Shown(presented): Shown,
    Body(told): Body<LearnedRoots>,
) -> Result<StatusCode, Problem> {
    const ROOTS_MAX: usize = 16;
    let roots = (told.sha256.iter().map(|text| Digest::from_hex(text)))
        .collect::<Option<Vec<Digest>>>()
        .filter(|roots| roots.len() <= ROOTS_MAX)
        .ok_or_else(|| invalid("sha256 holds up to 16 digests of 64 hexadecimal digits"))?;
    to_its_end(async move { roots::hear_learned(&plane, &presented, &roots).await }).await?;
    Ok(StatusCode::NO_CONTENT)
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
    Allowed(actor): Allowed,
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
    Allowed(actor): Allowed,
) -> Result<Json<Recorded>, Problem> {
    here(&actor)?;
    let receipt = to_its_end(async move { roots::destroy(&plane, &actor).await }).await?;
    Ok(Json(receipt.into()))
}

/// A CA's key never crosses a network, and a stolen session cannot ask for it.
pub(super) fn here(actor: &Actor) -> Result<(), Problem> {
    if matches!(actor, Actor::Local { .. }) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "not-here",
        "a CA's key is moved from the command line on the plane's own machine",
    ))
}
