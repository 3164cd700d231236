//! Rows of the room `identity`: who is known, expected, certified, revoked.

use crate::error::ReadError;
use crate::reader::{at, count, digest};
use crate::row::{groups, name};
use crate::store::Store;
use model::{
    CertificateId, DeviceId, Digest, GroupId, ManufacturerId, PersonId, Principal, ProductId,
    Revocable, RevocationReason, SerialNumber, ServiceId, Timestamp,
};
use rusqlite::{OptionalExtension, Row, params};

/// Whoever vouches for devices, by a factory CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manufacturer {
    pub id: ManufacturerId,
    /// The CA certificate, DER.
    pub ca: Vec<u8>,
    pub added_at: Timestamp,
}

/// One line of a list of devices that may enroll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedDevice {
    pub manufacturer: ManufacturerId,
    pub serial: SerialNumber,
    pub product: ProductId,
    pub device: DeviceId,
    pub groups: Vec<GroupId>,
}

/// A device that enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub id: DeviceId,
    pub product: ProductId,
    pub groups: Vec<GroupId>,
    pub manufacturer: ManufacturerId,
    pub serial: SerialNumber,
    pub enrolled_at: Timestamp,
}

/// A device as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    pub device: Device,
    /// 1 when first written, one more with each write.
    pub version: u64,
    pub revoked: Option<Revocation>,
}

/// Whom a certificate is for; this is its kind as well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// An LDevID.
    Device(DeviceId),
    Service(ServiceId),
    /// The plane's own doors.
    Server,
}

impl Holder {
    /// `ldevid`, `service` or `server`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Device(_) => "ldevid",
            Self::Service(_) => "service",
            Self::Server => "server",
        }
    }

    /// `None` for the server: it is nobody's principal.
    #[must_use]
    pub fn principal(&self) -> Option<Principal> {
        match self {
            Self::Device(id) => Some(Principal::Device(id.clone())),
            Self::Service(id) => Some(Principal::Service(id.clone())),
            Self::Server => None,
        }
    }
}

/// A certificate that we issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub id: CertificateId,
    pub holder: Holder,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// SHA-256 of its SubjectPublicKeyInfo; `None` in a row of an earlier format.
    pub key: Option<Digest>,
    /// Of its key, as people read it: `P-256`, `RSA 2048`; `None` in a row of an earlier format.
    pub key_kind: Option<String>,
    pub der: Vec<u8>,
}

/// A certificate as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRow {
    pub certificate: Certificate,
    /// Of this certificate; that its holder is revoked stands at the holder.
    pub revoked: Option<Revocation>,
}

/// When and why something was withdrawn. The first one counts, but for a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revocation {
    pub at: Timestamp,
    pub reason: RevocationReason,
}

/// A certificate that a newer one of its device has superseded, when that one opened a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superseded {
    pub certificate: CertificateId,
    pub by: CertificateId,
    pub at: Timestamp,
}

/// What memory needs of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedRow {
    pub certificate: CertificateId,
    /// `None`: it is for our own doors.
    pub principal: Option<Principal>,
    /// Of its public key; absent in rows of an earlier format, whose `der` is then given.
    pub key: Option<Digest>,
    pub der: Option<Vec<u8>>,
    pub not_after: Timestamp,
}

/// A single-use sign-in token, known by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose; `None`: the first person's.
    pub person: Option<PersonId>,
    pub expires_at: Timestamp,
    pub used_at: Option<Timestamp>,
}

