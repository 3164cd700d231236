//! `cargo xtask demo`: builds the product and runs its own demonstration.

use crate::steps::{cargo, succeed};
use crate::tools;
use std::path::Path;
use std::process::Command;

#[derive(clap::Args)]
pub struct Arguments {
    /// Build without optimisation: faster to build, slower to run
    #[arg(long)]
    debug: bool,
    /// Handed to `fleetward demo` as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// # Errors
/// If it does not build, or the demonstration did not show what it promises.
pub fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    tools::ensure(root, &[tools::GCC])?;
    let mut build = vec!["build", "--locked", "-p", "fleetward"];
    if !arguments.debug {
        build.push("--release");
    }
    cargo(root, &build)?;
    let profile = if arguments.debug { "debug" } else { "release" };
    // In the caller's folder: a report's path is relative to where the person stands.
    succeed(
        Command::new(crate::built(root, profile, "fleetward"))
            .arg("demo")
            .args(&arguments.arguments),
    )
}
