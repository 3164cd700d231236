//! `/api/v1/identity/ownership`: whose a device is. Services that the fleet names speak for owners;
//! owners are opaque names of theirs.

use super::{Recorded, invalid};
use crate::api::guard::Allowed;
use crate::api::read::{Body, Named};
use crate::api::{Caller, Problem, Shared};
use crate::certify::owning;
use crate::shared::to_its_end;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use identity::Presented;
use identity::ownership::Wish;
use model::{DeviceId, OwnerId};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

const DAYS_MAX: u32 = 3650;
const BATCH_MAX: usize = 100_000;

#[derive(Serialize, ToSchema)]
pub struct OwnershipPeriod {
    owner: String,
    /// Hex; with the owner's name it gives the commitment in the log.
    salt: String,
    since: String,
    /// Absent for the present owner.
    until: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Ownership {
    device: String,
    /// Absent if it is nobody's.
    owner: Option<String>,
    offered_to: Option<String>,
    /// The latest 100, the latest first.
    history: Vec<OwnershipPeriod>,
}

/// Whose a device is and was.
#[utoipa::path(get, path = "/api/v1/identity/ownership/{device}", tag = "identity",
    params(("device" = String, Path, description = "its name")), operation_id = "ownership",
    responses((status = 200, body = Ownership), (status = 401, body = crate::api::problem::ProblemBody),
        (status = 403, body = crate::api::problem::ProblemBody), (status = 404, body = crate::api::problem::ProblemBody)))]
pub async fn show(
    State(plane): State<Shared>,
    _: Allowed,
    Named(device): Named<String>,
) -> Result<Json<Ownership>, Problem> {
    let device = DeviceId::new(&device).map_err(invalid)?;
    owning::known(&plane, &device)?;
    let history = plane.store.ownership_history(&device)?;
    let present = history.iter().find(|period| period.until.is_none());
    let offered = present.and_then(|period| period.owned.offered_to.as_ref());
    Ok(Json(Ownership {
        device: device.to_string(),
        owner: present.map(|period| period.owned.owner.to_string()),
        offered_to: offered.map(ToString::to_string),
        history: (history.iter())
            .map(|period| OwnershipPeriod {
                owner: period.owned.owner.to_string(),
                salt: hex(&period.owned.salt),
                since: period.since.to_string(),
                until: period.until.map(|at| at.to_string()),
            })
            .collect(),
    }))
}

#[derive(Serialize, ToSchema)]
pub struct OwnershipSettled {
    device: String,
    /// Absent if it is nobody's now.
    owner: Option<String>,
    offered_to: Option<String>,
    /// What the log says in place of the owner's name, hex.
    owner_commitment: Option<String>,
    recorded: Recorded,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Opaque: a customer number, never a name or an address.
    owner: String,
    /// As it stands in the device's box, or as the device shows it.
    code: String,
}

/// Claims a device for an owner, with a code of the device. One that has an owner is refused.
#[utoipa::path(post, path = "/api/v1/identity/ownership/{device}/claim", tag = "identity",
    params(("device" = String, Path, description = "its name")), request_body = Claim,
    operation_id = "claim_device",
    responses((status = 200, body = OwnershipSettled), (status = 403, body = crate::api::problem::ProblemBody),
        (status = 404, body = crate::api::problem::ProblemBody), (status = 409, body = crate::api::problem::ProblemBody)))]
pub async fn claim(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(device): Named<String>,
    Body(claim): Body<Claim>,
) -> Result<Json<OwnershipSettled>, Problem> {
    let wish = Wish::Claim {
        owner: OwnerId::new(&claim.owner).map_err(invalid)?,
    };
    settled(plane, &device, wish, Some(claim.code), actor).await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Whose it is.
    owner: String,
    /// Whose it shall be. Absent: an earlier offer is taken back.
    to: Option<String>,
}

/// Offers a device to the next owner, who must accept; or takes an offer back.
#[utoipa::path(post, path = "/api/v1/identity/ownership/{device}/offer", tag = "identity",
    params(("device" = String, Path, description = "its name")), request_body = Offer,
    operation_id = "offer_device",
    responses((status = 200, body = OwnershipSettled), (status = 403, body = crate::api::problem::ProblemBody),
        (status = 404, body = crate::api::problem::ProblemBody), (status = 409, body = crate::api::problem::ProblemBody)))]
pub async fn offer(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(device): Named<String>,
    Body(offer): Body<Offer>,
) -> Result<Json<OwnershipSettled>, Problem> {
    let owner = OwnerId::new(&offer.owner).map_err(invalid)?;
    let wish = match offer.to {
        Some(to) => Wish::Offer {
            owner,
            to: OwnerId::new(&to).map_err(invalid)?,
        },
        None => Wish::Withdraw { owner },
    };
    settled(plane, &device, wish, None, actor).await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OfOwner {
    owner: String,
}

/// Takes a device that was offered to this owner.
#[utoipa::path(post, path = "/api/v1/identity/ownership/{device}/accept", tag = "identity",
    params(("device" = String, Path, description = "its name")), request_body = OfOwner,
    operation_id = "accept_device",
    responses((status = 200, body = OwnershipSettled), (status = 403, body = crate::api::problem::ProblemBody),
        (status = 404, body = crate::api::problem::ProblemBody), (status = 409, body = crate::api::problem::ProblemBody)))]
