//! `/api/v1/identity/revocations` and `…/releases`: what is withdrawn, for good or on hold, and what
//! is given back.

use super::guard::{Admitted, Allowed};
use super::identity::{Recorded, invalid};
use super::read::{Asked, Body, Text};
use super::{Problem, Shared, second};
use crate::flow;
use crate::plane::digest;
use crate::respond::deciding;
use crate::shared::{off_thread, to_its_end};
use crate::withdrawing::{Releasing, RevocationPreview, RevocationReceipt, Revoking, read_list};
use access::Action;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::{Revocable, RevocationReason};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// What a request names: one of the five.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// All its certificates and its factory identity.
    device: Option<String>,
    service: Option<String>,
    /// `<issuer digest>:<serial>`.
    certificate: Option<String>,
    /// Every device of it, present and to come.
    product: Option<String>,
    /// Everything that it issued: a CA of ours or a manufacturer's, by the SHA-256 of its name in
    /// DER, as it stands before the colon in a certificate's id.
    ca: Option<String>,
    /// `unspecified`, `key-compromise`, `ca-compromise`, `affiliation-changed`, `superseded`,
    /// `cessation-of-operation`, `privilege-withdrawn`; or `certificate-hold`, which alone can be
    /// released.
    reason: String,
    /// Only says what it would do.
    #[serde(default)]
    dry_run: bool,
}

/// What a revocation would do.
#[derive(Serialize, ToSchema)]
pub struct RevocationPreviewed {
    /// How much of it is not on record. A typing mistake?
    unknown: u64,
    devices: u64,
    /// Of ours, on record.
    certificates: u64,
    sessions: u32,
}

impl From<RevocationPreview> for RevocationPreviewed {
    fn from(preview: RevocationPreview) -> Self {
        Self {
            unknown: preview.unknown,
            devices: preview.reach.devices,
            certificates: preview.reach.certificates,
            sessions: preview.sessions,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct RevocationDone {
    /// False: some of it was not on record; it is barred in advance. A typing mistake?
    known: bool,
    /// How much of it that was.
    unknown: u64,
    sessions_closed: u32,
    /// Microseconds after which nothing of it was accepted at any door.
    in_force_after_micros: u64,
    /// When that was by this plane's clock, microseconds since 1970: to be held against a capture.
    in_force_at_unix_micros: u64,
    /// Microseconds after which the last of its connections was closed.
    closed_after_micros: u64,
    /// Microseconds after which its last entry was durable.
    recorded_after_micros: u64,
    recorded: Recorded,
    /// Where the proof of that entry is, once it is in a checkpoint: within a second or two.
    proof: String,
    /// Brokers that the fleet still uses and that are told of it, with how well that was tried.
    carried_to: Vec<String>,
}

impl RevocationDone {
    fn new(done: RevocationReceipt, carried_to: Vec<String>) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            known: done.unknown == 0,
            unknown: done.unknown,
            sessions_closed: done.sessions_closed,
            in_force_after_micros: micros(done.in_force_after),
            in_force_at_unix_micros: micros(done.in_force_at_unix),
            closed_after_micros: micros(done.closed_after),
            recorded_after_micros: micros(done.recorded_after),
            recorded: Recorded {
                sequence: done.receipt.sequence,
                entry: done.entry,
            },
            proof: proof_of(done.entry),
            carried_to,
        }
    }
}

fn proof_of(entry: u64) -> String {
    let to = entry.saturating_add(1);
    format!("/api/v1/audit/bundle?from={entry}&to={to}")
}

/// Withdraws an identity, for good or on hold: at every door at once, then on record.
#[utoipa::path(post, path = "/api/v1/identity/revocations", tag = "identity", request_body = Revocation,
    responses((status = 200, body = RevocationPreviewed, description = "dry_run: nothing was done"),
        (status = 201, body = RevocationDone), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 503, body = super::problem::ProblemBody)))]
pub async fn revoke(
    State(plane): State<Shared>,
    admitted: Admitted,
    Allowed(actor): Allowed,
    Body(asked): Body<Revocation>,
) -> Result<Response, Problem> {
    let what = one_of([
        ("device", asked.device),
        ("service", asked.service),
        ("certificate", asked.certificate),
        ("product", asked.product),
        ("ca", asked.ca),
    ])?;
    let revoking = Revoking::one(what, reason(&asked.reason)?);
    carry_out(plane, &admitted, revoking, asked.dry_run, actor).await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAsked {
    /// As of one revocation.
    reason: String,
    /// Only says what it would do.
    #[serde(default)]
    dry_run: bool,
}

/// Withdraws a whole list in one act: one of `device/<name>`, `service/<name>`, `product/<name>`,
/// `certificate/<issuer digest>:<serial>`, `ca/<issuer digest>` a line. All of it is in force
/// before the first of it is recorded.
#[utoipa::path(post, path = "/api/v1/identity/revocations/list", tag = "identity", params(ListAsked),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = RevocationPreviewed, description = "dry_run: nothing was done"),
        (status = 201, body = RevocationDone), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 503, body = super::problem::ProblemBody)))]
pub async fn revoke_list(
    State(plane): State<Shared>,
    admitted: Admitted,
    Allowed(actor): Allowed,
    Asked(asked): Asked<ListAsked>,
    Text(text): Text,
) -> Result<Response, Problem> {
    let what = read_list(&text).map_err(|errors| {
        let refused = "nothing of the list was revoked";
        Problem::new(StatusCode::BAD_REQUEST, "list-refused", refused).with_errors(errors)
    })?;
    let revoking = Revoking {
        what,
        list: Some(digest(text.as_bytes())),
        ..Revoking::nothing(reason(&asked.reason)?)
    };
    carry_out(plane, &admitted, revoking, asked.dry_run, actor).await
}

