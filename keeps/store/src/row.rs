//! Columns as nouns, checked again: the file may have been edited by hand.

use crate::error::ReadError;
use crate::reader::{at, index};
use model::{GroupId, IncidentId, Timestamp};
use rusqlite::Row;

/// A name out of a text column.
pub(crate) fn name<T: std::str::FromStr>(
    row: &Row<'_>,
    column: usize,
    table: &'static str,
) -> Result<T, ReadError>
where
    T::Err: ToString,
{
    let text = row.get_ref(column)?;
    text.as_str()
        .map_err(|e| ReadError::row(table, e))?
        .parse()
        .map_err(|e: T::Err| ReadError::row(table, e.to_string()))
}

/// A name that may be absent.
pub(crate) fn optional_name<T: std::str::FromStr>(
    row: &Row<'_>,
    column: usize,
    table: &'static str,
) -> Result<Option<T>, ReadError>
where
    T::Err: ToString,
{
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => name(row, column, table).map(Some),
    }
}

/// A value of a closed list, by its name.
pub(crate) fn named<T>(
    row: &Row<'_>,
    column: usize,
    table: &'static str,
    from_name: impl FnOnce(&str) -> Option<T>,
) -> Result<T, ReadError> {
    let text: String = row.get(column)?;
    from_name(&text).ok_or_else(|| ReadError::row(table, format!("{text:?} is not of the list")))
}

pub(crate) fn optional_named<T>(
    row: &Row<'_>,
    column: usize,
    table: &'static str,
    from_name: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, ReadError> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => named(row, column, table, from_name).map(Some),
    }
}

pub(crate) fn optional_at(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, ReadError> {
    Ok(row.get::<_, Option<i64>>(column)?.map(at))
}

pub(crate) fn incident_id(row: &Row<'_>, column: usize) -> Result<Option<IncidentId>, ReadError> {
    let number: Option<i64> = row.get(column)?;
    Ok(number.map(|number| IncidentId(index(number))))
}

/// Groups, joined by `;` as [`join_groups`] does.
pub(crate) fn groups(
    row: &Row<'_>,
    column: usize,
    table: &'static str,
) -> Result<Vec<GroupId>, ReadError> {
    let text: String = row.get(column)?;
    text.split(';')
        .filter(|group| !group.is_empty())
        .map(|group| GroupId::new(group).map_err(|e| ReadError::row(table, e)))
        .collect()
}

/// How groups stand in a column.
pub(crate) fn join_groups(groups: &[GroupId]) -> String {
    let mut text = String::new();
    for group in groups {
        if !text.is_empty() {
            text.push(';');
        }
        text.push_str(group.as_str());
    }
    text
}
