//! Walking a whole published log, and holding it against the database.

use crate::checkpoint::Checkpoint;
use crate::failure::{Failure, Place};
use crate::merkle::{leaf_hash, root_of};
use crate::rows::Rows;
use crate::tiles::{LEVEL_MAX, TILE_WIDTH, split_entries, tile_width};
use crate::tree::PublishedTree;
use model::Digest;
use std::ops::Range;

/// What a walk through the whole log has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    pub entries: u64,
    pub tiles: u64,
}

/// Recomputes every tile and the root from the entries. The first damage ends the walk.
///
/// `visit` is given each leaf with its index once its hash fits its tile; whether tile and root
/// fit as well is known only when the whole call has returned `Ok`. Reads each file once (and a
/// few more around damage) and holds one bundle in memory.
///
/// Where two files disagree, the one that the tree above vouches for is believed.
///
/// # Errors
/// The place of the first damage: an entry, an entry bundle, a tile (with the number of the
/// hash), or the checkpoint if all files agree with each other but not with it.
pub fn check_tree(
    checkpoint: &Checkpoint,
    load: &mut dyn FnMut(&str) -> Option<Vec<u8>>,
    visit: &mut dyn FnMut(u64, &[u8]),
) -> Result<Checked, Failure> {
    let mut tree = PublishedTree::new(checkpoint.size, load);
    let mut rows = Rows::default();
    let mut tiles: u64 = 0;
    for bundle in 0..checkpoint.size.div_ceil(TILE_WIDTH) {
        let bytes = tree.entry_bundle(bundle)?;
        let leaves = check_bundle(&mut tree, checkpoint, bundle, &bytes)?;
        tiles += 1;
        for (index, leaf) in (bundle * TILE_WIDTH..).zip(leaves) {
            visit(index, leaf);
            rows.push(leaf_hash(leaf), &mut |full| {
                if full.level == 0 {
                    return Ok(()); // check_bundle has compared it
                }
                tiles += 1;
                check_tile(&mut tree, checkpoint, full.level, full.index, full.hashes)
            })?;
        }
    }
    for (level, row) in (0..=LEVEL_MAX).zip(rows.levels()) {
        if level > 0 && !row.is_empty() {
            let index = checkpoint.size >> (8 * (u32::from(level) + 1));
            tiles += 1;
            check_tile(&mut tree, checkpoint, level, index, row)?;
        }
    }
    if rows.root() != checkpoint.root {
        return Err(Failure::rewritten(
            Place::Checkpoint,
            "all entries and tiles fit each other, but not the root that was signed",
        ));
    }
    Ok(Checked {
        entries: rows.size(),
        tiles,
    })
}

/// How the leaves in a database stand to a published log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The same leaves.
    Equal,
    /// The database holds more; these are to be integrated next. The usual state after a crash.
    Behind { unpublished: Range<u64> },
    /// The published log holds more: the database is an older copy. These leaves are to be read
    /// back from the log before anything is granted.
    Ahead { unknown_to_database: Range<u64> },
    /// They differ at this leaf: one of the two is not this log's history. A person must decide.
    Divergent { index: u64 },
}

/// Compares a published log with the leaves committed in a database.
///
/// `published` is a tree that [`check_tree`] accepted. `committed` leaves are in the database,
/// `leaf_hash_at` gives the hash of each; `None` counts as a leaf that differs. Leaves before
/// `from` are not compared (0 compares all).
///
/// # Errors
/// A tile of the published log is missing or damaged.
pub fn compare(
    published: &mut PublishedTree<'_>,
    committed: u64,
    from: u64,
    leaf_hash_at: &mut dyn FnMut(u64) -> Option<Digest>,
) -> Result<Standing, Failure> {
    let size = published.size();
    for index in from..size.min(committed) {
        if leaf_hash_at(index) != Some(published.leaf_hash(index)?) {
            return Ok(Standing::Divergent { index });
        }
    }
    Ok(match size.cmp(&committed) {
        std::cmp::Ordering::Equal => Standing::Equal,
        std::cmp::Ordering::Less => Standing::Behind {
            unpublished: size..committed,
        },
        std::cmp::Ordering::Greater => Standing::Ahead {
            unknown_to_database: committed..size,
        },
    })
}

