//! `/api/v1/identity/tpm`: TPMs that are expected, and how a device without any certificate proves
//! by its own that it may have one.

use super::guard::Allowed;
use super::identity::{Attestation, Recorded, invalid};
use super::page::{Page, Rows};
use super::read::{Asked, Body, Text};
use super::{Caller, Problem, Shared, bytes};
use crate::certify::tpm::{self, Chip};
use crate::clock;
use crate::flow;
use crate::shared::to_its_end;
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use identity::tpm::{AttestationKey, EndorsementKey, Public, Statement};
use identity::{CertificateRequest, Refusal, tpm as room};
use model::{ManufacturerId, SerialNumber};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use utoipa::{IntoParams, ToSchema};

/// What a stranger may send: three keys and five certificates, in base64.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Certificates of one chip: its own and the CAs above it.
const CERTIFICATES_MAX: usize = 5;

/// For the door of devices alone.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/api/v1/identity/tpm/challenges", post(challenge_tpm))
        .route("/api/v1/identity/tpm/enrollments", post(enroll_by_tpm))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhoseList {
    /// Who made the devices that the TPMs are in.
    manufacturer: String,
}

#[derive(Serialize, ToSchema)]
pub struct TpmsListed {
    endorsement_keys: usize,
    /// Index of the last entry it made in the log.
    entry: u64,
}

/// Takes a list of TPMs: CSV with `serial,endorsement_key_sha256`, the digest of the public key
/// (SubjectPublicKeyInfo) in hex. Their devices must be expected.
#[utoipa::path(post, path = "/api/v1/identity/tpm/endorsement-keys", tag = "identity",
    params(WhoseList), request_body(content = String, content_type = "text/csv"),
    responses((status = 201, body = TpmsListed), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn list_endorsement_keys(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Asked(whose): Asked<WhoseList>,
    Text(text): Text,
) -> Result<(StatusCode, Json<TpmsListed>), Problem> {
    let manufacturer = manufacturer(&whose.manufacturer)?;
    let list = room::parse_list(&text).map_err(|errors| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "list-refused",
            "the list was not taken",
        )
        .with_errors(errors)
    })?;
    let endorsement_keys = list.len();
    let list_digest = crate::plane::digest(text.as_bytes());
    let receipt = to_its_end(async move {
        tpm::list_endorsement_keys(&plane, &manufacturer, list, list_digest, &actor).await
    })
    .await?;
    Ok((
        StatusCode::CREATED,
        Json(TpmsListed {
            endorsement_keys,
            entry: receipt.first_leaf_index,
        }),
    ))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhichTpm {
    /// Who made the device that it is in.
    manufacturer: String,
    /// The serial number of that device.
    serial: String,
}

/// The TPMs of a device are on the list no longer: they enroll nobody, and what they were shown to
/// hold counts no more.
#[utoipa::path(delete, path = "/api/v1/identity/tpm/endorsement-keys", tag = "identity",
    params(WhichTpm),
    responses((status = 200, body = TpmsListed), (status = 401, body = super::problem::ProblemBody),
        (status = 404, body = super::problem::ProblemBody)))]
