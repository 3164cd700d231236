//! Paths and bytes of C2SP tlog-tiles.

use model::Digest;
use std::fmt::Write as _;

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;

/// A leaf may not be larger: its length is a u16 in the entry bundle.
pub const LEAF_BYTES_MAX: usize = 65_535;

/// The highest tile level; 256^8 leaves are more than a tree can have.
pub(crate) const LEVEL_MAX: u8 = 7;

/// Where the signed checkpoint is published.
pub const CHECKPOINT_PATH: &str = "checkpoint";

/// A file of the published log: its path below the log's folder, and what it must hold.
///
/// A path under `tile/` is written once: if the file is there already it must be byte-equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TileWrite {
    pub path: String,
    pub bytes: Vec<u8>,
}

/// `tile/<level>/<index>`, with `.p/<width>` if `width` is below 256.
#[must_use]
pub fn tile_path(level: u8, index: u64, width: u64) -> String {
    with_index(&format!("tile/{level}"), index, width)
}

/// `tile/entries/<index>`, with `.p/<width>` if `width` is below 256.
#[must_use]
pub fn entries_path(index: u64, width: u64) -> String {
    with_index("tile/entries", index, width)
}

/// How many hashes the tile has in a tree of `size` leaves: 0 if it does not exist, 256 if full.
#[must_use]
pub fn tile_width(level: u8, index: u64, size: u64) -> u64 {
    let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
    hashes
        .saturating_sub(index.saturating_mul(TILE_WIDTH))
        .min(TILE_WIDTH)
}

/// The bytes of a tile: its hashes one after the other.
pub(crate) fn encode_tile(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a tile of exactly `width`; `None` if it has another length.
pub(crate) fn decode_tile(bytes: &[u8], width: u64) -> Option<Vec<Digest>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    let as_expected = rest.is_empty() && u64::try_from(hashes.len()) == Ok(width);
    as_expected.then(|| hashes.iter().copied().map(Digest).collect())
}

/// Appends one entry to the bytes of a bundle. False, and nothing appended, if it is too large.
pub(crate) fn push_entry(bundle: &mut Vec<u8>, leaf: &[u8]) -> bool {
    let Ok(length) = u16::try_from(leaf.len()) else {
        return false;
    };
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(leaf);
    true
}

/// Splits a bundle into its entries: at most `width` of them, and what is left over (a torn
/// entry, or bytes after the last).
pub(crate) fn split_entries(mut bytes: &[u8], width: u64) -> (Vec<&[u8]>, &[u8]) {
    let mut entries = Vec::new();
    while u64::try_from(entries.len()).is_ok_and(|count| count < width) {
        let Some((entry, rest)) = bytes.split_first_chunk::<2>().and_then(|(length, rest)| {
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        }) else {
            break;
        };
        entries.push(entry);
        bytes = rest;
    }
    (entries, bytes)
}

/// Groups of three digits, all but the last with an `x`: 1234067 is `x001/x234/067`.
fn with_index(prefix: &str, index: u64, width: u64) -> String {
    let mut groups = Vec::new();
    let mut rest = index;
    loop {
        groups.push(rest % 1000);
        rest /= 1000;
        if rest == 0 {
            break;
        }
    }
    let mut path = prefix.to_owned();
    while let Some(group) = groups.pop() {
        let mark = if groups.is_empty() { "" } else { "x" };
        // Writing to a String cannot fail.
        let _ = write!(path, "/{mark}{group:03}");
    }
    if width < TILE_WIDTH {
        let _ = write!(path, ".p/{width}");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(tile_path(0, 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(tile_path(0, 0, 256), "tile/0/000");
        assert_eq!(tile_path(1, 273, 112), "tile/1/273.p/112");
        assert_eq!(tile_path(2, 1000, 256), "tile/2/x001/000");
        assert_eq!(entries_path(5, 1), "tile/entries/005.p/1");
    }

    #[test]
    fn widths_are_those_of_the_specifications_example() {
        // A tree of 70,000: 273 full tiles and one of 112; one full and one of 17; one of 1.
        assert_eq!(tile_width(0, 272, 70_000), 256);
        assert_eq!(tile_width(0, 273, 70_000), 112);
        assert_eq!(tile_width(0, 274, 70_000), 0);
        assert_eq!(tile_width(1, 0, 70_000), 256);
        assert_eq!(tile_width(1, 1, 70_000), 17);
        assert_eq!(tile_width(2, 0, 70_000), 1);
        assert_eq!(tile_width(3, 0, 70_000), 0);
        assert_eq!(tile_width(0, u64::MAX, u64::MAX), 0);
    }

    #[test]
    fn a_bundle_is_split_without_trusting_its_lengths() {
        let mut bundle = Vec::new();
        assert!(push_entry(&mut bundle, b"one"));
        assert!(push_entry(&mut bundle, b""));
        assert!(!push_entry(&mut bundle, &[0; LEAF_BYTES_MAX + 1]));
        assert_eq!(
            split_entries(&bundle, 2),
            (vec![&b"one"[..], b""], &b""[..])
        );
        assert_eq!(split_entries(&bundle, 1).1, [0, 0]);
        assert_eq!(
            split_entries(&[0xff, 0xff, 1], 256),
            (vec![], &[0xff, 0xff, 1][..])
        );
        assert_eq!(split_entries(&[0], 256), (vec![], &[0][..]));
    }
}
