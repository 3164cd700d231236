//! `/api/v1/detection`: alerts, baselines, and what observers in the network saw.

use super::guard::Allowed;
use super::identity::Recorded;
use super::read::{Asked, Body, Named};
use super::{Problem, Shared};
use crate::clock;
use crate::judge::Judgement;
use crate::judge::signals::Told;
use crate::respond::deciding;
use crate::shared::to_its_end;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use detection::{Alert as Raised, AlertState, Feature, Observation};
use model::{Attribution, DeviceId, ProductId, Protocol, Source, Subject, Timestamp};
use response::About;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// Observations in one request.
const OBSERVATIONS_MAX: usize = 1000;
/// Bytes of one text in an observation.
const TEXT_BYTES_MAX: usize = 256;
/// Names in a sample.
const NAMES_MAX: usize = 16;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlertsAsked {
    /// `true`: only what is open.
    open: Option<bool>,
    /// Only of this device.
    device: Option<String>,
    /// Begin after this one.
    after: Option<u64>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct Alerts {
    /// The newest first.
    alerts: Vec<Alert>,
    /// What `after` is for the next page.
    next: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub struct Alert {
    id: u64,
    /// `device/cam-1`, `service/ingest`, `person/a1B2`, `address/192.0.2.7`.
    subject: String,
    kind: String,
    /// What distinguishes it from others of its kind.
    entity: String,
    severity: String,
    /// `open`, `held`, `folded` into a fleet event, `closed`.
    state: String,
    count: u64,
    first_seen: String,
    last_seen: String,
    since: String,
    expected: String,
    seen: String,
    /// `device`, `gateway`, `network`.
    source: String,
    /// `proven`, `claimed`, `address`.
    attribution: String,
    observed_by: String,
    /// Compared with what the fleet declares or a person accepted; else it never cuts off.
    accepted_baseline: bool,
    /// The same on so many devices; nobody is cut off for it.
    fleet_event: bool,
    subjects: u64,
    incident: Option<String>,
}

/// What behaves otherwise than expected, each thing once.
#[utoipa::path(get, path = "/api/v1/detection/alerts", tag = "detection", params(AlertsAsked),
    responses((status = 200, body = Alerts), (status = 401, body = super::problem::ProblemBody)))]
pub async fn alerts(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(asked): Asked<AlertsAsked>,
) -> Result<Json<Alerts>, Problem> {
    let device = asked.device.as_deref().map(DeviceId::new).transpose();
    let subject = device.map_err(invalid)?.map(Subject::Device);
    let limit = asked.limit.unwrap_or(100).clamp(1, 1000);
    let judgement = plane.judgement.lock();
    let is_asked = |alert: &&Raised| {
        asked.after.is_none_or(|after| alert.id.0 < after)
            && (asked.open != Some(true) || alert.state == AlertState::Open)
            && subject.as_ref().is_none_or(|one| alert.subject == *one)
    };
    let mut found: Vec<&Raised> = judgement.alerts.iter().filter(is_asked).collect();
    found.reverse();
    let next = (found.len() > limit)
        .then(|| found.get(limit - 1).map(|alert| alert.id.0))
        .flatten();
    found.truncate(limit);
    let alerts = found
        .into_iter()
        .map(|alert| shown(alert, incident_of(&judgement.responder, alert)));
    Ok(Json(Alerts {
        alerts: alerts.collect(),
        next,
    }))
}

/// What is open about a device, the newest first.
pub fn open_alerts(judgement: &Judgement, device: &DeviceId) -> Vec<Alert> {
    let subject = Subject::Device(device.clone());
    let is_open = |alert: &&Raised| alert.state == AlertState::Open && alert.subject == subject;
    let open = judgement.alerts.iter().filter(is_open);
    let mut open: Vec<Alert> = open
        .map(|alert| shown(alert, incident_of(&judgement.responder, alert)))
        .collect();
    open.reverse();
    open
}

fn shown(alert: &Raised, incident: Option<String>) -> Alert {
    Alert {
        id: alert.id.0,
        subject: alert.subject.to_string(),
        kind: alert.kind.name().to_owned(),
        entity: alert.entity.clone(),
        severity: alert.severity.name().to_owned(),
        state: alert.state.name().to_owned(),
        count: alert.count,
        first_seen: alert.first_seen.to_string(),
        last_seen: alert.last_seen.to_string(),
        since: alert.since.to_string(),
        expected: alert.expected.clone(),
        seen: alert.seen.clone(),
        source: alert.source.name().to_owned(),
        attribution: alert.attribution.name().to_owned(),
        observed_by: alert.observed_by.clone(),
        accepted_baseline: alert.accepted_baseline,
        fleet_event: alert.fleet_event,
        subjects: alert.subjects,
        incident,
    }
}

