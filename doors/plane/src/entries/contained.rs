//! What the log says of devices that are cut off and given back. Of an act that cuts many off one entry
//! sums up, and others name the devices, as many as it takes.

use super::{Act, Actor, CONTAINMENT, DEVICE_CONTAINED, Withdrawn};
use crate::respond::groups::GivenBack;
use crate::withdrawing::{Containing, Restoring, Standing};
use model::{Containment, DeviceId, GroupContainmentId, Timestamp};
use store::GroupContainment;

const GROUP_CONTAINED: &str = "response.group-contained";
const DEVICES_CONTAINED: &str = "response.devices-contained";
/// The act that gives its devices back.
const ACT: &str = "group_containment";
const DEVICES: &str = "devices";
const COUNT: &str = "count";
const REASON: &str = "reason";

pub(super) const WITHDRAWALS: [&str; 2] = [GROUP_CONTAINED, DEVICES_CONTAINED];

#[must_use]
pub fn contained(
    actor: &Actor,
    what: &Containing,
    standing: &Standing,
    sessions_touched: u32,
) -> Act {
    let object = format_args!("device/{}", what.device);
    Act::new(standing.since, actor, DEVICE_CONTAINED, object)
        .with(CONTAINMENT, standing.containment.name())
        .with("reason", &what.reason)
        .with("sessions_touched", sessions_touched)
        .with_incident(what.incident)
}

#[must_use]
pub fn restored(at: Timestamp, actor: &Actor, what: &Restoring, was: &Standing) -> Act {
    let object = format_args!("device/{}", what.device);
    Act::new(at, actor, "response.device-restored", object)
        .with("was", was.containment.name())
        .with("reason", &what.reason)
        .with_incident(what.incident)
}

#[must_use]
pub fn group_contained(actor: &Actor, row: &GroupContainment, sessions_touched: u32) -> Act {
    Act::new(row.at, actor, GROUP_CONTAINED, &row.target)
        .with(ACT, &row.id)
        .with(CONTAINMENT, row.containment.name())
        .with(COUNT, row.devices)
        .with(REASON, &row.reason)
        .with("sessions_touched", sessions_touched)
}

/// `own`: they are the act's to give back. Others were cut off before by another word, and are only
/// cut off harder now.
#[must_use]
pub fn devices_contained(actor: &Actor, row: &GroupContainment, names: &str, own: bool) -> Act {
    let act = Act::new(row.at, actor, DEVICES_CONTAINED, &row.target)
        .with(CONTAINMENT, row.containment.name())
        .with(DEVICES, names);
    if own { act.with(ACT, &row.id) } else { act }
}

#[must_use]
pub fn group_restored(
    at: Timestamp,
    actor: &Actor,
    row: &GroupContainment,
    reason: &str,
    back: &GivenBack,
) -> Act {
    Act::new(at, actor, "response.group-restored", &row.target)
        .with(ACT, &row.id)
        .with("was", row.containment.name())
        .with(COUNT, back.devices.len())
        .with("kept", back.kept.len())
        .with(REASON, reason)
}

#[must_use]
pub fn devices_restored(at: Timestamp, actor: &Actor, row: &GroupContainment, names: &str) -> Act {
    Act::new(at, actor, "response.devices-restored", &row.target)
        .with(ACT, &row.id)
        .with(DEVICES, names)
}

pub(super) fn withdrawal_told_by(entry: &audit::Entry) -> Option<Withdrawn> {
    let detail = |key: &str| entry.details.get(key).map(String::as_str);
    let act = detail(ACT).and_then(|id| id.parse::<GroupContainmentId>().ok());
    // What this version cannot read is cut off all the same.
    let containment = detail(CONTAINMENT)
        .and_then(Containment::from_name)
        .unwrap_or(Containment::Isolated);
    match entry.action.as_str() {
        GROUP_CONTAINED => Some(Withdrawn::GroupContained(GroupContainment {
            id: act?,
            target: entry.object.clone(),
            containment,
            reason: detail(REASON)?.to_owned(),
            by: entry.actor.clone(),
            at: entry.time,
            devices: detail(COUNT)?.parse().ok()?,
            restored: None,
        })),
        DEVICES_CONTAINED => {
            let names = detail(DEVICES)?.split(' ');
            let devices: Vec<DeviceId> = names.filter_map(|name| name.parse().ok()).collect();
            let standing = Standing {
                containment,
                since: entry.time,
                incident: None,
                by: entry.actor.clone(),
                group: act,
            };
            Some(Withdrawn::Contained(devices, standing))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::tests::written;
    use crate::entries::withdrawal_told_by;

    #[test]
    fn an_act_of_many_is_read_back_and_undoing_it_gives_nothing_back() {
        let row = GroupContainment {
            id: "g-1".parse().unwrap(),
            target: "group/east".to_owned(),
            containment: Containment::Quarantined,
            reason: "a test says so".to_owned(),
            by: Actor::Plane.to_string(),
            at: Timestamp::from_seconds(9),
            devices: 2,
            restored: None,
        };
        let told = withdrawal_told_by(&written(group_contained(&Actor::Plane, &row, 2)));
        assert_eq!(told, Some(Withdrawn::GroupContained(row.clone())));
        for own in [true, false] {
            let act = devices_contained(&Actor::Plane, &row, "cam-1 cam-2", own);
            let standing = Standing {
                containment: row.containment,
                since: row.at,
                incident: None,
                by: row.by.clone(),
                group: own.then(|| row.id.clone()),
            };
            let devices = ["cam-1", "cam-2"]
                .map(|name| name.parse().unwrap())
                .to_vec();
            let told = withdrawal_told_by(&written(act));
            assert_eq!(told, Some(Withdrawn::Contained(devices, standing)));
        }
        let at = Timestamp::from_seconds(10);
        let back = GivenBack::default();
        for act in [
            group_restored(at, &Actor::Plane, &row, "looked at", &back),
            devices_restored(at, &Actor::Plane, &row, "cam-1 cam-2"),
        ] {
            assert_eq!(withdrawal_told_by(&written(act)), None);
        }
    }
}
