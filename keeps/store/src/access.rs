//! Rows of the room `access`: the fleet as applied.

use crate::error::ReadError;
use crate::reader::{at, count, digest, index};
use crate::store::Store;
use model::{Digest, Timestamp};
use rusqlite::{Row, params};

/// One applied version of the fleet's sources. Versions count from 1 without a gap; all are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    pub version: u64,
    /// Over the canonical sources; made by the room.
    pub digest: Digest,
    /// The sources, packed by the caller; at most 16 MiB.
    pub files: Vec<u8>,
    pub applied_at: Timestamp,
}

/// One applied version, without its sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetVersion {
    pub version: u64,
    pub digest: Digest,
    pub applied_at: Timestamp,
}

impl Store {
    /// The version in force; `None` before the first apply.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn fleet(&self) -> Result<Option<Fleet>, ReadError> {
        self.readers().one(
            "SELECT version, digest, files, applied_at FROM fleet WHERE tenant = ?1
             ORDER BY version DESC LIMIT 1",
            params![self.tenant_text()],
            fleet,
        )
    }

    /// An earlier version.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn fleet_at(&self, version: u64) -> Result<Option<Fleet>, ReadError> {
        let Ok(version) = i64::try_from(version) else {
            return Ok(None);
        };
        self.readers().one(
            "SELECT version, digest, files, applied_at FROM fleet
             WHERE tenant = ?1 AND version = ?2",
            params![self.tenant_text(), version],
            fleet,
        )
    }

    /// Versions below `before` (or all), the newest first, at most `limit`.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn fleet_versions(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<FleetVersion>, ReadError> {
        let before = before.and_then(|version| i64::try_from(version).ok());
        self.readers().page(
            "SELECT version, digest, applied_at FROM fleet
             WHERE tenant = ?1 AND version < ?2 ORDER BY version DESC LIMIT ?3",
            params![self.tenant_text(), before.unwrap_or(i64::MAX), count(limit)],
            |row| {
                const TABLE: &str = "fleet";
                Ok(FleetVersion {
                    version: index(row.get(0)?),
                    digest: digest(row, 1, TABLE)?,
                    applied_at: at(row.get(2)?),
                })
            },
        )
    }
}

fn fleet(row: &Row<'_>) -> Result<Fleet, ReadError> {
    const TABLE: &str = "fleet";
    Ok(Fleet {
        version: u64::try_from(row.get::<_, i64>(0)?).map_err(|e| ReadError::row(TABLE, e))?,
        digest: digest(row, 1, TABLE)?,
        files: row.get(2)?,
        applied_at: at(row.get(3)?),
    })
}
