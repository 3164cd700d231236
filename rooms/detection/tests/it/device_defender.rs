//! Reports of Device Defender agents: the forms they come in, and what a hijacked one may send.

use crate::world::{at, device};
use detection::device_defender::{Form, LIST_MAX, REPORT_BYTES_MAX, accepted, rejected};
use detection::{DefenderRefusal, DefenderReport, DefenderReports, Feature, Observation};
use model::{Attribution, Protocol, Source};
use serde_json::{Value, json};
use std::time::Duration;

/// As AWS's agent for Python writes it.
const LONG: &str = r#"{"header":{"report_id":1795330038,"version":"1.0"},"metrics":{
 "network_stats":{"bytes_in":0,"bytes_out":132,"packets_in":0,"packets_out":2},
 "tcp_connections":{"established_connections":{"connections":[
   {"remote_addr":"203.0.113.80:443","local_interface":"eth0","local_port":39230},
   {"remote_addr":"203.0.113.80:443","local_interface":null,"local_port":39231},
   {"remote_addr":"2001:db8::7:8883","local_port":39232},
   {"remote_addr":"[2001:db8::8]:8883","local_port":39233},
   {"remote_addr":"fe80::1%eth0:5353","local_port":39234},
   {"remote_addr":"::ffff:192.0.2.9:80","local_port":39235},
   {"remote_addr":"192.0.2.77:50123","local_port":2024},
   {"remote_addr":"127.0.0.1:5432","local_port":39236}],"total":8}},
 "listening_tcp_ports":{"ports":[{"port":2024,"interface":"0.0.0.0"},{"port":2024},
   {"port":631,"interface":"127.0.0.1"},{"port":632,"interface":"lo"}],"total":4},
 "listening_udp_ports":{"ports":[{"port":68,"interface":"eth0"}],"total":1}},
 "custom_metrics":{"cpu_usage":[{"number":100.0}]},"something_new":[1]}"#;

const SHORT: &str = r#"{"hed":{"rid":1795330038,"v":"1.0"},"met":{
 "ns":{"bi":0,"bo":132,"pi":0,"po":2},
 "tc":{"ec":{"cs":[{"rad":"203.0.113.80:443","li":"eth0","lp":39230}],"t":1}},
 "tp":{"pts":[{"pt":2024,"if":"0.0.0.0"}],"t":1},
 "up":{"pts":[{"port":68,"interface":"eth0"}],"t":1}},"cmet":{}}"#;

fn seen(report: &DefenderReport, interval: Option<u64>) -> Vec<Observation> {
    let interval = interval.map(Duration::from_secs);
    report.observations(&device("cam-1"), interval, at(5))
}

fn in_words(observations: &[Observation]) -> Vec<String> {
    let words = |one: &Observation| match &one.feature {
        Feature::ListeningPort { port, protocol } => format!("listens {port}/{protocol:?}"),
        Feature::Destination { address, port, .. } => format!("speaks to {address} {port}"),
        Feature::BytesOut {
            bytes,
            packets,
            interval,
        } => {
            format!("sent {bytes} in {packets} within {interval:?}")
        }
        other => format!("{other:?}"),
    };
    observations.iter().map(words).collect()
}

/// CBOR of what JSON says, by nobody's rules but the standard's.
fn cbor_of(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Object(fields) => {
            cbor::head(&mut out, 5, fields.len() as u64);
            for (name, value) in fields {
                cbor::text(&mut out, name);
                out.extend(cbor_of(value));
            }
        }
        Value::Array(items) => {
            cbor::head(&mut out, 4, items.len() as u64);
            items.iter().for_each(|item| out.extend(cbor_of(item)));
        }
        Value::String(text) => cbor::text(&mut out, text),
        Value::Null => out.push(0xf6),
        Value::Number(number) => match number.as_u64() {
            Some(number) => cbor::head(&mut out, 0, number),
            None => {
                out.push(0xfb);
                out.extend(number.as_f64().unwrap().to_be_bytes());
            }
        },
        other => panic!("{other}"),
    }
    out
}

#[test]
fn long_names_and_short_ones_and_cbor_say_the_same() {
    let long = DefenderReport::read(Form::Json, LONG.as_bytes()).unwrap();
    assert_eq!(long.report_id, 1_795_330_038);
    let observations = seen(&long, Some(300));
    assert!(observations.iter().all(|one| one.source == Source::Device
        && one.attribution == Attribution::Proven
        && one.at == at(5)));
    assert_eq!(
        in_words(&observations),
        [
            "listens 68/Udp",
            "listens 2024/Tcp",
            "speaks to 192.0.2.9 80",
            "speaks to 203.0.113.80 443",
            "speaks to 2001:db8::7 8883",
            "speaks to 2001:db8::8 8883",
            "speaks to fe80::1 5353",
            "sent 132 in 2 within 300s",
        ]
    );
    let value: Value = serde_json::from_str(LONG).unwrap();
    assert_eq!(DefenderReport::read(Form::Cbor, &cbor_of(&value)), Ok(long));

    let short = DefenderReport::read(Form::Json, SHORT.as_bytes()).unwrap();
    assert_eq!(
        in_words(&seen(&short, None)),
        [
            "listens 68/Udp",
            "listens 2024/Tcp",
            "speaks to 203.0.113.80 443"
        ],
        "what is counted since a report that never came means nothing"
    );
    let value: Value = serde_json::from_str(SHORT).unwrap();
    assert_eq!(
        DefenderReport::read(Form::Cbor, &cbor_of(&value)),
        Ok(short)
    );
    assert_eq!(
        observations[0].feature,
        Feature::ListeningPort {
            port: 68,
            protocol: Protocol::Udp
        }
    );
}

