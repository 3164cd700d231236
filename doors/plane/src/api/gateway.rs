//! `/api/v1/gateway`: who is connected, and what devices are told.

pub mod commands;

use super::guard::Allowed;
use super::{Problem, Shared};
use axum::Json;
use axum::extract::State;

use serde::Serialize;
use utoipa::ToSchema;

/// Sessions listed in one answer, at most.
const SESSIONS_MAX: usize = 10_000;

#[derive(Serialize, ToSchema)]
pub struct Session {
    /// `device/<id>` or `service/<id>`.
    principal: String,
    client_id: String,
    connected: bool,
    persistent: bool,
    shard: u16,
    opened_at: String,
    subscriptions: usize,
    queued_messages: usize,
    queued_bytes: usize,
}

/// MQTT sessions, live and waiting.
#[utoipa::path(get, path = "/api/v1/gateway/sessions", tag = "gateway",
    responses((status = 200, body = [Session]), (status = 401, body = super::problem::ProblemBody)))]
pub async fn sessions(
    State(plane): State<Shared>,
    _: Allowed,
) -> Result<Json<Vec<Session>>, Problem> {
    let reports = plane.shards().reports(true).await;
    let sessions = reports
        .into_iter()
        .flat_map(|report| report.sessions)
        .take(SESSIONS_MAX)
        .map(|session| Session {
            principal: session.principal.to_string(),
            client_id: session.client_id,
            connected: session.connected,
            persistent: session.persistent,
            shard: session.shard,
            opened_at: session.opened_at.to_string(),
            subscriptions: session.subscriptions,
            queued_messages: session.queued_messages,
            queued_bytes: session.queued_bytes,
        })
        .collect();
    Ok(Json(sessions))
}
