//! `/api/v1/gateway/forward`: how forwarding to another broker stands.

use crate::api::Shared;
use crate::api::guard::Allowed;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct Forward {
    /// `host:port` of the other broker; absent: nothing is forwarded.
    upstream: Option<String>,
    /// `off`, `connecting`, `forwarding`, `waiting` (it failed and is tried again).
    state: &'static str,
    since: String,
    /// Why it failed last.
    trouble: Option<String>,
    /// How often both ends stood, since the start.
    connected: u64,
    /// Messages handed to the other broker, and of these what it acknowledged.
    up: u64,
    up_acknowledged: u64,
    /// Messages from there that our door took, and refused.
    down: u64,
    down_refused: u64,
}

/// How forwarding to another broker stands.
#[utoipa::path(get, path = "/api/v1/gateway/forward", tag = "gateway",
    responses((status = 200, body = Forward), (status = 401, body = crate::api::problem::ProblemBody)))]
pub async fn forward(State(plane): State<Shared>, _: Allowed) -> Json<Forward> {
    let standing = plane.forwarding.standing();
    let upstream = plane.config.forward.upstream.clone();
    Json(Forward {
        upstream: (!upstream.is_empty()).then_some(upstream),
        state: standing.state,
        since: standing.since.to_string(),
        trouble: standing.trouble,
        connected: standing.connected,
        up: standing.counts.up,
        up_acknowledged: standing.counts.up_acknowledged,
        down: standing.counts.down,
        down_refused: standing.counts.down_refused,
    })
}
