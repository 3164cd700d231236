//! `fleetward gateway command …`: what devices are told, and how far it came with each.

use crate::ask;
use crate::client::{Ask, Client};
use crate::files;
use crate::identity::query;
use crate::place::Place;
use crate::show::{self, Column, Output, escaped};
use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use model::{CommandId, DeviceId, GroupId, ProductId};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const COMMANDS: &str = "/api/v1/gateway/commands";
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Between two looks at how far a command came.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Subcommand)]
pub enum CommandVerb {
    /// Tell devices something, each on its own topic of a channel.
    #[command(after_help = "Examples:\n  \
        fleetward gateway command send --channel camera-command --level restart --device cam-1 \\\n    \
        --payload '{}' --wait\n  \
        fleetward gateway command send --channel camera-command --level restart --group east \\\n    \
        --payload-file restart.json --expires-in 600 --dry-run\n  \
        jq -n '{on: true}' | fleetward gateway command send --channel camera-command --level light \\\n    \
        --product camera --payload-file /dev/stdin --yes\n\n\
        A device that is away gets it when it comes and subscribes, until its time is over. More \
        devices than the channel's fan_out_per_minute wait until a second person approves. For more \
        than one device a terminal is asked first; elsewhere say --yes.")]
    Send(Box<Send>),
    /// List commands, the newest first.
    #[command(after_help = "Examples:\n  fleetward gateway command list\n  \
        fleetward gateway command list --limit 10 --output json")]
    List {
        /// Begin after this one.
        #[arg(long, value_name = "COMMAND", value_parser = command)]
        after: Option<CommandId>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Show one command and how far it came with each device.
    #[command(
        after_help = "Examples:\n  fleetward gateway command show CMD-019abf2c3d4e5f60\n  \
        fleetward gateway command show CMD-019abf2c3d4e5f60 --state refused --output json"
    )]
    Show {
        #[arg(value_parser = command)]
        command: CommandId,
        /// Only devices in this state.
        #[arg(long, value_parser = ["waiting", "sent", "delivered", "answered", "expired", "refused", "cancelled"])]
        state: Option<String>,
        /// Begin after this device.
        #[arg(long, value_name = "DEVICE")]
        after: Option<DeviceId>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Take a command back from every device that was not sent it.
    #[command(after_help = "Examples:\n  \
        fleetward gateway command cancel CMD-019abf2c3d4e5f60 --reason 'wrong group'")]
    Cancel {
        #[arg(value_parser = command)]
        command: CommandId,
        /// Why; it stands in the log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub struct Send {
    /// A to-device channel of the fleet.
    #[arg(long)]
    channel: String,
    /// What stands at {any} or {rest...} in the channel's topic; once for each, in order.
    #[arg(long = "level", value_name = "TEXT")]
    levels: Vec<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    payload: Payload,
    /// Seconds in which a device must come to get it, up to 30 days.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600,
        value_parser = clap::value_parser!(u64).range(1..=2_592_000))]
    expires_in: u64,
    /// Asked again under the same key it is the same command.
    #[arg(long)]
    key: Option<String>,
    /// Say whom it would reach and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Stay until each device has acknowledged it or will not; fails if one will not.
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// A device; may be said several times.
    #[arg(long = "device", value_name = "DEVICE")]
    devices: Vec<DeviceId>,
    /// All devices of a group, and of the groups in it.
    #[arg(long)]
    group: Option<GroupId>,
    /// All devices of a product.
    #[arg(long)]
    product: Option<ProductId>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Payload {
    /// The payload as text. Others on this machine can see it: take a file for what is secret.
    #[arg(long, value_name = "TEXT")]
    payload: Option<String>,
    /// The payload from a file or a pipe.
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
}

const COMMAND: [Column; 16] = [
    ("command", "/id"),
    ("state", "/state"),
    ("waits as", "/proposal"),
    ("asked by", "/by"),
    ("decided by", "/decided_by"),
    ("channel", "/channel"),
    ("target", "/target"),
    ("expires", "/expires_at"),
    ("waiting", "/devices/waiting"),
    ("sent", "/devices/sent"),
    ("delivered", "/devices/delivered"),
    ("answered", "/devices/answered"),
    ("expired", "/devices/expired"),
    ("refused", "/devices/refused"),
    ("cancelled", "/devices/cancelled"),
    ("entry", "/entry"),
];

