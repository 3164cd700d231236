//! MQTT over WebSocket: HTTP's upgrade (RFC 6455 section 4.2) at the door for several protocols. The
//! connection, its TLS and whoever was proven by it then go to a shard, where it is like any other.

use super::arrivals::Begun;
use crate::api::{Caller, Problem};
use crate::plane::Plane;
use crate::shards::Handed;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use identity::{Door, Presented};
use model::Principal;
use mqtt::websocket::SUBPROTOCOL;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_rustls::server::TlsStream;

/// Where clients look for it, as at AWS.
const PATH: &str = "/mqtt";
/// RFC 6455 section 1.3.
const ACCEPTED_FOR: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `router` and the upgrade.
pub fn with_websocket(router: Router, plane: &Arc<Plane>) -> Router {
    let upgrade = Router::new().route(PATH, any(upgrade));
    router.merge(upgrade.with_state(Arc::clone(plane)))
}

async fn upgrade(State(plane): State<Arc<Plane>>, request: Request) -> Response {
    match accept(&plane, request) {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

fn accept(plane: &Arc<Plane>, mut request: Request) -> Result<Response, Problem> {
    let accepted = accepted_key(&request)?;
    let (peer, presented) = match request.extensions().get::<Caller>() {
        Some(Caller::Peer { peer, presented }) => (*peer, Presented::clone(presented)),
        _ => {
            return Err(refused(
                StatusCode::UNAUTHORIZED,
                "no-certificate",
                "show a certificate of this plane; device: enroll first",
            ));
        }
    };
    // Asked here so that it can be said in HTTP, and once more where its session begins.
    let who = plane.trust().authenticate(Door::Gateway, &presented)?;
    let principal = who.principal().clone();
    let Some(upgraded) = request.extensions_mut().remove::<OnUpgrade>() else {
        return Err(no_websocket("this connection cannot be upgraded"));
    };
    tokio::spawn(bring(
        Arc::clone(plane),
        upgraded,
        peer,
        principal,
        presented,
    ));
    let headers = [
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::SEC_WEBSOCKET_ACCEPT, accepted),
        (
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        ),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// Waits until the answer is on its way and brings the connection to its shard.
async fn bring(
    plane: Arc<Plane>,
    upgraded: OnUpgrade,
    peer: SocketAddr,
    principal: Principal,
    presented: Presented,
) {
    // Whoever leaves meanwhile has left.
    let Ok(upgraded) = upgraded.await else { return };
    let Ok(parts) = auto::upgrade::downcast::<TokioIo<TlsStream<Begun>>>(upgraded) else {
        return;
    };
    let (stream, tls) = parts.io.into_inner().into_inner();
    if let Some(socket) = stream.into_socket() {
        let handed = Handed::upgraded(socket, tls, peer, presented, &parts.read_buf);
        plane.shards().bring(&principal, handed);
    }
}

/// What the answer must say if this is such a request (RFC 6455 section 4.2.1).
fn accepted_key(request: &Request) -> Result<HeaderValue, Problem> {
    let headers = request.headers();
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return Err(no_websocket("ask with GET of HTTP/1.1"));
    }
    if !holds(headers, header::CONNECTION, "upgrade")
        || !holds(headers, header::UPGRADE, "websocket")
    {
        return Err(no_websocket("ask for an upgrade to websocket"));
    }
    if is_of_another_page(headers) {
        return Err(refused(
            StatusCode::FORBIDDEN,
            "cross-origin",
            "a page of another origin may not use this device's certificate",
        ));
    }
    if !holds(headers, header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(no_websocket("speak version 13"));
    }
    if !holds(headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err(no_websocket("ask for the subprotocol mqtt"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.map(HeaderValue::as_bytes).unwrap_or_default();
    if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        return Err(no_websocket("send a key of 16 bytes in base64"));
    }
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(ACCEPTED_FOR);
    HeaderValue::from_str(&STANDARD.encode(hash.finish()))
        .map_err(|_| no_websocket("send a key of 16 bytes in base64"))
}

/// Whether a list of tokens holds this one, whatever its case.
fn holds(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let mut tokens = texts.flat_map(|text| text.split(','));
    tokens.any(|one| one.trim().eq_ignore_ascii_case(token))
}

/// A browser says whose page asks; a device says nothing, or its server's own name.
fn is_of_another_page(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let of = origin.to_str().ok().and_then(|text| text.split_once("://"));
    of.is_none_or(|(_, authority)| host.is_none_or(|host| !authority.eq_ignore_ascii_case(host)))
}

fn no_websocket(what: &str) -> Problem {
    let text = format!("here MQTT is spoken over WebSocket; device: {what}");
    refused(StatusCode::UPGRADE_REQUIRED, "no-websocket", &text)
}

fn refused(status: StatusCode, code: &'static str, text: &str) -> Problem {
    Problem::new(status, code, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 section 1.3, as a client of MQTT would ask.
    fn example() -> Request {
        Request::builder()
            .uri("/mqtt")
            .header("Host", "server.example.com:443")
            .header("Upgrade", "WebSocket")
            .header("Connection", "keep-alive, Upgrade")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("Origin", "https://server.example.com:443")
            .header("Sec-WebSocket-Protocol", "chat, mqtt")
            .header("Sec-WebSocket-Version", "13")
            .body(axum::body::Body::empty())
            .unwrap()
    }

    #[test]
    fn the_example_of_the_standard_is_accepted() {
        let key = accepted_key(&example()).unwrap();
        assert_eq!(key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut without_origin = example();
        without_origin.headers_mut().remove("origin");
        assert!(accepted_key(&without_origin).is_ok());
    }

    #[test]
    fn what_is_no_upgrade_or_a_page_of_another_origin_is_refused() {
        for (name, value) in [
            ("upgrade", "h2c"),
            ("connection", "keep-alive"),
            ("sec-websocket-key", "dGhlIHNhbXBsZQ=="),
            ("sec-websocket-key", ""),
            ("sec-websocket-protocol", "mqttv3.1"),
            ("sec-websocket-version", "8"),
            ("origin", "https://evil.example"),
            ("origin", "https://server.example.com"),
            ("origin", "null"),
        ] {
            let mut request = example();
            let value = HeaderValue::from_static(value);
            request.headers_mut().insert(name, value);
            assert!(accepted_key(&request).is_err(), "{name}");
        }
        let mut posted = example();
        *posted.method_mut() = Method::POST;
        assert!(accepted_key(&posted).is_err());
    }
}
