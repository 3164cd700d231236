//! What the machine says of itself: totals for metrics, sessions for operators.

use crate::flow::{Flow, Rate};
use crate::gateway::{ConnectionId, Gateway};
use crate::state::Session;
use core::net::IpAddr;
use model::{CertificateId, Principal, Timestamp};
use std::ops::Bound;

/// Totals since `new`, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub connections_opened: u64,
    pub connections_closed: u64,
    pub sessions_opened: u64,
    pub sessions_resumed: u64,
    pub connects_refused: u64,
    /// Of them: too many at once.
    pub connects_put_off: u64,
    pub takeovers: u64,
    pub publishes_received: u64,
    pub payload_bytes_received: u64,
    pub publishes_denied: u64,
    /// Reports of devices to the plane.
    pub reports: u64,
    pub rate_exceeded: u64,
    pub payload_too_large: u64,
    /// Payloads that were not what their channel's contract says.
    pub contract_violations: u64,
    pub subscribes_denied: u64,
    pub subscriptions_dropped: u64,
    /// Sent to receivers, first time.
    pub deliveries: u64,
    pub redeliveries: u64,
    /// Matching receivers that may not receive it.
    pub deliveries_withheld: u64,
    pub dropped_queue_full: u64,
    pub dropped_expired: u64,
    pub dropped_too_large_for_client: u64,
    /// QoS 0 messages for a consumer that does not read.
    pub dropped_slow_consumer: u64,
    /// Publishes with retain for which there is no room.
    pub dropped_retain: u64,
    /// Retained messages sent to new subscriptions.
    pub retained_sent: u64,
    pub malformed: u64,
    pub keep_alive_expired: u64,
    pub consumers_stalled: u64,
    pub pauses: u64,
    pub wills_fired: u64,
    pub wills_suppressed: u64,
    pub sessions_expired: u64,
    pub revoked: u64,
    pub to_other_shards: u64,
    pub from_other_shards: u64,
    pub journal_records: u64,
}

/// A session as an operator sees it.
#[derive(Debug, Clone)]
pub struct SessionSummary<'a> {
    pub principal: &'a Principal,
    pub client_id: &'a str,
    /// `None`: a persistent session that waits for its client.
    pub connection: Option<ConnectionId>,
    pub certificate: Option<CertificateId>,
    pub version: Option<mqtt::Version>,
    /// Where its client is.
    pub address: Option<IpAddr>,
    pub persistent: bool,
    pub opened_at: Timestamp,
    pub subscriptions: usize,
    pub queued_messages: usize,
    pub queued_bytes: usize,
    pub(crate) incoming: Flow,
    pub(crate) outgoing: Flow,
}

impl SessionSummary<'_> {
    /// What its client sends.
    #[must_use]
    pub fn incoming(&self, now: Timestamp) -> Rate {
        self.incoming.rate(now)
    }

    /// What it is sent.
    #[must_use]
    pub fn outgoing(&self, now: Timestamp) -> Rate {
        self.outgoing.rate(now)
    }
}

impl Gateway {
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sessions, live and waiting.
    pub fn sessions(&self) -> impl Iterator<Item = SessionSummary<'_>> {
        (self.sessions.iter()).filter_map(|(_, session)| self.summary(session))
    }

    /// Sessions in the order of principals and client identifiers, behind `after`: `limit` at most.
    #[must_use]
    pub fn sessions_after(
        &self,
        after: Option<&(Principal, String)>,
        limit: usize,
    ) -> Vec<SessionSummary<'_>> {
        let from = after.map_or(Bound::Unbounded, |(principal, _)| {
            Bound::Included(principal)
        });
        let mut found = Vec::new();
        for (principal, index) in self.by_principal.range((from, Bound::Unbounded)) {
            if found.len() >= limit {
                break;
            }
            let Some(known) = self.principals.get(*index) else {
                continue;
            };
            let sessions = known
                .sessions
                .iter()
                .filter_map(|it| self.sessions.get(*it));
            let mut of_this: Vec<_> = sessions
                .filter(|session| {
                    after.is_none_or(|(shown, client_id)| {
                        shown != principal || *session.client_id > **client_id
                    })
                })
                .filter_map(|session| self.summary(session))
                .collect();
            of_this.sort_by_key(|session| session.client_id);
            found.append(&mut of_this);
        }
        found.truncate(limit);
        found
    }

    fn summary<'s>(&'s self, session: &'s Session) -> Option<SessionSummary<'s>> {
        let connection = session.connection.and_then(|id| self.connection(id));
        Some(SessionSummary {
            principal: &self.principals.get(session.principal)?.facts.principal,
            client_id: &session.client_id,
            connection: session.connection.map(ConnectionId),
            certificate: connection.map(|connection| connection.certificate),
            version: connection.map(|connection| connection.version),
            address: connection.map(|connection| connection.address),
            persistent: session.is_persistent(),
            opened_at: session.opened_at,
            subscriptions: session.subscriptions.len(),
            queued_messages: session.queue.len(),
            queued_bytes: session.queue.live_bytes(),
            incoming: session.incoming,
            outgoing: session.outgoing,
        })
    }
}
