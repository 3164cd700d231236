//! Enrollments that wait for a person, from the record to memory and back, and what the person
//! decides.

use crate::certify::enrolling::Enrolled;
use crate::certify::lists;
use crate::clock;
use crate::entries::{self, Actor};
use crate::events::About;
use crate::plane::Plane;
use crate::trouble::Trouble;
use identity::Refusal;
use identity::expected::ExpectedDevice;
use identity::pending::{
    Asking, KEPT, Pending, PendingAnswer, PendingEnrollment, PendingState, Shown,
};
use model::{DeviceId, Digest, GroupId, ManufacturerId, ProductId, SerialNumber, Timestamp};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use store::{Change, Decision, Direction, Guard, Receipt, Store, Write};

/// What waits and what was decided, as the last run left it.
///
/// # Errors
/// The store's.
pub fn remember(store: &Store) -> Result<Pending, store::ReadError> {
    let mut pending = Pending::default();
    store.for_each_pending_enrollment(|row| {
        if let Some(enrollment) = from_row(row) {
            pending.put(enrollment);
        }
    })?;
    Ok(pending)
}

/// A device asks for what a person must approve. `None`: one did. Else it waits, on record.
///
/// # Errors
/// A person said no, it asks with another request too often, too many wait, or trouble of ours.
pub async fn ask(
    plane: &Plane,
    asking: &Asking<'_>,
    now: Timestamp,
) -> Result<Option<Enrolled>, Trouble> {
    let (manufacturer, serial) = (asking.manufacturer.clone(), asking.serial.clone());
    let _one_at_a_time = plane.waiting.begin().await;
    let answer = plane.pending.lock().ask(asking, now);
    let (enrollment, evicted) = match answer {
        PendingAnswer::Approved => return Ok(None),
        PendingAnswer::Waits { id, retry_after } => {
            return Ok(Some(Enrolled::Waits {
                id,
                retry_after,
                is_new: false,
            }));
        }
        PendingAnswer::Refused { at } => {
            return Err(Trouble::Identity(Refusal::EnrollmentRefused {
                manufacturer,
                serial,
                at,
            }));
        }
        PendingAnswer::TooOften { retry_after } => {
            return Err(later(
                "pending-too-often",
                "it asked with another request a moment ago; device: ask again with the same \
                 request, and keep its key",
                retry_after,
                true,
            ));
        }
        PendingAnswer::Full { retry_after } => {
            return Err(later(
                "pending-full",
                "too many devices of this manufacturer wait for a person; operator: approve or \
                 refuse some with `fleetward identity pending`",
                retry_after,
                false,
            ));
        }
        PendingAnswer::New {
            enrollment,
            evicted,
        } => (enrollment, evicted),
    };
    let mut change = Change::new(Direction::Neutral);
    if let Some((manufacturer, serial)) = evicted.clone() {
        change = change.write(Write::DropPendingEnrollment {
            manufacturer,
            serial,
        });
    }
    let row = row_of(&enrollment, None);
    plane
        .commit(change.write(Write::PutPendingEnrollment(row)))
        .await?;
    let id = enrollment.id;
    let mut pending = plane.pending.lock();
    if let Some((manufacturer, serial)) = evicted {
        pending.remove(&manufacturer, &serial);
        tracing::warn!(
            target: "devices",
            "idevid {manufacturer} {serial} waits no more: too many do [operator must act]"
        );
    }
    pending.put(*enrollment);
    tell(plane, &id);
    Ok(Some(Enrolled::Waits {
        id,
        retry_after: PendingAnswer::FIRST_RETRY_AFTER,
        is_new: true,
    }))
}

fn later(code: &'static str, text: &str, after: Duration, too_often: bool) -> Trouble {
    Trouble::Later {
        code,
        text: text.to_owned(),
        seconds: u32::try_from(after.as_secs()).unwrap_or(u32::MAX),
        too_often,
    }
}

/// What waited of a device that is about to get its certificate, held until it is gone.
pub struct Waited<'a> {
    plane: &'a Plane,
    manufacturer: &'a ManufacturerId,
    serial: &'a SerialNumber,
    _one_at_a_time: tokio::sync::MutexGuard<'a, ()>,
}

impl<'a> Waited<'a> {
    /// `None`: nothing of it waits.
    pub async fn of(
        plane: &'a Plane,
        manufacturer: &'a ManufacturerId,
        serial: &'a SerialNumber,
    ) -> Option<Self> {
        if !plane.pending.lock().has(manufacturer, serial) {
            return None;
        }
        Some(Self {
            plane,
            manufacturer,
            serial,
            _one_at_a_time: plane.waiting.begin().await,
        })
    }

