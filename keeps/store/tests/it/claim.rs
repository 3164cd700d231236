//! Claim certificates and ownership: what the counts and the one present owner refuse, whatever the
//! caller has seen.

use crate::fixture::*;
use model::{ClaimCertificateId, Digest, OwnerId};
use store::{
    Change, ClaimCertificate, CommitError, Direction, Owned, OwnershipCode, OwnershipStep,
    RESERVATIONS_A_DEVICE, Reservation, Store, Write,
};

fn claim(name: &str, devices_max: u32) -> ClaimCertificate {
    ClaimCertificate {
        claim: ClaimCertificateId::new(name).unwrap(),
        certificate: name.as_bytes().to_vec(),
        manufacturer: manufacturer().id,
        product: "camera".parse().unwrap(),
        template: "camera".to_owned(),
        addresses: "192.0.2.0/24 2001:db8::/32".to_owned(),
        devices_max,
        made: 0,
        used: 0,
        added_at: seconds(1),
        expires_at: seconds(1000),
        retired_at: None,
    }
}

fn reservation(number: u8) -> Reservation {
    Reservation {
        token: Digest([number; 32]),
        claim: ClaimCertificateId::new("batch").unwrap(),
        device: device_id("cam-1"),
        certificate: certificate_id(number),
        expires_at: seconds(100),
        used_at: None,
    }
}

fn grant(store: &Store, write: Write) -> Result<(), CommitError> {
    let change = Change::new(Direction::Grant)
        .write(write)
        .entry(b"granted".to_vec());
    store.commit(change).map(drop)
}

fn with_claim(devices_max: u32) -> (tempfile::TempDir, Store) {
    let (scratch, data) = scratch();
    let store = open(&data);
    grant(&store, Write::PutManufacturer(manufacturer())).unwrap();
    grant(
        &store,
        Write::PutClaimCertificate(claim("batch", devices_max)),
    )
    .unwrap();
    (scratch, store)
}

fn reserve(store: &Store, number: u8) -> Result<(), CommitError> {
    grant(store, Write::PutReservation(reservation(number)))
}

fn use_it(store: &Store, number: u8, at: u64) -> Result<(), CommitError> {
    let token = Digest([number; 32]);
    let at = seconds(at);
    grant(store, Write::UseReservation { token, at })
}

#[test]
fn no_more_is_made_or_used_than_the_count_allows() {
    let (_scratch, store) = with_claim(2);
    let most = u8::try_from(2 * RESERVATIONS_A_DEVICE).unwrap();
    for number in 1..=most {
        reserve(&store, number).unwrap();
    }
    assert!(matches!(
        reserve(&store, 99),
        Err(CommitError::Conflict { .. })
    ));
    use_it(&store, 1, 50).unwrap();
    assert!(use_it(&store, 1, 50).is_err(), "once");
    assert!(use_it(&store, 2, 101).is_err(), "ended");
    assert!(use_it(&store, 77, 50).is_err(), "unknown");
    use_it(&store, 2, 100).unwrap();
    assert!(use_it(&store, 3, 50).is_err(), "the third of two");
    let rows = store.claim_certificates().unwrap();
    assert_eq!((rows[0].made, rows[0].used), (u32::from(most), 2));
    assert_eq!(
        store
            .reservation(&Digest([1; 32]))
            .unwrap()
            .unwrap()
            .used_at,
        Some(seconds(50))
    );
    assert_eq!(
        store
            .reservation(&Digest([3; 32]))
            .unwrap()
            .unwrap()
            .used_at,
        None
    );
    // What nobody used lapses; the others are forgotten with it.
    assert_eq!(store.lapsed_reservations(seconds(100)).unwrap().len(), 0);
    let lapsed = store.lapsed_reservations(seconds(101)).unwrap();
    assert_eq!(lapsed.len(), usize::from(most) - 2);
    let ended_before = seconds(101);
    let forget = Change::new(Direction::Neutral).write(Write::ForgetReservations { ended_before });
    store.commit(forget).unwrap();
    assert_eq!(store.reservation(&Digest([1; 32])).unwrap(), None);
}

