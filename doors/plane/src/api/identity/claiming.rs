//! `/api/v1/identity/claim-certificates`: certificates that batches of devices share to ask for
//! their first one.

use super::{Recorded, invalid};
use crate::api::guard::Allowed;
use crate::api::page::{Page, Rows};
use crate::api::read::{Asked, Body, Named};
use crate::api::{Problem, Shared};
use crate::certify::claiming::{self, NewClaim};
use crate::clock;
use crate::plane::digest;
use crate::shared::to_its_end;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use identity::claim_certificate::{DEVICES_MAX, RANGES_MAX};
use model::{ClaimCertificateId, ManufacturerId, ProductId};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

const DAYS_MAX: u32 = 3650;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewClaimCertificate {
    /// Its name here.
    claim: String,
    /// The certificate, PEM, signed by itself. Its key stays where it was made.
    certificate_pem: String,
    /// Whose serial numbers its devices have.
    manufacturer: String,
    product: String,
    /// The provisioning template that firmware asks for; without one the product's name.
    #[serde(default)]
    template: Option<String>,
    /// 1 to 32 ranges of addresses from which it may be used: `192.0.2.0/24`.
    addresses: Vec<String>,
    /// Devices that it is for, 1 to 100,000.
    devices_max: u32,
    /// After so many days it ends, 1 to 3650; never later than the certificate.
    days: u32,
}

#[derive(Serialize, ToSchema)]
pub struct ClaimCertificateAdded {
    claim: String,
    expires_at: String,
    recorded: Recorded,
}

/// Believes a claim certificate, for one product, so many devices, from these addresses, until then.
#[utoipa::path(post, path = "/api/v1/identity/claim-certificates", tag = "identity",
    request_body = NewClaimCertificate, operation_id = "add_claim_certificate",
    responses((status = 201, body = ClaimCertificateAdded),
        (status = 400, body = crate::api::problem::ProblemBody),
        (status = 401, body = crate::api::problem::ProblemBody), (status = 409, body = crate::api::problem::ProblemBody)))]
pub async fn add(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(new): Body<NewClaimCertificate>,
) -> Result<(StatusCode, Json<ClaimCertificateAdded>), Problem> {
    if !(1..=RANGES_MAX).contains(&new.addresses.len()) {
        return Err(invalid("name 1 to 32 ranges of addresses"));
    }
    if !(1..=DEVICES_MAX).contains(&new.devices_max) {
        return Err(invalid("devices_max is 1 to 100,000"));
    }
    if !(1..=DAYS_MAX).contains(&new.days) {
        return Err(invalid("days is 1 to 3650"));
    }
    let claim = NewClaim {
        claim: ClaimCertificateId::new(&new.claim).map_err(invalid)?,
        certificate_pem: new.certificate_pem,
        manufacturer: ManufacturerId::new(&new.manufacturer).map_err(invalid)?,
        product: ProductId::new(&new.product).map_err(invalid)?,
        template: new.template,
        addresses: (new.addresses.iter())
            .map(|range| range.parse().map_err(invalid))
            .collect::<Result<_, _>>()?,
        devices_max: new.devices_max,
        lifetime: Duration::from_secs(u64::from(new.days) * 86_400),
    };
    let (expires_at, receipt) =
        to_its_end(async move { claiming::add(&plane, claim, &actor).await }).await?;
    let added = ClaimCertificateAdded {
        claim: new.claim,
        expires_at: expires_at.to_string(),
        recorded: receipt.into(),
    };
    Ok((StatusCode::CREATED, Json(added)))
}

#[derive(Serialize, ToSchema)]
pub struct ClaimCertificate {
    claim: String,
    /// SHA-256 of the certificate, hex.
    certificate_sha256: String,
    manufacturer: String,
    product: String,
    template: String,
    addresses: Vec<String>,
    devices_max: u32,
    /// Devices that have a certificate by it.
    devices: u32,
    /// Certificates that it made, those that nobody owned in time among them.
    certificates: u32,
    expires_at: String,
    retired_at: Option<String>,
    /// `open`, `used-up`, `ended` or `retired`.
    state: &'static str,
}

/// Claim certificates and how far each was used.
#[utoipa::path(get, path = "/api/v1/identity/claim-certificates", tag = "identity",
    operation_id = "claim_certificates", params(Page), responses((status = 200, body = [ClaimCertificate]), (status = 401, body = crate::api::problem::ProblemBody)))]
pub async fn list(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(page): Asked<Page>,
) -> Result<Rows<ClaimCertificate>, Problem> {
    let now = clock::now();
    let rows = plane.store.claim_certificates()?;
    let rows = page.cut(rows, |row| row.claim.to_string())?;
    Ok(rows.map(|row| ClaimCertificate {
        state: if row.retired_at.is_some() {
            "retired"
        } else if row.expires_at < now {
            "ended"
        } else if row.used >= row.devices_max {
            "used-up"
        } else {
            "open"
        },
        claim: row.claim.to_string(),
        certificate_sha256: digest(&row.certificate).to_string(),
        manufacturer: row.manufacturer.to_string(),
        product: row.product.to_string(),
        template: row.template,
        addresses: row
            .addresses
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        devices_max: row.devices_max,
        devices: row.used,
        certificates: row.made,
        expires_at: row.expires_at.to_string(),
        retired_at: row.retired_at.map(|at| at.to_string()),
    }))
}

#[derive(Serialize, ToSchema)]
pub struct ClaimCertificateRetired {
    sessions_closed: u32,
    recorded: Recorded,
}

/// A claim certificate opens nothing any more. Devices that have a certificate by it keep it.
#[utoipa::path(post, path = "/api/v1/identity/claim-certificates/{claim}/retirement", tag = "identity",
    params(("claim" = String, Path, description = "its name")), operation_id = "retire_claim_certificate",
    responses((status = 200, body = ClaimCertificateRetired),
        (status = 401, body = crate::api::problem::ProblemBody), (status = 404, body = crate::api::problem::ProblemBody)))]
pub async fn retire(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(claim): Named<String>,
) -> Result<Json<ClaimCertificateRetired>, Problem> {
    let claim = ClaimCertificateId::new(&claim).map_err(invalid)?;
    let (sessions_closed, receipt) =
        to_its_end(async move { claiming::retire(&plane, &claim, &actor).await }).await?;
    Ok(Json(ClaimCertificateRetired {
        sessions_closed,
        recorded: receipt.into(),
    }))
}
