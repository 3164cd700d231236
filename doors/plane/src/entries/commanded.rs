//! What the log says of commands. Of a payload and of a list of devices it keeps the digest.

use super::{Act, Actor};
use crate::commanding::digest_of_devices;
use crate::plane::digest;
use model::{Delivery, Timestamp};
use store::{Command, CommandDelivery, CommandState};

#[must_use]
pub fn command_asked(actor: &Actor, command: &Command, deliveries: &[CommandDelivery]) -> Act {
    let refused = (deliveries.iter())
        .filter(|row| matches!(row.delivery, Delivery::Refused(_)))
        .count();
    about(command.asked_at, actor, "gateway.command-asked", command)
        .with("channel", &command.channel)
        .with("target", &command.target)
        .with("devices", deliveries.len() - refused)
        .with("devices_refused", refused)
        .with("devices_sha256", digest_of_devices(deliveries))
        .with("payload_sha256", digest(&command.payload))
        .with("expires_at", command.expires_at)
        .with("held", command.state == CommandState::Held)
}

#[must_use]
pub fn command_approved(at: Timestamp, actor: &Actor, command: &Command) -> Act {
    about(at, actor, "gateway.command-approved", command).with("asked_by", &command.by)
}

#[must_use]
pub fn command_cancelled(
    at: Timestamp,
    actor: &Actor,
    command: &Command,
    reason: &str,
    devices: u32,
) -> Act {
    about(at, actor, "gateway.command-cancelled", command)
        .with("reason", reason)
        .with("devices_spared", devices)
}

fn about(at: Timestamp, actor: &Actor, action: &'static str, command: &Command) -> Act {
    let object = format_args!("command/{}", command.id);
    Act::new(at, actor, action, object)
}
