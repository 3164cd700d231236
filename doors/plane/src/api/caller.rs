//! Who calls, as far as doors, cookies and tokens tell. What they may ask for is `guard`'s.

use super::{Problem, Shared};
use crate::clock;
use crate::entries::Actor;
use crate::people::proposals::roles_of;
use crate::people::tokens;
use crate::sign_in::Session;
use access::Asker;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use identity::{Door, Presented};
use model::Principal;
use std::net::SocketAddr;
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
    /// Of a person.
    pub session: Option<Session>,
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
    /// 401 or 403: what was shown proves nobody, or was sent by a page of somebody else's.
    pub fn who(&self, plane: &Shared, headers: &HeaderMap) -> Result<Who, Problem> {
        let peer = match self {
            Self::Local { uid } => {
                return Ok(Who {
                    asker: Asker::Machine,
                    actor: Some(Actor::Local { uid: *uid }),
                    session: None,
                });
            }
            Self::Peer { presented, .. } => return Ok(by_certificate(plane, presented)),
            Self::Asking { .. } => return Ok(Who::of(Asker::Device)),
            Self::Stranger { peer } => peer,
        };
        if let Some(secret) = bearer(headers) {
            return by_token(plane, secret, *peer);
        }
        let now = clock::now();
        let session =
            cookie_named(headers, COOKIE).and_then(|cookie| plane.sign_ins.find(cookie, now));
        let Some((session, member)) = session.and_then(|session| {
            let member = plane.roster.person(&session.person)?;
            member.is_active().then_some((session, member))
        }) else {
            return Ok(Who::of(Asker::Stranger));
        };
        if is_from_elsewhere(headers) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "cross-origin",
                "a page of another origin may not use this session",
            ));
        }
        Ok(Who {
            asker: Asker::Person {
                roles: roles_of(plane, &member.row.id, member.roles, now),
                is_fresh: session.is_fresh(now, plane.roster.has_passkey(&member.row.id)),
            },
            actor: Some(Actor::Person(member.row.id)),
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
    const fn of(asker: Asker) -> Self {
        Self {
            asker,
            actor: None,
            session: None,
        }
    }
}

fn by_certificate(plane: &Shared, presented: &Presented) -> Who {
    let who = plane.trust().authenticate(Door::Devices, presented);
    let Ok(Principal::Service(service)) = who.as_ref().map(|who| who.principal()) else {
        return Who::of(Asker::Device);
    };
    let fleet = plane.admission.fleet.get();
    Who {
        asker: Asker::Service {
            observes_network: fleet.observes_network(service),
            speaks_for_owners: fleet.speaks_for_owners(service),
        },
        actor: Some(Actor::Service(service.clone())),
        session: None,
    }
}

fn by_token(plane: &Shared, secret: &str, peer: SocketAddr) -> Result<Who, Problem> {
    let token = tokens::find(plane, secret, peer.ip()).ok_or_else(|| {
        // One answer for all that is wrong with it: whoever guesses learns nothing.
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "token-refused",
            "the token is unknown, revoked or expired, or may not be shown from this address; \
             `fleetward access token list` tells which",
        )
    })?;
    Ok(Who {
        asker: Asker::Token { roles: token.roles },
        actor: Some(Actor::Token(token.row.id)),
        session: None,
    })
}

fn no_certificate() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "no-certificate",
        "present the factory certificate, or the one to be renewed, in the TLS handshake",
    )
}

/// The cookie is kept from other sites, but another port of this host is the same site: browsers
/// say where a request comes from (W3C Fetch Metadata).
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin" && site != "none")
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
