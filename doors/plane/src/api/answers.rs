//! What every endpoint may answer besides what it says itself: whoever reads the interface alone
//! meets no status that is not in it.

use super::actions;
use super::second::may_wait;
use access::Action;
use axum::http::Method;
use utoipa::openapi::{Content, ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

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
                (Method::DELETE, &mut item.delete),
            ];
            for (method, operation) in operations {
                let (Some(operation), Some(action)) = (operation, actions::of(&method, path))
                else {
                    continue;
                };
                let takes_body = operation.request_body.is_some();
                let answers = &mut operation.responses.responses;
                for (status, answer) in answers.iter_mut() {
                    if let (true, RefOr::T(answer)) = (status.starts_with(['4', '5']), answer) {
                        as_problem(answer);
                    }
                }
                for (status, what) in COMMON {
                    let fits = match *status {
                        "401" | "403" => action != Action::PublicRead,
                        "413" | "415" | "422" => takes_body,
                        _ => true,
                    };
                    if fits && !answers.contains_key(*status) {
                        answers.insert((*status).to_owned(), RefOr::T(problem(what)));
                    }
                }
                if may_wait(action) && !answers.contains_key("202") {
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
    ("413", "the body is too large"),
    ("415", "the body is of another media type"),
    ("422", "the body does not fit"),
    ("429", "asked too often"),
    ("500", "a fault of the plane's"),
    ("503", "not now; ask again"),
];

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
