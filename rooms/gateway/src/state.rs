//! What the machine remembers of a connection, of a session and of a message that must go out later.

use crate::alias::Aliases;
use crate::flow::Flow;
use crate::journal::Options;
use crate::queue::{Outbound, Queue};
use crate::retained::Backlog;
use crate::turn::Token;
use access::{ClientIds, Facts};
use core::net::IpAddr;
use model::{CertificateId, Timestamp};
use mqtt::{Filter, ForwardProperties, Qos, Reason, Version};
use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Connection {
    pub phase: Phase,
    /// Tells this use of the connection's number from earlier ones.
    pub generation: u32,
    pub principal: u32,
    pub client_ids: ClientIds,
    pub certificate: CertificateId,
    /// Others hold its key too.
    pub shared: bool,
    pub address: IpAddr,
    pub expires_at: Timestamp,
    pub version: Version,
    pub out: Vec<u8>,
    /// What the caller holds that is not in the kernel yet.
    pub unsent: usize,
    /// In some turn's `touched`, and `output` not asked for since.
    pub listed: bool,
    pub opened_at: Timestamp,
    pub last_packet_at: Timestamp,
    /// Its latest packet was a PUBACK. The other acknowledgements are waited for: a message of QoS 2
    /// is the client's to use when it has our answer to its PUBREC.
    pub answered: bool,
    pub keep_alive_seconds: u16,
    /// Of the client: we never send a larger one.
    pub packet_bytes_max: usize,
    /// Of the client: how many messages of QoS 1 and 2 may be in flight to it.
    pub receive_maximum: u16,
    /// Topics by the client's alias, and those that have one of ours.
    pub aliases: Option<Box<Aliases>>,
    pub wants_reasons: bool,
    /// Its CONNECT asked for a session that lasts, whatever it was given.
    pub asked_to_last: bool,
    /// Reasons not to read from it: one per consumer, shard or acknowledgement it waits for, and one
    /// while it has sent too much at once.
    pub holds: u32,
    /// Until when it is not read because it has.
    pub paced_until: Option<Timestamp>,
    pub will: Option<Box<Will>>,
    /// Present from the first request that waited for another shard.
    pub pending: Option<Box<Pending>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Open {
        session: u32,
    },
    /// In some turn's `close`; the caller says `closed`.
    Closing,
}

impl Connection {
    pub(crate) fn session(&self) -> Option<u32> {
        match self.phase {
            Phase::Open { session } => Some(session),
            Phase::Connecting | Phase::Closing => None,
        }
    }

    pub(crate) fn outgoing_bytes(&self) -> usize {
        self.out.len().saturating_add(self.unsent)
    }
}

/// Requests that wait for other shards.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Acknowledgements go out in the order of the publishes (MQTT 4.6.0-2), so one that waits
    /// holds up those behind it.
    pub acks: VecDeque<PendingAck>,
    /// Number of the first of `acks`.
    pub first_ack: u64,
    pub subacks: Vec<PendingSuback>,
    pub next_suback: u64,
    /// Of `acks`, how many are of QoS 1. Those of QoS 2 count in the session.
    pub pubacks: usize,
    /// `holds` counts one for too many of `acks`.
    pub held: bool,
}

#[derive(Debug)]
pub(crate) struct PendingAck {
    pub packet_id: u16,
    /// PUBREC and not PUBACK.
    pub is_pubrec: bool,
    pub reason: Reason,
    pub reason_string: Option<Box<str>>,
    pub outstanding: u16,
}

