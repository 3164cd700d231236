//! `/api/v1/gateway`: who is connected and how well, what was refused and why, and what devices are
//! told.

pub mod commands;
pub mod tail;

use super::guard::Allowed;
use super::read::Asked;
use super::{Problem, Shared};
use crate::clock;
use crate::shards::{Link, SessionRow};
use access::{Channel, Encoding};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::{DeviceId, Principal, ServiceId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Rows of one answer.
const ROWS_DEFAULT: usize = 1000;
const ROWS_MAX: usize = 10_000;

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
    /// Where its client is.
    address: Option<String>,
    /// `3.1.1` or `5.0`.
    protocol: Option<&'static str>,
    /// `TLSv1_3`, `TLSv1_2`.
    tls_version: Option<String>,
    /// The key exchange: `X25519MLKEM768`.
    tls_group: Option<String>,
    /// What its client sends, over the last five seconds.
    incoming: Rate,
    /// What it is sent.
    outgoing: Rate,
    connectivity: Option<Connectivity>,
    /// To be given as `after` for the rows behind this one.
    cursor: String,
}

#[derive(Serialize, ToSchema)]
pub struct Rate {
    messages_per_second: f64,
    bytes_per_second: f64,
}

impl From<gateway::Rate> for Rate {
    fn from(rate: gateway::Rate) -> Self {
        let rounded = |value: f64| (value * 10.0).round() / 10.0;
        Self {
            messages_per_second: rounded(rate.messages),
            bytes_per_second: rounded(rate.bytes),
        }
    }
}

/// How well its connections hold, since the plane started.
#[derive(Serialize, ToSchema)]
pub struct Connectivity {
    /// Its first connection.
    since: String,
    connected: bool,
    connects: u64,
    /// Connections that ended without a goodbye, or by keep-alive.
    lost: u64,
    /// How the last connection ended, and when.
    last_end: Option<String>,
    last_end_at: Option<String>,
    /// Without any connection, since `since`.
    offline_seconds: u64,
}

impl Connectivity {
    fn of(link: &Link, now: Timestamp) -> Self {
        Self {
            since: link.since.to_string(),
            connected: link.open > 0,
            connects: link.connects,
            lost: link.lost,
            last_end: link.last_end.map(|(_, reason)| reason.to_owned()),
            last_end_at: link.last_end.map(|(at, _)| at.to_string()),
            offline_seconds: link.offline(now).as_secs(),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Sessions {
    /// The `cursor` of the last row that was shown.
    after: Option<String>,
    /// 1 to 10000, 10000 if absent.
    limit: Option<usize>,
}

/// MQTT sessions, live and waiting, in the order of principals and client identifiers.
#[utoipa::path(get, path = "/api/v1/gateway/sessions", tag = "gateway", params(Sessions),
    responses((status = 200, body = [Session]), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody)))]
pub async fn sessions(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(asked): Asked<Sessions>,
) -> Result<Json<Vec<Session>>, Problem> {
    let after = asked.after.as_deref().map(cursor).transpose()?;
    let limit = rows(asked.limit.or(Some(ROWS_MAX)));
    let now = clock::now();
    let found = plane.shards().sessions(after, limit).await;
    Ok(Json(
        found.into_iter().map(|row| session(row, now)).collect(),
    ))
}

fn session(row: SessionRow, now: Timestamp) -> Session {
    let (tls_version, tls_group) = row.tls;
    Session {
        cursor: format!("{} {}", row.principal, row.client_id),
        principal: row.principal.to_string(),
        client_id: row.client_id,
        connected: row.connected,
        persistent: row.persistent,
        shard: row.shard,
        opened_at: row.opened_at.to_string(),
        subscriptions: row.subscriptions,
        queued_messages: row.queued_messages,
        queued_bytes: row.queued_bytes,
        address: row.address.map(|address| address.to_string()),
        protocol: row.version.map(|version| match version {
            mqtt::Version::V311 => "3.1.1",
            mqtt::Version::V5 => "5.0",
        }),
        tls_version,
        tls_group,
        incoming: row.incoming.into(),
        outgoing: row.outgoing.into(),
        connectivity: row.link.map(|link| Connectivity::of(&link, now)),
    }
}

/// A principal, a space, a client identifier.
fn cursor(text: &str) -> Result<(Principal, String), Problem> {
    let parts = text.split_once(' ');
    let parsed = parts
        .and_then(|(principal, client_id)| Some((principal.parse().ok()?, client_id.to_owned())));
    parsed.ok_or_else(|| {
        let detail = "after is the cursor of a row, as the last answer gave it";
        Problem::new(StatusCode::BAD_REQUEST, "cursor-refused", detail)
    })
}

fn rows(limit: Option<usize>) -> usize {
    limit.unwrap_or(ROWS_DEFAULT).clamp(1, ROWS_MAX)
}

/// One of `device`, `service`; of everybody if neither is there.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Whose {
    device: Option<String>,
    service: Option<String>,
    /// 1 to 10000, 1000 if absent.
    limit: Option<usize>,
}

impl Whose {
    fn principal(&self) -> Result<Option<Principal>, Problem> {
        let refuse =
            |detail: String| Problem::new(StatusCode::BAD_REQUEST, "request-refused", detail);
        match (&self.device, &self.service) {
            (None, None) => Ok(None),
            (Some(id), None) => (DeviceId::new(id).map(|id| Some(Principal::Device(id))))
                .map_err(|error| refuse(error.to_string())),
            (None, Some(id)) => (ServiceId::new(id).map(|id| Some(Principal::Service(id))))
                .map_err(|error| refuse(error.to_string())),
            _ => Err(refuse("name one of device, service".to_owned())),
        }
    }
}

