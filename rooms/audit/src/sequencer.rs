//! Growing the log: from committed leaves to files, a text to sign, and a checkpoint.
//!
//! The order that survives a crash at any point, and who does what:
//! 1. [`Sequencer::integrate`]: the caller writes [`Integration::writes`] durably, in order. What
//!    is written twice after a crash is byte-equal; what is not yet in a checkpoint is harmless.
//! 2. The signer signs [`Integration::checkpoint_text`]; [`Integration::signed`] makes the note.
//! 3. The caller stores the note durably by compare-and-set on [`Signed::previous_size`].
//! 4. [`Sequencer::publish`] advances and gives the file that makes it visible.
//!
//! After a restart: [`Sequencer::restore`] from the last *stored* checkpoint, publish that note
//! again, and go on at step 1.

use crate::check::{check_tree, right_edge};
use crate::checkpoint::{Checkpoint, TREE_SIZE_MAX};
use crate::failure::{Failure, Place};
use crate::merkle::leaf_hash;
use crate::note::{self, NoteRefused, Vkey};
use crate::rows::Rows;
use crate::tiles::{
    CHECKPOINT_PATH, LEAF_BYTES_MAX, LEVEL_MAX, TILE_WIDTH, TileWrite, encode_tile, entries_path,
    push_entry, split_entries, tile_path, tile_width,
};
use crate::tree::PublishedTree;
use std::convert::Infallible;

/// Leaves in one integration at most; the rest waits for the next.
pub const BATCH_LEAVES_MAX: usize = 65_536;

/// The one writer of a log: where the published tree ends.
#[derive(Debug, Clone)]
pub struct Sequencer {
    published: Checkpoint,
    edge: Edge,
}

/// The right edge of the tree in hashes and in entries.
#[derive(Debug, Clone, Default)]
struct Edge {
    rows: Rows,
    /// The bytes of the partial entry bundle at the end.
    bundle: Vec<u8>,
}

impl Sequencer {
    /// A log without a leaf. `origin` is its name and that of its key.
    #[must_use]
    pub fn new(origin: &str) -> Self {
        let edge = Edge::default();
        Self {
            published: Checkpoint {
                origin: origin.to_owned(),
                size: 0,
                root: edge.rows.root(),
            },
            edge,
        }
    }

    /// Goes on from the last stored checkpoint, whose signature the caller has checked
    /// ([`Checkpoint::open`]). Reads the right edge (at most 8 tiles and one entry bundle),
    /// recomputes the root and compares.
    ///
    /// # Errors
    /// The place of the damage. If the right edge does not give the signed root, the whole log is
    /// read to find it ([`check_tree`]).
    pub fn restore(
        last: Checkpoint,
        load: &mut dyn FnMut(&str) -> Option<Vec<u8>>,
    ) -> Result<Self, Failure> {
        match Self::restore_edge(&last, load) {
            Some(edge) => Ok(Self {
                published: last,
                edge,
            }),
            None => {
                check_tree(&last, load, &mut |_, _| {})?;
                Err(Failure::damaged(
                    Place::Checkpoint,
                    "the log changed while it was read; another program writes to it",
                ))
            }
        }
    }

    /// The checkpoint that was published last.
    #[must_use]
    pub fn published(&self) -> &Checkpoint {
        &self.published
    }

    /// Adds leaves in committed order, up to [`BATCH_LEAVES_MAX`]; without any it gives the same
    /// checkpoint again. Nothing is advanced: the same call gives the same answer until
    /// [`Sequencer::publish`].
    ///
    /// # Errors
    /// Too many leaves, one that is too large, or the tree is full. Who must act: us.
    pub fn integrate(&self, leaves: &[Vec<u8>]) -> Result<Integration, SequencerError> {
        let before = self.published.size;
        let after = u64::try_from(leaves.len())
            .ok()
            .and_then(|count| before.checked_add(count))
            .filter(|size| *size <= TREE_SIZE_MAX)
            .ok_or(SequencerError::TreeFull)?;
        if leaves.len() > BATCH_LEAVES_MAX {
            return Err(SequencerError::BatchTooLarge(leaves.len()));
        }
        let mut edge = self.edge.clone();
        let mut bundles = Vec::new();
        let mut tiles = Vec::new();
        for (leaf, index) in leaves.iter().zip(before..) {
            if !push_entry(&mut edge.bundle, leaf) {
                return Err(SequencerError::LeafTooLarge(LeafTooLarge {
                    index,
                    bytes: leaf.len(),
                }));
            }
            let Ok(()) = edge.rows.push::<Infallible>(leaf_hash(leaf), &mut |full| {
                tiles.push((
                    full.level,
                    TileWrite {
                        path: tile_path(full.level, full.index, TILE_WIDTH),
                        bytes: encode_tile(full.hashes),
                    },
                ));
                Ok(())
            });
            if edge.rows.size().is_multiple_of(TILE_WIDTH) {
                bundles.push(TileWrite {
                    path: entries_path(index / TILE_WIDTH, TILE_WIDTH),
                    bytes: std::mem::take(&mut edge.bundle),
                });
            }
        }
        if !edge.bundle.is_empty() && before != after {
            bundles.push(TileWrite {
                path: entries_path(after / TILE_WIDTH, after % TILE_WIDTH),
                bytes: edge.bundle.clone(),
            });
        }
        for (level, row) in (0..=LEVEL_MAX).zip(edge.rows.levels()) {
            let shift = 8 * u32::from(level);
            if !row.is_empty() && before >> shift != after >> shift {
                let index = after >> shift >> 8;
                tiles.push((
                    level,
                    TileWrite {
                        path: tile_path(level, index, tile_width(level, index, after)),
                        bytes: encode_tile(row),
                    },
                ));
            }
        }
        // Children before parents: no file speaks of one that may not be there.
        tiles.sort_by_key(|(level, _)| *level);
        bundles.extend(tiles.into_iter().map(|(_, write)| write));
        Ok(Integration {
            previous: self.published.clone(),
            writes: bundles,
            checkpoint: Checkpoint {
                origin: self.published.origin.clone(),
                size: after,
                root: edge.rows.root(),
            },
            edge,
        })
    }

