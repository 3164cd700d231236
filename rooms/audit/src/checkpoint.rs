//! What a log signs: its name, its size, its root (C2SP tlog-checkpoint).

use crate::failure::{Failure, Place};
use crate::note::{self, KeyKind, NoteRefused, Vkey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{Digest, Timestamp};

/// No tree is larger: sizes and indices stay exact in every JSON reader (RFC 7493 section 2.2).
pub const TREE_SIZE_MAX: u64 = 1 << 53;

/// The state of a log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, a URL without scheme: `audit.example.com/tenant1`. Equal to its key's name.
    pub origin: String,
    /// How many leaves the tree has.
    pub size: u64,
    pub root: Digest,
}

impl Checkpoint {
    /// The text to be signed: three lines, no extension lines.
    #[must_use]
    pub fn to_text(&self) -> String {
        let root = STANDARD.encode(self.root.0);
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    /// Reads a text as [`Checkpoint::to_text`] writes it, and no other.
    ///
    /// # Errors
    /// Anything else: missing or further lines, a size with leading zeros or above
    /// [`TREE_SIZE_MAX`], a root that is not 32 bytes. Who must act: the verifier.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let refuse = |what: &str| Err(Failure::unreadable(Place::Checkpoint, what));
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return refuse("a checkpoint has three lines: origin, size, root");
        };
        let (Some(""), None) = (lines.next(), lines.next()) else {
            return refuse("a checkpoint has three lines: origin, size, root");
        };
        if origin.is_empty() {
            return refuse("the origin is empty");
        }
        let Some(size) = decimal(size) else {
            return refuse("the size is not a decimal number below 2^53 without leading zeros");
        };
        let Some(root) = decode_digest(root) else {
            return refuse("the root is not the base64 of 32 bytes");
        };
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
        })
    }

    /// Opens a signed checkpoint: the log's own key must have signed it, and every known witness
    /// whose signature is there must fit.
    ///
    /// The log's key is one in `keys` of kind [`KeyKind::Ed25519`] whose name is the origin;
    /// witnesses are those of kind [`KeyKind::Cosignature`].
    ///
    /// # Errors
    /// Place `Signature` or `Checkpoint`.
    pub fn open(note: &str, keys: &[Vkey]) -> Result<OpenedCheckpoint, Failure> {
        let opened = note::open(note, keys).map_err(|refused| match refused {
            NoteRefused::Malformed(what) => {
                Failure::unreadable(Place::Checkpoint, format!("not a signed note: {what}"))
            }
            NoteRefused::BadSignature(key) => Failure::altered(
                Place::Signature(key),
                "it does not fit: the origin, size, root or signature was altered",
            ),
            NoteRefused::NoKnownKey => no_log_key(keys),
        })?;
        let checkpoint = Self::parse(opened.text)?;
        let by_the_log =
            |by: &note::SignatureBy| by.kind == KeyKind::Ed25519 && by.name == checkpoint.origin;
        if !opened.signatures.iter().any(by_the_log) {
            return Err(no_log_key(keys));
        }
        let witnesses = opened
            .signatures
            .iter()
            .filter_map(|by| {
                Some(Witnessed {
                    witness: by.name.clone(),
                    time: by.time?,
                })
            })
            .collect();
        Ok(OpenedCheckpoint {
            checkpoint,
            witnesses,
        })
    }
}

/// A checkpoint whose signature held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedCheckpoint {
    pub checkpoint: Checkpoint,
    /// Those who also saw it. Empty: a second history is not excluded.
    pub witnesses: Vec<Witnessed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    pub witness: String,
    pub time: Timestamp,
}

/// Exactly the base64 (standard alphabet, padded) of 32 bytes.
pub(crate) fn decode_digest(text: &str) -> Option<Digest> {
    if text.len() != 44 {
        return None;
    }
    Some(Digest(STANDARD.decode(text).ok()?.try_into().ok()?))
}

/// A number as everybody writes it: no sign, no leading zero, at most [`TREE_SIZE_MAX`].
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let minimal = text == "0" || !text.starts_with('0');
    let digits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !(minimal && digits) {
        return None;
    }
    text.parse().ok().filter(|number| *number <= TREE_SIZE_MAX)
}

fn no_log_key(keys: &[Vkey]) -> Failure {
    let names: Vec<_> = keys.iter().map(Vkey::name).collect();
    Failure::mistaken(
        Place::Signature(names.join(", ")),
        "the checkpoint is not signed by the log's key that you gave",
    )
}
