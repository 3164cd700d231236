//! What can be withdrawn, and what a withdrawal and its undoing leave behind.

use crate::broker::Telling;
use crate::entries::{self, Actor};
use crate::plane::{Plane, digest, random};
use crate::trouble::Trouble;
use identity::{Fact, Reach};
use model::{
    CertificateId, Containment, DeviceId, Digest, GroupContainmentId, IncidentId, Revocable,
    RevocationReason, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use store::{CHANGE_ROWS_MAX, Change, Direction, IdempotencyKey, Receipt, Write};

/// What is to be revoked, and why: one thing or a whole list in one act.
#[derive(Debug, Clone)]
pub struct Revoking {
    pub what: Vec<Revocable>,
    pub reason: RevocationReason,
    /// SHA-256 of the list as it was sent, if it was one.
    pub list: Option<Digest>,
    /// When it was asked for: the receipt counts from here.
    pub asked_at: Instant,
}

impl Revoking {
    #[must_use]
    pub fn one(what: Revocable, reason: RevocationReason) -> Self {
        Self {
            what: vec![what],
            ..Self::nothing(reason)
        }
    }

    /// Asked for now, to be filled.
    #[must_use]
    pub fn nothing(reason: RevocationReason) -> Self {
        Self {
            what: Vec::new(),
            reason,
            list: None,
            asked_at: Instant::now(),
        }
    }

    /// The certificate that was made by the word of what is revoked meanwhile. A hold would have to
    /// be released twice: the device enrolls again instead.
    #[must_use]
    pub fn heir(certificate: CertificateId, reason: RevocationReason) -> Self {
        let reason = if reason.is_hold() {
            RevocationReason::Superseded
        } else {
            reason
        };
        Self::one(Revocable::Certificate(certificate), reason)
    }

    /// What the registry is told.
    #[must_use]
    pub fn facts(&self, at: Timestamp) -> Vec<Fact> {
        let all = self.what.iter().cloned();
        let reason = self.reason;
        all.map(|what| Fact::Revoked { what, reason, at }).collect()
    }
}

/// Lines of a list in one change: each has a row, an entry and perhaps a message to a broker, and
/// one more entry sums up.
const LINES_OF_CHANGE_MAX: usize = CHANGE_ROWS_MAX / 3 - 1;
/// The longest list.
pub const LIST_LINES_MAX: usize = 1_000_000;

/// Reads a list of what is to be revoked, one a line; empty lines and lines that begin with `#`
/// say nothing. The first 20 errors are told at once, each with its line.
///
/// # Errors
/// What is wrong with it; nothing of it is done then.
pub fn read_list(text: &str) -> Result<Vec<Revocable>, Vec<String>> {
    const ERRORS_MAX: usize = 20;
    let mut what = BTreeSet::new();
    let mut errors = Vec::new();
    for (number, line) in (1_usize..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.parse() {
            Ok(one) => drop(what.insert(one)),
            Err(rule) => errors.push(format!("line {number}: {rule}")),
        }
        if errors.len() >= ERRORS_MAX {
            break;
        }
        if what.len() > LIST_LINES_MAX {
            errors.push(format!("more than {LIST_LINES_MAX} lines; cut the list"));
            break;
        }
    }
    if errors.is_empty() && what.is_empty() {
        errors.push("the list names nothing".to_owned());
    }
    if errors.is_empty() {
        Ok(what.into_iter().collect())
    } else {
        Err(errors)
    }
}

/// Records what is in force, a list in as many changes as it takes. The receipt is the last one's;
/// its entry is the one that sums up, or the only one.
///
/// # Errors
/// Something could not be recorded; it is in force and tried again.
pub async fn record(
    plane: &Plane,
    revoking: &Revoking,
    at: Timestamp,
    sessions_closed: u32,
    actor: &Actor,
) -> Result<(Receipt, u64), Trouble> {
    let parts = revoking.what.chunks(LINES_OF_CHANGE_MAX);
    let last = parts.len().saturating_sub(1);
    let mut recorded = Err(Trouble::fault("a revocation of nothing"));
    let mut failed = None;
    for (number, part) in parts.enumerate() {
        let mut leaves = Vec::with_capacity(part.len() + 1);
        let of_each = match revoking.list {
            None => Some(sessions_closed),
            Some(_) => None,
        };
        for what in part {
            let act = entries::revoked(at, actor, what, revoking.reason, of_each);
            leaves.push(plane.leaf(&act)?);
        }
        if let (Some(list), true) = (revoking.list, number == last) {
            let count = revoking.what.len();
            let act =
                entries::list_revoked(at, actor, list, count, revoking.reason, sessions_closed);
            leaves.push(plane.leaf(&act)?);
        }
        let entry = leaves.len().saturating_sub(1) as u64;
        let mut change = change(leaves)?;
        for what in part {
            change = change.write(Write::Revoke {
                what: what.clone(),
                at,
                reason: revoking.reason,
            });
        }
        // Of a product they may be many; what does not fit has changes of its own.
        let mut carried = plane.carried(part, Telling::Out(revoking.reason), at);
        let rest = carried.split_off(carried.len().min(LINES_OF_CHANGE_MAX));
        change.writes.append(&mut carried);
        recorded = match plane.commit_withdrawal(change).await {
            Ok(receipt) => Ok((receipt, receipt.first_leaf_index.saturating_add(entry))),
            Err(trouble) => {
                failed.get_or_insert(trouble.to_string());
                Err(trouble)
            }
        };
        plane.queue(rest).await;
    }
    plane.brokers.nudge();
    match failed {
        // The last part may be on record while an earlier one is not.
        Some(why) if recorded.is_ok() => Err(Trouble::fault(why)),
        _ => recorded,
    }
}

/// The change that records a withdrawal which is in force: tried again after a disk's error that
/// was none, it must not be told twice.
///
/// # Errors
/// The system gives no random bytes.
pub fn change(leaves: Vec<Vec<u8>>) -> Result<Change, Trouble> {
    let key = IdempotencyKey {
        key: format!("withdrawal/{}", Digest(random()?)),
        request: digest(&leaves.concat()),
    };
    let mut change = Change::new(Direction::Withdraw).idempotent(key);
    change.entries = leaves;
    Ok(change)
}

/// What a revocation would do.
#[derive(Debug, Clone, Copy)]
pub struct RevocationPreview {
    pub unknown: u64,
    pub reach: Reach,
    pub sessions: u32,
}

/// What a revocation did, and how fast.
pub struct RevocationReceipt {
    /// How much of it was not on record: it is barred in advance.
    pub unknown: u64,
    pub sessions_closed: u32,
    /// From the request to the moment after which nothing of it is accepted at any door.
    pub in_force_after: Duration,
    /// That moment, since 1970: what a capture from outside is held against.
    pub in_force_at_unix: Duration,
    /// From the request to the last of its connections being closed.
    pub closed_after: Duration,
    /// From the request to its entry being durable.
    pub recorded_after: Duration,
    pub receipt: Receipt,
    /// Index of the entry that tells of all of it.
    pub entry: u64,
}

/// A hold that is to be lifted, and why.
#[derive(Debug, Clone)]
pub struct Releasing {
    pub what: Revocable,
    /// Of whoever decided, in their words.
    pub reason: String,
}

/// Who is to be cut off, how far and why.
#[derive(Debug, Clone)]
pub struct Containing {
    pub device: DeviceId,
    pub containment: Containment,
    pub incident: Option<IncidentId>,
    /// Of whoever decided, in their words.
    pub reason: String,
}

impl Containing {
    /// As it will stand.
    #[must_use]
    pub fn standing(&self, since: Timestamp, actor: &Actor) -> Standing {
        Standing {
            containment: self.containment,
            since,
            incident: self.incident,
            by: actor.to_string(),
            group: None,
        }
    }
}

/// Who gets back what it was cut off from, and why.
#[derive(Debug, Clone)]
pub struct Restoring {
    pub device: DeviceId,
    /// The incident that this belongs to.
    pub incident: Option<IncidentId>,
    pub reason: String,
}

/// What was undone.
#[derive(Debug, Clone)]
pub struct RestoreReceipt {
    pub receipt: Receipt,
}

/// What cutting off did, and how fast.
#[derive(Debug, Clone)]
pub struct ContainmentReceipt {
    /// What is in force now: the harder one, if the device was cut off before.
    pub containment: Containment,
    pub sessions_touched: u32,
    pub in_force_after: Duration,
    pub recorded_after: Duration,
    /// `None`: it was in force already, so there was nothing to record.
    pub receipt: Option<Receipt>,
}

/// A containment that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub containment: Containment,
    pub since: Timestamp,
    pub incident: Option<IncidentId>,
    /// The actor who decided.
    pub by: String,
    /// The act that cut it off together with others, and that gives it back with them.
    pub group: Option<GroupContainmentId>,
}

