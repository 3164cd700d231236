//! The doors: sockets, TLS, and nothing that decides.

mod devices;
mod http;
mod local;
mod people;
pub mod refused;
pub mod tls;

pub use devices::DevicesDoor;
pub use http::serve_door;
pub use local::{bind_local, serve_local};
pub use people::PeopleDoor;

use std::net::{SocketAddr, TcpListener};

/// Connections that the kernel may hold for us before we accept them.
const BACKLOG: i32 = 4096;

/// The three network doors, bound before anything is served, so that a port in use is known
/// before any other port answers.
pub struct Doors {
    pub people: TcpListener,
    pub devices: TcpListener,
    pub mqtt: TcpListener,
}

impl Doors {
    /// # Errors
    /// Names the key, the address and what to do.
    pub fn bind(config: &crate::config::Listen) -> anyhow::Result<Self> {
        Ok(Self {
            people: bind("listen.people", config.people)?,
            devices: bind("listen.devices", config.devices)?,
            mqtt: bind("listen.mqtt", config.mqtt)?,
        })
    }
}

impl Doors {
    /// Where they are, with the ports that were chosen for 0.
    ///
    /// # Errors
    /// The system does not say.
    pub fn addresses(&self) -> std::io::Result<crate::Addresses> {
        Ok(crate::Addresses {
            people: self.people.local_addr()?,
            devices: self.devices.local_addr()?,
            mqtt: self.mqtt.local_addr()?,
        })
    }
}

fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).map_err(|e| {
        let advice = match e.kind() {
            std::io::ErrorKind::AddrInUse => "stop what uses it or choose another port",
            std::io::ErrorKind::PermissionDenied => "choose a port above 1023 or grant the right",
            _ => "choose an address of this machine",
        };
        anyhow::anyhow!("{key}: {address} cannot be opened ({e}); {advice}")
    })?;
    listener.set_nonblocking(true)?;
    // Listening again only lengthens the backlog, which the standard library fixes at 128.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}
