//! 8443: people. API, health and metrics over HTTPS; asks for no client certificate.

use super::http::HttpDoor;
use super::tls::{Sight, Trust};
use crate::api::Caller;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Clone)]
pub struct PeopleDoor {
    pub trust: Arc<Trust>,
    pub tls_1_2: bool,
}

impl HttpDoor for PeopleDoor {
    const NAME: &'static str = "people";

    fn offer(&self) -> Result<(Arc<ServerConfig>, Sight), rustls::Error> {
        self.trust.people_door(self.tls_1_2)
    }

    fn caller(&self, peer: SocketAddr, _: &Sight) -> Caller {
        Caller::Stranger { peer }
    }
}