pub async fn unlist_endorsement_keys(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Asked(which): Asked<WhichTpm>,
) -> Result<Json<TpmsListed>, Problem> {
    let manufacturer = manufacturer(&which.manufacturer)?;
    let serial = SerialNumber::new(&which.serial).map_err(super::identity::invalid)?;
    let (endorsement_keys, receipt) =
        to_its_end(async move { tpm::unlist(&plane, &manufacturer, &serial, &actor).await })
            .await?;
    Ok(Json(TpmsListed {
        endorsement_keys,
        entry: receipt.first_leaf_index,
    }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChipPage {
    /// Begin after this endorsement key.
    after: Option<String>,
    /// 1 to 1000, 100 if absent.
    limit: Option<usize>,
}

/// A TPM that is expected, and what it has shown.
#[derive(Serialize, ToSchema)]
pub struct ExpectedChip {
    /// SHA-256 of its endorsement key (SubjectPublicKeyInfo), hex.
    endorsement_key_sha256: String,
    manufacturer: String,
    serial: String,
    /// The device that it is in.
    device: Option<String>,
    /// Since when it holds that device's key; absent until it enrolled.
    held_since: Option<String>,
    /// `contraindicated`, `identified`, `hardware-held` or `attested`.
    assurance: Option<&'static str>,
    /// What became of its latest evidence.
    attestation: Option<Attestation>,
}

/// TPMs that are expected, by the digest of their endorsement key.
#[utoipa::path(get, path = "/api/v1/identity/tpm/endorsement-keys", tag = "identity",
    params(ChipPage),
    responses((status = 200, body = [ExpectedChip]), (status = 400, body = super::problem::ProblemBody),
        (status = 401, body = super::problem::ProblemBody)))]
pub async fn endorsement_keys(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(page): Asked<ChipPage>,
) -> Result<Json<Vec<ExpectedChip>>, Problem> {
    let after = page.after.as_deref().map(|text| {
        model::Digest::from_hex(text).ok_or_else(|| invalid("after has 64 hex digits"))
    });
    let after = after.transpose()?;
    let limit = page.limit.unwrap_or(100).clamp(1, 1000);
    let now = clock::now();
    let mut shown = Vec::new();
    for chip in plane.store.endorsement_keys(after.as_ref(), limit)? {
        let known = {
            let registry = plane.trust().registry();
            let device = registry.device_by_serial(&chip.manufacturer, &chip.serial);
            device.map(|one| (registry.assurance(&one.device, now), one.device))
        };
        let (assurance, device) = known.unzip();
        let (held, attestation) = match &device {
            Some(device) => (
                (plane.store.held_key(device)?).filter(|held| held.endorsement == chip.endorsement),
                plane.store.attestation_result(device)?,
            ),
            None => (None, None),
        };
        shown.push(ExpectedChip {
            endorsement_key_sha256: chip.endorsement.to_string(),
            manufacturer: chip.manufacturer.to_string(),
            serial: chip.serial.to_string(),
            device: device.map(|device| device.to_string()),
            held_since: held.map(|held| held.held_since.to_string()),
            assurance: assurance.map(|level| level.name()),
            attestation: attestation.map(Into::into),
        });
    }
    Ok(Json(shown))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTpmVendor {
    /// Whose devices these TPMs are in.
    manufacturer: String,
    /// A CA of the TPM's vendor, one PEM block.
    ca_pem: String,
}

#[derive(Serialize, ToSchema)]
pub struct TpmVendor {
    manufacturer: String,
    /// SHA-256 of the CA certificate, hex.
    ca_sha256: String,
    added_at: String,
}

/// The CAs of TPM vendors that are believed.
#[utoipa::path(get, path = "/api/v1/identity/tpm/vendors", tag = "identity", params(Page),
    responses((status = 200, body = [TpmVendor]), (status = 401, body = super::problem::ProblemBody)))]
pub async fn tpm_vendors(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(page): Asked<Page>,
) -> Result<Rows<TpmVendor>, Problem> {
    let mut all = Vec::new();
    plane.store.for_each_tpm_vendor(|row| {
        all.push(TpmVendor {
            manufacturer: row.manufacturer.to_string(),
            ca_sha256: crate::plane::digest(&row.ca).to_string(),
            added_at: row.added_at.to_string(),
        });
    })?;
    page.cut(all, |row| format!("{}/{}", row.manufacturer, row.ca_sha256))
}

/// Registers the CA of a TPM vendor: from now on TPMs in this manufacturer's devices must show a
/// certificate that leads to it, or to another one registered so.
#[utoipa::path(post, path = "/api/v1/identity/tpm/vendors", tag = "identity",
    request_body = NewTpmVendor,
    responses((status = 201, body = Recorded), (status = 401, body = super::problem::ProblemBody),
        (status = 409, body = super::problem::ProblemBody)))]
pub async fn add_tpm_vendor(
    State(plane): State<Shared>,
    Allowed(actor): Allowed,
    Body(new): Body<NewTpmVendor>,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    let whose = manufacturer(&new.manufacturer)?;
    let receipt =
        to_its_end(async move { tpm::add_vendor(&plane, whose, &new.ca_pem, &actor).await })
            .await?;
    Ok((StatusCode::CREATED, Json(receipt.into())))
}

/// Whoever may try, and where it is: asked before the body is read.
pub struct Attempt(SocketAddr);

impl FromRequestParts<Shared> for Attempt {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, plane: &Shared) -> Result<Self, Problem> {
        let Some(
            Caller::Stranger { peer } | Caller::Peer { peer, .. } | Caller::Asking { peer, .. },
        ) = parts.extensions.get::<Caller>()
        else {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "not-a-device",
                "only a device enrolls, at the door for devices",
            ));
        };
        match plane.chips.attempt(*peer) {
            Ok(()) => Ok(Self(*peer)),
            Err(trouble) => {
                let mut problem = Problem::from(trouble).retry_after(2);
                problem.set_status(StatusCode::TOO_MANY_REQUESTS);
                Err(problem)
            }
        }
    }
}

/// What a chip shows of itself, each structure as the tools of tpm2-tools write it, in base64.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChallengeWanted {
    /// TPM2B_PUBLIC of the endorsement key.
    endorsement_key: String,
    /// TPM2B_PUBLIC of the attestation key.
    attestation_key: String,
    /// The endorsement key's certificate (DER), then the CAs above it. Needed where a CA of a TPM
    /// vendor is registered.
    #[serde(default)]
    endorsement_certificates: Vec<String>,
}

/// A challenge that only the listed chip can open, and only if it holds the attestation key: the
/// file that `tpm2_activatecredential -i` takes. For a device without any certificate.
#[utoipa::path(post, path = "/api/v1/identity/tpm/challenges", tag = "identity",
    request_body = ChallengeWanted,
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 400, body = super::problem::ProblemBody), (status = 403, body = super::problem::ProblemBody),
        (status = 429, body = super::problem::ProblemBody)))]
