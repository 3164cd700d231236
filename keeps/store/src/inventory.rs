//! Rows of the room `inventory` that a person wrote: what is known of a device besides its identity.
//! What was observed is in [`crate::Facts`].

use crate::error::ReadError;
use crate::reader::{at, count};
use crate::row::{groups, name, optional_at, optional_name};
use crate::store::Store;
use model::{DeviceId, GroupId, ManufacturerId, ProductId, SerialNumber, Timestamp};
use rusqlite::{Row, params};

/// What an import or a person said about a device. It grants nothing: a device of a record alone
/// cannot enroll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    pub device: DeviceId,
    /// As listed; for a device that enrolled, its identity's counts.
    pub product: Option<ProductId>,
    pub groups: Vec<GroupId>,
    pub manufacturer: Option<ManufacturerId>,
    pub serial: Option<SerialNumber>,
    /// ISO 3166-1 alpha-2.
    pub country: Option<String>,
    pub support_until: Option<Timestamp>,
    /// Taken out of use, as somebody said.
    pub retired: bool,
    /// At most 1 KiB.
    pub note: Option<String>,
    pub changed_at: Timestamp,
}

impl Store {
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_device_record(
        &self,
        mut each: impl FnMut(DeviceRecord),
    ) -> Result<u64, ReadError> {
        self.readers().for_each(
            &format!("{RECORDS} WHERE tenant = ?1 ORDER BY device"),
            params![self.tenant_text()],
            |row| record(row).map(&mut each),
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn device_record(&self, device: &DeviceId) -> Result<Option<DeviceRecord>, ReadError> {
        self.readers().one(
            &format!("{RECORDS} WHERE tenant = ?1 AND device = ?2"),
            params![self.tenant_text(), device.as_str()],
            record,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn device_records(
        &self,
        after: Option<&DeviceId>,
        limit: usize,
    ) -> Result<Vec<DeviceRecord>, ReadError> {
        self.readers().page(
            &format!("{RECORDS} WHERE tenant = ?1 AND device > ?2 ORDER BY device LIMIT ?3"),
            params![
                self.tenant_text(),
                after.map_or("", DeviceId::as_str),
                count(limit)
            ],
            record,
        )
    }
}

const RECORDS: &str = "SELECT device, product, groups, manufacturer, serial, country, \
     support_until, retired, note, changed_at FROM device_record";

fn record(row: &Row<'_>) -> Result<DeviceRecord, ReadError> {
    const TABLE: &str = "device_record";
    Ok(DeviceRecord {
        device: name(row, 0, TABLE)?,
        product: optional_name(row, 1, TABLE)?,
        groups: groups(row, 2, TABLE)?,
        manufacturer: optional_name(row, 3, TABLE)?,
        serial: optional_name(row, 4, TABLE)?,
        country: row.get(5)?,
        support_until: optional_at(row, 6)?,
        retired: row.get(7)?,
        note: row.get(8)?,
        changed_at: at(row.get(9)?),
    })
}
