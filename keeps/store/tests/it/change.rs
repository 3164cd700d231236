//! Commit: all or nothing, guards, neighbours, repetition, refusal.

use crate::fixture::*;
use model::{Digest, Principal, Revocable, RevocationReason};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use store::{
    CHANGE_ROWS_MAX, Change, CommitError, Direction, Guard, Holder, IdempotencyKey, LEAF_BYTES_MAX,
    Options, RECEIPTS_KEPT_CHANGES, Receipt, Store, Write,
};

fn key(text: &str, request: u8) -> IdempotencyKey {
    IdempotencyKey {
        key: text.to_owned(),
        request: Digest([request; 32]),
    }
}

#[test]
fn receipts_count_changes_and_leaves() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let first = store
        .commit(put_meta("a", b"1").entry(b"x".to_vec()))
        .unwrap();
    let second = store.commit(put_meta("a", b"2")).unwrap();
    let third = store
        .commit(
            put_meta("a", b"3")
                .entry(b"y".to_vec())
                .entry(b"z".to_vec()),
        )
        .unwrap();
    let numbers = |r: Receipt| (r.sequence, r.first_leaf_index, r.leaf_count, r.replayed);
    assert_eq!(numbers(first), (1, 0, 1, false));
    assert_eq!(numbers(second), (2, 1, 0, false));
    assert_eq!(numbers(third), (3, 1, 2, false));
    drop(store);
    let store = open(&data);
    assert_eq!(store.commit(put_meta("a", b"4")).unwrap().sequence, 4);
    assert_eq!(store.leaf_count().unwrap(), 3);
    assert_eq!(store.leaves(0, 10).unwrap(), [b"x", b"y", b"z"]);
    assert_eq!(store.leaves(1, 1).unwrap(), [b"y"]);
    assert!(store.leaves(3, 10).unwrap().is_empty());
}

#[test]
fn a_failed_guard_leaves_nothing_behind() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    enroll(&store, "SN1", "cam-1");
    let guard = Guard::DeviceVersion {
        device: device_id("cam-1"),
        version: 7,
    };
    let refused = store.commit(
        grant(Write::PutDevice(device("SN1", "cam-1")))
            .guard(guard.clone())
            .entry(b"never".to_vec()),
    );
    assert_eq!(refused, Err(CommitError::Guard(guard)));
    assert_eq!(store.leaf_count().unwrap(), 1);
    assert_eq!(
        store.device(&device_id("cam-1")).unwrap().unwrap().version,
        1
    );
}

/// A whole queue of good and bad changes lands in shared transactions; each bad one fails in
/// another way, some of them after they had written.
#[test]
fn a_refused_change_does_not_fail_its_neighbours() {
    let (_scratch, data) = scratch();
    let store = Arc::new(open(&data));
    enroll(&store, "SN1", "cam-1");
    let (gate_opens, gate) = channel::<()>();
    // The writer waits in this reply while the queue fills behind it.
    store.submit(put_meta("gate", b""), move |_| gate.recv().unwrap());
    let (answers, received) = channel();
    for number in 0..200u32 {
        let good = put_meta(&format!("k{number}"), b"v").entry(format!("good {number}").into());
        let change = match number % 5 {
            1 => good.guard(Guard::FleetVersion(9)),
            // Fails in its second write, after the first was made.
            2 => Change::new(Direction::Grant)
                .write(good.writes[0].clone())
                .write(Write::PutDevice(device("SN-other", "cam-1")))
                .entry(b"bad".to_vec()),
            // A violated constraint inside SQLite.
            3 => Change::new(Direction::Grant)
                .write(good.writes[0].clone())
                .write(Write::PutExpectedDevices(vec![
                    expected("SN8", "cam-8"),
                    expected("SN9", "cam-8"),
                ])),
            _ => good,
        };
        let answers = answers.clone();
        store.submit(change, move |answer| {
            answers.send((number, answer)).unwrap()
        });
    }
    gate_opens.send(()).unwrap();
    drop(answers);
    let mut leaves = Vec::new();
    for (number, answer) in received {
        match number % 5 {
            1 => assert!(matches!(answer, Err(CommitError::Guard(_))), "{answer:?}"),
            2 | 3 => assert!(
                matches!(answer, Err(CommitError::Conflict { .. })),
                "{answer:?}"
            ),
            _ => leaves.push((answer.unwrap().first_leaf_index, number)),
        }
        let stored = store.meta(&format!("k{number}")).unwrap();
        assert_eq!(
            stored.is_some(),
            matches!(number % 5, 0 | 4),
            "change {number}"
        );
    }
    assert_eq!(leaves.len(), 80);
    for (place, (leaf_index, number)) in leaves.into_iter().enumerate() {
        assert_eq!(leaf_index, 1 + place as u64, "indices have no gap");
        assert_eq!(
            store.leaf(leaf_index).unwrap().unwrap(),
            format!("good {number}").into_bytes()
        );
    }
    assert_eq!(store.failing(), None);
}

