//! `/api/v1/identity/imports`: existing fleets, until they have moved.

use super::{Recorded, invalid};
use crate::api::guard::Allowed;
use crate::api::page::{Page, Rows};
use crate::api::read::{Asked, Body, Named, Text};
use crate::api::{Problem, Shared};
use crate::certify::imports::{self, How, ImportTerms};
use crate::shared::to_its_end;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use model::{ManufacturerId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

#[derive(Serialize, ToSchema)]
pub struct ImportedFleet {
    fleet: String,
    /// The rule that names its devices.
    naming: String,
    /// Until then its certificates open the MQTT door.
    until: String,
    accept_expired: bool,
    /// SHA-256 of each CA certificate, hex.
    ca_sha256: Vec<String>,
    devices: usize,
    /// Those that have a certificate of ours.
    moved: usize,
    /// Leaves that are believed for their fingerprint.
    pinned: usize,
    /// Devices that share a certificate and have none of their own yet.
    sharing: usize,
    retired_at: Option<String>,
}

/// Existing fleets and how far each has come.
#[utoipa::path(get, path = "/api/v1/identity/imports", tag = "identity",
    operation_id = "imports", params(Page), responses((status = 200, body = [ImportedFleet]), (status = 401, body = crate::api::problem::ProblemBody)))]
