//! Who waits for a person, and that a factory's stolen CA cannot fill the house with them.

use crate::support::*;
use identity::pending::{
    Asking, Pending, PendingAnswer, PendingState, Shown, WAITING_OF_MANUFACTURER_MAX, enrollment_id,
};
use identity::{CertificateRequest, certificate_id};
use model::{CertificateId, Digest, Timestamp};
use std::time::Duration;

/// A device of a manufacturer, with a request.
struct Unit {
    manufacturer: model::ManufacturerId,
    serial: model::SerialNumber,
    certificate: CertificateId,
    request: CertificateRequest,
}

fn unit(maker: &str, number: usize, request: &CertificateRequest) -> Unit {
    let number = number.to_string();
    Unit {
        manufacturer: manufacturer(maker),
        serial: serial(&number),
        certificate: CertificateId::new(Digest([3; 32]), number.as_bytes()).unwrap(),
        request: request.clone(),
    }
}

impl Unit {
    fn asks(&self, pending: &Pending, now: Timestamp) -> PendingAnswer {
        let asking = Asking {
            from: None,
            manufacturer: &self.manufacturer,
            serial: &self.serial,
            shown: Shown::Certificate(self.certificate),
            product: None,
            request: &self.request,
        };
        pending.ask(&asking, now)
    }

    /// Asks, and is put on record as the plane would.
    fn waits(&self, pending: &mut Pending, now: Timestamp) -> bool {
        let PendingAnswer::New {
            enrollment,
            evicted,
        } = self.asks(pending, now)
        else {
            return false;
        };
        if let Some((manufacturer, serial)) = evicted {
            pending.remove(&manufacturer, &serial);
        }
        pending.put(*enrollment);
        true
    }
}

fn later(minutes: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(60 * minutes))
}

#[test]
fn the_same_request_is_the_same_enrollment_and_a_new_key_is_another() {
    let world = World::new();
    let idevid = |key: &Key| {
        let der = world.factory.idevid("maker", "SN1", key);
        Shown::Certificate(certificate_id(&der).unwrap())
    };
    let (one, other) = (plain_request(&Key::new()), plain_request(&Key::new()));
    let shown = idevid(&Key::new());
    assert_eq!(enrollment_id(shown, &one), enrollment_id(shown, &one));
    assert_ne!(enrollment_id(shown, &one), enrollment_id(shown, &other));
    assert_ne!(
        enrollment_id(shown, &one),
        enrollment_id(idevid(&Key::new()), &one)
    );
    let chip = Shown::Chip(Digest([3; 32]));
    assert_eq!(enrollment_id(chip, &one), enrollment_id(chip, &one));
    assert_ne!(enrollment_id(chip, &one), enrollment_id(shown, &one));
    assert_ne!(
        enrollment_id(chip, &one),
        enrollment_id(Shown::Chip(Digest([4; 32])), &one)
    );
}

#[test]
fn an_approval_is_of_one_request_and_a_refusal_of_the_device() {
    let mut pending = Pending::default();
    let device = unit("maker", 1, &plain_request(&Key::new()));
    let other = unit("maker", 1, &plain_request(&Key::new()));
    assert!(device.waits(&mut pending, NOW));
    let row = pending.list(NOW).remove(0).clone();
    assert!(
        matches!(device.asks(&pending, later(1)), PendingAnswer::Waits { id, .. } if id == row.id)
    );
    let hasty = other.asks(&pending, NOW.plus(Duration::from_secs(59)));
    assert!(matches!(hasty, PendingAnswer::TooOften { .. }));

    let mut approved = row.clone();
    approved.state = PendingState::Approved;
    pending.put(approved);
    assert_eq!(device.asks(&pending, later(2)), PendingAnswer::Approved);
    // Whoever holds its identity and asks with a key of its own is not approved by that.
    assert!(matches!(
        other.asks(&pending, later(2)),
        PendingAnswer::New { .. }
    ));

    let mut refused = row;
    refused.state = PendingState::Refused { at: later(3) };
    pending.put(refused);
    for unit in [&device, &other] {
        let answer = unit.asks(&pending, later(4));
        assert_eq!(answer, PendingAnswer::Refused { at: later(3) });
    }
    // Not for ever.
    let over = NOW.plus(31 * DAY);
    assert!(pending.list(over).is_empty());
    assert!(matches!(
        device.asks(&pending, over),
        PendingAnswer::New { .. }
    ));
    assert!(pending.forget_expired(over));
}

#[test]
fn attack_a_stolen_factory_ca_cannot_crowd_out_who_came_within_the_hour_nor_another_maker() {
    let mut pending = Pending::default();
    let request = plain_request(&Key::new());
    let honest = unit("maker", 0, &request);
    let neighbour = unit("other", 0, &request);
    assert!(neighbour.waits(&mut pending, NOW));
    assert!(honest.waits(&mut pending, later(30)));
    for number in 1..WAITING_OF_MANUFACTURER_MAX {
        assert!(unit("maker", number, &request).waits(&mut pending, later(31)));
    }
    // Full, and nobody has waited for an hour.
    let minted = unit("maker", 9_999, &request);
    assert!(matches!(
        minted.asks(&pending, later(89)),
        PendingAnswer::Full { .. }
    ));
    assert!(matches!(
        honest.asks(&pending, later(89)),
        PendingAnswer::Waits { .. }
    ));
    // Another maker's devices come all the same.
    assert!(unit("other", 1, &request).waits(&mut pending, later(89)));
    // From then on the one that waited longest gives way: never another maker's.
    for number in 0..3 * WAITING_OF_MANUFACTURER_MAX {
        unit("maker", 10_000 + number, &request).waits(&mut pending, later(92));
        assert!(pending.waiting_count(later(92)) <= WAITING_OF_MANUFACTURER_MAX + 2);
    }
    assert!(matches!(
        neighbour.asks(&pending, later(92)),
        PendingAnswer::Waits { .. }
    ));
    assert_eq!(
        pending.list(later(92))[0].manufacturer,
        neighbour.manufacturer
    );
}

#[test]
fn a_device_is_told_to_ask_more_seldom_the_longer_nobody_looks() {
    let mut pending = Pending::default();
    let device = unit("maker", 1, &plain_request(&Key::new()));
    assert!(device.waits(&mut pending, NOW));
    let mut last = Duration::ZERO;
    for minutes in [0, 1, 10, 60, 600, 6_000] {
        let PendingAnswer::Waits { retry_after, .. } = device.asks(&pending, later(minutes)) else {
            panic!("{minutes}");
        };
        assert!(retry_after >= last, "{minutes}");
        assert!(
            (60..=3600).contains(&retry_after.as_secs()),
            "{retry_after:?}"
        );
        last = retry_after;
    }
    assert_eq!(last.as_secs(), 3600);
}
