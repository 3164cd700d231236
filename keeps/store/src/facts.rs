//! `facts.db`: what was observed. Not authority: nothing that gates a privilege is read from here.
//!
//! Written in batches, about one a second, with `synchronous = NORMAL`: a killed process loses what
//! it had not handed over yet, a power cut may take the last batches too, and the file stays whole.

use crate::change::CommitError;
use crate::error::{OpenError, ReadError};
use crate::folder;
use crate::reader::{Readers, at, digest, index};
use crate::row::{groups, incident_id, name, named, optional_at, optional_named};
use crate::schema;
use crate::writer::storage_in;
use model::{
    Assurance, Attribution, DeviationKind, DeviceId, Digest, GroupId, IncidentId, ProductId,
    ServiceId, Severity, Source, Subject, TenantId, Timestamp,
};
use rusqlite::{Connection, Row, Transaction, params};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Largest value under a key.
const BLOB_BYTES_MAX: usize = 256 << 20;

/// What was observed of a device, without its addresses and peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    pub device: DeviceId,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub firmware: Option<FirmwareRow>,
    /// What its agent says it cannot see, a line each; no line holds a line end.
    pub unseen: Vec<String>,
}

/// The firmware that was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareRow {
    pub version: String,
    pub digest: Option<Digest>,
    pub source: Source,
    pub at: Timestamp,
}

/// An address that a device spoke from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRow {
    pub address: IpAddr,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub source: Source,
}

/// Whom a device talks to, as one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey {
    pub address: IpAddr,
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
}

/// Whom a device talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRow {
    pub key: PeerKey,
    pub host: Option<String>,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub bytes_out: u64,
    pub source: Source,
}

/// What the room `detection` raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRow {
    pub id: u64,
    pub subject: Subject,
    pub kind: DeviationKind,
    pub entity: String,
    pub severity: Severity,
    pub open: bool,
    pub count: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub expected: String,
    pub seen: String,
    pub source: Source,
    pub attribution: Attribution,
    pub observed_by: String,
    pub incident: Option<IncidentId>,
    /// In the room's own form.
    pub evidence: Vec<u8>,
}

/// What a kind of principal sent or heard in a channel on a day: counts, never messages or names of
/// devices. One without a service and without topics is what was not told apart on that day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficRow {
    /// Days since 1970.
    pub day: u32,
    /// `None`: devices.
    pub service: Option<ServiceId>,
    pub product: Option<ProductId>,
    pub groups: Vec<GroupId>,
    pub assurance: Assurance,
    /// The template of the channel.
    pub topics: String,
    pub received: bool,
    pub own: bool,
    pub messages: u64,
    pub bytes: u64,
    pub bytes_max: u32,
    /// A sketch of how many devices, in the form of who made it.
    pub devices: Vec<u8>,
}

/// One write of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FactsWrite {
    Device(DeviceFacts),
    Address(DeviceId, AddressRow),
    Peer(DeviceId, PeerRow),
    ForgetAddress(DeviceId, IpAddr),
    ForgetPeer(DeviceId, PeerKey),
    /// Addresses and peers that were last seen before these moments.
    ForgetBefore {
        addresses: Timestamp,
        peers: Timestamp,
    },
    /// Everything of a device.
    ForgetDevice(DeviceId),
    /// A value of the plane's own: a baseline's snapshot for one. Up to 256 MiB.
    PutBlob {
        key: String,
        value: Vec<u8>,
    },
    Alert(AlertRow),
    ForgetAlert(u64),
    /// Takes the place of the row of the same day, kind, topics and way.
    Traffic(TrafficRow),
    /// Traffic of earlier days.
    ForgetTraffic {
        before_day: u32,
    },
}

/// The database `facts.db` of one tenant, beside `control.db` in the folder that [`crate::Store`]
/// holds the lock of: open that first.
pub struct Facts {
    tenant: TenantId,
    readers: Readers,
    writer: Mutex<Connection>,
}

