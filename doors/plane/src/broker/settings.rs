//! `[brokers]` of the configuration.

use serde::Deserialize;
use std::path::PathBuf;

/// `[brokers]`: brokers that the fleet still uses, to which revocations are carried.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokersConfig {
    /// Where Mosquitto's `crlfile` lies: the list of the standard CA goes there, PEM. Empty: none.
    pub mosquitto_crl_file: PathBuf,
    /// Mosquitto's `pid_file`: it is told (SIGHUP) to read each new list. Empty: it is not told.
    pub mosquitto_pid_file: PathBuf,
    /// `host:port` of a TLS listener of Mosquitto with the dynamic security plugin, which ends live
    /// sessions. The client's name there is the device's. Empty: none is ended.
    pub mosquitto_address: String,
    /// Root certificates (PEM) that this listener is checked by.
    pub mosquitto_roots_file: PathBuf,
    /// A client certificate (PEM) that may write to the plugin's control topic.
    pub mosquitto_certificate_file: PathBuf,
    /// Its key (PEM); a file of mode 0600.
    pub mosquitto_key_file: PathBuf,
}

impl BrokersConfig {
    pub(crate) fn live(&self, key: &str) -> String {
        match key {
            "mosquitto_crl_file" => format!("{:?}", self.mosquitto_crl_file),
            "mosquitto_pid_file" => format!("{:?}", self.mosquitto_pid_file),
            "mosquitto_address" => format!("{:?}", self.mosquitto_address),
            "mosquitto_roots_file" => format!("{:?}", self.mosquitto_roots_file),
            "mosquitto_certificate_file" => format!("{:?}", self.mosquitto_certificate_file),
            "mosquitto_key_file" => format!("{:?}", self.mosquitto_key_file),
            _ => String::new(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.mosquitto_address.is_empty() {
            return Ok(());
        }
        super::mosquitto::split(&self.mosquitto_address)
            .map_err(|rule| ("brokers.mosquitto_address", rule.to_string()))?;
        let files = [
            ("brokers.mosquitto_roots_file", &self.mosquitto_roots_file),
            (
                "brokers.mosquitto_certificate_file",
                &self.mosquitto_certificate_file,
            ),
            ("brokers.mosquitto_key_file", &self.mosquitto_key_file),
        ];
        match files.iter().find(|(_, file)| file.as_os_str().is_empty()) {
            Some((key, _)) => Err((key, "name the file; the listener wants mutual TLS".into())),
            None => Ok(()),
        }
    }
}
