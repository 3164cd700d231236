//! `GET /api/v1/gateway/tail`: one device or service as it speaks, as server-sent events.
//!
//! The shard hands rows to a bounded queue and never waits for its reader: what did not fit is
//! counted in the next row. No payload is in it.

use super::Whose;
use crate::api::caller::Sent;
use crate::api::guard::{Allowed, admit};
use crate::api::read::Asked;
use crate::api::{Caller, Problem, Shared, problem::ProblemBody};
use crate::shards::{Sight, Sights};
use access::Action;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::{Bytes, Frame};
use serde_json::json;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Its connections, publishes (topic and size, never the payload) and refusals from here on. Ends with
/// the session that asked.
#[utoipa::path(get, path = "/api/v1/gateway/tail", tag = "gateway", params(Whose),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = 400, body = ProblemBody), (status = 401, body = ProblemBody),
        (status = 503, body = ProblemBody)))]
pub async fn tail(
    State(plane): State<Shared>,
    _: Allowed,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Asked(asked): Asked<Whose>,
) -> Result<Response, Problem> {
    let Some(principal) = asked.principal()? else {
        let detail = "name one of device, service";
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "request-refused",
            detail,
        ));
    };
    let Some(rows) = plane.shards().look_at(&principal).await else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "tails-taken",
            "as many are looked at as can be; close another tail",
        ));
    };
    let rows = Rows {
        rows,
        plane,
        caller,
        headers,
        has_begun: false,
    };
    let mut response = Response::new(Body::new(rows));
    let media_type = HeaderValue::from_static("text/event-stream");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}

/// The body of the answer.
struct Rows {
    rows: Sights,
    plane: Shared,
    caller: Caller,
    headers: HeaderMap,
    has_begun: bool,
}

impl hyper::body::Body for Rows {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.has_begun {
            // The reader learns at once that it looks.
            self.has_begun = true;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b": here\n\n")))));
        }
        let Some(sight) = ready!(self.rows.poll_next(context)) else {
            return Poll::Ready(None);
        };
        // Asked for each row: whoever signed out or was revoked sees nothing more.
        if admit(
            &self.plane,
            &self.caller,
            Sent::reading(&self.headers),
            Action::InventoryRead,
        )
        .is_err()
        {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(written(&sight).into()))))
    }
}

/// JSON escapes line ends by itself.
fn written(sight: &Sight) -> String {
    let row = json!({
        "at": sight.at.to_string(),
        "kind": sight.kind,
        "topic": sight.topic,
        "bytes": sight.bytes,
        "reason": sight.reason,
        "text": sight.text,
        "missed": sight.missed,
    });
    format!("event: {}\ndata: {row}\n\n", sight.kind)
}
