//! What a leaf of the log holds: one act, as canonical JSON.
//!
//! The canonical form is RFC 8785 for an object of strings and one integer: UTF-8, keys sorted
//! by byte, no white space, no float, no duplicate key; in strings only `"`, `\` and the control
//! characters below U+0020 are escaped (`\b \t \n \f \r`, else `\u00xx` in lower case). There is
//! exactly one text for an entry, and reading refuses every other.

use model::{TenantId, Timestamp};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::tiles::LEAF_BYTES_MAX;

/// The only version of the format so far.
const VERSION: u32 = 1;
const NAMING_BYTES_MAX: usize = 512;
const ACTION_BYTES_MAX: usize = 64;
const DETAILS_MAX: usize = 64;
const DETAIL_KEY_BYTES_MAX: usize = 64;
const DETAIL_VALUE_BYTES_MAX: usize = 16 * 1024;
/// 9999-12-31T23:59:59.999Z: later moments have no text of their own.
const LAST_MILLIS: u64 = 253_402_300_799_999;

/// One act: who did what to what, and when.
///
/// **Personal data must not be in it in clear.** A leaf can never be changed or removed, so the
/// caller logs a salted digest or an opaque id in its place and keeps the salt where it can be
/// erased. Nor does a secret belong in it: whoever verifies the log reads every leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub time: Timestamp,
    pub tenant: TenantId,
    /// Who acted: `device/cam-1`, `service/telemetry`, `operator/7f3a`. 1 to 512 bytes.
    pub actor: String,
    /// Room and past participle: `identity.device-enrolled`. `[a-z0-9-]` words with dots between,
    /// at least two, at most 64 bytes.
    pub action: String,
    /// What it was done to: `device/cam-1`, `certificate/<id>`. 1 to 512 bytes.
    pub object: String,
    /// At most 64; keys `[a-z][a-z0-9_]*` of at most 64 bytes, values of at most 16 KiB. What is
    /// larger is kept elsewhere and logged by its digest.
    pub details: BTreeMap<String, String>,
    /// The request that caused it, to find it in other records. 1 to 512 bytes.
    pub request: Option<String>,
}

impl Entry {
    /// The leaf: canonical JSON of at most 65,535 bytes.
    ///
    /// # Errors
    /// Which field breaks which rule. Who must act: us, the caller built it.
    pub fn to_leaf(&self) -> Result<Vec<u8>, InvalidEntry> {
        self.check()?;
        let mut json = String::with_capacity(256);
        json.push_str("{\"action\":");
        push_string(&mut json, &self.action);
        json.push_str(",\"actor\":");
        push_string(&mut json, &self.actor);
        json.push_str(",\"details\":{");
        for (count, (key, value)) in self.details.iter().enumerate() {
            if count > 0 {
                json.push(',');
            }
            push_string(&mut json, key);
            json.push(':');
            push_string(&mut json, value);
        }
        json.push_str("},\"object\":");
        push_string(&mut json, &self.object);
        if let Some(request) = &self.request {
            json.push_str(",\"request\":");
            push_string(&mut json, request);
        }
        json.push_str(",\"tenant\":");
        push_string(&mut json, self.tenant.as_str());
        // Writing to a String cannot fail.
        let _ = write!(json, ",\"time\":\"{}\",\"v\":{VERSION}}}", self.time);
        if json.len() > LEAF_BYTES_MAX {
            return Err(InvalidEntry::TooLarge);
        }
        Ok(json.into_bytes())
    }