/// All rows, for rebuilding memory at start. Each is one read of one moment, in the order of the
/// key; the answer is the number of rows. While a callback runs, the write-ahead log cannot shrink:
/// keep it short.
impl Store {
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_manufacturer(
        &self,
        mut each: impl FnMut(Manufacturer),
    ) -> Result<u64, ReadError> {
        self.readers().for_each(
            "SELECT manufacturer, ca, added_at FROM manufacturer
             WHERE tenant = ?1 AND length(ca) > 0 ORDER BY manufacturer",
            params![self.tenant_text()],
            |row| manufacturer(row).map(&mut each),
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_expected_device(
        &self,
        mut each: impl FnMut(ExpectedDevice),
    ) -> Result<u64, ReadError> {
        self.readers().for_each(
            "SELECT manufacturer, serial, product, device, groups FROM expected_device
             WHERE tenant = ?1 ORDER BY manufacturer, serial",
            params![self.tenant_text()],
            |row| expected_device(row).map(&mut each),
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_device(&self, mut each: impl FnMut(DeviceRow)) -> Result<u64, ReadError> {
        self.readers().for_each(
            &format!("{DEVICES} WHERE d.tenant = ?1 ORDER BY d.device"),
            params![self.tenant_text()],
            |row| device(row).map(&mut each),
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_certificate(
        &self,
        mut each: impl FnMut(CertificateRow),
    ) -> Result<u64, ReadError> {
        self.readers().for_each(
            &format!("{CERTIFICATES} WHERE c.tenant = ?1 ORDER BY c.issuer, c.serial"),
            params![self.tenant_text()],
            |row| certificate(row).map(&mut each),
        )
    }

    /// Certificates of devices, services and doors, in the order in which they were issued, to the
    /// second.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_issued(&self, mut each: impl FnMut(IssuedRow)) -> Result<u64, ReadError> {
        const TABLE: &str = "certificate";
        self.readers().for_each(
            // The certificates themselves stay out of the sort.
            "SELECT issuer, serial, principal, not_after, key,
                 CASE WHEN key IS NULL THEN der END FROM certificate
             WHERE tenant = ?1 ORDER BY not_before",
            params![self.tenant_text()],
            |row| {
                each(IssuedRow {
                    certificate: certificate_id(row, 0, TABLE)?,
                    principal: match row.get_ref(2)? {
                        rusqlite::types::ValueRef::Null => None,
                        _ => Some(name(row, 2, TABLE)?),
                    },
                    not_after: at(row.get(3)?),
                    key: match row.get_ref(4)? {
                        rusqlite::types::ValueRef::Null => None,
                        _ => Some(digest(row, 4, TABLE)?),
                    },
                    der: row.get(5)?,
                });
                Ok(())
            },
        )
    }

    /// Certificates that are superseded and not revoked yet.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_superseded(&self, mut each: impl FnMut(Superseded)) -> Result<u64, ReadError> {
        const TABLE: &str = "superseded_certificate";
        self.readers().for_each(
            "SELECT issuer, serial, by_issuer, by_serial, superseded_at
             FROM superseded_certificate WHERE tenant = ?1 ORDER BY issuer, serial",
            params![self.tenant_text()],
            |row| {
                each(Superseded {
                    certificate: certificate_id(row, 0, TABLE)?,
                    by: certificate_id(row, 2, TABLE)?,
                    at: at(row.get(4)?),
                });
                Ok(())
            },
        )
    }

    /// Every revocation and hold: the widest first, then principals, then certificates.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_revocation(
        &self,
        mut each: impl FnMut(Revocable, Revocation),
    ) -> Result<u64, ReadError> {
        let mut rows = 0_u64;
        for (table, sql) in [
            (
                "scope_revocation",
                "SELECT revoked_at, reason, scope FROM scope_revocation WHERE tenant = ?1
                 ORDER BY scope",
            ),
            (
                "principal_revocation",
                "SELECT revoked_at, reason, principal FROM principal_revocation WHERE tenant = ?1
                 ORDER BY principal",
            ),
        ] {
            let found = self
                .readers()
                .for_each(sql, params![self.tenant_text()], |row| {
                    let what = name::<Revocable>(row, 2, table)?;
                    if let Some(revocation) = revocation(row, 0)? {
                        each(what, revocation);
                    }
                    Ok(())
                })?;
            rows = rows.saturating_add(found);
        }
        let certificates = self.readers().for_each(
            "SELECT revoked_at, reason, issuer, serial FROM certificate_revocation
             WHERE tenant = ?1 ORDER BY issuer, serial",
            params![self.tenant_text()],
            |row| {
                let id = certificate_id(row, 2, "certificate_revocation")?;
                if let Some(revocation) = revocation(row, 0)? {
                    each(Revocable::Certificate(id), revocation);
                }
                Ok(())
            },
        )?;
        Ok(rows.saturating_add(certificates))
    }
}

/// Single rows and pages. A page begins after a key (`None`: at the start), holds up to `limit`
/// rows (at most 1000), and is in the order of the key.
impl Store {
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn manufacturer(&self, id: &ManufacturerId) -> Result<Option<Manufacturer>, ReadError> {
        self.readers().one(
            "SELECT manufacturer, ca, added_at FROM manufacturer
             WHERE tenant = ?1 AND manufacturer = ?2 AND length(ca) > 0",
            params![self.tenant_text(), id.as_str()],
            manufacturer,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn expected_device(
        &self,
        manufacturer: &ManufacturerId,
        serial: &SerialNumber,
    ) -> Result<Option<ExpectedDevice>, ReadError> {
        self.readers().one(
            "SELECT manufacturer, serial, product, device, groups FROM expected_device
             WHERE tenant = ?1 AND manufacturer = ?2 AND serial = ?3",
            params![self.tenant_text(), manufacturer.as_str(), serial.as_str()],
            expected_device,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn expected_devices(
        &self,
        after: Option<(&ManufacturerId, &SerialNumber)>,
        limit: usize,
    ) -> Result<Vec<ExpectedDevice>, ReadError> {
        let (manufacturer, serial) = after.map_or(("", ""), |(m, s)| (m.as_str(), s.as_str()));
        self.readers().page(
            "SELECT manufacturer, serial, product, device, groups FROM expected_device
             WHERE tenant = ?1 AND (manufacturer, serial) > (?2, ?3)
             ORDER BY manufacturer, serial LIMIT ?4",
            params![self.tenant_text(), manufacturer, serial, count(limit)],
            expected_device,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn device(&self, id: &DeviceId) -> Result<Option<DeviceRow>, ReadError> {
        self.readers().one(
            &format!("{DEVICES} WHERE d.tenant = ?1 AND d.device = ?2"),
            params![self.tenant_text(), id.as_str()],
            device,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn devices(
        &self,
        after: Option<&DeviceId>,
        limit: usize,
    ) -> Result<Vec<DeviceRow>, ReadError> {
        self.readers().page(
            &format!("{DEVICES} WHERE d.tenant = ?1 AND d.device > ?2 ORDER BY d.device LIMIT ?3"),
            params![
                self.tenant_text(),
                after.map_or("", DeviceId::as_str),
                count(limit)
            ],
            device,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn certificate(&self, id: &CertificateId) -> Result<Option<CertificateRow>, ReadError> {
        self.readers().one(
            &format!("{CERTIFICATES} WHERE c.tenant = ?1 AND c.issuer = ?2 AND c.serial = ?3"),
            params![self.tenant_text(), id.issuer().0, id.serial()],
            certificate,
        )
    }

    /// The newest 1000 certificates of a principal, the one that ends last first.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn certificates_of(&self, principal: &Principal) -> Result<Vec<CertificateRow>, ReadError> {
        self.readers().page(
            &format!(
                "{CERTIFICATES} WHERE c.tenant = ?1 AND c.principal = ?2
                 ORDER BY c.not_after DESC, c.issuer, c.serial LIMIT 1000"
            ),
            params![self.tenant_text(), principal.to_string()],
            certificate,
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn revocation(&self, of: &Revocable) -> Result<Option<Revocation>, ReadError> {
        let found = match of {
            Revocable::Principal(principal) => self.readers().one(
                "SELECT revoked_at, reason FROM principal_revocation
                 WHERE tenant = ?1 AND principal = ?2",
                params![self.tenant_text(), principal.to_string()],
                |row| revocation(row, 0),
            ),
            Revocable::Certificate(id) => self.readers().one(
                "SELECT revoked_at, reason FROM certificate_revocation
                 WHERE tenant = ?1 AND issuer = ?2 AND serial = ?3",
                params![self.tenant_text(), id.issuer().0, id.serial()],
                |row| revocation(row, 0),
            ),
            scope @ (Revocable::Product(_) | Revocable::Issuer(_)) => self.readers().one(
                "SELECT revoked_at, reason FROM scope_revocation WHERE tenant = ?1 AND scope = ?2",
                params![self.tenant_text(), scope.to_string()],
                |row| revocation(row, 0),
            ),
        };
        found.map(Option::flatten)
    }

    /// # Errors
    /// The disk.
    pub fn token(&self, hash: &Digest) -> Result<Option<Token>, ReadError> {
        self.readers().one(
            "SELECT expires_at, used_at, person FROM token WHERE tenant = ?1 AND hash = ?2",
            params![self.tenant_text(), hash.0],
            |row| {
                let person: Option<String> = row.get(2)?;
                Ok(Token {
                    person: (person.as_deref())
                        .map(PersonId::new)
                        .transpose()
                        .map_err(|e| ReadError::row("token", e.to_string()))?,
                    expires_at: at(row.get(0)?),
                    used_at: row.get::<_, Option<i64>>(1)?.map(at),
                })
            },
        )
    }

    /// Counts without reading rows: devices with a row, and expected ones.
    ///
    /// # Errors
    /// The disk.
    pub fn population(&self) -> Result<Population, ReadError> {
        self.readers().with(|connection| {
            let number = |sql: &str| -> Result<u64, ReadError> {
                let found: Option<i64> = connection
                    .prepare_cached(sql)?
                    .query_row(params![self.tenant_text()], |row| row.get(0))
                    .optional()?;
                Ok(u64::try_from(found.unwrap_or(0)).unwrap_or(0))
            };
            Ok(Population {
                devices: number("SELECT count(*) FROM device WHERE tenant = ?1")?,
                expected_devices: number("SELECT count(*) FROM expected_device WHERE tenant = ?1")?,
                certificates: number("SELECT count(*) FROM certificate WHERE tenant = ?1")?,
            })
        })
    }
}

/// How many rows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Population {
    pub devices: u64,
    pub expected_devices: u64,
    pub certificates: u64,
}

const DEVICES: &str = "SELECT d.device, d.product, d.groups, d.manufacturer, d.serial, \
     d.enrolled_at, d.version, coalesce(r.revoked_at, s.revoked_at), \
     coalesce(r.reason, s.reason) FROM device d \
     LEFT JOIN principal_revocation r \
     ON r.tenant = d.tenant AND r.principal = 'device/' || d.device \
     LEFT JOIN scope_revocation s \
     ON s.tenant = d.tenant AND s.scope = 'product/' || d.product";

const CERTIFICATES: &str = "SELECT c.issuer, c.serial, c.kind, c.principal, c.not_before, \
     c.not_after, c.der, r.revoked_at, r.reason, c.key, c.key_kind FROM certificate c \
     LEFT JOIN certificate_revocation r \
     ON r.tenant = c.tenant AND r.issuer = c.issuer AND r.serial = c.serial";

fn manufacturer(row: &Row<'_>) -> Result<Manufacturer, ReadError> {
    Ok(Manufacturer {
        id: name(row, 0, "manufacturer")?,
        ca: row.get(1)?,
        added_at: at(row.get(2)?),
    })
}

fn expected_device(row: &Row<'_>) -> Result<ExpectedDevice, ReadError> {
    const TABLE: &str = "expected_device";
    Ok(ExpectedDevice {
        manufacturer: name(row, 0, TABLE)?,
        serial: name(row, 1, TABLE)?,
        product: name(row, 2, TABLE)?,
        device: name(row, 3, TABLE)?,
        groups: groups(row, 4, TABLE)?,
    })
}

fn device(row: &Row<'_>) -> Result<DeviceRow, ReadError> {
    const TABLE: &str = "device";
    Ok(DeviceRow {
        device: Device {
            id: name(row, 0, TABLE)?,
            product: name(row, 1, TABLE)?,
            groups: groups(row, 2, TABLE)?,
            manufacturer: name(row, 3, TABLE)?,
            serial: name(row, 4, TABLE)?,
            enrolled_at: at(row.get(5)?),
        },
        version: u64::try_from(row.get::<_, i64>(6)?).map_err(|e| ReadError::row(TABLE, e))?,
        revoked: revocation(row, 7)?,
    })
}

fn certificate(row: &Row<'_>) -> Result<CertificateRow, ReadError> {
    const TABLE: &str = "certificate";
    let kind: String = row.get(2)?;
    let principal = row
        .get::<_, Option<String>>(3)?
        .map(|text| text.parse::<Principal>())
        .transpose()
        .map_err(|e| ReadError::row(TABLE, e))?;
    let holder = match (kind.as_str(), principal) {
        ("ldevid", Some(Principal::Device(id))) => Holder::Device(id),
        ("service", Some(Principal::Service(id))) => Holder::Service(id),
        ("server", None) => Holder::Server,
        _ => return Err(ReadError::row(TABLE, "kind and principal do not fit")),
    };
    Ok(CertificateRow {
        certificate: Certificate {
            id: certificate_id(row, 0, TABLE)?,
            holder,
            not_before: at(row.get(4)?),
            not_after: at(row.get(5)?),
            key: match row.get_ref(9)? {
                rusqlite::types::ValueRef::Null => None,
                _ => Some(digest(row, 9, TABLE)?),
            },
            key_kind: row.get(10)?,
            der: row.get(6)?,
        },
        revoked: revocation(row, 7)?,
    })
}

/// Issuer and serial number out of two columns.
pub(crate) fn certificate_id(
    row: &Row<'_>,
    column: usize,
    table: &'static str,
) -> Result<CertificateId, ReadError> {
    let issuer = digest(row, column, table)?;
    let serial: Vec<u8> = row.get(column.saturating_add(1))?;
    CertificateId::new(issuer, &serial)
        .ok_or_else(|| ReadError::row(table, "no valid serial number"))
}

/// Time and reason out of two columns; `None` where the join found nothing.
pub(crate) fn revocation(row: &Row<'_>, column: usize) -> Result<Option<Revocation>, ReadError> {
    let Some(revoked_at) = row.get::<_, Option<i64>>(column)? else {
        return Ok(None);
    };
    let code: i64 = row.get(column.saturating_add(1))?;
    let reason = u8::try_from(code)
        .ok()
        .and_then(RevocationReason::from_code)
        // A reason of a later version still revokes.
        .unwrap_or(RevocationReason::Unspecified);
    Ok(Some(Revocation {
        at: at(revoked_at),
        reason,
    }))
}
