//! `/api/v1/identity/certificates`: what we issued, in the order in which it ends.

use super::invalid;
use crate::api::guard::Allowed;
use crate::api::read::Asked;
use crate::api::{Problem, Shared};
use crate::clock;
use crate::shared::off_thread;
use axum::Json;
use axum::extract::State;
use model::{CertificateId, Digest, Principal, ProductId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::{CertificateQuery, CertificateState, ListedCertificate};
use utoipa::{IntoParams, ToSchema};

/// The histogram: half a year, and what ends later counted as one.
const WEEKS_MAX: u64 = 26;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhichCertificates {
    /// Of the devices of this product.
    product: Option<String>,
    /// `device/<name>` or `service/<name>`.
    holder: Option<String>,
    /// The digest of an issuing CA's name, as it stands before the colon in a certificate's id.
    issuer: Option<String>,
    /// `P-256`, `P-384`, `Ed25519`, `RSA 2048`.
    key_kind: Option<String>,
    /// `current`, `superseded`, `on-hold`, `revoked` or `ended`; all that have not ended if absent.
    state: Option<String>,
    /// That end within so many days, 1 to 36500.
    within_days: Option<u32>,
    /// Begin after this: the `next` of the page before.
    after: Option<String>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct CertificatePage {
    certificates: Vec<CertificateOfList>,
    /// Ask again with `after` set to this.
    next: Option<String>,
}

/// A certificate of ours with how it stands.
#[derive(Serialize, ToSchema)]
pub struct CertificateOfList {
    /// `<issuer digest>:<serial>`: what a revocation takes.
    certificate: String,
    /// The CA that issued it, by its name.
    ca: Option<String>,
    /// `ldevid`, `service` or `server`.
    kind: String,
    device: Option<String>,
    service: Option<String>,
    product: Option<String>,
    /// `P-256`, `RSA 2048`; absent for one that a version before issued.
    key_kind: Option<String>,
    not_before: String,
    not_after: String,
    /// `current`, `superseded`, `on-hold`, `revoked` or `ended`.
    state: &'static str,
    barred: Option<BarredBy>,
    superseded_at: Option<String>,
    /// When it is revoked for being superseded, at the earliest; absent where it is left to end.
    retires_at: Option<String>,
    /// The entry of its issue; absent for one that a version before issued.
    entry: Option<u64>,
}

/// What bars a certificate: itself, its holder, its product or its issuer.
#[derive(Serialize, ToSchema)]
pub struct BarredBy {
    /// `certificate/…`, `device/…`, `service/…`, `product/…` or `ca/…`.
    by: String,
    at: String,
    reason: &'static str,
}

/// Certificates that we issued, those that end first.
#[utoipa::path(get, path = "/api/v1/identity/certificates", tag = "identity",
    operation_id = "certificates", params(WhichCertificates),
    responses((status = 200, body = CertificatePage), (status = 400, body = crate::api::problem::ProblemBody),
        (status = 401, body = crate::api::problem::ProblemBody)))]
pub async fn list(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(which): Asked<WhichCertificates>,
) -> Result<Json<CertificatePage>, Problem> {
    let now = clock::now();
    let limit = which.limit.unwrap_or(100).clamp(1, 1000);
    let query = which.query(now)?;
    let reading = Shared::clone(&plane);
    let rows = off_thread(move || reading.store.certificates_by_end(&query, now, limit)).await??;
    let next = (rows.len() == limit)
        .then(|| rows.last().map(cursor))
        .flatten();
    let names = Names::of(&plane);
    let certificates = rows.into_iter().map(|row| names.shown(row)).collect();
    Ok(Json(CertificatePage { certificates, next }))
}

impl WhichCertificates {
    fn query(self, now: Timestamp) -> Result<CertificateQuery, Problem> {
        let state = self.state.as_deref().map(|name| {
            CertificateState::from_name(name).ok_or_else(|| {
                let names = CertificateState::ALL.map(CertificateState::name).join(", ");
                invalid(format!("state is one of {names}"))
            })
        });
        let issuer = self
            .issuer
            .as_deref()
            .map(|text| Digest::from_hex(text).ok_or_else(|| invalid("issuer has 64 hex digits")));
        let after = self.after.as_deref().map(|text| {
            read_cursor(text).ok_or_else(|| invalid("after is the `next` of the page before"))
        });
        let days = self.within_days.map(|days| match days {
            1..=36500 => Ok(u64::from(days)),
            _ => Err(invalid("within_days is 1 to 36500")),
        });
        let ends_before = days
            .transpose()?
            .map(|days| now.plus(std::time::Duration::from_secs(days * 86_400)));
        Ok(CertificateQuery {
            issuer: issuer.transpose()?,
            product: (self.product.as_deref().map(ProductId::new).transpose()).map_err(invalid)?,
            principal: (self
                .holder
                .as_deref()
                .map(str::parse::<Principal>)
                .transpose())
            .map_err(invalid)?,
            key_kind: self.key_kind,
            state: state.transpose()?,
            ends_before,
            after: after.transpose()?,
        })
    }
}

fn cursor(row: &ListedCertificate) -> String {
    format!("{}.{}", row.not_after.as_millis(), row.certificate)
}

