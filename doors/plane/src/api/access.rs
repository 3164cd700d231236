//! `/api/v1/access`: the fleet in force, plan, apply, explain.

pub mod network;
mod replayed;
pub mod segments;

use super::guard::Allowed;
use super::identity::Recorded;
use super::read::{Asked, Body};
use super::{Problem, Shared};
use crate::fleet::{self, planning};
use crate::judge::signals::Told;
use crate::shared::to_its_end;
use crate::sign_in::link;
use crate::trouble::Trouble;
use crate::{clock, flow};
use access::SourceFile;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use detection::Feature;
use model::{Attribution, DeviceId, Digest, Principal, ServiceId, Subject, Verdict};
pub use replayed::Replayed;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A folder `fleet/` as texts.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetFiles {
    files: Vec<FleetFile>,
    /// Of an apply: the `plan` that was shown. If applying would do anything else by now, nothing is
    /// applied (`plan-moved`).
    plan: Option<String>,
}

#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetFile {
    /// Relative to the folder, with `/`.
    path: String,
    text: String,
}

#[derive(Serialize, ToSchema)]
pub struct Fleet {
    /// 0: none was applied yet.
    version: u64,
    name: Option<String>,
    sources_sha256: String,
    products: Vec<String>,
    groups: Vec<String>,
    services: Vec<String>,
    channels: Vec<String>,
    policies: Vec<String>,
}

/// What is declared and in force.
#[utoipa::path(get, path = "/api/v1/access/fleet", tag = "access",
    responses((status = 200, body = Fleet), (status = 401, body = super::problem::ProblemBody)))]
pub async fn fleet(State(plane): State<Shared>, _: Allowed) -> Result<Json<Fleet>, Problem> {
    let in_force = plane.admission.fleet.get();
    let mut fleet = Fleet {
        version: in_force.version,
        name: None,
        sources_sha256: in_force.digest().to_string(),
        products: Vec::new(),
        groups: Vec::new(),
        services: Vec::new(),
        channels: Vec::new(),
        policies: Vec::new(),
    };
    if let Some(declared) = &in_force.fleet {
        fleet.name = Some(declared.name().to_owned());
        fleet.products = declared.products().map(|one| one.id.to_string()).collect();
        fleet.groups = declared.groups().map(|one| one.id.to_string()).collect();
        fleet.services = declared.services().map(|one| one.id.to_string()).collect();
        fleet.channels = declared
            .channels()
            .map(|one| one.id.as_str().to_owned())
            .collect();
        fleet.policies = declared.policies().map(ToString::to_string).collect();
    }
    Ok(Json(fleet))
}

#[derive(Serialize, ToSchema)]
pub struct Applied {
    version: u64,
    /// Kinds of principals that policy can tell apart.
    grant_classes: usize,
    recorded: Recorded,
}

/// Puts a fleet in force: whole or not at all, recorded, on every shard when it is answered.
#[utoipa::path(put, path = "/api/v1/access/fleet", tag = "access", request_body = FleetFiles,
    responses((status = 200, body = Applied), (status = 401, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody), (status = 422, body = super::problem::ProblemBody)))]
pub async fn apply(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(files): Body<FleetFiles>,
) -> Result<Json<Applied>, Problem> {
    let shown = files.plan.as_deref().map(plan_digest).transpose()?;
    let done =
        to_its_end(async move { flow::apply(&plane, sources(files), shown, &actor).await }).await?;
    Ok(Json(Applied {
        version: done.version,
        grant_classes: done.grant_classes,
        recorded: done.receipt.into(),
    }))
}

#[derive(Serialize, ToSchema)]
pub struct Planned {
    /// The version that applying it would make.
    version: u64,
    unchanged: bool,
    grant_classes: usize,
    /// What it declares differently, as `+ channel telemetry`, `~ policy x` and `- policy old`.
    changes: Vec<String>,
    gains: Vec<Shift>,
    losses: Vec<Shift>,
    /// Who would be in no class, and so be denied everything.
    unclassified: Vec<Unclassified>,
    /// What may hurt, though it can be applied.
    warnings: Vec<String>,
    /// Channels whose payloads are held to no contract: any bytes pass.
    without_contract: Vec<String>,
    /// What of the recorded traffic would not pass. It changes by the minute and is no part of what
    /// `plan` names.
    traffic: Replayed,
    /// Names the rest: given back when applying, nothing else is applied.
    plan: String,
}

