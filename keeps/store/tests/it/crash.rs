//! kill -9 in the middle of everything: what was acknowledged is there.
//!
//! The child is this test binary, started again. It prints a line for each acknowledgement; the
//! parent kills it after a seeded number of lines, at whatever the child does by then, and looks.

use crate::fixture::*;
use model::{Digest, Principal, Revocable};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use store::{Durability, IdempotencyKey, Journal, JournalOptions, Published, Store, Write};

const FOLDER: &str = "FLEETWARD_STORE_CRASH_FOLDER";
const THREADS: u64 = 4;
const ROUNDS: usize = 3;

#[test]
fn what_was_acknowledged_before_a_kill_is_there() {
    for seed in seeds() {
        let (_scratch, data) = scratch();
        let mut random = Random(seed);
        let mut acknowledged = Acknowledged::default();
        for round in 0..ROUNDS {
            let lines = 30 + random.below(600);
            run_and_kill(&data, lines, &mut acknowledged);
            verify(&data, &acknowledged, &format!("seed {seed} round {round}"));
        }
    }
}

#[derive(Default)]
struct Acknowledged {
    /// (thread, number) → (sequence, leaf index)
    changes: BTreeMap<(u64, u64), (u64, u64)>,
    journal: u64,
    checkpoint: u64,
    /// Turns of a journal that was killed while it wrote.
    kills: u64,
}