impl Facts {
    /// Opens the file, or makes it (mode 0600).
    ///
    /// # Errors
    /// Wider modes, another tenant, another program's or a newer version's file, damage, the disk.
    pub fn open(dir: &Path, tenant: &TenantId) -> Result<Self, OpenError> {
        folder::make_private(dir)?;
        let path = dir.join("facts.db");
        folder::make_private_file(&path)?;
        for suffix in ["-wal", "-shm"] {
            folder::check_private_file(&dir.join(format!("facts.db{suffix}")))?;
        }
        let connection =
            crate::store::connect(&path, &schema::FACTS, tenant).map_err(OpenError::of_facts)?;
        let sql = |error: rusqlite::Error| OpenError::of_facts(OpenError::sql(&path, &error));
        connection
            .execute_batch(
                "PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 67108864;
                 PRAGMA cache_size = -32768;",
            )
            .map_err(sql)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self {
            tenant: tenant.clone(),
            readers: Readers::new(path),
            writer: Mutex::new(connection),
        })
    }

    /// Writes a batch, all or nothing. Blocks; a second caller waits.
    ///
    /// # Errors
    /// [`CommitError::Invalid`], or the disk's; then nothing of the batch is there.
    pub fn write(&self, batch: &[FactsWrite]) -> Result<(), CommitError> {
        for write in batch {
            if let FactsWrite::PutBlob { key, value } = write
                && (!(1..=128).contains(&key.len()) || value.len() > BLOB_BYTES_MAX)
            {
                return Err(CommitError::Invalid {
                    what: "a key has 1 to 128 bytes, its value at most 256 MiB".to_owned(),
                });
            }
        }
        let mut connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let done = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .and_then(|transaction| {
                for one in batch {
                    put(&transaction, self.tenant.as_str(), one)?;
                }
                transaction.commit()
            });
        done.map_err(|error| storage_in("facts.db", &error))
    }

    /// Every device of which something was observed, in the order of their names.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_device(&self, mut each: impl FnMut(DeviceFacts)) -> Result<u64, ReadError> {
        self.for_each(
            "SELECT device, first_seen, last_seen, firmware_version, firmware_digest,
             firmware_source, firmware_at, unseen FROM device WHERE tenant = ?1 ORDER BY device",
            params![self.tenant.as_str()],
            |row| device(row).map(&mut each),
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_address(
        &self,
        mut each: impl FnMut(DeviceId, AddressRow),
    ) -> Result<u64, ReadError> {
        const TABLE: &str = "address";
        self.for_each(
            "SELECT device, address, first_seen, last_seen, source FROM address
             WHERE tenant = ?1 ORDER BY device, address",
            params![self.tenant.as_str()],
            |row| {
                let address = AddressRow {
                    address: name(row, 1, TABLE)?,
                    first_seen: at(row.get(2)?),
                    last_seen: at(row.get(3)?),
                    source: named(row, 4, TABLE, Source::from_name)?,
                };
                each(name(row, 0, TABLE)?, address);
                Ok(())
            },
        )
    }

    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_peer(&self, mut each: impl FnMut(DeviceId, PeerRow)) -> Result<u64, ReadError> {
        const TABLE: &str = "peer";
        self.for_each(
            "SELECT device, address, port, protocol, host, first_seen, last_seen, bytes_out, source
             FROM peer WHERE tenant = ?1 ORDER BY device, address, port, protocol",
            params![self.tenant.as_str()],
            |row| {
                let peer = PeerRow {
                    key: PeerKey {
                        address: name(row, 1, TABLE)?,
                        port: row.get(2)?,
                        protocol: named(row, 3, TABLE, protocol)?,
                    },
                    host: row.get(4)?,
                    first_seen: at(row.get(5)?),
                    last_seen: at(row.get(6)?),
                    bytes_out: index(row.get(7)?),
                    source: named(row, 8, TABLE, Source::from_name)?,
                };
                each(name(row, 0, TABLE)?, peer);
                Ok(())
            },
        )
    }

    /// A value of the plane's own ([`FactsWrite::PutBlob`]).
    ///
    /// # Errors
    /// The disk.
    pub fn blob(&self, key: &str) -> Result<Option<Vec<u8>>, ReadError> {
        let value = self.readers.one(
            "SELECT value FROM blob WHERE tenant = ?1 AND key = ?2",
            params![self.tenant.as_str(), key],
            |row| Ok(row.get(0)?),
        );
        value.map_err(ReadError::of_facts)
    }

    /// Every alert, the oldest first.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_alert(&self, mut each: impl FnMut(AlertRow)) -> Result<u64, ReadError> {
        self.for_each(
            "SELECT alert, subject, kind, entity, severity, open, number, first_seen, last_seen,
             expected, seen, source, attribution, observed_by, incident, evidence
             FROM alert WHERE tenant = ?1 ORDER BY alert",
            params![self.tenant.as_str()],
            |row| alert(row).map(&mut each),
        )
    }

    /// Traffic from `day` on, the oldest first.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_traffic(
        &self,
        day: u32,
        mut each: impl FnMut(TrafficRow),
    ) -> Result<u64, ReadError> {
        self.for_each(
            "SELECT day, service, product, groups, assurance, topics, received, own, messages,
             bytes, bytes_max, devices FROM traffic
             WHERE tenant = ?1 AND day >= ?2 ORDER BY day",
            params![self.tenant.as_str(), day],
            |row| traffic(row).map(&mut each),
        )
    }

    fn for_each(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        each: impl FnMut(&rusqlite::Row<'_>) -> Result<(), ReadError>,
    ) -> Result<u64, ReadError> {
        let rows = self.readers.for_each(sql, params, each);
        rows.map_err(ReadError::of_facts)
    }
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts")
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

fn put(transaction: &Transaction<'_>, tenant: &str, write: &FactsWrite) -> rusqlite::Result<()> {
    match write {
        FactsWrite::Device(row) => put_device(transaction, tenant, row),
        FactsWrite::Address(device, row) => put_address(transaction, tenant, device, row),
        FactsWrite::Peer(device, row) => put_peer(transaction, tenant, device, row),
        FactsWrite::Alert(row) => put_alert(transaction, tenant, row),
        FactsWrite::Traffic(row) => put_traffic(transaction, tenant, row),
        FactsWrite::ForgetTraffic { before_day } => transaction
            .prepare_cached("DELETE FROM traffic WHERE tenant = ?1 AND day < ?2")?
            .execute(params![tenant, before_day])
            .map(drop),
        FactsWrite::ForgetAddress(device, address) => transaction
            .prepare_cached(
                "DELETE FROM address WHERE tenant = ?1 AND device = ?2 AND address = ?3",
            )?
            .execute(params![tenant, device.as_str(), address.to_string()])
            .map(drop),
        FactsWrite::ForgetPeer(device, key) => transaction
            .prepare_cached(
                "DELETE FROM peer WHERE tenant = ?1 AND device = ?2 AND address = ?3
                 AND port = ?4 AND protocol = ?5",
            )?
            .execute(params![
                tenant,
                device.as_str(),
                key.address.to_string(),
                key.port,
                key.protocol
            ])
            .map(drop),
        FactsWrite::ForgetBefore { addresses, peers } => {
            for (sql, before) in [
                (
                    "DELETE FROM address WHERE tenant = ?1 AND last_seen < ?2",
                    addresses,
                ),
                (
                    "DELETE FROM peer WHERE tenant = ?1 AND last_seen < ?2",
                    peers,
                ),
            ] {
                transaction
                    .prepare_cached(sql)?
                    .execute(params![tenant, millis(*before)])?;
            }
            Ok(())
        }
        FactsWrite::ForgetDevice(device) => {
            for sql in [
                "DELETE FROM device WHERE tenant = ?1 AND device = ?2",
                "DELETE FROM address WHERE tenant = ?1 AND device = ?2",
                "DELETE FROM peer WHERE tenant = ?1 AND device = ?2",
            ] {
                transaction
                    .prepare_cached(sql)?
                    .execute(params![tenant, device.as_str()])?;
            }
            Ok(())
        }
        FactsWrite::PutBlob { key, value } => transaction
            .prepare_cached("INSERT OR REPLACE INTO blob (tenant, key, value) VALUES (?1, ?2, ?3)")?
            .execute(params![tenant, key, value])
            .map(drop),
        FactsWrite::ForgetAlert(id) => transaction
            .prepare_cached("DELETE FROM alert WHERE tenant = ?1 AND alert = ?2")?
            .execute(params![tenant, signed(*id)])
            .map(drop),
    }
}

fn put_device(
    transaction: &Transaction<'_>,
    tenant: &str,
    row: &DeviceFacts,
) -> rusqlite::Result<()> {
    let firmware = row.firmware.as_ref();
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO device (tenant, device, first_seen, last_seen,
             firmware_version, firmware_digest, firmware_source, firmware_at, unseen)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            tenant,
            row.device.as_str(),
            millis(row.first_seen),
            millis(row.last_seen),
            firmware.map(|f| f.version.as_str()),
            firmware.and_then(|f| f.digest.map(|digest| digest.0)),
            firmware.map(|f| f.source.name()),
            firmware.map(|f| millis(f.at)),
            row.unseen.join("\n")
        ])
        .map(drop)
}

