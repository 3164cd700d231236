//! A disk that takes no more: clear errors, no half change, and recovery without hands.
//!
//! Both tests run in a child (this test binary again): one under a file size limit, one on a
//! file system of its own that is really full.

use crate::fixture::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use store::{CommitError, Durability, Journal, JournalError, JournalOptions, Published, Store};

const FOLDER: &str = "FLEETWARD_STORE_DISK_FOLDER";
const READY: &str = "the test body ran";

/// Runs a test of this binary through `sh`, with its folder in the environment.
fn child(test: &str, folder: &Path, prepare: &str) -> std::process::Output {
    Command::new("sh")
        .args(["-c", &format!("{prepare} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .output()
        .unwrap()
}

fn assert_ran(output: &std::process::Output) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains(READY),
        "{text}\n{errors}"
    );
}

#[test]
fn a_write_that_the_system_refuses_fails_that_commit_and_no_later_one() {
    let (_scratch, data) = scratch();
    // The signal must be ignored, or the limit ends the process instead of failing the write.
    let output = child("disk::under_a_limit", &data, "trap '' XFSZ;");
    assert_ran(&output);
}

#[test]
fn under_a_limit() {
    let Some(data) = std::env::var_os(FOLDER) else {
        return;
    };
    let data = Path::new(&data);
    let store = open(data);
    enroll(&store, "SN1", "cam-1");
    let options = JournalOptions::new(Durability::Power);
    let (mut journal, _) = Journal::open(&data.join("journal"), options, &mut |_| {}).unwrap();
    journal.append(0, b"before").unwrap();
    journal.commit().unwrap();
    let log = Published::open(&data.join("published")).unwrap();

    let wal = std::fs::metadata(data.join("control.db-wal"))
        .unwrap()
        .len();
    let free = getrlimit(Resource::Fsize);
    let limit = |bytes: Option<u64>| {
        let limit = Rlimit {
            current: bytes,
            maximum: free.maximum,
        };
        setrlimit(Resource::Fsize, limit).unwrap();
    };
    // Below what is written already, and on no page's boundary.
    limit(Some(wal - 1000));
    let refused = store.commit(grant_of(2)).unwrap_err();
    assert!(matches!(refused, CommitError::Io { .. }), "{refused}");
    assert_failing(&store, &refused);
    let refused = log.write("tile/0/000", &vec![1; wal as usize]).unwrap_err();
    assert!(refused.to_string().contains("tile/0/000"), "{refused}");
    assert_eq!(
        log.read("tile/0/000").unwrap(),
        None,
        "no half tile is visible"
    );
    let stopped = fill_until_it_stops(&mut journal);
    limit(free.current);
    assert_recovers(&store, data, journal, &stopped);
    log.write("tile/0/000", b"whole").unwrap();
    say_ready();
}

#[test]
fn a_full_disk_fails_that_commit_and_recovers_when_there_is_space() {
    let (scratch, _) = scratch();
    // A file system that exists only for the child: nothing is left behind, however this ends.
    let mounted = "mount -t tmpfs -o size=3m,mode=700 none \"$FLEETWARD_STORE_DISK_FOLDER\"";
    let script = format!("{mounted} || {{ echo no mount; exit 0; }};");
    let unshared = format!("unshare -rm sh -c '{script} exec \"$0\" \"$@\"' \"$0\" \"$@\"; exit; ");
    let output = child("disk::on_a_full_disk", scratch.path(), &unshared);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if text.contains("no mount") || errors.contains("unshare") {
        println!("skipped: this machine lets no test mount a small file system ({errors})");
        return;
    }
    assert_ran(&output);
}

#[test]
fn on_a_full_disk() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let data = &folder.join("data");
    let store = open(data);
    enroll(&store, "SN1", "cam-1");
    let options = JournalOptions::new(Durability::Power);
    let (mut journal, _) = Journal::open(&data.join("journal"), options, &mut |_| {}).unwrap();
    journal.append(0, b"before").unwrap();
    journal.commit().unwrap();

    let ballast_path = folder.join("ballast");
    let mut ballast = std::fs::File::create(&ballast_path).unwrap();
    while ballast.write_all(&[0; 512]).is_ok() {}
    let stopped = fill_until_it_stops(&mut journal);
    assert!(stopped.to_string().contains("No space"), "{stopped}");
    let mut refused = store.commit(grant_of(2));
    while refused.is_ok() {
        refused = store.commit(put_meta("large", &[7; 60_000]));
    }
    let refused = refused.unwrap_err();
    assert!(matches!(refused, CommitError::DiskFull { .. }), "{refused}");
    assert_failing(&store, &refused);
    assert_eq!(store.probe().is_ok(), store.failing().is_none());
    assert!(journal.snapshot(&mut |_| {}).is_err());
    drop(ballast);
    std::fs::remove_file(ballast_path).unwrap();
    assert_recovers(&store, data, journal, &stopped);
    say_ready();
}