pub async fn accept(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(device): Named<String>,
    Body(of): Body<OfOwner>,
) -> Result<Json<OwnershipSettled>, Problem> {
    let owner = OwnerId::new(&of.owner).map_err(invalid)?;
    settled(plane, &device, Wish::Accept { owner }, None, actor).await
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnershipRelease {
    /// Whose it is. Absent: by the word of an operator, whoever it is.
    owner: Option<String>,
}

/// A device is nobody's from here on. Its certificates and its history stay.
#[utoipa::path(post, path = "/api/v1/identity/ownership/{device}/release", tag = "identity",
    params(("device" = String, Path, description = "its name")), request_body = OwnershipRelease,
    operation_id = "release_device",
    responses((status = 200, body = OwnershipSettled), (status = 403, body = crate::api::problem::ProblemBody),
        (status = 404, body = crate::api::problem::ProblemBody), (status = 409, body = crate::api::problem::ProblemBody)))]
pub async fn release(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(device): Named<String>,
    Body(release): Body<OwnershipRelease>,
) -> Result<Json<OwnershipSettled>, Problem> {
    let wish = match release.owner {
        Some(owner) => Wish::Release {
            owner: OwnerId::new(&owner).map_err(invalid)?,
        },
        None if matches!(actor, crate::entries::Actor::Service(_)) => {
            return Err(invalid(
                "a service says whose device it is that it releases",
            ));
        }
        None => Wish::Override,
    };
    settled(plane, &device, wish, None, actor).await
}

async fn settled(
    plane: Shared,
    device: &str,
    wish: Wish,
    code: Option<String>,
    actor: crate::entries::Actor,
) -> Result<Json<OwnershipSettled>, Problem> {
    let device = DeviceId::new(device).map_err(invalid)?;
    let named = device.to_string();
    let settled =
        to_its_end(
            async move { owning::settle(&plane, &device, &wish, code.as_deref(), &actor).await },
        )
        .await?;
    let owned = settled.owned.as_ref();
    Ok(Json(OwnershipSettled {
        device: named,
        owner: owned.map(|owned| owned.owner.to_string()),
        offered_to: owned.and_then(|owned| owned.offered_to.as_ref().map(ToString::to_string)),
        owner_commitment: settled.commitment.map(|digest| digest.to_string()),
        recorded: settled.receipt.into(),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCodes {
    /// 1 to 100,000 devices that are expected.
    devices: Vec<String>,
    /// After so many days an unused code ends, 1 to 3650.
    days: u32,
}

#[derive(Serialize, ToSchema)]
pub struct OwnershipCode {
    device: String,
    /// Shown this once.
    code: String,
}

#[derive(Serialize, ToSchema)]
pub struct CodesMade {
    codes: Vec<OwnershipCode>,
    expires_at: String,
    recorded: Recorded,
}

/// Makes a code for each device, to be packed with it; an earlier one of the same device ends.
#[utoipa::path(post, path = "/api/v1/identity/ownership-codes", tag = "identity",
    request_body = NewCodes, operation_id = "make_ownership_codes",
    responses((status = 201, body = CodesMade), (status = 400, body = crate::api::problem::ProblemBody),
        (status = 401, body = crate::api::problem::ProblemBody), (status = 404, body = crate::api::problem::ProblemBody)))]
pub async fn make_codes(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(new): Body<NewCodes>,
) -> Result<(StatusCode, Json<CodesMade>), Problem> {
    if !(1..=BATCH_MAX).contains(&new.devices.len()) {
        return Err(invalid("name 1 to 100,000 devices"));
    }
    if !(1..=DAYS_MAX).contains(&new.days) {
        return Err(invalid("days is 1 to 3650"));
    }
    let mut devices = (new.devices.iter())
        .map(|device| DeviceId::new(device).map_err(invalid))
        .collect::<Result<Vec<_>, _>>()?;
    devices.sort_unstable();
    devices.dedup();
    let lifetime = Duration::from_secs(u64::from(new.days) * 86_400);
    let (fresh, expires_at, receipt) =
        to_its_end(async move { owning::make_codes(&plane, devices, lifetime, &actor).await })
            .await?;
    let codes = fresh.into_iter().map(|fresh| OwnershipCode {
        device: fresh.device.to_string(),
        code: fresh.code,
    });
    let made = CodesMade {
        codes: codes.collect(),
        expires_at: expires_at.to_string(),
        recorded: receipt.into(),
    };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Whoever proved a certificate at the door for devices.
pub struct Shower(Presented);

impl FromRequestParts<Shared> for Shower {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        match parts.extensions.get::<Caller>() {
            Some(caller) => Ok(Self(caller.presented()?.clone())),
            None => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "no-certificate",
                "a device asks for its code by its certificate",
            )),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct CodeToShow {
    device: String,
    code: String,
    expires_at: String,
}

/// A code for whoever stands before a device: asked for by the device itself, by its certificate, and
/// good for ten minutes.
#[utoipa::path(post, path = "/api/v1/identity/ownership-codes/own", tag = "identity",
    operation_id = "own_ownership_code",
    responses((status = 201, body = CodeToShow), (status = 401, body = crate::api::problem::ProblemBody),
        (status = 409, body = crate::api::problem::ProblemBody)))]
pub async fn own_code(
    State(plane): State<Shared>,
    Shower(presented): Shower,
) -> Result<(StatusCode, Json<CodeToShow>), Problem> {
    let (fresh, expires_at) =
        to_its_end(async move { owning::code_for_device(&plane, &presented).await }).await?;
    let shown = CodeToShow {
        device: fresh.device.to_string(),
        code: fresh.code,
        expires_at: expires_at.to_string(),
    };
    Ok((StatusCode::CREATED, Json(shown)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
