//! Taking access away: in memory at once, whatever else waits.

use crate::gateway::{Gateway, WillFate};
use crate::signal::Signal;
use crate::state::Phase;
use crate::turn::{CloseReason, Turn};
use access::{Facts, Grants};
use model::{CertificateId, DeliveryRefusal, Principal, Revocable, Timestamp};
use mqtt::Reason;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a withdrawal finds open, each once.
#[derive(Default)]
struct Hit {
    principals: BTreeSet<u32>,
    connections: BTreeSet<u32>,
}

/// What a connection is closed with.
const REVOKED: (CloseReason, Reason, &str) = (
    CloseReason::Revoked,
    Reason::ADMINISTRATIVE_ACTION,
    "access was revoked",
);
const SHARED_REPLACED: (CloseReason, Reason, &str) = (
    CloseReason::SharedReplaced,
    Reason::NOT_AUTHORIZED,
    "this device has a certificate of its own; connect with it",
);

impl Gateway {
    /// Ends access at once: when this returns, nothing more is accepted or delivered, output not
    /// yet drained is dropped (MQTT 5 clients get DISCONNECT 0x98), wills are suppressed. Returns
    /// the connections closed.
    ///
    /// Of a principal or a product every session ends, live or waiting, with its stored messages.
    /// Of a certificate or an issuer the live ones that were opened with it, and the wills that were
    /// promised with it: a waiting session stays, as its owner may come back with another certificate.
    pub fn revoke(&mut self, what: &[Revocable], now: Timestamp, turn: &mut Turn) -> u32 {
        let hit = self.hit_by(what);
        let closed = self.shut_all(hit.connections, &REVOKED, now, turn);
        for index in &hit.principals {
            let sessions = (self.principals.get(*index))
                .map(|known| known.sessions.clone())
                .unwrap_or_default();
            for session in sessions {
                self.end_session(session, WillFate::Suppressed, turn);
            }
            // Also those of a product that is named as a whole.
            let principal =
                (self.principals.get(*index)).map(|known| known.facts.principal.clone());
            if let Some(principal) = principal {
                self.refuse_commands(&principal, DeliveryRefusal::Revoked, turn);
            }
        }
        self.suppress_wills_of(what, turn);
        self.forget_retained_of(what, turn);
        self.tell_others_to_forget(what, turn);
        self.refuse_commands_of(what, turn);
        self.settle(now, turn);
        for index in hit.principals {
            self.forget_if_idle(index, now);
        }
        closed
    }

    /// As [`Gateway::revoke`] of a certificate, for every live session whose holder and certificate
    /// are withdrawn by this account. Returns the connections closed.
    pub fn revoke_where(
        &mut self,
        is_withdrawn: impl Fn(&Principal, CertificateId) -> bool,
        now: Timestamp,
        turn: &mut Turn,
    ) -> u32 {
        let open = (0_u32..).zip(&self.slots).filter_map(|(id, slot)| {
            let connection = slot.connection.as_ref()?;
            let known = self.principals.get(connection.principal)?;
            is_withdrawn(&known.facts.principal, connection.certificate).then_some(id)
        });
        let connections = open.collect();
        let closed = self.shut_all(connections, &REVOKED, now, turn);
        self.settle(now, turn);
        closed
    }

    /// A principal has a certificate of its own: its sessions on one that others hold too end, as
    /// who is behind them cannot be told. Returns the connections closed.
    pub fn end_shared(&mut self, principal: &Principal, now: Timestamp, turn: &mut Turn) -> u32 {
        let index = self.by_principal.get(principal);
        let known = index.and_then(|index| self.principals.get(*index));
        let connections = known.map(|known| known.connections.as_slice());
        let is_shared = |id: &u32| self.connection(*id).is_some_and(|found| found.shared);
        let connections = (connections.unwrap_or_default().iter().copied())
            .filter(is_shared)
            .collect();
        let closed = self.shut_all(connections, &SHARED_REPLACED, now, turn);
        self.settle(now, turn);
        closed
    }

    /// Closes connections whose access was withdrawn; output not yet drained is dropped.
    fn shut_all(
        &mut self,
        connections: BTreeSet<u32>,
        (reason, code, text): &(CloseReason, Reason, &str),
        now: Timestamp,
        turn: &mut Turn,
    ) -> u32 {
        let mut closed = 0;
        for id in connections {
            let Some(connection) = self.connection_mut(id) else {
                continue;
            };
            connection.out.clear();
            if connection.phase != Phase::Closing {
                closed += 1;
                let why = Some((*code, *text));
                self.shut(id, *reason, why, WillFate::Suppressed, now, turn);
            }
        }
        self.counters.revoked += u64::from(closed);
        closed
    }

