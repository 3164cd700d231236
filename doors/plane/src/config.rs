//! The configuration: this struct is the reference, each field with its meaning and default.
//!
//! A TOML file, then the environment (`FLEETWARD_DATA_DIR`, `FLEETWARD_LISTEN_MQTT`: section and
//! key in capitals). Unknown keys are refused; everything is checked before a port opens.

mod access;
mod alpn;
mod gateway;
mod inventory;
mod response;

use crate::broker::settings::{self, BrokersConfig};
use crate::forward::{self, ForwardConfig};
use crate::listen::Proxies;
use crate::listen::tls::Terms;
use crate::served::DoorName;
use crate::served::settings::{AcmeSettings, IMPORTED_MAX, ImportedCertificate};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use access::{AccessConfig, Console, ProviderConfig};
pub use alpn::AlpnConfig;
pub use gateway::{Durability, GatewayConfig};
pub use inventory::InventoryConfig;
pub use response::ResponseConfig;

/// Everything a plane can be told. `Config::default()` is what an empty file means.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Private state: database, sealed keys, journal. Mode 0700, made if absent.
    pub data_dir: PathBuf,
    /// The published log. Empty means `<data_dir>-log`: beside the data, not inside, so that
    /// restoring one from a backup does not roll back the other.
    pub log_dir: PathBuf,
    /// The key that seals the private keys, 0600. Empty means `<data_dir>/seal.key`; put it on
    /// another medium and a stolen backup of the data folder holds no usable key.
    pub seal_key_file: PathBuf,
    /// Whose fleet this is: part of each certificate, entry and row. Cannot be changed later.
    pub tenant: String,
    /// The authority in each certificate's URI, `spiffe://<trust_domain>/<tenant>/device/<id>`,
    /// and in the log's origin. Cannot be changed later.
    pub trust_domain: String,
    /// Names (DNS or IP) that devices and people use for this plane; the first is the default.
    pub server_names: Vec<String>,
    /// Devices and attacks are made up, for a demonstration: the console says so.
    pub simulated: bool,
    pub listen: Listen,
    pub gateway: GatewayConfig,
    pub access: AccessConfig,
    pub identity: IdentityConfig,
    pub signer: SignerConfig,
    pub inventory: InventoryConfig,
    pub response: ResponseConfig,
    pub brokers: BrokersConfig,
    /// `[forward]`: another broker that messages are carried to and come back from.
    pub forward: ForwardConfig,
}

/// `[listen]`: the doors.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// People: API and health over HTTPS; asks for no client certificate.
    /// Not looked at where systemd hands over the listener (`LISTEN_FDNAMES=people`).
    pub people: SocketAddr,
    /// Also speak TLS 1.2 to people; no browser of today needs it.
    pub people_tls_1_2: bool,
    /// Devices and services: EST and API by mutual TLS.
    pub devices: SocketAddr,
    /// MQTT over mutual TLS.
    pub mqtt: SocketAddr,
    /// One more door for devices, where ALPN says whether MQTT or HTTP is spoken.
    pub alpn: AlpnConfig,
    /// Balancers in front of the doors for devices, as addresses or networks (`192.0.2.0/24`). They,
    /// and nobody else, must begin each connection with a PROXY header of version 2.
    pub proxies: Vec<String>,
    /// Chains of other CAs that are shown beside our own certificate; 32 at most.
    pub certificates: Vec<ImportedCertificate>,
    pub acme: AcmeSettings,
}

