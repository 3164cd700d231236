//! `fleetward response …`: what is worked on, who is cut off, what is planned.

mod groups;

use crate::ask;
use crate::client::{Ask, Client};
use crate::place::Place;
use crate::show::{self, Column, Output, escaped};
use anyhow::bail;
use clap::{Args, Subcommand};
use model::{Containment, DeviceId, GroupContainmentId, GroupId, IncidentId, ProductId};
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
    /// Cut a device off, or a whole group or product: at every door and on every session when this
    /// returns.
    #[command(after_help = "Examples:\n  \
        fleetward response contain cam-1 --reason 'talks to a foreign host'\n  \
        fleetward response contain cam-1 --isolate --reason 'taken over' --yes\n  \
        fleetward response contain cam-1 --dry-run\n  \
        fleetward response contain --group east --dry-run\n  \
        fleetward response contain --product camera --reason 'worm in 1.2' --yes\n\n\
        Quarantined, it talks to this plane only and may renew its certificate; isolated, to \
        nothing. One device: on a terminal it asks first; elsewhere it does not. Many: it shows whom \
        it means, asks on a terminal and wants --yes elsewhere; above what playbooks may cut off in \
        an hour another person may have to approve.")]
    Contain(Contain),
    /// Give a device back what it was cut off from, or undo an act that cut many off.
    #[command(
        after_help = "Examples:\n  fleetward response restore cam-1 --dry-run\n  \
        fleetward response restore cam-1 --reason 'new firmware, looked at'\n  \
        fleetward response restore --group-containment g-0123456789abcdef --dry-run\n\n\
        On a terminal it asks first; elsewhere say --yes. Of an act that cut many off, those stay \
        cut off that are worked on by themselves or that another act means too."
    )]
    Restore(Restore),
    /// List acts that cut many devices off, the latest first.
    #[command(after_help = "Examples:\n  fleetward response group-containments\n  \
        fleetward response group-containments --standing --output json")]
    GroupContainments {
        /// Only those that were not undone.
        #[arg(long)]
        standing: bool,
        #[command(flatten)]
        place: Place,
    },
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
    #[arg(required_unless_present_any = ["group", "product"])]
    device: Option<DeviceId>,
    /// All of a group that the fleet declares, with those within it.
    #[arg(long, conflicts_with_all = ["device", "product"])]
    group: Option<GroupId>,
    /// All of a product.
    #[arg(long, conflicts_with = "device")]
    product: Option<ProductId>,
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
    #[arg(required_unless_present = "group_containment")]
    device: Option<DeviceId>,
    /// The act to undo, as `group-containments` lists it.
    #[arg(long, value_name = "ACT", conflicts_with = "device")]
    group_containment: Option<GroupContainmentId>,
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
            Self::GroupContainments { standing, place } => {
                let path = format!("/api/v1/response/group-containments?standing={standing}");
                let found = place.client()?.json(Ask::get(&path))?;
                let calm = "No act has cut many devices off.";
                list(output, &found, "/group_containments", &groups::LISTED, calm)
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
        let Some(device) = &self.device else {
            let act = groups::Containing {
                group: self.group.as_ref(),
                product: self.product.as_ref(),
                containment,
                reason: self.reason.as_deref(),
            };
            return act.run(output, &mut client, self.dry_run, self.yes);
        };
        let takes = self.ask(&mut client, device, containment, true)?;
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
            let device = escaped(device.as_str());
            if !ask::yes(&format!("Have {device} {}?", containment.name()))? {
                bail!("nothing was cut off");
            }
        }
        let done = self.ask(&mut client, device, containment, false)?;
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
        device: &DeviceId,
        containment: Containment,
        dry_run: bool,
    ) -> anyhow::Result<Value> {
        let path = format!("/api/v1/response/containments?dry_run={dry_run}");
        let body = json!({
            "device": device.as_str(),
            "containment": containment.name(),
            "reason": self.reason.as_deref().unwrap_or("dry run"),
        });
        client.json(Ask::post(&path).json(&body))
    }
}

impl Restore {
    fn run(&self, output: Output) -> anyhow::Result<()> {
        let mut client = self.place.client()?;
        let Some(device) = &self.device else {
            let Some(act) = &self.group_containment else {
                bail!("say which device, or which act to undo");
            };
            let reason = self.reason.as_deref();
            return groups::restore(output, &mut client, act, reason, self.dry_run, self.yes);
        };
        let gives = self.ask(&mut client, device, true)?;
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
            let device = escaped(device.as_str());
            if !ask::yes(&format!("Give this back to {device}?"))? {
                bail!("nothing was given back");
            }
        }
        let done = self.ask(&mut client, device, false)?;
        let columns = [
            ("device", "/device"),
            ("was", "/was"),
            ("gave back", "/gives_back/channels"),
            ("and outside", "/gives_back/destinations"),
            ("entry", "/entry"),
        ];
        show::fields(output, &done, &columns)
    }

    fn ask(&self, client: &mut Client, device: &DeviceId, dry_run: bool) -> anyhow::Result<Value> {
        let path = format!("/api/v1/response/containments/{device}?dry_run={dry_run}");
        let body = json!({ "reason": self.reason.as_deref().unwrap_or("dry run") });
        client.json(Ask::delete(&path).json(&body))
    }
}

fn incident(text: &str) -> Result<IncidentId, String> {
    IncidentId::from_text(text).ok_or_else(|| "an incident is written INC-7".to_owned())
}
