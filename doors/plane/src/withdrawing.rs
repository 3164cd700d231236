//! What can be withdrawn, and what a withdrawal and its undoing leave behind.

use crate::entries::Actor;
use crate::plane::{digest, random};
use crate::trouble::Trouble;
use gateway::Withdrawal;
use identity::Fact;
use model::{
    CertificateId, Containment, DeviceId, Digest, IncidentId, Principal, RevocationReason,
    ServiceId, Timestamp,
};
use std::collections::BTreeMap;
use std::time::Duration;
use store::{Change, Direction, IdempotencyKey, Receipt, Write};

/// What is to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoking {
    Device(DeviceId),
    Service(ServiceId),
    Certificate(CertificateId),
}

impl Revoking {
    /// What the gateway and the registry are told.
    #[must_use]
    pub fn withdrawn(&self, reason: RevocationReason, at: Timestamp) -> (Withdrawal, Fact) {
        let principal = match self {
            Self::Device(device) => Principal::Device(device.clone()),
            Self::Service(service) => Principal::Service(service.clone()),
            Self::Certificate(certificate) => {
                let certificate = *certificate;
                let fact = Fact::CertificateRevoked {
                    certificate,
                    reason,
                    at,
                };
                return (Withdrawal::Certificate(certificate), fact);
            }
        };
        let fact = Fact::PrincipalRevoked {
            principal: principal.clone(),
            reason,
            at,
        };
        (Withdrawal::Principal(principal), fact)
    }

    /// Its row.
    #[must_use]
    pub fn row(&self, at: Timestamp, reason: RevocationReason) -> Write {
        match self.clone() {
            Self::Device(device) => Write::RevokeDevice { device, at, reason },
            Self::Service(service) => Write::RevokeService {
                service,
                at,
                reason,
            },
            Self::Certificate(certificate) => Write::RevokeCertificate {
                certificate,
                at,
                reason,
            },
        }
    }
}

/// The change that records a withdrawal which is in force: tried again after a disk's error that
/// was none, it must not be told twice.
///
/// # Errors
/// The system gives no random bytes.
pub fn change(leaf: Vec<u8>) -> Result<Change, Trouble> {
    let key = IdempotencyKey {
        key: format!("withdrawal/{}", Digest(random()?)),
        request: digest(&leaf),
    };
    Ok(Change::new(Direction::Withdraw).entry(leaf).idempotent(key))
}

/// What a revocation did, and how fast.
pub struct RevocationReceipt {
    /// False: nobody of that name, or no such certificate, was on record. It is barred in advance.
    pub known: bool,
    pub sessions_closed: u32,
    /// From the request to the moment after which nothing of it is accepted at any door.
    pub in_force_after: Duration,
    /// From the request to its entry being durable.
    pub recorded_after: Duration,
    pub receipt: Receipt,
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
}