async fn carry_out(
    plane: Shared,
    admitted: &Admitted,
    revoking: Revoking,
    dry_run: bool,
    actor: crate::entries::Actor,
) -> Result<Response, Problem> {
    if dry_run {
        let preview = plane.preview(revoking.what).await?;
        return Ok(Json(RevocationPreviewed::from(preview)).into_response());
    }
    if revoking.what.iter().any(second::bars_many) {
        admitted.also(&plane, Action::RevokeMany)?;
    }
    let brokers = plane.brokers.configured();
    let carried_to = brokers
        .map(|broker| format!("{} ({})", broker.name(), broker.tried()))
        .collect();
    let done = to_its_end(async move { deciding::revoke(&plane, &revoking, &actor).await }).await?;
    let done = RevocationDone::new(done, carried_to);
    Ok((StatusCode::CREATED, Json(done)).into_response())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhichRevocations {
    /// Only what is on hold, or only what is not.
    on_hold: Option<bool>,
    /// Begin after this one.
    after: Option<String>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct Withdrawn {
    /// `device/…`, `service/…`, `certificate/…`, `product/…` or `ca/…`.
    what: String,
    at: String,
    reason: &'static str,
    on_hold: bool,
}

#[derive(Serialize, ToSchema)]
pub struct WithdrawnPage {
    revocations: Vec<Withdrawn>,
    /// How many there are in all, on this page or not.
    total: usize,
    /// Ask again with `after` set to this.
    next: Option<String>,
}

/// All that is revoked or on hold, in the order of its names.
#[utoipa::path(get, path = "/api/v1/identity/revocations", tag = "identity",
    params(WhichRevocations),
    responses((status = 200, body = WithdrawnPage), (status = 401, body = super::problem::ProblemBody)))]
pub async fn revocations(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(which): Asked<WhichRevocations>,
) -> Result<Json<WithdrawnPage>, Problem> {
    let limit = which.limit.unwrap_or(100).clamp(1, 1000);
    let page = off_thread(move || {
        let registry = plane.trust().registry();
        let mut all: Vec<_> = (registry.revocations())
            .filter(|(_, found)| which.on_hold.is_none_or(|on| on == found.reason.is_hold()))
            .map(|(what, found)| (what.to_string(), found))
            .collect();
        drop(registry);
        let total = all.len();
        if let Some(after) = which.after {
            all.retain(|(what, _)| *what > after);
        }
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let more = all.len() > limit;
        all.truncate(limit);
        WithdrawnPage {
            next: all.last().filter(|_| more).map(|(what, _)| what.clone()),
            revocations: (all.into_iter())
                .map(|(what, found)| Withdrawn {
                    what,
                    at: found.at.to_string(),
                    reason: found.reason.name(),
                    on_hold: found.reason.is_hold(),
                })
                .collect(),
            total,
        }
    });
    Ok(Json(page.await?))
}

/// What is on hold and is to be given back: one of the five.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    device: Option<String>,
    service: Option<String>,
    certificate: Option<String>,
    product: Option<String>,
    ca: Option<String>,
    /// Why, for the log: 1 to 500 characters.
    reason: String,
}

#[derive(Serialize, ToSchema)]
pub struct Released {
    released: String,
    recorded: Recorded,
    /// Where the proof of its entry is, once it is in a checkpoint.
    proof: String,
}

/// Lifts a hold: on record first, then in force. A revocation is never lifted.
#[utoipa::path(post, path = "/api/v1/identity/releases", tag = "identity", request_body = Release,
    responses((status = 201, body = Released), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn release(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(asked): Body<Release>,
) -> Result<(StatusCode, Json<Released>), Problem> {
    let what = one_of([
        ("device", asked.device),
        ("service", asked.service),
        ("certificate", asked.certificate),
        ("product", asked.product),
        ("ca", asked.ca),
    ])?;
    let reason = asked.reason.trim().to_owned();
    if reason.is_empty() || reason.chars().count() > 500 {
        return Err(invalid("say why in 1 to 500 characters"));
    }
    let released = what.to_string();
    let releasing = Releasing { what, reason };
    let receipt =
        to_its_end(async move { flow::release(&plane, &releasing, &actor).await }).await?;
    let recorded = Recorded::from(receipt);
    Ok((
        StatusCode::CREATED,
        Json(Released {
            released,
            proof: proof_of(recorded.entry),
            recorded,
        }),
    ))
}

fn one_of(named: [(&str, Option<String>); 5]) -> Result<Revocable, Problem> {
    let mut named = named
        .into_iter()
        .filter_map(|(kind, name)| Some((kind, name?)));
    let (Some((kind, name)), None) = (named.next(), named.next()) else {
        return Err(invalid(
            "name one of device, service, certificate, product, ca",
        ));
    };
    format!("{kind}/{name}").parse().map_err(invalid)
}

fn reason(name: &str) -> Result<RevocationReason, Problem> {
    RevocationReason::from_name(name).ok_or_else(|| {
        let names = RevocationReason::ALL.map(RevocationReason::name).join(", ");
        invalid(format!("reason is one of {names}"))
    })
}
