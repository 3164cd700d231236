//! 8444, and by ALPN one more port: devices and services. EST and API; a client certificate is asked for, and each request
//! asks again whether it still holds.

use super::http::HttpDoor;
use super::tls::{Sight, Terms, Trust};
use crate::api::Caller;
use identity::Door;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Clone)]
pub struct DevicesDoor {
    pub trust: Arc<Trust>,
    pub terms: Terms,
}

impl HttpDoor for DevicesDoor {
    const NAME: &'static str = "devices";

    fn offer(&self) -> Result<(Arc<ServerConfig>, Sight), rustls::Error> {
        self.trust.device_door(Door::Devices, &self.terms)
    }

    fn caller(&self, peer: SocketAddr, sight: &Sight) -> Caller {
        let mut seen = sight.lock();
        match (seen.proven.take(), seen.asking.take()) {
            (Some(proven), _) => Caller::Peer {
                peer,
                presented: Arc::new(proven.presented),
            },
            (None, Some(presented)) => Caller::Asking {
                peer,
                presented: Arc::new(presented),
            },
            (None, None) => Caller::Stranger { peer },
        }
    }
}
