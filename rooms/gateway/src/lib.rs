//! **Question:** may this message pass?
//!
//! The MQTT session and router machine of one shard. It speaks MQTT 3.1.1 and MQTT 5 (OASIS), all
//! of both, to clients whose identity is already proven, and asks `access` about every publish, every
//! subscription and every delivery.
//!
//! **In:** an admitted connection, its decrypted bytes, what other shards say, grants, withdrawals,
//! the time. **Out:** plaintext to encrypt per connection, and a [`Turn`]: what the caller must
//! journal, send to other shards, pause, resume, write and close, in that order.
//!
//! **Refuses to know:** sockets, TLS, certificates' contents, clocks, threads, files, policies. A
//! caller that executes a turn in its order keeps the two promises made here: an acknowledgement is
//! never on the wire before the journal holds what it promises, and nothing is accepted from or
//! delivered to a principal after [`Gateway::revoke`] has returned (nor, but for the plane's own two
//! channels, of a quarantined one after [`Gateway::contain`]).
//!
//! The life of a message: [`Gateway::receive`] → grant → payload and rate limits → contract → subscriptions
//! that match → grant of each receiver → the receiver's output or queue → acknowledgement.

mod acks;
mod alias;
mod claim;
mod command;
mod connect;
mod contain;
mod contract;
mod deadline;
mod deliver;
mod fan_out;
mod flow;
mod gateway;
mod home;
mod journal;
mod limits;
mod metering;
mod pressure;
mod principal;
mod publish;
mod queue;
mod receive;
mod recover;
mod retained;
mod shards;
mod shares;
mod signal;
mod slab;
mod state;
mod subscribe;
mod summary;
mod traffic;
mod turn;
pub mod twin;
mod watch;
mod will;
mod withdraw;

pub use claim::{ClaimAsk, ClaimCall, ClaimEnd, ClaimSession, ClaimTopic};
pub use command::{Command, CommandTo, Progress};
pub use contain::{FromDevice, Said};
pub use fan_out::FanOut;
pub use flow::Rate;
pub use gateway::{Admitted, ConnectionId, Gateway};
pub use home::{PARTITIONS, home_shard, partition};
pub use limits::Limits;
pub use metering::Metered;
pub use recover::Recovered;
pub use signal::{Actor, Signal};
pub use summary::{Counters, SessionSummary};
pub use turn::{CloseReason, Closed, JournalBuffer, Message, ToShard, Token, Turn};
