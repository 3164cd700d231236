//! `/api/v1/response/group-containments`: many devices cut off in one act, and given back in one.

use super::{DryRun, Restoration, invalid, reason};
use crate::api::guard::{Admitted, Allowed};
use crate::api::identity::Recorded;
use crate::api::reach::Reach;
use crate::api::read::{Asked, Body, Named, Raw, json};
use crate::api::{Problem, Shared};
use crate::commanding::Target;
use crate::respond::groups::{self, GroupContaining, Kept};
use crate::shared::{off_thread, to_its_end};
use access::Action;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::{Containment, DeviceId, Digest, GroupContainmentId, Principal, Revocable};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Names in one answer.
const NAMES_MAX: usize = 1000;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGroupContainment {
    /// A group that the fleet declares, with those within it; or `product`, one of the two.
    group: Option<String>,
    product: Option<String>,
    /// `quarantined`: they talk to this plane only; `isolated`: to nothing.
    containment: String,
    /// It stands in the log.
    reason: String,
    /// `shown` of a dry run: refused if it has other devices meanwhile. Needed where another person
    /// must approve.
    shown: Option<String>,
}

impl NewGroupContainment {
    fn target(&self) -> Result<Target, Problem> {
        match (&self.group, &self.product) {
            (Some(group), None) => group.parse().map(Target::Group).map_err(invalid),
            (None, Some(product)) => product.parse().map(Target::Product).map_err(invalid),
            _ => Err(invalid("say one of group and product")),
        }
    }

    fn containment(&self) -> Result<Containment, Problem> {
        Containment::from_name(&self.containment)
            .ok_or_else(|| invalid("containment is quarantined or isolated"))
    }
}

/// Whether what is asked for cuts off more than playbooks may in an hour. What cannot be read is
/// refused by its endpoint.
pub fn is_of_many(plane: &Shared, body: &[u8]) -> bool {
    let meant = json::<NewGroupContainment>(body).and_then(|new| {
        let (target, containment) = (new.target()?, new.containment()?);
        Ok(groups::meant(plane, &target, containment)?)
    });
    meant.is_ok_and(|meant| meant.is_many)
}

pub fn names_shown(body: &[u8]) -> bool {
    let asked: Value = json(body).unwrap_or_default();
    asked.pointer("/shown").is_some_and(Value::is_string)
}

#[derive(Serialize, ToSchema)]
pub struct GroupContainmentDone {
    /// Names the act, to undo it by. Absent in a dry run, and if all were cut off as far already.
    group_containment: Option<String>,
    /// `group/east`, `product/camera`.
    target: String,
    containment: String,
    /// Devices that it cuts off, or cuts off harder.
    devices: usize,
    /// Others of them that were cut off as far already.
    already: usize,
    /// The first 1000 of the devices, in the order of their names.
    names: Vec<String>,
    /// Whom was looked at: to be said again when it is done.
    shown: String,
    /// It cuts off more than playbooks may in an hour: whoever asks proves anew who they are, and
    /// another person may have to approve.
    is_many: bool,
    /// Of a dry run: sessions that it would touch.
    sessions_touched: u32,
    /// What they can reach no more, together.
    takes_away: Reach,
    /// Microseconds after which it was in force at every door and on every session.
    in_force_after_micros: u64,
    /// Microseconds after which the last of its entries was durable.
    recorded_after_micros: u64,
    /// Index in the log of the entry that sums up; those behind it name the devices.
    entry: Option<u64>,
}

/// Cuts a whole group or product off in one act: at every door and on every session at once, then on
/// record. Who comes into it later is not cut off.
#[utoipa::path(post, path = "/api/v1/response/group-containments", tag = "response", params(DryRun),
    operation_id = "contain_group", request_body = NewGroupContainment,
    responses((status = 200, body = GroupContainmentDone, description = "dry_run: nothing was done"),
        (status = 201, body = GroupContainmentDone), (status = 400, body = crate::api::problem::ProblemBody),
        (status = 401, body = crate::api::problem::ProblemBody), (status = 404, body = crate::api::problem::ProblemBody),
        (status = 409, body = crate::api::problem::ProblemBody), (status = 503, body = crate::api::problem::ProblemBody)))]
