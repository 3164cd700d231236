//! Who calls, and what they may ask for. Every handler begins with one of these two questions.

use super::{Problem, Shared};
use crate::entries::Actor;
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
    /// Showed nothing; may hold a session's cookie.
    Stranger { peer: SocketAddr },
}

impl Caller {
    /// For what changes the plane or shows the fleet: the local user, or a person signed in.
    ///
    /// # Errors
    /// 401 or 403 with what to do.
    pub fn administrator(&self, plane: &Shared, headers: &HeaderMap) -> Result<Actor, Problem> {
        match self {
            Self::Local { uid } => Ok(Actor::Local { uid: *uid }),
            Self::Stranger { .. } => cookie(headers)
                .and_then(|cookie| plane.sign_ins.actor(cookie))
                .ok_or_else(not_signed_in),
            Self::Peer { .. } => Err(Problem::new(
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

    /// The certificate that was proven at the door.
    ///
    /// # Errors
    /// 401: none was.
    pub fn presented(&self) -> Result<&Presented, Problem> {
        match self {
            Self::Peer { presented, .. } => Ok(presented),
            _ => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "no-certificate",
                "present the factory certificate, or the one to be renewed, in the TLS handshake",
            )),
        }
    }
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
