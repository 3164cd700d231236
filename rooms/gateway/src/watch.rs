//! Somebody looks at one principal: what it publishes is told, message by message, without its
//! payload. Nobody looked at costs a comparison with nothing.

use crate::gateway::Gateway;
use crate::signal::{Signal, cut};
use crate::turn::Turn;
use model::Principal;
use mqtt::Publish;

/// Principals looked at in one shard.
const WATCHED_MAX: usize = 16;

impl Gateway {
    /// From here on each accepted publish of `principal` is a [`Signal::Published`], until
    /// [`Gateway::unwatch`]. False: too many are looked at already.
    #[must_use]
    pub fn watch(&mut self, principal: &Principal) -> bool {
        if self.watched.contains(principal) {
            return true;
        }
        let fits = self.watched.len() < WATCHED_MAX;
        if fits {
            self.watched.push(principal.clone());
        }
        fits
    }

    pub fn unwatch(&mut self, principal: &Principal) {
        self.watched.retain(|watched| watched != principal);
    }

    pub(crate) fn tell_watched(&self, principal: u32, packet: &Publish<'_>, turn: &mut Turn) {
        if self.watched.is_empty() {
            return;
        }
        let known = self.principals.get(principal);
        let principal = known.map(|known| &known.facts.principal);
        if let Some(principal) = principal.filter(|principal| self.watched.contains(principal)) {
            turn.show(self.limits.signals_per_turn_max, || Signal::Published {
                principal: principal.clone(),
                topic: cut(packet.topic),
                bytes: packet.payload.len(),
                qos: packet.qos,
                retain: packet.retain,
            });
        }
    }
}