pub async fn contain(
    State(plane): State<Shared>,
    admitted: Admitted,
    Allowed(actor): Allowed,
    Asked(asked): Asked<DryRun>,
    Body(new): Body<NewGroupContainment>,
) -> Result<(StatusCode, Json<GroupContainmentDone>), Problem> {
    let shown = match &new.shown {
        None => None,
        Some(text) => Some(Digest::from_hex(text).ok_or_else(|| invalid("shown has 64 digits"))?),
    };
    let mut what = GroupContaining {
        target: new.target()?,
        containment: new.containment()?,
        reason: reason(new.reason)?,
        shown,
        may_be_many: false,
    };
    let looking = (Arc::clone(&plane), what.clone());
    let (meant, takes_away) = off_thread(move || {
        let (plane, what) = looking;
        let meant = groups::meant(&plane, &what.target, what.containment)?;
        let takes_away = Reach::of_kinds(&plane, &meant.devices, |one| plane.reach_now(one));
        Ok::<_, crate::trouble::Trouble>((meant, takes_away))
    })
    .await??;
    let mut done = GroupContainmentDone {
        group_containment: None,
        target: what.target.to_string(),
        containment: what.containment.name().to_owned(),
        devices: meant.devices.len(),
        already: meant.already,
        names: names(&meant.devices),
        shown: meant.digest.to_string(),
        is_many: meant.is_many,
        sessions_touched: 0,
        takes_away,
        in_force_after_micros: 0,
        recorded_after_micros: 0,
        entry: None,
    };
    if asked.dry_run == Some(true) {
        let principals = meant.devices.into_iter().map(Principal::Device);
        let all: Arc<[Revocable]> = principals.map(Revocable::Principal).collect();
        done.sessions_touched = plane.shards().sessions_of(&all).await;
        return Ok((StatusCode::OK, Json(done)));
    }
    if meant.is_many {
        admitted.also(&plane, Action::ContainMany)?;
        what.may_be_many = true;
    }
    let acting = Arc::clone(&plane);
    let act = async move { groups::contain(&acting, &what, &actor).await };
    let contained = to_its_end(act).await?;
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    done.group_containment = (contained.receipt).map(|_| contained.id.to_string());
    done.devices = contained.meant.devices.len();
    done.already = contained.meant.already;
    done.names = names(&contained.meant.devices);
    done.shown = contained.meant.digest.to_string();
    done.is_many = contained.meant.is_many;
    done.sessions_touched = contained.sessions_touched;
    done.in_force_after_micros = micros(contained.in_force_after);
    done.recorded_after_micros = micros(contained.recorded_after);
    done.entry = contained.receipt.map(|receipt| receipt.first_leaf_index);
    Ok((StatusCode::CREATED, Json(done)))
}

fn names(devices: &[DeviceId]) -> Vec<String> {
    let first = devices.iter().take(NAMES_MAX);
    first.map(ToString::to_string).collect()
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GroupContainmentsAsked {
    /// Only those that were not undone.
    standing: Option<bool>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct GroupContainments {
    /// The latest first.
    group_containments: Vec<GroupContainment>,
}

#[derive(Serialize, ToSchema)]
pub struct GroupContainment {
    id: String,
    /// `group/east`, `product/camera`.
    target: String,
    /// `quarantined`, `isolated`.
    containment: String,
    reason: String,
    /// As in the log.
    by: String,
    at: String,
    /// How many it cut off.
    devices: u64,
    restored_at: Option<String>,
    restored_by: Option<String>,
}

/// Acts that cut many devices off, the latest first.
#[utoipa::path(get, path = "/api/v1/response/group-containments", tag = "response",
    operation_id = "group_containments", params(GroupContainmentsAsked),
    responses((status = 200, body = GroupContainments), (status = 401, body = crate::api::problem::ProblemBody)))]
