//! Rows of the room `audit`: the log's entries, its last checkpoint, and the seal.

use crate::change::{Change, CommitError, Direction, Receipt, Write};
use crate::error::ReadError;
use crate::reader::index;
use crate::store::Store;
use crate::writer::Task;
use rusqlite::params;

/// The last checkpoint that was signed and stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Leaves of the tree it stands for.
    pub size: u64,
    /// The signed note, verbatim.
    pub note: Vec<u8>,
}

/// Why a checkpoint was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Another sequencer was here: read the stored checkpoint and begin again from it.
    #[error("the stored checkpoint has size {stored}, not {expected}: begin again from it")]
    Moved { stored: u64, expected: u64 },
    /// A defect: the tree is smaller than before, or larger than the log.
    #[error("a checkpoint of size {size} cannot follow {stored} in a log of {leaf_count} leaves")]
    Size {
        size: u64,
        stored: u64,
        leaf_count: u64,
    },
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why leaves of the published log were not taken into the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The caller begins at the database's own count.
    #[error("leaves from index {from} leave a gap: the database holds {leaf_count}")]
    Gap { from: u64, leaf_count: u64 },
    /// Two histories. Never overwritten; an operator decides which one is true.
    #[error(
        "leaf {index} of the published log differs from the database's: two histories exist; keep both and find out which one was tampered with"
    )]
    Diverged { index: u64 },
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Store {
    /// Leaves in the log: the index that the next entry gets.
    ///
    /// # Errors
    /// The disk.
    pub fn leaf_count(&self) -> Result<u64, ReadError> {
        let last = self.readers().one(
            "SELECT max(leaf_index) FROM entry WHERE tenant = ?1",
            params![self.tenant_text()],
            |row| Ok(row.get::<_, Option<i64>>(0)?),
        )?;
        Ok(last
            .flatten()
            .map_or(0, |last| index(last).saturating_add(1)))
    }

    /// Leaf bytes from `from` on, in order and without a gap, at most `limit` of them (and at most
    /// 10,000). Fewer than `limit` means: that was all.
    ///
    /// # Errors
    /// The disk; a gap, which is damage.
    pub fn leaves(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        let Ok(start) = i64::try_from(from) else {
            return Ok(Vec::new());
        };
        let limit = i64::try_from(limit.min(10_000)).unwrap_or(10_000);
        let mut expected = start;
        let mut leaves = Vec::new();
        self.readers().for_each(
            "SELECT leaf_index, leaf FROM entry WHERE tenant = ?1 AND leaf_index >= ?2
             ORDER BY leaf_index LIMIT ?3",
            params![self.tenant_text(), start, limit],
            |row| {
                if row.get::<_, i64>(0)? != expected {
                    return Err(ReadError::row(
                        "entry",
                        format!("leaf {expected} is missing"),
                    ));
                }
                expected = expected.saturating_add(1);
                leaves.push(row.get(1)?);
                Ok(())
            },
        )?;
        Ok(leaves)
    }

    /// One leaf.
    ///
    /// # Errors
    /// The disk.
    pub fn leaf(&self, leaf_index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let Ok(leaf_index) = i64::try_from(leaf_index) else {
            return Ok(None);
        };
        self.readers().one(
            "SELECT leaf FROM entry WHERE tenant = ?1 AND leaf_index = ?2",
            params![self.tenant_text(), leaf_index],
            |row| Ok(row.get(0)?),
        )
    }

    /// `None` before the first checkpoint.
    ///
    /// # Errors
    /// The disk.
    pub fn last_checkpoint(&self) -> Result<Option<Checkpoint>, ReadError> {
        self.readers().one(
            "SELECT size, note FROM checkpoint WHERE tenant = ?1",
            params![self.tenant_text()],
            |row| {
                Ok(Checkpoint {
                    size: index(row.get(0)?),
                    note: row.get(1)?,
                })
            },
        )
    }

    /// Stores a signed checkpoint, durably, if the last one stored has `previous_size` leaves
    /// (0: none is stored). Publish it only after this returned. Passes while sealed.
    ///
    /// # Errors
    /// [`CheckpointError`]; nothing was stored.
    pub fn put_checkpoint(
        &self,
        previous_size: u64,
        size: u64,
        note: Vec<u8>,
    ) -> Result<(), CheckpointError> {
        self.ask(|reply| Task::PutCheckpoint {
            previous_size,
            size,
            note,
            reply,
        })
        .unwrap_or(Err(CheckpointError::Commit(CommitError::Closed)))
    }

    /// Why granting has stopped; `None` while it goes on. From memory: cheap enough for `/readyz`.
    #[must_use]
    pub fn sealed(&self) -> Option<String> {
        self.status().sealed()
    }

    /// Stops granting, durably. To say why in the log as well, commit a [`Write::Seal`] together
    /// with an entry.
    ///
    /// # Errors
    /// As a commit.
    pub fn seal(&self, reason: &str) -> Result<Receipt, CommitError> {
        self.commit(Change::new(Direction::Withdraw).write(Write::Seal {
            reason: reason.to_owned(),
        }))
    }

    /// Lets granting go on, with the entries that say who decided so; at least one.
    ///
    /// # Errors
    /// As a commit.
    pub fn unseal(&self, entries: Vec<Vec<u8>>) -> Result<Receipt, CommitError> {
        let mut change = Change::new(Direction::Neutral).write(Write::Unseal);
        change.entries = entries;
        self.commit(change)
    }

    /// Lowest index of the leaves that were imported under the present seal; `None` without one.
    ///
    /// The revocations that those leaves tell of may not be in the rows yet (a crash came between):
    /// replay them from here at every start until the store is unsealed. A second time does no harm.
    #[must_use]
    pub fn imported_from(&self) -> Option<u64> {
        self.status().imported_from()
    }

    /// Takes leaves of the published log into a database that is behind it (a restored backup),
    /// and seals the store in the same transaction with `reason`.
    ///
    /// Call it before anything else is committed, with up to [`crate::CHANGE_ROWS_MAX`] leaves at a time,
    /// from the lowest index to the highest; then replay the revocations that those leaves tell of
    /// as changes without entries. Leaves that the database holds already must be equal. The answer
    /// is the new leaf count.
    ///
    /// # Errors
    /// [`ImportError`]; nothing was taken.
    pub fn import_leaves(
        &self,
        from_index: u64,
        leaves: Vec<Vec<u8>>,
        reason: &str,
    ) -> Result<u64, ImportError> {
        self.ask(|reply| Task::ImportLeaves {
            from_index,
            leaves,
            reason: reason.to_owned(),
            reply,
        })
        .unwrap_or(Err(ImportError::Commit(CommitError::Closed)))
    }
}