/// The newest incident that has this alert among its evidence.
fn incident_of(responder: &response::Responder, alert: &Raised) -> Option<String> {
    let holds = |incident: &&response::Incident| {
        let about = match &incident.about {
            About::Subject(subject) => *subject == alert.subject,
            About::Group { kind, entity, .. } => {
                alert.fleet_event && *kind == alert.kind && *entity == alert.entity
            }
            // The alert waits for one of its own.
            About::TooMany { .. } => false,
        };
        let evidence = &incident.evidence;
        about && (evidence.iter()).any(|one| one.kind == alert.kind && one.entity == alert.entity)
    };
    let found = responder.incidents().rev().find(holds);
    found.map(|incident| incident.id.to_string())
}

#[derive(Serialize, ToSchema)]
pub struct Baselines {
    baselines: Vec<Baseline>,
}

#[derive(Serialize, ToSchema)]
pub struct Baseline {
    product: String,
    /// `seeded`, `learning`, `proposed`, `accepted`.
    state: String,
    devices: u64,
    entries: Vec<BaselineEntry>,
    proposed_at: Option<String>,
    accepted_at: Option<String>,
    /// Who accepted it, as in the log.
    accepted_by: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct BaselineEntry {
    feature: String,
    value: String,
    /// On how many devices it was seen from outside.
    devices: u64,
    /// How many devices only said so themselves.
    reported: u64,
    declared: bool,
    /// It is normal now.
    accepted: bool,
}

/// What the devices of each product usually do.
#[utoipa::path(get, path = "/api/v1/detection/baselines", tag = "detection",
    responses((status = 200, body = Baselines), (status = 401, body = super::problem::ProblemBody)))]
pub async fn baselines(
    State(plane): State<Shared>,
    _: Allowed,
) -> Result<Json<Baselines>, Problem> {
    let known = plane.judgement.lock().detector.baselines();
    let baselines = known
        .into_iter()
        .map(|one| {
            let accepted_by = plane.accepted_by(&one.product)?;
            Ok(Baseline {
                state: one.state.name().to_owned(),
                devices: one.devices,
                entries: (one.entries.into_iter())
                    .map(|entry| BaselineEntry {
                        feature: entry.feature.to_owned(),
                        value: entry.value,
                        devices: entry.devices,
                        reported: entry.reported,
                        declared: entry.declared,
                        accepted: entry.accepted,
                    })
                    .collect(),
                proposed_at: one.proposed_at.map(|at| at.to_string()),
                accepted_at: one.accepted_at.map(|at| at.to_string()),
                accepted_by: accepted_by.filter(|_| one.accepted_at.is_some()),
                product: one.product.to_string(),
            })
        })
        .collect::<Result<_, Problem>>()?;
    Ok(Json(Baselines { baselines }))
}

#[derive(Serialize, ToSchema)]
pub struct Accepted {
    product: String,
    /// How much of what was proposed is normal from here on.
    entries: usize,
    recorded: Recorded,
}

