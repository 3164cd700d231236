//! The published log: written once, replaced whole, and never outside its folder.

use proptest::prelude::*;
use std::path::Path;
use store::{PublishError, Published};

fn published(dir: &Path) -> Published {
    Published::open(&dir.join("published")).unwrap()
}

#[test]
fn a_tile_is_written_once() {
    let scratch = tempfile::tempdir().unwrap();
    let log = published(scratch.path());
    let path = "tile/0/x001/234.p/17";
    assert_eq!(log.read(path).unwrap(), None);
    log.write(path, b"tile").unwrap();
    log.write(path, b"tile").unwrap();
    for tampered in [b"tilE".as_slice(), b"til", b"tile ", b""] {
        let refused = log.write(path, tampered).unwrap_err();
        assert!(matches!(&refused, PublishError::Differs { path } if path.ends_with("234.p/17")));
        assert!(refused.to_string().contains("x001/234.p/17"), "{refused}");
    }
    assert_eq!(log.read(path).unwrap().unwrap(), b"tile");
    // The full tile stands beside its partial ones.
    log.write("tile/0/x001/234", b"full").unwrap();
    assert_eq!(
        log.read("tile/0/x001").unwrap(),
        None,
        "a folder is no file"
    );
    assert_eq!(log.read("tile/0/x001/234/17").unwrap(), None);
}

#[test]
fn a_checkpoint_is_replaced() {
    let scratch = tempfile::tempdir().unwrap();
    let log = published(scratch.path());
    assert_eq!(log.checkpoint().unwrap(), None);
    log.write_checkpoint(b"one").unwrap();
    log.write_checkpoint(b"two").unwrap();
    assert_eq!(log.checkpoint().unwrap().unwrap(), b"two");
    assert!(
        log.write("checkpoint", b"three").is_err(),
        "as a tile it would never change again"
    );
}

#[test]
fn what_a_crash_left_is_written_over() {
    let scratch = tempfile::tempdir().unwrap();
    let log = published(scratch.path());
    log.write("tile/0/000", b"whole").unwrap();
    let folder = scratch.path().join("published/tile/0");
    // Killed after the temporary file was begun, before it was renamed.
    std::fs::write(folder.join(".001.tmp"), b"hal").unwrap();
    log.write("tile/0/001", b"half").unwrap();
    assert_eq!(log.read("tile/0/001").unwrap().unwrap(), b"half");
    assert!(!folder.join(".001.tmp").exists());
    assert!(log.read("tile/0/.001.tmp").is_err());
}

#[test]
fn a_path_that_climbs_out_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let log = published(scratch.path());
    std::fs::write(scratch.path().join("secret"), b"key").unwrap();
    for path in [
        "../secret",
        "tile/../../secret",
        "/etc/passwd",
        "",
        "/",
        "tile//0",
        "tile/",
        ".",
        "..",
        "tile/./0",
        "tile/.hidden",
        "tile/0\0",
        "tile/0 1",
        "tile\\0",
        "tile/%2e%2e/x",
        "tile/ä",
        &"x".repeat(65),
        &["x"; 13].join("/"),
    ] {
        assert!(
            matches!(log.read(path), Err(PublishError::Path { .. })),
            "read {path:?}"
        );
        assert!(
            matches!(log.write(path, b"x"), Err(PublishError::Path { .. })),
            "write {path:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_path_leaves_the_folder(path in "[./a-z\\\\%0]{0,12}") {
        let scratch = tempfile::tempdir().unwrap();
        let log = published(scratch.path());
        let _ = log.write(&path, b"x");
        let outside = std::fs::read_dir(scratch.path()).unwrap().count();
        prop_assert_eq!(outside, 1, "{:?} left the folder", path);
    }
}

#[test]
fn a_file_larger_than_any_of_the_log_is_not_read_into_memory() {
    let scratch = tempfile::tempdir().unwrap();
    let log = published(scratch.path());
    log.write("tile/entries/000", b"x").unwrap();
    let file = std::fs::File::options()
        .write(true)
        .open(scratch.path().join("published/tile/entries/000"))
        .unwrap();
    file.set_len(1 << 40).unwrap();
    let refused = log.read("tile/entries/000");
    assert!(matches!(refused, Err(PublishError::TooLarge { .. })));
}
