//! `fleetward gateway …`: who is connected and how well, why somebody was denied, and what devices
//! are told.

use crate::client::Ask;
use crate::command::CommandVerb;
use crate::place::Place;
use crate::show::{self, Column, Output, escaped};
use crate::twin::TwinVerb;
use anyhow::Context;
use clap::{Args, Subcommand};
use model::{DeviceId, ServiceId};
use serde_json::Value;
use std::fmt;

#[derive(Debug, Subcommand)]
pub enum GatewayVerb {
    /// List MQTT sessions: live ones, and persistent ones that wait, with what goes through them.
    #[command(after_help = "Examples:\n  fleetward gateway sessions\n  \
        fleetward gateway sessions --limit 100 --after \"device/cam-1 cam-1\"\n  \
        fleetward gateway sessions --output json")]
    Sessions {
        /// Begin behind this row: its principal, a space, its client identifier.
        #[arg(long, value_name = "CURSOR")]
        after: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Say why somebody was denied: the last eight different refusals of each, the latest first.
    #[command(after_help = "Examples:\n  fleetward gateway refusals\n  \
        fleetward gateway refusals --device cam-1 --output json")]
    Refusals {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        place: Place,
    },
    /// Say how well connections hold: how often they ended, why the last one did, time offline.
    #[command(after_help = "Examples:\n  fleetward gateway connectivity\n  \
        fleetward gateway connectivity --output json")]
    Connectivity {
        /// Begin behind this principal: device/NAME or service/NAME.
        #[arg(long, value_name = "PRINCIPAL")]
        after: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Say what a device or service may say and hear now.
    #[command(after_help = "Examples:\n  fleetward gateway speech --device cam-1")]
    Speech {
        #[command(flatten)]
        whose: One,
        #[command(flatten)]
        place: Place,
    },
    /// Follow one device or service: connections, publishes (topic and size, no payload), refusals.
    #[command(after_help = "Examples:\n  fleetward gateway tail --device cam-1\n  \
        fleetward gateway tail --device cam-1 --output json | jq .reason")]
    Tail {
        #[command(flatten)]
        whose: One,
        /// End after so many rows.
        #[arg(long, value_name = "ROWS")]
        count: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
    /// Say how forwarding to another broker stands.
    #[command(after_help = "Examples:\n  fleetward gateway forward\n  \
        fleetward gateway forward --output json")]
    Forward {
        #[command(flatten)]
        place: Place,
    },
    /// What devices are told, and how far it came.
    #[command(subcommand)]
    Command(CommandVerb),
    /// What state devices should have, and what they say that they have.
    #[command(subcommand)]
    Twin(TwinVerb),
}

/// Of everybody, if neither is named.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Whose {
    #[arg(long)]
    device: Option<DeviceId>,
    #[arg(long)]
    service: Option<ServiceId>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct One {
    #[arg(long)]
    device: Option<DeviceId>,
    #[arg(long)]
    service: Option<ServiceId>,
}

const SESSIONS: [Column; 12] = [
    ("principal", "/principal"),
    ("client", "/client_id"),
    ("connected", "/connected"),
    ("opened", "/opened_at"),
    ("address", "/address"),
    ("mqtt", "/protocol"),
    ("tls", "/tls_group"),
    ("in/s", "/incoming/messages_per_second"),
    ("out/s", "/outgoing/messages_per_second"),
    ("subscriptions", "/subscriptions"),
    ("queued", "/queued_messages"),
    ("last end", "/connectivity/last_end"),
];

const REFUSALS: [Column; 8] = [
    ("principal", "/principal"),
    ("action", "/action"),
    ("target", "/target"),
    ("reason", "/reason"),
    ("decided by", "/decided_by"),
    ("field", "/field"),
    ("count", "/count"),
    ("last", "/last_at"),
];

const CONNECTIVITY: [Column; 7] = [
    ("principal", "/principal"),
    ("connected", "/connected"),
    ("connects", "/connects"),
    ("lost", "/lost"),
    ("last end", "/last_end"),
    ("at", "/last_end_at"),
    ("offline s", "/offline_seconds"),
];

const SPEECH: [Column; 8] = [
    ("channel", "/channel"),
    ("topic", "/topic"),
    ("publishes", "/publishes"),
    ("receives", "/receives"),
    ("of others", "/others"),
    ("bytes", "/payload_bytes_max"),
    ("a minute", "/rate_per_minute"),
    ("schema", "/schema"),
];

const FORWARD: [Column; 9] = [
    ("other broker", "/upstream"),
    ("state", "/state"),
    ("since", "/since"),
    ("failed last", "/trouble"),
    ("connected", "/connected"),
    ("sent up", "/up"),
    ("acknowledged", "/up_acknowledged"),
    ("taken from there", "/down"),
    ("refused", "/down_refused"),
];

impl GatewayVerb {
    /// # Errors
    /// The plane.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Sessions {
                after,
                limit,
                place,
            } => {
                let path = format!("/api/v1/gateway/sessions?limit={limit}{}", behind(after));
                let sessions = place.client()?.json(Ask::get(&path))?;
                let none = "Nobody is connected, and no stored session waits.";
                rows_or(output, &sessions, &SESSIONS, none)
            }
            Self::Forward { place } => {
                let found = place.client()?.json(Ask::get("/api/v1/gateway/forward"))?;
                show::fields(output, &found, &FORWARD)
            }
            Self::Refusals { whose, place } => {
                let path = format!(
                    "/api/v1/gateway/refusals?{}",
                    query(&whose.device, &whose.service)
                );
                let found = place.client()?.json(Ask::get(&path))?;
                let none = "Nothing was refused since the plane started.";
                rows_or(output, &found, &REFUSALS, none)
            }
            Self::Connectivity { after, place } => {
                let path = format!("/api/v1/gateway/connectivity?limit=10000{}", behind(after));
                let found = place.client()?.json(Ask::get(&path))?;
                let none = "Nobody has connected since the plane started.";
                rows_or(output, &found, &CONNECTIVITY, none)
            }
            Self::Speech { whose, place } => {
                let path = format!(
                    "/api/v1/gateway/speech?{}",
                    query(&whose.device, &whose.service)
                );
                let found = place.client()?.json(Ask::get(&path))?;
                let none =
                    "It may say and hear nothing: no policy permits it anything, or it is cut off.";
                rows_or(output, &found, &SPEECH, none)
            }
            Self::Tail {
                whose,
                count,
                place,
            } => tail(output, whose, *count, place),
            Self::Command(verb) => verb.run(output),
            Self::Twin(verb) => verb.run(output),
        }
    }
}

