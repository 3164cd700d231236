//! `/api/v1/response`: incidents, who is cut off and by whom, playbooks.

pub mod groups;

use super::guard::Allowed;
use super::identity::Recorded;
use super::reach::Reach;
use super::read::{Asked, Body, Named, Raw, json};
use super::{Problem, Shared};
use crate::respond::deciding;
use crate::respond::timeline;
use crate::shared::to_its_end;
use crate::trouble::Trouble;
use crate::withdrawing::{Containing, Restoring};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::{Containment, DeviceId, IncidentId, Subject};
use response::{Action, Incident, IncidentState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Characters of a reason, which stands in the log.
const REASON_CHARS_MAX: usize = 500;
/// Lines of one timeline in an answer.
const STEPS_MAX: usize = 2000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct IncidentsAsked {
    /// `open` (contained ones too), `contained`, `closed`; all if absent.
    state: Option<String>,
    /// Begin after this one, `INC-7`.
    after: Option<String>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct Incidents {
    /// The newest first.
    incidents: Vec<IncidentRow>,
    /// What `after` is for the next page.
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct IncidentRow {
    id: String,
    /// Absent: it is about many.
    device: Option<String>,
    /// `device/cam-1`, `address/192.0.2.7`, or `camera devices`.
    about: String,
    title: String,
    /// `open`, `contained`, `closed`.
    state: String,
    severity: String,
    opened_at: String,
    closed_at: Option<String>,
    /// `quarantined`, `isolated`.
    containment: Option<String>,
    revoked: bool,
    /// Kinds of deviations.
    kinds: Vec<String>,
}

/// What is worked on, and what was.
#[utoipa::path(get, path = "/api/v1/response/incidents", tag = "response", params(IncidentsAsked),
    responses((status = 200, body = Incidents), (status = 401, body = super::problem::ProblemBody)))]
pub async fn incidents(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(asked): Asked<IncidentsAsked>,
) -> Result<Json<Incidents>, Problem> {
    let wanted = match asked.state.as_deref() {
        None => None,
        Some(name) => Some(
            IncidentState::from_name(name)
                .ok_or_else(|| invalid("state is open, contained or closed"))?,
        ),
    };
    let is_wanted = |state: store::IncidentState| match wanted {
        None => true,
        Some(IncidentState::Open) => state != store::IncidentState::Closed,
        Some(wanted) => state.name() == wanted.name(),
    };
    let limit = asked.limit.unwrap_or(100).clamp(1, 1000);
    let mut after = asked.after.as_deref().map(incident_id).transpose()?;
    let mut incidents = Vec::new();
    loop {
        let page = plane.store.incidents(after, 1000)?;
        let is_last = page.len() < 1000;
        for row in page {
            after = Some(row.id);
            if is_wanted(row.state) {
                incidents.push(incident_row(&row)?);
            }
            if incidents.len() == limit {
                let next = after.map(|id| id.to_string());
                return Ok(Json(Incidents { incidents, next }));
            }
        }
        if is_last {
            let next = None;
            return Ok(Json(Incidents { incidents, next }));
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct OneIncident {
    #[serde(flatten)]
    row: IncidentRow,
    /// What its device may reach while it is not cut off.
    before: Reach,
    /// What it may reach now.
    after: Reach,
    steps: Vec<Step>,
}

#[derive(Serialize, ToSchema)]
pub struct Step {
    at: String,
    /// `detection`, `playbook/<name>`, or a person as in the log.
    actor: String,
    what: String,
    expected: Option<String>,
    seen: Option<String>,
    /// Who saw it: `device`, `gateway`, `network`.
    source: Option<String>,
    /// `proven`, `claimed`, `address`.
    attribution: Option<String>,
    observed_by: Option<String>,
    /// Index of its entry in the log.
    entry: Option<u64>,
    /// In the published checkpoint, so that anybody can prove it.
    proof: Option<Proof>,
}

#[derive(Serialize, ToSchema)]
pub struct Proof {
    index: u64,
    /// Of the published checkpoint.
    tree_size: u64,
}

/// One incident: what was seen, by whom, what was done, and what its device can reach.
#[utoipa::path(get, path = "/api/v1/response/incidents/{incident}", tag = "response",
    params(("incident" = String, Path, description = "INC-7")),
    responses((status = 200, body = OneIncident), (status = 401, body = super::problem::ProblemBody),
        (status = 404, body = super::problem::ProblemBody)))]
pub async fn incident(
    State(plane): State<Shared>,
    _: Allowed,
    Named(id): Named<String>,
) -> Result<Json<OneIncident>, Problem> {
    let id = incident_id(&id)?;
    let Some(row) = plane.store.incident(id)? else {
        return Err(unknown(id));
    };
    let tree_size = plane
        .store
        .last_checkpoint()?
        .map_or(0, |checkpoint| checkpoint.size);
    let steps = timeline::steps(&plane.store, id, STEPS_MAX)?.into_iter();
    let device = row.subject.as_ref().and_then(model::Subject::device);
    let (before, after) = match device {
        Some(device) => (
            Reach::of(&plane, plane.reach_when_free(device)),
            Reach::of(&plane, plane.reach_now(device)),
        ),
        None => Default::default(),
    };
    Ok(Json(OneIncident {
        row: incident_row(&row)?,
        before,
        after,
        steps: steps.map(|one| step(one.step, tree_size)).collect(),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Closing {
    /// What was found: it stands in the timeline and in the log.
    reason: String,
}

/// Ends an incident. Its device stays cut off until it is restored.
#[utoipa::path(post, path = "/api/v1/response/incidents/{incident}/close", tag = "response",
    params(("incident" = String, Path, description = "INC-7")), request_body = Closing,
    responses((status = 204), (status = 401, body = super::problem::ProblemBody),
        (status = 404, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn close(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(id): Named<String>,
    Body(closing): Body<Closing>,
) -> Result<StatusCode, Problem> {
    let id = incident_id(&id)?;
    let reason = reason(closing.reason)?;
    match plane.store.incident(id)? {
        None => return Err(unknown(id)),
        Some(row) if row.state == store::IncidentState::Closed => {
            let text = format!("{id} is closed already; nothing was changed");
            return Err(Problem::new(StatusCode::CONFLICT, "incident-closed", text));
        }
        Some(_) => {}
    }
    to_its_end(async move { deciding::close(&plane, id, reason, &actor).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize, ToSchema)]
pub struct Contained {
    device: String,
    /// `quarantined`, `isolated`.
    containment: String,
    since: String,
    incident: Option<String>,
    /// Who decided, as in the log.
    by: String,
    /// The act that cut it off together with others, and that gives it back with them.
    group_containment: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct AllContained {
    containments: Vec<Contained>,
    /// What `after` is for the next page.
    next: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ContainedAsked {
    /// Begin after this device.
    after: Option<String>,
    /// 1 to 1000, 1000 if absent.
    limit: Option<usize>,
}

/// Every device that is cut off, in the order of their names.
#[utoipa::path(get, path = "/api/v1/response/containments", tag = "response",
    params(ContainedAsked), responses((status = 200, body = AllContained), (status = 401, body = super::problem::ProblemBody)))]
pub async fn containments(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(asked): Asked<ContainedAsked>,
) -> Result<Json<AllContained>, Problem> {
    let after = asked.after.as_deref().map(DeviceId::new).transpose();
    let after = after.map_err(invalid)?;
    let limit = asked.limit.unwrap_or(1000).clamp(1, 1000);
    let standing = plane.containments.lock();
    let behind = (standing.iter()).filter(|(device, _)| Some(*device) > after.as_ref());
    let containments = behind.take(limit).map(|(device, one)| Contained {
        device: device.to_string(),
        containment: one.containment.name().to_owned(),
        since: one.since.to_string(),
        incident: one.incident.map(|id| id.to_string()),
        by: one.by.clone(),
        group_containment: one.group.as_ref().map(ToString::to_string),
    });
    let containments: Vec<Contained> = containments.collect();
    let is_full = containments.len() == limit;
    let next = containments.last().filter(|_| is_full);
    Ok(Json(AllContained {
        next: next.map(|one| one.device.clone()),
        containments,
    }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DryRun {
    /// Say what would be done and do nothing.
    dry_run: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewContainment {
    device: String,
    /// `quarantined`: talks to this plane only; `isolated`: to nothing.
    containment: String,
    /// It stands in the log.
    reason: String,
}

#[derive(Serialize, ToSchema)]
pub struct ContainmentDone {
    /// What is in force: the harder one, if it was cut off before.
    containment: String,
    /// False: no device of that name is known. It is cut off in advance. A typing mistake?
    known: bool,
    sessions_touched: u32,
    /// Microseconds after which it was in force at every door and on every session.
    in_force_after_micros: u64,
    /// Microseconds after which its entry was durable.
    recorded_after_micros: u64,
    /// Index of its entry in the log; absent if it was in force already, or in a dry run.
    entry: Option<u64>,
    /// What it can reach no more.
    takes_away: Reach,
}

/// Cuts a device off: at every door and on every session at once, then on record.
#[utoipa::path(post, path = "/api/v1/response/containments", tag = "response", params(DryRun),
    request_body = NewContainment,
    responses((status = 200, body = ContainmentDone), (status = 201, body = ContainmentDone),
        (status = 400, body = super::problem::ProblemBody), (status = 401, body = super::problem::ProblemBody),
        (status = 503, body = super::problem::ProblemBody)))]
pub async fn contain(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Asked(asked): Asked<DryRun>,
    Body(new): Body<NewContainment>,
) -> Result<(StatusCode, Json<ContainmentDone>), Problem> {
    let device = DeviceId::new(&new.device).map_err(invalid)?;
    let containment = Containment::from_name(&new.containment)
        .ok_or_else(|| invalid("containment is quarantined or isolated"))?;
    let reason = reason(new.reason)?;
    let known = plane.trust().registry().device(&device).is_some();
    let takes_away = Reach::of(&plane, plane.reach_now(&device));
    if asked.dry_run == Some(true) {
        let done = ContainmentDone {
            containment: containment.name().to_owned(),
            known,
            sessions_touched: 0,
            in_force_after_micros: 0,
            recorded_after_micros: 0,
            entry: None,
            takes_away,
        };
        return Ok((StatusCode::OK, Json(done)));
    }
    let incident = plane
        .judgement
        .lock()
        .open_incident(&Subject::Device(device.clone()));
    let what = Containing {
        device,
        containment,
        incident,
        reason,
    };
    let done = to_its_end(async move { deciding::contain(&plane, what, &actor).await }).await?;
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Ok((
        StatusCode::CREATED,
        Json(ContainmentDone {
            containment: done.containment.name().to_owned(),
            known,
            sessions_touched: done.sessions_touched,
            in_force_after_micros: micros(done.in_force_after),
            recorded_after_micros: micros(done.recorded_after),
            entry: done.receipt.map(|receipt| receipt.first_leaf_index),
            takes_away,
        }),
    ))
}

/// Why it is restored; the body may be left out.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Restoration {
    /// It stands in the log. `restored by a person` if absent.
    reason: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Restored {
    device: String,
    /// What was in force.
    was: String,
    gives_back: Reach,
    /// Absent in a dry run.
    entry: Option<u64>,
}

/// Gives a device back what it was cut off from: on record first, then in force.
#[utoipa::path(delete, path = "/api/v1/response/containments/{device}", tag = "response",
    params(("device" = String, Path, description = "its name"), DryRun),
    request_body = Option<Restoration>,
    responses((status = 200, body = Restored), (status = 401, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody), (status = 503, body = super::problem::ProblemBody)))]
pub async fn restore(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(device): Named<String>,
    Asked(asked): Asked<DryRun>,
    Raw(bytes): Raw,
) -> Result<Json<Restored>, Problem> {
    let device = DeviceId::new(&device).map_err(invalid)?;
    let restoration: Restoration = if bytes.is_empty() {
        Restoration::default()
    } else {
        json(&bytes)?
    };
    let reason = reason(
        restoration
            .reason
            .unwrap_or_else(|| "restored by a person".into()),
    )?;
    let (standing, _) = plane.contained(&device)?;
    let mut restored = Restored {
        device: device.to_string(),
        was: standing.containment.name().to_owned(),
        gives_back: Reach::of(&plane, plane.reach_when_free(&device)),
        entry: None,
    };
    if asked.dry_run != Some(true) {
        let what = Restoring {
            device,
            incident: standing.incident,
            reason,
        };
        let done = to_its_end(async move { deciding::restore(&plane, what, &actor).await }).await?;
        restored.entry = Some(Recorded::from(done.receipt).entry);
    }
    Ok(Json(restored))
}

#[derive(Serialize, ToSchema)]
pub struct Playbooks {
    playbooks: Vec<Playbook>,
}

#[derive(Serialize, ToSchema)]
pub struct Playbook {
    name: String,
    description: String,
    /// `observe`: says what it would have done; `enforce`: does it.
    mode: String,
    kinds: Vec<String>,
    kinds_min: u32,
    /// Of them seen from outside the device, proven.
    outside_min: u32,
    severity_min: String,
    within_seconds: u64,
    steps: Vec<PlaybookStep>,
    /// Devices an hour that it may cut off; absent: 5, or 0.1 % of the group where that is more.
    contain_max: Option<u64>,
    used_last_hour: usize,
    last_run: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct PlaybookStep {
    /// `quarantine`, `isolate`, `revoke`, `notify`.
    action: String,
    to: Option<String>,
    after_seconds: u64,
    when_kinds_min: Option<u32>,
}

/// The planned responses of the fleet in force, and how much of each was used.
#[utoipa::path(get, path = "/api/v1/response/playbooks", tag = "response",
    responses((status = 200, body = Playbooks), (status = 401, body = super::problem::ProblemBody)))]
pub async fn playbooks(State(plane): State<Shared>, _: Allowed) -> Json<Playbooks> {
    let now = crate::clock::now();
    let judgement = plane.judgement.lock();
    let uses = judgement.responder.playbook_uses(now);
    let playbooks = uses.into_iter().map(|one| Playbook {
        name: one.playbook.name.clone(),
        description: one.playbook.description.clone(),
        mode: one.playbook.mode.name().to_owned(),
        kinds: (one.playbook.kinds.iter())
            .map(|kind| kind.name().to_owned())
            .collect(),
        kinds_min: one.playbook.kinds_min,
        outside_min: one.playbook.outside_min,
        severity_min: one.playbook.severity_min.name().to_owned(),
        within_seconds: one.playbook.within.as_secs(),
        steps: (one.playbook.steps.iter())
            .map(|step| PlaybookStep {
                action: step.action.name().to_owned(),
                to: match &step.action {
                    Action::Notify { to } => Some(to.clone()),
                    _ => None,
                },
                after_seconds: step.after.as_secs(),
                when_kinds_min: step.kinds_min,
            })
            .collect(),
        contain_max: one.playbook.contain_max,
        used_last_hour: one.used_last_hour,
        last_run: one.last_run.map(|at| at.to_string()),
    });
    Json(Playbooks {
        playbooks: playbooks.collect(),
    })
}

fn incident_row(row: &store::Incident) -> Result<IncidentRow, Problem> {
    let kept = Incident::from_bytes(&row.body).map_err(Trouble::fault)?;
    Ok(IncidentRow {
        id: row.id.to_string(),
        device: kept.about.device().map(ToString::to_string),
        about: kept.about.to_string(),
        title: row.title.clone(),
        state: row.state.name().to_owned(),
        severity: row.severity.name().to_owned(),
        opened_at: row.opened_at.to_string(),
        closed_at: row.closed_at.map(|at| at.to_string()),
        containment: kept.containment.map(|one| one.name().to_owned()),
        revoked: kept.revoked,
        kinds: (kept.kinds().into_iter())
            .map(|kind| kind.name().to_owned())
            .collect(),
    })
}

fn step(step: store::Step, tree_size: u64) -> Step {
    Step {
        at: step.at.to_string(),
        actor: step.actor,
        what: step.what,
        expected: step.expected,
        seen: step.seen,
        source: step.source.map(|source| source.name().to_owned()),
        attribution: step.attribution.map(|one| one.name().to_owned()),
        observed_by: step.observed_by,
        entry: step.entry,
        proof: (step.entry)
            .filter(|index| *index < tree_size)
            .map(|index| Proof { index, tree_size }),
    }
}

fn incident_id(text: &str) -> Result<IncidentId, Problem> {
    IncidentId::from_text(text).ok_or_else(|| invalid("an incident is written INC-7"))
}

fn unknown(id: IncidentId) -> Problem {
    let text = format!("there is no {id}");
    Problem::new(StatusCode::NOT_FOUND, "incident-unknown", text)
}

fn reason(text: String) -> Result<String, Problem> {
    let is_short = text.chars().count() <= REASON_CHARS_MAX;
    if text.trim().is_empty() || !is_short {
        return Err(invalid(format!(
            "say why, in {REASON_CHARS_MAX} characters at most: it stands in the log"
        )));
    }
    Ok(text)
}

fn invalid(error: impl std::fmt::Display) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "request-refused",
        error.to_string(),
    )
}
