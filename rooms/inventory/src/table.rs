//! Lists as people have them: RFC 4180 out of a spreadsheet, in any of its habits.
//!
//! The separator is read off the header line: comma, semicolon or tab. A byte order mark, CR LF and
//! empty lines are fine; a quoted field may hold separators, quotes (doubled) and line ends.

use crate::text;
use std::borrow::Cow;
use std::collections::HashMap;

/// Longest list.
pub const ROWS_MAX: usize = 1_000_000;
/// Longest field: a certificate in PEM fits well.
pub const FIELD_BYTES_MAX: usize = 64 << 10;
/// Most columns.
pub const COLUMNS_MAX: usize = 256;

/// Why a list cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct TableError {
    /// From 1.
    pub line: usize,
    pub message: String,
}

/// A list with its header read; the rows are walked once.
pub struct Table<'a> {
    columns: HashMap<String, usize>,
    width: usize,
    rest: Records<'a>,
    rows: usize,
}

/// One row, by the names of its columns.
pub struct Row<'a, 'c> {
    /// Where it begins, from 1.
    pub line: usize,
    columns: &'c HashMap<String, usize>,
    fields: Vec<Cow<'a, str>>,
}

impl<'a> Table<'a> {
    /// Reads the header. Names of columns are taken in small letters, spaces and `-` as `_`.
    ///
    /// # Errors
    /// No header, the same column twice, more columns than [`COLUMNS_MAX`].
    pub fn read(text: &'a str) -> Result<Self, TableError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rest = Records::new(text);
        let Some(header) = rest.next_record()? else {
            return Err(TableError {
                line: 1,
                message: "the list is empty; begin with a line of column names".to_owned(),
            });
        };
        let fail = |message: String| TableError {
            line: header.line,
            message,
        };
        if header.fields.len() > COLUMNS_MAX {
            return Err(fail(format!("more than {COLUMNS_MAX} columns")));
        }
        let mut columns = HashMap::new();
        for (place, name) in header.fields.iter().enumerate() {
            let name = column_name(name);
            if name.is_empty() {
                continue;
            }
            if columns.insert(name.clone(), place).is_some() {
                let shown = text::visible(&name, 64);
                return Err(fail(format!("column {shown:?} stands there twice")));
            }
        }
        Ok(Self {
            width: header.fields.len(),
            columns,
            rest,
            rows: 0,
        })
    }

    /// The names of its columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str)
    }

    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// The next row; `None` at the end. A row that is broken in itself (too many fields) is an
    /// inner error and reading goes on after it.
    ///
    /// # Errors
    /// The list cannot be read on: a quote that never ends, more than [`ROWS_MAX`] rows.
    pub fn next_row(&mut self) -> Result<Option<Result<Row<'a, '_>, TableError>>, TableError> {
        let Some(record) = self.rest.next_record()? else {
            return Ok(None);
        };
        self.rows = self.rows.saturating_add(1);
        if self.rows > ROWS_MAX {
            return Err(TableError {
                line: record.line,
                message: format!("more than {ROWS_MAX} rows; split the list"),
            });
        }
        if record.fields.len() > self.width {
            return Ok(Some(Err(TableError {
                line: record.line,
                message: format!(
                    "{} fields, but the header names {}; quote fields that hold the separator",
                    record.fields.len(),
                    self.width
                ),
            })));
        }
        Ok(Some(Ok(Row {
            line: record.line,
            columns: &self.columns,
            fields: record.fields,
        })))
    }
}

impl Row<'_, '_> {
    /// A cell without the spaces around it; `None`: no such column, or nothing in it.
    #[must_use]
    pub fn cell(&self, column: &str) -> Option<&str> {
        let place = *self.columns.get(column)?;
        let text = self.fields.get(place)?.trim();
        (!text.is_empty()).then_some(text)
    }

    /// The first of several columns that has something in this row.
    #[must_use]
    pub fn one_of(&self, columns: &[&str]) -> Option<&str> {
        columns.iter().find_map(|column| self.cell(column))
    }
}

