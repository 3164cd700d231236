//! An evidence bundle: chosen entries that a stranger verifies offline with the log's key alone.
//!
//! One JSON file: the signed checkpoint, and for each entry its index, its leaf and its inclusion
//! proof. Neighbouring entries carry the claim that none between them is left out (`range`); a
//! bundle made for somebody who kept an older checkpoint carries the proof that the log has only
//! grown since (`consistency`). `docs/audit.md` describes every field.

use crate::checkpoint::{Checkpoint, Witnessed, decode_digest};
use crate::entry::Entry;
use crate::failure::{Failure, Place};
use crate::merkle::{leaf_hash, verify_inclusion};
use crate::note::Vkey;
use crate::tree::PublishedTree;
use crate::watch::{Judgement, judge};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

/// A larger bundle is refused unread; read no more than one byte beyond it from a file.
pub const BUNDLE_BYTES_MAX: usize = 16 * 1024 * 1024;

const FORMAT: &str = "fleetward-audit-bundle@1";
const ENTRIES_MAX: usize = 65_536;

/// Makes the bundle of the entries at `indices`, and checks it before it leaves.
///
/// `note` is the signed checkpoint of `tree`. `since` is the size of an older checkpoint that the
/// reader kept; its proof of growth is added.
///
/// # Errors
/// The place of the damage if tree and checkpoint do not fit each other; too many entries, or
/// more bytes than [`BUNDLE_BYTES_MAX`]: choose fewer.
pub fn build(
    note: &str,
    keys: &[Vkey],
    tree: &mut PublishedTree<'_>,
    indices: &BTreeSet<u64>,
    since: Option<u64>,
) -> Result<String, Failure> {
    let checkpoint = Checkpoint::open(note, keys)?.checkpoint;
    if checkpoint.size != tree.size() {
        let what = "it is not the checkpoint of the tree that the bundle is made from";
        return Err(Failure::mistaken(Place::Checkpoint, what));
    }
    if indices.len() > ENTRIES_MAX {
        return Err(too_large());
    }
    let mut entries = Vec::new();
    let mut bytes: usize = 0;
    for &index in indices {
        let leaf = tree.leaf(index)?;
        bytes = bytes.saturating_add(leaf.len());
        if bytes > BUNDLE_BYTES_MAX {
            return Err(too_large());
        }
        let proof = tree.inclusion_proof(index)?;
        verify_inclusion(
            index,
            checkpoint.size,
            &leaf_hash(&leaf),
            &proof,
            &checkpoint.root,
        )
        .map_err(|refused| {
            Failure::damaged(
                Place::Entry(index),
                format!("in the published tree: {refused}"),
            )
        })?;
        let leaf = String::from_utf8(leaf)
            .map_err(|_| Failure::damaged(Place::Entry(index), "it is not UTF-8"))?;
        entries.push(EntryJson {
            index,
            leaf,
            proof: proof.into_iter().map(Hash).collect(),
        });
    }
    let consistency = match since {
        Some(from) => Some(ConsistencyJson {
            from,
            proof: tree
                .consistency_proof(from)?
                .into_iter()
                .map(Hash)
                .collect(),
        }),
        None => None,
    };
    let file = BundleJson {
        format: FORMAT.to_owned(),
        origin: checkpoint.origin,
        checkpoint: note.to_owned(),
        range: contiguous(indices).map(|range| RangeJson {
            first: range.start,
            end: range.end,
        }),
        consistency,
        entries,
    };
    match serde_json::to_string_pretty(&file) {
        Ok(text) if text.len() < BUNDLE_BYTES_MAX => Ok(text + "\n"),
        _ => Err(too_large()),
    }
}

/// What a bundle proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub checkpoint: Checkpoint,
    /// In the log, in the log's order.
    pub entries: Vec<VerifiedEntry>,
    /// The entries are all that the log holds in this range.
    pub range: Option<Range<u64>>,
    pub witnesses: Vec<Witnessed>,
    /// What it does not prove.
    pub warnings: Vec<Warning>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedEntry {
    pub index: u64,
    pub entry: Entry,
}

