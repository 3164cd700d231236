//! `/api/v1/identity/roots/crl`: the revocation list of a root that is kept elsewhere.

use super::guard::Allowed;
use super::identity::{Recorded, invalid};
use super::read::Body;
use super::{Problem, Shared};
use crate::certify::root_list;
use crate::shared::to_its_end;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::Digest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is carried to the ceremony: TBSCertList in DER.
const REQUEST: &str = "FLEETWARD ROOT CRL REQUEST";

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RootListAsked {
    /// SHA-256 of the root's certificate, hex; absent: the root whose list is due.
    root_sha256: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct RootListRequest {
    /// For `fleetward identity root crl sign`.
    request_pem: String,
    /// Of the root that is to sign it.
    root_sha256: String,
}

/// The list of a root's revoked issuing CAs as it should be now, for the root to sign.
#[utoipa::path(post, path = "/api/v1/identity/roots/crl/request", tag = "identity",
    request_body = RootListAsked,
    responses((status = 200, body = RootListRequest), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn request_root_list(
    State(plane): State<Shared>,
    _: Allowed,
    Body(asked): Body<RootListAsked>,
) -> Result<Json<RootListRequest>, Problem> {
    let root = match asked.root_sha256 {
        None => None,
        Some(text) => Some(
            Digest::from_hex(&text)
                .ok_or_else(|| invalid("root_sha256 is 64 hexadecimal digits"))?,
        ),
    };
    let request = root_list::request(&plane, root).await?;
    Ok(Json(RootListRequest {
        request_pem: crate::pem::encode(REQUEST, &request.to_be_signed),
        root_sha256: request.root.to_string(),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RootList {
    /// What the root signed, one PEM block.
    crl_pem: String,
}

/// Serves a root's list from here on, at `/status/crl/<root>/1/0.crl`.
#[utoipa::path(put, path = "/api/v1/identity/roots/crl", tag = "identity", request_body = RootList,
    responses((status = 201, body = Recorded), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn install_root_list(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(list): Body<RootList>,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    let der = crate::pem::decode(&list.crl_pem, &["X509 CRL"])?;
    let receipt = to_its_end(async move { root_list::install(&plane, der, &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(receipt.into())))
}