    /// Reads a leaf that [`Entry::to_leaf`] could have written, and no other.
    ///
    /// # Errors
    /// Too large, not JSON, an unknown, missing or doubled field, another version, a broken rule,
    /// or not in canonical form.
    pub fn from_leaf(leaf: &[u8]) -> Result<Self, InvalidLeaf> {
        if leaf.len() > LEAF_BYTES_MAX {
            return Err(InvalidLeaf::Entry(InvalidEntry::TooLarge));
        }
        let raw: Raw = serde_json::from_slice(leaf).map_err(|error| InvalidLeaf::Json {
            column: error.column(),
        })?;
        if raw.v != VERSION {
            return Err(InvalidLeaf::Version(raw.v));
        }
        let entry = Self {
            time: parse_time(&raw.time).ok_or(InvalidLeaf::Entry(InvalidEntry::Time))?,
            tenant: TenantId::new(&raw.tenant)
                .map_err(|_| InvalidLeaf::Entry(InvalidEntry::Tenant))?,
            actor: raw.actor,
            action: raw.action,
            object: raw.object,
            details: raw.details,
            request: raw.request,
        };
        // One comparison refuses white space, unsorted and doubled keys, needless escapes, a
        // null request and every other second spelling of the same entry.
        if entry.to_leaf()? == leaf {
            Ok(entry)
        } else {
            Err(InvalidLeaf::NotCanonical)
        }
    }

    fn check(&self) -> Result<(), InvalidEntry> {
        let named = |text: &str| (1..=NAMING_BYTES_MAX).contains(&text.len());
        if self.time.as_millis() > LAST_MILLIS {
            return Err(InvalidEntry::Time);
        }
        if !named(&self.actor) {
            return Err(InvalidEntry::Actor);
        }
        if !is_action(&self.action) {
            return Err(InvalidEntry::Action);
        }
        if !named(&self.object) {
            return Err(InvalidEntry::Object);
        }
        if self.request.as_deref().is_some_and(|text| !named(text)) {
            return Err(InvalidEntry::Request);
        }
        let fits = |(key, value): (&String, &String)| {
            is_detail_key(key) && value.len() <= DETAIL_VALUE_BYTES_MAX
        };
        if self.details.len() > DETAILS_MAX || !self.details.iter().all(fits) {
            return Err(InvalidEntry::Details);
        }
        Ok(())
    }
}

/// One line for a person. All that could act on a terminal is escaped.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {}",
            self.time,
            self.actor.escape_debug(),
            self.action.escape_debug(),
            self.object.escape_debug()
        )?;
        for (key, value) in &self.details {
            write!(f, " {}={}", key.escape_debug(), value.escape_debug())?;
        }
        Ok(())
    }
}

/// Why an entry cannot be a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    #[error("time: write RFC 3339 in UTC with milliseconds, years 1970 to 9999")]
    Time,
    #[error("tenant: not a valid name")]
    Tenant,
    #[error("actor: use 1 to 512 bytes")]
    Actor,
    #[error("action: use words of a-z 0-9 - with dots between, at least two, at most 64 bytes")]
    Action,
    #[error("object: use 1 to 512 bytes")]
    Object,
    #[error("request: use 1 to 512 bytes or leave it out")]
    Request,
    #[error(
        "details: use at most 64, keys [a-z][a-z0-9_]* up to 64 bytes, values up to 16 KiB; \
         log the digest of what is larger"
    )]
    Details,
    #[error("the entry is larger than 65535 bytes; log the digest of its largest part instead")]
    TooLarge,
}

/// Why bytes are not the leaf of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLeaf {
    #[error("not JSON with exactly the fields of an entry (near byte {column})")]
    Json { column: usize },
    #[error("entry format version {0} is not known here; use a newer fleetward")]
    Version(u32),
    #[error(transparent)]
    Entry(#[from] InvalidEntry),
    #[error("not in canonical form, so not written by this log")]
    NotCanonical,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    action: String,
    actor: String,
    details: BTreeMap<String, String>,
    object: String,
    request: Option<String>,
    tenant: String,
    time: String,
    v: u32,
}

fn is_action(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= ACTION_BYTES_MAX && text.contains('.') && text.split('.').all(is_word)
}

