//! `sim`: puts load on a broker, ours or another, and makes certificates for one.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use mqtt::{Qos, Version};
use sim::enroll::{Enrollment, Kind, enroll};
use sim::issue::{Issuer, Issuing};
use sim::load::{
    Arrivals, CertificateSet, Containments, Mark, Mode, Revocations, Settings, Withdrawn,
    make_certificates, run,
};
use sim::plane::Plane;
use sim::tls::{Groups, Versions};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Simulated devices: load for any broker of MQTT over mutual TLS")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put load on a broker and print one line of JSON
    Load(Box<Load>),
    /// Make a CA, a server certificate, and certificates for devices and a consumer
    MakeCerts(MakeCerts),
    /// Ask a CA for certificates, so many at a time, and print one line of JSON
    Issue(Issue),
    /// Live through a month of a fleet in minutes: who is found, who is left alone
    Month(Month),
    /// Forward messages in the clear and do nothing else: how little a broker can cost
    Forward(Forward),
    /// Give a fresh plane a fleet, enroll devices through EST, certify a consumer
    Enroll(Enroll),
}

#[derive(clap::Args)]
struct MakeCerts {
    /// Folder to write to; made if it is missing
    #[arg(long)]
    out: PathBuf,
    /// How many device certificates
    #[arg(long, default_value_t = 100)]
    devices: usize,
    /// Devices are PREFIX-00000, PREFIX-00001, ..
    #[arg(long, default_value = "device")]
    prefix: String,
    /// Days until they expire
    #[arg(long, default_value_t = 30)]
    days: u32,
}

#[derive(clap::Args)]
struct Forward {
    /// HOST:PORT to listen at; of this machine
    #[arg(long)]
    address: String,
}

#[derive(clap::Args)]
struct Enroll {
    /// The plane's local socket, fleetward.sock in its data folder
    #[arg(long)]
    socket: PathBuf,
    /// HOST:PORT of its EST door
    #[arg(long)]
    est: String,
    /// Name that the plane's certificate bears
    #[arg(long, default_value = "localhost")]
    server_name: String,
    /// Folder of the fleet to apply; it must know the service `consumer`
    #[arg(long)]
    fleet: PathBuf,
    /// What the devices are; a product of the fleet
    #[arg(long)]
    product: String,
    #[arg(long, default_value_t = 100)]
    devices: usize,
    /// Devices are PREFIX-00000, PREFIX-00001, ..
    #[arg(long, default_value = "device")]
    prefix: String,
    /// More devices, of another product and prefix
    #[arg(long, value_name = "PRODUCT:DEVICES:PREFIX", value_parser = kind)]
    also: Vec<Kind>,
    /// How many enroll at a time
    #[arg(long, default_value_t = 8)]
    threads: usize,
    /// Folder for ca.pem, consumer.pem and .key, and devices/; made if it is missing
    #[arg(long)]
    out: PathBuf,
}

#[derive(clap::Args)]
struct Issue {
    /// The local socket of a plane whose fleet has the service `consumer`
    #[arg(long, required_unless_present = "cfssl", conflicts_with = "cfssl")]
    socket: Option<PathBuf>,
    /// HOST:PORT of `cfssl serve`
    #[arg(long)]
    cfssl: Option<String>,
    /// Requests under way at a time
    #[arg(long, default_value_t = 8)]
    in_flight: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before that
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
}

