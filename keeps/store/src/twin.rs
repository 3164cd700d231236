//! Rows of the room `gateway`: what state each device should have, and what it says that it has.

use crate::error::ReadError;
use crate::reader::index;
use crate::row::{name, optional_at};
use crate::store::Store;
use model::{DeviceId, Timestamp};
use rusqlite::params;

/// A device's two documents, JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twin {
    pub device: DeviceId,
    /// What it should be; empty if nobody said so yet.
    pub desired: Vec<u8>,
    /// How often that was set.
    pub version: u64,
    pub desired_at: Option<Timestamp>,
    /// Who set it last; at most 256 bytes.
    pub desired_by: Option<String>,
    /// What it said last; `None`: nothing yet.
    pub reported: Option<Vec<u8>>,
    pub reported_at: Option<Timestamp>,
}

/// A write of twins.
#[derive(Debug, Clone)]
pub enum TwinWrite {
    /// Sets what a device should be, at most 16 KiB. Conflict: it was set `version` times no more, or
    /// less.
    Desire {
        device: DeviceId,
        document: Vec<u8>,
        version: u64,
        by: String,
        at: Timestamp,
    },
    /// What devices said, at most 16 KiB each.
    Report(Vec<(DeviceId, Vec<u8>, Timestamp)>),
}

impl TwinWrite {
    pub(crate) fn grants(&self) -> bool {
        matches!(self, Self::Desire { .. })
    }

    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Desire { .. } => 1,
            Self::Report(rows) => rows.len(),
        }
    }
}

impl Store {
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn twin(&self, device: &DeviceId) -> Result<Option<Twin>, ReadError> {
        self.readers().one(
            "SELECT device, desired, version, desired_at, desired_by, reported, reported_at
             FROM twin WHERE tenant = ?1 AND device = ?2",
            params![self.tenant_text(), device.as_str()],
            |row| {
                Ok(Twin {
                    device: name(row, 0, "twin")?,
                    desired: row.get(1)?,
                    version: index(row.get(2)?),
                    desired_at: optional_at(row, 3)?,
                    desired_by: row.get(4)?,
                    reported: row.get(5)?,
                    reported_at: optional_at(row, 6)?,
                })
            },
        )
    }
}