const LISTED: [Column; 9] = [
    ("command", "/id"),
    ("state", "/state"),
    ("by", "/by"),
    ("channel", "/channel"),
    ("target", "/target"),
    ("waiting", "/devices/waiting"),
    ("delivered", "/devices/delivered"),
    ("refused", "/devices/refused"),
    ("expires", "/expires_at"),
];

const DEVICES: [Column; 6] = [
    ("device", "/device"),
    ("state", "/state"),
    ("reason", "/reason"),
    ("must act", "/who_must_act"),
    ("topic", "/topic"),
    ("changed", "/changed_at"),
];

const PREVIEW: [Column; 6] = [
    ("channel", "/channel"),
    ("target", "/target"),
    ("would reach", "/reached"),
    ("would not", "/refused"),
    ("a minute without a second person", "/fan_out_per_minute"),
    ("waits for a second person", "/needs_approval"),
];

impl CommandVerb {
    /// # Errors
    /// The plane, or nobody said yes; with `--wait` that a device did not get it.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Send(send) => send.run(output),
            Self::List {
                after,
                limit,
                place,
            } => {
                let after = after.map(|id| format!("&after={id}")).unwrap_or_default();
                let path = format!("{COMMANDS}?limit={limit}{after}");
                let found = place.client()?.json(Ask::get(&path))?;
                if output == Output::Json {
                    return show::value(&found);
                }
                match found.pointer("/commands") {
                    Some(rows) if rows.as_array().is_some_and(|rows| !rows.is_empty()) => {
                        show::rows(output, rows, &LISTED)?;
                        more(&found)
                    }
                    _ => {
                        show::line("No command. `fleetward gateway command send --help` shows how.")
                    }
                }
            }
            Self::Show {
                command,
                state,
                after,
                limit,
                place,
            } => {
                let mut path = format!("{COMMANDS}/{command}?limit={limit}");
                if let Some(state) = state {
                    path.push_str(&format!("&state={state}"));
                }
                if let Some(after) = after {
                    path.push_str(&format!("&after={}", query(after.as_str())));
                }
                let found = place.client()?.json(Ask::get(&path))?;
                shown(output, &found)
            }
            Self::Cancel {
                command,
                reason,
                place,
            } => {
                let path = format!("{COMMANDS}/{command}/cancel");
                let ask = Ask::post(&path).json(&json!({ "reason": reason }));
                let done = place.client()?.json(ask)?;
                let columns = [
                    ("command", "/command/id"),
                    ("state", "/command/state"),
                    ("devices spared", "/spared"),
                    ("entry", "/command/entry"),
                ];
                show::fields(output, &done, &columns)
            }
        }
    }
}

