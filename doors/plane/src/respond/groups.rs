//! Many devices cut off in one act, and given back in one: all that a group or a product of the fleet
//! has. What was cut off before by another word is no part of the act, so that undoing it gives back
//! what it took and nothing else.

use super::deciding;
use crate::clock;
use crate::commanding::Target;
use crate::entries::{self, Actor};
use crate::plane::{Plane, digest, random};
use crate::shared::off_thread;
use crate::trouble::Trouble;
use crate::withdrawing::{self, Standing};
use identity::Fact;
use model::{Containment, DeviceId, Digest, GroupContainmentId, IncidentId, Principal, Timestamp};
use response::{Decision, contain_max_of_all};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{CHANGE_ROWS_MAX, Change, Direction, GroupContainment, Guard, Receipt, Write};

/// Devices of one change: each has a row and two guards, and some entries name them.
const DEVICES_OF_CHANGE_MAX: usize = CHANGE_ROWS_MAX / 2 - 100;
/// Names in one entry of the log, in bytes.
const NAMES_BYTES_MAX: usize = 12 << 10;
/// Acts that stand, as far as undoing one looks at the others.
const STANDING_MAX: usize = 1000;

/// Whom an act means, as it is now.
#[derive(Debug)]
pub struct Meant {
    /// Those that it would cut off, or cut off harder, in the order of their names.
    pub devices: Vec<DeviceId>,
    /// Cut off as far already, which changes nothing.
    pub already: usize,
    /// Over the names of all of them: what somebody looked at is told from what it became.
    pub digest: Digest,
    /// More than playbooks may cut off in an hour.
    pub is_many: bool,
}

/// Who is to be cut off together, how far and why.
#[derive(Debug, Clone)]
pub struct GroupContaining {
    pub target: Target,
    pub containment: Containment,
    /// Of whoever decided, in their words.
    pub reason: String,
    /// Whom they looked at, if they did: [`Meant::digest`].
    pub shown: Option<Digest>,
    /// Whether they may cut off more than playbooks may in an hour.
    pub may_be_many: bool,
}

/// What it did, and how fast.
#[derive(Debug)]
pub struct GroupContained {
    pub id: GroupContainmentId,
    pub meant: Meant,
    pub sessions_touched: u32,
    pub in_force_after: Duration,
    pub recorded_after: Duration,
    /// `None`: all were cut off as far already, so there was nothing to record.
    pub receipt: Option<Receipt>,
}

/// Whom undoing an act would give back, and whom not.
#[derive(Debug, Default)]
pub struct GivenBack {
    /// With how they stand and the change that brought it.
    pub devices: Vec<(DeviceId, Standing, u64)>,
    pub kept: Vec<(DeviceId, Kept)>,
}

/// Why a device stays cut off when the act is undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Its identity is gone.
    Revoked,
    /// It is worked on by itself: whoever does so restores it.
    OwnIncident(IncidentId),
    /// Another act means it too.
    Also(GroupContainmentId),
}

/// Whom `target` means now.
///
/// # Errors
/// The fleet declares no such set, or nobody is in it.
pub fn meant(plane: &Plane, target: &Target, containment: Containment) -> Result<Meant, Trouble> {
    let all = target.devices(plane, plane.grants().fleet())?;
    let names: Vec<&str> = all.iter().map(DeviceId::as_str).collect();
    let digest = digest(names.join("\n").as_bytes());
    let count = all.len();
    let devices: Vec<DeviceId> = {
        let containments = plane.containments.lock();
        let is_free = |device: &DeviceId| {
            (containments.of(device)).is_none_or(|standing| standing.containment < containment)
        };
        all.into_iter().filter(is_free).collect()
    };
    let fleet_size = plane.trust().registry().enrolled_count() as u64;
    let max = contain_max_of_all(plane.config.response.settings().contain_max, fleet_size);
    Ok(Meant {
        already: count - devices.len(),
        digest,
        is_many: devices.len() as u64 > max,
        devices,
    })
}