/// `[identity]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityConfig {
    /// Also speak TLS 1.2 at the door for devices, in records of at most 4 KiB: EST clients of
    /// small stacks need it.
    pub tls_1_2: bool,
    /// Content of a record that we send at the door for devices, at most, 512 to 16384 bytes.
    pub record_bytes_max: usize,
    /// Days a service's certificate lives, 1 to 397.
    pub service_days: u32,
    /// Where outsiders reach this plane's revocation lists and OCSP responder, as it is written
    /// into new certificates: `http://host[:port][/path]`, what leads to `/status` on the doors for
    /// people or devices. Empty: certificates name no such address.
    pub status_url: String,
    /// Revocation lists of each CA among which its certificates are dealt out: 1, 2, 4 up to 256.
    pub crl_shards: u16,
    /// Keys whose private half is known, one a line: the SHA-256 of the SubjectPublicKeyInfo in hex.
    /// None of them is certified, and whoever shows one is told of. Read again when it changes.
    pub known_bad_keys_file: PathBuf,
    /// RSA keys of Debian's broken OpenSSL, as the lists of openssl-blacklist have them. Likewise.
    pub debian_weak_keys_file: PathBuf,
    /// Certificates that one device or one service may have in an hour; ten times as many for all
    /// of a CA in a minute are told of, and not refused. 0: no end to it.
    pub certificates_per_hour: u32,
}

/// `[signer]`: where the keys of the CAs are. All empty: in sealed files below `data_dir`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignerConfig {
    /// The library of a PKCS #11 token, such as `/usr/lib/softhsm/libsofthsm2.so`. From the first
    /// start on: keys that are in files do not move into a token, a rollover makes the next there.
    pub pkcs11_module: PathBuf,
    /// The token's label.
    pub pkcs11_token: String,
    /// A file of mode 0600 with the user's PIN in one line.
    pub pkcs11_pin_file: PathBuf,
}

impl IdentityConfig {
    /// How the door for devices speaks TLS.
    pub(crate) fn tls_terms(&self) -> Terms {
        Terms {
            at: DoorName::Devices,
            tls_1_2: self.tls_1_2,
            record_bytes_max: self.record_bytes_max,
            tickets: None,
        }
    }
}

impl SignerConfig {
    #[must_use]
    pub fn token(&self) -> Option<signer::TokenPlace> {
        (!self.pkcs11_module.as_os_str().is_empty()).then(|| signer::TokenPlace {
            module: self.pkcs11_module.clone(),
            label: self.pkcs11_token.clone(),
            pin_file: self.pkcs11_pin_file.clone(),
        })
    }

    fn is_half(&self) -> bool {
        let empty = [
            self.pkcs11_module.as_os_str().is_empty(),
            self.pkcs11_token.is_empty(),
            self.pkcs11_pin_file.as_os_str().is_empty(),
        ];
        empty.contains(&true) && empty.contains(&false)
    }
}

impl Listen {
    /// Those of `proxies`, which were checked.
    #[must_use]
    pub fn proxies(&self) -> Arc<Proxies> {
        Arc::new(Proxies::new(&self.proxies).unwrap_or_default())
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let doors = [self.people, self.devices, self.mqtt];
        let doors: Vec<SocketAddr> = doors.into_iter().chain(self.alpn.address).collect();
        for (i, door) in doors.iter().enumerate() {
            if door.port() != 0 && doors.iter().skip(i + 1).any(|other| other == door) {
                let rule = format!("two doors share {door}; give each its own");
                return Err(("listen", rule));
            }
        }
        if self.proxies.len() > 64 {
            return Err(("listen.proxies", "64 at most".into()));
        }
        if let Err(entry) = Proxies::new(&self.proxies) {
            let rule = format!(
                "{entry:?} is no address and no network; write 192.0.2.7 or 192.0.2.0/24, with no bit \
                 set behind the prefix"
            );
            return Err(("listen.proxies", rule));
        }
        if self.certificates.len() > IMPORTED_MAX {
            return Err(("listen.certificates", "32 at most".into()));
        }
        for certificate in &self.certificates {
            certificate
                .check()
                .map_err(|rule| ("listen.certificates", rule))?;
        }
        self.acme.check(is_dns_name)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/fleetward"),
            log_dir: PathBuf::new(),
            seal_key_file: PathBuf::new(),
            tenant: "default".into(),
            trust_domain: "fleetward.internal".into(),
            server_names: vec!["localhost".into(), "127.0.0.1".into()],
            simulated: false,
            listen: Listen::default(),
            gateway: GatewayConfig::default(),
            access: AccessConfig::default(),
            identity: IdentityConfig::default(),
            signer: SignerConfig::default(),
            inventory: InventoryConfig::default(),
            response: ResponseConfig::default(),
            brokers: BrokersConfig::default(),
            forward: ForwardConfig::default(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            people: SocketAddr::from(([127, 0, 0, 1], 8443)),
            people_tls_1_2: false,
            devices: SocketAddr::from(([127, 0, 0, 1], 8444)),
            mqtt: SocketAddr::from(([127, 0, 0, 1], 8883)),
            alpn: AlpnConfig::default(),
            proxies: Vec::new(),
            certificates: Vec::new(),
            acme: AcmeSettings::default(),
        }
    }
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self {
            tls_1_2: true,
            record_bytes_max: alpn::RECORD_BYTES,
            service_days: 90,
            status_url: String::new(),
            crl_shards: 1,
            known_bad_keys_file: PathBuf::new(),
            debian_weak_keys_file: PathBuf::new(),
            certificates_per_hour: 60,
        }
    }
}

