//! The journal: what a commit confirmed comes back, a torn end is cut, damage is named.

use crate::fixture::Random;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use store::{Durability, Journal, JournalError, JournalOptions, RECORD_BYTES_MAX, Recovery};

type Records = Vec<(u8, Vec<u8>)>;

fn options(durability: Durability) -> JournalOptions {
    JournalOptions {
        segment_bytes_max: 4096,
        ..JournalOptions::new(durability)
    }
}

fn try_open(dir: &Path) -> Result<(Journal, Recovery, Records), JournalError> {
    let mut records = Vec::new();
    let (journal, recovery) = Journal::open(dir, options(Durability::Power), &mut |record| {
        records.push((record.partition, record.payload.to_vec()));
    })?;
    Ok((journal, recovery, records))
}

fn open(dir: &Path) -> (Journal, Recovery, Records) {
    try_open(dir).unwrap()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect();
    found.sort();
    found
}

fn only_segment(dir: &Path) -> PathBuf {
    let found = segments(dir);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

fn copy_folder(from: &Path, to: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

/// A snapshot of two records, two turns of one and of three, and a last turn of three. Where each
/// turn ends, and all records.
fn written(dir: &Path) -> (Vec<usize>, Records) {
    let (mut journal, ..) = open(dir);
    journal
        .snapshot(&mut |sink| {
            sink.record(1, b"state of one");
            sink.record(2, b"state of two");
        })
        .unwrap();
    let mut records: Records = vec![(1, b"state of one".into()), (2, b"state of two".into())];
    let mut ends = vec![journal.segment_bytes() as usize];
    for turn in [1, 3, 3] {
        for number in 0..turn {
            let payload = format!("turn {turn} record {number}").into_bytes();
            journal.append(number, &payload).unwrap();
            records.push((number, payload));
        }
        journal.commit().unwrap();
        ends.push(journal.segment_bytes() as usize);
    }
    (ends, records)
}

#[test]
fn what_was_committed_is_replayed_in_order_and_what_was_not_is_not() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    let (_, records) = written(&dir);
    let (mut journal, recovery, replayed) = open(&dir);
    assert_eq!(replayed, records);
    assert_eq!((recovery.records, recovery.torn_bytes), (9, 0));
    journal.append(7, b"never committed").unwrap();
    drop(journal);
    assert_eq!(open(&dir).2, records);
}

#[test]
fn a_write_torn_at_any_byte_loses_only_what_was_not_confirmed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    let (ends, records) = written(&dir);
    let whole = std::fs::read(only_segment(&dir)).unwrap();
    let (confirmed, end) = (ends[2], ends[3]);
    assert_eq!(end, whole.len());
    for cut in confirmed..end {
        // A file that was not yet extended, and one that was but whose bytes never came.
        for filler in [None, Some(0), Some(0xff)] {
            let mut torn = whole[..cut].to_vec();
            if let Some(filler) = filler {
                torn.resize(end, filler);
            }
            std::fs::write(only_segment(&dir), &torn).unwrap();
            let (mut journal, recovery, replayed) = open(&dir);
            assert!(
                (6..9).contains(&replayed.len()),
                "cut at {cut}: {replayed:?}"
            );
            assert_eq!(replayed, records[..replayed.len()], "cut at {cut}");
            // Zeros at the end are what was taken ahead.
            let last = torn.iter().rposition(|byte| *byte != 0).unwrap() as u64;
            let torn_bytes = (last + 1).saturating_sub(journal.segment_bytes());
            assert_eq!(recovery.torn_bytes, torn_bytes);
            // It goes on from there.
            journal.append(9, b"after").unwrap();
            journal.commit().unwrap();
            drop(journal);
            assert_eq!(open(&dir).2.last().unwrap().1, b"after");
        }
    }
}

/// As a power cut leaves it: with the zeros that were taken ahead, which a later turn fills.
#[test]
fn what_was_taken_ahead_of_the_last_record_is_no_torn_end() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    let (_, records) = written(&dir);
    let (mut journal, ..) = open(&dir);
    journal.append(7, b"one more").unwrap();
    journal.commit().unwrap();
    let end = journal.segment_bytes();
    let cut = std::fs::read(only_segment(&dir)).unwrap();
    assert!(cut.len() as u64 > end, "a growing file is synced dearly");
    drop(journal);
    let closed = std::fs::metadata(only_segment(&dir)).unwrap().len();
    assert_eq!(closed, end, "given back by who closes in order");

    std::fs::write(only_segment(&dir), &cut).unwrap();
    let (mut journal, recovery, replayed) = open(&dir);
    assert_eq!((recovery.torn_bytes, journal.segment_bytes()), (0, end));
    assert_eq!(replayed[..records.len()], records);
    assert_eq!(replayed.last().unwrap().1, b"one more");
    journal.append(7, b"and another").unwrap();
    journal.commit().unwrap();
    drop(journal);
    assert_eq!(open(&dir).2.last().unwrap().1, b"and another");
}

