//! The one place that asks whether a request may go on. It stands before every endpoint of the API:
//! one that the registry does not list is refused, so that none can be forgotten.

use super::actions::{self, Kind};
use super::caller::{Sent, Who};
use super::once::{Keyed, once};
use super::second::{self, Agreed, Turn};
use super::shapes::Shapes;
use super::{Caller, Problem, Shared, body_bytes_max, watched};
use crate::clock;
use crate::entries::Actor;
use access::{Action, Asker, DeniedAct, PermittedAct, Role, Roles};
use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// What the guard asks, at every door alike.
#[derive(Clone)]
pub struct Gate {
    plane: Shared,
    shapes: Arc<Shapes>,
}

impl Gate {
    pub fn new(plane: &Shared) -> Self {
        Self {
            plane: Arc::clone(plane),
            shapes: Arc::new(Shapes::of_interface()),
        }
    }

    /// Puts the question before every route of these.
    pub fn guarded(&self, router: Router<Shared>) -> Router<Shared> {
        router.route_layer(from_fn_with_state(self.clone(), guard))
    }
}

/// The ticket of a request that may go on, with the one whom the log will name. An extractor, so that
/// a handler cannot be without it.
pub struct Allowed(pub Actor);

/// The same with all that is known of who asks.
#[derive(Clone)]
pub struct Admitted {
    pub who: Who,
    /// Held, so that only what was permitted goes on.
    _act: PermittedAct,
}

impl FromRequestParts<Shared> for Allowed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, plane: &Shared) -> Result<Self, Problem> {
        let admitted = Admitted::from_request_parts(parts, plane).await?;
        // A device has no actor, and nothing of what is a device's asks for one.
        admitted.who.actor.map(Self).ok_or_else(not_signed_in)
    }
}

impl FromRequestParts<Shared> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let admitted = parts.extensions.get::<Self>().cloned();
        admitted.ok_or_else(|| unlisted(&parts.method))
    }
}

impl Admitted {
    /// Whether whoever asks may do this as well: where what is asked for is told by the body.
    ///
    /// # Errors
    /// 403 with what to do.
    pub fn also(&self, plane: &Shared, action: Action) -> Result<PermittedAct, Problem> {
        decide(plane, &self.who, action)
    }
}

async fn guard(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let plane = &gate.plane;
    let Some(endpoint) = Endpoint::of(&request) else {
        return unlisted(request.method()).into_response();
    };
    // What two people agreed on was asked all but this when it was sent.
    if let Some(Agreed(who)) = request.extensions().get::<Agreed>().cloned() {
        return match decide(plane, &who, endpoint.action) {
            Ok(_act) => {
                request.extensions_mut().insert(Admitted { who, _act });
                next.run(request).await
            }
            Err(problem) => problem.into_response(),
        };
    }
    let who = match endpoint.caller.who(plane, Sent::of(&request)) {
        Ok(who) => who,
        Err(problem) => return problem.into_response(),
    };
    let target = watched::target_of(&request);
    let passed = gate.pass(&endpoint, &who, request, next).await;
    let response = passed.unwrap_or_else(Problem::into_response);
    watched::tell(plane, &who, target, &response);
    watched::said_to(&who, response)
}

/// What is asked for, and who is at the other end.
struct Endpoint {
    action: Action,
    kind: Kind,
    path: String,
    caller: Caller,
}

impl Endpoint {
    /// `None`: the registry does not list it.
    fn of(request: &Request) -> Option<Self> {
        let path = request.extensions().get::<MatchedPath>()?.as_str();
        let action = actions::of(request.method(), path)?;
        Some(Self {
            action,
            kind: actions::kind_of(request.method(), path, action),
            path: path.to_owned(),
            caller: request.extensions().get::<Caller>()?.clone(),
        })
    }
}

