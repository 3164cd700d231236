//! Twins: a version is set once, and what a device says touches nothing that is desired.

use crate::fixture::*;
use store::{Change, CommitError, Direction, Store, TwinWrite};

fn desire(store: &Store, document: &str, version: u64) -> Result<(), CommitError> {
    let write = TwinWrite::Desire {
        device: device_id("cam-1"),
        document: document.as_bytes().to_vec(),
        version,
        by: "local/uid-0".to_owned(),
        at: seconds(5),
    };
    let change = Change::new(Direction::Grant)
        .write(write)
        .entry(b"set".to_vec());
    store.commit(change).map(drop)
}

fn report(store: &Store, document: &str) {
    let row = (device_id("cam-1"), document.as_bytes().to_vec(), seconds(6));
    let change = Change::new(Direction::Neutral).write(TwinWrite::Report(vec![row]));
    store.commit(change).unwrap();
}

#[test]
fn of_two_who_set_the_same_version_one_is_told_so() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    assert_eq!(store.twin(&device_id("cam-1")).unwrap(), None);
    assert!(desire(&store, "{}", 1).is_err(), "there is none to follow");
    desire(&store, "{\"a\":1}", 0).unwrap();
    assert!(desire(&store, "{\"a\":2}", 0).is_err());
    desire(&store, "{\"a\":3}", 1).unwrap();
    drop(store);
    let store = open(&data);
    let twin = store.twin(&device_id("cam-1")).unwrap().unwrap();
    assert_eq!(
        (twin.version, twin.desired.as_slice()),
        (2, &b"{\"a\":3}"[..])
    );
    assert_eq!(twin.reported, None);
}

#[test]
fn what_a_device_says_changes_nothing_that_is_desired() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    report(&store, "{\"b\":1}");
    let twin = store.twin(&device_id("cam-1")).unwrap().unwrap();
    assert_eq!((twin.version, twin.desired_by), (0, None));
    desire(&store, "{\"a\":1}", 0).unwrap();
    report(&store, "{\"b\":2}");
    let twin = store.twin(&device_id("cam-1")).unwrap().unwrap();
    assert_eq!(
        (twin.version, twin.desired.as_slice()),
        (1, &b"{\"a\":1}"[..])
    );
    assert_eq!(twin.reported.as_deref(), Some(&b"{\"b\":2}"[..]));
}
