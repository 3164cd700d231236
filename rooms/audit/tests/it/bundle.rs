//! Evidence bundles: what they prove, and what forgers try.

use audit::{Place, Verified, Warning, verify};
use serde_json::{Value, json};

use crate::support::{Files, Key, ORIGIN, advance, entry, grown, leaves};

fn check(bundle: &str) -> Result<Verified, audit::Failure> {
    verify(bundle.as_bytes(), &[Key::log().vkey], None)
}

fn edited(bundle: &str, edit: impl FnOnce(&mut Value)) -> String {
    let mut value: Value = serde_json::from_str(bundle).unwrap();
    edit(&mut value);
    value.to_string()
}

#[test]
fn a_bundle_proves_its_entries_and_says_what_it_does_not_prove() {
    let files = grown(&[700]);
    let verified = check(&files.bundle([3, 300, 699], None)).unwrap();
    let read: Vec<_> = verified
        .entries
        .iter()
        .map(|e| (e.index, e.entry.clone()))
        .collect();
    assert_eq!(read, [3, 300, 699].map(|i| (i, entry(i))));
    assert_eq!(verified.range, None);
    assert_eq!(verified.checkpoint, files.checkpoint());
    assert_eq!(
        verified.warnings,
        [Warning::NoWitness, Warning::NotTheWholeLog]
    );

    let whole = check(&files.bundle(0..700, None)).unwrap();
    assert_eq!(whole.range, Some(0..700));
    assert_eq!(whole.warnings, [Warning::NoWitness]);
    assert!(
        whole.warnings[0]
            .to_string()
            .contains("does not exclude a second history")
    );

    let nothing = check(&files.bundle([], None)).unwrap();
    assert!(nothing.entries.is_empty() && nothing.range.is_none());
}

#[test]
fn a_witness_takes_the_warning_away() {
    let mut files = grown(&[5]);
    let witness = Key::witness();
    let cosigned = witness.cosign(&files.note(), 1_793_577_600);
    files
        .0
        .insert("checkpoint".to_owned(), cosigned.into_bytes());
    let bundle = files.bundle(0..5, None);
    let keys = [Key::log().vkey, witness.vkey];
    assert!(
        verify(bundle.as_bytes(), &keys, None)
            .unwrap()
            .warnings
            .is_empty()
    );
    // Only a witness that the verifier knows counts.
    assert_eq!(check(&bundle).unwrap().warnings, [Warning::NoWitness]);
}

#[test]
fn a_bundle_is_held_against_the_checkpoint_kept_from_before() {
    let keys = [Key::log().vkey];
    let (old, new) = (grown(&[300]), grown(&[300, 400]));
    let before = old.checkpoint();
    let since = new.bundle([5], Some(300));
    assert!(verify(since.as_bytes(), &keys, Some(&before)).is_ok());
    assert!(verify(old.bundle([5], None).as_bytes(), &keys, Some(&before)).is_ok());
    let place = |bundle: &str, seen: &audit::Checkpoint| {
        verify(bundle.as_bytes(), &keys, Some(seen))
            .unwrap_err()
            .place
    };
    assert_eq!(
        place(&new.bundle([5], None), &before),
        Place::ConsistencyProof
    );
    assert_eq!(
        place(&new.bundle([5], Some(200)), &before),
        Place::ConsistencyProof
    );
    assert_eq!(
        place(&old.bundle([5], None), &new.checkpoint()),
        Place::Checkpoint
    );

    // A history forked with the same key verifies alone, but not for whoever saw the other one.
    let mut rewritten = leaves(700);
    rewritten[10] = entry(9999).to_leaf().unwrap();
    let mut fork = Files::default();
    advance(&mut audit::Sequencer::new(ORIGIN), &mut fork, &rewritten);
    let forked = fork.bundle([10], Some(300));
    assert!(check(&forked).is_ok());
    assert_eq!(place(&forked, &before), Place::ConsistencyProof);
    assert_eq!(
        place(&fork.bundle([10], None), &new.checkpoint()),
        Place::Checkpoint
    );
    // The fork's checkpoint on proofs of the honest log.
    let mixed = edited(&since, |b| b["checkpoint"] = json!(fork.note()));
    assert_eq!(check(&mixed).unwrap_err().place, Place::Entry(5));
}