/// Takes what was learned of a product as normal: from here on playbooks may act on it.
#[utoipa::path(post, path = "/api/v1/detection/baselines/{product}/accept", tag = "detection",
    params(("product" = String, Path, description = "its name in the fleet")),
    responses((status = 200, body = Accepted), (status = 401, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn accept(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(product): Named<String>,
) -> Result<Json<Accepted>, Problem> {
    let id = ProductId::new(&product).map_err(invalid)?;
    let (entries, receipt) =
        to_its_end(async move { deciding::accept_baseline(&plane, &id, &actor).await }).await?;
    Ok(Json(Accepted {
        product,
        entries,
        recorded: receipt.into(),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Observations {
    observations: Vec<ObservationTold>,
}

/// What an observer in the network saw of one device. Which of the optional fields belong to a
/// feature stands beside it; others are refused.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservationTold {
    device: String,
    /// How it knows the device: `port`, which is wired to it, or `address`, which others can use.
    bound_by: BoundBy,
    /// When it was seen, by the observer's clock. Nothing rests on it: what is told is of now.
    #[serde(default, rename = "at")]
    #[schema(value_type = Option<String>)]
    _at: Option<serde_json::Value>,
    feature: SeenFeature,
    /// `destination`
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// `destination`, `listening-port`
    #[serde(default)]
    port: Option<u16>,
    /// `destination`, `listening-port`: `tcp` or `udp`.
    #[serde(default)]
    protocol: Option<String>,
    /// `destination`: the name by which it was asked for, if that was seen.
    #[serde(default)]
    host: Option<String>,
    /// `destination`
    #[serde(default)]
    bytes_out: Option<u64>,
    /// `dns-queries`
    #[serde(default)]
    queries: Option<u64>,
    /// `dns-queries`: a sample of at most 16.
    #[serde(default)]
    names: Option<Vec<String>>,
    /// `bytes-out`
    #[serde(default)]
    bytes: Option<u64>,
    /// `bytes-out`
    #[serde(default)]
    packets: Option<u64>,
    /// `dns-queries`, `bytes-out`: what the counts are of; it ends now.
    #[serde(default)]
    interval_ms: Option<u64>,
    /// `handshake-failed`
    #[serde(default)]
    reason: Option<String>,
    /// `handshake-failed`: whose; `network` if absent.
    #[serde(default)]
    door: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BoundBy {
    Port,
    Address,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SeenFeature {
    Destination,
    ListeningPort,
    DnsQueries,
    BytesOut,
    HandshakeFailed,
}

#[derive(Serialize, ToSchema)]
pub struct Taken {
    taken: usize,
}

/// Takes what a service that the fleet declares with `observes_network` saw of devices. They are
/// of now, whenever they were seen.
#[utoipa::path(post, path = "/api/v1/detection/observations", tag = "detection",
    request_body = Observations,
    responses((status = 202, body = Taken), (status = 400, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody)))]
pub async fn observations(
    State(plane): State<Shared>,
    _: Allowed,
    Body(told): Body<Observations>,
) -> Result<(StatusCode, Json<Taken>), Problem> {
    if told.observations.len() > OBSERVATIONS_MAX {
        return Err(invalid(format!(
            "{OBSERVATIONS_MAX} observations in one request at most; send the rest in the next"
        )));
    }
    let at = clock::now();
    // All or none: whoever made a mistake corrects it and sends the whole again.
    let seen = told
        .observations
        .into_iter()
        .map(|one| observation(one, at))
        .collect::<Result<Vec<_>, Problem>>()?;
    // What does not fit is not taken: the observer sees that it must say it again.
    let taken = (seen.into_iter())
        .map(|one| plane.signals.offer(Told::Observation(one)))
        .filter(|taken| *taken)
        .count();
    Ok((StatusCode::ACCEPTED, Json(Taken { taken })))
}

fn observation(one: ObservationTold, at: Timestamp) -> Result<Observation, Problem> {
    let device = DeviceId::new(&one.device).map_err(invalid)?;
    let attribution = match one.bound_by {
        BoundBy::Port => Attribution::Proven,
        BoundBy::Address => Attribution::Address,
    };
    Ok(Observation {
        at,
        subject: Subject::Device(device),
        source: Source::Network,
        attribution,
        feature: feature(one)?,
    })
}

fn feature(mut one: ObservationTold) -> Result<Feature, Problem> {
    // Each field is taken where it belongs; what is left at the end does not belong.
    let feature = match one.feature {
        SeenFeature::Destination => Feature::Destination {
            address: needed("address", one.address.take())?,
            port: needed("port", one.port.take())?,
            protocol: protocol(one.protocol.take())?,
            host: one.host.take().map(short).transpose()?,
            bytes_out: one.bytes_out.take().unwrap_or_default(),
        },
        SeenFeature::ListeningPort => Feature::ListeningPort {
            port: needed("port", one.port.take())?,
            protocol: protocol(one.protocol.take())?,
        },
        SeenFeature::DnsQueries => Feature::DnsQueries {
            queries: needed("queries", one.queries.take())?,
            names: (one.names.take().unwrap_or_default().into_iter())
                .take(NAMES_MAX)
                .map(short)
                .collect::<Result<_, _>>()?,
            interval: span(one.interval_ms.take())?,
        },
        SeenFeature::BytesOut => Feature::BytesOut {
            bytes: needed("bytes", one.bytes.take())?,
            packets: one.packets.take().unwrap_or_default(),
            interval: span(one.interval_ms.take())?,
        },
        SeenFeature::HandshakeFailed => Feature::HandshakeFailed {
            reason: short(needed("reason", one.reason.take())?)?,
            door: short(one.door.take().unwrap_or_else(|| "network".into()))?,
        },
    };
    let is_left = [
        one.address.is_some(),
        one.port.is_some(),
        one.protocol.is_some(),
        one.host.is_some(),
        one.bytes_out.is_some(),
        one.queries.is_some(),
        one.names.is_some(),
        one.bytes.is_some(),
        one.packets.is_some(),
        one.interval_ms.is_some(),
        one.reason.is_some(),
        one.door.is_some(),
    ];
    if is_left.contains(&true) {
        return Err(invalid(
            "an observation has fields that its feature does not have",
        ));
    }
    Ok(feature)
}

fn needed<T>(name: &str, value: Option<T>) -> Result<T, Problem> {
    value.ok_or_else(|| invalid(format!("this feature needs {name}")))
}

fn protocol(name: Option<String>) -> Result<Protocol, Problem> {
    Protocol::from_name(&needed("protocol", name)?).ok_or_else(|| invalid("protocol is tcp or udp"))
}

fn span(millis: Option<u64>) -> Result<Duration, Problem> {
    const DAY: u64 = 86_400_000;
    let millis = needed("interval_ms", millis)?;
    if (1..=DAY).contains(&millis) {
        Ok(Duration::from_millis(millis))
    } else {
        Err(invalid("interval_ms is 1 to 86400000"))
    }
}

fn short(text: String) -> Result<String, Problem> {
    if text.len() <= TEXT_BYTES_MAX {
        Ok(text)
    } else {
        Err(invalid(format!(
            "a text has {TEXT_BYTES_MAX} bytes at most"
        )))
    }
}

fn invalid(error: impl std::fmt::Display) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "request-refused",
        error.to_string(),
    )
}
