//! `/api/v1/inventory`: what is out there, lists in and out, and what a foreign list tells.

use super::detection::{Alert, open_alerts};
use super::guard::Allowed;
use super::identity::Certificate;
use super::read::{Asked, Named, Text};
use super::{Problem, Shared, bytes};
use crate::clock;
use crate::shared::{off_thread, to_its_end};
use crate::stock;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use inventory::{DeviceView, Lifecycle, Posture, Query};
use model::{Containment, DeviceId, GroupId, Principal, ProductId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Anywhere in the name, serial number, product, group, country, firmware or an address.
    search: Option<String>,
    product: Option<String>,
    group: Option<String>,
    /// `expected`, `enrolled`, `active`, `silent`, `retired` or `revoked`.
    lifecycle: Option<String>,
    /// `trusted`, `shared`, `suspect`, `contained` or `revoked`.
    posture: Option<String>,
    /// `quarantined` or `isolated`.
    containment: Option<String>,
    connected: Option<bool>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
    /// Begin after this device.
    after: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct InventoryPage {
    devices: Vec<KnownDevice>,
    /// How many there are in all, on this page or not.
    total: u64,
    /// Ask again with `after` set to this.
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct KnownDevice {
    device: String,
    product: Option<String>,
    groups: Vec<String>,
    serial: Option<String>,
    manufacturer: Option<String>,
    lifecycle: &'static str,
    posture: &'static str,
    /// Why it is not trusted; absent if it is.
    posture_cause: Option<String>,
    containment: Option<&'static str>,
    connected: bool,
    last_seen: Option<String>,
    firmware: Option<SeenFirmware>,
    /// The one seen last comes first.
    addresses: Vec<SeenAddress>,
    country: Option<String>,
    /// The day on which support ends.
    support_until: Option<String>,
    note: Option<String>,
    /// `INC-7`.
    incident: Option<String>,
}

/// What it runs, as far as somebody said.
#[derive(Serialize, ToSchema)]
pub struct SeenFirmware {
    version: String,
    sha256: Option<String>,
    /// `device`, `gateway` or `network`: who says so.
    source: &'static str,
    at: String,
}

#[derive(Serialize, ToSchema)]
pub struct SeenAddress {
    address: String,
    first_seen: String,
    last_seen: String,
    source: &'static str,
}

/// Whom it talked to.
#[derive(Serialize, ToSchema)]
pub struct SeenPeer {
    address: String,
    host: Option<String>,
    port: u16,
    protocol: &'static str,
    first_seen: String,
    last_seen: String,
    bytes_out: u64,
    source: &'static str,
    /// Whether its product is declared to talk to it; absent if nothing is declared.
    expected: Option<bool>,
}

#[derive(Serialize, ToSchema)]
pub struct DeviceInFull {
    #[serde(flatten)]
    device: KnownDevice,
    first_seen: Option<String>,
    peers: Vec<SeenPeer>,
    /// The one that ends last first.
    certificates: Vec<Certificate>,
    /// What its agent says it cannot see.
    unseen: Vec<String>,
    /// What is open about it, the newest first.
    alerts: Vec<Alert>,
    reach: ReachBeforeAndNow,
}

/// What it can reach when it is not cut off, and what it can reach now.
#[derive(Serialize, ToSchema)]
pub struct ReachBeforeAndNow {
    before: Vec<Reached>,
    now: Vec<Reached>,
}

#[derive(Serialize, ToSchema)]
pub struct Reached {
    /// `channel` or `destination`.
    pub kind: &'static str,
    pub name: String,
    /// `send`, `receive` or `both`; absent for a destination.
    pub direction: Option<&'static str>,
}

impl From<DeviceView> for KnownDevice {
    fn from(view: DeviceView) -> Self {
        Self {
            device: view.device.to_string(),
            product: view.product.map(|id| id.to_string()),
            groups: view.groups.iter().map(ToString::to_string).collect(),
            serial: view.serial.map(|id| id.to_string()),
            manufacturer: view.manufacturer.map(|id| id.to_string()),
            lifecycle: view.lifecycle.name(),
            posture: view.posture.name(),
            posture_cause: Some(view.posture_cause).filter(|cause| !cause.is_empty()),
            containment: view.containment.map(Containment::name),
            connected: view.connected,
            last_seen: view.last_seen.map(|at| at.to_string()),
            firmware: view.firmware.map(|one| SeenFirmware {
                version: one.version,
                sha256: one.digest.map(|digest| digest.to_string()),
                source: one.source.name(),
                at: one.at.to_string(),
            }),
            addresses: view
                .addresses
                .iter()
                .map(|one| SeenAddress {
                    address: one.address.to_string(),
                    first_seen: one.first_seen.to_string(),
                    last_seen: one.last_seen.to_string(),
                    source: one.source.name(),
                })
                .collect(),
            country: view.country,
            support_until: view.support_until.map(day),
            note: view.note,
            incident: view.incident.map(|id| id.to_string()),
        }
    }
}

/// Devices by search and filters, in the order of their names.
#[utoipa::path(get, path = "/api/v1/inventory/devices", tag = "inventory", params(Which),
    responses((status = 200, body = InventoryPage), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody)))]
