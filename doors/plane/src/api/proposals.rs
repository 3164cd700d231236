//! `/api/v1/access/proposals`: acts that wait for a second person.

use super::caller::Who;
use super::gateway::commands::released;
use super::guard::{Admitted, Allowed};
use super::page::{Page, Rows};
use super::read::{Asked, Body, Named};
use super::second::request_of;
use super::{Caller, FLEET_BYTES_MAX, Problem, Shared};
use crate::people::proposals::{self, Approved};
use crate::shared::to_its_end;
use crate::trouble::Trouble;
use axum::body::to_bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use model::{Digest, ProposalId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct Proposal {
    proposal: String,
    /// `policy`, `ca`, `revoke-many`, `contain-many`, `rights`, `command-many`, `break-glass`.
    class: String,
    /// The action that whoever approves needs as well.
    action: String,
    method: String,
    target: String,
    /// Over all of the act: given back when approving.
    act_sha256: String,
    proposed_by: String,
    proposed_at: String,
    expires_at: String,
    /// Absent while it waits.
    approved: Option<bool>,
    decided_by: Option<String>,
    decided_at: Option<String>,
}

impl From<store::Proposal> for Proposal {
    fn from(row: store::Proposal) -> Self {
        Self {
            proposal: row.id.to_string(),
            class: row.class,
            action: row.action,
            method: row.method,
            target: row.target,
            act_sha256: row.digest.to_string(),
            proposed_by: row.proposed_by,
            proposed_at: row.proposed_at.to_string(),
            expires_at: row.expires_at.to_string(),
            approved: row.approved,
            decided_by: row.decided_by,
            decided_at: row.decided_at.map(|at| at.to_string()),
        }
    }
}

/// The newest first, those that were decided among them.
#[utoipa::path(get, path = "/api/v1/access/proposals", tag = "access", operation_id = "proposals",
    params(Page), responses((status = 200, body = [Proposal]), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody)))]
pub async fn list(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(page): Asked<Page>,
) -> Result<Rows<Proposal>, Problem> {
    let after = page.after()?.map(|id| proposal_id(&id)).transpose()?;
    let rows = plane.store.proposals(after.as_ref(), page.limit())?;
    Ok(Rows::read(&page, rows, |row| row.id.to_string()).map(Into::into))
}

#[derive(Serialize, ToSchema)]
pub struct ProposalShown {
    #[serde(flatten)]
    proposal: Proposal,
    media_type: String,
    /// What was sent, as text; empty once it was decided.
    body: String,
}

/// One of them, with what was sent.
#[utoipa::path(get, path = "/api/v1/access/proposals/{proposal}", tag = "access",
    params(("proposal" = String, Path, description = "`a-…`")), operation_id = "proposal",
    responses((status = 200, body = ProposalShown), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 404, body = super::problem::ProblemBody)))]
