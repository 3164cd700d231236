//! The hashes of the incomplete tiles, one row a level: all that appending and the root need.

use crate::merkle::{fold_subtrees, root_of};
use crate::tiles::TILE_WIDTH;
use model::Digest;

/// The right edge of a tree, cut into tiles. At most 255 hashes a level.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    size: u64,
    levels: Vec<Vec<Digest>>,
}

/// A tile that has just become full.
pub(crate) struct FullTile<'t> {
    pub level: u8,
    pub index: u64,
    pub hashes: &'t [Digest],
}

impl Rows {
    /// `levels` holds the partial tiles of a tree of `size` leaves, level 0 first.
    pub(crate) fn new(size: u64, levels: Vec<Vec<Digest>>) -> Self {
        Self { size, levels }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The partial tiles, level 0 first; a row may be empty.
    pub(crate) fn levels(&self) -> &[Vec<Digest>] {
        &self.levels
    }

    /// Appends a leaf and tells of each tile that it fills, from the bottom up.
    pub(crate) fn push<E>(
        &mut self,
        leaf: Digest,
        full: &mut dyn FnMut(FullTile<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.size = self.size.saturating_add(1);
        let mut carried = leaf;
        for level in 0..=crate::tiles::LEVEL_MAX {
            let at = usize::from(level);
            if self.levels.len() <= at {
                self.levels.push(Vec::new());
            }
            let Some(row) = self.levels.get_mut(at) else {
                break;
            };
            row.push(carried);
            if row.len() as u64 != TILE_WIDTH {
                break;
            }
            full(FullTile {
                level,
                index: (self.size >> (8 * (u32::from(level) + 1))).saturating_sub(1),
                hashes: row,
            })?;
            carried = root_of(row);
            row.clear();
        }
        Ok(())
    }

    /// The root of the whole tree.
    pub(crate) fn root(&self) -> Digest {
        let mut subtrees = Vec::new();
        for row in self.levels.iter().rev() {
            // A row of 5 is a subtree of 4 and one of 1: its complete parts, largest first.
            let mut rest = row.as_slice();
            while !rest.is_empty() {
                let (part, after) = rest.split_at(1 << rest.len().ilog2());
                subtrees.push(root_of(part));
                rest = after;
            }
        }
        fold_subtrees(&subtrees)
    }
}
