//! The configuration file: one table of settings, unknown keys refused, all of it checked before
//! anything is opened.

use anyhow::{Context, bail, ensure};
use model::{DeviceId, ProductId};
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A configuration is small; whatever is larger is another file.
const FILE_BYTES_MAX: u64 = 256 * 1024;
const PUBLISH_MAX: usize = 32;

/// The file as it stands. Relative paths are relative to its folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    device: String,
    product: String,
    state_dir: PathBuf,
    roots_file: PathBuf,
    idevid_certificate_file: PathBuf,
    idevid_key_file: PathBuf,
    plane: PlaneFile,
    #[serde(default = "sixty")]
    report_seconds: u64,
    #[serde(default)]
    firmware_file: Option<PathBuf>,
    #[serde(default)]
    firmware_version: Option<String>,
    #[serde(default)]
    enforce_locally: bool,
    #[serde(default)]
    enforce_destinations: bool,
    #[serde(default)]
    source_address: Option<IpAddr>,
    #[serde(default = "five_minutes")]
    reconnect_seconds_max: u64,
    #[serde(default = "keep_alive")]
    keep_alive_seconds: u16,
    #[serde(default = "a_thousand")]
    queue_messages_max: usize,
    #[serde(default)]
    renew_seconds_max: Option<u64>,
    #[serde(default)]
    publish: Vec<PublishFile>,
    #[serde(default)]
    sources: Sources,
    #[serde(default)]
    dns: Option<DnsFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlaneFile {
    est: String,
    mqtt: String,
    #[serde(default)]
    server_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishFile {
    topic: String,
    every_seconds: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DnsFile {
    upstream: SocketAddr,
    #[serde(default = "stub_address")]
    listen: SocketAddr,
}

/// Where signals are read, where it should not be chosen by trying.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sources {
    pub listening: ListeningSource,
    pub destinations: DestinationSource,
    pub traffic: TrafficSource,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListeningSource {
    #[default]
    Auto,
    SockDiag,
    Proc,
    Off,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationSource {
    #[default]
    Auto,
    Nft,
    Conntrack,
    SockDiag,
    Off,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrafficSource {
    #[default]
    Auto,
    Off,
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub device: DeviceId,
    /// What the device is; for its own status only, the plane knows better.
    pub product: ProductId,
    pub state_dir: PathBuf,
    pub roots_file: PathBuf,
    pub idevid_certificate_file: PathBuf,
    pub idevid_key_file: PathBuf,
    pub est: Address,
    pub mqtt: Address,
    pub report_every: Duration,
    pub firmware_file: Option<PathBuf>,
    pub firmware_version: Option<String>,
    /// In quarantine, drop in this device too what does not go to the plane.
    pub enforce_locally: bool,
    /// Drop in this device what its policies do not let it send.
    pub enforce_destinations: bool,
    /// The address connections come from; only what is bound to it is then reported.
    pub source_address: Option<IpAddr>,
    /// The longest pause between two attempts.
    pub reconnect_max: Duration,
    pub keep_alive_seconds: u16,
    /// Renew at the latest this long after the start or the last renewal.
    pub renew_seconds_max: Option<Duration>,
    pub queue_messages_max: usize,
    pub publish: Vec<Duty>,
    pub sources: Sources,
    pub dns: Option<Dns>,
}

/// A door of the plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address.
    pub host: String,
    pub port: u16,
    /// What the door's certificate must bear.
    pub server_name: String,
}

/// What is published again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    pub topic: String,
    pub every: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dns {
    pub upstream: SocketAddr,
    pub listen: SocketAddr,
}

impl Config {
    /// # Errors
    /// Names the file, and the key that is wrong and how to put it right.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let length = std::fs::metadata(path)
            .with_context(|| format!("{} cannot be read", path.display()))?
            .len();
        ensure!(
            length <= FILE_BYTES_MAX,
            "{} is larger than 256 KiB: is it the configuration?",
            path.display()
        );
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        Self::parse(&text, folder).with_context(|| format!("{} is refused", path.display()))
    }

    fn parse(text: &str, folder: &Path) -> anyhow::Result<Self> {
        let file: File = toml::from_str(text)?;
        let device = DeviceId::new(&file.device).context("device")?;
        ensure!(
            (1..=86_400).contains(&file.report_seconds),
            "report_seconds must be 1 to 86400"
        );
        ensure!(
            (1..=86_400).contains(&file.reconnect_seconds_max),
            "reconnect_seconds_max must be 1 to 86400"
        );
        ensure!(
            (5..=1_200).contains(&file.keep_alive_seconds),
            "keep_alive_seconds must be 5 to 1200"
        );
        ensure!(
            (1..=100_000).contains(&file.queue_messages_max),
            "queue_messages_max must be 1 to 100000"
        );
        ensure!(
            file.renew_seconds_max.is_none_or(|seconds| seconds > 0),
            "renew_seconds_max must be 1 or more"
        );
        if let Some(version) = &file.firmware_version {
            ensure!(
                (1..=128).contains(&version.len()) && !version.chars().any(char::is_control),
                "firmware_version must be 1 to 128 bytes of printable text"
            );
        }
        ensure!(
            file.publish.len() <= PUBLISH_MAX,
            "more than {PUBLISH_MAX} [[publish]] tables"
        );
        let server_name = file.plane.server_name.as_deref();
        Ok(Self {
            product: ProductId::new(&file.product).context("product")?,
            state_dir: folder.join(file.state_dir),
            roots_file: folder.join(file.roots_file),
            idevid_certificate_file: folder.join(file.idevid_certificate_file),
            idevid_key_file: folder.join(file.idevid_key_file),
            est: Address::parse(&file.plane.est, server_name).context("plane.est")?,
            mqtt: Address::parse(&file.plane.mqtt, server_name).context("plane.mqtt")?,
            report_every: Duration::from_secs(file.report_seconds),
            firmware_file: file.firmware_file.map(|path| folder.join(path)),
            firmware_version: file.firmware_version,
            enforce_locally: file.enforce_locally,
            enforce_destinations: file.enforce_destinations,
            source_address: file.source_address,
            reconnect_max: Duration::from_secs(file.reconnect_seconds_max),
            keep_alive_seconds: file.keep_alive_seconds,
            renew_seconds_max: file.renew_seconds_max.map(Duration::from_secs),
            queue_messages_max: file.queue_messages_max,
            publish: file
                .publish
                .iter()
                .map(|one| Duty::check(one, &device))
                .collect::<Result<_, _>>()?,
            sources: file.sources,
            dns: file.dns.map(|dns| Dns {
                upstream: dns.upstream,
                listen: dns.listen,
            }),
            device,
        })
    }

    /// Where reports go.
    pub fn report_topic(&self) -> String {
        format!("$fleetward/devices/{}/report", self.device)
    }

    /// Where the plane says how far this device is cut off.
    pub fn containment_topic(&self) -> String {
        format!("$fleetward/devices/{}/containment", self.device)
    }
}

impl Address {
    /// `host:port`, `[v6]:port`.
    fn parse(text: &str, server_name: Option<&str>) -> anyhow::Result<Self> {
        let (host, port) = text
            .rsplit_once(':')
            .with_context(|| format!("{text:?} must be host:port"))?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        ensure!(!host.is_empty(), "{text:?} has no host");
        let port: u16 = port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .with_context(|| format!("{text:?} must end in a port, 1 to 65535"))?;
        let server_name = server_name.unwrap_or(host);
        if rustls_pki_types::ServerName::try_from(server_name).is_err() {
            bail!("{server_name:?} is neither a DNS name nor an IP address");
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            server_name: server_name.to_owned(),
        })
    }
}

impl Duty {
    fn check(file: &PublishFile, device: &DeviceId) -> anyhow::Result<Self> {
        let topic = file.topic.replace("{device}", device.as_str());
        ensure!(
            mqtt::is_topic(&topic) && !topic.starts_with('$'),
            "publish.topic {:?} is not a topic a device may own",
            file.topic
        );
        ensure!(
            (1..=86_400).contains(&file.every_seconds),
            "publish.every_seconds must be 1 to 86400"
        );
        Ok(Self {
            topic,
            every: Duration::from_secs(file.every_seconds),
        })
    }
}

const fn sixty() -> u64 {
    60
}

const fn five_minutes() -> u64 {
    300
}

const fn keep_alive() -> u16 {
    60
}

const fn a_thousand() -> usize {
    1000
}

fn stub_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 53], 53))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"
        device = "cam-1"
        product = "camera"
        state_dir = "state"
        roots_file = "/etc/roots.pem"
        idevid_certificate_file = "idevid.pem"
        idevid_key_file = "idevid.key"
        plane = { est = "fleet.example.com:8444", mqtt = "[2001:db8::1]:8883" }
    "#;

    fn read(extra: &str) -> anyhow::Result<Config> {
        Config::parse(&format!("{extra}\n{LEAST}"), Path::new("/opt/agent"))
    }

    #[test]
    fn the_least_is_enough_and_paths_start_at_the_file() {
        let config = read("").unwrap();
        assert_eq!(config.state_dir, Path::new("/opt/agent/state"));
        assert_eq!(config.roots_file, Path::new("/etc/roots.pem"));
        assert_eq!(config.mqtt.host, "2001:db8::1");
        assert_eq!(config.report_every, Duration::from_secs(60));
        assert_eq!(config.report_topic(), "$fleetward/devices/cam-1/report");
    }

    #[test]
    fn a_duty_is_published_under_the_devices_own_name() {
        let with = |topic: &str| {
            let tables = format!("{LEAST}\n[[publish]]\ntopic = {topic:?}\nevery_seconds = 1");
            Config::parse(&tables, Path::new(""))
        };
        let duties = with("v1/camera/{device}/telemetry/status").unwrap().publish;
        assert_eq!(duties[0].topic, "v1/camera/cam-1/telemetry/status");
        assert!(with("v1/#").is_err());
        assert!(with("$fleetward/devices/{device}/report").is_err());
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for extra in [
            "colour = 1",
            "report_seconds = 0",
            "keep_alive_seconds = 1",
            "firmware_version = \"\"",
            "firmware_version = \"\\u001b[31m\"",
            "queue_messages_max = 0",
            "sources = { destinations = \"pcap\" }",
        ] {
            assert!(read(extra).is_err(), "{extra}");
        }
        for address in ["x", "x:0", ":1", "x:99999", "a b:1"] {
            assert!(Address::parse(address, None).is_err(), "{address}");
        }
    }
}