/// Pages reach a disk in any order: the first record of the last turn may be missing while the
/// others are there.
#[test]
fn a_hole_in_the_last_turn_is_a_torn_end() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    let (ends, records) = written(&dir);
    let whole = std::fs::read(only_segment(&dir)).unwrap();
    for at in ends[2]..ends[3] {
        let mut torn = whole.clone();
        torn[at] ^= 0x10;
        std::fs::write(only_segment(&dir), &torn).unwrap();
        let (_, recovery, replayed) = open(&dir);
        assert!((6..9).contains(&replayed.len()), "flip at {at}");
        assert_eq!(replayed, records[..replayed.len()]);
        assert!(recovery.torn_bytes > 0);
    }
}

#[test]
fn a_flipped_bit_in_what_the_disk_had_confirmed_is_an_error_that_names_the_place() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    let (ends, _) = written(&dir);
    let segment = only_segment(&dir);
    let whole = std::fs::read(&segment).unwrap();
    for at in 0..ends[2] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x01;
        std::fs::write(&segment, &damaged).unwrap();
        let error = try_open(&dir).unwrap_err();
        let JournalError::Damaged {
            segment: named,
            offset,
            ..
        } = &error
        else {
            panic!("flip at {at}: {error}");
        };
        assert_eq!(*named, segment);
        assert!(*offset as usize <= at, "flip at {at} was named as {offset}");
        assert!(error.to_string().contains(&format!("offset {offset}")));
        assert_eq!(std::fs::read(&segment).unwrap(), damaged, "nothing was cut");
    }
    // Cut off within its snapshot, which had its name only once it was durable.
    for length in 0..ends[0] {
        std::fs::write(&segment, &whole[..length]).unwrap();
        assert!(
            matches!(try_open(&dir), Err(JournalError::Damaged { .. })),
            "{length}"
        );
    }
}

#[test]
fn a_record_copied_from_elsewhere_is_no_record() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    let (ends, records) = written(&dir);
    let segment = only_segment(&dir);
    let mut bytes = std::fs::read(&segment).unwrap();
    let old = bytes[ends[1]..ends[2]].to_vec();
    bytes.extend(old);
    std::fs::write(&segment, &bytes).unwrap();
    let (_, recovery, replayed) = open(&dir);
    assert_eq!(replayed, records);
    assert_eq!(recovery.torn_bytes as usize, ends[2] - ends[1]);
    // Nor does a segment under another's name open.
    let renamed = dir.join(format!("{:020}.seg", 77));
    std::fs::rename(&segment, &renamed).unwrap();
    assert!(matches!(
        try_open(&dir),
        Err(JournalError::Damaged { offset: 0, .. })
    ));
}

#[test]
fn a_crash_at_any_step_of_a_snapshot_is_safe() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    let (_, records) = written(&dir);
    let before = scratch.path().join("before");
    copy_folder(&dir, &before);
    let (mut journal, ..) = open(&dir);
    journal
        .snapshot(&mut |sink| sink.record(5, b"all in one"))
        .unwrap();
    drop(journal);
    let new = only_segment(&dir);
    let new_bytes = std::fs::read(&new).unwrap();
    let unfinished = new.with_extension("tmp");
    let unfinished = unfinished.file_name().unwrap();
    let snapshot: Records = vec![(5, b"all in one".to_vec())];

    // Before the rename, with any part of the new segment written: the old one holds.
    for length in 0..=new_bytes.len() {
        let case = scratch.path().join(format!("unfinished-{length}"));
        copy_folder(&before, &case);
        std::fs::write(case.join(unfinished), &new_bytes[..length]).unwrap();
        let (mut journal, _, replayed) = open(&case);
        assert_eq!(replayed, records);
        journal
            .snapshot(&mut |sink| sink.record(5, b"all in one"))
            .unwrap();
        drop(journal);
        assert_eq!(open(&case).2, snapshot);
    }
    // After the rename, before the old one is gone: the new one holds, and the old one goes.
    let case = scratch.path().join("both");
    copy_folder(&before, &case);
    std::fs::copy(&new, case.join(new.file_name().unwrap())).unwrap();
    assert_eq!(segments(&case).len(), 2);
    assert_eq!(open(&case).2, snapshot);
    only_segment(&case);
    // A damaged new one is not quietly replaced by the old one, nor does the old one go.
    let case = scratch.path().join("damaged");
    copy_folder(&before, &case);
    let mut damaged = new_bytes;
    damaged[40] ^= 1;
    std::fs::copy(&new, case.join(new.file_name().unwrap())).unwrap();
    std::fs::write(case.join(new.file_name().unwrap()), damaged).unwrap();
    assert!(matches!(try_open(&case), Err(JournalError::Damaged { .. })));
    assert_eq!(segments(&case).len(), 2);
}

