//! One leaf's proof as a text file, `.tlog-proof` (C2SP tlog-proof): stands next to a thing that
//! is logged, a firmware image or an exported document, and is verified offline.

use crate::checkpoint::{Checkpoint, OpenedCheckpoint, decimal, decode_digest};
use crate::failure::{Failure, Place};
use crate::merkle::{leaf_hash, verify_inclusion};
use crate::note::{NOTE_BYTES_MAX, Vkey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Digest;
use std::fmt::Write as _;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// A tree of 2^53 leaves needs no more.
const HASHES_MAX: usize = 53;

/// The file for the leaf at `index`, whose inclusion proof leads to the checkpoint in `note`.
#[must_use]
pub fn write_tlog_proof(index: u64, proof: &[Digest], note: &str) -> String {
    let mut text = format!("{FIRST_LINE}\nindex {index}\n");
    for hash in proof {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", STANDARD.encode(hash.0));
    }
    text + "\n" + note
}

/// Verifies that the file proves this leaf, and returns its index and the checkpoint.
///
/// `extra` data, which nothing authenticates, is refused.
///
/// # Errors
/// The place: file, checkpoint, signature, or the inclusion proof.
pub fn verify_tlog_proof(
    text: &str,
    leaf: &[u8],
    keys: &[Vkey],
) -> Result<(u64, OpenedCheckpoint), Failure> {
    let refuse = |what: &str| Err(Failure::unreadable(Place::File, what));
    if text.len() > 2 * NOTE_BYTES_MAX {
        return refuse("larger than 128 KiB");
    }
    let Some((head, note)) = text.split_once("\n\n") else {
        return refuse("it has no blank line before the checkpoint");
    };
    let mut lines = head.split('\n');
    if lines.next() != Some(FIRST_LINE) {
        return refuse("its first line is not c2sp.org/tlog-proof@v1");
    }
    let index = lines.next().and_then(|line| line.strip_prefix("index "));
    let Some(index) = index.and_then(decimal) else {
        return refuse("its second line is not `index <number>`");
    };
    let mut proof = Vec::new();
    for line in lines {
        match decode_digest(line) {
            Some(hash) if proof.len() < HASHES_MAX => proof.push(hash),
            _ => {
                let what = "a hash is not the base64 of 32 bytes, or there are more than 53";
                return Err(Failure::unreadable(Place::Proof(index), what));
            }
        }
    }
    let opened = Checkpoint::open(note, keys)?;
    let (size, root) = (opened.checkpoint.size, opened.checkpoint.root);
    verify_inclusion(index, size, &leaf_hash(leaf), &proof, &root).map_err(|refused| {
        let what = format!("it does not prove this leaf: {refused}");
        Failure::altered(Place::Proof(index), what)
    })?;
    Ok((index, opened))
}
