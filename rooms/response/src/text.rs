//! Text that others wrote, before it reaches a timeline, a mail, a terminal.

/// Longest text of one field.
const BYTES_MAX: usize = 253;

/// Control characters and those that turn the direction of text are escaped, line ends become
/// blanks, and the length is bounded: at most 256 bytes with the mark of the cut.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::new();
    for c in text.chars() {
        let before = printable.len();
        match c {
            '\n' => printable.push(' '),
            c if c.is_control() || turns_text(c) => printable.extend(c.escape_default()),
            c => printable.push(c),
        }
        if printable.len() > BYTES_MAX {
            printable.truncate(before);
            printable.push('…');
            break;
        }
    }
    printable
}

const fn turns_text(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// A name that we gave: letters, digits, `.`, `_`, `-`; 1 to 64; begins with a letter or a digit.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_device_cannot_act_in_a_terminal() {
        let shown = printable("\u{1b}[2J\u{202e}a\r\nb\u{7}\u{feff}");
        assert!(shown.chars().all(|c| !c.is_control() && !turns_text(c)));
        for long in ["x", "ä", "\u{1f600}", "\u{7}"] {
            let cut = printable(&long.repeat(999));
            assert!(cut.len() <= 256 && cut.ends_with('…'), "{}", cut.len());
            assert_eq!(printable(&cut), cut, "cut twice");
        }
    }
}
