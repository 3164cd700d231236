//! What a change does to the rows of commands and their deliveries.

use super::Writer;
use super::apply::{Outcome, conflict, millis, within};
use crate::command::{
    Command, CommandDelivery, CommandProgress, CommandState, CommandWrite, number,
};
use model::{CommandId, Delivery, DeliveryWait, Timestamp};
use rusqlite::params;

const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// Commands forgotten at once.
const FORGOTTEN_MAX: i64 = 100;

/// What no write may hold, found before it takes a place in the queue.
pub(super) fn check(write: &CommandWrite) -> Result<(), String> {
    let CommandWrite::Put {
        command,
        deliveries,
    } = write
    else {
        return Ok(());
    };
    within("an asker", command.by.len(), 1, 256)?;
    within("a key", command.key.as_ref().map_or(1, String::len), 1, 128)?;
    within("a channel", command.channel.len(), 1, 128)?;
    within("a target", command.target.len(), 1, 256)?;
    within("a payload", command.payload.len(), 0, PAYLOAD_BYTES_MAX)?;
    deliveries.iter().try_for_each(|row| {
        let response = row.response_topic.as_ref().map_or(0, String::len);
        within("a topic", row.topic.len().max(response), 0, 512)
    })
}

impl Writer {
    pub(super) fn write_command(&self, write: &CommandWrite) -> Outcome<()> {
        match write {
            CommandWrite::Put {
                command,
                deliveries,
            } => self.put_command(command, deliveries),
            CommandWrite::Approve { command, by, at } => self.approve_command(*command, by, *at),
            CommandWrite::End {
                command,
                state,
                by,
                at,
            } => self.end_command(*command, *state, by, *at),
            CommandWrite::Progress(rows) => rows.iter().try_for_each(|row| self.put_progress(row)),
            CommandWrite::Forget { expired_before } => self.forget_commands(*expired_before),
        }
    }

    fn put_command(&self, row: &Command, deliveries: &[CommandDelivery]) -> Outcome<()> {
        self.insert(
            "INSERT INTO command (tenant, command, by_whom, key, request, channel, target, payload,
             asked_at, expires_at, state, decided_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                self.tenant,
                number(row.id),
                row.by,
                row.key,
                row.request.0,
                row.channel,
                row.target,
                row.payload,
                millis(row.asked_at),
                millis(row.expires_at),
                row.state.name(),
                row.decided_by
            ],
            || format!("{} or its key is there already; ask again", row.id),
        )?;
        for one in deliveries {
            self.insert(
                "INSERT INTO command_delivery
                 (tenant, command, device, topic, response_topic, state, reason, changed_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    self.tenant,
                    number(row.id),
                    one.device.as_str(),
                    one.topic,
                    one.response_topic,
                    one.delivery.name(),
                    one.delivery.reason(),
                    millis(one.changed_at)
                ],
                || format!("{} names {} twice", row.id, one.device),
            )?;
        }
        Ok(())
    }

    fn approve_command(&self, id: CommandId, by: &str, at: Timestamp) -> Outcome<()> {
        let approved = self.perform(
            "UPDATE command SET state = 'open', decided_by = ?3
             WHERE tenant = ?1 AND command = ?2 AND state = 'held' AND expires_at > ?4",
            params![self.tenant, number(id), by, millis(at)],
        )?;
        if approved == 0 {
            return Err(conflict(format!("{id} is not held, or its time is over")));
        }
        let away = Delivery::Waiting(DeliveryWait::Away);
        self.move_waiting(id, away, at)
    }

    fn end_command(
        &self,
        id: CommandId,
        state: CommandState,
        by: &str,
        at: Timestamp,
    ) -> Outcome<()> {
        self.perform(
            "UPDATE command SET state = ?3, decided_by = ?4
             WHERE tenant = ?1 AND command = ?2 AND state IN ('held', 'open')",
            params![self.tenant, number(id), state.name(), by],
        )?;
        let over = match state {
            CommandState::Lapsed => Delivery::Expired,
            _ => Delivery::Cancelled,
        };
        self.move_waiting(id, over, at)
    }

    fn move_waiting(&self, id: CommandId, to: Delivery, at: Timestamp) -> Outcome<()> {
        self.perform(
            "UPDATE command_delivery SET state = ?3, reason = ?4, changed_at = ?5
             WHERE tenant = ?1 AND command = ?2 AND state = 'waiting'",
            params![self.tenant, number(id), to.name(), to.reason(), millis(at)],
        )
        .map(drop)
    }

    fn put_progress(&self, row: &CommandProgress) -> Outcome<()> {
        self.perform(
            "UPDATE command_delivery SET state = ?4, reason = ?5, changed_at = ?6
             WHERE tenant = ?1 AND command = ?2 AND device = ?3",
            params![
                self.tenant,
                number(row.command),
                row.device.as_str(),
                row.delivery.name(),
                row.delivery.reason(),
                millis(row.at)
            ],
        )
        .map(drop)
    }

    fn forget_commands(&self, expired_before: Timestamp) -> Outcome<()> {
        let before = millis(expired_before);
        self.perform(
            "DELETE FROM command_delivery WHERE tenant = ?1 AND command IN
             (SELECT command FROM command WHERE tenant = ?1 AND expires_at < ?2
              ORDER BY expires_at, command LIMIT ?3)",
            params![self.tenant, before, FORGOTTEN_MAX],
        )?;
        self.perform(
            "DELETE FROM command WHERE tenant = ?1 AND command IN
             (SELECT command FROM command WHERE tenant = ?1 AND expires_at < ?2
              ORDER BY expires_at, command LIMIT ?3)",
            params![self.tenant, before, FORGOTTEN_MAX],
        )
        .map(drop)
    }
}