pub async fn list(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(asked): Asked<GroupContainmentsAsked>,
) -> Result<Json<GroupContainments>, Problem> {
    let limit = asked.limit.unwrap_or(100).clamp(1, 1000);
    let standing = asked.standing == Some(true);
    let rows = plane.store.group_containments(standing, limit)?.into_iter();
    let group_containments = rows.map(|row| {
        let (restored_at, restored_by) = row.restored.unzip();
        GroupContainment {
            id: row.id.to_string(),
            target: row.target,
            containment: row.containment.name().to_owned(),
            reason: row.reason,
            by: row.by,
            at: row.at.to_string(),
            devices: row.devices,
            restored_at: restored_at.map(|at| at.to_string()),
            restored_by,
        }
    });
    Ok(Json(GroupContainments {
        group_containments: group_containments.collect(),
    }))
}

#[derive(Serialize, ToSchema)]
pub struct GroupRestored {
    id: String,
    target: String,
    /// What was in force.
    was: String,
    /// Devices that get it back.
    devices: usize,
    /// The first 1000 of them, in the order of their names.
    names: Vec<String>,
    /// What they get back, together.
    gives_back: Reach,
    /// Devices that stay cut off, the first 1000.
    kept: Vec<KeptBack>,
    kept_count: usize,
    /// Index in the log of the entry that sums up. Absent in a dry run.
    entry: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub struct KeptBack {
    device: String,
    /// `revoked`; `INC-7`, by which it is worked on; or another act that means it too.
    because: String,
}

/// Undoes an act: gives back to those whom it cut off, and who were free before, what it took. On
/// record first, then in force. Who is worked on by itself, or is meant by another act, stays cut off.
#[utoipa::path(delete, path = "/api/v1/response/group-containments/{act}", tag = "response",
    operation_id = "restore_group",
    params(("act" = String, Path, description = "`g-…`"), DryRun),
    request_body = Option<Restoration>,
    responses((status = 200, body = GroupRestored), (status = 401, body = crate::api::problem::ProblemBody),
        (status = 404, body = crate::api::problem::ProblemBody), (status = 409, body = crate::api::problem::ProblemBody),
        (status = 503, body = crate::api::problem::ProblemBody)))]
pub async fn restore(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(act): Named<String>,
    Asked(asked): Asked<DryRun>,
    Raw(bytes): Raw,
) -> Result<Json<GroupRestored>, Problem> {
    let id = GroupContainmentId::new(&act).map_err(invalid)?;
    let restoration: Restoration = match bytes.is_empty() {
        true => Restoration::default(),
        false => json(&bytes)?,
    };
    let why = restoration.reason;
    let why = reason(why.unwrap_or_else(|| "restored by a person".into()))?;
    let row = groups::known(&plane, &id)?;
    groups::check_stands(&row)?;
    let mut restored = GroupRestored {
        id: row.id.to_string(),
        target: row.target.clone(),
        was: row.containment.name().to_owned(),
        devices: 0,
        names: Vec::new(),
        gives_back: Reach::default(),
        kept: Vec::new(),
        kept_count: 0,
        entry: None,
    };
    let back = if asked.dry_run == Some(true) {
        let looking = Arc::clone(&plane);
        off_thread(move || groups::given_back(&looking, &row)).await??
    } else {
        let acting = Arc::clone(&plane);
        let act = async move { groups::restore(&acting, row, &why, &actor).await };
        let (back, receipt) = to_its_end(act).await?;
        restored.entry = Some(Recorded::from(receipt).entry);
        back
    };
    restored.kept_count = back.kept.len();
    let kept = back.kept.into_iter().take(NAMES_MAX);
    restored.kept = kept
        .map(|(device, why)| KeptBack {
            device: device.to_string(),
            because: match why {
                Kept::Revoked => "revoked".to_owned(),
                Kept::OwnIncident(id) => id.to_string(),
                Kept::Also(id) => id.to_string(),
            },
        })
        .collect();
    let devices: Vec<DeviceId> = (back.devices.into_iter()).map(|(one, ..)| one).collect();
    restored.devices = devices.len();
    restored.names = names(&devices);
    let looking = Arc::clone(&plane);
    restored.gives_back =
        off_thread(move || Reach::of_kinds(&looking, &devices, |one| looking.reach_when_free(one)))
            .await?;
    Ok(Json(restored))
}
