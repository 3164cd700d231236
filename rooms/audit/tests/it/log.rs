//! Growing, crashing, restoring, damaging.

use audit::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use audit::{
    BATCH_LEAVES_MAX, Checkpoint, Failure, Place, PublishedTree, Sequencer, SequencerError,
    Standing, check_tree, compare,
};
use proptest::prelude::*;

use crate::support::{Files, Key, ORIGIN, advance, grown, leaves};

fn check(files: &Files) -> Result<u64, Failure> {
    let mut next = 0;
    let checked = check_tree(&files.checkpoint(), &mut files.load(), &mut |index, _| {
        assert_eq!(index, next);
        next += 1;
    })?;
    assert_eq!(checked.entries, next);
    Ok(checked.entries)
}

/// The place at which both the whole walk finds damage and, if it concerns the right edge, the
/// restart does.
fn damage(files: &Files) -> String {
    check(files).unwrap_err().place.to_string()
}

#[test]
fn tiles_are_those_of_the_specification_at_each_level_boundary() {
    let all: Vec<_> = (0..65_537u64).map(|i| i.to_be_bytes().to_vec()).collect();
    for size in [
        0u64, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537,
    ] {
        let upto = &all[..usize::try_from(size).unwrap()];
        let mut files = Files::default();
        let mut sequencer = Sequencer::new(ORIGIN);
        for batch in upto.chunks(BATCH_LEAVES_MAX) {
            advance(&mut sequencer, &mut files, batch);
        }
        if size == 0 {
            advance(&mut sequencer, &mut files, &[]);
        }
        assert_eq!(check(&files).unwrap(), size);
        let mut wanted = vec![];
        if size >= 256 {
            wanted.push(("tile/0/000".to_owned(), 8192));
            wanted.push(("tile/entries/000".to_owned(), 2560));
        }
        if size % 256 != 0 {
            let (n, w) = (size / 256, usize::try_from(size % 256).unwrap());
            wanted.push((format!("tile/0/{n:03}.p/{w}"), 32 * w));
            wanted.push((format!("tile/entries/{n:03}.p/{w}"), 10 * w));
        }
        if size >= 65_536 {
            wanted.push(("tile/1/000".to_owned(), 8192));
            wanted.push(("tile/2/000.p/1".to_owned(), 32));
        } else if size >= 256 {
            let w = usize::try_from(size / 256).unwrap();
            wanted.push((format!("tile/1/000.p/{w}"), 32 * w));
        }
        for (path, bytes) in &wanted {
            assert_eq!(files.0[path].len(), *bytes, "{path} at {size}");
        }
        assert!(!files.0.contains_key("tile/1/001"));
        assert!(!files.0.keys().any(|path| path.ends_with(".p/0")));

        let mut load = files.load();
        let mut tree = PublishedTree::new(size, &mut load);
        let root = files.checkpoint().root;
        for index in [0, 1, 255, 256, 65_535, size.saturating_sub(1)] {
            if index < size {
                let proof = tree.inclusion_proof(index).unwrap();
                let leaf = tree.leaf(index).unwrap();
                assert_eq!(leaf, all[usize::try_from(index).unwrap()]);
                verify_inclusion(index, size, &leaf_hash(&leaf), &proof, &root).unwrap();
            } else {
                assert!(tree.inclusion_proof(index).is_err());
                assert!(tree.leaf(index).is_err());
                assert!(tree.leaf_hash(index).is_err());
            }
        }
        for first in [1, 255, 256, 257, 512, 65_535, 65_536] {
            if first <= size {
                let old = tree.root_at(first).unwrap();
                let proof = tree.consistency_proof(first).unwrap();
                verify_consistency(first, &old, size, &root, &proof).unwrap();
            }
        }
        let restored = Sequencer::restore(files.checkpoint(), &mut files.load()).unwrap();
        assert_eq!(restored.published(), sequencer.published());
    }
}