fn read_cursor(text: &str) -> Option<(Timestamp, CertificateId)> {
    let (end, certificate) = text.split_once('.')?;
    Some((
        Timestamp::from_millis(end.parse().ok()?),
        certificate.parse().ok()?,
    ))
}

/// What the rows do not know: names of CAs, and how long a superseded one is let live.
struct Names<'a> {
    plane: &'a Shared,
    cas: BTreeMap<Digest, String>,
}

impl<'a> Names<'a> {
    fn of(plane: &'a Shared) -> Self {
        let tree = plane.tree();
        let cas = tree.issuing().iter();
        Self {
            plane,
            cas: cas
                .map(|one| (one.issuer.id(), one.name.to_string()))
                .collect(),
        }
    }

    fn shown(&self, row: ListedCertificate) -> CertificateOfList {
        let fleet = self.plane.admission.fleet.get();
        let retires_at = match (row.superseded_at, &row.product) {
            (Some(at), Some(product)) if row.state == CertificateState::Superseded => fleet
                .rotation_overlap(product)
                .map(|overlap| at.plus(overlap).to_string()),
            _ => None,
        };
        let (device, service) = match row.principal {
            Some(Principal::Device(id)) => (Some(id.to_string()), None),
            Some(Principal::Service(id)) => (None, Some(id.to_string())),
            None => (None, None),
        };
        CertificateOfList {
            certificate: row.certificate.to_string(),
            ca: self.cas.get(&row.certificate.issuer()).cloned(),
            kind: row.kind,
            device,
            service,
            product: row.product.map(|product| product.to_string()),
            key_kind: row.key_kind,
            not_before: row.not_before.to_string(),
            not_after: row.not_after.to_string(),
            state: row.state.name(),
            barred: row.barred.map(|barred| BarredBy {
                by: barred.by.to_string(),
                at: barred.at.to_string(),
                reason: barred.reason.name(),
            }),
            superseded_at: row.superseded_at.map(|at| at.to_string()),
            retires_at,
            entry: row.entry,
        }
    }
}

/// How many certificates there are, and how they stand.
#[derive(Serialize, ToSchema)]
pub struct CertificateSummary {
    /// By state, those that have not ended and `ended`.
    states: BTreeMap<&'static str, u64>,
    /// That end in each of the next 26 weeks; revoked ones are not counted.
    weeks: Vec<u64>,
    /// That end later.
    later: u64,
    /// By the kind of their key, those that have not ended and are not revoked.
    key_kinds: Vec<KeyKindCount>,
    issuers: Vec<IssuerCount>,
}

#[derive(Serialize, ToSchema)]
pub struct KeyKindCount {
    /// Absent for those that a version before issued.
    key_kind: Option<String>,
    count: u64,
}

/// How an issuer's certificates on record stand.
#[derive(Serialize, ToSchema)]
pub struct IssuerCount {
    issuer: String,
    /// Current, or superseded by one that was proven.
    valid: u64,
    on_hold: u64,
    revoked: u64,
}

/// How all certificates of ours that are on record stand. One that ended a week ago is forgotten.
#[utoipa::path(get, path = "/api/v1/identity/certificates/summary", tag = "identity",
    operation_id = "certificate_summary",
    responses((status = 200, body = CertificateSummary), (status = 401, body = crate::api::problem::ProblemBody)))]
pub async fn summary(
    State(plane): State<Shared>,
    _: Allowed,
) -> Result<Json<CertificateSummary>, Problem> {
    let now = clock::now();
    let counts = off_thread(move || plane.store.certificate_counts(now)).await??;
    let mut states: BTreeMap<&'static str, u64> =
        CertificateState::ALL.map(|state| (state.name(), 0)).into();
    let mut weeks = vec![0; usize::try_from(WEEKS_MAX).unwrap_or(0)];
    let mut later = 0;
    let mut key_kinds: BTreeMap<Option<String>, u64> = BTreeMap::new();
    let mut issuers: BTreeMap<Digest, IssuerCount> = BTreeMap::new();
    for one in counts {
        *states.entry(one.state.name()).or_default() += one.count;
        let issuer = issuers.entry(one.issuer).or_insert_with(|| IssuerCount {
            issuer: one.issuer.to_string(),
            valid: 0,
            on_hold: 0,
            revoked: 0,
        });
        match one.state {
            CertificateState::Current | CertificateState::Superseded => issuer.valid += one.count,
            CertificateState::OnHold => issuer.on_hold += one.count,
            CertificateState::Revoked => issuer.revoked += one.count,
            CertificateState::Ended => {}
        }
        if matches!(
            one.state,
            CertificateState::Revoked | CertificateState::Ended
        ) {
            continue;
        }
        let week = usize::try_from(one.week)
            .ok()
            .and_then(|week| weeks.get_mut(week));
        *week.unwrap_or(&mut later) += one.count;
        *key_kinds.entry(one.key_kind).or_default() += one.count;
    }
    Ok(Json(CertificateSummary {
        states,
        weeks,
        later,
        key_kinds: (key_kinds.into_iter())
            .map(|(key_kind, count)| KeyKindCount { key_kind, count })
            .collect(),
        issuers: issuers.into_values().collect(),
    }))
}
