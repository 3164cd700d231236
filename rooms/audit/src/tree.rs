//! Reading a published log: hashes, leaves and proofs out of its files.

use crate::failure::{Failure, Place};
use crate::merkle::{
    complete_subtrees, consistency_ranges, fold_subtrees, inclusion_ranges, leaf_hash, root_of,
};
use crate::tiles::{TILE_WIDTH, decode_tile, entries_path, split_entries, tile_path, tile_width};
use model::Digest;
use std::collections::BTreeMap;
use std::ops::Range;

/// Tiles remembered at most: 512 KiB.
const TILES_REMEMBERED: usize = 64;

/// A published log of a known size, read through a loader.
///
/// The loader is given a path such as `tile/0/x001/234` and returns the file's bytes, or `None`
/// if there is none. It should not read more than 17 MiB (a full bundle of the largest entries).
/// A partial tile that is gone is read from the full one that replaced it.
///
/// Nothing read here is to be believed before it is held against a signed checkpoint:
/// [`crate::check_tree`], or the proof that [`crate::verify`] checks.
pub struct PublishedTree<'l> {
    size: u64,
    load: &'l mut dyn FnMut(&str) -> Option<Vec<u8>>,
    tiles: BTreeMap<(u8, u64), Vec<Digest>>,
    entries: Option<(u64, Vec<u8>)>,
}

