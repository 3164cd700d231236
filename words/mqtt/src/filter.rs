//! Topic filters (MQTT 4.7) and what they match.

use crate::rule::{self, Malformed};
use crate::topic::is_dollar;
use std::fmt;
use std::sync::Arc;

/// Why a text is not a filter that we take. The subscriber must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// It breaks the grammar.
    #[error("not a topic filter: {}", .0.rule)]
    Malformed(Malformed),
    /// More than 65,535 bytes.
    #[error("a topic filter has at most 65,535 bytes (MQTT 4.7.3)")]
    TooLong,
    /// Allowed by the standard, not by us: SUBACK with 0x8f.
    #[error(
        "a topic filter has at most {} levels here; use fewer",
        Filter::LEVELS_MAX
    )]
    TooDeep,
}

/// A valid topic filter. A share prefix is not looked at: `$share/g/t` is three literal levels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter(Arc<str>);

impl Filter {
    /// Our own limit. It bounds the depth of [`crate::FilterTrie`] and so the stack that a match
    /// takes, whatever a client subscribes to.
    pub const LEVELS_MAX: usize = 128;

    /// # Errors
    /// Says which rule the text breaks.
    pub fn new(text: &str) -> Result<Self, InvalidFilter> {
        if text.len() > usize::from(u16::MAX) {
            return Err(InvalidFilter::TooLong);
        }
        if text.contains('\0') {
            return Err(InvalidFilter::Malformed(rule::NULL_CHARACTER));
        }
        check_filter(text).map_err(InvalidFilter::Malformed)?;
        if text.split('/').count() > Self::LEVELS_MAX {
            return Err(InvalidFilter::TooDeep);
        }
        Ok(Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Does `topic`, a valid topic name, match? Allocates nothing.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        if self.begins_with_wildcard() && is_dollar(topic) {
            return false;
        }
        let mut topic = topic.split('/');
        for level in self.levels() {
            match (level, topic.next()) {
                // Also when nothing is left: `a/#` matches `a` (MQTT 4.7.1.2).
                (Level::Rest, _) => return true,
                (_, None) => return false,
                (Level::Any, Some(_)) => {}
                (Level::Literal(wanted), Some(given)) => {
                    if wanted != given {
                        return false;
                    }
                }
            }
        }
        topic.next().is_none()
    }

    /// The levels from left to right; [`Level::Rest`] only at the end.
    #[must_use]
    pub fn levels(&self) -> Levels<'_> {
        Levels(self.0.split('/'))
    }

    pub(crate) fn begins_with_wildcard(&self) -> bool {
        self.0.starts_with(['+', '#'])
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({:?})", &*self.0)
    }
}

impl std::str::FromStr for Filter {
    type Err = InvalidFilter;
    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        Self::new(text)
    }
}

/// One level of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level<'a> {
    /// This text, which may be empty.
    Literal(&'a str),
    /// `+`: any one level.
    Any,
    /// `#`: any number of levels, none included.
    Rest,
}

/// Iterator over the levels of a [`Filter`].
#[derive(Debug, Clone)]
pub struct Levels<'a>(std::str::Split<'a, char>);

impl<'a> Iterator for Levels<'a> {
    type Item = Level<'a>;

    fn next(&mut self) -> Option<Level<'a>> {
        self.0.next().map(|level| match level {
            "+" => Level::Any,
            "#" => Level::Rest,
            literal => Level::Literal(literal),
        })
    }
}

/// The grammar alone; length and U+0000 were checked when the string was read.
pub(crate) fn check_filter(text: &str) -> Result<(), Malformed> {
    if text.is_empty() {
        return Err(rule::FILTER_EMPTY);
    }
    let mut levels = text.split('/');
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.next().is_some()) {
            return Err(rule::FILTER_MULTI_LEVEL);
        }
        if level.contains('+') && level != "+" {
            return Err(rule::FILTER_SINGLE_LEVEL);
        }
    }
    Ok(())
}

/// As [`check_filter`], and the grammar of shared subscriptions (MQTT 5: 4.8.2).
pub(crate) fn check_filter_or_share(text: &str) -> Result<(), Malformed> {
    let Some(shared) = text.strip_prefix("$share/") else {
        return check_filter(text);
    };
    match shared.split_once('/') {
        Some((name, filter)) if !name.is_empty() && !name.contains(['+', '#']) => {
            check_filter(filter)
        }
        _ => Err(rule::SHARE_NAME),
    }
}
