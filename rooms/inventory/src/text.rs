//! Texts from devices and lists, made harmless. They are never trusted: a name may hold escape
//! sequences for a terminal, directions of writing that turn a line around, or a formula.

/// What a spreadsheet may take for the beginning of a formula, full-width forms included.
const FORMULA: [char; 8] = [
    '=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
];

/// At most `chars_max` characters, none of which acts: controls, line ends, directions of writing,
/// invisible and private characters become `\u{..}`. What is left out shows as one more, `…`. Doing
/// it again changes nothing.
#[must_use]
pub fn visible(text: &str, chars_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(chars_max));
    let mut length = 0usize;
    for c in text.chars() {
        let takes = if acts(c) { c.escape_unicode().len() } else { 1 };
        length = length.saturating_add(takes);
        if length > chars_max {
            out.push('…');
            break;
        }
        if acts(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// A cell of a list that people open in a spreadsheet (OWASP, CSV injection): visible, and with a
/// `'` before what would be a formula, or would look as if it had been marked.
#[must_use]
pub fn cell(text: &str) -> String {
    let shown = visible(text, usize::MAX);
    if is_formula(&shown) {
        format!("'{shown}")
    } else {
        shown
    }
}

/// The text that [`cell`] put a `'` before.
#[must_use]
pub fn without_mark(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if is_formula(rest) => rest,
        _ => cell,
    }
}

fn is_formula(text: &str) -> bool {
    text.trim_start_matches(|c: char| c.is_whitespace() || c == '\'')
        .starts_with(FORMULA)
}

/// Rust's own list of what is not printable, and all controls.
fn acts(c: char) -> bool {
    c.is_control() || (!matches!(c, '\'' | '"' | '\\') && c.escape_debug().len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn formulas_and_escapes_become_text() {
        assert_eq!(
            cell("=HYPERLINK(\"http://evil\")"),
            "'=HYPERLINK(\"http://evil\")"
        );
        assert_eq!(cell("  @SUM(A1)"), "'  @SUM(A1)");
        assert_eq!(cell("\t=1"), "\\u{9}=1");
        assert_eq!(cell("\r=1"), "\\u{d}=1");
        assert_eq!(cell("-1"), "'-1");
        assert_eq!(visible("\u{1b}[31mred", 99), "\\u{1b}[31mred");
        assert_eq!(visible("abc\u{202e}fdp", 99), "abc\\u{202e}fdp");
        assert_eq!(visible("abcdef", 3), "abc…");
    }

    proptest! {
        #[test]
        fn no_cell_begins_a_formula_or_acts(text in "(?s).{0,20}") {
            let cell = cell(&text);
            let first = cell.trim_start().chars().next();
            prop_assert!(!first.is_some_and(|c| FORMULA.contains(&c)));
            prop_assert!(!cell.chars().any(acts));
        }

        #[test]
        fn what_is_visible_stays_as_it_is(text in "(?s).{0,40}", chars_max in 0usize..30) {
            let once = visible(&text, chars_max);
            prop_assert!(once.chars().count() <= chars_max + 1);
            prop_assert_eq!(visible(&once, chars_max), once);
        }

        #[test]
        fn a_harmless_text_reads_back(text in "[ -~]{0,20}") {
            let cell = cell(&text);
            prop_assert_eq!(without_mark(&cell), text.as_str());
        }
    }
}
