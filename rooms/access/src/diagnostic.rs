//! Where in `fleet/` something is wrong, and what to write instead.

use std::fmt;
use std::ops::Range;

/// One file of `fleet/`, as the caller read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to `fleet/`, with `/` between folders: `channels/camera.toml`.
    pub path: String,
    pub text: String,
}

/// Something in `fleet/` that must be changed before it can be applied. Always an error: there
/// are no warnings, since a policy that may mean something else than it says is not applied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// Relative to `fleet/`.
    pub path: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn new(
        place: Place<'_>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) -> Self {
        let (line, column) = line_and_column(place.text, place.offset);
        Self {
            path: printable(place.path),
            line,
            column,
            message: printable(&message.into()),
            help: help.into().map(|help| printable(&help)),
        }
    }
}

/// `fleet/channels/camera.toml:3:7: what is wrong (help: what to write)`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            column,
            message,
            help,
        } = self;
        write!(f, "fleet/{path}:{line}:{column}: {message}")?;
        match help {
            Some(help) => write!(f, " (help: {help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// A byte of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub path: &'a str,
    pub text: &'a str,
    pub offset: usize,
}

impl<'a> Place<'a> {
    pub(crate) fn start_of(file: &'a SourceFile) -> Self {
        Self::in_file(file, 0..0)
    }

    pub(crate) fn in_file(file: &'a SourceFile, span: Range<usize>) -> Self {
        Self {
            path: &file.path,
            text: &file.text,
            offset: span.start,
        }
    }
}

/// Both from 1, the column in characters.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    // It comes from a parser of this text, which may count bytes. Should it lie behind the end, the
    // start of the text is better than nothing.
    let offset = match offset {
        offset if offset <= text.len() => text.floor_char_boundary(offset),
        _ => 0,
    };
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let last = before.rsplit('\n').next().unwrap_or_default();
    let column = last.chars().count() + 1;
    (
        u32::try_from(line).unwrap_or(u32::MAX),
        u32::try_from(column).unwrap_or(u32::MAX),
    )
}

/// Text of a file can reach a terminal or a log through a message: control characters, and those
/// that turn the direction of text, are escaped, and the length is bounded.
pub(crate) fn printable(text: &str) -> String {
    const CHARACTERS_MAX: usize = 1000;
    let turns_text = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let mut printable = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == CHARACTERS_MAX {
            printable.push('…');
            break;
        }
        if c == '\n' {
            printable.push(' ');
        } else if c.is_control() || turns_text(c) {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// The known word that was probably meant: at most a third of its characters differ, or are swapped.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const CHARACTERS_MAX: usize = 64;
    let word: Vec<char> = word.chars().take(CHARACTERS_MAX + 1).collect();
    if word.len() > CHARACTERS_MAX {
        return None;
    }
    let near = known.into_iter().filter_map(|known| {
        let other: Vec<char> = known.chars().take(CHARACTERS_MAX).collect();
        let distance = distance(&word, &other);
        (distance > 0 && distance <= other.len().min(word.len()) / 3).then_some((distance, known))
    });
    near.min().map(|(_, known)| known)
}

/// Characters to insert, take out or change, or neighbours to swap.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, one) in (1_usize..).zip(left) {
        let mut now = vec![row];
        for (column, other) in (1_usize..).zip(right) {
            let at = |line: &[usize], place: usize| line.get(place).copied().unwrap_or(usize::MAX);
            let swapped = column > 1
                && left.get(row.wrapping_sub(2)) == Some(other)
                && right.get(column - 2) == Some(one);
            let best = at(&last, column - 1).saturating_add(usize::from(one != other));
            let best = best
                .min(at(&last, column).saturating_add(1))
                .min(at(&now, column - 1).saturating_add(1));
            now.push(if swapped {
                best.min(at(&before, column - 2).saturating_add(1))
            } else {
                best
            });
        }
        before = std::mem::replace(&mut last, now);
    }
    last.last().copied().unwrap_or(left.len())
}

/// `did you mean that?` before what else helps.
pub(crate) fn help_with(meant: Option<&str>, help: &str) -> String {
    match meant {
        Some(meant) => format!("did you mean {meant}? or {help}"),
        None => help.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_nearly_known_is_known_and_another_is_not() {
        let known = ["topic", "direction", "payload_bytes_max", "description"];
        let meant = |word| nearest(word, known);
        assert_eq!(meant("payload_byte_max"), Some("payload_bytes_max"));
        assert_eq!(meant("topci"), Some("topic"));
        assert_eq!(meant("directoin"), Some("direction"));
        assert_eq!(meant("tenant"), None);
        assert_eq!(meant("topic"), None);
        assert_eq!(meant(""), None);
        assert_eq!(meant(&"x".repeat(10_000)), None);
    }

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let text = "ä = 1\nbü = 2\n";
        let at = |offset| {
            let place = Place {
                path: "fleet.toml",
                text,
                offset,
            };
            let d = Diagnostic::new(place, "m", None);
            (d.line, d.column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(text.find('=').unwrap()), (1, 3));
        assert_eq!(at(text.rfind('=').unwrap()), (2, 4));
        assert_eq!(at(text.find('ü').unwrap() + 1), (2, 2));
        assert_eq!(at(999), (1, 1));
    }

    #[test]
    fn text_of_a_file_cannot_act_in_a_terminal() {
        let file = SourceFile {
            path: "x\u{1b}[2J".into(),
            text: String::new(),
        };
        let shown = Diagnostic::new(
            Place::start_of(&file),
            "\u{202e}a\rb",
            String::from("\u{7}"),
        )
        .to_string();
        assert!(
            !shown.contains(|c: char| c.is_control() || c == '\u{202e}'),
            "{shown}"
        );
    }
}
