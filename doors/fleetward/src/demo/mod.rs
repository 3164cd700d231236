//! `fleetward demo`: the product as a person meets it. A plane, twelve devices with real agents,
//! an intruder with a real key; what is seen, what is done, and which promises held.
//!
//! Everybody is a process of its own, and everything is torn down with the demo, by the kernel if
//! need be. `stage` is where they stand, `cast` who they are, `story` what happens, `telling` what
//! a person reads of it, `report` what a machine does.

mod cast;
mod console;
mod fleet;
mod observer;
mod process;
mod report;
mod simulated;
mod stage;
mod stand_in;
mod story;
mod telling;
mod watch;

use anyhow::Context;
use clap::{Args, Subcommand};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub struct Demo {
    /// No interaction: run to the end, say what happened, exit 0 only if every promise held.
    #[arg(long)]
    headless: bool,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Open the console in a browser.
    #[arg(long, conflicts_with_all = ["headless", "simulated"])]
    open: bool,
    /// Processes side by side, even where each device could have a network of its own.
    #[arg(long, conflicts_with = "simulated")]
    without_namespaces: bool,
    /// Simulated devices in one process instead of agents: many, one revoked, the plane killed.
    #[arg(long)]
    simulated: bool,
    /// Simulated devices.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=1000),
        requires = "simulated")]
    devices: u32,
    /// Decides what is left to chance: serial numbers, the order of events, who is attacked.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The incident must be open within so many seconds of the start; more on a slow machine.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 45,
        conflicts_with = "simulated"
    )]
    incident_within: u32,
    /// Keep the scratch folder and say where it is.
    #[arg(long)]
    keep: bool,
}

impl Demo {
    /// Runs the story; the exit status says whether every promise held.
    ///
    /// # Errors
    /// The demo itself could not go on.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        if self.simulated {
            simulated::run(self)
        } else {
            story::run(self)
        }
    }
}

/// What the demo's processes become. Not for people.
#[derive(Debug, Subcommand)]
pub enum Part {
    StandIn(stand_in::StandIn),
    TryStage,
    Knock { at: SocketAddr },
    Observer { plan: PathBuf },
    Intruder { plan: PathBuf, account: PathBuf },
}

impl Part {
    /// # Errors
    /// Whatever the part could not do.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::StandIn(stand_in) => stand_in.run()?,
            Self::TryStage => stage::try_here()?,
            Self::Knock { at } => sim::outside::knock(*at)?,
            Self::Observer { plan } => observer::run(plan)?,
            Self::Intruder { plan, account } => intrude(plan, account)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn intrude(plan: &Path, account: &Path) -> anyhow::Result<()> {
    let text = std::fs::read(plan).with_context(|| plan.display().to_string())?;
    let plan = serde_json::from_slice(&text)?;
    let mut account = std::fs::File::create(account)?;
    Ok(sim::intruder::run(&plan, &mut account)?)
}

fn say(line: &str) {
    // A closed terminal ends the telling, not the demo.
    let _ = writeln!(std::io::stderr(), "demo: {line}");
}
