//! `/api/v1/identity/authorities`: our own CAs.

use super::caller::Administrator;
use super::identity::{Recorded, invalid};
use super::read::{Body, Named};
use super::{Problem, Shared};
use crate::certify::authorities;
use crate::plane::digest;
use crate::shared::to_its_end;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use identity::profile::NameLimits;
use model::{AuthorityId, CertificateUses};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct Authorities {
    /// The one that serves comes first.
    roots: Vec<Root>,
    /// By name; of one name the newest first.
    issuing: Vec<Issuing>,
    /// What somebody should change about them, each a sentence.
    findings: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Root {
    /// `next`, `current`, `retiring` or `ended`.
    state: &'static str,
    /// Its key is on this machine.
    online: bool,
    not_before: String,
    not_after: String,
    /// Of the certificate, hex.
    sha256: String,
    certificate_pem: String,
}

#[derive(Serialize, ToSchema)]
pub struct Issuing {
    name: String,
    /// `every`, `server`, or some of `device`, `service` and `operator` joined by `+`.
    uses: String,
    /// `current`, `retiring` (believed until its last certificate ended) or `ended`.
    state: &'static str,
    /// The names that its certificates may hold; empty: any.
    permitted: Vec<String>,
    not_before: String,
    not_after: String,
    /// SHA-256 of its name, hex: the issuer in the names of its certificates.
    issuer: String,
    /// Of the certificate, hex.
    sha256: String,
    certificate_pem: String,
}

/// Our CAs, and what somebody should change about them.
#[utoipa::path(get, path = "/api/v1/identity/authorities", tag = "identity",
    responses((status = 200, body = Authorities), (status = 401, body = super::problem::ProblemBody)))]
pub async fn authorities(
    State(plane): State<Shared>,
    _: Administrator,
) -> Result<Json<Authorities>, Problem> {
    let tree = plane.tree();
    let roots = tree.roots().iter().map(|one| Root {
        state: one.state.name(),
        online: authorities::is_online(&plane, one),
        not_before: one.issuer.not_before().to_string(),
        not_after: one.issuer.not_after().to_string(),
        sha256: digest(&one.certificate).to_string(),
        certificate_pem: crate::pem::encode("CERTIFICATE", &one.certificate),
    });
    let issuing = tree.issuing().iter().map(|one| Issuing {
        name: one.name.to_string(),
        uses: one.uses.to_string(),
        state: one.state.name(),
        permitted: match one.issuer.limits() {
            NameLimits::Unlimited => Vec::new(),
            NameLimits::TrustDomain(domain) => vec![format!("spiffe://{domain}/")],
            NameLimits::Servers(names) => names.clone(),
        },
        not_before: one.issuer.not_before().to_string(),
        not_after: one.issuer.not_after().to_string(),
        issuer: one.issuer.id().to_string(),
        sha256: digest(&one.certificate).to_string(),
        certificate_pem: crate::pem::encode("CERTIFICATE", &one.certificate),
    });
    Ok(Json(Authorities {
        roots: roots.collect(),
        issuing: issuing.collect(),
        findings: authorities::findings(&plane),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAuthority {
    name: String,
    /// `device`, `service`, `operator`, several of them joined by `+`; or `server`; or `every`.
    uses: String,
}

/// Makes an issuing CA under the root of this machine.
#[utoipa::path(post, path = "/api/v1/identity/authorities", tag = "identity",
    request_body = NewAuthority,
    responses((status = 201, body = Recorded), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn create_authority(
    State(plane): State<Shared>,
    Administrator(actor): Administrator,
    Body(new): Body<NewAuthority>,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    let name = AuthorityId::new(&new.name).map_err(invalid)?;
    let uses: CertificateUses = new.uses.parse().map_err(invalid)?;
    let receipt =
        to_its_end(async move { authorities::create(&plane, name, Some(uses), &actor).await })
            .await?;
    Ok((StatusCode::CREATED, Json(receipt.into())))
}

/// Gives an issuing CA its next key and certificate; what it certified before is believed to its
/// end.
#[utoipa::path(post, path = "/api/v1/identity/authorities/{name}/rollover", tag = "identity",
    params(("name" = String, Path, description = "its name")),
    responses((status = 201, body = Recorded), (status = 401, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn roll_authority_over(
    State(plane): State<Shared>,
    Administrator(actor): Administrator,
    Named(name): Named<String>,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    let name = AuthorityId::new(&name).map_err(invalid)?;
    let receipt =
        to_its_end(async move { authorities::create(&plane, name, None, &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(receipt.into())))
}