#[test]
fn eight_threads_race_for_one_row_version_and_none_is_lost() {
    const ROUNDS: u64 = 40;
    let (_scratch, data) = scratch();
    let store = Arc::new(open(&data));
    enroll(&store, "SN1", "cam-1");
    let start = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (store, start) = (Arc::clone(&store), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                let mut won = 0;
                while won < ROUNDS {
                    let version = store.device(&device_id("cam-1")).unwrap().unwrap().version;
                    let change = grant(Write::PutDevice(device("SN1", "cam-1")))
                        .guard(Guard::DeviceVersion {
                            device: device_id("cam-1"),
                            version,
                        })
                        .entry(format!("v{}", version + 1).into_bytes());
                    match store.commit(change) {
                        Ok(_) => won += 1,
                        Err(CommitError::Guard(_)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let version = store.device(&device_id("cam-1")).unwrap().unwrap().version;
    assert_eq!(version, 1 + 8 * ROUNDS);
    let leaves = store.leaves(1, 10_000).unwrap();
    let expected: Vec<_> = (2..=version)
        .map(|v| format!("v{v}").into_bytes())
        .collect();
    assert_eq!(leaves, expected, "each version was written once, in order");
}

#[test]
fn a_sign_in_token_used_by_eight_at_once_signs_one_in() {
    let (_scratch, data) = scratch();
    let store = Arc::new(open(&data));
    let hash = Digest([5; 32]);
    store
        .commit(grant(Write::PutToken {
            person: None,
            hash,
            expires_at: seconds(100),
        }))
        .unwrap();
    let start = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (store, start) = (Arc::clone(&store), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                let sign_in = grant(Write::UseToken {
                    hash,
                    at: seconds(50),
                });
                store
                    .commit(sign_in.guard(Guard::TokenUnused(hash)))
                    .is_ok()
            })
        })
        .collect();
    let signed_in = threads.into_iter().map(|t| t.join().unwrap());
    assert_eq!(signed_in.filter(|in_| *in_).count(), 1);
}

#[test]
fn a_token_that_is_unknown_expired_or_used_tells_them_not_apart() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let (hash, unknown) = (Digest([5; 32]), Digest([6; 32]));
    store
        .commit(grant(Write::PutToken {
            person: None,
            hash,
            expires_at: seconds(100),
        }))
        .unwrap();
    let use_at = |hash, at| {
        store.commit(grant(Write::UseToken {
            hash,
            at: seconds(at),
        }))
    };
    let expired = use_at(hash, 100).unwrap_err();
    assert_eq!(use_at(unknown, 50).unwrap_err(), expired);
    use_at(hash, 99).unwrap();
    assert_eq!(use_at(hash, 99).unwrap_err(), expired);
    store
        .commit(Change::new(Direction::Neutral).write(Write::ForgetTokens {
            expired_before: seconds(101),
        }))
        .unwrap();
    assert_eq!(store.token(&hash).unwrap(), None);
}

#[test]
fn a_repeated_request_gets_the_first_receipt_and_writes_nothing() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let request = || {
        grant(Write::PutToken {
            person: None,
            hash: Digest([1; 32]),
            expires_at: seconds(9),
        })
        .entry(b"made".to_vec())
        .idempotent(key("alice/1", 1))
    };
    let first = store.commit(request()).unwrap();
    // Without the key it would now be a conflict, as the token exists.
    let again = store.commit(request()).unwrap();
    assert_eq!(
        again,
        Receipt {
            replayed: true,
            ..first
        }
    );
    assert_eq!(store.leaf_count().unwrap(), 1);
    drop(store);
    let store = open(&data);
    assert_eq!(
        store.commit(request()).unwrap(),
        again,
        "it survives a restart"
    );
}