#[test]
fn files_are_ordered_so_that_none_speaks_of_one_not_yet_written() {
    let integration = Sequencer::new(ORIGIN).integrate(&leaves(700)).unwrap();
    let paths: Vec<_> = integration
        .writes()
        .iter()
        .map(|w| w.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "tile/entries/000",
            "tile/entries/001",
            "tile/entries/002.p/188",
            "tile/0/000",
            "tile/0/001",
            "tile/0/002.p/188",
            "tile/1/000.p/2",
        ]
    );
}

#[test]
fn a_batch_without_leaves_writes_nothing_and_signs_the_same_tree() {
    let files = grown(&[300]);
    let sequencer = Sequencer::restore(files.checkpoint(), &mut files.load()).unwrap();
    let integration = sequencer.integrate(&[]).unwrap();
    assert!(integration.writes().is_empty());
    assert_eq!(integration.checkpoint(), sequencer.published());
}

#[test]
fn two_integrations_at_once_cannot_both_be_published() {
    let key = Key::log();
    let mut sequencer = Sequencer::new(ORIGIN);
    let all = leaves(2);
    let mut signed = Vec::new();
    for batch in [&all[..1], &all[..2]] {
        let integration = sequencer.integrate(batch).unwrap();
        let signature = key.sign(integration.checkpoint_text().as_bytes());
        signed.push(integration.signed(&key.vkey, &signature).unwrap());
    }
    let second = signed.pop().unwrap();
    sequencer.publish(signed.pop().unwrap()).unwrap();
    assert_eq!(
        sequencer.publish(second).unwrap_err(),
        SequencerError::Overtaken {
            published: 1,
            follows: 0
        }
    );
    assert_eq!(sequencer.published().size, 1);
}

#[test]
fn a_signature_by_another_key_or_over_another_text_makes_no_checkpoint() {
    let (key, stranger) = (Key::log(), Key::new(ORIGIN, audit::KeyKind::Ed25519, 9));
    let integration = Sequencer::new(ORIGIN).integrate(&leaves(1)).unwrap();
    let text = integration.checkpoint_text();
    for signature in [
        stranger.sign(text.as_bytes()),
        key.sign(text.trim_end().as_bytes()),
        vec![0; 64],
        vec![],
    ] {
        assert!(integration.clone().signed(&key.vkey, &signature).is_err());
    }
    let other_log = Key::new("audit.example.com/other", audit::KeyKind::Ed25519, 7);
    let signature = other_log.sign(text.as_bytes());
    assert!(integration.signed(&other_log.vkey, &signature).is_err());
}

#[test]
fn what_no_bundle_can_hold_is_refused() {
    let sequencer = Sequencer::new(ORIGIN);
    assert!(sequencer.integrate(&[vec![0; 65_535]]).is_ok());
    assert!(matches!(
        sequencer.integrate(&[vec![], vec![0; 65_536]]),
        Err(SequencerError::LeafTooLarge(too_large)) if too_large.index == 1
    ));
    assert!(matches!(
        sequencer.integrate(&vec![vec![]; BATCH_LEAVES_MAX + 1]),
        Err(SequencerError::BatchTooLarge(_))
    ));
}

