//! `/status`: revocation lists and the OCSP responder, for whoever verifies our certificates. Open
//! to everybody, as what they say is signed and no secret.

use super::{Problem, Shared, bytes};
use crate::certify::status::{self, Answered};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use identity::crl::Shard;
use identity::ocsp;
use model::Digest;

/// Others may keep a list for so long; its own life is longer.
const LIST_SECONDS: u64 = 60;
/// And an answer: a revocation must not hide behind a cache for long.
const ANSWER_SECONDS_MAX: u64 = 300;
/// A request in base64.
const TEXT_BYTES_MAX: usize = ocsp::REQUEST_BYTES_MAX / 3 * 4 + 4;

/// The certificate revocation list of the standard issuing CA, DER (RFC 5280). Open to everybody.
#[utoipa::path(get, path = "/api/v1/identity/crl", tag = "identity",
    responses((status = 200, content_type = "application/pkix-crl", body = Vec<u8>)))]
pub async fn crl(State(plane): State<Shared>) -> Result<Response, Problem> {
    let issuer = plane.tree().for_device(None)?.issuer.id();
    list(&plane, issuer, Shard::WHOLE).await
}

/// One list of a CA, at the address that its certificates name (RFC 5280 section 4.2.1.13).
pub async fn crl_of(
    State(plane): State<Shared>,
    Path((issuer, count, file)): Path<(String, u16, String)>,
) -> Result<Response, Problem> {
    let named = || {
        let index = file.strip_suffix(".crl")?.parse().ok()?;
        Some((Digest::from_hex(&issuer)?, Shard::new(index, count)?))
    };
    let (issuer, shard) = named().ok_or_else(unknown)?;
    list(&plane, issuer, shard).await
}

async fn list(plane: &Shared, issuer: Digest, shard: Shard) -> Result<Response, Problem> {
    let made = status::list(plane, issuer, shard).await?;
    let der = made.ok_or_else(unknown)?;
    let mut response = bytes("application/pkix-crl", der.as_ref().clone());
    keep(&mut response, LIST_SECONDS);
    Ok(response)
}

fn unknown() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "crl-unknown",
        "there is no such list; the address stands in each certificate",
    )
}

/// OCSP over POST (RFC 6960 appendix A.1).
pub async fn ocsp_post(State(plane): State<Shared>, request: Bytes) -> Response {
    answered(status::answer(&plane, &request).await)
}

/// OCSP over GET (RFC 6960 appendix A.1): the request in base64 behind the path.
pub async fn ocsp_get(State(plane): State<Shared>, Path(text): Path<String>) -> Response {
    let request = if text.len() <= TEXT_BYTES_MAX {
        STANDARD.decode(&text).unwrap_or_default()
    } else {
        Vec::new()
    };
    let answer = status::answer(&plane, &request).await;
    let keep_for = answer.keep_for;
    let mut response = answered(answer);
    if let Some(keep_for) = keep_for {
        keep(&mut response, keep_for.as_secs().min(ANSWER_SECONDS_MAX));
    }
    response
}

/// Always 200: that there is no answer is an answer too (RFC 6960 section 4.2.1).
fn answered(answer: Answered) -> Response {
    bytes("application/ocsp-response", answer.der.as_ref().clone())
}

/// RFC 9919 section 7.2: caches may keep it, and must not change it.
fn keep(response: &mut Response, seconds: u64) {
    let text = format!("max-age={seconds}, public, no-transform, must-revalidate");
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
}