pub async fn list(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(page): Asked<Page>,
) -> Result<Rows<ImportedFleet>, Problem> {
    let rows = plane.store.imported_fleets()?;
    let rows = page.cut(rows, |row| row.fleet.to_string())?;
    let registry = plane.trust().registry();
    Ok(rows.map(|row| {
        let progress = registry.import_progress(&row.fleet);
        ImportedFleet {
            fleet: row.fleet.to_string(),
            naming: row.naming,
            until: row.until.to_string(),
            accept_expired: row.accept_expired,
            ca_sha256: (row.cas.iter())
                .map(|ca| crate::plane::digest(ca).to_string())
                .collect(),
            devices: progress.devices,
            moved: progress.moved,
            pinned: progress.pinned,
            sharing: progress.sharing,
            retired_at: row.retired_at.map(|at| at.to_string()),
        }
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewImport {
    /// Its name here, beside those of manufacturers.
    fleet: String,
    /// Which field of a certificate names its device: `cn`, `serial-number`, `san-dns`, `san-uri`,
    /// `san-email` or `fingerprint`; behind a colon what stands around the name, as
    /// `san-dns:*.example.com`.
    naming: String,
    /// The last day on which its certificates open the MQTT door, `2027-06-30`.
    until: String,
    /// Certificates that ended are taken too, until then.
    #[serde(default)]
    accept_expired: bool,
    /// Its CA certificates, PEM; without one its leaves are believed by fingerprint alone.
    #[serde(default)]
    ca_pem: String,
    /// Check, and write nothing.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Serialize, ToSchema)]
pub struct ImportTaken {
    fleet: String,
    /// Absent in a dry run.
    recorded: Option<Recorded>,
}

/// Believes the certificates of an existing fleet, of those of its devices that are listed.
#[utoipa::path(post, path = "/api/v1/identity/imports", tag = "identity",
    request_body = NewImport, operation_id = "import",
    responses((status = 200, body = ImportTaken), (status = 201, body = ImportTaken),
        (status = 400, body = crate::api::problem::ProblemBody),
        (status = 401, body = crate::api::problem::ProblemBody), (status = 409, body = crate::api::problem::ProblemBody)))]
pub async fn import(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(new): Body<NewImport>,
) -> Result<(StatusCode, Json<ImportTaken>), Problem> {
    let terms = ImportTerms {
        fleet: ManufacturerId::new(&new.fleet).map_err(invalid)?,
        naming: new.naming,
        until: end_of(&new.until).ok_or_else(|| invalid("until is a date as 2027-06-30"))?,
        accept_expired: new.accept_expired,
        ca_pem: new.ca_pem,
    };
    let receipt =
        to_its_end(async move { imports::import_fleet(&plane, terms, new.dry_run, &actor).await })
            .await?;
    let taken = ImportTaken {
        fleet: new.fleet,
        recorded: receipt.map(Into::into),
    };
    Ok((done(receipt.is_some()), Json(taken)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HowTaken {
    /// Check, and write nothing.
    #[serde(default)]
    dry_run: bool,
    /// Take certificates that several devices share.
    #[serde(default)]
    shared: bool,
}

#[derive(Serialize, ToSchema)]
pub struct ImportFinding {
    count: usize,
    /// The first of them.
    examples: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub struct DevicesImported {
    devices: usize,
    /// By kind: what is new, known, changed, pinned, sharing, and what a list is refused for.
    findings: BTreeMap<String, ImportFinding>,
    /// Of its last part; absent in a dry run.
    recorded: Option<Recorded>,
}

/// Takes the devices of an existing fleet: CSV (`text/csv`) or JSON (`application/json`).
#[utoipa::path(post, path = "/api/v1/identity/imports/{fleet}/devices", tag = "identity",
    params(("fleet" = String, Path, description = "its name"), HowTaken),
    request_body(content((String = "text/csv"), (Vec<Object> = "application/json"))), operation_id = "import_devices",
    responses((status = 200, body = DevicesImported), (status = 201, body = DevicesImported),
        (status = 400, body = crate::api::problem::ProblemBody),
        (status = 401, body = crate::api::problem::ProblemBody), (status = 409, body = crate::api::problem::ProblemBody)))]
pub async fn devices(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(fleet): Named<String>,
    Asked(how): Asked<HowTaken>,
    headers: HeaderMap,
    Text(text): Text,
) -> Result<(StatusCode, Json<DevicesImported>), Problem> {
    let fleet = ManufacturerId::new(&fleet).map_err(invalid)?;
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/json"));
    let list = super::parse_list(&text, is_json)?;
    let how = How {
        shared: how.shared,
        rehearsal: how.dry_run,
    };
    let imported = to_its_end(async move {
        imports::import_devices(&plane, &fleet, list, &text, how, &actor).await
    })
    .await?;
    let findings = imported.findings.into_iter().map(|(kind, finding)| {
        let finding = ImportFinding {
            count: finding.count,
            examples: finding.examples,
        };
        (kind.to_owned(), finding)
    });
    let taken = DevicesImported {
        devices: imported.devices,
        findings: findings.collect(),
        recorded: imported.receipt.map(Into::into),
    };
    Ok((done(imported.receipt.is_some()), Json(taken)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HowMany {
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct Waiting {
    /// All of them.
    count: usize,
    /// The first of them, in the order of the list.
    devices: Vec<String>,
}

/// Devices of an existing fleet that have no certificate of ours yet.
#[utoipa::path(get, path = "/api/v1/identity/imports/{fleet}/waiting", tag = "identity",
    params(("fleet" = String, Path, description = "its name"), HowMany), operation_id = "import_waiting",
    responses((status = 200, body = Waiting), (status = 401, body = crate::api::problem::ProblemBody)))]
pub async fn waiting(
    State(plane): State<Shared>,
    _: Allowed,
    Named(fleet): Named<String>,
    Asked(how_many): Asked<HowMany>,
) -> Result<Json<Waiting>, Problem> {
    let fleet = ManufacturerId::new(&fleet).map_err(invalid)?;
    let limit = how_many.limit.unwrap_or(100).clamp(1, 1000);
    let registry = plane.trust().registry();
    let progress = registry.import_progress(&fleet);
    let devices = registry.not_moved(&fleet).take(limit);
    Ok(Json(Waiting {
        count: progress.devices - progress.moved,
        devices: devices.map(|device| device.to_string()).collect(),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retirement {
    /// Devices that have not moved are locked out.
    #[serde(default)]
    leave_behind: bool,
}

#[derive(Serialize, ToSchema)]
pub struct RetirementDone {
    left_behind: usize,
    sessions_closed: u32,
    recorded: Recorded,
}

/// The fleet's certificates open no door any more: at once, then on record.
#[utoipa::path(post, path = "/api/v1/identity/imports/{fleet}/retirement", tag = "identity",
    params(("fleet" = String, Path, description = "its name")), request_body = Retirement,
    operation_id = "retire_import",
    responses((status = 201, body = RetirementDone), (status = 401, body = crate::api::problem::ProblemBody),
        (status = 409, body = crate::api::problem::ProblemBody), (status = 503, body = crate::api::problem::ProblemBody)))]
pub async fn retire(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(fleet): Named<String>,
    Body(how): Body<Retirement>,
) -> Result<(StatusCode, Json<RetirementDone>), Problem> {
    let fleet = ManufacturerId::new(&fleet).map_err(invalid)?;
    let done =
        to_its_end(async move { imports::retire(&plane, &fleet, how.leave_behind, &actor).await })
            .await?;
    let shown = RetirementDone {
        left_behind: done.left_behind,
        sessions_closed: done.sessions_closed,
        recorded: done.receipt.into(),
    };
    Ok((StatusCode::CREATED, Json(shown)))
}

fn done(is_written: bool) -> StatusCode {
    if is_written {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    }
}

/// The last second of a day, UTC.
fn end_of(day: &str) -> Option<Timestamp> {
    let day: jiff::civil::Date = day.parse().ok()?;
    let end = day
        .at(23, 59, 59, 0)
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?;
    u64::try_from(end.timestamp().as_second())
        .ok()
        .map(Timestamp::from_seconds)
}
