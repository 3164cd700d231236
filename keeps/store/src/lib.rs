//! All durable state of a plane: rows, log entries, the published log, the journal.
//!
//! **Question:** is it written, and will it still be there after a power cut?
//! **Standards:** SQLite in WAL mode; C2SP tlog-tiles for the layout of the published log;
//! CRC-32C (RFC 3720 appendix B.4) for the journal.
//! **In:** a [`Change`] (guards, writes, log entries), tiles, journal records: plain data.
//! **Out:** a [`Receipt`] once the change is durable, and rows by verbs per room.
//! **Refuses to know:** HTTP, MQTT, what a log entry says, what a tile means, what a journal record
//! means, and who may ask for a change: rooms decide, the plane composes, this crate remembers.
//!
//! Five things live here, each usable without the others:
//! - [`Store`]: `control.db`, one writer thread, all or nothing per change;
//! - [`Facts`]: `facts.db`, what was observed; the last second may be lost in a power cut;
//! - [`Published`]: the tile files and the checkpoint that auditors fetch;
//! - [`Journal`]: the durable MQTT state, one append-only file per shard;
//! - the lock and the file modes of the data folder, checked by [`Store::open`].
//!
//! All calls block on the disk: call them from threads that may wait. What is durable when, the
//! files, and backup and restore are told in `docs/store.md`.

mod access;
mod audit;
mod authority;
mod certificates;
mod change;
mod claim;
mod command;
mod enrollment;
mod error;
mod facts;
mod first_identity;
mod folder;
mod identity;
mod inventory;
mod journal;
mod ownership;
mod people;
mod published;
mod reader;
mod response;
mod row;
mod schema;
mod store;
mod tpm;
mod twin;
mod writer;

pub use access::{Fleet, FleetVersion};
pub use audit::{Checkpoint, CheckpointError, ImportError};
pub use authority::{Authority, AuthorityRole, AuthorityState, Issuance};
pub use certificates::{
    Barred, CertificateCount, CertificateQuery, CertificateState, ListedCertificate,
};
pub use change::{
    CHANGE_ROWS_MAX, Change, CommitError, Direction, Guard, IdempotencyKey, LEAF_BYTES_MAX,
    RECEIPTS_KEPT_CHANGES, RESERVATIONS_A_DEVICE, Receipt, Write,
};
pub use claim::{ClaimCertificate, Reservation};
pub use command::{Command, CommandDelivery, CommandProgress, CommandState, CommandWrite};
pub use enrollment::{Decision, EnrollmentAnswer, PendingEnrollment};
pub use error::{OpenError, ReadError};
pub use facts::{
    AddressRow, AlertRow, DeviceFacts, Facts, FactsWrite, FirmwareRow, PeerKey, PeerRow, TrafficRow,
};
pub use first_identity::{ClaimToken, ClaimTokenUse, Described, ImportedFleet, PinnedLeaf};
pub use identity::{
    Certificate, CertificateRow, Device, DeviceRow, ExpectedDevice, Holder, IssuedRow,
    Manufacturer, Population, Revocation, Superseded, Token,
};
pub use inventory::DeviceRecord;
pub use journal::{
    Durability, Journal, JournalError, JournalOptions, RECORD_BYTES_MAX, Record, Recovery,
    SnapshotSink,
};
pub use ownership::{Owned, OwnershipCode, OwnershipPeriod, OwnershipStep};
pub use people::{ApiToken, Passkey, Person, Proposal};
pub use published::{PublishError, Published};
pub use response::{Contained, GroupContainment, Incident, IncidentState, Outgoing, Step, StepRow};
pub use store::{Options, Store};
pub use tpm::{AttestationResult, AttestationStatus, EndorsementKey, HeldKey, TpmVendor};
pub use twin::{Twin, TwinWrite};