/// Why a configuration is refused; the text names the key and what to write.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {0}")]
pub struct ConfigError(String);

/// Keys that the environment may set, in the order they are shown. `response` and `brokers` have
/// their own.
const KEYS: [&[&str]; 38] = [
    &["data_dir"],
    &["log_dir"],
    &["seal_key_file"],
    &["tenant"],
    &["trust_domain"],
    &["listen", "people"],
    &["listen", "people_tls_1_2"],
    &["listen", "devices"],
    &["listen", "mqtt"],
    &["listen", "alpn", "address"],
    &["listen", "alpn", "tls_1_2"],
    &["listen", "alpn", "record_bytes_max"],
    &["listen", "alpn", "resumption"],
    &["listen", "alpn", "websocket"],
    &["gateway", "shards"],
    &["gateway", "durability"],
    &["gateway", "tls_1_2"],
    &["gateway", "record_bytes_max"],
    &["gateway", "resumption"],
    &["gateway", "packet_bytes_max"],
    &["gateway", "handshakes_max"],
    &["gateway", "connections_max"],
    &["gateway", "device_defender"],
    &["gateway", "device_defender_seconds_min"],
    &["signer", "pkcs11_module"],
    &["signer", "pkcs11_token"],
    &["signer", "pkcs11_pin_file"],
    &["identity", "tls_1_2"],
    &["identity", "record_bytes_max"],
    &["identity", "service_days"],
    &["identity", "status_url"],
    &["identity", "crl_shards"],
    &["identity", "known_bad_keys_file"],
    &["identity", "debian_weak_keys_file"],
    &["identity", "certificates_per_hour"],
    &["inventory", "addresses_days"],
    &["inventory", "peers_days"],
    &["inventory", "silent_hours"],
];

/// Every key, with the variable that sets it.
fn keys() -> impl Iterator<Item = (String, Vec<&'static str>)> {
    let own = KEYS.iter().map(|path| path.to_vec());
    let response = response::KEYS.iter().map(|key| vec!["response", key]);
    let brokers = settings::KEYS.iter().map(|key| vec!["brokers", key]);
    let forward = forward::KEYS.iter().map(|key| vec!["forward", key]);
    let access = access::KEYS.iter().map(|key| vec!["access", key]);
    let provider = access::PROVIDER_KEYS.iter();
    let provider = provider.map(|key| vec!["access", "provider", key]);
    own.chain(access)
        .chain(provider)
        .chain(response)
        .chain(brokers)
        .chain(forward)
        .map(|path| {
            let variable = format!("FLEETWARD_{}", path.join("_").to_uppercase());
            (variable, path)
        })
}

