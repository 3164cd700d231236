//! `GET /api/v1/gateway/tail`: one device or service as it speaks, as server-sent events.
//!
//! The shard hands rows to a bounded queue and never waits for its reader: what did not fit is
//! counted in the next row. No payload is in it.

use super::Whose;
use crate::api::caller::Sent;
use crate::api::events::credentials_of;
use crate::api::guard::{Allowed, admit};
use crate::api::read::Asked;
use crate::api::{Caller, Problem, Shared, problem::ProblemBody, steps};
use crate::shards::{Sight, Sights};
use access::Action;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::Bytes;
use serde_json::json;
use tokio::sync::watch;

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
    let tail = Tail {
        rows,
        moves: plane.events.moves(),
        beats: plane.events.beats(),
        has_begun: false,
        plane,
        caller,
        headers: credentials_of(&headers),
    };
    let mut response = Response::new(steps::body(tail, |tail| Box::pin(tail.next())));
    let media_type = HeaderValue::from_static("text/event-stream");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}

struct Tail {
    rows: Sights,
    plane: Shared,
    caller: Caller,
    headers: HeaderMap,
    moves: watch::Receiver<u64>,
    /// The last beat that was answered.
    beats: u64,
    has_begun: bool,
}

impl Tail {
    /// Waits until there is something to write; `None` when the tail is over.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if !self.has_begun {
            // The reader learns at once that it looks.
            self.has_begun = true;
            return Some((Bytes::from_static(b": here\n\n"), self));
        }
        loop {
            self.moves.borrow_and_update();
            if !self.stands() {
                return None;
            }
            let beats = self.plane.events.beats();
            if beats != self.beats {
                // Whoever is silent for long may be taken for gone, on either side.
                self.beats = beats;
                return Some((Bytes::from_static(b": beat\n\n"), self));
            }
            let sight = tokio::select! {
                sight = self.rows.next() => Some(sight?),
                moved = self.moves.changed() => {
                    moved.ok()?;
                    None
                }
            };
            if let Some(sight) = sight {
                return (self.stands()).then(|| (written(&sight).into(), self));
            }
        }
    }

    /// Asked at each wake and for each row: whoever signed out, lost the role or was revoked sees
    /// nothing more, and gives the place back.
    fn stands(&self) -> bool {
        let sent = Sent::reading(&self.headers);
        !self.plane.events.is_over()
            && admit(&self.plane, &self.caller, sent, Action::InventoryRead).is_ok()
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
