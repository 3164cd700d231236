//! `/api/v1/gateway/commands`: what devices are told, and how far it came with each.

use crate::api::guard::Allowed;
use crate::api::read::{Asked, Body, Named};
use crate::api::{Problem, Shared, problem::ProblemBody};
use crate::commanding::{self, Accepted, Preview, Target};
use crate::entries::Actor;
use crate::people::proposals;
use crate::shared::{off_thread, to_its_end};
use crate::trouble::Trouble;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{CommandId, Delivery, DeviceId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;
use store::{CommandDelivery, CommandState};
use utoipa::{IntoParams, ToSchema};

const EXPIRES_IN_SECONDS: u64 = 3600;
/// Devices listed in a dry run.
const REACH_MAX: usize = 1000;
const REASON_BYTES_MAX: usize = 512;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandAsked {
    /// A to-device channel of the fleet.
    channel: String,
    /// What stands at `{any}` and `{rest...}` in the channel's topic, in order.
    #[serde(default)]
    levels: Vec<String>,
    /// One of `devices`, `group` and `product`.
    devices: Option<BTreeSet<String>>,
    group: Option<String>,
    product: Option<String>,
    /// As text; or `payload_base64`.
    payload: Option<String>,
    payload_base64: Option<String>,
    /// 1 to 2592000; 3600 if absent. A device that comes later does not get it.
    expires_in_seconds: Option<u64>,
    /// Asked again under the same key it is the same command. 1 to 128 characters.
    idempotency_key: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DryRun {
    /// `true`: say whom it would reach and do nothing.
    dry_run: Option<bool>,
}

#[derive(Serialize, ToSchema)]
pub struct Command {
    /// `CMD-` and 16 hex digits; a later one is greater.
    id: String,
    /// Who asked.
    by: String,
    channel: String,
    /// `group/east`, `product/camera`, `device/cam-1`, `3 devices`.
    target: String,
    /// `held` (a second person must approve it), `open`, `cancelled`, `lapsed` (nobody approved it in
    /// time).
    state: String,
    /// While it is held: what another person approves at `/api/v1/access/proposals`.
    proposal: Option<String>,
    /// Who approved or cancelled it.
    decided_by: Option<String>,
    payload_bytes: usize,
    asked_at: String,
    expires_at: String,
    devices: DeviceCounts,
    /// Of the log; absent where this answer is not about an act.
    entry: Option<u64>,
}

/// How many devices there are in each state.
#[derive(Default, Serialize, ToSchema)]
pub struct DeviceCounts {
    waiting: u64,
    sent: u64,
    delivered: u64,
    answered: u64,
    expired: u64,
    refused: u64,
    cancelled: u64,
}

#[derive(Serialize, ToSchema)]
pub struct CommandPreview {
    channel: String,
    target: String,
    /// That would get it when they listen.
    reached: usize,
    refused: usize,
    /// More devices than this asker may command in a minute: it would wait for a second person.
    needs_approval: bool,
    fan_out_per_minute: u32,
    /// The first 1000, in the order of their names.
    devices: Vec<DeviceDelivery>,
}

#[derive(Serialize, ToSchema)]
pub struct DeviceDelivery {
    device: String,
    /// Absent if it has none.
    topic: Option<String>,
    /// `waiting`, `sent`, `delivered` (acknowledged), `answered`, `expired`, `refused`, `cancelled`.
    state: String,
    /// What it waits for (`approval`, `away`, `not-subscribed`, `not-taken`), or why it was refused
    /// (`contained`, `revoked`, `no-grant`, `no-topic`, `too-large`, `too-many`, `not-subscribed`,
    /// `by-device`).
    reason: Option<String>,
    /// `device` or `operator`, where somebody must.
    who_must_act: Option<&'static str>,
    changed_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Commands {
    /// The newest first.
    commands: Vec<Command>,
    /// What `after` is for the next page.
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct CommandWithDevices {
    command: Command,
    /// In the order of their names.
    devices: Vec<DeviceDelivery>,
    /// What `after` is for the next page.
    next: Option<String>,
}

/// Tells devices something, with QoS 1, each on its own topic of a channel; what waits is sent when
/// its device subscribes. A service may command what its grants let it publish to. More devices than
/// the channel's `fan_out_per_minute` wait for a second person.
#[utoipa::path(post, path = "/api/v1/gateway/commands", tag = "gateway", params(DryRun),
    request_body = CommandAsked,
    responses((status = 201, body = Command), (status = 200, body = CommandPreview, description = "a dry run, or the same key again"),
        (status = 403, body = ProblemBody), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
pub async fn ask(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Asked(DryRun { dry_run }): Asked<DryRun>,
    Body(asked): Body<CommandAsked>,
) -> Result<Response, Problem> {
    let asked = read(asked)?;
    if dry_run == Some(true) {
        let preview = commanding::preview(&plane, &asked, &actor).await?;
        return Ok(Json(previewed(&asked.target, preview)).into_response());
    }
    let acting = plane.clone();
    let accepted = to_its_end(async move { commanding::ask(&acting, asked, &actor).await }).await?;
    let status = match accepted.receipt {
        Some(_) => StatusCode::CREATED,
        None => StatusCode::OK,
    };
    Ok((status, Json(shown(&plane, accepted).await?)).into_response())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CommandsAsked {
    /// Begin after this one.
    after: Option<String>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

/// Commands, the newest first; of a service, its own.
#[utoipa::path(get, path = "/api/v1/gateway/commands", tag = "gateway", operation_id = "commands",
    params(CommandsAsked),
    responses((status = 200, body = Commands), (status = 401, body = ProblemBody)))]
pub async fn list(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Asked(asked): Asked<CommandsAsked>,
) -> Result<Json<Commands>, Problem> {
    let after = asked.after.as_deref().map(command_id).transpose()?;
    let limit = asked.limit.unwrap_or(100).clamp(1, 1000);
    let by = own_only(&actor).then(|| actor.to_string());
    let reading = plane.clone();
    let found = off_thread(move || {
        let mut rows = reading.store.commands(by.as_deref(), after, limit)?;
        let next = (rows.len() == limit).then(|| rows.last().map(|row| row.id));
        (rows.drain(..))
            .map(|row| {
                let counts = reading.store.delivery_counts(row.id)?;
                Ok(of_row(&row, &counts, None))
            })
            .collect::<Result<Vec<_>, store::ReadError>>()
            .map(|commands| (commands, next.flatten()))
    });
    let (commands, next) = found.await??;
    let next = next.map(|id| id.to_string());
    Ok(Json(Commands { commands, next }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DevicesAsked {
    /// Only devices in this state.
    state: Option<String>,
    /// Begin after this device.
    after: Option<String>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

/// One command, and how far it came with each device.
#[utoipa::path(get, path = "/api/v1/gateway/commands/{command}", tag = "gateway",
    operation_id = "command", params(DevicesAsked, ("command" = String, Path, description = "its id")),
    responses((status = 200, body = CommandWithDevices), (status = 404, body = ProblemBody)))]
pub async fn show(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(id): Named<String>,
    Asked(asked): Asked<DevicesAsked>,
) -> Result<Json<CommandWithDevices>, Problem> {
    let id = command_id(&id)?;
    let command = own(commanding::known(&plane, id).await?, &actor)?;
    let after = asked.after.as_deref().map(DeviceId::new).transpose();
    let after = after.map_err(|error| malformed(error.to_string()))?;
    let limit = asked.limit.unwrap_or(100).clamp(1, 1000);
    let reading = plane.clone();
    let rows = off_thread(move || {
        let state = asked.state.as_deref();
        reading.store.deliveries(id, state, after.as_ref(), limit)
    })
    .await??;
    let next = (rows.len() == limit).then(|| rows.last().map(|row| row.device.to_string()));
    let receipt = None;
    Ok(Json(CommandWithDevices {
        command: shown(&plane, Accepted { command, receipt }).await?,
        devices: rows.into_iter().map(of_delivery).collect(),
        next: next.flatten(),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelAsked {
    /// Stands in the log.
    reason: String,
}

#[derive(Serialize, ToSchema)]
pub struct Cancelled {
    command: Command,
    /// Devices that will not get it; the others were sent it before.
    spared: u32,
}

/// Takes a command back from every device that was not sent it. By an administrator, or the service
/// that asked for it.
#[utoipa::path(post, path = "/api/v1/gateway/commands/{command}/cancel", tag = "gateway",
    operation_id = "cancel_command", params(("command" = String, Path, description = "its id")),
    request_body = CancelAsked,
    responses((status = 200, body = Cancelled), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
pub async fn cancel(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(id): Named<String>,
    Body(CancelAsked { reason }): Body<CancelAsked>,
) -> Result<Json<Cancelled>, Problem> {
    let id = command_id(&id)?;
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
        return Err(malformed(format!(
            "a reason has 1 to {REASON_BYTES_MAX} bytes"
        )));
    }
    own(commanding::known(&plane, id).await?, &actor)?;
    let acting = plane.clone();
    let act = async move { commanding::cancel(&acting, id, &reason, &actor).await };
    let (cancelled, spared) = to_its_end(act).await?;
    Ok(Json(Cancelled {
        command: shown(&plane, cancelled).await?,
        spared,
    }))
}

fn read(asked: CommandAsked) -> Result<commanding::Asked, Problem> {
    let target = match (asked.devices, asked.group, asked.product) {
        (Some(names), None, None) => {
            let devices = names.iter().map(|name| DeviceId::new(name));
            let devices: Result<BTreeSet<DeviceId>, _> = devices.collect();
            devices.map(Target::Devices)
        }
        (None, Some(group), None) => group.parse().map(Target::Group),
        (None, None, Some(product)) => product.parse().map(Target::Product),
        _ => return Err(malformed("say one of devices, group and product")),
    };
    let payload = match (asked.payload, asked.payload_base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => STANDARD
            .decode(text)
            .map_err(|error| malformed(format!("payload_base64: {error}")))?,
        _ => return Err(malformed("say one of payload and payload_base64")),
    };
    let key = asked.idempotency_key;
    if (key.as_ref()).is_some_and(|key| !(1..=128).contains(&key.len())) {
        return Err(malformed("an idempotency_key has 1 to 128 bytes"));
    }
    Ok(commanding::Asked {
        channel: asked.channel,
        levels: asked.levels,
        target: target.map_err(|error| malformed(error.to_string()))?,
        payload,
        expires_in: Duration::from_secs(asked.expires_in_seconds.unwrap_or(EXPIRES_IN_SECONDS)),
        key,
    })
}

/// A service sees its own commands alone.
fn own_only(actor: &Actor) -> bool {
    matches!(actor, Actor::Service(_))
}

fn own(command: store::Command, actor: &Actor) -> Result<store::Command, Problem> {
    if own_only(actor) && command.by != actor.to_string() {
        let (code, text) = (
            "command-unknown",
            format!("there is no {} of yours", command.id),
        );
        return Err(Trouble::Unknown { code, text }.into());
    }
    Ok(command)
}

/// As it is after it was let go.
///
/// # Errors
/// The disk.
pub async fn released(plane: &Shared, command: store::Command) -> Result<Command, Problem> {
    let receipt = None;
    shown(plane, Accepted { command, receipt }).await
}

async fn shown(plane: &Shared, accepted: Accepted) -> Result<Command, Problem> {
    let (reading, id) = (plane.clone(), accepted.command.id);
    let counts = off_thread(move || reading.store.delivery_counts(id)).await??;
    let entry = accepted.receipt.map(|receipt| receipt.first_leaf_index);
    Ok(of_row(&accepted.command, &counts, entry))
}

fn of_row(row: &store::Command, counts: &[(String, u64)], entry: Option<u64>) -> Command {
    let count = |state: &str| {
        let found = counts.iter().find(|(name, _)| name == state);
        found.map_or(0, |(_, count)| *count)
    };
    Command {
        id: row.id.to_string(),
        by: row.by.clone(),
        channel: row.channel.clone(),
        target: row.target.clone(),
        state: row.state.name().to_owned(),
        proposal: (row.state == CommandState::Held)
            .then(|| proposals::id_of_command(row.id).ok())
            .flatten()
            .map(|id| id.to_string()),
        decided_by: row.decided_by.clone(),
        payload_bytes: row.payload.len(),
        asked_at: row.asked_at.to_string(),
        expires_at: row.expires_at.to_string(),
        devices: DeviceCounts {
            waiting: count("waiting"),
            sent: count("sent"),
            delivered: count("delivered"),
            answered: count("answered"),
            expired: count("expired"),
            refused: count("refused"),
            cancelled: count("cancelled"),
        },
        entry,
    }
}

fn of_delivery(row: CommandDelivery) -> DeviceDelivery {
    DeviceDelivery {
        device: row.device.to_string(),
        topic: (!row.topic.is_empty()).then_some(row.topic),
        state: row.delivery.name().to_owned(),
        reason: row.delivery.reason().map(str::to_owned),
        who_must_act: who_must_act(row.delivery),
        changed_at: Some(row.changed_at.to_string()),
    }
}

fn previewed(target: &Target, preview: Preview) -> CommandPreview {
    let reached = preview.aim.reached().count();
    let devices = preview.aim.devices;
    CommandPreview {
        channel: preview.aim.channel,
        target: target.to_string(),
        reached,
        refused: devices.len() - reached,
        needs_approval: preview.needs_approval,
        fan_out_per_minute: preview.fan_out_per_minute,
        devices: (devices.into_iter().take(REACH_MAX))
            .map(|(device, to)| {
                let delivery = match &to {
                    Ok(_) => Delivery::Waiting(model::DeliveryWait::Away),
                    Err(refusal) => Delivery::Refused(*refusal),
                };
                DeviceDelivery {
                    device: device.to_string(),
                    topic: to.ok().map(|to| to.topic),
                    state: delivery.name().to_owned(),
                    reason: match delivery {
                        Delivery::Refused(refusal) => Some(refusal.name().to_owned()),
                        _ => None,
                    },
                    who_must_act: match delivery {
                        Delivery::Refused(_) => who_must_act(delivery),
                        _ => None,
                    },
                    changed_at: None,
                }
            })
            .collect(),
    }
}

fn who_must_act(delivery: Delivery) -> Option<&'static str> {
    use model::{DeliveryRefusal as Refusal, DeliveryWait as Wait};
    match delivery {
        Delivery::Waiting(Wait::Approval) => Some("operator"),
        Delivery::Waiting(Wait::Away | Wait::NotSubscribed | Wait::NotTaken) => Some("device"),
        Delivery::Refused(Refusal::NotSubscribed | Refusal::ByDevice | Refusal::TooMany) => {
            Some("device")
        }
        Delivery::Refused(_) => Some("operator"),
        Delivery::Expired => Some("device"),
        Delivery::Sent | Delivery::Delivered | Delivery::Answered | Delivery::Cancelled => None,
    }
}

fn command_id(text: &str) -> Result<CommandId, Problem> {
    CommandId::from_text(text)
        .ok_or_else(|| malformed("a command is written CMD- and 16 hex digits, as it was answered"))
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed", detail)
}
