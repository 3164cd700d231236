//! `fleetward response …`: what is worked on, who is cut off, what is planned.

use crate::ask;
use crate::client::{Ask, Client};
use crate::place::Place;
use crate::show::{self, Column, Output, escaped};
use anyhow::bail;
use clap::{Args, Subcommand};
use model::{Containment, DeviceId, IncidentId};
use serde_json::{Value, json};
use std::io::IsTerminal;

#[derive(Debug, Subcommand)]
pub enum ResponseVerb {
    /// List incidents, the newest first.
    #[command(after_help = "Examples:\n  fleetward response incidents\n  \
        fleetward response incidents --state closed --output json")]
    Incidents {
        /// Only these; `open` includes contained ones.
        #[arg(long, value_parser = ["open", "contained", "closed"])]
        state: Option<String>,
        /// Begin after this one.
        #[arg(long, value_name = "INCIDENT", value_parser = incident)]
        after: Option<IncidentId>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Show one incident: its timeline, who saw what, and what its device can reach.
    #[command(after_help = "Examples:\n  fleetward response show INC-7\n  \
        fleetward response show INC-7 --output json")]
    Show {
        #[arg(value_parser = incident)]
        incident: IncidentId,
        #[command(flatten)]
        place: Place,
    },
    /// Cut a device off: at every door and on every session when this returns.
    #[command(after_help = "Examples:\n  \
        fleetward response contain cam-1 --reason 'talks to a foreign host'\n  \
        fleetward response contain cam-1 --isolate --reason 'taken over' --yes\n  \
        fleetward response contain cam-1 --dry-run\n\n\
        Quarantined, it talks to this plane only and may renew its certificate; isolated, to \
        nothing. On a terminal it asks first; elsewhere it does not.")]
    Contain(Contain),
    /// Give a device back what it was cut off from.
    #[command(
        after_help = "Examples:\n  fleetward response restore cam-1 --dry-run\n  \
        fleetward response restore cam-1 --reason 'new firmware, looked at'\n\n\
        On a terminal it asks first; elsewhere say --yes."
    )]
    Restore(Restore),
    /// Close an incident. Its device stays cut off until it is restored.
    #[command(after_help = "Examples:\n  \
        fleetward response close INC-7 --reason 'test of the installer'")]
    Close {
        #[arg(value_parser = incident)]
        incident: IncidentId,
        /// What was found; it stands in the timeline.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        place: Place,
    },
    /// List devices that are cut off.
    #[command(after_help = "Examples:\n  fleetward response contained")]
    Contained {
        #[command(flatten)]
        place: Place,
    },
    /// List planned responses: what starts them, what they do, how much of their cap is used.
    #[command(after_help = "Examples:\n  fleetward response playbooks\n  \
        fleetward response playbooks --output json")]
    Playbooks {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub struct Contain {
    device: DeviceId,
    /// From this plane too.
    #[arg(long)]
    isolate: bool,
    /// Why; it stands in the log.
    #[arg(long, required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Say what it would take away and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub struct Restore {
    device: DeviceId,
    /// Why; it stands in the log.
    #[arg(long, required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Say what it would give back and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

const INCIDENTS: [Column; 7] = [
    ("incident", "/id"),
    ("title", "/title"),
    ("state", "/state"),
    ("severity", "/severity"),
    ("containment", "/containment"),
    ("opened", "/opened_at"),
    ("closed", "/closed_at"),
];

const INCIDENT: [Column; 12] = [
    ("incident", "/id"),
    ("title", "/title"),
    ("state", "/state"),
    ("severity", "/severity"),
    ("containment", "/containment"),
    ("revoked", "/revoked"),
    ("opened", "/opened_at"),
    ("closed", "/closed_at"),
    ("free, it reaches", "/before/channels"),
    ("and outside", "/before/destinations"),
    ("now it reaches", "/after/channels"),
    ("and outside now", "/after/destinations"),
];

const STEPS: [Column; 9] = [
    ("at", "/at"),
    ("actor", "/actor"),
    ("what", "/what"),
    ("expected", "/expected"),
    ("seen", "/seen"),
    ("by", "/observed_by"),
    ("source", "/source"),
    ("attribution", "/attribution"),
    ("entry", "/entry"),
];

const CONTAINED: [Column; 5] = [
    ("device", "/device"),
    ("containment", "/containment"),
    ("since", "/since"),
    ("incident", "/incident"),
    ("by", "/by"),
];

const PLAYBOOKS: [Column; 9] = [
    ("playbook", "/name"),
    ("mode", "/mode"),
    ("kinds", "/kinds"),
    ("of them", "/kinds_min"),
    ("from outside", "/outside_min"),
    ("steps", "/steps"),
    ("cap an hour", "/contain_max"),
    ("used", "/used_last_hour"),
    ("last run", "/last_run"),
];

impl ResponseVerb {
    /// # Errors
    /// The plane, or nobody said yes.
    pub fn run(&self, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Incidents {
                state,
                after,
                limit,
                place,
            } => {
                let mut path = format!("/api/v1/response/incidents?limit={limit}");
                if let Some(state) = state {
                    path.push_str(&format!("&state={state}"));
                }
                if let Some(after) = after {
                    path.push_str(&format!("&after={after}"));
                }
                let found = place.client()?.json(Ask::get(&path))?;
                let calm = "No incident.";
                list(output, &found, "/incidents", &INCIDENTS, calm)?;
                match found.pointer("/next").and_then(Value::as_str) {
                    Some(next) if output == Output::Table => {
                        show::line(&format!("\nmore: --after {}", escaped(next)))
                    }
                    _ => Ok(()),
                }
            }
            Self::Show { incident, place } => {
                let path = format!("/api/v1/response/incidents/{incident}");
                let found = place.client()?.json(Ask::get(&path))?;
                show::fields(output, &found, &INCIDENT)?;
                match found.pointer("/steps") {
                    Some(steps) if output == Output::Table => {
                        show::line("")?;
                        show::rows(output, steps, &STEPS)
                    }
                    _ => Ok(()),
                }
            }
            Self::Contain(contain) => contain.run(output),
            Self::Restore(restore) => restore.run(output),
            Self::Close {
                incident,
                reason,
                place,
            } => {
                let path = format!("/api/v1/response/incidents/{incident}/close");
                let ask = Ask::post(&path).json(&json!({ "reason": reason }));
                place.client()?.json(ask)?;
                let said = json!({ "incident": incident.to_string(), "state": "closed" });
                let columns = [("incident", "/incident"), ("state", "/state")];
                show::fields(output, &said, &columns)
            }
            Self::Contained { place } => {
                let found = place
                    .client()?
                    .json(Ask::get("/api/v1/response/containments"))?;
                let calm = "No device is cut off.";
                list(output, &found, "/containments", &CONTAINED, calm)
            }
            Self::Playbooks { place } => {
                let found = place
                    .client()?
                    .json(Ask::get("/api/v1/response/playbooks"))?;
                let calm = "No playbook: write one in fleet/playbooks/ and apply the fleet.";
                list(output, &found, "/playbooks", &PLAYBOOKS, calm)
            }
        }
    }
}

fn list(
    output: Output,
    answer: &Value,
    at: &str,
    columns: &[Column],
    empty: &str,
) -> anyhow::Result<()> {
    if output == Output::Json {
        return show::value(answer);
    }
    match answer.pointer(at) {
        Some(rows) if rows.as_array().is_some_and(|rows| !rows.is_empty()) => {
            show::rows(output, rows, columns)
        }
        _ => show::line(empty),
    }
}

impl Contain {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let containment = if self.isolate {
            Containment::Isolated
        } else {
            Containment::Quarantined
        };
        let mut client = self.place.client()?;
        let takes = self.ask(&mut client, containment, true)?;
        let columns = [
            ("containment", "/containment"),
            ("device is known", "/known"),
            ("takes away", "/takes_away/channels"),
            ("and outside", "/takes_away/destinations"),
        ];
        if self.dry_run {
            return show::fields(output, &takes, &columns);
        }
        if !self.yes && std::io::stdin().is_terminal() {
            show::fields(Output::Table, &takes, &columns)?;
            let device = escaped(self.device.as_str());
            if !ask::yes(&format!("Have {device} {}?", containment.name()))? {
                bail!("nothing was cut off");
            }
        }
        let done = self.ask(&mut client, containment, false)?;
        let columns = [
            ("containment", "/containment"),
            ("device is known", "/known"),
            ("sessions touched", "/sessions_touched"),
            ("in force after µs", "/in_force_after_micros"),
            ("recorded after µs", "/recorded_after_micros"),
            ("entry", "/entry"),
        ];
        show::fields(output, &done, &columns)
    }

    fn ask(
        &self,
        client: &mut Client,
        containment: Containment,
        dry_run: bool,
    ) -> anyhow::Result<Value> {
        let path = format!("/api/v1/response/containments?dry_run={dry_run}");
        let body = json!({
            "device": self.device.as_str(),
            "containment": containment.name(),
            "reason": self.reason.as_deref().unwrap_or("dry run"),
        });
        client.json(Ask::post(&path).json(&body))
    }
}