pub async fn show(
    State(plane): State<Shared>,
    _: Allowed,
    Named(id): Named<String>,
) -> Result<Json<ProposalShown>, Problem> {
    let row = proposals::known(&plane, &proposal_id(&id)?)?;
    Ok(Json(ProposalShown {
        media_type: row.media_type.clone(),
        body: String::from_utf8_lossy(&row.body).into_owned(),
        proposal: row.into(),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposalApproval {
    /// Of the act that was looked at.
    act_sha256: String,
}

#[derive(Serialize, ToSchema)]
pub struct ActDone {
    proposal: String,
    /// Of the act's own answer.
    status: u16,
    /// What the act answered. A secret in it is shown here and nowhere else.
    #[schema(value_type = Option<Object>)]
    answer: Value,
}

/// Approves an act of another person; it is done at once, exactly as it was shown. If what it builds
/// on has moved, nothing is decided and nothing is done.
#[utoipa::path(post, path = "/api/v1/access/proposals/{proposal}/approve", tag = "access",
    request_body = ProposalApproval, params(("proposal" = String, Path, description = "`a-…`")),
    operation_id = "approve_proposal",
    responses((status = 200, body = ActDone), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 403, body = super::problem::ProblemBody),
        (status = 404, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn approve(
    State(plane): State<Shared>,
    Extension(caller): Extension<Caller>,
    admitted: Admitted,
    Allowed(actor): Allowed,
    Named(id): Named<String>,
    Body(approval): Body<ProposalApproval>,
) -> Result<Json<ActDone>, Problem> {
    let id = proposal_id(&id)?;
    let shown = Digest::from_hex(&approval.act_sha256)
        .ok_or_else(|| refused("act_sha256 has 64 hexadecimal digits"))?;
    let asker = admitted.who.asker;
    // To its end, also if the approver hangs up: what was approved is done.
    let done = to_its_end(async move {
        // The content, which the row no longer has once it was decided.
        let body = proposals::known(&plane, &id)?.body;
        match proposals::approve(&plane, &id, shown, asker, &actor).await? {
            Approved::Command(command) => {
                let shown = released(&plane, *command).await;
                let answer = shown.map(|command| serde_json::to_value(command).unwrap_or_default());
                Ok((id, StatusCode::OK, answer))
            }
            Approved::Request(mut row, asker, actor) => {
                row.body = body;
                let who = Who {
                    actor: Some(actor),
                    ..Who::of(asker)
                };
                let mut request = request_of(&row, who)?;
                request.extensions_mut().insert(caller);
                let router = super::people_router(&plane);
                let doing = TowerToHyperService::new(router).call(request);
                let response = doing.await.map_err(Trouble::fault)?;
                let status = response.status();
                let answer = to_bytes(response.into_body(), FLEET_BYTES_MAX).await;
                let answer = answer.map_err(Trouble::fault)?;
                let answer = serde_json::from_slice(&answer).unwrap_or_default();
                Ok((id, status, Ok::<Value, Problem>(answer)))
            }
        }
    });
    let (id, status, answer) = done.await?;
    let answer = answer?;
    if !status.is_success() {
        let why = answer.pointer("/detail").and_then(Value::as_str);
        let why = why.unwrap_or("it did not say why");
        let text = format!("{id} was approved, and then refused: {why}");
        return Err(Problem::new(StatusCode::CONFLICT, "act-refused", text));
    }
    Ok(Json(ActDone {
        proposal: id.to_string(),
        status: status.as_u16(),
        answer,
    }))
}

/// Refuses an act, or takes back one's own.
#[utoipa::path(post, path = "/api/v1/access/proposals/{proposal}/refuse", tag = "access",
    params(("proposal" = String, Path, description = "`a-…`")), operation_id = "refuse_proposal",
    responses((status = 204), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 404, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn refuse(
    State(plane): State<Shared>,
    admitted: Admitted,
    Allowed(actor): Allowed,
    Named(id): Named<String>,
) -> Result<StatusCode, Problem> {
    let id = proposal_id(&id)?;
    let asker = admitted.who.asker;
    to_its_end(async move { proposals::refuse(&plane, &id, asker, &actor).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// For whoever approves, and for later; 1 to 512 characters.
    reason: String,
}

#[derive(Serialize, ToSchema)]
pub struct GlassBroken {
    until: String,
}

/// All that operators and administrators may, for an hour, once another person has approved. It is
/// never given by one person alone.
#[utoipa::path(post, path = "/api/v1/access/break-glass", tag = "access", request_body = BreakGlass,
    responses((status = 200, body = GlassBroken, description = "to whoever approved it"),
        (status = 400, body = super::problem::ProblemBody), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody)))]
pub async fn break_glass(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(asked): Body<BreakGlass>,
) -> Result<Json<GlassBroken>, Problem> {
    if !(1..=512).contains(&asked.reason.chars().count()) {
        return Err(refused("a reason has 1 to 512 characters"));
    }
    let until =
        to_its_end(async move { proposals::break_glass(&plane, &actor, &asked.reason).await })
            .await?;
    Ok(Json(GlassBroken {
        until: until.to_string(),
    }))
}

fn proposal_id(text: &str) -> Result<ProposalId, Problem> {
    ProposalId::new(text).map_err(|error| refused(&error.to_string()))
}

fn refused(text: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "request-refused", text)
}
