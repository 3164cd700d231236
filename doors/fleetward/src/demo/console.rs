//! The console's listening socket: opened before the demo leaves the host's network, and handed to
//! each plane that is started, so that a browser out there reaches a plane in here.

use anyhow::Context;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

#[derive(Debug)]
pub struct Console {
    socket: TcpListener,
    address: SocketAddr,
}

impl Console {
    /// On loopback, at a port of the system's choice.
    ///
    /// # Errors
    /// The system refuses.
    pub fn open() -> anyhow::Result<Self> {
        let socket =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port for the console")?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same socket, to be inherited.
    ///
    /// # Errors
    /// The system refuses.
    pub fn to_inherit(&self) -> anyhow::Result<OwnedFd> {
        Ok(self.socket.try_clone()?.into())
    }
}