#[test]
fn a_flipped_byte_in_any_file_is_found_where_it_is() {
    let mut files = grown(&[200, 400, 100]);
    // Partial tiles that full ones replaced are no part of the tree any more.
    files.0.retain(|path, _| {
        !path.contains(".p/") || path.ends_with(".p/188") || path.ends_with("1/000.p/2")
    });
    let (good, sizes): (Files, Vec<_>) = (
        files.clone(),
        files.0.iter().map(|(p, b)| (p.clone(), b.len())).collect(),
    );
    for (path, size) in sizes.iter().filter(|(path, _)| path != "checkpoint") {
        for at in [0, 1, 2, 31, 32, 100, size / 2, size - 1] {
            let mut files = good.clone();
            if at >= *size {
                continue;
            }
            files.flip(path, at);
            let found = damage(&files);
            if path.starts_with("tile/entries") {
                assert!(
                    found.starts_with("entry ") || found == *path,
                    "{path} {at}: {found}"
                );
            } else {
                assert_eq!(found, format!("{path} (hash {})", at / 32));
            }
        }
        for cut in [0, 1, size - 1] {
            let mut files = good.clone();
            files.0.get_mut(path).unwrap().truncate(cut);
            assert_eq!(damage(&files), *path, "cut to {cut}");
        }
        let mut files = good.clone();
        files.0.get_mut(path).unwrap().push(0);
        assert_eq!(damage(&files), *path, "grown by a byte");
        let mut files = good.clone();
        files.0.remove(path);
        assert_eq!(damage(&files), *path, "removed");
    }
}

#[test]
fn a_dropped_entry_is_found_where_it_was() {
    let mut files = grown(&[300]);
    let all = leaves(300);
    let mut bundle = Vec::new();
    for (index, leaf) in all[..256].iter().enumerate() {
        if index != 77 {
            bundle.extend(u16::try_from(leaf.len()).unwrap().to_be_bytes());
            bundle.extend(leaf);
        }
    }
    files.0.insert("tile/entries/000".to_owned(), bundle);
    let failure = check(&files).unwrap_err();
    assert_eq!(
        failure.place,
        Place::EntryBundle("tile/entries/000".to_owned())
    );
    assert!(failure.to_string().contains("entry 77"), "{failure}");
}

#[test]
fn an_entry_rewritten_together_with_its_tile_is_found() {
    let good = grown(&[600]);
    let mut all = leaves(600);
    all[300] = crate::support::entry(9999).to_leaf().unwrap();
    let mut files = Files::default();
    advance(&mut Sequencer::new(ORIGIN), &mut files, &all);
    for path in ["tile/1/000.p/2", "checkpoint"] {
        files.0.insert(path.to_owned(), good.0[path].clone());
    }
    assert_eq!(
        check(&files).unwrap_err().place,
        Place::Entries {
            first: 256,
            end: 512
        }
    );
    // With all tiles rewritten as well only the signed root is left to disagree.
    let mut files = Files::default();
    advance(&mut Sequencer::new(ORIGIN), &mut files, &all);
    files
        .0
        .insert("checkpoint".to_owned(), good.0["checkpoint"].clone());
    assert_eq!(check(&files).unwrap_err().place, Place::Checkpoint);
}

#[test]
fn a_restart_refuses_a_damaged_right_edge_and_says_where() {
    let good = grown(&[700]);
    for (path, found) in [
        ("tile/0/002.p/188", "tile/0/002.p/188 (hash 0)"),
        ("tile/1/000.p/2", "tile/1/000.p/2 (hash 0)"),
        ("tile/entries/002.p/188", "tile/entries/002.p/188"),
    ] {
        let mut files = good.clone();
        files.flip(path, 0);
        let failure = Sequencer::restore(good.checkpoint(), &mut files.load()).unwrap_err();
        assert_eq!(failure.place.to_string(), found);
    }
    let mut files = good.clone();
    files.flip("tile/entries/002.p/188", 2);
    let failure = Sequencer::restore(good.checkpoint(), &mut files.load()).unwrap_err();
    assert_eq!(failure.place, Place::Entry(512));
    let mut wrong_root = good.checkpoint();
    wrong_root.root.0[0] ^= 1;
    let failure = Sequencer::restore(wrong_root, &mut good.load()).unwrap_err();
    assert!(failure.place == Place::Checkpoint || matches!(failure.place, Place::Tile { .. }));
    assert!(Sequencer::restore(good.checkpoint(), &mut |_| None).is_err());
}