pub async fn devices(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(which): Asked<Which>,
) -> Result<Json<InventoryPage>, Problem> {
    let query = which.query()?;
    let page = off_thread(move || plane.inventory.lock().search(&query, clock::now())).await?;
    Ok(Json(InventoryPage {
        devices: page.devices.into_iter().map(Into::into).collect(),
        total: page.total,
        next: page.next.map(|device| device.to_string()),
    }))
}

impl Which {
    fn query(&self) -> Result<Query, Problem> {
        fn named<T>(
            text: Option<&String>,
            what: &str,
            read: impl Fn(&str) -> Option<T>,
        ) -> Result<Option<T>, Problem> {
            text.map(|text| read(text).ok_or_else(|| invalid(format!("{what} has other words"))))
                .transpose()
        }
        Ok(Query {
            search: self.search.clone(),
            product: self
                .product
                .as_deref()
                .map(ProductId::new)
                .transpose()
                .map_err(invalid)?,
            group: self
                .group
                .as_deref()
                .map(GroupId::new)
                .transpose()
                .map_err(invalid)?,
            lifecycle: named(self.lifecycle.as_ref(), "lifecycle", Lifecycle::from_name)?,
            posture: named(self.posture.as_ref(), "posture", Posture::from_name)?,
            containment: named(
                self.containment.as_ref(),
                "containment",
                Containment::from_name,
            )?,
            connected: self.connected,
            limit: self.limit.unwrap_or(100),
            after: self
                .after
                .as_deref()
                .map(DeviceId::new)
                .transpose()
                .map_err(invalid)?,
        })
    }
}

/// One device with its peers, its certificates, its open alerts and its reach.
#[utoipa::path(get, path = "/api/v1/inventory/devices/{device}", tag = "inventory",
    params(("device" = String, Path, description = "its name")),
    responses((status = 200, body = DeviceInFull), (status = 401, body = super::problem::ProblemBody),
        (status = 404, body = super::problem::ProblemBody)))]