fn put_address(
    transaction: &Transaction<'_>,
    tenant: &str,
    device: &DeviceId,
    row: &AddressRow,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO address
             (tenant, device, address, first_seen, last_seen, source)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            tenant,
            device.as_str(),
            row.address.to_string(),
            millis(row.first_seen),
            millis(row.last_seen),
            row.source.name()
        ])
        .map(drop)
}

fn put_peer(
    transaction: &Transaction<'_>,
    tenant: &str,
    device: &DeviceId,
    row: &PeerRow,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO peer (tenant, device, address, port, protocol, host,
             first_seen, last_seen, bytes_out, source)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            tenant,
            device.as_str(),
            row.key.address.to_string(),
            row.key.port,
            row.key.protocol,
            row.host,
            millis(row.first_seen),
            millis(row.last_seen),
            signed(row.bytes_out),
            row.source.name()
        ])
        .map(drop)
}

fn put_alert(transaction: &Transaction<'_>, tenant: &str, row: &AlertRow) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO alert (tenant, alert, subject, kind, entity, severity, open,
             number, first_seen, last_seen, expected, seen, source, attribution, observed_by,
             incident, evidence)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?
        .execute(params![
            tenant,
            signed(row.id),
            row.subject.to_string(),
            row.kind.name(),
            row.entity,
            row.severity.name(),
            row.open,
            signed(row.count),
            millis(row.first_seen),
            millis(row.last_seen),
            row.expected,
            row.seen,
            row.source.name(),
            row.attribution.name(),
            row.observed_by,
            row.incident.map(|id| signed(id.0)),
            row.evidence
        ])
        .map(drop)
}

