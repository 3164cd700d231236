//! `[listen.alpn]`: one port for devices, where ALPN says what is spoken.

use crate::listen::Tickets;
use crate::listen::tls::Terms;
use crate::served::DoorName;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a record of TLS holds at most (RFC 8446 section 5.1).
pub(super) const RECORD_BYTES: usize = 16 * 1024;

/// Those of one listener, if it gives any.
pub(super) fn tickets(resumption: bool) -> Result<Option<Arc<Tickets>>, rustls::Error> {
    resumption.then(|| Tickets::new().map(Arc::new)).transpose()
}

/// `[listen.alpn]`. Who offers `mqtt` or `x-amzn-mqtt-ca` speaks MQTT; `http/1.1`, `h2` and who
/// offers nothing speak HTTP, as at the door for devices.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlpnConfig {
    /// Such as `0.0.0.0:443`. Not set: there is no such door.
    pub address: Option<SocketAddr>,
    /// Also speak TLS 1.2 there, in records of at most 4 KiB.
    pub tls_1_2: bool,
    /// Content of a record that we send there, at most, 512 to 16384 bytes.
    pub record_bytes_max: usize,
    /// Give MQTT clients tickets there, which are good for an hour and asked about at each use.
    pub resumption: bool,
    /// Also speak MQTT over WebSocket there, at `/mqtt`.
    pub websocket: bool,
}

impl Default for AlpnConfig {
    fn default() -> Self {
        Self {
            address: None,
            tls_1_2: false,
            record_bytes_max: RECORD_BYTES,
            resumption: false,
            websocket: false,
        }
    }
}

impl AlpnConfig {
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn tls_terms(&self) -> Result<Terms, rustls::Error> {
        Ok(Terms {
            at: DoorName::Alpn,
            tls_1_2: self.tls_1_2,
            record_bytes_max: self.record_bytes_max,
            tickets: tickets(self.resumption)?,
        })
    }

    pub(super) fn live(&self, key: &str) -> String {
        match key {
            "address" => match self.address {
                Some(address) => format!("\"{address}\""),
                None => "unset".to_owned(),
            },
            "tls_1_2" => self.tls_1_2.to_string(),
            "record_bytes_max" => self.record_bytes_max.to_string(),
            "resumption" => self.resumption.to_string(),
            "websocket" => self.websocket.to_string(),
            _ => String::new(),
        }
    }
}