/// Cuts all of them off: at every door and on every shard first, then on record. A device that was cut
/// off less by another word is cut off harder and stays that word's.
///
/// # Errors
/// Nobody is meant, or others than were looked at; or it could not be recorded, and is in force all
/// the same.
pub async fn contain(
    plane: &Arc<Plane>,
    what: &GroupContaining,
    actor: &Actor,
) -> Result<GroupContained, Trouble> {
    let started = Instant::now();
    let (looking, target, containment) = (Arc::clone(plane), what.target.clone(), what.containment);
    let meant = off_thread(move || meant(&looking, &target, containment)).await??;
    let has_grown = meant.is_many && !what.may_be_many;
    if has_grown || what.shown.is_some_and(|shown| shown != meant.digest) {
        return Err(Trouble::refused(
            "group-moved",
            format!(
                "nobody was cut off: {} has other devices than those that were shown; look again",
                what.target
            ),
        ));
    }
    let id: [u8; 8] = random()?;
    let row = GroupContainment {
        id: GroupContainmentId::new(&format!("g-{:016x}", u64::from_be_bytes(id)))
            .map_err(Trouble::fault)?,
        target: what.target.to_string(),
        containment,
        reason: what.reason.clone(),
        by: actor.to_string(),
        at: clock::now(),
        devices: meant.devices.len() as u64,
        restored: None,
    };
    let (cut, sessions_touched) = plane.cut_off_many(&meant.devices, &row).await?;
    let in_force_after = started.elapsed();
    let devices: Vec<DeviceId> = cut.iter().map(|(device, _)| device.clone()).collect();
    let worked_on: Vec<DeviceId> = {
        let mut judgement = plane.judgement.lock();
        let responder = &mut judgement.responder;
        responder.decided_of_many(&devices, Some(containment), row.at);
        let is_worked_on = |device: &&DeviceId| responder.open_incident_of(device).is_some();
        devices.iter().filter(is_worked_on).cloned().collect()
    };
    let mut done = GroupContained {
        id: row.id.clone(),
        meant,
        sessions_touched,
        in_force_after,
        recorded_after: in_force_after,
        receipt: None,
    };
    if cut.is_empty() {
        return Ok(done);
    }
    // The word to the devices does not wait for the record, which may not come: their own fences are
    // part of it.
    let recording = record(plane, &row, &cut, sessions_touched, actor);
    let ((), recorded) = tokio::join!(plane.tell_containments(&devices), recording);
    done.recorded_after = started.elapsed();
    let outcome = recorded.as_ref().map(|receipt| {
        let note = format!("with {} other device(s), {}", cut.len() - 1, row.id);
        (Some(receipt.first_leaf_index), note)
    });
    for device in worked_on {
        let decision = Decision::Contain {
            device,
            containment,
        };
        let reason = what.reason.clone();
        deciding::tell(plane, actor, reason, decision, outcome.clone()).await;
    }
    done.receipt = Some(recorded?);
    Ok(done)
}

/// On record in as many changes as it takes; the receipt is the first one's, whose first entry sums up.
async fn record(
    plane: &Plane,
    row: &GroupContainment,
    cut: &[(DeviceId, Standing)],
    sessions_touched: u32,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    let (mut first, mut failed) = (None, None);
    for part in cut.chunks(DEVICES_OF_CHANGE_MAX) {
        let is_first = first.is_none() && failed.is_none();
        let mut leaves = Vec::new();
        if is_first {
            leaves.push(plane.leaf(&entries::group_contained(actor, row, sessions_touched))?);
        }
        for own in [true, false] {
            let of_act = (part.iter()).filter(|(_, standing)| standing.group.is_some() == own);
            for names in lines(of_act.map(|(device, _)| device)) {
                leaves.push(plane.leaf(&entries::devices_contained(actor, row, &names, own))?);
            }
        }
        let mut change = withdrawing::change(leaves)?;
        if is_first {
            change = change.write(Write::PutGroupContainment(row.clone()));
        }
        for (device, standing) in part {
            change = change.write(standing.row(device));
        }
        match plane.commit_withdrawal(change).await {
            Ok(receipt) => first = first.or(Some(receipt)),
            Err(trouble) => failed = failed.or(Some(trouble)),
        }
    }
    match (failed, first) {
        (None, Some(receipt)) => Ok(receipt),
        (Some(trouble), _) => Err(trouble),
        (None, None) => Err(Trouble::fault("a containment of nobody")),
    }
}

