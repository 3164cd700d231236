//! Figures, not tests: `cargo test --release -p store -- --ignored --nocapture bench`.

use crate::fixture::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store::{Durability, Holder, Journal, JournalOptions, Write};

const RUN: Duration = Duration::from_secs(2);

#[test]
#[ignore = "a figure, not a test"]
fn commits_a_second() {
    for callers in [1u64, 8, 64] {
        let (_scratch, data) = scratch();
        let store = Arc::new(open(&data));
        enroll(&store, "SN1", "cam-1");
        let serial = Arc::new(AtomicU64::new(1));
        let start = Instant::now();
        let threads: Vec<_> = (0..callers)
            .map(|_| {
                let (store, serial) = (Arc::clone(&store), Arc::clone(&serial));
                std::thread::spawn(move || {
                    let mut waits = Vec::new();
                    while start.elapsed() < RUN {
                        let number = serial.fetch_add(1, Ordering::Relaxed);
                        let mut row = certificate(1, Holder::Device(device_id("cam-1")));
                        row.id = model::CertificateId::new(row.id.issuer(), &number.to_be_bytes())
                            .unwrap();
                        row.der = vec![7; 550];
                        let change = grant(Write::PutCertificate(row)).entry(vec![7; 300]);
                        let asked = Instant::now();
                        store.commit(change).unwrap();
                        waits.push(asked.elapsed());
                    }
                    waits
                })
            })
            .collect();
        let mut waits: Vec<_> = threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect();
        let seconds = start.elapsed().as_secs_f64();
        waits.sort();
        println!(
            "commit, {callers} callers, durability power: {:.0} changes/s, p50 {:?}, p99 {:?}, max {:?}",
            waits.len() as f64 / seconds,
            waits[waits.len() / 2],
            waits[waits.len() * 99 / 100],
            waits[waits.len() - 1],
        );
        let wal = std::fs::metadata(data.join("control.db-wal"))
            .unwrap()
            .len();
        println!("  write-ahead log: {} KiB", wal / 1024);
    }
}

#[test]
#[ignore = "a figure, not a test"]
fn a_million_expected_devices() {
    let (_scratch, data) = scratch();
    let store = open(&data);
    store
        .commit(grant(Write::PutManufacturer(manufacturer())))
        .unwrap();
    // Random keys touch a page each, and each page is written with each chunk: callers sort.
    for (order, chunks) in [("sorted", 100u64), ("random", 10)] {
        let mut random = Random(1);
        let start = Instant::now();
        for chunk in 0..chunks {
            let rows = (0..10_000)
                .map(|n| {
                    let number = chunk * 10_000 + n;
                    let text = match order {
                        "sorted" => format!("a{number:016x}"),
                        _ => format!("b{:016x}", random.next()),
                    };
                    expected(&text, &text)
                })
                .collect();
            store
                .commit(grant(Write::PutExpectedDevices(rows)))
                .unwrap();
        }
        let rows = chunks * 10_000;
        println!("{rows} expected devices, {order}: {:?}", start.elapsed());
    }
    let start = Instant::now();
    let rows = store.for_each_expected_device(drop).unwrap();
    println!("read back {rows}: {:?}", start.elapsed());
}

#[test]
#[ignore = "a figure, not a test"]
fn journal_turns_a_second() {
    for durability in [Durability::Power, Durability::Process] {
        for records in [1, 100] {
            let scratch = tempfile::tempdir().unwrap();
            let options = JournalOptions::new(durability);
            let dir = scratch.path().join("journal");
            let (mut journal, _) = Journal::open(&dir, options, &mut |_| {}).unwrap();
            let start = Instant::now();
            let mut turns = 0u64;
            while start.elapsed() < RUN {
                for _ in 0..records {
                    journal.append(7, &[7; 200]).unwrap();
                }
                journal.commit().unwrap();
                turns += 1;
                if journal.wants_snapshot() {
                    journal
                        .snapshot(&mut |sink| sink.record(7, &[7; 200]))
                        .unwrap();
                }
            }
            let rate = turns as f64 / start.elapsed().as_secs_f64();
            println!(
                "journal, {records} records of 200 B a turn, durability {}: {rate:.0} turns/s, {:.0} records/s",
                durability.name(),
                rate * f64::from(records),
            );
        }
    }
}
