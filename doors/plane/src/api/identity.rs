//! `/api/v1/identity`: manufacturers, expected devices, devices, services' certificates,
//! the CA.

pub mod certificates;
pub mod claiming;
pub mod claims;
pub mod imports;
pub mod ownership;

use super::guard::Allowed;
use super::page::{Page as Paged, Rows};
use super::read::{Asked, Body, Named, Text};
use super::{Problem, Shared, bytes};
use crate::certify::lists;
use crate::flow;
use crate::shared::to_its_end;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use identity::CertificateRequest;
use model::{DeviceId, ManufacturerId, Principal, ServiceId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewManufacturer {
    /// Its name here.
    manufacturer: String,
    /// The CA that signs its factory certificates, one PEM block.
    ca_pem: String,
}

#[derive(Serialize, ToSchema)]
pub struct Manufacturer {
    manufacturer: String,
    /// SHA-256 of the CA certificate, hex.
    ca_sha256: String,
    added_at: String,
}

/// The receipt of an act: durable now, proven with the next checkpoint.
#[derive(Serialize, ToSchema)]
pub struct Recorded {
    /// Place in the order of commits.
    pub sequence: u64,
    /// Index of its entry in the log.
    pub entry: u64,
}

impl From<store::Receipt> for Recorded {
    fn from(receipt: store::Receipt) -> Self {
        Self {
            sequence: receipt.sequence,
            entry: receipt.first_leaf_index,
        }
    }
}

/// Whose factory certificates are believed.
#[utoipa::path(get, path = "/api/v1/identity/manufacturers", tag = "identity", params(Paged),
    responses((status = 200, body = [Manufacturer]), (status = 401, body = super::problem::ProblemBody)))]
pub async fn manufacturers(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(page): Asked<Paged>,
) -> Result<Rows<Manufacturer>, Problem> {
    let mut all = Vec::new();
    plane.store.for_each_manufacturer(|row| {
        all.push(Manufacturer {
            manufacturer: row.id.to_string(),
            ca_sha256: crate::plane::digest(&row.ca).to_string(),
            added_at: row.added_at.to_string(),
        });
    })?;
    page.cut(all, |row| row.manufacturer.clone())
}

/// Registers a manufacturer's CA: from now on its devices can prove their first identity.
#[utoipa::path(post, path = "/api/v1/identity/manufacturers", tag = "identity",
    request_body = NewManufacturer,
    responses((status = 201, body = Recorded), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn add_manufacturer(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(new): Body<NewManufacturer>,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    let id = ManufacturerId::new(&new.manufacturer).map_err(invalid)?;
    let receipt =
        to_its_end(async move { lists::add_manufacturer(&plane, id, &new.ca_pem, &actor).await })
            .await?;
    Ok((StatusCode::CREATED, Json(receipt.into())))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhoseList {
    /// Who made the devices on the list.
    manufacturer: String,
}

#[derive(Serialize, ToSchema)]
pub struct ListTaken {
    devices: usize,
    /// Index of the last entry it made in the log.
    entry: u64,
}

/// Takes a list of devices that may enroll: CSV (`text/csv`) or JSON (`application/json`).
#[utoipa::path(post, path = "/api/v1/identity/expected-devices", tag = "identity",
    params(WhoseList), request_body(content((String = "text/csv"), (Vec<Object> = "application/json"))),
    responses((status = 201, body = ListTaken), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn expect_devices(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    headers: HeaderMap,
    Asked(whose): Asked<WhoseList>,
    Text(text): Text,
) -> Result<(StatusCode, Json<ListTaken>), Problem> {
    let manufacturer = ManufacturerId::new(&whose.manufacturer).map_err(invalid)?;
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/json"));
    let list = parse_list(&text, is_json)?;
    let devices = list.len();
    let receipt = to_its_end(async move {
        lists::expect_devices(&plane, &manufacturer, list, &text, &actor).await
    })
    .await?;
    Ok((
        StatusCode::CREATED,
        Json(ListTaken {
            devices,
            entry: receipt.first_leaf_index,
        }),
    ))
}

fn parse_list(
    text: &str,
    is_json: bool,
) -> Result<Vec<identity::expected::ExpectedDevice>, Problem> {
    let parsed = if is_json {
        identity::expected::parse_json(text)
    } else {
        identity::expected::parse_csv(text)
    };
    parsed.map_err(|errors| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "list-refused",
            "the list was not taken",
        )
        .with_errors(errors.iter().map(ToString::to_string).collect())
    })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Begin after this device.
    after: Option<String>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct Device {
    device: String,
    product: String,
    groups: Vec<String>,
    manufacturer: String,
    serial: String,
    enrolled_at: String,
    revoked: Option<RevokedWhy>,
}

#[derive(Serialize, ToSchema)]
pub struct RevokedWhy {
    at: String,
    reason: String,
}

impl From<store::Revocation> for RevokedWhy {
    fn from(revocation: store::Revocation) -> Self {
        Self {
            at: revocation.at.to_string(),
            reason: revocation.reason.name().to_owned(),
        }
    }
}

impl From<store::DeviceRow> for Device {
    fn from(row: store::DeviceRow) -> Self {
        Self {
            device: row.device.id.to_string(),
            product: row.device.product.to_string(),
            groups: row.device.groups.iter().map(ToString::to_string).collect(),
            manufacturer: row.device.manufacturer.to_string(),
            serial: row.device.serial.to_string(),
            enrolled_at: row.device.enrolled_at.to_string(),
            revoked: row.revoked.map(Into::into),
        }
    }
}

/// Enrolled devices, in the order of their names.
#[utoipa::path(get, path = "/api/v1/identity/devices", tag = "identity", params(Page),
    responses((status = 200, body = [Device]), (status = 401, body = super::problem::ProblemBody)))]