/// An act that is on record.
///
/// # Errors
/// There is none of this id, or the disk.
pub fn known(plane: &Plane, id: &GroupContainmentId) -> Result<GroupContainment, Trouble> {
    (plane.store.group_containment(id)?).ok_or_else(|| Trouble::Unknown {
        code: "group-containment-unknown",
        text: format!("there is no {id}; `fleetward response group-containments` lists them"),
    })
}

/// Whom undoing this act would give back now.
///
/// # Errors
/// The disk.
pub fn given_back(plane: &Plane, row: &GroupContainment) -> Result<GivenBack, Trouble> {
    let also = meant_by_others(plane, row)?;
    let mine: Vec<(DeviceId, Standing, u64)> = {
        let containments = plane.containments.lock();
        (containments.iter())
            .filter(|(_, standing)| standing.group.as_ref() == Some(&row.id))
            .filter_map(|(device, standing)| {
                let change = containments.change_of(device)?;
                Some((device.clone(), standing.clone(), change))
            })
            .collect()
    };
    let own_incidents: Vec<Option<IncidentId>> = {
        let judgement = plane.judgement.lock();
        let open = |device: &DeviceId| {
            let incident = judgement.responder.open_incident_of(device);
            incident.map(|incident| incident.id)
        };
        mine.iter().map(|(device, ..)| open(device)).collect()
    };
    let mut back = GivenBack::default();
    let registry = plane.trust().registry();
    for ((device, standing, change), incident) in mine.into_iter().zip(own_incidents) {
        let principal = Principal::Device(device.clone());
        let kept = if registry.principal_revocation(&principal).is_some() {
            Some(Kept::Revoked)
        } else if let Some(id) = incident {
            Some(Kept::OwnIncident(id))
        } else {
            also.get(&device).cloned().map(Kept::Also)
        };
        match kept {
            Some(kept) => back.kept.push((device, kept)),
            None => back.devices.push((device, standing, change)),
        }
    }
    Ok(back)
}

/// Whoever is in the set of another act that stands: it took nothing from those who were cut off
/// already, and means them all the same.
fn meant_by_others(
    plane: &Plane,
    row: &GroupContainment,
) -> Result<BTreeMap<DeviceId, GroupContainmentId>, Trouble> {
    let mut also = BTreeMap::new();
    let mut sets = BTreeSet::new();
    for other in plane.store.group_containments(true, STANDING_MAX)? {
        if other.id == row.id || !sets.insert(other.target.clone()) {
            continue;
        }
        // A set that the fleet declares no longer means nobody.
        let devices = (Target::of_set(&other.target))
            .and_then(|set| set.devices(plane, plane.grants().fleet()).ok());
        for device in devices.unwrap_or_default() {
            also.insert(device, other.id.clone());
        }
    }
    Ok(also)
}

/// Gives back what an act took and nothing else: durable first, then in force. Returns whom, whom not,
/// and the receipt of the change whose first entry sums up.
///
/// # Errors
/// It was undone already, or somebody stands otherwise meanwhile; trouble of ours. What was given
/// back before stays so.
pub async fn restore(
    plane: &Arc<Plane>,
    row: GroupContainment,
    reason: &str,
    actor: &Actor,
) -> Result<(GivenBack, Receipt), Trouble> {
    plane.granting_allowed()?;
    check_stands(&row)?;
    let looking = (Arc::clone(plane), row.clone());
    let back = off_thread(move || given_back(&looking.0, &looking.1)).await??;
    let at = clock::now();
    let mut parts: Vec<&[(DeviceId, Standing, u64)]> =
        back.devices.chunks(DEVICES_OF_CHANGE_MAX).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    let last = parts.len() - 1;
    let mut first = None;
    for (number, part) in parts.into_iter().enumerate() {
        let mut change = Change::new(Direction::Grant);
        if number == 0 {
            let act = entries::group_restored(at, actor, &row, reason, &back);
            change = change.entry(plane.leaf(&act)?);
        }
        for names in lines(part.iter().map(|(device, ..)| device)) {
            let act = entries::devices_restored(at, actor, &row, &names);
            change = change.entry(plane.leaf(&act)?);
        }
        if number == last {
            let restored = Some((at, actor.to_string()));
            let undone = GroupContainment {
                restored,
                ..row.clone()
            };
            change = change.write(Write::PutGroupContainment(undone));
        }
        for (device, standing, _) in part {
            let device = device.clone();
            change = change
                .guard(Guard::DeviceNotRevoked(device.clone()))
                .guard(Guard::ContainmentIs {
                    device: device.clone(),
                    containment: Some(standing.containment),
                })
                .write(Write::DropContainment { device });
        }
        let receipt = plane.commit(change).await?;
        first = first.or(Some(receipt));
        plane.give_back_many(part, at).await?;
        let names: Vec<DeviceId> = part.iter().map(|(device, ..)| device.clone()).collect();
        plane.tell_containments(&names).await;
    }
    let receipt = first.ok_or_else(|| Trouble::fault("nothing was undone"))?;
    Ok((back, receipt))
}