/// What a bundle that verifies leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// The log's operator could have signed another history for somebody else.
    NoWitness,
    /// Entries that are not in the bundle may say more.
    NotTheWholeLog,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoWitness => {
                "does not exclude a second history: no known witness has cosigned the checkpoint"
            }
            Self::NotTheWholeLog => "a part of the log: it says nothing about the other entries",
        })
    }
}

/// Verifies a bundle with the log's key and, if there are any, the keys of witnesses
/// (see [`Checkpoint::open`]). `previous` is a checkpoint that the verifier kept: the bundle's
/// must be the same tree or, by the proof it carries, one that has only grown from it.
///
/// # Errors
/// The first thing that does not hold, where it is, and who must act.
pub fn verify(
    bundle: &[u8],
    keys: &[Vkey],
    previous: Option<&Checkpoint>,
) -> Result<Verified, Failure> {
    let file = read(bundle)?;
    let consistency = file.consistency;
    let opened = match judge(None, &file.checkpoint, keys, None) {
        Judgement::First(opened) => opened,
        other => return Err(alarm_of(other)),
    };
    if file.origin != opened.checkpoint.origin {
        let what = "the file names another origin than the signed checkpoint";
        return Err(Failure::altered(Place::Checkpoint, what));
    }
    if let Some(previous) = previous {
        check_growth(previous, &file.checkpoint, keys, consistency.as_ref())?;
    }
    let checkpoint = opened.checkpoint;
    let range = file.range.map(|range| range.first..range.end);
    check_indices(&file.entries, range.as_ref())?;
    let mut entries = Vec::new();
    for EntryJson { index, leaf, proof } in file.entries {
        let proof: Vec<_> = proof.into_iter().map(|hash| hash.0).collect();
        let hash = leaf_hash(leaf.as_bytes());
        verify_inclusion(index, checkpoint.size, &hash, &proof, &checkpoint.root).map_err(
            |refused| {
                let what = format!("the entry or its inclusion proof was altered: {refused}");
                Failure::altered(Place::Entry(index), what)
            },
        )?;
        let entry = Entry::from_leaf(leaf.as_bytes()).map_err(|refused| {
            let what = format!("it is in the log, but cannot be read: {refused}");
            Failure::mistaken(Place::Entry(index), what)
        })?;
        entries.push(VerifiedEntry { index, entry });
    }
    let mut warnings = Vec::new();
    if opened.witnesses.is_empty() {
        warnings.push(Warning::NoWitness);
    }
    if entries.len() as u64 != checkpoint.size {
        warnings.push(Warning::NotTheWholeLog);
    }
    Ok(Verified {
        checkpoint,
        entries,
        range,
        witnesses: opened.witnesses,
        warnings,
    })
}

/// Parses the file; nothing in it is believed yet.
fn read(bundle: &[u8]) -> Result<BundleJson, Failure> {
    if bundle.len() > BUNDLE_BYTES_MAX {
        return Err(Failure::unreadable(Place::File, "larger than 16 MiB"));
    }
    let file: BundleJson = serde_json::from_slice(bundle).map_err(|error| {
        // serde_json's text may repeat what the file holds; its category and place do not.
        let category = match error.classify() {
            serde_json::error::Category::Eof => "it ends too early",
            serde_json::error::Category::Data => {
                "a field is unknown, missing, doubled or malformed"
            }
            _ => "it is not JSON",
        };
        let at = format!("line {}, column {}", error.line(), error.column());
        Failure::unreadable(Place::File, format!("{category} ({at})"))
    })?;
    if file.format != FORMAT {
        let what = format!("not of the format {FORMAT}");
        return Err(Failure::unreadable(Place::File, what));
    }
    if file.entries.len() > ENTRIES_MAX {
        return Err(Failure::unreadable(Place::File, "more than 65536 entries"));
    }
    if file.range.as_ref().is_some_and(|r| r.first >= r.end) {
        return Err(Failure::unreadable(Place::File, "an empty range"));
    }
    Ok(file)
}