#[test]
fn a_repeated_request_in_the_same_transaction_is_one() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let (gate_opens, gate) = channel::<()>();
    store.submit(put_meta("gate", b""), move |_| gate.recv().unwrap());
    let (answers, received) = channel();
    for _ in 0..10 {
        let answers = answers.clone();
        let change = put_meta("k", b"v")
            .entry(b"e".to_vec())
            .idempotent(key("k", 1));
        store.submit(change, move |answer| answers.send(answer.unwrap()).unwrap());
    }
    drop(answers);
    gate_opens.send(()).unwrap();
    let receipts: Vec<_> = received.into_iter().collect();
    assert_eq!(receipts.iter().filter(|r| !r.replayed).count(), 1);
    assert!(receipts.iter().all(|r| r.sequence == receipts[0].sequence));
    assert_eq!(store.leaf_count().unwrap(), 1);
}

#[test]
fn a_foreign_request_with_a_known_key_gets_no_receipt() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    store
        .commit(put_meta("a", b"").idempotent(key("k", 1)))
        .unwrap();
    let stolen = store.commit(put_meta("a", b"").idempotent(key("k", 2)));
    assert_eq!(stolen, Err(CommitError::KeyReused));
}

#[test]
fn receipts_are_forgotten_after_the_promised_number_of_changes() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let first = store
        .commit(put_meta("a", b"").idempotent(key("k", 1)))
        .unwrap();
    let pass = |changes: u64| {
        // As if so many changes had come meanwhile.
        let raw = rusqlite::Connection::open(data.join("control.db")).unwrap();
        raw.execute(
            "UPDATE state SET sequence = sequence + ?1",
            [changes as i64],
        )
        .unwrap();
    };
    drop(store);
    pass(RECEIPTS_KEPT_CHANGES - 2);
    let store = open(&data);
    store.commit(put_meta("b", b"")).unwrap();
    let again = store
        .commit(put_meta("a", b"").idempotent(key("k", 1)))
        .unwrap();
    assert_eq!(
        again,
        Receipt {
            replayed: true,
            ..first
        }
    );
    drop(store);
    pass(1);
    let store = open(&data);
    store.commit(put_meta("b", b"")).unwrap();
    let anew = store
        .commit(put_meta("a", b"").idempotent(key("k", 1)))
        .unwrap();
    assert!(!anew.replayed);
}

#[test]
fn a_revoked_device_cannot_be_written_back_even_without_a_guard() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    enroll(&store, "SN1", "cam-1");
    store.commit(revoke_device("cam-1")).unwrap();
    let holder = Holder::Device(device_id("cam-1"));
    for write in [
        Write::PutDevice(device("SN1", "cam-1")),
        Write::PutCertificate(certificate(1, holder)),
    ] {
        let refused = store.commit(grant(write)).unwrap_err();
        let bar = Guard::DeviceNotRevoked(device_id("cam-1"));
        assert_eq!(refused, CommitError::Guard(bar));
    }
    let service = Principal::Service(service_id("cloud"));
    store
        .commit(Change::new(Direction::Withdraw).write(Write::Revoke {
            what: Revocable::Principal(Principal::Service(service_id("cloud"))),
            at: seconds(1),
            reason: RevocationReason::Unspecified,
        }))
        .unwrap();
    assert!(
        store
            .revocation(&Revocable::Principal(service))
            .unwrap()
            .is_some()
    );
    let holder = Holder::Service(service_id("cloud"));
    let refused = store.commit(grant(Write::PutCertificate(certificate(2, holder))));
    let bar = Guard::ServiceNotRevoked(service_id("cloud"));
    assert_eq!(refused, Err(CommitError::Guard(bar)));
}

#[test]
fn a_second_revocation_cannot_soften_the_first() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    store.commit(revoke_device("cam-1")).unwrap();
    store
        .commit(Change::new(Direction::Withdraw).write(Write::Revoke {
            what: Revocable::Principal(Principal::Device(device_id("cam-1"))),
            at: seconds(99),
            reason: RevocationReason::Superseded,
        }))
        .unwrap();
    let revoked = Revocable::Principal(Principal::Device(device_id("cam-1")));
    let stored = store.revocation(&revoked).unwrap().unwrap();
    assert_eq!(
        (stored.at, stored.reason),
        (seconds(30), RevocationReason::KeyCompromise)
    );
}

#[test]
fn a_change_that_lies_about_its_direction_is_refused() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    for direction in [Direction::Withdraw, Direction::Neutral] {
        let lie = Change::new(direction).write(Write::PutManufacturer(manufacturer()));
        assert!(matches!(
            store.commit(lie),
            Err(CommitError::Invalid { .. })
        ));
    }
    assert_eq!(store.manufacturer(&manufacturer().id).unwrap(), None);
}

