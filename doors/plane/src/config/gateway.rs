//! `[gateway]`: the MQTT door.

use super::alpn::{RECORD_BYTES, tickets};
use crate::listen::tls::Terms;
use crate::served::DoorName;
use serde::Deserialize;
use std::time::Duration;

/// `[gateway]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Threads that carry MQTT sessions, 1 to 64. More are for scale, not for speed per message.
    pub shards: u16,
    /// `power`: an acknowledged message survives a power cut (one fdatasync a turn).
    /// `process`: it survives a crash of this program only.
    pub durability: Durability,
    /// Also speak TLS 1.2 at the MQTT door, and send records of at most 4 KiB: for small stacks.
    pub tls_1_2: bool,
    /// Content of a TLS record that we send at the MQTT door, at most, 512 to 16384 bytes.
    pub record_bytes_max: usize,
    /// Give clients of the MQTT door tickets, which are good for an hour and asked about at each use.
    pub resumption: bool,
    /// Largest MQTT packet taken after CONNECT, 1 KiB to 1 MiB.
    pub packet_bytes_max: usize,
    /// Handshakes in flight in one shard, 16 to 65536. Above half of it one source address may
    /// have 64.
    pub handshakes_max: usize,
    /// Seconds from the TCP connection to the end of its TLS handshake, 1 to 60.
    pub handshake_seconds_max: u64,
    /// Connections in one shard, 1 to 1,000,000.
    pub connections_max: usize,
    /// Reports that one device may send to the plane in a minute, 1 to 6000.
    pub reports_per_minute: u32,
    /// Longest keep-alive of an MQTT client, 10 to 65535 seconds; a longer one, and none, is read as
    /// this. MQTT 5 clients are told.
    pub keep_alive_seconds_max: u16,
    /// Devices may send reports of AWS IoT Device Defender, each under its own name
    /// (`$aws/things/<device>/defender/metrics/json` or `/cbor`).
    pub device_defender: bool,
    /// Seconds between two of them of one device, 0 to 3600; one that comes sooner is rejected.
    pub device_defender_seconds_min: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    Power,
    Process,
}

impl Durability {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Process => "process",
        }
    }
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            shards: 1,
            durability: Durability::Power,
            tls_1_2: false,
            record_bytes_max: RECORD_BYTES,
            resumption: false,
            packet_bytes_max: 256 * 1024,
            handshakes_max: 1024,
            handshake_seconds_max: 10,
            connections_max: 100_000,
            reports_per_minute: 120,
            keep_alive_seconds_max: 1200,
            device_defender: false,
            device_defender_seconds_min: 60,
        }
    }
}

impl GatewayConfig {
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn tls_terms(&self) -> Result<Terms, rustls::Error> {
        Ok(Terms {
            at: DoorName::Mqtt,
            tls_1_2: self.tls_1_2,
            record_bytes_max: self.record_bytes_max,
            tickets: tickets(self.resumption)?,
        })
    }

    pub(crate) fn device_defender_interval_min(&self) -> Duration {
        Duration::from_secs(u64::from(self.device_defender_seconds_min))
    }

    /// (key, value, least, greatest)
    pub(super) fn ranges(&self) -> [(&'static str, u64, u64, u64); 8] {
        [
            (
                "gateway.device_defender_seconds_min",
                u64::from(self.device_defender_seconds_min),
                0,
                3600,
            ),
            (
                "gateway.reports_per_minute",
                u64::from(self.reports_per_minute),
                1,
                6000,
            ),
            (
                "gateway.keep_alive_seconds_max",
                u64::from(self.keep_alive_seconds_max),
                10,
                65_535,
            ),
            ("gateway.shards", u64::from(self.shards), 1, 64),
            (
                "gateway.packet_bytes_max",
                self.packet_bytes_max as u64,
                1024,
                1 << 20,
            ),
            (
                "gateway.handshakes_max",
                self.handshakes_max as u64,
                16,
                65_536,
            ),
            (
                "gateway.handshake_seconds_max",
                self.handshake_seconds_max,
                1,
                60,
            ),
            (
                "gateway.connections_max",
                self.connections_max as u64,
                1,
                1_000_000,
            ),
        ]
    }
}
