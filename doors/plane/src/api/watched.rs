//! Abuse of the API is watched: what is refused to whom is told to the judge. What the framework
//! answers by itself is said in our words.

use super::caller::{COOKIE, Who};
use super::problem::{Code, of_status};
use super::{Caller, Shared};
use crate::clock;
use crate::judge::signals::Told;
use crate::people::tokens::PREFIX;
use access::Asker;
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use detection::Feature;
use model::{Attribution, Subject};
use std::net::IpAddr;

/// Characters of a path in an observation.
const TARGET_CHARS_MAX: usize = 128;

/// Lets a request go on, and tells of a secret that was none.
pub async fn watch(State(plane): State<Shared>, request: Request, next: Next) -> Response {
    let shower = shower(&request);
    let is_api = request.uri().path().starts_with("/api/");
    let response = next.run(request).await;
    if let (Some(address), StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS) =
        (shower, response.status())
        && code_of(&response) != Some("rate-exceeded")
    {
        plane.signals.tell(Told::seen(
            Subject::Address(address),
            Attribution::Address,
            Feature::Token { accepted: false },
            clock::now(),
        ));
    }
    if is_api {
        in_our_words(response)
    } else {
        response
    }
}

/// From where a cookie or a token is shown, which perhaps is none. Whoever shows nothing at all is
/// nobody: a browser asks before it signs in.
fn shower(request: &Request) -> Option<IpAddr> {
    let Some(Caller::Stranger { peer }) = request.extensions().get::<Caller>() else {
        return None;
    };
    let shows = |name: HeaderName, ours: &str| {
        (request.headers().get_all(name).iter())
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.contains(ours))
    };
    let shows_ours = shows(header::COOKIE, COOKIE) || shows(header::AUTHORIZATION, PREFIX);
    shows_ours.then(|| peer.ip().to_canonical())
}

/// As an observation names what was asked for.
pub fn target_of(request: &Request) -> String {
    let path = request.uri().path().chars();
    path.take(TARGET_CHARS_MAX).collect()
}

/// What is refused to somebody who is known. Whose proof of who they are is old only gives it again.
pub fn tell(plane: &Shared, who: &Who, target: String, response: &Response) {
    let Some(subject) = who.subject.clone() else {
        return;
    };
    let reason = match (response.status(), code_of(response)) {
        (_, Some("rate-exceeded")) => "rate-exceeded",
        (_, Some("fresh-proof-needed")) => return,
        (StatusCode::FORBIDDEN, _) => "forbidden",
        (StatusCode::UNAUTHORIZED, _) => "not-signed-in",
        _ => return,
    };
    plane.signals.tell(Told::denied(
        subject,
        Attribution::Proven,
        ("api", &target),
        reason,
        clock::now(),
    ));
}

/// Whoever is not trusted with anything hears of a fault of ours that there was one: the plane's log
/// has it.
pub fn said_to(who: &Who, response: Response) -> Response {
    let is_outside = matches!(who.asker, Asker::Stranger | Asker::Device);
    if is_outside && response.status() == StatusCode::INTERNAL_SERVER_ERROR {
        return of_status(StatusCode::INTERNAL_SERVER_ERROR).into_response();
    }
    response
}

fn code_of(response: &Response) -> Option<&'static str> {
    response.extensions().get::<Code>().map(|code| code.0)
}

/// A refusal without words comes from below us: a time-out, a body that is too large.
fn in_our_words(response: Response) -> Response {
    let status = response.status();
    let is_refusal = status.is_client_error() || status.is_server_error();
    if !is_refusal || response.headers().contains_key(header::CONTENT_TYPE) {
        return response;
    }
    let (mut head, _) = response.into_parts();
    let (ours, body) = of_status(status).into_response().into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.extend(ours.headers);
    Response::from_parts(head, body)
}
