//! The one binary: serves a plane, operates it, and verifies its log without it.
//!
//! **In:** arguments, files, the plane's answers. **Out:** tables or JSON on standard output, one
//! line for each refusal on standard error, an exit status.
//! **Refuses to know:** any decision. It asks the plane, or a room that needs no plane.
//!
//! Exit status: 0 done; 1 refused or failed; 2 the command line is not understood.
//! `docs/cli.md` shows each verb with its output.

mod access;
mod ask;
mod audit;
mod authorities;
mod client;
mod command;
mod demo;
mod detection;
mod files;
mod gateway;
mod identity;
mod inventory;
mod pending;
mod people;
mod place;
mod request;
mod response;
mod revocation;
mod root;
mod root_list;
mod serve;
mod served;
mod show;
mod status;
mod tpm;
mod twin;
mod watch;

use clap::{Parser, Subcommand};
use show::Output;
use std::process::ExitCode;

/// A tenth of the CPU of a certificate was the C library's allocator (docs/performance.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The security plane of a connected product.
#[derive(Debug, Parser)]
#[command(
    name = "fleetward",
    version,
    max_term_width = 100,
    after_help = "Exit status: 0 done; 1 refused or failed (one line on standard error says who must \
        act); 2 the command line is not understood.\n\nExamples:\n  \
        fleetward serve --data ./plane\n  \
        fleetward status --data ./plane\n  \
        fleetward apply examples/fleet --data ./plane\n  \
        fleetward audit verify evidence.json --key fleet.vkey"
)]
struct CommandLine {
    /// How to print.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a plane. An empty data folder is filled: keys, certificates, log.
    #[command(
        after_help = "SIGTERM and SIGINT drain it. FLEETWARD_LOG filters what it says (default \
        info).\n\nExamples:\n  fleetward serve --data ./plane\n  \
        FLEETWARD_LOG=info,devices=debug fleetward serve --config /etc/fleetward.toml"
    )]
    Serve(serve::Serve),
    /// How a plane is configured.
    #[command(subcommand)]
    Config(serve::ConfigVerb),
    /// Show what applying a fleet folder would change; change nothing.
    #[command(
        after_help = "Examples:\n  fleetward plan\n  fleetward plan examples/fleet --output json"
    )]
    Plan(access::Plan),
    /// Put a fleet folder in force: show the plan, ask, apply it whole.
    #[command(after_help = "Examples:\n  fleetward apply\n  fleetward apply examples/fleet --yes")]
    Apply(access::Apply),
    /// Who may reach what.
    #[command(subcommand)]
    Access(access::AccessVerb),
    /// Who is who: manufacturers, devices, services, certificates.
    #[command(subcommand)]
    Identity(identity::IdentityVerb),
    /// What is out there: devices, where they are, whom they talk to; lists in and out.
    #[command(subcommand)]
    Inventory(inventory::InventoryVerb),
    /// Who is connected.
    #[command(subcommand)]
    Gateway(gateway::GatewayVerb),
    /// What behaves otherwise than expected.
    #[command(subcommand)]
    Detection(detection::DetectionVerb),
    /// What is worked on, who is cut off, what is planned.
    #[command(subcommand)]
    Response(response::ResponseVerb),
    /// What happened, and the proof of it.
    #[command(subcommand)]
    Audit(audit::AuditVerb),
    /// Run a plane, twelve devices and an intruder from nothing, and say which promises held.
    #[command(
        after_help = "Exit status: 0 every promise held; 1 one was broken.\n\nExamples:\n  \
        fleetward demo\n  fleetward demo --headless --report report.json\n  \
        fleetward demo --simulated --devices 500 --seed 7 --keep"
    )]
    Demo(demo::Demo),
    /// What the demo's own processes become.
    #[command(subcommand, hide = true)]
    DemoPart(demo::Part),
    /// Say whether the plane is ready, why not, and what it holds.
    #[command(
        after_help = "Exit status: 0 ready; 1 not ready.\n\nExamples:\n  fleetward status\n  \
        fleetward status --data ./plane --output json"
    )]
    Status(status::Status),
}

fn main() -> ExitCode {
    let CommandLine { output, verb } = CommandLine::parse();
    match run(&verb, output) {
        Ok(code) => code,
        // Whoever reads our output has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(refused) = error.downcast_ref::<client::Refused>() {
                refused
                    .errors
                    .iter()
                    .for_each(|line| eprintln!("{}", show::escaped(line)));
            }
            eprintln!("{}", said(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &Verb, output: Output) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Serve(serve) => serve.run()?,
        Verb::Config(verb) => verb.run(output)?,
        Verb::Plan(plan) => plan.run(output)?,
        Verb::Apply(apply) => apply.run(output)?,
        Verb::Access(verb) => return verb.run(output),
        Verb::Identity(verb) => verb.run(output)?,
        Verb::Inventory(verb) => verb.run(output)?,
        Verb::Gateway(verb) => verb.run(output)?,
        Verb::Detection(verb) => verb.run(output)?,
        Verb::Response(verb) => verb.run(output)?,
        Verb::Audit(verb) => return verb.run(output),
        Verb::Demo(demo) => return demo.run(),
        Verb::DemoPart(part) => return part.run(),
        Verb::Status(status) => return status.run(output),
    }
    Ok(ExitCode::SUCCESS)
}

/// An error as one line that no terminal obeys, from what happened down to its cause.
fn said(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = one_line(&cause.to_string());
        // An error that is transparent to its cause would say everything twice.
        if parts.last().is_none_or(|last| !last.ends_with(&text)) {
            parts.push(text);
        }
    }
    format!("fleetward: {}", show::escaped(&parts.join(": ")))
}

/// Joins lines, without the drawings of source that a TOML error has between them.
fn one_line(text: &str) -> String {
    let drawn = |line: &&str| {
        let rest = line
            .trim_start()
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start();
        !rest.starts_with('|')
    };
    let lines: Vec<_> = text
        .lines()
        .filter(drawn)
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    lines.join(": ")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn an_error_is_one_line_from_effect_to_cause() {
        let error = anyhow!("no space\u{1b}[2J\nleft").context("state cannot be written");
        assert_eq!(
            said(&error),
            r"fleetward: state cannot be written: no space\u{1b}[2J: left"
        );
    }

    #[test]
    fn a_drawing_of_the_source_is_left_out() {
        let toml = "TOML parse error at line 1, column 1\n  |\n1 | colour = 1\n  | ^^^^^^\n\
                    unknown field `colour`\n";
        assert_eq!(
            one_line(toml),
            "TOML parse error at line 1, column 1: unknown field `colour`"
        );
    }
}