#[derive(Debug)]
pub(crate) struct PendingSuback {
    pub number: u64,
    pub packet_id: u16,
    pub reasons: Vec<Reason>,
    pub reason_string: Option<String>,
    pub outstanding: usize,
    /// Retained messages that are to follow it.
    pub backlog: Vec<Backlog>,
    /// So is the state that the device should have.
    pub wants_state: bool,
    /// (filter, persistent, when it was asked): what the answers confirm.
    pub asked: Vec<(Filter, bool, u64)>,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub principal: u32,
    pub client_id: Box<str>,
    pub connection: Option<u32>,
    /// Its number in the journal; `None`: it ends with its connection and leaves no record.
    pub number: Option<u32>,
    pub expiry_seconds: u32,
    pub opened_at: Timestamp,
    /// When it ends if no connection comes.
    pub ends_at: Option<Timestamp>,
    pub subscriptions: Vec<Subscribed>,
    pub queue: Queue,
    /// Packet identifiers of the client's QoS 2 messages that were taken and not released yet,
    /// ascending.
    pub received: Vec<u16>,
    /// Retained messages that it is still to get.
    pub backlog: Vec<Backlog>,
    /// A will that waits for its delay.
    pub delayed_will: Option<(Timestamp, Box<Will>)>,
    /// The journal has a will of it.
    pub will_recorded: bool,
    pub pressure: Pressure,
    pub scheduled: Option<Timestamp>,
    /// What its client sends, and what it is sent.
    pub incoming: Flow,
    pub outgoing: Flow,
}

impl Session {
    /// One without a connection; `number` as its field.
    pub(crate) fn new(
        principal: u32,
        client_id: &str,
        number: Option<u32>,
        first_sequence: u64,
        now: Timestamp,
    ) -> Self {
        Self {
            principal,
            client_id: client_id.into(),
            connection: None,
            number,
            expiry_seconds: 0,
            opened_at: now,
            ends_at: None,
            subscriptions: Vec::new(),
            queue: Queue::starting_at(first_sequence),
            received: Vec::new(),
            backlog: Vec::new(),
            delayed_will: None,
            will_recorded: false,
            pressure: Pressure::default(),
            scheduled: None,
            incoming: Flow::default(),
            outgoing: Flow::default(),
        }
    }

    pub(crate) fn is_persistent(&self) -> bool {
        self.number.is_some()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscribed {
    /// As it was asked for: a shared one begins with `$share/`.
    pub filter: Filter,
    pub options: Options,
}

/// How far a consumer lags, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    pub bytes_high: bool,
    pub queue_high: bool,
    /// Since when one of the two holds.
    pub since: Option<Timestamp>,
    pub waiting: Vec<Waiter>,
}

/// A paused publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiter {
    Here { connection: u32, generation: u32 },
    Shard { shard: u16, publisher: Token },
}

#[derive(Debug)]
pub(crate) struct Will {
    pub topic: Box<str>,
    pub qos: Qos,
    pub retain: bool,
    pub forward: Box<[u8]>,
    pub payload: Box<[u8]>,
    pub delay_seconds: u32,
    /// With which its client promised it: revoked, it is not to be heard after that.
    pub certificate: CertificateId,
}

impl Will {
    pub(crate) fn of(will: &mqtt::Will<'_>, certificate: CertificateId) -> Self {
        Self {
            topic: will.topic.into(),
            qos: will.qos,
            retain: will.retain,
            forward: will.forward.as_bytes().into(),
            payload: will.payload.into(),
            delay_seconds: will.delay_seconds,
            certificate,
        }
    }

    /// Out of the journal.
    pub(crate) fn of_message(
        message: &Outbound<'_>,
        delay_seconds: u32,
        certificate: CertificateId,
    ) -> Self {
        Self {
            topic: message.topic.into(),
            qos: message.qos,
            retain: message.retain,
            forward: message.forward.as_bytes().into(),
            payload: message.payload.into(),
            delay_seconds,
            certificate,
        }
    }

    /// As it goes out, but for its end, which is counted from when it fires.
    pub(crate) fn message(&self) -> Outbound<'_> {
        Outbound {
            topic: &self.topic,
            forward: self.forward(),
            payload: &self.payload,
            expires_at: None,
            qos: self.qos,
            retain: self.retain,
            share: None,
        }
    }

    pub(crate) fn forward(&self) -> ForwardProperties<'_> {
        ForwardProperties::from_validated(&self.forward)
    }
}

/// A will whose time has come.
#[derive(Debug)]
pub(crate) struct WillDue {
    pub facts: Facts,
    pub will: Box<Will>,
}