impl Restore {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let mut client = self.place.client()?;
        let gives = self.ask(&mut client, true)?;
        let columns = [
            ("device", "/device"),
            ("was", "/was"),
            ("gives back", "/gives_back/channels"),
            ("and outside", "/gives_back/destinations"),
        ];
        if self.dry_run {
            return show::fields(output, &gives, &columns);
        }
        if !self.yes {
            if !std::io::stdin().is_terminal() {
                bail!("nothing was given back: there is no terminal to ask on; say --yes");
            }
            show::fields(Output::Table, &gives, &columns)?;
            let device = escaped(self.device.as_str());
            if !ask::yes(&format!("Give this back to {device}?"))? {
                bail!("nothing was given back");
            }
        }
        let done = self.ask(&mut client, false)?;
        let columns = [
            ("device", "/device"),
            ("was", "/was"),
            ("gave back", "/gives_back/channels"),
            ("and outside", "/gives_back/destinations"),
            ("entry", "/entry"),
        ];
        show::fields(output, &done, &columns)
    }

    fn ask(&self, client: &mut Client, dry_run: bool) -> anyhow::Result<Value> {
        let path = format!(
            "/api/v1/response/containments/{}?dry_run={dry_run}",
            self.device
        );
        let body = json!({ "reason": self.reason.as_deref().unwrap_or("dry run") });
        client.json(Ask::delete(&path).json(&body))
    }
}

fn incident(text: &str) -> Result<IncidentId, String> {
    IncidentId::from_text(text).ok_or_else(|| "an incident is written INC-7".to_owned())
}
