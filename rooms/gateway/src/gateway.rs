//! The machine of one shard.

use crate::limits::Limits;
use crate::turn::{Closed, ToShard, Turn};
use access::{Facts, Grants};
use model::{CertificateId, Principal, Timestamp};
use std::sync::Arc;

/// A connection of this shard: small and dense (the caller's slab index), given to [`Gateway::open`]
/// and not given again before [`Gateway::closed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// Who is behind a connection. Made only where a completed authentication is at hand.
#[derive(Debug, Clone)]
pub struct Admitted {
    pub connection: ConnectionId,
    pub facts: Facts,
    pub certificate: CertificateId,
    /// End of the certificate: the session ends with it.
    pub expires_at: Timestamp,
}

/// Whose access ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Withdrawal {
    /// Every session, live or waiting, and its stored messages.
    Principal(Principal),
    /// Every live session that was opened with this certificate. A waiting session stays: its owner
    /// may come back with another certificate.
    Certificate(CertificateId),
}

/// What `recover` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    pub sessions: u64,
    pub messages: u64,
    /// Records that could not be read and were left out.
    pub damaged: u64,
    /// Records of partitions that live on another shard: not damaged, not ours.
    pub elsewhere: u64,
}

/// Totals since `new`, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub connections_opened: u64,
    pub connections_closed: u64,
    pub sessions_opened: u64,
    pub sessions_resumed: u64,
    pub connects_refused: u64,
    pub takeovers: u64,
    pub publishes_received: u64,
    pub payload_bytes_received: u64,
    pub publishes_denied: u64,
    pub rate_exceeded: u64,
    pub payload_too_large: u64,
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
    pub dropped_retain: u64,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSummary<'a> {
    pub principal: &'a Principal,
    pub client_id: &'a str,
    /// `None`: a persistent session that waits for its client.
    pub connection: Option<ConnectionId>,
    pub certificate: Option<CertificateId>,
    pub version: Option<mqtt::Version>,
    pub persistent: bool,
    pub opened_at: Timestamp,
    pub subscriptions: usize,
    pub queued_messages: usize,
    pub queued_bytes: usize,
}

#[derive(Debug)]
pub struct Gateway {
    limits: Limits,
    shard: u16,
    shards: u16,
    grants: Arc<Grants>,
    counters: Counters,
}

impl Gateway {
    /// `shards` is 1 to 256 and `shard` below it.
    #[must_use]
    pub fn new(limits: Limits, shard: u16, shards: u16, grants: Arc<Grants>) -> Self;

    /// Rebuilds persistent sessions from journal records (all partitions or only ours, snapshot
    /// first, in order). Damaged records are left out and counted. Exchange the turn's `to_shards`
    /// among all shards until none is left before the first [`Self::open`] of any: a publish must
    /// find every waiting session.
    pub fn recover<'r>(&mut self, records: impl IntoIterator<Item = &'r [u8]>, now: Timestamp, turn: &mut Turn) -> Recovered;

    /// Writes the fewest records that `recover` needs, each with its partition.
    pub fn snapshot(&self, sink: &mut dyn FnMut(u8, &[u8]));

    /// A connection whose handshake is done; its CONNECT is awaited.
    pub fn open(&mut self, admitted: Admitted, now: Timestamp, turn: &mut Turn);

    /// Feeds decrypted bytes and says how many were consumed: whole packets only. The caller keeps
    /// the rest and feeds it again, with what came after, when more has come or, if this connection
    /// was paused, when it is resumed. A closing connection consumes everything.
    pub fn receive(&mut self, connection: ConnectionId, bytes: &[u8], now: Timestamp, turn: &mut Turn) -> usize;

    /// Plaintext that waits; the caller drains what it encrypted, from the front.
    pub fn output(&mut self, connection: ConnectionId) -> Option<&mut Vec<u8>>;

    /// After a write: the bytes that left `output` and are not yet in the kernel.
    pub fn written(&mut self, connection: ConnectionId, unsent_bytes: usize, now: Timestamp, turn: &mut Turn);

    /// The socket is gone; the id is free after this. A will fires unless the client said goodbye.
    pub fn closed(&mut self, connection: ConnectionId, closed: Closed, now: Timestamp, turn: &mut Turn);

    /// Ends access at once: when this returns, nothing more is accepted or delivered, output not
    /// yet drained is dropped (MQTT 5 clients get DISCONNECT 0x98), wills are suppressed. Returns
    /// the connections closed.
    pub fn revoke(&mut self, what: &Withdrawal, now: Timestamp, turn: &mut Turn) -> u32;

    /// New policies: when this returns, every session of the shard obeys them.
    pub fn regrant(&mut self, grants: Arc<Grants>, now: Timestamp, turn: &mut Turn);

    /// What policy sees of a principal has changed. Nothing happens if it has no session here.
    pub fn reclassify(&mut self, facts: Facts, now: Timestamp, turn: &mut Turn);

    /// A message of another shard's turn. Never refused.
    pub fn from_shard(&mut self, message: ToShard, now: Timestamp, turn: &mut Turn);

    /// The queue to `shard` is full (or no longer): publishers to it are paused (resumed).
    pub fn shard_congested(&mut self, shard: u16, congested: bool, turn: &mut Turn);

    /// Acts on what is due.
    pub fn tick(&mut self, now: Timestamp, turn: &mut Turn);

    /// When `tick` is due next; it may find nothing to do then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp>;

    #[must_use]
    pub fn counters(&self) -> &Counters;

    pub fn sessions(&self) -> impl Iterator<Item = SessionSummary<'_>>;
}
