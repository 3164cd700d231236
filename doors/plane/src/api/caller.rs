//! Who calls, as far as doors, cookies and tokens tell. What they may ask for is `guard`'s.

use super::{Problem, Shared};
use crate::clock;
use crate::entries::Actor;
use crate::people::proposals::roles_of;
use crate::people::tokens;
use crate::sign_in::Session;
use access::Asker;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use identity::{Door, Presented};
use model::{Principal, Subject, Timestamp};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The cookie of a person's session. `__Host-` binds it to this host, to TLS and to the root path.
pub const COOKIE: &str = "__Host-fleetward";

/// Who is at the other end of a connection, as its door found out.
#[derive(Debug, Clone)]
pub enum Caller {
    /// A user of this machine, by the kernel's word.
    Local { uid: u32 },
    /// Proved a certificate at the door for devices.
    Peer {
        peer: SocketAddr,
        presented: Arc<Presented>,
    },
    /// Proved a certificate at the door for devices with which it is not admitted: a genuine device
    /// on no list, or one whose certificate has just ended. EST alone looks at it.
    Asking {
        peer: SocketAddr,
        presented: Arc<Presented>,
    },
    /// Showed nothing; may hold a session's cookie.
    Stranger { peer: SocketAddr },
}

/// Who calls, as far as it is known.
#[derive(Debug, Clone)]
pub struct Who {
    pub asker: Asker,
    /// Whom the log names; nobody for a stranger, and for a device, of which doors of its own tell.
    pub actor: Option<Actor>,
    /// About whom the judge is told what this one does; nobody is told of a stranger here, nor of the
    /// machine.
    pub subject: Option<Subject>,
    /// From where a secret was shown.
    pub from: Option<IpAddr>,
    /// Of a person.
    pub session: Option<Session>,
}

/// What of a request says who sent it, and from where.
#[derive(Clone, Copy)]
pub struct Sent<'r> {
    method: &'r Method,
    /// Of HTTP/2; before it `Host` says the same.
    authority: Option<&'r str>,
    headers: &'r HeaderMap,
}

impl<'r> Sent<'r> {
    pub fn of(request: &'r Request) -> Self {
        Self {
            method: request.method(),
            authority: request.uri().authority().map(Authority::as_str),
            headers: request.headers(),
        }
    }

    /// With these headers, by what only reads: of a stream that goes on.
    pub fn reading(headers: &'r HeaderMap) -> Self {
        Self {
            method: &Method::GET,
            authority: None,
            headers,
        }
    }
}

/// The certificate that was proven at the door for devices: asked before the body is read. Whether it
/// still admits is asked by the act.
pub struct Shown(pub Presented);

impl FromRequestParts<Shared> for Shown {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        match parts.extensions.get::<Caller>() {
            Some(caller) => Ok(Self(caller.presented()?.clone())),
            None => Err(no_certificate()),
        }
    }
}

impl Caller {
    /// Who this is to the control plane. A certificate that is admitted nowhere is a device's: what it
    /// may tell is asked again by whoever hears it.
    ///
    /// # Errors
    /// 401, 403 or 429: what was shown proves nobody, or was sent by a page of somebody else's.
    pub fn who(&self, plane: &Shared, sent: Sent<'_>) -> Result<Who, Problem> {
        let peer = match self {
            Self::Local { uid } => {
                return Ok(Who {
                    actor: Some(Actor::Local { uid: *uid }),
                    ..Who::of(Asker::Machine)
                });
            }
            Self::Peer { presented, .. } => return Ok(by_certificate(plane, presented)),
            Self::Asking { .. } => return Ok(Who::of(Asker::Device)),
            Self::Stranger { peer } => peer,
        };
        let now = clock::now();
        if let Some(secret) = bearer(sent.headers) {
            return by_token(plane, secret, *peer, now);
        }
        let session =
            cookie_named(sent.headers, COOKIE).and_then(|cookie| plane.sign_ins.find(cookie, now));
        let found = session.and_then(|session| {
            let member = plane.roster.person(&session.person)?;
            member.is_active().then_some((session, member))
        });
        if is_from_elsewhere(sent, found.is_some()) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "cross-origin",
                "a page of another origin may not ask this; a program says `Sec-Fetch-Site: none` \
                 with a session, or better shows a token",
            ));
        }
        let Some((session, member)) = found else {
            return Ok(Who::of(Asker::Stranger));
        };
        Ok(Who {
            asker: Asker::Person {
                roles: roles_of(plane, &member.row.id, member.roles, now),
                is_fresh: session.is_fresh(now, plane.roster.has_passkey(&member.row.id)),
            },
            subject: Some(Subject::Person(member.row.id.to_string())),
            actor: Some(Actor::Person(member.row.id)),
            from: Some(peer.ip()),
            session: Some(session),
        })
    }

    /// The certificate of somebody who is admitted.
    ///
    /// # Errors
    /// 401: none was proven, or it admits nobody.
    pub fn presented(&self) -> Result<&Presented, Problem> {
        match self {
            Self::Peer { presented, .. } => Ok(presented),
            _ => Err(no_certificate()),
        }
    }

    /// The certificate that was proven, by somebody who is admitted or only asks for another.
    ///
    /// # Errors
    /// 401: none was.
    pub fn shown(&self) -> Result<(SocketAddr, &Arc<Presented>), Problem> {
        match self {
            Self::Peer { peer, presented } | Self::Asking { peer, presented } => {
                Ok((*peer, presented))
            }
            _ => Err(no_certificate()),
        }
    }
}

