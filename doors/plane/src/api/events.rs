//! `GET /api/v1/events`: what happens, as server-sent events (WHATWG HTML, section 9.2).
//!
//! `event:` is what it is about, `data:` one line of JSON with its id and a summary, `id:` its
//! number. Whoever comes back with `Last-Event-ID` goes on from there, or gets `event: reset` and
//! reads everything anew.

use super::guard::{Allowed, admit};
use super::{Caller, Problem, Shared};
use crate::events::{Found, Place, STREAMS_MAX};
use access::Action;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::{Bytes, Frame};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::watch;

/// What happens from here on, or from `Last-Event-ID` on. Ends with the session that asked.
#[utoipa::path(get, path = "/api/v1/events", tag = "events",
    params(("Last-Event-ID" = Option<u64>, Header, description = "the last event that was seen")),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = 401, body = super::problem::ProblemBody), (status = 503, body = super::problem::ProblemBody)))]
pub async fn events(
    State(plane): State<Shared>,
    _: Allowed,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some(place) = plane.events.place() else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "streams-taken",
            format!("{STREAMS_MAX} screens are open already; close one"),
        ));
    };
    let last_seen = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let stream = Stream {
        last: last_seen.unwrap_or_else(|| plane.events.last()),
        beats: plane.events.beats(),
        moves: plane.events.moves(),
        begun: false,
        place,
        plane,
        caller,
        headers: credentials_of(&headers),
    };
    let mut response = Response::new(Body::new(Sending(Some(Box::pin(stream.next())))));
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}

/// What says who asks; nothing else of the request is kept.
fn credentials_of(headers: &HeaderMap) -> HeaderMap {
    headers
        .iter()
        .filter(|(name, _)| {
            let credentials = [header::COOKIE, header::AUTHORIZATION];
            credentials.contains(*name) || name.as_str() == "sec-fetch-site"
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

struct Stream {
    plane: Shared,
    caller: Caller,
    headers: HeaderMap,
    moves: watch::Receiver<u64>,
    /// The last event that was written.
    last: u64,
    /// The last beat that was answered.
    beats: u64,
    begun: bool,
    place: Place,
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Stream)>> + Send>>;

impl Stream {
    /// Waits until there is something to write; `None` when the stream is over.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if !self.begun {
            self.begun = true;
            // The browser learns at once that it is connected.
            return Some((Bytes::from_static(b": here\n\nretry: 2000\n\n"), self));
        }
        loop {
            self.moves.borrow_and_update();
            // Asked at each wake: whoever signed out or was revoked sees nothing more.
            let action = Action::InventoryRead;
            let stands = admit(&self.plane, &self.caller, &self.headers, action).is_ok();
            if !stands || !self.place.is_kept() || self.plane.events.is_over() {
                return None;
            }
            let mut text = String::new();
            match self.plane.events.after(self.last) {
                Found::Reset(last) => {
                    self.last = last;
                    // Writing to a String cannot fail.
                    let _ = write!(text, "event: reset\nid: {last}\ndata: {{}}\n\n");
                }
                Found::Events(events) => {
                    for event in events {
                        self.last = event.number;
                        let (about, id, data) = (event.about.name(), event.number, &event.data);
                        let _ = write!(text, "event: {about}\nid: {id}\ndata: {data}\n\n");
                    }
                }
            }
            let beats = self.plane.events.beats();
            if text.is_empty() && beats != self.beats {
                text.push_str(": beat\n\n");
            }
            self.beats = beats;
            if !text.is_empty() {
                return Some((text.into(), self));
            }
            if self.moves.changed().await.is_err() {
                return None;
            }
        }
    }
}

/// The body of the answer: asked for a piece only when the one before was taken.
struct Sending(Option<Next>);

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = self.0.as_mut() else {
            return Poll::Ready(None);
        };
        match ready!(next.as_mut().poll(context)) {
            Some((bytes, stream)) => {
                self.0 = Some(Box::pin(stream.next()));
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            None => {
                self.0 = None;
                Poll::Ready(None)
            }
        }
    }
}
