//! What the agent tells of its device: `detection`'s report, filled here.

use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Entries of any list; what does not fit is said to be unseen.
pub const LIST_MAX: usize = 256;

/// One report. The plane reads it as `detection::Report`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub format: u8,
    pub boot: String,
    pub sequence: u64,
    /// Milliseconds since 1970, as far as the device knows.
    pub at: u64,
    pub interval_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    pub listening: Vec<Listening>,
    pub destinations: Vec<Destination>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsCount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    pub tls_failures: u64,
    /// Signal → how it was read.
    pub seen_by: BTreeMap<&'static str, &'static str>,
    /// What cannot be seen here, and why.
    pub unseen: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Firmware {
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    Tcp,
    Udp,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Listening {
    pub protocol: Transport,
    pub port: u16,
    pub address: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Destination {
    pub protocol: Transport,
    pub address: IpAddr,
    pub port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    pub bytes_out: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DnsCount {
    pub queries: u64,
    pub names: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    pub bytes_out: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub packets_in: u64,
}