/// Something that was refused, as often as it was since the plane started.
#[derive(Serialize, ToSchema)]
pub struct RefusedAtGateway {
    principal: String,
    /// `publish`, `will`, `subscribe`, `connect` or `packet`.
    action: &'static str,
    /// A topic, a filter, a client identifier, a rule of MQTT: a text of the device's.
    target: String,
    /// The reason's name, as in the PUBACK: `no-permit`, `contract-violation`, …
    reason: &'static str,
    /// The policy that forbids it, or the channel whose contract it breaks.
    decided_by: Option<String>,
    /// The offending field of a payload, as a JSON pointer; empty: the whole.
    field: Option<String>,
    /// For a person: what happened, who must act, and how.
    text: String,
    count: u64,
    first_at: String,
    last_at: String,
}

/// Why somebody was denied: the last eight different refusals of each, of 4,096 principals a shard;
/// the latest first.
#[utoipa::path(get, path = "/api/v1/gateway/refusals", tag = "gateway", params(Whose),
    responses((status = 200, body = [RefusedAtGateway]), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody)))]
pub async fn refusals(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(asked): Asked<Whose>,
) -> Result<Json<Vec<RefusedAtGateway>>, Problem> {
    let found = plane
        .shards()
        .refusals(asked.principal()?, rows(asked.limit))
        .await;
    let rows = found.into_iter().map(|(principal, row)| RefusedAtGateway {
        principal: principal.to_string(),
        action: row.action,
        target: row.target,
        reason: row.reason,
        decided_by: row.decided_by,
        field: row.field,
        text: row.text,
        count: row.count,
        first_at: row.first_at.to_string(),
        last_at: row.last_at.to_string(),
    });
    Ok(Json(rows.collect()))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Links {
    /// The principal of the last row that was shown.
    after: Option<String>,
    /// 1 to 10000, 1000 if absent.
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct ConnectivityOf {
    principal: String,
    #[serde(flatten)]
    connectivity: Connectivity,
}

/// How well the connections of each principal hold, in the order of their names.
#[utoipa::path(get, path = "/api/v1/gateway/connectivity", tag = "gateway", params(Links),
    responses((status = 200, body = [ConnectivityOf]), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody)))]
pub async fn connectivity(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(asked): Asked<Links>,
) -> Result<Json<Vec<ConnectivityOf>>, Problem> {
    let after = asked.after.as_deref().map(str::parse).transpose();
    let after = after.map_err(|error: model::InvalidName| {
        Problem::new(StatusCode::BAD_REQUEST, "cursor-refused", error.to_string())
    })?;
    let now = clock::now();
    let found = plane.shards().links(after, rows(asked.limit)).await;
    let rows = found.into_iter().map(|(principal, link)| ConnectivityOf {
        principal: principal.to_string(),
        connectivity: Connectivity::of(&link, now),
    });
    Ok(Json(rows.collect()))
}

/// What somebody may say or hear in one channel.
#[derive(Serialize, ToSchema)]
pub struct Speech {
    channel: String,
    /// The channel's topics, with slots; the plane's own channels have none in `fleet/`.
    topic: Option<String>,
    publishes: bool,
    receives: bool,
    /// Also on topics of other devices.
    others: bool,
    payload_bytes_max: Option<u32>,
    /// Of one publisher; unlimited if absent.
    rate_per_minute: Option<u32>,
    /// `json`, `cbor` or `utf-8`; any bytes if absent.
    encoding: Option<&'static str>,
    /// The file that says what a payload must be.
    schema: Option<String>,
}

/// What a device or service may say and hear now, by the policies in force and its containment.
#[utoipa::path(get, path = "/api/v1/gateway/speech", tag = "gateway", params(Whose),
    responses((status = 200, body = [Speech]), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody)))]
pub async fn speech(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(asked): Asked<Whose>,
) -> Result<Json<Vec<Speech>>, Problem> {
    let Some(principal) = asked.principal()? else {
        let detail = "name one of device, service";
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "request-refused",
            detail,
        ));
    };
    let reach = match &principal {
        Principal::Device(device) => plane.reach_now(device),
        Principal::Service(_) => plane.grants().reach(&plane.admission.facts_of(&principal)),
    };
    let grants = plane.grants();
    let rows = reach.channels.into_iter().map(|one| {
        let mut channels = grants.fleet().channels();
        let channel = channels.find(|channel| channel.id.as_str() == one.channel);
        let contract = channel.and_then(|channel| channel.contract.as_ref());
        Speech {
            topic: channel.map(|channel| channel.template.to_string()),
            publishes: one.publishes,
            receives: one.receives,
            others: one.others,
            payload_bytes_max: channel.map(|channel| channel.payload_bytes_max),
            rate_per_minute: channel.and_then(|channel: &Channel| channel.rate_per_minute),
            encoding: contract.map(|contract| match contract.encoding {
                Encoding::Json => "json",
                Encoding::Cbor => "cbor",
                Encoding::Utf8 => "utf-8",
            }),
            schema: contract.and_then(|it| it.schema_path.as_deref().map(str::to_owned)),
            channel: one.channel,
        }
    });
    Ok(Json(rows.collect()))
}