pub async fn devices(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(page): Asked<Page>,
) -> Result<Json<Vec<Device>>, Problem> {
    let after = page
        .after
        .as_deref()
        .map(DeviceId::new)
        .transpose()
        .map_err(invalid)?;
    let limit = page.limit.unwrap_or(100).clamp(1, 1000);
    let rows = plane.store.devices(after.as_ref(), limit)?;
    Ok(Json(rows.into_iter().map(Into::into).collect()))
}

#[derive(Serialize, ToSchema)]
pub struct DeviceWithCertificates {
    #[serde(flatten)]
    device: Device,
    /// How far it is shown to be what it says: `contraindicated`, `identified`, `hardware-held` or
    /// `attested`.
    assurance: &'static str,
    /// What became of its latest evidence.
    attestation: Option<Attestation>,
    /// The one that ends last first.
    certificates: Vec<Certificate>,
}

/// An attestation result.
#[derive(Serialize, ToSchema)]
pub struct Attestation {
    /// `affirming` or `contraindicated`.
    status: &'static str,
    why: String,
    appraised_at: String,
    /// An affirming one counts until then.
    ends_at: String,
}

impl From<store::AttestationResult> for Attestation {
    fn from(row: store::AttestationResult) -> Self {
        Self {
            status: row.status.name(),
            why: row.why,
            appraised_at: row.appraised_at.to_string(),
            ends_at: row.ends_at.to_string(),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct Certificate {
    /// `<issuer digest>:<serial>`: what a revocation takes.
    certificate: String,
    not_before: String,
    not_after: String,
    revoked: Option<RevokedWhy>,
}

impl From<store::CertificateRow> for Certificate {
    fn from(row: store::CertificateRow) -> Self {
        Self {
            certificate: row.certificate.id.to_string(),
            not_before: row.certificate.not_before.to_string(),
            not_after: row.certificate.not_after.to_string(),
            revoked: row.revoked.map(Into::into),
        }
    }
}

/// One device and the certificates it was given.
#[utoipa::path(get, path = "/api/v1/identity/devices/{device}", tag = "identity",
    params(("device" = String, Path, description = "its name")),
    responses((status = 200, body = DeviceWithCertificates), (status = 401, body = super::problem::ProblemBody),
        (status = 404, body = super::problem::ProblemBody)))]
pub async fn device(
    State(plane): State<Shared>,
    _: Allowed,
    Named(device): Named<String>,
) -> Result<Json<DeviceWithCertificates>, Problem> {
    let id = DeviceId::new(&device).map_err(invalid)?;
    let Some(row) = plane.store.device(&id)? else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "device-unknown",
            format!("no device {id} has enrolled"),
        ));
    };
    let assurance = (plane.trust().registry()).assurance(&id, crate::clock::now());
    let attestation = plane.store.attestation_result(&id)?.map(Into::into);
    let certificates = plane
        .store
        .certificates_of(&Principal::Device(id))?
        .into_iter()
        .map(Into::into)
        .collect();
    Ok(Json(DeviceWithCertificates {
        device: row.into(),
        assurance: assurance.name(),
        attestation,
        certificates,
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceRequest {
    /// PKCS #10, one PEM block. Only its key is taken over.
    csr_pem: String,
}

#[derive(Serialize, ToSchema)]
pub struct ServiceCertificate {
    certificate: String,
    certificate_pem: String,
    not_after: String,
    recorded: Recorded,
}

/// Gives a service of the fleet a certificate for the key in its request.
#[utoipa::path(post, path = "/api/v1/identity/services/{service}/certificates", tag = "identity",
    params(("service" = String, Path, description = "its name in the fleet")),
    request_body = ServiceRequest,
    responses((status = 201, body = ServiceCertificate), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn certify_service(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(service): Named<String>,
    Body(request): Body<ServiceRequest>,
) -> Result<(StatusCode, Json<ServiceCertificate>), Problem> {
    let service = ServiceId::new(&service).map_err(invalid)?;
    let der = crate::pem::decode(&request.csr_pem, &["CERTIFICATE REQUEST"])?;
    let request = CertificateRequest::parse(&der).map_err(crate::trouble::Trouble::from)?;
    let issued =
        to_its_end(async move { flow::issue_to_service(&plane, &service, &request, &actor).await })
            .await?;
    Ok((
        StatusCode::CREATED,
        Json(ServiceCertificate {
            certificate: issued.certificate.to_string(),
            certificate_pem: crate::pem::encode("CERTIFICATE", &issued.der),
            not_after: issued.not_after.to_string(),
            recorded: issued.receipt.into(),
        }),
    ))
}

/// The root certificate, PEM: what devices and clients trust. Open to everybody.
#[utoipa::path(get, path = "/api/v1/identity/ca", tag = "identity",
    responses((status = 200, content_type = "application/x-pem-file", body = String)))]
pub async fn ca(State(plane): State<Shared>) -> Response {
    let pem = crate::pem::encode("CERTIFICATE", plane.tree().root());
    bytes("application/x-pem-file", pem.into_bytes())
}

pub(super) fn invalid(error: impl std::fmt::Display) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "request-refused",
        error.to_string(),
    )
}
