//! A data folder of an earlier version is opened, keeps what it holds, and takes what is new.

use crate::fixture::*;
use model::{Containment, Principal, Revocable};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use store::{Change, Contained, Direction, Options, Store, Write};

/// As the first version left it: a device, its certificate, a revocation, entries.
fn folder_of_format_1() -> (tempfile::TempDir, std::path::PathBuf) {
    let (scratch, data) = scratch();
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&data)
        .unwrap();
    let path = data.join("control.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(include_str!("format-1.sql"))
        .unwrap();
    connection
        .execute_batch(
            "INSERT INTO state (tenant, sequence) VALUES ('acme', 3);
             INSERT INTO manufacturer VALUES ('acme', 'maker', x'010203', 1000);
             INSERT INTO device VALUES ('acme', 'cam-1', 'camera', 'north;roof', 'maker', 'SN1',
                2000, 1);
             INSERT INTO certificate VALUES ('acme', zeroblob(32), x'01', 'ldevid', 'device/cam-1',
                1000, 90000, x'3001');
             INSERT INTO principal_revocation VALUES ('acme', 'device/cam-9', 5000, 1);
             INSERT INTO entry VALUES ('acme', 0, x'61'), ('acme', 1, x'62');",
        )
        .unwrap();
    drop(connection);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    (scratch, data)
}

#[test]
fn a_folder_of_the_first_format_opens_and_goes_on() {
    let (_scratch, data) = folder_of_format_1();
    let store = open(&data);
    let device = store.device(&device_id("cam-1")).unwrap().unwrap();
    assert_eq!(device.device, device_row());
    assert_eq!(store.leaf_count().unwrap(), 2);
    let barred = Revocable::Principal(Principal::Device(device_id("cam-9")));
    assert!(store.revocation(&barred).unwrap().is_some());
    let cut = Contained {
        device: device_id("cam-1"),
        containment: Containment::Quarantined,
        since: seconds(9),
        incident: None,
        by: "local/uid-0".to_owned(),
        group: None,
    };
    let change = Change::new(Direction::Withdraw)
        .write(Write::PutContainment(cut.clone()))
        .entry(b"contained".to_vec());
    let receipt = store.commit(change).unwrap();
    assert_eq!((receipt.sequence, receipt.first_leaf_index), (4, 2));
    drop(store);
    // A second start finds nothing left to do.
    let store = open(&data);
    assert_eq!(store.containment(&device_id("cam-1")).unwrap(), Some(cut));
}

#[test]
fn a_migrated_folder_has_the_tables_of_a_new_one() {
    let tables = |data: &std::path::Path| {
        let connection = rusqlite::Connection::open(data.join("control.db")).unwrap();
        let mut statement = connection
            .prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")
            .unwrap();
        let rows = statement
            .query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
            })
            .unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    let (_old, old) = folder_of_format_1();
    drop(open(&old));
    let (_new, new) = scratch();
    drop(open(&new));
    assert_eq!(tables(&old), tables(&new));
}

#[test]
fn a_folder_of_another_tenant_is_refused_before_anything_is_changed() {
    let (_scratch, data) = folder_of_format_1();
    let other = Options::new(model::TenantId::new("rival").unwrap());
    Store::open(&data, other).unwrap_err();
    let connection = rusqlite::Connection::open(data.join("control.db")).unwrap();
    let format: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(format, 1);
}

fn device_row() -> store::Device {
    device("SN1", "cam-1")
}