#[test]
fn a_snapshot_is_asked_for_when_it_is_worth_its_cost() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    let (mut journal, ..) = open(&dir);
    let mut rounds = 0;
    while !journal.wants_snapshot() {
        journal.append(0, &[7; 100]).unwrap();
        journal.commit().unwrap();
        rounds += 1;
    }
    assert_eq!(rounds, 4096 / 120 + 1);
    journal
        .snapshot(&mut |sink| sink.record(0, &[7; 20_000]))
        .unwrap();
    assert!(!journal.wants_snapshot());
    for _ in 0..4096 / 120 + 1 {
        journal.append(0, &[7; 100]).unwrap();
    }
    journal.commit().unwrap();
    assert!(
        !journal.wants_snapshot(),
        "a large state is not written for every 4 KiB"
    );
}

#[test]
fn a_record_over_the_limit_is_refused_and_the_journal_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    let (mut journal, ..) = open(&dir);
    let oversize = vec![0; RECORD_BYTES_MAX + 1];
    let refused = journal.append(0, &oversize).unwrap_err();
    assert!(matches!(refused, JournalError::TooLarge { .. }));
    journal.append(0, &oversize[1..]).unwrap();
    journal.append(1, b"").unwrap();
    journal.commit().unwrap();
    let failed = journal
        .snapshot(&mut |sink| sink.record(0, &oversize))
        .unwrap_err();
    assert!(matches!(failed, JournalError::Snapshot { .. }));
    journal.append(2, b"goes on").unwrap();
    journal.commit().unwrap();
    drop(journal);
    let lengths: Vec<_> = open(&dir)
        .2
        .iter()
        .map(|(p, bytes)| (*p, bytes.len()))
        .collect();
    assert_eq!(lengths, [(0, RECORD_BYTES_MAX), (1, 0), (2, 7)]);
}

#[test]
fn a_failed_snapshot_is_not_tried_again_at_each_turn() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    let small = JournalOptions {
        segment_bytes_max: 4096,
        ..options(Durability::Process)
    };
    let (mut journal, _) = Journal::open(&dir, small, &mut |_| {}).unwrap();
    let mut turn = |bytes: usize| {
        journal.append(0, &vec![7; bytes]).unwrap();
        journal.commit().unwrap();
        let wanted = journal.wants_snapshot();
        if wanted {
            let oversize = vec![0; RECORD_BYTES_MAX + 1];
            let failed = journal.snapshot(&mut |sink| sink.record(0, &oversize));
            assert!(matches!(failed, Err(JournalError::Snapshot { .. })));
        }
        wanted
    };
    assert!(turn(5000));
    assert!(!turn(10));
    assert!(turn(600));
    assert!(!turn(10));
}

/// With `process` the disk confirms nothing, so nothing after the snapshot is called damaged; what
/// a power cut left unreadable is cut off and counted.
#[test]
fn without_syncs_a_hole_is_cut_and_counted() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    let mut turns = Vec::new();
    let (mut journal, _) = Journal::open(&dir, options(Durability::Process), &mut |_| {}).unwrap();
    for turn in 0..5u8 {
        turns.push(journal.segment_bytes() as usize);
        journal.append(turn, b"payload").unwrap();
        journal.commit().unwrap();
    }
    drop(journal);
    let segment = only_segment(&dir);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[turns[2] + 3] ^= 0xff;
    std::fs::write(&segment, &bytes).unwrap();
    let (_, recovery, replayed) = open(&dir);
    assert_eq!(replayed.len(), 2);
    assert_eq!(recovery.torn_bytes as usize, bytes.len() - turns[2]);
}

