//! What the agent is doing, kept in the state folder for whoever asks on the device.

use crate::failure::printable;
use crate::folder::Folder;
use crate::outbox::Counts;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

const FILE: &str = "status.json";

/// Times are milliseconds since 1970, as far as the device knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub device: String,
    pub product: String,
    pub agent_version: String,
    pub pid: u32,
    pub written_at: u64,
    /// `enrolling`, `connecting`, `connected` or `ended`.
    pub state: String,
    /// `quarantined` or `isolated`, as the plane last said; none: free.
    pub containment: Option<String>,
    /// The device's own rules of quarantine are in force.
    pub enforced_locally: bool,
    /// Rules of destinations that the kernel holds; 0: none are in force.
    pub destination_rules: usize,
    pub connected_since: Option<u64>,
    pub certificate: Option<CertificateStatus>,
    pub queue_messages: usize,
    pub counts: Counts,
    pub boot: String,
    pub report_sequence: u64,
    pub last_trouble: Option<Trouble>,
    pub tls_failures: u64,
    /// The device's own clock minus the plane's.
    pub clock_error_seconds: Option<i64>,
    /// SHA-256 of each root by which the plane is known.
    pub roots: Vec<String>,
    pub seen_by: BTreeMap<String, String>,
    pub unseen: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CertificateStatus {
    pub not_before: u64,
    pub not_after: u64,
    pub renew_at: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trouble {
    pub at: u64,
    pub text: String,
}

impl Status {
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, folder: &Folder) -> std::io::Result<()> {
        folder.note(FILE, &serde_json::to_vec_pretty(self)?)
    }

    /// `None`: no agent has run here yet.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(folder: &Folder) -> anyhow::Result<Option<Self>> {
        let bytes = folder.read(FILE)?;
        Ok(bytes
            .map(|bytes| serde_json::from_slice(&bytes))
            .transpose()?)
    }

    /// A line for each field; everything is fit for a terminal.
    pub fn table(&self) -> String {
        let Ok(Value::Object(fields)) = serde_json::to_value(self) else {
            return String::new();
        };
        let mut text = String::new();
        for (name, value) in fields {
            match value {
                Value::Null => push(&mut text, &name, "-"),
                Value::String(value) => push(&mut text, &name, &value),
                Value::Array(values) => {
                    for value in values {
                        push(&mut text, &name, value.as_str().unwrap_or_default());
                    }
                }
                Value::Object(fields) => {
                    for (part, value) in fields {
                        let value = value
                            .as_str()
                            .map_or_else(|| value.to_string(), str::to_owned);
                        push(&mut text, &format!("{name} {part}"), &value);
                    }
                }
                value => push(&mut text, &name, &value.to_string()),
            }
        }
        text
    }
}

fn push(text: &mut String, name: &str, value: &str) {
    let name = name.replace('_', " ");
    text.push_str(&format!("{name:24} {}\n", printable(value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_cannot_act_on_a_terminal() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        let status = Status {
            device: "cam-1".to_owned(),
            unseen: vec!["dns: none\u{1b}[2J".to_owned()],
            ..Status::default()
        };
        assert!(Status::read(&folder).unwrap().is_none());
        status.write(&folder).unwrap();
        let table = Status::read(&folder).unwrap().unwrap().table();
        assert!(
            table.contains("cam-1") && !table.contains('\u{1b}'),
            "{table}"
        );
    }
}