#[test]
fn a_trust_anchor_is_not_replaced_by_registering_it_again() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    store
        .commit(grant(Write::PutManufacturer(manufacturer())))
        .unwrap();
    store
        .commit(grant(Write::PutManufacturer(manufacturer())))
        .unwrap();
    let mut other = manufacturer();
    other.ca = vec![6, 6, 6];
    let refused = store.commit(grant(Write::PutManufacturer(other)));
    assert!(
        matches!(refused, Err(CommitError::Conflict { .. })),
        "{refused:?}"
    );
    let stored = store.manufacturer(&manufacturer().id).unwrap();
    assert_eq!(stored, Some(manufacturer()));
}

#[test]
fn what_is_too_large_is_refused_before_it_waits() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let rows = (0..=CHANGE_ROWS_MAX).map(|n| expected(&n.to_string(), &n.to_string()));
    let too_many = grant(Write::PutExpectedDevices(rows.collect()));
    let oversize = vec![0; LEAF_BYTES_MAX + 1];
    for change in [
        too_many,
        put_meta("a", b"").entry(oversize),
        put_meta("a", b"").entry(Vec::new()),
        put_meta(&"k".repeat(129), b""),
        put_meta("", b""),
        put_meta("a", &vec![0; 65 * 1024]),
        put_meta("a", b"").idempotent(key("", 0)),
    ] {
        assert!(matches!(
            store.commit(change),
            Err(CommitError::Invalid { .. })
        ));
    }
    store
        .commit(put_meta("a", b"").entry(vec![7; LEAF_BYTES_MAX]))
        .unwrap();
}

#[test]
fn a_flood_of_grants_leaves_room_for_a_revocation() {
    let (_scratch, data) = scratch();
    let options = Options {
        queue_changes_max: 10,
        ..Options::new(tenant())
    };
    let store = Store::open(&data, options).unwrap();
    let (gate_opens, gate) = channel::<()>();
    let (entered, inside) = channel::<()>();
    store.submit(put_meta("gate", b""), move |_| {
        entered.send(()).unwrap();
        gate.recv().unwrap();
    });
    inside.recv().unwrap();
    let (answers, received) = channel();
    for number in 0..15 {
        let answers = answers.clone();
        let change = grant(put_meta("flood", b"").writes.remove(0));
        store.submit(change, move |answer| {
            answers.send((number, answer)).unwrap()
        });
    }
    assert_eq!(store.queued(), 10);
    // Those that found no room were told at once, while the writer stood still.
    for number in 10..15 {
        assert_eq!(
            received.try_recv().unwrap(),
            (number, Err(CommitError::Busy))
        );
    }
    let (withdrawn, revoked) = channel();
    store.submit(revoke_device("cam-1"), move |answer| {
        withdrawn.send(answer).unwrap()
    });
    gate_opens.send(()).unwrap();
    revoked.recv().unwrap().unwrap();
}

#[test]
fn a_reply_that_panics_does_not_stop_the_writer() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    store.submit(put_meta("a", b"1"), |_| {
        panic!("a defect of the caller (expected in this test)")
    });
    store.commit(put_meta("a", b"2")).unwrap();
    assert_eq!(store.meta("a").unwrap().unwrap(), b"2");
}

#[test]
fn a_store_dropped_by_its_own_reply_still_commits_what_was_queued() {
    let (_scratch, data) = scratch();
    let store = Arc::new(open(&data));
    let (done, finished) = channel();
    let last = Arc::clone(&store);
    let (gate_opens, gate) = channel::<()>();
    store.submit(put_meta("gate", b""), move |_| {
        gate.recv().unwrap();
        drop(last);
    });
    store.submit(put_meta("late", b"1"), move |answer| {
        done.send(answer).unwrap()
    });
    drop(store);
    gate_opens.send(()).unwrap();
    finished.recv().unwrap().unwrap();
}

#[test]
fn a_fleet_version_follows_the_last_one() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let fleet = |version| store::Fleet {
        version,
        digest: Digest([version as u8; 32]),
        files: vec![version as u8; 3],
        applied_at: seconds(version),
    };
    assert_eq!(store.fleet().unwrap(), None);
    store
        .commit(grant(Write::PutFleet(fleet(1))).guard(Guard::FleetVersion(0)))
        .unwrap();
    for wrong in [0, 1, 3] {
        let refused = store.commit(grant(Write::PutFleet(fleet(wrong))));
        assert!(
            matches!(refused, Err(CommitError::Conflict { .. })),
            "{wrong}"
        );
    }
    store.commit(grant(Write::PutFleet(fleet(2)))).unwrap();
    assert_eq!(store.fleet().unwrap(), Some(fleet(2)));
    assert_eq!(store.fleet_at(1).unwrap(), Some(fleet(1)));
    assert_eq!(store.fleet_at(3).unwrap(), None);
}