/// A grant that some gain or lose.
#[derive(Serialize, ToSchema)]
pub struct Shift {
    channel: String,
    /// `publish` or `receive`.
    action: &'static str,
    /// Topics of their own only; otherwise those of all others.
    own: bool,
    /// What permits it afterwards, or did before.
    policy: Option<String>,
    #[serde(flatten)]
    principals: Principals,
}

#[derive(Serialize, ToSchema)]
pub struct Unclassified {
    reason: String,
    #[serde(flatten)]
    principals: Principals,
}

#[derive(Serialize, ToSchema)]
pub struct Principals {
    devices: u64,
    services: u64,
    /// The first few.
    examples: Vec<String>,
}

impl From<access::Shift> for Shift {
    fn from(shift: access::Shift) -> Self {
        Self {
            channel: shift.channel.to_string(),
            action: shift.action,
            own: shift.own,
            policy: shift.policy.map(|policy| policy.to_string()),
            principals: shift.principals.into(),
        }
    }
}

impl From<access::Principals> for Principals {
    fn from(principals: access::Principals) -> Self {
        Self {
            devices: principals.devices,
            services: principals.services,
            examples: (principals.examples.iter())
                .map(ToString::to_string)
                .collect(),
        }
    }
}

/// Says what applying a fleet would do, and does nothing.
#[utoipa::path(post, path = "/api/v1/access/plan", tag = "access", request_body = FleetFiles,
    responses((status = 200, body = Planned), (status = 401, body = super::problem::ProblemBody),
        (status = 422, body = super::problem::ProblemBody)))]
pub async fn plan(
    State(plane): State<Shared>,
    _: Allowed,
    Body(files): Body<FleetFiles>,
) -> Result<Json<Planned>, Problem> {
    let candidate = planning::compile_candidate(&plane, &sources(files)).await?;
    let plan = planning::plan(&plane, &candidate).await?;
    let traffic = planning::replay(&plane, &candidate).await?;
    Ok(Json(Planned {
        version: plan.version,
        unchanged: plan.unchanged,
        grant_classes: plan.grant_classes,
        changes: plan.changes,
        gains: plan.difference.gains.into_iter().map(Into::into).collect(),
        losses: plan.difference.losses.into_iter().map(Into::into).collect(),
        unclassified: (plan.difference.unclassified.into_iter())
            .map(|one| Unclassified {
                reason: one.reason,
                principals: one.principals.into(),
            })
            .collect(),
        warnings: plan.warnings,
        without_contract: plan.without_contract,
        traffic: traffic.into(),
        plan: plan.digest.to_string(),
    }))
}

fn plan_digest(text: &str) -> Result<Digest, Problem> {
    Digest::from_hex(text).ok_or_else(|| {
        let detail = "a plan is named by 64 hexadecimal digits, as `plan` of its answer";
        Problem::new(StatusCode::BAD_REQUEST, "plan-name", detail)
    })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Versions {
    /// Only versions below this one.
    before: Option<u64>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct Version {
    version: u64,
    sources_sha256: String,
    applied_at: String,
    in_force: bool,
}

/// What was applied, the newest first. The log says by whom.
#[utoipa::path(get, path = "/api/v1/access/history", tag = "access", params(Versions),
    responses((status = 200, body = [Version]), (status = 401, body = super::problem::ProblemBody)))]
pub async fn history(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(asked): Asked<Versions>,
) -> Result<Json<Vec<Version>>, Problem> {
    let in_force = plane.admission.fleet.get().version;
    let limit = asked.limit.unwrap_or(100).clamp(1, 1000);
    let versions = plane.store.fleet_versions(asked.before, limit)?;
    Ok(Json(
        (versions.into_iter())
            .map(|one| Version {
                version: one.version,
                sources_sha256: one.digest.to_string(),
                applied_at: one.applied_at.to_string(),
                in_force: one.version == in_force,
            })
            .collect(),
    ))
}