/// Puts cells into a line of a list, each made harmless.
pub fn write_line<'t>(out: &mut String, cells: impl IntoIterator<Item = &'t str>) {
    for (number, cell) in cells.into_iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        let cell = text::cell(cell);
        if cell.contains([',', '"', ';', '\t', '\'']) {
            out.push('"');
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(&cell);
        }
    }
    out.push_str("\r\n");
}

fn column_name(text: &str) -> String {
    text.trim()
        .chars()
        .take(64)
        .map(|c| match c {
            ' ' | '-' | '.' => '_',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

struct Record<'a> {
    line: usize,
    fields: Vec<Cow<'a, str>>,
}

/// The text as records: the one walk over bytes. Separators, quotes and line ends are ASCII, so a
/// cut beside one never splits a character.
struct Records<'a> {
    text: &'a str,
    place: usize,
    line: usize,
    separator: u8,
}

impl<'a> Records<'a> {
    fn new(text: &'a str) -> Self {
        let header = text.lines().next().unwrap_or("");
        let count = |c: char| header.matches(c).count();
        let separator = [(b'\t', count('\t')), (b';', count(';')), (b',', count(','))]
            .into_iter()
            .max_by_key(|(_, number)| *number)
            .map_or(b',', |(separator, _)| separator);
        Self {
            text,
            place: 0,
            line: 1,
            separator,
        }
    }

    fn next_record(&mut self) -> Result<Option<Record<'a>>, TableError> {
        loop {
            if self.place >= self.text.len() {
                return Ok(None);
            }
            let line = self.line;
            let mut fields = Vec::new();
            loop {
                let (field, ended) = self.field()?;
                if fields.len() <= COLUMNS_MAX {
                    fields.push(field);
                }
                if ended {
                    break;
                }
            }
            // An empty line, or one of separators alone, as spreadsheets leave them at the end.
            if fields.iter().any(|field| !field.trim().is_empty()) {
                return Ok(Some(Record { line, fields }));
            }
        }
    }

    /// A field, and whether its record ends with it.
    fn field(&mut self) -> Result<(Cow<'a, str>, bool), TableError> {
        let rest = self.text.get(self.place..).unwrap_or("");
        if rest.starts_with('"') {
            return self.quoted(rest);
        }
        let end = rest
            .bytes()
            .position(|b| b == self.separator || b == b'\n' || b == b'\r')
            .unwrap_or(rest.len());
        let field = rest.get(..end).unwrap_or("");
        self.check_length(field.len())?;
        self.place = self.place.saturating_add(end);
        Ok((Cow::Borrowed(field), self.end_of_field()))
    }

    fn quoted(&mut self, rest: &'a str) -> Result<(Cow<'a, str>, bool), TableError> {
        let begins = self.line;
        let mut from = 1;
        let mut doubled = false;
        let end = loop {
            let Some(quote) = rest.get(from..).and_then(|rest| rest.find('"')) else {
                return Err(TableError {
                    line: begins,
                    message: "a quote is opened here and never closed".to_owned(),
                });
            };
            let quote = from.saturating_add(quote);
            self.check_length(quote)?;
            if rest.as_bytes().get(quote.saturating_add(1)) == Some(&b'"') {
                doubled = true;
                from = quote.saturating_add(2);
            } else {
                break quote;
            }
        };
        let field = rest.get(1..end).unwrap_or("");
        let lines = field.bytes().filter(|b| *b == b'\n').count();
        self.line = self.line.saturating_add(lines);
        self.place = self.place.saturating_add(end).saturating_add(1);
        // What stands between the closing quote and the separator is of no field: left out.
        let after = self.text.get(self.place..).unwrap_or("");
        let skip = after
            .bytes()
            .position(|b| b == self.separator || b == b'\n' || b == b'\r')
            .unwrap_or(after.len());
        if !after.get(..skip).unwrap_or("").trim().is_empty() {
            return Err(TableError {
                line: self.line,
                message: "text stands after a closing quote; double the quotes inside a field"
                    .to_owned(),
            });
        }
        self.place = self.place.saturating_add(skip);
        let field = if doubled {
            Cow::Owned(field.replace("\"\"", "\""))
        } else {
            Cow::Borrowed(field)
        };
        Ok((field, self.end_of_field()))
    }

    /// Steps over what ends a field; true if that ends the record too.
    fn end_of_field(&mut self) -> bool {
        let rest = self.text.as_bytes().get(self.place..).unwrap_or(&[]);
        let (length, ended) = match rest {
            [b'\r', b'\n', ..] => (2, true),
            [b'\r' | b'\n', ..] => (1, true),
            [] => (0, true),
            _ => (1, false),
        };
        self.place = self.place.saturating_add(length);
        if ended {
            self.line = self.line.saturating_add(1);
        }
        ended
    }

    fn check_length(&self, bytes: usize) -> Result<(), TableError> {
        if bytes <= FIELD_BYTES_MAX {
            return Ok(());
        }
        Err(TableError {
            line: self.line,
            message: format!("a field has more than {FIELD_BYTES_MAX} bytes"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type ReadRow = (usize, Vec<Option<String>>);

    fn rows(text: &str, columns: &[&str]) -> Result<Vec<ReadRow>, TableError> {
        let mut table = Table::read(text)?;
        let mut all = Vec::new();
        while let Some(row) = table.next_row()? {
            let row = row?;
            all.push((
                row.line,
                columns
                    .iter()
                    .map(|column| row.cell(column).map(str::to_owned))
                    .collect(),
            ));
        }
        Ok(all)
    }

    #[test]
    fn the_habits_of_spreadsheets_read_alike() {
        let some = |text: &str| Some(text.to_owned());
        let expected = vec![
            (2, vec![some("cam-1"), some("a, \"b\"\nc")]),
            (5, vec![some("cam-2"), None]),
        ];
        for (separator, end) in [(",", "\n"), (";", "\r\n"), ("\t", "\r\n")] {
            let text = format!(
                "\u{feff}Device{separator} Some-Note{end}cam-1{separator}\"a, \"\"b\"\"\nc\"{end}\
                 {separator}{end}cam-2{separator}{end}"
            );
            assert_eq!(
                rows(&text, &["device", "some_note"]).unwrap(),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for (text, line, part) in [
            ("", 1, "empty"),
            ("a,b,a\n", 1, "twice"),
            ("a,b\n1,\"2\n3\n", 2, "never closed"),
            ("a,b\n1,\"2\"x\n", 2, "after a closing quote"),
            ("a,b\n1,2\n1,2,3\n", 3, "3 fields"),
        ] {
            let error = rows(text, &[]).unwrap_err();
            assert_eq!(error.line, line, "{text:?}");
            assert!(error.message.contains(part), "{error}");
        }
        let long = format!("a\n{}", "x".repeat(FIELD_BYTES_MAX + 1));
        assert!(rows(&long, &[]).unwrap_err().message.contains("bytes"));
    }

    proptest! {
        #[test]
        fn any_text_ends_without_a_fault(text in "(?s)[a,;\"\\r\\n\\t '=é]{0,60}") {
            let _ = rows(&text, &["a"]);
        }

        #[test]
        fn what_is_written_reads_back(cells in proptest::collection::vec("[ -~]{1,12}", 1..5)) {
            let mut text = String::new();
            let names: Vec<String> = (0..cells.len()).map(|n| format!("c{n}")).collect();
            write_line(&mut text, names.iter().map(String::as_str));
            write_line(&mut text, cells.iter().map(String::as_str));
            let columns: Vec<&str> = names.iter().map(String::as_str).collect();
            let read = rows(&text, &columns).unwrap();
            let wanted: Vec<Option<String>> = cells
                .iter()
                .map(|cell| Some(cell.trim().to_owned()).filter(|cell| !cell.is_empty()))
                .collect();
            if wanted.iter().any(Option::is_some) {
                let read: Vec<Option<String>> = read[0]
                    .1
                    .iter()
                    .map(|cell| cell.as_deref().map(|cell| text::without_mark(cell).trim().to_owned()))
                    .collect();
                prop_assert_eq!(read, wanted);
            } else {
                prop_assert!(read.is_empty());
            }
        }
    }
}
