//! `/api/v1/identity/pending`: devices that wait for a person, and what the person decides.

use super::guard::Allowed;
use super::identity::Recorded;
use super::read::{Asked, Body, Named};
use super::{Problem, Shared};
use crate::certify::waiting::{self, Assignment};
use crate::clock;
use crate::shared::to_its_end;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use identity::pending::{PendingEnrollment, Shown};
use model::{DeviceId, Digest, GroupId, ProductId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A person's reason, as it stands in the log.
const REASON_CHARACTERS_MAX: usize = 500;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PendingPage {
    /// Begin after this enrollment.
    after: Option<String>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

/// A device whose factory identity is genuine and that waits for a person.
#[derive(Serialize, ToSchema)]
pub struct Pending {
    /// Names this request, shown with this certificate: what a decision takes.
    id: String,
    manufacturer: String,
    serial: String,
    /// `unlisted` (on no list of expected devices) or `approval` (its product wants a person).
    reason: &'static str,
    /// As the list says, or as the device asked by its label.
    product: Option<String>,
    /// Its name here, if it is on a list.
    device: Option<String>,
    /// `waiting`, `approved` (not fetched yet) or `refused`.
    state: &'static str,
    asked_at: String,
    /// The address that it asked from.
    asked_from: Option<String>,
    expires_at: String,
    /// The kind of its new key, and SHA-256 of its SubjectPublicKeyInfo, hex.
    key_kind: String,
    key_sha256: String,
    /// The certificate that was shown, `<issuer digest>:<serial>`.
    certificate: Option<String>,
    /// Or the chip that was shown, by its endorsement key: SHA-256 of the public key, hex.
    endorsement_key_sha256: Option<String>,
}

/// Devices that wait for a person, the one that has waited longest first.
#[utoipa::path(get, path = "/api/v1/identity/pending", tag = "identity", operation_id = "pending",
    params(PendingPage),
    responses((status = 200, body = [Pending]), (status = 401, body = super::problem::ProblemBody)))]
pub async fn list(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(page): Asked<PendingPage>,
) -> Result<Json<Vec<Pending>>, Problem> {
    let after = page.after.as_deref().map(read_id).transpose()?;
    let limit = page.limit.unwrap_or(100).clamp(1, 1000);
    let pending = plane.pending.lock();
    let mut all = pending.list(clock::now()).into_iter();
    if let Some(after) = after {
        // One that is gone meanwhile leaves nothing after it: the caller begins anew.
        all.by_ref().find(|one| one.id == after);
    }
    Ok(Json(
        all.take(limit).map(|one| shown(&plane, one)).collect(),
    ))
}

/// As what a device that is on no list is let in; empty for one that is listed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Needed for a device on no list, unless it asked under its product's label.
    product: Option<String>,
    /// Its name; without one the serial number serves.
    device: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    /// Why, for the log: up to 500 characters.
    #[serde(default)]
    reason: String,
}

/// Why a device is not let in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefusedBecause {
    /// For the log: up to 500 characters.
    #[serde(default)]
    reason: String,
}

#[derive(Serialize, ToSchema)]
pub struct Approved {
    device: String,
    product: String,
    recorded: Recorded,
}

/// Lets a device have its certificate: it gets it when it asks again.
#[utoipa::path(post, path = "/api/v1/identity/pending/{id}/approve", tag = "identity",
    operation_id = "approve", params(("id" = String, Path, description = "The enrollment.")),
    request_body = Approval,
    responses((status = 200, body = Approved), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 404, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn approve(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(id): Named<String>,
    Body(approval): Body<Approval>,
) -> Result<Json<Approved>, Problem> {
    let id = read_id(&id)?;
    let groups = approval.groups.iter().map(|group| GroupId::new(group));
    let assignment = Assignment {
        product: (approval.product.as_deref())
            .map(ProductId::new)
            .transpose()
            .map_err(invalid)?,
        device: (approval.device.as_deref())
            .map(DeviceId::new)
            .transpose()
            .map_err(invalid)?,
        groups: groups.collect::<Result<_, _>>().map_err(invalid)?,
    };
    if assignment.groups.len() > identity::expected::GROUPS_MAX {
        return Err(invalid("a device is in 64 groups at most"));
    }
    let why = said(approval.reason)?;
    let deciding = async move { waiting::approve(&plane, id, assignment, &why, &actor).await };
    let done = to_its_end(deciding).await?;
    Ok(Json(Approved {
        device: done.device.to_string(),
        product: done.product.to_string(),
        recorded: done.receipt.into(),
    }))
}

/// Does not let a device in: for 30 days it is refused, whatever it sends.
#[utoipa::path(post, path = "/api/v1/identity/pending/{id}/refuse", tag = "identity",
    operation_id = "refuse", params(("id" = String, Path, description = "The enrollment.")),
    request_body = RefusedBecause,
    responses((status = 200, body = Recorded), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody),
        (status = 404, body = super::problem::ProblemBody)))]
pub async fn refuse(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(id): Named<String>,
    Body(because): Body<RefusedBecause>,
) -> Result<Json<Recorded>, Problem> {
    let id = read_id(&id)?;
    let why = said(because.reason)?;
    let receipt =
        to_its_end(async move { waiting::refuse(&plane, id, &why, &actor).await }).await?;
    Ok(Json(receipt.into()))
}

fn shown(plane: &Shared, one: &PendingEnrollment) -> Pending {
    let listed = {
        let registry = plane.trust().registry();
        let device = registry.device_by_serial(&one.manufacturer, &one.serial);
        device.map(|device| (device.device.to_string(), device.product.to_string()))
    };
    let (device, listed_as) = listed.unzip();
    Pending {
        id: one.id.to_string(),
        manufacturer: one.manufacturer.to_string(),
        serial: one.serial.to_string(),
        reason: if device.is_some() {
            "approval"
        } else {
            "unlisted"
        },
        product: listed_as.or_else(|| one.product.as_ref().map(ToString::to_string)),
        device,
        state: one.state.name(),
        asked_at: one.asked_at.to_string(),
        asked_from: one.asked_from.map(|address| address.to_string()),
        expires_at: one.expires_at.to_string(),
        key_kind: one.key_kind.clone(),
        key_sha256: one.key.to_string(),
        certificate: match one.shown {
            Shown::Certificate(certificate) => Some(certificate.to_string()),
            Shown::Chip(_) => None,
        },
        endorsement_key_sha256: match one.shown {
            Shown::Chip(endorsement) => Some(endorsement.to_string()),
            Shown::Certificate(_) => None,
        },
    }
}

fn said(reason: String) -> Result<String, Problem> {
    if reason.chars().count() > REASON_CHARACTERS_MAX {
        return Err(invalid("say why in 500 characters at most"));
    }
    Ok(reason.trim().to_owned())
}

fn read_id(text: &str) -> Result<Digest, Problem> {
    Digest::from_hex(text)
        .ok_or_else(|| invalid("an enrollment is named by 64 hex digits, as the list shows it"))
}

fn invalid(error: impl std::fmt::Display) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "request-refused",
        error.to_string(),
    )
}