#[test]
fn what_is_no_report_is_refused_by_the_codes_that_agents_know() {
    let with = |from: &str, to: &str| {
        assert!(SHORT.contains(from), "{from}");
        SHORT.replacen(from, to, 1).into_bytes()
    };
    for (payload, code) in [
        (b"".to_vec(), "InvalidPayload"),
        (b"null".to_vec(), "InvalidPayload"),
        (b"{}".to_vec(), "MissingHeader"),
        (with("\"hed\"", "\"head\""), "MissingHeader"),
        (with("\"rid\"", "\"id\""), "MissingHeader"),
        (with("1795330038", "-1"), "InvalidPayload"),
        (with("1795330038", "\"1\""), "InvalidPayload"),
        (with("\"met\"", "\"metric\""), "InvalidPayload"),
        (with("2024", "65536"), "InvalidPayload"),
        (
            with("203.0.113.80:443", "example.net:443"),
            "InvalidPayload",
        ),
        (with("203.0.113.80:443", "203.0.113.80"), "InvalidPayload"),
        (with("203.0.113.80:443", "\\u001b[2J"), "InvalidPayload"),
        // Long and short at once: two readers would read two reports.
        (
            with("\"met\"", "\"header\":{\"report_id\":2},\"met\""),
            "InvalidPayload",
        ),
        (vec![b'['; 100_000], "InvalidPayload"),
        (vec![b' '; REPORT_BYTES_MAX + 1], "InvalidPayload"),
    ] {
        let refusal = DefenderReport::read(Form::Json, &payload).unwrap_err();
        assert_eq!(refusal.code(), code, "{refusal}");
        let said = refusal.to_string();
        assert!(
            said.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
            "{said:?}"
        );
    }
    let two_ids = [
        0xa1, 0x63, b'h', b'e', b'd', 0xa2, 0x63, b'r', b'i', b'd', 1, 0x63, b'r', b'i', b'd', 2,
    ];
    for cbor in [
        &[][..],
        &[0xf6],
        &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x81; 100_000],
        &[0xbf, 0xff],
        &two_ids,
    ] {
        let refusal = DefenderReport::read(Form::Cbor, cbor).unwrap_err();
        assert_eq!(refusal.code(), "InvalidPayload", "{cbor:?}");
    }
}

#[test]
fn attack_lists_without_end_are_cut_and_doubles_count_once() {
    let port = |port: usize| json!({ "port": port, "interface": "0.0.0.0" });
    let mut ports: Vec<Value> = (0..1000).map(|_| port(7)).collect();
    ports.extend((1000..2500).map(port));
    let report = json!({
        "header": { "report_id": 1 },
        "metrics": { "listening_tcp_ports": { "ports": ports, "total": 2500 } },
    });
    let report = DefenderReport::read(Form::Json, report.to_string().as_bytes()).unwrap();
    assert_eq!(seen(&report, None).len(), LIST_MAX);
}

#[test]
fn a_report_counts_once_and_not_too_often_and_deltas_have_their_time() {
    let read = |id: u64| {
        let text = SHORT.replacen("1795330038", &id.to_string(), 1);
        DefenderReport::read(Form::Json, text.as_bytes()).unwrap()
    };
    let mut reports = DefenderReports::default();
    let min = Duration::from_secs(60);
    let mut admit =
        |name: &str, id: u64, second: u64| reports.admit(&device(name), &read(id), min, at(second));
    assert_eq!(admit("cam-1", 10, 1000), Ok(None));
    assert_eq!(
        admit("cam-1", 10, 1100),
        Err(DefenderRefusal::Duplicate { report_id: 10 })
    );
    let soon = DefenderRefusal::Throttled {
        report_id: 11,
        seconds_min: min,
    };
    assert_eq!(admit("cam-1", 11, 1030), Err(soon));
    assert_eq!(admit("cam-2", 11, 1030), Ok(None), "each device by itself");
    // What it counts it counts since the report that was throttled; a clock that was reset is no
    // reason to be silent.
    assert_eq!(admit("cam-1", 3, 1090), Ok(Some(Duration::from_secs(60))));
    assert_eq!(
        admit("cam-1", 10, 2000),
        Err(DefenderRefusal::Duplicate { report_id: 10 })
    );
    assert_eq!(admit("cam-1", 12, 2000), Ok(Some(Duration::from_secs(910))));
}

#[test]
fn answers_are_what_agents_expect_in_both_forms() {
    let json: Value = serde_json::from_slice(&accepted(Form::Json, "cam-1", 7, at(9))).unwrap();
    let expected = json!({
        "thingName": "cam-1", "reportId": 7, "timestamp": at(9).as_millis(), "status": "ACCEPTED",
    });
    assert_eq!(json, expected);
    assert_eq!(accepted(Form::Cbor, "cam-1", 7, at(9)), cbor_of(&expected));
    let refusal = DefenderRefusal::MissingHeader { report_id: None };
    let json: Value =
        serde_json::from_slice(&rejected(Form::Json, "cam-1", &refusal, at(9))).unwrap();
    let expected = json!({
        "thingName": "cam-1", "reportId": 0, "timestamp": at(9).as_millis(), "status": "REJECTED",
        "statusDetails": {
            "ErrorCode": "MissingHeader",
            "ErrorMessage": "the report has no header with a report_id",
        },
    });
    assert_eq!(json, expected);
    assert_eq!(
        rejected(Form::Cbor, "cam-1", &refusal, at(9)),
        cbor_of(&expected)
    );
}