/// # Errors
/// It was undone already.
pub fn check_stands(row: &GroupContainment) -> Result<(), Trouble> {
    match &row.restored {
        None => Ok(()),
        Some((at, by)) => Err(Trouble::refused(
            "group-restored",
            format!("{} was undone by {by} at {at} already", row.id),
        )),
    }
}

/// Names, as many as one entry takes in each.
fn lines<'d>(devices: impl Iterator<Item = &'d DeviceId>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for device in devices {
        let name = device.as_str();
        match lines.last_mut() {
            Some(line) if line.len() + name.len() < NAMES_BYTES_MAX => {
                line.push(' ');
                line.push_str(name);
            }
            _ => lines.push(name.to_owned()),
        }
    }
    lines
}

impl Plane {
    /// Cuts them off in memory and on every shard: those that it was news to, as they stand now, and
    /// the number of sessions that felt it. A softer word never replaces a harder one.
    async fn cut_off_many(
        &self,
        devices: &[DeviceId],
        row: &GroupContainment,
    ) -> Result<(Vec<(DeviceId, Standing)>, u32), Trouble> {
        let _one_at_a_time = self.containing.begin().await;
        let mut cut = Vec::with_capacity(devices.len());
        {
            let mut containments = self.containments.lock();
            for device in devices {
                // Whoever was cut off by another word stays that word's.
                let before = containments.of(device);
                let is_own = before.is_none_or(|before| before.group.is_some());
                let standing = Standing {
                    containment: row.containment,
                    since: row.at,
                    incident: before.and_then(|before| before.incident),
                    by: row.by.clone(),
                    group: is_own.then(|| row.id.clone()),
                };
                if containments.put(device, standing.clone()) {
                    cut.push((device.clone(), standing));
                }
            }
        }
        for (device, standing) in &cut {
            self.learn(&Fact::DeviceContained {
                device: device.clone(),
                containment: standing.containment,
                at: standing.since,
            })?;
        }
        let touched = self.shards().contain_many(&principals(devices)).await;
        Ok((cut, touched))
    }

    /// Gives back those that stand as they did.
    async fn give_back_many(
        &self,
        devices: &[(DeviceId, Standing, u64)],
        at: Timestamp,
    ) -> Result<(), Trouble> {
        let names: Vec<DeviceId> = devices.iter().map(|(device, ..)| device.clone()).collect();
        {
            let _one_at_a_time = self.containing.begin().await;
            for (device, _, change) in devices {
                if self.containments.lock().take(device, *change) {
                    self.learn(&Fact::DeviceRestored {
                        device: device.clone(),
                    })?;
                }
            }
            self.shards().contain_many(&principals(&names)).await;
        }
        let mut judgement = self.judgement.lock();
        judgement.responder.decided_of_many(&names, None, at);
        Ok(())
    }
}

fn principals(devices: &[DeviceId]) -> Vec<Principal> {
    devices.iter().cloned().map(Principal::Device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fill_entries_without_loss_and_without_overflow() {
        let devices: Vec<DeviceId> = (0..5000)
            .map(|number| format!("device-with-a-name-{number:05}").parse().unwrap())
            .collect();
        let lines = lines(devices.iter());
        assert!(lines.len() > 1);
        assert!(lines.iter().all(|line| line.len() <= NAMES_BYTES_MAX));
        let read: Vec<DeviceId> = (lines.iter())
            .flat_map(|line| line.split(' '))
            .map(|name| name.parse().unwrap())
            .collect();
        assert_eq!(read, devices);
    }
}
