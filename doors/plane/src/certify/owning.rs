//! Whose a device is: codes that claim one, and what owners and those who speak for them want.

use crate::clock;
use crate::entries::{self, Actor};
use crate::judge::signals::Told;
use crate::plane::{Plane, random};
use crate::trouble::Trouble;
use identity::claim_token;
use identity::ownership::{self, OwnershipRefusal, SALT_BYTES, Standing, Wish};
use identity::{Door, Presented, Refusal};
use model::{Attribution, DeviceId, Digest, Principal, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use store::{CHANGE_ROWS_MAX, Change, Direction, Guard, Owned, OwnershipStep, Receipt, Write};

/// How long a code is good that a device shows.
const SHOWN_FOR: Duration = Duration::from_secs(600);

/// How often a device may have one: each is an entry in the log.
const SHOWN_EVERY: Duration = Duration::from_secs(60);

/// A code at the one moment at which it is known.
pub struct FreshCode {
    pub device: DeviceId,
    pub code: String,
}

/// Makes a code for each device, to be printed or packed; an earlier one of the same device ends.
///
/// # Errors
/// A device that nobody expects; then none of its part is made.
pub async fn make_codes(
    plane: &Arc<Plane>,
    devices: Vec<DeviceId>,
    lifetime: Duration,
    actor: &Actor,
) -> Result<(Vec<FreshCode>, Timestamp, Receipt), Trouble> {
    plane.granting_allowed()?;
    {
        let registry = plane.trust().registry();
        let unknown = devices.iter().find(|id| registry.device(id).is_none());
        if let Some(unknown) = unknown {
            return Err(Trouble::device_unknown(unknown));
        }
    }
    let at = clock::now();
    let expires_at = at.plus(lifetime);
    let fresh = (devices.into_iter())
        .map(|device| {
            let code = claim_token::token(random()?);
            Ok(FreshCode { device, code })
        })
        .collect::<Result<Vec<_>, Trouble>>()?;
    let mut receipt = None;
    for part in fresh.chunks(CHANGE_ROWS_MAX - 1) {
        let act = entries::ownership_codes_made(at, actor, part.len(), expires_at);
        receipt = Some(keep(plane, part, expires_at, plane.leaf(&act)?).await?);
    }
    let receipt = receipt.ok_or_else(|| Trouble::refused("list-empty", "name a device"))?;
    Ok((fresh, expires_at, receipt))
}

/// Makes the code that a device shows to whoever stands before it: asked for by the device itself.
///
/// # Errors
/// A refusal of the device; it has an owner.
pub async fn code_for_device(
    plane: &Arc<Plane>,
    presented: &Presented,
) -> Result<(FreshCode, Timestamp), Trouble> {
    plane.granting_allowed()?;
    let who = plane.trust().authenticate(Door::Devices, presented)?;
    let Principal::Device(device) = who.principal().clone() else {
        return Err(Refusal::NotADevice.into());
    };
    if plane.store.ownership(&device)?.is_some() {
        return Err(OwnershipRefusal::Taken { device }.into());
    }
    let at = clock::now();
    // One that a device asked for ends before any that was packed with it.
    let last = (plane.store.ownership_code(&device)?).map(|row| row.expires_at);
    if last.is_some_and(|end| end > at.plus(SHOWN_FOR - SHOWN_EVERY) && end <= at.plus(SHOWN_FOR)) {
        return Err(Trouble::Later {
            code: "ownership-code-too-often",
            text: "a code was made for this device a moment ago; device: show that one, or ask \
                   again in a minute"
                .to_owned(),
            seconds: 60,
            too_often: true,
        });
    }
    let expires_at = at.plus(SHOWN_FOR);
    let fresh = FreshCode {
        code: claim_token::token(random()?),
        device,
    };
    let act = entries::ownership_code_shown(at, &fresh.device, expires_at);
    let leaf = plane.leaf(&act)?;
    keep(plane, std::slice::from_ref(&fresh), expires_at, leaf).await?;
    Ok((fresh, expires_at))
}

async fn keep(
    plane: &Plane,
    part: &[FreshCode],
    expires_at: Timestamp,
    leaf: Vec<u8>,
) -> Result<Receipt, Trouble> {
    let rows = part.iter().map(|fresh| store::OwnershipCode {
        device: fresh.device.clone(),
        hash: claim_token::hash(&fresh.code),
        expires_at,
    });
    let change = Change::new(Direction::Grant)
        .write(Write::PutOwnershipCodes(rows.collect()))
        .entry(leaf);
    plane.commit(change).await
}

/// What became of a wish.
pub struct Settled {
    pub owned: Option<Owned>,
    /// What the log says instead of the owner's name.
    pub commitment: Option<Digest>,
    pub receipt: Receipt,
}

/// Does what an owner wants, or somebody who speaks for one.
///
/// # Errors
/// The device is another's, the code is not its, or trouble of ours.
pub async fn settle(
    plane: &Arc<Plane>,
    device: &DeviceId,
    wish: &Wish,
    code: Option<&str>,
    actor: &Actor,
) -> Result<Settled, Trouble> {
    // Of two who claim at once the second finds that it is taken.
    let _one_at_a_time = plane.claiming.begin().await;
    if plane.trust().registry().device(device).is_none() {
        return Err(Trouble::device_unknown(device));
    }
    let now = clock::now();
    let before = plane.store.ownership(device)?.map(|period| period.owned);
    let stands = before.as_ref().map(|owned| Standing {
        owner: owned.owner.clone(),
        offered_to: owned.offered_to.clone(),
    });
    let decided = decide(plane, device, stands.as_ref(), wish, code, now);
    let (after, code) = decided.inspect_err(|_| tell_refusal(plane, device, wish, now))?;
    let salt_of = |owned: &Owned| <[u8; SALT_BYTES]>::try_from(owned.salt.as_slice());
    let after = match (after, &before) {
        (None, _) => None,
        (Some(after), before) => {
            let same = before.as_ref().filter(|owned| owned.owner == after.owner);
            let salt = match same {
                Some(owned) => owned.salt.clone(),
                None => random::<SALT_BYTES>()?.to_vec(),
            };
            Some(Owned {
                owner: after.owner,
                salt,
                offered_to: after.offered_to,
            })
        }
    };
    // Whom it is about: who has it then, or had it.
    let commitment = (after.as_ref().or(before.as_ref()))
        .and_then(|owned| Some(ownership::commitment(&salt_of(owned).ok()?, &owned.owner)));
    let gives = !matches!(
        wish,
        Wish::Release { .. } | Wish::Withdraw { .. } | Wish::Override
    );
    let act = entries::ownership_settled(now, actor, device, wish.name(), commitment);
    let mut change = if gives {
        plane.granting_allowed()?;
        Change::new(Direction::Grant).guard(Guard::DeviceNotRevoked(device.clone()))
    } else {
        Change::new(Direction::Withdraw)
    };
    if let Some(hash) = code {
        change = change.write(Write::UseOwnershipCode {
            device: device.clone(),
            hash,
            at: now,
        });
    }
    let change = change
        .write(Write::PutOwnership(OwnershipStep {
            device: device.clone(),
            before,
            after: after.clone(),
            at: now,
        }))
        .entry(plane.leaf(&act)?);
    let receipt = plane.commit(change).await?;
    Ok(Settled {
        owned: after,
        commitment,
        receipt,
    })
}

/// How it will stand, and the code that is used up by it.
fn decide(
    plane: &Plane,
    device: &DeviceId,
    stands: Option<&Standing>,
    wish: &Wish,
    code: Option<&str>,
    now: Timestamp,
) -> Result<(Option<Standing>, Option<Digest>), Trouble> {
    let after = ownership::decide(device, stands, wish)?;
    if !matches!(wish, Wish::Claim { .. }) {
        return Ok((after, None));
    }
    let kept = plane.store.ownership_code(device)?;
    let kept = kept.map(|row| (row.hash, row.expires_at));
    let code = ownership::check_code(device, kept, code.unwrap_or_default(), now)?;
    Ok((after, Some(code)))
}

/// A claim of a device that is another's, or with a wrong code, is worth knowing.
fn tell_refusal(plane: &Plane, device: &DeviceId, wish: &Wish, now: Timestamp) {
    tracing::warn!(
        target: "devices",
        "device/{device}: refused that it be {} [operator must act]",
        wish.name()
    );
    plane.signals.tell(Told::denied(
        Principal::Device(device.clone()),
        Attribution::Claimed,
        ("own", ""),
        wish.name(),
        now,
    ));
}

/// # Errors
/// Nobody expects such a device.
pub fn known(plane: &Plane, device: &DeviceId) -> Result<(), Trouble> {
    if plane.trust().registry().device(device).is_some() {
        Ok(())
    } else {
        Err(Trouble::device_unknown(device))
    }
}