#[derive(clap::Args)]
struct Month {
    #[arg(long, default_value_t = 10_000)]
    devices: usize,
    /// Days of benign life, before those with attacks
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(10..=90))]
    days: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Devices attacked in each way
    #[arg(long, default_value_t = 10)]
    attacks: usize,
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(clap::Args)]
struct Load {
    #[arg(long, value_enum, default_value_t = LoadMode::Publish)]
    mode: LoadMode,
    /// HOST:PORT
    #[arg(long)]
    address: String,
    /// Name that the server's certificate must bear; the host of the address if not given
    #[arg(long)]
    server_name: Option<String>,
    /// PEM file of trust anchors for the server
    #[arg(long)]
    ca: PathBuf,
    /// Folder of NAME.pem and NAME.key per device; NAME is the client id
    #[arg(long)]
    cert_dir: PathBuf,
    #[arg(long, default_value_t = 100)]
    devices: usize,
    /// Messages a second, all devices together
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// How they lie in time
    #[arg(long, value_enum, default_value_t = LoadArrivals::Even)]
    arrivals: LoadArrivals,
    #[arg(long, default_value_t = 128)]
    payload_bytes: usize,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
    /// Seconds that are measured
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before that
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Seconds to wait at the end for what is on its way
    #[arg(long, default_value_t = 10.0)]
    drain: f64,
    /// Where a device publishes; in fan-out, where the consumer's identity does
    #[arg(long, default_value = "t/{device}/up")]
    topic_template: String,
    /// What devices subscribe to in idle and fan-out mode
    #[arg(long, default_value = "t/{device}/down")]
    device_filter: String,
    /// PEM certificate of the consumer; its key is --consumer-key, or the same name with .key
    #[arg(long)]
    consumer_cert: Option<PathBuf>,
    #[arg(long)]
    consumer_key: Option<PathBuf>,
    /// Client id of the consumer
    #[arg(long, default_value = "consumer")]
    consumer_id: String,
    #[arg(long, default_value = "t/+/up")]
    consumer_filter: String,
    /// Give the consumer a persistent session
    #[arg(long)]
    consumer_persistent: bool,
    /// Connections being opened at a time
    #[arg(long, default_value_t = 64)]
    handshakes: usize,
    /// Messages in flight per sender
    #[arg(long, default_value_t = 64)]
    window: usize,
    #[arg(long, default_value_t = 300)]
    keep_alive: u16,
    #[arg(long, value_enum, default_value_t = Protocol::V5)]
    protocol: Protocol,
    /// Without TLS, to `sim forward` alone
    #[arg(long)]
    in_clear: bool,
    #[arg(long, value_enum, default_value_t = Tls::Both)]
    tls: Tls,
    /// Key exchange that is offered
    #[arg(long, value_enum, default_value_t = KeyExchange::All)]
    key_exchange: KeyExchange,
    /// Keep the tickets that the server gives, and come back by them
    #[arg(long)]
    resume: bool,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// In revoke and contain mode: the plane's local socket
    #[arg(long)]
    socket: Option<PathBuf>,
    /// In revoke mode: how many devices, one after the other while measuring
    #[arg(long, default_value_t = 100)]
    revocations: usize,
    /// In revoke mode instead: all that this CA issued, at half time; the SHA-256 of its name
    #[arg(long, value_name = "ISSUER", conflicts_with = "revocations")]
    revoke_ca: Option<String>,
    /// In contain mode: devices quarantined one by one
    #[arg(long, default_value_t = 100)]
    quarantines: usize,
    /// In contain mode: devices quarantined in one go after that
    #[arg(long, default_value_t = 100)]
    quarantines_together: usize,
    /// In contain mode: how often policy takes a product's messages away and gives them back
    #[arg(long, default_value_t = 5)]
    policy_changes: usize,
    /// In contain mode: the folder of the fleet in force
    #[arg(long)]
    fleet: Option<PathBuf>,
    /// In contain mode: the product whose policy changes; its devices are PRODUCT-00000, ..
    #[arg(long, default_value = "line")]
    product: String,
    /// In contain mode: at last, all of that product is quarantined in one act
    #[arg(long, action = clap::ArgAction::Set, default_value_t = false)]
    quarantine_product: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum LoadMode {
    Publish,
    Connect,
    Idle,
    Fanout,
    Revoke,
    Contain,
    Return,
}

#[derive(Clone, Copy, ValueEnum)]
enum LoadArrivals {
    /// Together at even distances: no two at once
    Even,
    /// Each device by a clock of its own
    Own,
    /// As even, but only at each millisecond
    Ticks,
}

#[derive(Clone, Copy, ValueEnum)]
enum Protocol {
    #[value(name = "3.1.1")]
    V311,
    #[value(name = "5")]
    V5,
}

#[derive(Clone, Copy, ValueEnum)]
enum Tls {
    Both,
    #[value(name = "1.2")]
    Only12,
    #[value(name = "1.3")]
    Only13,
}

#[derive(Clone, Copy, ValueEnum)]
enum KeyExchange {
    All,
    /// X25519MLKEM768
    Hybrid,
    /// X25519
    Classic,
}

/// The longest wait for an answer of the plane's API.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match act(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> Result<()> {
    match command {
        Command::Load(load) => {
            let report = run(&load.settings()?, &mut print_mark)?;
            println!("{}", serde_json::to_string(&report)?);
        }
        Command::Issue(wanted) => {
            let issuer = match (wanted.socket, wanted.cfssl) {
                (Some(socket), None) => Issuer::Plane {
                    socket,
                    service: "consumer".to_owned(),
                },
                (_, cfssl) => Issuer::Cfssl {
                    address: resolve(&cfssl.context("name --socket or --cfssl")?)?,
                },
            };
            let issuing = Issuing {
                issuer,
                in_flight: wanted.in_flight,
                warmup: seconds(wanted.warmup)?,
                measured: seconds(wanted.seconds)?,
            };
            let report = sim::issue::issue(&issuing, &mut print_mark)?;
            println!("{}", serde_json::to_string(&report)?);
        }
        Command::Forward(wanted) => sim::forward::serve(resolve(&wanted.address)?)?,
        Command::Month(wanted) => {
            let plan = sim::month::Plan {
                devices: wanted.devices,
                days: wanted.days,
                seed: wanted.seed,
                attacks_per_kind: wanted.attacks,
            };
            let outcome = sim::month::live(&plan, &mut |day| eprintln!("day {day}"))?;
            match wanted.output {
                Output::Table => print!("{}", outcome.table()),
                Output::Json => println!("{}", serde_json::to_string(&outcome)?),
            }
            anyhow::ensure!(outcome.is_kept(), "a promise was broken");
        }
        Command::Enroll(wanted) => {
            let mut kinds = vec![Kind {
                product: wanted.product,
                devices: wanted.devices,
                prefix: wanted.prefix,
            }];
            kinds.extend(wanted.also);
            let enrollment = Enrollment {
                plane: &Plane::new(&wanted.socket, PATIENCE),
                est: resolve(&wanted.est)?,
                server_name: &wanted.server_name,
                fleet: &wanted.fleet,
                kinds: &kinds,
                threads: wanted.threads,
                out: &wanted.out,
            };
            enroll(&enrollment, sim::now())?;
            let devices: usize = kinds.iter().map(|kind| kind.devices).sum();
            eprintln!("{}: {devices} devices enrolled", wanted.out.display());
        }
        Command::MakeCerts(wanted) => {
            let set = CertificateSet {
                folder: &wanted.out,
                devices: wanted.devices,
                prefix: &wanted.prefix,
                days: wanted.days,
            };
            make_certificates(&set, sim::now())?;
            eprintln!(
                "{}: ca, server, consumer and {} devices",
                wanted.out.display(),
                wanted.devices
            );
        }
    }
    Ok(())
}

