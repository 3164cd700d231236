//! Read connections: a few, kept between reads, without an open transaction.

use crate::error::ReadError;
use crate::schema;
use model::{Digest, Timestamp};
use rusqlite::{Connection, OpenFlags, Params, Row};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Connections kept for the next read. More are opened when more threads read at once.
const IDLE_MAX: usize = 4;

/// The longest page.
const PAGE_ROWS_MAX: usize = 1000;

pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Lends a connection. It goes back only after a success: one that failed is closed, so that a
    /// broken one is not met again.
    pub(crate) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let idle = self.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open(&self.path)?,
        };
        let answer = read(&connection)?;
        let mut idle = self.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        Ok(answer)
    }

    pub(crate) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params)?;
            rows.next()?.map(read).transpose()
        })
    }

    pub(crate) fn page<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, ReadError>,
    ) -> Result<Vec<T>, ReadError> {
        let mut page = Vec::new();
        self.for_each(sql, params, |row| {
            page.push(read(row)?);
            Ok(())
        })?;
        Ok(page)
    }

    pub(crate) fn for_each(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<(), ReadError>,
    ) -> Result<u64, ReadError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params)?;
            let mut number = 0u64;
            while let Some(row) = rows.next()? {
                read(row)?;
                number = number.saturating_add(1);
            }
            Ok(number)
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> Result<Connection, ReadError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch(schema::EVERY_CONNECTION)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// A time as a column holds it.
pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(index(millis))
}

/// A number that is never negative; what is nevertheless reads as 0.
pub(crate) fn index(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The `LIMIT` of a page.
pub(crate) fn count(limit: usize) -> i64 {
    i64::try_from(limit.min(PAGE_ROWS_MAX)).unwrap_or(0)
}

pub(crate) fn digest(
    row: &Row<'_>,
    column: usize,
    table: &'static str,
) -> Result<Digest, ReadError> {
    let bytes = row.get_ref(column)?.as_blob();
    bytes
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .map(Digest)
        .ok_or_else(|| ReadError::row(table, "a digest has 32 bytes"))
}
