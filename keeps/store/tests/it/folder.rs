//! The data folder: one process, one tenant, nobody else's eyes.

use crate::fixture::*;
use model::TenantId;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use store::{
    Durability, Journal, JournalError, JournalOptions, OpenError, Options, PublishError, Published,
    Store,
};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn refusal(data: &Path) -> OpenError {
    Store::open(data, Options::new(tenant())).unwrap_err()
}

#[test]
fn everything_in_the_folder_is_ours_alone() {
    let (_scratch, data) = scratch();
    let data = data.join("deep/er");
    let store = open(&data);
    enroll(&store, "SN1", "cam-1");
    let published = Published::open(&data.join("published")).unwrap();
    published.write("tile/0/000.p/1", b"x").unwrap();
    published.write_checkpoint(b"note").unwrap();
    let options = JournalOptions::new(Durability::Power);
    let _journals = Journal::open_shards(&data.join("journal"), 2, options, &mut |_| {}).unwrap();
    let mut folders = vec![data.clone(), data.parent().unwrap().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for item in std::fs::read_dir(&folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                files += 1;
            }
        }
    }
    assert!(
        files >= 8,
        "database, wal, shm, locks, tile, checkpoint, segments: {files}"
    );
}

#[test]
fn a_second_process_is_refused() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    let second = refusal(&data);
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    assert!(
        second.to_string().contains(data.to_str().unwrap()),
        "{second}"
    );
    drop(store);
    open(&data);

    let options = JournalOptions::new(Durability::Process);
    let journal = Journal::open(&data.join("journal"), options, &mut |_| {}).unwrap();
    let second = Journal::open(&data.join("journal"), options, &mut |_| {}).unwrap_err();
    assert!(
        second.to_string().contains("in use by another process"),
        "{second}"
    );
    drop(journal);
}

#[test]
fn modes_that_let_others_in_are_refused_with_the_line_to_run() {
    for (name, open_to, line) in [
        ("", 0o750, "chmod 700"),
        ("", 0o701, "chmod 700"),
        ("control.db", 0o640, "chmod 600"),
        ("control.db", 0o604, "chmod 600"),
        ("lock", 0o660, "chmod 600"),
    ] {
        let (_scratch, data) = scratch();
        open(&data);
        let path = if name.is_empty() {
            data.clone()
        } else {
            data.join(name)
        };
        std::fs::set_permissions(&path, Permissions::from_mode(open_to)).unwrap();
        let text = refusal(&data).to_string();
        assert!(
            text.contains(&format!("{line} '{}'", path.display())),
            "{text}"
        );
    }
    let (_scratch, data) = scratch();
    open(&data);
    std::fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    let refused = Published::open(&data).unwrap_err();
    assert!(
        matches!(refused, PublishError::Mode { mode: 0o755, .. }),
        "{refused}"
    );
    let options = JournalOptions::new(Durability::Process);
    let refused = Journal::open(&data, options, &mut |_| {}).unwrap_err();
    assert!(matches!(&refused, JournalError::Open(text) if text.contains("chmod 700")));
}

#[test]
fn another_tenants_folder_is_refused() {
    let (_scratch, data) = scratch();
    open(&data);
    let other = Options::new(TenantId::new("rival").unwrap());
    let text = Store::open(&data, other).unwrap_err().to_string();
    assert!(text.contains("acme") && text.contains("rival"), "{text}");
    open(&data);
}

#[test]
fn what_is_not_our_database_is_left_alone() {
    let (_scratch, data) = scratch();
    open(&data);
    let path = data.join("control.db");
    let raw = |sql: &str| {
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch(sql)
            .unwrap();
    };
    raw("PRAGMA user_version = 4");
    assert!(matches!(
        refusal(&data),
        OpenError::Newer {
            found: 4,
            known: 3,
            ..
        }
    ));
    raw("PRAGMA application_id = 7");
    assert!(matches!(refusal(&data), OpenError::Foreign { .. }));
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert!(matches!(refusal(&data), OpenError::Damaged { .. }));
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 8192]);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(refusal(&data), OpenError::Kind { .. }));
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::write(&data, b"").unwrap();
    assert!(matches!(refusal(&data), OpenError::Kind { .. }));
}