fn put_traffic(
    transaction: &Transaction<'_>,
    tenant: &str,
    row: &TrafficRow,
) -> rusqlite::Result<()> {
    let groups: Vec<&str> = row.groups.iter().map(GroupId::as_str).collect();
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO traffic (tenant, day, service, product, groups, assurance,
             topics, received, own, messages, bytes, bytes_max, devices)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            tenant,
            row.day,
            row.service.as_ref().map_or("", ServiceId::as_str),
            row.product.as_ref().map_or("", ProductId::as_str),
            groups.join(";"),
            row.assurance.name(),
            row.topics,
            row.received,
            row.own,
            signed(row.messages),
            signed(row.bytes),
            row.bytes_max,
            row.devices
        ])
        .map(drop)
}

fn traffic(row: &Row<'_>) -> Result<TrafficRow, ReadError> {
    const TABLE: &str = "traffic";
    let is_named = |column: usize| -> Result<bool, ReadError> {
        let text: String = row.get(column)?;
        Ok(!text.is_empty())
    };
    Ok(TrafficRow {
        day: row.get(0)?,
        service: is_named(1)?.then(|| name(row, 1, TABLE)).transpose()?,
        product: is_named(2)?.then(|| name(row, 2, TABLE)).transpose()?,
        groups: groups(row, 3, TABLE)?,
        assurance: named(row, 4, TABLE, Assurance::from_name)?,
        topics: row.get(5)?,
        received: row.get(6)?,
        own: row.get(7)?,
        messages: index(row.get(8)?),
        bytes: index(row.get(9)?),
        bytes_max: row.get(10)?,
        devices: row.get(11)?,
    })
}

fn device(row: &Row<'_>) -> Result<DeviceFacts, ReadError> {
    const TABLE: &str = "device";
    let version: Option<String> = row.get(3)?;
    let source = optional_named(row, 5, TABLE, Source::from_name)?;
    let has_digest = !matches!(row.get_ref(4)?, rusqlite::types::ValueRef::Null);
    let firmware = match (version, source) {
        (Some(version), Some(source)) => Some(FirmwareRow {
            version,
            digest: has_digest.then(|| digest(row, 4, TABLE)).transpose()?,
            source,
            at: optional_at(row, 6)?.unwrap_or_default(),
        }),
        _ => None,
    };
    let unseen: String = row.get(7)?;
    Ok(DeviceFacts {
        device: name(row, 0, TABLE)?,
        first_seen: at(row.get(1)?),
        last_seen: at(row.get(2)?),
        firmware,
        unseen: unseen
            .split('\n')
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

fn alert(row: &Row<'_>) -> Result<AlertRow, ReadError> {
    const TABLE: &str = "alert";
    Ok(AlertRow {
        id: index(row.get(0)?),
        subject: name(row, 1, TABLE)?,
        kind: named(row, 2, TABLE, DeviationKind::from_name)?,
        entity: row.get(3)?,
        severity: named(row, 4, TABLE, Severity::from_name)?,
        open: row.get(5)?,
        count: index(row.get(6)?),
        first_seen: at(row.get(7)?),
        last_seen: at(row.get(8)?),
        expected: row.get(9)?,
        seen: row.get(10)?,
        source: named(row, 11, TABLE, Source::from_name)?,
        attribution: named(row, 12, TABLE, Attribution::from_name)?,
        observed_by: row.get(13)?,
        incident: incident_id(row, 14)?,
        evidence: row.get(15)?,
    })
}

fn protocol(text: &str) -> Option<&'static str> {
    ["tcp", "udp"].into_iter().find(|one| *one == text)
}

fn millis(at: Timestamp) -> i64 {
    signed(at.as_millis())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