fn open_shards(dir: &Path, shards: u16) -> (Vec<Journal>, BTreeMap<u8, Vec<Vec<u8>>>) {
    let mut records: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
    let journals = Journal::open_shards(dir, shards, options(Durability::Power), &mut |record| {
        let partition = records.entry(record.partition).or_default();
        partition.push(record.payload.to_vec());
    })
    .unwrap();
    (
        journals.into_iter().map(|(journal, _)| journal).collect(),
        records,
    )
}

#[test]
fn partitions_move_when_the_number_of_shards_changes() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    let mut random = Random(1);
    let mut model: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
    for shards in [4u16, 3, 3, 1, 256, 2] {
        let (mut journals, replayed) = open_shards(&dir, shards);
        assert_eq!(replayed, model, "with {shards} shards");
        assert_eq!(journals.len(), usize::from(shards));
        for _ in 0..100 {
            let partition = random.below(256) as u8;
            let payload = random.next().to_le_bytes().to_vec();
            let journal = &mut journals[usize::from(u16::from(partition) % shards)];
            journal.append(partition, &payload).unwrap();
            model.entry(partition).or_default().push(payload);
        }
        for journal in &mut journals {
            journal.commit().unwrap();
        }
        drop(journals);
        let generations = std::fs::read_dir(&dir).unwrap().count() - 1;
        assert_eq!(generations, 1, "old generations are gone");
    }
}

#[test]
fn a_crash_at_any_step_of_a_move_is_safe() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("journal");
    let (mut journals, _) = open_shards(&dir, 2);
    journals[1].append(1, b"kept").unwrap();
    journals[1].commit().unwrap();
    drop(journals);
    let before = scratch.path().join("before");
    copy_folder(&dir, &before);
    let (_, model) = open_shards(&dir, 3);
    let new = format!("{:020}-of-3", 2);
    let old = format!("{:020}-of-2", 1);

    // Before the rename: the half-made generation is thrown away.
    let case = scratch.path().join("unfinished");
    copy_folder(&before, &case);
    copy_folder(&dir.join(&new).join("0"), &case.join(format!("{new}.tmp")));
    assert_eq!(open_shards(&case, 3).1, model);
    assert!(!case.join(format!("{new}.tmp")).exists());
    // After it, before the old generation is gone: the new one holds.
    let case = scratch.path().join("both");
    copy_folder(&dir, &case);
    copy_folder(&before.join(&old), &case.join(&old));
    let (mut journals, replayed) = open_shards(&case, 3);
    assert_eq!(replayed, model);
    assert!(!case.join(&old).exists());
    journals[1].append(1, b"new").unwrap();
    journals[1].commit().unwrap();
    drop(journals);
    assert_eq!(
        open_shards(&case, 3).1[&1],
        [b"kept".to_vec(), b"new".to_vec()]
    );
}

#[derive(Debug, Clone)]
enum Step {
    Append(u8, Vec<u8>),
    Commit,
    Snapshot,
    /// The process ends; what was not committed is gone.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4u8, proptest::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(partition, payload)| Step::Append(partition, payload)),
        3 => Just(Step::Commit),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The model: per partition the last payload at the snapshot, then everything committed.
    #[test]
    fn replay_equals_the_model(steps in proptest::collection::vec(step(), 1..80)) {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("journal");
        let (mut journal, ..) = open(&dir);
        let mut committed: Records = Vec::new();
        let mut pending: Records = Vec::new();
        for step in steps {
            match step {
                Step::Append(partition, payload) => {
                    journal.append(partition, &payload).unwrap();
                    pending.push((partition, payload));
                }
                Step::Commit => {
                    journal.commit().unwrap();
                    committed.append(&mut pending);
                }
                Step::Snapshot => {
                    committed.append(&mut pending);
                    let last: BTreeMap<u8, Vec<u8>> = committed.drain(..).collect();
                    journal.snapshot(&mut |sink| {
                        for (partition, payload) in &last {
                            sink.record(*partition, payload);
                        }
                    }).unwrap();
                    committed.extend(last);
                }
                Step::Reopen => {
                    drop(journal);
                    pending.clear();
                    let (reopened, recovery, replayed) = open(&dir);
                    prop_assert_eq!(&replayed, &committed);
                    prop_assert_eq!(recovery.torn_bytes, 0);
                    journal = reopened;
                }
            }
        }
        drop(journal);
        prop_assert_eq!(open(&dir).2, committed);
        prop_assert_eq!(segments(&dir).len(), 1);
    }
}
