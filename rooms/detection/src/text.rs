//! Text of others, made printable; numbers, made readable.

use std::time::Duration;

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

/// `3.2`, `812`, `18 k`, `3.4 M`.
pub fn number(value: f32) -> String {
    match value {
        v if v < 10.0 => format!("{v:.1}"),
        v if v < 10_000.0 => format!("{v:.0}"),
        v if v < 1e6 => format!("{:.0} k", v / 1e3),
        v if v < 1e9 => format!("{:.1} M", v / 1e6),
        v => format!("{:.1} G", v / 1e9),
    }
}

/// `812 B`, `18 kB`, `3.4 MB`.
pub fn bytes(value: u64) -> String {
    match value {
        0..1_000 => format!("{value} B"),
        1_000..1_000_000 => format!("{} kB", value / 1_000),
        _ => format!("{:.1} MB", value as f64 / 1e6),
    }
}

/// `0.4 s`, `40 s`, `12 min`, `5 h`, `3 days`.
pub fn duration(value: Duration) -> String {
    match value.as_secs() {
        0..10 => format!("{:.1} s", value.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// The first of them, and how many more: `a, b and 3 more`.
pub fn listed<I: IntoIterator<Item = String>>(items: I, none: &str) -> String {
    const FIRST: usize = 4;
    let mut all = items.into_iter();
    let first: Vec<String> = all.by_ref().take(FIRST).collect();
    let more = all.count();
    match (first.is_empty(), more) {
        (true, _) => none.to_owned(),
        (false, 0) => first.join(", "),
        (false, more) => format!("{} and {more} more", first.join(", ")),
    }
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
