//! What is withdrawn here, carried to a broker that a fleet still uses.
//!
//! Our own doors never wait for it: what must be carried is a row before it is on its way, in the
//! change that records the revocation, and stays one until the broker took it or a day has passed.
//! The timer is `tasks/carry.rs`.

mod link;
pub mod mosquitto;

use crate::config::Config;
use crate::plane::Plane;
use crate::shared::Locked;
use model::{Principal, Revocable, Timestamp};
use mosquitto::Mosquitto;
use std::collections::BTreeSet;
use std::time::Duration;
use store::{Outgoing, Write};

/// The outbox's word for this way.
pub const CHANNEL: &str = "mosquitto";

/// The brokers of the configuration, and what wakes their task.
pub struct Brokers {
    pub mosquitto: Option<Mosquitto>,
    queued: tokio::sync::Notify,
    last_queued_at: Locked<Timestamp>,
}

impl Brokers {
    /// # Errors
    /// A file that is named and cannot be used, before any port opens.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            mosquitto: Mosquitto::new(&config.brokers)?,
            queued: tokio::sync::Notify::new(),
            last_queued_at: Locked::default(),
        })
    }

    /// Something was revoked or released.
    pub fn nudge(&self) {
        self.queued.notify_one();
    }

    /// Resolves when something was revoked or released since the last time.
    pub async fn nudged(&self) {
        self.queued.notified().await;
    }

    /// Strictly later each time: a release never overtakes the hold before it.
    fn queued_at(&self, at: Timestamp) -> Timestamp {
        let mut last = self.last_queued_at.lock();
        *last = at.max(last.plus(Duration::from_millis(1)));
        *last
    }
}

/// What a broker is told of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// End its sessions and take it in no more.
    Out,
    /// It was on hold and is released.
    In,
}

impl Telling {
    const fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

impl Plane {
    /// The rows that carry it: one for each principal that is hit; none where no broker is
    /// configured. What a CA issued is not told one by one: the broker must no longer believe it.
    pub fn carried(&self, what: &[Revocable], telling: Telling, at: Timestamp) -> Vec<Write> {
        if self
            .brokers
            .mosquitto
            .as_ref()
            .is_none_or(|mosquitto| !mosquitto.kicks())
        {
            return Vec::new();
        }
        let registry = self.trust().registry();
        let mut names = BTreeSet::new();
        for one in what {
            match one {
                Revocable::Principal(principal) => {
                    names.insert(principal.clone());
                }
                Revocable::Certificate(certificate) => names.extend(registry.owner(certificate)),
                Revocable::Product(product) => names.extend(
                    (registry.devices())
                        .filter(|device| device.product == product && device.enrolled)
                        .map(|device| Principal::Device(device.device)),
                ),
                Revocable::Issuer(_) => {}
            }
        }
        drop(registry);
        let at = self.brokers.queued_at(at);
        names
            .into_iter()
            .map(|principal| {
                Write::PutOutbox(Outgoing {
                    id: format!("{CHANNEL}/{principal}/{}", at.as_millis()),
                    channel: CHANNEL.to_owned(),
                    body: format!("{} {}", telling.name(), principal.name()).into_bytes(),
                    created_at: at,
                    attempts: 0,
                    next_at: at,
                    last_error: None,
                })
            })
            .collect()
    }
}