impl Standing {
    /// Its row.
    #[must_use]
    pub fn row(&self, device: &DeviceId) -> Write {
        Write::PutContainment(store::Contained {
            device: device.clone(),
            containment: self.containment,
            since: self.since,
            incident: self.incident,
            by: self.by.clone(),
            group: self.group.clone(),
        })
    }
}

/// Who is cut off, in memory. What is in force stands here before it is on record.
#[derive(Debug, Default)]
pub struct Containments {
    standing: BTreeMap<DeviceId, (Standing, u64)>,
    changes: u64,
}

impl Containments {
    #[must_use]
    pub fn of(&self, device: &DeviceId) -> Option<&Standing> {
        self.standing.get(device).map(|(standing, _)| standing)
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&DeviceId, &Standing)> {
        self.standing
            .iter()
            .map(|(device, (standing, _))| (device, standing))
    }

    /// The number of the change that brought the present one: another one is another number.
    #[must_use]
    pub fn change_of(&self, device: &DeviceId) -> Option<u64> {
        self.standing.get(device).map(|(_, change)| *change)
    }

    /// The harder one stands. False: it stood already.
    pub fn put(&mut self, device: &DeviceId, next: Standing) -> bool {
        if let Some(before) = self.of(device)
            && before.containment >= next.containment
        {
            return false;
        }
        self.changes += 1;
        self.standing.insert(device.clone(), (next, self.changes));
        true
    }

