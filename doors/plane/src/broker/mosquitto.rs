//! Mosquitto, tried with 2.0.11. It takes both: a new revocation list (`crlfile`) and a SIGHUP keep
//! a certificate from coming back but leave its live session alone; the dynamic security plugin's
//! `disableClient` ends the live session, but is not asked when a certificate names the user
//! (`use_identity_as_username`), so alone it lets the device back in.
//!
//! Mosquitto reads a list in its own time, and a device that comes back before that has a session
//! again. So it is looked at from outside until the list is in force, and the session is ended once
//! more.

use super::link::{Link, Look, mutual};
use super::settings::BrokersConfig;
use crate::respond::notify::NotSent;
use crate::secret::trusted;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use tokio_rustls::TlsConnector;

const TOPIC: &str = "$CONTROL/dynamic-security/v1";
const ANSWERS: &str = "$CONTROL/dynamic-security/v1/response";

pub struct Mosquitto {
    crl_file: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    control: Option<Control>,
    look: Option<Look>,
}

/// What it is told of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// End its sessions and take it in no more.
    Out,
    /// End its sessions.
    Kick,
    /// Take it in again.
    In,
}

struct Control {
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Mosquitto {
    /// `None` where none is configured.
    pub fn new(config: &BrokersConfig) -> anyhow::Result<Option<Self>> {
        let file = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        let control = (!config.mosquitto_address.is_empty()).then(|| Control::new(config));
        let mosquitto = Self {
            crl_file: file(&config.mosquitto_crl_file),
            pid_file: file(&config.mosquitto_pid_file),
            control: control.transpose().context("brokers.mosquitto_address")?,
            look: (!config.mosquitto_fleet_address.is_empty())
                .then(|| look(config))
                .transpose()
                .context("brokers.mosquitto_fleet_address")?,
        };
        let is_any = mosquitto.crl_file.is_some() || mosquitto.control.is_some();
        Ok(is_any.then_some(mosquitto))
    }

    /// Whether it can be told to end a session.
    #[must_use]
    pub fn kicks(&self) -> bool {
        self.control.is_some()
    }

    #[must_use]
    pub fn takes_lists(&self) -> bool {
        self.crl_file.is_some()
    }

    /// Puts a new list in the old one's place and has Mosquitto read it. Blocks: for a thread that
    /// may.
    ///
    /// # Errors
    /// The file, or the process: the text says which and what to do.
    pub fn put_list(&self, pem: &str) -> anyhow::Result<()> {
        let Some(file) = &self.crl_file else {
            return Ok(());
        };
        let draft = file.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut new = std::fs::File::create(&draft)?;
            new.write_all(pem.as_bytes())?;
            new.sync_all()?;
            std::fs::rename(&draft, file)
        };
        write().with_context(|| {
            format!(
                "brokers.mosquitto_crl_file {} cannot be written; operator: give this program its \
                 folder",
                file.display()
            )
        })?;
        self.read_list()
    }

    /// Has Mosquitto read its list. One that comes while it reads an earlier one is lost, so this is
    /// asked again until the list is in force. Blocks.
    ///
    /// # Errors
    /// The process.
    pub fn read_list(&self) -> anyhow::Result<()> {
        match &self.pid_file {
            Some(file) => hang_up(file),
            None => Ok(()),
        }
    }

    /// Where the fleet's listener can be looked at.
    #[must_use]
    pub fn look(&self) -> Option<&Look> {
        self.look.as_ref()
    }

    /// Ends the sessions of a client and takes it in no more, or takes it in again.
    ///
    /// # Errors
    /// It is tried again, but for what it will never take.
    pub async fn tell(&self, command: Command, username: &str) -> Result<(), NotSent> {
        let Some(control) = &self.control else {
            return Err(NotSent::for_ever("no Mosquitto is configured any more"));
        };
        let commands: &[&str] = match command {
            Command::Out => &["disableClient"],
            Command::Kick => &["disableClient", "enableClient"],
            Command::In => &["enableClient"],
        };
        let answer = control.ask(commands, username).await;
        let answer = answer.map_err(|error| NotSent::for_now(format_args!("{error:#}")))?;
        match answer.pointer("/responses/0/error").and_then(Value::as_str) {
            None => Ok(()),
            Some("Client not found") => {
                tracing::info!(
                    "Mosquitto's dynamic security does not know {username}: it has no session to \
                     end by that name"
                );
                Ok(())
            }
            Some(error) => {
                let error: String = error.chars().take(200).collect();
                Err(NotSent::for_now(error.escape_default()))
            }
        }
    }
}

impl Control {
    fn new(config: &BrokersConfig) -> anyhow::Result<Self> {
        let (host, port) = split(&config.mosquitto_address)?;
        let roots = trusted("brokers.mosquitto_roots_file", &config.mosquitto_roots_file)?;
        let (certificate, key) = (
            &config.mosquitto_certificate_file,
            &config.mosquitto_key_file,
        );
        let tls = mutual(roots, certificate, key)
            .context("brokers.mosquitto_certificate_file, brokers.mosquitto_key_file")?;
        Ok(Self {
            name: ServerName::try_from(host.clone())?,
            host,
            port,
            tls,
        })
    }

    async fn ask(&self, commands: &[&str], username: &str) -> anyhow::Result<Value> {
        let address = (self.host.as_str(), self.port);
        let mut link = Link::open(address, &self.tls, &self.name, "fleetward-revocation").await?;
        let commands = commands.iter();
        let commands: Vec<Value> = commands
            .map(|command| json!({ "command": command, "username": username }))
            .collect();
        let payload = json!({ "commands": commands });
        let answer = link
            .ask(TOPIC, payload.to_string().as_bytes(), ANSWERS)
            .await?;
        serde_json::from_slice(&answer).context("its answer is not JSON")
    }
}

fn look(config: &BrokersConfig) -> anyhow::Result<Look> {
    let (host, port) = split(&config.mosquitto_fleet_address)?;
    let roots = trusted("brokers.mosquitto_roots_file", &config.mosquitto_roots_file)?;
    Look::new(host, port, roots)
}

/// `host:port`, both there.
pub fn split(address: &str) -> anyhow::Result<(String, u16)> {
    let read = || {
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty()).then(|| (host.to_owned(), port))
    };
    read().context("write host:port, as the broker's certificate names the host")
}

fn hang_up(pid_file: &Path) -> anyhow::Result<()> {
    let read = || {
        let text = std::fs::read_to_string(pid_file).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    };
    let Some(pid) = read() else {
        bail!(
            "brokers.mosquitto_pid_file {} names no process; operator: set pid_file in \
             mosquitto.conf to it",
            pid_file.display()
        );
    };
    kill_process(pid, Signal::HUP).with_context(|| {
        format!(
            "Mosquitto (process {pid:?}) does not take SIGHUP; operator: run it as the same user"
        )
    })
}