    /// How many connections [`Gateway::revoke`] would close now.
    #[must_use]
    pub fn sessions_of(&self, what: &[Revocable]) -> u32 {
        let is_open = |id: &&u32| {
            let slot = usize::try_from(**id).ok().and_then(|at| self.slots.get(at));
            slot.and_then(|slot| slot.connection.as_ref())
                .is_some_and(|connection| connection.phase != Phase::Closing)
        };
        let count = self.hit_by(what).connections.iter().filter(is_open).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// One walk over what is open, however long the list.
    fn hit_by(&self, what: &[Revocable]) -> Hit {
        let mut hit = Hit::default();
        let (mut certificates, mut issuers, mut products) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for one in what {
            match one {
                Revocable::Principal(principal) => {
                    hit.principals.extend(self.by_principal.get(principal));
                }
                Revocable::Certificate(certificate) => drop(certificates.insert(*certificate)),
                Revocable::Issuer(issuer) => drop(issuers.insert(*issuer)),
                Revocable::Product(product) => drop(products.insert(product)),
            }
        }
        if !products.is_empty() {
            hit.principals
                .extend(self.by_principal.values().filter(|index| {
                    let product = (self.principals.get(**index))
                        .and_then(|known| known.facts.product.as_ref());
                    product.is_some_and(|product| products.contains(product))
                }));
        }
        for index in &hit.principals {
            let known = self.principals.get(*index);
            hit.connections.extend(
                known
                    .map(|known| known.connections.as_slice())
                    .unwrap_or_default(),
            );
        }
        if !certificates.is_empty() || !issuers.is_empty() {
            let open = (0_u32..).zip(&self.slots).filter_map(|(id, slot)| {
                let certificate = slot.connection.as_ref()?.certificate;
                let is_hit =
                    certificates.contains(&certificate) || issuers.contains(&certificate.issuer());
                is_hit.then_some(id)
            });
            hit.connections.extend(open);
        }
        hit
    }

    /// New policies: when this returns, every session of the shard obeys them. A subscription that
    /// is no longer covered is dropped; if its session still had output to drain, the connection is
    /// closed instead of delivering it.
    pub fn regrant(&mut self, grants: Arc<Grants>, now: Timestamp, turn: &mut Turn) {
        // Channels are numbered by the fleet, so old debts would lie on other channels.
        let is_same_fleet = self.grants.fleet().digest() == grants.fleet().digest();
        if !is_same_fleet {
            self.drop_traffic();
        }
        self.grants = grants;
        self.recount_retained();
        self.recount_violations();
        for index in 0..self.principals.end() {
            if let Some(known) = self.principals.get_mut(index) {
                known.subject = self.grants.subject(&known.facts);
                if !is_same_fleet {
                    known.rates.clear();
                }
            }
            let limit = (self.principals.get(index))
                .and_then(|known| self.fan_out_of(&known.facts.principal));
            if let Some(known) = self.principals.get_mut(index) {
                if let (Some(fan_out), Some(limit)) = (&mut known.fan_out, limit) {
                    fan_out.set_limit(limit);
                }
                self.recheck(index, now, turn);
            }
        }
        self.settle(now, turn);
    }

    /// What policy sees of a principal has changed. Nothing happens if it has no session here.
    pub fn reclassify(&mut self, facts: Facts, now: Timestamp, turn: &mut Turn) {
        if self.by_principal.contains_key(&facts.principal) {
            let index = self.know(facts, turn);
            self.recheck(index, now, turn);
            self.settle(now, turn);
        }
    }

    /// Holds every session of a principal against the grants of now.
    pub(crate) fn recheck(&mut self, principal: u32, now: Timestamp, turn: &mut Turn) {
        let Some(known) = self.principals.get(principal) else {
            return;
        };
        // Subscriptions of a contained device lie still and are not lost: its grants are.
        let subject = known.subject.uncontained();
        for index in known.sessions.clone() {
            let Some(session) = self.sessions.get(index) else {
                continue;
            };
            let lost: Vec<_> = (session.subscriptions.iter())
                .filter_map(|subscribed| {
                    let denied = self.may_subscribe(&subject, &subscribed.filter).err()?;
                    Some((subscribed.clone(), self.grants.verdict(&denied)))
                })
                .collect();
            let connection = session.connection;
            for (subscribed, verdict) in &lost {
                self.counters.subscriptions_dropped += 1;
                self.unsubscribe(index, &subscribed.filter, turn);
                self.signal(turn, principal, |principal| Signal::SubscriptionDropped {
                    principal,
                    filter: crate::signal::cut(subscribed.filter.as_str()),
                    verdict: verdict.clone(),
                });
            }
            if let Some(id) = connection
                && !lost.is_empty()
                && let Some(connection) = self.connection_mut(id)
                && connection.outgoing_bytes() > 0
            {
                connection.out.clear();
                let why = Some((Reason::NOT_AUTHORIZED, "the policies changed"));
                self.shut(id, CloseReason::GrantLost, why, WillFate::Fires, now, turn);
            }
        }
    }
}
