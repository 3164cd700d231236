//! Reading certificates that others made, and holding what differs against a list with reasons.

use der::DateTime;
use model::Timestamp;
use std::path::PathBuf;
use std::process::Command;

/// `data/x509` beside this workspace; a checkout of the product alone has none.
pub fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !folder.is_dir() {
        println!("skipped: no foreign certificates and vectors beside this workspace");
        return None;
    }
    Some(folder)
}

/// A JSON file packed by zstd.
pub fn json(name: &str) -> Option<serde_json::Value> {
    let output = Command::new("zstd")
        .arg("-dc")
        .arg(folder()?.join(name))
        .output();
    let Ok(output) = output else {
        println!("skipped: zstd is not installed");
        return None;
    };
    assert!(output.status.success(), "zstd cannot read {name}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

pub fn der(pem: &str) -> Vec<u8> {
    use base64::Engine;
    let text: String = pem
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .map(str::trim)
        .collect();
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap_or_default()
}

pub fn ders(list: &serde_json::Value) -> Vec<Vec<u8>> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|pem| der(pem.as_str().unwrap()))
        .collect()
}

/// `2024-01-01T00:00:00+00:00`, whole seconds.
pub fn time(text: &str) -> Timestamp {
    let seconds: DateTime = format!("{}Z", &text[..19]).parse().unwrap();
    Timestamp::from_seconds(seconds.unix_duration().as_secs())
}

/// Every finding is on the list, and nothing on the list has become untrue.
#[track_caller]
pub fn are_listed(what: &str, found: &[String], list: &[(&str, &str)]) {
    for name in found {
        assert!(
            list.iter().any(|(listed, _)| listed == name),
            "{what}: {name} is not on the list"
        );
    }
    for (listed, reason) in list {
        assert!(
            found.iter().any(|name| name == listed),
            "{what}: {listed} ({reason}) is listed and is not so any more"
        );
    }
}