impl Gate {
    async fn pass(
        &self,
        endpoint: &Endpoint,
        who: &Who,
        request: Request,
        next: Next,
    ) -> Result<Response, Problem> {
        let plane = Shared::clone(&self.plane);
        if let Some(subject) = &who.subject {
            let rates = &plane.askers.rates;
            rates.take(endpoint.kind, subject, clock::now())?;
        }
        let action = endpoint.action;
        let _act = decide(&plane, who, action)?;
        if let (Some(subject), Some(from)) = (&who.subject, who.from) {
            plane.askers.places.note(&plane.signals, subject, from);
        }
        let mut request = self.shapes.check(&endpoint.path, request).await?;
        let admitted = Admitted {
            who: who.clone(),
            _act,
        };
        request.extensions_mut().insert(admitted.clone());
        let bytes_max = body_bytes_max(&endpoint.path);
        let actor = who.actor.as_ref().map(ToString::to_string);
        let by = actor.or_else(|| who.subject.as_ref().map(ToString::to_string));
        let keyed = match by {
            Some(by) if *request.method() == Method::POST && action != Action::SignIn => {
                Keyed::of(request.headers(), by, endpoint.kind, bytes_max)?
            }
            _ => None,
        };
        let taking_turns = Shared::clone(&plane);
        let act = move |request| async move {
            match second::turn(&taking_turns, &admitted, action, request, bytes_max).await {
                Ok(Turn::GoesOn(request)) => next.run(request).await,
                Ok(Turn::Waits(response)) => response,
                Err(problem) => problem.into_response(),
            }
        };
        match keyed {
            Some(keyed) => once(&plane, keyed, request, act).await,
            None => Ok(act(request).await),
        }
    }
}

/// Whether this caller may do this now.
///
/// # Errors
/// 401 or 403 with what to do.
pub fn admit(
    plane: &Shared,
    caller: &Caller,
    sent: Sent<'_>,
    action: Action,
) -> Result<Admitted, Problem> {
    let who = caller.who(plane, sent)?;
    let _act = decide(plane, &who, action)?;
    Ok(Admitted { who, _act })
}

fn decide(plane: &Shared, who: &Who, action: Action) -> Result<PermittedAct, Problem> {
    (plane.roster.rights.decide(who.asker, action)).map_err(|denied| match denied {
        DeniedAct::NotSignedIn => not_signed_in(),
        DeniedAct::NotFresh => not_fresh(),
        DeniedAct::NotPermitted => not_permitted(plane, who.asker, action),
    })
}

fn unlisted(method: &Method) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        format!("this path does not take {method}; see /openapi.json"),
    )
}

pub fn not_signed_in() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "not-signed-in",
        "sign in at the console, show a token, or on the plane's machine make a link with \
         `fleetward access admin-link`",
    )
}

fn not_fresh() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "fresh-proof-needed",
        "this is dangerous enough to ask again who you are: sign in once more, then repeat it \
         within five minutes",
    )
}

fn not_permitted(plane: &Shared, asker: Asker, action: Action) -> Problem {
    let (code, detail) = match (asker, action) {
        (Asker::Device | Asker::Service { .. }, Action::Observe) => (
            "not-an-observer",
            "only a service with observes_network = true in the fleet may report what the network \
             saw"
            .to_owned(),
        ),
        (Asker::Device | Asker::Service { .. }, Action::Ownership) => (
            "not-for-owners",
            "only a service with speaks_for_owners = true in the fleet may say whose a device is"
                .to_owned(),
        ),
        (Asker::Device, _) => (
            "not-for-devices",
            "a device may enroll here and nothing else".to_owned(),
        ),
        (_, Action::AdminLink) => (
            "local-only",
            "run `fleetward access admin-link` on the plane's machine".to_owned(),
        ),
        (_, action) => {
            let may = |role: &Role| {
                let (roles, is_fresh) = (Roles::of([*role]), true);
                let asker = Asker::Person { roles, is_fresh };
                plane.roster.rights.decide(asker, action).is_ok()
            };
            let roles: Vec<&str> = (Role::ALL.into_iter())
                .filter(|role| *role != Role::BreakGlass && may(role))
                .map(Role::name)
                .collect();
            let who = match roles.as_slice() {
                [] => "nobody by a role".to_owned(),
                roles => roles.join(", "),
            };
            let what = action.name();
            let detail = format!("{what} is not yours; it is for: {who}. Ask a tenant-admin");
            ("not-permitted", detail)
        }
    };
    Problem::new(StatusCode::FORBIDDEN, code, detail)
}