impl Send {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let body = self.body()?;
        let mut client = self.place.client()?;
        let is_one = self.target.devices.len() == 1;
        if self.dry_run || (!is_one && !self.yes) {
            let path = format!("{COMMANDS}?dry_run=true");
            let preview = client.json(Ask::post(&path).json(&body))?;
            if self.dry_run && output == Output::Json {
                return show::value(&preview);
            }
            if self.dry_run || std::io::stdin().is_terminal() {
                show::fields(Output::Table, &preview, &PREVIEW)?;
            }
            if self.dry_run {
                show::line("")?;
                let none = Value::Array(Vec::new());
                let devices = preview.pointer("/devices").unwrap_or(&none);
                return show::rows(output, devices, &DEVICES);
            }
            if !std::io::stdin().is_terminal() {
                bail!("nothing was sent: there is no terminal to ask on; say --yes");
            }
            if !ask::yes("Tell them?")? {
                bail!("nothing was sent");
            }
        }
        let mut done = client.json(Ask::post(COMMANDS).json(&body))?;
        if self.wait && done.pointer("/state").and_then(Value::as_str) == Some("open") {
            let id = done
                .pointer("/id")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let patience = Duration::from_secs(self.expires_in);
            done = wait(&mut client, id, patience)?;
        }
        show::fields(output, &done, &COMMAND)?;
        if done.pointer("/state").and_then(Value::as_str) == Some("held") {
            eprintln!(
                "it waits for another person: fleetward access proposal show {}",
                escaped(
                    done.pointer("/proposal")
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                )
            );
        }
        if !self.wait {
            return Ok(());
        }
        let (reached, all) = (
            count(&done, &["delivered", "answered"]),
            count(&done, &STATES),
        );
        if reached < all {
            bail!(
                "{} of {all} device(s) did not acknowledge it",
                all - reached
            );
        }
        Ok(())
    }

    fn body(&self) -> anyhow::Result<Value> {
        let payload = match (&self.payload.payload, &self.payload.payload_file) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(file)) => files::read(file, PAYLOAD_BYTES_MAX)?,
            (None, None) => Vec::new(),
        };
        let mut body = json!({
            "channel": self.channel,
            "levels": self.levels,
            "payload_base64": STANDARD.encode(payload),
            "expires_in_seconds": self.expires_in,
        });
        let names: Vec<&str> = self.target.devices.iter().map(DeviceId::as_str).collect();
        let target = match (&self.target.group, &self.target.product) {
            (Some(group), _) => ("group", json!(group.as_str())),
            (_, Some(product)) => ("product", json!(product.as_str())),
            _ => ("devices", json!(names)),
        };
        if let Some(fields) = body.as_object_mut() {
            fields.insert(target.0.to_owned(), target.1);
            if let Some(key) = &self.key {
                fields.insert("idempotency_key".to_owned(), json!(key));
            }
        }
        Ok(body)
    }
}

const STATES: [&str; 7] = [
    "waiting",
    "sent",
    "delivered",
    "answered",
    "expired",
    "refused",
    "cancelled",
];

fn count(command: &Value, states: &[&str]) -> u64 {
    let of = |state: &&str| command.pointer(&format!("/devices/{state}"))?.as_u64();
    states.iter().filter_map(of).sum()
}

/// Until nothing of it waits or is under way, or its time is over: what was sent and not acknowledged
/// stays so.
fn wait(client: &mut Client, id: &str, patience: Duration) -> anyhow::Result<Value> {
    let begun = Instant::now();
    let path = format!("{COMMANDS}/{id}?limit=1");
    let bar = ProgressBar::hidden();
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} acknowledged {msg}")?;
    if std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
    }
    bar.set_style(style);
    loop {
        let found = client.json(Ask::get(&path))?;
        let command = found.pointer("/command").cloned().unwrap_or_default();
        bar.set_length(count(&command, &STATES));
        bar.set_position(count(&command, &["delivered", "answered"]));
        let left = count(&command, &["waiting", "sent"]);
        let is_over = begun.elapsed() > patience && count(&command, &["waiting"]) == 0;
        if left == 0 || is_over {
            bar.finish_and_clear();
            return Ok(command);
        }
        bar.set_message(format!("{left} to go"));
        std::thread::sleep(LOOK_EVERY);
    }
}

fn shown(output: Output, found: &Value) -> anyhow::Result<()> {
    if output == Output::Json {
        return show::value(found);
    }
    show::fields(output, found.pointer("/command").unwrap_or(found), &COMMAND)?;
    if let Some(devices) = found.pointer("/devices") {
        show::line("")?;
        show::rows(output, devices, &DEVICES)?;
    }
    more(found)
}

fn more(found: &Value) -> anyhow::Result<()> {
    match found.pointer("/next").and_then(Value::as_str) {
        Some(next) => show::line(&format!("\nmore: --after {}", escaped(next))),
        None => Ok(()),
    }
}

fn command(text: &str) -> Result<CommandId, String> {
    CommandId::from_text(text)
        .ok_or_else(|| "a command is written CMD- and 16 hex digits".to_owned())
}
