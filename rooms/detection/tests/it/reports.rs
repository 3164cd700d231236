//! The agent's report: written and read by one definition, hostile to the reader.

use crate::world::{at, device};
use detection::report::{
    Destination, Dns, FORMAT, Firmware, LIST_MAX, Listening, REPORT_BYTES_MAX, Traffic, Transport,
};
use detection::{Feature, Report, ReportError};
use model::{Attribution, Source};
use proptest::prelude::*;
use std::collections::BTreeMap;

const EXAMPLE: &str = r#"{"format":1,"boot":"5e1c","sequence":12,"at":1795330039123,"interval_ms":1000,
 "firmware":{"version":"3.1.0","sha256":"0707070707070707070707070707070707070707070707070707070707070707"},
 "listening":[{"protocol":"tcp","port":22,"address":"0.0.0.0"},{"protocol":"udp","port":53,"address":"127.0.0.1"}],
 "destinations":[{"protocol":"tcp","address":"203.0.113.5","port":443,"host":"cdn.example","bytes_out":1234}],
 "dns":{"queries":3,"names":["time.example"]},
 "traffic":{"bytes_out":1,"packets_out":1,"bytes_in":1,"packets_in":1},
 "tls_failures":2,
 "seen_by":{"listening":"sock_diag","destinations":"nft","dns":"stub","traffic":"proc"},
 "unseen":["dns: no resolver of ours in the path"]}"#;

#[test]
fn the_example_reads_and_writes_back() {
    let report = Report::read(EXAMPLE.as_bytes()).unwrap();
    assert_eq!(Report::read(&report.write().unwrap()).unwrap(), report);
    let seen = report.observations(&device("cam-1"), at(5));
    assert!(seen.iter().all(|o| o.at == at(5)
        && o.source == Source::Device
        && o.attribution == Attribution::Proven));
    assert!(matches!(
        seen[0].feature,
        Feature::Report { sequence: 12, .. }
    ));
    let ports: Vec<_> = seen
        .iter()
        .filter(|o| matches!(o.feature, Feature::ListeningPort { .. }))
        .collect();
    assert_eq!(
        ports.len(),
        1,
        "what listens to itself only is nobody's port"
    );
    assert_eq!(seen.len(), 7);
}

#[test]
fn what_is_not_a_report_is_refused() {
    let with = |from: &str, to: &str| EXAMPLE.replacen(from, to, 1);
    for (text, error) in [
        (with("\"format\":1", "\"format\":2"), ReportError::Format(2)),
        (
            with("\"boot\":\"5e1c\"", "\"boot\":\"\""),
            ReportError::Invalid("boot"),
        ),
        (
            with("\"interval_ms\":1000", "\"interval_ms\":0"),
            ReportError::Invalid("interval_ms"),
        ),
        (
            with("0707", "zzzz"),
            ReportError::Invalid("firmware.sha256"),
        ),
        (
            with("cdn.example", &"a".repeat(257)),
            ReportError::TooLong("destinations.host"),
        ),
        (
            " ".repeat(REPORT_BYTES_MAX + 1),
            ReportError::TooLarge(REPORT_BYTES_MAX + 1),
        ),
    ] {
        assert_eq!(Report::read(text.as_bytes()), Err(error));
    }
    for text in [
        with("\"format\":1", "\"format\":1,\"admin\":true"),
        with("\"format\":1", "\"format\":1,\"format\":1"),
        with("203.0.113.5", "203.0.113.5; rm"),
        with("\"tcp\"", "\"icmp\""),
        with("\"port\":22", "\"port\":65536"),
        with("\"tls_failures\":2", "\"tls_failures\":-2"),
        "[]".to_owned(),
        "[".repeat(60_000),
        String::new(),
    ] {
        let error = Report::read(text.as_bytes()).unwrap_err();
        assert!(
            matches!(&error, ReportError::Form(words) if words.len() <= 160),
            "{error}"
        );
    }
}

#[test]
fn a_list_of_more_than_its_cap_is_refused_both_ways() {
    let mut report = Report::read(EXAMPLE.as_bytes()).unwrap();
    report.unseen = vec!["x".to_owned(); LIST_MAX + 1];
    assert_eq!(report.write(), Err(ReportError::TooLong("unseen")));
    let bytes = serde_json::to_vec(&report).unwrap();
    assert_eq!(Report::read(&bytes), Err(ReportError::TooLong("unseen")));
}

fn any_report() -> impl Strategy<Value = Report> {
    let listening = (any::<u16>(), any::<[u8; 4]>()).prop_map(|(port, address)| Listening {
        protocol: Transport::Udp,
        port,
        address: address.into(),
    });
    let destination = (
        any::<[u8; 16]>(),
        any::<u16>(),
        proptest::option::of(".{0,60}"),
        any::<u64>(),
    )
        .prop_map(|(address, port, host, bytes_out)| Destination {
            protocol: Transport::Tcp,
            address: address.into(),
            port,
            host,
            bytes_out,
        });
    (
        (".{1,40}", any::<u64>(), any::<u64>(), 1u64..604_800_000),
        proptest::collection::vec(listening, 0..20),
        proptest::collection::vec(destination, 0..20),
        proptest::collection::vec(".{0,60}", 0..20),
        proptest::option::of(("[ -~]{0,40}", any::<bool>())),
        any::<[u64; 4]>(),
    )
        .prop_map(
            |((boot, sequence, at, interval_ms), listening, destinations, names, firmware, n)| {
                Report {
                    format: FORMAT,
                    boot,
                    sequence,
                    at,
                    interval_ms,
                    firmware: firmware.map(|(version, with)| Firmware {
                        version,
                        sha256: with.then(|| "ab".repeat(32)),
                    }),
                    listening,
                    destinations,
                    dns: Some(Dns {
                        queries: n[0],
                        names,
                    }),
                    traffic: Some(Traffic {
                        bytes_out: n[0],
                        packets_out: n[1],
                        bytes_in: n[2],
                        packets_in: n[3],
                    }),
                    tls_failures: n[3],
                    seen_by: BTreeMap::new(),
                    unseen: Vec::new(),
                }
            },
        )
}

proptest! {
    #[test]
    fn what_is_written_is_read(report in any_report()) {
        prop_assert_eq!(Report::read(&report.write().unwrap()).unwrap(), report);
    }

    #[test]
    fn damaged_reports_are_refused_or_whole(at in 0usize..1000, byte in any::<u8>(), cut in 0usize..1000) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        let len = bytes.len();
        bytes[at % len] = byte;
        bytes.truncate(len - cut % 3);
        if let Ok(report) = Report::read(&bytes) {
            prop_assert!(report.write().is_ok());
        }
    }
}
