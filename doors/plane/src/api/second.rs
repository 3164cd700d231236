//! Which requests wait for a second person: read before their endpoint is.

use super::access::FleetFiles;
use super::caller::Who;
use super::guard::Admitted;
use super::once::too_large;
use super::people::{NewPerson, NewToken, seen_version};
use super::proposals::{BreakGlass, Proposal};
use super::read::json;
use super::response::groups::{self, NewGroupContainment};
use super::revocation::Revocation;
use super::roots::RootStep;
use super::{Problem, Shared};
use crate::people::proposals::{self, Asked};
use crate::shared::to_its_end;
use crate::trouble::Trouble;
use crate::withdrawing::read_list;
use access::{ActClass, Action, Roles};
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::{PersonId, Revocable};
use serde_json::Value;

/// Goes with a request that two people agreed on, in place of who asked for it. Only the plane puts
/// it there: what comes over a network has none.
#[derive(Clone)]
pub struct Agreed(pub Who);

/// What happens to a request.
pub enum Turn {
    GoesOn(Request),
    Waits(Response),
}

/// Keeps the request if it needs a second person.
///
/// # Errors
/// It is too large, or is not theirs to ask for.
pub async fn turn(
    plane: &Shared,
    admitted: &Admitted,
    action: Action,
    request: Request,
    bytes_max: usize,
) -> Result<Turn, Problem> {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or_else(String::new, |path| path.as_str().to_owned());
    let path = path.as_str();
    let (true, Some(actor)) = (may_wait(action, path), admitted.who.actor.clone()) else {
        return Ok(Turn::GoesOn(request));
    };
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, bytes_max).await;
    let body = body.map_err(|_| too_large(bytes_max))?;
    let needed = class_of(plane, action, path, &parts.uri, &body);
    let Some((class, action)) = needed else {
        return Ok(Turn::GoesOn(Request::from_parts(parts, body.into())));
    };
    if !proposals::must_wait(plane, class, action, admitted.who.asker, &actor) {
        return Ok(Turn::GoesOn(Request::from_parts(parts, body.into())));
    }
    admitted.also(plane, action)?;
    check_readable(path, &parts.headers, &body)?;
    if class == ActClass::Policy && !names_plan(&body) {
        return Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "plan-needed",
            "another person will approve this: name the `plan` that both look at",
        ));
    }
    if class == ActClass::ContainMany && !groups::names_shown(&body) {
        return Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "shown-needed",
            "another person will approve this: say by `shown`, as a dry run does, whom both look at",
        ));
    }
    let text = |name: HeaderName| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let asked = Asked {
        class,
        action,
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        seen_version: text(header::IF_MATCH),
        media_type: text(header::CONTENT_TYPE).unwrap_or_default(),
        body: body.to_vec(),
    };
    let plane = Shared::clone(plane);
    let row = to_its_end(async move { proposals::propose(&plane, asked, &actor).await }).await?;
    let answer = (StatusCode::ACCEPTED, Json(Proposal::from(row)));
    Ok(Turn::Waits(answer.into_response()))
}

/// Nobody is asked about what its endpoint could not read.
fn check_readable(path: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
    match path {
        "/api/v1/access/fleet" => json::<FleetFiles>(body).map(drop),
        "/api/v1/access/break-glass" => json::<BreakGlass>(body).map(drop),
        "/api/v1/access/people" => json::<NewPerson>(body).map(drop),
        "/api/v1/access/people/{person}" => {
            seen_version(headers)?;
            json::<NewPerson>(body).map(drop)
        }
        "/api/v1/access/tokens" => json::<NewToken>(body).map(drop),
        "/api/v1/identity/revocations" => json::<Revocation>(body).map(drop),
        GROUP_CONTAINMENTS => json::<NewGroupContainment>(body).map(drop),
        "/api/v1/identity/roots/retire" | "/api/v1/identity/roots/rollover" => {
            json::<RootStep>(body).map(drop)
        }
        // They have no body, or their list was read.
        _ => Ok(()),
    }
}

const GROUP_CONTAINMENTS: &str = "/api/v1/response/group-containments";