#[test]
fn a_restored_backup_is_told_from_a_rewritten_database() {
    let files = grown(&[600]);
    let mut database: Vec<_> = leaves(700).iter().map(|leaf| leaf_hash(leaf)).collect();
    let standing = |hashes: &[audit::Digest], from| {
        let mut load = files.load();
        let mut tree = PublishedTree::new(600, &mut load);
        let committed = u64::try_from(hashes.len()).unwrap();
        compare(&mut tree, committed, from, &mut |index| {
            hashes.get(usize::try_from(index).unwrap()).copied()
        })
        .unwrap()
    };
    assert_eq!(standing(&database[..600], 0), Standing::Equal);
    assert_eq!(
        standing(&database, 0),
        Standing::Behind {
            unpublished: 600..700
        }
    );
    assert_eq!(
        standing(&database[..100], 0),
        Standing::Ahead {
            unknown_to_database: 100..600
        }
    );
    assert_eq!(
        standing(&[], 0),
        Standing::Ahead {
            unknown_to_database: 0..600
        }
    );
    database[299].0[0] ^= 1;
    for count in [300, 600, 700] {
        assert_eq!(
            standing(&database[..count], 0),
            Standing::Divergent { index: 299 }
        );
    }
    assert_eq!(standing(&database[..600], 300), Standing::Equal);
}

#[test]
fn partial_tiles_may_go_once_the_full_ones_are_there() {
    let mut files = grown(&[100, 500]);
    let old = grown(&[100]);
    files.0.retain(|path, _| !path.contains(".p/100"));
    // A reader that still holds the old checkpoint reads the full tile instead.
    let checked = check_tree(&old.checkpoint(), &mut files.load(), &mut |_, _| {});
    assert_eq!(checked.unwrap().entries, 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However the leaves are cut into batches and wherever the writer dies, the files agree.
    #[test]
    fn a_crash_between_any_two_files_leaves_a_log_that_goes_on(
        batches in prop::collection::vec(0u64..400, 1..6),
        dies_after in prop::collection::vec(prop::option::of(0usize..8), 6),
    ) {
        let key = Key::log();
        let all = leaves(batches.iter().sum());
        let mut files = Files::default();
        // What the database holds: the last stored checkpoint.
        let mut stored: Option<Checkpoint> = None;
        let mut sequencer = Sequencer::new(ORIGIN);
        let mut deaths = dies_after.into_iter();
        let mut batches = batches.into_iter();
        while sequencer.published().size < all.len() as u64 {
            let start = usize::try_from(sequencer.published().size).unwrap();
            let batch = usize::try_from(batches.next().unwrap_or(1000)).unwrap();
            let end = all.len().min(start + batch);
            let integration = sequencer.integrate(&all[start..end]).unwrap();
            if let Some(Some(count)) = deaths.next() {
                integration.writes().iter().take(count).for_each(|w| files.write(w));
                if count > integration.writes().len() {
                    // It died after storing the checkpoint, before publishing it.
                    stored = Some(integration.checkpoint().clone());
                }
                sequencer = match &stored {
                    None => Sequencer::new(ORIGIN),
                    Some(last) => Sequencer::restore(last.clone(), &mut files.load()).unwrap(),
                };
                continue;
            }
            integration.writes().iter().for_each(|w| files.write(w));
            let signature = key.sign(integration.checkpoint_text().as_bytes());
            let signed = integration.signed(&key.vkey, &signature).unwrap();
            stored = Some(signed.checkpoint().clone());
            files.write(&sequencer.publish(signed).unwrap());
        }
        let mut whole = Files::default();
        advance(&mut Sequencer::new(ORIGIN), &mut whole, &all);
        prop_assert_eq!(sequencer.published(), &whole.checkpoint());
        let last = sequencer.published().clone();
        let checked = check_tree(&last, &mut files.load(), &mut |_, _| {});
        prop_assert_eq!(checked.unwrap().entries, all.len() as u64);
    }
}