/// The rows, or for people what it means that there are none.
fn rows_or(output: Output, list: &Value, columns: &[Column], none: &str) -> anyhow::Result<()> {
    match list.as_array() {
        Some(rows) if rows.is_empty() && output == Output::Table => show::line(none),
        _ => show::rows(output, list, columns),
    }
}

/// Names need no escaping in a query.
fn query(device: &Option<DeviceId>, service: &Option<ServiceId>) -> String {
    match (device, service) {
        (Some(device), _) => format!("device={device}"),
        (_, Some(service)) => format!("service={service}"),
        _ => String::new(),
    }
}

/// A client identifier may hold anything.
fn behind(after: &Option<String>) -> String {
    let Some(after) = after else {
        return String::new();
    };
    let escaped = after.bytes().map(|byte| format!("%{byte:02x}"));
    format!("&after={}", escaped.collect::<String>())
}

fn tail(output: Output, whose: &One, count: Option<u64>, place: &Place) -> anyhow::Result<()> {
    let path = format!(
        "/api/v1/gateway/tail?{}",
        query(&whose.device, &whose.service)
    );
    let mut rows = 0;
    let shown = place.client()?.events(Ask::get(&path), |data| {
        let row: Value = serde_json::from_str(data).context("a row is not JSON")?;
        match output {
            Output::Json => show::line(data)?,
            Output::Table => show::line(&row_text(&row))?,
        }
        rows += 1;
        match count {
            Some(count) if rows >= count => Err(Done.into()),
            _ => Ok(()),
        }
    });
    match shown {
        Err(error) if error.is::<Done>() => Ok(()),
        other => other,
    }
}

/// As many rows were shown as were asked for.
#[derive(Debug)]
struct Done;

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("done")
    }
}

impl std::error::Error for Done {}

fn row_text(row: &Value) -> String {
    let text = |name| {
        row.pointer(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let missed = match row.pointer("/missed").and_then(Value::as_u64) {
        Some(missed) if missed > 0 => format!("({missed} rows were missed)\n"),
        _ => String::new(),
    };
    format!("{missed}{}  {}", text("/at"), escaped(text("/text")))
}
