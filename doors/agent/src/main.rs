//! `fleetward-agent`: the device's side.
//!
//! It makes the device's key, enrolls it, keeps one session to the plane, renews in time, reports
//! what it truly reads from the system, and obeys when the plane cuts the device off. One thread,
//! waiting in `poll`; a second one only where it is asked to be the device's resolver.
//!
//! `agent` is the loop that the rest hangs on. A device that lies is not this program's to
//! prevent: who controls the device controls its agent, so the plane believes what it sees from
//! outside.

mod agent;
mod backoff;
#[cfg(test)]
mod certifying;
mod clock;
mod config;
mod containment;
mod credential;
mod destinations;
mod est;
mod failure;
mod folder;
#[cfg(test)]
mod issuing;
mod keyring;
mod life;
#[cfg(test)]
mod neighbour;
mod netlink;
mod nft;
mod outbox;
mod random;
mod roots;
mod session;
mod signals;
mod status;
mod tls;
mod waiting;

use anyhow::Context;
use clap::{Parser, Subcommand};
use config::Config;
use std::path::PathBuf;
use std::process::ExitCode;

/// The device's side of Fleetward: enrolls, reports, renews, obeys.
#[derive(Parser)]
#[command(name = "fleetward-agent", version, propagate_version = true)]
struct Cli {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/fleetward-agent.toml"
    )]
    config: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Enroll if needed, and stay connected until SIGTERM
    Run,
    /// Enroll if needed, prove the certificate by one session, and end
    Enroll,
    /// Print what the running agent last noted of itself
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Read the signals and print the report that would be sent; nothing is sent
    Report {
        /// One report, and end; else one every `report_seconds`
        #[arg(long)]
        once: bool,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleetward-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let config = Config::read(&cli.config)?;
    match cli.verb {
        Verb::Run => agent::Agent::open(config)?.run(),
        Verb::Enroll => agent::Agent::open(config)?.enroll_only(),
        Verb::Report { once } => agent::print_reports(&config, once),
        Verb::Status { json } => {
            let folder = folder::Folder::look(&config.state_dir);
            let status = status::Status::read(&folder)
                .context("the state folder cannot be read")?
                .with_context(|| {
                    format!("no agent has run in {} yet", config.state_dir.display())
                })?;
            if json {
                println!("{}", serde_json::to_string_pretty(&status)?);
            } else {
                print!("{}", status.table());
            }
            Ok(())
        }
    }
}
