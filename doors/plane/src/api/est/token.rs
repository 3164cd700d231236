//! EST by claim token: HTTP Basic over TLS, the serial number as user, the token as password
//! (RFC 7030 section 3.2.3, RFC 7617). For devices that have no certificate to show.

use super::{Holder, Label, certificates, plain, unknown_label};
use crate::api::{Caller, Problem, Shared};
use crate::certify::{issuing, tokens};
use crate::clock;
use crate::flow;
use crate::judge::signals::Told;
use crate::listen::source_of;
use crate::shared::to_its_end;
use crate::trouble::Trouble;
use axum::body::Bytes;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use detection::Feature;
use identity::claim_token;
use model::{Attribution, SerialNumber, Subject};
use std::net::SocketAddr;
use zeroize::Zeroizing;

/// Of the credentials in a header.
const CREDENTIALS_BYTES_MAX: usize = 256;

/// What proves who asks for a first certificate, found before the body is read.
pub enum Proof {
    Certificate(Holder),
    Token(Shown),
}

/// A serial number and the token that was shown for it.
pub struct Shown {
    peer: SocketAddr,
    serial: SerialNumber,
    token: Zeroizing<String>,
}

impl FromRequestParts<Shared> for Proof {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, plane: &Shared) -> Result<Self, Response> {
        // A certificate that was shown is the stronger word.
        if let Some(Caller::Stranger { peer }) = parts.extensions.get::<Caller>() {
            let Some((serial, token)) = credentials(&parts.headers) else {
                return Err(unauthorized(Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "no-certificate",
                    "present a certificate in the TLS handshake, or serial number and claim token \
                     by HTTP Basic",
                )));
            };
            return Ok(Self::Token(Shown {
                peer: *peer,
                serial,
                token,
            }));
        }
        let holder = Holder::from_request_parts(parts, plane).await;
        holder.map(Self::Certificate)
    }
}

/// A claim token is one use of one serial number; a wrong one is counted against source and number.
pub async fn enroll(
    plane: Shared,
    label: Label,
    shown: Shown,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(label) = label.product() else {
        return unknown_label();
    };
    let Shown {
        peer,
        serial,
        token,
    } = shown;
    let signals = plane.signals.clone();
    let done = async {
        let now = clock::now();
        let source = source_of(peer.ip());
        (plane.token_attempts.lock().begin(source, now)).map_err(Trouble::from)?;
        let kept = tokens::kept(&plane, &serial)?;
        let claimed = claim_token::verify(kept, &token, now)
            .map_err(|refusal| plane.token_attempts.lock().in_vain(&serial, refusal, now))
            .map_err(Trouble::from)?;
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let (request, _) = issuing::read_request(content_type, &body)?;
        let enrolling =
            async move { flow::enroll_by_token(&plane, &claimed, label, &request).await };
        Ok::<_, Problem>(to_its_end(enrolling).await?)
    };
    let problem = match done.await {
        Ok(der) => return certificates(&[&der], &headers),
        Err(problem) => problem,
    };
    signals.tell(Told::seen(
        Subject::Address(peer.ip().to_canonical()),
        Attribution::Address,
        Feature::HandshakeFailed {
            reason: problem.body.code.to_owned(),
            door: "devices".to_owned(),
        },
        clock::now(),
    ));
    tracing::warn!(
        target: "devices",
        "{peer}: refused {}: {} (it claims serial number {:?}) [{} must act]",
        problem.body.code,
        problem.body.detail,
        serial.as_str(),
        problem.body.who_must_act.unwrap_or("device")
    );
    if problem.status == StatusCode::UNAUTHORIZED {
        unauthorized(problem)
    } else {
        plain(problem)
    }
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

fn credentials(headers: &HeaderMap) -> Option<(SerialNumber, Zeroizing<String>)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || credentials.len() > CREDENTIALS_BYTES_MAX {
        return None;
    }
    let bytes = Zeroizing::new(STANDARD.decode(credentials.trim()).ok()?);
    let text = std::str::from_utf8(&bytes).ok()?;
    // A token holds no colon, a serial number may.
    let (serial, token) = text.rsplit_once(':')?;
    let serial = SerialNumber::new(serial).ok()?;
    Some((serial, Zeroizing::new(token.to_owned())))
}
