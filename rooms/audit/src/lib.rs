//! Can we prove it?
//!
//! **Question:** what happened, and how does somebody who trusts nobody check it?
//! **Standards:** RFC 9162 section 2.1 (Merkle trees and proofs, SHA-256), C2SP signed-note,
//! tlog-checkpoint, tlog-tiles, tlog-cosignature, tlog-proof; RFC 8785 for an entry's JSON.
//! **In:** entries, leaves in committed order, bytes of published files, signatures.
//! **Out:** files to write, text to be signed, proofs, and verdicts that say where damage is.
//! **Refuses to know:** private keys (it verifies and assembles, it never signs), files, SQL,
//! HTTP, clocks, and what an entry means.
//!
//! Writing the log is three typed steps; a step that is skipped does not compile:
//!
//! ```text
//! let integration = sequencer.integrate(&leaves)?;      // write integration.writes(), in order
//! let signed = integration.signed(&log_key, &signature)?;  // store signed.note() by compare-and-set
//! let checkpoint = sequencer.publish(signed)?;          // only now let the world see it
//! ```
//!
//! Reading it back goes through a loader, `path -> Option<bytes>`, so the same code checks a
//! folder, a database or a web server. Every number from outside is capped before it is used.

mod bundle;
mod check;
mod checkpoint;
mod entry;
mod failure;
pub mod merkle;
mod note;
mod rows;
mod sequencer;
pub mod tiles;
mod tlog_proof;
mod tree;
mod watch;

pub use bundle::{BUNDLE_BYTES_MAX, Verified, VerifiedEntry, Warning, build, verify};
pub use check::{Checked, Standing, check_tree, compare};
pub use checkpoint::{Checkpoint, OpenedCheckpoint, TREE_SIZE_MAX, Witnessed};
pub use entry::{Entry, InvalidEntry, InvalidLeaf};
pub use failure::{Actor, Failure, Place};
pub use model::Digest;
pub use note::{
    InvalidVkey, KeyKind, NOTE_BYTES_MAX, NoteRefused, Opened, SignatureBy, Vkey, assemble, open,
};
pub use sequencer::{
    BATCH_LEAVES_MAX, Integration, LeafTooLarge, Sequencer, SequencerError, Signed,
};
pub use tiles::{LEAF_BYTES_MAX, TileWrite};
pub use tlog_proof::{verify_tlog_proof, write_tlog_proof};
pub use tree::PublishedTree;
pub use watch::{Judgement, judge};
