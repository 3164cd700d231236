//! `cargo xtask soak`: what takes too long for every change: fuzzing, and hundreds of crashes.

use crate::steps::{Outcome, Steps, cargo_command, counted_tests, succeed};
use crate::tools;
use anyhow::{Context, bail, ensure};
use std::path::Path;

/// Read by the seeded tests; without it they run a few seeds.
const SEEDS: (&str, &str) = ("FLEETWARD_SOAK_SEEDS", "200");
/// How many harmless edits of policies the prover of invariants must let pass.
const EDITS: (&str, &str) = ("FLEETWARD_SOAK_EDITS", "1000");
/// What the names of the seeded crash tests hold.
const CRASH_TESTS: &str = "crash";

#[derive(clap::Args)]
pub struct Arguments {
    /// How long each fuzz target runs
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Only these fuzz targets, and no crash tests
    #[arg(long)]
    only: Vec<String>,
}

/// `true` if nothing was found.
///
/// # Errors
/// If a tool is missing and may not be installed here.
pub fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<bool> {
    tools::ensure(root, &[tools::GXX, tools::CARGO_FUZZ])?;
    let targets = fuzz_targets(root)?;
    for wanted in &arguments.only {
        ensure!(
            targets.contains(wanted),
            "no fuzz target {wanted:?}; there are {}",
            targets.join(", ")
        );
    }
    let mut steps = Steps::default();
    for target in targets
        .iter()
        .filter(|target| arguments.only.is_empty() || arguments.only.contains(target))
    {
        steps.run(&format!("fuzz {target}"), || {
            // Without a sanitizer it builds on the stable compiler, and our code is safe Rust: a
            // finding is a panic, an overflow, a hang or memory without bound.
            let mut fuzz = tools::cargo_tool(root, tools::CARGO_FUZZ);
            fuzz.args(["run", target, "--sanitizer=none"]);
            // The first folder takes what is found; seeds are only read.
            let seeds = root.join("fuzz/seeds").join(target);
            if seeds.is_dir() {
                let corpus = root.join("fuzz/corpus").join(target);
                std::fs::create_dir_all(&corpus)?;
                fuzz.args([&corpus, &seeds]);
            }
            succeed(fuzz.args([
                "--",
                &format!("-max_total_time={}", arguments.seconds),
                "-rss_limit_mb=1024",
                "-timeout=10",
            ]))?;
            Ok(Outcome::Passed)
        });
    }
    if arguments.only.is_empty() {
        steps.run("orders of the mailbox", || {
            let mut models = cargo_command(root);
            succeed(
                models
                    .args(["run", "--release", "--locked"])
                    .args(["--manifest-path", "loom/Cargo.toml"]),
            )?;
            Ok(Outcome::Passed)
        });
    }
    if arguments.only.is_empty() {
        steps.run("crash tests", || {
            let mut command = cargo_command(root);
            command
                .args(["test", "--workspace", "--locked", "--release", CRASH_TESTS])
                .env(SEEDS.0, SEEDS.1);
            let (succeeded, heard) = counted_tests(&mut command)?;
            if !succeeded {
                bail!(
                    "{} crash tests failed, or one did not build",
                    heard.tests.failed
                );
            }
            ensure!(
                heard.tests.passed > 0,
                "no test ran: their names must hold {CRASH_TESTS:?}"
            );
            Ok(Outcome::Passed)
        });
    }
    if arguments.only.is_empty() {
        steps.run("invariants by a solver", || {
            tools::ensure(root, &[tools::CVC5])?;
            let mut oracle = cargo_command(root);
            succeed(
                oracle
                    .args(["run", "--release", "--locked"])
                    .args(["--manifest-path", "symcc/Cargo.toml"]),
            )?;
            Ok(Outcome::Passed)
        });
    }
    if arguments.only.is_empty() {
        steps.run("edits of policies", || {
            let mut command = cargo_command(root);
            command
                .args([
                    "test",
                    "--locked",
                    "--release",
                    "-p",
                    "access",
                    "invariants",
                ])
                .env(EDITS.0, EDITS.1);
            let (succeeded, heard) = counted_tests(&mut command)?;
            ensure!(succeeded && heard.tests.passed > 0, "an edit was misjudged");
            Ok(Outcome::Passed)
        });
    }
    println!("\n{}", steps.summary());
    Ok(steps.failed() == 0)
}

fn fuzz_targets(root: &Path) -> anyhow::Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(&folder).context("there is no fuzz/fuzz_targets")? {
        let name = entry?.file_name();
        if let Some(target) = name.to_str().and_then(|name| name.strip_suffix(".rs")) {
            targets.push(target.to_owned());
        }
    }
    targets.sort();
    ensure!(!targets.is_empty(), "fuzz/fuzz_targets holds no target");
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_files_of_the_folder() {
        let root = tempfile::tempdir().unwrap();
        assert!(fuzz_targets(root.path()).is_err());
        let folder = root.path().join("fuzz/fuzz_targets");
        std::fs::create_dir_all(&folder).unwrap();
        assert!(fuzz_targets(root.path()).is_err());
        for name in ["packets.rs", "csr.rs", "notes.txt"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        assert_eq!(fuzz_targets(root.path()).unwrap(), ["csr", "packets"]);
    }
}