#[derive(Serialize, ToSchema)]
pub struct Sources {
    version: u64,
    sources_sha256: String,
    /// By path, byte for byte as they were applied.
    files: Vec<FleetFile>,
}

/// The files of a version, to keep or to apply again.
#[utoipa::path(get, path = "/api/v1/access/history/{version}", tag = "access",
    params(("version" = u64, Path)),
    responses((status = 200, body = Sources), (status = 401, body = super::problem::ProblemBody),
        (status = 404, body = super::problem::ProblemBody)))]
pub async fn version(
    State(plane): State<Shared>,
    _: Allowed,
    Path(version): Path<u64>,
) -> Result<Json<Sources>, Problem> {
    let row = plane.store.fleet_at(version)?.ok_or_else(|| Trouble::Unknown {
        code: "no-such-version",
        text: format!("version {version} was never applied; `fleetward access history` lists those that were"),
    })?;
    let files = fleet::sources(&row)?;
    Ok(Json(Sources {
        version: row.version,
        sources_sha256: row.digest.to_string(),
        files: (files.into_iter())
            .map(|file| FleetFile {
                path: file.path,
                text: file.text,
            })
            .collect(),
    }))
}

/// One of `device`, `service`; one of `publish`, `receive`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    device: Option<String>,
    service: Option<String>,
    /// A topic.
    publish: Option<String>,
    /// A topic filter.
    receive: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Answer {
    permitted: bool,
    /// Why not, by its name, if it is denied.
    reason: Option<String>,
    /// The policy that decided, if one did.
    policy: Option<String>,
    channel: Option<String>,
    /// The device whose channel it is.
    owner: Option<String>,
    /// The same for a person, with what would permit it.
    text: String,
}

/// Who may say or hear what, and which policy says so.
#[utoipa::path(post, path = "/api/v1/access/explain", tag = "access", request_body = Question,
    responses((status = 200, body = Answer), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody)))]
pub async fn explain(
    State(plane): State<Shared>,
    _: Allowed,
    Body(question): Body<Question>,
) -> Result<Json<Answer>, Problem> {
    let refuse = |text: &str| Problem::new(StatusCode::BAD_REQUEST, "request-refused", text);
    let principal = match (&question.device, &question.service) {
        (Some(id), None) => DeviceId::new(id).map(Principal::Device),
        (None, Some(id)) => ServiceId::new(id).map(Principal::Service),
        _ => return Err(refuse("name one of device, service")),
    }
    .map_err(|e| refuse(&e.to_string()))?;
    let facts = plane.admission.facts_of(&principal);
    let grants = plane.grants();
    let found = match (&question.publish, &question.receive) {
        (Some(topic), None) => grants.explain_publish(&facts, topic),
        (None, Some(filter)) => grants.explain_receive(&facts, filter),
        _ => return Err(refuse("name one of publish, receive")),
    };
    let (permitted, reason, policy) = match &found.verdict {
        Verdict::Permit { policy } => (true, None, Some(policy.to_string())),
        Verdict::Deny { reason, policy } => (
            false,
            Some(reason.name().to_owned()),
            policy.as_ref().map(ToString::to_string),
        ),
    };
    Ok(Json(Answer {
        permitted,
        reason,
        policy,
        channel: found.channel,
        owner: found.owner,
        text: found.text,
    }))
}

/// Makes a new sign-in link in the plane's admin-link file. Only from the plane's machine.
#[utoipa::path(post, path = "/api/v1/access/admin-links", tag = "access",
    responses((status = 204), (status = 403, body = super::problem::ProblemBody)))]
pub async fn admin_link(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
) -> Result<StatusCode, Problem> {
    let name = actor.to_string().replace("local/", "");
    link::make_admin_link(&plane).await?;
    plane.signals.tell(Told::seen(
        Subject::Person(name),
        Attribution::Proven,
        Feature::Token { accepted: true },
        clock::now(),
    ));
    Ok(StatusCode::NO_CONTENT)
}

fn sources(files: FleetFiles) -> Vec<SourceFile> {
    files
        .files
        .into_iter()
        .map(|file| SourceFile {
            path: file.path,
            text: file.text,
        })
        .collect()
}
