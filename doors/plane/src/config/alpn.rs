//! `[listen.alpn]`: one port for devices, where ALPN says what is spoken.

use serde::Deserialize;
use std::net::SocketAddr;

/// `[listen.alpn]`. Who offers `mqtt` or `x-amzn-mqtt-ca` speaks MQTT; `http/1.1`, `h2` and who
/// offers nothing speak HTTP, as at the door for devices.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlpnConfig {
    /// Such as `0.0.0.0:443`. Not set: there is no such door.
    pub address: Option<SocketAddr>,
    /// Also speak TLS 1.2 there, in records of at most 4 KiB.
    pub tls_1_2: bool,
}

impl AlpnConfig {
    pub(super) fn live(&self, key: &str) -> String {
        match key {
            "address" => match self.address {
                Some(address) => format!("\"{address}\""),
                None => "unset".to_owned(),
            },
            "tls_1_2" => self.tls_1_2.to_string(),
            _ => String::new(),
        }
    }
}
