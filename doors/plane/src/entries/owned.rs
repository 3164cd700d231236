//! What the log says of ownership. Of an owner it keeps a commitment, never the name.

use super::{Act, Actor};
use model::{DeviceId, Digest, Timestamp};

#[must_use]
pub fn ownership_codes_made(
    at: Timestamp,
    actor: &Actor,
    count: usize,
    expires_at: Timestamp,
) -> Act {
    Act::new(at, actor, "identity.ownership-codes-made", "plane")
        .with("codes", count)
        .with("expires_at", expires_at)
}

#[must_use]
pub fn ownership_code_shown(at: Timestamp, device: &DeviceId, expires_at: Timestamp) -> Act {
    let object = format_args!("device/{device}");
    Act::new(at, object, "identity.ownership-code-shown", object).with("expires_at", expires_at)
}

#[must_use]
pub fn ownership_settled(
    at: Timestamp,
    actor: &Actor,
    device: &DeviceId,
    what: &str,
    owner: Option<Digest>,
) -> Act {
    let object = format_args!("device/{device}");
    let act = Act::new(at, actor, "identity.ownership-settled", object).with("what", what);
    match owner {
        Some(owner) => act.with("owner_commitment", owner),
        None => act,
    }
}