pub async fn device(
    State(plane): State<Shared>,
    _: Allowed,
    Named(device): Named<String>,
) -> Result<Json<DeviceInFull>, Problem> {
    let id = DeviceId::new(&device).map_err(invalid)?;
    let (view, peers) = {
        let inventory = plane.inventory.lock();
        (inventory.device(&id, clock::now()), inventory.peers(&id))
    };
    let Some(view) = view else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "device-unknown",
            format!("no device {id} is listed, enrolled or imported"),
        ));
    };
    let expectation = stock::Expectation::of(&plane, view.product.as_ref());
    let certificates = plane
        .store
        .certificates_of(&Principal::Device(id.clone()))?
        .into_iter()
        .map(Into::into)
        .collect();
    let reach = ReachBeforeAndNow {
        before: stock::reached(plane.reach_when_free(&id)),
        now: stock::reached(plane.reach_now(&id)),
    };
    let alerts = open_alerts(&plane.judgement.lock(), &id);
    Ok(Json(DeviceInFull {
        first_seen: view.first_seen.map(|at| at.to_string()),
        unseen: view.unseen.clone(),
        peers: peers
            .into_iter()
            .map(|one| SeenPeer {
                expected: expectation.as_ref().map(|all| all.holds(&one)),
                address: one.address.to_string(),
                host: one.host,
                port: one.port,
                protocol: one.protocol.name(),
                first_seen: one.first_seen.to_string(),
                last_seen: one.last_seen.to_string(),
                bytes_out: one.bytes_out,
                source: one.source.name(),
            })
            .collect(),
        device: view.into(),
        certificates,
        alerts,
        reach,
    }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct How {
    /// Say what would change, and change nothing.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Serialize, ToSchema)]
pub struct Imported {
    rows: u64,
    added: u64,
    changed: u64,
    unchanged: u64,
    /// The first hundred; the other lines stand.
    refused: Vec<RefusedLine>,
    refused_count: u64,
    /// Index of the last entry it made in the log; absent if nothing changed.
    entry: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub struct RefusedLine {
    /// From 1.
    line: usize,
    text: String,
}

impl From<inventory::LineError> for RefusedLine {
    fn from(error: inventory::LineError) -> Self {
        Self {
            line: error.line,
            text: error.text,
        }
    }
}

/// Takes a list of devices (CSV): what is known of them besides their identity. It grants nothing.
#[utoipa::path(post, path = "/api/v1/inventory/imports", tag = "inventory",
    params(How), request_body(content = String, content_type = "text/csv"),
    responses((status = 200, body = Imported), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 503, body = super::problem::ProblemBody)))]
pub async fn import(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Asked(how): Asked<How>,
    Text(text): Text,
) -> Result<Json<Imported>, Problem> {
    let (list, text) = off_thread(move || (inventory::List::read(&text), text)).await?;
    let list = list.map_err(list_refused)?;
    let done = if how.dry_run {
        stock::would_import(&plane, list).await?
    } else {
        to_its_end(async move { stock::import(&plane, list, &text, &actor).await }).await?
    };
    let (import, entry) = (done.import, done.entry);
    Ok(Json(Imported {
        rows: import.rows,
        added: import.added,
        changed: import.changed,
        unchanged: import.unchanged,
        refused: import.refused.into_iter().map(Into::into).collect(),
        refused_count: import.refused_count,
        entry,
    }))
}

/// Every device as CSV for a spreadsheet; no cell begins a formula.
#[utoipa::path(get, path = "/api/v1/inventory/export", tag = "inventory",
    responses((status = 200, content_type = "text/csv", body = String),
        (status = 401, body = super::problem::ProblemBody)))]
pub async fn export(State(plane): State<Shared>, _: Allowed) -> Result<Response, Problem> {
    let text = off_thread(move || stock::export(&plane)).await?;
    let mut response = bytes("text/csv; charset=utf-8", text.into_bytes());
    response.headers_mut().insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"devices.csv\""),
    );
    Ok(response)
}

#[derive(Serialize, ToSchema)]
pub struct Findings {
    rows: u64,
    /// Rows with a certificate or its fingerprint.
    certificates: u64,
    /// The worst first.
    findings: Vec<Finding>,
    /// Lines that could not be read; the first hundred.
    refused: Vec<RefusedLine>,
}

#[derive(Serialize, ToSchema)]
pub struct Finding {
    kind: &'static str,
    /// `low`, `medium`, `high` or `critical`.
    severity: &'static str,
    /// Rows that it holds for.
    count: u64,
    /// Five of them.
    examples: Vec<String>,
    /// What it means.
    why: &'static str,
    /// What to do.
    next: &'static str,
}

/// Judges a list of devices or certificates, CSV or PEM. Nothing of it is stored.
#[utoipa::path(post, path = "/api/v1/inventory/findings", tag = "inventory",
    request_body(content((String = "text/csv"), (String = "application/x-pem-file"))),
    responses((status = 200, body = Findings), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody)))]
pub async fn findings(
    State(plane): State<Shared>,
    _: Allowed,
    Text(text): Text,
) -> Result<Json<Findings>, Problem> {
    let context = stock::issuers(&plane)?;
    let judged = off_thread(move || inventory::findings::judge(&text, &context))
        .await?
        .map_err(list_refused)?;
    Ok(Json(Findings {
        rows: judged.rows,
        certificates: judged.certificates,
        findings: judged
            .findings
            .into_iter()
            .map(|one| Finding {
                kind: one.kind.name(),
                severity: one.kind.severity().name(),
                count: one.count,
                examples: one.examples,
                why: one.kind.why(),
                next: one.kind.next(),
            })
            .collect(),
        refused: judged.refused.into_iter().map(Into::into).collect(),
    }))
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn list_refused(error: inventory::LineError) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "list-refused",
        "the list was not taken",
    )
    .with_errors(vec![error.to_string()])
}

fn day(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

fn invalid(error: impl std::fmt::Display) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "request-refused",
        error.to_string(),
    )
}