impl Config {
    /// Reads the file (if one is named) and the environment, fills in the paths, checks all.
    ///
    /// # Errors
    /// Names the file, the line or the variable, and what to write instead.
    pub fn load(
        file: Option<&Path>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let text = match file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| ConfigError(format!("{} cannot be read: {e}", path.display())))?,
            None => String::new(),
        };
        Self::from_text(&text, environment)
    }

    /// As [`Config::load`], from the file's text.
    ///
    /// # Errors
    /// As there.
    pub fn from_text(
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut table: toml::Table = text.parse().map_err(|e| ConfigError(format!("{e}")))?;
        for (variable, path) in keys() {
            if let Some(value) = environment(&variable) {
                set(&mut table, &path, &value)
                    .map_err(|e| ConfigError(format!("{variable}: {e}")))?;
            }
        }
        // A fault of the file is shown with its line; only the environment can cause another.
        let mut config: Self = toml::from_str(text)
            .and_then(|_: Self| table.try_into())
            .map_err(|e: toml::de::Error| ConfigError(e.to_string().trim_end().to_owned()))?;
        config.complete();
        config.check()?;
        Ok(config)
    }

    fn complete(&mut self) {
        if self.log_dir.as_os_str().is_empty() {
            let mut beside = self.data_dir.clone().into_os_string();
            beside.push("-log");
            self.log_dir = beside.into();
        }
        if self.seal_key_file.as_os_str().is_empty() {
            self.seal_key_file = self.data_dir.join("seal.key");
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, rule: &str| Err(ConfigError(format!("{key}: {rule}")));
        if model::TenantId::new(&self.tenant).is_err() {
            return refuse(
                "tenant",
                "use letters, digits, dot, dash and underscore, 64 at most",
            );
        }
        if let Err((key, rule)) = self.access.check() {
            return refuse(key, &rule);
        }
        if !is_dns_name(&self.trust_domain) {
            return refuse(
                "trust_domain",
                "use a lower-case DNS name, such as fleet.example.com",
            );
        }
        if self.server_names.is_empty() || self.server_names.len() > 32 {
            return refuse(
                "server_names",
                "name this plane once at least and 32 times at most",
            );
        }
        for name in &self.server_names {
            if name.parse::<std::net::IpAddr>().is_err() && !is_dns_name(name) {
                return refuse(
                    "server_names",
                    &format!("{name:?} is no DNS name or IP address"),
                );
            }
        }
        self.listen
            .check()
            .or_else(|(key, rule)| refuse(key, &rule))?;
        self.check_status()
            .or_else(|(key, rule)| refuse(key, &rule))?;
        let ranges = self.gateway.ranges().into_iter().chain(self.other_ranges());
        for (key, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return refuse(key, &format!("{value} is not in {low} to {high}"));
            }
        }
        if self.signer.is_half() {
            return refuse(
                "signer",
                "a token needs pkcs11_module, pkcs11_token and pkcs11_pin_file; give all or none",
            );
        }
        let sections = (self.response.check())
            .and_then(|()| self.forward.check())
            .and_then(|()| self.brokers.check());
        if let Err((key, rule)) = sections {
            return refuse(key, &rule);
        }
        if self.log_dir.starts_with(&self.data_dir) {
            return refuse(
                "log_dir",
                "must not lie inside data_dir: a restored backup would roll back both",
            );
        }
        Ok(())
    }

    fn other_ranges(&self) -> [(&'static str, u64, u64, u64); 8] {
        let records = |key, bytes: usize| (key, bytes as u64, 512, 16_384);
        [
            records("gateway.record_bytes_max", self.gateway.record_bytes_max),
            records("identity.record_bytes_max", self.identity.record_bytes_max),
            records(
                "listen.alpn.record_bytes_max",
                self.listen.alpn.record_bytes_max,
            ),
            (
                "identity.service_days",
                u64::from(self.identity.service_days),
                1,
                397,
            ),
            (
                "identity.certificates_per_hour",
                u64::from(self.identity.certificates_per_hour),
                0,
                1_000_000,
            ),
            (
                "inventory.addresses_days",
                u64::from(self.inventory.addresses_days),
                1,
                3650,
            ),
            (
                "inventory.peers_days",
                u64::from(self.inventory.peers_days),
                1,
                3650,
            ),
            (
                "inventory.silent_hours",
                u64::from(self.inventory.silent_hours),
                1,
                8760,
            ),
        ]
    }

    /// The log's name: the first line of each checkpoint (C2SP tlog-checkpoint `origin`).
    #[must_use]
    pub fn log_origin(&self) -> String {
        format!("{}/{}/audit", self.trust_domain, self.tenant)
    }

    #[must_use]
    pub fn socket_file(&self) -> PathBuf {
        self.data_dir.join("fleetward.sock")
    }

    #[must_use]
    pub fn admin_link_file(&self) -> PathBuf {
        self.data_dir.join("admin-link")
    }

    fn check_status(&self) -> Result<(), (&'static str, String)> {
        let Err(rule) = self.status_point() else {
            return Ok(());
        };
        let key = match rule {
            identity::InvalidStatusPoint::Base => "identity.status_url",
            identity::InvalidStatusPoint::Shards => "identity.crl_shards",
        };
        Err((key, rule.to_string()))
    }

    /// What new certificates say of where their status is told.
    ///
    /// # Errors
    /// The address or the number of lists cannot be.
    pub fn status_point(
        &self,
    ) -> Result<Option<identity::StatusPoint>, identity::InvalidStatusPoint> {
        let (url, shards) = (&self.identity.status_url, self.identity.crl_shards);
        // The number is checked also where nothing is written.
        let base = if url.is_empty() { "http://unset" } else { url };
        let point = identity::StatusPoint::new(base, shards)?;
        Ok((!url.is_empty()).then_some(point))
    }

    #[must_use]
    pub fn service_lifetime(&self) -> Duration {
        Duration::from_secs(u64::from(self.identity.service_days) * 86_400)
    }

    /// Each key with its value, its variable and what it means: `fleetward config explain`.
    #[must_use]
    pub fn explain(&self) -> String {
        let live = |path: &[&str]| -> String {
            match path {
                ["data_dir"] => format!("{:?}", self.data_dir),
                ["log_dir"] => format!("{:?}", self.log_dir),
                ["seal_key_file"] => format!("{:?}", self.seal_key_file),
                ["tenant"] => format!("{:?}", self.tenant),
                ["trust_domain"] => format!("{:?}", self.trust_domain),
                ["listen", "people"] => format!("\"{}\"", self.listen.people),
                ["listen", "people_tls_1_2"] => self.listen.people_tls_1_2.to_string(),
                ["listen", "devices"] => format!("\"{}\"", self.listen.devices),
                ["listen", "mqtt"] => format!("\"{}\"", self.listen.mqtt),
                ["listen", "alpn", key] => self.listen.alpn.live(key),
                ["gateway", "shards"] => self.gateway.shards.to_string(),
                ["gateway", "durability"] => format!("{:?}", self.gateway.durability.name()),
                ["gateway", "tls_1_2"] => self.gateway.tls_1_2.to_string(),
                ["gateway", "record_bytes_max"] => self.gateway.record_bytes_max.to_string(),
                ["gateway", "resumption"] => self.gateway.resumption.to_string(),
                ["gateway", "packet_bytes_max"] => self.gateway.packet_bytes_max.to_string(),
                ["gateway", "handshakes_max"] => self.gateway.handshakes_max.to_string(),
                ["gateway", "connections_max"] => self.gateway.connections_max.to_string(),
                ["gateway", "device_defender"] => self.gateway.device_defender.to_string(),
                ["gateway", "device_defender_seconds_min"] => {
                    self.gateway.device_defender_seconds_min.to_string()
                }
                ["signer", "pkcs11_module"] => format!("{:?}", self.signer.pkcs11_module),
                ["signer", "pkcs11_token"] => format!("{:?}", self.signer.pkcs11_token),
                ["signer", "pkcs11_pin_file"] => format!("{:?}", self.signer.pkcs11_pin_file),
                ["identity", "tls_1_2"] => self.identity.tls_1_2.to_string(),
                ["identity", "record_bytes_max"] => self.identity.record_bytes_max.to_string(),
                ["identity", "service_days"] => self.identity.service_days.to_string(),
                ["identity", "status_url"] => format!("{:?}", self.identity.status_url),
                ["identity", "crl_shards"] => self.identity.crl_shards.to_string(),
                ["identity", "known_bad_keys_file"] => {
                    format!("{:?}", self.identity.known_bad_keys_file)
                }
                ["identity", "debian_weak_keys_file"] => {
                    format!("{:?}", self.identity.debian_weak_keys_file)
                }
                ["identity", "certificates_per_hour"] => {
                    self.identity.certificates_per_hour.to_string()
                }
                ["inventory", "addresses_days"] => self.inventory.addresses_days.to_string(),
                ["inventory", "peers_days"] => self.inventory.peers_days.to_string(),
                ["inventory", "silent_hours"] => self.inventory.silent_hours.to_string(),
                ["response", key] => self.response.live(key),
                ["brokers", key] => self.brokers.live(key),
                ["forward", key] => self.forward.live(key),
                ["access", key] => self.access.live(key),
                ["access", "provider", key] => self.access.live_provider(key),
                _ => String::new(),
            }
        };
        let mut text = format!("server_names = {:?}\n", self.server_names);
        text.push_str(&format!("listen.proxies = {:?}\n", self.listen.proxies));
        let chains = self.listen.certificates.iter().map(|one| &one.chain_file);
        let chains: Vec<_> = chains.collect();
        text.push_str(&format!("listen.certificates = {chains:?}\n"));
        let acme = &self.listen.acme;
        text.push_str(&format!("listen.acme.directory = {:?}\n", acme.directory));
        text.push_str(&format!("listen.acme.names = {:?}\n", acme.names));
        text.push_str(&format!("response.mail_to = {:?}\n", self.response.mail_to));
        let (up, down) = (&self.forward.up, &self.forward.down);
        text.push_str(&format!("forward.up = {up:?}\nforward.down = {down:?}\n"));
        let roles = &self.access.provider.roles;
        text.push_str(&format!("access.provider.roles = {roles:?}\n"));
        for (variable, path) in keys() {
            text.push_str(&format!(
                "{} = {}    # or {variable}\n",
                path.join("."),
                live(&path)
            ));
        }
        text
    }
}

