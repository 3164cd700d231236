//! Signed notes (C2SP signed-note) with Ed25519 keys, and cosignatures (C2SP tlog-cosignature).

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Timestamp;
use std::fmt;
use std::str::FromStr;

/// A longer note is refused unread: enough for 16 signatures of the largest kind known.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;

/// C2SP asks for at least 16.
const SIGNATURES_MAX: usize = 64;
const KEY_NAME_BYTES_MAX: usize = 255;
const VKEY_BYTES_MAX: usize = 512;

/// What a key may vouch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Type 0x01: signs the text itself. The log's own key.
    Ed25519,
    /// Type 0x04: signs a checkpoint with the time at which it was seen. A witness.
    Cosignature,
}

impl KeyKind {
    const fn type_byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::Cosignature => 0x04,
        }
    }
}

/// A verifier key: `<name>+<key id in hex>+<base64 of type and public key>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vkey {
    name: String,
    kind: KeyKind,
    id: [u8; 4],
    public_key: [u8; 32],
}

impl Vkey {
    /// # Errors
    /// The name is empty, longer than 255 bytes, or holds a space, a control character or `+`.
    pub fn new(name: &str, kind: KeyKind, public_key: [u8; 32]) -> Result<Self, InvalidVkey> {
        if !is_key_name(name) {
            return Err(InvalidVkey::Name);
        }
        Ok(Self {
            id: key_id(name, kind, &public_key),
            name: name.to_owned(),
            kind,
            public_key,
        })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The first four bytes of SHA-256 over name, newline, type and public key.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The raw Ed25519 public key.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    /// Checks one signature blob (what follows the key id). The time is a cosignature's.
    fn verify(&self, text: &str, blob: &[u8]) -> Option<Option<Timestamp>> {
        let key = UnparsedPublicKey::new(&ED25519, self.public_key);
        match self.kind {
            KeyKind::Ed25519 => key.verify(text.as_bytes(), blob).ok().map(|()| None),
            KeyKind::Cosignature => {
                let (seconds, signature) = blob.split_first_chunk::<8>()?;
                let seconds = u64::from_be_bytes(*seconds);
                let message = format!("cosignature/v1\ntime {seconds}\n{text}");
                key.verify(message.as_bytes(), signature).ok()?;
                Some(Some(Timestamp::from_seconds(seconds)))
            }
        }
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![self.kind.type_byte()];
        key.extend_from_slice(&self.public_key);
        let id = u32::from_be_bytes(self.id);
        write!(f, "{}+{id:08x}+{}", self.name, STANDARD.encode(key))
    }
}

impl FromStr for Vkey {
    type Err = InvalidVkey;

    fn from_str(text: &str) -> Result<Self, InvalidVkey> {
        if text.len() > VKEY_BYTES_MAX {
            return Err(InvalidVkey::Form);
        }
        // The base64 may hold further `+`: only the first two divide.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidVkey::Form);
        };
        let key = STANDARD.decode(key).map_err(|_| InvalidVkey::Form)?;
        let (kind, public_key) = key.split_first().ok_or(InvalidVkey::Form)?;
        let kind = match kind {
            0x01 => KeyKind::Ed25519,
            0x04 => KeyKind::Cosignature,
            other => return Err(InvalidVkey::Kind(*other)),
        };
        let public_key = public_key.try_into().map_err(|_| InvalidVkey::Form)?;
        let vkey = Self::new(name, kind, public_key)?;
        if format!("{:08x}", u32::from_be_bytes(vkey.id)) == id {
            Ok(vkey)
        } else {
            Err(InvalidVkey::Id)
        }
    }
}

/// Why a text is not a verifier key. The verifier must act: ask the log's operator for the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVkey {
    #[error("a verifier key is written <name>+<8 hex digits>+<base64>; copy the whole line")]
    Form,
    #[error("a key's name is 1 to 255 bytes without space, control character or +")]
    Name,
    #[error("the key's id does not fit its name and key: a character was lost or changed")]
    Id,
    #[error("keys of type {0:#04x} are not supported; use Ed25519 (1) or a cosignature key (4)")]
    Kind(u8),
}

/// A note with at least one valid signature by a known key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened<'n> {
    /// What was signed, its last newline included.
    pub text: &'n str,
    /// Who signed it, in the note's order, each key once.
    pub signatures: Vec<SignatureBy>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureBy {
    pub name: String,
    pub kind: KeyKind,
    /// When a witness saw it; `None` for [`KeyKind::Ed25519`].
    pub time: Option<Timestamp>,
}

