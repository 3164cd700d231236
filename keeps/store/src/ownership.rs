//! Rows of ownership: whose a device is, whose it was, and the code that claims it.

use crate::error::ReadError;
use crate::reader::{at, digest};
use crate::row::{name, optional_at};
use crate::store::Store;
use model::{DeviceId, Digest, OwnerId, Timestamp};
use rusqlite::{Row, params};

/// A secret that claims one device, known by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnershipCode {
    pub device: DeviceId,
    pub hash: Digest,
    pub expires_at: Timestamp,
}

/// Whose a device is, and whom it is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    pub owner: OwnerId,
    /// Of the owner's name in the log.
    pub salt: Vec<u8>,
    pub offered_to: Option<OwnerId>,
}

/// One owner's time with a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnershipPeriod {
    pub owned: Owned,
    pub since: Timestamp,
    pub until: Option<Timestamp>,
}

/// From one standing to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnershipStep {
    pub device: DeviceId,
    pub before: Option<Owned>,
    pub after: Option<Owned>,
    pub at: Timestamp,
}

impl OwnershipStep {
    /// Whether somebody has more by it than before: a device, or the offer of one.
    pub(crate) fn gives(&self) -> bool {
        let offered = |owned: &Owned| owned.offered_to.clone();
        match (&self.before, &self.after) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(before), Some(after)) => {
                before.owner != after.owner
                    || (after.offered_to.is_some() && offered(before) != offered(after))
            }
        }
    }
}

const PERIODS: &str = "SELECT owner, salt, offered_to, since, until FROM ownership";

impl Store {
    /// Whose a device is now.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn ownership(&self, device: &DeviceId) -> Result<Option<OwnershipPeriod>, ReadError> {
        self.readers().one(
            &format!("{PERIODS} WHERE tenant = ?1 AND device = ?2 AND until IS NULL"),
            params![self.tenant_text(), device.as_str()],
            period,
        )
    }

    /// Whose it was and is, the latest 100, the latest first.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn ownership_history(&self, device: &DeviceId) -> Result<Vec<OwnershipPeriod>, ReadError> {
        self.readers().page(
            &format!("{PERIODS} WHERE tenant = ?1 AND device = ?2 ORDER BY number DESC LIMIT 100"),
            params![self.tenant_text(), device.as_str()],
            period,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn ownership_code(&self, device: &DeviceId) -> Result<Option<OwnershipCode>, ReadError> {
        const TABLE: &str = "ownership_code";
        self.readers().one(
            "SELECT device, hash, expires_at FROM ownership_code
             WHERE tenant = ?1 AND device = ?2",
            params![self.tenant_text(), device.as_str()],
            |row| {
                Ok(OwnershipCode {
                    device: name(row, 0, TABLE)?,
                    hash: digest(row, 1, TABLE)?,
                    expires_at: at(row.get(2)?),
                })
            },
        )
    }
}

fn period(row: &Row<'_>) -> Result<OwnershipPeriod, ReadError> {
    const TABLE: &str = "ownership";
    let offered_to: Option<String> = row.get(2)?;
    Ok(OwnershipPeriod {
        owned: Owned {
            owner: name(row, 0, TABLE)?,
            salt: row.get(1)?,
            offered_to: (offered_to.as_deref())
                .map(OwnerId::new)
                .transpose()
                .map_err(|_| ReadError::row(TABLE, "no valid owner"))?,
        },
        since: at(row.get(3)?),
        until: optional_at(row, 4)?,
    })
}
