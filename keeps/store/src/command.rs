//! Rows of the room `gateway`: commands to devices, and how far each came.

use crate::error::ReadError;
use crate::reader::{at, count, digest, index};
use crate::row::{name, named};
use crate::store::Store;
use model::{CommandId, Delivery, DeviceId, Digest, Timestamp};
use rusqlite::{Row, params};

/// What may become of a command as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommandState {
    /// A second person has not approved it.
    Held,
    /// It goes out, or went.
    Open,
    Cancelled,
    /// It was held until its time was over.
    Lapsed,
}

impl CommandState {
    pub const ALL: [Self; 4] = [Self::Held, Self::Open, Self::Cancelled, Self::Lapsed];

    /// `held`, `open`, `cancelled` or `lapsed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Open => "open",
            Self::Cancelled => "cancelled",
            Self::Lapsed => "lapsed",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// A command as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub id: CommandId,
    /// Who asked; at most 256 bytes.
    pub by: String,
    /// What the asker calls it, so that asked again it is the same; at most 128 bytes.
    pub key: Option<String>,
    /// Over all that was asked.
    pub request: Digest,
    /// At most 128 bytes.
    pub channel: String,
    /// For whom, in words; at most 256 bytes.
    pub target: String,
    /// At most 64 KiB.
    pub payload: Vec<u8>,
    pub asked_at: Timestamp,
    pub expires_at: Timestamp,
    pub state: CommandState,
    /// Who approved it, or took it back.
    pub decided_by: Option<String>,
}

/// A command for one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandDelivery {
    pub device: DeviceId,
    /// At most 512 bytes; empty where the device has none.
    pub topic: String,
    pub response_topic: Option<String>,
    pub delivery: Delivery,
    pub changed_at: Timestamp,
}

/// How far a command came with one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandProgress {
    pub command: CommandId,
    pub device: DeviceId,
    pub delivery: Delivery,
    pub at: Timestamp,
}

/// A write of commands.
#[derive(Debug, Clone)]
pub enum CommandWrite {
    /// A command with all devices that it is for. Conflict: its id or its asker's key is there; a
    /// device twice.
    Put {
        command: Box<Command>,
        deliveries: Vec<CommandDelivery>,
    },
    /// A held command goes out. Conflict: it is not held, or its time is over.
    Approve {
        command: CommandId,
        by: String,
        at: Timestamp,
    },
    /// Nothing of it that waits goes out any more. One that is neither held nor open stays as it is.
    End {
        command: CommandId,
        state: CommandState,
        by: String,
        at: Timestamp,
    },
    /// How far commands came; one that is not there changes nothing.
    Progress(Vec<CommandProgress>),
    /// Removes commands whose time was over before this moment, up to 100 of them.
    Forget { expired_before: Timestamp },
}

impl CommandWrite {
    pub(crate) fn grants(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Approve { .. })
    }

    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Put { deliveries, .. } => deliveries.len().saturating_add(1),
            Self::Progress(rows) => rows.len(),
            _ => 1,
        }
    }
}

const COMMANDS: &str = "SELECT command, by_whom, key, request, channel, target, payload, asked_at, \
     expires_at, state, decided_by FROM command";

impl Store {
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn command(&self, id: CommandId) -> Result<Option<Command>, ReadError> {
        self.readers().one(
            &format!("{COMMANDS} WHERE tenant = ?1 AND command = ?2"),
            params![self.tenant_text(), number(id)],
            command,
        )
    }

