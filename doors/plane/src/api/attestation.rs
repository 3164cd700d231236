//! `/api/v1/identity/attestations`: a device shows what it started.

use super::caller::Shown;
use super::read::{Body, Raw};
use super::{Problem, Shared};
use crate::certify::attesting::{self, Evidence};
use crate::shared::to_its_end;
use crate::{clock, flow};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use identity::{Door, Presented};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct EvidenceWanted {
    /// The qualifying data of the quote, hex: as `tpm2_quote -q` takes it. Good for two minutes.
    nonce: String,
    /// The registers to be quoted, as `tpm2_quote -l` takes them: `sha256:0,1,7`.
    pcrs: String,
}

/// What a device is to attest, and the nonce that makes it fresh. For a device by the certificate
/// whose key its TPM holds.
#[utoipa::path(get, path = "/api/v1/identity/attestations", tag = "identity",
    responses((status = 200, body = EvidenceWanted), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn evidence_wanted(
    State(plane): State<Shared>,
    Shown(presented): Shown,
) -> Result<Json<EvidenceWanted>, Problem> {
    let who = plane.trust().authenticate(Door::Devices, &presented)?;
    let asked = attesting::asked(&plane, &who)?;
    let nonce = asked.nonce(&plane, clock::now());
    let pcrs: Vec<String> = asked.registers().iter().map(u8::to_string).collect();
    Ok(Json(EvidenceWanted {
        nonce: nonce.iter().map(|byte| format!("{byte:02x}")).collect(),
        pcrs: format!("sha256:{}", pcrs.join(",")),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuoteShown {
    /// TPMS_ATTEST of TPM2_Quote over the nonce, base64.
    statement: String,
    /// TPMT_SIGNATURE of it by the attestation key that enrolled, base64.
    signature: String,
}

#[derive(Serialize, ToSchema)]
pub struct EvidenceAppraised {
    /// `affirming` or `contraindicated`.
    status: &'static str,
    why: String,
    /// What the device has from now on.
    assurance: &'static str,
    /// An affirming result counts until then.
    ends_at: String,
    /// Index of its entry in the log.
    entry: u64,
}

/// Appraises a device's evidence against the reference values of its product.
#[utoipa::path(post, path = "/api/v1/identity/attestations", tag = "identity",
    request_body = QuoteShown,
    responses((status = 200, body = EvidenceAppraised), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn attest(
    State(plane): State<Shared>,
    Shown(presented): Shown,
    Body(evidence): Body<QuoteShown>,
) -> Result<Json<EvidenceAppraised>, Problem> {
    let decoded = |field: &str, text: &str| {
        STANDARD.decode(text).map_err(|_| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "body-refused",
                format!("{field} is not plain base64 in one line"),
            )
        })
    };
    let statement = decoded("statement", &evidence.statement)?;
    let signature = decoded("signature", &evidence.signature)?;
    let evidence = Evidence::Quote {
        statement,
        signature,
    };
    appraised(plane, presented, evidence).await
}

#[derive(Serialize, ToSchema)]
pub struct TokenWanted {
    /// What the token must hold as `eat_nonce`, hex. Good for two minutes.
    nonce: String,
}

/// The nonce for a token by which a device attests what it started (RFC 9711). For a device by its
/// certificate.
#[utoipa::path(get, path = "/api/v1/identity/attestations/token", tag = "identity",
    responses((status = 200, body = TokenWanted), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody)))]
pub async fn token_wanted(
    State(plane): State<Shared>,
    Shown(presented): Shown,
) -> Result<Json<TokenWanted>, Problem> {
    let who = plane.trust().authenticate(Door::Devices, &presented)?;
    let nonce = attesting::token_asked(&plane, &who)?.nonce(&plane, clock::now());
    Ok(Json(TokenWanted {
        nonce: nonce.iter().map(|byte| format!("{byte:02x}")).collect(),
    }))
}

/// Appraises a device's token (COSE_Sign1, ES256 by the key of its certificate) against the reference
/// values of its product.
#[utoipa::path(post, path = "/api/v1/identity/attestations/token", tag = "identity",
    request_body(content = Vec<u8>, content_type = "application/eat+cwt"),
    responses((status = 200, body = EvidenceAppraised), (status = 401, body = super::problem::ProblemBody),
        (status = 403, body = super::problem::ProblemBody), (status = 409, body = super::problem::ProblemBody),
        (status = 415, body = super::problem::ProblemBody)))]
pub async fn attest_by_token(
    State(plane): State<Shared>,
    Shown(presented): Shown,
    Raw(token): Raw,
) -> Result<Json<EvidenceAppraised>, Problem> {
    appraised(plane, presented, Evidence::Token(token.to_vec())).await
}

async fn appraised(
    plane: Shared,
    presented: Presented,
    evidence: Evidence,
) -> Result<Json<EvidenceAppraised>, Problem> {
    let done = to_its_end(async move { flow::attest(&plane, &presented, &evidence).await }).await?;
    Ok(Json(EvidenceAppraised {
        status: done.row.status.name(),
        why: done.row.why,
        assurance: done.assurance.name(),
        ends_at: done.row.ends_at.to_string(),
        entry: done.receipt.first_leaf_index,
    }))
}
