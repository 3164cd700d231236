//! EST (RFC 7030, clarified by RFC 8951) at `/.well-known/est`: for devices that proved a factory
//! certificate, or the one they renew, in the TLS handshake. Errors are plain text, as clients
//! only show them.

use super::{Caller, Problem, Shared};
use crate::certify::issuing;
use crate::judge::signals::{Signals, Told};
use crate::listen::tls::Trust;
use crate::shared::to_its_end;
use crate::{clock, flow};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use detection::Feature;
use identity::est::{self, BodyForm};
use identity::{Operation, Presented};
use model::Attribution;
use std::sync::Arc;

/// A request of the largest key with room for what clients add, in base64.
const BODY_BYTES_MAX: usize = 16 * 1024;

pub fn router() -> Router<Shared> {
    Router::new()
        .route("/.well-known/est/cacerts", get(cacerts))
        .route("/.well-known/est/simpleenroll", post(simpleenroll))
        .route("/.well-known/est/simplereenroll", post(simplereenroll))
        .route("/.well-known/est/csrattrs", get(csrattrs))
        .route("/.well-known/est/serverkeygen", any(not_offered))
        .route("/.well-known/est/fullcmc", any(not_offered))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Open to everybody: whoever reads it must know the root by other means.
async fn cacerts(State(plane): State<Shared>, headers: HeaderMap) -> Response {
    let tree = plane.tree();
    let chain: Vec<&[u8]> = tree.published().collect();
    certificates(&chain, &headers)
}

/// Whoever showed a certificate: asked before the body is read.
struct Holder(Caller);

impl FromRequestParts<Shared> for Holder {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Response> {
        let Some(caller) = parts.extensions.get::<Caller>() else {
            return Err(StatusCode::UNAUTHORIZED.into_response());
        };
        caller.presented().map_err(plain)?;
        Ok(Self(caller.clone()))
    }
}

async fn simpleenroll(
    plane: State<Shared>,
    holder: Holder,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    enroll(plane, holder, headers, body, Operation::SimpleEnroll).await
}

async fn simplereenroll(
    plane: State<Shared>,
    holder: Holder,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    enroll(plane, holder, headers, body, Operation::SimpleReenroll).await
}

async fn enroll(
    State(plane): State<Shared>,
    Holder(caller): Holder,
    headers: HeaderMap,
    body: Bytes,
    operation: Operation,
) -> Response {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let (signals, trust) = (plane.signals.clone(), Arc::clone(plane.trust()));
    let done = async {
        let presented = caller.presented()?.clone();
        let (request, form) = issuing::read_request(content_type, &body)?;
        if form == BodyForm::Der {
            tracing::info!(target: "devices", "{presented} sent bare DER, which RFC 8951 does not have");
        }
        let enrolling = async move { flow::enroll(&plane, &presented, operation, &request).await };
        Ok::<_, Problem>(to_its_end(enrolling).await?)
    };
    match done.await {
        // Clients of small stacks take the first certificate: the new one, alone.
        Ok(issued) => certificates(&[&issued.der], &headers),
        Err(problem) => {
            if let Caller::Peer { peer, presented } = &caller {
                tell_refusal(&signals, &trust, presented, problem.body.code);
                // What is no refusal of a room is wrong in the request, unless we have a trouble.
                let actor = problem.body.who_must_act.unwrap_or({
                    if problem.status.is_server_error() {
                        "operator"
                    } else {
                        "device"
                    }
                });
                tracing::warn!(
                    target: "devices",
                    "{peer}: refused {}: {} (it is {presented}) [{actor} must act]",
                    problem.body.code,
                    problem.body.detail
                );
            }
            plain(problem)
        }
    }
}

/// Its key was proven in the handshake, so the refusal is its own doing.
fn tell_refusal(signals: &Signals, trust: &Trust, presented: &Presented, reason: &str) {
    let Some(principal) = trust.registry().named_by(presented) else {
        // A factory identity that is on no list: nobody we know.
        return;
    };
    signals.tell(Told::seen(
        principal,
        Attribution::Proven,
        Feature::Denied {
            action: "est".to_owned(),
            target: String::new(),
            reason: reason.to_owned(),
        },
        clock::now(),
    ));
}

/// None apply: any permitted key will do (RFC 8951 section 3.2).
async fn csrattrs() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn not_offered() -> Response {
    plain(Problem::new(
        StatusCode::NOT_IMPLEMENTED,
        "not-offered",
        "not offered here: make the key in the device and use simpleenroll",
    ))
}

/// As CMS, or as PEM for a device that asks for it.
fn certificates(chain: &[&[u8]], headers: &HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    if est::wants_pem(accept) {
        return super::bytes(est::PEM_MEDIA_TYPE, est::pem(chain).into_bytes());
    }
    let body = match est::certs_only(chain) {
        Ok(cms) => est::encode_body(&cms),
        Err(error) => {
            let fault = Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "fault",
                error.to_string(),
            );
            return plain(fault);
        }
    };
    let mut response = super::bytes(est::CERTIFICATES_MEDIA_TYPE, body.into_bytes());
    // Meaningless in HTTP (RFC 8951 section 3.1), but old clients look for it.
    response.headers_mut().insert(
        "content-transfer-encoding",
        HeaderValue::from_static("base64"),
    );
    response
}

fn plain(problem: Problem) -> Response {
    let text = format!("{}: {}\n", problem.body.code, problem.body.detail);
    let mut response = problem.into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    *response.body_mut() = text.into();
    response
}