#[test]
fn a_damaged_log_gives_no_bundle() {
    let good = grown(&[600]);
    for path in ["tile/0/001", "tile/entries/001", "tile/1/000.p/2"] {
        let mut files = good.clone();
        for at in [2, 34] {
            files.flip(path, at);
        }
        let mut load = files.load();
        let mut tree = audit::PublishedTree::new(600, &mut load);
        let built = audit::build(
            &files.note(),
            &[Key::log().vkey],
            &mut tree,
            &[257].into(),
            None,
        );
        let entry_is_intact = path == "tile/entries/001";
        assert_eq!(built.is_ok(), entry_is_intact, "{path}");
    }
    let mut load = good.load();
    let mut tree = audit::PublishedTree::new(599, &mut load);
    assert!(
        audit::build(
            &good.note(),
            &[Key::log().vkey],
            &mut tree,
            &[1].into(),
            None
        )
        .is_err()
    );
    let mut tree = audit::PublishedTree::new(600, &mut load);
    assert!(
        audit::build(
            &good.note(),
            &[Key::log().vkey],
            &mut tree,
            &[600].into(),
            None
        )
        .is_err()
    );
}

#[test]
fn hostile_bundles_are_refused_where_they_break() {
    let bundle = grown(&[20]).bundle(4..9, Some(3));
    assert!(check(&bundle).is_ok());
    let file = [
        String::new(),
        "null".to_owned(),
        "[".repeat(1_000_000),
        "{\"a\":".repeat(1_000_000),
        format!("{{\"entries\":{}", "[".repeat(1_000_000)),
        format!("{{\"entries\":[{}", "{},".repeat(1_000_000)),
        format!("{{\"entries\":[{{\"proof\":[{}", "\"\",".repeat(1_000_000)),
        " ".repeat(audit::BUNDLE_BYTES_MAX + 1),
        bundle[..bundle.len() / 2].to_owned(),
        bundle[..bundle.len() - 2].to_owned(),
        format!("{bundle}x"),
        bundle.replacen("bundle@1", "bundle@2", 1),
        bundle.replacen("\"index\": 4", "\"index\": 04", 1),
        bundle.replacen("\"index\": 4", "\"index\": 4.0", 1),
        bundle.replacen("\"index\": 4", "\"index\": 4e0", 1),
        bundle.replacen("\"index\": 4", "\"index\": -4", 1),
        bundle.replacen("\"index\": 4", "\"index\": \"4\"", 1),
        bundle.replacen("\"index\": 4", "\"index\": 4, \"index\": 4", 1),
        bundle.replacen("\"index\": 4", "\"index\": 99999999999999999999999", 1),
        bundle.replacen("\"index\": 4", "\"index\": 4, \"note\": 4", 1),
        edited(&bundle, |b| b["range"] = Value::Null),
        edited(&bundle, |b| b["range"] = json!({"first": 4, "end": 4})),
        edited(&bundle, |b| b["consistency"] = Value::Null),
        edited(&bundle, |b| b["entries"][0]["proof"][0] = json!("AAAA")),
        edited(&bundle, |b| b["more"] = json!(1)),
        edited(&bundle, |b| {
            drop(b.as_object_mut().unwrap().remove("entries"))
        }),
    ];
    for hostile in &file {
        let failure = check(hostile).unwrap_err();
        assert_eq!(failure.place, Place::File, "{hostile:.100}");
        assert!(failure.to_string().len() < 300);
    }
    let named: [(String, Place); 8] = [
        (
            edited(&bundle, |b| {
                drop(b["entries"].as_array_mut().unwrap().remove(2))
            }),
            Place::Entry(6),
        ),
        (
            edited(&bundle, |b| {
                drop(b["entries"].as_array_mut().unwrap().remove(0))
            }),
            Place::Entry(4),
        ),
        (
            edited(&bundle, |b| {
                drop(b["entries"].as_array_mut().unwrap().pop())
            }),
            Place::Entry(8),
        ),
        (
            edited(&bundle, |b| b["range"] = json!({"first": 4, "end": 8})),
            Place::Entry(8),
        ),
        (
            edited(&bundle, |b| {
                b["range"] = json!({"first": 4, "end": u64::MAX})
            }),
            Place::Entry(9),
        ),
        (
            edited(&bundle, |b| b["entries"].as_array_mut().unwrap().swap(1, 2)),
            Place::Entry(5),
        ),
        (
            edited(&bundle, |b| b["origin"] = json!("audit.example.com/other")),
            Place::Checkpoint,
        ),
        (
            edited(&bundle, |b| b["entries"][1]["proof"] = json!([])),
            Place::Entry(5),
        ),
    ];
    for (hostile, place) in &named {
        assert_eq!(check(hostile).unwrap_err().place, *place);
    }
}

#[test]
fn an_entry_of_another_format_is_not_passed_off_as_understood() {
    let mut files = Files::default();
    let leaf = br#"{"action":"a.b","v":2}"#.to_vec();
    advance(&mut audit::Sequencer::new(ORIGIN), &mut files, &[leaf]);
    assert_eq!(
        check(&files.bundle([0], None)).unwrap_err().place,
        Place::Entry(0)
    );
}