/// On standard error, so that whoever measures the server knows when to look.
fn print_mark(mark: Mark) {
    match mark {
        Mark::Connected(devices) => eprintln!("connected {devices}"),
        Mark::MeasuringBegins => eprintln!("measuring"),
        Mark::MeasuringEnds => eprintln!("measured"),
    }
}

impl Load {
    fn settings(self) -> Result<Settings> {
        let address = resolve(&self.address)?;
        let host = self
            .address
            .rsplit_once(':')
            .map_or(self.address.as_str(), |(host, _)| host);
        let server_name = self
            .server_name
            .unwrap_or_else(|| host.trim_matches(['[', ']']).to_owned());
        let consumer = self.consumer_cert.map(|certificate| {
            let key = self
                .consumer_key
                .unwrap_or_else(|| certificate.with_extension("key"));
            (certificate, key)
        });
        let plane = match (self.mode, &self.socket) {
            (LoadMode::Revoke | LoadMode::Contain, None) => {
                anyhow::bail!("name the plane's local socket: --socket")
            }
            (_, socket) => socket.as_deref().map(|path| Plane::new(path, PATIENCE)),
        };
        let containments = match (self.mode, &plane) {
            (LoadMode::Contain, Some(plane)) => Some(Containments {
                plane: plane.clone(),
                alone: self.quarantines,
                together: self.quarantines_together,
                changes: self.policy_changes,
                fleet: self.fleet.context("name the fleet's folder: --fleet")?,
                prefix: format!("{}-", self.product),
                product: self.product,
                whole: self.quarantine_product,
            }),
            _ => None,
        };
        let revocations = match (self.mode, plane) {
            (LoadMode::Revoke, Some(plane)) => Some(Revocations {
                plane,
                what: match self.revoke_ca {
                    Some(issuer) => Withdrawn::Issuer(issuer),
                    None => Withdrawn::Devices(self.revocations),
                },
            }),
            _ => None,
        };
        Ok(Settings {
            mode: match self.mode {
                LoadMode::Publish => Mode::Publish,
                LoadMode::Connect => Mode::Connect,
                LoadMode::Idle => Mode::Idle,
                LoadMode::Fanout => Mode::Fanout,
                LoadMode::Revoke => Mode::Revoke,
                LoadMode::Contain => Mode::Contain,
                LoadMode::Return => Mode::Return,
            },
            address,
            server_name,
            ca: self.ca,
            cert_dir: self.cert_dir,
            devices: self.devices,
            rate: self.rate,
            arrivals: match self.arrivals {
                LoadArrivals::Even => Arrivals::Even,
                LoadArrivals::Own => Arrivals::Own,
                LoadArrivals::Ticks => Arrivals::Ticks,
            },
            payload_bytes: self.payload_bytes,
            qos: if self.qos == 0 {
                Qos::AtMostOnce
            } else {
                Qos::AtLeastOnce
            },
            warmup: seconds(self.warmup)?,
            measured: seconds(self.seconds)?,
            drain: seconds(self.drain)?,
            topic_template: self.topic_template,
            device_filter: self.device_filter,
            consumer,
            consumer_id: self.consumer_id,
            consumer_filter: self.consumer_filter,
            consumer_persistent: self.consumer_persistent,
            revocations,
            containments,
            handshakes: self.handshakes,
            window: self.window,
            keep_alive_seconds: self.keep_alive,
            version: match self.protocol {
                Protocol::V311 => Version::V311,
                Protocol::V5 => Version::V5,
            },
            in_clear: self.in_clear,
            tls: match self.tls {
                Tls::Both => Versions::Both,
                Tls::Only12 => Versions::Only12,
                Tls::Only13 => Versions::Only13,
            },
            groups: match self.key_exchange {
                KeyExchange::All => Groups::All,
                KeyExchange::Hybrid => Groups::Hybrid,
                KeyExchange::Classic => Groups::Classic,
            },
            resume: self.resume,
            seed: self.seed,
        })
    }
}

fn seconds(seconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds)
        .with_context(|| format!("{seconds} is not a number of seconds"))
}

fn kind(text: &str) -> Result<Kind> {
    let mut parts = text.splitn(3, ':');
    let (Some(product), Some(devices), Some(prefix)) = (parts.next(), parts.next(), parts.next())
    else {
        anyhow::bail!("{text:?} is not PRODUCT:DEVICES:PREFIX");
    };
    Ok(Kind {
        product: product.to_owned(),
        devices: devices.parse()?,
        prefix: prefix.to_owned(),
    })
}

fn resolve(address: &str) -> Result<SocketAddr> {
    address
        .to_socket_addrs()
        .with_context(|| format!("{address} is not HOST:PORT, or the host is unknown"))?
        .next()
        .with_context(|| format!("{address} has no address"))
}
