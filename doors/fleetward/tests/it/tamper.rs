//! Somebody with a hand on the disk changes what the log says. Both verifiers, which share no
//! code, refuse it and say where; the plane does not start on it.

use crate::log::{self, check, flip_middle, note, verify_py};
use crate::plane::{Home, Settings};
use audit::{Place, Vkey};
use model::DeviceId;
use std::path::{Path, PathBuf};

/// Enough entries for a full tile and a partial one.
const ENTRIES: u64 = 260;

/// A home with a log of at least [`ENTRIES`] entries, its plane ended; its key; a bundle of all.
fn history() -> (Home, String, PathBuf) {
    let home = Home::new(&Settings {
        durability: "process",
        ..Settings::default()
    });
    let plane = home.start();
    std::thread::scope(|scope| {
        // Side by side they share commits, which makes it quick.
        for part in 0..8 {
            let plane = &plane;
            scope.spawn(move || {
                for number in 0..=ENTRIES / 8 {
                    plane.revoke(&DeviceId::new(&format!("gone-{part}-{number}")).unwrap());
                }
            });
        }
    });
    let size = plane.wait_published();
    assert!(size > ENTRIES);
    let vkey = plane.vkey();
    let bundle = plane.get("/api/v1/audit/bundle").expect(200);
    let bundle = home.write("bundle.json", &bundle.body);
    plane.stop_well();
    (home, vkey, bundle)
}

/// The current file of each kind, relative to the log's folder: a full tile, the partial one
/// after it, the tile above, a full bundle of entries, the partial one.
fn current(folder: &Path, size: u64) -> Vec<String> {
    let width = size % 256;
    let files = [
        "tile/0/000".to_owned(),
        format!("tile/0/001.p/{width}"),
        "tile/1/000.p/1".to_owned(),
        "tile/entries/000".to_owned(),
        format!("tile/entries/001.p/{width}"),
    ];
    for file in &files {
        assert!(
            folder.join(file).is_file(),
            "{file} is not in {:#?}",
            log::files(folder)
        );
    }
    files.into()
}

#[test]
fn any_changed_byte_of_the_log_is_found_by_both_verifiers_and_stops_the_start() {
    let (home, vkey, _) = history();
    let folder = home.log_dir();
    let size = check(&folder, &vkey).unwrap().entries;
    assert!(verify_py("log", &folder, &vkey).is_none_or(|(good, _)| good));
    for file in current(&folder, size) {
        let path = folder.join(&file);
        let good = std::fs::read(&path).unwrap();
        flip_middle(&path);

        let failure = check(&folder, &vkey).expect_err(&file);
        let entry = file.contains("entries");
        let placed = match failure.place {
            Place::Entry(_) | Place::Entries { .. } | Place::EntryBundle(_) => entry,
            _ => !entry,
        };
        assert!(placed, "{file}: {failure}");
        if let Some((good, text)) = verify_py("log", &folder, &vkey) {
            assert!(!good, "{file}: {text}");
            assert!(names_place(&text), "{file}: {text}");
        }
        assert_start_refused(&home, &file);
        std::fs::write(&path, good).unwrap();
    }
    home.start().stop_well();
}

#[test]
fn a_changed_checkpoint_is_found_by_both_verifiers_and_stops_the_start() {
    let (home, vkey, _) = history();
    let folder = home.log_dir();
    let path = folder.join("checkpoint");
    let good = note(&folder);
    let lines: Vec<&str> = good.lines().collect();
    let another_size = good.replacen(lines[1], "7", 1);
    let root = lines[2];
    let other = if root.starts_with('A') { "B" } else { "A" };
    let another_root = good.replacen(root, &format!("{other}{}", &root[1..]), 1);
    let unsigned = lines[..3].join("\n") + "\n\n";
    let another_log = good.replace(lines[0], "fleetward.internal/other/audit");
    for bad in [
        another_size,
        another_root,
        unsigned,
        another_log,
        String::new(),
    ] {
        std::fs::write(&path, &bad).unwrap();
        let failure = check(&folder, &vkey).expect_err(&bad);
        let placed = matches!(failure.place, Place::Checkpoint | Place::Signature(_));
        assert!(placed, "{bad}: {failure}");
        if let Some((good, text)) = verify_py("log", &folder, &vkey) {
            assert!(!good && text.contains("checkpoint"), "{bad}: {text}");
        }
        assert_start_refused(&home, &bad);
    }
    std::fs::write(&path, &good).unwrap();
    home.start().stop_well();
}

#[test]
fn a_missing_file_of_the_log_stops_the_start() {
    let (home, vkey, _) = history();
    let folder = home.log_dir();
    let size = check(&folder, &vkey).unwrap().entries;
    for file in current(&folder, size) {
        let path = folder.join(&file);
        std::fs::rename(&path, home.path("aside")).unwrap();
        check(&folder, &vkey).expect_err(&file);
        assert_start_refused(&home, &file);
        std::fs::rename(home.path("aside"), &path).unwrap();
    }
}

#[test]
fn a_changed_bundle_is_refused_by_both_verifiers_which_say_where() {
    let (_home, vkey, path) = history();
    let keys = [vkey.parse::<Vkey>().unwrap()];
    let good = std::fs::read_to_string(&path).unwrap();
    let verified = audit::verify(good.as_bytes(), &keys, None).unwrap();
    assert!(verified.entries.len() as u64 > ENTRIES);
    assert!(verify_py("bundle", &path, &vkey).is_none_or(|(good, _)| good));

    let changed = |pointer: &str, change: &dyn Fn(&str) -> String| {
        let mut bundle: serde_json::Value = serde_json::from_str(&good).unwrap();
        let text = bundle.pointer_mut(pointer).unwrap();
        *text = change(text.as_str().unwrap()).into();
        bundle.to_string()
    };
    let flip = |text: &str| {
        let other = if text.starts_with('A') { "B" } else { "A" };
        format!("{other}{}", &text[1..])
    };
    let other_reason = |text: &str| text.replacen("key-compromise", "unspecified", 1);
    let next_size = |text: &str| {
        let size = text.lines().nth(1).unwrap();
        text.replacen(size, &(size.parse::<u64>().unwrap() + 1).to_string(), 1)
    };
    for (pointer, bad, place) in [
        (
            "/entries/100/leaf",
            changed("/entries/100/leaf", &other_reason),
            "100",
        ),
        (
            "/entries/259/proof/0",
            changed("/entries/259/proof/0", &flip),
            "259",
        ),
        (
            "/checkpoint",
            changed("/checkpoint", &next_size),
            "checkpoint",
        ),
    ] {
        assert_ne!(bad, good);
        let failure = audit::verify(bad.as_bytes(), &keys, None).expect_err(pointer);
        assert!(failure.to_string().contains(place), "{pointer}: {failure}");
        std::fs::write(&path, &bad).unwrap();
        if let Some((good, text)) = verify_py("bundle", &path, &vkey) {
            assert!(!good && text.contains(place), "{pointer}: {text}");
        }
    }
}

/// Whether a verifier's words name a place in the log.
fn names_place(text: &str) -> bool {
    ["entry", "tile", "checkpoint"]
        .iter()
        .any(|place| text.contains(place))
}

#[track_caller]
fn assert_start_refused(home: &Home, what: &str) {
    let Err((status, lines)) = home.try_start() else {
        panic!("the plane started on a log with a changed {what}");
    };
    assert_eq!(status.code(), Some(1), "{what}: {lines:?}");
    assert_eq!(lines.len(), 1, "{what}: {lines:#?}");
    assert!(lines[0].contains("operator: "), "{what}: {lines:?}");
}
