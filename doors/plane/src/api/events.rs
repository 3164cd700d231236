//! `GET /api/v1/events`: what happens, as server-sent events (WHATWG HTML, section 9.2).
//!
//! `event:` is what it is about, `data:` one line of JSON with its id and a summary, `id:` its
//! number. Whoever comes back with `Last-Event-ID` goes on from there, or gets `event: reset` and
//! reads everything anew. A reader may want a part of it; its number moves on with what it did not
//! want, at each beat.

use super::caller::Sent;
use super::guard::{Allowed, admit};
use super::read::Asked;
use super::{Caller, Problem, Shared, steps};
use crate::events::{About, Found, Place, STREAMS_MAX, Wanted};
use access::Action;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::Bytes;
use model::{DeviceId, GroupId, InvalidName, Severity};
use serde::Deserialize;
use std::fmt::Write as _;
use tokio::sync::watch;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsAsked {
    /// Only these, with commas between: `incident`, `step`, `alert`, `device`, `entry`, `pending`,
    /// `command`, `overview`.
    kind: Option<String>,
    /// Only what is about this device.
    device: Option<String>,
    /// Only what is about a device of this group, or of a group in it.
    group: Option<String>,
    /// Only what is this grave or more: `low`, `medium`, `high`, `critical`.
    severity: Option<String>,
}

/// What happens from here on, or from `Last-Event-ID` on. Ends with the session that asked.
#[utoipa::path(get, path = "/api/v1/events", tag = "events",
    params(EventsAsked, ("Last-Event-ID" = Option<u64>, Header, description = "the last event that was seen")),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = 400, body = super::problem::ProblemBody), (status = 401, body = super::problem::ProblemBody), (status = 503, body = super::problem::ProblemBody)))]
pub async fn events(
    State(plane): State<Shared>,
    _: Allowed,
    Asked(asked): Asked<EventsAsked>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = wanted(&asked)?;
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
        wanted,
        place,
        plane,
        caller,
        headers: credentials_of(&headers),
    };
    let mut response = Response::new(steps::body(stream, |stream| Box::pin(stream.next())));
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, media_type);
    Ok(response)
}

/// What says who asks; nothing else of the request is kept.
pub fn credentials_of(headers: &HeaderMap) -> HeaderMap {
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
    wanted: Wanted,
    place: Place,
}

fn wanted(asked: &EventsAsked) -> Result<Wanted, Problem> {
    let malformed = |what: String| Problem::new(StatusCode::BAD_REQUEST, "malformed", what);
    let kinds = asked.kind.as_deref().map(|kinds| {
        let kinds = kinds.split(',').map(|name| {
            About::from_name(name).ok_or_else(|| {
                let known = About::ALL.map(About::name).join(", ");
                malformed(format!("kind is one or more of {known}"))
            })
        });
        kinds.collect::<Result<Vec<About>, Problem>>()
    });
    let device = asked.device.as_deref().map(str::parse).transpose();
    let group = asked.group.as_deref().map(str::parse).transpose();
    let severity = asked.severity.as_deref().map(|name| {
        Severity::from_name(name).ok_or_else(|| {
            let known = Severity::ALL.map(Severity::name).join(", ");
            malformed(format!("severity is one of {known}"))
        })
    });
    Ok(Wanted {
        kinds: kinds.transpose()?.unwrap_or_default(),
        device: device.map_err(|error: InvalidName| malformed(error.to_string()))?,
        group: group.map_err(|error: InvalidName| malformed(error.to_string()))?,
        severity: severity.transpose()?,
    })
}

impl Stream {
    fn is_in(&self, device: &DeviceId, group: &GroupId) -> bool {
        let registry = self.plane.trust().registry();
        let grants = self.plane.grants();
        (registry.device(device)).is_some_and(|known| grants.fleet().is_within(known.groups, group))
    }

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
            let stands = admit(
                &self.plane,
                &self.caller,
                Sent::reading(&self.headers),
                action,
            )
            .is_ok();
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
                        if !self
                            .wanted
                            .takes(&event, |device, group| self.is_in(device, group))
                        {
                            continue;
                        }
                        let (about, id, data) = (event.about.name(), event.number, &event.data);
                        let _ = write!(text, "event: {about}\nid: {id}\ndata: {data}\n\n");
                    }
                }
            }
            let beats = self.plane.events.beats();
            if text.is_empty() && beats != self.beats {
                // No event, and the reader comes back with this number (WHATWG HTML, 9.2.6).
                let _ = write!(text, ": beat\nid: {}\n\n", self.last);
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