/// A change that writes several pages.
fn grant_of(serial: u8) -> store::Change {
    put_meta("large", &[serial; 60_000]).entry(format!("entry {serial}").into_bytes())
}

fn assert_failing(store: &Store, refused: &CommitError) {
    assert!(refused.is_storage());
    let reason = store.failing().unwrap();
    assert_eq!(reason, refused.to_string());
    assert!(reason.contains("control.db"), "it names the file: {reason}");
}

fn fill_until_it_stops(journal: &mut Journal) -> JournalError {
    loop {
        let turn = journal
            .append(0, &[7; 4000])
            .and_then(|()| journal.commit());
        if let Err(error) = turn {
            return error;
        }
    }
}

fn assert_recovers(store: &Store, data: &Path, mut journal: Journal, stopped: &JournalError) {
    // The database tries again, and says when it works.
    let leaves = store.leaf_count().unwrap();
    store.probe().unwrap();
    assert_eq!(store.failing(), None);
    let receipt = store.commit(grant_of(3)).unwrap();
    assert_eq!(
        receipt.first_leaf_index, leaves,
        "the failed change used up no index"
    );
    // The journal does not: what the disk holds was unknown for a while.
    assert_eq!(journal.append(0, b"more").unwrap_err(), *stopped);
    assert_eq!(journal.commit().unwrap_err(), *stopped);
    drop(journal);
    let mut first = None;
    let options = JournalOptions::new(Durability::Power);
    let (mut journal, _) = Journal::open(&data.join("journal"), options, &mut |record| {
        first.get_or_insert_with(|| record.payload.to_vec());
    })
    .unwrap();
    assert_eq!(first.unwrap(), b"before");
    journal.append(0, b"after").unwrap();
    journal.commit().unwrap();
}

fn say_ready() {
    println!("\n{READY}");
}

#[test]
fn somebody_who_locks_the_database_by_hand_is_named_and_outlived() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let shell = rusqlite::Connection::open(data.join("control.db")).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.commit(put_meta("a", b"1")).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("another program has locked it"),
        "{refused}"
    );
    assert_failing(&store, &refused);
    shell.execute_batch("ROLLBACK").unwrap();
    store.commit(put_meta("a", b"2")).unwrap();
    assert_eq!(store.failing(), None);
}

#[test]
fn the_write_ahead_log_stays_bounded_and_recovers_from_a_long_reader() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    enroll(&store, "SN1", "cam-1");
    let wal = || {
        std::fs::metadata(data.join("control.db-wal"))
            .unwrap()
            .len()
            >> 20
    };
    let write = |mebibytes: u64| {
        for number in 0..mebibytes * 16 {
            let value = vec![number as u8; 64 << 10];
            store.commit(put_meta("large", &value)).unwrap();
        }
    };
    write(40);
    assert!(wal() <= 20, "steady writing left {} MiB", wal());
    // As a backup does: a read that goes on while 70 MiB are written.
    store.for_each_device(|_| write(70)).unwrap();
    assert!(wal() >= 64, "the reader held it back: {} MiB", wal());
    write(1);
    assert!(wal() <= 64, "it began anew: {} MiB", wal());
    let before = wal();
    write(16);
    assert!(wal() <= before, "and does not grow again: {} MiB", wal());
}
