//! Checkpoints, the seal, and a database that is older than its published log.

use crate::fixture::*;
use model::{Principal, Revocable, RevocationReason};
use store::{
    Change, Checkpoint, CheckpointError, CommitError, Direction, Holder, ImportError, Published,
    Write,
};

#[test]
fn a_checkpoint_follows_the_one_it_was_made_from() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    for _ in 0..5 {
        store
            .commit(put_meta("a", b"").entry(b"e".to_vec()))
            .unwrap();
    }
    assert_eq!(store.last_checkpoint().unwrap(), None);
    store.put_checkpoint(0, 3, b"three".to_vec()).unwrap();
    let raced = store.put_checkpoint(0, 4, b"another sequencer's".to_vec());
    let moved = CheckpointError::Moved {
        stored: 3,
        expected: 0,
    };
    assert_eq!(raced, Err(moved));
    for (size, what) in [(2, "shrinks"), (6, "claims leaves that do not exist")] {
        let refused = store.put_checkpoint(3, size, b"bad".to_vec());
        assert!(
            matches!(refused, Err(CheckpointError::Size { .. })),
            "it {what}"
        );
    }
    store.put_checkpoint(3, 5, b"five".to_vec()).unwrap();
    drop(store);
    let stored = open(&data).last_checkpoint().unwrap();
    let five = Checkpoint {
        size: 5,
        note: b"five".to_vec(),
    };
    assert_eq!(stored, Some(five));
}

#[test]
fn while_sealed_nothing_is_granted_and_everything_can_be_withdrawn() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    enroll(&store, "SN1", "cam-1");
    store.seal("the published log is ahead").unwrap();
    store.seal("a later reason").unwrap();
    drop(store);
    let store = open(&data);
    assert_eq!(
        store.sealed().as_deref(),
        Some("the published log is ahead")
    );

    let holder = Holder::Device(device_id("cam-1"));
    let refused = store.commit(grant(Write::PutCertificate(certificate(1, holder.clone()))));
    assert!(matches!(refused, Err(CommitError::Sealed { .. })));
    let sign_in = Change::new(Direction::Grant).entry(b"signed in".to_vec());
    assert!(matches!(
        store.commit(sign_in),
        Err(CommitError::Sealed { .. })
    ));
    store
        .commit(revoke_device("cam-1").entry(b"revoked".to_vec()))
        .unwrap();
    store
        .commit(put_meta("a", b"").entry(b"noted".to_vec()))
        .unwrap();
    store.put_checkpoint(0, 3, b"note".to_vec()).unwrap();

    assert!(store.unseal(Vec::new()).is_err(), "nobody said who decided");
    let smuggled = Change::new(Direction::Neutral)
        .write(Write::Unseal)
        .write(Write::PutManufacturer(manufacturer()))
        .entry(b"unsealed".to_vec());
    assert!(matches!(
        store.commit(smuggled),
        Err(CommitError::Invalid { .. })
    ));
    assert!(store.sealed().is_some());
    store.unseal(vec![b"unsealed by alice".to_vec()]).unwrap();
    assert_eq!(store.sealed(), None);
    store
        .commit(grant(Write::PutCertificate(certificate(1, Holder::Server))))
        .unwrap();
}

#[test]
fn a_seal_in_a_refused_change_is_none() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let seal = grant(Write::Seal {
        reason: "half of a change".to_owned(),
    });
    let refused = store.commit(seal.write(Write::UseToken {
        hash: model::Digest([1; 32]),
        at: seconds(1),
    }));
    assert!(matches!(refused, Err(CommitError::Conflict { .. })));
    store
        .commit(grant(Write::PutManufacturer(manufacturer())))
        .unwrap();
    assert_eq!(store.sealed(), None);
    drop(store);
    assert_eq!(open(&data).sealed(), None);
}