fn is_detail_key(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= DETAIL_KEY_BYTES_MAX
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// RFC 8785 section 3.2.2.2.
fn push_string(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\u{8}' => json.push_str("\\b"),
            '\t' => json.push_str("\\t"),
            '\n' => json.push_str("\\n"),
            '\u{c}' => json.push_str("\\f"),
            '\r' => json.push_str("\\r"),
            c if c < ' ' => {
                // Writing to a String cannot fail.
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

/// The reverse of `Timestamp`'s Display, and of nothing else.
fn parse_time(text: &str) -> Option<Timestamp> {
    if text.len() != 24 || !text.is_ascii() {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days by 400-year eras that begin in March, as Timestamp counts them.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let millis = ((days * 24 + hour) * 60 + minute) * 60 + second;
    let time = Timestamp::from_millis(millis * 1000 + number(20..23)?);
    // Separators, the 30th of February, a 61st second: none of them prints like this again.
    (time.to_string() == text).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> Entry {
        Entry {
            time: Timestamp::from_millis(1_793_577_599_123),
            tenant: TenantId::new("acme").unwrap(),
            actor: "operator/7f3a".to_owned(),
            action: "identity.device-revoked".to_owned(),
            object: "device/cam-1".to_owned(),
            details: BTreeMap::from([
                ("reason".to_owned(), "key-compromise".to_owned()),
                (
                    "note".to_owned(),
                    "a\"b\\c\n\u{1}\u{7f}ä\u{202e}".to_owned(),
                ),
            ]),
            request: None,
        }
    }

    const LEAF: &str = concat!(
        r#"{"action":"identity.device-revoked","actor":"operator/7f3a","#,
        r#""details":{"note":"a\"b\\c\n\u0001"#,
        "\u{7f}ä\u{202e}",
        r#"","reason":"key-compromise"},"object":"device/cam-1","tenant":"acme","#,
        r#""time":"2026-11-01T23:59:59.123Z","v":1}"#
    );

    #[test]
    fn an_entry_has_one_text() {
        assert_eq!(String::from_utf8(entry().to_leaf().unwrap()).unwrap(), LEAF);
        assert_eq!(Entry::from_leaf(LEAF.as_bytes()), Ok(entry()));
    }

    #[test]
    fn every_second_spelling_is_refused() {
        for (from, to) in [
            ("{\"action\"", "{ \"action\""),
            ("\"v\":1", "\"v\":1.0"),
            ("\"v\":1", "\"v\":01"),
            ("\"v\":1", "\"v\":1e0"),
            ("\"v\":1", "\"v\":2"),
            ("\"v\":1", "\"v\":-1"),
            ("\"v\":1", "\"v\":99999999999999999999"),
            ("\"v\":1", "\"v\":1,\"v\":1"),
            ("\"v\":1", "\"v\":1,\"x\":1"),
            ("\"v\":1}", "\"v\":1}\n"),
            ("\"v\":1}", "\"v\":1"),
            (
                "\"tenant\":\"acme\"",
                "\"request\":null,\"tenant\":\"acme\"",
            ),
            (
                "\"tenant\":\"acme\"",
                "\"request\":\"\",\"tenant\":\"acme\"",
            ),
            ("\"tenant\":\"acme\"", "\"tenant\":\"../acme\""),
            ("\"tenant\":\"acme\",", ""),
            ("\"reason\":\"key-compromise\"", "\"note\":\"b\""),
            ("\"reason\":\"key", "\"note\":\"x\",\"reason\":\"key"),
            ("\"note\"", "\"Note\""),
            ("\"note\":", "\"zote\":"),
            ("\"key-compromise\"", "{}"),
            ("\"key-compromise\"", "1"),
            ("\\u0001", "\u{1}"),
            ("\\u0001", "\\u0041"),
            ("\\u0001", "\\ud83d"),
            ("\\n", "\\u000a"),
            ("ä", "\\u00e4"),
            ("\\\\", "\\\\\\/"),
            ("23:59:59.123Z", "23:59:59.123z"),
            ("23:59:59.123Z", "23:59:60.123Z"),
            ("23:59:59.123Z", "23:59:59Z"),
            ("2026-11-01T", "2026-11-31T"),
            ("2026-11-01T", "2026-11-01 "),
            ("2026-11-01T", "+026-11-01T"),
            ("identity.device-revoked", "revoked"),
            ("identity.device-revoked", "identity..revoked"),
            ("identity.device-revoked", "Identity.revoked"),
        ] {
            assert!(LEAF.contains(from), "{from} is not in the example");
            let altered = LEAF.replacen(from, to, 1);
            assert!(Entry::from_leaf(altered.as_bytes()).is_err(), "{altered}");
        }
    }

    #[test]
    fn hostile_leaves_are_refused() {
        let deep = format!("{{\"details\":{}", "[".repeat(60_000));
        let huge = vec![b' '; LEAF_BYTES_MAX + 1];
        let not_utf8 = LEAF.replace('ä', "?").into_bytes();
        let not_utf8: Vec<u8> = not_utf8
            .into_iter()
            .map(|b| if b == b'?' { 0xff } else { b })
            .collect();
        for leaf in [
            deep.as_bytes(),
            &huge,
            &not_utf8,
            b"",
            b"null",
            b"[]",
            b"{}",
        ] {
            assert!(Entry::from_leaf(leaf).is_err());
        }
    }

    #[test]
    fn an_entry_that_could_not_be_read_back_is_not_written() {
        let long = |count| "x".repeat(count);
        let changes: [fn(&mut Entry, String); 5] = [
            |e, s| e.actor = s,
            |e, s| e.object = s,
            |e, s| e.request = Some(s),
            |e, s| e.action = s,
            |e, s| drop(e.details.insert(s, String::new())),
        ];
        for change in changes {
            for text in [long(513), String::new()] {
                let mut entry = entry();
                change(&mut entry, text);
                assert!(entry.to_leaf().is_err());
            }
        }
        let mut many = entry();
        many.details = (0..65).map(|i| (format!("k{i}"), String::new())).collect();
        assert_eq!(many.to_leaf(), Err(InvalidEntry::Details));
        many.details = (0..64).map(|i| (format!("k{i}"), long(1024))).collect();
        assert_eq!(many.to_leaf(), Err(InvalidEntry::TooLarge));
        let mut late = entry();
        late.time = Timestamp::from_millis(LAST_MILLIS + 1);
        assert_eq!(late.to_leaf(), Err(InvalidEntry::Time));
    }

    #[test]
    fn device_text_cannot_act_on_a_terminal() {
        let mut entry = entry();
        entry.object = "device/\u{1b}[2Jcam\r\u{202e}".to_owned();
        let line = entry.to_string();
        assert!(
            line.chars().all(|c| !c.is_control() && c != '\u{202e}'),
            "{line}"
        );
    }

    proptest! {
        #[test]
        fn entries_read_back_as_written(
            millis in 0..=LAST_MILLIS,
            actor in ".{1,100}",
            object in "\\PC{1,100}",
            action in "[a-z0-9-]{1,10}(\\.[a-z0-9-]{1,10}){1,3}",
            details in prop::collection::btree_map("[a-z][a-z0-9_]{0,20}", any::<String>(), 0..8),
            request in prop::option::of("[\\x00-\\x20\"\\\\]{1,20}"),
        ) {
            let entry = Entry {
                time: Timestamp::from_millis(millis),
                tenant: TenantId::new("acme").unwrap(),
                actor, action, object, details, request,
            };
            let leaf = entry.to_leaf().unwrap();
            // A second encoder agrees: serde_json sorts keys and escapes as RFC 8785 does.
            let value: serde_json::Value = serde_json::from_slice(&leaf).unwrap();
            prop_assert_eq!(&serde_json::to_vec(&value).unwrap(), &leaf);
            prop_assert_eq!(Entry::from_leaf(&leaf).unwrap(), entry);
        }

        #[test]
        fn no_byte_of_a_leaf_can_change_and_read_the_same(at in 0..LEAF.len(), with: u8) {
            let mut leaf = LEAF.as_bytes().to_vec();
            prop_assume!(leaf[at] != with);
            leaf[at] = with;
            prop_assert_ne!(Entry::from_leaf(&leaf), Ok(entry()));
        }
    }
}