fn check_growth(
    previous: &Checkpoint,
    note: &str,
    keys: &[Vkey],
    consistency: Option<&ConsistencyJson>,
) -> Result<(), Failure> {
    let proof: Option<Vec<_>> = consistency
        .filter(|consistency| consistency.from == previous.size)
        .map(|consistency| consistency.proof.iter().map(|hash| hash.0).collect());
    match judge(Some(previous), note, keys, proof.as_deref()) {
        Judgement::Unchanged(_) | Judgement::Grown { .. } => Ok(()),
        other => Err(alarm_of(other)),
    }
}

/// Indices rise; within a claimed range none is missing.
fn check_indices(entries: &[EntryJson], range: Option<&Range<u64>>) -> Result<(), Failure> {
    let rises = |pair: &[EntryJson]| match pair {
        [before, after] if before.index >= after.index => Some(after.index),
        _ => None,
    };
    if let Some(index) = entries.windows(2).find_map(rises) {
        let what = "it stands after an entry that comes later in the log";
        return Err(Failure::altered(Place::Entry(index), what));
    }
    let Some(range) = range else { return Ok(()) };
    let (first, last) = (range.start, range.end.saturating_sub(1));
    let mut expected = range.clone();
    for entry in entries {
        let wanted = expected.next();
        if wanted != Some(entry.index) {
            let (index, what) = match wanted {
                Some(wanted) if wanted < entry.index => (wanted, "it is missing"),
                _ => (entry.index, "it lies outside"),
            };
            return Err(Failure::altered(
                Place::Entry(index),
                format!("{what}, but the bundle claims to hold exactly entries {first} to {last}"),
            ));
        }
    }
    match expected.next() {
        None => Ok(()),
        Some(index) => Err(Failure::altered(
            Place::Entry(index),
            format!(
                "it is missing, but the bundle claims to hold exactly entries {first} to {last}"
            ),
        )),
    }
}

fn alarm_of(judgement: Judgement) -> Failure {
    match judgement {
        Judgement::NeedProof { from, to } => Failure::mistaken(
            Place::ConsistencyProof,
            format!(
                "the bundle does not prove that the {from} leaves you have seen became these {to}; \
                 ask for one made since {from}"
            ),
        ),
        other => other
            .alarm()
            .cloned()
            .unwrap_or_else(|| Failure::unreadable(Place::Checkpoint, "it could not be judged")),
    }
}

fn contiguous(indices: &BTreeSet<u64>) -> Option<Range<u64>> {
    let (first, last) = (*indices.first()?, *indices.last()?);
    let span = (last - first).checked_add(1)?;
    (span == u64::try_from(indices.len()).ok()?).then_some(first..last + 1)
}

fn too_large() -> Failure {
    Failure::mistaken(
        Place::File,
        "a bundle holds at most 65536 entries and 16 MiB: choose fewer entries",
    )
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleJson {
    format: String,
    origin: String,
    checkpoint: String,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    range: Option<RangeJson>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    consistency: Option<ConsistencyJson>,
    entries: Vec<EntryJson>,
}

/// `first` to `end`, without `end`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeJson {
    first: u64,
    end: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsistencyJson {
    from: u64,
    proof: Vec<Hash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryJson {
    index: u64,
    leaf: String,
    proof: Vec<Hash>,
}

/// 32 bytes as base64. Read in place: a long list of rubbish ends at its first element.
struct Hash(Digest);

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Hash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the base64 of 32 bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Hash, E> {
                decode_digest(text)
                    .map(Hash)
                    .ok_or_else(|| E::custom("not the base64 of 32 bytes"))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// An optional field may be left out, but not be null: one meaning, one spelling.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}
