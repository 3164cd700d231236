//! What is printed: tables for people, JSON for programs, and never a byte that acts on a terminal.

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, Write};

/// What a table shows of one cell.
const CELL_CHARS_MAX: usize = 400;

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs: what the plane answered, field by field.
    Json,
}

/// A heading, and where its cell stands in a row (RFC 6901).
pub type Column = (&'static str, &'static str);

/// Prints a list of objects.
///
/// # Errors
/// Standard output is closed.
pub fn rows(output: Output, list: &Value, columns: &[Column]) -> anyhow::Result<()> {
    if output == Output::Json {
        return value(list);
    }
    let rows = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let headings: Vec<_> = columns.iter().map(|(heading, _)| *heading).collect();
    let cells = rows.iter().map(|row| {
        columns
            .iter()
            .map(|(_, at)| cell(row.pointer(at)))
            .collect()
    });
    line(&table(&headings, cells))
}

/// Prints one object, a field a line.
///
/// # Errors
/// Standard output is closed.
pub fn fields(output: Output, object: &Value, columns: &[Column]) -> anyhow::Result<()> {
    if output == Output::Json {
        return value(object);
    }
    let width = columns
        .iter()
        .map(|(heading, _)| heading.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (heading, at) in columns {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{heading:width$}  {}", cell(object.pointer(at)));
    }
    line(text.trim_end())
}

/// Prints a value as JSON, its characters that could act written as `\uXXXX`.
///
/// # Errors
/// Standard output is closed.
pub fn value(value: &Value) -> anyhow::Result<()> {
    line(&json(value)?)
}

/// Prints a text of ours with a newline; what is not ours in it must have been [`escaped`].
///
/// # Errors
/// Standard output is closed.
pub fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// A text from outside as one line that no terminal obeys: control characters, line ends,
/// directions of writing, invisible and private characters become `\u{..}`, a backslash two.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            _ if acts(c) => out.extend(c.escape_unicode()),
            _ => out.push(c),
        }
    }
    out
}

/// As [`value`], as text.
///
/// # Errors
/// None for values that were read from JSON.
pub fn json(value: &Value) -> anyhow::Result<String> {
    let plain = serde_json::to_string_pretty(value)?;
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        // Outside strings JSON has only line feeds of these, and serde_json escapes those inside.
        if c == '\n' || !acts(c) {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    Ok(out)
}

/// A table without frames: easy to read, easy to cut.
#[must_use]
pub fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(headings.iter().map(|heading| heading.to_uppercase()))
        .add_rows(rows.map(|row| row.into_iter().map(shortened).collect::<Vec<_>>()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// One long cell would push all others off the screen; `--output json` holds it whole.
fn shortened(cell: String) -> String {
    let length = cell.chars().count();
    if length <= CELL_CHARS_MAX {
        return cell;
    }
    let kept: String = cell.chars().take(CELL_CHARS_MAX).collect();
    format!("{kept}… ({} more characters)", length - CELL_CHARS_MAX)
}

/// Rust's own list of what is not printable, and all controls.
fn acts(c: char) -> bool {
    c.is_control() || (!matches!(c, '\'' | '"' | '\\') && c.escape_debug().len() > 1)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => escaped(text),
        Some(Value::Bool(true)) => "yes".into(),
        Some(Value::Bool(false)) => "no".into(),
        Some(Value::Array(items)) if items.is_empty() => "-".into(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| cell(Some(item)))
            .collect::<Vec<_>>()
            .join(", "),
        Some(Value::Object(fields)) => fields
            .iter()
            .map(|(name, value)| format!("{}={}", escaped(name), cell(Some(value))))
            .collect::<Vec<_>>()
            .join(" "),
        Some(number @ Value::Number(_)) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn harmless(text: &str) -> bool {
        !text.chars().any(|c| {
            c.is_control()
                || matches!(c,
                    '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                    | '\u{feff}' | '\u{e0000}'..='\u{e007f}' | '\u{ad}' | '\u{e000}'..='\u{f8ff}')
        })
    }

    #[test]
    fn a_terminal_escape_in_a_name_is_shown_and_not_obeyed() {
        assert_eq!(escaped("a\u{1b}[2Jb\r\n"), r"a\u{1b}[2Jb\u{d}\u{a}");
        assert_eq!(escaped("\u{9b}31m\u{202e}gpj"), r"\u{9b}31m\u{202e}gpj");
        assert_eq!(escaped("Gerät '7' \"x\" 灯"), "Gerät '7' \"x\" 灯");
        assert_eq!(
            escaped(r"\u{1b}"),
            r"\\u{1b}",
            "a written escape is not taken for a real one"
        );
    }

    #[test]
    fn a_table_aligns_and_shows_what_is_absent() {
        let list = json!([{"a": "x\ny", "b": {"c": true}}, {"a": ["p", "q"], "b": null}]);
        let rows = list.as_array().unwrap();
        let text = table(
            &["first", "second"],
            rows.iter()
                .map(|row| vec![cell(row.pointer("/a")), cell(row.pointer("/b/c"))]),
        );
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines, ["FIRST    SECOND", r"x\u{a}y  yes", "p, q     -"]);
    }

    proptest! {
        #[test]
        fn nothing_that_acts_is_ever_printed(text in "\\PC*|(?s).*", name in "(?s).{0,8}") {
            prop_assert!(harmless(&escaped(&text)));
            let value = json!({name: text, "list": [text]});
            let printed = json(&value).unwrap();
            prop_assert!(printed.lines().all(harmless));
            prop_assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), value.clone());
            prop_assert!(harmless(&cell(Some(&value))));
        }

        #[test]
        fn different_texts_are_shown_differently(a in "(?s).{0,6}", b in "(?s).{0,6}") {
            prop_assert_eq!(escaped(&a) == escaped(&b), a == b);
        }
    }
}
