//! `/api/v1/identity/authorities`: our own CAs.

use super::guard::Allowed;
use super::identity::{Recorded, invalid};
use super::read::{Body, Named};
use super::{Problem, Shared};
use crate::certify::tree::Issuing;
use crate::certify::{authorities, counting};
use crate::plane::digest;
use crate::shared::to_its_end;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use identity::profile::{Issuer, NameLimits};
use model::{AuthorityId, CertificateUses};
use serde::{Deserialize, Serialize};
use signer::{KeyPlace, Purpose};
use utoipa::ToSchema;
use zeroize::Zeroizing;

#[derive(Serialize, ToSchema)]
pub struct Authorities {
    /// The one that serves comes first.
    roots: Vec<Root>,
    /// By name; of one name the newest first.
    issuing: Vec<IssuingCa>,
    /// What somebody should change about them, each a sentence.
    findings: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Root {
    /// `next`, `current`, `retiring` or `ended`.
    state: &'static str,
    /// Its key is on this machine.
    online: bool,
    /// `sealed-file`, `pkcs11-token`, or `offline`: not on this machine.
    key_place: &'static str,
    not_before: String,
    not_after: String,
    /// SHA-256 of its name, hex: its revocation list is at `/status/crl/<issuer>/1/0.crl`.
    issuer: String,
    /// Of the certificate, hex.
    sha256: String,
    certificate_pem: String,
    /// It by the root before it (NewWithOld), and that one by it (OldWithNew); RFC 4210.
    links_pem: Vec<String>,
    /// The entry that tells of it; absent for one that a version before made.
    entry: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub struct IssuingCa {
    name: String,
    /// `every`, `server`, or some of `device`, `service` and `operator` joined by `+`.
    uses: String,
    /// `current`, `retiring` (believed until its last certificate ended) or `ended`.
    state: &'static str,
    /// The names that its certificates may hold; empty: any.
    permitted: Vec<String>,
    /// `sealed-file`, `pkcs11-token`, or `offline`: not on this machine.
    key_place: &'static str,
    /// Products whose devices it certifies now, as the fleet says.
    products: Vec<String>,
    not_before: String,
    not_after: String,
    /// From then on it is told to be replaced: its certificates may not outlive it.
    replace_from: String,
    /// The root that made it: SHA-256 of that one's name, hex.
    root: String,
    /// SHA-256 of its name, hex: the issuer in the names of its certificates.
    issuer: String,
    /// Of the certificate, hex.
    sha256: String,
    certificate_pem: String,
    /// Where its whole revocation list is.
    crl: String,
    /// Its signatures by purpose.
    signatures: Vec<Signatures>,
    /// The entry that tells of it; absent for one that a version before made.
    entry: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub struct Signatures {
    purpose: &'static str,
    /// Counted by the signer.
    signed: u64,
    /// Certificates on record. Equal to `signed` but for those on their way, and for gaps.
    recorded: u64,
    /// Signatures of which nothing is on record. The log says when they were found.
    unrecorded: u64,
}

/// Our CAs, and what somebody should change about them.
#[utoipa::path(get, path = "/api/v1/identity/authorities", tag = "identity",
    responses((status = 200, body = Authorities), (status = 401, body = super::problem::ProblemBody)))]
pub async fn authorities(
    State(plane): State<Shared>,
    _: Allowed,
) -> Result<Json<Authorities>, Problem> {
    let tree = plane.tree();
    let issuance = plane.store.issuance()?;
    let counts = plane.signer.counts().unwrap_or_default();
    let signatures = |one: &Issuing| {
        let key = one.issuer.signing_key();
        let of = |(purpose, kind): (Purpose, &str)| {
            let count = (counts.iter()).find(|count| count.purpose == purpose && count.key == key);
            let known = counting::known(&issuance, &one.issuer.id(), kind);
            Signatures {
                purpose: purpose.name(),
                signed: count.map_or(0, |count| count.signed),
                recorded: known.map_or(0, |known| known.recorded),
                unrecorded: known.map_or(0, |known| known.unrecorded),
            }
        };
        counting::RECORDED
            .into_iter()
            .map(of)
            .filter(|one| one.signed > 0)
            .collect()
    };
    let entries = plane.store.authority_entries()?;
    let place = |issuer: &Issuer| {
        let place = plane.signer.place_of(issuer.subject_key_identifier());
        place.map_or("offline", KeyPlace::name)
    };
    let pem = |der: &[u8]| crate::pem::encode("CERTIFICATE", der);
    let roots = tree.roots().iter().map(|one| Root {
        state: one.state.name(),
        online: authorities::is_online(&plane, one),
        key_place: place(&one.issuer),
        issuer: one.issuer.id().to_string(),
        links_pem: (one.links.iter().flatten()).map(|der| pem(der)).collect(),
        entry: entries.get(&one.issuer.id()).copied(),
        not_before: one.issuer.not_before().to_string(),
        not_after: one.issuer.not_after().to_string(),
        sha256: digest(&one.certificate).to_string(),
        certificate_pem: pem(&one.certificate),
    });
    let issuing = tree.issuing().iter().map(|one| IssuingCa {
        signatures: signatures(one),
        key_place: place(&one.issuer),
        products: authorities::products_of(&plane, one),
        replace_from: authorities::replace_from(one).to_string(),
        root: one.root.to_string(),
        crl: format!("/status/crl/{}/1/0.crl", one.issuer.id()),
        entry: entries.get(&one.issuer.id()).copied(),
        name: one.name.to_string(),
        uses: one.uses.to_string(),
        state: one.state.name(),
        permitted: permitted(one.issuer.limits()),
        not_before: one.issuer.not_before().to_string(),
        not_after: one.issuer.not_after().to_string(),
        issuer: one.issuer.id().to_string(),
        sha256: digest(&one.certificate).to_string(),
        certificate_pem: pem(&one.certificate),
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
    Allowed(actor): Allowed,
    Body(new): Body<NewAuthority>,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    let name = AuthorityId::new(&new.name).map_err(invalid)?;
    let uses: CertificateUses = new.uses.parse().map_err(invalid)?;
    let receipt =
        to_its_end(async move { authorities::create(&plane, name, Some(uses), &actor).await })
            .await?;
    Ok((StatusCode::CREATED, Json(receipt.into())))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportedAuthority {
    /// `device`, `service`, or both joined by `+`.
    uses: String,
    /// The CA's certificate, one PEM block.
    certificate_pem: String,
    /// Its key: `PRIVATE KEY` or `EC PRIVATE KEY`, ECDSA on P-256, not encrypted.
    private_key_pem: String,
    /// Only says what it would do.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Serialize, ToSchema)]
pub struct ImportedAuthorityPreviewed {
    not_after: String,
    /// SHA-256 of its name, hex: the issuer in the names of its certificates.
    issuer: String,
    /// The names that its certificates may hold; empty: any.
    permitted: Vec<String>,
    /// An imported fleet that has this CA: its certificates go on as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<String>,
}

/// Takes in an issuing CA that was made elsewhere, with its key: it certifies from here on. To a user
/// of the plane's own machine only.
#[utoipa::path(post, path = "/api/v1/identity/authorities/{name}/import", tag = "identity",
    params(("name" = String, Path, description = "its name here")), request_body = ImportedAuthority,
    responses((status = 200, body = ImportedAuthorityPreviewed, description = "dry_run: nothing was done"),
        (status = 201, body = Recorded), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 403, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn import_authority(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(name): Named<String>,
    Body(asked): Body<ImportedAuthority>,
) -> Result<Response, Problem> {
    let private_key = Zeroizing::new(asked.private_key_pem);
    super::roots::here(&actor)?;
    let labels = ["PRIVATE KEY", "EC PRIVATE KEY"];
    let importing = authorities::Importing {
        name: AuthorityId::new(&name).map_err(invalid)?,
        uses: asked.uses.parse().map_err(invalid)?,
        certificate: crate::pem::decode(&asked.certificate_pem, &["CERTIFICATE"])?,
        private_key: Zeroizing::new(crate::pem::decode(&private_key, &labels)?),
    };
    if asked.dry_run {
        let preview = authorities::would_import(&plane, &importing)?;
        let body = ImportedAuthorityPreviewed {
            not_after: preview.not_after.to_string(),
            issuer: preview.issuer.to_string(),
            permitted: permitted(&preview.limits),
            fleet: preview.fleet.map(|fleet| fleet.to_string()),
        };
        return Ok(Json(body).into_response());
    }
    let receipt =
        to_its_end(async move { authorities::import(&plane, importing, &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(Recorded::from(receipt))).into_response())
}

fn permitted(limits: &NameLimits) -> Vec<String> {
    match limits {
        NameLimits::Unlimited => Vec::new(),
        NameLimits::TrustDomain(domain) => vec![format!("spiffe://{domain}/")],
        NameLimits::Servers(names) => names.clone(),
    }
}

/// Gives an issuing CA its next key and certificate; what it certified before is believed to its
/// end.
#[utoipa::path(post, path = "/api/v1/identity/authorities/{name}/rollover", tag = "identity",
    params(("name" = String, Path, description = "its name")),
    responses((status = 201, body = Recorded), (status = 401, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn roll_authority_over(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(name): Named<String>,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    let name = AuthorityId::new(&name).map_err(invalid)?;
    let receipt =
        to_its_end(async move { authorities::create(&plane, name, None, &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(receipt.into())))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestedAuthority {
    /// For a new CA, as when one is created; absent for the next key of one that exists.
    uses: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct AuthorityRequested {
    /// PKCS #10, for `fleetward identity root sign`.
    request_pem: String,
    recorded: Recorded,
}

/// The request of an issuing CA to a root that is kept elsewhere; its key is born here.
#[utoipa::path(post, path = "/api/v1/identity/authorities/{name}/request", tag = "identity",
    params(("name" = String, Path, description = "its name")), request_body = RequestedAuthority,
    responses((status = 201, body = AuthorityRequested), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn request_authority(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(name): Named<String>,
    Body(asked): Body<RequestedAuthority>,
) -> Result<(StatusCode, Json<AuthorityRequested>), Problem> {
    let name = AuthorityId::new(&name).map_err(invalid)?;
    let uses = asked.uses.map(|uses| uses.parse()).transpose();
    let uses: Option<CertificateUses> = uses.map_err(|error: model::InvalidName| invalid(error))?;
    let (request, receipt) =
        to_its_end(async move { authorities::request(&plane, name, uses, &actor).await }).await?;
    let answer = AuthorityRequested {
        request_pem: crate::pem::encode("CERTIFICATE REQUEST", &request),
        recorded: receipt.into(),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorityCertificate {
    /// What the root made of the request, one PEM block.
    certificate_pem: String,
}

/// Puts an issuing CA into service with the certificate that the root made for its request.
#[utoipa::path(post, path = "/api/v1/identity/authorities/{name}/certificate", tag = "identity",
    params(("name" = String, Path, description = "its name")), request_body = AuthorityCertificate,
    responses((status = 201, body = Recorded), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn install_authority(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Named(name): Named<String>,
    Body(answer): Body<AuthorityCertificate>,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    let name = AuthorityId::new(&name).map_err(invalid)?;
    let der = crate::pem::decode(&answer.certificate_pem, &["CERTIFICATE"])?;
    let receipt =
        to_its_end(async move { authorities::install(&plane, name, der, &actor).await }).await?;
    Ok((StatusCode::CREATED, Json(receipt.into())))
}