    /// Takes it away if it is still the one of this change.
    pub fn take(&mut self, device: &DeviceId, change: u64) -> bool {
        let is_same = self.change_of(device) == Some(change);
        if is_same {
            self.standing.remove(device);
        }
        is_same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(containment: Containment) -> Standing {
        Standing {
            containment,
            since: Timestamp::from_seconds(1),
            incident: None,
            by: "plane".into(),
            group: None,
        }
    }

    #[test]
    fn a_softer_containment_never_replaces_a_harder_one() {
        let device: DeviceId = "cam-1".parse().unwrap();
        let mut all = Containments::default();
        assert!(all.put(&device, standing(Containment::Isolated)));
        assert!(!all.put(&device, standing(Containment::Quarantined)));
        assert!(!all.put(&device, standing(Containment::Isolated)));
        assert_eq!(all.of(&device).unwrap().containment, Containment::Isolated);
    }

    #[test]
    fn a_restore_takes_away_only_what_it_saw() {
        let device: DeviceId = "cam-1".parse().unwrap();
        let mut all = Containments::default();
        all.put(&device, standing(Containment::Quarantined));
        let seen = all.change_of(&device).unwrap();
        all.put(&device, standing(Containment::Isolated));
        assert!(!all.take(&device, seen));
        assert_eq!(all.of(&device).unwrap().containment, Containment::Isolated);
        let seen = all.change_of(&device).unwrap();
        assert!(all.take(&device, seen));
        assert_eq!(all.of(&device), None);
    }

    #[test]
    fn a_list_is_read_whole_or_not_at_all() {
        let list = "# lost in transit\n\n device/cam-2 \ndevice/cam-1\r\ndevice/cam-2\nproduct/x\n";
        let read = read_list(list).unwrap();
        let names: Vec<String> = read.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["device/cam-1", "device/cam-2", "product/x"]);
        let errors = read_list("device/a\ncam-1\nsn/1\n").unwrap_err();
        assert_eq!(errors.len(), 2);
        assert!(errors[0].starts_with("line 2: "), "{errors:?}");
        assert!(read_list("# nothing\n").is_err());
        assert_eq!(read_list(&"x\n".repeat(1000)).unwrap_err().len(), 20);
    }
}