/// Whether requests of this action, at this path as it is routed, may need another person.
pub fn may_wait(action: Action, path: &str) -> bool {
    use Action::{AccessApply, BreakGlass, CaChange, Contain, PeopleChange, Revoke};
    match action {
        AccessApply | BreakGlass | CaChange | PeopleChange | Revoke => true,
        // One device is never held up.
        Contain => path == GROUP_CONTAINMENTS,
        _ => false,
    }
}

/// As the request, with what two people agreed on.
pub fn request_of(row: &store::Proposal, who: Who) -> Result<Request, Trouble> {
    let mut request = Request::builder()
        .method(row.method.as_str())
        .uri(&row.target)
        .header(header::CONTENT_TYPE, &row.media_type);
    if let Some(version) = &row.seen_version {
        request = request.header(header::IF_MATCH, version);
    }
    request
        .extension(Agreed(who))
        .body(Body::from(row.body.clone()))
        .map_err(Trouble::fault)
}

/// The kind of act, and the action that both need. What is malformed is refused by its endpoint,
/// which reads a field that is said twice as an error.
fn class_of(
    plane: &Shared,
    action: Action,
    path: &str,
    uri: &axum::http::Uri,
    body: &[u8],
) -> Option<(ActClass, Action)> {
    let json = || json::<Value>(body).unwrap_or_default();
    match action {
        Action::AccessApply => Some((ActClass::Policy, action)),
        Action::BreakGlass => Some((ActClass::BreakGlass, action)),
        Action::CaChange => {
            // A key leaves or is destroyed by the machine's own user only.
            let elsewhere = path.ends_with("/roots/export") || path.ends_with("/roots/key");
            let dry_run = json().pointer("/dry_run") == Some(&Value::Bool(true));
            (!elsewhere && !dry_run).then_some((ActClass::Ca, action))
        }
        Action::Revoke => {
            let many = if path.ends_with("/list") {
                let dry_run = uri
                    .query()
                    .is_some_and(|query| query.contains("dry_run=true"));
                let list = std::str::from_utf8(body)
                    .ok()
                    .and_then(|text| read_list(text).ok());
                !dry_run && list.unwrap_or_default().iter().any(bars_many)
            } else {
                let asked = json();
                let dry_run = asked.pointer("/dry_run") == Some(&Value::Bool(true));
                let names = |at| asked.pointer(at).is_some_and(|value| !value.is_null());
                !dry_run && (names("/product") || names("/ca"))
            };
            many.then_some((ActClass::RevokeMany, Action::RevokeMany))
        }
        Action::Contain => {
            let dry_run = uri
                .query()
                .is_some_and(|query| query.contains("dry_run=true"));
            let many = !dry_run && groups::is_of_many(plane, body);
            many.then_some((ActClass::ContainMany, Action::ContainMany))
        }
        Action::PeopleChange => {
            let given = if path.ends_with("/link") {
                roles_in_path(plane, uri, 1)
            } else {
                let asked = json();
                let names: Vec<&str> = asked
                    .pointer("/roles")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                let wanted = Roles::from_text(&names.join(" ")).unwrap_or_default();
                // To take roles away needs nobody else.
                match path.ends_with("{person}") {
                    true => wanted.without(roles_in_path(plane, uri, 0)),
                    false => wanted,
                }
            };
            given.is_strong().then_some((ActClass::Rights, action))
        }
        _ => None,
    }
}

/// Of the person whose name stands in the path, so many parts before its end.
fn roles_in_path(plane: &Shared, uri: &axum::http::Uri, before_end: usize) -> Roles {
    let name = uri.path().rsplit('/').nth(before_end).unwrap_or_default();
    let member = PersonId::new(name)
        .ok()
        .and_then(|id| plane.roster.person(&id));
    member.map(|member| member.roles).unwrap_or_default()
}

/// A whole product, or all that a CA issued.
pub fn bars_many(what: &Revocable) -> bool {
    matches!(what, Revocable::Product(_) | Revocable::Issuer(_))
}

fn names_plan(body: &[u8]) -> bool {
    let asked: Value = json(body).unwrap_or_default();
    asked.pointer("/plan").is_some_and(Value::is_string)
}
