//! `[brokers]` of the configuration.

use crate::outward::check_url;
use serde::Deserialize;
use std::path::PathBuf;

/// `[brokers]`: brokers that the fleet still uses, to which revocations are carried.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokersConfig {
    /// Where Mosquitto's `crlfile` lies: the lists of all our issuing CAs go there, PEM. Empty: none.
    pub mosquitto_crl_file: PathBuf,
    /// Mosquitto's `pid_file`: it is told (SIGHUP) to read each new list. Empty: it is not told.
    pub mosquitto_pid_file: PathBuf,
    /// `host:port` of a TLS listener of Mosquitto with the dynamic security plugin, which ends live
    /// sessions. The client's name there is the device's. Empty: none is ended.
    pub mosquitto_address: String,
    /// `host:port` of the fleet's listener: it is looked at until a new list is in force there, and
    /// a session that came back before that is ended once more. Empty: two seconds are waited.
    pub mosquitto_fleet_address: String,
    /// Root certificates (PEM) that both listeners are checked by.
    pub mosquitto_roots_file: PathBuf,
    /// A client certificate (PEM) that may write to the plugin's control topic.
    pub mosquitto_certificate_file: PathBuf,
    /// Its key (PEM); a file of mode 0600.
    pub mosquitto_key_file: PathBuf,
    /// `https://host:port` of EMQX 5's REST API. Empty: nothing is carried to EMQX. A client's
    /// identifier there is its device's name.
    pub emqx_url: String,
    /// `<API key>:<secret key>` in one line; a file of mode 0600.
    pub emqx_key_file: PathBuf,
    /// Root certificates (PEM) that EMQX is checked by. Empty: this system's.
    pub emqx_roots_file: PathBuf,
    /// The region of an AWS IoT Core that knows the fleet's certificates, `eu-central-1`. Empty:
    /// nothing is carried to AWS.
    pub aws_iot_region: String,
    /// Where it is if not at `https://iot.<region>.amazonaws.com`.
    pub aws_iot_url: String,
    /// The account's own address for messages, `https://….iot.<region>.amazonaws.com`: sessions are
    /// ended there at once. A client's identifier there is its device's name. Empty: the service ends
    /// them in its own time.
    pub aws_iot_data_url: String,
    /// `aws_access_key_id = …` and `aws_secret_access_key = …`, as the AWS tools write them; a file of
    /// mode 0600, read again for each call. They need iot:UpdateCertificate, and for sessions
    /// iot:DeleteConnection.
    pub aws_iot_credentials_file: PathBuf,
    /// Root certificates (PEM) that AWS is checked by. Empty: this system's.
    pub aws_iot_roots_file: PathBuf,
}

/// Keys of this section.
pub const KEYS: [&str; 15] = [
    "mosquitto_crl_file",
    "mosquitto_pid_file",
    "mosquitto_address",
    "mosquitto_fleet_address",
    "mosquitto_roots_file",
    "mosquitto_certificate_file",
    "mosquitto_key_file",
    "emqx_url",
    "emqx_key_file",
    "emqx_roots_file",
    "aws_iot_region",
    "aws_iot_url",
    "aws_iot_data_url",
    "aws_iot_credentials_file",
    "aws_iot_roots_file",
];

impl BrokersConfig {
    pub(crate) fn live(&self, key: &str) -> String {
        match key {
            "mosquitto_crl_file" => format!("{:?}", self.mosquitto_crl_file),
            "mosquitto_pid_file" => format!("{:?}", self.mosquitto_pid_file),
            "mosquitto_address" => format!("{:?}", self.mosquitto_address),
            "mosquitto_roots_file" => format!("{:?}", self.mosquitto_roots_file),
            "mosquitto_certificate_file" => format!("{:?}", self.mosquitto_certificate_file),
            "mosquitto_key_file" => format!("{:?}", self.mosquitto_key_file),
            "mosquitto_fleet_address" => format!("{:?}", self.mosquitto_fleet_address),
            "emqx_url" => format!("{:?}", self.emqx_url),
            "emqx_key_file" => format!("{:?}", self.emqx_key_file),
            "emqx_roots_file" => format!("{:?}", self.emqx_roots_file),
            "aws_iot_region" => format!("{:?}", self.aws_iot_region),
            "aws_iot_url" => format!("{:?}", self.aws_iot_url),
            "aws_iot_data_url" => format!("{:?}", self.aws_iot_data_url),
            "aws_iot_credentials_file" => format!("{:?}", self.aws_iot_credentials_file),
            "aws_iot_roots_file" => format!("{:?}", self.aws_iot_roots_file),
            _ => String::new(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        self.check_mosquitto()?;
        let no_file = |file: &PathBuf| file.as_os_str().is_empty();
        if !self.emqx_url.is_empty() {
            check_url(&self.emqx_url).map_err(|rule| ("brokers.emqx_url", rule))?;
            if no_file(&self.emqx_key_file) {
                let rule = "name a file that holds <API key>:<secret key>";
                return Err(("brokers.emqx_key_file", rule.into()));
            }
        }
        let region = &self.aws_iot_region;
        let places = [
            ("brokers.aws_iot_url", &self.aws_iot_url),
            ("brokers.aws_iot_data_url", &self.aws_iot_data_url),
        ];
        for (key, url) in places.into_iter().filter(|(_, url)| !url.is_empty()) {
            check_url(url).map_err(|rule| (key, rule))?;
            if region.is_empty() {
                let rule = "name the region, which is part of each signature";
                return Err(("brokers.aws_iot_region", rule.into()));
            }
        }
        if !region.is_empty() {
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if region.len() > 32 || !region.bytes().all(plain) {
                let rule = "write a region such as eu-central-1";
                return Err(("brokers.aws_iot_region", rule.into()));
            }
            if no_file(&self.aws_iot_credentials_file) {
                let rule = "name a file that holds the access key";
                return Err(("brokers.aws_iot_credentials_file", rule.into()));
            }
        }
        Ok(())
    }

    fn check_mosquitto(&self) -> Result<(), (&'static str, String)> {
        let places = [
            ("brokers.mosquitto_address", &self.mosquitto_address),
            (
                "brokers.mosquitto_fleet_address",
                &self.mosquitto_fleet_address,
            ),
        ];
        for (key, address) in places {
            if !address.is_empty() {
                super::mosquitto::split(address).map_err(|rule| (key, rule.to_string()))?;
            }
        }
        if self.mosquitto_address.is_empty() {
            return Ok(());
        }
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
