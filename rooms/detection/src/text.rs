//! Text of others, made printable.

/// At most `chars_max` characters of printable ASCII: every other character is written as an
/// escape (`\n`, `\u{202e}`), so that it can be read and cannot act in a terminal, a page, a log
/// or beside other text. Angle brackets, quotes and a leading `=` stay: who writes HTML or CSV
/// escapes for those.
#[must_use]
pub fn shown(text: &str, chars_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(chars_max));
    for (at, c) in text.chars().enumerate() {
        let start = out.len();
        if matches!(c, ' '..='~') {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
        // An escape that does not fit whole is left out, so that none is ever cut in two.
        if out.len() > chars_max || (out.len() == chars_max && text.chars().nth(at + 1).is_some()) {
            out.truncate(start.min(chars_max.saturating_sub(2)));
            out.push_str("..");
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_act_is_written_out() {
        assert_eq!(
            shown("a\u{1b}[31m\n\u{202e}ä", 64),
            "a\\u{1b}[31m\\n\\u{202e}\\u{e4}"
        );
        assert_eq!(shown("v1/camera", 64), "v1/camera");
        assert_eq!(shown("abcdefgh", 8), "abcdefgh");
        assert_eq!(shown("abcdefghi", 8), "abcdef..");
    }

    proptest! {
        #[test]
        fn it_is_always_short_and_printable(text in ".{0,200}", max in 2usize..100) {
            let out = shown(&text, max);
            prop_assert!(out.len() <= max);
            prop_assert!(out.bytes().all(|b| (0x20..0x7f).contains(&b)));
        }
    }
}