pub async fn challenge_tpm(
    State(plane): State<Shared>,
    Attempt(peer): Attempt,
    Body(wanted): Body<ChallengeWanted>,
) -> Result<Response, Problem> {
    let made = || -> Result<Vec<u8>, Problem> {
        if wanted.endorsement_certificates.len() > CERTIFICATES_MAX {
            return Err(not_base64("endorsement_certificates"));
        }
        let certificates = (wanted.endorsement_certificates.iter())
            .map(|text| decoded("endorsement_certificates", text))
            .collect::<Result<_, _>>()?;
        let chip = chip(
            &wanted.endorsement_key,
            &wanted.attestation_key,
            certificates,
        )?;
        Ok(tpm::challenge(&plane, &chip)?)
    };
    let credential = made().inspect_err(|problem| tell_refusal(peer, problem))?;
    Ok(bytes("application/octet-stream", credential))
}

/// The answer to a challenge, each structure as the tools of tpm2-tools write it, in base64.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollmentByTpm {
    /// TPM2B_PUBLIC of the endorsement key.
    endorsement_key: String,
    /// TPM2B_PUBLIC of the attestation key.
    attestation_key: String,
    /// TPM2B_PUBLIC of the key that the certificate is for.
    key: String,
    /// PKCS #10, DER, signed by that key.
    request: String,
    /// TPMS_ATTEST of TPM2_CertifyCreation or TPM2_Certify over that key, with the opened secret
    /// as qualifying data.
    statement: String,
    /// TPMT_SIGNATURE of it by the attestation key.
    signature: String,
}

/// A certificate for a key that the chip was shown to hold, PEM. Earlier certificates of the device
/// are superseded.
#[utoipa::path(post, path = "/api/v1/identity/tpm/enrollments", tag = "identity",
    request_body = EnrollmentByTpm,
    responses((status = 200, content_type = "application/x-pem-file", body = String),
        (status = 400, body = super::problem::ProblemBody), (status = 403, body = super::problem::ProblemBody),
        (status = 429, body = super::problem::ProblemBody)))]
pub async fn enroll_by_tpm(
    State(plane): State<Shared>,
    Attempt(peer): Attempt,
    Body(answer): Body<EnrollmentByTpm>,
) -> Result<Response, Problem> {
    let done = async {
        let chip = chip(&answer.endorsement_key, &answer.attestation_key, Vec::new())?;
        let statement = decoded("statement", &answer.statement)?;
        let said = Statement::read(&statement).map_err(Refusal::from)?;
        // Before any signature is looked at: only who opened the challenge comes further.
        let secret = tpm::answered(&plane, &chip, said.extra())?;
        let request = decoded("request", &answer.request)?;
        let request = CertificateRequest::parse(&request)
            .map_err(|refusal| Problem::from(crate::trouble::Trouble::from(refusal)))?;
        let key = decoded("key", &answer.key)?;
        let held = room::prove(
            &chip.endorsement,
            &chip.attestation_key,
            &secret,
            &statement,
            &decoded("signature", &answer.signature)?,
            &Public::read(&key).map_err(Refusal::from)?,
            &request,
        )
        .map_err(Refusal::from)?;
        tpm::take_answer(&plane, secret)?;
        let enrolling = async move { flow::enroll_by_tpm(&plane, &held, &request).await };
        Ok::<_, Problem>(to_its_end(enrolling).await?)
    };
    match done.await {
        Ok(issued) => {
            let pem = crate::pem::encode("CERTIFICATE", &issued.der);
            Ok(bytes("application/x-pem-file", pem.into_bytes()))
        }
        Err(problem) => {
            tell_refusal(peer, &problem);
            Err(problem)
        }
    }
}

fn chip(
    endorsement: &str,
    attestation_key: &str,
    certificates: Vec<Vec<u8>>,
) -> Result<Chip, Problem> {
    let endorsement = decoded("endorsement_key", endorsement)?;
    let attestation_key = decoded("attestation_key", attestation_key)?;
    Ok(Chip {
        endorsement: EndorsementKey::read(&endorsement).map_err(Refusal::from)?,
        attestation_key: AttestationKey::read(&attestation_key).map_err(Refusal::from)?,
        certificates,
    })
}

fn decoded(field: &'static str, text: &str) -> Result<Vec<u8>, Problem> {
    STANDARD.decode(text).map_err(|_| not_base64(field))
}

fn not_base64(field: &'static str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "body-refused",
        format!("{field} is not plain base64 in one line, or there is too much of it"),
    )
}

fn manufacturer(text: &str) -> Result<ManufacturerId, Problem> {
    ManufacturerId::new(text).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "request-refused",
            error.to_string(),
        )
    })
}

fn tell_refusal(peer: SocketAddr, problem: &Problem) {
    tracing::warn!(
        target: "devices",
        "{peer}: refused {}: {}",
        problem.body.code,
        problem.body.detail
    );
}