    /// With the certificate it goes. If it hangs on an approval, that must still be of this request.
    #[must_use]
    pub fn settled_by(&self, mut change: Change, approved: Option<Digest>) -> Change {
        if let Some(id) = approved {
            change = change.guard(Guard::PendingEnrollmentIs {
                manufacturer: self.manufacturer.clone(),
                serial: self.serial.clone(),
                id,
                approved: Some(true),
            });
        }
        change.write(Write::DropPendingEnrollment {
            manufacturer: self.manufacturer.clone(),
            serial: self.serial.clone(),
        })
    }

    /// The change is on record.
    pub fn forget(self) {
        (self.plane.pending.lock()).remove(self.manufacturer, self.serial);
        let gone =
            json!({ "manufacturer": self.manufacturer.as_str(), "serial": self.serial.as_str() });
        self.plane.events.tell(About::Pending, &gone);
    }
}

/// Screens that show who waits read again.
fn tell(plane: &Plane, id: &Digest) {
    let about = json!({ "id": id.to_string() });
    plane.events.tell(About::Pending, &about);
}

/// As what a device that is on no list is let in.
#[derive(Debug, Clone, Default)]
pub struct Assignment {
    pub product: Option<ProductId>,
    /// Without one the serial number serves, if it is a name.
    pub device: Option<DeviceId>,
    pub groups: Vec<GroupId>,
}

/// Who was approved, and as what.
pub struct Approved {
    pub device: DeviceId,
    pub product: ProductId,
    pub receipt: Receipt,
}

/// A person lets a device have its certificate: one that is on no list is put on it. The device
/// gets the certificate when it asks the next time.
///
/// # Errors
/// Nobody waits under this id (any more), or the assignment cannot be; trouble of ours.
pub async fn approve(
    plane: &Arc<Plane>,
    id: Digest,
    assignment: Assignment,
    why: &str,
    actor: &Actor,
) -> Result<Approved, Trouble> {
    plane.granting_allowed()?;
    let _one_list_at_a_time = plane.listing.begin().await;
    let _one_at_a_time = plane.waiting.begin().await;
    let now = clock::now();
    let mut enrollment = waiting_one(plane, id, now)?;
    if enrollment.state == PendingState::Approved {
        return Err(Trouble::refused(
            "pending-decided",
            format!("enrollment {id} is approved already; the device has not asked again yet"),
        ));
    }
    let before = decision_of(&enrollment);
    let listed = {
        let registry = plane.trust().registry();
        (registry.device_by_serial(&enrollment.manufacturer, &enrollment.serial))
            .map(|device| (device.device, device.product.clone()))
    };
    let new = match &listed {
        Some((device, _)) => {
            check_not_assigned(&assignment, device)?;
            None
        }
        None => Some(assigned(&enrollment, assignment)?),
    };
    let (device, product) = match (&new, listed) {
        (Some(new), _) => (new.device.clone(), new.product.clone()),
        (None, Some(listed)) => listed,
        (None, None) => return Err(Trouble::fault("nobody is approved")),
    };
    enrollment.state = PendingState::Approved;
    enrollment.product = Some(product.clone());
    enrollment.expires_at = now.plus(KEPT);
    let decision = Decision {
        approved: true,
        at: now,
        by: actor.to_string(),
    };
    let row = row_of(&enrollment, Some(decision.clone()));
    let about = Some((&device, &product));
    let entry = entries::enrollment_decided(actor, &row, &decision, about, why);
    let mut change = Change::new(Direction::Grant)
        .guard(Guard::DeviceNotRevoked(device.clone()))
        .guard(still(&row, before));
    if let Some(new) = &new {
        change = change.write(Write::PutExpectedDevices(vec![store::ExpectedDevice {
            manufacturer: enrollment.manufacturer.clone(),
            serial: new.serial.clone(),
            product: new.product.clone(),
            device: new.device.clone(),
            groups: new.groups.clone(),
        }]));
    }
    let change = change
        .write(Write::PutPendingEnrollment(row))
        .entry(plane.leaf(&entry)?);
    let receipt = plane.commit(change).await?;
    if let Some(new) = new {
        let none = std::collections::HashSet::new();
        lists::learn_expected(plane, &enrollment.manufacturer, &[new], &none).await?;
    }
    plane.pending.lock().put(enrollment);
    tell(plane, &id);
    Ok(Approved {
        device,
        product,
        receipt,
    })
}

