//! `facts.db`: what comes back, and what a kill takes and does not take.

use crate::fixture::*;
use model::{
    Assurance, Attribution, DeviationKind, Digest, GroupId, IncidentId, ProductId, ServiceId,
    Severity, Source, Subject, TenantId,
};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use store::{
    AddressRow, AlertRow, DeviceFacts, Facts, FactsWrite, FirmwareRow, OpenError, PeerKey, PeerRow,
    TrafficRow,
};

const FOLDER: &str = "FLEETWARD_FACTS_CRASH_FOLDER";

fn facts(data: &Path) -> Facts {
    Facts::open(data, &tenant()).unwrap()
}

fn device_facts(name: &str, last_seen: u64) -> DeviceFacts {
    DeviceFacts {
        device: device_id(name),
        first_seen: seconds(1),
        last_seen: seconds(last_seen),
        firmware: Some(FirmwareRow {
            version: "3.1.0".to_owned(),
            digest: Some(Digest([7; 32])),
            source: Source::Device,
            at: seconds(2),
        }),
        unseen: vec!["dns: no resolver of ours".to_owned(), "b".to_owned()],
    }
}

fn address(text: &str, last_seen: u64) -> AddressRow {
    AddressRow {
        address: text.parse().unwrap(),
        first_seen: seconds(1),
        last_seen: seconds(last_seen),
        source: Source::Gateway,
    }
}

fn peer(port: u16, last_seen: u64) -> PeerRow {
    PeerRow {
        key: PeerKey {
            address: "2001:db8::1".parse().unwrap(),
            port,
            protocol: "udp",
        },
        host: Some("time.example".to_owned()),
        first_seen: seconds(1),
        last_seen: seconds(last_seen),
        bytes_out: 12,
        source: Source::Network,
    }
}

fn all(facts: &Facts) -> (Vec<DeviceFacts>, Vec<AddressRow>, Vec<PeerRow>) {
    let (mut devices, mut addresses, mut peers) = (Vec::new(), Vec::new(), Vec::new());
    facts.for_each_device(|row| devices.push(row)).unwrap();
    facts
        .for_each_address(|_, row| addresses.push(row))
        .unwrap();
    facts.for_each_peer(|_, row| peers.push(row)).unwrap();
    (devices, addresses, peers)
}

#[test]
fn what_was_observed_comes_back_and_goes_when_it_is_old() {
    let (_scratch, data) = scratch();
    let cam = device_id("cam-1");
    let batch = [
        FactsWrite::Device(device_facts("cam-1", 5)),
        FactsWrite::Device(device_facts("cam-1", 9)),
        FactsWrite::Address(cam.clone(), address("10.0.0.1", 5)),
        FactsWrite::Address(cam.clone(), address("10.0.0.2", 50)),
        FactsWrite::Peer(cam.clone(), peer(123, 5)),
        FactsWrite::Peer(cam.clone(), peer(124, 50)),
        FactsWrite::Peer(cam.clone(), peer(125, 50)),
    ];
    facts(&data).write(&batch).unwrap();
    let facts = facts(&data);
    let (devices, addresses, peers) = all(&facts);
    assert_eq!(devices, [device_facts("cam-1", 9)]);
    assert_eq!((addresses.len(), peers.len()), (2, 3));
    assert_eq!(peers[0], peer(123, 5));
    facts
        .write(&[
            FactsWrite::ForgetBefore {
                addresses: seconds(50),
                peers: seconds(50),
            },
            FactsWrite::ForgetPeer(cam.clone(), peer(125, 0).key),
        ])
        .unwrap();
    let (_, addresses, peers) = all(&facts);
    assert_eq!(
        (addresses, peers),
        (vec![address("10.0.0.2", 50)], vec![peer(124, 50)])
    );
    facts.write(&[FactsWrite::ForgetDevice(cam)]).unwrap();
    assert_eq!(all(&facts), (vec![], vec![], vec![]));
}

#[test]
fn alerts_traffic_and_blobs_come_back() {
    let (_scratch, data) = scratch();
    let facts = facts(&data);
    let alert = AlertRow {
        id: 3,
        subject: Subject::Device(device_id("cam-1")),
        kind: DeviationKind::DnsSpike,
        entity: "evil.example".to_owned(),
        severity: Severity::High,
        open: true,
        count: 4,
        first_seen: seconds(1),
        last_seen: seconds(2),
        expected: "at most 30 a minute".to_owned(),
        seen: "900".to_owned(),
        source: Source::Network,
        attribution: Attribution::Proven,
        observed_by: "network".to_owned(),
        incident: Some(IncidentId(1)),
        evidence: b"[]".to_vec(),
    };
    let traffic = |day, service: Option<&str>, messages| TrafficRow {
        day,
        service: service.map(|name| ServiceId::new(name).unwrap()),
        product: service.is_none().then(|| ProductId::new("camera").unwrap()),
        groups: vec![GroupId::new("beta").unwrap(), GroupId::new("eu").unwrap()],
        assurance: Assurance::Attested,
        topics: "v1/{device}/up".to_owned(),
        received: service.is_some(),
        own: true,
        messages,
        bytes: 10,
        bytes_max: 7,
        devices: vec![1; 128],
    };
    let blob = |value: &[u8]| FactsWrite::PutBlob {
        key: "baselines".to_owned(),
        value: value.to_vec(),
    };
    facts
        .write(&[
            FactsWrite::Alert(alert.clone()),
            FactsWrite::Traffic(traffic(20_000, None, 2)),
            FactsWrite::Traffic(traffic(20_000, None, 3)),
            FactsWrite::Traffic(traffic(20_001, Some("ingest"), 4)),
            blob(b"one"),
            blob(b"two"),
        ])
        .unwrap();
    let mut alerts = Vec::new();
    facts.for_each_alert(|row| alerts.push(row)).unwrap();
    assert_eq!(alerts, [alert]);
    let recorded = |day| {
        let mut rows = Vec::new();
        facts.for_each_traffic(day, |row| rows.push(row)).unwrap();
        rows
    };
    let (first, second) = (traffic(20_000, None, 3), traffic(20_001, Some("ingest"), 4));
    assert_eq!(recorded(0), [first, second.clone()]);
    assert_eq!(recorded(20_001), std::slice::from_ref(&second));
    facts
        .write(&[FactsWrite::ForgetTraffic { before_day: 20_001 }])
        .unwrap();
    assert_eq!(recorded(0), [second]);
    assert_eq!(facts.blob("baselines").unwrap().unwrap(), b"two");
    assert_eq!(facts.blob("other").unwrap(), None);
    let bad = facts.write(&[
        FactsWrite::Device(device_facts("cam-9", 1)),
        FactsWrite::PutBlob {
            key: String::new(),
            value: Vec::new(),
        },
    ]);
    assert!(bad.is_err());
    assert!(all(&facts).0.is_empty(), "all or nothing");
}

