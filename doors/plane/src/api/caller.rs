//! Who calls, and what they may ask for. Every handler begins with one of these two questions.

use super::{Problem, Shared};
use crate::entries::Actor;
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

/// The ticket of an administrator. An extractor, so that it is asked before the body is read: a
/// stranger cannot make us hold one.
pub struct Administrator(pub Actor);

/// The ticket of an auditor: an administrator, or a service by its certificate.
pub struct Auditor;

/// The ticket of a service that the fleet lets report what it saw in the network.
pub struct Observer;

/// The ticket of somebody who may say whose a device is: an administrator, or a service that the
/// fleet lets speak for owners.
pub struct SpeaksForOwners(pub Actor);

/// The ticket of somebody who may say what a device should be: an administrator, or a service that the
/// fleet lets do so.
pub struct SetsDesiredState(pub Actor);

impl FromRequestParts<Shared> for SetsDesiredState {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, plane: &Shared) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>().ok_or_else(not_signed_in)?;
        let actor = caller.auditor(plane, &parts.headers)?;
        match &actor {
            Actor::Service(service) if !plane.admission.fleet.get().sets_desired_state(service) => {
                Err(Problem::new(
                    StatusCode::FORBIDDEN,
                    "not-for-desired-state",
                    "only a service with sets_desired_state = true in the fleet may say what a \
                     device should be",
                ))
            }
            _ => Ok(Self(actor)),
        }
    }
}

/// The ticket of somebody who may ask for commands: an administrator, or a service, which may command
/// what its grants let it tell devices.
pub struct Commander(pub Actor);

impl FromRequestParts<Shared> for Commander {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, plane: &Shared) -> Result<Self, Problem> {
        match parts.extensions.get::<Caller>() {
            Some(caller) => caller.auditor(plane, &parts.headers).map(Self),
            None => Err(not_signed_in()),
        }
    }
}

impl FromRequestParts<Shared> for SpeaksForOwners {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, plane: &Shared) -> Result<Self, Problem> {
        match parts.extensions.get::<Caller>() {
            Some(caller) => caller.for_owners(plane, &parts.headers).map(Self),
            None => Err(not_signed_in()),
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

impl FromRequestParts<Shared> for Observer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, plane: &Shared) -> Result<Self, Problem> {
        match parts.extensions.get::<Caller>() {
            Some(caller) => caller.observer(plane).map(|()| Self),
            None => Err(not_signed_in()),
        }
    }
}

impl FromRequestParts<Shared> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, plane: &Shared) -> Result<Self, Problem> {
        match parts.extensions.get::<Caller>() {
            Some(caller) => caller.administrator(plane, &parts.headers).map(Self),
            None => Err(not_signed_in()),
        }
    }
}

impl FromRequestParts<Shared> for Auditor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, plane: &Shared) -> Result<Self, Problem> {
        match parts.extensions.get::<Caller>() {
            Some(caller) => caller.auditor(plane, &parts.headers).map(|_| Self),
            None => Err(not_signed_in()),
        }
    }
}

impl Caller {
    /// For what changes the plane or shows the fleet: the local user, or a person signed in.
    ///
    /// # Errors
    /// 401 or 403 with what to do.
    pub fn administrator(&self, plane: &Shared, headers: &HeaderMap) -> Result<Actor, Problem> {
        match self {
            Self::Local { uid } => Ok(Actor::Local { uid: *uid }),
            Self::Stranger { .. } => {
                if is_from_elsewhere(headers) {
                    return Err(Problem::new(
                        StatusCode::FORBIDDEN,
                        "cross-origin",
                        "a page of another origin may not use this session",
                    ));
                }
                cookie(headers)
                    .and_then(|cookie| plane.sign_ins.actor(cookie))
                    .ok_or_else(not_signed_in)
            }
            Self::Peer { .. } | Self::Asking { .. } => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "not-an-administrator",
                "a device or service may not do this; sign in at the door for people or use the \
                 command line on the plane's machine",
            )),
        }
    }

    /// For what proves and measures: administrators, and services by their certificate.
    ///
    /// # Errors
    /// 401 or 403 with what to do.
    pub fn auditor(&self, plane: &Shared, headers: &HeaderMap) -> Result<Actor, Problem> {
        let Self::Peer { presented, .. } = self else {
            return self.administrator(plane, headers);
        };
        let who = plane.trust().authenticate(Door::Devices, presented)?;
        match who.principal() {
            Principal::Service(service) => Ok(Actor::Service(service.clone())),
            Principal::Device(_) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "not-for-devices",
                "a device may enroll here and nothing else",
            )),
        }
    }

    /// For what the network saw, on which playbooks act: only a service by its certificate, and
    /// only one that the fleet names for it.
    ///
    /// # Errors
    /// 401 or 403 with what to do.
    pub fn observer(&self, plane: &Shared) -> Result<(), Problem> {
        let presented = self.presented()?;
        let who = plane.trust().authenticate(Door::Devices, presented)?;
        if let Principal::Service(service) = who.principal()
            && plane.admission.fleet.get().observes_network(service)
        {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "not-an-observer",
            "only a service with observes_network = true in the fleet may report what the network \
             saw",
        ))
    }

    /// For whose a device is: administrators, and a service that the fleet names for it.
    ///
    /// # Errors
    /// 401 or 403 with what to do.
    pub fn for_owners(&self, plane: &Shared, headers: &HeaderMap) -> Result<Actor, Problem> {
        let Self::Peer { presented, .. } = self else {
            return self.administrator(plane, headers);
        };
        let who = plane.trust().authenticate(Door::Devices, presented)?;
        match who.principal() {
            Principal::Service(service)
                if plane.admission.fleet.get().speaks_for_owners(service) =>
            {
                Ok(Actor::Service(service.clone()))
            }
            _ => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "not-for-owners",
                "only a service with speaks_for_owners = true in the fleet may say whose a device is",
            )),
        }
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

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
}

fn not_signed_in() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "not-signed-in",
        "sign in with the link in the plane's admin-link file; `fleetward access admin-link` \
         makes a new one",
    )
}