impl<'l> PublishedTree<'l> {
    /// `size` is that of a published checkpoint.
    pub fn new(size: u64, load: &'l mut dyn FnMut(&str) -> Option<Vec<u8>>) -> Self {
        Self {
            size,
            load,
            tiles: BTreeMap::new(),
            entries: None,
        }
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hash of the leaf at `index`.
    ///
    /// # Errors
    /// The index is not in the tree, or its tile is missing or damaged.
    pub fn leaf_hash(&mut self, index: u64) -> Result<Digest, Failure> {
        self.in_tree(index)?;
        let (tile, at) = (index / TILE_WIDTH, index % TILE_WIDTH);
        let size = self.size;
        hash_at(self.tile(0, tile)?, at).ok_or_else(|| outside(index, size))
    }

    /// The leaf at `index`, as it was committed.
    ///
    /// # Errors
    /// The index is not in the tree, or its entry bundle is missing, damaged, or not what its
    /// tile says.
    pub fn leaf(&mut self, index: u64) -> Result<Vec<u8>, Failure> {
        self.in_tree(index)?;
        let (bundle, at) = (index / TILE_WIDTH, index % TILE_WIDTH);
        let bytes = match self.entries.take() {
            Some((number, bytes)) if number == bundle => bytes,
            _ => self.entry_bundle(bundle)?,
        };
        let leaf = split_entries(&bytes, at + 1)
            .0
            .get(usize::try_from(at).unwrap_or(usize::MAX))
            .map(|leaf| leaf.to_vec());
        self.entries = Some((bundle, bytes));
        let leaf = leaf.ok_or_else(|| {
            Failure::damaged(
                Place::EntryBundle(self.entries_path(bundle)),
                format!("it ends before entry {index}"),
            )
        })?;
        if leaf_hash(&leaf) == self.leaf_hash(index)? {
            Ok(leaf)
        } else {
            Err(Failure::damaged(
                Place::Entry(index),
                "the entry and its hash in the tile differ",
            ))
        }
    }

    /// The root that the tree had at an earlier `size`, or has now.
    ///
    /// # Errors
    /// `size` is larger than the tree, or a tile is missing or damaged.
    pub fn root_at(&mut self, size: u64) -> Result<Digest, Failure> {
        if size > self.size {
            return Err(outside(size, self.size));
        }
        self.range_root(&(0..size))
    }

    /// The inclusion proof of the leaf at `index`, leaf to root: at most 53 hashes.
    ///
    /// # Errors
    /// The index is not in the tree, or a tile is missing or damaged.
    pub fn inclusion_proof(&mut self, index: u64) -> Result<Vec<Digest>, Failure> {
        let ranges = inclusion_ranges(index, self.size).ok_or_else(|| outside(index, self.size))?;
        ranges.iter().map(|range| self.range_root(range)).collect()
    }

    /// The proof that the tree of `first` leaves is the beginning of this one.
    ///
    /// # Errors
    /// `first` is larger than the tree, or a tile is missing or damaged.
    pub fn consistency_proof(&mut self, first: u64) -> Result<Vec<Digest>, Failure> {
        let ranges =
            consistency_ranges(first, self.size).ok_or_else(|| outside(first, self.size))?;
        ranges.iter().map(|range| self.range_root(range)).collect()
    }

    /// The hashes of a tile that must exist.
    pub(crate) fn tile(&mut self, level: u8, index: u64) -> Result<&[Digest], Failure> {
        let key = (level, index);
        if !self.tiles.contains_key(&key) {
            let hashes = self.load_tile(level, index)?;
            if self.tiles.len() >= TILES_REMEMBERED {
                self.tiles.pop_first();
            }
            self.tiles.insert(key, hashes);
        }
        Ok(self.tiles.get(&key).map_or(&[], Vec::as_slice))
    }

    pub(crate) fn tile_path(&self, level: u8, index: u64) -> String {
        tile_path(level, index, tile_width(level, index, self.size))
    }

    pub(crate) fn entries_path(&self, index: u64) -> String {
        entries_path(index, tile_width(0, index, self.size))
    }

    /// The bytes of an entry bundle that must exist. From a full one in place of a partial one
    /// only the entries of this tree are kept.
    pub(crate) fn entry_bundle(&mut self, index: u64) -> Result<Vec<u8>, Failure> {
        let width = tile_width(0, index, self.size);
        let path = entries_path(index, width);
        if let Some(bytes) = (self.load)(&path) {
            return Ok(bytes);
        }
        if width < TILE_WIDTH
            && let Some(mut bytes) = (self.load)(&entries_path(index, TILE_WIDTH))
        {
            let beyond = split_entries(&bytes, width).1.len();
            bytes.truncate(bytes.len() - beyond);
            return Ok(bytes);
        }
        Err(Failure::damaged(
            Place::EntryBundle(path),
            "the file is missing",
        ))
    }

    fn load_tile(&mut self, level: u8, index: u64) -> Result<Vec<Digest>, Failure> {
        let width = tile_width(level, index, self.size);
        let path = tile_path(level, index, width);
        let place = || Place::Tile {
            path: path.clone(),
            hash: None,
        };
        if let Some(bytes) = (self.load)(&path) {
            return decode_tile(&bytes, width).ok_or_else(|| {
                let wanted = width * 32;
                Failure::damaged(
                    place(),
                    format!("{} bytes instead of {wanted}", bytes.len()),
                )
            });
        }
        if width < TILE_WIDTH
            && let Some(bytes) = (self.load)(&tile_path(level, index, TILE_WIDTH))
            && let Some(mut hashes) = decode_tile(&bytes, TILE_WIDTH)
        {
            hashes.truncate(usize::try_from(width).unwrap_or(usize::MAX));
            return Ok(hashes);
        }
        Err(Failure::damaged(place(), "the file is missing"))
    }

    /// The root over leaves; the range is one that RFC 9162 makes, so its left parts are complete.
    fn range_root(&mut self, range: &Range<u64>) -> Result<Digest, Failure> {
        let subtrees: Result<Vec<_>, _> = complete_subtrees(range)
            .into_iter()
            .map(|(height, index)| self.node(height, index))
            .collect();
        Ok(fold_subtrees(&subtrees?))
    }

    /// The root of a complete subtree of 2^height leaves: one hash of a tile, or some folded.
    fn node(&mut self, height: u32, index: u64) -> Result<Digest, Failure> {
        let level = u8::try_from(height / 8).unwrap_or(u8::MAX);
        let first = index << (height % 8);
        let size = self.size;
        let tile = self.tile(level, first / TILE_WIDTH)?;
        let start = usize::try_from(first % TILE_WIDTH).unwrap_or(usize::MAX);
        tile.get(start..start.saturating_add(1 << (height % 8)))
            .map(root_of)
            .ok_or_else(|| outside(index, size))
    }

    fn in_tree(&self, index: u64) -> Result<(), Failure> {
        if index < self.size {
            Ok(())
        } else {
            Err(outside(index, self.size))
        }
    }
}

fn hash_at(hashes: &[Digest], at: u64) -> Option<Digest> {
    hashes.get(usize::try_from(at).ok()?).copied()
}

fn outside(index: u64, size: u64) -> Failure {
    Failure::mistaken(
        Place::Checkpoint,
        format!("{index} lies outside a tree of {size} leaves"),
    )
}