#[test]
fn what_is_retired_stays_so_and_no_name_or_certificate_is_used_twice() {
    let (_scratch, store) = with_claim(2);
    reserve(&store, 1).unwrap();
    let retire = Change::new(Direction::Withdraw).write(Write::RetireClaimCertificate {
        claim: ClaimCertificateId::new("batch").unwrap(),
        at: seconds(9),
    });
    store.commit(retire).unwrap();
    assert!(reserve(&store, 2).is_err());
    assert!(use_it(&store, 1, 50).is_err());
    assert_eq!(
        store.claim_certificates().unwrap()[0].retired_at,
        Some(seconds(9))
    );
    let mut same_name = claim("batch", 9);
    same_name.certificate = b"another".to_vec();
    let mut same_certificate = claim("batch", 9);
    same_certificate.claim = ClaimCertificateId::new("other").unwrap();
    for again in [claim("batch", 9), same_name, same_certificate] {
        let told = grant(&store, Write::PutClaimCertificate(again));
        assert!(
            matches!(told, Err(CommitError::Conflict { .. })),
            "{told:?}"
        );
    }
    // A grant in the clothes of a withdrawal is no change at all.
    let disguised = Change::new(Direction::Neutral).write(Write::PutReservation(reservation(3)));
    assert!(matches!(
        store.commit(disguised),
        Err(CommitError::Invalid { .. })
    ));
}

fn owned(owner: &str, offered_to: Option<&str>) -> Owned {
    Owned {
        owner: OwnerId::new(owner).unwrap(),
        salt: vec![7; 16],
        offered_to: offered_to.map(|to| OwnerId::new(to).unwrap()),
    }
}

fn step(before: Option<Owned>, after: Option<Owned>, at: u64) -> Write {
    Write::PutOwnership(OwnershipStep {
        device: device_id("cam-1"),
        before,
        after,
        at: seconds(at),
    })
}

#[test]
fn a_device_has_one_owner_and_nothing_is_taken_that_moved_meanwhile() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let (ann, offered) = (owned("ann", None), owned("ann", Some("bob")));
    grant(&store, step(None, Some(ann.clone()), 1)).unwrap();
    // Seen as nobody's, and it is not any more.
    assert!(grant(&store, step(None, Some(owned("mallory", None)), 2)).is_err());
    grant(&store, step(Some(ann.clone()), Some(offered.clone()), 3)).unwrap();
    // Seen before it was offered.
    assert!(grant(&store, step(Some(ann.clone()), None, 4)).is_err());
    assert!(grant(&store, step(Some(owned("eve", None)), None, 4)).is_err());
    grant(&store, step(Some(offered), Some(owned("bob", None)), 5)).unwrap();
    let release = Change::new(Direction::Withdraw).write(step(Some(owned("bob", None)), None, 6));
    store.commit(release).unwrap();
    assert_eq!(store.ownership(&device_id("cam-1")).unwrap(), None);
    let history = store.ownership_history(&device_id("cam-1")).unwrap();
    let told: Vec<_> = history
        .iter()
        .map(|period| (period.owned.owner.as_str(), period.since, period.until))
        .collect();
    let expected = [
        ("bob", seconds(5), Some(seconds(6))),
        ("ann", seconds(1), Some(seconds(5))),
    ];
    assert_eq!(told, expected);
    // To own, or to be offered, is to have more.
    for write in [
        step(None, Some(ann.clone()), 7),
        step(Some(ann.clone()), Some(owned("ann", Some("bob"))), 7),
        step(Some(ann), Some(owned("bob", None)), 7),
    ] {
        let told = store.commit(Change::new(Direction::Withdraw).write(write));
        assert!(matches!(told, Err(CommitError::Invalid { .. })), "{told:?}");
    }
}

#[test]
fn a_code_is_used_once_and_the_next_one_takes_its_place() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let device = device_id("cam-1");
    let put = |hash: u8| {
        let code = OwnershipCode {
            device: device.clone(),
            hash: Digest([hash; 32]),
            expires_at: seconds(100),
        };
        grant(&store, Write::PutOwnershipCodes(vec![code])).unwrap();
    };
    let use_code = |hash: u8, at: u64| {
        let write = Write::UseOwnershipCode {
            device: device.clone(),
            hash: Digest([hash; 32]),
            at: seconds(at),
        };
        grant(&store, write).is_ok()
    };
    put(1);
    put(2);
    assert!(!use_code(1, 50));
    assert!(!use_code(2, 101));
    assert!(use_code(2, 100));
    assert!(!use_code(2, 100));
    assert_eq!(store.ownership_code(&device).unwrap(), None);
}