#[test]
fn a_hold_is_released_and_a_revocation_is_not() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let all: [Revocable; 4] = [
        "device/cam-1".parse().unwrap(),
        "product/camera".parse().unwrap(),
        Revocable::Issuer(Digest([9; 32])),
        Revocable::Certificate(certificate_id(7)),
    ];
    let revoke = |what: &Revocable, at, reason| {
        Change::new(Direction::Withdraw).write(Write::Revoke {
            what: what.clone(),
            at: seconds(at),
            reason,
        })
    };
    for what in &all {
        let release = || grant(Write::Release { what: what.clone() });
        assert!(
            store.commit(release()).is_err(),
            "{what}: nothing to release"
        );
        let hold = revoke(what, 5, RevocationReason::CertificateHold);
        store.commit(hold.clone()).unwrap();
        store.commit(release()).unwrap();
        assert_eq!(store.revocation(what).unwrap(), None);
        store.commit(hold).unwrap();
        store
            .commit(revoke(what, 9, RevocationReason::KeyCompromise))
            .unwrap();
        // A second hold does not soften it.
        store
            .commit(revoke(what, 11, RevocationReason::CertificateHold))
            .unwrap();
        let stored = store.revocation(what).unwrap().unwrap();
        assert_eq!(
            (stored.at, stored.reason),
            (seconds(5), RevocationReason::KeyCompromise)
        );
        let refused = store.commit(release()).unwrap_err();
        assert!(matches!(refused, CommitError::Conflict { .. }), "{refused}");
        let as_withdrawal =
            Change::new(Direction::Withdraw).write(Write::Release { what: what.clone() });
        let refused = store.commit(as_withdrawal).unwrap_err();
        assert!(matches!(refused, CommitError::Invalid { .. }), "{refused}");
    }
    let mut told = Vec::new();
    let rows = store
        .for_each_revocation(|what, _| told.push(what))
        .unwrap();
    assert_eq!(rows, 4);
    told.sort();
    let mut all = all.to_vec();
    all.sort();
    assert_eq!(told, all);
}

#[test]
fn attack_a_list_moves_a_device_out_of_its_revoked_product() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    store
        .commit(grant(Write::PutManufacturer(manufacturer())))
        .unwrap();
    let listed = |product: &str| {
        let mut row = expected("SN1", "cam-1");
        row.product = product.parse().unwrap();
        grant(Write::PutExpectedDevices(vec![row]))
    };
    store.commit(listed("camera")).unwrap();
    let bar = Write::Revoke {
        what: "product/camera".parse().unwrap(),
        at: seconds(5),
        reason: RevocationReason::CertificateHold,
    };
    store
        .commit(Change::new(Direction::Withdraw).write(bar))
        .unwrap();
    store.commit(listed("camera")).unwrap();
    let refused = store.commit(listed("lamp")).unwrap_err();
    assert!(matches!(refused, CommitError::Conflict { .. }), "{refused}");
    let device = Write::PutDevice(device("SN1", "cam-1"));
    let refused = store.commit(grant(device.clone())).unwrap_err();
    assert!(matches!(refused, CommitError::Guard(_)), "{refused}");
    let release = Write::Release {
        what: "product/camera".parse().unwrap(),
    };
    store.commit(grant(release)).unwrap();
    store.commit(grant(device)).unwrap();
    store.commit(listed("lamp")).unwrap();
}

#[test]
fn nothing_is_issued_by_a_revoked_ca() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let issuer = certificate_id(1).issuer();
    let bar = Write::Revoke {
        what: Revocable::Issuer(issuer),
        at: seconds(5),
        reason: RevocationReason::CaCompromise,
    };
    store
        .commit(Change::new(Direction::Withdraw).write(bar))
        .unwrap();
    let holder = Holder::Service(service_id("cloud"));
    let refused = store.commit(grant(Write::PutCertificate(certificate(2, holder))));
    assert!(matches!(refused, Err(CommitError::Guard(_))), "{refused:?}");
}
