//! What each endpoint takes, read from the interface: what is not in it is refused, so that none can
//! take more than it says.

use super::{Interface, Problem};
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use hyper::body::Body as _;
use std::collections::HashMap;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::{RefOr, Required};

/// Bytes of a body that says nothing.
const NOTHING_BYTES_MAX: usize = 64;

/// By method and path, as they are routed. What has none is others' format, and asks for itself.
pub struct Shapes(HashMap<(&'static str, String), Shape>);

struct Shape {
    query: Vec<Parameter>,
    /// Of the body; none: it has no body.
    media_types: Vec<String>,
    needs_body: bool,
}

/// Of the query.
struct Parameter {
    name: String,
    /// Of 64 bits with a sign, as the interface says: what is read as one, and is greater, is none.
    is_integer: bool,
}

impl Shapes {
    pub fn of_interface() -> Self {
        let mut shapes = HashMap::new();
        for (path, item) in Interface::openapi().paths.paths {
            let operations = [
                ("GET", item.get),
                ("PUT", item.put),
                ("POST", item.post),
                ("PATCH", item.patch),
                ("DELETE", item.delete),
            ];
            for (method, operation) in operations {
                if let Some(operation) = operation {
                    shapes.insert((method, path.clone()), Shape::of(operation));
                }
            }
        }
        Self(shapes)
    }

    /// The request, if it has nothing but what its endpoint takes.
    ///
    /// # Errors
    /// 400 or 415: what it does not take.
    pub async fn check(&self, path: &str, request: Request) -> Result<Request, Problem> {
        let method = match *request.method() {
            Method::PUT => "PUT",
            Method::POST => "POST",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "GET",
        };
        let Some(shape) = self.0.get(&(method, path.to_owned())) else {
            return Ok(request);
        };
        let query = request.uri().query().unwrap_or_default();
        shape.check_query(query)?;
        if request.body().is_end_stream() {
            return match shape.needs_body {
                true => Err(body_refused(format!(
                    "this needs a body, as {}",
                    shape.media_types.join(" or ")
                ))),
                false => Ok(request),
            };
        }
        if shape.media_types.is_empty() {
            return without_body(request).await;
        }
        shape.check_media_type(request.headers())?;
        Ok(request)
    }
}

impl Shape {
    fn of(operation: Operation) -> Self {
        let parameters = operation.parameters.unwrap_or_default().into_iter();
        let needs_body = (operation.request_body.as_ref())
            .is_some_and(|body| body.required == Some(Required::True));
        let bodies = operation.request_body.into_iter();
        Self {
            needs_body,
            query: (parameters.filter(|one| one.parameter_in == ParameterIn::Query))
                .map(|one| Parameter {
                    is_integer: one.schema.as_ref().is_some_and(is_integer),
                    name: one.name,
                })
                .collect(),
            media_types: bodies.flat_map(|one| one.content.into_keys()).collect(),
        }
    }

    fn check_query(&self, query: &str) -> Result<(), Problem> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let known = self.query.iter().find(|one| one.name == name);
            let text = match known {
                Some(one) if one.is_integer && value.parse::<i64>().is_err() => {
                    format!("{name} is a whole number below 2^63")
                }
                Some(_) => continue,
                None => self.unknown(name),
            };
            return Err(Problem::new(StatusCode::BAD_REQUEST, "query-refused", text));
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> String {
        let name: String = name.chars().take(64).collect();
        let known: Vec<&str> = self.query.iter().map(|one| one.name.as_str()).collect();
        match known.as_slice() {
            [] => format!("there is no parameter {name:?} here, and no other"),
            known => format!(
                "there is no parameter {name:?} here; there are: {}",
                known.join(", ")
            ),
        }
    }

    fn check_media_type(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let said = headers.get(header::CONTENT_TYPE);
        let said = said.and_then(|value| value.to_str().ok());
        let said = said.unwrap_or_default().split(';').next();
        let said = said.unwrap_or_default().trim();
        if (self.media_types.iter()).any(|known| known.eq_ignore_ascii_case(said)) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "body-refused",
            format!("send the body as {}", self.media_types.join(" or ")),
        ))
    }
}

fn is_integer(schema: &RefOr<Schema>) -> bool {
    let RefOr::T(Schema::Object(object)) = schema else {
        return false;
    };
    matches!(object.schema_type, SchemaType::Type(Type::Integer))
}

/// A body where none is taken would be thought to be heeded: somebody says `dry_run`, and it is done.
/// Empty ones, and `{}`, say nothing.
async fn without_body(request: Request) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, NOTHING_BYTES_MAX).await;
    if body.is_ok_and(|body| matches!(body.trim_ascii(), b"" | b"{}")) {
        return Ok(Request::from_parts(parts, Body::empty()));
    }
    Err(body_refused("this takes no body; see /openapi.json"))
}

fn body_refused(text: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "body-refused", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn status_of(method: &str, uri: &str, body: Option<(&str, &str)>) -> u16 {
        let request = Request::builder().method(method).uri(uri);
        let request = match body {
            Some((media_type, text)) => request
                .header(header::CONTENT_TYPE, media_type)
                .body(Body::from(text.to_owned())),
            None => request.body(Body::empty()),
        };
        let path = uri.split('?').next().unwrap();
        let checked = Shapes::of_interface().check(path, request.unwrap()).await;
        checked.map_or_else(|problem| problem.status.as_u16(), |_| 200)
    }

    #[tokio::test]
    async fn what_the_interface_does_not_name_is_refused() {
        let people = "/api/v1/access/people";
        assert_eq!(status_of("GET", people, None).await, 200);
        assert_eq!(
            status_of("GET", &format!("{people}?limit=1&"), None).await,
            200
        );
        // A slip of the hand must not read as nothing.
        for query in ["limits=1", "limit=1&x", "Limit=1", "%6cimit=1"] {
            let uri = format!("{people}?{query}");
            assert_eq!(status_of("GET", &uri, None).await, 400, "{query}");
        }
        for number in ["9223372036854775808", "-", "1e3", ""] {
            let uri = format!("{people}?limit={number}");
            assert_eq!(status_of("GET", &uri, None).await, 400, "{number}");
        }
        let revoke = "/api/v1/identity/revocations";
        let json = |text| Some(("application/json; charset=utf-8", text));
        assert_eq!(status_of("POST", revoke, json("[")).await, 200);
        for wrong in [
            "text/plain",
            "",
            "application/jsonx",
            "application/merge-patch+json",
        ] {
            assert_eq!(status_of("POST", revoke, Some((wrong, "{}"))).await, 415);
        }
        assert_eq!(status_of("POST", revoke, None).await, 400);
        let uri = format!("{revoke}?dry_run=true");
        assert_eq!(status_of("POST", &uri, json("{}")).await, 400);
    }

    #[tokio::test]
    async fn attack_a_dry_run_where_there_is_none_is_not_done_for_real() {
        let rollover = "/api/v1/identity/authorities/{name}/rollover";
        let uri = "/api/v1/access/sign-out";
        assert!(Interface::openapi().paths.paths.contains_key(rollover));
        for (body, status) in [
            ("", 200),
            ("{}", 200),
            (" {} ", 200),
            ("{\"dry_run\":true}", 400),
        ] {
            let body = Some(("application/json", body));
            assert_eq!(status_of("POST", uri, body).await, status);
        }
        let long = "x".repeat(1 << 20);
        assert_eq!(
            status_of("POST", uri, Some(("text/plain", &long))).await,
            400
        );
    }
}