/// A person does not let a device in: it is refused for as long as this is kept, whatever request
/// it sends.
///
/// # Errors
/// Nobody waits under this id (any more); trouble of ours.
pub async fn refuse(
    plane: &Arc<Plane>,
    id: Digest,
    why: &str,
    actor: &Actor,
) -> Result<Receipt, Trouble> {
    let _one_at_a_time = plane.waiting.begin().await;
    let now = clock::now();
    let mut enrollment = waiting_one(plane, id, now)?;
    let before = decision_of(&enrollment);
    enrollment.state = PendingState::Refused { at: now };
    enrollment.expires_at = now.plus(KEPT);
    let decision = Decision {
        approved: false,
        at: now,
        by: actor.to_string(),
    };
    let row = row_of(&enrollment, Some(decision.clone()));
    let entry = entries::enrollment_decided(actor, &row, &decision, None, why);
    let change = Change::new(Direction::Withdraw)
        .guard(still(&row, before))
        .write(Write::PutPendingEnrollment(row))
        .entry(plane.leaf(&entry)?);
    // Nothing of it was granted yet, so nothing has to bite before it is on record.
    let receipt = plane.commit(change).await?;
    plane.pending.lock().put(enrollment);
    tell(plane, &id);
    Ok(receipt)
}

fn waiting_one(plane: &Plane, id: Digest, now: Timestamp) -> Result<PendingEnrollment, Trouble> {
    let pending = plane.pending.lock();
    pending
        .find(&id, now)
        .cloned()
        .ok_or_else(|| Trouble::Unknown {
            code: "pending-unknown",
            text: format!(
                "no enrollment {id} waits: it expired, was fetched, or the device asked with \
                 another request since; list them again"
            ),
        })
}

/// That nothing came between the look and the decision.
fn still(row: &store::PendingEnrollment, approved: Option<bool>) -> Guard {
    Guard::PendingEnrollmentIs {
        manufacturer: row.manufacturer.clone(),
        serial: row.serial.clone(),
        id: row.id,
        approved,
    }
}

fn decision_of(enrollment: &PendingEnrollment) -> Option<bool> {
    match enrollment.state {
        PendingState::Waiting => None,
        PendingState::Approved => Some(true),
        PendingState::Refused { .. } => Some(false),
    }
}

/// A device that is listed stays what the list says.
fn check_not_assigned(assignment: &Assignment, device: &DeviceId) -> Result<(), Trouble> {
    let is_same = assignment.device.as_ref().is_none_or(|name| name == device);
    if is_same && assignment.product.is_none() && assignment.groups.is_empty() {
        return Ok(());
    }
    Err(Trouble::refused(
        "pending-is-listed",
        format!("it is on the list as {device}: approve it as it is, or correct the list first"),
    ))
}

fn assigned(
    enrollment: &PendingEnrollment,
    assignment: Assignment,
) -> Result<ExpectedDevice, Trouble> {
    let product = assignment.product.or_else(|| enrollment.product.clone());
    let product = product.ok_or_else(|| {
        Trouble::refused(
            "pending-product-needed",
            "it is on no list, so say which product it is",
        )
    })?;
    let by_serial = || DeviceId::new(enrollment.serial.as_str()).ok();
    let device = assignment.device.or_else(by_serial).ok_or_else(|| {
        Trouble::refused(
            "pending-name-needed",
            "its serial number cannot be its name here, so give it one",
        )
    })?;
    Ok(ExpectedDevice {
        fingerprint: None,
        attributes: Vec::new(),
        manufacturer: None,
        serial: enrollment.serial.clone(),
        product,
        device,
        groups: assignment.groups,
    })
}

fn row_of(enrollment: &PendingEnrollment, decision: Option<Decision>) -> store::PendingEnrollment {
    store::PendingEnrollment {
        id: enrollment.id,
        manufacturer: enrollment.manufacturer.clone(),
        serial: enrollment.serial.clone(),
        certificate: match enrollment.shown {
            Shown::Certificate(certificate) => Some(certificate),
            Shown::Chip(_) => None,
        },
        endorsement: match enrollment.shown {
            Shown::Chip(endorsement) => Some(endorsement),
            Shown::Certificate(_) => None,
        },
        product: enrollment.product.clone(),
        key_kind: enrollment.key_kind.clone(),
        key: enrollment.key,
        asked_from: enrollment.asked_from,
        asked_at: enrollment.asked_at,
        expires_at: enrollment.expires_at,
        decision,
    }
}

/// `None`: it says not by what the device showed who it is, so it asks anew.
fn from_row(row: store::PendingEnrollment) -> Option<PendingEnrollment> {
    let shown =
        (row.certificate.map(Shown::Certificate)).or_else(|| row.endorsement.map(Shown::Chip))?;
    Some(PendingEnrollment {
        id: row.id,
        manufacturer: row.manufacturer,
        serial: row.serial,
        shown,
        product: row.product,
        key_kind: row.key_kind,
        key: row.key,
        asked_from: row.asked_from,
        asked_at: row.asked_at,
        expires_at: row.expires_at,
        state: match row.decision {
            None => PendingState::Waiting,
            Some(Decision { approved: true, .. }) => PendingState::Approved,
            Some(Decision { at, .. }) => PendingState::Refused { at },
        },
    })
}