/// Puts an environment value where its key stands, read as TOML if it is a number or a boolean.
fn set(table: &mut toml::Table, path: &[&str], value: &str) -> Result<(), String> {
    let [parents @ .., key] = path else {
        return Ok(());
    };
    let mut at = table;
    for parent in parents {
        at = at
            .entry((*parent).to_owned())
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("[{parent}] is not a section in the file"))?;
    }
    let value = match value.parse::<i64>() {
        Ok(number) => toml::Value::Integer(number),
        Err(_) => match value {
            "true" => toml::Value::Boolean(true),
            "false" => toml::Value::Boolean(false),
            text => toml::Value::String(text.to_owned()),
        },
    };
    at.insert((*key).to_owned(), value);
    Ok(())
}

fn is_dns_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        Config::from_text(text, &|_| None)
    }

    #[test]
    fn an_empty_file_is_a_whole_configuration() {
        let config = load("").unwrap();
        assert_eq!(config.log_dir, PathBuf::from("/var/lib/fleetward-log"));
        assert_eq!(
            config.seal_key_file,
            PathBuf::from("/var/lib/fleetward/seal.key")
        );
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for (text, said) in [
            ("colour = 1", "unknown field `colour`"),
            ("[gateway]\nshard = 1", "unknown field `shard`"),
            (
                "[gateway]\nshards = 0",
                "gateway.shards: 0 is not in 1 to 64",
            ),
            (
                "[gateway]\ndurability = \"maybe\"",
                "unknown variant `maybe`",
            ),
            ("tenant = \"a/b\"", "tenant:"),
            ("trust_domain = \"Über\"", "trust_domain:"),
            ("server_names = []", "server_names:"),
            ("server_names = [\"a b\"]", "server_names:"),
            (
                "[listen]\npeople = \"127.0.0.1:8883\"",
                "two doors share 127.0.0.1:8883",
            ),
            ("[listen]\nmqtt = \"here\"", "invalid socket address"),
            (
                "[listen]\nproxies = [\"192.0.2.1/24\"]",
                "listen.proxies: \"192.0.2.1/24\" is no address",
            ),
            (
                "[listen]\nalpn = { address = \"127.0.0.1:8444\" }",
                "two doors share 127.0.0.1:8444",
            ),
            (
                "data_dir = \"/x\"\nlog_dir = \"/x/log\"",
                "must not lie inside data_dir",
            ),
            ("tenant = \n", "line 1"),
            (
                "[response]\nwebhook_url = \"http://example.com/\"",
                "response.webhook_url: write https://",
            ),
            (
                "[response]\nwebhook_url = \"https://example.com/\"",
                "response.webhook_secret_file: name a file",
            ),
            (
                "[response]\nmail_smtp = \"mail.example.com\"",
                "response.mail_smtp: write smtps://",
            ),
            (
                "[response]\nmail_smtp = \"smtps://mail.example.com\"\nmail_to = [\"a@b.example\"]",
                "response.mail_from and response.mail_to: \"\" is no mail address",
            ),
            (
                "[[listen.certificates]]\nchain_file = \"a\"",
                "listen.certificates: name a chain_file and a key_file",
            ),
            (
                "[listen.acme]\ndirectory = \"http://ca.example/dir\"",
                "listen.acme.directory: write https://",
            ),
            (
                "[listen.acme]\ndirectory = \"https://ca.example/dir\"",
                "listen.acme.terms_agreed: read the CA's terms",
            ),
            (
                "[listen.acme]\ndirectory = \"https://ca.example/dir\"\nterms_agreed = true\n\
                 names = [\"*.example.com\"]",
                "listen.acme.names: \"*.example.com\" is no DNS name",
            ),
            (
                "[listen.acme]\ndirectory = \"https://ca.example/dir\"\nterms_agreed = true\n\
                 names = [\"a.example.com\"]\nchallenge_door = \"mqtt\"",
                "listen.acme.challenge_door: write people, devices or alpn",
            ),
            (
                "[brokers]\nemqx_url = \"http://emqx.example/\"",
                "brokers.emqx_url: write https://",
            ),
            (
                "[brokers]\naws_iot_region = \"eu-central-1\"",
                "brokers.aws_iot_credentials_file: name a file",
            ),
            (
                "[brokers]\naws_iot_region = \"EU/west\"",
                "brokers.aws_iot_region: write a region",
            ),
            (
                "[access]\nconsole_url = \"http://c.example\"",
                "access.console_url: write https://host",
            ),
            (
                "[access]\nconsole_url = \"https://c.example/console\"",
                "access.console_url: write https://host",
            ),
            (
                "[access.provider]\nissuer = \"http://login.example\"",
                "access.provider.issuer: write https://",
            ),
            (
                "[access.provider]\nissuer = \"https://login.example\"",
                "access.provider.client_id: write by which name",
            ),
            (
                "[access.provider]\nissuer = \"https://login.example\"\nclient_id = \"f\"",
                "access.provider.roles: name at least one group",
            ),
            (
                "[access.provider]\nissuer = \"https://login.example\"\nclient_id = \"f\"\n\
                 roles = { ops = [\"break-glass\"] }",
                "access.provider.roles: \"break-glass\" is no role",
            ),
            (
                "[response]\ntell_severity_min = \"loud\"",
                "response.tell_severity_min: write low",
            ),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?} was refused with {error:?}");
        }
    }

    #[test]
    fn explain_shows_no_path_of_a_webhook() {
        let text = "[response]\nwebhook_url = \"https://hooks.example.com/T0/s3cret?k=s3cret\"\n\
                    webhook_secret_file = \"/etc/fleetward/webhook\"";
        let shown = load(text).unwrap().explain();
        assert!(shown.contains("https://hooks.example.com/…"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn the_environment_wins_and_is_named_in_explain() {
        let config = Config::from_text("[gateway]\nshards = 2", &|name| {
            (name == "FLEETWARD_GATEWAY_SHARDS").then(|| "3".to_owned())
        })
        .unwrap();
        assert_eq!(config.gateway.shards, 3);
        assert!(
            config
                .explain()
                .contains("gateway.shards = 3    # or FLEETWARD_GATEWAY_SHARDS")
        );
    }
}