    /// Advances to a checkpoint that the caller has stored, and gives the file that publishes it.
    ///
    /// # Errors
    /// It does not follow on what was published last: two integrations were under way at once.
    /// Who must act: us.
    pub fn publish(&mut self, signed: Signed) -> Result<TileWrite, SequencerError> {
        if signed.previous != self.published {
            return Err(SequencerError::Overtaken {
                published: self.published.size,
                follows: signed.previous.size,
            });
        }
        self.published = signed.checkpoint;
        self.edge = signed.edge;
        Ok(TileWrite {
            path: CHECKPOINT_PATH.to_owned(),
            bytes: signed.note.into_bytes(),
        })
    }

    /// `None` if anything is missing or does not fit: the caller then looks for where.
    fn restore_edge(
        last: &Checkpoint,
        load: &mut dyn FnMut(&str) -> Option<Vec<u8>>,
    ) -> Option<Edge> {
        let mut tree = PublishedTree::new(last.size, load);
        let rows = right_edge(&mut tree, None).ok()?;
        if rows.root() != last.root {
            return None;
        }
        let width = last.size % TILE_WIDTH;
        let bundle = match width {
            0 => Vec::new(),
            _ => tree.entry_bundle(last.size / TILE_WIDTH).ok()?,
        };
        let (leaves, rest) = split_entries(&bundle, width);
        let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        (rest.is_empty() && rows.levels().first() == Some(&hashes)).then_some(Edge { rows, bundle })
    }
}

/// A batch that is computed, not yet signed.
#[derive(Debug, Clone)]
#[must_use = "its files must be written and its checkpoint signed"]
pub struct Integration {
    previous: Checkpoint,
    writes: Vec<TileWrite>,
    checkpoint: Checkpoint,
    edge: Edge,
}

impl Integration {
    /// The files to write durably before signing, in this order: entry bundles, then tiles from
    /// the bottom up. A file that exists already must be byte-equal.
    #[must_use]
    pub fn writes(&self) -> &[TileWrite] {
        &self.writes
    }

    /// What the signer is asked to sign.
    #[must_use]
    pub fn checkpoint_text(&self) -> String {
        self.checkpoint.to_text()
    }

    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Joins text and signature to the note that is to be stored.
    ///
    /// # Errors
    /// The key is not this log's, or did not sign this text. Who must act: us.
    pub fn signed(self, log_key: &Vkey, signature: &[u8]) -> Result<Signed, NoteRefused> {
        if log_key.name() != self.checkpoint.origin {
            return Err(NoteRefused::NoKnownKey);
        }
        Ok(Signed {
            note: note::assemble(&self.checkpoint.to_text(), log_key, signature)?,
            previous: self.previous,
            checkpoint: self.checkpoint,
            edge: self.edge,
        })
    }
}

/// A signed checkpoint that is to be stored before it is published.
#[derive(Debug, Clone)]
#[must_use = "it must be stored, then published"]
pub struct Signed {
    note: String,
    previous: Checkpoint,
    checkpoint: Checkpoint,
    edge: Edge,
}

impl Signed {
    /// The signed note, to be stored and then served as the checkpoint.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Store only if this is the size of the last stored checkpoint (0 if there is none).
    #[must_use]
    pub fn previous_size(&self) -> u64 {
        self.previous.size
    }

    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

/// Why the log does not grow. All are ours to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SequencerError {
    #[error("{0} leaves in one batch; give at most {BATCH_LEAVES_MAX}")]
    BatchTooLarge(usize),
    #[error(transparent)]
    LeafTooLarge(#[from] LeafTooLarge),
    #[error("the log is full; begin a new one under another origin")]
    TreeFull,
    #[error("the checkpoint follows on size {follows}, but {published} is published already")]
    Overtaken { published: u64, follows: u64 },
}

/// A committed leaf that no entry bundle can hold. `Entry::to_leaf` never makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "leaf {index} has {bytes} bytes; at most {LEAF_BYTES_MAX} fit, so it must not be committed"
)]
pub struct LeafTooLarge {
    pub index: u64,
    pub bytes: usize,
}
