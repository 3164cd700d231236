//! Watching a log from another machine: has it only grown?

use crate::checkpoint::{Checkpoint, OpenedCheckpoint};
use crate::failure::{Failure, Place};
use crate::merkle::verify_consistency;
use crate::note::Vkey;
use model::Digest;

/// What a newly fetched checkpoint says, held against the one kept from before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing was kept before: keep this one. It proves nothing about the past.
    First(OpenedCheckpoint),
    /// The same tree. Keep either.
    Unchanged(OpenedCheckpoint),
    /// Ask the log for the consistency proof between these sizes and judge again.
    NeedProof { from: u64, to: u64 },
    /// The old tree is the beginning of the new one: keep the new checkpoint.
    Grown { from: u64, opened: OpenedCheckpoint },
    /// A smaller tree than before: an old checkpoint is served, or leaves are gone. Keep the old.
    RolledBack {
        from: u64,
        to: u64,
        failure: Failure,
    },
    /// Both are signed, and they cannot both be true. Keep both: together they are the proof.
    Rewritten { failure: Failure },
    /// Not signed by the log's key, damaged, or of another log. Keep the old.
    BadSignature { failure: Failure },
}

impl Judgement {
    /// What a person must be told; `None` if all is well so far.
    #[must_use]
    pub fn alarm(&self) -> Option<&Failure> {
        match self {
            Self::RolledBack { failure, .. }
            | Self::Rewritten { failure }
            | Self::BadSignature { failure } => Some(failure),
            Self::First(_) | Self::Unchanged(_) | Self::NeedProof { .. } | Self::Grown { .. } => {
                None
            }
        }
    }

    /// The checkpoint to keep from now on, if it is the new one.
    #[must_use]
    pub fn accepted(&self) -> Option<&Checkpoint> {
        match self {
            Self::First(opened) | Self::Unchanged(opened) | Self::Grown { opened, .. } => {
                Some(&opened.checkpoint)
            }
            _ => None,
        }
    }
}

/// Judges a fetched note against the checkpoint kept elsewhere.
///
/// `previous` comes from the watcher's own storage, where the log's operator cannot write.
/// `proof` is computed from the log's tiles ([`crate::PublishedTree::consistency_proof`]) once
/// [`Judgement::NeedProof`] asks for it; a wrong one is an alarm, never an excuse.
#[must_use]
pub fn judge(
    previous: Option<&Checkpoint>,
    fetched_note: &str,
    keys: &[Vkey],
    proof: Option<&[Digest]>,
) -> Judgement {
    let opened = match Checkpoint::open(fetched_note, keys) {
        Ok(opened) => opened,
        Err(failure) => return Judgement::BadSignature { failure },
    };
    let Some(previous) = previous else {
        return Judgement::First(opened);
    };
    let fetched = &opened.checkpoint;
    if fetched.origin != previous.origin {
        let failure = Failure::mistaken(
            Place::Checkpoint,
            "it belongs to another log than the checkpoint that you kept",
        );
        return Judgement::BadSignature { failure };
    }
    let (from, to) = (previous.size, fetched.size);
    if to < from {
        let failure = Failure::rewritten(
            Place::Checkpoint,
            format!("rolled back: {to} leaves, but you have seen {from}"),
        );
        return Judgement::RolledBack { from, to, failure };
    }
    if from == to {
        return if previous.root == fetched.root {
            Judgement::Unchanged(opened)
        } else {
            let failure = Failure::rewritten(
                Place::Checkpoint,
                format!("REWRITTEN: another root for the same {from} leaves"),
            );
            Judgement::Rewritten { failure }
        };
    }
    // Every tree begins with the empty one, so there is nothing to ask for.
    let proof = if from == 0 { Some(&[][..]) } else { proof };
    let Some(proof) = proof else {
        return Judgement::NeedProof { from, to };
    };
    match verify_consistency(from, &previous.root, to, &fetched.root, proof) {
        Ok(()) => Judgement::Grown { from, opened },
        Err(refused) => Judgement::Rewritten {
            failure: Failure::rewritten(
                Place::ConsistencyProof,
                format!("REWRITTEN: from {from} to {to} leaves it is no growth: {refused}"),
            ),
        },
    }
}
