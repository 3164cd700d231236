//! Lists of devices taken in: what a person knows of them besides their identity.

use crate::date;
use crate::device::{Known, Record};
use crate::export::{COLUMNS, join};
use crate::machine::Inventory;
use crate::table::{Row, Table, TableError};
use crate::text::{visible, without_mark};
use model::{DeviceId, GroupId, ManufacturerId, ProductId, SerialNumber, Timestamp};
use std::collections::HashSet;

/// Refused lines beyond these are counted, not listed.
const REFUSED_MAX: usize = 100;
const NOTE_CHARS_MAX: usize = 256;
const GROUPS_MAX: usize = 64;

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct LineError {
    /// From 1.
    pub line: usize,
    pub text: String,
}

impl From<TableError> for LineError {
    fn from(error: TableError) -> Self {
        Self {
            line: error.line,
            text: error.message,
        }
    }
}

/// What a list would change. Nothing has changed yet: keep the records, then tell them to
/// [`Inventory::record`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Import {
    pub rows: u64,
    pub added: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// The first of them; the other lines stand.
    pub refused: Vec<LineError>,
    pub refused_count: u64,
    /// In the order of their names.
    pub records: Vec<(DeviceId, Record)>,
}

/// A list that was read, before it is held against what is known.
#[derive(Debug, Default)]
pub struct List {
    lines: Vec<Line>,
    rows: u64,
    refused: Vec<LineError>,
    refused_count: u64,
}

/// One line of a list: `None` where the list has no such column.
#[derive(Debug)]
struct Line {
    line: usize,
    device: DeviceId,
    product: Option<Option<ProductId>>,
    groups: Option<Vec<GroupId>>,
    manufacturer: Option<Option<ManufacturerId>>,
    serial: Option<Option<SerialNumber>>,
    country: Option<Option<String>>,
    support_until: Option<Option<Timestamp>>,
    retired: Option<bool>,
    note: Option<Option<String>>,
}

impl List {
    /// Reads a list. Columns: `device` (required), `product`, `groups` (separated by `;`),
    /// `manufacturer`, `serial`, `country` (two letters), `support_until` (`2031-12-31`),
    /// `lifecycle` (`retired` takes out of use, any other of its words does not), `note`; the other
    /// columns of an export are left alone. A column that is absent changes nothing, an empty cell
    /// clears.
    ///
    /// # Errors
    /// The list cannot be read: no header, an unknown column, a quote that never ends.
    pub fn read(text: &str) -> Result<Self, LineError> {
        let mut table = Table::read(text)?;
        check_columns(&table)?;
        let has: HashSet<&'static str> = COLUMNS
            .into_iter()
            .filter(|column| table.has(column))
            .collect();
        let mut list = Self::default();
        let mut seen: HashSet<DeviceId> = HashSet::new();
        while let Some(row) = table.next_row()? {
            list.rows = list.rows.saturating_add(1);
            let read = row.map_err(LineError::from).and_then(|row| {
                let number = row.line;
                let line = Line::read(&row, &has).and_then(|line| {
                    if seen.insert(line.device.clone()) {
                        Ok(line)
                    } else {
                        Err(format!("device {} stands there twice", line.device))
                    }
                });
                line.map_err(|text| LineError { line: number, text })
            });
            match read {
                Ok(line) => list.lines.push(line),
                Err(error) => refuse(&mut list.refused, &mut list.refused_count, error),
            }
        }
        Ok(list)
    }
}

impl Line {
    fn read(row: &Row<'_, '_>, has: &HashSet<&'static str>) -> Result<Self, String> {
        let device = row.cell("device").ok_or("no device stands there")?;
        // `None`: no such column; `Some(None)`: nothing in the cell.
        let cell = |column: &'static str| {
            has.contains(column)
                .then(|| row.cell(column).map(without_mark))
        };
        Ok(Self {
            line: row.line,
            device: DeviceId::new(device).map_err(said)?,
            product: each(cell("product"), |id| ProductId::new(id).map_err(said))?,
            groups: cell("groups")
                .map(|text| groups(text.unwrap_or("")))
                .transpose()?,
            manufacturer: each(cell("manufacturer"), |id| {
                ManufacturerId::new(id).map_err(said)
            })?,
            serial: each(cell("serial"), |id| SerialNumber::new(id).map_err(said))?,
            country: each(cell("country"), country)?,
            support_until: each(cell("support_until"), support_end)?,
            retired: cell("lifecycle")
                .map(|text| text.map_or(Ok(false), retired))
                .transpose()?,
            note: each(cell("note"), |note| Ok(visible(note, NOTE_CHARS_MAX)))?,
        })
    }

    fn lay_over(&self, record: &mut Record) {
        fn put<T: Clone>(to: &mut T, from: Option<&T>) {
            if let Some(from) = from {
                *to = from.clone();
            }
        }
        put(&mut record.product, self.product.as_ref());
        put(&mut record.groups, self.groups.as_ref());
        put(&mut record.manufacturer, self.manufacturer.as_ref());
        put(&mut record.serial, self.serial.as_ref());
        put(&mut record.country, self.country.as_ref());
        put(&mut record.support_until, self.support_until.as_ref());
        put(&mut record.retired, self.retired.as_ref());
        put(&mut record.note, self.note.as_ref());
    }
}