#[test]
fn leaves_are_imported_without_gap_and_without_a_second_history() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    store
        .commit(put_meta("a", b"").entry(b"0".to_vec()).entry(b"1".to_vec()))
        .unwrap();
    let import = |from, texts: &[&str]| {
        let leaves = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        store.import_leaves(from, leaves, "restored")
    };
    let gap = ImportError::Gap {
        from: 3,
        leaf_count: 2,
    };
    assert_eq!(import(3, &["3"]), Err(gap));
    assert_eq!(
        import(0, &["0", "x", "2"]),
        Err(ImportError::Diverged { index: 1 })
    );
    assert_eq!((store.sealed(), store.leaf_count().unwrap()), (None, 2));
    assert_eq!(import(1, &["1", "2", "3"]), Ok(4));
    assert_eq!(import(4, &["4"]), Ok(5));
    assert_eq!(store.sealed().as_deref(), Some("restored"));
    assert_eq!(store.imported_from(), Some(2));
    drop(store);
    let store = open(&data);
    assert_eq!(
        store.imported_from(),
        Some(2),
        "a crash before the replay is noticed"
    );
    assert_eq!(store.leaves(0, 10).unwrap(), [b"0", b"1", b"2", b"3", b"4"]);
    store.unseal(vec![b"5".to_vec()]).unwrap();
    assert_eq!(store.imported_from(), None);
    let next = store
        .commit(put_meta("a", b"").entry(b"6".to_vec()))
        .unwrap();
    assert_eq!(next.first_leaf_index, 6);
}

/// The whole story: backup, then a revocation, then the backup comes back while the published log
/// stayed. This is what the plane does at start.
#[test]
fn a_restored_backup_does_not_resurrect_a_revoked_device() {
    let (scratch, data) = scratch();
    let published = Published::open(&scratch.path().join("published")).unwrap();
    let store = open(&data);
    enroll(&store, "SN1", "cam-1");
    store.backup(&scratch.path().join("backup.db")).unwrap();
    let again = store.backup(&scratch.path().join("backup.db"));
    assert!(again.is_err(), "a backup is not overwritten");
    enroll(&store, "SN2", "cam-2");
    for id in ["cam-1", "cam-2"] {
        let entry = format!("revoked {id}").into_bytes();
        store.commit(revoke_device(id).entry(entry)).unwrap();
    }
    for (index, leaf) in store.leaves(0, 10).unwrap().iter().enumerate() {
        published
            .write(&format!("tile/entries/{index:03}"), leaf)
            .unwrap();
    }
    drop(store);

    let restored = scratch.path().join("restored");
    open(&restored);
    std::fs::remove_file(restored.join("control.db")).unwrap();
    std::fs::copy(
        scratch.path().join("backup.db"),
        restored.join("control.db"),
    )
    .unwrap();
    let store = open(&restored);
    assert_eq!(store.leaf_count().unwrap(), 1);
    let leaves = (1..4)
        .map(|index| {
            published
                .read(&format!("tile/entries/{index:03}"))
                .unwrap()
                .unwrap()
        })
        .collect();
    store
        .import_leaves(1, leaves, "the database is older than its log")
        .unwrap();
    for leaf in store.leaves(store.imported_from().unwrap(), 10).unwrap() {
        if let Some(id) = String::from_utf8(leaf).unwrap().strip_prefix("revoked ") {
            store
                .commit(Change::new(Direction::Withdraw).write(Write::Revoke {
                    what: Revocable::Principal(Principal::Device(device_id(id))),
                    at: seconds(30),
                    reason: RevocationReason::KeyCompromise,
                }))
                .unwrap();
        }
    }
    store.unseal(vec![b"unsealed".to_vec()]).unwrap();
    for (serial, id) in [("SN1", "cam-1"), ("SN2", "cam-2")] {
        let back = store.commit(grant(Write::PutDevice(device(serial, id))));
        assert!(matches!(back, Err(CommitError::Guard(_))), "{id} came back");
        let who = Revocable::Principal(Principal::Device(device_id(id)));
        assert!(store.revocation(&who).unwrap().is_some());
    }
}
