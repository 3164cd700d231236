//! What a device's agent reports of itself: written there, read here, by one definition.
//!
//! JSON of at most [`REPORT_BYTES_MAX`] bytes; lists of at most [`LIST_MAX`] entries, texts of at
//! most [`TEXT_MAX`] bytes; a field that is not listed is refused. The session that brought it is
//! proven, its contents are only reported: they may raise and never clear.

use crate::{Feature, Observation};
use core::net::IpAddr;
use model::{Attribution, DeviceId, Digest, Protocol, Source, Subject, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

pub const REPORT_BYTES_MAX: usize = 64 * 1024;
pub const LIST_MAX: usize = 256;
pub const TEXT_MAX: usize = 256;
/// The only format so far.
pub const FORMAT: u32 = 1;
/// Names of DNS queries that an observation carries on.
const NAMES_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub format: u32,
    /// Another one after each start of the device.
    pub boot: String,
    /// From 1, one more with each report of a boot.
    pub sequence: u64,
    /// Milliseconds since 1970 by the device's clock, which may be wrong. Nothing rests on it.
    pub at: u64,
    /// The time that the counts below are of.
    pub interval_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    #[serde(default)]
    pub listening: Vec<Listening>,
    #[serde(default)]
    pub destinations: Vec<Destination>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    #[serde(default)]
    pub tls_failures: u64,
    /// By which means each part was read: `listening` → `sock_diag`.
    #[serde(default)]
    pub seen_by: BTreeMap<String, String>,
    /// What could not be seen, and why, for people.
    #[serde(default)]
    pub unseen: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    pub version: String,
    /// 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listening {
    pub protocol: Transport,
    pub port: u16,
    pub address: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    pub protocol: Transport,
    pub address: IpAddr,
    pub port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    pub bytes_out: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    pub queries: u64,
    #[serde(default)]
    pub names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    pub bytes_out: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub packets_in: u64,
}

/// `tcp` or `udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Tcp,
    Udp,
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
        }
    }
}

/// Why a report was not read. The device's maker must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    #[error("the report has {0} bytes; the limit is {REPORT_BYTES_MAX}")]
    TooLarge(usize),
    /// The parser's words, which quote no more than a name of the report; cut and printable.
    #[error("the report is not of our form: {0}")]
    Form(String),
    #[error("the report is of format {0}; this version reads {FORMAT}")]
    Format(u32),
    #[error("the report's {0} is too long or has too many entries")]
    TooLong(&'static str),
    #[error("the report's {0} is not valid")]
    Invalid(&'static str),
}

impl Report {
    /// # Errors
    /// See [`ReportError`].
    pub fn read(bytes: &[u8]) -> Result<Self, ReportError> {
        if bytes.len() > REPORT_BYTES_MAX {
            return Err(ReportError::TooLarge(bytes.len()));
        }
        let report: Self = serde_json::from_slice(bytes)
            .map_err(|error| ReportError::Form(crate::shown(&error.to_string(), 160)))?;
        report.check()?;
        Ok(report)
    }

    /// The report as JSON.
    ///
    /// # Errors
    /// One that [`Self::read`] would refuse is not written.
    pub fn write(&self) -> Result<Vec<u8>, ReportError> {
        self.check()?;
        let bytes = serde_json::to_vec(self)
            .map_err(|error| ReportError::Form(crate::shown(&error.to_string(), 160)))?;
        if bytes.len() > REPORT_BYTES_MAX {
            return Err(ReportError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    fn check(&self) -> Result<(), ReportError> {
        if self.format != FORMAT {
            return Err(ReportError::Format(self.format));
        }
        let lists = [
            ("listening", self.listening.len()),
            ("destinations", self.destinations.len()),
            (
                "dns.names",
                self.dns.as_ref().map_or(0, |dns| dns.names.len()),
            ),
            ("seen_by", self.seen_by.len()),
            ("unseen", self.unseen.len()),
        ];
        if let Some((name, _)) = lists.iter().find(|(_, len)| *len > LIST_MAX) {
            return Err(ReportError::TooLong(name));
        }
        let too_long = |name, text: &str| {
            (text.len() > TEXT_MAX)
                .then_some(ReportError::TooLong(name))
                .map_or(Ok(()), Err)
        };
        too_long("boot", &self.boot)?;
        if self.boot.is_empty() {
            return Err(ReportError::Invalid("boot"));
        }
        if !(1..=WEEK_MS).contains(&self.interval_ms) {
            return Err(ReportError::Invalid("interval_ms"));
        }
        if let Some(firmware) = &self.firmware {
            too_long("firmware.version", &firmware.version)?;
            if firmware.sha256.is_some() && firmware.digest().is_none() {
                return Err(ReportError::Invalid("firmware.sha256"));
            }
        }
        for host in self.destinations.iter().filter_map(|one| one.host.as_ref()) {
            too_long("destinations.host", host)?;
        }
        for name in self.dns.iter().flat_map(|dns| &dns.names) {
            too_long("dns.names", name)?;
        }
        for text in self.seen_by.iter().flat_map(|(part, means)| [part, means]) {
            too_long("seen_by", text)?;
        }
        for text in &self.unseen {
            too_long("unseen", text)?;
        }
        Ok(())
    }

    /// What the report says, as observations of source `Device`: first of the report itself, so
    /// that a replayed one is known before its contents are judged.
    #[must_use]
    pub fn observations(&self, device: &DeviceId, received_at: Timestamp) -> Vec<Observation> {
        let interval = Duration::from_millis(self.interval_ms);
        let mut features = vec![Feature::Report {
            boot: self.boot.clone(),
            sequence: self.sequence,
            interval,
        }];
        if let Some(firmware) = &self.firmware {
            features.push(Feature::Firmware {
                version: firmware.version.clone(),
                digest: firmware.digest(),
            });
        }
        features.extend(
            self.listening
                .iter()
                .filter(|one| !one.address.is_loopback())
                .map(|one| Feature::ListeningPort {
                    port: one.port,
                    protocol: one.protocol.into(),
                }),
        );
        features.extend(
            self.destinations
                .iter()
                .filter(|one| !one.address.is_loopback())
                .map(|one| Feature::Destination {
                    address: one.address,
                    port: one.port,
                    protocol: one.protocol.into(),
                    host: one.host.clone(),
                    bytes_out: one.bytes_out,
                }),
        );
        features.extend(self.dns.as_ref().map(|dns| Feature::DnsQueries {
            queries: dns.queries,
            names: dns.names.iter().take(NAMES_MAX).cloned().collect(),
            interval,
        }));
        features.extend(self.traffic.map(|traffic| Feature::BytesOut {
            bytes: traffic.bytes_out,
            packets: traffic.packets_out,
            interval,
        }));
        if self.tls_failures > 0 {
            features.push(Feature::TlsFailures {
                count: self.tls_failures,
                interval,
            });
        }
        features
            .into_iter()
            .map(|feature| Observation {
                at: received_at,
                subject: Subject::Device(device.clone()),
                source: Source::Device,
                attribution: Attribution::Proven,
                feature,
            })
            .collect()
    }
}

const WEEK_MS: u64 = 7 * 86_400_000;

impl Firmware {
    /// `None` if there is none or it is not 64 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        let text = self.sha256.as_deref()?.as_bytes();
        let mut digest = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Digest(digest))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
