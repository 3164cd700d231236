//! `/api/v1/gateway/twins`: what state a device should have, and what it says that it has.

use crate::api::guard::Allowed;
use crate::api::read::{Asked, Named, Raw};
use crate::api::{Problem, Shared, problem::ProblemBody};
use crate::entries::Actor;
use crate::shared::to_its_end;
use crate::twinning::{self, Shown};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gateway::twin;
use model::DeviceId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

#[derive(Serialize, ToSchema)]
pub struct Twin {
    device: String,
    /// How often it was set; also the ETag, for `If-Match`. 0: never.
    version: u64,
    /// What it should be.
    #[schema(value_type = Object)]
    desired: Value,
    desired_at: Option<String>,
    desired_by: Option<String>,
    /// What it said last. Its own word, untrusted.
    #[schema(value_type = Option<Object>)]
    reported: Option<Value>,
    reported_at: Option<String>,
    /// What it still has to change: a merge patch from what it reported to what is desired.
    #[schema(value_type = Object)]
    delta: Value,
    /// Of the log; absent where this answer is not about an act.
    entry: Option<u64>,
    /// Of its sessions, told at once; it is told when it subscribes anyway.
    sessions_told: Option<u32>,
}

/// What a device should be and says that it is.
#[utoipa::path(get, path = "/api/v1/gateway/twins/{device}", tag = "gateway", operation_id = "twin",
    params(("device" = String, Path, description = "its name")),
    responses((status = 200, body = Twin), (status = 401, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub async fn show(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(device): Named<String>,
) -> Result<Response, Problem> {
    let device = device_id(&device)?;
    check_service(&plane, &actor)?;
    let shown = twinning::show(&plane, &device).await?;
    answer(shown, None, None)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SetAsked {
    /// `true`: say what would stand there and do nothing.
    dry_run: Option<bool>,
}

/// Changes what a device should be by a JSON merge patch (RFC 7396), if it is still at the version in
/// `If-Match`, `*` for any. At most 8 KiB, 8 levels deep.
#[utoipa::path(patch, path = "/api/v1/gateway/twins/{device}", tag = "gateway", operation_id = "set_twin",
    params(SetAsked, ("device" = String, Path, description = "its name"),
        ("If-Match" = String, Header, description = "the version that was read, as \"3\"; or *")),
    request_body(content = Object, content_type = "application/merge-patch+json"),
    responses((status = 200, body = Twin), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, body = ProblemBody), (status = 412, body = ProblemBody), (status = 428, body = ProblemBody)))]
pub async fn set(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(device): Named<String>,
    Asked(SetAsked { dry_run }): Asked<SetAsked>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Response, Problem> {
    let device = device_id(&device)?;
    check_service(&plane, &actor)?;
    let version = version_of(&headers)?;
    let patch = twin::read(&body).map_err(|refusal| {
        Problem::new(StatusCode::BAD_REQUEST, refusal.code(), refusal.to_string())
    })?;
    let (acting, dry_run) = (plane.clone(), dry_run == Some(true));
    let act =
        async move { twinning::set(&acting, &device, &patch, version, &actor, dry_run).await };
    let set = to_its_end(act).await?;
    let entry = set.receipt.map(|receipt| receipt.first_leaf_index);
    answer(set.shown, entry, (!dry_run).then_some(set.told))
}

fn check_service(plane: &Shared, actor: &Actor) -> Result<(), Problem> {
    match actor {
        Actor::Service(service) if !plane.admission.fleet.get().sets_desired_state(service) => {
            Err(Problem::new(
                StatusCode::FORBIDDEN,
                "not-for-desired-state",
                "only a service with sets_desired_state = true in the fleet may see and say what a \
                 device should be",
            ))
        }
        _ => Ok(()),
    }
}

/// `None`: any version.
fn version_of(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "version-needed",
            "say in If-Match which version you read, as \"3\", or * for any",
        ));
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    (version.and_then(|digits| digits.parse().ok()).map(Some)).ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "malformed",
            "If-Match holds a version in quotes, as \"3\", or *",
        )
    })
}

fn answer(shown: Shown, entry: Option<u64>, told: Option<u32>) -> Result<Response, Problem> {
    let version = shown.twin.version;
    let body = Twin {
        device: shown.twin.device.to_string(),
        version,
        desired: shown.desired,
        desired_at: shown.twin.desired_at.map(|at| at.to_string()),
        desired_by: shown.twin.desired_by,
        reported: shown.reported,
        reported_at: shown.twin.reported_at.map(|at| at.to_string()),
        delta: shown.delta,
        entry,
        sessions_told: told,
    };
    let mut response = Json(body).into_response();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

fn device_id(text: &str) -> Result<DeviceId, Problem> {
    DeviceId::new(text)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "malformed", error.to_string()))
}
