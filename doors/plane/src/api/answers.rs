//! What every endpoint may answer and take besides what it says itself: whoever reads the interface
//! alone meets no status that is not in it, and knows which action each endpoint is.

use super::actions::{self, Kind, kind_of};
use super::second::may_wait;
use access::Action;
use axum::http::Method;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{
    Content, ContentBuilder, ObjectBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Type,
};

pub(super) struct AnswersOfAll;

impl utoipa::Modify for AnswersOfAll {
    fn modify(&self, interface: &mut utoipa::openapi::OpenApi) {
        for (path, item) in &mut interface.paths.paths {
            let path = match path.as_str() {
                "/log/{path}" => "/log/{*path}",
                path => path,
            };
            let operations = [
                (Method::GET, &mut item.get),
                (Method::PUT, &mut item.put),
                (Method::POST, &mut item.post),
                (Method::PATCH, &mut item.patch),
                (Method::DELETE, &mut item.delete),
            ];
            for (method, operation) in operations {
                let (Some(operation), Some(action)) = (operation, actions::of(&method, path))
                else {
                    continue;
                };
                let takes_body = operation.request_body.is_some();
                let kind = kind_of(&method, path, action);
                let repeats = method == Method::POST && kind != Kind::Reads;
                name_action(operation, action);
                if repeats && action != Action::SignIn {
                    let parameters = operation.parameters.get_or_insert_default();
                    parameters.push(key());
                }
                let answers = &mut operation.responses.responses;
                for (status, answer) in answers.iter_mut() {
                    if let (true, RefOr::T(answer)) = (status.starts_with(['4', '5']), answer) {
                        as_problem(answer);
                    }
                }
                for (status, what) in COMMON {
                    let fits = match *status {
                        "401" | "403" => action != Action::PublicRead,
                        "413" | "415" => takes_body,
                        "422" => takes_body || repeats,
                        "409" => repeats,
                        _ => true,
                    };
                    if fits && !answers.contains_key(*status) {
                        answers.insert((*status).to_owned(), RefOr::T(problem(what)));
                    }
                }
                if may_wait(action, path) && !answers.contains_key("202") {
                    let waits = "another person must approve it first";
                    let body = content("Proposal");
                    let waits = ResponseBuilder::new().description(waits);
                    let waits = waits.content("application/json", body).build();
                    answers.insert("202".to_owned(), RefOr::T(waits));
                }
            }
        }
    }
}

const COMMON: &[(&str, &str)] = &[
    ("400", "the request is malformed"),
    ("401", "nothing that was shown proves anybody"),
    ("403", "it is not theirs to ask"),
    (
        "409",
        "an act with this Idempotency-Key is under way, or was asked for before",
    ),
    ("413", "the body is too large"),
    ("415", "the body is of another media type"),
    (
        "422",
        "the body does not fit, or the Idempotency-Key was used for another",
    ),
    ("429", "asked too often"),
    ("500", "a fault of the plane's"),
    ("503", "not now; ask again"),
];

/// `x-action`: what a role must permit.
fn name_action(operation: &mut Operation, action: Action) {
    let action = Extensions::from_iter([("x-action", action.name())]);
    operation.extensions.get_or_insert_default().merge(action);
}

/// The act is done once, however often it is asked for.
fn key() -> Parameter {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(128))
        .pattern(Some("^[ -~]*$"));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Asked for again with the same key, within an hour, it is answered as before and not done \
             a second time",
        ))
        .schema(Some(text))
        .build()
}

fn problem(what: &str) -> Response {
    ResponseBuilder::new()
        .description(what)
        .content("application/problem+json", content("ProblemBody"))
        .build()
}

fn content(schema: &str) -> Content {
    ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(schema)))
        .build()
}

/// What is refused is problem+json, also where an endpoint declares the body alone.
fn as_problem(answer: &mut Response) {
    if let Some(body) = answer.content.shift_remove("application/json") {
        answer
            .content
            .insert("application/problem+json".to_owned(), body);
    }
}
