//! The doors: sockets, TLS, and nothing that decides.

mod arrivals;
mod challenges;
mod devices;
mod http;
mod inherited;
mod local;
mod paths;
mod people;
pub mod proxied;
pub mod refused;
mod tickets;
pub mod tls;
mod websocket;

pub use arrivals::{Arrivals, Arrived};
pub use challenges::serve_challenges;
pub use devices::DevicesDoor;
pub use http::serve_door;
pub use local::{bind_local, serve_local};
pub use people::PeopleDoor;
pub use proxied::Proxies;
pub use tickets::Tickets;
pub use websocket::with_websocket;

use crate::served::settings::ChallengeKind;
use crate::shards::{self, FromShards, ShardDoor, Spoken, ToHttp};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

/// Connections that the kernel may hold for us before we accept them.
const BACKLOG: i32 = 4096;

/// A listener that the shards look at first, and what they hand on to HTTP.
pub struct AlpnDoor {
    pub listener: TcpListener,
    pub to_http: ToHttp,
    pub http: FromShards,
}

/// The network doors, bound before anything is served, so that a port in use is known
/// before any other port answers.
pub struct Doors {
    pub people: TcpListener,
    pub devices: TcpListener,
    pub mqtt: TcpListener,
    /// MQTT and HTTP for devices, by ALPN.
    pub alpn: Option<AlpnDoor>,
    /// Plain HTTP for an ACME CA, if it is asked that way.
    pub challenges: Option<TcpListener>,
}

impl Doors {
    /// The door for people is taken over from whoever started this process, if it was opened
    /// there; `listen.people` is not looked at then.
    ///
    /// # Errors
    /// Names the key, the address and what to do.
    pub fn bind(config: &crate::config::Listen) -> anyhow::Result<Self> {
        let people = match inherited::people()? {
            Some(listener) => listener,
            None => bind("listen.people", config.people)?,
        };
        Ok(Self {
            people,
            devices: bind("listen.devices", config.devices)?,
            mqtt: bind("listen.mqtt", config.mqtt)?,
            alpn: match config.alpn.address {
                Some(address) => {
                    let (to_http, http) = shards::to_http();
                    Some(AlpnDoor {
                        listener: bind("listen.alpn.address", address)?,
                        to_http,
                        http,
                    })
                }
                None => None,
            },
            challenges: match config.acme.challenge {
                ChallengeKind::Http01 if config.acme.is_set() => {
                    let address = config.acme.challenge_http;
                    Some(bind("listen.acme.challenge_http", address)?)
                }
                _ => None,
            },
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
            alpn: (self.alpn.as_ref())
                .map(|door| door.listener.local_addr())
                .transpose()?,
        })
    }

    /// Those that the shards accept at.
    ///
    /// # Errors
    /// The system gives no second handle of a listener, or no random bytes.
    pub fn shard_doors(&self, config: &crate::config::Config) -> anyhow::Result<Vec<ShardDoor>> {
        let proxies = config.listen.proxies();
        let mut doors = vec![ShardDoor {
            listener: self.mqtt.try_clone()?,
            proxies: Arc::clone(&proxies),
            spoken: Spoken::Mqtt,
            terms: config.gateway.tls_terms()?,
        }];
        if let Some(door) = &self.alpn {
            doors.push(ShardDoor {
                listener: door.listener.try_clone()?,
                proxies,
                spoken: Spoken::ByAlpn(door.to_http.clone()),
                terms: config.listen.alpn.tls_terms()?,
            });
        }
        Ok(doors)
    }
}

/// What caps count as one source: an IPv4 address, or an IPv6 network of 64 bits, as one peer can
/// choose freely within it.
pub fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let network = u128::from(v6) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Takes as many open files as this user may have, and says how many connections one shard may
/// then hold: HTTP, the database and the log keep theirs whoever knocks at the MQTT door.
pub fn connections_allowed(config: &crate::config::GatewayConfig) -> usize {
    const OTHERS: u64 = 3 * http::CONNECTIONS_MAX as u64 + 256;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let Some(files) = files else {
        return config.connections_max;
    };
    let for_mqtt = files.saturating_sub(OTHERS).max(files / 2);
    let a_shard = usize::try_from(for_mqtt / u64::from(config.shards.max(1))).unwrap_or(usize::MAX);
    if a_shard < config.connections_max {
        tracing::warn!(
            "{files} open files are allowed, so each shard takes {a_shard} connections instead of \
             gateway.connections_max = {}; operator: raise the limit (LimitNOFILE)",
            config.connections_max
        );
    }
    config.connections_max.min(a_shard)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_is_one_source_however_many_addresses_it_uses() {
        let of = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
