//! `cargo xtask demo`: builds the product and runs its own demonstration.

use crate::console;
use crate::steps::{cargo, succeed};
use crate::tools;
use std::path::Path;
use std::process::Command;

#[derive(clap::Args)]
pub struct Arguments {
    /// Build without optimisation: faster to build, slower to run
    #[arg(long)]
    pub debug: bool,
    /// Handed to `fleetward demo` as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// # Errors
/// If it does not build, or the demonstration did not show what it promises.
pub fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    tools::ensure(root, &[tools::GCC])?;
    // With them each device gets a network of its own. Without them the demo goes on and says so.
    if let Err(missing) = tools::ensure(root, &[tools::IPROUTE2, tools::NFTABLES]) {
        println!("demo without namespaces: {missing}");
    }
    if tools::are_present(root, &console::BUILDS) {
        console::build(root)?;
    } else {
        println!("demo without the console: Node.js and npm are not here");
    }
    play(root, arguments)
}

/// Builds the programs and runs the demonstration, with the console as it was built last.
///
/// # Errors
/// As [`run`].
pub fn play(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let mut build = vec!["build", "--locked", "-p", "fleetward", "-p", "agent"];
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