/// Why a note says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteRefused {
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// A key that we know did not sign this text. The name is that key's.
    #[error("the signature of {} does not fit the text", .0.escape_debug())]
    BadSignature(String),
    #[error("no known key signed it")]
    NoKnownKey,
}

/// Opens a note. Signatures by unknown keys are ignored; a bad one by a known key refuses all.
///
/// # Errors
/// Malformed, a bad signature, or none by a key in `keys`.
pub fn open<'n>(note: &'n str, keys: &[Vkey]) -> Result<Opened<'n>, NoteRefused> {
    let (text, lines) = divide(note)?;
    let mut signatures: Vec<SignatureBy> = Vec::new();
    for (count, line) in lines.split_terminator('\n').enumerate() {
        if count >= SIGNATURES_MAX {
            return Err(NoteRefused::Malformed("it has more than 64 signatures"));
        }
        let (name, id, blob) = signature_line(line)?;
        let Some(key) = keys.iter().find(|key| key.name == name && key.id == id) else {
            continue;
        };
        let time = key
            .verify(text, &blob)
            .ok_or_else(|| NoteRefused::BadSignature(key.name.clone()))?;
        let seen = |s: &SignatureBy| s.name == key.name && s.kind == key.kind;
        if !signatures.iter().any(seen) {
            signatures.push(SignatureBy {
                name: key.name.clone(),
                kind: key.kind,
                time,
            });
        }
    }
    if signatures.is_empty() {
        return Err(NoteRefused::NoKnownKey);
    }
    Ok(Opened { text, signatures })
}

/// The note that says: this key signed this text.
///
/// # Errors
/// The signature is not this key's over this text, or the text is not one that a note can hold.
/// Nothing that would not open again leaves here.
pub fn assemble(text: &str, key: &Vkey, signature: &[u8]) -> Result<String, NoteRefused> {
    let mut blob = key.id.to_vec();
    blob.extend_from_slice(signature);
    let note = format!("{text}\n\u{2014} {} {}\n", key.name, STANDARD.encode(blob));
    let opened = open(&note, std::slice::from_ref(key))?;
    if opened.text == text {
        Ok(note)
    } else {
        Err(NoteRefused::Malformed("its text must end with a newline"))
    }
}

/// Splits at the last blank line: the text with its newline, and the signature lines.
fn divide(note: &str) -> Result<(&str, &str), NoteRefused> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteRefused::Malformed("it is longer than 64 KiB"));
    }
    if note.chars().any(|c| c.is_ascii_control() && c != '\n') {
        return Err(NoteRefused::Malformed("it holds a control character"));
    }
    let end = note
        .rfind("\n\n")
        .ok_or(NoteRefused::Malformed("it has no blank line"))?;
    let (text, rest) = note
        .split_at_checked(end.saturating_add(1))
        .ok_or(NoteRefused::Malformed("it has no blank line"))?;
    let lines = rest.strip_prefix('\n').unwrap_or(rest);
    if lines.is_empty() || !lines.ends_with('\n') {
        return Err(NoteRefused::Malformed(
            "its last line is not a whole signature",
        ));
    }
    Ok((text, lines))
}

/// `— <name> <base64 of key id and signature>`.
fn signature_line(line: &str) -> Result<(&str, [u8; 4], Vec<u8>), NoteRefused> {
    let refused = NoteRefused::Malformed("a signature line is not `\u{2014} <name> <base64>`");
    let Some((name, blob)) = line
        .strip_prefix("\u{2014} ")
        .and_then(|line| line.split_once(' '))
    else {
        return Err(refused);
    };
    let Ok(blob) = STANDARD.decode(blob) else {
        return Err(refused);
    };
    match blob.split_first_chunk::<4>() {
        Some((id, signature)) if is_key_name(name) && !signature.is_empty() => {
            Ok((name, *id, signature.to_vec()))
        }
        _ => Err(refused),
    }
}

fn is_key_name(name: &str) -> bool {
    (1..=KEY_NAME_BYTES_MAX).contains(&name.len())
        && !name
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

fn key_id(name: &str, kind: KeyKind, public_key: &[u8; 32]) -> [u8; 4] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(name.as_bytes());
    context.update(&[b'\n', kind.type_byte()]);
    context.update(public_key);
    let hash = context.finish();
    hash.as_ref()
        .first_chunk::<4>()
        .copied()
        .unwrap_or_default()
}
