//! What a turn asks of the world.

use crate::command::Progress;
use crate::contain::FromDevice;
use crate::gateway::ConnectionId;
use crate::queue::Outbound;
use crate::signal::Signal;
use access::Facts;
use model::{Revocable, Timestamp};
use mqtt::{Filter, ForwardProperties, Qos};
use std::sync::Arc;

/// One turn's asks, in buffers that the caller owns and reuses.
///
/// The caller executes them in this order, and the promises of the room hang on it:
/// 1. append `journal` and commit it; **if that fails, do none of the rest** until it succeeds,
/// 2. hand each of `to_shards` to its shard, in order,
/// 3. stop reading from `pause`, read again from `resume` (feed the kept bytes first),
/// 4. encrypt and write [`crate::Gateway::output`] of each of `touched`, then tell
///    [`crate::Gateway::written`],
/// 5. close each of `close` after what it could be sent, then tell [`crate::Gateway::closed`]. Where
///    [`CloseReason::withdraws`], what waits in the caller's own hands, encrypted perhaps, is dropped
///    and not sent.
///
/// Then [`Turn::clear`]. `signals` are for logs, metrics and detection.
#[derive(Debug, Default)]
pub struct Turn {
    /// Connections with output to write, each once.
    pub touched: Vec<ConnectionId>,
    pub close: Vec<(ConnectionId, CloseReason)>,
    pub pause: Vec<ConnectionId>,
    pub resume: Vec<ConnectionId>,
    pub journal: JournalBuffer,
    /// (shard, message)
    pub to_shards: Vec<(u16, ToShard)>,
    pub signals: Vec<Signal>,
    /// For the plane. What it cannot take it counts: a word is acknowledged all the same, as the
    /// next report comes soon, and a request that is not answered is sent again.
    pub reports: Vec<FromDevice>,
    /// How far commands came, in order.
    pub progress: Vec<Progress>,
    /// Signals beyond `signals_per_turn_max`, counted here and not kept.
    pub signals_dropped: u64,
    /// Of `signals`, those that a client can repeat as fast as it sends; of whom there is one.
    repeatable: usize,
    repeated_by: Vec<u32>,
    /// Of `signals`, those that are only there because somebody looks.
    looked_at: usize,
}

impl Turn {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties every list and keeps its memory.
    pub fn clear(&mut self) {
        self.touched.clear();
        self.close.clear();
        self.pause.clear();
        self.resume.clear();
        self.journal.clear();
        self.to_shards.clear();
        self.signals.clear();
        self.reports.clear();
        self.progress.clear();
        self.signals_dropped = 0;
        self.repeatable = 0;
        self.repeated_by.clear();
        self.looked_at = 0;
    }

    /// What a client can repeat as fast as it sends. The first of each principal in a turn is kept
    /// whatever others send, so that a flood of one hides nobody else; more while there is room.
    pub(crate) fn signal(
        &mut self,
        principal: u32,
        signals_max: usize,
        signal: impl FnOnce() -> Signal,
    ) {
        let is_first = !self.repeated_by.contains(&principal);
        if !is_first && self.repeatable >= signals_max {
            self.signals_dropped = self.signals_dropped.saturating_add(1);
            return;
        }
        if is_first {
            self.repeated_by.push(principal);
        }
        self.repeatable += 1;
        self.signals.push(signal());
    }

    /// What somebody wants to see who looks at one principal: it takes nothing from the others' room.
    pub(crate) fn show(&mut self, signals_max: usize, signal: impl FnOnce() -> Signal) {
        if self.looked_at < signals_max {
            self.looked_at += 1;
            self.signals.push(signal());
        } else {
            self.signals_dropped = self.signals_dropped.saturating_add(1);
        }
    }
}

/// Journal records of a turn, in one flat buffer.
#[derive(Debug, Default)]
pub struct JournalBuffer {
    bytes: Vec<u8>,
    /// (partition, end of the record in `bytes`)
    ends: Vec<(u8, usize)>,
}

impl JournalBuffer {
    /// (partition, record), in the order in which they must be replayed.
    pub fn records(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        self.ends
            .iter()
            .zip(starts)
            .map(|((partition, end), start)| {
                (*partition, self.bytes.get(start..*end).unwrap_or_default())
            })
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(crate) fn append(&mut self, partition: u8, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push((partition, self.bytes.len()));
    }
}

/// Why the gateway closes a connection: a field of logs and a label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// The client said DISCONNECT.
    ByClient,
    /// CONNECT was refused.
    Refused,
    /// No CONNECT in time.
    ConnectTimeout,
    /// A packet that MQTT does not allow, or not now.
    Malformed,
    /// A packet that is larger than allowed.
    PacketTooLarge,
    /// More or other than was announced: too much in flight, an unknown topic alias.
    NotSupported,
    KeepAlive,
    /// The same principal connected again with this client identifier.
    TakenOver,
    /// The consumer did not read.
    Stalled,
    /// A session's queue overflowed and it has no durable place for the rest.
    QueueFull,
    CertificateExpired,
    Revoked,
    /// It stood on a certificate that others hold too, and the principal has one of its own now.
    SharedReplaced,
    /// The device was isolated, or quarantined while output waited that it may no longer have.
    Contained,
    /// Policies changed while output waited that it may no longer have.
    GrantLost,
    TooManySessions,
}