    /// The command that somebody asked for under this key.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn command_by_key(&self, by: &str, key: &str) -> Result<Option<Command>, ReadError> {
        self.readers().one(
            &format!("{COMMANDS} WHERE tenant = ?1 AND by_whom = ?2 AND key = ?3"),
            params![self.tenant_text(), by, key],
            command,
        )
    }

    /// The newest first, of everybody or of one asker; `after` is the last one of the page before.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn commands(
        &self,
        by: Option<&str>,
        after: Option<CommandId>,
        limit: usize,
    ) -> Result<Vec<Command>, ReadError> {
        self.readers().page(
            &format!(
                "{COMMANDS} WHERE tenant = ?1 AND command < ?2 AND (?3 IS NULL OR by_whom = ?3)
                 ORDER BY command DESC LIMIT ?4"
            ),
            params![
                self.tenant_text(),
                after.map_or(i64::MAX, number),
                by,
                count(limit)
            ],
            command,
        )
    }

    /// How far a command came, by device; only of this state if one is given. `after` is the last
    /// device of the page before.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn deliveries(
        &self,
        id: CommandId,
        state: Option<&str>,
        after: Option<&DeviceId>,
        limit: usize,
    ) -> Result<Vec<CommandDelivery>, ReadError> {
        self.readers().page(
            "SELECT device, topic, response_topic, state, reason, changed_at FROM command_delivery
             WHERE tenant = ?1 AND command = ?2 AND device > ?3 AND (?4 IS NULL OR state = ?4)
             ORDER BY device LIMIT ?5",
            params![
                self.tenant_text(),
                number(id),
                after.map_or("", DeviceId::as_str),
                state,
                count(limit)
            ],
            |row| delivery(row, 0),
        )
    }

    /// How many devices there are in each state of a command.
    ///
    /// # Errors
    /// The disk.
    pub fn delivery_counts(&self, id: CommandId) -> Result<Vec<(String, u64)>, ReadError> {
        self.readers().page(
            "SELECT state, count(*) FROM command_delivery WHERE tenant = ?1 AND command = ?2
             GROUP BY state",
            params![self.tenant_text(), number(id)],
            |row| Ok((row.get(0)?, index(row.get(1)?))),
        )
    }

    /// How many deliveries are not over, of all commands.
    ///
    /// # Errors
    /// The disk.
    pub fn deliveries_under_way(&self) -> Result<u64, ReadError> {
        let found = self.readers().one(
            "SELECT count(*) FROM command_delivery
             WHERE tenant = ?1 AND state IN ('waiting', 'sent')",
            params![self.tenant_text()],
            |row| Ok(index(row.get(0)?)),
        )?;
        Ok(found.unwrap_or(0))
    }

    /// What is to go on after a restart, the oldest command first: what waits, what was sent and not
    /// acknowledged, and what is to be answered.
    ///
    /// # Errors
    /// The disk, or a row that is not valid.
    pub fn for_each_open_delivery(
        &self,
        mut each: impl FnMut(CommandId, CommandDelivery),
    ) -> Result<u64, ReadError> {
        self.readers().for_each(
            "SELECT d.command, d.device, d.topic, d.response_topic, d.state, d.reason, d.changed_at
             FROM command_delivery d JOIN command c USING (tenant, command)
             WHERE tenant = ?1 AND c.state = 'open'
             AND (d.state IN ('waiting', 'sent')
                  OR (d.state = 'delivered' AND d.response_topic IS NOT NULL))
             ORDER BY d.command, d.device",
            params![self.tenant_text()],
            |row| {
                each(id(row.get(0)?), delivery(row, 1)?);
                Ok(())
            },
        )
    }

    /// Commands that were held until their time was over.
    ///
    /// # Errors
    /// The disk.
    pub fn lapsed_commands(&self, now: Timestamp) -> Result<Vec<CommandId>, ReadError> {
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        self.readers().page(
            "SELECT command FROM command
             WHERE tenant = ?1 AND state = 'held' AND expires_at <= ?2 LIMIT 1000",
            params![self.tenant_text(), now],
            |row| Ok(id(row.get(0)?)),
        )
    }
}

/// As a column holds it: it fits.
pub(crate) fn number(id: CommandId) -> i64 {
    i64::try_from(id.number()).unwrap_or(i64::MAX)
}

fn id(number: i64) -> CommandId {
    CommandId::from_number(index(number))
}

fn command(row: &Row<'_>) -> Result<Command, ReadError> {
    const TABLE: &str = "command";
    Ok(Command {
        id: id(row.get(0)?),
        by: row.get(1)?,
        key: row.get(2)?,
        request: digest(row, 3, TABLE)?,
        channel: row.get(4)?,
        target: row.get(5)?,
        payload: row.get(6)?,
        asked_at: at(row.get(7)?),
        expires_at: at(row.get(8)?),
        state: named(row, 9, TABLE, CommandState::from_name)?,
        decided_by: row.get(10)?,
    })
}

fn delivery(row: &Row<'_>, first: usize) -> Result<CommandDelivery, ReadError> {
    const TABLE: &str = "command_delivery";
    let state: String = row.get(first + 3)?;
    let reason: Option<String> = row.get(first + 4)?;
    Ok(CommandDelivery {
        device: name(row, first, TABLE)?,
        topic: row.get(first + 1)?,
        response_topic: row.get(first + 2)?,
        delivery: Delivery::from_names(&state, reason.as_deref())
            .ok_or_else(|| ReadError::row(TABLE, format!("{state:?} is not of the list")))?,
        changed_at: at(row.get(first + 5)?),
    })
}