fn run_and_kill(data: &Path, lines: u64, acknowledged: &mut Acknowledged) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::child", "--exact", "--nocapture"])
        .env(FOLDER, data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut seen = 0;
    // Reads on to the end: what the child wrote before it died is in the pipe.
    for line in output.lines() {
        let line = line.unwrap();
        let Some((_, line)) = line.split_once("ack ") else {
            continue;
        };
        let fields: Vec<&str> = line.split(' ').collect();
        // The last line may be cut.
        if fields.last() != Some(&"end") {
            continue;
        }
        let number = |place: usize| fields[place].parse::<u64>().unwrap();
        match fields[0] {
            "change" => {
                let receipt = (number(3), number(4));
                acknowledged.changes.insert((number(1), number(2)), receipt);
            }
            "journal" => acknowledged.journal = number(1),
            "checkpoint" => acknowledged.checkpoint = number(1),
            other => panic!("the child said {other:?}"),
        }
        seen += 1;
        if seen == lines {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(seen >= lines, "the child ended by itself: {status}");
    acknowledged.kills += 1;
}

fn verify(data: &Path, acknowledged: &Acknowledged, run: &str) {
    let store = open(data);
    let leaves = store.leaves(0, 10_000).unwrap();
    assert_eq!(
        leaves.len() as u64,
        store.leaf_count().unwrap(),
        "{run}: indices have a gap"
    );
    for ((thread, number), (sequence, leaf_index)) in &acknowledged.changes {
        let text = format!("{thread} {number}");
        let leaf = leaves.get(*leaf_index as usize).map(Vec::as_slice);
        assert_eq!(
            leaf,
            Some(text.as_bytes()),
            "{run}: entry {leaf_index} is lost"
        );
        let again = store.commit(numbered(*thread, *number)).unwrap();
        assert!(again.replayed, "{run}: the receipt of {text} is lost");
        assert_eq!(
            (again.sequence, again.first_leaf_index),
            (*sequence, *leaf_index),
            "{run}"
        );
        if number % 10 == 0 {
            let device = device_id(&format!("cam-{thread}-{number}"));
            let revoked = Revocable::Principal(Principal::Device(device));
            assert!(
                store.revocation(&revoked).unwrap().is_some(),
                "{run}: {text} came back"
            );
        }
    }
    // Entry and row are one: each thread's entries count without gap up to its row.
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for leaf in &leaves {
        let text = std::str::from_utf8(leaf).unwrap();
        let (thread, number) = text.split_once(' ').unwrap();
        let previous = last.insert(thread.parse().unwrap(), number.parse().unwrap());
        assert_eq!(
            number.parse::<u64>().unwrap(),
            previous.map_or(0, |n| n + 1),
            "{run}"
        );
    }
    for (thread, number) in last {
        assert_eq!(
            last_of(&store, thread),
            Some(number),
            "{run}: row and entry differ"
        );
    }
    // The checkpoint was stored before it was published, and its tile before both.
    let stored = store
        .last_checkpoint()
        .unwrap()
        .map_or(0, |checkpoint| checkpoint.size);
    let log = Published::open(&data.join("published")).unwrap();
    let published = log
        .checkpoint()
        .unwrap()
        .map_or(0, |note| read_number(&note));
    assert!(
        acknowledged.checkpoint <= published,
        "{run}: a published checkpoint is lost"
    );
    assert!(published <= stored, "{run}: published before it was stored");
    for size in 1..=stored {
        // Not every size had a checkpoint; what is there is whole.
        if let Some(tile) = log.read(&tile_path(size)).unwrap() {
            assert_eq!(tile, tile_bytes(size), "{run}");
        }
    }
    if stored > 0 {
        assert!(
            log.read(&tile_path(stored)).unwrap().is_some(),
            "{run}: its tile is lost"
        );
    }
    let (_, next) = open_journal(data, run);
    assert!(
        next > acknowledged.journal,
        "{run}: a journal record is lost"
    );
}

/// Opens the journal and checks that its records count without gap; says which number comes next.
fn open_journal(data: &Path, run: &str) -> (Journal, u64) {
    let options = JournalOptions {
        segment_bytes_max: 2000,
        ..JournalOptions::new(Durability::Power)
    };
    let mut next = 1;
    let mut first = true;
    let (journal, _) = Journal::open(&data.join("journal"), options, &mut |record| {
        let number = read_number(record.payload);
        // The first may be a snapshot, which stands for all before it.
        assert!(
            first || number == next,
            "{run}: {number} stands where {next} belongs"
        );
        first = false;
        next = number + 1;
    })
    .unwrap();
    (journal, next)
}

#[test]
fn child() {
    let Some(data) = std::env::var_os(FOLDER) else {
        return;
    };
    let data = Path::new(&data);
    let store = Arc::new(open(data));
    let (mut journal, mut next) = open_journal(data, "child");
    // One whole line per write.
    let output = Arc::new(Mutex::new(std::io::stdout()));
    let say = {
        let output = Arc::clone(&output);
        move |line: String| {
            let mut output = output.lock().unwrap();
            output
                .write_all(format!("\nack {line} end\n").as_bytes())
                .unwrap();
            output.flush().unwrap();
        }
    };
    for thread in 0..THREADS {
        let (store, say) = (Arc::clone(&store), say.clone());
        std::thread::spawn(move || {
            let start = last_of(&store, thread).map_or(0, |n| n + 1);
            for number in start.. {
                let receipt = store.commit(numbered(thread, number)).unwrap();
                let (sequence, leaf) = (receipt.sequence, receipt.first_leaf_index);
                say(format!("change {thread} {number} {sequence} {leaf}"));
            }
        });
    }
    {
        let (store, say) = (Arc::clone(&store), say.clone());
        let log = Published::open(&data.join("published")).unwrap();
        std::thread::spawn(move || {
            let mut stored = store.last_checkpoint().unwrap().map_or(0, |c| c.size);
            loop {
                let size = store.leaf_count().unwrap();
                if size == stored {
                    std::thread::yield_now();
                    continue;
                }
                log.write(&tile_path(size), &tile_bytes(size)).unwrap();
                let note = size.to_string().into_bytes();
                store.put_checkpoint(stored, size, note.clone()).unwrap();
                log.write_checkpoint(&note).unwrap();
                say(format!("checkpoint {size}"));
                stored = size;
            }
        });
    }
    let mut random = Random(next);
    loop {
        for _ in 0..=random.below(4) {
            journal
                .append(next as u8, next.to_string().as_bytes())
                .unwrap();
            next += 1;
        }
        journal.commit().unwrap();
        say(format!("journal {}", next - 1));
        if journal.wants_snapshot() {
            let last = (next - 1).to_string();
            journal
                .snapshot(&mut |sink| sink.record(0, last.as_bytes()))
                .unwrap();
        }
    }
}

/// Change `number` of `thread`: a row, an entry, sometimes a revocation, and a key.
fn numbered(thread: u64, number: u64) -> store::Change {
    let change = put_meta(&format!("thread {thread}"), number.to_string().as_bytes());
    let change = if number.is_multiple_of(10) {
        change.write(
            revoke_device(&format!("cam-{thread}-{number}"))
                .writes
                .remove(0),
        )
    } else {
        change.write(Write::PutMeta {
            key: format!("last {thread}"),
            value: vec![0; 100],
        })
    };
    change
        .entry(format!("{thread} {number}").into_bytes())
        .idempotent(IdempotencyKey {
            key: format!("{thread} {number}"),
            request: Digest([thread as u8; 32]),
        })
}

fn last_of(store: &Store, thread: u64) -> Option<u64> {
    let value = store.meta(&format!("thread {thread}")).unwrap()?;
    Some(read_number(&value))
}

fn read_number(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

fn tile_path(size: u64) -> String {
    format!("tile/0/{:03}.p/{size}", size / 100)
}

fn tile_bytes(size: u64) -> Vec<u8> {
    size.to_le_bytes().repeat(1000)
}
