//! Topic names (MQTT 4.7).

use crate::rule::{self, Malformed};

/// Is it a valid topic name: 1 to 65,535 bytes, no wildcard, no U+0000?
#[must_use]
pub fn is_topic(text: &str) -> bool {
    text.len() <= usize::from(u16::MAX) && check_topic(text).is_ok() && !text.contains('\0')
}

/// What strings off the wire still need: their length and U+0000 were checked when they were read.
pub(crate) fn check_topic(text: &str) -> Result<(), Malformed> {
    if text.is_empty() {
        return Err(rule::TOPIC_EMPTY);
    }
    if text.bytes().any(|b| b == b'+' || b == b'#') {
        return Err(rule::TOPIC_WILDCARD);
    }
    Ok(())
}

/// A first-level wildcard does not reach these (MQTT 4.7.2).
pub(crate) fn is_dollar(text: &str) -> bool {
    text.starts_with('$')
}
