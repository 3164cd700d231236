//! Messages carried on to another broker, and back: so that a fleet can be put behind this plane before
//! what it speaks with is moved.
//!
//! At our own door it is a service like any other: declared in the fleet, held to its grants, with a
//! session that lasts, whose queue is bounded and in the journal. A message is acknowledged to that
//! session when the other broker has acknowledged it, so it is carried at least once. The other way
//! round the other broker's session keeps it until our door has taken it.
//!
//! Both legs live and end together. The timer is `tasks/forward.rs`.

mod bridge;
mod settings;

pub use bridge::{Bridge, Counts, Outputs};
pub use settings::{ForwardConfig, KEYS};

use crate::broker::link::{Link, mutual};
use crate::broker::mosquitto::split;
use crate::clock;
use crate::plane::Plane;
use crate::secret::trusted;
use crate::shared::Locked;
use anyhow::Context;
use model::Timestamp;
use mqtt::{Connect, Qos, SubscribeEntry, Version, encode};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::time::Duration;

/// Between our PINGREQs; who is silent from one to the next but one is gone.
pub const PING_EVERY: Duration = Duration::from_secs(15);
const KEEP_ALIVE_SECONDS: u16 = 90;
/// Of our own door's session: as long as any may last.
const SESSION_EXPIRY_SECONDS: u32 = 7 * 24 * 3600;
const PAUSE_MAX_MILLIS: u64 = 60_000;
/// As our own door takes in one packet.
const FILTERS_AT_ONCE: usize = 8;

/// How it stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// `off`, `connecting`, `forwarding` or `waiting` (it failed and is tried again).
    pub state: &'static str,
    pub since: Timestamp,
    /// Why it failed last.
    pub trouble: Option<String>,
    /// How often both legs stood since the start.
    pub connected: u64,
    pub counts: Counts,
}

/// Shown to people, changed by the task.
pub struct Forwarding(Locked<Standing>);

impl Default for Forwarding {
    fn default() -> Self {
        Self(Locked::new(Standing {
            state: "off",
            since: clock::now(),
            trouble: None,
            connected: 0,
            counts: Counts::default(),
        }))
    }
}

impl Forwarding {
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.0.lock().clone()
    }

    pub fn connecting(&self) {
        self.change("connecting", |_| {});
    }

    pub fn forwarding(&self) {
        self.change("forwarding", |standing| standing.connected += 1);
    }

    pub fn failed(&self, trouble: String) {
        self.change("waiting", |standing| standing.trouble = Some(trouble));
    }

    pub fn count(&self, more: &mut Counts) {
        self.0.lock().counts.add(&std::mem::take(more));
    }

    fn change(&self, state: &'static str, more: impl FnOnce(&mut Standing)) {
        let mut standing = self.0.lock();
        standing.state = state;
        standing.since = clock::now();
        more(&mut standing);
    }
}

/// The leg to the other broker. Its subscription is asked for and not waited for: what its session
/// kept may come first.
///
/// # Errors
/// It is not there, is not who it should be, or does not take us in.
pub async fn open_upstream(config: &ForwardConfig) -> anyhow::Result<Link> {
    let (host, port) = split(&config.upstream)?;
    let roots = trusted("forward.roots_file", &config.roots_file)?;
    let tls = mutual(roots, &config.certificate_file, &config.key_file)?;
    let name = ServerName::try_from(host.clone())?;
    let connect = Connect {
        clean_start: false,
        keep_alive_seconds: KEEP_ALIVE_SECONDS,
        ..Connect::new(Version::V311, &config.client_id)
    };
    let mut link = Link::open_as((&host, port), &tls, &name, &connect).await?;
    let filters: Vec<String> = (config.down.iter())
        .map(|filter| format!("{}{filter}", config.prefix))
        .collect();
    subscribe(&mut link, filters.iter().map(String::as_str)).await?;
    Ok(link)
}

/// The leg to our own door, as the service that the fleet declares for it.
///
/// # Errors
/// Its certificate is missing, or our door does not take it in.
pub async fn open_local(plane: &Plane, config: &ForwardConfig) -> anyhow::Result<Link> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(plane.tree().root().to_vec()))?;
    let tls = mutual(
        roots,
        &config.service_certificate_file,
        &config.service_key_file,
    )?;
    let name = plane
        .config
        .server_names
        .first()
        .cloned()
        .unwrap_or_default();
    let name = ServerName::try_from(name).context("server_names")?;
    let client_id = format!("{}:forward", config.service);
    let connect = Connect {
        clean_start: false,
        keep_alive_seconds: KEEP_ALIVE_SECONDS,
        session_expiry_seconds: Some(SESSION_EXPIRY_SECONDS),
        ..Connect::new(Version::V5, &client_id)
    };
    let door = here(plane.config.listen.mqtt);
    let (host, port) = (door.ip().to_string(), door.port());
    let mut link = Link::open_as((&host, port), &tls, &name, &connect).await?;
    ask_up(&mut link, config).await?;
    Ok(link)
}

/// Asks our own door for what is to go up. Asked again it changes nothing, unless the fleet has taken
/// the grant away or given it since.
///
/// # Errors
/// The session ended.
pub async fn ask_up(local: &mut Link, config: &ForwardConfig) -> anyhow::Result<()> {
    subscribe(local, config.up.iter().map(String::as_str)).await
}

/// How long to rest after so many failures: twice as long each time, a minute at most, and by up to a
/// half less, so that planes which lost the same broker do not come back together.
#[must_use]
pub fn pause(failures: u32, jitter: u32) -> Duration {
    let whole = 1000_u64
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(PAUSE_MAX_MILLIS);
    let less = whole / 2 * u64::from(jitter) / u64::from(u32::MAX);
    Duration::from_millis(whole - less)
}

async fn subscribe(link: &mut Link, filters: impl Iterator<Item = &str>) -> anyhow::Result<()> {
    let entries: Vec<SubscribeEntry<'_>> = filters
        .map(|filter| SubscribeEntry {
            filter,
            qos: Qos::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            // Once, and not again with each connection.
            retain_handling: 1,
        })
        .collect();
    let mut out = Vec::new();
    for (packet_id, part) in (1..).zip(entries.chunks(FILTERS_AT_ONCE)) {
        let part = part.iter().copied();
        encode::subscribe_with(&mut out, link.version(), packet_id, None, part);
    }
    link.send(&out).await
}

/// Our door from this machine, wherever it listens.
fn here(mut door: SocketAddr) -> SocketAddr {
    if door.ip().is_unspecified() {
        door.set_ip(match door {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    door
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_are_spread() {
        let seconds = |failures| pause(failures, 0).as_secs();
        assert_eq!([1, 2, 3, 6, 7, 99].map(seconds), [1, 2, 4, 32, 60, 60]);
        assert_eq!(pause(7, u32::MAX), Duration::from_secs(30));
        assert!(pause(0, 0) <= Duration::from_secs(1));
    }
}
