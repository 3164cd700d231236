//! `fleetward serve` and `fleetward config explain`.

use crate::files;
use crate::place::Place;
use crate::show::{self, Output};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::pin::pin;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

const WORKERS: usize = 2;

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    place: Place,
    /// Write the addresses of the doors there as JSON once all of them answer.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Show each key with its value in force and the variable that sets it.
    #[command(after_help = "Examples:\n  fleetward config explain\n  \
        FLEETWARD_LISTEN_MQTT=0.0.0.0:8883 fleetward config explain --config plane.toml\n  \
        fleetward config explain --output json")]
    Explain {
        #[command(flatten)]
        place: Place,
    },
}

impl Serve {
    /// Runs a plane until SIGTERM or SIGINT; a second one ends it without draining.
    ///
    /// # Errors
    /// Why it does not start, or what ended it.
    pub fn run(&self) -> anyhow::Result<()> {
        log_to_stderr()?;
        let config = self.place.config()?;
        if let Some(file) = &self.ready_file {
            // One that an earlier run left would tell scripts a lie.
            match std::fs::remove_file(file) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    bail!("{} cannot be replaced: {e}", files::shown(file));
                }
                _ => {}
            }
        }
        let socket = config.socket_file();
        let (fail, failed) = oneshot::channel();
        let ready = |doors: plane::Addresses| {
            let Some(file) = &self.ready_file else { return };
            let text = json!({
                "people": doors.people.to_string(),
                "devices": doors.devices.to_string(),
                "mqtt": doors.mqtt.to_string(),
                "alpn": doors.alpn.map(|address| address.to_string()),
                "socket": socket.display().to_string(),
                "pid": std::process::id(),
            });
            if let Err(error) = files::replace(file, format!("{text}\n").as_bytes(), 0o644) {
                // Whoever waits for the file would wait for ever. Nobody listens if all ends already.
                let _ = fail.send(error);
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()
            .context("the system gives no threads")?;
        runtime.block_on(async {
            let (mut term, mut int) = (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            );
            let (stop, stopped) = oneshot::channel::<()>();
            let serving = pin!(plane::serve(config, ready, async { drop(stopped.await) }));
            let twice = pin!(async {
                tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
                drop(stop);
                tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            });
            tokio::select! {
                ended = serving => ended,
                Ok(error) = failed => Err(error),
                () = twice => bail!(
                    "stopped by a second signal before all was drained; nothing that was \
                     acknowledged is lost"
                ),
            }
        })
    }
}

impl ConfigVerb {
    /// # Errors
    /// What is wrong in the file or the environment.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        let Self::Explain { place } = self;
        let text = place.config()?.explain();
        if output == Output::Table {
            return text
                .lines()
                .try_for_each(|line| show::line(&shown_as_is(line)));
        }
        let keys = text.lines().filter_map(|line| {
            let (key, rest) = line.split_once(" = ")?;
            let (value, variable) = match rest.rsplit_once("    # or ") {
                Some((value, variable)) => (value, Some(variable)),
                None => (rest, None),
            };
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            Some((
                key.to_owned(),
                json!({ "value": value, "variable": variable }),
            ))
        });
        show::value(&Value::Object(keys.collect()))
    }
}

/// Texts in it are quoted and escaped already; a second pass would double their backslashes.
fn shown_as_is(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).collect()
}

fn log_to_stderr() -> anyhow::Result<()> {
    let filter = match std::env::var("FLEETWARD_LOG") {
        Ok(wanted) => EnvFilter::try_new(&wanted).with_context(|| {
            format!("FLEETWARD_LOG: {wanted:?} is no filter; write info, or plane=debug")
        })?,
        Err(_) => EnvFilter::new("info"),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|e| anyhow::anyhow!("the log cannot be set up: {e}"))
}
