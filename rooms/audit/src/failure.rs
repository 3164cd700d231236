//! What is wrong, where, and who must act.

use std::fmt;

/// Damage or deceit found in a log, a bundle or a checkpoint.
///
/// The text names places and numbers; it repeats nothing of an entry's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what} ({actor} must act: {remedy})")]
pub struct Failure {
    pub place: Place,
    pub what: String,
    pub actor: Actor,
    pub remedy: &'static str,
}

impl Failure {
    /// A file of the log itself is missing or altered.
    pub(crate) fn damaged(place: Place, what: impl Into<String>) -> Self {
        Self {
            place,
            what: what.into(),
            actor: Actor::Operator,
            remedy: "stop writing, keep the folder as evidence, restore this file from a mirror or a backup",
        }
    }

    /// What was handed over is not what the log's key signed.
    pub(crate) fn altered(place: Place, what: impl Into<String>) -> Self {
        Self {
            place,
            what: what.into(),
            actor: Actor::Verifier,
            remedy: "keep this file as evidence and ask the operator of the log for it again",
        }
    }

    /// What was handed over cannot be read as what it should be.
    pub(crate) fn unreadable(place: Place, what: impl Into<String>) -> Self {
        Self {
            place,
            what: what.into(),
            actor: Actor::Verifier,
            remedy: "fetch the file again; if it stays like this, ask the operator of the log",
        }
    }

    /// The right file with the wrong key, or for another log.
    pub(crate) fn mistaken(place: Place, what: impl Into<String>) -> Self {
        Self {
            place,
            what: what.into(),
            actor: Actor::Verifier,
            remedy: "compare the log's key and the file with what the operator gave you",
        }
    }

    /// Two signed histories that cannot both be true.
    pub(crate) fn rewritten(place: Place, what: impl Into<String>) -> Self {
        Self {
            place,
            what: what.into(),
            actor: Actor::Operator,
            remedy: "explain two signed histories; keep both checkpoints, together they are the proof",
        }
    }
}

/// Where the failure is. Prints as the words that the independent verifier uses too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole: its format, its size.
    File,
    /// The text of the checkpoint, or the tree that it stands for.
    Checkpoint,
    /// A signature on the checkpoint, by the name of the key.
    Signature(String),
    /// A leaf, by index.
    Entry(u64),
    /// The leaves `first..end`, where a single one cannot be told.
    Entries { first: u64, end: u64 },
    /// The inclusion proof of the leaf with this index.
    Proof(u64),
    /// The proof that one checkpoint extends another.
    ConsistencyProof,
    /// A tile of hashes, by its path; the number of the hash in it if that is known.
    Tile { path: String, hash: Option<u64> },
    /// A bundle of entries, by its path.
    EntryBundle(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("file"),
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Signature(key) => {
                write!(f, "signature of {} on the checkpoint", key.escape_debug())
            }
            Self::Entry(index) => write!(f, "entry {index}"),
            Self::Entries { first, end } => {
                write!(f, "entries {first} to {}", end.saturating_sub(1))
            }
            Self::Proof(index) => write!(f, "inclusion proof of entry {index}"),
            Self::ConsistencyProof => f.write_str("consistency proof"),
            Self::Tile { path, hash: None } => f.write_str(path),
            Self::Tile {
                path,
                hash: Some(hash),
            } => write!(f, "{path} (hash {hash})"),
            Self::EntryBundle(path) => f.write_str(path),
        }
    }
}

/// Who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// Whoever runs the verification.
    Verifier,
    /// Whoever runs the log.
    Operator,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verifier => "you, the verifier,",
            Self::Operator => "the operator of the log",
        })
    }
}
