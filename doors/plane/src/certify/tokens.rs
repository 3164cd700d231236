//! Claim tokens: made in batches, shown once, kept as hashes.

use crate::clock;
use crate::entries::{self, Actor};
use crate::plane::{Plane, random};
use crate::trouble::Trouble;
use crate::withdrawing;
use identity::claim_token::{self, KeptToken, Used};
use model::{ManufacturerId, SerialNumber, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use store::{CHANGE_ROWS_MAX, Change, Direction, Receipt, Write};

/// A token at the one moment at which it is known.
pub struct FreshToken {
    pub serial: SerialNumber,
    pub token: String,
}

/// Makes a token for each serial number; an earlier one of the same serial number ends.
///
/// # Errors
/// A serial number that is on no list; then none of its part is made.
pub async fn make(
    plane: &Arc<Plane>,
    manufacturer: &ManufacturerId,
    serials: Vec<SerialNumber>,
    lifetime: Duration,
    actor: &Actor,
) -> Result<(Vec<FreshToken>, Timestamp, Receipt), Trouble> {
    plane.granting_allowed()?;
    {
        let registry = plane.trust().registry();
        let unlisted: Vec<&str> = (serials.iter())
            .filter(|serial| registry.device_by_serial(manufacturer, serial).is_none())
            .map(SerialNumber::as_str)
            .collect();
        if !unlisted.is_empty() {
            let some: Vec<String> = unlisted
                .iter()
                .take(10)
                .map(|one| format!("{one:?}"))
                .collect();
            let text = format!(
                "{} serial numbers of {manufacturer} are on no list ({}); expect the devices first",
                unlisted.len(),
                some.join(", ")
            );
            return Err(Trouble::refused("serial-unlisted", text));
        }
    }
    let at = clock::now();
    let expires_at = at.plus(lifetime);
    let fresh = (serials.into_iter())
        .map(|serial| {
            let token = claim_token::token(random()?);
            Ok(FreshToken { serial, token })
        })
        .collect::<Result<Vec<_>, Trouble>>()?;
    let mut receipt = None;
    for part in fresh.chunks(CHANGE_ROWS_MAX - 1) {
        let rows = part.iter().map(|fresh| store::ClaimToken {
            manufacturer: manufacturer.clone(),
            serial: fresh.serial.clone(),
            hash: claim_token::hash(&fresh.token),
            made_at: at,
            expires_at,
            used: None,
        });
        let act = entries::claim_tokens_made(at, actor, manufacturer, part.len(), expires_at);
        let change = Change::new(Direction::Grant)
            .write(Write::PutClaimTokens(rows.collect()))
            .entry(plane.leaf(&act)?);
        receipt = Some(plane.commit(change).await?);
    }
    let receipt =
        receipt.ok_or_else(|| Trouble::refused("list-empty", "the list holds no serial number"))?;
    Ok((fresh, expires_at, receipt))
}

/// Unused tokens open nothing any more.
///
/// # Errors
/// It could not be recorded.
pub async fn withdraw(
    plane: &Arc<Plane>,
    manufacturer: &ManufacturerId,
    serial: Option<&SerialNumber>,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    // A token is looked up on record at each use, so there is nothing in memory to bite first.
    let act = entries::claim_tokens_withdrawn(clock::now(), actor, manufacturer, serial);
    let change = withdrawing::change(vec![plane.leaf(&act)?])?.write(Write::DropClaimTokens {
        manufacturer: manufacturer.clone(),
        serial: serial.cloned(),
    });
    plane.commit_withdrawal(change).await
}

/// The tokens of a serial number, as the room compares them.
///
/// # Errors
/// The disk.
pub fn kept(plane: &Plane, serial: &SerialNumber) -> Result<Vec<KeptToken>, Trouble> {
    let rows = plane.store.claim_tokens_of(serial)?;
    Ok(rows
        .into_iter()
        .map(|row| KeptToken {
            manufacturer: row.manufacturer,
            serial: row.serial,
            hash: row.hash,
            expires_at: row.expires_at,
            used: row.used.map(|used| Used {
                key: used.key,
                certificate: used.certificate,
            }),
        })
        .collect())
}
