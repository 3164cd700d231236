//! Requests as typed values; what does not fit is a problem, never a guess.

use super::Problem;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Form, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

/// Objects and lists within one another in a body. Ours have a handful.
const DEPTH_MAX: usize = 16;

/// A JSON body.
pub struct Body<T>(pub T);

/// A form, as programs of others post it.
pub struct Posted<T>(pub T);

/// The query string.
pub struct Asked<T>(pub T);

/// A part of the path.
pub struct Named<T>(pub T);

/// A body of text.
pub struct Text(pub String);

/// A body that is read by whoever takes it.
pub struct Raw(pub Bytes);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let Raw(bytes) = Raw::from_request(request, state).await?;
        json(&bytes).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Posted<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Form::from_request(request, state).await {
            Ok(Form(value)) => Ok(Self(value)),
            // What is missing in it, or is not text, is a bad request to whoever posts it.
            Err(refused) if refused.status() == StatusCode::UNPROCESSABLE_ENTITY => {
                Err(body_refused(StatusCode::BAD_REQUEST, refused.body_text()))
            }
            Err(refused) => Err(body_refused(refused.status(), refused.body_text())),
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Text {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let text = String::from_request(request, state).await;
        text.map(Self)
            .map_err(|refused| body_refused(refused.status(), refused.body_text()))
    }
}

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await;
        bytes
            .map(Self)
            .map_err(|refused| body_refused(refused.status(), refused.body_text()))
    }
}

fn body_refused(status: StatusCode, text: String) -> Problem {
    Problem::new(status, "body-refused", text)
}

/// What a body says, if it is JSON of this kind. Its media type was asked about before.
///
/// # Errors
/// 400 or 422: what is wrong with it, and where.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if depth(bytes) > DEPTH_MAX {
        let text = format!("the body has more than {DEPTH_MAX} levels");
        return Err(body_refused(StatusCode::BAD_REQUEST, text));
    }
    match Json::from_bytes(bytes) {
        Ok(Json(value)) => Ok(value),
        Err(refused) => Err(body_refused(refused.status(), refused.body_text())),
    }
}

/// How deep a text of JSON goes, found before anything is built of it. What is no JSON is refused by
/// whoever parses it.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(refused) => Err(Problem::new(
                refused.status(),
                "query-refused",
                refused.body_text(),
            )),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(refused) => Err(Problem::new(
                refused.status(),
                "path-refused",
                refused.body_text(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn deep(value: &Value) -> usize {
        match value {
            Value::Array(all) => 1 + all.iter().map(deep).max().unwrap_or(0),
            Value::Object(all) => 1 + all.values().map(deep).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            r#"[\[\]{}"\\a ]{0,8}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(8, 64, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(r#"[\[{"\\]{0,4}"#, inner, 0..4)
                    .prop_map(|all| Value::Object(all.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_depth_of_a_text_is_that_of_what_it_says(value in any_json()) {
            prop_assert_eq!(depth(value.to_string().as_bytes()), deep(&value));
        }
    }

    #[test]
    fn attack_a_body_of_nothing_but_brackets_is_refused_before_it_is_parsed() {
        for open in ["[", "{\"a\":"] {
            let refused = json::<Value>(open.repeat(1 << 16).as_bytes()).unwrap_err();
            assert_eq!(refused.status, StatusCode::BAD_REQUEST);
            assert!(refused.body.detail.contains("levels"));
        }
        let fits = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        assert!(json::<Value>(fits.as_bytes()).is_ok());
        assert!(json::<Value>(format!("[{fits}]").as_bytes()).is_err());
    }
}