impl CloseReason {
    /// Access was taken away: what the connection was sent before and is not in the kernel yet may be
    /// what it must not have any more.
    #[must_use]
    pub const fn withdraws(self) -> bool {
        matches!(
            self,
            Self::Revoked | Self::SharedReplaced | Self::Contained | Self::GrantLost
        )
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ByClient => "by-client",
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect-timeout",
            Self::Malformed => "malformed",
            Self::PacketTooLarge => "packet-too-large",
            Self::NotSupported => "not-supported",
            Self::KeepAlive => "keep-alive",
            Self::TakenOver => "taken-over",
            Self::Stalled => "stalled",
            Self::QueueFull => "queue-full",
            Self::CertificateExpired => "certificate-expired",
            Self::Revoked => "revoked",
            Self::SharedReplaced => "shared-certificate-replaced",
            Self::Contained => "contained",
            Self::GrantLost => "grant-lost",
            Self::TooManySessions => "too-many-sessions",
        }
    }
}

/// What became of a socket, as the caller saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Closed {
    /// The caller closed it because a turn asked for that.
    AsAsked,
    /// The peer closed it, or it broke.
    ByPeer,
    /// The caller ends (drain): wills are not fired, for the devices did nothing wrong.
    Shutdown,
}

/// A message between shards of one process. Opaque to the caller, who keeps the order of each
/// (from, to) pair and loses none.
#[derive(Debug, Clone)]
pub enum ToShard {
    /// `from` wants (or no longer wants) messages that match `filter`; answer with `InterestDone`
    /// if there is a token.
    Interest {
        from: u16,
        filter: Filter,
        persistent: bool,
        wanted: bool,
        token: Option<Token>,
    },
    InterestDone {
        token: Token,
    },
    /// A message that matched an interest of the target shard; `done` asks for `Done` as soon as
    /// the target's journal holds it.
    Publish {
        from: u16,
        publisher: Token,
        by_device: bool,
        done: bool,
        /// For the subscriptions of the target shard, and not only for a member of `shares`.
        direct: bool,
        /// Shared subscriptions of which the target shard chooses a member.
        shares: Vec<Filter>,
        message: Arc<Message>,
    },
    /// `from` has so many members of a shared subscription that are connected.
    Members {
        from: u16,
        filter: Filter,
        connected: u32,
    },
    /// A retained message out of the journal of another shard.
    Retained {
        message: Arc<Message>,
    },
    /// These publishers are withdrawn: what they had retained is gone, also what came here since this
    /// shard was told itself. Behind the last message of theirs, which was on its way.
    Forget {
        what: Arc<[Revocable]>,
    },
    /// The journal of the answering shard holds the message. `refused`: a persistent session's
    /// queue was full there.
    Done {
        token: Token,
        refused: bool,
    },
    /// A consumer of the publisher's message lags: stop reading from the publisher.
    Hold {
        publisher: Token,
    },
    /// Undoes one `Hold`.
    Release {
        publisher: Token,
    },
}

/// Names a connection of the asking shard and one of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub(crate) connection: ConnectionId,
    pub(crate) generation: u32,
    pub(crate) sequence: u64,
}

impl ToShard {
    /// Bytes of topic, properties and payload that it keeps in memory.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Publish { message, .. } | Self::Retained { message } => message.bytes.len(),
            _ => 0,
        }
    }
}

/// A message on its way to another shard, or retained: topic, forwarded properties and payload in
/// one buffer.
#[derive(Debug)]
pub struct Message {
    pub(crate) bytes: Box<[u8]>,
    pub(crate) topic_bytes: usize,
    pub(crate) forward_bytes: usize,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) share: Option<u32>,
    pub(crate) kept: Option<Kept>,
}

/// What makes a message the last word on its topic.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The greater wins, in every shard alike.
    pub version: (u64, u16),
    pub kept_at: Timestamp,
    /// As it was known then.
    pub publisher: Arc<Facts>,
}

impl Message {
    pub(crate) fn of(message: &Outbound<'_>) -> Self {
        let mut bytes = Vec::with_capacity(message.len());
        bytes.extend_from_slice(message.topic.as_bytes());
        message.forward.append_to(&mut bytes);
        bytes.extend_from_slice(message.payload);
        Self {
            bytes: bytes.into_boxed_slice(),
            topic_bytes: message.topic.len(),
            forward_bytes: message.forward.encoded_length(),
            expires_at: message.expires_at,
            qos: message.qos,
            retain: message.retain,
            share: message.share,
            kept: None,
        }
    }

    pub(crate) fn outbound(&self) -> Outbound<'_> {
        let (topic, rest) = self
            .bytes
            .split_at_checked(self.topic_bytes)
            .unwrap_or_default();
        let (forward, payload) = rest
            .split_at_checked(self.forward_bytes)
            .unwrap_or_default();
        Outbound {
            topic: std::str::from_utf8(topic).unwrap_or_default(),
            forward: ForwardProperties::from_validated(forward),
            payload,
            expires_at: self.expires_at,
            qos: self.qos,
            retain: self.retain,
            share: self.share,
        }
    }
}