impl Inventory {
    /// What a list would change. What identity says of a listed or enrolled device cannot be changed
    /// here: a line that contradicts it is refused, the others stand.
    #[must_use]
    pub fn import(&self, list: &List) -> Import {
        let mut import = Import {
            rows: list.rows,
            refused: list.refused.clone(),
            refused_count: list.refused_count,
            ..Import::default()
        };
        for line in &list.lines {
            let held = self.devices.get(&line.device);
            let stored = held.and_then(|held| held.record.as_deref());
            let mut record = stored.cloned().unwrap_or_default();
            line.lay_over(&mut record);
            if let Some(known) = held.and_then(|held| held.known.as_deref())
                && let Err(text) = agree(&mut record, known)
            {
                let line = line.line;
                let error = LineError { line, text };
                refuse(&mut import.refused, &mut import.refused_count, error);
                continue;
            }
            let number = match held {
                None => &mut import.added,
                Some(_) if stored.map_or(record == Record::default(), |old| *old == record) => {
                    import.unchanged = import.unchanged.saturating_add(1);
                    continue;
                }
                Some(_) => &mut import.changed,
            };
            *number = number.saturating_add(1);
            import.records.push((line.device.clone(), record));
        }
        import.records.sort_by(|(a, _), (b, _)| a.cmp(b));
        import.refused.sort_by_key(|error| error.line);
        import
    }
}

/// Identity's own words stand where they are; a copy could only grow old, so it is taken out.
fn agree(record: &mut Record, known: &Known) -> Result<(), String> {
    let differs = |what: &str, listed: &str, stands: &str| {
        Err(format!(
            "its identity says {what} {stands}, the list says {}; correct the list",
            visible(listed, 64)
        ))
    };
    if let Some(id) = record.product.take().filter(|id| *id != known.product) {
        return differs("product", id.as_str(), known.product.as_str());
    }
    if let Some(id) = record.serial.take().filter(|id| *id != known.serial) {
        return differs("serial", id.as_str(), known.serial.as_str());
    }
    let manufacturer = record.manufacturer.take();
    if let Some(id) = manufacturer.filter(|id| *id != known.manufacturer) {
        return differs("manufacturer", id.as_str(), known.manufacturer.as_str());
    }
    let groups = std::mem::take(&mut record.groups);
    if !groups.is_empty() && groups.iter().ne(known.groups.iter()) {
        return differs("groups", &join(&groups), &join(&known.groups));
    }
    Ok(())
}

fn refuse(listed: &mut Vec<LineError>, count: &mut u64, error: LineError) {
    *count = count.saturating_add(1);
    if listed.len() < REFUSED_MAX {
        listed.push(error);
    }
}

/// Reads what a cell holds, where there is one and something in it.
fn each<T>(
    cell: Option<Option<&str>>,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<Option<T>>, String> {
    cell.map(|text| text.map(read).transpose()).transpose()
}

fn check_columns(table: &Table<'_>) -> Result<(), LineError> {
    let refused = |text: String| Err(LineError { line: 1, text });
    let mut unknown: Vec<&str> = table
        .columns()
        .filter(|name| !COLUMNS.contains(name))
        .collect();
    unknown.sort_unstable();
    if let Some(name) = unknown.first() {
        return refused(format!(
            "there is no column \"{}\"; there are {}",
            visible(name, 64),
            COLUMNS.join(", ")
        ));
    }
    if !table.has("device") {
        return refused("the column device is missing".to_owned());
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn said(error: model::InvalidName) -> String {
    visible(&error.to_string(), 256)
}

fn groups(text: &str) -> Result<Vec<GroupId>, String> {
    let mut groups: Vec<GroupId> = text
        .split(';')
        .map(str::trim)
        .filter(|group| !group.is_empty())
        .take(GROUPS_MAX + 1)
        .map(|group| GroupId::new(group).map_err(said))
        .collect::<Result<_, _>>()?;
    if groups.len() > GROUPS_MAX {
        return Err(format!("more than {GROUPS_MAX} groups"));
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

fn country(text: &str) -> Result<String, String> {
    if text.len() == 2 && text.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Ok(text.to_ascii_uppercase());
    }
    Err(format!(
        "country {:?} is not two letters (ISO 3166-1)",
        visible(text, 32)
    ))
}

fn support_end(text: &str) -> Result<Timestamp, String> {
    date::date(text).ok_or_else(|| {
        format!(
            "support_until {:?} is not a date as 2031-12-31",
            visible(text, 32)
        )
    })
}

fn retired(text: &str) -> Result<bool, String> {
    match crate::Lifecycle::from_name(text) {
        Some(lifecycle) => Ok(lifecycle == crate::Lifecycle::Retired),
        None => Err(format!(
            "lifecycle {:?} is no word for it; write retired or leave it empty",
            visible(text, 32)
        )),
    }
}
