//! `cargo xtask`: everything this repository does to itself, in one place.

mod bench;
mod check;
mod console;
mod demo;
mod soak;
mod steps;
mod tidy;
mod tools;

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Build, judge, measure and show this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything the CI runs: format, lints, tests, dependencies, the rules of the house
    Test,
    /// The rules of the house alone, each finding with its reason
    Tidy {
        /// Judge another checkout
        #[arg(long)]
        root: Option<PathBuf>,
    },
    /// Build the product and run its demonstration
    Demo(demo::Arguments),
    /// Build the console, which the plane embeds when it is built next
    Console(console::Arguments),
    /// Figures against a peer: a JSON line each, then a table
    Bench(bench::Arguments),
    /// Long fuzzing and hundreds of crashes
    Soak(soak::Arguments),
}

fn main() -> ExitCode {
    let root = root_of_repository();
    let result = match Arguments::parse().command {
        Command::Test => check::run(&root),
        Command::Tidy { root: other } => tidy_command(&other.unwrap_or(root)),
        Command::Demo(arguments) => demo::run(&root, &arguments).map(|()| true),
        Command::Console(arguments) => console::run(&root, &arguments).map(|()| true),
        Command::Bench(arguments) => bench::run(&root, &arguments).map(|()| true),
        Command::Soak(arguments) => soak::run(&root, &arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where cargo builds: its own folder, or the one that the environment names.
pub(crate) fn built(root: &std::path::Path, profile: &str, program: &str) -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), std::path::PathBuf::from)
        .join(profile)
        .join(program)
}

/// The folder above xtask/, wherever the command was called from.
pub fn root_of_repository() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.clone(), Into::into)
}

/// `true` if the rules of the house hold.
///
/// # Errors
/// If the tree cannot be read.
pub fn tidy_command(root: &Path) -> anyhow::Result<bool> {
    let findings = tidy::check(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy: the rules of the house hold"),
        count => println!("tidy: {count} findings"),
    }
    Ok(findings.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_parse_as_the_manual_writes_them() {
        for line in [
            "xtask test",
            "xtask tidy",
            "xtask demo --headless --report r.json",
            "xtask demo --debug --headless",
            "xtask console",
            "xtask console --test --pictures",
            "xtask bench handshake gateway revoke",
            "xtask bench --pairs 9 gateway",
            "xtask soak --seconds 60 --only packets",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        let Command::Demo(demo) =
            Arguments::parse_from(["xtask", "demo", "--headless", "--report", "r"]).command
        else {
            panic!("not a demo");
        };
        assert_eq!(demo.arguments, ["--headless", "--report", "r"]);
    }
}