#[test]
fn another_tenants_or_programs_file_is_refused() {
    let (_scratch, data) = scratch();
    drop(facts(&data));
    let other = Facts::open(&data, &TenantId::new("rival").unwrap()).unwrap_err();
    assert!(matches!(other, OpenError::Tenant { .. }), "{other}");
    // The two databases are not taken for one another.
    drop(open(&data));
    std::fs::rename(data.join("control.db"), data.join("facts.db")).unwrap();
    let foreign = Facts::open(&data, &tenant()).unwrap_err();
    assert!(matches!(foreign, OpenError::Foreign { .. }), "{foreign}");
}

/// A child commits to `control.db` and hands batches to `facts.db`, and is killed in the middle.
#[test]
fn a_damaged_file_says_that_it_may_go_and_is_begun_anew_without_it() {
    let (_scratch, data) = scratch();
    let _store = open(&data);
    let path = data.join("facts.db");
    drop(facts(&data));
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let refused = Facts::open(&data, &tenant()).unwrap_err();
    assert!(
        matches!(refused, OpenError::DamagedFacts { .. }),
        "{refused}"
    );
    let says = |text: &str| text.contains("remove facts.db") && text.contains("only observations");
    assert!(says(&refused.to_string()), "{refused}");
    std::fs::remove_file(&path).unwrap();

    // A whole file with a row that means nothing.
    let whole = facts(&data);
    let row = FactsWrite::Address(device_id("cam-1"), address("192.0.2.1", 2));
    whole.write(&[row]).unwrap();
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("UPDATE address SET source = 'hearsay'")
        .unwrap();
    let refused = whole.for_each_address(|_, _| {}).unwrap_err();
    assert!(says(&refused.to_string()), "{refused}");
}

#[test]
fn a_kill_between_batches_loses_the_unwritten_batch_and_no_control_row() {
    for seed in seeds() {
        let (_scratch, data) = scratch();
        let mut random = Random(seed);
        let mut acknowledged: BTreeMap<&str, u64> = BTreeMap::new();
        for _ in 0..3 {
            run_and_kill(&data, 20 + random.below(150), &mut acknowledged);
            let store = open(&data);
            let facts = facts(&data);
            let control = acknowledged.get("control").copied().unwrap_or(0);
            for number in 1..=control {
                let value = store.meta(&format!("row-{number}")).unwrap();
                assert!(value.is_some(), "seed {seed}: control row {number} is lost");
            }
            let handed_over = acknowledged.get("facts").copied().unwrap_or(0);
            let (devices, addresses, _) = all(&facts);
            let last = devices.first().map_or(0, |row| row.last_seen.as_seconds());
            assert!(last >= handed_over, "seed {seed}: {last} < {handed_over}");
            assert!(
                last <= handed_over + 1,
                "seed {seed}: more than the batch in flight"
            );
            // A batch is whole: its address was written with its device.
            assert_eq!(
                addresses
                    .first()
                    .map_or(0, |row| row.last_seen.as_seconds()),
                last
            );
        }
    }
}

fn run_and_kill(data: &Path, lines: u64, acknowledged: &mut BTreeMap<&str, u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["facts::child", "--exact", "--nocapture"])
        .env(FOLDER, data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut seen = 0;
    for line in output.lines() {
        let line = line.unwrap();
        let Some((_, line)) = line.split_once("ack ") else {
            continue;
        };
        let fields: Vec<&str> = line.split(' ').collect();
        let ["control" | "facts", number, "end"] = fields[..] else {
            continue;
        };
        let name = if fields[0] == "control" {
            "control"
        } else {
            "facts"
        };
        acknowledged.insert(name, number.parse().unwrap());
        seen += 1;
        if seen == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= lines, "the child ended by itself");
}

#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let data = Path::new(&folder);
    let store = open(data);
    let facts = facts(data);
    let from = all(&facts)
        .0
        .first()
        .map_or(0, |row| row.last_seen.as_seconds());
    let say = |name: &str, number: u64| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {name} {number} end").unwrap();
        out.flush().unwrap();
    };
    // Rows of an earlier run are written again: the same value under the same key.
    for number in 1u64.. {
        store
            .commit(put_meta(&format!("row-{number}"), b"x"))
            .unwrap();
        say("control", number);
        let second = from + number;
        let batch = [
            FactsWrite::Device(device_facts("cam-1", second)),
            FactsWrite::Address(device_id("cam-1"), address("10.0.0.1", second)),
        ];
        facts.write(&batch).unwrap();
        say("facts", second);
    }
}
