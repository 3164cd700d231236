//! The Merkle tree of RFC 9162 section 2.1 with SHA-256: hashes, proofs, their verification.

use aws_lc_rs::digest::{Context, SHA256, digest};
use model::Digest;
use std::ops::Range;

/// `SHA-256(0x00 || leaf)`.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    hash(&[&[0], leaf])
}

/// `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    hash(&[&[1], &left.0, &right.0])
}

/// The root of the tree without leaves: `SHA-256("")`.
#[must_use]
pub fn empty_root() -> Digest {
    hash(&[])
}

/// A tree that remembers only what appending needs: at most 64 hashes, whatever its size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RightEdge {
    size: u64,
    /// Roots of the complete subtrees, largest (leftmost) first: one per set bit of `size`.
    subtrees: Vec<Digest>,
}

impl RightEdge {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a leaf, given by its hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        // Each trailing one bit is a subtree of the same size to the left: they become one.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.subtrees.push(hash);
        self.size = self.size.saturating_add(1);
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    #[must_use]
    pub fn root(&self) -> Digest {
        fold_subtrees(&self.subtrees)
    }
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofRefused {
    #[error("the index is not in the tree")]
    OutsideTheTree,
    #[error("the proof has the wrong number of hashes")]
    WrongLength,
    #[error("the proof leads to another root")]
    WrongRoot,
}

/// RFC 9162 section 2.1.3.2: the leaf with this hash stands at `index` of the tree.
///
/// # Errors
/// The index is not below `size`, or the proof does not lead to `root`.
pub fn verify_inclusion(
    index: u64,
    size: u64,
    leaf: &Digest,
    proof: &[Digest],
    root: &Digest,
) -> Result<(), ProofRefused> {
    if index >= size {
        return Err(ProofRefused::OutsideTheTree);
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(ProofRefused::WrongLength);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofRefused::WrongLength);
    }
    if hash == *root {
        Ok(())
    } else {
        Err(ProofRefused::WrongRoot)
    }
}

/// RFC 9162 section 2.1.4.2: the tree of `first` leaves is the beginning of the one of `second`.
///
/// From the empty tree, and between equal sizes, the proof is empty.
///
/// # Errors
/// `first` is larger than `second`, or the proof does not lead to both roots.
pub fn verify_consistency(
    first: u64,
    first_root: &Digest,
    second: u64,
    second_root: &Digest,
    proof: &[Digest],
) -> Result<(), ProofRefused> {
    if first > second {
        return Err(ProofRefused::OutsideTheTree);
    }
    if first == 0 || first == second {
        if !proof.is_empty() {
            return Err(ProofRefused::WrongLength);
        }
        // The root of nothing is known; it is the one thing a tree of size 0 can be held to.
        let before = if first == second {
            *second_root
        } else {
            empty_root()
        };
        return if *first_root == before && (second != 0 || before == empty_root()) {
            Ok(())
        } else {
            Err(ProofRefused::WrongRoot)
        };
    }
    // A complete first tree is itself a node of the second, so its root is left out of the proof.
    let (seed, rest) = if first.is_power_of_two() {
        (*first_root, proof)
    } else {
        let (seed, rest) = proof.split_first().ok_or(ProofRefused::WrongLength)?;
        (*seed, rest)
    };
    let shift = (first - 1).trailing_ones();
    let (mut node, mut last) = (
        (first - 1).checked_shr(shift).unwrap_or(0),
        (second - 1).checked_shr(shift).unwrap_or(0),
    );
    let (mut first_hash, mut second_hash) = (seed, seed);
    for sibling in rest {
        if last == 0 {
            return Err(ProofRefused::WrongLength);
        }
        if node & 1 == 1 || node == last {
            first_hash = node_hash(sibling, &first_hash);
            second_hash = node_hash(sibling, &second_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            second_hash = node_hash(&second_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofRefused::WrongLength);
    }
    if first_hash == *first_root && second_hash == *second_root {
        Ok(())
    } else {
        Err(ProofRefused::WrongRoot)
    }
}

/// The leaf ranges whose roots are the inclusion proof of `index` (RFC 9162 section 2.1.3.1), in
/// the proof's order, leaf to root. `None` if the index is not in the tree.
pub(crate) fn inclusion_ranges(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if index >= size {
        return None;
    }
    let mut ranges = Vec::new();
    let mut tree = 0..size;
    while let Some(middle) = split(&tree) {
        let (sibling, inside) = if index < middle {
            (middle..tree.end, tree.start..middle)
        } else {
            (tree.start..middle, middle..tree.end)
        };
        ranges.push(sibling);
        tree = inside;
    }
    ranges.reverse();
    Some(ranges)
}

/// The leaf ranges whose roots are the consistency proof (RFC 9162 section 2.1.4.1), in the
/// proof's order. Empty from the empty tree and between equal sizes; `None` if `first > second`.
pub(crate) fn consistency_ranges(first: u64, second: u64) -> Option<Vec<Range<u64>>> {
    if first > second {
        return None;
    }
    let mut ranges = Vec::new();
    if first == 0 {
        return Some(ranges);
    }
    let mut tree = 0..second;
    while tree.end != first {
        let Some(middle) = split(&tree) else { break };
        let (sibling, inside) = if first <= middle {
            (middle..tree.end, tree.start..middle)
        } else {
            (tree.start..middle, middle..tree.end)
        };
        ranges.push(sibling);
        tree = inside;
    }
    // What is left is the last subtree of the first tree, unless it is the whole first tree.
    if tree.start != 0 {
        ranges.push(tree);
    }
    ranges.reverse();
    Some(ranges)
}

/// The complete subtrees that make up an aligned range of leaves, left to right, as
/// (height, index at that height).
pub(crate) fn complete_subtrees(range: &Range<u64>) -> Vec<(u32, u64)> {
    let mut subtrees = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let height = (range.end - start).ilog2();
        subtrees.push((height, start >> height));
        start += 1 << height;
    }
    subtrees
}

/// The root over neighbouring complete subtrees, largest first. Of none: the empty root.
pub(crate) fn fold_subtrees(subtrees: &[Digest]) -> Digest {
    subtrees
        .iter()
        .rev()
        .copied()
        .reduce(|right, left| node_hash(&left, &right))
        .unwrap_or_else(empty_root)
}

/// The root over the leaf hashes or equal subtrees in `hashes`, of any number.
pub(crate) fn root_of(hashes: &[Digest]) -> Digest {
    let mut edge = RightEdge::new();
    for hash in hashes {
        edge.push(*hash);
    }
    edge.root()
}

/// Where RFC 9162 section 2.1.1 splits a range: at the largest power of two below its length.
fn split(range: &Range<u64>) -> Option<u64> {
    let length = range.end - range.start;
    (length > 1).then(|| range.start + (1 << (length - 1).ilog2()))
}

fn hash(parts: &[&[u8]]) -> Digest {
    let mut bytes = [0; 32];
    let value = if parts.is_empty() {
        digest(&SHA256, &[])
    } else {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        context.finish()
    };
    // SHA-256 is 32 bytes: the lengths are equal.
    for (to, from) in bytes.iter_mut().zip(value.as_ref()) {
        *to = *from;
    }
    Digest(bytes)
}