/// The leaves of a bundle, if they fit the tile of their hashes.
fn check_bundle<'b>(
    tree: &mut PublishedTree<'_>,
    checkpoint: &Checkpoint,
    bundle: u64,
    bytes: &'b [u8],
) -> Result<Vec<&'b [u8]>, Failure> {
    let width = tile_width(0, bundle, checkpoint.size);
    let first = bundle * TILE_WIDTH;
    let (leaves, rest) = split_entries(bytes, width);
    let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    if hashes.len() as u64 == width && rest.is_empty() {
        check_tile(tree, checkpoint, 0, bundle, &hashes)?;
        return Ok(leaves);
    }
    let place = Place::EntryBundle(tree.entries_path(bundle));
    let what = if rest.is_empty() {
        format!("it holds {} entries instead of {width}", hashes.len())
    } else {
        format!(
            "after {} of {width} entries, {} bytes are left that are no entry of it",
            hashes.len(),
            rest.len()
        )
    };
    // A dropped entry shifts all that follow: where hashes and tile part is where it was.
    let parted = tree
        .tile(0, bundle)
        .ok()
        .and_then(|stored| first_difference(&hashes, stored));
    let what = match parted {
        Some(at) => format!(
            "{what}; the first that does not fit is entry {}",
            first + at
        ),
        None => what,
    };
    Err(Failure::damaged(place, what))
}

/// Compares what the level below makes of a tile with the tile itself.
fn check_tile(
    tree: &mut PublishedTree<'_>,
    checkpoint: &Checkpoint,
    level: u8,
    index: u64,
    computed: &[Digest],
) -> Result<(), Failure> {
    let stored = tree.tile(level, index)?.to_vec();
    let Some(at) = first_difference(computed, &stored) else {
        return Ok(());
    };
    let below_fits = fits_above(tree, checkpoint, level, index, computed);
    let tile_fits = fits_above(tree, checkpoint, level, index, &stored);
    let tile = Place::Tile {
        path: tree.tile_path(level, index),
        hash: Some(at),
    };
    Err(match (below_fits, tile_fits) {
        (false, true) if level == 0 => Failure::damaged(
            Place::Entry(index * TILE_WIDTH + at),
            format!(
                "its bytes in {} were altered: the tile and the tree above agree on another entry",
                tree.entries_path(index)
            ),
        ),
        (false, true) => {
            let span = 1 << (8 * u32::from(level));
            let first = (index * TILE_WIDTH + at) * span;
            Failure::damaged(
                Place::Entries {
                    first,
                    end: first + span,
                },
                "entries and tiles below were altered together: the tree above says otherwise",
            )
        }
        (true, _) => Failure::damaged(tile, "this hash is not that of what lies below it"),
        (false, false) => Failure::damaged(
            tile,
            "what lies below it gives another hash, and neither fits the tree above",
        ),
    })
}

/// Does the tree above vouch for these hashes of a tile?
fn fits_above(
    tree: &mut PublishedTree<'_>,
    checkpoint: &Checkpoint,
    level: u8,
    index: u64,
    hashes: &[Digest],
) -> bool {
    if hashes.len() as u64 == TILE_WIDTH {
        let (parent, at) = (index / TILE_WIDTH, index % TILE_WIDTH);
        return tree.tile(level + 1, parent).is_ok_and(|above| {
            usize::try_from(at).is_ok_and(|at| above.get(at) == Some(&root_of(hashes)))
        });
    }
    // A partial tile's parent is the root itself, together with the other partial tiles.
    right_edge(tree, Some((level, hashes))).is_ok_and(|rows| rows.root() == checkpoint.root)
}

/// The partial tiles of the tree as they are stored, save for the level given.
pub(crate) fn right_edge(
    tree: &mut PublishedTree<'_>,
    instead: Option<(u8, &[Digest])>,
) -> Result<Rows, Failure> {
    let size = tree.size();
    let mut levels = Vec::new();
    for level in 0..=LEVEL_MAX {
        let index = size >> (8 * u32::from(level)) >> 8;
        levels.push(match instead {
            Some((replaced, hashes)) if replaced == level => hashes.to_vec(),
            _ if tile_width(level, index, size) == 0 => Vec::new(),
            _ => tree.tile(level, index)?.to_vec(),
        });
    }
    Ok(Rows::new(size, levels))
}

fn first_difference(computed: &[Digest], stored: &[Digest]) -> Option<u64> {
    let differs = computed.iter().zip(stored).position(|(a, b)| a != b);
    let parted = differs
        .or_else(|| (computed.len() != stored.len()).then(|| computed.len().min(stored.len())));
    parted.and_then(|at| u64::try_from(at).ok())
}
