//! Enrollments that wait, and answers that may be asked for again.

use crate::fixture::*;
use model::{Digest, SerialNumber};
use store::{
    Change, CommitError, Decision, Direction, EnrollmentAnswer, Guard, PendingEnrollment, Store,
    Write,
};

fn pending(serial: &str, id: u8) -> PendingEnrollment {
    PendingEnrollment {
        id: Digest([id; 32]),
        manufacturer: manufacturer().id,
        serial: SerialNumber::new(serial).unwrap(),
        certificate: id.is_multiple_of(2).then(|| certificate_id(id)),
        endorsement: (!id.is_multiple_of(2)).then_some(Digest([id; 32])),
        product: None,
        key_kind: "P-256".to_owned(),
        key: Digest([7; 32]),
        asked_from: Some([192, 0, 2, 7].into()),
        asked_at: seconds(5),
        expires_at: seconds(50),
        decision: None,
    }
}

fn approved(mut row: PendingEnrollment) -> PendingEnrollment {
    row.decision = Some(Decision {
        approved: true,
        at: seconds(6),
        by: "local/uid-0".to_owned(),
    });
    row
}

fn is(row: &PendingEnrollment, approved: Option<bool>) -> Guard {
    Guard::PendingEnrollmentIs {
        manufacturer: row.manufacturer.clone(),
        serial: row.serial.clone(),
        id: row.id,
        approved,
    }
}

fn neutral(write: Write) -> Change {
    Change::new(Direction::Neutral).write(write)
}

fn all(store: &Store) -> Vec<PendingEnrollment> {
    let mut rows = Vec::new();
    store
        .for_each_pending_enrollment(|row| rows.push(row))
        .unwrap();
    rows
}

#[test]
fn a_device_waits_once_and_its_last_request_counts() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let put = |row: PendingEnrollment| store.commit(neutral(Write::PutPendingEnrollment(row)));
    // Nobody waits for a manufacturer that was never registered.
    assert!(matches!(
        put(pending("SN1", 1)),
        Err(CommitError::Conflict { .. })
    ));
    store
        .commit(grant(Write::PutManufacturer(manufacturer())))
        .unwrap();
    put(pending("SN1", 1)).unwrap();
    put(pending("SN2", 2)).unwrap();
    put(pending("SN1", 3)).unwrap();
    assert_eq!(all(&store), [pending("SN1", 3), pending("SN2", 2)]);
    drop(store);
    assert_eq!(all(&open(&data)), [pending("SN1", 3), pending("SN2", 2)]);
}

#[test]
fn what_was_not_shown_is_not_approved_and_no_approval_is_smuggled_in() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let first = pending("SN1", 1);
    let change = grant(Write::PutManufacturer(manufacturer()));
    store
        .commit(change.write(Write::PutPendingEnrollment(first.clone())))
        .unwrap();
    let yes = || Write::PutPendingEnrollment(approved(first.clone()));
    let smuggled = store.commit(neutral(yes())).unwrap_err();
    assert!(
        matches!(smuggled, CommitError::Invalid { .. }),
        "{smuggled}"
    );

    // The device sent another request between the look and the decision.
    let second = pending("SN1", 2);
    let replace = neutral(Write::PutPendingEnrollment(second.clone()));
    store.commit(replace).unwrap();
    let late = store.commit(grant(yes()).guard(is(&first, None)));
    assert!(matches!(late, Err(CommitError::Guard(_))));
    assert_eq!(all(&store), std::slice::from_ref(&second));

    let decide = Write::PutPendingEnrollment(approved(second.clone()));
    let decide = grant(decide).guard(is(&second, None));
    store.commit(decide.clone()).unwrap();
    assert!(matches!(store.commit(decide), Err(CommitError::Guard(_))));
    let issue = neutral(Write::DropPendingEnrollment {
        manufacturer: second.manufacturer.clone(),
        serial: second.serial.clone(),
    });
    let issue = issue.guard(is(&second, Some(true)));
    store.commit(issue).unwrap();
    assert!(all(&store).is_empty());
}

#[test]
fn an_answer_is_set_once_by_whoever_saw_none() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let answer = |certificate: u8| EnrollmentAnswer {
        enrollment: Digest([4; 32]),
        certificate: certificate_id(certificate),
        expires_at: seconds(100),
    };
    let seen = |certificate: Option<u8>| Guard::EnrollmentAnswerIs {
        enrollment: Digest([4; 32]),
        certificate: certificate.map(certificate_id),
    };
    let put = |saw, gives| {
        let write = Write::PutEnrollmentAnswer(answer(gives));
        store.commit(neutral(write).guard(seen(saw)))
    };
    put(None, 1).unwrap();
    // The same request, sent twice at once.
    assert!(matches!(put(None, 2), Err(CommitError::Guard(_))));
    let found = || store.enrollment_answer(&Digest([4; 32])).unwrap();
    assert_eq!(found(), Some(answer(1)));
    // Its certificate was revoked meanwhile: the next one takes its place.
    put(Some(1), 3).unwrap();
    assert!(matches!(put(Some(1), 4), Err(CommitError::Guard(_))));
    assert_eq!(found(), Some(answer(3)));
    assert_eq!(store.enrollment_answer(&Digest([5; 32])).unwrap(), None);
}

#[test]
fn what_expired_is_forgotten_and_the_rest_stays() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    store
        .commit(grant(Write::PutManufacturer(manufacturer())))
        .unwrap();
    let mut late = pending("SN2", 2);
    late.expires_at = seconds(51);
    let answer = |number: u8, expires_at| {
        Write::PutEnrollmentAnswer(EnrollmentAnswer {
            enrollment: Digest([number; 32]),
            certificate: certificate_id(number),
            expires_at: seconds(expires_at),
        })
    };
    let change = neutral(Write::PutPendingEnrollment(pending("SN1", 1)))
        .write(Write::PutPendingEnrollment(late.clone()))
        .write(answer(1, 50))
        .write(answer(2, 51));
    store.commit(change).unwrap();
    let forget = Write::ForgetEnrollments {
        expired_before: seconds(51),
    };
    store.commit(neutral(forget)).unwrap();
    assert_eq!(all(&store), [late]);
    assert!(store.enrollment_answer(&Digest([1; 32])).unwrap().is_none());
    assert!(store.enrollment_answer(&Digest([2; 32])).unwrap().is_some());
}