impl Who {
    pub const fn of(asker: Asker) -> Self {
        Self {
            asker,
            actor: None,
            subject: None,
            from: None,
            session: None,
        }
    }
}

fn by_certificate(plane: &Shared, presented: &Presented) -> Who {
    let who = plane.trust().authenticate(Door::Devices, presented);
    let principal = who.ok().map(|who| who.principal().clone());
    let subject = principal.clone().map(Subject::from);
    let Some(Principal::Service(service)) = principal else {
        return Who {
            subject,
            ..Who::of(Asker::Device)
        };
    };
    let fleet = plane.admission.fleet.get();
    Who {
        actor: Some(Actor::Service(service.clone())),
        subject,
        ..Who::of(Asker::Service {
            observes_network: fleet.observes_network(&service),
            speaks_for_owners: fleet.speaks_for_owners(&service),
        })
    }
}

fn by_token(
    plane: &Shared,
    secret: &str,
    peer: SocketAddr,
    now: Timestamp,
) -> Result<Who, Problem> {
    let Some(token) = tokens::find(plane, secret, peer.ip()) else {
        // One answer for all that is wrong with it: whoever guesses learns nothing.
        let refused = Problem::new(
            StatusCode::UNAUTHORIZED,
            "token-refused",
            "the token is unknown, revoked or expired, or may not be shown from this address; \
             `fleetward access token list` tells which",
        );
        return Err((plane.askers.guesses.wrong(peer.ip(), now)).map_or(refused, Into::into));
    };
    Ok(Who {
        subject: Some(Subject::Token(token.row.id.to_string())),
        actor: Some(Actor::Token(token.row.id)),
        from: Some(peer.ip()),
        ..Who::of(Asker::Token { roles: token.roles })
    })
}

fn no_certificate() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "no-certificate",
        "present the factory certificate, or the one to be renewed, in the TLS handshake",
    )
}

/// Whether a page of another origin makes a browser send this. The cookie is kept from other sites,
/// but another port of this host is the same site; and a sign-in needs no cookie at all. Browsers say
/// where a request comes from: all of today's by Fetch Metadata (W3C), older ones by `Origin` with
/// what changes something (RFC 6454).
fn is_from_elsewhere(sent: Sent<'_>, by_cookie: bool) -> bool {
    let changes = !sent.method.is_safe();
    if !by_cookie && !changes {
        return false;
    }
    if let Some(site) = sent.headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    match sent.headers.get(header::ORIGIN) {
        Some(origin) => !is_own(origin.to_str().unwrap_or_default(), sent),
        // With a cookie whoever changes something says where they are.
        None => by_cookie && changes,
    }
}

/// The origin of this door, as whoever asks addressed it.
fn is_own(origin: &str, sent: Sent<'_>) -> bool {
    let host = sent.headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    let named = origin.strip_prefix("https://");
    (sent.authority.or(host).zip(named)).is_some_and(|(own, named)| own.eq_ignore_ascii_case(named))
}

/// RFC 6750, section 2.1; the other two ways would put the secret into bodies and addresses.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

pub fn cookie_named<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(its_name, _)| *its_name == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(method: &str, headers: &[(&str, &str)], by_cookie: bool) -> bool {
        let mut request = Request::builder()
            .method(method)
            .uri("/api/v1/access/people");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        is_from_elsewhere(Sent::of(&request), by_cookie)
    }

    #[test]
    fn attack_a_page_of_another_origin_uses_a_session_or_signs_somebody_in() {
        let host = ("host", "fleet.example:8443");
        for by_cookie in [true, false] {
            for site in ["cross-site", "same-site", "", "Same-Origin"] {
                assert!(is_refused(
                    "POST",
                    &[host, ("sec-fetch-site", site)],
                    by_cookie
                ));
            }
            for origin in [
                "https://evil.example",
                "null",
                "https://fleet.example",
                "https://fleet.example:8443.evil.example",
                "http://fleet.example:8443",
            ] {
                assert!(is_refused("POST", &[host, ("origin", origin)], by_cookie));
            }
            for good in [
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-site", "none"),
                ("origin", "https://Fleet.Example:8443"),
            ] {
                assert!(!is_refused("POST", &[host, good], by_cookie), "{good:?}");
            }
        }
        assert!(is_refused("DELETE", &[host], true));
        assert!(!is_refused("GET", &[host], true));
        assert!(is_refused(
            "GET",
            &[host, ("sec-fetch-site", "cross-site")],
            true
        ));
        // A link that somebody follows from elsewhere shows the page, which holds nothing.
        assert!(!is_refused(
            "GET",
            &[host, ("sec-fetch-site", "cross-site")],
            false
        ));
        assert!(!is_refused("POST", &[host], false));
        // What a front end says of itself decides nothing.
        let lies = [
            host,
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://fleet.example:8443"),
        ];
        assert!(is_refused("POST", &lies, true));
    }
}
