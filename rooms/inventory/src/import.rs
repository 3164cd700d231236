//! Lists of devices taken in: what a person knows of them besides their identity.

use crate::date;
use crate::device::Record;
use crate::export::COLUMNS;
use crate::machine::Inventory;
use crate::table::{Row, Table, TableError};
use crate::text::{visible, without_mark};
use model::{DeviceId, GroupId, ManufacturerId, ProductId, SerialNumber};
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

impl Inventory {
    /// Reads a list. Columns: `device` (required), `product`, `groups` (separated by `;`),
    /// `manufacturer`, `serial`, `country` (two letters), `support_until` (`2031-12-31`),
    /// `lifecycle` (`retired` takes out of use, any other of its words does not), `note`; the
    /// other columns of an export are left alone. A column that is absent changes nothing, an empty
    /// cell clears. What identity says of a listed or enrolled device cannot be changed here.
    ///
    /// # Errors
    /// The list cannot be read: no header, an unknown column, a quote that never ends.
    pub fn import(&self, text: &str) -> Result<Import, LineError> {
        let mut table = Table::read(text)?;
        let columns = Columns::read(&table)?;
        let mut import = Import::default();
        let mut seen: HashSet<DeviceId> = HashSet::new();
        while let Some(row) = table.next_row()? {
            import.rows = import.rows.saturating_add(1);
            let read = row.map_err(LineError::from).and_then(|row| {
                let line = row.line;
                let refuse = |text: String| LineError { line, text };
                let device = row
                    .cell("device")
                    .ok_or_else(|| refuse("no device".to_owned()))?;
                let device = DeviceId::new(device).map_err(|e| refuse(e.to_string()))?;
                if !seen.insert(device.clone()) {
                    return Err(refuse(format!("device {device} stands there twice")));
                }
                let record = self.merged(&device, &columns, &row).map_err(refuse)?;
                Ok((device, record))
            });
            match read {
                Ok((device, record)) => self.count(&mut import, device, record),
                Err(error) => {
                    import.refused_count = import.refused_count.saturating_add(1);
                    if import.refused.len() < REFUSED_MAX {
                        import.refused.push(error);
                    }
                }
            }
        }
        import.records.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(import)
    }

    fn count(&self, import: &mut Import, device: DeviceId, record: Record) {
        let number = match self.devices.get(&device) {
            None => &mut import.added,
            Some(held) => {
                let unchanged = match held.record.as_deref() {
                    Some(stored) => *stored == record,
                    None => record == Record::default(),
                };
                if unchanged {
                    import.unchanged = import.unchanged.saturating_add(1);
                    return;
                }
                &mut import.changed
            }
        };
        *number = number.saturating_add(1);
        import.records.push((device, record));
    }

    /// What is on record of it, with the row laid over.
    fn merged(
        &self,
        device: &DeviceId,
        columns: &Columns,
        row: &Row<'_, '_>,
    ) -> Result<Record, String> {
        let held = self.devices.get(device);
        let mut record = held
            .and_then(|held| held.record.as_deref().cloned())
            .unwrap_or_default();
        let text = |column: &str| row.cell(column).map(without_mark);
        if columns.product {
            record.product = text("product")
                .map(ProductId::new)
                .transpose()
                .map_err(said)?;
        }
        if columns.groups {
            record.groups = groups(text("groups").unwrap_or(""))?;
        }
        if columns.manufacturer {
            record.manufacturer = text("manufacturer")
                .map(ManufacturerId::new)
                .transpose()
                .map_err(said)?;
        }
        if columns.serial {
            record.serial = text("serial")
                .map(SerialNumber::new)
                .transpose()
                .map_err(said)?;
        }
        if columns.country {
            record.country = text("country").map(country).transpose()?;
        }
        if columns.support_until {
            record.support_until = text("support_until").map(support_end).transpose()?;
        }
        if columns.lifecycle {
            record.retired = text("lifecycle").map_or(Ok(false), retired)?;
        }
        if columns.note {
            record.note = text("note").map(|note| visible(note, NOTE_CHARS_MAX));
        }
        if let Some(known) = held.and_then(|held| held.known.as_deref()) {
            let differs = |what: &str, listed: &str, stands: &str| {
                format!(
                    "its identity says {what} {stands}, the list says {}; correct the list, \
                     or list the device anew with identity",
                    visible(listed, 64)
                )
            };
            if let Some(id) = record.product.as_ref().filter(|id| **id != known.product) {
                return Err(differs("product", id.as_str(), known.product.as_str()));
            }
            if let Some(id) = record.serial.as_ref().filter(|id| **id != known.serial) {
                return Err(differs("serial", id.as_str(), known.serial.as_str()));
            }
            if let Some(id) = record.manufacturer.as_ref()
                && *id != known.manufacturer
            {
                return Err(differs(
                    "manufacturer",
                    id.as_str(),
                    known.manufacturer.as_str(),
                ));
            }
            if columns.groups && !record.groups.is_empty() && record.groups != known.groups {
                return Err(differs("groups", "others", "otherwise"));
            }
            // Identity's own words stand where they are; a copy could only grow old.
            record.product = None;
            record.serial = None;
            record.manufacturer = None;
            record.groups = Vec::new();
        }
        Ok(record)
    }
}

/// Which columns the list has.
struct Columns {
    product: bool,
    groups: bool,
    manufacturer: bool,
    serial: bool,
    country: bool,
    support_until: bool,
    lifecycle: bool,
    note: bool,
}

impl Columns {
    fn read(table: &Table<'_>) -> Result<Self, LineError> {
        let refuse = |text: String| LineError { line: 1, text };
        let mut unknown: Vec<&str> = table
            .columns()
            .filter(|name| !COLUMNS.contains(name))
            .collect();
        unknown.sort_unstable();
        if let Some(name) = unknown.first() {
            return Err(refuse(format!(
                "there is no column {:?}; there are {}",
                visible(name, 64),
                COLUMNS.join(", ")
            )));
        }
        if !table.has("device") {
            return Err(refuse("the column device is missing".to_owned()));
        }
        Ok(Self {
            product: table.has("product"),
            groups: table.has("groups"),
            manufacturer: table.has("manufacturer"),
            serial: table.has("serial"),
            country: table.has("country"),
            support_until: table.has("support_until"),
            lifecycle: table.has("lifecycle"),
            note: table.has("note"),
        })
    }
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

fn support_end(text: &str) -> Result<model::Timestamp, String> {
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
