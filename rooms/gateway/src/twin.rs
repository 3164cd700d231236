//! A device's twin: what it should be (desired), what it says that it is (reported), and what it still
//! has to change (delta). Documents of JSON; changes are JSON merge patches (RFC 7396).
//!
//! What is reported is a device's own word: it is shown and compared, and grants nothing.

use serde_json::{Map, Value};

/// Of one document as it is kept.
pub const DOCUMENT_BYTES_MAX: usize = 8 * 1024;
/// Objects and arrays in one another.
pub const DEPTH_MAX: usize = 8;

/// Why a document or a patch is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TwinRefusal {
    #[error("it has {0} bytes; a document has {DOCUMENT_BYTES_MAX} at most")]
    TooLarge(usize),
    #[error("it is not JSON: {0}")]
    NotJson(String),
    #[error("it is not a JSON object")]
    NotAnObject,
    #[error("objects and arrays lie deeper in one another than {DEPTH_MAX}")]
    TooDeep,
}

impl TwinRefusal {
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "document-too-large",
            Self::NotJson(_) => "document-not-json",
            Self::NotAnObject => "document-not-an-object",
            Self::TooDeep => "document-too-deep",
        }
    }
}

/// A document or a patch, within the caps.
///
/// # Errors
/// What is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Value, TwinRefusal> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(TwinRefusal::TooLarge(bytes.len()));
    }
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| TwinRefusal::NotJson(error.to_string()))?;
    check(&value)?;
    Ok(value)
}

/// A document after a patch, if it is still within the caps.
///
/// # Errors
/// It is not.
pub fn patched(document: &Value, patch: &Value) -> Result<Value, TwinRefusal> {
    let after = merged(document.clone(), patch);
    check(&after)?;
    let bytes = after.to_string().len();
    if bytes > DOCUMENT_BYTES_MAX {
        return Err(TwinRefusal::TooLarge(bytes));
    }
    Ok(after)
}

/// What a device has to change: the patch that brings what it reported to what is desired, as far as
/// something is. What it reports beyond that is its own.
#[must_use]
pub fn delta(desired: &Value, reported: &Value) -> Value {
    let mut wanted = Map::new();
    for (key, value) in desired.as_object().into_iter().flatten() {
        match reported.get(key) {
            Some(is) if is == value => {}
            Some(is) if is.is_object() && value.is_object() => {
                let below = delta(value, is);
                if below.as_object().is_some_and(|below| !below.is_empty()) {
                    wanted.insert(key.clone(), below);
                }
            }
            _ => drop(wanted.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(wanted)
}

/// RFC 7396, section 2.
fn merged(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut target = match target {
        Value::Object(target) => target,
        _ => Map::new(),
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            let before = target.remove(key).unwrap_or(Value::Null);
            target.insert(key.clone(), merged(before, value));
        }
    }
    Value::Object(target)
}

fn check(value: &Value) -> Result<(), TwinRefusal> {
    if !value.is_object() {
        return Err(TwinRefusal::NotAnObject);
    }
    if depth(value) > DEPTH_MAX {
        return Err(TwinRefusal::TooDeep);
    }
    Ok(())
}

/// The parser bounds it before this runs.
fn depth(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Appendix A of RFC 7396, as far as its target is an object.
    #[test]
    fn the_examples_of_the_standard() {
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (
                json!({"a":"b","b":"c"}),
                json!({"a":null}),
                json!({"b":"c"}),
            ),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ] {
            assert_eq!(merged(target, &patch), result);
        }
    }

    #[test]
    fn the_delta_is_what_is_missing_and_nothing_else() {
        let desired = json!({"led": {"on": true, "hue": 7}, "rate": 5, "tags": [1, 2]});
        assert_eq!(delta(&desired, &json!({})), desired);
        assert_eq!(delta(&desired, &desired), json!({}));
        let reported = json!({"led": {"on": true, "hue": 3, "warm": 1}, "rate": "5", "own": 9});
        let expected = json!({"led": {"hue": 7}, "rate": 5, "tags": [1, 2]});
        assert_eq!(delta(&desired, &reported), expected);
    }

    /// Over small documents: a device that applies the delta has nothing left to change, and what it
    /// reports beyond that stays.
    #[test]
    fn applying_the_delta_reaches_the_desired_state() {
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            let (desired, reported) = (document(&mut seed, 3), document(&mut seed, 3));
            let applied = merged(reported.clone(), &delta(&desired, &reported));
            assert_eq!(delta(&desired, &applied), json!({}), "{desired} {reported}");
            for key in reported.as_object().unwrap().keys() {
                assert!(applied.get(key).is_some(), "{desired} {reported}");
            }
        }
    }

    fn document(seed: &mut u64, depth: u64) -> Value {
        let mut fields = Map::new();
        for key in ["a", "b", "c"] {
            let value = match random(seed, 6) {
                0 | 1 => continue,
                2 if depth > 0 => document(seed, depth - 1),
                3 => json!([random(seed, 2), null]),
                4 => json!(random(seed, 2)),
                _ => json!("x"),
            };
            fields.insert(key.to_owned(), value);
        }
        Value::Object(fields)
    }

    fn random(seed: &mut u64, below: u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed % below
    }

    #[test]
    fn a_hostile_document_is_refused_and_never_kept() {
        let code = |bytes: &[u8]| read(bytes).map_err(|refusal| refusal.code());
        assert_eq!(code(b"[]"), Err("document-not-an-object"));
        assert_eq!(code(b"{\"a\":"), Err("document-not-json"));
        assert_eq!(code(b"{\"a\":\xff}"), Err("document-not-json"));
        let deep = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
        assert!(read(deep(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(
            code(deep(DEPTH_MAX + 1).as_bytes()),
            Err("document-too-deep")
        );
        assert_eq!(code(deep(1000).as_bytes()), Err("document-not-json"));
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(DOCUMENT_BYTES_MAX));
        assert_eq!(code(large.as_bytes()), Err("document-too-large"));
        // Small patches do not add up to a large document.
        let half = "x".repeat(DOCUMENT_BYTES_MAX / 2);
        let once = patched(&json!({}), &json!({ "a": half })).unwrap();
        let twice = patched(&once, &json!({ "b": half }));
        assert_eq!(twice.map_err(|it| it.code()), Err("document-too-large"));
    }
}
