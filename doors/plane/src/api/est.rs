//! EST (RFC 7030, clarified by RFC 8951) at `/.well-known/est`: for devices that proved a factory
//! certificate, or the one they renew, in the TLS handshake. Errors are plain text, as clients
//! only show them.

use super::{Caller, Problem, Shared};
use crate::certify::{issuing, tokens};
use crate::judge::signals::{Signals, Told};
use crate::listen::source_of;
use crate::listen::tls::Trust;
use crate::shared::to_its_end;
use crate::trouble::Trouble;
use crate::{clock, flow};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use detection::Feature;
use identity::{Operation, Presented, Refusal, claim_token, est};
use model::{Attribution, SerialNumber, Subject};
use std::net::SocketAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

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
async fn cacerts(State(plane): State<Shared>) -> Response {
    let chain: Vec<&[u8]> = plane
        .own_cas
        .issuing
        .iter()
        .chain([&plane.own_cas.root])
        .map(Vec::as_slice)
        .collect();
    certificates(&chain)
}

/// What proves who asks, found before the body is read.
enum Holder {
    Certificate(Caller),
    /// HTTP Basic over TLS: a serial number and its claim token (RFC 7030 section 3.2.3).
    Token {
        peer: SocketAddr,
        serial: SerialNumber,
        token: Zeroizing<String>,
    },
}

impl FromRequestParts<Shared> for Holder {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Response> {
        let Some(caller) = parts.extensions.get::<Caller>() else {
            return Err(unauthorized(no_identity()));
        };
        if let Caller::Stranger { peer } = caller
            && let Some((serial, token)) = basic(&parts.headers)
        {
            return Ok(Self::Token {
                peer: *peer,
                serial,
                token,
            });
        }
        match caller {
            Caller::Peer { .. } => Ok(Self::Certificate(caller.clone())),
            _ => Err(unauthorized(no_identity())),
        }
    }
}

fn no_identity() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "no-certificate",
        "present a certificate in the TLS handshake, or serial number and claim token by HTTP Basic",
    )
}

/// The answer to who has shown nothing that can be taken.
fn unauthorized(problem: Problem) -> Response {
    let mut response = plain(problem);
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"fleetward\", charset=\"UTF-8\""),
    );
    response
}

/// Serial number and token of an `Authorization` header (RFC 7617).
fn basic(headers: &HeaderMap) -> Option<(SerialNumber, Zeroizing<String>)> {
    const BYTES_MAX: usize = 256;
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || credentials.len() > BYTES_MAX {
        return None;
    }
    let bytes = Zeroizing::new(STANDARD.decode(credentials.trim()).ok()?);
    let text = std::str::from_utf8(&bytes).ok()?;
    // A password holds no colon here, a serial number may.
    let (serial, token) = text.rsplit_once(':')?;
    Some((
        SerialNumber::new(serial).ok()?,
        Zeroizing::new(token.to_owned()),
    ))
}

async fn simpleenroll(
    plane: State<Shared>,
    holder: Holder,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match holder {
        Holder::Certificate(caller) => {
            enroll(plane, caller, headers, body, Operation::SimpleEnroll).await
        }
        Holder::Token {
            peer,
            serial,
            token,
        } => enroll_by_token(plane, peer, serial, token, headers, body).await,
    }
}

async fn simplereenroll(
    plane: State<Shared>,
    holder: Holder,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match holder {
        Holder::Certificate(caller) => {
            enroll(plane, caller, headers, body, Operation::SimpleReenroll).await
        }
        Holder::Token { .. } => plain(Refusal::NotAnLdevid.into()),
    }
}

/// A claim token is one use of one serial number, so a wrong one is counted against both.
async fn enroll_by_token(
    State(plane): State<Shared>,
    peer: SocketAddr,
    serial: SerialNumber,
    token: Zeroizing<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let content_type = content_type(&headers);
    let signals = plane.signals.clone();
    let named = serial.clone();
    let done = async {
        let now = clock::now();
        (plane.token_attempts.lock())
            .begin(source_of(peer.ip()), now)
            .map_err(Trouble::from)?;
        let claimed = claim_token::verify(tokens::kept(&plane, &serial)?, &token, now)
            .map_err(|refusal| (plane.token_attempts.lock()).in_vain(&serial, refusal, now))
            .map_err(Trouble::from)?;
        let request = issuing::read_request(content_type, &body)?;
        let enrolling = async move { flow::enroll_by_token(&plane, &claimed, &request).await };
        Ok::<_, Problem>(to_its_end(enrolling).await?)
    };
    match done.await {
        Ok(der) => certificates(&[&der]),
        Err(problem) => {
            signals.tell(Told::seen(
                Subject::Address(peer.ip().to_canonical()),
                Attribution::Address,
                Feature::HandshakeFailed {
                    reason: problem.body.code.to_owned(),
                    door: "devices".to_owned(),
                },
                clock::now(),
            ));
            tell_line(
                peer,
                &problem,
                &format_args!("serial number {:?}", named.as_str()),
            );
            if problem.status == StatusCode::UNAUTHORIZED {
                unauthorized(problem)
            } else {
                plain(problem)
            }
        }
    }
}

async fn enroll(
    State(plane): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
    operation: Operation,
) -> Response {
    let content_type = content_type(&headers);
    let (signals, trust) = (plane.signals.clone(), Arc::clone(plane.trust()));
    let done = async {
        let presented = caller.presented()?.clone();
        let request = issuing::read_request(content_type, &body)?;
        let enrolling = async move { flow::enroll(&plane, &presented, operation, &request).await };
        Ok::<_, Problem>(to_its_end(enrolling).await?)
    };
    match done.await {
        // Clients of small stacks take the first certificate: the new one, alone.
        Ok(issued) => certificates(&[&issued.der]),
        Err(problem) => {
            if let Caller::Peer { peer, presented } = &caller {
                tell_refusal(&signals, &trust, presented, problem.body.code);
                tell_line(*peer, &problem, presented);
            }
            plain(problem)
        }
    }
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
}

fn tell_line(peer: SocketAddr, problem: &Problem, who: &dyn std::fmt::Display) {
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
        "{peer}: refused {}: {} (it is {who}) [{actor} must act]",
        problem.body.code,
        problem.body.detail
    );
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

fn certificates(chain: &[&[u8]]) -> Response {
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
    let mut response = super::bytes(
        "application/pkcs7-mime; smime-type=certs-only",
        body.into_bytes(),
    );
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
