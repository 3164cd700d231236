//! Abuse of the API is watched: what is refused to whom is told to the judge, and a service that
//! calls too often is held back.

use super::caller::COOKIE;
use super::{Caller, Problem, Shared};
use crate::clock;
use crate::judge::signals::Told;
use crate::people::tokens::PREFIX;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use detection::Feature;
use identity::Door;
use model::{Attribution, Principal, Subject};

/// Calls of one service in a second.
pub const CALLS_A_SECOND: u32 = 100;
/// Characters of a path in an observation.
const TARGET_CHARS_MAX: usize = 128;

/// Asks whether a service may call again, lets the request go on, and tells how it ended.
pub async fn watch(State(plane): State<Shared>, request: Request, next: Next) -> Response {
    let Some(who) = Who::of(&plane, &request) else {
        return next.run(request).await;
    };
    let target: String = request
        .uri()
        .path()
        .chars()
        .take(TARGET_CHARS_MAX)
        .collect();
    if let Who::Known(Principal::Service(service)) = &who
        && !plane
            .service_calls
            .lock()
            .take(service.clone(), clock::now())
    {
        who.tell(&plane, &target, "rate-exceeded");
        return Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate-exceeded",
            format!("a service may call {CALLS_A_SECOND} times a second; call less often"),
        )
        .into_response();
    }
    let response = next.run(request).await;
    match response.status() {
        StatusCode::UNAUTHORIZED => who.tell(&plane, &target, "not-signed-in"),
        StatusCode::FORBIDDEN => who.tell(&plane, &target, "forbidden"),
        _ => {}
    }
    response
}

/// Whom a refusal is about. Whoever shows nothing at all is nobody: a browser asks before it
/// signs in.
enum Who {
    /// By a certificate that was proven and holds now.
    Known(Principal),
    /// Somebody who shows a cookie or a token, and perhaps neither is good.
    Guessing(std::net::IpAddr),
}

impl Who {
    fn of(plane: &Shared, request: &Request) -> Option<Self> {
        match request.extensions().get::<Caller>()? {
            // EST says itself what it refuses them; nothing else is theirs.
            Caller::Local { .. } | Caller::Asking { .. } => None,
            Caller::Peer { presented, .. } => {
                let who = plane.trust().authenticate(Door::Devices, presented).ok()?;
                Some(Self::Known(who.principal().clone()))
            }
            Caller::Stranger { peer } => {
                let headers = request.headers();
                let shows = |name: header::HeaderName, ours: &str| {
                    (headers.get_all(name).iter())
                        .filter_map(|value| value.to_str().ok())
                        .any(|value| value.contains(ours))
                };
                let shows_ours =
                    shows(header::COOKIE, COOKIE) || shows(header::AUTHORIZATION, PREFIX);
                shows_ours.then(|| Self::Guessing(peer.ip().to_canonical()))
            }
        }
    }

    fn tell(&self, plane: &Shared, target: &str, reason: &str) {
        let told = match self {
            // The factory identity enrolls: that it asks is no abuse.
            Self::Known(Principal::Device(_)) if target.starts_with("/.well-known/est") => return,
            Self::Known(principal) => Told::seen(
                principal.clone(),
                Attribution::Proven,
                Feature::Denied {
                    action: "api".into(),
                    target: target.to_owned(),
                    reason: reason.to_owned(),
                },
                clock::now(),
            ),
            Self::Guessing(address) => Told::seen(
                Subject::Address(*address),
                Attribution::Address,
                Feature::Token { accepted: false },
                clock::now(),
            ),
        };
        plane.signals.tell(told);
    }
}
