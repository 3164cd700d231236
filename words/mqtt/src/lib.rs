//! MQTT as bytes and as text: packets, topics, filters and their algebra.
//!
//! **Question:** what did the peer say, and is it well formed?
//! **In:** byte slices, topic and filter text. **Out:** borrowed packets, encoded packets, and
//! whether a filter matches, covers or meets another.
//! **Standards:** OASIS MQTT 3.1.1 and MQTT 5.0. One number in a rule's brackets, `(MQTT 3.3.1.1)`,
//! is a section that both share. Of RFC 6455 as much as MQTT over WebSocket needs ([`websocket`]).
//! **Refuses to know:** sessions, alias tables, who may do what, time, sockets, any other format.
//!
//! A server hears with [`decode`], a client with [`decode_from_server`]: the standards give the
//! two directions different rules, and what only the other side may say is refused. Decoding
//! borrows from the frame and allocates nothing; [`encode`] appends to the caller's buffer;
//! [`FilterTrie::for_each_match`] allocates nothing. A refusal is a [`Malformed`] with the reason
//! code to close with and the rule that was broken; [`RULES`] is the list of all.

mod algebra;
mod decode;
pub mod encode;
mod filter;
mod layout;
mod packet;
mod properties;
mod reader;
mod reason;
mod rule;
mod topic;
mod trie;
pub mod websocket;

pub use algebra::covered_by_union;
pub use decode::{ConnectVersionError, connect_version, decode, decode_from_server, frame_length};
pub use filter::{Filter, InvalidFilter, Level, Levels};
pub use packet::{
    Ack, Auth, Connack, Connect, Disconnect, Packet, Publish, Qos, Suback, Subscribe,
    SubscribeEntry, Unsubscribe, Version, Will,
};
pub use properties::ForwardProperties;
pub use reason::Reason;
pub use rule::{Malformed, RULES};
pub use topic::is_topic;
pub use trie::FilterTrie;

/// The largest packet the standards can express: 1 byte, 4 bytes of length, 256 MiB less one.
pub const PACKET_BYTES_MAX: usize = 5 + REMAINING_BYTES_MAX;

/// The largest Remaining Length (MQTT 5: 2.1.4, 3.1.1: 2.2.3).
pub(crate) const REMAINING_BYTES_MAX: usize = 268_435_455;
